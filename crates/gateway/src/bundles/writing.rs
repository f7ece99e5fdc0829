//! Seals a job from the store into its file, in memory that does not grow with the job.
//!
//! The records are read three times, a page at a time: for their places in the log, for their
//! text, and for the chain of events with the receipts. What is kept of each receipt and event
//! is a few bytes. The evidence and the public half go to files without a name; the bundle is put
//! together from them, and is called by its hash when it is durable.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use proof::bundle::stream::{self, Evidence, Halves};
use proof::bundle::{CLOSE, Close, Inclusion, Job, LoggedKeySet, PublicHalf, SealError, Tie};
use proof::record::{Body, EventChain, JobId, Record};
use proof::{Envelope, EnvelopeType, Hash, Json, SigningKey, Timestamp};
use store::{JobRow, ReceiptKind, Store, StoredRecord, kill_point};

use super::evidence::Parts;
use super::{BundleError, Sealing, SignedCheckpoint, file, place};
use crate::keys::Keys;
use crate::tlog::attest::Attested;

/// How many records or receipts are read at a time: the most that the store gives.
const PAGE: u32 = 1000;

/// A file that was sealed.
pub(super) struct Written {
    pub(super) path: PathBuf,
    pub(super) sha256: Hash,
    pub(super) bytes: u64,
    /// State versions that the job's applies made.
    pub(super) state_versions: Vec<String>,
}

/// Seals a closed job into a file in the folder of the job, with proofs under the given checkpoint
/// and what others say of it. No file is overwritten but by the same bytes.
pub(super) async fn write(
    parts: Sealing<'_>,
    keys: &Keys,
    row: &JobRow,
    attested: &Attested,
    now: Timestamp,
) -> Result<Written, BundleError> {
    let folder = place::folder(parts.config, &row.job_id);
    let few = Parts::collect(parts.store, row).await?;
    let job_key = keys.job_of(&row.job_id, &row.agent_did);
    let job_key = job_key.ok_or(BundleError::Incomplete("the key of the job"))?;
    let desk = Desk {
        store: parts.store,
        job_id: &row.job_id,
        folder: &folder,
    };
    let key_sets = desk.key_sets(&attested.checkpoint).await?;
    let last_key_set = key_sets.last();
    let last_key_set = last_key_set.map(|set| set.entry.key_set.payload_hash_b64u);
    let (evidence, text, places) = desk.evidence(&few, attested, &key_sets).await?;
    let (Some(first), Some(last)) = (evidence.first_leaf, evidence.last_leaf) else {
        return Err(SealError::Empty.into());
    };
    let close = Close {
        kind: CLOSE.to_owned(),
        job_id: row.job_id.clone(),
        count: evidence.count,
        first_leaf_hash_b64u: first,
        last_leaf_hash_b64u: last,
        evidence_hash_b64u: evidence.hash,
        policy_hash_b64u: row.policy_hash,
        key_set_hash_b64u: last_key_set,
        gateway_did: keys.close.did(),
        issued_at: now,
    };
    let signing = keys.close.envelope(EnvelopeType::JobClose, &close, now);
    let close = stream::close_member(&signing.await?);
    let tie = Tie {
        evidence_hash_b64u: evidence.hash,
        gateway_did: keys.receipt.did(),
        policy_hash_b64u: row.policy_hash,
    };
    let halves = desk.halves(&few.job, tie, places, &job_key, now).await?;
    kill_point!("seal.collected");
    let target = folder.clone();
    let written = on_disk(move || {
        let seals = Seals {
            evidence,
            text,
            close,
            halves,
        };
        seals.put_together(&target)
    });
    let (sha256, bytes) = written.await.map_err(|error| desk.unusable(error))?;
    let versions = few.runs.iter();
    Ok(Written {
        path: folder.join(place::name(&sha256)),
        sha256,
        bytes,
        state_versions: versions
            .filter_map(|run| run.state_version_after.clone())
            .collect(),
    })
}

