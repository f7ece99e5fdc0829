//! Every other way in which a call can end.

use proof::record::Ended;

use super::*;

const STREAM: &str = r#"{"model":"gpt-5","stream":true,"messages":[]}"#;
const EVENT: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"Hel\"}}]}\n\n";
const CHAT: &str = "/openai/v1/chat/completions";

/// A gateway, the client's half of a stream of which one event was read, and the provider's.
async fn begun(setup: impl FnOnce(Setup) -> Setup) -> (Gateway, Answer, Pieces) {
    let (url, mut provider) = provider().await;
    let gateway = setup(Setup::new(&url)).start().await;
    let (mut answer, pieces) = tokio::join!(gateway.post(CHAT, STREAM), async {
        provider.recv().await.unwrap().stream(&[])
    });
    pieces.send(piece(EVENT)).await.unwrap();
    assert_eq!(answer.next().await.unwrap().unwrap(), EVENT);
    (gateway, answer, pieces)
}

#[tokio::test]
async fn a_stream_that_breaks_leaves_the_hash_of_what_came() {
    let (mut gateway, mut answer, pieces) = begun(|setup| setup).await;
    pieces.send(broken()).await.unwrap();
    assert!(answer.next().await.unwrap().is_err(), "aborted, not ended");
    let facts = gateway.ended().await;
    assert_eq!(
        (facts.ended, facts.code),
        (Ended::UpstreamReset, Some(ReasonCode::UpstreamReset))
    );
    assert_eq!(facts.response_hash, Hash::of(EVENT.as_bytes()));
    assert!(facts.usage.unwrap().derived);
}

#[tokio::test]
async fn an_answer_shorter_than_announced_is_broken() {
    let (url, mut provider) = provider().await;
    let mut gateway = Setup::new(&url).start().await;
    let (answer, ()) = tokio::join!(gateway.post(CHAT, STREAM), async {
        let pieces = document(&mut provider, "100").await;
        pieces.send(piece("{\"half\":")).await.unwrap();
        pieces.send(broken()).await.unwrap();
    });
    assert_eq!(answer.status, 502);
    let (_, message) = error_of(&answer.whole().await.unwrap());
    assert!(message.starts_with("UPSTREAM_RESET"), "{message}");
    let facts = gateway.ended().await;
    assert_eq!(
        (facts.ended, facts.status, facts.upstream_status),
        (Ended::UpstreamReset, Some(502), Some(200))
    );
    assert_eq!(facts.response_hash, Hash::of(b"{\"half\":"));
}

/// Begins a document of so many bytes.
async fn document(provider: &mut mpsc::Receiver<Received>, length: &str) -> Pieces {
    let fields = [
        ("content-type", "application/json"),
        ("content-length", length),
    ];
    let (pieces, receiver) = mpsc::channel(1);
    let frames = futures_util::stream::unfold(receiver, |mut receiver: mpsc::Receiver<_>| async {
        receiver.recv().await.map(|frame| (frame, receiver))
    });
    let received = provider.recv().await.unwrap();
    received.send(200, &fields, StreamBody::new(frames).boxed_unsync());
    pieces
}

/// What is too large to be held passes piece by piece, and breaks where it breaks.
#[tokio::test]
async fn a_large_answer_that_breaks_is_not_given_an_end() {
    let (url, mut provider) = provider().await;
    let mut gateway = Setup::new(&url).start().await;
    let large = "x".repeat(70_000);
    let (mut answer, pieces) = tokio::join!(gateway.post(CHAT, STREAM), async {
        let pieces = document(&mut provider, "100000").await;
        pieces.send(piece(&large)).await.unwrap();
        pieces
    });
    assert_eq!(answer.header("content-length"), Some("100000"));
    answer.next().await.unwrap().unwrap();
    pieces.send(broken()).await.unwrap();
    assert!(answer.whole().await.is_err(), "aborted, not ended");
    let facts = gateway.ended().await;
    assert_eq!(
        (facts.ended, facts.status),
        (Ended::UpstreamReset, Some(200))
    );
}

#[tokio::test]
async fn a_client_that_leaves_takes_the_provider_along() {
    let (mut gateway, answer, pieces) = begun(|setup| setup).await;
    drop(answer);
    pieces.closed().await;
    let facts = gateway.ended().await;
    assert_eq!((facts.ended, facts.status), (Ended::ClientGone, Some(200)));
    assert_eq!(facts.response_hash, Hash::of(EVENT.as_bytes()));
    gateway.providers.idle().await;
}

#[tokio::test]
async fn a_client_that_leaves_after_the_last_word_has_had_all() {
    const LAST: &str =
        "data: {\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}}\n\ndata: [DONE]\n\n";
    let (mut gateway, mut answer, pieces) = begun(|setup| setup).await;
    pieces.send(piece(LAST)).await.unwrap();
    assert_eq!(answer.next().await.unwrap().unwrap(), LAST);
    drop(answer);
    pieces.closed().await;
    let facts = gateway.ended().await;
    assert_eq!(facts.ended, Ended::Complete);
    assert!(!facts.usage.unwrap().derived);
}

