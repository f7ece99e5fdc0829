//! Sessions: somebody who signed in with a browser.
//!
//! The cookie is random text of 256 bits of which only the hash is stored. It opens pages, never
//! the JSON API: a browser sends it by itself, and the API's bodies carry no token against
//! forged requests. Whatever a page's form does asks for that token and for the browser's own
//! word about where the form stood (`origin`).

use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderValue};
use proof::{Hash, Timestamp};
use sha2::Sha256;
use store::{SessionProof, SessionRow, StoreError};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::audit::{Action, audited};
use super::cookie::SESSION;
use super::credential::{Operator, Role};
use crate::app::App;
use crate::config::Oidc;
use crate::keys::random_text;

/// Most sessions of one operator; the oldest one ends when another begins.
const MAX_SESSIONS: u32 = 20;

/// How exactly the last use is noted: not each page writes.
const NOTED_EVERY_SECONDS: i64 = 60;

/// Somebody whose proof was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proven {
    /// Who.
    pub operator: Operator,
    /// With what. The session ends with it.
    pub proof: SessionProof,
}

/// The stable name of a way to sign in.
pub const fn method(proof: &SessionProof) -> &'static str {
    match proof {
        SessionProof::Credential(_) => "credential",
        SessionProof::Passkey(_) => "passkey",
        SessionProof::Account(_) => "oidc",
    }
}

/// A session that holds.
#[derive(Debug, Clone)]
pub struct Session {
    /// Who.
    pub operator: Operator,
    /// Names the session without opening it.
    pub id_hash: Hash,
    /// When it ends at the latest.
    pub expires_at: Timestamp,
    /// Goes into every form that this session is shown.
    pub form_token: String,
}

impl Session {
    /// Whether a form carries this session's token.
    pub fn owns(&self, form_token: &str) -> bool {
        let (own, other) = (self.form_token.as_bytes(), form_token.as_bytes());
        bool::from(own.ct_eq(other))
    }
}

/// Makes a session for somebody whose proof was checked, and notes it. The one way in, whatever
/// the proof was. Answers the cookie.
///
/// # Errors
/// When the store cannot be written.
pub async fn open(app: &App, proven: Proven, now: Timestamp) -> Result<HeaderValue, StoreError> {
    let Proven { operator, proof } = proven;
    let text = Zeroizing::new(random_text());
    let id_hash = Hash::of(text.as_bytes());
    let mut detail = vec![("method", method(&proof).to_owned())];
    if let SessionProof::Account(account) = &proof {
        detail.push(("issuer", account.issuer.clone()));
        detail.push(("subject", account.subject.clone()));
    }
    let roles = operator.roles.iter().map(|role| role.as_str().to_owned());
    let session = SessionRow {
        id_hash,
        operator: operator.name.clone(),
        roles: roles.collect(),
        proof,
        opened_at: now,
        used_at: now,
        expires_at: now.plus_seconds(app.config.sessions.max_seconds.into()),
    };
    let action = Action {
        operator: operator.name(),
        name: "session.open",
        subject: id_hash.to_hex(),
        detail,
        at: now,
    };
    audited(&*app.store, action, async {
        app.store.open_session(session, MAX_SESSIONS).await
    })
    .await?;
    Ok(SESSION.set(app, &text))
}

/// Who is signed in, if anybody is.
///
/// # Errors
/// When the store cannot be read.
pub async fn find(
    app: &App,
    headers: &HeaderMap,
    now: Timestamp,
) -> Result<Option<Session>, StoreError> {
    let Some(text) = SESSION.sent(app, headers) else {
        return Ok(None);
    };
    let id_hash = Hash::of(text.as_bytes());
    let Some(row) = app.store.session(&id_hash).await? else {
        return Ok(None);
    };
    let idle = i64::from(app.config.sessions.idle_seconds);
    if !holds(&row, idle, now) {
        return Ok(None);
    }
    if now.seconds() - row.used_at.seconds() >= NOTED_EVERY_SECONDS {
        app.store.note_session_use(&id_hash, now).await?;
    }
    let Some(roles) = roles(app.config.oidc.as_ref(), &row) else {
        return Ok(None);
    };
    Ok(Some(Session {
        operator: Operator {
            name: row.operator,
            roles,
        },
        id_hash,
        expires_at: row.expires_at,
        form_token: form_token(&text),
    }))
}

/// Ends a session of an operator, and notes it; false when there is none.
///
/// # Errors
/// When the store cannot be written.
pub async fn end(
    app: &App,
    operator: &Operator,
    id_hash: &Hash,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let action = Action {
        operator: operator.name(),
        name: "session.end",
        subject: id_hash.to_hex(),
        detail: Vec::new(),
        at: now,
    };
    audited(&*app.store, action, async {
        app.store.end_session(operator.name(), id_hash).await
    })
    .await
}

/// What somebody may do now; `None` for somebody whom nothing lets in any more.
fn roles(oidc: Option<&Oidc>, row: &SessionRow) -> Option<Vec<Role>> {
    let SessionProof::Account(account) = &row.proof else {
        // A role that this version does not know grants nothing.
        let roles = row.roles.iter().filter_map(|role| role.parse().ok());
        return Some(roles.collect());
    };
    // The provider, and what its groups may do, is what the configuration says today.
    let provider = oidc.filter(|provider| provider.issuer == account.issuer)?;
    let roles = provider.roles_of(&account.groups);
    (!roles.is_empty()).then_some(roles)
}

/// Whether a session is neither too old nor unused for too long.
fn holds(row: &SessionRow, idle_seconds: i64, now: Timestamp) -> bool {
    now < row.expires_at && now < row.used_at.plus_seconds(idle_seconds)
}

/// The token of a session's forms: follows from the cookie, which only browser and session know,
/// and does not lead back to it.
fn form_token(cookie: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(cookie.as_bytes()).expect("any length is a key");
    mac.update(b"clawgate form token/1");
    proof::hash::encode_b64u(&mac.finalize().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_ends_when_idle_and_when_old() {
        let at = Timestamp::from_seconds;
        let row = SessionRow {
            id_hash: Hash::of(b"x"),
            operator: "olga".into(),
            roles: Vec::new(),
            proof: SessionProof::Passkey(b"id".to_vec()),
            opened_at: at(0),
            used_at: at(1000),
            expires_at: at(1500),
        };
        for (now, good) in [(1000, true), (1299, true), (1300, false), (9000, false)] {
            assert_eq!(holds(&row, 300, at(now)), good, "{now}");
        }
        assert!(!holds(&row, 30_000, at(1500)), "used or not");
    }

    #[test]
    fn a_form_belongs_to_one_session() {
        let one = form_token(&"A".repeat(43));
        let other = form_token(&"B".repeat(43));
        assert_ne!(one, other);
        assert_eq!(one.len(), 43);
        let session = Session {
            operator: Operator {
                name: "olga".into(),
                roles: Vec::new(),
            },
            id_hash: Hash::of(b"x"),
            expires_at: Timestamp::from_seconds(1),
            form_token: one.clone(),
        };
        assert!(session.owns(&one));
        for wrong in ["", &other, &one[1..]] {
            assert!(!session.owns(wrong), "{wrong}");
        }
    }
}
