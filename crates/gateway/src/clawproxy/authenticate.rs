//! Who calls: from a request to a [`Caller`], or a refusal.
//!
//! Everything that formats.md asks of a token is checked on every call. Signature, audience,
//! scope hash and pin cannot change, so they are checked once and the token is then found by the
//! hash of its text; expiry, revocation, job, contract and holder are checked each time.

use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::{HeaderMap, HeaderValue, header};
use policy::{ReasonCode, Refusal};
use proof::record::JobId;
use proof::token::{TokenError, UnverifiedToken, token_hash};
use proof::{Did, Hash, PublicKey};
use zeroize::Zeroizing;

use super::{Asked, Surface};
use crate::app::App;
use crate::live::{LiveContract, LiveJob, LiveToken};

/// An authenticated agent.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The token, with its job and contract.
    pub token: Arc<LiveToken>,
}

impl Caller {
    /// The contract that decides.
    pub fn contract(&self) -> &LiveContract {
        &self.token.job.contract
    }

    /// As records name the caller.
    pub fn recorded(&self) -> proof::record::Caller {
        proof::record::Caller {
            token_hash: self.token.hash_hex.clone(),
            agent_did: self.token.job.agent_did.clone(),
            holder: self.token.holder.get().cloned().unwrap_or_default(),
        }
    }
}

/// Checks the one credential of a request: of a proxied one that for the proxy, of any other that
/// for the server.
///
/// As soon as the token is known to be ours, `asked` learns whose call it is, so that a refusal
/// from here on is recorded in the right job.
///
/// # Errors
/// A `TOKEN_…` code, `CONTRACT_WITHDRAWN`, or `STORE_UNAVAILABLE`.
pub async fn authenticate(
    app: &App,
    headers: &HeaderMap,
    peer: IpAddr,
    asked: &mut Asked,
) -> Result<Caller, Refusal> {
    let for_proxy;
    let text = match asked.surface {
        Surface::Egress => {
            for_proxy = proxy_credential(headers)?;
            for_proxy.as_str()
        }
        _ => credential(headers)?,
    };
    let hash = token_hash(text);
    if !app.store.is_current() && !app.store.become_current().await {
        return Err(ReasonCode::StoreUnavailable.into());
    }
    let token = match app.live.token(&hash) {
        Some(token) => token,
        None => verify(app, text, &hash).await?,
    };
    let caller = Caller { token };
    asked.caller = Some(caller.clone());
    check_now(app, &caller.token)?;
    check_claimed_job(headers, &caller.token.job.id)?;
    bind(app, &caller.token, peer).await?;
    app.store.touch(&hash, app.now());
    Ok(caller)
}

/// Checks again what can change: at the use of a capability address, and before each apply.
///
/// # Errors
/// `TOKEN_EXPIRED`, `TOKEN_NOT_YET_VALID`, `TOKEN_REVOKED`, `TOKEN_JOB_CLOSED`,
/// `CONTRACT_WITHDRAWN` or `JOB_FULL`;
/// `STORE_UNAVAILABLE` while it is not known what other gateways have ended.
pub fn check_now(app: &App, token: &LiveToken) -> Result<(), Refusal> {
    if let Some(reason) = token.ended() {
        return Err(reason.into());
    }
    // Whatever became of the tokens' own revocations.
    if app.keys.now().has_revoked_signer(token.signed_by.as_ref()) {
        return Err(ReasonCode::TokenRevoked.into());
    }
    if !app.store.is_current() {
        return Err(ReasonCode::StoreUnavailable.into());
    }
    let now = app.now();
    // By the time that its record would bear: one past the token's end would condemn the whole job.
    if token.claims.expires_at() <= token.job.time(now) {
        return Err(ReasonCode::TokenExpired.into());
    }
    // And so would one from before its beginning.
    if now.seconds() < token.claims.iat {
        return Err(ReasonCode::TokenNotYetValid.into());
    }
    if token.job.is_full(&app.config.limits) {
        return Err(ReasonCode::JobFull.into());
    }
    Ok(())
}

