//! What counts once: names of things that were used up, until they would have ended anyway.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use policy::{ReasonCode, Refusal};
use proof::Timestamp;

/// Length of a name: random bytes that nobody draws twice.
pub const NAME: usize = 16;

/// Most names that are remembered at a time.
const MAX: usize = 10_000;

/// Names that were used up.
#[derive(Debug, Default)]
pub struct Spent(Mutex<HashMap<[u8; NAME], Timestamp>>);

impl Spent {
    /// Whether it was used up.
    pub fn contains(&self, name: &[u8; NAME]) -> bool {
        self.names().contains_key(name)
    }

    /// Uses a name up until its end; false when it was before.
    ///
    /// # Errors
    /// `OVERLOADED` when too many are remembered.
    pub fn add(&self, name: [u8; NAME], end: Timestamp, now: Timestamp) -> Result<bool, Refusal> {
        let mut names = self.names();
        if names.contains_key(&name) {
            return Ok(false);
        }
        if names.len() >= MAX {
            names.retain(|_, end| now < *end);
        }
        if names.len() >= MAX {
            return Err(ReasonCode::Overloaded.into());
        }
        names.insert(name, end);
        Ok(true)
    }

    fn names(&self) -> MutexGuard<'_, HashMap<[u8; NAME], Timestamp>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_bounded_and_forgotten_in_time() {
        let at = Timestamp::from_seconds;
        let name = |n: usize| {
            let mut name = [0; NAME];
            name[..8].copy_from_slice(&n.to_be_bytes());
            name
        };
        let spent = Spent::default();
        for n in 0..MAX {
            assert_eq!(spent.add(name(n), at(10), at(0)), Ok(true));
        }
        assert_eq!(spent.add(name(0), at(10), at(0)), Ok(false));
        assert!(spent.contains(&name(0)) && !spent.contains(&name(MAX)));
        let refused = spent.add(name(MAX), at(10), at(9)).unwrap_err();
        assert_eq!(refused.code, ReasonCode::Overloaded);
        assert_eq!(spent.add(name(MAX), at(20), at(10)), Ok(true));
        assert_eq!(spent.names().len(), 1);
    }
}
