//! Checkpoints of the log: C2SP signed notes of (origin, size, root).
//!
//! Format: <https://c2sp.org/tlog-checkpoint> and <https://c2sp.org/signed-note>.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::hash::Hash;
use crate::keys::{PublicKey, Signature, SigningKey};
use crate::unsigned::Unsigned;

/// Note signature type of Ed25519 (signed-note, "Signature types").
const ED25519: u8 = 0x01;

/// Note signature type of a witness's cosignature with a time (tlog-cosignature, version 1).
const COSIGNATURE: u8 = 0x04;

/// Longest note that is read, in bytes; ours are under 400.
const MAX_NOTE_BYTES: usize = 16 * 1024;

/// What a checkpoint says: the log called `origin` had `size` leaves and this root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Unique name of the log, without a scheme.
    pub origin: String,
    /// Number of leaves.
    pub size: u64,
    /// Root of the tree over them.
    pub root: Hash,
}

/// Why a checkpoint is not accepted.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CheckpointError {
    /// Not a note of origin, size and root, or in another spelling than ours.
    #[error("not a checkpoint")]
    Malformed,
    /// A checkpoint of another log.
    #[error("a checkpoint of the log `{0}`")]
    WrongOrigin(String),
    /// No valid signature by the expected key.
    #[error("the checkpoint is not signed by the log's key")]
    Unsigned,
}

impl Checkpoint {
    /// The size that a note claims to be of, whoever signed it: to ask for a proof, and for nothing
    /// else.
    pub fn claimed_size(note: &str) -> Option<u64> {
        note.split('\n').nth(1)?.parse().ok()
    }

    fn body(&self) -> String {
        format!(
            "{}\n{}\n{}\n",
            self.origin,
            self.size,
            STANDARD.encode(self.root.as_bytes())
        )
    }

    /// Writes and signs the note; the key's name is the origin.
    pub fn sign(&self, key: &SigningKey) -> String {
        let body = self.body();
        let signature = key.sign(body.as_bytes());
        note(&body, &self.origin, &key.public(), &signature)
    }

    /// The same for a key that signs elsewhere.
    pub fn unsigned(&self, key: &PublicKey) -> Unsigned<String> {
        let (body, origin, key) = (self.body(), self.origin.clone(), *key);
        let message = body.clone().into_bytes();
        Unsigned::new(message, key, move |signature| {
            note(&body, &origin, &key, &signature)
        })
    }

    /// A witness's line below the note: that it saw this checkpoint, consistent with all that it saw
    /// before, so many seconds after 1970 (<https://c2sp.org/tlog-cosignature>). `name` is the
    /// witness's.
    pub fn cosign(&self, name: &str, key: &SigningKey, seconds: u64) -> String {
        let mut signature = key_id(name, COSIGNATURE, &key.public()).to_vec();
        signature.extend_from_slice(&seconds.to_be_bytes());
        let message = cosigned_message(&self.body(), seconds);
        signature.extend_from_slice(key.sign(message.as_bytes()).as_bytes());
        format!("\u{2014} {name} {}\n", STANDARD.encode(signature))
    }

    /// A note with the signatures of another one below its own: while a key of the log is being
    /// replaced, the old and the new one sign. `None` when they are not of one checkpoint.
    pub fn joined(note: &str, other: &str) -> Option<String> {
        let (head, _) = note.split_once("\n\n")?;
        let (other_head, signatures) = other.split_once("\n\n")?;
        (head == other_head).then(|| format!("{note}{signatures}"))
    }

    /// Reads a note and checks that one of these keys has signed it for the log `origin`.
    ///
    /// # Errors
    /// See [`CheckpointError`].
    pub fn verify_any(
        note: &str,
        origin: &str,
        keys: &[PublicKey],
    ) -> Result<Self, CheckpointError> {
        let mut verified = Err(CheckpointError::Unsigned);
        for key in keys {
            verified = Self::verify(note, origin, key);
            if !matches!(verified, Err(CheckpointError::Unsigned)) {
                break;
            }
        }
        verified
    }

