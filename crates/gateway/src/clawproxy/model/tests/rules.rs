//! The contract's rules about bodies: which tools are offered, what is taken out.

use proof::record::Ended;

use super::*;

const CHAT: &str = "/openai/v1/chat/completions";

async fn under(url: &str, rules: &'static str) -> Gateway {
    Setup {
        models: Some(rules),
        ..Setup::new(url)
    }
    .start()
    .await
}

#[tokio::test]
async fn tools_outside_of_the_contract_are_not_offered() {
    let (url, mut provider) = provider().await;
    let mut gateway = under(
        &url,
        r#"{"providers":["openai","anthropic"],"allowed":["*"],
            "tools":{"allow":["tfc__*","exec"],"deny":["exec"]}}"#,
    )
    .await;
    let body = |tools: &str| format!(r#"{{"model":"m","max_tokens":1,"x":1.50,"tools":{tools}}}"#);
    for (path, tools, code) in [
        (
            CHAT,
            r#"[{"type":"function","function":{"name":"exec"}}]"#,
            "MODEL_TOOL_NOT_ALLOWED",
        ),
        (
            CHAT,
            r#"[{"function":{"name":"tfc__a"}},{"function":{"name":"b"}}]"#,
            "MODEL_TOOL_NOT_ALLOWED",
        ),
        (
            CHAT,
            r#"[{"name":"tfc__a","function":{"name":"b"}}]"#,
            "MODEL_TOOL_NOT_ALLOWED",
        ),
        (
            "/openai/v1/responses",
            r#"[{"type":"web_search"}]"#,
            "MODEL_TOOL_NOT_ALLOWED",
        ),
        (
            "/anthropic/v1/messages",
            r#"[{"name":"b","input_schema":{}}]"#,
            "MODEL_TOOL_NOT_ALLOWED",
        ),
        (
            "/anthropic/v1/messages/count_tokens",
            r#"[{"name":"b"}]"#,
            "MODEL_TOOL_NOT_ALLOWED",
        ),
        (CHAT, r#"[{}]"#, "BODY_WRONG_TYPE"),
        (CHAT, r#"[{"name":"tfc__a","name":"b"}]"#, "BODY_NOT_JSON"),
    ] {
        let answer = gateway.post(path, &body(tools)).await;
        assert!((400..404).contains(&answer.status), "{tools}");
        let (_, message) = error_of(&answer.whole().await.unwrap());
        assert!(message.starts_with(code), "{tools}: {message}");
    }
    let sent = body(r#"[{"type":"function","function":{"name":"tfc__plan"}}]"#);
    let (answer, ()) = tokio::join!(gateway.post(CHAT, &sent), async {
        let received = provider.recv().await.unwrap();
        assert_eq!(received.body, sent, "not one byte differs");
        received.answer(200, &[("content-type", "application/json")], "{}");
    });
    assert_eq!(answer.status, 200);
    answer.whole().await.unwrap();
    assert_eq!(gateway.ended().await.ended, Ended::Complete);
    assert!(provider.try_recv().is_err(), "refused calls were not sent");
}

#[tokio::test]
async fn what_is_redacted_does_not_leave() {
    let (url, mut provider) = provider().await;
    let gateway = under(
        &url,
        r#"{"providers":["openai"],"allowed":["*"],"redact":[
            {"path":"user","action":"remove"},{"path":"messages[*].content","action":"mask"}]}"#,
    )
    .await;
    for sent in [
        r#"{"model":"m","messages":"secret"}"#,
        r#"{"model":"m","messages":[["secret"]]}"#,
        r#"{"model":"m","Messages":[{"content":"secret"}]}"#,
        r#"{"model":"m","user":"secret","user":"secret"}"#,
    ] {
        let answer = gateway.post(CHAT, sent).await;
        assert!([400, 403].contains(&answer.status), "{sent}");
        let shown = answer.whole().await.unwrap();
        assert!(memchr::memmem::find(&shown, b"secret").is_none(), "{sent}");
    }
    let sent = r#"{ "model":"m", "temperature":0.70, "user":"secret",
        "messages":[{"role":"user","content":"secret"}] }"#;
    let expected =
        r#"{"model":"m","temperature":0.7,"messages":[{"role":"user","content":"[masked]"}]}"#;
    let request = Request::post(CHAT)
        .header("content-type", "application/json")
        .body(())
        .unwrap();
    let body = Full::new(Bytes::from(sent));
    let call = gateway
        .providers
        .resolve(
            &gateway.token,
            &request.into_parts().0,
            body,
            &mut String::new(),
        )
        .await
        .unwrap();
    assert_eq!(call.request_hash, Hash::of(expected.as_bytes()));
    let (_, received) = tokio::join!(gateway.post(CHAT, sent), async {
        let received = provider.recv().await.unwrap();
        let body = received.body.clone();
        received.answer(200, &[("content-type", "application/json")], "{}");
        body
    });
    assert_eq!(received, expected);
}
