mod million;
mod model;

use super::*;
use crate::config::{RelayPort, in_either_order};

const CARD: Mac = Mac([2, 0, 0, 0, 0, 1]);
const UUID: [u8; 16] = [0x4c; 16];
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(10, 1, 1, 9);

fn machine(name: &str) -> Machine {
    Machine {
        macs: Vec::new(),
        uuid: None,
        serial: None,
        relay_port: None,
        name: Some(name.to_owned()),
        ip: None,
        profile: None,
        args: String::new(),
        documents: None,
        labels: std::collections::BTreeMap::new(),
        boot_file: None,
        options: Vec::new(),
        bmc: None,
        image: None,
        inventory: None,
    }
}

fn with_macs(name: &str, macs: &[Mac]) -> Machine {
    Machine { macs: macs.to_vec(), ..machine(name) }
}

fn with_uuid(name: &str, uuid: [u8; 16]) -> Machine {
    Machine { uuid: Some(uuid), ..machine(name) }
}

fn at_port(name: &str, circuit_id: &str, remote_id: Option<&str>) -> Machine {
    let bytes = |text: &str| text.as_bytes().to_vec();
    let port = RelayPort { circuit_id: bytes(circuit_id), remote_id: remote_id.map(bytes) };
    Machine { relay_port: Some(port), ..machine(name) }
}

fn add(machines: &Machines, machine: Machine) -> MachineId {
    machines.add(Arc::new(machine)).unwrap()
}

fn show_uuid(machines: &Machines, mac: Mac, uuid: [u8; 16]) -> bool {
    machines.recognise(mac, Identities { uuid: Some(uuid), switch_port: None }, 0)
}

fn show_port(machines: &Machines, mac: Mac, circuit: &str, remote: Option<&str>, now: u64) -> bool {
    let switch_port = Some((circuit.as_bytes(), remote.map(str::as_bytes)));
    machines.recognise(mac, Identities { uuid: None, switch_port }, now)
}

fn name(machines: &Machines, mac: Mac) -> Option<String> {
    machines.client(mac).name
}

/// Two machines that exchange what only one can have, which one after the other they could not.
#[test]
fn machines_are_replaced_all_at_once() {
    let at = |name, mac, last| Machine { ip: Some(Ipv4Addr::new(10, 1, 1, last)), ..with_macs(name, &[mac]) };
    let [one, two, three] = [1, 2, 3].map(|last| Mac([2, 0, 0, 0, 1, last]));
    let machines = Machines::default();
    let first = add(&machines, at("node1", one, 1));
    let second = add(&machines, at("node2", two, 2));
    let third = add(&machines, with_uuid("node3", UUID));
    let fourth = add(&machines, with_macs("node4", &[CARD]));
    show_uuid(&machines, three, UUID);
    let list = |list: Vec<Machine>| list.into_iter().map(Arc::new).collect::<Vec<_>>();
    let same = list(vec![
        at("node1", one, 1),
        at("node2", two, 2),
        with_uuid("node3", UUID),
        with_macs("node4", &[CARD]),
    ]);
    assert_eq!(machines.replace(&same), Replaced::default());
    assert_eq!(machines.recognised(three), Some(third), "nobody has changed");

    let replaced =
        machines.replace(&list(vec![at("node1", one, 2), at("node2", two, 1), at("new", three, 3)]));
    assert_eq!(
        replaced.touched,
        [one, two, three]
            .into_iter()
            .chain([CARD])
            .collect::<std::collections::BTreeSet<_>>()
            .into_iter()
            .collect::<Vec<_>>()
    );
    let mut changed = replaced.changed;
    changed.sort_unstable();
    assert_eq!(changed, [first, second], "they are who they were");
    let owner = |last| machines.by_reserved(Ipv4Addr::new(10, 1, 1, last)).map(|known| known.id);
    assert_eq!((owner(1), owner(2)), (Some(second), Some(first)));
    assert_eq!((machines.get(third), machines.get(fourth)), (None, None));
    assert_eq!(machines.recognised(three), None, "it is a machine of its own now");
    assert_eq!(name(&machines, three).as_deref(), Some("new"));
    assert_eq!(name(&machines, CARD), None);

    // A new card: its name says that it is the same.
    let replaced =
        machines.replace(&list(vec![at("node1", CARD, 2), at("node2", two, 1), at("new", three, 3)]));
    assert_eq!(replaced.changed, [first]);
    assert_eq!(machines.by_mac(CARD).map(|known| known.id), Some(first));
    assert_eq!(machines.by_mac(one), None);
}

