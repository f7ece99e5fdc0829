//! `clawgate health`: whether a running gateway can take calls, for what starts it anew when not.
//!
//! It asks the operator listener of the configuration on this machine. With TLS it takes whatever
//! certificate it is shown: the question carries no credential and nothing that is secret, whoever
//! can answer at this machine's own address could say "well" anyway, and a certificate that was
//! renewed or has run out is no reason to kill a gateway that works.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use http::{Request, StatusCode, header};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, Error, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::Failure;
use crate::config::{Config, Listener};

/// What starts programs anew asks every few seconds and waits about as long.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks a running gateway whether it can take calls
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  clawgate health --config clawgate.toml
  clawgate health --live

Prints nothing when it can, and exits with 0; with 1 otherwise.")]
pub(super) struct Health {
    /// The configuration file of the running gateway
    #[arg(long, value_name = "FILE", default_value = "clawgate.toml")]
    config: PathBuf,
    /// Ask only whether the process answers
    #[arg(long)]
    live: bool,
}

impl Health {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let config = Config::load(&self.config)?;
        let path = if self.live { "/healthz" } else { "/readyz" };
        let listener = &config.operator_listener;
        let asked = tokio::time::timeout(PATIENCE, ask(listener, path)).await;
        let status = asked
            .unwrap_or_else(|_| Err(format!("no answer within {} s", PATIENCE.as_secs())))
            .map_err(|why| Failure::new(format!("{}: {why}", listener.address)))?;
        match status {
            StatusCode::OK => Ok(()),
            other => Err(Failure::new(format!("{path} answers {other}"))
                .next("the gateway's log says why; `clawgate doctor` looks further")),
        }
    }
}

async fn ask(listener: &Listener, path: &str) -> Result<StatusCode, String> {
    let address = here(listener.address);
    let stream = TcpStream::connect(address)
        .await
        .map_err(|error| error.to_string())?;
    match &listener.tls {
        None => exchange(stream, path).await,
        Some(_) => {
            let name = ServerName::IpAddress(address.ip().into());
            let stream = connector()?
                .connect(name, stream)
                .await
                .map_err(|error| error.to_string())?;
            exchange(stream, path).await
        }
    }
}

/// An address that means all of this machine's is reached by the loopback one.
fn here(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        });
    }
    address
}

async fn exchange<S>(stream: S, path: &str) -> Result<StatusCode, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let broken = |error: hyper::Error| error.to_string();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    let request = Request::get(path)
        .header(header::HOST, "localhost")
        .body(Empty::<bytes::Bytes>::new())
        .map_err(|error| error.to_string())?;
    let asked = async { sender.send_request(request).await.map_err(broken) };
    tokio::select! {
        // It ends with the answer; until then both have to be driven.
        biased;
        answer = asked => answer.map(|answer| answer.status()),
        ended = connection => Err(ended.err().map_or_else(|| "closed".to_owned(), broken)),
    }
}

fn connector() -> Result<TlsConnector, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Any(Arc::clone(&provider));
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok(Arc::new(config).into())
}

/// Takes every certificate, for a question without a credential to this machine's own address;
/// see the head of this file. Its key is proved like any other, so a listener whose certificate
/// and key do not fit is found.
#[derive(Debug)]
struct Any(Arc<CryptoProvider>);

impl ServerCertVerifier for Any {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.0.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    use http_body_util::BodyExt as _;
    use tokio::sync::watch;

    use crate::config::{Limits, Tls};
    use crate::server::{Bound, whole};

    /// A certificate of its own for each name of a file.
    fn certificate(folder: &Path, name: &str) -> Tls {
        let made = rcgen::generate_simple_self_signed(vec!["elsewhere.example".to_owned()]);
        let made = made.unwrap();
        let tls = Tls {
            certificate_file: folder.join(format!("{name}.crt")),
            key_file: folder.join(format!("{name}.key")),
        };
        std::fs::write(&tls.certificate_file, made.cert.pem()).unwrap();
        std::fs::write(&tls.key_file, made.signing_key.serialize_pem()).unwrap();
        tls
    }

    fn listener(address: SocketAddr, tls: Option<Tls>) -> Listener {
        Listener {
            address,
            public_url: None,
            tls,
            allow_plaintext: false,
        }
    }

    /// Answers `/readyz` with 200 and all else with 503, until it is dropped.
    async fn gateway(tls: Option<Tls>) -> (SocketAddr, watch::Sender<bool>) {
        let bound = listener("127.0.0.1:0".parse().unwrap(), tls);
        let bound = Bound::bind(&bound).await.unwrap();
        let address = bound.address().unwrap();
        let (stop, stopping) = watch::channel(false);
        tokio::spawn(async move {
            let limits = Limits::default();
            let answer = |request: Request<hyper::body::Incoming>, _| async move {
                let ready = request.uri().path() == "/readyz";
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let mut response = http::Response::new(whole(body));
                if !ready {
                    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
                }
                response
            };
            bound.serve(&limits, stopping, answer).await;
        });
        (address, stop)
    }

    #[tokio::test]
    async fn the_answer_is_the_gateways() {
        let folder = tempfile::tempdir().unwrap();
        let (own, renewed) = (
            certificate(folder.path(), "own"),
            certificate(folder.path(), "renewed"),
        );
        for tls in [None, Some(own.clone())] {
            let (address, _stop) = gateway(tls.clone()).await;
            let asked = listener(address, tls);
            assert_eq!(ask(&asked, "/readyz").await, Ok(StatusCode::OK));
            let silent = ask(&asked, "/healthz").await;
            assert_eq!(silent, Ok(StatusCode::SERVICE_UNAVAILABLE));
        }
        // The file is another one than what is served, or is gone.
        let (address, _stop) = gateway(Some(own.clone())).await;
        let asked = listener(address, Some(renewed.clone()));
        assert_eq!(ask(&asked, "/readyz").await, Ok(StatusCode::OK));
        std::fs::remove_file(&renewed.certificate_file).unwrap();
        assert_eq!(ask(&asked, "/readyz").await, Ok(StatusCode::OK));
        // Without TLS where TLS is spoken, and the other way round.
        assert!(ask(&listener(address, None), "/readyz").await.is_err());
        let (address, _stop) = gateway(None).await;
        assert!(ask(&listener(address, Some(own)), "/readyz").await.is_err());
        // Nobody answers.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        assert!(ask(&listener(address, None), "/readyz").await.is_err());
    }

    #[test]
    fn all_addresses_are_reached_by_the_loopback_one() {
        for (configured, asked) in [
            ("0.0.0.0:8788", "127.0.0.1:8788"),
            ("[::]:8788", "[::1]:8788"),
            ("10.0.0.7:8788", "10.0.0.7:8788"),
        ] {
            assert_eq!(here(configured.parse().unwrap()), asked.parse().unwrap());
        }
    }
}
