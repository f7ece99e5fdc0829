//! What happens between two moments: a revocation while a call runs, two first uses at once, a
//! record that must say who it really was.

use std::net::Ipv4Addr;

use clawgate::app::now;
use clawgate::clawscope;
use clawgate::demo::sandbox::OPERATOR;
use proof::record::Body;
use proof::token::token_hash;
use serde_json::json;
use sim::{Fault, FaultAction};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::flow::{configuration, good_archive, run_on};
use crate::rig::{Call, ELSEWHERE, HERE, Reply, Rig};

/// A call whose head has been read and judged, and whose body has not been sent yet. That the
/// gateway asks for the body shows that the caller was let in.
struct Loaded {
    stream: TcpStream,
    body: Vec<u8>,
}

async fn load(rig: &Rig, call: Call) -> Loaded {
    let bytes = call.header("expect", "100-continue").bytes();
    let head = bytes
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .unwrap()
        + 4;
    let mut stream = rig.connect(HERE).await;
    stream.write_all(&bytes[..head]).await.unwrap();
    let wanted = b"HTTP/1.1 100 Continue\r\n\r\n";
    let mut said = vec![0; wanted.len()];
    stream.read_exact(&mut said).await.unwrap();
    assert_eq!(said, wanted);
    Loaded {
        stream,
        body: bytes[head..].to_vec(),
    }
}

impl Loaded {
    async fn fire(mut self) -> Reply {
        self.stream.write_all(&self.body).await.unwrap();
        let mut answer = Vec::new();
        self.stream.read_to_end(&mut answer).await.unwrap();
        Reply::read(&answer).unwrap()
    }
}

async fn revoke(rig: &Rig, token: &str) {
    let app = rig.app();
    let hash = token_hash(token);
    clawscope::revoke(&*app.store, &app.live, OPERATOR, &hash, "a test", now())
        .await
        .unwrap();
}

/// Calls that were let in before a revocation and whose bodies come after it.
#[tokio::test]
async fn b25_a_call_in_flight_does_not_survive_the_revocation() {
    let rig = Rig::start().await;
    let token = rig.token(&rig.sandbox.job_id).await;
    let configured = rig.uploaded(&token, "ws-staging-app").await;
    let (_, upload) = rig.open(&token, "ws-staging-app").await;
    let planned = rig.planned(&token).await;
    let run = rig.nobody("POST", "/api/v2/runs").bearer(&token);
    let run = run.json_api(&run_on("ws-staging-app", Some(&configured)));
    let open = rig.nobody(
        "POST",
        "/api/v2/workspaces/ws-staging-app/configuration-versions",
    );
    let discard = format!("/api/v2/runs/{}/actions/discard", planned.run);
    let apply = format!("/api/v2/runs/{}/actions/apply", planned.run);
    let comment = json!({"comment": "x"});
    let chat = json!({"model": "gpt-5", "messages": [{"role": "user", "content": "x"}]});
    let message = json!({"model": "claude-sonnet-4-5", "max_tokens": 9, "messages": []});
    let loaded = [
        ("a run", run),
        (
            "a configuration",
            open.bearer(&token).json_api(&configuration()),
        ),
        ("an upload", rig.nobody("PUT", &upload).body(good_archive())),
        (
            "a discard",
            rig.nobody("POST", &discard)
                .bearer(&token)
                .json_api(&comment),
        ),
        (
            "an apply",
            rig.nobody("POST", &apply).bearer(&token).json_api(&comment),
        ),
        (
            "a chat",
            rig.nobody("POST", "/openai/v1/chat/completions")
                .bearer(&token)
                .json(&chat),
        ),
        (
            "a message",
            rig.nobody("POST", "/anthropic/v1/messages")
                .bearer(&token)
                .json(&message),
        ),
    ];
    let mut armed = Vec::new();
    for (what, call) in loaded {
        armed.push((what, load(&rig, call).await));
    }
    let seen = rig.seen();
    revoke(&rig, &token).await;
    for (what, loaded) in armed {
        let reply = loaded.fire().await;
        let code = reply.header("x-clawgate-code").unwrap_or_default();
        assert_eq!(
            (reply.status, code),
            (401, "TOKEN_REVOKED"),
            "{what}: {}",
            reply.whole
        );
    }
    rig.assert_silent(&seen, "a call of a revoked token");
    let run = rig.app().store.run(&planned.run).await.unwrap().unwrap();
    assert!(
        !run.apply_wished,
        "the wish to apply came from a revoked token"
    );
}

