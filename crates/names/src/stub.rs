//! The resolver of a static program: the machine's `hosts`, and then the name servers of its
//! `resolv.conf`. What differs from the system's resolver stands in `docs/operations.md`.
//!
//! The files are read anew for each question, so a change of them is seen by the next one.

use std::fs;
use std::io::{self, Read as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

use crate::files::{Settings, in_hosts};
use crate::message::{Family, MAX_ADDRESSES, Name};
use crate::order;
use crate::servers::{Unanswered, ask};

/// How long a name may take, whatever `resolv.conf` says.
const PATIENCE: Duration = Duration::from_secs(30);

/// Largest file that is read, in bytes: lists of blocked hosts are long.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// Where it reads, and on which port name servers are asked.
pub(crate) struct Stub {
    resolv_conf: PathBuf,
    hosts: PathBuf,
    /// The machine's own name.
    hostname: PathBuf,
    port: u16,
}

/// What the files say when a name is asked for.
struct Known {
    hosts: Vec<IpAddr>,
    settings: Settings,
}

impl Stub {
    pub(crate) fn of_machine() -> Self {
        Self {
            resolv_conf: "/etc/resolv.conf".into(),
            hosts: "/etc/hosts".into(),
            hostname: "/proc/sys/kernel/hostname".into(),
            port: 53,
        }
    }

    /// Every address of a name, the likeliest first.
    ///
    /// # Errors
    /// As [`crate::look_up`].
    pub(crate) async fn look_up(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let plain = name.strip_suffix('.').unwrap_or(name);
        let Some(parsed) = Name::parse(plain) else {
            let what = format!("`{name}` is no host's name");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        };
        let known = self.read(plain).await?;
        let mut addresses = if !known.hosts.is_empty() {
            known.hosts
        } else if is_localhost(plain) {
            vec![Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()]
        } else if plain.len() < name.len() {
            asked(&known.settings, name, &[parsed]).await?
        } else {
            let candidates = known.settings.candidates(plain);
            let candidates = candidates.iter().filter_map(|full| Name::parse(full));
            asked(&known.settings, name, &candidates.collect::<Vec<_>>()).await?
        };
        addresses.truncate(MAX_ADDRESSES);
        order::sort(&mut addresses);
        Ok(addresses)
    }

    async fn read(&self, name: &str) -> io::Result<Known> {
        let (resolv_conf, hosts) = (self.resolv_conf.clone(), self.hosts.clone());
        let (hostname, port) = (self.hostname.clone(), self.port);
        let name = name.to_owned();
        let reading = tokio::task::spawn_blocking(move || {
            let hosts = in_hosts(&text(&hosts)?, &name);
            let (resolv_conf, hostname) = (text(&resolv_conf)?, text(&hostname)?);
            let settings = Settings::read(&resolv_conf, &hostname, port, index);
            Ok(Known { hosts, settings })
        });
        reading.await.map_err(io::Error::other)?
    }
}

/// A file's text, empty when it is not there.
fn text(path: &Path) -> io::Result<String> {
    let unreadable = |error: io::Error| {
        io::Error::new(
            error.kind(),
            format!("cannot read `{}`: {error}", path.display()),
        )
    };
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
        Err(error) => return Err(unreadable(error)),
    };
    let mut bytes = Vec::new();
    let read = file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(unreadable)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(unreadable(io::Error::other("it is too large")));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The number of a network interface.
fn index(interface: &str) -> Option<u32> {
    if interface.contains('/') {
        return None;
    }
    let file = Path::new("/sys/class/net").join(interface).join("ifindex");
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// RFC 6761, section 6.3: nobody is asked for these.
fn is_localhost(name: &str) -> bool {
    let last = name.rsplit('.').next();
    last.is_some_and(|label| label.eq_ignore_ascii_case("localhost"))
}

/// Asks for both families of one candidate after the other until there is an address.
///
/// A candidate that is not there leads to the next one, and so does one that the servers say they
/// cannot tell of, as broken domains of a search list are. When nobody answers, it ends: the next
/// candidate would be another host.
async fn asked(settings: &Settings, name: &str, candidates: &[Name]) -> io::Result<Vec<IpAddr>> {
    let until = Instant::now() + PATIENCE;
    let mut failed = None;
    for candidate in candidates {
        let (v6, v4) = tokio::join!(
            ask(settings, candidate, Family::V6, until),
            ask(settings, candidate, Family::V4, until),
        );
        let mut addresses = Vec::new();
        let mut silent = false;
        for answer in [v6, v4] {
            match answer {
                Ok(found) => addresses.extend(found),
                Err(error) => {
                    silent |= !error.said_so;
                    failed = Some(error);
                }
            }
        }
        if !addresses.is_empty() {
            return Ok(addresses);
        }
        if silent {
            break;
        }
    }
    Err(match failed {
        None => io::Error::new(
            io::ErrorKind::NotFound,
            format!("no host has the name `{name}`, or it has no address"),
        ),
        Some(Unanswered { why, .. }) => io::Error::other(format!("cannot look up `{name}`: {why}")),
    })
}

#[cfg(test)]
mod tests;
