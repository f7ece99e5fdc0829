//! From the store to a page.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};

use policy::Contract;
use proof::approval::{Decision, Statement};
use proof::record::{ApprovalVia, JobId};
use proof::{Hash, Json, Timestamp};
use store::{
    BundleRow, ContractRow, GateState, JobCounters, JobFilter, JobRow, JobState, Part, PasskeyRow,
    RunBrief, RunRow, StatementRow, Store, StoreError, TaskCallRow, TokenRow,
};

use super::outside;
use super::story::{BARS, Bar, Story, StoryBounds, bar_tone};
use super::view::{
    ApprovalView, BarView, BundleView, ClosedView, ContractView, Figure, JobPage, JobView,
    ListPage, ListedJob, ObjectView, Pulse, RunView, TaskView, TokenView,
};
use super::wanted::Wanted;
use super::words::{self, Moment, Quoted, count, number, short_did};
use crate::bundles;
use crate::config::Config;
use crate::pages::Frame;

/// Records that are read at a time: the most that the store gives.
const PAGE: u32 = 1000;

/// Most records that one page reads; the bundle has them all.
const MAX_RECORDS: u64 = 50_000;

/// Names of contracts that the list's form offers.
const MAX_NAMES: usize = 200;

/// Most objects that a run lists.
const MAX_OBJECTS: usize = 60;

const fn state_word(state: &JobState) -> &'static str {
    match state {
        JobState::Open => "open",
        JobState::Closed(_) => "closed",
        JobState::Sealed { .. } => "sealed",
    }
}

/// The list of jobs.
pub(super) async fn list(
    store: &dyn Store,
    frame: Frame,
    wanted: Wanted,
    filter: JobFilter,
) -> Result<ListPage, StoreError> {
    let limit = filter.limit;
    let rows = store.jobs(filter).await?;
    let full = u32::try_from(rows.len()).is_ok_and(|rows| rows >= limit);
    let last = rows.last().filter(|_| full);
    let next = last.map(|last| wanted.after(last.job_id.as_str()));
    let contracts = store.contracts().await?;
    let names = contracts.into_iter().map(|name| name.latest.contract.name);
    Ok(ListPage {
        frame,
        names: names.take(MAX_NAMES).collect(),
        jobs: listed_all(store, rows).await?,
        wanted,
        next,
    })
}

/// Jobs as a list shows them.
pub(super) async fn listed_all(
    store: &dyn Store,
    rows: Vec<JobRow>,
) -> Result<Vec<ListedJob>, StoreError> {
    let waiting = store.waiting().await?;
    let mut contracts: HashMap<Hash, Option<ContractRow>> = HashMap::new();
    let mut jobs = Vec::with_capacity(rows.len());
    for row in rows {
        if let Entry::Vacant(place) = contracts.entry(row.policy_hash) {
            place.insert(store.contract(&row.policy_hash).await?);
        }
        let contract = contracts.get(&row.policy_hash).cloned().flatten();
        let own = |run: &&RunBrief| run.job_id == row.job_id;
        let waits = waiting.iter().filter(own).count();
        jobs.push(listed(row, contract, waits as u64));
    }
    Ok(jobs)
}

fn listed(row: JobRow, contract: Option<ContractRow>, waiting: u64) -> ListedJob {
    let counters = row.counters;
    ListedJob {
        id: row.job_id.to_string(),
        name: Quoted::new(&row.name, "the operator"),
        state: state_word(&row.state),
        agent_short: short_did(&row.agent_did),
        contract: contract.as_ref().map_or_else(
            || row.policy_hash.to_string(),
            |row| row.contract.name.clone(),
        ),
        version: contract.map(|row| row.version),
        opened_at: row.opened_at.into(),
        opened_by: row.opened_by,
        model_calls: number(counters.model_calls),
        terraform_calls: number(counters.calls.saturating_sub(counters.model_calls)),
        refusals: counters.refusals,
        approvals: counters.approvals,
        denials: counters.denials,
        applies: counters.applies,
        waiting,
    }
}

