//! What the contract forbids, as the CLI meets it: it ends with the reason on the screen, the
//! refusal is in the bundle, and nothing reached upstream.

use serde_json::json;

use crate::evidence::refusals;
use crate::terraform::{Cli, two_instances, words};
use crate::world::{APP, Setup, World, terraform};

/// Requests other than the CLI's usual look around, which every command begins with.
fn effects(world: &World) -> Vec<String> {
    let requests = world.cloud.requests();
    let effects = requests.iter().filter(|request| request.method != "GET");
    effects
        .map(|request| format!("{} {}", request.method, request.path))
        .collect()
}

#[tokio::test]
async fn options_of_a_run_are_refused_with_their_codes() {
    if terraform().is_none() {
        return;
    }
    let world = Setup::new().start().await;
    let cli = world.cli().await;
    let mut codes = Vec::new();
    for (arguments, code) in [
        (&["destroy", "-auto-approve"][..], "DESTROY_NOT_ALLOWED"),
        (&["plan", "-destroy"], "DESTROY_NOT_ALLOWED"),
        (
            &["plan", "-target=terraform_data.instance"],
            "TARGETS_NOT_ALLOWED",
        ),
        (
            &["plan", "-replace=terraform_data.database"],
            "REPLACE_NOT_ALLOWED",
        ),
        (&["plan", "-refresh-only"], "REFRESH_ONLY_NOT_ALLOWED"),
        (
            &["plan", "-var=database_password=mine"],
            "RUN_VARIABLES_NOT_ALLOWED",
        ),
    ] {
        let output = words(&cli.run(arguments).await.failed());
        assert!(output.contains(code), "{arguments:?}: {output}");
        codes.push(code);
    }
    assert!(
        world.asked("POST", "/api/v2/runs").is_empty(),
        "{:?}",
        effects(&world)
    );
    let bundle = world.valid_evidence().await;
    let mut refused = refusals(&bundle);
    refused.retain(|code| code != "STATE_READ_DENIED");
    assert_eq!(refused, codes);
}

#[tokio::test]
async fn options_of_a_run_pass_when_the_contract_allows_them() {
    let Some(engine) = terraform() else { return };
    let allowed = json!({
        "destroy": true, "refresh_only": true, "targets": true, "replace": true,
        "variables": ["database_password"],
    });
    let world = Setup::new()
        .contract("/permissions/run", allowed)
        .engine(engine)
        .start()
        .await;
    let cli = world.cli().await;
    for (arguments, said) in [
        (&["plan", "-destroy"][..], "3 to destroy"),
        (
            &["plan", "-target=terraform_data.instance"],
            "1 to add, 0 to change",
        ),
        (
            &["plan", "-replace=terraform_data.database"],
            "2 to add, 1 to change, 1 to destroy",
        ),
        (&["plan", "-refresh-only"], "No changes."),
        (&["plan", "-var=database_password=mine"], "must be replaced"),
    ] {
        let output = words(&cli.run(arguments).await.ok());
        assert!(output.contains(said), "{arguments:?}: {output}");
    }
}

#[tokio::test]
async fn state_is_neither_read_nor_written() {
    if terraform().is_none() {
        return;
    }
    let world = Setup::new().start().await;
    let cli = world.cli().await;
    std::fs::write(
        cli.work().join("import.tfstate"),
        r#"{"version":4,"serial":9,"lineage":"x"}"#,
    )
    .unwrap();
    // What reads finds nothing: without `state_read` there is no state for an agent.
    for (arguments, code, said) in [
        (&["output"][..], Some(1), "(OUTPUTS_READ_DENIED)"),
        (&["output", "-json"], Some(1), "(OUTPUTS_READ_DENIED)"),
        (
            &["output", "-raw", "database_url"],
            Some(1),
            "(OUTPUTS_READ_DENIED)",
        ),
        (&["state", "pull"], Some(0), "\"resources\": []"),
        (&["show"], Some(0), "The state file is empty."),
        (&["state", "list"], Some(1), "No state file was found!"),
        (
            &["state", "push", "import.tfstate"],
            Some(1),
            "(LOCK_DENIED)",
        ),
        (
            &["state", "push", "-lock=false", "import.tfstate"],
            Some(1),
            "(STATE_WRITE_DENIED)",
        ),
        (
            &["state", "rm", "terraform_data.load_balancer"],
            Some(1),
            "(LOCK_DENIED)",
        ),
        (
            &["import", "terraform_data.database", "x"],
            Some(1),
            "(LOCK_DENIED)",
        ),
        (
            &["taint", "terraform_data.database"],
            Some(1),
            "(LOCK_DENIED)",
        ),
        (
            &["force-unlock", "-force", "acme/staging-app"],
            Some(1),
            "(FORCE_ACTION_DENIED)",
        ),
    ] {
        let ended = cli.run(arguments).await;
        let output = words(&ended.output);
        assert_eq!(ended.code, code, "{arguments:?}: {output}");
        assert!(output.contains(said), "{arguments:?}: {output}");
    }
    let console = cli
        .answered(&["console"], "terraform_data.database.output\n")
        .await
        .failed();
    assert!(words(&console).contains("(LOCK_DENIED)"), "{console}");
    assert_eq!(effects(&world), [""; 0]);
    let agent_reads_state = |request: &sim::Request| request.path.contains("state");
    assert!(!world.cloud.requests().iter().any(agent_reads_state));
    let refused = refusals(&world.valid_evidence().await);
    for code in [
        "STATE_READ_DENIED",
        "OUTPUTS_READ_DENIED",
        "STATE_WRITE_DENIED",
        "FORCE_ACTION_DENIED",
    ] {
        assert!(
            refused.iter().any(|refused| refused == code),
            "{code}: {refused:?}"
        );
    }
}

