//! Jobs, their runs and their tokens, as answers have them.

use policy::decimal::Decimal;
use proof::approval::Changes;
use proof::record::{Confinement, JobId, Record};
use proof::token::Scope;
use proof::{Did, Hash, Timestamp};
use schemars::JsonSchema;
use serde::Serialize;
use store::{JobRow, JobState, PrunedRecord, RunRow, TokenRow};

use super::Phase;
use crate::shapes;

#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::operator) struct Jobs {
    pub(super) jobs: Vec<Job>,
}

/// A job.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::operator) struct Job {
    #[schemars(with = "shapes::JobId")]
    job_id: JobId,
    name: String,
    /// The agent: the job's own key.
    #[schemars(with = "shapes::Did")]
    agent_did: Did,
    /// The contract that the job is pinned to.
    #[schemars(with = "shapes::Sha256")]
    policy_hash_b64u: Hash,
    opened_by: String,
    /// The opener's address, when it is known.
    opened_by_email: Option<String>,
    /// How the agent is confined, as the opener says.
    #[schemars(with = "Option<shapes::Confinement>")]
    confinement: Option<Confinement>,
    /// How long it stays open when nobody renews its lease, when it has one.
    lease_seconds: Option<u32>,
    #[schemars(with = "shapes::Timestamp")]
    opened_at: Timestamp,
    /// The last thing that happened.
    #[schemars(with = "shapes::Timestamp")]
    last_at: Timestamp,
    state: Phase,
    counters: Counters,
    #[serde(flatten)]
    end: End,
}

/// What a job has when it is closed, and then when it is sealed.
#[derive(Debug, Default, Serialize, JsonSchema)]
struct End {
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<shapes::Timestamp>")]
    closed_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    closed_by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    close_reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<shapes::Sha256>")]
    bundle_sha256_b64u: Option<Hash>,
}

impl From<JobRow> for Job {
    fn from(job: JobRow) -> Self {
        let mut end = End::default();
        if let Some(closing) = job.state.closing() {
            end.closed_at = Some(closing.at);
            end.closed_by = Some(closing.by.clone());
            end.close_reason = Some(closing.reason.clone());
        }
        if let JobState::Sealed { bundle, .. } = &job.state {
            end.bundle_sha256_b64u = Some(*bundle);
        }
        Self {
            state: Phase::from(&job.state),
            counters: Counters::of(&job),
            job_id: job.job_id,
            name: job.name,
            agent_did: job.agent_did,
            policy_hash_b64u: job.policy_hash,
            opened_by: job.opened_by,
            opened_by_email: job.opened_by_email,
            confinement: job.confinement,
            lease_seconds: job.lease_seconds,
            opened_at: job.opened_at,
            last_at: job.last_at,
            end,
        }
    }
}

/// A job, with what it has used.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::operator) struct JobDetails {
    #[serde(flatten)]
    pub(super) job: Job,
    pub(super) model_usage: ModelUsage,
    /// The job's page.
    pub(super) trust_pulse: String,
}

/// What a job has used of its model budgets.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::operator) struct ModelUsage {
    /// Calls, those in flight included.
    pub(super) calls: u64,
    /// Tokens of settled calls.
    pub(super) tokens: u64,
    /// Tokens reserved for calls in flight.
    pub(super) reserved: u64,
    /// Money of settled calls.
    #[schemars(with = "shapes::Decimal")]
    pub(super) cost_usd: Decimal,
    /// Money reserved for calls in flight.
    #[schemars(with = "shapes::Decimal")]
    pub(super) cost_reserved_usd: Decimal,
}

/// What happened in a job.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::operator) struct Counters {
    records: u64,
    /// Admitted calls, both lanes.
    calls: u64,
    /// Those of them that went to a model provider.
    model_calls: u64,
    refusals: u64,
    approvals: u64,
    denials: u64,
    applies: u64,
    /// Calls in flight, or cut off.
    open_intents: u64,
}

impl Counters {
    pub(in crate::operator) fn of(job: &JobRow) -> Self {
        let counters = &job.counters;
        Self {
            records: counters.records,
            calls: counters.calls,
            model_calls: counters.model_calls,
            refusals: counters.refusals,
            approvals: counters.approvals,
            denials: counters.denials,
            applies: counters.applies,
            open_intents: counters.open_intents,
        }
    }
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "JobRecords")]
pub(in crate::operator) struct Records {
    #[schemars(with = "shapes::JobId")]
    pub(super) job_id: JobId,
    pub(super) records: Vec<RecordView>,
    /// In place of them, once their content was removed after its retention.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) pruned: Option<PrunedRecords>,
}

/// What stays of records whose content was removed.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::operator) struct PrunedRecords {
    /// When that began.
    #[schemars(with = "shapes::Timestamp")]
    pub(super) at: Timestamp,
    /// Who let it go.
    pub(super) by: String,
    pub(super) records: Vec<PrunedRecordView>,
}

/// What stays of one record: its place, and its hash in the log.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "PrunedRecord")]
pub(in crate::operator) struct PrunedRecordView {
    leaf_index: u64,
    #[schemars(with = "shapes::Sha256")]
    leaf_sha256_b64u: Hash,
    seq: u64,
    #[schemars(with = "shapes::Timestamp")]
    at: Timestamp,
    /// Its kind.
    record: String,
}

