//! What one caller can take from all the others: connections, memory, places.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use serde_json::json;

use crate::flow::{good_archive, run_on};
use crate::rig::{ELSEWHERE, HERE, Rig};

/// Whether the gateway answers on this connection, or hangs up.
async fn answers(mut stream: TcpStream) -> bool {
    let request = b"GET /api/v2/ping HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let mut answer = Vec::new();
    let sent = stream.write_all(request).await;
    let read = stream.read_to_end(&mut answer).await;
    sent.is_ok() && read.is_ok() && answer.starts_with(b"HTTP/1.1 401")
}

#[tokio::test]
async fn one_address_cannot_take_every_connection() {
    let few = |config: &mut clawgate::config::Config| {
        config.limits.connections = 8;
        config.limits.connections_per_holder = 3;
    };
    let rig = Rig::start().await.restarted(few).await;
    let mut idle = Vec::new();
    for _ in 0..3 {
        let mut stream = rig.connect(HERE).await;
        // The head is never complete; that something was read shows that it was accepted.
        stream.write_all(b"GET ").await.unwrap();
        idle.push(stream);
    }
    assert!(
        !answers(rig.connect(HERE).await).await,
        "the fourth is one too many"
    );
    assert!(
        answers(rig.connect(ELSEWHERE).await).await,
        "others are not in the way"
    );
    drop(idle.pop());
    // The place is given back as soon as the gateway has seen the end.
    while !answers(rig.connect(HERE).await).await {
        tokio::task::yield_now().await;
    }
}

/// Uploads that never end hold what has come of them, and nobody's turn.
#[tokio::test]
async fn slow_uploads_keep_nobody_from_uploading() {
    let rig = Rig::start().await;
    let token = rig.token(&rig.job().await).await;
    let mut slow = Vec::new();
    for _ in 0..12 {
        let (_, path) = rig.open(&token, "ws-staging-app").await;
        let mut stream = rig.connect(HERE).await;
        let head = format!(
            "PUT {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\nexpect: 100-continue\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut said = [0; 25];
        stream.read_exact(&mut said).await.unwrap();
        assert_eq!(&said, b"HTTP/1.1 100 Continue\r\n\r\n");
        slow.push(stream);
    }
    let (_, path) = rig.open(&rig.sandbox.cst, "ws-staging-app").await;
    rig.upload(&path, good_archive()).await.ok();
}

/// The memory for bodies is shared, and what does not fit is refused instead of buffered.
#[tokio::test]
async fn bodies_share_a_bounded_memory() {
    let small = |config: &mut clawgate::config::Config| config.limits.upload_bytes = 100 << 10;
    let rig = Rig::start().await.restarted(small).await;
    let (mut held, mut refused) = (Vec::new(), 0);
    for _ in 0..12 {
        let (_, path) = rig.open(&rig.sandbox.cst, "ws-staging-app").await;
        let mut stream = rig.connect(HERE).await;
        let head = format!("PUT {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 102400\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        // All but the last byte.
        stream.write_all(&vec![0; 102_399]).await.unwrap();
        held.push(stream);
    }
    for mut stream in held {
        let _ = stream.write_all(&[0]).await;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        match &answer {
            b"HTTP/1.1 503" => refused += 1,
            other => assert_eq!(other, b"HTTP/1.1 422"),
        }
    }
    assert!((1..12).contains(&refused), "{refused} of 12 were refused");
}

/// A token that opens more and more uploads loses its own oldest addresses, and nobody else's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_addresses_cost_only_their_owner() {
    use futures_util::{StreamExt, stream};
    let rig = Rig::start().await;
    let (_, others) = rig.open(&rig.sandbox.cst, "ws-staging-app").await;
    let flooder = rig.token(&rig.job().await).await;
    let paths: Vec<String> = stream::iter(0..540)
        .map(|_| async { rig.open(&flooder, "ws-staging-app").await.1 })
        .buffer_unordered(16)
        .collect()
        .await;
    let known = stream::iter(&paths)
        .map(|path| async {
            // The wrong method tells a known address from an unknown one.
            let (status, code) = rig.nobody("GET", path).send().await.refusal();
            assert!([405, 404].contains(&status), "{code}");
            status == 405
        })
        .buffer_unordered(16)
        .filter(|known| std::future::ready(*known))
        .count()
        .await;
    assert_eq!(known, 500);
    rig.upload(&others, good_archive()).await.ok();
}

/// The same client is the same holder, whichever family of addresses the listener is on.
#[tokio::test]
async fn a_mapped_address_is_the_same_holder() {
    let rig = Rig::start().await;
    rig.agent("GET", "/v1/job").send().await.ok();
    let everywhere = |config: &mut clawgate::config::Config| {
        config.agent_listener.address = "[::]:0".parse().unwrap();
        config.agent_listener.allow_plaintext = true;
    };
    let rig = rig.restarted(everywhere).await;
    rig.agent("GET", "/v1/job").send().await.ok();
    let theft = rig.agent("GET", "/v1/job").from(ELSEWHERE).send().await;
    assert_eq!(theft.refusal(), (401, "TOKEN_REPLAYED".to_owned()));
    let mapped = rig
        .agent("GET", "/v1/job")
        .header("x-forwarded-for", "::ffff:127.0.0.1");
    let theft = mapped.from(ELSEWHERE).send().await;
    assert_eq!(theft.refusal(), (401, "TOKEN_REPLAYED".to_owned()));
}

/// Somebody with a stolen or a revoked token leaves a trace, and cannot fill the job with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_in_the_wrong_hands_cannot_fill_the_job() {
    let few = |config: &mut clawgate::config::Config| config.limits.records_per_job = 150;
    let rig = Rig::start().await.restarted(few).await;
    rig.agent("GET", "/v1/job").send().await.ok();
    let thefts = (0..300).map(|_| {
        let call = rig.agent("GET", "/v1/job").from(ELSEWHERE);
        async move { call.send().await.refusal().1 }
    });
    let answers = futures_util::future::join_all(thefts).await;
    assert!(
        answers.iter().all(|code| code == "TOKEN_REPLAYED"),
        "{answers:?}"
    );
    assert_eq!(rig.refusals(&rig.sandbox.job_id).await.len(), 100);
    let hash = proof::token::token_hash(&rig.sandbox.cst);
    let row = rig.app().store.token(&hash).await.unwrap().unwrap();
    assert_eq!(row.replays_refused, 300);
    rig.agent("GET", "/api/v2/ping").send().await.ok();
}

