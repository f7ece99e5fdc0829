use super::*;
use crate::contract::{Contract, EXAMPLE_CONTRACT};
use crate::terraform::query::Query;

fn contract(change: &[(&str, &str)]) -> CompiledContract {
    let text = change
        .iter()
        .fold(EXAMPLE_CONTRACT.to_owned(), |text, (from, to)| {
            text.replace(from, to)
        });
    CompiledContract::compile(&Contract::parse(text.as_bytes()).unwrap())
}

fn rewrite(
    operation: Operation,
    answer: &str,
    contract: &CompiledContract,
) -> Result<Answer, AnswerError> {
    let mut ours = |signed: SignedUrl<'_>| {
        assert!(
            signed.url.starts_with("https://archivist"),
            "{}",
            signed.url
        );
        Some(format!(
            "https://gateway/c/{:?}/{}",
            signed.purpose, signed.object_id
        ))
    };
    rewrite_bytes(operation, answer.as_bytes(), contract, &mut ours)
}

fn text(json: &Json) -> String {
    String::from_utf8(json.to_jcs()).unwrap()
}

fn run(id: &str, workspace: &str) -> String {
    format!(
        r#"{{"id":"{id}","type":"runs","attributes":{{
            "actions":{{"is-cancelable":true,"is-confirmable":true,"is-discardable":true,
                "is-force-cancelable":true,"is-new-thing":true}},
            "auto-apply":false,"created-at":"2026-11-22T08:00:00Z","has-changes":true,
            "message":"m","plan-only":false,"source":"terraform+cloud","status":"planned",
            "status-timestamps":{{"planned-at":"2026-11-22T08:00:01Z","evil":{{"x":1}}}},
            "permissions":{{"can-apply":false,"can-override-policy-check":true}},
            "variables":[{{"key":"password","value":"\"hunter2\""}}],
            "target-addrs":["a.b"],"new-signed-url":"https://archivist/secret"}},
          "relationships":{{
            "workspace":{{"data":{{"id":"{workspace}","type":"workspaces"}},
                "links":{{"related":"https://app.terraform.io/api/v2/workspaces/{workspace}"}}}},
            "plan":{{"data":{{"id":"plan-{id}","type":"plans"}}}},
            "apply":{{"data":{{"id":"apply-{id}","type":"applies"}}}},
            "cost-estimate":{{"data":null}},
            "task-stages":{{"data":[{{"id":"ts-1","type":"task-stages"}}]}},
            "created-by":{{"data":{{"id":"user-1","type":"users"}}}}}},
          "links":{{"self":"/api/v2/runs/{id}"}}}}"#
    )
}

#[test]
fn a_run_keeps_what_the_cli_needs_and_nothing_else() {
    let answer = format!(
        r#"{{"data":{},"included":[
            {{"id":"plan-run-1","type":"plans","attributes":{{"status":"finished","resource-additions":1,
              "log-read-url":"https://archivist.terraform.io/v1/object/x"}},
              "links":{{"json-output":"/api/v2/plans/plan-run-1/json-output","self":"https://app.terraform.io/x"}}}},
            {{"id":"plan-other","type":"plans","attributes":{{"status":"finished"}}}},
            {{"id":"user-1","type":"users","attributes":{{"email":"a@b.c"}}}},
            {{"id":"ws-staging-app","type":"workspaces","attributes":{{"name":"staging-app"}}}}],
          "links":{{"next":"https://app.terraform.io/api/v2/runs"}},"meta":{{"secret":1}}}}"#,
        run("run-1", "ws-staging-app")
    );
    let answer = rewrite(Operation::ReadRun, &answer, &contract(&[])).unwrap();
    let body = &answer.body;
    let shown = text(body);
    for never in [
        "hunter2",
        "variables",
        "user-1",
        "archivist",
        "app.terraform.io",
        "new-signed-url",
        "plan-other",
        "is-new-thing",
        "evil",
        "meta",
        "a@b.c",
        "json-output",
    ] {
        assert!(!shown.contains(never), "{never} in {shown}");
    }
    for kept in [
        r#""status":"planned""#,
        r#""is-confirmable":true"#,
        r#""can-apply":true"#,
        r#""is-force-cancelable":false"#,
        r#""can-override-policy-check":false"#,
        r#""cost-estimate":{"data":null}"#,
        r#""self":"/api/v2/runs/run-1""#,
        r#""log-read-url":"https://gateway/c/PlanLog/plan-run-1""#,
        r#""name":"staging-app""#,
        r#""planned-at":"2026-11-22T08:00:01Z""#,
        r#""target-addrs":["a.b"]"#,
        r#""task-stages":{"data":[{"id":"ts-1","type":"task-stages"}]}"#,
    ] {
        assert!(shown.contains(kept), "{kept} not in {shown}");
    }
    let learned: Vec<_> = answer
        .learned
        .iter()
        .map(|l| (l.kind, l.id.as_str(), l.run.as_deref()))
        .collect();
    assert_eq!(
        learned,
        [
            (ObjectKind::Run, "run-1", Some("run-1")),
            (ObjectKind::Apply, "apply-run-1", Some("run-1")),
            (ObjectKind::Plan, "plan-run-1", Some("run-1")),
            (ObjectKind::TaskStage, "ts-1", Some("run-1")),
            (ObjectKind::Plan, "plan-run-1", None),
            (ObjectKind::Workspace, "ws-staging-app", None),
        ]
    );
    assert!(
        answer.learned[..4]
            .iter()
            .all(|l| l.workspace.as_deref() == Some("ws-staging-app"))
    );
}

