//! D: secrets that an answer could hold.

use serde_json::json;
use sim::{Fault, FaultAction};

use super::{permitting, refused};
use crate::flow::{Planned, path_of, run_on};
use crate::rig::{Reply, Rig};

/// A key in the shape of a real one.
const KEY: &str = "AKIAQ3EGXMPLE7TESTAB";

/// A secret that nobody takes for one by its looks.
const PLAIN: &str = "correct horse battery staple";

impl Rig {
    /// The path of a plan's log.
    async fn log_of(&self, planned: &Planned) -> String {
        let plan = self.agent("GET", &format!("/api/v2/plans/{}", planned.plan));
        let plan = plan.send().await.ok();
        path_of(plan["data"]["attributes"]["log-read-url"].as_str().unwrap())
    }

    /// Makes a plan one that marks [`PLAIN`] as sensitive, in a variable.
    fn marks_plain(&self, run: &str) {
        let cloud = &self.sandbox.cloud;
        let mut plan = cloud.plan(run).unwrap();
        plan["configuration"]["root_module"]["variables"]["phrase"] = json!({"sensitive": true});
        plan["variables"]["phrase"] = json!({"value": PLAIN});
        cloud.replace_plan(run, plan).unwrap();
    }

    async fn piece(&self, log: &str, offset: usize, limit: usize) -> Reply {
        let path = format!("{log}?limit={limit}&offset={offset}");
        let piece = self.nobody("GET", &path).send().await;
        assert_eq!(piece.status, 200, "{}", piece.whole);
        piece
    }
}

#[tokio::test]
async fn d05_secrets_in_a_log_are_masked_however_it_is_read() {
    let rig = Rig::start().await;
    let own = rig.planned(&rig.sandbox.cst).await;
    rig.marks_plain(&own.run);
    let log = rig.log_of(&own).await;
    // The value is marked in the plan; nobody but the gateway reads that.
    let said = "Still creating... [10s elapsed]\n".repeat(600);
    let text = format!("{said}export AWS_KEY={KEY} of {PLAIN}\n{said}");
    rig.sandbox.cloud.rewrite_plan_log(&own.run, &text).unwrap();
    let masked = text
        .replace(KEY, &format!("AKIA{}", "*".repeat(16)))
        .replace(PLAIN, &"*".repeat(PLAIN.len()));
    let masked = format!("\x02{masked}\x03");
    let whole = rig.piece(&log, 0, 1 << 20).await.text();
    assert!(whole == masked, "{}", &whole[said.len()..][..200]);
    // As the CLI reads it, in pieces of any size, and around the secret byte by byte.
    for size in [1009, 8192, 65_536] {
        let mut read = Vec::new();
        while read.len() < masked.len() {
            read.extend(rig.piece(&log, read.len(), size).await.body);
        }
        assert!(read == masked.as_bytes(), "{size}");
    }
    for offset in said.len()..said.len() + 80 {
        let read = rig.piece(&log, offset, 3).await.body;
        assert_eq!(read, &masked.as_bytes()[offset..offset + 3]);
    }
    assert_eq!(rig.piece(&log, masked.len(), 10).await.body, b"");
}

/// The log of a plan that is being made, before anybody can know what it will mark.
#[tokio::test]
async fn d05_a_plan_in_progress_shows_no_secret_that_stood_there_before() {
    for somebody_planned_before in [false, true] {
        let rig = Rig::start().await;
        let cloud = &rig.sandbox.cloud;
        let token = &rig.sandbox.cst;
        if somebody_planned_before {
            // Past this gateway, or before it was started: it has read nothing so far.
            let theirs = rig.planned_by_a_person("ws-staging-app").await;
            cloud.wait_until_confirmable(&theirs.run).await.unwrap();
            rig.marks_plain(&theirs.run);
            rig.person(
                "POST",
                &format!("/api/v2/runs/{}/actions/discard", theirs.run),
            )
            .json_api(&json!({}))
            .send()
            .await
            .ok();
        }
        let work = Fault::once("ENGINE", "plan", FaultAction::Hold);
        let held = cloud.set_fault(work).unwrap();
        let own = rig.begun(token).await;
        let text = format!("{PLAIN} is\nno secret here\n");
        cloud.rewrite_plan_log(&own.run, &text).unwrap();
        let log = rig.log_of(&own).await;
        let masked = text.replace(PLAIN, &"*".repeat(PLAIN.len()));
        let live = if somebody_planned_before {
            format!("\x02{masked}")
        } else {
            // The client asks again.
            String::new()
        };
        for (offset, limit) in [(0, 65_536), (0, 20), (1, 9)] {
            let read = rig.piece(&log, offset, limit).await.text();
            let shown: String = live.chars().skip(offset).take(limit).collect();
            assert_eq!(read, shown, "{offset} {limit}");
        }
        cloud.release(&held);
        cloud.wait_until_confirmable(&own.run).await.unwrap();
        rig.marks_plain(&own.run);
        cloud.rewrite_plan_log(&own.run, &text).unwrap();
        let whole = rig.piece(&log, 0, 65_536).await.text();
        assert_eq!(whole, format!("\x02{masked}\x03"));
    }
}

