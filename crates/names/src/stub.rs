//! The resolver of a static program: the machine's `hosts`, and then the name servers of its
//! `resolv.conf`, one after the other as the system's resolver does. The library `hickory` reads the
//! files and speaks to the servers; what differs from the system's resolver stands in
//! `docs/operations.md`.
//!
//! The files are read anew for each question, so a change of them is seen by the next one.

use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::system_conf::parse_resolv_conf;
use hickory_resolver::{Hosts, Resolver};
use tokio::time::{Instant, timeout_at};

/// How long a name may take, whatever `resolv.conf` says.
const PATIENCE: Duration = Duration::from_secs(30);

/// Most name servers that are asked: the C library's own bound.
const MAX_SERVERS: usize = 3;

/// Most addresses of a name that are of use.
const MAX_ADDRESSES: usize = 64;

/// Where it reads.
pub(crate) struct Stub {
    resolv_conf: PathBuf,
    hosts: PathBuf,
    /// The port of name servers, when it is not the usual one.
    port: Option<u16>,
}

/// What the files say when a name is asked for.
struct Known {
    servers: Vec<NameServerConfig>,
    /// How often they are gone through.
    rounds: usize,
    search: Vec<Name>,
    options: ResolverOpts,
    hosts: Hosts,
}

impl Stub {
    pub(crate) fn of_machine() -> Self {
        Self {
            resolv_conf: "/etc/resolv.conf".into(),
            hosts: "/etc/hosts".into(),
            port: None,
        }
    }

    /// Every address of a name, those of IPv6 first.
    ///
    /// # Errors
    /// As [`crate::look_up`].
    pub(crate) async fn look_up(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let Some(parsed) = parsed(name) else {
            let what = format!("`{name}` is no host's name");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        };
        let (resolv_conf, hosts) = (self.resolv_conf.clone(), self.hosts.clone());
        let reading = tokio::task::spawn_blocking(move || Known::read(&resolv_conf, &hosts));
        let mut known = reading.await.map_err(io::Error::other)??;
        if let Some(port) = self.port {
            let connections = known.servers.iter_mut().flat_map(|it| &mut it.connections);
            connections.for_each(|connection| connection.port = port);
        }
        let mut found = known.in_hosts(&parsed);
        if found.is_empty() && is_localhost(&parsed) {
            found = vec![Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()];
        }
        if found.is_empty() {
            found = known.asked(name, parsed).await?;
        }
        let mut addresses = Vec::new();
        for ip in found {
            if addresses.len() < MAX_ADDRESSES && !addresses.contains(&ip) {
                addresses.push(ip);
            }
        }
        Ok(addresses)
    }
}

/// A name that a host can have.
fn parsed(name: &str) -> Option<Name> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let parsed = Name::from_ascii(name).ok()?;
    (parsed.num_labels() > 0 && name.bytes().all(plain)).then_some(parsed)
}

/// RFC 6761, section 6.3: nobody is asked for these.
fn is_localhost(name: &Name) -> bool {
    let last = name.iter().next_back();
    last.is_some_and(|label| label.eq_ignore_ascii_case(b"localhost"))
}

