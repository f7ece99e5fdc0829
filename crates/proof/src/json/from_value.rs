//! From any serialisable value to [`Json`], in one pass.
//!
//! Members come out sorted by the bytes of their names, whatever the order of a type's fields:
//! for the ASCII names of our documents that is the canonical order already.

use serde::ser::{self, Error as _, Serialize, Serializer};
use serde_json::Error;

use super::Json;

/// Makes a value of whatever is serialised into it.
pub(super) struct ToJson;

/// Elements so far; for a variant with content, its name.
pub(super) struct Elements {
    variant: Option<&'static str>,
    elements: Vec<Json>,
}

/// Members so far; for a variant with content, its name.
pub(super) struct Members {
    variant: Option<&'static str>,
    members: Vec<(String, Json)>,
    name: Option<String>,
}

fn wrapped(variant: Option<&'static str>, value: Json) -> Json {
    match variant {
        Some(name) => Json::Object(vec![(name.to_owned(), value)]),
        None => value,
    }
}

impl Elements {
    fn new(variant: Option<&'static str>, length: Option<usize>) -> Self {
        let elements = Vec::with_capacity(length.unwrap_or(0));
        Self { variant, elements }
    }

    fn push<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.elements.push(value.serialize(ToJson)?);
        Ok(())
    }

    fn finish(self) -> Json {
        wrapped(self.variant, Json::Array(self.elements))
    }
}

impl Members {
    fn new(variant: Option<&'static str>, length: Option<usize>) -> Self {
        Self {
            variant,
            members: Vec::with_capacity(length.unwrap_or(0)),
            name: None,
        }
    }

    fn push<T: Serialize + ?Sized>(&mut self, name: String, value: &T) -> Result<(), Error> {
        self.members.push((name, value.serialize(ToJson)?));
        Ok(())
    }

    /// Of members with one name, which only a hand-written type can have, the last counts.
    fn finish(mut self) -> Json {
        self.members.sort_by(|(a, _), (b, _)| a.cmp(b));
        self.members.dedup_by(|later, kept| {
            let same = later.0 == kept.0;
            if same {
                std::mem::swap(later, kept);
            }
            same
        });
        wrapped(self.variant, Json::Object(self.members))
    }
}

impl Serializer for ToJson {
    type Ok = Json;
    type Error = Error;
    type SerializeSeq = Elements;
    type SerializeTuple = Elements;
    type SerializeTupleStruct = Elements;
    type SerializeTupleVariant = Elements;
    type SerializeMap = Members;
    type SerializeStruct = Members;
    type SerializeStructVariant = Members;

    fn serialize_bool(self, value: bool) -> Result<Json, Error> {
        Ok(Json::Bool(value))
    }

    fn serialize_i8(self, value: i8) -> Result<Json, Error> {
        self.serialize_i64(value.into())
    }

    fn serialize_i16(self, value: i16) -> Result<Json, Error> {
        self.serialize_i64(value.into())
    }

    fn serialize_i32(self, value: i32) -> Result<Json, Error> {
        self.serialize_i64(value.into())
    }

    fn serialize_i64(self, value: i64) -> Result<Json, Error> {
        Ok(value.into())
    }

    fn serialize_u8(self, value: u8) -> Result<Json, Error> {
        self.serialize_i64(value.into())
    }

    fn serialize_u16(self, value: u16) -> Result<Json, Error> {
        self.serialize_i64(value.into())
    }

    fn serialize_u32(self, value: u32) -> Result<Json, Error> {
        self.serialize_i64(value.into())
    }

    fn serialize_u64(self, value: u64) -> Result<Json, Error> {
        Ok(i64::try_from(value).map_or(Json::Double(value as f64), Json::from))
    }

    fn serialize_f32(self, value: f32) -> Result<Json, Error> {
        self.serialize_f64(value.into())
    }

    /// What is not finite has no number in JSON.
    fn serialize_f64(self, value: f64) -> Result<Json, Error> {
        Ok(if value.is_finite() {
            Json::Double(value)
        } else {
            Json::Null
        })
    }

    fn serialize_char(self, value: char) -> Result<Json, Error> {
        Ok(Json::String(value.into()))
    }

