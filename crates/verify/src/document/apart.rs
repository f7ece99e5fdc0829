//! The file taken apart at its top level, so that all processors read it.
//!
//! This is for files in which nothing is wrong: at the first doubt there is no result, and
//! [`Read::whole`] reads the file again from its beginning and says what it is. Both apply the
//! same rules to every byte: the strict reader sees each part, at its own depth, and here the
//! names of the parts are looked at.

use std::fmt;

use proof::bundle::{Bundle, LogProof, Terraform};
use proof::json::{self, Numbers};
use proof::{Envelope, Json};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::{Hashed, MAX_ENTRIES, Read, evidence_hash, is_evidence, take_records};
use crate::threads;

/// So many records are read in one go.
const RECORDS: usize = 64;

/// Reads a file in which nothing is wrong.
pub(super) fn read(bytes: &[u8]) -> Option<Read> {
    let file: File<'_> = serde_json::from_slice(bytes).ok()?;
    let members = file
        .members
        .iter()
        .map(|(name, text)| Part::Member(name, text));
    // The large ones first: the records fill up what is left of everybody's time.
    let parts: Vec<Part<'_>> = members
        .chain(file.records.0.chunks(RECORDS).map(Part::Records))
        .collect();
    let read = threads::map_large(&parts, |_, part| part.read());

    let mut records = Vec::with_capacity(file.records.0.len());
    let mut evidence = Vec::new();
    let mut small = Json::object();
    small.set("records", Json::Array(Vec::new()));
    let (mut one, mut several) = (None, None);
    let (mut log, mut terraform) = (None, None);
    for done in read {
        let (name, value, text) = match done? {
            Done::Records(read) => {
                records.extend(read);
                continue;
            }
            Done::Member(name, value, text) => (name, value, text),
        };
        match *value {
            Value::Half(envelope) => one = Some(envelope),
            Value::Halves(envelopes) => several = Some(envelopes),
            Value::Log(proof) => log = Some(proof),
            Value::Terraform(half) => terraform = Some(half),
            Value::Small(json) => small.set(name, json),
        }
        if is_evidence(name) {
            evidence.push((name, text));
        }
    }
    // One half, or more than one.
    let one_half = one.is_some() != several.as_ref().is_some_and(|halves| halves.len() > 1);
    if !one_half || (one.is_some() && several.is_some()) {
        return None;
    }
    let mut bundle = frame(small)?;
    bundle.proof_bundle = one;
    bundle.proof_bundles = several.unwrap_or_default();
    bundle.log = log?;
    bundle.terraform = terraform?;
    let lists = [
        bundle.proof_bundles.len(),
        bundle.tokens.len(),
        bundle.approvals.len(),
        bundle.terraform.runs.len(),
        bundle.terraform.receipts.len(),
        bundle.log.proofs.len(),
    ];
    if lists.into_iter().any(|entries| entries > MAX_ENTRIES) {
        return None;
    }
    let evidence_hash = evidence_hash(evidence, &records);
    Some(Read {
        records: take_records(records, &mut bundle),
        bundle,
        evidence_hash,
    })
}

/// The bundle around the large members, which are put in afterwards.
fn frame(mut frame: Json) -> Option<Bundle> {
    let mut log = Json::object();
    log.set("checkpoint", "");
    log.set("proofs", Json::Array(Vec::new()));
    frame.set("log", log);
    let mut terraform = Json::object();
    terraform.set("runs", Json::Array(Vec::new()));
    terraform.set("receipts", Json::Array(Vec::new()));
    frame.set("terraform", terraform);
    frame.to_typed().ok()
}

/// The members of the file as they were written.
struct File<'a> {
    members: Vec<(String, &'a RawValue)>,
    records: Records<'a>,
}

#[derive(Default)]
struct Records<'a>(Vec<&'a RawValue>);

