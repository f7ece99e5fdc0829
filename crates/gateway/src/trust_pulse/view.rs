//! The pages as plain data, and their templates.

use askama::Template;

use super::outside::EventView;
use super::story::{Entry, ModelTally, Refused, What};
use super::wanted::Wanted;
use super::words::{Change, Moment, Quoted};
use crate::pages::Frame;

/// One job.
#[derive(Debug, Template)]
#[template(path = "trust_pulse/job.html")]
pub struct JobPage {
    /// What stands around it.
    pub frame: Frame,
    /// Which job, and who.
    pub job: JobView,
    /// The numbers that matter.
    pub figures: Vec<Figure>,
    /// The strip over the whole job.
    pub pulse: Pulse,
    /// Plans that wait for a person.
    pub waiting: Vec<RunView>,
    /// What was seen in the job's workspaces, while it was open, that did not come through the
    /// gateway.
    pub outside: Vec<EventView>,
    /// The contract.
    pub contract: Option<ContractView>,
    /// What was asked, in order.
    pub entries: Vec<Entry>,
    /// After how many entries some are left out, and how many.
    pub gap: Option<(usize, usize)>,
    /// Records that the page did not read at all.
    pub unread: u64,
    /// Model calls of the whole job.
    pub models: Vec<ModelTally>,
    /// Refusals by code and what was asked.
    pub refusals: Vec<Refused>,
    /// Refusals of other kinds.
    pub refusals_more: u64,
    /// What people signed.
    pub approvals: Vec<ApprovalView>,
    /// Terraform runs.
    pub runs: Vec<RunView>,
    /// The job's tokens.
    pub tokens: Vec<TokenView>,
    /// That the records' content was removed, in words.
    pub pruned: Option<String>,
    /// That the bundle was.
    pub bundle_pruned: Option<String>,
    /// The sealed bundle.
    pub bundle: Option<BundleView>,
    /// What stands before a receipt's id in its address.
    pub receipts: String,
}

impl JobPage {
    /// Somebody else than its holder tried to use a token.
    fn token_met_a_stranger(&self) -> bool {
        self.tokens.iter().any(|token| token.replays > 0)
    }

    /// A token was revoked before its time.
    fn token_was_revoked(&self) -> bool {
        self.tokens.iter().any(|token| token.revoked.is_some())
    }

    /// A run was applied, at least in part.
    fn something_was_applied(&self) -> bool {
        self.runs.iter().any(|run| run.applied || run.unfinished)
    }
}

/// Which job, and who.
#[derive(Debug)]
pub struct JobView {
    /// Its id.
    pub id: String,
    /// Its name, in the opener's words.
    pub name: Quoted,
    /// Open, closed or sealed.
    pub state: &'static str,
    /// The key of the agent in this job.
    pub agent_did: String,
    /// The same, shortened.
    pub agent_short: String,
    /// The operator who opened it.
    pub opened_by: String,
    /// How the agent is confined, as the opener says.
    pub confined: Option<String>,
    /// When.
    pub opened_at: Moment,
    /// The end, when there is one.
    pub closed: Option<ClosedView>,
    /// From the first to the last record.
    pub lasted: String,
    /// The whole in one sentence.
    pub verdict: String,
}

/// How a job ended.
#[derive(Debug)]
pub struct ClosedView {
    /// When.
    pub at: Moment,
    /// The operator, or the gateway.
    pub by: String,
    /// Why.
    pub reason: Quoted,
}

/// A number that matters.
#[derive(Debug)]
pub struct Figure {
    /// The number.
    pub number: String,
    /// What it counts.
    pub label: &'static str,
    /// How it looks.
    pub tone: &'static str,
    /// Where on the page it is explained.
    pub at: &'static str,
}

/// The strip.
#[derive(Debug)]
pub struct Pulse {
    /// Its bars.
    pub bars: Vec<BarView>,
    /// What it shows, for those who do not see it.
    pub label: String,
    /// When it begins.
    pub from: Moment,
    /// When it ends.
    pub to: Moment,
}

/// One bar of the strip, in its own coordinates: 960 wide, 64 high.
#[derive(Debug)]
pub struct BarView {
    /// Left edge.
    pub x: usize,
    /// Upper edge.
    pub y: u32,
    /// Height.
    pub height: u32,
    /// How it looks.
    pub tone: &'static str,
}

/// The contract.
#[derive(Debug)]
pub struct ContractView {
    /// The name that its versions share.
    pub name: String,
    /// Its number within the name.
    pub version: u32,
    /// Its hash.
    pub hash: String,
    /// The author, as the operator's configuration names the key.
    pub author: Option<String>,
    /// The author's key.
    pub author_did: String,
    /// The same, shortened.
    pub author_short: String,
    /// When it was published.
    pub published_at: Moment,
    /// When and by whom it was withdrawn.
    pub withdrawn: Option<(Moment, String)>,
    /// What it says, one sentence each.
    pub words: Vec<String>,
    /// The author's own description.
    pub description: Option<Quoted>,
    /// The document.
    pub document: String,
}