/// Where receipts belong: part of the public half, and place of the outcome in the log.
type Places = Vec<(u32, u64)>;

struct Desk<'a> {
    store: &'a dyn Store,
    job_id: &'a JobId,
    folder: &'a Path,
}

impl Desk<'_> {
    fn unusable(&self, source: io::Error) -> BundleError {
        BundleError::File {
            path: self.folder.to_owned(),
            source,
        }
    }

    async fn scratch(&self) -> Result<Scratch, BundleError> {
        let folder = self.folder.to_owned();
        let made = on_disk(move || {
            std::fs::create_dir_all(&folder)?;
            tempfile::tempfile_in(folder)
        });
        let file = made.await.map_err(|error| self.unusable(error))?;
        Ok(Scratch(file))
    }

    /// A page of the job's records; a gap is an error, and so is an end that closes nothing.
    async fn page(
        &self,
        after: &mut Option<StoredRecord>,
    ) -> Result<Vec<StoredRecord>, BundleError> {
        let last = after.as_ref().map_or(0, |last| last.record.seq);
        let page = self.store.records(self.job_id, last, PAGE).await?;
        let gapless = (last + 1..)
            .zip(&page)
            .all(|(seq, stored)| stored.record.seq == seq);
        if !gapless {
            return Err(BundleError::Incomplete("a record in the middle"));
        }
        match page.last() {
            Some(end) => *after = Some(end.clone()),
            None => {
                let close = after.as_ref().map(|last| &last.record.body);
                if !matches!(close, Some(Body::JobClose(_))) {
                    return Err(BundleError::Incomplete("the closing record"));
                }
            }
        }
        Ok(page)
    }

    /// Writes all evidence, and finds out where each receipt of a model call belongs.
    async fn evidence(
        &self,
        few: &Parts,
        attested: &Attested,
        key_sets: &[LoggedKeySet],
    ) -> Result<(Evidence, Scratch, Places), BundleError> {
        let mut scratch = self.scratch().await?;
        let checkpoint = &attested.checkpoint;
        let note = &checkpoint.note;
        let mut proofs = stream::begin(&few.approvals, &few.job, note, key_sets);
        let mut after = None;
        loop {
            let page = self.page(&mut after).await?;
            if page.is_empty() {
                break;
            }
            let leaves = page.iter().map(|stored| stored.leaf_index).collect();
            let paths = self.paths(leaves, checkpoint.size).await?;
            let (text, more) = computed(move || {
                for (stored, path) in page.iter().zip(paths) {
                    proofs.push(&Inclusion {
                        seq: stored.record.seq,
                        index: stored.leaf_index,
                        path,
                    });
                }
                (proofs.take(), proofs)
            })
            .await;
            proofs = more;
            scratch = self.put(scratch, text).await?;
        }
        let mut records = proofs.records(attested.timestamp.as_ref());
        let (mut after, mut events) = (None, PartOfEvent::default());
        loop {
            let page = self.page(&mut after).await?;
            if page.is_empty() {
                break;
            }
            let (text, more, seen) = computed(move || {
                for stored in &page {
                    records.push(&stored.record);
                    events.push(&stored.record);
                }
                (records.take(), records, events)
            })
            .await;
            (records, events) = (more, seen);
            scratch = self.put(scratch, text).await?;
        }
        let mut receipts = records.tool_receipts();
        let mut last = None;
        loop {
            let page = self.receipts(ReceiptKind::Tool, &mut last).await?;
            if page.is_empty() {
                break;
            }
            let (text, more) = computed(move || {
                for (_, receipt) in &page {
                    receipts.push(receipt);
                }
                (receipts.take(), receipts)
            })
            .await;
            receipts = more;
            scratch = self.put(scratch, text).await?;
        }
        let mut places = Vec::new();
        let mut last = None;
        loop {
            let page = self.receipts(ReceiptKind::Gateway, &mut last).await?;
            if page.is_empty() {
                break;
            }
            for (outcome, receipt) in &page {
                places.push((events.part_of(receipt)?, *outcome));
            }
        }
        // Within a part they stay in their order.
        places.sort_by_key(|(part, _)| *part);
        let (evidence, text) = receipts.finish(&few.runs, &few.tokens, &few.wpc);
        let scratch = self.put(scratch, text).await?;
        Ok((evidence, scratch, places))
    }

    async fn receipts(
        &self,
        kind: ReceiptKind,
        last: &mut Option<u64>,
    ) -> Result<Vec<(u64, Envelope)>, BundleError> {
        let page = self
            .store
            .receipts_after(self.job_id, kind, *last, PAGE)
            .await?;
        *last = page.last().map(|(outcome, _)| *outcome).or(*last);
        Ok(page)
    }

    async fn paths(&self, leaves: Vec<u64>, size: u64) -> Result<Vec<Vec<Hash>>, BundleError> {
        let paths = self.store.inclusions(leaves, size).await?;
        paths.ok_or(BundleError::Incomplete("a record in the log"))
    }

    async fn key_sets(
        &self,
        checkpoint: &SignedCheckpoint,
    ) -> Result<Vec<LoggedKeySet>, BundleError> {
        let mut sets = self.store.key_sets().await?;
        sets.retain(|set| set.leaf_index < checkpoint.size);
        let leaves = sets.iter().map(|set| set.leaf_index).collect();
        let paths = self.paths(leaves, checkpoint.size).await?;
        let logged = sets.into_iter().zip(paths).map(|(set, path)| LoggedKeySet {
            index: set.leaf_index,
            path,
            entry: set.entry,
        });
        Ok(logged.collect())
    }

    /// Signs the parts of the public half, each with its receipts, as one member's text.
    async fn halves(
        &self,
        job: &Job,
        tie: Tie,
        places: Places,
        key: &SigningKey,
        now: Timestamp,
    ) -> Result<Scratch, BundleError> {
        let mut halves = Halves::new(job, tie);
        let mut signed = Signed {
            desk: self,
            key,
            now,
            places: &places,
            scratch: self.scratch().await?,
            parts: 0,
            one: None,
        };
        let mut after = None;
        loop {
            let page = self.page(&mut after).await?;
            if page.is_empty() {
                break;
            }
            for stored in &page {
                if let Some(half) = halves.push(&stored.record) {
                    signed = signed.add(half).await?;
                }
            }
        }
        if let Some(half) = halves.finish() {
            signed = signed.add(half).await?;
        }
        signed.finish().await
    }

    async fn put(&self, mut scratch: Scratch, text: Vec<u8>) -> Result<Scratch, BundleError> {
        let put = on_disk(move || {
            scratch.0.write_all(&text)?;
            Ok(scratch)
        });
        put.await.map_err(|error| self.unusable(error))
    }
}

