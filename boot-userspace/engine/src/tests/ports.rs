//! Machines that are known by their switch port.

use super::promises::store_after;
use super::*;
use crate::leases::operator::Which;
use crate::machines::SECOND_RELAY;

const SLOT: Ipv4Addr = Ipv4Addr::new(10, 1, 1, 61);

fn config() -> String {
    format!("{CONFIG}\n[[machine]]\nrelay_port = \"port 7\"\nname = \"slot7\"\nip = \"{SLOT}\"\n")
}

/// As a relay sends it on, or a switch that is none and only marks it.
fn at(port: &str, relay: Option<Ipv4Addr>, mut message: Message) -> Message {
    let mut info = relay::RelayAgentInformation::default();
    info.insert(relay::RelayInfo::AgentCircuitId(port.as_bytes().to_vec()));
    message.opts_mut().insert(DhcpOption::RelayAgentInformation(info));
    message.set_giaddr(relay.unwrap_or(Ipv4Addr::UNSPECIFIED));
    message
}

fn offered_name(reply: &Reply) -> Option<String> {
    match reply.option(OptionCode::Hostname) {
        Some(DhcpOption::Hostname(name)) => Some(name.clone()),
        _ => None,
    }
}

#[test]
fn whoever_is_plugged_in_there_is_the_machine_and_nobody_elsewhere() {
    for relay in [Some(Ipv4Addr::new(10, 1, 0, 3)), None] {
        let mut lab = Lab::new(&config());
        let first = lab.send(&at("port 7", relay, discover(UNKNOWN))).unwrap();
        assert_eq!((first.message.yiaddr(), offered_name(&first).as_deref()), (SLOT, Some("slot7")));
        let ack = lab.send(&at("port 7", relay, request(UNKNOWN, SLOT, Some(SERVER)))).unwrap();
        assert_eq!((ack.kind(), ack.message.yiaddr()), (MessageType::Ack, SLOT));
        assert_eq!(lab.offered(UNKNOWN), SLOT, "a message without a port says nothing of it");

        // A second relay has heard the same message.
        lab.later(SECOND_RELAY - 1);
        assert_eq!(lab.send(&at("port 8", relay, discover(UNKNOWN))).unwrap().message.yiaddr(), SLOT);

        // The old card is tried elsewhere.
        lab.later(SECOND_RELAY);
        let moved = lab.send(&at("port 8", relay, discover(UNKNOWN))).unwrap();
        assert_ne!(moved.message.yiaddr(), SLOT);
        assert_eq!(offered_name(&moved), None);
        assert!(lab.changes.contains(&Change::Delete(UNKNOWN, SLOT)), "{:?}", lab.changes);

        // It leaves its address by taking another one: a DISCOVER in its name can come from anybody there.
        let early = lab.send(&at("port 7", relay, discover(OTHER))).unwrap();
        assert_ne!(early.message.yiaddr(), SLOT, "two machines with one address");
        let moved = moved.message.yiaddr();
        let ack = lab.send(&at("port 8", relay, request(UNKNOWN, moved, Some(SERVER)))).unwrap();
        assert_eq!((ack.kind(), ack.message.yiaddr()), (MessageType::Ack, moved));

        let second = lab.send(&at("port 7", relay, discover(OTHER))).unwrap();
        assert_eq!((second.message.yiaddr(), offered_name(&second).as_deref()), (SLOT, Some("slot7")));
        let ack = lab.send(&at("port 7", relay, request(OTHER, SLOT, Some(SERVER)))).unwrap();
        assert_eq!((ack.kind(), ack.message.yiaddr()), (MessageType::Ack, SLOT));
    }
}

#[test]
fn a_discover_at_another_port_ends_no_lease_of_the_port_s_address() {
    let mut lab = Lab::new(&config());
    lab.send(&at("port 7", None, discover(UNKNOWN))).unwrap();
    lab.send(&at("port 7", None, request(UNKNOWN, SLOT, Some(SERVER)))).unwrap();
    for _ in 0..2 {
        lab.later(SECOND_RELAY + 1);
        lab.send(&at("port 8", None, discover(UNKNOWN)));
    }
    let restarted = Lab::with_leases(&config(), &store_after(&lab.changes), DhcpRole::Server);
    for mut lab in [lab, restarted] {
        let early = lab.send(&at("port 7", None, discover(OTHER))).unwrap();
        assert_ne!(early.message.yiaddr(), SLOT, "two machines with one address");
        lab.later(1201);
        assert_eq!(lab.send(&at("port 7", None, discover(OTHER))).unwrap().message.yiaddr(), SLOT);
    }
}

