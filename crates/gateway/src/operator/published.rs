//! Sealed jobs for outsiders: links that are made, listed and withdrawn, and the page behind one.
//!
//! A link's secret has 256 random bits, of which only the hash is kept. It opens one job's page
//! and bundle and nothing else. A link that was withdrawn, has expired or never was answers like
//! any other address that does not exist.
//!
//! Whoever has a link may ask as often as they like and read as slowly as they like. So an answer
//! is made and sent only in one of a few places, [`Places`], which it leaves within [`PATIENCE`].

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use hyper::body::{Frame, SizeHint};
use policy::ReasonCode;
use proof::record::JobId;
use proof::{Hash, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use store::{MAX_PUBLICATIONS, Part, Publication};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use zeroize::Zeroizing;

use super::admit::turned_away;
use super::audit::{Action, audited};
use super::credential::Operator;
use super::extract::{Id, Strict};
use super::problem::Problem;
use crate::app::App;
use crate::bundles;
use crate::keys::{random_text, random_uuid};
use crate::pages;
use crate::shapes;
use crate::trust_pulse::published::{MAX_CARRIED_BYTES, PublishError, Surroundings, render};

/// How long a link is good, in seconds, when nothing is said: 30 days.
pub(crate) const DEFAULT_SECONDS: u32 = 30 * 86_400;

/// Shortest and longest life of a link, in seconds: a minute, and a year.
pub(crate) const LIFETIMES: std::ops::RangeInclusive<u32> = 60..=365 * 86_400;

/// Most publications that a list shows.
const LISTED: u32 = 500;

/// Answers that are made or sent at a time: one that is made holds a bundle in memory, several
/// times its size.
const PLACES: usize = 4;

/// How long an answer may take to be sent; what is not taken by then is dropped.
const PATIENCE: Duration = Duration::from_secs(120);

/// Bytes of an answer that are handed to the connection at a time.
const PIECE: usize = 32 * 1024;

/// Seconds after which somebody who found no place may ask again.
const RETRY_SECONDS: HeaderValue = HeaderValue::from_static("10");

/// Places for answers to those who follow links.
#[derive(Debug)]
pub struct Places(Arc<Semaphore>);

impl Default for Places {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(PLACES)))
    }
}

impl Places {
    /// A place, unless all are taken: nobody waits for one.
    ///
    /// # Errors
    /// `OVERLOADED`.
    pub fn take(&self) -> Result<OwnedSemaphorePermit, Problem> {
        let place = Arc::clone(&self.0).try_acquire_owned();
        place.map_err(|_| ReasonCode::Overloaded.into())
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "PublishJob")]
pub(super) struct Publish {
    #[schemars(with = "shapes::JobId")]
    job_id: JobId,
    /// How long the link is good; 30 days unless it is said.
    #[serde(default)]
    #[schemars(range(min = 60, max = 31_536_000))]
    expires_in_seconds: Option<u32>,
}

/// Makes a link to a sealed job; it is shown in the answer and nowhere else.
pub(super) async fn publish(
    State(app): State<Arc<App>>,
    operator: Operator,
    Strict(asked): Strict<Publish>,
) -> Result<Json<Published>, Problem> {
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
    Ok(Json(Published {
        publication: publication.id,
        job_id: publication.job_id,
        link: format!("{}/published/{}/", app.operator_url, *secret),
        expires_at: publication.expires_at,
    }))
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "PublishedJob")]
pub(super) struct Published {
    /// The name by which it is listed and withdrawn.
    publication: String,
    #[schemars(with = "shapes::JobId")]
    job_id: JobId,
    /// The address to open: here and nowhere else.
    link: String,
    #[schemars(with = "shapes::Timestamp")]
    expires_at: Timestamp,
}

