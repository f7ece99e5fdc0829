//! Objects as the vendor's API shows them.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::archivist::Object;
use super::cloud::Cloud;
use super::config::{ExecutionMode, Rights};
use super::state_version::{Output, StateVersion};
use super::world::{
    Comment, ConfigurationVersion, Lock, Run, RunStatus, Stage, Variable, Workspace,
};

/// The only project.
pub(crate) const PROJECT: &str = "prj-default";

/// Who looks, and at what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) cloud: &'a Cloud,
    pub(crate) rights: Rights,
}

/// Writes a time as the vendor does, in milliseconds.
pub(crate) fn time(at: Timestamp) -> String {
    format!("{at:.3}")
}

fn link(kind: &str, id: &str) -> Value {
    json!({"data": {"id": id, "type": kind}})
}

fn maybe_link(kind: &str, id: Option<&str>) -> Value {
    json!({"data": id.map(|id| json!({"id": id, "type": kind}))})
}

fn user_id(credential: &str) -> String {
    format!("user-{credential}")
}

/// Writes millionths of a dollar as the vendor does.
fn dollars(millionths: i64) -> String {
    let sign = if millionths < 0 { "-" } else { "" };
    let millionths = millionths.unsigned_abs();
    let text = format!(
        "{sign}{}.{:06}",
        millionths / 1_000_000,
        millionths % 1_000_000
    );
    let trimmed = text.trim_end_matches('0');
    let shortest = text.len() - 5;
    text[..trimmed.len().max(shortest)].to_owned()
}

pub(crate) fn user(credential: &str) -> Value {
    json!({
        "id": user_id(credential),
        "type": "users",
        "attributes": {
            "username": credential,
            "is-service-account": true,
            "auth-method": "tfc",
            "v2-only": true,
            "permissions": {
                "can-create-organizations": false,
                "can-change-email": false,
                "can-change-username": false,
            },
        },
    })
}

