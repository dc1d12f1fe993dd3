use std::collections::HashMap;
use std::net::SocketAddrV4;

use boot_common::tables::{Host, HostKey};
use dhcproto::Encodable as _;
use dhcproto::v4::{DhcpOption, Message, MessageType};

use super::*;
use crate::command::{Command, Incoming};
use crate::config::{self, DhcpRole};
use crate::leases::HoldCause;
use crate::machines::Machines;
use crate::policy::{Policy, ServedLink};

const CONFIG: &str = r#"
    [[interface]]
    name = "eth1"
    [[subnet]]
    cidr = "10.1.0.0/16"
    pool = ["10.1.0.1-10.1.0.9", "10.1.1.33-10.1.1.40"]
    router = "10.1.0.1"
    probe = false
    [[subnet]]
    cidr = "10.2.0.0/24"
    pool = ["10.2.0.100-10.2.0.110"]
    [[machine]]
    mac = ["52:54:00:00:00:01", "52:54:00:00:00:02"]
    name = "node1"
    ip = "10.1.1.35"
"#;

const NOW: u64 = 1_800_000_000;
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 2);

fn machine(number: u8) -> Mac {
    Mac([0x52, 0x54, 0, 0, 0, number])
}

fn address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 1, 1, number)
}

fn entry(mac: u8, ip: u8) -> Entry {
    Entry { mac: machine(mac), address: address(ip), expires: Some(NOW + 3600), hostname: None }
}

struct Lab {
    engine: Engine,
    now: Now,
    /// The store, and what the kernel knows.
    stored: Vec<Lease>,
    hosts: HashMap<HostKey, Host>,
}

impl Lab {
    fn new(stored: Vec<Lease>) -> Self {
        let link = ServedLink {
            ifindex: 7,
            name: "eth1".into(),
            mac: Mac([2, 0, 0, 0, 0, 1]),
            addresses: vec![format!("{SERVER}/16").parse().unwrap()],
            role: DhcpRole::Server,
            http: SocketAddrV4::new(SERVER, 8080),
        };
        let config = config::parse(CONFIG, "test").unwrap();
        let machines = Machines::new(config.machines.iter().cloned()).unwrap();
        let policy = Policy::new(config, machines, vec![link], |_| Err(String::new()));
        let now = Now { boot: Duration::from_secs(1000), wall: Duration::from_secs(NOW) };
        let engine = Engine::new(policy, &stored, now);
        let mut lab = Self { engine, now, stored, hosts: HashMap::new() };
        lab.obey();
        lab
    }

    fn obey(&mut self) {
        for command in self.engine.take_commands() {
            match command {
                Command::PutHost(key, host) => drop(self.hosts.insert(key, host)),
                Command::DeleteHost(key) => drop(self.hosts.remove(&key)),
                Command::Persist(change) => self.store(&change),
                Command::Probe { mac, address, own_answer_counts, .. } => {
                    // A DECLINE is right, and nobody has a new address.
                    let in_use_by = own_answer_counts.then(|| "02:00:00:00:00:77".to_owned());
                    self.engine.probed(mac, address, in_use_by, self.now);
                    self.obey();
                }
                Command::PutAnswer(..) | Command::DeleteAnswer(_) | Command::Send { .. } => {}
            }
        }
    }

    fn store(&mut self, change: &Change) {
        match change {
            Change::Put(lease) => {
                let rests = |lease: &Lease| lease.state.is_on_hold();
                let is_elsewhere = |old: &Lease| (old.mac, old.subnet) != (lease.mac, lease.subnet);
                self.stored.retain(|old| is_elsewhere(old) || rests(old) || rests(lease));
                self.stored.retain(|old| old.address != lease.address);
                self.stored.push(lease.clone());
            }
            Change::Delete(mac, address) => {
                self.stored
                    .retain(|old| (old.mac, old.address) != (*mac, *address) || old.state.is_on_hold());
            }
            Change::Lift(address) => self.stored.retain(|old| old.address != *address),
        }
    }

    fn change(&mut self, changes: &[Change]) {
        changes.iter().for_each(|change| self.store(change));
        self.engine.change_leases(changes, self.now);
        self.obey();
    }

    fn import(&mut self, entries: &[Entry]) -> Vec<Outcome> {
        let (outcomes, changes) = self.engine.to_import(entries, self.now);
        self.change(&changes);
        outcomes
    }

    fn refused(&mut self, entry: Entry) -> String {
        match self.import(&[entry]).remove(0) {
            Outcome::Refused(why) => why,
            other => panic!("{other:?}"),
        }
    }

    fn delete(&mut self, which: &str) -> Result<Shown, Refusal> {
        let mut deleted = self.delete_all(which)?;
        let shown = deleted.pop().unwrap();
        assert!(deleted.is_empty(), "{deleted:?}");
        Ok(shown)
    }

