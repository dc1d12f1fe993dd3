//! Who is promised which address, and when another machine may have it.

use boot_common::Reason;

use super::*;
use crate::leases::Promised;

pub(super) const UUID: &str = "00112233-4455-6677-8899-aabbccddeeff";
pub(super) const THIRD: Mac = Mac([0x52, 0x54, 0, 0, 0, 0x97]);
const FIRST: Ipv4Addr = Ipv4Addr::new(10, 1, 1, 33);
const RELAY: Ipv4Addr = Ipv4Addr::new(10, 2, 0, 1);

fn with_machine(machine: &str) -> String {
    format!("{CONFIG}\n[[machine]]\n{machine}\n")
}

/// A DISCOVER of firmware that shows [`UUID`].
pub(super) fn discover_with_uuid(mac: Mac) -> Message {
    let mut guid = vec![0, 0x33, 0x22, 0x11, 0, 0x55, 0x44, 0x77, 0x66];
    guid.extend([0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff]);
    let mut message = pxe(discover(mac), 7, "PXEClient:Arch:00007:UNDI:003000");
    message.opts_mut().insert(DhcpOption::Unknown(UnknownOption::new(OptionCode::Unknown(97), guid)));
    message
}

fn stored(lab: &Lab) -> Vec<Lease> {
    let lease = |change: &Change| if let Change::Put(lease) = change { Some(lease.clone()) } else { None };
    lab.changes.iter().filter_map(lease).collect()
}

/// Seconds that a machine's lease is stored for from now on.
fn stored_for(lab: &Lab, mac: Mac) -> u64 {
    let lease = stored(lab).into_iter().rfind(|lease| lease.mac == mac).expect("a stored lease");
    u64::try_from(lease.expires).unwrap() - lab.now.seconds()
}

#[test]
fn a_client_from_behind_a_relay_renews_by_itself() {
    let mut lab = Lab::new(CONFIG);
    let address = lab.send(&relayed(discover(UNKNOWN), RELAY)).unwrap().message.yiaddr();
    let asks = relayed(request(UNKNOWN, address, Some(SERVER)), RELAY);
    assert_eq!(lab.send(&asks).unwrap().kind(), MessageType::Ack);
    for later in [0, 3600] {
        lab.later(later);
        let ack = lab.send_to_server(&renewal(UNKNOWN, address)).expect("an answer");
        assert_eq!((ack.kind(), ack.message.yiaddr()), (MessageType::Ack, address));
    }
    let mut inform = message(OTHER, MessageType::Inform);
    inform.set_ciaddr(Ipv4Addr::new(10, 2, 0, 50));
    let ack = lab.send_to_server(&inform).expect("an answer");
    assert_eq!(ack.option(OptionCode::Router), None, "the router is the other subnet's");
    // To all on the link: whoever is here with an address of elsewhere has moved.
    assert_eq!(lab.send(&renewal(UNKNOWN, address)).unwrap().kind(), MessageType::Nak);
}

#[test]
fn an_offer_binds_the_address_of_a_machine_that_gave_it_back_or_let_it_lapse() {
    for lapses in [false, true] {
        let mut lab = Lab::new(CONFIG);
        let address = lab.leased(UNKNOWN);
        if lapses {
            lab.later(3600);
        } else {
            assert!(lab.send(&release(UNKNOWN, address)).is_none());
            lab.later(RELEASE_HOLDS + 1);
        }
        lab.leased(OTHER);
        assert_eq!(lab.offered(UNKNOWN), address, "lapses: {lapses}");
        assert!(lab.send(&discover(THIRD)).is_none(), "lapses: {lapses}: the pool has two");
        let ack = lab.send(&request(UNKNOWN, address, Some(SERVER))).unwrap();
        assert_eq!(ack.kind(), MessageType::Ack, "lapses: {lapses}");
        // Another machine gets it when an offer has gone without a request.
        let mut lab = Lab::new(CONFIG);
        lab.offered(UNKNOWN);
        lab.leased(OTHER);
        lab.later(OFFER_HOLDS + 1);
        assert!(lab.send(&discover(THIRD)).is_some());
    }
}

