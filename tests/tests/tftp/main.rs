//! TFTP clients of other makers fetch files of every awkward size with every option they offer, and a client made of
//! single frames crosses XDP, TC and the daemon in one transfer. Each with the kernel half in XDP and TC, in TC only,
//! and without.
//!
//! `XPXE_TFTP_SIZES=all` fetches 40 MiB and 100 MiB with every client and option; without it each of these sizes is
//! fetched by a few.

mod ways;

use std::fs;
use std::net::UdpSocket;
use std::panic::resume_unwind;
use std::path::Path;
use std::process::Output;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use boot_tests::daemon::Xpxe;
use boot_tests::rack::{SERVER_ADDRESS, Station};
use boot_tests::settings::Settings;
use boot_tests::tftp_client::{Caller, Download, Padding, clean_packets};
use boot_tests::tftp_rack::{TftpRack, caller_address, each_fast_path, same};
use ways::{LONG, SMALLEST, WAYS, Way};

const CARD: &str = "02:77:00:00:00:f0";
/// Long enough for a few hundred blocks, and no multiple of any block size.
const SOME: usize = 51_111;
const MIB: usize = 1 << 20;

#[test]
fn every_client_gets_every_size_from_the_daemon_alone() -> Result<()> {
    every_size("off")
}

#[test]
fn every_client_gets_every_size_with_the_kernel_half_in_tc() -> Result<()> {
    every_size("tc")
}

#[test]
fn every_client_gets_every_size_with_the_kernel_half_in_xdp() -> Result<()> {
    every_size("xdp")
}

fn every_size(fast_path: &'static str) -> Result<()> {
    let Some(place) = Clients::build(fast_path)? else { return Ok(()) };
    let xpxe = place.rack.serve()?;
    let started = Instant::now();
    let mut fetched = 0;
    for way in &WAYS {
        let block = way.block_size;
        let sizes = [0, 1, block - 1, block, block + 1, 3 * block, 16 * block, SOME, MIB];
        fetched += place.fetch_all(&xpxe, way, &sizes)?;
    }
    for way in &SMALLEST {
        let block = way.block_size;
        fetched += place.fetch_all(&xpxe, way, &[0, 1, block - 1, block, block + 1, SOME])?;
    }
    println!("fast_path = {fast_path:?}: {fetched} files in {:.1} s", started.elapsed().as_secs_f64());
    xpxe.stop()
}

#[test]
fn files_beyond_65535_blocks_arrive_from_the_daemon_alone() -> Result<()> {
    long_files("off")
}

#[test]
fn files_beyond_65535_blocks_arrive_with_the_kernel_half_in_tc() -> Result<()> {
    long_files("tc")
}

#[test]
fn files_beyond_65535_blocks_arrive_with_the_kernel_half_in_xdp() -> Result<()> {
    long_files("xdp")
}

fn long_files(fast_path: &'static str) -> Result<()> {
    let Some(place) = Clients::build(fast_path)? else { return Ok(()) };
    let xpxe = place.rack.serve()?;
    let all = std::env::var("XPXE_TFTP_SIZES").as_deref() == Ok("all");
    for size in [40 * MIB, 100 * MIB] {
        let file = place.rack.file("long", size)?;
        let chosen = LONG.iter().filter(|(its, _)| *its == size).map(|(_, way)| way);
        let chosen: Vec<&Way> = if all { WAYS.iter().collect() } else { chosen.collect() };
        for way in chosen {
            let started = Instant::now();
            place.fetch(&xpxe, way, "long", &file)?;
            println!(
                "fast_path = {fast_path:?}, {} MiB, {} {:?}: {:.1} s",
                size / MIB,
                way.program,
                way.arguments,
                started.elapsed().as_secs_f64()
            );
        }
    }
    xpxe.stop()
}

