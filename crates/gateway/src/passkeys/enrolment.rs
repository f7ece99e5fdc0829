//! How passkeys come and go: an invitation, a one-time link, an enrolment, a removal.

use policy::contract::Email;
use policy::{ReasonCode, Refusal};
use proof::{Hash, Timestamp};
use serde_json::Value;
use store::{Enrolled, Invitation, NewPasskey, Removed};
use zeroize::Zeroizing;

use super::wire::{Registration, creation_options, shortened};
use super::{refused, site};
use crate::app::App;
use crate::clawproxy::authenticate::unavailable;
use crate::keys::random_text;
use crate::operator::Problem;
use crate::operator::audit::{Action, audited};

/// Shortest life of a link, in seconds.
pub const MIN_INVITATION_SECONDS: u32 = 60;

/// Life of a link for which nothing else is said: a day.
pub const DEFAULT_INVITATION_SECONDS: u32 = 86_400;

/// Longest life of a link, in seconds: a week.
pub const MAX_INVITATION_SECONDS: u32 = 7 * 86_400;

/// Longest name that somebody gives a passkey, in bytes.
const MAX_NAME: usize = 64;

/// Length of a link's secret: 256 bits in base64url.
const SECRET: usize = 43;

/// A link that is shown once; the store has its hash.
#[derive(Debug)]
pub struct Invited {
    /// The address to open.
    pub link: Zeroizing<String>,
    /// From when on it is worth nothing.
    pub expires_at: Timestamp,
}

/// Makes a one-time link; an earlier one for the same person is worth nothing from then on.
///
/// # Errors
/// `PASSKEYS_UNAVAILABLE`, `BODY_WRONG_TYPE` for the lifetime, `STORE_UNAVAILABLE`.
pub async fn invite(
    app: &App,
    operator: &str,
    email: &Email,
    seconds: u32,
) -> Result<Invited, Refusal> {
    site(app)?;
    if !(MIN_INVITATION_SECONDS..=MAX_INVITATION_SECONDS).contains(&seconds) {
        let detail = format!(
            "an invitation is good for {MIN_INVITATION_SECONDS} to {MAX_INVITATION_SECONDS} \
             seconds"
        );
        return Err(Refusal::new(ReasonCode::BodyWrongType, detail));
    }
    let secret = Zeroizing::new(random_text());
    let invited_at = app.now();
    let expires_at = invited_at.plus_seconds(seconds.into());
    let invitation = Invitation {
        link_hash: Hash::of(secret.as_bytes()),
        email: email.as_str().to_owned(),
        invited_by: operator.to_owned(),
        invited_at,
        expires_at,
    };
    app.store.invite(invitation).await.map_err(unavailable)?;
    let base = &app.operator_url;
    Ok(Invited {
        link: Zeroizing::new(format!("{base}/passkeys/enrol/{}", *secret)),
        expires_at,
    })
}

/// What the page of a good link shows.
#[derive(Debug)]
pub struct OpenInvitation {
    /// For whom.
    pub email: String,
    /// Who invited.
    pub invited_by: String,
    /// Until when.
    pub expires_at: Timestamp,
    /// For the browser.
    pub options: Value,
}

/// Looks at a link; that uses nothing up, since mail programs look at links, too.
///
/// # Errors
/// `INVITATION_UNKNOWN`, `PASSKEYS_UNAVAILABLE`, `STORE_UNAVAILABLE`.
pub async fn open_invitation(app: &App, secret: &str) -> Result<OpenInvitation, Refusal> {
    let site = site(app)?;
    let invitation = known(app, secret).await?;
    let passkeys = app.store.passkeys_of(&invitation.email).await;
    let passkeys = passkeys.map_err(unavailable)?;
    let credentials: Vec<&[u8]> = passkeys
        .iter()
        .map(|row| row.passkey.credential_id.as_slice())
        .collect();
    Ok(OpenInvitation {
        options: creation_options(
            &site,
            &app.config.gateway_id,
            challenge(secret).as_bytes(),
            &invitation.email,
            &credentials,
        ),
        email: invitation.email,
        invited_by: invitation.invited_by,
        expires_at: invitation.expires_at,
    })
}

