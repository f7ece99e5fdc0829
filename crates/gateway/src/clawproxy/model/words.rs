//! What was said in a call, kept until the provider has told its usage; when it does not, the
//! tokens are counted here.
//!
//! Only one vocabulary is public and shipped: OpenAI's `o200k_base`, of its models since 2024.
//! For other models behind the same API its count is near, and says so by its name; for
//! Anthropic's there is none, and nothing is kept. What is kept is bounded, for each call and
//! together, and what is beyond it is estimated on the high side.

use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use tiktoken_rs::CoreBPE;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::budget::estimated_tokens;
use crate::transcript::{self, Said, Turn};

/// Memory of all words that are kept, in bytes.
const MEMORY: usize = 16 << 20;

/// Most of one body that is kept, in bytes: some thousand events of a stream.
const MAX_KEPT: usize = 256 << 10;

/// Longest text that is counted at once. Counting takes time by the square of it for text
/// without spaces.
const SLICE: usize = 1 << 10;

/// How long the end of a call waits for a count, loading the vocabulary included.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long the vocabulary stays in memory after it was used last.
const IDLE: Duration = Duration::from_secs(300);

/// Tokens that a request, a message or a tool call takes beside its text. OpenAI documents 3 and 1 for a
/// message with a name; a call has a little more.
const AROUND: u64 = 8;

/// Name of the vocabulary, as receipts have it.
pub(super) const VOCABULARY: &str = "o200k_base";

/// Counts words; loads the vocabulary when it is needed for the first time, and lets go of it
/// when it is not needed any more.
pub(super) struct Counter {
    memory: Arc<Semaphore>,
    /// One count at a time: it takes a core.
    turn: Arc<Semaphore>,
    loaded: Mutex<Option<Loaded>>,
}

struct Loaded {
    vocabulary: Arc<CoreBPE>,
    used: Instant,
}

impl Default for Counter {
    fn default() -> Self {
        Self {
            memory: Arc::new(Semaphore::new(MEMORY)),
            turn: Arc::new(Semaphore::new(1)),
            loaded: Mutex::default(),
        }
    }
}

/// What was said in one call.
pub(super) struct Words {
    counter: Arc<Counter>,
    request: Option<(Bytes, OwnedSemaphorePermit)>,
    request_bytes: u64,
    answer: Vec<u8>,
    memory: Option<OwnedSemaphorePermit>,
    /// Where the kept part of the answer ends, when that is not its end.
    cut: Option<Cut>,
}

#[derive(Debug, Clone, Copy)]
struct Cut {
    /// Complete events before it.
    events: u64,
}

/// A count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counted {
    /// Tokens of the request.
    pub(super) input: u64,
    /// Tokens of the answer.
    pub(super) output: u64,
    /// All of it was there and was text; nothing is estimated.
    pub(super) whole: bool,
}

impl Words {
    /// Begins with the request.
    pub(super) fn new(counter: &Arc<Counter>, request: &Bytes) -> Self {
        let memory = counter.memory(request.len());
        Self {
            counter: Arc::clone(counter),
            request: memory.map(|memory| (request.clone(), memory)),
            request_bytes: request.len() as u64,
            answer: Vec::new(),
            memory: None,
            cut: None,
        }
    }

    /// The provider will hardly tell, so the vocabulary is loaded while it thinks.
    pub(super) fn will_be_counted(&self) {
        let counter = Arc::clone(&self.counter);
        if counter.is_loaded() {
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            // Whoever comes meanwhile waits for the same one.
            runtime.spawn(async move {
                if let Ok(turn) = Arc::clone(&counter.turn).try_acquire_owned() {
                    let loading = tokio::task::spawn_blocking(move || {
                        counter.vocabulary();
                        drop(turn);
                    });
                    // A vocabulary that cannot be loaded is missed when it is asked for.
                    let _ = loading.await;
                }
            });
        }
    }

    /// More of the answer came, after so many complete events.
    pub(super) fn answer(&mut self, bytes: &[u8], events: u64) {
        if self.cut.is_none() && self.keep(bytes).is_none() {
            self.cut = Some(Cut { events });
        }
    }

    fn keep(&mut self, bytes: &[u8]) -> Option<()> {
        let needed = self.answer.len() + bytes.len();
        if needed > MAX_KEPT {
            return None;
        }
        if needed > self.answer.capacity() {
            let capacity = needed.next_power_of_two().max(1 << 10);
            let more = self.counter.memory(capacity - self.answer.capacity())?;
            match &mut self.memory {
                Some(memory) => memory.merge(more),
                None => self.memory = Some(more),
            }
            self.answer.reserve_exact(capacity - self.answer.len());
        }
        self.answer.extend_from_slice(bytes);
        Some(())
    }

