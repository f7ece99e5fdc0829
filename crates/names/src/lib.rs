//! Where names lead. Whatever connects to a host by its name asks here, and nowhere else.
//!
//! A program that is linked as usual asks the system's resolver (`getaddrinfo`), which loads modules
//! of the machine's C library as `nsswitch.conf` says. A static program brings a C library of its
//! own, into which those of another must never be loaded: it asks `stub`, which reads the files
//! that the system's resolver reads and asks the name servers that they name. Both are always
//! compiled, and tested.
//!
//! Neither keeps an answer: each question sees the machine's files and the name servers as they are.

#![forbid(unsafe_code)]

mod stub;
#[cfg(test)]
mod testing;

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use stub::Stub;

/// Whether this program is linked with everything that it needs, the C library included. Nothing
/// may be loaded into it: no modules of name services, and none for PKCS#11.
pub const STATIC: bool = cfg!(target_feature = "crt-static");

/// Every address of a name, those first that are most likely to be reached. A literal address is
/// its own, and nobody is asked.
///
/// # Errors
/// When the name leads nowhere, or nobody who should know can be asked; says which.
pub async fn look_up(name: &str) -> io::Result<Vec<IpAddr>> {
    if let Ok(ip) = name.parse() {
        return Ok(vec![ip]);
    }
    if STATIC {
        Stub::of_machine().look_up(name).await
    } else {
        by_system(name).await
    }
}

/// How long each address of a host has to take a connection.
const CONNECT: Duration = Duration::from_secs(10);

/// Connects to the first address of a host that takes it.
///
/// # Errors
/// As [`look_up`]; and what the last address said.
pub async fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut failed = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for ip in look_up(host).await? {
        match timeout(CONNECT, TcpStream::connect((ip, port))).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => failed = error,
            Err(_) => failed = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(failed)
}

/// What the system's resolver says, on a thread that may block: nothing ends a question that it
/// does not answer.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place that asks the system"
)]
async fn by_system(name: &str) -> io::Result<Vec<IpAddr>> {
    let mut addresses = Vec::new();
    for address in tokio::net::lookup_host((name, 0)).await? {
        if !addresses.contains(&address.ip()) {
            addresses.push(address.ip());
        }
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[tokio::test]
    async fn both_resolvers_know_this_machine() {
        let stub = Stub::of_machine();
        let own = IpAddr::from(Ipv4Addr::LOCALHOST);
        for found in [
            by_system("localhost").await,
            stub.look_up("localhost").await,
        ] {
            assert!(found.unwrap().contains(&own));
        }
    }

    #[tokio::test]
    async fn an_address_is_its_own() {
        for literal in ["192.0.2.1", "2001:db8::1", "::1"] {
            let found = look_up(literal).await.unwrap();
            assert_eq!(found, [literal.parse::<IpAddr>().unwrap()]);
        }
    }

    #[tokio::test]
    async fn the_first_address_that_takes_it_is_connected_to() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let stream = connect("localhost", at.port()).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), at);
    }
}