#[test]
fn a_session_fetches_one_file_after_another_from_one_port() -> Result<()> {
    for fast_path in ["off", "tc", "xdp"] {
        let Some(place) = Clients::build(fast_path)? else { return Ok(()) };
        let xpxe = place.rack.serve()?;
        let files = [("a", 512), ("b", 100_000), ("c", 0), ("d", 513)];
        let contents: Vec<Vec<u8>> =
            files.iter().map(|(name, size)| place.rack.file(name, *size)).collect::<Result<_>>()?;
        let dir = place.empty_dir()?;
        let arguments = ["-m", "binary", SERVER_ADDRESS, "-c", "get", "a", "b", "c", "d"];
        let output = place
            .client
            .command("timeout")
            .arg("30")
            .arg("tftp")
            .args(arguments)
            .current_dir(&dir)
            .output()?;
        for ((name, _), content) in files.iter().zip(&contents) {
            let what =
                || format!("fast_path = {fast_path:?}, {name}: {}\n{}", text(&output), xpxe.last_lines(10));
            same(&fs::read(dir.join(name)).with_context(what)?, content).with_context(what)?;
        }
        xpxe.stop()?;
    }
    Ok(())
}

#[test]
fn clients_are_told_why_a_file_is_not_served() -> Result<()> {
    for fast_path in ["off", "xdp"] {
        let Some(place) = Clients::build(fast_path)? else { return Ok(()) };
        let xpxe = place.rack.serve()?;
        place.rack.file("image", 3000)?;
        let url = format!("tftp://{SERVER_ADDRESS}/missing");
        let cases: [(&str, &[&str], &str); 7] = [
            ("tftp", &["-m", "binary", SERVER_ADDRESS, "-c", "get", "missing", "out"], "no such file"),
            ("tftp", &["-m", "binary", SERVER_ADDRESS, "-c", "put", "/etc/hostname", "image"], "read-only"),
            ("atftp", &["-g", "-r", "missing", "-l", "out", SERVER_ADDRESS], "no such file"),
            ("atftp", &["-p", "-l", "/etc/hostname", "-r", "image", SERVER_ADDRESS], "read-only"),
            ("busybox", &["tftp", "-g", "-r", "missing", "-l", "out", SERVER_ADDRESS], "no such file"),
            ("busybox", &["tftp", "-p", "-l", "/etc/hostname", "-r", "image", SERVER_ADDRESS], "read-only"),
            // Its text speaks of a socket; what it means is in its exit code.
            ("curl", &["-sSf", "-o", "out", &url], "exit status: 68"),
        ];
        for (program, arguments, expected) in cases {
            let dir = place.empty_dir()?;
            let started = Instant::now();
            let output = place
                .client
                .command("timeout")
                .arg("30")
                .arg(program)
                .args(arguments)
                .current_dir(&dir)
                .output()?;
            let said = text(&output);
            let what =
                format!("fast_path = {fast_path:?}, {program} {arguments:?}: {}: {said}", output.status);
            ensure!(what.contains(expected), "{expected:?} was not said: {what}\n{}", xpxe.last_lines(5));
            // tftp-hpa calls it a success.
            ensure!(program == "tftp" || !output.status.success(), "{what}");
            ensure!(started.elapsed().as_secs() < 20, "it waited for a timer: {what}");
        }
        same(&fs::read(place.rack.path("image"))?, &boot_tests::tftp_rack::random_bytes("image", 3000))?;
        xpxe.stop()?;
    }
    Ok(())
}

/// As atftp's own test of a loaded server has it: 200 processes, 1 MiB each.
#[test]
fn netascii_comes_with_the_line_ends_of_terminals() -> Result<()> {
    each_fast_path(|fast_path| {
        let Some(place) = Clients::build(fast_path)? else { return Ok(()) };
        let _xpxe = place.rack.serve()?;
        let text = "one\ntwo\r three\n".repeat(1000);
        std::fs::write(place.rack.path("text"), &text)?;
        let dir = place.empty_dir()?;
        // tftp-hpa gives the file its own line ends back.
        let mut tftp = place.client.command("tftp");
        tftp.current_dir(&dir).args(["-m", "ascii", SERVER_ADDRESS, "-c", "get", "text", "out"]);
        let output = tftp.output()?;
        ensure!(std::fs::read(dir.join("out"))? == text.as_bytes(), "{fast_path}: {}", self::text(&output));
        Ok(())
    })
}

