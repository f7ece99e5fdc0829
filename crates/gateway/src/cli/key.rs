//! `clawgate key`: keys of authors and approvers, and the files of the gateway's own.

use std::path::PathBuf;

use clap::Subcommand;

use super::Failure;
use super::key_encrypt::Encrypt;
use crate::keys;

/// Makes keys for authors and approvers; seals the gateway's own.
#[derive(Debug, Subcommand)]
pub(super) enum Key {
    /// Makes a private key in a new file that only you can read, and prints its public name
    #[command(after_help = "\
Example:
  clawgate key new infra-lead.key

The printed did:key goes into clawgate.toml, under [[authors]] or [[approvers]]. The file stays
with its owner: neither the gateway nor anybody else needs it.")]
    New {
        /// The file; it must not exist
        file: PathBuf,
    },
    /// Prints the public name of a key
    #[command(after_help = "Example:\n  clawgate key show infra-lead.key")]
    Show {
        /// The key file
        file: PathBuf,
    },
    Encrypt(Encrypt),
}

impl Key {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let key = match self {
            Self::New { file } => {
                let key = keys::random_key();
                keys::write_key(&file, &key).map_err(|error| {
                    Failure::from(error).next("an existing file is never overwritten")
                })?;
                key
            }
            Self::Show { file } => keys::read_key(&file)?,
            Self::Encrypt(encrypt) => return encrypt.run().await,
        };
        anstream::println!("{}", key.did());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_key_is_made_once_and_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.key");
        Key::New { file: file.clone() }.run().await.unwrap();
        let did = keys::read_key(&file).unwrap().did();
        Key::Show { file: file.clone() }.run().await.unwrap();
        assert!(Key::New { file: file.clone() }.run().await.is_err());
        assert_eq!(keys::read_key(&file).unwrap().did(), did, "not overwritten");
    }
}
