//! Scoped tokens over the operator API.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use policy::ReasonCode;
use proof::record::JobId;
use proof::token::{Scope, token_hash};
use proof::{Envelope, Hash, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::credential::Operator;
use super::extract::{FormOrJson, Reason, Strict, hash_from_hex};
use super::problem::Problem;
use crate::app::App;
use crate::clawscope::{
    self, ElevatedRequest, Introspection, IssueError, IssuedToken, Issuer, KeySet,
};
use crate::shapes;

/// The public token key.
pub(super) async fn jwks(State(app): State<Arc<App>>) -> Json<KeySet> {
    Json(clawscope::jwks(&app.keys.now(), app.now()))
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "IssueToken")]
pub(super) struct Issue {
    #[schemars(with = "shapes::JobId")]
    job_id: JobId,
    /// How long it is good; the contract sets the most.
    #[serde(default)]
    ttl_seconds: Option<u32>,
    /// What it grants; all that the contract allows unless it is said.
    #[serde(default)]
    #[schemars(with = "Option<Vec<shapes::Scope>>")]
    scopes: Option<Vec<Scope>>,
    /// Hash of the token that this one takes the place of.
    #[serde(default)]
    #[schemars(with = "Option<shapes::HexSha256>")]
    renews: Option<String>,
}

/// Issues a token; its text is in this answer and nowhere else.
pub(super) async fn issue(
    State(app): State<Arc<App>>,
    operator: Operator,
    Strict(body): Strict<Issue>,
) -> Result<Json<Issued>, Problem> {
    let renews = body.renews.as_deref().map(hash_from_hex).transpose()?;
    let request = clawscope::TokenRequest {
        ttl_seconds: body.ttl_seconds,
        scopes: body.scopes,
        renews,
    };
    let issuer = Issuer::of(&app);
    let token = clawscope::issue(issuer, operator.name(), &body.job_id, request, app.now()).await?;
    if let Some(renewed) = &renews {
        clawscope::succeed(&app, renewed, &token.hash).await?;
    }
    Ok(Json(token.into()))
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "IssueElevatedToken")]
pub(super) struct IssueElevated {
    #[schemars(with = "shapes::RunId")]
    run_id: policy::terraform::ids::RunId,
    /// The approver's signed statement.
    #[schemars(with = "shapes::Envelope")]
    envelope: Envelope,
    /// How long it is good, 10 minutes at most.
    #[serde(default)]
    ttl_seconds: Option<u32>,
}

/// Issues the second token, which carries one approver's yes to one plan.
pub(super) async fn issue_elevated(
    State(app): State<Arc<App>>,
    operator: Operator,
    Strict(body): Strict<IssueElevated>,
) -> Result<Json<Issued>, Problem> {
    let request = ElevatedRequest {
        run_id: body.run_id.as_str().to_owned(),
        envelope: body.envelope,
        ttl_seconds: body.ttl_seconds,
    };
    let token = clawscope::issue_elevated(&app, operator.name(), request).await?;
    Ok(Json(token.into()))
}

/// A new token.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "IssuedToken")]
pub(super) struct Issued {
    /// Its text: here and nowhere else.
    token: String,
    /// The name under which it is inspected, renewed and revoked.
    #[schemars(with = "shapes::HexSha256")]
    token_hash: String,
    token_type: &'static str,
    #[schemars(with = "Vec<shapes::Scope>")]
    scopes: Vec<Scope>,
    #[schemars(with = "shapes::JobId")]
    job_id: String,
    /// The contract that it is pinned to.
    #[schemars(with = "shapes::Sha256")]
    policy_hash_b64u: Hash,
    #[schemars(with = "shapes::Timestamp")]
    expires_at: Timestamp,
    /// Seconds from its issue to its end.
    expires_in: i64,
}

