//! The page that answers an incident's questions about one run: what led to it, under which
//! contract, what the plan said, who agreed, and whether that is what was applied.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use policy::terraform::Operation;
use policy::terraform::ids::RunId;
use proof::Hash;
use proof::approval::Decision;
use proof::record::{Body, Ended, Lane};
use store::{GateState, JobRow, RunRow, StoreError};

use super::origin::{self, Origin};
use super::read::{verified, via};
use super::words::{self, Change, Moment, Quoted, short_did};
use crate::app::App;
use crate::approvals::question;
use crate::operator::Visit;
use crate::pages::{Frame, Place, failed, html, nothing_here};
use crate::prompts;

#[derive(Debug, Template)]
#[template(path = "trust_pulse/run.html")]
struct RunPage {
    frame: Frame,
    run_id: String,
    place: String,
    standing: &'static str,
    tone: &'static str,
    reason: Option<Quoted>,
    job_id: String,
    job_name: Quoted,
    agent_did: String,
    agent_short: String,
    contract: Option<(String, u32, String)>,
    origin: Origin,
    message: Option<Quoted>,
    configuration: Option<String>,
    plan: Option<String>,
    verdict: Option<String>,
    changes: Vec<Change>,
    created_at: Moment,
    signed: Vec<SignedView>,
    apply: Option<ApplyView>,
    before: Option<String>,
    after: Option<String>,
    /// Whether what was applied is what was approved, in a sentence.
    answer: &'static str,
    /// Whether that is good, bad or open.
    answer_tone: &'static str,
    updated_at: Moment,
}

#[derive(Debug)]
struct SignedView {
    approver: String,
    approves: bool,
    counted: bool,
    at: Moment,
    seq: u64,
    via: &'static str,
    did: String,
    did_short: String,
    /// The plan that was signed is the run's plan.
    same_plan: bool,
    reason: Option<Quoted>,
}

#[derive(Debug)]
struct ApplyView {
    seq: u64,
    at: Moment,
    end: &'static str,
    receipt: String,
}

/// One run.
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    visit: Visit,
    Path(run_id): Path<String>,
) -> Response {
    let frame = Frame::new(&app, &visit, Place::Jobs);
    let Ok(run_id) = run_id.parse::<RunId>() else {
        return nothing_here(frame, "That is no run's id.");
    };
    // An open page is for anybody; the agent's words are not.
    let known = visit.operator.is_some();
    match page(&app, frame.clone(), run_id.as_str(), known).await {
        Ok(Some(page)) => html(StatusCode::OK, &page),
        Ok(None) => nothing_here(frame, "No job of this gateway has such a run."),
        Err(error) => failed(frame, &error),
    }
}

async fn page(
    app: &App,
    frame: Frame,
    run_id: &str,
    known: bool,
) -> Result<Option<RunPage>, StoreError> {
    let Some(run) = app.store.run(run_id).await? else {
        return Ok(None);
    };
    let Some(job) = app.store.job(&run.job_id).await? else {
        return Ok(None);
    };
    let contract = app.store.contract(&job.policy_hash).await?;
    let mut origin = origin::of_run(&*app.store, &job, &run).await?;
    if known && let Some(kept) = prompts::shown(app, &run).await {
        origin.tell(&kept);
    }
    let statements = app.store.statements(run_id).await?;
    let passkeys = app.store.passkeys().await?;
    let signed: Vec<SignedView> = statements
        .into_iter()
        .filter_map(|row| {
            let (did, statement) = verified(&row, &passkeys)?;
            Some(SignedView {
                approver: row.approver,
                approves: row.decision == Decision::Approve,
                counted: row.counted,
                at: row.at.into(),
                seq: row.seq,
                via: via(row.via),
                did_short: short_did(&did),
                did,
                same_plan: Some(statement.plan_sha256_b64u) == run.plan_sha256,
                reason: statement
                    .reason
                    .map(|text| Quoted::new(&text, "the approver")),
            })
        })
        .collect();
    let apply = match run.gate {
        GateState::Applying | GateState::Applied | GateState::Errored => {
            let made = origin.made_by.as_ref().map_or(0, |made| made.seq);
            apply_of(app, &job, &run, made).await?
        }
        _ => None,
    };
    let (answer, answer_tone) = answer(&run, &signed, apply.is_some());
    let (standing, tone) = words::standing(run.gate);
    let hash = |hash: Hash| hash.to_string();
    let message = run.summary.as_ref().and_then(|summary| {
        let text = summary.get("message")?.as_str()?;
        (!text.is_empty()).then(|| Quoted::block(text, "the agent"))
    });
    Ok(Some(RunPage {
        frame,
        place: format!("{} / {}", run.organization, run.workspace_id),
        standing,
        tone,
        reason: run
            .gate_reason
            .as_deref()
            .map(|text| Quoted::new(text, "the gate")),
        job_id: job.job_id.to_string(),
        job_name: Quoted::new(&job.name, "the operator"),
        agent_short: short_did(&job.agent_did),
        agent_did: job.agent_did.to_string(),
        contract: contract.map(|row| {
            let hash = row.contract.policy_hash.to_string();
            (row.contract.name, row.version, hash)
        }),
        origin,
        message,
        configuration: run.configuration_sha256.map(hash),
        plan: run.plan_sha256.map(hash),
        verdict: run.changes.as_ref().map(question::verdict),
        changes: words::changes(&run.changes.unwrap_or_default()),
        created_at: run.created_at.into(),
        updated_at: run.updated_at.into(),
        signed,
        apply,
        before: run.state_version_before,
        after: run.state_version_after,
        answer,
        answer_tone,
        run_id: run.run_id,
    }))
}

