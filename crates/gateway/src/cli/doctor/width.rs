//! Whether upstream's tokens reach further than their duty does.
//!
//! What a token cannot do, nobody can make it do: not a mistake here, not who steals it.

use std::collections::{BTreeMap, BTreeSet};

use http::Method;
use policy::Contract;
use serde_json::Value;

use super::Report;
use super::credentials::{DUTIES, accepted};
use crate::upstream::{Duty, Upstream};

/// Most workspaces whose permissions are read.
const MAX_WORKSPACES: usize = 20;

/// Most organizations.
const MAX_ORGANIZATIONS: usize = 5;

/// Rights on the organization that no duty needs: what owners and organization tokens have.
const ORGANIZATION_RIGHTS: [&str; 10] = [
    "can-update",
    "can-destroy",
    "can-create-workspace",
    "can-create-team",
    "can-update-api-token",
    "can-update-oauth",
    "can-manage-users",
    "can-manage-subscription",
    "can-manage-public-providers",
    "can-manage-varsets",
];

/// A right on a workspace that a duty should not have, and what it opens.
const TOO_MUCH: [(&str, &str, &str); 8] = [
    (
        "planner",
        "can-queue-apply",
        "may apply: a mistake here would be enough",
    ),
    (
        "planner",
        "can-update",
        "may change settings, auto-apply among them",
    ),
    ("planner", "can-update-variable", "may write variables"),
    (
        "planner",
        "can-create-state-versions",
        "may write state versions",
    ),
    ("planner", "can-destroy", "may delete the workspace"),
    (
        "executor",
        "can-update",
        "may change settings, auto-apply among them",
    ),
    ("executor", "can-update-variable", "may write variables"),
    ("executor", "can-destroy", "may delete the workspace"),
];

/// A right on a workspace that a duty needs, and what fails without it.
const TOO_LITTLE: [(&str, &str, &str); 4] = [
    ("planner", "can-queue-run", "may not plan"),
    (
        "executor",
        "can-queue-apply",
        "may not apply: approved plans would fail",
    ),
    (
        "executor",
        "can-lock",
        "may not lock: `clawgate rollback state` would fail",
    ),
    (
        "reader",
        "can-read-settings",
        "may not read settings: plans and drift cannot be judged",
    ),
];

/// Asks what each token may do in the contracts' workspaces and in their organizations.
pub(super) async fn of_tokens(upstream: &Upstream, contracts: &[Contract], report: &mut Report) {
    let ids: BTreeSet<&str> = contracts
        .iter()
        .flat_map(|contract| &contract.permissions.workspaces)
        .map(|id| id.as_str())
        .collect();
    let before = report.findings().len();
    let mut organizations: BTreeMap<String, usize> = BTreeMap::new();
    for (name, duty) in DUTIES {
        let mut found: BTreeMap<(bool, &str), Vec<&str>> = BTreeMap::new();
        for id in ids.iter().copied().take(MAX_WORKSPACES) {
            let Some(workspace) = read(upstream, duty, &format!("/api/v2/workspaces/{id}")).await
            else {
                continue;
            };
            if duty == Duty::Reader
                && let Some(organization) =
                    workspace["data"]["relationships"]["organization"]["data"]["id"].as_str()
            {
                *organizations.entry(organization.to_owned()).or_default() += 1;
            }
            for (too_much, says) in judge(name, &workspace["data"]["attributes"]["permissions"]) {
                found.entry((too_much, says)).or_default().push(id);
            }
        }
        for ((too_much, says), ids) in found {
            let next = if too_much {
                format!("give the {name}'s team fewer permissions on the workspace")
            } else {
                format!("give the {name}'s team this permission on the workspace")
            };
            report.warn("rights", format!("{name}: {says} ({})", few(&ids)), next);
        }
    }
    for (organization, governed) in organizations.iter().take(MAX_ORGANIZATIONS) {
        of_organization(upstream, organization, *governed, report).await;
    }
    if !ids.is_empty() && report.findings().len() == before {
        report.ok("rights", "no token reaches further than its duty");
    }
}

