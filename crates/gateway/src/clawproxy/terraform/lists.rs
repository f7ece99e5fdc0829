//! Lists of an organization: put together here from what the contract allows, with pages and
//! totals of their own, so that nothing is told of what else there is.

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use policy::terraform::answer::{page, page_range};
use policy::terraform::{Call, Query};
use policy::{ReasonCode, Refusal};
use proof::{Hash, Json, Numbers};

use super::super::authenticate::{Caller, unavailable};
use super::super::record::Facts;
use super::workspaces::{Workspace, workspace};
use super::{Asks, Done, TerraformCall, Work, check_status, facts_of, rewritten};
use crate::app::App;
use crate::upstream::{Answer, Duty, UpstreamError};

/// Most pages of upstream's run queue that are read: a thousand waiting runs.
const MAX_QUEUE_PAGES: u32 = 10;

/// Why there is no list.
enum Missing {
    Upstream(UpstreamError),
    Refused(Refusal, Box<Facts>),
}

impl From<Missing> for Done {
    fn from(missing: Missing) -> Self {
        match missing {
            Missing::Upstream(error) => Self::broken(&error),
            Missing::Refused(refusal, facts) => Self::refused(refusal, *facts),
        }
    }
}

/// A list in the making, with the bytes that it is made from.
#[derive(Default)]
struct Sources(Vec<Bytes>);

impl Sources {
    /// Reads one of upstream's documents.
    async fn read(&mut self, app: &App, target: &str) -> Result<Json, Missing> {
        let answer = app
            .upstream
            .call(Duty::Planner, Method::GET, target, None)
            .await
            .map_err(Missing::Upstream)?;
        if let Err(refusal) = check_status(&answer) {
            return Err(Missing::Refused(refusal, Box::new(facts_of(&answer))));
        }
        let json = proof::json::parse(&answer.body, Numbers::Any).map_err(|_| {
            Missing::Refused(
                ReasonCode::UpstreamGarbage.into(),
                Box::new(facts_of(&answer)),
            )
        })?;
        self.0.push(answer.body);
        Ok(json)
    }

    /// The client's page, reduced like any other answer; the record has the hash of what
    /// upstream sent.
    async fn done(self, app: &App, caller: &Caller, call: &TerraformCall, list: &Json) -> Done {
        let Work::Api { call: api, .. } = &call.work else {
            return Done::refused(ReasonCode::Internal.into(), Facts::answered(500, b""));
        };
        let answer = Answer {
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            body: list.to_document_order().into(),
        };
        let mut done = rewritten(app, caller, api, call, &answer).await;
        done.facts.response_hash = Hash::of_parts(self.0.iter().map(|body| &body[..]));
        done.facts.response_bytes = self.0.iter().map(|body| body.len() as u64).sum();
        done.facts.upstream_status = (!self.0.is_empty()).then_some(200);
        done
    }
}

fn asked(call: &TerraformCall) -> Query {
    match &call.work {
        Work::Api {
            asks: Asks::Page(query),
            ..
        } => query.clone(),
        _ => Query::default(),
    }
}

/// The contract's workspaces in an organization, by name.
pub(super) async fn workspaces(app: &App, caller: &Caller, call: TerraformCall) -> Done {
    let query = asked(&call);
    match contract_workspaces(app, caller, &call, &query).await {
        Ok((sources, list)) => sources.done(app, caller, &call, &list).await,
        Err(missing) => missing.into(),
    }
}

