//! The facts of a call as they come in, and its end, which is handed in exactly once: when the
//! answer is over, or when whoever held it lets go.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use policy::ReasonCode;
use proof::Envelope;
use proof::hash::Hasher;
use proof::record::{Ended, Usage};
use store::ModelSpend;

use super::budget::{Reserved, Spent, cost, estimated_tokens};
use super::idempotency::Claimed;
use super::open_calls::OpenCall;
use super::sse::{EventReader, Place};
use super::tool_calls::DocumentCalls;
use super::usage::{MAX_TOKENS, Reported, UsageReader};
use super::words::{Counted, VOCABULARY, Words, is_exact_for};
use super::{Facts, Finish, Provider, Target};
use crate::config::Price;
use crate::vault::conversations::CallCopy;

/// How receipts name tokens that are estimated from lengths, or some of which are.
const ESTIMATED: &str = "length";
const COUNTED_IN_PART: &str = "o200k_base+length";

/// A call whose end is not recorded yet. Dropped, it ends as [`Ended::ClientGone`]: only the
/// client's side can let go of a call before its end.
pub(super) struct Ending(Option<Box<Open>>);

struct Open {
    finish: Box<dyn Finish>,
    reserved: Option<Reserved>,
    claimed: Option<Claimed>,
    /// Counted until the outcome has been handed in.
    call: OpenCall,
    expects_tool_calls: bool,
    uses_tokens: bool,
    generates: bool,
    request_bytes: u64,
    started: Instant,
    first_byte: Option<Duration>,
    /// Who may have the request, and was asked last.
    asked: Option<Asked>,
    status: Option<u16>,
    upstream_status: Option<u16>,
    hasher: Hasher,
    reader: Reader,
    /// The stream's last word was taken by the client's connection.
    said_all: bool,
    /// Everything came, although the client had left.
    drained: bool,
    copy: Option<CallCopy>,
    /// Until the tokens are known.
    words: Option<Words>,
    /// Whether counting the words counts everything that the model writes.
    exact: bool,
}

struct Asked {
    provider: Arc<Provider>,
    /// Of the model, there.
    price: Option<Price>,
}

/// Who may have the request besides the provider that is being asked.
pub(super) struct Earlier(Option<Asked>);

enum Reader {
    Nothing,
    Document(Box<UsageReader>, Option<DocumentCalls>),
    Events(Box<EventReader>),
}

impl Ending {
    pub(super) fn new(
        target: &Target,
        request_bytes: u64,
        reserved: Option<Reserved>,
        finish: Box<dyn Finish>,
        call: OpenCall,
    ) -> Self {
        Self(Some(Box::new(Open {
            finish,
            reserved,
            claimed: None,
            call,
            expects_tool_calls: false,
            uses_tokens: target.uses_tokens(),
            generates: target.generates(),
            request_bytes,
            started: Instant::now(),
            first_byte: None,
            asked: None,
            status: None,
            upstream_status: None,
            hasher: Hasher::new(),
            reader: Reader::Nothing,
            said_all: false,
            drained: false,
            copy: None,
            words: None,
            exact: false,
        })))
    }

    /// The call has taken an idempotency key.
    pub(super) fn claims(&mut self, claimed: Claimed) {
        if let Some(open) = &mut self.0 {
            open.claimed = Some(claimed);
        }
    }

    /// The answer may ask for tools, so it is read for them.
    pub(super) fn expect_tool_calls(&mut self) {
        if let Some(open) = &mut self.0 {
            open.expects_tool_calls = true;
        }
    }

    /// What is said is counted here when the provider does not say its tokens.
    pub(super) fn counts(&mut self, words: Words, model: &str) {
        if let Some(open) = &mut self.0 {
            open.words = Some(words);
            open.exact = is_exact_for(model);
        }
    }

