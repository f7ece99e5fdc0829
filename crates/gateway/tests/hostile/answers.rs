//! What comes back to an agent: nothing that upstream alone should know, whatever upstream says.

use serde_json::{Value, json};
use sim::{Fault, FaultAction};

use crate::flow::{Planned, configuration, good_archive, path_of, run_on};
use crate::poison::{Mischief, POISON, Poisoner};
use crate::rig::{Call, Reply, Rig, address};

/// The example contract, with everything readable that a contract can open.
fn open_contract() -> String {
    policy::EXAMPLE_CONTRACT.replace(
        "\"state_read\": false",
        "\"state_read\": true, \"outputs_read\": true",
    )
}

/// Every read that an agent may make of what it owns.
fn reads(planned: &Planned) -> Vec<String> {
    let Planned {
        configuration,
        run,
        plan,
        apply,
    } = planned;
    let workspace = "/api/v2/workspaces/ws-staging-app";
    let every = "include=plan,apply,configuration_version,cost_estimate,task_stages,workspace";
    vec![
        "/.well-known/terraform.json".into(),
        "/api/v2/ping".into(),
        "/api/v2/account/details".into(),
        "/api/v2/organizations/acme/entitlement-set".into(),
        "/api/v2/organizations/acme/capacity".into(),
        "/api/v2/organizations/acme/runs/queue".into(),
        "/api/v2/organizations/acme/workspaces/staging-app".into(),
        workspace.into(),
        format!("{workspace}/tag-bindings"),
        format!("{workspace}/current-state-version"),
        format!("{workspace}/current-state-version-outputs"),
        format!("{workspace}/runs"),
        format!("{workspace}/runs?{every}"),
        format!("/api/v2/configuration-versions/{configuration}"),
        format!("/api/v2/runs/{run}"),
        format!("/api/v2/runs/{run}?{every}"),
        format!("/api/v2/runs/{run}/run-events?include=actor,comment"),
        format!("/api/v2/runs/{run}/task-stages"),
        format!("/api/v2/runs/{run}/policy-checks"),
        format!("/api/v2/runs/{run}/comments"),
        format!("/api/v2/plans/{plan}"),
        format!("/api/v2/applies/{apply}"),
        "/v1/job".into(),
        "/v1/job/runs".into(),
    ]
}

/// Every secret of the installation, and where upstream is.
fn forbidden(rig: &Rig) -> Vec<String> {
    let sandbox = &rig.sandbox;
    let host = |url: String| url.trim_start_matches("http://").to_owned();
    let mut texts: Vec<String> = ["planner", "executor", "reader"]
        .iter()
        .map(|name| sandbox.cloud.token(name).to_owned())
        .collect();
    // The accounts behind the credentials, as upstream names who made a run.
    texts.extend(["planner", "executor", "reader"].map(|name| format!("user-{name}")));
    texts.extend(sandbox.cloud.secrets());
    texts.extend([
        sandbox.provider.key().to_owned(),
        sandbox.operator_token.clone(),
        sandbox.cst.clone(),
        host(sandbox.cloud.url()),
        host(sandbox.cloud.archivist_url()),
        host(sandbox.provider.url()),
        rig.app().upstream.base().to_owned(),
        sandbox.folder.display().to_string(),
        "atlasv1".to_owned(),
        "/v1/object/".to_owned(),
        "created_by".to_owned(),
        "archivist".to_owned(),
        POISON.to_owned(),
    ]);
    texts
}

fn check(forbidden: &[String], what: &str, reply: &Reply, failures: &mut Vec<String>) {
    for text in forbidden {
        if reply.whole.contains(text.as_str()) {
            failures.push(format!("{what} shows `{text}`: {}", reply.whole));
        }
    }
}

/// An installation whose upstream answers through somebody who spoils answers.
async fn poisoned_rig() -> (Rig, Poisoner) {
    let rig = Rig::under(&open_contract()).await;
    let poisoner = Poisoner::before(address(&rig.sandbox.cloud.url())).await;
    let url = poisoner.url();
    let rig = rig
        .restarted(|config| {
            config.terraform_cloud.url = url;
            // Its failures last, so asking again would only take longer.
            config.limits.upstream_read_attempts = 1;
        })
        .await;
    (rig, poisoner)
}

