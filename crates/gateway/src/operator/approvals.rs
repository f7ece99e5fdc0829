//! Approvals over the operator API: what waits, and the signed answers to it.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use policy::ReasonCode;
use policy::terraform::ids::RunId;
use proof::Envelope;
use proof::approval::SignedStatement;
use proof::record::ApprovalVia;
use serde::Deserialize;
use serde_json::{Value, json};
use store::{GateState, RunBrief, RunRow};

use super::credential::Operator;
use super::extract::{Id, Params, Strict};
use super::problem::Problem;
use crate::app::App;
use crate::approvals::{self, Submitted};
use crate::clawcontrols;
use crate::operator::audit::{Action, audited};

/// Most approvals in one answer; the ones that wait longest.
const MAX_LIST: usize = 200;

/// Observations of the workspace since the job was opened that stand with an approval.
const MAX_OUTSIDE: u32 = 20;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Filter {
    #[serde(default)]
    state: Option<String>,
}

/// Runs that wait for approval, or all that have not ended (`state=active`), or those in one
/// state that is not an end. In brief: what a plan would change is shown with each by itself.
pub(super) async fn list(
    State(app): State<Arc<App>>,
    Params(filter): Params<Filter>,
) -> Result<Json<Value>, Problem> {
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
    Ok(Json(
        json!({ "approvals": views, "more": runs.len() > MAX_LIST }),
    ))
}

/// One run's approval.
pub(super) async fn show(
    State(app): State<Arc<App>>,
    Id(run_id): Id<RunId>,
) -> Result<Json<Value>, Problem> {
    let run = app
        .store
        .run(run_id.as_str())
        .await?
        .ok_or(ReasonCode::ApprovalUnknown)?;
    Ok(Json(view(&app, &run).await?))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Submit {
    envelope: Envelope,
}

/// Takes an approver's signed yes or no. The signature counts, not who hands it in.
pub(super) async fn submit(
    State(app): State<Arc<App>>,
    Id(run_id): Id<RunId>,
    operator: Operator,
    Strict(body): Strict<Submit>,
) -> Result<Json<Value>, Problem> {
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
) -> Result<Json<Value>, Problem> {
    let run = app
        .store
        .run(run_id)
        .await?
        .ok_or(ReasonCode::ApprovalUnknown)?;
    let mut view = view(app, &run).await?;
    if let Submitted::Counted { approvals, missing } = submitted {
        view["given"] = json!(approvals);
        view["missing"] = json!(missing);
        view["complete"] = json!(missing == 0);
    }
    Ok(Json(view))
}

async fn view(app: &App, run: &RunRow) -> Result<Value, Problem> {
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
    let outside: Vec<Value> = outside.iter().map(super::watching::view).collect();
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
    let mut view = brief(app, &run_brief).await?;
    view["reason"] = json!(run.gate_reason);
    view["summary"] = json!(run.summary);
    view["outside"] = json!(outside);
    Ok(view)
}

/// A run without what its plan would change.
pub(super) async fn brief(app: &App, run: &RunBrief) -> Result<Value, Problem> {
    let contract = clawcontrols::contract(app, &run.policy_hash).await?;
    let contract = contract.ok_or(ReasonCode::ContractUnknown)?;
    let terms = &contract.contract.permissions.apply;
    let statements = app.store.statements(&run.run_id).await?;
    let statements = statements.iter().map(|statement| {
        json!({
            "approver": statement.approver,
            "decision": statement.decision,
            "via": statement.via,
            "at": statement.at,
            "seq": statement.seq,
            "counted": statement.counted,
            "envelope": statement.envelope,
        })
    });
    let approvers: Vec<&str> = terms.approvers.iter().map(|email| email.as_str()).collect();
    Ok(json!({
        "run_id": run.run_id,
        "job_id": run.job_id,
        "job_name": run.job_name,
        "workspace_id": run.workspace_id,
        "state": run.gate.as_str(),
        "subject": run.subject,
        "expires_at": run.approval_expires_at,
        "approvals": statements.collect::<Vec<_>>(),
        "needed": terms.min_approvals,
        "min_approvals": terms.min_approvals,
        "approvers": approvers,
    }))
}