async fn of_organization(
    upstream: &Upstream,
    organization: &str,
    governed: usize,
    report: &mut Report,
) {
    // The name came from upstream, and goes into a path.
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    if !organization.bytes().all(plain) {
        return;
    }
    for (name, duty) in DUTIES {
        let path = format!("/api/v2/organizations/{organization}");
        if let Some(found) = read(upstream, duty, &path).await {
            let rights = organization_rights(&found["data"]["attributes"]["permissions"]);
            if !rights.is_empty() {
                report.warn(
                    "rights",
                    format!(
                        "{name}: has rights on the whole organization {organization} ({}): an \
                         organization token, or the owners' team?",
                        rights.join(", ")
                    ),
                    "make a token of a team that is made for this and has permissions on single \
                     workspaces or one project only",
                );
            }
        }
        let listing = format!("{path}/workspaces?page%5Bsize%5D=1");
        let Some(list) = read(upstream, duty, &listing).await else {
            continue;
        };
        let seen = list["meta"]["pagination"]["total-count"].as_u64();
        if let Some(seen) = seen.filter(|seen| *seen > governed as u64) {
            report.warn(
                "rights",
                format!(
                    "{name}: sees {seen} workspaces of {organization}, and contracts name \
                     {governed} of them"
                ),
                "a token that reaches less can lose less: give its team the contracts' \
                 workspaces only",
            );
        }
    }
}

/// What a duty may do and should not, or the other way round.
fn judge(duty: &str, permissions: &Value) -> Vec<(bool, &'static str)> {
    let too_much = TOO_MUCH
        .iter()
        .filter(|(of, right, _)| *of == duty && permissions[*right] == true)
        .map(|(_, _, says)| (true, *says));
    let too_little = TOO_LITTLE
        .iter()
        .filter(|(of, right, _)| *of == duty && permissions[*right] == false)
        .map(|(_, _, says)| (false, *says));
    too_much.chain(too_little).collect()
}

fn organization_rights(permissions: &Value) -> Vec<&'static str> {
    let held = |right: &&str| permissions[*right] == true;
    ORGANIZATION_RIGHTS.into_iter().filter(held).collect()
}

fn few(ids: &[&str]) -> String {
    match ids {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [first, rest @ ..] => format!("{first} and {} more", rest.len()),
    }
}

async fn read(upstream: &Upstream, duty: Duty, path: &str) -> Option<Value> {
    let answer = upstream.call(duty, Method::GET, path, None).await;
    accepted(answer).ok().flatten()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_right_that_a_duty_should_not_have_is_named() {
        let right = json!({
            "can-queue-run": true, "can-queue-apply": false, "can-update": false,
            "can-update-variable": false, "can-create-state-versions": false,
            "can-destroy": false, "can-read-settings": true,
        });
        assert_eq!(judge("planner", &right), []);
        for (duty, name, _) in TOO_MUCH {
            let mut more = right.clone();
            more["can-queue-apply"] = json!(duty == "executor");
            more["can-lock"] = json!(true);
            more[name] = json!(true);
            let found = judge(duty, &more);
            assert_eq!(found.len(), 1, "{duty} {name}");
            assert!(found[0].0, "{duty} {name}");
        }
        for (duty, name, _) in TOO_LITTLE {
            let mut less = json!({
                "can-queue-run": true, "can-queue-apply": duty == "executor", "can-lock": true,
                "can-read-settings": true,
            });
            less[name] = json!(false);
            let found = judge(duty, &less);
            assert_eq!(found.len(), 1, "{duty} {name}");
            assert!(!found[0].0, "{duty} {name}");
        }
        // Reading full plans needs an administrator of the workspace upstream.
        let all = json!({"can-update": true, "can-queue-apply": true, "can-read-settings": true});
        assert_eq!(judge("reader", &all), []);
    }

    #[test]
    fn owners_are_recognised() {
        let team = json!({"can-traverse": true, "can-update": false});
        assert!(organization_rights(&team).is_empty());
        let owners = json!({"can-update": true, "can-destroy": true});
        assert_eq!(organization_rights(&owners), ["can-update", "can-destroy"]);
    }
}
