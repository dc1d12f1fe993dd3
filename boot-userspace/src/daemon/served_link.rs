//! An interface as the engine sees it.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use crate::host::link::Link;
use boot_engine::config::{Config, Interface};
use boot_engine::policy::ServedLink;

/// An interface as the engine sees it.
pub(super) fn served_link(config: &Config, interface: &Interface, link: &Link, http_port: u16) -> ServedLink {
    ServedLink {
        ifindex: link.index,
        name: link.name.as_str().into(),
        mac: link.mac,
        addresses: link.addresses.clone(),
        role: interface.dhcp,
        http: advertised(config, link, http_port),
    }
}

/// Where an interface's machines find our HTTP.
fn advertised(config: &Config, link: &Link, port: u16) -> SocketAddrV4 {
    if let Some(SocketAddr::V4(address)) = config.http.advertise {
        return address;
    }
    let own = link.addresses.iter().map(ipnet::Ipv4Net::addr);
    // The address in a subnet of ours is the one its machines can reach.
    let served =
        own.clone().find(|address| config.subnets.iter().any(|subnet| subnet.cidr.contains(address)));
    let address = match config.http.listen {
        SocketAddr::V4(listen) if !listen.ip().is_unspecified() => *listen.ip(),
        _ => served.or_else(|| own.clone().next()).unwrap_or(Ipv4Addr::UNSPECIFIED),
    };
    SocketAddrV4::new(address, port)
}