    /// The call is kept for auditors.
    pub(super) fn keeps(&mut self, mut copy: CallCopy) {
        if let Some(open) = &mut self.0 {
            copy.names(open.finish.receipt_id());
            open.copy = Some(copy);
        }
    }

    /// Resolves when the call's intent is durable, with `false` when it never will be.
    pub(super) async fn recorded(&mut self) -> bool {
        match &mut self.0 {
            Some(open) => open.finish.recorded().await,
            None => false,
        }
    }

    /// Whether nothing may be sent before the intent is durable.
    pub(super) fn is_doubtful(&self) -> bool {
        let open = self.0.as_ref();
        open.is_none_or(|open| open.finish.is_doubtful())
    }

    /// Takes the end away, so that somebody else hands it in.
    pub(super) fn take(&mut self) -> Self {
        Self(self.0.take())
    }

    /// The request may have reached this provider, whose model has this price.
    pub(super) fn sent(&mut self, provider: &Arc<Provider>, price: Option<Price>) -> Earlier {
        let Some(open) = &mut self.0 else {
            return Earlier(None);
        };
        if let Some(copy) = &mut open.copy {
            copy.sent();
        }
        open.finish.asks(&provider.name);
        let provider = Arc::clone(provider);
        Earlier(open.asked.replace(Asked { provider, price }))
    }

    /// It has not, after all: there was no connection. Who was asked before still was.
    pub(super) fn not_sent(&mut self, earlier: Earlier) {
        if let Some(open) = &mut self.0 {
            if let Some(asked) = &earlier.0 {
                open.finish.asks(&asked.provider.name);
            }
            open.asked = earlier.0;
        }
    }

    /// The provider's head came; its status is not the client's yet.
    pub(super) fn answered(&mut self, upstream_status: u16, events: bool) {
        if let Some(open) = &mut self.0 {
            open.upstream_status = Some(upstream_status);
            open.reader = if events {
                open.call.streams();
                Reader::Events(Box::new(EventReader::new(open.expects_tool_calls)))
            } else {
                let calls = open.expects_tool_calls.then(DocumentCalls::default);
                Reader::Document(Box::default(), calls)
            };
        }
    }

    /// The status that the client is given.
    pub(super) fn status(&mut self, status: u16) {
        if let Some(open) = &mut self.0 {
            open.status = Some(status);
        }
    }

    /// More of the provider's body came.
    pub(super) fn body(&mut self, bytes: &[u8]) {
        if let Some(open) = &mut self.0 {
            open.first_byte
                .get_or_insert_with(|| open.started.elapsed());
            open.hasher.update(bytes);
            if let Some(copy) = &mut open.copy {
                copy.answer(bytes);
            }
            match &mut open.reader {
                Reader::Nothing => {}
                Reader::Document(usage, calls) => {
                    usage.feed(bytes);
                    if let Some(calls) = calls {
                        calls.feed(bytes);
                    }
                }
                Reader::Events(events) => events.feed(bytes),
            }
            if open.generates
                && let Some(words) = &mut open.words
            {
                let events = match &open.reader {
                    Reader::Events(events) => events.events(),
                    Reader::Nothing | Reader::Document(..) => 0,
                };
                words.answer(bytes, events);
            }
        }
    }

    /// The client's connection asks for more, so it has taken everything until here.
    pub(super) fn taken(&mut self) {
        if let Some(open) = &mut self.0
            && let Reader::Events(events) = &open.reader
        {
            open.said_all = events.has_ended();
        }
    }

    /// Where a stream of events stands; `None` for anything else.
    pub(super) fn place(&self) -> Option<Place> {
        match &self.0.as_ref()?.reader {
            Reader::Events(events) => Some(events.place()),
            Reader::Nothing | Reader::Document(..) => None,
        }
    }

    /// Hands in the end of an answer that was read to its end after its client had left.
    pub(super) async fn drained(mut self) {
        if let Some(mut open) = self.0.take() {
            open.drained = true;
            let ended = open.without_client();
            open.hand_in(ended, None).await;
        }
    }

