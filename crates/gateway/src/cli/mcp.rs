//! `clawgate mcp`: the gateway's tools for agents that start their MCP servers as programs.
//!
//! A line on standard input is a message for the gateway's `/mcp`, a line on standard output its
//! answer. One thing is added, because only this side has a disk: `start_plan` takes a `folder`,
//! whose files are sent in its place.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use clap::Args;
use http::{HeaderValue, Method, Request, header};
use http_body_util::{BodyExt, Full, Limited};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::sync::{Mutex, Semaphore};

use super::agent::Agent;
use super::{Failure, term};
use crate::upstream::{HttpClient, cause};

/// Largest message in either direction; the gateway's own bound is smaller.
const MAX_MESSAGE: usize = 8 << 20;

/// Messages that are answered at a time; more wait.
const AT_A_TIME: usize = 16;

/// Most that the files of a folder may have together.
const MAX_FILES: usize = 3 << 20;

/// Most files of a folder.
const MAX_COUNT: usize = 500;

/// Folders that are no part of a configuration.
const SKIPPED: [&str; 3] = [".terraform", ".git", "node_modules"];

/// Endings of the files that are.
const ENDINGS: [&str; 6] = [
    ".tf",
    ".tf.json",
    ".tfvars",
    ".tfvars.json",
    ".tftpl",
    ".hcl",
];

/// Serves the gateway's MCP tools on standard input and output
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  CST=$(cat agent.token) clawgate mcp
  clawgate mcp --gateway https://clawgate.example.com --token-file agent.token

As a server in an agent's configuration:
  {\"mcpServers\": {\"clawgate\": {\"command\": \"clawgate\", \"args\": [\"mcp\"],
    \"env\": {\"CLAWGATE_URL\": \"http://127.0.0.1:8787\", \"CST\": \"…\"}}}}

`start_plan` takes a `folder` here, below the one in which this runs: its configuration files are
sent. Under `clawgate run` no settings are needed.")]
pub(super) struct Mcp {
    #[command(flatten)]
    agent: Agent,
}

/// The gateway's `/mcp`, as the agent reaches it.
struct Bridge {
    http: HttpClient,
    address: String,
    bearer: HeaderValue,
    /// Below which folders may be read.
    root: PathBuf,
}

impl Mcp {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let bridge = Arc::new(self.bridge()?);
        let out = Arc::new(Mutex::new(tokio::io::stdout()));
        let places = Arc::new(Semaphore::new(AT_A_TIME));
        let mut input = BufReader::new(tokio::io::stdin());
        let mut calls = tokio::task::JoinSet::new();
        while let Some(line) = next_line(&mut input).await? {
            let place = Arc::clone(&places).acquire_owned().await;
            let (bridge, out) = (Arc::clone(&bridge), Arc::clone(&out));
            calls.spawn(async move {
                let _place = place;
                if let Some(answer) = bridge.answer(&line).await {
                    // A client that does not listen any more has gone.
                    let _ = write_line(&out, &answer).await;
                }
            });
            while calls.try_join_next().is_some() {}
        }
        while calls.join_next().await.is_some() {}
        Ok(())
    }

    fn bridge(&self) -> Result<Bridge, Failure> {
        let api = self.agent.connect()?;
        let root = std::env::current_dir()
            .and_then(|folder| folder.canonicalize())
            .map_err(|error| Failure::new(format!("there is no working folder: {error}")))?;
        Ok(Bridge {
            address: format!("{}/mcp", api.base),
            http: api.http,
            bearer: api.bearer,
            root,
        })
    }
}

/// The next message; `None` at the end of the input.
async fn next_line(input: &mut (impl AsyncBufReadExt + Unpin)) -> Result<Option<Vec<u8>>, Failure> {
    let mut line = Vec::new();
    let most = MAX_MESSAGE as u64;
    let read = input.take(most).read_until(b'\n', &mut line).await;
    let read = read.map_err(|error| Failure::new(format!("cannot read messages: {error}")))?;
    if read as u64 == most && line.last() != Some(&b'\n') {
        return Err(Failure::new(format!(
            "a message has more than {MAX_MESSAGE} bytes"
        )));
    }
    Ok((read > 0).then_some(line))
}

async fn write_line(out: &Mutex<tokio::io::Stdout>, message: &Value) -> std::io::Result<()> {
    let mut text = message.to_string();
    text.push('\n');
    let mut out = out.lock().await;
    out.write_all(text.as_bytes()).await?;
    out.flush().await
}

impl Bridge {
    /// The answer to a message; none to a notification.
    async fn answer(&self, line: &[u8]) -> Option<Value> {
        if line.trim_ascii().is_empty() {
            return None;
        }
        let mut message: Value = match serde_json::from_slice(line) {
            Ok(message) => message,
            Err(error) => return Some(failed(&Value::Null, -32700, &error.to_string())),
        };
        let id = message["id"].clone();
        if let Err(why) = self.send_folder(&mut message) {
            return Some(failed(&id, -32602, &why));
        }
        let lists = message["method"] == "tools/list";
        match self.post(&message).await {
            Ok(Some(mut answer)) => {
                if lists {
                    offer_folder(&mut answer);
                }
                Some(answer)
            }
            Ok(None) => None,
            Err(_) if id.is_null() => None,
            Err(why) => Some(failed(&id, -32000, &why)),
        }
    }

