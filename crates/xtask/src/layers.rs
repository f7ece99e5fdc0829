//! The dependency table: which crate may know which, checked against what cargo says.
//!
//! The table below is the diagram of the architecture; there is no other. It is exact: a
//! dependency that it does not have fails, and so does a line of it that no crate uses any more.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, bail};
use serde_json::Value;

use crate::cargo::cargo;

/// One crate, and what it may depend on.
struct Layer {
    package: &'static str,
    /// Crates of this workspace that it always links.
    uses: &'static [&'static str],
    /// Crates of this workspace that it links only with a feature.
    uses_with_feature: &'static [&'static str],
    /// No runtime, network or SQL may come with it, by whatever way.
    pure: bool,
}

/// Features that only tests may switch on: kill points must be in nothing that is released, whatever
/// features it is built with.
const FOR_TESTS: &[(&str, &str)] = &[("clawgate-store", "faults")];

/// From what is trusted most to what is trusted least.
const LAYERS: &[Layer] = &[
    Layer {
        package: "clawgate-proof",
        uses: &[],
        uses_with_feature: &[],
        pure: true,
    },
    Layer {
        package: "clawgate-policy",
        uses: &["clawgate-proof"],
        uses_with_feature: &[],
        pure: true,
    },
    Layer {
        package: "clawverify",
        uses: &["clawgate-policy", "clawgate-proof"],
        uses_with_feature: &[],
        pure: true,
    },
    Layer {
        package: "clawgate-names",
        uses: &[],
        uses_with_feature: &[],
        pure: false,
    },
    Layer {
        package: "clawgate-store",
        uses: &["clawgate-names", "clawgate-proof"],
        uses_with_feature: &[],
        pure: false,
    },
    Layer {
        package: "clawgate-sim",
        uses: &[],
        uses_with_feature: &[],
        pure: false,
    },
    Layer {
        package: "clawgate",
        uses: &[
            "clawgate-names",
            "clawgate-policy",
            "clawgate-proof",
            "clawgate-store",
            "clawverify",
        ],
        // Stand-ins are for the demo; production images leave them out.
        uses_with_feature: &["clawgate-sim"],
        pure: false,
    },
    Layer {
        package: "xtask",
        uses: &[],
        uses_with_feature: &[],
        pure: false,
    },
];

/// What a pure crate must not link, not even through others.
const IMPURE: &[&str] = &[
    "axum",
    "hyper",
    "libsqlite3-sys",
    "mio",
    "reqwest",
    "rusqlite",
    "socket2",
    "sqlx",
    "tokio",
];

/// Reads the workspace through cargo and compares.
pub(crate) fn run() -> anyhow::Result<()> {
    let workspace = Workspace::read()?;
    let broken = violations(&workspace, LAYERS);
    if !broken.is_empty() {
        bail!(
            "the dependencies and the table in crates/xtask/src/layers.rs differ:\n  {}",
            broken.join("\n  ")
        );
    }
    print!("{}", diagram(LAYERS));
    Ok(())
}

/// What cargo says about the workspace.
struct Workspace {
    /// Package by name.
    members: BTreeMap<String, Member>,
    /// Features for tests that get into what is none.
    leaks: Vec<String>,
}

/// One package of the workspace.
#[derive(Default)]
struct Member {
    /// Normal and build dependencies on other members; true when optional.
    uses: BTreeMap<String, bool>,
    /// Names of all packages that come with it, through normal dependencies.
    links: BTreeSet<String>,
}

