//! Who may call what, and what everybody sees.

use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::Api;
use crate::{APP, DB, api, last_bearer, planned, recorded};

#[tokio::test]
async fn a_call_needs_a_token_of_the_organization() {
    let cloud = recorded().await;
    let nobody = Api::new(&cloud.url(), None);
    let foreign = Api::new(&cloud.url(), Some("some.atlasv1.token"));
    let basic = Api::new(&cloud.url(), None).with_header("authorization", "Basic cGxhbm5lcg==");
    for (caller, bearer) in [
        (&nobody, None),
        (&foreign, Some("foreign")),
        (&basic, Some("foreign")),
    ] {
        for path in [
            "/api/v2/workspaces/ws-staging-app",
            "/api/v2/runs/run-none",
            "/api/v2/nowhere",
        ] {
            let answer = caller.get(path).await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
            assert_eq!(answer.json()["errors"][0]["title"], "unauthorized");
            assert_eq!(last_bearer(&cloud).as_deref(), bearer);
        }
    }
    let known = api(&cloud, "planner")
        .get("/api/v2/workspaces/ws-staging-app")
        .await;
    assert_eq!(known.status, StatusCode::OK);
    assert_eq!(last_bearer(&cloud).as_deref(), Some("planner"));
}

#[tokio::test]
async fn what_every_command_of_the_cli_begins_with() {
    let cloud = recorded().await;
    let nobody = Api::new(&cloud.url(), None);
    let discovery = nobody.get("/.well-known/terraform.json").await;
    assert_eq!(discovery.json()["tfe.v2"], "/api/v2/");
    assert!(discovery.json().get("login.v1").is_none());
    let ping = nobody.get("/api/v2/ping").await;
    assert_eq!(ping.status, StatusCode::NO_CONTENT);
    assert_eq!(ping.headers["tfp-api-version"], "2.6");
    assert_eq!(ping.headers["tfp-appname"], "HCP Terraform");
    assert_eq!(ping.headers["x-ratelimit-limit"], "30");
    let planner = api(&cloud, "planner");
    let set = planner
        .get("/api/v2/organizations/acme/entitlement-set")
        .await;
    assert_eq!(set.json()["data"]["attributes"]["operations"], true);
    assert_eq!(
        set.headers["content-type"],
        "application/vnd.api+json; charset=utf-8"
    );
    assert_eq!(
        planner
            .get("/api/v2/organizations/other/entitlement-set")
            .await
            .status,
        404
    );
    let by_name = planner
        .get("/api/v2/organizations/acme/workspaces/staging-app")
        .await
        .json();
    let by_id = planner
        .get("/api/v2/workspaces/ws-staging-app")
        .await
        .json();
    assert_eq!(by_name, by_id);
    assert_eq!(
        by_id["data"]["attributes"]["permissions"]["can-queue-apply"],
        false
    );
    let account = planner.get("/api/v2/account/details").await.json();
    assert_eq!(account["data"]["attributes"]["username"], "planner");
}

#[tokio::test]
async fn what_is_unknown_is_not_found_and_logged() {
    let cloud = recorded().await;
    let owner = api(&cloud, "owner");
    for (method, path) in [
        (Method::GET, "/api/v2/workspaces/ws-none"),
        (Method::GET, "/api/v2/plans/plan-none"),
        (Method::GET, "/api/v2/workspaces/ws-staging-app/varsets"),
        (Method::DELETE, "/api/v2/workspaces/ws-staging-app"),
        (
            Method::POST,
            "/api/v2/workspaces/ws-staging-app/vars/../../../x",
        ),
        (Method::GET, "/elsewhere"),
    ] {
        let answer = owner
            .send(method.clone(), path, Bytes::new())
            .await
            .unwrap();
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{method} {path}");
        assert_eq!(answer.json()["errors"][0]["status"], "404");
        let logged = cloud.requests().pop().unwrap();
        assert_eq!(
            (logged.method.as_str(), logged.path.as_str()),
            (method.as_str(), path)
        );
    }
}