#[test]
fn each_transfer_has_a_port_of_its_own_if_that_is_wanted() -> Result<()> {
    let settings = Settings { dhcp: "off", fast_path: "xdp", ..Settings::default() };
    let Some(place) = TftpRack::build_with(settings)? else { return Ok(()) };
    let file = place.file("image", 5000)?;
    let config = place.config("xdp")?.replacen("[http]", "[tftp]\nsingle_port = false\n[http]", 1);
    let _xpxe = Xpxe::start(&place.rack, &config, &[])?;
    let station = place.rack.neighbour("client", CARD, "10.77.0.9/24")?;
    let mut ports = std::collections::BTreeSet::new();
    for _ in 0..20 {
        station.run(|| -> Result<()> {
            let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
            socket.set_read_timeout(Some(std::time::Duration::from_secs(30)))?;
            let stranger = std::net::UdpSocket::bind("0.0.0.0:0")?;
            stranger.set_read_timeout(Some(std::time::Duration::from_secs(30)))?;
            socket.send_to(b"\0\x01image\0octet\0", (SERVER_ADDRESS, 69))?;
            let (mut got, mut packet) = (Vec::<u8>::new(), [0; 600]);
            loop {
                let (length, from) = socket.recv_from(&mut packet)?;
                ports.insert(from.port());
                // Somebody else's packet is told off and disturbs nothing.
                stranger.send_to(&packet[..4], from)?;
                let (told, _) = stranger.recv_from(&mut packet[516..])?;
                ensure!(told > 4 && packet[516..520] == [0, 5, 0, 5], "no ERROR 5");
                // It comes twice when this took longer than the server's patience.
                if usize::from(packet[3]) == got.len() / 512 + 1 {
                    got.extend(&packet[4..length]);
                }
                socket.send_to(&[0, 4, packet[2], packet[3]], from)?;
                if length < 516 {
                    break;
                }
            }
            ensure!(got == file, "{} bytes", got.len());
            Ok(())
        })??;
    }
    ensure!(ports.len() >= 15 && !ports.contains(&69), "20 transfers from {ports:?}");
    Ok(())
}

#[test]
fn transfers_with_ports_of_their_own_need_descriptors_and_it_is_said_when_there_are_none() -> Result<()> {
    let settings = Settings { dhcp: "off", fast_path: "off", ..Settings::default() };
    let Some(place) = TftpRack::build_with(settings)? else { return Ok(()) };
    place.file("image", 5000)?;
    let config = place.config("off")?.replacen("[http]", "[tftp]\nsingle_port = false\n[http]", 1);
    let xpxe = Xpxe::start(&place.rack, &config, &[])?;
    let process = Path::new("/proc").join(xpxe.pid().to_string());
    let limits = fs::read_to_string(process.join("limits"))?;
    let open_files =
        limits.lines().find_map(|line| line.strip_prefix("Max open files")).context("no limit")?;
    let (soft, hard) = open_files.trim().split_once(' ').context("one limit")?;
    let hard = hard.trim().trim_end_matches("files").trim();
    ensure!(soft == hard, "{soft} of {hard}");

    let limit = |soft: &str| {
        let limit = format!("--nofile={soft}:{hard}");
        place.rack.server.output("prlimit", &["--pid", &xpxe.pid().to_string(), &limit])
    };
    let station = place.rack.neighbour("client", CARD, "10.77.0.9/24")?;
    station.run(|| -> Result<()> {
        let ask = b"\0\x01image\0octet\0";
        let hear = |client: &UdpSocket| {
            let mut packet = [0; 600];
            client.recv_from(&mut packet).map(|(length, from)| (packet[..length].to_vec(), from))
        };
        let client = || -> Result<UdpSocket> {
            let client = UdpSocket::bind("0.0.0.0:0")?;
            client.set_read_timeout(Some(Duration::from_secs(30)))?;
            client.send_to(ask, (SERVER_ADDRESS, 69))?;
            Ok(client)
        };
        let first = client()?;
        let (block, from) = hear(&first)?;
        ensure!(block[..4] == [0, 3, 0, 1] && from.port() != 69, "{from}: {:02x?}", &block[..4]);
        // A request to write disturbs nothing, least of all the port.
        first.send_to(b"\0\x02image\0octet\0", (SERVER_ADDRESS, 69))?;
        first.send_to(&[0, 4, 0, 1], from)?;
        boot_tests::wait::eventually(Duration::from_secs(30), "block 2 from the same port", || {
            hear(&first).is_ok_and(|(block, port)| block.starts_with(&[0, 3, 0, 2]) && port == from)
        })?;

        // Numbers below it that are free are fewer than the clients that are to come.
        limit(&(fs::read_dir(process.join("fd"))?.count() + 3).to_string())?;
        let more: Vec<UdpSocket> = (0..60).map(|_| client()).collect::<Result<_>>()?;
        xpxe.wait_for_event("what is missing", Duration::from_secs(30), |event| {
            event.message().contains("raise LimitNOFILE in the systemd unit")
        })?;
        drop(more);
        first.send_to(b"\0\x05\0\0enough\0", from)?;
        // The limit is raised; nothing is broken.
        limit(hard)?;
        let again = client()?;
        let (block, _) = hear(&again)?;
        ensure!(block[..4] == [0, 3, 0, 1], "{:02x?}", &block[..4]);
        Ok(())
    })??;
    xpxe.stop()
}

