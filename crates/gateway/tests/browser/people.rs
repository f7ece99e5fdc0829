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
    assert_eq!(browser.url().await, page);
    browser.sees("discarded by olga: Not on a Friday").await;
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
    for host in ["127.0.0.1", "localhost"] {
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
    browser.open(&format!("http://127.0.0.1:{frames}/")).await;
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
