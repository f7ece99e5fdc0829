//! What is uploaded, to where, by whom, and how often.

use std::collections::BTreeSet;

use clawgate::app::now;
use clawgate::clawscope;
use clawgate::demo::sandbox::OPERATOR;
use proof::token::token_hash;
use serde_json::json;
use sim::{Fault, FaultAction};

use crate::archives::hostile_uploads;
use crate::flow::{archive, good_archive, path_of, run_on};
use crate::rig::{ELSEWHERE, Rig};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_uploads_stay_here() {
    let rig = Rig::start().await;
    let (mut configurations, mut failures) = (Vec::new(), Vec::new());
    for (what, bytes, expected) in hostile_uploads() {
        let (configuration, path) = rig.open(&rig.sandbox.cst, "ws-staging-app").await;
        let seen = rig.seen();
        let reply = rig.upload(&path, bytes).await;
        let (status, code) = reply.refusal();
        if status != 422 || !expected.contains(&code.as_str()) {
            failures.push(format!("{what}: {}", reply.whole));
        }
        rig.assert_silent(&seen, what);
        let run = run_on("ws-staging-app", Some(&configuration));
        let run = rig.start_run(&rig.sandbox.cst, &run).await;
        if run.refusal().1 != "CONFIGURATION_VERSION_NOT_INSPECTED" {
            failures.push(format!("{what} can be planned: {}", run.whole));
        }
        configurations.push(configuration);
    }
    assert!(failures.is_empty(), "{failures:#?}");
    assert!(
        !rig.sandbox
            .cloud
            .requests()
            .iter()
            .any(|request| request.method == "PUT")
    );
    assert_eq!(
        configurations.iter().collect::<BTreeSet<_>>().len(),
        configurations.len()
    );
}

#[tokio::test]
async fn an_upload_may_not_be_larger_than_configured() {
    let rig = Rig::start()
        .await
        .restarted(|config| config.limits.upload_bytes = 1 << 16)
        .await;
    let (_, path) = rig.open(&rig.sandbox.cst, "ws-staging-app").await;
    let reply = rig.upload(&path, vec![0; (1 << 16) + 1]).await;
    assert_eq!(reply.refusal(), (413, "UPLOAD_TOO_LARGE".to_owned()));
    // It was not looked at, so the address is still good.
    rig.upload(&path, good_archive()).await.ok();
}

#[tokio::test]
async fn an_address_serves_its_holder_once_and_for_its_purpose() {
    let rig = Rig::start().await;
    let own = rig.sandbox.cst.clone();
    let other = rig.token(&rig.job().await).await;
    let (_, path) = rig.open(&own, "ws-staging-app").await;
    let seen = rig.seen();
    let put = |path: &str| rig.nobody("PUT", path).body(good_archive());
    let sandbox = &rig.sandbox;
    for (what, call, status, code) in [
        (
            "another holder",
            put(&path).from(ELSEWHERE),
            401,
            "TOKEN_REPLAYED",
        ),
        (
            "another job",
            put(&path).bearer(&other),
            401,
            "TOKEN_JOB_MISMATCH",
        ),
        (
            "another job's name",
            put(&path).header("x-job-id", "job_1"),
            401,
            "TOKEN_JOB_MISMATCH",
        ),
        (
            "no token",
            put(&path).bearer("nonsense"),
            401,
            "TOKEN_JOB_MISMATCH",
        ),
        (
            "an upstream credential",
            put(&path).bearer(sandbox.cloud.token("planner")),
            401,
            "TOKEN_JOB_MISMATCH",
        ),
        (
            "POST",
            rig.nobody("POST", &path).body(good_archive()),
            405,
            "METHOD_NOT_ALLOWED",
        ),
        ("GET", rig.nobody("GET", &path), 405, "METHOD_NOT_ALLOWED"),
        (
            "DELETE",
            rig.nobody("DELETE", &path),
            405,
            "METHOD_NOT_ALLOWED",
        ),
        (
            "a query",
            put(&format!("{path}?x=1")),
            400,
            "QUERY_UNKNOWN_KEY",
        ),
        (
            "a longer path",
            put(&format!("{path}/x")),
            404,
            "CAPABILITY_UNKNOWN",
        ),
        (
            "a shorter path",
            put(&path[..path.len() - 1]),
            404,
            "CAPABILITY_UNKNOWN",
        ),
        (
            "a slash",
            put(&format!("{path}/")),
            404,
            "CAPABILITY_UNKNOWN",
        ),
        (
            "another case",
            put(&path
                .to_uppercase()
                .replace("/V1/JOB/OBJECTS", "/v1/job/objects")),
            404,
            "CAPABILITY_UNKNOWN",
        ),
        ("none", put("/v1/job/objects/"), 404, "CAPABILITY_UNKNOWN"),
        (
            "a guess",
            put("/v1/job/objects/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"),
            404,
            "CAPABILITY_UNKNOWN",
        ),
        (
            "chunks",
            put(&path).header("transfer-encoding", "chunked"),
            400,
            "HEADER_NOT_ALLOWED",
        ),
        (
            "packed",
            put(&path).header("content-encoding", "gzip"),
            400,
            "HEADER_NOT_ALLOWED",
        ),
    ] {
        let reply = call.send().await;
        let refusal = reply.refusal();
        assert_eq!(
            refusal,
            (status, code.to_owned()),
            "{what}: {}",
            reply.whole
        );
    }
    rig.assert_silent(&seen, "a refused upload");
    // With its own token it is no more and no less than without.
    put(&path).bearer(&own).send().await.ok();
    let again = put(&path).send().await;
    assert_eq!(again.refusal(), (404, "CAPABILITY_UNKNOWN".to_owned()));
    let puts = sandbox
        .cloud
        .requests()
        .iter()
        .filter(|request| request.method == "PUT")
        .count();
    assert_eq!(puts, 1);
}

