//! The commands against a real gateway, with simulators behind it.

use clap::Parser;
use serde_json::Value;
use sim::{Engine, TerraformCloudConfig};

use super::{Cli, Failure, OperatorApi, Remote, dispatch};
use crate::config::{Config, NoticeChannel, SlackChannel};
use crate::demo::sandbox::Sandbox;
use crate::keys;
use crate::secret::SecretSource;

struct Set {
    folder: tempfile::TempDir,
    sandbox: Sandbox,
    credential: std::path::PathBuf,
}

impl Set {
    async fn up() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("s");
        let sandbox = Sandbox::start_on(
            &place,
            policy::EXAMPLE_CONTRACT.as_bytes().to_vec(),
            TerraformCloudConfig::acme(Engine::Recorded),
            change,
        );
        let sandbox = sandbox.await.unwrap();
        let credential = folder.path().join("credential");
        keys::write_private(&credential, sandbox.operator_token.as_bytes()).unwrap();
        Self {
            folder,
            sandbox,
            credential,
        }
    }

    /// Runs a command as the operator would.
    async fn run(&self, line: &[&str]) -> Result<(), Failure> {
        let url = self.sandbox.gateway.operator_url.as_str();
        let credential = self.credential.to_str().unwrap();
        let ends = ["--operator", url, "--credential-file", credential, "--json"];
        let words = ["clawgate"].iter().chain(line).chain(&ends).copied();
        let cli = Cli::try_parse_from(words).unwrap_or_else(|error| panic!("{line:?}: {error}"));
        dispatch(cli.command).await.map(|_| ())
    }

    fn api(&self) -> OperatorApi {
        let remote = Remote {
            operator: Some(self.sandbox.gateway.operator_url.clone()),
            credential_file: Some(self.credential.clone()),
            ca_file: None,
            allow_plaintext: false,
            json: true,
        };
        remote.connect().unwrap()
    }

    async fn ask(&self, path: &str) -> Value {
        self.api().get(path).await.unwrap()
    }

    async fn download(&self, path: &str) -> Vec<u8> {
        self.api().download(path).await.unwrap().to_vec()
    }
}

