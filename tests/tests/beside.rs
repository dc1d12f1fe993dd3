//! A proxy beside another DHCP server on the same host, which has port 67.

use std::fs;
use std::net::Ipv4Addr;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use boot_tests::daemon::Xpxe;
use boot_tests::dhcp_client::{Client, Datagram, Reply, Wire, broadcast, mac, payload};
use boot_tests::place::{BOB, Place, SILENCE, SNPONLY, SOON, UNKNOWN, in_pool};
use boot_tests::rack::{SERVER_ADDRESS, SERVER_MAC};
use boot_tests::reference::dnsmasq_plain_dhcp;
use boot_tests::settings::{Settings, boot_dir};
use boot_tests::tftp_client::{Caller, Download, Padding, introduce};
use boot_tests::tftp_rack::{CALLERS_CARD, caller_address, ensure_sent_by, random_bytes, same};
use dhcproto::v4::{DhcpOption, Message, MessageType};

const POOL: &str = "10.77.0.100,10.77.0.199";

#[test]
fn a_pxe_client_gets_both_offers_and_the_boot_server_s_answer() -> Result<()> {
    for fast_path in ["xdp", "off"] {
        let settings = Settings { dhcp: "proxy", fast_path, ..Settings::default() };
        let Some(place) = Place::build(&settings)? else { return Ok(()) };
        // Alone first, so that its programs are there and have to go.
        let mut xpxe = place.serve()?;
        xpxe.stop()?;
        // Else dnsmasq's checksums would be left to a card that is none.
        place.rack.server.output("ethtool", &["-K", "eth0", "tx", "off"])?;
        let dnsmasq = dnsmasq_plain_dhcp(&place.rack.server, place.rack.dir(), POOL)?;
        xpxe.restart()?;
        xpxe.wait_for_event("who has the port", SOON, |event| {
            event.message().contains("port 67 is already in use") && event.message().contains("dnsmasq")
        })?;
        if fast_path == "xdp" {
            xpxe.wait_for_event("what the fast path is for", SOON, |event| {
                event.message().contains("serves TFTP only")
            })?;
        }

        let wire = place.client()?;
        let pxe = Client::firmware(mac(UNKNOWN)?, 7);
        for round in 0..2 {
            let what = || format!("{fast_path}, round {round}:\n{}", xpxe.last_lines(10));
            let discover = pxe.discover();
            wire.send(&broadcast(&discover)?)?;
            let (offer, proxied) = both(&wire, discover.xid()).with_context(what)?;
            ensure!(in_pool(offer.address()) && offer.boot_file().is_empty(), "{offer:?} {}", what());
            ensure!(proxied.boot_file() == SNPONLY && proxied.checksums_are_right, "{proxied:?} {}", what());
            // The other server confirms the address, and the proxy is silent.
            let request = pxe.request(&offer);
            let ack = wire.ask(&request, MessageType::Ack)?;
            ensure!(ack.address() == offer.address() && ack.boot_file().is_empty(), "{ack:?} {}", what());
            let other = wire.hear_reply(&[request.xid()], SILENCE)?;
            ensure!(other.is_none(), "a second answer: {other:?} {}", what());
            // The boot server on port 4011. The client answers no ARP, so the server is told where it is.
            let (to, at) = (ack.address().to_string(), UNKNOWN);
            let server = &place.rack.server;
            server.output("ip", &["neigh", "replace", &to, "lladdr", at, "dev", "eth0"])?;
            let booted = boot_server(&wire, &pxe, ack.address()).with_context(what)?;
            ensure!(booted.kind() == Some(MessageType::Ack), "{booted:?} {}", what());
            ensure!(booted.boot_file() == SNPONLY && booted.to == ack.address(), "{booted:?} {}", what());
        }
        let system = Client::new(mac(BOB.mac)?);
        let lease = wire.lease(&system)?;
        ensure!(in_pool(lease.address()), "{lease:?}");
        let log = xpxe.log();
        let of_bob = log.iter().find(|event| event.field("mac") == BOB.mac);
        ensure!(of_bob.is_none(), "the proxy answered an operating system: {of_bob:?}");
        dnsmasq.wait_for_line("DHCPACK", SOON)?;
        fetches(&place, &xpxe, fast_path)?;
        xpxe.stop()?;
    }
    Ok(())
}

