//! How a command speaks to the gateway as the agent: with its scoped token, at its listener.

use std::path::PathBuf;

use clap::Args;
use http::HeaderValue;
use zeroize::Zeroizing;

use super::Failure;
use crate::upstream::{HttpClient, http_client_with};

/// Where the agents' listener is unless somebody says otherwise.
pub(super) const DEFAULT_GATEWAY: &str = "http://127.0.0.1:8787";

/// Which gateway, and with which token.
#[derive(Debug, Args)]
#[command(next_help_heading = "Gateway")]
pub(super) struct Agent {
    /// Address of the agent listener [env: CLAWGATE_URL] [default: http://127.0.0.1:8787]
    #[arg(long, value_name = "URL")]
    pub(super) gateway: Option<String>,
    /// File with the scoped token [env: CST holds the token itself]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Certificate authority of the gateway, PEM, besides those of the system
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

/// A gateway, as agents reach it.
pub(super) struct AgentApi {
    pub(super) http: HttpClient,
    /// Its address, without a slash at the end.
    pub(super) base: String,
    pub(super) bearer: HeaderValue,
}

impl Agent {
    /// Finds the address and the token; nothing is sent yet.
    ///
    /// # Errors
    /// When there is no token.
    pub(super) fn connect(&self) -> Result<AgentApi, Failure> {
        let gateway = self.gateway.clone().or_else(|| set("CLAWGATE_URL"));
        let gateway = gateway.unwrap_or_else(|| DEFAULT_GATEWAY.to_owned());
        let token = match &self.token_file {
            Some(file) => std::fs::read_to_string(file).map_err(|error| {
                Failure::new(format!("cannot read `{}`: {error}", file.display()))
            })?,
            None => set("CST").ok_or_else(|| {
                Failure::usage("no scoped token").next(
                    "give --token-file FILE or set CST; an operator makes one with \
                     `clawgate token issue`",
                )
            })?,
        };
        let bearer = Zeroizing::new(format!("Bearer {}", token.trim()));
        let mut bearer = HeaderValue::try_from(bearer.as_str())
            .map_err(|_| Failure::usage("the token is not plain text"))?;
        bearer.set_sensitive(true);
        let http = http_client_with(self.ca_file.as_deref())
            .map_err(|error| Failure::new(format!("cannot set up TLS: {error:#}")))?;
        Ok(AgentApi {
            http,
            base: gateway.trim_end_matches('/').to_owned(),
            bearer,
        })
    }

    /// Whether there is a token to ask with.
    pub(super) fn has_token(&self) -> bool {
        self.token_file.is_some() || set("CST").is_some()
    }
}

/// A variable that is set to nothing counts as not set.
pub(super) fn set(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}
