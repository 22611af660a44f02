//! The peer of a call: the unit among which budgets are shared.

use std::net::{IpAddr, Ipv4Addr};

/// The bits of an IPv6 address after its network prefix: a client with one address can use all of that network.
const HOST_BITS: u32 = 64;

/// The origin of a call, as far as budgets distinguish it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Peer(Origin);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
enum Origin {
    /// The server itself.
    #[default]
    Server,
    V4(Ipv4Addr),
    V6(u128),
}

impl From<IpAddr> for Peer {
    /// The peer of an address: an IPv4 address, also in its IPv6-mapped form, or the network of an IPv6 address.
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self(Origin::V4(address)),
            IpAddr::V6(address) => Self(Origin::V6(u128::from(address) >> HOST_BITS)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_told_apart_by_address_or_network() {
        let peer = |address: &str| Peer::from(address.parse::<IpAddr>().expect("an address"));
        assert_eq!(peer("10.0.0.1"), peer("10.0.0.1"));
        assert_ne!(peer("10.0.0.1"), peer("10.0.0.2"));
        assert_eq!(peer("10.0.0.1"), peer("::ffff:10.0.0.1"));
        assert_ne!(peer("::ffff:10.0.0.1"), peer("::ffff:10.0.0.2"));
        assert_eq!(peer("2001:db8:0:1::1"), peer("2001:db8:0:1:ffff::2"));
        assert_ne!(peer("2001:db8:0:1::1"), peer("2001:db8:0:2::1"));
        assert_ne!(peer("127.0.0.1"), Peer::default());
    }
}