    async fn post(&self, message: &Value) -> Result<Option<Value>, String> {
        let media = HeaderValue::from_static("application/json");
        let accepts = HeaderValue::from_static("application/json, text/event-stream");
        let request = Request::builder()
            .method(Method::POST)
            .uri(&self.address)
            .header(header::AUTHORIZATION, self.bearer.clone())
            .header(header::CONTENT_TYPE, media)
            .header(header::ACCEPT, accepts);
        let body = Full::new(Bytes::from(message.to_string()));
        let mut request = request.body(body).map_err(|error| error.to_string())?;
        // Later revisions of the protocol say it in the message, and want it said here, too.
        let version = &message["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"];
        if let Some(Ok(version)) = version.as_str().map(HeaderValue::from_str) {
            request
                .headers_mut()
                .insert("mcp-protocol-version", version);
        }
        let answer = self.http.request(request).await;
        let address = &self.address;
        let answer =
            answer.map_err(|error| format!("no gateway at {address}: {}", cause(&error)))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), MAX_MESSAGE)
            .collect()
            .await;
        let body = body.map_err(|error| format!("the answer broke off: {error}"))?;
        let body = body.to_bytes();
        if body.is_empty() && status.is_success() {
            return Ok(None);
        }
        match serde_json::from_slice::<Value>(&body) {
            Ok(answer) if answer["jsonrpc"] == "2.0" => Ok(Some(answer)),
            // A refusal before any message was read: of the token, say.
            Ok(problem) => Err(format!(
                "{} ({}) {}",
                term::text(&problem, "title"),
                term::text(&problem, "code"),
                term::text(&problem, "advice")
            )),
            Err(_) => Err(format!("the gateway answered {status}")),
        }
    }

    /// Puts the files of the folder that `start_plan` names in the folder's place.
    fn send_folder(&self, message: &mut Value) -> Result<(), String> {
        if message["method"] != "tools/call" || message["params"]["name"] != "start_plan" {
            return Ok(());
        }
        let Some(arguments) = message["params"]["arguments"].as_object_mut() else {
            return Ok(());
        };
        let Some(folder) = arguments.remove("folder") else {
            return Ok(());
        };
        let folder = folder.as_str().ok_or("`folder` is a path")?;
        if arguments.contains_key("files") {
            return Err("give either `folder` or `files`".to_owned());
        }
        let files = read_folder(&self.root, Path::new(folder))?;
        arguments.insert("files".to_owned(), json!(files));
        Ok(())
    }
}

fn failed(id: &Value, code: i32, why: &str) -> Value {
    let message = term::plain(why);
    json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message}})
}

/// Tells of the argument that this side adds.
fn offer_folder(answer: &mut Value) {
    let tools = answer["result"]["tools"].as_array_mut();
    for tool in tools.into_iter().flatten() {
        if tool["name"] == "start_plan" {
            tool["inputSchema"]["properties"]["folder"] = json!({
                "type": "string",
                "description": "In place of `files`: the root module's folder on this machine, \
                                relative to the working folder",
            });
        }
    }
}

/// The text of each configuration file below a folder, by its path there. The folder must be in
/// `root`, and no link leads out of it.
fn read_folder(root: &Path, folder: &Path) -> Result<BTreeMap<String, String>, String> {
    let named = folder.display();
    let unreadable = |error: std::io::Error| format!("`{named}` cannot be read: {error}");
    let base = root.join(folder).canonicalize().map_err(unreadable)?;
    if !base.starts_with(root) {
        return Err(format!("`{named}` is not in the working folder"));
    }
    let mut files = BTreeMap::new();
    let mut bytes = 0;
    let mut folders = vec![base.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            // Of links only the gateway's own inspection could say where they lead.
            let kind = entry.file_type().map_err(unreadable)?;
            if kind.is_dir() && !SKIPPED.contains(&name.as_str()) {
                folders.push(entry.path());
            }
            if !kind.is_file() || !ENDINGS.iter().any(|ending| name.ends_with(ending)) {
                continue;
            }
            let text = std::fs::read_to_string(entry.path()).map_err(unreadable)?;
            bytes += text.len();
            files.insert(below(&base, &entry.path())?, text);
            if files.len() > MAX_COUNT || bytes > MAX_FILES {
                return Err(format!(
                    "`{named}` has more than {MAX_COUNT} files or {} MiB of configuration",
                    MAX_FILES >> 20
                ));
            }
        }
    }
    match files.is_empty() {
        true => Err(format!("`{named}` has no configuration files")),
        false => Ok(files),
    }
}

/// A path below another, with slashes.
fn below(base: &Path, path: &Path) -> Result<String, String> {
    let path = path.strip_prefix(base).map_err(|error| error.to_string())?;
    let names = path.components().map(|part| match part {
        Component::Normal(name) => name.to_str().ok_or("a file's name is not text"),
        _ => Err("a file's path is not plain"),
    });
    let names: Result<Vec<&str>, &str> = names.collect();
    Ok(names?.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folders_configuration_is_read_and_nothing_else() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret.tf"), "s").unwrap();
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        for (path, text) in [
            ("app/main.tf", "m"),
            ("app/modules/a/main.tf", "a"),
            ("app/.terraform.lock.hcl", "l"),
            ("app/.terraform/modules/x.tf", "x"),
            ("app/terraform.tfstate", "secret"),
            ("app/notes.md", "n"),
            ("empty/notes.md", "n"),
        ] {
            let file = root.join(path);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        }
        std::os::unix::fs::symlink(outside.path(), root.join("app/away")).unwrap();
        std::os::unix::fs::symlink(outside.path(), root.join("link")).unwrap();
        let found = read_folder(&root, Path::new("app")).unwrap();
        let names: Vec<&str> = found.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            [".terraform.lock.hcl", "main.tf", "modules/a/main.tf"]
        );
        for bad in ["..", "/etc", "link", "app/../..", "empty", "nowhere"] {
            assert!(read_folder(&root, Path::new(bad)).is_err(), "{bad}");
        }
    }
}
