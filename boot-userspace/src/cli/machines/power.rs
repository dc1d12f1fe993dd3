//! `xpxe machines power`

use std::process::ExitCode;

use anyhow::Result;
use clap::ValueEnum;

use super::api::Api;
use super::{Selected, refuse, show, tell};
use crate::cli::ConfigFile;
use crate::http::machines::Answered;

/// `xpxe machines power …`
#[derive(Debug, clap::Args)]
pub(super) struct Power {
    /// What to do
    #[arg(value_enum)]
    command: Command,
    /// Names, MAC addresses, UUIDs or numbers (id:42)
    which: Vec<String>,
    #[command(flatten)]
    selected: Selected,
    /// From where they boot once; with on and cycle
    #[arg(long, value_enum)]
    boot: Option<Boot>,
    /// Name the machines, and tell their BMCs nothing
    #[arg(long)]
    dry_run: bool,
    /// Print JSON: an object a line for each machine
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    file: ConfigFile,
}

/// What a BMC is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Command {
    /// Switch on
    On,
    /// Switch off, without asking the system
    Off,
    /// Switch off and on
    Cycle,
    /// Restart the BMC; the machine stays as it is
    ResetBmc,
    /// Ask whether it is on
    Status,
}

impl Command {
    fn name(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Off => "off",
            Self::Cycle => "cycle",
            Self::ResetBmc => "reset-bmc",
            Self::Status => "status",
        }
    }
}

/// From where a machine boots once.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Boot {
    /// From the network by PXE
    Pxe,
    /// From the network by HTTP (Redfish)
    Http,
    /// From its disk
    Disk,
}

impl Power {
    /// Says of each machine what its BMC says, and goes on behind one that fails.
    pub(super) async fn run(self) -> Result<ExitCode> {
        let Self { command, which, selected, boot, dry_run, json, file } = self;
        selected.check(&which)?;
        let mut api = Api::open(&file).await?;
        let machines = selected.machines(which, &mut api).await?;
        let boot = boot.map_or("", |boot| match boot {
            Boot::Pxe => "pxe",
            Boot::Http => "http",
            Boot::Disk => "disk",
        });
        let mut are_well = true;
        for (which, called) in machines {
            if dry_run {
                let called = show::called(&api.show(&which).await?);
                let line = format!("would tell the BMC of {called}: {}", command.name());
                tell(json, &called, &line, ("would", command.name()));
                continue;
            }
            match api.power(&which, command.name(), boot).await {
                Ok(Answered { machine, power }) => {
                    let power = power.as_deref().unwrap_or("done");
                    tell(json, &machine, &format!("{machine}: {power}"), ("power", power));
                }
                Err(error) => {
                    are_well = false;
                    refuse(json, &called, &error);
                }
            }
        }
        Ok(if are_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
