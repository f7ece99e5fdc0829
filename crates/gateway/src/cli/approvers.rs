//! `clawgate approvers`: who may approve applies, and with what.

use clap::Subcommand;
use policy::contract::Email;
use serde_json::{Value, json};

use super::term::{self, BOLD, DIM, OFF};
use super::{Failure, Remote};
use crate::passkeys::{MAX_INVITATION_SECONDS, MIN_INVITATION_SECONDS};

/// Invites, lists and removes approvers with passkeys.
#[derive(Debug, Subcommand)]
pub(super) enum Approvers {
    /// Makes a one-time link with which a person enrols a passkey
    #[command(after_help = "\
Examples:
  clawgate approvers invite ada@example.com
  clawgate approvers invite ada@example.com --expires 2h

Whoever opens the link first enrols as this person: send it to nobody else. A new invitation ends
the one before. Which plans the person may approve is the contracts' to say.")]
    Invite {
        /// The person, as contracts name approvers
        #[arg(value_parser = email)]
        email: String,
        /// How long the link is good: minutes, hours or days, as in 30m, 24h, 7d
        #[arg(long, default_value = "24h", value_parser = span)]
        expires: u32,
        #[command(flatten)]
        remote: Remote,
    },
    /// Lists approvers: key files of the configuration, passkeys, open invitations
    #[command(
        after_help = "Examples:\n  clawgate approvers list\n  clawgate approvers list --json"
    )]
    List {
        /// Passkeys that were removed, too
        #[arg(long)]
        removed: bool,
        #[command(flatten)]
        remote: Remote,
    },
    /// Removes a person's passkeys and invitation: nothing they sign counts from then on
    #[command(after_help = "\
Examples:
  clawgate approvers remove ada@example.com
  clawgate approvers remove ada@example.com --passkey pk-0123456789abcdef

What the passkeys signed before stays signed; discard a plan that must not be applied. Key files are
listed in clawgate.toml and removed there.")]
    Remove {
        /// The person
        #[arg(value_parser = email)]
        email: String,
        /// Only this passkey, as `clawgate approvers list` names it
        #[arg(long, value_name = "ID")]
        passkey: Option<String>,
        #[command(flatten)]
        remote: Remote,
    },
}

fn email(text: &str) -> Result<String, String> {
    match Email::new(text) {
        Some(email) => Ok(email.as_str().to_owned()),
        None => Err("not an e-mail address as contracts name approvers".to_owned()),
    }
}

/// How long an invitation is good.
fn span(text: &str) -> Result<u32, String> {
    term::seconds(text)
        .filter(|seconds| (MIN_INVITATION_SECONDS..=MAX_INVITATION_SECONDS).contains(seconds))
        .ok_or_else(|| "give 1m to 7d, as in 30m, 24h or 2d".to_owned())
}

impl Approvers {
    pub(super) async fn run(self) -> Result<(), Failure> {
        match self {
            Self::Invite {
                email,
                expires,
                remote,
            } => invite(&email, expires, &remote).await,
            Self::List { removed, remote } => list(removed, &remote).await,
            Self::Remove {
                email,
                passkey,
                remote,
            } => remove(&email, passkey, &remote).await,
        }
    }
}

async fn invite(email: &str, expires: u32, remote: &Remote) -> Result<(), Failure> {
    let body = json!({ "email": email, "expires_in_seconds": expires });
    let api = remote.connect()?;
    let answer = api.post("/v1/approvers/invite", &body).await?;
    if remote.json {
        term::print_json(&answer);
        return Ok(());
    }
    anstream::println!("{}", term::text(&answer, "link"));
    anstream::eprintln!(
        "Shown this once. Send it to {BOLD}{}{OFF} only; it works once, until {}.",
        term::plain(email),
        term::text(&answer, "expires_at")
    );
    Ok(())
}

async fn list(removed: bool, remote: &Remote) -> Result<(), Failure> {
    let answer = remote.connect()?.get("/v1/approvers").await?;
    if remote.json {
        term::print_json(&answer);
        return Ok(());
    }
    let of = |name: &str| answer[name].as_array().cloned().unwrap_or_default();
    let mut rows = Vec::new();
    for key in of("keys") {
        rows.push(row(&key, "key file", "did", "in clawgate.toml".to_owned()));
    }
    for passkey in of("passkeys") {
        let state = match (&passkey["removed_at"], &passkey["last_used_at"]) {
            (Value::Null, Value::Null) => "never used".to_owned(),
            (Value::Null, _) => format!("used {}", term::text(&passkey, "last_used_at")),
            _ if !removed => continue,
            _ => format!("removed {}", term::text(&passkey, "removed_at")),
        };
        let what = format!("passkey {}", term::text(&passkey, "name"));
        rows.push(row(&passkey, &what, "passkey", state));
    }
    for invitation in of("invitations") {
        let until = format!("until {}", term::text(&invitation, "expires_at"));
        rows.push(row(&invitation, "invitation", "", until));
    }
    let none = "nobody: `clawgate approvers invite EMAIL` makes a link, `clawgate key new` a key";
    term::print_table(&["approver", "with", "id", "state"], &rows, none);
    if !rows.is_empty() {
        anstream::println!("{DIM}which plans each may approve is in the contracts{OFF}");
    }
    Ok(())
}

fn row(value: &Value, what: &str, id: &str, state: String) -> Vec<String> {
    let id = match id {
        "" => String::new(),
        id => term::text(value, id),
    };
    vec![term::text(value, "email"), what.to_owned(), id, state]
}

async fn remove(email: &str, passkey: Option<String>, remote: &Remote) -> Result<(), Failure> {
    let body = json!({ "email": email, "passkey": passkey });
    let api = remote.connect()?;
    let answer = api.post("/v1/approvers/remove", &body).await?;
    if remote.json {
        term::print_json(&answer);
        return Ok(());
    }
    let invitation = match &answer["invitation"] {
        Value::Bool(true) => ", and the invitation",
        _ => "",
    };
    let passkeys = match answer["passkeys"].as_u64() {
        Some(1) => "1 passkey".to_owned(),
        count => format!("{} passkeys", count.unwrap_or_default()),
    };
    anstream::println!("removed {passkeys}{invitation}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_a_unit_and_bounds() {
        assert_eq!(span("30m"), Ok(1800));
        assert_eq!(span("24h"), Ok(86_400));
        assert_eq!(span("7d"), Ok(7 * 86_400));
        for bad in [
            "",
            "m",
            "0m",
            "8d",
            "169h",
            "-1h",
            "+1h",
            "1",
            "1w",
            "1.5h",
            "99999999999d",
        ] {
            assert!(span(bad).is_err(), "{bad}");
        }
        assert!(email("ada@example.com").is_ok());
        assert!(email("ada").is_err());
    }
}
