//! Which address of a name to try first: the rules of RFC 6724, section 6, but for those that want
//! to know more of the machine than where a connection would come from.

use std::cmp::Reverse;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

/// Puts those first that can be reached, and of these the ones whose kind fits the machine's own
/// address; otherwise the order stays as it is.
pub(crate) fn sort(addresses: &mut [IpAddr]) {
    sort_from(addresses, source);
}

/// Where a connection to an address would come from, `None` when it cannot be reached. Asked of the
/// system's routes; nothing is sent.
fn source(to: IpAddr) -> Option<IpAddr> {
    let any: IpAddr = match to {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect((to, 9)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

fn sort_from(addresses: &mut [IpAddr], source: impl Fn(IpAddr) -> Option<IpAddr>) {
    addresses.sort_by_cached_key(|to| {
        let (precedence, label) = policy(*to);
        let from = source(*to);
        let differs = |same: fn(IpAddr) -> u8, own: u8| from.is_some_and(|from| same(from) != own);
        (
            from.is_none(),
            differs(scope, scope(*to)),
            differs(|from| policy(from).1, label),
            Reverse(precedence),
            scope(*to),
        )
    });
}

/// Precedence and label: the table of section 2.1. Addresses of IPv4 count as mapped ones.
fn policy(ip: IpAddr) -> (u8, u8) {
    let IpAddr::V6(ip) = ip else { return (35, 4) };
    let segments = ip.segments();
    match segments {
        _ if ip == Ipv6Addr::LOCALHOST => (50, 0),
        _ if ip.to_ipv4_mapped().is_some() => (35, 4),
        [0, 0, 0, 0, 0, 0, _, _] => (1, 3),
        [0x2002, ..] => (30, 2),
        [0x2001, 0, ..] => (5, 5),
        [0x3ffe, ..] => (1, 12),
        [0xfc00..=0xfdff, ..] => (3, 13),
        [0xfec0..=0xfeff, ..] => (1, 11),
        _ => (40, 1),
    }
}

/// How far an address reaches (section 3.1): 2 the link, 5 the site, 14 everything.
fn scope(ip: IpAddr) -> u8 {
    match ip {
        IpAddr::V4(ip) if ip.is_loopback() || ip.is_link_local() => 2,
        IpAddr::V4(_) => 14,
        IpAddr::V6(ip) => match ip.segments()[0] {
            _ if ip.is_loopback() => 2,
            0xfe80..=0xfebf => 2,
            0xfec0..=0xfeff => 5,
            first @ 0xff00.. => (first & 0xf) as u8,
            _ => 14,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_the_machine_comes_first() {
        const V4: &str = "198.51.100.10";
        const V6: &str = "2001:db8::10";
        // The machine's own address of each family, what is there, and how it is tried.
        for (own, found, tried) in [
            (
                [Some(V4), Some(V6)],
                "192.0.2.1 2001:db8::1",
                "2001:db8::1 192.0.2.1",
            ),
            (
                [Some(V4), None],
                "2001:db8::1 192.0.2.1",
                "192.0.2.1 2001:db8::1",
            ),
            (
                [None, Some(V6)],
                "192.0.2.1 2001:db8::1",
                "2001:db8::1 192.0.2.1",
            ),
            // Only addresses of the site or the link: what is far is reached by IPv4.
            (
                [Some(V4), Some("fd00::10")],
                "2001:db8::1 192.0.2.1",
                "192.0.2.1 2001:db8::1",
            ),
            (
                [Some(V4), Some("fe80::10")],
                "2001:db8::1 192.0.2.1",
                "192.0.2.1 2001:db8::1",
            ),
            (
                [Some(V4), Some("fd00::10")],
                "fd00::1 192.0.2.1",
                "192.0.2.1 fd00::1",
            ),
            // A private address of IPv4 is translated on its way.
            ([Some("10.0.0.10"), None], "192.0.2.1", "192.0.2.1"),
            (
                [Some(V4), Some("2002:c633:640a::1")],
                "2002:c000:201::1 192.0.2.1",
                "192.0.2.1 2002:c000:201::1",
            ),
            (
                [Some(V4), Some(V6)],
                "2001::1 2002:c000:201::1 2001:db8::1",
                "2001:db8::1 2002:c000:201::1 2001::1",
            ),
            // Otherwise as it was said.
            (
                [Some(V4), Some(V6)],
                "192.0.2.2 192.0.2.1 192.0.2.3",
                "192.0.2.2 192.0.2.1 192.0.2.3",
            ),
            ([None, None], "192.0.2.2 192.0.2.1", "192.0.2.2 192.0.2.1"),
        ] {
            let read = |text: &str| -> Vec<IpAddr> {
                text.split(' ').map(|ip| ip.parse().unwrap()).collect()
            };
            let own = own.map(|ip| ip.map(|ip| ip.parse().unwrap()));
            let mut addresses = read(found);
            sort_from(
                &mut addresses,
                |to| if to.is_ipv4() { own[0] } else { own[1] },
            );
            assert_eq!(addresses, read(tried), "{found} from {own:?}");
        }
    }

    #[test]
    fn loopback_is_reached_from_itself() {
        let own = IpAddr::from(Ipv4Addr::LOCALHOST);
        assert_eq!(source(own), Some(own));
        let mut addresses = [own];
        sort(&mut addresses);
        assert_eq!(addresses, [own]);
    }
}
