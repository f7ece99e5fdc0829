//! Reading the full plan JSON (format version 1.x).

use std::collections::BTreeSet;

use proof::Hash;
use proof::hash::Hasher;
use proof::json::Json;

use super::diff::{Budget, attributes, has_mark};
use super::document::{Bounds, Cursor, Document, Value};
use super::secrets;
use super::step::{Step, step, unknown};
use super::{
    Changes, DataSource, ModuleCall, OutputChange, PlanError, PlanFacts, ProviderArgument,
    Provisioner, ResourceChange,
};
use crate::contract::Action;
use crate::rules;
use crate::terraform::mask::Marked;
use crate::terraform::rewrite::plain_text;

/// Largest plan that is read, in bytes.
pub const MAX_PLAN: usize = 512 << 20;
/// Most changes in one plan: more than that nobody can approve.
pub(crate) const MAX_CHANGES: usize = 20_000;
/// Most data sources, modules and provisioners each.
const MAX_PARTS: usize = 100_000;
/// Deepest nesting of modules.
const MAX_MODULES: usize = 32;

/// What is held of a plan: it packed, and one object of it as a tree.
const BOUNDS: Bounds = Bounds {
    text: MAX_PLAN,
    packed: 128 << 20,
    value: 16 << 20,
    small: 256 << 10,
    chunk: 256 << 10,
    members: 200_000,
};

/// A full plan on its way in, piece by piece. Not held whole: about a tenth of it is, packed, and
/// one object at a time as a tree.
pub struct PlanReader(Document);

impl Default for PlanReader {
    fn default() -> Self {
        Self(Document::new(BOUNDS))
    }
}

impl PlanReader {
    /// A reader that packs so many bytes together and reads values of up to so many bytes at once.
    /// Both are about memory and time only: the facts are the same, whatever is given.
    pub fn with_sizes(chunk: usize, small: usize) -> Self {
        Self(Document::new(Bounds {
            chunk: chunk.max(1),
            small,
            ..BOUNDS
        }))
    }

    /// Takes the next piece.
    ///
    /// # Errors
    /// [`PlanError::TooLarge`] beyond [`MAX_PLAN`], or when what must be held gets too large.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), PlanError> {
        self.0.push(bytes)
    }

    /// Reads the plan. Takes a while for a large one: see `docs/performance.md`.
    ///
    /// # Errors
    /// When the plan cannot be judged; see [`PlanError`].
    pub fn inspect(&self) -> Result<PlanFacts, PlanError> {
        facts(&self.0)
    }

    /// What the plan marks as sensitive, wherever it has it.
    ///
    /// # Errors
    /// When the plan cannot be read.
    pub fn sensitive(&self) -> Result<Marked, PlanError> {
        secrets::collect(&self.0)
    }
}

/// Reads a full plan that is in memory.
///
/// # Errors
/// When the plan cannot be judged; see [`PlanError`].
pub fn inspect(full_plan_json: &[u8]) -> Result<PlanFacts, PlanError> {
    let mut reader = PlanReader::default();
    reader.push(full_plan_json)?;
    reader.inspect()
}

#[cfg(test)]
pub(super) fn inspect_within(bounds: Bounds, plan: &[u8]) -> Result<PlanFacts, PlanError> {
    let mut document = Document::new(bounds);
    document.push(plan)?;
    facts(&document)
}