/// Parts of the public half, signed one by one.
struct Signed<'a> {
    desk: &'a Desk<'a>,
    key: &'a SigningKey,
    now: Timestamp,
    places: &'a [(u32, u64)],
    scratch: Scratch,
    parts: u32,
    /// The first one, as long as it is the only one.
    one: Option<Envelope>,
}

impl Signed<'_> {
    async fn add(mut self, mut half: PublicHalf) -> Result<Self, BundleError> {
        let part = self.parts;
        let from = self.places.partition_point(|(of, _)| *of < part);
        let to = self.places.partition_point(|(of, _)| *of <= part);
        let outcomes = self.places[from..to].iter().map(|(_, outcome)| *outcome);
        let store = self.desk.store;
        half.receipts = store.receipts_of(outcomes.collect()).await?;
        if half.receipts.len() != to - from {
            return Err(BundleError::Incomplete("a receipt"));
        }
        let (key, now) = (self.key.clone(), self.now);
        let signing = computed(move || Envelope::sign(EnvelopeType::ProofBundle, &half, &key, now));
        let envelope = signing.await.map_err(SealError::Sign)?;
        self.parts += 1;
        if part == 0 {
            self.one = Some(envelope);
            return Ok(self);
        }
        let text = match self.one.take() {
            None => stream::half_of_many(&envelope, false),
            Some(one) => [
                stream::HALVES_BEGIN,
                &stream::half_of_many(&one, true),
                &stream::half_of_many(&envelope, false),
            ]
            .concat(),
        };
        self.scratch = self.desk.put(self.scratch, text).await?;
        Ok(self)
    }

    async fn finish(self) -> Result<Scratch, BundleError> {
        let end = match &self.one {
            Some(one) => stream::one_half(one),
            None => stream::HALVES_END.to_vec(),
        };
        self.desk.put(self.scratch, end).await
    }
}

