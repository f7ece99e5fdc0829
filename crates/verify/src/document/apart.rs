//! The file in canonical form, as a gateway writes it: walked over once, taken apart where it
//! stands, and read by all processors.
//!
//! This is for files in which nothing is wrong: at the first doubt there is no result, and
//! [`Read::whole`] reads the file again from its beginning and says what it is. Both apply the
//! same rules: what [`Canonical`] accepts, the strict reader accepts, and the text is its own
//! canonical form, so that hashes are taken over the text.

use proof::bundle::{Bundle, Inclusion, PublicHalf};
use proof::hash::Hasher;
use proof::json::Canonical;
use proof::receipt::{GatewayReceipt, ToolReceipt};
use proof::record::Record;
use proof::{Envelope, EnvelopeType, Hash};

use super::opened::{Half, Receipt};
use super::{MAX_ENTRIES, Read, RecordHashes, is_evidence};
use crate::threads;

/// So many records or proofs are read in one go.
const STEP: usize = 64;

/// So many receipts: each costs a signature.
const RECEIPTS: usize = 8;

/// Reads a file in which nothing is wrong.
pub(super) fn read(bytes: &[u8]) -> Option<Read> {
    let text = std::str::from_utf8(bytes).ok()?;
    let blank = |c: char| matches!(c, ' ' | '\t' | '\r' | '\n');
    let file = File::walk(text.trim_matches(blank))?;
    // The large ones first: the small ones fill up what is left of everybody's time.
    let mut parts = vec![Part::Evidence(&file), Part::Frame(&file)];
    for half in &file.halves {
        parts.push(Part::Half(half));
        let receipts = half.receipts.chunks(RECEIPTS);
        parts.extend(receipts.map(Part::ModelReceipts));
    }
    parts.extend(file.tool_receipts.chunks(RECEIPTS).map(Part::ToolReceipts));
    parts.extend(file.records.chunks(STEP).map(Part::Records));
    parts.extend(file.proofs.chunks(STEP).map(Part::Proofs));
    let done = threads::map_large(&parts, |_, part| part.read());

    let mut evidence_hash = None;
    let mut bundle = None;
    let mut halves: Vec<Half> = Vec::new();
    let mut records = Vec::with_capacity(file.records.len());
    let mut hashes = Vec::with_capacity(file.records.len());
    let mut proofs = Vec::with_capacity(file.proofs.len());
    let mut tool_receipts = Vec::with_capacity(file.tool_receipts.len());
    for done in done {
        match done? {
            Done::Evidence(hash) => evidence_hash = Some(hash),
            Done::Frame(frame) => bundle = Some(*frame),
            Done::Half(half) => halves.push(*half),
            Done::ModelReceipts(receipts) => {
                if let Ok((_, carried)) = &mut halves.last_mut()?.content {
                    carried.extend(receipts);
                }
            }
            Done::ToolReceipts(receipts) => tool_receipts.extend(receipts),
            Done::Records(read) => {
                for (record, hash) in read {
                    records.push(record);
                    hashes.push(hash);
                }
            }
            Done::Proofs(read) => proofs.extend(read),
        }
    }
    let mut bundle: Bundle = bundle?;
    let lists = [
        halves.len(),
        bundle.tokens.len(),
        bundle.approvals.len(),
        bundle.terraform.runs.len(),
        bundle.log.key_sets.len(),
    ];
    if lists.into_iter().any(|entries| entries > MAX_ENTRIES) {
        return None;
    }
    bundle.records = records;
    bundle.log.proofs = proofs;
    Some(Read {
        bundle,
        halves,
        tool_receipts,
        records: hashes,
        evidence_hash: evidence_hash?,
    })
}

/// Members of an object as they stand in the file: the name, and the value's text.
type Members<'a> = Vec<(&'a str, &'a str)>;

/// The file, taken apart.
#[derive(Default)]
struct File<'a> {
    /// Everything that is not taken apart further, with empty lists where the rest was.
    frame: Members<'a>,
    log: Members<'a>,
    terraform: Members<'a>,
    halves: Vec<HalfText<'a>>,
    records: Vec<&'a str>,
    proofs: Vec<&'a str>,
    tool_receipts: Vec<&'a str>,
    /// The text of each member that is evidence, with its name.
    evidence: Vec<&'a str>,
}

/// A public half, taken apart.
#[derive(Default)]
struct HalfText<'a> {
    envelope: Members<'a>,
    payload: &'a str,
    /// The payload without the receipts.
    members: Members<'a>,
    receipts: Vec<&'a str>,
}

