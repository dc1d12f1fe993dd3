//! Two namespaces and the veth pair between them.
//!
//! The client's end has an XDP program that passes everything, without which an answer by `XDP_TX` arrives
//! nowhere. Both ends finish their checksums themselves, so that every answer can be verified.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::{Context, Result};
use boot_tests::netns::Namespace;
use boot_tests::sys::attach_xdp_pass;
use nix::net::if_::if_nametoindex;

use super::generator::Generator;
use super::packet::{SERVER, SERVER_MAC, address, mac_text};
use super::socket::attach_reflector;

/// The server's interface.
pub(crate) const SERVER_INTERFACE: &str = "eth0";
const CLIENT_INTERFACE: &str = "eth0";

/// A server's and the clients' namespace, connected.
pub(crate) struct Cable {
    pub(crate) server: Namespace,
    pub(crate) generator: Generator,
    // The clients' namespace lives as long as this, and the program with the link.
    _clients: Namespace,
    _xdp_pass: OwnedFd,
}

impl Cable {
    /// Plugs the cable in.
    pub(crate) fn new() -> Result<Self> {
        let (server, clients) = (Namespace::new("server")?, Namespace::new("clients")?);
        for namespace in [&server, &clients] {
            namespace.run(|| {
                ["default", "all"].iter().try_for_each(|which| {
                    fs::write(format!("/proc/sys/net/ipv6/conf/{which}/disable_ipv6"), "1")
                })
            })??;
        }
        let (mac, far) = (SERVER_MAC.map(|octet| format!("{octet:02x}")).join(":"), clients.path());
        let add = ["link", "add", SERVER_INTERFACE, "address", &mac, "type", "veth"];
        let peer = ["peer", "name", CLIENT_INTERFACE, "netns", &far];
        server.output("ip", &[&add[..], &peer[..]].concat())?;
        for (namespace, interface) in [(&server, SERVER_INTERFACE), (&clients, CLIENT_INTERFACE)] {
            namespace.output("ethtool", &["-K", interface, "tx", "off"])?;
            namespace.output("ip", &["link", "set", interface, "up"])?;
        }
        server.output("ip", &["address", "add", &format!("{SERVER}/8"), "dev", SERVER_INTERFACE])?;
        let (generator, xdp_pass) = clients.run(|| -> Result<_> {
            let index = if_nametoindex(CLIENT_INTERFACE)?;
            let xdp_pass = attach_xdp_pass(index).context("attach XDP_PASS to the clients' interface")?;
            Ok((Generator::open(index).context("open packet sockets")?, xdp_pass))
        })??;
        Ok(Self { server, generator, _clients: clients, _xdp_pass: xdp_pass })
    }

    /// Lets the server's kernel know the machines' Ethernet addresses for good. Else dnsmasq, which enters each
    /// client there, and every socket that renews, would meet the neighbour table's limit (1,024 entries by default
    /// and for all namespaces together), which whoever serves so many machines raises. Permanent entries do not
    /// count.
    pub(crate) fn introduce(&self, machines: u32, file: &Path) -> Result<()> {
        let line = |machine| {
            format!(
                "neigh add {} lladdr {} dev {SERVER_INTERFACE} nud permanent\n",
                address(machine),
                mac_text(machine)
            )
        };
        fs::write(file, (0..machines).map(line).collect::<String>())?;
        self.server.output("ip", &["-batch", &file.display().to_string()]).map(drop)
    }

    /// Instead of a server: what is sent comes back, until this is dropped.
    pub(crate) fn reflector(&self) -> Result<OwnedFd> {
        self.server
            .run(|| Ok::<_, anyhow::Error>(attach_reflector(if_nametoindex(SERVER_INTERFACE)?)?))?
            .context("attach the reflector")
    }
}
