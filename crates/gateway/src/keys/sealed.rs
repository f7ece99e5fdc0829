//! Key files that are sealed by age, and the identities that open them.
//!
//! A passphrase opens one file, `identity.age`, once; what is in it opens the keys. So five keys
//! cost one derivation, and a passphrase is changed without touching a key.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use age::secrecy::{ExposeSecret as _, SecretString};
use age::x25519::{Identity, Recipient};
use proof::{SigningKey, Timestamp};
use zeroize::Zeroizing;

use super::file::{check_private, make_private_folder, read_key, write_key, write_private_bytes};
use super::sets::write_first;
use super::{FILES as ROLES, Keys, KeysError, Signer, random_key};
use crate::secret::Secret;

/// Logarithm of scrypt's cost when a passphrase is set: 128 MiB and some tenths of a second (the
/// least that OWASP recommends).
const WORK_FACTOR: u8 = 17;

/// The highest that is worked through when a file is opened: one of others' making must not take
/// all memory.
const MAX_WORK_FACTOR: u8 = 20;

/// Largest file of identities, in bytes; ours is under 300.
const MAX_IDENTITY_BYTES: u64 = 64 << 10;

/// Largest sealed key, in bytes; ours are under 300.
const MAX_KEY_BYTES: u64 = 4 << 10;

/// How every sealed file begins.
const MAGIC: &[u8] = b"age-encryption.org/";

/// The file of identities in the keys folder.
pub const IDENTITY: &str = "identity.age";

/// The root of the key sets, which is not sealed.
pub const ROOT: &str = "keyset.key";

/// The name of a sealed key's file.
pub fn sealed_name(role: &str) -> String {
    format!("{role}.key.age")
}

/// Whether a file of identities asks for a passphrase.
///
/// # Errors
/// [`KeysError::Io`], [`KeysError::Exposed`].
pub fn wants_passphrase(file: &Path) -> Result<bool, KeysError> {
    Ok(read(file, MAX_IDENTITY_BYTES)?.starts_with(MAGIC))
}

/// What opens sealed keys.
pub struct Unlocked(Vec<Identity>);

impl Unlocked {
    /// Reads a file of identities. Takes a while when it is under a passphrase.
    ///
    /// # Errors
    /// [`KeysError::Passphrase`] when the passphrase is missing or wrong, and those of reading.
    pub fn read(file: &Path, passphrase: Option<&Secret>) -> Result<Self, KeysError> {
        let bytes = read(file, MAX_IDENTITY_BYTES)?;
        let text = match bytes.starts_with(MAGIC) {
            false => bytes,
            true => {
                let refused = |reason| KeysError::Passphrase {
                    path: file.to_owned(),
                    reason,
                };
                let passphrase = passphrase.ok_or(refused("there is none"))?;
                let passphrase = SecretString::from(passphrase.expose().to_owned());
                let mut identity = age::scrypt::Identity::new(passphrase);
                identity.set_max_work_factor(MAX_WORK_FACTOR);
                let opened = decrypt(&bytes, &[&identity]);
                opened.map_err(|error| match error {
                    age::DecryptError::ExcessiveWork { .. } => {
                        refused("it was made too costly to check")
                    }
                    age::DecryptError::NoMatchingKeys => {
                        refused("the file is not under a passphrase")
                    }
                    _ => refused("it is wrong, or the file is damaged"),
                })?
            }
        };
        let text = std::str::from_utf8(&text).unwrap_or_default();
        let lines = text.lines().map(str::trim);
        let keys = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        let keys: Option<Vec<Identity>> = keys.map(|line| line.parse().ok()).collect();
        let keys = keys.filter(|keys| !keys.is_empty());
        keys.map(Self)
            .ok_or_else(|| KeysError::NoIdentity(file.to_owned()))
    }

