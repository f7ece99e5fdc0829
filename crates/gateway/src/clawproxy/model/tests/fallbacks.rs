//! Names that mean other models, and providers that answer for others.

use proof::record::Ended;

use super::*;

const CHAT: &str = "/openai/v1/chat/completions";
const SENT: &str = r#"{"model":"fast", "n":1}"#;
const MEANT: &str = r#"{"model":"gpt-5-mini", "n":1}"#;

/// Two providers that know `fast` as the same model; the first falls back to the second.
async fn two(first: &str, second: &str, models: Option<&'static str>) -> Gateway {
    Setup {
        providers: vec![
            ("openai", Dialect::Openai, first.to_owned()),
            ("other", Dialect::Openai, second.to_owned()),
        ],
        models,
        configure: |models| {
            for provider in models.values_mut() {
                provider
                    .aliases
                    .insert("fast".to_owned(), "gpt-5-mini".to_owned());
            }
            let first = models.get_mut("openai").unwrap();
            first.fallback.push("other".to_owned());
        },
        ..Setup::new(first)
    }
    .start()
    .await
}

async fn nobody() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}/v1", listener.local_addr().unwrap())
}

fn named(receipt: &Envelope) -> String {
    receipt
        .payload
        .get("provider")
        .and_then(Json::as_str)
        .unwrap()
        .to_owned()
}

#[tokio::test]
async fn the_next_one_answers_when_nothing_was_given_out_yet() {
    let events =
        "data: {\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":1}}\n\ndata: [DONE]\n\n";
    for first_status in [None, Some(429), Some(500), Some(503), Some(529)] {
        let (working, mut first) = provider().await;
        let (second_url, mut second) = provider().await;
        let first_url = match first_status {
            None => nobody().await,
            Some(_) => working,
        };
        let mut gateway = two(&first_url, &second_url, None).await;
        let (answer, ()) = tokio::join!(gateway.post(CHAT, SENT), async {
            if let Some(status) = first_status {
                let received = first.recv().await.unwrap();
                assert_eq!(received.body, MEANT);
                received.answer(status, &[("content-type", "application/json")], "{}");
            }
            let received = second.recv().await.unwrap();
            assert_eq!(received.body, MEANT);
            received.answer(200, &[("content-type", "text/event-stream")], events);
        });
        assert_eq!(answer.status, 200);
        let whole = answer.whole().await.unwrap();
        let (passed, receipt) = split_receipt(&whole);
        assert_eq!(passed, events.as_bytes());
        assert_eq!(named(&receipt.unwrap()), "other");
        let facts = gateway.ended().await;
        assert_eq!(
            (facts.ended, facts.upstream_status),
            (Ended::Complete, Some(200))
        );
        assert_eq!(facts.response_hash, Hash::of(events.as_bytes()));
    }
}

#[tokio::test]
async fn other_failures_are_the_clients() {
    let models = r#"{"providers":["openai"],"allowed":["gpt-5-mini"]}"#;
    for (models, status) in [(None, 400), (None, 404), (Some(models), 503)] {
        let (first_url, mut first) = provider().await;
        let (second_url, mut second) = provider().await;
        let mut gateway = two(&first_url, &second_url, models).await;
        let (answer, ()) = tokio::join!(gateway.post(CHAT, SENT), async {
            let received = first.recv().await.unwrap();
            received.answer(status, &[("content-type", "application/json")], "{}");
        });
        assert_eq!(answer.status, status);
        answer.whole().await.unwrap();
        assert_eq!(gateway.ended().await.upstream_status, Some(status));
        assert!(second.try_recv().is_err());
    }
}

#[tokio::test]
async fn the_last_one_that_was_asked_has_the_last_word() {
    let (first_url, mut first) = provider().await;
    let (second_url, mut second) = provider().await;
    let mut gateway = two(&first_url, &second_url, None).await;
    let (answer, ()) = tokio::join!(gateway.post(CHAT, SENT), async {
        let fields = [("content-type", "application/json")];
        first.recv().await.unwrap().answer(500, &fields, "first");
        second.recv().await.unwrap().answer(502, &fields, "second");
    });
    assert_eq!(answer.status, 502);
    assert_eq!(answer.whole().await.unwrap(), "second");
    assert_eq!(gateway.ended().await.upstream_status, Some(502));
}

/// The first one has the request, whatever came of it: the evidence names it, and the call is not
/// taken for one that was not made.
#[tokio::test]
async fn a_fallback_that_cannot_be_reached_does_not_undo_what_was_asked_before() {
    let (first_url, mut first) = provider().await;
    let mut gateway = two(&first_url, &nobody().await, None).await;
    let (answer, ()) = tokio::join!(gateway.post(CHAT, SENT), async {
        let received = first.recv().await.unwrap();
        received.answer(504, &[("content-type", "application/json")], "{}");
    });
    assert_eq!(answer.status, 503);
    let facts = gateway.ended().await;
    assert_eq!(facts.code, Some(ReasonCode::UpstreamUnavailable));
    assert_eq!(gateway.asked(), ["openai", "other", "openai"]);
}

#[tokio::test]
async fn the_contract_judges_what_a_name_means() {
    let (url, mut provider) = provider().await;
    for (models, allowed) in [
        (
            r#"{"providers":["openai","other"],"allowed":["gpt-5-mini"]}"#,
            true,
        ),
        (
            r#"{"providers":["openai","other"],"allowed":["fast"]}"#,
            false,
        ),
    ] {
        let gateway = two(&url, &url, Some(models)).await;
        if allowed {
            let (answer, ()) = tokio::join!(gateway.post(CHAT, SENT), async {
                let received = provider.recv().await.unwrap();
                received.answer(200, &[("content-type", "application/json")], "{}");
            });
            assert_eq!(answer.status, 200);
        } else {
            assert_eq!(gateway.post(CHAT, SENT).await.status, 403);
        }
    }
}
