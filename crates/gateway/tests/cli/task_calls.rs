//! The endpoint of run tasks: what is taken as a call of Terraform Cloud, and what is not.

use clawgate::config::Config;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::Method;
use serde_json::{Value, json};
use sha2::Sha512;
use sim::RunStatus;

use crate::client::{Answer, Caller};
use crate::terraform::two_instances;
use crate::world::{APP, Setup, World};

const PATH: &str = "/v1/run-tasks";

/// What the key makes of a body.
fn signature(config: &Config, body: &str) -> String {
    let file = config.data_dir.join("run-task.key");
    let key = std::fs::read_to_string(file).unwrap();
    let mut mac = Hmac::<Sha512>::new_from_slice(key.trim().as_bytes()).unwrap();
    mac.update(body.as_bytes());
    let bytes = mac.finalize().into_bytes();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Sends a body with signatures, as nobody in particular.
async fn call(world: &World, body: &str, signatures: &[&str]) -> Answer {
    let caller = Caller::new(&world.gateway().operator_url, None);
    let mut headers = vec![("content-type", "application/json")];
    headers.extend(signatures.iter().map(|one| ("x-tfc-task-signature", *one)));
    caller
        .call(Method::POST, PATH, &headers, body.to_owned())
        .await
}

/// The same with the right signature.
async fn signed(world: &World, body: &Value) -> Answer {
    let body = body.to_string();
    call(world, &body, &[&signature(&world.config, &body)]).await
}

/// A run whose first call is answered, and that call.
async fn called(world: &World) -> (String, Value) {
    let owner = world.upstream("owner");
    let files = [("main.tf", two_instances())];
    let files: Vec<_> = files.iter().map(|(n, t)| (*n, t.as_str())).collect();
    let upload = owner.upload(APP, false, &files).await.unwrap();
    let made = owner.run(APP, &upload, &json!({})).await.ok();
    let run = made["data"]["id"].as_str().unwrap().to_owned();
    world.cloud.wait_until_confirmable(&run).await.unwrap();
    (run, world.cloud.task_calls().remove(0))
}

#[tokio::test]
async fn only_what_the_key_has_signed_is_a_call() {
    let world = Setup::new().run_tasks().start().await;
    let (_, known) = called(&world).await;
    let body = known.to_string();
    let good = signature(&world.config, &body);
    let mut wrong = good.clone();
    wrong.replace_range(..1, if wrong.starts_with('0') { "1" } else { "0" });
    let changed = body.replace("mandatory", "advisory");
    for (body, signatures) in [
        (&body, vec![]),
        (&body, vec![""]),
        (&body, vec![wrong.as_str()]),
        (&body, vec![good.as_str(), good.as_str()]),
        (&body, vec![&good[2..]]),
        (&changed, vec![good.as_str()]),
    ] {
        let answer = call(&world, body, &signatures).await;
        assert_eq!(
            (answer.status.as_u16(), answer.code().as_str()),
            (401, "RUN_TASK_SIGNATURE"),
            "{signatures:?}"
        );
    }
    // Neither an operator nor an agent may ask in Terraform Cloud's place.
    let headers = [("content-type", "application/json")];
    let operator = world.operator();
    let answer = operator
        .call(Method::POST, PATH, &headers, body.clone())
        .await;
    assert_eq!(answer.code(), "RUN_TASK_SIGNATURE");
    let agent = world.agent();
    let answer = agent.call(Method::POST, PATH, &headers, &body).await;
    assert!(answer.status.is_client_error());
    assert!(call(&world, &body, &[&good]).await.status.is_success());
}

#[tokio::test]
async fn a_body_is_bounded() {
    let world = Setup::new().run_tasks().start().await;
    let huge = " ".repeat(256 * 1024 + 1);
    let answer = call(&world, &huge, &[&signature(&world.config, &huge)]).await;
    assert_eq!(
        (answer.status.as_u16(), answer.code().as_str()),
        (413, "BODY_TOO_LARGE")
    );
}

#[tokio::test]
async fn the_call_that_tries_the_address_is_answered_and_nothing_else_happens() {
    let world = Setup::new().run_tasks().start().await;
    let trial = json!({"stage": "test", "access_token": "test-token", "run_id": "run-xxx"});
    assert_eq!(signed(&world, &trial).await.status, 200);
    let unsigned = call(&world, &trial.to_string(), &[]).await;
    assert_eq!(unsigned.code(), "RUN_TASK_SIGNATURE");
    assert!(world.asked("PATCH", "/callback").is_empty());
}

#[tokio::test]
async fn a_signed_call_that_is_not_understood_is_refused() {
    let world = Setup::new().run_tasks().start().await;
    let (_, known) = called(&world).await;
    let base = world.cloud.url();
    let id = "0123456789abcdef";
    let callback = |address: String| ("task_result_callback_url", json!(address));
    let (malformed, elsewhere) = ("RUN_TASK_MALFORMED", "RUN_TASK_CALLBACK");
    for ((member, value), code) in [
        (("payload_version", json!(2)), malformed),
        (("stage", json!("pre_destroy")), malformed),
        (("run_id", json!("../runs/run-1")), malformed),
        (("workspace_id", Value::Null), malformed),
        (("workspace_name", json!("a\nb")), malformed),
        (("task_result_id", json!("result")), malformed),
        (("access_token", json!("a b")), malformed),
        (("access_token", json!("")), malformed),
        (
            callback(format!(
                "http://evil.example/api/v2/task-results/{id}/callback"
            )),
            elsewhere,
        ),
        (
            callback(format!(
                "{base}.evil.example/api/v2/task-results/{id}/callback"
            )),
            elsewhere,
        ),
        (
            callback(format!(
                "{base}@evil.example/api/v2/task-results/{id}/callback"
            )),
            elsewhere,
        ),
        (
            callback(format!("{base}/api/v2/task-results/../callback")),
            elsewhere,
        ),
        (
            callback(format!("{base}/api/v2/task-results/{id}/callback?a=b")),
            elsewhere,
        ),
        (
            callback(format!("{base}/api/v2/runs/{id}/actions/apply")),
            elsewhere,
        ),
        (
            (
                "configuration_version_download_url",
                json!(format!("{base}.evil.example/x")),
            ),
            elsewhere,
        ),
        (
            ("plan_json_api_url", json!("http://evil.example/x")),
            elsewhere,
        ),
    ] {
        let mut body = known.clone();
        body[member] = value.clone();
        let answer = signed(&world, &body).await;
        assert_eq!(
            (answer.status.as_u16(), answer.code().as_str()),
            (422, code),
            "{member}: {value}"
        );
    }
    // A member that stands twice is read differently by different readers.
    let twice = known
        .to_string()
        .replacen('{', "{\"stage\":\"post_apply\",", 1);
    let answer = call(&world, &twice, &[&signature(&world.config, &twice)]).await;
    assert_eq!(answer.code(), malformed);
}

#[tokio::test]
async fn a_call_that_comes_again_is_answered_and_not_judged_again() {
    let world = Setup::new().run_tasks().start().await;
    let (run, known) = called(&world).await;
    let id = known["task_result_id"].as_str().unwrap();
    let kept = world.app().store.task_call(id).await.unwrap();
    assert!(kept.as_ref().unwrap().reported_at.is_some());
    let callbacks = world.asked("PATCH", "/callback").len();
    assert_eq!(signed(&world, &known).await.status, 200);
    assert_eq!(world.app().store.task_call(id).await.unwrap(), kept);
    assert_eq!(world.asked("PATCH", "/callback").len(), callbacks);
    // The same result for another run is made up.
    for (member, value) in [
        ("run_id", "run-another"),
        ("workspace_id", "ws-another"),
        ("stage", "pre_apply"),
    ] {
        let mut other = known.clone();
        other[member] = json!(value);
        let answer = signed(&world, &other).await;
        assert_eq!(
            (answer.status.as_u16(), answer.code().as_str()),
            (409, "RUN_TASK_REUSED"),
            "{member}"
        );
    }
    assert_eq!(
        world.cloud.run_status(&run).unwrap(),
        RunStatus::PostPlanCompleted
    );
}

#[tokio::test]
async fn the_stages_token_is_nowhere_to_be_found() {
    let world = Setup::new().run_tasks().start().await;
    called(&world).await;
    let tokens: Vec<String> = world
        .cloud
        .task_calls()
        .iter()
        .map(|call| call["access_token"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(tokens.len(), 2);
    let mut searched = 0;
    for entry in std::fs::read_dir(&world.config.data_dir).unwrap() {
        let path = entry.unwrap().path();
        let Ok(bytes) = std::fs::read(&path) else {
            continue;
        };
        searched += 1;
        for token in &tokens {
            let found = bytes.windows(token.len()).any(|w| w == token.as_bytes());
            assert!(!found, "{}", path.display());
        }
    }
    assert!(searched >= 2, "the store and its log");
}

#[tokio::test]
async fn without_a_key_nobody_may_ask() {
    let world = Setup::new().start().await;
    let answer = call(&world, "{}", &["00"]).await;
    assert_eq!(answer.code(), "RUN_TASK_DISABLED");
}
