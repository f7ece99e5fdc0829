//! Bundles: a closed job's evidence, sealed into one file; and the trust root to verify it by.
//!
//! The file is durable before the store knows of it, so that a bundle which the store names can
//! be served. A crash between closing and sealing is made good by [`resume`].

mod added;
mod announce;
mod evidence;
pub mod export;
pub(crate) mod file;
mod pending;
mod place;
mod writing;

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use policy::contract::{Audit, Contract};
use proof::Timestamp;
use proof::bundle::SealError;
use proof::checkpoint::Checkpoint;
use proof::record::JobId;
use proof::trust::{
    Approver, Author, GatewayKey, Log, Passkey, Role, SeenKeySet, TRUST_ROOT, TrustRoot,
    WitnessKey, Witnesses as TrustedWitnesses,
};
use store::{
    BundleRow, Conflict, JobFilter, JobPhase, JobRow, JobState, Part, PasskeyRow, Store,
    StoreError, kill_point,
};

pub use added::added;
pub use announce::announce;
pub use pending::{Pending, complete};
pub use place::{KEPT, folder, open, path, path_before, read, remove};

use crate::app::App;
use crate::config::Config;
use crate::keys::{KEYS_NOT_BEFORE, KeyRing, Keys, SignError};
use crate::tlog::attest::Attested;
use crate::tlog::stamps::Stamper;
use crate::tlog::witnesses::Witnesses;

/// One bundle is sealed at a time: two closings of one job must not write two files, and a
/// bundle takes its size on the disk three times while it is made.
static SEALING: tokio::sync::Mutex<Unsaved> = tokio::sync::Mutex::const_new(Unsaved::new());

/// Files of bundles that were written, and of which the store did not say that it knows them. They
/// go with the next try: a store that fails must not fill the disk.
type Unsaved = BTreeMap<JobId, PathBuf>;

/// How long it is waited for another gateway that seals the same job.
const CLAIMED: std::time::Duration = std::time::Duration::from_secs(60);

/// The parts of the gateway that seal bundles.
#[derive(Clone, Copy)]
pub struct Sealing<'a> {
    /// Where the evidence is.
    pub store: &'a dyn Store,
    /// Signs.
    pub keys: &'a KeyRing,
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
    /// The file holds something else than was sealed.
    #[error("the file of the bundle of job `{0}` is not the one that was sealed")]
    Altered(JobId),
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

/// Seals a closed job; one that is sealed keeps its bundle. The clock is asked when the bundle's
/// turn has come and others have spoken, which can take minutes: verifiers compare the time of
/// sealing with an authority's timestamp.
///
/// # Errors
/// See [`BundleError`]. The job stays closed, and sealing can be tried again.
pub async fn seal(
    parts: Sealing<'_>,
    job_id: &JobId,
    clock: impl Fn() -> Timestamp,
) -> Result<BundleRow, BundleError> {
    let mut unsaved = SEALING.lock().await;
    let name = format!("seal/{job_id}");
    claim(parts.store, &name).await?;
    let sealed = seal_claimed(parts, job_id, clock, &mut unsaved).await;
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
    clock: impl Fn() -> Timestamp,
    unsaved: &mut Unsaved,
) -> Result<BundleRow, BundleError> {
    let job = parts.store.job(job_id).await?;
    let job = job.ok_or_else(|| BundleError::NotClosed(job_id.clone()))?;
    match &job.state {
        JobState::Open => Err(BundleError::NotClosed(job_id.clone())),
        JobState::Sealed { .. } => {
            let row = sealed(parts.store, job_id).await?;
            // What the store had not answered for may be what it knows.
            let left = unsaved.remove(job_id);
            if let Some(left) = left.filter(|left| !left.ends_with(place::name(&row.sha256))) {
                added::remove(&left).await;
            }
            Ok(row)
        }
        JobState::Closed(closing) => {
            if let Some(left) = unsaved.remove(job_id) {
                added::remove(&left).await;
            }
            seal_closed(parts, &job, closing.at, clock, unsaved).await
        }
    }
}

