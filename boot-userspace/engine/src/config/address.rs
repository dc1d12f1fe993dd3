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
mod tests;
