//! Real firmware fetches files by TFTP: iPXE in BIOS and UEFI boots a kernel and an initrd of awkward sizes, whose content
//! the guest confirms, and a lost block costs OVMF and iPXE a fraction of their own timers.
//!
//! Run with `--test-threads=1`, as everything with machines.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use boot_tests::daemon::Xpxe;
use boot_tests::guest;
use boot_tests::machine::{Firmware, Machine};
use boot_tests::netns::tail;
use boot_tests::pcap::{self, Captured};
use boot_tests::rack::{SERVER_ADDRESS, SERVER_PORT};
use boot_tests::settings::Settings;
use boot_tests::tftp_client::{PORT, datagram};
use boot_tests::tftp_rack::{TftpRack, random_bytes};
use boot_tests::wait::eventually_some;

/// From power-on to power-off.
const BOOT: Duration = Duration::from_secs(180);
/// What iPXE is given as a kernel.
const SCRIPT: &str = "sizes.ipxe";
/// iPXE's block size.
const BLOCK: usize = 1432;
/// iPXE's and OVMF's own timers: after 4 s both have repeated themselves.
const OWN_TIMER: Duration = Duration::from_secs(2);

const BIOS: Plan = Plan { firmware: Firmware::BiosIpxe, mac: "52:54:00:77:00:0a", address: "10.77.0.10" };
const UEFI: Plan = Plan { firmware: Firmware::OvmfPxe, mac: "52:54:00:77:00:0b", address: "10.77.0.11" };
const UEFI_IPXE: Plan =
    Plan { firmware: Firmware::OvmfIpxeRom, mac: "52:54:00:77:00:0c", address: "10.77.0.12" };

/// A machine to power on.
#[derive(Clone, Copy)]
struct Plan {
    firmware: Firmware,
    mac: &'static str,
    address: &'static str,
}

impl Plan {
    fn name(&self) -> String {
        format!("machine-{}", self.address.replace('.', "-"))
    }

    /// Its tables in the configuration. What iPXE gets as a kernel is a script, from which on all is TFTP.
    fn tables(&self) -> String {
        let (Self { mac, address, .. }, name, script) = (self, self.name(), self.script());
        format!(
            "\n[[profile]]\nname = \"{name}\"\nkernel = \"{script}\"\n\
             \n[[machine]]\nmac = \"{mac}\"\nname = \"{name}\"\nip = \"{address}\"\nprofile = \"{name}\"\n"
        )
    }

    /// Blocks that may follow one that is not acknowledged.
    fn window(&self) -> u16 {
        if self.firmware == Firmware::OvmfPxe { 3 } else { 0 }
    }

    fn script(&self) -> String {
        format!("{}/{SCRIPT}", self.name())
    }
}

#[test]
fn ipxe_in_bios_and_uefi_gets_files_of_every_size_with_the_kernel_half() -> Result<()> {
    ipxe_gets_every_size("auto", &[BIOS, UEFI_IPXE])
}

#[test]
fn ipxe_in_bios_gets_files_of_every_size_from_the_daemon_alone() -> Result<()> {
    ipxe_gets_every_size("off", &[BIOS])
}

