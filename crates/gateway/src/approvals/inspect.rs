//! Reads the full plan, judges it by the contract, and asks the approvers.

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use policy::cost::CostFacts;
use policy::plan::ResourceChange;
use policy::plan::{self, PlanError, PlanFacts, PlanReader};
use policy::terraform::mask::Marked;
use policy::{ReasonCode, Refusal};
use proof::approval::{Changes, Subject};
use proof::record::{Caller, Lane};
use proof::{Hash, Json};
use store::{GateState, RunRow, RunUpdate};
use tokio::sync::{Semaphore, mpsc};

use super::gate::{Next, move_to};
use super::{ours, question};
use crate::app::App;
use crate::clawproxy::authenticate::unavailable;
use crate::clawproxy::record;
use crate::clawproxy::terraform::runs::related;
use crate::live::LiveContract;
use crate::upstream::Duty;
use crate::watching::reach::{self, Reach};
use crate::watching::settings;

/// Most resources that an approver's summary lists, and most bytes that they may take; the counts
/// are always whole.
const MAX_LISTED: usize = 500;
const MAX_LISTED_BYTES: usize = 4 << 20;

/// Most objects of a plan that are kept for its page, and most bytes that they may take before
/// what changes inside them is left out.
const MAX_KEPT: usize = 50_000;
const MAX_KEPT_BYTES: usize = 16 << 20;

/// Longest message of a run that is shown, in characters.
const MAX_MESSAGE: usize = 2000;

/// Pieces of a plan that may wait for their reader.
const PIECES: usize = 16;

/// Plans that are read at the same time: each may hold its packed text.
static READING: Semaphore = Semaphore::const_new(4);

/// Inspects the plan of a run that somebody wants applied.
pub(super) async fn inspect(app: &Arc<App>, run: RunRow) -> Result<Next, Refusal> {
    let from = [GateState::Inspecting];
    let contract = contract(app, &run).await?;
    let seen = match read_plan(app, &run.run_id).await {
        Ok(seen) => seen,
        // Upstream's trouble is no verdict: try again later.
        Err(refusal) if refusal.code.origin() != policy::reason::Origin::Policy => {
            return Err(refusal);
        }
        Err(refusal) => return refuse(app, &run, vec![refusal], RunUpdate::default()).await,
    };
    let cost = cost(app, &run, &contract).await?;
    let update = RunUpdate {
        plan_sha256: Some(seen.facts.plan_sha256_b64u),
        plan_raw_sha256: Some(seen.facts.raw_sha256_b64u),
        changes: Some(changes(&seen.facts)),
        plan_id: Some(seen.plan_id.clone()),
        ..RunUpdate::default()
    };
    let violations = plan::judge(&contract.contract, &seen.facts, cost.as_ref());
    if !violations.is_empty() {
        let refusals = violations
            .into_iter()
            .map(|violation| Refusal::new(violation.code, violation.message))
            .collect();
        return refuse(app, &run, refusals, update).await;
    }
    let around = match Around::read(app, &contract, &run.workspace_id).await {
        Ok(around) => around,
        Err(refusal) if refusal.code.origin() != policy::reason::Origin::Policy => {
            return Err(refusal);
        }
        Err(refusal) => return refuse(app, &run, vec![refusal], update).await,
    };
    let refusals = around.reach.refusals();
    if !refusals.is_empty() {
        return refuse(app, &run, refusals, update).await;
    }
    let (Some(configuration_version_id), Some(configuration_sha256_b64u)) = (
        run.configuration_version_id.clone(),
        run.configuration_sha256,
    ) else {
        let refusal = Refusal::from(ReasonCode::ConfigurationVersionNotInspected);
        return refuse(app, &run, vec![refusal], update).await;
    };
    let subject = Subject {
        organization: run.organization.clone(),
        workspace_id: run.workspace_id.clone(),
        run_id: run.run_id.clone(),
        configuration_version_id,
        configuration_sha256_b64u,
        plan_id: seen.plan_id,
        plan_sha256_b64u: seen.facts.plan_sha256_b64u,
        policy_hash_b64u: contract.hash,
        job_id: run.job_id.clone(),
        changes: changes(&seen.facts),
        cost: cost.map(|cost| cost.delta_monthly_usd.to_string()),
    };
    let apply = &contract.contract.permissions.apply;
    let ttl = i64::from(apply.approval_ttl_seconds);
    let objects = objects(&seen.facts);
    let mut summary = summary(&objects);
    let kept = bounded(&objects, MAX_KEPT, MAX_KEPT_BYTES);
    drop(objects);
    summary.set("message", message(&seen.message));
    app.store
        .keep_plan_objects(&run.run_id, kept)
        .await
        .map_err(unavailable)?;
    let update = RunUpdate {
        summary: Some(around.beside(summary)),
        subject: Some(subject),
        approval_expires_at: Some(app.now().plus_seconds(ttl)),
        ..update
    };
    let to = if apply.requires_approval {
        GateState::AwaitingApproval
    } else {
        GateState::Approved
    };
    move_to(app, &run, &from, to, update).await
}

