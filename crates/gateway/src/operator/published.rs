//! Sealed jobs for outsiders: links that are made, listed and withdrawn, and the page behind one.
//!
//! A link's secret has 256 random bits, of which only the hash is kept. It opens one job's page
//! and bundle and nothing else. A link that was withdrawn, has expired or never was answers like
//! any other address that does not exist; whoever tries many of them is told to wait.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Json;
use axum::extract::{ConnectInfo, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use policy::ReasonCode;
use proof::record::JobId;
use proof::{Hash, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};
use store::{MAX_PUBLICATIONS, Publication};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use super::admit::turned_away;
use super::attempts::LockedOut;
use super::audit::{Action, audited};
use super::credential::Operator;
use super::extract::{Id, Strict};
use super::problem::Problem;
use crate::app::App;
use crate::bundles;
use crate::keys::{random_text, random_uuid};
use crate::pages;
use crate::trust_pulse::published::{MAX_CARRIED_BYTES, Surroundings, render};

/// How long a link is good, in seconds, when nothing is said: 30 days.
pub(crate) const DEFAULT_SECONDS: u32 = 30 * 86_400;

/// Shortest and longest life of a link, in seconds: a minute, and a year.
pub(crate) const LIFETIMES: std::ops::RangeInclusive<u32> = 60..=365 * 86_400;

/// Most publications that a list shows.
const LISTED: u32 = 500;

/// Pages that are made at a time: each holds a bundle in memory, several times its size.
static MAKING: Semaphore = Semaphore::const_new(2);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Publish {
    job_id: JobId,
    #[serde(default)]
    expires_in_seconds: Option<u32>,
}

/// Makes a link to a sealed job; it is shown in the answer and nowhere else.
pub(super) async fn publish(
    State(app): State<Arc<App>>,
    operator: Operator,
    Strict(asked): Strict<Publish>,
) -> Result<Json<Value>, Problem> {
    let seconds = asked.expires_in_seconds.unwrap_or(DEFAULT_SECONDS);
    if !LIFETIMES.contains(&seconds) {
        let detail = "a link is good for a minute to a year";
        return Err(Problem::new(ReasonCode::BodyWrongType, detail));
    }
    let secret = Zeroizing::new(random_text());
    let published_at = app.now();
    let publication = Publication {
        id: format!("pub_{}", random_uuid()),
        link_hash: Hash::of(secret.as_bytes()),
        job_id: asked.job_id,
        published_by: operator.name().to_owned(),
        published_at,
        expires_at: published_at.plus_seconds(seconds.into()),
        withdrawn: None,
    };
    let action = Action {
        operator: operator.name(),
        name: "job.publish",
        subject: publication.job_id.to_string(),
        detail: vec![
            ("publication", publication.id.clone()),
            ("expires_at", publication.expires_at.to_string()),
        ],
        at: published_at,
    };
    let kept = publication.clone();
    audited(&*app.store, action, keep(&app, kept)).await?;
    Ok(Json(json!({
        "publication": publication.id,
        "job_id": publication.job_id,
        "link": format!("{}/published/{}/", app.operator_url, *secret),
        "expires_at": publication.expires_at,
    })))
}

async fn keep(app: &App, publication: Publication) -> Result<(), Problem> {
    let job_id = &publication.job_id;
    if app.store.job(job_id).await?.is_none() {
        return Err(ReasonCode::JobUnknown.into());
    }
    let sealed = app.store.bundle(job_id).await?;
    let sealed = sealed.ok_or(ReasonCode::BundleUnknown)?;
    if sealed.bytes > MAX_CARRIED_BYTES as u64 {
        let detail = format!("its bundle has more than {MAX_CARRIED_BYTES} bytes");
        return Err(Problem::new(ReasonCode::PublicationRefused, detail));
    }
    if app.store.publish_job(publication).await? {
        Ok(())
    } else {
        let detail = format!("{MAX_PUBLICATIONS} links to it are good already");
        Err(Problem::new(ReasonCode::PublicationRefused, detail))
    }
}

/// The latest publications, without their links.
pub(super) async fn list(State(app): State<Arc<App>>) -> Result<Json<Value>, Problem> {
    let (now, all) = (app.now(), app.store.publications(LISTED).await?);
    let all: Vec<Value> = all.iter().map(|one| view(one, now)).collect();
    Ok(Json(Value::Array(all)))
}

fn view(publication: &Publication, now: Timestamp) -> Value {
    let (withdrawn_at, withdrawn_by) = publication.withdrawn.clone().unzip();
    let state = match withdrawn_at {
        Some(_) => "withdrawn",
        None if publication.expires_at <= now => "expired",
        None => "good",
    };
    json!({
        "publication": publication.id,
        "job_id": publication.job_id,
        "state": state,
        "published_by": publication.published_by,
        "published_at": publication.published_at,
        "expires_at": publication.expires_at,
        "withdrawn_by": withdrawn_by,
        "withdrawn_at": withdrawn_at,
    })
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Withdraw {
    publication: String,
}

/// Ends a publication: the next look at its link finds nothing.
pub(super) async fn withdraw(
    State(app): State<Arc<App>>,
    operator: Operator,
    Strict(Withdraw { publication: id }): Strict<Withdraw>,
) -> Result<Json<Value>, Problem> {
    let at = app.now();
    let action = Action {
        operator: operator.name(),
        name: "job.withdraw-publication",
        subject: id.chars().take(64).collect(),
        detail: Vec::new(),
        at,
    };
    let withdrawn = audited(&*app.store, action, async {
        let store = &app.store;
        let withdrawn = store.withdraw_publication(&id, operator.name(), at).await?;
        withdrawn.ok_or_else(|| Problem::from(ReasonCode::PublicationUnknown))
    })
    .await?;
    Ok(Json(json!({ "publication": id, "withdrawn": withdrawn })))
}

/// What somebody asks for who follows a link.
struct Followed<'a> {
    app: &'a App,
    peer: SocketAddr,
    uri: &'a Uri,
    headers: &'a HeaderMap,
}

/// The page behind a link.
pub(super) async fn page(
    State(app): State<Arc<App>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Id(link): Id<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let followed = Followed {
        app: &app,
        peer,
        uri: &uri,
        headers: &headers,
    };
    let made = async {
        let _making = MAKING.acquire().await.expect("it is never closed");
        let (_, bundle) = followed.bundle(&link).await?;
        let making = move || render(&bundle, Surroundings::of_link());
        let made = tokio::task::spawn_blocking(making).await;
        let made = made.expect("making a page does not panic");
        made.map_err(|error| Nothing::from(Problem::internal(&error)))
    };
    match made.await {
        Ok(page) => open_to_nobody_else(pages::with_script(pages::answer(StatusCode::OK, page))),
        Err(nothing) => followed.nothing(nothing),
    }
}

/// The bundle behind a link, byte for byte.
pub(super) async fn bundle(
    State(app): State<Arc<App>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Id(link): Id<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let followed = Followed {
        app: &app,
        peer,
        uri: &uri,
        headers: &headers,
    };
    match followed.bundle(&link).await {
        Ok((job_id, bytes)) => {
            open_to_nobody_else(crate::trust_pulse::download(&job_id, bytes).into_response())
        }
        Err(nothing) => followed.nothing(nothing),
    }
}

/// Why nothing is shown, and when to try again.
struct Nothing {
    problem: Problem,
    retry_after: Option<i64>,
}

impl<P: Into<Problem>> From<P> for Nothing {
    fn from(problem: P) -> Self {
        Self {
            problem: problem.into(),
            retry_after: None,
        }
    }
}

impl Followed<'_> {
    /// The sealed file that the link leads to, when it is the one that was sealed.
    async fn bundle(&self, link: &str) -> Result<(JobId, Vec<u8>), Nothing> {
        let (app, now) = (self.app, self.app.now());
        let openings = || app.link_openings.lock().expect("no panic while it is held");
        let counted = openings().begin(self.peer.ip(), now);
        counted.map_err(limited)?;
        let found = app.store.published(&Hash::of(link.as_bytes()), now).await?;
        let publication = found.ok_or(ReasonCode::PageUnknown)?;
        openings().succeeded(self.peer.ip());
        let job_id = publication.job_id;
        let row = app.store.bundle(&job_id).await?;
        let row = row.ok_or(ReasonCode::PageUnknown)?;
        let read = tokio::fs::read(bundles::path(&app.config, &job_id)).await;
        let bytes = read.map_err(|error| Problem::internal(&error))?;
        if Hash::of(&bytes) == row.sha256 {
            Ok((job_id, bytes))
        } else {
            let error = std::io::Error::other("the bundle's file is not the one that was sealed");
            Err(Problem::internal(&error).into())
        }
    }

    /// Answers as for any other address that does not exist.
    fn nothing(&self, nothing: Nothing) -> Response {
        let mut response = turned_away(self.app, self.uri, self.headers, nothing.problem);
        if let Some(seconds) = nothing.retry_after {
            let headers = response.headers_mut();
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

fn limited(locked: LockedOut) -> Nothing {
    Nothing {
        problem: ReasonCode::LinksLimited.into(),
        retry_after: Some(locked.retry_after),
    }
}

/// Nobody finds the address of such an answer, keeps the answer, or learns from where it was led
/// to.
fn open_to_nobody_else(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (
            HeaderName::from_static("x-robots-tag"),
            "noindex, nofollow, noarchive",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}
