//! How a record is read: from a value, or from its canonical text as it stands.

use std::fmt;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{Body, JobId, Record};
use crate::json::{Json, JsonError, TextWithout, Without};
use crate::time::Timestamp;

impl Record {
    /// Reads a record.
    ///
    /// # Errors
    /// When a member is missing, unknown or of the wrong type.
    pub fn from_json(json: &Json) -> Result<Self, JsonError> {
        let Json::Object(_) = json else {
            return Err(shape("a record is an object"));
        };
        Ok(Self {
            job_id: member(json, "job_id")?,
            seq: member(json, "seq")?,
            at: member(json, "at")?,
            body: Body::of_kind(&member::<String>(json, "record")?, Written::Value(json))?,
        })
    }

    /// Reads a record from its canonical text (see [`crate::json::Canonical`]), which nobody has to
    /// turn into a value first.
    ///
    /// # Errors
    /// As of [`Record::from_json`], in other words.
    pub fn from_canonical(text: &str) -> Result<Self, JsonError> {
        #[derive(Deserialize)]
        struct Place<'a> {
            job_id: JobId,
            seq: u64,
            at: Timestamp,
            record: &'a str,
        }
        let place: Place<'_> = serde_json::from_str(text).map_err(JsonError::Shape)?;
        Ok(Self {
            job_id: place.job_id,
            seq: place.seq,
            at: place.at,
            body: Body::of_kind(place.record, Written::Text(text))?,
        })
    }
}

/// Where a record stands: the members that its body does not have.
const PLACE: [&str; 3] = ["job_id", "seq", "at"];

fn shape(message: impl fmt::Display) -> JsonError {
    JsonError::Shape(serde::de::Error::custom(message))
}

fn member<T: DeserializeOwned>(json: &Json, name: &str) -> Result<T, JsonError> {
    let value = json.get(name);
    let value = value.ok_or_else(|| shape(format_args!("missing member `{name}`")))?;
    value.to_typed()
}

/// A record that is being read.
#[derive(Clone, Copy)]
enum Written<'a> {
    Value(&'a Json),
    Text(&'a str),
}

impl Written<'_> {
    /// Reads what the record has besides its kind and its place.
    fn rest<T: DeserializeOwned>(self) -> Result<T, JsonError> {
        let names = &["record", PLACE[0], PLACE[1], PLACE[2]];
        let rest = match self {
            Self::Value(json) => T::deserialize(Without { json, names }),
            Self::Text(text) => T::deserialize(TextWithout { text, names }),
        };
        rest.map_err(JsonError::Shape)
    }
}

impl Body {
    /// Reads the body out of a record. Records are many, so the kind is looked up by hand:
    /// the derived way would copy every member first to find it.
    fn of_kind(kind: &str, written: Written<'_>) -> Result<Self, JsonError> {
        match kind {
            "clawgate.job-open/1" => written.rest().map(Self::JobOpen),
            "clawgate.intent/1" => written.rest().map(Self::Intent),
            "clawgate.outcome/1" => written.rest().map(Self::Outcome),
            "clawgate.refusal/1" => written.rest().map(Self::Refusal),
            "clawgate.approval/1" => written.rest().map(Self::Approval),
            "clawgate.revocation/1" => written.rest().map(Self::Revocation),
            "clawgate.job-close/1" => written.rest().map(Self::JobClose),
            other => Err(shape(format_args!(
                "a record of the unknown kind `{other:.64}`"
            ))),
        }
    }
}