/// What is marked past the bound is not looked for, so an agent that marks enough beside a secret
/// would be shown it.
#[tokio::test]
async fn d05_where_more_is_marked_than_can_be_masked_nothing_is_shown() {
    for held_back in [false, true] {
        let rig = Rig::start().await;
        let cloud = &rig.sandbox.cloud;
        let own = rig.planned(&rig.sandbox.cst).await;
        rig.marks_plain(&own.run);
        let mut plan = cloud.plan(&own.run).unwrap();
        let marked: usize = plan["variables"].as_object().unwrap().len();
        let more: Vec<String> = (0..2001 - marked).map(|n| format!("filler-{n}")).collect();
        if held_back {
            plan["output_changes"]["more"] = json!({
                "actions": ["create"], "before": null, "after": more, "after_sensitive": true,
            });
            cloud.replace_plan(&own.run, plan).unwrap();
        }
        let text = format!("here it is: {PLAIN}\n");
        cloud.rewrite_plan_log(&own.run, &text).unwrap();
        let redacted = format!("/api/v2/plans/{}/json-output-redacted", own.plan);
        let mut forgotten = rig.agent("GET", &redacted).send().await.ok();
        if held_back {
            // A value that upstream shows, and nobody knows to be marked.
            forgotten = json!({
                "plan_format_version": "1.2",
                "resource_changes": [{"address": "a.b", "change": {"actions": ["create"]}}],
            });
        }
        forgotten["resource_changes"][0]["change"]["after"] = json!({"note": PLAIN});
        cloud.replace_redacted_plan(&own.run, forgotten).unwrap();
        let log = rig.log_of(&own).await;
        let shown = rig.piece(&log, 0, 65_536).await.text();
        let json = rig.agent("GET", &redacted).send().await;
        let change = &json.ok()["resource_changes"][0]["change"];
        if held_back {
            assert_eq!(
                shown,
                format!("\x02{}\n\x03", policy::terraform::mask::HELD_BACK)
            );
            assert_eq!(change["after"], json!({}), "{}", json.whole);
            assert_eq!(change["after_sensitive"], json!(true));
            let why = json.ok()["held_back"].clone();
            assert_eq!(why, json!(policy::terraform::mask::HELD_BACK));
        } else {
            let stars = "*".repeat(PLAIN.len());
            assert_eq!(shown, format!("\x02here it is: {stars}\n\x03"));
            assert_eq!(change["after"]["note"], json!(stars), "{}", json.whole);
        }
        assert!(!shown.contains(PLAIN) && !json.whole.contains(PLAIN));
    }
}

#[tokio::test]
async fn d03_the_plan_is_shown_without_what_it_marks() {
    let rig = Rig::start().await;
    let own = rig.planned(&rig.sandbox.cst).await;
    let seen = rig.seen();
    for path in ["json-output", "json-schema"] {
        let path = format!("/api/v2/plans/{}/{path}", own.plan);
        let reply = rig.agent("GET", &path).send().await;
        assert_eq!(reply.refusal(), (403, "PLAN_JSON_DENIED".to_owned()));
    }
    rig.assert_silent(&seen, "a full plan");
    let redacted = format!("/api/v2/plans/{}/json-output-redacted", own.plan);
    let shown = rig.agent("GET", &redacted).send().await;
    let json = shown.ok();
    for member in [
        "prior_state",
        "planned_values",
        "variables",
        "configuration",
    ] {
        assert_eq!(json.get(member), None, "{member}");
    }
    assert_ne!(json["resource_changes"], json!(null));
    for secret in rig.sandbox.cloud.secrets() {
        assert!(!shown.whole.contains(&secret), "{}", shown.whole);
    }
}

/// Upstream's redaction goes by marks, and a value can lose its mark on the way.
#[tokio::test]
async fn d03_what_upstream_forgot_to_redact_is_masked() {
    let rig = Rig::start().await;
    let own = rig.planned(&rig.sandbox.cst).await;
    rig.marks_plain(&own.run);
    let path = format!("/api/v2/plans/{}/json-output-redacted", own.plan);
    let mut plan = rig.agent("GET", &path).send().await.ok();
    plan["resource_changes"][0]["change"]["after"] =
        json!({"note": format!("it is {PLAIN}"), "key": KEY});
    let cloud = &rig.sandbox.cloud;
    cloud.replace_redacted_plan(&own.run, plan).unwrap();
    let shown = rig.agent("GET", &path).send().await;
    let after = &shown.ok()["resource_changes"][0]["change"]["after"];
    let masked = format!("it is {}", "*".repeat(PLAIN.len()));
    assert_eq!(after["note"], json!(masked), "{}", shown.whole);
    assert_eq!(after["key"], json!(format!("AKIA{}", "*".repeat(16))));
}

