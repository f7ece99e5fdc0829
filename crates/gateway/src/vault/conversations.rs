//! Keeps what is said to models and by them: the very bytes whose hashes a receipt holds.
//!
//! Sealing happens beside the call, on threads of its own, and no call waits for it. All copies
//! on their way share a bounded piece of memory; the next piece that does not fit in gives its
//! copy up, and a note says so. Where copies are required, a call that cannot be kept is refused
//! before it is made; what begins to fail within an answer is given up all the same, because the
//! client has the first half already, and the next call is refused.
//!
//! A copy has its final name only when it is whole and durable. A crash leaves a file whose name
//! holds the receipt's id and says that it is none.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use proof::Hash;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use self::sealer::{Content, Name, Shared, Work, failed};
use super::notes::{Note, Part};
use super::{Bounds, CONVERSATIONS, Held, Vault, VaultError, opened};
use crate::config::Config;

mod sealer;

/// Memory of all copies on their way, in bytes: two of the largest requests.
const MEMORY: usize = 64 << 20;

/// How much of an answer is gathered before it goes to a sealer: a chunk of the age format.
/// Shorter answers go whole, so that no file is open while they come.
const GATHERED: usize = 64 << 10;

/// Memory of a file that is open, in bytes: what the age format and its cipher gather.
const OPEN_FILE: usize = 3 * GATHERED;

/// Memory of a message, in bytes.
const MESSAGE: usize = 512;

/// Files that are made durable at a time: the disk takes several at once as fast as one.
const SEALERS: usize = 4;

/// How long a call waits to learn whether the vault works again, where copies are required.
const PROBE: Duration = Duration::from_secs(2);

/// Why a copy is given up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GivenUp {
    /// Sealing is slower than the calls.
    #[error("sealing could not keep up with the calls")]
    Behind,
    /// The body is longer than what is kept of one.
    #[error("the body was longer than {0} bytes")]
    TooLong(u64),
    /// Nobody handed in its end.
    #[error("the gateway stopped before the call had ended")]
    Stopped,
    /// The vault could not keep it.
    #[error("{0}")]
    Failed(String),
}

/// Where conversations are kept.
#[derive(Debug)]
pub struct Conversations {
    shared: Arc<Shared>,
    sealers: Vec<mpsc::Sender<Work>>,
    next: AtomicUsize,
    required: bool,
    longest: u64,
}

impl Conversations {
    /// Opens the folder and starts the sealers, when the configuration wants copies.
    ///
    /// # Errors
    /// [`VaultError::Recipient`], [`VaultError::Folder`].
    pub fn open(config: &Config, held: &Held) -> Result<Option<Arc<Self>>, VaultError> {
        let Some(vault) = &config.vault else {
            return Ok(None);
        };
        let Some(kept) = &vault.conversations else {
            return Ok(None);
        };
        let folder = config.vault_dir().join(CONVERSATIONS);
        let bounds = Bounds::of_conversations(kept);
        let vault = Vault::open(&vault.recipients, &folder, bounds)?.with_holds(held);
        Ok(Some(Arc::new(Self::start(vault, kept.required, MEMORY))))
    }

    fn start(vault: Vault, required: bool, memory: usize) -> Self {
        // A single body must not push out everything else.
        let longest = (vault.bounds.max_bytes / 4).min(opened::MAX_CONTENT_BYTES);
        let shared = Arc::new(Shared {
            vault,
            memory: Arc::new(Semaphore::new(memory)),
            failing: Mutex::default(),
            is_failing: AtomicBool::new(false),
            unnoted: AtomicU64::new(0),
        });
        let sealers = (0..SEALERS)
            .map(|number| {
                let (work, todo) = mpsc::channel();
                let shared = Arc::clone(&shared);
                let name = format!("sealer {number}");
                let sealing = move || {
                    // Counting what is there takes a while where there is much; the start of the
                    // gateway does not wait for it, and whoever needs the count does.
                    if number == 0 {
                        let swept = shared.vault.sweep();
                        shared.outcome(swept.map_err(|error| failed(&error)));
                    }
                    shared.seal_all(&todo);
                };
                // Without the thread its channel is closed, and what is sent there is given up.
                if let Err(error) = thread::Builder::new().name(name).spawn(sealing) {
                    tracing::error!(%error, "a thread that seals conversations cannot start");
                }
                work
            })
            .collect();
        Self {
            shared,
            sealers,
            next: AtomicUsize::new(0),
            required,
            longest,
        }
    }

    /// Begins the copy of a call, whose request is this.
    ///
    /// # Errors
    /// Where copies are required, why there can be none now.
    pub async fn begin(
        self: &Arc<Self>,
        request: &Bytes,
        digest: Hash,
    ) -> Result<CallCopy, GivenUp> {
        let memory = self.memory(request.len());
        if self.required {
            if memory.is_none() {
                return Err(self.give_up_reason(request.len()));
            }
            self.check().await?;
        }
        Ok(CallCopy {
            keeper: Arc::clone(self),
            receipt_id: String::new(),
            request: Some(RequestCopy {
                bytes: request.clone(),
                digest,
                memory,
            }),
            answer: Answer::Gathered(Vec::new(), None),
            length: 0,
        })
    }

