//! The servers, with the settings an operator would write. Each keeps its files in a directory of its own.
//!
//! All log at their default level to nowhere: what formatting costs is in, what a disk costs is not.

use std::fmt::Write as _;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use boot_bench::cable::SERVER_INTERFACE;
use boot_bench::frame::{SERVER, address, mac_text};
use boot_bench::place::Place;
use boot_tests::netns::Namespace;

use super::generator::{Pace, Plan, Work};
use super::lane::Lane;

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// xpxe with what the interface can do
    Xpxe,
    /// xpxe without a fast path
    XpxeOff,
    /// dnsmasq
    Dnsmasq,
    /// Kea, one thread
    Kea,
    /// Kea, a thread per core
    KeaMt,
}

impl Kind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Xpxe => "xpxe",
            Self::XpxeOff => "xpxe, fast_path off",
            Self::Dnsmasq => "dnsmasq",
            Self::Kea => "Kea",
            Self::KeaMt => "Kea, multi-threading",
        }
    }

    pub(crate) const fn is_xpxe(self) -> bool {
        matches!(self, Self::Xpxe | Self::XpxeOff)
    }

    fn program(self) -> Result<PathBuf> {
        Ok(match self {
            Self::Xpxe | Self::XpxeOff => boot_tests::daemon::binary()?,
            Self::Dnsmasq => PathBuf::from("dnsmasq"),
            Self::Kea | Self::KeaMt => PathBuf::from("kea-dhcp4"),
        })
    }

    /// What it calls itself.
    pub(crate) fn version(self) -> Result<String> {
        let flag = if matches!(self, Self::Kea | Self::KeaMt) { "-v" } else { "--version" };
        let program = self.program()?;
        let output = Command::new(&program).arg(flag).output();
        let output = output.with_context(|| {
            format!(
                "{} is missing: install {}, or leave it out with --servers",
                program.display(),
                self.package()
            )
        })?;
        Ok(String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned())
    }

    const fn package(self) -> &'static str {
        match self {
            Self::Xpxe | Self::XpxeOff => "it with `cargo xtask build`",
            Self::Dnsmasq => "the package dnsmasq-base",
            Self::Kea | Self::KeaMt => "the package kea-dhcp4-server",
        }
    }
}

/// A server that answers; killed when dropped.
pub(crate) struct Server {
    child: Child,
    /// From its start to its first answer.
    pub(crate) start: Duration,
}

