//! Points at which a test ends the process, as a loss of power would.
//!
//! [`kill_point!`](crate::kill_point) stands between two steps of the pipeline, the gate, sealing
//! or the log. It does nothing, and costs nothing, unless this crate was built with its feature
//! `faults`, which the workspace's tests switch on and nothing that is released can: no feature of
//! the program leads to it (`cargo xtask layers` looks). With it, these variables count:
//!
//! | variable | what it does |
//! |---|---|
//! | `CLAWGATE_KILL_AT` | `NAME` or `NAME:N`, and more of them after commas: the process says `dies at NAME` on standard error and kills itself (`SIGKILL`) when it comes to that point for the N-th time |
//! | `CLAWGATE_TELL_AT` | `NAME`: each time, a line `reached NAME` goes to standard error |
//! | `CLAWGATE_SLOW_AT` | `NAME:MILLISECONDS`: each visit takes so long |
//! | `CLAWGATE_POINTS_SEEN` | a file to which the name of each point is added when it is first reached |
//! | `CLAWGATE_CLOCK` | a file that holds by how many milliseconds the clock is wrong |
//!
//! To add a point: its line in [`POINTS`], the macro where it is, and, when no story of
//! `gateway/tests/crash` comes by there, a story that does.

#[cfg(feature = "faults")]
mod armed;

/// A point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point {
    /// What it is called.
    pub name: &'static str,
    /// What was done when it is reached, and what was not.
    pub what: &'static str,
}

macro_rules! table {
    ($($name:literal => $what:literal,)*) => {
        &[$(Point { name: $name, what: $what }),*]
    };
}

/// Every point, in the order of a job's life.
pub const POINTS: &[Point] = table! {
    // The process.
    "start.opened" => "the store is open; nothing that a crash left is settled",
    "start.ended" => "one call that was cut off is ended as unknown; others may not be",
    "start.settled" => "all of them are; closed jobs are not sealed",
    "start.sealed" => "closed jobs are sealed; no run is watched",
    "start.resumed" => "runs are watched again; nobody is served",
    // The store's writer.
    "commit.before" => "a batch of writes was made; nothing of it is durable",
    "commit.after" => "all of it is; nobody has been told",
    // The life of a call.
    "call.authenticated" => "the caller is known; nothing was looked at",
    "call.resolved" => "it is known what is asked; nothing was decided",
    "call.budgeted" => "the call's part of the budget is reserved; nothing is recorded",
    "call.decided" => "it was decided; nothing is recorded",
    "call.permitted" => "the intent is recorded; nothing was forwarded",
    "call.refused" => "the refusal is recorded; it was not answered",
    "call.forwarded" => "upstream answered; the outcome is not signed",
    "call.signed" => "the receipt is signed; it is not recorded",
    "call.recorded" => "outcome and receipt are durable; nothing was answered",
    "call.answered" => "the answer stands; it was not sent",
    // Jobs and tokens.
    "job.opened" => "the job is there; its opener was not told",
    "token.issued" => "the token is there; nobody has its text",
    "token.revoked" => "it is revoked in the store; nothing running was cut",
    "job.ending" => "no more calls are taken; runs that wait are not discarded",
    "job.drained" => "what could end has ended; the job is not closed",
    "job.closed" => "the closing record is there; there is no bundle",
    // The gate, by its arrows: in the transaction that moves it, and after its commit.
    "gate.planned" => "upstream has the run; the store does not",
    "gate.planned-inspecting" => "being moved",
    "gate.planned-inspecting.done" => "moved",
    "gate.planned-finished" => "being moved",
    "gate.planned-finished.done" => "moved",
    "gate.inspecting-violates" => "being moved",
    "gate.inspecting-violates.done" => "moved",
    "gate.violates-discarded" => "being moved",
    "gate.violates-discarded.done" => "moved",
    "gate.inspecting-awaiting_approval" => "being moved",
    "gate.inspecting-awaiting_approval.done" => "moved",
    "gate.awaiting_approval-approved" => "being moved",
    "gate.awaiting_approval-approved.done" => "moved",
    "gate.awaiting_approval-denied" => "being moved",
    "gate.awaiting_approval-denied.done" => "moved",
    "gate.awaiting_approval-expired" => "being moved",
    "gate.awaiting_approval-expired.done" => "moved",
    "gate.awaiting_approval-superseded" => "being moved",
    "gate.awaiting_approval-superseded.done" => "moved",
    "gate.approved-rechecking" => "being moved",
    "gate.approved-rechecking.done" => "moved",
    "gate.rechecking-superseded" => "being moved",
    "gate.rechecking-superseded.done" => "moved",
    "gate.rechecking-discarded" => "being moved",
    "gate.rechecking-discarded.done" => "moved",
    "gate.rechecking-applying" => "being moved, with the intent of the apply",
    "gate.rechecking-applying.done" => "moved, and the intent is durable; nothing was sent",
    "gate.applying-rechecking" => "being moved",
    "gate.applying-rechecking.done" => "moved",
    "gate.applying-applied" => "being moved",
    "gate.applying-applied.done" => "moved",
    "gate.applying-errored" => "being moved",
    "gate.applying-errored.done" => "moved",
    "gate.sent" => "upstream answered a call of the gateway's own; its outcome is not recorded",
    "gate.accepted" => "the outcome is recorded; the gate does not know that upstream took the apply",
    // Sealing.
    "seal.collected" => "the evidence is read; no bundle is written",
    "seal.written" => "the file is durable; the store does not know of it",
    "seal.saved" => "the store knows of it; nobody has the bundle",
    "seal.announced" => "the runs have their comment; whoever closed the job was not told",
    "file.temporary" => "a file is durable under its temporary name",
    "file.renamed" => "it has its name; the folder is not durable",
    // The log.
    "checkpoint.signed" => "a checkpoint is signed; it is not kept",
    "checkpoint.saved" => "it is kept; nobody has it",
    "tiles.added" => "a tile is published; others of the same checkpoint may not be",
    "tiles.complete" => "all of them are; the checkpoint is the old one",
    "tiles.published" => "the checkpoint is the new one; parts of full tiles still lie there",
};

