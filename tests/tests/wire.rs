//! What arrives on the wire in ways that few clients choose, and when: each is answered, and once.

use std::fs;
use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use boot_common::Mac;
use boot_engine::leases::{Change, Lease, LeaseState};
use boot_tests::dhcp_client::{Client, Datagram, Reply, Wire, broadcast, mac, payload};
use boot_tests::packet;
use boot_tests::place::{ALICE, CARD, Place, SILENCE, SOON, known};
use boot_tests::rack::{SERVER_ADDRESS, SERVER_MAC};
use boot_tests::settings::Settings;
use boot_tests::wait::eventually;
use boot_userspace::host::clock;
use boot_userspace::store::Store;
use dhcproto::v4::{DhcpOption, MessageType};

/// With the kernel half and without it.
const BOTH: [&str; 2] = ["tc", "off"];

/// A renewal as some clients send it: to the server alone, and from 0.0.0.0 although they have an address.
#[test]
fn a_renewal_from_0_0_0_0_is_answered_once() -> Result<()> {
    for fast_path in ["off", "tc", "xdp"] {
        let Some(place) = Place::build(&Settings { fast_path, ..known() })? else { return Ok(()) };
        let xpxe = place.serve()?;
        // It answers ARP for its address.
        let station = place.rack.neighbour("alice", ALICE.mac, "10.77.0.10/24")?;
        let wire = Wire::open(&station, "eth0")?;
        let alice = Client::new(mac(ALICE.mac)?);
        let address = wire.lease(&alice)?.address();
        let server = SERVER_ADDRESS.parse()?;
        let from_nowhere =
            Datagram { source_mac: alice.mac(), to_mac: mac(SERVER_MAC)?, to: server, ..Datagram::default() };
        let renewal = |to: Ipv4Addr| -> Result<(u32, Vec<u8>)> {
            let mut renewal = alice.message();
            renewal.opts_mut().insert(DhcpOption::MessageType(MessageType::Request));
            renewal.set_ciaddr(address);
            Ok((renewal.xid(), Datagram { to, ..from_nowhere }.frame(&payload(&renewal)?)))
        };
        for to in [server, Ipv4Addr::BROADCAST, Ipv4Addr::new(10, 77, 0, 255)] {
            let (xid, frame) = renewal(to)?;
            wire.send(&frame)?;
            let what = || format!("to {to} with {fast_path}\n{}", xpxe.last_lines(20));
            let ack = wire.hear_reply(&[xid], SOON)?.with_context(|| format!("no answer {}", what()))?;
            ensure!(ack.kind() == Some(MessageType::Ack), "{ack:?} {}", what());
            ensure!((ack.address(), ack.to) == (address, address), "{ack:?} {}", what());
            let again = wire.hear_reply(&[xid], SILENCE)?;
            ensure!(again.is_none(), "a second answer {again:?} {}", what());
        }
        // Ours by its MAC, another server's by its address.
        let (xid, frame) = renewal(Ipv4Addr::new(10, 77, 0, 9))?;
        wire.send(&frame)?;
        let reply = wire.hear_reply(&[xid], SILENCE)?;
        ensure!(reply.is_none(), "another server's is answered: {reply:?}");
        xpxe.stop()?;
    }
    Ok(())
}