/// A script is right to its last byte if its last line says so; the initrd's payload is hashed by the guest.
fn ipxe_gets_every_size(fast_path: &'static str, plans: &[Plan]) -> Result<()> {
    let Some(place) = build(fast_path, plans)? else { return Ok(()) };
    guest::install(&place.path(""))?;
    let mut expected = BTreeMap::new();
    // BIOS machines have little memory; both sizes are multiples of the block size, so an empty block ends them.
    for (plan, size) in plans.iter().zip([5000 * BLOCK, 14_000 * BLOCK]) {
        let (initrd, payload) = guest::initrd_of(size, |length| random_bytes(plan.address, length))?;
        ensure!(initrd.len() == size, "{} of {size} bytes", initrd.len());
        let dir = place.path(&plan.name());
        fs::create_dir_all(&dir)?;
        fs::write(dir.join("initrd.img"), initrd)?;
        fs::write(dir.join("payload"), payload)?;
        let hash = place.rack.server.output("sha256sum", &[&dir.join("payload").display().to_string()])?;
        expected.insert(plan.mac, hash.split_whitespace().next().unwrap_or_default().to_owned());
        fs::write(dir.join(SCRIPT), main_script(plan))?;
    }
    for size in SIZES {
        fs::create_dir_all(place.path("sizes"))?;
        fs::write(place.path(&format!("sizes/{size}")), script_of(size))?;
    }
    fs::write(place.path("sizes/0"), [])?;
    place.file(&format!("sizes/{LARGE}"), LARGE)?;
    let xpxe = place.serve()?;
    let machines: Vec<Machine> = plans.iter().map(|plan| power_on(&place, plan)).collect::<Result<_>>()?;
    for (plan, machine) in plans.iter().zip(&machines) {
        let what = || {
            format!(
                "fast_path = {fast_path:?}, {:?}:\n{}\n{}",
                plan.firmware,
                tail(&machine.serial(), 40),
                xpxe.last_lines(20)
            )
        };
        follow(plan, machine, &expected[plan.mac]).with_context(what)?;
    }
    for plan in plans {
        let sent = |name: String| {
            xpxe.log().iter().any(|event| {
                event.field("client").starts_with(plan.address)
                    && event.message().contains(&format!("sent {name},"))
            })
        };
        // Of the empty one the log speaks later: iPXE does not acknowledge its only block.
        let names = SIZES.iter().map(|size| format!("sizes/{size}"));
        let names = names.chain([guest::KERNEL.to_owned(), format!("{}/initrd.img", plan.name())]);
        let names = names.chain((plan.firmware == Firmware::OvmfIpxeRom).then(|| format!("sizes/{LARGE}")));
        let missing: Vec<String> = names.filter(|name| !sent(name.clone())).collect();
        ensure!(missing.is_empty(), "{:?}: the log does not say that it got {missing:?}", plan.firmware);
    }
    xpxe.stop()
}

/// Around iPXE's block size; these are scripts.
const SIZES: [usize; 6] = [40, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 1 << 20];

/// 40 MiB.
const LARGE: usize = 40 << 20;

fn said(size: usize) -> String {
    format!("XPXE-SIZE {size} arrived")
}

/// A script of this many bytes whose last line is what makes it say that it arrived.
fn script_of(size: usize) -> String {
    let (head, last) = ("#!ipxe\n", format!("echo {}\n", said(size)));
    let mut text = head.to_owned();
    while text.len() + last.len() < size {
        let line = (size - text.len() - last.len()).min(60);
        text += &format!("{}\n", "#".repeat(line - 1));
    }
    text + &last
}

fn main_script(plan: &Plan) -> String {
    let tftp = format!("tftp://{SERVER_ADDRESS}");
    // Too much for a BIOS machine's memory, and as an initrd for the other's.
    let large = match plan.firmware {
        Firmware::OvmfIpxeRom => {
            format!("imgfetch --name large {tftp}/sizes/{LARGE} && echo {} ||\nimgfree\n", said(LARGE))
        }
        _ => String::new(),
    };
    let sizes: String =
        SIZES.iter().map(|size| format!("chain --autofree {tftp}/sizes/{size} ||\n")).collect();
    format!(
        "#!ipxe\nimgfree\n{sizes}{large}imgfetch --name empty {tftp}/sizes/0 && echo {} ||\nimgfree\n\
         kernel {tftp}/{} initrd=initrd.img console=ttyS0\n\
         initrd --name initrd.img {tftp}/{}/initrd.img\nboot\n",
        said(0),
        guest::KERNEL,
        plan.name()
    )
}

fn follow(plan: &Plan, machine: &Machine, hash: &str) -> Result<()> {
    let left = || BOOT.saturating_sub(machine.powered_on().elapsed());
    for size in SIZES.iter().chain(&[0]) {
        machine.wait_for(&said(*size), left())?;
    }
    let payload = machine.wait_for(guest::PAYLOAD, left())?;
    ensure!(payload.text.contains(hash), "the initrd's payload is not {hash}: {}", payload.text);
    let off = machine.wait_for_power_off(left())?;
    println!("{:?}: off after {:.1} s, {}", plan.firmware, off.as_secs_f64(), payload.text);
    Ok(())
}

