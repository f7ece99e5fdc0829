//! What upstream says about a contract's workspaces: names and organizations change, ids do not.

use std::collections::HashMap;
use std::sync::{Arc, RwLock};

use http::Method;
use policy::{ReasonCode, Refusal};
use proof::{Json, Numbers, Timestamp};

use crate::app::App;
use crate::live::LiveContract;
use crate::upstream::Duty;
use crate::watching::execution::honours_auto_apply;

/// How long an answer is believed, in seconds: a renamed workspace is seen after that.
const FRESH_SECONDS: i64 = 60;

/// Facts about one workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workspace {
    /// Its id.
    pub id: String,
    /// Its name, for now.
    pub name: String,
    /// The organization's name.
    pub organization: String,
    /// Applies without asking anybody, when left to itself.
    pub auto_apply: bool,
    /// Upstream lets a run's own `auto-apply` count all the same.
    pub honours_auto_apply: bool,
    /// `remote`, `agent` or `local`.
    pub execution_mode: String,
    /// Names of its tags.
    pub tags: Vec<String>,
    /// What a run plans that names no configuration version.
    pub configuration_version: Option<String>,
}

/// What was read lately.
#[derive(Debug, Default)]
pub struct Workspaces {
    known: RwLock<HashMap<String, (Timestamp, Arc<Workspace>)>>,
}

impl Workspaces {
    fn fresh(&self, id: &str, now: Timestamp) -> Option<Arc<Workspace>> {
        let known = self.known.read().expect("no panic while it is held");
        let (until, workspace) = known.get(id)?;
        (*until > now).then(|| Arc::clone(workspace))
    }
}

/// Facts about a workspace, at most `FRESH_SECONDS` old. `None` when upstream has none.
///
/// # Errors
/// An `UPSTREAM_…` code.
pub async fn workspace(app: &App, id: &str) -> Result<Option<Arc<Workspace>>, Refusal> {
    match app.workspaces.fresh(id, app.now()) {
        Some(workspace) => Ok(Some(workspace)),
        None => read(app, id).await,
    }
}

/// Reads a workspace now, whatever is known: before an apply.
///
/// # Errors
/// An `UPSTREAM_…` code.
pub async fn read(app: &App, id: &str) -> Result<Option<Arc<Workspace>>, Refusal> {
    let target = format!("/api/v2/workspaces/{id}");
    let answer = app
        .upstream
        .call(Duty::Reader, Method::GET, &target, None)
        .await;
    let answer = answer.map_err(|error| {
        tracing::warn!(%error, "a workspace could not be read");
        error.refusal()
    })?;
    if answer.status == http::StatusCode::NOT_FOUND {
        return Ok(None);
    }
    super::check_status(&answer)?;
    let parsed = proof::json::parse(&answer.body, Numbers::Any)
        .ok()
        .and_then(|json| parse(&json, honours_auto_apply(&answer.headers)));
    let workspace = Arc::new(parsed.ok_or(ReasonCode::UpstreamGarbage)?);
    if workspace.id != id {
        return Err(ReasonCode::UpstreamGarbage.into());
    }
    let until = app.now().plus_seconds(FRESH_SECONDS);
    let mut known = app
        .workspaces
        .known
        .write()
        .expect("no panic while it is held");
    known.insert(id.to_owned(), (until, Arc::clone(&workspace)));
    Ok(Some(workspace))
}

fn parse(json: &Json, honours_auto_apply: bool) -> Option<Workspace> {
    let data = json.get("data")?;
    let text = |path: &[&str]| data.at(path).and_then(Json::as_str).map(str::to_owned);
    Some(Workspace {
        id: text(&["id"])?,
        name: text(&["attributes", "name"])?,
        organization: text(&["relationships", "organization", "data", "id"])?,
        auto_apply: data
            .at(&["attributes", "auto-apply"])
            .and_then(Json::as_bool)?,
        honours_auto_apply,
        execution_mode: text(&["attributes", "execution-mode"])?,
        tags: data
            .at(&["attributes", "tag-names"])
            .and_then(Json::as_array)
            .unwrap_or_default()
            .iter()
            .filter_map(|tag| tag.as_str().map(str::to_owned))
            .collect(),
        configuration_version: text(&[
            "relationships",
            "current-configuration-version",
            "data",
            "id",
        ]),
    })
}

/// The contract's workspace with this name in this organization, if there is one. The contract
/// pins ids; a name only ever stands for one of them.
///
/// # Errors
/// An `UPSTREAM_…` code.
pub async fn by_name(
    app: &App,
    contract: &LiveContract,
    organization: &str,
    name: &str,
) -> Result<Option<Arc<Workspace>>, Refusal> {
    for id in &contract.contract.permissions.workspaces {
        if let Some(workspace) = workspace(app, id.as_str()).await?
            && workspace.organization == organization
            && workspace.name == name
        {
            return Ok(Some(workspace));
        }
    }
    Ok(None)
}

/// Whether one of the contract's workspaces belongs to this organization.
///
/// # Errors
/// An `UPSTREAM_…` code.
pub async fn owns_one(
    app: &App,
    contract: &LiveContract,
    organization: &str,
) -> Result<bool, Refusal> {
    for id in &contract.contract.permissions.workspaces {
        if let Some(workspace) = workspace(app, id.as_str()).await?
            && workspace.organization == organization
        {
            return Ok(true);
        }
    }
    Ok(false)
}
