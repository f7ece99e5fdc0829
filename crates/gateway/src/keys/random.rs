//! What comes from the system's randomness: keys, credentials, ids.

use proof::{SigningKey, Timestamp};

/// A key from the system's randomness.
pub fn random_key() -> SigningKey {
    SigningKey::from_seed(&zeroize::Zeroizing::new(random_bytes()))
}

/// Bytes from the system's randomness.
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the system has randomness; without it nothing is safe");
    bytes
}

/// A random text of 256 bits, for bearer credentials and capability addresses.
pub fn random_text() -> String {
    proof::hash::encode_b64u(&random_bytes::<32>())
}

/// A random UUID (version 4).
pub fn random_uuid() -> String {
    uuid(random_bytes(), 4)
}

/// A UUID that begins with its time (version 7, RFC 9562), for what is kept under it: new ones
/// stand together at the end of an index, and a commit writes one page of it in place of many.
pub fn timed_uuid(at: Timestamp) -> String {
    let mut bytes = random_bytes::<16>();
    let millis = at.millis().to_be_bytes();
    bytes[..6].copy_from_slice(&millis[2..]);
    uuid(bytes, 7)
}

fn uuid(mut bytes: [u8; 16], version: u8) -> String {
    bytes[6] = (bytes[6] & 0x0f) | (version << 4);
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let number = u128::from_be_bytes(bytes);
    let part = |bits: u32, digits: u32| (number >> bits) & ((1 << (4 * digits)) - 1);
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        part(96, 8),
        part(80, 4),
        part(64, 4),
        part(48, 4),
        part(0, 12)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_are_version_four() {
        let uuid = random_uuid();
        assert_eq!(uuid.len(), 36);
        assert_eq!(&uuid[14..15], "4");
        let dashes: Vec<usize> = uuid.match_indices('-').map(|(at, _)| at).collect();
        assert_eq!(dashes, [8, 13, 18, 23]);
        assert!(matches!(&uuid[19..20], "8" | "9" | "a" | "b"));
        assert_ne!(uuid, random_uuid());
    }

    #[test]
    fn timed_uuids_sort_by_their_time() {
        let at = |millis| timed_uuid(Timestamp::from_millis(millis));
        let (one, two) = (at(0x0123_4567_89ab), at(0x0123_4567_89ac));
        assert!(one.starts_with("01234567-89ab-7"), "{one}");
        assert!(one < two && at(0) < one);
        assert_ne!(one, at(0x0123_4567_89ab));
    }
}
