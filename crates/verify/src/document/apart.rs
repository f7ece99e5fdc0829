//! The file in canonical form, as a gateway writes it: walked over once, taken apart where it
//! stands, and read by all processors.
//!
//! This is for files in which nothing is wrong: at the first doubt there is no result, and
//! [`Read::whole`] reads the file again from its beginning and says what it is. Both apply the
//! same rules: what [`Canonical`] accepts, the strict reader accepts, and the text is its own
//! canonical form, so that hashes are taken over the text.

use proof::bundle::{Bundle, Inclusion, PublicHalf};
use proof::frequent::Keyring;
use proof::hash::Hasher;
use proof::json::Canonical;
use proof::receipt::{GatewayReceipt, ToolReceipt};
use proof::record::Record;
use proof::{Envelope, EnvelopeType, Hash, PublicKey};

use super::opened::{Half, Receipt};
use super::{MAX_ENTRIES, Read, RecordHashes, is_evidence};
use crate::threads::{self, Found};

/// So many records or proofs are read in one go.
const STEP: usize = 64;

/// So many receipts: each costs a signature.
const RECEIPTS: usize = 16;

/// Reads a file in which nothing is wrong.
pub(super) fn read(bytes: &[u8]) -> Option<Read> {
    let text = std::str::from_utf8(bytes).ok()?;
    let blank = |c: char| matches!(c, ' ' | '\t' | '\r' | '\n');
    let text = text.trim_matches(blank);
    let keys = Keyring::default();
    let done = threads::map_found(|found| walk(text, found), |part| part.read(&keys))?;

    let mut evidence_hash = None;
    let mut bundle = None;
    let mut halves: Vec<Half> = Vec::new();
    let mut model_receipts = Vec::new();
    let mut records = Vec::new();
    let mut hashes = Vec::new();
    let mut proofs = Vec::new();
    let mut tool_receipts = Vec::new();
    for done in done {
        match done? {
            Done::Evidence(hash) => evidence_hash = Some(hash),
            Done::Frame(frame) => bundle = Some(*frame),
            // It comes after its receipts.
            Done::Half(mut half) => {
                if let Ok((_, carried)) = &mut half.content {
                    *carried = std::mem::take(&mut model_receipts);
                }
                model_receipts.clear();
                halves.push(*half);
            }
            Done::ModelReceipts(receipts) => model_receipts.extend(receipts),
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

/// Walks over the file and hands in its parts as they are found.
fn walk<'a>(text: &'a str, found: &Found<Part<'a>>) -> Option<()> {
    let (mut one, mut several) = (false, None);
    let (mut records, mut log, mut terraform) = (false, None, None);
    let mut frame = Members::new();
    let mut evidence = Vec::new();
    let mut walk = Canonical::new(text);
    walk.object(0, |walk, name| {
        let start = walk.position();
        match name {
            "proof_bundle" => {
                one = true;
                walk_half(walk, 1, found)?;
            }
            "proof_bundles" => {
                let count = several.insert(0);
                walk.array(1, |walk| {
                    *count += 1;
                    walk_half(walk, 2, found)?;
                    (*count <= MAX_ENTRIES).then_some(())
                })?;
            }
            "records" => {
                records = true;
                walk_list(walk, 1, STEP, |list| found.push(Part::Records(list)))?;
            }
            "log" => {
                let push = |list| found.push(Part::Proofs(list));
                log = Some(walk_around(walk, 1, ("proofs", STEP), push)?);
            }
            "terraform" => {
                let push = |list| found.push(Part::ToolReceipts(list));
                terraform = Some(walk_around(walk, 1, ("receipts", RECEIPTS), push)?);
            }
            _ => frame.push((name, walk.value(1)?)),
        }
        if is_evidence(name) {
            // Its name, the quotes around that and the colon stand before it.
            let start = start.checked_sub(name.len() + 3)?;
            evidence.push(text.get(start..walk.position())?);
        }
        Some(())
    })?;
    walk.end()?;
    // One half, or more than one.
    let halves = match several {
        None => one,
        Some(count) => !one && count > 1,
    };
    if !halves || !records {
        return None;
    }
    let log = joined(&log?, &[("proofs", "[]")]);
    let terraform = joined(&terraform?, &[("receipts", "[]")]);
    let lists = [
        ("log", log.as_str()),
        ("records", "[]"),
        ("terraform", &terraform),
    ];
    // All of the text is hashed in one go.
    found.push_first(Part::Evidence(evidence));
    found.push(Part::Frame(joined(&frame, &lists)));
    Some(())
}

/// A public half: its receipts, and then the rest of it.
fn walk_half<'a>(walk: &mut Canonical<'a>, depth: usize, found: &Found<Part<'a>>) -> Option<()> {
    let (mut envelope, mut members, mut payload) = (Members::new(), Members::new(), None);
    walk.object(depth, |walk, name| {
        if name != "payload" {
            envelope.push((name, walk.value(depth + 1)?));
            return Some(());
        }
        let start = walk.position();
        walk.object(depth + 1, |walk, name| {
            match name {
                "receipts" => {
                    let push = |list| found.push(Part::ModelReceipts(list));
                    walk_list(walk, depth + 2, RECEIPTS, push)?;
                }
                _ => members.push((name, walk.value(depth + 2)?)),
            }
            Some(())
        })?;
        payload = walk.since(start);
        Some(())
    })?;
    found.push(Part::Half(HalfText {
        envelope,
        payload: payload?,
        members,
    }));
    Some(())
}

/// The elements of an array as they stand, so many at a time.
fn walk_list<'a>(
    walk: &mut Canonical<'a>,
    depth: usize,
    step: usize,
    mut push: impl FnMut(Vec<&'a str>),
) -> Option<()> {
    let (mut list, mut count) = (Vec::new(), 0);
    walk.array(depth, |walk| {
        list.push(walk.value(depth + 1)?);
        count += 1;
        if list.len() == step {
            push(std::mem::take(&mut list));
        }
        (count <= MAX_ENTRIES).then_some(())
    })?;
    if !list.is_empty() {
        push(list);
    }
    Some(())
}

/// An object with one long list in it: its other members.
fn walk_around<'a>(
    walk: &mut Canonical<'a>,
    depth: usize,
    (list, step): (&str, usize),
    mut push: impl FnMut(Vec<&'a str>),
) -> Option<Members<'a>> {
    let (mut members, mut seen) = (Members::new(), false);
    walk.object(depth, |walk, name| {
        if name == list {
            seen = true;
            walk_list(walk, depth + 1, step, &mut push)?;
        } else {
            members.push((name, walk.value(depth + 1)?));
        }
        Some(())
    })?;
    seen.then_some(members)
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
    /// The text of each member that is evidence, with its name.
    Evidence(Vec<&'a str>),
    /// Everything but the long lists.
    Frame(String),
    Half(HalfText<'a>),
    ModelReceipts(Vec<&'a str>),
    ToolReceipts(Vec<&'a str>),
    Records(Vec<&'a str>),
    Proofs(Vec<&'a str>),
}

/// A public half without its receipts.
struct HalfText<'a> {
    envelope: Members<'a>,
    /// All of it, for the hash.
    payload: &'a str,
    members: Members<'a>,
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
    fn read(self, keys: &Keyring) -> Option<Done> {
        fn each<T>(texts: &[&str], read: impl Fn(&str) -> Option<T>) -> Option<Vec<T>> {
            texts.iter().map(|text| read(text)).collect()
        }
        Some(match self {
            Self::Evidence(members) => Done::Evidence(evidence_hash(&members)),
            Self::Frame(text) => Done::Frame(serde_json::from_str(&text).ok()?),
            Self::Half(half) => Done::Half(Box::new(half.read()?)),
            Self::ModelReceipts(texts) => Done::ModelReceipts(Receipt::open_texts(&texts, keys)?),
            Self::ToolReceipts(texts) => Done::ToolReceipts(Receipt::open_texts(&texts, keys)?),
            Self::Records(texts) => Done::Records(each(&texts, |text| {
                let record = Record::from_canonical(text).ok()?;
                let hashes = RecordHashes::of(&record, text.as_bytes());
                Some((record, hashes))
            })?),
            Self::Proofs(texts) => {
                Done::Proofs(each(&texts, |text| serde_json::from_str(text).ok())?)
            }
        })
    }
}

/// Hash of the canonical form of all evidence, of which every member stands in the file.
fn evidence_hash(members: &[&str]) -> Hash {
    let mut hasher = Hasher::new();
    for (n, member) in members.iter().enumerate() {
        hasher.update(if n > 0 { b"," } else { b"{" });
        hasher.update(member.as_bytes());
    }
    hasher.update(b"}");
    hasher.finish()
}

impl HalfText<'_> {
    fn read(&self) -> Option<Half> {
        let envelope = joined(&self.envelope, &[("payload", "null")]);
        let envelope: Envelope = serde_json::from_str(&envelope).ok()?;
        let half: PublicHalf = serde_json::from_str(&joined(&self.members, &[])).ok()?;
        let hash = || Hash::of(self.payload.as_bytes());
        let checked = envelope.check_hashed(EnvelopeType::ProofBundle, hash, PublicKey::verify);
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