    /// Counts, away from the threads that serve calls. Of the answer so many bytes, and events
    /// when it was a stream, came in all. `None` when that takes too long; the estimates of the
    /// caller hold then.
    pub(super) async fn count(self, bytes: u64, events: Option<u64>) -> Option<Counted> {
        let counting = async {
            let turn = Arc::clone(&self.counter.turn).acquire_owned().await.ok()?;
            let counted = tokio::task::spawn_blocking(move || {
                let counted = self.count_now(bytes, events);
                drop(turn);
                counted
            });
            counted.await.ok()?
        };
        tokio::time::timeout(PATIENCE, counting).await.ok()?
    }

    fn count_now(&self, bytes: u64, events: Option<u64>) -> Option<Counted> {
        let vocabulary = self.counter.vocabulary()?;
        let estimate = estimated_tokens(self.request_bytes);
        let mut only_text = self.request.is_some() && self.cut.is_none();
        let input = match &self.request {
            Some((request, _)) => {
                let turns = transcript::request(request);
                only_text &= is_text(&turns);
                let request = serde_json::from_slice(request).unwrap_or(Value::Null);
                only_text &= only_counted_members(&request);
                // What the model is shown of tools is not known; their JSON is about as long.
                let tools = match &request["tools"] {
                    Value::Null => 0,
                    tools => tokens(&vocabulary, &tools.to_string()),
                };
                AROUND + tokens_of(&vocabulary, &turns) + tools
            }
            None => estimate,
        };
        let turns = transcript::answer(&self.answer);
        // An answer in which nothing is found was not understood.
        only_text &= is_text(&turns) && !turns.is_empty();
        let kept = tokens_of(&vocabulary, &turns);
        let beyond = match (self.cut, events) {
            (None, _) => 0,
            // Providers send about one token with each event.
            (Some(cut), Some(events)) => events.saturating_sub(cut.events),
            (Some(_), None) => estimated_tokens(bytes.saturating_sub(self.answer.len() as u64)),
        };
        Some(Counted {
            input,
            output: kept.saturating_add(beyond),
            whole: only_text,
        })
    }
}

impl Counter {
    fn memory(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        if bytes > MAX_KEPT {
            return None;
        }
        let bytes = u32::try_from(bytes).ok()?;
        Arc::clone(&self.memory).try_acquire_many_owned(bytes).ok()
    }

    /// Whether the vocabulary is there, or will be soon. Does not wait.
    fn is_loaded(&self) -> bool {
        match self.loaded.try_lock() {
            Ok(loaded) => loaded.is_some(),
            Err(TryLockError::Poisoned(loaded)) => loaded.into_inner().is_some(),
            // It is being loaded, which takes a while.
            Err(TryLockError::WouldBlock) => true,
        }
    }

    /// Loads the vocabulary, or says that it is there.
    pub(super) fn vocabulary(self: &Arc<Self>) -> Option<Arc<CoreBPE>> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let used = Instant::now();
        if let Some(loaded) = &mut *loaded {
            loaded.used = used;
            return Some(Arc::clone(&loaded.vocabulary));
        }
        let vocabulary = Arc::new(tiktoken_rs::o200k_base().ok()?);
        *loaded = Some(Loaded {
            vocabulary: Arc::clone(&vocabulary),
            used,
        });
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let counter = Arc::downgrade(self);
            runtime.spawn(async move {
                let mut idle_at = used + IDLE;
                while let Some(counter) = {
                    tokio::time::sleep_until(idle_at).await;
                    counter.upgrade()
                } {
                    let mut loaded = counter
                        .loaded
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner);
                    match &*loaded {
                        Some(there) if there.used + IDLE > Instant::now() => {
                            idle_at = there.used + IDLE;
                        }
                        _ => {
                            *loaded = None;
                            return;
                        }
                    }
                }
            });
        }
        Some(vocabulary)
    }
}

