//! Who may read the log's hashes, and where the log is published.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::ConfigError;

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
    /// Seconds between two checkpoints that are published.
    pub publish_seconds: u64,
}

/// Where the log's static files go.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tiles {
    /// A folder. Relative to the file's folder.
    pub folder: PathBuf,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            public: false,
            tiles: None,
            publish_seconds: 10,
        }
    }
}

impl Log {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if !(1..=86_400).contains(&self.publish_seconds) {
            let message = "log.publish_seconds must be 1 to 86400";
            return Err(ConfigError::Value(message.to_owned()));
        }
        Ok(())
    }
}
