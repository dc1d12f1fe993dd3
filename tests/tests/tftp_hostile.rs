//! TFTP and those who mean harm, or do it: forged requests, networks that nobody named, a firewall in between, and a
//! file that is cut while it is sent.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use boot_tests::daemon::Xpxe;
use boot_tests::dhcp_client::{Client, Wire, broadcast, mac};
use boot_tests::pcap;
use boot_tests::rack::{SERVER_ADDRESS, SERVER_PORT, Station};
use boot_tests::settings::Settings;
use boot_tests::tftp_client::{Download, PORT, Packet, Padding, ack, datagram, request};
use boot_tests::tftp_rack::{TftpRack, each_fast_path, same};
use boot_tests::wait::eventually_some;

const SOON: Duration = Duration::from_secs(30);
const CARD: &str = "02:77:00:00:00:77";
/// A block's frame at 1468 bytes, and the shortest frame, both without Ethernet's checksum.
const FULL: u64 = 1514;
const SHORTEST: u64 = 60;

/// Somebody who hears nothing of what he causes.
struct Forger {
    options: &'static [(&'static str, &'static str)],
    window: u16,
    /// Acknowledgements that he guesses.
    acks: u16,
    /// Bytes out by bytes in, at most.
    most: f64,
}

const SIZE_AND_WINDOW: &[(&str, &str)] = &[("tsize", "0"), ("blksize", "1468"), ("windowsize", "4")];
const ONE_BY_ONE: &[(&str, &str)] = &[("blksize", "1468")];
const WINDOW_OF_16: &[(&str, &str)] = &[("blksize", "1468"), ("windowsize", "16")];

/// What a forged sender has sent to the owner of his address. A block is 25 times as long as an acknowledgement, and
/// nothing in TFTP tells a guessed one; repeats must hardly add to that.
#[test]
fn forged_requests_bring_little_and_guessed_acknowledgements_a_window_each() -> Result<()> {
    let forgers = [
        Forger { options: SIZE_AND_WINDOW, window: 4, acks: 0, most: 3.0 },
        Forger { options: &[], window: 1, acks: 0, most: 9.3 },
        Forger { options: ONE_BY_ONE, window: 1, acks: 1, most: 38.0 },
        Forger { options: WINDOW_OF_16, window: 16, acks: 1, most: 200.0 },
        Forger { options: ONE_BY_ONE, window: 1, acks: 500, most: 26.0 },
        Forger { options: WINDOW_OF_16, window: 16, acks: 60, most: 405.0 },
    ];
    each_fast_path(|fast_path| {
        let Some(place) = TftpRack::build(fast_path)? else { return Ok(()) };
        place.file("image", 20_000_000)?;
        let xpxe = place.serve()?;
        let capture = place.rack.dir().join("forged.pcap");
        let _tcpdump = place.rack.capture(SERVER_PORT, &capture)?;
        let mut callers = Vec::new();
        for (number, forger) in (0..).zip(&forgers) {
            let mut caller = place.caller(number, Padding::None)?;
            caller.send(&request("image", forger.options))?;
            let what = || format!("{:?}: {}", forger.options, xpxe.last_lines(5));
            caller.must_hear("the first answer").with_context(what)?;
            for nth in 0..forger.acks {
                caller.send(&ack(nth * forger.window))?;
            }
            callers.push(caller);
        }
        for (caller, forger) in callers.iter().zip(&forgers) {
            let own = caller.own();
            xpxe.wait_for_event("the end of a transfer", 3 * SOON, |event| {
                event.field("client") == own.to_string() && event.message().contains("stopped answering")
            })?;
            let (sent, got, blocks) = traffic(&capture, own)?;
            let guessed = u64::from(forger.acks) * u64::from(forger.window);
            let factor = got as f64 / sent as f64;
            let what = format!(
                "{:?} and {} ACKs: {got} bytes for {sent}, {factor:.1} times; {blocks} blocks",
                forger.options, forger.acks
            );
            println!("fast_path = {fast_path:?}, {what}");
            ensure!(blocks >= guessed, "{what}: the guesses were not believed, so nothing was tried");
            ensure!(factor <= forger.most, "{what}, {} at most", forger.most);
        }
        xpxe.stop()
    })
}

/// Bytes from and to a client on the wire, and the blocks among the latter.
fn traffic(capture: &std::path::Path, client: SocketAddrV4) -> Result<(u64, u64, u64)> {
    let (mut sent, mut got, mut blocks) = (0, 0, 0);
    for captured in pcap::read(capture)? {
        let Some((from, to, payload)) = datagram(&captured.frame) else { continue };
        let length = u64::try_from(captured.frame.len())?.max(SHORTEST);
        ensure!(length <= FULL, "{length} bytes");
        if from == client && to.port() == PORT {
            sent += length;
        } else if to == client {
            got += length;
            blocks += u64::from(payload.starts_with(&[0, 3]));
        }
    }
    Ok((sent, got, blocks))
}

