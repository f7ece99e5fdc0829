//! What Terraform Cloud says when it calls a run task, read before anything is believed.

use policy::terraform::ids::{ConfigurationVersionId, RunId, TaskResultId, WorkspaceId};
use policy::{ReasonCode, Refusal};
use serde::Deserialize;
use store::TaskStage;

use crate::secret::Secret;
use crate::upstream::Upstream;

/// The token in the call by which the vendor tries an address; it opens nothing.
const TRIAL_TOKEN: &str = "test-token";

/// Longest token that is taken; the vendor's have about 90 characters.
const MAX_TOKEN: usize = 4096;

/// Longest name of an organization or a workspace, as the vendor limits them.
const MAX_NAME: usize = 90;

/// A call whose signature was checked.
#[derive(Debug)]
pub(super) enum Called {
    /// The vendor tries the address.
    Trial,
    /// A run has come to a stage.
    Stage(Box<Call>),
}

/// A run has come to a stage, and waits for an answer.
#[derive(Debug)]
pub(super) struct Call {
    /// Which stage.
    pub(super) stage: TaskStage,
    /// The answer that is wanted.
    pub(super) task_result: TaskResultId,
    /// The organization's name.
    pub(super) organization: String,
    /// The workspace.
    pub(super) workspace: WorkspaceId,
    /// Its name.
    pub(super) workspace_name: String,
    /// The run.
    pub(super) run: RunId,
    /// Its configuration.
    pub(super) configuration_version: Option<ConfigurationVersionId>,
    /// Whether the configuration can be downloaded.
    pub(super) downloadable: bool,
    /// It can only plan.
    pub(super) speculative: bool,
    /// What a no does.
    pub(super) enforcement: Enforcement,
    /// Whether particulars are taken besides the answer itself.
    pub(super) takes_outcomes: bool,
    /// Path of the answer, on the configured upstream.
    pub(super) callback: String,
    /// Opens the answer and what the stage is about, for ten minutes. It is never logged and
    /// never stored.
    pub(super) token: Secret,
}

/// What a no does upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Enforcement {
    /// It is shown, and the run goes on.
    Advisory,
    /// It ends the run.
    Mandatory,
}

impl Enforcement {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Advisory => "advisory",
            Self::Mandatory => "mandatory",
        }
    }
}

/// The members that are used. Others may come: the vendor adds to them.
#[derive(Deserialize)]
struct Payload {
    payload_version: u32,
    stage: String,
    #[serde(default)]
    capabilities: Capabilities,
    configuration_version_id: Option<ConfigurationVersionId>,
    configuration_version_download_url: Option<String>,
    is_speculative: bool,
    organization_name: String,
    run_id: RunId,
    task_result_callback_url: String,
    task_result_enforcement_level: Enforcement,
    task_result_id: TaskResultId,
    workspace_id: WorkspaceId,
    workspace_name: String,
    plan_json_api_url: Option<String>,
}

#[derive(Default, Deserialize)]
struct Capabilities {
    #[serde(default)]
    outcomes: bool,
}

/// The one member of a call that decides what kind it is.
#[derive(Deserialize)]
struct Bearer {
    access_token: String,
}

/// Reads a call.
///
/// # Errors
/// `RUN_TASK_MALFORMED` for what is no such call, `RUN_TASK_CALLBACK` when its answer or what it
/// is about should be fetched from elsewhere than the configured upstream.
pub(super) fn read(body: &[u8], upstream: &Upstream) -> Result<Called, Refusal> {
    let malformed = |what: &'static str| Refusal::new(ReasonCode::RunTaskMalformed, what);
    // The strict reader first: a member that stands twice is read differently by different readers.
    proof::json::parse(body, proof::Numbers::Any).map_err(|_| malformed("not strict JSON"))?;
    let bearer: Bearer =
        serde_json::from_slice(body).map_err(|_| malformed("there is no access_token"))?;
    if bearer.access_token == TRIAL_TOKEN {
        return Ok(Called::Trial);
    }
    let token = Secret::new(bearer.access_token);
    let plain = token.expose().bytes().all(|byte| byte.is_ascii_graphic());
    if token.expose().is_empty() || token.expose().len() > MAX_TOKEN || !plain {
        return Err(malformed("the access_token is no token"));
    }
    // The error of the reader may repeat what it read; this one does not.
    let payload: Payload = serde_json::from_slice(body)
        .map_err(|_| malformed("a member is missing or of another type than documented"))?;
    if payload.payload_version != 1 {
        return Err(malformed("payload_version is not 1"));
    }
    let stage = payload.stage.parse();
    let stage = stage.map_err(|_| malformed("the stage is not known"))?;
    for name in [&payload.organization_name, &payload.workspace_name] {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(plain) {
            return Err(malformed("a name has characters that names do not have"));
        }
    }
    let others = [
        &payload.configuration_version_download_url,
        &payload.plan_json_api_url,
    ];
    for address in others.into_iter().flatten() {
        upstream.target_of(address).ok_or_else(elsewhere)?;
    }
    let callback = callback(&payload.task_result_callback_url, upstream)?;
    Ok(Called::Stage(Box::new(Call {
        stage,
        task_result: payload.task_result_id,
        organization: payload.organization_name,
        workspace: payload.workspace_id,
        workspace_name: payload.workspace_name,
        run: payload.run_id,
        configuration_version: payload.configuration_version_id,
        downloadable: payload.configuration_version_download_url.is_some(),
        speculative: payload.is_speculative,
        enforcement: payload.task_result_enforcement_level,
        takes_outcomes: payload.capabilities.outcomes,
        callback,
        token,
    })))
}

fn elsewhere() -> Refusal {
    let detail = "an address in it is not below terraform_cloud.url";
    Refusal::new(ReasonCode::RunTaskCallback, detail)
}

/// The path of the answer, built anew from the one part of it that varies.
fn callback(address: &str, upstream: &Upstream) -> Result<String, Refusal> {
    let target = upstream.target_of(address).ok_or_else(elsewhere)?;
    let name = target
        .strip_prefix("/api/v2/task-results/")
        .and_then(|rest| rest.strip_suffix("/callback"))
        .unwrap_or_default();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if name.is_empty() || name.len() > 64 || !name.bytes().all(plain) {
        let detail = "the answer's address is not that of a task result";
        return Err(Refusal::new(ReasonCode::RunTaskCallback, detail));
    }
    Ok(format!("/api/v2/task-results/{name}/callback"))
}
