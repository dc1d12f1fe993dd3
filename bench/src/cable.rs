//! Two namespaces and the veth pair between them.
//!
//! The clients' end needs some XDP program, without which an answer by `XDP_TX` arrives nowhere. Both ends finish
//! their checksums themselves, so that every answer can be verified.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::{Context, Result};
use boot_tests::netns::Namespace;
use boot_tests::sys::attach_xdp_pass;
use nix::net::if_::if_nametoindex;

use crate::frame::{SERVER, SERVER_MAC, address, mac_text};
use crate::socket::attach_reflector;

/// The server's interface.
pub const SERVER_INTERFACE: &str = "eth0";
const CLIENT_INTERFACE: &str = "eth0";

/// A server's and the clients' namespace, connected.
#[derive(Debug)]
pub struct Cable {
    /// With the server's address on [`SERVER_INTERFACE`].
    pub server: Namespace,
    /// Without addresses.
    pub clients: Namespace,
    /// The clients' interface in their namespace.
    pub ifindex: u32,
}

impl Cable {
    /// Plugs the cable in.
    ///
    /// # Errors
    /// When this is not root, or `ip` or `ethtool` is missing.
    pub fn new() -> Result<Self> {
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
        let ifindex = clients.run(|| if_nametoindex(CLIENT_INTERFACE))??;
        Ok(Self { server, clients, ifindex })
    }

    /// Lets answers by `XDP_TX` in on the clients' end, until this is dropped.
    ///
    /// # Errors
    /// When the kernel has no XDP.
    pub fn pass(&self) -> Result<OwnedFd> {
        self.clients
            .run(|| attach_xdp_pass(self.ifindex))?
            .context("attach XDP_PASS to the clients' interface")
    }

    /// Lets what clients send by `XDP_TX` in on the server's end, until this is dropped.
    ///
    /// # Errors
    /// When the kernel has no XDP, or the interface a program already.
    pub fn pass_to_server(&self) -> Result<OwnedFd> {
        self.server
            .run(|| Ok::<_, anyhow::Error>(attach_xdp_pass(if_nametoindex(SERVER_INTERFACE)?)?))?
            .context("attach XDP_PASS to the server's interface")
    }

    /// Lets the server's kernel know the clients' Ethernet addresses for good. Else dnsmasq, which enters each
    /// DHCP client there, and every socket that answers one, would meet the neighbour table's limit (1,024 entries by
    /// default and for all namespaces together), which whoever serves so many machines raises. Permanent entries do
    /// not count.
    ///
    /// # Errors
    /// When `file`, which is written for it, cannot be written.
    pub fn introduce(&self, clients: u32, file: &Path) -> Result<()> {
        let line = |client| {
            format!(
                "neigh add {} lladdr {} dev {SERVER_INTERFACE} nud permanent\n",
                address(client),
                mac_text(client)
            )
        };
        fs::write(file, (0..clients).map(line).collect::<String>())?;
        self.server.output("ip", &["-batch", &file.display().to_string()]).map(drop)
    }

    /// Instead of a server: what is sent comes back, until this is dropped.
    ///
    /// # Errors
    /// When the kernel has no XDP.
    pub fn reflector(&self) -> Result<OwnedFd> {
        self.server
            .run(|| Ok::<_, anyhow::Error>(attach_reflector(if_nametoindex(SERVER_INTERFACE)?)?))?
            .context("attach the reflector")
    }
}
