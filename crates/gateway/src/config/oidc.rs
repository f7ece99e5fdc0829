//! Sign-in with OpenID Connect, as the operator configures it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{ConfigError, is_local};
use crate::operator::credential::Role;
use crate::secret::SecretSource;

/// Longest text that the configuration may hold here.
const MAX_TEXT: usize = 500;

/// One provider, and what its groups may do here.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Oidc {
    /// How people know the provider; stands on the button.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its issuer identifier, to the letter as the provider writes it.
    pub issuer: String,
    /// What the provider calls this gateway.
    pub client_id: String,
    /// Its secret there; without one the gateway is a public client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<SecretSource>,
    /// Scopes that are asked for besides `openid` and `email`.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// The claim that holds a person's groups.
    #[serde(default = "groups_claim")]
    pub groups_claim: String,
    /// Roles by group. Who is in none of these groups is not let in.
    pub roles: BTreeMap<String, Vec<Role>>,
}

fn groups_claim() -> String {
    "groups".to_owned()
}

impl Oidc {
    /// What somebody in these groups may do.
    pub fn roles_of(&self, groups: &[String]) -> Vec<Role> {
        let given = |role: &Role| {
            let mut own = groups.iter().filter_map(|group| self.roles.get(group));
            own.any(|roles| roles.contains(role))
        };
        Role::ALL.into_iter().filter(given).collect()
    }

    /// What stands on the button.
    pub fn name(&self) -> &str {
        let host = || {
            let rest = self.issuer.split_once("://").map_or("", |(_, rest)| rest);
            rest.split('/').next().unwrap_or_default()
        };
        self.name.as_deref().unwrap_or_else(host)
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let refuse = |message: String| Err(ConfigError::Value(message));
        if let Err(why) = endpoint(&self.issuer, true) {
            return refuse(format!("oidc.issuer `{}` {why}", self.issuer));
        }
        if self.issuer.contains('?') {
            return refuse(format!("oidc.issuer `{}` has a query", self.issuer));
        }
        let name = self.name.as_deref().unwrap_or("-");
        for (key, text) in [
            ("client_id", self.client_id.as_str()),
            ("groups_claim", &self.groups_claim),
            ("name", name),
        ] {
            let good = !text.is_empty() && text.len() <= MAX_TEXT;
            if !good || text.chars().any(char::is_control) {
                return refuse(format!(
                    "oidc.{key} must be 1 to {MAX_TEXT} bytes on one line"
                ));
            }
        }
        // RFC 6749, section 3.3.
        let plain = |byte: u8| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
        let good = |scope: &String| !scope.is_empty() && scope.bytes().all(plain);
        if let Some(scope) = self.scopes.iter().find(|scope| !good(scope)) {
            return refuse(format!("oidc.scopes: `{scope}` is no scope"));
        }
        if self.roles.values().all(Vec::is_empty) {
            let message = "oidc.roles gives no group a role, so that nobody could sign in: add \
                           \"group\" = [\"approver\"]";
            return refuse(message.to_owned());
        }
        Ok(())
    }
}

/// Whether an address of a provider may be used: TLS, or plain HTTP on this very machine.
///
/// # Errors
/// Why it may not, as the end of a sentence.
pub fn endpoint(url: &str, plain_on_loopback: bool) -> Result<(), &'static str> {
    let uri: http::Uri = url.parse().map_err(|_| "is not an address")?;
    let authority = uri.authority().ok_or("is not an address")?;
    if authority.as_str().contains('@') || url.contains('#') {
        return Err("holds more than an address");
    }
    match uri.scheme_str() {
        Some("https") => Ok(()),
        Some("http") if plain_on_loopback && is_local(authority.host()) => Ok(()),
        _ => Err("must begin with https://"),
    }
}
