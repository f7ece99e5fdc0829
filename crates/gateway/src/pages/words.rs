//! How the pages write times, keys, numbers and other people's words.

use std::fmt;

use proof::Timestamp;
use proof::approval::Changes;
use store::GateState;

use crate::cli::term::is_hostile;

/// Longest foreign text on a page, in characters; the evidence has what is cut.
const LONGEST: usize = 300;

/// Text that somebody else wrote: an agent, an operator, an approver. The pages quote it, and
/// say whose it is, so that it cannot pass for the gateway's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quoted {
    /// The text, made harmless and cut.
    pub text: String,
    /// Whose it is, for example `the agent`.
    pub whose: &'static str,
}

/// Most combining marks on one letter; more only serve to paint over the lines around.
const MOST_MARKS: usize = 3;

fn is_combining(c: char) -> bool {
    matches!(c,
        '\u{0300}'..='\u{036f}' | '\u{0483}'..='\u{0489}' | '\u{1ab0}'..='\u{1aff}'
        | '\u{1dc0}'..='\u{1dff}' | '\u{20d0}'..='\u{20ff}' | '\u{fe20}'..='\u{fe2f}')
}

/// A text that cannot turn the line, paint over its neighbours, or hide something.
fn harmless(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut marks = 0;
    for c in text.chars() {
        marks = if is_combining(c) { marks + 1 } else { 0 };
        if marks <= MOST_MARKS {
            clean.push(if is_hostile(c) { '\u{fffd}' } else { c });
        }
    }
    clean
}

impl Quoted {
    /// Quotes a text.
    pub fn new(text: &str, whose: &'static str) -> Self {
        let cut: String = text.chars().take(LONGEST).collect();
        let mut clean = harmless(&cut);
        if text.chars().nth(LONGEST).is_some() {
            clean.push('…');
        }
        Self { text: clean, whose }
    }
}

/// Longest passage that is quoted as it was set, in characters and in lines.
const LONGEST_BLOCK: usize = 2100;
const MOST_LINES: usize = 40;

impl Quoted {
    /// Quotes a passage with its lines.
    pub fn block(text: &str, whose: &'static str) -> Self {
        Self::passage(text, whose, MOST_LINES)
    }

    /// Quotes a passage that is short enough already, with all of its lines.
    pub fn whole(text: &str, whose: &'static str) -> Self {
        Self::passage(text, whose, usize::MAX)
    }

    fn passage(text: &str, whose: &'static str, most_lines: usize) -> Self {
        let mut clean = String::new();
        let mut left = LONGEST_BLOCK;
        let normal = text.replace("\r\n", "\n");
        for (number, line) in normal.split('\n').enumerate() {
            if number == most_lines || left == 0 {
                clean.push_str("\n…");
                break;
            }
            if number > 0 {
                clean.push('\n');
            }
            let part: String = line.chars().take(left).collect();
            left -= part.chars().count();
            clean.push_str(&harmless(&part));
        }
        Self { text: clean, whose }
    }
}

/// A moment, in the forms in which a page needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    /// For machines.
    pub iso: String,
    /// `22 Nov 2026`
    pub day: String,
    /// `08:00:03`
    pub clock: String,
}

impl From<Timestamp> for Moment {
    fn from(at: Timestamp) -> Self {
        let iso = at.to_string();
        let format = |pattern: &str| {
            jiff::Timestamp::from_millisecond(at.millis())
                .map(|moment| moment.strftime(pattern).to_string())
                .unwrap_or_else(|_| iso.clone())
        };
        Self {
            day: format("%-d %b %Y"),
            clock: format("%H:%M:%S"),
            iso,
        }
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} UTC", self.day, self.clock)
    }
}

/// A key's name, shortened for the eye; the whole stands in the title.
pub fn short_did(did: &impl std::fmt::Display) -> String {
    let text = did.to_string();
    let text = text.trim_start_matches("did:key:");
    match (text.get(..8), text.get(text.len().saturating_sub(6)..)) {
        (Some(head), Some(tail)) => format!("{head}…{tail}"),
        _ => text.to_owned(),
    }
}