/// What an approver must know besides the plan.
struct Around {
    /// Where an apply leads.
    reach: Reach,
    /// How the workspace's settings differ from those that somebody accepted; `None` before the
    /// first look.
    drift: Option<Vec<settings::Change>>,
}

impl Around {
    async fn read(app: &App, contract: &LiveContract, workspace_id: &str) -> Result<Self, Refusal> {
        let reach = reach::of_workspace(app, contract, workspace_id).await?;
        let baseline = app
            .store
            .baseline(workspace_id)
            .await
            .map_err(unavailable)?;
        let drift = match baseline {
            Some(baseline) => {
                let now = settings::of_workspace(app, workspace_id).await?;
                let now = now.ok_or(ReasonCode::UpstreamNotFound)?;
                Some(settings::changes(&baseline.accepted, &now))
            }
            None => None,
        };
        Ok(Self { reach, drift })
    }

    /// Puts it beside a plan's summary. The statement that is signed stays as it is; `reach` is
    /// read again before the apply, and a difference voids the approval.
    fn beside(&self, mut summary: Json) -> Json {
        summary.set("reach", self.reach.to_json());
        let drift = self.drift.as_ref().map(|drift| {
            let changes = drift.iter().map(settings::Change::to_json);
            Json::Array(changes.collect())
        });
        summary.set("drift", drift.unwrap_or(Json::Null));
        summary
    }
}

/// A plan that was read and understood.
pub struct SeenPlan {
    /// The plan's id, read from the run just now.
    pub plan_id: String,
    /// What it would do.
    pub facts: PlanFacts,
    /// What its maker wrote about the run.
    pub message: String,
}

/// Reads the full plan JSON with the reader's credential; it never leaves the gateway.
///
/// # Errors
/// A `PLAN_…` code for a plan that cannot be judged, or an `UPSTREAM_…` code.
pub async fn read_plan(app: &App, run_id: &str) -> Result<SeenPlan, Refusal> {
    let json = ours::read_run(app, run_id).await?;
    let plan_id = related(&json, "plan").ok_or(ReasonCode::UpstreamGarbage)?;
    let read = match stream_plan(app, &plan_id).await? {
        Ok(read) => read,
        Err(status) => {
            let detail = format!("the plan's JSON was answered with {}", status.as_u16());
            return Err(Refusal::new(ReasonCode::UpstreamUnavailable, detail));
        }
    };
    let workspace = related(&json, "workspace").ok_or(ReasonCode::UpstreamGarbage)?;
    app.sensitive.learn(&workspace, &plan_id, &read.sensitive);
    let facts = read
        .facts
        .map_err(|error| Refusal::new(error.code(), error.to_string()))?;
    let message = json.at(&["data", "attributes", "message"]);
    let message = message.and_then(Json::as_str).unwrap_or_default();
    Ok(SeenPlan {
        plan_id,
        facts,
        message: message.to_owned(),
    })
}

