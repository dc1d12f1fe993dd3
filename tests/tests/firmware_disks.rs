//! The image of a CD boots: UEFI HTTP Boot loads it into a RAM disk, and iPXE is its drive under UEFI and BIOS.
//!
//! Run with `--test-threads=1`, as all tests that boot machines.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use boot_tests::boots::{EVERYBODY, Plan, boot, of};
use boot_tests::daemon::{Event, Xpxe};
use boot_tests::guest;
use boot_tests::machine::Firmware;
use boot_tests::rack::Rack;
use boot_tests::sandbox::{Sandbox, root_or_skip};
use boot_tests::settings::{Known, Settings, boot_dir};
use boot_tests::wait::eventually;

const HTTP: Plan = plan(Firmware::OvmfHttp, "cd-http", "52:54:00:77:00:41", "10.77.0.41");
const UEFI: Plan = plan(Firmware::OvmfPxe, "cd-uefi", "52:54:00:77:00:42", "10.77.0.42");
const BIOS: Plan = plan(Firmware::BiosIpxe, "cd-bios", "52:54:00:77:00:43", "10.77.0.43");

/// Until steps that have been taken are shown.
const TOLD: Duration = Duration::from_secs(20);

#[test]
fn a_cd_boots_by_http_boot_and_by_ipxe() -> Result<()> {
    if !root_or_skip() {
        return Ok(());
    }
    let plans = [HTTP, UEFI, BIOS];
    let sandbox = Sandbox::enter()?;
    let rack = Rack::build(&sandbox)?;
    let mut more = "\n[[profile]]\nname = \"cd\"\niso = \"images/guest.iso\"\n".to_owned();
    for Known { name, mac, address } in plans.map(|plan| plan.known) {
        let address = address.context("an address")?;
        more += &format!(
            "\n[[machine]]\nmac = \"{mac}\"\nname = \"{name}\"\nip = \"{address}\"\nprofile = \"cd\"\n"
        );
    }
    let config = Settings { more, ..Settings::default() }.write(&sandbox, &rack)?;
    make_cd(&rack)?;
    let xpxe = Xpxe::start(&rack, &config, &[])?;
    boot(&rack, &xpxe, &plans)?;
    let log = xpxe.log();
    let file = rack.dir().join("xpxe.toml").display().to_string();
    for plan in &plans {
        // iPXE reads the disk in parts, which are steps of its boot and no lines of the log.
        let shown = || xpxe.command(&["boots", "show", plan.known.mac, "--config", &file]);
        let sent = eventually(TOLD, "the disk among the boot's steps", || {
            shown().is_ok_and(|shown| shown.contains("images/guest.iso"))
        });
        sent.with_context(|| format!("{}: {:?}", plan.known.name, shown()))?;
        // Firmware that loads the disk itself needs no iPXE.
        let is_ipxes = |event: &Event| event.field("class").starts_with("iPXE");
        ensure!(of(&log, plan).any(is_ipxes) == (plan.known.name != HTTP.known.name), "{}", plan.known.name);
    }
    xpxe.stop()
}

const fn plan(firmware: Firmware, name: &'static str, mac: &'static str, address: &'static str) -> Plan {
    // With the disk in memory, GRUB finds no room for a kernel in less.
    Plan { firmware, memory: 512, known: Known { name, mac, address: Some(address) } }
}

/// A CD with GRUB for UEFI and BIOS, which boots the guest from the CD itself.
fn make_cd(rack: &Rack) -> Result<()> {
    let cd = rack.dir().join("cd");
    guest::install(&cd)?;
    fs::create_dir_all(cd.join("boot/grub"))?;
    let grub =
        format!("linux /{} console=ttyS0 {EVERYBODY}\ninitrd /{}\nboot\n", guest::KERNEL, guest::INITRD);
    fs::write(cd.join("boot/grub/grub.cfg"), grub)?;
    let image = boot_dir(rack).join("images/guest.iso");
    fs::create_dir_all(image.parent().context("a directory")?)?;
    let made =
        Command::new("grub-mkrescue").arg("-o").arg(&image).arg(&cd).output().context("grub-mkrescue")?;
    ensure!(made.status.success(), "grub-mkrescue: {}", String::from_utf8_lossy(&made.stderr));
    Ok(())
}
