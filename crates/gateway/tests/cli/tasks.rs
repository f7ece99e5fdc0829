//! Run tasks: Terraform Cloud asks the gateway, and stops what the gateway did not ask for.

use policy::configuration::{Limits, inspect_upload};
use proof::Hash;
use serde_json::{Value, json};
use sim::{Fault, FaultAction, RunStatus};
use store::{GateState, TaskCallRow};

use crate::evidence::{begun, refusals};
use crate::terraform::{two_instances, words};
use crate::world::{APP, Setup, World, terraform};

/// A workspace that no contract names.
const FOREIGN: &str = "ws-production-app";

/// What Terraform Cloud shows of the answers about a run: stage, status and message.
async fn answers(world: &World, run: &str) -> Vec<(String, String, String)> {
    let owner = world.upstream("owner");
    let stages = owner.get(&format!("/api/v2/runs/{run}/task-stages")).await;
    let mut answers = Vec::new();
    for stage in stages.ok()["data"].as_array().unwrap() {
        let id = stage["id"].as_str().unwrap();
        let path = format!("/api/v2/task-stages/{id}?include=task_results");
        let shown = owner.get(&path).await.ok();
        let result = &shown["included"][0]["attributes"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        answers.push((
            text(&stage["attributes"]["stage"]),
            text(&result["status"]),
            text(&result["message"]),
        ));
    }
    answers
}

fn statuses(answers: &[(String, String, String)]) -> Vec<&str> {
    answers.iter().map(|answer| answer.1.as_str()).collect()
}

/// The call that was refused, with its code, once that is known.
async fn refused(world: &World, run: &str) -> (TaskCallRow, String) {
    let look = async || {
        let rows = world.app().store.task_calls(run).await.unwrap();
        rows.into_iter()
            .find(|row| row.reported_at.is_some() && !row.judgement.as_ref().unwrap().passed)
    };
    let row = world.until(look).await;
    let document = &row.judgement.as_ref().unwrap().document;
    let verdict: clawgate::run_tasks::verdict::Verdict = document.to_typed().unwrap();
    (row, verdict.findings[0].code.as_str().to_owned())
}

/// The run ended without an apply, refused at a stage with a code.
async fn stopped(world: &World, run: &str, stage: &str, code: &str) {
    // First what has a bound: a run that is not refused may wait for ever.
    let (row, found) = refused(world, run).await;
    assert_eq!((row.call.stage.as_str(), found.as_str()), (stage, code));
    let ended = world.cloud.wait_until_ended(run).await.unwrap();
    assert_eq!(ended, RunStatus::Errored);
    assert_eq!(world.instances(), 1);
    // The list of actions has it, too.
    let actions = world.app().store.operator_actions(50).await.unwrap();
    let name = format!("run-task.{}", stage.replace('_', "-"));
    assert!(
        actions
            .iter()
            .any(|action| action.action == name && action.subject == run),
        "{name}"
    );
}

/// A run of somebody else's upload that applies by itself: what a stolen token does.
async fn stolen(world: &World, workspace: &str, files: &[(&str, &str)]) -> String {
    let owner = world.upstream("owner");
    let upload = owner.upload(workspace, false, files).await.unwrap();
    let attributes = json!({"auto-apply": true});
    let made = owner.run(workspace, &upload, &attributes).await.ok();
    made["data"]["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn an_approved_apply_passes_every_stage() {
    let Some(engine) = terraform() else { return };
    let world = Setup::new().run_tasks().engine(engine).start().await;
    let cli = world.cli().await;
    let (ended, run) = tokio::join!(
        cli.run(&["apply", "-auto-approve", "-input=false"]),
        world.approve_when_asked()
    );
    let output = ended.ok();
    assert!(output.contains("Apply complete!"), "{output}");
    world.run_at(&run, GateState::Applied).await;
    assert_eq!(world.instances(), 2);
    let answers = answers(&world, &run).await;
    assert_eq!(statuses(&answers), ["passed"; 4], "{answers:?}");
    assert!(answers[0].2.contains("gateway inspected"), "{answers:?}");
    assert!(answers[2].2.contains("was approved"), "{answers:?}");
    let rows = world.app().store.task_calls(&run).await.unwrap();
    assert_eq!(rows.len(), 4);
    // The job's page leads to what was said at each stage.
    let page = format!("/trust-pulse/jobs/{}", world.job);
    let page = world.operator().get(&page).await.text();
    for row in rows {
        let id = row.call.task_result_id;
        assert!(page.contains(&format!("../tasks/{id}")), "{id}");
    }
    let bundle = world.valid_evidence().await;
    assert_eq!(begun(&bundle, "apply-run"), 1);
    assert_eq!(bundle.terraform.runs[0].status, "applied");
}

#[tokio::test]
async fn the_cli_plans_through_the_stages() {
    let Some(engine) = terraform() else { return };
    let world = Setup::new().run_tasks().engine(engine).start().await;
    let cli = world.cli().await;
    let output = cli.run(&["plan", "-input=false"]).await.ok();
    assert!(output.contains("Plan: 1 to add, 1 to change"), "{output}");
    let run = world.runs().await.remove(0).run_id;
    assert_eq!(
        statuses(&answers(&world, &run).await),
        ["passed", "passed", "unreachable", "unreachable"]
    );
    // A plan without changes keeps to every contract.
    cli.write("main.tf", sim::example_configuration()[0].1);
    cli.run(&["plan", "-input=false"]).await.ok();
    world.valid_evidence().await;
}

#[tokio::test]
async fn an_apply_that_somebody_clicks_before_the_approval_is_stopped() {
    let world = Setup::new().run_tasks().start().await;
    let run = world.agent().held_run().await;
    let path = format!("/api/v2/runs/{run}/actions/apply");
    world.upstream("owner").send(&path, &json!({})).await.ok();
    stopped(&world, &run, "pre_apply", "RUN_TASK_NOT_APPROVED").await;
    world.run_at(&run, GateState::Superseded).await;
    let answers = answers(&world, &run).await;
    assert_eq!(
        statuses(&answers),
        ["passed", "passed", "failed", "unreachable"]
    );
    assert!(
        answers[2].2.contains("confirmed outside the gateway"),
        "{answers:?}"
    );
    // The job's own records say that it was tried.
    let bundle = world.valid_evidence().await;
    assert!(
        refusals(&bundle)
            .iter()
            .any(|code| code == "RUN_TASK_NOT_APPROVED")
    );
}

#[tokio::test]
async fn a_run_of_a_stolen_token_that_applies_by_itself_is_stopped() {
    let world = Setup::new().run_tasks().start().await;
    let run = stolen(&world, APP, &[("main.tf", &two_instances())]).await;
    stopped(&world, &run, "pre_apply", "RUN_TASK_NOT_APPROVED").await;
    let answers = answers(&world, &run).await;
    assert!(
        answers[2].2.contains("no job of this gateway"),
        "{answers:?}"
    );
    // Once more with what a job has uploaded and people have looked at.
    let upload = world.agent().upload().await;
    let owner = world.upstream("owner");
    let made = owner.run(APP, &upload, &json!({"auto-apply": true})).await;
    let again = made.ok()["data"]["id"].as_str().unwrap().to_owned();
    stopped(&world, &again, "pre_apply", "RUN_TASK_NOT_APPROVED").await;
}

#[tokio::test]
async fn b22_what_did_not_come_through_the_gateway_is_inspected_before_it_is_planned() {
    let shell = "resource \"terraform_data\" \"shell\" {\n  \
                 provisioner \"local-exec\" {\n    command = \"env\"\n  }\n}\n";
    let world = Setup::new().run_tasks().start().await;
    let run = stolen(&world, APP, &[("shell.tf", shell)]).await;
    stopped(&world, &run, "pre_plan", "CONFIGURATION_PROVISIONER").await;
    let (plan, _) = world.cloud.logs(&run).unwrap();
    assert_eq!(plan, "", "nothing of it ran");
    let answers = answers(&world, &run).await;
    assert!(answers[0].2.contains("shell.tf:2"), "{answers:?}");
    // Its page says what to do, to whoever may see the reviewers' pages.
    let (row, _) = refused(&world, &run).await;
    let path = format!("/trust-pulse/tasks/{}", row.call.task_result_id);
    let page = world.operator().get(&path).await;
    assert!(page.status.is_success());
    for says in [
        "shell.tf:2",
        "CONFIGURATION_PROVISIONER",
        "Remove the provisioner",
    ] {
        assert!(page.text().contains(says), "{says}");
    }
    assert!(
        !page.text().contains("command = "),
        "nobody keeps its lines"
    );
    // Not an archive at all.
    let garbage = world.upstream("owner");
    let opened = garbage
        .send(
            &format!("/api/v2/workspaces/{APP}/configuration-versions"),
            &json!({"data": {"type": "configuration-versions", "attributes": {}}}),
        )
        .await
        .ok();
    let address = opened["data"]["attributes"]["upload-url"].as_str().unwrap();
    garbage
        .call(http::Method::PUT, address, &[], "not an archive")
        .await
        .ok();
    let run = world.cloud.runs().pop().unwrap().0;
    stopped(&world, &run, "pre_plan", "UPLOAD_NOT_GZIP").await;
}

#[tokio::test]
async fn what_nobody_has_judged_is_not_planned() {
    let world = Setup::new().run_tasks().start().await;
    let code = "CONFIGURATION_VERSION_NOT_INSPECTED";
    let main = two_instances();
    // What `init` fetched, or has said it fetched; and what makes it fetch.
    for unjudged in [
        ".terraform/modules/modules.json",
        ".terraform/modules/m/main.tf",
        "tests/a.tftest.hcl",
    ] {
        let files = [("main.tf", main.as_str()), (unjudged, "")];
        let run = stolen(&world, APP, &files).await;
        stopped(&world, &run, "pre_plan", code).await;
        let answers = answers(&world, &run).await;
        assert!(answers[0].2.contains(unjudged), "{answers:?}");
    }
    // The same beside the very files that a job's upload had when it was inspected.
    let plain = crate::client::archive(&[("main.tf", &main)]);
    let inspected = inspect_upload(&plain, &Limits::default()).unwrap();
    let fetched = (".terraform/modules/m/main.tf", "");
    let with_more = crate::client::archive(&[("main.tf", &main), fetched]);
    let run = filled_by_somebody(&world, Some(inspected.sha256), with_more).await;
    stopped(&world, &run, "pre_plan", code).await;
}

/// A run of a configuration version that the agent opened, and that somebody filled who reads
/// upstream's address with a stolen token. The gateway knows it by the digest of `inspected`.
async fn filled_by_somebody(
    world: &World,
    inspected: Option<Hash>,
    archive: bytes::Bytes,
) -> String {
    let path = format!("/api/v2/workspaces/{APP}/configuration-versions");
    let attributes = json!({"auto-queue-runs": false});
    let body = json!({"data": {"type": "configuration-versions", "attributes": attributes}});
    let opened = world.agent().send(&path, &body).await.ok();
    let id = opened["data"]["id"].as_str().unwrap();
    let store = &world.app().store;
    let mut known = store.configuration(id).await.unwrap().unwrap();
    known.sha256 = inspected;
    store.save_configuration(known).await.unwrap();
    let owner = world.upstream("owner");
    let shown = owner
        .get(&format!("/api/v2/configuration-versions/{id}"))
        .await
        .ok();
    let address = shown["data"]["attributes"]["upload-url"].as_str().unwrap();
    owner
        .call(http::Method::PUT, address, &[], archive)
        .await
        .ok();
    let made = owner.run(APP, id, &json!({})).await.ok();
    made["data"]["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_plan_that_breaks_a_rule_is_stopped_before_anybody_is_asked() {
    if terraform().is_none() {
        return;
    }
    let rules = json!({"deny_actions": ["create"]});
    let setup = Setup::new().contract("/permissions/resources", rules);
    let world = setup.run_tasks().start().await;
    let cli = world.cli().await;
    let output = words(&cli.run(&["apply", "-auto-approve"]).await.failed());
    assert!(output.contains("(PLAN_ACTION_DENIED)"), "{output}");
    let run = world.runs().await.remove(0).run_id;
    stopped(&world, &run, "post_plan", "PLAN_ACTION_DENIED").await;
    let ended = world.run_at(&run, GateState::Errored).await;
    let reason = ended.gate_reason.unwrap();
    assert!(reason.starts_with("PLAN_ACTION_DENIED"), "{reason}");
    // Whoever waits for the apply is told, too.
    let apply = format!("/api/v2/applies/{}", ended.apply_id.unwrap());
    let apply = world.agent().get(&apply).await.ok();
    let log = apply["data"]["attributes"]["log-read-url"]
        .as_str()
        .unwrap();
    let log = world.agent().get(log).await;
    assert_eq!(log.code(), "PLAN_ACTION_DENIED", "{}", log.text());
    let bundle = world.valid_evidence().await;
    assert!(
        refusals(&bundle)
            .iter()
            .any(|code| code == "PLAN_ACTION_DENIED")
    );
}

#[tokio::test]
async fn a_plan_that_changes_after_the_last_look_is_not_applied() {
    let world = Setup::new().run_tasks().start().await;
    let run = world.agent().held_run().await;
    let apply = format!("/api/v2/runs/{run}/actions/apply");
    let fault = Fault::once("POST", &apply, FaultAction::Hold);
    let held = world.cloud.set_fault(fault).unwrap();
    world.approve(&run).await;
    world.run_at(&run, GateState::Applying).await;
    let mut plan = world.cloud.plan(&run).unwrap();
    plan["output_changes"]["planted"] = json!({"actions": ["create"], "before": null, "after": "x", "after_unknown": false,
               "before_sensitive": false, "after_sensitive": false});
    world.cloud.replace_plan(&run, plan).unwrap();
    world.cloud.release(&held);
    stopped(&world, &run, "pre_apply", "PLAN_CHANGED").await;
    world.run_at(&run, GateState::Errored).await;
}

#[tokio::test]
async fn a_contract_that_was_withdrawn_lets_nothing_pass() {
    let world = Setup::new().run_tasks().start().await;
    let upload = world.agent().upload().await;
    let operator = world.operator();
    let hash = world.app().store.job(&world.job).await.unwrap().unwrap();
    let path = format!("/v1/contracts/{}/withdraw", hash.policy_hash);
    let reason = json!({"reason": "too permissive"});
    operator.post(&path, &reason).await.ok();
    // What a job uploaded stands under the job's contract.
    let owner = world.upstream("owner");
    let made = owner.run(APP, &upload, &json!({})).await.ok();
    let run = made["data"]["id"].as_str().unwrap();
    stopped(&world, run, "pre_plan", "CONTRACT_WITHDRAWN").await;
    // For everything else there is no contract any more.
    let run = stolen(&world, APP, &[("main.tf", &two_instances())]).await;
    stopped(&world, &run, "pre_plan", "RUN_TASK_UNGOVERNED").await;
}

#[tokio::test]
async fn a_workspace_that_no_contract_names_is_stopped() {
    let world = Setup::new().run_tasks().start().await;
    let owner = world.upstream("owner");
    let tasks = owner.get("/api/v2/organizations/acme/tasks").await.ok();
    let attach = json!({"data": {
        "type": "workspace-tasks",
        "attributes": {"enforcement-level": "mandatory", "stages": ["pre_plan"]},
        "relationships": {"task": {"data": {"type": "tasks", "id": tasks["data"][0]["id"]}}},
    }});
    let path = format!("/api/v2/workspaces/{FOREIGN}/tasks");
    owner.send(&path, &attach).await.ok();
    let run = stolen(&world, FOREIGN, &[("main.tf", "")]).await;
    stopped(&world, &run, "pre_plan", "RUN_TASK_UNGOVERNED").await;
}

#[tokio::test]
async fn files_that_somebody_else_put_into_a_jobs_upload_are_found() {
    for inspected in [None, Some(Hash::of(b"other files"))] {
        let world = Setup::new().run_tasks().start().await;
        let archive = crate::client::archive(&[("main.tf", &two_instances())]);
        let run = filled_by_somebody(&world, inspected, archive).await;
        let code = match inspected {
            None => "CONFIGURATION_VERSION_NOT_INSPECTED",
            Some(_) => "CONFIGURATION_CHANGED",
        };
        stopped(&world, &run, "pre_plan", code).await;
    }
}

#[tokio::test]
async fn an_answer_that_does_not_arrive_is_sent_again() {
    let world = Setup::new().run_tasks().start().await;
    let callback = "/api/v2/task-results/";
    world
        .cloud
        .set_fault(Fault::once("PATCH", callback, FaultAction::Status(503)))
        .unwrap();
    let run = world.agent().held_run().await;
    assert_eq!(world.asked("PATCH", "/callback").len(), 3);
    let rows = world.app().store.task_calls(&run).await.unwrap();
    assert!(rows.iter().all(|row| row.reported_at.is_some()), "{rows:?}");
}

#[tokio::test]
async fn while_the_gateway_is_down_nothing_passes() {
    let mut world = Setup::new().run_tasks().start().await;
    world.stop().await;
    let run = stolen(&world, APP, &[("main.tf", &two_instances())]).await;
    let ended = world.cloud.wait_until_ended(&run).await.unwrap();
    assert_eq!(ended, RunStatus::Errored);
    assert_eq!(world.instances(), 1);
}

#[tokio::test]
async fn an_apply_that_went_past_the_gateway_is_noticed() {
    let world = Setup::new().run_tasks().start().await;
    // Somebody has taken the task off the stages that could stop it.
    let owner = world.upstream("owner");
    let path = format!("/api/v2/workspaces/{APP}/tasks");
    let attached = owner.get(&path).await.ok();
    let path = format!("{path}/{}", attached["data"][0]["id"].as_str().unwrap());
    let body = json!({"data": {"type": "workspace-tasks",
        "attributes": {"stages": ["post_apply"]}}});
    let headers = [("content-type", "application/vnd.api+json")];
    owner
        .call(http::Method::PATCH, &path, &headers, body.to_string())
        .await
        .ok();
    let run = stolen(&world, APP, &[("main.tf", &two_instances())]).await;
    let ended = world.cloud.wait_until_ended(&run).await.unwrap();
    assert_eq!(ended, RunStatus::Applied);
    let (row, code) = refused(&world, &run).await;
    assert_eq!(
        (row.call.stage.as_str(), code.as_str()),
        ("post_apply", "RUN_TASK_NOT_APPROVED")
    );
}