#[tokio::test]
async fn the_commands_and_the_gateway_understand_each_other() {
    let set = Set::up().await;
    let path = |name: &str| set.folder.path().join(name).to_str().unwrap().to_owned();
    let job = set.sandbox.job_id.to_string();
    let hash = set.sandbox.policy_hash.to_string();

    // Contracts.
    let tighter = String::from_utf8(set.sandbox.contract.clone())
        .unwrap()
        .replace("1800", "600");
    let new = path("new.json");
    std::fs::write(&new, tighter).unwrap();
    let author = path("s/author.key");
    set.run(&["policy", "publish", &new, "--author-key", &author])
        .await
        .unwrap();
    let stranger = path("stranger.key");
    keys::write_key(std::path::Path::new(&stranger), &keys::random_key()).unwrap();
    let refused = set
        .run(&["policy", "publish", &new, "--author-key", &stranger])
        .await;
    assert_eq!(refused.unwrap_err().code(), Some("CONTRACT_AUTHOR_UNKNOWN"));
    for line in [
        &["policy", "list"][..],
        &["policy", "show", &hash],
        &["policy", "show", "terraform-cloud-staging-only"],
        &["policy", "diff", &hash, &new],
        &["job", "list", "--state", "open", "--limit", "3"],
        &["job", "show", &job],
        &[
            "job",
            "open",
            "second",
            "--contract",
            "terraform-cloud-staging-only",
        ],
        &[
            "token",
            "issue",
            &job,
            "--ttl",
            "300",
            "--scope",
            "proxy:call",
        ],
        &["approvals", "list"],
        &["watch", "list"],
        &["watch", "show", "ws-staging-app"],
        &["watch", "events", "--workspace", "ws-staging-app"],
        &["approvals", "list", "--state", "active"],
        &["policy", "withdraw", &hash, "--reason", "too wide"],
    ] {
        set.run(line)
            .await
            .unwrap_or_else(|failure| panic!("{line:?}: {failure}"));
    }

    // Tokens: by hash, and what is not there.
    let tokens = set.ask(&format!("/v1/jobs/{job}/tokens")).await;
    let token = tokens["tokens"][0]["token_hash"]
        .as_str()
        .unwrap()
        .to_owned();
    set.run(&["token", "inspect", &token]).await.unwrap();
    set.run(&["token", "revoke", &token, "--reason", "lost"])
        .await
        .unwrap();
    let tokens = set.ask(&format!("/v1/jobs/{job}/tokens")).await;
    assert!(tokens["tokens"][0]["revoked_at"].is_string());
    let unknown = set
        .run(&["approvals", "show", "run-nothere"])
        .await
        .unwrap_err();
    assert_eq!(unknown.code(), Some("APPROVAL_UNKNOWN"));
    let withdrawn = set
        .run(&["job", "open", "third", "--contract", &hash])
        .await
        .unwrap_err();
    assert_eq!(withdrawn.code(), Some("CONTRACT_WITHDRAWN"));

    // Nothing is accepted that nobody has looked at.
    let accept = [
        "watch",
        "accept",
        "ws-staging-app",
        "--reason",
        "known",
        "--yes",
    ];
    assert!(set.run(&accept).await.is_err());
    let app = &set.sandbox.gateway.app;
    crate::watching::look::look(app, "ws-staging-app", "poll")
        .await
        .unwrap();
    set.run(&accept).await.unwrap();
    let shown = set.ask("/v1/watch/ws-staging-app").await;
    assert_eq!(shown["accepted_by"], "sandbox");

    // The end: closing again changes nothing, and everybody gets the same file.
    set.run(&["rollback", "job", &job, "--reason", "enough"])
        .await
        .unwrap();
    set.run(&["job", "close", &job]).await.unwrap();
    let (bundle, trust) = (path("bundle.json"), path("trust.json"));
    set.run(&["bundle", "get", &job, "-o", &bundle])
        .await
        .unwrap();
    set.run(&["trust", "export", "-o", &trust]).await.unwrap();
    let bundle = std::fs::read(bundle).unwrap();
    proof::json::from_slice::<proof::bundle::Bundle>(&bundle).unwrap();
    let page = set.download(&format!("/trust-pulse/jobs/{job}")).await;
    let page = String::from_utf8(page).unwrap();
    assert!(page.contains(&proof::Hash::of(&bundle).to_hex()));
    assert_eq!(
        set.download(&format!("/trust-pulse/jobs/{job}/bundle.json"))
            .await,
        bundle
    );
    set.sandbox.gateway.stop().await;
}

#[tokio::test]
async fn channels_are_listed_and_tried() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let there = listener.local_addr().unwrap();
    let takes = axum::Router::new().fallback(|| async { "ok" });
    tokio::spawn(async move { axum::serve(listener, takes).await.unwrap() });
    let chat = |address: &str| {
        let url = format!("http://{address}/services/secret");
        let url = SecretSource::Command(vec!["echo".to_owned(), url]);
        NoticeChannel::Slack(SlackChannel { url, events: None })
    };
    let set = Set::with(|config| {
        let there = chat(&there.to_string());
        config.notices.insert("chat".to_owned(), there);
        // Nobody listens there.
        config
            .notices
            .insert("gone".to_owned(), chat("127.0.0.1:1"));
    })
    .await;
    set.run(&["notices", "list"]).await.unwrap();
    set.run(&["notices", "test", "chat"]).await.unwrap();
    for line in [&["notices", "test"][..], &["notices", "test", "gone"]] {
        let error = set.run(line).await.unwrap_err();
        let says = error.to_string();
        assert!(says.starts_with("not taken by gone;"), "{says}");
    }
    let unknown = set.run(&["notices", "test", "none"]).await.unwrap_err();
    assert_eq!(unknown.code(), Some("NOTICE_CHANNEL_UNKNOWN"));
}
