//! What is told of other servers and of machines that are where they should not be.

use std::io;
use std::sync::{Arc, Mutex};

use boot_common::class::Stage;
use tracing::Level;

use super::*;
use crate::events::{Answer, By, Machine, NoSubnet, OtherServer, Step, Through};

const FOREIGN: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 66);

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The lines that something leaves, without what debugging shows.
fn said(act: impl FnOnce()) -> Vec<String> {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(Level::INFO)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::with_default(subscriber, act);
    let bytes = std::mem::take(&mut *log.0.lock().unwrap());
    String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
}

/// What has happened to which machine since the last time.
pub(super) fn told(lab: &mut Lab) -> Vec<(Option<Mac>, Step)> {
    let mut events = Vec::new();
    assert_eq!(lab.engine.take_events(&mut events), 0);
    assert!(events.iter().all(|event| event.at == lab.now.boot && event.by == By::DAEMON));
    let link = lab.engine.link_name(7);
    assert!(events.iter().all(|event| event.link.is_none() || event.link == link));
    let told = events.into_iter().map(|event| (event.machine.map(|machine| machine.mac), event.step));
    // That somebody was not answered is another test's.
    told.filter(|(_, step)| !matches!(step, Step::Unanswered { .. })).collect()
}

/// What another server broadcasts.
fn foreign(mac: Mac, kind: MessageType, given: Ipv4Addr, server: Ipv4Addr) -> Message {
    let mut answer = message(mac, kind);
    answer.set_opcode(dhcproto::v4::Opcode::BootReply).set_yiaddr(given);
    answer.opts_mut().insert(DhcpOption::ServerIdentifier(server));
    answer
}

fn snoop(lab: &mut Lab, answer: &Message, from: Ipv4Addr) {
    assert!(lab.send_to(answer, 68, SocketAddrV4::new(from, 67)).is_none(), "an answer to an answer");
}

#[test]
fn a_machine_that_takes_another_server_s_offer_is_named_with_that_server() {
    let mut lab = Lab::new(CONFIG);
    let address = lab.offered(UNKNOWN);
    let theirs = Ipv4Addr::new(10, 1, 7, 7);
    for _ in 0..5 {
        assert!(lab.send(&request(UNKNOWN, theirs, Some(FOREIGN))).is_none());
    }
    let [(Some(UNKNOWN), Step::OtherServer(chosen))] = told(&mut lab)[..] else { panic!("another step") };
    assert_eq!(chosen, OtherServer::Chosen { server: FOREIGN, address: theirs, was_offered: true });
    assert_ne!(address, theirs);
}

#[test]
fn another_server_s_refusals_and_addresses_are_named_once_an_hour() {
    let mut lab = Lab::new(CONFIG);
    let given = Ipv4Addr::new(10, 1, 7, 7);
    let nak = foreign(UNKNOWN, MessageType::Nak, Ipv4Addr::UNSPECIFIED, FOREIGN);
    let offers = [MessageType::Offer, MessageType::Ack].map(|kind| foreign(NODE1, kind, given, FOREIGN));
    let all = |lab: &mut Lab| {
        for answer in [&nak, &nak].into_iter().chain(&offers) {
            snoop(lab, answer, FOREIGN);
        }
        told(lab)
    };
    let [(Some(UNKNOWN), Step::OtherServer(refused)), (Some(NODE1), Step::OtherServer(gives))] =
        all(&mut lab)[..]
    else {
        panic!("other steps")
    };
    assert_eq!(refused, OtherServer::Refused { server: FOREIGN, station: None });
    assert_eq!(gives, OtherServer::Gives { server: FOREIGN, station: None, address: given });
    lab.later(3599);
    assert!(all(&mut lab).is_empty());
    lab.later(1);
    assert_eq!(all(&mut lab).len(), 2, "it is still so an hour later");
}