/// Takes the passkey that a person made with a link, and uses the link up. Returns whose it is.
///
/// # Errors
/// `INVITATION_UNKNOWN`, a `PASSKEY_…` code, `PASSKEYS_UNAVAILABLE`, `STORE_UNAVAILABLE`.
pub async fn enrol(
    app: &App,
    secret: &str,
    name: &str,
    registration: &Registration,
) -> Result<String, Problem> {
    let site = site(app)?;
    let invitation = known(app, secret).await?;
    let made = registration
        .0
        .verify(challenge(secret).as_bytes(), &site)
        .map_err(refused)?;
    let name = name.trim();
    if name.len() > MAX_NAME || name.chars().any(char::is_control) {
        let detail = format!("a passkey's name has up to {MAX_NAME} bytes on one line");
        return Err(Problem::new(ReasonCode::PasskeyMalformed, detail));
    }
    let name = match name {
        "" => format!("passkey {}", shortened(made.did())),
        name => name.to_owned(),
    };
    let origin = site.origins.into_iter().next();
    let passkey = NewPasskey {
        credential_id: made.credential_id().to_vec(),
        did: made.did().clone(),
        name,
        rp_id: site.rp_id,
        origin: origin.expect("a gateway's site has its origin"),
        sign_count: made.sign_count(),
    };
    // Only from here on: whoever merely tries links leaves nothing behind.
    let action = Action {
        operator: &invitation.email,
        name: "passkey.enrol",
        subject: invitation.email.clone(),
        detail: vec![("did", passkey.did.to_string())],
        at: app.now(),
    };
    audited(&*app.store, action, async {
        let enrolled = app.store.enrol(&invitation.link_hash, passkey, app.now());
        match enrolled.await? {
            Enrolled::As(email) => Ok(email),
            Enrolled::LinkGone => Err(ReasonCode::InvitationUnknown.into()),
            Enrolled::Known => Err(ReasonCode::PasskeyKnown.into()),
            Enrolled::TooMany => Err(ReasonCode::PasskeyLimit.into()),
        }
    })
    .await
}

/// Removes a person's passkeys, or the one of this short id: none of them signs anything from
/// then on. What they signed before stays signed.
///
/// # Errors
/// `PASSKEY_UNKNOWN` when there is nothing of that kind, `STORE_UNAVAILABLE`.
pub async fn remove(
    app: &App,
    operator: &str,
    email: &str,
    passkey: Option<&str>,
) -> Result<Removed, Refusal> {
    let rows = app.store.passkeys_of(email).await.map_err(unavailable)?;
    let credential = match passkey {
        None => None,
        Some(id) => {
            let row = rows.iter().find(|row| super::short_id(row) == id);
            let row = row.ok_or(ReasonCode::PasskeyUnknown)?;
            Some(row.passkey.credential_id.as_slice())
        }
    };
    let removed = app
        .store
        .remove_passkeys(email, credential, operator, app.now())
        .await
        .map_err(unavailable)?;
    if removed.passkeys == 0 && !removed.invitation {
        let detail = format!("{email} has neither a passkey nor an invitation");
        return Err(Refusal::new(ReasonCode::PasskeyUnknown, detail));
    }
    Ok(removed)
}

async fn known(app: &App, secret: &str) -> Result<Invitation, Refusal> {
    if secret.len() != SECRET {
        return Err(ReasonCode::InvitationUnknown.into());
    }
    let link_hash = Hash::of(secret.as_bytes());
    let invitation = app.store.invitation(&link_hash, app.now()).await;
    let invitation = invitation.map_err(unavailable)?;
    invitation.ok_or_else(|| ReasonCode::InvitationUnknown.into())
}

/// The challenge of an enrolment: as secret, and as good once, as the link.
fn challenge(secret: &str) -> Hash {
    Hash::of_parts([b"clawgate.passkey-enrolment/1\0", secret.as_bytes()])
}
