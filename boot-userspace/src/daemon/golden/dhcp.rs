//! The engine's part: what it says of the messages that it hears.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use boot_common::class::{Class, Firmware};
use boot_common::tables::{Event, Hook};
use boot_common::{Mac, Reason};
use boot_engine::Engine;
use boot_engine::command::{Command, Incoming, Now};
use boot_engine::config::{self, DhcpRole};
use boot_engine::leases::Change;
use boot_engine::machines::Machines;
use boot_engine::policy::{Policy, ServedLink};
use boot_fixtures::message::{
    self, NODE1, OTHER, SERVER, UNKNOWN, at_switch_port, decline, discover, inform, message, relayed,
    release, request, unknown_option,
};
use dhcproto::Encodable as _;
use dhcproto::v4::{DhcpOption, Message, MessageType, Opcode, relay};

use crate::daemon::engine_events::EngineEvents;
use crate::daemon::log;

const CONFIG: &str = r#"
    [[interface]]
    name = "eth1"
    [[subnet]]
    cidr = "10.1.0.0/16"
    pool = ["10.1.1.33-10.1.1.40"]
    [[subnet]]
    cidr = "10.2.0.0/24"
    pool = ["10.2.0.100-10.2.0.110"]
    [[machine]]
    mac = "52:54:00:00:00:01"
    name = "node1"
    ip = "10.1.1.50"
    [[machine]]
    relay_port = "port 7"
    name = "slot7"
    ip = "10.1.1.61"
"#;
const FOREIGN: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 66);
/// For so long a second relay's word for a machine's switch port is not believed.
const SECOND_RELAY: u64 = 5;
const RELAY: Ipv4Addr = Ipv4Addr::new(10, 2, 0, 1);
/// EFI for x86-64, EFI for arm64, which has no loader here.
const X64: u16 = 7;
const ARM64: u16 = 11;

pub(super) struct Lab {
    pub(super) engine: Engine,
    events: EngineEvents,
    pub(super) now: Now,
    /// Who answers the probe of any address.
    pub(super) squatter: Option<String>,
    pub(super) changes: Vec<Change>,
}

impl Lab {
    pub(super) fn new(config: &str) -> Self {
        Self::on(config, DhcpRole::Server, "10.1.0.2/16")
    }

    fn on(config: &str, role: DhcpRole, own: &str) -> Self {
        let link = ServedLink {
            ifindex: 7,
            name: "eth1".into(),
            mac: Mac([2, 0, 0, 0, 0, 1]),
            addresses: vec![own.parse().unwrap()],
            role,
            http: SocketAddrV4::new(SERVER, 8080),
        };
        let loader = |firmware| match firmware {
            Firmware::EfiArm64 | Firmware::HttpArm64 => Err("install ipxe for arm64".to_owned()),
            _ => Ok("snponly.efi".to_owned()),
        };
        let config = config::parse(config, "test").unwrap();
        let machines = Machines::new(config.machines.iter().cloned()).unwrap();
        let policy = Policy::new(config, machines, vec![link], loader);
        let now = Now { boot: Duration::from_secs(1000), wall: Duration::from_secs(1_800_000_000) };
        let engine = Engine::new(policy, &[], now);
        let mut lab = Self {
            engine,
            events: EngineEvents::new(log::events()),
            now,
            squatter: None,
            changes: Vec::new(),
        };
        lab.act();
        lab
    }

    fn later(&mut self, seconds: u64) {
        let step = Duration::from_secs(seconds);
        self.now = Now { boot: self.now.boot + step, wall: self.now.wall + step };
        self.engine.tick(self.now);
        self.act();
        self.events.next_second(&self.engine, self.now);
    }