/// Something that a person signed.
#[derive(Debug)]
pub struct ApprovalView {
    /// The approver.
    pub approver: String,
    /// Yes, or no.
    pub approves: bool,
    /// It came in time to count; `None` where that is not known.
    pub counted: Option<bool>,
    /// When it was recorded.
    pub at: Moment,
    /// From when on it is worth nothing.
    pub expires_at: Moment,
    /// How it was given.
    pub via: &'static str,
    /// The approver's key.
    pub did: String,
    /// The same, shortened.
    pub did_short: String,
    /// The run.
    pub run_id: String,
    /// The workspace.
    pub workspace: String,
    /// Digest of the plan.
    pub plan_digest: String,
    /// What the plan would change.
    pub changes: Vec<Change>,
    /// Why, in the approver's words.
    pub reason: Option<Quoted>,
    /// Estimated change of the monthly cost in US dollars.
    pub cost: Option<String>,
}

/// A Terraform run.
#[derive(Debug)]
pub struct RunView {
    /// Its id.
    pub id: String,
    /// Organization and workspace.
    pub place: String,
    /// Where it stands, in words.
    pub standing: &'static str,
    /// How that looks.
    pub tone: &'static str,
    /// Why it stands there.
    pub reason: Option<Quoted>,
    /// Upstream's status.
    pub status: String,
    /// When it was made.
    pub created_at: Moment,
    /// When an approval would come too late.
    pub expires_at: Option<Moment>,
    /// What it changes.
    pub changes: Vec<Change>,
    /// The objects, destructive changes first.
    pub objects: Vec<ObjectView>,
    /// How many more objects there are.
    pub more_objects: usize,
    /// Digest of the configuration.
    pub configuration: Option<String>,
    /// Digest of the plan.
    pub plan: Option<String>,
    /// State version before.
    pub before: Option<String>,
    /// State version that it made.
    pub after: Option<String>,
    /// It was applied.
    pub applied: bool,
    /// Its apply was begun and has not ended well.
    pub unfinished: bool,
    /// What Terraform Cloud was told when it asked.
    pub tasks: Vec<TaskView>,
}

/// An answer to Terraform Cloud.
#[derive(Debug)]
pub struct TaskView {
    /// Upstream's id of the answer; its page is named after it.
    pub id: String,
    /// Upstream's name of the stage.
    pub stage: &'static str,
    /// `passed`, `failed`, or `not answered`.
    pub said: &'static str,
    /// It was a no.
    pub failed: bool,
}

/// An object that a run changes.
#[derive(Debug)]
pub struct ObjectView {
    /// What happens to it.
    pub action: String,
    /// It ends or is let go.
    pub destructive: bool,
    /// Its address, in the configuration's words.
    pub address: Quoted,
}

/// A token.
#[derive(Debug)]
pub struct TokenView {
    /// Its hash, shortened.
    pub hash_short: String,
    /// Its hash.
    pub hash: String,
    /// What it granted.
    pub scopes: String,
    /// Who asked for it.
    pub issued_by: String,
    /// When.
    pub issued_at: Moment,
    /// When it ends.
    pub expires_at: Moment,
    /// Whom it was bound to.
    pub holder: Option<String>,
    /// Its revocation.
    pub revoked: Option<(Moment, String)>,
    /// How often somebody else tried to use it.
    pub replays: u64,
}

/// The sealed bundle.
#[derive(Debug)]
pub struct BundleView {
    /// Where to get it, relative to the page.
    pub href: String,
    /// Name of the file.
    pub file: String,
    /// Its digest, as `sha256sum` prints it.
    pub sha256_hex: String,
    /// Its digest, as our documents write it.
    pub sha256_b64u: String,
    /// Its size.
    pub size: String,
    /// When it was sealed.
    pub sealed_at: Moment,
    /// What the verifier said right after.
    pub verdict: Option<String>,
}

/// The list of jobs.
#[derive(Debug, Template)]
#[template(path = "trust_pulse/list.html")]
pub struct ListPage {
    /// What stands around it.
    pub frame: Frame,
    /// What somebody looks for.
    pub(super) wanted: Wanted,
    /// Names of contracts.
    pub names: Vec<String>,
    /// The jobs, newest first.
    pub jobs: Vec<ListedJob>,
    /// The rest of the address of the next part.
    pub next: Option<String>,
}

/// A job in the list.
#[derive(Debug)]
pub struct ListedJob {
    /// Its id.
    pub id: String,
    /// Its name, in the opener's words.
    pub name: Quoted,
    /// Open, closed or sealed.
    pub state: &'static str,
    /// The agent's key, shortened.
    pub agent_short: String,
    /// Name of the contract.
    pub contract: String,
    /// Version of the contract.
    pub version: Option<u32>,
    /// When it was opened.
    pub opened_at: Moment,
    /// By whom.
    pub opened_by: String,
    /// Model calls.
    pub model_calls: String,
    /// Calls of Terraform Cloud, and connections to other hosts.
    pub terraform_calls: String,
    /// Refusals.
    pub refusals: u64,
    /// Approvals.
    pub approvals: u64,
    /// Denials.
    pub denials: u64,
    /// Applies.
    pub applies: u64,
    /// Plans that wait for a person.
    pub waiting: u64,
}
