//! The older `backend "remote"`, which says less: no `auto-apply` at all, and an apply that it
//! asks for itself.

use serde_json::json;
use store::GateState;

use crate::evidence::{begun, refusals};
use crate::terraform::{Cli, two_instances, words};
use crate::world::{Setup, World, terraform};

/// The example configuration in the words of the older backend.
fn remote(workspaces: &str) -> String {
    let backend = format!(
        "terraform {{\n  backend \"remote\" {{\n    hostname     = \"app.terraform.io\"\n    \
         organization = \"acme\"\n\n    workspaces {{\n      {workspaces}\n    }}\n  }}\n}}\n"
    );
    let text = two_instances();
    let rest = text.split_once("\nvariable ").unwrap().1;
    format!("{backend}\nvariable {rest}")
}

async fn cli(world: &World, workspaces: &str) -> Cli {
    let cli = Cli::new(world, "agent");
    cli.write("main.tf", &remote(workspaces));
    cli.run(&["init", "-input=false"]).await.ok();
    cli
}

#[tokio::test]
async fn b02_it_plans_and_its_applies_are_held() {
    let Some(engine) = terraform() else { return };
    for (arguments, answer) in [(&["apply", "-auto-approve"][..], ""), (&["apply"], "yes\n")] {
        let world = Setup::new().engine(engine.clone()).start().await;
        let cli = cli(&world, "name = \"staging-app\"").await;
        let plan = cli.run(&["plan", "-input=false"]).await.ok();
        assert!(plan.contains("Plan: 1 to add, 1 to change"), "{plan}");
        let (ended, run) =
            tokio::join!(cli.answered(arguments, answer), world.approve_when_asked());
        let output = ended.ok();
        assert!(output.contains("Apply complete!"), "{output}");
        assert_eq!(world.instances(), 2);
        world.run_at(&run, GateState::Applied).await;
        for sent in world.asked("POST", "/api/v2/runs") {
            let body = serde_json::to_value(&sent.body).unwrap();
            assert_eq!(body["data"]["attributes"]["auto-apply"], json!(false));
        }
        let applied = world.asked("POST", "/actions/apply");
        assert_eq!(applied.len(), 1);
        assert_eq!(applied[0].bearer.as_deref(), Some("executor"));
        let bundle = world.valid_evidence().await;
        // The agent's wish, and the gateway's own call.
        assert_eq!(begun(&bundle, "apply-run"), 2);
    }
}

#[tokio::test]
async fn what_the_contract_forbids_is_refused() {
    if terraform().is_none() {
        return;
    }
    let world = Setup::new().start().await;
    let cli = cli(&world, "name = \"staging-app\"").await;
    for (arguments, code) in [
        (&["destroy", "-auto-approve"][..], "DESTROY_NOT_ALLOWED"),
        (&["plan", "-destroy"], "DESTROY_NOT_ALLOWED"),
        (&["plan", "-refresh-only"], "REFRESH_ONLY_NOT_ALLOWED"),
        (&["state", "rm", "terraform_data.database"], "LOCK_DENIED"),
    ] {
        let output = words(&cli.run(arguments).await.failed());
        assert!(output.contains(code), "{arguments:?}: {output}");
    }
    assert!(world.asked("POST", "/api/v2/runs").is_empty());
    let production = Cli::new(&world, "production");
    production.write("main.tf", &remote("name = \"production-app\""));
    let output = words(&production.run(&["init"]).await.failed());
    assert!(output.contains("(WORKSPACE_NOT_ALLOWED)"), "{output}");
    let bundle = world.valid_evidence().await;
    assert!(
        refusals(&bundle)
            .iter()
            .any(|code| code == "DESTROY_NOT_ALLOWED")
    );
}

/// A contract without applies: the wish has nowhere to go.
#[tokio::test]
async fn a_plan_only_contract_holds_nothing() {
    if terraform().is_none() {
        return;
    }
    let world = Setup::new()
        .contract("/permissions/apply/allowed", json!(false))
        .start()
        .await;
    let cli = cli(&world, "name = \"staging-app\"").await;
    let output = words(&cli.run(&["apply", "-auto-approve"]).await.failed());
    assert!(output.contains("apply"), "{output}");
    cli.run(&["plan", "-input=false"]).await.ok();
    assert!(world.asked("POST", "/actions/apply").is_empty());
    assert_eq!(world.instances(), 1);
    world.valid_evidence().await;
}

/// One configuration for the workspaces whose names begin alike: only the contract's are there.
#[tokio::test]
async fn workspaces_are_chosen_by_their_prefix() {
    if terraform().is_none() {
        return;
    }
    let world = Setup::new().start().await;
    let cli = Cli::new(&world, "agent");
    cli.write("main.tf", &remote("prefix = \"staging-\""));
    // The CLI asks which of the two it shall work on.
    cli.answered(&["init"], "1\n").await.ok();
    for (arguments, code, said) in [
        (&["workspace", "list"][..], 0, "* app db"),
        (&["workspace", "show"], 0, "app"),
        (&["workspace", "select", "db"], 0, "Switched to workspace"),
        (&["workspace", "select", "other"], 1, "doesn't exist"),
        (&["workspace", "new", "other"], 1, "(WORKSPACE_NOT_ALLOWED)"),
        (&["workspace", "select", "app"], 0, "Switched to workspace"),
    ] {
        let ended = cli.run(arguments).await;
        let output = words(&ended.output);
        assert_eq!(ended.code, Some(code), "{arguments:?}: {output}");
        assert!(output.contains(said), "{arguments:?}: {output}");
    }
    let plan = cli.run(&["plan", "-input=false"]).await.ok();
    assert!(plan.contains("Plan: 1 to add, 1 to change"), "{plan}");
    // No workspace of the contract begins so, and none is made.
    let others = Cli::new(&world, "others");
    others.write("main.tf", &remote("prefix = \"production-\""));
    others.answered(&["init"], "app\n").await;
    let output = words(&others.run(&["plan"]).await.failed());
    assert!(!output.contains("production-app"), "{output}");
    let made: Vec<_> = world.asked("POST", "/workspaces");
    assert!(made.is_empty(), "{made:#?}");
    world.valid_evidence().await;
}
