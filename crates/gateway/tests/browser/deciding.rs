//! Plans that people decide together, at once, too late, or with what somebody has altered.

use proof::approval::{Statement, to_sign};
use serde_json::{Value, json};
use store::GateState;

use crate::driver::{Browser, PasskeyForm};
use crate::world::World;

/// The form that wants a passkey.
const BUTTON: &str = "form[data-passkey] button";

/// The example contract with a second approver.
fn two_approvers(needed: u32) -> String {
    let rules = format!(
        r#""approvers": ["infra-lead@example.com", "second@example.com"],
        "min_approvals": {needed}"#
    );
    policy::EXAMPLE_CONTRACT.replace(r#""approvers": ["infra-lead@example.com"]"#, &rules)
}

impl World {
    async fn opens(&self, browser: &Browser, run: &str) {
        browser.open(&self.url(&format!("/approvals/{run}"))).await;
        browser.sees("What would change").await;
    }

    /// Waits until so many statements about a run are kept.
    async fn kept(&self, run: &str, count: usize) -> Vec<store::StatementRow> {
        let store = &self.app().store;
        let patient = tokio::time::timeout(std::time::Duration::from_secs(60), async {
            let mut commits = store.commits();
            loop {
                let kept = store.statements(run).await.unwrap();
                if kept.len() >= count {
                    return kept;
                }
                commits.changed().await.unwrap();
            }
        });
        patient.await.expect("they are kept")
    }

    async fn gate(&self, run: &str) -> GateState {
        self.app().store.run(run).await.unwrap().unwrap().gate
    }
}

#[tokio::test]
async fn two_people_approve_in_either_order_and_a_changed_plan_voids_both() {
    let Some(world) = World::under(&two_approvers(2)).await else {
        return;
    };
    let (one, two) = (&world.browser, &world.another_browser().await);
    world.enrol(one, &world.sandbox.approvers[0].email).await;
    world.enrol(two, &world.sandbox.approvers[1].email).await;

    // One after the other, and the plan changes between them.
    let changed = world.held_run("Two instances").await;
    for browser in [one, two] {
        world.opens(browser, &changed).await;
        browser.sees("0 of 2 approvals given").await;
    }
    one.click(BUTTON).await;
    one.sees("1 of 2 approvals given").await;
    assert_eq!(world.gate(&changed).await, GateState::AwaitingApproval);
    let cloud = &world.sandbox.cloud;
    let mut plan = cloud.plan(&changed).unwrap();
    plan["resource_changes"][0]["change"]["after"]["input"] = json!("something else");
    cloud.replace_plan(&changed, plan).unwrap();
    two.click(BUTTON).await;
    world.until_any(&changed, &[GateState::Superseded]).await;
    for browser in [one, two] {
        world.opens(browser, &changed).await;
        browser.sees("overtaken by a change").await;
        browser.sees("Every approval of it is void").await;
        let void = "return [...document.querySelectorAll('.signed .bad')].map(e => e.innerText)";
        assert_eq!(
            browser.script(void, json!([])).await,
            json!(["void", "void"])
        );
    }

    // The other way round, and whoever was first cannot be second.
    let run = world.held_run("Two instances, once more").await;
    world.opens(two, &run).await;
    let form = two.passkey_form().await;
    two.click(BUTTON).await;
    two.sees("1 of 2 approvals given").await;
    let again = two.script(
        "return !!document.querySelector('form[data-passkey]')",
        json!([]),
    );
    assert_eq!(again.await, json!(false), "nobody is asked twice");
    two.send_passkey_form(&form).await;
    two.sees("APPROVAL_ALREADY_GIVEN").await;
    assert_eq!(world.gate(&run).await, GateState::AwaitingApproval);
    // It leads back to where one sees what counts.
    two.click("main a.button").await;
    two.sees("1 of 2 approvals given").await;
    world.opens(one, &run).await;
    one.click(BUTTON).await;
    world.until(&run, GateState::Applied).await;
    assert_eq!(world.kept(&run, 2).await.len(), 2);
}

#[tokio::test]
async fn of_a_yes_and_a_no_at_the_same_moment_one_wins_and_both_are_kept() {
    let Some(world) = World::under(&two_approvers(1)).await else {
        return;
    };
    let (yes, no) = (&world.browser, &world.another_browser().await);
    world.enrol(yes, &world.sandbox.approvers[0].email).await;
    world.enrol(no, &world.sandbox.approvers[1].email).await;
    let run = world.held_run("Two instances").await;
    world.opens(yes, &run).await;
    world.opens(no, &run).await;
    no.write("#reason", "Not on a Friday").await;
    no.click("button[formaction]").await;
    no.sees("Sign the denial").await;
    tokio::join!(yes.click(BUTTON), no.click(BUTTON));
    let kept = world.kept(&run, 2).await;
    let counted = |email: &str| {
        let mut rows = kept.iter();
        rows.find(|row| row.approver == email).unwrap().counted
    };
    let (yes_counts, no_counts) = (
        counted(&world.sandbox.approvers[0].email),
        counted(&world.sandbox.approvers[1].email),
    );
    let end = [GateState::Applied, GateState::Denied];
    let end = world.until_any(&run, &end).await;
    // A no that comes before the apply holds against a yes that was there first.
    assert_eq!(end == GateState::Denied, no_counts);
    assert!(yes_counts || no_counts);
    for (browser, counts) in [(yes, yes_counts), (no, no_counts)] {
        if !counts {
            browser.sees("APPROVAL_CLOSED").await;
        }
        world.opens(browser, &run).await;
        let text = browser.text().await;
        for said in ["approved", "denied", "Not on a Friday"] {
            assert!(text.contains(said), "{said}: {text}");
        }
        let late = text.contains("too late to count");
        assert_eq!(late, !(yes_counts && no_counts), "{text}");
        assert_eq!(
            text.contains("Somebody denied it in time"),
            yes_counts && no_counts
        );
    }
}

#[tokio::test]
async fn a_session_that_ends_before_the_signature_leads_back_to_the_plan() {
    let Some(world) = World::start().await else {
        return;
    };
    let browser = &world.browser;
    let person = &world.sandbox.approvers[0].email;
    world.enrol(browser, person).await;
    let run = world.held_run("Two instances").await;
    world.opens(browser, &run).await;
    let store = &world.app().store;
    for session in store.sessions_of(person).await.unwrap() {
        store.end_session(person, &session.id_hash).await.unwrap();
    }
    browser.click(BUTTON).await;
    browser.sees("OPERATOR_CREDENTIAL_MISSING").await;
    assert_eq!(store.statements(&run).await.unwrap(), []);
    assert_eq!(world.gate(&run).await, GateState::AwaitingApproval);
    browser.click("main a.button").await;
    browser.click(BUTTON).await;
    browser.sees("What would change").await;
    assert_eq!(browser.url().await, world.url(&format!("/approvals/{run}")));
    browser.click(BUTTON).await;
    world.until(&run, GateState::Applied).await;
}

/// What somebody did to a form after it was shown.
type Altered<'a> = (&'a str, Box<dyn Fn(&mut PasskeyForm) + 'a>, &'a str);

