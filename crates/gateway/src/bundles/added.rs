//! What others say of a bundle's checkpoint after it was sealed.
//!
//! A witness or an authority that was silent then may speak later, though of a later checkpoint: a
//! witness never goes back. So what is added is that later checkpoint with the proof that it
//! continues the bundle's own. It stands outside of all seals; the sealed file is never touched.
//! Two small files lie beside it, under its name: `.awaits` with what it was sealed with, where
//! somebody had not spoken then, and `.added` with what was said. They are looked at when the bundle
//! is fetched, so that nothing grows while nobody asks. What was signed by a key of the log that was
//! revoked since is said by nobody: it is left out, and the others are asked again.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use policy::contract::Audit;
use proof::Json;
use proof::bundle::Added;
use proof::checkpoint::Checkpoint;
use serde::{Deserialize, Serialize};
use store::BundleRow;
use tokio::fs;

use super::{BundleError, Sealing, file, log_origin};
use crate::tlog::attest::Attested;
use crate::tlog::witnesses::seen_by;

/// What the two files end with.
pub(super) const AWAITS: &str = "awaits";
pub(super) const ADDED: &str = "added";

/// What a bundle was sealed with, while others may still speak.
#[derive(Debug, Serialize, Deserialize)]
struct Awaits {
    checkpoint: String,
    has_timestamp: bool,
    /// Everybody has spoken: nobody is asked while what was added counts.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    settled: bool,
}

/// A member of the bundle, and the sealed file without its first byte behind it.
#[derive(Debug)]
pub struct Front(Vec<u8>);

impl Front {
    /// What stands in the place of the sealed file's first byte.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The sealed file with what was added.
    pub fn with(self, sealed: &[u8]) -> Vec<u8> {
        let mut whole = self.0;
        // Its first byte opens the object, and so does ours.
        whole.extend_from_slice(sealed.get(1..).unwrap_or_default());
        whole
    }
}

/// Remembers that somebody has not spoken about a bundle that is being sealed into this file.
pub(super) async fn await_others(parts: Sealing<'_>, bundle: &Path, attested: &Attested) {
    if attested.is_complete(parts) {
        return;
    }
    let awaits = Awaits {
        checkpoint: attested.checkpoint.note.clone(),
        has_timestamp: attested.timestamp.is_some(),
        settled: false,
    };
    if let Err(error) = awaits.write(bundle).await {
        // The bundle is what it is; it will not get better.
        tracing::warn!(bundle = %bundle.display(), %error, "late cosignatures will not be added");
    }
}

/// Removes a bundle that does not count, with what lies beside it.
pub(super) async fn remove(bundle: &Path) {
    for path in [bundle.to_owned(), bundle.with_extension(AWAITS)] {
        match fs::remove_file(&path).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(path = %path.display(), %error, "a file of no use stays");
            }
            _ => {}
        }
    }
}

/// What was added to a bundle, asking those who have not spoken once more. A bundle is given out
/// as it is when that fails.
pub async fn added(parts: Sealing<'_>, row: &BundleRow) -> Option<Front> {
    let bundle = super::path(parts.config, row).await;
    let known = known(parts, &bundle).await;
    let added = match Awaits::read(&bundle).await {
        Some(awaits) if !awaits.settled || known.is_none() => {
            match ask_again(parts, row, &bundle, awaits).await {
                Ok(more) => more.or(known),
                Err(error) => {
                    let error = crate::cli::chain(&error);
                    tracing::warn!(job = %row.job_id, error, "nobody could be asked about a bundle");
                    known
                }
            }
        }
        _ => known,
    };
    let json = Json::from_value(&added?).expect("texts");
    let mut front = b"{\"added\":".to_vec();
    front.extend_from_slice(&json.to_jcs());
    front.push(b',');
    Some(Front(front))
}

/// What was said before, as far as whoever gets the trust root now believes it.
async fn known(parts: Sealing<'_>, bundle: &Path) -> Option<Added> {
    let bytes = read(bundle, ADDED).await?;
    let added: Added = serde_json::from_slice(&bytes).ok()?;
    let origin = log_origin(parts.config);
    let disowned = parts.keys.now().disown(&added.checkpoint, &origin);
    (!disowned).then_some(added)
}

