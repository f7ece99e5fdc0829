//! How a command is ended, and how it did end.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use tokio::process::Child;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

use super::super::Failure;
use super::told::say;

/// How long a command has to end after it was told to, before it is killed.
const PATIENCE: Duration = Duration::from_secs(10);

/// A moment that does not come.
pub(super) fn never() -> Instant {
    Instant::now() + Duration::from_secs(365 * 24 * 3600)
}

/// What a command was told about its end.
#[derive(Debug, Default)]
pub(super) struct Ending {
    told: bool,
    kill_at: Option<Instant>,
}

impl Ending {
    /// Passes a wish on. A terminal's Ctrl-C has reached the command already, which may have a
    /// question about it; whoever asks twice means it.
    pub(super) fn end(&mut self, child: &mut Child, wish: Wish) {
        if std::mem::replace(&mut self.told, true) {
            self.kill(child);
        } else if wish == Wish::Interrupt {
            say("interrupted; once more kills the command");
        } else {
            let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
            if let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) {
                // It may have ended in this moment.
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            }
            self.kill_at = Some(Instant::now() + PATIENCE);
        }
    }

    pub(super) fn patience(&self) -> Instant {
        self.kill_at.unwrap_or_else(never)
    }

    pub(super) fn kill(&mut self, child: &mut Child) {
        let _ = child.start_kill();
        say("the command does not end by itself; it is killed");
        self.kill_at = None;
    }
}

/// What somebody wants who sends a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    Interrupt,
    Terminate,
}

/// The signals that end a command and its job.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Signals {
    pub(super) fn listen() -> Result<Self, Failure> {
        let listen = |kind| {
            signal(kind).map_err(|error| Failure::new(format!("cannot listen to signals: {error}")))
        };
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hang_up: listen(SignalKind::hangup())?,
        })
    }

    pub(super) async fn recv(&mut self) -> Wish {
        tokio::select! {
            _ = self.interrupt.recv() => Wish::Interrupt,
            _ = self.terminate.recv() => Wish::Terminate,
            _ = self.hang_up.recv() => Wish::Terminate,
        }
    }
}

/// As a shell says it: the command's own code, or 128 and the signal's number.
pub(super) fn exit_code(status: ExitStatus) -> u8 {
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

pub(super) fn in_words(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("the command ended with exit code {code}"),
        (None, Some(signal)) => format!("the command was ended by signal {signal}"),
        (None, None) => "the command ended".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_told_as_a_shell_tells_them() {
        for (raw, code) in [(0, 0), (3 << 8, 3), (255 << 8, 255), (9, 137), (15, 143)] {
            assert_eq!(exit_code(ExitStatus::from_raw(raw)), code);
        }
    }
}