    /// Makes an identity and writes it under a passphrase into a new file.
    ///
    /// # Errors
    /// [`KeysError::Io`], also when the file exists.
    pub fn create(file: &Path, passphrase: &Secret) -> Result<Self, KeysError> {
        let identity = Identity::generate();
        let mut recipient =
            age::scrypt::Recipient::new(SecretString::from(passphrase.expose().to_owned()));
        recipient.set_work_factor(WORK_FACTOR);
        let text = identity.to_string();
        let sealed = age::encrypt(&recipient, text.expose_secret().as_bytes());
        let sealed = sealed.expect("memory takes what is written to it");
        write_private_bytes(file, &sealed)?;
        Ok(Self(vec![identity]))
    }

    /// Whom new keys are sealed to.
    pub fn recipient(&self) -> Recipient {
        self.0.first().expect("there is one at least").to_public()
    }

    /// Opens a key's file.
    ///
    /// # Errors
    /// [`KeysError::OtherIdentity`], [`KeysError::NotAKey`], and those of reading.
    pub fn open(&self, path: &Path) -> Result<SigningKey, KeysError> {
        let bytes = read(path, MAX_KEY_BYTES)?;
        let identities: Vec<&dyn age::Identity> =
            self.0.iter().map(|key| key as &dyn age::Identity).collect();
        let opened = decrypt(&bytes, &identities).map_err(|error| match error {
            age::DecryptError::NoMatchingKeys => KeysError::OtherIdentity(path.to_owned()),
            _ => KeysError::NotAKey(path.to_owned()),
        })?;
        let text = std::str::from_utf8(&opened).unwrap_or_default();
        SigningKey::from_secret_text(text).map_err(|_| KeysError::NotAKey(path.to_owned()))
    }

    /// Writes a key into a new sealed file.
    ///
    /// # Errors
    /// [`KeysError::Io`], also when the file exists.
    pub fn seal(&self, path: &Path, key: &SigningKey) -> Result<(), KeysError> {
        let sealed = age::encrypt(&self.recipient(), key.to_secret_text().as_bytes());
        write_private_bytes(path, &sealed.expect("memory takes what is written to it"))
    }
}

/// Makes the keys of all roles in a folder, sealed under a passphrase. The root of the key sets is
/// made with them as a plain file, for its owner to take away: the gateway never reads it.
///
/// # Errors
/// See [`KeysError`].
pub fn create_sealed(folder: &Path, passphrase: &Secret, now: Timestamp) -> Result<(), KeysError> {
    make_private_folder(folder)?;
    let identity = folder.join(IDENTITY);
    let new = !identity.exists();
    let unlocked = match identity.exists() {
        true => Unlocked::read(&identity, Some(passphrase))?,
        false => Unlocked::create(&identity, passphrase)?,
    };
    for role in ROLES {
        let path = folder.join(sealed_name(role));
        if !path.exists() {
            unlocked.seal(&path, &random_key())?;
        }
    }
    if new {
        let open = |role: &str| unlocked.open(&folder.join(sealed_name(role)));
        let signer = |role| open(role).map(Signer::from);
        let [receipt, token, checkpoint, close, jobs] = ROLES;
        let signers = [
            signer(receipt)?,
            signer(token)?,
            signer(checkpoint)?,
            signer(close)?,
        ];
        write_key(&folder.join(ROOT), &random_key())?;
        write_first(&Keys::of(signers, open(jobs)?), folder, now)?;
    }
    Ok(())
}

