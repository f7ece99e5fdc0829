//! The listeners: accept, TLS, bounds on connections and on waiting, and a graceful end.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_rustls::TlsAcceptor;

use self::certificate::Certificate;
use crate::config::{Limits, Listener, Tls};

mod certificate;

/// An error of a body that is passed on.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The body of our answers.
pub type Body = UnsyncBoxBody<bytes::Bytes, BoxError>;

/// Largest request head, in bytes; tokens and trace headers fit many times over.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// Most header fields in one request.
const MAX_HEADERS: usize = 64;

/// How long a TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// A listener that has its port but accepts nothing yet.
pub struct Bound {
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    /// How clients write the address, without a slash at the end.
    pub url: String,
}

impl Bound {
    /// Takes the port and reads the certificate.
    ///
    /// # Errors
    /// When the port is taken, or the certificate or key cannot be used.
    pub async fn bind(config: &Listener) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(config.address)
            .await
            .with_context(|| format!("cannot listen on {}", config.address))?;
        let address = listener.local_addr()?;
        let tls = config.tls.as_ref().map(acceptor).transpose()?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let url = match &config.public_url {
            Some(url) => with_port(url.trim_end_matches('/'), address.port()),
            None => format!("{scheme}://{address}"),
        };
        Ok(Self { listener, tls, url })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Accepts until `stop` says so, then lets running calls finish for the drain time.
    pub async fn serve<H, F>(self, limits: &Limits, mut stop: watch::Receiver<bool>, handler: H)
    where
        H: Fn(Request<Incoming>, SocketAddr) -> F + Clone + Send + 'static,
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        let connections = Arc::new(Semaphore::new(limits.connections));
        let holders = Arc::new(Holders::new(limits.connections_per_holder));
        // Ends when every connection has let go of its end of it.
        let (open, mut all_closed) = mpsc::channel::<()>(1);
        let header_timeout = Duration::from_secs(limits.header_timeout_seconds);
        loop {
            let accepted = tokio::select! {
                accepted = self.accept(&connections) => accepted,
                _ = stop.wait_for(|stop| *stop) => break,
            };
            let Some((stream, peer, slot)) = accepted else {
                continue;
            };
            let Some(place) = holders.enter(peer.ip().to_canonical()) else {
                continue;
            };
            let (tls, handler) = (self.tls.clone(), handler.clone());
            let (open, mut stop) = (open.clone(), stop.clone());
            tokio::spawn(async move {
                let _held = (slot, place, open);
                let service = service_fn(move |request| {
                    let answer = handler(request, peer);
                    async move { Ok::<_, Infallible>(answer.await) }
                });
                let Some(io) = handshake(stream, tls).await else {
                    return;
                };
                let connection = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(header_timeout)
                    .max_buf_size(MAX_HEAD_BYTES)
                    .max_headers(MAX_HEADERS)
                    .serve_connection(TokioIo::new(io), service)
                    // For `CONNECT`; nothing else that is answered here becomes another protocol.
                    .with_upgrades();
                let mut connection = std::pin::pin!(connection);
                // A connection that breaks is the client's affair; calls log their own ends.
                tokio::select! {
                    _ = connection.as_mut() => {}
                    () = async { drop(stop.wait_for(|stop| *stop).await) } => {
                        connection.as_mut().graceful_shutdown();
                        let _ = connection.await;
                    }
                }
            });
        }
        drop((self.listener, open));
        let drain = Duration::from_secs(limits.drain_seconds);
        if tokio::time::timeout(drain, all_closed.recv())
            .await
            .is_err()
        {
            tracing::warn!("calls were still running after {} s", drain.as_secs());
        }
    }

    async fn accept(
        &self,
        connections: &Arc<Semaphore>,
    ) -> Option<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
        // The slot is taken first: when all are in use, the kernel's queue waits, not our memory.
        let slot = Arc::clone(connections).acquire_owned().await.ok()?;
        match self.listener.accept().await {
            Ok((stream, peer)) => {
                let _ = stream.set_nodelay(true);
                Some((stream, peer, slot))
            }
            Err(error) => {
                // Out of descriptors, most likely: wait a moment instead of spinning.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
                None
            }
        }
    }
}

/// Either a plain or an encrypted stream.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

async fn handshake(stream: TcpStream, tls: Option<TlsAcceptor>) -> Option<Box<dyn Stream>> {
    match tls {
        None => Some(Box::new(stream)),
        Some(acceptor) => {
            let encrypted = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream));
            Some(Box::new(encrypted.await.ok()?.ok()?))
        }
    }
}

/// An address whose port 0 stands for the port that was taken.
fn with_port(url: &str, taken: u16) -> String {
    match url.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            match authority.strip_suffix(":0") {
                Some(host) => format!("{scheme}://{host}:{taken}{path}"),
                None => url.to_owned(),
            }
        }
        None => url.to_owned(),
    }
}

