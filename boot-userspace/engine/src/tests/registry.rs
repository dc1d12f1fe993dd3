//! Machines of the registry, which are added, changed and removed while machines are served.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use boot_agent_protocol::{Inventory, Nic};
use boot_common::tables::{Host, IGNORED_SET};

use super::*;
use crate::config::Machine;
use crate::lifecycle::State;
use crate::machines::{ChangeError, Life, MachineId};

fn life(state: State) -> Life {
    let (says, is_written, is_overdue, is_unserved) = ("a test".into(), false, false, false);
    let (record, since, run, heard, is_chosen) = (1, 0, 0, 0, false);
    Life { record, state, says, is_written, since, is_overdue, run, is_unserved, heard, is_chosen }
}

fn machine(name: &str, mac: Mac, ip: Option<&str>) -> Machine {
    let ip = ip.map(|ip| ip.parse().unwrap());
    Machine { name: Some(name.to_owned()), macs: vec![mac], ip, ..Machine::default() }
}

impl Lab {
    pub(super) fn put(&mut self, id: Option<MachineId>, machine: &Machine, state: State) -> MachineId {
        self.engine.put_machine(id, Arc::new(machine.clone()), life(state), self.now).unwrap()
    }

    fn hosts(&self) -> BTreeMap<Mac, Host> {
        self.engine.entries.hosts().map(|(mac, host)| (mac, *host)).collect()
    }
}

#[test]
fn an_ignored_machine_gets_no_answer_until_it_is_ignored_no_longer() {
    for role in [DhcpRole::Server, DhcpRole::Proxy] {
        let mut lab = Lab::with_leases(CONFIG, &[], role);
        let ask = pxe(discover(UNKNOWN), 7, "PXEClient:Arch:00007:UNDI:003016");
        assert!(lab.send(&ask).is_some(), "{role:?}");
        let ignored = machine("guest", UNKNOWN, None);
        let id = lab.put(None, &ignored, State::Ignored);
        let told = lab.engine.take_commands();
        assert!(
            matches!(&told[..], [Command::PutHost(key, host)]
                if key.mac == UNKNOWN && host.answer_set == IGNORED_SET && host.address == [0; 4]),
            "{role:?}: {told:?}"
        );
        let before = lab.engine.counter(Reason::Ignored);
        assert!(lab.send(&ask).is_none());
        assert_eq!(lab.engine.counter(Reason::Ignored), before + 1, "{role:?}");
        lab.put(Some(id), &ignored, State::Discovered);
        let reply = lab.send(&ask).expect("an answer again");
        if role == DhcpRole::Server {
            assert_eq!(reply.message.yiaddr(), Ipv4Addr::new(10, 1, 1, 33), "the address that it had");
        }
        lab.put(Some(id), &ignored, State::Ignored);
        lab.engine.remove_machine(id, lab.now);
        assert!(lab.send(&ask).is_some(), "{role:?}: it is an unknown machine again");
    }
}

#[test]
fn a_machine_that_is_known_by_its_uuid_is_ignored_from_its_first_word() {
    let mut lab = Lab::new(CONFIG);
    let uuid = [0x4c; 16];
    let ignored = Machine { uuid: Some(uuid), name: Some("guest".to_owned()), ..Machine::default() };
    let mut ask = pxe(discover(UNKNOWN), 7, "PXEClient:Arch:00007:UNDI:003016");
    assert!(lab.send(&ask).is_some());
    let id = lab.put(None, &ignored, State::Ignored);
    let guid = [&[0][..], &uuid].concat();
    ask.opts_mut().insert(DhcpOption::ClientMachineIdentifier(guid));
    assert!(lab.send(&ask).is_none());
    assert_eq!(lab.engine.counter(Reason::Ignored), 1);
    assert_eq!(
        lab.hosts().get(&UNKNOWN).map(|host| host.answer_set),
        Some(IGNORED_SET),
        "in the kernel from now on"
    );
    lab.put(Some(id), &ignored, State::Ready);
    assert!(lab.send(&ask).is_some());
}

/// What DHCP answers follows the inventory, as the kernel half is told at once.
#[test]
fn a_group_by_inventory_is_a_machines_from_its_report_on() {
    let group = "[[group]]\nname = \"big\"\nmatch = { memory = \">= 256G\", nics = \"mlx5\" }\n\
        options = [{ code = 67, text = \"big.efi\" }]\n";
    let mut lab = Lab::new(&format!("{CONFIG}{group}"));
    let ask = pxe(discover(OTHER), 7, "PXEClient:Arch:00007:UNDI:003016");
    let file = |lab: &mut Lab| match lab.send(&ask).expect("an offer").option(OptionCode::BootfileName) {
        Some(DhcpOption::BootfileName(name)) => {
            String::from_utf8_lossy(name).trim_end_matches('\0').to_owned()
        }
        other => panic!("{other:?}"),
    };
    let plain = machine("node", OTHER, Some("10.1.1.60"));
    let id = lab.put(None, &plain, State::Ready);
    assert_eq!(file(&mut lab), "snponly.efi", "nobody has reported");
    let set = lab.hosts()[&OTHER].answer_set;
    let nic = Nic { driver: "mlx5_core".to_owned(), ..Nic::default() };
    let reported = |memory: u64| {
        let inventory = Inventory { memory: memory << 30, nics: vec![nic.clone()], ..Inventory::default() };
        Machine { inventory: Some(Arc::new(inventory)), ..plain.clone() }
    };
    lab.put(Some(id), &reported(128), State::Ready);
    assert_eq!((file(&mut lab).as_str(), lab.hosts()[&OTHER].answer_set), ("snponly.efi", set), "too little");
    lab.engine.take_commands();
    lab.put(Some(id), &reported(256), State::Ready);
    let told = lab.engine.take_commands();
    let is_entry = |command: &Command| matches!(command, Command::PutHost(key, host) if key.mac == OTHER && host.answer_set != set);
    assert!(told.iter().any(is_entry), "{told:?}");
    assert_eq!(file(&mut lab), "big.efi");
    lab.put(Some(id), &plain, State::Ready);
    assert_eq!((file(&mut lab).as_str(), lab.hosts()[&OTHER].answer_set), ("snponly.efi", set));
}

