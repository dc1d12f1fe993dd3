//! xpxe in a rack, without firmware: what real DHCP and TFTP clients and single frames are answered.

mod clients;
mod solicitations;

use std::collections::BTreeSet;
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use boot_tests::daemon::Xpxe;
use boot_tests::dhcp_client::{BROADCAST, Client, Datagram, Mac, Reply, Wire, broadcast, mac, payload, sum};
use boot_tests::netns::Process;
use boot_tests::place::{ALICE, CARD, OTHER_UNKNOWN, Place, SILENCE, SNPONLY, SOON, UNKNOWN, in_pool, known};
use boot_tests::rack::{Rack, SERVER_ADDRESS, SERVER_MAC, SERVER_PORT, Station};
use boot_tests::settings::{Known, Settings, boot_dir};
use boot_tests::wait::eventually_some;
use clients::Udhcpc;
use dhcproto::v4::{DhcpOption, Message, MessageType, Opcode, OptionCode};
use nix::sys::signal::Signal;

const SCRIPT_URL: &str = "http://10.77.0.1:8080/boot.ipxe";
/// Boot files of the test, below boot_dir.
const OWN_FILE: &str = "images/own.bin";

#[test]
fn a_client_behind_a_relay_gets_an_address_of_its_own_subnet() -> Result<()> {
    for fast_path in ["xdp", "off"] {
        let far_subnet = "\n[[subnet]]\ncidr = \"10.78.0.0/24\"\npool = [\"10.78.0.100-10.78.0.199\"]\nrouter = \"10.78.0.1\"\n";
        let settings = Settings { fast_path, more: far_subnet.to_owned(), ..known() };
        let Some(place) = Place::build(&settings)? else { return Ok(()) };
        let far = place.rack.segment_behind_router(&place.sandbox)?;
        let xpxe = place.serve()?;
        let _relay = far.start_relay()?;
        let client = far.client("far", "02:78:00:00:00:10")?;
        let at_the_router = Wire::open(&far.router, "eth0")?;
        let lease = Udhcpc::start(&place.rack, &client)?.wait_for("bound", &xpxe)?;
        let address: Ipv4Addr = lease.get("ip").parse()?;
        ensure!(address.octets()[..3] == [10, 78, 0] && address.octets()[3] >= 100, "{lease:?}");
        ensure!(lease.get("subnet") == "255.255.255.0" && lease.get("router") == "10.78.0.1", "{lease:?}");
        ensure!(lease.get("serverid") == SERVER_ADDRESS, "{lease:?}");
        for kind in [MessageType::Offer, MessageType::Ack] {
            let to_relay = at_the_router
                .hear(SOON, |frame| Reply::parse(frame).filter(|reply| reply.kind() == Some(kind)))?;
            let reply = to_relay.with_context(|| format!("no {kind:?} passed the router"))?;
            ensure!(
                (reply.to, reply.to_port) == (Ipv4Addr::new(10, 78, 0, 1), 67),
                "the {kind:?} went to {}:{}, not to giaddr:67",
                reply.to,
                reply.to_port
            );
        }
        // On the server's own segment nothing has changed.
        let near = Wire::open(&*place.rack.client("near", CARD)?, "eth0")?;
        let offer = near.discover(&Client::new(mac(UNKNOWN)?))?;
        ensure!(in_pool(offer.address()), "on the server's own segment: {}", offer.address());
    }
    Ok(())
}

