//! `clawgate store backup`: a copy while the gateway runs.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;
use store::{Soundness, StorePlace};

use super::super::{Failure, term};
use super::Where;
use crate::bundles::KEPT;
use crate::config::Config;
use crate::storage::{self, BeingMade, Place};

/// The store's name in a folder.
const STORE: &str = "clawgate.db";

/// Copies the store while the gateway runs
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  clawgate store backup /backups/clawgate-2026-11-22.db
  clawgate store backup /backups/2026-11-22/          the store and every sealed bundle

The copy is one state of the store; the gateway goes on writing meanwhile. It is checked before it
has its name. Keys and the vault are not copied: keys are secrets, and the vault's files are sealed
and can be copied as they are. A store in PostgreSQL is backed up by its own means, or by
`clawgate store export`.

To restore: stop the gateway, remove clawgate.db-wal and clawgate.db-shm from data_dir, put the copy
in the place of clawgate.db, and of a folder its bundles/ in the place of data_dir's; `clawgate store
check`, start. What was recorded since the copy was made is lost then, and whoever holds a later
checkpoint sees that.")]
pub(in crate::cli) struct Backup {
    #[command(flatten)]
    place: Where,
    /// A file that is not there; or a folder, which must be empty or not there, with a / at its end
    #[arg(value_name = "FILE|FOLDER/")]
    to: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Backup {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let (config, place) = self.place.existing_with_config().await?;
        let Place::File(from) = &place else {
            let why = format!("{} is backed up by its own means", place.name());
            return Err(Failure::new(why).next(
                "pg_dump, a base backup with the write-ahead log, or `clawgate store export`",
            ));
        };
        let folder = self.to.is_dir() || self.to.as_os_str().to_string_lossy().ends_with('/');
        let (found, bundles) = if folder {
            prepare(&self.to)?;
            let found = copy(from, &self.to.join(STORE))?;
            // After the store: every bundle that it names is there by now.
            let bundles = copy_bundles(&config, &self.to.join("bundles"))?;
            (found, Some(bundles))
        } else {
            (copy(from, &self.to)?, None)
        };
        if self.json {
            term::print_json(&json!({
                "backup": self.to,
                "records": found.records,
                "root": found.root,
                "jobs": found.jobs,
                "bundles": bundles,
            }));
        } else {
            term::print_facts(&[
                ("backup", self.to.display().to_string()),
                ("records", found.records.to_string()),
                ("jobs", found.jobs.to_string()),
                (
                    "bundles",
                    bundles.map_or_else(|| "-".to_owned(), |n| n.to_string()),
                ),
                ("log root", found.root.to_string()),
            ]);
        }
        Ok(())
    }
}

fn unusable(path: &Path) -> impl Fn(std::io::Error) -> Failure {
    move |error| Failure::new(format!("cannot use `{}`: {error}", path.display()))
}

/// Makes the folder, for its owner only, or sees that it is empty.
fn prepare(folder: &Path) -> Result<(), Failure> {
    use std::os::unix::fs::PermissionsExt;

    fs::create_dir_all(folder).map_err(unusable(folder))?;
    storage::sweep_backups(folder).map_err(unusable(folder))?;
    let mut entries = fs::read_dir(folder).map_err(unusable(folder))?;
    if entries.next().is_some() {
        let why = format!("`{}` is not empty", folder.display());
        return Err(Failure::new(why).next("name a folder that does not exist yet"));
    }
    let private = fs::Permissions::from_mode(0o700);
    fs::set_permissions(folder, private).map_err(unusable(folder))
}

/// Copies the store beside its place, checks the copy, and gives it its name. A copy that is not
/// whole leaves nothing.
fn copy(from: &Path, to: &Path) -> Result<Soundness, Failure> {
    if to.try_exists().map_err(unusable(to))? {
        let why = format!("`{}` is there already", to.display());
        return Err(Failure::new(why).next("name a file that does not exist yet"));
    }
    let folder = match to.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    // In a folder of its own: the check leaves SQLite's files and a lock beside it.
    storage::sweep_backups(folder).map_err(unusable(folder))?;
    let beside = BeingMade::within(folder).map_err(unusable(folder))?;
    let part = beside.path().join(STORE);
    store::copy_store(from, &part)
        .map_err(|error| Failure::new(format!("the store: {}", super::super::chain(&error))))?;
    let found = store::check_store(StorePlace::File(&part)).map_err(|error| {
        Failure::new(format!(
            "the copy cannot be read: {}",
            super::super::chain(&error)
        ))
    })?;
    if let Some(fault) = found.faults.first() {
        let why = format!("the copy is not whole: {fault}");
        return Err(Failure::new(why).next("`clawgate store check` says what is wrong"));
    }
    let file = File::open(&part).map_err(unusable(&part))?;
    file.sync_all().map_err(unusable(&part))?;
    fs::rename(&part, to).map_err(unusable(to))?;
    let folder_file = File::open(folder).map_err(unusable(folder))?;
    folder_file.sync_all().map_err(unusable(folder))?;
    Ok(found)
}

/// Copies every sealed bundle, and what is kept beside it; how many bundles there are. Each job has a
/// folder; a bundle from before lies among those.
fn copy_bundles(config: &Config, to: &Path) -> Result<u64, Failure> {
    let mut copied = 0;
    let mut folders = vec![(config.bundles_dir(), to.to_owned())];
    while let Some((from, to)) = folders.pop() {
        let entries = match fs::read_dir(&from) {
            // There is none yet, or they were removed after their retention meanwhile.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            entries => entries.map_err(unusable(&from))?,
        };
        fs::create_dir(&to).map_err(unusable(&to))?;
        let mut named = Vec::new();
        for entry in entries {
            let entry = entry.map_err(unusable(&from))?;
            let (path, name) = (entry.path(), entry.file_name());
            let end = path.extension().and_then(OsStr::to_str);
            let end = KEPT.iter().position(|known| Some(*known) == end);
            if entry.file_type().map_err(unusable(&path))?.is_dir() {
                folders.push((path, to.join(name)));
            // What is being written has a dot before its name.
            } else if let Some(end) = end.filter(|_| !name.to_string_lossy().starts_with('.')) {
                named.push((end, name));
            }
        }
        named.sort();
        for (end, name) in named {
            if copy_file(&from.join(&name), &to.join(&name))? {
                copied += u64::from(end == 0);
            }
        }
        let folder = File::open(&to).map_err(unusable(&to))?;
        folder.sync_all().map_err(unusable(&to))?;
    }
    Ok(copied)
}

/// Copies a file durably; `false` when it has gone meanwhile.
fn copy_file(from: &Path, to: &Path) -> Result<bool, Failure> {
    match fs::copy(from, to) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        copied => copied.map_err(unusable(to))?,
    };
    let file = File::open(to).map_err(unusable(to))?;
    file.sync_all().map_err(unusable(to))?;
    Ok(true)
}
