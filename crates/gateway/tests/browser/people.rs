//! What people do, and what is done to them.

use clawgate::operator::credential::Role;
use proof::Hash;
use serde_json::json;
use store::GateState;

use crate::world::World;

#[tokio::test]
async fn an_approver_signs_in_and_denies_a_plan() {
    let Some(world) = World::start().await else {
        return;
    };
    let run = world.held_run("Two instances").await;
    let browser = &world.browser;
    // A link in a mail: nobody is signed in yet.
    let page = world.url(&format!("/approvals/{run}"));
    let mail = world
        .foreign_site(format!("<!doctype html><a id=go href='{page}'>Look</a>"))
        .await;
    browser.open(&format!("http://localhost:{mail}/")).await;
    browser.click("#go").await;
    browser.sees("begins with").await;
    let credential = clawgate::operator::credential::add(
        &*world.app().store,
        "olga",
        None,
        &[Role::Approver],
        world.app().now(),
    );
    browser.write("#credential", "clawop_wrong").await;
    browser.click("form.panel button").await;
    browser.sees("Operator credential not accepted").await;
    browser
        .write("#credential", &credential.await.unwrap())
        .await;
    browser.click("form.panel button").await;
    browser.sees("What would change").await;
    assert_eq!(browser.url().await, page, "the sign-in leads back");

    // The same link once more: the browser keeps its cookie to itself at first.
    browser.open(&format!("http://localhost:{mail}/")).await;
    browser.click("#go").await;
    browser.sees("What would change").await;
    let text = browser.text().await;
    assert!(
        text.contains("destroys nothing") || text.contains("Creates"),
        "{text}"
    );
    assert!(
        text.contains(&format!("clawgate approvals approve {run}")),
        "{text}"
    );
    assert!(
        text.contains("What the agent asked a model just before"),
        "{text}"
    );
    assert!(text.contains("STATE_READ_DENIED"), "{text}");

    browser.write("#reason", "Not on a Friday").await;
    browser.click("button.danger").await;
    browser.sees("discarded by olga: Not on a Friday").await;
    assert_eq!(browser.url().await, page);
    world.until(&run, GateState::Discarded).await;
    let seen = world.agent().get("/v1/job/runs").await.ok();
    let reason = seen["runs"][0]["reason"].as_str().unwrap();
    assert_eq!(
        reason, "discarded by olga: Not on a Friday",
        "the agent reads why"
    );
    let actions = world.app().store.operator_actions(10).await.unwrap();
    let denied = actions
        .iter()
        .find(|action| action.action == "approval.deny");
    assert_eq!(denied.unwrap().operator, "olga");

    browser.click("details.self summary").await;
    browser.click("details.self button").await;
    browser.sees("Sign in").await;
    assert_eq!(browser.url().await, world.url("/sign-in"));
    browser.open(&page).await;
    assert!(browser.url().await.contains("/sign-in"));
}

#[tokio::test]
async fn a_foreign_page_cannot_act_for_somebody() {
    let Some(world) = World::start().await else {
        return;
    };
    let run = world.held_run("Two instances").await;
    world.sign_in("olga", &[Role::Admin]).await;
    let browser = &world.browser;
    let to = world.url(&format!("/approvals/{run}/deny"));
    let form = format!(
        "<!doctype html><form method=post action='{to}'><input name=reason value=forged>\
         <input name=form-token value='{}'><button id=go>Win a prize</button></form>",
        "A".repeat(43)
    );
    let port = world.foreign_site(form).await;
    // Another origin of the same site, to which the browser sends the cookie; and another site.
    for host in ["evil.gate.localhost", "localhost"] {
        browser.open(&format!("http://{host}:{port}/")).await;
        browser.click("#go").await;
        browser
            .sees("This form does not come from a page of yours")
            .await;
    }
    let row = world.app().store.run(&run).await.unwrap().unwrap();
    assert_eq!(row.gate, GateState::AwaitingApproval);
    // Nor can it read or frame a page.
    let page = world.url("/approvals/");
    let frames = world
        .foreign_site(format!(
            "<!doctype html><iframe id=f src='{page}'></iframe><script>
             window.read = fetch('{page}', {{credentials: 'include'}})
                 .then(() => 'read', () => 'refused')</script>"
        ))
        .await;
    browser
        .open(&format!("http://evil.gate.localhost:{frames}/"))
        .await;
    let seen = browser
        .script(
            "return window.read.then(read => [read, (() => { try {
                 return document.getElementById('f').contentDocument?.body?.innerText ?? 'hidden'
             } catch { return 'hidden' } })()])",
            json!([]),
        )
        .await;
    assert_eq!(seen, json!(["refused", "hidden"]));
}

