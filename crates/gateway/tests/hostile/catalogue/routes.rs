//! Routes that no contract opens. That the whole table is closed is proven by
//! `routes::closed_routes_stay_closed_for_the_right_token`; here stand those that the catalogue
//! names, so that opening one is noticed, with the code that says why.

use serde_json::json;

use super::refused;
use crate::rig::{Call, Rig};

const WS: &str = "/api/v2/workspaces/ws-staging-app";
const ORG: &str = "/api/v2/organizations/acme";

async fn all_refused(rig: &Rig, lines: &[(&str, String, &'static str)]) {
    let call = |(method, path, code): &(&str, String, &'static str)| {
        let call: Call = rig.agent(method, path);
        match *method {
            "GET" => (call, *code),
            _ => (call.json_api(&json!({"data": {}})), *code),
        }
    };
    refused(rig, lines.iter().map(call).collect()).await;
}

#[tokio::test]
async fn b12_runs_are_not_forced() {
    let rig = Rig::start().await;
    let own = rig.planned(&rig.sandbox.cst).await;
    let action = |what: &str| format!("/api/v2/runs/{}/actions/{what}", own.run);
    all_refused(
        &rig,
        &[
            ("POST", action("force-execute"), "FORCE_ACTION_DENIED"),
            ("POST", action("force-cancel"), "FORCE_ACTION_DENIED"),
            (
                "POST",
                format!("{WS}/actions/force-unlock"),
                "FORCE_ACTION_DENIED",
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn b13_settings_are_not_changed() {
    let rig = Rig::start().await;
    all_refused(
        &rig,
        &[
            ("PATCH", WS.into(), "WORKSPACE_ADMIN_DENIED"),
            (
                "PATCH",
                format!("{ORG}/workspaces/staging-app"),
                "WORKSPACE_ADMIN_DENIED",
            ),
            (
                "PATCH",
                format!("{WS}/tag-bindings"),
                "WORKSPACE_ADMIN_DENIED",
            ),
            (
                "POST",
                format!("{ORG}/workspaces"),
                "WORKSPACE_ADMIN_DENIED",
            ),
            ("DELETE", WS.into(), "WORKSPACE_ADMIN_DENIED"),
            (
                "POST",
                format!("{WS}/actions/safe-delete"),
                "WORKSPACE_ADMIN_DENIED",
            ),
            (
                "POST",
                format!("{WS}/run-triggers"),
                "WORKSPACE_ADMIN_DENIED",
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn b15_nothing_is_locked_for_a_local_apply() {
    let rig = Rig::start().await;
    all_refused(
        &rig,
        &[
            ("POST", format!("{WS}/actions/lock"), "LOCK_DENIED"),
            ("POST", format!("{WS}/actions/unlock"), "LOCK_DENIED"),
        ],
    )
    .await;
}

#[tokio::test]
async fn b16_state_is_not_written() {
    let rig = Rig::start().await;
    all_refused(
        &rig,
        &[
            ("POST", format!("{WS}/state-versions"), "STATE_WRITE_DENIED"),
            (
                "PATCH",
                format!("{WS}/state-versions"),
                "STATE_WRITE_DENIED",
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn b17_other_ways_to_run_are_closed() {
    let rig = Rig::start().await;
    all_refused(
        &rig,
        &[
            ("POST", "/api/v2/queries".into(), "RUN_START_DENIED"),
            ("POST", format!("{WS}/actions/assess"), "RUN_START_DENIED"),
            (
                "POST",
                "/api/v2/no-code-modules/nocode-1/workspaces".into(),
                "WORKSPACE_ADMIN_DENIED",
            ),
            (
                "POST",
                "/api/v2/no-code-modules/nocode-1/workspaces/ws-staging-app/upgrade".into(),
                "RUN_START_DENIED",
            ),
            (
                "POST",
                format!("{ORG}/tests/registry-modules/private/acme/m/aws/test-runs"),
                "RUN_START_DENIED",
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn b18_stacks_are_closed() {
    let rig = Rig::start().await;
    all_refused(
        &rig,
        &[
            (
                "POST",
                "/api/v2/stack-deployment-runs/sdr-1/approve-all-plans".into(),
                "STACKS_DENIED",
            ),
            (
                "POST",
                "/api/v2/stack-deployment-groups/sdg-1/approve-all-plans".into(),
                "STACKS_DENIED",
            ),
            (
                "POST",
                "/api/v2/stack-deployment-steps/sds-1/advance".into(),
                "STACKS_DENIED",
            ),
            ("POST", "/api/v2/stacks".into(), "STACKS_DENIED"),
        ],
    )
    .await;
}

#[tokio::test]
async fn b20_results_of_run_tasks_are_not_reported_by_agents() {
    let rig = Rig::start().await;
    all_refused(
        &rig,
        &[(
            "PATCH",
            "/api/v2/task-results/00000000-0000-4000-8000-000000000000/callback".into(),
            "RUN_TASK_DENIED",
        )],
    )
    .await;
}

#[tokio::test]
async fn c11_variable_sets_and_projects_are_closed() {
    let rig = Rig::start().await;
    all_refused(
        &rig,
        &[
            ("POST", format!("{ORG}/varsets"), "VARIABLES_DENIED"),
            (
                "PATCH",
                "/api/v2/varsets/varset-1".into(),
                "VARIABLES_DENIED",
            ),
            (
                "POST",
                "/api/v2/varsets/varset-1/relationships/workspaces".into(),
                "VARIABLES_DENIED",
            ),
            (
                "POST",
                "/api/v2/projects/prj-1/relationships/workspaces".into(),
                "ADMIN_DENIED",
            ),
            ("POST", format!("{ORG}/provider-sets"), "ADMIN_DENIED"),
        ],
    )
    .await;
}

#[tokio::test]
async fn d04_exports_and_artefacts_are_closed() {
    let rig = Rig::start().await;
    let own = rig.planned(&rig.sandbox.cst).await;
    all_refused(
        &rig,
        &[
            ("POST", "/api/v2/plan-exports".into(), "PLAN_JSON_DENIED"),
            (
                "GET",
                "/api/v2/plan-exports/pe-1/download".into(),
                "PLAN_JSON_DENIED",
            ),
            (
                "GET",
                "/api/v2/assessment-results/asmtres-1/json-output".into(),
                "PLAN_JSON_DENIED",
            ),
            (
                "GET",
                format!("/api/v2/applies/{}/errored-state", own.apply),
                "STATE_READ_DENIED",
            ),
            (
                "GET",
                format!("/api/v2/runs/{}/plan/json-output", own.run),
                "PLAN_JSON_DENIED",
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn d11_variables_are_neither_read_nor_written() {
    let rig = Rig::start().await;
    all_refused(
        &rig,
        &[
            ("GET", format!("{WS}/vars"), "VARIABLES_DENIED"),
            ("GET", format!("{WS}/all-vars"), "VARIABLES_DENIED"),
            ("GET", "/api/v2/vars".into(), "VARIABLES_DENIED"),
            ("POST", "/api/v2/vars".into(), "VARIABLES_DENIED"),
            ("POST", format!("{WS}/vars"), "VARIABLES_DENIED"),
            ("PATCH", format!("{WS}/vars/var-1"), "VARIABLES_DENIED"),
            (
                "PATCH",
                format!("{WS}/relationships/vars"),
                "VARIABLES_DENIED",
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn d13_configuration_is_not_downloaded() {
    let rig = Rig::start().await;
    let own = rig.planned(&rig.sandbox.cst).await;
    all_refused(
        &rig,
        &[
            (
                "GET",
                format!(
                    "/api/v2/configuration-versions/{}/download",
                    own.configuration
                ),
                "CONFIGURATION_READ_DENIED",
            ),
            (
                "GET",
                format!("/api/v2/runs/{}/configuration-version/download", own.run),
                "CONFIGURATION_READ_DENIED",
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn d16_nothing_is_sent_elsewhere() {
    let rig = Rig::start().await;
    all_refused(
        &rig,
        &[
            (
                "POST",
                format!("{WS}/notification-configurations"),
                "ADMIN_DENIED",
            ),
            (
                "POST",
                "/api/v2/notification-configurations/nc-1/actions/verify".into(),
                "ADMIN_DENIED",
            ),
            ("POST", format!("{ORG}/tasks"), "RUN_TASK_DENIED"),
            ("POST", format!("{WS}/tasks"), "RUN_TASK_DENIED"),
            ("POST", format!("{ORG}/oauth-clients"), "ADMIN_DENIED"),
            ("POST", format!("{ORG}/ssh-keys"), "ADMIN_DENIED"),
            (
                "POST",
                "/api/v2/agent-pools/apool-1/authentication-tokens".into(),
                "TOKEN_MINT_DENIED",
            ),
        ],
    )
    .await;
}
