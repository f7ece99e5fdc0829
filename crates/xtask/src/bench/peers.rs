//! Who is measured beside the gateway: the upstream itself, nginx as a plain hop, a plain hop over
//! the gateway's own libraries, LiteLLM.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context;

use super::process::{Running, find, free_port};
use crate::cargo::{cargo, target};

/// What the upstream answers.
const ANSWER: &str = r#"{"id":"chatcmpl-1","object":"chat.completion","created":1793491200,"model":"gpt-5.2","choices":[{"index":0,"message":{"role":"assistant","content":"Set instances = 2. The plan then adds one instance and updates the load balancer in place; nothing is destroyed."},"finish_reason":"stop"}],"usage":{"prompt_tokens":41,"completion_tokens":29,"total_tokens":70}}"#;

/// How long a peer may take to listen; LiteLLM takes half a minute on a busy machine.
const PATIENCE: Duration = Duration::from_secs(180);

/// Where LiteLLM's program is, when it is not on PATH.
const LITELLM: &str = "CLAWGATE_BENCH_LITELLM";

/// A server that listens.
pub(super) struct Server {
    /// The process.
    pub(super) process: Running,
    /// Its port on loopback.
    pub(super) port: u16,
}

/// An nginx that answers every call with the same chat completion.
pub(super) fn upstream(nginx: &Path, folder: &Path) -> anyhow::Result<Server> {
    let answer = format!("default_type application/json; return 200 '{ANSWER}';");
    start_nginx(nginx, &folder.join("upstream"), "", &answer)
}

/// An nginx that passes calls on to `upstream` over connections that it keeps.
pub(super) fn hop(nginx: &Path, folder: &Path, upstream: u16) -> anyhow::Result<Server> {
    let pool = format!("upstream models {{ server 127.0.0.1:{upstream}; keepalive 64; }}");
    let pass = "proxy_http_version 1.1; proxy_set_header Connection \"\"; \
                proxy_pass http://models/v1/;";
    start_nginx(nginx, &folder.join("hop"), &pool, pass)
}

/// A hop over the libraries that the gateway is made of, which decides and records nothing.
pub(super) fn plain_hop(folder: &Path, upstream: u16) -> anyhow::Result<Server> {
    let status = cargo(&[
        "build",
        "--release",
        "--package",
        "clawgate",
        "--no-default-features",
        "--example",
        "plain_hop",
    ])
    .status()
    .context("cannot start cargo")?;
    anyhow::ensure!(
        status.success(),
        "the build of the plain hop ended with {status}"
    );
    let port = free_port()?;
    let mut command = Command::new(target().join("release/examples/plain_hop"));
    command.args([port, upstream].map(|port| port.to_string()));
    let mut process = Running::start(command, &folder.join("plain-hop.log"))?;
    process.wait_for(port, Instant::now(), PATIENCE)?;
    Ok(Server { process, port })
}

/// One nginx process, with everything that it writes in a folder of its own.
fn start_nginx(nginx: &Path, folder: &Path, http: &str, location: &str) -> anyhow::Result<Server> {
    fs::create_dir(folder)?;
    let port = free_port()?;
    let temp: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|name| format!("{name}_temp_path {}; ", folder.join(name).display()))
        .collect();
    let config = format!(
        "daemon off; master_process off; worker_processes 1; pid {pid}; error_log {log} warn;\n\
         events {{ worker_connections 1024; }}\n\
         http {{ access_log off; keepalive_requests 10000000; {temp} {http}\n\
         server {{ listen 127.0.0.1:{port}; location / {{ {location} }} \
         location /openai/v1/ {{ {location} }} }} }}\n",
        pid = folder.join("pid").display(),
        log = folder.join("error.log").display(),
    );
    let file = folder.join("nginx.conf");
    fs::write(&file, config)?;
    let mut command = Command::new(nginx);
    command.arg("-c").arg(&file).arg("-p").arg(folder);
    let mut process = Running::start(command, &folder.join("output.log"))?;
    process
        .wait_for(port, Instant::now(), PATIENCE)
        .context("nginx does not listen; look at its error.log")?;
    Ok(Server { process, port })
}

/// Where LiteLLM is installed, if it is.
pub(super) fn litellm_program() -> Option<PathBuf> {
    match std::env::var_os(LITELLM) {
        Some(path) => Some(PathBuf::from(path)).filter(|path| path.is_file()),
        None => find("litellm"),
    }
}

/// LiteLLM with one worker and one model, without a database and without keys: its fastest set-up
/// that still routes and counts.
pub(super) fn litellm(program: &Path, folder: &Path, upstream: u16) -> anyhow::Result<Server> {
    let folder = folder.join("litellm");
    fs::create_dir(&folder)?;
    let file = folder.join("config.yaml");
    fs::write(
        &file,
        format!(
            "model_list:\n  - model_name: gpt-5.2\n    litellm_params:\n      \
             model: openai/gpt-5.2\n      api_base: http://127.0.0.1:{upstream}/v1\n      \
             api_key: nobody-asks-for-it\n"
        ),
    )?;
    let port = free_port()?;
    let mut command = Command::new(program);
    command
        .arg("--config")
        .arg(&file)
        .args(["--host", "127.0.0.1", "--num_workers", "1"])
        .args(["--port", &port.to_string()])
        .env("LITELLM_LOCAL_MODEL_COST_MAP", "True")
        .env("LITELLM_TELEMETRY", "False")
        .env("LITELLM_LOG", "ERROR")
        // It asks for no credential here, as nginx does; checking one would cost it more.
        .env(
            "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY",
            "true",
        )
        .current_dir(&folder);
    let log = folder.join("output.log");
    let mut process = Running::start(command, &log)?;
    process
        .wait_for(port, Instant::now(), PATIENCE)
        .with_context(|| {
            let said = fs::read_to_string(&log).unwrap_or_default();
            format!("LiteLLM does not listen; it said:\n{said}")
        })?;
    Ok(Server { process, port })
}
