//! What `clawgate policy diff --prove` prints: the answer, a call to try, and every dimension.

use std::process::ExitCode;

use policy::prove::{Answer, CheckCall, Dimension, Proof, Relation, Witness};
use policy::{Contract, Verdict};
use serde_json::{Value, json};

use super::super::term::{self, BAD, BOLD, DIM, GOOD, OFF, WARN};

/// A contract, and how the user named it.
pub(super) struct Named<'a> {
    pub(super) name: &'a str,
    pub(super) contract: &'a Contract,
}

/// Prints the comparison; the exit code says whether anything is newly allowed.
pub(super) fn report(old: &Named<'_>, new: &Named<'_>, as_json: bool) -> ExitCode {
    let proof = policy::prove::prove(old.contract, new.contract);
    if as_json {
        term::print_json(&document(old, new, &proof));
    } else {
        print(old, new, &proof);
    }
    match proof.is_no_wider() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

fn document(old: &Named<'_>, new: &Named<'_>, proof: &Proof) -> Value {
    let witnesses = |found: &[Witness]| -> Vec<Value> { found.iter().map(witness).collect() };
    let dimensions = Dimension::ALL.iter().map(|one| {
        let relation = proof.of(*one);
        json!({ "dimension": one, "relation": relation })
    });
    json!({
        "old": old.contract.hash(),
        "new": new.contract.hash(),
        "relation": proof.relation(),
        "is_wider": !proof.is_no_wider(),
        "newly_allowed": witnesses(&proof.newly_allowed),
        "no_longer_allowed": witnesses(&proof.no_longer_allowed),
        "dimensions": dimensions.collect::<Vec<_>>(),
    })
}

fn witness(one: &Witness) -> Value {
    let answer = |answer: &Answer| json!({ "decision": answer.verdict, "code": answer.code });
    json!({
        "dimension": one.dimension,
        "what": one.question.in_words(),
        "without": answer(&one.refused),
        "with": answer(&one.allowed),
        "call": one.question.call(),
    })
}

fn print(old: &Named<'_>, new: &Named<'_>, proof: &Proof) {
    let (style, says) = match proof.relation() {
        Relation::Equal => (GOOD, "equal: both allow exactly the same"),
        Relation::Narrower => (GOOD, "narrower: the new version allows nothing new"),
        Relation::Wider => (
            BAD,
            "wider: the new version allows what the old one does not",
        ),
        Relation::Changed => (
            BAD,
            "wider: the new version allows what the old one does not, and less elsewhere",
        ),
        Relation::Undecided => (
            WARN,
            "not decided: the patterns are too many to be compared",
        ),
    };
    let (word, rest) = says.split_once(':').unwrap_or((says, ""));
    anstream::println!("{style}{BOLD}{word}{OFF}:{rest}");
    let call = |one: &Witness| Some((one.question.call()?, one.question.in_words()));
    if let Some((call, what)) = proof.newly_allowed.iter().find_map(call) {
        anstream::println!(
            "\n{BOLD}newly allowed{OFF}, for example: {}",
            term::plain(&what)
        );
        for named in [old, new] {
            anstream::println!("  {}", term::plain(&command(named.name, &call)));
        }
        for named in [old, new].into_iter().filter(|named| !is_file(named.name)) {
            let name = named.name;
            anstream::println!(
                "  {DIM}first{OFF}: clawgate policy show {name} --json | jq .envelope.payload > {name}.json"
            );
        }
    }
    anstream::println!();
    for dimension in Dimension::ALL {
        line(proof, *dimension);
    }
    let equal: Vec<&str> = Dimension::ALL
        .iter()
        .filter(|one| proof.of(**one) == Relation::Equal)
        .map(|one| one.name())
        .collect();
    if !equal.is_empty() {
        anstream::println!("{DIM}the same{OFF}: {}", equal.join(", "));
    }
}

fn line(proof: &Proof, dimension: Dimension) {
    let name = dimension.name();
    let of = |found: &'_ [Witness]| {
        let mut found = found.iter();
        let found = found.find(|one| one.dimension == dimension);
        found.map(|one| {
            (
                one.question.in_words(),
                one.refused.clone(),
                one.allowed.clone(),
            )
        })
    };
    if proof.undecided.contains(&dimension) {
        anstream::println!("{WARN}?{OFF} {name}: too much to be decided, and so taken for wider");
    }
    if let Some((what, refused, allowed)) = of(&proof.newly_allowed) {
        let how = change(&refused, &allowed);
        anstream::println!("{BAD}+{OFF} {name}: {}{how}", term::plain(&what));
    }
    if let Some((what, refused, allowed)) = of(&proof.no_longer_allowed) {
        let how = change(&allowed, &refused);
        anstream::println!("{GOOD}-{OFF} {name}: {}{how}", term::plain(&what));
    }
}

/// What becomes of an answer, where it is not just a refusal that goes or comes.
fn change(before: &Answer, after: &Answer) -> String {
    let says = |answer: &Answer| match (answer.verdict, answer.code) {
        (Verdict::Allow, _) => "allowed".to_owned(),
        (_, Some(code)) => code.to_string(),
        (_, None) => "refused".to_owned(),
    };
    match (before.verdict, after.verdict) {
        (Verdict::Allow, Verdict::Allow) => format!("  {DIM}more of it is sent in one{OFF}"),
        _ => format!("  {DIM}{} → {}{OFF}", says(before), says(after)),
    }
}

/// The command that asks about this call, for a POSIX shell.
fn command(contract: &str, call: &CheckCall) -> String {
    let mut words = format!(
        "clawgate policy check {} --method {} --path {}",
        contract_word(contract),
        call.method,
        shell(&call.path)
    );
    for (option, value) in &call.options {
        words.push_str(&format!(" {option}"));
        if let Some(value) = value {
            words.push_str(&format!(" {}", shell(value)));
        }
    }
    match &call.body {
        Some(body) => format!("printf %s {} | {words} --body -", shell(body)),
        None => words,
    }
}

/// `policy check` reads files, so that a published contract is named by a file to be written.
fn contract_word(name: &str) -> String {
    match is_file(name) {
        true => shell(name),
        false => shell(&format!("{name}.json")),
    }
}

fn is_file(name: &str) -> bool {
    std::path::Path::new(name).exists()
}

fn shell(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-:=,@".contains(c);
    match !text.is_empty() && text.chars().all(plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_for_a_shell_are_one_word_each() {
        for (text, word) in [
            ("/api/v2/runs", "/api/v2/runs"),
            ("", "''"),
            ("a b", "'a b'"),
            ("it's", r"'it'\''s'"),
            ("$(x)", "'$(x)'"),
        ] {
            assert_eq!(shell(text), word);
        }
    }
}
