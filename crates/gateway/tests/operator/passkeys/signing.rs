//! Approvals and denials by passkey.

use proof::hash::encode_b64u;
use proof::passkey::testing::{PRESENT, SoftAuthenticator};
use serde_json::{Value, json};
use store::GateState;

use crate::approvals::{run_at, waiting_run};
use crate::world::{APPROVER, World};

use super::*;

#[tokio::test]
async fn a_passkey_approves_exactly_what_it_signed() {
    let world = World::at(ORIGIN).await;
    let admin = world.admin().await;
    let job = admin.job().await;
    let subject = waiting_run(&world, &job, "run-1").await;
    waiting_run(&world, &job, "run-2").await;
    let mut one = passkey(1);
    one.sign_count = 5;
    let nobody = asked(&admin, "run-1", approve()).await;
    assert_eq!(nobody.code(), "PASSKEY_UNKNOWN", "not enrolled yet");
    enrolled(&admin, APPROVER, &one).await;

    let question = asked(&admin, "run-1", approve()).await.ok();
    let statement = &question["statement"];
    assert_eq!(
        statement["plan_sha256_b64u"],
        json!(subject.plan_sha256_b64u)
    );
    assert_eq!(statement["approver_did"], one.did().as_str());
    assert_eq!(
        question["options"]["challenge"],
        question["statement_hash_b64u"]
    );
    assert_eq!(
        question["options"]["allowCredentials"][0]["id"],
        encode_b64u(&one.credential_id)
    );
    let challenge = challenge(&question["options"]);

    // The authenticator or the browser is not what it should be.
    type Edit = fn(&mut SoftAuthenticator);
    let table: [(&str, Edit, &str); 7] = [
        (
            "another origin",
            |p| p.origin = "https://evil.example".into(),
            "PASSKEY_WRONG_SITE",
        ),
        (
            "another relying party",
            |p| p.rp_id = "example.com".into(),
            "PASSKEY_WRONG_SITE",
        ),
        (
            "in a frame",
            |p| p.more = ",\"topOrigin\":\"x\"".into(),
            "PASSKEY_WRONG_SITE",
        ),
        (
            "nobody verified",
            |p| p.flags = PRESENT,
            "PASSKEY_NOT_VERIFIED",
        ),
        (
            "flags that mean nothing",
            |p| p.flags |= 2,
            "PASSKEY_MALFORMED",
        ),
        ("a foreign key", |p| *p = passkey(9), "PASSKEY_SIGNATURE"),
        ("a copy behind", |p| p.sign_count = 2, "PASSKEY_COUNTER"),
    ];
    for (what, edit, code) in table {
        let mut bad = one.clone();
        edit(&mut bad);
        let assertion = signed(&bad, &bad.clone().sign(&challenge));
        let refused = hand_in(&admin, "run-1", statement, &assertion).await;
        assert_eq!(refused.code(), code, "{what}");
    }
    let failed = noted(&world, "approval.submit").await;
    let failed = failed
        .detail
        .get("failed")
        .unwrap()
        .as_str()
        .unwrap()
        .to_owned();
    assert!(failed.starts_with("PASSKEY_COUNTER"), "recorded: {failed}");

    // The statement is not the one that was shown.
    let good = one.sign(&challenge);
    let assertion = signed(&one, &good);
    for (member, value, code) in [
        ("run_id", json!("run-2"), "PASSKEY_WRONG_CHALLENGE"),
        ("decision", json!("deny"), "PASSKEY_WRONG_CHALLENGE"),
        (
            "expires_at",
            json!("2099-01-01T00:00:00.000Z"),
            "PASSKEY_WRONG_CHALLENGE",
        ),
        ("reason", json!("because"), "PASSKEY_WRONG_CHALLENGE"),
        ("approver", json!(SECOND), "PASSKEY_WRONG_CHALLENGE"),
        ("approver_did", json!(passkey(9).did()), "PASSKEY_UNKNOWN"),
        (
            "approver_did",
            json!(world.approver.did()),
            "PASSKEY_UNKNOWN",
        ),
        ("more", json!("x"), "APPROVAL_MALFORMED"),
    ] {
        let mut altered = statement.clone();
        altered[member] = value;
        let refused = hand_in(&admin, "run-1", &altered, &assertion).await;
        assert_eq!(refused.code(), code, "{member}");
    }
    let other = hand_in(&admin, "run-2", statement, &assertion).await;
    assert_eq!(other.code(), "APPROVAL_MALFORMED", "for another run");
    let unknown = hand_in(&admin, "run-9", statement, &assertion).await;
    assert_eq!(unknown.code(), "APPROVAL_UNKNOWN");
    let mut enrolment = assertion.clone();
    let client = one.client_data("webauthn.create", &challenge);
    enrolment["client_data_json"] = json!(encode_b64u(&client));
    let refused = hand_in(&admin, "run-1", statement, &enrolment).await;
    assert_eq!(refused.code(), "PASSKEY_SIGNATURE");
    let run = world.gateway.app.store.run("run-1").await.unwrap().unwrap();
    assert_eq!(
        run.gate,
        GateState::AwaitingApproval,
        "none of it moved the gate"
    );

    let approved = hand_in(&admin, "run-1", statement, &assertion).await.ok();
    assert_eq!(approved["complete"], true);
    assert_eq!(approved["approvals"][0]["via"], "passkey");
    assert_eq!(approved["approvals"][0]["approver"], APPROVER);
    let replayed = hand_in(&admin, "run-1", statement, &assertion).await;
    assert_eq!(replayed.code(), "APPROVAL_ALREADY_GIVEN");
    let late = asked(&admin, "run-1", approve()).await;
    assert_eq!(late.code(), "APPROVAL_CLOSED");
}

