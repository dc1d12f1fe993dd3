//! The servers, with the settings an operator would write. Each keeps its files in a directory of its own.
//!
//! All log at their default level to nowhere: what formatting costs is in, what a disk costs is not.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use boot_bench::cable::{Cable, SERVER_INTERFACE};
use boot_bench::frame::SERVER;
use boot_bench::group::Group;
use boot_bench::meter::Meter;
use boot_bench::place::Place;

use super::clients::Clients;
use super::packet::FILE;
use crate::peers::{complaint, unpacked};

/// More transfers at once than there are ever clients.
const MOST: &str = "2000";
const PROBE: Duration = Duration::from_millis(50);

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// xpxe with what the interface can do
    Xpxe,
    /// xpxe in TC only
    XpxeTc,
    /// xpxe without a fast path
    XpxeOff,
    /// tftpd-hpa
    TftpdHpa,
    /// dnsmasq
    Dnsmasq,
    /// atftpd
    Atftpd,
}

impl Kind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Xpxe => "xpxe",
            Self::XpxeTc => "xpxe, fast_path tc",
            Self::XpxeOff => "xpxe, fast_path off",
            Self::TftpdHpa => "tftpd-hpa",
            Self::Dnsmasq => "dnsmasq",
            Self::Atftpd => "atftpd",
        }
    }

    pub(crate) const fn is_xpxe(self) -> bool {
        matches!(self, Self::Xpxe | Self::XpxeTc | Self::XpxeOff)
    }

    fn program(self) -> Result<PathBuf> {
        Ok(match self {
            Self::Xpxe | Self::XpxeTc | Self::XpxeOff => boot_tests::daemon::binary()?,
            Self::TftpdHpa => unpacked("in.tftpd"),
            Self::Dnsmasq => PathBuf::from("dnsmasq"),
            Self::Atftpd => PathBuf::from("atftpd"),
        })
    }

    /// What it calls itself; none when it is not here.
    pub(crate) fn version(self) -> Result<Option<String>> {
        let output = match Command::new(self.program()?).arg("--version").output() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            output => output.with_context(|| format!("ask {} for its version", self.name()))?,
        };
        let said =
            String::from_utf8_lossy(if output.stdout.is_empty() { &output.stderr } else { &output.stdout });
        let line = said.lines().next().unwrap_or_default().to_owned();
        // atftpd has a program of that name too.
        Ok((self != Self::TftpdHpa || line.contains("hpa")).then_some(line))
    }

    /// How to have it. The Debian packages of tftpd-hpa and atftpd exclude each other.
    pub(crate) const fn remedy(self) -> &'static str {
        match self {
            Self::Xpxe | Self::XpxeTc | Self::XpxeOff => "`cargo xtask build` makes it",
            Self::TftpdHpa => "`cargo xtask setup` unpacks it",
            Self::Dnsmasq => "it is in the package dnsmasq-base",
            Self::Atftpd => {
                "`apt-get download atftpd; dpkg-deb -x atftpd_*.deb DIR` puts it beside tftpd-hpa; append \
                 DIR/usr/sbin to PATH"
            }
        }
    }

    /// What starts it, a server of the files in a directory.
    pub(crate) fn command(self, cable: &Cable, place: &Place, files: &Path) -> Result<Command> {
        let program = self.program()?;
        let mut command = cable.server.command(&program.display().to_string());
        match self {
            Self::Xpxe => xpxe(&mut command, place, files, "xdp")?,
            Self::XpxeTc => xpxe(&mut command, place, files, "tc")?,
            Self::XpxeOff => xpxe(&mut command, place, files, "off")?,
            // A process that changes its user would not die with this one, hence root.
            Self::TftpdHpa => {
                let address = format!("{SERVER}:69");
                command
                    .args(["--foreground", "--user", "root", "--address", &address, "--secure"])
                    .arg(files);
            }
            Self::Dnsmasq => dnsmasq(&mut command, place, files)?,
            Self::Atftpd => {
                command.args(["--daemon", "--no-fork", "--user", "root.root", "--maxthread", MOST]);
                command.args(["--bind-address", &SERVER.to_string(), "--logfile", "/dev/null"]).arg(files);
            }
        }
        Ok(command)
    }
}

/// A server that answers; killed when dropped.
pub(crate) struct Server {
    child: Child,
    /// With what it started, which is killed with this.
    group: Group,
}

impl Server {
    /// Starts a server of `file` and waits for its first answer.
    pub(crate) fn start(
        kind: Kind,
        cable: &Cable,
        clients: &mut Clients,
        place: &Place,
        file: &[u8],
        within: Duration,
    ) -> Result<Self> {
        let files = place.dir.join("files");
        fs::create_dir_all(&files).with_context(|| format!("create {}", files.display()))?;
        fs::write(files.join(FILE), file)?;
        let mut command = kind.command(cable, place, &files)?;
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let group = Group::new(&place.dir.join("cgroup"))?;
        let started = Instant::now();
        let child = command.spawn().with_context(|| format!("start {}", kind.name()))?;
        let mut server = Self { child, group };
        server.group.add(server.child.id())?;
        while !cable.clients.run(|| clients.probe(PROBE))?? {
            if let Some(status) = server.child.try_wait()? {
                bail!("{} ended with {status}:\n{}", kind.name(), complaint(&mut command));
            }
            if started.elapsed() > within {
                bail!("{}: no answer within {} s", kind.name(), within.as_secs());
            }
        }
        Ok(server)
    }

    /// How it ended, if it did.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Measures it with all that it started.
    pub(crate) fn meter(&self) -> Result<Meter> {
        Meter::of_group(self.pid(), &self.group)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn xpxe(command: &mut Command, place: &Place, files: &Path, fast_path: &str) -> Result<()> {
    let config = format!(
        "state_dir = {state:?}\n\
         boot_dir = {files:?}\n\
         pin_dir = {pins:?}\n\
         [[interface]]\n\
         name = \"{SERVER_INTERFACE}\"\n\
         dhcp = \"off\"\n\
         fast_path = \"{fast_path}\"\n",
        state = place.dir.join("state"),
        pins = place.pins,
    );
    let file = place.dir.join("xpxe.toml");
    fs::write(&file, config)?;
    command.args(["serve", "--config"]).arg(file);
    Ok(())
}

fn dnsmasq(command: &mut Command, place: &Place, files: &Path) -> Result<()> {
    let file = place.dir.join("dnsmasq.conf");
    let text = format!(
        "port=0\n\
         user=root\n\
         group=root\n\
         interface={SERVER_INTERFACE}\n\
         enable-tftp\n\
         tftp-root={}\n\
         tftp-max={MOST}\n",
        files.display(),
    );
    fs::write(&file, text)?;
    command.args(["--keep-in-foreground", "--log-facility=/dev/null", "--pid-file="]);
    command.arg(format!("--conf-file={}", file.display()));
    Ok(())
}