#[test]
fn a_machine_that_was_a_stranger_elsewhere_is_recognised_when_it_is_plugged_in_there() {
    let mut lab = Lab::new(&config());
    let relay = Some(Ipv4Addr::new(10, 1, 0, 3));
    let before = lab.send(&at("port 8", relay, discover(UNKNOWN))).unwrap().message.yiaddr();
    assert_ne!(before, SLOT);
    let key = HostKey::from(UNKNOWN);
    assert_eq!(lab.engine.entries.host(key.mac).unwrap().port_decides, 1, "the kernel half asks");
    assert_eq!(lab.engine.entries.host(NODE1).unwrap().port_decides, 0, "known by its MAC");
    assert_eq!(lab.send(&at("port 7", relay, discover(UNKNOWN))).unwrap().message.yiaddr(), SLOT);
}

#[test]
fn a_new_card_gets_the_address_when_the_old_ones_lease_has_ended() {
    let mut lab = Lab::new(&config());
    let relay = Some(Ipv4Addr::new(10, 1, 0, 3));
    lab.send(&at("port 7", relay, discover(UNKNOWN))).unwrap();
    lab.send(&at("port 7", relay, request(UNKNOWN, SLOT, Some(SERVER)))).unwrap();
    let early = lab.send(&at("port 7", relay, discover(OTHER))).unwrap();
    assert_ne!(early.message.yiaddr(), SLOT, "it may still be used");
    assert_eq!(offered_name(&early).as_deref(), Some("slot7"), "the same machine all the same");
    lab.later(3600);
    assert_eq!(lab.send(&at("port 7", relay, discover(OTHER))).unwrap().message.yiaddr(), SLOT);
}

#[test]
fn who_asks_for_the_address_of_the_port_it_has_left_is_refused() {
    let mut lab = Lab::new(&config());
    lab.send(&at("port 7", None, discover(UNKNOWN))).unwrap();
    lab.send(&at("port 7", None, request(UNKNOWN, SLOT, Some(SERVER)))).unwrap();
    lab.later(SECOND_RELAY);
    let reboots = at("port 8", None, request(UNKNOWN, SLOT, None));
    assert_eq!(lab.send(&reboots).expect("an answer").kind(), MessageType::Ack, "perhaps a second relay's");
    lab.later(SECOND_RELAY);
    assert_eq!(lab.send(&reboots).expect("an answer").kind(), MessageType::Nak);
    assert!(lab.send(&at("port 8", None, request(OTHER, SLOT, None))).is_none(), "this one never had it");
}

#[test]
fn an_operator_need_not_wait_for_the_old_card_s_lease_to_end() {
    let mut lab = Lab::new(&config());
    lab.send(&at("port 7", None, discover(UNKNOWN))).unwrap();
    lab.send(&at("port 7", None, request(UNKNOWN, SLOT, Some(SERVER)))).unwrap();
    let before = lab.send(&at("port 7", None, discover(OTHER))).unwrap();
    assert_ne!(before.message.yiaddr(), SLOT);
    let stored = store_after(&lab.changes);
    let mut leases = lab.engine.to_delete(Which::Address(SLOT), &stored, lab.now).unwrap();
    let (shown, change) = leases.pop().unwrap();
    assert!(leases.is_empty());
    assert_eq!((shown.mac, &change), (UNKNOWN, &Change::Delete(UNKNOWN, SLOT)));
    lab.engine.change_leases(&[change], lab.now);
    assert!(!lab.engine.has_host(&HostKey::from(UNKNOWN)));
    assert_eq!(lab.send(&at("port 7", None, discover(OTHER))).unwrap().message.yiaddr(), SLOT);
    let node1 = Which::Mac(NODE1);
    assert!(lab.engine.to_delete(node1, &stored, lab.now).is_err(), "the configuration names it");
}

#[test]
fn who_moves_to_another_named_port_is_that_ports_machine() {
    let other = "[[machine]]\nrelay_port = \"port 8\"\nname = \"slot8\"\nip = \"10.1.1.62\"\n";
    let mut lab = Lab::new(&format!("{}{other}", config()));
    for (port, name, address) in [("port 7", "slot7", SLOT), ("port 8", "slot8", Ipv4Addr::new(10, 1, 1, 62))]
    {
        let offer = lab.send(&at(port, None, discover(UNKNOWN))).unwrap();
        assert_eq!((offer.message.yiaddr(), offered_name(&offer).as_deref()), (address, Some(name)));
        let ack = lab.send(&at(port, None, request(UNKNOWN, address, Some(SERVER)))).unwrap();
        assert_eq!((ack.kind(), ack.message.yiaddr()), (MessageType::Ack, address));
        lab.later(SECOND_RELAY);
    }
    assert_eq!(lab.send(&at("port 7", None, discover(OTHER))).unwrap().message.yiaddr(), SLOT, "nobody's");
}