    fn delete_all(&mut self, which: &str) -> Result<Vec<Shown>, Refusal> {
        let which = which.parse().unwrap();
        let leases = self.engine.to_delete(which, &self.stored, self.now)?;
        let (shown, changes): (_, Vec<Change>) = leases.into_iter().unzip();
        self.change(&changes);
        Ok(shown)
    }

    fn discover(&mut self, mac: Mac) {
        self.say(mac, MessageType::Discover, &[]);
    }

    /// A REQUEST of a machine that remembers its lease, and calls itself so.
    fn request(&mut self, mac: Mac, address: Ipv4Addr, name: Option<&str>) {
        let asked = DhcpOption::RequestedIpAddress(address);
        let name = name.map(|name| DhcpOption::Hostname(name.to_owned()));
        let options: Vec<DhcpOption> = [Some(asked), name].into_iter().flatten().collect();
        // The kernel half would answer while the lease is far enough ahead.
        let change = Change::Put(Lease { expires: self.now.seconds() as i64, ..self.lease_of(mac) });
        self.engine.take_commands();
        self.engine.not_stored(&[change]);
        self.say(mac, MessageType::Request, &options);
    }

    fn lease_of(&self, mac: Mac) -> Lease {
        self.stored.iter().find(|lease| lease.mac == mac).cloned().unwrap()
    }

    fn say(&mut self, mac: Mac, kind: MessageType, options: &[DhcpOption]) {
        let mut message = Message::default();
        message.set_chaddr(&mac.0);
        message.opts_mut().insert(DhcpOption::MessageType(kind));
        for option in options {
            message.opts_mut().insert(option.clone());
        }
        let payload = message.to_vec().unwrap();
        let from = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68);
        let incoming = Incoming { ifindex: 7, port: 67, from, to: Ipv4Addr::BROADCAST, payload: &payload };
        self.engine.handle(&incoming, self.now);
        self.obey();
    }

    fn list(&self) -> Vec<(Mac, Ipv4Addr, &'static str)> {
        let leases = self.engine.leases(&self.stored, self.now);
        leases.into_iter().map(|shown| (shown.mac, shown.address, shown.state.as_str())).collect()
    }

    /// What the kernel gives a machine, and until when.
    fn kernel(&self, mac: Mac) -> Option<(Ipv4Addr, u64)> {
        self.hosts.get(&HostKey::from(mac)).map(|host| (Ipv4Addr::from(host.address), host.promised_until()))
    }
}

#[test]
fn an_imported_lease_is_the_machines_here_in_the_kernel_and_after_a_restart() {
    let mut lab = Lab::new(Vec::new());
    let named = Entry { hostname: Some("old-name".to_owned()), ..entry(9, 40) };
    let escape = Entry { hostname: Some("\x1b[2J".to_owned()), ..entry(8, 39) };
    assert_eq!(lab.import(&[named.clone(), escape]), [Outcome::Imported, Outcome::Imported]);
    assert_eq!(lab.kernel(machine(9)), Some((address(40), 4599 * 1_000_000_000)));
    assert_eq!(lab.import(&[named]), [Outcome::Unchanged]);
    let names: Vec<_> = lab.engine.leases(&lab.stored, lab.now).into_iter().map(|shown| shown.name).collect();
    assert_eq!(
        names,
        [Some("node1".to_owned()), Some("node1".to_owned()), None, Some("old-name".to_owned())]
    );
    let again = Lab::new(lab.stored.clone());
    assert_eq!(again.list(), lab.list());
    assert_eq!(again.kernel(machine(9)), lab.kernel(machine(9)));
    lab.discover(machine(9));
    assert_eq!(lab.kernel(machine(9)).unwrap().0, address(40));
}

#[test]
fn an_imported_name_stays_until_the_machine_says_another() {
    let mut lab = Lab::new(Vec::new());
    let named = Entry { hostname: Some("old-name".to_owned()), expires: Some(NOW + 900), ..entry(9, 40) };
    lab.import(&[named, entry(1, 35)]);
    lab.request(machine(9), address(40), None);
    let stored = |lab: &Lab, mac| lab.lease_of(machine(mac)).hostname;
    assert_eq!(stored(&lab, 9).as_deref(), Some("old-name"));
    assert_eq!(
        lab.lease_of(machine(9)).expires,
        NOW as i64 + 1200,
        "this is the daemon's ACK, not the import"
    );

    let mut lab = Lab::new(lab.stored.clone());
    lab.request(machine(9), address(40), Some("\x1b[2J"));
    assert_eq!(stored(&lab, 9).as_deref(), Some("old-name"), "that is no name");
    lab.request(machine(9), address(40), Some("new-name"));
    assert_eq!(stored(&lab, 9).as_deref(), Some("new-name"));
    lab.request(machine(9), address(40), None);
    assert_eq!(stored(&lab, 9).as_deref(), Some("new-name"));
    lab.request(machine(1), address(35), Some("other"));
    assert_eq!(stored(&lab, 1).as_deref(), Some("node1"), "the configuration's goes first");

    lab.delete("10.1.1.40").unwrap();
    lab.import(&[entry(9, 40)]);
    lab.request(machine(9), address(40), None);
    assert_eq!(stored(&lab, 9), None, "what is deleted is forgotten");
}

