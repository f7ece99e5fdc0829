//! Where a connection is to go, as a request's target says it.

use super::pattern::read_port;
use super::{EgressOperation, Host, HostError};

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// The host, in its one form.
    pub host: Host,
    /// The port.
    pub port: u16,
}

/// Why a target names no destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DestinationError {
    /// The host.
    #[error(transparent)]
    Host(#[from] HostError),
    /// Something before an `@`.
    #[error("a user name is not accepted in an address")]
    User,
    /// `CONNECT` names a port.
    #[error("CONNECT needs a port, as in `example.com:443`")]
    NoPort,
    /// Not 1 to 65535 in plain decimal.
    #[error("a port is a number from 1 to 65535")]
    Port,
}

impl Destination {
    /// Reads an authority: `host:port`, and for a plain request `host` alone.
    ///
    /// # Errors
    /// See [`DestinationError`].
    pub fn parse(operation: EgressOperation, authority: &str) -> Result<Self, DestinationError> {
        if authority.contains('@') {
            return Err(DestinationError::User);
        }
        let after = authority.rfind(']').map_or(0, |end| end + 1);
        let (host, port) = match authority[after..].find(':') {
            Some(colon) => {
                let (host, port) = authority.split_at(after + colon);
                let port = read_port(&port[1..]).ok_or(DestinationError::Port)?;
                (host, port.get())
            }
            None if operation == EgressOperation::Connect => return Err(DestinationError::NoPort),
            None => (authority, operation.default_port()),
        };
        let host = Host::parse(host)?;
        Ok(Self { host, port })
    }

    /// As the field `Host` of a request names it: the port where it is not the usual one.
    pub fn authority(&self, operation: EgressOperation) -> String {
        let host = match &self.host {
            Host::Ip(ip) if ip.is_ipv6() => format!("[{ip}]"),
            host => host.to_string(),
        };
        match self.port == operation.default_port() {
            true => host,
            false => format!("{host}:{}", self.port),
        }
    }
}
