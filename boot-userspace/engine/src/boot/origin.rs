//! Where machines have reached this server: links lead back there.

use std::fmt;
use std::net::SocketAddr;

/// The longest name of a host (RFC 1035 section 2.3.4), with a port.
const LONGEST: usize = 255 + 6;

/// Scheme, host and port of this server as a machine has reached it (RFC 6454), without a slash at the end. Holds nothing
/// that would be more than a part of a URL in any format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin(String);

impl Origin {
    /// Over HTTPS by the name that the client itself used (`Host`): another name is not in the certificate. `None`: it is no
    /// name.
    #[must_use]
    pub fn https(host: &str) -> Option<Self> {
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']' | '_');
        (!host.is_empty() && host.len() <= LONGEST && host.chars().all(good))
            .then(|| Self(format!("https://{host}")))
    }

    /// Over HTTPS by an address.
    #[must_use]
    pub fn https_at(address: SocketAddr) -> Self {
        Self(format!("https://{address}"))
    }

    /// Such as `http://10.1.0.2:8080`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The address or name alone.
    #[must_use]
    pub fn host(&self) -> &str {
        let (_, host) = self.0.split_once("://").unwrap_or_default();
        match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((address, _)) => address,
            None => host.split(':').next().unwrap_or(host),
        }
    }

    /// The URL of a path, which begins with a slash.
    #[must_use]
    pub fn at(&self, path: impl fmt::Display) -> String {
        format!("{}{path}", self.0)
    }
}

impl From<SocketAddr> for Origin {
    fn from(address: SocketAddr) -> Self {
        Self(format!("http://{address}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_nothing_else() {
        for (host, origin) in [
            ("boot.example.net", Some("https://boot.example.net")),
            ("10.1.0.2:8443", Some("https://10.1.0.2:8443")),
            ("[2001:db8::1]:8443", Some("https://[2001:db8::1]:8443")),
            ("", None),
            ("a/b", None),
            ("a b", None),
            ("a\nchain", None),
            ("${x}", None),
            ("a@b", None),
            (&"x".repeat(262), None),
        ] {
            assert_eq!(Origin::https(host).as_ref().map(Origin::as_str), origin, "{host}");
        }
        let address: SocketAddr = "10.1.0.2:8080".parse().unwrap();
        assert_eq!(Origin::from(address).at("/boot.ipxe"), "http://10.1.0.2:8080/boot.ipxe");
        assert_eq!(Origin::https_at(address).as_str(), "https://10.1.0.2:8080");
        for (origin, host) in [
            (Origin::https_at(address), "10.1.0.2"),
            (Origin::https("boot.example.net").unwrap(), "boot.example.net"),
            (Origin::https("[2001:db8::1]:8443").unwrap(), "2001:db8::1"),
        ] {
            assert_eq!(origin.host(), host);
        }
    }
}
