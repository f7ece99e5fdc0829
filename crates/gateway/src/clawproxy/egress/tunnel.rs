//! `CONNECT`: bytes in both directions, after the first of them have said whom they are for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::{Response, StatusCode};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use policy::ReasonCode;
use policy::egress::{Destination, Host, MAX_OPENING, Opening, TLS_PORT, opening};
use proof::record::Ended;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::meter::Meter;
use super::{Statuses, Underway, empty, name_receipt};
use crate::server::Body;

/// Bytes that are held in each direction.
const PIECE: usize = 16 * 1024;

/// How long the client's connection may take to become ours, once it was told.
const FOR_THE_CONNECTION: Duration = Duration::from_secs(10);

/// Answers `CONNECT` and passes bytes on in a task of its own.
pub(super) fn open(
    underway: Underway,
    destination: Destination,
    server: TcpStream,
    upgrade: OnUpgrade,
) -> Response<Body> {
    let mut response = empty(StatusCode::OK);
    name_receipt(&mut response, underway.permit.receipt_id());
    tokio::spawn(run(underway, destination, server, upgrade));
    response
}

async fn run(underway: Underway, destination: Destination, server: TcpStream, upgrade: OnUpgrade) {
    let meter = Arc::clone(&underway.meter);
    let passing = async {
        let client = tokio::time::timeout(FOR_THE_CONNECTION, upgrade).await;
        let Ok(Ok(client)) = client else {
            return (Ended::ClientGone, None);
        };
        match pass(TokioIo::new(client), server, &destination, &meter).await {
            Ok(()) => (Ended::Complete, None),
            Err(Break::Client) => (Ended::ClientGone, None),
            Err(Break::Server) => (Ended::UpstreamReset, None),
            Err(Break::Refused(code)) => (Ended::CutByPolicy, Some(code)),
        }
    };
    // Whoever loses is dropped, and both connections with it, before the end is recorded.
    let (ended, code) = tokio::select! {
        over = passing => over,
        reason = underway.until_cut() => (Ended::CutByPolicy, Some(reason)),
    };
    let statuses = Statuses {
        client: Some(StatusCode::OK.as_u16()),
        upstream: None,
    };
    underway.end(ended, code, statuses).await;
}

/// Why bytes stopped before both sides had said all.
#[derive(Debug, PartialEq, Eq)]
enum Break {
    Client,
    Server,
    Refused(ReasonCode),
}

/// Passes bytes until both sides have closed their direction.
async fn pass<C, S>(
    client: C,
    server: S,
    destination: &Destination,
    meter: &Meter,
) -> Result<(), Break>
where
    C: AsyncRead + AsyncWrite + Unpin,
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let (mut from_server, mut to_server) = tokio::io::split(server);
    // A client that has said all and then does not take the farewell has what it wanted.
    let said_all = AtomicBool::new(false);
    let up = async {
        let first = admitted(&mut from_client, destination).await?;
        send(&mut to_server, &first, |sent| meter.up(sent))
            .await
            .map_err(|_| Break::Server)?;
        let mut piece = vec![0; PIECE];
        loop {
            let read = from_client.read(&mut piece).await;
            let count = read.map_err(|_| Break::Client)?;
            if count == 0 {
                // The other side may still have something to say.
                said_all.store(true, Ordering::Relaxed);
                let _ = to_server.shutdown().await;
                return Ok(());
            }
            send(&mut to_server, &piece[..count], |sent| meter.up(sent))
                .await
                .map_err(|_| Break::Server)?;
        }
    };
    let down = async {
        let mut piece = vec![0; PIECE];
        loop {
            let read = from_server.read(&mut piece).await;
            let count = read.map_err(|_| Break::Server)?;
            if count == 0 {
                let _ = to_client.shutdown().await;
                return Ok(());
            }
            let sent = send(&mut to_client, &piece[..count], |sent| meter.down(sent)).await;
            match sent {
                Err(_) if said_all.load(Ordering::Relaxed) => return Ok(()),
                sent => sent.map_err(|_| Break::Client)?,
            }
        }
    };
    tokio::try_join!(up, down).map(|_| ())
}

/// Writes all of it, and counts what was taken, piece by piece.
async fn send<W>(to: &mut W, mut bytes: &[u8], count: impl Fn(&[u8])) -> std::io::Result<()>
where
    W: AsyncWrite + Unpin,
{
    while !bytes.is_empty() {
        let taken = to.write(bytes).await?;
        if taken == 0 {
            return Err(std::io::ErrorKind::WriteZero.into());
        }
        count(&bytes[..taken]);
        bytes = &bytes[taken..];
    }
    to.flush().await
}