#[tokio::test]
async fn honest_answers_hold_no_secret() {
    let rig = Rig::under(&open_contract()).await;
    let own = rig.planned(&rig.sandbox.cst).await;
    rig.planned_by_a_person("ws-staging-app").await;
    let forbidden = forbidden(&rig);
    let mut failures = Vec::new();
    let mut paths = reads(&own);
    paths.push(format!("/api/v2/plans/{}/json-output-redacted", own.plan));
    for path in paths {
        let reply = rig.agent("GET", &path).send().await;
        assert!(
            (200..300).contains(&reply.status),
            "{path}: {}",
            reply.whole
        );
        check(&forbidden, &path, &reply, &mut failures);
    }
    // Logs too: what stands in them was written by the engine.
    let plan = rig
        .agent("GET", &format!("/api/v2/plans/{}", own.plan))
        .send()
        .await
        .ok();
    let log = path_of(plan["data"]["attributes"]["log-read-url"].as_str().unwrap());
    let log = rig.nobody("GET", &log).send().await;
    assert_eq!(log.status, 200);
    check(&forbidden, "the plan's log", &log, &mut failures);
    assert!(failures.is_empty(), "{failures:#?}");
    // The secret output is there, without its value.
    let outputs = "/api/v2/workspaces/ws-staging-db/current-state-version-outputs";
    let outputs = rig.agent("GET", outputs).send().await;
    check(&forbidden, "outputs", &outputs, &mut failures);
    assert!(failures.is_empty(), "{failures:#?}");
    let values: Vec<(Value, Value)> = outputs.ok()["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|output| {
            (
                output["attributes"]["name"].clone(),
                output["attributes"]["value"].clone(),
            )
        })
        .collect();
    assert!(
        values.contains(&(json!("admin_password"), Value::Null)),
        "{values:?}"
    );
}

/// What upstream says one day, and we do not know, stays here.
#[tokio::test]
async fn unknown_members_do_not_pass() {
    let (rig, poisoner) = poisoned_rig().await;
    let own = rig.planned(&rig.sandbox.cst).await;
    let forbidden = forbidden(&rig);
    let mut failures = Vec::new();
    poisoner.set(Some(Mischief::Poisoned));
    let mut answered = 0;
    for path in reads(&own) {
        let reply = rig.agent("GET", &path).send().await;
        answered += usize::from((200..300).contains(&reply.status));
        check(&forbidden, &path, &reply, &mut failures);
    }
    assert!(
        answered > 20,
        "the poison is not what makes them fail: {answered}"
    );
    let posts: [Call; 2] = [
        rig.agent(
            "POST",
            "/api/v2/workspaces/ws-staging-app/configuration-versions",
        )
        .json_api(&configuration()),
        rig.agent("POST", "/api/v2/runs")
            .json_api(&run_on("ws-staging-app", Some(&own.configuration))),
    ];
    for call in posts {
        let reply = call.send().await;
        assert_eq!(reply.status, 201, "{}", reply.whole);
        check(&forbidden, "a new object", &reply, &mut failures);
    }
    let redacted = format!("/api/v2/plans/{}/json-output-redacted", own.plan);
    let redacted = rig.agent("GET", &redacted).send().await.ok();
    let names: Vec<&String> = redacted.as_object().unwrap().keys().collect();
    assert!(
        !names
            .iter()
            .any(|name| name.starts_with("zz-") || *name == "variables"),
        "{names:?}"
    );
    assert!(failures.is_empty(), "{failures:#?}");
}