/// RFC 8357: a relay that sends from another port than 67 says so, and hears there.
#[test]
fn a_relays_own_port_gets_the_answers() -> Result<()> {
    for fast_path in ["off", "tc", "xdp"] {
        let Some(place) = Place::build(&Settings { fast_path, ..known() })? else { return Ok(()) };
        let xpxe = place.serve()?;
        let relay: Ipv4Addr = "10.77.0.9".parse()?;
        let station = place.rack.neighbour("relay", CARD, "10.77.0.9/24")?;
        let wire = Wire::open(&station, "eth0")?;
        let alice = Mac(mac(ALICE.mac)?);
        let server = SERVER_ADDRESS.parse()?;
        // The first ACK is the daemon's; the offer after it, the kernel half's.
        let address = "10.77.0.10".parse()?;
        let messages = [
            packet::Client::Dhclient.discover(alice),
            packet::Client::Dhclient.request(alice, address, server),
            packet::Client::Dhclient.discover(alice),
        ];
        for (agent, port) in [(&[1, 2, 7, 7, 19, 0][..], 40_067), (&[1, 2, 7, 7], 67)] {
            for (number, message) in messages.iter().enumerate() {
                let mut message = message.clone().relayed(relay, server);
                message.options.retain(|(code, _)| *code != 82);
                let mut message = message.with(82, agent);
                message.eth_source = Mac(wire.mac());
                message.eth_destination = Mac(mac(SERVER_MAC)?);
                message.source.set_port(40_067);
                wire.send(&message.frame())?;
                let what = || format!("message {number} with {fast_path}\n{}", xpxe.last_lines(20));
                let reply = wire.hear_reply(&[message.xid], SOON)?.with_context(what)?;
                ensure!(
                    (reply.to, reply.to_port) == (relay, port),
                    "{}:{}, {}",
                    reply.to,
                    reply.to_port,
                    what()
                );
                let echo = [&[82, u8::try_from(agent.len())?][..], agent, &[255]].concat();
                ensure!(reply.frame.windows(echo.len()).any(|window| window == echo), "{}", what());
            }
        }
        xpxe.stop()?;
    }
    Ok(())
}

/// The frames of a UDP datagram that is sent in pieces.
fn fragments(whole: &[u8], mtu: usize) -> Vec<Vec<u8>> {
    let data = &whole[34..];
    let most = (mtu - 20) / 8 * 8;
    data.chunks(most)
        .enumerate()
        .map(|(number, piece)| {
            let mut frame = [&whole[..34], piece].concat();
            let more = if (number + 1) * most < data.len() { 0x2000 } else { 0 };
            let offset = u16::try_from(number * most / 8).expect("an offset") | more;
            frame[16..18].copy_from_slice(&u16::try_from(20 + piece.len()).expect("a length").to_be_bytes());
            frame[18..20].copy_from_slice(&[0x77, 0x01]);
            frame[20..22].copy_from_slice(&offset.to_be_bytes());
            packet::fix_ip_checksum(&mut frame);
            frame
        })
        .collect()
}

#[test]
fn padding_and_length_keep_nobody_from_an_answer_and_what_is_broken_has_a_line() -> Result<()> {
    for fast_path in BOTH {
        let Some(place) = Place::build(&Settings { fast_path, ..known() })? else { return Ok(()) };
        let xpxe = place.serve()?;
        let wire = place.client()?;
        let alice = Client::firmware(mac(ALICE.mac)?, 7);
        let good = payload(&alice.discover())?;
        let to_all = Datagram { source_mac: alice.mac(), ..Datagram::default() };
        for pads in [0, 95, 244, 1000, 4000, 30_000] {
            let mut bytes = good[..240].to_vec();
            bytes.resize(240 + pads, 0);
            bytes.extend(&good[240..]);
            let xid = u32::from_be_bytes(bytes[4..8].try_into()?);
            for frame in fragments(&to_all.frame(&bytes), 1500) {
                wire.send(&frame)?;
            }
            let what = || format!("{pads} PADs with {fast_path}\n{}", xpxe.last_lines(20));
            let offer = wire.hear_reply(&[xid], SOON)?.with_context(|| format!("no answer to {}", what()))?;
            ensure!(offer.kind() == Some(MessageType::Offer) && offer.checksums_are_right, "{}", what());
            ensure!(offer.boot_file() == "snponly.efi", "{} {}", offer.boot_file(), what());
        }
        let mut broken = good.clone();
        broken[241] = 255;
        wire.send(&to_all.frame(&broken))?;
        let line = xpxe.wait_for_event("the line about a broken message", SOON, |event| {
            event.field("step") == "dropped" && event.field("mac") == ALICE.mac
        })?;
        ensure!(line.field("reason") == "bad-option" && line.field("level") == "WARN", "{line:?}");
        ensure!(
            line.message().contains("runs past the end") && line.message().contains("tcpdump"),
            "{line:?}"
        );
        xpxe.stop()?;
    }
    Ok(())
}

