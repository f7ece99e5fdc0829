//! Sealing and opening, and everything that can go wrong with either.

use age::x25519::Identity;
use policy::configuration::UploadedFile;
use proof::Timestamp;
use tempfile::TempDir;

use super::notes::What;
use super::opened::{self, OpenError};
use super::*;

struct Kit {
    folder: TempDir,
    auditor: Identity,
    config: config::Vault,
}

impl Kit {
    fn new() -> Self {
        let auditor = Identity::generate();
        Self {
            folder: tempfile::tempdir().unwrap(),
            config: config::Vault {
                recipients: vec![auditor.to_public().to_string()],
                folder: None,
                uploads: true,
                conversations: None,
                retention_days: 1,
                max_bytes: 1 << 20,
            },
            auditor,
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("vault")
    }

    fn vault(&self) -> Vault {
        let bounds = Bounds::of_uploads(&self.config);
        let vault = Vault::open(&self.config.recipients, &self.path(), bounds).unwrap();
        vault.sweep().unwrap();
        vault
    }

    fn opened(&self, digest: &Hash) -> Result<Vec<u8>, OpenError> {
        opened::open(&self.path(), digest, std::slice::from_ref(&self.auditor))
    }

    /// Names in the folder, sorted.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    fn sizes(&self) -> u64 {
        let entries = fs::read_dir(self.path()).unwrap();
        entries
            .map(|entry| entry.unwrap().metadata().unwrap().len())
            .sum()
    }
}

/// Content that does not compress, longer than a chunk of the age format.
fn content(length: usize) -> Vec<u8> {
    let pieces = (0u64..).flat_map(|n| *Hash::of(&n.to_be_bytes()).as_bytes());
    pieces.take(length).collect()
}

#[test]
fn what_is_kept_is_opened_by_every_auditor_and_nobody_else() {
    let mut kit = Kit::new();
    let other = Identity::generate();
    kit.config.recipients.push(other.to_public().to_string());
    let vault = kit.vault();
    for length in [0, 1, 65_536, 200_000] {
        let content = content(length);
        let kept = vault.seal(content.as_slice()).unwrap();
        let digest = Hash::of(&content);
        let bytes = length as u64;
        assert_eq!(kept, Kept { digest, bytes });
        assert_eq!(kit.opened(&digest).unwrap(), content);
        let others = opened::open(&kit.path(), &digest, std::slice::from_ref(&other));
        assert_eq!(others.unwrap(), content);
        let sealed = fs::read(kit.path().join(file_name(&digest))).unwrap();
        let shows = !content.is_empty() && sealed.windows(32).any(|part| content.starts_with(part));
        assert!(!shows, "the content stands in the file");
        let stranger = opened::open(&kit.path(), &digest, &[Identity::generate()]);
        assert!(
            matches!(stranger, Err(OpenError::OtherKey(_))),
            "{stranger:?}"
        );
    }
    let unknown = kit.opened(&Hash::of(b"unknown"));
    assert!(matches!(unknown, Err(OpenError::NotKept { .. })));
    let listed = opened::list(&kit.path()).unwrap();
    assert_eq!(listed.len(), 4);
    assert_eq!(
        listed.iter().map(|entry| entry.bytes).sum::<u64>(),
        vault.bytes()
    );
}

#[test]
fn only_the_owner_reads_the_files() {
    let kit = Kit::new();
    let kept = kit.vault().seal(b"secret".as_slice()).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&kit.path()), 0o700);
    assert_eq!(mode(&kit.path().join(file_name(&kept.digest))), 0o600);
}

#[test]
fn damage_is_found_wherever_it_is() {
    let kit = Kit::new();
    let kept = kit.vault().seal(content(70_000).as_slice()).unwrap();
    let path = kit.path().join(file_name(&kept.digest));
    let good = fs::read(&path).unwrap();
    for place in [0, 30, 60, 150, 250, 70_000, good.len() - 1] {
        let mut bad = good.clone();
        bad[place] ^= 1;
        fs::write(&path, bad).unwrap();
        assert!(kit.opened(&kept.digest).is_err(), "byte {place}");
    }
    for length in [0, 20, 100, 300, 65_536, good.len() - 1] {
        fs::write(&path, &good[..length]).unwrap();
        let cut = kit.opened(&kept.digest);
        assert!(
            matches!(cut, Err(OpenError::Damaged { .. })),
            "{length}: {cut:?}"
        );
    }
    let longer = [good.as_slice(), b"x"].concat();
    fs::write(&path, longer).unwrap();
    assert!(matches!(
        kit.opened(&kept.digest),
        Err(OpenError::Damaged { .. })
    ));
    fs::write(&path, good).unwrap();
    assert!(kit.opened(&kept.digest).is_ok());
}

