//! Reading the full plan JSON (format version 1.x).

use std::collections::BTreeSet;

use proof::Hash;
use proof::json::{Json, Numbers, parse};

use super::diff::{attributes, has_mark};
use super::{
    Changes, DataSource, ModuleCall, OutputChange, PlanError, PlanFacts, Provisioner,
    ResourceChange,
};
use crate::contract::Action;
use crate::terraform::rewrite::plain_text;

/// Largest plan that is read, in bytes.
pub const MAX_PLAN: usize = 64 << 20;
/// Most objects in one plan: more than that nobody can approve.
const MAX_CHANGES: usize = 20_000;
/// Deepest nesting of modules.
const MAX_MODULES: usize = 32;

/// Reads a full plan.
///
/// # Errors
/// When the plan cannot be judged; see [`PlanError`].
pub fn inspect(full_plan_json: &[u8]) -> Result<PlanFacts, PlanError> {
    if full_plan_json.len() > MAX_PLAN {
        return Err(PlanError::TooLarge(format!("more than {MAX_PLAN} bytes")));
    }
    let mut plan = parse(full_plan_json, Numbers::Any)
        .map_err(|error| PlanError::Malformed(error.to_string()))?;
    let format_version = text(&plan, "format_version")?;
    if format_version.split('.').next() != Some("1") {
        return Err(PlanError::Format(plain_text(&format_version)));
    }
    if flag(&plan, "errored")? {
        return Err(PlanError::Errored);
    }
    let deferred = list(&plan, "deferred_changes")?.len();
    if deferred > 0 {
        return Err(PlanError::Deferred(deferred));
    }
    let invoked = list(&plan, "action_invocations")?.len()
        + list(&plan, "deferred_action_invocations")?.len();
    if invoked > 0 {
        return Err(PlanError::ActionInvocation(invoked));
    }
    if !flag(&plan, "applyable")? {
        return Err(PlanError::NotApplyable);
    }
    let terraform_version = text(&plan, "terraform_version")?;
    let complete = flag(&plan, "complete")?;
    let mut found = Found::default();
    found.resource_changes(&plan)?;
    found.outputs(&plan)?;
    found.configuration(&plan)?;
    let drifted = list(&plan, "resource_drift")?.len();
    plan.remove("timestamp");
    Ok(PlanFacts {
        plan_sha256_b64u: Hash::of(&plan.to_jcs()),
        raw_sha256_b64u: Hash::of(full_plan_json),
        format_version,
        terraform_version,
        complete,
        changes: found.changes,
        resources: found.resources,
        outputs: found.outputs,
        providers: found.providers.into_iter().collect(),
        data_sources: found.data_sources.into_iter().collect(),
        modules: found.modules,
        provisioners: found.provisioners,
        drifted: u32::try_from(drifted).unwrap_or(u32::MAX),
    })
}

#[derive(Default)]
struct Found {
    changes: Changes,
    resources: Vec<ResourceChange>,
    outputs: Vec<OutputChange>,
    providers: BTreeSet<String>,
    data_sources: BTreeSet<DataSource>,
    modules: Vec<ModuleCall>,
    provisioners: Vec<Provisioner>,
}

impl Found {
    fn resource_changes(&mut self, plan: &Json) -> Result<(), PlanError> {
        let written = list(plan, "resource_changes")?;
        if written.len() > MAX_CHANGES {
            return Err(PlanError::TooLarge(format!("{} objects", written.len())));
        }
        for resource in written {
            let address = text(resource, "address")?;
            let kind = text(resource, "type")?;
            let provider = text(resource, "provider_name")?;
            let change = resource.get("change").ok_or_else(|| malformed("change"))?;
            let step = step(change, &address)?;
            self.providers.insert(provider.clone());
            match text(resource, "mode")?.as_str() {
                "managed" if step != Step::Read => {}
                // A data source that is read during the apply.
                "data" if matches!(step, Step::Read | Step::Nothing) => {
                    self.data_sources.insert(DataSource {
                        address: plain_text(&address),
                        kind,
                    });
                    continue;
                }
                "data" | "managed" => return Err(unknown(&address, change)),
                _ => return Err(malformed("mode")),
            }
            let previous_address = optional_text(resource, "previous_address")?;
            let imports = change
                .get("importing")
                .is_some_and(|value| *value != Json::Null);
            let mut actions = step.actions().to_vec();
            if imports {
                actions.push(Action::Import);
            }
            self.count(&actions, previous_address.is_some());
            if actions.is_empty() && previous_address.is_none() {
                continue;
            }
            self.resources.push(ResourceChange {
                address: plain_text(&address),
                previous_address: previous_address.map(|address| plain_text(&address)),
                kind,
                provider,
                actions,
                deposed: optional_text(resource, "deposed")?.is_some(),
                reason: optional_text(resource, "action_reason")?.map(|text| plain_text(&text)),
                diff: attributes(change),
            });
        }
        Ok(())
    }

