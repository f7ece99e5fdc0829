//! What happens to governed workspaces past the gateway, and how it is seen.

use std::sync::Arc;

use clawgate::watching::look::look;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::Method;
use serde_json::{Value, json};
use sha2::Sha512;
use sim::{Fault, FaultAction, RunStatus};
use store::{GateState, ObservationFilter, ObservationRow};

use crate::client::{Answer, Caller};
use crate::terraform::two_instances;
use crate::world::{APP, Setup, World};

/// A workspace that the contract does not name.
const FOREIGN: &str = "ws-production-app";

/// Another workspace of the contract.
const BETWEEN: &str = "ws-staging-db";

const PATH: &str = "/v1/notifications";

impl World {
    /// Looks at the workspace now; gives what is new, as kind and subject.
    async fn look(&self) -> Vec<(String, String)> {
        let rows = look(&self.gateway().app, APP, "poll").await.unwrap();
        named(&rows)
    }

    async fn observations(&self) -> Vec<ObservationRow> {
        let all = ObservationFilter {
            limit: 100,
            ..ObservationFilter::default()
        };
        self.app().store.observations(all).await.unwrap()
    }

    /// A run that somebody makes with an upstream account of his own.
    async fn run_past_the_gateway(&self, attributes: &Value) -> String {
        let owner = self.upstream("owner");
        let text = two_instances();
        let upload = owner.upload(APP, false, &[("main.tf", &text)]).await;
        let made = owner.run(APP, &upload.unwrap(), attributes).await.ok();
        made["data"]["id"].as_str().unwrap().to_owned()
    }

