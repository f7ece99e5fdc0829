//! Streams: event by event, hashed, read, with the receipt at the end.

use proof::record::{Ended, Usage};

use super::*;

const FIRST: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"Hel\"}}],\"usage\":null}\n\n";
const SECOND: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"lo\"}}]}\r\n\r\n";
const LAST: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":11,\"completion_tokens\":2}}\n\ndata: [DONE]\n\n";

const REQUEST: &str = r#"{"model":"gpt-5","stream":true,"messages":[],"new_member":{"a":[1]}}"#;

#[tokio::test]
async fn each_event_passes_before_the_next_is_sent() {
    let (url, mut provider) = provider().await;
    let mut gateway = Setup::new(&url).start().await;
    let (mut answer, pieces) = tokio::join!(
        gateway.post("/openai/v1/chat/completions", REQUEST),
        async {
            let received = provider.recv().await.unwrap();
            assert_eq!(received.body, REQUEST, "the body goes as it came");
            received.stream(&[("x-request-id", "req_1"), ("openai-organization", "acme")])
        }
    );
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.header("x-clawgate-receipt"),
        Some(RECEIPT_ID),
        "from the start"
    );
    assert_eq!(answer.header("content-type"), Some("text/event-stream"));
    assert_eq!(answer.header("x-request-id"), Some("req_1"));
    assert_eq!(answer.header("openai-organization"), None);
    assert_eq!(answer.header("content-length"), None);
    for event in [FIRST, SECOND, LAST] {
        // The provider sends no event before the client has read the one before.
        pieces.send(piece(event)).await.unwrap();
        assert_eq!(answer.next().await.unwrap().unwrap(), event);
    }
    drop(pieces);
    let rest = answer.next().await.unwrap().unwrap();
    let facts = gateway.ended().await;
    let (ours, receipt) = split_receipt(&rest);
    assert!(ours.is_empty() && rest.starts_with(b":") && rest.ends_with(b"\n\n"));
    let receipt = receipt.unwrap();
    let hash = Hash::of([FIRST, SECOND, LAST].concat().as_bytes());
    assert_eq!(
        receipt
            .payload
            .get("response_hash_b64u")
            .and_then(Json::as_str),
        Some(&*hash.to_string())
    );
    assert!(answer.next().await.is_none(), "a clean end");
    assert_eq!(facts.response_hash, hash);
    assert_eq!(
        facts.response_bytes,
        [FIRST, SECOND, LAST].concat().len() as u64
    );
    assert_eq!(facts.ended, Ended::Complete);
    assert_eq!(
        (facts.status, facts.upstream_status, facts.code),
        (Some(200), Some(200), None)
    );
    assert!(facts.first_byte_ms.is_some());
    let usage = Usage {
        tokens_input: 11,
        tokens_output: 2,
        derived: false,
    };
    assert_eq!(facts.usage, Some(usage));
}

#[tokio::test]
async fn anthropic_streams_are_read_and_credentials_swapped() {
    const EVENTS: &str = "event: message_start\n\
        data: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":25,\"cache_read_input_tokens\":5,\"output_tokens\":1}}}\n\n\
        event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{},\"usage\":{\"output_tokens\":15}}\n\n\
        event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
    let (url, mut provider) = provider().await;
    let mut gateway = Setup::new(&url).start().await;
    let fields = [
        ("content-type", "application/json"),
        ("anthropic-version", "2023-06-01"),
        ("x-run-id", "run-777"),
        ("accept-encoding", "gzip, deflate"),
        ("cookie", "a=b"),
    ];
    let body = r#"{"model":"claude","max_tokens":64,"stream":true,"messages":[]}"#;
    let (answer, ()) = tokio::join!(
        gateway.ask(Method::POST, "/anthropic/v1/messages", &fields, body),
        async {
            let received = provider.recv().await.unwrap();
            assert_eq!(received.parts.uri.path(), "/v1/messages");
            assert_eq!(received.header("x-api-key"), Some(KEY));
            assert_eq!(received.header("anthropic-version"), Some("2023-06-01"));
            assert_eq!(received.header("accept-encoding"), Some("identity"));
            for name in ["authorization", "x-run-id", "cookie"] {
                assert_eq!(received.header(name), None);
            }
            assert!(!format!("{:?}", received.parts).contains(TOKEN));
            received.answer(
                200,
                &[("content-type", "text/event-stream; charset=utf-8")],
                EVENTS,
            );
        }
    );
    let whole = answer.whole().await.unwrap();
    let (stream, receipt) = split_receipt(&whole);
    assert_eq!(stream, EVENTS.as_bytes());
    assert!(
        receipt.is_some(),
        "also when the provider has announced a length"
    );
    let facts = gateway.ended().await;
    let usage = Usage {
        tokens_input: 30,
        tokens_output: 15,
        derived: false,
    };
    assert_eq!(facts.usage, Some(usage));
}