/// Evidence must stay small enough to be sealed and verified, however often an agent asks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_refusals_ends_with_the_job_full() {
    use futures_util::StreamExt;
    let few = |config: &mut clawgate::config::Config| config.limits.records_per_job = 60;
    let rig = Rig::start().await.restarted(few).await;
    let job = rig.sandbox.job_id.clone();
    let second = rig.token(&job).await;
    let calls = (0..200).map(|n| {
        let token = if n % 2 == 0 {
            &rig.sandbox.cst
        } else {
            &second
        };
        let call = rig.nobody("GET", "/api/v2/organizations").bearer(token);
        async move { call.send().await.refusal().1 }
    });
    // A few at a time: what is under way at the same moment may go beyond the bound.
    let answers: Vec<String> = futures_util::stream::iter(calls)
        .buffer_unordered(8)
        .collect()
        .await;
    let full = answers.iter().filter(|code| *code == "JOB_FULL").count();
    let records = |job: &proof::record::JobId| {
        let (store, job) = (std::sync::Arc::clone(&rig.app().store), job.clone());
        async move { store.job(&job).await.unwrap().unwrap().counters.records }
    };
    let kept = records(&job).await;
    assert!(full > 0 && kept >= 60, "{full} {kept}");
    // Those that were let in at the same moment; from here on there is not one more.
    for path in [
        "/api/v2/organizations",
        "/api/v2/ping",
        "/v1/job",
        "/openai/v1/models",
    ] {
        let reply = rig.agent("GET", path).send().await;
        assert_eq!(reply.refusal(), (403, "JOB_FULL".to_owned()), "{path}");
    }
    assert_eq!(records(&job).await, kept);
    // Also after a restart; other jobs go on; and the job can be closed and its evidence sealed.
    let rig = rig.restarted(few).await;
    let reply = rig.agent("GET", "/api/v2/ping").send().await;
    assert_eq!(reply.refusal(), (403, "JOB_FULL".to_owned()));
    let other = rig.token(&rig.job().await).await;
    rig.nobody("GET", "/api/v2/ping")
        .bearer(&other)
        .send()
        .await
        .ok();
    let close = format!("/v1/jobs/{job}/close");
    rig.operator("POST", &close)
        .json(&serde_json::json!({"reason": "full"}))
        .send()
        .await
        .ok();
    let bundle = rig
        .operator("GET", &format!("/v1/jobs/{job}/bundle"))
        .send()
        .await;
    let trust = rig.operator("GET", "/v1/trust").send().await;
    let report = clawverify::verify(&bundle.body, &trust.body, &clawverify::Options::default());
    assert_eq!(report.verdict, clawverify::Verdict::Valid, "{report:?}");
}

