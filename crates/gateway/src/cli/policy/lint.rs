//! `clawgate policy lint`: everything that is wrong with a contract, and what it says in words.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use policy::Contract;
use policy::contract::{ContractError, Issue, PublicationRules, Severity};
use serde_json::{Value, json};

use super::super::Failure;
use super::super::contract_file::{self, ContractFile};
use super::super::term::{self, BAD, GOOD, OFF, WARN};

/// Reads a contract as the gateway will and says what is wrong with it
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  clawgate policy lint contract.json
  clawgate policy lint contract.json --json

Needs no gateway. Exit code 1 when the contract could not be published.")]
pub(in crate::cli) struct Lint {
    /// The contract
    file: PathBuf,
    /// Judge as for a gateway whose configuration says allow_autonomous_apply = true
    #[arg(long)]
    allow_autonomous_apply: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Lint {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let rules = PublicationRules {
            allow_autonomous_apply: self.allow_autonomous_apply,
            ..PublicationRules::default()
        };
        let good = match contract_file::read(&self.file)? {
            ContractFile::Unsound(errors) => {
                if self.json {
                    term::print_json(&unsound(&errors));
                } else {
                    for error in &errors {
                        anstream::println!(
                            "{BAD}error{OFF}    {}",
                            term::plain(&error.to_string())
                        );
                    }
                }
                false
            }
            ContractFile::Sound(contract) => {
                let issues = contract.publication_issues(&rules);
                if self.json {
                    term::print_json(&sound(&contract, &issues));
                } else {
                    print(&contract, &issues);
                }
                publishable(&issues)
            }
        };
        Ok(if good {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

fn publishable(issues: &[Issue]) -> bool {
    issues.iter().all(|issue| issue.severity == Severity::Warns)
}

fn print(contract: &Contract, issues: &[Issue]) {
    for issue in issues {
        let (style, word) = match issue.severity {
            Severity::Blocks => (BAD, "error   "),
            Severity::Warns => (WARN, "warning "),
        };
        anstream::println!(
            "{style}{word}{OFF} {}: {}",
            issue.path,
            term::plain(&issue.message)
        );
    }
    super::print_words(contract);
    anstream::println!("policy_hash_b64u {}", contract.hash());
    if publishable(issues) {
        anstream::println!("{GOOD}ok{OFF} to publish");
    }
}

fn unsound(errors: &[ContractError]) -> Value {
    let errors: Vec<Value> = errors
        .iter()
        .map(|error| json!({ "path": error.path, "message": error.to_string() }))
        .collect();
    json!({ "ok": false, "errors": errors, "issues": [] })
}

fn sound(contract: &Contract, issues: &[Issue]) -> Value {
    let listed: Vec<Value> = issues
        .iter()
        .map(|issue| {
            json!({
                "path": issue.path,
                "severity": match issue.severity {
                    Severity::Blocks => "blocks",
                    Severity::Warns => "warns",
                },
                "code": issue.code,
                "message": issue.message,
            })
        })
        .collect();
    json!({
        "ok": publishable(issues),
        "name": contract.name,
        "policy_hash_b64u": contract.hash(),
        "errors": [],
        "issues": listed,
        "summary": contract.summary(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_fine_and_its_broken_siblings_are_not() {
        let lint = |text: &str| -> Value {
            match Contract::parse(text.as_bytes()) {
                Ok(contract) => {
                    let rules = PublicationRules::default();
                    sound(&contract, &contract.publication_issues(&rules))
                }
                Err(errors) => unsound(&errors.0),
            }
        };
        let example = policy::EXAMPLE_CONTRACT;
        let good = lint(example);
        assert_eq!(good["ok"], true);
        assert_eq!(
            good["policy_hash_b64u"],
            "_SH3H30gj5P8XcFAO1z8xeUAmIDffUMvFHci-MQhJmc"
        );
        for (from, to, says) in [
            ("\"state_read\"", "\"state_raed\"", "state_read"),
            ("\"ws-staging-app\"", "\"ws-*\"", "workspaces"),
            (
                "\"requires_approval\": true",
                "\"requires_approval\": false",
                "AUTONOMOUS",
            ),
            ("\"1.0\"", "\"2.0\"", "wpc_version"),
        ] {
            let bad = lint(&example.replace(from, to));
            assert_eq!(bad["ok"], false, "{to}");
            assert!(bad.to_string().contains(says), "{to}: {bad}");
        }
    }
}
