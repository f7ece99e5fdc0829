//! What never reaches a provider.

use super::*;

const GOOD: &str = r#"{"model":"gpt-5","max_tokens":9,"messages":[]}"#;
const CHAT: &str = "/openai/v1/chat/completions";
const JSON: &[(&str, &str)] = &[("content-type", "application/json")];

#[tokio::test]
async fn refused_calls_do_not_reach_the_provider() {
    let (url, mut provider) = provider().await;
    let limits = Limits {
        model_body_bytes: 1000,
        ..Limits::default()
    };
    let models = r#"{"providers":["openai"],"allowed":["gpt-5*"]}"#;
    let mut gateway = Setup {
        limits,
        models: Some(models),
        ..Setup::new(&url)
    }
    .start()
    .await;
    let huge = format!(r#"{{"model":"gpt-5","messages":"{}"}}"#, "x".repeat(2000));
    let text = &[("content-type", "text/plain")][..];
    let other = &[
        ("content-type", "application/json"),
        ("x-clawgate-provider", "anthropic"),
    ][..];
    for (method, path, fields, body, status, code) in [
        (
            "POST",
            "/openai/v1/completions",
            JSON,
            GOOD,
            403,
            "MODEL_SURFACE_NOT_ALLOWED",
        ),
        (
            "POST",
            "/openai/v1/chat/completions/../../files",
            JSON,
            GOOD,
            403,
            "MODEL_SURFACE_NOT_ALLOWED",
        ),
        (
            "POST",
            "/openai/v1/chat%2fcompletions",
            JSON,
            GOOD,
            403,
            "MODEL_SURFACE_NOT_ALLOWED",
        ),
        ("GET", CHAT, JSON, "", 405, "METHOD_NOT_ALLOWED"),
        (
            "POST",
            "/openai/v1/chat/completions?api_key=x",
            JSON,
            GOOD,
            400,
            "QUERY_UNKNOWN_KEY",
        ),
        ("POST", CHAT, text, GOOD, 415, "BODY_CONTENT_TYPE"),
        ("POST", CHAT, JSON, &huge, 413, "BODY_TOO_LARGE"),
        ("POST", CHAT, JSON, "", 400, "BODY_NOT_JSON"),
        ("POST", CHAT, JSON, "{}", 400, "MODEL_MISSING"),
        (
            "POST",
            CHAT,
            JSON,
            r#"{"model":"gpt-5","model":"o3"}"#,
            400,
            "BODY_NOT_JSON",
        ),
        (
            "POST",
            CHAT,
            JSON,
            r#"{"model":["gpt-5"]}"#,
            400,
            "BODY_WRONG_TYPE",
        ),
        (
            "POST",
            CHAT,
            JSON,
            r#"{"model":"gpt-5","stream":"yes"}"#,
            400,
            "BODY_WRONG_TYPE",
        ),
        (
            "POST",
            CHAT,
            JSON,
            r#"{"model":"gpt-5","models":["o3"]}"#,
            400,
            "BODY_UNKNOWN_MEMBER",
        ),
        (
            "POST",
            CHAT,
            JSON,
            r#"{"model":"o3"}"#,
            403,
            "MODEL_NOT_ALLOWED",
        ),
        ("POST", CHAT, other, GOOD, 403, "MODEL_PROVIDER_NOT_ALLOWED"),
        (
            "POST",
            "/anthropic/v1/messages",
            JSON,
            GOOD,
            403,
            "MODEL_PROVIDER_NOT_ALLOWED",
        ),
        (
            "GET",
            "/openai/v1/models/o3",
            &[],
            "",
            403,
            "MODEL_NOT_ALLOWED",
        ),
        (
            "GET",
            "/openai/v1/models",
            &[],
            "{}",
            400,
            "BODY_UNEXPECTED",
        ),
    ] {
        let answer = gateway
            .ask(method.parse().unwrap(), path, fields, body)
            .await;
        assert_eq!(answer.status, status, "{method} {path} {body}");
        assert_eq!(answer.header("x-clawgate-code"), Some(code));
        assert_eq!(answer.header("x-should-retry"), Some("false"));
        let message = error_of(&answer.whole().await.unwrap()).1;
        assert!(message.starts_with(code), "{message}");
    }
    assert!(provider.try_recv().is_err(), "nothing went upstream");
    assert!(
        gateway.facts.try_recv().is_err(),
        "and nothing was permitted"
    );
    assert_eq!(
        gateway.providers.room.free(),
        8 << 10,
        "refused bodies have given their room back"
    );
}

#[tokio::test]
async fn a_body_that_breaks_off_is_refused() {
    use tokio::io::AsyncWriteExt;
    let (url, mut provider) = provider().await;
    let gateway = Setup::new(&url).start().await;
    let address = gateway.url.strip_prefix("http://").unwrap();
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: g\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n{GOOD}"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    drop(stream);
    // A whole call on another connection comes after the broken one.
    let (answer, ()) = tokio::join!(gateway.post(CHAT, GOOD), async {
        let received = provider.recv().await.unwrap();
        assert_eq!(received.body, GOOD);
        received.answer(200, JSON, "{}");
    });
    assert_eq!(answer.whole().await.unwrap(), "{}");
    assert!(provider.try_recv().is_err());
}

#[tokio::test]
async fn a_cst_is_not_a_provider_key() {
    let (url, _provider) = provider().await;
    let gateway = Setup::new(&url).start().await;
    assert!(gateway.providers.is_credential(KEY));
    assert!(!gateway.providers.is_credential(TOKEN));
    assert!(!format!("{:?}", gateway.providers).contains(KEY));
}

#[tokio::test]
async fn too_many_calls_are_told_when_to_come_again() {
    use crate::config::CallLimits;
    let (url, mut provider) = provider().await;
    let limits = |per_minute, at_once| Limits {
        model_calls_per_job: CallLimits {
            per_minute,
            at_once,
        },
        ..Limits::default()
    };
    let body = r#"{"model":"m","messages":[]}"#;
    let path = "/openai/v1/chat/completions";
    let fields = [("content-type", "application/json")];
    for limits in [limits(Some(1), None), limits(None, Some(1))] {
        let at_once = limits.model_calls_per_job.at_once.is_some();
        let setup = Setup {
            limits,
            ..Setup::new(&url)
        };
        let mut gateway = setup.start().await;
        let open = async {
            let received = provider.recv().await.unwrap();
            let refused = gateway.post(path, body).await;
            assert_eq!(refused.status, 429);
            let seconds: u32 = refused.header("retry-after").unwrap().parse().unwrap();
            assert!((1..=60).contains(&seconds));
            assert_eq!(refused.header("x-should-retry"), None);
            let (kind, message) = error_of(&refused.whole().await.unwrap());
            assert_eq!(kind, "rate_limit_error");
            assert!(message.starts_with("MODEL_RATE_LIMITED"), "{message}");
            received.answer(200, &fields, "{}");
        };
        let (answer, ()) = tokio::join!(gateway.post(path, body), open);
        answer.whole().await.unwrap();
        gateway.ended().await;
        gateway.providers.idle().await;
        if at_once {
            // The first has ended, so the next is taken.
            let (answer, ()) = tokio::join!(gateway.post(path, body), async {
                provider.recv().await.unwrap().answer(200, &fields, "{}");
            });
            assert_eq!(answer.status, 200);
        }
    }
}
