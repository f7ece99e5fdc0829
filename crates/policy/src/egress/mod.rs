//! Destinations outside the gateway: which hosts a contract names, which addresses are public,
//! and what the first bytes of a connection say about the server that is meant.
//!
//! Everything has one form here, so that nothing is read in two ways: a host is a lower-case name
//! or an address, never a number in disguise; a pattern is a host, or `*.` and a name.

mod address;
mod destination;
mod hello;
mod host;
mod pattern;
mod reserved;

pub use address::{Kind, Network, NetworkError, kind};
pub use destination::{Destination, DestinationError};
pub use hello::{MAX_OPENING, Opening, opening};
pub use host::{Host, HostError, HostRef};
pub use pattern::{HostPattern, PatternError};
pub use reserved::{Reserved, covers_reserved, well_known};

use serde::{Deserialize, Serialize};

/// How a destination is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EgressOperation {
    /// `CONNECT`: bytes pass in both directions.
    Connect,
    /// A plain HTTP request with a whole address.
    Request,
}

impl EgressOperation {
    /// Its stable name in records.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Request => "request",
        }
    }

    /// The port that is meant where a pattern, or a plain address, names none.
    pub const fn default_port(self) -> u16 {
        match self {
            Self::Connect => TLS_PORT,
            Self::Request => 80,
        }
    }
}

/// On this port nothing passes but TLS with the name of the host that was asked for.
pub const TLS_PORT: u16 = 443;

/// Most addresses of one name that are looked at; the others are not connected to.
pub const MAX_ADDRESSES: usize = 32;

#[cfg(test)]
mod tests;