    /// Does what the engine wants done. Gives the addresses that were offered or acknowledged.
    fn act(&mut self) -> Vec<Ipv4Addr> {
        self.events.pass_on(&mut self.engine);
        let mut given = Vec::new();
        let mut commands = VecDeque::from(self.engine.take_commands());
        while let Some(command) = commands.pop_front() {
            match command {
                Command::Probe { address, mac, .. } => {
                    self.engine.probed(mac, address, self.squatter.clone(), self.now);
                    commands.extend(self.engine.take_commands());
                }
                Command::Send { told, ifindex, .. } => {
                    given.push(Ipv4Addr::from(told.answered.address));
                    self.engine.sent(&told, ifindex, self.now);
                }
                Command::Persist(change) => self.changes.push(change),
                _ => {}
            }
        }
        self.events.pass_on(&mut self.engine);
        given
    }

    fn hear(&mut self, bytes: &[u8], port: u16, from: SocketAddrV4) -> Option<Ipv4Addr> {
        let to = if from.ip().is_unspecified() { Ipv4Addr::BROADCAST } else { SERVER };
        self.engine.handle(&Incoming { ifindex: 7, port, from, to, payload: bytes }, self.now);
        self.act().pop()
    }

    /// What a station says in the name of another server each time.
    fn snoop(&mut self, number: u8, from: SocketAddrV4) {
        let server = Ipv4Addr::new(10, 1, 66, number);
        let mut nak = message(UNKNOWN, MessageType::Nak);
        nak.set_opcode(Opcode::BootReply);
        nak.opts_mut().insert(DhcpOption::ServerIdentifier(server));
        let payload = nak.to_vec().unwrap();
        let to = Ipv4Addr::BROADCAST;
        let incoming = Incoming { ifindex: 7, port: 68, from, to, payload: &payload };
        self.engine.snoop(&incoming, Some(OTHER), self.now);
        self.act();
    }

    fn send_from(&mut self, message: &Message, from: Ipv4Addr) -> Option<Ipv4Addr> {
        let port = if message.giaddr().is_unspecified() { 68 } else { 67 };
        self.hear(&message.to_vec().unwrap(), 67, SocketAddrV4::new(from, port))
    }

    /// From where a client sends it, or its relay.
    pub(super) fn send(&mut self, message: &Message) -> Option<Ipv4Addr> {
        let relayed = !message.giaddr().is_unspecified();
        self.send_from(message, if relayed { message.giaddr() } else { message.ciaddr() })
    }

    fn leased(&mut self, mac: Mac) -> Ipv4Addr {
        let address = self.send(&discover(mac)).expect("an offer");
        self.send(&request(mac, address, Some(SERVER))).expect("an ACK")
    }

    fn kernel(&mut self, mac: Mac, address: Ipv4Addr, reason: Reason, hook: Hook, class: Class) {
        let reason = Reason::ALL.iter().position(|other| *other == reason).unwrap();
        let event = Event {
            at: self.now.nanos(),
            ifindex: 7,
            xid: 1,
            address: address.octets(),
            reason: u32::try_from(reason).unwrap(),
            mac,
            hook: u8::from(hook == Hook::Tc),
            class: class.key(),
        };
        self.engine.kernel_answered(&event, self.now);
        self.events.pass_on(&mut self.engine);
    }
}

fn machine(number: u32) -> Mac {
    let [a, b, c, d] = number.to_be_bytes();
    Mac([2, 0, a, b, c, d])
}

fn pxe(message: Message, arch: u16) -> Message {
    message::pxe(message, arch, "PXEClient:Arch:00007:UNDI:003016")
}

/// iPXE with these features, version 1 each.
fn ipxe(message: Message, arch: u16, features: &[u8]) -> Message {
    let mut message = pxe(message, arch);
    message.opts_mut().insert(DhcpOption::UserClass(b"iPXE".to_vec()));
    let encapsulated: Vec<u8> = features.iter().flat_map(|code| [*code, 1, 1]).collect();
    message.opts_mut().insert(unknown_option(175, &encapsulated));
    message
}

/// What another server broadcasts.
fn foreign(mac: Mac, kind: MessageType, given: Ipv4Addr) -> Message {
    let mut answer = message(mac, kind);
    answer.set_opcode(Opcode::BootReply).set_yiaddr(given);
    answer.opts_mut().insert(DhcpOption::ServerIdentifier(FOREIGN));
    answer
}

