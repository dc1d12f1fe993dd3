//! Where an upstream may send xpxe on to. What only this host reaches (loopback, the link) is for upstreams that are there
//! themselves: else any upstream could have xpxe fetch a secret of this host, and machines could read it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::{Action, Attempt, Policy};

/// How often an upstream may send on somewhere else.
const REDIRECTS: usize = 10;

/// What one fetch may reach.
#[derive(Clone, Debug)]
pub(super) struct Reach {
    /// The host that was asked first: the configuration or the operator has named it.
    first: Arc<str>,
    /// Whether that host is on this one, or on its link.
    is_inside: Arc<AtomicBool>,
}

impl Reach {
    pub(super) fn of(url: &Url) -> Self {
        let first = url.host_str().unwrap_or_default();
        let is_inside = AtomicBool::new(literal(first).is_some_and(is_inside));
        Self { first: first.into(), is_inside: Arc::new(is_inside) }
    }

    /// A redirect is not followed that leads back, from HTTPS to what everybody can change on the way, or further inside.
    pub(super) fn policy(&self) -> Policy {
        let this = self.clone();
        Policy::custom(move |attempt| this.follow(attempt))
    }

    fn follow(&self, attempt: Attempt<'_>) -> Action {
        let next = attempt.url();
        if attempt.previous().contains(next) {
            return attempt.error("it redirects in a circle");
        }
        if attempt.previous().len() > REDIRECTS {
            return attempt.error("it redirects too often");
        }
        let was_safe = attempt.previous().last().is_some_and(|last| last.scheme() == "https");
        if was_safe && next.scheme() != "https" {
            return attempt.error("it redirects from https to http");
        }
        let host = next.host_str().unwrap_or_default().to_owned();
        if literal(&host).is_some_and(|address| !self.may_reach(address)) {
            return attempt.error(refusal(&host));
        }
        attempt.follow()
    }

    fn may_reach(&self, address: IpAddr) -> bool {
        self.is_inside.load(Ordering::Relaxed) || !is_inside(address)
    }

    /// Which of the addresses of a name may be used.
    fn choose(&self, name: &str, mut found: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, String> {
        if name.eq_ignore_ascii_case(&self.first) {
            if found.iter().any(|address| is_inside(address.ip())) {
                self.is_inside.store(true, Ordering::Relaxed);
            }
            return Ok(found);
        }
        found.retain(|address| self.may_reach(address.ip()));
        if found.is_empty() { Err(refusal(name)) } else { Ok(found) }
    }
}

impl Resolve for Reach {
    fn resolve(&self, name: Name) -> Resolving {
        let this = self.clone();
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let chosen = this.choose(name.as_str(), found)?;
            Ok(Box::new(chosen.into_iter()) as Addrs)
        })
    }
}

fn refusal(host: &str) -> String {
    format!("it redirects to {host}, which only this host reaches; name that URL itself if it is meant")
}

/// A host that is written as an address.
fn literal(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// Whether an address leads no further than this host and its links.
fn is_inside(address: IpAddr) -> bool {
    let of_v4 = |address: Ipv4Addr| {
        address.is_loopback() || address.is_link_local() || address.octets()[0] == 0 || address.is_broadcast()
    };
    match address {
        IpAddr::V4(address) => of_v4(address),
        IpAddr::V6(address) => {
            address.is_loopback()
                || address.is_unspecified()
                || address.is_unicast_link_local()
                || address.to_ipv4_mapped().is_some_and(of_v4)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_this_host_reaches_is_for_those_who_are_there() {
        let inside = ["127.0.0.1", "127.9.9.9", "0.0.0.0", "169.254.169.254", "[::1]", "[::]", "[fe80::1]"];
        let others =
            ["10.0.0.1", "192.168.1.1", "8.8.8.8", "[2001:db8::1]", "[fd00::1]", "[::ffff:10.0.0.1]"];
        let from = |host: &str| Reach::of(&format!("http://{host}/").parse().unwrap());
        for host in inside.into_iter().chain(["[::ffff:127.0.0.1]", "[::ffff:169.254.0.1]"]) {
            let address = literal(host).unwrap();
            assert!(!from("10.0.0.1").may_reach(address) && from("127.0.0.1").may_reach(address), "{host}");
        }
        for host in others {
            assert!(from("10.0.0.1").may_reach(literal(host).unwrap()), "{host}");
        }
        // A URL may have them in other ways; its parser knows them.
        for way in ["2130706433", "0x7f.1", "0177.0.0.1", "127.1"] {
            assert!(from(way).is_inside.load(Ordering::Relaxed), "{way}");
        }
    }

    #[test]
    fn names_are_what_they_resolve_to() {
        let of = |text: &str| vec![SocketAddr::new(text.parse().unwrap(), 0)];
        let reach = Reach::of(&"http://up.example/".parse().unwrap());
        let both = [of("127.0.0.1"), of("10.0.0.2")].concat();
        assert_eq!(reach.choose("other", both.clone()), Ok(of("10.0.0.2")));
        assert!(reach.choose("other", of("127.0.0.1")).unwrap_err().contains("redirects to other"));
        // The name that was given is believed, and then the rest is on the same host.
        assert_eq!(reach.choose("UP.example", both.clone()), Ok(both));
        assert_eq!(reach.choose("other", of("127.0.0.1")), Ok(of("127.0.0.1")));
    }
}