/// A number with its thousands apart.
pub fn number(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1 call`, `2 calls`
pub fn count(value: u64, one: &str, many: &str) -> String {
    format!("{} {}", number(value), if value == 1 { one } else { many })
}

/// A size for people.
pub fn bytes(value: u64) -> String {
    match value {
        0..1024 => count(value, "byte", "bytes"),
        1024..1_048_576 => format!("{} KiB", number(value.div_ceil(1024))),
        _ => format!("{} MiB", number(value.div_ceil(1_048_576))),
    }
}

/// How long something took.
pub fn span(from: Timestamp, to: Timestamp) -> String {
    let seconds = u64::try_from(to.seconds() - from.seconds()).unwrap_or(0);
    match seconds {
        0..60 => count(seconds, "second", "seconds"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} days {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// A length of time that somebody chose, in minutes.
pub fn minutes(seconds: u32) -> String {
    count(u64::from(seconds.div_ceil(60)), "minute", "minutes")
}

/// Where a run stands, in words, and how that looks.
pub const fn standing(gate: GateState) -> (&'static str, &'static str) {
    match gate {
        GateState::Planned => ("planned; not asked to be applied yet", "quiet"),
        GateState::Inspecting => ("being inspected", "quiet"),
        GateState::Violates => ("breaks the contract; being discarded", "refused"),
        GateState::AwaitingApproval => ("waits for a person", "waiting"),
        GateState::Approved => ("approved; about to be applied", "person"),
        GateState::Rechecking => ("approved; being checked once more", "person"),
        GateState::Applying => ("being applied", "applied"),
        GateState::Applied => ("applied", "applied"),
        GateState::Errored => ("ended with an error", "refused"),
        GateState::Denied => ("denied by an approver", "refused"),
        GateState::Expired => ("nobody decided in time", "refused"),
        GateState::Superseded => ("overtaken by a change", "quiet"),
        GateState::Discarded => ("discarded", "quiet"),
        GateState::Finished => ("planned only", "quiet"),
    }
}

/// One kind of change with its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// How many.
    pub count: String,
    /// What happens, for example `destroyed`.
    pub what: &'static str,
    /// Something ends or is let go.
    pub destructive: bool,
}

/// The kinds of change that a plan has, destructive ones first.
pub fn changes(changes: &Changes) -> Vec<Change> {
    [
        (changes.delete, "destroyed", true),
        (changes.replace, "replaced", true),
        (changes.forget, "forgotten", true),
        (changes.update, "changed", false),
        (changes.create, "created", false),
        (changes.import, "imported", false),
    ]
    .into_iter()
    .filter(|(count, _, _)| *count > 0)
    .map(|(count, what, destructive)| Change {
        count: number(count),
        what,
        destructive,
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_sizes_and_spans_read_well() {
        assert_eq!(number(0), "0");
        assert_eq!(number(999), "999");
        assert_eq!(number(1_234_567), "1,234,567");
        assert_eq!(count(1, "call", "calls"), "1 call");
        assert_eq!(bytes(4097), "5 KiB");
        let at = Timestamp::from_seconds;
        for (seconds, says) in [
            (1, "1 second"),
            (61, "1 min 1 s"),
            (7260, "2 h 1 min"),
            (90_000, "1 days 1 h"),
        ] {
            assert_eq!(span(at(0), at(seconds)), says);
        }
        assert_eq!(span(at(9), at(1)), "0 seconds");
    }

    #[test]
    fn moments_and_keys_are_short() {
        let moment = Moment::from("2026-11-02T08:00:03.120Z".parse::<Timestamp>().unwrap());
        assert_eq!(moment.to_string(), "2 Nov 2026 08:00:03 UTC");
        assert_eq!(moment.iso, "2026-11-02T08:00:03.120Z");
        let did = proof::SigningKey::from_seed(&[4; 32]).did();
        assert_eq!(short_did(&did), "z6Mkt631…wT9TUP");
    }

    #[test]
    fn a_passage_keeps_its_lines_within_bounds() {
        let quoted = |text: &str| Quoted::block(text, "the agent").text;
        assert_eq!(quoted("a\r\nb\n\u{202e}c"), "a\nb\n\u{fffd}c");
        assert_eq!(quoted(&"x\n".repeat(100)).lines().count(), MOST_LINES + 1);
        let long = quoted(&"x".repeat(1 << 20));
        assert_eq!(long.chars().count(), LONGEST_BLOCK);
        assert!(quoted(&"xy\n".repeat(1 << 20)).len() < 200);
    }

    #[test]
    fn foreign_text_is_cut_and_cannot_turn_the_line() {
        let quoted = Quoted::new("ok\u{202e}no\u{7}", "the agent");
        assert_eq!(quoted.text, "ok\u{fffd}no\u{fffd}");
        let painted = format!("a{}b", "\u{0336}".repeat(50));
        assert_eq!(
            Quoted::new(&painted, "the agent").text,
            "a\u{336}\u{336}\u{336}b"
        );
        assert_eq!(
            Quoted::new(&"x".repeat(1000), "the agent")
                .text
                .chars()
                .count(),
            301
        );
    }
}