/// Every way in which clients order and pad what they say, by every half that may answer.
#[test]
fn every_order_of_every_clients_options_is_answered_alike() -> Result<()> {
    let us: Ipv4Addr = SERVER_ADDRESS.parse()?;
    let mut answers: Vec<Vec<(String, Vec<u8>)>> = Vec::new();
    for fast_path in BOTH {
        let Some(place) = Place::build(&Settings { fast_path, ..known() })? else { return Ok(()) };
        let xpxe = place.serve()?;
        let wire = place.client()?;
        // From now on the kernel half knows it.
        wire.lease(&Client::new(mac(ALICE.mac)?))?;
        let mut seen = Vec::new();
        for client in packet::Client::ALL {
            let discover = client.discover(Mac(mac(ALICE.mac)?));
            let first = ask(&wire, &discover.payload(), &discover)?
                .with_context(|| format!("{client:?}\n{}", xpxe.last_lines(20)))?;
            let what = |how: &str| format!("{client:?}, {how}, with {fast_path}");
            for turn in 0..discover.options.len() {
                let mut turned = discover.clone();
                turned.options.rotate_left(turn);
                if turn % 2 == 1 {
                    turned.options.reverse();
                }
                for pads in [0, 3, 20] {
                    let mut bytes = turned.payload()[..240].to_vec();
                    for (code, data) in &turned.options {
                        bytes.resize(bytes.len() + pads, 0);
                        bytes.extend([*code, u8::try_from(data.len())?]);
                        bytes.extend(data);
                    }
                    bytes.push(255);
                    let how = format!("turned by {turn}, {pads} PADs before each option");
                    let reply = ask(&wire, &bytes, &turned)?.with_context(|| what(&how))?;
                    // What is echoed stands in the order of the server, so all of it is the same.
                    ensure!(reply.frame[42..] == first.frame[42..], "{}: {:02x?}", what(&how), reply.frame);
                }
            }
            ensure!(first.from == us && first.checksums_are_right, "{}", what("as it is"));
            seen.push((format!("{client:?}"), first.frame[42..].to_vec()));
        }
        answers.push(seen);
        xpxe.stop()?;
    }
    for (kernel, daemon) in answers[0].iter().zip(&answers[1]) {
        ensure!(kernel == daemon, "{} is answered in two ways", kernel.0);
    }
    Ok(())
}

/// Sends a message in the headers of a packet.
fn ask(wire: &Wire, message: &[u8], packet: &packet::Packet) -> Result<Option<Reply>> {
    let datagram = Datagram { source_mac: packet.eth_source.0, ..Datagram::default() };
    wire.send(&datagram.frame(message))?;
    wire.hear_reply(&[packet.xid], SOON)
}

/// The ports are open when xpxe can answer, and not earlier: neither while it loads a store that is large, nor while the
/// kernel verifies its half.
#[test]
fn from_the_moment_the_ports_are_open_everybody_is_answered() -> Result<()> {
    for fast_path in BOTH {
        let more =
            "\n[[subnet]]\ncidr = \"10.96.0.0/12\"\npool = [\"10.96.0.1-10.111.255.254\"]\n".to_owned();
        let Some(place) = Place::build(&Settings { fast_path, more, ..known() })? else { return Ok(()) };
        fill_store(&place, 50_000)?;
        starts(&place).with_context(|| format!("with {fast_path}"))?;
    }
    Ok(())
}

