//! Where the gateway's own keys are.

use std::path::{Path, PathBuf};

use proof::Did;
use serde::{Deserialize, Serialize};

use super::{ConfigError, is_local};
use crate::secret::{Secret, SecretSource};

/// The gateway's own keys: files in the keys folder, unless something else is said of a role.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KeyPlaces {
    /// How the files are kept of roles that have no table of their own.
    pub kind: FileKind,
    /// The age identities that open sealed key files; itself plain or under a passphrase.
    /// `identity.age` in the keys folder when it is not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity_file: Option<PathBuf>,
    /// The passphrase of that file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub passphrase: Option<SecretSource>,
    /// What was typed at the terminal in its place.
    #[serde(skip)]
    pub(crate) typed: Option<Secret>,
    /// Seconds that a signer elsewhere has for a signature, waiting for its turn included.
    pub sign_timeout_seconds: u64,
    /// Signs receipts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receipt: Option<KeyPlace>,
    /// Signs scoped tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<KeyPlace>,
    /// Signs checkpoints of the log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<KeyPlace>,
    /// Signs the end of jobs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub close: Option<KeyPlace>,
    /// The jobs' own keys are derived from it, so it is always a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jobs: Option<FilePlace>,
}

impl Default for KeyPlaces {
    fn default() -> Self {
        Self {
            kind: FileKind::File,
            identity_file: None,
            passphrase: None,
            typed: None,
            sign_timeout_seconds: 5,
            receipt: None,
            token: None,
            checkpoint: None,
            close: None,
            jobs: None,
        }
    }
}

/// How a key file is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileKind {
    /// As it is, readable by its owner only: `NAME.key`.
    File,
    /// Sealed by age: `NAME.key.age`.
    Age,
}

/// A key that is a file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilePlace {
    /// How it is kept.
    pub kind: FileKind,
}

/// Where a role's key is.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum KeyPlace {
    /// A file as it is.
    File(Plain),
    /// A file that is sealed.
    Age(Plain),
    /// A module with the interface PKCS#11: a security module, a smart card, `SoftHSM`.
    Pkcs11(Pkcs11Key),
    /// AWS KMS.
    AwsKms(AwsKmsKey),
    /// The transit engine of a `HashiCorp` Vault.
    Vault(VaultKey),
}

/// Nothing more is to be said.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plain {}

/// An Ed25519 key in a module.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pkcs11Key {
    /// The module's library, such as `/usr/lib/softhsm/libsofthsm2.so`.
    pub module: PathBuf,
    /// The token's label.
    pub token_label: String,
    /// The label of the private key on it (`CKA_LABEL`).
    pub key_label: String,
    /// The user's PIN.
    pub pin: SecretSource,
    /// The public half, so that nobody can put another key in its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub did: Option<Did>,
}

/// A key of the spec `ECC_NIST_EDWARDS25519`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AwsKmsKey {
    /// Id or ARN of the key, or an alias.
    pub key_id: String,
    /// Its region.
    pub region: String,
    /// The service's address, when it is not `https://kms.REGION.amazonaws.com`: a VPC endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// A file of credentials as AWS's tools write it, read anew for each signature; the
    /// environment's `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and `AWS_SESSION_TOKEN` otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_file: Option<PathBuf>,
    /// The profile in that file; `default` when it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// The public half, so that nobody can put another key in its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub did: Option<Did>,
}

/// A key of the type `ed25519`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VaultKey {
    /// Address of the Vault.
    pub address: String,
    /// Where the transit engine is mounted; `transit` when it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mount: Option<String>,
    /// Name of the key.
    pub key_name: String,
    /// A token that may read the key and sign with it. Fetched anew when it is refused.
    pub vault_token: SecretSource,
    /// The namespace, of a Vault that has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The public half, so that nobody can put another key in its place. It also says which
    /// version of the key signs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub did: Option<Did>,
}