#[tokio::test]
async fn other_workspaces_are_neither_used_nor_made() {
    if terraform().is_none() {
        return;
    }
    let world = Setup::new().start().await;
    for (name, from, to, code) in [
        (
            "outside",
            "staging-app",
            "production-app",
            "WORKSPACE_NOT_ALLOWED",
        ),
        (
            "missing",
            "staging-app",
            "no-such-workspace",
            "WORKSPACE_NOT_ALLOWED",
        ),
        (
            "organization",
            "\"acme\"",
            "\"other\"",
            "ORGANIZATION_NOT_ALLOWED",
        ),
    ] {
        let cli = Cli::new(&world, name);
        cli.write("main.tf", &two_instances().replacen(from, to, 1));
        let output = words(&cli.run(&["init", "-input=false"]).await.failed());
        assert!(output.contains(code), "{name}: {output}");
    }
    // With one named workspace the CLI itself makes no other.
    let cli = world.cli().await;
    let output = cli.run(&["workspace", "new", "mine"]).await.failed();
    assert!(output.contains("workspaces not supported"), "{output}");
    assert_eq!(effects(&world), [""; 0]);
    let expected = [
        "WORKSPACE_NOT_ALLOWED",
        "WORKSPACE_NOT_ALLOWED",
        "ORGANIZATION_NOT_ALLOWED",
    ];
    let mut refused = refusals(&world.valid_evidence().await);
    refused.retain(|code| code != "STATE_READ_DENIED");
    assert_eq!(refused, expected);
}

#[tokio::test]
async fn a_workspace_is_chosen_by_its_tags_and_none_is_made() {
    if terraform().is_none() {
        return;
    }
    let world = Setup::new().start().await;
    for workspace in ["ws-production-app", "ws-staging-app", "ws-staging-db"] {
        let body = json!({"data": [{"type": "tag-bindings", "attributes": {"key": "staging"}}]});
        let path = format!("/api/v2/workspaces/{workspace}/tag-bindings");
        let headers = [("content-type", "application/vnd.api+json")];
        let owner = world.upstream("owner");
        let tagged = owner.call(http::Method::PATCH, &path, &headers, body.to_string());
        tagged.await.ok();
    }
    let by_tag = |tag: &str| {
        let tags = format!("tags = [\"{tag}\"]");
        two_instances().replacen("name = \"staging-app\"", &tags, 1)
    };
    // Nothing has the tag: the CLI would make a workspace, and may not.
    let cli = Cli::new(&world, "none");
    cli.write("main.tf", &by_tag("nobodys"));
    let output = words(&cli.answered(&["init"], "mine\n").await.failed());
    assert!(output.contains("(WORKSPACE_NOT_ALLOWED)"), "{output}");
    let cli = Cli::new(&world, "tagged");
    cli.write("main.tf", &by_tag("staging"));
    cli.answered(&["init"], "1\n").await.ok();
    for (arguments, code, said) in [
        (&["workspace", "list"][..], 0, "* staging-app staging-db"),
        (&["workspace", "show"], 0, "staging-app"),
        (
            &["workspace", "select", "production-app"],
            1,
            "doesn't exist",
        ),
        (
            &["workspace", "select", "staging-db"],
            0,
            "Switched to workspace",
        ),
        (&["workspace", "new", "mine"], 1, "(WORKSPACE_NOT_ALLOWED)"),
        (
            &["workspace", "select", "-or-create", "mine"],
            1,
            "(WORKSPACE_NOT_ALLOWED)",
        ),
        (&["workspace", "delete", "staging-app"], 1, "(LOCK_DENIED)"),
        (
            &["workspace", "delete", "-lock=false", "staging-app"],
            1,
            "(WORKSPACE_ADMIN_DENIED)",
        ),
        (
            &[
                "workspace",
                "delete",
                "-lock=false",
                "-force",
                "staging-app",
            ],
            1,
            "(WORKSPACE_ADMIN_DENIED)",
        ),
    ] {
        let ended = cli.run(arguments).await;
        let output = words(&ended.output);
        assert_eq!(ended.code, Some(code), "{arguments:?}: {output}");
        assert!(output.contains(said), "{arguments:?}: {output}");
        assert!(!output.contains("production-app\n"), "{output}");
    }
    let by_agents = effects(&world)
        .into_iter()
        .filter(|effect| !effect.starts_with("PATCH"));
    assert_eq!(by_agents.collect::<Vec<_>>(), [""; 0]);
    cli.run(&["workspace", "select", "staging-app"]).await.ok();
    let plan = cli.run(&["plan", "-input=false"]).await.ok();
    assert!(plan.contains("Plan: 1 to add, 1 to change"), "{plan}");
    assert_eq!(world.runs().await[0].workspace_id, APP);
    world.valid_evidence().await;
}

