//! The inbox and a plan's page as plain data, and their templates.

use askama::Template;

use crate::pages::Frame;
use crate::pages::words::{Change, Moment, Quoted};
use crate::passkeys::Question;
use crate::trust_pulse::origin::Origin;

/// The inbox.
#[derive(Debug, Template)]
#[template(path = "approvals/inbox.html")]
pub(super) struct InboxPage {
    pub(super) frame: Frame,
    /// What waits for a person, longest first.
    pub(super) waiting: Vec<Waiting>,
    /// How many more wait.
    pub(super) more: usize,
    /// What is on its way, before the question or after the answer.
    pub(super) moving: Vec<Waiting>,
}

/// A run in the inbox.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) run_id: String,
    pub(super) verdict: String,
    pub(super) destructive: bool,
    pub(super) place: String,
    pub(super) job_name: Quoted,
    pub(super) standing: &'static str,
    pub(super) tone: &'static str,
    pub(super) since: Moment,
    pub(super) expires_at: Option<Moment>,
    pub(super) left: String,
}

/// One plan.
#[derive(Debug, Template)]
#[template(path = "approvals/plan.html")]
pub(super) struct PlanPage {
    pub(super) frame: Frame,
    pub(super) run_id: String,
    /// Where it stands, how that looks, and why it stands there.
    pub(super) standing: &'static str,
    pub(super) tone: &'static str,
    pub(super) reason: Option<Quoted>,
    /// The plan in a line; none before it was read.
    pub(super) verdict: Option<String>,
    pub(super) destructive: bool,
    pub(super) changes: Vec<Change>,
    pub(super) organization: String,
    pub(super) workspace_id: String,
    pub(super) cost: Option<String>,
    /// What stands around the workspace.
    pub(super) remarks: Vec<RemarkView>,
    /// Where an apply leads was read; without a remark, nowhere else.
    pub(super) alone: bool,
    /// The list does not hold what the counts say: this must not be signed.
    pub(super) contradicts: bool,
    pub(super) objects: Vec<ObjectView>,
    pub(super) objects_from: u64,
    pub(super) objects_all: u64,
    pub(super) earlier: Option<u64>,
    pub(super) later: Option<u64>,
    /// What the agent wrote about the run.
    pub(super) message: Option<Quoted>,
    pub(super) origin: Origin,
    pub(super) job: JobView,
    pub(super) contract: Option<ContractView>,
    pub(super) refused: Vec<RefusalView>,
    pub(super) refused_all: u64,
    pub(super) digests: Vec<(&'static str, String)>,
    pub(super) statements: Vec<StatementView>,
    /// Approvals were given and came to nothing: why.
    pub(super) voided: Option<&'static str>,
    pub(super) counted: usize,
    pub(super) needed: u32,
    pub(super) approvers: Vec<String>,
    pub(super) opener: OpenerView,
    pub(super) expires_at: Option<Moment>,
    pub(super) left: String,
    /// It can be approved.
    pub(super) open: bool,
    /// The visitor's passkey can approve it.
    pub(super) passkey: Option<PasskeyView>,
    /// The visitor has approved it already; others must.
    pub(super) approved_by_visitor: bool,
    /// Whoever looks may deny it.
    pub(super) may_deny: bool,
    pub(super) approve_command: String,
    pub(super) deny_command: String,
    pub(super) created_at: Moment,
    pub(super) state_after: Option<String>,
    /// Terraform Cloud's word for where the run stands.
    pub(super) upstream: String,
}

/// Something that stands around the workspace.
#[derive(Debug)]
pub(super) struct RemarkView {
    pub(super) grave: bool,
    pub(super) lead: Quoted,
    pub(super) rest: Quoted,
}

/// An object that the plan would change.
#[derive(Debug)]
pub(super) struct ObjectView {
    pub(super) action: String,
    pub(super) tone: &'static str,
    pub(super) destructive: bool,
    pub(super) address: Quoted,
    pub(super) from: Option<Quoted>,
    pub(super) reason: Option<Quoted>,
    pub(super) attributes: Vec<AttributeView>,
    /// How many places more differ.
    pub(super) left_out: u64,
    /// How many objects and lists in it were not compared.
    pub(super) not_compared: u64,
    pub(super) cut: bool,
}

/// A place that differs.
#[derive(Debug)]
pub(super) struct AttributeView {
    pub(super) name: Quoted,
    pub(super) before: SideView,
    pub(super) after: SideView,
    pub(super) forces: bool,
    /// Of a text of several lines, above both sides.
    pub(super) lines: Vec<LineView>,
}

/// A line that goes, comes, or stands around such.
#[derive(Debug)]
pub(super) struct LineView {
    /// `removed`, `added`, `kept`, `skipped`, or `bad` for lines that differ and are not shown.
    pub(super) class: &'static str,
    /// In words, for who does not see the colour.
    pub(super) word: &'static str,
    pub(super) sign: char,
    pub(super) text: Quoted,
}

/// A value.
#[derive(Debug)]
pub(crate) enum SideView {
    /// None, unknown, or a secret: in words.
    Word(&'static str),
    /// A short one.
    Short(Quoted),
    /// One that is folded: its beginning, and the whole.
    Long(String, Quoted),
}

/// The job that asks.
#[derive(Debug)]
pub(super) struct JobView {
    pub(super) id: String,
    pub(super) name: Quoted,
    pub(super) agent_did: String,
    pub(super) agent_short: String,
    pub(super) opened_by: String,
    pub(super) opened_at: Moment,
}

/// Whether whoever opened the job may approve it.
#[derive(Debug)]
pub(super) enum OpenerView {
    /// The contract says so.
    May,
    /// This person may not.
    Barred {
        /// Under this address.
        address: String,
        /// It is the visitor.
        here: bool,
    },
    /// It may not, but nobody knows who it is.
    Unknown,
}

/// The contract that holds.
#[derive(Debug)]
pub(super) struct ContractView {
    pub(super) name: String,
    pub(super) version: u32,
    pub(super) words: Vec<String>,
    pub(super) description: Option<Quoted>,
    pub(super) withdrawn: bool,
}

/// Something that was refused in this job.
#[derive(Debug)]
pub(super) struct RefusalView {
    pub(super) at: Moment,
    pub(super) code: String,
    pub(super) title: &'static str,
    pub(super) asked: Quoted,
    /// It was about this very run.
    pub(super) here: bool,
}

/// What somebody signed about this run.
#[derive(Debug)]
pub(super) struct StatementView {
    pub(super) approver: String,
    pub(super) approves: bool,
    pub(super) counts: bool,
    pub(super) at: Moment,
    pub(super) via: &'static str,
    pub(super) did: String,
    pub(super) did_short: String,
    pub(super) reason: Option<Quoted>,
}

/// What a passkey is asked to sign.
#[derive(Debug)]
pub(super) struct PasskeyView {
    /// Whose it is.
    pub(super) approver: String,
    /// Its short id.
    pub(super) passkey: String,
    /// The statement, as JSON text.
    pub(super) statement: String,
    /// Its hash: what is signed.
    pub(super) hash: String,
    /// For the browser, as JSON text.
    pub(super) options: String,
}

impl PasskeyView {
    pub(super) fn of(approver: &str, question: &Question) -> Self {
        Self {
            approver: approver.to_owned(),
            passkey: question.passkey.clone(),
            statement: String::from_utf8_lossy(&question.statement.to_jcs()).into_owned(),
            hash: question.hash.to_string(),
            options: question.options.to_string(),
        }
    }
}

/// The page on which a denial is signed: its reason is under the signature.
#[derive(Debug, Template)]
#[template(path = "approvals/sign.html")]
pub(super) struct SignPage {
    pub(super) frame: Frame,
    pub(super) run_id: String,
    pub(super) verdict: String,
    pub(super) reason: Quoted,
    pub(super) passkey: PasskeyView,
}
