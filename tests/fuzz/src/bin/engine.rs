//! The daemon's engine with the kernel half in front of it, behind it a store, and everything that can happen to
//! them: any packets, time, probes, commits that fail, SIGKILL between any two steps, and starting again.
//!
//! What the clients were told is held against the store, and against each other.
#![no_main]

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use boot_common::Mac;
use boot_common::respond::respond;
use boot_common::scratch::Scratch;
use boot_common::tables::{Event, Hook};
use boot_engine::Engine;
use boot_engine::command::{Command, Incoming, Now, Via};
use boot_engine::config::{self, DhcpRole};
use boot_engine::dhcp::packet;
use boot_engine::leases::{Change, Lease, LeaseState};
use boot_fixtures::engine as fixture;
use boot_fixtures::packet::{Client, fix_checksums};
use boot_fuzz::kernel::Kernel;
use boot_fuzz::{Case, judge, limit, seed, to_a_station};
use libfuzzer_sys::fuzz_target;

const CONFIG: &str = r#"
[[interface]]
name = "eth0"
[[subnet]]
cidr = "10.77.0.0/24"
pool = ["10.77.0.100-10.77.0.102"]
router = "10.77.0.254"
dns = ["10.77.0.53"]
domain = "rack.test"
lease = "2m"
boot_lease = "1m"
[[subnet]]
cidr = "10.78.0.0/24"
pool = ["10.78.0.100-10.78.0.101"]
lease = "1m"
probe = false
[[machine]]
mac = ["52:54:00:00:00:00", "52:54:00:00:00:01"]
name = "reserved"
ip = "10.77.0.50"
[[machine]]
mac = "52:54:00:00:00:02"
name = "named"
[[machine]]
uuid = "0c5c6e11-2233-4455-6677-8899aabbccdd"
name = "by-uuid"
ip = "10.77.0.60"
[[machine]]
relay_port = "ge-1"
name = "by-port"
ip = "10.78.0.61"
"#;

const IFINDEX: u32 = 7;
const OUR_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
const US: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const RELAY: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 1);
/// The MACs of one machine share its address.
const SHARED: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 50);
/// Machines that show the same identity take each other's address.
const RECOGNISED: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 77, 0, 60), Ipv4Addr::new(10, 78, 0, 61)];
const MACHINES: u8 = 8;

/// `XPXE_FUZZ_TORN=1`: SIGKILL may also come between the commit and the kernel's tables.
const TORN: &str = "XPXE_FUZZ_TORN";

struct World {
    /// `None` while no daemon runs.
    engine: Option<Engine>,
    kernel: Option<Kernel>,
    store: BTreeMap<Ipv4Addr, Lease>,
    resting: BTreeMap<Ipv4Addr, Lease>,
    scratch: Box<Scratch>,
    now: Now,
    /// Requests on their way to an answer, by transaction, with the daemon's view of their receiver.
    asked: HashMap<u32, Vec<u8>>,
    next_xid: u32,
    /// What each client was last told.
    told: HashMap<Mac, Ipv4Addr>,
    /// Which client has an address, and until when, as the last ACK said.
    held: HashMap<Ipv4Addr, (Mac, Duration)>,
    /// Gave its address back in this round: ACKs that cross that are void.
    void: HashSet<Mac>,
    probes: VecDeque<(Mac, Ipv4Addr)>,
    events: Vec<Event>,
    commits_fail: bool,
    torn: bool,
    /// `XPXE_FUZZ_TRACE=1`: tell what happens.
    trace: bool,
}

impl World {
    fn new(fast_path: bool) -> Self {
        let now = Now { boot: Duration::from_secs(1000), wall: Duration::from_secs(1_800_000_000) };
        let mut world = Self {
            engine: None,
            kernel: fast_path.then(Kernel::default),
            store: BTreeMap::new(),
            resting: BTreeMap::new(),
            scratch: Box::new(Scratch::new()),
            now,
            asked: HashMap::new(),
            next_xid: 1,
            told: HashMap::new(),
            held: HashMap::new(),
            void: HashSet::new(),
            probes: VecDeque::new(),
            events: Vec::new(),
            commits_fail: false,
            torn: std::env::var_os(TORN).is_some(),
            trace: std::env::var_os("XPXE_FUZZ_TRACE").is_some(),
        };
        world.start();
        world
    }