    /// What the notifications' key makes of a body.
    fn notification_signature(&self, body: &str) -> String {
        let file = self.folder().join("secrets/notifications");
        let key = std::fs::read_to_string(file).unwrap();
        let mut mac = Hmac::<Sha512>::new_from_slice(key.trim().as_bytes()).unwrap();
        mac.update(body.as_bytes());
        let bytes = mac.finalize().into_bytes();
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    async fn notify(&self, body: &str, signatures: &[&str]) -> Answer {
        let caller = Caller::new(&self.gateway().operator_url, None);
        let mut headers = vec![("content-type", "application/json")];
        let signatures = signatures.iter();
        headers.extend(signatures.map(|one| ("x-tfe-notification-signature", *one)));
        caller
            .call(Method::POST, PATH, &headers, body.to_owned())
            .await
    }
}

fn named(rows: &[ObservationRow]) -> Vec<(String, String)> {
    let rows = rows.iter().map(|row| &row.observation);
    rows.map(|seen| (seen.kind.clone(), seen.subject.clone()))
        .collect()
}

fn told_of(workspace: &str) -> String {
    json!({
        "payload_version": 1, "run_id": "run-1", "workspace_id": workspace,
        "notifications": [{"trigger": "run:created", "run_status": "pending"}],
    })
    .to_string()
}

#[tokio::test]
async fn what_comes_through_the_gateway_is_not_seen_outside_it() {
    let world = Setup::new().start().await;
    assert_eq!(world.look().await, [], "the first look makes the baseline");
    let run = world.agent().held_run().await;
    assert_eq!(world.look().await, []);
    world.approve(&run).await;
    let applied = world.run_at(&run, GateState::Applied).await;
    assert_eq!(world.look().await, []);
    // Nor is a rollback of ours, whose state version no run has made.
    let body = json!({
        "workspace_id": APP, "state_version_id": applied.state_version_before,
        "reason": "it was wrong",
    });
    world
        .operator()
        .post("/v1/rollback/state", &body)
        .await
        .ok();
    assert_eq!(world.look().await, []);
    world.valid_evidence().await;
}

#[tokio::test]
async fn what_is_done_past_the_gateway_is_seen_once() {
    let world = Setup::new().start().await;
    let before = world.run_past_the_gateway(&json!({})).await;
    world.cloud.wait_until_confirmable(&before).await.unwrap();
    assert_eq!(world.look().await, [], "what was there before is not told");
    let owner = world.upstream("owner");
    let discard = format!("/api/v2/runs/{before}/actions/discard");
    owner.post(&discard, &json!({})).await;

    let run = world
        .run_past_the_gateway(&json!({"auto-apply": true}))
        .await;
    world.cloud.wait_until_ended(&run).await.unwrap();
    let current = format!("/api/v2/workspaces/{APP}/current-state-version");
    let state = owner.get(&current).await.ok()["data"]["id"].clone();
    let seen = |kind: &str, subject: &str| (kind.to_owned(), subject.to_owned());
    assert_eq!(
        world.look().await,
        [
            seen("run.created", &run),
            seen("run.applied", &run),
            seen("state.changed", state.as_str().unwrap()),
        ]
    );
    assert_eq!(world.look().await, [], "it is told once");

    // A state that somebody writes has no run.
    for (method, path, body) in [
        ("POST", "actions/lock", json!({})),
        (
            "PATCH",
            "state-versions",
            json!({"data": {"type": "state-versions", "relationships": {
                "rollback-state-version": {"data": {"type": "state-versions", "id": state}},
            }}}),
        ),
        ("POST", "actions/unlock", json!({})),
    ] {
        let path = format!("/api/v2/workspaces/{APP}/{path}");
        let method = method.parse().unwrap();
        let done = owner.call(method, &path, &[], body.to_string()).await;
        assert!(done.status.is_success(), "{path}: {}", done.text());
    }
    let written = owner.get(&current).await.ok()["data"]["id"].clone();
    let written = written.as_str().unwrap().to_owned();
    assert_eq!(world.look().await, [seen("state.changed", &written)]);
    let latest = &world.observations().await[0].observation;
    assert_eq!(latest.detail.get("run_id"), Some(&proof::Json::Null));
}

#[tokio::test]
async fn an_apply_of_a_jobs_run_that_the_gate_did_not_ask_for_is_seen() {
    let world = Setup::new().start().await;
    world.look().await;
    let run = world.agent().held_run().await;
    let owner = world.upstream("owner");
    let apply = format!("/api/v2/runs/{run}/actions/apply");
    owner.post(&apply, &json!({})).await;
    world.cloud.wait_until_ended(&run).await.unwrap();
    world.look().await;
    let observations = world.observations().await;
    let applied = observations
        .iter()
        .find(|row| row.observation.kind == "run.applied")
        .unwrap();
    let detail = &applied.observation.detail;
    let job = detail.get("job_id").and_then(proof::Json::as_str);
    assert_eq!(job, Some(world.job.as_str()));
    let created = |row: &&ObservationRow| row.observation.kind == "run.created";
    assert_eq!(observations.iter().find(created), None, "the run is ours");
    // The approver's page says it, too.
    let path = format!("/v1/approvals/{run}");
    let approval = world.operator().get(&path).await.ok();
    assert!(approval["outside"].to_string().contains("applied outside"));
    let page = format!("/trust-pulse/jobs/{}", world.job);
    let page = world.operator().get(&page).await.text();
    assert!(page.contains("applied outside the gateway"), "{page}");
}

#[tokio::test]
async fn settings_that_move_are_seen_until_a_person_accepts_them() {
    let world = Setup::new().start().await;
    world.look().await;
    let owner = world.upstream("owner");
    world
        .cloud
        .change_settings(APP, |settings| {
            settings.auto_apply = true;
            settings.auto_destroy_at = Some("2026-12-24T18:00:00Z".to_owned());
            settings.vcs_repo = Some(sim::VcsRepo {
                identifier: "acme/app".to_owned(),
                branch: "main".to_owned(),
            });
        })
        .unwrap();
    let consumers = format!("/api/v2/workspaces/{APP}/relationships/remote-state-consumers");
    let more = json!({"data": [{"id": FOREIGN, "type": "workspaces"}]});
    owner.post(&consumers, &more).await;
    let triggers = format!("/api/v2/workspaces/{APP}/run-triggers");
    let source = json!({"data": {"relationships": {
        "sourceable": {"data": {"id": FOREIGN, "type": "workspaces"}},
    }}});
    owner.post(&triggers, &source).await.ok();
    let moved: Vec<String> = world
        .look()
        .await
        .into_iter()
        .map(|(_, name)| name)
        .collect();
    assert_eq!(
        moved,
        [
            "auto-apply",
            "auto-destroy-at",
            "remote-state-consumers",
            "run-triggers-inbound",
            "vcs-repo",
        ]
    );
    let operator = world.operator();
    let path = format!("/v1/watch/{APP}");
    let shown = operator.get(&path).await.ok();
    assert_eq!(shown["drift"].as_array().unwrap().len(), 5);
    assert_eq!(shown["accepted_by"], "first look");
    let page = operator.get("/trust-pulse/outside").await;
    assert!(page.text().contains("auto-destroy-at"), "{}", page.text());

    // What was shown is accepted, and nothing else.
    let accept = format!("{path}/accept");
    let mut other = shown["seen"].clone();
    other["auto-apply"] = json!(false);
    let stale = json!({"seen": other, "reason": "known"});
    assert_eq!(
        operator.post(&accept, &stale).await.code(),
        "SETTINGS_MOVED"
    );
    let seen = json!({"seen": shown["seen"], "reason": "known"});
    let accepted = operator.post(&accept, &seen).await.ok();
    assert_eq!(accepted["drift"], json!([]));
    let actions = world.app().store.operator_actions(9).await.unwrap();
    assert!(actions.iter().any(|done| done.action == "watch.accept"));
    // And back again is a change again.
    let back = |settings: &mut sim::Settings| settings.auto_apply = false;
    world.cloud.change_settings(APP, back).unwrap();
    assert_eq!(world.look().await.len(), 1);
}

#[tokio::test]
async fn terraform_clouds_own_notifications_make_the_gateway_look() {
    let world = Setup::new().start().await;
    world.look().await;
    let owner = world.upstream("owner");
    let key = std::fs::read_to_string(world.folder().join("secrets/notifications")).unwrap();
    let path = format!("/api/v2/workspaces/{APP}/notification-configurations");
    let hook = |token: &str| {
        json!({"data": {"type": "notification-configurations", "attributes": {
            "destination-type": "generic", "name": "clawgate", "enabled": true, "token": token,
            "url": format!("{}{PATH}", world.gateway().operator_url),
            "triggers": ["run:created", "run:completed"],
        }}})
    };
    // The vendor verifies the address first, with the token that it was given.
    let refused = owner.post(&path, &hook("another key")).await;
    assert_eq!(refused.status, 422, "{}", refused.text());
    owner.post(&path, &hook(key.trim())).await.ok();
    let run = world.run_past_the_gateway(&json!({})).await;
    let seen = world
        .until(async || {
            let rows = world.observations().await;
            rows.into_iter().find(|row| row.observation.subject == run)
        })
        .await;
    assert_eq!(seen.observation.kind, "run.created");
    assert_eq!(seen.observation.source, "notification");
}

#[tokio::test]
async fn only_what_the_key_has_signed_about_a_governed_workspace_is_heeded() {
    let world = Setup::new().start().await;
    let body = told_of(APP);
    let good = world.notification_signature(&body);
    let mut wrong = good.clone();
    wrong.replace_range(..1, if good.starts_with('0') { "1" } else { "0" });
    let longer = format!("{body} ");
    for (body, signatures) in [
        (&body, vec![]),
        (&body, vec![""]),
        (&body, vec![wrong.as_str()]),
        (&body, vec![&good[2..]]),
        (&body, vec![good.as_str(), good.as_str()]),
        (&longer, vec![good.as_str()]),
    ] {
        let refused = world.notify(body, &signatures).await;
        assert_eq!(refused.status, 403, "{signatures:?}");
        assert_eq!(refused.code(), "NOTIFICATION_SIGNATURE", "{signatures:?}");
    }
    let large = format!("{body}{}", " ".repeat(64 * 1024));
    for (body, status, code) in [
        (told_of(FOREIGN), 403, "WORKSPACE_NOT_ALLOWED"),
        (told_of("ws-../admin"), 400, "ID_MALFORMED"),
        ("{}".to_owned(), 400, "BODY_WRONG_TYPE"),
        ("not JSON".to_owned(), 400, "BODY_NOT_JSON"),
        (large, 413, "BODY_TOO_LARGE"),
    ] {
        let signature = world.notification_signature(&body);
        let refused = world.notify(&body, &[&signature]).await;
        assert_eq!(
            (refused.status.as_u16(), refused.code().as_str()),
            (status, code)
        );
    }
    // Nothing of this made the gateway look; a good one does, and its replay tells nothing new.
    assert_eq!(world.app().store.baselines().await.unwrap(), []);
    let baseline = async || world.app().store.baseline(APP).await.unwrap();
    for _ in 0..2 {
        assert_eq!(world.notify(&body, &[&good]).await.status, 200);
    }
    world.until(baseline).await;
    assert_eq!(world.observations().await, []);
}

#[tokio::test]
async fn polling_looks_at_governed_workspaces_and_can_be_switched_off() {
    let mut setup = Setup::new();
    setup.config = Box::new(|config| {
        config.limits.drain_seconds = 1;
        config.watching.poll_seconds = 10;
        config.watching.notification_key = None;
    });
    let world = setup.start().await;
    let baselines = async || {
        let baselines = world.app().store.baselines().await.unwrap();
        let ids: Vec<String> = baselines.into_iter().map(|row| row.workspace_id).collect();
        ids.contains(&APP.to_owned()).then_some(ids)
    };
    let looked_at = world.until(baselines).await;
    assert!(!looked_at.contains(&FOREIGN.to_owned()), "{looked_at:?}");
    let foreign = format!("/api/v2/workspaces/{FOREIGN}");
    assert!(world.asked("GET", &foreign).is_empty());
    // Without a key there is no endpoint.
    assert_eq!(world.notify("{}", &[]).await.code(), "PAGE_UNKNOWN");
}

/// Lets an apply in the governed workspace start a run elsewhere.
async fn trigger(world: &World, downstream: &str) {
    trigger_by(world, APP, downstream).await;
}

/// Lets an apply in `source` start a run in `downstream`.
async fn trigger_by(world: &World, source: &str, downstream: &str) {
    let path = format!("/api/v2/workspaces/{downstream}/run-triggers");
    let source = json!({"data": {"relationships": {
        "sourceable": {"data": {"id": source, "type": "workspaces"}},
    }}});
    world.upstream("owner").post(&path, &source).await.ok();
}

#[tokio::test]
async fn b14_an_apply_that_would_apply_elsewhere_by_itself_is_refused() {
    let world = Setup::new().start().await;
    trigger(&world, FOREIGN).await;
    let by_itself = |settings: &mut sim::Settings| settings.auto_apply_run_trigger = true;
    world.cloud.change_settings(FOREIGN, by_itself).unwrap();
    let agent = world.agent();
    let upload = agent.upload().await;
    let made = agent.run(&upload, &json!({"auto-apply": true})).await.ok();
    let run = made["data"]["id"].as_str().unwrap();
    let refused = world.run_at(run, GateState::Discarded).await;
    let reason = refused.gate_reason.unwrap();
    assert!(reason.starts_with("DOWNSTREAM_AUTO_APPLIES"), "{reason}");
    assert!(reason.contains(FOREIGN), "{reason}");
    world.cloud.wait_until_ended(run).await.unwrap();
    world.valid_evidence().await;
}

/// The workspace in between is in the contract and applies by itself, which is its author's will;
/// what it starts in turn is not.
#[tokio::test]
async fn b14_nor_may_an_apply_do_so_by_way_of_another() {
    let by_itself = |settings: &mut sim::Settings| settings.auto_apply_run_trigger = true;
    for (between_applies, goes_on) in [(true, false), (false, true)] {
        let world = Setup::new().start().await;
        trigger(&world, BETWEEN).await;
        trigger_by(&world, BETWEEN, FOREIGN).await;
        // In a circle, too.
        trigger_by(&world, BETWEEN, APP).await;
        world.cloud.change_settings(FOREIGN, by_itself).unwrap();
        if between_applies {
            world.cloud.change_settings(BETWEEN, by_itself).unwrap();
        }
        let agent = world.agent();
        let upload = agent.upload().await;
        let made = agent.run(&upload, &json!({"auto-apply": true})).await.ok();
        let run = made["data"]["id"].as_str().unwrap();
        if goes_on {
            world.run_at(run, GateState::AwaitingApproval).await;
            continue;
        }
        let refused = world.run_at(run, GateState::Discarded).await;
        let reason = refused.gate_reason.unwrap();
        assert!(reason.starts_with("DOWNSTREAM_AUTO_APPLIES"), "{reason}");
        let way = format!("{FOREIGN} (production-app) by way of {BETWEEN}");
        assert!(reason.contains(&way), "{reason}");
        world.cloud.wait_until_ended(run).await.unwrap();
        world.valid_evidence().await;
    }
}

/// Readers that do not fit a page are named like the others, and one of them changed voids the
/// approval.
#[tokio::test]
async fn the_approver_is_shown_all_who_read_the_state() {
    let mut setup = Setup::new();
    let reader = |n: u32| format!("ws-reader-{n:03}");
    for n in 0..=120 {
        let mut seed = setup.cloud.workspaces[1].clone();
        seed.id = reader(n);
        seed.name = format!("reader-{n:03}");
        setup.cloud.workspaces.push(seed);
    }
    let world = setup.start().await;
    let owner = world.upstream("owner");
    let path = format!("/api/v2/workspaces/{APP}/relationships/remote-state-consumers");
    let consumers = |ids: Vec<String>| {
        let data = ids.into_iter();
        let data = data.map(|id| json!({"id": id, "type": "workspaces"}));
        json!({"data": data.collect::<Vec<_>>()})
    };
    owner
        .post(&path, &consumers((0..120).map(reader).collect()))
        .await;
    let run = world.agent().held_run().await;
    let question = world.operator().get(&format!("/v1/approvals/{run}")).await;
    let readers = &question.ok()["summary"]["reach"]["state_read_by"]["workspaces"];
    let expected: Vec<String> = (0..120).map(reader).collect();
    assert_eq!(*readers, json!(expected));
    let yes = world.yes(&run, 0).await;
    owner.post(&path, &consumers(vec![reader(120)])).await;
    world.submit(&run, &yes).await.ok();
    let voided = world.run_at(&run, GateState::Superseded).await;
    let reason = voided.gate_reason.unwrap();
    assert!(reason.starts_with("APPROVAL_RUN_CHANGED"), "{reason}");
}

#[tokio::test]
async fn the_approver_is_shown_where_an_apply_leads_and_a_change_voids_the_approval() {
    let world = Setup::new().start().await;
    world.look().await;
    trigger(&world, FOREIGN).await;
    let shared = |settings: &mut sim::Settings| settings.global_remote_state = true;
    world.cloud.change_settings(APP, shared).unwrap();
    let run = world.agent().held_run().await;
    let path = format!("/v1/approvals/{run}");
    let question = world.operator().get(&path).await.ok();
    let summary = &question["summary"];
    let downstream = &summary["reach"]["downstream"][0];
    assert_eq!(downstream["workspace_id"], FOREIGN);
    assert_eq!(downstream["auto_applies"], false);
    assert_eq!(downstream["in_contract"], false);
    assert_eq!(summary["reach"]["state_read_by"]["organization"], true);
    assert_eq!(summary["reach"]["auto_apply"], false);
    let drift: Vec<&str> = summary["drift"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|change| change["setting"].as_str())
        .collect();
    assert_eq!(drift, ["global-remote-state", "run-triggers-outbound"]);
    // One more workspace behind it, between the question and the answer.
    let yes = world.yes(&run, 0).await;
    trigger(&world, "ws-staging-db").await;
    world.submit(&run, &yes).await.ok();
    let voided = world.run_at(&run, GateState::Superseded).await;
    let reason = voided.gate_reason.unwrap();
    assert!(reason.starts_with("APPROVAL_RUN_CHANGED"), "{reason}");
    assert_eq!(world.instances(), 1);
    world.valid_evidence().await;
}

#[tokio::test]
async fn a_run_trigger_that_waits_for_confirmation_is_no_obstacle() {
    let world = Setup::new().start().await;
    trigger(&world, FOREIGN).await;
    let run = world.agent().held_run().await;
    world.approve(&run).await;
    world.run_at(&run, GateState::Applied).await;
    world.valid_evidence().await;
}

#[tokio::test]
async fn runs_are_refused_where_no_gate_could_hold_them() {
    let mut setup = Setup::new();
    setup.cloud.app_name = "Terraform Enterprise".to_owned();
    let world = setup.start().await;
    let agent = world.agent();
    let upload = agent.upload().await;
    let configurations = format!("/api/v2/workspaces/{APP}/configuration-versions");
    let open = json!({"data": {"type": "configuration-versions", "attributes": {}}});
    type Change = fn(&mut sim::Settings);
    let settings: [(Change, &str, Option<&str>); 3] = [
        (
            |settings| settings.auto_apply = true,
            "WORKSPACE_AUTO_APPLIES",
            None,
        ),
        (
            |settings| {
                settings.auto_apply = false;
                settings.execution_mode = sim::ExecutionMode::Local;
            },
            "WORKSPACE_EXECUTES_LOCALLY",
            Some("WORKSPACE_EXECUTES_LOCALLY"),
        ),
        (
            |settings| settings.execution_mode = sim::ExecutionMode::Agent,
            "",
            None,
        ),
    ];
    for (change, of_runs, of_uploads) in settings {
        world.cloud.change_settings(APP, change).unwrap();
        let made = agent.run(&upload, &json!({})).await;
        assert_eq!(made.code(), of_runs, "{}", made.text());
        let opened = agent.send(&configurations, &open).await;
        assert_eq!(opened.code(), of_uploads.unwrap_or_default());
    }
    assert_eq!(world.asked("POST", "/api/v2/runs").len(), 1);
    world.valid_evidence().await;
}

#[tokio::test]
async fn a_contract_that_only_plans_does_not_mind_auto_apply() {
    let mut setup = Setup::new()
        .contract("/permissions/operations", json!(["plan"]))
        .contract("/permissions/apply", json!({"allowed": false}));
    setup.cloud.app_name = "Terraform Enterprise".to_owned();
    let world = setup.start().await;
    let by_itself = |settings: &mut sim::Settings| settings.auto_apply = true;
    world.cloud.change_settings(APP, by_itself).unwrap();
    let agent = world.agent();
    let upload = agent.upload().await;
    agent.run(&upload, &json!({})).await.ok();
}

#[tokio::test]
async fn a_run_that_upstream_would_apply_all_the_same_is_stopped() {
    let mut setup = Setup::new();
    setup.cloud.honour_auto_apply = false;
    let world = setup.start().await;
    let by_itself = |settings: &mut sim::Settings| settings.auto_apply = true;
    world.cloud.change_settings(APP, by_itself).unwrap();
    let agent = world.agent();
    let upload = agent.upload().await;
    // The plan takes its time, as plans do.
    let slow = Fault::once("ENGINE", "plan", FaultAction::Hold);
    world.cloud.set_fault(slow).unwrap();
    let made = agent.run(&upload, &json!({})).await.ok();
    let run = made["data"]["id"].as_str().unwrap();
    let ended = world.cloud.wait_until_ended(run).await.unwrap();
    assert_eq!(ended, RunStatus::Canceled);
    let stopped = world.run_at(run, GateState::Discarded).await;
    let reason = stopped.gate_reason.unwrap();
    assert!(reason.starts_with("WORKSPACE_AUTO_APPLIES"), "{reason}");
    assert_eq!(world.instances(), 1);
    world.valid_evidence().await;
}

#[tokio::test]
async fn many_agents_keep_to_upstreams_limit() {
    let mut setup = Setup::new();
    setup.cloud.requests_per_second = Some(30);
    setup.config = Box::new(|config| {
        config.limits.drain_seconds = 1;
        config.limits.upstream_requests_per_second = 30;
    });
    let world = Arc::new(setup.start().await);
    let asking: Vec<_> = (0..60)
        .map(|_| {
            let world = Arc::clone(&world);
            async move {
                let path = format!("/api/v2/workspaces/{APP}");
                world.agent().get(&path).await.status.as_u16()
            }
        })
        .collect();
    let answers = futures_util::future::join_all(asking).await;
    // No agent is told of the limit: the gateway asks no faster than it may.
    assert_eq!(answers, vec![200; 60]);
}
