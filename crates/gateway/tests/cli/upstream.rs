//! What reaches upstream, and what comes back from it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use http::Method;
use proof::Hash;
use serde_json::json;
use store::GateState;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::terraform::two_instances;
use crate::world::{APP, Setup, terraform};

/// Passes bytes on and keeps those that go up.
async fn tap(to: SocketAddr) -> (SocketAddr, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((agent, _)) = listener.accept().await {
            let kept = Arc::clone(&kept);
            tokio::spawn(async move {
                let upstream = TcpStream::connect(to).await.unwrap();
                let (mut down, mut up) = agent.into_split();
                let (mut from, mut into) = upstream.into_split();
                let answers =
                    tokio::spawn(async move { tokio::io::copy(&mut from, &mut up).await });
                let mut piece = [0; 8192];
                while let Ok(read) = down.read(&mut piece).await {
                    if read == 0 || into.write_all(&piece[..read]).await.is_err() {
                        break;
                    }
                    kept.lock().unwrap().extend_from_slice(&piece[..read]);
                }
                answers.abort();
            });
        }
    });
    (address, seen)
}

#[tokio::test]
async fn nothing_that_the_agent_says_in_headers_goes_up() {
    let mut world = Setup::new().restartable().start().await;
    let upstream = world.cloud.url();
    let upstream = upstream.trim_start_matches("http://").parse().unwrap();
    let (address, seen) = tap(upstream).await;
    world.config.terraform_cloud.url = format!("http://{address}");
    world.restart().await;

    let agent = world.agent();
    let headers = [
        ("x-agent-secret", "from-the-agent"),
        ("user-agent", "agents-own-client/1"),
        ("cookie", "session=from-the-agent"),
        ("x-forwarded-for", "203.0.113.9"),
        ("tfe-version", "from-the-agent"),
        ("accept-language", "tlh"),
    ];
    for path in [
        "/api/v2/organizations/acme/entitlement-set",
        "/api/v2/organizations/acme/workspaces/staging-app",
        "/api/v2/workspaces/ws-staging-app",
    ] {
        agent.call(Method::GET, path, &headers, "").await.ok();
    }
    let run = agent.held_run().await;
    world.approve(&run).await;
    world.run_at(&run, GateState::Applied).await;
    agent
        .call(Method::GET, &format!("/api/v2/runs/{run}"), &headers, "")
        .await
        .ok();

    let up = String::from_utf8_lossy(&seen.lock().unwrap()).to_lowercase();
    assert!(
        up.contains("post /api/v2/runs ") && up.contains("/actions/apply "),
        "{up}"
    );
    for never in [
        "from-the-agent",
        "agents-own-client",
        "203.0.113.9",
        "tlh",
        "terraform_cli",
        "go-tfe",
    ] {
        assert!(!up.contains(never), "{never}");
    }
    assert!(
        !up.contains(&world.cst.to_lowercase()),
        "the scoped token went up"
    );
}

#[tokio::test]
async fn what_goes_up_is_our_own_archive_with_the_approved_digest() {
    let world = Setup::new().start().await;
    let agent = world.agent();
    let run = agent.held_run().await;
    let subject = world.run(&run).await.subject.unwrap();
    let owner = world.upstream("owner");
    let path = format!(
        "/api/v2/configuration-versions/{}/download",
        subject.configuration_version_id
    );
    let redirect = owner.get(&path).await;
    let archive = owner
        .get(redirect.headers["location"].to_str().unwrap())
        .await
        .body;
    assert_eq!(Hash::of(&archive), subject.configuration_sha256_b64u);
    let sent = crate::client::archive(&[("main.tf", &two_instances())]);
    assert_ne!(archive, sent, "the agent's own bytes never go up");
    // The same files make the same archive.
    let again = agent.upload().await;
    let row = world
        .app()
        .store
        .configuration(&again)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(row.sha256, Some(subject.configuration_sha256_b64u));
}