impl Workspace {
    fn read() -> anyhow::Result<Self> {
        let output = cargo(&["metadata", "--format-version", "1", "--locked"])
            .output()
            .context("cannot start cargo")?;
        if !output.status.success() {
            bail!(
                "cargo metadata failed: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        let metadata = serde_json::from_slice(&output.stdout).context("cargo's answer")?;
        Self::from_metadata(&metadata).context("cargo metadata lacks a member that it should have")
    }

    fn from_metadata(metadata: &Value) -> Option<Self> {
        let packages = metadata["packages"].as_array()?;
        let mut names = BTreeMap::new();
        for package in packages {
            names.insert(package["id"].as_str()?, package["name"].as_str()?);
        }
        let mut normal: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for node in metadata["resolve"]["nodes"].as_array()? {
            let below = normal.entry(node["id"].as_str()?).or_default();
            for dependency in node["deps"].as_array()? {
                let kinds = dependency["dep_kinds"].as_array()?;
                if kinds.iter().any(|kind| kind["kind"].is_null()) {
                    below.push(dependency["pkg"].as_str()?);
                }
            }
        }
        let ids: Vec<&str> = metadata["workspace_members"]
            .as_array()?
            .iter()
            .filter_map(Value::as_str)
            .collect();
        let member_names: BTreeSet<&str> =
            ids.iter().filter_map(|id| names.get(id).copied()).collect();
        let mut members = BTreeMap::new();
        for package in packages {
            let id = package["id"].as_str()?;
            if !ids.contains(&id) {
                continue;
            }
            let mut member = Member {
                links: reachable(id, &normal, &names),
                ..Member::default()
            };
            for dependency in package["dependencies"].as_array()? {
                let name = dependency["name"].as_str()?;
                let counts = dependency["kind"].as_str() != Some("dev");
                if counts && member_names.contains(name) {
                    let optional = dependency["optional"].as_bool()?;
                    member.uses.insert(name.to_owned(), optional);
                }
            }
            members.insert(package["name"].as_str()?.to_owned(), member);
        }
        let leaks = leaks(metadata);
        Some(Self { members, leaks })
    }
}

fn reachable(
    from: &str,
    normal: &BTreeMap<&str, Vec<&str>>,
    names: &BTreeMap<&str, &str>,
) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    let mut open = vec![from];
    while let Some(id) = open.pop() {
        for below in normal.get(id).into_iter().flatten() {
            if seen.insert(*below) {
                open.push(below);
            }
        }
    }
    seen.iter()
        .filter_map(|id| names.get(id).map(|name| (*name).to_owned()))
        .collect()
}

/// Every difference between the workspace and the table, in words.
fn violations(workspace: &Workspace, layers: &[Layer]) -> Vec<String> {
    let mut broken = workspace.leaks.clone();
    for name in workspace.members.keys() {
        if !layers.iter().any(|layer| layer.package == name) {
            broken.push(format!("{name} is not in the table"));
        }
    }
    for layer in layers {
        let package = layer.package;
        let Some(member) = workspace.members.get(package) else {
            broken.push(format!(
                "{package} is in the table, but not in the workspace"
            ));
            continue;
        };
        for (name, optional) in &member.uses {
            let always = layer.uses.contains(&name.as_str());
            let with_feature = layer.uses_with_feature.contains(&name.as_str());
            if !always && !with_feature {
                broken.push(format!("{package} must not depend on {name}"));
            } else if with_feature && !optional {
                broken.push(format!(
                    "{package} may depend on {name} only with a feature"
                ));
            }
        }
        for name in layer.uses.iter().chain(layer.uses_with_feature) {
            if !member.uses.contains_key(*name) {
                broken.push(format!(
                    "{package} does not depend on {name}: remove it here"
                ));
            }
        }
        if layer.pure {
            for name in IMPURE.iter().filter(|name| member.links.contains(**name)) {
                broken.push(format!("{package} is pure, but {name} comes with it"));
            }
        }
    }
    broken
}

/// By which ways a feature that is for tests gets into what is no test.
fn leaks(metadata: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let members = metadata["workspace_members"].as_array();
    let is_ours = |package: &&Value| members.is_some_and(|ids| ids.contains(&package["id"]));
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let packages = packages.filter(is_ours);
    for (package, (owner, feature)) in packages.flat_map(|p| FOR_TESTS.iter().map(move |f| (p, f)))
    {
        let name = package["name"].as_str().unwrap_or_default();
        let dependencies = package["dependencies"].as_array().into_iter().flatten();
        for dependency in dependencies.filter(|d| d["kind"] != "dev" && d["name"] == *owner) {
            let mut features = dependency["features"].as_array().into_iter().flatten();
            if features.any(|on| on == feature) {
                found.push(format!(
                    "{name} switches on {owner}/{feature}, which is for tests"
                ));
            }
        }
        let features = package["features"].as_object().into_iter().flatten();
        for (which, on) in features {
            let mut on = on
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str);
            let ends = format!("/{feature}");
            if on.any(|on| on.ends_with(&ends) || (name == *owner && on == *feature)) {
                found.push(format!(
                    "{name}'s feature {which} leads to {owner}/{feature}, which is for tests"
                ));
            }
        }
    }
    found
}

