//! iPXE in BIOS and UEFI fetches files of every size by TFTP: the smallest are compared at its port of the switch,
//! scripts say so themselves with their last line, and of an initrd the guest that boots with it says the hash.
//!
//! Run with `--test-threads=1`, as everything with machines.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use boot_tests::daemon::Xpxe;
use boot_tests::guest;
use boot_tests::machine::{Firmware, Machine};
use boot_tests::netns::tail;
use boot_tests::rack::SERVER_ADDRESS;
use boot_tests::tftp_capture::Fetches;
use boot_tests::tftp_rack::{Plan, TftpRack, ensure_sent_by, random_bytes, same};

/// From power-on to power-off.
const BOOT: Duration = Duration::from_secs(180);
/// iPXE's block size.
const BLOCK: usize = 1432;
const MIB: usize = 1 << 20;
/// Too small for a script.
const TINY: [usize; 2] = [0, 1];
/// Of scripts.
const SIZES: [usize; 6] = [40, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, MIB];

#[test]
fn ipxe_in_bios_and_uefi_gets_files_of_every_size_with_the_kernel_half() -> Result<()> {
    ipxe_gets_every_size("xdp", [40 * MIB, 100 * MIB])
}

#[test]
fn ipxe_in_bios_and_uefi_gets_files_of_every_size_from_the_daemon_alone() -> Result<()> {
    ipxe_gets_every_size("off", [100 * MIB, 40 * MIB])
}

/// With initrds of these sizes.
fn ipxe_gets_every_size(fast_path: &'static str, [bios, uefi]: [usize; 2]) -> Result<()> {
    let cases = [Case::new(Firmware::BiosIpxe, 10, bios)?, Case::new(Firmware::OvmfIpxeRom, 11, uefi)?];
    let Some(place) =
        TftpRack::build_for(fast_path, cases.iter().map(|case| case.plan.scripted()).collect())?
    else {
        return Ok(());
    };
    guest::install(&place.path(""))?;
    for size in TINY {
        place.file(&small(size), size)?;
    }
    for size in SIZES {
        fs::write(place.path(&small(size)), script_of(size))?;
    }
    let mut hashes = Vec::new();
    for case in &cases {
        hashes.push(case.install(&place)?);
    }
    let xpxe = place.serve()?;
    let what = |case: &Case, machine: &Machine| {
        let (serial, log) = (tail(&machine.serial(), 40), xpxe.last_lines(20));
        format!("fast_path = {fast_path:?}, {:?}:\n{serial}\n{log}", case.plan.firmware)
    };
    let mut recorded = Vec::new();
    for case in &cases {
        recorded.push(place.power_on_recorded(&case.plan)?);
    }
    let mut machines = Vec::new();
    for (case, (machine, fetches, tcpdump)) in cases.iter().zip(recorded) {
        case.gets_tiny_files(&place, &machine, fetches).with_context(|| what(case, &machine))?;
        // What follows is much, and the guest's to confirm.
        drop(tcpdump);
        machines.push(machine);
    }
    for ((case, machine), hash) in cases.iter().zip(&machines).zip(&hashes) {
        case.boots(&xpxe, fast_path, machine, hash).with_context(|| what(case, machine))?;
    }
    xpxe.stop()
}

/// A machine and the size of its initrd.
struct Case {
    plan: Plan,
    size: usize,
}

impl Case {
    fn new(firmware: Firmware, host: u8, size: usize) -> Result<Self> {
        let plan = Plan::new(firmware, host);
        // The initrd, and what Linux unpacks it to.
        let plan = Plan { memory: plan.memory + 3 * u32::try_from(size / MIB)?, ..plan };
        Ok(Self { plan, size })
    }

    fn initrd(&self) -> String {
        format!("{}/initrd.img", self.plan.name())
    }

    /// Makes its script and its initrd; gives the SHA-256 of the initrd's payload.
    fn install(&self, place: &TftpRack) -> Result<String> {
        let (initrd, payload) = guest::initrd_of(self.size, |length| random_bytes(&self.initrd(), length))?;
        ensure!(initrd.len() == self.size, "{} of {} bytes", initrd.len(), self.size);
        fs::create_dir_all(place.path(&self.plan.name()))?;
        fs::write(place.path(&self.plan.script()), self.script())?;
        fs::write(place.path(&self.initrd()), initrd)?;
        // Not where boot files are.
        let file = place.rack.dir().join("payload");
        fs::write(&file, payload)?;
        let hash = place.rack.server.output("sha256sum", &[&file.display().to_string()])?;
        Ok(hash.split_whitespace().next().unwrap_or_default().to_owned())
    }

    fn script(&self) -> String {
        let tftp = format!("tftp://{SERVER_ADDRESS}");
        let tiny = |size| {
            format!("imgfetch --name tiny {tftp}/{} && echo {} ||\nimgfree\n", small(size), said(size))
        };
        let tiny: String = TINY.map(tiny).concat();
        let scripts: String =
            SIZES.map(|size| format!("chain --autofree {tftp}/{} ||\n", small(size))).concat();
        format!(
            "#!ipxe\nimgfree\n{tiny}{scripts}kernel {tftp}/{} initrd=initrd.img console=ttyS0\n\
             initrd --name initrd.img {tftp}/{}\nboot\n",
            guest::KERNEL,
            self.initrd()
        )
    }

    fn gets_tiny_files(&self, place: &TftpRack, machine: &Machine, mut fetches: Fetches) -> Result<()> {
        for size in TINY {
            machine.wait_for(&said(size), left(machine))?;
            let name = small(size);
            // iPXE does not acknowledge an only block that is empty.
            let wanted = format!("the whole of {name}");
            let got = fetches.wait_for(&wanted, left(machine), |fetch| {
                fetch.name == name && fetch.ended && (size == 0 || fetch.is_whole())
            })?;
            same(&got.bytes, &fs::read(place.path(&name))?)?;
            ensure!(got.block_size == BLOCK, "blocks of {} bytes", got.block_size);
        }
        Ok(())
    }

    fn boots(&self, xpxe: &Xpxe<'_>, fast_path: &str, machine: &Machine, hash: &str) -> Result<()> {
        for size in SIZES {
            machine.wait_for(&said(size), left(machine))?;
        }
        let payload = machine.wait_for(guest::PAYLOAD, left(machine))?;
        ensure!(payload.text.contains(hash), "the initrd's payload is not {hash}: {}", payload.text);
        let off = machine.wait_for_power_off(left(machine))?;
        let others = [small(1), guest::KERNEL.to_owned(), self.initrd()];
        for file in SIZES.map(small).iter().chain(&others) {
            let sent = self.plan.wait_until_sent(xpxe, file, left(machine))?;
            ensure_sent_by(fast_path, &sent)?;
            println!(
                "fast_path = {fast_path:?}, {:?}: {} bytes, {} s, by {}",
                self.plan.firmware,
                sent.field("bytes"),
                sent.field("seconds"),
                sent.field("by")
            );
        }
        println!(
            "fast_path = {fast_path:?}, {:?}: off after {:.1} s, {}",
            self.plan.firmware,
            off.as_secs_f64(),
            payload.text
        );
        Ok(())
    }
}

fn left(machine: &Machine) -> Duration {
    BOOT.saturating_sub(machine.powered_on().elapsed())
}

fn small(size: usize) -> String {
    format!("sizes/{size}")
}

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