#[tokio::test]
async fn a_denial_has_a_reason_that_is_signed() {
    let world = World::at(ORIGIN).await;
    let admin = world.admin().await;
    let job = admin.job().await;
    waiting_run(&world, &job, "run-1").await;
    run_at(&world, &job, "run-2", GateState::Planned).await;
    let mut one = passkey(1);
    enrolled(&admin, APPROVER, &one).await;
    let deny =
        |reason: Value| json!({ "approver": APPROVER, "decision": "deny", "reason": reason });
    for (what, run, question, code) in [
        (
            "no reason",
            "run-1",
            deny(Value::Null),
            "APPROVAL_MALFORMED",
        ),
        (
            "a blank reason",
            "run-1",
            deny(json!("  ")),
            "APPROVAL_MALFORMED",
        ),
        (
            "two lines",
            "run-1",
            deny(json!("a\nb")),
            "APPROVAL_MALFORMED",
        ),
        (
            "too long",
            "run-1",
            deny(json!("x".repeat(1001))),
            "APPROVAL_MALFORMED",
        ),
        ("not asked", "run-2", deny(json!("no")), "APPROVAL_CLOSED"),
        ("no run", "run-9", approve(), "APPROVAL_UNKNOWN"),
        (
            "no approver of the contract",
            "run-1",
            json!({ "approver": SECOND, "decision": "approve" }),
            "APPROVAL_NOT_AN_APPROVER",
        ),
        (
            "no passkey of theirs",
            "run-1",
            json!({ "approver": APPROVER, "decision": "approve", "passkey": "pk-0" }),
            "PASSKEY_UNKNOWN",
        ),
    ] {
        let refused = asked(&admin, run, question).await;
        assert_eq!(refused.code(), code, "{what}");
    }
    let reason = "drops <b>the</b> database";
    let denied = yes_or_no(&admin, "run-1", deny(json!(reason)), &mut one)
        .await
        .ok();
    assert_eq!(denied["state"], "denied");
    assert_eq!(denied["reason"], reason, "what the agent reads");
}

