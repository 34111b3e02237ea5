//! Which addresses targets may have.

use reqwest::Url;

use super::resolver;

/// Which addresses targets may have; none given: any that is not link-local.
#[derive(Debug, Clone, Default)]
pub struct Allowed(pub Option<Vec<String>>);

impl Allowed {
    /// Checks an address before it is kept or used.
    ///
    /// # Errors
    /// What an address must be.
    pub fn check(&self, text: &str) -> Result<Url, String> {
        let url =
            Url::parse(text).map_err(|_| "must be an address such as https://production.example.com".to_owned())?;
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return Err("must begin with http:// or https://".to_owned());
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("must not hold a user or a password".to_owned());
        }
        if let Some(allowed) = &self.0 {
            let same = |one: &String| Url::parse(one).is_ok_and(|one| one.origin() == url.origin());
            if !allowed.iter().any(same) {
                return Err(
                    "is not among the addresses that the configuration allows (security.allowed_targets)".to_owned()
                );
            }
        }
        let literal = match url.host() {
            Some(url::Host::Ipv4(address)) => Some(address.into()),
            Some(url::Host::Ipv6(address)) => Some(address.into()),
            _ => None,
        };
        if literal.is_some_and(resolver::is_forbidden) {
            return Err("must not be a link-local or metadata address".to_owned());
        }
        Ok(url)
    }
}