/// One job; `None` when there is no such job.
pub(super) async fn job(
    store: &dyn Store,
    config: &Config,
    job_id: &JobId,
    frame: Frame,
    now: Timestamp,
) -> Result<Option<JobPage>, StoreError> {
    let Some(row) = store.job(job_id).await? else {
        return Ok(None);
    };
    let until = row
        .state
        .closing()
        .map_or(row.last_at.max(row.opened_at), |closing| closing.at);
    let mut story = Story::new(row.opened_at, until, StoryBounds::default());
    let mut last = 0;
    loop {
        let page = store.records(job_id, last, PAGE).await?;
        for stored in &page {
            story.push(&stored.record);
            last = stored.record.seq;
        }
        if page.is_empty() || last >= MAX_RECORDS {
            break;
        }
    }
    let pruned = bundles::pruned(store, job_id, Part::Records).await?;
    let bundle_pruned = bundles::pruned(store, job_id, Part::Bundle).await?;
    let unread = match pruned {
        None => row.counters.records.saturating_sub(last),
        Some(_) => 0,
    };
    let mut runs = Vec::new();
    let mut workspaces = BTreeSet::new();
    for row in store.runs(job_id).await? {
        workspaces.insert(row.workspace_id.clone());
        let tasks = store.task_calls(&row.run_id).await?;
        runs.push(run(row, tasks));
    }
    let (waiting, runs): (Vec<_>, Vec<_>) = runs.into_iter().partition(|run| run.tone == "waiting");
    let end = row.state.closing().map_or(now, |closing| closing.at);
    let outside = outside::during(store, &workspaces, row.opened_at, end).await?;
    let contract = store.contract(&row.policy_hash).await?;
    let statements = store.statements_of_job(job_id).await?;
    let passkeys = store.passkeys().await?;
    let page = JobPage {
        frame,
        figures: figures(&row.counters, &story),
        pulse: pulse(&story, row.opened_at, until),
        waiting,
        outside,
        contract: contract.map(|row| contract_view(row, config)),
        gap: (story.dropped() > 0).then(|| (story.kept_head(), story.dropped())),
        entries: story.entries().cloned().collect(),
        unread,
        pruned,
        bundle_pruned,
        models: story.models,
        refusals: story.refusals,
        refusals_more: story.refusals_more,
        approvals: statements
            .into_iter()
            .filter_map(|row| approval(row, &passkeys))
            .collect(),
        tokens: store.tokens(job_id).await?.into_iter().map(token).collect(),
        bundle: store.bundle(job_id).await?.map(bundle),
        receipts: format!("{}/receipts/", row.job_id),
        job: job_view(row, until, &runs),
        runs,
    };
    Ok(Some(page))
}

fn job_view(row: JobRow, until: Timestamp, runs: &[RunView]) -> JobView {
    let state = state_word(&row.state);
    let verdict = verdict(&row, runs);
    JobView {
        id: row.job_id.to_string(),
        name: Quoted::new(&row.name, "the operator"),
        state,
        agent_did: row.agent_did.to_string(),
        agent_short: short_did(&row.agent_did),
        confined: row.confinement.map(|confinement| confinement.to_string()),
        opened_by: row.opened_by,
        opened_at: row.opened_at.into(),
        closed: row.state.closing().map(|closing| ClosedView {
            at: closing.at.into(),
            by: closing.by.clone(),
            reason: Quoted::new(&closing.reason, "the operator"),
        }),
        lasted: words::span(row.opened_at, until),
        verdict,
    }
}

/// The whole in one sentence.
fn verdict(row: &JobRow, runs: &[RunView]) -> String {
    let begun = runs.iter().filter(|run| run.applied || run.unfinished);
    let unfinished = runs.iter().filter(|run| run.unfinished).count() as u64;
    let destructive = begun
        .flat_map(|run| &run.changes)
        .any(|change| change.destructive);
    let evidence = match row.state {
        JobState::Open => "The job is still open.",
        JobState::Closed(_) => {
            "The job is closed; its bundle is not sealed yet: it waits for what the contract asks of witnesses and timestamps, or failed and is tried again."
        }
        JobState::Sealed { .. } => "The evidence is sealed.",
    };
    format!(
        "{}. {evidence}",
        sentence(&row.counters, unfinished, destructive)
    )
}

/// What was applied and what was refused, without a full stop.
///
/// `unfinished` applies are not among `counters.applies`: see [`is_unfinished`].
pub(super) fn sentence(counters: &JobCounters, unfinished: u64, destructive: bool) -> String {
    let whole = count(counters.applies, "plan was applied", "plans were applied");
    let begun = count(unfinished, "apply was begun", "applies were begun");
    let by = match counters.approvals {
        0 => "without a person's approval",
        _ => "after a person approved",
    };
    let end = if destructive {
        ", with destructive changes"
    } else {
        ""
    };
    let left = "did not finish and may have changed something";
    let applied = match (counters.applies, unfinished) {
        (0, 0) => "Nothing was applied".to_owned(),
        (_, 0) => format!("{whole} {by}{end}"),
        (0, _) => format!("{begun} {by}{end}, but {left}"),
        (_, _) => format!("{whole} {by}{end}; {begun}, but {left}"),
    };
    let refused = match counters.refusals {
        0 => "nothing had to be refused".to_owned(),
        refusals => count(refusals, "request was refused", "requests were refused"),
    };
    format!("{applied}; {refused}")
}

