//! The connections that all our requests share.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http_body_util::Full;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tower_service::Service;

use crate::config::Config;

/// The connection pool that all our requests share.
pub type HttpClient = Client<Connector, Full<Bytes>>;

/// What makes its connections.
pub type Connector = HttpsConnector<PlainConnector>;

/// What makes those below TLS.
pub type PlainConnector = HttpConnector<Names>;

/// Tells connectors where names lead.
#[derive(Debug, Clone, Copy)]
pub struct Names;

impl Service<Name> for Names {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        Box::pin(async move {
            let found = names::look_up(name.as_str()).await?;
            // The port is the connector's affair.
            let addresses = found.into_iter().map(|ip| SocketAddr::new(ip, 0));
            Ok(addresses.collect::<Vec<_>>().into_iter())
        })
    }
}

/// Makes the pool: system certificates, plus the configured ones.
///
/// # Errors
/// When certificates cannot be read.
pub fn http_client(config: &Config) -> anyhow::Result<HttpClient> {
    http_client_with(config.terraform_cloud.ca_file.as_deref())
}

/// The same with the certificates of one more file: the operators' commands use it too.
///
/// # Errors
/// When certificates cannot be read.
pub fn http_client_with(ca_file: Option<&Path>) -> anyhow::Result<HttpClient> {
    Ok(Client::builder(TokioExecutor::new())
        .pool_idle_timeout(Duration::from_secs(60))
        .pool_max_idle_per_host(64)
        .build(connector_with(ca_file)?))
}

/// What makes its connections, for whoever wants one of their own.
///
/// # Errors
/// When certificates cannot be read.
pub fn connector_with(ca_file: Option<&Path>) -> anyhow::Result<Connector> {
    Ok(connector(tls_client(ca_file)?))
}

/// The same under this TLS.
pub(crate) fn connector(tls: rustls::ClientConfig) -> Connector {
    let mut plain = plain_connector();
    // TLS comes on top of it.
    plain.enforce_http(false);
    hyper_rustls::HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http()
        .enable_http1()
        .wrap_connector(plain)
}

/// Makes connections without TLS.
pub fn plain_connector() -> PlainConnector {
    HttpConnector::new_with_resolver(Names)
}

/// TLS as we speak it to others: under the system's certificates and those of the file.
///
/// # Errors
/// When certificates cannot be read.
pub fn tls_client(ca_file: Option<&Path>) -> anyhow::Result<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in authorities(ca_file)? {
        roots.add(certificate)?;
    }
    let provider = rustls::crypto::ring::default_provider();
    Ok(rustls::ClientConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

/// The certificate authorities that we believe: the system's, as far as they can be read, and
/// those of the file, each of which must.
///
/// # Errors
/// When certificates of the file cannot be read.
pub fn authorities(ca_file: Option<&Path>) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let readable = |certificate: &CertificateDer<'static>| {
        let mut one = rustls::RootCertStore::empty();
        one.add(certificate.clone()).is_ok()
    };
    let mut all = rustls_native_certs::load_native_certs().certs;
    all.retain(readable);
    if let Some(file) = ca_file {
        for certificate in CertificateDer::pem_file_iter(file)? {
            all.push(certificate?);
        }
    }
    Ok(all)
}

/// The innermost cause, which says most: "connection refused" rather than "client error".
pub fn cause(error: &dyn std::error::Error) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[tokio::test]
    async fn connectors_are_told_where_names_lead() {
        let name: Name = "localhost".parse().unwrap();
        let mut found = Names.call(name).await.unwrap();
        assert!(found.any(|at| at == (Ipv4Addr::LOCALHOST, 0).into()));
        // No resolver takes it for a name.
        assert!(Names.call("no..name".parse().unwrap()).await.is_err());
    }
}
