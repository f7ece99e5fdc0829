//! What holds for the file that SQLite keeps: crashes, a full disk, other processes, other files.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

#[path = "../contract/fixtures.rs"]
#[allow(
    dead_code,
    reason = "shared with the contract suite, which uses all of it"
)]
mod fixtures;
mod serving;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use fixtures::*;
use proof::approval::Decision;
use proof::record::Lane;
use proof::{EnvelopeType, Hash, merkle};
use store::{
    Conflict, GateState, ModelLimits, ModelSpend, ModelUsage, Pending, RunUpdate, Seat,
    StatementOutcome, Store, StoreError, open_sqlite, open_sqlite_as, open_sqlite_bounded,
};

struct Place {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.db");
        Self {
            _folder: folder,
            path,
        }
    }

    fn open(&self) -> Arc<dyn Store> {
        open_sqlite(&self.path).unwrap()
    }

    fn open_as(&self, seat: Seat) -> Result<Arc<dyn Store>, StoreError> {
        open_sqlite_as(&self.path, seat)
    }

    /// How long its write-ahead log is.
    fn log(&self) -> u64 {
        let name = format!("{}-wal", self.path.display());
        std::fs::metadata(name).map_or(0, |file| file.len())
    }

    /// Changes the file behind the store's back.
    fn tamper(&self, sql: &str) {
        let connection = rusqlite::Connection::open(&self.path).unwrap();
        connection.execute_batch(sql).unwrap();
    }
}

#[tokio::test]
async fn everything_is_there_again_after_reopening() {
    let place = Place::new();
    let store = place.open();
    let job = open_job(&store, 1).await;
    store.issue(token(&job, 1)).await.unwrap();
    awaiting(&store, &job, "run-1").await;
    let answered = append(&store, &job, intent(Lane::Model)).await.unwrap().seq;
    let pending = store.append_outcome(&job, at(11), outcome(answered), None, Vec::new());
    pending.await.unwrap();
    let approved = says(1, Decision::Approve, subject(&job, "run-1", "plan"), "n1");
    store.record_statement(approved.clone()).await.unwrap();
    store.save_checkpoint("note", 3).await.unwrap();
    store.touch(&token(&job, 1).token_hash, at(40));
    let before = (
        store.job(&job).await.unwrap(),
        records(&store, &job).await,
        store.run("run-1").await.unwrap(),
        store.statements("run-1").await.unwrap(),
        store.log_root(4).await.unwrap(),
        store.latest_checkpoint().await.unwrap(),
        store.contracts().await.unwrap(),
    );
    drop(store);

    let store = place.open();
    let after = (
        store.job(&job).await.unwrap(),
        records(&store, &job).await,
        store.run("run-1").await.unwrap(),
        store.statements("run-1").await.unwrap(),
        store.log_root(4).await.unwrap(),
        store.latest_checkpoint().await.unwrap(),
        store.contracts().await.unwrap(),
    );
    assert_eq!(after, before);
    let row = store.token(&token(&job, 1).token_hash).await.unwrap();
    assert_eq!(row.unwrap().last_used_at, Some(at(40)), "the last use too");
    let again = store.record_statement(approved).await.unwrap();
    assert_eq!(again, StatementOutcome::Duplicate);
    let next = append(&store, &job, refusal()).await.unwrap();
    assert_eq!((next.seq, next.leaf_index), (5, 4));
}

#[tokio::test]
async fn a_call_without_an_outcome_shows_after_a_crash() {
    let place = Place::new();
    let store = place.open();
    let job = open_job(&store, 1).await;
    let lost = append(&store, &job, intent(Lane::Terraform)).await.unwrap();
    let answered = append(&store, &job, intent(Lane::Model)).await.unwrap();
    let pending = store.append_outcome(&job, at(11), outcome(answered.seq), None, Vec::new());
    pending.await.unwrap();
    drop(store);

    let store = place.open();
    let open = store.open_intents().await.unwrap();
    assert_eq!(open.len(), 1);
    assert_eq!((&open[0].job_id, open[0].seq), (&job, lost.seq));
    assert_eq!(open[0].intent.lane, Lane::Terraform);
    let pending = store.append_outcome(&job, at(99), outcome(lost.seq), None, Vec::new());
    pending.await.unwrap();
    assert_eq!(store.open_intents().await.unwrap(), []);
}

