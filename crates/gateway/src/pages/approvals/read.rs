//! From the store to the inbox and to a plan's page.

use policy::ReasonCode;
use policy::contract::Apply;
use proof::approval::{Changes, Decision};
use proof::record::Body;
use proof::{Hash, Timestamp, jcs};
use serde_json::{Value, json};
use store::{
    GateState, JobRow, ObservationFilter, PasskeyRow, RunBrief, RunRow, StatementRow, StoreError,
    StoredRecord,
};

use super::object::object;
use super::view::{
    ContractView, InboxPage, JobView, ObjectView, OpenerView, PasskeyView, PlanPage, RefusalView,
    RemarkView, StatementView, Waiting,
};
use crate::app::App;
use crate::approvals::Barred;
use crate::approvals::question::{self, Object, Remark};
use crate::clawcontrols;
use crate::operator::Visit;
use crate::operator::credential::{Access, Role};
use crate::pages::Frame;
use crate::pages::words::{self, Quoted, short_did};
use crate::passkeys::{self, Asked};
use crate::prompts;
use crate::trust_pulse::origin;
use crate::trust_pulse::read::{verified, via};
use crate::watching;

/// Plans in the inbox.
const MAX_WAITING: usize = 100;

/// Objects in one piece of a plan.
const PIECE: u32 = 50;

/// Refusals of the job, and things seen outside, that the page shows.
const MAX_REFUSED: u32 = 10;
const MAX_OUTSIDE: u32 = 20;

pub(super) async fn inbox(app: &App, frame: Frame) -> Result<InboxPage, StoreError> {
    let now = app.now();
    let mut waiting = Vec::new();
    let mut moving = Vec::new();
    for run in app.store.active_briefs().await? {
        if run.gate == GateState::AwaitingApproval {
            waiting.push(run);
        } else if run.apply_wished {
            moving.push(run);
        }
    }
    waiting.sort_by_key(|run| run.approval_expires_at);
    moving.sort_by_key(|run| std::cmp::Reverse(run.updated_at));
    let more = waiting.len().saturating_sub(MAX_WAITING);
    let listed = |runs: Vec<RunBrief>| {
        let runs = runs.into_iter().take(MAX_WAITING);
        runs.map(|run| waits(run, now)).collect()
    };
    Ok(InboxPage {
        frame,
        waiting: listed(waiting),
        more,
        moving: listed(moving),
    })
}

fn waits(run: RunBrief, now: Timestamp) -> Waiting {
    let changes = run.changes.unwrap_or_default();
    let (standing, tone) = words::standing(run.gate);
    Waiting {
        verdict: question::verdict(&changes),
        destructive: changes.is_destructive(),
        place: format!("{} / {}", run.organization, run.workspace_id),
        job_name: Quoted::new(&run.job_name, "the operator"),
        standing,
        tone,
        since: run.updated_at.into(),
        left: left(run.approval_expires_at, now),
        expires_at: run.approval_expires_at.map(Into::into),
        run_id: run.run_id,
    }
}

fn left(until: Option<Timestamp>, now: Timestamp) -> String {
    match until {
        Some(until) if until > now => words::span(now, until),
        _ => String::new(),
    }
}

