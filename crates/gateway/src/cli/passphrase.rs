//! The passphrase of sealed key files: from a file, or from whoever sits at the terminal.

use std::io::IsTerminal;
use std::path::PathBuf;

use clap::Args;
use console::Term;

use super::Failure;
use crate::config::Config;
use crate::keys::asks_for_passphrase;
use crate::secret::{Secret, SecretSource};

/// Shortest passphrase that is set, in characters.
const MIN_CHARS: usize = 12;

/// Where the passphrase is.
#[derive(Debug, Default, Args)]
pub(super) struct KeyPassphrase {
    /// File with the passphrase of the sealed keys
    #[arg(long, value_name = "FILE")]
    key_passphrase_file: Option<PathBuf>,
}

impl KeyPassphrase {
    /// Where the configuration finds it: in the file that was named, or, when nobody says where
    /// it is, in what is typed now.
    pub(super) fn supply(&self, config: &mut Config) -> Result<(), Failure> {
        if let Some(file) = &self.key_passphrase_file {
            config.keys.passphrase = Some(SecretSource::File(file.clone()));
        }
        if at_a_terminal() && asks_for_passphrase(config).unwrap_or_default() {
            config.keys.typed = Some(ask("Passphrase of the gateway's keys: ")?);
        }
        Ok(())
    }

    /// One that is to be set.
    pub(super) async fn set(&self) -> Result<Secret, Failure> {
        let passphrase = match &self.key_passphrase_file {
            Some(file) => {
                let fetched = SecretSource::File(file.clone()).fetch_passphrase().await;
                fetched.map_err(|error| Failure::new(error.to_string()))?
            }
            None if at_a_terminal() => {
                let first = ask("A passphrase for the gateway's keys: ")?;
                let second = ask("The same once more: ")?;
                if !first.matches(second.expose()) {
                    return Err(Failure::new("the two are not the same"));
                }
                first
            }
            None => {
                return Err(
                    Failure::new("there is no terminal to ask for a passphrase at")
                        .next("--key-passphrase-file FILE"),
                );
            }
        };
        if passphrase.expose().chars().count() < MIN_CHARS {
            return Err(Failure::new(format!(
                "the passphrase is too short: {MIN_CHARS} characters at least"
            ))
            .next("take several words, or 20 random characters"));
        }
        Ok(passphrase)
    }
}

fn at_a_terminal() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

fn ask(question: &str) -> Result<Secret, Failure> {
    let terminal = Term::stderr();
    let asked = terminal.write_str(question);
    let typed = asked.and_then(|()| terminal.read_secure_line());
    let typed = typed.map_err(|error| Failure::new(format!("cannot ask: {error}")))?;
    Ok(Secret::new(typed))
}
