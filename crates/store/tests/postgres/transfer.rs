//! An installation moves from one engine to the other and back.

use std::path::Path;
use std::sync::Arc;

use proof::approval::Decision;
use proof::checkpoint::Checkpoint;
use proof::record::Lane;
use proof::{EnvelopeType, Hash, Json};
use store::{
    PostgresPlace, Store, StorePlace, TransferError, check_store, export_store, import_store,
    open_sqlite,
};

use crate::fixtures::*;
use crate::server::Schema;

/// Something in every kind of table, and more records than a page holds.
async fn fill(store: &Arc<dyn Store>) {
    let job = open_job(store, 1).await;
    for n in 0..300_u32 {
        let seq = append(store, &job, intent(Lane::Model)).await.unwrap().seq;
        let (envelope, named) = receipt(EnvelopeType::GatewayReceipt, &format!("rcpt_{n}"));
        let mut answered = outcome(seq);
        answered.receipt = Some(named);
        let seen = vec![seen(&format!("run-{n}"), "ws-1", None)];
        let pending = store.append_outcome(&job, at(11), answered, Some(envelope), seen);
        pending.await.unwrap();
    }
    let set = first_key_set();
    store.append_key_set(1, set, at(12)).await.unwrap();
    append(store, &job, intent(Lane::Terraform)).await.unwrap();
    store.issue(token(&job, 1)).await.unwrap();
    store.issue(token(&job, 2)).await.unwrap();
    store
        .revoke(&token(&job, 2).token_hash, "ada", "lost", at(12))
        .await
        .unwrap();
    awaiting(store, &job, "run-1").await;
    let approved = says(1, Decision::Approve, subject(&job, "run-1", "plan"), "n1");
    store.record_statement(approved).await.unwrap();
    let mut object = Json::object();
    object.set("address", "a \"quoted\" näme");
    store
        .keep_plan_objects("run-1", vec![object])
        .await
        .unwrap();
    for size in [300, 512, store.log_size().await.unwrap()] {
        let root = store.log_root(size).await.unwrap().unwrap();
        let checkpoint = Checkpoint {
            origin: "gateway.example".into(),
            size,
            root,
        };
        let note = checkpoint.sign(&key(3));
        store.save_checkpoint(&note, size).await.unwrap();
    }
}

fn export(place: StorePlace<'_>) -> Vec<u8> {
    let mut file = Vec::new();
    export_store(place, &mut file).unwrap();
    file
}

