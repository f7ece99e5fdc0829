//! The approval statement: what an approver signs is what the approver saw.

mod signed;

use serde::{Deserialize, Serialize};

use crate::hash::Hash;
use crate::passkey::ApproverDid;
use crate::record::JobId;
use crate::time::Timestamp;

pub use signed::{ApproverSignature, SignedStatement, StatementError, VerifiedStatement, to_sign};

/// The statement's kind and version.
pub const STATEMENT: &str = "clawgate.approval-statement/1";

/// Whether two e-mail addresses are one person's. Neither letter case nor what follows a `+` in
/// the local part (subaddressing, RFC 5233) makes another person.
pub fn is_same_person(one: &str, other: &str) -> bool {
    let parts = |address: &str| {
        let (local, domain) = address.rsplit_once('@').unwrap_or((address, ""));
        let local = local.split('+').next().unwrap_or_default();
        (local.to_ascii_lowercase(), domain.to_ascii_lowercase())
    };
    parts(one) == parts(other)
}

/// What the approver decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    /// This plan may be applied.
    Approve,
    /// It may not.
    Deny,
}

/// How many resources a plan touches, by what happens to them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Changes {
    /// New resources.
    pub create: u64,
    /// Changed in place.
    pub update: u64,
    /// Destroyed.
    pub delete: u64,
    /// Destroyed and made anew, in either order.
    pub replace: u64,
    /// Dropped from the state, left running.
    pub forget: u64,
    /// Taken into the state from outside.
    pub import: u64,
}

impl Changes {
    /// Whether anything is destroyed, replaced or dropped.
    pub const fn is_destructive(&self) -> bool {
        self.delete + self.replace + self.forget > 0
    }
}

/// Everything about one plan that an approval is bound to. A change of any member voids it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subject {
    /// The organization's name.
    pub organization: String,
    /// The workspace.
    pub workspace_id: String,
    /// The run.
    pub run_id: String,
    /// The configuration that was planned.
    pub configuration_version_id: String,
    /// Digest of the configuration as we uploaded it.
    pub configuration_sha256_b64u: Hash,
    /// The plan.
    pub plan_id: String,
    /// Digest of the full plan JSON, canonical, without `timestamp`.
    pub plan_sha256_b64u: Hash,
    /// The contract of the job.
    pub policy_hash_b64u: Hash,
    /// The job.
    pub job_id: JobId,
    /// What would change.
    pub changes: Changes,
    /// Estimated change of monthly cost in US dollars, as upstream wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<String>,
}

/// The statement that is signed (envelope type `approval_statement`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    /// Always [`STATEMENT`].
    pub statement: String,
    /// Yes or no.
    pub decision: Decision,
    /// The approver's e-mail address, as the contract names it.
    pub approver: String,
    /// The approver's key; must be the envelope's signer.
    pub approver_did: ApproverDid,
    /// The organization's name.
    pub organization: String,
    /// The workspace.
    pub workspace_id: String,
    /// The run.
    pub run_id: String,
    /// The configuration that was planned.
    pub configuration_version_id: String,
    /// Digest of the configuration as we uploaded it.
    pub configuration_sha256_b64u: Hash,
    /// The plan.
    pub plan_id: String,
    /// Digest of the plan.
    pub plan_sha256_b64u: Hash,
    /// The contract of the job.
    pub policy_hash_b64u: Hash,
    /// The job.
    pub job_id: JobId,
    /// What would change.
    pub changes: Changes,
    /// Estimated change of monthly cost in US dollars.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<String>,
    /// When it was signed.
    pub issued_at: Timestamp,
    /// From when on it is worth nothing.
    pub expires_at: Timestamp,
    /// Random; makes each statement unique, so that it can be used once.
    pub nonce: String,
    /// Why, in the approver's words; required for a denial.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Statement {
    /// What the statement is about, for comparison with what is about to happen.
    pub fn subject(&self) -> Subject {
        Subject {
            organization: self.organization.clone(),
            workspace_id: self.workspace_id.clone(),
            run_id: self.run_id.clone(),
            configuration_version_id: self.configuration_version_id.clone(),
            configuration_sha256_b64u: self.configuration_sha256_b64u,
            plan_id: self.plan_id.clone(),
            plan_sha256_b64u: self.plan_sha256_b64u,
            policy_hash_b64u: self.policy_hash_b64u,
            job_id: self.job_id.clone(),
            changes: self.changes,
            cost: self.cost.clone(),
        }
    }
}

/// What the approver adds to a subject to make a statement.
#[derive(Debug, Clone)]
pub struct Judgement {
    /// Yes or no.
    pub decision: Decision,
    /// The approver's e-mail address.
    pub approver: String,
    /// The approver's key.
    pub approver_did: ApproverDid,
    /// Now.
    pub issued_at: Timestamp,
    /// Not later than the gateway offers.
    pub expires_at: Timestamp,
    /// Random text.
    pub nonce: String,
    /// Why.
    pub reason: Option<String>,
}

impl Subject {
    /// Makes the statement to be signed.
    pub fn judge(self, judgement: Judgement) -> Statement {
        Statement {
            statement: STATEMENT.to_owned(),
            decision: judgement.decision,
            approver: judgement.approver,
            approver_did: judgement.approver_did,
            organization: self.organization,
            workspace_id: self.workspace_id,
            run_id: self.run_id,
            configuration_version_id: self.configuration_version_id,
            configuration_sha256_b64u: self.configuration_sha256_b64u,
            plan_id: self.plan_id,
            plan_sha256_b64u: self.plan_sha256_b64u,
            policy_hash_b64u: self.policy_hash_b64u,
            job_id: self.job_id,
            changes: self.changes,
            cost: self.cost,
            issued_at: judgement.issued_at,
            expires_at: judgement.expires_at,
            nonce: judgement.nonce,
            reason: judgement.reason,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::is_same_person;

    #[test]
    fn case_and_subaddresses_make_no_other_person() {
        for other in [
            "ada@example.com",
            "Ada@Example.COM",
            "ada+approvals@example.com",
            "ADA+x+y@example.com",
        ] {
            assert!(is_same_person("ada@example.com", other), "{other}");
            assert!(is_same_person(other, "ada+jobs@example.com"), "{other}");
        }
        for other in [
            "adam@example.com",
            "ada@example.org",
            "ada@sub.example.com",
            "ada",
            "",
        ] {
            assert!(!is_same_person("ada@example.com", other), "{other}");
        }
    }
}
