//! Getting hold of the keys that the configuration names.

use std::path::PathBuf;
use std::time::Duration;

use proof::{Did, SigningKey};
use tokio::time::timeout;

use super::aws_kms::AwsKms;
use super::pkcs11::{self, Pkcs11Place};
use super::remote::{Place, Remote};
use super::sealed::{Unlocked, sealed_name, wants_passphrase};
use super::vault::Vault;
use super::{Keys, KeysError, Signer, make_private_folder, random_key, read_key, write_key};
use crate::config::{Config, FileKind, KeyPlace, KeyPlaces};
use crate::secret::{Secret, SecretSource};
use crate::upstream::HttpClient;

/// Signatures that are asked of one service at a time.
const AT_ONCE: usize = 32;

/// systemd's folder of credentials, and the name of ours in it.
const CREDENTIALS: (&str, &str) = ("CREDENTIALS_DIRECTORY", "clawgate-key-passphrase");

impl Keys {
    /// The keys of a configuration. Whatever signs elsewhere is asked for its public half, and for
    /// a signature over nothing of meaning.
    ///
    /// # Errors
    /// See [`KeysError`].
    pub async fn open(config: &Config, http: &HttpClient) -> Result<Self, KeysError> {
        let files = Files::of(config).await?;
        let opener = Opener {
            settings: &config.keys,
            files,
            http,
        };
        let [receipt, token, checkpoint, close] = config.keys.roles();
        let signers = [
            opener.signer(receipt).await?,
            opener.signer(token).await?,
            opener.signer(checkpoint).await?,
            opener.signer(close).await?,
        ];
        let keys = Self::of(signers, opener.files.read("jobs")?);
        let dids = keys.roles().map(|(_, did)| did);
        let roles = config.keys.roles().map(|(role, _)| role);
        for (n, did) in dids.iter().enumerate() {
            if let Some(first) = dids[..n].iter().position(|other| other == did) {
                return Err(KeysError::Shared(roles[first], roles[n]));
            }
        }
        Ok(keys)
    }

    /// Makes the keys of a configuration that are files and are not there yet.
    ///
    /// # Errors
    /// See [`KeysError`].
    pub async fn make(config: &Config) -> Result<(), KeysError> {
        let folder = config.keys_dir();
        make_private_folder(&folder)?;
        let roles = config.keys.files();
        let sealed = roles.iter().any(|(_, kind)| *kind == FileKind::Age);
        let identity = config.keys.identity_file(&folder);
        if sealed && !identity.exists() {
            let passphrase = passphrase(&config.keys, &identity).await?;
            let passphrase = passphrase.ok_or(KeysError::Passphrase {
                path: identity.clone(),
                reason: "there is none",
            })?;
            Unlocked::create(&identity, &passphrase)?;
        }
        let files = Files::of(config).await?;
        for (role, kind) in roles {
            let path = files.path(role, kind);
            match kind {
                _ if path.exists() => {}
                FileKind::File => write_key(&path, &random_key())?,
                FileKind::Age => files.unlocked(&path)?.seal(&path, &random_key())?,
            }
        }
        Ok(())
    }
}

/// Whether somebody has to be asked for the passphrase of the key files.
///
/// # Errors
/// When the file of identities cannot be read.
pub fn asks_for_passphrase(config: &Config) -> Result<bool, KeysError> {
    let keys = &config.keys;
    let sealed = keys.files().iter().any(|(_, kind)| *kind == FileKind::Age);
    let given = keys.passphrase.is_some() || keys.typed.is_some() || of_systemd().is_some();
    Ok(sealed && !given && wants_passphrase(&keys.identity_file(&config.keys_dir()))?)
}

/// The key files of a configuration.
struct Files {
    folder: PathBuf,
    roles: Vec<(&'static str, FileKind)>,
    unlocked: Option<Unlocked>,
}

impl Files {
    async fn of(config: &Config) -> Result<Self, KeysError> {
        let folder = config.keys_dir();
        let roles = config.keys.files();
        let sealed = roles.iter().any(|(_, kind)| *kind == FileKind::Age);
        let unlocked = match sealed {
            false => None,
            true => {
                let identity = config.keys.identity_file(&folder);
                let passphrase = match wants_passphrase(&identity)? {
                    true => passphrase(&config.keys, &identity).await?,
                    false => None,
                };
                // Half a second of one processor.
                let unlocking = tokio::task::spawn_blocking(move || {
                    Unlocked::read(&identity, passphrase.as_ref())
                });
                Some(unlocking.await.expect("it is not cancelled")?)
            }
        };
        Ok(Self {
            folder,
            roles,
            unlocked,
        })
    }

