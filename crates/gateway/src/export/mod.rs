//! Evidence as a SIEM reads it: one line for each record of the log, or for each thing that an
//! operator did. Pure: from a row of the store to a line of text.
//!
//! A [`Line`] is flat: names and values in an order that stays. CSV and JSON lines write it as it
//! is; [`ocsf`] says the same in the words of that schema. No line holds more than its row, and
//! rows hold hashes, ids and counts.
//!
//! To add a column: its name at the end of `COLUMNS` in [`record`] or [`action`] and its value
//! beside it, its place in [`ocsf`] if that schema has one, its line in docs/operations.md.

pub mod action;
pub mod csv;
pub mod ocsf;
pub mod record;

use std::str::FromStr;

use serde_json::Value;
use store::{LoggedRecord, NumberedAction, PrunedRecord};

/// How lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// RFC 4180 with a header.
    Csv,
    /// Events of the Open Cybersecurity Schema Framework, one JSON object on a line.
    Ocsf,
    /// What CSV has, and the record itself, one JSON object on a line.
    Jsonl,
}

/// What is exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    /// The log's records.
    Records,
    /// What operators did.
    Actions,
}

/// A text that is none of the words.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not one of {0}")]
pub struct UnknownWord(&'static str);

impl Format {
    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Ocsf => "ocsf",
            Self::Jsonl => "jsonl",
        }
    }

    /// The media type of many lines.
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Csv => "text/csv; charset=utf-8; header=present",
            Self::Ocsf | Self::Jsonl => "application/x-ndjson",
        }
    }

    /// What stands before the first line.
    pub fn header(self, of: Of) -> String {
        match self {
            Self::Csv => csv::line(of.columns().iter().copied()),
            Self::Ocsf | Self::Jsonl => String::new(),
        }
    }

    /// The number of a line that this format wrote: where to go on.
    pub fn number_of(self, line: &str) -> Option<u64> {
        if self == Self::Csv {
            return line.split(',').next()?.parse().ok();
        }
        let value: Value = serde_json::from_str(line).ok()?;
        match self {
            Self::Ocsf => value["metadata"]["sequence"].as_u64(),
            // The first column, whatever it is called.
            _ => {
                let names = [record::COLUMNS[0], action::COLUMNS[0]];
                names.iter().find_map(|name| value[*name].as_u64())
            }
        }
    }

    /// Whether a line of this format, or its header, may begin with these bytes. They are none
    /// that stand in a file of something else, unless they are very few.
    pub fn may_begin(self, of: Of, bytes: &[u8]) -> bool {
        let begins = |whole: &str| {
            let whole = whole.as_bytes();
            whole.starts_with(bytes) || bytes.starts_with(whole)
        };
        match self {
            Self::Csv => {
                let digits = bytes.iter().take_while(|byte| byte.is_ascii_digit());
                let rest = &bytes[digits.count()..];
                let number = rest.len() < bytes.len();
                let next = match of {
                    Of::Records => &b",job_"[..],
                    // A time, in this millennium.
                    Of::Actions => b",2",
                };
                let continued = next.starts_with(rest) || rest.starts_with(next);
                self.header(of).as_bytes().starts_with(bytes) || number && continued
            }
            Self::Jsonl => begins(&format!("{{\"{}\":", of.columns()[0])),
            // Members are in the order of their names.
            Self::Ocsf => begins("{\"action\":\""),
        }
    }
}

impl FromStr for Format {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        let all = [Self::Csv, Self::Ocsf, Self::Jsonl];
        let found = all.into_iter().find(|format| format.as_str() == text);
        found.ok_or(UnknownWord("csv, ocsf, jsonl"))
    }
}

impl Of {
    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Records => "records",
            Self::Actions => "actions",
        }
    }

    /// The names of a line's values.
    pub const fn columns(self) -> &'static [&'static str] {
        match self {
            Self::Records => &record::COLUMNS,
            Self::Actions => &action::COLUMNS,
        }
    }
}

impl FromStr for Of {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        let all = [Self::Records, Self::Actions];
        let found = all.into_iter().find(|of| of.as_str() == text);
        found.ok_or(UnknownWord("records, actions"))
    }
}

/// Whose log it is.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'a> {
    /// The gateway's id.
    pub gateway_id: &'a str,
}

/// Names and values of one row; what it does not have is null.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    columns: &'static [&'static str],
    values: Vec<Value>,
}

impl Line {
    /// A value.
    pub fn get(&self, name: &str) -> &Value {
        let place = self.columns.iter().position(|column| *column == name);
        place.map_or(&Value::Null, |place| &self.values[place])
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.get(name).as_str()
    }

    /// One JSON object, in the order of the columns, without what is null.
    fn json(&self, more: Option<(&str, Value)>) -> String {
        let own = self.columns.iter().copied().zip(&self.values);
        let more = more.as_ref().map(|(name, value)| (*name, value));
        let members = own.chain(more).filter(|(_, value)| !value.is_null());
        let members: Vec<String> = members
            .map(|(name, value)| format!("\"{name}\":{value}"))
            .collect();
        format!("{{{}}}\n", members.join(","))
    }
}

/// A record as a line of a format, line end included.
pub fn record_line(format: Format, row: &LoggedRecord, origin: Origin<'_>) -> String {
    let line = record::line(row);
    match format {
        Format::Csv => csv::line(line.values.iter()),
        Format::Jsonl => {
            let text = row.record.to_jcs();
            let record = serde_json::from_slice(&text).unwrap_or(Value::Null);
            line.json(Some(("record", record)))
        }
        Format::Ocsf => format!("{}\n", ocsf::record_event(&line, row, origin)),
    }
}

/// What stays of a record whose content was removed, as a line of a format, line end included.
pub fn pruned_line(format: Format, row: &PrunedRecord, origin: Origin<'_>) -> String {
    let line = record::pruned(row);
    match format {
        Format::Csv => csv::line(line.values.iter()),
        Format::Jsonl => line.json(None),
        Format::Ocsf => format!("{}\n", ocsf::pruned_event(&line, row.at, origin)),
    }
}

/// An operator's action as a line of a format, line end included.
pub fn action_line(format: Format, row: &NumberedAction, origin: Origin<'_>) -> String {
    let line = action::line(row);
    match format {
        Format::Csv => csv::line(line.values.iter()),
        Format::Jsonl => line.json(None),
        Format::Ocsf => format!("{}\n", ocsf::action_event(&line, row.action.at, origin)),
    }
}

#[cfg(test)]
mod tests;