#[tokio::test]
async fn addresses_are_ours_and_serve_one_purpose() {
    let world = Setup::new().start().await;
    let agent = world.agent();
    let path = format!("/api/v2/workspaces/{APP}/configuration-versions");
    let attributes = json!({"auto-queue-runs": true, "speculative": false});
    let body = json!({"data": {"type": "configuration-versions", "attributes": attributes}});
    let opened = agent.send(&path, &body).await.ok();
    let address = opened["data"]["attributes"]["upload-url"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(address.starts_with(&world.gateway().agent_url), "{address}");
    let asked = &world.asked("POST", "/configuration-versions")[0];
    let asked = serde_json::to_value(&asked.body).unwrap();
    assert_eq!(asked["data"]["attributes"]["auto-queue-runs"], json!(false));

    let caller = crate::client::Caller::new("", None);
    let get = caller.call(Method::GET, &address, &[], "").await;
    assert_eq!(get.code(), "METHOD_NOT_ALLOWED");
    let archive = crate::client::archive(&[("main.tf", &two_instances())]);
    let one = caller
        .call(Method::PUT, &address, &[], archive.clone())
        .await;
    assert_eq!(one.status, 200, "{}", one.text());
    let again = caller.call(Method::PUT, &address, &[], archive).await;
    assert_eq!(again.code(), "CAPABILITY_UNKNOWN");
    let guessed = format!(
        "{}/v1/job/objects/{}",
        world.gateway().agent_url,
        "a".repeat(43)
    );
    assert_eq!(caller.get(&guessed).await.code(), "CAPABILITY_UNKNOWN");
    assert_eq!(
        world
            .cloud
            .requests()
            .iter()
            .filter(|r| r.method == "PUT")
            .count(),
        1
    );
    world.valid_evidence().await;
}

/// Besides what each world checks at its end: the answers of a whole life of a run.
#[tokio::test]
async fn the_agent_sees_no_secret_in_any_answer() {
    if terraform().is_none() {
        return;
    }
    let world = Setup::new().start().await;
    let cli = world.cli().await;
    let (ended, run) = tokio::join!(
        cli.run(&["apply", "-auto-approve"]),
        world.approve_when_asked()
    );
    ended.ok();
    let agent = world.agent();
    let run = agent
        .get(&format!("/api/v2/runs/{run}?include=plan,apply,workspace"))
        .await
        .ok();
    for (kind, paths) in [
        ("plan", ["plans", "json-output-redacted"]),
        ("apply", ["applies", "errored-state"]),
        (
            "configuration-version",
            ["configuration-versions", "download"],
        ),
    ] {
        let id = run["data"]["relationships"][kind]["data"]["id"]
            .as_str()
            .unwrap();
        agent.get(&format!("/api/v2/{}/{id}", paths[0])).await.ok();
        agent
            .get(&format!("/api/v2/{}/{id}/{}", paths[0], paths[1]))
            .await;
        let full = agent
            .get(&format!("/api/v2/{}/{id}/json-output", paths[0]))
            .await;
        assert!(full.status.is_client_error(), "{}", full.text());
    }
    for path in [
        format!("/api/v2/workspaces/{APP}"),
        format!("/api/v2/workspaces/{APP}/runs"),
        format!("/api/v2/workspaces/{APP}/current-state-version"),
        format!("/api/v2/workspaces/{APP}/vars"),
        format!("/api/v2/workspaces/{APP}/state-versions"),
        "/api/v2/account/details".to_owned(),
        "/v1/job".to_owned(),
        "/v1/job/runs".to_owned(),
    ] {
        agent.get(&path).await;
    }
}

#[tokio::test]
async fn a_workspace_that_applies_by_itself_does_not() {
    let world = Setup::new().start().await;
    let by_itself = |settings: &mut sim::Settings| settings.auto_apply = true;
    world.cloud.change_settings(APP, by_itself).unwrap();
    let agent = world.agent();
    let upload = agent.upload().await;
    for attributes in [json!({}), json!({"auto-apply": true})] {
        let made = agent.run(&upload, &attributes).await.ok();
        let run = made["data"]["id"].as_str().unwrap().to_owned();
        let status = world.cloud.wait_until_confirmable(&run).await.unwrap();
        assert_eq!(status, sim::RunStatus::Planned, "{attributes}");
        let path = format!("/api/v2/runs/{run}/actions/discard");
        assert_eq!(agent.send(&path, &json!({})).await.status, 202);
    }
    for run in world.asked("POST", "/api/v2/runs") {
        let body = serde_json::to_value(&run.body).unwrap();
        assert_eq!(body["data"]["attributes"]["auto-apply"], json!(false));
    }
    assert_eq!(world.instances(), 1);
    world.valid_evidence().await;
}
