//! A cable with the clients at its end.

use std::os::fd::OwnedFd;

use anyhow::{Context, Result};
use boot_bench::cable::Cable;

use super::generator::Generator;

/// A server's and the clients' namespace, connected, and the clients.
pub(crate) struct Lane {
    pub(crate) cable: Cable,
    pub(crate) generator: Generator,
    _xdp_pass: OwnedFd,
}

impl Lane {
    /// Plugs the cable in.
    pub(crate) fn new() -> Result<Self> {
        let cable = Cable::new()?;
        let xdp_pass = cable.pass()?;
        let open = || Generator::open(cable.ifindex).context("open packet sockets");
        let generator = cable.clients.run(open)??;
        Ok(Self { cable, generator, _xdp_pass: xdp_pass })
    }
}
