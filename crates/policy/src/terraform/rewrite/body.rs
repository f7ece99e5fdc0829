//! A strict reader of JSON:API request bodies.

use proof::json::{Json, Numbers, parse};

use super::MAX_BODY;
use crate::reason::{ReasonCode, Refusal, quoted};

pub(super) fn read(body: &[u8]) -> Result<Json, Refusal> {
    if body.len() > MAX_BODY {
        return Err(ReasonCode::BodyTooLarge.into());
    }
    parse(body, Numbers::Integers)
        .map_err(|error| Refusal::new(ReasonCode::BodyNotJson, error.to_string()))
}

/// Attributes under the dashed names, and relationships.
pub(super) struct Resource {
    pub(super) attributes: Attributes,
    pub(super) relationships: Vec<(String, Json)>,
}

/// Reads `{"data": {"type", "attributes"?, "relationships"?}}` and nothing else.
pub(super) fn resource(body: &[u8], expected_type: &str) -> Result<Resource, Refusal> {
    let mut document = members(read(body)?, "the body")?;
    only(&document, &["data"], "")?;
    let data = take(&mut document, "data").ok_or_else(|| missing("data"))?;
    let mut data = members(data, "data")?;
    only(&data, &["type", "attributes", "relationships"], "data.")?;
    match take(&mut data, "type") {
        Some(Json::String(text)) if text == expected_type => {}
        Some(_) => return Err(wrong("data.type", &format!("\"{expected_type}\""))),
        None => return Err(missing("data.type")),
    }
    let optional = |value: Option<Json>, path| match value {
        None => Ok(Vec::new()),
        Some(value) => members(value, path),
    };
    let attributes = optional(take(&mut data, "attributes"), "data.attributes")?;
    let relationships = optional(take(&mut data, "relationships"), "data.relationships")?;
    Ok(Resource {
        attributes: Attributes::new(attributes)?,
        relationships,
    })
}

/// The id in `{"data": {"type", "id"}}`; `None` for `{"data": null}`.
pub(super) fn relation(
    value: Json,
    name: &str,
    expected_type: &str,
) -> Result<Option<String>, Refusal> {
    let path = format!("data.relationships.{name}");
    let mut relation = members(value, &path)?;
    only(&relation, &["data"], &format!("{path}."))?;
    let data = match take(&mut relation, "data") {
        None => return Err(missing(&format!("{path}.data"))),
        Some(Json::Null) => return Ok(None),
        Some(data) => data,
    };
    let mut data = members(data, &format!("{path}.data"))?;
    only(&data, &["type", "id"], &format!("{path}.data."))?;
    match take(&mut data, "type") {
        Some(Json::String(text)) if text == expected_type => {}
        _ => {
            return Err(wrong(
                &format!("{path}.data.type"),
                &format!("\"{expected_type}\""),
            ));
        }
    }
    match take(&mut data, "id") {
        Some(Json::String(id)) => Ok(Some(id)),
        _ => Err(wrong(&format!("{path}.data.id"), "a string")),
    }
}

/// Attributes by their dashed names; whoever takes them all can see what is left.
pub(super) struct Attributes(Vec<(String, Json)>);

impl Attributes {
    fn new(attributes: Vec<(String, Json)>) -> Result<Self, Refusal> {
        let mut dashed: Vec<(String, Json)> = Vec::with_capacity(attributes.len());
        for (name, value) in attributes {
            let name = name.replace('_', "-");
            if dashed.iter().any(|(other, _)| *other == name) {
                return Err(Refusal::new(ReasonCode::BodyBothSpellings, quoted(&name)));
            }
            dashed.push((name, value));
        }
        Ok(Self(dashed))
    }

    /// `null` counts as absent.
    fn take(&mut self, name: &str) -> Option<Json> {
        take(&mut self.0, name).filter(|value| *value != Json::Null)
    }

    pub(super) fn boolean(&mut self, name: &str) -> Result<Option<bool>, Refusal> {
        match self.take(name) {
            None => Ok(None),
            Some(Json::Bool(value)) => Ok(Some(value)),
            Some(_) => Err(wrong(&format!("data.attributes.{name}"), "true or false")),
        }
    }

    pub(super) fn string(&mut self, name: &str) -> Result<Option<String>, Refusal> {
        match self.take(name) {
            None => Ok(None),
            Some(Json::String(text)) => Ok(Some(text)),
            Some(_) => Err(wrong(&format!("data.attributes.{name}"), "a string")),
        }
    }

    pub(super) fn array(&mut self, name: &str) -> Result<Vec<Json>, Refusal> {
        match self.take(name) {
            None => Ok(Vec::new()),
            Some(Json::Array(elements)) => Ok(elements),
            Some(_) => Err(wrong(&format!("data.attributes.{name}"), "an array")),
        }
    }

    pub(super) fn object(&mut self, name: &str) -> Result<Option<Json>, Refusal> {
        match self.take(name) {
            None => Ok(None),
            Some(value @ Json::Object(_)) => Ok(Some(value)),
            Some(_) => Err(wrong(&format!("data.attributes.{name}"), "an object")),
        }
    }

    pub(super) fn strings(&mut self, name: &str) -> Result<Vec<String>, Refusal> {
        let elements = self.array(name)?.into_iter();
        elements
            .map(|element| match element {
                Json::String(text) => Ok(text),
                _ => Err(wrong(
                    &format!("data.attributes.{name}"),
                    "an array of strings",
                )),
            })
            .collect()
    }

    /// Refuses what nobody took.
    pub(super) fn finish(self) -> Result<(), Refusal> {
        match self.0.first() {
            None => Ok(()),
            Some((name, _)) => Err(Refusal::new(
                ReasonCode::RunAttributeUnknown,
                format!("attribute {} is not known", quoted(name)),
            )),
        }
    }
}

pub(super) fn members(value: Json, path: &str) -> Result<Vec<(String, Json)>, Refusal> {
    match value {
        Json::Object(members) => Ok(members),
        _ => Err(wrong(path, "an object")),
    }
}

pub(super) fn take(members: &mut Vec<(String, Json)>, name: &str) -> Option<Json> {
    let at = members.iter().position(|(other, _)| other == name)?;
    Some(members.remove(at).1)
}

/// Refuses members that are not in `known`.
pub(super) fn only(members: &[(String, Json)], known: &[&str], path: &str) -> Result<(), Refusal> {
    match members
        .iter()
        .find(|(name, _)| !known.contains(&name.as_str()))
    {
        None => Ok(()),
        Some((name, _)) => Err(Refusal::new(
            ReasonCode::BodyUnknownMember,
            format!("{path}{} is not known", quoted(name)),
        )),
    }
}

pub(super) fn missing(path: &str) -> Refusal {
    Refusal::new(ReasonCode::BodyMissingMember, format!("{path} is missing"))
}

pub(super) fn wrong(path: &str, expected: &str) -> Refusal {
    Refusal::new(
        ReasonCode::BodyWrongType,
        format!("{path} must be {expected}"),
    )
}

/// An object from names and values.
pub(super) fn object(members: impl IntoIterator<Item = (&'static str, Json)>) -> Json {
    Json::Object(
        members
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
    )
}
