//! Every route of the API, on one page.

use std::sync::Arc;

use axum::Router;
use axum::routing::{any, get, patch, post};

use super::cloud::Cloud;
use super::{
    configurations, guard, notifications, operator, organizations, policies, runs, stages, states,
    tasks, triggers, variables, workspaces,
};

#[rustfmt::skip]
pub(crate) fn router(cloud: Arc<Cloud>) -> Router {
    let api = Router::new()
        .route("/ping", get(organizations::ping))
        .route("/account/details", get(organizations::account))
        .route("/organizations", get(organizations::list))
        .route("/organizations/{org}", get(organizations::read))
        .route("/organizations/{org}/entitlement-set", get(organizations::entitlements))
        .route("/organizations/{org}/capacity", get(organizations::capacity))
        .route("/organizations/{org}/projects", get(organizations::projects))
        .route("/projects/{project}", get(organizations::project))
        .route("/organizations/{org}/authentication-token", post(organizations::mint_token))
        .route("/users/{user}/authentication-tokens", post(organizations::mint_token))
        .route("/teams/{team}/authentication-token", post(organizations::mint_token))
        .route("/teams/{team}/authentication-tokens", post(organizations::mint_token))

        .route("/organizations/{org}/workspaces", get(workspaces::list).post(workspaces::create))
        .route("/organizations/{org}/workspaces/{name}",
            get(workspaces::read_by_name).patch(workspaces::update_by_name))
        .route("/workspaces/{id}", get(workspaces::read).patch(workspaces::update))
        .route("/workspaces/{id}/actions/lock", post(workspaces::lock))
        .route("/workspaces/{id}/actions/unlock", post(workspaces::unlock))
        .route("/workspaces/{id}/actions/force-unlock", post(workspaces::force_unlock))
        .route("/workspaces/{id}/tag-bindings",
            get(workspaces::tag_bindings).patch(workspaces::add_tag_bindings))
        .route("/workspaces/{id}/effective-tag-bindings", get(workspaces::tag_bindings))
        .route("/workspaces/{id}/run-triggers", get(triggers::list).post(triggers::create))
        .route("/run-triggers/{id}", get(triggers::read).delete(triggers::delete))
        .route("/workspaces/{id}/tasks",
            get(tasks::admin::list_attached).post(tasks::admin::attach))
        .route("/workspaces/{id}/tasks/{attached}",
            get(tasks::admin::read_attached).patch(tasks::admin::update_attached)
                .delete(tasks::admin::detach))
        .route("/organizations/{org}/tasks", get(tasks::admin::list).post(tasks::admin::create))
        .route("/tasks/{id}",
            get(tasks::admin::read).patch(tasks::admin::update).delete(tasks::admin::delete))
        .route("/workspaces/{id}/notification-configurations",
            get(notifications::list).post(notifications::create))
        .route("/notification-configurations/{id}",
            get(notifications::read).patch(notifications::update).delete(notifications::delete))
        .route("/notification-configurations/{id}/actions/verify", post(notifications::verify))
        .route("/workspaces/{id}/relationships/remote-state-consumers",
            get(triggers::consumers).post(triggers::add_consumers))
        .route("/workspaces/{id}/vars",
            get(variables::list).post(variables::create))
        .route("/workspaces/{id}/vars/{var}",
            patch(variables::update).delete(variables::delete))

        .route("/workspaces/{id}/configuration-versions",
            get(configurations::list).post(configurations::create))
        .route("/configuration-versions/{id}", get(configurations::read))
        .route("/configuration-versions/{id}/download", get(configurations::download))

        .route("/runs", post(runs::create))
        .route("/runs/{id}", get(runs::read))
        .route("/runs/{id}/actions/apply", post(runs::apply))
        .route("/runs/{id}/actions/discard", post(runs::discard))
        .route("/runs/{id}/actions/cancel", post(runs::cancel))
        .route("/runs/{id}/run-events", get(runs::events))
        .route("/runs/{id}/task-stages", get(tasks::results::of_run))
        .route("/task-stages/{id}", get(tasks::results::stage))
        .route("/task-results/{id}", get(tasks::results::result))
        .route("/task-results/{id}/outcomes", get(tasks::results::outcomes))
        .route("/task-results/{guid}/callback", patch(tasks::results::callback))
        .route("/runs/{id}/policy-checks", get(policies::of_run))
        .route("/policy-checks/{id}", get(policies::read))
        .route("/policy-checks/{id}/output", get(policies::output))
        .route("/policy-checks/{id}/actions/override", post(policies::overrule))
        .route("/runs/{id}/comments", get(runs::list_comments).post(runs::comment))
        .route("/comments/{id}", get(runs::read_comment))
        .route("/workspaces/{id}/runs", get(runs::of_workspace))
        .route("/organizations/{org}/runs", get(runs::of_organization))
        .route("/organizations/{org}/runs/queue", get(runs::queue))

        .route("/plans/{id}", get(stages::plan))
        .route("/runs/{id}/plan", get(stages::plan_of_run))
        .route("/plans/{id}/json-output", get(stages::json_output))
        .route("/plans/{id}/json-output-redacted", get(stages::redacted_json_output))
        .route("/applies/{id}", get(stages::apply))
        .route("/runs/{id}/apply", get(stages::apply_of_run))
        .route("/cost-estimates/{id}", get(stages::cost_estimate))

        .route("/workspaces/{id}/current-state-version", get(states::current))
        .route("/workspaces/{id}/current-state-version-outputs", get(states::current_outputs))
        .route("/workspaces/{id}/state-versions",
            get(states::of_workspace).post(states::create).patch(states::roll_back))
        .route("/state-versions", get(states::list))
        .route("/state-versions/{id}", get(states::read))
        .route("/state-versions/{id}/outputs", get(states::outputs))
        .route("/state-version-outputs/{id}", get(states::output));

    let operator = Router::new()
        .route("/requests", get(operator::requests))
        .route("/faults", post(operator::set_fault).delete(operator::clear_faults))
        .route("/faults/{id}/release", post(operator::release_fault))
        .route("/workspaces/{id}", patch(operator::change_settings));

    Router::new()
        .route("/.well-known/terraform.json", get(organizations::discovery))
        .nest("/api/v2", api)
        .nest("/_sim", operator)
        // What is not listed is unknown here, and still logged.
        .fallback(any(organizations::unknown))
        .method_not_allowed_fallback(organizations::unknown)
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&cloud), guard::api))
        .with_state(cloud)
}
