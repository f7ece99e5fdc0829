//! Answers of the operator listener that go on.

use http::header;
use http_body_util::BodyExt;
use serde_json::json;

use clawgate::operator::credential::Role;

use crate::world::World;

#[tokio::test]
async fn what_goes_on_is_bounded_and_ends_with_its_credential_and_its_gateway() {
    let world = World::new().await;
    let admin = world.admin().await;
    let job = admin.job().await;
    let auditor = world.operator("ada", &[Role::Auditor]).await;
    let open = async |credential: &str, path: &str| {
        let bearer = format!("Bearer {credential}");
        let request = world.request("GET", path);
        world
            .open(request.header(header::AUTHORIZATION, bearer))
            .await
    };
    const FOLLOW: &str = "/v1/export?follow=true&as=csv&of=actions";
    let mut followed = open(&auditor, FOLLOW).await;
    assert_eq!(followed.status(), 200);
    assert_eq!(followed.headers()["clawgate-gateway"], "gateway.example");
    let mut text = String::new();
    let mut reads = async |until: &str| {
        while !text.contains(until) {
            let frame = followed.body_mut().frame().await;
            let frame = frame.expect("it goes on").unwrap();
            text.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
        }
    };
    reads(&format!("job.open,{job}")).await;
    let body = json!({ "reason": "=done" });
    admin
        .post(&format!("/v1/jobs/{job}/close"), &body)
        .await
        .ok();
    reads(&format!("job.close,{job},done,'=done")).await;

    // One credential has its bound, and all together have one.
    let fill = async |credential: &str| {
        let mut taken = Vec::new();
        loop {
            let other = open(credential, "/v1/approvals/watch").await;
            if other.status() != 200 {
                let refused = other.into_body().collect().await.unwrap().to_bytes();
                assert!(String::from_utf8_lossy(&refused).contains("OVERLOADED"));
                return taken;
            }
            taken.push(other);
            assert!(taken.len() < 100, "there is a bound");
        }
    };
    let others = fill(&auditor).await;
    assert_eq!(others.len(), 7, "beside the one that is followed");
    let mut of_others = Vec::new();
    for (name, places) in [("ben", 8), ("cleo", 8), ("dan", 8), ("eve", 0)] {
        let credential = world.operator(name, &[Role::Approver]).await;
        let taken = fill(&credential).await;
        assert_eq!(taken.len(), places, "{name}");
        of_others.push(taken);
    }
    // Who may not read any more is broken off, and makes room.
    assert!(
        world
            .gateway
            .app
            .store
            .remove_operator("ada")
            .await
            .unwrap()
    );
    for other in others {
        assert!(other.into_body().collect().await.is_err());
    }
    assert!(followed.into_body().collect().await.is_err());

    drop(of_others);

    // One that stops by itself has said all.
    let again = world.operator("ada", &[Role::Auditor]).await;
    let followed = open(&again, FOLLOW).await;
    let watched = open(&again, "/v1/approvals/watch").await;
    assert!(followed.status().is_success() && watched.status().is_success());
    let ends = tokio::join!(
        world.restarted(async |_| {}),
        followed.into_body().collect(),
        watched.into_body().collect(),
    );
    let text = ends.1.unwrap().to_bytes();
    assert!(text.ends_with(b"\r\n"));
    let text = ends.2.unwrap().to_bytes();
    assert_eq!(text, "event: ready\ndata: {\"waiting\":0}\n\n");
}

#[tokio::test]
async fn exports_are_asked_for_in_known_words() {
    let world = World::new().await;
    let admin = world.admin().await;
    for (query, code) in [
        ("as=xml", "QUERY_VALUE"),
        ("of=secrets", "QUERY_VALUE"),
        ("since=2026-11-22", "QUERY_VALUE"),
        ("follow=yes", "QUERY_VALUE"),
        ("after=-1", "QUERY_VALUE"),
        // The log has its first key set, at place 0, and nothing else.
        ("after=1", "QUERY_VALUE"),
        ("after=18446744073709551615", "QUERY_VALUE"),
        ("of=actions&after=1", "QUERY_VALUE"),
        ("of=actions&job=job_1", "QUERY_VALUE"),
        ("job=job_1", "JOB_UNKNOWN"),
        ("job=../x", "QUERY_VALUE"),
        ("lines=7", "QUERY_UNKNOWN_KEY"),
        ("as=csv&as=ocsf", "QUERY_REPEATED_KEY"),
    ] {
        let answer = admin.get(&format!("/v1/export?{query}")).await;
        assert_eq!(answer.code(), code, "{query}: {}", answer.json());
    }
    let empty = admin.get("/v1/export?as=csv&of=actions&after=0").await;
    assert_eq!(empty.status, 200);
    let header = "action_index,time,person,action,subject,outcome,reasons,detail\r\n";
    assert_eq!(empty.bytes, header);
    assert_eq!(admin.get("/v1/export").await.bytes, "");
}