/// What a plan marks as sensitive; `None` when upstream shows no plan to the reader.
///
/// # Errors
/// An `UPSTREAM_…` code when asking again may help.
pub async fn read_sensitive(app: &App, plan_id: &str) -> Result<Option<Marked>, Refusal> {
    match stream_plan(app, plan_id).await? {
        Ok(read) => Ok(Some(read.sensitive)),
        Err(status) if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
            Err(ReasonCode::UpstreamUnavailable.into())
        }
        Err(_) => Ok(None),
    }
}

/// What was found in a plan.
struct ReadPlan {
    facts: Result<PlanFacts, PlanError>,
    /// In a plan that cannot be read, whatever it has.
    sensitive: Marked,
}

/// Reads the full JSON of a plan while it arrives, or says with what else it was answered.
async fn stream_plan(app: &App, plan_id: &str) -> Result<Result<ReadPlan, StatusCode>, Refusal> {
    let target = format!("/api/v2/plans/{plan_id}/json-output");
    let slot = READING.acquire().await;
    let _slot = slot.map_err(|_| ReasonCode::ShuttingDown)?;
    let (pieces, arriving) = mpsc::channel(PIECES);
    // A large plan takes a while: not on the threads that serve connections.
    let reading = tokio::task::spawn_blocking(move || read_pieces(arriving));
    let streamed = app
        .upstream
        .stream_document(Duty::Reader, &target, &pieces)
        .await;
    drop(pieces);
    let read = reading.await.map_err(|_| ReasonCode::Internal)?;
    // What broke off is no plan, whatever could be read of it.
    let (status, size) = streamed.map_err(|error| Refusal::new(error.code(), error.to_string()))?;
    let complete = status.is_success() && size > 0;
    Ok(if complete { Ok(read) } else { Err(status) })
}

fn read_pieces(mut arriving: mpsc::Receiver<Bytes>) -> ReadPlan {
    let mut reader = PlanReader::default();
    while let Some(piece) = arriving.blocking_recv() {
        if let Err(error) = reader.push(&piece) {
            return ReadPlan {
                facts: Err(error),
                sensitive: Marked::TooMany,
            };
        }
    }
    ReadPlan {
        facts: reader.inspect(),
        sensitive: reader.sensitive().unwrap_or(Marked::TooMany),
    }
}

/// The run's cost estimate, when the contract asks about cost.
async fn cost(
    app: &App,
    run: &RunRow,
    contract: &LiveContract,
) -> Result<Option<CostFacts>, Refusal> {
    if contract.contract.permissions.cost.is_none() {
        return Ok(None);
    }
    let json = ours::read_run(app, &run.run_id).await?;
    let Some(id) = related(&json, "cost-estimate") else {
        return Ok(None);
    };
    let estimate = ours::read(app, &format!("/api/v2/cost-estimates/{id}")).await?;
    // An estimate that is not finished is no estimate; the contract says what follows from that.
    Ok(CostFacts::from_answer(&estimate).ok())
}

/// Ends a run whose plan the contract does not allow. Every reason is recorded.
async fn refuse(
    app: &Arc<App>,
    run: &RunRow,
    refusals: Vec<Refusal>,
    update: RunUpdate,
) -> Result<Next, Refusal> {
    let job = app.store.job(&run.job_id).await.map_err(unavailable)?;
    let job = job.ok_or(ReasonCode::JobUnknown)?;
    let Some(first) = refusals.first() else {
        return Ok(Next::Again);
    };
    let reasons: Vec<String> = refusals
        .iter()
        .take(20)
        .map(|refusal| format!("{}: {}", refusal.code, refusal.detail))
        .collect();
    let refusal = proof::record::Refusal {
        caller: Caller {
            token_hash: "gateway".to_owned(),
            agent_did: job.agent_did.clone(),
            holder: "gateway".to_owned(),
        },
        lane: Lane::Gateway,
        asked: "apply-plan".to_owned(),
        target_hash_b64u: Hash::of(run.run_id.as_bytes()),
        code: first.code.as_str().to_owned(),
        reasons: reasons.clone(),
        run_id: Some(run.run_id.clone()),
        input: None,
        policy_hash_b64u: job.policy_hash,
    };
    let body = record::counted(app, &run.job_id, refusal);
    app.store
        .append(&run.job_id, app.now(), body)
        .await
        .map_err(unavailable)?;
    let gate_reason = Some(reasons.join("; ").chars().take(1000).collect());
    let from = [GateState::Inspecting];
    let update = RunUpdate {
        gate_reason,
        ..update
    };
    move_to(app, run, &from, GateState::Violates, update).await
}

