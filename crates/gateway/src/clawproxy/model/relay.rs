//! The answer's body on its way to the client: hashed, read and passed on, piece by piece.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;

use hyper::body::{Frame, Incoming, SizeHint};
use memchr::memmem;
use policy::ReasonCode;
use proof::Envelope;
use proof::hash::encode_b64u;
use proof::record::Ended;
use tokio::time::{Instant, Sleep};

use super::Provider;
use super::ending::{Ending, HandingIn};
use super::going_on::GoingOn;
use super::sse::Place;
use crate::metrics::waits::Waiting;
use crate::server::BoxError;

/// Longest answer in time: what a receipt can say (clawsig, 2.5), and the longest life of a token.
const LONGEST_ANSWER: Duration = Duration::from_secs(3600);

/// Most of a document that is held until its receipt is recorded. Nobody can use half of one, so
/// one of this size is given out whole, or an error in its place.
const MAX_HELD: usize = 64 << 10;

/// Why a connection is aborted in the middle of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Abort {
    #[error("the provider broke off")]
    Provider,
    #[error("the provider stopped sending")]
    Stalled,
    #[error("cut by policy: {0}")]
    Cut(ReasonCode),
    #[error("the receipt could not be recorded")]
    NoReceipt,
}

impl Abort {
    /// The reason, for a client that was given nothing yet.
    pub(super) fn code(self) -> ReasonCode {
        match self {
            Self::Provider => ReasonCode::UpstreamReset,
            Self::Stalled => ReasonCode::UpstreamTimeout,
            Self::Cut(code) => code,
            Self::NoReceipt => ReasonCode::StoreUnavailable,
        }
    }
}

/// What is known of an answer when its head can be given out.
pub(super) enum Beginning {
    /// All of it, and its receipt is recorded.
    Whole(Bytes),
    /// The body follows.
    Open(Box<Relay>),
    /// The call has ended without it, and that is recorded.
    Failed(Abort),
}

/// What stops a call from outside: a revoked token, a closed job.
pub(super) type Stop = Pin<Box<dyn Future<Output = ReasonCode> + Send>>;

/// The body.
pub(super) struct Relay {
    /// Let go as soon as the call ends, whatever its end still waits for.
    upstream: Option<Incoming>,
    ending: Ending,
    stop: Stop,
    provider: Arc<Provider>,
    leak: Option<LeakGuard>,
    clock: Clock,
    /// A stream of events: passed on at once. Otherwise the last piece waits for the receipt.
    events: bool,
    held: Option<Bytes>,
    /// What came of a document before its head was given out.
    early: Option<Bytes>,
    /// Whether the client was given the head, so that its status stands.
    given: bool,
    /// Bytes still to pass on, when the provider has announced their number.
    remaining: Option<u64>,
    /// Where the stream stood when it ended.
    place_at_end: Place,
    /// Where to read on when the client leaves, if its tokens must be counted exactly.
    going_on: Option<GoingOn>,
    state: State,
}

enum State {
    Passing,
    /// The end is being recorded; then the client gets the rest, or the abort.
    Recording(HandingIn, Option<Abort>),
    Over,
}

impl Relay {
    pub(super) fn new(
        upstream: Incoming,
        ending: Ending,
        stop: Stop,
        provider: Arc<Provider>,
        patience: Duration,
        going_on: Option<GoingOn>,
    ) -> Self {
        let events = ending.place().is_some();
        let announced = hyper::body::Body::size_hint(&upstream).exact();
        Self {
            upstream: Some(upstream),
            ending,
            stop,
            leak: provider.key_finder.clone().map(LeakGuard::new),
            provider,
            clock: Clock::new(patience),
            events,
            held: None,
            early: None,
            given: true,
            // A stream grows by its receipt.
            remaining: announced.filter(|_| !events),
            place_at_end: Place::BetweenEvents,
            going_on,
            state: State::Passing,
        }
    }

    /// Waits for what the client's first bytes depend on: nothing for a stream, the end and its
    /// receipt for a document of up to [`MAX_HELD`].
    pub(super) async fn begin(mut self) -> Beginning {
        let large = |length| length > MAX_HELD as u64;
        if self.events || self.remaining.is_some_and(large) {
            return Beginning::Open(Box::new(self));
        }
        self.given = false;
        let announced = self.remaining;
        let mut pieces: Vec<Bytes> = Vec::new();
        let mut length = 0;
        // Until the provider has said all; what the receipt takes then is our own time.
        let mut waiting = Some(Waiting::begin());
        while length <= MAX_HELD {
            let piece = std::future::poll_fn(|context| {
                let piece = self.poll_piece(context);
                if self.upstream.is_none() {
                    waiting = None;
                }
                piece
            })
            .await;
            match piece {
                Some(Ok(piece)) => {
                    length += piece.len();
                    pieces.push(piece);
                }
                Some(Err(abort)) => return Beginning::Failed(abort),
                None => return Beginning::Whole(joined(pieces)),
            }
        }
        self.given = true;
        self.early = Some(joined(pieces));
        self.remaining = announced;
        Beginning::Open(Box::new(self))
    }