#[test]
fn what_is_reserved_by_uuid_or_away_from_home_goes_to_nobody_else() {
    let mut lab = Lab::new(&with_machine(&format!("uuid = \"{UUID}\"\nip = \"{FIRST}\"")));
    assert_ne!(lab.leased(UNKNOWN), FIRST);
    assert!(lab.send(&discover(OTHER)).is_none(), "nothing else is in the pool");
    assert_eq!(lab.send(&discover_with_uuid(THIRD)).unwrap().message.yiaddr(), FIRST);

    let mut lab = Lab::new(&with_machine(&format!("mac = \"{UNKNOWN}\"\nip = \"{FIRST}\"")));
    lab.send(&relayed(discover(UNKNOWN), RELAY)).expect("an address there");
    assert_ne!(lab.leased(OTHER), FIRST);
    assert_eq!(lab.offered(UNKNOWN), FIRST, "back home");
}

#[test]
fn a_second_card_with_the_same_uuid_takes_nothing_that_is_promised() {
    let mut lab = Lab::new(&with_machine(&format!("uuid = \"{UUID}\"\nip = \"10.1.1.60\"")));
    let reserved = Ipv4Addr::new(10, 1, 1, 60);
    assert_eq!(lab.send(&discover_with_uuid(UNKNOWN)).unwrap().message.yiaddr(), reserved);
    assert_eq!(lab.leased(UNKNOWN), reserved);
    let second = lab.send(&discover_with_uuid(OTHER)).unwrap().message.yiaddr();
    assert_ne!(second, reserved);
    assert_eq!(lab.send(&renewal(UNKNOWN, reserved)).unwrap().kind(), MessageType::Ack);
    // The first one is gone for good.
    lab.later(24 * 3600);
    assert_eq!(lab.send(&discover_with_uuid(OTHER)).unwrap().message.yiaddr(), reserved);
}

#[test]
fn a_reservation_waits_until_who_had_the_address_asks_again() {
    let mut lab = Lab::new(CONFIG);
    let address = lab.leased(UNKNOWN);
    let reserved = with_machine(&format!("mac = \"{OTHER}\"\nip = \"{address}\""));
    let mut lab = Lab::with_leases(&reserved, &stored(&lab), DhcpRole::Server);
    assert_ne!(lab.leased(OTHER), address);
    assert_eq!(lab.send(&renewal(UNKNOWN, address)).unwrap().kind(), MessageType::Nak);
    lab.later(24 * 3600);
    assert_eq!(lab.offered(OTHER), address);
    assert_ne!(lab.offered(UNKNOWN), address);
}

#[test]
fn firmware_s_short_lease_is_stored_for_short_and_shortens_no_longer_one() {
    let config = CONFIG.replace("domain = \"mtl\"", "domain = \"mtl\"\nlease = \"1d\"\nboot_lease = \"60s\"");
    let mut lab = Lab::new(&config);
    let rom = |message| pxe(message, 7, "PXEClient:Arch:00007:UNDI:003000");
    let address = lab.send(&rom(discover(UNKNOWN))).unwrap().message.yiaddr();
    let asks = rom(request(UNKNOWN, address, Some(SERVER)));
    assert_eq!(lab.send(&asks).unwrap().kind(), MessageType::Ack);
    assert_eq!(stored_for(&lab, UNKNOWN), 120);
    lab.leased(UNKNOWN);
    assert_eq!(stored_for(&lab, UNKNOWN), 2 * 86_400);
    lab.later(100);
    assert_eq!(lab.send(&asks).unwrap().kind(), MessageType::Ack);
    assert_eq!(stored_for(&lab, UNKNOWN), 2 * 86_400 - 100);
}

