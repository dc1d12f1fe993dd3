//! DHCP and TFTP while 64 downloads run as fast as they can, and while none does.
//!
//! All of the server is on its one core, so that a download that delays an answer shows. Machines ask one after another,
//! each for the first time and for an address that is its own; TFTP is one client, block after block. Both have a cable of their own, and a higher priority
//! than the downloads' clients, which share their core.
//!
//! What of it is the clients' core, the cable and the downloads themselves, two others show that do nothing but answer,
//! beside the same downloads: the reflector, from which a frame as long as a block comes back by a program of two
//! instructions, and a process that sends a block for each packet, on the server's core, before all others of it
//! (`SCHED_FIFO`).

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use boot_bench::cable::{Cable, SERVER_INTERFACE};
use boot_bench::frame::{ETH, PAYLOAD, SERVER, SERVER_MAC, UDP, finish, mac};
use boot_bench::place::Place;
use boot_bench::socket::Outbox;
use boot_tests::dhcp_client::{Client, Wire};
use boot_tests::netns::Namespace;
use nix::unistd::gettid;
use serde_json::{Value, json};

use super::lane::{clients_of, pin_generator, pin_server};
use super::load::{self, Plan, Reuse};
use super::server::{FILE, Kind, Role, Server};

const DOWNLOADS: u32 = 64;
/// Machines of a run.
const MACHINES: u32 = 300;
/// A packet is repeated after this time, and then counts with all the time.
const PATIENCE: Duration = Duration::from_secs(1);
const BLOCK: usize = 1432;
/// The echo's port.
const ECHO: u16 = 7;
/// Bytes of the frame that the reflector gets.
const REFLECTED: usize = PAYLOAD + 4 + BLOCK;
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

/// Who answers beside the downloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answerer {
    /// xpxe, with this `fast_path`
    Xpxe(&'static str),
    Echo,
    Reflector,
}

impl Answerer {
    const fn name(self) -> &'static str {
        match self {
            Self::Xpxe(fast_path) => fast_path,
            Self::Echo => "echo",
            Self::Reflector => "reflector",
        }
    }
}

/// What was measured beside so many downloads.
#[derive(Debug)]
pub(crate) struct Row {
    /// xpxe's `fast_path`, or who only answers.
    pub(crate) answerer: &'static str,
    pub(crate) downloads: u32,
    /// Nanoseconds of exchanges, of each run.
    pub(crate) exchanges: Vec<Vec<u64>>,
    /// Packets that were repeated.
    pub(crate) repeated: u32,
    /// Nanoseconds from an ACK to the next block, of each run.
    pub(crate) blocks: Vec<Vec<u64>>,
    /// Bytes a second that the downloads had.
    pub(crate) downloaded: Vec<f64>,
}

impl Row {
    /// The median over the runs of what this share took at most, in seconds.
    pub(crate) fn quantile(runs: &[Vec<u64>], share: f64) -> f64 {
        let of_run = |run: &Vec<u64>| {
            let mut all = run.clone();
            all.sort_unstable();
            let last = all.len().saturating_sub(1);
            all.get((last as f64 * share).round() as usize).copied().unwrap_or_default()
        };
        let mut all: Vec<u64> = runs.iter().map(of_run).collect();
        all.sort_unstable();
        all.get(all.len() / 2).copied().unwrap_or_default() as f64 / 1e9
    }

    /// Likewise.
    pub(crate) fn downloaded(&self) -> f64 {
        let mut all = self.downloaded.clone();
        all.sort_by(f64::total_cmp);
        all.get(all.len() / 2).copied().unwrap_or_default()
    }

    /// For programs.
    pub(crate) fn json(&self) -> Value {
        let of = |runs: &[Vec<u64>]| json!({ "p50_seconds": Self::quantile(runs, 0.5), "p99_seconds": Self::quantile(runs, 0.99) });
        json!({
            "answerer": self.answerer, "downloads": self.downloads, "exchange": of(&self.exchanges),
            "repeated": self.repeated, "block": of(&self.blocks), "downloaded_bytes_per_second": self.downloaded(),
        })
    }
}

/// Measures xpxe with and without the kernel's half, and those who only answer.
pub(crate) fn measure(place: &Place, content: &[u8], runs: usize, during: Duration) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for answerer in [Answerer::Xpxe("auto"), Answerer::Xpxe("off"), Answerer::Echo, Answerer::Reflector] {
        let name = answerer.name();
        eprintln!("beside downloads, {name}");
        rows.extend(with(&place.join(&format!("beside-{name}")), content, runs, during, answerer)?);
    }
    Ok(rows)
}