impl<'a> File<'a> {
    fn walk(text: &'a str) -> Option<Self> {
        let mut file = Self::default();
        let (mut one, mut several) = (false, false);
        let (mut records, mut log, mut terraform) = (None, None, None);
        let mut walk = Canonical::new(text);
        walk.object(0, |walk, name| {
            let start = walk.position();
            match name {
                "proof_bundle" => {
                    one = true;
                    file.halves.push(HalfText::walk(walk, 1)?);
                }
                "proof_bundles" => {
                    several = true;
                    walk.array(1, |walk| {
                        file.halves.push(HalfText::walk(walk, 2)?);
                        Some(())
                    })?;
                }
                "records" => records = Some(elements(walk, 1)?),
                "log" => log = Some(apart(walk, 1, "proofs")?),
                "terraform" => terraform = Some(apart(walk, 1, "receipts")?),
                _ => file.frame.push((name, walk.value(1)?)),
            }
            if is_evidence(name) {
                // Its name, the quotes around that and the colon stand before it.
                let start = start.checked_sub(name.len() + 3)?;
                file.evidence.push(text.get(start..walk.position())?);
            }
            Some(())
        })?;
        walk.end()?;
        // One half, or more than one.
        if one == several || (several && file.halves.len() < 2) {
            return None;
        }
        file.records = records?;
        (file.log, file.proofs) = log?;
        (file.terraform, file.tool_receipts) = terraform?;
        let lists = [&file.records, &file.proofs, &file.tool_receipts];
        let bounded = lists.iter().all(|list| list.len() <= MAX_ENTRIES);
        bounded.then_some(file)
    }

    /// Everything but the long lists.
    fn frame(&self) -> Option<Bundle> {
        let log = joined(&self.log, &[("proofs", "[]")]);
        let terraform = joined(&self.terraform, &[("receipts", "[]")]);
        let lists = [
            ("log", log.as_str()),
            ("records", "[]"),
            ("terraform", &terraform),
        ];
        serde_json::from_str(&joined(&self.frame, &lists)).ok()
    }

    /// Hash of the canonical form of all evidence, of which every member stands in the file.
    fn evidence_hash(&self) -> Hash {
        let mut hasher = Hasher::new();
        for (n, member) in self.evidence.iter().enumerate() {
            hasher.update(if n > 0 { b"," } else { b"{" });
            hasher.update(member.as_bytes());
        }
        hasher.update(b"}");
        hasher.finish()
    }
}

impl<'a> HalfText<'a> {
    fn walk(walk: &mut Canonical<'a>, depth: usize) -> Option<Self> {
        let mut half = Self::default();
        let mut payload = None;
        walk.object(depth, |walk, name| {
            if name != "payload" {
                half.envelope.push((name, walk.value(depth + 1)?));
                return Some(());
            }
            let start = walk.position();
            walk.object(depth + 1, |walk, name| {
                match name {
                    "receipts" => half.receipts = elements(walk, depth + 2)?,
                    _ => half.members.push((name, walk.value(depth + 2)?)),
                }
                Some(())
            })?;
            payload = walk.since(start);
            Some(())
        })?;
        half.payload = payload?;
        Some(half)
    }

    /// Everything but the receipts.
    fn read(&self) -> Option<Half> {
        let envelope = joined(&self.envelope, &[("payload", "null")]);
        let envelope: Envelope = serde_json::from_str(&envelope).ok()?;
        let half: PublicHalf = serde_json::from_str(&joined(&self.members, &[])).ok()?;
        let hash = || Hash::of(self.payload.as_bytes());
        let checked = envelope.check_hashed(EnvelopeType::ProofBundle, hash);
        Some(Half {
            issued_at: envelope.issued_at,
            signer: envelope.signer_did,
            content: match checked {
                Ok(_) => Ok((half, Vec::new())),
                Err(error) => Err(error.into()),
            },
        })
    }
}

/// The elements of an array, as they stand.
fn elements<'a>(walk: &mut Canonical<'a>, depth: usize) -> Option<Vec<&'a str>> {
    let mut elements = Vec::new();
    walk.array(depth, |walk| {
        elements.push(walk.value(depth + 1)?);
        Some(())
    })?;
    Some(elements)
}

