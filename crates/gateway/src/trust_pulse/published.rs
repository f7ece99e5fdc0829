//! A sealed job as outsiders read it: one page, made from the bundle and from nothing else, so
//! that it cannot show more than the bundle gives away.
//!
//! The same page stands behind a link of the gateway ([`crate::operator`], `published`) and in a
//! folder that needs no server ([`folder`]). It brings the bundle as inert text, for the script
//! that checks it: pages that are opened from disk may fetch nothing.

use askama::Template;
use policy::Contract;
use policy::terraform::Operation;
use proof::approval::Statement;
use proof::bundle::{Bundle, Run};
use proof::record::{ApprovalRecord, Body, JobClose, JobOpen, Lane, Record};
use proof::{Hash, JsonError};
use store::JobCounters;

use super::check::CheckForm;
use super::read::{figures, is_unfinished, pulse, sentence, via};
use super::story::{Entry, ModelTally, Refused, Story, StoryBounds, What};
use super::view::{ApprovalView, Figure, Pulse};
use super::words::{self, Change, Moment, Quoted, short_did};
use crate::pages::assets;

/// Largest bundle that a page carries in itself, in bytes; beside a larger one the reader
/// chooses the file. Links are not made for larger ones.
pub const MAX_CARRIED_BYTES: usize = 8 * 1024 * 1024;

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// Not a bundle.
    #[error("the bundle cannot be read")]
    Unreadable(#[from] JsonError),
    /// A bundle without its first or last record, or with a contract of another version.
    #[error("the bundle has no {0}")]
    Incomplete(&'static str),
    /// The template failed.
    #[error("the page cannot be rendered")]
    Render(#[from] askama::Error),
}

/// Where the files lie that the page loads, and whom it may ask.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// The style sheet.
    pub style: String,
    /// The script.
    pub script: String,
    /// The icon.
    pub icon: String,
    /// The page says itself what it may load, because no server does.
    pub from_disk: bool,
}

impl Surroundings {
    /// Behind a link: two levels below the listener's root.
    pub fn of_link() -> Self {
        let asset = |name: &str| format!("../../assets/{name}");
        Self {
            style: asset(&assets::STYLE.name),
            script: asset(&assets::CHECK.name),
            icon: asset(&assets::ICON.name),
            from_disk: false,
        }
    }
}

/// A file of a folder.
#[derive(Debug)]
pub struct PublishedFile {
    /// Its name.
    pub name: &'static str,
    /// What is in it.
    pub content: Vec<u8>,
}

/// The folder: open `index.html`. There is no trust root in it: keys that come with the evidence
/// prove nothing, and a check against them would look as if they did.
///
/// # Errors
/// See [`PublishError`].
pub fn folder(bundle: Vec<u8>) -> Result<Vec<PublishedFile>, PublishError> {
    let surroundings = Surroundings {
        style: "style.css".to_owned(),
        script: "check.js".to_owned(),
        icon: "icon.svg".to_owned(),
        from_disk: true,
    };
    let page = render(&bundle, surroundings)?;
    let file = |name, content: &[u8]| PublishedFile {
        name,
        content: content.to_vec(),
    };
    Ok(vec![
        file("index.html", page.as_bytes()),
        file("style.css", assets::STYLE.content.as_bytes()),
        file("check.js", assets::CHECK.content.as_bytes()),
        file("icon.svg", assets::ICON.content.as_bytes()),
        file("bundle.json", &bundle),
    ])
}

/// The page.
///
/// # Errors
/// See [`PublishError`].
pub fn render(bundle: &[u8], surroundings: Surroundings) -> Result<String, PublishError> {
    Ok(PublishedPage::of(bundle, surroundings)?.render()?)
}

#[derive(Debug, Template)]
#[template(path = "trust_pulse/published.html")]
struct PublishedPage {
    surroundings: Surroundings,
    job: PublishedJob,
    figures: Vec<Figure>,
    pulse: Pulse,
    contract: PublishedContract,
    entries: Vec<Entry>,
    gap: Option<(usize, usize)>,
    models: Vec<ModelTally>,
    refusals: Vec<Refused>,
    refusals_more: u64,
    approvals: Vec<ApprovalView>,
    runs: Vec<PublishedRun>,
    receipts: &'static str,
    /// SHA-256 of the bundle, as `sha256sum` prints it.
    sha256: String,
    size: String,
    /// The bundle, with what would be markup escaped.
    carried: Option<String>,
    form: CheckForm,
}

#[derive(Debug)]
struct PublishedJob {
    id: String,
    name: Quoted,
    agent_did: String,
    opened_by: String,
    confined: Option<String>,
    opened_at: Moment,
    closed_by: String,
    closed_at: Moment,
    reason: Quoted,
    tokens: usize,
    verdict: String,
    lasted: String,
}

#[derive(Debug)]
struct PublishedContract {
    name: String,
    hash: String,
    author_did: String,
    words: Vec<String>,
    description: Option<Quoted>,
    document: String,
}

#[derive(Debug)]
struct PublishedRun {
    id: String,
    workspace: String,
    status: Quoted,
    applied: bool,
    /// Its apply was begun and has not ended well.
    unfinished: bool,
    changes: Vec<Change>,
    configuration: Option<String>,
    plan: Option<String>,
    before: Option<String>,
    after: Option<String>,
}

impl PublishedPage {
    fn of(bytes: &[u8], surroundings: Surroundings) -> Result<Self, PublishError> {
        let bundle: Bundle = proof::json::from_slice(bytes)?;
        let (opened_at, closed_at) = (bundle.job.opened_at, bundle.job.closed_at);
        let mut story = Story::new(opened_at, closed_at, StoryBounds::default());
        for record in &bundle.records {
            story.push(record);
        }
        let counters = counters(&bundle);
        let runs: Vec<PublishedRun> = bundle.terraform.runs.iter().map(run).collect();
        let unfinished = runs.iter().filter(|run| run.unfinished).count() as u64;
        let begun = runs.iter().filter(|run| run.applied || run.unfinished);
        let destructive = begun
            .flat_map(|run| &run.changes)
            .any(|change| change.destructive);
        let carried = (bytes.len() <= MAX_CARRIED_BYTES).then(|| as_inert_text(bytes));
        Ok(Self {
            job: job(&bundle, sentence(&counters, unfinished, destructive))?,
            figures: figures(&counters, &story),
            pulse: pulse(&story, opened_at, closed_at),
            contract: contract(&bundle)?,
            gap: (story.dropped() > 0).then(|| (story.kept_head(), story.dropped())),
            entries: story.entries().cloned().collect(),
            models: story.models,
            refusals: story.refusals,
            refusals_more: story.refusals_more,
            approvals: approvals(&bundle),
            runs,
            receipts: "",
            sha256: Hash::of(bytes).to_hex(),
            size: words::bytes(bytes.len() as u64),
            form: CheckForm {
                href: None,
                brought: carried.is_some(),
            },
            carried,
            surroundings,
        })
    }
}

/// The bundle as text between tags. Canonical JSON holds no character that HTML would change
/// besides these two.
fn as_inert_text(bundle: &[u8]) -> String {
    let text = String::from_utf8_lossy(bundle);
    text.replace('&', "&amp;").replace('<', "&lt;")
}

fn counters(bundle: &Bundle) -> JobCounters {
    let mut counters = JobCounters::default();
    for record in &bundle.records {
        counters.records += 1;
        match &record.body {
            Body::Intent(intent) if intent.lane != Lane::Gateway => {
                counters.calls += 1;
                counters.model_calls += u64::from(intent.lane == Lane::Model);
            }
            Body::Refusal(_) => counters.refusals += 1,
            Body::Approval(approval) => match approval.decision {
                proof::approval::Decision::Approve => {
                    let late = came_in_time(bundle, record, &approval.run_id) == Some(false);
                    counters.approvals += u64::from(!late);
                }
                proof::approval::Decision::Deny => counters.denials += 1,
            },
            _ => {}
        }
    }
    let applied = bundle.terraform.runs.iter().filter(|run| is_applied(run));
    counters.applies = applied.count() as u64;
    counters
}

fn is_applied(run: &Run) -> bool {
    run.status == "applied"
}

fn job(bundle: &Bundle, verdict: String) -> Result<PublishedJob, PublishError> {
    let open = bundle
        .records
        .first()
        .and_then(|record| match &record.body {
            Body::JobOpen(open) => Some(open),
            _ => None,
        });
    let close = bundle.records.last().and_then(|record| match &record.body {
        Body::JobClose(close) => Some(close),
        _ => None,
    });
    let JobOpen {
        opened_by,
        confinement,
        ..
    } = open.ok_or(PublishError::Incomplete("beginning"))?;
    let JobClose {
        closed_by, reason, ..
    } = close.ok_or(PublishError::Incomplete("end"))?;
    let job = &bundle.job;
    Ok(PublishedJob {
        id: job.job_id.to_string(),
        name: Quoted::new(&job.name, "the operator"),
        agent_did: job.agent_did.to_string(),
        opened_by: opened_by.clone(),
        confined: confinement.as_ref().map(ToString::to_string),
        opened_at: job.opened_at.into(),
        closed_by: closed_by.clone(),
        closed_at: job.closed_at.into(),
        reason: Quoted::new(reason, "the operator"),
        tokens: bundle.tokens.len(),
        verdict,
        lasted: words::span(job.opened_at, job.closed_at),
    })
}

fn contract(bundle: &Bundle) -> Result<PublishedContract, PublishError> {
    let payload = &bundle.wpc.payload;
    let contract = Contract::from_json(payload.clone());
    let contract = contract.map_err(|_| PublishError::Incomplete("contract of this version"))?;
    Ok(PublishedContract {
        words: contract.summary(),
        name: contract.name,
        hash: bundle.wpc.payload_hash_b64u.to_string(),
        author_did: bundle.wpc.signer_did.to_string(),
        description: contract
            .description
            .map(|text| Quoted::new(&text, "the author")),
        document: serde_json::to_string_pretty(payload).unwrap_or_default(),
    })
}

/// What people signed, with the record that took it in.
fn approvals(bundle: &Bundle) -> Vec<ApprovalView> {
    let recorded = |hash: Hash| {
        bundle.records.iter().find_map(|record| match &record.body {
            Body::Approval(entry) if entry.statement_hash_b64u == hash => Some((record, entry)),
            _ => None,
        })
    };
    let signed = bundle.approvals.iter();
    signed
        .filter_map(|envelope| {
            let statement = envelope.payload.to_typed::<Statement>().ok()?;
            let (record, entry) = recorded(envelope.payload_hash_b64u)?;
            let counted = came_in_time(bundle, record, &entry.run_id);
            Some(approval(record, entry, statement, counted))
        })
        .collect()
}

/// Whether a statement came in time to count, as far as the bundle tells: one before the gateway
/// first asked for the run's apply did, one after it last did so came too late. About a run that
/// the gateway did not apply the bundle does not tell: the plan may have lapsed or changed by then.
fn came_in_time(bundle: &Bundle, statement: &Record, run_id: &str) -> Option<bool> {
    let asked = bundle.records.iter().filter(|record| match &record.body {
        Body::Intent(intent) => {
            intent.lane == Lane::Gateway
                && intent.operation == Operation::ApplyRun.name()
                && intent.run_id.as_deref() == Some(run_id)
        }
        _ => false,
    });
    let mut asked = asked.map(|record| record.seq);
    let first = asked.next()?;
    let last = asked.next_back().unwrap_or(first);
    match statement.seq {
        seq if seq < first => Some(true),
        seq if seq > last => Some(false),
        _ => None,
    }
}

fn approval(
    record: &Record,
    entry: &ApprovalRecord,
    statement: Statement,
    counted: Option<bool>,
) -> ApprovalView {
    let did = statement.approver_did.to_string();
    ApprovalView {
        approver: statement.approver,
        approves: statement.decision == proof::approval::Decision::Approve,
        counted,
        at: record.at.into(),
        expires_at: statement.expires_at.into(),
        via: via(entry.via),
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
    }
}

fn run(run: &Run) -> PublishedRun {
    PublishedRun {
        id: run.run_id.clone(),
        workspace: run.workspace_id.clone(),
        status: Quoted::new(&run.status, "Terraform Cloud"),
        applied: is_applied(run),
        unfinished: is_unfinished(&run.status, run.state_version_after.as_deref()),
        changes: words::changes(&run.changes.unwrap_or_default()),
        configuration: run.configuration_sha256_b64u.map(|hash| hash.to_string()),
        plan: run.plan_sha256_b64u.map(|hash| hash.to_string()),
        before: run.state_version_before.clone(),
        after: run.state_version_after.clone(),
    }
}

#[cfg(test)]
mod tests {
    use clawverify::testing::{Story, bytes, seal};

    use super::*;

    const LATE: &str = "too late to count";
    const UNKNOWN: &str = "the bundle does not say";
    const UNFINISHED: &str = "1 apply was begun after a person approved, but did not finish and \
                              may have changed something; 1 request was refused";

    /// The page of a job with one approved apply, changed by `edit`.
    fn page(edit: impl Fn(&mut Bundle)) -> String {
        let story = Story::apply();
        let mut bundle = seal(story.evidence(), &story.keys);
        edit(&mut bundle);
        render(&bytes(&bundle), Surroundings::of_link()).unwrap()
    }

    #[test]
    fn an_apply_that_did_not_finish_is_told() {
        for (status, leaves_state, says) in [
            ("applied", true, "1 plan was applied after a person"),
            ("errored", true, UNFINISHED),
            ("canceled", true, UNFINISHED),
            ("force_canceled", true, UNFINISHED),
            ("applying", false, UNFINISHED),
            ("confirmed", false, UNFINISHED),
            ("errored", false, "Nothing was applied; "),
            ("discarded", false, "Nothing was applied; "),
        ] {
            let page = page(|bundle| {
                let run = &mut bundle.terraform.runs[0];
                run.status = status.to_owned();
                run.state_version_after.take_if(|_| !leaves_state);
            });
            assert!(page.contains(says), "{status}: {says}");
            let on_card = page.contains("Its apply was begun and did not finish");
            assert_eq!(on_card, says == UNFINISHED, "{status}");
        }
    }

    #[test]
    fn an_approval_counts_when_it_came_before_the_apply() {
        let is_apply = |record: &Record| {
            matches!(&record.body, Body::Intent(intent)
                if intent.lane == Lane::Gateway && intent.operation == "apply-run")
        };
        let in_time = page(|_| ());
        assert!(!in_time.contains(LATE) && !in_time.contains(UNKNOWN));
        assert!(in_time.contains("applied after a person approved"));

        let late = page(|bundle| {
            let records = &mut bundle.records;
            let approval = |record: &Record| matches!(record.body, Body::Approval(_));
            let approval = records.iter().position(approval).unwrap();
            let apply = records.iter().position(is_apply).unwrap();
            assert!(approval < apply);
            records[approval].seq = records[apply].seq + 1;
        });
        assert!(late.contains(LATE) && !late.contains(UNKNOWN));
        assert!(late.contains("applied without a person"));

        let never = page(|bundle| {
            let apply = bundle.records.iter().position(is_apply).unwrap();
            bundle.records.remove(apply);
        });
        assert!(!never.contains(LATE) && never.contains(UNKNOWN));
    }
}
