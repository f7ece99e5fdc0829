//! Keeps published tiles up with the log.
//!
//! One task, told of commits. It writes what a larger log adds, each file whole or not at all, and
//! the checkpoint last: at any moment, and after any crash, the checkpoint that lies there is
//! backed by the tiles that lie there. Files never change, so a second try writes the same again.

use std::sync::Arc;
use std::time::Duration;

use proof::tiles::{self, Holds};
use store::kill_point;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::{Added, Place, Standing, TlogError, compare, tile_bytes, witnesses};
use crate::app::App;
use crate::bundles::Sealing;

/// After this long the log is looked at without having been told: what another process wrote
/// does not show as a commit, and what failed is tried again.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// Publishes until the gateway stops, or until what lies there contradicts the store.
pub async fn publish(
    app: Arc<App>,
    place: Arc<Option<Place>>,
    mut stopping: watch::Receiver<bool>,
) {
    let Some(place) = &*place else {
        return;
    };
    let pause = Duration::from_secs(app.config.log.publish_seconds);
    let mut commits = app.store.commits();
    let mut examined = false;
    loop {
        commits.mark_unchanged();
        match write_up(Sealing::of(&app), place, !examined).await {
            Ok(size) => {
                examined = true;
                app.publication.set(Standing::Published(size));
            }
            Err(error @ TlogError::Forked(_)) => {
                tracing::error!(%error, "the log is published no further");
                app.publication.set(Standing::Forked(error.to_string()));
                return;
            }
            Err(error) => {
                let error = crate::cli::chain(&error);
                tracing::warn!(error, "the log was not published; it is tried again");
                app.publication.set(Standing::Failing(error));
            }
        }
        let wait = async {
            sleep(pause).await;
            // A store that has ended commits nothing any more; the stop comes.
            let _ = timeout(LOOK_AGAIN, commits.changed()).await;
        };
        tokio::select! {
            () = wait => {}
            _ = stopping.wait_for(|stop| *stop) => return,
        }
    }
}

