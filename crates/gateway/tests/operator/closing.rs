//! The end of a job, and its bundle.

use clawgate::config::Config;
use clawverify::Verdict;
use proof::record::{Body, Caller, Intent, JobId, Lane};
use proof::{Hash, Json};
use serde_json::json;

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
    }));
    app.store
        .append(&job_id, app.now(), intent)
        .await
        .unwrap()
        .seq
}
