//! The request to add a checkpoint, as gateways write it and witnesses read it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proof::Hash;

/// Largest request that is read, in bytes: 63 hashes and the longest note.
pub const MAX_REQUEST_BYTES: usize = 32 << 10;

/// Most hashes of a proof.
const MAX_PATH: usize = 63;

/// `POST …/add-checkpoint`: `old N`, a consistency proof line by line, an empty line, the note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddCheckpoint {
    /// The size that the witness has seen last, as far as the log knows.
    pub old: u64,
    /// The proof from there to the checkpoint.
    pub path: Vec<Hash>,
    /// The checkpoint.
    pub note: String,
}

impl AddCheckpoint {
    /// The request's body.
    pub fn to_text(&self) -> String {
        let mut text = format!("old {}\n", self.old);
        for hash in &self.path {
            text.push_str(&STANDARD.encode(hash.as_bytes()));
            text.push('\n');
        }
        text.push('\n');
        text.push_str(&self.note);
        text
    }

    /// Reads a body; `None` for whatever writes itself otherwise.
    pub fn read(body: &[u8]) -> Option<Self> {
        if body.len() > MAX_REQUEST_BYTES {
            return None;
        }
        let text = std::str::from_utf8(body).ok()?;
        let (head, note) = text.split_once("\n\n")?;
        let mut lines = head.split('\n');
        let old = lines.next()?.strip_prefix("old ")?.parse().ok()?;
        let path = lines.map(|line| {
            let hash: [u8; 32] = STANDARD.decode(line).ok()?.try_into().ok()?;
            Some(Hash::from_bytes(hash))
        });
        let request = Self {
            old,
            path: path.collect::<Option<_>>()?,
            note: note.to_owned(),
        };
        let exact = request.path.len() <= MAX_PATH && request.to_text() == text;
        exact.then_some(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_as_it_is_written_and_no_other_way() {
        let request = AddCheckpoint {
            old: 7,
            path: vec![Hash::of(b"a"), Hash::of(b"b")],
            note: "origin\n9\nroot\n\n\u{2014} x y\n".to_owned(),
        };
        let text = request.to_text();
        assert_eq!(AddCheckpoint::read(text.as_bytes()), Some(request.clone()));
        let without = AddCheckpoint {
            path: Vec::new(),
            ..request.clone()
        };
        let empty = without.to_text();
        assert_eq!(AddCheckpoint::read(empty.as_bytes()), Some(without));
        let long = AddCheckpoint {
            path: vec![Hash::of(b"a"); MAX_PATH + 1],
            ..request
        };
        for bad in [
            text.replace("old 7", "old 07"),
            text.replace("old 7", "old +7"),
            text.replace("old 7", "new 7"),
            text.replacen('\n', "\r\n", 1),
            text.replacen('=', "", 1),
            long.to_text(),
            "old 7\n".to_owned(),
            String::new(),
            format!("old 7\n\n{}", "x".repeat(MAX_REQUEST_BYTES)),
        ] {
            assert_eq!(AddCheckpoint::read(bad.as_bytes()), None, "{bad:.60}");
        }
    }
}
