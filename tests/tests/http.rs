//! HTTP as clients and attackers in the network use it.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use boot_tests::daemon::{Event, Xpxe};
use boot_tests::dhcp_client::{Client, Wire, mac};
use boot_tests::place::{ALICE, BOB, Place, SOON, UNKNOWN, known};
use boot_tests::rack::{SERVER_ADDRESS, Station};
use boot_tests::settings::{Known, Settings, boot_dir, proof};
use boot_tests::wait::{eventually, eventually_some};
use dhcproto::v4::{Message, MessageType};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

const ATTACKER: (&str, &str) = ("02:77:00:00:00:e9", "10.77.0.9/24");
const OTHER: (&str, &str) = ("02:77:00:00:00:e8", "10.77.0.8/24");
/// A machine of the file without an address of its own.
const ROAMER: Known = Known { name: "roamer", mac: "02:77:00:00:00:12", address: None };
/// More than there are connections for all.
const MANY: usize = 4222;

#[test]
fn one_host_does_not_keep_others_out() -> Result<()> {
    raise_descriptors()?;
    let Some(place) = Place::build(&off())? else { return Ok(()) };
    let xpxe = place.serve()?;
    let (attacker, other) = (station(&place, "attacker", ATTACKER)?, station(&place, "other", OTHER)?);
    let queue = place.rack.server.output("ss", &["-lntH", "sport = :8080"])?;
    ensure!(queue.split_whitespace().nth(2) == Some("4096"), "connections that may wait: {queue}");

    for begin in ["", "GET /boot.ipxe HTTP/1.1\r\nX-Slow: a", "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"] {
        let started = Instant::now();
        let held = attacker.run(|| hold(MANY, begin.as_bytes()))?;
        ensure!(held.len() > 200, "{begin:?}: only {} connections", held.len());
        let asked = Instant::now();
        ensure!(get(&other, "/healthz")?.ends_with("ok\n"), "{begin:?}");
        let waited = asked.elapsed();
        ensure!(waited < Duration::from_secs(3), "{begin:?}: another host waited {waited:?}");
        // Who has asked for nothing is not kept for ever either: what is left is closed within the deadline.
        eventually(Duration::from_secs(20), "the end of idle connections", || {
            figure(&other, "xpxe_http_connections").is_ok_and(|open| open <= 2)
        })
        .with_context(|| format!("{begin:?}, {:?} after the start", started.elapsed()))?;
        drop(held);
    }
    ensure!(figure(&other, "xpxe_http_connections_crowded_out_total")? > 3 * 3000);
    let told = |event: &Event| event.message().contains("10.77.0.9 has 256 HTTP connections");
    xpxe.wait_for_event("a line that names the host", SOON, told)?;
    xpxe.stop()
}