/// The bundle of a job that is sealed.
async fn sealed(store: &dyn Store, job_id: &JobId) -> Result<BundleRow, BundleError> {
    let known = store.bundle(job_id).await?;
    known.ok_or(BundleError::Incomplete("the row of the sealed bundle"))
}

/// Seals a job that was seen to be closed. Another gateway may have sealed it by the end of this, if
/// this one stood still for so long that it was thought gone; then that bundle counts.
async fn seal_closed(
    parts: Sealing<'_>,
    job: &JobRow,
    closed_at: Timestamp,
    clock: impl Fn() -> Timestamp,
    unsaved: &mut Unsaved,
) -> Result<BundleRow, BundleError> {
    let job_id = &job.job_id;
    let audit = audit(parts.store, job).await?;
    let (keys, attested, now) = attested_under(parts, &audit, clock).await?;
    // A clock that has gone back must not seal a job before its last record.
    let now = now.max(closed_at);
    let attested = attested.of_end(parts, closed_at, Some(now));
    // Its public half names the key for receipts, which has to count.
    keys.check(now).map_err(SignError::from)?;
    if let Some(why) = attested.lacks(parts, &audit) {
        return Err(BundleError::Pending(why));
    }
    let writing::Written {
        path,
        sha256,
        bytes,
        state_versions,
    } = writing::write(parts, &keys, job, &attested, now).await?;
    kill_point!("seal.written");
    let row = BundleRow {
        job_id: job_id.clone(),
        sha256,
        bytes,
        sealed_at: now,
        verdict: None,
    };
    // Before the row: once there is one, nobody looks at the job again.
    added::await_others(parts, &path, &attested).await;
    let saving = parts.store.save_bundle(row.clone(), state_versions).await;
    match saving {
        Ok(()) => {}
        Err(StoreError::Conflict(Conflict::JobSealed(_))) => {
            tracing::info!(job = %job_id, "another gateway has sealed the job meanwhile");
            added::remove(&path).await;
            return sealed(parts.store, job_id).await;
        }
        Err(error) => {
            unsaved.insert(job_id.clone(), path);
            return Err(error.into());
        }
    }
    kill_point!("seal.saved");
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

/// A checkpoint with what others say of it, the keys that are in use under it, and the time after
/// that: what they sign over it then counts.
async fn attested_under(
    parts: Sealing<'_>,
    audit: &Audit,
    clock: impl Fn() -> Timestamp,
) -> Result<(Arc<Keys>, Attested, Timestamp), BundleError> {
    loop {
        let keys = parts.keys.now();
        let attested = Attested::now(parts, audit).await?;
        let now = clock();
        // Keys change seldom, and one change at a time.
        if Arc::ptr_eq(&keys, &parts.keys.now()) {
            return Ok((keys, attested, now));
        }
    }
}

/// What became of the closed jobs that were looked through.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Looked {
    /// Bundles that were sealed.
    pub sealed: usize,
    /// Those that wait for witnesses or an authority.
    pub waiting: usize,
    /// Those that failed.
    pub failed: usize,
}

/// Seals every job that was closed and not sealed, at start and while some are left. One that
/// cannot be sealed is reported and left for the next try; it keeps nobody else waiting, unless the
/// gateway's keys do not sign, which would keep all.
///
/// # Errors
/// When the store does not answer. The next try is made all the same.
pub async fn resume(app: &App) -> Result<Looked, StoreError> {
    let added = app.pending.added();
    let looked = look_through(app).await;
    match &looked {
        Ok((looked, All::Seen)) => app.pending.found(looked.waiting + looked.failed, added),
        Ok((_, All::GivenUp)) | Err(_) => app.pending.found_some(),
    }
    looked.map(|(looked, _)| looked)
}

/// Whether all closed jobs were looked at.
enum All {
    Seen,
    GivenUp,
}