#[test]
fn two_machines_with_one_identity_are_an_error_that_names_both() {
    let machines = Machines::default();
    let address = |name, last| Machine { ip: Some(Ipv4Addr::new(10, 1, 1, last)), ..machine(name) };
    let swapped = [[0x4c; 15].as_slice(), &[1]].concat().try_into().unwrap();
    let first = add(&machines, with_macs("node1", &[CARD]));
    add(&machines, with_uuid("node2", [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]));
    add(&machines, at_port("node3", "eth1/7", Some("sw1")));
    add(&machines, at_port("node4", "eth1/8", None));
    add(&machines, address("node5", 1));
    for (other, why) in [
        (
            with_macs("new", &[Mac([2; 6]), CARD]),
            "new cannot have the MAC address 02:00:00:00:00:01: it is node1's; remove it from one of them",
        ),
        (
            with_uuid("new", [4, 3, 2, 1, 6, 5, 8, 7, 9, 10, 11, 12, 13, 14, 15, 16]),
            "new cannot have the UUID 04030201-0605-0807-090a-0b0c0d0e0f10: it is node2's; remove it from one of them",
        ),
        (
            at_port("new", "eth1/7", Some("sw1")),
            "new cannot have the switch port \"eth1/7\" of \"sw1\": it is node3's; remove it from one of them",
        ),
        (
            at_port("new", "eth1/7", None),
            "new cannot have the switch port \"eth1/7\": it is node3's; remove it from one of them",
        ),
        (
            at_port("new", "eth1/8", Some("sw1")),
            "new cannot have the switch port \"eth1/8\" of \"sw1\": it is node4's; remove it from one of them",
        ),
        (
            address("new", 1),
            "new cannot have the address 10.1.1.1: it is node5's; remove it from one of them",
        ),
    ] {
        assert_eq!(machines.add(Arc::new(other)).unwrap_err().to_string(), why);
    }
    let nameless = Machine { name: None, ..with_macs("", &[Mac([2; 6]), CARD]) };
    let conflict = machines.add(Arc::new(nameless)).unwrap_err();
    assert_eq!(
        (conflict.machine.as_str(), conflict.other_id),
        ("the machine with the MAC address 02:02:02:02:02:02", first)
    );
    assert_eq!(machines.all().len(), 5, "what is in conflict is not there");
    // What fits beside them.
    add(&machines, at_port("node6", "eth1/7", Some("sw2")));
    add(&machines, with_uuid("node7", swapped));
    // A change that cannot be leaves everything as it was.
    let change = machines.change(first, Arc::new(with_uuid("node1", swapped)));
    assert!(matches!(change, Err(ChangeError::Conflict(_))), "{change:?}");
    assert_eq!(name(&machines, CARD).as_deref(), Some("node1"));
}

