//! Messages as name servers write them, and a name server.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

pub(crate) const A: u16 = 1;
pub(crate) const AAAA: u16 = 28;

/// Flags of answers, with the server's code.
pub(crate) const GOOD: u16 = 0x8180;
pub(crate) const CUT: u16 = GOOD | 0x0200;
pub(crate) const FAILED: u16 = GOOD | 2;
pub(crate) const NO_SUCH_NAME: u16 = GOOD | 3;

/// What stands in a record.
pub(crate) enum Data {
    Address(&'static str),
    Alias(&'static str),
}

/// An answer that repeats the question, with records of owners; no owner is the name that was
/// asked for, by the place where it stands.
pub(crate) fn answer(asked: &[u8], flags: u16, records: &[(&str, Data)]) -> Vec<u8> {
    let mut message = asked[..2].to_vec();
    message.extend(flags.to_be_bytes());
    message.extend([0, 1, 0, records.len() as u8, 0, 0, 0, 0]);
    message.extend(&asked[12..]);
    for (owner, data) in records {
        match *owner {
            "" => message.extend([0xc0, 12]),
            owner => message.extend(labels(owner)),
        }
        let (kind, bytes) = match data {
            Data::Alias(to) => (5, labels(to)),
            Data::Address(ip) => match ip.parse().unwrap() {
                IpAddr::V4(ip) => (A, ip.octets().to_vec()),
                IpAddr::V6(ip) => (AAAA, ip.octets().to_vec()),
            },
        };
        message.extend(kind.to_be_bytes());
        message.extend([0, 1, 0, 0, 0, 60]);
        message.extend((bytes.len() as u16).to_be_bytes());
        message.extend(bytes);
    }
    message
}

fn labels(name: &str) -> Vec<u8> {
    let labels = name.split('.');
    let labels = labels.flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat());
    labels.chain([0]).collect()
}

/// A question that a name server got.
pub(crate) struct Asked {
    pub(crate) name: String,
    pub(crate) kind: u16,
    pub(crate) over_tcp: bool,
    pub(crate) bytes: Vec<u8>,
}

impl Asked {
    fn read(bytes: &[u8], over_tcp: bool) -> Self {
        let (mut at, mut labels) = (12, Vec::new());
        while bytes[at] != 0 {
            let end = at + 1 + usize::from(bytes[at]);
            labels.push(String::from_utf8_lossy(&bytes[at + 1..end]).into_owned());
            at = end;
        }
        Self {
            name: labels.join("."),
            kind: u16::from_be_bytes([bytes[at + 1], bytes[at + 2]]),
            over_tcp,
            bytes: bytes.to_vec(),
        }
    }

    pub(crate) fn answer(&self, flags: u16, records: &[(&str, Data)]) -> Vec<u8> {
        answer(&self.bytes, flags, records)
    }
}

/// What a name server sends for a question: nothing, a message, or several.
type Script = fn(&Asked) -> Vec<Vec<u8>>;

/// A name server on loopback, on one port over UDP and TCP.
pub(crate) struct Server {
    pub(crate) port: u16,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    pub(crate) async fn start(script: Script) -> Self {
        loop {
            let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            let port = free.local_addr().unwrap().port();
            drop(free);
            // Somebody else may have it by now, or has it over UDP.
            if let Ok(server) = Self::start_at("127.0.0.1", port, script).await {
                return server;
            }
        }
    }

    pub(crate) async fn start_at(ip: &str, port: u16, script: Script) -> io::Result<Self> {
        let udp = UdpSocket::bind((ip, port)).await?;
        let tcp = TcpListener::bind((ip, port)).await?;
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (over_udp, over_tcp) = (Arc::clone(&asked), Arc::clone(&asked));
        tokio::spawn(async move {
            let mut message = [0; 512];
            loop {
                let (length, from) = udp.recv_from(&mut message).await.unwrap();
                let question = Asked::read(&message[..length], false);
                over_udp.lock().unwrap().push(question.name.clone());
                for answer in script(&question) {
                    udp.send_to(&answer, from).await.unwrap();
                }
            }
        });
        tokio::spawn(async move {
            loop {
                let (stream, _) = tcp.accept().await.unwrap();
                let name = over_stream(stream, script).await.unwrap();
                over_tcp.lock().unwrap().push(name);
            }
        });
        Ok(Self { port, asked })
    }

    /// The names that it was asked for since the last time, each once.
    pub(crate) fn asked(&self) -> Vec<String> {
        let mut asked = std::mem::take(&mut *self.asked.lock().unwrap());
        asked.dedup();
        asked
    }
}

async fn over_stream(mut stream: TcpStream, script: Script) -> io::Result<String> {
    let length = stream.read_u16().await?;
    let mut message = vec![0; usize::from(length)];
    stream.read_exact(&mut message).await?;
    let question = Asked::read(&message, true);
    for answer in script(&question) {
        stream.write_u16(answer.len() as u16).await?;
        stream.write_all(&answer).await?;
    }
    Ok(question.name)
}