#[tokio::test]
async fn a_call_in_flight_does_not_survive_its_job() {
    let rig = Rig::start().await;
    let job = rig.job().await;
    let token = rig.token(&job).await;
    let configured = rig.uploaded(&token, "ws-staging-app").await;
    let run = rig.nobody("POST", "/api/v2/runs").bearer(&token);
    let run = load(
        &rig,
        run.json_api(&run_on("ws-staging-app", Some(&configured))),
    )
    .await;
    let close = format!("/v1/jobs/{job}/close");
    rig.operator("POST", &close)
        .json(&json!({"reason": "a test"}))
        .send()
        .await
        .ok();
    let seen = rig.seen();
    assert_eq!(
        run.fire().await.refusal(),
        (401, "TOKEN_JOB_CLOSED".to_owned())
    );
    rig.assert_silent(&seen, "a call of a closed job");
}

/// Of many first uses at the same moment from two places, one place wins and keeps the token.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_has_one_holder_however_it_is_first_used() {
    let rig = Rig::start().await;
    for _ in 0..8 {
        let token = rig.token(&rig.sandbox.job_id).await;
        let call = |from: Ipv4Addr| rig.nobody("GET", "/v1/job").bearer(&token).from(from);
        let calls = [HERE, ELSEWHERE].into_iter().cycle().take(16).map(|from| {
            let call = call(from);
            async move { (from, call.send().await.status) }
        });
        let answers = futures_util::future::join_all(calls).await;
        let admitted: std::collections::BTreeSet<Ipv4Addr> = answers
            .iter()
            .filter(|(_, status)| *status == 200)
            .map(|(from, _)| *from)
            .collect();
        assert_eq!(admitted.len(), 1, "{answers:?}");
        assert_eq!(
            answers.iter().filter(|(_, status)| *status == 200).count(),
            8,
            "{answers:?}"
        );
    }
}

/// A refused theft is on record as the thief's, and counted at the token.
#[tokio::test]
async fn a_theft_is_recorded_as_what_it_was() {
    let rig = Rig::start().await;
    let own = rig.agent("GET", "/v1/job");
    own.send().await.ok();
    let theft = own.clone().from(ELSEWHERE).send().await;
    assert_eq!(theft.refusal(), (401, "TOKEN_REPLAYED".to_owned()));
    let refusals = rig.refusals(&rig.sandbox.job_id).await;
    let replay = |holder: &str| {
        (
            "TOKEN_REPLAYED".to_owned(),
            "GET job".to_owned(),
            holder.to_owned(),
        )
    };
    assert_eq!(refusals, [replay("127.0.0.2")]);
    let row = rig
        .app()
        .store
        .token(&token_hash(&rig.sandbox.cst))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (row.holder.as_deref(), row.replays_refused),
        (Some("127.0.0.1"), 1)
    );
}

/// However many copies of one request come at once, upstream makes one run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_request_makes_one_run() {
    let rig = Rig::start().await;
    let second = rig.token(&rig.sandbox.job_id).await;
    let configured = rig.uploaded(&rig.sandbox.cst, "ws-staging-app").await;
    let body = run_on("ws-staging-app", Some(&configured));
    let calls = (0..12).map(|n| {
        let token = if n % 2 == 0 {
            &rig.sandbox.cst
        } else {
            &second
        };
        rig.start_run(token, &body)
    });
    let answers = futures_util::future::join_all(calls).await;
    let ids: std::collections::BTreeSet<String> = answers
        .iter()
        .map(|reply| reply.ok()["data"]["id"].to_string())
        .collect();
    assert_eq!(ids.len(), 1, "{ids:?}");
    let requests = rig.sandbox.cloud.requests();
    let posts = requests
        .iter()
        .filter(|r| r.method == "POST" && r.path == "/api/v2/runs")
        .count();
    assert_eq!(posts, 1);
}

