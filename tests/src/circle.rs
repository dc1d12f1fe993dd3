//! The whole circle of a machine's life, with a BMC that switches the machine: nobody presses a button.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::bmc::{IpmiSim, PASSWORD, Sushy, USER};
use crate::daemon::Xpxe;
use crate::machine::{Firmware, Hardware, Machine};
use crate::netns::tail;
use crate::place::Place;

/// Any step: far longer than it takes.
const STEP: Duration = Duration::from_secs(600);
/// Between two looks, which start programs.
const PAUSE: Duration = Duration::from_millis(200);
/// Memory in MB: the agent is unpacked there.
const MEMORY: u32 = 512;

/// A simulator by others.
#[derive(Debug)]
pub enum Bmc {
    /// OpenIPMI's.
    Ipmi(IpmiSim),
    /// OpenStack's, of Redfish; its machine has this UUID.
    Redfish(Sushy, String),
}

impl Bmc {
    fn is_on(&self, place: &Place) -> Result<bool> {
        match self {
            Self::Ipmi(sim) => Ok(sim.is_on()),
            Self::Redfish(sushy, uuid) => Ok(sushy.system(&place.rack.server, uuid)?["PowerState"] == "On"),
        }
    }

    /// How often the machine was told to restart without being off between.
    fn restarts(&self) -> usize {
        match self {
            Self::Ipmi(sim) => sim.told().iter().filter(|told| told.starts_with("reset")).count(),
            Self::Redfish(sushy, _) => sushy.resets(),
        }
    }

    /// Whether the machine was told to boot from the network.
    fn was_told_pxe(&self, place: &Place) -> Result<bool> {
        Ok(match self {
            Self::Ipmi(sim) => sim.told().iter().any(|told| told == "boot pxe"),
            Self::Redfish(sushy, uuid) => {
                sushy.system(&place.rack.server, uuid)?["Boot"]["BootSourceOverrideTarget"] == "Pxe"
            }
        })
    }
}

/// A machine that its BMC switches: while that says on, QEMU runs.
#[derive(Debug)]
pub struct Circle<'p> {
    place: &'p Place,
    xpxe: &'p Xpxe<'p>,
    name: &'static str,
    hardware: Hardware<'p>,
    bmc: Bmc,
    disk: PathBuf,
    devices: Vec<String>,
    machine: Option<Machine>,
    tap: String,
    restarts: usize,
    /// What the machine has said before it was off.
    earlier: Vec<String>,
    began: Instant,
}

impl<'p> Circle<'p> {
    /// A machine that is off, with a disk full of data.
    pub fn new(
        place: &'p Place,
        xpxe: &'p Xpxe<'p>,
        (name, mac, firmware): (&'static str, &'static str, Firmware),
        bmc: Bmc,
        data: &[u8],
    ) -> Result<Self> {
        let disk = place.rack.dir().join(format!("{name}.disk"));
        fs::write(&disk, data)?;
        let drive = format!("file={},if=none,id=disk,format=raw,cache=unsafe", disk.display());
        let devices = ["-drive", &drive, "-device", "virtio-blk-pci,drive=disk,serial=S-disk,bootindex=1"];
        let mut devices = devices.map(str::to_owned).to_vec();
        if firmware != Firmware::BiosIpxe {
            // The agent's kernel has no driver for the board's own controller.
            devices.extend(["-machine", "sata=off"].map(str::to_owned));
        }
        let hardware = Hardware { name, mac, firmware, memory: MEMORY };
        let (tap, began) = (place.rack.tap()?, Instant::now());
        Ok(Self {
            place,
            xpxe,
            name,
            hardware,
            bmc,
            disk,
            devices,
            machine: None,
            tap,
            restarts: 0,
            earlier: Vec::new(),
            began,
        })
    }

    /// Says a line of the account.
    fn tell(&self, what: &str) {
        println!("{:>7.1} s  {:<8} {what}", self.began.elapsed().as_secs_f32(), self.name);
    }

    /// Runs `xpxe` with the place's configuration.
    pub fn says(&self, words: &[&str]) -> Result<String> {
        let file = self.place.rack.dir().join("xpxe.toml").display().to_string();
        self.xpxe.command(&[words, &["--config", &file]].concat())
    }

    fn shown(&self) -> Result<Value> {
        // Before it has a name, and before anybody knows it.
        let shown = self.says(&["machines", "show", self.hardware.mac, "--json"]);
        Ok(shown.ok().and_then(|shown| serde_json::from_str(&shown).ok()).unwrap_or_default())
    }

