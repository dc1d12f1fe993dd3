//! What a client is told holds: every name and URL in a prepared answer is really served, and every field of an
//! answer is what the RFCs say, as dhcproto reads it. Needs no root.

mod served;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use boot_common::class::{Class, Firmware, Stage};
use boot_common::facts::{Facts, OptionScan, Span};
use boot_common::frame::{Bytes, Frame as _};
use boot_common::memory::Memory;
use boot_common::respond::{Answered, respond};
use boot_common::scratch::Scratch;
use boot_common::tables::{Answer, AnswerKey, Host};
use boot_common::wire::{BOOTP_FIXED, Request};
use boot_common::{Mac, Reason};
use boot_engine::Engine;
use boot_engine::boot::script::ScriptWriter;
use boot_engine::command::{Command, Incoming, Now};
use boot_engine::config::{self, DhcpRole, Http};
use boot_engine::machines::Machines;
use boot_engine::policy::ServedLink;
use boot_tests::engine as fixture;
use boot_tests::packet::{Client, Packet, checksums_are_right};
use boot_userspace::files::{BootFiles, MissingLoader};
use boot_userspace::http::{self, Readiness, Site};
use boot_userspace::images::Images;
use dhcproto::Decodable as _;
use dhcproto::v4::{DhcpOption, Message, MessageType, Opcode, OptionCode};
use proptest::prelude::*;
use served::{Files, engine, text};
use zerocopy::{FromZeros as _, IntoBytes as _};

const CONFIG: &str = r#"
[[interface]]
name = "eth0"
[[subnet]]
cidr = "10.77.0.0/24"
pool = ["10.77.0.100-10.77.0.199"]
router = "10.77.0.1"
dns = ["10.77.0.2"]
lease = "10m"
[[profile]]
name = "linux"
kernel = "linux/vmlinuz"
initrd = ["linux/initrd"]
[default]
profile = "linux"
[[machine]]
mac = "52:54:00:77:00:01"
name = "node-1"
ip = "10.77.0.11"
"#;

const IFINDEX: u32 = 7;
const OUR_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
const US: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const MAC: Mac = Mac([0x52, 0x54, 0, 0x77, 0, 1]);
const IP: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 11);
const ROLES: [DhcpRole; 2] = [DhcpRole::Server, DhcpRole::Proxy];

/// The tables as a daemon fills them, without the daemon.
struct Filled(Memory);

impl Filled {
    fn new(role: DhcpRole) -> Result<Self> {
        let files = Files::with_loaders(BootFiles::names())?;
        let mut engine = engine(&files.boot_files, SocketAddrV4::new(US, 8080), role)?;
        let mut filled = Memory { links: engine.link_entries().collect(), ..Memory::default() };
        // What an operating system wants is prepared when the first one asks.
        for client in Client::ALL {
            for packet in [client.discover(MAC), client.request(MAC, IP, US)] {
                let incoming = Incoming {
                    ifindex: IFINDEX,
                    port: 67,
                    from: packet.source,
                    to: *packet.destination.ip(),
                    payload: &packet.payload(),
                };
                engine.handle(&incoming, Now { boot: Duration::from_secs(1), wall: Duration::from_secs(1) });
            }
        }
        for command in engine.take_commands() {
            match command {
                Command::PutHost(key, host) => {
                    // As after an ACK of the daemon's.
                    filled.hosts.insert(key, Host { durable_until: u64::MAX, bound_until: u64::MAX, ..host });
                }
                Command::PutAnswer(key, answer) => {
                    filled.answers.insert(key, *answer);
                }
                _ => {}
            }
        }
        Ok(Self(filled))
    }

    fn ask(&self, packet: &Packet) -> Result<(Answered, Vec<u8>), Reason> {
        let mut frame = Bytes(packet.frame());
        let answered = respond(&mut frame, &mut Scratch::new(), &self.0, IFINDEX, || 0)?;
        Ok((answered, frame.0))
    }
}

const OTHER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 9);
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(10, 79, 0, 9);

/// Whether a frame is for everybody, or for the machine alone.
#[derive(Debug, PartialEq, Eq)]
enum To {
    All,
    Machine,
}

