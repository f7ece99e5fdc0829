//! Sign-ins that have begun and not come back yet: kept by the browser, not by us.
//!
//! The browser's cookie holds 16 random bytes, the time of its end, the page that was wanted and
//! our seal over them. State, nonce and PKCE verifier follow from the random bytes under our key,
//! so that they belong to this browser alone, and beginning a thousand sign-ins costs us nothing
//! to remember. Only one that came back is remembered, until its end. A restart makes another
//! key, and ends them all.

use hmac::{Hmac, KeyInit as _, Mac as _};
use policy::{ReasonCode, Refusal};
use proof::hash::{decode_b64u, encode_b64u};
use proof::{Hash, Timestamp};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

use crate::keys::random_bytes;
use crate::pages::Next;
use crate::spent::{NAME, Spent};

/// How long somebody may take at the provider, in seconds.
pub const LIFE_SECONDS: i64 = 600;

const END: usize = 8;
const SEAL: usize = 32;

/// Makes pending sign-ins and takes each of them back once.
pub struct SignIns {
    key: [u8; 32],
    spent: Spent,
}

/// A sign-in that has begun.
pub struct Pending {
    name: [u8; NAME],
    end: Timestamp,
    /// Where the person wanted to go.
    pub next: Next,
    /// Comes back with the answer.
    pub state: String,
    /// Stands in the ID token.
    pub nonce: String,
    /// Proves to the provider that the code comes from whoever began (RFC 7636).
    pub verifier: String,
}

impl Default for SignIns {
    fn default() -> Self {
        Self {
            key: random_bytes(),
            spent: Spent::default(),
        }
    }
}

impl SignIns {
    /// Begins one; answers it with the text of its cookie.
    pub fn begin(&self, next: &Next, now: Timestamp) -> (Pending, String) {
        let name = random_bytes();
        let end = now.plus_seconds(LIFE_SECONDS);
        let mut sealed = Vec::from(name);
        sealed.extend_from_slice(&end.millis().to_be_bytes());
        sealed.extend_from_slice(next.path().as_bytes());
        let seal = self.mac("cookie", &sealed).finalize().into_bytes();
        sealed.extend_from_slice(&seal);
        (self.pending(name, end, next.clone()), encode_b64u(&sealed))
    }

    /// The sign-in of this browser, if the answer belongs to it.
    ///
    /// # Errors
    /// `OIDC_STATE`.
    pub fn open(&self, cookie: &str, state: &str, now: Timestamp) -> Result<Pending, Refusal> {
        let foreign = || stale("it was not begun in this browser, or before the gateway started");
        let bytes = decode_b64u(cookie).map_err(|_| foreign())?;
        if bytes.len() < NAME + END + SEAL {
            return Err(foreign());
        }
        let (sealed, seal) = bytes.split_at(bytes.len() - SEAL);
        // Compares in constant time.
        let verified = self.mac("cookie", sealed).verify_slice(seal);
        verified.map_err(|_| foreign())?;
        let (name, rest) = sealed.split_at(NAME);
        let (end, next) = rest.split_at(END);
        let end = i64::from_be_bytes(end.try_into().expect("eight bytes"));
        let end = Timestamp::from_millis(end);
        let next = Next::read(&String::from_utf8_lossy(next));
        let name = name.try_into().expect("sixteen bytes");
        let pending = self.pending(name, end, next);
        if !bool::from(pending.state.as_bytes().ct_eq(state.as_bytes())) {
            return Err(stale("the answer belongs to another sign-in"));
        }
        if end <= now {
            return Err(stale("it took longer than ten minutes"));
        }
        Ok(pending)
    }

    /// Uses a sign-in up: the second time it is refused.
    ///
    /// # Errors
    /// `OIDC_STATE`; `OVERLOADED` when too many sign in at a time.
    pub fn spend(&self, pending: &Pending, now: Timestamp) -> Result<(), Refusal> {
        if self.spent.add(pending.name, pending.end, now)? {
            Ok(())
        } else {
            Err(stale("it came back before"))
        }
    }

    fn pending(&self, name: [u8; NAME], end: Timestamp, next: Next) -> Pending {
        let derived = |label| encode_b64u(&self.mac(label, &name).finalize().into_bytes());
        Pending {
            name,
            end,
            next,
            state: derived("state"),
            nonce: derived("nonce"),
            verifier: derived("verifier"),
        }
    }

    /// A label never is the beginning of another one's bytes: it ends in a zero.
    fn mac(&self, label: &str, bytes: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("any length is a key");
        mac.update(label.as_bytes());
        mac.update(&[0]);
        mac.update(bytes);
        mac
    }
}

impl Pending {
    /// The verifier's hash, by the method `S256`.
    pub fn challenge(&self) -> String {
        Hash::of(self.verifier.as_bytes()).to_string()
    }
}

fn stale(why: &'static str) -> Refusal {
    Refusal::new(ReasonCode::OidcState, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sign_in_belongs_to_its_browser_for_its_time_and_once() {
        let now = Timestamp::from_seconds(1000);
        let sign_ins = SignIns::default();
        let next = Next::read("trust-pulse/?state=open");
        let (begun, cookie) = sign_ins.begin(&next, now);
        let (other, others) = sign_ins.begin(&next, now);
        let said = |cookie: &str, state: &str, now| match sign_ins.open(cookie, state, now) {
            Ok(pending) => Ok(pending),
            Err(refusal) => Err(refusal.detail.into_owned()),
        };
        let opened = said(&cookie, &begun.state, now).ok().unwrap();
        assert_eq!(opened.next, next);
        assert_eq!(
            (opened.nonce, opened.verifier),
            (begun.nonce.clone(), begun.verifier.clone())
        );
        for (cookie, state, later, says) in [
            (&cookie, &other.state, 0, "another sign-in"),
            (&others, &begun.state, 0, "another sign-in"),
            (&cookie, &begun.nonce, 0, "another sign-in"),
            (
                &cookie,
                &begun.state,
                LIFE_SECONDS,
                "longer than ten minutes",
            ),
            (&String::new(), &begun.state, 0, "not begun in this browser"),
            (
                &"A".repeat(80),
                &begun.state,
                0,
                "not begun in this browser",
            ),
        ] {
            let refused = said(cookie, state, now.plus_seconds(later)).err().unwrap();
            assert!(refused.contains(says), "{refused}");
        }
        let restarted = SignIns::default().open(&cookie, &begun.state, now);
        assert_eq!(restarted.err().unwrap().code, ReasonCode::OidcState);
        for place in 0..cookie.len() {
            let mut changed = cookie.clone().into_bytes();
            changed[place] = if changed[place] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert!(said(&changed, &begun.state, now).is_err(), "{place}");
        }
        let all = [&begun.state, &begun.nonce, &begun.verifier];
        assert!(all.iter().all(|text| text.len() == 43));
        assert!(begun.state != begun.nonce && begun.nonce != begun.verifier);
        assert!(sign_ins.spend(&begun, now).is_ok());
        let again = sign_ins.spend(&begun, now).unwrap_err();
        assert_eq!(again.code, ReasonCode::OidcState);
        assert!(sign_ins.spend(&other, now).is_ok());
    }

    #[test]
    fn the_challenge_is_that_of_the_specification() {
        // RFC 7636, appendix B.
        let (mut pending, _) =
            SignIns::default().begin(&Next::read(""), Timestamp::from_seconds(1));
        pending.verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk".into();
        assert_eq!(
            pending.challenge(),
            "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
        );
    }
}
