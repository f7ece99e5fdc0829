//! `clawgate keys`: the keys of a running gateway, and the key sets that change them.
//!
//! A key set is made and signed here, by the root's key, which need not be on the gateway's machine.
//! What the gateway says is held against the last key set that this key has signed: a gateway that
//! hid it would get a second one of the same number, and with it a past without a revocation.

mod adopt;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use proof::keyset::{History, KeySet, SignedKeySet};
use proof::trust::Role;
use proof::{Did, SigningKey, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};

use super::passphrase::KeyPassphrase;
use super::term::{self, BOLD, DIM, GOOD, OFF, WARN};
use super::{Failure, OperatorApi, Remote};
use crate::bundles::file;
use crate::keys::{random_key, read_key, write_key};

/// Where `clawgate init` leaves the root's key.
const DEFAULT_KEY: &str = "data/keys/keyset.key";

/// Shortest time for which a replaced key counts, in seconds: what is being signed at the moment
/// must count.
const SHORTEST_OVERLAP: u32 = 60;

/// The same for tokens' keys: no token lives longer.
const SHORTEST_FOR_TOKENS: u32 = 3600;

/// Lists, replaces and revokes the gateway's own keys.
#[derive(Debug, Subcommand)]
pub(super) enum Keys {
    /// Lists the keys: for what, since when, until when
    #[command(after_help = "\
Examples:
  clawgate keys list
  clawgate keys list --all --json")]
    List {
        /// Those that were ended and revoked, too
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        remote: Remote,
    },
    /// Puts a new key in the place of a role's, while the gateway runs
    #[command(after_help = "\
Examples:
  clawgate keys rotate receipt
  clawgate keys rotate checkpoint --overlap 14d
  clawgate keys rotate keyset --key /media/root/keyset.key

The new key is used at once. What the old one signs counts until the overlap is over: an hour, and a
week for checkpoints, which both keys sign meanwhile, so that witnesses and monitors can be given the
new trust root. The root (keyset) changes without an overlap: its key file is replaced.")]
    Rotate {
        /// What the key is for
        role: RoleName,
        /// How long the old key counts: minutes, hours or days, as in 30m, 24h, 7d
        #[arg(long, value_parser = seconds)]
        overlap: Option<u32>,
        #[command(flatten)]
        signing: Signing,
    },
    /// Takes the keys that the configuration names now into use; a gateway on a file is stopped
    #[command(after_help = "\
Examples:
  clawgate keys adopt --config clawgate.toml --key /media/root/keyset.key

For keys that the gateway does not make: those in a module or a service, and sealed files. Name the
new one in the configuration, stop the gateway, run this, and start it. Without it the gateway does
not start, because the key sets name another key. What the old key signs counts for the usual overlap.

Gateways on one PostgreSQL go on: they sign with the old key while that counts. Change the
configuration of each, and restart one after the other before the overlap is over.")]
    Adopt {
        /// The gateway's configuration
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// The root's key
        #[arg(long, value_name = "FILE", default_value = DEFAULT_KEY)]
        key: PathBuf,
        #[command(flatten)]
        passphrase: KeyPassphrase,
    },
    /// Revokes a key that is lost or stolen; one in use is replaced first
    #[command(after_help = "\
Examples:
  clawgate keys revoke did:key:z6Mk… --reason 'laptop stolen'
  clawgate keys revoke did:key:z6Mk… --since 2026-11-20T08:00:00.000Z --reason 'found in a log'
  clawgate keys revoke did:key:z6Mk… --since 41200

Nothing that the key signs counts from now on, and with --since nothing from that place in the log
or that moment on: bundles of jobs in between are not valid any more. Tokens that a revoked token key
has signed are revoked. Then give auditors, witnesses and monitors the new trust root.")]
    Revoke {
        /// The key, as `clawgate keys list` names it
        did: Did,
        /// The first place in the log, or the moment, from which on it must not count
        #[arg(long, value_name = "PLACE|TIME")]
        since: Option<Since>,
        /// Why, for whoever reads the key set
        #[arg(long, default_value = "revoked by an operator")]
        reason: String,
        #[command(flatten)]
        signing: Signing,
    },
}

/// With what a key set is signed.
#[derive(Debug, Args)]
pub(super) struct Signing {
    /// The root's key
    #[arg(long, value_name = "FILE", default_value = DEFAULT_KEY)]
    key: PathBuf,
    #[command(flatten)]
    remote: Remote,
}

/// What a key is for.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum RoleName {
    Receipt,
    Token,
    Checkpoint,
    Close,
    Jobs,
    Keyset,
}

