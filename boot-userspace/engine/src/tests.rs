//! The engine as a black box: DHCP messages and time in, commands out.

mod elsewhere;
mod give_back;
mod groups;
mod loaders;
mod places;
mod pools;
mod ports;
mod promises;
mod reload;
mod restarts;
mod subnets;
mod wire;

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use boot_common::class::Firmware;
use boot_common::tables::HostKey;
use boot_common::{Mac, Reason};
use dhcproto::v4::{DhcpOption, Flags, Message, MessageType, OptionCode, UnknownOption, relay};
use dhcproto::{Decodable as _, Encodable as _};

use super::Engine;
use super::bindings::{OFFER_HOLDS, QUARANTINE, RELEASE_HOLDS};
use super::command::{Command, Incoming, Now, Via};
use super::machines::Machines;
use super::packet::payload;
use super::policy::{Policy, Port};
use super::record::{Change, Lease, LeaseState};
use crate::config::{self, DhcpRole};
use crate::events::{Fault, Step};

const CONFIG: &str = r#"
    [[interface]]
    name = "eth1"
    [[subnet]]
    cidr = "10.1.0.0/16"
    pool = ["10.1.1.33-10.1.1.34"]
    router = "10.1.0.1"
    dns = ["10.1.1.2", "10.1.1.3"]
    domain = "mtl"
    [[subnet]]
    cidr = "10.2.0.0/24"
    pool = ["10.2.0.100-10.2.0.110"]
    [[machine]]
    mac = "52:54:00:00:00:01"
    name = "node1"
    ip = "10.1.1.50"
"#;

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 2);
/// In the second subnet of [`CONFIG`].
const SECOND: Ipv4Addr = Ipv4Addr::new(10, 2, 0, 2);
const NODE1: Mac = Mac([0x52, 0x54, 0, 0, 0, 1]);
const UNKNOWN: Mac = Mac([0x52, 0x54, 0, 0, 0, 0x99]);
const OTHER: Mac = Mac([0x52, 0x54, 0, 0, 0, 0x98]);

struct Lab {
    engine: Engine,
    now: Now,
    changes: Vec<Change>,
    /// Who answers the probe of any address.
    squatter: Option<String>,
    probes: Vec<Ipv4Addr>,
}

/// An answer as it left.
struct Reply {
    message: Message,
    via: Via,
    frame: Vec<u8>,
}

impl Reply {
    fn kind(&self) -> MessageType {
        self.message.opts().msg_type().unwrap()
    }

    fn option(&self, code: OptionCode) -> Option<&DhcpOption> {
        self.message.opts().get(code)
    }

    fn ip_destination(&self) -> Ipv4Addr {
        Ipv4Addr::new(self.frame[30], self.frame[31], self.frame[32], self.frame[33])
    }
}

/// The machines of a configuration.
fn machines(config: &config::Config) -> Machines {
    Machines::new(config.machines.iter().cloned()).unwrap()
}

impl Lab {
    fn new(config: &str) -> Self {
        Self::with_leases(config, &[], DhcpRole::Server)
    }

    fn with_leases(config: &str, leases: &[Lease], role: DhcpRole) -> Self {
        let mut lab = Self::unfilled(config, leases, role);
        lab.engine.take_commands();
        lab
    }

    /// With the commands that fill the kernel's tables still to be taken.
    fn unfilled(config: &str, leases: &[Lease], role: DhcpRole) -> Self {
        let port = Port {
            ifindex: 7,
            name: "eth1".into(),
            mac: Mac([2, 0, 0, 0, 0, 1]),
            addresses: vec![format!("{SERVER}/16").parse().unwrap()],
            role,
            http: SocketAddrV4::new(SERVER, 8080),
        };
        let loader = |firmware| match firmware {
            Firmware::EfiArm64 | Firmware::HttpArm64 => Err("install ipxe for arm64".to_owned()),
            _ => Ok("snponly.efi".to_owned()),
        };
        let config = config::parse(config, "test").unwrap();
        let policy = Policy::new(config.clone(), machines(&config), vec![port], loader);
        let now = Now { boot: Duration::from_secs(1000), wall: Duration::from_secs(1_800_000_000) };
        let engine = Engine::new(policy, leases, now);
        Self { engine, now, changes: Vec::new(), squatter: None, probes: Vec::new() }
    }

    /// With two addresses on the interface, each in a subnet of its own.
    fn with_second_subnet(config: &str) -> Self {
        let mut lab = Self::new(config);
        lab.engine.policy.add_address(7, SECOND);
        lab
    }

    fn later(&mut self, seconds: u64) {
        let step = Duration::from_secs(seconds);
        self.now = Now { boot: self.now.boot + step, wall: self.now.wall + step };
        self.engine.tick(self.now);
    }

    fn send(&mut self, message: &Message) -> Option<Reply> {
        self.send_to(message, 67, SocketAddrV4::new(message.ciaddr(), 68))
    }

    fn send_to(&mut self, message: &Message, port: u16, from: SocketAddrV4) -> Option<Reply> {
        self.send_bytes(&message.to_vec().unwrap(), port, from)
    }

    fn send_bytes(&mut self, bytes: &[u8], port: u16, from: SocketAddrV4) -> Option<Reply> {
        self.receive(&Incoming { ifindex: 7, port, from, to: Ipv4Addr::BROADCAST, payload: bytes })
    }

    /// To the server alone, from the client's own address.
    fn send_to_server(&mut self, message: &Message) -> Option<Reply> {
        let (bytes, from) = (message.to_vec().unwrap(), SocketAddrV4::new(message.ciaddr(), 68));
        self.receive(&Incoming { ifindex: 7, port: 67, from, to: SERVER, payload: &bytes })
    }

    fn receive(&mut self, incoming: &Incoming<'_>) -> Option<Reply> {
        self.engine.handle(incoming, self.now);
        let mut reply = None;
        let mut commands = std::collections::VecDeque::from(self.engine.take_commands());
        while let Some(command) = commands.pop_front() {
            match command {
                Command::Probe { address, mac, .. } => {
                    self.probes.push(address);
                    self.engine.probed(mac, address, self.squatter.clone(), self.now);
                    commands.extend(self.engine.take_commands());
                }
                Command::Persist(change) => {
                    assert!(reply.is_none(), "stored after it was sent");
                    self.changes.push(change);
                }
                Command::Send { frame, via, ifindex, .. } => {
                    assert_eq!(ifindex, 7);
                    assert!(reply.is_none(), "two answers");
                    let message = Message::from_bytes(payload(&frame)).unwrap();
                    reply = Some(Reply { message, via, frame });
                }
                Command::PutHost(..)
                | Command::DeleteHost(_)
                | Command::PutAnswer(..)
                | Command::DeleteAnswer(_) => {}
            }
        }
        reply
    }

    fn offered(&mut self, mac: Mac) -> Ipv4Addr {
        self.send(&discover(mac)).expect("an offer").message.yiaddr()
    }

    fn leased(&mut self, mac: Mac) -> Ipv4Addr {
        let address = self.offered(mac);
        let ack = self.send(&request(mac, address, Some(SERVER))).expect("an answer");
        assert_eq!(ack.kind(), MessageType::Ack);
        assert_eq!(ack.message.yiaddr(), address);
        address
    }
}