#[test]
fn every_client_gets_from_a_server_what_it_needs() -> Result<()> {
    let tables = Filled::new(DhcpRole::Server)?;
    for (client, to, file) in [
        (Client::Edk2Pxe, To::All, Some("snponly.efi")),
        (Client::Edk2PxeArm64, To::All, Some("ipxe-arm64.efi")),
        (Client::Edk2Http, To::All, Some("http://10.77.0.1:8080/files/snponly.efi")),
        (Client::IpxeBios, To::Machine, Some("http://10.77.0.1:8080/boot.ipxe")),
        (Client::IpxeEfi, To::Machine, Some("http://10.77.0.1:8080/boot.ipxe")),
        (Client::Dhclient, To::Machine, None),
        (Client::Udhcpc, To::Machine, None),
        // It looks for files of its own, where siaddr says.
        (Client::Uboot, To::Machine, Some("")),
    ] {
        for (packet, kind, reason) in [
            (client.discover(MAC), MessageType::Offer, Reason::Offered),
            (client.request(MAC, IP, US), MessageType::Ack, Reason::Acked),
        ] {
            let (answered, frame) =
                tables.ask(&packet).map_err(|reason| anyhow::anyhow!("{client:?}: {reason:?}"))?;
            let check = || -> Result<()> {
                ensure!((answered.reason, answered.address) == (reason, IP.octets()), "{answered:?}");
                let message = check_frame(&packet, &frame, 67, 68)?;
                let (mac, address) = match to {
                    To::All => (Mac::BROADCAST, Ipv4Addr::BROADCAST),
                    To::Machine => (MAC, IP),
                };
                ensure!(
                    frame[..6] == mac.0 && frame[30..34] == address.octets(),
                    "sent to {:x?}",
                    &frame[..34]
                );
                ensure!(message.yiaddr() == IP && message.ciaddr().is_unspecified());
                check_options(&message, kind, file)?;
                let option = |code| message.opts().get(code);
                // The shorter lease of the stages that never renew.
                let lease = if file.is_some() { 300 } else { 600 };
                ensure!(option(OptionCode::AddressLeaseTime) == Some(&DhcpOption::AddressLeaseTime(lease)));
                ensure!(
                    option(OptionCode::SubnetMask)
                        == Some(&DhcpOption::SubnetMask(Ipv4Addr::new(255, 255, 255, 0)))
                );
                ensure!(option(OptionCode::Router) == Some(&DhcpOption::Router(vec![US])));
                ensure!(option(OptionCode::Hostname) == Some(&DhcpOption::Hostname("node-1".to_owned())));
                Ok(())
            };
            check().with_context(|| format!("{client:?}, {kind:?}"))?;
        }
    }
    Ok(())
}

#[test]
fn every_client_gets_from_a_proxy_what_it_needs() -> Result<()> {
    let tables = Filled::new(DhcpRole::Proxy)?;
    for (client, port, file) in [
        (Client::Edk2Pxe, 4011, Some("snponly.efi")),
        (Client::Edk2PxeArm64, 4011, Some("ipxe-arm64.efi")),
        (Client::Edk2Http, 68, Some("http://10.77.0.1:8080/files/snponly.efi")),
        (Client::IpxeBios, 68, Some("http://10.77.0.1:8080/boot.ipxe")),
        (Client::IpxeEfi, 68, Some("http://10.77.0.1:8080/boot.ipxe")),
        (Client::Dhclient, 68, None),
        (Client::Udhcpc, 68, None),
        (Client::Uboot, 68, None),
    ] {
        let discover = client.discover(MAC);
        let ask = client.ask_boot_server(MAC, IP, US);
        let what = || format!("{client:?}");
        let Some(file) = file else {
            ensure!(tables.ask(&discover).err() == Some(Reason::NotPxe), what());
            ensure!(tables.ask(&ask).err() == Some(Reason::NotPxe), what());
            continue;
        };
        let (answered, frame) =
            tables.ask(&discover).map_err(|reason| anyhow::anyhow!("{client:?}: {reason:?}"))?;
        ensure!(answered.reason == Reason::Offered);
        let message = check_frame(&discover, &frame, 67, 68).with_context(what)?;
        ensure!(frame[..6] == Mac::BROADCAST.0 && message.yiaddr().is_unspecified(), what());
        check_options(&message, MessageType::Offer, Some(file)).with_context(what)?;
        ensure!(message.opts().get(OptionCode::AddressLeaseTime).is_none(), what());

        let (answered, frame) =
            tables.ask(&ask).map_err(|reason| anyhow::anyhow!("{client:?}: {reason:?}"))?;
        ensure!(answered.reason == Reason::BootServer);
        let message = check_frame(&ask, &frame, 4011, port).with_context(what)?;
        ensure!(frame[..6] == MAC.0 && frame[30..34] == IP.octets() && message.ciaddr() == IP, what());
        check_options(&message, MessageType::Ack, Some(file)).with_context(what)?;
    }
    Ok(())
}

