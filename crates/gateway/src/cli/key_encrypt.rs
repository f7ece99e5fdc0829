//! `clawgate key encrypt`: seals the gateway's own keys.

use std::path::PathBuf;

use clap::Args;

use super::Failure;
use super::init::warn_of_root;
use super::passphrase::KeyPassphrase;
use super::term::{GOOD, OFF};
use crate::config::{Config, FileKind};
use crate::keys;

/// Seals the gateway's own key files under a passphrase, which each start asks for
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  clawgate key encrypt --config clawgate.toml
  clawgate key encrypt --key-passphrase-file passphrase

The plain files are removed once the sealed ones open to the same keys. What was on the disk or in a
backup stays there: where that matters, make new keys.")]
pub(super) struct Encrypt {
    /// The configuration file
    #[arg(long, value_name = "FILE", default_value = "clawgate.toml")]
    config: PathBuf,
    #[command(flatten)]
    passphrase: KeyPassphrase,
}

impl Encrypt {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let config = Config::load(&self.config)?;
        let folder = config.keys_dir();
        let passphrase = self.passphrase.set().await?;
        let identity = config.keys.identity_file(&folder);
        let sealed = keys::seal_all(&folder, &identity, &passphrase)?;
        let place = folder.display();
        anstream::eprintln!("{GOOD}sealed{OFF} {sealed} keys in {place}");
        warn_of_root(&folder);
        let files = config.keys.files();
        if files.iter().any(|(_, kind)| *kind == FileKind::File) {
            anstream::eprintln!(
                "\nnext: say so in {}, or the gateway does not start again:\n\n[keys]\nkind = \"age\"",
                self.config.display()
            );
        }
        Ok(())
    }
}