/// Changes a member of the statement, and has the authenticator sign what came of it.
fn restated(form: &mut PasskeyForm, member: &str, value: Value) {
    let mut statement: Value = serde_json::from_str(&form.statement).unwrap();
    statement[member] = value;
    let typed: Statement = serde_json::from_value(statement).unwrap();
    let (json, challenge) = to_sign(&typed).unwrap();
    form.statement = String::from_utf8(json.to_jcs()).unwrap();
    form.options["challenge"] = json!(challenge.to_string());
}

#[tokio::test]
async fn what_was_altered_after_it_was_shown_is_not_taken() {
    let Some(world) = World::start().await else {
        return;
    };
    let browser = &world.browser;
    world
        .enrol(browser, &world.sandbox.approvers[0].email)
        .await;
    let run = world.held_run("Two instances").await;
    let other = world.huge_run(60).await;
    let elsewhere = |to: &str| form_to(&world, to);
    let digest = proof::Hash::of(b"another plan").to_string();
    let nothing = json!({"create": 0, "update": 0, "delete": 0, "replace": 0, "forget": 0,
        "import": 0});
    let cases: Vec<Altered<'_>> = vec![
        (
            "the statement alone",
            Box::new(|form| form.statement = form.statement.replace("\"approve\"", "\"deny\"")),
            "PASSKEY_WRONG_CHALLENGE",
        ),
        (
            "another plan",
            Box::new(|form| restated(form, "plan_sha256_b64u", json!(digest))),
            "APPROVAL_WRONG_DIGEST",
        ),
        (
            "other counts",
            Box::new(|form| restated(form, "changes", nothing.clone())),
            "APPROVAL_RUN_CHANGED",
        ),
        (
            "somebody else's name",
            Box::new(|form| restated(form, "approver", json!("second@example.com"))),
            "APPROVAL_NOT_AN_APPROVER",
        ),
        (
            "a longer validity",
            Box::new(|form| restated(form, "expires_at", json!("2099-01-01T00:00:00.000Z"))),
            "APPROVAL_MALFORMED",
        ),
        (
            "sent to another run",
            Box::new(|form| form.action = elsewhere(&other)),
            "APPROVAL_MALFORMED",
        ),
        (
            "for another run",
            Box::new(|form| {
                restated(form, "run_id", json!(other));
                form.action = elsewhere(&other);
            }),
            "APPROVAL_WRONG_DIGEST",
        ),
        (
            "sent to a run of nobody",
            Box::new(|form| form.action = elsewhere("run-nobody")),
            "APPROVAL_UNKNOWN",
        ),
        (
            "no statement",
            Box::new(|form| form.statement = "'; DROP TABLE runs; --<script>".to_owned()),
            "APPROVAL_MALFORMED",
        ),
        (
            "another session's form",
            Box::new(|form| form.token = "A".repeat(43)),
            "FORM_FOREIGN",
        ),
    ];
    for (what, alter, code) in cases {
        world.opens(browser, &run).await;
        let mut form = browser.passkey_form().await;
        alter(&mut form);
        browser.send_passkey_form(&form).await;
        println!("{what}");
        browser.sees(code).await;
        for run in [&run, &other] {
            let kept = world.app().store.statements(run).await.unwrap();
            assert_eq!(kept, [], "{what}");
            assert_eq!(world.gate(run).await, GateState::AwaitingApproval, "{what}");
        }
    }
    // Unaltered, the same way is taken.
    world.opens(browser, &run).await;
    let form = browser.passkey_form().await;
    browser.send_passkey_form(&form).await;
    world.until(&run, GateState::Applied).await;
}

fn form_to(world: &World, run: &str) -> String {
    world.url(&format!("/approvals/{run}/signed"))
}