fn message(mac: Mac, kind: MessageType) -> Message {
    let mut message = Message::default();
    message.set_xid(0x1234_5678).set_chaddr(&mac.0);
    message.opts_mut().insert(DhcpOption::MessageType(kind));
    message
}

fn discover(mac: Mac) -> Message {
    message(mac, MessageType::Discover)
}

fn pxe(mut message: Message, arch: u16, class: &str) -> Message {
    let options = message.opts_mut();
    options.insert(DhcpOption::ClassIdentifier(class.as_bytes().to_vec()));
    options.insert(DhcpOption::Unknown(UnknownOption::new(
        OptionCode::Unknown(93),
        arch.to_be_bytes().to_vec(),
    )));
    message
}

fn request(mac: Mac, address: Ipv4Addr, server: Option<Ipv4Addr>) -> Message {
    let mut message = message(mac, MessageType::Request);
    message.opts_mut().insert(DhcpOption::RequestedIpAddress(address));
    if let Some(server) = server {
        message.opts_mut().insert(DhcpOption::ServerIdentifier(server));
    }
    message
}

fn renewal(mac: Mac, address: Ipv4Addr) -> Message {
    let mut message = message(mac, MessageType::Request);
    message.set_ciaddr(address);
    message
}

fn release(mac: Mac, address: Ipv4Addr) -> Message {
    let mut message = message(mac, MessageType::Release);
    message.set_ciaddr(address);
    message.opts_mut().insert(DhcpOption::ServerIdentifier(SERVER));
    message
}

fn decline(mac: Mac, address: Ipv4Addr) -> Message {
    let mut message = message(mac, MessageType::Decline);
    message.opts_mut().insert(DhcpOption::RequestedIpAddress(address));
    message.opts_mut().insert(DhcpOption::ServerIdentifier(SERVER));
    message
}

fn relayed(mut message: Message, giaddr: Ipv4Addr) -> Message {
    message.set_giaddr(giaddr);
    message
}

#[test]
fn a_stranger_gets_an_address_from_the_pool_and_it_is_stored_before_the_ack() {
    let mut lab = Lab::new(CONFIG);
    let address = lab.leased(UNKNOWN);
    assert_eq!(address, Ipv4Addr::new(10, 1, 1, 33));
    let Some(Change::Put(lease)) = lab.changes.first() else { panic!("nothing stored: {:?}", lab.changes) };
    assert_eq!((lease.mac, lease.address, lease.state), (UNKNOWN, address, LeaseState::Leased));
    assert!(u64::try_from(lease.expires).unwrap() >= lab.now.seconds() + 600);
}

#[test]
fn an_offer_is_not_stored_and_names_the_network() {
    let mut lab = Lab::new(CONFIG);
    let offer = lab.send(&discover(NODE1)).unwrap();
    assert_eq!(offer.kind(), MessageType::Offer);
    assert_eq!(offer.message.yiaddr(), Ipv4Addr::new(10, 1, 1, 50));
    assert_eq!(offer.option(OptionCode::ServerIdentifier), Some(&DhcpOption::ServerIdentifier(SERVER)));
    assert_eq!(offer.option(OptionCode::AddressLeaseTime), Some(&DhcpOption::AddressLeaseTime(600)));
    assert_eq!(
        offer.option(OptionCode::SubnetMask),
        Some(&DhcpOption::SubnetMask(Ipv4Addr::new(255, 255, 0, 0)))
    );
    assert_eq!(offer.option(OptionCode::Router), Some(&DhcpOption::Router(vec![Ipv4Addr::new(10, 1, 0, 1)])));
    assert_eq!(offer.option(OptionCode::Hostname), Some(&DhcpOption::Hostname("node1".to_owned())));
    assert_eq!(offer.option(OptionCode::DomainName), Some(&DhcpOption::DomainName("mtl".to_owned())));
    assert!(lab.changes.is_empty());
    assert_eq!(offer.via, Via::Frame);
    assert_eq!(offer.ip_destination(), Ipv4Addr::new(10, 1, 1, 50));
    assert_eq!(offer.frame[..6], NODE1.0, "unicast without ARP");
}

#[test]
fn the_broadcast_flag_is_obeyed() {
    let mut lab = Lab::new(CONFIG);
    let mut message = discover(NODE1);
    message.set_flags(Flags::default().set_broadcast());
    let offer = lab.send(&message).unwrap();
    assert_eq!(offer.ip_destination(), Ipv4Addr::BROADCAST);
    assert_eq!(offer.frame[..6], Mac::BROADCAST.0);
    assert!(offer.message.flags().broadcast());
}

#[test]
fn an_offered_address_is_offered_to_nobody_else_until_it_runs_out() {
    let mut lab = Lab::new(CONFIG);
    let first = lab.offered(UNKNOWN);
    let second = lab.offered(OTHER);
    assert_ne!(first, second);
    assert_eq!(lab.offered(UNKNOWN), first, "the same again");
    let third = Mac([0x52, 0x54, 0, 0, 0, 0x97]);
    assert!(lab.send(&discover(third)).is_none(), "the pool has two");
    lab.later(OFFER_HOLDS + 1);
    assert!([first, second].contains(&lab.offered(third)));
}

#[test]
fn who_loses_its_address_is_forgotten_everywhere() {
    let mut lab = Lab::new(CONFIG);
    let taken = lab.leased(UNKNOWN);
    lab.leased(OTHER);
    lab.later(100_000);
    let third = Mac([0x52, 0x54, 0, 0, 0, 0x97]);
    assert_eq!(lab.offered(third), taken, "the one idle longest");
    assert!(lab.changes.contains(&Change::Delete(UNKNOWN, taken)));
    assert!(!lab.engine.has_host(&HostKey::from(UNKNOWN)), "the kernel must not offer it any more");
}

#[test]
fn a_request_for_another_server_is_silent_and_gives_the_offer_back() {
    let mut lab = Lab::new(CONFIG);
    let address = lab.offered(UNKNOWN);
    let elsewhere = Ipv4Addr::new(10, 1, 0, 9);
    assert!(lab.send(&request(UNKNOWN, address, Some(elsewhere))).is_none());
    lab.offered(OTHER);
    let third = Mac([0x52, 0x54, 0, 0, 0, 0x97]);
    assert_eq!(lab.offered(third), address);
}

#[test]
fn the_same_request_twice_gives_the_same_ack() {
    let mut lab = Lab::new(CONFIG);
    let address = lab.offered(UNKNOWN);
    let message = request(UNKNOWN, address, Some(SERVER));
    let first = lab.send(&message).unwrap();
    let second = lab.send(&message).unwrap();
    assert_eq!(first.frame, second.frame);
}

#[test]
fn selecting_what_was_not_offered_is_refused() {
    let mut lab = Lab::new(CONFIG);
    let nak = lab.send(&request(UNKNOWN, Ipv4Addr::new(10, 1, 1, 34), Some(SERVER))).unwrap();
    assert_eq!(nak.kind(), MessageType::Nak);
    assert_eq!(nak.message.yiaddr(), Ipv4Addr::UNSPECIFIED);
    assert_eq!(nak.message.siaddr(), Ipv4Addr::UNSPECIFIED);
    assert_eq!(nak.ip_destination(), Ipv4Addr::BROADCAST);
    assert!(nak.option(OptionCode::AddressLeaseTime).is_none());
    assert!(nak.option(OptionCode::ServerIdentifier).is_some());
}

