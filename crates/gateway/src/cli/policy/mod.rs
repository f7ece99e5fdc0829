//! `clawgate policy`: Work Policy Contracts, from the first draft to the registry.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;
use policy::Contract;
use proof::{Envelope, EnvelopeType, Hash};
use serde_json::{Value, json};

use super::term::{self, BOLD, DIM, GOOD, OFF, WARN};
use super::{Failure, Remote, client, contract_file, job, trust};
use crate::{app, keys};

mod check;
mod diff;
mod lint;
mod prove;
mod replay;

/// Checks, publishes and compares Work Policy Contracts.
#[derive(Debug, Subcommand)]
pub(super) enum Policy {
    Lint(lint::Lint),
    Check(check::Check),
    Diff(Box<diff::Diff>),
    Replay(Box<replay::Replay>),

    /// Signs a contract as its second author, for somebody else to publish
    #[command(after_help = "\
Example:
  clawgate policy sign contract.json --author-key second.key > second.json
  clawgate policy publish contract.json --author-key first.key --cosigned second.json

Needs no gateway. Read first what is new: clawgate policy diff HASH contract.json --prove")]
    Sign {
        /// The contract
        file: PathBuf,
        /// The second author's key file
        #[arg(long, value_name = "FILE", visible_alias = "key")]
        author_key: PathBuf,
        /// File to write; standard output without it
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Signs a contract with the author's key and publishes it
    #[command(after_help = "\
Examples:
  clawgate key new author.key
  clawgate policy publish contract.json --author-key author.key

The key's did:key must be listed under [[authors]] in the gateway's configuration. The same
document again changes nothing; a changed one becomes the name's next version. Where the
configuration asks for two authors of a contract that allows more than the version in force, the
second one signs first: clawgate policy sign.")]
    Publish {
        /// The contract
        file: PathBuf,
        /// The author's key file; it is not sent
        #[arg(long, value_name = "FILE", visible_alias = "key")]
        author_key: PathBuf,
        /// The same contract as a second author signed it
        #[arg(long, value_name = "FILE")]
        cosigned: Option<PathBuf>,
        #[command(flatten)]
        remote: Remote,
    },
    /// Lists published contracts
    #[command(after_help = "Example:\n  clawgate policy list")]
    List {
        #[command(flatten)]
        remote: Remote,
    },
    /// Shows a published contract in words, or every version of a name
    #[command(after_help = "\
Examples:
  clawgate policy show _SH3H30gj5P8XcFAO1z8xeUAmIDffUMvFHci-MQhJmc
  clawgate policy show terraform-cloud-staging-only
  clawgate policy show _SH3H… --json | jq .envelope.payload")]
    Show {
        /// A version's hash, or a name
        #[arg(value_name = "HASH|NAME")]
        contract: String,
        #[command(flatten)]
        remote: Remote,
    },
    /// Withdraws a version: no new jobs and tokens, and no more calls under it
    #[command(after_help = "\
Example:
  clawgate policy withdraw _SH3H30gj5P8XcFAO1z8xeUAmIDffUMvFHci-MQhJmc --reason 'too wide'

It stays readable for ever. To tighten a rule, publish the new version first.")]
    Withdraw {
        /// The version's hash
        #[arg(value_parser = hash)]
        hash: Hash,
        /// Why, in your words; it is recorded
        #[arg(long, default_value = "withdrawn")]
        reason: String,
        #[command(flatten)]
        remote: Remote,
    },
}

fn hash(text: &str) -> Result<Hash, String> {
    text.parse()
        .map_err(|_| "not a contract's hash: 43 characters, as `policy list` prints".into())
}

impl Policy {
    pub(super) async fn run(self) -> Result<ExitCode, Failure> {
        match self {
            Self::Lint(lint) => return lint.run(),
            Self::Check(check) => return check.run(),
            Self::Diff(diff) => return diff.run().await,
            Self::Replay(replay) => return replay.run().await,
            Self::Sign {
                file,
                author_key,
                output,
            } => {
                let envelope = signed(&contract_file::read_sound(&file)?, &author_key)?;
                let text = serde_json::to_string_pretty(&envelope).expect("an envelope is JSON");
                trust::write(format!("{text}\n").as_bytes(), output.as_deref())?;
            }
            Self::Publish {
                file,
                author_key,
                cosigned,
                remote,
            } => {
                publish(&file, &author_key, cosigned.as_deref(), &remote).await?;
            }
            Self::List { remote } => list(&remote).await?,
            Self::Show { contract, remote } => show(&contract, &remote).await?,
            Self::Withdraw {
                hash,
                reason,
                remote,
            } => {
                let path = format!("/v1/contracts/{hash}/withdraw");
                let answer = remote
                    .connect()?
                    .post(&path, &json!({ "reason": reason }))
                    .await?;
                if remote.json {
                    term::print_json(&answer);
                } else {
                    anstream::println!("withdrawn: calls under it are refused from now on");
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn signed(contract: &Contract, author_key: &Path) -> Result<Envelope, Failure> {
    let key = keys::read_key(author_key)?;
    let kind = EnvelopeType::WorkPolicyContract;
    Ok(Envelope::sign(kind, contract.json(), &key, app::now())?)
}

/// What a second author signed, which must be this contract.
fn cosigned_for(contract: &Contract, file: &Path) -> Result<Envelope, Failure> {
    let name = file.display();
    let bytes = std::fs::read(file)
        .map_err(|error| Failure::usage(format!("cannot read `{name}`: {error}")))?;
    let odd = |why: String| Failure::new(format!("`{name}` is no signature of it: {why}"));
    let envelope = Envelope::parse(&bytes).map_err(|error| odd(error.to_string()))?;
    let signed = envelope
        .verify::<proof::Json>(EnvelopeType::WorkPolicyContract)
        .map_err(|error| odd(error.to_string()))?;
    match signed.payload_hash == contract.hash() {
        true => Ok(envelope),
        false => Err(odd(format!(
            "it signs {}, and the contract is {}",
            signed.payload_hash,
            contract.hash()
        ))),
    }
}

async fn publish(
    file: &Path,
    author_key: &Path,
    cosigned: Option<&Path>,
    remote: &Remote,
) -> Result<(), Failure> {
    let contract = contract_file::read_sound(file)?;
    let mut body = json!({ "envelope": signed(&contract, author_key)? });
    if let Some(cosigned) = cosigned {
        body["cosigned"] = json!(cosigned_for(&contract, cosigned)?);
    }
    let answer = remote.connect()?.post("/v1/contracts", &body).await?;
    if remote.json {
        term::print_json(&answer);
        return Ok(());
    }
    anstream::println!("{}", term::text(&answer, "policy_hash_b64u"));
    let fate = if answer["existed"] == true {
        "was published before"
    } else {
        "published"
    };
    anstream::eprintln!(
        "{} version {} {GOOD}{fate}{OFF}",
        term::text(&answer, "name"),
        term::text(&answer, "version")
    );
    anstream::eprintln!(
        "next: clawgate job open 'what it is for' --contract {}",
        contract.name
    );
    Ok(())
}

async fn list(remote: &Remote) -> Result<(), Failure> {
    let contracts = remote.connect()?.get("/v1/contracts").await?;
    if remote.json {
        term::print_json(&contracts);
        return Ok(());
    }
    let rows: Vec<Vec<String>> = term::items(&contracts)
        .iter()
        .map(|row| {
            [
                "name",
                "version",
                "policy_hash_b64u",
                "published_at",
                "open_jobs",
            ]
            .map(|name| term::text(row, name))
            .to_vec()
        })
        .collect();
    term::print_table(
        &["name", "latest", "hash", "published", "open jobs"],
        &rows,
        "nothing is published; `clawgate policy publish` does that",
    );
    Ok(())
}

async fn show(contract: &str, remote: &Remote) -> Result<(), Failure> {
    let api = remote.connect()?;
    let Some(hash) = job::named_hash(contract) else {
        let name = client::segment(contract, "a contract's name or hash")?;
        let versions = api.get(&format!("/v1/contracts/by-name/{name}")).await?;
        if remote.json {
            term::print_json(&versions);
            return Ok(());
        }
        let rows: Vec<Vec<String>> = term::items(&versions)
            .iter()
            .map(|row| {
                [
                    "version",
                    "policy_hash_b64u",
                    "published_at",
                    "published_by",
                    "withdrawn_at",
                ]
                .map(|name| term::text(row, name))
                .to_vec()
            })
            .collect();
        term::print_table(
            &["version", "hash", "published", "by", "withdrawn"],
            &rows,
            "none",
        );
        return Ok(());
    };
    let shown = api.get(&format!("/v1/contracts/{hash}")).await?;
    if remote.json {
        term::print_json(&shown);
        return Ok(());
    }
    let contract = verified(&shown, &hash)?;
    anstream::println!("{BOLD}{}{OFF}", contract.name);
    print_words(&contract);
    let facts: Vec<(&str, String)> = [
        "version",
        "published_at",
        "published_by",
        "author_did",
        "second_author_did",
        "withdrawn_at",
    ]
    .map(|name| (name, term::text(&shown, name)))
    .to_vec();
    term::print_facts(&facts);
    Ok(())
}

/// The contract in an answer, after its envelope and its hash have been checked here.
fn verified(answer: &Value, hash: &Hash) -> Result<Contract, Failure> {
    let odd =
        |why: String| Failure::new(format!("the gateway's answer is not that contract: {why}"));
    let envelope: Envelope = serde_json::from_value(answer["envelope"].clone())
        .map_err(|error| odd(error.to_string()))?;
    let signed = envelope
        .verify::<proof::Json>(EnvelopeType::WorkPolicyContract)
        .map_err(|error| odd(error.to_string()))?;
    if signed.payload_hash != *hash {
        return Err(odd("it has another hash".into()));
    }
    Contract::from_json(signed.payload).map_err(|errors| odd(errors.to_string()))
}

/// Prints what a contract allows, one sentence a line.
fn print_words(contract: &Contract) {
    if let Some(description) = &contract.description {
        anstream::println!("{DIM}its author says:{OFF} {}", term::plain(description));
    }
    for line in contract.summary() {
        anstream::println!("{WARN}·{OFF} {}", term::plain(&line));
    }
}

#[cfg(test)]
mod tests {
    use proof::SigningKey;

    use super::*;

    #[test]
    fn an_answer_is_shown_only_when_it_is_that_contract() {
        let contract = Contract::parse(policy::EXAMPLE_CONTRACT.as_bytes()).unwrap();
        let key = SigningKey::from_seed(&[1; 32]);
        let at = proof::Timestamp::from_seconds(1);
        let envelope =
            Envelope::sign(EnvelopeType::WorkPolicyContract, contract.json(), &key, at).unwrap();
        let answer = json!({ "envelope": envelope });
        assert_eq!(
            verified(&answer, &contract.hash()).unwrap().name,
            contract.name
        );
        assert!(verified(&answer, &Hash::of(b"another")).is_err());
        let mut changed = answer;
        changed["envelope"]["payload"]["name"] = "other".into();
        assert!(verified(&changed, &contract.hash()).is_err());
    }
}
