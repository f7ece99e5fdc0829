//! The facts of a call as they come in, and its end, which is handed in exactly once: when the
//! answer is over, or when whoever held it lets go.

use std::time::{Duration, Instant};

use policy::ReasonCode;
use proof::Envelope;
use proof::hash::Hasher;
use proof::record::{Ended, Usage};
use tokio::task::JoinHandle;

use super::budget::{Reserved, Spent, estimated_tokens};
use super::open_calls::OpenCall;
use super::sse::{EventReader, Place};
use super::usage::{MAX_TOKENS, Reported, UsageReader};
use super::{Facts, Finish, Target};

/// A call whose end is not recorded yet. Dropped, it ends as [`Ended::ClientGone`]: only the
/// client's side can let go of a call before its end.
pub(super) struct Ending(Option<Box<Open>>);

struct Open {
    finish: Box<dyn Finish>,
    reserved: Option<Reserved>,
    /// Counted until the outcome has been handed in.
    call: OpenCall,
    uses_tokens: bool,
    generates: bool,
    request_bytes: u64,
    started: Instant,
    first_byte: Option<Duration>,
    sent: bool,
    status: Option<u16>,
    upstream_status: Option<u16>,
    hasher: Hasher,
    reader: Reader,
    /// The stream's last word was taken by the client's connection.
    said_all: bool,
}

enum Reader {
    Nothing,
    Document(Box<UsageReader>),
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
            call,
            uses_tokens: target.uses_tokens(),
            generates: target.generates(),
            request_bytes,
            started: Instant::now(),
            first_byte: None,
            sent: false,
            status: None,
            upstream_status: None,
            hasher: Hasher::new(),
            reader: Reader::Nothing,
            said_all: false,
        })))
    }

    /// Resolves when the call's intent is durable, with `false` when it never will be.
    pub(super) async fn recorded(&mut self) -> bool {
        match &mut self.0 {
            Some(open) => open.finish.recorded().await,
            None => false,
        }
    }

    /// The request may have reached the provider.
    pub(super) fn sent(&mut self) {
        if let Some(open) = &mut self.0 {
            open.sent = true;
        }
    }

    /// It has not, after all: there was no connection.
    pub(super) fn not_sent(&mut self) {
        if let Some(open) = &mut self.0 {
            open.sent = false;
        }
    }

    /// The provider's head came; its status is not the client's yet.
    pub(super) fn answered(&mut self, upstream_status: u16, events: bool) {
        if let Some(open) = &mut self.0 {
            open.upstream_status = Some(upstream_status);
            open.reader = if events {
                Reader::Events(Box::default())
            } else {
                Reader::Document(Box::default())
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
            match &mut open.reader {
                Reader::Nothing => {}
                Reader::Document(usage) => usage.feed(bytes),
                Reader::Events(events) => events.feed(bytes),
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
            Reader::Nothing | Reader::Document(_) => None,
        }
    }

    /// Hands the end in. The task goes on when its handle is dropped: a client that leaves now
    /// does not take the receipt along.
    pub(super) fn end(
        &mut self,
        ended: Ended,
        code: Option<ReasonCode>,
    ) -> JoinHandle<Option<Envelope>> {
        let open = self.0.take();
        tokio::spawn(async move {
            match open {
                Some(open) => open.hand_in(ended, code).await,
                None => None,
            }
        })
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        // Without a runtime the gateway is gone: the open intent is closed as unknown when it
        // starts again.
        if let Some(open) = self.0.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            // Clients hang up after the last word without waiting for the end of the stream.
            let ended = if open.said_all {
                Ended::Complete
            } else {
                Ended::ClientGone
            };
            runtime.spawn(open.hand_in(ended, None));
        }
    }
}

impl Open {
    async fn hand_in(self: Box<Self>, ended: Ended, code: Option<ReasonCode>) -> Option<Envelope> {
        let (usage, spent) = self.usage(ended);
        let facts = Facts {
            status: self.status,
            upstream_status: self.upstream_status,
            response_hash: self.hasher.finish(),
            response_bytes: self.hasher.length(),
            first_byte_ms: self.first_byte.map(milliseconds),
            ended,
            object_id: None,
            code,
            usage,
            learned: Vec::new(),
        };
        let Self {
            finish,
            reserved,
            call,
            ..
        } = *self;
        let settling = async {
            if let Some(reserved) = reserved {
                reserved.settle(spent).await;
            }
        };
        let (envelope, ()) = tokio::join!(finish.finish(facts), settling);
        drop(call);
        envelope
    }

    /// What is recorded, and what the budget is charged.
    fn usage(&self, ended: Ended) -> (Option<Usage>, Spent) {
        if !self.uses_tokens || !self.sent {
            return (None, Spent::Nothing);
        }
        let mut reported = self.reported();
        let Some(status) = self.upstream_status else {
            // It may have been answered, and charged, without our hearing of it.
            return (None, Spent::AtLeast(0));
        };
        if !(200..300).contains(&status) {
            let usage = reported.complete();
            return (
                usage,
                usage.map_or(Spent::Nothing, |usage| Spent::Tokens(total(usage))),
            );
        }
        if !self.generates {
            reported.output.get_or_insert(0);
        }
        match reported.complete() {
            Some(usage) if ended == Ended::Complete => (Some(usage), Spent::Tokens(total(usage))),
            _ => {
                let usage = self.derived(reported);
                (Some(usage), Spent::AtLeast(total(usage)))
            }
        }
    }

    fn reported(&self) -> Reported {
        match &self.reader {
            Reader::Nothing => Reported::default(),
            Reader::Document(usage) => usage.reported(),
            Reader::Events(events) => events.reported(),
        }
    }

    /// An estimate where the provider did not say, or not to the end: providers send about one
    /// token with each event.
    fn derived(&self, reported: Reported) -> Usage {
        let output = match &self.reader {
            Reader::Events(events) => events.events(),
            Reader::Nothing | Reader::Document(_) => estimated_tokens(self.hasher.length()),
        };
        let input = reported
            .input
            .unwrap_or_else(|| estimated_tokens(self.request_bytes));
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

fn total(usage: Usage) -> u64 {
    usage.tokens_input.saturating_add(usage.tokens_output)
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