pub(super) async fn plan(
    app: &App,
    visit: &Visit,
    frame: Frame,
    run_id: &str,
    from: u64,
) -> Result<Option<PlanPage>, StoreError> {
    let Some(run) = app.store.run(run_id).await? else {
        return Ok(None);
    };
    let Some(job) = app.store.job(&run.job_id).await? else {
        return Ok(None);
    };
    let now = app.now();
    let summary = json!(run.summary);
    let changes = run.changes.unwrap_or_default();
    let listed = listed(&summary);
    let contradicts = summary["listed"] == true && !question::agrees(&listed, &changes);
    let piece = piece(app, &run, &listed, from).await?;
    let outside = outside(app, &run, &job).await?;
    let contract = clawcontrols::contract(app, &job.policy_hash).await?;
    let version = app.store.contract(&job.policy_hash).await?;
    let terms = contract
        .as_ref()
        .map(|live| &live.contract.permissions.apply);
    let statements = app.store.statements(run_id).await?;
    let known = app.store.passkeys().await?;
    let subject_hash = run.subject.as_ref().and_then(|s| jcs::to_bytes(s).ok());
    let refused = app.store.refusals(&run.job_id, MAX_REFUSED).await?;
    let mut origin = origin::of_run(&*app.store, &job, &run).await?;
    if visit.operator.is_some()
        && let Some(kept) = prompts::shown(app, &run).await
    {
        origin.tell(&kept);
    }
    let views: Vec<StatementView> = statements
        .into_iter()
        .filter_map(|row| statement(row, &known))
        .collect();
    // What contradicts itself must not be signed, so it is not offered.
    let passkey = match contradicts {
        true => None,
        false => passkey(app, visit, &run).await,
    };
    let (standing, tone) = words::standing(run.gate);
    let lapsed = run.approval_expires_at.is_none_or(|until| until <= now);
    let open = run.gate == GateState::AwaitingApproval && !lapsed;
    let command = |verb: &str, more: &str| {
        let url = &app.operator_url;
        format!("clawgate approvals {verb} {run_id} --operator {url} --key approver.key{more}")
    };
    let may_deny = visit.session.is_some()
        && stoppable(run.gate)
        && visit
            .operator
            .as_ref()
            .is_some_and(|operator| operator.may(Access::Needs(Role::Approver)));
    let visitor = visit.operator.as_ref().map(|operator| operator.name());
    let approved_by_visitor = views
        .iter()
        .any(|view| view.approves && view.counts && Some(view.approver.as_str()) == visitor);
    let message = summary["message"].as_str().filter(|text| !text.is_empty());
    Ok(Some(PlanPage {
        frame,
        standing,
        tone,
        reason: run
            .gate_reason
            .as_deref()
            .map(|text| Quoted::new(text, "the gate, with names from elsewhere")),
        opener: opener(visit, &job, terms),
        verdict: run.changes.is_some().then(|| question::verdict(&changes)),
        destructive: changes.is_destructive(),
        changes: words::changes(&changes),
        organization: run.organization.clone(),
        workspace_id: run.workspace_id.clone(),
        cost: run
            .subject
            .as_ref()
            .and_then(|subject| subject.cost.clone()),
        remarks: question::remarks(&summary, &outside)
            .into_iter()
            .map(remark)
            .collect(),
        alone: summary["reach"].is_object(),
        contradicts,
        objects: piece.objects,
        objects_from: piece.from,
        objects_all: all(&changes),
        earlier: piece.earlier,
        later: piece.later,
        message: message.map(|text| Quoted::block(text, "the agent")),
        origin,
        contract: contract.as_ref().map(|live| ContractView {
            name: live.contract.name.to_string(),
            version: version.as_ref().map_or(0, |row| row.version),
            words: live.contract.summary(),
            description: live
                .contract
                .description
                .as_deref()
                .map(|text| Quoted::new(text, "the author")),
            withdrawn: version.is_some_and(|row| row.withdrawn.is_some()),
        }),
        refused: refused
            .into_iter()
            .filter_map(|stored| refusal(stored, run_id))
            .collect(),
        refused_all: job.counters.refusals,
        digests: digests(&run, subject_hash.as_deref()),
        counted: views
            .iter()
            .filter(|view| view.approves && view.counts)
            .count(),
        voided: voided(run.gate).filter(|_| views.iter().any(|view| view.approves && view.counts)),
        statements: views,
        needed: terms.map_or(0, |terms| terms.min_approvals),
        approvers: terms.map_or_else(Vec::new, |terms| {
            terms
                .approvers
                .iter()
                .map(|email| email.as_str().to_owned())
                .collect()
        }),
        left: left(run.approval_expires_at, now),
        expires_at: run.approval_expires_at.map(Into::into),
        open,
        passkey,
        approved_by_visitor,
        may_deny,
        approve_command: command("approve", ""),
        deny_command: command("deny", " --reason 'why'"),
        created_at: run.created_at.into(),
        state_after: run.state_version_after,
        upstream: run.status,
        job: job_view(job),
        run_id: run.run_id,
    }))
}

/// Whether an operator's word can stop a run there.
const fn stoppable(gate: GateState) -> bool {
    matches!(
        gate,
        GateState::Planned
            | GateState::Inspecting
            | GateState::AwaitingApproval
            | GateState::Approved
            | GateState::Rechecking
    )
}

/// Why approvals that were given in time count no more.
const fn voided(gate: GateState) -> Option<&'static str> {
    match gate {
        GateState::Superseded => Some(
            "What was approved changed before it could be applied. Every approval of it is void; \
             a new run asks anew.",
        ),
        GateState::Denied => Some("Somebody denied it in time, so the approvals are void."),
        GateState::Expired => Some("Too few approved in time, so the approvals are void."),
        GateState::Discarded => Some("It was discarded, so the approvals are void."),
        _ => None,
    }
}

/// How many objects the counts speak of.
fn all(changes: &Changes) -> u64 {
    changes.create
        + changes.update
        + changes.delete
        + changes.replace
        + changes.forget
        + changes.import
}

fn listed(summary: &Value) -> Vec<Object> {
    let list = summary["resources"].as_array();
    let list = list.map_or(&[][..], Vec::as_slice);
    list.iter().filter_map(Object::read).collect()
}

struct Piece {
    objects: Vec<ObjectView>,
    from: u64,
    earlier: Option<u64>,
    later: Option<u64>,
}