#[test]
fn a_machine_stays_the_same_one_whatever_becomes_of_others() {
    let machines = Machines::default();
    let [a, b, c] = [1, 2, 3].map(|last| Mac([2, 0, 0, 0, 0, last]));
    let first = add(&machines, with_macs("first", &[a]));
    let second = add(&machines, with_macs("second", &[b]));
    assert_eq!(machines.remove(first), Some(vec![a]));
    assert_eq!(machines.by_mac(b).map(|known| known.id), Some(second));
    let third = add(&machines, with_macs("third", &[a]));
    assert_ne!(third, first, "no id is given twice");
    assert_eq!(machines.change(second, Arc::new(with_macs("second", &[c]))), Ok(vec![b, c]));
    let known = machines.by_mac(c).unwrap();
    assert_eq!((known.id, machines.by_mac(b)), (second, None));
    assert_eq!(machines.get(second), Some(known.machine));
    assert_eq!(machines.change(first, Arc::new(machine("first"))), Err(ChangeError::Gone));
    assert_eq!((machines.remove(first), machines.get(first)), (None, None));
    assert_eq!(machines.all().iter().map(|known| known.id).collect::<Vec<_>>(), [second, third]);
}

#[test]
fn what_a_card_was_recognised_as_goes_with_the_identity_that_it_showed() {
    let machines = Machines::default();
    let [by_uuid, by_port] = [1, 2].map(|last| Mac([6, 0, 0, 0, 0, last]));
    let whole = Machine { uuid: Some(UUID), ..at_port("node1", "eth1/7", None) };
    let id = add(&machines, whole.clone());
    assert!(show_uuid(&machines, by_uuid, UUID));
    assert!(show_port(&machines, by_port, "eth1/7", Some("any"), 0));
    let names = || [by_uuid, by_port].map(|mac| name(&machines, mac));
    assert_eq!(names(), [Some("node1".to_owned()), Some("node1".to_owned())]);
    let renamed = Machine { name: Some("node2".to_owned()), ..whole.clone() };
    assert_eq!(machines.change(id, Arc::new(renamed)), Ok(vec![by_uuid, by_port]), "both are touched");
    assert_eq!(names(), [Some("node2".to_owned()), Some("node2".to_owned())]);
    let moved = Machine { uuid: Some(UUID), ..at_port("node2", "eth1/8", None) };
    machines.change(id, Arc::new(moved)).unwrap();
    assert_eq!(names(), [Some("node2".to_owned()), None], "nobody is at the port any more");
    let another = add(&machines, with_macs("node3", &[by_uuid]));
    assert_eq!(
        (machines.by_mac(by_uuid).map(|known| known.id), machines.recognised(by_uuid)),
        (Some(another), None)
    );
    assert!(!show_uuid(&machines, by_uuid, UUID), "its MAC is the configured one");
    machines.remove(another);
    assert!(show_uuid(&machines, by_uuid, UUID));
    assert_eq!(machines.remove(id), Some(vec![by_uuid]));
    assert_eq!((names(), machines.count_recognised()), ([None, None], 0));
}

#[test]
fn what_is_stored_of_a_recognised_card_is_enough_after_a_restart() {
    let configured = [at_port("slot", "eth1/7", Some("sw1")), with_uuid("board", UUID)];
    let before = Machines::new(configured.clone().map(Arc::new)).unwrap();
    let [board, slot, unknown] = [1, 2, 3].map(|last| Mac([6, 0, 0, 0, 0, last]));
    show_uuid(&before, board, in_either_order(UUID));
    show_port(&before, slot, "eth1/7", Some("sw1"), 0);
    assert_eq!(before.recognised_by(unknown), None);
    let stored = [board, slot].map(|mac| (mac, before.recognised_by(mac).unwrap()));
    // Other names in another order.
    let [port, uuid] = configured;
    let edited = [with_macs("new", &[CARD]), Machine { name: Some("board9".to_owned()), ..uuid }];
    let after = Machines::new(edited.map(Arc::new)).unwrap();
    for (mac, identity) in &stored {
        after.remember(*mac, identity);
    }
    assert_eq!([board, slot].map(|mac| name(&after, mac)), [Some("board9".to_owned()), None]);
    add(&after, port);
    for (mac, identity) in &stored {
        after.remember(*mac, identity);
    }
    assert_eq!(name(&after, slot).as_deref(), Some("slot"));
    // It was at that port, so that another one says where it is now.
    assert!(
        show_port(&after, slot, "eth1/8", Some("sw1"), 100)
            || show_port(&after, slot, "eth1/8", Some("sw1"), 106)
    );
    assert_eq!(name(&after, slot), None);
    after.remember(CARD, &Identity::Uuid(UUID));
    assert_eq!(name(&after, CARD).as_deref(), Some("new"), "it is configured now");
}