impl From<RoleName> for Role {
    fn from(name: RoleName) -> Self {
        match name {
            RoleName::Receipt => Self::Receipt,
            RoleName::Token => Self::Token,
            RoleName::Checkpoint => Self::Checkpoint,
            RoleName::Close => Self::Close,
            RoleName::Jobs => Self::Jobs,
            RoleName::Keyset => Self::Keyset,
        }
    }
}

/// From when on a key is not to be trusted.
#[derive(Debug, Clone, Copy)]
pub(super) enum Since {
    Place(u64),
    Time(Timestamp),
}

impl std::str::FromStr for Since {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let place = text.parse().map(Self::Place);
        place
            .or_else(|_| text.parse().map(Self::Time))
            .map_err(|_| {
                "give a place in the log, or a time as 2026-11-22T08:00:00.000Z".to_owned()
            })
    }
}

fn seconds(text: &str) -> Result<u32, String> {
    term::seconds(text).ok_or_else(|| "give a time as in 30m, 24h or 7d".to_owned())
}

/// How long a replaced key counts unless somebody says otherwise, and how long at least.
const fn overlap(role: Role) -> (u32, u32) {
    match role {
        Role::Receipt | Role::Close => (3600, SHORTEST_OVERLAP),
        Role::Token => (3600, SHORTEST_FOR_TOKENS),
        Role::Checkpoint => (7 * 86_400, SHORTEST_OVERLAP),
        Role::Jobs | Role::Keyset => (0, 0),
    }
}

impl Keys {
    pub(super) async fn run(self) -> Result<(), Failure> {
        match self {
            Self::List { all, remote } => list(all, &remote).await,
            Self::Rotate {
                role,
                overlap,
                signing,
            } => {
                let mut issuer = Issuer::begin(&signing, None).await?;
                let rotated = issuer.rotate(role.into(), overlap).await?;
                issuer.tell(&[rotated]);
                Ok(())
            }
            Self::Adopt {
                config,
                key,
                passphrase,
            } => adopt::adopt(&config, &key, &passphrase).await,
            Self::Revoke {
                did,
                since,
                reason,
                signing,
            } => revoke(&did, since, &reason, &signing).await,
        }
    }
}

async fn list(all: bool, remote: &Remote) -> Result<(), Failure> {
    let answer = remote.connect()?.get("/v1/keys").await?;
    if remote.json {
        term::print_json(&answer);
        return Ok(());
    }
    let counts =
        |key: &&Value| all || matches!(key["state"].as_str(), Some("current" | "replaced"));
    let mut keys: Vec<&Value> = term::items(&answer["keys"]).iter().filter(counts).collect();
    keys.sort_by_key(|key| key["role"].as_str().unwrap_or_default().to_owned());
    let rows: Vec<Vec<String>> = keys
        .into_iter()
        .map(|key| {
            let end = match key["state"].as_str() {
                Some("revoked") => term::text(key, "revoked_at"),
                _ => term::text(key, "not_after"),
            };
            let [role, state, did, begin] =
                ["role", "state", "did", "not_before"].map(|name| term::text(key, name));
            vec![role, state, did, begin, end]
        })
        .collect();
    let heading = ["role", "state", "key", "since", "until"];
    term::print_table(&heading, &rows, "there is no key set yet");
    if let Some(last) = term::items(&answer["key_sets"]).last() {
        let number = &last["entry"]["key_set"]["payload"]["number"];
        anstream::println!(
            "\n{DIM}key set {number} at place {} of the log{OFF}",
            last["leaf"]
        );
    }
    Ok(())
}

async fn revoke(
    did: &Did,
    since: Option<Since>,
    reason: &str,
    signing: &Signing,
) -> Result<(), Failure> {
    let time = match since {
        Some(Since::Time(time)) => Some(time),
        _ => None,
    };
    let mut issuer = Issuer::begin(signing, time).await?;
    let from_leaf = match since {
        None => None,
        Some(Since::Place(place)) => Some(place),
        Some(Since::Time(_)) => issuer.view.place,
    };
    let known = issuer.history.keys().find(|key| key.did == *did);
    let Some(known) = known.cloned() else {
        return Err(Failure::new(format!("{did} is no key of this gateway"))
            .next("see `clawgate keys list --all`"));
    };
    if known.role == Role::Jobs {
        return Err(
            Failure::new("keys of jobs are not revoked: a job keeps its own to its end")
                .next("clawgate keys rotate jobs, and close the jobs that you do not trust"),
        );
    }
    let mut made = Vec::new();
    if known.is_current() {
        made.push(issuer.rotate(known.role, None).await?);
        // What the key has signed until now was signed before it is revoked.
        issuer.view.now = View::ask(&issuer.api, None).await?.now;
    }
    let set = issuer
        .history
        .revoke(did, issuer.view.now, from_leaf, reason)
        .map_err(|error| Failure::new(error.to_string()))?;
    let key = read_key(&signing.key)?;
    let answer = issuer.submit(&set, &key, None).await?;
    made.push((format!("revoked the {} key {did}", known.role), answer));
    issuer.tell(&made);
    Ok(())
}

