//! Strict JSON: one reading for every byte sequence, or none.
//!
//! `serde_json` already refuses lone surrogates, a byte order mark, leading zeros, trailing data
//! and infinite numbers. What it lets through, and what two readers could understand
//! differently, is refused here: duplicate member names (after unescaping), depth over
//! [`MAX_DEPTH`], and, unless foreign numbers are asked for, fractions and integers beyond
//! 2^53-1.

use std::fmt;

use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Deserialize, Serialize, Serializer};

mod canonical;
mod from_value;
mod typed;

pub use canonical::{Canonical, Kind};
pub(crate) use typed::{TextWithout, Without};

/// Deepest nesting that is read; the value is our own choice, far above any document of ours.
pub const MAX_DEPTH: usize = 64;

/// Largest integer that every JSON reader agrees on: 2^53 - 1 (RFC 8259, section 6).
pub const MAX_SAFE_INTEGER: i64 = (1 << 53) - 1;

/// Which numbers a document may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Numbers {
    /// Integers up to 2^53-1 in size: everything that we sign.
    Integers,
    /// Any IEEE double: foreign documents such as Terraform's plan.
    Any,
}

/// A JSON value with its members in the order in which they were written.
#[derive(Debug, Clone, PartialEq)]
pub enum Json {
    /// `null`
    Null,
    /// `true`, `false`
    Bool(bool),
    /// An integer of at most 2^53-1 in size.
    Integer(i64),
    /// Any other number; always finite.
    Double(f64),
    /// A string of Unicode scalar values.
    String(String),
    /// An array.
    Array(Vec<Json>),
    /// An object; names are unique.
    Object(Vec<(String, Json)>),
}

/// Why a text was not read.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// Malformed, duplicate member, too deep, or a number outside the allowed range.
    #[error("JSON not accepted: {0}")]
    Rejected(String),
    /// Well-formed, but not of the shape that is needed.
    #[error("JSON of another shape: {0}")]
    Shape(#[source] serde_json::Error),
}

/// Reads one JSON text.
///
/// # Errors
/// [`JsonError::Rejected`] with the reason and the place (line and column).
pub fn parse(bytes: &[u8], numbers: Numbers) -> Result<Json, JsonError> {
    parse_at(bytes, numbers, 0)
}

/// The same for a part of a larger document, which stands so many levels deep in it.
///
/// # Errors
/// As of [`parse`], with the place in the part.
pub fn parse_at(bytes: &[u8], numbers: Numbers, depth: usize) -> Result<Json, JsonError> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = Seed { numbers, depth }
        .deserialize(&mut reader)
        .map_err(|error| JsonError::Rejected(error.to_string()))?;
    reader
        .end()
        .map_err(|error| JsonError::Rejected(error.to_string()))?;
    Ok(value)
}

/// Reads a typed document of ours: strict first, then its shape. Types should
/// `deny_unknown_fields`.
///
/// # Errors
/// [`JsonError::Rejected`] for what no document may contain, [`JsonError::Shape`] for one that
/// is not a `T`.
pub fn from_slice<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, JsonError> {
    parse(bytes, Numbers::Integers)?;
    serde_json::from_slice(bytes).map_err(JsonError::Shape)
}

impl Json {
    /// An empty object.
    pub const fn object() -> Self {
        Self::Object(Vec::new())
    }