impl Server {
    /// Starts a server that knows the machines below `machines`, and waits for its first answer to one more.
    pub(crate) fn start(
        kind: Kind,
        lane: &mut Lane,
        place: &Place,
        machines: u32,
        within: Duration,
    ) -> Result<Self> {
        let dir = &place.dir;
        fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
        let known = machines + 1;
        let mut command = match kind {
            Kind::Xpxe => xpxe(&lane.cable.server, place, known, "xdp")?,
            Kind::XpxeOff => xpxe(&lane.cable.server, place, known, "off")?,
            Kind::Dnsmasq => dnsmasq(&lane.cable.server, dir, known)?,
            Kind::Kea => kea(&lane.cable.server, dir, known, false)?,
            Kind::KeaMt => kea(&lane.cable.server, dir, known, true)?,
        };
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let started = Instant::now();
        let child = command.spawn().with_context(|| format!("start {}", kind.name()))?;
        let mut server = Self { child, start: Duration::ZERO };
        while lane.generator.run(&probe(machines)).done == 0 {
            if let Some(status) = server.child.try_wait()? {
                bail!("{} ended with {status}:\n{}", kind.name(), complaint(&mut command));
            }
            if started.elapsed() > within {
                bail!("{}: no answer within {} s", kind.name(), within.as_secs());
            }
        }
        server.start = started.elapsed();
        Ok(server)
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it as systemd would, so that the next one has the address.
    pub(crate) fn stop(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// One exchange of a machine that takes no part in any measure.
fn probe(machine: u32) -> Plan<'static> {
    const PATIENCE: Duration = Duration::from_millis(50);
    Plan {
        work: Work::Exchange,
        pace: Pace::Window(1),
        machines: machine..machine + 1,
        once: true,
        during: PATIENCE,
        patience: &[PATIENCE],
        at_most: PATIENCE,
    }
}

/// What a server that ends at once says when it is started again.
fn complaint(command: &mut Command) -> String {
    let said = command.stdout(Stdio::piped()).stderr(Stdio::piped()).output();
    said.map_or_else(
        |error| error.to_string(),
        |said| format!("{}{}", String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr)),
    )
}

const LOADER: &str = "snponly.efi";

fn xpxe(server: &Namespace, place: &Place, known: u32, fast_path: &str) -> Result<Command> {
    let dir = &place.dir;
    let boot_dir = dir.join("boot");
    fs::create_dir_all(&boot_dir)?;
    for file in [LOADER, "vmlinuz", "initrd"] {
        fs::write(boot_dir.join(file), file)?;
    }
    let mut config = format!(
        "state_dir = {state:?}\n\
         boot_dir = {boot_dir:?}\n\
         pin_dir = {pins:?}\n\
         [ipxe]\n\
         x64 = {loader:?}\n\
         [[interface]]\n\
         name = \"{SERVER_INTERFACE}\"\n\
         dhcp = \"server\"\n\
         fast_path = \"{fast_path}\"\n\
         [[subnet]]\n\
         cidr = \"10.0.0.0/8\"\n\
         router = \"{SERVER}\"\n\
         dns = [\"{SERVER}\"]\n\
         domain = \"bench\"\n\
         lease = \"10m\"\n\
         [[profile]]\n\
         name = \"bench\"\n\
         kernel = \"vmlinuz\"\n\
         initrd = [\"initrd\"]\n\
         [default]\n\
         profile = \"bench\"\n",
        state = dir.join("state"),
        pins = place.pins,
        loader = boot_dir.join(LOADER),
    );
    for machine in 0..known {
        let (mac, ip) = (mac_text(machine), address(machine));
        write!(config, "[[machine]]\nmac = \"{mac}\"\nname = \"node{machine}\"\nip = \"{ip}\"\n")?;
    }
    let file = dir.join("xpxe.toml");
    fs::write(&file, config)?;
    let mut command = server.command(&Kind::Xpxe.program()?.display().to_string());
    command.args(["serve", "--config"]).arg(file);
    Ok(command)
}

fn dnsmasq(server: &Namespace, dir: &Path, known: u32) -> Result<Command> {
    let hosts: String = (0..known)
        .map(|machine| format!("{},{},node{machine}\n", mac_text(machine), address(machine)))
        .collect();
    let (hosts_file, leases, config) = (dir.join("hosts"), dir.join("leases"), dir.join("dnsmasq.conf"));
    fs::write(&hosts_file, hosts)?;
    // A process that changes its user would not die with this one, hence root.
    let text = format!(
        "port=0\n\
         user=root\n\
         group=root\n\
         interface={SERVER_INTERFACE}\n\
         no-ping\n\
         dhcp-authoritative\n\
         dhcp-range=10.0.0.0,static,255.0.0.0,10m\n\
         dhcp-hostsfile={}\n\
         dhcp-leasefile={}\n\
         dhcp-lease-max={}\n\
         dhcp-option=option:router,{SERVER}\n\
         dhcp-option=option:dns-server,{SERVER}\n\
         domain=bench\n\
         dhcp-match=set:efi64,option:client-arch,7\n\
         dhcp-boot=tag:efi64,{LOADER}\n",
        hosts_file.display(),
        leases.display(),
        known + 1000,
    );
    fs::write(&config, text)?;
    let mut command = server.command("dnsmasq");
    command.args(["--keep-in-foreground", "--log-facility=/dev/null", "--pid-file="]);
    command.arg(format!("--conf-file={}", config.display()));
    Ok(command)
}

fn kea(server: &Namespace, dir: &Path, known: u32, multi_threading: bool) -> Result<Command> {
    let last = Ipv4Addr::from(u32::from(address(0)) + (4 * known).max(65_536));
    let config = serde_json::json!({ "Dhcp4": {
        "interfaces-config": { "interfaces": [SERVER_INTERFACE], "dhcp-socket-type": "raw" },
        "lease-database": {
            "type": "memfile", "persist": true, "lfc-interval": 0, "name": dir.join("leases.csv"),
        },
        "multi-threading": { "enable-multi-threading": multi_threading },
        "valid-lifetime": 600,
        "client-classes": [{
            "name": "efi64", "test": "option[93].hex == 0x0007",
            "next-server": SERVER, "boot-file-name": LOADER,
        }],
        "option-data": [
            { "name": "routers", "data": SERVER },
            { "name": "domain-name-servers", "data": SERVER },
            { "name": "domain-name", "data": "bench" },
        ],
        "subnet4": [{
            "id": 1, "subnet": "10.0.0.0/8", "pools": [{ "pool": format!("{}-{last}", address(0)) }],
        }],
        "loggers": [{
            "name": "kea-dhcp4", "severity": "INFO", "output_options": [{ "output": "stdout" }],
        }],
    }});
    let file = dir.join("kea.json");
    fs::write(&file, serde_json::to_string_pretty(&config)?)?;
    let mut command = server.command("kea-dhcp4");
    command.arg("-c").arg(file);
    // KEA_DHCP_DATA_DIR: newer versions write leases nowhere else.
    command.env("KEA_PIDFILE_DIR", dir).env("KEA_DHCP_DATA_DIR", dir).env("KEA_LOCKFILE_DIR", "none");
    Ok(command)
}
