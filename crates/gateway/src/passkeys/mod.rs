//! Passkeys of approvers: where they work, how they come, and what they sign.
//!
//! [`invite`] makes a one-time link for a person, [`enrol`] takes the passkey that the person makes
//! with it; [`question`] and [`answer`] have a statement about a run signed by one; [`signed_in`]
//! takes one in place of a credential. What an authenticator made is verified by
//! [`proof::passkey`], the same code that an auditor runs.
//!
//! Nothing is kept between asking and answering. The challenge of an approval is the hash of its
//! statement; that of an enrolment follows from the link; that of a sign-in carries its own end
//! and our seal ([`challenge`]). So nobody fills our memory by asking.
//!
//! A passkey counts on the site on which it was enrolled, and only while that is the gateway's:
//! whoever owns a name that the gateway had once can ask nobody to sign for it.

pub mod challenge;
mod enrolment;
mod question;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod wire;

use policy::{ReasonCode, Refusal};
use proof::Hash;
use proof::passkey::{PasskeyError, Site};
use store::{PasskeyRow, PasskeyUse, SessionProof};

use crate::app::App;
use crate::clawproxy::authenticate::unavailable;
use crate::operator::credential::{Operator, Role};
use crate::operator::session::Proven;

pub use enrolment::{
    DEFAULT_INVITATION_SECONDS, Invited, MAX_INVITATION_SECONDS, MIN_INVITATION_SECONDS,
    OpenInvitation, enrol, invite, open_invitation, remove,
};
pub use question::{Asked, Question, answer, question};
pub use wire::{Assertion, Registration, UnreadablePasskey, creation_options, request_options};

/// How long a browser waits for the person, in milliseconds.
pub const CEREMONY_MS: u32 = 300_000;

/// Why an address is no place for passkeys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoSite {
    /// Not an address at all.
    #[error("is not an address")]
    NotAnAddress,
    /// Browsers offer passkeys to a name, never to a number.
    #[error("names a number; browsers make passkeys for names only, such as localhost")]
    Number,
    /// Browsers offer passkeys over TLS and on their own machine only.
    #[error("is plain HTTP, on which browsers offer no passkeys except on localhost")]
    NotSecure,
}

/// The site of an address: the host is the relying party, the address without its path the origin.
///
/// # Errors
/// See [`NoSite`].
pub fn site_of(url: &str) -> Result<Site, NoSite> {
    let uri: http::Uri = url.parse().map_err(|_| NoSite::NotAnAddress)?;
    let host = uri.host().ok_or(NoSite::NotAnAddress)?.to_ascii_lowercase();
    let scheme = uri.scheme_str().unwrap_or_default();
    let bare = host.trim_matches(['[', ']']);
    // The last label of a name is never a number; browsers read `127.1` as an address, too.
    let last = bare.rsplit('.').next().unwrap_or_default();
    if bare.contains(':') || last.is_empty() || last.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(NoSite::Number);
    }
    let local = host == "localhost" || host.ends_with(".localhost");
    match scheme {
        "https" => {}
        "http" if local => {}
        "http" => return Err(NoSite::NotSecure),
        _ => return Err(NoSite::NotAnAddress),
    }
    let port = match (scheme, uri.port_u16()) {
        (_, None) | ("https", Some(443)) | ("http", Some(80)) => String::new(),
        (_, Some(port)) => format!(":{port}"),
    };
    Ok(Site {
        origins: vec![format!("{scheme}://{host}{port}")],
        rp_id: host,
    })
}

/// Where passkeys work on this gateway.
///
/// # Errors
/// `PASSKEYS_UNAVAILABLE`.
pub fn site(app: &App) -> Result<Site, Refusal> {
    site_of(&app.operator_url).map_err(|why| {
        let detail = format!(
            "the operator listener's address `{}` {why}",
            app.operator_url
        );
        Refusal::new(ReasonCode::PasskeysUnavailable, detail)
    })
}

/// A person's passkeys that work here, the one used last first.
///
/// # Errors
/// `STORE_UNAVAILABLE`.
pub async fn of(app: &App, email: &str) -> Result<Vec<PasskeyRow>, Refusal> {
    let Ok(site) = site(app) else {
        return Ok(Vec::new());
    };
    let mut rows = app.store.passkeys_of(email).await.map_err(unavailable)?;
    rows.retain(|row| row.site() == site);
    Ok(rows)
}

