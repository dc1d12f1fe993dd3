//! What the log says of other servers and of machines that are where they should not be. Each line is looked at as it is
//! written.

use std::io;
use std::sync::{Arc, Mutex};

use tracing::Level;

use super::*;

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
pub(super) fn said(act: impl FnOnce()) -> Vec<String> {
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

pub(super) fn one(lines: &[String], words: &[&str]) {
    let has = |line: &&String| words.iter().all(|word| line.contains(word));
    assert_eq!(lines.iter().filter(has).count(), 1, "{words:?} in {lines:#?}");
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
    let lines = said(|| {
        for _ in 0..5 {
            assert!(lab.send(&request(UNKNOWN, theirs, Some(FOREIGN))).is_none());
        }
    });
    assert_eq!(lines.len(), 1, "{lines:#?}");
    one(&lines, &["52:54:00:00:00:99 took 10.1.7.7 from another DHCP server, 10.1.0.66"]);
    assert_ne!(address, theirs);
}

#[test]
fn another_server_s_refusals_and_addresses_are_named_once_an_hour() {
    let mut lab = Lab::new(CONFIG);
    let given = Ipv4Addr::new(10, 1, 7, 7);
    let nak = foreign(UNKNOWN, MessageType::Nak, Ipv4Addr::UNSPECIFIED, FOREIGN);
    let offers = [MessageType::Offer, MessageType::Ack].map(|kind| foreign(NODE1, kind, given, FOREIGN));
    let all = |lab: &mut Lab| {
        said(|| {
            for answer in [&nak, &nak].into_iter().chain(&offers) {
                snoop(lab, answer, FOREIGN);
            }
        })
    };
    let lines = all(&mut lab);
    assert_eq!(lines.len(), 2, "{lines:#?}");
    one(&lines, &["WARN", "another DHCP server, 10.1.0.66, refused 52:54:00:00:00:99 on eth1 (NAK)"]);
    one(&lines, &["WARN", "10.1.0.66, gives 10.1.7.7 to 52:54:00:00:00:01 on eth1"]);
    lab.later(3599);
    assert_eq!(all(&mut lab), [] as [String; 0]);
    lab.later(1);
    assert_eq!(all(&mut lab).len(), 2, "it is still so an hour later");
}

#[test]
fn what_is_ours_or_came_by_a_relay_or_a_proxy_hears_is_nobody_s_fault() {
    let mut lab = Lab::new(CONFIG);
    let mut proxy = Lab::with_leases(CONFIG, &[], DhcpRole::Proxy);
    let ack = |server| foreign(UNKNOWN, MessageType::Ack, Ipv4Addr::new(10, 1, 1, 33), server);
    let lines = said(|| {
        snoop(&mut lab, &ack(SERVER), SERVER);
        snoop(&mut lab, &relayed(ack(FOREIGN), Ipv4Addr::new(10, 1, 0, 1)), FOREIGN);
        snoop(&mut lab, &discover(UNKNOWN), FOREIGN);
        snoop(&mut proxy, &ack(FOREIGN), FOREIGN);
        for length in 0..240 {
            let bytes = &ack(FOREIGN).to_vec().unwrap()[..length];
            lab.send_bytes(bytes, 68, SocketAddrV4::new(FOREIGN, 67));
        }
    });
    assert!(lines.len() <= 1, "{lines:#?}");
}

#[test]
fn a_machine_in_the_wrong_vlan_is_named_with_both_networks() {
    let text = CONFIG.replace("ip = \"10.1.1.50\"", "ip = \"10.2.0.50\"");
    let mut lab = Lab::new(&text);
    let lines = said(|| {
        for _ in 0..3 {
            lab.offered(NODE1);
        }
    });
    one(
        &lines,
        &[
            "WARN",
            "node1",
            "has 10.2.0.50 in the configuration, but asks on eth1, where 10.1.0.0/16 is",
            "VLAN",
        ],
    );
    let lines = said(|| {
        let nak = lab.send(&request(UNKNOWN, Ipv4Addr::new(10, 2, 0, 100), None)).unwrap();
        assert_eq!(nak.kind(), MessageType::Nak);
    });
    assert_eq!(lines, [] as [String; 0], "said only when it has left");
}

#[test]
fn an_unknown_relay_is_named_with_a_machine_behind_it_and_again_after_an_hour() {
    let mut lab = Lab::new(CONFIG);
    let relay = Ipv4Addr::new(10, 9, 0, 1);
    let ask = |lab: &mut Lab, mac| {
        said(|| {
            let message = relayed(discover(mac), relay);
            assert!(lab.send_to(&message, 67, SocketAddrV4::new(Ipv4Addr::new(10, 9, 0, 2), 67)).is_none());
        })
    };
    let lines = ask(&mut lab, UNKNOWN);
    one(
        &lines,
        &["relay 10.9.0.1 is in no [[subnet]]", "52:54:00:00:00:99 among them", "came from 10.9.0.2"],
    );
    assert_eq!(ask(&mut lab, OTHER), [] as [String; 0]);
    lab.later(3600);
    one(&ask(&mut lab, OTHER), &["relay 10.9.0.1", "52:54:00:00:00:98"]);
}

#[test]
fn an_answer_without_a_boot_file_does_not_speak_of_one() {
    let mut lab = Lab::new(CONFIG);
    lab.leased(UNKNOWN);
    let mut inform = message(UNKNOWN, MessageType::Inform);
    inform.set_ciaddr(Ipv4Addr::new(10, 1, 1, 33));
    let lines = said(|| {
        let bytes = inform.to_vec().unwrap();
        let from = SocketAddrV4::new(inform.ciaddr(), 68);
        let incoming = Incoming { ifindex: 7, port: 67, from, to: SERVER, payload: &bytes };
        lab.engine.handle(&incoming, lab.now);
        for command in lab.engine.take_commands() {
            if let Command::Send { told, ifindex, .. } = command {
                lab.engine.sent(&told, ifindex);
            }
        }
    });
    one(&lines, &["gave the options to an operating system"]);
    assert!(!lines[0].contains("boot "), "{lines:?}");
}

/// A promise that the kernel's table has and the store has not: the store lost it.
#[test]
fn leases_that_the_store_lost_are_taken_from_the_kernel_s_tables() {
    let mut lab = Lab::new(CONFIG);
    let address = lab.leased(UNKNOWN);
    let key = HostKey::from(UNKNOWN);
    let host = *lab.engine.tables.hosts.get(&key).unwrap();
    let mut again = Lab::new(CONFIG);
    let lines = said(|| assert_eq!(again.engine.adopt(&[(key, host)], again.now), 1));
    one(
        &lines,
        &["WARN", "the store has no lease for 1 machines that the kernel's tables promise an address"],
    );
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
