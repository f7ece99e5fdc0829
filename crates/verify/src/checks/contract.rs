//! The contract: signed by an author whom the trust root names, and the same everywhere.

use policy::CompiledContract;
use policy::contract::{Apply, Audit, Permissions};
use proof::record::{Body, JobOpen};
use proof::trust::Role;
use proof::{EnvelopeType, Hash, Json};

use crate::checks::envelope_code;
use crate::code::Code;
use crate::document::Document;
use crate::report::Findings;
use crate::trust::Believed;

/// The verified contract.
#[derive(Debug)]
pub(crate) struct Contract {
    /// Its hash, by which everything names it.
    pub(crate) hash: Hash,
    /// Prepared for decisions.
    pub(crate) compiled: CompiledContract,
}

impl Contract {
    /// `permissions`
    pub(crate) fn permissions(&self) -> &Permissions {
        &self.compiled.contract().permissions
    }

    /// `permissions.apply`
    pub(crate) fn apply(&self) -> &Apply {
        &self.permissions().apply
    }

    /// Longest life of a token, in seconds.
    pub(crate) fn max_ttl_seconds(&self) -> i64 {
        self.compiled.contract().max_ttl_seconds.into()
    }

    /// `audit`
    pub(crate) fn audit(&self) -> &Audit {
        &self.compiled.contract().audit
    }

    /// Whether the contract lists this approver.
    pub(crate) fn allows_approver(&self, email: &str) -> bool {
        let approvers = &self.apply().approvers;
        approvers.iter().any(|allowed| allowed.as_str() == email)
    }
}

/// Verifies the contract's envelope and reads the contract.
pub(crate) fn check(
    document: &Document,
    believed: &Believed<'_>,
    findings: &mut Findings,
) -> Option<Contract> {
    let envelope = &document.bundle.wpc;
    let signed = match envelope.verify::<Json>(EnvelopeType::WorkPolicyContract) {
        Ok(signed) => signed,
        Err(error) => {
            findings.fail(envelope_code(&error), "/wpc", error.to_string());
            return None;
        }
    };
    let Some(author) = believed.root.author(&signed.signer) else {
        let detail = format!("{} is no author of the trust root", signed.signer);
        findings.fail(Code::AuthorUnknown, "/wpc/signer_did", detail);
        return None;
    };
    let contract = match policy::Contract::from_json(signed.payload) {
        Ok(contract) => contract,
        Err(errors) => {
            findings.fail(Code::ContractInvalid, "/wpc/payload", errors.to_string());
            return None;
        }
    };
    findings.note(format!("{} by {}", contract.name, author.name));
    Some(Contract {
        hash: signed.payload_hash,
        compiled: CompiledContract::compile(&contract),
    })
}

/// Everything names one job, one agent and one contract.
pub(crate) fn check_job(
    document: &Document,
    contract: &Contract,
    believed: &Believed<'_>,
    findings: &mut Findings,
) -> Option<()> {
    let bundle = &document.bundle;
    let job = &bundle.job;
    if let Some(Body::JobOpen(JobOpen {
        agent_did,
        name,
        policy_hash_b64u,
        gateway_did,
        ..
    })) = bundle.records.first().map(|record| &record.body)
    {
        let same = *agent_did == job.agent_did && *name == job.name;
        findings.require(same, Code::JobMismatch, "/job", "not as the job was opened");
        findings.require(
            *policy_hash_b64u == contract.hash,
            Code::PolicyHashMismatch,
            "/records/0/policy_hash_b64u",
            "the job was opened under another contract",
        );
        believed.require_key(
            gateway_did,
            Role::Receipt,
            document.moment_of(1, job.opened_at),
            "/records/0/gateway_did",
            findings,
        );
    }
    for (place, record) in document.placed() {
        if record.job_id != job.job_id {
            findings.fail(
                Code::JobMismatch,
                format!("{place}/job_id"),
                format!("a record of {}", record.job_id),
            );
        }
        let (policy_hash, agent) = match &record.body {
            Body::JobOpen(open) => (Some(open.policy_hash_b64u), Some(&open.agent_did)),
            Body::Intent(intent) => (
                Some(intent.policy_hash_b64u),
                Some(&intent.caller.agent_did),
            ),
            Body::Refusal(refusal) => (
                Some(refusal.policy_hash_b64u),
                Some(&refusal.caller.agent_did),
            ),
            Body::JobClose(close) => (Some(close.policy_hash_b64u), None),
            Body::Outcome(_) | Body::Approval(_) | Body::Revocation(_) => (None, None),
        };
        if policy_hash.is_some_and(|hash| hash != contract.hash) {
            findings.fail(
                Code::PolicyHashMismatch,
                format!("{place}/policy_hash_b64u"),
                "not the contract of the bundle",
            );
        }
        if agent.is_some_and(|agent| *agent != job.agent_did) {
            findings.fail(Code::JobMismatch, place, "another agent than the job's");
        }
    }
    for (n, token) in bundle.tokens.iter().enumerate() {
        let claims = &token.claims;
        let place = format!("/tokens/{n}/claims");
        findings.require(
            claims.mission_id == job.job_id.as_str() && claims.sub == job.agent_did,
            Code::JobMismatch,
            &place,
            "a token of another job or agent",
        );
        findings.require(
            claims.policy_hash_b64u == contract.hash,
            Code::PolicyHashMismatch,
            &place,
            "a token that is pinned to another contract",
        );
    }
    let open = bundle.records.first().map(|record| &record.body);
    // Nobody else can know it, and nothing in the bundle shows it.
    let confined = match open {
        Some(Body::JobOpen(JobOpen {
            opened_by,
            confinement: Some(confinement),
            ..
        })) => format!("; the agent was confined {confinement}, as {opened_by} says"),
        _ => String::new(),
    };
    findings.note(format!("{} under {}{confined}", job.job_id, contract.hash));
    Some(())
}
