//! Contracts: every name, and one version with what it changed.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use policy::{Contract, ContractDiff};
use proof::Hash;
use serde::Deserialize;
use store::{ContractRow, StoreError};

use super::words::{Moment, Quoted, short_did};
use crate::app::App;
use crate::operator::Visit;
use crate::pages::{Frame, Place, failed, html, nothing_here};

#[derive(Debug, Template)]
#[template(path = "trust_pulse/contracts.html")]
struct ContractsPage {
    frame: Frame,
    names: Vec<NameView>,
}

#[derive(Debug)]
struct NameView {
    name: String,
    hash: String,
    version: u32,
    versions: u32,
    withdrawn: bool,
    open_jobs: u64,
    published_at: Moment,
    published_by: String,
}

/// Every name with its latest version.
pub(crate) async fn list(State(app): State<Arc<App>>, visit: Visit) -> Response {
    let frame = Frame::new(&app, &visit, Place::Contracts);
    let names = match app.store.contracts().await {
        Ok(names) => names,
        Err(error) => return failed(frame, &error),
    };
    let names = names.into_iter().map(|name| NameView {
        hash: name.latest.contract.policy_hash.to_string(),
        version: name.latest.version,
        versions: name.versions,
        withdrawn: name.latest.withdrawn.is_some(),
        open_jobs: name.open_jobs,
        published_at: name.latest.contract.published_at.into(),
        published_by: name.latest.contract.published_by,
        name: name.latest.contract.name,
    });
    let page = ContractsPage {
        frame,
        names: names.collect(),
    };
    html(StatusCode::OK, &page)
}

#[derive(Debug, Template)]
#[template(path = "trust_pulse/contract.html")]
struct ContractPage {
    frame: Frame,
    name: String,
    version: u32,
    hash: String,
    author: Option<String>,
    author_did: String,
    author_short: String,
    published_at: Moment,
    published_by: String,
    withdrawn: Option<(Moment, String)>,
    description: Option<Quoted>,
    words: Vec<String>,
    document: String,
    versions: Vec<VersionView>,
    /// The version that this one is compared with, and how they differ.
    against: Option<(u32, ContractDiff)>,
}

#[derive(Debug)]
struct VersionView {
    version: u32,
    hash: String,
    here: bool,
    withdrawn: bool,
    published_at: Moment,
}

/// What to compare with.
#[derive(Debug, Deserialize)]
pub(crate) struct Against {
    against: Option<String>,
}

/// One version: what it says, and what it changed.
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    visit: Visit,
    Path(hash): Path<String>,
    Query(against): Query<Against>,
) -> Response {
    let frame = Frame::new(&app, &visit, Place::Contracts);
    let Ok(hash) = hash.parse::<Hash>() else {
        return nothing_here(frame, "That is no contract's hash.");
    };
    let against = against.against.and_then(|text| text.parse().ok());
    match read(&app, frame.clone(), &hash, against).await {
        Ok(Some(page)) => html(StatusCode::OK, &page),
        Ok(None) => nothing_here(frame, "There is no such contract."),
        Err(error) => failed(frame, &error),
    }
}

async fn read(
    app: &App,
    frame: Frame,
    hash: &Hash,
    against: Option<Hash>,
) -> Result<Option<ContractPage>, StoreError> {
    let Some(row) = app.store.contract(hash).await? else {
        return Ok(None);
    };
    let versions = app.store.versions(&row.contract.name).await?;
    let other = match against {
        Some(against) => versions
            .iter()
            .find(|other| other.contract.policy_hash == against),
        None => versions
            .iter()
            .rev()
            .find(|other| other.version < row.version),
    };
    let contract = parsed(&row);
    let old = other.filter(|other| other.contract.policy_hash != *hash);
    let old = old.and_then(|old| Some((old.version, parsed(old)?)));
    let against = old.zip(contract.as_ref()).map(|((version, old), new)| {
        // Always from the older to the newer one: that is how a change is read.
        let diff = if version < row.version {
            policy::diff(&old, new)
        } else {
            policy::diff(new, &old)
        };
        (version, diff)
    });
    let published = row.contract;
    let authors = app.config.authors.iter();
    let mut author = authors.filter(|author| author.did == published.author_did);
    let version_view = |other: &ContractRow| VersionView {
        version: other.version,
        hash: other.contract.policy_hash.to_string(),
        here: other.contract.policy_hash == *hash,
        withdrawn: other.withdrawn.is_some(),
        published_at: other.contract.published_at.into(),
    };
    Ok(Some(ContractPage {
        frame,
        version: row.version,
        hash: hash.to_string(),
        author: author.next().map(|author| author.name.clone()),
        author_short: short_did(&published.author_did),
        author_did: published.author_did.to_string(),
        published_at: published.published_at.into(),
        published_by: published.published_by,
        withdrawn: row.withdrawn.map(|gone| (gone.at.into(), gone.by)),
        words: contract.as_ref().map(Contract::summary).unwrap_or_default(),
        description: contract
            .and_then(|contract| contract.description)
            .map(|text| Quoted::new(&text, "the author")),
        document: serde_json::to_string_pretty(&published.envelope.payload).unwrap_or_default(),
        versions: versions.iter().rev().map(version_view).collect(),
        against,
        name: published.name,
    }))
}

fn parsed(row: &ContractRow) -> Option<Contract> {
    Contract::from_json(row.contract.envelope.payload.clone()).ok()
}