#[tokio::test]
async fn a_session_that_ended_leads_to_the_sign_in() {
    let Some(world) = World::start().await else {
        return;
    };
    world.sign_in("olga", &[Role::Approver]).await;
    let browser = &world.browser;
    let store = &world.app().store;
    let row = store.sessions_of("olga").await.unwrap().remove(0);
    // Time passes: the same session, as it is an hour after its last page.
    store.end_session("olga", &row.id_hash).await.unwrap();
    let mut old = row;
    old.used_at = old.used_at.plus_seconds(-3600);
    store.open_session(old, 20).await.unwrap();
    browser.open(&world.url("/approvals/")).await;
    assert_eq!(browser.url().await, world.url("/sign-in?next=approvals/"));
    // No script of a page can reach the cookie.
    world.sign_in("ada", &[Role::Approver]).await;
    let cookie = browser.script("return document.cookie", json!([])).await;
    assert_eq!(cookie, "");
    let kept = store.session(&Hash::of(b"")).await.unwrap();
    assert!(kept.is_none());
}

#[tokio::test]
async fn an_approver_enrols_a_passkey_and_decides_with_it() {
    let Some(world) = World::start().await else {
        return;
    };
    let browser = &world.browser;
    let person = &world.sandbox.approvers[0].email;
    let invite = json!({ "email": person });
    let invited = world.operator().post("/v1/approvers/invite", &invite).await;
    let link = invited.ok()["link"].as_str().unwrap().to_owned();
    browser.authenticator().await;
    browser.open(&link).await;
    browser.write("#name", "Laptop").await;
    browser.click("form.panel button").await;
    browser.sees("Your passkey is enrolled").await;
    browser.open(&link).await;
    assert!(
        !browser.text().await.contains("Make a passkey"),
        "it works once"
    );

    browser.open(&world.url("/sign-in")).await;
    browser.click("form[data-passkey] button").await;
    browser.sees("Nothing waits for a person").await;

    // A denial: the reason is under the signature.
    let denied = world.held_run("Two instances").await;
    browser
        .open(&world.url(&format!("/approvals/{denied}")))
        .await;
    browser.write("#reason", "Not on a Friday").await;
    browser.click("button[formaction]").await;
    browser.sees("Sign the denial").await;
    browser.click("form[data-passkey] button").await;
    world.until(&denied, GateState::Denied).await;
    browser.sees("signed with the approver's passkey").await;
    assert!(browser.text().await.contains("Not on a Friday"));

    let approved = world.held_run("Two instances, please").await;
    browser
        .open(&world.url(&format!("/approvals/{approved}")))
        .await;
    browser.click("form[data-passkey] button").await;
    world.until(&approved, GateState::Applied).await;
    let statements = world.app().store.statements(&approved).await.unwrap();
    assert_eq!(statements.len(), 1);
    assert_eq!(statements[0].approver, *person);

    // Without the passkey there is no session any more.
    let remove = json!({ "email": person });
    let removed = world.operator().post("/v1/approvers/remove", &remove).await;
    removed.ok();
    browser.open(&world.url("/approvals/")).await;
    browser.sees("Operator credential").await;
}
