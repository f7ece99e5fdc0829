//! A contract that allows no apply: nothing the agent says makes one.

use serde_json::json;
use store::GateState;

use crate::evidence::begun;
use crate::world::{APP, Setup, World, terraform};

async fn plan_only() -> World {
    let world = Setup::new()
        .contract("/permissions/apply/allowed", json!(false))
        .start()
        .await;
    // What upstream would do by itself must not matter either.
    world
        .cloud
        .change_settings(APP, |settings| settings.auto_apply = true)
        .unwrap();
    world
}

/// Everything that went up to make the run says that it only plans.
fn only_planned(world: &World) {
    let attributes = |ending: &str| {
        let asked = world.asked("POST", ending);
        assert!(!asked.is_empty(), "{ending}");
        asked.into_iter().map(|request| {
            serde_json::to_value(&request.body).unwrap()["data"]["attributes"].clone()
        })
    };
    for run in attributes("/api/v2/runs") {
        assert_eq!(
            (&run["auto-apply"], &run["plan-only"]),
            (&json!(false), &json!(true)),
            "{run}"
        );
        assert_eq!(run["save-plan"], json!(false), "{run}");
    }
    for upload in attributes("/configuration-versions") {
        let said = (&upload["speculative"], &upload["auto-queue-runs"]);
        assert_eq!(said, (&json!(true), &json!(false)), "{upload}");
    }
    assert!(world.asked("POST", "/actions/apply").is_empty());
    assert_eq!(world.instances(), 1);
}

#[tokio::test]
async fn the_cli_plans_and_is_told_that_it_may_not_apply() {
    if terraform().is_none() {
        return;
    }
    let world = plan_only().await;
    let cli = world.cli().await;
    for (arguments, answer) in [(&["apply", "-auto-approve"][..], ""), (&["apply"], "yes\n")] {
        let output = cli.answered(arguments, answer).await.failed();
        assert!(
            output.contains("Insufficient rights to apply changes"),
            "{output}"
        );
    }
    assert!(world.runs().await.is_empty());
    let plan = cli.run(&["plan", "-input=false"]).await.ok();
    assert!(
        plan.contains("Plan: 1 to add, 1 to change, 0 to destroy."),
        "{plan}"
    );
    world.any_run_at(GateState::Finished).await;
    only_planned(&world);
    let bundle = world.valid_evidence().await;
    assert_eq!(
        (begun(&bundle, "create-run"), begun(&bundle, "apply-run")),
        (1, 0)
    );
}

#[tokio::test]
async fn whatever_a_client_of_the_api_asks_for_only_plans() {
    let world = plan_only().await;
    let agent = world.agent();
    let upload = agent.upload().await;
    for attributes in [
        json!({"auto-apply": true, "plan-only": false}),
        json!({"auto_apply": true, "plan_only": false}),
        json!({"save-plan": true}),
    ] {
        let made = agent.run(&upload, &attributes).await.ok();
        let run = made["data"]["id"].as_str().unwrap().to_owned();
        world.run_at(&run, GateState::Finished).await;
        let apply = format!("/api/v2/runs/{run}/actions/apply");
        let refused = agent.send(&apply, &json!({})).await;
        assert_eq!(refused.code(), "TOKEN_SCOPE", "{}", refused.text());
    }
    only_planned(&world);
    world.valid_evidence().await;
}