    /// As `xpxe serve` does.
    fn start(&mut self) {
        if self.engine.is_some() {
            return;
        }
        self.tell(|| "starts".to_owned());
        let link =
            fixture::served_link("eth0", IFINDEX, OUR_MAC, "10.77.0.1/24", DhcpRole::Server).expect("a network");
        let leases: Vec<Lease> = self.store.values().chain(self.resting.values()).cloned().collect();
        let loader = |_| Ok("snponly.efi".to_owned());
        let mut engine = fixture::engine(config(), vec![link], loader, &leases, self.now)
                .expect("machines that differ");
        if let Some(kernel) = &self.kernel {
            let hosts: Vec<_> = kernel.hosts.iter().map(|(key, host)| (*key, *host)).collect();
            engine.adopt(&hosts, self.now);
            for event in self.events.drain(..) {
                engine.kernel_answered(&event, self.now);
            }
        }
        let links: Vec<_> = engine.link_entries().collect();
        if let Some(kernel) = &mut self.kernel {
            kernel.links = links.into_iter().collect();
            kernel.hosts.retain(|key, _| engine.has_host(key));
            kernel.answers.retain(|key, answer| engine.has_answer(key, answer));
        }
        self.engine = Some(engine);
        self.commits_fail = false;
        self.round(None);
    }

    fn tell(&self, what: impl FnOnce() -> String) {
        if self.trace {
            eprintln!("{:?} {}", self.now.wall, what());
        }
    }

    fn kill(&mut self) {
        self.tell(|| "SIGKILL".to_owned());
        self.engine = None;
        self.probes.clear();
        self.void.clear();
    }

    /// What `Daemon::execute` does, up to a SIGKILL after so many commands.
    fn round(&mut self, killed_after: Option<u8>) {
        let Some(engine) = &mut self.engine else { return };
        let commands = engine.take_commands();
        let changes: Vec<Change> = commands
            .iter()
            .filter_map(
                |command| if let Command::Persist(change) = command { Some(change.clone()) } else { None },
            )
            .collect();
        let stored = !std::mem::take(&mut self.commits_fail) || changes.is_empty();
        if !stored {
            if self.trace {
                eprintln!("    cannot store {changes:?}");
            }
            engine.not_stored(&changes);
        }
        let (changes, unstored) = if stored {
            (changes, HashSet::new())
        } else {
            (Vec::new(), changes.iter().filter_map(Change::machine).collect())
        };
        let commands: Vec<Command> = commands
            .into_iter()
            .filter(|command| !matches!(command, Command::Send { told, .. } if unstored.contains(&told.mac)))
            .map(|command| match command {
                Command::PutHost(key, _) | Command::DeleteHost(key) if !stored => {
                    engine.host_of(&key).map_or(Command::DeleteHost(key), |host| Command::PutHost(key, host))
                }
                other => other,
            })
            .collect();
        for change in changes {
            if self.trace {
                eprintln!("    stores {change:?}");
            }
            match change {
                // What rests is no lease, and beside them.
                Change::Put(lease) if lease.state.is_on_hold() => {
                    self.store.remove(&lease.address);
                    self.resting.insert(lease.address, lease);
                }
                Change::Lift(address) => drop(self.resting.remove(&address)),
                Change::Put(lease) => {
                    self.resting.remove(&lease.address);
                    self.store.retain(|_, other| (other.mac, other.subnet) != (lease.mac, lease.subnet));
                    self.store.insert(lease.address, lease);
                }
                Change::Delete(mac, address) => {
                    self.store.retain(|_, lease| (lease.mac, lease.address) != (mac, address));
                }
            }
        }
        for (number, command) in commands.into_iter().enumerate() {
            if killed_after.is_some_and(|last| number >= last.into()) {
                self.kill();
                return;
            }
            match command {
                Command::Persist(_) => {}
                Command::PutHost(key, host) => {
                    self.kernel.as_mut().map(|kernel| kernel.hosts.insert(key, host));
                }
                Command::DeleteHost(key) => {
                    self.kernel.as_mut().map(|kernel| kernel.hosts.remove(&key));
                }
                Command::PutAnswer(key, answer) => {
                    self.kernel.as_mut().map(|kernel| kernel.answers.insert(key, *answer));
                }
                Command::DeleteAnswer(key) => {
                    self.kernel.as_mut().map(|kernel| kernel.answers.remove(&key));
                }
                Command::Probe { address, mac, .. } => self.probes.push_back((mac, address)),
                Command::Send { ifindex, mut frame, via, .. } => {
                    assert_eq!(ifindex, IFINDEX);
                    if let Via::Socket { to, .. } = via {
                        to_a_station(*to.ip(), &frame);
                    }
                    fix_checksums(&mut frame);
                    self.received(&frame, "the daemon");
                }
            }
        }
        self.void.clear();
    }