#[test]
fn a_board_that_is_known_stays_known_at_any_port() {
    let uuid = "[[machine]]\nuuid = \"00112233-4455-6677-8899-aabbccddeeff\"\nname = \"board\"\nip = \"10.1.1.60\"\n";
    let mut lab = Lab::new(&format!("{}{uuid}", config()));
    let mut rom = at("port 8", None, discover(UNKNOWN));
    let guid =
        [0, 0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff];
    rom.opts_mut().insert(DhcpOption::Unknown(UnknownOption::new(OptionCode::Unknown(97), guid.to_vec())));
    let board = Ipv4Addr::new(10, 1, 1, 60);
    assert_eq!(lab.send(&rom).unwrap().message.yiaddr(), board);
    for port in ["port 8", "port 9", "port 7"] {
        lab.later(SECOND_RELAY);
        let system = lab.send(&at(port, None, discover(UNKNOWN))).unwrap();
        assert_eq!(system.message.yiaddr(), board, "its system shows no UUID at {port}");
    }
}

#[test]
fn what_a_machine_was_promised_before_it_was_recognised_rests_over_a_restart() {
    let mut lab = Lab::new(&config());
    let before = lab.leased(UNKNOWN);
    assert_eq!(lab.send(&at("port 7", None, discover(UNKNOWN))).unwrap().message.yiaddr(), SLOT);
    let ack = lab.send(&at("port 7", None, request(UNKNOWN, SLOT, Some(SERVER)))).unwrap();
    assert_eq!((ack.kind(), ack.message.yiaddr()), (MessageType::Ack, SLOT));
    let mut again = Lab::with_leases(&config(), &store_after(&lab.changes), DhcpRole::Server);
    assert_ne!(again.leased(OTHER), before);
    let third = Mac([0x52, 0x54, 0, 0, 0, 0x97]);
    assert!(again.send(&discover(third)).is_none(), "the pool has two");
    again.later(24 * 3600);
    assert_eq!(again.offered(third), before);
}

const GUID: [u8; 17] =
    [0, 0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff];

fn with_guid(mut message: Message) -> Message {
    message
        .opts_mut()
        .insert(DhcpOption::Unknown(UnknownOption::new(OptionCode::Unknown(97), GUID.to_vec())));
    message
}

/// An operating system that renews its lease shows neither UUID nor switch port.
#[test]
fn a_machine_without_a_reserved_address_is_known_after_a_restart_before_it_shows_who_it_is() {
    let board = |name: &str| {
        format!("[[machine]]\nuuid = \"00112233-4455-6677-8899-aabbccddeeff\"\nname = \"{name}\"\n")
    };
    let slot = |name: &str| format!("[[machine]]\nrelay_port = \"port 7\"\nname = \"{name}\"\n");
    let config =
        |machines: &[String]| format!("{CONFIG}\n{}[default]\nunknown = \"ignore\"\n", machines.concat());
    let mut lab = Lab::new(&config(&[board("board"), slot("slot")]));
    let in_slot = |message| at("port 7", None, message);
    let (first, second) = (Ipv4Addr::new(10, 1, 1, 33), Ipv4Addr::new(10, 1, 1, 34));
    assert_eq!(lab.send(&with_guid(discover(UNKNOWN))).unwrap().message.yiaddr(), first);
    lab.send(&with_guid(request(UNKNOWN, first, Some(SERVER)))).unwrap();
    assert_eq!(lab.send(&in_slot(discover(OTHER))).unwrap().message.yiaddr(), second);
    lab.send(&in_slot(request(OTHER, second, Some(SERVER)))).unwrap();
    let stored = store_after(&lab.changes);
    // The names and the order have changed meanwhile.
    let mut again = Lab::with_leases(&config(&[slot("slot7"), board("board1")]), &stored, DhcpRole::Server);
    for (mac, address, name) in [(UNKNOWN, first, "board1"), (OTHER, second, "slot7")] {
        let ack = again.send_to_server(&renewal(mac, address)).expect("an answer");
        assert_eq!((ack.kind(), ack.message.yiaddr()), (MessageType::Ack, address), "{name}");
        assert_eq!(offered_name(&ack).as_deref(), Some(name));
        assert_eq!(again.offered(mac), address);
    }
    // A second restart, from what the first one has stored since.
    let stored = store_after(&[&lab.changes[..], &again.changes].concat());
    let mut gone = Lab::with_leases(&config(&[board("board")]), &stored, DhcpRole::Server);
    assert!(gone.send_to_server(&renewal(UNKNOWN, first)).is_some());
    assert!(gone.send_to_server(&renewal(OTHER, second)).is_none(), "the configuration has it no longer");
}