#[test]
fn lists_lose_what_is_outside_the_contract() {
    let answer = format!(
        r#"{{"data":[{},{},{}],"meta":{{"pagination":{{"current-page":1,"next-page":null,
            "total-pages":1,"total-count":3,"x":1}}}}}}"#,
        run("run-1", "ws-staging-app"),
        run("run-2", "ws-production-app"),
        run("run-3", "ws-staging-db"),
    );
    let answer = rewrite(Operation::RunsQueue, &answer, &contract(&[])).unwrap();
    let ids: Vec<_> = answer
        .body
        .get("data")
        .unwrap()
        .as_array()
        .unwrap()
        .iter()
        .map(|run| run.get("id").unwrap().as_str().unwrap())
        .collect();
    assert_eq!(ids, ["run-1", "run-3"]);
    assert!(!answer.learned.iter().any(|l| l.id.contains("run-2")));
    assert_eq!(
        text(answer.body.get("meta").unwrap()),
        r#"{"pagination":{"current-page":1,"next-page":null}}"#
    );
}

#[test]
fn pages_of_our_own_have_their_own_numbers() {
    let query = |number, size| Query {
        page_number: number,
        page_size: size,
        ..Query::default()
    };
    for (number, size, total, range, numbers) in [
        (None, None, 0, 0..0, (1, Json::Null, Json::Null, 1)),
        (None, None, 21, 0..20, (1, Json::Null, Json::Integer(2), 2)),
        (
            Some(2),
            None,
            21,
            20..21,
            (2, Json::Integer(1), Json::Null, 2),
        ),
        (
            Some(2),
            Some(2),
            5,
            2..4,
            (2, Json::Integer(1), Json::Integer(3), 3),
        ),
        (
            Some(9),
            Some(100),
            5,
            5..5,
            (9, Json::Integer(8), Json::Null, 1),
        ),
    ] {
        let query = query(number, size);
        assert_eq!(page_range(&query, total), range);
        let list = page(&query, Vec::new(), total);
        let said = |name| list.at(&["meta", "pagination", name]).cloned().unwrap();
        let (current, previous, next, pages) = numbers;
        assert_eq!(said("current-page"), Json::Integer(current));
        assert_eq!((said("prev-page"), said("next-page")), (previous, next));
        assert_eq!(said("total-pages"), Json::Integer(pages));
        assert_eq!(said("total-count"), Json::Integer(total as i64));
    }
}

