//! Inspection of an uploaded configuration, before any of it leaves the gateway.
//!
//! A plan executes what was uploaded: functions read files of the worker, data sources call out,
//! providers are programs. So an upload is unpacked within limits, judged file by file, and packed
//! anew; what goes upstream is our archive, never the agent's.
//!
//! The rule for files: what Terraform itself would read as configuration must be of a kind that is
//! judged here, what could be run is refused, and everything else is inert data, because the
//! functions that read files may only name literal paths inside the upload.

mod block;
mod file;
mod function;
mod hcl;
mod json;
mod lock;
mod overrides;
mod provider;
mod remote_state;
mod scan;
mod upload;

use std::borrow::Cow;

use proof::Hash;

use crate::contract::Contract;
use crate::reason::ReasonCode;

pub use remote_state::ReadableStates;
pub use upload::{inspect_in_place, inspect_upload};

/// Bounds of an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes as they arrive.
    pub packed: usize,
    /// Most bytes unpacked.
    pub unpacked: usize,
    /// Most files and folders.
    pub entries: usize,
    /// Most that a byte may unpack to, once more than a MiB is unpacked.
    pub ratio: usize,
    /// Longest path in bytes.
    pub path: usize,
}

impl Default for Limits {
    /// The vendor documents no limits; these leave room for large real configurations.
    fn default() -> Self {
        Self {
            packed: 32 << 20,
            unpacked: 256 << 20,
            entries: 10_000,
            ratio: 100,
            path: 512,
        }
    }
}

/// One file of an upload.
#[derive(Clone, PartialEq, Eq)]
pub struct UploadedFile {
    /// Relative path, `/` between components, no `.` or `..`.
    pub path: String,
    /// The bytes.
    pub content: Vec<u8>,
}

impl std::fmt::Debug for UploadedFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "UploadedFile({}, {} bytes)",
            self.path,
            self.content.len()
        )
    }
}

/// An upload that is well-formed; see [`judge_configuration`] for what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InspectedUpload {
    /// The files, sorted by path.
    pub files: Vec<UploadedFile>,
    /// The archive for upstream: the same files, sorted, without times, owners and modes.
    pub repacked_tar_gz: Vec<u8>,
    /// Hash of `repacked_tar_gz`: the digest that approvals bind.
    pub sha256: Hash,
}

/// Why an upload is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{rule}", place(.file.as_deref(), *.line))]
pub struct UploadRefusal {
    /// The code.
    pub code: ReasonCode,
    /// The file, if it is about one.
    pub file: Option<String>,
    /// The line in it, from 1.
    pub line: Option<usize>,
    /// The rule that is broken, in words.
    pub rule: Cow<'static, str>,
    /// The line's text, cut when long. Untrusted.
    pub source_line: Option<String>,
}

fn place(file: Option<&str>, line: Option<usize>) -> String {
    match (file, line) {
        (Some(file), Some(line)) => format!("{file}:{line}: "),
        (Some(file), None) => format!("{file}: "),
        _ => String::new(),
    }
}

impl UploadRefusal {
    fn whole(code: ReasonCode, rule: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            file: None,
            line: None,
            rule: rule.into(),
            source_line: None,
        }
    }

    fn at(code: ReasonCode, file: &str, rule: impl Into<Cow<'static, str>>) -> Self {
        Self {
            file: Some(crate::terraform::rewrite::plain_text(file)),
            ..Self::whole(code, rule)
        }
    }
}

/// Largest file that is read as configuration, in bytes.
const MAX_SOURCE: usize = 4 << 20;

/// Most bytes of configuration in one upload: read, it takes about fifty times that in memory.
const MAX_SOURCES: usize = 8 << 20;

/// Most findings that are reported of one upload.
const MAX_FINDINGS: usize = 100;

/// Judges an upload by a contract. Empty means that it may be planned.
///
/// `readable` says the names of the workspaces in `remote_state_workspaces`; for a contract that
/// lists none it is [`ReadableStates::none`].
pub fn judge_configuration(
    contract: &Contract,
    upload: &InspectedUpload,
    readable: &ReadableStates,
) -> Vec<UploadRefusal> {
    let mut findings = Vec::new();
    file::judge(upload, &mut findings);
    lock::judge(contract, upload, &mut findings);
    hcl::judge(contract, upload, readable, &mut findings);
    findings.truncate(MAX_FINDINGS);
    findings
}

#[cfg(test)]
mod tests;
