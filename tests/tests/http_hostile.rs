//! HTTP under those who mean harm, or are many.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use boot_tests::daemon::{Event, Xpxe};
use boot_tests::place::{Place, SOON, known};
use boot_tests::rack::{SERVER_ADDRESS, Station};
use boot_tests::settings::{Settings, boot_dir};
use boot_tests::wait::eventually;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::mkfifo;
use socket2::{Domain, SockAddr, Socket, Type};

const ATTACKER: (&str, &str) = ("02:77:00:00:00:e9", "10.77.0.9/24");
const OTHER: (&str, &str) = ("02:77:00:00:00:e8", "10.77.0.8/24");
const LARGE: u64 = 64 << 20;

/// As many addresses as an attacker gives itself.
fn address(number: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 1, u8::try_from(number % 250 + 1).unwrap_or(1))
}

#[test]
fn ten_thousand_idle_connections_of_many_addresses_keep_nobody_out() -> Result<()> {
    raise_descriptors()?;
    let Some(place) = Place::build(&off())? else { return Ok(()) };
    let xpxe = place.serve()?;
    let (attacker, other) = (many_addresses(&place)?, station(&place, "other", OTHER)?);
    let held: Vec<Socket> = attacker
        .run(|| (0..10_000).map_while(|number| hold(address(number % 40), b"", number).ok()).collect())?;
    ensure!(held.len() == 10_000, "only {} connections", held.len());
    let asked = Instant::now();
    ensure!(get(&other, "/healthz")?.ends_with("ok\n"), "another host got nothing");
    let waited = asked.elapsed();
    ensure!(waited < Duration::from_secs(3), "another host waited {waited:?}");
    let open = figure(&other, "xpxe_http_connections")?;
    ensure!(open <= 4096, "{open} connections are open");
    ensure!(
        figure(&other, "xpxe_http_connections_crowded_out_total")? > 5000,
        "who made room is not counted"
    );
    eventually(Duration::from_secs(20), "the end of idle connections", || {
        figure(&other, "xpxe_http_connections").is_ok_and(|open| open <= 2)
    })?;
    xpxe.stop()
}

/// They hold a download each and take some of it now and then.
#[test]
fn two_thousand_slow_downloads_cost_little_memory_and_delay_nobody() -> Result<()> {
    raise_descriptors()?;
    let Some(place) = Place::build(&off())? else { return Ok(()) };
    let xpxe = place.serve()?;
    fs::write(boot_dir(&place.rack).join("large"), vec![7; LARGE as usize])?;
    let (attacker, other) = (many_addresses(&place)?, station(&place, "other", OTHER)?);
    get(&other, "/healthz")?;
    let before = resident(&xpxe)?;
    let request = b"GET /files/large HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut held: Vec<Socket> = attacker
        .run(|| (0..2000).map_while(|number| hold(address(number), request, number).ok()).collect())?;
    ensure!(held.len() == 2000, "only {} connections", held.len());
    let mut buffer = [0; 4096];
    for socket in &mut held {
        ensure!(socket.read(&mut buffer)? > 0, "a download that does not begin");
    }
    let cost = resident(&xpxe)?.saturating_sub(before);
    println!("2,000 slow downloads: {cost} kB more");
    ensure!(cost < 80_000, "2,000 slow downloads cost {cost} kB");
    let asked = Instant::now();
    let url = format!("http://{SERVER_ADDRESS}:8080/files/large");
    let got = other
        .output("curl", &["-sSf", "--max-time", "20", "-o", "/dev/null", "-w", "%{size_download}", &url])?;
    ensure!(got == LARGE.to_string(), "{got} bytes");
    let took = asked.elapsed();
    println!("64 MiB beside them: {took:?}");
    // They still get what is theirs.
    for socket in &mut held {
        ensure!(socket.read(&mut buffer)? > 0, "a slow download was ended");
    }
    drop(held);
    eventually(SOON, "the memory", || resident(&xpxe).is_ok_and(|now| now.saturating_sub(before) < 16_000))
        .with_context(|| format!("{before} kB before, {:?} after", resident(&xpxe)))?;
    xpxe.stop()
}