    /// Hands the end in, and resolves to the receipt; to `None` when there will be none.
    pub(super) fn end(&mut self, ended: Ended, code: Option<ReasonCode>) -> HandingIn {
        let open = self.0.take();
        HandingIn(open.map(|open| open.hand_in(ended, code).boxed()))
    }
}

/// The end of a call on its way to the store. Dropped before it is there, it goes on in a task of
/// its own: a client that leaves now does not take the receipt along.
pub(super) struct HandingIn(Option<BoxFuture<'static, Option<Envelope>>>);

impl Future for HandingIn {
    type Output = Option<Envelope>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Envelope>> {
        let Some(handing_in) = &mut self.0 else {
            return Poll::Ready(None);
        };
        let envelope = ready!(handing_in.as_mut().poll(context));
        self.0 = None;
        Poll::Ready(envelope)
    }
}

impl Drop for HandingIn {
    fn drop(&mut self) {
        // Without a runtime, as where an `Ending` is dropped.
        if let Some(handing_in) = self.0.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(handing_in);
        }
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        // Without a runtime the gateway is gone: the open intent is closed as unknown when it
        // starts again.
        if let Some(open) = self.0.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let ended = open.without_client();
            runtime.spawn(open.hand_in(ended, None));
        }
    }
}

impl Open {
    /// How it has ended when the client hangs up: clients do so after the last word, without
    /// waiting for the end of the stream.
    fn without_client(&self) -> Ended {
        match self.said_all {
            true => Ended::Complete,
            false => Ended::ClientGone,
        }
    }

    async fn hand_in(
        mut self: Box<Self>,
        ended: Ended,
        code: Option<ReasonCode>,
    ) -> Option<Envelope> {
        let counted = self.counted().await;
        let (usage, spent) = self.usage(ended, counted);
        if let Some(asked) = &self.asked {
            asked.provider.counts.used(usage, spent.known());
        }
        let counted_by = usage.filter(|usage| usage.derived).map(|_| match counted {
            Some(counted) if counted.whole => VOCABULARY,
            Some(_) => COUNTED_IN_PART,
            None => ESTIMATED,
        });
        let tool_calls = match self.reader {
            Reader::Nothing => Vec::new(),
            Reader::Document(_, calls) => calls.map_or_else(Vec::new, DocumentCalls::finish),
            Reader::Events(events) => events.tool_calls(),
        };
        let response_hash = self.hasher.clone().finish();
        if let Some(copy) = self.copy {
            copy.end(response_hash);
        }
        let facts = Facts {
            status: self.status,
            upstream_status: self.upstream_status,
            response_hash,
            response_bytes: self.hasher.length(),
            first_byte_ms: self.first_byte.map(milliseconds),
            ended,
            object_id: None,
            code,
            usage,
            counted_by,
            tool_calls,
            learned: Vec::new(),
            egress: None,
        };
        let Self {
            finish,
            reserved,
            claimed,
            asked,
            call,
            ..
        } = *self;
        let sent = asked.is_some();
        let receipt_id = finish.receipt_id().to_owned();
        let settling = async {
            if let Some(reserved) = reserved {
                reserved.settle(spent).await;
            }
        };
        let (envelope, ()) = tokio::join!(finish.finish(facts), settling);
        match (claimed, &envelope) {
            (Some(claimed), Some(_)) if sent => claimed.finish(&receipt_id).await,
            (Some(claimed), None) if sent => claimed.keep(),
            // Nothing was sent, so the key is free again.
            (claimed, _) => drop(claimed),
        }
        drop(call);
        envelope
    }

