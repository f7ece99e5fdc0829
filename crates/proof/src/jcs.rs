//! Canonical JSON (RFC 8785) and the document-order writing of the public reference verifier.
//!
//! What we sign is written in JCS order with integers only and without integer-like member
//! names, so that both writings give the same bytes. The second one exists to check foreign
//! envelopes, whose hashes were made over JavaScript's `JSON.stringify` of the received text.

use std::io::Write as _;

use serde::Serialize;

mod direct;

use crate::json::{Json, JsonError, MAX_DEPTH, MAX_SAFE_INTEGER};

/// Writes any serialisable value in canonical form.
///
/// # Errors
/// When the value cannot be expressed as JSON (see [`Json::from_value`]).
pub fn to_bytes(value: &impl Serialize) -> Result<Vec<u8>, JsonError> {
    match direct(value) {
        Some(written) => Ok(written),
        None => Ok(Json::from_value(value)?.to_jcs()),
    }
}

/// The same for what can be written straight away: integers of at most 2^53-1, and names that
/// need no escape, are no array index and stand in their object once. What comes back is signable
/// as it stands.
pub(crate) fn direct(value: &impl Serialize) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(1024);
    direct::write(value, &mut out).then_some(out)
}

impl Json {
    /// The canonical form (RFC 8785): members sorted by UTF-16 code units, ECMAScript numbers.
    pub fn to_jcs(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(256);
        write(self, Order::Canonical, &mut out);
        out
    }

    /// What `JSON.stringify(JSON.parse(text))` gives: members in written order, but names that
    /// are array indices first, in ascending order (ECMA-262, OrdinaryOwnPropertyKeys).
    pub fn to_document_order(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(256);
        write(self, Order::Document, &mut out);
        out
    }

    /// Whether some member name is an array index, which JavaScript would move to the front.
    /// Nothing that we sign may have one.
    pub fn has_index_name(&self) -> bool {
        match self {
            Self::Array(elements) => elements.iter().any(Self::has_index_name),
            Self::Object(members) => members
                .iter()
                .any(|(name, value)| array_index(name).is_some() || value.has_index_name()),
            _ => false,
        }
    }
}

/// Why a value has no form that every reader hashes alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Ambiguous {
    #[error("a number that is not an integer of at most 2^53-1")]
    Number,
    #[error("a member name looks like a number")]
    IndexName,
    #[error("nested deeper than {MAX_DEPTH} levels")]
    Depth,
}

impl Json {
    /// Brings the value to the form in which it comes back when its canonical text is read with
    /// integers only: members in canonical order, whole numbers as integers.
    pub(crate) fn make_signable(&mut self) -> Result<(), Ambiguous> {
        self.make_signable_at(0)
    }

    fn make_signable_at(&mut self, depth: usize) -> Result<(), Ambiguous> {
        match self {
            // Nor would the reader go further; only of an empty object it does not see the depth.
            Self::Array(_) if depth >= MAX_DEPTH => Err(Ambiguous::Depth),
            Self::Object(members) if depth >= MAX_DEPTH && !members.is_empty() => {
                Err(Ambiguous::Depth)
            }
            Self::Double(value) => {
                let whole = value.fract() == 0.0 && value.abs() <= MAX_SAFE_INTEGER as f64;
                if !whole {
                    return Err(Ambiguous::Number);
                }
                *self = Self::Integer(*value as i64);
                Ok(())
            }
            Self::Array(elements) => elements
                .iter_mut()
                .try_for_each(|element| element.make_signable_at(depth + 1)),
            Self::Object(members) => {
                if !in_canonical_order(members) {
                    members.sort_by(|(a, _), (b, _)| canonical_order(a, b));
                }
                members.iter_mut().try_for_each(|(name, value)| {
                    if array_index(name).is_some() {
                        return Err(Ambiguous::IndexName);
                    }
                    value.make_signable_at(depth + 1)
                })
            }
            Self::Null | Self::Bool(_) | Self::Integer(_) | Self::String(_) => Ok(()),
        }
    }
}

