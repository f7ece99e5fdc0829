//! The file in canonical form, as a gateway writes it: walked over once, a piece at a time, taken
//! apart where it stands, and read by all processors while the walk goes on.
//!
//! This is for files in which nothing is wrong: at the first doubt there is no result, and
//! [`Read::whole`] reads the file again from its beginning and says what it is. Both apply the
//! same rules: what [`Canonical`](proof::json::Canonical) accepts, the strict reader accepts, and
//! the text is its own canonical form, so that hashes are taken over the text.

use std::io;

use proof::bundle::{Bundle, Inclusion, PublicHalf};
use proof::frequent::Keyring;
use proof::hash::Hasher;
use proof::receipt::{GatewayReceipt, ToolReceipt};
use proof::record::Record;
use proof::{Envelope, EnvelopeType, Hash, PublicKey};

use super::opened::{Half, Receipt};
use super::walk::{Text, Walk};
use super::{MAX_ENTRIES, Read, RecordHashes, is_evidence};
use crate::threads;

/// So many records or proofs are read in one go.
const STEP: usize = 64;

/// So many receipts: each costs a signature.
const RECEIPTS: usize = 16;

/// Reads a file in which nothing is wrong, so many bytes in one go.
///
/// # Errors
/// When the source cannot be read.
pub(super) fn read(source: impl io::Read, step: usize) -> io::Result<Option<Read>> {
    let mut file = Walk::new(source, step);
    let keys = Keyring::default();
    let mut evidence = None;
    let find =
        |found: &mut dyn FnMut(Part)| walk(&mut file, found).map(|hash| evidence = Some(hash));
    let done = threads::map_found(find, |part| part.read(&keys));
    file.finish()?;
    Ok(done
        .zip(evidence)
        .and_then(|(done, evidence)| gather(done, evidence)))
}

/// Puts together what was read.
fn gather(done: Vec<Option<Done>>, evidence_hash: Hash) -> Option<Read> {
    let mut bundle = None;
    let mut halves: Vec<Half> = Vec::new();
    let mut model_receipts = Vec::new();
    let mut records = Vec::new();
    let mut hashes = Vec::new();
    let mut proofs = Vec::new();
    let mut tool_receipts = Vec::new();
    for done in done {
        match done? {
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
        evidence_hash,
    })
}

/// Members of an object as they stand in the file.
type Members = Vec<(String, Text)>;

/// Walks over the file and hands in its parts as they are found; gives the hash of its evidence.
fn walk<S: io::Read>(file: &mut Walk<S>, found: &mut dyn FnMut(Part)) -> Option<Hash> {
    let (mut one, mut several) = (false, None);
    let (mut records, mut log, mut terraform) = (false, None, None);
    let mut frame = Members::new();
    let mut evidence = Hasher::new();
    file.is_over()?;
    file.object(0, |file, name| {
        let is_evidence = is_evidence(name);
        if is_evidence {
            let mut hasher = std::mem::take(&mut evidence);
            let before = if hasher.length() == 0 { '{' } else { ',' };
            hasher.update(format!("{before}\"{name}\":").as_bytes());
            file.hash(hasher);
        }
        match name {
            "proof_bundle" => {
                one = true;
                walk_half(file, 1, found)?;
            }
            "proof_bundles" => {
                let count = several.insert(0);
                file.array(1, |file| {
                    *count += 1;
                    walk_half(file, 2, found)?;
                    (*count <= MAX_ENTRIES).then_some(())
                })?;
            }
            "records" => {
                records = true;
                walk_list(file, 1, STEP, |list| found(Part::Records(list)))?;
            }
            "log" => {
                let push = |list| found(Part::Proofs(list));
                log = Some(walk_around(file, 1, ("proofs", STEP), push)?);
            }
            "terraform" => {
                let push = |list| found(Part::ToolReceipts(list));
                terraform = Some(walk_around(file, 1, ("receipts", RECEIPTS), push)?);
            }
            _ => frame.push((name.to_owned(), file.value(1)?)),
        }
        if is_evidence {
            evidence = file.hashed()?;
        }
        Some(())
    })?;
    evidence.update(b"}");
    // One half, or more than one.
    let halves = match several {
        None => one,
        Some(count) => !one && count > 1,
    };
    if !file.is_over()? || !halves || !records {
        return None;
    }
    let log = joined(&log?, &[("proofs", "[]")]);
    let terraform = joined(&terraform?, &[("receipts", "[]")]);
    let lists = [
        ("log", log.as_str()),
        ("records", "[]"),
        ("terraform", &terraform),
    ];
    found(Part::Frame(joined(&frame, &lists)));
    Some(evidence.finish())
}

/// A public half: its receipts, and then the rest of it.
fn walk_half<S: io::Read>(
    file: &mut Walk<S>,
    depth: usize,
    found: &mut dyn FnMut(Part),
) -> Option<()> {
    let (mut envelope, mut members, mut payload_hash) = (Members::new(), Members::new(), None);
    file.object(depth, |file, name| {
        if name != "payload" {
            envelope.push((name.to_owned(), file.value(depth + 1)?));
            return Some(());
        }
        file.hash(Hasher::new());
        file.object(depth + 1, |file, name| {
            match name {
                "receipts" => {
                    let push = |list| found(Part::ModelReceipts(list));
                    walk_list(file, depth + 2, RECEIPTS, push)?;
                }
                _ => members.push((name.to_owned(), file.value(depth + 2)?)),
            }
            Some(())
        })?;
        payload_hash = file.hashed().map(|hasher| hasher.finish());
        Some(())
    })?;
    found(Part::Half(HalfText {
        envelope,
        payload_hash: payload_hash?,
        members,
    }));
    Some(())
}

