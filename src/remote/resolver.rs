//! Name resolution that never gives a link-local or metadata address: the check and the connection
//! use the same answer, so a name cannot point elsewhere in between.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Resolves with the system, without what targets may not be.
pub(super) struct Guarded;

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            Ok(Box::new(usable(tokio::net::lookup_host((name.as_str(), 0)).await?)?.into_iter()) as Addrs)
        })
    }
}

/// What is left of an answer; a name that also has an address that targets may not have keeps the others.
fn usable(found: impl Iterator<Item = SocketAddr>) -> Result<Vec<SocketAddr>, &'static str> {
    let usable: Vec<SocketAddr> = found.filter(|address| !is_forbidden(address.ip())).collect();
    if usable.is_empty() { Err("the name has no address that may be used") } else { Ok(usable) }
}

/// Where clouds answer about themselves outside link-local addresses.
const METADATA: [Ipv4Addr; 3] =
    [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(192, 0, 0, 192), Ipv4Addr::new(168, 63, 129, 16)];

/// Link-local, unspecified and metadata addresses, also inside IPv6.
pub(super) fn is_forbidden(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            v4.is_link_local()
                || v4.is_unspecified()
                || v4.is_broadcast()
                || v4.is_multicast()
                || v4.octets()[0] == 0
                || METADATA.contains(&v4)
        }
        IpAddr::V6(v6) => {
            // The networks in which clouds answer about themselves, whatever the host: AWS, Google.
            let metadata = matches!(v6.segments(), [0xfd00, 0x0ec2, ..] | [0xfd20, 0x00ce, ..]);
            metadata
                || v6.is_unicast_link_local()
                || v6.is_unspecified()
                || v6.is_multicast()
                || inside(v6).is_some_and(|v4| !v6.is_loopback() && is_forbidden(IpAddr::V4(v4)))
        }
    }
}

/// The IPv4 address that an IPv6 one leads to: mapped, compatible, translated (NAT64), 6to4.
fn inside(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    let from = |high: u16, low: u16| Ipv4Addr::from(u32::from(high) << 16 | u32::from(low));
    match v6.segments() {
        // The well-known prefix, and those for use inside a network.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x64, 0xff9b, 1, _, _, _, high, low] => Some(from(high, low)),
        [0x2002, high, low, ..] => Some(from(high, low)),
        _ => v6.to_ipv4(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::super::Allowed;
    use super::usable;

    #[test]
    fn a_name_is_never_resolved_to_a_link_local_address() {
        let addresses =
            |texts: &[&str]| -> Vec<SocketAddr> { texts.iter().map(|text| text.parse().unwrap()).collect() };
        let left = |texts: &[&str]| usable(addresses(texts).into_iter());
        // Whatever a name answers the second time, this very answer is what is connected to.
        let mixed =
            ["169.254.169.254:0", "192.0.2.1:0", "[fe80::1]:0", "[2001:db8::1]:0", "[::ffff:169.254.169.254]:0"];
        assert_eq!(left(&mixed), Ok(addresses(&["192.0.2.1:0", "[2001:db8::1]:0"])));
        assert_eq!(left(&["127.0.0.1:0", "0.0.0.0:0"]), Ok(addresses(&["127.0.0.1:0"])));
        assert!(left(&["169.254.169.254:0", "[fe80::1]:0"]).is_err());
        assert!(left(&[]).is_err());
    }

    #[test]
    fn link_local_addresses_are_refused_in_every_spelling() {
        let allowed = Allowed::default();
        for address in [
            "http://169.254.169.254/",
            "http://0251.0376.0251.0376/",
            "http://2852039166/",
            "http://0xa9fea9fe/",
            "http://[::ffff:169.254.169.254]/",
            "http://[fe80::1]/",
            "http://[::a9fe:a9fe]/",
            "http://[64:ff9b::169.254.169.254]/",
            "http://[2002:a9fe:a9fe::1]/",
            "http://169.254.43518/",
            "http://0xa9.0xfe.0xa9.0xfe/",
            "http://0xa9.254.0251.254/",
            "http://１６９.254.169.254/",
            "http://100.100.100.200/",
            "http://168.63.129.16/",
            "http://0.1.2.3/",
            "http://[ff02::1]/",
            "http://[fd00:ec2::254]/",
            "http://[fd00:ec2::23]/",
            "http://[fd20:ce::254]/",
            "http://[64:ff9b:1::a9fe:a9fe]/",
            "http://0.0.0.0/",
            "ftp://example.com/",
            "http://user:secret@example.com/",
            "http://user@example.com/",
            "http://:secret@example.com/",
            "http://example.com@169.254.169.254/",
            "production",
        ] {
            assert!(allowed.check(address).is_err(), "{address}");
        }
        assert!(allowed.check("http://127.0.0.1:8082").is_ok());
        assert!(allowed.check("https://production.example.com").is_ok());
        let narrow = Allowed(Some(vec!["https://production.example.com".to_owned()]));
        assert!(narrow.check("https://production.example.com/").is_ok());
        assert!(narrow.check("https://production.example.com.evil.org/").is_err());
    }
}
