//! Whether people can sign in with OpenID Connect.

use super::super::failure::chain;
use super::{Report, operator_url};
use crate::config::Config;
use crate::oidc::id_token::ALGORITHMS;
use crate::oidc::{CALLBACK, Provider};
use crate::upstream::http_client;

const CHECK: &str = "oidc";

/// Asks the provider as a sign-in would, unless `offline`.
pub(super) async fn provider(config: &Config, offline: bool, report: &mut Report) {
    let Some(settings) = &config.oidc else {
        return;
    };
    let client = match http_client(config) {
        Ok(client) => client,
        Err(error) => {
            let message = format!("cannot connect anywhere: {error:#}");
            let next = "correct terraform_cloud.ca_file";
            report.problem(CHECK, message, next);
            return;
        }
    };
    let provider = match Provider::connect(settings, client).await {
        Ok(provider) => provider,
        Err(error) => {
            let message = format!("client_secret: {}", chain(&error));
            let next = "put the client's secret where oidc.client_secret says, or leave the key \
                        out for a public client; the gateway does not start with it";
            report.problem(CHECK, message, next);
            return;
        }
    };
    let issuer = &settings.issuer;
    let back = format!("{}{CALLBACK}", operator_url(config));
    if offline {
        report.ok(
            CHECK,
            format!("`{issuer}`, not asked; sends people back to `{back}`"),
        );
        return;
    }
    let now = crate::app::now();
    let asked = async {
        let discovery = provider.discovery(now).await?;
        let keys = provider.keys(&discovery, false, now).await?;
        Ok::<_, crate::oidc::ProviderError>((discovery, keys))
    };
    let (discovery, keys) = match asked.await {
        Ok(found) => found,
        Err(error) => {
            let next = "let this machine reach the provider, and let oidc.issuer be what it calls \
                        itself; a private certificate authority goes into terraform_cloud.ca_file";
            report.problem(CHECK, error.to_string(), next);
            return;
        }
    };
    let signs = discovery.id_token_signing_alg_values_supported.as_ref();
    let known = |algorithm: &String| ALGORITHMS.contains(&algorithm.as_str());
    if keys.is_empty() || signs.is_some_and(|signs| !signs.iter().any(known)) {
        report.problem(
            CHECK,
            format!("`{issuer}` publishes no key for RS256, ES256 or EdDSA"),
            "let the provider sign this client's ID tokens with one of them",
        );
        return;
    }
    let methods = discovery.code_challenge_methods_supported.as_ref();
    if methods.is_some_and(|methods| !methods.iter().any(|method| method == "S256")) {
        report.warn(
            CHECK,
            format!("`{issuer}` does not say that it takes PKCE with S256"),
            "prefer a provider that does; the sign-in asks for it all the same",
        );
    }
    let groups = settings.roles.len();
    let groups = crate::pages::words::count(groups as u64, "group", "groups");
    let keys = crate::pages::words::count(keys.len() as u64, "key", "keys");
    let message = format!(
        "`{issuer}` answers, with {keys}; roles for {groups} of `{}`; its client's redirect URI \
         must be `{back}`",
        settings.groups_claim
    );
    report.ok(CHECK, message);
}