/// An object with one long list in it: its other members, and the list's elements.
fn apart<'a>(
    walk: &mut Canonical<'a>,
    depth: usize,
    list: &str,
) -> Option<(Members<'a>, Vec<&'a str>)> {
    let (mut members, mut found) = (Members::new(), None);
    walk.object(depth, |walk, name| {
        if name == list {
            found = Some(elements(walk, depth + 1)?);
        } else {
            members.push((name, walk.value(depth + 1)?));
        }
        Some(())
    })?;
    Some((members, found?))
}

/// An object of these members. Their order does not count for what is made of it.
fn joined(members: &[(&str, &str)], more: &[(&str, &str)]) -> String {
    let mut text = String::from("{");
    for (n, (name, value)) in members.iter().chain(more).enumerate() {
        text.push_str(if n > 0 { ",\"" } else { "\"" });
        text.push_str(name);
        text.push_str("\":");
        text.push_str(value);
    }
    text.push('}');
    text
}

/// What one processor reads in one go.
enum Part<'a> {
    Evidence(&'a File<'a>),
    Frame(&'a File<'a>),
    Half(&'a HalfText<'a>),
    ModelReceipts(&'a [&'a str]),
    ToolReceipts(&'a [&'a str]),
    Records(&'a [&'a str]),
    Proofs(&'a [&'a str]),
}

/// A part that has been read.
enum Done {
    Evidence(Hash),
    Frame(Box<Bundle>),
    Half(Box<Half>),
    ModelReceipts(Vec<Receipt<GatewayReceipt>>),
    ToolReceipts(Vec<Receipt<ToolReceipt>>),
    Records(Vec<(Record, RecordHashes)>),
    Proofs(Vec<Inclusion>),
}

impl Part<'_> {
    fn read(&self) -> Option<Done> {
        fn each<T>(texts: &[&str], read: impl Fn(&str) -> Option<T>) -> Option<Vec<T>> {
            texts.iter().map(|text| read(text)).collect()
        }
        Some(match self {
            Self::Evidence(file) => Done::Evidence(file.evidence_hash()),
            Self::Frame(file) => Done::Frame(Box::new(file.frame()?)),
            Self::Half(half) => Done::Half(Box::new(half.read()?)),
            Self::ModelReceipts(texts) => Done::ModelReceipts(each(texts, Receipt::open_text)?),
            Self::ToolReceipts(texts) => Done::ToolReceipts(each(texts, Receipt::open_text)?),
            Self::Records(texts) => Done::Records(each(texts, |text| {
                let record = Record::from_canonical(text).ok()?;
                let hashes = RecordHashes::of(&record, text.as_bytes());
                Some((record, hashes))
            })?),
            Self::Proofs(texts) => {
                Done::Proofs(each(texts, |text| serde_json::from_str(text).ok())?)
            }
        })
    }
}

#[cfg(all(test, feature = "testing"))]
mod tests {
    use proof::json;

    use super::*;
    use crate::report::Findings;
    use crate::testing::{Story, bytes, seal};

    /// Whether the long way reads a file, and whether this one does: the same, or nothing.
    fn is_read(file: &[u8]) -> (bool, bool) {
        let mut findings = Findings::default();
        let whole = Read::whole(file, &mut findings);
        let whole = whole.filter(|_| !findings.any_failure());
        let apart = read(file);
        let same = apart.is_none() || apart == whole;
        assert!(same, "{:.200}", String::from_utf8_lossy(file));
        (whole.is_some(), apart.is_some())
    }

    fn good() -> serde_json::Value {
        let story = Story::with_model_calls(100);
        serde_json::from_slice(&bytes(&seal(story.evidence(), &story.keys))).expect("JSON")
    }

    #[test]
    fn both_ways_read_the_same() {
        let story = Story::with_model_calls(100);
        let sealed = seal(story.evidence(), &story.keys).to_file();
        assert_eq!(is_read(&sealed), (true, true));
        let long = Story::with_model_calls(1100);
        let long = seal(long.evidence(), &long.keys).to_file();
        assert_eq!(is_read(&long), (true, true));
        let spaced = [b" \n\t\r", sealed.as_slice(), b" \r\n"].concat();
        assert_eq!(is_read(&spaced), (true, true));
        // Other spellings of the same.
        let file = good();
        assert_eq!(
            is_read(&serde_json::to_vec_pretty(&file).unwrap()),
            (true, false)
        );
        let members = file.as_object().unwrap();
        let backwards: Vec<String> = members
            .iter()
            .rev()
            .map(|(name, value)| format!("\"{name}\" : {value}"))
            .collect();
        let backwards = format!(" {{{}}} ", backwards.join("\n,"));
        assert_eq!(is_read(backwards.as_bytes()), (true, false));
        let text = String::from_utf8(sealed).unwrap();
        let escaped = text.replacen("job-open", "job\\u002dopen", 1);
        assert_eq!(is_read(escaped.as_bytes()), (true, false));
    }