#[test]
fn what_is_not_answered_has_its_reason() -> Result<()> {
    let server = Filled::new(DhcpRole::Server)?;
    let proxy = Filled::new(DhcpRole::Proxy)?;
    let stranger = Mac([0x52, 0x54, 0, 0x77, 0, 2]);
    for client in Client::ALL {
        let request = client.request(MAC, IP, US);
        for (what, tables, packet, reason) in [
            ("a stranger", &server, client.discover(stranger), Reason::UnknownHost),
            ("another server's", &server, client.request(MAC, IP, OTHER), Reason::OtherServer),
            ("another address", &server, client.request(MAC, OTHER, US), Reason::OtherAddress),
            ("another address after a reboot", &server, client.reboot(MAC, OTHER), Reason::OtherAddress),
            ("a renewal of another address", &server, client.renew(MAC, OTHER, US), Reason::OtherAddress),
            (
                "relayed from elsewhere",
                &server,
                client.discover(MAC).relayed(ELSEWHERE, US),
                Reason::OtherSubnet,
            ),
            ("twice 61", &server, request.with(61, &[0, 1]).with(61, &[2]), Reason::SplitOption),
            ("overload", &server, client.discover(MAC).with(52, &[1]), Reason::Overload),
        ] {
            let found = tables.ask(&packet).map(|(answered, _)| answered.reason);
            ensure!(found == Err(reason), "{client:?}, {what}: {found:?}");
        }
        let found = proxy.ask(&client.request(MAC, IP, OTHER)).map(|(answered, _)| answered.reason);
        ensure!(matches!(found, Err(Reason::OtherMessage | Reason::NotPxe)), "{client:?}: {found:?}");
    }
    Ok(())
}

proptest! {
    /// Of any options that a client may send, the scan takes down what dhcproto reads.
    #[test]
    fn the_scan_reads_what_dhcproto_reads(
        options in prop::collection::btree_map(
            prop_oneof![Just(50_u8), Just(53), Just(54), Just(57), Just(60), Just(61), Just(77), Just(93), Just(97), 100..=254_u8],
            (any::<u16>(), prop::collection::vec(any::<u8>(), 1..40)),
            1..12,
        ),
        order in any::<u64>(),
    ) {
        let mut packet = Packet::empty(MAC);
        for (code, (number, data)) in options {
            packet.options.push((code, match code {
                50 | 54 => [number.to_be_bytes(), number.to_le_bytes()].concat(),
                53 => vec![number.to_be_bytes()[1] % 8 + 1],
                57 | 93 => number.to_be_bytes().to_vec(),
                60 => [[&b"PXEClient"[..], b"HTTPClient", b"PXE", b""][usize::from(number % 4)], &data[..]].concat(),
                77 => [[&b"iPXE"[..], b"\x04iPXE", b"iPX"][usize::from(number % 3)], &data[..]].concat(),
                97 => [&[0], &[7; 16][..]].concat(),
                // What dhcproto has an opinion about is not the matter here.
                _ => data,
            }));
        }
        let turn = usize::try_from(order % 1000)? % packet.options.len();
        packet.options.rotate_left(turn);
        packet.options.retain(|(code, _)| *code < 100 || matches!(code, 175 | 224..));
        let frame = packet.frame();
        let facts = scan(&frame).map_err(|reason| TestCaseError::fail(reason.says()))?;
        let message = Message::from_bytes(&frame[42..])?;
        let option = |code| message.opts().get(code);
        let address = |code| match option(code) {
            Some(DhcpOption::RequestedIpAddress(address) | DhcpOption::ServerIdentifier(address)) => *address,
            _ => Ipv4Addr::UNSPECIFIED,
        };
        prop_assert_eq!(facts.message, message.opts().msg_type().map_or(0, u8::from));
        prop_assert_eq!(Ipv4Addr::from(facts.requested), address(OptionCode::RequestedIpAddress));
        prop_assert_eq!(Ipv4Addr::from(facts.server_id), address(OptionCode::ServerIdentifier));
        let most = match option(OptionCode::MaxMessageSize) { Some(DhcpOption::MaxMessageSize(most)) => *most, _ => 0 };
        prop_assert_eq!(facts.max_size, most);
        let arch = match option(OptionCode::ClientSystemArchitecture) {
            Some(DhcpOption::ClientSystemArchitecture(arch)) => Some(u16::from(*arch)),
            _ => None,
        };
        prop_assert_eq!((facts.has_arch == 1).then_some(facts.arch), arch);
        let whole = |span: Span| {
            let start = usize::try_from(span.offset).unwrap_or(0);
            frame[start..].get(2..usize::try_from(span.length).unwrap_or(0)).map(<[u8]>::to_vec)
        };
        let identifier = match option(OptionCode::ClientIdentifier) { Some(DhcpOption::ClientIdentifier(data)) => Some(data.clone()), _ => None };
        prop_assert_eq!(whole(facts.client_id), identifier);
        let class = match option(OptionCode::ClassIdentifier) { Some(DhcpOption::ClassIdentifier(class)) => &class[..], _ => &[] };
        let uboot = [b"U-Boot", b"U-boot"].iter().any(|name| class.starts_with(*name) || class.get(1..).is_some_and(|class| class.starts_with(*name)));
        let vendor = match class {
            class if class.starts_with(b"PXEClient") => 1,
            class if class.starts_with(b"HTTPClient") => 2,
            class if class.starts_with(b"PXE UROOT") || uboot => 3,
            _ => 0,
        };
        prop_assert_eq!(facts.vendor, vendor);
        let user = match option(OptionCode::UserClass) { Some(DhcpOption::UserClass(class)) => &class[..], _ => &[] };
        let ipxe = user.starts_with(b"iPXE") || user.get(1..).is_some_and(|user| user.starts_with(b"iPXE"));
        prop_assert_eq!(facts.is_ipxe == 1, ipxe || option(OptionCode::Unknown(175)).is_some());
    }
}