    fn give_up_reason(&self, length: usize) -> GivenUp {
        match length as u64 > self.longest {
            true => GivenUp::TooLong(self.longest),
            false => GivenUp::Behind,
        }
    }

    /// Memory for so many bytes of content.
    fn memory(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        if bytes as u64 > self.longest {
            return None;
        }
        let bytes = u32::try_from(bytes + MESSAGE).ok()?;
        let memory = Arc::clone(&self.shared.memory);
        memory.try_acquire_many_owned(bytes).ok()
    }

    /// Whether the vault works, as far as anybody knows; after a failure it is tried.
    async fn check(&self) -> Result<(), GivenUp> {
        if !self.shared.is_failing.load(Ordering::Acquire) {
            return Ok(());
        }
        let memory = self.memory(0).ok_or(GivenUp::Behind)?;
        let (answer, answered) = oneshot::channel();
        self.send(0, Work::Probe(answer, memory));
        match tokio::time::timeout(PROBE, answered).await {
            Ok(Ok(true)) => Ok(()),
            _ => {
                let why = self.shared.failing.lock();
                let why = why.unwrap_or_else(PoisonError::into_inner).clone();
                Err(GivenUp::Failed(
                    why.unwrap_or_else(|| "the vault does not answer".to_owned()),
                ))
            }
        }
    }

