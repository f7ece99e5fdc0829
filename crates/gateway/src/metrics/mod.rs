//! What the gateway measures, for `GET /metrics`.
//!
//! Each part counts where it works: this module has what calls leave behind, upstream and the
//! providers have their own numbers, and [`gather`] puts them together with what the store says.
//! Counting is one atomic addition; nothing is allocated, locked or looked up by name.
//!
//! To add a metric: its line in [`families`], where it is counted, its lines in [`gather`], its
//! line in `docs/metrics.md`. Labels take their values from tables in the code and from names in
//! the configuration, so that their number is bounded: never an id, a workspace, a model that an
//! agent named, or anything else of a request.

pub mod counts;
pub mod families;
pub mod gather;
pub mod snapshot;
pub mod text;
pub mod waits;

use std::time::Duration;

use http::StatusCode;
use policy::ReasonCode;
use policy::decide::ModelSurface;
use policy::terraform::Effect;
use proof::record::{Ended, Lane};

use counts::{Counter, Histogram};

macro_rules! classes {
    ($($(#[$doc:meta])* $variant:ident $lane:literal $class:literal;)*) => {
        /// What kind of call it is, as far as that is known.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum CallClass {
            $($(#[$doc])* $variant,)*
        }

        impl CallClass {
            /// Every class.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The label `lane`.
            pub const fn lane(self) -> &'static str {
                match self { $(Self::$variant => $lane,)* }
            }

            /// The label `class`.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $class,)* }
            }
        }
    };
}

classes! {
    /// A Terraform call that changes nothing.
    Read "terraform" "read";
    /// One that may change something.
    Change "terraform" "change";
    /// The agent's view of its own job.
    Job "terraform" "job";
    /// A message of the Model Context Protocol. The calls that a tool makes count by themselves.
    Tools "terraform" "tools";
    /// Refused before it was known what it is.
    Unclear "terraform" "unknown";
    /// OpenAI's chat completions.
    ChatCompletions "model" "chat_completions";
    /// OpenAI's responses.
    Responses "model" "responses";
    /// OpenAI's embeddings.
    Embeddings "model" "embeddings";
    /// The list of models.
    Models "model" "models";
    /// Anthropic's messages.
    Messages "model" "messages";
    /// Anthropic's count of tokens.
    CountTokens "model" "count_tokens";
    /// Refused before it was known what it is.
    UnclearModel "model" "unknown";
    /// A connection to a host that the contract lists.
    Egress "egress" "connection";
}

impl CallClass {
    /// Whether we answer it ourselves, so that there is nothing to time.
    pub const fn is_ours(self) -> bool {
        matches!(self, Self::Job | Self::Tools)
    }
}

impl From<Effect> for CallClass {
    fn from(effect: Effect) -> Self {
        match effect {
            Effect::Read => Self::Read,
            Effect::Mutate => Self::Change,
        }
    }
}

impl From<ModelSurface> for CallClass {
    fn from(surface: ModelSurface) -> Self {
        match surface {
            ModelSurface::ChatCompletions => Self::ChatCompletions,
            ModelSurface::Responses => Self::Responses,
            ModelSurface::Embeddings => Self::Embeddings,
            ModelSurface::Models => Self::Models,
            ModelSurface::Messages => Self::Messages,
            ModelSurface::CountTokens => Self::CountTokens,
        }
    }
}

/// The ends of calls, with their names.
const ENDS: [(Ended, &str); 5] = [
    (Ended::Complete, "complete"),
    (Ended::ClientGone, "client_gone"),
    (Ended::UpstreamReset, "upstream_reset"),
    (Ended::CutByPolicy, "cut_by_policy"),
    (Ended::Unknown, "unknown"),
];

/// The lanes of outcomes, with their names.
const LANES: [(Lane, &str); 4] = [
    (Lane::Terraform, "terraform"),
    (Lane::Model, "model"),
    (Lane::Gateway, "gateway"),
    (Lane::Egress, "egress"),
];

/// Lanes in which calls are timed. A connection to elsewhere has no answer whose head could be waited
/// for.
const TIMED: [&str; 2] = ["terraform", "model"];

/// What calls leave behind.
#[derive(Debug)]
pub struct Metrics {
    /// By class, then by reason code.
    calls: Vec<Counter>,
    /// By lane, then by end.
    ends: [[Counter; ENDS.len()]; LANES.len()],
    /// By lane.
    overhead: [Histogram; TIMED.len()],
    /// By lane.
    upstream: [Histogram; TIMED.len()],
    /// Waits for records to become durable.
    pub store_write: Histogram,
    /// Sealed bundles.
    pub bundles: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        let calls = CallClass::ALL.len() * ReasonCode::ALL.len();
        Self {
            calls: std::iter::repeat_with(Counter::default)
                .take(calls)
                .collect(),
            ends: Default::default(),
            overhead: Default::default(),
            upstream: Default::default(),
            store_write: Default::default(),
            bundles: Default::default(),
        }
    }
}