/// The example contract, with state and outputs readable.
fn open_contract() -> String {
    policy::EXAMPLE_CONTRACT.replace(
        "\"state_read\": false",
        "\"state_read\": true, \"outputs_read\": true",
    )
}

#[tokio::test]
async fn d01_addresses_of_state_are_not_given_out() {
    let rig = Rig::under(&open_contract()).await;
    let path = "/api/v2/workspaces/ws-staging-app/current-state-version";
    let reply = rig.agent("GET", path).send().await;
    let attributes = reply.ok()["data"]["attributes"].clone();
    let names: Vec<&String> = attributes.as_object().unwrap().keys().collect();
    assert!(!names.iter().any(|name| name.contains("url")), "{names:?}");
    assert!(!reply.whole.contains("/v1/object/"), "{}", reply.whole);
    assert!(!reply.whole.contains(&rig.sandbox.cloud.archivist_url()));
}

#[tokio::test]
async fn d02_sensitive_outputs_have_no_value() {
    let rig = Rig::under(&open_contract()).await;
    let list = "/api/v2/workspaces/ws-staging-db/current-state-version-outputs";
    let outputs = rig.agent("GET", list).send().await.ok();
    let mut values = Vec::new();
    for output in outputs["data"].as_array().unwrap() {
        let id = output["id"].as_str().unwrap();
        let path = format!("/api/v2/state-version-outputs/{id}");
        // Upstream shows the value when it is asked for one output.
        let one = rig.agent("GET", &path).send().await.ok();
        assert_eq!(
            one["data"]["attributes"]["value"],
            output["attributes"]["value"]
        );
        values.push((
            output["attributes"]["sensitive"] == json!(true),
            output["attributes"]["value"].is_null(),
        ));
    }
    values.sort_unstable();
    assert_eq!(values, [(false, false), (true, true)]);
    let rig = Rig::start().await;
    refused(
        &rig,
        vec![
            (rig.agent("GET", list), "OUTPUTS_READ_DENIED"),
            (
                rig.agent("GET", "/api/v2/state-versions/sv-0000000000000001/outputs"),
                "OUTPUTS_READ_DENIED",
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn d12_a_run_does_not_echo_its_variables_or_who_made_it() {
    let rig = Rig::under(&permitting("\"run\": {\"variables\": [\"size\"]}")).await;
    let token = rig.sandbox.cst.clone();
    let configured = rig.uploaded(&token, "ws-staging-app").await;
    let mut body = run_on("ws-staging-app", Some(&configured));
    body["data"]["attributes"]["variables"] = json!([{"key": "size", "value": "\"v-secret-9\""}]);
    let created = rig.start_run(&token, &body).await;
    let run = created.ok()["data"]["id"].as_str().unwrap().to_owned();
    let read = rig
        .agent("GET", &format!("/api/v2/runs/{run}"))
        .send()
        .await;
    let list = rig
        .agent("GET", "/api/v2/workspaces/ws-staging-app/runs")
        .send()
        .await;
    assert!(!list.whole.contains("created-by"), "{}", list.whole);
    for own in [&created, &read] {
        let by = &own.ok()["data"]["relationships"]["created-by"]["data"];
        assert_eq!(by["id"], "user-clawgate", "the agent, as in its account");
    }
    for reply in [created, read, list] {
        reply.ok();
        for never in ["v-secret-9", "variables", "user-planner"] {
            assert!(!reply.whole.contains(never), "{never}: {}", reply.whole);
        }
    }
}

#[tokio::test]
async fn d17_the_account_is_the_jobs() {
    let rig = Rig::start().await;
    let seen = rig.seen();
    let account = rig
        .agent("GET", "/api/v2/account/details")
        .send()
        .await
        .ok();
    assert_eq!(
        account["data"]["attributes"]["username"],
        json!(rig.sandbox.job_id.as_str())
    );
    rig.assert_silent(&seen, "a question of identity");
    let closed = [
        ("/api/v2/organizations", "ROUTE_NOT_ALLOWED"),
        ("/api/v2/organizations/acme", "ROUTE_NOT_ALLOWED"),
        ("/api/v2/organization-memberships", "ADMIN_DENIED"),
        ("/api/v2/users/user-1", "ACCOUNT_DENIED"),
    ];
    let closed = closed.map(|(path, code)| (rig.agent("GET", path), code));
    refused(&rig, closed.to_vec()).await;
}