    fn serialize_str(self, value: &str) -> Result<Json, Error> {
        Ok(value.into())
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<Json, Error> {
        let number = |byte: &u8| Json::Integer((*byte).into());
        Ok(Json::Array(value.iter().map(number).collect()))
    }

    fn serialize_none(self) -> Result<Json, Error> {
        Ok(Json::Null)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Json, Error> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<Json, Error> {
        Ok(Json::Null)
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<Json, Error> {
        Ok(Json::Null)
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<Json, Error> {
        Ok(variant.into())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<Json, Error> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<Json, Error> {
        Ok(wrapped(Some(variant), value.serialize(self)?))
    }

    fn serialize_seq(self, length: Option<usize>) -> Result<Elements, Error> {
        Ok(Elements::new(None, length))
    }

    fn serialize_tuple(self, length: usize) -> Result<Elements, Error> {
        Ok(Elements::new(None, Some(length)))
    }

    fn serialize_tuple_struct(self, _: &'static str, length: usize) -> Result<Elements, Error> {
        Ok(Elements::new(None, Some(length)))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<Elements, Error> {
        Ok(Elements::new(Some(variant), Some(length)))
    }

    fn serialize_map(self, length: Option<usize>) -> Result<Members, Error> {
        Ok(Members::new(None, length))
    }

    fn serialize_struct(self, _: &'static str, length: usize) -> Result<Members, Error> {
        Ok(Members::new(None, Some(length)))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<Members, Error> {
        Ok(Members::new(Some(variant), Some(length)))
    }

    fn collect_str<T: std::fmt::Display + ?Sized>(self, value: &T) -> Result<Json, Error> {
        Ok(Json::String(value.to_string()))
    }
}

impl ser::SerializeSeq for Elements {
    type Ok = Json;
    type Error = Error;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.push(value)
    }

    fn end(self) -> Result<Json, Error> {
        Ok(self.finish())
    }
}

impl ser::SerializeTuple for Elements {
    type Ok = Json;
    type Error = Error;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.push(value)
    }

    fn end(self) -> Result<Json, Error> {
        Ok(self.finish())
    }
}

impl ser::SerializeTupleStruct for Elements {
    type Ok = Json;
    type Error = Error;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.push(value)
    }

    fn end(self) -> Result<Json, Error> {
        Ok(self.finish())
    }
}

impl ser::SerializeTupleVariant for Elements {
    type Ok = Json;
    type Error = Error;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.push(value)
    }

    fn end(self) -> Result<Json, Error> {
        Ok(self.finish())
    }
}

impl ser::SerializeMap for Members {
    type Ok = Json;
    type Error = Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, name: &T) -> Result<(), Error> {
        self.name = Some(match name.serialize(ToJson)? {
            Json::String(name) => name,
            Json::Integer(name) => name.to_string(),
            Json::Bool(name) => name.to_string(),
            _ => return Err(Error::custom("a member's name must be a string")),
        });
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        let name = self.name.take();
        let name = name.ok_or_else(|| Error::custom("a member without a name"))?;
        self.push(name, value)
    }

    fn end(self) -> Result<Json, Error> {
        Ok(self.finish())
    }
}

impl ser::SerializeStruct for Members {
    type Ok = Json;
    type Error = Error;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        name: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        self.push(name.to_owned(), value)
    }

    fn end(self) -> Result<Json, Error> {
        Ok(self.finish())
    }
}

impl ser::SerializeStructVariant for Members {
    type Ok = Json;
    type Error = Error;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        name: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        self.push(name.to_owned(), value)
    }

    fn end(self) -> Result<Json, Error> {
        Ok(self.finish())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};

    use serde::Serialize;

    use super::*;

    #[derive(Serialize)]
    #[serde(rename_all = "snake_case")]
    enum Kind {
        Unit,
        Newtype(i64),
        Tuple(u8, f32),
        Struct { b: bool, a: char },
    }

    #[derive(Serialize)]
    #[serde(tag = "kind")]
    enum Tagged {
        One { z: u64, a: Option<u8> },
    }

    #[derive(Serialize)]
    struct Wrapper(&'static str);

    #[derive(Serialize)]
    struct Pair(u8, i16);

    #[derive(Serialize)]
    struct Unit;

    #[derive(Serialize)]
    struct Everything {
        zulu: Option<u8>,
        none: Option<u8>,
        large: [u64; 3],
        small: (i8, i64, u32),
        doubles: Vec<f64>,
        kinds: Vec<Kind>,
        tagged: Tagged,
        numbered: BTreeMap<u16, ()>,
        answers: BTreeMap<bool, Wrapper>,
        nested: serde_json::Value,
        hash: crate::Hash,
        pair: Pair,
        unit: Unit,
        #[serde(flatten)]
        more: HashMap<String, String>,
    }

    fn everything() -> Everything {
        Everything {
            zulu: Some(3),
            none: None,
            large: [(1 << 53) - 1, 1 << 53, u64::MAX],
            small: (-1, i64::MIN, u32::MAX),
            doubles: vec![1.0, 1.5, -0.0, f64::NAN, f64::INFINITY],
            kinds: vec![
                Kind::Unit,
                Kind::Newtype(-7),
                Kind::Tuple(1, 0.5),
                Kind::Struct { b: true, a: 'é' },
            ],
            tagged: Tagged::One { z: 1, a: None },
            numbered: [(7, ()), (11, ())].into(),
            answers: [(true, Wrapper("yes"))].into(),
            nested: serde_json::json!({"y": [null, {"x": 2.5}], "b": -3}),
            hash: crate::Hash::of(b""),
            pair: Pair(1, -2),
            unit: Unit,
            // The same name as a field's: the later one counts.
            more: [("hash".to_owned(), "other".to_owned())].into(),
        }
    }

    #[test]
    fn agrees_with_serde_json() {
        let ours = Json::from_value(&everything()).unwrap();
        let theirs = serde_json::to_value(everything()).unwrap();
        assert_eq!(ours.get("hash").and_then(Json::as_str), Some("other"));
        assert_eq!(ours.to_jcs(), Json::from(theirs).to_jcs());
    }

    #[test]
    fn members_are_sorted_and_names_are_strings() {
        let json = Json::from_value(&everything()).unwrap();
        assert!(json.members().unwrap().is_sorted_by_key(|(name, _)| name));
        let odd: BTreeMap<Option<u8>, u8> = [(None, 1)].into();
        assert!(Json::from_value(&odd).is_err());
        let lists: BTreeMap<Vec<u8>, u8> = [(vec![1], 1)].into();
        assert!(Json::from_value(&lists).is_err());
    }
}