#[derive(Clone, Copy)]
enum Order {
    Canonical,
    Document,
}

fn write(value: &Json, order: Order, out: &mut Vec<u8>) {
    match value {
        Json::Null => out.extend_from_slice(b"null"),
        Json::Bool(true) => out.extend_from_slice(b"true"),
        Json::Bool(false) => out.extend_from_slice(b"false"),
        Json::Integer(value) => {
            write!(out, "{value}").expect("writing to memory cannot fail");
        }
        Json::Double(value) => {
            out.extend_from_slice(ryu_js::Buffer::new().format_finite(*value).as_bytes());
        }
        Json::String(text) => write_string(text, out),
        Json::Array(elements) => {
            out.push(b'[');
            for (index, element) in elements.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write(element, order, out);
            }
            out.push(b']');
        }
        Json::Object(members) => {
            let ordered = match order {
                Order::Canonical => in_canonical_order(members),
                Order::Document => !members.iter().any(|(name, _)| array_index(name).is_some()),
            };
            if ordered {
                return write_members(members.iter(), order, out);
            }
            let mut sorted: Vec<&(String, Json)> = members.iter().collect();
            match order {
                Order::Canonical => {
                    sorted.sort_by(|(a, _), (b, _)| canonical_order(a, b));
                }
                Order::Document => {
                    sorted.sort_by_key(|(name, _)| array_index(name).map_or(u64::MAX, u64::from));
                }
            }
            write_members(sorted.into_iter(), order, out);
        }
    }
}

fn write_members<'a>(
    members: impl Iterator<Item = &'a (String, Json)>,
    order: Order,
    out: &mut Vec<u8>,
) {
    out.push(b'{');
    for (index, (name, value)) in members.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write_string(name, out);
        out.push(b':');
        write(value, order, out);
    }
    out.push(b'}');
}

/// What we wrote ourselves comes back in order; sorting is for others.
fn in_canonical_order(members: &[(String, Json)]) -> bool {
    members.is_sorted_by(|(a, _), (b, _)| canonical_order(a, b).is_le())
}

/// By UTF-16 code units. Bytes give the same order, except that the surrogates of astral
/// characters (first byte 0xf0 and up) come before U+E000 to U+FFFF (0xee and 0xef).
pub(crate) fn canonical_order(a: &str, b: &str) -> std::cmp::Ordering {
    let differ = a.bytes().zip(b.bytes()).find(|(a, b)| a != b);
    match differ {
        Some((a_byte, b_byte)) if a_byte >= 0xee && b_byte >= 0xee => {
            a.encode_utf16().cmp(b.encode_utf16())
        }
        Some((a_byte, b_byte)) => a_byte.cmp(&b_byte),
        None => a.len().cmp(&b.len()),
    }
}

/// `"0"` to `"4294967294"` in canonical spelling.
fn array_index(name: &str) -> Option<u32> {
    let canonical = name == "0" || !name.starts_with('0');
    let digits = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit());
    if !(canonical && digits) {
        return None;
    }
    name.parse::<u32>().ok().filter(|index| *index != u32::MAX)
}

const fn is_escaped(byte: u8) -> bool {
    byte == b'"' || byte == b'\\' || byte < 0x20
}

fn write_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let bytes = text.as_bytes();
    // Most texts have nothing to escape and go out in one piece. Without an early end the search
    // takes many bytes at a time.
    let any = |bytes: &[u8]| {
        bytes
            .iter()
            .fold(false, |any, byte| any | is_escaped(*byte))
    };
    if any(bytes) {
        write_escaped(bytes, out);
    } else {
        out.extend_from_slice(bytes);
    }
    out.push(b'"');
}

