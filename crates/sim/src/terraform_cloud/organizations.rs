//! The organization, its limits, and who calls.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, Query as QueryParameters, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::cloud::Cloud;
use super::config::{Credential, Rights};
use super::guard::Caller;
use super::jsonapi::{Answer, ApiError, Query, answer, created, empty, one, page};
use super::views::{PROJECT, time, user};
use super::world::RunStatus;
use crate::ids;

pub(crate) type Parameters = QueryParameters<std::collections::HashMap<String, String>>;

pub(crate) fn query(QueryParameters(pairs): Parameters) -> Query {
    Query::new(pairs)
}

pub(crate) async fn unknown() -> Response {
    ApiError::not_found().into_response()
}

pub(crate) async fn discovery() -> Response {
    let mut response = answer(
        StatusCode::OK,
        &json!({
            "modules.v1": "/api/registry/v1/modules/",
            "motd.v1": "/api/terraform/motd",
            "providers.v1": "/api/registry/v1/providers/",
            "state.v2": "/api/v2/",
            "tfe.v2": "/api/v2/",
            "tfe.v2.1": "/api/v2/",
            "tfe.v2.2": "/api/v2/",
        }),
    );
    let json = axum::http::HeaderValue::from_static("application/json");
    response
        .headers_mut()
        .insert(axum::http::header::CONTENT_TYPE, json);
    response
}

pub(crate) async fn ping() -> Response {
    empty(StatusCode::NO_CONTENT)
}

pub(crate) async fn account(Extension(caller): Extension<Caller>) -> Response {
    one(user(&caller.name()))
}

pub(crate) async fn list(
    State(cloud): State<Arc<Cloud>>,
    Extension(caller): Extension<Caller>,
    parameters: Parameters,
) -> Response {
    page(
        vec![organization(&cloud, caller.rights())],
        &query(parameters),
    )
}

pub(crate) async fn read(
    State(cloud): State<Arc<Cloud>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Answer {
    known(&cloud, &name)?;
    Ok(one(organization(&cloud, caller.rights())))
}

pub(crate) async fn entitlements(
    State(cloud): State<Arc<Cloud>>,
    Path(name): Path<String>,
) -> Answer {
    known(&cloud, &name)?;
    Ok(one(json!({
        "id": format!("org-{name}"),
        "type": "entitlement-sets",
        "attributes": {
            "agents": false,
            "audit-logging": false,
            "configuration-designer": true,
            "cost-estimation": cloud.prices.is_some(),
            "global-run-tasks": false,
            "module-tests-generation": false,
            "operations": true,
            "policy-enforcement": false,
            "policy-limit": 0,
            "private-module-registry": true,
            "private-run-tasks": false,
            "run-task-limit": 10,
            "run-task-mandatory-enforcement-limit": 10,
            "run-task-workspace-limit": 10,
            "run-tasks": true,
            "self-serve-billing": true,
            "sentinel": false,
            "sso": false,
            "state-storage": true,
            "teams": true,
            "usage-reporting": false,
            "user-limit": null,
            "vcs-integrations": true,
        },
        "links": {"self": format!("/api/v2/organizations/{name}/entitlement-set")},
    })))
}

pub(crate) async fn capacity(State(cloud): State<Arc<Cloud>>, Path(name): Path<String>) -> Answer {
    known(&cloud, &name)?;
    let world = cloud.world();
    let count = |statuses: &[RunStatus]| {
        world
            .runs
            .values()
            .filter(|run| statuses.contains(&run.status))
            .count()
    };
    Ok(one(json!({
        "id": name,
        "type": "organization-capacity",
        "attributes": {
            "pending": count(&[RunStatus::Pending, RunStatus::PlanQueued, RunStatus::ApplyQueued]),
            "running": count(&[RunStatus::Planning, RunStatus::Applying]),
        },
    })))
}

pub(crate) async fn projects(
    State(cloud): State<Arc<Cloud>>,
    Path(name): Path<String>,
    parameters: Parameters,
) -> Answer {
    known(&cloud, &name)?;
    Ok(page(vec![default_project(&cloud)], &query(parameters)))
}

pub(crate) async fn project(State(cloud): State<Arc<Cloud>>, Path(id): Path<String>) -> Answer {
    if id != PROJECT {
        return Err(ApiError::not_found());
    }
    Ok(one(default_project(&cloud)))
}

/// Mints a token that works, so that whoever lets an agent do this can see what it got.
pub(crate) async fn mint_token(
    State(cloud): State<Arc<Cloud>>,
    Extension(caller): Extension<Caller>,
    Path(_owner): Path<String>,
) -> Answer {
    caller.needs(caller.rights().administer)?;
    let id = ids::id("at");
    let credential = Credential::random(&format!("minted {id}"), Rights::OWNER);
    let token = credential.token.clone();
    if !cloud.add_credential(credential) {
        return Err(ApiError::invalid("The stand-in keeps no more tokens"));
    }
    Ok(created(json!({
        "id": id,
        "type": "authentication-tokens",
        "attributes": {
            "created-at": time(jiff::Timestamp::now()),
            "description": null,
            "expired-at": null,
            "last-used-at": null,
            "token": token,
        },
    })))
}

/// Refuses an organization that is not the one here.
pub(crate) fn known(cloud: &Cloud, organization: &str) -> Result<(), ApiError> {
    if organization == cloud.organization {
        Ok(())
    } else {
        Err(ApiError::not_found())
    }
}

fn organization(cloud: &Cloud, rights: Rights) -> Value {
    let name = &cloud.organization;
    json!({
        "id": name,
        "type": "organizations",
        "attributes": {
            "allow-force-delete-workspaces": false,
            "assessments-enforced": false,
            "collaborator-auth-policy": "password",
            "cost-estimation-enabled": cloud.prices.is_some(),
            "created-at": time(cloud.started_at),
            "default-execution-mode": "remote",
            "email": format!("admin@{name}.example"),
            "external-id": format!("org-{name}"),
            "name": name,
            "permissions": {
                "can-create-workspace": rights.administer,
                "can-destroy": false,
                "can-update": rights.administer,
                "can-update-api-token": rights.administer,
            },
            "plan-expired": false,
            "saml-enabled": false,
            "two-factor-conformant": true,
        },
        "relationships": {"default-project": {"data": {"id": PROJECT, "type": "projects"}}},
        "links": {"self": format!("/api/v2/organizations/{name}")},
    })
}

fn default_project(cloud: &Cloud) -> Value {
    json!({
        "id": PROJECT,
        "type": "projects",
        "attributes": {"name": "Default Project", "description": null},
        "relationships": {
            "organization": {"data": {"id": cloud.organization, "type": "organizations"}},
        },
    })
}
