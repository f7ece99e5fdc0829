//! Under which licences others' code comes in, and from where: refused unless it is in the tables.
//!
//! `deny.toml` says the same to `cargo deny`, which maintainers run for its advisories besides; a
//! test compares the two.

#[cfg(test)]
use std::collections::BTreeSet;

use anyhow::bail;

use crate::packages::{Package, Packages};

/// Licences under which code may be linked.
const ALLOWED: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Zlib",
];

/// The only place that code comes from.
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// What may not come in, however it is called: other people's C for TLS, and what builds it.
const BANNED: &[&str] = &[
    "openssl",
    "openssl-sys",
    "native-tls",
    "cmake",
    "aws-lc-sys",
];

/// Reads the workspace through cargo and compares.
pub(crate) fn run() -> anyhow::Result<()> {
    let packages = Packages::read()?;
    let broken: Vec<String> = packages.all().filter_map(violation).collect();
    if !broken.is_empty() {
        bail!(
            "not by the tables in crates/xtask/src/licences.rs:\n  {}",
            broken.join("\n  ")
        );
    }
    println!("{} packages, all by the tables", packages.all().count());
    Ok(())
}

fn violation(package: &Package) -> Option<String> {
    let says = |what: String| Some(format!("{} {}: {what}", package.name, package.version));
    if BANNED.contains(&package.name.as_str()) {
        return says("banned".to_owned());
    }
    if package.source.as_ref().is_some_and(|from| from != REGISTRY) {
        return says(format!("comes from {:?}", package.source));
    }
    match package.license.as_deref() {
        None => says("names no licence".to_owned()),
        Some(licence) if is_allowed(licence) => None,
        Some(licence) => says(format!("is under `{licence}`")),
    }
}

/// Whether an SPDX expression can be satisfied with what is allowed.
fn is_allowed(expression: &str) -> bool {
    // Cargo's old way of writing OR.
    let spaced = expression
        .replace('/', " OR ")
        .replace('(', " ( ")
        .replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut words = words.as_slice();
    any(&mut words) == Some(true) && words.is_empty()
}

/// Terms joined by OR; `None` for what cannot be read.
fn any(words: &mut &[&str]) -> Option<bool> {
    let mut allowed = all(words)?;
    while let ["OR", rest @ ..] = words {
        *words = rest;
        allowed |= all(words)?;
    }
    Some(allowed)
}

/// Terms joined by AND.
fn all(words: &mut &[&str]) -> Option<bool> {
    let mut allowed = one(words)?;
    while let ["AND", rest @ ..] = words {
        *words = rest;
        allowed &= one(words)?;
    }
    Some(allowed)
}

fn one(words: &mut &[&str]) -> Option<bool> {
    let allows = |name: &str| ALLOWED.contains(&name);
    match *words {
        ["(", rest @ ..] => {
            *words = rest;
            let allowed = any(words)?;
            *words = words.strip_prefix(&[")"])?;
            Some(allowed)
        }
        [name, "WITH", exception, rest @ ..] => {
            *words = rest;
            Some(allows(&format!("{name} WITH {exception}")))
        }
        [")" | "OR" | "AND" | "WITH", ..] | [] => None,
        [name, rest @ ..] => {
            *words = rest;
            Some(allows(name))
        }
    }
}

/// Quoted texts of a list in a TOML file that we wrote.
#[cfg(test)]
fn listed<'a>(toml: &'a str, key: &str) -> BTreeSet<&'a str> {
    let (_, rest) = toml.split_once(&format!("\n{key} = [")).expect(key);
    let (list, _) = rest
        .split_once("\n]")
        .expect("the list ends on a line of its own");
    list.split('"').skip(1).step_by(2).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_read_as_they_are_meant() {
        for (expression, allowed) in [
            ("MIT", true),
            ("MIT OR Apache-2.0", true),
            ("MIT/Apache-2.0", true),
            ("GPL-2.0-only OR Apache-2.0", true),
            ("GPL-2.0-only", false),
            ("MIT AND GPL-2.0-only", false),
            ("MIT OR GPL-2.0-only AND Apache-2.0", true),
            ("(MIT OR Apache-2.0) AND Unicode-3.0", true),
            ("(MIT OR Apache-2.0) AND MPL-2.0", false),
            ("Apache-2.0 WITH LLVM-exception", true),
            ("GPL-3.0-only WITH Classpath-exception-2.0", false),
            ("MIT OR", false),
            ("(MIT", false),
            ("MIT)", false),
            ("MIT MIT", false),
            ("", false),
        ] {
            assert_eq!(is_allowed(expression), allowed, "{expression}");
        }
    }

    #[test]
    fn code_from_elsewhere_or_under_no_licence_is_refused() {
        let good = Package {
            name: "good".into(),
            version: "1.0.0".into(),
            license: Some("MIT".into()),
            source: Some(REGISTRY.into()),
            repository: None,
        };
        assert_eq!(violation(&good), None);
        for (bad, says) in [
            (
                Package {
                    license: None,
                    ..good.clone()
                },
                "names no licence",
            ),
            (
                Package {
                    license: Some("AGPL-3.0-only".into()),
                    ..good.clone()
                },
                "AGPL",
            ),
            (
                Package {
                    source: Some("git+https://x.example/y".into()),
                    ..good.clone()
                },
                "comes from",
            ),
            (
                Package {
                    name: "openssl-sys".into(),
                    ..good
                },
                "banned",
            ),
        ] {
            assert!(violation(&bad).unwrap().contains(says), "{bad:?}");
        }
    }

    #[test]
    fn cargo_deny_is_told_the_same() {
        let toml = std::fs::read_to_string(crate::cargo::root().join("deny.toml")).unwrap();
        assert_eq!(listed(&toml, "allow"), ALLOWED.iter().copied().collect());
        assert_eq!(listed(&toml, "deny"), BANNED.iter().copied().collect());
    }
}
