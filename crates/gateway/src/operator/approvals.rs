//! Approvals over the operator API: what waits, and the signed answers to it.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use policy::ReasonCode;
use policy::terraform::ids::RunId;
use proof::approval::{Decision, SignedStatement, Subject};
use proof::record::{ApprovalVia, JobId};
use proof::{Envelope, Json as Exact, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use store::{GateState, RunBrief, RunRow, StatementRow};

use super::credential::Operator;
use super::extract::{Id, Params, Strict};
use super::problem::Problem;
use super::watching::ObservationView;
use crate::app::App;
use crate::approvals::{self, Submitted};
use crate::clawcontrols;
use crate::operator::audit::{Action, audited};
use crate::shapes;

/// Most approvals in one answer; the ones that wait longest.
const MAX_LIST: usize = 200;

/// Observations of the workspace since the job was opened that stand with an approval.
const MAX_OUTSIDE: u32 = 20;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Filter {
    /// `active`, or a state that is not an end; `awaiting_approval` unless it is said.
    #[serde(default)]
    state: Option<String>,
}

/// Runs that wait for approval, or all that have not ended (`state=active`), or those in one
/// state that is not an end. In brief: what a plan would change is shown with each by itself.
pub(super) async fn list(
    State(app): State<Arc<App>>,
    Params(filter): Params<Filter>,
) -> Result<Json<Approvals>, Problem> {
    let runs = match filter.state.as_deref() {
        None | Some("awaiting_approval") => app.store.waiting().await?,
        Some("active") => app.store.active_briefs().await?,
        Some(name) => {
            let state = GateState::ALL
                .into_iter()
                .find(|state| state.as_str() == name);
            let state = state.filter(|state| !state.is_final()).ok_or_else(|| {
                let detail = "`state` is `active` or a state that is not an end; runs that have \
                              ended are listed with their job";
                Problem::new(ReasonCode::QueryValue, detail)
            })?;
            let runs = app.store.active_briefs().await?;
            runs.into_iter().filter(|run| run.gate == state).collect()
        }
    };
    let mut views = Vec::new();
    for run in runs.iter().take(MAX_LIST) {
        views.push(brief(&app, run).await?);
    }
    Ok(Json(Approvals {
        approvals: views,
        more: runs.len() > MAX_LIST,
    }))
}

/// One run's approval.
pub(super) async fn show(
    State(app): State<Arc<App>>,
    Id(run_id): Id<RunId>,
) -> Result<Json<ApprovalDetails>, Problem> {
    let run = app
        .store
        .run(run_id.as_str())
        .await?
        .ok_or(ReasonCode::ApprovalUnknown)?;
    Ok(Json(view(&app, &run).await?))
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "SubmitApproval")]
pub(super) struct Submit {
    /// The approver's signed statement.
    #[schemars(with = "shapes::Envelope")]
    envelope: Envelope,
}

/// Takes an approver's signed yes or no. The signature counts, not who hands it in.
pub(super) async fn submit(
    State(app): State<Arc<App>>,
    Id(run_id): Id<RunId>,
    operator: Operator,
    Strict(body): Strict<Submit>,
) -> Result<Json<ApprovalDetails>, Problem> {
    let run_id = run_id.as_str();
    if app.store.run(run_id).await?.is_none() {
        return Err(ReasonCode::ApprovalUnknown.into());
    }
    let action = Action {
        operator: operator.name(),
        name: "approval.submit",
        subject: run_id.to_owned(),
        detail: vec![("signer_did", body.envelope.signer_did.to_string())],
        at: app.now(),
    };
    let submitted = audited(&*app.store, action, async {
        let signed = SignedStatement::try_from(body.envelope)
            .map_err(|error| Problem::new(ReasonCode::ApprovalMalformed, error.to_string()))?;
        approvals::submit(&app, run_id, signed, ApprovalVia::Key)
            .await
            .map_err(Problem::from)
    })
    .await?;
    self::submitted(&app, run_id, submitted).await
}

/// The run after a statement was taken, with what is still missing.
pub(super) async fn submitted(
    app: &App,
    run_id: &str,
    submitted: Submitted,
) -> Result<Json<ApprovalDetails>, Problem> {
    let run = app
        .store
        .run(run_id)
        .await?
        .ok_or(ReasonCode::ApprovalUnknown)?;
    let mut view = view(app, &run).await?;
    if let Submitted::Counted { approvals, missing } = submitted {
        view.progress = Some(Progress {
            given: approvals,
            missing,
            complete: missing == 0,
        });
    }
    Ok(Json(view))
}

