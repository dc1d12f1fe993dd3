//! The cables, and the addresses at their ends.
//!
//! DHCP and TFTP are on the storm's cable, HTTP on one with the offloads of a card. Every machine that boots has an address
//! of its own on both: a server that bounds what one address may have sees as many addresses as there are machines.

use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;

use anyhow::{Context, Result};
use boot_bench::cable::SERVER_INTERFACE;
use boot_bench::frame::address;
use boot_tests::netns::Namespace;

use crate::http::lane::clients_of;
use crate::storm::lane::Lane;

/// Where the machines are on HTTP's cable.
const FIRST: u32 = u32::from_be_bytes([172, 16, 0, 1]);
/// The clients' own address there, which the server sends what is for them to.
const GATEWAY: &str = "192.168.7.2";

/// Both cables, with the machines at their ends.
pub(crate) struct Ground {
    pub(crate) lane: Lane,
    /// At the other end of HTTP's cable.
    pub(crate) downloads: Namespace,
    /// Hears what servers send to the machines' DHCP port by unicast, and reads nothing: else the kernel, which has the
    /// addresses for TFTP, would say that nobody is there.
    _dhcp: UdpSocket,
}

impl Ground {
    /// Plugs both cables in.
    pub(crate) fn new(machines: u32, dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
        let file = dir.join("addresses");
        let batch = |namespace: &Namespace, lines: String| {
            fs::write(&file, lines)?;
            namespace.output("ip", &["-batch", &file.display().to_string()])
        };
        let lane = Lane::new()?;
        let downloads = clients_of(&lane.cable.server)?;
        let clients = &lane.cable.clients;
        clients.output("ip", &["address", "add", "10.0.0.2/8", "dev", SERVER_INTERFACE])?;
        let own = |machine| format!("address add {}/32 dev {SERVER_INTERFACE}\n", address(machine));
        batch(clients, (0..machines).map(own).collect())?;
        let own = |machine| format!("address add {}/32 dev http0\n", for_http(machine));
        batch(&downloads, (0..machines).map(own).collect())?;
        let server = &lane.cable.server;
        server.output("ip", &["route", "add", "172.16.0.0/16", "via", GATEWAY])?;
        let shown = clients.output("ip", &["-brief", "link", "show", "dev", SERVER_INTERFACE])?;
        let mac = shown.split_whitespace().find(|word| word.len() == 17).context("no Ethernet address")?;
        // The neighbour table holds 1,024 that are not permanent, in all namespaces together.
        let neighbour = |machine| {
            format!("neigh add {} lladdr {mac} dev {SERVER_INTERFACE} nud permanent\n", address(machine))
        };
        batch(server, (0..machines).map(neighbour).collect())?;
        let dhcp =
            clients.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 68)))?.context("open the DHCP port")?;
        Ok(Self { lane, downloads, _dhcp: dhcp })
    }
}

/// A machine's address on HTTP's cable.
pub(crate) fn for_http(machine: u32) -> Ipv4Addr {
    Ipv4Addr::from(FIRST + machine)
}