/// Seals the keys of a folder that lie there as they are, and takes the plain files away once the
/// sealed ones are there. Broken off, it can be run again.
///
/// # Errors
/// See [`KeysError`].
pub fn seal_all(folder: &Path, identity: &Path, passphrase: &Secret) -> Result<usize, KeysError> {
    let unlocked = match identity.exists() {
        true => Unlocked::read(identity, Some(passphrase))?,
        false => Unlocked::create(identity, passphrase)?,
    };
    let mut plain = Vec::new();
    for role in ROLES {
        let (from, to) = (
            folder.join(format!("{role}.key")),
            folder.join(sealed_name(role)),
        );
        if !from.exists() {
            continue;
        }
        let key = read_key(&from)?;
        if !to.exists() {
            unlocked.seal(&to, &key)?;
        }
        // What was written opens to the same key before the plain one goes.
        if unlocked.open(&to)?.did() != key.did() {
            return Err(KeysError::OtherIdentity(to));
        }
        plain.push(from);
    }
    for path in &plain {
        fs::remove_file(path).map_err(|source| KeysError::Io {
            path: path.clone(),
            source,
        })?;
    }
    Ok(plain.len())
}

fn decrypt(
    bytes: &[u8],
    identities: &[&dyn age::Identity],
) -> Result<Zeroizing<Vec<u8>>, age::DecryptError> {
    let opened = age::Decryptor::new_buffered(bytes)?;
    let stream = opened.decrypt(identities.iter().copied())?;
    // With room for all of it, so that no part is left behind when it grows.
    let mut content = Zeroizing::new(Vec::with_capacity(bytes.len()));
    stream
        .take(MAX_IDENTITY_BYTES)
        .read_to_end(&mut content)
        .map_err(age::DecryptError::Io)?;
    Ok(content)
}

fn read(path: &Path, most: u64) -> Result<Zeroizing<Vec<u8>>, KeysError> {
    check_private(path)?;
    let io = |source| KeysError::Io {
        path: PathBuf::from(path),
        source,
    };
    let file = fs::File::open(path).map_err(io)?;
    // With room for all of it, so that no part is left behind when it grows.
    let mut bytes = Zeroizing::new(Vec::with_capacity(most as usize + 1));
    file.take(most + 1).read_to_end(&mut bytes).map_err(io)?;
    match bytes.len() as u64 > most {
        true => Err(KeysError::NotAKey(path.to_owned())),
        false => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::super::random_key;
    use super::*;

    #[test]
    fn a_sealed_key_opens_under_its_passphrase_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name);
        let secret = |text: &str| Secret::new(text.to_owned());
        let identity = file("identity.age");
        let unlocked = Unlocked::create(&identity, &secret("correct horse")).unwrap();
        let key = random_key();
        unlocked.seal(&file("receipt.key.age"), &key).unwrap();
        assert!(wants_passphrase(&identity).unwrap());
        for name in ["identity.age", "receipt.key.age"] {
            let mode = fs::metadata(file(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
            let bytes = fs::read(file(name)).unwrap();
            let text = key.to_secret_text();
            assert!(!bytes.windows(43).any(|w| w == text.as_bytes()));
        }
        let again = Unlocked::read(&identity, Some(&secret("correct horse"))).unwrap();
        assert_eq!(
            again.open(&file("receipt.key.age")).unwrap().did(),
            key.did()
        );
        for passphrase in [None, Some(secret("battery staple"))] {
            let refused = Unlocked::read(&identity, passphrase.as_ref());
            assert!(matches!(refused, Err(KeysError::Passphrase { .. })));
        }
        // An identity as age-keygen writes it, and keys that are sealed to another one.
        let plain = Identity::generate();
        let text = format!("# made by hand\n{}\n", plain.to_string().expose_secret());
        write_private_bytes(&file("plain.txt"), text.as_bytes()).unwrap();
        assert!(!wants_passphrase(&file("plain.txt")).unwrap());
        let other = Unlocked::read(&file("plain.txt"), None).unwrap();
        assert!(matches!(
            other.open(&file("receipt.key.age")),
            Err(KeysError::OtherIdentity(_))
        ));
        write_private_bytes(&file("broken.key.age"), b"hello").unwrap();
        assert!(matches!(
            other.open(&file("broken.key.age")),
            Err(KeysError::NotAKey(_))
        ));
        fs::set_permissions(&identity, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(
            wants_passphrase(&identity),
            Err(KeysError::Exposed(_))
        ));
    }
}