#[test]
fn a_relay_gets_the_proxy_s_offer_from_port_67() -> Result<()> {
    let settings = Settings { dhcp: "proxy", ..Settings::default() };
    let Some(place) = Place::build(&settings)? else { return Ok(()) };
    let _dnsmasq = dnsmasq_plain_dhcp(&place.rack.server, place.rack.dir(), POOL)?;
    let xpxe = place.serve()?;
    let relay = place.rack.neighbour("relay", BOB.mac, "10.77.0.9/24")?;
    let wire = Wire::open(&relay, "eth0")?;
    let giaddr = Ipv4Addr::new(10, 77, 0, 9);
    let mut discover = Client::firmware(mac(UNKNOWN)?, 7).discover();
    discover.set_giaddr(giaddr);
    let datagram = Datagram {
        source_mac: wire.mac(),
        to_mac: mac(SERVER_MAC)?,
        source: giaddr,
        to: SERVER_ADDRESS.parse()?,
        source_port: 67,
        to_port: 67,
    };
    wire.send(&datagram.frame(&payload(&discover)?))?;
    let (_, proxied) = both(&wire, discover.xid()).with_context(|| xpxe.last_lines(10))?;
    ensure!(proxied.boot_file() == SNPONLY && proxied.checksums_are_right, "{proxied:?}");
    ensure!((proxied.to, proxied.to_port) == (giaddr, 67), "{proxied:?}");
    ensure!(proxied.frame[34..36] == 67u16.to_be_bytes(), "not from port 67: {proxied:?}");
    xpxe.stop()
}

/// A file by TFTP, from the kernel half if there is one.
fn fetches(place: &Place, xpxe: &Xpxe<'_>, fast_path: &str) -> Result<()> {
    let (file, address) = (random_bytes("image", 200_000), caller_address(0));
    fs::write(boot_dir(&place.rack).join("image"), &file)?;
    let station = place.rack.client("caller", CALLERS_CARD)?;
    introduce(&place.rack, [*address.ip()], CALLERS_CARD)?;
    let caller = Caller::open(&station, address, Padding::None)?;
    same(&Download::start(caller, "image", 1432, 1)?.finish()?.bytes, &file)?;
    let sent = xpxe.wait_for_event("the file", SOON, |event| event.message().starts_with("sent image,"))?;
    ensure_sent_by(fast_path, &sent)
}

/// The offer with an address, and the one without, in any order.
fn both(wire: &Wire, xid: u32) -> Result<(Reply, Reply)> {
    let until = Instant::now() + SOON;
    let (mut with_address, mut without) = (None, None);
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let reply = wire.hear_reply(&[xid], left)?;
        let reply = reply.with_context(|| format!("only {with_address:?} and {without:?} came"))?;
        ensure!(reply.kind() == Some(MessageType::Offer), "{reply:?}");
        let place = if reply.address().is_unspecified() { &mut without } else { &mut with_address };
        ensure!(place.is_none(), "twice: {reply:?}");
        *place = Some(reply);
        if let (Some(with_address), Some(without)) = (&with_address, &without) {
            return Ok((with_address.clone(), without.clone()));
        }
    }
}

/// What the boot server answers to a client that has this address.
fn boot_server(wire: &Wire, client: &Client, address: Ipv4Addr) -> Result<Reply> {
    let mut request: Message = client.message();
    request.set_ciaddr(address);
    request.opts_mut().insert(DhcpOption::MessageType(MessageType::Request));
    let datagram = Datagram {
        source_mac: client.mac(),
        to_mac: mac(SERVER_MAC)?,
        source: address,
        to: SERVER_ADDRESS.parse()?,
        source_port: 68,
        to_port: 4011,
    };
    wire.send(&datagram.frame(&payload(&request)?))?;
    wire.hear_reply(&[request.xid()], SOON)?.context("no answer from port 4011")
}
