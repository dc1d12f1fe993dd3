//! `xpxe import`: the configuration of another server as one of xpxe's.

mod bss;
mod clients;
mod compare;
mod dhcpd;
mod dnsmasq;
mod kea;
mod matchbox;
mod options;
mod setup;
mod stated;
mod text;
mod tinkerbell;
mod tree;
mod write;

pub(in crate::cli) use text::literal;

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;
use ipnet::Ipv4Net;

use crate::host::link;
use boot_engine::events::shown;
use compare::Theirs;

/// The flags of `xpxe import`.
#[derive(Debug, clap::Args)]
pub(super) struct Import {
    /// The server whose configuration it is
    #[arg(value_enum)]
    from: From,
    /// Its configuration: a file, or the directory of dnsmasq or matchbox
    path: PathBuf,
    /// Write the result to this new file, which only its owner can read, instead of standard output
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The interface to serve, where the configuration names none
    #[arg(long, value_name = "IF")]
    interface: Option<String>,
    /// An address of the other server's host with the length of its prefix; default: those of this host
    ///
    /// dnsmasq takes masks from there, names it as router and DNS server, and a boot file from there needs no other
    /// server's name.
    #[arg(long, value_name = "ADDRESS/PREFIX")]
    address: Vec<Ipv4Net>,
    /// Compare what both servers give each host of the configuration and an unknown machine of each subnet: addresses, and boot
    /// files for each kind of firmware. The exit status is 1 if they differ
    #[arg(long)]
    check: bool,
}

/// The servers whose configuration can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum From {
    /// dnsmasq.conf, with its conf-file and conf-dir, or a directory of such files
    Dnsmasq,
    /// dhcpd.conf of ISC dhcpd, with its includes
    Dhcpd,
    /// kea-dhcp4.conf
    Kea,
    /// matchbox's data directory
    Matchbox,
    /// What BSS answers at /boot/v1/dumpstate or /boot/v1/bootparameters
    Bss,
    /// Tinkerbell's Hardware as YAML
    Tinkerbell,
}

impl From {
    fn name(self) -> &'static str {
        match self {
            Self::Dnsmasq => "dnsmasq",
            Self::Dhcpd => "ISC dhcpd",
            Self::Kea => "Kea",
            Self::Matchbox => "matchbox",
            Self::Bss => "BSS",
            Self::Tinkerbell => "Tinkerbell",
        }
    }

    /// `server` or `proxy`: whether the other server gives addresses.
    fn role(self) -> &'static str {
        match self {
            Self::Matchbox | Self::Bss => "proxy",
            _ => "server",
        }
    }
}

/// The interface where nothing names one.
const SOME_INTERFACE: &str = "eth0";

impl Import {
    pub(super) fn run(self) -> Result<ExitCode> {
        let addresses = match self.address.as_slice() {
            [] => link::addresses().unwrap_or_default(),
            given => given.iter().map(|net| (String::new(), *net)).collect(),
        };
        let addresses: Vec<(String, Ipv4Net)> =
            addresses.into_iter().filter(|(_, net)| !net.addr().is_loopback()).collect();
        let (written, theirs) = import(self.from, &self.path, &addresses, self.interface.as_deref())?;
        for left in &written.left {
            eprintln!("{left}");
        }
        match &self.output {
            None => print!("{}", written.toml),
            Some(path) => {
                let name = path.display();
                // It may be the configuration of a server that runs, and what it says may be for nobody else.
                let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
                let mut file = file.with_context(|| format!("cannot create {name}"))?;
                file.write_all(written.toml.as_bytes()).with_context(|| format!("cannot write {name}"))?;
                eprintln!("wrote {name}; check it with: xpxe check --config {name}");
            }
        }
        eprintln!("{} statements are not carried over", written.left.len());
        if self.check {
            let compared = compare::compare(&theirs, written.config).map_err(anyhow::Error::msg)?;
            eprintln!("{compared}");
            if !compared.is_same() {
                return Ok(ExitCode::FAILURE);
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The configuration that the other server's comes to, and that itself.
fn import(
    from: From,
    path: &Path,
    addresses: &[(String, Ipv4Net)],
    interface: Option<&str>,
) -> Result<(write::Written, Theirs)> {
    let setup = match from {
        From::Dnsmasq => dnsmasq::import(path, addresses),
        From::Dhcpd => dhcpd::import(path, addresses),
        From::Kea => kea::import(path, addresses),
        From::Matchbox => matchbox::import(path),
        From::Bss => bss::import(path),
        From::Tinkerbell => tinkerbell::import(path),
    };
    let mut setup = setup.map_err(anyhow::Error::msg)?;
    if !setup.bad.is_empty() {
        let lines = setup.bad.iter().map(ToString::to_string);
        bail!(
            "{} cannot be read as the configuration of {}:\n{}",
            shown(&path.display().to_string()),
            from.name(),
            lines.collect::<Vec<_>>().join("\n")
        );
    }
    if setup.interfaces.is_empty() {
        let name = interface.unwrap_or(SOME_INTERFACE);
        setup.interface(name, from.role(), None);
        if interface.is_none()
            && let Some(name) = setup.interfaces.first_mut().and_then(|table| table.keys.first_mut())
        {
            name.note =
                Some("CHECK: the other configuration names no interface; --interface IF does".to_owned());
        }
    }
    let origin = format!("{} ({})", from.name(), path.display());
    let theirs = Theirs::of(&setup, matches!(from, From::Dnsmasq | From::Dhcpd | From::Kea));
    Ok((write::write(setup, &origin).map_err(anyhow::Error::msg)?, theirs))
}

#[cfg(test)]
mod tests;
