//! From a JSON value to a typed document, without writing text or copying the value first; and the
//! same from text that was recognised as canonical, without building the value.

use std::fmt;

use serde::de::value::{
    BorrowedStrDeserializer, MapAccessDeserializer, MapDeserializer, SeqDeserializer,
};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, IntoDeserializer, MapAccess, Visitor};
use serde::forward_to_deserialize_any;

use super::Json;

/// Reads an object as if some of its members were not there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Without<'de> {
    pub(crate) json: &'de Json,
    pub(crate) names: &'static [&'static str],
}

fn visit_members<'de, V: Visitor<'de>>(
    members: &'de [(String, Json)],
    without: &'static [&'static str],
    visitor: V,
) -> Result<V::Value, serde_json::Error> {
    let shown = members
        .iter()
        .filter(|(name, _)| !without.contains(&name.as_str()))
        .map(|(name, value)| (name.as_str(), value));
    let mut map = MapDeserializer::new(shown);
    let value = visitor.visit_map(&mut map)?;
    map.end()?;
    Ok(value)
}

impl<'de> Deserializer<'de> for Without<'de> {
    type Error = serde_json::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        match self.json {
            Json::Object(members) => visit_members(members, self.names, visitor),
            other => other.deserialize_any(visitor),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
        option unit unit_struct newtype_struct seq tuple tuple_struct map struct enum
        identifier ignored_any
    }
}

/// Reads an object's canonical text as if some of its members were not there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TextWithout<'de> {
    pub(crate) text: &'de str,
    pub(crate) names: &'static [&'static str],
}

impl<'de> Deserializer<'de> for TextWithout<'de> {
    type Error = serde_json::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        let mut reader = serde_json::Deserializer::from_str(self.text);
        let value = reader.deserialize_map(Shown {
            inner: visitor,
            names: self.names,
        })?;
        reader.end()?;
        Ok(value)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
        option unit unit_struct newtype_struct seq tuple tuple_struct map struct enum
        identifier ignored_any
    }
}

/// Hides members from a visitor, or from the map that it visits.
struct Shown<T> {
    inner: T,
    names: &'static [&'static str],
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Shown<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(f)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<V::Value, A::Error> {
        let names = self.names;
        self.inner.visit_map(Shown { inner: map, names })
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Shown<A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, A::Error> {
        while let Some(name) = self.inner.next_key::<&'de str>()? {
            if !self.names.contains(&name) {
                return seed
                    .deserialize(BorrowedStrDeserializer::new(name))
                    .map(Some);
            }
            self.inner.next_value::<IgnoredAny>()?;
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.inner.next_value_seed(seed)
    }
}

impl<'de> IntoDeserializer<'de, serde_json::Error> for &'de Json {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for &'de Json {
    type Error = serde_json::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        match self {
            Json::Null => visitor.visit_unit(),
            Json::Bool(value) => visitor.visit_bool(*value),
            Json::Integer(value) => match u64::try_from(*value) {
                Ok(value) => visitor.visit_u64(value),
                Err(_) => visitor.visit_i64(*value),
            },
            Json::Double(value) => visitor.visit_f64(*value),
            Json::String(text) => visitor.visit_borrowed_str(text),
            Json::Array(elements) => {
                let mut seq = SeqDeserializer::new(elements.iter());
                let value = visitor.visit_seq(&mut seq)?;
                seq.end()?;
                Ok(value)
            }
            Json::Object(members) => visit_members(members, &[], visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        match self {
            Json::Null => visitor.visit_none(),
            value => visitor.visit_some(value),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        match self {
            Json::String(text) => text
                .as_str()
                .into_deserializer()
                .deserialize_enum(name, variants, visitor),
            Json::Object(members) if members.len() == 1 => {
                let member = members.iter().map(|(name, value)| (name.as_str(), value));
                visitor.visit_enum(MapAccessDeserializer::new(MapDeserializer::new(member)))
            }
            other => other.deserialize_any(visitor),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
        unit unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Serialize};

    use super::*;
    use crate::json::{Numbers, parse};

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Kind {
        Unit,
        Newtype(i64),
        Tuple(u8, u8),
        Struct { a: bool },
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(tag = "kind", deny_unknown_fields)]
    enum Tagged {
        One { n: u64 },
        Two { text: Option<String> },
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Everything {
        none: Option<u8>,
        some: Option<u8>,
        #[serde(default)]
        absent: Option<u8>,
        small: u16,
        negative: i64,
        fraction: f64,
        unit: (),
        text: std::borrow::Cow<'static, str>,
        kinds: Vec<Kind>,
        tagged: Vec<Tagged>,
        map: BTreeMap<String, Json>,
        pair: (u8, String),
    }

    const TEXT: &str = r#"{"none":null,"some":3,"small":65535,"negative":-7,"fraction":1.5,
        "unit":null,"text":"é","kinds":["unit",{"newtype":-1},{"tuple":[1,2]},{"struct":{"a":true}}],
        "tagged":[{"kind":"One","n":1},{"text":null,"kind":"Two"}],
        "map":{"x":[null,{"y":2.5}]},"pair":[1,"b"]}"#;

    /// The same answers as the long way round, by way of `serde_json`'s own value.
    #[test]
    fn agrees_with_serde_json() {
        let agree = |text: &str| {
            let ours = parse(text.as_bytes(), Numbers::Any)
                .unwrap()
                .to_typed::<Everything>();
            let theirs = serde_json::from_str::<Everything>(text);
            match (ours, theirs) {
                (Ok(ours), Ok(theirs)) => {
                    assert_eq!(ours, theirs);
                    true
                }
                (Err(_), Err(_)) => false,
                (ours, theirs) => panic!("{text}: {ours:?} but {theirs:?}"),
            }
        };
        assert!(agree(TEXT));
        for (from, to) in [
            ("\"small\":65535", "\"small\":65536"),
            ("\"small\":65535", "\"small\":-1"),
            ("\"small\":65535", "\"small\":1.5"),
            ("\"small\":65535", "\"small\":\"1\""),
            ("\"small\":65535", "\"small\":1,\"more\":0"),
            ("\"small\":65535,", ""),
            ("\"unit\":null", "\"unit\":0"),
            ("[\"unit\",", "[\"unknown\","),
            ("{\"tuple\":[1,2]}", "{\"tuple\":[1,2,3]}"),
            ("{\"newtype\":-1}", "{\"newtype\":-1,\"unit\":null}"),
            ("{\"kind\":\"One\",\"n\":1}", "{\"n\":1}"),
            (
                "{\"kind\":\"One\",\"n\":1}",
                "{\"kind\":\"One\",\"n\":1,\"m\":1}",
            ),
            ("[1,\"b\"]", "[1]"),
            ("[1,\"b\"]", "{\"a\":1}"),
        ] {
            assert!(TEXT.contains(from), "{from}");
            assert!(!agree(&TEXT.replace(from, to)), "{to}");
        }
    }

    #[test]
    fn members_can_be_left_out() {
        #[derive(Debug, PartialEq, Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Only {
            b: u8,
        }
        let json = parse(br#"{"a":1,"b":2,"c":3}"#, Numbers::Any).unwrap();
        let read = |names| Only::deserialize(Without { json: &json, names });
        assert_eq!(read(&["a", "c"]).unwrap(), Only { b: 2 });
        assert!(read(&["a"]).is_err());
        assert!(
            Only::deserialize(Without {
                json: &Json::Null,
                names: &[]
            })
            .is_err()
        );
    }
}
