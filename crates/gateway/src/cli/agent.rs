//! How a command speaks to the gateway as the agent: with its scoped token, at its listener.

use std::path::PathBuf;

use clap::Args;
use http::HeaderValue;
use zeroize::Zeroizing;

use super::Failure;
use super::client::check_address;
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
    /// Let the token travel over plain HTTP to another machine
    #[arg(long)]
    pub(super) allow_plaintext: bool,
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
    /// When there is no token, or when it would travel in the clear.
    pub(super) fn connect(&self) -> Result<AgentApi, Failure> {
        let gateway = self.gateway.clone().or_else(|| set("CLAWGATE_URL"));
        let gateway = gateway.unwrap_or_else(|| DEFAULT_GATEWAY.to_owned());
        let base = gateway.trim_end_matches('/').to_owned();
        check_address("gateway", &base, self.allow_plaintext)?;
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
        Ok(AgentApi { http, base, bearer })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_does_not_travel_in_the_clear() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "cst_x\n").unwrap();
        let connect = |gateway: &str, allow_plaintext| {
            let agent = Agent {
                gateway: Some(gateway.to_owned()),
                token_file: Some(file.path().to_owned()),
                ca_file: None,
                allow_plaintext,
            };
            agent.connect().map(|api| api.base)
        };
        for (address, plaintext) in [
            ("http://127.0.0.1:8787", false),
            ("http://[::1]:8787", false),
            ("http://localhost:8787/", false),
            ("https://gateway.example", false),
            ("http://gateway.example", true),
        ] {
            let base = connect(address, plaintext).unwrap();
            assert_eq!(base, address.trim_end_matches('/'));
        }
        for address in ["http://gateway.example", "http://10.0.0.1:8787"] {
            let failure = connect(address, false).unwrap_err().to_string();
            assert!(failure.contains("in the clear"), "{failure}");
            assert!(failure.contains("--allow-plaintext"), "{failure}");
        }
        assert!(connect("gateway.example:8787", true).is_err());
    }
}
