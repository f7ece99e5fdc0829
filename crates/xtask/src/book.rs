//! The documentation as a site, with mdBook.
//!
//! The pages are read where they stand, in `docs/` and at the root, by people and by hosts of
//! repositories, and link to sources beside them. A site has no sources: such links are made to lead
//! to the repository, or are left out where it is not told where that is.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use crate::cargo::{root, target};

/// Pages at the root of the repository, and what they are called in the site.
const AT_THE_ROOT: [(&str, &str); 4] = [
    ("README.md", "start.md"),
    ("ARCHITECTURE.md", "architecture.md"),
    ("CONTRIBUTING.md", "contributing.md"),
    ("CHANGELOG.md", "changelog.md"),
];

/// Builds the site in `book` of the target folder; `sources` is where the repository's files can be
/// read, such as `https://git.example.com/clawgate/blob/main`.
pub(crate) fn run(sources: Option<&str>) -> anyhow::Result<()> {
    let out = target().join("book");
    let pages = out.join("src");
    if pages.exists() {
        fs::remove_dir_all(&pages)?;
    }
    for file in repository_files()? {
        let Some(place) = place_of(&file) else {
            continue;
        };
        let to = pages.join(place);
        fs::create_dir_all(to.parent().context("a folder")?)?;
        if file.ends_with(".md") {
            let text = fs::read_to_string(root().join(&file))?;
            fs::write(&to, within_site(&text, &file, sources))?;
        } else {
            fs::copy(root().join(&file), &to)?;
        }
    }
    fs::copy(root().join("docs/book.toml"), out.join("book.toml"))?;
    draw_diagrams(&out)?;
    let built = Command::new("mdbook").arg("build").arg(&out).status();
    let built = built.context("`mdbook` is missing: cargo install mdbook")?;
    if !built.success() {
        bail!("mdbook ended with {built}");
    }
    println!("{}", out.join("html/index.html").display());
    Ok(())
}

/// Has the site draw its diagrams, where there is a program for it; otherwise they stay text.
fn draw_diagrams(out: &Path) -> anyhow::Result<()> {
    match Command::new("mdbook-mermaid")
        .arg("install")
        .arg(out)
        .status()
    {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => bail!("mdbook-mermaid ended with {status}"),
        Err(_) => {
            println!("diagrams stay text without `mdbook-mermaid`: cargo install mdbook-mermaid");
            Ok(())
        }
    }
}

/// What the site is made of, by paths from the repository's root.
fn repository_files() -> anyhow::Result<Vec<String>> {
    let mut found: Vec<String> = AT_THE_ROOT.map(|(file, _)| file.to_owned()).to_vec();
    for file in files(&root().join("docs"))? {
        let file = file.strip_prefix(root())?;
        found.push(file.to_str().context("a name that is text")?.to_owned());
    }
    Ok(found)
}

/// Where a file of the repository stands in the site, if it does.
fn place_of(file: &str) -> Option<String> {
    let named = AT_THE_ROOT.iter().find(|(own, _)| *own == file);
    match (named, file.strip_prefix("docs/")) {
        (Some((_, place)), _) => Some((*place).to_owned()),
        (None, Some(place)) if root().join(file).is_dir() => Some(format!("{place}/README.md")),
        (None, Some(place)) => Some(place.to_owned()),
        (None, None) => None,
    }
}

fn files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        match path.is_dir() {
            true => found.extend(files(&path)?),
            false => found.push(path),
        }
    }
    found.sort();
    Ok(found)
}

/// A page whose links stay within the site, or lead to the repository. `page` is its path from the
/// repository's root.
fn within_site(text: &str, page: &str, sources: Option<&str>) -> String {
    let mut written = String::with_capacity(text.len());
    let mut fenced = false;
    for line in text.split_inclusive('\n') {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        match fenced {
            true => written.push_str(line),
            false => written.push_str(&line_within_site(line, page, sources)),
        }
    }
    written
}

fn line_within_site(line: &str, page: &str, sources: Option<&str>) -> String {
    let mut line = line.to_owned();
    let mut from = 0;
    while let Some((open, close, end)) = next_link(&line, from) {
        let label = &line[open + 1..close];
        let link = match led_to(&line[close + 2..end], page) {
            Led::Away => None,
            Led::Within(target) => Some(format!("[{label}]({target})")),
            Led::ToSources(file) => Some(match sources {
                Some(url) => format!("[{label}]({url}/{file})"),
                None => label.to_owned(),
            }),
        };
        from = end;
        if let Some(link) = link {
            from = open + link.len();
            line.replace_range(open..=end, &link);
        }
    }
    line
}

/// Where a link leads.
#[derive(Debug, PartialEq, Eq)]
enum Led {
    /// To somebody else, or within its own page.
    Away,
    /// To a page of the site, by a path from its own.
    Within(String),
    /// To a file of the repository that is not in the site.
    ToSources(String),
}

