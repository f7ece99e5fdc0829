//! Applying: held until a person approves this very plan.

use store::GateState;

use crate::evidence::{begun, judgements};
use crate::world::{Setup, terraform};

#[tokio::test]
async fn auto_approve_is_held_approved_and_applied() {
    let Some(engine) = terraform() else { return };
    let world = Setup::new().engine(engine).start().await;
    let cli = world.cli().await;
    let (ended, run) = tokio::join!(
        cli.run(&["apply", "-auto-approve", "-input=false"]),
        world.approve_when_asked()
    );
    let output = ended.ok();
    assert!(output.contains("Apply complete! Resources: 1 added, 1 changed"), "{output}");
    assert_eq!(world.instances(), 2);
    world.run_at(&run, GateState::Applied).await;

    let applied = world.asked("POST", "/actions/apply");
    assert_eq!(applied.len(), 1);
    assert_eq!(applied[0].bearer.as_deref(), Some("executor"));
    let bundle = world.valid_evidence().await;
    assert_eq!((begun(&bundle, "apply-run"), judgements(&bundle)), (1, 1));
    let run = &bundle.terraform.runs[0];
    assert_eq!(run.status, "applied");
    assert!(run.state_version_before.is_some() && run.state_version_after.is_some());
}
