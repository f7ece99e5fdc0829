//! The schema of every earlier version, with data in it, becomes that of this one.

use proof::Hash;
use proof::record::Lane;
use store::{StorePlace, check_store, export_store};

use crate::fixtures::*;
use crate::server::Schema;

/// The steps as they are written, in order: name and statements.
fn steps() -> Vec<(String, String)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/postgres");
    let mut steps: Vec<(String, String)> = std::fs::read_dir(folder)
        .unwrap()
        .map(|file| {
            let path = file.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            (name, std::fs::read_to_string(path).unwrap())
        })
        .collect();
    steps.sort();
    steps
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_of_every_earlier_version_is_taken_along() {
    let Some(new) = Schema::new() else { return };
    let store = new.open();
    let job = open_job(&store, 1).await;
    for _ in 0..3 {
        append(&store, &job, intent(Lane::Model)).await.unwrap();
    }
    store.issue(token(&job, 1)).await.unwrap();
    awaiting(&store, &job, "run-1").await;
    let all = records(&store, &job).await;
    let open = store.open_intents().await.unwrap();
    drop(store);
    let steps = steps();
    assert!(steps.len() > 1);
    for taken in 1..steps.len() {
        let old = Schema::new().unwrap();
        old.tamper(
            "CREATE TABLE migrations (number BIGINT PRIMARY KEY, name TEXT NOT NULL,
                 sha256 BYTEA NOT NULL)",
        )
        .unwrap();
        for (index, (name, sql)) in steps.iter().take(taken).enumerate() {
            old.tamper(sql).unwrap();
            old.tamper(&format!(
                "INSERT INTO migrations VALUES ({}, '{name}', '\\x{}')",
                index + 1,
                Hash::of(sql.as_bytes()).to_hex()
            ))
            .unwrap();
        }
        // What this version wrote, as far as the earlier one had a place for it.
        old.tamper(&format!(
            "SET session_replication_role = replica;
             DO $$ DECLARE t TEXT; c TEXT; BEGIN
                 FOR t IN SELECT table_name FROM information_schema.tables
                          WHERE table_schema = current_schema()
                            AND table_name NOT IN ('migrations', 'sequencer', 'writers', 'claims') LOOP
                     SELECT string_agg(quote_ident(column_name), ', ') INTO c
                     FROM information_schema.columns
                     WHERE table_schema = current_schema() AND table_name = t;
                     EXECUTE format('INSERT INTO %I (%s) SELECT %s FROM {}.%I', t, c, c, t);
                 END LOOP;
             END $$",
            new.name()
        ))
        .unwrap();
        let store = old.open();
        assert_eq!(records(&store, &job).await, all, "after step {taken}");
        assert_eq!(store.open_intents().await.unwrap(), open);
        let next = append(&store, &job, refusal()).await.unwrap();
        assert_eq!(next.leaf_index, all.len() as u64);
        drop(store);
        let place = old.place();
        let sound = check_store(StorePlace::Database(&place)).unwrap();
        assert_eq!(sound.faults, [""; 0]);
        export_store(StorePlace::Database(&place), &mut Vec::new()).unwrap();
    }
}
