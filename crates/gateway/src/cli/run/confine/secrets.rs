//! What nobody may grant: a home, an operator's credentials, and what a gateway keeps.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use super::super::super::Failure;
use super::Grant;

/// Files and folders of a grant that are looked through.
const MOST_ENTRIES: usize = 1 << 20;

/// Largest configuration that is read, in bytes.
const MOST_CONFIGURATION: u64 = 1 << 20;

/// Refuses grants that would show what must stay hidden, or let it be changed.
pub(super) fn hides(grants: &[Grant], credentials: &[PathBuf]) -> Result<(), Failure> {
    let home = home()?.and_then(|home| fs::canonicalize(home).ok());
    for grant in grants {
        let place = grant.path.display();
        let own = ["/proc", "/dev"].map(Path::new);
        if grant.path == Path::new("/") || own.iter().any(|own| grant.path.starts_with(own)) {
            return Err(Failure::new(format!("`{place}` cannot be granted"))
                .next("no job was opened; name the files and folders that the command needs"));
        }
        if home
            .as_ref()
            .is_some_and(|home| home.starts_with(&grant.path))
        {
            return Err(Failure::new(format!(
                "`{place}` holds your home folder, and the command would see its secrets"
            ))
            .next(
                "no job was opened; start in a folder of the project, and name what else it needs",
            ));
        }
        if let Some(secret) = overlapping(credentials, &grant.path) {
            return Err(Failure::new(format!(
                "`{}` is an operator's credential, and the command would see it in `{place}`",
                secret.display()
            ))
            .next("no job was opened; keep it elsewhere and give --credential-file"));
        }
        let Some(kept) = Kept::of(grant) else {
            return Err(Failure::new(format!(
                "`{place}` is too large to look for a gateway's keys in it"
            ))
            .next("no job was opened; grant the folders of it that the command needs"));
        };
        if let Some(secret) = overlapping(&kept.0, &grant.path) {
            return Err(Failure::new(format!(
                "`{}` is a gateway's, and `{place}` would give it to the command",
                secret.display()
            ))
            .next(
                "no job was opened; start in another folder than the gateway's, or move its \
                 configuration and data_dir out of this one",
            ));
        }
    }
    Ok(())
}

/// This user's home folder. Without `HOME` the system's list of users says it, which a static
/// program cannot ask: what it would load belongs to another C library.
fn home() -> Result<Option<PathBuf>, Failure> {
    let named = std::env::var_os("HOME").filter(|home| !home.is_empty());
    match named {
        Some(home) => Ok(Some(home.into())),
        None if names::STATIC => Err(Failure::new("`HOME` is not set")
            .next("no job was opened; set it: nobody may be granted your home folder")),
        #[expect(
            clippy::disallowed_methods,
            reason = "linked with the machine's C library"
        )]
        None => Ok(std::env::home_dir()),
    }
}

/// The first of these that lies within a grant, or within which it lies.
fn overlapping(secrets: &[PathBuf], grant: &Path) -> Option<PathBuf> {
    let mut secrets = secrets
        .iter()
        .filter_map(|file| fs::canonicalize(file).ok());
    secrets.find(|file| file.starts_with(grant) || grant.starts_with(file))
}

/// What gateways keep around a grant: keys, stores and secrets, and within what may be written
/// their configurations, which name commands that a gateway runs.
struct Kept(Vec<PathBuf>);

impl Kept {
    /// `None` when the grant is too large to say.
    fn of(grant: &Grant) -> Option<Self> {
        let mut kept = Self(Vec::new());
        for folder in grant.path.ancestors().skip(1) {
            kept.look(folder, false);
        }
        let mut folders = vec![grant.path.clone()];
        let mut left = MOST_ENTRIES;
        while let Some(folder) = folders.pop() {
            kept.look(&folder, grant.write);
            // What this user cannot read, the command cannot either; nor is a file a folder.
            for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
                left = left.checked_sub(1)?;
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    folders.push(entry.path());
                }
            }
        }
        Some(kept)
    }

    fn look(&mut self, folder: &Path, write: bool) {
        let file = folder.join("clawgate.toml");
        if let Some(table) = configuration(&file) {
            self.named(&table, folder);
        }
        if write && fs::symlink_metadata(&file).is_ok() {
            self.0.push(file);
        }
        let of_data = ["clawgate.db", "keys/receipt.key"];
        if of_data.iter().any(|name| folder.join(name).exists()) {
            self.0.push(folder.to_owned());
        }
        // Where `clawgate init` puts them.
        self.0.push(folder.join("data/keys"));
    }

    /// What a configuration names.
    fn named(&mut self, table: &toml::Table, folder: &Path) {
        for (key, value) in table {
            match value {
                toml::Value::String(path)
                    if ["data_dir", "file", "key_file"].contains(&key.as_str()) =>
                {
                    self.0.push(folder.join(path));
                }
                toml::Value::Table(table) => self.named(table, folder),
                _ => {}
            }
        }
    }
}

fn configuration(file: &Path) -> Option<toml::Table> {
    // A pipe would never end.
    fs::metadata(file).ok().filter(fs::Metadata::is_file)?;
    let mut text = String::new();
    let mut file = File::open(file).ok()?.take(MOST_CONFIGURATION);
    file.read_to_string(&mut text).ok()?;
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn granted(path: &Path, write: bool, credentials: &[PathBuf]) -> Result<(), Failure> {
        let path = path.to_owned();
        hides(&[Grant { path, write }], credentials)
    }

    #[test]
    fn homes_and_credentials_are_not_granted() {
        let folder = tempfile::tempdir().unwrap();
        let folder = fs::canonicalize(folder.path()).unwrap();
        let secret = folder.join("operator.credential");
        fs::write(&secret, "x").unwrap();
        let credentials = [secret.clone(), "/no/such".into()];
        let home = home().unwrap().unwrap();
        for refused in [folder.as_path(), &secret, &home, Path::new("/")] {
            let granted = granted(refused, false, &credentials);
            assert!(granted.is_err(), "{}", refused.display());
        }
        granted(Path::new("/usr/bin"), false, &credentials).unwrap();
    }

    #[test]
    fn what_a_gateway_keeps_is_not_granted() {
        let folder = tempfile::tempdir().unwrap();
        let folder = fs::canonicalize(folder.path()).unwrap();
        for made in [
            "deep/er/data/keys",
            "moved/keys",
            "stored",
            "w/apart",
            "kept/in",
        ] {
            fs::create_dir_all(folder.join(made)).unwrap();
        }
        for (file, text) in [
            ("moved/keys/receipt.key", ""),
            ("stored/clawgate.db", ""),
            ("planner", ""),
            ("w/clawgate.toml", "data_dir = '../kept'"),
            (
                "clawgate.toml",
                "data_dir = 'kept'\n[terraform_cloud]\nplanner = { file = 'planner' }",
            ),
        ] {
            fs::write(folder.join(file), text).unwrap();
        }
        for (place, write, refused) in [
            ("deep", false, true),
            ("deep/er/data", false, true),
            ("deep/er/data/keys", false, true),
            ("moved", false, true),
            ("moved/keys/receipt.key", false, true),
            ("stored", true, true),
            ("kept", false, true),
            ("kept/in", true, true),
            ("planner", false, true),
            ("w", false, false),
            ("w", true, true),
            ("w/apart", true, false),
            ("", false, true),
        ] {
            let granted = granted(&folder.join(place), write, &[]);
            assert_eq!(granted.is_err(), refused, "{place}, written: {write}");
        }
    }
}
