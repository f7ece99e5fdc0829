//! How long content stays.

use serde::{Deserialize, Serialize};

use super::ConfigError;

/// After how many days content may go; nothing goes by itself, `clawgate store prune` lets it go.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retention {
    /// Days after a job's closing for which its records and receipts stay readable; forever when
    /// absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub records_days: Option<u32>,
    /// Days after a job's closing for which its bundle stays; forever when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bundles_days: Option<u32>,
}

impl Retention {
    /// Refuses what cannot be meant.
    ///
    /// # Errors
    /// [`ConfigError::Value`].
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if self.records_days == Some(0) || self.bundles_days == Some(0) {
            let why = "retention.records_days and retention.bundles_days must be at least 1; leave \
                       them out to keep everything";
            return Err(ConfigError::Value(why.to_owned()));
        }
        Ok(())
    }
}