// ---- networks ----

/// A host that the server has a route to, in a network that the configuration does not name.
fn stranger(place: &TftpRack) -> Result<Station> {
    let station = place.rack.neighbour("stranger", CARD, "192.0.2.7/24")?;
    station.output("ip", &["route", "add", SERVER_ADDRESS, "dev", "eth0"])?;
    place.rack.server.output("ip", &["route", "add", "192.0.2.0/24", "dev", "eth0"])?;
    Ok(station)
}

/// The server has taken what came before: it answers in order.
fn server_is_through(place: &TftpRack, number: u16, file: &[u8]) -> Result<()> {
    let download = Download::start(place.caller(number, Padding::None)?, "image", 1468, 1)?;
    same(&download.finish()?.bytes, file)
}

#[test]
fn a_network_that_nobody_named_gets_silence_and_a_line_that_says_the_key() -> Result<()> {
    each_fast_path(|fast_path| {
        let Some(place) = TftpRack::build(fast_path)? else { return Ok(()) };
        let file = place.file("image", 5000)?;
        let stranger = stranger(&place)?;
        let config = place.config(fast_path)?;
        let xpxe = Xpxe::start(&place.rack, &config, &[])?;
        let socket = stranger.run(|| UdpSocket::bind("0.0.0.0:0"))??;
        socket.set_nonblocking(true)?;
        for packet in [request("image", ONE_BY_ONE), request("missing", &[]), ack(0), b"\0\x09".to_vec()] {
            socket.send_to(&packet, (SERVER_ADDRESS, PORT))?;
        }
        let key = "clients = [\"192.0.2.0/24\"] in [tftp]";
        xpxe.wait_for_event("the key", SOON, |event| event.message().contains(key))?;
        server_is_through(&place, 1, &file)?;
        let nothing = socket.recv_from(&mut [0; 2000]);
        ensure!(nothing.as_ref().is_err_and(|error| error.kind() == ErrorKind::WouldBlock), "{nothing:?}");
        let lines = xpxe.log().iter().filter(|event| event.message().contains("clients = [")).count();
        ensure!(lines == 1, "{lines} lines");
        xpxe.stop()?;

        let named = config.replacen("[http]", "[tftp]\nclients = [\"192.0.2.0/24\"]\n[http]", 1);
        let xpxe = Xpxe::start(&place.rack, &named, &[])?;
        let fetched = fetch(&socket, SERVER_ADDRESS.parse()?, || Ok(()))?;
        ensure!(fetched.port == PORT, "from port {}", fetched.port);
        same(&fetched.bytes, &file)?;
        xpxe.stop()
    })
}

/// Whoever guesses acknowledgements does not know the port that they belong to.
#[test]
fn a_port_of_its_own_is_the_proof_that_a_client_hears_us() -> Result<()> {
    for keys in ["clients = \"any\"", "single_port = false"] {
        for fast_path in ["off", "xdp"] {
            let Some(place) = TftpRack::build(fast_path)? else { return Ok(()) };
            let file = place.file("image", 5000)?;
            let stranger = if keys.contains("any") {
                stranger(&place)?
            } else {
                place.rack.neighbour("client", CARD, "10.77.0.9/24")?
            };
            let config = place.config(fast_path)?.replacen("[http]", &format!("[tftp]\n{keys}\n[http]"), 1);
            let xpxe = Xpxe::start(&place.rack, &config, &[])?;
            let socket = stranger.run(|| UdpSocket::bind("0.0.0.0:0"))??;
            let fetched = fetch(&socket, SERVER_ADDRESS.parse()?, || {
                for block in 0..4 {
                    socket.send_to(&ack(block), (SERVER_ADDRESS, PORT))?;
                }
                Ok(())
            })
            .with_context(|| format!("{keys}, fast_path = {fast_path:?}: {}", xpxe.last_lines(5)))?;
            ensure!(fetched.port != PORT, "{keys}: from the port that everybody knows");
            same(&fetched.bytes, &file)?;
            xpxe.stop()?;
        }
    }
    Ok(())
}

