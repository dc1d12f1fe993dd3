//! Texts that are addresses.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use boot_common::Mac;
use ipnet::Ipv4Net;

use super::value::quoted;

/// An address that a host can have.
pub(super) fn host(text: &str) -> Result<Ipv4Addr, String> {
    let address: Ipv4Addr = text.parse().map_err(|_| {
        format!("{} is not an IPv4 address; write four numbers, such as \"10.1.0.1\"", quoted(text))
    })?;
    if !is_host(address) {
        return Err(format!("{address} is not the address of a host; write one such as \"10.1.0.1\""));
    }
    Ok(address)
}

fn is_host(address: Ipv4Addr) -> bool {
    let [first, ..] = address.octets();
    // 0/8 is "this network", 127/8 loopback, 224/4 multicast, 240/4 reserved and broadcast.
    !matches!(first, 0 | 127 | 224..)
}

/// A range of addresses to hand out, such as `10.1.0.0/16`.
pub(super) fn cidr(text: &str) -> Result<Ipv4Net, String> {
    let Some((address, _)) = text.split_once('/') else {
        return Err(match text.parse::<Ipv4Addr>() {
            Ok(address) => {
                format!("{address} has no prefix length; write it behind, such as \"{address}/24\"")
            }
            Err(_) => not_a_cidr(text),
        });
    };
    address.parse::<Ipv4Addr>().map_err(|_| not_a_cidr(text))?;
    let net: Ipv4Net = text.parse().map_err(|_| {
        format!("{} has a wrong prefix length; write 8 to 31, such as \"{address}/24\"", quoted(text))
    })?;
    match net.prefix_len() {
        0..8 => return Err(format!("{net} is too large for a subnet; write a prefix length of 8 to 31")),
        8..=31 => {}
        _ => {
            return Err(format!(
                "{net} has no room for a host and a router; write a prefix length of 8 to 31"
            ));
        }
    }
    if net.trunc() != net {
        return Err(format!("{net} has host bits set; write {:?}", net.trunc().to_string()));
    }
    if !is_host(net.network()) {
        return Err(format!(
            "{net} does not contain addresses of hosts; write a subnet such as \"10.1.0.0/16\""
        ));
    }
    Ok(net)
}

fn not_a_cidr(text: &str) -> String {
    format!(
        "{} is not a subnet; write its first address and prefix length, such as \"10.1.0.0/16\"",
        quoted(text)
    )
}

/// A pool range such as `10.1.1.33-10.1.1.233`; a single address is a range of one.
pub(super) fn range(text: &str) -> Result<(Ipv4Addr, Ipv4Addr), String> {
    let (low, high) = text.split_once('-').unwrap_or((text, text));
    let (Ok(low), Ok(high)) = (low.trim().parse::<Ipv4Addr>(), high.trim().parse::<Ipv4Addr>()) else {
        return Err(format!(
            "{} is not a range; write its first and last address, such as \"10.1.1.33-10.1.1.233\"",
            quoted(text)
        ));
    };
    if low > high {
        return Err(format!("the range ends before it begins; write \"{high}-{low}\""));
    }
    Ok((low, high))
}

/// The first and last address of a subnet, if they cannot be given to hosts (RFC 3021: in a /31 they can).
pub(super) fn edges(cidr: Ipv4Net) -> Option<(Ipv4Addr, Ipv4Addr)> {
    (cidr.prefix_len() <= 30).then(|| (cidr.network(), cidr.broadcast()))
}

/// Refuses an address of `cidr` that is there but cannot be given to a host.
pub(super) fn not_an_edge(address: Ipv4Addr, cidr: Ipv4Net) -> Result<(), String> {
    match edges(cidr) {
        Some((network, _)) if address == network => {
            Err(format!("{address} is the network address of {cidr}; write another one"))
        }
        Some((_, broadcast)) if address == broadcast => {
            Err(format!("{address} is the broadcast address of {cidr}; write another one"))
        }
        _ => Ok(()),
    }
}

/// The MAC address of one network card.
pub(super) fn mac(text: &str) -> Result<Mac, String> {
    let mac: Mac = text.parse().map_err(|_| {
        format!(
            "{} is not a MAC address; write six pairs of hexadecimal digits, such as \"52:54:00:00:00:01\"",
            quoted(text)
        )
    })?;
    if !mac.is_station() {
        return Err(format!(
            "{mac} is a group, broadcast or zero address; write the address of one network card"
        ));
    }
    Ok(mac)
}

/// Where to listen.
pub(super) fn listen(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| match text.parse::<IpAddr>() {
        Ok(address) => {
            format!("{address} has no port; write {:?}", SocketAddr::new(address, 8080).to_string())
        }
        Err(_) => format!("{} is not an address and port; write it like \"0.0.0.0:8080\"", quoted(text)),
    })
}