/// Whether what was applied is what was approved. The gate reads the plan once more right before
/// the apply and goes on only when its digest is the approved one.
fn answer(run: &RunRow, signed: &[SignedView], sent: bool) -> (&'static str, &'static str) {
    let approved = signed
        .iter()
        .any(|signed| signed.approves && signed.counted && signed.same_plan);
    match run.gate {
        GateState::Applied if approved && sent => (
            "Yes: the gateway applied it, after reading the plan again and finding the digest that \
             was signed.",
            "person",
        ),
        GateState::Applied if sent => (
            "The gateway applied it without a person's signature: its contract asks for none.",
            "waiting",
        ),
        GateState::Applied => (
            "No: it was applied outside the gateway. Nothing here says that it is what was \
             approved.",
            "refused",
        ),
        GateState::Errored if sent => (
            "The gateway asked for the apply, and it failed. What it did before it failed stands in \
             Terraform Cloud.",
            "refused",
        ),
        GateState::Applying => ("It is being applied.", "applied"),
        state if state.is_final() => ("Nothing was applied.", "quiet"),
        _ => ("Nothing was applied yet.", "waiting"),
    }
}

/// The gateway's own call that applied a run, searched in all that the job has since the run was
/// made: how much came after it is the agent's choice.
async fn apply_of(
    app: &App,
    job: &JobRow,
    run: &RunRow,
    made: u64,
) -> Result<Option<ApplyView>, StoreError> {
    let mut last = made;
    let mut found: Option<ApplyView> = None;
    loop {
        let page = app.store.records(&job.job_id, last, 1000).await?;
        let Some(end) = page.last() else {
            return Ok(found);
        };
        last = end.record.seq;
        for stored in &page {
            match &stored.record.body {
                Body::Intent(intent)
                    if intent.lane == Lane::Gateway
                        && intent.operation == Operation::ApplyRun.name()
                        && intent.run_id.as_deref() == Some(run.run_id.as_str()) =>
                {
                    found = Some(ApplyView {
                        seq: stored.record.seq,
                        at: stored.record.at.into(),
                        end: "nobody knows how it ended",
                        receipt: String::new(),
                    });
                }
                Body::Outcome(outcome) => {
                    if let Some(apply) = &mut found
                        && apply.seq == outcome.intent_seq
                    {
                        apply.end = match outcome.ended {
                            Ended::Complete => "Terraform Cloud answered",
                            Ended::Unknown => "nobody knows how it ended",
                            _ => "the answer broke off",
                        };
                        let receipt = outcome.receipt.as_ref();
                        apply.receipt =
                            receipt.map_or_else(String::new, |receipt| receipt.receipt_id.clone());
                        return Ok(found);
                    }
                }
                _ => {}
            }
        }
    }
}
