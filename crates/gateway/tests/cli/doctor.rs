//! What `clawgate doctor` says about upstream and about what was seen outside the gateway.

use clawgate::cli::doctor::{Level, Report, examine};
use clawgate::watching::look::look;
use serde_json::json;
use sim::Rights;

use crate::world::{APP, Setup, World};

/// Examines the world's own configuration, changed as text.
async fn examined(world: &World, change: impl FnOnce(String) -> String) -> Report {
    let file = world.folder().join("clawgate.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let changed = world.folder().join("changed.toml");
    std::fs::write(&changed, change(text)).unwrap();
    world.is_examined();
    examine(&changed, false).await
}

fn says(report: &Report, check: &str, level: Level) -> Vec<String> {
    let findings = report.findings().iter();
    findings
        .filter(|finding| finding.check == check && finding.level == level)
        .map(|finding| finding.message.clone())
        .collect()
}

fn has(messages: &[String], words: &str) -> bool {
    messages.iter().any(|message| message.contains(words))
}

#[tokio::test]
async fn tokens_that_reach_too_far_are_warned_about() {
    let world = Setup::new().start().await;
    let warned = says(
        &examined(&world, |text| text).await,
        "rights",
        Level::Warning,
    );
    for duty in ["planner", "executor", "reader"] {
        let words = format!("{duty}: sees 3 workspaces of acme, and contracts name");
        assert!(has(&warned, &words), "{warned:?}");
    }
    assert!(!has(&warned, "may apply"), "{warned:?}");
    assert!(!has(&warned, "whole organization"), "{warned:?}");

    let mut setup = Setup::new();
    for credential in &mut setup.cloud.credentials {
        match credential.name.as_str() {
            "planner" => credential.rights = Rights::OWNER,
            "executor" => credential.rights.apply = false,
            _ => {}
        }
    }
    let world = setup.start().await;
    let warned = says(
        &examined(&world, |text| text).await,
        "rights",
        Level::Warning,
    );
    for words in [
        "planner: may apply",
        "planner: may change settings",
        "planner: has rights on the whole organization acme",
        "executor: may not apply",
    ] {
        assert!(has(&warned, words), "{words}: {warned:?}");
    }
}

#[tokio::test]
async fn a_wrong_object_host_is_found() {
    let world = Setup::new().start().await;
    world.agent().held_run().await;
    let check = "object hosts";
    let good = examined(&world, |text| text).await;
    assert_eq!(says(&good, check, Level::Ok).len(), 1, "{good:?}");
    let host = world.cloud.archivist_url().replace("http://", "");
    let bad = examined(&world, |text| text.replace(&host, "objects.example")).await;
    let problems = says(&bad, check, Level::Problem);
    assert_eq!(problems.len(), 1, "{bad:?}");
    assert!(problems[0].contains(&host), "{problems:?}");
    assert!(!problems[0].contains("/v1/object"), "{problems:?}");
}

#[tokio::test]
async fn what_was_seen_outside_the_gateway_is_told() {
    let world = Setup::new().start().await;
    let watched = |text: String| text.replace("poll_seconds = 0", "poll_seconds = 60");
    let before = says(&examined(&world, watched).await, "watching", Level::Warning);
    assert!(has(&before, "not looked at yet"), "{before:?}");
    let app = &world.gateway().app;
    look(app, APP, "poll").await.unwrap();
    let by_itself = |settings: &mut sim::Settings| settings.auto_apply = true;
    world.cloud.change_settings(APP, by_itself).unwrap();
    let run = world.agent().held_run().await;
    let apply = format!("/api/v2/runs/{run}/actions/apply");
    let owner = world.upstream("owner");
    owner.post(&apply, &json!({})).await;
    world.cloud.wait_until_ended(&run).await.unwrap();
    look(app, APP, "poll").await.unwrap();
    let after = says(&examined(&world, watched).await, "watching", Level::Warning);
    assert!(has(&after, "not as accepted: auto-apply"), "{after:?}");
    assert!(has(&after, "2 applies or state versions"), "{after:?}");
}
