//! Whether Terraform Cloud asks the gateway: without that, an apply that does not come through the
//! gateway is not stopped by it.

use std::collections::{BTreeMap, BTreeSet};

use http::Method;
use policy::Contract;
use policy::terraform::ids::WorkspaceId;

use super::Report;
use super::credentials::accepted;
use crate::config::Config;
use crate::run_tasks::attachment::{Attachment, Task, Wanted, attachment, task};
use crate::upstream::{Duty, Upstream};

const CHECK: &str = "run tasks";

/// Most workspaces that are asked about.
const MAX_WORKSPACES: usize = 256;

/// Shortest key that nobody guesses, in characters.
const MIN_KEY: usize = 32;

/// Looks at every workspace that a contract names.
pub(super) async fn attached(
    config: &Config,
    upstream: &Upstream,
    contracts: &[Contract],
    report: &mut Report,
) {
    let ids: BTreeSet<&WorkspaceId> = contracts
        .iter()
        .flat_map(|contract| &contract.permissions.workspaces)
        .collect();
    if ids.is_empty() {
        return;
    }
    let Some(settings) = &config.run_tasks else {
        report.warn(
            CHECK,
            "not configured: an apply that somebody clicks in Terraform Cloud, or starts with a \
             stolen token, does not pass this gateway",
            "clawgate tasks key run-task.key, set run_tasks.hmac_key, clawgate tasks install",
        );
        return;
    };
    match settings.hmac_key.fetch().await {
        Ok(key) if key.expose().len() < MIN_KEY => report.warn(
            CHECK,
            format!("the key has fewer than {MIN_KEY} characters"),
            "clawgate tasks key, then clawgate tasks install --renew-key",
        ),
        Ok(_) => {}
        Err(error) => report.problem(
            CHECK,
            super::super::failure::chain(&error),
            "clawgate tasks key run-task.key, and set run_tasks.hmac_key",
        ),
    }
    let Some(wanted) = Wanted::of(config) else {
        let next = "set run_tasks.public_url";
        report.warn(
            CHECK,
            "it is not known how Terraform Cloud reaches the gateway",
            next,
        );
        return;
    };
    let mut tasks = BTreeMap::new();
    for id in ids.into_iter().take(MAX_WORKSPACES) {
        workspace(upstream, &wanted, id, &mut tasks, report).await;
    }
}

/// What the run tasks of a workspace are, as far as the reader may see them.
async fn workspace(
    upstream: &Upstream,
    wanted: &Wanted,
    id: &WorkspaceId,
    tasks: &mut BTreeMap<String, Option<Task>>,
    report: &mut Report,
) {
    let list = read(upstream, &format!("/api/v2/workspaces/{id}/tasks")).await;
    let list = match list {
        Ok(Some(list)) => list,
        Ok(None) => {
            let message = format!("{id}: the reader's token cannot see its run tasks");
            report.warn(
                CHECK,
                message,
                "give the reader read access to the workspace",
            );
            return;
        }
        Err(why) => return report.problem(CHECK, format!("{id}: {why}"), "ask again later"),
    };
    let attached = list["data"].as_array().map(Vec::as_slice);
    let attached = attached.unwrap_or_default().iter().filter_map(attachment);
    let mut hidden = false;
    for attachment in attached {
        if !tasks.contains_key(&attachment.task_id) {
            let answer = read(upstream, &format!("/api/v2/tasks/{}", attachment.task_id)).await;
            let found = answer.ok().flatten();
            let found = found.and_then(|answer| task(&answer["data"]));
            tasks.insert(attachment.task_id.clone(), found);
        }
        match tasks.get(&attachment.task_id).cloned().flatten() {
            Some(task) if task.url == wanted.url => return judge(id, &task, &attachment, report),
            Some(_) => {}
            None => hidden = true,
        }
    }
    let next = "clawgate tasks install --token-env NAME, with a token that may manage run tasks";
    if hidden {
        let message = format!("{id}: the reader's token cannot see where its run tasks call");
        report.warn(CHECK, message, "clawgate tasks list --token-env NAME");
    } else {
        let message = format!(
            "{id}: does not ask {}; an apply that does not come through the gateway is not \
             stopped by it",
            wanted.url
        );
        report.warn(CHECK, message, next);
    }
}

fn judge(id: &WorkspaceId, task: &Task, attachment: &Attachment, report: &mut Report) {
    let next = "clawgate tasks install --token-env NAME, with a token that may manage run tasks";
    let gaps = attachment.gaps();
    if !task.enabled {
        let message = format!("{id}: the run task is switched off");
        report.warn(CHECK, message, next);
    } else if gaps.is_empty() {
        report.ok(CHECK, format!("{id}: asks at every stage, mandatory"));
    } else {
        let gaps = gaps.join(", ");
        report.warn(
            CHECK,
            format!("{id}: is not asked, or not mandatory, at {gaps}"),
            next,
        );
    }
}

async fn read(upstream: &Upstream, target: &str) -> Result<Option<serde_json::Value>, String> {
    accepted(upstream.call(Duty::Reader, Method::GET, target, None).await)
}