/// Whether this vocabulary is the model's own and everything that the model writes is in its
/// answer: no thoughts that are charged and not shown, no sound. By OpenAI's names.
pub(super) fn is_exact_for(model: &str) -> bool {
    const MODELS: [&str; 5] = [
        "gpt-4o",
        "gpt-4o-mini",
        "gpt-4.1",
        "gpt-4.1-mini",
        "gpt-4.1-nano",
    ];
    MODELS.iter().any(|name| {
        model.strip_prefix(name).is_some_and(|rest| {
            let dated = rest.len() == 11
                && rest.starts_with('-')
                && rest.bytes().all(|b| b.is_ascii_digit() || b == b'-');
            rest.is_empty() || dated
        })
    })
}

/// Whether a request has nothing that could take tokens beside what is counted: `functions`,
/// `prediction` or `response_format` do, and so may what is not known yet.
fn only_counted_members(request: &Value) -> bool {
    const COUNTED: [&str; 25] = [
        "model",
        "messages",
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "stream",
        "stream_options",
        "max_tokens",
        "max_completion_tokens",
        "temperature",
        "top_p",
        "n",
        "stop",
        "seed",
        "presence_penalty",
        "frequency_penalty",
        "logit_bias",
        "logprobs",
        "top_logprobs",
        "user",
        "metadata",
        "store",
        "service_tier",
        "safety_identifier",
        "prompt_cache_key",
    ];
    let mut members = request.as_object().into_iter().flatten();
    request.is_object() && members.all(|(name, _)| COUNTED.contains(&name.as_str()))
}

/// Whether nothing else was said: no images, no files, nothing unread.
fn is_text(turns: &[Turn]) -> bool {
    let other = |turn: &Turn| turn.said.iter().any(|said| matches!(said, Said::Other(_)));
    !turns
        .iter()
        .any(|turn| turn.role == "unread" || other(turn))
}

fn tokens_of(vocabulary: &CoreBPE, turns: &[Turn]) -> u64 {
    let said = turns.iter().flat_map(|turn| &turn.said);
    let texts = said.map(|said| match said {
        Said::Text(text) | Said::Thought(text) | Said::Result { text, .. } => {
            tokens(vocabulary, text)
        }
        Said::Call {
            name, arguments, ..
        } => AROUND + tokens(vocabulary, name) + tokens(vocabulary, arguments),
        Said::Other(what) => tokens(vocabulary, what),
    });
    texts.sum::<u64>() + AROUND * turns.len() as u64
}

