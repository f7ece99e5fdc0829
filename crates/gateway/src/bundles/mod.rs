//! Bundles: a closed job's evidence, sealed into one file; and the trust root to verify it by.
//!
//! The file is durable before the store knows of it, so that a bundle which the store names can
//! be served. A crash between closing and sealing is made good by [`resume`].

mod added;
mod announce;
mod evidence;
pub(crate) mod file;
mod pending;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use policy::contract::{Audit, Contract};
use proof::bundle::{SealError, Sealers};
use proof::checkpoint::Checkpoint;
use proof::record::JobId;
use proof::trust::{
    Approver, Author, GatewayKey, Log, Passkey, TRUST_ROOT, TrustRoot, WitnessKey,
    Witnesses as TrustedWitnesses,
};
use proof::{EnvelopeType, Hash, Timestamp};
use store::{BundleRow, JobFilter, JobPhase, JobRow, JobState, PasskeyRow, Store, StoreError};
use tokio::runtime::Handle;

pub use added::added;
pub use announce::announce;
pub use pending::{Pending, complete};

use crate::app::App;
use crate::config::Config;
use crate::keys::{Keys, SignError};
use crate::tlog::attest::Attested;
use crate::tlog::stamps::Stamper;
use crate::tlog::witnesses::Witnesses;

/// From when on the gateway's keys count: before the first release, because keys are made once
/// and there is no rotation yet.
const KEYS_NOT_BEFORE: i64 = 1_767_225_600_000; // 2026-01-01T00:00:00.000Z

/// One bundle is sealed at a time: two closings of one job must not write two files, and a
/// bundle is held in memory whole while it is signed.
static SEALING: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// How long it is waited for another gateway that seals the same job.
const CLAIMED: std::time::Duration = std::time::Duration::from_secs(60);

/// The parts of the gateway that seal bundles.
#[derive(Clone, Copy)]
pub struct Sealing<'a> {
    /// Where the evidence is.
    pub store: &'a dyn Store,
    /// Signs.
    pub keys: &'a Keys,
    /// Names the log and the folder.
    pub config: &'a Config,
    /// Cosign checkpoints, when there are any.
    pub witnesses: Option<&'a Witnesses>,
    /// Stamps checkpoints, when there is one.
    pub stamper: Option<&'a Stamper>,
}

impl<'a> Sealing<'a> {
    /// The parts of a running gateway.
    pub fn of(app: &'a App) -> Self {
        Self {
            store: &*app.store,
            keys: &app.keys,
            config: &app.config,
            witnesses: app.witnesses.as_ref(),
            stamper: app.stamper.as_ref(),
        }
    }
}

