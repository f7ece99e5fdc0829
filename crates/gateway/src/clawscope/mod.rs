//! Scoped tokens: issued for one open job, pinned to its contract, inspected and revoked.
//!
//! The text of a token is given out once and kept nowhere; the store has its hash and claims.

mod elevated;
mod introspect;
mod jwks;

use policy::{ReasonCode, Refusal};
use proof::record::JobId;
use proof::token::{Claims, Scope, token_hash};
use proof::{Hash, Timestamp};
use store::{Conflict, JobRow, NewToken, Revoked, Store, StoreError, TokenRow, kill_point};
use zeroize::Zeroizing;

use crate::app::App;
use crate::clawcontrols;
use crate::config::Config;
use crate::keys::{KeyRing, random_uuid};
use crate::live::{Live, LiveContract, LiveJob, LiveToken};
use crate::operator::audit::{Action, audited};

pub use elevated::{ElevatedRequest, MAX_ELEVATED_TTL_SECONDS, issue_elevated};
pub use introspect::{Introspection, introspect};
pub use jwks::{KeySet, jwks};

/// Most tokens that one job may have over its life. Each stands in the job's bundle.
pub const MAX_TOKENS_PER_JOB: usize = 256;

/// The parts of the gateway that mint tokens.
#[derive(Clone, Copy)]
pub struct Issuer<'a> {
    /// Where tokens are kept by hash.
    pub store: &'a dyn Store,
    /// What is known without asking it.
    pub live: &'a Live,
    /// Signs.
    pub keys: &'a KeyRing,
    /// Names the audience and the approvers.
    pub config: &'a Config,
}

impl<'a> Issuer<'a> {
    /// The parts of a running gateway.
    pub fn of(app: &'a App) -> Self {
        Self {
            store: &*app.store,
            live: &app.live,
            keys: &app.keys,
            config: &app.config,
        }
    }
}

/// What is asked for; what is left out is as much as the contract allows.
#[derive(Debug, Clone, Default)]
pub struct TokenRequest {
    /// Lifetime in seconds, at most the contract's.
    pub ttl_seconds: Option<u32>,
    /// What the token shall be good for.
    pub scopes: Option<Vec<Scope>>,
    /// The token that it takes the place of. None does in a job of which a token was revoked.
    pub renews: Option<Hash>,
}

/// A token that was just made.
#[derive(Debug)]
pub struct IssuedToken {
    /// Its text: shown once.
    pub text: Zeroizing<String>,
    /// The name under which it is stored, inspected and revoked.
    pub hash: Hash,
    /// What it grants.
    pub claims: Claims,
}

/// Why no token was made.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The contract or the job does not allow it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The store did not take it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<ReasonCode> for IssueError {
    fn from(code: ReasonCode) -> Self {
        Self::Refused(code.into())
    }
}

/// Issues a token for an open job.
///
/// # Errors
/// `JOB_UNKNOWN`, `JOB_CLOSED`, `CONTRACT_WITHDRAWN`, `TOKEN_REQUEST_REFUSED`, `TOKEN_REVOKED` when
/// the token that it shall renew was, `SIGNER_UNAVAILABLE`, or the store's.
pub async fn issue(
    issuer: Issuer<'_>,
    operator: &str,
    job_id: &JobId,
    request: TokenRequest,
    now: Timestamp,
) -> Result<IssuedToken, IssueError> {
    let (job, contract) = open_job(issuer, job_id).await?;
    if let Some(renewed) = &request.renews {
        may_be_renewed(issuer, job_id, renewed).await?;
    }
    let terms = &contract.contract;
    let most = terms.max_ttl_seconds;
    let ttl = request.ttl_seconds.unwrap_or(most);
    if ttl == 0 || ttl > most {
        return refuse(format!(
            "the lifetime must be 1 to {most} seconds under this contract"
        ));
    }
    let allowed: Vec<Scope> = terms
        .scopes()
        .into_iter()
        .map(|scope| Scope::try_from(scope.to_owned()).expect("the contract's scopes are known"))
        .collect();
    let mut scopes = request.scopes.unwrap_or_else(|| allowed.clone());
    scopes.sort();
    scopes.dedup();
    if let Some(beyond) = scopes.iter().find(|scope| !allowed.contains(scope)) {
        let beyond = String::from(beyond.clone());
        return refuse(format!("the contract does not allow the scope `{beyond}`"));
    }
    if !scopes.contains(&Scope::ProxyCall) {
        return refuse("without the scope `proxy:call` a token is good for nothing".to_owned());
    }
    mint(
        issuer,
        operator,
        &job,
        Grant {
            scopes,
            ttl,
            renews: request.renews,
            elevated: None,
        },
        now,
    )
    .await
}

