//! Machines of several kinds boot from one configuration, each with the arguments that its labels, its card, its profile and
//! its architecture choose. Each fetches its document and phones home.
//!
//! Run with `--test-threads=1`, as everything with machines.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use boot_tests::boots::{EVERYBODY, Plan, boot_with, known_machine_is_itself, of};
use boot_tests::daemon::Xpxe;
use boot_tests::guest::{self, Cpu};
use boot_tests::machine::Firmware;
use boot_tests::rack::Rack;
use boot_tests::sandbox::{Sandbox, root_or_skip};
use boot_tests::settings::{Known, Settings, boot_dir, proof};

const BIOS: Plan = plan(Firmware::BiosIpxe, "by-label", "52:54:00:77:00:40", "10.77.0.40");
const UEFI: Plan = plan(Firmware::OvmfPxe, "by-mac", "52:54:00:77:01:41", "10.77.0.41");
const HTTP: Plan = plan(Firmware::OvmfHttp, "by-profile", "52:54:00:77:00:42", "10.77.0.42");
const ARM: Plan = plan(Firmware::ArmPxe, "by-arch", "52:54:00:77:00:43", "10.77.0.43");

const fn plan(firmware: Firmware, name: &'static str, mac: &'static str, address: &'static str) -> Plan {
    Plan::new(firmware, Known { name, mac, address: Some(address) })
}

/// What each machine's own part of the command line is, and what none other may have.
const OWN: [(Plan, &str); 4] = [
    (BIOS, "chosen.by=label"),
    (UEFI, "chosen.by=mac"),
    (HTTP, "chosen.by=profile"),
    (ARM, "chosen.by=arch"),
];

#[test]
fn arguments_are_chosen_by_label_mac_profile_and_architecture() -> Result<()> {
    if !root_or_skip() {
        return Ok(());
    }
    let sandbox = Sandbox::enter()?;
    let rack = Rack::build(&sandbox)?;
    let documents =
        "xpxe.document={{ documents }}user-data xpxe.home={{ phone_home }} xpxe.name={{ machine.name }}";
    let (arm_kernel, arm_initrd) = (Cpu::Arm64.kernel(), Cpu::Arm64.initrd());
    let mut more = format!(
        "\n[[profile]]\nname = \"special\"\ninherit = \"guest\"\nargs = \"chosen.by=profile\"\n\
         [[group]]\nname = \"workers\"\nmatch = {{ labels = {{ role = \"worker\" }} }}\nargs = \"chosen.by=label\"\n\
         [[group]]\nname = \"cards\"\nmatch = {{ mac = \"52:54:00:77:01\" }}\nargs = \"chosen.by=mac\"\n\
         [[group]]\nname = \"arm\"\nmatch = {{ arch = \"arm64\" }}\nargs = \"chosen.by=arch\"\n\
         [[group]]\nname = \"all\"\nmatch = {{}}\nargs = \"{documents}\"\ndocuments = {{ user-data = \"user-data\" }}\n"
    );
    more += &format!("\n[ipxe]\narm64 = {:?}\n", guest::source("sid/ipxe/ipxe-arm64.efi")?);
    for (Plan { known: Known { name, mac, address }, .. }, _) in OWN {
        let special = match name {
            "by-label" => "labels = { role = \"worker\" }",
            "by-profile" => "profile = \"special\"",
            _ => "",
        };
        more += &format!(
            "\n[[machine]]\nmac = \"{mac}\"\nname = \"{name}\"\nip = \"{}\"\nargs = \"{}\"\n{special}\n",
            address.context("an address")?,
            proof(name)
        );
    }
    let settings = Settings { args: EVERYBODY.to_owned(), more, ..Settings::default() };
    let arm = format!(
        "console = \"ttyS0\"\narch.arm64 = {{ kernel = \"{arm_kernel}\", initrd = [\"{arm_initrd}\"], console = \"ttyAMA0\" }}\n\
         \n[default]"
    );
    let config = settings.write(&sandbox, &rack)?.replace("\n[default]", &arm);
    guest::install(&boot_dir(&rack))?;
    guest::install_for(&boot_dir(&rack), Cpu::Arm64)?;
    fs::write(rack.dir().join("user-data"), "#!/bin/sh # of {{ machine.name }} at {{ machine.ip }}\n")?;

    let xpxe = Xpxe::start(&rack, &config, &[])?;
    let plans = OWN.map(|(plan, _)| plan);
    let document = |machine: &boot_tests::machine::Machine, left: Duration| {
        Ok(machine.wait_for(guest::DOCUMENT, left)?.text)
    };
    let boots = boot_with(&rack, &xpxe, &plans, document)?;
    for ((plan, own), (boot, document)) in OWN.iter().zip(&boots) {
        known_machine_is_itself(plan, boot)?;
        let chosen: Vec<_> =
            boot.cmdline.split_whitespace().filter(|word| word.starts_with("chosen.by=")).collect();
        ensure!(chosen == [*own], "{}: {}", plan.known.name, boot.cmdline);
        let Known { name, address, .. } = plan.known;
        ensure!(boot.cmdline.contains(&format!("xpxe.name={name} ")), "{}", boot.cmdline);
        let wanted = format!("of {name} at {}", address.context("an address")?);
        ensure!(document.contains(&wanted), "{document}");
    }
    let log = xpxe.log();
    let arm_fetched =
        |file: &str| of(&log, &ARM).any(|event| event.message().starts_with(&format!("sent {file}")));
    ensure!(arm_fetched(arm_kernel) && arm_fetched(arm_initrd), "the Arm machine has another kernel");
    for plan in &plans {
        let said = |step: &str, message: &str| {
            of(&log, plan).any(|event| event.field("step") == step && event.message().contains(message))
        };
        ensure!(
            said("phone-home", "phoned home: success, it says \"installed\""),
            "{} is silent",
            plan.known.name
        );
        ensure!(said("document", "sent /documents/"), "{} has no document", plan.known.name);
    }
    xpxe.stop()
}