#[test]
fn only_a_relay_has_an_identifier_in_our_place() {
    let mut lab = Lab::new(CONFIG);
    let wanted = Ipv4Addr::new(10, 2, 0, 9);
    let mut info = relay::RelayAgentInformation::default();
    info.insert(relay::RelayInfo::ServerIdentifierOverride(wanted));
    let with_info = |mut message: Message| {
        message.opts_mut().insert(DhcpOption::RelayAgentInformation(info.clone()));
        message
    };
    let offer = lab.send(&with_info(discover(UNKNOWN))).unwrap();
    assert_eq!(offer.option(OptionCode::ServerIdentifier), Some(&DhcpOption::ServerIdentifier(SERVER)));
    // A DECLINE names the identifier that the client was shown.
    let address = lab.send(&relayed(with_info(discover(OTHER)), RELAY)).unwrap().message.yiaddr();
    let mut decline = relayed(with_info(message(OTHER, MessageType::Decline)), RELAY);
    decline.opts_mut().insert(DhcpOption::ServerIdentifier(wanted));
    decline.opts_mut().insert(DhcpOption::RequestedIpAddress(address));
    assert!(lab.send(&decline).is_none());
    assert_ne!(lab.send(&relayed(discover(OTHER), RELAY)).unwrap().message.yiaddr(), address);
}

#[test]
fn a_lease_of_a_pool_that_was_made_smaller_is_refused_at_once() {
    let mut lab = Lab::new(CONFIG);
    let address = lab.leased(UNKNOWN);
    let smaller = CONFIG.replace("10.1.1.33-10.1.1.34", "10.1.1.34-10.1.1.35");
    let mut lab = Lab::with_leases(&smaller, &stored(&lab), DhcpRole::Server);
    assert!(lab.send(&renewal(OTHER, address)).is_none(), "of this one nothing is known");
    for message in [renewal(UNKNOWN, address), request(UNKNOWN, address, None)] {
        assert_eq!(lab.send(&message).expect("an answer").kind(), MessageType::Nak);
    }
    assert_ne!(lab.leased(UNKNOWN), address);
}

#[test]
fn an_authoritative_server_refuses_what_nobody_gave_from_here() {
    let unknown = Ipv4Addr::new(10, 1, 1, 99);
    for (authoritative, kind) in [(false, None), (true, Some(MessageType::Nak))] {
        let config = CONFIG.replacen("domain", &format!("authoritative = {authoritative}\ndomain"), 1);
        let mut lab = Lab::new(&config);
        for message in [request(UNKNOWN, unknown, None), renewal(UNKNOWN, unknown)] {
            assert_eq!(lab.send(&message).map(|reply| reply.kind()), kind);
        }
        let behind_a_relay = relayed(request(UNKNOWN, Ipv4Addr::new(10, 2, 0, 9), None), RELAY);
        assert!(lab.send(&behind_a_relay).is_none(), "the other subnet is not");
        let for_another_server = request(UNKNOWN, unknown, Some(Ipv4Addr::new(10, 1, 0, 9)));
        assert!(lab.send(&for_another_server).is_none());
    }
}

#[test]
fn a_request_waits_for_the_probe_of_its_address() {
    let ask = |lab: &mut Lab, message: &Message| {
        let bytes = message.to_vec().unwrap();
        let from = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68);
        let incoming = Incoming { ifindex: 7, port: 67, from, to: Ipv4Addr::BROADCAST, payload: &bytes };
        lab.engine.handle(&incoming, lab.now);
        sent(lab)
    };
    for (in_use_by, server, kind) in [
        (None, Some(SERVER), MessageType::Ack),
        (None, None, MessageType::Ack),
        (Some("02:00:00:00:00:77"), Some(SERVER), MessageType::Nak),
        (Some("02:00:00:00:00:77"), None, MessageType::Nak),
    ] {
        let mut lab = Lab::new(CONFIG);
        assert_eq!(ask(&mut lab, &discover(UNKNOWN)), []);
        assert_eq!(ask(&mut lab, &request(UNKNOWN, FIRST, server)), [], "nobody knows yet whose {FIRST} is");
        lab.engine.probed(UNKNOWN, FIRST, in_use_by.map(str::to_owned), lab.now);
        assert_eq!(sent(&mut lab), [kind], "{in_use_by:?} {server:?}");
    }
}

/// What was sent since the last look.
fn sent(lab: &mut Lab) -> Vec<MessageType> {
    let commands = lab.engine.take_commands().into_iter();
    let frames = commands
        .filter_map(|command| if let Command::Send { frame, .. } = command { Some(frame) } else { None });
    frames.map(|frame| Message::from_bytes(payload(&frame)).unwrap().opts().msg_type().unwrap()).collect()
}

