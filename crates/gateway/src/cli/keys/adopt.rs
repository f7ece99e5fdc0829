//! `clawgate keys adopt`: key sets that name the keys which the configuration names, beside the
//! gateway.

use std::path::Path;

use proof::SigningKey;
use proof::keyset::{History, SignedKeySet};
use proof::trust::Role;
use store::{Conflict, Seat, Store, StoreError};

use super::super::Failure;
use super::super::passphrase::KeyPassphrase;
use super::super::term::{GOOD, OFF};
use super::{not_there_yet, overlap, read_last, write_last};
use crate::app::now;
use crate::config::Config;
use crate::keys::{self, Keys, read_key};
use crate::storage::Place;
use crate::upstream::http_client;

pub(super) async fn adopt(
    config: &Path,
    key: &Path,
    passphrase: &KeyPassphrase,
) -> Result<(), Failure> {
    let mut config = Config::load(config)?;
    passphrase.supply(&mut config)?;
    let root = read_key(key)?;
    let http = http_client(&config)
        .map_err(|error| Failure::new(format!("cannot set up TLS: {error:#}")))?;
    let keys = Keys::open(&config, &http).await?;
    let store = open(&config).await?;
    let mut log = Log::read(&*store, &root).await?;
    if let Some(last) = read_last(key)?
        && let Some(number) = not_there_yet(&log.history, &last)?
    {
        anstream::eprintln!("handing in key set {number}, which was signed before");
        log.append(&last).await?;
    }
    let mut adopted = 0;
    while let Some((role, did)) = keys.differing(&log.history) {
        let at = now();
        let not_after = at.plus_seconds(overlap(role).0.into());
        let set = log
            .history
            .rotate(role, &did, at, not_after)
            .map_err(|error| {
                Failure::new(format!("the {role} key cannot be adopted: {error}"))
                    .next("name a new key in the configuration, or bring the one back that counts")
            })?;
        let entry = SignedKeySet::sign(&set, &root, None)?;
        write_last(key, &entry)?;
        log.append(&entry).await?;
        anstream::println!("{GOOD}done{OFF}  {did} is the {role} key now");
        adopted += 1;
    }
    match adopted {
        0 => anstream::println!("the key sets name the configuration's keys already"),
        _ => anstream::println!(
            "export the trust root again for auditors, witnesses and monitors: clawgate trust export"
        ),
    }
    Ok(())
}

/// Gateways on a database follow what others change. The one on a file does not, and has it to
/// itself.
async fn open(config: &Config) -> Result<std::sync::Arc<dyn Store>, Failure> {
    let place = Place::of(config)
        .await
        .map_err(|error| Failure::new(format!("{error:#}")))?;
    if place.is_missing() {
        let message = format!("there is no store at `{}`", place.name());
        return Err(Failure::new(message).next("give the gateway's own configuration by --config"));
    }
    let seat = match &place {
        Place::File(_) => Seat::Alone,
        Place::Database(_) => Seat::Beside,
    };
    place.open(seat).map_err(|error| match error {
        StoreError::Busy => {
            Failure::new("a gateway uses this store, and would go on with the keys that it has")
                .next("stop it, run this again, and start it")
        }
        error => error.into(),
    })
}

/// The key sets of a log, which one root may add to.
struct Log<'a> {
    store: &'a dyn Store,
    history: History,
}

impl<'a> Log<'a> {
    async fn read(store: &'a dyn Store, root: &SigningKey) -> Result<Self, Failure> {
        let history = keys::history(store).await?;
        match history.current(Role::Keyset) {
            Some(did) if *did == root.did() => Ok(Self { store, history }),
            Some(did) => Err(Failure::new(format!(
                "{} is not the root of this gateway's keys, which is {did}",
                root.did()
            ))
            .next("give the root's key by --key")),
            None => Err(Failure::new("the log has no key set yet")
                .next("start the gateway once with the keys that it has had so far")),
        }
    }

    /// Nothing is written that may not follow.
    async fn append(&mut self, entry: &SignedKeySet) -> Result<(), Failure> {
        let refused = |error: proof::keyset::KeySetError| Failure::new(error.to_string());
        let mut next = self.history.clone();
        let size = self.store.log_size().await?;
        next.extend(entry, size).map_err(refused)?;
        let number = next.sets().len() as u64;
        let appended = self.store.append_key_set(number, entry.clone(), now());
        let leaf = appended.await.map_err(|error| match error.conflict() {
            Some(Conflict::KeySetNumber(_)) => {
                Failure::new("the keys were changed meanwhile").next("run this again")
            }
            _ => error.into(),
        })?;
        self.history.extend(entry, leaf).map_err(refused)
    }
}