#[test]
fn init_reboot_is_confirmed_refused_or_left_alone() {
    let mut lab = Lab::new(CONFIG);
    let address = lab.leased(UNKNOWN);
    assert_eq!(lab.send(&request(UNKNOWN, address, None)).unwrap().kind(), MessageType::Ack);
    let wrong_address = request(UNKNOWN, Ipv4Addr::new(10, 1, 1, 99), None);
    assert_eq!(lab.send(&wrong_address).unwrap().kind(), MessageType::Nak);
    let wrong_network = request(OTHER, Ipv4Addr::new(192, 168, 1, 1), None);
    assert_eq!(lab.send(&wrong_network).unwrap().kind(), MessageType::Nak);
    let not_ours = request(OTHER, Ipv4Addr::new(10, 1, 1, 99), None);
    assert!(lab.send(&not_ours).is_none());
}

#[test]
fn a_renewal_is_answered_to_the_clients_address() {
    let mut lab = Lab::new(CONFIG);
    let address = lab.leased(UNKNOWN);
    lab.later(300);
    let ack = lab.send(&renewal(UNKNOWN, address)).unwrap();
    assert_eq!(ack.kind(), MessageType::Ack);
    assert_eq!((ack.message.ciaddr(), ack.message.yiaddr()), (address, address));
    assert_eq!(ack.via, Via::Socket { to: SocketAddrV4::new(address, 68), source: SERVER, port: 67 });
}

#[test]
fn rebinding_with_somebody_elses_address_is_not_confirmed() {
    let mut lab = Lab::new(CONFIG);
    let address = lab.leased(UNKNOWN);
    assert!(lab.send(&renewal(OTHER, address)).is_none(), "we know nothing of it");
    lab.leased(OTHER);
    assert_eq!(lab.send(&renewal(OTHER, address)).unwrap().kind(), MessageType::Nak);
}

#[test]
fn a_relay_gets_the_answer_and_decides_the_subnet() {
    let mut lab = Lab::new(CONFIG);
    let giaddr = Ipv4Addr::new(10, 2, 0, 1);
    let offer = lab.send_to(&relayed(discover(UNKNOWN), giaddr), 67, SocketAddrV4::new(giaddr, 67)).unwrap();
    assert_eq!(offer.message.yiaddr(), Ipv4Addr::new(10, 2, 0, 100));
    assert_eq!(offer.message.giaddr(), giaddr);
    assert_eq!(offer.via, Via::Socket { to: SocketAddrV4::new(giaddr, 67), source: SERVER, port: 67 });
    let ack = request(UNKNOWN, offer.message.yiaddr(), Some(SERVER));
    let ack = lab.send_to(&relayed(ack, giaddr), 67, SocketAddrV4::new(giaddr, 67)).unwrap();
    assert_eq!(ack.kind(), MessageType::Ack);
    assert!(lab.send(&relayed(discover(UNKNOWN), Ipv4Addr::new(10, 99, 0, 1))).is_none(), "of no subnet");
}

#[test]
fn link_selection_overrides_the_relays_address_and_option_82_comes_back_last() {
    let mut lab = Lab::new(CONFIG);
    let giaddr = Ipv4Addr::new(10, 1, 0, 3);
    let mut message = relayed(discover(UNKNOWN), giaddr);
    let mut info = relay::RelayAgentInformation::default();
    info.insert(relay::RelayInfo::AgentCircuitId(b"port 7".to_vec()));
    info.insert(relay::RelayInfo::LinkSelection(Ipv4Addr::new(10, 2, 0, 0)));
    message.opts_mut().insert(DhcpOption::RelayAgentInformation(info.clone()));
    let offer = lab.send(&message).unwrap();
    assert_eq!(offer.message.yiaddr(), Ipv4Addr::new(10, 2, 0, 100));
    assert_eq!(
        offer.option(OptionCode::RelayAgentInformation),
        Some(&DhcpOption::RelayAgentInformation(info))
    );
    assert!(matches!(offer.via, Via::Socket { to, .. } if *to.ip() == giaddr));
    let end = offer.frame.iter().rposition(|byte| *byte == 255).unwrap();
    assert_eq!(&offer.frame[end - 6..end], [5, 4, 10, 2, 0, 0], "nothing behind it but END");
}

#[test]
fn a_refusal_through_a_relay_asks_it_to_broadcast() {
    let mut lab = Lab::new(CONFIG);
    let giaddr = Ipv4Addr::new(10, 2, 0, 1);
    let wrong = relayed(request(UNKNOWN, Ipv4Addr::new(192, 168, 1, 1), None), giaddr);
    let nak = lab.send(&wrong).unwrap();
    assert_eq!(nak.kind(), MessageType::Nak);
    assert!(nak.message.flags().broadcast());
    assert!(matches!(nak.via, Via::Socket { to, .. } if to == SocketAddrV4::new(giaddr, 67)));
}

#[test]
fn a_declined_address_rests() {
    let mut lab = Lab::new(CONFIG);
    let address = lab.leased(UNKNOWN);
    lab.squatter = Some("02:00:00:00:00:77".to_owned());
    assert!(lab.send(&decline(OTHER, address)).is_none());
    assert_eq!(lab.offered(UNKNOWN), address, "only its holder may decline it");
    assert!(lab.send(&decline(UNKNOWN, address)).is_none());
    lab.squatter = None;
    assert_ne!(lab.offered(UNKNOWN), address);
    assert!(lab.send(&discover(OTHER)).is_none(), "the other one rests");
    lab.later(QUARANTINE + 1);
    assert_eq!(lab.offered(OTHER), address);
}

#[test]
fn a_released_address_stays_the_machines_until_another_needs_it() {
    let mut lab = Lab::new(CONFIG);
    let address = lab.leased(UNKNOWN);
    let release = release(UNKNOWN, address);
    assert!(lab.send(&release).is_none());
    assert!(matches!(lab.changes.last(), Some(Change::Put(lease)) if lease.state == LeaseState::Released));
    assert_eq!(lab.offered(UNKNOWN), address);
}

#[test]
fn an_address_that_the_kernel_may_have_confirmed_after_its_release_goes_to_nobody_else() {
    for event_comes_first in [true, false] {
        let mut lab = Lab::new(CONFIG);
        // The pool has two, and the second one is somebody's.
        let (address, _) = (lab.leased(UNKNOWN), lab.leased(OTHER));
        let third = discover(Mac([0x52, 0x54, 0, 0, 0, 0x97]));
        if event_comes_first {
            lab.engine.kernel_answered(&confirmed(&lab, UNKNOWN, address), lab.now);
        }
        let release = release(UNKNOWN, address);
        assert!(lab.send(&release).is_none());
        assert!(lab.send(&third).is_none(), "{event_comes_first}: given away at once");
        if !event_comes_first {
            lab.engine.kernel_answered(&confirmed(&lab, UNKNOWN, address), lab.now);
            lab.engine.take_commands();
        }
        lab.later(60);
        assert!(lab.send(&third).is_none(), "{event_comes_first}: given away while it is promised");
        assert_eq!(lab.offered(UNKNOWN), address);
    }
}