fn diagram(layers: &[Layer]) -> String {
    let mut text = String::new();
    for layer in layers {
        let uses = layer.uses.iter().map(|name| (*name).to_owned());
        let with_feature = layer
            .uses_with_feature
            .iter()
            .map(|name| format!("({name})"));
        let all: Vec<String> = uses.chain(with_feature).collect();
        let arrow = if all.is_empty() {
            String::new()
        } else {
            format!(" -> {}", all.join(", "))
        };
        let pure = if layer.pure { "   [pure]" } else { "" };
        text.push_str(&format!("{}{arrow}{pure}\n", layer.package));
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// `a` (pure) uses `b`; `b` uses `wire`, which uses `tokio`; `a` tests itself with `c`.
    fn small(edit: impl Fn(&mut Value)) -> Workspace {
        let dependency = |name: &str, kind: Option<&str>, optional: bool| json!({"name": name, "kind": kind, "optional": optional});
        let node = |id: &str, below: &[(&str, Option<&str>)]| {
            let deps: Vec<Value> = below
                .iter()
                .map(|(id, kind)| json!({"pkg": id, "dep_kinds": [{"kind": kind}]}))
                .collect();
            json!({"id": id, "deps": deps})
        };
        let mut metadata = json!({
            "workspace_members": ["a 1", "b 1", "c 1"],
            "packages": [
                {"id": "a 1", "name": "a", "dependencies": [
                    dependency("b", None, false), dependency("c", Some("dev"), false)]},
                {"id": "b 1", "name": "b", "dependencies": [dependency("wire", None, false)]},
                {"id": "c 1", "name": "c", "dependencies": [dependency("b", None, true)]},
                {"id": "wire 1", "name": "wire", "dependencies": []},
                {"id": "tokio 1", "name": "tokio", "dependencies": []},
            ],
            "resolve": {"nodes": [
                node("a 1", &[("b 1", None), ("c 1", Some("dev"))]),
                node("b 1", &[("wire 1", None)]),
                node("c 1", &[("b 1", None), ("tokio 1", None)]),
                node("wire 1", &[("tokio 1", Some("dev"))]),
                node("tokio 1", &[]),
            ]},
        });
        edit(&mut metadata);
        Workspace::from_metadata(&metadata).unwrap()
    }

    fn table() -> Vec<Layer> {
        vec![
            Layer {
                package: "a",
                uses: &["b"],
                uses_with_feature: &[],
                pure: true,
            },
            Layer {
                package: "b",
                uses: &[],
                uses_with_feature: &[],
                pure: true,
            },
            Layer {
                package: "c",
                uses: &[],
                uses_with_feature: &["b"],
                pure: false,
            },
        ]
    }

    #[test]
    fn this_workspace_is_as_the_table_says() {
        let workspace = Workspace::read().unwrap();
        assert_eq!(violations(&workspace, LAYERS), Vec::<String>::new());
    }

    #[test]
    fn a_table_that_differs_from_this_workspace_fails() {
        let workspace = Workspace::read().unwrap();
        let without_policy = &LAYERS[..1];
        assert!(
            violations(&workspace, without_policy)
                .contains(&"clawgate-policy is not in the table".to_owned())
        );
        let bare = [Layer {
            package: "clawgate-policy",
            uses: &[],
            uses_with_feature: &[],
            pure: true,
        }];
        assert!(
            violations(&workspace, &bare)
                .contains(&"clawgate-policy must not depend on clawgate-proof".to_owned())
        );
        let pure_gateway = [Layer {
            package: "clawgate",
            uses: &["clawgate-policy", "clawgate-proof", "clawgate-store"],
            uses_with_feature: &["clawgate-sim", "clawverify"],
            pure: true,
        }];
        for name in ["tokio", "hyper", "axum", "rusqlite"] {
            let says = format!("clawgate is pure, but {name} comes with it");
            assert!(
                violations(&workspace, &pure_gateway).contains(&says),
                "{says}"
            );
        }
    }

    #[test]
    fn a_good_workspace_passes_and_development_dependencies_do_not_count() {
        assert_eq!(violations(&small(|_| {}), &table()), Vec::<String>::new());
    }

    #[test]
    fn each_way_to_break_the_table_is_named() {
        type Edit = fn(&mut Value);
        let cases: &[(Edit, &str)] = &[
            (
                |m| m["packages"][1]["dependencies"][0]["name"] = json!("c"),
                "b must not depend on c",
            ),
            (
                |m| m["packages"][0]["dependencies"][1]["kind"] = json!("build"),
                "a must not depend on c",
            ),
            (
                |m| m["packages"][2]["dependencies"][0]["optional"] = json!(false),
                "c may depend on b only with a feature",
            ),
            (
                |m| m["packages"][2]["dependencies"] = json!([]),
                "c does not depend on b: remove it here",
            ),
            (
                |m| m["resolve"]["nodes"][3]["deps"][0]["dep_kinds"] = json!([{"kind": null}]),
                "a is pure, but tokio comes with it",
            ),
            (
                |m| m["workspace_members"] = json!(["a 1", "b 1", "c 1", "wire 1"]),
                "wire is not in the table",
            ),
            (
                |m| m["workspace_members"] = json!(["a 1", "b 1"]),
                "c is in the table, but not in the workspace",
            ),
        ];
        for (edit, says) in cases {
            let broken = violations(&small(edit), &table());
            assert!(broken.iter().any(|line| line == says), "{says}: {broken:?}");
        }
    }

    #[test]
    fn a_feature_for_tests_gets_into_nothing_else() {
        let store = |kind: Value, features: Value| json!({"name": "clawgate-store", "kind": kind, "features": features});
        let leaking = |dependency: Value, of_gateway: Value, of_store: Value| {
            leaks(&json!({"workspace_members": ["g", "s"], "packages": [
                {"id": "g", "name": "clawgate", "dependencies": [dependency], "features": of_gateway},
                {"id": "s", "name": "clawgate-store", "dependencies": [], "features": of_store},
                {"id": "other", "name": "other", "features": {"default": ["x/faults"]}},
            ]}))
        };
        let own = json!({"faults": ["dep:rustix"]});
        let for_tests = store(json!("dev"), json!(["faults"]));
        let plain = store(Value::Null, json!([]));
        for fine in [&for_tests, &plain] {
            let found = leaking(fine.clone(), json!({"demo": ["dep:sim"]}), own.clone());
            assert_eq!(found, Vec::<String>::new());
        }
        for (dependency, of_gateway, of_store) in [
            (
                store(Value::Null, json!(["faults"])),
                json!({}),
                own.clone(),
            ),
            (
                store(json!("build"), json!(["faults"])),
                json!({}),
                own.clone(),
            ),
            (
                plain.clone(),
                json!({"demo": ["store/faults"]}),
                own.clone(),
            ),
            (plain.clone(), json!({"demo": ["store?/faults"]}), own),
            (
                plain,
                json!({}),
                json!({"default": ["faults"], "faults": []}),
            ),
        ] {
            let found = leaking(dependency.clone(), of_gateway.clone(), of_store.clone());
            assert_eq!(
                found.len(),
                1,
                "{dependency} {of_gateway} {of_store}: {found:?}"
            );
        }
    }

    #[test]
    fn what_is_not_cargo_metadata_is_refused() {
        assert!(Workspace::from_metadata(&json!({})).is_none());
        assert!(Workspace::from_metadata(&json!({"packages": [{"id": 1}]})).is_none());
    }
}