fn with(
    place: &Place,
    content: &[u8],
    runs: usize,
    during: Duration,
    answerer: Answerer,
) -> Result<[Row; 2]> {
    let cable = Cable::new()?;
    let _pass = cable.pass()?;
    cable.clients.output("ip", &["address", "add", &format!("{CLIENT}/8"), "dev", SERVER_INTERFACE])?;
    let downloads = clients_of(&cable.server)?;
    fs::create_dir_all(&place.dir)?;
    let machines = u32::try_from(2 * runs)? * MACHINES;
    let (role, _reflector) = match answerer {
        Answerer::Xpxe(fast_path) => (Role::Everything { fast_path, machines }, None),
        Answerer::Echo => (Role::HttpOnly, None),
        Answerer::Reflector => (Role::HttpOnly, Some(cable.reflector()?)),
    };
    let _server = Server::start(Kind::Xpxe, (&cable.server, &downloads), place, content, role)?;
    let row = |downloads| Row {
        answerer: answerer.name(),
        downloads,
        exchanges: Vec::new(),
        repeated: 0,
        blocks: Vec::new(),
        downloaded: Vec::new(),
    };
    let mut rows = [row(0), row(DOWNLOADS)];
    let mut machines = 0..;
    for _ in 0..runs {
        for row in &mut rows {
            let machines: Vec<u32> = machines.by_ref().take(MACHINES as usize).collect();
            run(row, answerer, (&cable, &downloads), &machines, during)?;
        }
    }
    Ok(rows)
}

fn run(
    row: &mut Row,
    answerer: Answerer,
    (cable, downloads): (&Cable, &Namespace),
    machines: &[u32],
    during: Duration,
) -> Result<()> {
    let plan = Plan {
        path: FILE.to_owned(),
        connections: row.downloads,
        reuse: Reuse::KeepAlive,
        during: 2 * during + Duration::from_secs(1),
    };
    let outcome = std::thread::scope(|scope| -> Result<load::Outcome> {
        let load = scope.spawn(|| {
            downloads.run(|| {
                pin_generator()?;
                load::run(&plan)
            })?
        });
        let probe = cable.clients.run(|| -> Result<()> {
            pin_generator()?;
            prefer_this_thread()?;
            match answerer {
                Answerer::Xpxe(_) => {}
                Answerer::Echo => {
                    row.blocks.push(echoed(&cable.server, during)?);
                    return Ok(());
                }
                Answerer::Reflector => {
                    row.blocks.push(reflected(cable.ifindex, during)?);
                    return Ok(());
                }
            }
            // It hears TFTP too, so one that stayed open would be full of the last run's blocks, and lose the first offer.
            let wire = Wire::open_for_ip(&cable.clients, SERVER_INTERFACE)?;
            row.exchanges.push(exchanges(&wire, machines, during, &mut row.repeated)?);
            drop(wire);
            row.blocks.push(blocks(during)?);
            Ok(())
        })?;
        let outcome = load.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        probe.map(|()| outcome)
    })?;
    ensure!(row.downloads == 0 || outcome.bytes > 0, "the downloads got nothing");
    row.downloaded.push(outcome.bytes as f64 / outcome.measured.as_secs_f64());
    Ok(())
}

/// Has this thread go before the others of its core.
pub(crate) fn prefer_this_thread() -> Result<()> {
    let thread = gettid().to_string();
    let done = Command::new("renice").args(["--priority", "-10", "--pid", &thread]).output()?;
    ensure!(done.status.success(), "renice: {}", String::from_utf8_lossy(&done.stderr));
    Ok(())
}

/// DISCOVER, OFFER, REQUEST, ACK of machines that are new, evenly over the time.
fn exchanges(wire: &Wire, machines: &[u32], during: Duration, repeated: &mut u32) -> Result<Vec<u64>> {
    let started = Instant::now();
    let mut took = Vec::new();
    for (turn, machine) in machines.iter().enumerate() {
        let due = during.mul_f64(turn as f64 / machines.len() as f64);
        std::thread::sleep(due.saturating_sub(started.elapsed()));
        let client = Client::new(mac(*machine));
        let began = Instant::now();
        let mut ask = |message: &_| {
            for _ in 0..10 {
                if let Some(reply) = wire.ask_within(message, PATIENCE)? {
                    return Ok(reply);
                }
                *repeated += 1;
            }
            bail!("machine {machine} got no answer");
        };
        let offer = ask(&client.discover())?;
        ask(&client.request(&offer))?;
        took.push(u64::try_from(began.elapsed().as_nanos())?);
    }
    Ok(took)
}

/// TFTP, one block at a time, one file after the other.
fn blocks(during: Duration) -> Result<Vec<u64>> {
    let started = Instant::now();
    let mut took = Vec::new();
    while started.elapsed() < during {
        transfer(&mut took, started, during)?;
    }
    Ok(took)
}

