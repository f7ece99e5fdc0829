//! Who may approve what, and how often.

use clawgate::keys::{random_key, random_text};
use proof::Hash;
use proof::approval::Decision;
use serde_json::{Value, json};
use store::GateState;

use crate::evidence::{begun, judgements};
use crate::world::{Setup, World, sign};

const TWO: [&str; 2] = ["infra-lead@example.com", "second@example.com"];

fn two_approvers(min: u32) -> Setup {
    Setup::new()
        .contract("/permissions/apply/approvers", json!(TWO))
        .contract("/permissions/apply/min_approvals", json!(min))
}

/// The run's apply reached upstream once.
fn applied_once(world: &World) {
    assert_eq!(world.asked("POST", "/actions/apply").len(), 1);
    assert_eq!(world.instances(), 2);
}

#[tokio::test]
async fn only_the_right_statement_by_the_right_person_counts() {
    let world = two_approvers(2).start().await;
    let agent = world.agent();
    let run = agent.held_run().await;
    let first = &world.approvers[0];
    let draft = world.draft(&run, 0, Decision::Approve).await;
    let stranger = random_key();
    let altered = |change: &dyn Fn(&mut proof::approval::Statement)| {
        let mut statement = draft.clone();
        change(&mut statement);
        statement
    };
    let mut tampered = sign(&draft, &first.key);
    tampered.payload_hash_b64u = Hash::of(b"something else");
    let mut relabelled = sign(&draft, &stranger);
    relabelled.signer_did = first.key.did();
    let long_ago = draft.issued_at.plus_seconds(-7200);
    for (what, envelope, code) in [
        (
            "another plan",
            sign(
                &altered(&|s| s.plan_sha256_b64u = Hash::of(b"another plan")),
                &first.key,
            ),
            "APPROVAL_WRONG_DIGEST",
        ),
        (
            "another upload",
            sign(
                &altered(&|s| s.configuration_sha256_b64u = Hash::of(b"another")),
                &first.key,
            ),
            "APPROVAL_RUN_CHANGED",
        ),
        (
            "other counts",
            sign(&altered(&|s| s.changes.delete = 0xbad), &first.key),
            "APPROVAL_RUN_CHANGED",
        ),
        (
            "not an approver",
            sign(
                &altered(&|s| {
                    s.approver = "stranger@example.com".into();
                    s.approver_did = stranger.did().into();
                }),
                &stranger,
            ),
            "APPROVAL_NOT_AN_APPROVER",
        ),
        (
            "an approver's name with a stranger's key",
            sign(
                &altered(&|s| s.approver_did = stranger.did().into()),
                &stranger,
            ),
            "APPROVAL_NOT_AN_APPROVER",
        ),
        (
            "one approver's name with the other's key",
            sign(
                &altered(&|s| s.approver_did = world.approvers[1].key.did().into()),
                &world.approvers[1].key,
            ),
            "APPROVAL_NOT_AN_APPROVER",
        ),
        (
            "signed by another key",
            sign(&draft, &stranger),
            "APPROVAL_SIGNATURE",
        ),
        ("another signer's name", relabelled, "APPROVAL_SIGNATURE"),
        ("another hash", tampered, "APPROVAL_SIGNATURE"),
        (
            "expired",
            sign(
                &altered(&|s| {
                    s.issued_at = long_ago;
                    s.expires_at = long_ago.plus_seconds(60);
                }),
                &first.key,
            ),
            "APPROVAL_EXPIRED",
        ),
        (
            "outlives the question",
            sign(
                &altered(&|s| s.expires_at = s.expires_at.plus_seconds(60)),
                &first.key,
            ),
            "APPROVAL_MALFORMED",
        ),
        (
            "from the future",
            sign(
                &altered(&|s| s.issued_at = s.issued_at.plus_seconds(600)),
                &first.key,
            ),
            "APPROVAL_MALFORMED",
        ),
        (
            "another run",
            sign(&altered(&|s| s.run_id = "run-another".into()), &first.key),
            "APPROVAL_MALFORMED",
        ),
        (
            "a no without a reason",
            sign(&altered(&|s| s.decision = Decision::Deny), &first.key),
            "APPROVAL_MALFORMED",
        ),
    ] {
        let refused = world.submit(&run, &envelope).await;
        assert_eq!(refused.code(), code, "{what}: {}", refused.text());
        assert_eq!(
            world.run(&run).await.gate,
            GateState::AwaitingApproval,
            "{what}"
        );
    }

    let one = sign(&draft, &first.key);
    let counted = world.submit(&run, &one).await.ok();
    assert_eq!(
        (&counted["given"], &counted["missing"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(
        world.submit(&run, &one).await.code(),
        "APPROVAL_ALREADY_GIVEN",
        "the same again"
    );
    let again = sign(&altered(&|s| s.nonce = random_text()), &first.key);
    assert_eq!(
        world.submit(&run, &again).await.code(),
        "APPROVAL_ALREADY_GIVEN",
        "once more"
    );
    let mut second = world.draft(&run, 1, Decision::Approve).await;
    second.nonce.clone_from(&draft.nonce);
    let replayed = sign(&second, &world.approvers[1].key);
    assert_eq!(
        world.submit(&run, &replayed).await.code(),
        "APPROVAL_ALREADY_GIVEN",
        "a used nonce"
    );
    assert_eq!(world.run(&run).await.gate, GateState::AwaitingApproval);
    assert!(world.asked("POST", "/actions/apply").is_empty());

    let yes = world.yes(&run, 1).await;
    world.submit(&run, &yes).await.ok();
    world.run_at(&run, GateState::Applied).await;
    applied_once(&world);
    let bundle = world.valid_evidence().await;
    assert_eq!((judgements(&bundle), bundle.approvals.len()), (2, 2));
}

#[tokio::test]
async fn of_two_approvers_at_the_same_moment_one_decides_and_both_are_recorded() {
    let world = two_approvers(1).start().await;
    let run = world.agent().held_run().await;
    let (one, other) = (world.yes(&run, 0).await, world.yes(&run, 1).await);
    let (one, other) = tokio::join!(world.submit(&run, &one), world.submit(&run, &other));
    let mut codes = [one.code(), other.code()];
    codes.sort();
    assert_eq!(
        codes,
        ["", "APPROVAL_CLOSED"],
        "{} {}",
        one.text(),
        other.text()
    );
    world.run_at(&run, GateState::Applied).await;
    applied_once(&world);
    let bundle = world.valid_evidence().await;
    assert_eq!((judgements(&bundle), bundle.approvals.len()), (2, 2));
}

#[tokio::test]
async fn a_no_in_time_holds_against_the_other_approvers_yes() {
    let world = two_approvers(2).start().await;
    let run = world.agent().held_run().await;
    let yes = world.yes(&run, 1).await;
    world.submit(&run, &yes).await.ok();
    world.deny(&run, "too many at once").await;
    let ended = world.run_at(&run, GateState::Denied).await;
    assert_eq!(ended.gate_reason.as_deref(), Some("too many at once"));
    assert_eq!(
        world.cloud.wait_until_ended(&run).await.unwrap(),
        sim::RunStatus::Discarded
    );
    assert!(world.asked("POST", "/actions/apply").is_empty());
    assert_eq!(judgements(&world.valid_evidence().await), 2);
}

/// Asks for an elevated token that carries the first approver's yes.
async fn elevated(world: &World, run: &str) -> Value {
    let envelope = world.yes(run, 0).await;
    let body = json!({"run_id": run, "envelope": envelope, "ttl_seconds": 300});
    world
        .operator()
        .post("/v1/tokens/elevated", &body)
        .await
        .ok()
}

#[tokio::test]
async fn an_elevated_token_approves_its_run_once() {
    let world = Setup::new().start().await;
    let run = world.agent().held_run().await;
    let token = elevated(&world, &run).await;
    let agent = world.agent_with(token["token"].as_str().unwrap());
    let apply = |run: &str| format!("/api/v2/runs/{run}/actions/apply");
    for (path, code) in [
        (apply("run-another"), "TOKEN_SCOPE"),
        (format!("/api/v2/runs/{run}/actions/discard"), "TOKEN_SCOPE"),
        ("/api/v2/runs".to_owned(), "BODY_MISSING_MEMBER"),
    ] {
        let refused = agent.send(&path, &json!({})).await;
        assert_eq!(refused.code(), code, "{path}: {}", refused.text());
    }
    assert_eq!(world.run(&run).await.gate, GateState::AwaitingApproval);
    let accepted = agent.send(&apply(&run), &json!({})).await;
    assert_eq!(accepted.status, 202, "{}", accepted.text());
    assert_eq!(
        agent.send(&apply(&run), &json!({})).await.code(),
        "TOKEN_SPENT"
    );
    world.run_at(&run, GateState::Applied).await;
    applied_once(&world);
    let bundle = world.valid_evidence().await;
    assert_eq!((judgements(&bundle), bundle.tokens.len()), (1, 2));
}

#[tokio::test]
async fn an_elevated_token_is_worth_nothing_for_another_run_or_after_revocation() {
    let world = Setup::new().start().await;
    let first = world.agent().held_run().await;
    let token = elevated(&world, &first).await;
    let agent = world.agent_with(token["token"].as_str().unwrap());
    world.deny(&first, "another time").await;
    let second = world.agent().held_run().await;
    let apply = format!("/api/v2/runs/{second}/actions/apply");
    assert_eq!(agent.send(&apply, &json!({})).await.code(), "TOKEN_SCOPE");

    let token = elevated(&world, &second).await;
    let agent = world.agent_with(token["token"].as_str().unwrap());
    let revoke = json!({"token": token["token"], "reason": "lost"});
    world
        .operator()
        .post("/v1/tokens/revoke", &revoke)
        .await
        .ok();
    assert_eq!(agent.send(&apply, &json!({})).await.code(), "TOKEN_REVOKED");
    assert_eq!(world.run(&second).await.gate, GateState::AwaitingApproval);
    let bundle = world.valid_evidence().await;
    assert_eq!((judgements(&bundle), begun(&bundle, "apply-run")), (1, 0));
}
