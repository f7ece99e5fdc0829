//! Taking a new key set: into the log, and into use.

use policy::{ReasonCode, Refusal};
use proof::keyset::{History, SignedKeySet};
use proof::trust::Role;
use proof::{Did, Timestamp};
use store::{Conflict, StoreError};

use super::follow::{announce, newly_revoked, others_took_up, put_into_use, take_up};
use super::sets::{HELD, waiting};
use super::{Keys, KeysError, Replaced};
use crate::app::App;
use crate::clawscope;
use crate::operator::audit::{Action, audited};

/// How far ahead of the gateway's clock the time of a key set may be, in seconds.
const CLOCK_SECONDS: i64 = 300;

/// What became of a key set.
#[derive(Debug)]
pub struct Changed {
    /// Its number.
    pub number: u64,
    /// Its place in the log.
    pub leaf: u64,
    /// How many tokens were revoked with the key that had signed them.
    pub tokens_revoked: u64,
    /// Whether every gateway uses its keys by now.
    pub followed_by_all: bool,
}

/// Why a key set was not taken.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// It is none that may follow, or its keys are not here.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The store did not take it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The key set counts, and the files of its keys cannot be used.
    #[error("the key set counts, but its keys cannot be used")]
    Keys(#[from] KeysError),
}

/// Takes a key set that operators have signed: it becomes a leaf of the log, and its keys are used
/// from then on. Tokens that a revoked key has signed are revoked.
///
/// # Errors
/// See [`ChangeError`].
pub async fn change(
    app: &App,
    operator: &str,
    entry: SignedKeySet,
) -> Result<Changed, ChangeError> {
    let _one = app.keys.changing().await;
    // Another gateway may have changed them.
    take_up(app).await?;
    let (keys, now) = (app.keys.now(), app.now());
    let size = app.store.log_size().await?;
    let mut expected = keys.history.clone();
    expected
        .extend(&entry, size)
        .map_err(|error| refused(error.to_string()))?;
    check(app, &keys, &expected, now)?;
    let newly_revoked = newly_revoked(&keys.history, &expected);
    let last = expected.sets().last().expect("one was added");
    let action = Action {
        operator,
        name: "keys.change",
        subject: format!("key set {}", last.number),
        detail: vec![("key_set_hash_b64u", last.hash.to_string())],
        at: now,
    };
    let number = last.number;
    // What is signed by a key that this ends has its place before it.
    let all_signed = app.keys.all_signed().await;
    if all_signed.is_none() {
        tracing::warn!("a signer hangs; what it signs now may not count any more");
    }
    let appending = async {
        let appended = app.store.append_key_set(number, entry.clone(), now).await;
        appended.map_err(|error| match error.conflict() {
            Some(Conflict::KeySetNumber(_)) => Refusal::from(ReasonCode::KeySetConflict).into(),
            _ => ChangeError::Store(error),
        })
    };
    let leaf = audited(&*app.store, action, appending).await?;
    let mut history = keys.history.clone();
    history
        .extend(&entry, leaf)
        .map_err(|error| ChangeError::Keys(error.into()))?;
    let lacking = put_into_use(app, &keys, history);
    drop(all_signed);
    tracing::info!(number, leaf, operator, "the gateway's keys were changed");
    // One that was lacking before is for whoever brings it.
    let is_new = |lack: &Replaced| keys.history.current(lack.role) != Some(&lack.by);
    match lacking {
        Some(error) if app.keys.now().lacking.iter().any(is_new) => return Err(error.into()),
        _ => {}
    }
    if let Err(error) = announce(app).await {
        tracing::warn!(%error, "the others are not told yet which keys are used here");
        app.keys.tell();
    }
    let mut tokens_revoked = 0;
    for (role, key) in newly_revoked {
        if role == Role::Token {
            tokens_revoked += revoke_tokens(app, operator, &key).await?;
        }
    }
    Ok(Changed {
        number,
        leaf,
        tokens_revoked,
        followed_by_all: others_took_up(app, number).await,
    })
}

fn refused(detail: String) -> Refusal {
    Refusal::new(ReasonCode::KeySetRefused, detail)
}

/// What the gateway asks of a key set beyond its rules: a time that has come, and keys that it has.
fn check(app: &App, keys: &Keys, expected: &History, now: Timestamp) -> Result<(), ChangeError> {
    let last = expected.sets().last().expect("one was added");
    if last.issued_at > now.plus_seconds(CLOCK_SECONDS) {
        let detail = format!("it is dated {}, and it is {now}", last.issued_at);
        return Err(refused(detail).into());
    }
    let folder = app.config.keys_dir();
    for role in HELD {
        let wanted = expected.current(role).expect("each key set has one");
        let changed = keys.history.current(role) != Some(wanted);
        if changed && *wanted != keys.did(role) && waiting(&folder, role)?.as_ref() != Some(wanted)
        {
            let detail = format!("the gateway does not have the {role} key {wanted}: prepare it");
            return Err(refused(detail).into());
        }
    }
    Ok(())
}

/// Revokes every token that a key has signed. None is signed by it any more.
async fn revoke_tokens(app: &App, operator: &str, key: &Did) -> Result<u64, StoreError> {
    let mut count = 0;
    loop {
        let tokens = app.store.tokens_signed_by(key).await?;
        if tokens.is_empty() {
            return Ok(count);
        }
        for hash in tokens {
            let reason = "the key that signed it was revoked";
            clawscope::revoke(&*app.store, &app.live, operator, &hash, reason, app.now()).await?;
            count += 1;
        }
    }
}