/// What somebody sends who invents a server for each answer, and a true one at the same time.
#[test]
fn invented_servers_do_not_keep_the_line_of_a_true_one_out() {
    let mut lab = Lab::new(CONFIG);
    let given = Ipv4Addr::new(10, 1, 7, 7);
    let station = |number: u8| Some(Mac([2, 0, 0, 0, 9, number]));
    let snoop = |lab: &mut Lab, station, kind, server: Ipv4Addr| {
        let payload = foreign(UNKNOWN, kind, given, server).to_vec().unwrap();
        let (from, to) = (SocketAddrV4::new(server, 67), Ipv4Addr::BROADCAST);
        let incoming = Incoming { ifindex: 7, port: 68, from, to, payload: &payload };
        lab.engine.snoop(&incoming, station, lab.now);
    };
    let flood = |lab: &mut Lab| {
        for number in 0..20_000_u32 {
            let kind = if number % 2 == 0 { MessageType::Nak } else { MessageType::Offer };
            snoop(lab, station(1), kind, Ipv4Addr::from(0x0b00_0001 + number));
        }
        told(lab)
    };
    let events = flood(&mut lab);
    assert_eq!(events.len(), 11, "{events:#?}");
    let last = OtherServer::TooMany { server: Ipv4Addr::new(11, 0, 0, 11), station: station(1), most: 10 };
    assert!(matches!(events.last(), Some((_, Step::OtherServer(other))) if *other == last), "{events:#?}");
    snoop(&mut lab, station(2), MessageType::Offer, FOREIGN);
    let gives = OtherServer::Gives { server: FOREIGN, station: station(2), address: given };
    let events = told(&mut lab);
    assert!(matches!(events[..], [(_, Step::OtherServer(other))] if other == gives), "{events:#?}");
    lab.later(3600);
    assert_eq!(flood(&mut lab).len(), 11, "an hour later");
}

#[test]
fn what_is_ours_or_came_by_a_relay_or_a_proxy_hears_is_nobody_s_fault() {
    let mut lab = Lab::new(CONFIG);
    let mut proxy = Lab::with_leases(CONFIG, &[], DhcpRole::Proxy);
    let ack = |server| foreign(UNKNOWN, MessageType::Ack, Ipv4Addr::new(10, 1, 1, 33), server);
    snoop(&mut lab, &ack(SERVER), SERVER);
    snoop(&mut lab, &relayed(ack(FOREIGN), Ipv4Addr::new(10, 1, 0, 1)), FOREIGN);
    snoop(&mut lab, &discover(UNKNOWN), FOREIGN);
    snoop(&mut proxy, &ack(FOREIGN), FOREIGN);
    for length in 0..240 {
        let bytes = &ack(FOREIGN).to_vec().unwrap()[..length];
        lab.send_bytes(bytes, 68, SocketAddrV4::new(FOREIGN, 67));
    }
    assert!(told(&mut lab).len() <= 1 && told(&mut proxy).is_empty());
}

#[test]
fn a_machine_in_the_wrong_vlan_is_named_with_both_networks() {
    let text = CONFIG.replace("ip = \"10.1.1.50\"", "ip = \"10.2.0.50\"");
    let mut lab = Lab::new(&text);
    for _ in 0..3 {
        lab.offered(NODE1);
    }
    let home = Ipv4Addr::new(10, 2, 0, 50);
    let [(Some(NODE1), Step::Stray { reserved, through: Through::Link, subnet })] = told(&mut lab)[..] else {
        panic!("another step")
    };
    assert_eq!((reserved, subnet), (home, "10.1.0.0/16".parse().unwrap()));
    let nak = lab.send(&request(UNKNOWN, Ipv4Addr::new(10, 2, 0, 100), None)).unwrap();
    assert_eq!(nak.kind(), MessageType::Nak);
    assert!(told(&mut lab).is_empty(), "told only when it has left");
}