#[tokio::test]
async fn a_copy_of_the_files_of_a_running_store_holds_what_was_answered() {
    let place = Place::new();
    let store = place.open();
    let job = open_job(&store, 1).await;
    for _ in 0..20 {
        append(&store, &job, refusal()).await.unwrap();
    }
    // As after a power failure: whatever is in the files now, with nobody to tidy up.
    let copy = Place::new();
    for suffix in ["", "-wal"] {
        let name = |path: &Path| PathBuf::from(format!("{}{suffix}", path.display()));
        std::fs::copy(name(&place.path), name(&copy.path)).unwrap();
    }
    let left = copy.log();
    let copied = copy.open();
    // Of pages that a failed sync left behind nothing is believed: all are written anew.
    assert!(left > 0 && copy.log() < left, "{left} {}", copy.log());
    assert_eq!(records(&copied, &job).await, records(&store, &job).await);
    assert_eq!(
        copied.log_root(21).await.unwrap(),
        store.log_root(21).await.unwrap()
    );
}

#[tokio::test]
async fn reservations_of_a_crash_are_spent() {
    let place = Place::new();
    let store = place.open();
    let job = open_job(&store, 1).await;
    let limits = ModelLimits::default();
    let most = ModelSpend {
        tokens: 70,
        cost: 700,
    };
    store
        .reserve_model(&job, limits, most, at(1))
        .await
        .unwrap();
    let key = Hash::of(b"key");
    let claimed = store.claim_model_key(&job, key, key, at(1)).await;
    assert_eq!(claimed.unwrap(), store::KeyClaim::New);
    // A second handle is no crash: the reservation may still be settled.
    let second = place.open();
    let reserved = ModelUsage {
        calls: 1,
        reserved: 70,
        cost_reserved: 700,
        ..ModelUsage::default()
    };
    assert_eq!(second.model_usage(&job).await.unwrap(), reserved);
    let claimed = second.claim_model_key(&job, key, key, at(1)).await;
    assert_eq!(claimed.unwrap(), store::KeyClaim::InFlight);
    drop((store, second));
    let spent = ModelUsage {
        calls: 1,
        tokens: 70,
        cost: 700,
        ..ModelUsage::default()
    };
    let store = place.open();
    assert_eq!(store.model_usage(&job).await.unwrap(), spent);
    let claimed = store.claim_model_key(&job, key, key, at(1)).await;
    assert_eq!(claimed.unwrap(), store::KeyClaim::Lost);
}

#[tokio::test]
async fn a_full_disk_fails_writes_and_leaves_nothing_half_written() {
    let place = Place::new();
    drop(place.open());
    let empty = std::fs::metadata(&place.path).unwrap().len();
    let store = open_sqlite_bounded(&place.path, empty + 65_536).unwrap();
    let job = open_job(&store, 1).await;
    let mut answered = 1;
    loop {
        let pending: Vec<Pending> = (0..16)
            .map(|_| store.append(&job, at(10), intent(Lane::Model)))
            .collect();
        let mut failed = 0;
        for pending in pending {
            match pending.await {
                Ok(_) => answered += 1,
                Err(StoreError::Unavailable(_)) => failed += 1,
                Err(other) => panic!("{other:?}"),
            }
        }
        if failed > 0 {
            break;
        }
        assert!(answered < 10_000, "the bound holds");
    }
    let consistent = async |store: &Arc<dyn Store>| {
        let all = records(store, &job).await;
        let seqs: Vec<u64> = all.iter().map(|(_, record)| record.seq).collect();
        assert_eq!(seqs, (1..=answered).collect::<Vec<_>>());
        assert_eq!(store.log_size().await.unwrap(), answered);
        let open = store.open_intents().await.unwrap();
        assert_eq!(open.len() as u64, answered - 1);
        let leaves: Vec<_> = all.iter().map(|(_, record)| record.leaf_hash()).collect();
        let root = merkle::root(leaves.as_slice(), answered).unwrap();
        assert_eq!(store.log_root(answered).await.unwrap(), Some(root));
    };
    consistent(&store).await;
    drop(store);

    let store = place.open();
    consistent(&store).await;
    let next = append(&store, &job, refusal()).await.unwrap();
    assert_eq!(next.seq, answered + 1, "with space again, it goes on");
}

