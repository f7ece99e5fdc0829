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

/// The rows that a test is named after: `hostile::b07_b08_words` after B7 and B8.
fn named_after(test: &str) -> BTreeSet<String> {
    let name = test.rsplit("::").next().unwrap_or_default();
    let row = |word: &str| {
        let (letter, number) = word.split_at_checked(1)?;
        let number: u32 = number.parse().ok()?;
        let letter = letter.to_ascii_uppercase();
        let of = |(table, count): &(char, u32)| letter.starts_with(*table) && number <= *count;
        ROWS.iter().any(of).then(|| format!("{letter}{number}"))
    };
    name.split('_').map_while(row).collect()
}

/// What no test of ours can show, because the control is the deployer's.
const ELSEWHERE: [&str; 1] = ["D15"];

#[test]
fn each_row_has_tests_that_are_named_after_it() {
    let mut named: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for test in tests() {
        for row in named_after(&test) {
            named.entry(row).or_default().insert(test.clone());
        }
    }
    let mut wrong = Vec::new();
    for (row, on_page) in rows(&page()) {
        // A row without a number names no tests that are named after it.
        if named_after(&row).is_empty() || ELSEWHERE.contains(&&*row) {
            continue;
        }
        match named.get(&row) {
            None => wrong.push(format!("{row}: no test is named after it")),
            Some(tests) => wrong.extend(
                tests
                    .difference(&on_page)
                    .map(|test| format!("{row}: {test} is not on the page")),
            ),
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn a_test_is_told_from_other_functions() {
    let text = "#[test]\nfn one() {}\nfn two() {}\n#[tokio::test]\nasync fn three() {}\n";
    assert_eq!(tests_in(text).collect::<Vec<_>>(), ["one", "three"]);
    let after = |test| named_after(test).into_iter().collect::<Vec<_>>();
    assert_eq!(after("runs::b07_b08_x"), ["B7", "B8"]);
    assert_eq!(after("catalogue::d5_what_d6"), ["D5"]);
    assert_eq!(after("runs::b99_x"), [""; 0]);
    let page = "| B1 | `x` | proven by |\n| B2 | a | `m::t`, `n::u` |\n";
    let rows = rows(page);
    assert_eq!(rows["B1"], BTreeSet::new());
    assert_eq!(rows["B2"], ["m::t", "n::u"].map(str::to_owned).into());
}