#[tokio::test]
async fn a_stream_that_says_nothing_of_tokens_is_estimated_and_says_so() {
    let (url, mut provider) = provider().await;
    let mut gateway = Setup::new(&url).start().await;
    let stream = [FIRST, SECOND, "data: [DONE]\n\n"].concat();
    let (answer, ()) = tokio::join!(
        gateway.post("/openai/v1/chat/completions", REQUEST),
        async {
            let received = provider.recv().await.unwrap();
            received.answer(
                200,
                &[("content-type", "text/event-stream")],
                stream.clone(),
            );
        }
    );
    assert_eq!(
        split_receipt(&answer.whole().await.unwrap()).0,
        stream.as_bytes()
    );
    let usage = gateway.ended().await.usage.unwrap();
    assert!(usage.derived && usage.tokens_input > 0 && usage.tokens_output > 0);
}

/// What the first event says of the tokens is not what the answer cost.
#[tokio::test]
async fn a_stream_that_ends_without_its_last_word_is_not_counted_exactly() {
    let start = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":\
                 {\"usage\":{\"input_tokens\":9,\"output_tokens\":1}}}\n\n";
    let error = "event: error\ndata: {\"type\":\"error\",\"error\":\
                 {\"type\":\"overloaded_error\"}}\n\n";
    let last = "event: message_delta\ndata: {\"type\":\"message_delta\",\
                \"usage\":{\"output_tokens\":7}}\n\n\
                event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
    for (rest, derived) in [(error, true), ("", true), (last, false)] {
        let (url, mut provider) = provider().await;
        let mut gateway = Setup::new(&url).start().await;
        let body = r#"{"model":"claude","max_tokens":99,"stream":true}"#;
        let (answer, ()) = tokio::join!(gateway.post("/anthropic/v1/messages", body), async {
            let fields = [("content-type", "text/event-stream")];
            let received = provider.recv().await.unwrap();
            received.answer(200, &fields, [start, rest].concat());
        });
        answer.whole().await.unwrap();
        let facts = gateway.ended().await;
        assert_eq!(facts.ended, Ended::Complete);
        assert_eq!(facts.usage.unwrap().derived, derived, "{rest}");
    }
}

#[tokio::test]
async fn an_event_without_its_end_gets_none_from_us() {
    for (stream, before, after) in [
        ("data: x\n\ndata: half", "\n", "\n"),
        ("data: x\n\ndata: whole line\n", "", "\n"),
        ("data: x\n\n", "", "\n\n"),
        ("data: x\r\n\r\n", "", "\n\n"),
    ] {
        let (url, mut provider) = provider().await;
        let gateway = Setup::new(&url).start().await;
        let (answer, ()) = tokio::join!(
            gateway.post("/openai/v1/chat/completions", REQUEST),
            async {
                let received = provider.recv().await.unwrap();
                received.answer(200, &[("content-type", "text/event-stream")], stream);
            }
        );
        let whole = answer.whole().await.unwrap();
        let (passed, receipt) = split_receipt(&whole);
        assert_eq!(passed, [stream, before].concat().as_bytes());
        assert!(receipt.is_some());
        let end = String::from_utf8(whole[passed.len()..].to_vec()).unwrap();
        assert_eq!(&end[end.trim_end().len()..], after, "{stream:?}");
    }
}

#[tokio::test]
async fn without_its_receipt_a_stream_does_not_end_cleanly() {
    let (url, mut provider) = provider().await;
    let gateway = Setup {
        store_works: false,
        ..Setup::new(&url)
    }
    .start()
    .await;
    let (mut answer, pieces) = tokio::join!(
        gateway.post("/openai/v1/chat/completions", REQUEST),
        async { provider.recv().await.unwrap().stream(&[]) }
    );
    pieces.send(piece(LAST)).await.unwrap();
    assert_eq!(answer.next().await.unwrap().unwrap(), LAST);
    drop(pieces);
    assert!(answer.next().await.unwrap().is_err());
}
