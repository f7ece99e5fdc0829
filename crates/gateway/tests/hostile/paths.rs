//! Request lines: one spelling for each thing, and nothing that a server behind us might read
//! otherwise.

use crate::rig::{Reply, Rig, lossy};
use crate::wire::{HEAD, statuses, written};

#[tokio::test]
async fn paths_have_one_spelling() {
    let rig = Rig::start().await;
    let own = rig.planned(&rig.sandbox.cst).await;
    let (run, plan) = (own.run.as_str(), own.plan.as_str());
    let seen = rig.seen();
    let mut failures = Vec::new();
    for (target, code) in [
        (format!("/api/v2/runs%2f{run}"), "PATH_PERCENT_ENCODED"),
        (
            format!("/api/v2/runs/{run}%2f..%2f..%2fworkspaces"),
            "PATH_PERCENT_ENCODED",
        ),
        (
            format!("/api/v2/runs/{run}/%2e%2e/{run}"),
            "PATH_PERCENT_ENCODED",
        ),
        (
            format!("/api/v2/runs/%72un-{}", &run[4..]),
            "PATH_PERCENT_ENCODED",
        ),
        (format!("/api/v2/runs/{run}%00"), "PATH_PERCENT_ENCODED"),
        (
            format!("/api/v2/runs/{run}%0d%0ax:%20y"),
            "PATH_PERCENT_ENCODED",
        ),
        (
            format!("/api/v2/runs/{run}%252fplan"),
            "PATH_PERCENT_ENCODED",
        ),
        (format!("/api/v2/runs/{run}%5c.."), "PATH_PERCENT_ENCODED"),
        (format!("/api/v2/./runs/{run}"), "PATH_DOT_SEGMENT"),
        (
            format!("/api/v2/workspaces/../runs/{run}"),
            "PATH_DOT_SEGMENT",
        ),
        (format!("/api/v2/runs/{run}/.."), "PATH_DOT_SEGMENT"),
        (format!("/api/v2//runs/{run}"), "PATH_EMPTY_SEGMENT"),
        (format!("//api/v2/runs/{run}"), ""),
        (format!("/api/v2/runs//{run}"), "PATH_EMPTY_SEGMENT"),
        (format!("/api/v2/runs/{run}/"), "PATH_TRAILING_SLASH"),
        (format!("/api/v2/runs/{run};x=1"), "PATH_PARAMETERS"),
        (format!("/api/v2/runs;x/{run}"), "PATH_PARAMETERS"),
        (format!("/api/v2/Runs/{run}"), "PATH_UPPER_CASE"),
        (format!("/api/V2/runs/{run}"), "PATH_UPPER_CASE"),
        (format!("/API/v2/runs/{run}"), "ROUTE_UNKNOWN"),
        (format!("/api/v2/runs/{run}.json"), "ID_MALFORMED"),
        (
            format!("/api/v2/plans/{plan}/json-output-redacted.json"),
            "PATH_FORMAT_SUFFIX",
        ),
        (
            format!("/api/v2/plans/{plan}/json-output"),
            "PLAN_JSON_DENIED",
        ),
        (
            format!("/api/v2/plans/{plan}/json-output?redacted"),
            "PLAN_JSON_DENIED",
        ),
        ("/api/v2/ping.xml".into(), "PATH_FORMAT_SUFFIX"),
        (
            format!("/api/v2/runs/{}", run.to_uppercase()),
            "ID_MALFORMED",
        ),
        (format!("/api/v2/runs/{plan}"), "ID_MALFORMED"),
        (format!("/api/v2/plans/{run}"), "ID_MALFORMED"),
        (format!("/api/v2/runs/{run}:plan"), "PATH_MALFORMED"),
        (format!("/api/v2/runs/{run}|plan"), "PATH_MALFORMED"),
        (format!("/api/v2/runs/{run}\\plan"), "PATH_MALFORMED"),
        (format!("/api/v2/runs/{run}\u{1}"), ""),
        (format!("/api/v2/runs/{run}\u{7f}"), ""),
        (format!("/api/v2/runs/{run}\u{ff0f}plan"), "PATH_MALFORMED"),
        (format!("/api/v2/runs/{run}?"), "QUERY_MALFORMED"),
        (
            format!("/api/v2/runs/{run}?_method=DELETE"),
            "QUERY_UNKNOWN_KEY",
        ),
        (format!("/api/v2/runs/{run}?include=outputs"), "QUERY_VALUE"),
        (
            format!("/api/v2/runs/{run}?include=created_by"),
            "QUERY_VALUE",
        ),
        (
            format!("/api/v2/runs/{run}?include=workspace.current_run"),
            "QUERY_VALUE",
        ),
        (
            format!("/api/v2/runs/{run}?include=plan&include=apply"),
            "QUERY_REPEATED_KEY",
        ),
        (
            format!("/api/v2/runs/{run}?include[]=plan"),
            "QUERY_UNKNOWN_KEY",
        ),
        (
            format!("/api/v2/runs/{run}?include=plan%2500"),
            "QUERY_MALFORMED",
        ),
        (
            format!("/api/v2/runs/{run}?data[attributes][auto-apply]=true"),
            "QUERY_UNKNOWN_KEY",
        ),
        (
            format!("/api/v2/runs/{}", "1".repeat(2100)),
            "PATH_TOO_LONG",
        ),
        (
            "/api/v2/workspaces/ws-staging-app/runs?page[size]=1000".into(),
            "QUERY_VALUE",
        ),
        (
            "/api/v2/workspaces/ws-staging-app/runs?search[user]=x".into(),
            "QUERY_UNKNOWN_KEY",
        ),
        ("/.well-known/terraform.json/".into(), "PATH_TRAILING_SLASH"),
        ("/.well-known/../api/v2/ping".into(), "PATH_DOT_SEGMENT"),
        ("/v1/job/../api/v2/ping".into(), "ROUTE_UNKNOWN"),
        ("/v1/job/receipts/../runs".into(), "RECEIPT_UNKNOWN"),
        ("/v1/job?x=1".into(), "QUERY_UNKNOWN_KEY"),
        (
            "/openai/v1/../api/v2/ping".into(),
            "MODEL_SURFACE_NOT_ALLOWED",
        ),
        ("/openai/v1/models/..".into(), "MODEL_SURFACE_NOT_ALLOWED"),
        ("/openai/v1/models/a/b".into(), "MODEL_SURFACE_NOT_ALLOWED"),
        (
            "/openai/v1/models/%2e%2e".into(),
            "MODEL_SURFACE_NOT_ALLOWED",
        ),
        ("/openai/v1/models/a?x=1".into(), "QUERY_UNKNOWN_KEY"),
        ("/openai//v1/models".into(), "MODEL_SURFACE_NOT_ALLOWED"),
        ("/openai/v1/Models".into(), "MODEL_SURFACE_NOT_ALLOWED"),
        ("/anthropic/v1/models/".into(), "MODEL_SURFACE_NOT_ALLOWED"),
    ] {
        let reply = rig
            .raw(&written(
                &rig,
                &format!("GET {target} HTTP/1.1\r\n{HEAD}connection: close\r\n\r\n"),
            ))
            .await;
        let statuses = statuses(&reply);
        let got = Reply::read(&reply).map(|reply| {
            reply
                .header("x-clawgate-code")
                .unwrap_or_default()
                .to_owned()
        });
        let refused = matches!(statuses[..], [400..=499]) || statuses.is_empty();
        // What hyper itself refuses has no code.
        let named = code.is_empty() || got.as_deref() == Some(code) || got.as_deref() == Some("");
        if !refused || !named {
            failures.push(format!("{target}: {}", lossy(&reply)));
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
    rig.assert_silent(&seen, "a strange path");
}