#[tokio::test]
async fn a_client_that_leaves_before_the_answer_is_recorded() {
    let (url, mut provider) = provider().await;
    let mut gateway = Setup::new(&url).start().await;
    let mut received = {
        let asking = gateway.post(CHAT, STREAM);
        tokio::select! {
            _ = asking => panic!("nobody has answered"),
            received = provider.recv() => received.unwrap(),
        }
    };
    received.answer.closed().await;
    let facts = gateway.ended().await;
    assert_eq!(
        (facts.ended, facts.status, facts.upstream_status),
        (Ended::ClientGone, None, None)
    );
}

#[tokio::test]
async fn a_call_that_is_never_polled_is_recorded() {
    let (url, _provider) = provider().await;
    let gateway = Setup::new(&url).start().await;
    let (sender, mut facts) = mpsc::unbounded_channel();
    let request = Request::post(CHAT)
        .header("content-type", "application/json")
        .body(())
        .unwrap();
    let body = Full::new(Bytes::from(STREAM));
    let parts = request.into_parts().0;
    let call = gateway
        .providers
        .resolve(&gateway.token, &parts, body, &mut String::new())
        .await;
    let finish = Recorder::new(sender, mpsc::unbounded_channel().0);
    drop(gateway.providers.forward(call.unwrap(), Box::new(finish)));
    assert_eq!(facts.recv().await.unwrap().ended, Ended::ClientGone);
    gateway.providers.idle().await;
}

#[tokio::test]
async fn revoking_the_token_or_closing_the_job_cuts_open_streams() {
    for (close_job, code) in [
        (false, ReasonCode::TokenRevoked),
        (true, ReasonCode::TokenJobClosed),
    ] {
        let (mut gateway, mut answer, pieces) = begun(|setup| setup).await;
        if close_job {
            gateway.live.end_job(&gateway.token.job.id);
        } else {
            gateway.live.revoke_token(&gateway.token.hash);
        }
        assert!(answer.next().await.unwrap().is_err());
        pieces.closed().await;
        let facts = gateway.ended().await;
        assert_eq!((facts.ended, facts.code), (Ended::CutByPolicy, Some(code)));
        assert_eq!(facts.response_hash, Hash::of(EVENT.as_bytes()));
    }
}

#[tokio::test]
async fn revoking_the_token_cuts_a_call_that_waits() {
    let (url, mut provider) = provider().await;
    let mut gateway = Setup::new(&url).start().await;
    let (answer, mut received) = tokio::join!(gateway.post(CHAT, STREAM), async {
        let received = provider.recv().await.unwrap();
        gateway.live.revoke_token(&gateway.token.hash);
        received
    });
    received.answer.closed().await;
    assert_eq!(answer.status, 401);
    assert_eq!(answer.header("x-should-retry"), Some("false"));
    assert!(
        error_of(&answer.whole().await.unwrap())
            .1
            .starts_with("TOKEN_REVOKED")
    );
    let facts = gateway.ended().await;
    assert_eq!((facts.ended, facts.status), (Ended::CutByPolicy, Some(401)));
}

#[tokio::test]
async fn a_provider_that_cannot_be_reached_or_is_slow_is_answered_for() {
    let closed = {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        format!("http://{}/v1", listener.local_addr().unwrap())
    };
    let (url, _provider) = provider().await;
    let no_patience = Limits {
        upstream_timeout_seconds: 0,
        ..Limits::default()
    };
    for (url, limits, status, kind, code) in [
        (
            closed,
            Limits::default(),
            503,
            "api_error",
            "UPSTREAM_UNAVAILABLE",
        ),
        (url, no_patience, 504, "timeout_error", "UPSTREAM_TIMEOUT"),
    ] {
        let mut gateway = Setup {
            limits,
            ..Setup::new(&url)
        }
        .start()
        .await;
        let answer = gateway
            .post("/anthropic/v1/messages", r#"{"model":"c","max_tokens":1}"#)
            .await;
        assert_eq!(answer.status, status);
        assert_eq!(answer.header("x-clawgate-receipt"), Some(RECEIPT_ID));
        let (type_, message) = error_of(&answer.whole().await.unwrap());
        assert_eq!(type_, kind);
        assert!(
            message.starts_with(code) && !message.contains("127.0.0.1"),
            "{message}"
        );
        let facts = gateway.ended().await;
        assert_eq!(
            (facts.ended, facts.upstream_status),
            (Ended::UpstreamReset, None)
        );
        assert_eq!(facts.code.unwrap().as_str(), code);
        assert_eq!(facts.response_hash, Hash::of(b""));
    }
}

#[tokio::test]
async fn what_cannot_be_recorded_does_not_reach_the_provider() {
    for (intent, status) in [
        (IntentIs::RefusedAtOnce, 503),
        (IntentIs::LostLater, 503),
        (IntentIs::DurableAfterAll, 200),
    ] {
        let (url, mut provider) = provider().await;
        let setup = Setup {
            intent,
            ..Setup::new(&url)
        };
        let mut gateway = setup.start().await;
        let asking = gateway.post(CHAT, STREAM);
        let answer = tokio::select! {
            answer = asking => answer,
            received = provider.recv() => {
                assert_eq!(status, 200, "{intent:?}");
                received.unwrap().answer(200, &[("content-type", "text/event-stream")], REST);
                continue;
            }
        };
        assert_eq!(answer.status, status, "{intent:?}");
        assert_eq!(gateway.asked(), [""; 0], "{intent:?}");
        assert!(provider.try_recv().is_err(), "{intent:?}");
    }
}

#[tokio::test]
async fn a_provider_that_shows_its_key_is_cut() {
    let (mut gateway, mut answer, pieces) = begun(|setup| setup).await;
    pieces
        .send(piece(&format!("data: your key is {KEY}\n\n")))
        .await
        .unwrap();
    assert!(answer.next().await.unwrap().is_err());
    let facts = gateway.ended().await;
    assert_eq!(
        (facts.ended, facts.code),
        (Ended::CutByPolicy, Some(ReasonCode::UpstreamGarbage))
    );
}

const EXACTLY: &str = r#"{"providers":["openai"],"allowed":["*"],"count_exactly":true}"#;
const REST: &str =
    "data: {\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":9}}\n\ndata: [DONE]\n\n";