    #[test]
    fn both_ways_refuse_the_same() {
        let file = good();
        let mut bad: Vec<Vec<u8>> = Vec::new();
        for name in file.as_object().unwrap().keys() {
            for value in [
                None,
                Some("null"),
                Some("[]"),
                Some("{}"),
                Some("[1]"),
                Some("\"\""),
            ] {
                let mut changed = file.clone();
                match value {
                    None => changed.as_object_mut().unwrap().remove(name),
                    Some(text) => Some(std::mem::replace(
                        &mut changed[name],
                        serde_json::from_str(text).unwrap(),
                    )),
                };
                // As far as their shape goes, these may be so.
                let fits = match value {
                    Some("[]") => ["tokens", "approvals", "records"].contains(&name.as_str()),
                    Some("\"\"") => name == "bundle",
                    _ => false,
                };
                if !fits {
                    bad.push(bytes(&changed));
                }
            }
        }
        for halves in [0, 1, 2] {
            let mut changed = file.clone();
            changed["proof_bundles"] = vec![file["proof_bundle"].clone(); halves].into();
            bad.push(bytes(&changed));
            changed.as_object_mut().unwrap().remove("proof_bundle");
            if halves < 2 {
                bad.push(bytes(&changed));
            }
        }
        let text = String::from_utf8(bytes(&file)).unwrap();
        for (from, to) in [
            ("{\"approvals\"", "{\"more\":1,\"approvals\""),
            ("{\"approvals\"", "{\"approvals\":[],\"approvals\""),
            ("{\"approvals\"", "{\"records\":[],\"approvals\""),
            ("\"seq\":7", "\"seq\":7,\"seq\":7"),
            ("\"seq\":7", "\"seq\":7.0"),
            ("\"seq\":7", "\"seq\":9007199254740992"),
            ("\"seq\":7", "\"seq\":7,\"more\":null"),
            ("\"tokens_input\":812", "\"tokens_input\":812e0"),
            ("\"status\":\"applied\"", "\"status\":\"\\ud800\""),
            ("\"records\":[", "\"records\":[1,"),
            ("\"records\":[", "\"records\":[[],"),
            ("\"proofs\":[", "\"proofs\":[null,"),
        ] {
            assert!(text.contains(from), "{from}");
            bad.push(text.replacen(from, to, 1).into_bytes());
        }
        bad.extend([
            format!("{text}x").into_bytes(),
            format!("\u{feff}{text}").into_bytes(),
            text.as_bytes()[..text.len() - 1].to_vec(),
            text.replacen("applied", "appl\u{0}ied", 1).into_bytes(),
            b"[]".to_vec(),
            Vec::new(),
        ]);
        let place = text.find("applied").unwrap();
        let mut not_utf8 = text.clone().into_bytes();
        not_utf8[place] = 0xff;
        bad.push(not_utf8);
        for file in bad {
            let text = String::from_utf8_lossy(&file);
            assert_eq!(is_read(&file), (false, false), "{text:.200}");
        }
    }

    /// The depth counts from the beginning of the file, wherever a part of it stands.
    #[test]
    fn both_ways_go_as_deep() {
        let text = String::from_utf8(bytes(&good())).unwrap();
        for place in ["\"decision\":{\"code\":", "\"wpc\":{"] {
            assert!(text.contains(place), "{place}");
            let mut read = Vec::new();
            for depth in json::MAX_DEPTH - 8..json::MAX_DEPTH + 2 {
                let nested = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
                let (object, member) = place.split_once('{').unwrap();
                let wider = if member.is_empty() {
                    format!("{object}{{\"payload\":{nested},\"payload_\":0,")
                } else {
                    format!("{object}{{\"a\":{nested},{member}")
                };
                read.push(is_read(text.replacen(place, &wider, 1).as_bytes()));
            }
            assert!(read.is_sorted_by(|a, b| a >= b), "{read:?}");
            let in_the_open = place.contains("decision");
            assert_eq!(read[0], (in_the_open, in_the_open), "{read:?}");
        }
    }
}