    fn end(&mut self, ended: Ended, code: Option<ReasonCode>, abort: Option<Abort>) {
        if let Some(abort) = abort.filter(|_| !self.given) {
            self.ending.status(abort.code().status());
        }
        self.upstream = None;
        self.place_at_end = self.ending.place().unwrap_or(self.place_at_end);
        self.state = State::Recording(self.ending.end(ended, code), abort);
    }

    /// The next piece for the client, or why there is none.
    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Abort>>> {
        loop {
            let piece = match &mut self.state {
                State::Over => return Poll::Ready(None),
                State::Passing if self.early.is_some() => self.early.take(),
                State::Passing => ready!(self.pass(context)),
                State::Recording(task, abort) => {
                    let envelope = ready!(Pin::new(task).poll(context));
                    let abort = *abort;
                    self.state = State::Over;
                    match self.rest(envelope, abort) {
                        Ok(None) => return Poll::Ready(None),
                        Ok(piece) => piece,
                        Err(abort) => return Poll::Ready(Some(Err(abort))),
                    }
                }
            };
            if let Some(piece) = piece {
                if let Some(remaining) = &mut self.remaining {
                    *remaining = remaining.saturating_sub(piece.len() as u64);
                }
                return Poll::Ready(Some(Ok(piece)));
            }
        }
    }

    /// Passes the next piece on, or ends the call.
    fn pass(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        self.ending.taken();
        if let Poll::Ready(code) = self.stop.as_mut().poll(context) {
            self.end(Ended::CutByPolicy, Some(code), Some(Abort::Cut(code)));
            return Poll::Ready(None);
        }
        loop {
            let Some(upstream) = &mut self.upstream else {
                return Poll::Ready(None);
            };
            let frame = match hyper::body::Body::poll_frame(Pin::new(upstream), context) {
                Poll::Ready(frame) => frame,
                Poll::Pending if self.clock.has_stalled(context) => {
                    let provider = self.provider.name.as_str();
                    tracing::warn!(provider, "a model provider stopped within its answer");
                    let code = Some(ReasonCode::UpstreamTimeout);
                    self.end(Ended::UpstreamReset, code, Some(Abort::Stalled));
                    return Poll::Ready(None);
                }
                Poll::Pending => return Poll::Pending,
            };
            match frame {
                None => {
                    self.end(Ended::Complete, None, None);
                    return Poll::Ready(None);
                }
                Some(Err(error)) => {
                    let provider = self.provider.name.as_str();
                    tracing::warn!(provider, %error, "a model provider broke off within its answer");
                    let code = Some(ReasonCode::UpstreamReset);
                    self.end(Ended::UpstreamReset, code, Some(Abort::Provider));
                    return Poll::Ready(None);
                }
                Some(Ok(frame)) => {
                    self.clock.moved();
                    // Trailers stay here; nobody has asked for them.
                    let Ok(piece) = frame.into_data() else {
                        continue;
                    };
                    self.ending.body(&piece);
                    if self.leak.as_mut().is_some_and(|guard| guard.finds(&piece)) {
                        let provider = self.provider.name.as_str();
                        tracing::error!(provider, "a model provider's answer held its key");
                        let code = ReasonCode::UpstreamGarbage;
                        self.end(Ended::CutByPolicy, Some(code), Some(Abort::Cut(code)));
                        return Poll::Ready(None);
                    }
                    let piece = if self.events {
                        Some(piece)
                    } else {
                        self.held.replace(piece)
                    };
                    if let Some(piece) = piece.filter(|piece| !piece.is_empty()) {
                        return Poll::Ready(Some(piece));
                    }
                }
            }
        }
    }

    /// What follows once the end is recorded.
    fn rest(
        &mut self,
        envelope: Option<Envelope>,
        abort: Option<Abort>,
    ) -> Result<Option<Bytes>, Abort> {
        match (abort, envelope) {
            (Some(abort), _) => Err(abort),
            (None, None) => Err(Abort::NoReceipt),
            (None, Some(envelope)) if self.events => Ok(Some(self.comment(&envelope))),
            (None, Some(_)) => Ok(self.held.take()),
        }
    }

    /// The receipt as a comment, which readers of event streams skip. An event that the provider
    /// has left without its end stays without one.
    fn comment(&self, envelope: &Envelope) -> Bytes {
        let json = serde_json::to_vec(envelope).expect("an envelope is JSON");
        let (before, after) = match self.place_at_end {
            Place::BetweenEvents => ("", "\n\n"),
            Place::WithinEvent => ("", "\n"),
            Place::WithinLine => ("\n", "\n"),
        };
        let receipt = encode_b64u(&json);
        Bytes::from(format!(
            "{before}:clawgate_receipt_envelope_b64u={receipt}{after}"
        ))
    }
}