#[test]
fn a_lost_block_costs_ovmf_and_ipxe_a_fraction_of_their_timers_with_the_kernel_half() -> Result<()> {
    lost_blocks("auto")
}

#[test]
fn a_lost_block_costs_ovmf_and_ipxe_a_fraction_of_their_timers_from_the_daemon_alone() -> Result<()> {
    lost_blocks("off")
}

/// The first of a window, one inside and the last one, the last of the file, and ACKs: for iPXE, which has no windows,
/// just blocks.
fn lost_blocks(fast_path: &'static str) -> Result<()> {
    let plans = [BIOS, UEFI];
    let Some(place) = build(fast_path, &plans)? else { return Ok(()) };
    let lost_blocks = [1_u16, 57, 70, 88];
    // Or the next: where EDK2's windows end depends on what it lost before.
    let lost_ack = 100;
    // Fetched by iPXE and found to be no image.
    let image = place.file("image", 200 * BLOCK)?;
    ensure!(image.len() / BLOCK == 200, "enough blocks");
    fs::create_dir_all(place.path(&BIOS.name()))?;
    let fetch = format!("#!ipxe\nimgfetch tftp://{SERVER_ADDRESS}/image && echo {} ||\n", said(image.len()));
    fs::write(place.path(&BIOS.script()), fetch)?;
    let xpxe = place.serve()?;
    let mut rules = Vec::new();
    for plan in plans {
        // EDK2 asks twice, and only DATA and its ACKs have these numbers; iPXE's script has one block.
        let from = if plan.firmware == Firmware::BiosIpxe { 1 } else { 0 };
        for block in &lost_blocks[from..] {
            rules.push(format!("ip daddr {} udp sport 69 @th,64,16 3 @th,80,16 {block}", plan.address));
        }
        rules.push(format!("ip saddr {} udp dport 69 @th,64,16 4 @th,80,16 >= {lost_ack}", plan.address));
    }
    place.lose_first(&rules.iter().map(String::as_str).collect::<Vec<_>>())?;
    let capture = place.rack.dir().join("lost.pcap");
    let _tcpdump = place.rack.capture(SERVER_PORT, &capture)?;
    let machines: Vec<Machine> = plans.iter().map(|plan| power_on(&place, plan)).collect::<Result<_>>()?;
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
    let what = format!("a whole file for {}", plan.address);
    xpxe.wait_for_event(&what, BOOT, |event| {
        event.field("client").starts_with(&format!("{}:", plan.address))
            && event.message().starts_with("sent ")
            && event.field("bytes").parse::<usize>().is_ok_and(|bytes| bytes > 100_000)
    })
    .map(drop)
}

/// From the first time that a block passed the server's port to the first block behind its window: by then the client
/// had it, and the server knew.
fn cost_of(capture: &Path, plan: &Plan, number: u16) -> Result<Duration> {
    let what = format!("block {number} for {} and what follows it", plan.address);
    let address: Ipv4Addr = plan.address.parse()?;
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
            at > first && other == port && *block > number + plan.window()
        };
        Some(blocks.iter().find(after)?.0 - *first)
    })
}

// ---- how ----

fn build(fast_path: &'static str, plans: &[Plan]) -> Result<Option<TftpRack>> {
    let more = plans.iter().map(Plan::tables).collect();
    let place = TftpRack::build_with(Settings { fast_path, more, ..Settings::default() })?;
    // The configuration names a kernel for everybody.
    place.iter().try_for_each(|place| place.config(fast_path).map(drop))?;
    Ok(place)
}

fn power_on(place: &TftpRack, plan: &Plan) -> Result<Machine> {
    Machine::power_on(&place.rack, &plan.name(), plan.mac, plan.firmware)
}
