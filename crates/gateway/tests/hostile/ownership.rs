//! Whose object it is: another job's, a person's, another workspace's.

use policy::terraform::Operation;
use serde_json::{Value, json};
use store::Conflict;

use crate::flow::{Planned, configuration, good_archive, run_on};
use crate::rig::{Call, Reply, Rig, address};

/// A call on things that are not the caller's, and the answer that it must get.
struct Attempt {
    method: &'static str,
    path: String,
    body: Option<Value>,
    refusal: (u16, &'static str),
}

/// What is aimed at.
#[derive(Clone, Copy, PartialEq)]
enum Owner {
    /// Another job under the same contract: known to the index.
    OtherJob,
    /// Somebody who does not use the gateway: ids that no answer has taught.
    Person,
}

/// For each forwarded operation the attempts to use it on what is not the caller's. An operation
/// that is added later does not compile until its attempts are written.
fn attempts(operation: Operation, things: &Planned, owner: Owner, workspace: &str) -> Vec<Attempt> {
    let foreign = match owner {
        Owner::OtherJob => (403, "OBJECT_NOT_OWNED"),
        Owner::Person => (404, "OBJECT_UNKNOWN"),
    };
    let outside = (403, "WORKSPACE_NOT_ALLOWED");
    let get = |path: String, refusal| {
        vec![Attempt {
            method: "GET",
            path,
            body: None,
            refusal,
        }]
    };
    let post = |path: String, body: Value, refusal| {
        vec![Attempt {
            method: "POST",
            path,
            body: Some(body),
            refusal,
        }]
    };
    let Planned {
        configuration: cv,
        run,
        plan,
        apply,
    } = things;
    let ws = |rest: &str| format!("/api/v2/workspaces/{workspace}{rest}");
    let run_path = |rest: &str| format!("/api/v2/runs/{run}{rest}");
    let organization = |rest: &str| format!("/api/v2/organizations/{rest}");
    match operation {
        // About nothing in particular: the answer is the job's own.
        Operation::Discovery | Operation::Ping | Operation::AccountDetails => Vec::new(),
        Operation::EntitlementSet => get(
            organization("globex/entitlement-set"),
            (403, "ORGANIZATION_NOT_ALLOWED"),
        ),
        Operation::Capacity => get(
            organization("globex/capacity"),
            (403, "ORGANIZATION_NOT_ALLOWED"),
        ),
        Operation::RunsQueue => get(
            organization("globex/runs/queue"),
            (403, "ORGANIZATION_NOT_ALLOWED"),
        ),
        Operation::ListWorkspaces => get(
            organization("globex/workspaces"),
            (403, "ORGANIZATION_NOT_ALLOWED"),
        ),
        Operation::WorkspaceByName => [
            get(organization("acme/workspaces/production-app"), outside),
            get(organization("acme/workspaces/no-such"), outside),
            get(organization("globex/workspaces/staging-app"), outside),
        ]
        .into_iter()
        .flatten()
        .collect(),
        Operation::WorkspaceById => get(ws(""), outside),
        Operation::WorkspaceTagBindings => get(ws("/tag-bindings"), outside),
        Operation::CurrentStateVersion => get(ws("/current-state-version"), outside),
        Operation::CurrentStateVersionOutputs => get(ws("/current-state-version-outputs"), outside),
        Operation::StateVersionOutput => {
            let path = "/api/v2/state-version-outputs/wsout-0000000000000001".to_owned();
            get(path, (404, "OBJECT_UNKNOWN"))
        }
        Operation::WorkspaceRuns => get(ws("/runs"), outside),
        Operation::CreateConfigurationVersion => {
            post(ws("/configuration-versions"), configuration(), outside)
        }
        Operation::ReadConfigurationVersion => {
            get(format!("/api/v2/configuration-versions/{cv}"), foreign)
        }
        Operation::CreateRun => [
            post("/api/v2/runs".into(), run_on(workspace, None), outside),
            post("/api/v2/runs".into(), run_on(workspace, Some(cv)), outside),
            post(
                "/api/v2/runs".into(),
                run_on("ws-staging-app", Some(cv)),
                foreign,
            ),
        ]
        .into_iter()
        .flatten()
        .collect(),
        Operation::ReadRun => [
            get(run_path(""), foreign),
            get(
                run_path("?include=plan,apply,configuration_version,workspace"),
                foreign,
            ),
        ]
        .into_iter()
        .flatten()
        .collect(),
        Operation::RunEvents => get(run_path("/run-events?include=actor,comment"), foreign),
        Operation::RunTaskStages => get(run_path("/task-stages"), foreign),
        Operation::RunPolicyChecks => get(run_path("/policy-checks"), foreign),
        Operation::ReadTaskStage => get(
            "/api/v2/task-stages/ts-0000000000000001".into(),
            (404, "OBJECT_UNKNOWN"),
        ),
        Operation::ReadPolicyCheck => get(
            "/api/v2/policy-checks/polchk-0000000000000001".into(),
            (404, "OBJECT_UNKNOWN"),
        ),
        Operation::PolicyCheckOutput => get(
            "/api/v2/policy-checks/polchk-0000000000000001/output".into(),
            (404, "OBJECT_UNKNOWN"),
        ),
        Operation::RunComments => get(run_path("/comments"), foreign),
        Operation::ReadPlan => get(format!("/api/v2/plans/{plan}"), foreign),
        Operation::PlanJsonRedacted => get(
            format!("/api/v2/plans/{plan}/json-output-redacted"),
            foreign,
        ),
        Operation::ReadApply => get(format!("/api/v2/applies/{apply}"), foreign),
        Operation::ReadCostEstimate => get(
            "/api/v2/cost-estimates/ce-0000000000000001".into(),
            (404, "OBJECT_UNKNOWN"),
        ),
        Operation::ApplyRun => post(run_path("/actions/apply"), json!({}), foreign),
        Operation::DiscardRun => post(run_path("/actions/discard"), json!({}), foreign),
        Operation::CancelRun => post(run_path("/actions/cancel"), json!({}), foreign),
    }
}

async fn try_all(rig: &Rig, token: &str, things: &Planned, owner: Owner) {
    let seen = rig.seen();
    let mut failures = Vec::new();
    for operation in Operation::ALL {
        for attempt in attempts(*operation, things, owner, "ws-production-app") {
            let call = rig.nobody(attempt.method, &attempt.path).bearer(token);
            let call = match &attempt.body {
                Some(body) => call.json_api(body),
                None => call,
            };
            let reply = call.send().await;
            let (status, code) = attempt.refusal;
            if reply.refusal() != (status, code.to_owned()) {
                failures.push(format!(
                    "{} {}: {}",
                    attempt.method, attempt.path, reply.whole
                ));
            }
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
    rig.assert_silent(&seen, "a call on somebody else's object");
}

#[tokio::test]
async fn b10_b12_c07_nothing_of_others_is_reached() {
    let rig = Rig::start().await;
    let other = rig.job().await;
    let others_token = rig.token(&other).await;
    let theirs = rig.planned(&others_token).await;
    try_all(&rig, &rig.sandbox.cst, &theirs, Owner::OtherJob).await;
    // A second token of the job that owns them is no stranger.
    let second = rig.token(&other).await;
    let path = format!("/api/v2/runs/{}", theirs.run);
    rig.nobody("GET", &path).bearer(&second).send().await.ok();

    for workspace in ["ws-staging-app", "ws-production-app"] {
        let somebodys = rig.planned_by_a_person(workspace).await;
        try_all(&rig, &rig.sandbox.cst, &somebodys, Owner::Person).await;
    }
}

/// What lists show of other people's runs is seen, not owned, and gives no address to anything.
#[tokio::test]
async fn lists_give_nothing_away() {
    let rig = Rig::start().await;
    let (theirs, pending) = {
        let token = rig.token(&rig.job().await).await;
        let theirs = rig.planned(&token).await;
        // A configuration of another job that still waits for its upload.
        (theirs, rig.open(&token, "ws-staging-app").await.0)
    };
    let persons = rig.planned_by_a_person("ws-staging-app").await;
    let production = rig.planned_by_a_person("ws-production-app").await;
    let include = "include=plan,apply,configuration_version,workspace";
    for path in [
        format!("/api/v2/workspaces/ws-staging-app/runs?{include}"),
        "/api/v2/workspaces/ws-staging-app/runs".to_owned(),
        "/api/v2/organizations/acme/runs/queue".to_owned(),
    ] {
        let list = rig.agent("GET", &path).send().await;
        assert_eq!(list.status, 200, "{path}");
        let text = list.text();
        assert!(
            !text.contains("/v1/job/objects/"),
            "{path} gives an address: {text}"
        );
        assert!(!text.contains("production"), "{path}: {text}");
        for id in [&production.run, &production.plan, &production.configuration] {
            assert!(!text.contains(id.as_str()), "{path}: {text}");
        }
        assert!(!text.contains(&pending), "{path}: {text}");
    }
    try_known(&rig, &theirs).await;
    try_known(&rig, &persons).await;
}

/// The index knows them by now; they are still not the caller's.
async fn try_known(rig: &Rig, things: &Planned) {
    let seen = rig.seen();
    for operation in Operation::ALL {
        for attempt in attempts(*operation, things, Owner::OtherJob, "ws-production-app") {
            if attempt.refusal.1 != "OBJECT_NOT_OWNED" || *operation == Operation::CreateRun {
                continue;
            }
            let call = rig.agent(attempt.method, &attempt.path);
            let call = match &attempt.body {
                Some(body) => call.json_api(body),
                None => call,
            };
            let refusal = call.send().await.refusal();
            assert_eq!(
                refusal,
                (403, "OBJECT_NOT_OWNED".to_owned()),
                "{}",
                attempt.path
            );
        }
    }
    rig.assert_silent(&seen, "a call on an object that a list has shown");
}

#[tokio::test]
async fn c02_a_configuration_serves_its_job_and_its_workspace_only() {
    let rig = Rig::start().await;
    let app_configuration = rig.uploaded(&rig.sandbox.cst, "ws-staging-app").await;
    let (unsent, path) = rig.open(&rig.sandbox.cst, "ws-staging-app").await;
    let other = rig.token(&rig.job().await).await;
    let seen = rig.seen();
    let refused = async |token: &str, workspace: &str, configuration: &str| {
        rig.start_run(token, &run_on(workspace, Some(configuration)))
            .await
            .refusal()
    };
    let own = &rig.sandbox.cst;
    for (token, workspace, configuration, expected) in [
        (
            own,
            "ws-staging-db",
            &app_configuration,
            (403, "CONFIGURATION_VERSION_FOREIGN"),
        ),
        (
            own,
            "ws-staging-app",
            &unsent,
            (403, "CONFIGURATION_VERSION_NOT_INSPECTED"),
        ),
        (
            &other,
            "ws-staging-app",
            &app_configuration,
            (403, "OBJECT_NOT_OWNED"),
        ),
        (&other, "ws-staging-app", &unsent, (403, "OBJECT_NOT_OWNED")),
        (
            own,
            "ws-staging-app",
            &"cv-0000000000000009".to_owned(),
            (404, "OBJECT_UNKNOWN"),
        ),
        (
            own,
            "ws-production-app",
            &app_configuration,
            (403, "WORKSPACE_NOT_ALLOWED"),
        ),
    ] {
        let got = refused(token, workspace, configuration).await;
        assert_eq!(
            got,
            (expected.0, expected.1.to_owned()),
            "{workspace} {configuration}"
        );
    }
    rig.assert_silent(&seen, "a run with a foreign configuration");
    rig.upload(&path, good_archive()).await.ok();
    let run = rig
        .start_run(own, &run_on("ws-staging-app", Some(&unsent)))
        .await;
    assert_eq!(run.status, 201, "{}", run.whole);
}

/// The same body is the same run for its job, and for nobody else.
#[tokio::test]
async fn a_repeated_request_never_hands_over_a_run() {
    let rig = Rig::start().await;
    let configuration = rig.uploaded(&rig.sandbox.cst, "ws-staging-app").await;
    let body = run_on("ws-staging-app", Some(&configuration));
    let id = |reply: Reply| reply.ok()["data"]["id"].as_str().unwrap().to_owned();
    let first = id(rig.start_run(&rig.sandbox.cst, &body).await);
    assert_eq!(id(rig.start_run(&rig.sandbox.cst, &body).await), first);
    let second_token = rig.token(&rig.sandbox.job_id).await;
    assert_eq!(id(rig.start_run(&second_token, &body).await), first);
    let created =
        |request: &&sim::Request| request.method == "POST" && request.path == "/api/v2/runs";
    assert_eq!(
        rig.sandbox.cloud.requests().iter().filter(created).count(),
        1
    );

    let stranger = rig.token(&rig.job().await).await;
    let refused = rig.start_run(&stranger, &body).await.refusal();
    assert_eq!(refused, (403, "OBJECT_NOT_OWNED".to_owned()));
    let moved = run_on("ws-staging-db", Some(&configuration));
    let refused = rig.start_run(&rig.sandbox.cst, &moved).await.refusal();
    assert_eq!(refused, (403, "CONFIGURATION_VERSION_FOREIGN".to_owned()));
}

/// The index itself does not let an id change hands.
#[tokio::test]
async fn an_id_cannot_change_hands() {
    let rig = Rig::start().await;
    let run = rig.planned(&rig.sandbox.cst).await.run;
    let store = &rig.app().store;
    let known = store.object("run", &run).await.unwrap().unwrap();
    assert_eq!(known.job_id.as_ref(), Some(&rig.sandbox.job_id));
    let other = rig.job().await;
    let taken = store::ObjectRow {
        job_id: Some(other),
        ..known.clone()
    };
    let moved = store::ObjectRow {
        workspace_id: "ws-staging-db".into(),
        ..known
    };
    for row in [taken, moved] {
        let error = store.learn(vec![row]).await.unwrap_err();
        assert!(
            matches!(error.conflict(), Some(Conflict::ObjectElsewhere { .. })),
            "{error}"
        );
    }
}

/// Every read of what a run brought along, by ids alone.
fn by_id(own: &Planned, check: &str, output: &str) -> Vec<String> {
    vec![
        format!("/api/v2/plans/{}", own.plan),
        format!("/api/v2/plans/{}/json-output-redacted", own.plan),
        format!("/api/v2/applies/{}", own.apply),
        format!("/api/v2/configuration-versions/{}", own.configuration),
        format!("/api/v2/policy-checks/{check}"),
        format!("/api/v2/state-version-outputs/{output}"),
        format!("/api/v2/runs/{}", own.run),
    ]
}

/// The index is in the store: neither a restart nor another gateway on the same store forgets or
/// widens whose an object is.
#[tokio::test]
async fn what_is_known_outlives_the_gateway_and_serves_a_second_one() {
    let open = policy::EXAMPLE_CONTRACT.replace(
        "\"state_read\": false",
        "\"state_read\": false, \"outputs_read\": true",
    );
    let rig = Rig::under(&open).await;
    let token = rig.sandbox.cst.clone();
    let own = rig.planned(&token).await;
    let check = rig
        .sandbox
        .cloud
        .check_policy(&own.run, sim::PolicyOutcome::Passed, "ok")
        .unwrap();
    rig.agent("GET", &format!("/api/v2/runs/{}", own.run))
        .send()
        .await
        .ok();
    let outputs = "/api/v2/workspaces/ws-staging-db/current-state-version-outputs";
    let outputs = rig.agent("GET", outputs).send().await.ok();
    let output = outputs["data"][0]["id"].as_str().unwrap().to_owned();
    let stranger = rig.token(&rig.job().await).await;
    let theirs = rig.planned_by_a_person("ws-staging-db").await;

    let rig = rig.restarted(|_| ()).await;
    let mut config = rig.app().config.clone();
    config.agent_listener.address.set_port(0);
    config.operator_listener.address.set_port(0);
    let second = clawgate::start::start(config).await.unwrap();
    for gateway in [&rig.sandbox.gateway.agent_url, &second.agent_url] {
        let read = async |token: &str, path: &str| {
            let call = Call::new(address(gateway), "GET", path).bearer(token);
            call.send().await
        };
        for path in by_id(&own, &check, &output) {
            read(&token, &path).await.ok();
            // Outputs hang on the workspace, whoever read them first.
            if !path.contains("output") || path.contains("json") {
                let refusal = read(&stranger, &path).await.refusal();
                assert_eq!(refusal, (403, "OBJECT_NOT_OWNED".to_owned()), "{path}");
            }
        }
        let none = "0000000000000001";
        let paths = by_id(&theirs, &format!("polchk-{none}"), &format!("wsout-{none}"));
        for path in paths {
            let refusal = read(&token, &path).await.refusal();
            assert_eq!(refusal, (404, "OBJECT_UNKNOWN".to_owned()), "{path}");
        }
    }
    second.stop().await;
}