/// Which part of the public half each event stands in.
#[derive(Default)]
struct PartOfEvent {
    chain: EventChain,
    parts: u32,
    part: HashMap<Hash, u32>,
}

impl PartOfEvent {
    fn push(&mut self, record: &Record) {
        if let Some(event) = self.chain.extend(record) {
            self.parts += u32::from(event.prev_hash_b64u.is_none());
            self.part.insert(event.event_hash_b64u, self.parts - 1);
        }
    }

    fn part_of(&self, receipt: &Envelope) -> Result<u32, SealError> {
        let named = receipt.payload.at(&["binding", "event_hash_b64u"]);
        let named: Option<Hash> = named
            .and_then(Json::as_str)
            .and_then(|text| text.parse().ok());
        let part = named.and_then(|hash| self.part.get(&hash));
        part.copied().ok_or(SealError::StrayReceipt)
    }
}

/// A file without a name, written from its beginning.
struct Scratch(File);

impl Scratch {
    fn reader(&mut self) -> io::Result<BufReader<&mut File>> {
        self.0.seek(SeekFrom::Start(0))?;
        Ok(BufReader::new(&mut self.0))
    }
}

struct Seals {
    evidence: Evidence,
    text: Scratch,
    close: Vec<u8>,
    halves: Scratch,
}

impl Seals {
    /// Puts the bundle together and gives it its name when it is durable; its hash and length.
    fn put_together(mut self, folder: &Path) -> io::Result<(Hash, u64)> {
        let mut temporary = file::Temporary::beside(&folder.join("bundle"), 0o600)?;
        let (sha256, bytes) = self.write_to(&mut temporary.file)?;
        temporary.keep_as(&place::name(&sha256))?;
        // The folder's own name must survive a crash too.
        let all = folder.parent().ok_or(io::ErrorKind::InvalidInput)?;
        File::open(all)?.sync_all()?;
        Ok((sha256, bytes))
    }

    /// Writes the bundle; its hash and length.
    fn write_to(&mut self, file: &mut File) -> io::Result<(Hash, u64)> {
        let mut out = Hashed {
            out: BufWriter::new(file),
            hasher: proof::hash::Hasher::new(),
        };
        let Evidence {
            close_at,
            halves_at,
            length,
            ..
        } = self.evidence;
        let mut text = self.text.reader()?;
        copy_exactly(&mut text, close_at, &mut out)?;
        out.write_all(&self.close)?;
        copy_exactly(&mut text, halves_at - close_at, &mut out)?;
        io::copy(&mut self.halves.reader()?, &mut out)?;
        copy_exactly(&mut text, length - halves_at, &mut out)?;
        out.write_all(b"\n")?;
        out.flush()?;
        let bytes = out.hasher.length();
        Ok((out.hasher.finish(), bytes))
    }
}

fn copy_exactly(from: &mut impl Read, length: u64, to: &mut impl Write) -> io::Result<()> {
    match io::copy(&mut from.take(length), to)? == length {
        true => Ok(()),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Hashes what is written.
struct Hashed<'f> {
    out: BufWriter<&'f mut File>,
    hasher: proof::hash::Hasher,
}

impl Write for Hashed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Works away from the threads that serve calls.
async fn computed<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let worked = tokio::task::spawn_blocking(work).await;
    worked.expect("sealing does not panic and is not cancelled")
}

async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    computed(work).await
}