impl KeyPlaces {
    /// The roles that sign, with what is said of each.
    pub fn roles(&self) -> [(&'static str, Option<&KeyPlace>); 4] {
        [
            ("receipt", self.receipt.as_ref()),
            ("token", self.token.as_ref()),
            ("checkpoint", self.checkpoint.as_ref()),
            ("close", self.close.as_ref()),
        ]
    }

    /// The roles whose keys are files here, and how they are kept.
    pub fn files(&self) -> Vec<(&'static str, FileKind)> {
        let jobs = self.jobs.as_ref().map_or(self.kind, |place| place.kind);
        let signing = self.roles().into_iter().filter_map(|(role, place)| {
            Some(match place {
                None => (role, self.kind),
                Some(KeyPlace::File(_)) => (role, FileKind::File),
                Some(KeyPlace::Age(_)) => (role, FileKind::Age),
                Some(_) => return None,
            })
        });
        signing.chain([("jobs", jobs)]).collect()
    }

    /// The identities that open sealed key files.
    pub fn identity_file(&self, keys_dir: &Path) -> PathBuf {
        let given = self.identity_file.clone();
        given.unwrap_or_else(|| keys_dir.join(crate::keys::IDENTITY))
    }

    pub(super) fn resolve_against(&mut self, folder: &Path) {
        if let Some(file) = &mut self.identity_file {
            *file = folder.join(&file);
        }
        if let Some(secret) = &mut self.passphrase {
            secret.resolve_against(folder);
        }
        let roles = [
            &mut self.receipt,
            &mut self.token,
            &mut self.checkpoint,
            &mut self.close,
        ];
        for place in roles.into_iter().flatten() {
            match place {
                KeyPlace::File(_) | KeyPlace::Age(_) => {}
                KeyPlace::Pkcs11(key) => {
                    key.module = folder.join(&key.module);
                    key.pin.resolve_against(folder);
                }
                KeyPlace::AwsKms(key) => {
                    if let Some(file) = &mut key.credentials_file {
                        *file = folder.join(&file);
                    }
                }
                KeyPlace::Vault(key) => key.vault_token.resolve_against(folder),
            }
        }
    }

    /// Refuses what cannot be right.
    ///
    /// # Errors
    /// [`ConfigError::Value`].
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        self.check_loads(names::STATIC)?;
        let refuse = |message: String| Err(ConfigError::Value(message));
        if !(1..=60).contains(&self.sign_timeout_seconds) {
            return refuse("keys.sign_timeout_seconds must be 1 to 60".to_owned());
        }
        for (role, place) in self.roles() {
            match place {
                Some(KeyPlace::AwsKms(key)) => {
                    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
                    if key.region.is_empty() || !key.region.chars().all(plain) {
                        return refuse(format!("keys.{role}.region `{}` is none", key.region));
                    }
                    if let Some(url) = &key.endpoint {
                        check_url(&format!("keys.{role}.endpoint"), url)?;
                    }
                    if key.profile.is_some() && key.credentials_file.is_none() {
                        return refuse(format!(
                            "keys.{role}.profile is a profile of keys.{role}.credentials_file, \
                             which is missing"
                        ));
                    }
                }
                Some(KeyPlace::Vault(key)) => {
                    check_url(&format!("keys.{role}.address"), &key.address)?;
                    let mount = key.mount.as_deref().unwrap_or("transit");
                    for (name, text) in [("mount", mount), ("key_name", &key.key_name)] {
                        if !is_path(text) {
                            return refuse(format!(
                                "keys.{role}.{name} `{text}` must be letters, digits, `.`, `-`, \
                                 `_`, and `/` between"
                            ));
                        }
                    }
                }
                Some(KeyPlace::File(_) | KeyPlace::Age(_) | KeyPlace::Pkcs11(_)) | None => {}
            }
        }
        Ok(())
    }

    /// Refuses modules in a program that can load none.
    fn check_loads(&self, is_static: bool) -> Result<(), ConfigError> {
        let is_module = |place: &KeyPlace| matches!(place, KeyPlace::Pkcs11(_));
        let roles = self.roles().into_iter();
        let mut modules = roles.filter(|(_, place)| place.is_some_and(is_module));
        match modules.next().filter(|_| is_static) {
            Some((role, _)) => Err(ConfigError::Value(format!("keys.{role} {NO_MODULES}"))),
            None => Ok(()),
        }
    }
}

/// Why a static program has no keys in modules, and what has.
pub(crate) const NO_MODULES: &str = "is in a PKCS#11 module, and this is the static build of \
    `clawgate`, which loads no modules: take the build from the archive whose name does not end in \
    `-static`";

/// Whether a text can stand in a path as it is.
fn is_path(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    text.split('/')
        .all(|part| !part.is_empty() && part.chars().all(plain) && !part.starts_with('.'))
}

/// An address without a path, over TLS unless it is this machine's.
fn check_url(name: &str, url: &str) -> Result<(), ConfigError> {
    let refuse = |why: &str| Err(ConfigError::Value(format!("{name} `{url}` {why}")));
    let Ok(parsed) = url.parse::<http::Uri>() else {
        return refuse("is not an address");
    };
    match parsed.scheme_str() {
        Some("https") => {}
        Some("http") if is_local(parsed.host().unwrap_or_default()) => {}
        _ => return refuse("must begin with https://, or be this machine's own"),
    }
    if url.ends_with('/') || parsed.path() != "/" || parsed.query().is_some() {
        return refuse("has no path, and no slash at its end");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_static_program_has_no_keys_in_modules() {
        let read = |text: &str| toml::from_str::<KeyPlaces>(text).unwrap();
        let module = "[checkpoint]\nkind = 'pkcs11'\nmodule = 'm.so'\ntoken_label = 't'\n\
                      key_label = 'k'\npin = { file = 'pin' }";
        let said = read(module).check_loads(true).unwrap_err().to_string();
        assert!(
            said.contains("keys.checkpoint is in a PKCS#11 module"),
            "{said}"
        );
        assert!(said.contains("does not end in `-static`"), "{said}");
        read(module).check_loads(false).unwrap();
        for elsewhere in ["", "kind = 'age'", "[token]\nkind = 'age'"] {
            read(elsewhere).check_loads(true).unwrap();
        }
    }
}