    /// The member `name` of an object.
    pub fn get(&self, name: &str) -> Option<&Json> {
        self.members()?
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value)
    }

    /// Follows a path of member names.
    pub fn at(&self, path: &[&str]) -> Option<&Json> {
        path.iter().try_fold(self, |value, name| value.get(name))
    }

    /// The members of an object, in written order.
    pub fn members(&self) -> Option<&[(String, Json)]> {
        match self {
            Self::Object(members) => Some(members),
            _ => None,
        }
    }

    /// The elements of an array.
    pub fn as_array(&self) -> Option<&[Json]> {
        match self {
            Self::Array(elements) => Some(elements),
            _ => None,
        }
    }

    /// The text of a string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// The value of a boolean.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// The value of an integer.
    pub fn as_integer(&self) -> Option<i64> {
        match self {
            Self::Integer(value) => Some(*value),
            _ => None,
        }
    }

    /// Sets a member, replacing one of the same name. Does nothing on a value that is no object.
    pub fn set(&mut self, name: &str, value: impl Into<Json>) {
        if let Self::Object(members) = self {
            let value = value.into();
            match members.iter_mut().find(|(key, _)| key == name) {
                Some((_, old)) => *old = value,
                None => members.push((name.to_owned(), value)),
            }
        }
    }

    /// The value at a path of member names, to be changed.
    pub fn at_mut(&mut self, path: &[&str]) -> Option<&mut Json> {
        path.iter().try_fold(self, |value, name| match value {
            Self::Object(members) => {
                let member = members.iter_mut().find(|(key, _)| key == name);
                member.map(|(_, value)| value)
            }
            _ => None,
        })
    }

    /// Removes a member and returns it.
    pub fn remove(&mut self, name: &str) -> Option<Json> {
        match self {
            Self::Object(members) => {
                let index = members.iter().position(|(key, _)| key == name)?;
                Some(members.remove(index).1)
            }
            _ => None,
        }
    }

    /// Converts a serialisable value; members come out sorted by the bytes of their names.
    ///
    /// # Errors
    /// When `value` holds maps with names that are not strings, or refuses to be written.
    pub fn from_value(value: &impl Serialize) -> Result<Self, JsonError> {
        value
            .serialize(from_value::ToJson)
            .map_err(JsonError::Shape)
    }

    /// Reads the value as a typed document.
    ///
    /// # Errors
    /// [`JsonError::Shape`] when it is not a `T`.
    pub fn to_typed<T: DeserializeOwned>(&self) -> Result<T, JsonError> {
        T::deserialize(self).map_err(JsonError::Shape)
    }
}

impl From<serde_json::Value> for Json {
    fn from(value: serde_json::Value) -> Self {
        use serde_json::Value;
        match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(value),
            Value::Number(number) => match number.as_i64() {
                Some(value) => value.into(),
                None => Self::Double(
                    number
                        .as_f64()
                        .expect("serde_json holds only finite numbers"),
                ),
            },
            Value::String(text) => Self::String(text),
            Value::Array(elements) => Self::Array(elements.into_iter().map(Self::from).collect()),
            Value::Object(members) => Self::Object(
                members
                    .into_iter()
                    .map(|(name, value)| (name, Self::from(value)))
                    .collect(),
            ),
        }
    }
}

