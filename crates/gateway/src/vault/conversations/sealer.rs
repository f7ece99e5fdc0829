//! The threads that seal: each does the work of its copies in order, and waits for the disk in
//! the calls' place.

use std::collections::HashMap;
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use bytes::Bytes;
use proof::Hash;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::{GATHERED, GivenUp};
use crate::vault::notes::{Note, Part, What};
use crate::vault::{self, Sealing, Vault, VaultError};

/// What the sealers and the calls know of each other.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) vault: Vault,
    pub(super) memory: Arc<Semaphore>,
    /// Why the last copy could not be kept, until one can.
    pub(super) failing: Mutex<Option<String>>,
    pub(super) is_failing: AtomicBool,
    /// Copies that were given up and not noted, because even notes had to wait.
    pub(super) unnoted: AtomicU64,
}

/// Names a body: whose it is, and which.
#[derive(Debug, Clone)]
pub(super) struct Name {
    pub(super) receipt_id: String,
    pub(super) part: Part,
}

/// What a sealer does. Work on one copy is done by one sealer, in order.
#[derive(Debug)]
pub(super) enum Work {
    Whole(Name, Content, Hash, OwnedSemaphorePermit),
    /// More of an answer; the first piece begins the file and brings the memory for it.
    Piece(u64, Name, Vec<u8>, OwnedSemaphorePermit),
    /// The answer's end, or why it is given up.
    End(u64, Name, Result<Hash, GivenUp>),
    Note(Box<Note>, OwnedSemaphorePermit),
    /// Whether content can be written.
    Probe(oneshot::Sender<bool>, OwnedSemaphorePermit),
    Stop(oneshot::Sender<()>),
}

#[derive(Debug)]
pub(super) enum Content {
    Request(Bytes),
    Answer(Vec<u8>),
}

impl Name {
    pub(super) fn note(&self, why: &GivenUp) -> Note {
        Note {
            receipt_id: Some(self.receipt_id.clone()),
            part: Some(self.part),
            ..Note::new(crate::app::now(), What::GivenUp, &why.to_string())
        }
    }

    /// How the unfinished file is named.
    fn unfinished(&self) -> String {
        format!("{}.{}", self.receipt_id, self.part.as_str())
    }
}

impl Content {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Request(bytes) => bytes,
            Self::Answer(bytes) => bytes,
        }
    }
}

/// An answer that comes in pieces, with the memory that its file takes.
struct Open<'a> {
    sealing: Result<Sealing<'a>, GivenUp>,
    _memory: Option<OwnedSemaphorePermit>,
}

impl Shared {
    /// Works until it is told to stop, or until nobody can tell it anything.
    pub(super) fn seal_all(&self, todo: &mpsc::Receiver<Work>) {
        let mut open: HashMap<u64, Open<'_>> = HashMap::new();
        loop {
            let work = match todo.recv_timeout(vault::SWEEP) {
                Ok(work) => work,
                // What is too old goes, also when nothing new comes.
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    if let Err(error) = self.vault.sweep_when_due() {
                        self.fails(format!("old copies cannot be removed: {error}"));
                    }
                    continue;
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
            };
            self.tell_unnoted();
            match work {
                Work::Whole(name, content, digest, memory) => {
                    let sealed = self.seal(&name, content.bytes(), &digest);
                    drop(content);
                    drop(memory);
                    self.sealed(&name, Some(digest), sealed);
                }
                Work::Piece(copy, name, bytes, memory) => {
                    let mut memory = Some(memory);
                    let open = open.entry(copy).or_insert_with(|| Open {
                        sealing: self
                            .vault
                            .begin(&name.unfinished())
                            .map_err(|error| failed(&error)),
                        _memory: memory.take(),
                    });
                    if let Ok(sealing) = &mut open.sealing
                        && let Err(error) = sealing.write_all(&bytes)
                    {
                        open.sealing = Err(failed(&vault::write_error(error)));
                    }
                    drop((bytes, memory));
                }
                Work::End(copy, name, end) => {
                    let Some(open) = open.remove(&copy) else {
                        continue;
                    };
                    match end {
                        Ok(digest) => {
                            let sealed = open.sealing.and_then(|sealing| {
                                let kept = sealing.finish_as(&digest);
                                kept.map(drop).map_err(|error| failed(&error))
                            });
                            self.sealed(&name, Some(digest), sealed);
                        }
                        // Whoever gave it up will say its hash, unless there is none.
                        Err(GivenUp::Stopped) => {
                            self.vault.notes().write(&[name.note(&GivenUp::Stopped)]);
                        }
                        Err(_) => {}
                    }
                }
                Work::Note(note, memory) => {
                    self.vault.notes().write(&[*note]);
                    drop(memory);
                }
                Work::Probe(answer, memory) => {
                    let probed = self.vault.begin("probe").map_err(|error| failed(&error));
                    let works = probed.and_then(|mut probe| {
                        // More than a chunk, so that something is written. It never gets a name.
                        let written = probe.write_all(&vec![0; GATHERED + 1]);
                        written.map_err(|error| failed(&vault::write_error(error)))
                    });
                    drop(memory);
                    let worked = works.is_ok();
                    self.outcome(works);
                    let _ = answer.send(worked);
                }
                Work::Stop(done) => {
                    let _ = done.send(());
                    return;
                }
            }
        }
    }

    fn seal(&self, name: &Name, content: &[u8], digest: &Hash) -> Result<(), GivenUp> {
        let sealed = self
            .vault
            .begin(&name.unfinished())
            .and_then(|mut sealing| {
                sealing.write_all(content).map_err(vault::write_error)?;
                sealing.finish_as(digest).map(drop)
            });
        sealed.map_err(|error| failed(&error))
    }

    fn sealed(&self, name: &Name, digest: Option<Hash>, sealed: Result<(), GivenUp>) {
        if let Err(why) = &sealed {
            self.vault.notes().write(&[Note {
                sha256_b64u: digest,
                ..name.note(why)
            }]);
        }
        self.outcome(sealed);
    }

    /// Remembers whether the last copy could be kept; the log has each change.
    pub(super) fn outcome(&self, sealed: Result<(), GivenUp>) {
        match sealed {
            Ok(()) => {
                if self.is_failing.swap(false, Ordering::AcqRel) {
                    *self.failing.lock().unwrap_or_else(PoisonError::into_inner) = None;
                    tracing::info!("conversations are kept again");
                }
            }
            Err(why) => self.fails(why.to_string()),
        }
    }

    pub(super) fn fails(&self, why: String) {
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.is_failing.swap(true, Ordering::AcqRel) {
            tracing::error!(why, "conversations cannot be kept");
        }
        *failing = Some(why);
    }

    fn tell_unnoted(&self) {
        let count = self.unnoted.swap(0, Ordering::Relaxed);
        if count > 0 {
            self.vault.notes().write(&[Note {
                count: Some(count),
                ..Note::new(
                    crate::app::now(),
                    What::GivenUp,
                    &GivenUp::Behind.to_string(),
                )
            }]);
        }
    }
}

pub(super) fn failed(error: &VaultError) -> GivenUp {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}"));
    GivenUp::Failed(format!("{error}{}", cause.unwrap_or_default()))
}
