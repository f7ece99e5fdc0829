//! An agent that makes calls over a few connections.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Mutex;

/// Connections, and so calls at a time.
const CONNECTIONS: usize = 16;

pub(crate) struct Agent {
    to: SocketAddr,
    token: String,
    connections: Vec<Arc<Mutex<Option<TcpStream>>>>,
}

impl Agent {
    pub(crate) fn new(url: &str, token: String) -> Self {
        Self {
            to: url.trim_start_matches("http://").parse().unwrap(),
            token,
            connections: (0..CONNECTIONS).map(|_| Arc::default()).collect(),
        }
    }

    /// Reads a run.
    pub(crate) fn reads(&self, run: &str) -> String {
        self.request("GET", &format!("/api/v2/runs/{run}"), &self.token, "")
    }

    /// Asks a model.
    pub(crate) fn asks(&self) -> String {
        let body = r#"{"model":"gpt-4.1","messages":[{"role":"user","content":"hello"}]}"#;
        self.request("POST", "/openai/v1/chat/completions", &self.token, body)
    }

    /// Shows a token for the first time.
    pub(crate) fn pings(&self, token: &str) -> String {
        self.request("GET", "/api/v2/ping", token, "")
    }

    fn request(&self, method: &str, path: &str, token: &str, body: &str) -> String {
        let about = match body.len() {
            0 => String::new(),
            length => format!("content-type: application/json\r\ncontent-length: {length}\r\n"),
        };
        format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {token}\r\n{about}\r\n{body}",
            self.to
        )
    }

    /// Makes these calls, as many at a time as there are connections. One that is not answered with
    /// this status is told of: then something else was measured.
    pub(crate) async fn calls(&self, calls: Vec<String>, status: &'static str) {
        let mut lanes = vec![Vec::new(); CONNECTIONS];
        for (n, call) in calls.into_iter().enumerate() {
            lanes[n % CONNECTIONS].push(call);
        }
        let lanes = lanes.into_iter().zip(&self.connections);
        let running: Vec<_> = lanes
            .map(|(lane, connection)| {
                let (to, connection) = (self.to, Arc::clone(connection));
                tokio::spawn(async move {
                    let mut connection = connection.lock().await;
                    for call in lane {
                        let stream = match &mut *connection {
                            Some(stream) => stream,
                            empty => empty.insert(TcpStream::connect(to).await.unwrap()),
                        };
                        stream.write_all(call.as_bytes()).await.unwrap();
                        answered(stream, status).await;
                    }
                })
            })
            .collect();
        for lane in running {
            lane.await.unwrap();
        }
    }
}

/// Reads one answer, with a length or without a body.
async fn answered(stream: &mut TcpStream, status: &str) {
    let mut read = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let more = stream.read(&mut buffer).await.unwrap();
        assert_ne!(more, 0, "{}", String::from_utf8_lossy(&read));
        read.extend_from_slice(&buffer[..more]);
        let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") else {
            continue;
        };
        let head = String::from_utf8_lossy(&read[..end]).to_ascii_lowercase();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
        if read.len() >= end + 4 + length.unwrap_or(0_usize) {
            if !head.contains(status) {
                eprintln!("not {status}: {}", String::from_utf8_lossy(&read));
            }
            return;
        }
    }
}