    /// A client gets an answer.
    fn received(&mut self, frame: &[u8], by: &str) {
        let xid = u32::from_be_bytes([frame[46], frame[47], frame[48], frame[49]]);
        let request = self.asked.get(&xid).unwrap_or_else(|| panic!("an answer to nothing: {frame:02x?}"));
        let answer = judge(frame, request, limit(request));
        let (mac, address, now) = (answer.mac, answer.address, self.now.wall);
        self.tell(|| format!("    {by} tells {mac}: type {} {address} for {:?}", answer.kind, answer.lease));
        if address.is_unspecified() || self.void.contains(&mac) {
            return;
        }
        assert!(
            config().subnets.iter().any(|subnet| subnet.cidr.contains(&address)) && address != US,
            "{address}"
        );
        self.told.insert(mac, address);
        if RECOGNISED.contains(&address) || answer.kind == 0 {
            return;
        }
        if let Some((other, until)) = self.held.get(&address)
            && *other != mac
            && *until > now
            && address != SHARED
        {
            panic!(
                "{by} gives {mac} {address}, which {other} has until {until:?}; now is {now:?} (type {})",
                answer.kind
            );
        }
        if answer.kind != 5 {
            return;
        }
        let lease = answer.lease.expect("an ACK with an address has a lease");
        let until = now + Duration::from_secs(lease.into());
        let stored = self.store.values().find(|stored| (stored.mac, stored.address) == (mac, address));
        let covered = stored.is_some_and(|stored| {
            stored.state == LeaseState::Leased
                && Duration::from_secs(u64::try_from(stored.expires).unwrap_or(0)) >= until
        });
        // The second MAC of a machine takes the row of the first: the reservation is in the configuration.
        assert!(
            covered || address == SHARED,
            "{by} promises {mac} {address} until {until:?}; stored is {stored:?}"
        );
        // What it has in another subnet it keeps.
        let is_here = |held: Ipv4Addr| held.octets()[..3] == address.octets()[..3];
        self.held.retain(|held, (other, _)| *other != mac || !is_here(*held));
        self.held.insert(address, (mac, until));
    }

    fn packet(&mut self, payload: &[u8], from: SocketAddrV4, port: u16, kill: Option<u8>) {
        let mut payload = payload.to_vec();
        if payload.len() >= 240 {
            payload[4..8].copy_from_slice(&self.next_xid.to_be_bytes());
        }
        self.asked.insert(self.next_xid, payload.clone());
        self.next_xid += 1;
        let incoming = Incoming { ifindex: IFINDEX, port, from, to: Ipv4Addr::BROADCAST, payload: &payload };
        if let Some(kernel) = &self.kernel
            && let Some(link) = kernel.links.get(&IFINDEX)
            && let Some(mut frame) = packet::frame(&incoming, link)
            && let Ok(answered) = respond(&mut frame, &mut self.scratch, kernel, IFINDEX, || self.now.nanos())
        {
            self.events.push(answered.event(&self.scratch, Hook::Xdp, IFINDEX, self.now.nanos()));
            return self.received(&frame.0, "the kernel");
        }
        if let Some(engine) = &mut self.engine {
            engine.handle(&incoming, self.now);
            self.round(kill);
        }
    }

    /// A request of a client that knows what it does, with some bytes changed.
    fn request(&mut self, case: &mut Case<'_>) {
        let (client, who, kind, place) = (*case.pick(&Client::ALL), case.byte(), case.byte(), case.byte());
        let mac = Mac([0x52, 0x54, 0, 0, 0, who % MACHINES]);
        let own = self.told.get(&mac).copied();
        let address = match who >> 4 {
            0..=9 => own.unwrap_or(Ipv4Addr::new(10, 77, 0, 100)),
            10 => Ipv4Addr::new(10, 77, 0, 99 + (kind >> 4)),
            11 => Ipv4Addr::new(10, 78, 0, 99 + (kind >> 4 & 3)),
            12 => SHARED,
            13 => RECOGNISED[usize::from(kind >> 4 & 1)],
            14 => Ipv4Addr::new(10, 77, 0, 254),
            _ => Ipv4Addr::from(u32::from(case.word()) << 16 | u32::from(case.word())),
        };
        let server = if kind & 8 == 0 { US } else { Ipv4Addr::new(10, 77, 0, 200) };
        let mut packet = match kind % 8 {
            0 => client.discover(mac),
            1 => client.request(mac, address, server),
            2 => client.reboot(mac, address),
            3 => client.renew(mac, address, server),
            4 => client.inform(mac, address, server),
            5 => client.ask_boot_server(mac, address, server),
            message => {
                let mut packet = client.request(mac, address, server);
                packet.options.retain(|(code, _)| *code != 53);
                packet.options.insert(0, (53, vec![if message == 6 { 4 } else { 7 }]));
                if message == 7 {
                    packet.ciaddr = address;
                }
                packet
            }
        };
        // The identity that stands for one machine is not on all of them.
        if place & 0x40 == 0 {
            packet.options.retain(|(code, _)| *code != 97);
        }
        let relayed = place & 3 == 3;
        if relayed {
            packet = packet.relayed(if place & 0x80 == 0 { RELAY } else { Ipv4Addr::new(10, 77, 0, 2) }, US);
            if place & 0x20 == 0 {
                packet.options.retain(|(code, _)| *code != 82);
            }
        }
        if kind % 8 >= 6 {
            self.held.retain(|_, (other, _)| *other != mac);
            self.void.insert(mac);
        }
        self.tell(|| {
            format!(
                "{mac} sends kind {}, {address}, ciaddr {}, giaddr {}",
                kind % 8,
                packet.ciaddr,
                packet.giaddr
            )
        });
        let mut payload = packet.payload();
        let patches = case.byte();
        if patches & 3 == 3 {
            // What is changed may be the place, so this client leaves where it was.
            self.held.retain(|_, (other, _)| *other != mac);
            for _ in 0..patches >> 2 & 7 {
                let at = usize::from(case.word()) % payload.len();
                payload[at] = case.byte();
            }
            if patches & 0x80 != 0 {
                payload.truncate(usize::from(case.word()) % payload.len());
            }
            let changed = payload.get(28..34).map_or(mac, |mac| Mac(mac.try_into().expect("six")));
            self.held.retain(|_, (other, _)| *other != changed);
        }
        let kill = (self.torn && case.byte() == 0xee).then(|| case.byte() % 8);
        self.packet(&payload, packet.source, packet.destination.port(), kill);
    }

