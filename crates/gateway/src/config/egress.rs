//! The egress proxy, as far as the operator decides: which hosts may be reached is the contract's.

use policy::egress::Network;
use serde::{Deserialize, Serialize};

use super::ConfigError;

/// The egress proxy.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Egress {
    /// Ranges of addresses that may be reached although they are not public, for hosts that a
    /// contract lists: an internal mirror. Empty by default; `doctor` keeps mentioning them.
    pub allow_private: Vec<Network>,
    /// Connections at a time.
    pub connections: usize,
    /// Connections of one job at a time.
    pub connections_per_job: usize,
    /// Seconds that looking a name up may take, and then connecting.
    pub connect_timeout_seconds: u64,
    /// Seconds without a byte in either direction after which a connection is cut.
    pub idle_timeout_seconds: u64,
    /// Seconds after which every connection is cut.
    pub max_seconds: u64,
}

impl Default for Egress {
    fn default() -> Self {
        Self {
            allow_private: Vec::new(),
            connections: 512,
            connections_per_job: 64,
            connect_timeout_seconds: 10,
            idle_timeout_seconds: 300,
            max_seconds: 3600,
        }
    }
}

impl Egress {
    /// Refuses bounds that are none.
    ///
    /// # Errors
    /// [`ConfigError::Value`].
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        for (name, value, most) in [
            ("connect_timeout_seconds", self.connect_timeout_seconds, 120),
            ("idle_timeout_seconds", self.idle_timeout_seconds, 3600),
            ("max_seconds", self.max_seconds, 86_400),
        ] {
            if !(1..=most).contains(&value) {
                let message = format!("egress.{name} must be 1 to {most}");
                return Err(ConfigError::Value(message));
            }
        }
        Ok(())
    }
}