/// Requests for runs wait for each other, and what waits is not out of reach: none of them
/// becomes a run once their token is revoked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_that_wait_for_their_turn_do_not_survive_the_revocation() {
    let rig = Rig::start().await;
    let token = rig.token(&rig.sandbox.job_id).await;
    let configured = rig.uploaded(&token, "ws-staging-app").await;
    let body = |n: usize| {
        let mut body = run_on("ws-staging-app", Some(&configured));
        body["data"]["attributes"]["message"] = json!(format!("wish {n}"));
        body
    };
    let fault = Fault::once("POST", "/api/v2/runs", FaultAction::Hold);
    let held = rig.sandbox.cloud.set_fault(fault).unwrap();
    let intents = || async {
        let records = rig.app().store.records(&rig.sandbox.job_id, 0, 1000).await;
        let records = records.unwrap().into_iter();
        let runs = records.filter(
            |stored| matches!(&stored.record.body, Body::Intent(i) if i.operation == "create-run"),
        );
        runs.count()
    };
    let bodies: Vec<_> = (0..6).map(body).collect();
    let calls = bodies.iter().map(|body| rig.start_run(&token, body));
    let stop = async {
        let mut commits = rig.app().store.commits();
        while intents().await < 6 {
            commits.changed().await.unwrap();
        }
        revoke(&rig, &token).await;
        assert!(rig.sandbox.cloud.release(&held));
    };
    let (answers, ()) = tokio::join!(futures_util::future::join_all(calls), stop);
    let refused = answers.iter().filter(|reply| reply.status == 401).count();
    // The one that upstream had been asked for already was made.
    assert_eq!(refused, 5);
    let requests = rig.sandbox.cloud.requests();
    let asked = |r: &&sim::Request| r.method == "POST" && r.path == "/api/v2/runs";
    assert_eq!(requests.iter().filter(asked).count(), 1);
}

/// What another gateway has revoked, and this one was not told of yet: nothing is changed any more,
/// nothing is answered, and the job's evidence has no call from after the revocation.
#[tokio::test]
async fn a_revocation_counts_from_its_record_on_whoever_knows_of_it() {
    let rig = Rig::start().await;
    let job = &rig.sandbox.job_id;
    let token = rig.token(job).await;
    let workspaces = "/api/v2/organizations/acme/workspaces";
    rig.nobody("GET", workspaces)
        .bearer(&token)
        .send()
        .await
        .ok();
    let hash = token_hash(&token);
    let store = &rig.app().store;
    let revoked = store.revoke(&hash, OPERATOR, "a test", now()).await;
    let revoked = revoked.unwrap().unwrap().appended.unwrap();
    let seen = rig.seen();
    let open = rig.nobody(
        "POST",
        "/api/v2/workspaces/ws-staging-app/configuration-versions",
    );
    let chat = json!({"model": "gpt-5", "messages": [{"role": "user", "content": "x"}]});
    let chat = rig
        .nobody("POST", "/openai/v1/chat/completions")
        .json(&chat);
    let opened = open.json_api(&configuration()).bearer(&token).send().await;
    assert_eq!(opened.refusal().1, "TOKEN_REVOKED");
    rig.assert_silent(&seen, "a change under a revoked token");
    let read = rig.nobody("GET", workspaces).bearer(&token).send().await;
    assert_eq!(read.refusal().1, "TOKEN_REVOKED");
    let chatted = chat.bearer(&token).send().await;
    assert_eq!(chatted.refusal().1, "STORE_UNAVAILABLE");
    let after = store.records(job, revoked.seq, 100).await.unwrap();
    let calls = after
        .iter()
        .filter(|row| matches!(row.record.body, Body::Intent(_)));
    assert_eq!(calls.count(), 0, "{after:?}");
}