#[test]
fn other_content_under_a_name_is_not_given_out() {
    let kit = Kit::new();
    let vault = kit.vault();
    let (one, other) = (
        vault.seal(&b"one"[..]).unwrap(),
        vault.seal(&b"other"[..]).unwrap(),
    );
    let path = |kept: &Kept| kit.path().join(file_name(&kept.digest));
    fs::rename(path(&other), path(&one)).unwrap();
    match kit.opened(&one.digest) {
        Err(OpenError::OtherContent { found, .. }) => assert_eq!(found, other.digest),
        opened => panic!("{opened:?}"),
    }
}

#[test]
fn the_same_content_twice_is_one_file_for_todays_auditors() {
    let mut kit = Kit::new();
    let first = kit.vault().seal(content(1000).as_slice()).unwrap();
    let before = kit.auditor;
    kit.auditor = Identity::generate();
    kit.config.recipients = vec![kit.auditor.to_public().to_string()];
    let vault = kit.vault();
    assert_eq!(vault.bytes(), kit.sizes());
    let again = vault.seal(content(1000).as_slice()).unwrap();
    assert_eq!(first, again);
    assert_eq!(kit.names(), [file_name(&first.digest)]);
    assert_eq!(vault.bytes(), kit.sizes(), "counted once");
    assert!(kit.opened(&first.digest).is_ok());
    let old = opened::open(&kit.path(), &first.digest, &[before]);
    assert!(matches!(old, Err(OpenError::OtherKey(_))));
}

#[test]
fn a_full_vault_takes_nothing_and_leaves_nothing() {
    let mut kit = Kit::new();
    kit.config.max_bytes = 100_000;
    let vault = kit.vault();
    vault.seal(content(80_000).as_slice()).unwrap();
    let names = kit.names();
    for length in [20_000, 1 << 20] {
        let full = vault.seal(content(length).as_slice());
        let expected = VaultError::Full { max_bytes: 100_000 };
        assert_eq!(full.unwrap_err().to_string(), expected.to_string());
        assert_eq!(kit.names(), names);
        assert_eq!(vault.bytes(), kit.sizes());
    }
    // What is being written counts, so that many at a time find no more room than one.
    let mut sealing = vault.begin("x").unwrap();
    sealing.write_all(&content(65_537)).unwrap_err();
    assert_eq!(kit.names().len(), 2);
    assert_eq!(vault.bytes(), kit.sizes());
    drop(sealing);
    assert_eq!(kit.names(), names);
    assert_eq!(vault.bytes(), kit.sizes());
    assert_eq!(
        kit.vault().bytes(),
        kit.sizes(),
        "a restart counts what is there"
    );
}

#[test]
fn a_stream_that_breaks_leaves_nothing() {
    struct Broken(usize);
    impl Read for Broken {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.0 == 0 {
                return Err(io::Error::other("broken"));
            }
            self.0 -= 1;
            buffer.fill(7);
            Ok(buffer.len())
        }
    }
    let kit = Kit::new();
    let vault = kit.vault();
    let broken = vault.seal(Broken(20));
    assert!(matches!(broken, Err(VaultError::Write(_))), "{broken:?}");
    assert_eq!((kit.names(), vault.bytes()), (Vec::new(), 0));
}

#[test]
fn a_folder_that_is_gone_is_an_error() {
    let kit = Kit::new();
    let vault = kit.vault();
    fs::remove_dir_all(kit.path()).unwrap();
    assert!(matches!(vault.seal(&b"x"[..]), Err(VaultError::Write(_))));
    fs::write(kit.path(), b"a file in its place").unwrap();
    let opened = Vault::open(
        &kit.config.recipients,
        &kit.path(),
        Bounds::of_uploads(&kit.config),
    );
    assert!(matches!(opened, Err(VaultError::Folder { .. })));
}

#[test]
fn what_is_old_is_removed_and_what_is_not_ours_stays() {
    let kit = Kit::new();
    let vault = kit.vault();
    let old = vault.seal(&b"old"[..]).unwrap();
    let new = vault.seal(&b"new"[..]).unwrap();
    let write = |name: &str| fs::write(kit.path().join(name), b"x").unwrap();
    for name in [".crashed.part", ".running.part", "notes.txt"] {
        write(name);
    }
    let yesterday = SystemTime::now() - Duration::from_secs(25 * 3600);
    for name in [&file_name(&old.digest), ".crashed.part", "notes.txt"] {
        let file = File::options()
            .write(true)
            .open(kit.path().join(name))
            .unwrap();
        file.set_modified(yesterday).unwrap();
    }
    let vault = kit.vault();
    let mut left = vec![
        ".running.part".to_owned(),
        file_name(&new.digest),
        "notes.jsonl".to_owned(),
        "notes.txt".to_owned(),
    ];
    left.sort();
    assert_eq!(kit.names(), left);
    let notes = notes::read(&kit.path()).unwrap();
    assert_eq!(notes.len(), 1, "what never was content is not missed");
    assert_eq!(
        (notes[0].what, notes[0].sha256_b64u),
        (What::Removed, Some(old.digest))
    );
    let there = fs::metadata(kit.path().join(file_name(&new.digest)))
        .unwrap()
        .len();
    assert_eq!(vault.bytes(), there);
    let listed = opened::list(&kit.path()).unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].digest, new.digest);
}