/// The token that is renewed must be one of the job's own. Whoever revoked one meant its holder,
/// who must not go on under another: that the store sees to, when it issues.
async fn may_be_renewed(
    issuer: Issuer<'_>,
    job_id: &JobId,
    renewed: &Hash,
) -> Result<(), IssueError> {
    let row = issuer.store.token(renewed).await?;
    let own = |row: &TokenRow| row.token.job_id == *job_id && row.token.elevated.is_none();
    match row.is_some_and(|row| own(&row)) {
        true => Ok(()),
        false => refuse("the job has no such token to renew".to_owned()),
    }
}

/// An open job under a contract that holds.
async fn open_job(
    issuer: Issuer<'_>,
    job_id: &JobId,
) -> Result<(JobRow, std::sync::Arc<LiveContract>), IssueError> {
    let job = issuer
        .store
        .job(job_id)
        .await?
        .ok_or(ReasonCode::JobUnknown)?;
    if !job.state.is_open() {
        return Err(ReasonCode::JobClosed.into());
    }
    let contract = clawcontrols::lookup(issuer.store, issuer.live, &job.policy_hash).await?;
    let contract = contract.ok_or(ReasonCode::ContractUnknown)?;
    if contract.is_withdrawn() {
        return Err(ReasonCode::ContractWithdrawn.into());
    }
    if issuer.store.tokens(job_id).await?.len() >= MAX_TOKENS_PER_JOB {
        return refuse(format!("the job has {MAX_TOKENS_PER_JOB} tokens already"));
    }
    Ok((job, contract))
}

/// What a new token grants, already judged.
struct Grant {
    scopes: Vec<Scope>,
    ttl: u32,
    renews: Option<Hash>,
    elevated: Option<store::ElevatedApproval>,
}

async fn mint(
    issuer: Issuer<'_>,
    operator: &str,
    job: &JobRow,
    grant: Grant,
    now: Timestamp,
) -> Result<IssuedToken, IssueError> {
    // Another gateway may have opened it by a clock that is ahead.
    let now = now.max(job.opened_at);
    let iat = now.seconds();
    let mut claims = Claims {
        token_version: "1".to_owned(),
        sub: job.agent_did.clone(),
        aud: issuer.config.gateway_id.clone(),
        scope: grant.scopes,
        iat,
        exp: iat + i64::from(grant.ttl),
        policy_hash_b64u: job.policy_hash,
        mission_id: job.job_id.to_string(),
        token_scope_hash_b64u: Hash::of(b""),
        jti: random_uuid(),
        cnf: None,
    };
    claims.token_scope_hash_b64u = claims.scope_hash();
    // Whoever revokes the key finds what it has signed.
    let _signing = issuer.keys.signing().await;
    let key = &issuer.keys.now().token;
    let signing = key.token(claims.clone()).await;
    let text = Zeroizing::new(signing.map_err(|error| error.refusal())?);
    let hash = token_hash(&text);
    let scopes: Vec<String> = claims.scope.iter().cloned().map(String::from).collect();
    let mut detail = vec![
        ("job_id", job.job_id.to_string()),
        ("scope", scopes.join(" ")),
        ("expires_at", claims.expires_at().to_string()),
    ];
    if let Some(elevated) = &grant.elevated {
        detail.push(("approver", elevated.approver.clone()));
    }
    let action = Action {
        operator,
        name: "token.issue",
        subject: hash.to_hex(),
        detail,
        at: now,
    };
    let token = NewToken {
        token_hash: hash,
        job_id: job.job_id.clone(),
        claims: claims.clone(),
        issued_at: now,
        issued_by: operator.to_owned(),
        signed_by: Some(key.did()),
        renews: grant.renews,
        elevated: grant.elevated,
    };
    let issuing = async {
        let issued = issuer.store.issue(token).await;
        issued.map_err(|error| match error.conflict() {
            Some(Conflict::TokenRevoked) => IssueError::from(ReasonCode::TokenRevoked),
            _ => error.into(),
        })
    };
    audited(issuer.store, action, issuing).await?;
    kill_point!("token.issued");
    Ok(IssuedToken { text, hash, claims })
}

