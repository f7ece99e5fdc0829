//! The log of a plan or an apply, as the vendor frames it.

use std::sync::{Arc, Mutex};

/// The most bytes that a log keeps; what comes after is dropped, and the log says so.
const MOST_BYTES: usize = 8 << 20;
/// Start of text: the first byte of a log.
const STX: u8 = 2;
/// End of text: the last byte of a log that is complete.
const ETX: u8 = 3;

/// A log that grows until it is ended.
#[derive(Debug, Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Text>>);

#[derive(Debug, Default)]
struct Text {
    /// Empty until the first byte of text, then framed.
    framed: Vec<u8>,
    ended: bool,
}

impl Log {
    /// Appends text; nothing can be appended to a log that has ended.
    pub(crate) fn push(&self, text: &[u8]) {
        let mut log = self.lock();
        if log.ended || log.framed.len() >= MOST_BYTES || text.is_empty() {
            return;
        }
        if log.framed.is_empty() {
            log.framed.push(STX);
        }
        let room = MOST_BYTES - log.framed.len().min(MOST_BYTES);
        // The framing bytes must not occur in the text, or readers would stop there.
        log.framed.extend(
            text.iter()
                .take(room)
                .filter(|byte| !matches!(**byte, STX | ETX)),
        );
        if text.len() > room {
            log.framed.extend_from_slice(b"\n(output cut)\n");
        }
    }

    /// Marks the log as complete.
    pub(crate) fn end(&self) {
        let mut log = self.lock();
        if !log.ended {
            if log.framed.is_empty() {
                log.framed.push(STX);
            }
            log.framed.push(ETX);
            log.ended = true;
        }
    }

    /// Puts another text in the place of what was written, framed as before.
    pub(crate) fn rewrite(&self, text: &[u8]) {
        let ended = std::mem::take(&mut *self.lock()).ended;
        self.push(text);
        if ended {
            self.end();
        }
    }

    /// Copies at most `limit` bytes from `offset` on.
    pub(crate) fn slice(&self, offset: usize, limit: usize) -> Vec<u8> {
        let log = self.lock();
        let start = offset.min(log.framed.len());
        let end = start.saturating_add(limit).min(log.framed.len());
        log.framed[start..end].to_vec()
    }

    /// The text without its framing.
    pub(crate) fn text(&self) -> String {
        let log = self.lock();
        let text: Vec<u8> = log
            .framed
            .iter()
            .copied()
            .filter(|byte| !matches!(*byte, STX | ETX))
            .collect();
        String::from_utf8_lossy(&text).into_owned()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Text> {
        self.0
            .lock()
            .expect("no thread panics while it holds a log")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_framed_and_ends_once() {
        let log = Log::default();
        assert_eq!(log.slice(0, 100), b"");
        log.push(b"pl\x03an");
        assert_eq!(log.slice(0, 100), b"\x02plan");
        assert_eq!(log.slice(3, 1), b"a");
        log.end();
        log.end();
        log.push(b"late");
        assert_eq!(log.slice(0, 100), b"\x02plan\x03");
        assert_eq!(log.slice(99, 100), b"");
        assert_eq!(log.text(), "plan");
    }

    #[test]
    fn a_log_that_never_began_ends_empty() {
        let log = Log::default();
        log.end();
        assert_eq!(log.slice(0, 100), b"\x02\x03");
    }

    #[test]
    fn a_log_is_bounded() {
        let log = Log::default();
        log.push(&vec![b'a'; MOST_BYTES + 10]);
        log.push(b"more");
        assert!(log.slice(0, usize::MAX).len() < MOST_BYTES + 100);
        assert!(log.text().ends_with("(output cut)\n"));
    }
}