fn import(place: StorePlace<'_>, mut file: &[u8]) -> Result<store::Soundness, TransferError> {
    import_store(place, &mut file)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_moves_there_and_back_with_its_log() {
    let Some(schema) = Schema::new() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (old, back) = (folder.path().join("old.db"), folder.path().join("back.db"));
    let store = open_sqlite(&old).unwrap();
    fill(&store).await;
    let job = job_id(1);
    let size = store.log_size().await.unwrap();
    let root = store.log_root(size).await.unwrap().unwrap();
    // Also while it is in use.
    let file = export(StorePlace::File(&old));

    let place = schema.place();
    let database = StorePlace::Database(&place);
    let sound = import(database, &file).unwrap();
    assert_eq!((sound.records, sound.root, sound.jobs), (size, root, 1));
    assert_eq!(sound.checkpoints, 3);
    let moved = schema.open();
    assert_eq!(records(&moved, &job).await, records(&store, &job).await);
    assert_eq!(
        moved.receipts(&job).await.unwrap(),
        store.receipts(&job).await.unwrap()
    );
    assert_eq!(
        moved.statements("run-1").await.unwrap(),
        store.statements("run-1").await.unwrap()
    );
    assert_eq!(
        moved.open_intents().await.unwrap(),
        store.open_intents().await.unwrap()
    );
    assert_eq!(check_store(database).unwrap(), sound, "while it is in use");
    assert_eq!(export(database), file, "the same bytes");
    assert!(
        matches!(
            import(StorePlace::File(&old), &file),
            Err(TransferError::Store(_))
        ),
        "not while somebody has it open"
    );

    // It goes on there, and comes back with what was added.
    let next = append(&moved, &job, refusal()).await.unwrap();
    assert_eq!(next.leaf_index, size);
    drop(moved);
    let grown = import(StorePlace::File(&back), &export(database)).unwrap();
    assert_eq!(grown.records, size + 1);
    let store = open_sqlite(&back).unwrap();
    assert_eq!(
        store.log_root(size).await.unwrap(),
        Some(root),
        "the same log"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_not_whole_leaves_nothing() {
    let Some(schema) = Schema::new() else { return };
    let folder = tempfile::tempdir().unwrap();
    let old = folder.path().join("old.db");
    let store = open_sqlite(&old).unwrap();
    fill(&store).await;
    drop(store);
    let file = export(StorePlace::File(&old));
    let text = String::from_utf8(file.clone()).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let without = |name: &str, nth: usize| {
        let table = lines
            .iter()
            .position(|line| line.contains(&format!("\"{name}\",")));
        let mut lines = lines.clone();
        lines.remove(table.unwrap() + 1 + nth);
        lines.join("\n") + "\n"
    };
    let place = schema.place();
    for (what, damaged) in [
        (
            "a byte",
            text.replacen("grow the staging", "grow the stagin9", 1),
        ),
        ("its end", lines[..lines.len() - 1].join("\n") + "\n"),
        ("half a line", text[..text.len() / 2].to_owned()),
        ("a row", without("tokens", 0)),
        ("more", format!("{text}{{}}\n")),
        ("another file", "{\"version\":1}\n".to_owned()),
        ("nothing", String::new()),
        // Whoever changes the file can make its digest fit, but not the log.
        ("a leaf", signed(&without("leaves", 7))),
        ("a record", signed(&without("records", 601))),
        (
            "a receipt's record",
            signed(&text.replace("[2,1,\"rcpt_0\"", "[1,1,\"rcpt_0\"")),
        ),
        (
            "a checkpoint",
            signed(&text.replacen(
                "[512,\"gateway.example\\n512\\n",
                "[511,\"gateway.example\\n511\\n",
                1,
            )),
        ),
        (
            "a foreign table",
            signed(&text.replacen("\"operators\"", "\"migrations\"", 1)),
        ),
        (
            "a foreign column",
            signed(&text.replacen("\"opened_by_email\"", "\"job) SELECT 1 --\"", 1)),
        ),
    ] {
        assert!(damaged != text, "{what}");
        let refused = import(StorePlace::Database(&place), damaged.as_bytes());
        assert!(refused.is_err(), "{what}: {refused:?}");
        let empty = check_store(StorePlace::Database(&place)).unwrap();
        assert_eq!((empty.records, empty.jobs), (0, 0), "{what}");
    }
    import(StorePlace::Database(&place), &file).unwrap();
    let again = import(StorePlace::Database(&place), &file);
    assert!(
        matches!(again, Err(TransferError::NotEmpty("contracts"))),
        "{again:?}"
    );
}

/// The text with the end that fits it.
fn signed(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let body = lines[..lines.len() - 1].join("\n") + "\n";
    let rows = lines.iter().filter(|line| line.starts_with('[')).count();
    let digest = Hash::of(body.as_bytes()).to_hex();
    format!("{body}{{\"rows\":{rows},\"sha256\":\"{digest}\"}}\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_names_what_is_not_in_order() {
    let Some(_) = Schema::new() else { return };
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole.db");
    let store = open_sqlite(&whole).unwrap();
    fill(&store).await;
    drop(store);
    let file = export(StorePlace::File(&whole));
    for (damage, fault) in [
        (
            "DROP TRIGGER leaves_stay ON leaves; UPDATE leaves SET hash = sha256('x') WHERE leaf_index = 5",
            "leaf 5 is not",
        ),
        (
            "DROP TRIGGER leaves_keep ON leaves; DELETE FROM leaves WHERE leaf_index = 602",
            "leaf 602",
        ),
        ("UPDATE tiles SET hash = sha256('x')", "tree is not"),
        (
            "UPDATE tiles SET hash = sha256('x')",
            "tile 1 of level 8 is not",
        ),
        (
            "UPDATE checkpoints SET note = replace(note, '512', '512 ') WHERE size = 512; UPDATE checkpoints SET note = 'x' WHERE size = 300",
            "checkpoint of 300",
        ),
        ("UPDATE jobs SET last_seq = last_seq + 1", "without gaps"),
        (
            "INSERT INTO receipts SELECT 0, job, 'rcpt_x', kind, envelope FROM receipts LIMIT 1",
            "receipts have no outcome",
        ),
        ("INSERT INTO checkpoints VALUES (9999, 'x')", "9999 leaves"),
    ] {
        let schema = Schema::new().unwrap();
        let place: PostgresPlace = schema.place();
        import(StorePlace::Database(&place), &file).unwrap();
        schema.tamper(damage).unwrap();
        let found = check_store(StorePlace::Database(&place)).unwrap();
        assert!(
            found.faults.iter().any(|found| found.contains(fault)),
            "{damage}: {found:?}"
        );
    }
    let missing = Path::new("/no/such/folder/store.db");
    assert!(check_store(StorePlace::File(missing)).is_err());
}

/// Tables that take longer to read than a statement may elsewhere. They say so themselves: whoever
/// is in a hurry finds them empty, or may not write them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_on_a_whole_store_takes_its_time() {
    let (Some(schema), Some(other)) = (Schema::new(), Schema::new()) else {
        return;
    };
    let store = schema.open();
    fill(&store).await;
    drop(store);
    let (place, there) = (schema.place(), other.place());
    let exported = export(StorePlace::Database(&place));
    schema
        .tamper(
            "ALTER TABLE jobs RENAME TO large;
             CREATE VIEW jobs AS SELECT * FROM large
                 WHERE current_setting('statement_timeout') = '0'",
        )
        .unwrap();
    let checked = check_store(StorePlace::Database(&place)).unwrap();
    assert_eq!((checked.faults, checked.jobs), (Vec::new(), 1));
    assert_eq!(export(StorePlace::Database(&place)), exported);

    store::migrate_store(StorePlace::Database(&there)).unwrap();
    other
        .tamper(
            "CREATE FUNCTION in_no_hurry() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                 IF current_setting('statement_timeout') <> '0'
                     OR current_setting('idle_in_transaction_session_timeout') <> '0' THEN
                     RAISE 'in a hurry';
                 END IF;
                 RETURN NEW;
             END $$;
             CREATE TRIGGER in_no_hurry BEFORE INSERT ON jobs
                 FOR EACH ROW EXECUTE FUNCTION in_no_hurry()",
        )
        .unwrap();
    import_store(StorePlace::Database(&there), &mut exported.as_slice()).unwrap();
    // What is done for callers has its bound as before.
    let gateway = other.open();
    gateway.publish(contract("other", "v2")).await.unwrap();
    let opened = gateway.open_job(job_id(7), at(0), opening("v2")).await;
    assert!(opened.is_err(), "{opened:?}");
}