/// A BOOTP request of 300 bytes with these options.
fn bootp(mac: Mac, options: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 300];
    bytes[..4].copy_from_slice(&[1, 1, 6, 0]);
    bytes[28..34].copy_from_slice(&mac.0);
    bytes[236..240].copy_from_slice(&[99, 130, 83, 99]);
    bytes[240..240 + options.len()].copy_from_slice(options);
    bytes
}

const NOBODY: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68);

pub(super) fn boots() {
    let mut lab = Lab::new(CONFIG);
    let address = lab.send(&pxe(discover(UNKNOWN), X64)).unwrap();
    lab.send(&pxe(request(UNKNOWN, address, Some(SERVER)), X64)).unwrap();
    let address = lab.send(&ipxe(discover(NODE1), X64, &[19, 24, 25, 33])).unwrap();
    lab.send(&ipxe(request(NODE1, address, Some(SERVER)), X64, &[19, 24, 25, 33])).unwrap();
    lab.leased(OTHER);
    lab.send(&inform(NODE1, address)).unwrap();
    lab.hear(&bootp(NODE1, &[255]), 67, NOBODY).unwrap();
    lab.kernel(
        NODE1,
        address,
        Reason::Offered,
        Hook::Xdp,
        Class { firmware: Firmware::EfiX64, ..Class::LOADER },
    );
    lab.kernel(NODE1, address, Reason::Acked, Hook::Tc, Class::IPXE);
    lab.kernel(UNKNOWN, Ipv4Addr::UNSPECIFIED, Reason::Offered, Hook::Xdp, Class::OS);
    let mut proxy = Lab::on(CONFIG, DhcpRole::Proxy, "10.1.0.2/16");
    proxy.send(&pxe(discover(UNKNOWN), X64)).unwrap();
    let mut asks = pxe(request(UNKNOWN, Ipv4Addr::new(10, 1, 1, 70), None), X64);
    asks.set_ciaddr(Ipv4Addr::new(10, 1, 1, 70));
    let from = SocketAddrV4::new(Ipv4Addr::new(10, 1, 1, 70), 4011);
    proxy.hear(&asks.to_vec().unwrap(), 4011, from).unwrap();
}

pub(super) fn refusals() {
    let text = CONFIG.replacen("[[subnet]]", "[[subnet]]\n    authoritative = true", 1);
    let mut lab = Lab::new(&text);
    let address = lab.leased(UNKNOWN);
    let mut nothing = message(UNKNOWN, MessageType::Request);
    nothing.opts_mut().insert(DhcpOption::ServerIdentifier(SERVER));
    lab.send(&nothing);
    lab.send(&request(NODE1, Ipv4Addr::new(10, 1, 1, 99), Some(SERVER)));
    lab.send(&request(OTHER, Ipv4Addr::new(192, 168, 1, 1), None));
    lab.send(&request(OTHER, Ipv4Addr::new(10, 2, 0, 100), None));
    lab.send(&request(OTHER, Ipv4Addr::new(10, 1, 1, 99), Some(SERVER)));
    lab.send(&request(OTHER, Ipv4Addr::new(10, 1, 1, 99), None));
    lab.send(&decline(UNKNOWN, address));
    lab.send(&request(UNKNOWN, address, None));
}

