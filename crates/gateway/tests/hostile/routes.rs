//! Every route there is, with every credential that is not the right one.

use std::collections::BTreeSet;

use futures_util::{StreamExt, stream};
use policy::ReasonCode;
use policy::terraform::{Method, Route, routes};
use serde_json::json;

use crate::credentials::{Expected, wrong_credentials};
use crate::rig::{Rig, unsigned};

/// What the agent listener serves besides the route table.
const OTHER_SURFACES: &[(&str, &str)] = &[
    ("GET", "/"),
    ("GET", "/v1/job"),
    ("GET", "/v1/job/runs"),
    (
        "GET",
        "/v1/job/receipts/rcpt_00000000-0000-4000-8000-000000000000",
    ),
    ("GET", "/v1/job/"),
    ("POST", "/v1/job"),
    ("GET", "/v1/jobs"),
    ("POST", "/v1/tokens"),
    ("GET", "/v1/contracts"),
    ("GET", "/healthz"),
    ("GET", "/trust-pulse/"),
    ("POST", "/mcp"),
    ("GET", "/mcp"),
    ("DELETE", "/mcp"),
    ("POST", "/openai/v1/chat/completions"),
    ("POST", "/openai/v1/responses"),
    ("POST", "/openai/v1/embeddings"),
    ("GET", "/openai/v1/models"),
    ("GET", "/openai/v1/models/gpt-5"),
    ("GET", "/openai/v1/files"),
    ("POST", "/anthropic/v1/messages"),
    ("POST", "/anthropic/v1/messages/count_tokens"),
    ("GET", "/anthropic/v1/models"),
    ("POST", "/anthropic/v1/complete"),
    ("GET", "/unknown"),
    ("OPTIONS", "/api/v2/ping"),
    ("HEAD", "/api/v2/ping"),
    ("TRACE", "/api/v2/ping"),
    ("BREW", "/api/v2/ping"),
];

/// A route's path with its placeholders filled by ids of the right shape.
fn filled(template: &str) -> String {
    let segment = |segment: &str| match segment {
        "{organization}" => "acme".to_owned(),
        "{rest}" => "a/b".to_owned(),
        "{workspace}" => "ws-staging-app".to_owned(),
        "{configuration-version}" => "cv-0000000000000001".to_owned(),
        "{cost-estimate}" => "ce-0000000000000001".to_owned(),
        "{output}" => "wsout-0000000000000001".to_owned(),
        "{id}" => "x-0000000000000001".to_owned(),
        "{name}" => "staging-app".to_owned(),
        other => match other
            .strip_prefix('{')
            .and_then(|name| name.strip_suffix('}'))
        {
            Some(name) => format!("{name}-0000000000000001"),
            None => other.to_owned(),
        },
    };
    template
        .split('/')
        .map(segment)
        .collect::<Vec<_>>()
        .join("/")
}

fn request_of(route: &Route) -> (String, String) {
    let method = route.method.map_or("GET", Method::as_str);
    (method.to_owned(), filled(route.template))
}

