//! Budgets against the real store: reserved before the call, settled after it.

use futures_util::FutureExt as _;
use policy::ReasonCode::{ModelBudgetCalls, ModelBudgetTokens};
use proof::record::JobOpen;
use store::{ContractVersion, ModelUsage, Store};

use super::budget::estimated_tokens;
use super::*;

fn now() -> Timestamp {
    Timestamp::from_millis(0)
}

/// A request of 60 bytes (20 tokens, estimated) whose answer is bounded to 80.
const BOUNDED: &str = r#"{"model":"gpt-5","max_completion_tokens":80,"messages":[]  }"#;
const UNBOUNDED: &str = r#"{"model":"gpt-5","messages":[]}"#;

/// A store in which the token's job is open.
async fn store(token: &LiveToken) -> Arc<dyn Store> {
    let store = store::open_sqlite_in_memory().unwrap();
    let author = SigningKey::from_seed(&[1; 32]);
    let contract = &token.job.contract;
    let envelope = Envelope::sign(
        EnvelopeType::WorkPolicyContract,
        contract.contract.json(),
        &author,
        now(),
    );
    let version = ContractVersion {
        second_envelope: None,
        policy_hash: contract.hash,
        name: contract.contract.name.clone(),
        envelope: envelope.unwrap(),
        author_did: author.did(),
        published_at: now(),
        published_by: "ada".into(),
    };
    store.publish(version).await.unwrap();
    let open = JobOpen {
        agent_did: token.job.agent_did.clone(),
        name: "test".into(),
        opened_by: "ada".into(),
        opened_by_email: None,
        policy_hash_b64u: contract.hash,
        gateway_did: author.did(),
        confinement: None,
        lease_seconds: None,
    };
    store
        .open_job(token.job.id.clone(), now(), open)
        .await
        .unwrap();
    store
}

/// As far as the pipeline goes before it permits a call.
async fn ask(
    gateway: &Gateway,
    store: &Arc<dyn Store>,
    body: &str,
) -> Result<ModelCall, ReasonCode> {
    let request = Request::post("/openai/v1/chat/completions")
        .header("content-type", "application/json")
        .body(())
        .unwrap();
    let parts = request.into_parts().0;
    let body = Full::new(Bytes::copy_from_slice(body.as_bytes()));
    let token = &gateway.token;
    let call = gateway
        .providers
        .resolve(token, &parts, body, &mut String::new())
        .await;
    let mut call = call.map_err(|refused| refused.code)?;
    budget::reserve(store, now(), &mut call)
        .await
        .map_err(|refused| refused.code)?;
    let decision = policy::decide(&token.job.contract.compiled, &call.input);
    if decision.is_allow() {
        Ok(call)
    } else {
        Err(decision.code)
    }
}

/// Waits until every reservation is settled.
async fn settled(store: &Arc<dyn Store>, token: &LiveToken) -> ModelUsage {
    let mut commits = store.commits();
    loop {
        let usage = store.model_usage(&token.job.id).await.unwrap();
        if usage.reserved == 0 {
            return usage;
        }
        commits.changed().await.unwrap();
    }
}

async fn with_budget(url: &str, limits: &str) -> (Gateway, Arc<dyn Store>) {
    limited(Setup::new(url), limits).await
}

