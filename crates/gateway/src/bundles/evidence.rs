//! Evidence: everything that the store knows about a closed job.

use proof::bundle::{Evidence, Inclusion, Job, LogProof, LoggedKeySet, Run, Token};
use proof::record::{JobId, Record};
use store::{JobRow, RunRow, Store, StoredRecord, TokenRow};

use super::BundleError;
use crate::tlog::attest::Attested;

/// How many records are read at a time: the most that the store gives.
const PAGE: u32 = 1000;

/// Collects a closed job's evidence, with proofs under the given checkpoint.
pub(super) async fn collect(
    store: &dyn Store,
    job: &JobRow,
    attested: &Attested,
) -> Result<Evidence, BundleError> {
    let job_id = &job.job_id;
    let closing = job
        .state
        .closing()
        .ok_or_else(|| BundleError::NotClosed(job_id.clone()))?;
    let contract = store.contract(&job.policy_hash).await?;
    let contract = contract.ok_or(BundleError::Incomplete("the job's contract"))?;
    let stored = records(store, job_id).await?;
    let log = prove(store, &stored, attested).await?;
    let receipts = store.receipts(job_id).await?;
    let statements = store.statements_of_job(job_id).await?;
    Ok(Evidence {
        job: Job {
            job_id: job_id.clone(),
            agent_did: job.agent_did.clone(),
            name: job.name.clone(),
            opened_at: job.opened_at,
            closed_at: closing.at,
        },
        wpc: contract.contract.envelope,
        policy_hash: job.policy_hash,
        tokens: store.tokens(job_id).await?.into_iter().map(token).collect(),
        runs: store.runs(job_id).await?.into_iter().map(run).collect(),
        tool_receipts: receipts.tool,
        gateway_receipts: receipts.gateway,
        approvals: statements
            .into_iter()
            .map(|statement| statement.envelope)
            .collect(),
        records: stored.into_iter().map(|stored| stored.record).collect(),
        log,
    })
}

/// Every record of the job, in order; a gap is an error.
async fn records(store: &dyn Store, job_id: &JobId) -> Result<Vec<StoredRecord>, BundleError> {
    let mut all: Vec<StoredRecord> = Vec::new();
    loop {
        let after = all.last().map_or(0, |stored| stored.record.seq);
        let page = store.records(job_id, after, PAGE).await?;
        if page.is_empty() {
            break;
        }
        all.extend(page);
    }
    let gapless = (1..)
        .zip(&all)
        .all(|(seq, stored)| stored.record.seq == seq);
    let closed = all.last().is_some_and(|last| is_close(&last.record));
    match (gapless, closed) {
        (false, _) => Err(BundleError::Incomplete("a record in the middle")),
        (true, false) => Err(BundleError::Incomplete("the closing record")),
        (true, true) => Ok(all),
    }
}

fn is_close(record: &Record) -> bool {
    matches!(record.body, proof::record::Body::JobClose(_))
}

async fn prove(
    store: &dyn Store,
    records: &[StoredRecord],
    attested: &Attested,
) -> Result<LogProof, BundleError> {
    let mut sets = store.key_sets().await?;
    sets.retain(|set| set.leaf_index < attested.checkpoint.size);
    let leaves = records.iter().map(|stored| stored.leaf_index);
    let leaves = leaves
        .chain(sets.iter().map(|set| set.leaf_index))
        .collect();
    let paths = store.inclusions(leaves, attested.checkpoint.size).await?;
    let mut paths = paths.ok_or(BundleError::Incomplete("a record in the log"))?;
    let of_sets = paths.split_off(records.len());
    let proofs = records.iter().zip(paths).map(|(stored, path)| Inclusion {
        seq: stored.record.seq,
        index: stored.leaf_index,
        path,
    });
    Ok(LogProof {
        checkpoint: attested.checkpoint.note.clone(),
        timestamp: attested.timestamp.clone(),
        proofs: proofs.collect(),
        key_sets: sets
            .into_iter()
            .zip(of_sets)
            .map(|(set, path)| LoggedKeySet {
                index: set.leaf_index,
                path,
                entry: set.entry,
            })
            .collect(),
    })
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