/// The port closes with its daemon, and the next one must not take the acknowledgements at the port that everybody knows.
#[test]
fn a_transfer_with_a_port_of_its_own_does_not_go_on_from_port_69_after_a_restart() -> Result<()> {
    let any = "clients = \"any\"";
    for (before, after) in [(any, any), ("single_port = false", "single_port = true")] {
        for fast_path in ["off", "tc"] {
            let Some(place) = TftpRack::build(fast_path)? else { return Ok(()) };
            let file = place.file("image", 5000)?;
            let client = if before == any {
                stranger(&place)?
            } else {
                place.rack.neighbour("client", CARD, "10.77.0.9/24")?
            };
            let written = place.config(fast_path)?;
            let config = |keys: &str| written.replacen("[http]", &format!("[tftp]\n{keys}\n[http]"), 1);
            let mut xpxe = Xpxe::start(&place.rack, &config(before), &[])?;
            let mut sockets = Vec::new();
            for acknowledges in [false, true] {
                let socket = client.run(|| UdpSocket::bind("0.0.0.0:0"))??;
                socket.set_read_timeout(Some(SOON))?;
                let mut packet = [0; 2000];
                socket.send_to(&request("image", ONE_BY_ONE), (SERVER_ADDRESS, PORT))?;
                let (_, from) = socket.recv_from(&mut packet)?;
                ensure!(from.port() != PORT && packet[..2] == [0, 6], "{:?} from {from}", &packet[..4]);
                if acknowledges {
                    socket.send_to(&ack(0), from)?;
                    while packet[..4] != [0, 3, 0, 1] {
                        socket.recv_from(&mut packet)?;
                    }
                }
                sockets.push(socket);
            }
            xpxe.kill9()?;
            xpxe.write_config(&config(after))?;
            xpxe.restart()?;
            for socket in &sockets {
                for block in [0, 1, 2] {
                    socket.send_to(&ack(block), (SERVER_ADDRESS, PORT))?;
                }
            }
            server_is_through(&place, 1, &file)?;
            for socket in &sockets {
                socket.set_nonblocking(true)?;
                let mut packet = [0; 2000];
                while let Ok((length, from)) = socket.recv_from(&mut packet) {
                    let what = format!("{before}, then {after}, fast_path = {fast_path:?}");
                    ensure!(from.port() != PORT, "{what}: {length} bytes from port 69: {:?}", &packet[..4]);
                }
            }
            xpxe.stop()?;
        }
    }
    Ok(())
}

/// Restarts bring nothing more to somebody who asked for no option and has acknowledged nothing.
#[test]
fn a_block_that_answered_a_request_is_not_sent_again_by_the_next_daemon() -> Result<()> {
    each_fast_path(|fast_path| {
        let Some(place) = TftpRack::build(fast_path)? else { return Ok(()) };
        place.file("image", 5000)?;
        let mut xpxe = place.serve()?;
        let mut caller = place.caller(1, Padding::None)?;
        caller.send(&request("image", &[]))?;
        let first = caller.must_hear("block 1")?;
        ensure!(matches!(first, Packet::Data { block: 1, .. }), "{first:?}");
        xpxe.kill9()?;
        xpxe.restart()?;
        let own = caller.own().to_string();
        xpxe.wait_for_event("the end of the transfer", 3 * SOON, |event| {
            event.field("client") == own && event.message().contains("stopped answering")
        })?;
        let heard = caller.already_heard()?;
        ensure!(heard.is_empty(), "{heard:?}");
        xpxe.stop()
    })
}

struct Fetched {
    port: u16,
    bytes: Vec<u8>,
}

/// Fetches a file of a few blocks; `before_ack` runs between the OACK and its acknowledgement, which must be what brings the
/// first block.
fn fetch(socket: &UdpSocket, server: Ipv4Addr, before_ack: impl Fn() -> Result<()>) -> Result<Fetched> {
    socket.set_nonblocking(false)?;
    socket.set_read_timeout(Some(SOON))?;
    let mut packet = [0; 2000];
    socket.send_to(&request("image", &[("blksize", "1000")]), (server, PORT))?;
    let (length, from) = socket.recv_from(&mut packet)?;
    ensure!(packet[..2] == [0, 6], "no OACK: {:?}", packet.get(..length));
    before_ack()?;
    // OACKs only: it was repeated because nothing has been acknowledged.
    let (_, again) = socket.recv_from(&mut packet)?;
    ensure!(again == from && packet[..2] == [0, 6], "{:?} from {again}", packet.get(..4));
    let mut bytes = Vec::new();
    loop {
        let block = u16::try_from(bytes.len() / 1000)?;
        socket.send_to(&ack(block), from)?;
        let length = loop {
            let (length, _) = socket.recv_from(&mut packet)?;
            if packet[..4] == [&[0, 3][..], &(block + 1).to_be_bytes()].concat()[..] {
                break length;
            }
            ensure!(packet[..2] == [0, 6] || packet[..2] == [0, 3], "{:?}", packet.get(..length));
        };
        bytes.extend(&packet[4..length]);
        if length < 1004 {
            socket.send_to(&ack(block + 1), from)?;
            return Ok(Fetched { port: from.port(), bytes });
        }
    }
}

// ---- a firewall ----