/// What the plan would change, destructive changes first.
fn objects(facts: &PlanFacts) -> Vec<Json> {
    let mut resources: Vec<_> = facts.resources.iter().collect();
    let rank = |resource: &ResourceChange| {
        question::rank_of(resource.actions.iter().map(|action| action.as_str()))
    };
    resources.sort_by_cached_key(|resource| (rank(resource), resource.address.clone()));
    resources.into_iter().map(object).collect()
}

fn object(resource: &ResourceChange) -> Json {
    let mut json = Json::object();
    json.set("address", resource.address.as_str());
    json.set("type", resource.kind.as_str());
    let actions = resource
        .actions
        .iter()
        .map(|action| Json::from(action.as_str()));
    json.set("actions", Json::Array(actions.collect()));
    for (name, text) in [
        ("previous_address", &resource.previous_address),
        ("reason", &resource.reason),
    ] {
        if let Some(text) = text {
            json.set(name, text.as_str());
        }
    }
    json.set(
        "diff",
        Json::from_value(&resource.diff).unwrap_or(Json::Null),
    );
    if resource.left_out > 0 {
        json.set("left_out", i64::from(resource.left_out));
    }
    if resource.not_compared > 0 {
        json.set("not_compared", i64::from(resource.not_compared));
    }
    json
}

/// The part that stands with the run itself: in each answer about it.
fn summary(objects: &[Json]) -> Json {
    let mut json = Json::object();
    let listed = bounded(objects, MAX_LISTED, MAX_LISTED_BYTES);
    json.set("resources", Json::Array(listed));
    json.set("listed", objects.len() <= MAX_LISTED);
    json
}

/// So many objects, and of those that take more bytes together nothing of what changes inside:
/// destructive ones come first.
fn bounded(objects: &[Json], most: usize, most_bytes: usize) -> Vec<Json> {
    let mut bytes = 0;
    let cut = |object: &Json| {
        let mut object = object.clone();
        bytes += object.to_jcs().len();
        if bytes > most_bytes {
            object.set("diff", Json::Array(Vec::new()));
            object.remove("left_out");
            object.remove("not_compared");
            object.set("cut", true);
        }
        object
    };
    objects.iter().take(most).map(cut).collect()
}

/// What the agent wrote about the run, cut when it is long.
fn message(text: &str) -> Json {
    let mut cut: String = text.chars().take(MAX_MESSAGE).collect();
    if cut.len() < text.len() {
        cut.push_str(&format!("… (cut; {} bytes in all)", text.len()));
    }
    Json::from(cut)
}

/// The counts, as the approval statement has them.
fn changes(facts: &PlanFacts) -> Changes {
    let counted = facts.changes;
    Changes {
        create: counted.create.into(),
        update: counted.update.into(),
        delete: counted.delete.into(),
        replace: counted.replace.into(),
        forget: counted.forget.into(),
        import: counted.import.into(),
    }
}

/// The contract of a run's job.
pub(super) async fn contract(app: &App, run: &RunRow) -> Result<Arc<LiveContract>, Refusal> {
    let job = app.store.job(&run.job_id).await.map_err(unavailable)?;
    let job = job.ok_or(ReasonCode::JobUnknown)?;
    if !job.state.is_open() {
        return Err(ReasonCode::TokenJobClosed.into());
    }
    let contract = crate::clawcontrols::contract(app, &job.policy_hash).await;
    contract
        .map_err(unavailable)?
        .ok_or_else(|| ReasonCode::ContractUnknown.into())
}
