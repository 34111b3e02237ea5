//! Name resolution that never gives a link-local or metadata address: the check and the connection
//! use the same answer, so a name cannot point elsewhere in between.

use std::net::{IpAddr, SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Resolves with the system, without what targets may not be.
pub(super) struct Guarded;

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let allowed: Vec<SocketAddr> = found.into_iter().filter(|address| !is_forbidden(address.ip())).collect();
            if allowed.is_empty() {
                return Err("the name has no address that may be used".into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

/// Link-local and unspecified addresses, also inside IPv6; cloud metadata services answer there.
pub(super) fn is_forbidden(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_unspecified() || v4.is_broadcast() || v4.is_multicast(),
        IpAddr::V6(v6) => {
            let metadata = v6.segments() == [0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254];
            metadata
                || v6.is_unicast_link_local()
                || v6.is_unspecified()
                || v6.is_multicast()
                || v6.to_ipv4().is_some_and(|v4| !v6.is_loopback() && is_forbidden(IpAddr::V4(v4)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Allowed;

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
            "http://[fd00:ec2::254]/",
            "http://0.0.0.0/",
            "ftp://example.com/",
            "http://user:secret@example.com/",
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
