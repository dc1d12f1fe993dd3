//! OVMF's own PXE client fetches boot files of every size by TFTP; what it acknowledged is compared with the file, byte
//! by byte, at its port of the switch. Those with room for a program have one, which then runs.
//!
//! Run with `--test-threads=1`, as everything with machines.

use std::fs;
use std::panic::resume_unwind;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use boot_tests::daemon::Xpxe;
use boot_tests::machine::{Firmware, Machine};
use boot_tests::netns::tail;
use boot_tests::tftp_capture::Fetches;
use boot_tests::tftp_rack::{Plan, TftpRack, ensure_sent_by, random_bytes, same};

/// From power-on to whatever comes last.
const BOOT: Duration = Duration::from_secs(180);
/// OVMF's block size.
const BLOCK: usize = 1468;
const MIB: usize = 1 << 20;
const SIZES: [usize; 8] = [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, MIB, 40 * MIB, 100 * MIB];
/// iPXE for EFI firmware, and what it says first.
const IPXE: &str = "/usr/lib/ipxe/snponly.efi";
const IPXE_SAYS: &str = "Open Source Network Boot Firmware";

#[test]
fn ovmf_gets_boot_files_of_every_size_with_the_kernel_half() -> Result<()> {
    ovmf_gets_every_size("xdp")
}

#[test]
fn ovmf_gets_boot_files_of_every_size_from_the_daemon_alone() -> Result<()> {
    ovmf_gets_every_size("off")
}

/// A machine for each, all at once.
fn ovmf_gets_every_size(fast_path: &'static str) -> Result<()> {
    let cases: Vec<Case> =
        (2..).zip(SIZES).map(|(host, size)| Case::new(host, size)).collect::<Result<_>>()?;
    let tables = cases.iter().map(|case| case.plan.table(&format!("boot_file = \"{}\"", case.file)));
    let Some(place) = TftpRack::build_for(fast_path, tables.collect())? else { return Ok(()) };
    fs::create_dir_all(place.path("sizes"))?;
    cases.iter().try_for_each(|case| fs::write(place.path(&case.file), &case.content))?;
    let xpxe = place.serve()?;
    thread::scope(|scope| {
        let mut running = Vec::new();
        for case in &cases {
            let (machine, fetches, tcpdump) = place.power_on_recorded(&case.plan)?;
            let xpxe = &xpxe;
            running.push(scope.spawn(move || {
                case.follow(fast_path, xpxe, &machine, fetches).with_context(|| {
                    format!(
                        "fast_path = {fast_path:?}, {}:\n{}\n{}\n{}",
                        case.file,
                        tail(&machine.serial(), 20),
                        tail(&tcpdump.lines(), 5),
                        xpxe.last_lines(20)
                    )
                })?;
                machine.power_off()
            }));
        }
        running.into_iter().try_for_each(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)))
    })?;
    xpxe.stop()
}

/// A machine and its boot file.
struct Case {
    plan: Plan,
    file: String,
    content: Vec<u8>,
}

impl Case {
    fn new(host: u8, size: usize) -> Result<Self> {
        let file = format!("sizes/{size}");
        let plan = Plan::new(Firmware::OvmfPxe, host);
        // The file, and what OVMF makes of it.
        let plan = Plan { memory: plan.memory + 2 * u32::try_from(size / MIB)?, ..plan };
        let mut content = Vec::new();
        if size >= MIB {
            content = fs::read(IPXE).context("package ipxe (cargo xtask setup)")?;
        }
        content.extend(random_bytes(&file, size - content.len()));
        Ok(Self { plan, file, content })
    }

    fn follow(
        &self,
        fast_path: &str,
        xpxe: &Xpxe<'_>,
        machine: &Machine,
        mut fetches: Fetches,
    ) -> Result<()> {
        let left = || BOOT.saturating_sub(machine.powered_on().elapsed());
        let Self { file, content, .. } = self;
        if content.is_empty() {
            return self.is_refused(machine, fetches);
        }
        let whole = format!("the whole of {file}");
        let got = fetches.wait_for(&whole, left(), |fetch| fetch.name == *file && fetch.is_whole())?;
        same(&got.bytes, content)?;
        ensure!(got.block_size == BLOCK, "blocks of {} bytes", got.block_size);
        let blocks = content.len() / BLOCK + 1;
        ensure!(got.blocks == blocks as u64, "{} blocks of {blocks}", got.blocks);
        let took = got.took.as_secs_f64();
        let sent = self.plan.wait_until_sent(xpxe, file, left())?;
        let by = sent.field("by");
        println!(
            "fast_path = {fast_path:?}, OVMF: {} bytes in {blocks} blocks, {took:.1} s, by {by}, {:.1} s after power-on",
            content.len(),
            machine.powered_on().elapsed().as_secs_f64()
        );
        ensure_sent_by(fast_path, &sent)?;
        if content.len() >= MIB {
            machine.wait_for(IPXE_SAYS, left())?;
            let what = format!("iPXE on {}", self.plan.name());
            xpxe.wait_for_event(&what, left(), |event| {
                event.field("mac") == self.plan.mac() && event.field("class").starts_with("iPXE on ")
            })?;
        }
        Ok(())
    }

    /// OVMF asks for a file's size before it asks for the file. It is not told that of an empty one, as curl takes a size
    /// of 0 for a mistake; told or not, OVMF goes on to its next boot entry without asking for the file.
    fn is_refused(&self, machine: &Machine, mut fetches: Fetches) -> Result<()> {
        machine.wait_for("NBP filesize is 0 Bytes", BOOT)?;
        machine.wait_for("failed to load Boot0001", BOOT)?;
        let aborted = fetches.wait_for("an ERROR", BOOT, |fetch| fetch.error.is_some())?;
        ensure!(aborted.announced.is_none() && aborted.block_size == BLOCK, "{aborted:?}");
        ensure!(aborted.error.as_ref().is_some_and(|(code, _)| *code == 8), "{aborted:?}");
        let all = fetches.all()?;
        ensure!(all.len() == 1 && all[0].name == self.file && all[0].blocks == 0, "{all:?}");
        Ok(())
    }
}