/// Lets a token take the place of an earlier one at the addresses that were given out for that:
/// whoever polls a log does so for longer than a token lives.
///
/// # Errors
/// When the store cannot be read.
pub async fn succeed(app: &App, earlier: &Hash, later: &Hash) -> Result<(), StoreError> {
    if let Some(row) = app.store.token(later).await? {
        keep(&*app.store, &app.live, row).await?;
    }
    if let Some(later) = app.live.token(later) {
        app.capabilities.hand_over(earlier, &later);
    }
    Ok(())
}

/// Revokes a token and those that took its place: the store first, then what is known; open
/// streams are cut. `None` when there is no such token; a second revocation returns the first one.
///
/// # Errors
/// When the store does not take it. The token then counts as before.
pub async fn revoke(
    store: &dyn Store,
    live: &Live,
    operator: &str,
    token_hash: &Hash,
    reason: &str,
    now: Timestamp,
) -> Result<Option<Revoked>, StoreError> {
    let Some(row) = store.token(token_hash).await? else {
        return Ok(None);
    };
    let action = Action {
        operator,
        name: "token.revoke",
        subject: token_hash.to_hex(),
        detail: vec![("reason", reason.to_owned())],
        at: now,
    };
    let revoked = audited(
        store,
        action,
        store.revoke(token_hash, operator, reason, now),
    )
    .await?;
    kill_point!("token.revoked");
    live.revoke_token(token_hash);
    let job = row.token.job_id.clone();
    keep(store, live, row).await?;
    live.revoke_token(token_hash);
    // Nothing renews it any more, so those that did can be counted.
    for next in store.tokens(&job).await? {
        if next.token.renews == Some(*token_hash) {
            let hash = next.token.token_hash;
            Box::pin(revoke(store, live, operator, &hash, reason, now)).await?;
        }
    }
    Ok(revoked)
}

/// Makes a token known, so that its revocation can be marked. A first call that has read the
/// token from the store just before the revocation keeps it just after; the first one kept stays,
/// so that call finds this one.
async fn keep(store: &dyn Store, live: &Live, row: TokenRow) -> Result<(), StoreError> {
    let token = row.token;
    if live.token(&token.token_hash).is_some() {
        return Ok(());
    }
    let Some(job) = store.job(&token.job_id).await? else {
        return Ok(());
    };
    let contract = clawcontrols::lookup(store, live, &job.policy_hash).await?;
    let (true, Some(contract)) = (job.state.is_open(), contract) else {
        return Ok(());
    };
    let (records, last_at) = (job.counters.records, job.last_at);
    let job = LiveJob::open(job.job_id, job.agent_did, job.name, contract);
    job.count(records, store.record_bytes(&job.id).await?);
    job.wrote_at(last_at);
    let job = live.keep_job(job);
    let token = LiveToken::new(
        token.token_hash,
        token.claims,
        job,
        token.signed_by,
        row.holder,
    );
    live.keep_token(token);
    Ok(())
}

fn refuse<T>(detail: String) -> Result<T, IssueError> {
    Err(Refusal::new(ReasonCode::TokenRequestRefused, detail).into())
}

#[cfg(test)]
mod tests;