impl View<'_> {
    pub(crate) fn workspace(&self, workspace: &Workspace) -> Value {
        let settings = &workspace.settings;
        let rights = self.rights;
        let free = workspace.lock == Lock::Free;
        // The run at work; the latest may wait for it.
        let current_run = match &workspace.lock {
            Lock::Run(id) => Some(id.as_str()),
            _ => workspace.current_run.as_deref(),
        };
        let (locked_by, reason) = match &workspace.lock {
            Lock::Free => (Value::Null, String::new()),
            Lock::User { credential, reason } => (
                json!({"id": user_id(credential), "type": "users"}),
                reason.clone(),
            ),
            Lock::Run(id) => (json!({"id": id, "type": "runs"}), String::new()),
        };
        let version = settings
            .terraform_version
            .as_deref()
            .unwrap_or_else(|| self.cloud.engine.version());
        let organization = &self.cloud.organization;
        let tags: Vec<&str> = workspace.tags.iter().map(|(key, _)| key.as_str()).collect();
        json!({
            "id": workspace.id,
            "type": "workspaces",
            "attributes": {
                "actions": {"is-destroyable": true},
                "allow-destroy-plan": settings.allow_destroy_plan,
                "apply-duration-average": 1000,
                "assessments-enabled": settings.assessments_enabled,
                "auto-apply": settings.auto_apply,
                "auto-apply-run-trigger": settings.auto_apply_run_trigger,
                "auto-destroy-at": settings.auto_destroy_at,
                "auto-destroy-status": null,
                "auto-destroy-activity-duration": settings.auto_destroy_activity_duration,
                "created-at": time(workspace.created_at),
                "description": settings.description,
                "environment": "default",
                "execution-mode": settings.execution_mode,
                "file-triggers-enabled": settings.file_triggers_enabled,
                "global-remote-state": settings.global_remote_state,
                "project-remote-state": settings.project_remote_state,
                "hyok-enabled": false,
                "inherits-project-auto-destroy": true,
                "last-assessment-result-at": null,
                "latest-change-at": time(workspace.updated_at),
                "locked": !free,
                "locked-reason": reason,
                "name": workspace.name,
                "operations": settings.execution_mode != ExecutionMode::Local,
                "permissions": {
                    "can-create-state-versions": rights.apply,
                    "can-destroy": rights.administer,
                    "can-force-delete": rights.administer,
                    "can-force-unlock": rights.administer,
                    "can-lock": rights.apply,
                    "can-manage-ephemeral-workspaces": rights.administer,
                    "can-manage-run-tasks": rights.administer,
                    "can-manage-tags": rights.administer,
                    "can-queue-apply": rights.apply,
                    "can-queue-destroy": rights.apply,
                    "can-queue-run": rights.plan,
                    "can-read-assessment-results": true,
                    "can-read-settings": true,
                    "can-read-state-outputs": rights.read_state,
                    "can-read-state-versions": rights.read_state,
                    "can-read-variable": rights.write_variables || rights.plan,
                    "can-unlock": rights.apply,
                    "can-update": rights.administer,
                    "can-update-variable": rights.write_variables,
                },
                "plan-duration-average": 1000,
                "policy-check-failures": 0,
                "queue-all-runs": settings.queue_all_runs,
                "resource-count": 0,
                "run-failures": 0,
                "setting-overwrites": {"execution-mode": true, "agent-pool": true},
                "source": "tfe-api",
                "source-name": null,
                "source-url": null,
                "speculative-enabled": settings.speculative_enabled,
                "structured-run-output-enabled": settings.structured_run_output_enabled,
                "tag-names": tags,
                "terraform-version": version,
                "trigger-patterns": [],
                "trigger-prefixes": [],
                "unarchived-workspace-change-requests-count": 0,
                "updated-at": time(workspace.updated_at),
                "vcs-repo": settings.vcs_repo,
                "vcs-repo-identifier": settings.vcs_repo.as_ref().map(|repo| &repo.identifier),
                "working-directory": settings.working_directory,
                "workspace-kpis-runs-count": null,
            },
            "relationships": {
                "organization": link("organizations", organization),
                "project": link("projects", PROJECT),
                "current-run": maybe_link("runs", current_run),
                "latest-run": maybe_link("runs", workspace.current_run.as_deref()),
                "current-state-version":
                    maybe_link("state-versions", workspace.current_state.as_deref()),
                "current-configuration-version":
                    maybe_link("configuration-versions", workspace.latest_configuration.as_deref()),
                "locked-by": {"data": locked_by},
                "agent-pool": maybe_link("agent-pools", settings.agent_pool.as_deref()),
                "ssh-key": maybe_link("ssh-keys", settings.ssh_key.as_deref()),
                "outputs": {"data": []},
                "remote-state-consumers": {"links": {
                    "related":
                        format!("/api/v2/workspaces/{}/relationships/remote-state-consumers", workspace.id)
                }},
            },
            "links": {
                "self": format!("/api/v2/organizations/{organization}/workspaces/{}", workspace.name),
                "self-html": format!("/app/{organization}/workspaces/{}", workspace.name),
            },
        })
    }

    pub(crate) fn configuration(&self, configuration: &ConfigurationVersion) -> Value {
        let mut reached = Map::new();
        if let Some(at) = configuration.uploaded_at {
            reached.insert("uploaded-at".to_owned(), time(at).into());
        }
        let pending = configuration.archive.is_none();
        let mut links =
            json!({"self": format!("/api/v2/configuration-versions/{}", configuration.id)});
        if !pending {
            links["download"] = format!(
                "/api/v2/configuration-versions/{}/download",
                configuration.id
            )
            .into();
        }
        // The vendor shows the upload's address only while it can be used.
        let upload_url = pending.then(|| {
            self.cloud
                .signer
                .url(Object::ConfigurationUpload, &configuration.id)
        });
        json!({
            "id": configuration.id,
            "type": "configuration-versions",
            "attributes": {
                "auto-queue-runs": configuration.auto_queue_runs,
                "changed-files": [],
                "created-at": time(configuration.created_at),
                "error": null,
                "error-message": null,
                "provisional": configuration.provisional,
                "source": configuration.source,
                "speculative": configuration.speculative,
                "status": if pending { "pending" } else { "uploaded" },
                "status-timestamps": reached,
                "upload-url": upload_url,
            },
            "relationships": {"ingress-attributes": {"data": null}},
            "links": links,
        })
    }

    pub(crate) fn run(&self, run: &Run) -> Value {
        let rights = self.rights;
        let wishes = &run.wishes;
        let mut reached = Map::new();
        for (status, at) in &run.reached {
            let name = match status {
                RunStatus::Pending => "plan-queueable-at".to_owned(),
                status => format!("{}-at", status.name().replace('_', "-")),
            };
            reached.insert(name, time(*at).into());
        }
        let last = run.reached.last().map_or(run.created_at, |(_, at)| *at);
        let confirmed_by = run.confirmed_by.as_deref().map(user_id);
        let cost = run.cost.as_ref().map(|cost| cost.id.as_str());
        let related =
            |what: &str| json!({"links": {"related": format!("/api/v2/runs/{}/{what}", run.id)}});
        json!({
            "id": run.id,
            "type": "runs",
            "attributes": {
                "actions": {
                    "is-cancelable": run.is_cancelable(),
                    "is-confirmable": run.is_confirmable(),
                    "is-discardable": run.is_discardable(),
                    "is-force-cancelable": false,
                },
                "allow-config-generation": false,
                "allow-empty-apply": wishes.allow_empty_apply,
                "auto-apply": wishes.auto_apply,
                "canceled-at": null,
                "created-at": time(run.created_at),
                "has-changes": run.has_changes,
                "is-destroy": wishes.destroy,
                "message": wishes.message,
                "permissions": {
                    "can-apply": rights.apply,
                    "can-cancel": rights.plan || rights.apply,
                    "can-comment": true,
                    "can-discard": rights.plan || rights.apply,
                    "can-force-cancel": rights.administer,
                    "can-force-execute": rights.administer,
                    "can-override-policy-check": rights.apply,
                },
                "plan-only": wishes.plan_only,
                "refresh": wishes.refresh,
                "refresh-only": wishes.refresh_only,
                "replace-addrs": wishes.replacements,
                "save-plan": wishes.save_plan,
                "source": run.source,
                "status": run.status.name(),
                "status-timestamps": reached,
                "target-addrs": wishes.targets,
                "terraform-version":
                    wishes.terraform_version.as_deref().unwrap_or_else(|| self.cloud.engine.version()),
                "trigger-reason": "manual",
                "updated-at": time(last),
                "variables": wishes.variables,
            },
            "relationships": {
                "apply": link("applies", &run.apply.id),
                "comments": related("comments"),
                "configuration-version": link("configuration-versions", &run.configuration_id),
                "confirmed-by": maybe_link("users", confirmed_by.as_deref()),
                "cost-estimate": maybe_link("cost-estimates", cost),
                "created-by": link("users", &user_id(&run.created_by)),
                "input-state-version": maybe_link("state-versions", run.state_before.as_deref()),
                "plan": link("plans", &run.plan.id),
                "policy-checks": {
                    "data": run.policy_checks.iter()
                        .map(|check| json!({"id": check.id, "type": "policy-checks"}))
                        .collect::<Vec<_>>(),
                },
                "run-events": {
                    "data": run.events.iter()
                        .map(|(id, ..)| json!({"id": id, "type": "run-events"}))
                        .collect::<Vec<_>>(),
                },
                "task-stages": {
                    "data": run.task_stages.iter()
                        .map(|stage| json!({"id": stage.id, "type": "task-stages"}))
                        .collect::<Vec<_>>(),
                },
                "workspace": link("workspaces", &run.workspace_id),
            },
            "links": {"self": format!("/api/v2/runs/{}", run.id)},
        })
    }

    pub(crate) fn run_events(&self, run: &Run) -> Vec<Value> {
        let event = |(id, status, at): &(String, RunStatus, Timestamp)| {
            let action = match status {
                RunStatus::Pending => "created",
                status => status.name(),
            };
            json!({
                "id": id,
                "type": "run-events",
                "attributes": {"action": action, "description": null, "created-at": time(*at)},
                "relationships": {"actor": link("users", &user_id(&run.created_by))},
            })
        };
        run.events.iter().map(event).collect()
    }

    pub(crate) fn plan(&self, run: &Run) -> Value {
        let plan = &run.plan;
        let mut resource = self.stage(plan, "plans", Object::PlanLog, "plans");
        resource["attributes"]["has-changes"] = run.has_changes.into();
        resource["attributes"]["generated-configuration"] = false.into();
        resource["links"] = json!({
            "self": format!("/api/v2/plans/{}", plan.id),
            "json-output": format!("/api/v2/plans/{}/json-output", plan.id),
            "json-redacted": format!("/api/v2/plans/{}/json-output-redacted", plan.id),
            "json-schema": format!("/api/v2/plans/{}/json-schema", plan.id),
        });
        resource
    }

    pub(crate) fn apply(&self, run: &Run) -> Value {
        let mut resource = self.stage(&run.apply, "applies", Object::ApplyLog, "applies");
        let states: Vec<Value> = run
            .state_after
            .iter()
            .map(|id| json!({"id": id, "type": "state-versions"}))
            .collect();
        resource["relationships"] = json!({"state-versions": {"data": states}});
        resource
    }

    fn stage(&self, stage: &Stage, kind: &str, log: Object, path: &str) -> Value {
        let reached: Map<String, Value> = stage
            .reached
            .iter()
            .map(|(status, at)| (format!("{}-at", status.timestamp_name()), time(*at).into()))
            .collect();
        json!({
            "id": stage.id,
            "type": kind,
            "attributes": {
                "execution-details": {"mode": "remote"},
                "log-read-url": self.cloud.signer.url(log, &stage.id),
                "resource-additions": stage.counts.map(|counts| counts.additions),
                "resource-changes": stage.counts.map(|counts| counts.changes),
                "resource-destructions": stage.counts.map(|counts| counts.destructions),
                "resource-imports": stage.counts.map(|counts| counts.imports),
                "status": stage.status.name(),
                "status-timestamps": reached,
            },
            "relationships": {"state-versions": {"data": []}},
            "links": {"self": format!("/api/v2/{path}/{}", stage.id)},
        })
    }

    pub(crate) fn cost_estimate(&self, run: &Run) -> Option<Value> {
        let cost = run.cost.as_ref()?;
        let [prior, proposed] = [cost.prior, cost.proposed].map(u64::cast_signed);
        Some(json!({
            "id": cost.id,
            "type": "cost-estimates",
            "attributes": {
                "delta-monthly-cost": dollars(proposed - prior),
                "error-message": null,
                "matched-resources-count": cost.matched,
                "prior-monthly-cost": dollars(prior),
                "proposed-monthly-cost": dollars(proposed),
                "resources-count": cost.resources,
                "status": if cost.finished { "finished" } else { "pending" },
                "status-timestamps": {},
                "unmatched-resources-count": cost.resources - cost.matched,
            },
            "links": {"self": format!("/api/v2/cost-estimates/{}", cost.id)},
        }))
    }

    pub(crate) fn comment(&self, comment: &Comment) -> Value {
        json!({
            "id": comment.id,
            "type": "comments",
            "attributes": {"body": comment.body, "created-at": time(comment.created_at)},
            "relationships": {"user": link("users", &user_id(&comment.author))},
            "links": {"self": format!("/api/v2/comments/{}", comment.id)},
        })
    }

    pub(crate) fn state_version(&self, state: &StateVersion) -> Value {
        let uploaded = !state.content.is_empty();
        let url =
            |object: Object, when: bool| when.then(|| self.cloud.signer.url(object, &state.id));
        let outputs: Vec<Value> = state
            .outputs
            .iter()
            .map(|output| json!({"id": output.id, "type": "state-version-outputs"}))
            .collect();
        json!({
            "id": state.id,
            "type": "state-versions",
            "attributes": {
                "created-at": time(state.created_at),
                "hosted-json-state-download-url": url(Object::JsonState, uploaded),
                "hosted-json-state-upload-url": url(Object::JsonStateUpload, !uploaded),
                "hosted-state-download-url": url(Object::State, uploaded),
                "hosted-state-upload-url": url(Object::StateUpload, !uploaded),
                "intermediate": false,
                "modules": {},
                "providers": {},
                "resources": [],
                "resources-processed": uploaded,
                "serial": state.serial,
                "size": state.content.len(),
                "state-version": 4,
                "status": if uploaded { "finalized" } else { "pending" },
                "terraform-version": state.terraform_version,
                "vcs-commit-sha": null,
                "vcs-commit-url": null,
            },
            "relationships": {
                "created-by": link("users", &user_id(&state.created_by)),
                "outputs": {"data": outputs},
                "run": maybe_link("runs", state.run_id.as_deref()),
                "workspace": link("workspaces", &state.workspace_id),
            },
            "links": {"self": format!("/api/v2/state-versions/{}", state.id)},
        })
    }

    /// An output; lists hide sensitive values, a single read shows them.
    pub(crate) fn output(&self, output: &Output, in_list: bool) -> Value {
        let hidden = in_list && output.sensitive;
        let kind = match &output.kind {
            Value::String(name) => name.as_str(),
            Value::Array(parts) => match parts.first().and_then(Value::as_str) {
                Some("list" | "set" | "tuple") => "array",
                _ => "object",
            },
            _ => "string",
        };
        json!({
            "id": output.id,
            "type": "state-version-outputs",
            "attributes": {
                "detailed-type": output.kind,
                "name": output.name,
                "sensitive": output.sensitive,
                "type": kind,
                "value": if hidden { &Value::Null } else { &output.value },
            },
            "links": {"self": format!("/api/v2/state-version-outputs/{}", output.id)},
        })
    }

    pub(crate) fn variable(&self, variable: &Variable, workspace_id: &str) -> Value {
        let shown = (!variable.sensitive).then_some(&variable.value);
        json!({
            "id": variable.id,
            "type": "vars",
            "attributes": {
                "category": if variable.environment { "env" } else { "terraform" },
                "created-at": time(self.cloud.started_at),
                "description": variable.description,
                "hcl": variable.hcl,
                "key": variable.key,
                "sensitive": variable.sensitive,
                "value": shown,
                "version-id": variable.id,
            },
            "relationships": {"configurable": link("workspaces", workspace_id)},
            "links": {"self": format!("/api/v2/workspaces/{workspace_id}/vars/{}", variable.id)},
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_keep_at_least_one_digit_after_the_point() {
        let cases = [
            (0, "0.0"),
            (12_500_000, "12.5"),
            (-1_234_567, "-1.234567"),
            (25_000_000, "25.0"),
            (1, "0.000001"),
        ];
        for (amount, text) in cases {
            assert_eq!(dollars(amount), text);
        }
    }
}