    fn path(&self, role: &str, kind: FileKind) -> PathBuf {
        self.folder.join(match kind {
            FileKind::File => format!("{role}.key"),
            FileKind::Age => sealed_name(role),
        })
    }

    fn unlocked(&self, path: &std::path::Path) -> Result<&Unlocked, KeysError> {
        let unlocked = self.unlocked.as_ref();
        unlocked.ok_or_else(|| KeysError::NoIdentity(path.to_owned()))
    }

    fn read(&self, role: &str) -> Result<SigningKey, KeysError> {
        let known = self.roles.iter().find(|(own, _)| *own == role);
        let kind = known.map_or(FileKind::File, |(_, kind)| *kind);
        let path = self.path(role, kind);
        match kind {
            FileKind::File => read_key(&path),
            FileKind::Age => self.unlocked(&path)?.open(&path),
        }
    }
}

/// The passphrase: what was typed, or where the configuration says that it is, or the credential
/// that systemd gave.
async fn passphrase(
    settings: &KeyPlaces,
    identity: &std::path::Path,
) -> Result<Option<Secret>, KeysError> {
    if let Some(typed) = &settings.typed {
        return Ok(Some(typed.clone()));
    }
    let Some(source) = settings.passphrase.clone().or_else(of_systemd) else {
        return Ok(None);
    };
    let fetched = source.fetch_passphrase().await;
    fetched.map(Some).map_err(|source| KeysError::Secret {
        path: identity.to_owned(),
        source,
    })
}

fn of_systemd() -> Option<SecretSource> {
    let (folder, name) = CREDENTIALS;
    let file = PathBuf::from(std::env::var_os(folder)?).join(name);
    file.exists().then_some(SecretSource::File(file))
}

struct Opener<'a> {
    settings: &'a KeyPlaces,
    files: Files,
    http: &'a HttpClient,
}

impl Opener<'_> {
    async fn signer(
        &self,
        (role, place): (&'static str, Option<&KeyPlace>),
    ) -> Result<Signer, KeysError> {
        let elsewhere = |reason: String| KeysError::Unusable { role, reason };
        let http = || self.http.clone();
        let remote = match place {
            None | Some(KeyPlace::File(_) | KeyPlace::Age(_)) => {
                return Ok(self.files.read(role)?.into());
            }
            Some(KeyPlace::Pkcs11(key)) => {
                let opening = self.in_time(Pkcs11Place::connect(key)).await;
                let (place, found) = opening.map_err(elsewhere)?;
                self.remote(role, place, found, key.did.as_ref(), pkcs11::WORKERS)?
            }
            Some(KeyPlace::AwsKms(key)) => {
                let opening = self.in_time(AwsKms::connect(key, http())).await;
                let (place, found) = opening.map_err(elsewhere)?;
                self.remote(role, place, found, key.did.as_ref(), AT_ONCE)?
            }
            Some(KeyPlace::Vault(key)) => {
                let opening = self.in_time(Vault::connect(key, http())).await;
                let (place, found) = opening.map_err(elsewhere)?;
                self.remote(role, place, found, key.did.as_ref(), AT_ONCE)?
            }
        };
        let signer = Signer::from(remote);
        let probed = signer.probe().await;
        probed.map_err(|error| elsewhere(error.to_string()))?;
        Ok(signer)
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(self.settings.sign_timeout_seconds)
    }

    async fn in_time<T>(
        &self,
        opening: impl Future<Output = Result<T, String>>,
    ) -> Result<T, String> {
        let seconds = self.settings.sign_timeout_seconds;
        let opened = timeout(self.patience(), opening).await;
        opened.unwrap_or_else(|_| Err(format!("no answer within {seconds} s")))
    }

    /// The key there must be the one that the configuration names.
    fn remote(
        &self,
        role: &'static str,
        place: impl Place + 'static,
        found: Did,
        wanted: Option<&Did>,
        at_once: usize,
    ) -> Result<Remote, KeysError> {
        let name = place.name();
        match wanted {
            Some(did) if *did == found => Ok(Remote::new(place, found, self.patience(), at_once)),
            Some(did) => Err(KeysError::Replaced {
                role,
                name,
                found,
                wanted: did.clone(),
            }),
            None => Err(KeysError::Unnamed { role, name, found }),
        }
    }
}
