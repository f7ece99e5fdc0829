//! Trying again what was cut off, with growing pauses, and saying so.

use std::time::Duration;

use super::term::{DIM, GOOD, OFF, WARN};
use super::{Failure, term};

/// The first pause; each is twice as long as the one before.
const FIRST: Duration = Duration::from_secs(1);

/// The longest one.
const LONGEST: Duration = Duration::from_secs(30);

/// Codes of refusals that pass by themselves.
const PASSING: [&str; 4] = [
    "OVERLOADED",
    "STORE_UNAVAILABLE",
    "SIGNER_UNAVAILABLE",
    "SHUTTING_DOWN",
];

/// How often something was tried in vain.
#[derive(Debug, Default)]
pub(super) struct Again {
    failed: u32,
    /// Whether it ever went well: what never did is an error at once.
    reached: bool,
}

impl Again {
    /// Whom it is asked of is there. What comes of it is not known yet, so pauses go on growing.
    pub(super) fn reached(&mut self) {
        self.reached = true;
    }

    /// It goes well: something came of it.
    pub(super) fn well(&mut self) {
        if self.failed > 0 {
            anstream::eprintln!("{GOOD}connected again{OFF}");
        }
        self.reached = true;
        self.failed = 0;
    }

    /// Says why it failed and how long the pause is; a failure that no pause mends comes back.
    ///
    /// # Errors
    /// That failure.
    pub(super) fn pause(&mut self, failure: Failure) -> Result<Duration, Failure> {
        let refused = failure.code().is_some_and(|code| !PASSING.contains(&code));
        if refused || failure.is_lasting() || !self.reached {
            return Err(failure);
        }
        let pause = FIRST.saturating_mul(1 << self.failed.min(5)).min(LONGEST);
        self.failed += 1;
        let why = failure.to_string();
        let why = term::plain(why.lines().next().unwrap_or_default());
        anstream::eprintln!(
            "{WARN}cut off{OFF}: {why}{DIM}; trying again in {} s{OFF}",
            pause.as_secs()
        );
        Ok(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_refusals_stand() {
        let lost = || Failure::new("no gateway");
        let mut again = Again::default();
        assert!(again.pause(lost()).is_err(), "it never was there");
        let pauses: Vec<u64> = (0..7)
            .map(|_| {
                again.reached();
                again.pause(lost()).unwrap().as_secs()
            })
            .collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
        let busy = Failure::refused("OVERLOADED", "busy");
        assert!(again.pause(busy).is_ok());
        let withdrawn = Failure::refused("OPERATOR_CREDENTIAL_INVALID", "no");
        assert!(again.pause(withdrawn).is_err());
        assert!(again.pause(lost().lasting()).is_err());
        again.well();
        assert_eq!(again.pause(lost()).unwrap().as_secs(), 1);
    }
}
