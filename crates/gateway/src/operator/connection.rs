//! How an agent reaches the gateway, for those who start one.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use http::Uri;
use schemars::JsonSchema;
use serde::Serialize;

use crate::app::App;
use crate::config::Dialect;

/// By which name configurations call Terraform Cloud, unless the configuration has another.
const TERRAFORM_CLOUD: &str = "app.terraform.io";

/// Addresses and what there is behind them.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Connection {
    gateway_id: String,
    /// Where agents call.
    agent_url: String,
    operator_url: String,
    /// The names that stand in people's `cloud` blocks.
    terraform_hosts: BTreeSet<String>,
    /// `openai`, `anthropic`: which there are.
    model_dialects: BTreeSet<&'static str>,
}

/// Tells them.
pub(super) async fn show(State(app): State<Arc<App>>) -> Json<Connection> {
    let providers = app.config.models.values();
    let dialects: BTreeSet<&'static str> = providers
        .map(|provider| match provider.dialect {
            Dialect::Openai => "openai",
            Dialect::Anthropic => "anthropic",
        })
        .collect();
    Json(Connection {
        gateway_id: app.config.gateway_id.clone(),
        agent_url: app.agent_url.clone(),
        operator_url: app.operator_url.clone(),
        terraform_hosts: terraform_hosts(&app.config.terraform_cloud.url, &app.agent_url),
        model_dialects: dialects,
    })
}

/// The names that stand in people's `cloud` blocks: upstream's, and ours in its place. An address by
/// number is a stand-in for the vendor's, or has no name to stand there.
fn terraform_hosts(upstream: &str, ours: &str) -> BTreeSet<String> {
    let upstream = name_of(upstream).unwrap_or_else(|| TERRAFORM_CLOUD.to_owned());
    [upstream].into_iter().chain(name_of(ours)).collect()
}

fn name_of(url: &str) -> Option<String> {
    let uri = url.parse::<Uri>().ok()?;
    let host = uri.host()?;
    let numeric = host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
    (!numeric && host != "localhost").then(|| host.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configurations_call_upstream_or_us_by_name() {
        let ours = "http://127.0.0.1:8787";
        for (upstream, ours, hosts) in [
            ("https://app.terraform.io", ours, &[TERRAFORM_CLOUD][..]),
            (
                "https://app.eu.terraform.io/",
                ours,
                &["app.eu.terraform.io"],
            ),
            ("http://127.0.0.1:4000", ours, &[TERRAFORM_CLOUD]),
            (
                "http://[::1]:4000",
                "http://localhost:1",
                &[TERRAFORM_CLOUD],
            ),
            (
                "https://tfe.example:8443",
                "https://gate.example:8787",
                &["gate.example", "tfe.example"],
            ),
        ] {
            let found = terraform_hosts(upstream, ours);
            assert!(found.iter().eq(hosts), "{upstream} {ours}: {found:?}");
        }
    }
}