#[test]
fn a_slow_request_has_ten_seconds_and_the_connection_of_a_slow_reader_is_its_own() -> Result<()> {
    let Some(place) = Place::build(&off())? else { return Ok(()) };
    let xpxe = place.serve()?;
    fs::write(boot_dir(&place.rack).join("large"), vec![7; 30_000_000])?;
    let attacker = station(&place, "attacker", ATTACKER)?;
    attacker.run(|| -> Result<()> {
        let mut slow = connect()?;
        let started = Instant::now();
        slow.write_all(b"GET /boot.ipxe HTTP/1.1\r\nX-Slow: ")?;
        slow.set_read_timeout(Some(Duration::from_millis(300)))?;
        // A byte now and again gives no more time.
        let ended = eventually(Duration::from_secs(20), "the end of a slow request", || {
            slow.write_all(b"a").is_err()
                || match slow.read(&mut [0; 1]) {
                    Ok(_) => true,
                    Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
                }
        });
        ended?;
        let took = started.elapsed();
        ensure!((9..15).contains(&took.as_secs()), "closed after {took:?}");
        // Answers take as long as they take.
        let mut reader = connect()?;
        reader.write_all(b"GET /files/large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
        let (mut got, mut buffer, started) = (0, vec![0; 1_000_000], Instant::now());
        while started.elapsed() < Duration::from_secs(12) {
            let read = reader.read(&mut buffer[..10_000])?;
            ensure!(read > 0, "a slow reader was left after {got} bytes");
            got += read;
            std::thread::park_timeout(Duration::from_millis(200));
        }
        loop {
            match reader.read(&mut buffer)? {
                0 => break,
                read => got += read,
            }
        }
        ensure!(got > 30_000_000, "{got} bytes");
        Ok(())
    })??;
    xpxe.stop()
}

#[test]
fn large_headers_cost_little_memory_and_it_is_given_back() -> Result<()> {
    raise_descriptors()?;
    let Some(place) = Place::build(&off())? else { return Ok(()) };
    let xpxe = place.serve()?;
    let attacker = station(&place, "attacker", ATTACKER)?;
    get(&attacker, "/healthz")?;
    let before = resident(&xpxe)?;
    let mut request = b"GET / HTTP/1.1\r\nX-Large: ".to_vec();
    request.resize(400_000, b'a');
    let held = attacker.run(|| hold(300, &request))?;
    let most = resident(&xpxe)?.saturating_sub(before);
    ensure!(most < 16_000, "300 connections with 400 kB of headers cost {most} kB");
    drop(held);
    // As much as one host may have, just below the limit and never ended.
    request.truncate(16_000);
    let held = attacker.run(|| hold(256, &request))?;
    let cost = resident(&xpxe)?.saturating_sub(before);
    println!("300 of 400 kB: {most} kB more; 256 of 16 kB: {cost} kB more");
    ensure!(cost < 24_000, "256 connections with 16 kB of headers cost {cost} kB");
    drop(held);
    eventually(SOON, "the memory", || resident(&xpxe).is_ok_and(|now| now.saturating_sub(before) < 4_000))
        .with_context(|| format!("{before} kB before, {:?} after", resident(&xpxe)))?;
    xpxe.stop()
}

/// A row that boots downloads and asks for addresses in the same minute.
#[test]
fn downloads_keep_nobody_from_an_address() -> Result<()> {
    let Some(place) = Place::build(&off())? else { return Ok(()) };
    let xpxe = place.serve()?;
    fs::write(boot_dir(&place.rack).join("large"), vec![7; 64 << 20])?;
    let downloader = station(&place, "downloader", OTHER)?;
    let client = place.client()?;
    let (bytes, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let leases = downloader.run(|| {
        std::thread::scope(|scope| {
            for _ in 0..64 {
                scope.spawn(|| download(&bytes, &stop));
            }
            let leases = addresses_meanwhile(&client, &bytes);
            stop.store(true, Ordering::Relaxed);
            leases
        })
    })??;
    println!("with 64 downloads: {leases:?}");
    xpxe.stop()
}

/// Fetches the same file until it is told to stop.
fn download(bytes: &AtomicU64, stop: &AtomicBool) -> Option<()> {
    let mut buffer = vec![0; 1 << 16];
    while !stop.load(Ordering::Relaxed) {
        let mut stream = connect().ok()?;
        stream.write_all(b"GET /files/large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").ok()?;
        while !stop.load(Ordering::Relaxed) {
            match stream.read(&mut buffer).ok()? {
                0 => break,
                read => bytes.fetch_add(read as u64, Ordering::Relaxed),
            };
        }
    }
    Some(())
}

/// How long each of some new machines took to get its address, while the downloads went on.
fn addresses_meanwhile(client: &Wire, bytes: &AtomicU64) -> Result<Vec<Duration>> {
    let loaded = |more: u64| {
        let before = bytes.load(Ordering::Relaxed);
        eventually(SOON, "downloads", || bytes.load(Ordering::Relaxed) > before + more)
    };
    loaded(100 << 20)?;
    let mut took = Vec::new();
    for last in 1..=20 {
        let started = Instant::now();
        let machine = Client::new(mac(&format!("02:77:00:00:01:{last:02x}"))?);
        // As clients do: the wire itself may lose a packet under this load.
        let ask = |message: &Message| {
            eventually_some(SOON, "an answer", || client.ask_within(message, Duration::from_secs(1)).ok()?)
        };
        let offer = ask(&machine.discover())?;
        ensure!(ask(&machine.request(&offer))?.kind() == Some(MessageType::Ack), "{machine:?}");
        took.push(started.elapsed());
    }
    loaded(1 << 20)?;
    Ok(took)
}

/// Whoever wants a machine's arguments, which may be passwords, needs its address too.
#[test]
fn a_machine_s_script_is_not_for_others() -> Result<()> {
    let settings = Settings { machines: vec![ALICE, BOB, ROAMER], ..off() };
    let Some(place) = Place::build(&settings)? else { return Ok(()) };
    let xpxe = place.serve()?;
    let stranger = station(&place, "stranger", ATTACKER)?;
    let alice = station(&place, "alice", ("02:77:00:00:00:e7", "10.77.0.10/24"))?;
    let script = |mac: &str| format!("/ipxe/boot.ipxe?mac={mac}&uuid=4c4c4544-0042-3510-8052-b4c04f4e3132");
    let (own, proof) = (script(ALICE.mac), proof(ALICE.name));
    ensure!(get(&alice, &own)?.contains(&proof), "alice's own");
    let refused = get(&stranger, &own).unwrap_err().to_string();
    ensure!(refused.contains("403"), "a stranger got {refused}");
    let told = |event: &Event| {
        let message = event.message();
        message.contains("of alice to 10.77.0.9: the machine has 10.77.0.10")
            && message.contains("shared_addresses or trusted_proxies")
    };
    xpxe.wait_for_event("a line that says why", SOON, told)?;
    // Neither does a header help that nobody trusted has added.
    let forged = ["-sS", "-H", "X-Forwarded-For: 10.77.0.10", &format!("http://{SERVER_ADDRESS}:8080{own}")];
    ensure!(!stranger.output("curl", &forged)?.contains(&proof), "by a forged header");
    // A machine that has no address yet is not told from others; with the first one it is.
    let roamer = script(ROAMER.mac);
    get(&stranger, &roamer)?;
    place.client()?.lease(&Client::new(mac(ROAMER.mac)?))?;
    ensure!(get(&stranger, &roamer).is_err(), "a stranger got the script of a machine with a lease");
    ensure!(get(&stranger, &script(UNKNOWN))?.contains("#!ipxe"), "who is in no configuration has no secret");
    xpxe.stop()
}

/// Where addresses say nothing, or a proxy says them, that is set.
#[test]
fn proxies_and_shared_addresses_can_be_named() -> Result<()> {
    for (key, header) in
        [("shared_addresses", "X: x"), ("trusted_proxies", "X-Forwarded-For: 1.2.3.4, 10.77.0.10")]
    {
        let Some(mut place) = Place::build(&off())? else { return Ok(()) };
        let listen = "listen = \"0.0.0.0:8080\"\n";
        place.config = place.config.replace(listen, &format!("{listen}{key} = [\"10.77.0.9\"]\n"));
        let xpxe = place.serve()?;
        let proxy = station(&place, "proxy", ATTACKER)?;
        let url = format!("http://{SERVER_ADDRESS}:8080/ipxe/boot.ipxe?mac={}", ALICE.mac);
        let script = proxy.output("curl", &["-sSf", "-H", header, &url])?;
        ensure!(script.contains(&proof(ALICE.name)), "{key}: {script}");
        xpxe.stop()?;
    }
    Ok(())
}

/// Beaker's netboot asks for `arm/../images/…`; URLs come with `%2f` and `%5c`.
#[test]
fn names_are_decoded_and_folded_by_tftp_and_http_alike() -> Result<()> {
    let Some(place) = Place::build(&off())? else { return Ok(()) };
    let xpxe = place.serve()?;
    let boot = boot_dir(&place.rack);
    fs::create_dir_all(boot.join("images"))?;
    fs::write(boot.join("images/a b"), "inside")?;
    fs::write(place.rack.dir().join("secret"), "secret")?;
    let client = station(&place, "client", OTHER)?;
    for (name, inside) in [
        ("arm/../images/a%20b", true),
        ("arm%2f..%5Cimages%2Fa%20b", true),
        ("%2e/images/%2e/a%20b", true),
        ("../secret", false),
        ("images/..%2f..%2fsecret", false),
        ("%2e%2e%5csecret", false),
        ("images/%2561%20b", false),
    ] {
        let url = format!("http://{SERVER_ADDRESS}:8080/files/{name}");
        let http = client.output("curl", &["-sSf", "--path-as-is", &url]);
        let tftp = client.output("busybox", &["tftp", "-g", "-l", "/dev/stdout", "-r", name, SERVER_ADDRESS]);
        for (by, got) in [("HTTP", http), ("TFTP", tftp)] {
            let text = got.as_deref().unwrap_or_default();
            ensure!((text == "inside") == inside && !text.contains("secret"), "{name} by {by}: {got:?}");
        }
    }
    xpxe.stop()
}

fn off() -> Settings {
    Settings { fast_path: "off", ..known() }
}

fn station(place: &Place, name: &str, (mac, address): (&str, &str)) -> Result<Station> {
    place.rack.neighbour(name, mac, address)
}

/// Each connection is a descriptor here, too.
fn raise_descriptors() -> Result<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, most, most)?)
}

