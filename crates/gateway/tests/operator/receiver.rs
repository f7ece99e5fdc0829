//! What takes notices in tests: an HTTP server that answers as it is told, and a mail server.

use std::collections::VecDeque;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use http::{HeaderMap, StatusCode};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::net::TcpListener;
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::timeout;

/// How long something that must come may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Answers that never come.
pub(crate) const NEVER: u16 = 0;

/// A call as it came.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Call {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// An HTTP server on loopback that keeps what it is sent.
pub(crate) struct Receiver {
    /// Where notices go; the path is a secret of its own.
    pub(crate) url: String,
    calls: UnboundedReceiver<Call>,
}

impl Receiver {
    /// Answers with these statuses, and with 200 from then on.
    pub(crate) async fn new(answers: &[u16]) -> Self {
        let answers = Arc::new(Mutex::new(answers.iter().copied().collect::<VecDeque<_>>()));
        let (sender, calls) = unbounded_channel();
        let take = move |headers: HeaderMap, body: Bytes| {
            let answer = answers.lock().unwrap().pop_front().unwrap_or(200);
            sender.send(Call { headers, body }).unwrap();
            async move {
                if answer == NEVER {
                    std::future::pending::<()>().await;
                }
                let status = StatusCode::from_u16(answer).unwrap();
                (status, [("location", "http://127.0.0.1:1/")], "as you like")
            }
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(take);
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self {
            url: format!("http://{address}/services/T0/B0/xoxb-receivers-secret"),
            calls,
        }
    }

    /// The next call.
    pub(crate) async fn next(&mut self) -> Call {
        let next = timeout(PATIENCE, self.calls.recv()).await;
        next.expect("a notice comes").unwrap()
    }

    /// Nothing more has come.
    pub(crate) fn is_empty(&mut self) -> bool {
        self.calls.try_recv().is_err()
    }
}

/// A mail server on loopback, another program: aiosmtpd.
pub(crate) struct MailServer {
    pub(crate) address: String,
    lines: Lines<BufReader<ChildStdout>>,
    _child: Child,
}

impl MailServer {
    /// Starts it; `None` after saying that the test is skipped where it is not installed. In CI it
    /// must be.
    pub(crate) async fn start(arguments: &[&str]) -> Option<Self> {
        let skipped = || {
            assert!(
                std::env::var_os("CI").is_none(),
                "in CI, CLAWGATE_PYTHON must name a Python with `aiosmtpd`"
            );
            println!("skipped: CLAWGATE_PYTHON does not name a Python with `aiosmtpd`");
        };
        let Some(python) = std::env::var_os("CLAWGATE_PYTHON") else {
            skipped();
            return None;
        };
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/operator/mail_server.py");
        let mut child = Command::new(python)
            .arg(script)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut server = Self {
            address: String::new(),
            lines,
            _child: child,
        };
        // Without the library it ends before it says anything.
        let Some(ready) = server.line().await else {
            skipped();
            return None;
        };
        server.address = ready["address"].as_str().unwrap().to_owned();
        Some(server)
    }

    /// The next mail.
    pub(crate) async fn next(&mut self) -> Value {
        self.line().await.expect("the mail server runs")
    }

    async fn line(&mut self) -> Option<Value> {
        let line = timeout(PATIENCE, self.lines.next_line()).await;
        let line = line.expect("a mail comes").unwrap()?;
        Some(serde_json::from_str(&line).unwrap())
    }
}