pub(super) fn given_back() {
    let mut lab = Lab::new(CONFIG);
    let address = lab.leased(UNKNOWN);
    // In its name.
    lab.send_from(&release(UNKNOWN, address), Ipv4Addr::new(10, 1, 0, 77));
    let mut without_server = message(UNKNOWN, MessageType::Release);
    without_server.set_ciaddr(address);
    lab.send(&without_server);
    lab.send_from(&relayed(release(UNKNOWN, address), RELAY), Ipv4Addr::new(10, 2, 0, 9));
    lab.send_from(
        &relayed(release(UNKNOWN, address), Ipv4Addr::new(10, 1, 0, 3)),
        Ipv4Addr::new(10, 2, 0, 9),
    );
    lab.send_from(&decline(UNKNOWN, address), Ipv4Addr::new(10, 1, 0, 77));
    lab.send(&release(UNKNOWN, address));
    // Behind a relay.
    let remote = lab.send(&relayed(discover(OTHER), RELAY)).unwrap();
    lab.send(&relayed(request(OTHER, remote, Some(SERVER)), RELAY)).unwrap();
    lab.send(&decline(OTHER, remote));

    let mut lab = Lab::new(CONFIG);
    let address = lab.leased(UNKNOWN);
    lab.squatter = Some(UNKNOWN.to_string());
    lab.send(&decline(UNKNOWN, address));
    lab.squatter = None;
    lab.send(&decline(UNKNOWN, address));
    let reserved = lab.leased(NODE1);
    lab.squatter = Some("02:00:00:00:00:77".to_owned());
    lab.send(&decline(NODE1, reserved));
    lab.squatter = None;
    let leases: Vec<(Mac, Ipv4Addr)> =
        (0..5).map(|number| (machine(number), lab.leased(machine(number)))).collect();
    lab.squatter = Some("a machine that answers ping".to_owned());
    for (mac, address) in &leases {
        lab.send(&decline(*mac, *address));
    }
    lab.squatter = Some(leases[4].0.to_string());
    super::lines(|| {
        for _ in 0..8 {
            lab.send(&decline(leases[4].0, leases[4].1));
        }
    });
    for _ in 0..2 {
        lab.send(&decline(leases[4].0, leases[4].1));
    }
    // A new address that somebody has.
    let mut lab = Lab::new(CONFIG);
    lab.squatter = Some("02:00:00:00:00:77".to_owned());
    lab.send(&discover(UNKNOWN));
}

pub(super) fn elsewhere() {
    let mut lab = Lab::new(CONFIG);
    let theirs = Ipv4Addr::new(10, 1, 7, 7);
    lab.send(&request(UNKNOWN, theirs, Some(FOREIGN)));
    let offered = lab.send(&discover(OTHER)).unwrap();
    lab.send(&request(OTHER, offered, Some(FOREIGN)));
    lab.send(&request(OTHER, offered, Some(FOREIGN)));
    for (mac, kind) in [(UNKNOWN, MessageType::Nak), (NODE1, MessageType::Offer), (NODE1, MessageType::Ack)] {
        let bytes = foreign(mac, kind, theirs).to_vec().unwrap();
        lab.hear(&bytes, 68, SocketAddrV4::new(FOREIGN, 67));
    }
    // A station that invents servers.
    let from = SocketAddrV4::new(FOREIGN, 67);
    super::lines(|| (0..8).for_each(|number| lab.snoop(number, from)));
    (8..12).for_each(|number| lab.snoop(number, from));
    lab.send(&relayed(discover(NODE1), RELAY));
    lab.send_from(&relayed(discover(UNKNOWN), Ipv4Addr::new(10, 9, 0, 1)), Ipv4Addr::new(10, 9, 0, 2));
    let mut selects = relayed(discover(UNKNOWN), RELAY);
    let mut info = relay::RelayAgentInformation::default();
    info.insert(relay::RelayInfo::LinkSelection(Ipv4Addr::new(10, 8, 0, 1)));
    selects.opts_mut().insert(DhcpOption::RelayAgentInformation(info));
    lab.send(&selects);
    let text = CONFIG.replace("10.1.1.50", "10.2.0.50");
    let mut lab = Lab::new(&text);
    lab.send(&discover(NODE1));
    let mut lab = Lab::on(CONFIG, DhcpRole::Server, "10.99.0.2/16");
    lab.send(&discover(UNKNOWN));
}

pub(super) fn dropped() {
    let mut lab = Lab::new(CONFIG);
    let whole = discover(UNKNOWN).to_vec().unwrap();
    lab.hear(&whole[..20], 67, NOBODY);
    lab.hear(&whole[..200], 67, NOBODY);
    lab.hear(&bootp(UNKNOWN, &[53, 9, 1]), 67, NOBODY);
    lab.hear(&bootp(UNKNOWN, &[255]), 67, NOBODY);
    lab.hear(&bootp(NODE1, &[60, 200, 1]), 67, NOBODY);
    let mut broken = whole.clone();
    broken[236] = 1;
    lab.hear(&broken, 67, NOBODY);
    lab.send_from(&relayed(discover(UNKNOWN), SERVER), Ipv4Addr::new(10, 1, 0, 9));
    // No news.
    lab.send(&release(UNKNOWN, Ipv4Addr::new(10, 1, 1, 33)));
}