async fn view(app: &App, run: &RunRow) -> Result<ApprovalDetails, Problem> {
    let job = app
        .store
        .job(&run.job_id)
        .await?
        .ok_or(ReasonCode::JobUnknown)?;
    let outside = store::ObservationFilter {
        workspace_id: Some(run.workspace_id.clone()),
        since: Some(job.opened_at),
        before: None,
        limit: MAX_OUTSIDE,
    };
    let outside = app.store.observations(outside).await?;
    let outside = outside.into_iter().map(ObservationView::from).collect();
    let contract = clawcontrols::contract(app, &job.policy_hash).await?;
    let contract = contract.ok_or(ReasonCode::ContractUnknown)?;
    let terms = &contract.contract.permissions.apply;
    let not_by = approvals::Barred::of(&job, terms).address();
    let not_by = not_by.map(str::to_owned);
    let run_brief = RunBrief {
        run_id: run.run_id.clone(),
        job_id: run.job_id.clone(),
        job_name: job.name,
        policy_hash: job.policy_hash,
        organization: run.organization.clone(),
        workspace_id: run.workspace_id.clone(),
        apply_wished: run.apply_wished,
        gate: run.gate,
        changes: run.changes,
        subject: run.subject.clone(),
        approval_expires_at: run.approval_expires_at,
        updated_at: run.updated_at,
    };
    Ok(ApprovalDetails {
        approval: brief(app, &run_brief).await?,
        reason: run.gate_reason.clone(),
        summary: run.summary.clone(),
        outside,
        opened_by: job.opened_by,
        opened_by_email: job.opened_by_email,
        opener_may_approve: terms.opener_may_approve,
        not_by,
        progress: None,
    })
}

/// A run without what its plan would change.
pub(super) async fn brief(app: &App, run: &RunBrief) -> Result<Approval, Problem> {
    let contract = clawcontrols::contract(app, &run.policy_hash).await?;
    let contract = contract.ok_or(ReasonCode::ContractUnknown)?;
    let terms = &contract.contract.permissions.apply;
    let statements = app.store.statements(&run.run_id).await?;
    let approvers = terms.approvers.iter();
    Ok(Approval {
        run_id: run.run_id.clone(),
        job_id: run.job_id.clone(),
        job_name: run.job_name.clone(),
        workspace_id: run.workspace_id.clone(),
        state: run.gate.as_str(),
        subject: run.subject.clone(),
        expires_at: run.approval_expires_at,
        approvals: statements.into_iter().map(StatementView::from).collect(),
        needed: terms.min_approvals,
        min_approvals: terms.min_approvals,
        approvers: approvers.map(|email| email.as_str().to_owned()).collect(),
    })
}

#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Approvals {
    /// Those that wait longest first.
    approvals: Vec<Approval>,
    /// There are more than an answer holds.
    more: bool,
}

/// A run and its approval, without what its plan would change.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Approval {
    run_id: String,
    #[schemars(with = "shapes::JobId")]
    job_id: JobId,
    job_name: String,
    workspace_id: String,
    #[schemars(with = "shapes::GateState")]
    state: &'static str,
    /// What an approval is bound to; absent until the plan was read.
    #[schemars(with = "Option<shapes::Subject>")]
    subject: Option<Subject>,
    /// When the question to the approvers lapses.
    #[schemars(with = "Option<shapes::Timestamp>")]
    expires_at: Option<Timestamp>,
    /// What approvers have said.
    approvals: Vec<StatementView>,
    /// The same as `min_approvals`.
    needed: u32,
    /// How many different approvers must say yes.
    min_approvals: u32,
    /// Who may say it.
    approvers: Vec<String>,
}

/// An approver's signed yes or no.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ApprovalStatement")]
pub(super) struct StatementView {
    approver: String,
    #[schemars(with = "shapes::Decision")]
    decision: Decision,
    #[schemars(with = "shapes::ApprovalVia")]
    via: ApprovalVia,
    #[schemars(with = "shapes::Timestamp")]
    at: Timestamp,
    /// The place of its record in the job.
    seq: u64,
    /// It came in time to count.
    counted: bool,
    #[schemars(with = "shapes::SignedStatement")]
    envelope: SignedStatement,
}

impl From<StatementRow> for StatementView {
    fn from(row: StatementRow) -> Self {
        Self {
            approver: row.approver,
            decision: row.decision,
            via: row.via,
            at: row.at,
            seq: row.seq,
            counted: row.counted,
            envelope: row.envelope,
        }
    }
}

/// A run and its approval, with everything that an approver is to see.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct ApprovalDetails {
    #[serde(flatten)]
    approval: Approval,
    /// Why it stands where it stands, by reason code or in words.
    reason: Option<String>,
    /// What the plan would change, destructive changes first.
    #[schemars(with = "Option<shapes::Document>")]
    summary: Option<Exact>,
    /// What was seen in the workspace outside the gateway since the job was opened.
    outside: Vec<ObservationView>,
    opened_by: String,
    opened_by_email: Option<String>,
    opener_may_approve: bool,
    /// Whose approval does not count, because the job is theirs.
    not_by: Option<String>,
    #[serde(flatten)]
    progress: Option<Progress>,
}

/// How far the approvals are, when one has just been given.
#[derive(Debug, Serialize, JsonSchema)]
struct Progress {
    given: u32,
    missing: u32,
    complete: bool,
}