#[tokio::test]
async fn a_full_queue_is_busy_at_once_and_keeps_what_it_took() {
    let place = Place::new();
    let store = place.open();
    let job = open_job(&store, 1).await;
    let other = rusqlite::Connection::open(&place.path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    // More than the queue and one batch hold, while nothing can be written.
    let pending: Vec<Pending> = (0..4400)
        .map(|_| store.append(&job, at(10), refusal()))
        .collect();
    other.execute_batch("ROLLBACK").unwrap();
    let (mut written, mut busy) = (0, 0);
    for pending in pending {
        match pending.await {
            Ok(appended) => {
                written += 1;
                assert_eq!(appended.seq, written + 1);
            }
            Err(StoreError::Busy) => busy += 1,
            Err(other) => panic!("{other:?}"),
        }
    }
    assert!(
        busy > 0 && written >= 4096,
        "{busy} busy, {written} written"
    );
    assert_eq!(store.log_size().await.unwrap(), written + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_handles_of_one_file_agree() {
    let place = Place::new();
    let handles = [place.open(), place.open()];
    let job = open_job(&handles[0], 1).await;
    handles[0].issue(token(&job, 1)).await.unwrap();
    for n in 0..8 {
        awaiting(&handles[1], &job, &format!("run-{n}")).await;
    }
    let tasks = handles.clone().map(|store| {
        let job = job.clone();
        tokio::spawn(async move {
            let mut moved = 0;
            for n in 0..8 {
                store.append(&job, at(10), refusal()).await.unwrap();
                let from = [GateState::AwaitingApproval];
                let run = format!("run-{n}");
                let won = store
                    .transition(&run, &from, GateState::Expired, at(9), RunUpdate::default())
                    .await;
                moved += u32::from(won.unwrap().is_some());
            }
            moved
        })
    });
    let mut moved = 0;
    for task in tasks {
        moved += task.await.unwrap();
    }
    assert_eq!(moved, 8, "each gate moved once");
    let [one, two] = handles;
    assert_eq!(one.log_size().await.unwrap(), 17);
    assert_eq!(records(&one, &job).await, records(&two, &job).await);
}

#[cfg(unix)]
#[tokio::test]
async fn only_the_owner_reads_the_files() {
    use std::os::unix::fs::PermissionsExt;

    let place = Place::new();
    std::fs::write(&place.path, b"").unwrap();
    let wide = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(&place.path, wide).unwrap();
    let store = place.open();
    open_job(&store, 1).await;
    for suffix in ["", "-wal", "-shm", ".lock"] {
        let name = format!("{}{suffix}", place.path.display());
        let mode = std::fs::metadata(&name).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[test]
fn other_files_are_refused() {
    let newer = Place::new();
    drop(newer.open());
    newer.tamper("INSERT INTO migrations VALUES (99, 'from the future', x'00')");
    let refused = open_sqlite(&newer.path).err();
    let hash_of_wrong_length = matches!(refused, Some(StoreError::Corrupt(_)));
    assert!(hash_of_wrong_length, "{refused:?}");
    newer.tamper("UPDATE migrations SET sha256 = zeroblob(32) WHERE number = 99");
    match open_sqlite(&newer.path).err() {
        Some(StoreError::Conflict(Conflict::NewerSchema { found: 99, known })) => {
            assert!(known < 99);
        }
        other => panic!("{other:?}"),
    }

    let edited = Place::new();
    drop(edited.open());
    edited.tamper("UPDATE migrations SET sha256 = zeroblob(32)");
    let foreign = Place::new();
    foreign.tamper("CREATE TABLE recipes (name TEXT)");
    let garbage = Place::new();
    std::fs::write(&garbage.path, [b'x'; 8192]).unwrap();
    for place in [edited, foreign, garbage] {
        let refused = open_sqlite(&place.path).err();
        assert!(
            matches!(refused, Some(StoreError::Corrupt(_))),
            "{refused:?}"
        );
    }
    let folder = tempfile::tempdir().unwrap();
    let nowhere = open_sqlite(&folder.path().join("missing/store.db")).err();
    assert!(matches!(nowhere, Some(StoreError::Unavailable(_))));
}

#[test]
fn the_schema_itself_keeps_what_was_written() {
    let place = Place::new();
    let store = place.open();
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.unwrap().block_on(async {
        let job = open_job(&store, 1).await;
        append(&store, &job, refusal()).await.unwrap();
    });
    drop(store);
    let connection = rusqlite::Connection::open(&place.path).unwrap();
    for sql in [
        "DELETE FROM records",
        "UPDATE records SET record = x'00'",
        "DELETE FROM leaves WHERE leaf_index = 1",
        "UPDATE leaves SET hash = zeroblob(32)",
        "DELETE FROM contracts",
        "UPDATE jobs SET phase = 'closed'",
        // Nothing is let go of a job that is not sealed.
        "INSERT INTO prunings SELECT job, 'records', 0, 'eve', 0 FROM jobs",
        "UPDATE records SET record = zeroblob(8)",
    ] {
        assert!(connection.execute_batch(sql).is_err(), "{sql}");
    }
}

#[tokio::test]
async fn a_damaged_row_is_told_as_damage() {
    let place = Place::new();
    let store = place.open();
    let job = open_job(&store, 1).await;
    place.tamper(
        "DROP TRIGGER records_stay; UPDATE records SET record = x'7b7d'; \
         UPDATE jobs SET agent_did = 'nobody'",
    );
    assert!(matches!(
        store.records(&job, 0, 9).await,
        Err(StoreError::Corrupt(_))
    ));
    assert!(matches!(store.job(&job).await, Err(StoreError::Corrupt(_))));
}

/// A store of an earlier version keeps its receipts and what was open.
#[tokio::test]
async fn the_step_to_fewer_pages_takes_along_what_is_there() {
    const BEFORE: [(&str, &str); 6] = [
        (
            "0001_spine",
            include_str!("../../migrations/sqlite/0001_spine.sql"),
        ),
        (
            "0002_task_calls",
            include_str!("../../migrations/sqlite/0002_task_calls.sql"),
        ),
        (
            "0003_observations",
            include_str!("../../migrations/sqlite/0003_observations.sql"),
        ),
        (
            "0004_model_money",
            include_str!("../../migrations/sqlite/0004_model_money.sql"),
        ),
        (
            "0005_model_keys",
            include_str!("../../migrations/sqlite/0005_model_keys.sql"),
        ),
        (
            "0006_passkeys",
            include_str!("../../migrations/sqlite/0006_passkeys.sql"),
        ),
    ];
    // The records as this version writes them, in the tables of the earlier one.
    let (new, old) = (Place::new(), Place::new());
    let store = new.open();
    let job = open_job(&store, 1).await;
    let mut kept = Vec::new();
    for n in 0..4 {
        let seq = append(&store, &job, intent(Lane::Model)).await.unwrap().seq;
        if n % 2 == 0 {
            let (envelope, named) = receipt(EnvelopeType::GatewayReceipt, &format!("rcpt_{n}"));
            let mut answered = outcome(seq);
            answered.receipt = Some(named);
            let answer = Some(envelope.clone());
            let pending = store.append_outcome(&job, at(11), answered, answer, Vec::new());
            pending.await.unwrap();
            kept.push(envelope);
        }
    }
    let open = store.open_intents().await.unwrap();
    let all = records(&store, &job).await;
    drop(store);
    old.tamper(
        "PRAGMA application_id = 0x636c6177;
         CREATE TABLE migrations (number INTEGER PRIMARY KEY, name TEXT NOT NULL,
             sha256 BLOB NOT NULL) STRICT;",
    );
    let connection = rusqlite::Connection::open(&old.path).unwrap();
    for (index, (name, sql)) in BEFORE.iter().enumerate() {
        connection.execute_batch(sql).unwrap();
        connection
            .execute(
                "INSERT INTO migrations VALUES (?1, ?2, ?3)",
                (index as i64 + 1, name, Hash::of(sql.as_bytes()).as_bytes()),
            )
            .unwrap();
    }
    drop(connection);
    let published = "policy_hash, name, version, envelope, author_did, published_at, published_by";
    let columns = "job, job_id, agent_did, name, policy_hash, gateway_did, opened_by, opened_at,
        last_seq, last_at, chain_count, chain_last, calls, model_calls, open_intents";
    old.tamper(&format!(
        "ATTACH '{}' AS new;
         INSERT INTO contracts ({published}) SELECT {published} FROM new.contracts;
         INSERT INTO jobs ({columns}) SELECT {columns} FROM new.jobs;
         INSERT INTO records SELECT leaf_index, job, seq, kind, record FROM new.records;
         INSERT INTO leaves SELECT * FROM new.leaves;
         INSERT INTO open_intents SELECT leaf_index, job, seq FROM new.records
             WHERE kind = 'intent' AND seq IN (4, 7) ORDER BY leaf_index DESC;
         INSERT INTO receipts SELECT r.job, seq, receipt_id, r.kind, envelope
             FROM new.receipts AS r JOIN new.records ON leaf_index = outcome;",
        new.path.display()
    ));

    let store = old.open();
    assert_eq!(records(&store, &job).await, all);
    assert_eq!(store.receipts(&job).await.unwrap().gateway, kept);
    let one = store.receipt(&job, "rcpt_2").await.unwrap();
    assert_eq!(one.as_ref(), Some(&kept[1]));
    assert_eq!(store.open_intents().await.unwrap(), open);
    for intent in open {
        let answered = outcome(intent.seq);
        let pending = store.append_outcome(&job, at(12), answered, None, Vec::new());
        pending.await.unwrap();
    }
    assert_eq!(store.open_intents().await.unwrap(), []);
}

#[tokio::test]
async fn records_from_before_times_were_noted_are_not_passed_over() {
    let place = Place::new();
    let store = place.open();
    let job = open_job(&store, 1).await;
    for ms in [10, 900] {
        store.append(&job, at(ms), refusal()).await.unwrap();
    }
    drop(store);
    place.tamper(
        "DROP TRIGGER records_stay; UPDATE records SET latest = NULL;
         CREATE TRIGGER records_stay BEFORE UPDATE ON records
         BEGIN SELECT raise(ABORT, 'append only'); END;",
    );
    let store = place.open();
    let other = open_job(&store, 2).await;
    for ms in [20, 950] {
        store.append(&other, at(ms), refusal()).await.unwrap();
    }
    // The records of the second job have an older time than one of the first: leaves 3 and 4.
    for (ms, leaf) in [(0, 0), (5, 0), (900, 0), (901, 5), (950, 5), (951, 6)] {
        assert_eq!(store.log_place(at(ms)).await.unwrap(), leaf, "{ms}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_is_made_under_load_is_a_whole_store_of_its_own() {
    let place = Place::new();
    let store = place.open();
    let job = open_job(&store, 1).await;
    for _ in 0..500 {
        append(&store, &job, refusal()).await.unwrap();
    }
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let writing = {
        let (store, job, stop) = (Arc::clone(&store), job.clone(), Arc::clone(&stop));
        tokio::spawn(async move {
            let mut written = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                append(&store, &job, refusal()).await.unwrap();
                written += 1;
            }
            written
        })
    };
    let before = store.log_size().await.unwrap();
    let copy = place.path.with_file_name("copy.db");
    let (from, to) = (place.path.clone(), copy.clone());
    let copied = tokio::task::spawn_blocking(move || store::copy_store(&from, &to));
    copied.await.unwrap().unwrap();
    let after = store.log_size().await.unwrap();
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    assert!(writing.await.unwrap() > 0, "the writer went on");

    let found = store::check_store(store::StorePlace::File(&copy)).unwrap();
    assert_eq!(found.faults, Vec::<String>::new());
    assert!((before..=after).contains(&found.records));
    // Its log is the beginning of the one that went on.
    let root = store.log_root(found.records).await.unwrap();
    assert_eq!(root, Some(found.root));
    let mode = std::os::unix::fs::PermissionsExt::mode(&copy.metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    // A store like any other goes on from it.
    let restored = open_sqlite(&copy).unwrap();
    append(&restored, &job, refusal()).await.unwrap();
    assert_eq!(restored.log_size().await.unwrap(), found.records + 1);
}

/// A sealed job with some records, whose content went.
async fn pruned(store: &Arc<dyn Store>) -> proof::record::JobId {
    let job = open_job(store, 1).await;
    append(store, &job, refusal()).await.unwrap();
    store.close_job(&job, "ada", "done", at(40)).await.unwrap();
    let bundle = store::BundleRow {
        job_id: job.clone(),
        sha256: hash("bundle"),
        bytes: 1,
        sealed_at: at(50),
        verdict: None,
    };
    store.save_bundle(bundle, Vec::new()).await.unwrap();
    let part = store::Part::Records;
    store
        .begin_pruning(&job, part, "ada", at(60))
        .await
        .unwrap();
    let mut before = None;
    while let Some(lowest) = store.prune_records(&job, before).await.unwrap() {
        before = Some(lowest);
    }
    store.finish_pruning(&job, part).await.unwrap();
    job
}

#[tokio::test]
async fn what_went_is_told_from_what_is_missing() {
    let place = Place::new();
    let store = place.open();
    let late = pruned(&store).await;
    store.hold(&late, "eve", "too late", at(70)).await.unwrap();
    let other = open_job(&store, 2).await;
    append(&store, &other, refusal()).await.unwrap();
    let size = store.log_size().await.unwrap();
    drop(store);
    let check = |path: &Path| store::check_store(store::StorePlace::File(path)).unwrap();
    let found = check(&place.path);
    assert_eq!(found.faults, Vec::<String>::new());
    assert_eq!((found.records, found.pruned), (size, 3));
    // It is carried to another store as it is.
    let mut carried = Vec::new();
    store::export_store(store::StorePlace::File(&place.path), &mut carried).unwrap();
    let elsewhere = Place::new();
    let read = store::import_store(
        store::StorePlace::File(&elsewhere.path),
        &mut carried.as_slice(),
    );
    assert_eq!(read.unwrap(), found);
    // Nothing of the content is left in the file.
    let bytes = std::fs::read(&place.path).unwrap();
    let said = b"the contract does not allow it";
    let times = bytes
        .windows(said.len())
        .filter(|part| part == said)
        .count();
    assert_eq!(times, 1, "in the record of the other job only");

    // Content that nobody let go, and a leaf that is another one.
    place.tamper("DROP TRIGGER records_stay; UPDATE records SET record = zeroblob(8)");
    let faults = check(&place.path).faults;
    assert!(
        faults
            .iter()
            .any(|fault| fault.contains("nobody let them go")),
        "{faults:?}"
    );
    elsewhere.tamper(
        "DROP TRIGGER leaves_stay; UPDATE leaves SET hash = zeroblob(32) WHERE leaf_index = 1",
    );
    assert_ne!(check(&elsewhere.path).root, found.root);
}
