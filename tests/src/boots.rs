//! Machines that boot all at once, each from power-on to an operating system that prints its kernel arguments and its
//! address.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::daemon::{Event, Xpxe};
use crate::guest;
use crate::machine::{Firmware, Hardware, Machine};
use crate::netns::tail;
use crate::rack::{Rack, Segment};
use crate::settings::{Known, proof};
use crate::wait::eventually;

/// The deadline from power-on to power-off: far longer than a boot; the times themselves are printed.
const BOOT: Duration = Duration::from_secs(300);

/// Within this time what a machine did is in its timeline.
const TOLD: Duration = Duration::from_secs(10);

/// An argument for every machine's kernel.
pub const EVERYBODY: &str = "xpxe.profile=guest";

/// A machine to power on.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Its firmware.
    pub firmware: Firmware,
    /// Memory in MB.
    pub memory: u32,
    /// Its entry in the configuration.
    pub known: Known,
}

impl Plan {
    /// A machine with the memory that its firmware needs to boot the guest.
    pub const fn new(firmware: Firmware, known: Known) -> Self {
        Self { firmware, memory: firmware.memory(), known }
    }
}

/// The facts that the operating system printed.
#[derive(Clone, Debug)]
pub struct Boot {
    /// Its kernel's arguments.
    pub cmdline: String,
    /// Its address.
    pub address: String,
    /// Its name.
    pub hostname: String,
    /// The time from power-on to the kernel's first line.
    pub kernel: Duration,
}

/// Checks what `xpxe why` says of machines that have just booted: that, and nothing else.
pub fn are_said_to_have_booted<'p>(
    rack: &Rack,
    xpxe: &Xpxe<'_>,
    plans: impl IntoIterator<Item = &'p Plan>,
) -> Result<()> {
    let file = rack.dir().join("xpxe.toml").display().to_string();
    for Plan { known, .. } in plans {
        let tell = |verb: &[&str]| {
            let said = xpxe.command(&[verb, &[known.mac, "--config", &file]].concat());
            said.unwrap_or_else(|error| error.to_string())
        };
        let booted = eventually(TOLD, "the verdict", || tell(&["why"]).contains("cause     boots (certain"));
        booted.with_context(|| format!("{}\n{}", tell(&["why"]), tell(&["boots", "show"])))?;
    }
    Ok(())
}

/// Powers all machines on at once and follows each to its power-off.
pub fn boot(segment: &Segment, xpxe: &Xpxe<'_>, plans: &[Plan]) -> Result<Vec<Boot>> {
    let boots = boot_with(segment, xpxe, plans, |_, _| Ok(()))?;
    Ok(boots.into_iter().map(|(boot, ())| boot).collect())
}

/// The same with what `also` takes from each machine's serial port, within the time that it is given.
pub fn boot_with<T>(
    segment: &Segment,
    xpxe: &Xpxe<'_>,
    plans: &[Plan],
    also: impl Fn(&Machine, Duration) -> Result<T>,
) -> Result<Vec<(Boot, T)>> {
    let machines: Vec<_> = plans
        .iter()
        .map(|Plan { firmware, memory, known }| {
            let hardware =
                Hardware { name: known.name, mac: known.mac, firmware: *firmware, memory: *memory };
            Machine::power_on_at(segment, segment.tap()?, &hardware)
        })
        .collect::<Result<_>>()?;
    let boots: Vec<Result<(Boot, T)>> = plans
        .iter()
        .zip(&machines)
        .map(|(plan, machine)| {
            let boot = follow(plan, machine)?;
            Ok((boot, also(machine, BOOT.saturating_sub(machine.powered_on().elapsed()))?))
        })
        .collect();
    let failed: Vec<_> = machines
        .iter()
        .zip(&boots)
        .filter_map(|(machine, boot)| {
            let error = boot.as_ref().err()?;
            Some(format!("{error:#}\nserial port of {}:\n{}", machine.name, tail(&machine.serial(), 30)))
        })
        .collect();
    ensure!(failed.is_empty(), "{}\nxpxe's log:\n{}", failed.join("\n"), xpxe.last_lines(60));
    boots.into_iter().collect()
}

fn follow(plan: &Plan, machine: &Machine) -> Result<Boot> {
    let left = || BOOT.saturating_sub(machine.powered_on().elapsed());
    let kernel = machine.wait_for(guest::KERNEL_FIRST_LINE, left())?;
    let cmdline = machine.wait_for(guest::CMDLINE, left())?.text;
    let address = machine.wait_for(guest::ADDRESS, left())?.text;
    let off = machine.wait_for_power_off(left())?;
    println!(
        "{} ({:?}): kernel after {:.1} s, off after {:.1} s",
        machine.name,
        plan.firmware,
        kernel.at.as_secs_f64(),
        off.as_secs_f64()
    );
    ensure!(cmdline.contains(EVERYBODY), "the profile's arguments did not arrive: {cmdline}");
    // "XPXE-GUEST address: 10.77.0.10 hostname: bios-1"
    let word = |number| address.split_whitespace().nth(number).unwrap_or_default().to_owned();
    Ok(Boot { address: word(2), hostname: word(4), cmdline, kernel: kernel.at })
}

/// Checks that a machine of the configuration got its name, address and argument.
pub fn known_machine_is_itself(plan: &Plan, boot: &Boot) -> Result<()> {
    let Known { name, address, .. } = plan.known;
    let arguments: Vec<_> = boot.cmdline.split_whitespace().collect();
    ensure!(arguments.contains(&proof(name).as_str()), "its own argument did not arrive: {}", boot.cmdline);
    ensure!(Some(boot.address.as_str()) == address, "{name} has {} and not {address:?}", boot.address);
    ensure!(boot.hostname == name, "{name} is called {}", boot.hostname);
    Ok(())
}

/// Checks that ROM, iPXE and operating system got the same address.
pub fn one_address_from_rom_to_os(log: &[Event], plan: &Plan, address: &str) -> Result<()> {
    let given: Vec<_> =
        of(log, plan).filter(|event| matches!(event.field("step").as_str(), "offer" | "ack")).collect();
    for event in &given {
        ensure!(
            event.field("address") == address,
            "{} was given another address: {event:?}",
            plan.known.name
        );
    }
    let acks = given.iter().filter(|event| event.field("step") == "ack").count();
    ensure!(acks >= 2, "{}: {acks} ACKs, but its firmware and its system each need one", plan.known.name);
    Ok(())
}

/// Every offer to this machine; at least one.
pub fn offers_came_from(log: &[Event], plan: &Plan, by: &[&str]) -> Result<()> {
    let offers: Vec<_> = of(log, plan).filter(|event| event.field("step") == "offer").collect();
    ensure!(!offers.is_empty(), "no offer to {}", plan.known.name);
    for offer in offers {
        ensure!(by.contains(&offer.field("by").as_str()), "not by {by:?}: {:?}", offer.json);
    }
    Ok(())
}

/// The log lines about a machine.
pub fn of<'log>(log: &'log [Event], plan: &Plan) -> impl Iterator<Item = &'log Event> {
    let mac = plan.known.mac;
    log.iter().filter(move |event| event.field("mac").eq_ignore_ascii_case(mac))
}
