//! Who may read the log's hashes, and where the log is published.

use std::path::PathBuf;

use proof::Did;
use proof::checkpoint::is_key_name;
use proof::timestamp::Authority;
use serde::{Deserialize, Serialize};

use super::{ConfigError, Tiles, is_local};

/// Most witnesses: a note with all of their cosignatures stays far below the longest that is read.
const MAX_WITNESSES: usize = 16;

/// The log beyond the gateway.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// Serves checkpoints and tiles of hashes to everybody who reaches the operator listener;
    /// entries never.
    pub public: bool,
    /// Writes the log as static files; without it nothing is written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tiles: Option<Tiles>,
    /// Who is asked for timestamps of bundles' checkpoints; nobody without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamps: Option<Timestamps>,
    /// Seconds between two checkpoints that are published.
    pub publish_seconds: u64,
    /// Who is asked to cosign checkpoints.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub witnesses: Vec<Witness>,
    /// How many of them must have cosigned a bundle's checkpoint; goes into the trust root.
    pub required_witnesses: u32,
    /// Seconds for which a bundle or a published checkpoint waits for them.
    pub witness_wait_seconds: u64,
}

/// Somebody else who cosigns checkpoints.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Witness {
    /// Its name in notes.
    pub name: String,
    /// Where it takes checkpoints, without `/add-checkpoint`.
    pub url: String,
    /// Its key.
    pub did: Did,
}

/// A timestamping authority (RFC 3161), asked to stamp checkpoints.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timestamps {
    /// Where it answers.
    pub url: String,
    /// Its certificate, or that of who certifies it, in PEM; goes into the trust root. Relative to
    /// the file's folder.
    pub ca_file: PathBuf,
    /// Seconds for which a bundle waits for it.
    #[serde(default = "five")]
    pub wait_seconds: u64,
    /// What is in the file.
    #[serde(skip)]
    pub authorities: Vec<Authority>,
}

fn five() -> u64 {
    5
}

impl Timestamps {
    /// Reads the authority's certificates, once.
    pub(crate) fn read(&mut self) -> Result<(), ConfigError> {
        if !self.authorities.is_empty() {
            return Ok(());
        }
        let path = &self.ca_file;
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.clone(),
            source,
        })?;
        self.authorities = Authority::read_pem(&text).map_err(|error| {
            let path = path.display();
            ConfigError::Value(format!("log.timestamps.ca_file `{path}`: {error}"))
        })?;
        Ok(())
    }
}

impl Default for Log {
    fn default() -> Self {
        Self {
            public: false,
            tiles: None,
            timestamps: None,
            publish_seconds: 10,
            witnesses: Vec::new(),
            required_witnesses: 0,
            witness_wait_seconds: 5,
        }
    }
}

impl Log {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let refuse = |message: String| Err(ConfigError::Value(message));
        if !(1..=86_400).contains(&self.publish_seconds) {
            return refuse("log.publish_seconds must be 1 to 86400".to_owned());
        }
        if !(1..=60).contains(&self.witness_wait_seconds) {
            return refuse("log.witness_wait_seconds must be 1 to 60".to_owned());
        }
        if self.witnesses.len() > MAX_WITNESSES {
            return refuse(format!("log.witnesses must be {MAX_WITNESSES} at most"));
        }
        if self.required_witnesses as usize > self.witnesses.len() {
            return refuse(
                "log.required_witnesses is more than there are log.witnesses".to_owned(),
            );
        }
        if let Some(timestamps) = &self.timestamps {
            let url = &timestamps.url;
            // The answer is signed, and says nothing that is not public: plain HTTP will do, as most
            // authorities offer nothing else.
            let scheme = url.parse::<http::Uri>().ok();
            let scheme = scheme.as_ref().and_then(http::Uri::scheme_str);
            if !matches!(scheme, Some("http" | "https")) {
                return refuse(format!(
                    "log.timestamps.url `{url}` must begin with https:// or http://"
                ));
            }
            if !(1..=60).contains(&timestamps.wait_seconds) {
                return refuse("log.timestamps.wait_seconds must be 1 to 60".to_owned());
            }
        }
        for (n, witness) in self.witnesses.iter().enumerate() {
            let Witness { name, url, did } = witness;
            if !is_key_name(name) {
                return refuse(format!("the witness's name `{name}` must be plain"));
            }
            let same = |other: &Witness| other.name == *name || other.did == *did;
            if self.witnesses[..n].iter().any(same) {
                return refuse(format!("the witness `{name}` is listed twice"));
            }
            let uri = url.parse::<http::Uri>().ok();
            let host = uri.as_ref().and_then(http::Uri::host).unwrap_or_default();
            let safe = match uri.as_ref().and_then(http::Uri::scheme_str) {
                Some("https") => true,
                Some("http") => is_local(host),
                _ => false,
            };
            if !safe || url.ends_with('/') {
                return refuse(format!(
                    "the witness's url `{url}` must begin with https:// and not end in a slash"
                ));
            }
        }
        Ok(())
    }
}