/// The elements of an array as they stand, so many at a time.
fn walk_list<S: io::Read>(
    file: &mut Walk<S>,
    depth: usize,
    step: usize,
    mut push: impl FnMut(Vec<Text>),
) -> Option<()> {
    let (mut list, mut count) = (Vec::new(), 0);
    file.array(depth, |file| {
        list.push(file.value(depth + 1)?);
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
fn walk_around<S: io::Read>(
    file: &mut Walk<S>,
    depth: usize,
    (list, step): (&str, usize),
    mut push: impl FnMut(Vec<Text>),
) -> Option<Members> {
    let (mut members, mut seen) = (Members::new(), false);
    file.object(depth, |file, name| {
        if name == list {
            seen = true;
            walk_list(file, depth + 1, step, &mut push)?;
        } else {
            members.push((name.to_owned(), file.value(depth + 1)?));
        }
        Some(())
    })?;
    seen.then_some(members)
}

/// An object of these members. Their order does not count for what is made of it.
fn joined(members: &[(String, Text)], more: &[(&str, &str)]) -> String {
    let members = members
        .iter()
        .map(|(name, value)| (name.as_str(), &**value));
    let mut text = String::from("{");
    for (n, (name, value)) in members.chain(more.iter().copied()).enumerate() {
        text.push_str(if n > 0 { ",\"" } else { "\"" });
        text.push_str(name);
        text.push_str("\":");
        text.push_str(value);
    }
    text.push('}');
    text
}

/// What one processor reads in one go.
enum Part {
    /// Everything but the long lists.
    Frame(String),
    Half(HalfText),
    ModelReceipts(Vec<Text>),
    ToolReceipts(Vec<Text>),
    Records(Vec<Text>),
    Proofs(Vec<Text>),
}

/// A public half without its receipts.
struct HalfText {
    envelope: Members,
    /// Of all of it.
    payload_hash: Hash,
    members: Members,
}

/// A part that has been read.
enum Done {
    Frame(Box<Bundle>),
    Half(Box<Half>),
    ModelReceipts(Vec<Receipt<GatewayReceipt>>),
    ToolReceipts(Vec<Receipt<ToolReceipt>>),
    Records(Vec<(Record, RecordHashes)>),
    Proofs(Vec<Inclusion>),
}

impl Part {
    fn read(self, keys: &Keyring) -> Option<Done> {
        fn each<T>(texts: &[Text], read: impl Fn(&str) -> Option<T>) -> Option<Vec<T>> {
            texts.iter().map(|text| read(text)).collect()
        }
        Some(match self {
            Self::Frame(text) => Done::Frame(serde_json::from_str(&text).ok()?),
            Self::Half(half) => Done::Half(Box::new(half.read()?)),
            Self::ModelReceipts(texts) => Done::ModelReceipts(Receipt::open_texts(&texts, keys)?),
            Self::ToolReceipts(texts) => Done::ToolReceipts(Receipt::open_texts(&texts, keys)?),
            Self::Records(texts) => Done::Records(each(&texts, |text| {
                let record = Record::from_canonical(text).ok()?;
                let hashes = RecordHashes::of(&record, text.as_bytes());
                Some((record, hashes))
            })?),
            Self::Proofs(texts) => Done::Proofs(each(&texts, |text| {
                let mut proof: Inclusion = serde_json::from_str(text).ok()?;
                // As long as it is: read, it has room for twice as much.
                proof.path = proof.path.as_slice().to_vec();
                Some(proof)
            })?),
        })
    }
}

impl HalfText {
    fn read(&self) -> Option<Half> {
        let envelope = joined(&self.envelope, &[("payload", "null")]);
        let envelope: Envelope = serde_json::from_str(&envelope).ok()?;
        let half: PublicHalf = serde_json::from_str(&joined(&self.members, &[])).ok()?;
        let hash = || self.payload_hash;
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

    use super::super::walk::PIECE;
    use super::*;
    use crate::report::Findings;
    use crate::testing::{Story, bytes, seal};

    /// Whether the long way reads a file, and whether this one does: the same, or nothing.
    fn is_read(file: &[u8]) -> (bool, bool) {
        let mut findings = Findings::default();
        let whole = Read::whole(file, &mut findings);
        let whole = whole.filter(|_| !findings.any_failure());
        let apart = |step| read(file, step).expect("memory can be read");
        let large = apart(PIECE);
        let same = large.is_none() || large == whole;
        assert!(same, "{:.200}", String::from_utf8_lossy(file));
        // Wherever one piece ends and the next begins.
        if file.len() < 1 << 20 {
            for step in [1, 997] {
                assert_eq!(apart(step), large, "{step}");
            }
        }
        (whole.is_some(), large.is_some())
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