#[test]
fn a_released_address_goes_to_another_machine_after_a_moment() {
    let mut lab = Lab::new(CONFIG);
    let (address, _) = (lab.leased(UNKNOWN), lab.leased(OTHER));
    lab.engine.kernel_answered(&confirmed(&lab, UNKNOWN, address), lab.now);
    // Two seconds later the RELEASE is surely the later one.
    lab.later(1);
    lab.later(1);
    let release = release(UNKNOWN, address);
    assert!(lab.send(&release).is_none());
    lab.later(RELEASE_HOLDS);
    assert_eq!(lab.offered(Mac([0x52, 0x54, 0, 0, 0, 0x97])), address);
}

/// The kernel half's word that it has confirmed a lease.
fn confirmed(lab: &Lab, mac: Mac, address: Ipv4Addr) -> boot_common::tables::Event {
    boot_common::tables::Event {
        at: lab.now.nanos(),
        ifindex: 7,
        xid: 1,
        address: address.octets(),
        reason: boot_common::Reason::Acked.index(),
        mac,
        hook: 0,
        class: boot_common::class::Class::OS.key(),
    }
}

#[test]
fn inform_is_answered_without_an_address_or_a_lease() {
    let mut lab = Lab::new(CONFIG);
    let mut inform = message(UNKNOWN, MessageType::Inform);
    inform.set_ciaddr(Ipv4Addr::new(10, 1, 7, 7));
    let ack = lab.send(&inform).unwrap();
    assert_eq!(ack.kind(), MessageType::Ack);
    assert_eq!(ack.message.yiaddr(), Ipv4Addr::UNSPECIFIED);
    assert!(ack.option(OptionCode::AddressLeaseTime).is_none());
    assert!(matches!(ack.via, Via::Socket { to, .. } if *to.ip() == Ipv4Addr::new(10, 1, 7, 7)));
    assert!(lab.changes.is_empty());
}

#[test]
fn firmware_gets_its_boot_file_in_every_place_it_looks() {
    let mut lab = Lab::new(CONFIG);
    let offer = lab.send(&pxe(discover(NODE1), 7, "PXEClient:Arch:00007:UNDI:003000")).unwrap();
    assert_eq!(offer.message.siaddr(), SERVER);
    assert_eq!(offer.message.fname(), Some(&b"snponly.efi\0"[..]));
    assert_eq!(
        offer.option(OptionCode::BootfileName),
        Some(&DhcpOption::BootfileName(b"snponly.efi\0".to_vec()))
    );
    assert_eq!(
        offer.option(OptionCode::ClassIdentifier),
        Some(&DhcpOption::ClassIdentifier(b"PXEClient".to_vec()))
    );
    assert_eq!(
        offer.option(OptionCode::VendorExtensions),
        Some(&DhcpOption::VendorExtensions(vec![6, 1, 8, 255]))
    );
    let http = lab.send(&pxe(discover(NODE1), 16, "HTTPClient:Arch:00016:UNDI:003000")).unwrap();
    let url = b"http://10.1.0.2:8080/files/snponly.efi".to_vec();
    assert_eq!(http.option(OptionCode::BootfileName), Some(&DhcpOption::BootfileName(url)));
    assert_eq!(
        http.option(OptionCode::ClassIdentifier),
        Some(&DhcpOption::ClassIdentifier(b"HTTPClient".to_vec()))
    );
    assert!(http.option(OptionCode::VendorExtensions).is_none());
}

#[test]
fn ipxe_gets_its_script_in_every_spelling() {
    let mut lab = Lab::new(CONFIG);
    let script = DhcpOption::BootfileName(b"http://10.1.0.2:8080/boot.ipxe\0".to_vec());
    for (code, value) in [(77, &b"iPXE"[..]), (77, b"\x04iPXE"), (175, b"\xeb\x03\x01\x00\x00")] {
        let mut message = pxe(discover(NODE1), 7, "PXEClient:Arch:00007:UNDI:003010");
        message
            .opts_mut()
            .insert(DhcpOption::Unknown(UnknownOption::new(OptionCode::Unknown(code), value.to_vec())));
        let offer = lab.send(&message).unwrap();
        assert_eq!(offer.option(OptionCode::BootfileName), Some(&script), "{code}");
        let no_proxy = offer.option(OptionCode::Unknown(175));
        assert!(matches!(no_proxy, Some(DhcpOption::Unknown(option)) if option.data() == [176, 1, 1]));
    }
}

#[test]
fn a_firmware_without_a_loader_still_gets_its_address() {
    let mut lab = Lab::new(CONFIG);
    let offer = lab.send(&pxe(discover(NODE1), 11, "PXEClient:Arch:00011:UNDI:003000")).unwrap();
    assert_eq!(offer.message.yiaddr(), Ipv4Addr::new(10, 1, 1, 50));
    assert!(offer.option(OptionCode::BootfileName).is_none());
}

#[test]
fn a_proxy_adds_boot_files_and_never_an_address() {
    let mut lab = Lab::with_leases(CONFIG, &[], DhcpRole::Proxy);
    assert!(lab.send(&discover(UNKNOWN)).is_none(), "no PXE client");
    let offer = lab.send(&pxe(discover(UNKNOWN), 7, "PXEClient:Arch:00007:UNDI:003000")).unwrap();
    assert_eq!(offer.message.yiaddr(), Ipv4Addr::UNSPECIFIED);
    assert_eq!(offer.message.siaddr(), SERVER);
    assert!(offer.option(OptionCode::AddressLeaseTime).is_none());
    let for_the_other_server = request(UNKNOWN, Ipv4Addr::new(10, 1, 4, 4), Some(Ipv4Addr::new(10, 1, 0, 9)));
    assert!(lab.send(&pxe(for_the_other_server, 7, "PXEClient:Arch:00007:UNDI:003000")).is_none());
    let client = SocketAddrV4::new(Ipv4Addr::new(10, 1, 4, 4), 4011);
    let asks = pxe(renewal(UNKNOWN, *client.ip()), 7, "PXEClient:Arch:00007:UNDI:003000");
    let ack = lab.send_to(&asks, 4011, client).unwrap();
    assert_eq!(ack.kind(), MessageType::Ack);
    assert_eq!(ack.message.ciaddr(), *client.ip());
    assert_eq!(ack.message.fname(), Some(&b"snponly.efi\0"[..]));
    assert_eq!(ack.via, Via::Socket { to: client, source: SERVER, port: 4011 });
}

#[test]
fn a_proxy_s_entries_for_strangers_make_room_for_newer_ones() {
    use crate::machines::MOST_UNKNOWN;
    // A rule by maker: each unknown machine is looked at before the kernel half answers it.
    let config = format!("[[boot_file]]\noui = \"52:54:00\"\nfile = \"special.efi\"\n{CONFIG}");
    let mut lab = Lab::with_leases(&config, &[], DhcpRole::Proxy);
    let before = lab.engine.tables.hosts.iter().count();
    let unknown = |number: usize| {
        let [.., a, b, c] = number.to_be_bytes();
        Mac([0x52, 0x54, 1, a, b, c])
    };
    for number in 0..=MOST_UNKNOWN {
        let offer = lab.send(&pxe(discover(unknown(number)), 7, "PXEClient:Arch:00007:UNDI:003000"));
        assert!(offer.is_some(), "{number}");
    }
    assert_eq!(lab.engine.tables.hosts.iter().count(), before + MOST_UNKNOWN);
    let has = |lab: &Lab, mac: Mac| lab.engine.has_host(&HostKey::from(mac));
    assert!(has(&lab, NODE1) && has(&lab, unknown(1)) && !has(&lab, unknown(0)));
    assert!(lab.send(&pxe(discover(unknown(0)), 7, "PXEClient:Arch:00007:UNDI:003000")).is_some());
    assert!(has(&lab, unknown(0)) && !has(&lab, unknown(1)));
}

