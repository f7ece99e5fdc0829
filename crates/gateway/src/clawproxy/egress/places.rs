//! Where names lead, and which destinations are reached in another way.
//!
//! A name is looked up once for each connection, and all of its addresses are judged; what is
//! connected to is one of them. What the gateway listens on, and Terraform Enterprise, are known by
//! their addresses too: a name that somebody else has pointed there is not a way around.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};
use policy::egress::{
    Destination, EgressOperation, Host, Kind, MAX_ADDRESSES, Network, Reserved, kind, well_known,
};
use tokio::sync::{Mutex, Semaphore};
use tokio::time::{Instant, timeout};

use crate::config::Config;

/// Names that are looked up at a time: what agents ask for must not take the place of what the
/// gateway asks for itself. The system's resolver may never answer, and nothing ends that.
const MOST_LOOKUPS: usize = 32;

/// How long it holds what was found out about where a reserved name leads.
const FRESH: Duration = Duration::from_secs(5);

/// Most addresses to which a reserved name has led that are kept, the latest ones.
const MOST_KEPT: usize = 2 * MAX_ADDRESSES;

/// Looks names up. A seam, so that tests can answer differently each time.
pub trait Resolve: Send + Sync {
    /// Every address of a name.
    fn resolve<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>>;
}

/// Where names lead on this machine. All of a process' lookups share one bound.
pub struct SystemResolver;

static LOOKUPS: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(MOST_LOOKUPS)));

impl Resolve for SystemResolver {
    fn resolve<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        let name = name.to_owned();
        Box::pin(bounded(Arc::clone(&LOOKUPS), async move {
            names::look_up(&name).await
        }))
    }
}

/// Looks something up in its turn. A place is free again when that has ended, and not when nobody
/// waits for it any more.
async fn bounded<T: Send + 'static>(
    places: Arc<Semaphore>,
    looking: impl Future<Output = io::Result<T>> + Send + 'static,
) -> io::Result<T> {
    let place = places.acquire_owned().await.map_err(io::Error::other)?;
    let looking = tokio::spawn(async move {
        let _place = place;
        looking.await
    });
    looking.await.map_err(io::Error::other)?
}

/// What is known about destinations besides the contract.
pub(super) struct Places {
    resolver: Arc<dyn Resolve>,
    patience: Duration,
    excepted: Vec<Network>,
    listening: Vec<SocketAddr>,
    reserved: Vec<Known>,
}

/// A destination that is reached in another way.
struct Known {
    whose: Reserved,
    host: Host,
    port: u16,
    led_to: Mutex<LedTo>,
}

/// Where a reserved name leads. Held while it is looked up, so that one question serves all.
#[derive(Default)]
struct LedTo {
    /// What it has led to, the latest last: an address that is answered in turn stays known.
    addresses: Vec<IpAddr>,
    asked: Option<Instant>,
}

impl LedTo {
    fn add(&mut self, found: &[IpAddr]) {
        let found = found.iter().map(IpAddr::to_canonical);
        for ip in found {
            self.addresses.retain(|known| *known != ip);
            self.addresses.push(ip);
        }
        let old = self.addresses.len().saturating_sub(MOST_KEPT);
        self.addresses.drain(..old);
    }
}

impl Known {
    fn new(whose: Reserved, to: Destination) -> Self {
        Self {
            whose,
            host: to.host,
            port: to.port,
            led_to: Mutex::default(),
        }
    }

    /// Whether another name that leads to its address would reach it. What the vendors run shares
    /// its addresses with many others and tells them apart by the name that TLS is meant for, which
    /// is held to the name of the destination.
    fn is_known_by_address(&self) -> bool {
        match (&self.host, self.whose) {
            (Host::Ip(_), _) | (_, Reserved::Gateway) => true,
            (Host::Name(name), Reserved::TerraformCloud) => well_known(name).is_none(),
            (Host::Name(_), Reserved::ModelProvider) => false,
        }
    }
}

/// What a look at a destination has found.
pub(super) struct Found {
    pub(super) addresses: Vec<IpAddr>,
    pub(super) excepted: Vec<Network>,
    pub(super) reserved: Option<Reserved>,
}

/// The hosts that the configuration gives to others: published contracts must not list them.
pub fn reserved_hosts(config: &Config) -> Vec<(String, Reserved)> {
    let known = named(config).into_iter();
    known
        .filter(|(_, to)| !is_this_machine(&to.host))
        .map(|(whose, to)| (to.host.to_string(), whose))
        .collect()
}

fn is_this_machine(host: &Host) -> bool {
    match host {
        Host::Name(name) => name == "localhost",
        Host::Ip(ip) => ip.is_loopback() || ip.is_unspecified(),
    }
}

/// Every destination that the configuration names for itself.
fn named(config: &Config) -> Vec<(Reserved, Destination)> {
    let tasks = config.run_tasks.as_ref();
    let own = [
        config.agent_listener.public_url.as_deref(),
        config.operator_listener.public_url.as_deref(),
        tasks.and_then(|tasks| tasks.public_url.as_deref()),
    ];
    let own = own.into_iter().flatten();
    let own = own.filter_map(|url| Some((Reserved::Gateway, of_url(url)?)));
    let upstream = &config.terraform_cloud;
    let objects = upstream.object_hosts.iter();
    let objects = objects.filter_map(|host| {
        let with_port = Destination::parse(EgressOperation::Connect, host);
        let host = with_port
            .or_else(|_| Destination::parse(EgressOperation::Connect, &format!("{host}:443")));
        Some((Reserved::TerraformCloud, host.ok()?))
    });
    let base = of_url(&upstream.url).map(|to| (Reserved::TerraformCloud, to));
    let models = config.models.values();
    let models = models
        .filter_map(|provider| Some((Reserved::ModelProvider, of_url(&provider.plain_url())?)));
    own.chain(base).chain(objects).chain(models).collect()
}