/// The same credential, as a header for calls that are made on the caller's behalf.
///
/// # Errors
/// A `TOKEN_…` code when there is not exactly one.
pub(super) fn bearer(headers: &HeaderMap) -> Result<HeaderValue, Refusal> {
    let text = format!("Bearer {}", credential(headers)?);
    let mut value = HeaderValue::try_from(text).map_err(|_| ReasonCode::TokenMalformed)?;
    value.set_sensitive(true);
    Ok(value)
}

/// The one credential: `Authorization: Bearer` or `x-api-key`, once.
fn credential(headers: &HeaderMap) -> Result<&str, Refusal> {
    let mut found = None;
    for value in headers.get_all(header::AUTHORIZATION).iter() {
        let text = value.to_str().map_err(|_| ReasonCode::TokenMalformed)?;
        let (scheme, token) = text.split_once(' ').ok_or(ReasonCode::TokenMalformed)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(ReasonCode::TokenMalformed.into());
        }
        if found.replace(token).is_some() {
            return Err(ReasonCode::TokenAmbiguous.into());
        }
    }
    for value in headers.get_all("x-api-key").iter() {
        let token = value.to_str().map_err(|_| ReasonCode::TokenMalformed)?;
        // Some clients send the same key in both places; two different ones are an attack.
        if found.is_some_and(|other| other != token) {
            return Err(ReasonCode::TokenAmbiguous.into());
        }
        found = Some(token);
    }
    found
        .filter(|token| !token.is_empty())
        .ok_or_else(|| ReasonCode::TokenMissing.into())
}

/// The one credential for the proxy: `Proxy-Authorization`, once, as `Bearer`, or as the password of
/// `Basic` with any user's name. What stands in `Authorization` is for the other end.
fn proxy_credential(headers: &HeaderMap) -> Result<Zeroizing<String>, Refusal> {
    let mut values = headers.get_all(header::PROXY_AUTHORIZATION).iter();
    let value = values.next().ok_or_else(no_proxy_credential)?;
    if values.next().is_some() {
        return Err(ReasonCode::TokenAmbiguous.into());
    }
    let text = value.to_str().map_err(|_| ReasonCode::TokenMalformed)?;
    let (scheme, token) = text.split_once(' ').ok_or(ReasonCode::TokenMalformed)?;
    let token = if scheme.eq_ignore_ascii_case("bearer") {
        Zeroizing::new(token.to_owned())
    } else {
        basic_password(text).ok_or(ReasonCode::TokenMalformed)?
    };
    match token.is_empty() {
        true => Err(no_proxy_credential()),
        false => Ok(token),
    }
}

fn no_proxy_credential() -> Refusal {
    Refusal::new(
        ReasonCode::TokenMissing,
        "send the job's scoped token as `Proxy-Authorization`, as the password of any user",
    )
}

/// The password of a `Basic` credential (RFC 7617).
pub(super) fn basic_password(text: &str) -> Option<Zeroizing<String>> {
    let (scheme, encoded) = text.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = Zeroizing::new(BASE64.decode(encoded.trim()).ok()?);
    let pair = std::str::from_utf8(&decoded).ok()?;
    let (_, password) = pair.split_once(':')?;
    Some(Zeroizing::new(password.to_owned()))
}

