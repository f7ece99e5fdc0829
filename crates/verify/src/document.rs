//! The file, read once: typed members beside the hashes of the text as it was received.
//!
//! Hashes are taken over what stands in the file, not over what our types make of it, so that
//! two spellings of one value cannot pass for each other.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, Read as _, Seek, SeekFrom};

use proof::bundle::{BUNDLE, Bundle, NOT_EVIDENCE, Run};
use proof::checkpoint::Checkpoint;
use proof::envelope::Envelope;
use proof::hash::Hasher;
use proof::json::{self, JsonError, Numbers};
use proof::keyset::LogPlace;
use proof::receipt::ToolReceipt;
use proof::record::{Body, Event, EventChain, Intent, Outcome, Record};
use proof::{Hash, Json, Timestamp, merkle};

use crate::code::Code;
use crate::report::Findings;
use crate::threads;
use crate::trust::Moment;

mod apart;
mod opened;
mod walk;

pub(crate) use opened::{Half, Receipt};

pub use proof::bundle::MAX_BYTES as MAX_BUNDLE_BYTES;

/// Most elements in each list of a bundle.
pub const MAX_ENTRIES: usize = 1_000_000;

/// Where a record stands in the file, by its index.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place(pub(crate) usize);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/records/{}", self.0)
    }
}

/// A bundle, read but not verified.
#[derive(Debug)]
pub(crate) struct Document {
    /// Its members, without those below.
    pub(crate) bundle: Bundle,
    /// The public half, in one part or several.
    pub(crate) halves: Vec<Half>,
    /// Receipts of Terraform calls.
    pub(crate) tool_receipts: Vec<Receipt<ToolReceipt>>,
    /// Hash over everything but the seals, as it stands in the file.
    pub(crate) evidence_hash: Hash,
    /// Leaf hash of each record, as it stands in the file.
    pub(crate) leaves: Vec<Hash>,
    /// The event chain that the records make.
    pub(crate) events: Vec<Event>,
    /// Index in `events` by the index of the record.
    event_of_record: HashMap<usize, usize>,
    /// Index of each run by its id.
    run_by_id: HashMap<String, usize>,
    /// The size that the checkpoint claims.
    size: u64,
}

impl Document {
    /// Reads the file; what is wrong is a finding.
    ///
    /// # Errors
    /// When the source cannot be read.
    pub(crate) fn read(
        mut source: impl io::Read + Seek,
        findings: &mut Findings,
    ) -> io::Result<Option<Self>> {
        let length = source.seek(SeekFrom::End(0))?;
        if length > MAX_BUNDLE_BYTES as u64 {
            let detail = format!("more than {MAX_BUNDLE_BYTES} bytes");
            findings.not_proven(Code::FileTooLarge, "", detail);
            return Ok(None);
        }
        source.rewind()?;
        let read = match apart::read(source.by_ref().take(length), walk::PIECE)? {
            Some(read) => Some(read),
            None => {
                source.rewind()?;
                let mut bytes = Vec::new();
                source.take(length).read_to_end(&mut bytes)?;
                Read::whole(&bytes, findings)
            }
        };
        Ok(read.and_then(|read| Self::of(read, length, findings)))
    }

    /// What a file of so many bytes says.
    fn of(read: Read, length: u64, findings: &mut Findings) -> Option<Self> {
        let Read {
            bundle,
            halves,
            tool_receipts,
            records: hashes,
            evidence_hash,
        } = read;
        findings.require(
            bundle.bundle == BUNDLE,
            Code::FileShape,
            "/bundle",
            "a bundle of another version",
        );
        findings.require(
            !bundle.records.is_empty(),
            Code::FileShape,
            "/records",
            "there are no records",
        );
        if findings.any_failure() {
            return None;
        }
        let mut chain = EventChain::default();
        let mut events = Vec::new();
        let mut event_of_record = HashMap::new();
        for (index, (record, hashes)) in bundle.records.iter().zip(&hashes).enumerate() {
            let event = hashes
                .content
                .and_then(|hash| chain.extend_hashed(record, hash));
            if let Some(event) = event {
                event_of_record.insert(index, events.len());
                events.push(event);
            }
        }
        findings.note(format!("{length} bytes"));
        Some(Self {
            evidence_hash,
            leaves: hashes.into_iter().map(|hashes| hashes.leaf).collect(),
            events,
            event_of_record,
            run_by_id: bundle
                .terraform
                .runs
                .iter()
                .enumerate()
                .map(|(index, run)| (run.run_id.clone(), index))
                .collect(),
            size: Checkpoint::claimed_size(&bundle.log.checkpoint).unwrap_or(0),
            bundle,
            halves,
            tool_receipts,
        })
    }

