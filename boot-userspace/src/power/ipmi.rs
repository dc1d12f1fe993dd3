//! IPMI 2.0 over the network, by `ipmitool -I lanplus`: it speaks the cipher suites of real BMCs.

use std::process::Command;
use std::time::Duration;

use super::child::{self, ChildError, Ended};
use super::{Boot, Login, Reading, Target, Trouble};
use boot_engine::lifecycle::Act;

/// The suite with SHA-256 and AES: what BMCs of today have.
const CIPHER: u8 = 17;

/// Reads whether a machine is on.
pub(super) async fn read(target: &Target, login: &Login, patience: Duration) -> Result<Reading, Trouble> {
    let said = ask(target, login, &["chassis", "power", "status"], patience).await?;
    match said.to_lowercase() {
        said if said.contains("power is on") => Ok(Reading::On),
        said if said.contains("power is off") => Ok(Reading::Off),
        _ => Err(Trouble::Lasting(format!("ipmitool says {:?} of its power", said.trim()))),
    }
}

/// Has a machine switched.
pub(super) async fn act(
    target: &Target,
    login: &Login,
    act: Act,
    boot: Option<Boot>,
    patience: Duration,
) -> Result<(), Trouble> {
    if act == Act::ResetBmc {
        return ask(target, login, &["mc", "reset", "cold"], patience).await.map(drop);
    }
    if let Some(boot) = boot {
        let device = match boot {
            Boot::Pxe => "pxe",
            Boot::Disk => "disk",
            Boot::Http => {
                let why = "IPMI cannot ask for a boot by HTTP: use --boot pxe, or Redfish";
                return Err(Trouble::Lasting(why.to_owned()));
            }
        };
        let uefi = (target.bmc.bios != Some(true)).then_some("options=efiboot");
        let words = ["chassis", "bootdev", device].into_iter().chain(uefi).collect::<Vec<_>>();
        ask(target, login, &words, patience).await?;
    }
    let word = match act {
        Act::Off => "off",
        // Who is off cannot be cycled.
        Act::Cycle if read(target, login, patience).await? == Reading::On => "cycle",
        _ => "on",
    };
    ask(target, login, &["chassis", "power", word], patience).await.map(drop)
}

async fn ask(target: &Target, login: &Login, words: &[&str], patience: Duration) -> Result<String, Trouble> {
    let place = target.place()?;
    let (host, port) = match place.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, Some(port)),
        _ => (place, None),
    };
    let mut command = Command::new("ipmitool");
    command.args(["-I", "lanplus", "-N", "2", "-R", "3", "-L", "ADMINISTRATOR"]);
    command.args(["-C", &target.bmc.cipher.unwrap_or(CIPHER).to_string()]);
    command.args(["-H", host.trim_matches(['[', ']'])]);
    if let Some(port) = port {
        command.args(["-p", port]);
    }
    command.args(["-U", &login.user]);
    // Never an argument: everybody on this host sees those.
    command.arg("-E").env("IPMITOOL_PASSWORD", login.password.reveal()).env_remove("IPMI_PASSWORD");
    command.args(words);
    match child::run(command, patience).await {
        Ok(Ended { status, said }) if status.success() => Ok(said),
        Ok(Ended { said, .. }) => Err(why(&said, target.bmc.cipher.unwrap_or(CIPHER))),
        Err(ChildError::TimedOut) => {
            Err(Trouble::Passing(format!("{place} has not answered within {patience:?}")))
        }
        Err(ChildError::Start(error)) => Err(Trouble::Lasting(format!(
            "ipmitool cannot be started: {error}; install it (apt install ipmitool)"
        ))),
    }
}

/// What ipmitool's words mean.
fn why(said: &str, cipher: u8) -> Trouble {
    let last = said.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or("nothing");
    let said_so = format!("ipmitool: {}", last.chars().take(200).collect::<String>());
    if said.contains("Unable to establish IPMI v2 / RMCP+ session") {
        return Trouble::Passing(format!(
            "{said_so}; is the BMC there, are user and password right, and does it take cipher suite {cipher} (cipher of bmc; old ones take 3)?"
        ));
    }
    Trouble::Lasting(said_so)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ipmitool_says_has_a_remedy() {
        let Trouble::Passing(said) = why("\nError: Unable to establish IPMI v2 / RMCP+ session\n", 17) else {
            panic!("it may be there later");
        };
        assert!(said.contains("cipher suite 17") && said.contains("password"), "{said}");
        let Trouble::Lasting(said) = why("Set Chassis Power Control to Up/On failed: Invalid command\n", 3)
        else {
            panic!("it will say so again");
        };
        assert!(said.contains("Invalid command"), "{said}");
    }
}
