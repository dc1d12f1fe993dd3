//! An engine with one interface, and what stands around it: the network that is probed, the disk, the clients.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use boot_common::class::{Class, Firmware};
use boot_common::tables::Event;
use boot_common::{Mac, Reason};
use boot_fixtures::message::{SERVER, discover, request};
use dhcproto::v4::{DhcpOption, Message, MessageType, OptionCode};
use dhcproto::{Decodable as _, Encodable as _};

use super::SECOND;
use crate::Engine;
use crate::command::{Command, Incoming, Now, Via};
use crate::config::{self, DhcpRole};
use crate::dhcp::packet::payload;
use crate::leases::{Change, Lease};
use crate::machines::Machines;
use crate::policy::{Policy, ServedLink};

pub(super) struct Lab {
    pub(super) engine: Engine,
    pub(super) now: Now,
    pub(super) changes: Vec<Change>,
    /// Who answers the probe of any address.
    pub(super) squatter: Option<String>,
    pub(super) probes: Vec<Ipv4Addr>,
}

/// An answer as it left.
pub(super) struct Reply {
    pub(super) message: Message,
    pub(super) via: Via,
    pub(super) frame: Vec<u8>,
}

impl Reply {
    pub(super) fn kind(&self) -> MessageType {
        self.message.opts().msg_type().unwrap()
    }

    pub(super) fn option(&self, code: OptionCode) -> Option<&DhcpOption> {
        self.message.opts().get(code)
    }

    pub(super) fn ip_destination(&self) -> Ipv4Addr {
        Ipv4Addr::new(self.frame[30], self.frame[31], self.frame[32], self.frame[33])
    }
}

/// The machines of a configuration.
pub(super) fn machines(config: &config::Config) -> Machines {
    Machines::new(config.machines.iter().cloned()).unwrap()
}

impl Lab {
    pub(super) fn new(config: &str) -> Self {
        Self::with_leases(config, &[], DhcpRole::Server)
    }

    pub(super) fn with_leases(config: &str, leases: &[Lease], role: DhcpRole) -> Self {
        let mut lab = Self::unfilled(config, leases, role);
        lab.engine.take_commands();
        lab
    }

    /// With the commands that fill the kernel's tables still to be taken.
    pub(super) fn unfilled(config: &str, leases: &[Lease], role: DhcpRole) -> Self {
        let link = ServedLink {
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
        let policy = Policy::new(config.clone(), machines(&config), vec![link], loader);
        let now = Now { boot: Duration::from_secs(1000), wall: Duration::from_secs(1_800_000_000) };
        let engine = Engine::new(policy, leases, now);
        Self { engine, now, changes: Vec::new(), squatter: None, probes: Vec::new() }
    }

    /// With two addresses on the interface, each in a subnet of its own.
    pub(super) fn with_second_subnet(config: &str) -> Self {
        let mut lab = Self::new(config);
        lab.engine.policy.add_address(7, SECOND);
        lab
    }

    pub(super) fn later(&mut self, seconds: u64) {
        let step = Duration::from_secs(seconds);
        self.now = Now { boot: self.now.boot + step, wall: self.now.wall + step };
        self.engine.tick(self.now);
    }

    pub(super) fn send(&mut self, message: &Message) -> Option<Reply> {
        self.send_to(message, 67, SocketAddrV4::new(message.ciaddr(), 68))
    }

    pub(super) fn send_to(&mut self, message: &Message, port: u16, from: SocketAddrV4) -> Option<Reply> {
        self.send_bytes(&message.to_vec().unwrap(), port, from)
    }

    pub(super) fn send_bytes(&mut self, bytes: &[u8], port: u16, from: SocketAddrV4) -> Option<Reply> {
        self.receive(&Incoming { ifindex: 7, port, from, to: Ipv4Addr::BROADCAST, payload: bytes })
    }

    /// To the server alone, from the client's own address.
    pub(super) fn send_to_server(&mut self, message: &Message) -> Option<Reply> {
        let (bytes, from) = (message.to_vec().unwrap(), SocketAddrV4::new(message.ciaddr(), 68));
        self.receive(&Incoming { ifindex: 7, port: 67, from, to: SERVER, payload: &bytes })
    }

    pub(super) fn receive(&mut self, incoming: &Incoming<'_>) -> Option<Reply> {
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

    pub(super) fn offered(&mut self, mac: Mac) -> Ipv4Addr {
        self.send(&discover(mac)).expect("an offer").message.yiaddr()
    }

    pub(super) fn leased(&mut self, mac: Mac) -> Ipv4Addr {
        let address = self.offered(mac);
        let ack = self.send(&request(mac, address, Some(SERVER))).expect("an answer");
        assert_eq!(ack.kind(), MessageType::Ack);
        assert_eq!(ack.message.yiaddr(), address);
        address
    }
}

/// The kernel half's word that it has confirmed a lease.
pub(super) fn confirmed(lab: &Lab, mac: Mac, address: Ipv4Addr) -> Event {
    Event {
        at: lab.now.nanos(),
        ifindex: 7,
        xid: 1,
        address: address.octets(),
        reason: Reason::Acked.index(),
        mac,
        hook: 0,
        class: Class::OS.key(),
    }
}