impl From<&str> for Json {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

impl From<String> for Json {
    fn from(text: String) -> Self {
        Self::String(text)
    }
}

impl From<bool> for Json {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<i64> for Json {
    fn from(value: i64) -> Self {
        if value.unsigned_abs() <= MAX_SAFE_INTEGER.unsigned_abs() {
            Self::Integer(value)
        } else {
            Self::Double(value as f64)
        }
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Integer(value) => serializer.serialize_i64(*value),
            Self::Double(value) => serializer.serialize_f64(*value),
            Self::String(text) => serializer.serialize_str(text),
            Self::Array(elements) => {
                let mut array = serializer.serialize_seq(Some(elements.len()))?;
                for element in elements {
                    array.serialize_element(element)?;
                }
                array.end()
            }
            Self::Object(members) => {
                let mut object = serializer.serialize_map(Some(members.len()))?;
                for (name, value) in members {
                    object.serialize_entry(name, value)?;
                }
                object.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Seed {
            numbers: Numbers::Any,
            depth: 0,
        }
        .deserialize(deserializer)
    }
}

/// Reads one value at a known depth.
struct Seed {
    numbers: Numbers,
    depth: usize,
}

impl Seed {
    fn deeper<E: serde::de::Error>(&self) -> Result<Self, E> {
        if self.depth + 1 > MAX_DEPTH {
            return Err(E::custom(format_args!(
                "nested deeper than {MAX_DEPTH} levels"
            )));
        }
        Ok(Self {
            numbers: self.numbers,
            depth: self.depth + 1,
        })
    }
}

impl<'de> DeserializeSeed<'de> for Seed {
    type Value = Json;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Json, E> {
        match (
            value.unsigned_abs() <= MAX_SAFE_INTEGER.unsigned_abs(),
            self.numbers,
        ) {
            (true, _) => Ok(Json::Integer(value)),
            (false, Numbers::Any) => Ok(Json::Double(value as f64)),
            (false, Numbers::Integers) => Err(E::custom("an integer beyond 2^53-1")),
        }
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Json, E> {
        match i64::try_from(value) {
            Ok(value) => self.visit_i64(value),
            Err(_) if self.numbers == Numbers::Any => Ok(Json::Double(value as f64)),
            Err(_) => Err(E::custom("an integer beyond 2^53-1")),
        }
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Json, E> {
        match self.numbers {
            Numbers::Any if value.is_finite() => Ok(Json::Double(value)),
            Numbers::Any => Err(E::custom("a number that is not finite")),
            Numbers::Integers => Err(E::custom("a number that is not an integer")),
        }
    }

    fn visit_str<E>(self, text: &str) -> Result<Json, E> {
        Ok(Json::String(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Json, E> {
        Ok(Json::String(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Json, A::Error> {
        let mut elements = Vec::new();
        while let Some(element) = access.next_element_seed(self.deeper()?)? {
            elements.push(element);
        }
        Ok(Json::Array(elements))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Json, A::Error> {
        let mut members: Vec<(String, Json)> = Vec::new();
        // Small objects are searched; a hostile one with many members must not cost its square.
        let mut seen = std::collections::HashSet::new();
        while let Some(name) = access.next_key::<String>()? {
            let duplicate = if members.len() < 16 {
                members.iter().any(|(other, _)| *other == name)
            } else {
                if seen.is_empty() {
                    seen.extend(members.iter().map(|(other, _)| other.clone()));
                }
                !seen.insert(name.clone())
            };
            if duplicate {
                return Err(serde::de::Error::custom(format_args!(
                    "duplicate member `{name}`"
                )));
            }
            let value = access.next_value_seed(self.deeper()?)?;
            members.push((name, value));
        }
        Ok(Json::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_two_readers_could_read_differently() {
        for bad in [
            r#"{"a":1,"a":2}"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"{"a":{"b":1,"b":1}}"#,
            r#"[1] x"#,
            r#"[1][2]"#,
            "\u{feff}{}",
            r#"{"a":"\ud800"}"#,
            r#"[NaN]"#,
            r#"[01]"#,
            r#"[1.0]"#,
            r#"[1e2]"#,
            r#"[-0]"#,
            r#"[9007199254740992]"#,
            r#"[-9007199254740992]"#,
            r#"[18446744073709551616]"#,
            r#"{"a":1,}"#,
            "{'a':1}",
            "",
        ] {
            assert!(parse(bad.as_bytes(), Numbers::Integers).is_err(), "{bad}");
        }
        assert!(parse(b"[\"\xff\"]", Numbers::Any).is_err(), "invalid UTF-8");
        let many: String = (0..40).map(|n| format!("\"k{n}\":0,")).collect();
        assert!(parse(format!("{{{many}\"k3\":1}}").as_bytes(), Numbers::Any).is_err());
        assert!(parse(format!("{{{many}\"k\":1}}").as_bytes(), Numbers::Any).is_ok());
    }

    #[test]
    fn reads_what_is_clear_and_keeps_the_order() {
        let value = parse(br#" {"b":[null,true,-7],"a":"\u00e9"} "#, Numbers::Integers).unwrap();
        assert_eq!(value.members().unwrap()[0].0, "b");
        assert_eq!(value.get("a").and_then(Json::as_str), Some("é"));
        assert_eq!(
            value.at(&["b"]).unwrap().as_array().unwrap()[2],
            Json::Integer(-7)
        );
        assert_eq!(
            parse(b"[9007199254740991]", Numbers::Integers).unwrap(),
            Json::Array(vec![Json::Integer(MAX_SAFE_INTEGER)])
        );
        assert_eq!(
            parse(b"[1.5]", Numbers::Any).unwrap(),
            Json::Array(vec![Json::Double(1.5)])
        );
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert!(parse(nested(MAX_DEPTH).as_bytes(), Numbers::Any).is_ok());
        assert!(parse(nested(MAX_DEPTH + 2).as_bytes(), Numbers::Any).is_err());
        assert!(parse("[".repeat(1_000_000).as_bytes(), Numbers::Any).is_err());
    }
}