#[test]
fn digests_and_keys_are_read_strictly() {
    let digest = Hash::of(b"x");
    assert_eq!(opened::parse_digest(&digest.to_string()), Some(digest));
    assert_eq!(opened::parse_digest(&digest.to_hex()), Some(digest));
    let (hex, text) = (digest.to_hex(), digest.to_string());
    for bad in [
        "",
        "../x",
        &hex[1..],
        &hex.to_uppercase(),
        &text[1..],
        &format!("{text}="),
    ] {
        assert_eq!(opened::parse_digest(bad), None, "{bad}");
    }
    use age::secrecy::ExposeSecret;
    let key = Identity::generate().to_string();
    let key = key.expose_secret();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key.txt");
    for (text, count) in [
        (format!("# created\n# public key: age1…\n{key}\n"), Some(1)),
        (format!("{key}\r\n\n{key}"), Some(2)),
        (String::new(), None),
        ("# nothing".to_owned(), None),
        (format!("{key}\nsomething else"), None),
        ("age1qqqq".to_owned(), None),
    ] {
        fs::write(&file, text).unwrap();
        assert_eq!(opened::read_keys(&file).ok().map(|keys| keys.len()), count);
    }
}

#[test]
fn unpacking_stays_in_its_own_new_folder() {
    let folder = tempfile::tempdir().unwrap();
    let file = |path: &str| UploadedFile {
        path: path.to_owned(),
        content: b"x".to_vec(),
    };
    for path in ["../x", "/x", "a/../../x", "", "./../x"] {
        let out = folder.path().join("bad");
        let unpacked = opened::unpack(&[file("good"), file(path)], &out);
        assert!(matches!(unpacked, Err(OpenError::Path(_))), "{path}");
        assert!(
            !out.exists(),
            "{path}: nothing is written before all paths are looked at"
        );
    }
    let out = folder.path().join("out");
    opened::unpack(&[file("main.tf"), file("modules/a/main.tf")], &out).unwrap();
    assert_eq!(fs::read(out.join("modules/a/main.tf")).unwrap(), b"x");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&out), mode(&out.join("main.tf"))), (0o700, 0o600));
    let again = opened::unpack(&[file("main.tf")], &out);
    assert!(matches!(again, Err(OpenError::Io { .. })), "{again:?}");
    assert!(matches!(
        opened::files(b"no archive"),
        Err(OpenError::NotAnUpload(_))
    ));
}

#[test]
fn the_oldest_make_room_and_leave_a_note() {
    let kit = Kit::new();
    let bounds = Bounds {
        retention: days(1),
        max_bytes: 10_000,
        when_full: WhenFull::RemoveOldest,
    };
    let vault = Vault::open(&kit.config.recipients, &kit.path(), bounds).unwrap();
    let keep = |number: usize| {
        let kept = vault.seal(&content(2000 + number)[number..]).unwrap();
        // Files of one moment would be told apart by their names.
        let age = Duration::from_secs(1000 - number as u64);
        let path = kit.path().join(file_name(&kept.digest));
        let file = File::options().write(true).open(path).unwrap();
        file.set_modified(SystemTime::now() - age).unwrap();
        kept.digest
    };
    let digests: Vec<Hash> = (0..9).map(keep).collect();
    let there: Vec<bool> = digests.iter().map(|d| kit.opened(d).is_ok()).collect();
    assert_eq!(
        there,
        [false, false, false, false, false, true, true, true, true]
    );
    assert!(vault.bytes() <= 10_000);
    let notes = notes::read(&kit.path()).unwrap();
    let noted: Vec<_> = notes.iter().filter_map(|note| note.sha256_b64u).collect();
    assert_eq!(noted, digests[..5]);
    // What can never fit is not kept, whatever was removed for it.
    let full = vault.seal(content(20_000).as_slice());
    assert!(matches!(full, Err(VaultError::Full { max_bytes: 10_000 })));
    assert_eq!(vault.bytes(), 0);
}

