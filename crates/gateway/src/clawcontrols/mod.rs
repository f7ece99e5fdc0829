//! The registry of Work Policy Contracts.
//!
//! It takes what a listed author signed, unchanged, and can forge nothing: it holds no key.
//! Versions of a name are an append-only list; a version can be withdrawn, never removed.

use std::sync::Arc;

use policy::contract::{Issue, PublicationRules, Severity};
use policy::{Contract, ContractErrors, ReasonCode};
use proof::{Did, Envelope, EnvelopeError, EnvelopeType, Hash, Json, Timestamp};
use store::{Conflict, ContractRow, ContractVersion, Store, StoreError, Withdrawal};

use crate::app::App;
use crate::clawproxy;
use crate::config::{Author, Config};
use crate::live::{Live, LiveContract};
use crate::operator::audit::{Action, audited};

/// What is to be published.
#[derive(Debug)]
pub struct Submission {
    /// The contract, signed by its author.
    pub envelope: Envelope,
    /// The same contract, signed by a second one.
    pub cosigned: Option<Envelope>,
}

impl From<Envelope> for Submission {
    fn from(envelope: Envelope) -> Self {
        Self {
            envelope,
            cosigned: None,
        }
    }
}

/// What publishing did.
#[derive(Debug)]
pub struct Publication {
    /// The contract's hash.
    pub policy_hash: Hash,
    /// The name that its versions share.
    pub name: String,
    /// Its number within the name.
    pub version: u32,
    /// It had been published before; nothing was changed.
    pub existed: bool,
    /// What its author should know all the same.
    pub warnings: Vec<Issue>,
}

