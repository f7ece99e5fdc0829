//! An upstream that misbehaves: it passes requests on to the stand-in, and does to the answers
//! what a test asks for.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use serde_json::{Map, Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What must never come out on the other side.
pub(crate) const POISON: &str = "POISONPOISON";

/// What is done to answers.
#[derive(Debug, Clone)]
pub(crate) enum Mischief {
    /// Every object, at every depth, says more than it should.
    Poisoned,
    /// This status, with secrets in body and headers.
    Status(u16),
    /// Success, and this text.
    Text(String),
    /// This status and content type, and the request itself, credentials and all.
    Echo(u16, &'static str),
    /// Every answer is about this other object.
    About(Value),
}

pub(crate) struct Poisoner {
    address: SocketAddr,
    mischief: Arc<Mutex<Option<Mischief>>>,
}

impl Poisoner {
    /// Stands before an upstream.
    pub(crate) async fn before(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let mischief = Arc::new(Mutex::new(None));
        let shared = Arc::clone(&mischief);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, upstream, Arc::clone(&shared)));
            }
        });
        Self { address, mischief }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn set(&self, mischief: Option<Mischief>) {
        *self.mischief.lock().unwrap() = mischief;
    }
}

async fn serve(mut client: TcpStream, upstream: SocketAddr, shared: Arc<Mutex<Option<Mischief>>>) {
    let Some(request) = message(&mut client).await else {
        return;
    };
    let mischief = shared.lock().unwrap().clone();
    let answer = match mischief {
        Some(Mischief::Status(status)) => refused(status),
        Some(Mischief::Echo(status, kind)) => {
            let text = json!({"error": {"message": String::from_utf8_lossy(&request)}});
            let text = match kind {
                "text/event-stream" => format!("data: {text}\n\ndata: [DONE]\n\n"),
                _ => text.to_string(),
            };
            let answer = String::from_utf8(written(status, text.as_bytes())).unwrap();
            answer
                .replacen("application/vnd.api+json", kind, 1)
                .into_bytes()
        }
        Some(Mischief::Text(text)) => written(200, text.as_bytes()),
        Some(Mischief::About(object)) => written(200, object.to_string().as_bytes()),
        other => {
            let answer = passed_on(upstream, &request).await;
            match other {
                Some(_) => poisoned(answer),
                None => answer,
            }
        }
    };
    let _ = client.write_all(&answer).await;
    let _ = client.shutdown().await;
}

/// Reads one message by its length, head included.
async fn message(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 8192];
    loop {
        if let Some(end) = head_end(&bytes) {
            let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: ")?.trim().parse().ok())
                .unwrap_or(0_usize);
            if bytes.len() >= end + length {
                return Some(bytes);
            }
        }
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return None,
            Ok(n) => bytes.extend_from_slice(&buffer[..n]),
        }
    }
}

fn head_end(bytes: &[u8]) -> Option<usize> {
    bytes
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .map(|at| at + 4)
}

async fn passed_on(upstream: SocketAddr, request: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(upstream).await.unwrap();
    let line = request
        .windows(2)
        .position(|window| window == b"\r\n")
        .unwrap()
        + 2;
    stream.write_all(&request[..line]).await.unwrap();
    stream.write_all(b"connection: close\r\n").await.unwrap();
    stream.write_all(&request[line..]).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    answer
}

fn poisoned(answer: Vec<u8>) -> Vec<u8> {
    let Some(end) = head_end(&answer) else {
        return answer;
    };
    let Ok(mut body) = serde_json::from_slice::<Value>(&answer[end..]) else {
        return answer;
    };
    spoil(&mut body);
    let status = String::from_utf8_lossy(&answer[9..12]).parse().unwrap();
    written(status, body.to_string().as_bytes())
}

fn spoil(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.values_mut().for_each(spoil);
            members.extend(more());
        }
        Value::Array(elements) => elements.iter_mut().for_each(spoil),
        _ => {}
    }
}

/// What an answer may come to hold one day.
fn more() -> Map<String, Value> {
    let url = format!("https://archivist.terraform.io/v1/object/{POISON}");
    let Value::Object(members) = json!({
        "zz-poison": POISON,
        "zz-nested": { "token": POISON, "list": [POISON] },
        "hosted-json-state-download-url": url,
        "sanitized-state-download-url": url,
        "created-by": { "data": { "type": "users", "id": POISON } },
        "user": POISON,
        "variables": [{ "key": "a", "value": POISON }],
        "readme": POISON,
        "setting-overwrites": { "a": POISON },
    }) else {
        unreachable!("it is an object")
    };
    members
}

fn refused(status: u16) -> Vec<u8> {
    let errors = json!({"errors": [{
        "status": status.to_string(), "title": POISON, "detail": format!("ask {POISON}@example.com"),
    }]});
    written(status, errors.to_string().as_bytes())
}

fn written(status: u16, body: &[u8]) -> Vec<u8> {
    let mut answer = format!(
        "HTTP/1.1 {status} {POISON}\r\ncontent-type: application/vnd.api+json\r\n\
         content-length: {}\r\nconnection: close\r\nlocation: https://{POISON}.example/{POISON}\r\n\
         set-cookie: session={POISON}\r\nwww-authenticate: Bearer realm=\"{POISON}\"\r\n\
         x-request-id: {POISON}\r\nserver: {POISON}\r\n\r\n",
        body.len(),
    )
    .into_bytes();
    answer.extend_from_slice(body);
    answer
}