#[test]
fn ignored_strangers_get_silence_and_known_machines_do_not() {
    let mut lab = Lab::new(&CONFIG.replace("[[machine]]", "[default]\nunknown = \"ignore\"\n[[machine]]"));
    assert!(lab.send(&discover(UNKNOWN)).is_none());
    assert!(lab.send(&discover(NODE1)).is_some());
}

#[test]
fn stored_leases_are_kept_over_a_restart() {
    let mut lab = Lab::new(CONFIG);
    let first = lab.leased(UNKNOWN);
    let second = lab.leased(OTHER);
    let leases: Vec<Lease> = lab
        .changes
        .iter()
        .filter_map(|change| if let Change::Put(lease) = change { Some(lease.clone()) } else { None })
        .collect();
    let mut lab = Lab::with_leases(CONFIG, &leases, DhcpRole::Server);
    assert_eq!(lab.offered(OTHER), second);
    assert_eq!(lab.offered(UNKNOWN), first);
    assert_eq!(lab.send(&renewal(OTHER, second)).unwrap().kind(), MessageType::Ack);
}

#[test]
fn an_address_that_a_machine_was_promised_before_it_got_a_reserved_one_rests_over_a_restart() {
    let mut lab = Lab::new(CONFIG);
    let before = lab.leased(UNKNOWN);
    let Some(Change::Put(lease)) = lab.changes.pop() else { panic!("nothing stored") };
    let reserved = format!("{CONFIG}\n[[machine]]\nmac = \"{UNKNOWN}\"\nip = \"10.1.1.60\"\n");
    let mut lab = Lab::with_leases(&reserved, &[lease], DhcpRole::Server);
    assert_eq!(lab.offered(UNKNOWN), Ipv4Addr::new(10, 1, 1, 60));
    lab.engine.change_leases(&[Change::Delete(UNKNOWN, before)], lab.now);
    assert!(lab.engine.has_host(&HostKey::from(UNKNOWN)), "the old lease's row is not the reservation");
    let second = lab.leased(OTHER);
    assert_ne!(second, before);
    let third = Mac([0x52, 0x54, 0, 0, 0, 0x97]);
    assert!(lab.send(&discover(third)).is_none(), "the pool has no third one");
    lab.later(24 * 3600);
    assert_eq!(lab.leased(third), before);
}

#[test]
fn the_cards_of_a_machine_share_its_reserved_address_wherever_one_of_them_was() {
    // Two cards of one machine: the second has the reserved address while the first is elsewhere.
    let shared = CONFIG.replace("\"52:54:00:00:00:01\"", "[\"52:54:00:00:00:01\", \"52:54:00:00:00:02\"]");
    let (mut lab, card) = (Lab::new(&shared), Mac([0x52, 0x54, 0, 0, 0, 2]));
    let relay = Ipv4Addr::new(10, 2, 0, 1);
    let elsewhere = lab.send(&relayed(discover(NODE1), relay)).expect("an offer there").message.yiaddr();
    assert_eq!(lab.leased(card), Ipv4Addr::new(10, 1, 1, 50));
    assert_eq!(lab.leased(NODE1), Ipv4Addr::new(10, 1, 1, 50), "they share it");
    assert_eq!(lab.send(&relayed(discover(NODE1), relay)).unwrap().message.yiaddr(), elsewhere);
    lab.send(&relayed(discover(card), relay)).expect("an offer there");
    assert_eq!(lab.leased(NODE1), Ipv4Addr::new(10, 1, 1, 50));
}

#[test]
fn what_the_kernel_offered_last_is_adopted() {
    let mut lab = Lab::new(CONFIG);
    let address = lab.offered(UNKNOWN);
    let key = HostKey::from(UNKNOWN);
    let host = *lab.engine.tables.hosts.get(&key).unwrap();
    let mut lab = Lab::new(CONFIG);
    assert_eq!(lab.engine.adopt(&[(key, host)], lab.now), 1);
    let ack = lab.send(&request(UNKNOWN, address, Some(SERVER))).unwrap();
    assert_eq!(ack.kind(), MessageType::Ack, "no NAK because of a restart between OFFER and REQUEST");
}

#[test]
fn an_ack_that_could_not_be_stored_is_no_promise() {
    let mut lab = Lab::new(CONFIG);
    lab.leased(UNKNOWN);
    let key = HostKey::from(UNKNOWN);
    assert!(lab.engine.tables.hosts.get(&key).unwrap().durable_until > lab.now.nanos());
    let changes = lab.changes.clone();
    lab.engine.not_stored(&changes);
    assert_eq!(lab.engine.tables.hosts.get(&key).unwrap().durable_until, 0);
}

#[test]
fn options_in_pieces_and_in_file_and_sname_are_read() {
    let mut lab = Lab::new(CONFIG);
    let mut bytes = discover(NODE1).to_vec().unwrap();
    let end = bytes.iter().rposition(|byte| *byte == 255).unwrap();
    // The client identifier in two pieces (RFC 3396).
    bytes.splice(end.., [61, 2, 0, 1, 61, 3, 2, 3, 4, 255]);
    let offer = lab.send_bytes(&bytes, 67, SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68)).unwrap();
    let echoed = offer.option(OptionCode::ClientIdentifier);
    assert_eq!(echoed, Some(&DhcpOption::ClientIdentifier(vec![0, 1, 2, 3, 4])));
}

#[test]
fn short_answers_are_padded_to_300_bytes() {
    let mut lab = Lab::new(CONFIG);
    let nak = lab.send(&request(UNKNOWN, Ipv4Addr::new(192, 168, 1, 1), None)).unwrap();
    assert_eq!(payload(&nak.frame).len(), 300);
}

#[test]
fn pools_exclude_the_router_and_our_own_address() {
    let config = CONFIG.replace("10.1.1.33-10.1.1.34", "10.1.0.1-10.1.0.3");
    let mut lab = Lab::new(&config);
    assert_eq!(lab.offered(UNKNOWN), Ipv4Addr::new(10, 1, 0, 3));
    assert!(lab.send(&discover(OTHER)).is_none());
}

#[test]
fn a_new_address_is_looked_for_on_the_network_once() {
    let mut lab = Lab::new(CONFIG);
    let address = lab.leased(UNKNOWN);
    assert_eq!(lab.probes, [address]);
    lab.leased(UNKNOWN);
    lab.leased(NODE1);
    assert_eq!(lab.probes, [address], "neither one's own address nor a reserved one");
}