/// Verifies a token that is not known yet, and keeps it.
async fn verify(app: &App, text: &str, hash: &Hash) -> Result<Arc<LiveToken>, Refusal> {
    if app.upstream.is_credential(text) || app.models.is_credential(text) {
        // An agent that holds a real credential is an incident; say so where people look.
        tracing::error!("an upstream credential was presented on the agent listener");
        return Err(ReasonCode::TokenMalformed.into());
    }
    let unverified = UnverifiedToken::parse(text).map_err(|error| refusal_of(&error))?;
    let keys = app.keys.now();
    let counting = keys.token_keys(app.now());
    let revoked: Vec<PublicKey> = keys.revoked_token_keys().map(Did::key).collect();
    let mut known = counting.iter().chain(&revoked);
    let key = known.find(|key| key.kid() == unverified.kid());
    let key = key.ok_or(ReasonCode::TokenUnknownKey)?;
    let verified = unverified.verify(key).map_err(|error| refusal_of(&error))?;
    if revoked.contains(key) {
        return Err(ReasonCode::TokenRevoked.into());
    }
    let claims = verified.claims;
    if claims.aud != app.config.gateway_id {
        return Err(ReasonCode::TokenAudience.into());
    }
    let stored = app.store.token(hash).await.map_err(unavailable)?;
    // Signed by our key, but not issued here: the key has leaked, or the store was lost.
    let stored = stored.ok_or(ReasonCode::TokenJobUnknown)?;
    let job_id: JobId = claims
        .mission_id
        .parse()
        .map_err(|_| ReasonCode::TokenJobUnknown)?;
    let job = match app.live.job(&job_id) {
        Some(job) => job,
        None => open_job(app, &job_id).await?,
    };
    if claims.policy_hash_b64u != job.contract.hash {
        return Err(ReasonCode::TokenPolicyMismatch.into());
    }
    if claims.sub != job.agent_did {
        return Err(ReasonCode::TokenJobUnknown.into());
    }
    let lifetime = claims.exp.saturating_sub(claims.iat);
    let most = job.contract.contract.max_ttl_seconds;
    if lifetime <= 0 || lifetime > i64::from(most) {
        return Err(ReasonCode::TokenLifetime.into());
    }
    let token = app.live.keep_token(LiveToken::new(
        *hash,
        claims,
        job,
        Some(key.did()),
        stored.holder,
    ));
    // Read again now that a revocation would find it here: one that came in between has marked
    // the store's row but nothing that is known here.
    let stored = app.store.token(hash).await.map_err(unavailable)?;
    let counts = app.keys.now().token_keys(app.now()).contains(key);
    if !counts || stored.is_none_or(|stored| stored.revoked.is_some()) {
        app.live.revoke_token(hash);
    }
    Ok(token)
}

async fn open_job(app: &App, id: &JobId) -> Result<Arc<LiveJob>, Refusal> {
    let row = app.store.job(id).await.map_err(unavailable)?;
    let row = row.ok_or(ReasonCode::TokenJobUnknown)?;
    if !row.state.is_open() {
        return Err(ReasonCode::TokenJobClosed.into());
    }
    let contract = crate::clawcontrols::contract(app, &row.policy_hash)
        .await
        .map_err(unavailable)?
        .ok_or(ReasonCode::TokenPolicyMismatch)?;
    let job = LiveJob::open(row.job_id, row.agent_did, row.name, contract);
    let bytes = app.store.record_bytes(&job.id).await;
    job.count(row.counters.records, bytes.map_err(unavailable)?);
    job.wrote_at(row.last_at);
    let job = app.live.keep_job(job);
    // Closed in between: the store says so, and what is known here was forgotten too early.
    let row = app.store.job(id).await.map_err(unavailable)?;
    if !row.is_some_and(|row| row.state.is_open()) {
        app.live.end_job(id);
        return Err(ReasonCode::TokenJobClosed.into());
    }
    Ok(job)
}

/// A capability address needs no credential. One that is sent along must be of the same job: a
/// client that holds another job's token has got the address from somewhere.
pub(super) fn check_accompanying(
    app: &App,
    headers: &HeaderMap,
    token: &LiveToken,
) -> Result<(), Refusal> {
    match credential(headers) {
        Err(refusal) if refusal.code == ReasonCode::TokenMissing => {}
        Err(refusal) => return Err(refusal),
        Ok(text) => {
            let hash = token_hash(text);
            let of_same_job = || {
                app.live
                    .token(&hash)
                    .is_some_and(|other| other.job.id == token.job.id)
            };
            if hash != token.hash && !of_same_job() {
                return Err(ReasonCode::TokenJobMismatch.into());
            }
        }
    }
    check_claimed_job(headers, &token.job.id)
}

/// Derives the job from the token; a client that names another one is confused or hostile.
fn check_claimed_job(headers: &HeaderMap, job: &JobId) -> Result<(), Refusal> {
    for name in ["x-job-id", "x-clawgate-job"] {
        for value in headers.get_all(name).iter() {
            if value.as_bytes() != job.as_str().as_bytes() {
                return Err(ReasonCode::TokenJobMismatch.into());
            }
        }
    }
    Ok(())
}

