//! The end of a job, and its bundle.

use clawgate::config::Config;
use clawverify::Verdict;
use proof::record::{Body, Caller, Ended, Intent, JobId, Lane, Outcome};
use proof::token::token_hash;
use proof::{Hash, Json};
use serde_json::json;
use store::{GateState, RunUpdate};

use crate::approvals::run_at;
use crate::world::World;

#[tokio::test]
async fn a_job_is_opened_used_closed_and_proven() {
    let world = World::new().await;
    let admin = world.admin().await;
    let job = admin.job().await;
    let token = admin.token(&job).await;
    assert_eq!(world.agent_view(&token).await.status, 200);
    let early = admin.get(&format!("/v1/jobs/{job}/bundle")).await;
    assert_eq!(early.code(), "BUNDLE_UNKNOWN");

    let close = format!("/v1/jobs/{job}/close");
    let closed = admin.post(&close, &json!({ "reason": "done" })).await.ok();
    assert_eq!(closed["unknown_outcomes"], json!([]));
    let refused = world.agent_view(&token).await;
    assert!(String::from_utf8_lossy(&refused.bytes).contains("TOKEN_JOB_CLOSED"));
    let bundle = admin.get(&format!("/v1/jobs/{job}/bundle")).await;
    assert_eq!(closed["bundle_sha256_b64u"], json!(Hash::of(&bundle.bytes)));
    assert_eq!(
        bundle.headers["etag"],
        format!("\"{}\"", Hash::of(&bundle.bytes))
    );

    let again = admin.post(&close, &json!({ "reason": "again" })).await.ok();
    assert_eq!(again["bundle_sha256_b64u"], closed["bundle_sha256_b64u"]);
    assert_eq!(
        (&again["closed_at"], &again["reason"]),
        (&closed["closed_at"], &json!("done"))
    );
    assert_eq!(
        admin
            .post("/v1/tokens", &json!({ "job_id": job }))
            .await
            .code(),
        "JOB_CLOSED"
    );

    let report = admin.verify(&job).await;
    assert_eq!(report.verdict, Verdict::Valid, "{report:#?}");
    let shown = admin.get(&format!("/v1/jobs/{job}")).await.ok();
    assert_eq!(shown["state"], "sealed");
    let records = admin
        .get(&format!("/v1/jobs/{job}/records?after=1&limit=1"))
        .await
        .ok();
    assert_eq!(records["records"].as_array().unwrap().len(), 1);
    assert_eq!(records["records"][0]["record"]["seq"], json!(2));
    let note = admin.get("/v1/log/checkpoint").await;
    assert!(note.bytes.starts_with(b"gateway.example/log\n"));
}

#[tokio::test]
async fn a_call_that_never_ended_is_closed_as_unknown() {
    let world = World::new().await;
    let admin = world.admin().await;
    let job = admin.job().await;
    let seq = open_intent(&world, &job).await;
    let path = format!("/v1/jobs/{job}/close");
    let closed = admin.post(&path, &json!({ "reason": "done" })).await.ok();
    assert_eq!(closed["unknown_outcomes"], json!([seq]));
    let report = admin.verify(&job).await;
    assert_ne!(
        report.verdict,
        Verdict::Valid,
        "nobody knows what became of the call"
    );
}

#[tokio::test]
async fn a_crash_between_closing_and_sealing_is_made_good() {
    let world = World::new().await;
    let job = world.admin().await.job().await;
    let id: JobId = job.parse().unwrap();
    let world = world
        .restarted(async |config: &Config| {
            let store = store::open_sqlite(&config.store_file()).unwrap();
            store
                .close_job(&id, "olga", "done", clawgate::app::now())
                .await
                .unwrap();
        })
        .await;
    let admin = world.admin().await;
    assert_eq!(
        admin.get(&format!("/v1/jobs/{job}")).await.ok()["state"],
        "sealed"
    );
    assert_eq!(admin.verify(&job).await.verdict, Verdict::Valid);
}

#[tokio::test]
async fn a_call_that_ends_while_the_job_closes_keeps_its_outcome() {
    let world = World::new().await;
    let admin = world.admin().await;
    let job = admin.job().await;
    let token = admin.token(&job).await;
    assert_eq!(world.agent_view(&token).await.status, 200);
    let app = &world.gateway.app;
    let live = app.live.token(&token_hash(&token)).unwrap();
    let intent_seq = open_intent(&world, &job).await;
    let job_id: JobId = job.parse().unwrap();
    let call = async {
        // The call is cut, and says so.
        live.until_ended().await;
        let outcome = Outcome {
            intent_seq,
            tool_calls: Vec::new(),
            status: None,
            upstream_status: None,
            response_hash_b64u: Hash::of(b""),
            response_bytes: 0,
            latency_ms: 0,
            first_byte_ms: None,
            usage: None,
            object_id: None,
            egress: None,
            ended: Ended::Unknown,
            code: None,
            receipt: None,
        };
        let (store, at) = (&app.store, app.now());
        store
            .append_outcome(&job_id, at, outcome, None, Vec::new())
            .await
            .unwrap();
    };
    let body = json!({ "reason": "done" });
    let path = format!("/v1/jobs/{job}/close");
    let (closed, ()) = tokio::join!(admin.post(&path, &body), call);
    assert_eq!(closed.ok()["unknown_outcomes"], json!([]));
}

