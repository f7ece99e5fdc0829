//! A contract that allows no apply: nothing the agent says makes one.

use serde_json::json;
use store::GateState;

use crate::evidence::begun;
use crate::terraform::words;
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
async fn auto_approve_only_plans() {
    if terraform().is_none() {
        return;
    }
    let world = plan_only().await;
    let cli = world.cli().await;
    let ended = cli.run(&["apply", "-auto-approve"]).await;
    let output = words(&ended.output);
    println!("{:?} {output}", ended.code);
    assert!(!output.contains("Apply complete!"), "{output}");
    world.any_run_at(GateState::Finished).await;
    only_planned(&world);
    let bundle = world.valid_evidence().await;
    assert_eq!(
        (begun(&bundle, "create-run"), begun(&bundle, "apply-run")),
        (1, 0)
    );
}

#[tokio::test]
async fn an_interactive_apply_is_never_asked_about() {
    if terraform().is_none() {
        return;
    }
    let world = plan_only().await;
    let cli = world.cli().await;
    let ended = cli.answered(&["apply"], "yes\n").await;
    println!("{:?} {}", ended.code, ended.output);
    assert!(
        !ended.output.contains("Apply complete!"),
        "{}",
        ended.output
    );
    only_planned(&world);
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
        assert_eq!(refused.code(), "APPLY_NOT_ALLOWED", "{}", refused.text());
    }
    only_planned(&world);
    world.valid_evidence().await;
}
