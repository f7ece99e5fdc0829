//! Scoped tokens over the operator API.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use policy::ReasonCode;
use proof::record::JobId;
use proof::token::{Scope, token_hash};
use proof::{Envelope, Hash};
use serde::Deserialize;
use serde_json::{Value, json};

use super::credential::Operator;
use super::extract::{FormOrJson, Reason, Strict, hash_from_hex};
use super::problem::Problem;
use crate::app::App;
use crate::clawscope::{self, ElevatedRequest, Introspection, IssueError, IssuedToken, Issuer};

/// The public token key.
pub(super) async fn jwks(State(app): State<Arc<App>>) -> Json<Value> {
    Json(clawscope::jwks(&app.keys))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Issue {
    job_id: JobId,
    #[serde(default)]
    ttl_seconds: Option<u32>,
    #[serde(default)]
    scopes: Option<Vec<Scope>>,
    /// Hash of the token that this one takes the place of.
    #[serde(default)]
    renews: Option<String>,
}

/// Issues a token; its text is in this answer and nowhere else.
pub(super) async fn issue(
    State(app): State<Arc<App>>,
    operator: Operator,
    Strict(body): Strict<Issue>,
) -> Result<Json<Value>, Problem> {
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
    Ok(Json(issued(&token)))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct IssueElevated {
    run_id: policy::terraform::ids::RunId,
    envelope: Envelope,
    #[serde(default)]
    ttl_seconds: Option<u32>,
}

/// Issues the second token, which carries one approver's yes to one plan.
pub(super) async fn issue_elevated(
    State(app): State<Arc<App>>,
    operator: Operator,
    Strict(body): Strict<IssueElevated>,
) -> Result<Json<Value>, Problem> {
    let request = ElevatedRequest {
        run_id: body.run_id.as_str().to_owned(),
        envelope: body.envelope,
        ttl_seconds: body.ttl_seconds,
    };
    let token = clawscope::issue_elevated(&app, operator.name(), request).await?;
    Ok(Json(issued(&token)))
}

fn issued(token: &IssuedToken) -> Value {
    json!({
        "token": token.text.as_str(),
        "token_hash": token.hash.to_hex(),
        "token_type": "Bearer",
        "scopes": token.claims.scope,
        "job_id": token.claims.mission_id,
        "policy_hash_b64u": token.claims.policy_hash_b64u,
        "expires_at": token.claims.expires_at(),
        "expires_in": token.claims.exp - token.claims.iat,
    })
}

/// A token by its text, or by the hash of its text.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    token_hash: Option<String>,
    /// RFC 7662 and RFC 7009 let clients guess the kind; there is only one.
    #[serde(default, rename = "token_type_hint")]
    _token_type_hint: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Revoke {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    token_hash: Option<String>,
    #[serde(default, rename = "token_type_hint")]
    _token_type_hint: Option<String>,
    #[serde(default)]
    reason: Option<Reason>,
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
        clawscope::introspect(&*app.store, &app.live, &hash, app.now()).await?,
    ))
}

/// Revokes a token (RFC 7009). A token that is not known is as good as revoked: also 200.
pub(super) async fn revoke(
    State(app): State<Arc<App>>,
    operator: Operator,
    FormOrJson(body): FormOrJson<Revoke>,
) -> Result<Json<Value>, Problem> {
    let hash = named(body.token.as_deref(), body.token_hash.as_deref())?;
    let reason = body
        .reason
        .as_ref()
        .map_or("revoked by an operator", Reason::as_str);
    let (store, by, now) = (&*app.store, operator.name(), app.now());
    let revoked = clawscope::revoke(store, &app.live, by, &hash, reason, now).await?;
    let mut view = json!({ "token_hash": hash.to_hex(), "known": revoked.is_some() });
    if let Some(revoked) = revoked {
        view["revoked_at"] = json!(revoked.revocation.at);
        view["revoked_by"] = json!(revoked.revocation.by);
        view["reason"] = json!(revoked.revocation.reason);
        view["before"] = json!(revoked.before);
    }
    Ok(Json(view))
}

impl From<IssueError> for Problem {
    fn from(error: IssueError) -> Self {
        match error {
            IssueError::Refused(refusal) => refusal.into(),
            IssueError::Store(error) => error.into(),
        }
    }
}
