//! How often somebody may try to sign in.
//!
//! A credential has 256 random bits, so nobody guesses one; this keeps guessing cheap for us, and
//! seen. Memory is bounded: whoever finds no place is counted together with all others.

use std::collections::HashMap;
use std::net::IpAddr;

use proof::Timestamp;

/// Attempts that may fail from one address within [`WINDOW_SECONDS`].
const MAX_FAILURES: u32 = 10;

/// How long failures of an address are remembered, and how long it is locked out.
const WINDOW_SECONDS: i64 = 15 * 60;

/// Attempts that may fail in a minute from all addresses together.
const MAX_FAILURES_OF_ALL: u32 = 120;

/// The window of all.
const MINUTE: i64 = 60;

/// Most addresses that are counted one by one.
const MAX_ADDRESSES: usize = 10_000;

/// Counts failed attempts to sign in.
#[derive(Debug, Default)]
pub struct Attempts {
    by_network: HashMap<IpAddr, Window>,
    all: Window,
}

#[derive(Debug, Clone, Copy, Default)]
struct Window {
    /// When the first of the counted attempts was made.
    began: Option<Timestamp>,
    count: u32,
}

/// Too many attempts failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LockedOut {
    /// Seconds until the next attempt is looked at.
    pub retry_after: i64,
    /// This attempt was the one that locked the address out.
    pub just_now: bool,
}

impl Attempts {
    /// Counts an attempt as failed, before it is looked at: so many at once are as many.
    ///
    /// # Errors
    /// [`LockedOut`]; the attempt must not be looked at.
    pub fn begin(&mut self, address: IpAddr, now: Timestamp) -> Result<(), LockedOut> {
        let network = network(address);
        if !self.by_network.contains_key(&network) && self.by_network.len() >= MAX_ADDRESSES {
            self.by_network
                .retain(|_, window| window.left(WINDOW_SECONDS, now).is_some());
            if self.by_network.len() >= MAX_ADDRESSES {
                return self.count_with_all(now);
            }
        }
        let window = self.by_network.entry(network).or_default();
        window
            .count(MAX_FAILURES, WINDOW_SECONDS, now)
            .map_err(|retry_after| {
                let just_now = window.count == MAX_FAILURES;
                window.count = MAX_FAILURES + 1;
                LockedOut {
                    retry_after,
                    just_now,
                }
            })?;
        self.count_with_all(now)
    }

    /// Only what is looked at counts: who is locked out already takes nobody else's attempts.
    fn count_with_all(&mut self, now: Timestamp) -> Result<(), LockedOut> {
        let counted = self.all.count(MAX_FAILURES_OF_ALL, MINUTE, now);
        counted.map_err(|retry_after| LockedOut {
            retry_after,
            just_now: false,
        })
    }

    /// The attempt could not be looked at, for a reason that is not the caller's.
    pub fn taken_back(&mut self, address: IpAddr) {
        if let Some(window) = self.by_network.get_mut(&network(address)) {
            window.count = window.count.saturating_sub(1);
        }
        self.all.count = self.all.count.saturating_sub(1);
    }

    /// The attempt was good after all.
    pub fn succeeded(&mut self, address: IpAddr) {
        self.by_network.remove(&network(address));
        self.all.count = self.all.count.saturating_sub(1);
    }
}

impl Window {
    /// Counts one more; answers how many seconds are left when there were enough already.
    fn count(&mut self, most: u32, seconds: i64, now: Timestamp) -> Result<(), i64> {
        match self.left(seconds, now) {
            Some(left) if self.count >= most => Err(left),
            Some(_) => {
                self.count += 1;
                Ok(())
            }
            None => {
                *self = Self {
                    began: Some(now),
                    count: 1,
                };
                Ok(())
            }
        }
    }

    /// Seconds until this window ends; `None` when it has ended, or the clock was set back.
    fn left(&self, seconds: i64, now: Timestamp) -> Option<i64> {
        let passed = now.seconds() - self.began?.seconds();
        (0..seconds).contains(&passed).then(|| seconds - passed)
    }
}

/// One customer of the Internet: an IPv4 address, or the 64 bits of IPv6 that one network has.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let bits = address.to_bits() & !u128::from(u64::MAX);
            IpAddr::V6(std::net::Ipv6Addr::from_bits(bits))
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(1_800_000_000 + seconds)
    }

    fn v4(n: u32) -> IpAddr {
        IpAddr::V4(n.into())
    }

    #[test]
    fn an_address_is_locked_out_after_its_failures_and_only_it() {
        let mut attempts = Attempts::default();
        for n in 0..MAX_FAILURES {
            assert_eq!(attempts.begin(v4(1), at(n.into())), Ok(()));
        }
        let locked = |retry_after, just_now| LockedOut {
            retry_after,
            just_now,
        };
        assert_eq!(attempts.begin(v4(1), at(100)), Err(locked(800, true)));
        assert_eq!(attempts.begin(v4(1), at(101)), Err(locked(799, false)));
        assert_eq!(attempts.begin(v4(2), at(101)), Ok(()));
        assert_eq!(attempts.begin(v4(1), at(WINDOW_SECONDS)), Ok(()));
        assert_eq!(attempts.begin(v4(1), at(WINDOW_SECONDS + 1)), Ok(()));
    }

    #[test]
    fn whoever_gets_in_begins_anew() {
        let mut attempts = Attempts::default();
        for _ in 0..3 {
            for _ in 0..MAX_FAILURES {
                assert_eq!(attempts.begin(v4(1), at(0)), Ok(()));
            }
            attempts.succeeded(v4(1));
        }
    }

    #[test]
    fn an_attempt_that_is_taken_back_does_not_count_and_no_other_one_either() {
        let mut attempts = Attempts::default();
        for _ in 0..MAX_FAILURES {
            assert_eq!(attempts.begin(v4(1), at(0)), Ok(()));
        }
        attempts.taken_back(v4(1));
        assert_eq!(attempts.begin(v4(1), at(1)), Ok(()));
        assert!(attempts.begin(v4(1), at(2)).is_err());
    }

    #[test]
    fn a_network_is_one_however_many_addresses_it_has() {
        let mut attempts = Attempts::default();
        let address = |n: u128| IpAddr::V6((0x2001_0db8 << 96 | n).into());
        for n in 0..MAX_FAILURES {
            assert_eq!(attempts.begin(address(n.into()), at(0)), Ok(()));
        }
        assert!(attempts.begin(address(99), at(0)).is_err());
        assert_eq!(attempts.begin(address(1 << 64), at(0)), Ok(()));
        let mapped = IpAddr::V6(std::net::Ipv4Addr::from_bits(7).to_ipv6_mapped());
        assert_eq!(network(mapped), v4(7));
    }

    #[test]
    fn all_together_are_limited_and_memory_is_bounded() {
        let mut attempts = Attempts::default();
        let mut refused = 0;
        for n in 0..40_000_u32 {
            // 200 in a minute, each from another address.
            let now = at(i64::from(n) * 3 / 10);
            refused += u32::from(attempts.begin(v4(n), now).is_err());
        }
        assert!(attempts.by_network.len() <= MAX_ADDRESSES);
        assert!((15_000..17_000).contains(&refused), "{refused}");
    }
}