#[test]
fn notes_stay_bounded_and_readable() {
    let folder = tempfile::tempdir().unwrap();
    let notes = notes::Notes::of(folder.path());
    let at = Timestamp::from_millis(0);
    let note = |why: &str| Note::new(at, What::GivenUp, why);
    notes.write(&[]);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    let long = "x".repeat(3000);
    for _ in 0..30 {
        notes.write(&vec![note(&long); 100]);
    }
    notes.write(&[note("last")]);
    let sizes = fs::read_dir(folder.path()).unwrap();
    let sizes: u64 = sizes
        .map(|file| file.unwrap().metadata().unwrap().len())
        .sum();
    assert!(sizes < 10 << 20, "{sizes}");
    let file = folder.path().join("notes.jsonl");
    let mut text = fs::read(&file).unwrap();
    text.extend_from_slice(b"{\"at\":\n");
    fs::write(&file, text).unwrap();
    notes.write(&[note("after")]);
    let read = notes::read(folder.path()).unwrap();
    let last: Vec<&str> = read
        .iter()
        .rev()
        .take(2)
        .map(|note| note.why.as_str())
        .collect();
    assert_eq!(last, ["after", "last"]);
    // What cannot be noted is counted, and told once there is room again.
    let gone = folder.path().join("gone");
    let notes = notes::Notes::of(&gone);
    notes.write(&[note("a"), note("b")]);
    fs::create_dir(&gone).unwrap();
    notes.write(&[note("c")]);
    let read = notes::read(&gone).unwrap();
    assert_eq!((read[0].why.as_str(), read[1].count), ("c", Some(2)));
}

#[tokio::test]
async fn what_is_held_stays_whatever_its_age_and_makes_no_room() {
    use crate::operator::testing::Fixture;

    let kit = Kit::new();
    let fixture = Fixture::new();
    let held = Held::of(&fixture.store);
    let bounds = Bounds {
        retention: days(1),
        max_bytes: 150_000,
        when_full: WhenFull::RemoveOldest,
    };
    let vault = Vault::open(&kit.config.recipients, &kit.path(), bounds).unwrap();
    let vault = vault.with_holds(&held);
    let older = vault.seal(&content(70_000)[..]).unwrap().digest;
    let newer = vault.seal(&content(70_001)[..]).unwrap().digest;
    // The job that is held was opened between the two, both long ago.
    let store = &fixture.store;
    let job = fixture.job(fixture.published().await).await;
    let opened = store.job(&job).await.unwrap().unwrap().opened_at.seconds();
    let at = |seconds: i64| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds as u64);
    for (digest, sealed) in [(older, opened - 7200), (newer, opened + 60)] {
        let file = File::open(kit.path().join(file_name(&digest))).unwrap();
        file.set_modified(at(sealed)).unwrap();
    }
    store
        .hold(&job, "eve", "a lawsuit", crate::operator::testing::now())
        .await
        .unwrap();
    let now = at(opened + 30 * 86_400);
    vault.sweep_at(&mut vault.used(), now).unwrap();
    assert!(!kit.path().join(file_name(&older)).exists());
    assert!(kit.path().join(file_name(&newer)).exists());
    // It makes no room, and neither does what came later.
    vault.seal(&content(70_002)[..]).unwrap();
    let full = vault.seal(&content(70_003)[..]);
    assert!(matches!(full, Err(VaultError::Full { max_bytes: 150_000 })));
    assert!(kit.path().join(file_name(&newer)).exists());
    store
        .lift_hold(&job, 1, "eve", "settled", crate::operator::testing::now())
        .await
        .unwrap();
    vault.sweep_at(&mut vault.used(), now).unwrap();
    assert!(!kit.path().join(file_name(&newer)).exists());
}

/// From the answer on nothing goes: it waits for whatever is being removed without having seen the
/// hold.
#[tokio::test]
async fn a_hold_is_answered_when_nobody_removes_any_more() {
    use crate::operator::testing::Fixture;

    let fixture = Fixture::new();
    let held = Held::of(&fixture.store);
    let job = fixture.job(fixture.published().await).await;
    let now = SystemTime::now();
    let removing = held.begin().unwrap();
    assert!(!removing.keeps(now), "nothing is held");
    let placed = crate::operator::testing::now();
    let hold = fixture.store.hold(&job, "eve", "a lawsuit", placed);
    hold.await.unwrap();
    let mut answering = std::pin::pin!(held.settle());
    let context = &mut std::task::Context::from_waker(std::task::Waker::noop());
    assert!(answering.as_mut().poll(context).is_pending());
    drop(removing);
    answering.await.unwrap();
    let next = held.begin().unwrap();
    assert!(next.keeps(now), "whoever removes then has seen it");
}
