//! Opening what a vault keeps: for auditors, with their own keys, wherever the files are.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

use age::x25519::Identity;
use policy::configuration::{InspectedUpload, Limits, UploadRefusal, UploadedFile, inspect_upload};
use proof::{Hash, Timestamp};
use zeroize::Zeroizing;

use super::{SEALED, file_name};

/// Largest content that is opened, in bytes; a gateway keeps nothing that large.
pub(super) const MAX_CONTENT_BYTES: u64 = 512 << 20;

/// Largest key file, in bytes; a key is a line.
const MAX_KEY_BYTES: u64 = 64 << 10;

/// Why content was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A file or folder cannot be read or written.
    #[error("cannot use `{path}`")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The vault keeps nothing of this digest.
    #[error("the vault `{folder}` keeps nothing of the digest {digest}")]
    NotKept {
        /// The vault's folder.
        folder: PathBuf,
        /// The digest.
        digest: Hash,
    },
    /// The key file holds no age key.
    #[error("`{0}` holds no age key: a line that begins with AGE-SECRET-KEY-1")]
    NoKey(PathBuf),
    /// It was sealed to other keys.
    #[error("`{0}` is not sealed to this key")]
    OtherKey(PathBuf),
    /// The sealed file was changed or cut off, or is none.
    #[error("`{path}` is damaged: {detail}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// How.
        detail: String,
    },
    /// More than what is unpacked at most.
    #[error("`{0}` holds more than {MAX_CONTENT_BYTES} bytes")]
    TooLarge(PathBuf),
    /// The content is not what its name says.
    #[error("`{path}` holds something else: its digest is {found}")]
    OtherContent {
        /// The file.
        path: PathBuf,
        /// The content's digest.
        found: Hash,
    },
    /// The content is no archive of plain files.
    #[error("the content is no upload: {0}")]
    NotAnUpload(#[source] UploadRefusal),
    /// A path that would lead out of the folder.
    #[error("`{0}` would lead out of the folder")]
    Path(String),
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> OpenError {
    let path = path.to_owned();
    move |source| OpenError::Io { path, source }
}

/// A sealed file in a vault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Digest of the content, by the file's name.
    pub digest: Hash,
    /// Size of the sealed file.
    pub bytes: u64,
    /// When it was sealed.
    pub sealed_at: Timestamp,
}

/// What a vault keeps, oldest first. Files of other names are not its own.
///
/// # Errors
/// [`OpenError::Io`].
pub fn list(folder: &Path) -> Result<Vec<Entry>, OpenError> {
    let mut entries = Vec::new();
    for file in fs::read_dir(folder).map_err(io_error(folder))? {
        let file = file.map_err(io_error(folder))?;
        let path = file.path();
        let Some(digest) = digest_of(&path) else {
            continue;
        };
        let metadata = file.metadata().map_err(io_error(&path))?;
        let modified = metadata.modified().map_err(io_error(&path))?;
        let since = modified.duration_since(std::time::UNIX_EPOCH);
        let millis = since.unwrap_or_default().as_millis();
        entries.push(Entry {
            digest,
            bytes: metadata.len(),
            sealed_at: Timestamp::from_millis(i64::try_from(millis).unwrap_or(i64::MAX)),
        });
    }
    entries.sort_by_key(|entry| (entry.sealed_at, entry.digest));
    Ok(entries)
}

/// The digest of the content that a sealed file keeps, by its name.
pub(super) fn digest_of(path: &Path) -> Option<Hash> {
    let stem = path.file_stem().and_then(|stem| stem.to_str());
    let sealed = path.extension().is_some_and(|end| end == SEALED);
    stem.filter(|_| sealed).and_then(parse_hex)
}

/// Reads a digest as bundles write it (base64url) or as file names do (hexadecimal).
pub fn parse_digest(text: &str) -> Option<Hash> {
    parse_hex(text).or_else(|| text.parse().ok())
}