fn led_to(target: &str, page: &str) -> Led {
    if target.contains("://") || target.starts_with('#') {
        return Led::Away;
    }
    let (path, fragment) = match target.split_once('#') {
        Some((path, fragment)) => (path, format!("#{fragment}")),
        None => (target, String::new()),
    };
    let folder = page.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut parts: Vec<&str> = folder.split('/').collect();
    for part in path.split('/') {
        match part {
            ".." => drop(parts.pop()),
            other => parts.push(other),
        }
    }
    parts.retain(|part| !part.is_empty() && *part != ".");
    let file = parts.join("/");
    let Some(place) = place_of(&file) else {
        return Led::ToSources(format!("{file}{fragment}"));
    };
    let here = place_of(page).unwrap_or_default();
    let up = "../".repeat(here.matches('/').count());
    Led::Within(format!("{up}{place}{fragment}"))
}

/// The next inline link that is not in a code span: its opening bracket, its closing one, and the
/// parenthesis at its end.
fn next_link(line: &str, from: usize) -> Option<(usize, usize, usize)> {
    let mut at = from;
    loop {
        let close = at + line[at..].find("](")?;
        let end = close + line[close..].find(')')?;
        // The label may itself hold code, and an image's label brackets.
        let code = line[..close].matches('`').count() % 2 == 1;
        match line[from..close].rfind('[') {
            Some(open) if !code => return Some((from + open, close, end)),
            _ => at = end,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn links_to_sources_lead_to_the_repository_or_nowhere() {
        for (page, text, with, without) in [
            (
                "docs/x.md",
                "see [a](formats.md#c).\n",
                "see [a](formats.md#c).\n",
                None,
            ),
            (
                "docs/x.md",
                "[`a`](../crates/a.rs) and [b](../README.md#c)",
                "[`a`](u/crates/a.rs) and [b](start.md#c)",
                Some("`a` and [b](start.md#c)"),
            ),
            (
                "README.md",
                "[a](docs/operations.md)",
                "[a](operations.md)",
                None,
            ),
            ("README.md", "![a](docs/flow.svg)", "![a](flow.svg)", None),
            (
                "docs/guides/x.md",
                "[a](../operations.md) [b](y.md)",
                "[a](../operations.md) [b](../guides/y.md)",
                None,
            ),
            (
                "docs/images/x.md",
                "[a](../../fuzz/)",
                "[a](u/fuzz)",
                Some("a"),
            ),
            (
                "docs/x.md",
                "`[a](../b)` [c](https://d.example) [e](#f)",
                "`[a](../b)` [c](https://d.example) [e](#f)",
                None,
            ),
            (
                "docs/x.md",
                "```\n[a](../b)\n```\n[a](../b)\n",
                "```\n[a](../b)\n```\n[a](u/b)\n",
                Some("```\n[a](../b)\n```\na\n"),
            ),
        ] {
            assert_eq!(within_site(text, page, Some("u")), with);
            assert_eq!(within_site(text, page, None), without.unwrap_or(with));
        }
    }

    /// Whatever stays within the site is there.
    #[test]
    fn no_link_of_the_site_is_dead() {
        let files = repository_files().unwrap();
        let places: BTreeSet<String> = files.iter().filter_map(|file| place_of(file)).collect();
        let mut seen = 0;
        for file in files.iter().filter(|file| file.ends_with(".md")) {
            let text = fs::read_to_string(root().join(file)).unwrap();
            let site = within_site(&text, file, None);
            let up = place_of(file).unwrap().matches('/').count();
            let mut fenced = false;
            for line in site.lines() {
                fenced ^= line.trim_start().starts_with("```");
                let mut from = if fenced { line.len() } else { 0 };
                while let Some((_, close, end)) = next_link(line, from) {
                    from = end;
                    let target = line[close + 2..end].split('#').next().unwrap();
                    if target.is_empty() || target.contains("://") {
                        continue;
                    }
                    let inner = target.strip_prefix(&"../".repeat(up));
                    let there = inner.is_some_and(|inner| places.contains(inner));
                    assert!(there, "{target} in {file}");
                    seen += 1;
                }
            }
        }
        assert!(seen > 50, "the pages have moved: {seen}");
    }

    #[test]
    fn each_page_stands_in_the_table_of_contents_once() {
        let docs = root().join("docs");
        let summary = fs::read_to_string(docs.join("SUMMARY.md")).unwrap();
        let mut listed = Vec::new();
        let mut from = 0;
        while let Some((_, close, end)) = next_link(&summary, from) {
            listed.push(summary[close + 2..end].to_owned());
            from = end;
        }
        let known: BTreeSet<String> = listed.iter().cloned().collect();
        assert_eq!(known.len(), listed.len(), "once: {listed:?}");
        let pages = repository_files().unwrap().into_iter();
        let pages = pages.filter(|file| file.ends_with(".md") && file != "docs/SUMMARY.md");
        let pages: BTreeSet<String> = pages.filter_map(|file| place_of(&file)).collect();
        assert_eq!(known, pages);
    }
}
