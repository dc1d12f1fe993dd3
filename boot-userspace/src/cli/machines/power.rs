//! `xpxe machines power`

use std::process::ExitCode;

use anyhow::Result;
use clap::ValueEnum;

use super::api::Api;
use super::{Selected, show};
use crate::cli::ConfigFile;

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
        let Self { command, which, selected, boot, dry_run, file } = self;
        if which.is_empty() {
            selected.check()?;
        }
        let mut api = Api::open(&file).await?;
        let mut machines = Vec::new();
        if which.is_empty() {
            for machine in api.list(&selected).await? {
                let called = show::called(&machine);
                // A number alone may be another machine's name.
                machines.push((machine.id.map_or_else(|| called.clone(), |id| format!("id:{id}")), called));
            }
        } else {
            for which in which {
                let machine = api.show(&which).await?;
                machines.push((which, show::called(&machine)));
            }
        }
        let boot = boot.map_or("", |boot| match boot {
            Boot::Pxe => "pxe",
            Boot::Http => "http",
            Boot::Disk => "disk",
        });
        let mut are_well = true;
        for (which, called) in machines {
            if dry_run {
                println!("would tell the BMC of {called}: {}", command.name());
                continue;
            }
            match api.power(&which, command.name(), boot).await {
                Ok(answered) => println!("{called}: {}", answered.power.as_deref().unwrap_or("done")),
                Err(error) => {
                    are_well = false;
                    eprintln!("xpxe: {called}: {error:#}");
                }
            }
        }
        Ok(if are_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
