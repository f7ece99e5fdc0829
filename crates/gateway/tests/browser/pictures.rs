//! The pictures of the documentation: made only when somebody asks for them.

use clawgate::operator::credential::Role;

use crate::checking::BUTTON;
use crate::world::World;

/// `docs/screenshots` says where to put them.
#[tokio::test]
async fn the_pages_have_their_pictures() {
    let Some(folder) = std::env::var_os("CLAWGATE_SCREENSHOTS") else {
        return;
    };
    let folder = std::path::PathBuf::from(folder);
    let Some(world) = World::start().await else {
        panic!("there is no browser to make pictures with");
    };
    let run = world
        .held_run("Resize the staging application, as change request CR-1182 says")
        .await;
    let huge = world.huge_run(120).await;
    world.sign_in("olga", &[Role::Admin]).await;
    let picture = async |name: &str, path: &str, width: u32, dark: bool| {
        world.browser.look(width, dark).await;
        world.browser.open(&world.url(path)).await;
        let picture = world.browser.view().await;
        std::fs::write(folder.join(format!("{name}.png")), picture).unwrap();
    };
    let (plan, large) = (format!("/approvals/{run}"), format!("/approvals/{huge}"));
    picture("inbox", "/approvals/", 1100, false).await;
    picture("plan", &plan, 1100, false).await;
    picture("plan-phone", &plan, 400, false).await;
    picture("plan-destructive", &large, 1100, true).await;
    world.approve(&run).await;
    world.until(&run, store::GateState::Applied).await;
    let job = &world.sandbox.job_id;
    picture("job", &format!("/trust-pulse/jobs/{job}"), 1100, false).await;
    picture("run", &format!("/trust-pulse/runs/{run}"), 1100, false).await;
}

/// A bundle of a job in which nothing was made up: the browser would notice.
#[tokio::test]
async fn the_check_has_its_picture() {
    let Some(folder) = std::env::var_os("CLAWGATE_SCREENSHOTS") else {
        return;
    };
    let Some(world) = World::start().await else {
        panic!("there is no browser to make pictures with");
    };
    let job = world.sealed_job().await;
    world.sign_in("olga", &[Role::Auditor]).await;
    let files = tempfile::tempdir().unwrap();
    let trust = world.operator().get("/v1/trust").await.body;
    let trust = World::file(files.path(), "trust.json", &trust);
    let browser = &world.browser;
    browser.look(1100, false).await;
    browser
        .open(&world.url(&format!("/trust-pulse/check?job={job}")))
        .await;
    browser.write("#check-trust", &trust).await;
    browser.click(BUTTON).await;
    let (verdict, text) = world.verdict().await;
    assert_eq!(verdict, "no_fault_found", "{text}");
    let shown = "document.querySelector('[data-check-result]').scrollIntoView()";
    browser.script(shown, serde_json::json!([])).await;
    let picture = browser.view().await;
    std::fs::write(std::path::Path::new(&folder).join("check.png"), picture).unwrap();
}
