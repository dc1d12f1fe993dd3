//! Machines with Secure Boot on boot by Debian's shim: GRUB, and an iPXE that somebody has signed himself.
//!
//! Run with `--test-threads=1`, as everything with machines.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use boot_tests::boots::{EVERYBODY, Plan, boot_with, known_machine_is_itself, of};
use boot_tests::certificates::Authority;
use boot_tests::daemon::{Event, Xpxe};
use boot_tests::guest;
use boot_tests::machine::{Firmware, Hardware, Machine};
use boot_tests::rack::Rack;
use boot_tests::sandbox::{Sandbox, root_or_skip};
use boot_tests::secure_boot;
use boot_tests::settings::{Known, Settings, boot_dir, proof};
use boot_tests::wait::eventually;

/// GRUB 2.06 has a quarter of the memory for itself.
const GRUB: Plan = Plan { memory: 1024, ..plan("secure-grub", "52:54:00:77:00:51", "10.77.0.51") };
const IPXE: Plan = plan("secure-ipxe", "52:54:00:77:00:52", "10.77.0.52");
/// With the same iPXE, which nobody has signed.
const UNSIGNED: Plan = plan("unsigned", "52:54:00:77:00:53", "10.77.0.53");

/// Of the machine with each directory's files.
const DIRECTORIES: [(&Plan, &str); 3] =
    [(&GRUB, "grub-by-shim"), (&IPXE, "ipxe-by-shim"), (&UNSIGNED, "unsigned")];
/// The time from power-on in emulation until shim has refused a program.
const SOON: Duration = Duration::from_secs(120);

const fn plan(name: &'static str, mac: &'static str, address: &'static str) -> Plan {
    Plan::new(Firmware::OvmfSecureBoot, Known { name, mac, address: Some(address) })
}

/// The third machine shows that Secure Boot is on: it refuses what is unsigned.
#[test]
fn shim_boots_the_signed_grub_and_an_ipxe_that_its_operator_has_signed() -> Result<()> {
    if !root_or_skip() {
        return Ok(());
    }
    let sandbox = Sandbox::enter()?;
    let rack = Rack::build(&sandbox)?;
    let mut more = String::new();
    for (Plan { known, .. }, directory) in DIRECTORIES {
        let Known { name, mac, address } = known;
        more += &format!(
            "\n[[machine]]\nmac = \"{mac}\"\nname = \"{name}\"\nip = \"{}\"\nargs = \"{}\"\n\
             boot_file = \"{directory}/shimx64.efi\"\n",
            address.context("an address")?,
            proof(name)
        );
    }
    let args = format!("console=ttyS0 {EVERYBODY}");
    let config = Settings { args, more, ..Settings::default() }.write(&sandbox, &rack)?;
    let boot_dir = boot_dir(&rack);
    guest::install(&boot_dir)?;
    let authority = Authority::new(rack.dir())?;
    secure_boot::enrol(&authority, rack.dir())?;
    let ipxe = guest::source("sid/ipxe/snponly.efi")?;
    for (plan, directory) in DIRECTORIES {
        let directory = boot_dir.join(directory);
        fs::create_dir_all(&directory)?;
        fs::copy(guest::source("secure-boot/shimx64.efi")?, directory.join("shimx64.efi"))?;
        let second = directory.join("grubx64.efi");
        match plan.known.name {
            "secure-grub" => drop(fs::copy(guest::source("loaders/grubnetx64.efi")?, second)?),
            "secure-ipxe" => secure_boot::sign(&authority, &ipxe, &second)?,
            _ => drop(fs::copy(&ipxe, second)?),
        }
    }
    fs::create_dir_all(boot_dir.join("alone"))?;
    fs::copy(guest::source("secure-boot/shimx64.efi")?, boot_dir.join("alone/shimx64.efi"))?;
    let xpxe = Xpxe::start(&rack, &config, &[])?;
    says_who_has_signed(&rack, &xpxe)?;

    let hardware = Hardware {
        name: UNSIGNED.known.name,
        mac: UNSIGNED.known.mac,
        firmware: UNSIGNED.firmware,
        memory: UNSIGNED.memory,
    };
    let unsigned = Machine::power_on_at(&rack, rack.tap()?, &hardware)?;
    let plans = [GRUB, IPXE];
    let locked = |machine: &Machine, left| machine.wait_for("Secure boot enabled", left);
    let boots = boot_with(&rack, &xpxe, &plans, locked)?;
    unsigned.wait_for("Security Violation", SOON).with_context(|| xpxe.last_lines(60))?;
    unsigned.power_off()?;
    why_the_unsigned_one_did_not_start(&rack, &xpxe)?;

    let log = xpxe.log();
    for (plan, (boot, _)) in plans.iter().zip(&boots) {
        known_machine_is_itself(plan, boot)?;
    }
    let is_sent = |plan: &Plan, step: &str, file: &str| {
        let is_it = |event: &Event| {
            event.field("step") == step && event.message().starts_with(&format!("sent {file}"))
        };
        of(&log, plan).any(is_it)
    };
    ensure!(is_sent(&GRUB, "tftp", "/grub/grub.cfg"), "GRUB was not sent its configuration");
    ensure!(is_sent(&IPXE, "tftp", "ipxe-by-shim/autoexec.ipxe"), "iPXE was not sent its first script");
    ensure!(is_sent(&IPXE, "script", "/ipxe/boot.ipxe"), "iPXE was not sent its machine's script");
    ensure!(!is_sent(&UNSIGNED, "tftp", "unsigned/autoexec.ipxe"), "the unsigned iPXE was started");
    xpxe.stop()
}

