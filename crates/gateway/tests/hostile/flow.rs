//! What an honest agent does on its way to a plan, and what other people do beside it.

use serde_json::{Value, json};
use sim::RunStatus;

use crate::rig::{Call, Reply, Rig, address};

/// A run with everything that hangs on it.
#[derive(Debug, Clone)]
pub(crate) struct Planned {
    pub(crate) configuration: String,
    pub(crate) run: String,
    pub(crate) plan: String,
    pub(crate) apply: String,
}

/// The body of a run on a workspace, with a configuration version or without.
pub(crate) fn run_on(workspace: &str, configuration: Option<&str>) -> Value {
    let mut body = json!({"data": {
        "type": "runs",
        "attributes": { "message": "resize" },
        "relationships": { "workspace": { "data": { "type": "workspaces", "id": workspace } } },
    }});
    if let Some(id) = configuration {
        body["data"]["relationships"]["configuration-version"] =
            json!({ "data": { "type": "configuration-versions", "id": id } });
    }
    body
}

/// The body of a new configuration version.
pub(crate) fn configuration() -> Value {
    json!({"data": { "type": "configuration-versions", "attributes": {
        "auto-queue-runs": false, "speculative": false,
    }}})
}

/// Files packed as the CLI packs them.
pub(crate) fn archive(files: &[(&str, &str)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, text.as_bytes()).unwrap();
    }
    gzip(&tar.into_inner().unwrap())
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A configuration that the contract allows.
pub(crate) fn good_archive() -> Vec<u8> {
    let change = sim::example_change();
    let files: Vec<(&str, String)> = sim::example_configuration()
        .iter()
        .map(|(name, text)| (*name, text.replace(change.from, change.to)))
        .collect();
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, &**text)).collect();
    archive(&files)
}

/// The path of an address that an answer gave.
pub(crate) fn path_of(url: &str) -> String {
    let rest = url.trim_start_matches("http://");
    rest[rest.find('/').unwrap()..].to_owned()
}

impl Rig {
    /// Opens a configuration version and returns its id and the path to upload to.
    pub(crate) async fn open(&self, token: &str, workspace: &str) -> (String, String) {
        let path = format!("/api/v2/workspaces/{workspace}/configuration-versions");
        let call = self
            .nobody("POST", &path)
            .bearer(token)
            .json_api(&configuration());
        let opened = call.send().await.ok();
        let upload = opened["data"]["attributes"]["upload-url"].as_str().unwrap();
        (
            opened["data"]["id"].as_str().unwrap().to_owned(),
            path_of(upload),
        )
    }

    pub(crate) async fn upload(&self, path: &str, archive: Vec<u8>) -> Reply {
        self.nobody("PUT", path).body(archive).send().await
    }

    pub(crate) async fn uploaded(&self, token: &str, workspace: &str) -> String {
        let (configuration, path) = self.open(token, workspace).await;
        self.upload(&path, good_archive()).await.ok();
        configuration
    }

    pub(crate) async fn start_run(&self, token: &str, body: &Value) -> Reply {
        self.nobody("POST", "/api/v2/runs")
            .bearer(token)
            .json_api(body)
            .send()
            .await
    }

    /// A run of a job that is planned and waits.
    pub(crate) async fn planned(&self, token: &str) -> Planned {
        let planned = self.begun(token).await;
        let cloud = &self.sandbox.cloud;
        let status = cloud.wait_until_confirmable(&planned.run).await.unwrap();
        assert_eq!(status, RunStatus::Planned);
        planned
    }

    /// A run of a job that was just made; it waits for other runs of its workspace.
    pub(crate) async fn begun(&self, token: &str) -> Planned {
        let configuration = self.uploaded(token, "ws-staging-app").await;
        let body = run_on("ws-staging-app", Some(&configuration));
        planned(configuration, &self.start_run(token, &body).await.ok())
    }

    /// A call to upstream by somebody who does not use the gateway.
    pub(crate) fn person(&self, method: &str, target: &str) -> Call {
        let cloud = &self.sandbox.cloud;
        Call::new(address(&cloud.url()), method, target).bearer(cloud.token("planner"))
    }

    /// A configuration version that somebody else has made, without the gateway.
    pub(crate) async fn uploaded_by_a_person(&self, workspace: &str, archive: Vec<u8>) -> String {
        let path = format!("/api/v2/workspaces/{workspace}/configuration-versions");
        let opened = self
            .person("POST", &path)
            .json_api(&configuration())
            .send()
            .await
            .ok();
        let upload = opened["data"]["attributes"]["upload-url"].as_str().unwrap();
        let store = address(&self.sandbox.cloud.archivist_url());
        Call::new(store, "PUT", &path_of(upload))
            .body(archive)
            .send()
            .await
            .ok();
        opened["data"]["id"].as_str().unwrap().to_owned()
    }

    /// A run that somebody else has made, without the gateway.
    pub(crate) async fn planned_by_a_person(&self, workspace: &str) -> Planned {
        let id = self.uploaded_by_a_person(workspace, good_archive()).await;
        let body = run_on(workspace, Some(&id));
        let run = self
            .person("POST", "/api/v2/runs")
            .json_api(&body)
            .send()
            .await
            .ok();
        planned(id, &run)
    }
}

fn planned(configuration: String, run: &Value) -> Planned {
    let related = |name: &str| {
        let path = format!("/data/relationships/{name}/data/id");
        run.pointer(&path)
            .and_then(Value::as_str)
            .unwrap()
            .to_owned()
    };
    Planned {
        configuration,
        run: run["data"]["id"].as_str().unwrap().to_owned(),
        plan: related("plan"),
        apply: related("apply"),
    }
}
