//! Tests about the threat model: each row of the catalogue is on the page, and what the page
//! says is proven by a test is a test.

#![cfg(test)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::cargo::root;

/// How many rows each table of the catalogue has.
const ROWS: [(char, u32); 3] = [('B', 26), ('C', 11), ('D', 17)];

fn page() -> String {
    std::fs::read_to_string(root().join("docs/threat-model.md")).unwrap()
}

/// Every test of the workspace, by the name of its module and its own.
fn tests() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    collect(&root().join("crates"), &mut found);
    found
}

fn collect(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let module = path.file_stem().unwrap().to_str().unwrap();
            found.extend(tests_in(&text).map(|name| format!("{module}::{name}")));
        }
    }
}

/// Functions behind a line that makes them tests, those within `proptest!` included.
fn tests_in(text: &str) -> impl Iterator<Item = &str> {
    let mut is_test = false;
    text.lines().filter_map(move |line| {
        let line = line.trim();
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            is_test = true;
            return None;
        }
        let line = line.strip_prefix("async ").unwrap_or(line);
        let name = line.strip_prefix("fn ")?.split('(').next()?;
        std::mem::take(&mut is_test).then_some(name)
    })
}

/// The rows of the tables that have a number, with the tests that they name.
fn rows(page: &str) -> BTreeMap<String, BTreeSet<String>> {
    let lines = page.lines().filter(|line| line.starts_with("| "));
    lines
        .map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split(" | ").collect();
            let named = cells.last().unwrap_or(&"").split('`').skip(1).step_by(2);
            (
                cells[0].trim().to_owned(),
                named.map(str::to_owned).collect(),
            )
        })
        .collect()
}

#[test]
fn every_row_of_the_catalogue_is_on_the_page() {
    let page = page();
    let rows = rows(&page);
    for (letter, count) in ROWS {
        for number in 1..=count {
            let row = format!("{letter}{number}");
            assert!(rows.contains_key(&row), "{row} is missing");
        }
    }
}

#[test]
fn what_the_page_names_is_a_test() {
    let tests = tests();
    let mut unknown = Vec::new();
    for (row, named) in rows(&page()) {
        for name in named {
            if name.contains("::") && !tests.contains(&name) {
                unknown.push(format!("{row}: {name}"));
            }
        }
    }
    assert_eq!(unknown, Vec::<String>::new());
}

#[test]
fn no_test_of_the_catalogue_is_forgotten() {
    let named: BTreeSet<String> = rows(&page()).into_values().flatten().collect();
    let folder = root().join("crates/gateway/tests/hostile/catalogue");
    let mut ours = BTreeSet::new();
    collect(&folder, &mut ours);
    assert!(ours.len() > 30, "{ours:?}");
    let forgotten: Vec<_> = ours.difference(&named).collect();
    assert_eq!(forgotten, Vec::<&String>::new());
}

#[test]
fn a_test_is_told_from_other_functions() {
    let text = "#[test]\nfn one() {}\nfn two() {}\n#[tokio::test]\nasync fn three() {}\n";
    assert_eq!(tests_in(text).collect::<Vec<_>>(), ["one", "three"]);
    let page = "| B1 | `x` | proven by |\n| B2 | a | `m::t`, `n::u` |\n";
    let rows = rows(page);
    assert_eq!(rows["B1"], BTreeSet::new());
    assert_eq!(rows["B2"], ["m::t", "n::u"].map(str::to_owned).into());
}
