//! One agent: the key that stood for it, and everything that was done with it.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use proof::Did;
use store::{JobFilter, StoreError};

use super::read;
use super::view::ListedJob;
use super::words::{Moment, short_did};
use crate::app::App;
use crate::operator::Visit;
use crate::pages::{Frame, Place, failed, html, nothing_here};

/// Jobs, and tokens of each, that are looked at; an agent's key is made for one job.
const MAX_JOBS: u32 = 20;
const MAX_TOKENS: usize = 50;

#[derive(Debug, Template)]
#[template(path = "trust_pulse/agent.html")]
struct AgentPage {
    frame: Frame,
    did: String,
    short: String,
    jobs: Vec<ListedJob>,
    holders: Vec<HolderView>,
    never_used: usize,
    strangers: u64,
}

/// From where a token was used.
#[derive(Debug)]
struct HolderView {
    holder: String,
    token: String,
    scopes: String,
    first: Option<Moment>,
    last: Option<Moment>,
    revoked: Option<(Moment, String)>,
}

/// One agent.
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    visit: Visit,
    Path(did): Path<String>,
) -> Response {
    let frame = Frame::new(&app, &visit, Place::Jobs);
    let Ok(did) = did.parse::<Did>() else {
        return nothing_here(frame, "That is no agent's key.");
    };
    match page(&app, frame.clone(), &did).await {
        Ok(Some(page)) => html(StatusCode::OK, &page),
        Ok(None) => nothing_here(frame, "No job of this gateway was made with that key."),
        Err(error) => failed(frame, &error),
    }
}

async fn page(app: &App, frame: Frame, did: &Did) -> Result<Option<AgentPage>, StoreError> {
    let filter = JobFilter {
        agent: Some(did.clone()),
        limit: MAX_JOBS,
        ..JobFilter::default()
    };
    let rows = app.store.jobs(filter).await?;
    if rows.is_empty() {
        return Ok(None);
    }
    let mut holders = Vec::new();
    let (mut never_used, mut strangers) = (0, 0);
    for row in &rows {
        for token in app.store.tokens(&row.job_id).await? {
            strangers += token.replays_refused;
            let Some(holder) = token.holder else {
                never_used += 1;
                continue;
            };
            let scopes = token.token.claims.scope.iter().cloned().map(String::from);
            holders.push(HolderView {
                holder,
                token: token.token.token_hash.to_hex().chars().take(12).collect(),
                scopes: scopes.collect::<Vec<_>>().join(" "),
                first: token.first_used_at.map(Moment::from),
                last: token.last_used_at.map(Moment::from),
                revoked: token.revoked.map(|revoked| (revoked.at.into(), revoked.by)),
            });
        }
    }
    holders.truncate(MAX_TOKENS);
    Ok(Some(AgentPage {
        frame,
        did: did.to_string(),
        short: short_did(did),
        jobs: read::listed_all(&*app.store, rows).await?,
        holders,
        never_used,
        strangers,
    }))
}