fn server() -> Result<SocketAddr> {
    Ok(format!("{SERVER_ADDRESS}:8080").parse()?)
}

fn connect() -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&server()?, SOON)?;
    stream.set_read_timeout(Some(SOON))?;
    Ok(stream)
}

/// Opens so many connections, as far as they can be, and sends the same on each.
fn hold(count: usize, begin: &[u8]) -> Vec<TcpStream> {
    let one = || {
        let mut stream = TcpStream::connect_timeout(&server().ok()?, Duration::from_millis(500)).ok()?;
        stream.set_write_timeout(Some(Duration::from_millis(500))).ok()?;
        // The server may refuse it before all is sent.
        stream.write_all(begin).ok();
        Some(stream)
    };
    (0..count).map_while(|_| one()).collect()
}

/// What the server answers, as curl shows it.
fn get(from: &Station, path: &str) -> Result<String> {
    from.output("curl", &["-sSf", "--max-time", "10", &format!("http://{SERVER_ADDRESS}:8080{path}")])
}

fn figure(from: &Station, name: &str) -> Result<u64> {
    let page = get(from, "/metrics")?;
    let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
    value.with_context(|| format!("{name} is not in\n{page}"))
}

/// kB of memory.
fn resident(xpxe: &Xpxe<'_>) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", xpxe.pid()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