/// Whether a run's apply was begun and has not ended well: what it did by then is done. Of a run
/// that was not applied whole, the verifier asks the same before it wants the apply recorded.
pub(super) fn is_unfinished(status: &str, state_version_after: Option<&str>) -> bool {
    let begun = matches!(status, "applying" | "apply_queued" | "confirmed");
    status != "applied" && (begun || state_version_after.is_some())
}

pub(super) fn figures(counters: &JobCounters, story: &Story) -> Vec<Figure> {
    let figure = |value: u64, label, tone, at| Figure {
        number: number(value),
        label,
        tone: if value == 0 { "none" } else { tone },
        at,
    };
    let terraform = counters.calls.saturating_sub(counters.model_calls);
    vec![
        figure(counters.model_calls, "model calls", "model", "asked"),
        figure(terraform, "other calls", "quiet", "asked"),
        figure(
            story.changes,
            "of all calls could change something",
            "change",
            "asked",
        ),
        figure(counters.refusals, "refused", "refused", "refused"),
        figure(
            counters.approvals,
            "approved by people",
            "person",
            "approved",
        ),
        figure(counters.applies, "applied", "applied", "applied"),
    ]
}

pub(super) fn pulse(story: &Story, from: Timestamp, to: Timestamp) -> Pulse {
    const HEIGHT: u32 = 64;
    const WIDTH: usize = 960;
    let most = story
        .bars
        .iter()
        .map(|bar| bar.records)
        .max()
        .unwrap_or(1)
        .max(1);
    let height = |bar: &Bar| {
        // By the logarithm, so that one apply is seen beside two hundred reads.
        let share = HEIGHT * (bar.records + 1).ilog2() / (most + 1).ilog2();
        // Reading alone never stands as high as what matters.
        if bar.weight >= 3 {
            share.max(HEIGHT * 5 / 8)
        } else {
            (share / 2).max(HEIGHT / 8)
        }
    };
    let bars = story
        .bars
        .iter()
        .enumerate()
        .filter(|(_, bar)| bar.records > 0);
    let bars = bars.map(|(index, bar)| BarView {
        x: index * WIDTH / BARS,
        y: HEIGHT - height(bar),
        height: height(bar),
        tone: bar_tone(bar).as_str(),
    });
    let label = "When things happened in this job: reads, model calls, changes, refusals, \
                 people's decisions and applies";
    Pulse {
        bars: bars.collect(),
        label: label.to_owned(),
        from: from.into(),
        to: to.into(),
    }
}

fn contract_view(row: ContractRow, config: &Config) -> ContractView {
    let published = row.contract;
    let contract = Contract::from_json(published.envelope.payload.clone()).ok();
    let document = serde_json::to_string_pretty(&published.envelope.payload).unwrap_or_default();
    let author = config
        .authors
        .iter()
        .find(|author| author.did == published.author_did);
    ContractView {
        name: published.name,
        version: row.version,
        hash: published.policy_hash.to_string(),
        author: author.map(|author| author.name.clone()),
        author_short: short_did(&published.author_did),
        author_did: published.author_did.to_string(),
        published_at: published.published_at.into(),
        withdrawn: row
            .withdrawn
            .map(|withdrawal| (withdrawal.at.into(), withdrawal.by)),
        words: contract.as_ref().map(Contract::summary).unwrap_or_default(),
        description: contract
            .and_then(|contract| contract.description)
            .map(|text| Quoted::new(&text, "the author")),
        document,
    }
}

/// What somebody signed, and with which key. The store verified it once; it is verified again
/// here, since a page must not show what was not signed.
pub(crate) fn verified(row: &StatementRow, passkeys: &[PasskeyRow]) -> Option<(String, Statement)> {
    let site = passkeys
        .iter()
        .find(|passkey| passkey.passkey.did == row.envelope.signer_did);
    let site = site.map(PasskeyRow::site);
    let signed = row.envelope.verify(site.as_ref()).ok()?;
    Some((signed.signer().to_string(), signed.into_statement()))
}