#[test]
fn an_address_that_somebody_uses_rests_and_the_next_one_is_tried() {
    let mut lab = Lab::new(CONFIG);
    lab.squatter = Some("02:00:00:00:00:77".to_owned());
    assert!(lab.send(&discover(UNKNOWN)).is_none(), "all are used");
    assert_eq!(lab.probes, [Ipv4Addr::new(10, 1, 1, 33), Ipv4Addr::new(10, 1, 1, 34)]);
    lab.squatter = None;
    assert!(lab.send(&discover(UNKNOWN)).is_none(), "they rest");
    lab.later(QUARANTINE + 1);
    assert!(lab.send(&discover(UNKNOWN)).is_some());
}

#[test]
fn a_request_list_is_obeyed_and_the_kernel_learns_it() {
    let mut lab = Lab::new(CONFIG);
    let mut message = discover(NODE1);
    message
        .opts_mut()
        .insert(DhcpOption::ParameterRequestList(vec![OptionCode::DomainName, OptionCode::SubnetMask]));
    let offer = lab.send(&message).unwrap();
    assert!(offer.option(OptionCode::DomainName).is_some());
    assert!(offer.option(OptionCode::Router).is_none());
    let before = lab.engine.tables.answers.len();
    let again = lab.send(&message).unwrap();
    assert_eq!(again.frame, offer.frame);
    assert_eq!(lab.engine.tables.answers.len(), before, "from the tables");
    assert!(lab.engine.tables.answers.keys().any(|key| key.wanted == boot_common::facts::wanted(&[15, 1])));
}

#[test]
fn firmware_has_short_leases_and_keeps_its_address() {
    let mut lab = Lab::new(CONFIG);
    let rom = pxe(discover(NODE1), 7, "PXEClient:Arch:00007:UNDI:003000");
    let offer = lab.send(&rom).unwrap();
    assert_eq!(offer.option(OptionCode::AddressLeaseTime), Some(&DhcpOption::AddressLeaseTime(300)));
    let system = lab.send(&discover(NODE1)).unwrap();
    assert_eq!(system.option(OptionCode::AddressLeaseTime), Some(&DhcpOption::AddressLeaseTime(600)));
    assert_eq!(system.message.yiaddr(), offer.message.yiaddr());
}

#[test]
fn the_server_identifier_a_relay_wants_is_used_and_accepted() {
    let mut lab = Lab::new(CONFIG);
    let giaddr = Ipv4Addr::new(10, 2, 0, 1);
    let wanted = Ipv4Addr::new(10, 2, 0, 9);
    let mut info = relay::RelayAgentInformation::default();
    info.insert(relay::RelayInfo::ServerIdentifierOverride(wanted));
    let through = |mut message: Message| {
        message.opts_mut().insert(DhcpOption::RelayAgentInformation(info.clone()));
        relayed(message, giaddr)
    };
    let offer = lab.send(&through(discover(UNKNOWN))).unwrap();
    assert_eq!(offer.option(OptionCode::ServerIdentifier), Some(&DhcpOption::ServerIdentifier(wanted)));
    let ack = lab.send(&through(request(UNKNOWN, offer.message.yiaddr(), Some(wanted)))).unwrap();
    assert_eq!(ack.kind(), MessageType::Ack);
}

#[test]
fn small_clients_get_answers_that_fit() {
    let options = "options = [{ code = 224, hex = \"";
    let config = CONFIG.replacen(
        "domain = \"mtl\"",
        &format!("domain = \"mtl\"\n{options}{}\" }}]", "ab".repeat(230)),
        1,
    );
    let mut lab = Lab::new(&config);
    let mut message = discover(NODE1);
    message.opts_mut().insert(DhcpOption::MaxMessageSize(576));
    message.opts_mut().insert(DhcpOption::ClientIdentifier(vec![7; 200]));
    let offer = lab.send(&message).unwrap();
    assert!(offer.frame.len() - 14 <= 576, "{}", offer.frame.len());
    assert!(offer.option(OptionCode::SubnetMask).is_some());
    message.opts_mut().insert(DhcpOption::MaxMessageSize(1400));
    assert!(lab.send(&message).unwrap().option(OptionCode::Unknown(224)).is_some());
}

mod booting;

#[test]
fn bootp_clients_get_reserved_addresses_only() {
    let mut lab = Lab::new(CONFIG);
    let bootp = |mac: Mac| {
        let mut message = Message::default();
        message.set_chaddr(&mac.0);
        message
    };
    let whole = |mac: Mac| {
        let mut bytes = bootp(mac).to_vec().unwrap();
        bytes.resize(300, 0);
        bytes
    };
    let client = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68);
    let reply = lab.send_bytes(&whole(NODE1), 67, client).unwrap();
    assert!(lab.send_bytes(&whole(NODE1)[..244], 67, client).is_none(), "cut");
    assert_eq!(reply.message.yiaddr(), Ipv4Addr::new(10, 1, 1, 50));
    assert!(reply.message.opts().msg_type().is_none());
    assert!(reply.option(OptionCode::AddressLeaseTime).is_none());
    assert!(lab.send_bytes(&whole(UNKNOWN), 67, client).is_none());
}

#[test]
fn a_machine_is_recognised_by_its_uuid_or_its_switch_port() {
    let config = format!(
        "{CONFIG}\n[[machine]]\nuuid = \"00112233-4455-6677-8899-aabbccddeeff\"\nname = \"by-uuid\"\nip = \"10.1.1.60\"\n\
         [[machine]]\nrelay_port = \"port 7\"\nname = \"by-port\"\nip = \"10.1.1.61\"\n"
    );
    let mut lab = Lab::new(&config);
    let mut guid = vec![0];
    guid.extend([
        0x33, 0x22, 0x11, 0, 0x55, 0x44, 0x77, 0x66, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff,
    ]);
    let mut message = pxe(discover(UNKNOWN), 7, "PXEClient:Arch:00007:UNDI:003000");
    message.opts_mut().insert(DhcpOption::Unknown(UnknownOption::new(OptionCode::Unknown(97), guid)));
    let offer = lab.send(&message).unwrap();
    assert_eq!(offer.message.yiaddr(), Ipv4Addr::new(10, 1, 1, 60));
    assert_eq!(offer.option(OptionCode::Hostname), Some(&DhcpOption::Hostname("by-uuid".to_owned())));
    assert_eq!(lab.offered(UNKNOWN), Ipv4Addr::new(10, 1, 1, 60), "its system does not show the UUID");
    let mut info = relay::RelayAgentInformation::default();
    info.insert(relay::RelayInfo::AgentCircuitId(b"port 7".to_vec()));
    let mut message = relayed(discover(OTHER), Ipv4Addr::new(10, 1, 0, 3));
    message.opts_mut().insert(DhcpOption::RelayAgentInformation(info));
    assert_eq!(lab.send(&message).unwrap().message.yiaddr(), Ipv4Addr::new(10, 1, 1, 61));
    // Who writes boot scripts knows it, too.
    let name = |mac| {
        let machine = lab.engine.machines.get(lab.engine.machines.recognised(mac)?)?;
        machine.name.clone()
    };
    assert_eq!(
        [UNKNOWN, OTHER, NODE1].map(name),
        [Some("by-uuid"), Some("by-port"), None].map(|name| name.map(str::to_owned))
    );

    // Recognised only after it had an offer from the pool: that is nobody's any more.
    let mut late = Lab::new(&config);
    assert_ne!(late.offered(OTHER), Ipv4Addr::new(10, 1, 1, 61));
    let mut reboot = relayed(request(OTHER, Ipv4Addr::new(10, 9, 9, 9), None), Ipv4Addr::new(10, 1, 0, 3));
    let mut info = relay::RelayAgentInformation::default();
    info.insert(relay::RelayInfo::AgentCircuitId(b"port 7".to_vec()));
    reboot.opts_mut().insert(DhcpOption::RelayAgentInformation(info));
    late.send(&reboot);
    assert_eq!(late.offered(OTHER), Ipv4Addr::new(10, 1, 1, 61));
}

