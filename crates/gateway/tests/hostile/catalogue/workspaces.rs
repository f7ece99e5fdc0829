//! C: another workspace than those of the contract.

use policy::configuration::{Limits, inspect_upload};
use serde_json::json;

use super::{id, made, refused, sent};
use crate::flow::{archive, good_archive, run_on};
use crate::rig::Rig;

#[tokio::test]
async fn c03_a_run_without_a_configuration_plans_one_that_was_inspected() {
    let rig = Rig::start().await;
    let token = rig.sandbox.cst.clone();
    let body = run_on("ws-staging-app", None);
    let start = async || rig.start_run(&token, &body).await;
    let refused = async |status: u16, code: &str| {
        let reply = start().await;
        assert_eq!(
            reply.refusal(),
            (status, code.to_owned()),
            "{}",
            reply.whole
        );
        assert_eq!(made(&rig).len(), 0, "{code}");
        reply.text()
    };
    // There is none.
    refused(403, "CONFIGURATION_VERSION_REQUIRED").await;
    let outside = rig
        .start_run(&token, &run_on("ws-production-app", None))
        .await;
    assert_eq!(outside.refusal(), (403, "WORKSPACE_NOT_ALLOWED".to_owned()));
    // Somebody's breaks a rule of the contract, and the agent is told which.
    let hostile = archive(&[(
        "main.tf",
        "output \"x\" {\n  value = file(\"/proc/self/environ\")\n}\n",
    )]);
    let theirs = rig.uploaded_by_a_person("ws-staging-app", hostile).await;
    let told = refused(422, "CONFIGURATION_FUNCTION").await;
    assert!(
        told.contains(&theirs) && told.contains("main.tf:2"),
        "{told}"
    );
    // Somebody's holds modules that nobody judged, or tests, for which modules are fetched.
    for unjudged in [".terraform/modules/m/main.tf", "tests/a.tftest.hcl"] {
        let main = ("main.tf", "output \"x\" {\n  value = 1\n}\n");
        let holds = archive(&[main, (unjudged, "# fetched")]);
        rig.uploaded_by_a_person("ws-staging-app", holds).await;
        let told = refused(403, "CONFIGURATION_VERSION_NOT_INSPECTED").await;
        assert!(told.contains(unjudged), "{told}");
    }
    // Somebody's is good: it is named in the run, and its digest is what approvers sign.
    let good = good_archive();
    let files = inspect_upload(&good, &Limits::default()).unwrap();
    let theirs = rig.uploaded_by_a_person("ws-staging-app", good).await;
    let run = id(&start().await);
    let named = |rig: &Rig| {
        sent(rig, "/runs")["relationships"]["configuration-version"]["data"]["id"].clone()
    };
    assert_eq!(named(&rig), json!(theirs));
    let row = rig.app().store.run(&run).await.unwrap().unwrap();
    assert_eq!(
        (row.configuration_version_id, row.configuration_sha256),
        (Some(theirs.clone()), Some(files.sha256))
    );
    // It is no more the agent's for that.
    let explicit = rig
        .start_run(&token, &run_on("ws-staging-app", Some(&theirs)))
        .await;
    assert_eq!(explicit.refusal(), (404, "OBJECT_UNKNOWN".to_owned()));
    // The job's own latest needs no second look.
    let own = rig.uploaded(&token, "ws-staging-app").await;
    rig.agent("GET", &format!("/api/v2/runs/{run}"))
        .send()
        .await
        .ok();
    start().await.ok();
    assert_eq!(named(&rig), json!(own));
}