fn of_url(url: &str) -> Option<Destination> {
    let uri: http::Uri = url.parse().ok()?;
    let usual = match uri.scheme_str() {
        Some("https") => 443,
        _ => 80,
    };
    let port = uri.port_u16().unwrap_or(usual);
    let host = Host::parse(uri.host()?).ok()?;
    Some(Destination { host, port })
}

impl Places {
    pub(super) fn new(
        config: &Config,
        listening: Vec<SocketAddr>,
        urls: [&str; 2],
        resolver: Arc<dyn Resolve>,
    ) -> Self {
        let own = urls.iter().filter_map(|url| of_url(url));
        let own = own.map(|to| (Reserved::Gateway, to));
        let mut known: Vec<Known> = Vec::new();
        for (whose, to) in own.chain(named(config)) {
            let same = |known: &Known| {
                known.whose == whose && known.host == to.host && known.port == to.port
            };
            if !known.iter().any(same) {
                known.push(Known::new(whose, to));
            }
        }
        Self {
            resolver,
            patience: Duration::from_secs(config.egress.connect_timeout_seconds),
            excepted: config.egress.allow_private.clone(),
            listening,
            reserved: known,
        }
    }

    pub(super) fn by_name(&self, to: &Destination) -> Option<Reserved> {
        let same = |known: &&Known| {
            // A name of Terraform Cloud or of a provider is theirs on every port; on this machine,
            // and at the gateway's own name, others may listen beside.
            let anywhere = known.whose != Reserved::Gateway && matches!(known.host, Host::Name(_));
            let every_port = anywhere && !is_this_machine(&known.host);
            known.host == to.host && (every_port || known.port == to.port)
        };
        self.reserved.iter().find(same).map(|known| known.whose)
    }

    /// Looks a destination up. A name leads nowhere as long as nobody knows whether it leads to
    /// what is reached in another way.
    pub(super) async fn look_up(&self, to: &Destination) -> Found {
        let others = self.reserved.iter();
        let others = others.filter(|known| known.port == to.port && known.is_known_by_address());
        let others =
            join_all(others.map(|known| async { (known.whose, self.led_to(known).await) }));
        let (mut addresses, others) = tokio::join!(self.addresses(&to.host), others);
        if matches!(to.host, Host::Name(_)) && others.iter().any(|(_, led_to)| led_to.is_empty()) {
            addresses.clear();
        }
        let reserved = addresses.iter().find_map(|ip| {
            let at = SocketAddr::new(ip.to_canonical(), to.port);
            if self.is_listening(at) {
                return Some(Reserved::Gateway);
            }
            let known = others.iter().find(|(_, led_to)| led_to.contains(&at.ip()));
            known.map(|(whose, _)| *whose)
        });
        let holds = |range: &&Network| addresses.iter().any(|ip| range.contains(*ip));
        let needed = addresses.iter().any(|ip| kind(*ip) != Kind::Public);
        let excepted = self.excepted.iter().filter(|_| needed).filter(holds);
        Found {
            excepted: excepted.copied().collect(),
            addresses,
            reserved,
        }
    }

    /// Each address of a host once, in the order in which the resolver prefers them.
    async fn addresses(&self, host: &Host) -> Vec<IpAddr> {
        let name = match host {
            Host::Ip(ip) => return vec![*ip],
            Host::Name(name) => name,
        };
        let looked_up = timeout(self.patience, self.resolver.resolve(name)).await;
        let mut addresses = Vec::new();
        for ip in looked_up.into_iter().flatten().flatten() {
            if addresses.len() < MAX_ADDRESSES && !addresses.contains(&ip) {
                addresses.push(ip);
            }
        }
        addresses
    }

    /// Where a reserved host leads and has led, empty while nobody knows. It is looked up again
    /// when that was a while ago; what cannot be looked up leads where it has led.
    async fn led_to(&self, known: &Known) -> Vec<IpAddr> {
        // Whoever looks it up has no more patience than this.
        let mut led_to = known.led_to.lock().await;
        if led_to.asked.is_none_or(|asked| asked.elapsed() >= FRESH) {
            let found = self.addresses(&known.host).await;
            led_to.add(&found);
            led_to.asked = Some(Instant::now());
            if led_to.addresses.is_empty() {
                tracing::warn!(
                    host = %known.host,
                    port = known.port,
                    "cannot look up a host that is not reached through the egress proxy; names \
                     are refused on its port until its own addresses are known"
                );
            }
        }
        led_to.addresses.clone()
    }

    fn is_listening(&self, at: SocketAddr) -> bool {
        self.listening.iter().any(|own| {
            let ip = own.ip().to_canonical();
            own.port() == at.port()
                && (ip == at.ip()
                    || (ip.is_loopback() && at.ip().is_loopback())
                    || (ip.is_unspecified() && is_own(at.ip())))
        })
    }
}

/// Whether an address is one of this machine: then it is also where a connection to it would come
/// from. Asked of the system's routes; nothing is sent.
fn is_own(ip: IpAddr) -> bool {
    if ip.is_loopback() || ip.is_unspecified() {
        return true;
    }
    let any: IpAddr = match ip {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let from = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect((ip, 9))?;
        socket.local_addr()
    });
    // What cannot be routed cannot be connected to either.
    from.is_ok_and(|from| from.ip() == ip)
}

impl super::Egress {
    pub(super) fn reserved_by_name(&self, to: &Destination) -> Option<Reserved> {
        self.places.by_name(to)
    }

    pub(super) async fn look_up(&self, to: &Destination) -> Found {
        self.places.look_up(to).await
    }
}

#[cfg(test)]
mod tests;