#[tokio::test]
async fn an_address_ends_with_its_token_and_its_job() {
    let rig = Rig::start().await;
    let app = rig.app();
    let token = rig.token(&rig.sandbox.job_id).await;
    let planned = rig.planned(&token).await;
    let (_, upload) = rig.open(&token, "ws-staging-app").await;
    let plan = rig
        .nobody("GET", &format!("/api/v2/plans/{}", planned.plan))
        .bearer(&token);
    let log = plan.send().await.ok()["data"]["attributes"]["log-read-url"].clone();
    let log = path_of(log.as_str().unwrap());
    assert_eq!(rig.nobody("GET", &log).send().await.status, 200);
    let seen = rig.seen();
    let hash = token_hash(&token);
    clawscope::revoke(&*app.store, &app.live, OPERATOR, &hash, "a test", now())
        .await
        .unwrap();
    for call in [
        rig.nobody("PUT", &upload).body(good_archive()),
        rig.nobody("GET", &log),
        rig.nobody("GET", &log).bearer(&rig.sandbox.cst),
    ] {
        let (status, code) = call.send().await.refusal();
        assert_eq!(status, 401);
        assert!(
            ["TOKEN_REVOKED", "TOKEN_JOB_MISMATCH"].contains(&code.as_str()),
            "{code}"
        );
    }
    rig.assert_silent(&seen, "an address of a revoked token");

    let other = rig.job().await;
    let token = rig.token(&other).await;
    let (_, upload) = rig.open(&token, "ws-staging-app").await;
    let close = format!("/v1/jobs/{other}/close");
    rig.operator("POST", &close)
        .json(&json!({"reason": "a test"}))
        .send()
        .await
        .ok();
    let seen = rig.seen();
    let refused = rig.upload(&upload, good_archive()).await.refusal();
    assert_eq!(refused, (401, "TOKEN_JOB_CLOSED".to_owned()));
    rig.assert_silent(&seen, "an address of a closed job");
}

/// Two tokens of one job see two addresses of one configuration version. What is planned must be
/// what was recorded, so that one of them at most may put something there, whatever happens.
#[tokio::test]
async fn what_was_uploaded_stays_what_it_is() {
    let rig = Rig::start().await;
    let first = rig.sandbox.cst.clone();
    let second = rig.token(&rig.sandbox.job_id).await;
    let (id, path) = rig.open(&first, "ws-staging-app").await;
    let read = format!("/api/v2/configuration-versions/{id}");
    let again = rig.nobody("GET", &read).bearer(&second).send().await.ok();
    let other_path = path_of(again["data"]["attributes"]["upload-url"].as_str().unwrap());
    assert_ne!(path, other_path);
    let other_files = archive(&[("main.tf", "resource \"terraform_data\" \"other\" {}\n")]);

    // The first is on its way, held by upstream, while the second is tried.
    let cloud = &rig.sandbox.cloud;
    let held = cloud
        .set_fault(Fault::once("PUT", "/v1/object/", FaultAction::Hold))
        .unwrap();
    let (one, two) = tokio::join!(rig.upload(&path, good_archive()), async {
        cloud
            .wait_for_request(|request| request.method == "PUT")
            .await;
        let two = rig.upload(&other_path, other_files.clone()).await;
        cloud.release(&held);
        two
    });
    one.ok();
    assert_eq!(two.refusal(), (409, "CAPABILITY_USED".to_owned()));
    let recorded = rig.app().store.configuration(&id).await.unwrap().unwrap();
    assert!(recorded.uploaded);
    let again = rig.upload(&other_path, other_files.clone()).await.refusal();
    assert!(again.0 == 404 || again.0 == 409, "{again:?}");
    assert_eq!(
        rig.app().store.configuration(&id).await.unwrap().unwrap(),
        recorded
    );
    let puts = cloud
        .requests()
        .iter()
        .filter(|request| request.method == "PUT")
        .count();
    assert_eq!(puts, 1);

    // Lost on the way: the same files may be sent again, others may not.
    let (id, path) = rig.open(&first, "ws-staging-app").await;
    cloud
        .set_fault(Fault::once("PUT", "/v1/object/", FaultAction::Status(500)))
        .unwrap();
    assert_eq!(rig.upload(&path, good_archive()).await.status, 503);
    let swapped = rig.upload(&path, other_files).await;
    assert_eq!(
        swapped.refusal(),
        (409, "CAPABILITY_USED".to_owned()),
        "{}",
        swapped.whole
    );
    let known = rig.app().store.configuration(&id).await.unwrap().unwrap();
    assert!(!known.uploaded);
    assert_eq!(known.sha256, recorded.sha256);
}