#[tokio::test]
async fn an_answer_that_counts_is_read_to_its_end_for_nobody() {
    let exact = |setup| Setup {
        models: Some(EXACTLY),
        ..setup
    };
    let (mut gateway, answer, pieces) = begun(exact).await;
    drop(answer);
    pieces.send(piece(REST)).await.unwrap();
    drop(pieces);
    let facts = gateway.ended().await;
    assert_eq!(facts.ended, Ended::ClientGone);
    let usage = facts.usage.unwrap();
    assert_eq!((usage.tokens_output, usage.derived), (9, false));
    let whole = [EVENT, REST].concat();
    assert_eq!(facts.response_hash, Hash::of(whole.as_bytes()));
}

#[tokio::test]
async fn so_it_is_when_the_client_leaves_before_the_answer() {
    let (url, mut provider) = provider().await;
    let setup = Setup {
        models: Some(EXACTLY),
        ..Setup::new(&url)
    };
    let mut gateway = setup.start().await;
    let received = tokio::select! {
        _ = gateway.post(CHAT, STREAM) => panic!("nothing was answered"),
        received = provider.recv() => received.unwrap(),
    };
    received.answer(200, &[("content-type", "text/event-stream")], REST);
    let facts = gateway.ended().await;
    assert_eq!(facts.ended, Ended::ClientGone);
    assert_eq!(facts.usage.unwrap().tokens_output, 9);
    assert_eq!(facts.response_hash, Hash::of(REST.as_bytes()));
}

#[tokio::test]
async fn so_many_are_read_for_nobody_and_no_more() {
    let exact = |setup| Setup {
        models: Some(EXACTLY),
        ..setup
    };
    let (mut gateway, answer, pieces) = begun(exact).await;
    let others = all_places(&gateway);
    assert_eq!(others.len(), going_on::MOST);
    drop(answer);
    pieces.closed().await;
    let facts = gateway.ended().await;
    assert_eq!(facts.ended, Ended::ClientGone);
    assert!(facts.usage.unwrap().derived);
    // Nor does one that has no answer yet.
    let (url, mut provider) = provider().await;
    let mut gateway = exact(Setup::new(&url)).start().await;
    let others = all_places(&gateway);
    let mut received = tokio::select! {
        _ = gateway.post(CHAT, STREAM) => panic!("nothing was answered"),
        received = provider.recv() => received.unwrap(),
    };
    received.answer.closed().await;
    assert_eq!(gateway.ended().await.ended, Ended::ClientGone);
    // A call that goes on gives its place back.
    drop(others);
    let received = tokio::select! {
        _ = gateway.post(CHAT, STREAM) => panic!("nothing was answered"),
        received = provider.recv() => received.unwrap(),
    };
    received.answer(200, &[("content-type", "text/event-stream")], REST);
    assert_eq!(gateway.ended().await.usage.unwrap().tokens_output, 9);
    gateway.providers.idle().await;
    assert_eq!(all_places(&gateway).len(), going_on::MOST);
}

fn all_places(gateway: &Gateway) -> Vec<going_on::Place> {
    std::iter::from_fn(|| gateway.providers.going_on.enter()).collect()
}

#[tokio::test]
async fn a_revocation_ends_the_reading_too() {
    let exact = |setup| Setup {
        models: Some(EXACTLY),
        ..setup
    };
    let (mut gateway, answer, pieces) = begun(exact).await;
    drop(answer);
    gateway.live.revoke_token(&gateway.token.hash);
    let facts = gateway.ended().await;
    assert_eq!(facts.ended, Ended::CutByPolicy);
    assert!(facts.usage.unwrap().derived);
    drop(pieces);
}
