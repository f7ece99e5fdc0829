//! Evidence: what the store knows about a closed job besides its records and receipts.

use proof::Envelope;
use proof::approval::SignedStatement;
use proof::bundle::{Job, Run, Token};
use store::{JobRow, RunRow, Store, TokenRow};

use super::BundleError;

/// What is little enough to be held: bounds of the gateway's keep it so.
pub(super) struct Parts {
    pub(super) job: Job,
    /// The contract's envelope.
    pub(super) wpc: Envelope,
    pub(super) tokens: Vec<Token>,
    pub(super) runs: Vec<Run>,
    pub(super) approvals: Vec<SignedStatement>,
}

impl Parts {
    /// Collects them for a closed job.
    pub(super) async fn collect(store: &dyn Store, job: &JobRow) -> Result<Self, BundleError> {
        let job_id = &job.job_id;
        let closing = job
            .state
            .closing()
            .ok_or_else(|| BundleError::NotClosed(job_id.clone()))?;
        let contract = store.contract(&job.policy_hash).await?;
        let contract = contract.ok_or(BundleError::Incomplete("the job's contract"))?;
        let statements = store.statements_of_job(job_id).await?;
        Ok(Self {
            job: Job {
                job_id: job_id.clone(),
                agent_did: job.agent_did.clone(),
                name: job.name.clone(),
                opened_at: job.opened_at,
                closed_at: closing.at,
            },
            wpc: contract.contract.envelope,
            tokens: store.tokens(job_id).await?.into_iter().map(token).collect(),
            runs: store.runs(job_id).await?.into_iter().map(run).collect(),
            approvals: statements
                .into_iter()
                .map(|statement| statement.envelope)
                .collect(),
        })
    }
}

fn token(row: TokenRow) -> Token {
    Token {
        claims: row.token.claims,
        token_hash: row.token.token_hash.to_hex(),
        issued_at: row.token.issued_at,
        signed_by: row.token.signed_by,
        holder: row.holder,
        first_used_at: row.first_used_at,
        last_used_at: row.last_used_at,
        revoked_at: row.revoked.map(|revoked| revoked.at),
        replays_refused: row.replays_refused,
    }
}

fn run(row: RunRow) -> Run {
    Run {
        run_id: row.run_id,
        workspace_id: row.workspace_id,
        configuration_version_id: row.configuration_version_id,
        configuration_sha256_b64u: row.configuration_sha256,
        plan_id: row.plan_id,
        plan_sha256_b64u: row.plan_sha256,
        plan_raw_sha256_b64u: row.plan_raw_sha256,
        changes: row.changes,
        status: row.status,
        state_version_before: row.state_version_before,
        state_version_after: row.state_version_after,
    }
}
