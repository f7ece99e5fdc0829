//! What the machine's files say: `resolv.conf` and `hosts`, as the C library reads them. Lines that
//! cannot be read are passed over, as it does.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

/// Most name servers that are asked.
const MAX_SERVERS: usize = 3;

/// Which name servers are asked, and how: resolv.conf(5).
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// In the order in which they are asked.
    pub(crate) servers: Vec<SocketAddr>,
    /// What is put behind names that are not said in full.
    pub(crate) search: Vec<String>,
    /// A name with so many dots is asked for as it is first.
    pub(crate) dots: usize,
    /// How long a server has for each answer.
    pub(crate) timeout: Duration,
    /// How often the servers are gone through.
    pub(crate) attempts: usize,
    /// Not over UDP.
    pub(crate) only_tcp: bool,
}

impl Settings {
    /// Reads `resolv.conf`. Where it says nothing, the servers are this machine's own, and the
    /// search is in the domain of the machine's name. `index` knows the number of an interface.
    pub(crate) fn read(
        text: &str,
        hostname: &str,
        port: u16,
        index: impl Fn(&str) -> Option<u32>,
    ) -> Self {
        let mut settings = Self {
            servers: Vec::new(),
            search: Vec::new(),
            dots: 1,
            timeout: Duration::from_secs(5),
            attempts: 2,
            only_tcp: false,
        };
        if let Some((_, domain)) = hostname.trim().split_once('.') {
            settings.search.push(domain.to_owned());
        }
        for line in text.lines().filter(|line| !line.starts_with(['#', ';'])) {
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("nameserver") if settings.servers.len() < MAX_SERVERS => {
                    let server = words.next().and_then(|word| server(word, port, &index));
                    settings.servers.extend(server);
                }
                Some("domain") => settings.search = words.take(1).map(str::to_owned).collect(),
                Some("search") => settings.search = words.map(str::to_owned).collect(),
                Some("options") => words.for_each(|option| settings.set(option)),
                _ => {}
            }
        }
        // The root: nothing is put behind a name.
        settings.search.retain(|domain| domain != ".");
        if settings.servers.is_empty() {
            settings.servers.push((Ipv4Addr::LOCALHOST, port).into());
        }
        settings
    }

    fn set(&mut self, option: &str) {
        let (name, value) = option.split_once(':').unwrap_or((option, ""));
        // The C library's own bounds.
        let value = |least: usize, most: usize| {
            let value: Option<usize> = value.parse().ok();
            value.map(|value| value.clamp(least, most))
        };
        match name {
            "ndots" => self.dots = value(0, 15).unwrap_or(self.dots),
            "attempts" => self.attempts = value(1, 5).unwrap_or(self.attempts),
            "timeout" => {
                if let Some(seconds) = value(1, 30) {
                    self.timeout = Duration::from_secs(seconds as u64);
                }
            }
            "use-vc" => self.only_tcp = true,
            _ => {}
        }
    }

    /// The full names that a name may mean, the likeliest first.
    pub(crate) fn candidates(&self, name: &str) -> Vec<String> {
        let searched = self.search.iter();
        let searched = searched.map(|domain| format!("{name}.{}", domain.trim_end_matches('.')));
        let own = [name.to_owned()];
        match name.matches('.').count() >= self.dots {
            true => own.into_iter().chain(searched).collect(),
            false => searched.chain(own).collect(),
        }
    }
}

/// The address of a name server; one of the link names its interface: `fe80::1%eth0`.
fn server(text: &str, port: u16, index: impl Fn(&str) -> Option<u32>) -> Option<SocketAddr> {
    let Some((ip, interface)) = text.split_once('%') else {
        return Some((text.parse::<IpAddr>().ok()?, port).into());
    };
    let number = interface.parse().ok().or_else(|| index(interface))?;
    Some(SocketAddrV6::new(ip.parse().ok()?, port, 0, number).into())
}

/// The addresses of a name in `hosts`, each once.
pub(crate) fn in_hosts(text: &str, name: &str) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for line in text.lines() {
        let said = line.split('#').next().unwrap_or_default();
        let mut words = said.split_ascii_whitespace();
        let ip = words.next().and_then(|word| word.parse().ok());
        let Some(ip) = ip.filter(|ip| !found.contains(ip)) else {
            continue;
        };
        if words.any(|word| word.eq_ignore_ascii_case(name)) {
            found.push(ip);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, hostname: &str) -> Settings {
        Settings::read(text, hostname, 53, |name| (name == "eth0").then_some(7))
    }

    #[test]
    fn what_resolv_conf_says() {
        let usual = read("", "gateway\n");
        assert_eq!(usual.servers, ["127.0.0.1:53".parse().unwrap()]);
        assert_eq!(
            usual.timeout * usual.attempts as u32,
            Duration::from_secs(10)
        );
        assert!(usual.search.is_empty() && usual.dots == 1 && !usual.only_tcp);
        assert_eq!(read("", "gateway.example.com\n").search, ["example.com"]);
        assert_eq!(
            read(
                "nonsense\nnameserver\nnameserver x\noptions ndots:x",
                "gateway"
            ),
            usual
        );

        let said = read(
            "# nameserver 192.0.2.1\n; nameserver 192.0.2.2\nnameserver 192.0.2.3\n\
             nameserver\t2001:db8::4 # the second\nnameserver fe80::5%eth0\n\
             nameserver 192.0.2.6\ndomain gone.example\nsearch a.example b.example.\n\
             options ndots:5 timeout:1 edns0\noptions attempts:99 use-vc\n",
            "gateway.example.com",
        );
        let servers = said.servers.iter().map(ToString::to_string);
        let servers: Vec<String> = servers.collect();
        assert_eq!(
            servers,
            ["192.0.2.3:53", "[2001:db8::4]:53", "[fe80::5%7]:53"]
        );
        assert_eq!(said.search, ["a.example", "b.example."]);
        assert_eq!((said.dots, said.attempts, said.only_tcp), (5, 5, true));
        assert_eq!(said.timeout, Duration::from_secs(1));
        assert_eq!(
            read("nameserver fe80::5%eth1", "gateway"),
            usual,
            "no such interface"
        );
        assert!(read("search .", "gateway.example.com").search.is_empty());
    }

    #[test]
    fn which_full_names_a_name_may_mean() {
        let few = read("search a.example b.example.", "");
        assert_eq!(few.candidates("db"), ["db.a.example", "db.b.example", "db"]);
        let as_it_is = ["db.prod", "db.prod.a.example", "db.prod.b.example"];
        assert_eq!(few.candidates("db.prod"), as_it_is);
        let many = read("search a.example\noptions ndots:5", "");
        assert_eq!(many.candidates("db.prod"), ["db.prod.a.example", "db.prod"]);
    }

    #[test]
    fn what_hosts_says() {
        let text = "127.0.0.1 localhost\n::1\tlocalhost ip6-localhost # own\n\
                    192.0.2.1 db.example DB primary\n# 192.0.2.2 db\n192.0.2.3 other # db\n\
                    nonsense db\n2001:db8::1 db\n192.0.2.1 db\n192.0.2.4\n";
        let of = |name: &str| -> Vec<String> {
            let found = in_hosts(text, name);
            found.iter().map(ToString::to_string).collect()
        };
        assert_eq!(of("localhost"), ["127.0.0.1", "::1"]);
        assert_eq!(of("Db"), ["192.0.2.1", "2001:db8::1"]);
        assert_eq!(of("db.example"), ["192.0.2.1"]);
        for absent in ["192.0.2.4", "own", "#", "d", ""] {
            assert!(of(absent).is_empty(), "{absent}");
        }
    }
}