#[test]
fn leases_without_an_end_outlast_a_restart() {
    let mut lab = Lab::new(Vec::new());
    assert_eq!(lab.import(&[Entry { expires: Some(0), ..entry(9, 40) }]), [Outcome::Imported]);
    assert_eq!(lab.import(&[Entry { expires: Some(u64::MAX), ..entry(8, 39) }]), [Outcome::Imported]);
    let again = Lab::new(lab.stored.clone());
    for mac in [machine(8), machine(9)] {
        assert!(again.kernel(mac).unwrap().1 > FOREVER.as_secs() * 1_000_000_000);
    }
}

#[test]
fn what_cannot_be_is_refused_with_the_reason() {
    let mut lab = Lab::new(Vec::new());
    lab.import(&[entry(9, 40)]);
    let at = |mac: u8, ip: [u8; 4]| Entry { address: ip.into(), ..entry(mac, 0) };
    for (entry, reason) in [
        (at(8, [192, 168, 1, 1]), "192.168.1.1 is in no [[subnet]]"),
        (at(8, [10, 1, 9, 9]), "in no pool of 10.1.0.0/16"),
        (at(8, [10, 1, 0, 1]), "the router's"),
        (at(8, [10, 1, 0, 2]), "the server's"),
        (entry(8, 35), "10.1.1.35 is reserved for node1"),
        (entry(1, 36), "has 10.1.1.35 for 52:54:00:00:00:01"),
        (entry(8, 40), "10.1.1.40 is 52:54:00:00:00:09's"),
        (entry(9, 39), "has 10.1.1.40 by a lease that still runs"),
        (Entry { mac: Mac([1, 0, 0, 0, 0, 1]), ..entry(8, 39) }, "no machine's address"),
    ] {
        let why = lab.refused(entry.clone());
        assert!(why.contains(reason), "{entry:?}: {why}");
    }
    let outcomes = lab.import(&[entry(7, 38), entry(6, 38), entry(7, 37)]);
    assert_eq!(outcomes[0], Outcome::Imported);
    assert!(matches!(&outcomes[1], Outcome::Refused(why) if why == "10.1.1.38 is in the list twice"));
    assert!(
        matches!(&outcomes[2], Outcome::Refused(why) if why == "52:54:00:00:00:07 is in the list twice for one subnet")
    );
    assert_eq!(lab.stored.len(), 2);
}

#[test]
fn an_idle_machine_gives_way_and_an_ended_lease_does_not_push() {
    let mut lab = Lab::new(Vec::new());
    let ended = |mac: u8, ip: u8| Entry { expires: Some(NOW - 1), ..entry(mac, ip) };
    assert_eq!(lab.import(&[ended(9, 40)]), [Outcome::Imported]);
    assert_eq!(lab.list()[2], (machine(9), address(40), "released"));
    assert!(lab.refused(ended(8, 40)).contains("10.1.1.40 is 52:54:00:00:00:09's"));
    assert_eq!(lab.import(&[entry(8, 40)]), [Outcome::Imported]);
    assert_eq!((lab.kernel(machine(9)), lab.kernel(machine(8)).unwrap().0), (None, address(40)));
    assert_eq!(lab.stored.len(), 1);
}

#[test]
fn the_machines_of_a_reservation_get_a_promise_and_stay_reserved() {
    let mut lab = Lab::new(Vec::new());
    assert_eq!(lab.import(&[entry(1, 35), entry(2, 35)]), [Outcome::Imported, Outcome::Imported]);
    assert_eq!(lab.kernel(machine(2)).unwrap(), (address(35), u64::MAX));
    assert_eq!(lab.engine.host_of(&machine(2).into()).unwrap().durable_until, 4599 * 1_000_000_000);
    assert!(lab.list().iter().all(|(_, ip, state)| *ip == address(35) && *state == "reserved"));
    let without_end = Entry { expires: None, ..entry(1, 35) };
    assert_eq!(lab.import(&[without_end]), [Outcome::Unchanged]);
}