/// Whether a point stands in the table.
pub const fn is_known(name: &str) -> bool {
    let mut place = 0;
    while place < POINTS.len() {
        if same(POINTS[place].name.as_bytes(), name.as_bytes()) {
            return true;
        }
        place += 1;
    }
    false
}

const fn same(one: &[u8], other: &[u8]) -> bool {
    if one.len() != other.len() {
        return false;
    }
    let mut place = 0;
    while place < one.len() {
        if one[place] != other[place] {
            return false;
        }
        place += 1;
    }
    true
}

/// A point of the table: see [`points`](crate::points).
#[macro_export]
macro_rules! kill_point {
    ($name:literal) => {{
        const { assert!($crate::points::is_known($name), "no such point") };
        $crate::points::reach($name);
    }};
}

/// Comes to a point.
#[cfg(not(feature = "faults"))]
#[inline(always)]
pub const fn reach(_name: &str) {}

/// Comes to a point.
#[cfg(feature = "faults")]
pub fn reach(name: &str) {
    armed::reach(name);
}

/// Comes to an arrow of the gate, of those that are in the table: in its transaction, or after its
/// commit.
#[inline]
pub(crate) fn arrow(from: crate::GateState, to: crate::GateState, done: bool) {
    #[cfg(feature = "faults")]
    {
        let done = if done { ".done" } else { "" };
        armed::reach(&format!("gate.{}-{}{done}", from.as_str(), to.as_str()));
    }
    #[cfg(not(feature = "faults"))]
    let _ = (from, to, done);
}

/// By how many milliseconds the machine's clock is to be taken for wrong.
#[cfg(not(feature = "faults"))]
#[inline(always)]
pub const fn clock_jump_ms() -> i64 {
    0
}

/// By how many milliseconds the machine's clock is to be taken for wrong.
#[cfg(feature = "faults")]
pub fn clock_jump_ms() -> i64 {
    armed::clock_jump_ms()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_name_stands_in_the_table_once() {
        let names: BTreeSet<&str> = POINTS.iter().map(|point| point.name).collect();
        assert_eq!(names.len(), POINTS.len());
        assert!(POINTS.iter().all(|point| is_known(point.name)));
        for unknown in ["", "commit", "commit.befor", "commit.before "] {
            assert!(!is_known(unknown), "{unknown:?}");
        }
    }
}