#[tokio::test]
async fn c01_a_body_names_one_workspace_of_the_contract() {
    let rig = Rig::start().await;
    let configured = rig.uploaded(&rig.sandbox.cst, "ws-staging-app").await;
    let run = |body: serde_json::Value| rig.agent("POST", "/api/v2/runs").json_api(&body);
    let good = run_on("ws-staging-app", Some(&configured));
    let with = |pointer: &str, value: serde_json::Value| {
        let mut body = good.clone();
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        body.pointer_mut(parent).unwrap()[name] = value;
        body
    };
    let other = json!({"data": {"type": "workspaces", "id": "ws-production-app"}});
    refused(
        &rig,
        vec![
            (
                run(run_on("ws-production-app", Some(&configured))),
                "WORKSPACE_NOT_ALLOWED",
            ),
            (
                run(with("/data/relationships/organization", other.clone())),
                "BODY_UNKNOWN_MEMBER",
            ),
            (
                run(with(
                    "/data/attributes/workspace",
                    json!({"id": "ws-production-app"}),
                )),
                "BODY_WRONG_TYPE",
            ),
            (
                run(with(
                    "/data/attributes/workspace-id",
                    json!("ws-production-app"),
                )),
                "RUN_ATTRIBUTE_UNKNOWN",
            ),
            (
                run(with("/included", json!([other["data"]]))),
                "BODY_UNKNOWN_MEMBER",
            ),
            (
                run(with(
                    "/data/relationships/workspace/data",
                    json!([other["data"]]),
                )),
                "BODY_WRONG_TYPE",
            ),
        ],
    )
    .await;
    run(good).send().await.ok();
    let named = &sent(&rig, "/runs")["relationships"]["workspace"]["data"]["id"];
    assert_eq!(named, &json!("ws-staging-app"));
}

