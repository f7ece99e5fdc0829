//! Data sources that read another workspace's outputs with the run's own token.
//!
//! The contract names workspaces by id and configurations name them by name, so that somebody who
//! may ask upstream has to say which names the ids have now: [`ReadableStates`]. A name that is
//! not among them is refused, and so is one that is not written out.

use std::collections::{BTreeMap, BTreeSet};

use hcl_edit::expr::{Expression, ObjectKey};

use crate::contract::Contract;
use crate::terraform::ids::WorkspaceId;

/// The names of workspaces whose state a contract lets configurations read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReadableStates {
    host: String,
    /// Organization and workspace.
    names: BTreeSet<(String, String)>,
}

impl ReadableStates {
    /// Nobody's.
    pub fn none() -> Self {
        Self::default()
    }

    /// The names that upstream, at `host`, has for workspaces. Ids that the contract does not list
    /// in `remote_state_workspaces` are left out.
    pub fn new(
        contract: &Contract,
        host: &str,
        found: impl IntoIterator<Item = (WorkspaceId, String, String)>,
    ) -> Self {
        let listed = listed(contract);
        let names = found
            .into_iter()
            .filter(|(id, _, _)| listed.contains(id))
            .map(|(_, organization, workspace)| (organization, workspace))
            .collect();
        Self {
            host: host.to_owned(),
            names,
        }
    }

    fn has(&self, organization: &str, workspace: &str) -> bool {
        self.names
            .contains(&(organization.to_owned(), workspace.to_owned()))
    }
}

fn listed(contract: &Contract) -> &[WorkspaceId] {
    let configuration = contract.permissions.configuration.as_ref();
    configuration.map_or(&[], |c| &c.remote_state_workspaces)
}

/// Whether a type of data source reads another workspace's state.
pub(super) fn reads_state(kind: &str) -> bool {
    crate::rules::reads_state(kind)
}

/// Why a data source of such a type is refused, in words.
pub(super) fn refused(
    readable: &ReadableStates,
    kind: &str,
    arguments: &BTreeMap<&str, &Expression>,
) -> Option<String> {
    // What every data source takes; none of it says whose state is read.
    let meta = ["provider", "depends_on", "count", "for_each", "defaults"];
    let own: BTreeMap<&str, &Expression> = arguments
        .iter()
        .filter(|(name, _)| !meta.contains(*name))
        .map(|(name, value)| (*name, *value))
        .collect();
    let named = match kind {
        "terraform_remote_state" => remote_backend(readable, &own),
        _ => only_texts(&own, &["organization", "workspace"]),
    };
    match named.as_deref() {
        None => Some(
            "whose state is read must be written out: organization and workspace by name, \
             of the remote backend"
                .to_owned(),
        ),
        Some([organization, workspace]) if readable.has(organization, workspace) => None,
        Some(_) => Some(
            "reads a workspace that is not in permissions.configuration.remote_state_workspaces"
                .to_owned(),
        ),
    }
}

/// Organization and workspace of `backend = "remote"` with a `config` that is written out.
fn remote_backend<'a>(
    readable: &ReadableStates,
    arguments: &BTreeMap<&str, &'a Expression>,
) -> Option<Vec<&'a str>> {
    let [("backend", backend), ("config", config)] = pairs(arguments)[..] else {
        return None;
    };
    if backend.as_str() != Some("remote") {
        return None;
    }
    let mut config = members(config)?;
    if let Some(host) = config.remove("hostname") {
        // Any other would be called with whatever the worker has for it.
        host.as_str().filter(|host| *host == readable.host)?;
    }
    let [("organization", organization), ("workspaces", workspaces)] = pairs(&config)[..] else {
        return None;
    };
    let workspaces = members(workspaces)?;
    let workspace = only_texts(&workspaces, &["name"])?;
    Some(vec![organization.as_str()?, workspace[0]])
}

/// The values of exactly these arguments, each a text that is written out.
fn only_texts<'a>(
    arguments: &BTreeMap<&str, &'a Expression>,
    names: &[&str],
) -> Option<Vec<&'a str>> {
    if arguments.len() != names.len() {
        return None;
    }
    names
        .iter()
        .map(|name| arguments.get(name)?.as_str())
        .collect()
}

fn pairs<'a, 'e>(map: &BTreeMap<&'a str, &'e Expression>) -> Vec<(&'a str, &'e Expression)> {
    map.iter().map(|(name, value)| (*name, *value)).collect()
}

/// The members of an object that is written out, each name once.
fn members(object: &Expression) -> Option<BTreeMap<&str, &Expression>> {
    let object = match object {
        Expression::Object(object) => object,
        Expression::Parenthesis(inner) => return members(inner.inner()),
        // JSON may write one object as a list of one.
        _ => return None,
    };
    let mut members = BTreeMap::new();
    for (key, value) in object.iter() {
        let name = match key {
            ObjectKey::Ident(ident) => ident.as_str(),
            ObjectKey::Expression(expression) => expression.as_str()?,
        };
        if members.insert(name, value.expr()).is_some() {
            return None;
        }
    }
    Some(members)
}