impl hyper::body::Body for Relay {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let piece = ready!(self.poll_piece(context));
        Poll::Ready(piece.map(|piece| piece.map(Frame::data).map_err(BoxError::from)))
    }

    fn size_hint(&self) -> SizeHint {
        self.remaining
            .map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(upstream) = self.upstream.take()
            && let Some(going_on) = &self.going_on
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
            && let Some(place) = going_on.enter()
        {
            let ending = self.ending.take();
            let stop = std::mem::replace(&mut self.stop, Box::pin(std::future::pending()));
            let clock = Clock::new(self.clock.patience);
            runtime.spawn(async move {
                drain(upstream, ending, stop, clock).await;
                drop(place);
            });
        }
    }
}

fn joined(mut pieces: Vec<Bytes>) -> Bytes {
    match pieces.len() {
        1 => pieces.swap_remove(0),
        _ => pieces.concat().into(),
    }
}

/// Reads an answer to its end for nobody, within the bounds of every answer.
async fn drain(mut upstream: Incoming, mut ending: Ending, mut stop: Stop, mut clock: Clock) {
    let (ended, code) = std::future::poll_fn(|context| {
        if let Poll::Ready(code) = stop.as_mut().poll(context) {
            return Poll::Ready((Ended::CutByPolicy, Some(code)));
        }
        loop {
            match hyper::body::Body::poll_frame(Pin::new(&mut upstream), context) {
                Poll::Pending if clock.has_stalled(context) => {
                    return Poll::Ready((Ended::UpstreamReset, Some(ReasonCode::UpstreamTimeout)));
                }
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => return Poll::Ready((Ended::Complete, None)),
                Poll::Ready(Some(Err(_))) => {
                    return Poll::Ready((Ended::UpstreamReset, Some(ReasonCode::UpstreamReset)));
                }
                Poll::Ready(Some(Ok(frame))) => {
                    clock.moved();
                    if let Ok(piece) = frame.into_data() {
                        ending.body(&piece);
                    }
                }
            }
        }
    })
    .await;
    match ended {
        Ended::Complete => ending.drained().await,
        _ => drop(ending.end(ended, code)),
    }
}

/// Notices when nothing comes for too long, or when the whole takes too long.
struct Clock {
    patience: Duration,
    moved: Instant,
    last_moment: Instant,
    alarm: Pin<Box<Sleep>>,
}

impl Clock {
    fn new(patience: Duration) -> Self {
        let now = Instant::now();
        Self {
            patience,
            moved: now,
            last_moment: now + LONGEST_ANSWER,
            alarm: Box::pin(tokio::time::sleep_until(now + patience)),
        }
    }

    fn moved(&mut self) {
        self.moved = Instant::now();
    }

    fn has_stalled(&mut self, context: &mut Context<'_>) -> bool {
        // The alarm is set anew only when it rings, not for each piece.
        while self.alarm.as_mut().poll(context).is_ready() {
            let due = (self.moved + self.patience).min(self.last_moment);
            if due <= Instant::now() {
                return true;
            }
            self.alarm.as_mut().reset(due);
        }
        false
    }
}

/// Finds the provider's key in what the provider sends, also across pieces.
struct LeakGuard {
    key: Arc<memmem::Finder<'static>>,
    /// The end of what came before, one byte shorter than the key.
    tail: Vec<u8>,
}

impl LeakGuard {
    fn new(key: Arc<memmem::Finder<'static>>) -> Self {
        Self {
            key,
            tail: Vec::new(),
        }
    }

    fn finds(&mut self, piece: &[u8]) -> bool {
        let keep = self.key.needle().len().saturating_sub(1);
        let head = &piece[..piece.len().min(keep)];
        self.tail.extend_from_slice(head);
        let found = self.key.find(&self.tail).is_some() || self.key.find(piece).is_some();
        if piece.len() >= keep {
            self.tail.clear();
            self.tail.extend_from_slice(&piece[piece.len() - keep..]);
        } else {
            let surplus = self.tail.len().saturating_sub(keep);
            self.tail.drain(..surplus);
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leaking_key_is_found_in_pieces_of_any_size() {
        let finder = Arc::new(memmem::Finder::new(b"sk-0123456789abcdef").into_owned());
        let leaking = b"data: {\"error\":\"wrong key sk-0123456789abcdef\"}";
        let close = b"data: {\"error\":\"wrong key sk-0123456789abcdeX sk-012345678\"}";
        for size in 1..leaking.len() {
            let found = |text: &[u8]| {
                let mut guard = LeakGuard::new(Arc::clone(&finder));
                text.chunks(size).any(|piece| guard.finds(piece))
            };
            assert!(found(leaking), "in pieces of {size}");
            assert!(!found(close), "in pieces of {size}");
        }
    }

    #[tokio::test]
    async fn the_clock_notices_a_stall_and_nothing_else() {
        let mut short = Clock::new(Duration::from_millis(1));
        std::future::poll_fn(|context| match short.has_stalled(context) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        })
        .await;
        short.patience = LONGEST_ANSWER;
        let mut context = Context::from_waker(std::task::Waker::noop());
        assert!(!short.has_stalled(&mut context), "it may go on after all");
        let mut long = Clock::new(LONGEST_ANSWER);
        assert!(!long.has_stalled(&mut context));
    }
}
