//! The pictures of the documentation: made only when somebody asks for them.

use clawgate::operator::credential::Role;

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
    let applied = world
        .held_run("Two instances, as change request CR-1182 says")
        .await;
    world.approve(&applied).await;
    world.until(&applied, store::GateState::Applied).await;
    let huge = world.huge_run(120).await;
    let waiting = world
        .held_run("Resize the staging application to two instances")
        .await;
    world.sign_in("olga", &[Role::Admin]).await;
    let job = &world.sandbox.job_id;
    for (name, path, width, dark) in [
        ("inbox", "/approvals/".to_owned(), 1100, false),
        ("plan", format!("/approvals/{waiting}"), 1100, false),
        ("plan-destructive", format!("/approvals/{huge}"), 1100, true),
        ("plan-phone", format!("/approvals/{waiting}"), 400, false),
        ("job", format!("/trust-pulse/jobs/{job}"), 1100, false),
        ("run", format!("/trust-pulse/runs/{applied}"), 1100, false),
    ] {
        world.browser.look(width, dark).await;
        world.browser.open(&world.url(&path)).await;
        let picture = world.browser.view().await;
        std::fs::write(folder.join(format!("{name}.png")), picture).unwrap();
    }
}
