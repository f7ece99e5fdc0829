//! Answers that go on for as long as somebody reads: bounded in number and in patience, and ended
//! when the reader's credential is withdrawn.
//!
//! A task of its own makes the pieces, so that a reader who stops reading keeps neither a place
//! nor a connection to the store, and a withdrawal is noticed although nobody reads. An answer
//! that has said all ends as answers do; one that was broken off breaks its connection, so that
//! nobody takes a part for the whole.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};
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

/// Of these, answers to one credential: nobody takes the places of all.
const MAX_OF_ONE: usize = 8;

/// How long a reader may take for one piece.
const PATIENCE: Duration = Duration::from_secs(60);

/// Longest silence. What stands between us and the reader must not take us for dead, and a
/// withdrawal that another process made does not wake anybody.
const SILENCE: Duration = Duration::from_secs(15);

/// Shortest time between two looks at the store: commits may come by the hundred in a second.
const PACE: Duration = Duration::from_millis(200);

/// The places of all answers that go on.
#[derive(Debug, Clone)]
pub struct Streams {
    all: Arc<Semaphore>,
    /// How many each credential has, where it has any.
    taken: Arc<Mutex<BTreeMap<Hash, usize>>>,
}

impl Default for Streams {
    fn default() -> Self {
        Self {
            all: Arc::new(Semaphore::new(MAX_STREAMS)),
            taken: Arc::default(),
        }
    }
}

impl Streams {
    /// How many go on now.
    pub fn open(&self) -> usize {
        MAX_STREAMS - self.all.available_permits()
    }

    fn place(&self, credential: Hash) -> Result<Place, Problem> {
        let full = |detail: String| Problem::new(ReasonCode::Overloaded, detail);
        let all = Arc::clone(&self.all).try_acquire_owned();
        let all = all.map_err(|_| full(format!("{MAX_STREAMS} are told of changes already")))?;
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let own = taken.entry(credential).or_default();
        if *own >= MAX_OF_ONE {
            let detail = format!("this credential is told of changes {MAX_OF_ONE} times already");
            return Err(full(detail));
        }
        *own += 1;
        Ok(Place {
            credential,
            taken: Arc::clone(&self.taken),
            _all: all,
        })
    }
}

/// One place, free again when it is dropped.
struct Place {
    credential: Hash,
    taken: Arc<Mutex<BTreeMap<Hash, usize>>>,
    _all: OwnedSemaphorePermit,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = taken.get_mut(&self.credential) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.credential);
            }
        }
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
    /// Something that is to be told cannot be: which, and why.
    Untellable(String),
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
    /// When something was said last.
    said: Instant,
    pieces: mpsc::Sender<Piece>,
    _place: Place,
}

enum Piece {
    Bytes(Bytes),
    /// All was said.
    End,
}