/// The store after these changes.
pub(super) fn store_after(changes: &[Change]) -> Vec<Lease> {
    let rests = |lease: &Lease| lease.state.is_on_hold();
    let mut leases: Vec<Lease> = Vec::new();
    for change in changes {
        match change {
            Change::Put(lease) => {
                let is_elsewhere = |old: &Lease| (old.mac, old.subnet) != (lease.mac, lease.subnet);
                leases.retain(|old| is_elsewhere(old) || rests(old) || rests(lease));
                leases.retain(|old| old.address != lease.address);
                leases.push(lease.clone());
            }
            Change::Delete(mac, address) => {
                leases.retain(|old| (old.mac, old.address) != (*mac, *address) || rests(old));
            }
            Change::Lift(address) => leases.retain(|old| old.address != *address || !rests(old)),
        }
    }
    leases
}

#[test]
fn a_declined_address_rests_over_a_restart_and_is_forgotten_when_its_time_is_over() {
    let mut lab = Lab::new(CONFIG);
    let address = lab.leased(UNKNOWN);
    lab.squatter = Some("02:00:00:00:00:77".to_owned());
    assert!(lab.send(&decline(UNKNOWN, address)).is_none());
    let mut again = Lab::with_leases(CONFIG, &store_after(&lab.changes), DhcpRole::Server);
    assert_ne!(again.leased(UNKNOWN), address);
    assert!(again.send(&discover(OTHER)).is_none(), "the pool has two");
    again.later(QUARANTINE);
    let ends = again.engine.take_commands();
    assert!(matches!(ends[..], [Command::Persist(Change::Lift(over))] if over == address), "{ends:?}");
    assert_eq!(again.offered(OTHER), address);
}

#[test]
fn an_address_that_was_found_in_use_rests_over_a_restart() {
    let mut lab = Lab::new(CONFIG);
    lab.squatter = Some("02:00:00:00:00:77".to_owned());
    assert!(lab.send(&discover(UNKNOWN)).is_none());
    let mut again = Lab::with_leases(CONFIG, &store_after(&lab.changes), DhcpRole::Server);
    assert!(again.send(&discover(UNKNOWN)).is_none(), "both rest");
    assert!(again.probes.is_empty());
}

#[test]
fn what_could_not_be_stored_is_taken_back_to_what_the_machine_had() {
    let mut lab = Lab::new(CONFIG);
    let key = HostKey::from(UNKNOWN);
    let said = |lab: &Lab| lab.engine.counter(Reason::Acked);
    let state = |lab: &Lab| {
        let leases = lab.engine.leases(&[], lab.now);
        leases.into_iter().find(|shown| shown.mac == UNKNOWN).map(|shown| shown.state)
    };
    let ask = |lab: &mut Lab, message: &Message| {
        let bytes = message.to_vec().unwrap();
        let from = SocketAddrV4::new(message.ciaddr(), 68);
        let incoming = Incoming { ifindex: 7, port: 67, from, to: Ipv4Addr::BROADCAST, payload: &bytes };
        lab.engine.handle(&incoming, lab.now);
        lab.engine.take_commands()
    };
    let fail = |lab: &mut Lab, commands: Vec<Command>| {
        let changes: Vec<Change> = commands
            .iter()
            .filter_map(
                |command| if let Command::Persist(change) = command { Some(change.clone()) } else { None },
            )
            .collect();
        assert!(!changes.is_empty(), "nothing to store: {commands:?}");
        lab.engine.not_stored(&changes);
        for command in commands {
            if let Command::Send { told, .. } = command {
                lab.engine.not_sent(&told, Reason::NotStored);
            }
        }
    };
    // A first lease: it is an offer as before.
    let address = lab.offered(UNKNOWN);
    let offered = lab.engine.entries.host(key.mac).copied();
    let commands = ask(&mut lab, &request(UNKNOWN, address, Some(SERVER)));
    fail(&mut lab, commands);
    assert_eq!(state(&lab), Some(LeaseState::Offered));
    assert_eq!(lab.engine.entries.host(key.mac).copied(), offered);
    assert_eq!((said(&lab), lab.engine.counter(Reason::NotStored)), (0, 1));
    // A renewal: what is stored is promised as far as before.
    lab.engine.take_commands();
    assert_eq!(lab.leased(UNKNOWN), address);
    let stored = lab.engine.entries.host(key.mac).copied();
    lab.later(700);
    let commands = ask(&mut lab, &renewal(UNKNOWN, address));
    fail(&mut lab, commands);
    assert_eq!(lab.engine.entries.host(key.mac).copied(), stored);
    assert_eq!(state(&lab), Some(LeaseState::Leased));
    lab.later(600);
    assert_eq!(state(&lab), Some(LeaseState::Released), "the stored lease ran out");
}

