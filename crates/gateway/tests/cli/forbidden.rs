//! What the contract forbids, as the CLI meets it: it ends with the reason on the screen, the
//! refusal is in the bundle, and nothing reached upstream.

use serde_json::json;

use crate::evidence::refusals;
use crate::terraform::{Cli, two_instances, words};
use crate::world::{Setup, World, terraform};

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
            "tags",
            "name = \"staging-app\"",
            "tags = [\"staging\"]",
            "ROUTE_NOT_ALLOWED",
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
        "ROUTE_NOT_ALLOWED",
        "ORGANIZATION_NOT_ALLOWED",
    ];
    let mut refused = refusals(&world.valid_evidence().await);
    refused.retain(|code| code != "STATE_READ_DENIED");
    assert_eq!(refused, expected);
}
