//! The server's names, and where they lead.
//!
//! The library would look names up by itself, as only a program can that is linked with the
//! machine's C library (`names`). So it gets addresses, with the names that certificates are for.

use std::io;
use std::net::IpAddr;

use tokio_postgres::Config;
use tokio_postgres::config::Host;

/// The same configuration with every name's addresses, looked up now. A name that leads nowhere is
/// left out when another one leads somewhere.
pub(super) async fn resolved(config: &Config) -> io::Result<Config> {
    let needs_none = |host: &Host| match host {
        Host::Tcp(name) => name.parse::<IpAddr>().is_ok(),
        #[cfg(unix)]
        Host::Unix(_) => true,
    };
    let hosts = config.get_hosts();
    let ports = config.get_ports();
    // The library refuses ports of which nobody knows whose they are.
    let unclear = ports.len() > 1 && ports.len() != hosts.len();
    if unclear || !config.get_hostaddrs().is_empty() || hosts.iter().all(needs_none) {
        return Ok(config.clone());
    }
    let mut addressed = without_hosts(config);
    let mut failed = None;
    for (n, host) in hosts.iter().enumerate() {
        // `parse` takes no folders of sockets beside names.
        let Host::Tcp(name) = host else { continue };
        let port = ports.get(n).or(ports.first()).copied();
        match names::look_up(name).await {
            Ok(found) => {
                for ip in found {
                    addressed.host(name.as_str()).hostaddr(ip);
                    addressed.port(port.unwrap_or(POSTGRES));
                }
            }
            Err(error) => failed = Some(error),
        }
    }
    match failed {
        Some(error) if addressed.get_hostaddrs().is_empty() => Err(error),
        _ => Ok(addressed),
    }
}

/// The port of a server when none is said.
const POSTGRES: u16 = 5432;

/// Everything but hosts, their addresses and ports.
fn without_hosts(config: &Config) -> Config {
    let mut new = Config::new();
    if let Some(user) = config.get_user() {
        new.user(user);
    }
    if let Some(password) = config.get_password() {
        new.password(password);
    }
    if let Some(database) = config.get_dbname() {
        new.dbname(database);
    }
    if let Some(options) = config.get_options() {
        new.options(options);
    }
    if let Some(name) = config.get_application_name() {
        new.application_name(name);
    }
    if let Some(patience) = config.get_connect_timeout() {
        new.connect_timeout(*patience);
    }
    if let Some(silence) = config.get_tcp_user_timeout() {
        new.tcp_user_timeout(*silence);
    }
    if let Some(interval) = config.get_keepalives_interval() {
        new.keepalives_interval(interval);
    }
    if let Some(retries) = config.get_keepalives_retries() {
        new.keepalives_retries(retries);
    }
    new.keepalives(config.get_keepalives())
        .keepalives_idle(config.get_keepalives_idle())
        .ssl_mode(config.get_ssl_mode())
        .ssl_negotiation(config.get_ssl_negotiation())
        .target_session_attrs(config.get_target_session_attrs())
        .channel_binding(config.get_channel_binding())
        .load_balance_hosts(config.get_load_balance_hosts());
    new
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(address: &str) -> Config {
        address.parse().unwrap()
    }

    async fn addresses(address: &str) -> Vec<(String, u16)> {
        let config = resolved(&read(address)).await.unwrap();
        let (hosts, ports) = (config.get_hosts(), config.get_ports());
        assert_eq!(hosts.len(), ports.len());
        let addresses = config.get_hostaddrs().iter().map(ToString::to_string);
        addresses.zip(ports.iter().copied()).collect()
    }

    #[test]
    fn nothing_that_is_said_gets_lost() {
        // None of them is as it would be unsaid.
        let said = "user=u password=p dbname=d options='-c a=b' application_name=n \
                    sslmode=require sslnegotiation=direct connect_timeout=3 \
                    tcp_user_timeout=4 keepalives=0 keepalives_idle=5 keepalives_interval=6 \
                    keepalives_retries=7 target_session_attrs=read-write \
                    channel_binding=require load_balance_hosts=random";
        assert_eq!(without_hosts(&read(said)), read(said));
        assert_eq!(without_hosts(&read("host=h port=1 user=u")), read("user=u"));
    }

    #[tokio::test]
    async fn names_become_addresses_and_stay_beside_them() {
        let own = ("127.0.0.1".to_owned(), 7);
        assert!(addresses("host=localhost port=7").await.contains(&own));
        let usual = addresses("host=localhost").await;
        assert!(usual.iter().all(|(_, port)| *port == POSTGRES) && !usual.is_empty());
        let two = addresses("host=localhost,192.0.2.1 port=7,8").await;
        assert!(two.contains(&own) && two.last() == Some(&("192.0.2.1".to_owned(), 8)));
        let one_port = addresses("host=localhost,192.0.2.1 port=7").await;
        assert_eq!(one_port.last(), Some(&("192.0.2.1".to_owned(), 7)));
        let config = resolved(&read("host=localhost user=u")).await.unwrap();
        let named = |host: &Host| *host == Host::Tcp("localhost".to_owned());
        assert!(config.get_hosts().iter().all(named), "{config:?}");
    }

    #[tokio::test]
    async fn what_has_its_address_stays() {
        for address in [
            "host=192.0.2.1,2001:db8::1 user=u",
            "host=db.example hostaddr=192.0.2.1",
            "host=/run/postgresql,/tmp port=7",
            "hostaddr=192.0.2.1",
            "host=localhost,localhost,localhost port=7,8",
        ] {
            assert_eq!(resolved(&read(address)).await.unwrap(), read(address));
        }
    }

    #[tokio::test]
    async fn a_name_that_leads_nowhere_is_left_out_or_said() {
        // No resolver takes it for a name.
        let error = resolved(&read("host=no..name")).await;
        assert!(error.is_err());
        let one = addresses("host=no..name,localhost port=7").await;
        assert!(one.contains(&("127.0.0.1".to_owned(), 7)));
    }
}
