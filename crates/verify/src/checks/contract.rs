//! The contract: signed by an author whom the trust root names, and the same everywhere.

use proof::record::{Body, JobOpen};
use proof::{EnvelopeType, Hash, Json};

use crate::checks::envelope_code;
use crate::code::Code;
use crate::document::Document;
use crate::report::Findings;
use crate::trust::Believed;

/// What the other checks need of the contract.
#[derive(Debug)]
pub(crate) struct Contract {
    /// Its hash, by which everything names it.
    pub(crate) hash: Hash,
    /// `permissions.organization`.
    pub(crate) organization: Option<String>,
    /// `permissions.workspaces`.
    pub(crate) workspaces: Vec<String>,
    /// `permissions.apply`.
    pub(crate) apply: Apply,
    /// `cst_constraints.max_ttl_seconds`.
    pub(crate) max_ttl_seconds: i64,
}

/// Who may have what applied.
#[derive(Debug)]
pub(crate) struct Apply {
    pub(crate) allowed: bool,
    pub(crate) requires_approval: bool,
    pub(crate) approvers: Vec<String>,
    pub(crate) min_approvals: usize,
    pub(crate) approval_ttl_seconds: i64,
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
    let Some(contract) = read(&signed.payload, signed.payload_hash) else {
        findings.fail(Code::ContractInvalid, "/wpc/payload", "it does not load");
        return None;
    };
    findings.note(format!("{} by {}", contract.hash, author.name));
    Some(contract)
}

fn read(payload: &Json, hash: Hash) -> Option<Contract> {
    let permissions = payload.get("permissions")?;
    let texts = |json: Option<&Json>| -> Vec<String> {
        let entries = json.and_then(Json::as_array).unwrap_or_default();
        entries
            .iter()
            .filter_map(Json::as_str)
            .map(str::to_owned)
            .collect()
    };
    let apply = |name: &str| permissions.at(&["apply", name]);
    Some(Contract {
        hash,
        organization: permissions
            .get("organization")
            .and_then(Json::as_str)
            .map(str::to_owned),
        workspaces: texts(permissions.get("workspaces")),
        apply: Apply {
            allowed: apply("allowed").and_then(Json::as_bool).unwrap_or(false),
            requires_approval: apply("requires_approval")
                .and_then(Json::as_bool)
                .unwrap_or(true),
            approvers: texts(apply("approvers")),
            min_approvals: usize::try_from(
                apply("min_approvals")
                    .and_then(Json::as_integer)
                    .unwrap_or(1),
            )
            .ok()?,
            approval_ttl_seconds: apply("approval_ttl_seconds")
                .and_then(Json::as_integer)
                .unwrap_or(3600),
        },
        max_ttl_seconds: payload
            .at(&["cst_constraints", "max_ttl_seconds"])
            .and_then(Json::as_integer)
            .unwrap_or(900),
    })
}

/// Everything names one job, one agent and one contract.
pub(crate) fn check_job(
    document: &Document,
    contract: &Contract,
    findings: &mut Findings,
) -> Option<()> {
    let bundle = &document.bundle;
    let job = &bundle.job;
    if let Some(Body::JobOpen(JobOpen {
        agent_did,
        name,
        policy_hash_b64u,
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
    findings.note(format!("{} under {}", job.job_id, contract.hash));
    Some(())
}