/// Binds the token to its first holder; everybody else is refused, and that is recorded.
///
/// The holder is the client's address as the listener sees it, never a forwarded header.
pub(super) async fn bind(app: &App, token: &LiveToken, peer: IpAddr) -> Result<(), Refusal> {
    let peer = peer.to_canonical().to_string();
    let holder = match token.holder.get() {
        Some(holder) => holder,
        None => {
            let bound = app.store.bind_holder(&token.hash, &peer, app.now()).await;
            let bound = bound
                .map_err(unavailable)?
                .ok_or(ReasonCode::TokenJobUnknown)?;
            token.holder.get_or_init(|| bound.holder)
        }
    };
    if *holder == peer {
        return Ok(());
    }
    if let Err(error) = app.store.count_replay(&token.hash).await {
        tracing::warn!(%error, "a replay was refused but not counted");
    }
    Err(ReasonCode::TokenReplayed.into())
}

fn refusal_of(error: &TokenError) -> Refusal {
    let code = match error {
        TokenError::Malformed(_) => ReasonCode::TokenMalformed,
        TokenError::Algorithm => ReasonCode::TokenAlgorithm,
        TokenError::Signature => ReasonCode::TokenSignature,
        TokenError::ScopeHash => ReasonCode::TokenScopeHash,
    };
    code.into()
}

/// A store that does not answer: nothing is decided, so nothing is allowed.
pub fn unavailable(error: store::StoreError) -> Refusal {
    tracing::error!(%error, "the store does not answer");
    ReasonCode::StoreUnavailable.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn exactly_one_credential() {
        for good in [
            &[("authorization", "Bearer t")][..],
            &[("authorization", "bearer t")],
            &[("x-api-key", "t")],
            &[("authorization", "Bearer t"), ("x-api-key", "t")],
        ] {
            assert_eq!(credential(&headers(good)), Ok("t"), "{good:?}");
        }
        for (bad, code) in [
            (&[][..], ReasonCode::TokenMissing),
            (&[("authorization", "Bearer ")], ReasonCode::TokenMissing),
            (
                &[("authorization", "Basic dDp0")],
                ReasonCode::TokenMalformed,
            ),
            (&[("authorization", "t")], ReasonCode::TokenMalformed),
            (
                &[("authorization", "Bearer t"), ("authorization", "Bearer t")],
                ReasonCode::TokenAmbiguous,
            ),
            (
                &[("authorization", "Bearer t"), ("x-api-key", "u")],
                ReasonCode::TokenAmbiguous,
            ),
            (
                &[("x-api-key", "t"), ("x-api-key", "u")],
                ReasonCode::TokenAmbiguous,
            ),
        ] {
            assert_eq!(credential(&headers(bad)).unwrap_err().code, code, "{bad:?}");
        }
    }

    #[test]
    fn a_proxy_has_one_credential_of_its_own() {
        let name = "proxy-authorization";
        for good in ["Bearer t", "bearer t", "Basic eDp0", "basic OnQ="] {
            let found = proxy_credential(&headers(&[(name, good)])).unwrap();
            assert_eq!(*found, "t", "{good}");
        }
        for (bad, code) in [
            (&[][..], ReasonCode::TokenMissing),
            (&[("authorization", "Bearer t")], ReasonCode::TokenMissing),
            (&[("x-api-key", "t")], ReasonCode::TokenMissing),
            (&[(name, "Bearer ")], ReasonCode::TokenMissing),
            // `x:`
            (&[(name, "Basic eDo=")], ReasonCode::TokenMissing),
            (&[(name, "t")], ReasonCode::TokenMalformed),
            (&[(name, "Digest t")], ReasonCode::TokenMalformed),
            (&[(name, "Basic t")], ReasonCode::TokenMalformed),
            // `x`, without a password
            (&[(name, "Basic eA==")], ReasonCode::TokenMalformed),
            (
                &[(name, "Bearer t"), (name, "Bearer t")],
                ReasonCode::TokenAmbiguous,
            ),
        ] {
            let found = proxy_credential(&headers(bad)).unwrap_err();
            assert_eq!(found.code, code, "{bad:?}");
        }
    }

    #[test]
    fn another_job_is_refused() {
        let job: JobId = "job_1".parse().unwrap();
        assert!(check_claimed_job(&headers(&[("x-job-id", "job_1")]), &job).is_ok());
        assert!(check_claimed_job(&headers(&[]), &job).is_ok());
        for name in ["x-job-id", "x-clawgate-job"] {
            assert!(check_claimed_job(&headers(&[(name, "job_2")]), &job).is_err());
        }
    }
}