/// Why a contract is not published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// Hash or signature of the envelope do not hold, or it is an envelope of something else.
    #[error("the envelope is not valid: {0}")]
    Envelope(#[source] EnvelopeError),
    /// The contract does not load.
    #[error("the contract has {} error(s)", .0.0.len())]
    Contract(#[source] ContractErrors),
    /// Signed well, but by nobody whom the operator lists.
    #[error("`{0}` is not among the listed authors")]
    UnknownAuthor(Did),
    /// It loads, and may not be published.
    #[error("{} thing(s) stand against publishing the contract", .0.len())]
    Blocked(Vec<Issue>),
    /// What the second author signed is another document.
    #[error("the second author signed another contract")]
    CosignedOther,
    /// Both signatures are by the same author.
    #[error("both signatures are by `{0}`; the second author must be somebody else")]
    SameAuthor(String),
    /// It allows something new, and has one signature only.
    #[error("{}", new_in_words(.0))]
    SecondAuthor(Vec<Issue>),
    /// The store did not take it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl PublishError {
    /// The stable reason.
    pub fn code(&self) -> ReasonCode {
        match self {
            Self::Envelope(EnvelopeError::Malformed(_)) | Self::Contract(_) => {
                ReasonCode::ContractInvalid
            }
            Self::Envelope(_) => ReasonCode::ContractSignature,
            Self::UnknownAuthor(_) => ReasonCode::ContractAuthorUnknown,
            Self::CosignedOther => ReasonCode::ContractSignature,
            Self::SameAuthor(_) | Self::SecondAuthor(_) => ReasonCode::ContractSecondAuthor,
            Self::Blocked(issues) => issues
                .iter()
                .find_map(|issue| issue.code)
                .unwrap_or(ReasonCode::ContractInvalid),
            Self::Store(StoreError::Conflict(Conflict::OtherInForce)) => ReasonCode::Overloaded,
            Self::Store(StoreError::Conflict(_)) => ReasonCode::ContractInvalid,
            Self::Store(_) => ReasonCode::StoreUnavailable,
        }
    }
}

fn new_in_words(new: &[Issue]) -> String {
    match new.first() {
        None => "no version of this name is in force, so that everything is new: a second author \
                 has to sign it"
            .to_owned(),
        Some(first) => format!(
            "the contract allows what the version in force does not ({}): a second author has to \
             sign it",
            first.message
        ),
    }
}

/// One comparison at a time: it can take long, and nobody may have several of them run. The turn
/// belongs to the thread that compares, which goes on when whoever asked has hung up.
static COMPARING: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Publishes a signed contract in the name of `operator`, who need not be its author.
///
/// # Errors
/// See [`PublishError`]; nothing is stored then.
pub async fn publish(
    store: &dyn Store,
    config: &Config,
    operator: &str,
    submission: impl Into<Submission>,
    now: Timestamp,
) -> Result<Publication, PublishError> {
    let Submission { envelope, cosigned } = submission.into();
    let (contract, author) = examine(config, &envelope)?;
    let second = match &cosigned {
        None => None,
        Some(cosigned) => Some(second_author(config, &contract, author, cosigned)?),
    };
    let issues = contract.publication_issues(&PublicationRules {
        allow_autonomous_apply: config.policy.allow_autonomous_apply,
        reserved_hosts: clawproxy::egress::reserved_hosts(config),
        witnesses: Some(
            config
                .log
                .witnesses
                .iter()
                .map(|witness| witness.name.clone())
                .collect(),
        ),
        timestamps: Some(config.log.timestamps.is_some()),
    });
    let (blocking, warnings): (Vec<_>, Vec<_>) = issues
        .into_iter()
        .partition(|issue| issue.severity == Severity::Blocks);
    if !blocking.is_empty() {
        return Err(PublishError::Blocked(blocking));
    }
    let policy_hash = contract.hash();
    let compared = match config.policy.wider_needs_second_author && second.is_none() {
        true => check_no_wider(store, &contract).await?,
        false => None,
    };
    let mut detail = vec![
        ("name", contract.name.clone()),
        ("author_did", author.did.to_string()),
    ];
    detail.extend(second.map(|second| ("second_author_did", second.did.to_string())));
    let action = Action {
        operator,
        name: "contract.publish",
        subject: policy_hash.to_string(),
        detail,
        at: now,
    };
    let version = ContractVersion {
        policy_hash,
        name: contract.name.clone(),
        envelope,
        second_envelope: cosigned,
        author_did: author.did.clone(),
        published_at: now,
        published_by: operator.to_owned(),
    };
    let published = audited(store, action, async {
        match compared {
            Some(in_force) => store.publish_in_place_of(version, in_force).await,
            None => store.publish(version).await,
        }
    });
    let published = published.await?;
    Ok(Publication {
        policy_hash,
        name: contract.name,
        version: published.version,
        existed: published.existed,
        warnings,
    })
}

/// Reads a contract out of its envelope: signature, listed author, strict document.
fn examine<'c>(
    config: &'c Config,
    envelope: &Envelope,
) -> Result<(Contract, &'c Author), PublishError> {
    let signed = envelope
        .verify::<Json>(EnvelopeType::WorkPolicyContract)
        .map_err(PublishError::Envelope)?;
    let mut authors = config.authors.iter();
    let Some(author) = authors.find(|author| author.did == signed.signer) else {
        return Err(PublishError::UnknownAuthor(signed.signer));
    };
    let contract = Contract::parse(&signed.payload.to_jcs()).map_err(PublishError::Contract)?;
    // Both are hashes of the same canonical form; if they differ, the two readers disagree
    // about what the document says, and nobody should rely on it.
    if contract.hash() != signed.payload_hash {
        return Err(PublishError::Envelope(EnvelopeError::HashMismatch));
    }
    Ok((contract, author))
}

/// Who else signed the contract: another listed author, by name and by key.
fn second_author<'c>(
    config: &'c Config,
    contract: &Contract,
    first: &Author,
    cosigned: &Envelope,
) -> Result<&'c Author, PublishError> {
    let (same, second) = examine(config, cosigned)?;
    if same.hash() != contract.hash() {
        return Err(PublishError::CosignedOther);
    }
    let is_one_name = second.name.trim().eq_ignore_ascii_case(first.name.trim());
    if second.did == first.did || is_one_name {
        return Err(PublishError::SameAuthor(second.name.clone()));
    }
    Ok(second)
}

