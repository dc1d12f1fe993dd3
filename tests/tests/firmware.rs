//! Machines with real firmware boot from power-on to an operating system that says, in its own words, which
//! kernel arguments and which address it got.
//!
//! Run with `--test-threads=1`: each test boots up to four machines in software emulation. The deadline is far
//! beyond what a boot takes; the times themselves are printed.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use boot_tests::boots::{
    EVERYBODY, Plan, are_said_to_have_booted, boot, known_machine_is_itself, offers_came_from,
    one_address_from_rom_to_os,
};
use boot_tests::daemon::{Event, Xpxe};
use boot_tests::guest;
use boot_tests::machine::Firmware;
use boot_tests::netns::tail;
use boot_tests::rack::Rack;
use boot_tests::reference::dnsmasq_plain_dhcp;
use boot_tests::sandbox::{Sandbox, root_or_skip};
use boot_tests::settings::{Known, Settings, boot_dir, proof};

const BIOS: Plan = Plan::new(
    Firmware::BiosIpxe,
    Known { name: "bios-1", mac: "52:54:00:77:00:0a", address: Some("10.77.0.10") },
);
const UEFI: Plan = Plan::new(
    Firmware::OvmfPxe,
    Known { name: "uefi-1", mac: "52:54:00:77:00:0b", address: Some("10.77.0.11") },
);

#[test]
fn bios_and_uefi_boot_at_once_and_the_kernel_half_offers() -> Result<()> {
    if !root_or_skip() {
        return Ok(());
    }
    let log = boot_known("xdp", &[BIOS, UEFI])?;
    for plan in [BIOS, UEFI] {
        offers_came_from(&log, &plan, &["xdp", "tc"])?;
    }
    Ok(())
}

#[test]
fn bios_and_uefi_boot_at_once_from_the_daemon_alone() -> Result<()> {
    if !root_or_skip() {
        return Ok(());
    }
    let log = boot_known("off", &[BIOS, UEFI])?;
    for plan in [BIOS, UEFI] {
        offers_came_from(&log, &plan, &["daemon"])?;
    }
    let not_the_daemon = log.iter().find(|event| !matches!(event.field("by").as_str(), "" | "daemon"));
    ensure!(not_the_daemon.is_none(), "with fast_path = \"off\": {not_the_daemon:?}");
    Ok(())
}

#[test]
fn uefi_boots_with_the_kernel_half_in_tc_only() -> Result<()> {
    if !root_or_skip() {
        return Ok(());
    }
    let log = boot_known("tc", &[UEFI])?;
    offers_came_from(&log, &UEFI, &["tc"])
}

#[test]
fn uefi_boots_from_a_proxy_with_the_kernel_half_beside_another_dhcp_server() -> Result<()> {
    if !root_or_skip() {
        return Ok(());
    }
    let log = boot_from_proxy("xdp", &UEFI)?;
    offers_came_from(&log, &UEFI, &["xdp", "tc"])
}

#[test]
fn bios_boots_from_a_proxy_without_the_kernel_half_beside_another_dhcp_server() -> Result<()> {
    if !root_or_skip() {
        return Ok(());
    }
    let log = boot_from_proxy("off", &BIOS)?;
    offers_came_from(&log, &BIOS, &["daemon"])
}

#[test]
fn four_kinds_of_firmware_boot_at_once_two_of_them_unknown() -> Result<()> {
    if !root_or_skip() {
        return Ok(());
    }
    let stranger = |firmware, name, mac| Plan::new(firmware, Known { name, mac, address: None });
    let strangers = [
        stranger(Firmware::OvmfHttp, "http-2", "52:54:00:77:00:1c"),
        stranger(Firmware::OvmfIpxeRom, "rom-2", "52:54:00:77:00:1d"),
    ];
    let sandbox = Sandbox::enter()?;
    let settings = Settings { machines: vec![BIOS.known, UEFI.known], ..settings("xdp", "server") };
    let (rack, config) = rack_with_guest(&sandbox, &settings)?;
    let xpxe = Xpxe::start(&rack, &config, &[])?;
    let boots = boot(&rack, &xpxe, &[BIOS, UEFI, strangers[0], strangers[1]])?;
    let addresses: BTreeSet<_> = boots.iter().map(|boot| boot.address.as_str()).collect();
    ensure!(addresses.len() == 4, "four machines have these addresses: {addresses:?}");
    let log = xpxe.log();
    for (plan, boot) in [BIOS, UEFI].iter().zip(&boots) {
        known_machine_is_itself(plan, boot)?;
        offers_came_from(&log, plan, &["xdp", "tc"])?;
    }
    are_said_to_have_booted(&rack, &xpxe, [BIOS, UEFI].iter().chain(&strangers))?;
    for (plan, boot) in strangers.iter().zip(&boots[2..]) {
        ensure!(in_pool(&boot.address), "{} is not of the pool: {}", plan.known.name, boot.address);
        one_address_from_rom_to_os(&log, plan, &boot.address)?;
    }
    xpxe.stop()
}