fn transfer(took: &mut Vec<u64>, started: Instant, during: Duration) -> Result<()> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let request = format!("\0\u{1}image\0octet\0blksize\0{BLOCK}\0");
    socket.send_to(request.as_bytes(), (SERVER, 69))?;
    let mut packet = [0; 2048];
    let (_, server) = socket.recv_from(&mut packet).context("no OACK")?;
    ensure!(packet.starts_with(&[0, 6]), "no OACK but {:?}", packet.get(..20));
    let mut block = 0_u16;
    let mut sent = ack(&socket, server, block)?;
    while started.elapsed() < during {
        match socket.recv_from(&mut packet) {
            Ok((length, from)) if from == server && packet.starts_with(&[0, 3]) => {
                if packet.get(2..4) != Some(&block.wrapping_add(1).to_be_bytes()) {
                    continue;
                }
                took.push(u64::try_from(sent.elapsed().as_nanos())?);
                block = block.wrapping_add(1);
                if length < BLOCK + 4 {
                    ack(&socket, server, block)?;
                    return Ok(());
                }
            }
            Ok(_) => bail!("an ERROR, or not the server's"),
            Err(_) => {}
        }
        sent = ack(&socket, server, block)?;
    }
    socket.send_to(b"\0\x05\0\0done\0", server)?;
    Ok(())
}

/// A block for each packet, from a thread that does nothing else.
fn echoed(server: &Namespace, during: Duration) -> Result<Vec<u64>> {
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (ready, is_ready) = std::sync::mpsc::channel();
        let ended = &ended;
        let echo = scope.spawn(move || {
            server.run(|| -> Result<()> {
                pin_server()?;
                let done =
                    Command::new("chrt").args(["--fifo", "--pid", "1", &gettid().to_string()]).output()?;
                ensure!(done.status.success(), "chrt: {}", String::from_utf8_lossy(&done.stderr));
                let socket = UdpSocket::bind((SERVER, ECHO))?;
                socket.set_read_timeout(Some(PATIENCE))?;
                ready.send(())?;
                let mut packet = [0; 2048];
                while !ended.load(Ordering::Relaxed) {
                    if let Ok((_, client)) = socket.recv_from(&mut packet) {
                        socket.send_to(&[0; BLOCK + 4], client)?;
                    }
                }
                Ok(())
            })?
        });
        let measured = is_ready.recv().context("the echo did not start").and_then(|()| {
            let socket = UdpSocket::bind((CLIENT, 0))?;
            socket.set_read_timeout(Some(PATIENCE))?;
            let (started, mut packet) = (Instant::now(), [0; 2048]);
            let mut took = Vec::new();
            while started.elapsed() < during {
                let sent = ack(&socket, (SERVER, ECHO).into(), 0)?;
                socket.recv(&mut packet).context("the echo sent nothing back")?;
                took.push(u64::try_from(sent.elapsed().as_nanos())?);
            }
            Ok(took)
        });
        ended.store(true, Ordering::Relaxed);
        echo.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        measured
    })
}

/// Frames that come back as they are: a block, as the server would send it.
fn reflected(ifindex: u32, during: Duration) -> Result<Vec<u64>> {
    let socket = UdpSocket::bind((CLIENT, 0))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut frame = [0; REFLECTED];
    frame[..6].fill(0xff);
    frame[6..12].copy_from_slice(&SERVER_MAC);
    frame[12..ETH + 2].copy_from_slice(&[8, 0, 0x45, 0]);
    frame[ETH + 2..ETH + 4].copy_from_slice(&u16::try_from(REFLECTED - ETH)?.to_be_bytes());
    frame[ETH + 8..ETH + 10].copy_from_slice(&[64, 17]);
    frame[ETH + 12..ETH + 16].copy_from_slice(&SERVER.octets());
    frame[ETH + 16..UDP].copy_from_slice(&CLIENT.octets());
    frame[UDP..UDP + 2].copy_from_slice(&69_u16.to_be_bytes());
    frame[UDP + 2..UDP + 4].copy_from_slice(&socket.local_addr()?.port().to_be_bytes());
    frame[UDP + 4..UDP + 6].copy_from_slice(&u16::try_from(REFLECTED - UDP)?.to_be_bytes());
    finish(&mut frame);
    let mut outbox = Outbox::<REFLECTED>::open(ifindex)?;
    let (started, mut packet) = (Instant::now(), [0; 2048]);
    let mut took = Vec::new();
    while started.elapsed() < during {
        let sent = Instant::now();
        outbox.push(|to| {
            *to = frame;
            REFLECTED
        });
        outbox.flush();
        socket.recv(&mut packet).context("the reflector sent nothing back")?;
        took.push(u64::try_from(sent.elapsed().as_nanos())?);
    }
    Ok(took)
}

fn ack(socket: &UdpSocket, server: SocketAddr, block: u16) -> Result<Instant> {
    let [high, low] = block.to_be_bytes();
    let now = Instant::now();
    socket.send_to(&[0, 4, high, low], server)?;
    Ok(now)
}