#[tokio::test]
async fn rights_decide_who_may_do_what() {
    let cloud = recorded().await;
    let run = planned(&cloud, json!({})).await;
    let shown = api(&cloud, "reader")
        .get(&format!("/api/v2/runs/{run}"))
        .await
        .json();
    let plan = shown["data"]["relationships"]["plan"]["data"]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let cv_body = json!({"data": {"type": "configuration-versions", "attributes": {}}});
    let var_body = json!({"data": {"type": "vars", "attributes": {"key": "a", "value": "b"}}});
    let cvs = format!("/api/v2/workspaces/{APP}/configuration-versions");
    let vars = format!("/api/v2/workspaces/{APP}/vars");
    let lock = format!("/api/v2/workspaces/{DB}/actions/lock");
    let state = format!("/api/v2/workspaces/{DB}/current-state-version");
    let json_output = format!("/api/v2/plans/{plan}/json-output");
    let redacted = format!("/api/v2/plans/{plan}/json-output-redacted");
    let apply = format!("/api/v2/runs/{run}/actions/apply");
    let token = "/api/v2/organizations/acme/authentication-token".to_owned();
    let (found, moved, created) = (
        StatusCode::OK,
        StatusCode::TEMPORARY_REDIRECT,
        StatusCode::CREATED,
    );
    let cases: [(&str, &Value, &String, StatusCode, &[&str]); 9] = [
        ("POST", &cv_body, &cvs, created, &["planner", "owner"]),
        ("POST", &var_body, &vars, created, &["owner"]),
        (
            "GET",
            &Value::Null,
            &state,
            found,
            &["planner", "executor", "owner"],
        ),
        (
            "GET",
            &Value::Null,
            &json_output,
            moved,
            &["reader", "owner"],
        ),
        (
            "GET",
            &Value::Null,
            &redacted,
            moved,
            &["planner", "executor", "reader", "owner"],
        ),
        ("POST", &Value::Null, &token, created, &["owner"]),
        ("POST", &Value::Null, &lock, found, &["executor"]),
        (
            "POST",
            &Value::Null,
            &apply,
            StatusCode::ACCEPTED,
            &["executor"],
        ),
        (
            "GET",
            &Value::Null,
            &cvs,
            found,
            &["planner", "executor", "reader", "owner"],
        ),
    ];
    for (method, body, path, expected, may) in cases {
        for credential in ["planner", "reader", "executor", "owner"] {
            // What can be done only once is left to the executor.
            if credential == "owner" && !may.contains(&"owner") {
                continue;
            }
            let caller = api(&cloud, credential);
            let answer = caller
                .send(method.parse().unwrap(), path, body.to_string())
                .await
                .unwrap();
            let expected = if may.contains(&credential) {
                expected
            } else {
                StatusCode::NOT_FOUND
            };
            assert_eq!(answer.status, expected, "{credential} {method} {path}");
        }
    }
}

#[tokio::test]
async fn signed_addresses_need_no_token_and_cannot_be_guessed() {
    let cloud = recorded().await;
    let planner = api(&cloud, "planner");
    let nobody = Api::new("", None);
    let run = planned(&cloud, json!({})).await;
    let plan = planner
        .get(&format!("/api/v2/runs/{run}/plan"))
        .await
        .json();
    let log = plan["data"]["attributes"]["log-read-url"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(log.starts_with(&cloud.archivist_url()) && cloud.archivist_url() != cloud.url());

    let whole = nobody.get(&log).await;
    assert_eq!(whole.body.first(), Some(&2));
    assert_eq!(whole.body.last(), Some(&3));
    assert!(
        whole.text().contains("This is a recording"),
        "{}",
        whole.text()
    );
    let first = nobody.get(&format!("{log}?limit=7&offset=0")).await.body;
    let rest = nobody
        .get(&format!("{log}?limit=65536&offset=7"))
        .await
        .body;
    assert_eq!([first, rest].concat(), whole.body);
    assert!(
        nobody
            .get(&format!("{log}?limit=10&offset=99999"))
            .await
            .body
            .is_empty()
    );
    assert_eq!(cloud.requests().pop().unwrap().bearer, None);

    assert_eq!(
        nobody.get(&format!("{log}x")).await.status,
        StatusCode::FORBIDDEN
    );
    let guessed = format!("{}/v1/object/plan-1", cloud.archivist_url());
    assert_eq!(nobody.get(&guessed).await.status, StatusCode::FORBIDDEN);
    let put = nobody.send(Method::PUT, &log, "log").await.unwrap();
    assert_eq!(put.status, StatusCode::METHOD_NOT_ALLOWED);
    // The API's port does not serve objects, and a token that comes along is noticed.
    let path = log.strip_prefix(&cloud.archivist_url()).unwrap();
    assert_eq!(planner.get(path).await.status, StatusCode::NOT_FOUND);
    Api::new("", Some("a-token-that-should-not-travel"))
        .get(&log)
        .await;
    assert_eq!(last_bearer(&cloud).as_deref(), Some("foreign"));
}

#[tokio::test]
async fn a_minted_token_works() {
    let cloud = recorded().await;
    let owner = api(&cloud, "owner");
    let minted = owner
        .post(
            "/api/v2/organizations/acme/authentication-token",
            &json!({}),
        )
        .await
        .json();
    let token = minted["data"]["attributes"]["token"].as_str().unwrap();
    let other = Api::new(&cloud.url(), Some(token));
    assert_eq!(
        other.get("/api/v2/account/details").await.status,
        StatusCode::OK
    );
    assert!(last_bearer(&cloud).unwrap().starts_with("minted at-"));
}

#[tokio::test]
async fn lists_are_paged() {
    let cloud = recorded().await;
    let planner = api(&cloud, "planner");
    let path = "/api/v2/organizations/acme/workspaces?page%5Bsize%5D=2";
    let first = planner.get(path).await.json();
    assert_eq!(first["data"].as_array().unwrap().len(), 2);
    assert_eq!(first["meta"]["pagination"]["next-page"], 2);
    let second = planner
        .get(&format!("{path}&page%5Bnumber%5D=2"))
        .await
        .json();
    assert_eq!(second["data"].as_array().unwrap().len(), 1);
    assert_eq!(second["meta"]["pagination"]["next-page"], Value::Null);
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused() {
    let cloud = recorded().await;
    let body = Bytes::from(vec![b' '; (64 << 20) + 1]);
    let answer = api(&cloud, "planner")
        .send(Method::POST, "/api/v2/runs", body)
        .await;
    // The stand-in may hang up before it has read everything.
    assert!(answer.is_err() || answer.unwrap().status == StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(cloud.requests().len(), 1);
}
