//! Which servers there are.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::peers;

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// xpxe with what the interface can do
    Xpxe,
    /// xpxe that keeps no boots
    XpxeBare,
    /// xpxe without a fast path
    XpxeOff,
    /// xpxe without a fast path that keeps no boots
    XpxeOffBare,
    /// dnsmasq
    Dnsmasq,
    /// Kea, one thread
    Kea,
    /// Kea, a thread per core
    KeaMt,
    /// ISC's dhcpd
    Dhcpd,
    /// FreeRADIUS with its module files, which writes no leases
    Freeradius,
}

impl Kind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Xpxe => "xpxe",
            Self::XpxeBare => "xpxe, boots off",
            Self::XpxeOff => "xpxe, fast_path off",
            Self::XpxeOffBare => "xpxe, both off",
            Self::Dnsmasq => "dnsmasq",
            Self::Kea => "Kea",
            Self::KeaMt => "Kea, multi-threading",
            Self::Dhcpd => "dhcpd",
            Self::Freeradius => "FreeRADIUS, files",
        }
    }

    pub(crate) const fn is_xpxe(self) -> bool {
        matches!(self, Self::Xpxe | Self::XpxeBare | Self::XpxeOff | Self::XpxeOffBare)
    }

    fn program(self) -> Result<PathBuf> {
        Ok(match self {
            Self::Xpxe | Self::XpxeBare | Self::XpxeOff | Self::XpxeOffBare => boot_tests::daemon::binary()?,
            Self::Dnsmasq => PathBuf::from("dnsmasq"),
            Self::Kea | Self::KeaMt => peers::unpacked("kea-dhcp4"),
            Self::Dhcpd => peers::unpacked("dhcpd"),
            Self::Freeradius => peers::unpacked("freeradius"),
        })
    }

    /// A command that starts it.
    pub(crate) fn command(self) -> Result<Command> {
        let mut command = Command::new(self.program()?);
        if let (Self::Freeradius, Some(libraries)) = (self, peers::libraries()) {
            command.env("LD_LIBRARY_PATH", libraries);
        }
        Ok(command)
    }

    /// Whether it has addresses for machines that its settings do not name.
    pub(crate) const fn has_pool(self) -> bool {
        !matches!(self, Self::Freeradius)
    }

    /// What it calls itself.
    pub(crate) fn version(self) -> Result<String> {
        let flag =
            if matches!(self, Self::Kea | Self::KeaMt | Self::Freeradius) { "-v" } else { "--version" };
        let program = self.program()?;
        let output = self.command()?.arg(flag).output();
        let output = output.with_context(|| {
            format!(
                "{} is missing: install {}, or leave it out with --servers",
                program.display(),
                self.package()
            )
        })?;
        let said = [output.stdout, output.stderr].concat();
        Ok(String::from_utf8_lossy(&said).lines().next().unwrap_or_default().to_owned())
    }

    const fn package(self) -> &'static str {
        match self {
            Self::Xpxe | Self::XpxeBare | Self::XpxeOff | Self::XpxeOffBare => "it with `cargo xtask build`",
            Self::Dnsmasq => "the package dnsmasq-base",
            Self::Kea | Self::KeaMt | Self::Dhcpd | Self::Freeradius => "it with `cargo xtask setup`",
        }
    }
}