#[test]
fn addresses_lead_to_machines_and_their_names() {
    let machines = Machines::default();
    let home = Ipv4Addr::new(10, 1, 1, 33);
    assert!(!machines.is_client(CARD));
    machines.know(CARD);
    assert!(machines.is_client(CARD));
    assert_eq!(machines.client_at(home), None);
    machines.put(home, CARD);
    let client = |name: Option<&str>| Some(Client { mac: CARD, name: name.map(str::to_owned) });
    assert_eq!(machines.client_at(home), client(None));
    let id = add(&machines, with_macs("node1", &[CARD]));
    assert_eq!(machines.client_at(home), client(Some("node1")));
    assert_eq!(machines.client_at("fe80::1".parse::<IpAddr>().unwrap()), None);
    machines.change(id, Arc::new(with_macs("rack1-node1", &[CARD]))).unwrap();
    assert_eq!(machines.client_at(home), client(Some("rack1-node1")));
    machines.remove(id);
    assert_eq!(machines.client_at(home), client(None));
    assert!(add(&machines, with_macs("node2", &[Mac([2; 6])])) > id);
    assert!(machines.is_client(Mac([2; 6])), "configured, though it never asked");
}

#[test]
fn a_machine_is_told_from_who_asks_in_its_name() {
    let machines = Machines::default();
    let [card, other_card, recognised] = [1, 2, 3].map(|last| Mac([2, 0, 0, 0, 0, last]));
    let [home, other_home, third] = [1, 2, 3].map(|last| Ipv4Addr::new(10, 1, 1, last));
    let id = add(&machines, Machine { uuid: Some(UUID), ..with_macs("node1", &[card, other_card]) });
    let another = |asker: Ipv4Addr| {
        let asker = machines.asker(asker.into(), Some(card), None);
        assert_eq!(asker.known.map(|known| known.id), Some(id));
        asker.elsewhere
    };
    assert_eq!(another(ELSEWHERE), None, "it has no address yet");
    machines.put(home, card);
    assert_eq!((another(home), another(ELSEWHERE)), (None, Some(home)));
    let ipv6 = machines.asker("fe80::1".parse().unwrap(), Some(card), None);
    assert_eq!((ipv6.elsewhere, ipv6.client), (Some(home), None), "by another way");
    // Each card and each network has an address of its own.
    machines.put(other_home, card);
    machines.put(third, other_card);
    assert_eq!([home, other_home, third].map(another), [None; 3]);
    assert!(another(ELSEWHERE).is_some());
    // By another identity than its MAC.
    machines.put(ELSEWHERE, recognised);
    assert!(another(ELSEWHERE).is_some());
    assert!(show_uuid(&machines, recognised, UUID));
    assert_eq!(another(ELSEWHERE), None);
    // An address that another machine has got is not its any more.
    let unknown = Mac([2, 0, 0, 0, 0, 9]);
    for address in [home, other_home, third, ELSEWHERE] {
        machines.put(address, unknown);
    }
    assert_eq!([home, ELSEWHERE].map(another), [None; 2], "nothing is known");
}