/// What to tell machines, `IP:port` or `IP`; `port` is the one to take if there is none in the text.
pub(super) fn advertise(text: &str, port: u16) -> Result<SocketAddr, String> {
    let with_port = text.parse::<SocketAddr>().or_else(|_| text.parse().map(|ip| SocketAddr::new(ip, port)));
    let Ok(socket) = with_port else {
        return Err(format!(
            "{} is not an address; write it like \"10.1.0.2\" or \"10.1.0.2:8080\"",
            quoted(text)
        ));
    };
    let broadcast = socket.ip() == IpAddr::V4(Ipv4Addr::BROADCAST);
    if socket.ip().is_unspecified() || socket.ip().is_multicast() || broadcast {
        return Err(format!("machines cannot connect to {}; write an address of this server", socket.ip()));
    }
    if socket.port() == 0 {
        return Err(format!("machines cannot connect to port 0; write \"{}:8080\"", socket.ip()));
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::refused;

    #[test]
    fn hosts() {
        assert_eq!(host("10.1.0.1"), Ok(Ipv4Addr::new(10, 1, 0, 1)));
        refused(
            host,
            &[
                ("", "not an IPv4"),
                ("10.1.0", "not an IPv4"),
                ("::1", "not an IPv4"),
                ("10.1.0.1 ", "not an IPv4"),
            ],
        );
        for text in ["0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255"] {
            refused(host, &[(text, "not the address of a host")]);
        }
    }

    #[test]
    fn cidrs() {
        assert_eq!(cidr("10.1.0.0/16").map(|net| net.to_string()).as_deref(), Ok("10.1.0.0/16"));
        assert!(cidr("10.0.0.0/8").is_ok());
        assert!(cidr("10.0.0.2/31").is_ok());
        refused(
            cidr,
            &[
                ("", "is not a subnet"),
                ("10.1.0.0", "write it behind, such as \"10.1.0.0/24\""),
                ("10.1.0/16", "is not a subnet"),
                ("10.1.0.0/33", "wrong prefix length"),
                ("10.1.0.0/", "wrong prefix length"),
                ("10.1.0.0/255.255.0.0", "wrong prefix length"),
                ("10.1.0.5/16", "host bits set; write \"10.1.0.0/16\""),
                ("10.1.0.5/32", "no room"),
                ("0.0.0.0/0", "too large"),
                ("127.0.0.0/8", "addresses of hosts"),
                ("224.0.0.0/8", "addresses of hosts"),
                ("fd00::/64", "is not a subnet"),
            ],
        );
    }

    #[test]
    fn ranges() {
        let [low, high] = [Ipv4Addr::new(10, 1, 1, 33), Ipv4Addr::new(10, 1, 1, 233)];
        assert_eq!(range("10.1.1.33-10.1.1.233"), Ok((low, high)));
        assert_eq!(range(" 10.1.1.33 - 10.1.1.233"), Ok((low, high)));
        assert_eq!(range("10.1.1.33"), Ok((low, low)));
        refused(
            range,
            &[
                ("10.1.1.9-10.1.1.3", "write \"10.1.1.3-10.1.1.9\""),
                ("", "is not a range"),
                ("10.1.1.9-", "is not a range"),
                ("10.1.1.9-20", "is not a range"),
                ("10.1.1.0/24", "is not a range"),
            ],
        );
    }

    #[test]
    fn macs() {
        assert_eq!(mac("52:54:00:00:00:01"), Ok(Mac([0x52, 0x54, 0, 0, 0, 1])));
        refused(
            mac,
            &[
                ("52:54:00:00:00", "is not a MAC"),
                ("01:00:5e:00:00:01", "is a group"),
                ("ff:ff:ff:ff:ff:ff", "is a group"),
                ("00:00:00:00:00:00", "is a group"),
            ],
        );
    }

    #[test]
    fn sockets() {
        assert_eq!(listen("0.0.0.0:80"), Ok(SocketAddr::from(([0, 0, 0, 0], 80))));
        assert!(listen("[::]:80").is_ok());
        refused(
            listen,
            &[("10.1.0.2", "write \"10.1.0.2:8080\""), ("localhost:80", "is not an address"), ("", "is not")],
        );
        refused(listen, &[("::1", "write \"[::1]:8080\""), ("1.2.3.4:65536", "is not an address")]);

        assert_eq!(advertise("10.1.0.2", 81), Ok(SocketAddr::from(([10, 1, 0, 2], 81))));
        assert_eq!(advertise("10.1.0.2:82", 81), Ok(SocketAddr::from(([10, 1, 0, 2], 82))));
        refused(
            |text| advertise(text, 80),
            &[("0.0.0.0", "cannot connect"), ("example.net", "is not an address")],
        );
        refused(
            |text| advertise(text, 80),
            &[("10.1.0.2:0", "port 0"), ("255.255.255.255", "cannot connect")],
        );
    }
}