    /// Reads a note and checks that it is signed by `key` for the log `origin`. Signatures of
    /// others may stand beside it.
    ///
    /// # Errors
    /// See [`CheckpointError`].
    pub fn verify(note: &str, origin: &str, key: &PublicKey) -> Result<Self, CheckpointError> {
        if note.len() > MAX_NOTE_BYTES {
            return Err(CheckpointError::Malformed);
        }
        let (head, signatures) = note.split_once("\n\n").ok_or(CheckpointError::Malformed)?;
        let mut lines = head.split('\n');
        let (found, size, root) = match (lines.next(), lines.next(), lines.next(), lines.next()) {
            (Some(origin), Some(size), Some(root), None) => (origin, size, root),
            _ => return Err(CheckpointError::Malformed),
        };
        let root: [u8; 32] = STANDARD
            .decode(root)
            .ok()
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or(CheckpointError::Malformed)?;
        let checkpoint = Self {
            origin: found.to_owned(),
            size: size.parse().map_err(|_| CheckpointError::Malformed)?,
            root: Hash::from_bytes(root),
        };
        let body = checkpoint.body();
        if body != format!("{head}\n") || !signatures.ends_with('\n') {
            return Err(CheckpointError::Malformed);
        }
        if found != origin {
            return Err(CheckpointError::WrongOrigin(found.to_owned()));
        }
        let signed = signatures.split('\n').any(|line| {
            signature_on(line, origin, key)
                .is_some_and(|signature| key.verify(body.as_bytes(), &signature))
        });
        if signed {
            Ok(checkpoint)
        } else {
            Err(CheckpointError::Unsigned)
        }
    }
}

/// The body of a note with the signature below it.
fn note(body: &str, origin: &str, key: &PublicKey, signature: &Signature) -> String {
    let mut line = key_id(origin, ED25519, key).to_vec();
    line.extend_from_slice(signature.as_bytes());
    format!("{body}\n\u{2014} {origin} {}\n", STANDARD.encode(line))
}

/// The signature on a line `— name base64(key id ‖ signature)`, when it is by this key.
fn signature_on(line: &str, name: &str, key: &PublicKey) -> Option<Signature> {
    let rest = line
        .strip_prefix("\u{2014} ")?
        .strip_prefix(name)?
        .strip_prefix(' ')?;
    let bytes = STANDARD.decode(rest).ok()?;
    let id = key_id(name, ED25519, key);
    let signature: [u8; 64] = bytes.strip_prefix(&id)?.try_into().ok()?;
    Some(Signature::from_bytes(signature))
}

/// When the witness with this name and key cosigned a note, in seconds after 1970; `None` when it
/// did not.
pub fn cosigned_at(note: &str, name: &str, key: &PublicKey) -> Option<u64> {
    if note.len() > MAX_NOTE_BYTES {
        return None;
    }
    let (head, signatures) = note.split_once("\n\n")?;
    let body = format!("{head}\n");
    signatures.split('\n').find_map(|line| {
        let rest = line.strip_prefix("\u{2014} ")?.strip_prefix(name)?;
        let bytes = STANDARD.decode(rest.strip_prefix(' ')?).ok()?;
        let bytes = bytes.strip_prefix(&key_id(name, COSIGNATURE, key))?;
        let (seconds, signature) = bytes.split_first_chunk::<8>()?;
        let seconds = u64::from_be_bytes(*seconds);
        let signature = Signature::from_bytes(signature.try_into().ok()?);
        let message = cosigned_message(&body, seconds);
        key.verify(message.as_bytes(), &signature)
            .then_some(seconds)
    })
}

fn cosigned_message(body: &str, seconds: u64) -> String {
    format!("cosignature/v1\ntime {seconds}\n{body}")
}

/// Whether a text can name a key in a note.
pub fn is_key_name(name: &str) -> bool {
    let plain = |c: char| !c.is_whitespace() && !c.is_control() && c != '+';
    !name.is_empty() && name.len() <= 255 && name.chars().all(plain)
}