/// Refuses a contract of one author that allows anything that the version in force of its name
/// does not. What was published already changes nothing, and passes. Returns the version that it
/// was compared with, which has to be in force still when the contract is published.
async fn check_no_wider(
    store: &dyn Store,
    contract: &Contract,
) -> Result<Option<Hash>, PublishError> {
    if store.contract(&contract.hash()).await?.is_some() {
        return Ok(None);
    }
    let turn = COMPARING.lock().await;
    let Some(old) = in_force(store.versions(&contract.name).await?) else {
        return Err(PublishError::SecondAuthor(Vec::new()));
    };
    let in_force = old.contract.policy_hash;
    let corrupt = || StoreError::Corrupt(format!("contract `{in_force}`"));
    let old = Contract::from_json(old.contract.envelope.payload.clone()).map_err(|_| corrupt())?;
    let new = contract.clone();
    let compared = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        policy::prove::newly_allowed(&old, &new)
    });
    let (more, undecided) = compared
        .await
        .map_err(|error| StoreError::Unavailable(Arc::new(error)))?;
    if more.is_empty() && undecided.is_empty() {
        return Ok(Some(in_force));
    }
    let issue = |path, message| Issue {
        path,
        severity: Severity::Blocks,
        code: Some(ReasonCode::ContractSecondAuthor),
        message,
    };
    let new = more
        .iter()
        .map(|one| issue(one.dimension.name(), one.question.in_words()));
    let undecided = undecided.iter().map(|one| {
        let message = format!("too much to be decided about {}", one.name());
        issue(one.name(), message)
    });
    Err(PublishError::SecondAuthor(new.chain(undecided).collect()))
}

/// Withdraws a version: no new jobs and tokens, and no more calls under it. `None` when there is
/// no such version; a second withdrawal returns the first one.
///
/// # Errors
/// When the store does not take it.
pub async fn withdraw(
    store: &dyn Store,
    live: &Live,
    operator: &str,
    policy_hash: &Hash,
    reason: &str,
    now: Timestamp,
) -> Result<Option<Withdrawal>, StoreError> {
    if store.contract(policy_hash).await?.is_none() {
        return Ok(None);
    }
    let action = Action {
        operator,
        name: "contract.withdraw",
        subject: policy_hash.to_string(),
        detail: vec![("reason", reason.to_owned())],
        at: now,
    };
    let withdrawal = audited(store, action, store.withdraw(policy_hash, operator, now)).await?;
    // The store first: a lookup that runs beside this one reads it again after keeping it.
    live.withdraw_contract(policy_hash);
    Ok(withdrawal)
}

/// Of all versions of a name, oldest first, the one that is in force: the newest that was not
/// withdrawn.
pub fn in_force(versions: Vec<ContractRow>) -> Option<ContractRow> {
    let mut newest_first = versions.into_iter().rev();
    newest_first.find(|version| version.withdrawn.is_none())
}

/// The version in force of each name that has one.
///
/// # Errors
/// When the store does not answer.
pub async fn contracts_in_force(store: &dyn Store) -> Result<Vec<ContractRow>, StoreError> {
    let mut found = Vec::new();
    for name in store.contracts().await? {
        // The newest stands for itself, and the others need not be read.
        let versions = match name.latest.withdrawn {
            None => vec![name.latest],
            Some(_) => store.versions(&name.latest.contract.name).await?,
        };
        found.extend(in_force(versions));
    }
    Ok(found)
}

/// The contract with this hash, ready to decide. `None` when it was never published.
///
/// # Errors
/// When the store does not answer, or holds a contract that does not load any more.
pub async fn contract(app: &App, hash: &Hash) -> Result<Option<Arc<LiveContract>>, StoreError> {
    lookup(&*app.store, &app.live, hash).await
}

/// The same from its parts: first what is known, then the store.
///
/// # Errors
/// See [`contract`].
pub async fn lookup(
    store: &dyn Store,
    live: &Live,
    hash: &Hash,
) -> Result<Option<Arc<LiveContract>>, StoreError> {
    if let Some(known) = live.contract(hash) {
        return Ok(Some(known));
    }
    let Some(row) = store.contract(hash).await? else {
        return Ok(None);
    };
    let corrupt = |what: &str| StoreError::Corrupt(format!("contract `{hash}` {what}"));
    let signed = row
        .contract
        .envelope
        .verify::<Json>(EnvelopeType::WorkPolicyContract)
        .map_err(|_| corrupt("is not what its author signed"))?;
    let contract =
        Contract::parse(&signed.payload.to_jcs()).map_err(|_| corrupt("does not load"))?;
    if contract.hash() != *hash {
        return Err(corrupt("has another hash"));
    }
    let kept = live.keep_contract(LiveContract::new(contract, row.withdrawn.is_some()));
    // A withdrawal between the reading and the keeping found nothing to mark; it is in the store.
    if !kept.is_withdrawn() {
        let again = store.contract(hash).await?;
        if again.is_none_or(|row| row.withdrawn.is_some()) {
            kept.withdraw();
        }
    }
    Ok(Some(kept))
}

#[cfg(test)]
mod tests;