    /// Counts what was said, where something was answered and the provider has not told.
    async fn counted(&mut self) -> Option<Counted> {
        let words = self.words.take()?;
        let answered = self
            .upstream_status
            .is_some_and(|s| (200..300).contains(&s));
        let reported = self.reported();
        let told = reported.input.is_some() && (reported.output.is_some() || !self.generates);
        if !answered || told {
            return None;
        }
        let events = match &self.reader {
            Reader::Events(events) => Some(events.events()),
            Reader::Nothing | Reader::Document(..) => None,
        };
        words.count(self.hasher.length(), events).await
    }

    /// What is recorded, and what the budget is charged.
    fn usage(&self, ended: Ended, counted: Option<Counted>) -> (Option<Usage>, Spent) {
        if !self.uses_tokens || self.asked.is_none() {
            return (None, Spent::Nothing);
        }
        let mut reported = self.reported();
        let Some(status) = self.upstream_status else {
            // It may have been answered, and charged, without our hearing of it.
            return (None, Spent::AtLeast(ModelSpend::default()));
        };
        if !(200..300).contains(&status) {
            let usage = reported.complete();
            return (
                usage,
                usage.map_or(Spent::Nothing, |usage| Spent::Exactly(self.spend(usage))),
            );
        }
        if !self.generates {
            reported.output.get_or_insert(0);
        }
        match reported.complete() {
            Some(usage) if self.is_whole(ended) => (Some(usage), Spent::Exactly(self.spend(usage))),
            _ => {
                let usage = self.derived(reported, counted);
                let exact = self.exact && counted.is_some_and(|counted| counted.whole);
                let spent = match self.is_whole(ended) {
                    // Whoever leaves out that usage be told may not gain by it: the request
                    // counts at least what was reserved for it, and the reservation for the
                    // answer is given back only when nothing can hide.
                    true if exact => Spent::Exactly(self.spend(Usage {
                        tokens_input: usage.tokens_input.max(estimated_tokens(self.request_bytes)),
                        ..usage
                    })),
                    _ => Spent::AtLeast(self.spend(usage)),
                };
                (Some(usage), spent)
            }
        }
    }

    /// Whether the provider has said all that it had to say. A stream that ends without its last
    /// word (after an `error` event, say) has named the tokens so far at best.
    fn is_whole(&self, ended: Ended) -> bool {
        (ended == Ended::Complete || self.drained)
            && match &self.reader {
                Reader::Events(events) => events.has_ended(),
                Reader::Nothing | Reader::Document(..) => true,
            }
    }

    fn spend(&self, usage: Usage) -> ModelSpend {
        let (input, output) = (usage.tokens_input, usage.tokens_output);
        ModelSpend {
            tokens: input.saturating_add(output),
            cost: self
                .asked
                .as_ref()
                .and_then(|asked| asked.price.as_ref())
                .map_or(0, |price| cost(price, input, output)),
        }
    }

    fn reported(&self) -> Reported {
        match &self.reader {
            Reader::Nothing => Reported::default(),
            Reader::Document(usage, _) => usage.reported(),
            Reader::Events(events) => events.reported(),
        }
    }

    /// A count, or an estimate, where the provider did not say, or not to the end: providers
    /// send about one token with each event.
    fn derived(&self, reported: Reported, counted: Option<Counted>) -> Usage {
        let output = match (counted, &self.reader) {
            // What was not understood of a stream comes by about one token in each event.
            (Some(counted), Reader::Events(events)) if !counted.whole => {
                counted.output.max(events.events())
            }
            (Some(counted), _) => counted.output,
            (None, Reader::Events(events)) => events.events(),
            (None, Reader::Nothing | Reader::Document(..)) => {
                estimated_tokens(self.hasher.length())
            }
        };
        let input = reported.input.or(counted.map(|counted| counted.input));
        let input = input.unwrap_or_else(|| estimated_tokens(self.request_bytes));
        let output = if self.generates { output } else { 0 };
        Usage {
            tokens_input: input.min(MAX_TOKENS),
            tokens_output: reported
                .output
                .map_or(output, |said| said.max(output))
                .min(MAX_TOKENS),
            derived: true,
        }
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
