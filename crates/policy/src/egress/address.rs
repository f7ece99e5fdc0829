//! Which addresses are on the public network (RFC 6890 and the IANA registries of special-purpose
//! addresses, with the addresses at which clouds serve credentials).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What an address is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Somewhere on the public network.
    Public,
    /// The machine itself.
    Loopback,
    /// A private network.
    Private,
    /// The same link only.
    LinkLocal,
    /// Between a provider and its customers (RFC 6598).
    Shared,
    /// Where a cloud tells machines about themselves, credentials included.
    Metadata,
    /// Many at once.
    Multicast,
    /// Nobody, or not yet anybody.
    Reserved,
    /// For examples and measurements.
    Documentation,
    /// Holds an IPv4 address, or leads to one: mapped, compatible, NAT64, 6to4, Teredo.
    Translated,
}

impl Kind {
    /// In words, with an article.
    pub const fn in_words(self) -> &'static str {
        match self {
            Self::Public => "a public address",
            Self::Loopback => "this machine's own address",
            Self::Private => "a private address",
            Self::LinkLocal => "a link-local address",
            Self::Shared => "an address of a provider's own network",
            Self::Metadata => "the address of a metadata service",
            Self::Multicast => "a multicast address",
            Self::Reserved => "a reserved address",
            Self::Documentation => "an address for documentation or benchmarks",
            Self::Translated => "an IPv6 address that stands for an IPv4 address",
        }
    }
}

/// IPv4 ranges that are not public; the first that holds the address counts.
const IPV4: &[([u8; 4], u8, Kind)] = &[
    ([169, 254, 169, 254], 32, Kind::Metadata),
    // AWS ECS, Alibaba, Oracle, Azure's wire server (a public number, reachable inside only).
    ([169, 254, 170, 2], 32, Kind::Metadata),
    ([100, 100, 100, 200], 32, Kind::Metadata),
    ([192, 0, 0, 192], 32, Kind::Metadata),
    ([168, 63, 129, 16], 32, Kind::Metadata),
    ([0, 0, 0, 0], 8, Kind::Reserved),
    ([10, 0, 0, 0], 8, Kind::Private),
    ([100, 64, 0, 0], 10, Kind::Shared),
    ([127, 0, 0, 0], 8, Kind::Loopback),
    ([169, 254, 0, 0], 16, Kind::LinkLocal),
    ([172, 16, 0, 0], 12, Kind::Private),
    ([192, 0, 0, 0], 24, Kind::Reserved),
    ([192, 0, 2, 0], 24, Kind::Documentation),
    ([192, 88, 99, 0], 24, Kind::Translated),
    ([192, 168, 0, 0], 16, Kind::Private),
    ([198, 18, 0, 0], 15, Kind::Documentation),
    ([198, 51, 100, 0], 24, Kind::Documentation),
    ([203, 0, 113, 0], 24, Kind::Documentation),
    ([224, 0, 0, 0], 4, Kind::Multicast),
    ([240, 0, 0, 0], 4, Kind::Reserved),
];

/// IPv6 ranges that are not public. What is outside 2000::/3 is not public either.
const IPV6: &[([u16; 8], u8, Kind)] = &[
    ([0, 0, 0, 0, 0, 0, 0, 1], 128, Kind::Loopback),
    ([0, 0, 0, 0, 0, 0, 0, 0], 128, Kind::Reserved),
    ([0, 0, 0, 0, 0, 0, 0, 0], 96, Kind::Translated),
    ([0, 0, 0, 0, 0, 0xffff, 0, 0], 96, Kind::Translated),
    ([0, 0, 0, 0, 0xffff, 0, 0, 0], 96, Kind::Translated),
    ([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96, Kind::Translated),
    ([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48, Kind::Translated),
    ([0x2001, 0, 0, 0, 0, 0, 0, 0], 32, Kind::Translated),
    ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32, Kind::Documentation),
    ([0x2001, 0, 0, 0, 0, 0, 0, 0], 23, Kind::Reserved),
    ([0x2002, 0, 0, 0, 0, 0, 0, 0], 16, Kind::Translated),
    ([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20, Kind::Documentation),
    ([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254], 128, Kind::Metadata),
    ([0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254], 128, Kind::Metadata),
    ([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7, Kind::Private),
    ([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10, Kind::LinkLocal),
    ([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10, Kind::Private),
    ([0xff00, 0, 0, 0, 0, 0, 0, 0], 8, Kind::Multicast),
];

/// Globally routed addresses; the rest of IPv6 is nobody's.
const GLOBAL: Network = Network {
    base: IpAddr::V6(Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0)),
    bits: 3,
};

/// What an address is for. What is not known to be public is not.
pub fn kind(address: IpAddr) -> Kind {
    let found = match address {
        IpAddr::V4(_) => IPV4.iter().find_map(|(base, bits, kind)| {
            let base = IpAddr::V4(Ipv4Addr::from(*base));
            let bits = *bits;
            Network { base, bits }.contains(address).then_some(*kind)
        }),
        IpAddr::V6(_) => IPV6.iter().find_map(|(base, bits, kind)| {
            let base = IpAddr::V6(Ipv6Addr::from(*base));
            let bits = *bits;
            Network { base, bits }.contains(address).then_some(*kind)
        }),
    };
    match found {
        Some(kind) => kind,
        None if address.is_ipv4() || GLOBAL.contains(address) => Kind::Public,
        None => Kind::Reserved,
    }
}

/// A range of addresses: an address and how many of its first bits count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Network {
    base: IpAddr,
    bits: u8,
}

/// A text that is no range of addresses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a range of addresses like `10.1.0.0/16` or `fd00:1::/32`, with zeros where it \
     does not count"
)]
pub struct NetworkError(String);

impl Network {
    /// Whether it holds an address. IPv4 ranges hold IPv4 addresses only, written as such.
    pub fn contains(self, address: IpAddr) -> bool {
        match (self.base, address) {
            (IpAddr::V4(base), IpAddr::V4(address)) => {
                masked4(address, self.bits) == masked4(base, self.bits)
            }
            (IpAddr::V6(base), IpAddr::V6(address)) => {
                masked6(address, self.bits) == masked6(base, self.bits)
            }
            _ => false,
        }
    }
}

fn masked4(address: Ipv4Addr, bits: u8) -> u32 {
    let rest = 32 - u32::from(bits);
    u32::from(address) & u32::MAX.checked_shl(rest).unwrap_or(0)
}

fn masked6(address: Ipv6Addr, bits: u8) -> u128 {
    let rest = 128 - u32::from(bits);
    u128::from(address) & u128::MAX.checked_shl(rest).unwrap_or(0)
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let wrong = || NetworkError(text.chars().take(100).collect());
        let (base, bits) = text.split_once('/').ok_or_else(wrong)?;
        let base: IpAddr = base.parse().map_err(|_| wrong())?;
        let plain = bits.bytes().all(|byte| byte.is_ascii_digit()) && bits.len() <= 3;
        let bits: u8 = bits.parse().ok().filter(|_| plain).ok_or_else(wrong)?;
        let whole = match base {
            IpAddr::V4(ip) => bits <= 32 && masked4(ip, bits) == u32::from(ip),
            IpAddr::V6(ip) => bits <= 128 && masked6(ip, bits) == u128::from(ip),
        };
        whole.then_some(Self { base, bits }).ok_or_else(wrong)
    }
}

impl TryFrom<String> for Network {
    type Error = NetworkError;

    fn try_from(text: String) -> Result<Self, NetworkError> {
        text.parse()
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        network.to_string()
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.bits)
    }
}