#[test]
fn single_objects_outside_the_contract_are_errors() {
    let contract = contract(&[]);
    let outside = format!(r#"{{"data":{}}}"#, run("run-1", "ws-production-app"));
    assert!(matches!(
        rewrite(Operation::ReadRun, &outside, &contract),
        Err(AnswerError::OutsideContract)
    ));
    let workspace = r#"{"data":{"id":"ws-production-app","type":"workspaces","attributes":{}}}"#;
    assert!(matches!(
        rewrite(Operation::WorkspaceByName, workspace, &contract),
        Err(AnswerError::OutsideContract)
    ));
    let nowhere = r#"{"data":{"id":"run-1","type":"runs","attributes":{"status":"planned"}}}"#;
    assert!(rewrite(Operation::ReadRun, nowhere, &contract).is_err());
    for (operation, answer) in [
        (Operation::ReadRun, "<html>"),
        (Operation::ReadRun, "[]"),
        (Operation::ReadRun, r#"{"data":[]}"#),
        (
            Operation::ReadRun,
            r#"{"data":{"id":"plan-1","type":"plans"}}"#,
        ),
        (
            Operation::ReadRun,
            r#"{"errors":[{"detail":"secret of another workspace"}]}"#,
        ),
        (
            Operation::WorkspaceRuns,
            r#"{"data":{"id":"run-1","type":"runs"}}"#,
        ),
        (Operation::ApplyRun, r#"{"data":{}}"#),
        (Operation::PlanJsonRedacted, r#"{"variables":{"a":"b"}}"#),
    ] {
        assert!(rewrite(operation, answer, &contract).is_err(), "{answer}");
    }
}

#[test]
fn permissions_are_those_of_the_contract() {
    let answer = r#"{"data":{"id":"ws-staging-app","type":"workspaces","attributes":{"name":"staging-app",
        "vcs-repo":{"identifier":"acme/private"},"permissions":{"can-queue-apply":false,"can-update":true},
        "setting-overwrites":{}, "execution-mode":"remote"}}}"#;
    let shown = text(
        &rewrite(Operation::WorkspaceById, answer, &contract(&[]))
            .unwrap()
            .body,
    );
    assert!(shown.contains(r#""can-queue-apply":true"#) && shown.contains(r#""can-update":false"#));
    assert!(shown.contains(r#""vcs-repo":{}"#) && !shown.contains("acme"));
    let plan_only = contract(&[("\"allowed\": true", "\"allowed\": false")]);
    let shown = text(
        &rewrite(Operation::WorkspaceById, answer, &plan_only)
            .unwrap()
            .body,
    );
    assert!(shown.contains(r#""can-queue-apply":false"#));
}

#[test]
fn state_and_outputs_stay_hidden() {
    let state = r#"{"data":{"id":"sv-1","type":"state-versions","attributes":{"serial":3,
        "hosted-state-download-url":"https://archivist/state",
        "hosted-json-state-download-url":"https://archivist/json",
        "sanitized-state-download-url":"https://archivist/new"}}}"#;
    let shown = text(
        &rewrite(Operation::CurrentStateVersion, state, &contract(&[]))
            .unwrap()
            .body,
    );
    assert!(!shown.contains("url"), "{shown}");
    let reader = contract(&[("\"state_read\": false", "\"state_read\": true")]);
    let shown = text(
        &rewrite(Operation::CurrentStateVersion, state, &reader)
            .unwrap()
            .body,
    );
    assert!(shown.contains("https://gateway/c/StateDownload/sv-1") && !shown.contains("archivist"));

    let outputs = r#"{"data":[
        {"id":"wsout-1","type":"state-version-outputs","attributes":{"name":"a","sensitive":false,"value":"open"}},
        {"id":"wsout-2","type":"state-version-outputs","attributes":{"name":"b","sensitive":true,"value":"s3cret"}},
        {"id":"wsout-3","type":"state-version-outputs","attributes":{"name":"c","value":"s3cret"}}]}"#;
    let answer = rewrite(
        Operation::CurrentStateVersionOutputs,
        outputs,
        &contract(&[]),
    )
    .unwrap();
    let shown = text(&answer.body);
    assert!(
        shown.contains("open") && !shown.contains("s3cret"),
        "{shown}"
    );
    assert_eq!(answer.learned.len(), 3);
}

#[test]
fn uploads_get_an_address_of_ours_and_policy_cannot_be_overridden() {
    let answer = r#"{"data":{"id":"cv-1","type":"configuration-versions","attributes":{"status":"pending",
        "upload-url":"https://archivist/put"}}}"#;
    let answer = rewrite(
        Operation::CreateConfigurationVersion,
        answer,
        &contract(&[]),
    )
    .unwrap();
    assert!(text(&answer.body).contains("https://gateway/c/ConfigurationUpload/cv-1"));
    let checks = r#"{"data":[{"id":"polchk-1","type":"policy-checks","attributes":{"status":"soft_failed",
        "actions":{"is-overridable":true},"permissions":{"can-override":true},"result":{"x":true,"passed":2,"sentinel":{"data":"policy text"}}}}]}"#;
    let shown = text(
        &rewrite(Operation::RunPolicyChecks, checks, &contract(&[]))
            .unwrap()
            .body,
    );
    assert!(
        !shown.contains("true") && !shown.contains("sentinel") && shown.contains("\"passed\":2"),
        "{shown}"
    );
    let plan = r#"{"plan_format_version":"1.2","resource_changes":[{"n":1.5}],"prior_state":{"secret":1}}"#;
    let answer = rewrite(Operation::PlanJsonRedacted, plan, &contract(&[])).unwrap();
    assert_eq!(
        text(&answer.body),
        r#"{"plan_format_version":"1.2","resource_changes":[{"n":1.5}]}"#
    );
}
