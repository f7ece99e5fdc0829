//! What others say of a bundle's checkpoint after it was sealed.
//!
//! A witness or an authority that was silent then may speak later, though of a later checkpoint: a
//! witness never goes back. So what is added is that later checkpoint with the proof that it
//! continues the bundle's own. It stands outside of all seals; the sealed file is never touched.
//! Two small files lie beside it: `.awaits` with what it was sealed with, where somebody had not
//! spoken then, and `.added` with what was said. They are looked at when the bundle is fetched, so
//! that nothing grows while nobody asks. What was signed by a key of the log that was revoked since
//! is said by nobody: it is left out, and the others are asked again.

use std::io;
use std::path::PathBuf;

use policy::contract::Audit;
use proof::Json;
use proof::bundle::Added;
use proof::checkpoint::Checkpoint;
use proof::record::JobId;
use serde::{Deserialize, Serialize};
use tokio::fs;

use super::{BundleError, Sealing, file, log_origin};
use crate::config::Config;
use crate::tlog::attest::Attested;
use crate::tlog::witnesses::seen_by;

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

/// Remembers that somebody has not spoken about a bundle that is being sealed.
pub(super) async fn await_others(parts: Sealing<'_>, job_id: &JobId, attested: &Attested) {
    if attested.is_complete(parts) {
        // An earlier try that a crash ended may have left a word about another checkpoint.
        let _ = fs::remove_file(beside(parts, job_id, "awaits")).await;
        return;
    }
    let awaits = Awaits {
        checkpoint: attested.checkpoint.note.clone(),
        has_timestamp: attested.timestamp.is_some(),
        settled: false,
    };
    if let Err(error) = awaits.write(parts, job_id).await {
        // The bundle is what it is; it will not get better.
        tracing::warn!(job = %job_id, %error, "late cosignatures will not be added");
    }
}

/// What was added to a bundle, asking those who have not spoken once more. A bundle is given out
/// as it is when that fails.
pub async fn added(parts: Sealing<'_>, job_id: &JobId) -> Option<Front> {
    let known = known(parts, job_id).await;
    let added = match Awaits::read(parts, job_id).await {
        Some(awaits) if !awaits.settled || known.is_none() => {
            match ask_again(parts, job_id, awaits, known.as_ref()).await {
                Ok(more) => more.or(known),
                Err(error) => {
                    let error = crate::cli::chain(&error);
                    tracing::warn!(job = %job_id, error, "nobody could be asked about a bundle");
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
async fn known(parts: Sealing<'_>, job_id: &JobId) -> Option<Added> {
    let bytes = read(beside(parts, job_id, "added")).await?;
    let added: Added = serde_json::from_slice(&bytes).ok()?;
    let origin = log_origin(parts.config);
    let counts = parts.keys.now().vouch_for(&added.checkpoint, &origin);
    counts.then_some(added)
}

/// Asks everybody about the log as it is now; what they say is kept when it is more than was known.
async fn ask_again(
    parts: Sealing<'_>,
    job_id: &JobId,
    mut awaits: Awaits,
    known: Option<&Added>,
) -> Result<Option<Added>, BundleError> {
    let sealed = awaits.checkpoint.as_str();
    let attested = Attested::now(parts, &Audit::default()).await?;
    let later = attested.checkpoint.note.as_str();
    let worth = |note: &str, stamped: bool| {
        let stamped = stamped || awaits.has_timestamp;
        (seen_by(parts.config, &[sealed, note]).len(), stamped)
    };
    let had = match known {
        Some(known) => worth(&known.checkpoint, known.timestamp.is_some()),
        None => worth(sealed, false),
    };
    let has = worth(later, attested.timestamp.is_some());
    // Never less than there was.
    if !(has.0 >= had.0 && has.1 >= had.1 && has != had) {
        return Ok(None);
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
    let path = beside(parts, job_id, "added");
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
        let _ = awaits.write(parts, job_id).await;
    }
    Ok(Some(added))
}

impl Awaits {
    async fn read(parts: Sealing<'_>, job_id: &JobId) -> Option<Self> {
        let bytes = read(beside(parts, job_id, "awaits")).await?;
        serde_json::from_slice(&bytes).ok()
    }

    async fn write(&self, parts: Sealing<'_>, job_id: &JobId) -> io::Result<()> {
        let bytes = serde_json::to_vec(self).expect("texts");
        write(beside(parts, job_id, "awaits"), bytes).await
    }
}

/// How the names of the files beside a bundle end. Whoever copies them takes the first one first:
/// when it goes meanwhile, the second is as it stays.
pub const BESIDE: [&str; 2] = ["awaits", "added"];

/// The files beside a job's bundle, which are there or not.
pub fn files(config: &Config, job_id: &JobId) -> [PathBuf; 2] {
    let bundle = super::path(config, job_id);
    BESIDE.map(|what| bundle.with_extension(what))
}

fn beside(parts: Sealing<'_>, job_id: &JobId, what: &str) -> PathBuf {
    super::path(parts.config, job_id).with_extension(what)
}

async fn read(path: PathBuf) -> Option<Vec<u8>> {
    fs::read(path).await.ok()
}

async fn write(path: PathBuf, bytes: Vec<u8>) -> io::Result<()> {
    let written = tokio::task::spawn_blocking(move || file::write(&path, &bytes, 0o600));
    written.await.expect("writing a file does not panic")
}