/// Whatever goes wrong there, our own words are all that is said about it.
#[tokio::test]
async fn failures_say_nothing_of_upstream() {
    let (rig, poisoner) = poisoned_rig().await;
    let own = rig.planned(&rig.sandbox.cst).await;
    let (_, upload) = rig.open(&rig.sandbox.cst, "ws-staging-app").await;
    let forbidden = forbidden(&rig);
    let mut failures = Vec::new();
    let about = json!({"data": {
        "id": "run-0000000000000009", "type": "runs", "attributes": {"status": POISON},
        "relationships": {"workspace": {"data": {"id": "ws-production-app", "type": "workspaces"}}},
    }});
    let mischiefs = [
        Mischief::Status(301),
        Mischief::Status(302),
        Mischief::Status(307),
        Mischief::Status(400),
        Mischief::Status(401),
        Mischief::Status(403),
        Mischief::Status(404),
        Mischief::Status(409),
        Mischief::Status(422),
        Mischief::Status(429),
        Mischief::Status(500),
        Mischief::Status(503),
        Mischief::Status(599),
        Mischief::Text(format!("<html>{POISON}")),
        Mischief::Text(format!(
            "{{\"data\":{{\"type\":\"{POISON}\",\"id\":\"{POISON}\"}}}}"
        )),
        Mischief::Text("{\"data\":null}".into()),
        Mischief::Text("{".repeat(10_000)),
        Mischief::About(about),
    ];
    for mischief in mischiefs {
        poisoner.set(Some(mischief.clone()));
        let mut paths = reads(&own);
        paths.push(format!("/api/v2/plans/{}/json-output-redacted", own.plan));
        let gets = paths.iter().map(|path| rig.agent("GET", path));
        let action = |name: &str| {
            let path = format!("/api/v2/runs/{}/actions/{name}", own.run);
            rig.agent("POST", &path).json_api(&json!({}))
        };
        let open = "/api/v2/workspaces/ws-staging-app/configuration-versions";
        let posts = [
            rig.agent("POST", open).json_api(&configuration()),
            rig.agent("POST", "/api/v2/runs")
                .json_api(&run_on("ws-staging-app", Some(&own.configuration))),
            action("cancel"),
        ];
        for call in gets.chain(posts) {
            let reply = call.send().await;
            check(&forbidden, &format!("{mischief:?}"), &reply, &mut failures);
        }
    }
    poisoner.set(None);
    // The object store too.
    for action in [
        FaultAction::Status(500),
        FaultAction::Status(302),
        FaultAction::CloseMidway,
    ] {
        let cloud = &rig.sandbox.cloud;
        cloud
            .set_fault(Fault::once("PUT", "/v1/object/", action))
            .unwrap();
        let reply = rig.nobody("PUT", &upload).body(good_archive()).send().await;
        assert!(reply.status >= 400, "{}", reply.whole);
        check(&forbidden, "the object store", &reply, &mut failures);
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

/// Signed addresses are used on allowed hosts only, and a foreign one is not even named.
#[tokio::test]
async fn c08_foreign_addresses_are_neither_used_nor_shown() {
    let (rig, poisoner) = poisoned_rig().await;
    let own = rig.planned(&rig.sandbox.cst).await;
    let forbidden = forbidden(&rig);
    let mut failures = Vec::new();
    let plan = |url: String| {
        Mischief::About(json!({"data": {
            "id": own.plan, "type": "plans", "attributes": {"status": "finished", "log-read-url": url},
        }}))
    };
    let good = rig.sandbox.cloud.archivist_url();
    let host = good.trim_start_matches("http://").to_owned();
    for url in [
        format!("http://203.0.113.1/v1/object/{POISON}"),
        format!("http://{host}.example/v1/object/{POISON}"),
        format!("http://{host}@203.0.113.1/{POISON}"),
        format!("http://user:{POISON}@{host}/v1/object/a"),
        format!("ftp://{host}/{POISON}"),
        format!("file:///etc/passwd#{POISON}"),
        format!("//{host}/{POISON}"),
        format!("/v1/object/{POISON}"),
        format!("http://{host}\\@203.0.113.1/{POISON}"),
        format!("http://[::1]/{POISON}"),
        format!("javascript:{POISON}"),
        String::new(),
    ] {
        poisoner.set(Some(plan(url.clone())));
        let reply = rig
            .agent("GET", &format!("/api/v2/plans/{}", own.plan))
            .send()
            .await;
        check(&forbidden, &url, &reply, &mut failures);
        let attributes = reply.ok()["data"]["attributes"].clone();
        assert_eq!(attributes.get("log-read-url"), None, "{url}: {attributes}");
    }
    assert!(failures.is_empty(), "{failures:#?}");
}
