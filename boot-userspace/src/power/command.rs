//! A program of the operator's that switches machines: for PDUs, smart plugs, hypervisors.
//!
//! It gets `XPXE_ACTION` (`on`, `off`, `cycle`, `status` or `reset-bmc`), `XPXE_NAME`, `XPXE_MAC`, `XPXE_ADDRESS` and
//! `XPXE_BOOT` (`pxe`, `http`, `disk` or nothing) and says `on` or `off` in its first line when it is asked for the status.
//! Its exit status is 0 if it has done what it was asked for.

use std::process::Command;
use std::time::Duration;

use super::child::{self, ChildError, Ended};
use super::{Boot, Reading, Target, Trouble};
use boot_engine::lifecycle::Act;

pub(super) async fn read(target: &Target, patience: Duration) -> Result<Reading, Trouble> {
    let said = ask(target, "status", None, patience).await?;
    match said.lines().next().unwrap_or_default().trim() {
        "on" => Ok(Reading::On),
        "off" => Ok(Reading::Off),
        "unknown" => Ok(Reading::CannotTell),
        other => {
            Err(Trouble::Lasting(format!("the command says {other:?}; it is to say on, off or unknown")))
        }
    }
}

pub(super) async fn act(
    target: &Target,
    act: Act,
    boot: Option<Boot>,
    patience: Duration,
) -> Result<(), Trouble> {
    ask(target, act.name(), boot, patience).await.map(drop)
}

async fn ask(
    target: &Target,
    action: &str,
    boot: Option<Boot>,
    patience: Duration,
) -> Result<String, Trouble> {
    let Some((program, arguments)) = target.bmc.command.split_first() else {
        let why = "there is no command: write command = [\"/path\", \"argument\"] in [bmc] or in bmc of the machine";
        return Err(Trouble::Lasting(why.to_owned()));
    };
    let mut command = Command::new(program);
    command.args(arguments).env_clear();
    command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    command.env("XPXE_ACTION", action).env("XPXE_NAME", &target.name);
    command.env("XPXE_MAC", target.macs.first().map(ToString::to_string).unwrap_or_default());
    command.env("XPXE_ADDRESS", target.address.as_deref().unwrap_or_default());
    command.env("XPXE_BOOT", boot.map(Boot::name).unwrap_or_default());
    match child::run(command, patience).await {
        Ok(Ended { status, said }) if status.success() => Ok(said),
        Ok(Ended { status, said }) => {
            let last = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
            let last: String = last.chars().take(200).collect();
            Err(Trouble::Lasting(format!("{program} has ended with {status}: {last}")))
        }
        Err(ChildError::TimedOut) => {
            Err(Trouble::Passing(format!("{program} took longer than {patience:?}")))
        }
        Err(ChildError::Start(error)) => {
            Err(Trouble::Lasting(format!("{program} cannot be started: {error}")))
        }
    }
}
