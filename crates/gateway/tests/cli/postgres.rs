//! A whole job whose store is a PostgreSQL database.

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
