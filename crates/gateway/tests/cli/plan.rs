//! Planning through the gateway.

use crate::evidence::{begun, refusals};
use crate::terraform::Cli;
use crate::world::{APP, Setup, terraform};

#[tokio::test]
async fn a_plan_is_made_freely_and_proven() {
    let Some(engine) = terraform() else { return };
    let world = Setup::new().engine(engine).start().await;
    let cli = Cli::new(&world, "agent");
    let init = cli.run(&["init", "-input=false"]).await.ok();
    assert!(init.contains("HCP Terraform has been successfully initialized!"), "{init}");
    let plan = cli.run(&["plan", "-input=false"]).await.ok();
    assert!(plan.contains("# terraform_data.instance[1] will be created"), "{plan}");
    assert!(plan.contains("Plan: 1 to add, 1 to change, 0 to destroy."), "{plan}");
    assert_eq!(world.instances(), 1);

    let run = &world.asked("POST", "/api/v2/runs")[0];
    assert_eq!(run.bearer.as_deref(), Some("planner"));
    let bundle = world.valid_evidence().await;
    assert_eq!(begun(&bundle, "create-run"), 1);
    assert_eq!(begun(&bundle, "apply-run"), 0);
    // The CLI looks for a state and does without when there is none for it.
    assert!(refusals(&bundle).iter().all(|code| code == "STATE_READ_DENIED"), "{:?}", refusals(&bundle));
    assert_eq!(bundle.terraform.runs[0].workspace_id, APP);
}