/// Asks everybody about the log as it is now; what they say is kept when it is more than is known
/// by then. Whoever asked at the same time may have got an answer sooner.
async fn ask_again(
    parts: Sealing<'_>,
    row: &BundleRow,
    bundle: &Path,
    mut awaits: Awaits,
) -> Result<Option<Added>, BundleError> {
    let sealed = awaits.checkpoint.as_str();
    let mut attested = Attested::now(parts, &Audit::default()).await?;
    let job = parts.store.job(&row.job_id).await?;
    if let Some(closing) = job.as_ref().and_then(|job| job.state.closing()) {
        attested = attested.of_end(parts, closing.at, None);
    }
    let Some(_turn) = turn(bundle).await? else {
        return Ok(known(parts, bundle).await);
    };
    let known = known(parts, bundle).await;
    let later = attested.checkpoint.note.as_str();
    let worth = |note: &str, stamped: bool| {
        let stamped = stamped || awaits.has_timestamp;
        (seen_by(parts.config, &[sealed, note]).len(), stamped)
    };
    let had = match &known {
        Some(known) => worth(&known.checkpoint, known.timestamp.is_some()),
        None => worth(sealed, false),
    };
    let has = worth(later, attested.timestamp.is_some());
    // Never less than there was.
    if !(has.0 >= had.0 && has.1 >= had.1 && has != had) {
        return Ok(known);
    }
    let from = Checkpoint::claimed_size(sealed).unwrap_or(0);
    let path = parts
        .store
        .consistency(from, attested.checkpoint.size)
        .await?;
    let added = Added {
        checkpoint: later.to_owned(),
        consistency: path.ok_or(BundleError::Incomplete("the log below a sealed bundle"))?,
        timestamp: attested.timestamp.filter(|_| !awaits.has_timestamp),
    };
    let json = Json::from_value(&added).expect("texts");
    let path = bundle.with_extension(ADDED);
    let unusable = |source| BundleError::File {
        path: path.clone(),
        source,
    };
    write(path.clone(), json.to_jcs()).await.map_err(unusable)?;
    let stamped = has.1 || parts.stamper.is_none();
    let settled = has.0 == parts.config.log.witnesses.len() && stamped;
    if settled != awaits.settled {
        awaits.settled = settled;
        // Whoever is asked once more than needed says the same.
        let _ = awaits.write(bundle).await;
    }
    Ok(Some(added))
}

impl Awaits {
    async fn read(bundle: &Path) -> Option<Self> {
        let bytes = self::read(bundle, AWAITS).await?;
        serde_json::from_slice(&bytes).ok()
    }

    async fn write(&self, bundle: &Path) -> io::Result<()> {
        let bytes = serde_json::to_vec(self).expect("texts");
        write(bundle.with_extension(AWAITS), bytes).await
    }
}

/// The turn to write what was added to a bundle, here and in other processes: a lock on the sealed
/// file, which goes with the handle. `None` while somebody else has it.
pub(super) async fn turn(bundle: &Path) -> Result<Option<File>, BundleError> {
    let path = bundle.to_owned();
    let taken = {
        let path = path.clone();
        tokio::task::spawn_blocking(move || {
            let file = File::open(path)?;
            match file.try_lock() {
                Err(TryLockError::WouldBlock) => Ok(None),
                // Where there are no locks, what is read right before is nearly as good.
                Ok(()) | Err(TryLockError::Error(_)) => Ok(Some(file)),
            }
        })
    };
    let taken = taken.await.expect("opening a file does not panic");
    taken.map_err(|source| BundleError::File { path, source })
}

async fn read(bundle: &Path, what: &str) -> Option<Vec<u8>> {
    fs::read(bundle.with_extension(what)).await.ok()
}

async fn write(path: PathBuf, bytes: Vec<u8>) -> io::Result<()> {
    let written = tokio::task::spawn_blocking(move || file::write(&path, &bytes, 0o600));
    written.await.expect("writing a file does not panic")
}