#[test]
fn two_hundred_processes_fetch_at_once() -> Result<()> {
    let Some(place) = Clients::build("xdp")? else { return Ok(()) };
    let xpxe = place.rack.serve()?;
    let file = place.rack.file("image", MIB)?;
    let dir = place.empty_dir()?;
    let mut running = Vec::new();
    for number in 0..200 {
        let mut command = place.client.command("atftp");
        let out = format!("out{number}");
        command.args(["-g", "-r", "image", "-l", &out, SERVER_ADDRESS]).current_dir(&dir);
        running.push((out, place.client.spawn(command)?));
    }
    for (out, process) in running {
        let status = process.wait(std::time::Duration::from_secs(90))?;
        let what = || format!("{out}: {status}\n{}", boot_tests::netns::tail(&process.lines(), 5));
        ensure!(status.success(), "{}", what());
        same(&fs::read(dir.join(&out))?, &file).with_context(what)?;
    }
    xpxe.stop()
}

/// Block and window sizes of EDK2, iPXE, atftp, plain clients and GRUB, and some that nobody asks for.
const SHAPES: [(u16, u16); 7] =
    [(1468, 4), (1432, 1), (1428, 16), (512, 1), (1024, 1), (1468, 16), (1001, 3)];

#[test]
fn a_transfer_crosses_xdp_tc_and_the_daemon() -> Result<()> {
    each_fast_path(|fast_path| {
        let Some(place) = TftpRack::build(fast_path)? else { return Ok(()) };
        let xpxe = place.serve()?;
        let mut files = Vec::new();
        for (block, window) in SHAPES {
            for size in [0, 1, usize::from(block), 40 * usize::from(block), 300_001] {
                let name = format!("{block}/{size}");
                let content = place.file(&name, size)?;
                files.push((block, window, name, content));
            }
        }
        let fetch = |callers: &Station, first: u16, padding: Padding| -> Result<()> {
            for (number, (block, window, name, file)) in (first..).zip(&files) {
                let caller = Caller::open(callers, caller_address(number), padding)?;
                let finished = Download::start(caller, name, *block, *window)?.finish()?;
                let clean = clean_packets(file.len(), *block, *window);
                let what =
                    format!("{name}, window {window}, {padding:?}: {} packets of {clean}", finished.packets);
                same(&finished.bytes, file).with_context(|| what.clone())?;
                // A busy machine may make the server's timer run out now and then.
                ensure!(finished.packets <= clean + clean / 2 + 10 && finished.repeats == 0, "{what}");
            }
            Ok(())
        };
        thread::scope(|scope| {
            let (callers, fetch) = (&place.callers, &fetch);
            let running = (0..).step_by(1000).zip(Padding::ALL);
            let running: Vec<_> =
                running.map(|(first, padding)| scope.spawn(move || fetch(callers, first, padding))).collect();
            let mut results =
                running.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)));
            results.try_for_each(|result| result)
        })?;
        xpxe.stop()
    })
}