    /// Does with the machine what its BMC says.
    fn follow(&mut self) -> Result<()> {
        let (is_on, restarts) = (self.bmc.is_on(self.place)?, self.bmc.restarts());
        let is_restarted = restarts != self.restarts;
        self.restarts = restarts;
        if (!is_on || is_restarted)
            && let Some(machine) = self.machine.take()
        {
            self.tell("is switched off by its BMC");
            self.earlier = machine.serial().into_iter().map(|line| line.text).collect();
            machine.power_off()?;
        }
        // What ends by itself restarts: QEMU ends where a machine would.
        if is_on && self.machine.as_ref().is_none_or(|machine| !machine.is_on()) {
            let how = if self.machine.is_some() { "restarts" } else { "is switched on by its BMC" };
            self.tell(how);
            self.machine = None;
            let on =
                Machine::power_on_with(&self.place.rack, self.tap.clone(), &self.hardware, &self.devices)?;
            self.machine = Some(on);
        }
        Ok(())
    }

    /// Waits until the machine is in a state, while its BMC does what it is told.
    pub fn until(&mut self, state: &str) -> Result<()> {
        self.wait(state, |circle| Ok(circle.shown()?["status"]["state"] == state))?;
        self.tell(&format!("is {state}"));
        Ok(())
    }

    /// Waits until the machine is on, or off, as its BMC says.
    pub fn until_power(&mut self, on: bool) -> Result<()> {
        self.wait("power", |circle| {
            Ok(circle.bmc.is_on(circle.place)? == on && circle.machine.is_some() == on)
        })
    }

    fn wait(&mut self, what: &str, is_so: impl Fn(&Self) -> Result<bool>) -> Result<()> {
        let end = Instant::now() + STEP;
        loop {
            self.follow()?;
            if is_so(self)? {
                return Ok(());
            }
            if Instant::now() > end {
                let serial = self.machine.as_ref().map(Machine::serial).unwrap_or_default();
                bail!(
                    "{}: not {what} within {STEP:?}: {}\n{}\n{}",
                    self.name,
                    self.shown()?,
                    tail(&serial, 40),
                    self.xpxe.last_lines(30)
                );
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Says of the machine what it is called, what is to be on its disk, and what switches it.
    pub fn describe(&self, image: &str, digest: &str) -> Result<()> {
        let (address, driver) = match &self.bmc {
            Bmc::Ipmi(_) => ("127.0.0.1:9001", "ipmi"),
            Bmc::Redfish(..) => (Sushy::URL, "redfish"),
        };
        let Hardware { mac, firmware, .. } = self.hardware;
        let kind = if firmware == Firmware::BiosIpxe { "bios" } else { "uefi" };
        let password = self.place.rack.dir().join("password");
        fs::write(&password, PASSWORD)?;
        let password = password.display().to_string();
        let set = ["machines", "set", mac, "--name", self.name, "--image", image, "--image-sha256", digest];
        let bmc = [
            "--bmc-address",
            address,
            "--bmc-driver",
            driver,
            "--bmc-user",
            USER,
            "--bmc-cipher",
            "3",
            "--bmc-insecure",
            "true",
        ];
        let rest = ["--firmware", kind, "--bmc-password-file", &password];
        self.tell("xpxe machines set: its name, its image, its BMC");
        self.says(&[&set[..], &bmc, &rest].concat()).map(drop)
    }

    /// An order.
    pub fn order(&self, order: &str) -> Result<()> {
        self.tell(&format!("xpxe machines {order}"));
        self.says(&["machines", order, self.name]).map(drop)
    }

    /// Presses the button: for the first boot, before anybody knows the machine.
    pub fn press_button(&mut self) -> Result<()> {
        match &self.bmc {
            Bmc::Ipmi(sim) => sim.press(true)?,
            Bmc::Redfish(_, uuid) => {
                let url = format!("{}/redfish/v1/Systems/{uuid}/Actions/ComputerSystem.Reset", Sushy::URL);
                let login = format!("{USER}:{PASSWORD}");
                let kind = [
                    "-sS",
                    "-u",
                    &login,
                    "-H",
                    "Content-Type: application/json",
                    "-d",
                    "{\"ResetType\":\"On\"}",
                    &url,
                ];
                self.place.rack.server.output("curl", &kind)?;
            }
        }
        self.until_power(true)
    }

    /// Fails unless its BMC was told to boot from the network.
    pub fn ensure_override(&self) -> Result<()> {
        ensure!(self.bmc.was_told_pxe(self.place)?, "its BMC was told nothing of the network");
        Ok(())
    }

    /// What its disk has.
    pub fn disk(&self) -> Result<Vec<u8>> {
        fs::read(&self.disk).with_context(|| self.disk.display().to_string())
    }
}