/// The first bytes of the client, once they are what may pass.
///
/// On 443 that is TLS for the very host that was asked for. On a port that the contract names, what
/// begins like TLS is held to the same, and anything else may pass.
async fn admitted<R>(client: &mut R, to: &Destination) -> Result<Vec<u8>, Break>
where
    R: AsyncRead + Unpin,
{
    let only_tls = to.port == TLS_PORT;
    let mut come = Vec::with_capacity(2048);
    loop {
        match opening(&come) {
            Opening::Incomplete if come.len() < MAX_OPENING => {}
            Opening::Other if !only_tls => return Ok(come),
            Opening::Other | Opening::Incomplete | Opening::Malformed => {
                return Err(Break::Refused(ReasonCode::EgressNotTls));
            }
            Opening::Hello(named) => {
                let agrees = match (&to.host, named) {
                    (Host::Name(host), Some(named)) => *host == named,
                    // Addresses have no place in a ClientHello.
                    (Host::Ip(_), None) => true,
                    (Host::Name(_), None) | (Host::Ip(_), Some(_)) => false,
                };
                return match agrees {
                    true => Ok(come),
                    false => Err(Break::Refused(ReasonCode::EgressServerName)),
                };
            }
        }
        let read = client.read_buf(&mut come).await;
        if read.map_err(|_| Break::Client)? == 0 {
            return match come.is_empty() {
                // Nothing was said, so nothing passes.
                true => Ok(come),
                false if only_tls => Err(Break::Refused(ReasonCode::EgressNotTls)),
                // A first byte like TLS's and no more: it may be anything.
                false => Ok(come),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    /// The first bytes that a TLS client sends to a server of that name.
    fn hello(name: &'static str) -> Vec<u8> {
        let provider = rustls::crypto::ring::default_provider().into();
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        let name = name.try_into().unwrap();
        let mut client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        bytes
    }

    /// What reaches the server of what a client sends before it closes, and how it ends.
    async fn passes(host: &str, port: u16, pieces: &[&[u8]]) -> (Vec<u8>, Result<(), Break>) {
        let host = Host::parse(host).unwrap();
        let to = Destination { host, port };
        let (mut client, ours) = duplex(1 << 20);
        let (theirs, mut server) = duplex(1 << 20);
        let meter = Meter::start();
        let sending = async {
            for piece in pieces {
                client.write_all(piece).await.unwrap();
                tokio::task::yield_now().await;
            }
            client.shutdown().await.unwrap();
        };
        let receiving = async {
            let mut come = Vec::new();
            server.read_to_end(&mut come).await.unwrap();
            drop(server);
            come
        };
        let passing = async { pass(ours, theirs, &to, &meter).await };
        let ((), come, ended) = tokio::join!(sending, receiving, passing);
        let sent = meter.facts(None).egress.unwrap().sent_bytes;
        assert_eq!(sent, come.len() as u64, "what is counted is what went out");
        (come, ended)
    }

    #[tokio::test]
    async fn only_tls_for_the_host_that_was_asked_for_passes() {
        let good = hello("a.example");
        let mut more = good.clone();
        more.extend(b"and more");
        let (start, rest) = more.split_at(9);
        assert_eq!(
            passes("a.example", 443, &[&more]).await,
            (more.clone(), Ok(()))
        );
        assert_eq!(
            passes("a.example", 443, &[start, rest]).await,
            (more.clone(), Ok(()))
        );
        assert_eq!(passes("a.example", 443, &[]).await, (Vec::new(), Ok(())));
        let literal = hello("93.184.216.34");
        assert_eq!(
            passes("93.184.216.34", 443, &[&literal]).await,
            (literal.clone(), Ok(()))
        );
        let ssh = &b"SSH-2.0-x\r\n"[..];
        assert_eq!(
            passes("a.example", 22, &[ssh]).await,
            (ssh.to_vec(), Ok(()))
        );
        assert_eq!(
            passes("a.example", 22, &[b"\x16"]).await,
            (vec![0x16], Ok(()))
        );

        let other = hello("b.example");
        let long = [&b"\x16\x03\x01\x40\x00\x01\x00\x7f\xff"[..], &[0; 40_000]].concat();
        use ReasonCode::{EgressNotTls, EgressServerName};
        for (what, host, port, bytes, code) in [
            (
                "another server",
                "a.example",
                443,
                &other[..],
                EgressServerName,
            ),
            (
                "another server elsewhere",
                "a.example",
                22,
                &other,
                EgressServerName,
            ),
            ("no server", "a.example", 443, &literal, EgressServerName),
            (
                "a server for an address",
                "93.184.216.34",
                443,
                &good,
                EgressServerName,
            ),
            (
                "plain HTTP",
                "a.example",
                443,
                b"GET / HTTP/1.1\r\n\r\n",
                EgressNotTls,
            ),
            (
                "a tunnel in it",
                "a.example",
                443,
                b"CONNECT b.example:443 HTTP/1.1\r\n\r\n",
                EgressNotTls,
            ),
            ("SSH", "a.example", 443, ssh, EgressNotTls),
            ("half of it", "a.example", 443, start, EgressNotTls),
            ("too much of it", "a.example", 443, &long, EgressNotTls),
        ] {
            let (come, ended) = passes(host, port, &[bytes]).await;
            assert_eq!(ended, Err(Break::Refused(code)), "{what}");
            assert!(come.is_empty(), "{what}");
        }
    }
}