/// Why a bundle was not sealed or is not served.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The store does not answer, or does not take it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The job is not there, or still open.
    #[error("job `{0}` is not closed")]
    NotClosed(JobId),
    /// Others have not said yet what the job's contract asks for; it is tried again.
    #[error("the bundle waits: {0}")]
    Pending(String),
    /// Something that the bundle needs is missing from the store.
    #[error("the evidence is not complete: {0}")]
    Incomplete(&'static str),
    /// The evidence cannot be signed.
    #[error("the bundle cannot be signed")]
    Sign(#[from] SealError),
    /// The key for checkpoints or for closing does not sign.
    #[error(transparent)]
    Signer(#[from] SignError),
    /// The file cannot be written or read.
    #[error("cannot use the bundle file `{path}`")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// Seals a closed job; one that is sealed keeps its bundle.
///
/// # Errors
/// See [`BundleError`]. The job stays closed, and sealing can be tried again.
pub async fn seal(
    parts: Sealing<'_>,
    job_id: &JobId,
    now: Timestamp,
) -> Result<BundleRow, BundleError> {
    let _one = SEALING.lock().await;
    let name = format!("seal/{job_id}");
    claim(parts.store, &name).await?;
    let sealed = seal_claimed(parts, job_id, now).await;
    if let Err(error) = parts.store.release(&name).await {
        // It goes with this gateway, which may take it again.
        tracing::warn!(%error, job = %job_id, "a sealed job was not given back");
    }
    sealed
}

/// Waits until no other gateway on the store seals the job.
async fn claim(store: &dyn Store, name: &str) -> Result<(), StoreError> {
    let mut commits = store.commits();
    let claimed = async {
        while !store.claim(name).await? {
            // The sender lives as long as the store.
            let _ = commits.changed().await;
        }
        Ok(())
    };
    let waited = tokio::time::timeout(CLAIMED, claimed).await;
    waited.unwrap_or(Err(StoreError::Busy))
}

async fn seal_claimed(
    parts: Sealing<'_>,
    job_id: &JobId,
    now: Timestamp,
) -> Result<BundleRow, BundleError> {
    let job = parts.store.job(job_id).await?;
    let job = job.ok_or_else(|| BundleError::NotClosed(job_id.clone()))?;
    match &job.state {
        JobState::Open => return Err(BundleError::NotClosed(job_id.clone())),
        JobState::Sealed { .. } => {
            let known = parts.store.bundle(job_id).await?;
            return known.ok_or(BundleError::Incomplete("the row of the sealed bundle"));
        }
        JobState::Closed(_) => {}
    }
    let audit = audit(parts.store, &job).await?;
    let attested = Attested::now(parts, &audit).await?;
    if let Some(why) = attested.lacks(parts, &audit) {
        return Err(BundleError::Pending(why));
    }
    let evidence = evidence::collect(parts.store, &job, &attested).await?;
    let state_versions: Vec<String> = evidence
        .runs
        .iter()
        .filter_map(|run| run.state_version_after.clone())
        .collect();
    let (job_key, close_key) = (parts.keys.job(job_id), Arc::clone(&parts.keys.close));
    let receipt_did = parts.keys.receipt.did();
    let runtime = Handle::current();
    let path = path(parts.config, job_id);
    // Hashing and signing megabytes, then fsync: not on a thread that serves calls.
    let written = tokio::task::spawn_blocking(move || {
        let sealers = Sealers {
            job: &job_key,
            close: close_key.did(),
            sign_close: &|close| {
                let signing = close_key.envelope(EnvelopeType::JobClose, close, now);
                Ok::<_, BundleError>(runtime.block_on(signing)?)
            },
            receipt_did,
            at: now,
        };
        let bundle = proof::bundle::seal(evidence, &sealers)?;
        let bytes = bundle.to_file();
        file::write(&path, &bytes, 0o600).map_err(|source| BundleError::File { path, source })?;
        Ok::<_, BundleError>((Hash::of(&bytes), bytes.len() as u64))
    });
    let (sha256, bytes) = written
        .await
        .expect("sealing does not panic and is not cancelled")?;
    let row = BundleRow {
        job_id: job_id.clone(),
        sha256,
        bytes,
        sealed_at: now,
        verdict: None,
    };
    // Before the row: once there is one, nobody looks at the job again.
    added::await_others(parts, job_id, &attested).await;
    parts.store.save_bundle(row.clone(), state_versions).await?;
    tracing::info!(job = %job_id, %sha256, bytes, "the job's bundle is sealed");
    Ok(row)
}

/// What a job's contract asks of its bundle.
async fn audit(store: &dyn Store, job: &JobRow) -> Result<Audit, BundleError> {
    let unreadable = BundleError::Incomplete("the job's contract");
    let Some(row) = store.contract(&job.policy_hash).await? else {
        return Err(unreadable);
    };
    let contract = Contract::from_json(row.contract.envelope.payload);
    contract
        .map(|contract| contract.audit)
        .map_err(|_| unreadable)
}

/// Seals every job that was closed and not sealed, at start and while some wait for others. One
/// that cannot be sealed is reported and left for the next try; it keeps nobody else waiting.
/// Returns how many were sealed.
///
/// # Errors
/// When the store does not answer.
pub async fn resume(app: &App) -> Result<usize, StoreError> {
    let mut sealed = 0;
    let mut pending = 0;
    // Contracts that a bundle was just seen to wait under: the others of it wait, too.
    let mut waiting = HashSet::new();
    let mut before = None;
    loop {
        let filter = JobFilter {
            phase: Some(JobPhase::Closed),
            before: before.take(),
            limit: 100,
            ..JobFilter::default()
        };
        let jobs = app.store.jobs(filter).await?;
        let Some(last) = jobs.last() else {
            app.pending.set(pending);
            return Ok(sealed);
        };
        before = Some(last.job_id.clone());
        for job in jobs {
            if waiting.contains(&job.policy_hash) {
                pending += 1;
                continue;
            }
            match seal(Sealing::of(app), &job.job_id, app.now()).await {
                Ok(bundle) => {
                    app.metrics.bundles.count();
                    announce(app, &bundle).await;
                    sealed += 1;
                }
                Err(BundleError::Pending(why)) => {
                    tracing::info!(job = %job.job_id, why, "a bundle waits");
                    waiting.insert(job.policy_hash);
                    pending += 1;
                }
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(job = %job.job_id, error, "a closed job cannot be sealed");
                }
            }
        }
    }
}

/// Signs a checkpoint over the log as it is, and keeps it. The same size gets the same note.
///
/// # Errors
/// When the store does not answer, or the key does not sign.
pub async fn sign_checkpoint(parts: Sealing<'_>) -> Result<SignedCheckpoint, BundleError> {
    let size = parts.store.log_size().await?;
    if let Some(latest) = parts.store.latest_checkpoint().await?
        && latest.size == size
    {
        return Ok(SignedCheckpoint {
            size,
            note: latest.note,
        });
    }
    let root = match size {
        0 => proof::merkle::empty_root(),
        _ => {
            let root = parts.store.log_root(size).await?;
            root.ok_or(BundleError::Incomplete("the root of the log"))?
        }
    };
    let checkpoint = Checkpoint {
        origin: log_origin(parts.config),
        size,
        root,
    };
    let note = parts.keys.checkpoint.checkpoint(&checkpoint).await?;
    parts.store.save_checkpoint(&note, size).await?;
    Ok(SignedCheckpoint { size, note })
}

/// A checkpoint that the gateway has signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedCheckpoint {
    /// How many leaves it covers.
    pub size: u64,
    /// The signed note.
    pub note: String,
}

/// The name of this gateway's log.
pub fn log_origin(config: &Config) -> String {
    format!("{}/log", config.gateway_id)
}

/// Where a job's bundle lies.
pub fn path(config: &Config, job_id: &JobId) -> PathBuf {
    config.bundles_dir().join(format!("{job_id}.json"))
}

/// The trust root: what a verifier is given, outside every bundle. Passkeys that were removed are in
/// it, too, with the end of their time: what they signed before must stay verifiable.
pub fn trust_root(config: &Config, keys: &Keys, passkeys: &[PasskeyRow]) -> TrustRoot {
    let not_before = Timestamp::from_millis(KEYS_NOT_BEFORE);
    let gateway = keys.roles().map(|(role, did)| GatewayKey {
        did,
        role,
        not_before,
        not_after: None,
        revoked_at: None,
        revoked_from_leaf: None,
    });
    let authors = config.authors.iter();
    let approvers = config.approvers.iter();
    TrustRoot {
        trust_root: TRUST_ROOT.to_owned(),
        gateway: gateway.to_vec(),
        key_sets: Vec::new(),
        authors: authors
            .map(|author| Author {
                did: author.did.clone(),
                name: author.name.clone(),
            })
            .collect(),
        approvers: approvers
            .map(|approver| Approver {
                email: approver.email.clone(),
                did: approver.did.clone(),
            })
            .collect(),
        passkeys: passkeys
            .iter()
            .map(|row| Passkey {
                email: row.email.clone(),
                did: row.passkey.did.clone(),
                site: row.site(),
                not_before: row.enrolled_at,
                revoked_at: row.removed_at,
            })
            .collect(),
        log: Log {
            origin: log_origin(config),
            key: keys.checkpoint.did(),
        },
        witnesses: witnesses_of(config),
        tsa: match &config.log.timestamps {
            Some(timestamps) => timestamps.authorities.clone(),
            None => Vec::new(),
        },
    }
}

/// The witnesses of the configuration. A verifier is told of them even when none is required: a
/// contract may ask for them.
fn witnesses_of(config: &Config) -> Option<TrustedWitnesses> {
    let keys = config.log.witnesses.iter().map(|witness| WitnessKey {
        name: witness.name.clone(),
        did: witness.did.clone(),
    });
    let required = config.log.required_witnesses;
    (!config.log.witnesses.is_empty()).then(|| TrustedWitnesses {
        required,
        keys: keys.collect(),
    })
}

#[cfg(test)]
mod tests;