    fn sealer(&self) -> (usize, u64) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        (number % self.sealers.len(), number as u64)
    }

    fn send(&self, sealer: usize, work: Work) {
        if let Err(mpsc::SendError(work)) = self.sealers[sealer].send(work) {
            // The sealer is gone, which no later word can repair.
            let stopped = || "a sealing thread has stopped".to_owned();
            self.shared.fails(stopped());
            if let Work::Whole(name, ..) | Work::Piece(_, name, ..) = work {
                let note = name.note(&GivenUp::Failed(stopped()));
                self.shared.vault.notes().write(&[note]);
            }
        }
    }

    fn given_up(&self, name: &Name, digest: Hash, why: &GivenUp) {
        let note = Box::new(Note {
            sha256_b64u: Some(digest),
            ..name.note(why)
        });
        match self.memory(0) {
            Some(memory) => self.send(self.sealer().0, Work::Note(note, memory)),
            None => {
                self.shared.unnoted.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Waits until everything that was handed in is sealed, at most so long.
    pub async fn stop(&self, patience: Duration) {
        let mut stopped = Vec::new();
        for sealer in 0..self.sealers.len() {
            let (done, wait) = oneshot::channel();
            self.send(sealer, Work::Stop(done));
            stopped.push(wait);
        }
        let all = futures_util::future::join_all(stopped);
        if tokio::time::timeout(patience, all).await.is_err() {
            tracing::warn!("conversations were still being sealed; their copies are given up");
        }
    }
}

/// The copy of one call, while the call goes on.
#[derive(Debug)]
pub struct CallCopy {
    keeper: Arc<Conversations>,
    receipt_id: String,
    /// Until it is sent.
    request: Option<RequestCopy>,
    answer: Answer,
    /// Bytes of the answer so far.
    length: u64,
}

#[derive(Debug)]
struct RequestCopy {
    bytes: Bytes,
    digest: Hash,
    /// `None` when there was none.
    memory: Option<OwnedSemaphorePermit>,
}

#[derive(Debug)]
enum Answer {
    /// All of it is here.
    Gathered(Vec<u8>, Option<OwnedSemaphorePermit>),
    /// A sealer has the first part of it.
    Streaming {
        sealer: usize,
        copy: u64,
        more: Vec<u8>,
        memory: OwnedSemaphorePermit,
    },
    GivenUp(GivenUp),
    Ended,
}

impl CallCopy {
    /// The call will have this receipt.
    pub fn names(&mut self, receipt_id: &str) {
        receipt_id.clone_into(&mut self.receipt_id);
    }

    fn name(&self, part: Part) -> Name {
        Name {
            receipt_id: self.receipt_id.clone(),
            part,
        }
    }

    /// The request goes to a provider. The same bytes may go to another one after it.
    pub fn sent(&mut self) {
        let Some(request) = self.request.take() else {
            return;
        };
        // Nothing needs no file.
        if request.bytes.is_empty() {
            return;
        }
        let name = self.name(Part::Request);
        let RequestCopy {
            bytes,
            digest,
            memory,
        } = request;
        match memory {
            Some(memory) => {
                let content = Content::Request(bytes);
                let work = Work::Whole(name, content, digest, memory);
                self.keeper.send(self.keeper.sealer().0, work);
            }
            None => {
                let why = self.keeper.give_up_reason(bytes.len());
                self.keeper.given_up(&name, digest, &why);
            }
        }
    }

    /// More of the answer came.
    pub fn answer(&mut self, mut bytes: &[u8]) {
        self.length += bytes.len() as u64;
        if self.length > self.keeper.longest {
            self.give_up(GivenUp::TooLong(self.keeper.longest));
        }
        while !bytes.is_empty() {
            let taken = match &mut self.answer {
                Answer::Gathered(gathered, memory) => {
                    let taken = bytes.len().min(GATHERED - gathered.len());
                    if gather(&self.keeper, gathered, memory, &bytes[..taken]).is_none() {
                        self.give_up(GivenUp::Behind);
                        return;
                    }
                    taken
                }
                Answer::Streaming { more, .. } => {
                    let taken = bytes.len().min(GATHERED - more.len());
                    more.extend_from_slice(&bytes[..taken]);
                    taken
                }
                Answer::GivenUp(_) | Answer::Ended => return,
            };
            bytes = &bytes[taken..];
            if self.is_full() {
                self.hand_over();
            }
        }
    }

    fn is_full(&self) -> bool {
        match &self.answer {
            Answer::Gathered(gathered, _) => gathered.len() == GATHERED,
            Answer::Streaming { more, .. } => more.len() == GATHERED,
            Answer::GivenUp(_) | Answer::Ended => false,
        }
    }

    /// Gives what is gathered to the sealer, and takes memory for what follows.
    fn hand_over(&mut self) {
        let name = self.name(Part::Answer);
        let keeper = Arc::clone(&self.keeper);
        let Some(next) = keeper.memory(GATHERED) else {
            self.give_up(GivenUp::Behind);
            return;
        };
        match std::mem::replace(&mut self.answer, Answer::Ended) {
            Answer::Gathered(gathered, memory) => {
                let (Some(mut memory), Some(file)) = (memory, keeper.memory(OPEN_FILE)) else {
                    self.answer = Answer::GivenUp(GivenUp::Behind);
                    return;
                };
                memory.merge(file);
                let (sealer, copy) = keeper.sealer();
                keeper.send(sealer, Work::Piece(copy, name, gathered, memory));
                self.answer = Answer::Streaming {
                    sealer,
                    copy,
                    more: Vec::with_capacity(GATHERED),
                    memory: next,
                };
            }
            Answer::Streaming {
                sealer,
                copy,
                more,
                memory,
            } => {
                keeper.send(sealer, Work::Piece(copy, name, more, memory));
                self.answer = Answer::Streaming {
                    sealer,
                    copy,
                    more: Vec::with_capacity(GATHERED),
                    memory: next,
                };
            }
            other => self.answer = other,
        }
    }

    fn give_up(&mut self, why: GivenUp) {
        let before = std::mem::replace(&mut self.answer, Answer::GivenUp(why.clone()));
        match before {
            Answer::Streaming { sealer, copy, .. } => {
                let name = self.name(Part::Answer);
                let end = Work::End(copy, name, Err(why));
                self.keeper.send(sealer, end);
            }
            // The first reason stays.
            Answer::GivenUp(_) | Answer::Ended => self.answer = before,
            Answer::Gathered(..) => {}
        }
    }

    /// The answer is over, and this is the hash of all that came of it.
    pub fn end(mut self, digest: Hash) {
        let name = self.name(Part::Answer);
        match std::mem::replace(&mut self.answer, Answer::Ended) {
            Answer::Gathered(gathered, Some(memory)) => {
                let content = Content::Answer(gathered);
                let work = Work::Whole(name, content, digest, memory);
                self.keeper.send(self.keeper.sealer().0, work);
            }
            // Nothing came, and nothing needs no file.
            Answer::Gathered(_, None) | Answer::Ended => {}
            Answer::Streaming {
                sealer,
                copy,
                more,
                memory,
            } => {
                if !more.is_empty() {
                    let work = Work::Piece(copy, name.clone(), more, memory);
                    self.keeper.send(sealer, work);
                }
                self.keeper.send(sealer, Work::End(copy, name, Ok(digest)));
            }
            Answer::GivenUp(why) => self.keeper.given_up(&name, digest, &why),
        }
    }
}

impl Drop for CallCopy {
    fn drop(&mut self) {
        // Without an end there is no hash, so there is nothing to name the copy by.
        self.give_up(GivenUp::Stopped);
    }
}

/// Adds bytes to what is gathered, and takes the memory for them first; `None` when there is
/// none.
fn gather(
    keeper: &Conversations,
    gathered: &mut Vec<u8>,
    memory: &mut Option<OwnedSemaphorePermit>,
    bytes: &[u8],
) -> Option<()> {
    let needed = gathered.len() + bytes.len();
    if needed > gathered.capacity() || memory.is_none() {
        let capacity = needed.next_power_of_two().clamp(4 << 10, GATHERED);
        let more = keeper.memory(capacity - gathered.capacity())?;
        match memory {
            Some(memory) => memory.merge(more),
            None => *memory = Some(more),
        }
        gathered.reserve_exact(capacity - gathered.len());
    }
    gathered.extend_from_slice(bytes);
    Some(())
}

#[cfg(test)]
mod tests;
