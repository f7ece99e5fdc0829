use std::process::{Command, Stdio};

use proptest::prelude::*;
use proptest::strategy::ValueTree;

use super::*;

const LONG: usize = 256;

fn language(allow: &[&str], deny: &[&str]) -> Language {
    Language {
        allow: globs(allow),
        deny: globs(deny),
    }
}

#[test]
fn a_shortest_name_that_only_one_has() {
    for (allow, deny, other_allow, other_deny, expected) in [
        (&["aws_*"][..], &[][..], &["aws_*"][..], &[][..], None),
        (&["aws_s3*"], &[], &["aws_*"], &[], None),
        (&["aws_*"], &[], &["aws_s3*"], &[], Some("aws_")),
        (&["*"], &[], &["?*"], &[], None),
        (&["??*"], &[], &["?*?"], &[], None),
        (&["?"], &[], &["a"], &[], Some("b")),
        (&["*a*"], &[], &["a*", "*a"], &[], Some("bab")),
        (&["a*b*c"], &[], &["a*c"], &[], None),
        (&["a*c"], &[], &["a*b*c"], &[], Some("ac")),
        // What one denies the other need not allow.
        (&["aws_*"], &["aws_iam_*"], &["aws_*"], &["aws_iam_*"], None),
        (
            &["aws_*"],
            &["aws_iam_*"],
            &["aws_*"],
            &["aws_*"],
            Some("aws_"),
        ),
        (&["aws_*"], &["aws_i*"], &["aws_*"], &["aws_iam_*"], None),
        (
            &["aws_*"],
            &["aws_iam_*"],
            &["aws_*"],
            &["aws_i*"],
            Some("aws_i"),
        ),
        (&["aws_iam_*"], &["aws_*"], &[], &[], None),
        (&["*"], &[], &["a*", "*"], &["b"], Some("b")),
        (&["gpt-?"], &["gpt-5"], &["gpt-4"], &[], Some("gpt-a")),
        (&["exact"], &[], &[], &[], Some("exact")),
        (&["*"], &[], &[], &[], Some("a")),
        (&[], &[], &[], &[], None),
    ] {
        let found = language(allow, deny).beyond(&language(other_allow, other_deny), LONG);
        assert_eq!(
            found.unwrap().as_deref(),
            expected,
            "{allow:?} - {deny:?} beyond {other_allow:?} - {other_deny:?}"
        );
    }
}

#[test]
fn a_name_that_both_have() {
    for (allow, deny, other, expected) in [
        (&["a*"][..], &[][..], &["*b"][..], Some("ab")),
        (&["a*"], &["ab"], &["*b"], Some("aab")),
        (&["a*"], &[], &["b*"], None),
        (&["*"], &[], &["*"], Some("c")),
    ] {
        let found = language(allow, deny)
            .shared(&language(other, &[]), LONG)
            .unwrap();
        let known = found
            .as_deref()
            .is_none_or(|word| language(allow, deny).has(word));
        assert!(known, "{found:?}");
        // Which letter stands for the others is not promised.
        assert_eq!(
            found.map(|w| w.len()),
            expected.map(str::len),
            "{allow:?} {other:?}"
        );
    }
}

#[test]
fn a_bound_on_the_length_is_kept() {
    let (wide, narrow) = (language(&["abc*"], &[]), language(&["xyz"], &[]));
    assert_eq!(wide.beyond(&narrow, 2), Ok(None));
    assert_eq!(wide.beyond(&narrow, 3), Ok(Some("abc".into())));
}

#[test]
fn what_is_too_much_is_undecided_and_never_no() {
    // Which of these words stood in the last forty characters has to be remembered for each.
    let hard: Vec<String> = (0..12)
        .map(|n| format!("*{}a{}*", "b".repeat(n), "?".repeat(9)))
        .collect();
    let hard: Vec<&str> = hard.iter().map(String::as_str).collect();
    let found = language(&["*"], &[]).beyond(&language(&["*"], &hard), LONG);
    // Here a word is found; there is none when the rest is allowed again.
    assert!(found.unwrap().is_some());
    let all: Vec<&str> = hard.iter().copied().chain(["*"]).collect();
    assert_eq!(
        language(&["*"], &[]).beyond(&language(&all, &[]), LONG),
        Ok(None)
    );
    let none = language(&["*a??????????????????"], &[]);
    let other = language(&["*a??????????????????b", "*b??????????????????"], &[]);
    let both = language(&["*a????????????????????*c"], &["*a??????????????????"]);
    for (one, two) in [(&none, &other), (&both, &other)] {
        match one.beyond(two, LONG) {
            Ok(Some(word)) => assert!(one.has(&word) && !two.has(&word)),
            Ok(None) => panic!("{one:?} has more than {two:?}"),
            Err(Undecided) => {}
        }
    }
}

