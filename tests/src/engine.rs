//! The daemon's engine without a daemon: from a configuration and its interfaces.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;

use anyhow::{Context, Result};
use boot_common::Mac;
use boot_common::class::Firmware;
use boot_engine::Engine;
use boot_engine::command::Now;
use boot_engine::config::{Config, DhcpRole};
use boot_engine::policy::{Policy, Port};
use boot_engine::record::Lease;
use boot_engine::roster::Roster;
use boot_userspace::host::clock;

/// An interface with one address, such as `10.77.0.1/24`, whose machines find HTTP there on port 8080.
pub fn port(name: &str, ifindex: u32, mac: Mac, address: &str, role: DhcpRole) -> Result<Port> {
    let (own, _) = address.split_once('/').with_context(|| format!("{address} has no prefix length"))?;
    let own: Ipv4Addr = own.parse()?;
    let http = SocketAddrV4::new(own, 8080);
    Ok(Port { ifindex, name: name.to_owned(), mac, addresses: vec![address.parse()?], role, http })
}

/// An engine that starts with these leases. `loader` names the boot file for a firmware kind, or says what is missing.
pub fn engine(
    config: impl Into<Arc<Config>>,
    ports: Vec<Port>,
    loader: impl Fn(Firmware) -> Result<String, String>,
    leases: &[Lease],
    now: Now,
) -> Engine {
    Engine::new(Policy::new(config, ports, loader), leases, Roster::default(), now)
}

/// Now, by both clocks of this machine.
pub fn now() -> Now {
    Now { boot: clock::boot(), wall: clock::wall() }
}
