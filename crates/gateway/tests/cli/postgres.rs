//! A whole job whose store is a PostgreSQL database.

use std::process::Command;

use clawgate::secret::SecretSource;
use store::GateState;

use crate::world::{Setup, terraform};

#[path = "../../../store/tests/contract/server.rs"]
#[allow(
    dead_code,
    reason = "shared with the tests of the store, which use all of it"
)]
mod server;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_job_with_restarts_and_lost_connections() {
    let Some(schema) = server::Schema::new() else {
        return;
    };
    let Some(engine) = terraform() else { return };
    let folder = tempfile::tempdir().unwrap();
    let address = folder.path().join("database.url");
    std::fs::write(&address, schema.address()).unwrap();
    let mut setup = Setup::new().restartable().engine(engine);
    let before = setup.config;
    setup.config = Box::new(move |config| {
        before(config);
        config.store.url = Some(SecretSource::File(address));
    });
    let mut world = setup.start().await;
    assert!(!world.config.store_file().exists(), "no file is made");

    let run = world.agent().held_run().await;
    world.restart().await;
    assert_eq!(world.run(&run).await.gate, GateState::AwaitingApproval);
    schema.end_sessions();
    world.approve(&run).await;
    world.run_at(&run, GateState::Applied).await;
    assert_eq!(world.asked("POST", "/actions/apply").len(), 1);
    let cli = world.cli().await;
    let again = cli.run(&["apply", "-auto-approve"]).await.ok();
    assert!(again.contains("No changes."), "{again}");
    world.valid_evidence().await;
    drop(world);
}

/// Runs `clawgate store` and gives back what it prints, and whether it did what it says.
fn store_command(config: &std::path::Path, words: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_clawgate"))
        .arg("store")
        .args(words)
        .arg("--config")
        .arg(config)
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_installation_moves_to_a_database_and_goes_on() {
    let Some(schema) = server::Schema::new() else {
        return;
    };
    let mut world = Setup::new().restartable().start().await;
    let run = world.agent().held_run().await;
    let job = world.job.clone();
    let folder = tempfile::tempdir().unwrap();
    let [address, config, file] =
        ["database.url", "clawgate.toml", "store.jsonl"].map(|name| folder.path().join(name));
    let path = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    world.stop().await;
    let write = |world: &crate::world::World| {
        std::fs::write(&config, toml::to_string(&world.config).unwrap()).unwrap();
    };
    write(&world);
    let (done, said) = store_command(&config, &["export", "--out", &path(&file)]);
    assert!(done, "{said}");
    let (done, said) = store_command(&config, &["export", "--out", &path(&file)]);
    assert!(!done && said.contains("exists"), "{said}");
    let old = store::open_sqlite(&world.config.store_file()).unwrap();
    let size = old.log_size().await.unwrap();
    let root = old.log_root(size).await.unwrap();
    drop(old);

    let secret = schema.address().replace("postgres@", "postgres:hunter2@");
    std::fs::write(&address, &secret).unwrap();
    world.config.store.url = Some(SecretSource::File(address));
    write(&world);
    let (done, said) = store_command(&config, &["import", &path(&file)]);
    assert!(done && said.contains("whole"), "{said}");
    let (done, again) = store_command(&config, &["import", &path(&file)]);
    assert!(!done && again.contains("not empty"), "{again}");
    let (done, checked) = store_command(&config, &["check", "--json"]);
    assert!(done, "{checked}");
    let checked: serde_json::Value = serde_json::from_str(&checked).unwrap();
    assert_eq!(checked["records"], size);
    for said in [&said, &again, &checked.to_string()] {
        assert!(!said.contains("hunter2"), "{said}");
    }

    // The same run, held since before, is approved and applied; the bundle is of one log.
    world.start_again().await;
    world.approve(&run).await;
    world.run_at(&run, GateState::Applied).await;
    let store = &world.app().store;
    assert_eq!(
        store.log_root(size).await.unwrap(),
        root,
        "the log that was"
    );
    let kept = store.records(&job, 0, 1000).await.unwrap();
    assert!(kept.len() as u64 > size);
    let (done, said) = store_command(&config, &["import", &path(&file)]);
    assert!(!done, "not while the gateway runs: {said}");
    world.valid_evidence().await;
}
