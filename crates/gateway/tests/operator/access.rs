//! Who is let in: every route, every wrong credential.

use clawgate::operator::credential::{Access, Role};
use clawgate::operator::routes;
use http::header;
use serde_json::json;

use crate::world::World;

/// A path with its variable parts filled in.
fn filled(path: &str) -> String {
    path.replace("{hash}", "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU")
        .replace("{name}", "terraform-cloud-staging-only")
        .replace("{run_id}", "run-1")
        .replace("{id}", "job_1")
        .replace("{level}/{*place}", "0/000")
        .replace("{*place}", "000")
}

#[tokio::test]
async fn every_route_asks_for_the_right_credential() {
    let world = World::new().await;
    let admin = world.admin().await;
    let job = admin.job().await;
    let scoped = admin.token(&job).await;
    let stranger = format!("clawop_{}", clawgate::keys::random_text());
    let nobody = world.operator("nobody", &[]).await;
    let mut credentials = Vec::new();
    for role in Role::ALL {
        credentials.push((role, world.operator(role.as_str(), &[role]).await));
    }
    let before = world
        .gateway
        .app
        .store
        .operator_actions(1000)
        .await
        .unwrap();

    let mut guarded = 0;
    for route in routes() {
        let path = filled(route.path);
        let attempt = async |credential: Option<&str>| {
            let mut request = world.request(route.method, &path);
            if let Some(credential) = credential {
                request = request.header(header::AUTHORIZATION, format!("Bearer {credential}"));
            }
            let answer = world.call(request, Vec::new()).await;
            (answer.status.as_u16(), answer.code())
        };
        if route.access == Access::Public {
            assert_eq!(attempt(None).await.0, 200, "{path}");
            continue;
        }
        if route.access == Access::Link {
            // No credential opens it: the path holds the secret, and this one holds none.
            let closed: &[u16] = if route.path.starts_with("/published/") {
                &[404]
            } else {
                &[409, 415]
            };
            for credential in [None, Some(scoped.as_str()), Some(stranger.as_str())] {
                let status = attempt(credential).await.0;
                assert!(
                    closed.contains(&status),
                    "{} {path}: {status}",
                    route.method
                );
            }
            continue;
        }
        if route.access == Access::Signed {
            // No credential opens it: it wants a signature, and here has no key.
            let disabled = match route.path {
                "/v1/run-tasks" => (403, "RUN_TASK_DISABLED".into()),
                _ => (404, "PAGE_UNKNOWN".into()),
            };
            for credential in [None, Some(scoped.as_str()), Some(stranger.as_str())] {
                assert_eq!(attempt(credential).await, disabled, "{}", route.path);
            }
            continue;
        }
        guarded += 1;
        let what = format!("{} {}", route.method, route.path);
        let refused = |status: u16, code: &str| (status, code.to_owned());
        let missing = refused(401, "OPERATOR_CREDENTIAL_MISSING");
        assert_eq!(attempt(None).await, missing, "{what}");
        assert_eq!(attempt(Some("")).await, missing, "{what}");
        let invalid = refused(401, "OPERATOR_CREDENTIAL_INVALID");
        assert_eq!(attempt(Some(&stranger)).await, invalid, "{what}");
        let wrong = refused(401, "TOKEN_WRONG_LISTENER");
        assert_eq!(attempt(Some(&scoped)).await, wrong, "{what}");
        let forbidden = refused(403, "OPERATOR_FORBIDDEN");
        assert_eq!(attempt(Some(&nobody)).await, forbidden, "{what}");
        for (role, credential) in &credentials {
            let admitted = match route.access {
                Access::Needs(needed) => *role == needed || *role == Role::Admin,
                // Metrics are no evidence: who is there for them reads nothing else.
                _ => *role != Role::Monitor,
            };
            if admitted {
                // Without a body nothing is changed; what counts is that it got past the guard.
                let (status, code) = attempt(Some(credential)).await;
                let stopped = status == 401 || code == "OPERATOR_FORBIDDEN";
                assert!(!stopped, "{what} as {role}: {status} {code}");
            } else {
                assert_eq!(
                    attempt(Some(credential)).await,
                    forbidden,
                    "{what} as {role}"
                );
            }
        }
    }
    assert!(guarded > 20, "the table has its routes: {guarded}");
    let after = world
        .gateway
        .app
        .store
        .operator_actions(1000)
        .await
        .unwrap();
    assert_eq!(before, after, "none of it changed anything");
}

#[tokio::test]
async fn open_pages_are_for_this_machine_only_and_open_nothing_else() {
    let world = World::with("trust_pulse = { open = true }").await;
    let bare = async |path: &str, host: Option<&str>| {
        let mut request = world.request("GET", path);
        if let Some(host) = host {
            request = request.header(header::HOST, host);
        }
        world.call(request, Vec::new()).await.status.as_u16()
    };
    assert_eq!(bare("/trust-pulse/", None).await, 200);
    assert_eq!(bare("/trust-pulse/", Some("localhost:1234")).await, 200);
    assert_eq!(bare("/trust-pulse/", Some("[::1]")).await, 200);
    // A foreign page whose own name points here.
    assert_eq!(bare("/trust-pulse/", Some("evil.example:8788")).await, 401);
    assert_eq!(
        bare("/trust-pulse/", Some("127.0.0.1.evil.example")).await,
        401
    );
    assert_eq!(bare("/v1/jobs", None).await, 401);
}

