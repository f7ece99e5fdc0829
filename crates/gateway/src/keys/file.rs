//! Private files: a key on a line, readable by its owner only.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use proof::SigningKey;
use zeroize::Zeroizing;

use super::KeysError;

/// Writes a private key to a new file of mode 0600.
///
/// # Errors
/// [`KeysError::Io`], also when the file exists.
pub fn write_key(path: &Path, key: &SigningKey) -> Result<(), KeysError> {
    write_private(path, key.to_secret_text().as_bytes())
}

/// Writes a new file that only its owner can read.
///
/// # Errors
/// [`KeysError::Io`], also when the file exists.
pub fn write_private(path: &Path, content: &[u8]) -> Result<(), KeysError> {
    let mut line = Zeroizing::new(content.to_vec());
    line.push(b'\n');
    write_private_bytes(path, &line)
}

/// The same without a line's end.
pub(super) fn write_private_bytes(path: &Path, content: &[u8]) -> Result<(), KeysError> {
    let io = |source| KeysError::Io {
        path: path.to_owned(),
        source,
    };
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(io)?;
    file.write_all(content).map_err(io)?;
    file.sync_all().map_err(io)
}

/// Makes a folder that only its owner can enter.
///
/// # Errors
/// [`KeysError::Io`].
pub fn make_private_folder(folder: &Path) -> Result<(), KeysError> {
    let io = |source| KeysError::Io {
        path: folder.to_owned(),
        source,
    };
    fs::create_dir_all(folder).map_err(io)?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).map_err(io)
}

/// Refuses a file that others may read.
pub(super) fn check_private(path: &Path) -> Result<(), KeysError> {
    let metadata = fs::metadata(path).map_err(|source| KeysError::Io {
        path: path.to_owned(),
        source,
    })?;
    match metadata.permissions().mode() & 0o077 {
        0 => Ok(()),
        _ => Err(KeysError::Exposed(path.to_owned())),
    }
}

/// Reads a private key; a file that others may read is refused.
///
/// # Errors
/// See [`KeysError`].
pub fn read_key(path: &Path) -> Result<SigningKey, KeysError> {
    let io = |source| KeysError::Io {
        path: path.to_owned(),
        source,
    };
    check_private(path)?;
    let text = Zeroizing::new(fs::read_to_string(path).map_err(io)?);
    SigningKey::from_secret_text(&text).map_err(|_| KeysError::NotAKey(path.to_owned()))
}