/// It fetched its loader whole, and nothing followed.
fn why_the_unsigned_one_did_not_start(rack: &Rack, xpxe: &Xpxe<'_>) -> Result<()> {
    let file = rack.dir().join("xpxe.toml").display().to_string();
    let mut said = String::new();
    let silent = eventually(SOON, "the cause", || {
        said = xpxe.command(&["why", UNSIGNED.known.name, "--config", &file]).unwrap_or_default();
        ["loader-silent", "unsigned/grubx64.efi", "Secure Boot refused the file"]
            .iter()
            .all(|part| said.contains(part))
    });
    silent.with_context(|| said.clone())
}

/// `xpxe check` knows beforehand what becomes of them.
fn says_who_has_signed(rack: &Rack, xpxe: &Xpxe<'_>) -> Result<()> {
    let file = rack.dir().join("xpxe.toml").display().to_string();
    let said = xpxe.command(&["check", "--config", &file])?;
    for (name, wanted) in [
        (
            "grub-by-shim/shimx64.efi is",
            "\"Microsoft Corporation UEFI CA 2011\" and \"Microsoft UEFI CA 2023 signer\" of \"Microsoft UEFI CA 2023\": it \
             boots with Secure Boot on, and loads what \"Debian Secure Boot CA\" has signed (SBAT shim ",
        ),
        (
            "grub-by-shim/grubx64.efi is",
            "of \"Debian Secure Boot CA\": it boots with Secure Boot on behind grub-by-shim/shimx64.efi (SBAT grub ",
        ),
        ("guest/vmlinuz is", "of \"Debian Secure Boot CA\": it boots with Secure Boot on behind "),
        (
            "ipxe-by-shim/grubx64.efi is",
            "signed by \"xpxe test CA\": it boots with Secure Boot on only where that key is enrolled, in the firmware or \
             for shim (MokManager) (SBAT ipxe 1",
        ),
        ("warning: alone/shimx64.efi is", "it is a shim, and grubx64.efi, which it loads, is not beside it"),
        ("unsigned/grubx64.efi is", "not signed, so it does not boot with Secure Boot on"),
    ] {
        let line = said.lines().find(|line| line.starts_with(name));
        ensure!(line.is_some_and(|line| line.contains(wanted)), "{name}: {said}");
    }
    Ok(())
}
