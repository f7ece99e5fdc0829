//! Contracts over the operator API.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use policy::contract::Issue;
use policy::{Contract, ReasonCode};
use proof::{Did, Envelope, Hash, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use store::{ContractRow, Withdrawal};

use super::credential::Operator;
use super::extract::{Id, Params, Strict};
use super::problem::{Finding, Problem};
use crate::app::App;
use crate::clawcontrols::{self, PublishError, Submission};
use crate::shapes;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "PublishContract")]
pub(super) struct Publish {
    /// The contract, signed by its author.
    #[schemars(with = "shapes::Envelope")]
    envelope: Envelope,
    /// The same contract, signed by a second author.
    #[serde(default)]
    #[schemars(with = "Option<shapes::Envelope>")]
    cosigned: Option<Envelope>,
}

/// Publishes what an author signed.
pub(super) async fn publish(
    State(app): State<Arc<App>>,
    operator: Operator,
    Strict(body): Strict<Publish>,
) -> Result<Json<Published>, Problem> {
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
    Ok(Json(Published {
        policy_hash_b64u: made.policy_hash,
        name: made.name,
        version: made.version,
        existed: made.existed,
        warnings: made.warnings.iter().map(finding).collect(),
    }))
}

/// Every name with its latest version.
pub(super) async fn list(State(app): State<Arc<App>>) -> Result<Json<Contracts>, Problem> {
    let names = app.store.contracts().await?;
    let names = names.into_iter().map(|name| ContractView {
        latest: name.latest.into(),
        versions: name.versions,
        withdrawn_versions: name.withdrawn,
        open_jobs: name.open_jobs,
    });
    Ok(Json(Contracts {
        contracts: names.collect(),
    }))
}

/// One version, with the document as its author signed it.
pub(super) async fn show(
    State(app): State<Arc<App>>,
    Id(hash): Id<Hash>,
) -> Result<Json<Document>, Problem> {
    let row = app
        .store
        .contract(&hash)
        .await?
        .ok_or(ReasonCode::ContractUnknown)?;
    Ok(Json(Document {
        envelope: row.contract.envelope.clone(),
        second_envelope: row.contract.second_envelope.clone(),
        version: row.into(),
    }))
}

/// Every version of a name, oldest first.
pub(super) async fn versions(
    State(app): State<Arc<App>>,
    Id(name): Id<String>,
) -> Result<Json<Versions>, Problem> {
    let rows = app.store.versions(&name).await?;
    if rows.is_empty() {
        return Err(ReasonCode::ContractUnknown.into());
    }
    let versions = rows.into_iter().map(Version::from).collect();
    Ok(Json(Versions { name, versions }))
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Pair {
    #[schemars(with = "shapes::Sha256")]
    old: Hash,
    #[schemars(with = "shapes::Sha256")]
    new: Hash,
}

/// What the new version allows that the old one did not, and the other way round.
pub(super) async fn diff(
    State(app): State<Arc<App>>,
    Params(pair): Params<Pair>,
) -> Result<Json<Difference>, Problem> {
    let (old, new) = (load(&app, &pair.old).await?, load(&app, &pair.new).await?);
    let diff = policy::diff(&old, &new);
    Ok(Json(Difference {
        old: pair.old,
        new: pair.new,
        diff,
    }))
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

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "WithdrawContract")]
pub(super) struct Withdraw {
    #[schemars(with = "shapes::Reason")]
    reason: super::extract::Reason,
}

/// Withdraws a version.
pub(super) async fn withdraw(
    State(app): State<Arc<App>>,
    Id(hash): Id<Hash>,
    operator: Operator,
    Strict(body): Strict<Withdraw>,
) -> Result<Json<Withdrawn>, Problem> {
    let (store, reason, now) = (&*app.store, body.reason.as_str(), app.now());
    let withdrawal =
        clawcontrols::withdraw(store, &app.live, operator.name(), &hash, reason, now).await?;
    let withdrawal = withdrawal.ok_or(ReasonCode::ContractUnknown)?;
    Ok(Json(Withdrawn {
        policy_hash_b64u: hash,
        withdrawal: withdrawal.into(),
    }))
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "PublishedContract")]
pub(super) struct Published {
    #[schemars(with = "shapes::Sha256")]
    policy_hash_b64u: Hash,
    name: String,
    version: u32,
    /// It had been published before; nothing was changed.
    existed: bool,
    /// What its author should know all the same.
    warnings: Vec<Finding>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Contracts {
    contracts: Vec<ContractView>,
}

/// A name with its latest version.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Contract")]
pub(super) struct ContractView {
    #[serde(flatten)]
    latest: Version,
    /// How many versions there are.
    versions: u32,
    withdrawn_versions: u32,
    /// Jobs that are open under any of them.
    open_jobs: u64,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ContractVersions")]
pub(super) struct Versions {
    name: String,
    /// Oldest first.
    versions: Vec<Version>,
}

/// One version of a contract.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ContractVersion")]
pub(super) struct Version {
    #[schemars(with = "shapes::Sha256")]
    policy_hash_b64u: Hash,
    name: String,
    version: u32,
    #[schemars(with = "shapes::Did")]
    author_did: Did,
    /// Who signed it besides, when somebody had to.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<shapes::Did>")]
    second_author_did: Option<Did>,
    #[schemars(with = "shapes::Timestamp")]
    published_at: Timestamp,
    published_by: String,
    #[serde(flatten)]
    withdrawal: Option<WithdrawalView>,
}

impl From<ContractRow> for Version {
    fn from(row: ContractRow) -> Self {
        Self {
            policy_hash_b64u: row.contract.policy_hash,
            name: row.contract.name,
            version: row.version,
            author_did: row.contract.author_did,
            second_author_did: row.contract.second_envelope.map(|second| second.signer_did),
            published_at: row.contract.published_at,
            published_by: row.contract.published_by,
            withdrawal: row.withdrawn.map(WithdrawalView::from),
        }
    }
}

/// A version with its document.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ContractDocument")]
pub(super) struct Document {
    #[serde(flatten)]
    version: Version,
    /// The contract, as its author signed it.
    #[schemars(with = "shapes::Envelope")]
    envelope: Envelope,
    /// The same, as the second author signed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<shapes::Envelope>")]
    second_envelope: Option<Envelope>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ContractDifference")]
pub(super) struct Difference {
    #[schemars(with = "shapes::Sha256")]
    old: Hash,
    #[schemars(with = "shapes::Sha256")]
    new: Hash,
    #[schemars(with = "shapes::Document")]
    diff: policy::ContractDiff,
}

/// A version that was withdrawn.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "WithdrawnContract")]
pub(super) struct Withdrawn {
    #[schemars(with = "shapes::Sha256")]
    policy_hash_b64u: Hash,
    #[serde(flatten)]
    withdrawal: WithdrawalView,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Withdrawal")]
struct WithdrawalView {
    #[schemars(with = "shapes::Timestamp")]
    withdrawn_at: Timestamp,
    withdrawn_by: String,
}

impl From<Withdrawal> for WithdrawalView {
    fn from(withdrawal: Withdrawal) -> Self {
        Self {
            withdrawn_at: withdrawal.at,
            withdrawn_by: withdrawal.by,
        }
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