fn pattern() -> impl Strategy<Value = String> {
    proptest::collection::vec(proptest::sample::select(vec!["a", "b", "*", "?"]), 1..6)
        .prop_map(|parts| parts.concat())
}

fn any_language() -> impl Strategy<Value = Language> {
    let patterns = || proptest::collection::vec(pattern(), 0..4);
    (patterns(), patterns()).prop_map(|(allow, deny)| {
        let globs = |texts: Vec<String>| texts.iter().map(|t| Glob::new(t).unwrap()).collect();
        Language {
            allow: globs(allow),
            deny: globs(deny),
        }
    })
}

/// Every word over three letters with 1 to 7 of them, shortest first.
fn words() -> Vec<String> {
    let mut words = vec![String::new()];
    let mut all = Vec::new();
    for _ in 0..7 {
        words = words
            .iter()
            .flat_map(|word| ["a", "b", "c"].map(|letter| format!("{word}{letter}")))
            .collect();
        all.extend(words.iter().cloned());
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Against all words over the two letters of the patterns and one more: what is found is
    /// there and nothing is shorter, and what is not found is not there.
    #[test]
    fn agrees_with_every_short_word(one in any_language(), two in any_language()) {
        let words = words();
        for within in [true, false] {
            let expected = words.iter().find(|word| one.has(word) && two.has(word) == within);
            let found = one.first(&two, within, LONG).unwrap();
            if let Some(word) = &found {
                prop_assert!(one.has(word) && two.has(word) == within, "{word}");
            }
            match expected {
                Some(expected) => prop_assert_eq!(found.map(|f| f.len()), Some(expected.len())),
                None => prop_assert!(found.is_none_or(|word| word.len() > 7)),
            }
        }
    }
}

/// The same question in SMT-LIB's theory of strings.
fn smt(one: &Language, two: &Language) -> String {
    let expression = |glob: &Glob| {
        let parts = glob.as_str().chars().map(|c| match c {
            '*' => "re.all".to_owned(),
            '?' => "re.allchar".to_owned(),
            other => format!("(str.to_re \"{other}\")"),
        });
        // One more operand, so that there are always two.
        format!(
            "(re.++ (str.to_re \"\") {})",
            parts.collect::<Vec<_>>().join(" ")
        )
    };
    let listed = |globs: &[Glob]| {
        let tests = globs
            .iter()
            .map(|glob| format!("(str.in_re w {})", expression(glob)));
        format!("(or false false {})", tests.collect::<Vec<_>>().join(" "))
    };
    let has = |language: &Language| {
        let (allow, deny) = (listed(&language.allow), listed(&language.deny));
        format!("(and {allow} (not {deny}))")
    };
    format!(
        "(push)\n(assert (not (= w \"\")))\n(assert {})\n(assert (not {}))\n(check-sat)\n(pop)\n",
        has(one),
        has(two)
    )
}

/// A solver that somebody else wrote gives the same answers, where it is installed
/// (`apt-get install cvc5`).
#[test]
fn agrees_with_a_solver() {
    if Command::new("cvc5").arg("--version").output().is_err() {
        assert!(
            std::env::var_os("CI").is_none(),
            "in CI, cvc5 must be on PATH (`apt-get install cvc5`)"
        );
        eprintln!("skipped: cvc5 is not on PATH");
        return;
    }
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut questions = String::from("(set-logic QF_S)\n(declare-const w String)\n");
    let mut expected = Vec::new();
    for _ in 0..150 {
        let mut draw = || any_language().new_tree(&mut runner).unwrap().current();
        let (one, two) = (draw(), draw());
        questions.push_str(&smt(&one, &two));
        let found = one.beyond(&two, LONG).unwrap();
        expected.push(if found.is_some() { "sat" } else { "unsat" });
    }
    let file = std::env::temp_dir().join(format!("globs-{}.smt2", std::process::id()));
    std::fs::write(&file, questions).unwrap();
    let answer = Command::new("cvc5")
        .arg("--incremental")
        .arg(&file)
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    std::fs::remove_file(&file).unwrap();
    let answer = String::from_utf8(answer.stdout).unwrap();
    assert_eq!(answer.lines().collect::<Vec<_>>(), expected);
}
