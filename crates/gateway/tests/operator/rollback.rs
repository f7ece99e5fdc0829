//! The way back, against the stand-in for Terraform Cloud.

use clawverify::Verdict;
use serde_json::{Value, json};
use sim::Request;

use crate::approvals::{run_at, waiting_run};
use crate::world::{Caller, World};

const WORKSPACE: &str = "ws-staging-app";

/// The workspace's current state version.
async fn current(world: &World) -> String {
    let target = format!("/api/v2/workspaces/{WORKSPACE}/current-state-version");
    let upstream = &world.gateway.app.upstream;
    let duty = clawgate::upstream::Duty::Executor;
    let answer = upstream
        .call(duty, http::Method::GET, &target, None)
        .await
        .unwrap();
    let answer: Value = serde_json::from_slice(&answer.body).unwrap();
    answer["data"]["id"].as_str().unwrap().to_owned()
}

async fn roll_back(admin: &Caller<'_>, state: &str, job: Option<&str>) -> crate::world::Answer {
    let mut body = json!({
        "workspace_id": WORKSPACE,
        "state_version_id": state,
        "reason": "the last apply was wrong",
    });
    if let Some(job) = job {
        body["job_id"] = json!(job);
    }
    admin.post("/v1/rollback/state", &body).await
}

/// What changed something upstream, in order.
fn changes(world: &World) -> Vec<String> {
    let changing = |request: &Request| request.method != "GET";
    let requests = world.cloud.requests();
    let requests = requests.iter().filter(|request| changing(request));
    let last = |request: &Request| {
        let path = request
            .path
            .rsplit('/')
            .next()
            .unwrap_or_default()
            .to_owned();
        format!(
            "{} {} {path}",
            request.bearer.as_deref().unwrap_or("-"),
            request.method
        )
    };
    requests.map(last).collect()
}

#[tokio::test]
async fn a_workspace_returns_to_an_earlier_state() {
    let world = World::new().await;
    let admin = world.admin().await;
    let first = current(&world).await;
    let done = roll_back(&admin, &first, None).await.ok();
    let made = done["state_version_id"].as_str().unwrap();
    assert_ne!(
        made, first,
        "upstream makes a new version with the old content"
    );
    assert_eq!(current(&world).await, made);
    assert_eq!(
        changes(&world),
        [
            "executor POST lock",
            "executor PATCH state-versions",
            "executor POST unlock"
        ]
    );
    let actions = world.gateway.app.store.operator_actions(10).await.unwrap();
    let noted = actions
        .iter()
        .find(|action| action.action == "rollback.state")
        .unwrap();
    assert_eq!(noted.subject, WORKSPACE);
}

#[tokio::test]
async fn a_rollback_in_a_job_is_part_of_its_evidence() {
    let world = World::new().await;
    let admin = world.admin().await;
    let job = admin.job().await;
    let first = current(&world).await;
    roll_back(&admin, &first, Some(&job)).await.ok();
    let failed = roll_back(&admin, "sv-none", Some(&job)).await;
    assert_eq!(failed.code(), "UPSTREAM_NOT_FOUND", "{}", failed.json());
    let records = admin.get(&format!("/v1/jobs/{job}/records")).await.ok();
    let kinds: Vec<&str> = records["records"]
        .as_array()
        .unwrap()
        .iter()
        .map(|stored| stored["record"]["record"].as_str().unwrap())
        .collect();
    assert_eq!(
        kinds,
        [
            "clawgate.job-open/1",
            "clawgate.intent/1",
            "clawgate.outcome/1",
            "clawgate.intent/1",
            "clawgate.outcome/1",
        ]
    );
    let outcome = &records["records"][4]["record"];
    assert_eq!(outcome["code"], "UPSTREAM_NOT_FOUND");
    let unlocked = changes(&world)
        .iter()
        .filter(|line| line.ends_with("unlock"))
        .count();
    assert_eq!(
        unlocked, 2,
        "a workspace that we locked is unlocked whatever happens"
    );
    admin
        .post(
            &format!("/v1/jobs/{job}/close"),
            &json!({ "reason": "done" }),
        )
        .await
        .ok();
    let report = admin.verify(&job).await;
    assert_eq!(report.verdict, Verdict::Valid, "{report:#?}");
}

