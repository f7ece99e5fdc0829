//! A model provider that sends exactly the bytes that a test tells it to.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use proof::Hash;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What it does next; after the last step it hangs up.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// Sends these bytes.
    Say(Vec<u8>),
    /// Sends these bytes so many times.
    Repeat(&'static [u8], usize),
    /// Sends these bytes until nobody takes them any more.
    Forever(&'static [u8]),
    /// Waits until the other side hangs up.
    Hang,
}

/// Says this.
pub(crate) fn say(text: impl AsRef<[u8]>) -> Step {
    Step::Say(text.as_ref().to_vec())
}

#[derive(Debug, Default)]
struct Shared {
    steps: Vec<Step>,
    /// Length and hash of the last request's body.
    body: Option<(usize, Hash)>,
    requests: usize,
}

pub(crate) struct Scripted {
    pub(crate) address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
}

impl Scripted {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Mutex::new(Shared::default()));
        let of_server = Arc::clone(&shared);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&of_server)));
            }
        });
        Self { address, shared }
    }

    /// What each request gets from now on.
    pub(crate) fn does(&self, steps: Vec<Step>) {
        self.shared.lock().unwrap().steps = steps;
    }

    /// Length and hash of the last request's body.
    pub(crate) fn body(&self) -> Option<(usize, Hash)> {
        self.shared.lock().unwrap().body
    }

    /// How many requests have come.
    pub(crate) fn requests(&self) -> usize {
        self.shared.lock().unwrap().requests
    }
}

async fn serve(mut stream: TcpStream, shared: Arc<Mutex<Shared>>) {
    let Some(body) = body(&mut stream).await else {
        return;
    };
    let steps = {
        let mut shared = shared.lock().unwrap();
        shared.requests += 1;
        shared.body = Some((body.len(), Hash::of(&body)));
        shared.steps.clone()
    };
    drop(body);
    for step in steps {
        // Who is written to may have gone: that is the end of the script.
        let done = match step {
            Step::Say(bytes) => stream.write_all(&bytes).await,
            Step::Repeat(bytes, times) => repeat(&mut stream, bytes, times).await,
            Step::Forever(bytes) => repeat(&mut stream, bytes, usize::MAX).await,
            Step::Hang => stream.read_to_end(&mut Vec::new()).await.map(|_| ()),
        };
        if done.is_err() {
            return;
        }
    }
    let _ = stream.shutdown().await;
}

async fn repeat(stream: &mut TcpStream, bytes: &[u8], times: usize) -> std::io::Result<()> {
    for _ in 0..times {
        stream.write_all(bytes).await?;
    }
    Ok(())
}

/// Reads one request with a length and gives its body.
async fn body(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    let mut end = None;
    loop {
        if end.is_none() {
            let head = bytes.windows(4).position(|four| four == b"\r\n\r\n");
            end = head.map(|head| {
                let text = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
                let length = text
                    .lines()
                    .find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
                (head + 4, head + 4 + length.unwrap_or(0_usize))
            });
        }
        if let Some((head, end)) = end
            && bytes.len() >= end
        {
            return Some(bytes.split_off(head));
        }
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return None,
            Ok(read) => bytes.extend_from_slice(&buffer[..read]),
        }
    }
}