#[tokio::test]
async fn c04_lists_hold_the_contracts_workspaces_and_count_nothing_else() {
    let rig = Rig::start().await;
    let token = rig.sandbox.cst.clone();
    // One run plans, one waits behind it, one waits elsewhere.
    let own = rig.planned(&token).await;
    let waiting = rig.begun(&token).await;
    rig.planned_by_a_person("ws-production-app").await;
    rig.planned_by_a_person("ws-production-app").await;
    let list = async |path: &str| rig.agent("GET", path).send().await;
    let ids = |answer: &serde_json::Value| {
        let elements = answer["data"].as_array().unwrap();
        elements
            .iter()
            .map(|e| e["id"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let workspaces = "/api/v2/organizations/acme/workspaces";
    let reply = list(workspaces).await;
    assert!(!reply.whole.contains("production"), "{}", reply.whole);
    let all = reply.ok();
    assert_eq!(ids(&all), ["ws-staging-app", "ws-staging-db"]);
    assert_eq!(all["meta"]["pagination"]["total-count"], json!(2));
    for (query, expected, next) in [
        (
            "?page[number]=1&page[size]=1",
            vec!["ws-staging-app"],
            json!(2),
        ),
        (
            "?page[number]=2&page[size]=1",
            vec!["ws-staging-db"],
            json!(null),
        ),
        ("?page[number]=3&page[size]=1", vec![], json!(null)),
        ("?search[name]=db", vec!["ws-staging-db"], json!(null)),
        ("?search[name]=production", vec![], json!(null)),
        ("?search[tags]=none", vec![], json!(null)),
        (
            "?include=readme,current_run",
            vec!["ws-staging-app", "ws-staging-db"],
            json!(null),
        ),
    ] {
        let page = list(&format!("{workspaces}{query}")).await.ok();
        assert_eq!(ids(&page), expected, "{query}");
        assert_eq!(page["meta"]["pagination"]["next-page"], next, "{query}");
    }
    let queue = list("/api/v2/organizations/acme/runs/queue").await.ok();
    assert_eq!(ids(&queue), [waiting.run.as_str()]);
    assert_eq!(queue["meta"]["pagination"]["total-count"], json!(1));
    assert!(!ids(&queue).contains(&own.run));
    refused(
        &rig,
        vec![
            (
                rig.agent("GET", "/api/v2/organizations/acme/runs"),
                "ROUTE_NOT_ALLOWED",
            ),
            (
                rig.agent("GET", "/api/v2/organizations"),
                "ROUTE_NOT_ALLOWED",
            ),
            (rig.agent("GET", "/api/v2/runs"), "ROUTE_NOT_ALLOWED"),
            (
                rig.agent("GET", "/api/v2/organizations/acme/explorer?type=workspaces"),
                "ROUTE_NOT_ALLOWED",
            ),
            (
                rig.agent("GET", "/api/v2/organizations/globex/workspaces"),
                "ORGANIZATION_NOT_ALLOWED",
            ),
            (
                rig.agent("GET", &format!("{workspaces}?include=outputs")),
                "QUERY_VALUE",
            ),
            (
                rig.agent("GET", &format!("{workspaces}?filter[project][id]=prj-1")),
                "QUERY_UNKNOWN_KEY",
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn c05_a_name_is_not_an_identity() {
    let rig = Rig::start().await;
    let by_name = "/api/v2/organizations/acme/workspaces/staging-app";
    rig.agent("GET", by_name).send().await.ok();
    let rename = async |id: &str, name: &str| {
        let body = json!({"data": {"type": "workspaces", "attributes": {"name": name}}});
        let owner = rig.sandbox.cloud.token("owner").to_owned();
        let call = rig
            .person("PATCH", &format!("/api/v2/workspaces/{id}"))
            .bearer(&owner);
        call.json_api(&body).send().await.ok();
    };
    // Another workspace takes the name. What the gateway knows is a minute old at most: the old
    // owner of the name is found, and its new name shows; the new owner never.
    rename("ws-staging-app", "was-staging-app").await;
    rename("ws-production-app", "staging-app").await;
    let seen = rig.seen();
    let reply = rig.agent("GET", by_name).send().await;
    assert_eq!(
        reply.refusal(),
        (404, "UPSTREAM_NOT_FOUND".to_owned()),
        "{}",
        reply.whole
    );
    let reached = rig.reached_since(&seen);
    assert!(
        reached
            .iter()
            .all(|line| line.contains("/workspaces/ws-staging-app ")),
        "{reached:?}"
    );
    // Another gateway, which knows nothing yet, asks anew.
    let rig = rig.restarted(|_| ()).await;
    let reply = rig.agent("GET", by_name).send().await;
    assert_eq!(
        reply.refusal(),
        (403, "WORKSPACE_NOT_ALLOWED".to_owned()),
        "{}",
        reply.whole
    );
    let renamed = "/api/v2/organizations/acme/workspaces/was-staging-app";
    assert_eq!(
        id(&rig.agent("GET", renamed).send().await),
        "ws-staging-app"
    );
}

#[tokio::test]
async fn c06_only_known_relations_are_included() {
    let rig = Rig::start().await;
    let own = rig.planned(&rig.sandbox.cst).await;
    let run = format!("/api/v2/runs/{}", own.run);
    let mut calls = Vec::new();
    for include in [
        "created_by",
        "confirmed_by",
        "workspace.organization",
        "configuration_version.ingress_attributes",
        "plan,plan",
        "outputs",
        "input_state_version",
        "",
    ] {
        calls.push((
            rig.agent("GET", &format!("{run}?include={include}")),
            "QUERY_VALUE",
        ));
    }
    for include in [
        "outputs",
        "locked_by",
        "current_configuration_version",
        "current_run.plan",
    ] {
        let path = format!("/api/v2/workspaces/ws-staging-app?include={include}");
        calls.push((rig.agent("GET", &path), "QUERY_VALUE"));
    }
    refused(&rig, calls).await;
    let every = format!("{run}?include=plan,apply,workspace,configuration_version");
    let answer = rig.agent("GET", &every).send().await.ok();
    let kinds: Vec<&str> = answer["included"]
        .as_array()
        .unwrap()
        .iter()
        .map(|resource| resource["type"].as_str().unwrap())
        .collect();
    assert_eq!(
        kinds,
        ["workspaces", "plans", "applies", "configuration-versions"]
    );
}

#[tokio::test]
async fn c09_c10_configurations_do_not_reach_other_workspaces() {
    let rig = Rig::start().await;
    let seen = rig.seen();
    for (code, text) in [
        (
            "CONFIGURATION_DATA_SOURCE",
            "data \"terraform_remote_state\" \"x\" {\n backend = \"remote\"\n config = { organization = \"acme\", workspaces = { name = \"production-app\" } }\n}\n",
        ),
        (
            "CONFIGURATION_DATA_SOURCE",
            "data \"tfe_outputs\" \"x\" {\n organization = \"acme\"\n workspace = \"production-app\"\n}\n",
        ),
        (
            "CONFIGURATION_RESOURCE_TYPE",
            "resource \"tfe_workspace\" \"x\" {\n name = \"x\"\n}\n",
        ),
        (
            "CONFIGURATION_RESOURCE_TYPE",
            "resource \"hcp_service_principal\" \"x\" {\n name = \"x\"\n}\n",
        ),
    ] {
        let (_, path) = rig.open(&rig.sandbox.cst, "ws-staging-app").await;
        let refusal = rig
            .upload(&path, archive(&[("main.tf", text)]))
            .await
            .refusal();
        assert_eq!(refusal, (422, code.to_owned()), "{text}");
    }
    let reached = rig.reached_since(&seen);
    assert!(
        reached.iter().all(|line| !line.starts_with("PUT")),
        "{reached:?}"
    );
}