#[tokio::test]
async fn two_operators_closing_at_once_get_one_bundle() {
    let world = World::new().await;
    let admin = world.admin().await;
    let job = admin.job().await;
    let (path, body) = (format!("/v1/jobs/{job}/close"), json!({ "reason": "done" }));
    let (one, two) = tokio::join!(admin.post(&path, &body), admin.post(&path, &body));
    let (one, two) = (one.ok(), two.ok());
    assert_eq!(one["bundle_sha256_b64u"], two["bundle_sha256_b64u"]);
    assert_eq!(admin.verify(&job).await.verdict, Verdict::Valid);
}

#[tokio::test]
async fn a_bundle_is_found_by_the_state_that_its_run_made() {
    let world = World::new().await;
    let admin = world.admin().await;
    let job = admin.job().await;
    run_at(&world, &job, "run-1", GateState::Applying).await;
    let store = &world.gateway.app.store;
    let (from, at) = ([GateState::Applying], world.gateway.app.now());
    let made = RunUpdate {
        state_version_after: Some("sv-made".into()),
        ..RunUpdate::default()
    };
    store
        .transition("run-1", &from, GateState::Applied, at, made)
        .await
        .unwrap()
        .unwrap();
    // Upstream does not know the run, so the comment fails; the job is sealed all the same.
    let path = format!("/v1/jobs/{job}/close");
    let closed = admin.post(&path, &json!({ "reason": "done" })).await.ok();
    let found = store
        .bundle_by_state_version("sv-made")
        .await
        .unwrap()
        .unwrap();
    assert_eq!(closed["bundle_sha256_b64u"], json!(found.sha256));
    let actions = store.operator_actions(10).await.unwrap();
    let comment = actions
        .iter()
        .find(|action| action.action == "run.comment")
        .unwrap();
    assert_eq!(comment.subject, "run-1");
    assert!(comment.detail.get("failed").is_some());
}

/// The intent of a call that is made and never ends.
async fn open_intent(world: &World, job: &str) -> u64 {
    let app = &world.gateway.app;
    let job_id: JobId = job.parse().unwrap();
    let row = app.store.job(&job_id).await.unwrap().unwrap();
    let mut decision = Json::object();
    decision.set("decision", "allow");
    decision.set("code", "ALLOWED");
    decision.set("reasons", Json::Array(Vec::new()));
    let intent = Body::Intent(Box::new(Intent {
        caller: Caller {
            token_hash: "gateway".into(),
            agent_did: row.agent_did,
            holder: "gateway".into(),
        },
        lane: Lane::Gateway,
        operation: "read-plan".into(),
        run_id: None,
        input: Json::object(),
        decision,
        policy_hash_b64u: row.policy_hash,
        request_hash_b64u: Hash::of(b""),
        trace_id: None,
        caused_by: None,
    }));
    app.store
        .append(&job_id, app.now(), intent)
        .await
        .unwrap()
        .seq
}

/// The opener of the first job has gone, and its lease ends; nobody asks for its bundle again.
#[tokio::test]
async fn a_bundle_that_could_not_be_sealed_is_sealed_later() {
    let world = World::with("log = { publish_seconds = 1 }").await;
    let admin = world.admin().await;
    let app = &world.gateway.app;
    let folder = app.config.bundles_dir();
    std::fs::write(&folder, "in the way").unwrap();
    let mut pending = app.pending.watch();
    let hash = admin.publish().await;
    let body = json!({ "name": "a job", "policy_hash_b64u": hash, "lease_seconds": 2 });
    let opened = admin.post("/v1/jobs", &body).await.ok();
    let leased = opened["job_id"].as_str().unwrap().to_owned();
    pending.wait_for(|count| *count == 1).await.unwrap();
    let state = admin.get(&format!("/v1/jobs/{leased}")).await.ok()["state"].clone();
    assert_eq!(state, "closed");
    // By hand it is not sealed either, and is not forgotten.
    let job = admin.job().await;
    let path = format!("/v1/jobs/{job}/close");
    let closed = admin.post(&path, &json!({ "reason": "done" })).await;
    assert_eq!(closed.status, 500);
    assert!(app.pending.count() > 0);

    std::fs::remove_file(&folder).unwrap();
    pending.wait_for(|count| *count == 0).await.unwrap();
    for job in [leased, job] {
        assert_eq!(admin.verify(&job).await.verdict, Verdict::Valid);
    }
}