fn facts(document: &Document) -> Result<PlanFacts, PlanError> {
    let cursor = &mut document.cursor();
    let root = cursor.root()?;
    let members = cursor.members(root)?.ok_or_else(|| malformed("the plan"))?;
    let plan = Members(&members);
    let format_version = text(&plan.json(cursor, "format_version")?, "format_version")?;
    if format_version.split('.').next() != Some("1") {
        return Err(PlanError::Format(plain_text(&format_version)));
    }
    if plan.flag(cursor, "errored")? {
        return Err(PlanError::Errored);
    }
    let deferred = plan.count(cursor, "deferred_changes")?;
    if deferred > 0 {
        return Err(PlanError::Deferred(deferred));
    }
    let invoked = plan.count(cursor, "action_invocations")?
        + plan.count(cursor, "deferred_action_invocations")?;
    if invoked > 0 {
        return Err(PlanError::ActionInvocation(invoked));
    }
    if !plan.flag(cursor, "applyable")? {
        return Err(PlanError::NotApplyable);
    }
    let terraform_version = plan.json(cursor, "terraform_version")?;
    let terraform_version = text(&terraform_version, "terraform_version")?;
    let complete = plan.flag(cursor, "complete")?;
    let mut found = Found::default();
    if let Some(changes) = plan.get("resource_changes") {
        cursor.elements(changes, &mut |cursor, element| {
            found.resource_change(&cursor.json(element)?)
        })?;
    }
    if let Some(outputs) = plan.get("output_changes") {
        for (name, output) in cursor.members(outputs)?.unwrap_or_default() {
            found.output(&name, &cursor.json(output)?)?;
        }
    }
    let configuration = plan
        .get("configuration")
        .ok_or_else(|| malformed("configuration"))?;
    found.configuration(cursor, configuration)?;
    if let Some(state) = plan.get("prior_state") {
        found.prior_state(cursor, state)?;
    }
    let drifted = plan.count(cursor, "resource_drift")?;
    if let Some(time) = plan.get("timestamp") {
        // Not part of the digest, but of a document that must be strict everywhere.
        cursor.json(time)?;
    }
    let plan_sha256_b64u = digest(cursor, members)?;
    Ok(PlanFacts {
        plan_sha256_b64u,
        raw_sha256_b64u: document.raw_hash(),
        format_version,
        terraform_version,
        complete,
        changes: found.changes,
        resources: found.resources,
        outputs: found.outputs,
        providers: found.providers.into_iter().collect(),
        provider_arguments: found.provider_arguments,
        data_sources: found.data_sources.into_iter().collect(),
        modules: found.modules,
        provisioners: found.provisioners,
        drifted: u32::try_from(drifted).unwrap_or(u32::MAX),
    })
}

/// Hash of the canonical plan without its time.
fn digest(cursor: &mut Cursor<'_>, mut members: Vec<(String, Value)>) -> Result<Hash, PlanError> {
    let written = members.len();
    members.retain(|(name, _)| name != "timestamp");
    if members.len() + 1 < written {
        return Err(malformed("timestamp"));
    }
    let mut hasher = Hasher::new();
    cursor.hash_members(members, &mut hasher)?;
    Ok(hasher.finish())
}

/// The members of an object that is not held.
struct Members<'m>(&'m [(String, Value)]);

impl Members<'_> {
    fn get(&self, name: &str) -> Option<Value> {
        let found = self.0.iter().find(|(own, _)| own == name);
        found.map(|(_, value)| *value)
    }

    /// The value of a member; null when it is not there.
    fn json(&self, cursor: &mut Cursor<'_>, name: &str) -> Result<Json, PlanError> {
        self.get(name)
            .map_or(Ok(Json::Null), |value| cursor.json(value))
    }

    fn flag(&self, cursor: &mut Cursor<'_>, name: &str) -> Result<bool, PlanError> {
        let value = self.json(cursor, name)?;
        value.as_bool().ok_or_else(|| malformed(name))
    }

    /// How many elements a list has. An absent list is an empty one; Terraform leaves empty ones
    /// out.
    fn count(&self, cursor: &mut Cursor<'_>, name: &str) -> Result<usize, PlanError> {
        let mut count = 0;
        if let Some(list) = self.get(name) {
            cursor.elements(list, &mut |_, _| {
                count += 1;
                Ok(())
            })?;
        }
        Ok(count)
    }
}

#[derive(Default)]
struct Found {
    changes: Changes,
    resources: Vec<ResourceChange>,
    outputs: Vec<OutputChange>,
    providers: BTreeSet<String>,
    provider_arguments: Vec<ProviderArgument>,
    data_sources: BTreeSet<DataSource>,
    modules: Vec<ModuleCall>,
    provisioners: Vec<Provisioner>,
    budget: Budget,
}