async fn look_through(app: &App) -> Result<(Looked, All), StoreError> {
    let mut looked = Looked::default();
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
            return Ok((looked, All::Seen));
        };
        before = Some(last.job_id.clone());
        for job in jobs {
            if waiting.contains(&job.policy_hash) {
                looked.waiting += 1;
                continue;
            }
            match seal(Sealing::of(app), &job.job_id, crate::app::now).await {
                Ok(bundle) => {
                    app.metrics.bundles.count();
                    announce(app, &bundle).await;
                    looked.sealed += 1;
                }
                Err(BundleError::Pending(why)) => {
                    tracing::info!(job = %job.job_id, why, "a bundle waits");
                    waiting.insert(job.policy_hash);
                    looked.waiting += 1;
                }
                Err(error) => {
                    looked.failed += 1;
                    let signer = matches!(error, BundleError::Signer(_));
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(job = %job.job_id, error, "a closed job cannot be sealed");
                    if signer {
                        return Ok((looked, All::GivenUp));
                    }
                }
            }
        }
    }
}

/// Signs a checkpoint over the log as it is, and keeps it. The same size gets the same note, unless
/// its key was revoked just when it signed.
///
/// # Errors
/// When the store does not answer, or the key does not sign.
pub async fn sign_checkpoint(parts: Sealing<'_>) -> Result<SignedCheckpoint, BundleError> {
    let size = parts.store.log_size().await?;
    let (keys, origin) = (parts.keys.now(), log_origin(parts.config));
    let latest = parts.store.latest_checkpoint().await?;
    let latest = latest.filter(|latest| latest.size == size);
    let disowned = |note: &str| keys.disown(note, &origin);
    let is_disowned = match latest {
        Some(latest) if !disowned(&latest.note) => {
            let note = latest.note;
            return Ok(SignedCheckpoint { size, note });
        }
        latest => latest.is_some(),
    };
    let root = match size {
        0 => proof::merkle::empty_root(),
        _ => {
            let root = parts.store.log_root(size).await?;
            root.ok_or(BundleError::Incomplete("the root of the log"))?
        }
    };
    let checkpoint = Checkpoint { origin, size, root };
    let note = keys.sign_checkpoint(&checkpoint, crate::app::now()).await?;
    kill_point!("checkpoint.signed");
    match is_disowned {
        true => parts.store.cosign_checkpoint(&note, size).await?,
        false => parts.store.save_checkpoint(&note, size).await?,
    }
    kill_point!("checkpoint.saved");
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

/// In words that a part of a job's content went, when and by whose hand.
///
/// # Errors
/// When the store does not answer.
pub async fn pruned(
    store: &dyn Store,
    job_id: &JobId,
    part: Part,
) -> Result<Option<String>, StoreError> {
    let went = store.prunings(job_id).await?;
    let went = went.into_iter().find(|went| went.part == part);
    Ok(went.map(|went| {
        let what = match part {
            Part::Records => "the content of its records",
            Part::Bundle => "its bundle",
        };
        let (at, by) = (went.at, went.by);
        format!("{what} was removed after its retention, at {at} by {by}")
    }))
}

/// The trust root: what a verifier is given, outside every bundle. Keys that were replaced and
/// passkeys that were removed are in it, too, with the end of their time: what they signed before
/// must stay verifiable.
pub fn trust_root(config: &Config, keys: &Keys, passkeys: &[PasskeyRow]) -> TrustRoot {
    let not_before = Timestamp::from_millis(KEYS_NOT_BEFORE);
    let known = keys.history.keys().filter(|key| key.role != Role::Jobs);
    let mut gateway: Vec<GatewayKey> = known
        .map(|key| GatewayKey {
            did: key.did.clone(),
            role: key.role,
            not_before: key.not_before,
            not_after: key.not_after,
            revoked_at: key.revoked.as_ref().map(|revoked| revoked.at),
            revoked_from_leaf: key.revoked.as_ref().and_then(|revoked| revoked.from_leaf),
        })
        .collect();
    if gateway.is_empty() {
        let listed = |(role, did)| GatewayKey {
            did,
            role,
            not_before,
            not_after: None,
            revoked_at: None,
            revoked_from_leaf: None,
        };
        gateway = keys.roles().map(listed).to_vec();
    }
    let key_sets = keys.history.sets().iter().map(|set| SeenKeySet {
        number: set.number,
        leaf: set.leaf,
        hash_b64u: set.hash,
    });
    let authors = config.authors.iter();
    let approvers = config.approvers.iter();
    TrustRoot {
        trust_root: TRUST_ROOT.to_owned(),
        gateway,
        key_sets: key_sets.collect(),
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
