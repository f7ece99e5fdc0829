//! `clawgate init`: a new set-up that only needs its credentials to be named.
//!
//! The order is such that a broken-off `init` can simply be run again: keys that exist are kept,
//! the first operator is made once, and the configuration, which says that all is there, is
//! written last.

use std::path::{Path, PathBuf};

use clap::Args;
use store::Seat;
use zeroize::Zeroizing;

use super::Failure;
use super::operator;
use super::passphrase::KeyPassphrase;
use super::term::{BOLD, GOOD, OFF, WARN};
use crate::app::now;
use crate::config::Config;
use crate::keys::{self, Keys};
use crate::operator::credential::Role;
use crate::secret::Secret;
use crate::storage::Place;

/// Name of the configuration file.
pub const CONFIG_FILE: &str = "clawgate.toml";

/// Folder of the store, the keys and the bundles, beside the configuration.
const DATA_DIR: &str = "data";

/// Where `--save` leaves the first credential, under the data folder.
const CREDENTIAL_FILE: &str = "operator.credential";

/// Name of the first operator.
const FIRST_OPERATOR: &str = "admin";

/// What a new configuration says, with comments.
const TEMPLATE: &str = include_str!("clawgate.toml");

/// What the template says of sealed keys, as a comment.
const SEALED_KEYS: &str = "# [keys]\n# kind = \"age\"\n";

/// Makes a configuration, keys, a store and the first operator credential
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  clawgate init --dir gateway
  clawgate init --dir gateway --save     also keeps the credential in gateway/data
  clawgate init --dir gateway --encrypt-keys
  clawgate init --config /etc/clawgate/clawgate.toml

The last is for packages, whose configuration comes from elsewhere: it makes the keys and the store
that the configuration lacks and no operator, and can be run before each start.

Nothing that exists is overwritten. The credential is shown once; the gateway keeps its hash.")]
pub struct Init {
    /// Folder to set up; it is made when it is not there
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// Save the first credential to DIR/data/operator.credential, readable by you only
    #[arg(long)]
    save: bool,
    /// Make only what this configuration lacks
    #[arg(long, value_name = "FILE", conflicts_with_all = ["dir", "save", "encrypt_keys"])]
    config: Option<PathBuf>,
    /// Seal the gateway's keys under a passphrase (age), which each start asks for
    #[arg(long)]
    encrypt_keys: bool,
    #[command(flatten)]
    passphrase: KeyPassphrase,
}

/// What was made.
#[derive(Debug)]
pub struct Initialized {
    /// The configuration file.
    pub config: PathBuf,
    /// The first operator's credential; `None` when there was an operator before.
    pub credential: Option<Zeroizing<String>>,
}

impl Init {
    pub(super) async fn run(self) -> Result<(), Failure> {
        if let Some(file) = &self.config {
            let mut config = Config::load(file)?;
            self.passphrase.supply(&mut config)?;
            make_folders(&config.data_dir)?;
            Keys::make(&config).await?;
            let place = Place::of(&config)
                .await
                .map_err(|error| Failure::new(format!("{error:#}")))?;
            if place.open(Seat::Beside)?.operators().await?.is_empty() {
                let file = file.display();
                anstream::eprintln!(
                    "there is no operator yet: clawgate operator add NAME --role admin --config {file}"
                );
            }
            return Ok(());
        }
        let sealed = match self.encrypt_keys {
            true => Some(self.passphrase.set().await?),
            false => None,
        };
        let made = init(&self.dir, sealed.as_ref()).await?;
        let data = self.dir.join(DATA_DIR);
        anstream::eprintln!("{GOOD}made{OFF} {}", made.config.display());
        anstream::eprintln!(
            "{GOOD}made{OFF} {} (keys and store, yours only)",
            data.display()
        );
        match &made.credential {
            Some(credential) => {
                anstream::eprintln!("\n{BOLD}The first operator credential, shown this once:{OFF}");
                anstream::println!("{}", **credential);
                if self.save {
                    let file = data.join(CREDENTIAL_FILE);
                    keys::write_private(&file, credential.as_bytes())?;
                    anstream::eprintln!("saved to {}", file.display());
                }
            }
            None => anstream::eprintln!(
                "there is an operator already; `clawgate operator add` makes more"
            ),
        }
        if self.encrypt_keys {
            warn_of_root(&data.join("keys"));
        }
        let config = made.config.display();
        anstream::eprintln!(
            "\n{BOLD}Next:{OFF}
  1. Make a team or project token in Terraform Cloud that reaches only the agents' workspaces,
     and say in {config} where it is kept: a file, a variable or a command.
  2. clawgate key new author.key       its did:key goes under [[authors]]
     clawgate key new approver.key     its did:key goes under [[approvers]], with the address
  3. clawgate doctor --config {config}
  4. clawgate serve --config {config}
  5. clawgate policy publish contract.json --author-key author.key"
        );
        Ok(())
    }
}

