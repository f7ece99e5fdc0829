//! C: another workspace than those of the contract.

use proof::Hash;
use serde_json::json;

use super::apply::{id, made, sent};
use crate::flow::{archive, good_archive, run_on};
use crate::rig::Rig;

#[tokio::test]
async fn c03_a_run_without_a_configuration_plans_one_that_was_inspected() {
    let rig = Rig::start().await;
    let token = rig.sandbox.cst.clone();
    let body = run_on("ws-staging-app", None);
    let start = async || rig.start_run(&token, &body).await;
    let refused = async |status: u16, code: &str| {
        let reply = start().await;
        assert_eq!(
            reply.refusal(),
            (status, code.to_owned()),
            "{}",
            reply.whole
        );
        assert_eq!(made(&rig).len(), 0, "{code}");
        reply.text()
    };
    // There is none.
    refused(403, "CONFIGURATION_VERSION_REQUIRED").await;
    let outside = rig
        .start_run(&token, &run_on("ws-production-app", None))
        .await;
    assert_eq!(outside.refusal(), (403, "WORKSPACE_NOT_ALLOWED".to_owned()));
    // Somebody's breaks a rule of the contract, and the agent is told which.
    let hostile = archive(&[(
        "main.tf",
        "output \"x\" {\n  value = file(\"/proc/self/environ\")\n}\n",
    )]);
    let theirs = rig.uploaded_by_a_person("ws-staging-app", hostile).await;
    let told = refused(422, "CONFIGURATION_FUNCTION").await;
    assert!(
        told.contains(&theirs) && told.contains("main.tf:2"),
        "{told}"
    );
    // Somebody's holds modules that nobody judged.
    let fetched = archive(&[
        ("main.tf", "output \"x\" {\n  value = 1\n}\n"),
        (".terraform/modules/m/main.tf", "# fetched"),
    ]);
    rig.uploaded_by_a_person("ws-staging-app", fetched).await;
    refused(403, "CONFIGURATION_VERSION_NOT_INSPECTED").await;
    // Somebody's is good: it is named in the run, and its digest is what approvers sign.
    let good = good_archive();
    let digest = Hash::of(&good);
    let theirs = rig.uploaded_by_a_person("ws-staging-app", good).await;
    let run = id(&start().await);
    let named =
        |rig: &Rig| sent(rig)["relationships"]["configuration-version"]["data"]["id"].clone();
    assert_eq!(named(&rig), json!(theirs));
    let row = rig.app().store.run(&run).await.unwrap().unwrap();
    assert_eq!(
        (row.configuration_version_id, row.configuration_sha256),
        (Some(theirs.clone()), Some(digest))
    );
    // It is no more the agent's for that.
    let explicit = rig
        .start_run(&token, &run_on("ws-staging-app", Some(&theirs)))
        .await;
    assert_eq!(explicit.refusal(), (404, "OBJECT_UNKNOWN".to_owned()));
    // The job's own latest needs no second look.
    let own = rig.uploaded(&token, "ws-staging-app").await;
    rig.agent("GET", &format!("/api/v2/runs/{run}"))
        .send()
        .await
        .ok();
    start().await.ok();
    assert_eq!(named(&rig), json!(own));
}