impl From<PrunedRecord> for PrunedRecordView {
    fn from(pruned: PrunedRecord) -> Self {
        Self {
            leaf_index: pruned.leaf_index,
            leaf_sha256_b64u: pruned.leaf_hash,
            seq: pruned.seq,
            at: pruned.at,
            record: pruned.kind,
        }
    }
}

/// One record with its place in the log.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "JobRecord")]
pub(in crate::operator) struct RecordView {
    pub(super) leaf_index: u64,
    #[schemars(with = "shapes::Document")]
    pub(super) record: Record,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "JobRuns")]
pub(in crate::operator) struct Runs {
    #[schemars(with = "shapes::JobId")]
    pub(super) job_id: JobId,
    pub(super) runs: Vec<RunView>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Run")]
pub(in crate::operator) struct RunView {
    run_id: String,
    organization: String,
    workspace_id: String,
    configuration_version_id: Option<String>,
    #[schemars(with = "Option<shapes::Sha256>")]
    configuration_sha256_b64u: Option<Hash>,
    plan_id: Option<String>,
    apply_id: Option<String>,
    /// The agent wants it applied.
    apply_wished: bool,
    #[schemars(with = "shapes::GateState")]
    gate: &'static str,
    /// Why it stands there, by reason code or in words.
    gate_reason: Option<String>,
    #[schemars(with = "Option<shapes::Sha256>")]
    plan_sha256_b64u: Option<Hash>,
    #[schemars(with = "Option<shapes::Sha256>")]
    plan_raw_sha256_b64u: Option<Hash>,
    #[schemars(with = "Option<shapes::Changes>")]
    changes: Option<Changes>,
    /// Terraform Cloud's status, as last seen.
    status: String,
    state_version_before: Option<String>,
    state_version_after: Option<String>,
    #[schemars(with = "Option<shapes::Timestamp>")]
    approval_expires_at: Option<Timestamp>,
    #[schemars(with = "shapes::Timestamp")]
    created_at: Timestamp,
    #[schemars(with = "shapes::Timestamp")]
    updated_at: Timestamp,
}

impl From<RunRow> for RunView {
    fn from(run: RunRow) -> Self {
        Self {
            run_id: run.run_id,
            organization: run.organization,
            workspace_id: run.workspace_id,
            configuration_version_id: run.configuration_version_id,
            configuration_sha256_b64u: run.configuration_sha256,
            plan_id: run.plan_id,
            apply_id: run.apply_id,
            apply_wished: run.apply_wished,
            gate: run.gate.as_str(),
            gate_reason: run.gate_reason,
            plan_sha256_b64u: run.plan_sha256,
            plan_raw_sha256_b64u: run.plan_raw_sha256,
            changes: run.changes,
            status: run.status,
            state_version_before: run.state_version_before,
            state_version_after: run.state_version_after,
            approval_expires_at: run.approval_expires_at,
            created_at: run.created_at,
            updated_at: run.updated_at,
        }
    }
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "JobTokens")]
pub(in crate::operator) struct Tokens {
    #[schemars(with = "shapes::JobId")]
    pub(super) job_id: JobId,
    pub(super) tokens: Vec<TokenView>,
}

/// A token without its text.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Token")]
pub(in crate::operator) struct TokenView {
    #[schemars(with = "shapes::HexSha256")]
    token_hash: String,
    #[schemars(with = "Vec<shapes::Scope>")]
    scopes: Vec<Scope>,
    #[schemars(with = "shapes::Timestamp")]
    issued_at: Timestamp,
    issued_by: String,
    #[schemars(with = "shapes::Timestamp")]
    expires_at: Timestamp,
    /// Whom it was bound to at first use.
    holder: Option<String>,
    #[schemars(with = "Option<shapes::Timestamp>")]
    first_used_at: Option<Timestamp>,
    #[schemars(with = "Option<shapes::Timestamp>")]
    last_used_at: Option<Timestamp>,
    /// How often somebody else tried to use it.
    replays_refused: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<shapes::Timestamp>")]
    revoked_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked_by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revocation_reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    elevated: Option<Elevated>,
}

/// What an elevated token approves.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ElevatedApproval")]
struct Elevated {
    run_id: String,
    approver: String,
    #[schemars(with = "Option<shapes::Timestamp>")]
    used_at: Option<Timestamp>,
}

impl From<TokenRow> for TokenView {
    fn from(row: TokenRow) -> Self {
        let token = row.token;
        let (at, by, reason) = match row.revoked {
            Some(revoked) => (Some(revoked.at), Some(revoked.by), Some(revoked.reason)),
            None => (None, None, None),
        };
        let used_at = row.elevated_used_at;
        Self {
            token_hash: token.token_hash.to_hex(),
            expires_at: token.claims.expires_at(),
            scopes: token.claims.scope,
            issued_at: token.issued_at,
            issued_by: token.issued_by,
            holder: row.holder,
            first_used_at: row.first_used_at,
            last_used_at: row.last_used_at,
            replays_refused: row.replays_refused,
            revoked_at: at,
            revoked_by: by,
            revocation_reason: reason,
            elevated: token.elevated.map(|elevated| Elevated {
                run_id: elevated.run_id,
                approver: elevated.approver,
                used_at,
            }),
        }
    }
}