#[tokio::test]
async fn what_is_not_listed_does_not_exist() {
    let world = World::new().await;
    let admin = world.admin().await;
    for path in [
        "/v1",
        "/v1/",
        "/v1/jobs/",
        "/api/v2/ping",
        "/v1/operators",
        "/mcp",
    ] {
        let answer = admin.get(path).await;
        assert_eq!(
            (answer.status.as_u16(), answer.code().as_str()),
            (404, "PAGE_UNKNOWN"),
            "{path}"
        );
    }
    let answer = admin.post("/healthz", &json!({})).await;
    assert_eq!(
        (answer.status.as_u16(), answer.code().as_str()),
        (405, "METHOD_NOT_ALLOWED")
    );
    let answer = admin.get("/v1/tokens").await;
    assert_eq!(answer.code(), "METHOD_NOT_ALLOWED");
    assert_eq!(
        answer.headers[header::CONTENT_TYPE],
        "application/problem+json"
    );
    assert_eq!(answer.headers[header::CACHE_CONTROL], "no-store");
}

#[tokio::test]
async fn bad_requests_are_refused_with_their_reason() {
    let world = World::new().await;
    let admin = world.admin().await;
    let hash = admin.publish().await;
    let good = json!({ "name": "a job", "policy_hash_b64u": hash }).to_string();
    let jobs = async |kind: &str, body: String| {
        admin
            .post_as("/v1/jobs", kind, body.into_bytes())
            .await
            .code()
    };
    const JSON: &str = "application/json";
    assert_eq!(jobs(JSON, good.clone()).await, "");
    for (kind, body, code) in [
        ("text/plain", good.clone(), "BODY_CONTENT_TYPE"),
        (JSON, String::new(), "BODY_NOT_JSON"),
        (JSON, format!("{good} {good}"), "BODY_NOT_JSON"),
        (
            JSON,
            good.replacen('{', "{\"name\":\"twice\",", 1),
            "BODY_NOT_JSON",
        ),
        (
            JSON,
            good.replacen('{', "{\"more\":1,", 1),
            "BODY_UNKNOWN_MEMBER",
        ),
        (JSON, "{}".into(), "BODY_MISSING_MEMBER"),
        (JSON, r#"{"name":"x"}"#.into(), "BODY_MISSING_MEMBER"),
        (
            JSON,
            r#"{"name":"x","contract":"no-such"}"#.into(),
            "CONTRACT_UNKNOWN",
        ),
        (JSON, good.replace("a job", ""), "BODY_WRONG_TYPE"),
        (
            JSON,
            good.replace("a job", "two\\nlines"),
            "BODY_WRONG_TYPE",
        ),
        (
            JSON,
            good.replace("a job", &"x".repeat(201)),
            "BODY_WRONG_TYPE",
        ),
        (
            JSON,
            good.replace("a job", &"x".repeat(1 << 20)),
            "BODY_TOO_LARGE",
        ),
    ] {
        let shown: String = body.chars().take(60).collect();
        assert_eq!(jobs(kind, body).await, code, "{kind} {shown}");
    }
    for (path, code) in [
        ("/v1/jobs?limit=0", "QUERY_VALUE"),
        ("/v1/jobs?limit=1001", "QUERY_VALUE"),
        ("/v1/jobs?state=broken", "QUERY_VALUE"),
        ("/v1/jobs?more=1", "QUERY_UNKNOWN_KEY"),
        ("/v1/jobs?limit=1&limit=2", "QUERY_REPEATED_KEY"),
        ("/v1/jobs/nonsense", "ID_MALFORMED"),
        ("/v1/jobs/job_%2e%2e", "ID_MALFORMED"),
        ("/v1/jobs/job_none", "JOB_UNKNOWN"),
        ("/v1/jobs/job_none/bundle", "BUNDLE_UNKNOWN"),
        ("/v1/contracts/nonsense", "ID_MALFORMED"),
        ("/v1/approvals/run-none", "APPROVAL_UNKNOWN"),
        ("/v1/approvals?state=applied", "QUERY_VALUE"),
    ] {
        assert_eq!(admin.get(path).await.code(), code, "{path}");
    }
}

/// What one gateway knows by heart would not follow what the other one ends.
#[tokio::test]
async fn one_gateway_serves_from_a_data_folder() {
    let world = World::new().await;
    let why = world.not_started_beside().await;
    let folder = world.folder.path().display().to_string();
    for part in [
        "cannot open the store",
        &folder,
        "another gateway serves from it",
        "store.url",
    ] {
        assert!(why.contains(part), "{why}");
    }
    world.admin().await.job().await;
    let world = world.restarted(async |_| {}).await;
    world.admin().await.job().await;
}
