//! Following the key sets of the log: those that this gateway took itself, and those that another
//! one on the same database took.
//!
//! A key that is revoked was replaced by an earlier key set. So that nothing that it signed in good
//! faith stands behind its revocation, or bears a later time, a change of keys is answered when every
//! gateway that is there has taken it up, and has written what it had signed before. A revocation
//! itself waits for nobody.

use std::sync::Arc;
use std::time::Duration;

use proof::Did;
use proof::keyset::History;
use proof::trust::Role;
use store::StoreError;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::{Keys, KeysError};
use crate::app::App;

/// How often it is looked whether a key that is not here has been brought.
const AGAIN: Duration = Duration::from_secs(2);

/// How long a change of keys is answered later at most because another gateway does not follow: five
/// times as long as one that can needs.
const FOLLOWED: Duration = Duration::from_secs(5);

/// Has this gateway use the keys that the log names, as soon as it names them, whichever gateway
/// has put that there. While one of them is not here it looks for it.
pub async fn follow(app: Arc<App>, mut stopping: watch::Receiver<bool>) {
    if !app.store.is_shared() {
        return;
    }
    let mut said = None;
    loop {
        let taken = {
            let _one = app.keys.changing().await;
            take_up(&app).await
        };
        let wrong = match taken {
            Ok(lacking) => lacking,
            Err(error) => Some(error),
        };
        let wrong = wrong.map(|error| crate::cli::chain(&error));
        match &wrong {
            Some(error) if wrong != said => {
                tracing::error!(error, "the key sets of the log cannot be followed");
            }
            None if said.is_some() => tracing::info!("the keys are those that the log names"),
            _ => {}
        }
        said = wrong;
        tokio::select! {
            () = app.keys.told() => {}
            () = sleep(AGAIN), if said.is_some() => {}
            _ = stopping.wait_for(|stop| *stop) => return,
        }
    }
}

/// Takes up what the log has and is not known here; whoever calls it holds
/// [`super::KeyRing::changing`]. Returns why a key that the log names cannot be used here: the key
/// sets count all the same.
///
/// # Errors
/// When the store does not answer, or holds key sets that do not follow each other.
pub(super) async fn take_up(app: &App) -> Result<Option<KeysError>, KeysError> {
    let keys = app.keys.now();
    let known = keys.history.sets().len();
    let sets = app.store.key_sets().await?;
    let mut lacking = None;
    if sets.len() > known || !keys.lacking.is_empty() {
        let mut history = keys.history.clone();
        for set in sets.iter().skip(known) {
            history.extend(&set.entry, set.leaf_index)?;
        }
        lacking = put_into_use(app, &keys, history);
        // What was signed by the keys before has its place before the others are told.
        drop(app.keys.all_signed().await);
    }
    announce(app).await?;
    Ok(lacking)
}

/// Uses the keys of these key sets from now on. Tokens by a key that they revoke end at once.
/// Returns why a key is not used; the key sets count all the same.
pub(super) fn put_into_use(app: &App, before: &Keys, history: History) -> Option<KeysError> {
    let revoked = newly_revoked(&before.history, &history);
    let folder = app.config.keys_dir();
    let (keys, wrong) = before.clone().under(history, &folder, app.now());
    if (&keys.history, &keys.lacking) != (&before.history, &before.lacking) {
        app.keys.replace(keys);
    }
    for (_, key) in revoked.iter().filter(|(role, _)| *role == Role::Token) {
        app.live.revoke_signed_by(key);
    }
    wrong
}

/// Keys that are revoked, and were not before.
pub(super) fn newly_revoked(before: &History, after: &History) -> Vec<(Role, Did)> {
    let revoked = after.keys().filter(|key| key.revoked.is_some());
    let newly = revoked.filter(|key| before.revoked_at(&key.did).is_none());
    newly.map(|key| (key.role, key.did.clone())).collect()
}

/// Lets the others know which key set is followed here; whoever calls it holds
/// [`super::KeyRing::changing`].
///
/// # Errors
/// The store's.
pub(super) async fn announce(app: &App) -> Result<(), StoreError> {
    let keys = app.keys.now();
    let number = keys.history.sets().last().map_or(0, |last| last.number);
    if keys.lacking.is_empty() && app.keys.announced() < number {
        app.store.took_up(number).await?;
        app.keys.set_announced(number);
    }
    Ok(())
}

/// Waits until every gateway that is there follows this key set, not for long, and returns whether
/// all are known to.
pub(super) async fn others_took_up(app: &App, number: u64) -> bool {
    let mut commits = app.store.commits();
    let waiting = async {
        loop {
            commits.mark_unchanged();
            if app.store.all_took_up(number).await? {
                return Ok::<_, StoreError>(());
            }
            // The sender lives as long as the store.
            let _ = commits.changed().await;
        }
    };
    let follow = matches!(timeout(FOLLOWED, waiting).await, Ok(Ok(())));
    if !follow {
        tracing::warn!(number, "another gateway does not follow this key set yet");
    }
    follow
}