/// The evidence of a job has a size, too, whatever its records are full of: an agent that makes
/// them long must not make the bundle one that nobody reads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_is_full_before_its_bundle_is_too_large() {
    const MOST: u64 = 300_000;
    let models = r#""models": { "providers": ["openai"], "allowed": ["gpt-standin"],
                    "tools": { "allow": ["t*"] } }, "cst_constraints""#;
    let contract = policy::EXAMPLE_CONTRACT.replace(r#""cst_constraints""#, models);
    let few = |config: &mut clawgate::config::Config| config.limits.evidence_bytes_per_job = MOST;
    let tools = |first: &str, count: usize| -> Vec<serde_json::Value> {
        let name = |n| format!("{first}{n:03}{}", "\"".repeat(60));
        let tool = |n| json!({"type": "function", "function": {"name": name(n)}});
        (0..count).map(tool).collect()
    };
    for (tools, at_most) in [
        // Refused, with the names on record; admitted, with the names on record; and nothing long.
        (tools("no", 200), 40),
        (tools("t", 200), 40),
        (tools("t", 1), 150),
    ] {
        let rig = Rig::under(&contract).await.restarted(few).await;
        let job = rig.sandbox.job_id.clone();
        let body = json!({"model": "gpt-standin", "messages": [], "tools": tools});
        let call = rig.agent("POST", "/openai/v1/chat/completions").json(&body);
        let mut asked = 0;
        while !call.send().await.text().contains("JOB_FULL") {
            asked += 1;
            assert!(asked < at_most, "the job does not fill");
        }
        // After a restart what stands in the store counts, which is a little less than was said.
        let fewer = |config: &mut clawgate::config::Config| {
            config.limits.evidence_bytes_per_job = MOST * 2 / 3;
        };
        let rig = rig.restarted(fewer).await;
        let reply = rig.agent("GET", "/api/v2/ping").send().await;
        assert_eq!(reply.refusal(), (403, "JOB_FULL".to_owned()));
        rig.operator("POST", &format!("/v1/jobs/{job}/close"))
            .json(&json!({"reason": "full"}))
            .send()
            .await
            .ok();
        let bundle = rig.operator("GET", &format!("/v1/jobs/{job}/bundle"));
        let bundle = bundle.send().await.body.len() as u64;
        // In a log of a few records the proofs are short.
        assert!(
            (MOST / 3..MOST + 20_000).contains(&bundle),
            "{asked} {bundle}"
        );
    }
}

/// Each unfinished run is read again and again: one job cannot have so many of them that there is
/// no turn left for the others.
#[tokio::test]
async fn a_job_has_few_unfinished_runs() {
    let few = |config: &mut clawgate::config::Config| config.limits.runs_per_job = 2;
    let rig = Rig::start().await.restarted(few).await;
    let token = rig.token(&rig.sandbox.job_id).await;
    let first = rig.planned(&token).await;
    rig.begun(&token).await;
    let configured = rig.uploaded(&token, "ws-staging-app").await;
    let body = run_on("ws-staging-app", Some(&configured));
    let refused = rig.start_run(&token, &body).await;
    assert_eq!(refused.refusal(), (403, "JOB_RUNS_FULL".to_owned()));
    // Another job has room of its own.
    rig.begun(&rig.token(&rig.job().await).await).await;
    // A run that has ended makes room.
    let discard = format!("/api/v2/runs/{}/actions/discard", first.run);
    let discard = rig.nobody("POST", &discard).bearer(&token);
    discard.json_api(&json!({})).send().await.ok();
    while rig.app().gate.watches(&first.run) {
        rig.app().gate.changed().await;
    }
    rig.start_run(&token, &body).await.ok();
}
