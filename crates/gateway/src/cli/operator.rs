//! `clawgate operator`: who may use the operator listener. Works on the store, so it runs where
//! the gateway runs.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Subcommand;
use policy::contract::Email;
use store::{Seat, Store};
use zeroize::Zeroizing;

use super::{Failure, term};
use crate::app;
use crate::config::Config;
use crate::operator::audit::{Action, audited};
use crate::operator::credential::{self, Role};
use crate::storage::Place;

/// Adds, lists and removes operators; run it beside the gateway.
#[derive(Debug, Subcommand)]
pub enum Operator {
    /// Adds an operator and prints the credential, once
    #[command(after_help = "\
Examples:
  clawgate operator add alice --role issuer --email alice@example.com
  clawgate operator add ci --role author > ci.credential

The address says who is behind the operator: what a person opens, the same person does not
approve. Only the credential's hash is kept: a lost one is replaced by a new operator.")]
    Add {
        /// The name under which acts are recorded
        name: String,
        /// What the operator may do: admin, author, issuer, approver, auditor or monitor; repeatable
        #[arg(long = "role", value_name = "ROLE", required = true, value_parser = role)]
        roles: Vec<Role>,
        /// The person behind it, as contracts name approvers
        #[arg(long, value_name = "ADDRESS", value_parser = email)]
        email: Option<Email>,
        /// The configuration file
        #[arg(long, value_name = "FILE", default_value = "clawgate.toml")]
        config: PathBuf,
    },
    /// Says who is behind an operator, for jobs that it opens from then on
    #[command(after_help = "Example:\n  clawgate operator email alice alice@example.com")]
    Email {
        /// The operator's name
        name: String,
        /// The person's address, as contracts name approvers
        #[arg(value_name = "ADDRESS", value_parser = email)]
        address: Email,
        /// The configuration file
        #[arg(long, value_name = "FILE", default_value = "clawgate.toml")]
        config: PathBuf,
    },
    /// Lists operators
    #[command(after_help = "Example:\n  clawgate operator list --config clawgate.toml")]
    List {
        /// The configuration file
        #[arg(long, value_name = "FILE", default_value = "clawgate.toml")]
        config: PathBuf,
    },
    /// Removes an operator: the credential is refused from then on
    #[command(after_help = "Example:\n  clawgate operator remove alice")]
    Remove {
        /// The name
        name: String,
        /// The configuration file
        #[arg(long, value_name = "FILE", default_value = "clawgate.toml")]
        config: PathBuf,
    },
}

fn email(text: &str) -> Result<Email, String> {
    Email::new(text).ok_or_else(|| "not an e-mail address as contracts name approvers".to_owned())
}

fn unknown(name: &str) -> Failure {
    Failure::new(format!("no operator `{}`", term::plain(name)))
        .next("`clawgate operator list` shows them")
}

fn role(text: &str) -> Result<Role, String> {
    text.parse()
        .map_err(|error: credential::UnknownRole| error.to_string())
}

impl Operator {
    pub(super) async fn run(self) -> Result<(), Failure> {
        match self {
            Self::Add {
                name,
                roles,
                email,
                config,
            } => {
                let store = open(&config).await?;
                let credential = add(&*store, &name, email.as_ref(), &roles).await?;
                anstream::println!("{}", *credential);
                anstream::eprintln!("Shown this once; the gateway keeps its hash only.");
                Ok(())
            }
            Self::Email {
                name,
                address,
                config,
            } => {
                let store = open(&config).await?;
                let detail = vec![("email", address.to_string())];
                noted(&*store, "operator.email", &name, detail, async {
                    match store.set_operator_email(&name, address.as_str()).await? {
                        true => Ok(()),
                        false => Err(unknown(&name)),
                    }
                })
                .await?;
                anstream::println!("{} is {address}", term::plain(&name));
                Ok(())
            }
            Self::List { config } => {
                let operators = open(&config).await?.operators().await?;
                let rows: Vec<Vec<String>> = operators
                    .iter()
                    .map(|operator| {
                        vec![
                            term::plain(&operator.name),
                            operator.roles.join(" "),
                            credential::person(operator)
                                .map_or_else(|| "-".to_owned(), |email| email.to_string()),
                            operator.created_at.to_string(),
                        ]
                    })
                    .collect();
                term::print_table(&["name", "roles", "person", "added"], &rows, "no operators");
                Ok(())
            }
            Self::Remove { name, config } => {
                let store = open(&config).await?;
                noted(&*store, "operator.remove", &name, Vec::new(), async {
                    match store.remove_operator(&name).await? {
                        true => Ok(()),
                        false => Err(unknown(&name)),
                    }
                })
                .await?;
                anstream::println!("removed");
                Ok(())
            }
        }
    }
}

async fn open(config: &std::path::Path) -> Result<Arc<dyn Store>, Failure> {
    let config = Config::load(config)?;
    let place = Place::of(&config)
        .await
        .map_err(|error| Failure::new(format!("{error:#}")))?;
    if place.is_missing() {
        return Err(Failure::new(format!("no store at `{}`", place.name()))
            .next("`clawgate init` makes one"));
    }
    Ok(place.open(Seat::Beside)?)
}

/// Adds an operator and gives the credential, of which only the hash is stored.
///
/// # Errors
/// When the name is taken or unusable, or the store cannot be written.
pub async fn add(
    store: &dyn Store,
    name: &str,
    email: Option<&Email>,
    roles: &[Role],
) -> Result<Zeroizing<String>, Failure> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._@+-".contains(&b);
    if name.is_empty() || name.len() > 128 || !name.bytes().all(plain) {
        return Err(Failure::usage(format!(
            "an operator's name is letters, digits and . _ @ + -, not `{}`",
            term::plain(name)
        )));
    }
    let roles_given: Vec<&str> = roles.iter().map(|role| role.as_str()).collect();
    let mut detail = vec![("roles", roles_given.join(" "))];
    detail.extend(email.map(|email| ("email", email.to_string())));
    noted(store, "operator.add", name, detail, async {
        Ok(credential::add(store, name, email, roles, app::now()).await?)
    })
    .await
}

/// Notes what is done beside the gateway, where nobody shows a credential, and does it.
async fn noted<T>(
    store: &dyn Store,
    what: &'static str,
    name: &str,
    detail: Vec<(&'static str, String)>,
    effect: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let action = Action {
        operator: "command line",
        name: what,
        subject: name.to_owned(),
        detail,
        at: app::now(),
    };
    audited(store, action, effect).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_done_beside_the_gateway_is_noted_too() {
        let store = store::open_sqlite_in_memory().unwrap();
        let ada = Email::new("ada@example.com");
        let credential = add(&*store, "ada", ada.as_ref(), &[Role::Issuer]).await;
        assert!(credential.is_ok());
        assert!(add(&*store, "ada", None, &[Role::Admin]).await.is_err());
        let actions = store.operator_actions(10).await.unwrap();
        let said: Vec<(&str, &str, bool)> = actions
            .iter()
            .map(|action| {
                let failed = action.detail.get("failed").is_some();
                (action.action.as_str(), action.subject.as_str(), failed)
            })
            .collect();
        let (done, failed) = (
            ("operator.add", "ada", false),
            ("operator.add", "ada", true),
        );
        assert_eq!(said, [failed, done, done], "newest first");
        let detail = &actions[2].detail;
        let email = detail.get("email").and_then(|email| email.as_str());
        assert_eq!(email, Some("ada@example.com"));
        let credential = credential.ok().unwrap();
        assert!(!format!("{actions:?}").contains(credential.as_str()));
    }
}