/// What the shared scan takes down of a frame.
fn scan(frame: &[u8]) -> Result<Facts, Reason> {
    let mut request = Request::new_zeroed();
    request.as_mut_bytes()[..frame.len()].copy_from_slice(frame);
    let mut scan = OptionScan::empty();
    scan.begin(Request::OPTIONS as u32, frame.len() as u32);
    Bytes(frame.to_vec()).scan(&request, &mut scan);
    scan.finish().copied()
}

/// Checks everything of an answer that is the same for all (RFC 2131 table 3, RFC 6842, RFC 4578).
fn check_frame(packet: &Packet, frame: &[u8], from: u16, to: u16) -> Result<Message> {
    ensure!(checksums_are_right(frame), "wrong checksums");
    ensure!(frame.len() <= 14 + 576, "{} bytes are more than every client takes", frame.len());
    ensure!(frame.len() >= 42 + 300, "{} bytes of BOOTP are fewer than 300", frame.len() - 42);
    ensure!(frame[6..12] == OUR_MAC.0 && frame[26..30] == US.octets());
    let port = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    ensure!((port(34), port(36)) == (from, to), "from port {} to {}", port(34), port(36));
    ensure!(usize::from(port(16)) == frame.len() - 14 && usize::from(port(38)) == frame.len() - 34);
    let payload = &frame[42..];
    let message = Message::from_bytes(payload)?;
    ensure!(message.opcode() == Opcode::BootReply && message.hops() == 0 && message.secs() == 0);
    ensure!(message.xid() == packet.xid && u16::from(message.flags()) == packet.flags);
    ensure!(message.giaddr() == packet.giaddr && message.chaddr() == packet.chaddr.0);
    // Echoes, in this order, are the last things before END.
    let echoes: Vec<u8> = [97, 61, 82]
        .iter()
        .filter_map(|code| packet.options.iter().find(|(other, _)| other == code))
        .flat_map(|(code, data)| [&[*code, data.len() as u8][..], data].concat())
        .collect();
    let end = [&echoes[..], &[255]].concat();
    let unpadded = payload.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    ensure!(payload[..unpadded].ends_with(&end), "does not end in {end:x?}: {:x?}", &payload[240..]);
    Ok(message)
}

fn check_options(message: &Message, kind: MessageType, file: Option<&str>) -> Result<()> {
    let option = |code| message.opts().get(code);
    ensure!(option(OptionCode::MessageType) == Some(&DhcpOption::MessageType(kind)));
    ensure!(option(OptionCode::ServerIdentifier) == Some(&DhcpOption::ServerIdentifier(US)));
    let name = match option(OptionCode::BootfileName) {
        Some(DhcpOption::BootfileName(name)) => text(Some(name))?,
        _ => None,
    };
    let named = file.filter(|file| !file.is_empty());
    ensure!(name == named && text(message.fname())? == named, "boot file {name:?}, not {named:?}");
    ensure!(message.siaddr() == if file.is_some() { US } else { Ipv4Addr::UNSPECIFIED });
    let class = match option(OptionCode::ClassIdentifier) {
        Some(DhcpOption::ClassIdentifier(class)) => Some(&class[..]),
        _ => None,
    };
    match file {
        None => ensure!(class.is_none()),
        Some(url) if url.contains("/files/") => ensure!(class == Some(&b"HTTPClient"[..])),
        Some(_) => {
            ensure!(class == Some(&b"PXEClient"[..]));
            ensure!(
                option(OptionCode::VendorExtensions)
                    == Some(&DhcpOption::VendorExtensions(vec![6, 1, 8, 255]))
            );
        }
    }
    Ok(())
}