/// The tables after changes one by one are those of a start with all of them in the configuration.
#[test]
fn a_change_makes_of_the_tables_what_a_start_would() {
    let mut lab = Lab::new(CONFIG);
    lab.leased(UNKNOWN);
    let first = lab.put(None, &machine("a", OTHER, Some("10.1.1.60")), State::Running);
    let second = lab.put(None, &machine("b", UNKNOWN, Some("10.1.1.61")), State::Running);
    // What it was promised it keeps until it asks anew.
    assert!(lab.send(&renewal(UNKNOWN, Ipv4Addr::new(10, 1, 1, 33))).is_some());
    lab.put(Some(first), &machine("c", OTHER, Some("10.1.1.62")), State::Running);
    assert_eq!(lab.offered(OTHER), Ipv4Addr::new(10, 1, 1, 62));
    lab.put(Some(first), &machine("c", OTHER, Some("10.1.1.60")), State::Running);
    lab.engine.remove_machine(second, lab.now);
    let wanted = format!("{CONFIG}[[machine]]\nmac = \"{OTHER}\"\nname = \"c\"\nip = \"10.1.1.60\"\n");
    let fresh = Lab::new(&wanted);
    let (now, then) = (lab.hosts(), fresh.hosts());
    assert_eq!(now.get(&OTHER), then.get(&OTHER));
    assert_eq!(now.get(&NODE1), then.get(&NODE1));
    assert_eq!(lab.offered(OTHER), Ipv4Addr::new(10, 1, 1, 60));
    assert_eq!(lab.offered(UNKNOWN), Ipv4Addr::new(10, 1, 1, 33));
}

#[test]
fn a_machine_waits_for_an_address_that_was_promised_to_one_that_has_another_now() {
    let mut lab = Lab::new(CONFIG);
    let address = lab.leased(UNKNOWN);
    lab.put(None, &machine("a", UNKNOWN, Some("10.1.1.61")), State::Running);
    // From then on the configuration has its way, and the address rests.
    lab.later(OFFER_HOLDS + 1);
    lab.put(None, &machine("b", OTHER, Some(&address.to_string())), State::Running);
    assert_ne!(lab.offered(OTHER), address, "two machines with one address");
    lab.later(1200);
    assert_eq!(lab.offered(OTHER), address, "the promise is over");
}

#[test]
fn the_configuration_goes_before_the_registry() {
    let mut lab = Lab::new(CONFIG);
    let taken =
        lab.engine.put_machine(None, Arc::new(machine("x", NODE1, None)), life(State::Ready), lab.now);
    assert!(matches!(taken, Err(ChangeError::Conflict(_))), "{taken:?}");
    let kept = lab.put(None, &machine("kept", OTHER, None), State::Ready);
    let second = Mac([2, 0, 0, 0, 0, 0x77]);
    let moved = machine("moved", UNKNOWN, None);
    let moved = Machine { macs: vec![UNKNOWN, second], ..moved };
    let shadowed = lab.put(None, &moved, State::Ready);
    let text = format!("{CONFIG}[[machine]]\nmac = \"{UNKNOWN}\"\nname = \"from-file\"\n");
    let config = Arc::new(config::parse(&text, "test").unwrap());
    lab.engine.reload(config, crate::policy::loaders(|_| Ok("snponly.efi".to_owned())), &[], lab.now);
    assert_eq!(lab.engine.machines.life(kept), Some(life(State::Ready)), "a reload leaves it alone");
    let left = lab.engine.machines.get(shadowed).unwrap();
    assert_eq!(left.macs, [second], "the other card is no unknown machine's");
    assert!(lab.engine.machines.life(shadowed).unwrap().is_unserved);
    let known = lab.engine.machines.by_mac(UNKNOWN).unwrap();
    assert_eq!((known.machine.name.as_deref(), known.life), (Some("from-file"), None));
}

/// Work is counted, and time is not looked at closely: where 100,000 machines are looked through, a change takes
/// thousands of times as long.
#[test]
fn what_a_change_costs_does_not_depend_on_how_many_machines_there_are() {
    let mut costs = Vec::new();
    for many in [100u32, 20_000] {
        let mut lab = Lab::new(&CONFIG.replace("10.1.1.33-10.1.1.34", "10.1.128.0-10.1.255.254"));
        let each = |number: u32| {
            let [_, b, c, d] = number.to_be_bytes();
            let mac = Mac([6, 0, 0, b, c, d]);
            machine(&format!("n{number}"), mac, Some(&Ipv4Addr::from(0x0a01_0200 + number).to_string()))
        };
        let ids: Vec<MachineId> =
            (0..many).map(|number| lab.put(None, &each(number), State::Running)).collect();
        lab.engine.take_commands();
        let start = Instant::now();
        let mut told = 0;
        for number in 0..100 {
            lab.put(Some(ids[number as usize]), &each(number), State::Ignored);
            told += lab.engine.take_commands().len();
        }
        costs.push((told, start.elapsed()));
    }
    let [(few, short), (many, long)] = costs[..] else { panic!() };
    assert_eq!((few, many), (100, 100), "one entry each");
    assert!(long < short * 20, "{short:?} among 100, {long:?} among 20,000");
}
