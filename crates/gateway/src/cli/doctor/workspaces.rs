//! Settings of the contracts' workspaces that can get around the gateway.

use std::collections::BTreeSet;

use http::Method;
use policy::Contract;
use serde_json::Value;

use super::Report;
use super::credentials::accepted;
use crate::upstream::{Duty, Upstream};

/// Most workspaces that are asked about.
const MAX_WORKSPACES: usize = 256;

/// Asks about every workspace that a contract names.
pub(super) async fn settings(upstream: &Upstream, contracts: &[Contract], report: &mut Report) {
    let ids: BTreeSet<&str> = contracts
        .iter()
        .flat_map(|contract| &contract.permissions.workspaces)
        .map(|id| id.as_str())
        .collect();
    if ids.is_empty() {
        report.warn(
            "workspaces",
            "no contract is published, so none was looked at",
            "clawgate policy publish contract.json --author-key author.key",
        );
        return;
    }
    for id in ids.iter().take(MAX_WORKSPACES) {
        // The ids come from contracts, where their letters are checked.
        let target = format!("/api/v2/workspaces/{id}");
        match accepted(
            upstream
                .call(Duty::Reader, Method::GET, &target, None)
                .await,
        ) {
            Ok(Some(workspace)) => {
                let mut found = judge(id, &workspace["data"]["attributes"]);
                found.extend(run_triggers(upstream, id).await);
                if found.is_empty() {
                    report.ok(
                        "workspaces",
                        format!("{id}: nothing gets around the gateway"),
                    );
                }
                for (message, next) in found {
                    report.warn("workspaces", message, next);
                }
            }
            Ok(None) => report.problem(
                "workspaces",
                format!("{id}: the reader's token cannot see it"),
                "check the id in the contract, or give the team read access to the workspace",
            ),
            Err(why) => {
                report.problem("workspaces", format!("{id}: {why}"), "ask again later");
            }
        }
    }
}

/// What the workspace's own settings allow beside the gateway.
fn judge(id: &str, attributes: &Value) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut warn = |holds: bool, message: &str, next: &str| {
        if holds {
            found.push((format!("{id}: {message}"), next.to_owned()));
        }
    };
    warn(
        attributes["auto-apply"] == true,
        "auto-apply is on: runs that do not come through the gateway apply by themselves",
        "turn auto-apply off in the workspace's settings",
    );
    warn(
        attributes["auto-apply-run-trigger"] == true,
        "auto-apply is on for run triggers",
        "turn it off in the workspace's settings",
    );
    warn(
        attributes["execution-mode"] == "local",
        "execution mode is local: plans and applies run at the client, where no gateway stops them",
        "set the execution mode to remote or agent",
    );
    warn(
        attributes["global-remote-state"] == true,
        "its state is shared with the whole organization: any workspace's plan can read it",
        "share the state with named workspaces only",
    );
    warn(
        attributes["vcs-repo"].is_object() && attributes["queue-all-runs"] == true,
        "a repository starts runs by itself, beside the gateway",
        "make sure that only people can push there, or disconnect it",
    );
    found
}

async fn run_triggers(upstream: &Upstream, id: &str) -> Option<(String, String)> {
    let target =
        format!("/api/v2/workspaces/{id}/run-triggers?filter%5Brun-trigger%5D%5Btype%5D=inbound");
    let list = accepted(
        upstream
            .call(Duty::Reader, Method::GET, &target, None)
            .await,
    )
    .ok()??;
    let count = list["data"].as_array().map_or(0, Vec::len);
    (count > 0).then(|| {
        (
            format!("{id}: {count} other workspaces start runs here (run triggers)"),
            "remove the triggers, or put those workspaces under contract, too".to_owned(),
        )
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_setting_that_gets_around_the_gateway_is_named() {
        let good = json!({
            "auto-apply": false, "execution-mode": "remote", "global-remote-state": false,
            "vcs-repo": null, "queue-all-runs": false,
        });
        assert!(judge("ws-1", &good).is_empty());
        for (name, value, says) in [
            ("auto-apply", json!(true), "auto-apply"),
            ("auto-apply-run-trigger", json!(true), "run triggers"),
            ("execution-mode", json!("local"), "local"),
            ("global-remote-state", json!(true), "shared"),
        ] {
            let mut bad = good.clone();
            bad[name] = value;
            let found = judge("ws-1", &bad);
            assert_eq!(found.len(), 1, "{name}");
            assert!(
                found[0].0.contains(says) && !found[0].1.is_empty(),
                "{name}"
            );
        }
    }
}