/// Begins an answer that goes on; `tell` makes it. `role` is what the route asks for.
///
/// # Errors
/// `OVERLOADED` when too many go on already, in all or of this credential.
pub(super) fn begin<F>(
    app: Arc<App>,
    standing: Standing,
    role: Option<Role>,
    tell: impl FnOnce(Stream) -> F,
) -> Result<Body, Problem>
where
    F: Future<Output = Result<(), Broken>> + Send + 'static,
{
    let (pieces, mut taken) = mpsc::channel(1);
    let last = pieces.clone();
    let telling = tell(Stream::new(app, standing, role, pieces)?);
    tokio::spawn(async move {
        match telling.await {
            // When it is not taken, nobody reads.
            Ok(()) => drop(tokio::time::timeout(PATIENCE, last.send(Piece::End)).await),
            Err(Broken::Store(error)) => {
                tracing::warn!(%error, "an answer that went on was broken off");
            }
            Err(Broken::Untellable(why)) => {
                tracing::warn!(why, "an answer that went on was broken off");
            }
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
    fn new(
        app: Arc<App>,
        standing: Standing,
        role: Option<Role>,
        pieces: mpsc::Sender<Piece>,
    ) -> Result<Self, Problem> {
        let place = app.streams.place(standing.0)?;
        Ok(Self {
            commits: app.store.commits(),
            app,
            standing,
            role,
            looked: Instant::now(),
            said: Instant::now(),
            pieces,
            _place: place,
        })
    }

    /// Hands over a piece.
    pub(super) async fn say(&mut self, bytes: impl Into<Bytes>) -> Result<(), Broken> {
        let saying = self.pieces.send(Piece::Bytes(bytes.into()));
        match tokio::time::timeout(PATIENCE, saying).await {
            Ok(Ok(())) => {
                self.said = Instant::now();
                Ok(())
            }
            _ => Err(Broken::Unread),
        }
    }

    /// Whether nothing was said for as long as silence may last.
    pub(super) fn is_silent(&self) -> bool {
        self.said.elapsed() >= SILENCE
    }

    /// Begins a look at the store: what is committed from here on ends the next wait. Fails when
    /// the reader may not read any more.
    pub(super) async fn look(&mut self) -> Result<(), Broken> {
        self.commits.borrow_and_update();
        self.looked = Instant::now();
        self.stand().await
    }

    /// Fails when the reader may not read any more.
    pub(super) async fn stand(&self) -> Result<(), Broken> {
        let row = self.app.store.operator_by_token(&self.standing.0).await?;
        let access = self.role.map_or(Access::Operator, Access::Needs);
        match row.map(credential::operator_of) {
            Some(operator) if operator.may(access) => Ok(()),
            _ => Err(Broken::Withdrawn),
        }
    }

    /// Waits for a commit since the last look, or until silence has lasted long enough, however
    /// many commits there were in which nothing was to be said.
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
            () = tokio::time::sleep_until(self.said + SILENCE) => Ok(Woken::Silence),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use sim::{Engine, TerraformCloudConfig};

    use super::*;
    use crate::demo::sandbox::Sandbox;

    /// A gateway in that folder.
    pub(in crate::operator) async fn gateway(folder: &std::path::Path) -> Sandbox {
        let contract = policy::EXAMPLE_CONTRACT.as_bytes().to_vec();
        let cloud = TerraformCloudConfig::acme(Engine::Recorded);
        let place = folder.join("s");
        let sandbox = Sandbox::start_on(&place, contract, cloud, |_| {});
        sandbox.await.unwrap()
    }

    /// An answer of a gateway to its operator that has been silent for that long, and what it
    /// says from here on.
    pub(in crate::operator) fn silent_for(
        sandbox: &Sandbox,
        silence: Duration,
    ) -> (Stream, impl FnMut() -> Option<Bytes> + use<>) {
        let standing = Standing(Hash::of(sandbox.operator_token.as_bytes()));
        let (pieces, mut taken) = mpsc::channel(1);
        let app = Arc::clone(&sandbox.gateway.app);
        let mut stream = Stream::new(app, standing, None, pieces).unwrap();
        stream.said -= silence;
        let said = move || match taken.try_recv() {
            Ok(Piece::Bytes(bytes)) => Some(bytes),
            _ => None,
        };
        (stream, said)
    }

    #[tokio::test]
    async fn commits_do_not_put_off_the_end_of_silence() {
        let folder = tempfile::tempdir().unwrap();
        let sandbox = gateway(folder.path()).await;
        let (mut stream, mut said) = silent_for(&sandbox, SILENCE);
        stream.commits.mark_changed();
        // No commit counts so soon after a look.
        stream.looked += SILENCE / 2;
        assert_eq!(stream.wait().await.unwrap(), Woken::Silence);
        assert!(stream.is_silent());
        stream.say("\n").await.unwrap();
        assert!(!stream.is_silent() && said().is_some());
        stream.commits.mark_changed();
        stream.looked -= SILENCE;
        assert_eq!(stream.wait().await.unwrap(), Woken::Commit);
        sandbox.gateway.stop().await;
    }

    #[tokio::test]
    async fn one_credential_does_not_take_every_place() {
        let streams = Streams::default();
        let of = |name: usize| streams.place(Hash::of(&name.to_be_bytes()));
        let own: Vec<Place> = (0..MAX_OF_ONE).map(|_| of(0).unwrap()).collect();
        assert!(of(0).is_err());
        let others = (MAX_OF_ONE..MAX_STREAMS).map(|n| of(n / MAX_OF_ONE).unwrap());
        let others: Vec<Place> = others.collect();
        assert!(of(9).is_err());
        drop(own);
        assert!(of(9).is_ok() && of(0).is_ok());
        drop(others);
        assert!(streams.taken.lock().unwrap().is_empty());
    }
}
