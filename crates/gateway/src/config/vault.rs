//! What is kept for auditors, for whom and for how long.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::ConfigError;

/// Most keys that content is sealed to: each costs a little with every piece.
const MAX_RECIPIENTS: usize = 64;

/// What is kept for auditors, and for whom.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vault {
    /// The auditors' age keys (`age1…`), each of which opens everything that is sealed from then
    /// on.
    pub recipients: Vec<String>,
    /// The vault's folder; `vault` in the data folder unless it is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<PathBuf>,
    /// Whether inspected uploads are kept.
    #[serde(default = "yes")]
    pub uploads: bool,
    /// Days after which a sealed upload is removed.
    #[serde(default = "year")]
    pub retention_days: u32,
    /// Most bytes that sealed uploads may take; an upload that has no room is refused.
    #[serde(default = "ten_gibibytes")]
    pub max_bytes: u64,
    /// Keeps what is said to models, and what they say; without it only hashes are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversations: Option<Conversations>,
}

/// How the bodies of model calls are kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Conversations {
    /// Refuses model calls while they cannot be kept, instead of letting them pass without a
    /// copy.
    pub required: bool,
    /// Days after which a sealed body is removed.
    pub retention_days: u32,
    /// Most bytes that sealed bodies may take; the oldest make room for new ones.
    pub max_bytes: u64,
}

impl Default for Conversations {
    fn default() -> Self {
        Self {
            required: false,
            retention_days: 90,
            max_bytes: ten_gibibytes(),
        }
    }
}

const fn yes() -> bool {
    true
}

const fn year() -> u32 {
    365
}

const fn ten_gibibytes() -> u64 {
    10 << 30
}

impl Vault {
    /// Refuses what cannot be right.
    ///
    /// # Errors
    /// [`ConfigError::Value`].
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let refuse = |message: String| Err(ConfigError::Value(message));
        if !(1..=MAX_RECIPIENTS).contains(&self.recipients.len()) {
            let message = "vault.recipients must name 1 to 64 keys: whatever is sealed to nobody";
            return refuse(format!("{message} cannot be opened"));
        }
        if let Err(error) = crate::vault::recipients(&self.recipients) {
            return refuse(format!("vault.recipients: {error}"));
        }
        if self.retention_days == 0 || self.max_bytes == 0 {
            return refuse(
                "vault.retention_days and vault.max_bytes must be more than 0; set \
                 vault.uploads = false or leave [vault] out to keep none"
                    .to_owned(),
            );
        }
        match &self.conversations {
            Some(kept) if kept.retention_days == 0 || kept.max_bytes == 0 => refuse(
                "vault.conversations.retention_days and vault.conversations.max_bytes must be \
                 more than 0; leave [vault.conversations] out to keep none"
                    .to_owned(),
            ),
            None if !self.uploads => refuse(
                "vault keeps neither uploads nor conversations: leave [vault] out, or name what \
                 it keeps"
                    .to_owned(),
            ),
            _ => Ok(()),
        }
    }
}