/// What the gateway says of its keys.
#[derive(Debug, Deserialize)]
struct View {
    now: Timestamp,
    place: Option<u64>,
    key_sets: Vec<Logged>,
}

impl View {
    async fn ask(api: &OperatorApi, since: Option<Timestamp>) -> Result<Self, Failure> {
        let asked = since.map_or(String::new(), |since| format!("?since={since}"));
        let answer = api.get(&format!("/v1/keys{asked}")).await?;
        serde_json::from_value(answer).map_err(|error| unusable(&error))
    }
}

fn unusable(error: &dyn std::error::Error) -> Failure {
    Failure::new(format!("the gateway's answer cannot be used: {error}")).lasting()
}

#[derive(Debug, Deserialize)]
struct Logged {
    leaf: u64,
    entry: SignedKeySet,
}

/// Makes key sets, one after the other.
struct Issuer<'a> {
    signing: &'a Signing,
    api: OperatorApi,
    view: View,
    history: History,
}

impl<'a> Issuer<'a> {
    /// Asks the gateway for its key sets, and holds them against the last one that was signed here.
    async fn begin(signing: &'a Signing, since: Option<Timestamp>) -> Result<Self, Failure> {
        let key = read_key(&signing.key).map_err(|error| {
            Failure::from(error).next("the root's key is given by --key; `clawgate init` made it")
        })?;
        let api = signing.remote.connect()?;
        let mut this = Self::look(signing, api, since).await?;
        if let Some(last) = read_last(&signing.key)? {
            this.hold_against(last).await?;
        }
        match this.history.current(Role::Keyset) {
            Some(root) if *root == key.did() => Ok(this),
            Some(root) => Err(Failure::new(format!(
                "`{}` is not the root of this gateway's keys, which is {root}",
                signing.key.display()
            ))
            .next("give the root's key by --key")),
            None => Err(Failure::new("the gateway has no key set yet")),
        }
    }

    async fn look(
        signing: &'a Signing,
        api: OperatorApi,
        since: Option<Timestamp>,
    ) -> Result<Self, Failure> {
        let view = View::ask(&api, since).await?;
        let mut history = History::default();
        for set in &view.key_sets {
            history
                .extend(&set.entry, set.leaf)
                .map_err(|error| unusable(&error))?;
        }
        Ok(Self {
            signing,
            api,
            view,
            history,
        })
    }

    /// The last key set that was signed with this key is in the log, or goes there first: there are
    /// never two of one number.
    async fn hold_against(&mut self, last: SignedKeySet) -> Result<(), Failure> {
        let Some(number) = not_there_yet(&self.history, &last)? else {
            return Ok(());
        };
        anstream::eprintln!("handing in key set {number}, which was signed before");
        self.hand_in(&last).await?;
        Ok(())
    }

    /// A new key for a role.
    async fn rotate(&mut self, role: Role, asked: Option<u32>) -> Result<(String, Value), Failure> {
        let (usual, least) = overlap(role);
        let seconds = asked.unwrap_or(usual);
        if seconds < least {
            let message = format!("a replaced {role} key counts for {least} seconds at least");
            return Err(Failure::usage(message).next("revoke a key that must not count any more"));
        }
        let key = read_key(&self.signing.key)?;
        let successor = match role {
            Role::Keyset => Some(self.next_root()?),
            _ => None,
        };
        let did = match &successor {
            Some(successor) => successor.did(),
            None => {
                let body = json!({ "role": role.as_str() });
                let answer = self.api.post("/v1/keys/prepare", &body).await?;
                let did = answer["did"].as_str().and_then(|did| did.parse().ok());
                did.ok_or_else(|| Failure::new("the gateway prepared no key").lasting())?
            }
        };
        let not_after = self.view.now.plus_seconds(seconds.into());
        let set = self
            .history
            .rotate(role, &did, self.view.now, not_after)
            .map_err(|error| Failure::new(error.to_string()))?;
        let answer = self.submit(&set, &key, successor.as_ref()).await?;
        if successor.is_some() {
            let next = next_file(&self.signing.key);
            std::fs::rename(&next, &self.signing.key).map_err(|error| {
                let message = format!(
                    "the new root counts, and its key is still in `{}`: {error}",
                    next.display()
                );
                Failure::new(message).next("put it in the place of the old one")
            })?;
        }
        Ok((format!("{did} is the {role} key now"), answer))
    }