#[tokio::test]
async fn what_is_left_of_the_cli_is_refused_or_needs_nobody() {
    if terraform().is_none() {
        return;
    }
    let world = Setup::new().start().await;
    let cli = world.cli().await;
    for (arguments, code, said) in [
        (&["state", "mv", "a.b", "a.c"][..], 1, "(LOCK_DENIED)"),
        (&["untaint", "terraform_data.database"], 1, "(LOCK_DENIED)"),
        (&["refresh"], 1, "(REFRESH_ONLY_NOT_ALLOWED)"),
        (
            &["plan", "-generate-config-out=made.tf"],
            1,
            "(CONFIG_GENERATION_NOT_ALLOWED)",
        ),
        (&["workspace", "list"], 0, "* staging-app"),
        (&["workspace", "show"], 0, "staging-app"),
        // What stays on the agent's machine.
        (&["validate"], 0, "The configuration is valid."),
        (&["providers"], 0, "terraform.io/builtin/terraform"),
        (&["graph"], 0, "terraform_data.database"),
        (&["get"], 0, ""),
        (&["test"], 0, "0 passed, 0 failed"),
    ] {
        let ended = cli.run(arguments).await;
        let output = words(&ended.output);
        assert_eq!(ended.code, Some(code), "{arguments:?}: {output}");
        assert!(output.contains(said), "{arguments:?}: {output}");
    }
    let ran = world.asked("POST", "/api/v2/runs");
    assert!(ran.is_empty(), "{ran:#?}");
    world.valid_evidence().await;
}

/// There the CLI plans and applies on the agent's machine, with a lock and the state, and no run
/// that a gate could hold.
#[tokio::test]
async fn b15_the_cli_does_nothing_in_a_workspace_that_executes_locally() {
    if terraform().is_none() {
        return;
    }
    let world = Setup::new().start().await;
    let local = |settings: &mut sim::Settings| settings.execution_mode = sim::ExecutionMode::Local;
    world.cloud.change_settings(APP, local).unwrap();
    let cli = world.cli().await;
    for arguments in [
        &["plan", "-var=database_password=mine"][..],
        &["apply", "-auto-approve", "-var=database_password=mine"],
    ] {
        let output = words(&cli.run(arguments).await.failed());
        assert!(output.contains("(LOCK_DENIED)"), "{arguments:?}: {output}");
    }
    // Without a lock the CLI plans against no state at all, and can write none.
    let unlocked = [
        "apply",
        "-auto-approve",
        "-lock=false",
        "-var=database_password=mine",
    ];
    let output = words(&cli.run(&unlocked).await.failed());
    assert!(output.contains("(STATE_WRITE_DENIED)"), "{output}");
    assert_eq!(effects(&world), [""; 0]);
    let agent_reads_state = |request: &sim::Request| request.path.contains("state");
    assert!(!world.cloud.requests().iter().any(agent_reads_state));
    world.valid_evidence().await;
}
