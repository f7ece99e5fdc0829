//! Challenges of sign-ins: good for five minutes, once, and kept by nobody.
//!
//! A challenge is 16 random bytes, the time of its end and our seal over both. Asking for one
//! costs us nothing to remember; only one that a passkey has answered is remembered, until its
//! end. A restart makes another key, and ends them all.

use hmac::{Hmac, KeyInit as _, Mac as _};
use policy::{ReasonCode, Refusal};
use proof::Timestamp;
use sha2::Sha256;

use crate::keys::random_bytes;
use crate::spent::{NAME as RANDOM, Spent};

/// How long a challenge is good, in seconds.
pub const LIFE_SECONDS: i64 = 300;

const END: usize = 8;
const SEAL: usize = 32;

/// Makes challenges and knows which of them were answered.
pub struct SignInChallenges {
    key: [u8; 32],
    spent: Spent,
}

impl Default for SignInChallenges {
    fn default() -> Self {
        Self {
            key: random_bytes(),
            spent: Spent::default(),
        }
    }
}

impl SignInChallenges {
    /// A new challenge.
    pub fn make(&self, now: Timestamp) -> Vec<u8> {
        let mut challenge = random_bytes::<RANDOM>().to_vec();
        let end = now.plus_seconds(LIFE_SECONDS).millis();
        challenge.extend_from_slice(&end.to_be_bytes());
        let seal = self.mac(&challenge).finalize().into_bytes();
        challenge.extend_from_slice(&seal);
        challenge
    }

    /// Whether a challenge is ours, still good and not answered yet; its end.
    ///
    /// # Errors
    /// `PASSKEY_WRONG_CHALLENGE`.
    pub fn check(&self, challenge: &[u8], now: Timestamp) -> Result<(), Refusal> {
        let (name, _) = self.open(challenge, now)?;
        if self.spent.contains(&name) {
            return Err(spent());
        }
        Ok(())
    }

    /// Uses a challenge up: the second time it is refused.
    ///
    /// # Errors
    /// `PASSKEY_WRONG_CHALLENGE`; `OVERLOADED` when too many sign in at a time.
    pub fn spend(&self, challenge: &[u8], now: Timestamp) -> Result<(), Refusal> {
        let (name, end) = self.open(challenge, now)?;
        if self.spent.add(name, end, now)? {
            Ok(())
        } else {
            Err(spent())
        }
    }

    fn open(&self, challenge: &[u8], now: Timestamp) -> Result<([u8; RANDOM], Timestamp), Refusal> {
        let foreign = || {
            let detail = "the challenge is not one of this gateway since it started";
            Refusal::new(ReasonCode::PasskeyWrongChallenge, detail)
        };
        if challenge.len() != RANDOM + END + SEAL {
            return Err(foreign());
        }
        let (sealed, seal) = challenge.split_at(RANDOM + END);
        // Compares in constant time.
        let verified = self.mac(sealed).verify_slice(seal);
        verified.map_err(|_| foreign())?;
        let (name, end) = sealed.split_at(RANDOM);
        let end = i64::from_be_bytes(end.try_into().expect("eight bytes"));
        let end = Timestamp::from_millis(end);
        if end <= now {
            let detail = "the challenge has expired";
            return Err(Refusal::new(ReasonCode::PasskeyWrongChallenge, detail));
        }
        Ok((name.try_into().expect("sixteen bytes"), end))
    }

    fn mac(&self, bytes: &[u8]) -> Hmac<Sha256> {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes keys of any length");
        mac.update(bytes);
        mac
    }
}

fn spent() -> Refusal {
    let detail = "the challenge was answered before";
    Refusal::new(ReasonCode::PasskeyWrongChallenge, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_is_good_once_and_for_its_time() {
        let now = Timestamp::from_seconds(1000);
        let challenges = SignInChallenges::default();
        let one = challenges.make(now);
        assert_ne!(one, challenges.make(now));
        assert!(challenges.check(&one, now).is_ok());
        let last = Timestamp::from_millis(now.plus_seconds(LIFE_SECONDS).millis() - 1);
        assert!(challenges.check(&one, last).is_ok());
        let late = challenges.check(&one, now.plus_seconds(LIFE_SECONDS));
        assert!(late.is_err());
        assert!(SignInChallenges::default().check(&one, now).is_err());
        for place in 0..one.len() {
            let mut changed = one.clone();
            changed[place] ^= 1;
            assert!(challenges.check(&changed, now).is_err(), "{place}");
        }
        for length in [0, 24, one.len() - 1] {
            assert!(challenges.check(&one[..length], now).is_err());
        }
        assert!(challenges.spend(&one, now).is_ok());
        assert!(challenges.spend(&one, now).is_err());
        assert!(challenges.check(&one, now).is_err());
    }
}