#[test]
fn every_tftp_client_and_curl_get_files_unchanged() -> Result<()> {
    let Some(place) = Place::build(&known())? else { return Ok(()) };
    // No multiple of any block size, and long enough for a window or two.
    let own: Vec<u8> = (0..300_001u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let path = boot_dir(&place.rack).join(OWN_FILE);
    fs::create_dir_all(path.parent().context("has a directory")?)?;
    fs::write(&path, &own)?;
    let snponly = fs::read("/usr/lib/ipxe/snponly.efi").context("package ipxe (cargo xtask setup)")?;
    let xpxe = place.serve()?;
    let client = place.rack.neighbour("client", CARD, "10.77.0.9/24")?;
    for (name, expected) in [(SNPONLY, &snponly), (OWN_FILE, &own)] {
        let http = format!("http://{SERVER_ADDRESS}:8080/files/{name}");
        let tftp = format!("tftp://{SERVER_ADDRESS}/{name}");
        let commands: [(&str, &[&str]); 7] = [
            ("curl", &["-sSf", "-o", "out", &http]),
            ("curl", &["-sSf", "--tftp-blksize", "1468", "-o", "out", &tftp]),
            ("atftp", &["-g", "-r", name, "-l", "out", SERVER_ADDRESS]),
            ("atftp", &["--option", "blksize 1428", "-g", "-r", name, "-l", "out", SERVER_ADDRESS]),
            ("tftp", &["-m", "binary", SERVER_ADDRESS, "-c", "get", name, "out"]),
            ("busybox", &["tftp", "-g", "-r", name, "-l", "out", SERVER_ADDRESS]),
            ("busybox", &["tftp", "-g", "-b", "1468", "-r", name, "-l", "out", SERVER_ADDRESS]),
        ];
        for (program, arguments) in commands {
            let dir = place.rack.dir().join("download");
            fs::create_dir_all(&dir)?;
            let mut command = client.command("timeout");
            command.arg("20").arg(program).args(arguments).current_dir(&dir);
            let output = command.output()?;
            let what = || {
                let said = String::from_utf8_lossy(&output.stderr);
                format!("{program} {arguments:?}: {}: {said}\n{}", output.status, xpxe.last_lines(10))
            };
            let got = fs::read(dir.join("out")).with_context(what)?;
            ensure!(output.status.success(), "{}", what());
            ensure!(
                got == *expected,
                "{} of {} bytes arrived, or others: {}",
                got.len(),
                expected.len(),
                what()
            );
            fs::remove_dir_all(&dir)?;
        }
    }
    Ok(())
}

#[test]
fn a_proxy_answers_pxe_clients_only_and_gives_no_address() -> Result<()> {
    for fast_path in ["xdp", "off"] {
        let settings = Settings { dhcp: "proxy", fast_path, ..Settings::default() };
        let Some(place) = Place::build(&settings)? else { return Ok(()) };
        let xpxe = place.serve()?;
        let wire = place.client()?;
        let stranger = mac(UNKNOWN)?;
        let answer = wire.ask_within(&Client::new(stranger).discover(), SILENCE)?;
        ensure!(answer.is_none(), "{fast_path}: an operating system is answered: {answer:?}");
        let raspberry_pi = [0xb8, 0x27, 0xeb, 0, 0, 1];
        for (mac, arch, file) in [
            (stranger, 0, "undionly.kpxe"),
            (stranger, 7, SNPONLY),
            (stranger, 9, SNPONLY),
            (stranger, 16, "http://10.77.0.1:8080/files/snponly.efi"),
            (stranger, 20, "http://10.77.0.1:8080/files/undionly.kpxe"),
            (stranger, 41, ""),
            (stranger, 99, SNPONLY),
            (raspberry_pi, 0, ""),
            (raspberry_pi, 7, SNPONLY),
        ] {
            let offer = wire.discover(&Client::firmware(mac, arch))?;
            let what = format!("{fast_path}, architecture {arch}: {:?}", offer.message);
            ensure!(offer.address().is_unspecified(), "an address: {what}");
            ensure!(offer.message.opts().get(OptionCode::AddressLeaseTime).is_none(), "a lease: {what}");
            ensure!(offer.boot_file() == file, "{:?}: {what}", offer.boot_file());
            let class = offer.message.opts().get(OptionCode::ClassIdentifier);
            let expected: &[u8] = if file.starts_with("http") { b"HTTPClient" } else { b"PXEClient" };
            ensure!(class == Some(&DhcpOption::ClassIdentifier(expected.to_vec())), "{class:?}: {what}");
        }
        xpxe.stop()?;
    }
    Ok(())
}

#[test]
fn no_two_machines_are_offered_one_address_and_a_full_pool_is_said() -> Result<()> {
    for fast_path in ["xdp", "off"] {
        let Some(place) = Place::build(&Settings { fast_path, ..known() })? else { return Ok(()) };
        let xpxe = place.serve()?;
        let wire = place.client()?;
        // The pool has 100 addresses. All at once, nobody waits for the neighbour's answer.
        let clients: Vec<_> =
            (0..120u8).map(|n| Client::firmware([2, 0x77, 0, 0, 4, n], 7).discover()).collect();
        for discover in &clients {
            wire.send(&broadcast(discover)?)?;
        }
        let xids: Vec<_> = clients.iter().map(Message::xid).collect();
        let mut offered = BTreeSet::new();
        for number in 0..100 {
            let offer = wire.hear_reply(&xids, SOON)?;
            let offer = offer.with_context(|| format!("only {number} offers\n{}", xpxe.last_lines(5)))?;
            ensure!(
                offer.kind() == Some(MessageType::Offer) && offer.checksums_are_right,
                "{:?}",
                offer.message
            );
            ensure!(in_pool(offer.address()), "{} is not of the pool", offer.address());
            ensure!(offered.insert(offer.address()), "{} was offered twice", offer.address());
        }
        xpxe.wait_for_event("the full pool", SOON, |event| {
            event.field("level") == "WARN" && event.message().contains("enlarge the pool")
        })?;
        let more = wire.hear_reply(&xids, SILENCE)?;
        ensure!(more.is_none(), "an address from nowhere: {more:?}");
        xpxe.stop()?;
    }
    Ok(())
}

#[test]
fn an_address_that_a_client_declines_is_not_offered_again() -> Result<()> {
    for fast_path in ["xdp", "off"] {
        let Some(place) = Place::build(&Settings { fast_path, ..known() })? else { return Ok(()) };
        let xpxe = place.serve()?;
        let wire = place.client()?;
        let stranger = Client::new(mac(UNKNOWN)?);
        let ack = wire.lease(&stranger)?;
        let mut decline = stranger.request(&ack);
        decline.opts_mut().insert(DhcpOption::MessageType(MessageType::Decline));
        let answer = wire.ask_within(&decline, SILENCE)?;
        ensure!(answer.is_none(), "{fast_path}: a DECLINE is answered: {answer:?}");
        xpxe.wait_for_event("the warning", SOON, |event| event.field("step") == "decline")?;
        let again = wire.lease(&stranger)?;
        ensure!(again.address() != ack.address(), "{fast_path}: {} again", ack.address());
        let other = wire.lease(&Client::new(mac(OTHER_UNKNOWN)?))?;
        ensure!(
            ![ack.address(), again.address()].contains(&other.address()),
            "{fast_path}: {}",
            other.address()
        );
        xpxe.stop()?;
    }
    Ok(())
}

#[test]
fn ipxe_is_sent_to_its_script_and_never_to_a_loader_again() -> Result<()> {
    // Every architecture with a number of its own, one without, and none at all.
    let architectures = [0, 6, 7, 9, 10, 11, 15, 16, 18, 19, 21, 22, 23, 27, 28, 39, 40, 4711];
    let marks: [(&str, u8, &[u8]); 3] = [
        ("user class as iPXE sends it", 77, b"iPXE"),
        ("user class as RFC 3004 has it", 77, b"\x04iPXE"),
        ("option 175 alone", 175, &[177, 5, 1, 0x80, 0x86, 0x10, 0x0e, 235, 3, 1, 0, 0]),
    ];
    for (dhcp, fast_path) in [("server", "xdp"), ("server", "off"), ("proxy", "xdp"), ("proxy", "off")] {
        let machines =
            vec![Known { address: known().machines[0].address.filter(|_| dhcp == "server"), ..ALICE }];
        let Some(place) = Place::build(&Settings { dhcp, fast_path, machines, ..Settings::default() })?
        else {
            return Ok(());
        };
        let xpxe = place.serve()?;
        let wire = place.client()?;
        for (how, code, value) in marks {
            for mac in [mac(ALICE.mac)?, mac(UNKNOWN)?] {
                let mut clients: Vec<_> = architectures.map(|arch| Client::firmware(mac, arch)).into();
                clients.push(Client::new(mac).with(60, b"PXEClient"));
                clients.push(Client::new(mac));
                for client in clients {
                    let client = client.with(code, value);
                    let what = || format!("{dhcp}, {fast_path}, {how}, {client:02x?}");
                    let offer = wire.discover(&client).with_context(what)?;
                    ensure!(offer.boot_file() == SCRIPT_URL, "{}: {:?}", what(), offer.boot_file());
                    let file =
                        String::from_utf8_lossy(offer.message.fname().unwrap_or_default()).into_owned();
                    let file = file.trim_end_matches('\0');
                    ensure!([SCRIPT_URL, ""].contains(&file), "{}: the field file is {file:?}", what());
                }
            }
        }
        xpxe.stop()?;
    }
    Ok(())
}

/// Spoils a message.
type Change = fn(&mut Vec<u8>);

#[test]
fn malformed_packets_are_not_answered_and_harm_nobody() -> Result<()> {
    for fast_path in ["xdp", "off"] {
        let Some(place) = Place::build(&Settings { fast_path, ..known() })? else { return Ok(()) };
        let xpxe = place.serve()?;
        let wire = place.client()?;
        let alice = Client::firmware(mac(ALICE.mac)?, 7);
        let good = alice.discover();
        let xid = good.xid();
        let bytes = payload(&good)?;
        let to_all = Datagram { source_mac: alice.mac(), ..Datagram::default() };
        let mut frames: Vec<(String, Vec<u8>)> = Vec::new();
        let changes: [(&str, Change); 12] = [
            ("a reply, not a request", |bytes| bytes[0] = 2),
            ("op 0", |bytes| bytes[0] = 0),
            ("hardware address of 255 bytes", |bytes| bytes[2] = 255),
            ("hardware address of 16 bytes", |bytes| bytes[2] = 16),
            ("hardware address of 0 bytes", |bytes| bytes[2] = 0),
            ("no Ethernet", |bytes| bytes[1] = 32),
            ("a group as hardware address", |bytes| bytes[28] = 0x33),
            ("no hardware address", |bytes| bytes[28..34].fill(0)),
            ("wrong magic cookie", |bytes| bytes[236] ^= 1),
            ("first option longer than the packet", |bytes| bytes[241] = 255),
            ("relay of no subnet", |bytes| bytes[24..28].copy_from_slice(&[10, 99, 0, 1])),
            // Of a machine without a reserved address: those are served by BOOTP too.
            ("no message type", |bytes| {
                bytes[240..].fill(0);
                bytes[33] = 0x77;
            }),
        ];
        for (what, change) in &changes {
            let mut bytes = bytes.clone();
            change(&mut bytes);
            frames.push(((*what).to_owned(), to_all.frame(&bytes)));
        }
        // Option 53 lies at 240 to 242.
        for length in (0..=240).step_by(8).chain([1, 235, 239, 241, 242]) {
            frames.push((format!("cut to {length} bytes"), to_all.frame(&bytes[..length])));
        }
        frames.push(("from port 0".to_owned(), Datagram { source_port: 0, ..to_all }.frame(&bytes)));
        let group = Ipv4Addr::new(239, 1, 1, 1);
        frames.push(("from a group".to_owned(), Datagram { source: group, ..to_all }.frame(&bytes)));
        let mut wrong_sum = to_all.frame(&bytes);
        wrong_sum[40] ^= 0x55;
        frames.push(("wrong UDP checksum".to_owned(), wrong_sum));
        let mut wrong_length = to_all.frame(&bytes);
        wrong_length[38] = 0xff;
        frames.push(("UDP longer than IP".to_owned(), wrong_length));
        let mut beyond = to_all.frame(&bytes);
        beyond.truncate(200);
        frames.push(("IP longer than the frame".to_owned(), beyond));
        let pxe = Datagram { to_port: 4011, ..to_all };
        frames.push(("nonsense to port 4011".to_owned(), pxe.frame(&[0xff; 64])));
        frames.push(("DISCOVER to port 4011".to_owned(), pxe.frame(&bytes)));
        // Without options it is BOOTP, which is for machines with a reserved address.
        let mut long: Vec<u8> = bytes[..240].iter().copied().chain([0xff; 1100]).collect();
        long[33] = 0x77;
        frames.push(("no options, and long".to_owned(), to_all.frame(&long)));

        for (number, (what, frame)) in frames.iter().enumerate() {
            wire.send(frame)?;
            // The daemon takes packets in their order, and only it can know this client.
            let number = u8::try_from(number)?;
            let marker = Client::new([2, 0x77, 0, 0, 2, number]).discover();
            wire.send(&broadcast(&marker)?)?;
            let first = wire.hear_reply(&[xid, marker.xid()], SOON)?;
            let first = first.with_context(|| format!("silent after {what:?}\n{}", xpxe.last_lines(20)))?;
            ensure!(first.message.xid() == marker.xid(), "{what:?} is answered: {:?}", first.message);
        }
        let late = wire.hear_reply(&[xid], SILENCE)?;
        ensure!(late.is_none(), "one of them is answered: {late:?}");
        ensure!(xpxe.is_running(), "{}", xpxe.last_lines(20));
        let panics = xpxe.log().into_iter().find(|event| event.message().contains("panicked"));
        ensure!(panics.is_none(), "{panics:?}");
        // What was changed each time was right to begin with.
        wire.ask(&good, MessageType::Offer)?;
        xpxe.stop()?;
    }
    Ok(())
}

#[test]
fn a_frame_of_another_vlan_is_not_answered() -> Result<()> {
    for (fast_path, by) in [("tc", "tc"), ("xdp", "xdp"), ("off", "daemon")] {
        let Some(place) = Place::build(&Settings { fast_path, ..known() })? else { return Ok(()) };
        // The tag arrives in the frame's bytes, as from a card with rxvlan off: XDP sees no other.
        place.rack.namespace.output("ethtool", &["-K", SERVER_PORT, "txvlan", "off"])?;
        let xpxe = place.serve()?;
        let wire = place.client()?;
        let discover = Client::firmware(mac(ALICE.mac)?, 7).discover();
        // Long enough for XDP to answer it in place.
        let long = [payload(&discover)?, vec![0; 400]].concat();
        let untagged = Datagram { source_mac: mac(ALICE.mac)?, ..Datagram::default() }.frame(&long);
        let mut tagged = untagged.clone();
        // IEEE 802.1Q: behind both addresses, VID 5.
        tagged.splice(12..12, [0x81, 0x00, 0x00, 0x05]);
        wire.send(&tagged)?;
        let answer = wire.hear_reply(&[discover.xid()], SILENCE)?;
        ensure!(answer.is_none(), "{fast_path}: a frame of VLAN 5 is answered: {answer:?}");
        wire.send(&untagged)?;
        let answer = wire.hear_reply(&[discover.xid()], SOON)?;
        let kind = answer.as_ref().and_then(Reply::kind);
        ensure!(kind == Some(MessageType::Offer), "{fast_path}: untagged it is answered with {answer:?}");
        xpxe.wait_for_event(&format!("the offer by {by}"), SOON, |event| {
            event.field("step") == "offer" && event.field("by") == by
        })?;
        xpxe.stop()?;
    }
    Ok(())
}

#[test]
fn a_request_for_another_servers_offer_is_left_to_it() -> Result<()> {
    for fast_path in ["xdp", "off"] {
        let Some(place) = Place::build(&Settings { fast_path, ..known() })? else { return Ok(()) };
        let _xpxe = place.serve()?;
        let wire = place.client()?;
        for mac in [mac(ALICE.mac)?, mac(UNKNOWN)?] {
            let client = Client::new(mac);
            let offer = wire.discover(&client)?;
            let mut request = client.request(&offer);
            set_server(&mut request, Ipv4Addr::new(10, 77, 0, 200));
            let answer = wire.ask_within(&request, SILENCE)?;
            ensure!(answer.is_none(), "{fast_path}: {answer:?}");
        }
    }
    Ok(())
}

#[test]
fn a_machine_that_asks_for_a_foreign_address_is_refused_at_once() -> Result<()> {
    for fast_path in ["xdp", "off"] {
        let Some(place) = Place::build(&Settings { fast_path, ..known() })? else { return Ok(()) };
        let _xpxe = place.serve()?;
        let wire = place.client()?;
        // As after a move from another network (RFC 2131 section 4.3.2, INIT-REBOOT).
        let mut request = Client::new(mac(ALICE.mac)?).message();
        request.opts_mut().insert(DhcpOption::MessageType(MessageType::Request));
        request.opts_mut().insert(DhcpOption::RequestedIpAddress(Ipv4Addr::new(192, 168, 1, 7)));
        let nak = wire.ask(&request, MessageType::Nak)?;
        ensure!((nak.to_mac, nak.to) == (BROADCAST, Ipv4Addr::BROADCAST), "to {}", nak.to);
        ensure!(nak.address().is_unspecified(), "a NAK with {}", nak.address());
        ensure!(nak.message.opcode() == Opcode::BootReply, "{:?}", nak.message);
        ensure!(nak.message.opts().get(OptionCode::AddressLeaseTime).is_none(), "{:?}", nak.message);
    }
    Ok(())
}

/// With the kernel half, alice (who is known) was offered her address there; without it, nothing was.
fn answered_by_the_right_half(xpxe: &Xpxe<'_>, fast_path: &str) -> Result<()> {
    let log = xpxe.log();
    let offers = log.iter().filter(|event| event.field("step") == "offer" && event.field("mac") == ALICE.mac);
    let by: Vec<_> = offers.map(|event| event.field("by")).collect();
    let right = |by: &String| (by == "daemon") == (fast_path == "off");
    ensure!(!by.is_empty() && by.iter().all(right), "fast_path = {fast_path:?}: offered by {by:?}");
    Ok(())
}

fn set_server(message: &mut Message, server: Ipv4Addr) {
    message.opts_mut().insert(DhcpOption::ServerIdentifier(server));
}