#[test]
fn a_deleted_lease_is_gone_from_everywhere() {
    let mut lab = Lab::new(Vec::new());
    lab.import(&[entry(9, 40), entry(8, 39)]);
    assert_eq!(lab.delete("10.1.1.40").unwrap().mac, machine(9));
    assert_eq!(lab.delete("52-54-00-00-00-08").unwrap().address, address(39));
    assert_eq!((lab.kernel(machine(9)), lab.kernel(machine(8))), (None, None));
    assert!(lab.stored.is_empty());
    let unknown = lab.delete("10.1.1.40").unwrap_err().to_string();
    assert!(unknown.starts_with("10.1.1.40 has no lease"), "{unknown}");
    let reserved = lab.delete("52:54:00:00:00:02").unwrap_err().to_string();
    assert!(reserved.contains("reserved for node1") && reserved.contains("configuration file"), "{reserved}");
    assert_eq!(lab.kernel(machine(2)).unwrap().0, address(35), "and kept");
}

#[test]
fn an_offer_is_shown_and_can_be_taken_back() {
    let mut lab = Lab::new(Vec::new());
    lab.discover(machine(9));
    let offered = lab.list().into_iter().find(|(mac, ..)| *mac == machine(9)).unwrap();
    assert_eq!(offered.2, "offered");
    assert!(lab.refused(Entry { address: offered.1, ..entry(8, 0) }).contains("52:54:00:00:00:09's"));
    lab.delete("52:54:00:00:00:09").unwrap();
    assert_eq!(lab.kernel(machine(9)), None);
}

#[test]
fn what_no_longer_fits_the_configuration_is_shown_and_can_be_deleted() {
    let old = Lease {
        mac: machine(9),
        address: Ipv4Addr::new(172, 16, 0, 9),
        subnet: "172.16.0.0/24".parse().unwrap(),
        state: LeaseState::Leased,
        expires: i64::try_from(NOW).unwrap() + 60,
        hostname: None,
        recognised_by: None,
        updated: 0,
    };
    let mut lab = Lab::new(vec![old.clone()]);
    assert_eq!(lab.list().last().unwrap(), &(old.mac, old.address, "released"));
    lab.delete("172.16.0.9").unwrap();
    assert!(lab.stored.is_empty());
}

#[test]
fn a_lease_is_named_by_a_mac_or_an_address() {
    assert_eq!("10.1.1.40".parse(), Ok(Which::Address(address(40))));
    assert_eq!("525400000009".parse(), Ok(Which::Mac(machine(9))));
    let wrong = "node1".parse::<Which>().unwrap_err().to_string();
    assert!(wrong.contains("\"node1\" is neither a MAC nor an IPv4 address"), "{wrong}");
}

#[test]
fn what_rests_is_listed_and_lifted_by_its_address() {
    let mut lab = Lab::new(Vec::new());
    lab.discover(machine(7));
    let first = lab.engine.bindings.get(machine(7), 0).unwrap().address;
    let options = [DhcpOption::RequestedIpAddress(first), DhcpOption::ServerIdentifier(SERVER)];
    lab.say(machine(7), MessageType::Decline, &options);
    lab.discover(machine(7));
    let second = lab.engine.bindings.get(machine(7), 0).unwrap().address;
    assert_ne!(first, second);
    let states = |lab: &Lab| -> Vec<(Ipv4Addr, LeaseState, Option<u64>)> {
        let leases = lab.engine.leases(&lab.stored, lab.now).into_iter();
        leases
            .filter(|shown| shown.mac == machine(7))
            .map(|shown| (shown.address, shown.state, shown.expires))
            .collect()
    };
    let resting = (first, LeaseState::OnHold(HoldCause::Declined), Some(NOW + 600));
    assert_eq!(states(&lab), [resting, (second, LeaseState::Offered, Some(NOW + 90))]);
    let mut lab = Lab::new(lab.stored);
    assert_eq!(states(&lab), [resting], "over a restart");
    lab.discover(machine(8));
    assert_eq!(lab.engine.bindings.get(machine(8), 0).unwrap().address, second);

    // By the machine its own lease is meant first.
    lab.discover(machine(7));
    assert_ne!(lab.delete(&machine(7).to_string()).unwrap().address, first);
    assert_eq!(lab.delete(&first.to_string()).unwrap().state, LeaseState::OnHold(HoldCause::Declined));
    assert_eq!((states(&lab), lab.stored.len()), (Vec::new(), 0));
    assert!(matches!(lab.delete(&first.to_string()), Err(Refusal::Unknown(_))));
    // More machines than addresses.
    for last in 10..30 {
        lab.discover(machine(last));
    }
    assert!(lab.engine.bindings.owner(first).is_some(), "given out again");
}