    fn count(&mut self, actions: &[Action], moved: bool) {
        for action in actions {
            *match action {
                Action::Create => &mut self.changes.create,
                Action::Update => &mut self.changes.update,
                Action::Delete => &mut self.changes.delete,
                Action::Replace => &mut self.changes.replace,
                Action::Forget => &mut self.changes.forget,
                Action::Import => &mut self.changes.import,
            } += 1;
        }
        self.changes.moved += u32::from(moved);
    }

    fn outputs(&mut self, plan: &Json) -> Result<(), PlanError> {
        let Some(outputs) = plan.get("output_changes") else {
            return Ok(());
        };
        for (name, change) in outputs
            .members()
            .ok_or_else(|| malformed("output_changes"))?
        {
            let step = step(change, name)?;
            let sensitive = ["before_sensitive", "after_sensitive"]
                .iter()
                .any(|mask| change.get(mask).is_some_and(has_mark));
            if step != Step::Nothing {
                self.outputs.push(OutputChange {
                    name: plain_text(name),
                    actions: step.actions().to_vec(),
                    sensitive,
                });
            }
        }
        Ok(())
    }

    fn configuration(&mut self, plan: &Json) -> Result<(), PlanError> {
        let configuration = plan
            .get("configuration")
            .ok_or_else(|| malformed("configuration"))?;
        if let Some(providers) = configuration.get("provider_config") {
            let providers = providers
                .members()
                .ok_or_else(|| malformed("provider_config"))?;
            for (_, provider) in providers {
                self.providers.insert(text(provider, "full_name")?);
            }
        }
        match configuration.get("root_module") {
            Some(root) => self.module(root, "", 0),
            None => Ok(()),
        }
    }

    fn module(&mut self, module: &Json, path: &str, depth: usize) -> Result<(), PlanError> {
        if depth > MAX_MODULES {
            return Err(PlanError::TooLarge(format!(
                "modules nested deeper than {MAX_MODULES}"
            )));
        }
        for resource in list(module, "resources")? {
            let address = plain_text(&format!("{path}{}", text(resource, "address")?));
            match text(resource, "mode")?.as_str() {
                "data" => {
                    let kind = text(resource, "type")?;
                    self.data_sources.insert(DataSource {
                        address: address.clone(),
                        kind,
                    });
                }
                "managed" => {}
                _ => return Err(malformed("configuration: mode")),
            }
            for provisioner in list(resource, "provisioners")? {
                let kind = text(provisioner, "type")?;
                self.provisioners.push(Provisioner {
                    address: address.clone(),
                    kind,
                });
            }
        }
        let Some(calls) = module.get("module_calls") else {
            return Ok(());
        };
        for (name, call) in calls.members().ok_or_else(|| malformed("module_calls"))? {
            let address = plain_text(&format!("{path}module.{name}"));
            self.modules.push(ModuleCall {
                address: address.clone(),
                source: text(call, "source")?,
                version: optional_text(call, "version_constraint")?,
            });
            if let Some(inner) = call.get("module") {
                self.module(inner, &format!("{address}."), depth + 1)?;
            }
        }
        Ok(())
    }
}

/// The combinations of actions that Terraform documents; no other is accepted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
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
    fn actions(self) -> &'static [Action] {
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

fn step(change: &Json, address: &str) -> Result<Step, PlanError> {
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

fn unknown(address: &str, change: &Json) -> PlanError {
    let actions = change.get("actions").map(Json::to_jcs).unwrap_or_default();
    PlanError::UnknownAction {
        address: plain_text(address),
        actions: plain_text(&String::from_utf8_lossy(&actions)),
    }
}

fn malformed(what: &str) -> PlanError {
    PlanError::Malformed(format!("`{what}` is missing or of another type"))
}

fn text(object: &Json, name: &str) -> Result<String, PlanError> {
    optional_text(object, name)?.ok_or_else(|| malformed(name))
}

fn optional_text(object: &Json, name: &str) -> Result<Option<String>, PlanError> {
    match object.get(name) {
        None | Some(Json::Null) => Ok(None),
        Some(Json::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(malformed(name)),
    }
}

fn flag(plan: &Json, name: &str) -> Result<bool, PlanError> {
    plan.get(name)
        .and_then(Json::as_bool)
        .ok_or_else(|| malformed(name))
}

/// An absent list is an empty one; Terraform leaves empty ones out.
fn list<'a>(object: &'a Json, name: &str) -> Result<&'a [Json], PlanError> {
    match object.get(name) {
        None | Some(Json::Null) => Ok(&[]),
        Some(value) => value.as_array().ok_or_else(|| malformed(name)),
    }
}