#[test]
fn a_client_that_never_reads_is_left_after_a_minute_and_the_log_says_how_far_it_was() -> Result<()> {
    let Some(place) = Place::build(&off())? else { return Ok(()) };
    let xpxe = place.serve()?;
    fs::write(boot_dir(&place.rack).join("large"), vec![7; LARGE as usize])?;
    let attacker = many_addresses(&place)?;
    let asked = Instant::now();
    let request = b"GET /files/large HTTP/1.1\r\nHost: x\r\n\r\n";
    let _held = attacker.run(|| hold(address(0), request, 0))??;
    let left = |event: &Event| {
        event.message().contains("ended the connection after")
            && event.message().ends_with("of 67.1 MB of large: the client has taken nothing for 60 s")
    };
    let event = xpxe.wait_for_event("the end of the download", Duration::from_secs(80), left)?;
    let after = event.at.duration_since(asked);
    ensure!((59..75).contains(&after.as_secs()), "left after {after:?}");
    xpxe.stop()
}

#[test]
fn devices_and_pipes_are_no_boot_files() -> Result<()> {
    let Some(place) = Place::build(&off())? else { return Ok(()) };
    let xpxe = place.serve()?;
    let boot = boot_dir(&place.rack);
    mkfifo(&boot.join("pipe"), Mode::S_IRWXU)?;
    mknod(&boot.join("zero"), SFlag::S_IFCHR, Mode::S_IRWXU, makedev(1, 5))?;
    std::os::unix::fs::symlink("/dev/zero", boot.join("link"))?;
    fs::create_dir(boot.join("directory"))?;
    let client = station(&place, "client", OTHER)?;
    for name in ["pipe", "zero", "link", "directory"] {
        let url = format!("http://{SERVER_ADDRESS}:8080/files/{name}");
        let code =
            client.output("curl", &["-sS", "--max-time", "5", "-o", "/dev/null", "-w", "%{http_code}", &url]);
        let code = code.with_context(|| name.to_owned())?;
        ensure!(code == "403", "{name} is answered with {code}");
    }
    xpxe.stop()
}

/// What has to come from the disk, and whose bytes are as they should be.
#[test]
fn cold_files_come_whole() -> Result<()> {
    let Some(place) = Place::build(&off())? else { return Ok(()) };
    // The sandbox is a tmpfs, whose files are always at hand.
    let disk = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let content: Vec<u8> = (0..20_000_000_u32).flat_map(u32::to_le_bytes).collect();
    fs::write(disk.path().join("image"), &content)?;
    let mut place = place;
    let boot = format!("boot_dir = {:?}", boot_dir(&place.rack));
    place.config = place.config.replace(&boot, &format!("boot_dir = {:?}", disk.path()));
    let xpxe = place.serve()?;
    let client = station(&place, "client", OTHER)?;
    let file = fs::File::open(disk.path().join("image"))?;
    file.sync_all()?;
    let got = disk.path().join("got");
    let url = format!("http://{SERVER_ADDRESS}:8080/files/image");
    for range in ["0-", "33333333-66666666"] {
        nix::fcntl::posix_fadvise(&file, 0, 0, nix::fcntl::PosixFadviseAdvice::POSIX_FADV_DONTNEED)?;
        client.output("curl", &["-sSf", "-r", range, "-o", &got.display().to_string(), &url])?;
        let (first, last) = range.split_once('-').context("a range")?;
        let last = last.parse().unwrap_or(content.len() - 1);
        ensure!(fs::read(&got)? == content[first.parse()?..=last], "{range}: other bytes");
    }
    xpxe.stop()
}

fn off() -> Settings {
    Settings { fast_path: "off", ..known() }
}

fn station(place: &Place, name: &str, (mac, address): (&str, &str)) -> Result<Station> {
    place.rack.neighbour(name, mac, address)
}

/// A host with a network of addresses, to which the server finds its way.
fn many_addresses(place: &Place) -> Result<Station> {
    let attacker = station(place, "attacker", ATTACKER)?;
    attacker.output("ip", &["route", "add", "local", "10.77.1.0/24", "dev", "lo"])?;
    place.rack.server.output("ip", &["route", "add", "10.77.1.0/24", "via", "10.77.0.9"])?;
    Ok(attacker)
}

/// A connection from an address of the host's, on which `begin` is sent. Its port follows from its number.
fn hold(from: Ipv4Addr, begin: &[u8], number: usize) -> Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_recv_buffer_size(16 << 10)?;
    let port = u16::try_from(20_000 + number)?;
    socket.bind(&SockAddr::from(SocketAddr::new(IpAddr::V4(from), port)))?;
    let server: SocketAddr = format!("{SERVER_ADDRESS}:8080").parse()?;
    socket.connect_timeout(&server.into(), SOON)?;
    socket.set_read_timeout(Some(SOON))?;
    // The server may have closed it for others.
    (&socket).write_all(begin).ok();
    Ok(socket)
}

/// Each connection is a descriptor here, too.
fn raise_descriptors() -> Result<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, most, most)?)
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