impl Metrics {
    /// A call was decided, or refused before that.
    pub fn decided(&self, class: CallClass, code: ReasonCode) {
        if let Some(calls) = self.calls_of(class, code) {
            calls.count();
        }
    }

    fn calls_of(&self, class: CallClass, code: ReasonCode) -> Option<&Counter> {
        let place = class as usize * ReasonCode::ALL.len() + code as usize;
        self.calls.get(place)
    }

    /// The head of an allowed call's answer is there, so long after its request, of which upstream
    /// took some.
    pub fn answered(&self, class: CallClass, took: Duration, waited: Duration) {
        let lane = TIMED.iter().position(|lane| *lane == class.lane());
        if let Some(lane) = lane {
            self.overhead[lane].observe(took.saturating_sub(waited));
            self.upstream[lane].observe(waited);
        }
    }

    /// A call has ended.
    pub fn ended(&self, lane: Lane, ended: Ended) {
        let lane = LANES.iter().position(|(own, _)| *own == lane);
        let end = ENDS.iter().position(|(own, _)| *own == ended);
        if let (Some(lane), Some(end)) = (lane, end) {
            self.ends[lane][end].count();
        }
    }
}

/// How a request to somebody else was answered.
const RESULTS: [&str; 7] = [
    "success",
    "redirect",
    "client_error",
    "rate_limited",
    "server_error",
    "unreachable",
    "timeout",
];

/// Requests to somebody else by how they were answered.
#[derive(Debug, Default)]
pub struct Requests([Counter; RESULTS.len()]);

impl Requests {
    /// It was answered with this status.
    pub fn answered(&self, status: StatusCode) {
        let result = match status.as_u16() {
            429 => 3,
            300..400 => 1,
            400..500 => 2,
            500.. => 4,
            _ => 0,
        };
        self.0[result].count();
    }

    /// There was no connection, or none that held.
    pub fn unreachable(&self) {
        self.0[5].count();
    }

    /// Nothing came in time.
    pub fn timed_out(&self) {
        self.0[6].count();
    }

    /// By the label `result`.
    pub fn by_result(&self) -> impl Iterator<Item = (&'static str, u64)> {
        RESULTS.into_iter().zip(self.0.iter().map(Counter::value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_class_and_code_has_a_place_of_its_own() {
        let metrics = Metrics::default();
        for class in CallClass::ALL {
            for code in ReasonCode::ALL {
                metrics.decided(*class, *code);
            }
        }
        assert!(metrics.calls.iter().all(|count| count.value() == 1));
        for (place, code) in ReasonCode::ALL.iter().enumerate() {
            assert_eq!(*code as usize, place);
        }
    }

    #[test]
    fn each_class_is_timed_in_a_lane_and_no_two_share_their_labels() {
        let mut seen = std::collections::BTreeSet::new();
        for class in CallClass::ALL {
            let timed = TIMED.contains(&class.lane());
            assert!(timed || class.lane() == "egress", "{class:?}");
            assert!(seen.insert((class.lane(), class.as_str())), "{class:?}");
        }
    }

    #[test]
    fn what_upstream_does_not_answer_is_upstreams() {
        let metrics = Metrics::default();
        let (took, waited) = (Duration::from_millis(40), Duration::from_millis(39));
        metrics.answered(CallClass::Messages, took, waited);
        // Clocks that are read one after the other may differ by a little.
        metrics.answered(CallClass::Messages, waited, took);
        let own = metrics.overhead[1].distribution();
        assert!((own.sum - 0.001).abs() < 1e-9, "{}", own.sum);
        assert_eq!(
            metrics.overhead[0].distribution().up_to.last().unwrap().1,
            0
        );
    }

    #[test]
    fn answers_by_status() {
        for (status, result) in [
            (200, "success"),
            (204, "success"),
            (302, "redirect"),
            (404, "client_error"),
            (429, "rate_limited"),
            (500, "server_error"),
            (529, "server_error"),
        ] {
            let requests = Requests::default();
            requests.answered(StatusCode::from_u16(status).unwrap());
            let counted: Vec<_> = requests.by_result().filter(|(_, n)| *n > 0).collect();
            assert_eq!(counted, [(result, 1)], "{status}");
        }
    }
}