#[test]
fn block_numbers_roll_over_in_every_hook() -> Result<()> {
    each_fast_path(|fast_path| {
        let Some(place) = TftpRack::build(fast_path)? else { return Ok(()) };
        let file = place.file("image", 66_000 * 8 + 3)?;
        let xpxe = place.serve()?;
        for (number, window) in [(0, 16), (1, 1)] {
            let finished =
                Download::start(place.caller(number, Padding::Mixed)?, "image", 8, window)?.finish()?;
            ensure!(finished.blocks == 66_001, "{} blocks", finished.blocks);
            same(&finished.bytes, &file).with_context(|| format!("window {window}"))?;
        }
        xpxe.stop()
    })
}

struct Clients {
    rack: TftpRack,
    client: Station,
}

impl Clients {
    /// `None` without root.
    fn build(fast_path: &'static str) -> Result<Option<Self>> {
        let Some(rack) = TftpRack::build(fast_path)? else { return Ok(None) };
        let client = rack.rack.neighbour("client", CARD, "10.77.0.9/24")?;
        Ok(Some(Self { rack, client }))
    }

    fn empty_dir(&self) -> Result<std::path::PathBuf> {
        let dir = self.rack.rack.dir().join("download");
        if dir.exists() {
            fs::remove_dir_all(&dir)?;
        }
        fs::create_dir_all(&dir)?;
        Ok(dir)
    }

    fn fetch_all(&self, xpxe: &Xpxe<'_>, way: &Way, sizes: &[usize]) -> Result<usize> {
        // curl takes a size of 0 in an OACK for a mistake of the server's.
        let refuses_nothing = way.program == "curl" && !way.arguments.contains(&"--tftp-no-options");
        for size in sizes.iter().filter(|size| **size > 0 || !refuses_nothing) {
            let name = format!("sizes/{size}");
            let path = self.rack.path(&name);
            let file = if path.exists() { fs::read(path)? } else { self.rack.file(&name, *size)? };
            self.fetch(xpxe, way, &name, &file)?;
        }
        Ok(sizes.len())
    }

    /// Fetches a file in one of the ways and compares it.
    fn fetch(&self, xpxe: &Xpxe<'_>, way: &Way, name: &str, file: &[u8]) -> Result<()> {
        let dir = self.empty_dir()?;
        let url = format!("tftp://{SERVER_ADDRESS}/{name}");
        let arguments = way.arguments.iter().map(|argument| match *argument {
            "NAME" => name,
            "OUT" => "out",
            "URL" => &url,
            other => other,
        });
        let mut command = self.client.command("timeout");
        command.args(["120", way.program]).args(arguments).current_dir(&dir);
        let output = command.output()?;
        let what = || {
            format!("{} {:?}, {name}: {}\n{}", way.program, way.arguments, text(&output), xpxe.last_lines(5))
        };
        ensure!(output.status.success(), "{}: {}", output.status, what());
        same(&got(&dir.join("out"), file)?, file).with_context(what)
    }
}

/// What arrived; curl makes no file of nothing.
fn got(path: &Path, expected: &[u8]) -> Result<Vec<u8>> {
    if expected.is_empty() && !path.exists() {
        return Ok(Vec::new());
    }
    fs::read(path).with_context(|| format!("read {}", path.display()))
}

fn text(output: &Output) -> String {
    let all = [&output.stdout[..], &output.stderr].map(String::from_utf8_lossy).concat();
    let lines: Vec<&str> = all.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}
