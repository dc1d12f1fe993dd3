//! TFTP on a bad network and beside other misfortunes: packets lost, late, twice or in the wrong order, clients that
//! say nonsense, files that change, and a server that is restarted or killed in the middle. Each with the kernel half
//! in XDP and TC, in TC only, and without.

mod changes;
mod losses;
mod requests;

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::FileExt;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use boot_tests::daemon::Xpxe;
use boot_tests::dhcp_client::BROADCAST;
use boot_tests::rack::{SERVER_ADDRESS, Station};
use boot_tests::tftp_client::{
    Caller, Download, Fault, Packet, Padding, Victim, ack, clean_packets, error, request,
};
use boot_tests::tftp_rack::{FAST_PATHS, TftpRack, caller_address, each_fast_path, same};
use boot_tests::wait::eventually;

/// 119 blocks of 1468 bytes, the last of them short: about the size of an iPXE binary.
const SIZE: usize = 118 * 1468 + 700;
const BLOCK: u16 = 1468;
/// Shorter than any first wait of the server's retransmission timer.
const TIMER: Duration = Duration::from_millis(40);
/// Beyond the server's first retransmission.
const LATE: Duration = Duration::from_millis(80);

/// Serves one file; then the test, and the daemon is stopped.
fn served(
    fast_path: &'static str,
    name: &str,
    size: usize,
    test: impl FnOnce(&TftpRack, &[u8], &Xpxe<'_>) -> Result<()>,
) -> Result<()> {
    let Some(place) = TftpRack::build(fast_path)? else { return Ok(()) };
    let file = place.file(name, size)?;
    let xpxe = place.serve()?;
    test(&place, &file, &xpxe)?;
    xpxe.stop()
}

/// The same with every fast path at once.
fn served_each_way(
    name: &str,
    size: usize,
    test: impl Fn(&TftpRack, &[u8], &Xpxe<'_>) -> Result<()> + Sync,
) -> Result<()> {
    each_fast_path(|fast_path| served(fast_path, name, size, &test))
}

#[test]
fn every_fault_of_a_packet_is_repaired_by_the_daemon_alone() -> Result<()> {
    single_faults("off")
}

#[test]
fn every_fault_of_a_packet_is_repaired_with_the_kernel_half_in_tc() -> Result<()> {
    single_faults("tc")
}

#[test]
fn every_fault_of_a_packet_is_repaired_with_the_kernel_half_in_xdp() -> Result<()> {
    single_faults("xdp")
}

/// Also shows that it is the server that repairs: the client's own timer runs out only when its request is lost.
fn single_faults(fast_path: &'static str) -> Result<()> {
    served(fast_path, "loader.efi", SIZE, |place, file, xpxe| {
        for window in [1, 4] {
            let finished =
                Download::start(place.caller(window, Padding::Mixed)?, "loader.efi", BLOCK, window)?
                    .finish()?;
            same(&finished.bytes, file)?;
            let clean = clean_packets(SIZE, BLOCK, window);
            let packets = finished.packets;
            // A busy machine may make the server's timer run out now and then.
            ensure!(
                (clean..clean + 10).contains(&packets),
                "{packets} packets and nothing lost, {clean} would do: {fast_path:?}, window {window}"
            );
        }
        // Most of the time is waiting.
        let faults = [Fault::Lost, Fault::Doubled, Fault::Late(LATE), Fault::Swapped];
        let plans = faults.into_iter().flat_map(|fault| [(fault, 1), (fault, 4)]).zip((100..).step_by(50));
        let dearest = thread::scope(|scope| {
            let callers = &place.callers;
            let fetch = |((fault, window), number)| faults_of_a_kind(callers, file, fault, window, number);
            let running: Vec<_> = plans.map(|plan| scope.spawn(move || fetch(plan))).collect();
            let results =
                running.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)));
            results.collect::<Result<Vec<f64>>>()
        });
        let dearest =
            dearest.with_context(|| format!("fast_path = {fast_path:?}\n{}", xpxe.last_lines(10)))?;
        let dearest = dearest.into_iter().fold(0.0, f64::max);
        println!("fast_path = {fast_path:?}: at most {dearest:.2} times the packets of a clean transfer");
        Ok(())
    })
}

/// One transfer for each packet that the fault may happen to; gives the most packets as a part of the clean transfer's.
fn faults_of_a_kind(callers: &Station, file: &[u8], fault: Fault, window: u16, number: u16) -> Result<f64> {
    let clean = clean_packets(SIZE, BLOCK, window);
    let mut most = 0;
    for (number, victim) in (number..).zip(victims(window, fault)) {
        let padding = Padding::ALL[usize::from(number) % 3];
        let what = || format!("{fault:?} of {victim:?}, window {window}, {padding:?}");
        let caller = Caller::open(callers, caller_address(number), padding)?.with_fault(victim, fault);
        let download = Download::start(caller, "loader.efi", BLOCK, window).with_context(what)?;
        let finished = download.finish().with_context(what)?;
        same(&finished.bytes, file).with_context(what)?;
        ensure!(finished.repeats == 0, "{}: the client's own timer ran out", what());
        ensure!(finished.packets <= clean + clean / 2, "{}: {} packets of {clean}", what(), finished.packets);
        most = most.max(finished.packets);
    }
    Ok(most as f64 / clean as f64)
}