#[test]
fn an_unknown_relay_is_named_with_a_machine_behind_it_and_again_after_an_hour() {
    let mut lab = Lab::new(CONFIG);
    let relay = Ipv4Addr::new(10, 9, 0, 1);
    let behind = Ipv4Addr::new(10, 9, 0, 2);
    let ask = |lab: &mut Lab, mac| {
        let message = relayed(discover(mac), relay);
        assert!(lab.send_to(&message, 67, SocketAddrV4::new(behind, 67)).is_none());
        match told(lab)[..] {
            [] => None,
            [(Some(mac), Step::NoSubnet(place))] => Some((mac, place)),
            ref other => panic!("{other:?}"),
        }
    };
    let place = NoSubnet::Behind { relay, selects: relay, from: behind, station: None };
    assert_eq!(ask(&mut lab, UNKNOWN), Some((UNKNOWN, place)));
    assert_eq!(ask(&mut lab, OTHER), None);
    lab.later(3600);
    assert_eq!(ask(&mut lab, OTHER), Some((OTHER, place)));
}

#[test]
fn what_an_answer_says_is_told_when_it_has_left_and_looked_up_when_somebody_reads_it() {
    let mut lab = Lab::new(CONFIG);
    let mut ask = |message: Message| {
        let (bytes, from) = (message.to_vec().unwrap(), SocketAddrV4::new(message.ciaddr(), 68));
        let incoming = Incoming { ifindex: 7, port: 67, from, to: Ipv4Addr::BROADCAST, payload: &bytes };
        lab.engine.handle(&incoming, lab.now);
        let mut events = Vec::new();
        lab.engine.take_events(&mut events);
        assert!(events.is_empty(), "nothing has left yet");
        for command in lab.engine.take_commands() {
            if let Command::Send { told, ifindex, .. } = command {
                lab.engine.sent(&told, ifindex, lab.now);
            }
        }
        assert_eq!(lab.engine.take_events(&mut events), 0);
        let mut event = events.pop().expect("an event");
        assert!(events.is_empty());
        assert_eq!(event.machine, Some(Machine::from(NODE1)));
        lab.engine.complete(&mut event);
        assert_eq!(event.machine.unwrap().name.as_deref(), Some("node1"));
        match event.step {
            Step::Answered(answered) => answered,
            other => panic!("{other:?}"),
        }
    };
    let home = Ipv4Addr::new(10, 1, 1, 50);
    let offered = ask(pxe(discover(NODE1), 7, "PXEClient"));
    assert_eq!((offered.answer, offered.address), (Answer::Offer, home));
    assert_eq!(offered.boot.map(|file| file.describe()).as_deref(), Some("snponly.efi"));
    let mut inform = message(NODE1, MessageType::Inform);
    inform.set_ciaddr(home);
    let informed = ask(inform);
    assert_eq!((informed.answer, informed.boot), (Answer::Options, None));
}

/// A promise that the kernel's table has and the store has not: the store lost it.
#[test]
fn leases_that_the_store_lost_are_taken_from_the_kernel_s_tables() {
    let mut lab = Lab::new(CONFIG);
    let address = lab.leased(UNKNOWN);
    let key = HostKey::from(UNKNOWN);
    let host = *lab.engine.entries.host(key.mac).unwrap();
    let mut again = Lab::new(CONFIG);
    let lines = said(|| assert_eq!(again.engine.adopt(&[(key, host)], again.now), 1));
    let says = "the store has no lease for 1 machines that the kernel's tables promise an address";
    assert!(lines.len() == 1 && lines[0].contains("WARN") && lines[0].contains(says), "{lines:?}");
    let commands = again.engine.take_commands();
    let stored = commands.iter().find_map(|command| match command {
        Command::Persist(Change::Put(lease)) => Some(lease),
        _ => None,
    });
    let stored = stored.expect("stored again");
    assert_eq!((stored.mac, stored.address, stored.state), (UNKNOWN, address, LeaseState::Leased));
    // Longer than an offer holds, nobody else gets it.
    again.later(OFFER_HOLDS + 10);
    assert_ne!(again.leased(OTHER), address);
    assert!(again.send(&discover(Mac([2, 0, 0, 0, 0, 7]))).is_none(), "the pool has two");
}

