//! `terraform login` and `logout` with the gateway's own name.

use std::path::PathBuf;

use crate::evidence::refusals;
use crate::terraform::{Cli, Ended, two_instances, words};
use crate::world::{Setup, World, terraform};

/// A name under which the agent knows the gateway.
const HOST: &str = "clawgate.acme.example";

/// A folder whose configuration names the gateway, and no credential anywhere.
fn cli(world: &World) -> Cli {
    let cli = Cli::new(world, "agent");
    let settings = sim::example_cli_config(&world.gateway().agent_url);
    let settings = settings.replace("app.terraform.io", HOST);
    std::fs::write(cli.home().join(".terraformrc"), settings).unwrap();
    std::fs::create_dir(cli.home().join(".terraform.d")).unwrap();
    let named = format!("cloud {{\n    hostname     = \"{HOST}\"");
    cli.write("main.tf", &two_instances().replacen("cloud {", &named, 1));
    cli
}

/// Where the CLI keeps the tokens that it was given.
fn stored(cli: &Cli) -> PathBuf {
    cli.home().join(".terraform.d/credentials.tfrc.json")
}

/// Logs in with a token, answering as a person would.
async fn login(cli: &Cli, token: &str) -> Ended {
    let mut session = cli.begin_at_home(&["login", HOST]);
    session
        .says("Only 'yes' will be accepted to confirm.")
        .await;
    session.says("Enter a value:").await;
    session.answer("yes\n").await;
    session.says(&format!("Token for {HOST}:")).await;
    session.says("Enter a value:").await;
    session.answer(&format!("{token}\n")).await;
    session.ended().await
}

#[tokio::test]
async fn d17_an_agent_logs_in_plans_and_logs_out() {
    if terraform().is_none() {
        return;
    }
    let world = Setup::new().start().await;
    let cli = cli(&world);
    let output = login(&cli, &world.cst).await.ok();
    let user = format!("Retrieved token for user {}", world.job);
    assert!(output.contains(&user), "{output}");
    assert!(output.contains("Success!"), "{output}");
    // Who the agent is, is the gateway's own answer: upstream has heard nothing of it.
    let asked: Vec<_> = world.cloud.requests();
    let by_agents = asked
        .iter()
        .filter(|r| r.bearer.as_deref() == Some("planner"));
    assert_eq!(by_agents.count(), 0, "{asked:#?}");
    let run = |arguments: &[&str]| cli.begin_at_home(arguments).ended();
    run(&["init", "-input=false"]).await.ok();
    let plan = run(&["plan", "-input=false"]).await.ok();
    assert!(plan.contains("Plan: 1 to add, 1 to change"), "{plan}");
    let output = run(&["logout", HOST]).await.ok();
    assert!(output.contains("Success!"), "{output}");
    let output = words(&run(&["plan", "-input=false"]).await.failed());
    assert!(output.contains("terraform login"), "{output}");
    world.valid_evidence().await;
}

#[tokio::test]
async fn other_tokens_do_not_log_in() {
    if terraform().is_none() {
        return;
    }
    let world = Setup::new().start().await;
    let cli = cli(&world);
    let upstreams = world.cloud.token("owner").to_owned();
    let altered = format!("{}x", world.cst);
    for token in ["nonsense", &altered, &upstreams, &world.operator_token] {
        let output = words(&login(&cli, token).await.failed());
        assert!(
            output.contains("Token is invalid") || output.contains("Failed to retrieve"),
            "{output}"
        );
        assert!(!output.contains("Success!"), "{output}");
    }
    assert!(!stored(&cli).exists());
    // None of them went further than the gateway; the check of the world says so, too.
    let foreign = |r: &sim::Request| r.bearer.as_deref() == Some("owner");
    assert_eq!(
        world.cloud.requests().into_iter().filter(foreign).count(),
        0
    );
    // A token that was good, and is revoked, does not log in either.
    let revoke = serde_json::json!({"token": world.cst, "reason": "stolen"});
    let operator = world.operator();
    operator.post("/v1/tokens/revoke", &revoke).await.ok();
    let output = words(&login(&cli, &world.cst).await.failed());
    assert!(output.contains("Token is invalid"), "{output}");
    let bundle = world.valid_evidence().await;
    assert!(refusals(&bundle).iter().any(|code| code == "TOKEN_REVOKED"));
}