    /// Gives back the memory: a long job is some hundred thousand pieces of it, half of which
    /// somebody else can give back.
    pub(crate) fn release(self) {
        let Self {
            mut bundle, halves, ..
        } = self;
        let later = bundle.records.split_off(bundle.records.len() / 2);
        threads::both(move || drop((later, halves)), move || drop(bundle));
    }

    /// The parts of the public half with their places.
    pub(crate) fn public_halves(&self) -> impl Iterator<Item = (String, &Half)> {
        let one = self.halves.len() == 1;
        self.halves.iter().enumerate().map(move |(n, half)| {
            let place = if one {
                "/proof_bundle".to_owned()
            } else {
                format!("/proof_bundles/{n}")
            };
            (place, half)
        })
    }

    /// The record with this number, if it stands where its number says.
    pub(crate) fn record(&self, seq: u64) -> Option<&Record> {
        let index = usize::try_from(seq.checked_sub(1)?).ok()?;
        self.bundle
            .records
            .get(index)
            .filter(|record| record.seq == seq)
    }

    /// The intent with this number.
    pub(crate) fn intent(&self, seq: u64) -> Option<(&Record, &Intent)> {
        match self.record(seq) {
            Some(
                record @ Record {
                    body: Body::Intent(intent),
                    ..
                },
            ) => Some((record, intent)),
            _ => None,
        }
    }

    /// The size of the log under its checkpoint, as that claims.
    pub(crate) const fn size(&self) -> u64 {
        self.size
    }

    /// When a record was written, and where it stands in the log by its proof of inclusion. One
    /// that has no proof is judged as if it stood at the end, and found elsewhere.
    pub(crate) fn moment(&self, record: &Record) -> Moment {
        self.moment_of(record.seq, record.at)
    }

    /// The same for what was signed at another time, and took effect with the record of that
    /// number.
    pub(crate) fn moment_of(&self, seq: u64, at: Timestamp) -> Moment {
        let index = usize::try_from(seq.wrapping_sub(1)).ok();
        let proof = index.and_then(|index| self.bundle.log.proofs.get(index));
        let over = LogPlace::Over(self.size);
        let place = proof.map_or(over, |proof| LogPlace::Leaf(proof.index));
        Moment { at, place }
    }

    /// When something was signed that stands over the checkpoint, and so after all of the log
    /// below it.
    pub(crate) const fn sealed(&self, at: Timestamp) -> Moment {
        Moment {
            at,
            place: LogPlace::Over(self.size),
        }
    }

    /// The event that the record with this number makes.
    pub(crate) fn event(&self, seq: u64) -> Option<&Event> {
        let index = usize::try_from(seq.checked_sub(1)?).ok()?;
        Some(&self.events[*self.event_of_record.get(&index)?])
    }

    /// The e-mail address of whoever opened the job, where the gateway knew it.
    pub(crate) fn opener(&self) -> Option<&str> {
        match &self.bundle.records.first()?.body {
            Body::JobOpen(open) => open.opened_by_email.as_deref(),
            _ => None,
        }
    }

    /// The run with this id.
    pub(crate) fn run(&self, run_id: &str) -> Option<&Run> {
        let index = self.run_by_id.get(run_id)?;
        self.bundle.terraform.runs.get(*index)
    }

    /// All intents with their places.
    pub(crate) fn intents(&self) -> impl Iterator<Item = (Place, &Record, &Intent)> {
        self.placed()
            .filter_map(|(place, record)| match &record.body {
                Body::Intent(intent) => Some((place, record, &**intent)),
                _ => None,
            })
    }

    /// All outcomes with their places.
    pub(crate) fn outcomes(&self) -> impl Iterator<Item = (Place, &Record, &Outcome)> {
        self.placed()
            .filter_map(|(place, record)| match &record.body {
                Body::Outcome(outcome) => Some((place, record, &**outcome)),
                _ => None,
            })
    }