async fn contract_workspaces(
    app: &App,
    caller: &Caller,
    call: &TerraformCall,
    query: &Query,
) -> Result<(Sources, Json), Missing> {
    let refused = |refusal| Missing::Refused(refusal, Box::new(Facts::answered(500, b"")));
    let Work::Api {
        call: Call::ListWorkspaces { organization },
        ..
    } = &call.work
    else {
        return Err(refused(ReasonCode::Internal.into()));
    };
    let mut found = Vec::new();
    for id in &caller.contract().contract.permissions.workspaces {
        let known = workspace(app, id.as_str()).await.map_err(refused)?;
        found.extend(known.filter(|workspace| {
            workspace.organization == organization.as_str() && fits(workspace, query)
        }));
    }
    found.sort_by(|one, other| one.name.cmp(&other.name));
    let mut sources = Sources::default();
    let mut elements = Vec::new();
    for workspace in &found[page_range(query, found.len())] {
        let target = format!("/api/v2/workspaces/{}", workspace.id);
        let mut document = sources.read(app, &target).await?;
        elements.extend(document.remove("data"));
    }
    let list = page(query, elements, found.len());
    Ok((sources, list))
}

fn fits(workspace: &Workspace, query: &Query) -> bool {
    let name = query
        .search_name
        .as_ref()
        .is_none_or(|part| workspace.name.contains(part.as_str()));
    name && query
        .search_tags
        .iter()
        .all(|tag| workspace.tags.contains(tag))
}

/// The runs of the contract's workspaces that wait in an organization's queue.
pub(super) async fn queue(app: &App, caller: &Caller, call: TerraformCall) -> Done {
    let query = asked(&call);
    match waiting_runs(app, caller, &call).await {
        Ok((sources, mut runs)) => {
            let total = runs.len();
            let shown = runs.drain(page_range(&query, total)).collect();
            sources
                .done(app, caller, &call, &page(&query, shown, total))
                .await
        }
        Err(missing) => missing.into(),
    }
}

async fn waiting_runs(
    app: &App,
    caller: &Caller,
    call: &TerraformCall,
) -> Result<(Sources, Vec<Json>), Missing> {
    let Work::Api { call: api, .. } = &call.work else {
        let refusal = ReasonCode::Internal.into();
        return Err(Missing::Refused(
            refusal,
            Box::new(Facts::answered(500, b"")),
        ));
    };
    let contract = &caller.contract().compiled;
    let mut sources = Sources::default();
    let mut runs = Vec::new();
    for number in 1..=MAX_QUEUE_PAGES {
        let target = format!(
            "{}?page%5Bnumber%5D={number}&page%5Bsize%5D=100",
            api.path()
        );
        let document = sources.read(app, &target).await?;
        let listed = document.get("data").and_then(Json::as_array);
        let ours = listed.unwrap_or_default().iter().filter(|run| {
            run.at(&["relationships", "workspace", "data", "id"])
                .and_then(Json::as_str)
                .is_some_and(|workspace| contract.has_workspace(workspace))
        });
        runs.extend(ours.cloned());
        let next = document.at(&["meta", "pagination", "next-page"]);
        if !matches!(next, Some(Json::Integer(_))) {
            break;
        }
    }
    Ok((sources, runs))
}

/// Takes the run that a workspace is at out of an answer when it is not the job's own: it could
/// not be read, and a client that waits for its turn reads it and gives up. Without one, it
/// counts the runs before its own in the list.
pub(super) async fn hide_runs_of_others(
    app: &App,
    caller: &Caller,
    answer: &mut Json,
) -> Result<(), Refusal> {
    for name in ["data", "included"] {
        let resources = match answer.at_mut(&[name]) {
            Some(Json::Array(resources)) => resources.as_mut_slice(),
            Some(one) => std::slice::from_mut(one),
            None => continue,
        };
        for resource in resources {
            let of_workspace = resource.get("type").and_then(Json::as_str) == Some("workspaces");
            let Some(relation) = resource
                .at_mut(&["relationships", "current-run"])
                .filter(|_| of_workspace)
            else {
                continue;
            };
            let Some(run_id) = relation.at(&["data", "id"]).and_then(Json::as_str) else {
                continue;
            };
            let run = app.store.run(run_id).await.map_err(unavailable)?;
            if run.is_none_or(|run| run.job_id != caller.token.job.id) {
                relation.set("data", Json::Null);
            }
        }
    }
    Ok(())
}