#[test]
fn boot_file_rules_choose_by_machine_maker_and_architecture() {
    let rules = "[[boot_file]]\narch = 7\noui = \"52:54:00\"\nfile = \"special.efi\"\n[[boot_file]]\narch = [0]\nfile = \"undi.kpxe\"\n";
    let mut lab = Lab::new(&format!(
        "{rules}{}",
        CONFIG.replace("name = \"node1\"", "name = \"node1\"\nboot_file = \"own.efi\"")
    ));
    let mut file = |mac: Mac, arch: u16| {
        let offer = lab.send(&pxe(discover(mac), arch, "PXEClient:Arch:00000:UNDI:003000")).unwrap();
        String::from_utf8(offer.message.fname().unwrap().to_vec()).unwrap().trim_end_matches('\0').to_owned()
    };
    assert_eq!(file(NODE1, 7), "own.efi");
    assert_eq!(file(UNKNOWN, 7), "special.efi");
    assert_eq!(file(UNKNOWN, 0), "undi.kpxe");
    assert_eq!(file(UNKNOWN, 9), "snponly.efi");
}

#[test]
fn options_in_file_and_sname_are_read() {
    let mut lab = Lab::new(CONFIG);
    let mut bytes = discover(NODE1).to_vec().unwrap();
    let end = bytes.iter().rposition(|byte| *byte == 255).unwrap();
    bytes.splice(end.., [52, 1, 3, 255]);
    bytes[44..50].copy_from_slice(&[61, 3, 7, 8, 9, 255]);
    bytes[108..113].copy_from_slice(&[57, 2, 5, 220, 255]);
    let offer = lab.send_bytes(&bytes, 67, SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68)).unwrap();
    assert_eq!(
        offer.option(OptionCode::ClientIdentifier),
        Some(&DhcpOption::ClientIdentifier(vec![7, 8, 9]))
    );
    assert!(offer.message.sname().is_none_or(|name| name.iter().all(|byte| *byte == 0)));
}

#[test]
fn other_flags_are_copied_and_mean_nothing() {
    let mut lab = Lab::new(CONFIG);
    let mut message = discover(NODE1);
    message.set_flags(Flags::new(0x7fff));
    let offer = lab.send(&message).unwrap();
    assert_eq!(u16::from(offer.message.flags()), 0x7fff);
    assert_eq!(offer.ip_destination(), Ipv4Addr::new(10, 1, 1, 50), "no broadcast");
}

#[test]
fn what_only_clients_may_send_never_comes_back() {
    let mut lab = Lab::new(CONFIG);
    let address = Ipv4Addr::new(10, 1, 1, 50);
    let wishes = |mut message: Message| {
        let options = message.opts_mut();
        options.insert(DhcpOption::RequestedIpAddress(address));
        options.insert(DhcpOption::MaxMessageSize(1400));
        let list = [50, 55, 57, 1, 3].map(OptionCode::from).to_vec();
        options.insert(DhcpOption::ParameterRequestList(list));
        message
    };
    for message in [wishes(discover(NODE1)), wishes(request(NODE1, address, Some(SERVER)))] {
        let reply = lab.send(&message).unwrap();
        for code in [50, 55, 57] {
            assert!(reply.option(OptionCode::from(code)).is_none(), "{code}");
        }
        assert!(reply.option(OptionCode::ClientIdentifier).is_none(), "none was sent");
    }
}

#[test]
fn an_ack_says_what_the_offer_said() {
    for arch in [0, 7, 16] {
        let class = if arch == 16 { "HTTPClient:Arch:00016" } else { "PXEClient:Arch:00000" };
        let mut lab = Lab::new(CONFIG);
        let offer = lab.send(&pxe(discover(NODE1), arch, class)).unwrap();
        let ack = lab.send(&pxe(request(NODE1, offer.message.yiaddr(), Some(SERVER)), arch, class)).unwrap();
        let without_type = |reply: &Reply| {
            let options = reply.message.opts().iter().filter(|(code, _)| **code != OptionCode::MessageType);
            let mut options: Vec<_> = options.map(|(_, option)| format!("{option:?}")).collect();
            options.sort();
            (options, reply.message.siaddr(), reply.message.fname().map(<[u8]>::to_vec))
        };
        assert_eq!(without_type(&offer), without_type(&ack), "{arch}");
    }
}

#[test]
fn a_free_address_that_is_asked_for_is_given() {
    let mut lab = Lab::new(CONFIG);
    let wanted = Ipv4Addr::new(10, 1, 1, 34);
    let mut message = discover(UNKNOWN);
    message.opts_mut().insert(DhcpOption::RequestedIpAddress(wanted));
    assert_eq!(lab.send(&message).unwrap().message.yiaddr(), wanted);
    message.set_chaddr(&OTHER.0);
    assert_ne!(lab.send(&message).unwrap().message.yiaddr(), wanted, "it is somebody's now");
}

#[test]
fn a_release_by_somebody_else_releases_nothing() {
    let mut lab = Lab::new(CONFIG);
    let address = lab.leased(UNKNOWN);
    let stored = lab.changes.len();
    let release = release(OTHER, address);
    assert!(lab.send(&release).is_none());
    assert_eq!(lab.changes.len(), stored);
}

#[test]
fn option_82_that_does_not_fit_is_left_out_whole_and_malformed_it_comes_back_as_it_was() {
    let mut lab = Lab::new(CONFIG);
    let giaddr = Ipv4Addr::new(10, 1, 0, 3);
    let with = |relay: &[u8], size: u16| {
        let mut message = relayed(pxe(discover(NODE1), 7, "PXEClient:Arch:00007:UNDI:003000"), giaddr);
        message.opts_mut().insert(DhcpOption::MaxMessageSize(size));
        message.opts_mut().insert(DhcpOption::ClientIdentifier(vec![7; 100]));
        let mut bytes = message.to_vec().unwrap();
        let end = bytes.iter().rposition(|byte| *byte == 255).unwrap();
        bytes.truncate(end);
        bytes.extend([82, u8::try_from(relay.len()).unwrap()]);
        bytes.extend(relay);
        bytes.push(255);
        bytes
    };
    let from = SocketAddrV4::new(giaddr, 67);
    let long = [&[1, 198][..], &[9; 198]].concat();
    let small = lab.send_bytes(&with(&long, 576), 67, from).unwrap();
    assert!(small.frame.len() - 14 <= 576);
    assert!(!small.frame.windows(4).any(|bytes| bytes == [82, 200, 1, 198]), "not even a part of it");
    let large = lab.send_bytes(&with(&long, 1400), 67, from).unwrap();
    assert!(large.frame.windows(4).any(|bytes| bytes == [82, 200, 1, 198]));
    for malformed in [&[1, 9, 7][..], &[255], &[0, 0, 5], &[5, 4, 10]] {
        let reply = lab.send_bytes(&with(malformed, 1400), 67, from).unwrap();
        let whole = [&[82, u8::try_from(malformed.len()).unwrap()][..], malformed, &[255]].concat();
        assert!(reply.frame.windows(whole.len()).any(|bytes| bytes == whole), "{malformed:?}");
    }
}