/// While a commit is under way more is decided on top of it, and then the disk refuses it.
#[test]
fn what_was_decided_while_a_refused_commit_was_under_way_is_taken_back_with_it() {
    let mut lab = Lab::new(CONFIG);
    let (mine, others) = (lab.offered(UNKNOWN), lab.offered(OTHER));
    let entries = |lab: &Lab| [UNKNOWN, OTHER].map(|mac| lab.engine.host_of(&HostKey::from(mac)));
    let before = entries(&lab);
    let (mut promised, mut changes) = (Promised::default(), Vec::new());
    let again = request(UNKNOWN, mine, Some(SERVER));
    for message in [&again, &request(OTHER, others, Some(SERVER)), &again, &release(UNKNOWN, mine), &again] {
        lab.send(message);
        promised.extend(lab.engine.promised());
        changes.append(&mut lab.changes);
    }
    assert!(changes.len() >= 3, "{changes:?}");
    assert_ne!(entries(&lab), before);
    lab.engine.take_back(&changes, promised);
    assert_eq!(entries(&lab), before, "they have offers, as before");
    assert!(lab.send(&discover(THIRD)).is_none(), "the pool has two");
    for (mac, address) in [(UNKNOWN, mine), (OTHER, others)] {
        let ack = lab.send(&request(mac, address, Some(SERVER))).expect("an answer");
        assert_eq!((ack.kind(), ack.message.yiaddr()), (MessageType::Ack, address));
    }
}

#[test]
fn an_ack_that_could_not_be_stored_is_no_promise() {
    let mut lab = Lab::new(CONFIG);
    lab.leased(UNKNOWN);
    let key = HostKey::from(UNKNOWN);
    assert!(lab.engine.entries.host(key.mac).unwrap().durable_until > lab.now.nanos());
    let changes = lab.changes.clone();
    lab.engine.not_stored(&changes);
    assert_eq!(lab.engine.entries.host(key.mac).unwrap().durable_until, 0);
}

#[test]
fn a_promise_for_one_address_is_none_for_another() {
    let mut lab = Lab::new(CONFIG);
    let giaddr = Ipv4Addr::new(10, 2, 0, 1);
    lab.leased(NODE1);
    let elsewhere = lab.send(&relayed(discover(NODE1), giaddr)).unwrap().message.yiaddr();
    assert_eq!(elsewhere, Ipv4Addr::new(10, 2, 0, 100), "its reserved address is of no use there");
    let key = HostKey::from(NODE1);
    assert_eq!(lab.engine.entries.host(key.mac).unwrap().durable_until, 0, "nothing is stored for this one");
    assert_eq!(lab.offered(NODE1), Ipv4Addr::new(10, 1, 1, 50), "and back");
}

#[test]
fn the_kernel_promises_no_longer_than_the_store_has() {
    let mut lab = Lab::new(CONFIG);
    lab.now.wall += Duration::from_millis(900);
    lab.leased(UNKNOWN);
    let Some(Change::Put(lease)) = lab.changes.first() else { panic!("nothing stored") };
    let until = |lab: &Lab| Duration::from_nanos(lab.engine.entries.host(UNKNOWN).unwrap().durable_until);
    let stored = Duration::from_secs(u64::try_from(lease.expires).unwrap()) - lab.now.wall;
    assert!(until(&lab) - lab.now.boot <= stored);
    let mut again = Lab::with_leases(CONFIG, std::slice::from_ref(lease), DhcpRole::Server);
    again.now = lab.now;
    assert!(until(&again) - Duration::from_secs(1000) <= Duration::from_secs(1200));
}
