//! Stands between a client and the server, cuts the connection at a commit, or all of them.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// What does not arrive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cut {
    /// The client's next commit.
    Commit,
    /// The server's answer to it.
    Answer,
    /// Whatever follows an answer in which these bytes are, on its connection.
    After(Vec<u8>),
}

pub(crate) struct Proxy {
    port: u16,
    armed: Arc<Mutex<Option<Cut>>>,
    frozen: Arc<AtomicBool>,
    through: Arc<Mutex<Through>>,
}

/// What passes.
#[derive(Default)]
struct Through {
    closed: bool,
    streams: Vec<TcpStream>,
}

impl Proxy {
    pub(crate) fn start(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let armed: Arc<Mutex<Option<Cut>>> = Arc::default();
        let frozen: Arc<AtomicBool> = Arc::default();
        let is_frozen = Arc::clone(&frozen);
        let through: Arc<Mutex<Through>> = Arc::default();
        let (server, shared) = (server.to_owned(), Arc::clone(&armed));
        let all = Arc::clone(&through);
        // It ends with the test's process.
        std::thread::spawn(move || {
            for client in listener.incoming() {
                // A server may be starting; then whoever asks is turned away.
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(&server)) else {
                    continue;
                };
                let (armed, frozen) = (Arc::clone(&shared), Arc::clone(&is_frozen));
                let mut all = all.lock().unwrap();
                if all.closed {
                    continue;
                }
                all.streams.push(client.try_clone().unwrap());
                std::thread::spawn(move || pass(client, server, &armed, &frozen));
            }
        });
        Self {
            port,
            armed,
            frozen,
            through,
        }
    }

    /// The same address, by way of this.
    pub(crate) fn instead_of(&self, address: &str) -> String {
        let (before, rest) = address.split_once("://").unwrap();
        let (user, rest) = rest.split_once('@').unwrap();
        let (_, rest) = rest.split_once('/').unwrap();
        format!("{before}://{user}@127.0.0.1:{}/{rest}", self.port)
    }

    /// Nothing passes any more.
    pub(crate) fn close(&self) {
        let mut through = self.through.lock().unwrap();
        through.closed = true;
        for stream in through.streams.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Whoever connects again passes.
    pub(crate) fn open(&self) {
        self.through.lock().unwrap().closed = false;
    }

    /// Takes whatever is sent, also by whoever connects, and passes nothing on.
    pub(crate) fn freeze(&self) {
        self.frozen.store(true, Ordering::SeqCst);
    }

    /// Passes on what comes from now on. What was sent meanwhile is lost, so those that were
    /// connected wait for ever.
    pub(crate) fn thaw(&self) {
        self.frozen.store(false, Ordering::SeqCst);
    }

    pub(crate) fn arm(&self, cut: Cut) {
        *self.armed.lock().unwrap() = Some(cut);
    }

    pub(crate) fn has_cut(&self) -> bool {
        self.armed.lock().unwrap().is_none()
    }
}

/// Passes bytes on in both directions until one side ends, or a commit is cut.
fn pass(
    client: TcpStream,
    server: TcpStream,
    armed: &Arc<Mutex<Option<Cut>>>,
    frozen: &Arc<AtomicBool>,
) {
    let back = (client.try_clone().unwrap(), server.try_clone().unwrap());
    // What comes from the server and from the client is lost from now on.
    let (silent, deaf): (Arc<AtomicBool>, Arc<AtomicBool>) = Default::default();
    let (hushed, heard, watched) = (Arc::clone(&silent), Arc::clone(&deaf), Arc::clone(armed));
    let stuck = Arc::clone(frozen);
    let answers = std::thread::spawn(move || {
        let (mut client, mut server) = back;
        let mut bytes = [0; 16 * 1024];
        while let Ok(count) = server.read(&mut bytes) {
            if count > 0 && stuck.load(Ordering::SeqCst) {
                continue;
            }
            let answered = &bytes[..count];
            let holds = |part: &Vec<u8>| answered.windows(part.len()).any(|at| at == part);
            let mut armed = watched.lock().unwrap();
            if matches!(&*armed, Some(Cut::After(part)) if holds(part)) {
                *armed = None;
                heard.store(true, Ordering::SeqCst);
            }
            drop(armed);
            // An answer has come: what was committed is committed.
            let is_silent = hushed.load(Ordering::SeqCst);
            if count == 0 || is_silent || client.write_all(answered).is_err() {
                break;
            }
        }
        let _ = client.shutdown(Shutdown::Both);
        let _ = server.shutdown(Shutdown::Both);
    });
    let (mut client, mut server) = (client, server);
    let mut bytes = [0; 16 * 1024];
    while let Ok(count) = client.read(&mut bytes) {
        if count > 0 && frozen.load(Ordering::SeqCst) {
            continue;
        }
        let sent = &bytes[..count];
        if deaf.load(Ordering::SeqCst) {
            break;
        }
        if sent.windows(6).any(|word| word == b"COMMIT") {
            let mut armed = armed.lock().unwrap();
            match armed.take_if(|cut| !matches!(cut, Cut::After(_))) {
                Some(Cut::Commit) => break,
                Some(Cut::Answer) => silent.store(true, Ordering::SeqCst),
                Some(Cut::After(_)) | None => {}
            }
        }
        if count == 0 || server.write_all(sent).is_err() {
            break;
        }
    }
    let _ = client.shutdown(Shutdown::Both);
    let _ = server.shutdown(Shutdown::Both);
    let _ = answers.join();
}