/// Writes what the place lacks, and the checkpoint over it. With `examine` all hashes that lie
/// there already are compared, too, and what is missing below the old checkpoint is put back.
/// Returns the size that is published.
///
/// # Errors
/// See [`TlogError`]; after [`TlogError::Forked`] nothing may be written any more.
pub async fn write_up(parts: Sealing<'_>, place: &Place, examine: bool) -> Result<u64, TlogError> {
    let there = compare(parts.store, parts.config, &parts.keys.now(), place).await?;
    let checkpoint = witnesses::cosigned(parts, None)
        .await
        .map_err(TlogError::Checkpoint)?;
    let (published, size) = (there.unwrap_or(0), checkpoint.size);
    if there == Some(size) && !examine {
        // A witness may have cosigned since.
        let note = checkpoint.note.into_bytes();
        if place.read("checkpoint").await?.as_ref() != Some(&note) {
            place.put_checkpoint(note).await?;
        }
        return Ok(size);
    }
    let from = if examine { 0 } else { published };
    for tile in tiles::added(from, size) {
        let name = tile.to_string();
        // Entries are many bytes, and the hashes say what they must be.
        let known = tile.holds() == Holds::Entries && tile.is_within(published);
        if known && place.has(&name).await? {
            continue;
        }
        let bytes = match tile_bytes(parts.store, tile).await {
            // Entries go with the content of any of their records; hashes stay.
            Err(TlogError::Pruned(_)) => continue,
            bytes => bytes?,
        };
        let bytes = bytes.ok_or(TlogError::Damaged(tile.start()))?;
        if place.add(&name, bytes).await? == Added::Differs {
            return Err(TlogError::Forked(format!("`{name}` has another content")));
        }
        kill_point!("tiles.added");
    }
    kill_point!("tiles.complete");
    place.put_checkpoint(checkpoint.note.into_bytes()).await?;
    kill_point!("tiles.published");
    // Readers of an older checkpoint take the full file in place of its forerunners.
    for tile in tiles::added(published, size).filter(tiles::Tile::is_full) {
        place.remove_partials(&tile.partials()).await?;
    }
    Ok(size)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::path::Path;

    use proof::checkpoint::Checkpoint;
    use proof::merkle::{self, Nodes as _, leaf_hash};
    use proof::tiles::{Missing, Tile, Tiles};

    use super::super::Folder;
    use super::*;
    use crate::operator::testing::Fixture;

    fn parts(fixture: &Fixture) -> Sealing<'_> {
        Sealing {
            store: &*fixture.store,
            keys: &fixture.keys,
            config: &fixture.config,
            witnesses: None,
            stamper: None,
        }
    }

    async fn jobs(fixture: &Fixture, count: usize) {
        let contract = fixture.published().await;
        for _ in 0..count {
            fixture.job(contract).await;
        }
    }

    fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
        fn walk(root: &Path, folder: &Path, found: &mut BTreeMap<String, Vec<u8>>) {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    walk(root, &path, found);
                } else {
                    let name = path.strip_prefix(root).unwrap().to_str().unwrap();
                    found.insert(name.to_owned(), fs::read(&path).unwrap());
                }
            }
        }
        let mut found = BTreeMap::new();
        walk(folder, folder, &mut found);
        found
    }

    /// The root over the files alone, and the entries that they hold.
    fn read_back(files: &BTreeMap<String, Vec<u8>>, fixture: &Fixture) -> (u64, Vec<Vec<u8>>) {
        let note = std::str::from_utf8(&files["checkpoint"]).unwrap();
        let key = fixture.keys.now().checkpoint.public();
        let checkpoint = Checkpoint::verify(note, "gateway.example/log", &key).unwrap();
        let mut known = Tiles::new(checkpoint.size);
        let root = loop {
            match merkle::root(&known, checkpoint.size) {
                Ok(root) => break root,
                Err(Missing(tile)) => assert!(known.insert(tile, &files[&tile.to_string()])),
            }
        };
        assert_eq!(root, checkpoint.root);
        let mut entries = Vec::new();
        for tile in tiles::added(0, checkpoint.size).filter(|tile| tile.holds() == Holds::Entries) {
            let mut rest = files[&tile.to_string()].as_slice();
            while let Some((length, more)) = rest.split_first_chunk::<2>() {
                let (entry, more) = more.split_at(u16::from_be_bytes(*length).into());
                entries.push(entry.to_vec());
                rest = more;
            }
        }
        assert_eq!(entries.len() as u64, checkpoint.size);
        for (index, entry) in (0..).zip(&entries) {
            let Ok(leaf) = known.node(0, index) else {
                // Only the tiles on the way to the root were read.
                continue;
            };
            assert_eq!(leaf_hash(entry), leaf);
        }
        (checkpoint.size, entries)
    }

    #[tokio::test]
    async fn files_grow_with_the_log_and_prove_it() {
        let (fixture, place) = (Fixture::new(), tempfile::tempdir().unwrap());
        let folder = Place::Folder(Folder::new(place.path()));
        assert_eq!(write_up(parts(&fixture), &folder, true).await.unwrap(), 0);
        jobs(&fixture, 3).await;
        for (more, expected) in [(0, 3), (252, 255), (1, 256), (0, 256), (44, 300)] {
            jobs(&fixture, more).await;
            let size = write_up(parts(&fixture), &folder, false).await.unwrap();
            assert_eq!(size, expected);
            let files = files(place.path());
            assert_eq!(read_back(&files, &fixture).0, expected);
            let partial = |name: &&String| name.starts_with("tile/0/000.p/");
            let partials = files.keys().filter(partial).count();
            assert_eq!(partials == 0, expected >= 256, "{expected}");
            assert!(!files.keys().any(|name| name.contains("/.")), "{files:?}");
        }
        // What a witness adds late is published, too.
        let note = fixture
            .store
            .latest_checkpoint()
            .await
            .unwrap()
            .unwrap()
            .note;
        let note = format!("{note}\u{2014} witness.example/1 AAAA\n");
        fixture.store.cosign_checkpoint(&note, 300).await.unwrap();
        write_up(parts(&fixture), &folder, false).await.unwrap();
        assert_eq!(files(place.path())["checkpoint"], note.as_bytes());
        let before = files(place.path());
        write_up(parts(&fixture), &folder, true).await.unwrap();
        assert!(files(place.path()) == before, "the same again");
    }

    #[tokio::test]
    async fn what_a_crash_left_is_gone_on_with() {
        let (fixture, place) = (Fixture::new(), tempfile::tempdir().unwrap());
        let folder = Place::Folder(Folder::new(place.path()));
        jobs(&fixture, 5).await;
        write_up(parts(&fixture), &folder, true).await.unwrap();
        let old = fs::read(place.path().join("checkpoint")).unwrap();
        jobs(&fixture, 4).await;
        write_up(parts(&fixture), &folder, false).await.unwrap();
        let whole = files(place.path());
        // Before each file that the second try wrote, and before its checkpoint.
        for cut in ["tile/entries/000.p/9", "tile/0/000.p/9", "checkpoint"] {
            fs::write(place.path().join("checkpoint"), &old).unwrap();
            if cut != "checkpoint" {
                fs::remove_file(place.path().join(cut)).unwrap();
            }
            assert_eq!(read_back(&files(place.path()), &fixture).0, 5, "{cut}");
            assert_eq!(write_up(parts(&fixture), &folder, true).await.unwrap(), 9);
            assert!(files(place.path()) == whole, "{cut}");
        }
        // A file that went missing below the checkpoint is put back by whoever examines.
        fs::remove_file(place.path().join("tile/entries/000.p/9")).unwrap();
        write_up(parts(&fixture), &folder, true).await.unwrap();
        assert!(files(place.path()) == whole);
    }

    #[tokio::test]
    async fn a_checkpoint_never_goes_back() {
        let (fixture, place) = (Fixture::new(), tempfile::tempdir().unwrap());
        let folder = Place::Folder(Folder::new(place.path()));
        let read = || fs::read(place.path().join("checkpoint")).unwrap();
        let mut notes = Vec::new();
        for more in [5, 4] {
            jobs(&fixture, more).await;
            write_up(parts(&fixture), &folder, false).await.unwrap();
            notes.push(read());
        }
        // The one of 5 records is put by somebody who stood still meanwhile.
        let [old, new] = &notes[..] else { panic!() };
        let elsewhere = |put| matches!(put, Err(TlogError::Elsewhere(_)));
        assert!(elsewhere(folder.put_checkpoint(old.clone()).await));
        assert!(read() == *new);
        // Or while another one is at it.
        let mut more = new.clone();
        more.extend("\u{2014} witness.example/1 AAAA\n".as_bytes());
        let lock = fs::File::open(place.path().join("checkpoint.lock")).unwrap();
        lock.lock().unwrap();
        assert!(elsewhere(folder.put_checkpoint(more.clone()).await));
        assert!(read() == *new);
        drop(lock);
        folder.put_checkpoint(more.clone()).await.unwrap();
        assert!(read() == more);
    }

    #[tokio::test]
    async fn a_contradiction_is_a_fork_and_nothing_is_written() {
        let fixture = Fixture::new();
        jobs(&fixture, 5).await;
        let shorter = Fixture::new();
        jobs(&shorter, 2).await;
        let sign = |size, root| {
            let origin = "gateway.example/log".to_owned();
            let checkpoint = Checkpoint { origin, size, root };
            checkpoint
                .sign(fixture.keys.now().checkpoint.local().unwrap())
                .into_bytes()
        };
        let root = fixture.store.log_root(5).await.unwrap().unwrap();
        let flipped = {
            let mut bytes = tile_bytes(&*fixture.store, Tile::parse("tile/0/000.p/5").unwrap())
                .await
                .unwrap()
                .unwrap();
            bytes[40] ^= 1;
            bytes
        };
        for (name, bytes) in [
            ("checkpoint", b"not a note".to_vec()),
            ("checkpoint", sign(6, root)),
            ("checkpoint", sign(3, root)),
            ("tile/0/000.p/5", flipped),
        ] {
            let place = tempfile::tempdir().unwrap();
            let path = place.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, &bytes).unwrap();
            let error = write_up(
                parts(&fixture),
                &Place::Folder(Folder::new(place.path())),
                true,
            )
            .await;
            assert!(matches!(error, Err(TlogError::Forked(_))), "{name}");
            assert_eq!(fs::read(&path).unwrap(), bytes, "{name}");
            let checkpoint = place.path().join("checkpoint");
            assert_eq!(checkpoint.exists(), name == "checkpoint");
        }
        // Another gateway's folder.
        let place = tempfile::tempdir().unwrap();
        let folder = Place::Folder(Folder::new(place.path()));
        write_up(parts(&shorter), &folder, true).await.unwrap();
        let error = write_up(parts(&fixture), &folder, true).await;
        assert!(matches!(error, Err(TlogError::Forked(_))));
    }
}