#[tokio::test]
async fn a_rollback_that_may_not_be_reaches_nothing() {
    let world = World::new().await;
    let admin = world.admin().await;
    let job = admin.job().await;
    let first = current(&world).await;
    let body = json!({
        "workspace_id": "ws-production-app", "state_version_id": first, "reason": "x", "job_id": job,
    });
    let refused = admin.post("/v1/rollback/state", &body).await;
    assert_eq!(refused.code(), "WORKSPACE_NOT_ALLOWED");
    for (from, to, code) in [
        (WORKSPACE, "ws-../admin", "BODY_WRONG_TYPE"),
        (first.as_str(), "run-1", "BODY_WRONG_TYPE"),
        (job.as_str(), "job_none", "JOB_UNKNOWN"),
    ] {
        let body = json!({
            "workspace_id": WORKSPACE, "state_version_id": first, "reason": "x", "job_id": job,
        });
        let body: Value = serde_json::from_str(&body.to_string().replace(from, to)).unwrap();
        assert_eq!(
            admin.post("/v1/rollback/state", &body).await.code(),
            code,
            "{to}"
        );
    }
    assert!(changes(&world).is_empty());
    // Somebody else holds the lock: nothing is done, and their lock stays.
    let upstream = &world.gateway.app.upstream;
    let lock = format!("/api/v2/workspaces/{WORKSPACE}/actions/lock");
    let duty = clawgate::upstream::Duty::Executor;
    let body = Some(bytes::Bytes::from_static(b"{\"reason\":\"mine\"}"));
    upstream
        .call(duty, http::Method::POST, &lock, body)
        .await
        .unwrap();
    let refused = roll_back(&admin, &first, None).await;
    assert_eq!(
        (refused.status.as_u16(), refused.code().as_str()),
        (409, "UPSTREAM_CONFLICT")
    );
    assert_eq!(
        changes(&world),
        ["executor POST lock", "executor POST lock"]
    );
    assert_eq!(current(&world).await, first);
}

#[tokio::test]
async fn a_stopped_job_takes_its_tokens_with_it() {
    let world = World::new().await;
    let admin = world.admin().await;
    let job = admin.job().await;
    let tokens = [admin.token(&job).await, admin.token(&job).await];
    assert_eq!(world.agent_view(&tokens[0]).await.status, 200);
    let path = format!("/v1/rollback/job/{job}");
    let stopped = admin
        .post(&path, &json!({ "reason": "compromised" }))
        .await
        .ok();
    assert_eq!(stopped["revoked_tokens"].as_array().unwrap().len(), 2);
    assert_eq!(stopped["unfinished_runs"], json!([]));
    for token in &tokens {
        assert_eq!(world.agent_view(token).await.status, 401);
    }
    let report = admin.verify(&job).await;
    assert_eq!(report.verdict, Verdict::Valid, "{report:#?}");
    let again = admin.post(&path, &json!({ "reason": "again" })).await.ok();
    assert_eq!(again["bundle_sha256_b64u"], stopped["bundle_sha256_b64u"]);
    assert_eq!(again["revoked_tokens"], json!([]));
    let unknown = admin
        .post("/v1/rollback/job/job_none", &json!({ "reason": "x" }))
        .await;
    assert_eq!(unknown.code(), "JOB_UNKNOWN");
}

#[tokio::test]
async fn a_job_stays_open_while_its_apply_runs() {
    let world = World::new().await;
    let admin = world.admin().await;
    let job = admin.job().await;
    run_at(&world, &job, "run-1", store::GateState::Applying).await;
    let close = format!("/v1/jobs/{job}/close");
    let refused = admin.post(&close, &json!({ "reason": "done" })).await;
    assert_eq!(
        (refused.status.as_u16(), refused.code().as_str()),
        (409, "JOB_BUSY")
    );
    assert_eq!(
        admin.get(&format!("/v1/jobs/{job}")).await.ok()["state"],
        "open"
    );
    let token = admin.token(&job).await;
    assert_eq!(
        world.agent_view(&token).await.status,
        200,
        "the agent may wait for its end"
    );
    let path = format!("/v1/rollback/job/{job}");
    let stopped = admin.post(&path, &json!({ "reason": "now" })).await.ok();
    assert_eq!(stopped["unfinished_runs"], json!(["run-1"]));
}

#[tokio::test]
async fn a_waiting_run_is_discarded_with_its_job() {
    let world = World::new().await;
    let admin = world.admin().await;
    let job = admin.job().await;
    waiting_run(&world, &job, "run-1").await;
    admin
        .post(
            &format!("/v1/jobs/{job}/close"),
            &json!({ "reason": "done" }),
        )
        .await
        .ok();
    let run = world.gateway.app.store.run("run-1").await.unwrap().unwrap();
    assert_eq!(run.gate, store::GateState::Discarded);
    let unknown = admin
        .post("/v1/rollback/run/run-none", &json!({ "reason": "x" }))
        .await;
    assert_eq!(unknown.code(), "OBJECT_UNKNOWN");
    let over = admin
        .post("/v1/rollback/run/run-1", &json!({ "reason": "x" }))
        .await;
    assert_eq!(over.code(), "APPROVAL_CLOSED");
}