/// Says of a folder with sealed keys that one in it is not.
pub(super) fn warn_of_root(keys: &Path) {
    let root = keys.join(keys::ROOT);
    if root.exists() {
        anstream::eprintln!(
            "{WARN}not sealed{OFF} {}: the root of the keys, which the gateway never reads; take it to \
             where whoever runs the gateway cannot get it",
            root.display()
        );
    }
}

/// Sets up a folder, with keys that are sealed when there is a passphrase for them.
///
/// # Errors
/// When it is set up already, or cannot be written.
pub async fn init(dir: &Path, sealed: Option<&Secret>) -> Result<Initialized, Failure> {
    let config = dir.join(CONFIG_FILE);
    if config.exists() {
        return Err(Failure::new(format!(
            "`{}` is there already; nothing was changed",
            config.display()
        ))
        .next(format!(
            "clawgate doctor --config {}, or another --dir",
            config.display()
        )));
    }
    let io = |what: &Path, error: std::io::Error| {
        Failure::new(format!("cannot make `{}`: {error}", what.display()))
    };
    std::fs::create_dir_all(dir).map_err(|error| io(dir, error))?;
    let data = dir.join(DATA_DIR);
    make_folders(&data)?;
    match sealed {
        None => make_keys(&data.join("keys"))?,
        Some(passphrase) => keys::create_sealed(&data.join("keys"), passphrase, now())?,
    }
    let store = store::open_sqlite(&data.join("clawgate.db"))?;
    let credential = if store.operators().await?.is_empty() {
        Some(operator::add(&*store, FIRST_OPERATOR, None, &[Role::Admin]).await?)
    } else {
        None
    };
    let mut text = TEMPLATE.replace("@GATEWAY_ID@", &gateway_id());
    if sealed.is_some() {
        text = text.replace(SEALED_KEYS, &SEALED_KEYS.replace("# ", ""));
    }
    write_new(&config, &text).map_err(|error| io(&config, error))?;
    Ok(Initialized { config, credential })
}

/// New keys as files, with the first key set, so that its root can be taken away before the first
/// start.
fn make_keys(folder: &Path) -> Result<(), Failure> {
    let new = !folder.exists();
    let made = Keys::create(folder)?;
    if new {
        keys::write_first(&made, folder, now())?;
    }
    Ok(())
}

/// The folders that the gateway keeps its own in.
fn make_folders(data: &Path) -> Result<(), Failure> {
    keys::make_private_folder(data)?;
    keys::make_private_folder(&data.join("bundles"))?;
    Ok(())
}

/// A name that no other gateway has; the operator may choose a nicer one before the first token.
fn gateway_id() -> String {
    format!("clawgate-{}", &keys::random_uuid()[..8])
}

