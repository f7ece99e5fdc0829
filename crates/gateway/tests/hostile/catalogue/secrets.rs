//! D: secrets that an answer could hold.

use serde_json::json;

use crate::flow::{Planned, path_of};
use crate::rig::{Reply, Rig};

/// A key in the shape of a real one.
const KEY: &str = "AKIAQ3EGXMPLE7TESTAB";

impl Rig {
    /// The path of a plan's log.
    async fn log_of(&self, planned: &Planned) -> String {
        let plan = self.agent("GET", &format!("/api/v2/plans/{}", planned.plan));
        let plan = plan.send().await.ok();
        path_of(plan["data"]["attributes"]["log-read-url"].as_str().unwrap())
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
    let secret = rig.sandbox.cloud.secrets()[0].clone();
    let log = rig.log_of(&own).await;
    // The value is marked in the plan, which the agent reads as the CLI does.
    let redacted = format!("/api/v2/plans/{}/json-output-redacted", own.plan);
    rig.agent("GET", &redacted).send().await.ok();
    let said = "Still creating... [10s elapsed]\n".repeat(600);
    let text = format!("{said}export AWS_KEY={KEY} of {secret}\n{said}");
    rig.sandbox.cloud.rewrite_plan_log(&own.run, &text).unwrap();
    let masked = text
        .replace(KEY, &format!("AKIA{}", "*".repeat(16)))
        .replace(&secret, &"*".repeat(secret.len()));
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
    assert!(!shown.whole.contains(&rig.sandbox.cloud.secrets()[0]));
}
