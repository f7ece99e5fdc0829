//! The way back, as the Terraform CLI sees it.

use serde_json::json;
use store::GateState;

use crate::terraform::words;
use crate::world::{APP, Setup, terraform};

#[tokio::test]
async fn after_a_rollback_the_next_plan_shows_the_difference() {
    let Some(engine) = terraform() else {
        return;
    };
    let mut world = Setup::new().engine(engine).start().await;
    let cli = world.cli().await;
    let (ended, run) = tokio::join!(
        cli.run(&["apply", "-auto-approve"]),
        world.approve_when_asked()
    );
    ended.ok();
    let applied = world.run_at(&run, GateState::Applied).await;
    assert_eq!(world.instances(), 2);
    let unchanged = words(&cli.run(&["plan", "-input=false"]).await.ok());
    assert!(unchanged.contains("No changes."), "{unchanged}");

    // By the operator's own command.
    let before = applied.state_version_before.unwrap();
    let program = env!("CARGO_BIN_EXE_clawgate");
    let command = tokio::process::Command::new(program)
        .args(["rollback", "state", APP, &before, "--yes", "--json"])
        .args(["--reason", "the second instance was a mistake"])
        .args(["--job", world.job.as_str()])
        .env("CLAWGATE_OPERATOR", &world.gateway().operator_url)
        .env("CLAWGATE_CREDENTIAL", &world.operator_token)
        .output()
        .await
        .unwrap();
    assert!(command.status.success(), "{command:?}");
    let made: serde_json::Value = serde_json::from_slice(&command.stdout).unwrap();
    assert_ne!(made["state_version_id"], json!(before));
    assert_eq!(world.instances(), 1, "the state is the earlier one again");

    // Terraform believes that the second instance is not there.
    let difference = words(&cli.run(&["plan", "-input=false"]).await.ok());
    assert!(
        difference.contains("Plan: 1 to add, 1 to change, 0 to destroy."),
        "{difference}"
    );
    // And the gateway still knows what it did, after a restart too.
    world.stop().await;
    world.start_again().await;
    world.valid_evidence().await;
}