#[tokio::test]
async fn two_approvals_are_by_two_people() {
    let world = World::at(ORIGIN).await;
    let admin = world.admin().await;
    let rules = r#""approvers": ["infra-lead@example.com", "second@example.com"],
        "min_approvals": 2"#;
    let contract = world.contract(r#""approvers": ["infra-lead@example.com"]"#, rules);
    let body = json!({ "envelope": contract });
    let made = admin.post("/v1/contracts", &body).await.ok();
    let hash = made["policy_hash_b64u"].clone();
    let job = json!({ "name": "a job", "policy_hash_b64u": hash });
    let job = admin.post("/v1/jobs", &job).await.ok();
    let job = job["job_id"].as_str().unwrap();
    waiting_run(&world, job, "run-1").await;
    let (mut one, mut other, mut second) = (passkey(1), passkey(2), passkey(3));
    enrolled(&admin, APPROVER, &one).await;
    enrolled(&admin, APPROVER, &other).await;
    enrolled(&admin, SECOND, &second).await;
    let listed = admin.get("/v1/approvers").await.ok();
    let ids: Vec<&Value> = listed["passkeys"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| &p["passkey"])
        .collect();
    let by = |email: &str, id: &Value| json!({ "approver": email, "decision": "approve", "passkey": id });

    let first = yes_or_no(&admin, "run-1", by(APPROVER, ids[0]), &mut one)
        .await
        .ok();
    assert_eq!((&first["given"], &first["missing"]), (&json!(1), &json!(1)));
    let same = yes_or_no(&admin, "run-1", by(APPROVER, ids[1]), &mut other).await;
    assert_eq!(
        same.code(),
        "APPROVAL_ALREADY_GIVEN",
        "one person's other passkey"
    );
    // Nor under the other's name with one's own passkey.
    let question = asked(&admin, "run-1", by(SECOND, ids[2])).await.ok();
    let mut forged = question["statement"].clone();
    forged["approver_did"] = json!(other.did());
    let typed: proof::approval::Statement = serde_json::from_value(forged.clone()).unwrap();
    let (_, challenge) = proof::approval::to_sign(&typed).unwrap();
    let assertion = signed(&other, &other.clone().sign(challenge.as_bytes()));
    let refused = hand_in(&admin, "run-1", &forged, &assertion).await;
    assert_eq!(refused.code(), "APPROVAL_NOT_AN_APPROVER");

    let done = yes_or_no(&admin, "run-1", by(SECOND, ids[2]), &mut second)
        .await
        .ok();
    assert_eq!(done["complete"], true);
}

#[tokio::test]
async fn a_removed_passkey_signs_nothing_more() {
    let world = World::at(ORIGIN).await;
    let admin = world.admin().await;
    let job = admin.job().await;
    waiting_run(&world, &job, "run-1").await;
    let (one, other) = (passkey(1), passkey(2));
    enrolled(&admin, APPROVER, &one).await;
    let question = asked(&admin, "run-1", approve()).await.ok();
    let assertion = one.clone().sign(&challenge(&question["options"]));
    enrolled(&admin, APPROVER, &other).await;
    let id = &question["passkey"];
    let one_of_them = json!({ "email": APPROVER, "passkey": id });
    let removed = admin.post("/v1/approvers/remove", &one_of_them).await.ok();
    assert_eq!(
        (&removed["passkeys"], &removed["invitation"]),
        (&json!(1), &json!(false))
    );
    let statement = &question["statement"];
    let late = hand_in(&admin, "run-1", statement, &signed(&one, &assertion)).await;
    assert_eq!(
        late.code(),
        "PASSKEY_UNKNOWN",
        "signed before, handed in after"
    );
    assert_eq!(
        sign_in(&world, &mut one.clone()).await,
        Err("PASSKEY_UNKNOWN".into())
    );
    let again = admin.post("/v1/approvers/remove", &one_of_them).await;
    assert_eq!(again.code(), "PASSKEY_UNKNOWN");

    let question = asked(&admin, "run-1", approve()).await.ok();
    assert_eq!(question["statement"]["approver_did"], other.did().as_str());
    // What was signed before stays verifiable: the trust root says until when it counted.
    let trust = admin.get("/v1/trust").await.ok();
    let of = |passkey: &SoftAuthenticator| {
        let passkeys = trust["passkeys"].as_array().unwrap().iter();
        let did = passkey.did();
        let mut passkeys = passkeys.filter(|entry| entry["did"] == did.as_str());
        passkeys.next().cloned().unwrap()
    };
    assert!(of(&one)["revoked_at"].is_string() && of(&other)["revoked_at"].is_null());
    assert_eq!(of(&one)["site"], json!(site()));
}