fn parse_hex(text: &str) -> Option<Hash> {
    let digits = text.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
        let digit = |d: u8| {
            char::from(d)
                .to_digit(16)
                .filter(|_| !d.is_ascii_uppercase())
        };
        let value = digit(pair[0])? * 16 + digit(pair[1])?;
        *byte = u8::try_from(value).ok()?;
    }
    Some(Hash::from_bytes(bytes))
}

/// The keys of a file as `age-keygen` writes it: one on a line, comments after `#`.
///
/// # Errors
/// [`OpenError::Io`], [`OpenError::NoKey`].
pub fn read_keys(path: &Path) -> Result<Vec<Identity>, OpenError> {
    let mut text = Zeroizing::new(String::new());
    File::open(path)
        .and_then(|file| file.take(MAX_KEY_BYTES).read_to_string(&mut text))
        .map_err(io_error(path))?;
    let lines = text.lines().map(str::trim);
    let keys = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    let keys: Option<Vec<Identity>> = keys.map(|line| line.parse().ok()).collect();
    keys.filter(|keys| !keys.is_empty())
        .ok_or_else(|| OpenError::NoKey(path.to_owned()))
}

/// Opens the content of a digest: all of it, and only when it is what its name says.
///
/// # Errors
/// See [`OpenError`].
pub fn open(folder: &Path, digest: &Hash, keys: &[Identity]) -> Result<Vec<u8>, OpenError> {
    let path = folder.join(file_name(digest));
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(OpenError::NotKept {
                folder: folder.to_owned(),
                digest: *digest,
            });
        }
        Err(error) => return Err(io_error(&path)(error)),
    };
    let damaged = |detail: String| OpenError::Damaged {
        path: path.clone(),
        detail,
    };
    let keys = keys.iter().map(|key| key as &dyn age::Identity);
    let opened = age::Decryptor::new_buffered(BufReader::new(file))
        .and_then(|decryptor| decryptor.decrypt(keys));
    let stream = opened.map_err(|error| match error {
        age::DecryptError::NoMatchingKeys => OpenError::OtherKey(path.clone()),
        other => damaged(other.to_string()),
    })?;
    let mut content = Vec::new();
    stream
        .take(MAX_CONTENT_BYTES + 1)
        .read_to_end(&mut content)
        .map_err(|error| damaged(error.to_string()))?;
    if content.len() as u64 > MAX_CONTENT_BYTES {
        return Err(OpenError::TooLarge(path));
    }
    let found = Hash::of(&content);
    if found == *digest {
        Ok(content)
    } else {
        Err(OpenError::OtherContent { path, found })
    }
}

/// The files of an upload, read by the same rules as when it came in: no links, no paths that
/// lead out, no more than there may be.
///
/// # Errors
/// [`OpenError::NotAnUpload`].
pub fn files(content: &[u8]) -> Result<Vec<UploadedFile>, OpenError> {
    // Packed by the gateway, it may be larger than what came in, and compress better.
    let limits = Limits {
        packed: usize::MAX,
        ratio: usize::MAX,
        ..Limits::default()
    };
    let InspectedUpload { files, .. } =
        inspect_upload(content, &limits).map_err(OpenError::NotAnUpload)?;
    Ok(files)
}

/// Writes files into a new folder that only its owner can enter. Nothing that exists is touched.
///
/// # Errors
/// [`OpenError::Io`], also when the folder exists; [`OpenError::Path`].
pub fn unpack(files: &[UploadedFile], folder: &Path) -> Result<(), OpenError> {
    for file in files {
        let plain = |part: Component<'_>| matches!(part, Component::Normal(_));
        if file.path.is_empty() || !Path::new(&file.path).components().all(plain) {
            return Err(OpenError::Path(file.path.clone()));
        }
    }
    let mut private = DirBuilder::new();
    private.mode(0o700);
    private.create(folder).map_err(io_error(folder))?;
    private.recursive(true);
    for file in files {
        let path = folder.join(&file.path);
        if let Some(parent) = path.parent() {
            private.create(parent).map_err(io_error(parent))?;
        }
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .and_then(|mut out| out.write_all(&file.content))
            .map_err(io_error(&path))?;
    }
    Ok(())
}
