//! What is linked into a program, by what cargo says.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, bail};
use serde_json::Value;

use crate::cargo::cargo;

/// The target of the releases.
pub(crate) const TARGET: &str = "x86_64-unknown-linux-gnu";

/// A package, ours or somebody else's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) license: Option<String>,
    /// Where it came from; `None` is this workspace.
    pub(crate) source: Option<String>,
    pub(crate) repository: Option<String>,
}

/// Every package, what each is linked with, and the lock file's checksums.
pub(crate) struct Packages {
    by_id: BTreeMap<String, Package>,
    links: BTreeMap<String, BTreeSet<String>>,
    checksums: BTreeMap<(String, String), String>,
}

impl Packages {
    /// Asks cargo.
    pub(crate) fn read() -> anyhow::Result<Self> {
        let arguments = ["metadata", "--format-version", "1", "--locked"];
        let output = cargo(&[&arguments[..], &["--filter-platform", TARGET]].concat())
            .output()
            .context("cannot start cargo")?;
        if !output.status.success() {
            bail!(
                "cargo metadata: {}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
        let lock = std::fs::read_to_string(crate::cargo::root().join("Cargo.lock"))?;
        Self::from(&serde_json::from_slice(&output.stdout)?, &lock)
    }

    fn from(metadata: &Value, lock: &str) -> anyhow::Result<Self> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let mut by_id = BTreeMap::new();
        for package in list(&metadata["packages"]) {
            let required = |key: &str| text(&package[key]).with_context(|| key.to_owned());
            let read = Package {
                name: required("name")?,
                version: required("version")?,
                license: text(&package["license"]),
                source: text(&package["source"]),
                repository: text(&package["repository"]),
            };
            by_id.insert(required("id")?, read);
        }
        let mut links = BTreeMap::new();
        for node in list(&metadata["resolve"]["nodes"]) {
            let used = list(&node["deps"]).into_iter().filter_map(|dependency| {
                let kinds = list(&dependency["dep_kinds"]);
                let linked = kinds.iter().any(|kind| kind["kind"].is_null());
                linked.then(|| text(&dependency["pkg"])).flatten()
            });
            links.insert(text(&node["id"]).context("id")?, used.collect());
        }
        Ok(Self {
            by_id,
            links,
            checksums: checksums(lock),
        })
    }

    /// Every package that anything of the workspace is built from.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Package> {
        self.by_id.values()
    }

    /// A program and what is linked into it, in order; macros that ran in the compiler included.
    pub(crate) fn linked_into(&self, program: &str) -> anyhow::Result<Linked<'_>> {
        let ours = |(_, package): &(&String, &Package)| {
            package.name == program && package.source.is_none()
        };
        let found = self.by_id.iter().find(ours);
        let (root, _) = found.with_context(|| format!("no package `{program}`"))?;
        let mut seen = BTreeSet::new();
        let mut next = vec![root];
        while let Some(id) = next.pop() {
            if seen.insert(id.as_str()) {
                next.extend(self.links.get(id).into_iter().flatten());
            }
        }
        let uses = |id: &str| {
            let used = self.links.get(id).into_iter().flatten();
            used.map(|id| &self.by_id[id]).collect::<BTreeSet<_>>()
        };
        let linked = seen.iter().map(|id| (&self.by_id[*id], uses(id)));
        Ok(Linked {
            program: &self.by_id[root],
            packages: linked.collect(),
        })
    }

    /// SHA-256 of a package as the registry gave it out, in hexadecimal.
    pub(crate) fn checksum(&self, package: &Package) -> Option<&str> {
        let key = (package.name.clone(), package.version.clone());
        self.checksums.get(&key).map(String::as_str)
    }
}

/// A program and all that is linked into it.
pub(crate) struct Linked<'a> {
    pub(crate) program: &'a Package,
    /// Each with what it uses itself.
    pub(crate) packages: BTreeMap<&'a Package, BTreeSet<&'a Package>>,
}

/// Checksums of a lock file, whose lines cargo writes one way only.
fn checksums(lock: &str) -> BTreeMap<(String, String), String> {
    let blocks = lock.split("[[package]]").skip(1);
    let blocks = blocks.filter_map(|block| {
        let value = |key: &str| {
            let prefix = format!("{key} = \"");
            let mut lines = block.lines();
            let rest = lines.find_map(|line| line.strip_prefix(&prefix))?;
            Some(rest.trim_end_matches('"').to_owned())
        };
        Some(((value("name")?, value("version")?), value("checksum")?))
    });
    blocks.collect()
}