/// Counts a text in slices that begin at a space where there is one, which changes next to
/// nothing and bounds the time.
fn tokens(vocabulary: &CoreBPE, mut text: &str) -> u64 {
    let mut count = 0;
    while !text.is_empty() {
        let end = text.floor_char_boundary(SLICE);
        let end = match end < text.len() {
            true => text[..end].rfind(' ').filter(|at| *at > 0).unwrap_or(end),
            false => end,
        };
        let (slice, rest) = text.split_at(end);
        count += vocabulary.encode_ordinary(slice).len() as u64;
        text = rest;
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(counter: &Arc<Counter>, request: &str, answer: &str, piece: usize) -> Words {
        let mut words = Words::new(counter, &Bytes::copy_from_slice(request.as_bytes()));
        answer
            .as_bytes()
            .chunks(piece)
            .for_each(|piece| words.answer(piece, 0));
        words
    }

    #[test]
    fn texts_are_counted_and_not_the_json_around_them() {
        let counter = Arc::new(Counter::default());
        let request = r#"{"messages":[{"role":"user","content":"hello world"}]}"#;
        let answer = r#"{"choices":[{"message":{"role":"assistant","content":"hello world"}}]}"#;
        let stream = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hello\"}}]}\n\n\
            data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\" world\"}}]}\n\n";
        let expected = Counted {
            input: 2 + 2 * AROUND,
            output: 2 + AROUND,
            whole: true,
        };
        for (answer, events) in [(answer, None), (stream, Some(2))] {
            let words = words(&counter, request, answer, 7);
            let counted = words.count_now(answer.len() as u64, events);
            assert_eq!(counted, Some(expected), "{answer}");
        }
        // Arguments in the form that came before tools.
        let stream = "data: {\"choices\":[{\"index\":0,\"delta\":{\"function_call\":{\"name\":\"f\",\"arguments\":\"hello\"}}}]}\n\n\
            data: {\"choices\":[{\"index\":0,\"delta\":{\"function_call\":{\"arguments\":\" world\"}}}]}\n\n";
        let counted = words(&counter, request, stream, 7).count_now(0, Some(2));
        assert_eq!(counted.unwrap().output, 3 + 2 * AROUND);
        let tools = r#"{"messages":[],"tools":[{"type":"function"}]}"#;
        let counted = words(&counter, tools, "", 1).count_now(0, None).unwrap();
        assert!(
            counted.input > AROUND + 4 && counted.output == 0,
            "{counted:?}"
        );
        assert_eq!(counter.memory.available_permits(), MEMORY);
    }

    #[test]
    fn what_is_too_long_is_estimated_high_and_within_bounds() {
        let counter = Arc::new(Counter::default());
        let long = "x".repeat(3 * MAX_KEPT);
        let kept = words(&counter, &long, &long, 1000);
        assert!(kept.answer.len() <= MAX_KEPT && kept.request.is_none());
        let counted = kept.count_now(long.len() as u64, None).unwrap();
        assert!(!counted.whole);
        assert_eq!(counted.input, estimated_tokens(long.len() as u64));
        assert!(counted.output >= (2 * MAX_KEPT / 3) as u64, "{counted:?}");
        let mut stream = Words::new(&counter, &Bytes::new());
        stream.answer(b"data: {\"choices\":[]}\n\n", 1);
        stream.answer(&vec![b'x'; MAX_KEPT], 7);
        stream.answer(b"more", 9);
        let counted = stream.count_now(1 << 20, Some(1007)).unwrap();
        assert_eq!((counted.output, counted.whole), (1000, false));
        let image = r#"{"messages":[{"role":"user","content":[{"type":"image_url"}]}]}"#;
        let text = r#"{"choices":[{"message":{"content":"a"}}]}"#;
        for (request, answer, whole) in [
            ("{}", text, true),
            (r#"{"model":"gpt-4o","n":2,"messages":[]}"#, text, true),
            (r#"{"functions":[]}"#, text, false),
            (r#"{"prediction":{}}"#, text, false),
            ("[]", text, false),
            (image, text, false),
            (
                "{}",
                r#"{"choices":[{"message":{"content":"a","audio":{"id":"x"}}}]}"#,
                false,
            ),
            (
                "{}",
                "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\",\"novel\":\"b\"}}]}\n\n",
                false,
            ),
            ("{}", "{}", false),
        ] {
            let words = words(&counter, request, answer, 100);
            let counted = words.count_now(0, None).unwrap();
            assert_eq!(counted.whole, whole, "{request} {answer}");
        }
        drop((kept, stream));
        // Others have taken all the room.
        let room = u32::try_from(MEMORY).unwrap();
        let room = counter.memory.try_acquire_many(room).unwrap();
        let words = words(&counter, "{}", "{}", 1);
        assert!(words.request.is_none() && words.cut.is_some());
        drop(room);
    }

    #[test]
    fn any_text_is_counted_in_time() {
        let counter = Arc::new(Counter::default());
        let vocabulary = counter.vocabulary().unwrap();
        for text in [
            "a",
            " ",
            "\t ",
            "漢",
            "é\u{301}",
            "A",
            "🦀",
            "'s",
            "1",
            "\r\n",
        ] {
            let text = text.repeat(100 * SLICE / text.len());
            assert!(tokens(&vocabulary, &text) > 0);
        }
        let prose = "The plan adds one instance and updates the load balancer. ".repeat(500);
        let (whole, sliced) = (
            vocabulary.encode_ordinary(&prose).len() as u64,
            tokens(&vocabulary, &prose),
        );
        assert!(
            sliced >= whole && sliced - whole <= whole / 100,
            "{sliced} {whole}"
        );
        assert_eq!(tokens(&vocabulary, ""), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_vocabulary_goes_when_nobody_needs_it() {
        let counter = Arc::new(Counter::default());
        counter.vocabulary().unwrap();
        tokio::time::sleep(IDLE / 2).await;
        counter.vocabulary().unwrap();
        tokio::time::sleep(IDLE - Duration::from_secs(1)).await;
        assert!(counter.is_loaded(), "it was used meanwhile");
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(!counter.is_loaded());
        counter.vocabulary().unwrap();
        assert!(counter.is_loaded());
    }

    #[test]
    fn only_models_that_hide_nothing_are_counted_exactly() {
        for (model, exact) in [
            ("gpt-4o", true),
            ("gpt-4o-2024-08-06", true),
            ("gpt-4.1-nano-2025-04-14", true),
            ("gpt-4o-audio-preview", false),
            ("gpt-4", false),
            ("gpt-5", false),
            ("o3", false),
            ("my-gpt-4o", false),
            ("llama-3", false),
        ] {
            assert_eq!(is_exact_for(model), exact, "{model}");
        }
    }
}