    fn step(&mut self, case: &mut Case<'_>) {
        match case.byte() % 16 {
            0..=7 => self.request(case),
            8 => {
                let length = case.word() % 1500;
                let payload = case.bytes(length.into());
                if let Some(mac) = payload.get(28..34) {
                    let mac = Mac(mac.try_into().expect("six"));
                    self.held.retain(|_, (other, _)| *other != mac);
                }
                let port = if case.byte() & 1 == 0 { 67 } else { 4011 };
                self.tell(|| format!("{} bytes to port {port}: {payload:02x?}", payload.len()));
                self.packet(payload, SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68), port, None);
            }
            9 | 10 => {
                let byte = u64::from(case.byte());
                let step =
                    if byte & 1 == 0 { Duration::from_secs(byte) } else { Duration::from_millis(byte * 37) };
                self.now = Now { boot: self.now.boot + step, wall: self.now.wall + step };
                if let Some(engine) = &mut self.engine {
                    engine.tick(self.now);
                    self.round(None);
                }
            }
            11 => self.commits_fail = true,
            12 => {
                if let Some(engine) = &mut self.engine {
                    for event in self.events.drain(..) {
                        engine.kernel_answered(&event, self.now);
                    }
                    self.round(None);
                }
            }
            13 => self.kill(),
            14 => self.start(),
            _ => {
                let found = case.byte();
                let probe = self.probes.pop_front();
                self.tell(|| format!("the probe {probe:?} finds {found:#x}"));
                if let (Some(engine), Some((mac, address))) = (&mut self.engine, probe) {
                    let in_use_by = match found {
                        0xdd => Some("somebody".to_owned()),
                        // What is right only for a DECLINE.
                        0xde => Some(mac.to_string()),
                        _ => None,
                    };
                    engine.probed(mac, address, in_use_by, self.now);
                    self.round(None);
                }
            }
        }
    }
}

fn config() -> Arc<config::Config> {
    thread_local! {
        static CONFIGURED: Arc<config::Config> = Arc::new(config::parse(CONFIG, "fuzz").expect("a right configuration"));
    }
    CONFIGURED.with(Clone::clone)
}

fuzz_target!(
    init: seed("engine", || {
        let mut cases = Vec::new();
        for client in 0..8 {
            for fast_path in 0..2 {
                // DISCOVER, probe, DISCOVER, REQUEST, REQUEST; others; SIGKILL; renewal; start; renewal; release.
                let ask = |who: u8, kind: u8, place: u8| [0, client, who, kind, place, 0];
                let mut case = vec![fast_path];
                for who in [0, 2, 3, 4] {
                    case.extend(ask(who, 0, 0));
                    case.extend([15, 0]);
                    case.extend(ask(who, 1, 0));
                    case.extend(ask(who, 1, 0));
                }
                case.push(13);
                case.extend(ask(3, 2, 0));
                case.extend(ask(2, 3, 0));
                case.extend([9, 30, 14]);
                case.extend(ask(3, 3, 0));
                case.extend(ask(3, 7, 0));
                case.extend(ask(5, 0, 3));
                case.extend(ask(5, 1, 3));
                case.extend([9, 200, 11]);
                case.extend(ask(6, 0, 0));
                case.extend([15, 0]);
                case.extend(ask(6, 1, 0));
                cases.push(case);
            }
        }
        cases
    }),
    |bytes: &[u8]| {
        let mut case = Case::new(bytes);
        let mut world = World::new(case.byte() & 1 == 0);
        let mut steps = 0;
        while !case.is_over() && steps < 200 {
            world.step(&mut case);
            steps += 1;
        }
    }
);
