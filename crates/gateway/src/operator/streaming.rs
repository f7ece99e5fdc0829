//! Answers that go on for as long as somebody reads: bounded in number and in patience, and ended
//! when the reader's credential is withdrawn.
//!
//! A task of its own makes the pieces, so that a reader who stops reading keeps neither a place
//! nor a connection to the store, and a withdrawal is noticed although nobody reads. An answer
//! that has said all ends as answers do; one that was broken off breaks its connection, so that
//! nobody takes a part for the whole.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::FromRequestParts;
use futures_util::stream;
use http::request::Parts;
use policy::ReasonCode;
use proof::Hash;
use store::StoreError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::Instant;

use super::credential::{self, Access, Role};
use super::problem::Problem;
use crate::app::App;

/// Answers that go on at a time.
const MAX_STREAMS: usize = 32;

/// How long a reader may take for one piece.
const PATIENCE: Duration = Duration::from_secs(60);

/// Longest silence. What stands between us and the reader must not take us for dead, and a
/// withdrawal that another process made does not wake anybody.
const SILENCE: Duration = Duration::from_secs(15);

/// Shortest time between two looks at the store: commits may come by the hundred in a second.
const PACE: Duration = Duration::from_millis(200);

/// The places of all answers that go on.
#[derive(Debug, Clone)]
pub struct Streams(Arc<Semaphore>);

impl Default for Streams {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAX_STREAMS)))
    }
}

/// The credential of a request that was let in, to be looked up again while the answer goes on.
#[derive(Debug, Clone)]
pub(super) struct Standing(Hash);

impl<S: Sync> FromRequestParts<S> for Standing {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        credential::hash_of(&parts.headers).map(Self)
    }
}

/// Why an answer was broken off.
#[derive(Debug)]
pub(super) enum Broken {
    /// Nobody reads.
    Unread,
    /// The credential does not open this any more.
    Withdrawn,
    /// The store did not answer.
    Store(StoreError),
}

impl From<StoreError> for Broken {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// What a wait ended with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Woken {
    /// Something was written.
    Commit,
    /// Nothing was, for as long as silence may last.
    Silence,
    /// The gateway stops.
    Stopping,
}

/// One answer that goes on, from inside.
pub(super) struct Stream {
    pub(super) app: Arc<App>,
    standing: Standing,
    role: Option<Role>,
    commits: watch::Receiver<u64>,
    looked: Instant,
    pieces: mpsc::Sender<Piece>,
    _place: OwnedSemaphorePermit,
}

enum Piece {
    Bytes(Bytes),
    /// All was said.
    End,
}

/// Begins an answer that goes on; `tell` makes it. `role` is what the route asks for.
///
/// # Errors
/// `OVERLOADED` when too many go on already.
pub(super) fn begin<F>(
    app: Arc<App>,
    standing: Standing,
    role: Option<Role>,
    tell: impl FnOnce(Stream) -> F,
) -> Result<Body, Problem>
where
    F: Future<Output = Result<(), Broken>> + Send + 'static,
{
    let place = Arc::clone(&app.streams.0)
        .try_acquire_owned()
        .map_err(|_| {
            let detail = format!("{MAX_STREAMS} others are told of changes already");
            Problem::new(ReasonCode::Overloaded, detail)
        })?;
    let (pieces, mut taken) = mpsc::channel(1);
    let last = pieces.clone();
    let telling = tell(Stream {
        commits: app.store.commits(),
        app,
        standing,
        role,
        looked: Instant::now(),
        pieces,
        _place: place,
    });
    tokio::spawn(async move {
        match telling.await {
            // When it is not taken, nobody reads.
            Ok(()) => drop(tokio::time::timeout(PATIENCE, last.send(Piece::End)).await),
            Err(Broken::Store(error)) => tracing::warn!(%error, "an export was broken off"),
            Err(why) => tracing::info!(?why, "an answer that went on was broken off"),
        }
    });
    let pieces = stream::poll_fn(move |context| taken.poll_recv(context));
    let bytes = stream::unfold(Box::pin(pieces), |mut pieces| async move {
        match futures_util::StreamExt::next(&mut pieces).await {
            Some(Piece::Bytes(bytes)) => Some((Ok(bytes), pieces)),
            Some(Piece::End) => None,
            None => Some((Err(std::io::Error::other("broken off")), pieces)),
        }
    });
    Ok(Body::from_stream(bytes))
}

impl Stream {
    /// Hands over a piece.
    pub(super) async fn say(&self, bytes: impl Into<Bytes>) -> Result<(), Broken> {
        let saying = self.pieces.send(Piece::Bytes(bytes.into()));
        match tokio::time::timeout(PATIENCE, saying).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(Broken::Unread),
        }
    }

    /// Begins a look at the store: what is committed from here on ends the next wait. Fails when
    /// the reader may not read any more.
    pub(super) async fn look(&mut self) -> Result<(), Broken> {
        self.commits.borrow_and_update();
        self.looked = Instant::now();
        let row = self.app.store.operator_by_token(&self.standing.0).await?;
        let access = self.role.map_or(Access::Operator, Access::Needs);
        match row.map(credential::operator_of) {
            Some(operator) if operator.may(access) => Ok(()),
            _ => Err(Broken::Withdrawn),
        }
    }

    /// Waits for a commit since the last look, or long enough.
    pub(super) async fn wait(&mut self) -> Result<Woken, Broken> {
        let app = Arc::clone(&self.app);
        let mut stopping = std::pin::pin!(app.stopping.notified());
        stopping.as_mut().enable();
        // Set before those who wait are told, so one of the two is seen.
        if app.draining.load(Ordering::Acquire) {
            return Ok(Woken::Stopping);
        }
        let next = self.looked + PACE;
        let commits = &mut self.commits;
        let committed = async {
            // The store lives as long as `app`, so the wait cannot fail.
            let _ = commits.changed().await;
            tokio::time::sleep_until(next).await;
        };
        tokio::select! {
            () = committed => Ok(Woken::Commit),
            () = stopping => Ok(Woken::Stopping),
            () = self.pieces.closed() => Err(Broken::Unread),
            () = tokio::time::sleep(SILENCE) => Ok(Woken::Silence),
        }
    }
}
