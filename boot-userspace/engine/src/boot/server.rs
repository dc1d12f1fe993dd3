//! Where machines have reached this server: links lead back there.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use super::hand_out::HandOut;
use super::link::Signer;
use super::token::Token;
use crate::config::ImageName;

/// The longest name of a host (RFC 1035 section 2.3.4), with a port.
const LONGEST: usize = 255 + 6;

/// This server as one machine has reached it: scheme, host and port (RFC 6454), who signs its links, the token in the URLs of
/// its documents, and what it fetches elsewhere. Holds nothing that would be more than a part of a URL in any format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    origin: String,
    signer: Option<Signer>,
    token: Option<Token>,
    pinned: Option<Pinned>,
    hand_out: Arc<HandOut>,
}

/// Where the agent reaches this server by HTTPS, and what it knows it by.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pinned {
    /// By its address: in an initrd nobody looks up names, and a key is known whatever the name is.
    origin: String,
    /// SHA-256 of the certificate's public key (SubjectPublicKeyInfo, RFC 7469 section 2.4).
    key: [u8; 32],
}

impl Server {
    /// Over HTTPS by the name that the client itself used (`Host`): another name is not in the certificate. `None`: it is no
    /// name.
    #[must_use]
    pub fn https(host: &str) -> Option<Self> {
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']' | '_');
        (!host.is_empty() && host.len() <= LONGEST && host.chars().all(good))
            .then(|| Self::of(format!("https://{host}")))
    }

    fn of(origin: String) -> Self {
        Self { origin, signer: None, token: None, pinned: None, hand_out: Arc::default() }
    }

    /// Over HTTPS by an address.
    #[must_use]
    pub fn https_at(address: SocketAddr) -> Self {
        Self::of(format!("https://{address}"))
    }

    /// The same with links that only one machine can use.
    #[must_use]
    pub fn signed_by(self, signer: Option<Signer>) -> Self {
        Self { signer, ..self }
    }

    /// The same with the address and the key that the agent knows it by.
    #[must_use]
    pub fn pinned(self, address: SocketAddr, key: Option<[u8; 32]>) -> Self {
        let pinned = key.map(|key| Pinned { origin: format!("https://{address}"), key });
        Self { pinned, ..self }
    }

    /// The URL of a path for the agent.
    #[must_use]
    pub fn for_agent(&self, path: impl fmt::Display) -> String {
        let origin = self.pinned.as_ref().map_or(&self.origin, |pinned| &pinned.origin);
        format!("{origin}{path}")
    }

    /// What the agent knows this server by, as `sha256:` and 64 hexadecimal digits; empty without HTTPS.
    #[must_use]
    pub fn key(&self) -> String {
        let digits = |key: &[u8; 32]| key.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        self.pinned.as_ref().map(|pinned| format!("sha256:{}", digits(&pinned.key))).unwrap_or_default()
    }

    /// The same with a token in the URLs of documents.
    #[must_use]
    pub fn with_token(self, token: Option<Token>) -> Self {
        Self { token, ..self }
    }

    /// The same with images that are fetched elsewhere.
    #[must_use]
    pub fn handing_out(self, images: Arc<HandOut>) -> Self {
        Self { hand_out: images, ..self }
    }

    /// Where an image is fetched that is not fetched here.
    #[must_use]
    pub fn elsewhere(&self, image: &ImageName) -> Option<&str> {
        self.hand_out.url(image)
    }

    /// The token in the URLs of documents.
    #[must_use]
    pub fn token(&self) -> Option<&Token> {
        self.token.as_ref()
    }

    /// Such as `http://10.1.0.2:8080`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.origin
    }

    /// The address or name alone.
    #[must_use]
    pub fn host(&self) -> &str {
        let (_, host) = self.origin.split_once("://").unwrap_or_default();
        match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((address, _)) => address,
            None => host.split(':').next().unwrap_or(host),
        }
    }

    /// The URL of a path, which begins with a slash. Everybody may use it.
    #[must_use]
    pub fn at(&self, path: impl fmt::Display) -> String {
        format!("{}{path}", self.origin)
    }

    /// The URL of a path for this machine only, if links are signed. The path begins with a slash and is not percent-encoded.
    #[must_use]
    pub fn link(&self, path: &str) -> String {
        let mut url = self.origin.clone();
        for byte in path.bytes() {
            match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                    url.push(char::from(byte));
                }
                _ => url.push_str(&format!("%{byte:02X}")),
            }
        }
        if let Some(signer) = &self.signer {
            url.push('?');
            url.push_str(&signer.query(path));
        }
        url
    }
}

impl From<SocketAddr> for Server {
    fn from(address: SocketAddr) -> Self {
        Self::of(format!("http://{address}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_nothing_else() {
        for (host, server) in [
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
            assert_eq!(Server::https(host).as_ref().map(Server::as_str), server, "{host}");
        }
        let address: SocketAddr = "10.1.0.2:8080".parse().unwrap();
        assert_eq!(Server::from(address).at("/boot.ipxe"), "http://10.1.0.2:8080/boot.ipxe");
        assert_eq!(Server::https_at(address).as_str(), "https://10.1.0.2:8080");
        let plain = Server::from(address);
        assert_eq!((plain.for_agent("/agent/"), plain.key()), (plain.at("/agent/"), String::new()));
        let named = Server::https("boot.example.net").unwrap().pinned(address, Some([0xab; 32]));
        assert_eq!(named.for_agent("/agent/"), "https://10.1.0.2:8080/agent/");
        assert_eq!(named.key(), format!("sha256:{}", "ab".repeat(32)));
        for (server, host) in [
            (Server::https_at(address), "10.1.0.2"),
            (Server::https("boot.example.net").unwrap(), "boot.example.net"),
            (Server::https("[2001:db8::1]:8443").unwrap(), "2001:db8::1"),
        ] {
            assert_eq!(server.host(), host);
        }
    }
}
