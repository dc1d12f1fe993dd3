//! Who asks behind a proxy.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{ConnectInfo, Request};
use axum::http::HeaderMap;
use ipnet::IpNet;

use super::Ends;

const FORWARDED_FOR: &str = "x-forwarded-for";

/// Has handlers see the client that a trusted proxy names instead of the proxy.
pub(super) fn see_through(trusted: &[IpNet], request: &mut Request) {
    let ends = request.extensions().get::<ConnectInfo<Ends>>().copied();
    if let Some(ConnectInfo(ends)) = ends
        && let Some(client) = client(ends.client.ip(), request.headers(), trusted)
    {
        let ends = Ends { client: SocketAddr::new(client, 0), ..ends };
        request.extensions_mut().insert(ConnectInfo(ends));
    }
}

/// The last address before our own proxies: each adds whom it has heard, and what is before may be anybody's words.
fn client(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> Option<IpAddr> {
    let is_trusted = |address: &IpAddr| trusted.iter().any(|net| net.contains(address));
    if !is_trusted(&peer) {
        return None;
    }
    // A line that is no text hides whom a proxy has heard.
    let lists: Option<Vec<&str>> =
        headers.get_all(FORWARDED_FOR).into_iter().map(|list| list.to_str().ok()).collect();
    let lists = lists?;
    let heard = lists.iter().rev().flat_map(|list| list.rsplit(','));
    for text in heard {
        // What is no address was heard from nobody we can name: it is the proxy that asks.
        let address = read(text.trim())?;
        if !is_trusted(&address) {
            return Some(address);
        }
    }
    None
}

/// `10.1.0.9`, `10.1.0.9:4711`, `2001:db8::1`, `[2001:db8::1]` or `[2001:db8::1]:4711`.
fn read(text: &str) -> Option<IpAddr> {
    let plain = || text.parse::<IpAddr>().ok();
    let with_port = || text.parse::<SocketAddr>().ok().map(|socket| socket.ip());
    let in_brackets = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    plain().or_else(with_port).or_else(in_brackets).map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn only_trusted_proxies_are_believed() {
        let trusted: Vec<IpNet> = ["10.0.0.0/24", "2001:db8::/64"].map(|net| net.parse().unwrap()).to_vec();
        for (peer, lists, expected) in [
            ("10.0.0.5", &["10.1.1.9"][..], Some("10.1.1.9")),
            ("10.1.0.5", &["10.1.1.9"], None),
            ("10.0.0.5", &[], None),
            ("10.0.0.5", &["10.1.1.8, 10.1.1.9"], Some("10.1.1.9")),
            ("10.0.0.5", &["10.1.1.8", "10.1.1.9,10.0.0.7"], Some("10.1.1.9")),
            ("10.0.0.5", &["10.1.1.9", "10.0.0.7 , 2001:db8::1"], Some("10.1.1.9")),
            ("10.0.0.5", &["10.1.1.9, unknown"], None),
            ("10.0.0.5", &["10.0.0.7"], None),
            ("10.0.0.5", &["10.1.1.9:4711"], Some("10.1.1.9")),
            ("2001:db8::5", &["[2001:db8:1::9]:4711"], Some("2001:db8:1::9")),
            ("2001:db8::5", &["[2001:db8:1::9]"], Some("2001:db8:1::9")),
            ("10.0.0.5", &["::ffff:10.1.1.9"], Some("10.1.1.9")),
        ] {
            let headers = lists
                .iter()
                .map(|list| (FORWARDED_FOR.parse().unwrap(), HeaderValue::from_str(list).unwrap()));
            let headers: HeaderMap = headers.collect();
            let found = client(peer.parse().unwrap(), &headers, &trusted);
            assert_eq!(found, expected.map(|text| text.parse().unwrap()), "{peer} {lists:?}");
        }
    }

    #[test]
    fn a_line_that_is_no_text_ends_the_search() {
        let trusted = ["10.0.0.0/24".parse().unwrap()];
        let mut headers = HeaderMap::new();
        headers.append(FORWARDED_FOR, HeaderValue::from_static("10.1.1.8"));
        headers.append(FORWARDED_FOR, HeaderValue::from_bytes(b"\xff, 10.1.1.9").unwrap());
        assert_eq!(client("10.0.0.5".parse().unwrap(), &headers, &trusted), None);
    }
}