#[test]
fn beside_long_options_that_come_back_and_option_82_there_is_only_the_room_that_there_is() {
    let mut lab = Lab::new(CONFIG);
    let giaddr = Ipv4Addr::new(10, 1, 0, 3);
    let mut message = relayed(discover(UNKNOWN), giaddr);
    message.opts_mut().insert(DhcpOption::MaxMessageSize(576));
    message.opts_mut().insert(DhcpOption::ClientIdentifier(vec![7; 250]));
    let mut info = relay::RelayAgentInformation::default();
    info.insert(relay::RelayInfo::AgentCircuitId(vec![9; 200]));
    message.opts_mut().insert(DhcpOption::RelayAgentInformation(info));
    let offer =
        lab.send_to(&message, 67, SocketAddrV4::new(giaddr, 67)).expect("an answer with fewer options");
    assert!(offer.frame.len() - 14 <= 576);
    assert!(offer.option(OptionCode::RelayAgentInformation).is_none());
}

#[test]
fn who_gets_no_answer_behind_a_probe_is_in_the_log_too() {
    let name = "a".repeat(60);
    let config = format!("{CONFIG}\n[[machine]]\nmac = \"{UNKNOWN}\"\nname = \"{name}\"\n");
    let mut lab = Lab::new(&config);
    let mut message = discover(UNKNOWN);
    message.opts_mut().insert(DhcpOption::MaxMessageSize(576));
    message.opts_mut().insert(DhcpOption::ClientIdentifier(vec![7; 250]));
    let guid = UnknownOption::new(OptionCode::Unknown(97), vec![0; 17]);
    message.opts_mut().insert(DhcpOption::Unknown(guid));
    assert!(lab.send(&message).is_none());
    assert_eq!(lab.probes.len(), 1);
    let told = elsewhere::told(&mut lab);
    let too_big =
        |step: &Step| matches!(step, Step::Dropped { reason: Reason::ReplyTooBig, fault: Fault::NoRoom, .. });
    assert!(matches!(&told[..], [(Some(UNKNOWN), step)] if too_big(step)), "{told:?}");
}

#[test]
fn every_address_of_ours_is_accepted_as_server_identifier() {
    let second = Ipv4Addr::new(10, 1, 0, 4);
    let mut lab = Lab::new(CONFIG);
    lab.engine.policy.add_address(7, second);
    let address = lab.offered(NODE1);
    let ack = lab.send(&request(NODE1, address, Some(second))).unwrap();
    assert_eq!(ack.kind(), MessageType::Ack);
}

#[test]
fn a_promise_for_one_address_is_none_for_another() {
    let mut lab = Lab::new(CONFIG);
    let giaddr = Ipv4Addr::new(10, 2, 0, 1);
    lab.leased(NODE1);
    let elsewhere = lab.send(&relayed(discover(NODE1), giaddr)).unwrap().message.yiaddr();
    assert_eq!(elsewhere, Ipv4Addr::new(10, 2, 0, 100), "its reserved address is of no use there");
    let key = HostKey::from(NODE1);
    assert_eq!(lab.engine.tables.hosts.get(&key).unwrap().durable_until, 0, "nothing is stored for this one");
    assert_eq!(lab.offered(NODE1), Ipv4Addr::new(10, 1, 1, 50), "and back");
}

#[test]
fn answers_never_go_to_loopback_or_groups() {
    let mut lab = Lab::new(CONFIG);
    let address = lab.leased(UNKNOWN);
    for nobody in [Ipv4Addr::LOCALHOST, Ipv4Addr::new(224, 0, 0, 1), Ipv4Addr::BROADCAST] {
        assert!(lab.send(&relayed(discover(UNKNOWN), nobody)).is_none());
        let mut inform = message(UNKNOWN, MessageType::Inform);
        inform.set_ciaddr(nobody);
        let from = SocketAddrV4::new(address, 68);
        assert!(lab.send_to(&inform, 67, from).is_none());
    }
    assert!(lab.send(&message(UNKNOWN, MessageType::Inform)).is_none(), "nowhere to send it");
}

#[test]
fn a_lease_that_the_kernel_confirmed_after_its_release_is_stored_again() {
    let mut lab = Lab::new(CONFIG);
    let address = lab.leased(UNKNOWN);
    let release = release(UNKNOWN, address);
    assert!(lab.send(&release).is_none());
    let event = confirmed(&lab, UNKNOWN, address);
    lab.engine.kernel_answered(&event, lab.now);
    let stored = lab.engine.take_commands().into_iter().any(
        |command| matches!(command, Command::Persist(Change::Put(lease)) if lease.state == LeaseState::Leased),
    );
    assert!(stored);
    lab.engine.kernel_answered(&event, lab.now);
    assert!(lab.engine.take_commands().is_empty(), "once");
}

#[test]
fn a_lease_that_the_kernel_confirmed_while_no_daemon_was_there_is_stored_again() {
    let mut lab = Lab::new(CONFIG);
    let address = lab.leased(UNKNOWN);
    let key = HostKey::from(UNKNOWN);
    let host = *lab.engine.tables.hosts.get(&key).unwrap();
    // The last daemon stored the RELEASE, and ended before the kernel knew.
    let release = release(UNKNOWN, address);
    assert!(lab.send(&release).is_none());
    let Some(Change::Put(released)) = lab.changes.last() else { panic!("nothing stored") };
    let mut again = Lab::with_leases(CONFIG, std::slice::from_ref(released), DhcpRole::Server);
    again.engine.adopt(&[(key, host)], again.now);
    again.engine.kernel_answered(&confirmed(&again, UNKNOWN, address), again.now);
    let stored = again.engine.take_commands().into_iter().any(
        |command| matches!(command, Command::Persist(Change::Put(lease)) if lease.state == LeaseState::Leased),
    );
    assert!(stored);
}

#[test]
fn the_kernel_promises_no_longer_than_the_store_has() {
    let mut lab = Lab::new(CONFIG);
    lab.now.wall += Duration::from_millis(900);
    lab.leased(UNKNOWN);
    let Some(Change::Put(lease)) = lab.changes.first() else { panic!("nothing stored") };
    let until = |lab: &Lab| {
        Duration::from_nanos(lab.engine.tables.hosts.get(&HostKey::from(UNKNOWN)).unwrap().durable_until)
    };
    let stored = Duration::from_secs(u64::try_from(lease.expires).unwrap()) - lab.now.wall;
    assert!(until(&lab) - lab.now.boot <= stored);
    let mut again = Lab::with_leases(CONFIG, std::slice::from_ref(lease), DhcpRole::Server);
    again.now = lab.now;
    assert!(until(&again) - Duration::from_secs(1000) <= Duration::from_secs(1200));
}