/// A piece of what the plan would change, destructive changes first.
async fn piece(app: &App, run: &RunRow, listed: &[Object], from: u64) -> Result<Piece, StoreError> {
    let kept = app.store.plan_objects(&run.run_id, from, PIECE + 1).await?;
    let mut objects: Vec<Object> = kept
        .iter()
        .filter_map(|entry| Object::read(&json!(entry)))
        .collect();
    // A run that was inspected before the pieces were kept has its summary.
    if objects.is_empty() && from == 0 {
        objects = listed.to_vec();
    }
    let most = PIECE as usize;
    let later = objects.len() > most;
    Ok(Piece {
        objects: objects.into_iter().take(most).map(object).collect(),
        from,
        earlier: (from > 0).then(|| from.saturating_sub(PIECE.into())),
        later: later.then_some(from + u64::from(PIECE)),
    })
}

async fn outside(app: &App, run: &RunRow, job: &JobRow) -> Result<Value, StoreError> {
    let filter = ObservationFilter {
        workspace_id: Some(run.workspace_id.clone()),
        since: Some(job.opened_at),
        before: None,
        limit: MAX_OUTSIDE,
    };
    let seen = app.store.observations(filter).await?;
    let seen = seen
        .iter()
        .map(|row| json!({ "says": watching::says(&row.observation), "at": row.observation.at }));
    Ok(Value::Array(seen.collect()))
}

fn remark(remark: Remark) -> RemarkView {
    RemarkView {
        grave: remark.grave,
        lead: Quoted::new(&remark.lead, "the gateway, with names from Terraform Cloud"),
        rest: Quoted::new(&remark.rest, "the gateway, with names from Terraform Cloud"),
    }
}

fn digests(run: &RunRow, subject: Option<&[u8]>) -> Vec<(&'static str, String)> {
    let hash = |hash: &Hash| hash.to_string();
    let contract = run.subject.as_ref();
    [
        ("Plan", run.plan_sha256.as_ref().map(hash)),
        ("Configuration", run.configuration_sha256.as_ref().map(hash)),
        (
            "Contract",
            contract.map(|subject| subject.policy_hash_b64u.to_string()),
        ),
        (
            "All that is signed",
            subject.map(|bytes| Hash::of(bytes).to_string()),
        ),
    ]
    .into_iter()
    .filter_map(|(name, hash)| Some((name, hash?)))
    .collect()
}

fn job_view(job: JobRow) -> JobView {
    JobView {
        id: job.job_id.to_string(),
        name: Quoted::new(&job.name, "the operator"),
        agent_short: short_did(&job.agent_did),
        agent_did: job.agent_did.to_string(),
        opened_by: job.opened_by,
        opened_at: job.opened_at.into(),
    }
}

fn refusal(stored: StoredRecord, run_id: &str) -> Option<RefusalView> {
    let Body::Refusal(refusal) = stored.record.body else {
        return None;
    };
    let code = refusal.code.parse::<ReasonCode>().ok();
    Some(RefusalView {
        at: stored.record.at.into(),
        title: code.map_or("Refused", ReasonCode::title),
        asked: Quoted::new(&refusal.asked, "the call"),
        here: refusal.run_id.as_deref() == Some(run_id),
        code: refusal.code,
    })
}

/// What somebody signed.
fn statement(row: StatementRow, passkeys: &[PasskeyRow]) -> Option<StatementView> {
    let (did, statement) = verified(&row, passkeys)?;
    Some(StatementView {
        approver: row.approver,
        approves: row.decision == Decision::Approve,
        counts: row.counted,
        at: row.at.into(),
        via: via(row.via),
        did_short: short_did(&did),
        did,
        reason: statement
            .reason
            .map(|text| Quoted::new(&text, "the approver")),
    })
}

/// Whether whoever opened the job may approve it.
fn opener(visit: &Visit, job: &JobRow, terms: Option<&Apply>) -> OpenerView {
    let Some(terms) = terms.filter(|terms| !terms.opener_may_approve) else {
        return OpenerView::May;
    };
    let barred = Barred::of(job, terms);
    let visitor = visit.operator.as_ref().map_or("", |visitor| visitor.name());
    match barred.address() {
        None => OpenerView::Unknown,
        Some(address) => OpenerView::Barred {
            address: address.to_owned(),
            here: visitor == job.opened_by || barred.is(visitor),
        },
    }
}

/// What the visitor's passkey would sign, when the visitor has one and is asked.
async fn passkey(app: &App, visit: &Visit, run: &RunRow) -> Option<PasskeyView> {
    let operator = visit.session.as_ref().map(|session| &session.operator)?;
    if !operator.may(Access::Needs(Role::Approver)) {
        return None;
    }
    // A refusal is no failure of the page: the visitor is no approver here, or has no passkey.
    let asked = Asked {
        approver: operator.name(),
        decision: Decision::Approve,
        reason: None,
        passkey: None,
    };
    let question = passkeys::question(app, &run.run_id, asked).await.ok()?;
    Some(PasskeyView::of(operator.name(), &question))
}
