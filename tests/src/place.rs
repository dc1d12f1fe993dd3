//! A rack with the usual settings, and the machines that tests without firmware imitate in it.

use std::fs;
use std::net::Ipv4Addr;
use std::ops::Deref;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::daemon::{Xpxe, binary};
use crate::dhcp_client::Wire;
use crate::netns::Process;
use crate::rack::{Rack, Station};
use crate::sandbox::{Sandbox, root_or_skip};
use crate::settings::{Known, Settings};

/// The deadline for anything that has to happen.
pub const SOON: Duration = Duration::from_secs(30);
/// The silence that counts as "no answer": a thousand times the time of an answer.
pub const SILENCE: Duration = Duration::from_millis(700);

/// A machine of the configuration.
pub const ALICE: Known = Known { name: "alice", mac: "02:77:00:00:00:10", address: Some("10.77.0.10") };
/// Another machine of the configuration.
pub const BOB: Known = Known { name: "bob", mac: "02:77:00:00:00:11", address: Some("10.77.0.11") };
/// A machine in no configuration.
pub const UNKNOWN: &str = "02:77:00:00:00:99";
/// Another machine in no configuration.
pub const OTHER_UNKNOWN: &str = "02:77:00:00:00:98";
/// The client's own card, if its MAC does not matter.
pub const CARD: &str = "02:77:00:00:00:f0";
/// The loader for EFI firmware.
pub const SNPONLY: &str = "snponly.efi";

/// Settings with alice and bob.
pub fn known() -> Settings {
    Settings { machines: vec![ALICE, BOB], ..Settings::default() }
}

/// Whether an address is in the pool of the settings.
pub fn in_pool(address: Ipv4Addr) -> bool {
    let [a, b, c, d] = address.octets();
    [a, b, c] == [10, 77, 0] && (100..=199).contains(&d)
}

/// A sandbox, a rack in it and a configuration.
#[derive(Debug)]
pub struct Place {
    /// The rack.
    pub rack: Rack,
    /// xpxe's settings.
    pub config: String,
    /// The sandbox of the rack.
    pub sandbox: Sandbox,
}

impl Place {
    /// `None` without root.
    pub fn build(settings: &Settings) -> Result<Option<Self>> {
        if !root_or_skip() {
            return Ok(None);
        }
        let sandbox = Sandbox::enter()?;
        let rack = Rack::build(&sandbox)?;
        let config = settings.write(&sandbox, &rack)?;
        Ok(Some(Self { rack, config, sandbox }))
    }

    /// Starts xpxe, and waits until it is ready.
    pub fn serve(&self) -> Result<Xpxe<'_>> {
        Xpxe::start(&self.rack, &self.config, &[])
    }

    /// Starts xpxe through another command and does not wait for it.
    pub fn spawn(&self, by: &[&str]) -> Result<Process> {
        let file = self.rack.dir().join("xpxe.toml");
        fs::write(&file, &self.config)?;
        let binary = binary()?.display().to_string();
        let file = file.display().to_string();
        let serve = [&binary, "serve", "--config", &file, "--log-format", "json"];
        let mut words = by.iter().copied().chain(serve);
        let mut command = self.rack.server.command(words.next().context("a command")?);
        command.args(words);
        self.rack.server.spawn(command)
    }

    /// A wire that imitates every client.
    pub fn client(&self) -> Result<PlayedClients> {
        let station = self.rack.client("client", CARD)?;
        Ok(PlayedClients { wire: Wire::open(&station, "eth0")?, _station: station })
    }

    /// Detaches the kernel half, and returns the output of `xpxe detach`.
    pub fn detach(&self, xpxe: &Xpxe<'_>) -> Result<String> {
        self.detach_with(xpxe, &[])
    }

    /// The same with further arguments.
    pub fn detach_with(&self, xpxe: &Xpxe<'_>, more: &[&str]) -> Result<String> {
        let file = self.rack.dir().join("xpxe.toml").display().to_string();
        xpxe.command(&[&["detach", "--config", &file], more].concat())
    }
}

/// A wire, and its station.
#[derive(Debug)]
pub struct PlayedClients {
    wire: Wire,
    _station: Station,
}

impl Deref for PlayedClients {
    type Target = Wire;

    fn deref(&self) -> &Wire {
        &self.wire
    }
}