/// What a boot's timeline is told: a client of a server that waits in vain, and the addresses that machines beside a proxy take.
#[test]
fn who_is_not_answered_is_told_with_the_reason_and_a_proxy_tells_who_took_an_address_elsewhere() {
    let theirs = Ipv4Addr::new(10, 1, 7, 7);
    let steps = |lab: &mut Lab, messages: &[Message]| -> Vec<Step> {
        for message in messages {
            lab.send(message);
        }
        let mut events = Vec::new();
        lab.engine.take_events(&mut events);
        events.into_iter().map(|event| event.step).filter(|step| !matches!(step, Step::Answered(_))).collect()
    };
    let system = request(UNKNOWN, theirs, Some(FOREIGN));
    let mut server = Lab::new(CONFIG);
    let told = steps(&mut server, std::slice::from_ref(&system));
    let is_unanswered = |step: &Step| matches!(step, Step::Unanswered { reason: Reason::OtherServer, .. });
    assert!(told.iter().any(is_unanswered), "{told:?}");

    let mut proxy = Lab::with_leases(CONFIG, &[], DhcpRole::Proxy);
    assert!(steps(&mut proxy, std::slice::from_ref(&system)).is_empty(), "it never asked to boot");
    let firmware = pxe(request(UNKNOWN, theirs, Some(FOREIGN)), 7, "PXEClient");
    let told = steps(&mut proxy, &[pxe(discover(UNKNOWN), 7, "PXEClient"), firmware, system]);
    let [Step::TookElsewhere { class: first, .. }, Step::TookElsewhere { address, server, class }] = told[..]
    else {
        panic!("{told:?}")
    };
    assert_eq!((address, server), (theirs, FOREIGN));
    assert_eq!((first.stage, class.stage), (Stage::Rom, Stage::Os));
}

/// Of a machine that asks here, and by a server that is none of this one's addresses.
#[test]
fn another_server_that_names_a_boot_file_is_told_of_with_it() {
    for (role, others) in [(DhcpRole::Server, 1), (DhcpRole::Proxy, 0)] {
        let mut lab = Lab::with_leases(CONFIG, &[], role);
        lab.send(&pxe(discover(UNKNOWN), 7, "PXEClient:Arch:00007"));
        told(&mut lab);
        let mut offer = foreign(UNKNOWN, MessageType::Offer, Ipv4Addr::new(10, 1, 7, 7), FOREIGN);
        offer.opts_mut().insert(DhcpOption::BootfileName(b"pxelinux.0\0".to_vec()));
        snoop(&mut lab, &offer, FOREIGN);
        let steps = told(&mut lab);
        let [(Some(UNKNOWN), Step::OtherFile { server: FOREIGN, file, .. }), rest @ ..] = &steps[..] else {
            panic!("{role:?}: {steps:?}")
        };
        assert_eq!((&**file, rest.len()), ("pxelinux.0", others));
        snoop(&mut lab, &offer, FOREIGN);
        assert!(told(&mut lab).is_empty(), "once an hour");
        // In the old field, and of a machine that asks nobody here.
        let mut old =
            foreign(UNKNOWN, MessageType::Ack, Ipv4Addr::new(10, 1, 7, 7), Ipv4Addr::new(10, 1, 0, 67));
        old.set_fname(b"old.0");
        snoop(&mut lab, &old, FOREIGN);
        assert!(matches!(&told(&mut lab)[0].1, Step::OtherFile { file, .. } if &**file == "old.0"));
        let mut stranger = foreign(OTHER, MessageType::Offer, Ipv4Addr::new(10, 1, 7, 8), FOREIGN);
        stranger.set_fname(b"old.0");
        snoop(&mut lab, &stranger, FOREIGN);
        assert!(told(&mut lab).is_empty());
    }
}