fn starts(place: &Place) -> Result<()> {
    let station = place.rack.client("client", CARD)?;
    let wire = Wire::open(&station, "eth0")?;
    let notify = place.rack.dir().join("notify");
    let manager = UnixDatagram::bind(&notify)?;
    manager.set_nonblocking(true)?;
    let variable = format!("NOTIFY_SOCKET={}", notify.display());
    let alice = Client::firmware(mac(ALICE.mac)?, 7);
    let _process = place.spawn(&["env", &variable])?;
    let began = Instant::now();
    let (mut port_open, mut http_open, mut is_told) = (None, None, false);
    let answered = loop {
        ensure!(began.elapsed() < SOON * 2, "no answer within {:?}", began.elapsed());
        // Ports are tried out at the very start, and given back.
        port_open = is_open(place, "udp", 67)?.then(|| port_open.unwrap_or_else(Instant::now));
        http_open = is_open(place, "tcp", 8080)?.then(|| http_open.unwrap_or_else(Instant::now));
        let (before, discover) = (is_told, alice.discover());
        is_told |= told(&manager)?;
        wire.send(&broadcast(&discover)?)?;
        let is_answered = wire.hear_reply(&[discover.xid()], Duration::from_millis(10))?.is_some();
        if is_answered {
            break Instant::now();
        }
        ensure!(!before || port_open.is_none(), "ready, and a DISCOVER is not answered");
    };
    let start = answered - began;
    for (what, open) in [("port 67", port_open), ("HTTP", http_open)] {
        let silent = open.map_or(Duration::ZERO, |since| answered.saturating_duration_since(since));
        println!("{what} was open for {silent:?} of a start of {start:?} without an answer");
        ensure!(
            silent < start / 4,
            "{what} was open for {silent:?} of a start of {start:?} without an answer"
        );
    }
    eventually(SOON, "READY=1 for the service manager", || is_told || told(&manager).unwrap_or(false))?;
    for (table, port) in [("udp", 67), ("udp", 69), ("udp", 4011), ("tcp", 8080)] {
        ensure!(is_open(place, table, port)?, "ready, and {table} port {port} is not open");
    }
    Ok(())
}

/// Whether the service manager has been told that xpxe is ready.
fn told(manager: &UnixDatagram) -> Result<bool> {
    let mut message = [0; 32];
    match manager.recv(&mut message) {
        Ok(length) => {
            ensure!(&message[..length] == b"READY=1", "{message:02x?}");
            Ok(true)
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Whether a UDP port is taken in the server's namespace, or TCP listens on it.
fn is_open(place: &Place, table: &str, port: u16) -> Result<bool> {
    let path = format!("/proc/thread-self/net/{table}");
    let sockets = place.rack.server.run(|| fs::read_to_string(path))??;
    Ok(sockets.lines().any(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let is_port = columns.get(1).is_some_and(|local| local.ends_with(&format!(":{port:04X}")));
        // 0A is LISTEN.
        is_port && (table == "udp" || columns.get(3) == Some(&"0A"))
    }))
}

/// Stores leases as a daemon would have.
fn fill_store(place: &Place, number: u32) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let store = Store::open(&place.rack.dir().join("state")).await?;
        let now = i64::try_from(clock::wall().as_secs())?;
        let changes: Vec<Change> = (0..number)
            .map(|number| {
                let [_, a, b, c] = number.to_be_bytes();
                Change::Put(Lease {
                    mac: Mac([2, 0x96, 0, a, b, c]),
                    address: Ipv4Addr::from(0x0a60_0001 + number),
                    subnet: "10.96.0.0/12".parse().expect("a network"),
                    state: LeaseState::Leased,
                    expires: now + 3600,
                    hostname: None,
                    recognised_by: None,
                    updated: now,
                })
            })
            .collect();
        store.commit(&changes).await?;
        store.close().await;
        Ok(())
    })
}
