//! The variables of a workspace.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use super::cloud::Cloud;
use super::guard::Caller;
use super::jsonapi::{Answer, ApiError, Resource, answer, created, empty, one};
use super::views::View;
use super::world::Variable;
use crate::ids;

/// The most variables of one workspace.
const MOST: usize = 1_000;

/// What a request says about a variable.
#[derive(Debug, Default, Deserialize)]
struct VariableAttributes {
    key: Option<String>,
    value: Option<String>,
    description: Option<String>,
    category: Option<String>,
    hcl: Option<bool>,
    sensitive: Option<bool>,
}

impl VariableAttributes {
    fn write_to(self, variable: &mut Variable) -> Result<(), ApiError> {
        match self.category.as_deref() {
            None => {}
            Some("env") => variable.environment = true,
            Some("terraform") => variable.environment = false,
            Some(_) => return Err(ApiError::invalid("Category is not included in the list")),
        }
        variable.key = self
            .key
            .unwrap_or_else(|| std::mem::take(&mut variable.key));
        variable.value = self
            .value
            .unwrap_or_else(|| std::mem::take(&mut variable.value));
        variable.description = self.description.or(variable.description.take());
        variable.hcl = self.hcl.unwrap_or(variable.hcl);
        // A sensitive variable cannot be made readable again.
        variable.sensitive |= self.sensitive.unwrap_or(false);
        if variable.key.is_empty() {
            return Err(ApiError::invalid("Key can't be blank"));
        }
        Ok(())
    }
}

pub(crate) async fn list(
    State(cloud): State<Arc<Cloud>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Answer {
    caller.needs(caller.rights().plan || caller.rights().write_variables)?;
    let world = cloud.world();
    let workspace = world.workspaces.get(&id).ok_or_else(ApiError::not_found)?;
    let view = View {
        cloud: &cloud,
        rights: caller.rights(),
    };
    let variables: Vec<Value> = workspace
        .variables
        .iter()
        .map(|variable| view.variable(variable, &id))
        .collect();
    Ok(answer(StatusCode::OK, &json!({"data": variables})))
}

pub(crate) async fn create(
    State(cloud): State<Arc<Cloud>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    body: Bytes,
) -> Answer {
    caller.needs(caller.rights().write_variables)?;
    let attributes: VariableAttributes = Resource::read(&body, "vars")?.attributes()?;
    let mut world = cloud.world();
    let workspace = world
        .workspaces
        .get_mut(&id)
        .ok_or_else(ApiError::not_found)?;
    let taken = |other: &Variable| Some(&other.key) == attributes.key.as_ref();
    if workspace.variables.iter().any(taken) || workspace.variables.len() >= MOST {
        return Err(ApiError::invalid("Key has already been taken"));
    }
    let mut variable = Variable {
        id: ids::id("var"),
        key: String::new(),
        value: String::new(),
        description: None,
        environment: false,
        hcl: false,
        sensitive: false,
    };
    attributes.write_to(&mut variable)?;
    let resource = View {
        cloud: &cloud,
        rights: caller.rights(),
    }
    .variable(&variable, &id);
    workspace.variables.push(variable);
    Ok(created(resource))
}

pub(crate) async fn update(
    State(cloud): State<Arc<Cloud>>,
    Extension(caller): Extension<Caller>,
    Path((id, variable_id)): Path<(String, String)>,
    body: Bytes,
) -> Answer {
    caller.needs(caller.rights().write_variables)?;
    let attributes: VariableAttributes = Resource::read(&body, "vars")?.attributes()?;
    let mut world = cloud.world();
    let workspace = world
        .workspaces
        .get_mut(&id)
        .ok_or_else(ApiError::not_found)?;
    let variable = workspace
        .variables
        .iter_mut()
        .find(|variable| variable.id == variable_id);
    let variable = variable.ok_or_else(ApiError::not_found)?;
    attributes.write_to(variable)?;
    Ok(one(View {
        cloud: &cloud,
        rights: caller.rights(),
    }
    .variable(variable, &id)))
}

pub(crate) async fn delete(
    State(cloud): State<Arc<Cloud>>,
    Extension(caller): Extension<Caller>,
    Path((id, variable_id)): Path<(String, String)>,
) -> Answer {
    caller.needs(caller.rights().write_variables)?;
    let mut world = cloud.world();
    let workspace = world
        .workspaces
        .get_mut(&id)
        .ok_or_else(ApiError::not_found)?;
    let before = workspace.variables.len();
    workspace
        .variables
        .retain(|variable| variable.id != variable_id);
    if workspace.variables.len() == before {
        return Err(ApiError::not_found());
    }
    Ok(empty(StatusCode::NO_CONTENT))
}
