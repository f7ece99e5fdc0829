//! Planning through the gateway.

use crate::evidence::{begun, refusals};
use crate::terraform::{Cli, two_instances, words};
use crate::world::{APP, Setup, terraform};

#[tokio::test]
async fn a_plan_is_made_freely_and_proven() {
    let Some(engine) = terraform() else { return };
    let world = Setup::new().engine(engine).start().await;
    let cli = Cli::new(&world, "agent");
    let init = cli.run(&["init", "-input=false"]).await.ok();
    assert!(
        init.contains("HCP Terraform has been successfully initialized!"),
        "{init}"
    );
    let plan = cli.run(&["plan", "-input=false"]).await.ok();
    assert!(
        plan.contains("# terraform_data.instance[1] will be created"),
        "{plan}"
    );
    assert!(
        plan.contains("Plan: 1 to add, 1 to change, 0 to destroy."),
        "{plan}"
    );
    assert_eq!(world.instances(), 1);

    let run = &world.asked("POST", "/api/v2/runs")[0];
    assert_eq!(run.bearer.as_deref(), Some("planner"));
    let bundle = world.valid_evidence().await;
    assert_eq!(begun(&bundle, "create-run"), 1);
    assert_eq!(begun(&bundle, "apply-run"), 0);
    // The CLI looks for a state and does without when there is none for it.
    assert!(
        refusals(&bundle)
            .iter()
            .all(|code| code == "STATE_READ_DENIED"),
        "{:?}",
        refusals(&bundle)
    );
    assert_eq!(bundle.terraform.runs[0].workspace_id, APP);
}

#[tokio::test]
async fn b05_a_saved_plan_is_shown_held_and_applied() {
    if terraform().is_none() {
        return;
    }
    let world = Setup::new().start().await;
    let cli = world.cli().await;
    cli.run(&["plan", "-input=false", "-out=saved.tfplan"])
        .await
        .ok();
    let shown = cli.run(&["show", "saved.tfplan"]).await.ok();
    assert!(
        shown.contains("terraform_data.instance[1] will be created"),
        "{shown}"
    );
    // The full plan JSON holds secrets in clear text.
    let json = words(&cli.run(&["show", "-json", "saved.tfplan"]).await.failed());
    assert!(json.contains("(PLAN_JSON_DENIED)"), "{json}");
    let (ended, _) = tokio::join!(
        cli.run(&["apply", "-input=false", "saved.tfplan"]),
        world.approve_when_asked()
    );
    let output = ended.ok();
    assert!(
        output.contains("Apply complete! Resources: 1 added, 1 changed"),
        "{output}"
    );
    assert_eq!(world.instances(), 2);
    let bundle = world.valid_evidence().await;
    // The apply twice: the agent's wish, and the gateway's own call.
    assert_eq!(
        (begun(&bundle, "create-run"), begun(&bundle, "apply-run")),
        (1, 2)
    );
    assert_eq!(world.asked("POST", "/actions/apply").len(), 1);
}

#[tokio::test]
async fn the_contracts_second_workspace_works_too() {
    if terraform().is_none() {
        return;
    }
    let world = Setup::new().start().await;
    let cli = Cli::new(&world, "agent");
    cli.write(
        "main.tf",
        &sim::example_configuration()[0]
            .1
            .replace("staging-app", "staging-db"),
    );
    cli.run(&["init", "-input=false"]).await.ok();
    let plan = cli.run(&["plan", "-input=false"]).await.ok();
    assert!(
        plan.contains("to add, 0 to change, 0 to destroy."),
        "{plan}"
    );
    assert_eq!(world.runs().await[0].workspace_id, "ws-staging-db");
    world.valid_evidence().await;
}

/// A plan of which nothing may be shown is still drawn, approved and applied.
#[tokio::test]
async fn d05_a_plan_that_marks_more_than_can_be_masked_is_held_back() {
    let Some(engine) = terraform() else { return };
    let world = Setup::new().engine(engine).start().await;
    let cli = Cli::new(&world, "agent");
    let many = r#"
output "many" {
  value     = flatten([for a in range(3) : [for n in range(667) : "filler-${a}-${n}"]])
  sensitive = true
}
"#;
    cli.write("main.tf", &format!("{}{many}", two_instances()));
    cli.run(&["init", "-input=false"]).await.ok();
    let (ended, _) = tokio::join!(
        cli.run(&["apply", "-input=false", "-auto-approve"]),
        world.approve_when_asked()
    );
    let output = ended.ok();
    assert!(
        output.contains("clawgate holds this back: the plan marks more values as sensitive"),
        "{output}"
    );
    let drawn = "# terraform_data.instance[…] will be created";
    assert!(output.contains(drawn), "{output}");
    for shown in ["filler-", "instance[1]", "Apply complete"] {
        assert!(!output.contains(shown), "{output}");
    }
    assert_eq!(world.instances(), 2);
    world.valid_evidence().await;
}