    /// All records with their places.
    pub(crate) fn placed(&self) -> impl Iterator<Item = (Place, &Record)> {
        self.bundle
            .records
            .iter()
            .enumerate()
            .map(|(index, record)| (Place(index), record))
    }
}

/// What is read of a file: typed members, and the hashes of what they were read from.
#[derive(Debug, PartialEq)]
struct Read {
    /// Without the lists that follow.
    bundle: Bundle,
    halves: Vec<Half>,
    tool_receipts: Vec<Receipt<ToolReceipt>>,
    records: Vec<RecordHashes>,
    evidence_hash: Hash,
}

impl Read {
    /// Reads the file as one value, and says what is wrong.
    fn whole(bytes: &[u8], findings: &mut Findings) -> Option<Self> {
        let mut json = match json::parse(bytes, Numbers::Integers) {
            Ok(json) => json,
            Err(error) => {
                findings.fail(Code::FileNotJson, "", error.to_string());
                return None;
            }
        };
        if let Some(place) = oversized(&json) {
            findings.not_proven(
                Code::FileTooLarge,
                place,
                format!("more than {MAX_ENTRIES} entries"),
            );
            return None;
        }
        let Some(written) = set_aside(&mut json, "records") else {
            findings.fail(Code::FileShape, "/records", "missing, or not an array");
            return None;
        };
        let read = threads::map(&written, |_, record| Hashed::read(record));
        let mut bundle: Bundle = match json.to_typed() {
            Ok(bundle) => bundle,
            Err(error) => {
                findings.fail(Code::FileShape, misfit(&json), cause(&error));
                return None;
            }
        };
        let mut records = Vec::with_capacity(read.len());
        for (index, read) in read.into_iter().enumerate() {
            match read {
                Ok(read) => records.push(read),
                Err(error) => {
                    findings.fail(Code::FileShape, Place(index), cause(&error));
                    return None;
                }
            }
        }
        let one_half = match (json.get("proof_bundle"), json.get("proof_bundles")) {
            (Some(Json::Object(_)), None) => true,
            (None, Some(Json::Array(halves))) => halves.len() > 1,
            _ => false,
        };
        findings.require(
            one_half,
            Code::FileShape,
            "/proof_bundle",
            "either one proof_bundle or several proof_bundles are needed",
        );
        let others = json.members().unwrap_or_default().iter();
        let others = others
            .filter(|(name, _)| is_evidence(name) && name != "records")
            .map(|(name, value)| (name.as_str(), value.to_jcs()))
            .collect();
        let evidence_hash = evidence_hash(others, &records);
        let mut halves = std::mem::take(&mut bundle.proof_bundles);
        halves.extend(bundle.proof_bundle.take());
        let receipts = std::mem::take(&mut bundle.terraform.receipts);
        Some(Self {
            halves: threads::map_large(&halves, |_, half| Half::open(half)),
            tool_receipts: threads::map(&receipts, |_, receipt| Receipt::open(receipt)),
            records: take_records(records, &mut bundle),
            bundle,
            evidence_hash,
        })
    }
}

/// Takes the elements of a list out of an object; an empty one stays in its place.
fn set_aside(json: &mut Json, name: &str) -> Option<Vec<Json>> {
    let Json::Array(elements) = json.remove(name)? else {
        return None;
    };
    json.set(name, Json::Array(Vec::new()));
    Some(elements)
}

/// Hashes of a record as it stands in the file.
#[derive(Debug, PartialEq)]
struct RecordHashes {
    leaf: Hash,
    /// By which an event names it; none for a record that is no event.
    content: Option<Hash>,
}

impl RecordHashes {
    /// The hashes of a record, of which this is the canonical form.
    fn of(record: &Record, text: &[u8]) -> Self {
        Self {
            leaf: merkle::leaf_hash(text),
            content: record.event_type().map(|_| Hash::of(text)),
        }
    }
}

/// One record, read and hashed.
struct Hashed {
    record: Record,
    /// Its canonical form.
    text: Vec<u8>,
    hashes: RecordHashes,
}

