//! Tests about the project's own prose: links lead somewhere, and what the code lets an
//! operator set is documented.

#![cfg(test)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::cargo::root;

fn documents() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in [root().to_owned(), root().join("docs")] {
        let Ok(entries) = std::fs::read_dir(folder) else {
            continue;
        };
        let files = entries.filter_map(|entry| Some(entry.ok()?.path()));
        found.extend(files.filter(|path| path.extension().is_some_and(|end| end == "md")));
    }
    // The site's table of contents names pages as the site has them; `book` looks at those.
    found.retain(|path| !path.ends_with("docs/SUMMARY.md"));
    found.sort();
    found
}

/// Targets of inline links, code blocks and code spans left out.
fn links(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut fenced = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced {
            continue;
        }
        let prose: String = line.split('`').step_by(2).collect::<Vec<_>>().join("");
        let mut rest = prose.as_str();
        while let Some(at) = rest.find("](") {
            rest = &rest[at + 2..];
            if let Some(end) = rest.find(')') {
                found.push(rest[..end].to_owned());
            }
        }
    }
    found
}

/// The anchor that the usual renderers give a heading.
fn anchor(heading: &str) -> String {
    heading
        .trim_start_matches('#')
        .trim()
        .to_lowercase()
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

fn broken_links(file: &Path, text: &str) -> Vec<String> {
    let folder = file.parent().expect("a file lies in a folder");
    let mut broken = Vec::new();
    for link in links(text) {
        if link.starts_with("https://") {
            continue;
        }
        let (path, fragment) = link.split_once('#').unwrap_or((&link, ""));
        let target = if path.is_empty() {
            file.to_owned()
        } else {
            folder.join(path)
        };
        let known = match std::fs::read_to_string(&target) {
            Ok(there) if !fragment.is_empty() => there
                .lines()
                .filter(|line| line.starts_with('#'))
                .any(|h| anchor(h) == fragment),
            _ => fragment.is_empty() && target.exists(),
        };
        if !known {
            broken.push(link);
        }
    }
    broken
}

#[test]
fn links_lead_somewhere() {
    let documents = documents();
    assert!(documents.iter().any(|path| path.ends_with("README.md")));
    for file in documents {
        let text = std::fs::read_to_string(&file).unwrap();
        assert_eq!(
            broken_links(&file, &text),
            Vec::<String>::new(),
            "in {}",
            file.display()
        );
    }
}

#[test]
fn a_broken_link_would_be_found() {
    let file = root().join("README.md");
    for (text, broken) in [
        (
            "[a](ARCHITECTURE.md) and [b](#nowhere-at-all)",
            &["#nowhere-at-all"][..],
        ),
        ("[a](docs/no-such-file.md)", &["docs/no-such-file.md"]),
        (
            "`[a](none.md)` [out](https://example.com)\n```\n[b](none.md)\n```\n",
            &[],
        ),
    ] {
        assert_eq!(broken_links(&file, text), broken, "{text}");
    }
}

/// Every key of the configuration file stands in the operations guide.
#[test]
fn each_configuration_key_is_documented() {
    let read = |path: &str| std::fs::read_to_string(root().join(path)).unwrap();
    let own = read("crates/gateway/src/config.rs");
    let models = read("crates/gateway/src/config/models.rs");
    let notices = read("crates/gateway/src/config/notices.rs");
    let oidc = read("crates/gateway/src/config/oidc.rs");
    let telemetry = read("crates/gateway/src/config/telemetry.rs");
    let egress = read("crates/gateway/src/config/egress.rs");
    let keys = read("crates/gateway/src/config/keys.rs");
    let guide = read("docs/operations.md");
    let code = own.split("pub enum ConfigError").next().unwrap().lines();
    let keys: BTreeSet<&str> = code
        .chain(models.split("mod glob_text").next().unwrap().lines())
        .chain(
            notices
                .split("pub enum NoticeEvent")
                .next()
                .unwrap()
                .lines(),
        )
        .chain(oidc.split("impl Oidc").next().unwrap().lines())
        .chain(telemetry.split("impl Telemetry").next().unwrap().lines())
        .chain(keys.split("impl KeyPlaces").next().unwrap().lines())
        .chain(egress.split("impl Default").next().unwrap().lines())
        .filter_map(|line| {
            line.strip_prefix("    pub ")?
                .split_once(": ")
                .map(|(key, _)| key)
        })
        .collect();
    assert!(keys.len() > 20, "the configuration has moved: {keys:?}");
    let missing: Vec<&str> = keys
        .into_iter()
        .filter(|key| !guide.contains(&format!("`{key}`")) && !guide.contains(&format!(".{key}`")))
        .collect();
    assert_eq!(missing, Vec::<&str>::new());
}