/// How a statement was given.
pub(crate) const fn via(via: ApprovalVia) -> &'static str {
    match via {
        ApprovalVia::Key => "signed with the approver's key",
        ApprovalVia::Token => "signed with the approver's key, carried by an elevated token",
        ApprovalVia::Passkey => "signed with the approver's passkey",
    }
}

fn approval(row: StatementRow, passkeys: &[PasskeyRow]) -> Option<ApprovalView> {
    let (did, statement) = verified(&row, passkeys)?;
    Some(ApprovalView {
        approver: statement.approver,
        approves: statement.decision == Decision::Approve,
        counted: Some(row.counted),
        at: row.at.into(),
        expires_at: statement.expires_at.into(),
        via: via(row.via),
        did_short: short_did(&did),
        did,
        run_id: statement.run_id,
        workspace: format!("{} / {}", statement.organization, statement.workspace_id),
        plan_digest: statement.plan_sha256_b64u.to_string(),
        changes: words::changes(&statement.changes),
        reason: statement
            .reason
            .map(|text| Quoted::new(&text, "the approver")),
        cost: statement.cost,
    })
}

fn run(row: RunRow, tasks: Vec<TaskCallRow>) -> RunView {
    let (standing, tone) = words::standing(row.gate);
    let objects = row.summary.as_ref().map(objects).unwrap_or_default();
    let applied = row.gate == GateState::Applied;
    RunView {
        unfinished: !applied && is_unfinished(&row.status, row.state_version_after.as_deref()),
        applied,
        id: row.run_id,
        place: format!("{} / {}", row.organization, row.workspace_id),
        standing,
        tone,
        reason: row.gate_reason.map(|text| Quoted::new(&text, "the gate")),
        status: row.status,
        created_at: row.created_at.into(),
        expires_at: row.approval_expires_at.map(Moment::from),
        changes: words::changes(&row.changes.unwrap_or_default()),
        more_objects: objects.len().saturating_sub(MAX_OBJECTS),
        objects: objects.into_iter().take(MAX_OBJECTS).collect(),
        configuration: row.configuration_sha256.map(|hash| hash.to_string()),
        plan: row.plan_sha256.map(|hash| hash.to_string()),
        before: row.state_version_before,
        after: row.state_version_after,
        tasks: tasks.into_iter().map(task).collect(),
    }
}

fn task(row: TaskCallRow) -> TaskView {
    let passed = row.judgement.map(|judgement| judgement.passed);
    TaskView {
        id: row.call.task_result_id,
        stage: row.call.stage.as_str(),
        said: match passed {
            None => "not answered",
            Some(true) => "passed",
            Some(false) => "failed",
        },
        failed: passed == Some(false),
    }
}

/// The objects of an approver's summary.
fn objects(summary: &Json) -> Vec<ObjectView> {
    let listed = summary
        .get("resources")
        .and_then(Json::as_array)
        .unwrap_or_default();
    listed
        .iter()
        .filter_map(|object| {
            let address = object.get("address")?.as_str()?;
            let actions = object
                .get("actions")
                .and_then(Json::as_array)
                .unwrap_or_default();
            let actions: Vec<&str> = actions.iter().filter_map(Json::as_str).collect();
            let ends = |action: &&str| matches!(*action, "delete" | "replace" | "forget");
            Some(ObjectView {
                destructive: actions.iter().any(ends),
                action: if actions.is_empty() {
                    "move".into()
                } else {
                    actions.join(" + ")
                },
                address: Quoted::new(address, "the configuration"),
            })
        })
        .collect()
}

fn token(row: TokenRow) -> TokenView {
    let hash = row.token.token_hash.to_hex();
    let scopes: Vec<String> = row
        .token
        .claims
        .scope
        .iter()
        .cloned()
        .map(String::from)
        .collect();
    TokenView {
        hash_short: hash.chars().take(12).collect(),
        hash,
        scopes: scopes.join(" "),
        issued_by: row.token.issued_by,
        issued_at: row.token.issued_at.into(),
        expires_at: row.token.claims.expires_at().into(),
        holder: row.holder,
        revoked: row.revoked.map(|revoked| (revoked.at.into(), revoked.by)),
        replays: row.replays_refused,
    }
}

fn bundle(row: BundleRow) -> BundleView {
    BundleView {
        href: format!("{}/bundle.json", row.job_id),
        file: format!("{}.bundle.json", row.job_id),
        sha256_hex: row.sha256.to_hex(),
        sha256_b64u: row.sha256.to_string(),
        size: words::bytes(row.bytes),
        sealed_at: row.sealed_at.into(),
        verdict: row.verdict,
    }
}