impl Known {
    fn read(resolv_conf: &Path, hosts: &Path) -> io::Result<Self> {
        let cannot = |path: &Path, error: &dyn std::fmt::Display| {
            io::Error::other(format!("cannot read `{}`: {error}", path.display()))
        };
        let mut text = match fs::read(resolv_conf) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            read => read.map_err(|error| cannot(resolv_conf, &error))?,
        };
        // As resolv.conf(5) has it: where no server is named, it is this machine.
        let mut lines = text.split(|byte| *byte == b'\n');
        if !lines.any(|line| line.starts_with(b"nameserver")) {
            text.extend(b"\nnameserver 127.0.0.1\n");
        }
        let said = parse_resolv_conf(text);
        let (config, mut options) = said.map_err(|error| cannot(resolv_conf, &error))?;
        let rounds = std::mem::take(&mut options.attempts).clamp(1, 5);
        options.timeout = options.timeout.clamp(Duration::from_secs(1), PATIENCE);
        options.use_hosts_file = ResolveHosts::Never;
        options.cache_size = 0;
        let mut known = Self {
            servers: config
                .name_servers()
                .iter()
                .take(MAX_SERVERS)
                .cloned()
                .collect(),
            rounds,
            search: config.search().to_vec(),
            options,
            hosts: Hosts::default(),
        };
        match File::open(hosts) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            file => {
                let read = file.and_then(|file| known.hosts.read_hosts_conf(file));
                read.map_err(|error| cannot(hosts, &error))?;
            }
        }
        Ok(known)
    }

    /// What `hosts` says of a name.
    fn in_hosts(&self, name: &Name) -> Vec<IpAddr> {
        let mut name = name.to_lowercase();
        name.set_fqdn(true);
        let lookups = [RecordType::AAAA, RecordType::A].map(|kind| {
            self.hosts
                .lookup_static_host(&Query::query(name.clone(), kind))
        });
        let answers = lookups.iter().flatten().flat_map(|found| found.answers());
        answers.filter_map(|record| record.data.ip_addr()).collect()
    }

    /// The full names that a name may mean, the likeliest first.
    fn candidates(&self, name: Name) -> Vec<Name> {
        let mut own = name.clone();
        own.set_fqdn(true);
        if name.is_fqdn() {
            return vec![own];
        }
        let searched = self.search.iter().filter(|domain| !domain.is_root());
        let searched = searched.filter_map(|domain| name.clone().append_domain(domain).ok());
        // Dots stand between labels.
        match usize::from(name.num_labels()) > self.options.ndots {
            true => [own].into_iter().chain(searched).collect(),
            false => searched.chain([own]).collect(),
        }
    }

    /// Asks for one candidate after the other until there is an address.
    ///
    /// A candidate that is not there leads to the next one, and so does one that the servers say they
    /// cannot tell of, as broken domains of a search list are. When nobody answers, it ends: the next
    /// candidate would be another host.
    async fn asked(&self, name: &str, parsed: Name) -> io::Result<Vec<IpAddr>> {
        let until = Instant::now() + PATIENCE;
        let cannot = |why: String| io::Error::other(format!("cannot look up `{name}`: {why}"));
        let mut failed = None;
        for candidate in self.candidates(parsed) {
            match timeout_at(until, self.ask(&candidate)).await {
                Ok(Ok(found)) if found.is_empty() => {}
                Ok(Ok(found)) => return Ok(found),
                Ok(Err(Unanswered { said_so: true, why })) => failed = Some(why),
                Ok(Err(Unanswered { why, .. })) => return Err(cannot(why)),
                Err(_) => return Err(cannot("no name server answers in time".to_owned())),
            }
        }
        Err(failed.map_or_else(
            || {
                let what = format!("no host has the name `{name}`, or it has no address");
                io::Error::new(io::ErrorKind::NotFound, what)
            },
            cannot,
        ))
    }

    /// Asks the servers for a full name, in their order and more than once, until one of them knows.
    async fn ask(&self, name: &Name) -> Result<Vec<IpAddr>, Unanswered> {
        let mut failed = None;
        for server in (0..self.rounds).flat_map(|_| &self.servers) {
            match self.ask_one(server, name).await {
                Ok(found) => return Ok(found),
                Err(error) => {
                    let said_so = matches!(error, NetError::Dns(_));
                    let why = format!("the name server {}: {error}", server.ip);
                    // That somebody answered at all counts for more.
                    if said_so || failed.is_none() {
                        failed = Some(Unanswered { said_so, why });
                    }
                }
            }
        }
        let nobody = || Unanswered {
            said_so: false,
            why: "there is no name server".to_owned(),
        };
        Err(failed.unwrap_or_else(nobody))
    }

    /// Asks one server for both families. None is there only when it has said so of both.
    async fn ask_one(
        &self,
        server: &NameServerConfig,
        name: &Name,
    ) -> Result<Vec<IpAddr>, NetError> {
        let config = ResolverConfig::from_parts(None, Vec::new(), vec![server.clone()]);
        let resolver = Resolver::builder_with_config(config, TokioRuntimeProvider::default());
        let resolver = resolver.with_options(self.options.clone()).build()?;
        let (v6, v4) = tokio::join!(
            resolver.lookup(name.clone(), RecordType::AAAA),
            resolver.lookup(name.clone(), RecordType::A),
        );
        let (mut found, mut failed) = (Vec::new(), None);
        for answer in [v6, v4] {
            match answer {
                Ok(answer) => {
                    let records = answer.answers().iter();
                    found.extend(records.filter_map(|record| record.data.ip_addr()));
                }
                Err(error) if error.is_no_records_found() => {}
                Err(error) => failed = Some(error),
            }
        }
        match failed {
            Some(error) if found.is_empty() => Err(error),
            _ => Ok(found),
        }
    }
}

/// Why nobody knows.
struct Unanswered {
    /// A server answered that it cannot tell.
    said_so: bool,
    why: String,
}

#[cfg(test)]
mod tests;