async fn keep(app: &App, publication: Publication) -> Result<(), Problem> {
    let job_id = &publication.job_id;
    if app.store.job(job_id).await?.is_none() {
        return Err(ReasonCode::JobUnknown.into());
    }
    if let Some(gone) = bundles::pruned(&*app.store, job_id, Part::Bundle).await? {
        return Err(Problem::new(ReasonCode::ContentPruned, gone));
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
pub(super) async fn list(
    State(app): State<Arc<App>>,
) -> Result<Json<Vec<PublicationView>>, Problem> {
    let (now, all) = (app.now(), app.store.publications(LISTED).await?);
    Ok(Json(all.into_iter().map(|one| view(one, now)).collect()))
}

/// A publication without its link.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Publication")]
pub(super) struct PublicationView {
    publication: String,
    #[schemars(with = "shapes::JobId")]
    job_id: JobId,
    /// `good`, `expired` or `withdrawn`.
    state: &'static str,
    published_by: String,
    #[schemars(with = "shapes::Timestamp")]
    published_at: Timestamp,
    #[schemars(with = "shapes::Timestamp")]
    expires_at: Timestamp,
    withdrawn_by: Option<String>,
    #[schemars(with = "Option<shapes::Timestamp>")]
    withdrawn_at: Option<Timestamp>,
}

fn view(publication: Publication, now: Timestamp) -> PublicationView {
    let (withdrawn_at, withdrawn_by) = publication.withdrawn.unzip();
    let state = match withdrawn_at {
        Some(_) => "withdrawn",
        None if publication.expires_at <= now => "expired",
        None => "good",
    };
    PublicationView {
        publication: publication.id,
        job_id: publication.job_id,
        state,
        published_by: publication.published_by,
        published_at: publication.published_at,
        expires_at: publication.expires_at,
        withdrawn_by,
        withdrawn_at,
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "WithdrawPublication")]
pub(super) struct Withdraw {
    publication: String,
}

/// Ends a publication: the next look at its link finds nothing.
pub(super) async fn withdraw(
    State(app): State<Arc<App>>,
    operator: Operator,
    Strict(Withdraw { publication: id }): Strict<Withdraw>,
) -> Result<Json<Withdrawn>, Problem> {
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
    Ok(Json(Withdrawn {
        publication: id,
        withdrawn,
    }))
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "WithdrawnPublication")]
pub(super) struct Withdrawn {
    publication: String,
    /// Whether this call ended it.
    withdrawn: bool,
}

/// The page behind a link.
pub(super) async fn page(
    State(app): State<Arc<App>>,
    Id(link): Id<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let make = |bundle: Vec<u8>| render(&bundle, Surroundings::of_link()).map(String::into_bytes);
    match answer(&app, &link, make).await {
        Ok((_, page)) => {
            open_to_nobody_else(pages::with_script(pages::answer(StatusCode::OK, page)))
        }
        Err(problem) => nothing(&app, &uri, &headers, problem),
    }
}

/// The bundle behind a link, byte for byte.
pub(super) async fn bundle(
    State(app): State<Arc<App>>,
    Id(link): Id<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    match answer(&app, &link, Ok).await {
        Ok((job_id, bundle)) => {
            open_to_nobody_else(crate::trust_pulse::download(&job_id, bundle).into_response())
        }
        Err(problem) => nothing(&app, &uri, &headers, problem),
    }
}

/// What is made of the sealed file that a link leads to, on its way to the reader.
///
/// The place goes with the work, which goes on when nobody waits for it any more, and then with
/// what came of it.
async fn answer(
    app: &App,
    link: &str,
    make: impl FnOnce(Vec<u8>) -> Result<Vec<u8>, PublishError> + Send + 'static,
) -> Result<(JobId, Body), Problem> {
    let link = Hash::of(link.as_bytes());
    let found = app.store.published(&link, app.now()).await?;
    let job_id = found.ok_or(ReasonCode::PageUnknown)?.job_id;
    let row = app.store.bundle(&job_id).await?;
    let row = row.ok_or(ReasonCode::PageUnknown)?;
    let place = app.published.take()?;
    let path = bundles::path(&app.config, &row).await;
    let making = tokio::task::spawn_blocking(move || {
        let bundle = std::fs::read(path).map_err(|error| Problem::internal(&error))?;
        if Hash::of(&bundle) != row.sha256 {
            let error = std::io::Error::other("the bundle's file is not the one that was sealed");
            return Err(Problem::internal(&error));
        }
        let made = make(bundle).map_err(|error| Problem::internal(&error))?;
        Ok((made, place))
    });
    let (made, place) = making.await.expect("making an answer does not panic")?;
    Ok((job_id, sent(made, place)))
}

/// A body that holds its place until it was read, was dropped, or took too long; then it ends
/// before its `Content-Length`, which breaks the connection.
///
/// The connection asks for no piece while the reader takes none, so the time is kept by a task of
/// its own.
fn sent(bytes: Vec<u8>, place: OwnedSemaphorePermit) -> Body {
    let (pieces, waiting) = mpsc::channel(1);
    let size = bytes.len() as u64;
    tokio::spawn(async move {
        let sending = async {
            // Copied, since a part of the whole would keep the whole.
            for piece in bytes.chunks(PIECE).map(Bytes::copy_from_slice) {
                if pieces.send(piece).await.is_err() {
                    return;
                }
            }
        };
        if tokio::time::timeout(PATIENCE, sending).await.is_err() {
            tracing::info!("a published job was read too slowly");
        }
        drop((bytes, place));
    });
    Body::new(Pieces {
        left: size,
        waiting,
    })
}

/// Pieces of an answer.
struct Pieces {
    /// Bytes to come.
    left: u64,
    waiting: mpsc::Receiver<Bytes>,
}

impl hyper::body::Body for Pieces {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        let piece = std::task::ready!(self.waiting.poll_recv(context));
        Poll::Ready(match piece {
            Some(piece) => {
                self.left -= piece.len() as u64;
                Some(Ok(Frame::data(piece)))
            }
            None if self.left == 0 => None,
            None => Some(Err(std::io::ErrorKind::TimedOut.into())),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// Answers as for any other address that does not exist; who found no place may come again.
fn nothing(app: &App, uri: &Uri, headers: &HeaderMap, problem: Problem) -> Response {
    let busy = problem.code == ReasonCode::Overloaded;
    let mut response = turned_away(app, uri, headers, problem);
    if busy {
        let headers = response.headers_mut();
        headers.insert(header::RETRY_AFTER, RETRY_SECONDS);
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    response
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

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use hyper::body::Body as _;

    use super::*;

    /// Resolves when no answer has a place any more.
    async fn all_left(places: &Places) {
        drop(places.0.acquire_many(PLACES as u32).await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_has_its_place_until_it_was_sent() {
        let places = Places::default();
        let bytes: Vec<u8> = (0..8 * PIECE + 7).map(|n| (n % 251) as u8).collect();
        let answer = || sent(bytes.clone(), places.take().unwrap());

        let held: Vec<Body> = (0..PLACES).map(|_| answer()).collect();
        assert_eq!(places.take().unwrap_err().code, ReasonCode::Overloaded);
        // Readers who leave.
        drop(held);
        all_left(&places).await;

        let began = tokio::time::Instant::now();
        let read = answer();
        assert_eq!(read.size_hint().exact(), Some(bytes.len() as u64));
        assert_eq!(read.collect().await.unwrap().to_bytes(), bytes);
        all_left(&places).await;
        assert_eq!(began.elapsed(), Duration::ZERO);

        // One who reads nothing for too long, and then what there is.
        let mut slow = answer();
        assert!(slow.frame().await.unwrap().is_ok());
        all_left(&places).await;
        assert_eq!(began.elapsed().as_secs(), PATIENCE.as_secs());
        assert!(slow.collect().await.is_err(), "it is not whole");
    }
}