#[test]
fn a_firewall_behind_the_hooks_is_named() -> Result<()> {
    for fast_path in ["tc", "xdp"] {
        let Some(place) = TftpRack::build(fast_path)? else { return Ok(()) };
        let file = place.file("image", 5000)?;
        let xpxe = place.serve()?;
        server_is_through(&place, 1, &file)?;
        let rules = place.rack.dir().join("firewall.nft");
        let chain = "type filter hook input priority 0;\nudp dport { 67, 69 } counter drop";
        fs::write(&rules, format!("table inet firewall {{\nchain input {{\n{chain}\n}}\n}}\n"))?;
        place.rack.server.output("nft", &["-f", &rules.display().to_string()])?;
        let mut caller = place.caller(2, Padding::None)?;
        let wire = Wire::open(&place.callers, "eth0")?;
        let is_told = |step: &str| {
            let lines = xpxe.log().into_iter().filter(|event| event.field("step") == step);
            lines
                .map(|event| event.message())
                .find(|message| message.contains("a firewall on this host drops UDP"))
        };
        // Requests before the firewall was there count for the same ten seconds.
        let mut polls = 0;
        eventually_some(2 * SOON, "lines about the firewall", || {
            if polls % 100 == 0 {
                caller.send(&request("image", ONE_BY_ONE)).ok()?;
                let machine = mac(&format!("52:54:00:77:01:{:02x}", polls / 100)).ok()?;
                wire.send(&broadcast(&Client::firmware(machine, 7).discover()).ok()?).ok()?;
            }
            polls += 1;
            let (tftp, dhcp) = (is_told("tftp")?, is_told("dhcp")?);
            (tftp.contains("TFTP requests on eth0") && tftp.contains("port 69") && dhcp.contains("ports 67"))
                .then_some(())
        })
        .with_context(|| xpxe.last_lines(10))?;
        place.rack.server.output("nft", &["delete", "table", "inet", "firewall"])?;
        server_is_through(&place, 3, &file)?;
        let lines = xpxe.log().iter().filter(|event| event.message().contains("a firewall on")).count();
        ensure!(lines == 2, "{lines} lines");
        xpxe.stop()?;
    }
    Ok(())
}

// ---- a file that is cut ----

#[test]
fn a_file_that_is_cut_while_it_is_sent_is_blamed_and_not_its_client() -> Result<()> {
    // From the disk: what is in memory is sent to its end.
    let settings = Settings { fast_path: "off", fast_path_memory: "0", ..Settings::default() };
    let Some(place) = TftpRack::build_with(settings)? else { return Ok(()) };
    let size = 50_000_000;
    place.file("image", size)?;
    let station = place.rack.neighbour("client", CARD, "10.77.0.9/24")?;
    let xpxe = place.serve()?;
    let cut = || fs::OpenOptions::new().write(true).open(place.path("image"))?.set_len(10_000);

    let mut caller = place.caller(1, Padding::None)?;
    caller.send(&request("image", ONE_BY_ONE))?;
    caller.must_hear("the OACK")?;
    caller.send(&ack(0))?;
    caller.must_hear("block 1")?;
    let mut http = station.run(|| TcpStream::connect((SERVER_ADDRESS, 8080)))??;
    http.set_read_timeout(Some(SOON))?;
    http.write_all(b"GET /files/image HTTP/1.1\r\nHost: rack\r\n\r\n")?;
    let mut first = [0; 1000];
    http.read_exact(&mut first)?;
    ensure!(first.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&first));

    cut()?;
    caller.send(&ack(1))?;
    let text = loop {
        match caller.must_hear("an ERROR")? {
            Packet::Error { code: 0, text } => break text,
            Packet::Data { .. } | Packet::Oack(_) => {}
            other => bail!("{other:?}"),
        }
    };
    let why = format!("the server's file was cut from {size} to 10000 bytes");
    ensure!(text.contains(&why), "{text}");
    let mut rest = Vec::new();
    let ended = http.read_to_end(&mut rest);
    ensure!(rest.len() < size, "{} bytes, {ended:?}", rest.len());
    for step in ["tftp", "http"] {
        let told = eventually_some(SOON, "the line about the file", || {
            let is_it = |event: &boot_tests::daemon::Event| {
                event.field("step") == step && event.message().starts_with("sending image failed")
            };
            xpxe.log().into_iter().find(is_it)
        })?;
        ensure!(
            told.message().contains("the file was cut") || told.message().contains(&why),
            "{}",
            told.message()
        );
    }
    let blamed = ["the client closed", "the client aborted", "stopped answering"];
    let log = xpxe.log();
    let blames = log.iter().find(|event| blamed.iter().any(|words| event.message().contains(words)));
    ensure!(blames.is_none(), "{}", blames.map(boot_tests::daemon::Event::message).unwrap_or_default());
    xpxe.stop()
}
