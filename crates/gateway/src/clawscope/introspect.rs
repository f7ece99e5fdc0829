//! What is known about a token, in the shape of RFC 7662.

use policy::ReasonCode;
use proof::{Hash, Timestamp};
use schemars::JsonSchema;
use serde::Serialize;
use store::{Store, StoreError, TokenRow};

use crate::clawcontrols;
use crate::keys::Keys;
use crate::live::Live;
use crate::shapes;

/// The answer. An inactive token of ours says why, which RFC 7662 leaves to the server: only
/// operators can ask here. Of a token that is not ours nothing is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Introspection {
    /// It would be accepted now.
    pub active: bool,
    /// Why it would not.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<shapes::ReasonCode>")]
    pub code: Option<ReasonCode>,
    /// Everything else, when it is ours.
    #[serde(flatten)]
    pub known: Option<Known>,
}

/// What is known about a token of ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Known {
    /// Scopes, separated by spaces.
    pub scope: String,
    /// Always `Bearer`.
    pub token_type: &'static str,
    /// The agent.
    pub sub: String,
    /// This gateway.
    pub aud: String,
    /// Unique id.
    pub jti: String,
    /// Issued at, seconds since 1970.
    pub iat: i64,
    /// Expires at, seconds since 1970.
    pub exp: i64,
    /// The job.
    pub job_id: String,
    /// The contract that it is pinned to.
    #[schemars(with = "shapes::Sha256")]
    pub policy_hash_b64u: Hash,
    /// SHA-256 of its text, in hexadecimal.
    pub token_hash: String,
    /// The operator who asked for it.
    pub issued_by: String,
    /// Whom it was bound to at first use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub holder: Option<String>,
    /// First use.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<shapes::Timestamp>")]
    pub first_used_at: Option<Timestamp>,
    /// Last use.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<shapes::Timestamp>")]
    pub last_used_at: Option<Timestamp>,
    /// Revocation.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<shapes::Timestamp>")]
    pub revoked_at: Option<Timestamp>,
    /// Who revoked it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revoked_by: Option<String>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revocation_reason: Option<String>,
    /// How often somebody else tried to use it.
    pub replays_refused: u64,
    /// The run that an elevated token approves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub elevated_for_run: Option<String>,
}

/// Looks a token up by its hash.
///
/// # Errors
/// When the store does not answer.
pub async fn introspect(
    store: &dyn Store,
    live: &Live,
    keys: &Keys,
    token_hash: &Hash,
    now: Timestamp,
) -> Result<Introspection, StoreError> {
    let Some(row) = store.token(token_hash).await? else {
        return Ok(Introspection {
            active: false,
            code: None,
            known: None,
        });
    };
    let code = match keys.has_revoked_signer(row.token.signed_by.as_ref()) {
        true => Some(ReasonCode::TokenRevoked),
        false => reason_against(store, live, &row, now).await?,
    };
    Ok(Introspection {
        active: code.is_none(),
        code,
        known: Some(Known::from(row)),
    })
}

/// The first reason for which the token would be refused, whoever holds it.
async fn reason_against(
    store: &dyn Store,
    live: &Live,
    row: &TokenRow,
    now: Timestamp,
) -> Result<Option<ReasonCode>, StoreError> {
    if row.revoked.is_some() {
        return Ok(Some(ReasonCode::TokenRevoked));
    }
    if row.elevated_used_at.is_some() {
        return Ok(Some(ReasonCode::TokenSpent));
    }
    if row.token.claims.expires_at() <= now {
        return Ok(Some(ReasonCode::TokenExpired));
    }
    if now.seconds() < row.token.claims.iat {
        return Ok(Some(ReasonCode::TokenNotYetValid));
    }
    let job = store.job(&row.token.job_id).await?;
    if job.is_none_or(|job| !job.state.is_open()) {
        return Ok(Some(ReasonCode::TokenJobClosed));
    }
    let contract = clawcontrols::lookup(store, live, &row.token.claims.policy_hash_b64u).await?;
    let holds = contract.is_some_and(|contract| !contract.is_withdrawn());
    Ok((!holds).then_some(ReasonCode::ContractWithdrawn))
}

impl From<TokenRow> for Known {
    fn from(row: TokenRow) -> Self {
        let token = row.token;
        let scopes: Vec<String> = token.claims.scope.into_iter().map(String::from).collect();
        let (revoked_at, revoked_by, revocation_reason) = match row.revoked {
            Some(revoked) => (Some(revoked.at), Some(revoked.by), Some(revoked.reason)),
            None => (None, None, None),
        };
        Self {
            scope: scopes.join(" "),
            token_type: "Bearer",
            sub: token.claims.sub.to_string(),
            aud: token.claims.aud,
            jti: token.claims.jti,
            iat: token.claims.iat,
            exp: token.claims.exp,
            job_id: token.job_id.to_string(),
            policy_hash_b64u: token.claims.policy_hash_b64u,
            token_hash: token.token_hash.to_hex(),
            issued_by: token.issued_by,
            holder: row.holder,
            first_used_at: row.first_used_at,
            last_used_at: row.last_used_at,
            revoked_at,
            revoked_by,
            revocation_reason,
            replays_refused: row.replays_refused,
            elevated_for_run: token.elevated.map(|elevated| elevated.run_id),
        }
    }
}