/// First four bytes of SHA-256(name ‖ LF ‖ type ‖ key).
fn key_id(name: &str, kind: u8, key: &PublicKey) -> [u8; 4] {
    let hash = Hash::of_parts([
        name.as_bytes(),
        b"\n".as_slice(),
        &[kind],
        key.to_bytes().as_slice(),
    ]);
    *hash.as_bytes().first_chunk().expect("a hash has 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORIGIN: &str = "gateway.example/log";

    #[test]
    fn a_cosignature_is_over_the_note_and_its_time() {
        let (key, witness) = (
            SigningKey::from_seed(&[3; 32]),
            SigningKey::from_seed(&[5; 32]),
        );
        let checkpoint = Checkpoint {
            origin: ORIGIN.into(),
            size: 7,
            root: Hash::of(b"r"),
        };
        let (name, public) = ("witness.example/w", witness.public());
        let line = checkpoint.cosign(name, &witness, 1_795_300_000);
        let note = checkpoint.sign(&key) + &line;
        assert!(Checkpoint::verify(&note, ORIGIN, &key.public()).is_ok());
        assert_eq!(cosigned_at(&note, name, &public), Some(1_795_300_000));
        assert_eq!(cosigned_at(&note, "witness.example/x", &public), None);
        let returned = note.strip_suffix('\n').unwrap().to_owned() + "\r\n";
        assert_eq!(cosigned_at(&returned, name, &public), None);
        assert_eq!(cosigned_at(&note, name, &key.public()), None);
        assert_eq!(
            cosigned_at(&note.replacen("\n7\n", "\n8\n", 1), name, &public),
            None
        );
        let plain = checkpoint.sign(&key);
        assert_eq!(cosigned_at(&plain, name, &public), None);
        // A plain signature is no cosignature, and a cosignature none of the log.
        let same = Checkpoint {
            origin: name.into(),
            ..checkpoint.clone()
        };
        assert_eq!(cosigned_at(&same.sign(&witness), name, &public), None);
        let only = plain.split_once("\n\n").unwrap().0.to_owned() + "\n\n" + &line;
        assert!(Checkpoint::verify(&only, ORIGIN, &key.public()).is_err());
        for bad in ["", "a b", "a+b", "a\nb"] {
            assert!(!is_key_name(bad), "{bad}");
        }
    }

    #[test]
    fn two_keys_of_the_log_sign_while_one_replaces_the_other() {
        let keys = [[3; 32], [4; 32], [5; 32]].map(|seed| SigningKey::from_seed(&seed));
        let checkpoint = Checkpoint {
            origin: ORIGIN.into(),
            size: 7,
            root: Hash::of(b"r"),
        };
        let [old, new] = [&keys[0], &keys[1]].map(|key| checkpoint.sign(key));
        let both = Checkpoint::joined(&new, &old).unwrap();
        let [old_key, new_key, third] = keys.each_ref().map(SigningKey::public);
        for key in [old_key, new_key] {
            assert!(Checkpoint::verify(&both, ORIGIN, &key).is_ok());
        }
        for (keys, expected) in [
            (&[third, old_key][..], Ok(checkpoint.clone())),
            (&[third], Err(CheckpointError::Unsigned)),
            (&[], Err(CheckpointError::Unsigned)),
        ] {
            assert_eq!(Checkpoint::verify_any(&both, ORIGIN, keys), expected);
        }
        let later = Checkpoint {
            size: 8,
            ..checkpoint
        };
        assert_eq!(Checkpoint::joined(&new, &later.sign(&keys[0])), None);
    }

    #[test]
    fn only_the_signed_text_is_accepted() {
        let key = SigningKey::from_seed(&[3; 32]);
        let checkpoint = Checkpoint {
            origin: ORIGIN.into(),
            size: 7,
            root: Hash::of(b"r"),
        };
        let note = checkpoint.sign(&key);
        assert_eq!(
            Checkpoint::verify(&note, ORIGIN, &key.public()),
            Ok(checkpoint)
        );

        let witnessed = format!("{note}\u{2014} witness.example AAAAAAAA\n");
        assert!(Checkpoint::verify(&witnessed, ORIGIN, &key.public()).is_ok());

        let other = SigningKey::from_seed(&[4; 32]).public();
        assert_eq!(
            Checkpoint::verify(&note, ORIGIN, &other),
            Err(CheckpointError::Unsigned)
        );
        assert!(Checkpoint::verify(&note, "other.example/log", &key.public()).is_err());
        for (from, to) in [
            ("\n7\n", "\n7\r\n"),
            ("\n\n", "\r\n\r\n"),
            ("\n7\n", "\n8\n"),
            ("\n7\n", "\n07\n"),
            ("\n7\n", "\n+7\n"),
            ("\n\n", "\n"),
        ] {
            let forged = note.replacen(from, to, 1);
            assert!(
                Checkpoint::verify(&forged, ORIGIN, &key.public()).is_err(),
                "{forged}"
            );
        }
        // A line ends in a line feed and in nothing else.
        let returned = note.strip_suffix('\n').unwrap().to_owned() + "\r\n";
        assert_eq!(
            Checkpoint::verify(&returned, ORIGIN, &key.public()),
            Err(CheckpointError::Unsigned)
        );
        assert_eq!(Checkpoint::claimed_size(&note), Some(7));
        assert_eq!(
            Checkpoint::claimed_size(&note.replacen("\n7\n", "\n7\r\n", 1)),
            None
        );
        assert!(Checkpoint::verify("", ORIGIN, &key.public()).is_err());
    }
}