impl<'de: 'a, 'a> Deserialize<'de> for File<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = File<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<File<'de>, A::Error> {
                let mut members: Vec<(String, &RawValue)> = Vec::new();
                let mut records = None;
                while let Some(name) = map.next_key::<String>()? {
                    // Far more than a bundle has.
                    let known = members.len() > 32
                        || members.iter().any(|(other, _)| *other == name)
                        || (name == "records" && records.is_some());
                    if known {
                        return Err(A::Error::custom("not a bundle"));
                    }
                    if name == "records" {
                        records = Some(map.next_value()?);
                    } else {
                        members.push((name, map.next_value()?));
                    }
                }
                let records = records.ok_or_else(|| A::Error::custom("no records"))?;
                Ok(File { members, records })
            }
        }
        deserializer.deserialize_map(Members)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Records<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Elements;
        impl<'de> Visitor<'de> for Elements {
            type Value = Records<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Records<'de>, A::Error> {
                let mut records = Vec::new();
                while let Some(record) = list.next_element()? {
                    if records.len() == MAX_ENTRIES {
                        return Err(A::Error::custom("too many"));
                    }
                    records.push(record);
                }
                Ok(Records(records))
            }
        }
        deserializer.deserialize_seq(Elements)
    }
}

/// What one processor reads in one go.
enum Part<'a> {
    Member(&'a str, &'a RawValue),
    Records(&'a [&'a RawValue]),
}

/// A part that has been read.
enum Done<'a> {
    /// With its name and, where it is evidence, its canonical form.
    Member(&'a str, Box<Value>, Vec<u8>),
    Records(Vec<Hashed>),
}

enum Value {
    Half(Envelope),
    Halves(Vec<Envelope>),
    Log(LogProof),
    Terraform(Terraform),
    Small(Json),
}

impl<'a> Part<'a> {
    fn read(&self) -> Option<Done<'a>> {
        let strict = |text: &RawValue, depth| {
            json::parse_at(text.get().as_bytes(), Numbers::Integers, depth).ok()
        };
        match self {
            Self::Member(name, text) => {
                let json = strict(text, 1)?;
                let canonical = if is_evidence(name) {
                    json.to_jcs()
                } else {
                    Vec::new()
                };
                let value = Box::new(Value::read(name, json)?);
                Some(Done::Member(name, value, canonical))
            }
            Self::Records(texts) => texts
                .iter()
                .map(|text| Hashed::read(&strict(text, 2)?).ok())
                .collect::<Option<_>>()
                .map(Done::Records),
        }
    }
}

impl Value {
    fn read(name: &str, json: Json) -> Option<Self> {
        Some(match (name, json) {
            ("proof_bundle", json) => Self::Half(Envelope::from_json(json).ok()?),
            ("proof_bundles", Json::Array(halves)) => {
                let halves = halves.into_iter().map(Envelope::from_json);
                Self::Halves(halves.collect::<Result<_, _>>().ok()?)
            }
            ("proof_bundles", _) => return None,
            ("log", json) => Self::Log(json.to_typed().ok()?),
            ("terraform", json) => Self::Terraform(json.to_typed().ok()?),
            (_, json) => Self::Small(json),
        })
    }
}

#[cfg(all(test, feature = "testing"))]
mod tests {
    use super::*;
    use crate::report::Findings;
    use crate::testing::{Story, bytes, seal};

    /// What both ways of reading make of a file, which must be the same.
    fn is_read(file: &[u8]) -> bool {
        let mut findings = Findings::default();
        let whole = Read::whole(file, &mut findings);
        let whole = whole.filter(|_| !findings.any_failure());
        let apart = read(file);
        assert!(apart == whole, "{:.200}", String::from_utf8_lossy(file));
        apart.is_some()
    }

    fn good() -> serde_json::Value {
        let story = Story::with_model_calls(100);
        serde_json::from_slice(&bytes(&seal(story.evidence(), &story.keys))).expect("JSON")
    }

    #[test]
    fn both_ways_read_the_same() {
        let file = good();
        assert!(is_read(&bytes(&file)));
        assert!(is_read(&serde_json::to_vec_pretty(&file).unwrap()));
        let long = Story::with_model_calls(1100);
        assert!(is_read(&bytes(&seal(long.evidence(), &long.keys))));
        let members = file.as_object().unwrap();
        let backwards: Vec<String> = members
            .iter()
            .rev()
            .map(|(name, value)| format!("\"{name}\" : {value}"))
            .collect();
        assert!(is_read(
            format!(" {{{}}} ", backwards.join("\n,")).as_bytes()
        ));
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
            assert!(!is_read(&file), "{:.200}", String::from_utf8_lossy(&file));
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
                    format!("{object}{{\"deep\":{nested},{member}")
                };
                read.push(is_read(text.replacen(place, &wider, 1).as_bytes()));
            }
            assert!(read.is_sorted_by(|a, b| a >= b), "{read:?}");
        }
    }
}