pub(super) fn pools() {
    let text = CONFIG.replace("10.1.1.33-10.1.1.40", "10.1.1.33-10.1.1.34");
    let mut lab = Lab::new(&text);
    lab.send(&discover(UNKNOWN)).unwrap();
    lab.leased(OTHER);
    lab.send(&discover(machine(1)));
    lab.send(&discover(machine(2)));
    lab.send(&discover(machine(3)));
    lab.later(59);
    lab.later(1);
    lab.send(&discover(machine(1)));
    lab.later(100);
    lab.later(60);
    let mut lab = Lab::new(&CONFIG.replace("pool = [\"10.2.0.100-10.2.0.110\"]", ""));
    lab.send(&relayed(discover(UNKNOWN), RELAY));
}

pub(super) fn recognised() {
    let mut lab = Lab::new(CONFIG);
    let slot = lab.send(&at_switch_port(discover(UNKNOWN), "port 7")).unwrap();
    lab.send(&at_switch_port(request(UNKNOWN, slot, Some(SERVER)), "port 7")).unwrap();
    lab.send(&at_switch_port(discover(OTHER), "port 7"));
    lab.later(SECOND_RELAY + 1);
    lab.send(&at_switch_port(discover(UNKNOWN), "port 8"));
    lab.later(SECOND_RELAY + 1);
    lab.send(&at_switch_port(discover(UNKNOWN), "port 8"));
    lab.later(3600);
    lab.send(&at_switch_port(discover(UNKNOWN), "port 7"));
    lab.later(SECOND_RELAY + 1);
    lab.later(3600);
    lab.send(&at_switch_port(discover(machine(1)), "port 7"));
}

pub(super) fn loaders() {
    let mut lab = Lab::new(CONFIG);
    lab.send(&pxe(discover(UNKNOWN), ARM64)).unwrap();
    lab.send(&pxe(discover(OTHER), ARM64)).unwrap();
    let mut proxy = Lab::on(CONFIG, DhcpRole::Proxy, "10.1.0.2/16");
    proxy.send(&pxe(discover(UNKNOWN), ARM64));
    for features in [&[33, 24, 21][..], &[19, 21]] {
        let mut lab = Lab::new(CONFIG);
        for _ in 0..3 {
            let address = lab.send(&ipxe(discover(UNKNOWN), X64, features)).unwrap();
            lab.send(&ipxe(request(UNKNOWN, address, Some(SERVER)), X64, features)).unwrap();
        }
    }
}

/// What a second, and what a minute, leaves out.
pub(super) fn floods() {
    let mut lab = Lab::new(CONFIG);
    let address = Ipv4Addr::new(10, 1, 1, 50);
    let shown = super::lines(|| {
        for number in 0..10_000 {
            lab.kernel(machine(number), address, Reason::Offered, Hook::Xdp, Class::IPXE);
        }
    });
    assert_eq!(shown.len(), 10_000);
    lab.kernel(machine(1), address, Reason::Offered, Hook::Xdp, Class::IPXE);
    lab.kernel(machine(1), address, Reason::Acked, Hook::Xdp, Class::IPXE);
    lab.later(1);
    super::lines(|| {
        for machine in [NODE1].into_iter().chain((2..23).map(machine)) {
            for _ in 0..60 {
                lab.kernel(machine, address, Reason::Acked, Hook::Tc, Class::IPXE);
            }
        }
    });
    for machine in [NODE1].into_iter().chain((2..23).map(machine)) {
        // The greatest come first, and no two are equal.
        for _ in 0..100 - 2 * machine.0[5] {
            lab.kernel(machine, address, Reason::Acked, Hook::Tc, Class::IPXE);
        }
    }
    for _ in 0..59 {
        lab.later(1);
    }
}
