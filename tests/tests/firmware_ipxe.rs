//! The iPXE of several Debian releases boots machines with BIOS, UEFI PXE and UEFI HTTP Boot, on x86-64 and 64-bit Arm.
//!
//! Run with `--test-threads=1`, as everything with machines.

use anyhow::{Context, Result, ensure};
use boot_tests::boots::{EVERYBODY, Plan, boot, known_machine_is_itself, of, one_address_from_rom_to_os};
use boot_tests::daemon::Xpxe;
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

/// BIOS and UEFI on x86-64 with this machine's own release boot in `firmware.rs`; HTTP Boot of a known machine does here.
#[test]
fn uefi_http_boot_with_the_ipxe_of_this_release() -> Result<()> {
    boots_with(None, &[HTTP])
}

/// This iPXE fetches `autoexec.ipxe` with the firmware's network: it knows its address, and its card is closed.
#[test]
fn every_firmware_boots_with_the_ipxe_of_debian_13() -> Result<()> {
    boots_with(Some("trixie"), &[BIOS, UEFI, HTTP, ARM, ARM_HTTP])
}

#[test]
fn every_uefi_boots_with_the_ipxe_of_sid() -> Result<()> {
    boots_with(Some("sid"), &[UEFI, HTTP, ARM, ARM_HTTP])
}

const fn plan(firmware: Firmware, name: &'static str, mac: &'static str, address: &'static str) -> Plan {
    Plan { firmware, known: Known { name, mac, address: Some(address) } }
}

/// All at once, with the loaders of a Debian release.
fn boots_with(release: Option<&str>, plans: &[Plan]) -> Result<()> {
    if !root_or_skip() {
        return Ok(());
    }
    let sandbox = Sandbox::enter()?;
    let rack = Rack::build(&sandbox)?;
    let (arm, x64): (Vec<&Plan>, Vec<&Plan>) =
        plans.iter().partition(|plan| plan.firmware.cpu() == Cpu::Arm64);
    let mut more = String::new();
    if let Some(release) = release {
        let loader = |name: &str| guest::source(&format!("{release}/ipxe/{name}"));
        let (bios, x64) = (loader("undionly.kpxe")?, loader("snponly.efi")?);
        more +=
            &format!("\n[ipxe]\nbios = {bios:?}\nx64 = {x64:?}\narm64 = {:?}\n", loader("ipxe-arm64.efi")?);
    }
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
    xpxe.stop()
}