#[test]
fn one_look_up_tells_all_that_a_request_needs() {
    let machines = Machines::default();
    let [card, recognised] = [1, 3].map(|last| Mac([2, 0, 0, 0, 0, last]));
    let home = Ipv4Addr::new(10, 1, 1, 1);
    let first = add(&machines, with_macs("first", &[card]));
    let second = add(&machines, with_uuid("second", UUID));
    machines.put(home, card);
    machines.put(ELSEWHERE, recognised);
    let find = |from: Ipv4Addr, mac, uuid| {
        let Asker { client, known, elsewhere, .. } = machines.asker(from.into(), mac, uuid);
        (client.map(|client| client.mac), known.map(|known| known.id), elsewhere)
    };
    assert_eq!(find(home, None, None), (Some(card), Some(first), None), "by its address");
    assert_eq!(find(ELSEWHERE, Some(card), None), (Some(recognised), Some(first), Some(home)));
    assert_eq!(find(home, Some(Mac([9; 6])), None), (Some(card), None, None), "what it says goes first");
    assert_eq!(find(ELSEWHERE, None, Some(UUID)), (Some(recognised), Some(second), None));
    assert_eq!(find(home, None, Some(UUID)), (Some(card), Some(first), None), "a MAC says more than a UUID");
    let is_itself = |from: Ipv4Addr, mac, uuid| machines.asker(from.into(), mac, uuid).is_itself;
    assert!(is_itself(home, None, None) && is_itself(home, Some(card), None));
    assert!(!is_itself(ELSEWHERE, None, Some(UUID)), "anybody can say a UUID");
    assert!(!is_itself(ELSEWHERE, Some(recognised), Some(UUID)) && !is_itself(ELSEWHERE, Some(card), None));
    show_uuid(&machines, recognised, UUID);
    assert!(is_itself(ELSEWHERE, None, Some(UUID)), "it has shown it by DHCP");
    assert_eq!(find(ELSEWHERE, None, None), (Some(recognised), Some(second), None));
    assert_eq!(find(home, Some(recognised), None), (Some(card), Some(second), Some(ELSEWHERE)));
}

#[test]
fn unknown_machines_leave_in_the_order_they_came_and_known_ones_stay() {
    let machines = Machines::default();
    let home = Ipv4Addr::new(10, 1, 1, 33);
    let configured = Mac([2, 0, 0, 0, 0, 2]);
    machines.know(CARD);
    machines.put(home, CARD);
    add(&machines, with_macs("node2", &[configured]));
    machines.meet(configured);
    let unknown = |number: u32| {
        let [a, b, c, d] = number.to_be_bytes();
        (Ipv4Addr::new(10, 2 + b, c, d), Mac([6, 0, a, b, c, d]))
    };
    let most = u32::try_from(MOST_UNKNOWN).unwrap();
    machines.meet(CARD);
    for number in 0..=most {
        let (address, mac) = unknown(number);
        machines.hear(address, mac);
        machines.hear(address, mac);
    }
    let is_there = |number: u32| {
        let (address, mac) = unknown(number);
        (machines.client_at(address).is_some(), machines.is_client(mac))
    };
    assert_eq!([0, 1, most].map(is_there), [(false, false), (true, true), (true, true)]);
    assert_eq!(machines.client_at(home), Some(Client { mac: CARD, name: None }));
    assert!(machines.is_client(CARD) && machines.is_client(configured));
}

#[test]
fn a_serial_number_is_news_until_its_machine_has_its_mac() {
    let machines = Machines::default();
    let expected = Machine { serial: Some("CZ12".to_owned()), ..machine("node1") };
    let id = machines.add(Arc::new(expected.clone())).unwrap();
    assert!(machines.is_serial_news(" cz12", None) && machines.is_serial_news("CZ12", Some(id)));
    assert!(!machines.is_serial_news("CZ13", None), "nobody has written that one");
    machines.change(id, Arc::new(Machine { macs: vec![CARD], ..expected })).unwrap();
    assert!(!machines.is_serial_news("CZ12", Some(id)), "it is what it is known as");
    assert!(machines.is_serial_news("CZ12", None), "another one says its number");
    machines.remove(id);
    assert!(!machines.is_serial_news("CZ12", None));
}