// ---- how ----

fn settings(fast_path: &'static str, dhcp: &'static str) -> Settings {
    Settings { fast_path, dhcp, args: format!("console=ttyS0 {EVERYBODY}"), ..Settings::default() }
}

fn rack_with_guest(sandbox: &Sandbox, settings: &Settings) -> Result<(Rack, String)> {
    let rack = Rack::build(sandbox)?;
    let config = settings.write(sandbox, &rack)?;
    guest::install(&boot_dir(&rack))?;
    Ok((rack, config))
}

/// Boots machines with an address of their own; gives xpxe's log.
fn boot_known(fast_path: &'static str, plans: &[Plan]) -> Result<Vec<Event>> {
    let sandbox = Sandbox::enter()?;
    let machines = plans.iter().map(|plan| plan.known).collect();
    let (rack, config) = rack_with_guest(&sandbox, &Settings { machines, ..settings(fast_path, "server") })?;
    let xpxe = Xpxe::start(&rack, &config, &[])?;
    let boots = boot(&rack, &xpxe, plans)?;
    let log = xpxe.log();
    for (plan, boot) in plans.iter().zip(&boots) {
        known_machine_is_itself(plan, boot)?;
        one_address_from_rom_to_os(&log, plan, &boot.address)?;
    }
    are_said_to_have_booted(&rack, &xpxe, plans)?;
    xpxe.stop()?;
    Ok(log)
}

/// Boots one machine whose address comes from somebody else; gives xpxe's log.
fn boot_from_proxy(fast_path: &'static str, plan: &Plan) -> Result<Vec<Event>> {
    let sandbox = Sandbox::enter()?;
    let machines = vec![Known { address: None, ..plan.known }];
    let (rack, config) = rack_with_guest(&sandbox, &Settings { machines, ..settings(fast_path, "proxy") })?;
    let neighbour = rack.neighbour("neighbour", "02:77:00:00:00:09", "10.77.0.9/24")?;
    let dnsmasq = dnsmasq_plain_dhcp(&neighbour, rack.dir(), "10.77.0.100,10.77.0.199")?;
    let xpxe = Xpxe::start(&rack, &config, &[])?;
    let boots =
        boot(&rack, &xpxe, &[*plan]).with_context(|| format!("dnsmasq:\n{}", tail(&dnsmasq.lines(), 20)))?;
    let boot = &boots[0];
    ensure!(
        boot.cmdline.contains(&proof(plan.known.name)),
        "its own argument did not arrive: {}",
        boot.cmdline
    );
    ensure!(in_pool(&boot.address), "the address is not dnsmasq's: {}", boot.address);
    let acknowledged = format!("DHCPACK(eth0) {} {}", boot.address, plan.known.mac);
    let lines = dnsmasq.lines();
    ensure!(
        lines.iter().any(|line| line.text.contains(&acknowledged)),
        "dnsmasq did not say {acknowledged:?}:\n{}",
        tail(&lines, 30)
    );
    let log = xpxe.log();
    let gave = log.iter().find(|event| event.json.get("address").is_some());
    ensure!(gave.is_none(), "a proxy gives no address: {gave:?}");
    are_said_to_have_booted(&rack, &xpxe, [plan])?;
    xpxe.stop()?;
    Ok(log)
}

fn in_pool(address: &str) -> bool {
    let host = address.strip_prefix("10.77.0.").and_then(|host| host.parse::<u8>().ok());
    host.is_some_and(|host| (100..=199).contains(&host))
}
