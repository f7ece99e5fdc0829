//! Whether the hosts on which upstream keeps logs, uploads and state are allowed.

use std::collections::BTreeMap;

use http::{Method, Uri};
use policy::Contract;
use serde_json::Value;

use super::Report;
use super::credentials::accepted;
use crate::config::Config;
use crate::upstream::{Duty, Upstream};

/// Terraform Cloud and the host of its objects.
const CLOUD: &str = "https://app.terraform.io";
const CLOUD_OBJECTS: &str = "archivist.terraform.io";

/// Most workspaces that are asked.
const MAX_WORKSPACES: usize = 5;

/// Looks where upstream's signed addresses lead.
pub(super) async fn hosts(
    config: &Config,
    upstream: &Upstream,
    contracts: &[Contract],
    report: &mut Report,
) {
    let check = "object hosts";
    let configured = &config.terraform_cloud;
    let missing = !configured
        .object_hosts
        .iter()
        .any(|host| host == CLOUD_OBJECTS);
    if configured.url == CLOUD && missing {
        report.problem(
            check,
            format!("`{CLOUD_OBJECTS}`, where Terraform Cloud keeps uploads and logs, is missing"),
            format!("add it: terraform_cloud.object_hosts = [\"{CLOUD_OBJECTS}\"]"),
        );
        return;
    }
    let mut seen: BTreeMap<String, bool> = BTreeMap::new();
    let ids = contracts
        .iter()
        .flat_map(|contract| &contract.permissions.workspaces);
    for id in ids.take(MAX_WORKSPACES) {
        for address in addresses(upstream, id.as_str()).await {
            let allowed = upstream.check_object_address(&address).is_ok();
            seen.insert(host_of(&address), allowed);
        }
    }
    if seen.is_empty() {
        report.warn(
            check,
            "no workspace has a run or a state yet, so it could not be seen where uploads and \
             logs are kept",
            "run `clawgate doctor` again after the first run",
        );
    }
    for (host, allowed) in seen {
        if allowed {
            report.ok(check, format!("uploads and logs are kept at {host}"));
        } else {
            report.problem(
                check,
                format!(
                    "upstream keeps uploads and logs at `{host}`, which is not allowed: agents \
                     could neither upload nor read logs"
                ),
                format!(
                    "if that is the right host, add it: terraform_cloud.object_hosts = \
                     [\"{host}\"]"
                ),
            );
        }
    }
}

/// Signed addresses of a workspace's objects: its latest plan's log, its state.
async fn addresses(upstream: &Upstream, id: &str) -> Vec<String> {
    let mut found = Vec::new();
    let runs = format!("/api/v2/workspaces/{id}/runs?page%5Bsize%5D=1");
    let runs = read(upstream, Duty::Reader, &runs).await;
    let plan = runs["data"][0]["relationships"]["plan"]["data"]["id"].as_str();
    if let Some(plan) = plan.filter(|plan| plan.bytes().all(is_plain)) {
        let plan = read(upstream, Duty::Reader, &format!("/api/v2/plans/{plan}")).await;
        let log = &plan["data"]["attributes"]["log-read-url"];
        found.extend(log.as_str().map(str::to_owned));
    }
    let state = format!("/api/v2/workspaces/{id}/current-state-version");
    let state = read(upstream, Duty::Executor, &state).await;
    let download = &state["data"]["attributes"]["hosted-state-download-url"];
    found.extend(download.as_str().map(str::to_owned));
    found
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-'
}

async fn read(upstream: &Upstream, duty: Duty, path: &str) -> Value {
    let answer = upstream.call(duty, Method::GET, path, None).await;
    accepted(answer).ok().flatten().unwrap_or_default()
}

/// Host and port only: the rest of a signed address is a credential.
fn host_of(address: &str) -> String {
    let uri: Option<Uri> = address.parse().ok();
    let authority = uri.as_ref().and_then(Uri::authority);
    let host = authority.map(|authority| authority.as_str());
    let host = host.and_then(|host| host.rsplit('@').next());
    host.unwrap_or("an unreadable address")
        .chars()
        .take(120)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_signed_address_only_the_host_is_shown() {
        for (address, host) in [
            (
                "https://archivist.example/v1/object/SECRET",
                "archivist.example",
            ),
            ("http://127.0.0.1:4000/v1/object/SECRET", "127.0.0.1:4000"),
            (
                "https://user:SECRET@archivist.example/x",
                "archivist.example",
            ),
            ("SECRET", "SECRET"),
            ("/v1/object/SECRET", "an unreadable address"),
        ] {
            assert_eq!(host_of(address), host, "{address}");
        }
    }
}