#[test]
fn every_placeholder_is_filled() {
    for route in routes() {
        let (method, path) = request_of(route);
        assert!(!path.contains(['{', '}']), "{path}");
        let matched = policy::terraform::template_of(&method, &path);
        assert_eq!(matched, Some(route.template), "{method} {path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_route_answers_without_the_right_token() {
    let rig = Rig::start().await;
    let credentials = wrong_credentials(&rig).await;
    let seen = rig.seen();
    let mut asked = BTreeSet::new();
    let table = routes().map(|route| {
        asked.insert((route.template, route.method.map(Method::as_str)));
        request_of(route)
    });
    let mut requests: Vec<(String, String)> = table.collect();
    let others = OTHER_SURFACES
        .iter()
        .map(|(m, p)| ((*m).to_owned(), (*p).to_owned()));
    requests.extend(others);
    // A new route cannot be forgotten: what was asked is the table, row by row.
    assert_eq!(asked.len(), routes().count());
    assert!(requests.len() > 600);

    let attempts = requests.iter().flat_map(|request| {
        credentials
            .iter()
            .map(move |credential| (request, credential))
    });
    let failures: Vec<String> = stream::iter(attempts)
        .map(|((method, path), credential)| {
            let call = (credential.put)(rig.nobody(method, path));
            async move {
                let reply = call.send().await;
                let Expected { status, code } = credential.expected;
                // A HEAD answer has no body; the code is in the header of each refusal.
                let got = match method.as_str() {
                    "HEAD" => (
                        reply.status,
                        reply.header("x-clawgate-code").unwrap_or("").into(),
                    ),
                    _ => reply.refusal(),
                };
                let anthropic = path.starts_with("/anthropic/");
                let named =
                    got.1 == code || (anthropic && reply.header("x-clawgate-code") == Some(code));
                let challenged = status != 401 || reply.header("www-authenticate").is_some();
                let fits = got.0 == status && named && challenged;
                (!fits).then(|| format!("{method} {path} with {}: {got:?}", credential.name))
            }
        })
        .buffer_unordered(24)
        .filter_map(async |failure| failure)
        .collect()
        .await;
    assert!(
        failures.is_empty(),
        "{} failures: {failures:#?}",
        failures.len()
    );
    rig.assert_silent(&seen, "a call without the right token");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closed_routes_stay_closed_for_the_right_token() {
    let rig = Rig::start().await;
    let seen = rig.seen();
    let closed = routes().filter(|route| route.operation.is_none());
    let failures: Vec<String> = stream::iter(closed)
        .map(|route| {
            let (method, path) = request_of(route);
            let call = rig.agent(&method, &path);
            let call = if method == "GET" {
                call
            } else {
                call.json_api(&json!({"data": {}}))
            };
            async move {
                // What is outside of the API is not even read as a Terraform call.
                let api = path.starts_with("/api/") || path.starts_with("/.well-known/");
                let expected = if api {
                    route.class.refusal()
                } else {
                    ReasonCode::RouteUnknown
                };
                let (status, code) = call.send().await.refusal();
                let fits = status == expected.status() && code == expected.as_str();
                (!fits).then(|| format!("{method} {path}: {status} {code}, not {expected}"))
            }
        })
        .buffer_unordered(24)
        .filter_map(async |failure| failure)
        .collect()
        .await;
    assert!(failures.is_empty(), "{failures:#?}");
    rig.assert_silent(&seen, "a closed route");
    // Each refusal of an identified caller is on record.
    let refusals = rig.refusals(&rig.sandbox.job_id).await;
    assert_eq!(
        refusals.len(),
        routes().filter(|route| route.operation.is_none()).count()
    );
}

#[tokio::test]
async fn other_surfaces_of_the_operator_do_not_exist_for_agents() {
    let rig = Rig::start().await;
    let seen = rig.seen();
    for route in clawgate::operator::routes() {
        let path = route
            .path
            .replace("{id}", rig.sandbox.job_id.as_str())
            .replace(['{', '}'], "");
        let reply = rig.agent(route.method, &path).send().await;
        let (status, code) = reply.refusal();
        assert_eq!(
            (status, code.as_str()),
            (403, "ROUTE_UNKNOWN"),
            "{} {path}",
            route.method
        );
        // The other way round: the agent's token on the operator's route.
        let reply = rig
            .visitor(route.method, &path)
            .bearer(&rig.sandbox.cst)
            .send()
            .await;
        use clawgate::operator::credential::Access;
        let expected = match route.access {
            // The link alone opens these; whoever asks.
            Access::Public | Access::Link => continue,
            Access::Signed => unsigned(route.path),
            _ => (401, "TOKEN_WRONG_LISTENER".into()),
        };
        assert_eq!(reply.refusal(), expected, "{path}");
    }
    for (method, path) in OTHER_SURFACES
        .iter()
        .filter(|(_, path)| !path.starts_with("/v1/job"))
    {
        let served = path.starts_with("/openai/") || path.starts_with("/anthropic/");
        if served || ["/api/v2/ping", "/mcp"].contains(path) {
            continue;
        }
        let reply = rig.agent(method, path).send().await;
        assert_eq!(
            reply.refusal(),
            (403, "ROUTE_UNKNOWN".into()),
            "{method} {path}"
        );
    }
    rig.assert_silent(&seen, "a foreign surface");
}