/// The name by which people call a passkey: authenticators' own ids are too long for that.
pub fn short_id(row: &PasskeyRow) -> String {
    let hash = Hash::of(&row.passkey.credential_id).to_hex();
    format!("pk-{}", &hash[..16])
}

/// Options for a sign-in, with a challenge that is good for five minutes and once.
///
/// # Errors
/// `PASSKEYS_UNAVAILABLE`.
pub fn sign_in_options(app: &App) -> Result<serde_json::Value, Refusal> {
    let site = site(app)?;
    let challenge = app.sign_in_challenges.make(app.now());
    // No credential is named: the browser offers those that it has, and nobody learns from us who
    // is enrolled.
    Ok(request_options(&site, &challenge, &[]))
}

/// Who signs in with a passkey: the person it was enrolled for, as an approver.
///
/// # Errors
/// A `PASSKEY_…` code, `PASSKEYS_UNAVAILABLE` or `STORE_UNAVAILABLE`.
pub async fn signed_in(app: &App, assertion: Assertion) -> Result<Proven, Refusal> {
    let challenge = assertion.signed.challenge().map_err(refused)?;
    app.sign_in_challenges.check(&challenge, app.now())?;
    let row = app.store.passkey(&assertion.credential_id).await;
    let row = in_force(app, row.map_err(unavailable)?)?;
    let verified = assertion
        .signed
        .verify(&row.passkey.did, &challenge, &row.site())
        .map_err(refused)?;
    app.sign_in_challenges.spend(&challenge, app.now())?;
    let used = app
        .store
        .use_passkey(&assertion.credential_id, verified.sign_count(), app.now())
        .await
        .map_err(unavailable)?;
    match used {
        PasskeyUse::Counted => Ok(Proven {
            operator: Operator {
                name: row.email,
                roles: vec![Role::Approver],
            },
            proof: SessionProof::Passkey(assertion.credential_id),
        }),
        PasskeyUse::Gone => Err(ReasonCode::PasskeyUnknown.into()),
        PasskeyUse::CounterBack => {
            let action = store::OperatorAction {
                at: app.now(),
                operator: row.email.clone(),
                action: "passkey.counter".to_owned(),
                subject: short_id(&row),
                detail: proof::Json::object(),
            };
            tracing::warn!(
                approver = row.email,
                passkey = action.subject,
                "a passkey's counter went back; its key may exist twice"
            );
            let noted = app.store.note_operator_action(action).await;
            noted.map_err(unavailable)?;
            Err(ReasonCode::PasskeyCounter.into())
        }
    }
}

/// A passkey that was enrolled on this site and is there.
///
/// # Errors
/// `PASSKEY_UNKNOWN`, `PASSKEY_WRONG_SITE`, `PASSKEYS_UNAVAILABLE`.
pub(crate) fn in_force(app: &App, row: Option<PasskeyRow>) -> Result<PasskeyRow, Refusal> {
    let row = row.filter(|row| row.removed_at.is_none());
    let row = row.ok_or(ReasonCode::PasskeyUnknown)?;
    if row.site() != site(app)? {
        let detail = format!("enrolled for `{}`", row.passkey.origin);
        return Err(Refusal::new(ReasonCode::PasskeyWrongSite, detail));
    }
    Ok(row)
}

/// What an authenticator made, refused.
pub(crate) fn refused(error: PasskeyError) -> Refusal {
    let code = match &error {
        PasskeyError::SignatureInvalid => ReasonCode::PasskeySignature,
        PasskeyError::WrongChallenge => ReasonCode::PasskeyWrongChallenge,
        PasskeyError::WrongOrigin(_) | PasskeyError::WrongRpId => ReasonCode::PasskeyWrongSite,
        PasskeyError::NotVerified => ReasonCode::PasskeyNotVerified,
        PasskeyError::AuthenticatorData(_)
        | PasskeyError::ClientData(_)
        | PasskeyError::Key(_)
        | PasskeyError::WrongCeremony(_) => ReasonCode::PasskeyMalformed,
    };
    Refusal::new(code, error.to_string())
}