/// What a machine is recognised as after its lease was stored, which the kernel half may renew for a while.
#[test]
fn what_is_recognised_between_two_leases_is_stored_at_once() {
    let config = format!("{CONFIG}\n[[machine]]\nrelay_port = \"port 7\"\nname = \"slot7\"\n");
    let mut lab = Lab::new(&config);
    let address = lab.leased(UNKNOWN);
    let name = |lab: &Lab| {
        let again = Lab::with_leases(&config, &store_after(&lab.changes), DhcpRole::Server);
        again.engine.policy.name(UNKNOWN)
    };
    assert_eq!(name(&lab), None);
    assert_eq!(lab.send(&at("port 7", None, discover(UNKNOWN))).unwrap().message.yiaddr(), address);
    assert_eq!(name(&lab).as_deref(), Some("slot7"));
    for _ in 0..2 {
        lab.later(SECOND_RELAY);
        lab.send(&at("port 8", None, discover(UNKNOWN))).unwrap();
    }
    assert_eq!(name(&lab), None, "it is somewhere else now");
    let ends = |leases: &[Lease]| leases.iter().map(|lease| lease.expires).collect::<Vec<_>>();
    assert_eq!(
        ends(&store_after(&lab.changes[..1])),
        ends(&store_after(&lab.changes)),
        "for as long as before"
    );
}

#[test]
fn what_a_card_was_promised_behind_a_relay_it_keeps_over_a_restart() {
    let far = Some(Ipv4Addr::new(10, 7, 0, 1));
    let config = format!(
        "{CONFIG}\n[[subnet]]\ncidr = \"10.7.0.0/24\"\npool = [\"10.7.0.100-10.7.0.110\"]\nprobe = false\n[[machine]]\nrelay_port = \"port 7\"\nip = \"10.7.0.7\"\n"
    );
    let slot = Ipv4Addr::new(10, 7, 0, 7);
    let mut lab = Lab::new(&config);
    lab.send(&at("port 7", far, discover(UNKNOWN))).unwrap();
    let ack = lab.send(&at("port 7", far, request(UNKNOWN, slot, Some(SERVER)))).unwrap();
    assert_eq!((ack.kind(), ack.message.yiaddr()), (MessageType::Ack, slot));
    let mut again = Lab::with_leases(&config, &store_after(&lab.changes), DhcpRole::Server);
    assert_ne!(again.send(&at("port 7", far, discover(OTHER))).unwrap().message.yiaddr(), slot);
}

#[test]
fn of_two_new_cards_at_one_port_the_first_one_keeps_its_offer() {
    let mut lab = Lab::new(&config());
    assert_eq!(lab.send(&at("port 7", None, discover(UNKNOWN))).unwrap().message.yiaddr(), SLOT);
    assert_ne!(lab.send(&at("port 7", None, discover(OTHER))).unwrap().message.yiaddr(), SLOT);
    let ack = lab.send(&at("port 7", None, request(UNKNOWN, SLOT, Some(SERVER)))).unwrap();
    assert_eq!((ack.kind(), ack.message.yiaddr()), (MessageType::Ack, SLOT));
}

#[test]
fn what_a_second_relay_says_before_the_own_one_takes_nothing_away() {
    let relay = Some(Ipv4Addr::new(10, 1, 0, 3));
    let mut lab = Lab::new(&config());
    lab.send(&at("port 7", relay, discover(UNKNOWN))).unwrap();
    lab.send(&at("port 7", relay, request(UNKNOWN, SLOT, Some(SERVER)))).unwrap();
    let mut again = Lab::with_leases(&config(), &store_after(&lab.changes), DhcpRole::Server);
    for lab in [&mut lab, &mut again] {
        for _ in 0..5 {
            lab.later(SECOND_RELAY + 1);
            for port in ["elsewhere", "port 7"] {
                let ack = lab.send(&at(port, relay, request(UNKNOWN, SLOT, None))).unwrap();
                assert_eq!((ack.kind(), ack.message.yiaddr()), (MessageType::Ack, SLOT), "{port}");
            }
        }
    }
}

#[test]
fn any_number_of_cards_at_one_port_takes_no_memory() {
    let mut lab = Lab::new(&config());
    for number in 0..3000u16 {
        let [high, low] = number.to_be_bytes();
        lab.send(&at("port 7", None, discover(Mac([6, 0, 0, 0, high, low]))));
    }
    assert!(lab.engine.machines.count_recognised() >= 3000);
    lab.later(1);
    assert!(lab.engine.machines.count_recognised() <= 16, "{}", lab.engine.machines.count_recognised());
}