/// The first ones, some in the middle and the last ones in both directions.
fn victims(window: u16, fault: Fault) -> Vec<Victim> {
    let blocks = SIZE as u64 / u64::from(BLOCK) + 1;
    let acks = blocks.div_ceil(u64::from(window));
    let from_client = [0, 1, 2, acks / 2, acks, acks + 1].map(Victim::FromClient);
    let from_server = [0, 1, 2, 3, 4, 57, 58, 59, 60, blocks - 1, blocks].map(Victim::FromServer);
    // Only the client can repair that its request did not arrive, see below.
    let not_the_servers =
        |victim: &Victim| *victim == Victim::FromClient(0) && matches!(fault, Fault::Lost | Fault::Swapped);
    from_client.into_iter().chain(from_server).filter(|victim| !not_the_servers(victim)).collect()
}

#[test]
fn forty_equal_acks_give_one_block() -> Result<()> {
    served_each_way("image", SIZE, |place, file, _| {
        for (number, padding) in (0..).zip(Padding::ALL) {
            let mut download = Download::start(place.caller(number, padding)?, "image", BLOCK, 1)?;
            for stop in [1, 2, 50] {
                download.go_on_to(stop * usize::from(BLOCK))?;
                // Its ACK is sent already: 39 more.
                let started = Instant::now();
                for _ in 0..39 {
                    download.repeat_last()?;
                }
                let next = (download.blocks() + 1) as u16;
                let mut heard = download.caller().drain(Duration::from_millis(100))?;
                // On a busy machine the timer may have repeated that block before its first ACK arrived.
                heard.retain(|packet| !is_block(packet, next - 1));
                let by_timer = by_timer(started.elapsed());
                let what = format!("{padding:?}, 40 ACKs of block {}", next - 1);
                ensure!(!heard.is_empty(), "{what}: nothing");
                ensure!(heard.iter().all(|packet| is_block(packet, next)), "{what}: {heard:?}");
                ensure!(
                    heard.len() <= 1 + by_timer,
                    "{what}: {} blocks, the timer sent {by_timer}",
                    heard.len()
                );
                acknowledge_by_hand(&mut download, heard)?;
            }
            same(&download.finish()?.bytes, file)?;
        }
        Ok(())
    })
}

/// Goes on after blocks were heard behind the download's back.
fn acknowledge_by_hand(download: &mut Download, heard: Vec<Packet>) -> Result<()> {
    let packet = heard.into_iter().next().context("nothing was heard")?;
    download.take(packet)
}

/// The most that the server's own timer may have repeated the outstanding block in this time.
fn by_timer(elapsed: Duration) -> usize {
    (elapsed.as_millis() / TIMER.as_millis()) as usize
}

fn is_block(packet: &Packet, number: u16) -> bool {
    matches!(packet, Packet::Data { block, .. } if *block == number)
}

#[test]
fn stale_foreign_and_impossible_acks_give_nothing() -> Result<()> {
    served_each_way("image", SIZE, |place, file, _| {
        for (number, padding) in (0..).zip(Padding::ALL) {
            let mut download = Download::start(place.caller(number, padding)?, "image", BLOCK, 4)?;
            download.go_on_to(48 * usize::from(BLOCK))?;
            // Blocks 49 to 52 are under way, block 48 is acknowledged.
            let under_way = 49..=52;
            let first = download.caller().hear(Duration::from_secs(30))?.context("no block 49")?;
            let started = Instant::now();
            let own = caller_address(number);
            let mut heard = vec![first];
            for stale_or_impossible in [48, 47, 44, 1, 0, 53, 54, 100, 119, 120, 32768, 65535] {
                download.caller().send(&ack(stale_or_impossible))?;
            }
            // Another port, another address, and both of them.
            for foreign in [(own.ip(), own.port() + 1000), (&Ipv4Addr::new(10, 77, 0, 253), own.port())] {
                let foreign = std::net::SocketAddrV4::new(*foreign.0, foreign.1);
                let mut foreign = Caller::open(&place.callers, foreign, padding)?;
                for block in [48, 49, 52] {
                    foreign.send(&ack(block))?;
                }
                let answers = foreign.drain(Duration::from_millis(100))?;
                ensure!(answers.is_empty(), "a foreign ACK is answered: {answers:?}");
            }
            heard.extend(download.caller().already_heard()?);
            let most = 4 + 4 * by_timer(started.elapsed());
            let what = format!("{padding:?}: {} blocks, at most {most}", heard.len());
            let right = |packet: &Packet| under_way.clone().any(|block| is_block(packet, block));
            ensure!(heard.iter().all(right) && heard.len() <= most, "{what}: {:?}", numbers(&heard));
            for packet in heard.into_iter().take(4) {
                download.take(packet)?;
            }
            same(&download.finish()?.bytes, file)?;
        }
        Ok(())
    })
}

fn numbers(packets: &[Packet]) -> Vec<String> {
    let number = |packet: &Packet| match packet {
        Packet::Data { block, .. } => block.to_string(),
        other => format!("{other:?}"),
    };
    packets.iter().map(number).collect()
}

/// Names and values.
type Options = &'static [(&'static str, &'static str)];