fn acceptor(tls: &Tls) -> anyhow::Result<TlsAcceptor> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let certificate = Certificate::read(tls, Arc::clone(&provider))?;
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(certificate));
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Counts connections by client address, so that one client cannot take all.
struct Holders {
    most: usize,
    open: Mutex<HashMap<IpAddr, usize>>,
}

/// A counted connection; leaving is dropping.
struct Place {
    holders: Arc<Holders>,
    address: IpAddr,
}

impl Holders {
    fn new(most: usize) -> Self {
        Self {
            most,
            open: Mutex::default(),
        }
    }

    fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let mut open = self.open.lock().expect("no panic while it is held");
        let count = open.entry(address).or_insert(0);
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Place {
            holders: Arc::clone(self),
            address,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.holders.open.lock().expect("no panic while it is held");
        if let Some(count) = open.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.address);
            }
        }
    }
}

/// A whole body.
pub fn whole(bytes: impl Into<bytes::Bytes>) -> Body {
    use http_body_util::{BodyExt, Full};
    Body::new(Full::new(bytes.into()).map_err(|never| match never {}))
}

/// Resolves when the process is asked to stop (Ctrl-C or SIGTERM).
///
/// # Errors
/// When signals cannot be watched.
pub async fn stop_signal() -> io::Result<()> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        result = tokio::signal::ctrl_c() => result,
        _ = terminate.recv() => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_0_of_a_public_address_is_the_one_that_was_taken() {
        for (url, told) in [
            ("http://localhost:0", "http://localhost:4711"),
            ("https://a.example.com:0/x", "https://a.example.com:4711/x"),
            ("https://a.example.com", "https://a.example.com"),
            ("https://a.example.com:10", "https://a.example.com:10"),
            ("https://a.example.com/:0", "https://a.example.com/:0"),
        ] {
            assert_eq!(with_port(url, 4711), told);
        }
    }

    use rustls::pki_types::ServerName;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[test]
    fn one_client_cannot_take_all_connections() {
        let holders = Arc::new(Holders::new(2));
        let (one, other) = ([127, 0, 0, 1].into(), [127, 0, 0, 2].into());
        let first = holders.enter(one).unwrap();
        let _second = holders.enter(one).unwrap();
        assert!(holders.enter(one).is_none());
        assert!(holders.enter(other).is_some());
        drop(first);
        assert!(holders.enter(one).is_some());
    }

    /// Speaks TLS to a listener with a certificate, and plain HTTP to the same listener.
    #[tokio::test]
    async fn a_listener_with_a_certificate_speaks_tls_and_nothing_else() {
        let make = || rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let (made, renewed) = (make(), make());
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: String| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let tls = Tls {
            certificate_file: file("cert.pem", made.cert.pem()),
            key_file: file("key.pem", made.signing_key.serialize_pem()),
        };
        let address = ([127, 0, 0, 1], 0).into();
        let listener = Listener {
            address,
            public_url: None,
            tls: Some(tls),
            allow_plaintext: false,
        };
        let bound = Bound::bind(&listener).await.unwrap();
        let url = bound.url.clone();
        let address = url
            .strip_prefix("https://")
            .expect("the address says https")
            .to_owned();
        let (stop, stopping) = watch::channel(false);
        let served = tokio::spawn(async move {
            let answer = |_, _| async { Response::new(whole("over TLS")) };
            bound.serve(&Limits::default(), stopping, answer).await;
        });

        let request = b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        let over_tls = async |trusted: &rcgen::CertifiedKey<rcgen::KeyPair>| {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(trusted.cert.der().clone()).unwrap();
            let client = rustls::ClientConfig::builder_with_provider(
                rustls::crypto::ring::default_provider().into(),
            )
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
            let name = ServerName::try_from("localhost").unwrap();
            let stream = TcpStream::connect(&address).await.unwrap();
            let connector = tokio_rustls::TlsConnector::from(Arc::new(client));
            let mut stream = connector.connect(name, stream).await?;
            stream.write_all(request).await.unwrap();
            let mut answer = String::new();
            // The server closes without a TLS farewell, which is no error after a whole answer.
            let _ = stream.read_to_string(&mut answer).await;
            assert!(
                answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("over TLS"),
                "{answer}"
            );
            io::Result::Ok(())
        };
        over_tls(&made).await.unwrap();
        assert!(over_tls(&renewed).await.is_err());
        // Renewed while it runs: each file is another one in its place.
        for (name, text) in [
            ("cert.pem", renewed.cert.pem()),
            ("key.pem", renewed.signing_key.serialize_pem()),
        ] {
            let new = file("new.pem", text);
            std::fs::rename(new, folder.path().join(name)).unwrap();
        }
        over_tls(&renewed).await.unwrap();
        assert!(over_tls(&made).await.is_err());

        let mut plain = TcpStream::connect(&address).await.unwrap();
        plain.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        let _ = plain.read_to_end(&mut answer).await;
        assert!(
            !answer.starts_with(b"HTTP/"),
            "a plain answer on a TLS listener"
        );
        stop.send_replace(true);
        served.await.unwrap();
    }
}
