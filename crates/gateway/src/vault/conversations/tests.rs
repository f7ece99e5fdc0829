//! Copies beside calls: whole ones, given-up ones, and what they take.

use std::fs;
use std::path::PathBuf;

use age::x25519::Identity;
use tempfile::TempDir;

use super::super::notes::{self, Note};
use super::super::opened::{self, OpenError};
use super::super::{WhenFull, file_name};
use super::*;

struct Kit {
    folder: TempDir,
    auditor: Identity,
    keeper: Arc<Conversations>,
    memory: usize,
}

impl Kit {
    fn new() -> Self {
        Self::with(MEMORY, 64 << 20, false)
    }

    fn with(memory: usize, max_bytes: u64, required: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let auditor = Identity::generate();
        let bounds = Bounds {
            retention: Duration::from_secs(3600),
            max_bytes,
            when_full: WhenFull::RemoveOldest,
        };
        let recipients = [auditor.to_public().to_string()];
        let vault = Vault::open(&recipients, &folder.path().join("kept"), bounds).unwrap();
        Self {
            keeper: Arc::new(Conversations::start(vault, required, memory)),
            folder,
            auditor,
            memory,
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("kept")
    }

    async fn begin(&self, request: &[u8]) -> CallCopy {
        let request = Bytes::copy_from_slice(request);
        let digest = Hash::of(&request);
        let mut copy = self.keeper.begin(&request, digest).await.unwrap();
        copy.names("rcpt_1");
        copy
    }

    /// Waits until all is sealed. Nothing is kept after that.
    async fn settled(&self) {
        self.keeper.stop(Duration::from_secs(3600)).await;
        let left = self.keeper.shared.memory.available_permits();
        assert_eq!(left, self.memory, "all memory is given back");
    }

    /// Asks each sealer, which has done everything else before it answers; whether all can write.
    async fn probe(&self) -> bool {
        let mut works = true;
        for sealer in 0..SEALERS {
            let (answer, answered) = oneshot::channel();
            let memory = self.keeper.memory(0).unwrap();
            self.keeper.send(sealer, Work::Probe(answer, memory));
            works &= answered.await.unwrap();
        }
        works
    }

    fn opened(&self, digest: &Hash) -> Result<Vec<u8>, OpenError> {
        opened::open(&self.path(), digest, std::slice::from_ref(&self.auditor))
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path()).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn notes(&self) -> Vec<Note> {
        notes::read(&self.path()).unwrap()
    }
}

fn content(length: usize) -> Vec<u8> {
    let pieces = (0u64..).flat_map(|n| *Hash::of(&n.to_be_bytes()).as_bytes());
    pieces.take(length).collect()
}

#[tokio::test]
async fn what_was_said_is_kept_in_whatever_pieces_it_came() {
    let kit = Kit::new();
    let request = content(100);
    let mut digests = Vec::new();
    for (length, piece) in [
        (1, 1),
        (4096, 100),
        (GATHERED - 1, 1000),
        (GATHERED, GATHERED),
        (GATHERED + 1, 7),
        (5 * GATHERED + 3, 1000),
        (9 * GATHERED, 3 * GATHERED),
    ] {
        let answer = content(length);
        let mut copy = kit.begin(&request).await;
        copy.sent();
        copy.sent();
        answer.chunks(piece).for_each(|piece| copy.answer(piece));
        let digest = Hash::of(&answer);
        copy.end(digest);
        digests.push((digest, answer));
    }
    // Nothing said, nothing kept; never sent, nothing sent is kept.
    kit.begin(b"").await.end(Hash::of(b""));
    kit.begin(b"not sent").await.end(Hash::of(b""));
    kit.settled().await;
    assert_eq!(kit.opened(&Hash::of(&request)).unwrap(), request);
    for (digest, answer) in &digests {
        assert_eq!(kit.opened(digest).unwrap(), *answer, "{}", answer.len());
    }
    assert_eq!(kit.names().len(), digests.len() + 1);
    assert_eq!(kit.notes(), []);
}

#[tokio::test]
async fn a_copy_that_is_not_what_the_receipt_says_is_none() {
    let kit = Kit::new();
    for length in [10, 3 * GATHERED] {
        let mut copy = kit.begin(b"r").await;
        copy.answer(&content(length));
        copy.end(Hash::of(b"something else"));
    }
    kit.settled().await;
    assert_eq!(kit.names(), ["notes.jsonl"]);
    let notes = kit.notes();
    assert_eq!(notes.len(), 2);
    assert!(
        notes.iter().all(|note| note.why.contains("changed")),
        "{notes:?}"
    );
}

#[tokio::test]
async fn a_call_that_nobody_ends_leaves_no_file() {
    let kit = Kit::new();
    for length in [10, 3 * GATHERED] {
        let mut copy = kit.begin(b"r").await;
        copy.answer(&content(length));
    }
    kit.settled().await;
    assert_eq!(kit.names(), ["notes.jsonl"]);
    let notes = kit.notes();
    assert_eq!(notes[0].receipt_id.as_deref(), Some("rcpt_1"));
    assert_eq!(notes[0].part, Some(Part::Answer));
}

#[tokio::test]
async fn memory_is_bounded_and_the_call_goes_on_without_a_copy() {
    // Room for one answer that is gathered, and for nothing else.
    let kit = Kit::with(GATHERED + 16 * MESSAGE, 64 << 20, false);
    let mut first = kit.begin(b"r").await;
    first.answer(&content(GATHERED - 1));
    let mut second = kit.begin(b"r").await;
    second.answer(&content(GATHERED - 1));
    let answer = content(2 * GATHERED);
    first.answer(&answer);
    first.end(Hash::of(b"first"));
    second.end(Hash::of(b"second"));
    let large = kit.begin(&content(2 * GATHERED)).await;
    let mut large = large;
    large.sent();
    drop(large);
    kit.settled().await;
    assert_eq!(kit.names(), ["notes.jsonl"]);
    let told: Vec<_> = kit
        .notes()
        .iter()
        .map(|note| (note.why.clone(), note.part))
        .collect();
    let behind = GivenUp::Behind.to_string();
    let answers = told
        .iter()
        .filter(|told| **told == (behind.clone(), Some(Part::Answer)));
    assert_eq!(answers.count(), 2, "{told:?}");
    assert!(told.contains(&(behind, Some(Part::Request))), "{told:?}");
}

#[tokio::test]
async fn sixty_four_streams_are_kept_within_the_bound() {
    let kit = Kit::new();
    let answer = content(4 * GATHERED);
    let mut copies = Vec::new();
    for number in 0..64_u8 {
        let mut copy = kit.begin(&[number]).await;
        copy.sent();
        copy.answer(&[number]);
        copies.push(copy);
    }
    for piece in answer.chunks(1000) {
        copies.iter_mut().for_each(|copy| copy.answer(piece));
    }
    let mut digests = Vec::new();
    for (number, copy) in copies.into_iter().enumerate() {
        let number = u8::try_from(number).unwrap();
        let whole = [&[number], answer.as_slice()].concat();
        digests.push(Hash::of(&whole));
        copy.end(Hash::of(&whole));
    }
    kit.settled().await;
    assert!(digests.iter().all(|digest| kit.opened(digest).is_ok()));
}

#[tokio::test]
async fn one_body_does_not_push_out_all_others() {
    let kit = Kit::with(MEMORY, 4 * GATHERED as u64, false);
    let mut copy = kit.begin(b"r").await;
    copy.sent();
    copy.answer(&content(GATHERED + 1));
    copy.end(Hash::of(b"x"));
    kit.settled().await;
    assert_eq!(kit.opened(&Hash::of(b"r")).unwrap(), b"r");
    let why = GivenUp::TooLong(GATHERED as u64).to_string();
    assert_eq!(kit.notes()[0].why, why);
}

#[tokio::test]
async fn required_copies_refuse_calls_while_there_can_be_none() {
    let kit = Kit::with(MEMORY, 64 << 20, true);
    let request = Bytes::from_static(b"r");
    let digest = Hash::of(&request);
    assert!(kit.probe().await);
    fs::remove_dir_all(kit.path()).unwrap();
    // Nobody knows yet, so this call goes on, and is not kept.
    let mut copy = kit.begin(b"r").await;
    copy.sent();
    drop(copy);
    assert!(!kit.probe().await);
    let refused = kit.keeper.begin(&request, digest).await;
    assert!(matches!(refused, Err(GivenUp::Failed(_))), "{refused:?}");
    fs::create_dir(kit.path()).unwrap();
    let mut copy = kit.begin(b"r").await;
    copy.sent();
    drop(copy);
    kit.settled().await;
    assert_eq!(kit.opened(&digest).unwrap(), b"r");
    assert!(kit.names().contains(&file_name(&digest)));
}