async fn limited(setup: Setup, limits: &str) -> (Gateway, Arc<dyn Store>) {
    let models = format!(r#"{{"providers":["openai"],"allowed":["gpt-5*","gpt-4o"]{limits}}}"#);
    let setup = Setup {
        models: Some(models.leak()),
        ..setup
    };
    let gateway = setup.start().await;
    let store = store(&gateway.token).await;
    (gateway, store)
}

#[tokio::test]
async fn calls_and_tokens_run_out() {
    let (url, _provider) = provider().await;
    for (limits, body, granted, code) in [
        (r#","max_calls":3"#, UNBOUNDED, 3, ModelBudgetCalls),
        (r#","max_tokens":250"#, BOUNDED, 2, ModelBudgetTokens),
        (r#","max_tokens":99"#, BOUNDED, 0, ModelBudgetTokens),
        (r#","max_tokens":100000"#, UNBOUNDED, 0, ModelBudgetTokens),
        (
            r#","max_calls":1,"max_tokens":100000"#,
            BOUNDED,
            1,
            ModelBudgetCalls,
        ),
        (
            r#","max_calls":9"#,
            r#"{"model":"o3"}"#,
            0,
            ReasonCode::ModelNotAllowed,
        ),
    ] {
        let (gateway, store) = with_budget(&url, limits).await;
        let mut open = Vec::new();
        for _ in 0..granted {
            open.push(ask(&gateway, &store, body).await.unwrap());
        }
        assert_eq!(
            ask(&gateway, &store, body).await.unwrap_err(),
            code,
            "{limits}"
        );
        let used = store.model_usage(&gateway.token.job.id).await.unwrap();
        assert_eq!(used.calls, granted, "{limits}");
    }
}

#[tokio::test]
async fn without_a_budget_nothing_is_counted() {
    let (url, _provider) = provider().await;
    let (gateway, store) = with_budget(&url, "").await;
    ask(&gateway, &store, UNBOUNDED).await.unwrap();
    let used = store.model_usage(&gateway.token.job.id).await.unwrap();
    assert_eq!(used, ModelUsage::default());
}

#[tokio::test]
async fn concurrent_calls_do_not_overspend() {
    let (url, _provider) = provider().await;
    let (gateway, store) = with_budget(&url, r#","max_tokens":1000"#).await;
    let calls = (0..50).map(|_| ask(&gateway, &store, BOUNDED));
    let calls = futures_util::future::join_all(calls).await;
    assert_eq!(calls.iter().filter(|call| call.is_ok()).count(), 10);
    assert!(calls.iter().all(|call| {
        call.as_ref()
            .err()
            .is_none_or(|code| *code == ModelBudgetTokens)
    }));
}

#[tokio::test]
async fn a_call_is_settled_by_what_it_used() {
    let usage = r#"{"usage":{"prompt_tokens":30,"completion_tokens":7}}"#;
    for (status, body, tokens) in [
        (200, usage, 37),
        // More than was asked for is charged too.
        (
            200,
            r#"{"usage":{"prompt_tokens":300,"completion_tokens":7}}"#,
            307,
        ),
        // Nobody says how much: all that was reserved.
        (200, "{}", 100),
        (400, r#"{"error":{}}"#, 0),
        (401, "", 0),
    ] {
        let (url, mut provider) = provider().await;
        let (gateway, store) = with_budget(&url, r#","max_tokens":1000"#).await;
        let call = ask(&gateway, &store, BOUNDED).await.unwrap();
        let used = store.model_usage(&gateway.token.job.id).await.unwrap();
        assert_eq!((used.calls, used.tokens, used.reserved), (1, 0, 100));
        let finish = Recorder::unheard();
        let (response, ()) = tokio::join!(gateway.providers.forward(call, finish), async {
            let fields = [("content-type", "application/json")];
            provider.recv().await.unwrap().answer(status, &fields, body);
        });
        response.into_body().collect().await.unwrap();
        let used = settled(&store, &gateway.token).await;
        assert_eq!((used.calls, used.tokens), (1, tokens), "{status} {body}");
    }
}

#[tokio::test]
async fn words_are_counted_where_nothing_can_hide() {
    let request = |model: &str, content: &str| {
        let content = format!(r#"[{{"role":"user","content":{content}}}]"#);
        let limit = r#""max_completion_tokens":80"#;
        format!(r#"{{"model":"{model}",{limit},"stream":true,"messages":{content}}}"#)
    };
    let image = r#"[{"type":"image_url","image_url":{"url":"https://example.com/a.png"}}]"#;
    let said = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hello world\"}}]}\n\n";
    let end = "data: [DONE]\n\n";
    for (model, content, end, exact) in [
        ("gpt-4o", "\"hi\"", end, true),
        // What it thinks is charged, and not in the answer.
        ("gpt-5", "\"hi\"", end, false),
        ("gpt-4o", image, end, false),
        // The rest may have been lost on its way.
        ("gpt-4o", "\"hi\"", "", false),
    ] {
        let (url, mut provider) = provider().await;
        let (gateway, store) = with_budget(&url, r#","max_tokens":1000"#).await;
        gateway.providers.counter.vocabulary().unwrap();
        let body = request(model, content);
        let call = ask(&gateway, &store, &body).await.unwrap();
        let (facts, mut ended) = mpsc::unbounded_channel();
        let finish = Box::new(Recorder::new(facts, mpsc::unbounded_channel().0));
        let (response, ()) = tokio::join!(gateway.providers.forward(call, finish), async {
            let fields = [("content-type", "text/event-stream")];
            let answer = format!("{said}{end}");
            provider.recv().await.unwrap().answer(200, &fields, answer);
        });
        response.into_body().collect().await.unwrap();
        let facts = ended.recv().await.unwrap();
        let usage = facts.usage.unwrap();
        let by = if content == image {
            "o200k_base+length"
        } else {
            "o200k_base"
        };
        assert_eq!(facts.counted_by, Some(by));
        // The text, and what goes around it.
        assert_eq!((usage.tokens_output, usage.derived), (10, true), "{body}");
        let reserved = estimated_tokens(body.len() as u64);
        let used = settled(&store, &gateway.token).await.tokens;
        assert_eq!(used, reserved + if exact { 10 } else { 80 }, "{body} {end}");
    }
}

/// 1 USD for a million tokens of requests, 4 for a million of answers.
fn priced(models: &mut BTreeMap<String, ModelProvider>) {
    models.get_mut("openai").unwrap().prices = vec![crate::config::Price {
        model: policy::Glob::new("gpt-5").unwrap(),
        input_usd_per_million: "1".parse().unwrap(),
        output_usd_per_million: "4".parse().unwrap(),
    }];
}

async fn with_money(url: &str, usd: &str) -> (Gateway, Arc<dyn Store>) {
    let setup = Setup {
        configure: priced,
        ..Setup::new(url)
    };
    limited(setup, &format!(r#","max_cost_usd":"{usd}""#)).await
}

#[tokio::test]
async fn money_runs_out_and_is_never_overspent() {
    use ReasonCode::{ModelBudgetCost, ModelPriceUnknown};
    let (url, mut provider) = provider().await;
    // 60 bytes are at most 60 tokens, and 80 of the answer: 60 + 320 millionths of a dollar.
    let (gateway, store) = with_money(&url, "0.004").await;
    for (body, code) in [
        (UNBOUNDED, ModelBudgetCost),
        (
            r#"{"model":"gpt-5-mini","max_tokens":1}"#,
            ModelPriceUnknown,
        ),
        (
            r#"{"model":"gpt-5","max_tokens":1,"previous_response_id":"resp_1"}"#,
            ModelBudgetCost,
        ),
        (r#"{"model":"gpt-5","max_tokens":1000}"#, ModelBudgetCost),
        (
            r#"{"model":"gpt-5","max_output_tokens":1}"#,
            ModelBudgetCost,
        ),
    ] {
        assert_eq!(
            ask(&gateway, &store, body).await.unwrap_err(),
            code,
            "{body}"
        );
    }
    let calls = (0..200).map(|_| ask(&gateway, &store, BOUNDED));
    let mut calls = futures_util::future::join_all(calls).await;
    assert_eq!(calls.iter().filter(|call| call.is_ok()).count(), 10);
    let used = store.model_usage(&gateway.token.job.id).await.unwrap();
    assert_eq!((used.cost, used.cost_reserved), (0, 3_800_000));
    // One of them is settled by what it really used, the others are given up.
    calls.retain(Result::is_ok);
    let call = calls.pop().unwrap().unwrap();
    drop(calls);
    let finish = Recorder::unheard();
    let (response, ()) = tokio::join!(gateway.providers.forward(call, finish), async {
        let usage = r#"{"usage":{"prompt_tokens":30,"completion_tokens":7}}"#;
        let fields = [("content-type", "application/json")];
        provider.recv().await.unwrap().answer(200, &fields, usage);
    });
    response.into_body().collect().await.unwrap();
    let used = settled(&store, &gateway.token).await;
    assert_eq!((used.cost, used.cost_reserved), (58_000, 0));
}

#[tokio::test]
async fn a_call_that_is_not_made_costs_no_tokens() {
    let closed = {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        format!("http://{}/v1", listener.local_addr().unwrap())
    };
    let (gateway, store) = with_budget(&closed, r#","max_tokens":1000"#).await;
    drop(ask(&gateway, &store, BOUNDED).await.unwrap());
    assert_eq!(
        settled(&store, &gateway.token).await.tokens,
        0,
        "given up before it was made"
    );
    let call = ask(&gateway, &store, BOUNDED).await.unwrap();
    let finish = Recorder::unheard();
    assert_eq!(gateway.providers.forward(call, finish).await.status(), 503);
    assert_eq!(
        settled(&store, &gateway.token).await.tokens,
        0,
        "nobody could be reached"
    );
}

/// As far as the pipeline goes with a key.
async fn keyed(
    gateway: &Gateway,
    store: &Arc<dyn Store>,
    key: &str,
    body: &str,
) -> Result<ModelCall, String> {
    let request = Request::post("/openai/v1/chat/completions")
        .header("content-type", "application/json")
        .header("x-idempotency-key", key)
        .body(())
        .unwrap();
    let parts = request.into_parts().0;
    let body = Full::new(Bytes::copy_from_slice(body.as_bytes()));
    let mut call = gateway
        .providers
        .resolve(&gateway.token, &parts, body, &mut String::new())
        .await
        .unwrap();
    idempotency::claim(store, now(), &mut call)
        .await
        .map_err(|refused| refused.to_string())?;
    Ok(call)
}

#[tokio::test]
async fn a_repeated_call_is_not_made_twice() {
    let (url, mut provider) = provider().await;
    let (gateway, store) = with_budget(&url, "").await;
    let call = keyed(&gateway, &store, "k", BOUNDED).await.unwrap();
    let refused = |said: Result<ModelCall, String>, part: &str| {
        let said = said.unwrap_err();
        assert!(
            said.starts_with("MODEL_CALL_REPEATED") && said.contains(part),
            "{said}"
        );
    };
    refused(keyed(&gateway, &store, "k", BOUNDED).await, "being made");
    refused(
        keyed(&gateway, &store, "k", UNBOUNDED).await,
        "another request",
    );
    keyed(&gateway, &store, "other", BOUNDED).await.unwrap();
    let finish = Recorder::unheard();
    let (response, ()) = tokio::join!(gateway.providers.forward(call, finish), async {
        let fields = [("content-type", "application/json")];
        provider.recv().await.unwrap().answer(500, &fields, "{}");
    });
    response.into_body().collect().await.unwrap();
    refused(keyed(&gateway, &store, "k", BOUNDED).await, RECEIPT_ID);
    refused(
        keyed(&gateway, &store, "k", UNBOUNDED).await,
        "another request",
    );
    assert!(provider.try_recv().is_err());
}

#[tokio::test]
async fn a_call_that_somebody_may_have_keeps_its_key_when_a_fallback_is_not_there() {
    let nobody = {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        format!("http://{}/v1", listener.local_addr().unwrap())
    };
    for first_has_it in [true, false] {
        let (url, mut provider) = provider().await;
        let first = if first_has_it { &url } else { &nobody };
        let setup = Setup {
            providers: vec![
                ("openai", Dialect::Openai, first.clone()),
                ("other", Dialect::Openai, nobody.clone()),
            ],
            configure: |models| {
                let first = models.get_mut("openai").unwrap();
                first.fallback.push("other".to_owned());
            },
            ..Setup::new(&url)
        };
        let gateway = setup.start().await;
        let store = store(&gateway.token).await;
        let call = keyed(&gateway, &store, "k", UNBOUNDED).await.unwrap();
        let making = gateway.providers.forward(call, Recorder::unheard());
        let mut commits = store.commits();
        let (answer, ()) = tokio::join!(making, async {
            if first_has_it {
                let fields = [("content-type", "application/json")];
                provider.recv().await.unwrap().answer(504, &fields, "{}");
            }
        });
        assert_eq!(answer.status(), 503);
        gateway.providers.idle().await;
        let again = async || keyed(&gateway, &store, "k", UNBOUNDED).await;
        if first_has_it {
            let said = again().await.unwrap_err();
            assert!(said.contains(RECEIPT_ID), "{said}");
        } else {
            while again().await.is_err() {
                commits.changed().await.unwrap();
            }
        }
    }
}

/// The store does what is in its queue, also for a client that has left meanwhile.
#[tokio::test]
async fn a_client_that_leaves_while_it_is_reserved_for_takes_nothing_along() {
    let (url, _provider) = provider().await;
    let (gateway, store) = with_budget(&url, r#","max_calls":9,"max_tokens":1000"#).await;
    let mut commits = store.commits();
    let asking = Box::pin(keyed(&gateway, &store, "k", BOUNDED));
    assert!(
        asking.now_or_never().is_none(),
        "the store has not answered"
    );
    commits.changed().await.unwrap();
    while keyed(&gateway, &store, "k", BOUNDED).await.is_err() {
        commits.changed().await.unwrap();
    }
    let mut asking = Box::pin(ask(&gateway, &store, BOUNDED));
    let mut commits = store.commits();
    tokio::select! {
        biased;
        _ = commits.changed() => {}
        _ = &mut asking => {}
    }
    drop(asking);
    assert_eq!(settled(&store, &gateway.token).await.tokens, 0);
}

#[tokio::test]
async fn a_call_that_was_not_sent_gives_its_key_back() {
    let closed = {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        format!("http://{}/v1", listener.local_addr().unwrap())
    };
    let (gateway, store) = with_budget(&closed, "").await;
    let call = keyed(&gateway, &store, "k", BOUNDED).await.unwrap();
    let finish = Recorder::unheard();
    let mut commits = store.commits();
    assert_eq!(gateway.providers.forward(call, finish).await.status(), 503);
    while keyed(&gateway, &store, "k", BOUNDED).await.is_err() {
        commits.changed().await.unwrap();
    }
}