impl Hashed {
    fn read(json: &Json) -> Result<Self, JsonError> {
        let record = Record::from_json(json)?;
        let text = json.to_jcs();
        Ok(Self {
            hashes: RecordHashes::of(&record, &text),
            record,
            text,
        })
    }
}

/// Puts the records into their bundle; their hashes stay.
fn take_records(read: Vec<Hashed>, bundle: &mut Bundle) -> Vec<RecordHashes> {
    let halves = read.into_iter().map(|read| (read.record, read.hashes));
    let (records, hashes) = halves.unzip();
    bundle.records = records;
    hashes
}

/// Whether a member of the file is evidence, and not one of the seals over it.
fn is_evidence(name: &str) -> bool {
    !NOT_EVIDENCE.contains(&name)
}

/// Hash of the canonical form of all evidence: the records, and the `others` with their names.
fn evidence_hash(mut others: Vec<(&str, Vec<u8>)>, records: &[Hashed]) -> Hash {
    others.push(("records", Vec::new()));
    // The names are known by now, and ASCII: the order of bytes is the canonical one.
    others.sort_unstable_by_key(|(name, _)| *name);
    let mut hasher = Hasher::new();
    for (n, (name, text)) in others.iter().enumerate() {
        hasher.update(if n > 0 { b"," } else { b"{" });
        hasher.update(format!("\"{name}\":").as_bytes());
        if *name == "records" {
            hasher.update(b"[");
            for (n, record) in records.iter().enumerate() {
                hasher.update(if n > 0 { b"," } else { b"" });
                hasher.update(&record.text);
            }
            hasher.update(b"]");
        } else {
            hasher.update(text);
        }
    }
    hasher.update(b"}");
    hasher.finish()
}

/// The error without its general introduction.
fn cause(error: &JsonError) -> String {
    match error {
        JsonError::Shape(error) => error.to_string(),
        other => other.to_string(),
    }
}

/// The first list that has too many entries.
fn oversized(json: &Json) -> Option<&'static str> {
    let lists: [(&'static str, &[&str]); 8] = [
        ("/records", &["records"]),
        ("/tokens", &["tokens"]),
        ("/approvals", &["approvals"]),
        ("/proof_bundles", &["proof_bundles"]),
        ("/terraform/runs", &["terraform", "runs"]),
        ("/terraform/receipts", &["terraform", "receipts"]),
        ("/log/proofs", &["log", "proofs"]),
        ("/log/key_sets", &["log", "key_sets"]),
    ];
    lists.into_iter().find_map(|(place, path)| {
        let entries = json.at(path)?.as_array()?;
        (entries.len() > MAX_ENTRIES).then_some(place)
    })
}

/// Where a file that is no bundle differs from one: the innermost place that can be named.
fn misfit(json: &Json) -> String {
    use proof::approval::SignedStatement;
    use proof::bundle::{Added, Inclusion, Job, LoggedKeySet, Token};
    fn fits<T: serde::de::DeserializeOwned>(json: &Json) -> bool {
        json.to_typed::<T>().is_ok()
    }
    type Fits = fn(&Json) -> bool;
    let lists: [(&[&str], Fits); 7] = [
        (&["tokens"], fits::<Token>),
        (&["approvals"], fits::<SignedStatement>),
        (&["proof_bundles"], fits::<Envelope>),
        (&["terraform", "runs"], fits::<Run>),
        (&["terraform", "receipts"], fits::<Envelope>),
        (&["log", "proofs"], fits::<Inclusion>),
        (&["log", "key_sets"], fits::<LoggedKeySet>),
    ];
    let singles: [(&str, Fits); 5] = [
        ("job", fits::<Job>),
        ("wpc", fits::<Envelope>),
        ("close", fits::<Envelope>),
        ("proof_bundle", fits::<Envelope>),
        ("added", fits::<Added>),
    ];
    for (name, fits) in singles {
        if json.get(name).is_some_and(|value| !fits(value)) {
            return format!("/{name}");
        }
    }
    for (path, fits) in lists {
        let entries = json.at(path).and_then(Json::as_array).unwrap_or_default();
        if let Some(index) = entries.iter().position(|entry| !fits(entry)) {
            return format!("/{}/{index}", path.join("/"));
        }
    }
    String::new()
}