    /// The key that takes the root's place; one that was made before is used.
    fn next_root(&self) -> Result<SigningKey, Failure> {
        let next = next_file(&self.signing.key);
        if !next.exists() {
            write_key(&next, &random_key())?;
        }
        Ok(read_key(&next)?)
    }

    /// Signs a key set, remembers it, and hands it in.
    async fn submit(
        &mut self,
        set: &KeySet,
        key: &SigningKey,
        successor: Option<&SigningKey>,
    ) -> Result<Value, Failure> {
        let entry = SignedKeySet::sign(set, key, successor)
            .map_err(|error| Failure::new(error.to_string()))?;
        write_last(&self.signing.key, &entry)?;
        self.hand_in(&entry).await
    }

    async fn hand_in(&mut self, entry: &SignedKeySet) -> Result<Value, Failure> {
        let answer = self
            .api
            .post("/v1/keys", &json!({ "entry": entry }))
            .await?;
        let leaf = answer["leaf"].as_u64();
        let leaf = leaf.ok_or_else(|| Failure::new("the gateway names no place").lasting())?;
        self.history
            .extend(entry, leaf)
            .map_err(|error| Failure::new(error.to_string()).lasting())?;
        Ok(answer)
    }

    fn tell(&self, made: &[(String, Value)]) {
        if self.signing.remote.json {
            let sets: Vec<&Value> = made.iter().map(|(_, answer)| answer).collect();
            term::print_json(&json!({ "key_sets": sets }));
            return;
        }
        for (what, answer) in made {
            let (number, leaf) = (&answer["number"], &answer["leaf"]);
            anstream::println!(
                "{GOOD}done{OFF}  {} {DIM}(key set {number} at place {leaf}){OFF}",
                term::plain(what)
            );
            if let Some(tokens @ 1..) = answer["tokens_revoked"].as_u64() {
                anstream::println!("      {tokens} tokens that it had signed are revoked");
            }
            if answer["followed_by_all"] == false {
                anstream::println!(
                    "      {WARN}not yet{OFF} by every gateway on the database: bring the new key to the \
                     others (ROLE.key in data/keys); their logs and GET /readyz say what is missing"
                );
            }
        }
        anstream::eprintln!(
            "{BOLD}Next:{OFF} give auditors, witnesses and monitors the new trust root: clawgate trust \
             export -o trust.json"
        );
    }
}

fn hidden(number: u64) -> Failure {
    Failure::new(format!(
        "key set {number} was signed here, and the gateway's log has another one or none: signing \
         one more would make two pasts"
    ))
    .next("find out why before anything is signed: a restored backup, or a gateway that hides it")
    .lasting()
}

/// The number of the last key set that was signed with a key, when the log does not have it yet:
/// it goes there before another one is signed, so that there are never two of one number.
fn not_there_yet(history: &History, last: &SignedKeySet) -> Result<Option<u64>, Failure> {
    let verified = last.verify().map_err(|error| {
        Failure::new(format!(
            "the last key set signed here cannot be read: {error}"
        ))
    })?;
    let (number, hash) = (verified.set.number, verified.hash);
    let sets = history.sets();
    match sets.iter().find(|set| set.number == number) {
        Some(known) if known.hash == hash => Ok(None),
        None if number == sets.len() as u64 + 1 => Ok(Some(number)),
        _ => Err(hidden(number)),
    }
}

fn next_file(key: &Path) -> PathBuf {
    beside(key, "next")
}

fn last_file(key: &Path) -> PathBuf {
    beside(key, "last.json")
}

fn beside(key: &Path, what: &str) -> PathBuf {
    let mut name = key.to_owned().into_os_string();
    name.push(".");
    name.push(what);
    name.into()
}

/// The last key set that was signed with a key.
fn read_last(key: &Path) -> Result<Option<SignedKeySet>, Failure> {
    let path = last_file(key);
    match std::fs::read(&path) {
        Ok(bytes) => SignedKeySet::parse(&bytes).map(Some).map_err(|error| {
            Failure::new(format!("`{}` is not a key set: {error}", path.display()))
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => {
            let message = format!("cannot read `{}`: {error}", path.display());
            Err(Failure::new(message))
        }
    }
}

fn write_last(key: &Path, entry: &SignedKeySet) -> Result<(), Failure> {
    let path = last_file(key);
    let whole = std::path::absolute(&path);
    whole
        .and_then(|path| file::write(&path, &entry.to_jcs(), 0o600))
        .map_err(|error| Failure::new(format!("cannot write `{}`: {error}", path.display())))
}