impl From<IssuedToken> for Issued {
    fn from(token: IssuedToken) -> Self {
        Self {
            token: token.text.to_string(),
            token_hash: token.hash.to_hex(),
            token_type: "Bearer",
            expires_at: token.claims.expires_at(),
            expires_in: token.claims.exp - token.claims.iat,
            scopes: token.claims.scope,
            job_id: token.claims.mission_id,
            policy_hash_b64u: token.claims.policy_hash_b64u,
        }
    }
}

/// A token by its text, or by the hash of its text.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "WhichToken")]
pub(super) struct Which {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    #[schemars(with = "Option<shapes::HexSha256>")]
    token_hash: Option<String>,
    /// RFC 7662 and RFC 7009 let clients guess the kind; there is only one.
    #[serde(default, rename = "token_type_hint")]
    _token_type_hint: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "RevokeToken")]
pub(super) struct Revoke {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    #[schemars(with = "Option<shapes::HexSha256>")]
    token_hash: Option<String>,
    /// See [`Which`].
    #[serde(default, rename = "token_type_hint")]
    #[schemars(description = "There is only one kind; ignored")]
    _token_type_hint: Option<String>,
    #[serde(default)]
    #[schemars(with = "Option<shapes::Reason>")]
    reason: Option<Reason>,
}

/// What became of a token that was to be revoked. One that is not known is as good as revoked.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "RevokedToken")]
pub(super) struct RevokedView {
    #[schemars(with = "shapes::HexSha256")]
    token_hash: String,
    known: bool,
    #[serde(flatten)]
    revocation: Option<Revocation>,
}

/// The revocation that holds: the first one.
#[derive(Debug, Serialize, JsonSchema)]
struct Revocation {
    #[schemars(with = "shapes::Timestamp")]
    revoked_at: Timestamp,
    revoked_by: String,
    reason: String,
    /// It was revoked before this call.
    before: bool,
}

fn named(token: Option<&str>, hash: Option<&str>) -> Result<Hash, Problem> {
    match (token, hash) {
        (Some(text), None) => Ok(token_hash(text)),
        (None, Some(hash)) => hash_from_hex(hash),
        _ => {
            let detail = "give either `token` or `token_hash`";
            Err(Problem::new(ReasonCode::BodyMissingMember, detail))
        }
    }
}

/// Tells about a token (RFC 7662).
pub(super) async fn introspect(
    State(app): State<Arc<App>>,
    FormOrJson(body): FormOrJson<Which>,
) -> Result<Json<Introspection>, Problem> {
    let hash = named(body.token.as_deref(), body.token_hash.as_deref())?;
    Ok(Json(
        clawscope::introspect(&*app.store, &app.live, &app.keys.now(), &hash, app.now()).await?,
    ))
}

/// Revokes a token (RFC 7009). A token that is not known is as good as revoked: also 200.
pub(super) async fn revoke(
    State(app): State<Arc<App>>,
    operator: Operator,
    FormOrJson(body): FormOrJson<Revoke>,
) -> Result<Json<RevokedView>, Problem> {
    let hash = named(body.token.as_deref(), body.token_hash.as_deref())?;
    let reason = body
        .reason
        .as_ref()
        .map_or("revoked by an operator", Reason::as_str);
    let (store, by, now) = (&*app.store, operator.name(), app.now());
    let revoked = clawscope::revoke(store, &app.live, by, &hash, reason, now).await?;
    Ok(Json(RevokedView {
        token_hash: hash.to_hex(),
        known: revoked.is_some(),
        revocation: revoked.map(|revoked| Revocation {
            revoked_at: revoked.revocation.at,
            revoked_by: revoked.revocation.by,
            reason: revoked.revocation.reason,
            before: revoked.before,
        }),
    }))
}

impl From<IssueError> for Problem {
    fn from(error: IssueError) -> Self {
        match error {
            IssueError::Refused(refusal) => refusal.into(),
            IssueError::Store(error) => error.into(),
        }
    }
}
