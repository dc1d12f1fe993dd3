//! The iPXE of later Debian releases boots machines with BIOS, UEFI PXE and UEFI HTTP Boot, on x86-64 and 64-bit Arm.
//!
//! That of this machine's own release is in `firmware.rs`. Run with `--test-threads=1`, as everything with machines.

use anyhow::{Context, Result, ensure};
use boot_tests::boots::{
    EVERYBODY, Plan, are_said_to_have_booted, boot, known_machine_is_itself, of, one_address_from_rom_to_os,
};
use boot_tests::daemon::{Event, Xpxe};
use boot_tests::guest::{self, Cpu};
use boot_tests::machine::Firmware;
use boot_tests::rack::Rack;
use boot_tests::sandbox::{Sandbox, root_or_skip};
use boot_tests::settings::{Known, Settings, boot_dir, proof};

const BIOS: Plan = plan(Firmware::BiosIpxe2025, "bios", "52:54:00:77:00:20", "10.77.0.20");
const UEFI: Plan = plan(Firmware::OvmfPxe, "uefi", "52:54:00:77:00:21", "10.77.0.21");
const HTTP: Plan = plan(Firmware::OvmfHttp, "http", "52:54:00:77:00:22", "10.77.0.22");
const ARM: Plan = plan(Firmware::ArmPxe, "arm", "52:54:00:77:00:23", "10.77.0.23");
const ARM_HTTP: Plan = plan(Firmware::ArmHttp, "arm-http", "52:54:00:77:00:24", "10.77.0.24");

/// This iPXE fetches `autoexec.ipxe` with the firmware's network: it knows its address, and its card is closed.
#[test]
fn every_firmware_boots_with_the_ipxe_of_debian_13() -> Result<()> {
    boots_with("trixie", &[BIOS, UEFI, HTTP, ARM, ARM_HTTP])
}

#[test]
fn every_uefi_boots_with_the_ipxe_of_sid() -> Result<()> {
    boots_with("sid", &[UEFI, HTTP, ARM, ARM_HTTP])
}

/// No router advertisement of ours crosses a relay, so that iPXE waits for one: 16 s in the one of 2019, 4 s in later ones.
/// The times from the ACK to the first script are printed.
#[test]
fn machines_behind_a_relay_boot() -> Result<()> {
    if !root_or_skip() {
        return Ok(());
    }
    let plans = [
        plan(Firmware::BiosIpxe, "far-bios", "52:54:00:78:00:10", "10.78.0.10"),
        plan(Firmware::BiosIpxe2025, "far-2025", "52:54:00:78:00:11", "10.78.0.11"),
        plan(Firmware::OvmfPxe, "far-uefi", "52:54:00:78:00:12", "10.78.0.12"),
    ];
    let sandbox = Sandbox::enter()?;
    let rack = Rack::build(&sandbox)?;
    let far = rack.segment_behind_router(&sandbox)?;
    let x64 = guest::source("trixie/ipxe/snponly.efi")?;
    let more = format!(
        "\n[ipxe]\nx64 = {x64:?}\n[[subnet]]\ncidr = \"10.78.0.0/24\"\npool = [\"10.78.0.100-10.78.0.199\"]\n\
         router = \"10.78.0.1\"\n"
    );
    let machines = plans.iter().map(|plan| plan.known).collect();
    let settings =
        Settings { machines, args: format!("console=ttyS0 {EVERYBODY}"), more, ..Settings::default() };
    let config = settings.write(&sandbox, &rack)?;
    guest::install(&boot_dir(&rack))?;
    let _relay = far.start_relay()?;
    let xpxe = Xpxe::start(&rack, &config, &[])?;
    let boots = boot(&far, &xpxe, &plans)?;
    let log = xpxe.log();
    for (plan, boot) in plans.iter().zip(&boots) {
        known_machine_is_itself(plan, boot)?;
        one_address_from_rom_to_os(&log, plan, &boot.address)?;
        let is_ipxes =
            |event: &&Event| event.field("step") == "ack" && event.field("class").starts_with("iPXE");
        let ack = of(&log, plan).find(is_ipxes).context("an ACK to iPXE")?;
        let script = of(&log, plan).find(|event| event.field("step") == "script").context("a script")?;
        let waited = script.at.saturating_duration_since(ack.at);
        println!("{}: script {:.1} s after the ACK", plan.known.name, waited.as_secs_f64());
    }
    are_said_to_have_booted(&rack, &xpxe, &plans)?;
    xpxe.stop()
}

const fn plan(firmware: Firmware, name: &'static str, mac: &'static str, address: &'static str) -> Plan {
    Plan::new(firmware, Known { name, mac, address: Some(address) })
}

/// All at once, with the loaders of a Debian release.
fn boots_with(release: &str, plans: &[Plan]) -> Result<()> {
    if !root_or_skip() {
        return Ok(());
    }
    let sandbox = Sandbox::enter()?;
    let rack = Rack::build(&sandbox)?;
    let (arm, x64): (Vec<&Plan>, Vec<&Plan>) =
        plans.iter().partition(|plan| plan.firmware.cpu() == Cpu::Arm64);
    let loader = |name: &str| guest::source(&format!("{release}/ipxe/{name}"));
    let (bios, x64_efi) = (loader("undionly.kpxe")?, loader("snponly.efi")?);
    let arm_efi = loader("ipxe-arm64.efi")?;
    let mut more = format!("\n[ipxe]\nbios = {bios:?}\nx64 = {x64_efi:?}\narm64 = {arm_efi:?}\n");
    more += &format!(
        "\n[[profile]]\nname = \"arm64\"\nkernel = {:?}\ninitrd = [{:?}]\nargs = \"console=ttyAMA0 {EVERYBODY}\"\n",
        Cpu::Arm64.kernel(),
        Cpu::Arm64.initrd()
    );
    for Plan { known, .. } in &arm {
        let Known { name, mac, address } = known;
        more += &format!(
            "\n[[machine]]\nmac = \"{mac}\"\nname = \"{name}\"\nargs = \"{}\"\nip = \"{}\"\nprofile = \"arm64\"\n",
            proof(name),
            address.context("an address")?
        );
    }
    let machines = x64.iter().map(|plan| plan.known).collect();
    let settings =
        Settings { machines, args: format!("console=ttyS0 {EVERYBODY}"), more, ..Settings::default() };
    let config = settings.write(&sandbox, &rack)?;
    guest::install(&boot_dir(&rack))?;
    if !arm.is_empty() {
        guest::install_for(&boot_dir(&rack), Cpu::Arm64)?;
    }
    let xpxe = Xpxe::start(&rack, &config, &[])?;
    let boots = boot(&rack, &xpxe, plans)?;
    let log = xpxe.log();
    for (plan, boot) in plans.iter().zip(&boots) {
        known_machine_is_itself(plan, boot)?;
        one_address_from_rom_to_os(&log, plan, &boot.address)?;
        let asked = of(&log, plan).any(|event| event.field("class").starts_with("iPXE on "));
        ensure!(asked, "{}: iPXE never asked for an address of its own", plan.known.name);
    }
    are_said_to_have_booted(&rack, &xpxe, plans)?;
    xpxe.stop()
}