fn write_escaped(bytes: &[u8], out: &mut Vec<u8>) {
    let mut written = 0;
    for (index, byte) in bytes.iter().enumerate() {
        if !is_escaped(*byte) {
            continue;
        }
        out.extend_from_slice(&bytes[written..index]);
        written = index + 1;
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x09 => out.extend_from_slice(b"\\t"),
            0x0a => out.extend_from_slice(b"\\n"),
            0x0c => out.extend_from_slice(b"\\f"),
            0x0d => out.extend_from_slice(b"\\r"),
            _ => write!(out, "\\u{byte:04x}").expect("writing to memory cannot fail"),
        }
    }
    out.extend_from_slice(&bytes[written..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::{Numbers, parse};
    use proptest::prelude::*;

    fn jcs(text: &str) -> String {
        String::from_utf8(parse(text.as_bytes(), Numbers::Any).unwrap().to_jcs()).unwrap()
    }

    fn document(text: &str) -> String {
        String::from_utf8(
            parse(text.as_bytes(), Numbers::Any)
                .unwrap()
                .to_document_order(),
        )
        .unwrap()
    }

    #[test]
    fn numbers_and_order_are_those_of_the_standard() {
        for (text, canonical) in [
            (
                r#"[1.0,1e2,-0,1e21,1e-7,0.000001]"#,
                "[1,100,0,1e+21,1e-7,0.000001]",
            ),
            (
                r#"[333333333.33333329,4.50,2e-3]"#,
                "[333333333.3333333,4.5,0.002]",
            ),
            (
                r#"{"b":1,"a":{"d":2,"c":3}}"#,
                r#"{"a":{"c":3,"d":2},"b":1}"#,
            ),
            // An astral character sorts before U+FF5E in UTF-16, after it by code point.
            (r#"{"～":1,"😀":2}"#, r#"{"😀":2,"～":1}"#),
            (
                r#"["\u0007\u001f\u2028\u007f\/"]"#,
                "[\"\\u0007\\u001f\u{2028}\u{7f}/\"]",
            ),
            (r#"{"10":1,"9":2}"#, r#"{"10":1,"9":2}"#),
        ] {
            assert_eq!(jcs(text), canonical);
        }
    }

    /// Members as somebody else's type writes them: in any order.
    struct Unsorted<'a>(&'a [(&'a str, Json)]);

    impl Serialize for Unsorted<'_> {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
        }
    }

    #[test]
    fn what_is_written_directly_is_what_the_long_way_writes() {
        let members = |names: &[&'static str]| -> Vec<(&'static str, Json)> {
            let numbered = names.iter().zip(1_i64..);
            numbered.map(|(name, n)| (*name, Json::from(n))).collect()
        };
        for (names, direct_too) in [
            (&["b", "a", "c"][..], true),
            (&["a"], true),
            (&[], true),
            // An astral character comes before U+FF5E.
            (&["\u{ff5e}", "\u{1f600}", "\u{e9}"], true),
            (&["a", "a"], false),
            (&["b", "a", "b"], false),
            (&["a\n", "b"], false),
            (&["a\\b"], false),
            (&["10", "9"], false),
        ] {
            let members = members(names);
            let value = [Unsorted(&members)];
            let long = Json::from_value(&value).unwrap().to_jcs();
            assert_eq!(to_bytes(&value).unwrap(), long, "{names:?}");
            assert_eq!(direct(&value).is_some(), direct_too, "{names:?}");
        }
        for odd in ["1.5", "[1e300]", "9007199254740992", "-9007199254740992"] {
            let value: serde_json::Value = odd.parse().unwrap();
            assert_eq!(direct(&value), None, "{odd}");
        }
        let deep = |levels: usize| -> Json {
            (0..levels).fold(Json::Null, |inner, _| Json::Array(vec![inner]))
        };
        assert!(direct(&deep(MAX_DEPTH)).is_some());
        assert_eq!(direct(&deep(MAX_DEPTH + 1)), None);
    }

    #[test]
    fn document_order_is_javascripts() {
        assert_eq!(
            document(r#"{"b":1,"10":2,"9":3,"a":4,"01":5,"4294967295":6,"4294967294":7}"#),
            r#"{"9":3,"10":2,"4294967294":7,"b":1,"a":4,"01":5,"4294967295":6}"#
        );
        assert!(
            parse(br#"[{"x":{"7":1}}]"#, Numbers::Any)
                .unwrap()
                .has_index_name()
        );
        assert!(
            !parse(br#"[{"x":{"7a":1,"":2}}]"#, Numbers::Any)
                .unwrap()
                .has_index_name()
        );
    }

    #[test]
    fn agrees_with_the_published_files() {
        let Ok(root) = std::env::var("CLAWGATE_VECTORS") else {
            println!("skipped: CLAWGATE_VECTORS is not set");
            return;
        };
        let mut seen = 0;
        for entry in std::fs::read_dir(format!("{root}/jcs/input")).unwrap() {
            let path = entry.unwrap().path();
            let expected = format!("{root}/jcs/output/{}", path.file_name().unwrap().display());
            let value = parse(&std::fs::read(&path).unwrap(), Numbers::Any).unwrap();
            let expected = std::fs::read(expected).unwrap();
            assert_eq!(
                value.to_jcs(),
                expected.trim_ascii_end(),
                "{}",
                path.display()
            );
            seen += 1;
        }
        assert_eq!(seen, 6);
    }

    #[test]
    fn what_is_nested_too_deep_to_be_read_is_not_signable() {
        for depth in MAX_DEPTH - 1..=MAX_DEPTH + 1 {
            for inner in [Json::Null, Json::object(), Json::Array(Vec::new())] {
                let nest = |json, _| Json::Array(vec![json]);
                let mut json = (0..depth).fold(inner, nest);
                let read = parse(&json.to_jcs(), Numbers::Integers);
                assert_eq!(
                    json.make_signable().is_ok(),
                    read.is_ok(),
                    "{depth} {json:?}"
                );
            }
        }
    }

    fn any_value() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<f64>()
                .prop_filter("finite", |n| n.is_finite())
                .prop_map(|n| serde_json::json!(n)),
            any::<String>().prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
                prop::collection::btree_map(any::<String>(), inner, 0..6)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn names_are_ordered_by_their_code_units(a in "[a\u{7f}é߿\u{800}\u{d7ff}\u{e000}～\u{ffff}😀\u{10000}\u{10ffff}]{0,4}", b in "[a\u{7f}é߿\u{800}\u{d7ff}\u{e000}～\u{ffff}😀\u{10000}\u{10ffff}]{0,4}") {
            prop_assert_eq!(canonical_order(&a, &b), a.encode_utf16().cmp(b.encode_utf16()));
        }

        #[test]
        fn agrees_with_an_independent_implementation(value in any_value()) {
            let theirs = serde_json_canonicalizer::to_vec(&value).unwrap();
            let ours = Json::from(value).to_jcs();
            prop_assert_eq!(&ours, &theirs);
            let again = parse(&ours, Numbers::Any).unwrap();
            prop_assert_eq!(again.to_jcs(), ours);
        }

        /// The short way says and makes the same as writing, reading strictly and looking.
        #[test]
        fn signable_is_what_reads_back(value in any_value()) {
            let straight = direct(&value);
            let mut json = Json::from(value);
            let written = json.to_jcs();
            let read = parse(&written, Numbers::Integers).ok().filter(|j| !j.has_index_name());
            let made = json.make_signable().ok().map(|()| json);
            prop_assert_eq!(&made, &read);
            if let Some(made) = made {
                prop_assert_eq!(&made.to_jcs(), &written);
            }
            if let Some(straight) = straight {
                prop_assert_eq!(straight, written);
                prop_assert!(read.is_some(), "what is written directly is signable");
            }
        }
    }
}
