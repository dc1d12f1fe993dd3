//! xpxe alone, and the three servers that do together what it does, on one core.

use std::fmt::Write as _;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use boot_bench::cable::SERVER_INTERFACE;
use boot_bench::frame::{SERVER, address, mac_text};
use boot_bench::group::Group;
use boot_bench::meter::Meter;
use boot_bench::place::Place;
use boot_tests::netns::Namespace;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use super::ground::Ground;
use crate::http::lane::{HTTP, pin_generator, pinned};
use crate::http::load::verify;
use crate::http::server::{self as web, FILE, nginx};
use crate::storm::generator::Plan;
use crate::storm::kind::Kind;
use crate::storm::settings::{self, Clients};
use crate::tftp::server as tftp;

/// What machines fetch by TFTP.
pub(crate) const BOOT_FILE: &str = "snponly.efi";
const START: Duration = Duration::from_secs(30);

/// What machines fetch.
pub(crate) struct Files {
    pub(crate) boot_file: Arc<[u8]>,
    pub(crate) image: Arc<[u8]>,
}

/// Which servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Set {
    /// xpxe
    Xpxe,
    /// Kea, tftpd-hpa and nginx
    Others,
}

impl Set {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Xpxe => "xpxe",
            Self::Others => "Kea, tftpd-hpa, nginx",
        }
    }

    /// What they call themselves. An error when one is not here.
    pub(crate) fn versions(self) -> Result<Vec<(&'static str, String)>> {
        let missing = |name: &str, remedy: &str| format!("{name} is missing: {remedy}");
        Ok(match self {
            Self::Xpxe => vec![(Kind::Xpxe.name(), Kind::Xpxe.version()?)],
            Self::Others => {
                let (loader, site) = (tftp::Kind::TftpdHpa, web::Kind::Nginx);
                let said = loader.version()?;
                let loads = said.with_context(|| missing(loader.name(), loader.remedy()))?;
                let serves = site.version()?.with_context(|| missing(site.name(), site.remedy()))?;
                vec![(Kind::Kea.name(), Kind::Kea.version()?), (loader.name(), loads), (site.name(), serves)]
            }
        })
    }
}

/// Servers that answer; killed when dropped, with all that they started.
pub(crate) struct Servers {
    children: Vec<Child>,
    group: Group,
}

impl Servers {
    /// Measures all of them.
    pub(crate) fn meter(&self) -> Result<Meter> {
        Meter::of_group(self.children.first().context("no server")?.id(), &self.group)
    }

    /// The most memory that each of their processes ever had, together, in bytes; a page that two have counts twice.
    pub(crate) fn peak_memory(&self) -> Result<u64> {
        let mut bytes = 0;
        for pid in self.group.processes()? {
            let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
            let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
            bytes += peak.trim().trim_end_matches(" kB").parse::<u64>()? * 1024;
        }
        Ok(bytes)
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        for child in &mut self.children {
            // It may have ended by itself.
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// Starts servers that know `machines` machines, and waits until all answer.
pub(crate) fn start(
    set: Set,
    ground: &mut Ground,
    place: &Place,
    files: &Files,
    machines: u32,
) -> Result<Servers> {
    let dir = place.dir.join("files");
    fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
    fs::write(dir.join(BOOT_FILE), &files.boot_file)?;
    fs::write(dir.join("image"), &files.image)?;
    let cable = &ground.lane.cable;
    // One more, whose exchange says that the server answers.
    let commands = match set {
        Set::Xpxe => vec![xpxe(&cable.server, place, machines + 1)?],
        Set::Others => {
            let kea = settings::command(Kind::Kea, &cable.server, place, machines + 1, Clients::Known)?;
            let loader = tftp::Kind::TftpdHpa.command(cable, place, &dir)?;
            let mut site = pinned(&cable.server, 0, &web::Kind::Nginx.program()?.display().to_string());
            nginx(&mut site, place, &dir)?;
            vec![kea, loader, site]
        }
    };
    let mut servers = Servers { children: Vec::new(), group: Group::new(&place.dir.join("cgroup"))? };
    for mut command in commands {
        let name = command.get_program().display().to_string();
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let child = on_servers_core(&mut command).with_context(|| format!("start {name}"))?;
        servers.group.add(child.id())?;
        servers.children.push(child);
    }
    let started = Instant::now();
    let mut missing = [true, true, true];
    while missing.contains(&true) {
        for child in &mut servers.children {
            if let Some(status) = child.try_wait()? {
                bail!("a server ended with {status} before it answered");
            }
        }
        if started.elapsed() > START {
            bail!("no answer within {START:?} by DHCP, TFTP, HTTP: {missing:?}");
        }
        let probe = Plan::probe(machines);
        missing[0] = missing[0] && ground.lane.generator.run(&probe).done == 0;
        missing[1] = missing[1] && !ground.lane.cable.clients.run(answers_tftp)??;
        missing[2] = missing[2] && ground.downloads.run(|| verify(FILE, Some(&files.image)))?.is_err();
    }
    Ok(servers)
}

/// A process runs where the thread runs that starts it, and ends with that thread.
fn on_servers_core(command: &mut Command) -> Result<Child> {
    let mut core = CpuSet::new();
    core.set(0)?;
    sched_setaffinity(Pid::from_raw(0), &core)?;
    let child = command.spawn();
    pin_generator()?;
    Ok(child?)
}

fn answers_tftp() -> Result<bool> {
    let socket = std::net::UdpSocket::bind("10.0.0.2:0")?;
    socket.set_read_timeout(Some(Duration::from_millis(200)))?;
    socket.send_to(format!("\0\u{1}{BOOT_FILE}\0octet\0").as_bytes(), (SERVER, 69))?;
    let mut packet = [0; 2048];
    let Ok((_, from)) = socket.recv_from(&mut packet) else { return Ok(false) };
    socket.send_to(b"\0\x05\0\0enough\0", from)?;
    Ok(packet.starts_with(&[0, 3]))
}

/// As its systemd unit starts it, one HTTP thread.
fn xpxe(server: &Namespace, place: &Place, machines: u32) -> Result<Command> {
    let dir = &place.dir;
    let mut config = format!(
        "state_dir = {state:?}\n\
         boot_dir = {files:?}\n\
         pin_dir = {pins:?}\n\
         [ipxe]\n\
         x64 = {loader:?}\n\
         [http]\n\
         listen = \"0.0.0.0:{port}\"\n\
         threads = 1\n\
         [[interface]]\n\
         name = \"{SERVER_INTERFACE}\"\n\
         dhcp = \"server\"\n\
         [[subnet]]\n\
         cidr = \"10.0.0.0/8\"\n\
         router = \"{SERVER}\"\n\
         dns = [\"{SERVER}\"]\n\
         domain = \"bench\"\n\
         lease = \"10m\"\n\
         [[profile]]\n\
         name = \"bench\"\n\
         kernel = \"image\"\n\
         [default]\n\
         profile = \"bench\"\n",
        state = dir.join("state"),
        files = dir.join("files"),
        loader = dir.join("files").join(BOOT_FILE),
        pins = place.pins,
        port = HTTP.port(),
    );
    for machine in 0..machines {
        let (mac, ip) = (mac_text(machine), address(machine));
        write!(config, "[[machine]]\nmac = \"{mac}\"\nname = \"node{machine}\"\nip = \"{ip}\"\n")?;
    }
    let file = dir.join("xpxe.toml");
    fs::write(&file, config)?;
    let mut command = pinned(server, -5, &boot_tests::daemon::binary()?.display().to_string());
    command.args(["serve", "--config"]).arg(file);
    Ok(command)
}
