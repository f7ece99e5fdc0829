//! Asking name servers, one after the other.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{Instant, timeout_at};

use crate::files::Settings;
use crate::message::{Family, Name, Question, Said};

/// Longest message over UDP that is read. What is longer than 512 bytes was not asked for.
const MAX_DATAGRAM: usize = 4096;

/// Why nobody could say where a name leads.
#[derive(Debug)]
pub(crate) struct Unanswered {
    /// What the last server did, for people.
    pub(crate) why: String,
    /// A server was there, and said that it cannot tell.
    pub(crate) said_so: bool,
}

/// Asks the servers in their order until one knows; none, when there is no such name or no such
/// address of it. None is waited for beyond `until`.
pub(crate) async fn ask(
    settings: &Settings,
    name: &Name,
    family: Family,
    until: Instant,
) -> Result<Vec<IpAddr>, Unanswered> {
    let mut last = Unanswered {
        why: "no name server was asked".to_owned(),
        said_so: false,
    };
    for _ in 0..settings.attempts {
        for server in &settings.servers {
            let now = Instant::now();
            if now >= until {
                return Err(last);
            }
            let asking = exchange(*server, name, family, settings.only_tcp);
            let answer = timeout_at(until.min(now + settings.timeout), asking).await;
            let (why, said_so) = match answer {
                Ok(Ok(Said::Addresses(addresses))) => return Ok(addresses),
                Ok(Ok(Said::Failed(code))) => (meaning(code), true),
                Ok(Ok(_)) => ("answers what cannot be read".to_owned(), false),
                Ok(Err(error)) => (format!("cannot be asked: {error}"), false),
                Err(_) => ("does not answer".to_owned(), false),
            };
            let why = format!("the name server {server} {why}");
            last = Unanswered { why, said_so };
        }
    }
    Err(last)
}

/// What a server's code means (RFC 1035, section 4.1.1).
fn meaning(code: u8) -> String {
    let meaning = match code {
        2 => "failed",
        5 => "refuses to answer",
        code => return format!("answers with code {code}"),
    };
    meaning.to_owned()
}

/// One question to one server, each from a port of its own: over UDP, and over TCP what is too long
/// for it.
async fn exchange(
    server: SocketAddr,
    name: &Name,
    family: Family,
    only_tcp: bool,
) -> io::Result<Said> {
    let mut id = [0; 2];
    getrandom::fill(&mut id).map_err(io::Error::other)?;
    let question = Question::new(u16::from_be_bytes(id), name.clone(), family);
    if !only_tcp {
        let said = over_udp(server, &question).await?;
        if said != Said::Truncated {
            return Ok(said);
        }
    }
    over_tcp(server, &question).await
}

async fn over_udp(server: SocketAddr, question: &Question) -> io::Result<Said> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    // From now on the system takes nothing that comes from elsewhere.
    socket.connect(server).await?;
    socket.send(&question.to_bytes()).await?;
    let mut message = [0; MAX_DATAGRAM];
    loop {
        let length = socket.recv(&mut message).await?;
        match question.read(&message[..length]) {
            // A late answer to another question, or somebody who guesses.
            Said::Foreign => {}
            said => return Ok(said),
        }
    }
}

async fn over_tcp(server: SocketAddr, question: &Question) -> io::Result<Said> {
    let mut stream = TcpStream::connect(server).await?;
    let asked = question.to_bytes();
    let length = u16::try_from(asked.len()).map_err(io::Error::other)?;
    stream.write_all(&length.to_be_bytes()).await?;
    stream.write_all(&asked).await?;
    let length = stream.read_u16().await?;
    let mut message = vec![0; usize::from(length)];
    stream.read_exact(&mut message).await?;
    Ok(question.read(&message))
}