fn write_new(path: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write;
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use proof::Hash;

    use super::*;
    use crate::operator::credential::PREFIX;

    #[tokio::test]
    async fn a_new_set_up_loads_and_keeps_only_the_credentials_hash() {
        let folder = tempfile::tempdir().unwrap();
        let made = init(&folder.path().join("gateway"), None).await.unwrap();
        let config = Config::load(&made.config).unwrap();
        let credential = made.credential.unwrap();
        assert!(credential.starts_with(PREFIX));
        assert_eq!(credential.len(), PREFIX.len() + 43);
        Keys::load(&config.keys_dir()).unwrap();
        let store = store::open_sqlite(&config.store_file()).unwrap();
        let hash = Hash::of(credential.as_bytes());
        let admin = store.operator_by_token(&hash).await.unwrap().unwrap();
        assert_eq!(
            (admin.name.as_str(), admin.roles),
            ("admin", vec!["admin".to_owned()])
        );
        let mode = std::fs::metadata(&config.data_dir)
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o077, 0);
        for file in std::fs::read_dir(&config.data_dir).unwrap() {
            let bytes = std::fs::read(file.unwrap().path()).unwrap_or_default();
            let found = bytes
                .windows(credential.len())
                .any(|w| w == credential.as_bytes());
            assert!(!found, "the credential itself is nowhere on disk");
        }
    }

    #[tokio::test]
    async fn what_a_configuration_lacks_is_made_once_and_without_an_operator() {
        let folder = tempfile::tempdir().unwrap();
        let elsewhere = folder.path().join("etc.toml");
        let data = folder.path().join("var");
        let text = TEMPLATE.replace("@GATEWAY_ID@", "packaged");
        let text = text.replace("\"data\"", &format!("\"{}\"", data.display()));
        std::fs::write(&elsewhere, &text).unwrap();
        let init = || Init {
            dir: ".".into(),
            save: false,
            encrypt_keys: false,
            passphrase: KeyPassphrase::default(),
            config: Some(elsewhere.clone()),
        };
        init().run().await.unwrap();
        let dids = Keys::load(&data.join("keys")).unwrap().roles();
        init().run().await.unwrap();
        assert_eq!(Keys::load(&data.join("keys")).unwrap().roles(), dids);
        let store = store::open_sqlite(&data.join("clawgate.db")).unwrap();
        assert_eq!(store.operators().await.unwrap(), []);
        assert_eq!(std::fs::read_to_string(&elsewhere).unwrap(), text);
    }

    #[tokio::test]
    async fn sealed_keys_are_made_sealed_and_said_so() {
        let folder = tempfile::tempdir().unwrap();
        let passphrase = Secret::new("correct horse battery staple".to_owned());
        let made = init(folder.path(), Some(&passphrase)).await.unwrap();
        let mut config = Config::load(&made.config).unwrap();
        let files = std::fs::read_dir(config.keys_dir()).unwrap();
        let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
        let mut plain: Vec<_> = names.filter(|name| !name.ends_with(".age")).collect();
        plain.sort();
        // Its owner takes the root away; what it has signed stays, for the log.
        assert_eq!(plain, ["key-set-1.json", keys::ROOT]);
        let http = crate::upstream::http_client(&config).unwrap();
        assert!(Keys::open(&config, &http).await.is_err());
        config.keys.typed = Some(passphrase);
        let dids = Keys::open(&config, &http).await.unwrap().roles();
        // What is there is kept, what is missing is made sealed, too.
        std::fs::remove_file(config.keys_dir().join("close.key.age")).unwrap();
        Keys::make(&config).await.unwrap();
        let again = Keys::open(&config, &http).await.unwrap().roles();
        assert_eq!(again[..3], dids[..3]);
        assert_ne!(again[3], dids[3]);
        assert!(!config.keys_dir().join("close.key").exists());
    }

    #[tokio::test]
    async fn a_second_init_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let made = init(folder.path(), None).await.unwrap();
        let before = std::fs::read(&made.config).unwrap();
        let dids = Keys::load(&folder.path().join("data/keys"))
            .unwrap()
            .roles();
        let failure = init(folder.path(), None).await.unwrap_err();
        assert!(
            failure.to_string().contains("nothing was changed"),
            "{failure}"
        );
        assert_eq!(std::fs::read(&made.config).unwrap(), before);
        // Broken off before the last step: the rest is kept, no second operator is made.
        std::fs::remove_file(&made.config).unwrap();
        assert!(
            init(folder.path(), None)
                .await
                .unwrap()
                .credential
                .is_none()
        );
        assert_eq!(
            Keys::load(&folder.path().join("data/keys"))
                .unwrap()
                .roles(),
            dids
        );
    }
}
