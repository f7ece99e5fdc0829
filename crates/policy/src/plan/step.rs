//! What Terraform would do to one object.

use proof::json::Json;

use super::PlanError;
use crate::contract::Action;
use crate::terraform::rewrite::plain_text;

/// The combinations of actions that Terraform documents; no other is accepted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Nothing,
    Read,
    Create,
    Update,
    Delete,
    Replace,
    Forget,
    /// The old object lives on outside the state.
    CreateAndForget,
}

impl Step {
    /// What it is to a contract.
    pub(super) fn actions(self) -> &'static [Action] {
        match self {
            Self::Nothing | Self::Read => &[],
            Self::Create => &[Action::Create],
            Self::Update => &[Action::Update],
            Self::Delete => &[Action::Delete],
            Self::Replace => &[Action::Replace],
            Self::Forget => &[Action::Forget],
            Self::CreateAndForget => &[Action::Create, Action::Forget],
        }
    }
}

/// The step of a `change`.
pub(super) fn step(change: &Json, address: &str) -> Result<Step, PlanError> {
    let written = change.get("actions").and_then(Json::as_array);
    let names: Option<Vec<&str>> =
        written.and_then(|actions| actions.iter().map(Json::as_str).collect());
    Ok(match names.as_deref() {
        Some(["no-op"]) => Step::Nothing,
        Some(["read"]) => Step::Read,
        Some(["create"]) => Step::Create,
        Some(["update"]) => Step::Update,
        Some(["delete"]) => Step::Delete,
        Some(["delete", "create"] | ["create", "delete"]) => Step::Replace,
        Some(["forget"]) => Step::Forget,
        Some(["create", "forget"]) => Step::CreateAndForget,
        _ => return Err(unknown(address, change)),
    })
}

pub(super) fn unknown(address: &str, change: &Json) -> PlanError {
    let actions = change.get("actions").map(Json::to_jcs).unwrap_or_default();
    PlanError::UnknownAction {
        address: plain_text(address),
        actions: plain_text(&String::from_utf8_lossy(&actions)),
    }
}
