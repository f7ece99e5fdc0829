//! Where traces and metrics go.

use serde::{Deserialize, Serialize};

use super::{ConfigError, is_local};
use crate::secret::SecretSource;

/// An OpenTelemetry collector.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Telemetry {
    /// Base address of its OTLP over HTTP, without a path of a signal: `http://127.0.0.1:4318`.
    pub otlp: String,
    /// Its bearer token, where it asks for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<SecretSource>,
}

impl Telemetry {
    /// Refuses what cannot be right.
    ///
    /// # Errors
    /// [`ConfigError::Value`].
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let url = &self.otlp;
        let refuse = |why: &str| {
            let message = format!("telemetry.otlp `{url}` {why}");
            Err(ConfigError::Value(message))
        };
        let Ok(parsed) = url.parse::<http::Uri>() else {
            return refuse("is not an address");
        };
        let local = is_local(parsed.host().unwrap_or_default());
        match parsed.scheme_str() {
            Some("https") => {}
            Some("http") if local => {}
            _ => return refuse("must begin with https://, or be this machine's own"),
        }
        if url.ends_with('/') || parsed.query().is_some() {
            return refuse("must not end in a slash, and has no query");
        }
        Ok(())
    }
}
