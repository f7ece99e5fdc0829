//! Being told that something was written, in place of looking again and again.

use tokio::sync::watch;

/// Commits.
pub trait Commits {
    /// Changes with each commit made through this handle, after what it holds can be read and
    /// before its writers are answered. Whoever waits for something looks, waits for a change,
    /// and looks again; a commit between the look and the wait is not missed. Commits by other
    /// processes do not show, so a wait has a bound of its own.
    fn commits(&self) -> watch::Receiver<u64>;
}