impl Found {
    fn resource_change(&mut self, resource: &Json) -> Result<(), PlanError> {
        let address = member_text(resource, "address")?;
        let kind = member_text(resource, "type")?;
        let provider = member_text(resource, "provider_name")?;
        let change = resource.get("change").ok_or_else(|| malformed("change"))?;
        let step = step(change, &address)?;
        self.providers.insert(provider.clone());
        match member_text(resource, "mode")?.as_str() {
            "managed" if step != Step::Read => {}
            // A data source that is read during the apply.
            "data" if matches!(step, Step::Read | Step::Nothing) => {
                return self.data_source(&address, kind);
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
            return Ok(());
        }
        bounded(self.resources.len(), MAX_CHANGES, "changes")?;
        let inside = attributes(change, &mut self.budget);
        self.resources.push(ResourceChange {
            address: plain_text(&address),
            previous_address: previous_address.map(|address| plain_text(&address)),
            kind,
            provider,
            actions,
            deposed: optional_text(resource, "deposed")?.is_some(),
            reason: optional_text(resource, "action_reason")?.map(|text| plain_text(&text)),
            diff: inside.changes,
            left_out: inside.left_out,
            not_compared: inside.not_compared,
        });
        Ok(())
    }

    fn data_source(&mut self, address: &str, kind: String) -> Result<(), PlanError> {
        bounded(self.data_sources.len(), MAX_PARTS, "data sources")?;
        self.data_sources.insert(DataSource {
            address: plain_text(address),
            kind,
        });
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

    fn output(&mut self, name: &str, change: &Json) -> Result<(), PlanError> {
        let step = step(change, name)?;
        let sensitive = ["before_sensitive", "after_sensitive"]
            .iter()
            .any(|mask| change.get(mask).is_some_and(has_mark));
        if step != Step::Nothing {
            bounded(self.outputs.len(), MAX_CHANGES, "changes of outputs")?;
            self.outputs.push(OutputChange {
                name: plain_text(name),
                actions: step.actions().to_vec(),
                sensitive,
            });
        }
        Ok(())
    }

    fn configuration(&mut self, cursor: &mut Cursor<'_>, value: Value) -> Result<(), PlanError> {
        let members = cursor.members(value)?;
        let members = members.ok_or_else(|| malformed("configuration"))?;
        let configuration = Members(&members);
        if let Some(providers) = configuration.get("provider_config") {
            for (_, provider) in cursor.members(providers)?.unwrap_or_default() {
                self.provider(&cursor.json(provider)?)?;
            }
        }
        match configuration.get("root_module") {
            Some(root) => self.module(cursor, root, "", 0),
            None => Ok(()),
        }
    }

    fn provider(&mut self, provider: &Json) -> Result<(), PlanError> {
        let source = member_text(provider, "full_name")?;
        let mut names = BTreeSet::new();
        if let Some(expressions) = provider.get("expressions") {
            suspicious(expressions, &mut names);
        }
        for name in names {
            bounded(
                self.provider_arguments.len(),
                MAX_PARTS,
                "arguments of providers",
            )?;
            self.provider_arguments.push(ProviderArgument {
                provider: source.clone(),
                name: plain_text(name),
            });
        }
        self.providers.insert(source);
        Ok(())
    }

    fn module(
        &mut self,
        cursor: &mut Cursor<'_>,
        module: Value,
        path: &str,
        depth: usize,
    ) -> Result<(), PlanError> {
        if depth > MAX_MODULES {
            return Err(too_deep());
        }
        let members = cursor.members(module)?.unwrap_or_default();
        let module = Members(&members);
        if let Some(resources) = module.get("resources") {
            cursor.elements(resources, &mut |cursor, element| {
                self.configured(&cursor.json(element)?, path)
            })?;
        }
        let Some(calls) = module.get("module_calls") else {
            return Ok(());
        };
        for (name, call) in cursor.members(calls)?.unwrap_or_default() {
            let address = plain_text(&format!("{path}module.{name}"));
            let members = cursor.members(call)?.unwrap_or_default();
            let call = Members(&members);
            let version = match call.json(cursor, "version_constraint")? {
                Json::Null => None,
                version => Some(text(&version, "version_constraint")?),
            };
            bounded(self.modules.len(), MAX_PARTS, "modules")?;
            self.modules.push(ModuleCall {
                address: address.clone(),
                source: text(&call.json(cursor, "source")?, "source")?,
                version,
            });
            if let Some(inner) = call.get("module") {
                self.module(cursor, inner, &format!("{address}."), depth + 1)?;
            }
        }
        Ok(())
    }

    /// A resource as the configuration has it.
    fn configured(&mut self, resource: &Json, path: &str) -> Result<(), PlanError> {
        let address = format!("{path}{}", member_text(resource, "address")?);
        match member_text(resource, "mode")?.as_str() {
            // Ephemeral resources are read during the plan as well, and kept nowhere.
            "data" | "ephemeral" => {
                let kind = member_text(resource, "type")?;
                self.data_source(&address, kind)?;
            }
            "managed" => {}
            _ => return Err(malformed("configuration: mode")),
        }
        for provisioner in list(resource, "provisioners")? {
            bounded(self.provisioners.len(), MAX_PARTS, "provisioners")?;
            self.provisioners.push(Provisioner {
                address: plain_text(&address),
                kind: member_text(provisioner, "type")?,
            });
        }
        Ok(())
    }

    /// Data sources that were read during the plan stand here and, unless they were just taken
    /// out, in the configuration.
    fn prior_state(&mut self, cursor: &mut Cursor<'_>, state: Value) -> Result<(), PlanError> {
        let state = cursor.members(state)?.unwrap_or_default();
        let Some(values) = Members(&state).get("values") else {
            return Ok(());
        };
        let values = cursor.members(values)?.unwrap_or_default();
        match Members(&values).get("root_module") {
            Some(root) => self.module_state(cursor, root, 0),
            None => Ok(()),
        }
    }

    fn module_state(
        &mut self,
        cursor: &mut Cursor<'_>,
        module: Value,
        depth: usize,
    ) -> Result<(), PlanError> {
        if depth > MAX_MODULES {
            return Err(too_deep());
        }
        let members = cursor.members(module)?.unwrap_or_default();
        let module = Members(&members);
        if let Some(resources) = module.get("resources") {
            cursor.elements(resources, &mut |cursor, element| {
                let members = cursor.members(element)?.unwrap_or_default();
                let resource = Members(&members);
                let mut own = |name| text(&resource.json(cursor, name)?, name);
                if own("mode")? == "data" {
                    let (address, kind) = (own("address")?, own("type")?);
                    self.data_source(&address, kind)?;
                }
                Ok(())
            })?;
        }
        if let Some(inner) = module.get("child_modules") {
            cursor.elements(inner, &mut |cursor, element| {
                self.module_state(cursor, element, depth + 1)
            })?;
        }
        Ok(())
    }
}

/// Names of arguments that may send a provider elsewhere; see [`rules::provider_argument`].
fn suspicious<'j>(expressions: &'j Json, found: &mut BTreeSet<&'j str>) {
    match expressions {
        Json::Object(members) => {
            for (name, value) in members {
                if rules::provider_argument(name, false).is_some() {
                    found.insert(name);
                }
                if !rules::is_label_map(name) {
                    suspicious(value, found);
                }
            }
        }
        Json::Array(elements) => elements.iter().for_each(|e| suspicious(e, found)),
        _ => {}
    }
}

fn bounded(count: usize, most: usize, what: &str) -> Result<(), PlanError> {
    if count >= most {
        return Err(PlanError::TooLarge(format!("more than {most} {what}")));
    }
    Ok(())
}

fn too_deep() -> PlanError {
    PlanError::TooLarge(format!("modules nested deeper than {MAX_MODULES}"))
}

fn malformed(what: &str) -> PlanError {
    PlanError::Malformed(format!("`{what}` is missing or of another type"))
}

fn text(value: &Json, name: &str) -> Result<String, PlanError> {
    let text = value.as_str().ok_or_else(|| malformed(name))?;
    Ok(text.to_owned())
}

fn member_text(object: &Json, name: &str) -> Result<String, PlanError> {
    optional_text(object, name)?.ok_or_else(|| malformed(name))
}

fn optional_text(object: &Json, name: &str) -> Result<Option<String>, PlanError> {
    match object.get(name) {
        None | Some(Json::Null) => Ok(None),
        Some(Json::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(malformed(name)),
    }
}

/// An absent list is an empty one; Terraform leaves empty ones out.
fn list<'a>(object: &'a Json, name: &str) -> Result<&'a [Json], PlanError> {
    match object.get(name) {
        None | Some(Json::Null) => Ok(&[]),
        Some(value) => value.as_array().ok_or_else(|| malformed(name)),
    }
}
