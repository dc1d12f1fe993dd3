//! A lost block costs OVMF and iPXE a fraction of their own timers.
//!
//! Run with `--test-threads=1`, as everything with machines.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use boot_tests::daemon::Xpxe;
use boot_tests::machine::{Firmware, Machine};
use boot_tests::netns::tail;
use boot_tests::pcap::{self, Captured};
use boot_tests::rack::{SERVER_ADDRESS, SERVER_PORT};
use boot_tests::tftp_client::{PORT, datagram};
use boot_tests::tftp_rack::{Plan, TftpRack};
use boot_tests::wait::eventually_some;

/// From power-on to the last file.
const BOOT: Duration = Duration::from_secs(180);
/// iPXE's block size.
const BLOCK: usize = 1432;
/// iPXE's and OVMF's own timers: after 4 s both have repeated themselves.
const OWN_TIMER: Duration = Duration::from_secs(2);

const BIOS: Plan = Plan::new(Firmware::BiosIpxe, 10);
const UEFI: Plan = Plan::new(Firmware::OvmfPxe, 11);

#[test]
fn a_lost_block_costs_ovmf_and_ipxe_a_fraction_of_their_timers_with_the_kernel_half() -> Result<()> {
    lost_blocks("xdp")
}

#[test]
fn a_lost_block_costs_ovmf_and_ipxe_a_fraction_of_their_timers_from_the_daemon_alone() -> Result<()> {
    lost_blocks("off")
}

/// The first of a window, one inside and the last one, the last of the file, and ACKs: for iPXE, which has no windows,
/// just blocks.
fn lost_blocks(fast_path: &'static str) -> Result<()> {
    let plans = [BIOS, UEFI];
    let Some(place) = TftpRack::build_for(fast_path, plans.iter().map(Plan::scripted).collect())? else {
        return Ok(());
    };
    let lost_blocks = [1_u16, 57, 70, 88];
    // Or the next: where EDK2's windows end depends on what it lost before.
    let lost_ack = 100;
    // Fetched by iPXE and found to be no image.
    let image = place.file("image", 200 * BLOCK)?;
    ensure!(image.len() / BLOCK == 200, "enough blocks");
    fs::create_dir_all(place.path(&BIOS.name()))?;
    let fetch = format!("#!ipxe\nimgfetch tftp://{SERVER_ADDRESS}/image ||\n");
    fs::write(place.path(&BIOS.script()), fetch)?;
    let xpxe = place.serve()?;
    let mut rules = Vec::new();
    for plan in plans {
        // EDK2 asks twice, and only DATA and its ACKs have these numbers; iPXE's script has one block.
        let from = if plan.firmware == Firmware::BiosIpxe { 1 } else { 0 };
        for block in &lost_blocks[from..] {
            rules.push(format!("ip daddr {} udp sport 69 @th,64,16 3 @th,80,16 {block}", plan.address()));
        }
        rules.push(format!("ip saddr {} udp dport 69 @th,64,16 4 @th,80,16 >= {lost_ack}", plan.address()));
    }
    place.lose_first(&rules.iter().map(String::as_str).collect::<Vec<_>>())?;
    let capture = place.rack.dir().join("lost.pcap");
    let _tcpdump = place.rack.capture(SERVER_PORT, &capture)?;
    let machines: Vec<Machine> = plans.iter().map(|plan| place.power_on(plan)).collect::<Result<_>>()?;
    for (plan, machine) in plans.iter().zip(&machines) {
        let what = || {
            format!(
                "fast_path = {fast_path:?}, {:?}:\n{}\n{}",
                plan.firmware,
                tail(&machine.serial(), 20),
                xpxe.last_lines(20)
            )
        };
        wait_until_sent(&xpxe, plan).with_context(what)?;
        for block in lost_blocks.iter().skip(usize::from(plan.firmware == Firmware::BiosIpxe)) {
            let cost = cost_of(&capture, plan, *block).with_context(what)?;
            println!(
                "fast_path = {fast_path:?}, {:?}: block {block} lost, {:.3} s",
                plan.firmware,
                cost.as_secs_f64()
            );
            ensure!(cost < OWN_TIMER, "block {block} cost {cost:?}: {}", what());
        }
        let cost = cost_of(&capture, plan, lost_ack).with_context(what)?;
        println!(
            "fast_path = {fast_path:?}, {:?}: ACK {lost_ack} lost, {:.3} s",
            plan.firmware,
            cost.as_secs_f64()
        );
        ensure!(cost < OWN_TIMER, "ACK {lost_ack} cost {cost:?}: {}", what());
    }
    let seen = place.seen()?;
    ensure!(seen.lost == rules.len() as u64, "{seen:?} of {} packets to lose", rules.len());
    machines.iter().try_for_each(Machine::power_off)?;
    xpxe.stop()
}

/// Until the log says that the machine has a file of many blocks.
fn wait_until_sent(xpxe: &Xpxe<'_>, plan: &Plan) -> Result<()> {
    let what = format!("a whole file for {}", plan.address());
    xpxe.wait_for_event(&what, BOOT, |event| {
        event.field("client").starts_with(&format!("{}:", plan.address()))
            && event.message().starts_with("sent ")
            && event.field("bytes").parse::<usize>().is_ok_and(|bytes| bytes > 100_000)
    })
    .map(drop)
}

/// Blocks that may follow one that is not acknowledged.
fn window(plan: &Plan) -> u16 {
    if plan.firmware == Firmware::OvmfPxe { 3 } else { 0 }
}

/// From the first time that a block passed the server's port to the first block behind its window: by then the client
/// had it, and the server knew.
fn cost_of(capture: &Path, plan: &Plan, number: u16) -> Result<Duration> {
    let what = format!("block {number} for {} and what follows it", plan.address());
    let address = plan.address();
    eventually_some(Duration::from_secs(30), &what, || {
        let frames = pcap::read(capture).ok()?;
        let block_of = |captured: &Captured| {
            let (from, to, payload) = datagram(&captured.frame)?;
            let data = from.port() == PORT && *to.ip() == address && payload.starts_with(&[0, 3]);
            data.then_some((to.port(), u16::from_be_bytes([*payload.get(2)?, *payload.get(3)?])))
        };
        let blocks: Vec<_> =
            frames.iter().filter_map(|captured| Some((captured.at, block_of(captured)?))).collect();
        let (first, (port, _)) = blocks.iter().find(|(_, (_, block))| *block == number)?;
        let after = |(at, (other, block)): &&(Duration, (u16, u16))| {
            at > first && other == port && *block > number + window(plan)
        };
        Some(blocks.iter().find(after)?.0 - *first)
    })
}
