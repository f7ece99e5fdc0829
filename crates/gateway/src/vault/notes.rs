//! What a vault does not keep: a line of JSON for each piece that was removed or given up, beside
//! the sealed files, so that an auditor with a copy of the folder sees a gap for what it is.
//!
//! The notes are the gateway's word and nothing more: no receipt rests on them. They take a
//! bounded place; the oldest half goes first.

use std::fs::{self, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use proof::{Hash, Timestamp};
use serde::{Deserialize, Serialize};

/// The file that is written to, and the one before it.
const FILES: [&str; 2] = ["notes.jsonl", "notes.1.jsonl"];

/// Size at which another file is begun, in bytes: some twenty thousand notes.
const MAX_FILE: u64 = 4 << 20;

/// Longest line that is read.
const MAX_LINE: usize = 4096;

/// What became of a piece of content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// It was kept, and is no longer.
    Removed,
    /// It was never kept whole.
    GivenUp,
}

/// Which body of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// The bytes that went to the provider.
    Request,
    /// The bytes that came back.
    Answer,
}

impl Part {
    /// As notes and commands write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Answer => "answer",
        }
    }
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// When.
    pub at: Timestamp,
    /// What.
    pub what: What,
    /// Why, in words.
    pub why: String,
    /// The content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256_b64u: Option<Hash>,
    /// The call that it belonged to, when that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt_id: Option<String>,
    /// Which of its bodies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<Part>,
    /// How many pieces, when they are not told apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
}

impl Note {
    /// A note about nothing in particular yet.
    pub fn new(at: Timestamp, what: What, why: &str) -> Self {
        Self {
            at,
            what,
            why: why.to_owned(),
            sha256_b64u: None,
            receipt_id: None,
            part: None,
            count: None,
        }
    }
}

/// The notes of one folder.
#[derive(Debug)]
pub struct Notes {
    folder: PathBuf,
    /// How many notes could not be written.
    lost: Mutex<u64>,
}

impl Notes {
    /// Those of a folder; nothing is read or written yet.
    pub fn of(folder: &Path) -> Self {
        let folder = folder.to_owned();
        let lost = Mutex::new(0);
        Self { folder, lost }
    }

    /// Writes notes, durably. Those that cannot be written are counted, and the next ones that
    /// can say how many there were.
    pub fn write(&self, notes: &[Note]) {
        let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        if notes.is_empty() && *lost == 0 {
            return;
        }
        let mut lines = Vec::new();
        let unnoted = (*lost > 0).then(|| Note {
            count: Some(*lost),
            ..Note::new(
                crate::app::now(),
                What::GivenUp,
                "there was no room even for the notes",
            )
        });
        for note in notes.iter().chain(&unnoted) {
            serde_json::to_writer(&mut lines, note).expect("a note is JSON");
            lines.push(b'\n');
        }
        match self.append(&lines) {
            Ok(()) => *lost = 0,
            Err(error) => {
                let count: u64 = notes.iter().map(|note| note.count.unwrap_or(1)).sum();
                *lost = lost.saturating_add(count);
                let folder = self.folder.display();
                tracing::error!(%error, %folder, "what the vault does not keep cannot be noted");
            }
        }
    }

    fn append(&self, lines: &[u8]) -> io::Result<()> {
        let [current, before] = FILES.map(|name| self.folder.join(name));
        if fs::metadata(&current).is_ok_and(|there| there.len() > MAX_FILE) {
            fs::rename(&current, before)?;
        }
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(current)?;
        let length = file.metadata()?.len();
        let written = file.write_all(lines).and_then(|()| file.sync_data());
        if written.is_err() {
            // Half a line would spoil the next one.
            file.set_len(length)?;
        }
        written
    }
}

/// The notes of a folder, oldest first. Lines that are none are passed over.
///
/// # Errors
/// When a file is there and cannot be read.
pub fn read(folder: &Path) -> io::Result<Vec<Note>> {
    let mut notes = Vec::new();
    for name in FILES.iter().rev() {
        let file = match fs::File::open(folder.join(name)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for line in BufReader::new(io::Read::take(file, 2 * MAX_FILE)).split(b'\n') {
            let line = line?;
            if line.len() <= MAX_LINE {
                notes.extend(serde_json::from_slice::<Note>(&line));
            }
        }
    }
    Ok(notes)
}
