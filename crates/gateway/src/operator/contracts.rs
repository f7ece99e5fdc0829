//! Contracts over the operator API.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use policy::contract::Issue;
use policy::{Contract, ReasonCode};
use proof::{Envelope, Hash};
use serde::Deserialize;
use serde_json::{Value, json};
use store::{ContractRow, Withdrawal};

use super::credential::Operator;
use super::extract::{Id, Params, Strict};
use super::problem::{Finding, Problem};
use crate::app::App;
use crate::clawcontrols::{self, PublishError, Submission};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Publish {
    envelope: Envelope,
    /// The same contract, signed by a second author.
    #[serde(default)]
    cosigned: Option<Envelope>,
}

/// Publishes what an author signed.
pub(super) async fn publish(
    State(app): State<Arc<App>>,
    operator: Operator,
    Strict(body): Strict<Publish>,
) -> Result<Json<Value>, Problem> {
    let now = app.now();
    let made = clawcontrols::publish(
        &*app.store,
        &app.config,
        operator.name(),
        Submission {
            envelope: body.envelope,
            cosigned: body.cosigned,
        },
        now,
    )
    .await?;
    Ok(Json(json!({
        "policy_hash_b64u": made.policy_hash,
        "name": made.name,
        "version": made.version,
        "existed": made.existed,
        "warnings": made.warnings.iter().map(finding).collect::<Vec<_>>(),
    })))
}

/// Every name with its latest version.
pub(super) async fn list(State(app): State<Arc<App>>) -> Result<Json<Value>, Problem> {
    let names = app.store.contracts().await?;
    let names = names.iter().map(|name| {
        let mut view = version_view(&name.latest);
        view["versions"] = json!(name.versions);
        view["withdrawn_versions"] = json!(name.withdrawn);
        view["open_jobs"] = json!(name.open_jobs);
        view
    });
    Ok(Json(json!({ "contracts": names.collect::<Vec<_>>() })))
}

/// One version, with the document as its author signed it.
pub(super) async fn show(
    State(app): State<Arc<App>>,
    Id(hash): Id<Hash>,
) -> Result<Json<Value>, Problem> {
    let row = app
        .store
        .contract(&hash)
        .await?
        .ok_or(ReasonCode::ContractUnknown)?;
    let mut view = version_view(&row);
    view["envelope"] = json!(row.contract.envelope);
    if let Some(second) = &row.contract.second_envelope {
        view["second_envelope"] = json!(second);
    }
    Ok(Json(view))
}

/// Every version of a name, oldest first.
pub(super) async fn versions(
    State(app): State<Arc<App>>,
    Id(name): Id<String>,
) -> Result<Json<Value>, Problem> {
    let rows = app.store.versions(&name).await?;
    if rows.is_empty() {
        return Err(ReasonCode::ContractUnknown.into());
    }
    let versions: Vec<Value> = rows.iter().map(version_view).collect();
    Ok(Json(json!({ "name": name, "versions": versions })))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pair {
    old: Hash,
    new: Hash,
}

/// What the new version allows that the old one did not, and the other way round.
pub(super) async fn diff(
    State(app): State<Arc<App>>,
    Params(pair): Params<Pair>,
) -> Result<Json<Value>, Problem> {
    let (old, new) = (load(&app, &pair.old).await?, load(&app, &pair.new).await?);
    let diff = policy::diff(&old, &new);
    Ok(Json(
        json!({ "old": pair.old, "new": pair.new, "diff": diff }),
    ))
}

async fn load(app: &App, hash: &Hash) -> Result<Contract, Problem> {
    let found = clawcontrols::contract(app, hash).await?;
    let found = found.ok_or_else(|| {
        Problem::new(
            ReasonCode::ContractUnknown,
            format!("no contract has the hash `{hash}`"),
        )
    })?;
    Ok(found.contract.clone())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Withdraw {
    reason: super::extract::Reason,
}

/// Withdraws a version.
pub(super) async fn withdraw(
    State(app): State<Arc<App>>,
    Id(hash): Id<Hash>,
    operator: Operator,
    Strict(body): Strict<Withdraw>,
) -> Result<Json<Value>, Problem> {
    let (store, reason, now) = (&*app.store, body.reason.as_str(), app.now());
    let withdrawal =
        clawcontrols::withdraw(store, &app.live, operator.name(), &hash, reason, now).await?;
    let withdrawal = withdrawal.ok_or(ReasonCode::ContractUnknown)?;
    let mut view = json!({ "policy_hash_b64u": hash });
    add_withdrawal(&mut view, Some(&withdrawal));
    Ok(Json(view))
}

fn version_view(row: &ContractRow) -> Value {
    let mut view = json!({
        "policy_hash_b64u": row.contract.policy_hash,
        "name": row.contract.name,
        "version": row.version,
        "author_did": row.contract.author_did,
        "published_at": row.contract.published_at,
        "published_by": row.contract.published_by,
    });
    if let Some(second) = &row.contract.second_envelope {
        view["second_author_did"] = json!(second.signer_did);
    }
    add_withdrawal(&mut view, row.withdrawn.as_ref());
    view
}

fn add_withdrawal(view: &mut Value, withdrawal: Option<&Withdrawal>) {
    if let Some(withdrawal) = withdrawal {
        view["withdrawn_at"] = json!(withdrawal.at);
        view["withdrawn_by"] = json!(withdrawal.by);
    }
}

fn finding(issue: &Issue) -> Finding {
    Finding {
        path: issue.path.to_owned(),
        message: issue.message.clone(),
        code: issue.code,
    }
}

impl From<PublishError> for Problem {
    fn from(error: PublishError) -> Self {
        let code = error.code();
        let message = error.to_string();
        match error {
            PublishError::Store(error) => error.into(),
            PublishError::Contract(errors) => {
                let found = errors.0.iter().map(|error| {
                    let (text, prefix) = (error.to_string(), format!("{}: ", error.path));
                    let message = text.strip_prefix(&prefix).unwrap_or(&text).to_owned();
                    Finding {
                        path: error.path.clone(),
                        message,
                        code: None,
                    }
                });
                Self::new(code, message).with_errors(found.collect())
            }
            PublishError::Blocked(issues) | PublishError::SecondAuthor(issues) => {
                Self::new(code, message).with_errors(issues.iter().map(finding).collect())
            }
            PublishError::Envelope(_)
            | PublishError::UnknownAuthor(_)
            | PublishError::CosignedOther
            | PublishError::SameAuthor(_) => Self::new(code, message),
        }
    }
}
