use boot_common::tftp::State;

use super::*;

pub(super) const LOCAL: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);
pub(super) const CLIENT: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 1, 1, 33), 1069);
const LIMITS: Limits = Limits { mtu: 1500, window: 16 };
pub(super) const SOON: Duration = Duration::from_millis(1);

/// What came out, as a test reads it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Out {
    Error(u16),
    Oack(String),
    Data(u16, usize),
    Told(Outcome),
}

/// Transfers with every file present at a given size, and a clock.
pub(super) struct Server {
    pub(super) transfers: Transfers,
    pub(super) now: Duration,
    size: u64,
    opens: usize,
    closes: usize,
}

impl Server {
    pub(super) fn with_file(size: u64) -> Self {
        Self {
            transfers: Transfers::new(LIMITS, 2, Slots::own(64)),
            now: Duration::from_secs(100),
            size,
            opens: 0,
            closes: 0,
        }
    }

    pub(super) fn gets(&mut self, packet: &[u8]) -> Vec<Out> {
        self.gets_from(packet, CLIENT)
    }

    pub(super) fn gets_from(&mut self, packet: &[u8], client: SocketAddrV4) -> Vec<Out> {
        self.transfers.handle(packet, client, LOCAL, self.now);
        self.outputs()
    }

    pub(super) fn waits(&mut self, time: Duration) -> Vec<Out> {
        let end = self.now + time;
        let mut out = Vec::new();
        while let Some(next) = self.transfers.next_wakeup().filter(|next| *next <= end) {
            self.now = next;
            self.transfers.tick(next);
            out.extend(self.outputs());
        }
        self.now = end;
        out
    }

    pub(super) fn outputs(&mut self) -> Vec<Out> {
        let mut out = Vec::new();
        while let Some(action) = self.transfers.next_action() {
            match action {
                Action::Open { token, name, .. } => {
                    self.opens += 1;
                    let result = match name.as_str() {
                        "missing" => Err(OpenError::NotFound),
                        "../secret" => Err(OpenError::Forbidden),
                        _ => Ok(Image { id: token.0, size: self.size, place: None, content: 0 }),
                    };
                    self.transfers.opened(token, result, self.now);
                }
                Action::Send { bytes, .. } if bytes.starts_with(&[0, 5]) => {
                    assert_eq!(bytes.last(), Some(&0));
                    out.push(Out::Error(u16::from_be_bytes([bytes[2], bytes[3]])));
                }
                Action::Send { bytes, .. } => {
                    assert!(bytes.starts_with(&[0, 6]));
                    out.push(Out::Oack(String::from_utf8(bytes[2..].to_vec()).unwrap().replace('\0', " ")));
                }
                Action::Block { offset, len, block, .. } => {
                    assert!(offset + len as u64 <= self.size);
                    out.push(Out::Data(block, len));
                }
                Action::Close { .. } => self.closes += 1,
                Action::Publish { .. } | Action::Withdraw { .. } => {}
                Action::Tell(told) => out.push(Out::Told(told.outcome)),
            }
        }
        out
    }
}

pub(super) fn rrq(text: &str) -> Vec<u8> {
    let mut packet = vec![0, 1];
    packet.extend(text.replace(' ', "\0").bytes());
    packet.push(0);
    packet
}

pub(super) fn ack(block: u16) -> Vec<u8> {
    let [high, low] = block.to_be_bytes();
    vec![0, 4, high, low]
}

fn error(code: u8) -> Vec<u8> {
    [&[0, 5, 0, code][..], b"User aborted the transfer\0"].concat()
}

pub(super) fn oack(text: &str) -> Vec<Out> {
    vec![Out::Oack(text.to_owned())]
}

fn finished(out: &[Out]) -> bool {
    matches!(out, [Out::Told(Outcome::Finished { confirmed: true, .. })])
}

#[test]
fn plain_request_gets_the_first_block_at_once() {
    let mut server = Server::with_file(1000);
    assert_eq!(server.gets(&rrq("f octet")), [Out::Data(1, 512)]);
    assert_eq!(server.gets(&ack(1)), [Out::Data(2, 488)]);
    assert!(finished(&server.gets(&ack(2))));
    assert!(server.transfers.is_empty() && server.closes == 1 && server.transfers.next_wakeup().is_none());
}

#[test]
fn full_and_empty_files_end_with_an_empty_block() {
    let mut server = Server::with_file(512);
    assert_eq!(server.gets(&rrq("f OcTeT")), [Out::Data(1, 512)]);
    assert_eq!(server.gets(&ack(1)), [Out::Data(2, 0)]);
    assert!(finished(&server.gets(&ack(2))));

    let mut server = Server::with_file(0);
    assert_eq!(server.gets(&rrq("f octet")), [Out::Data(1, 0)]);
    assert!(finished(&server.gets(&ack(1))));
}

#[test]
fn oack_holds_what_was_asked_for_and_never_more() {
    for (asked, answered) in [
        ("tsize 0 blksize 1468 windowsize 4", "tsize 5000 blksize 1468 windowsize 4 "),
        ("blksize 1432 tsize 0", "blksize 1432 tsize 5000 "),
        ("BLKSIZE 1024", "BLKSIZE 1024 "),
        ("blksize 65464", "blksize 1468 "),
        ("blksize 8", "blksize 8 "),
        ("windowsize 65535", "windowsize 16 "),
        ("timeout 5 blksize 1468", "timeout 5 blksize 1468 "),
        ("multicast  utimeout 7 tsize 0", "tsize 5000 "),
        ("tsize 0 tsize 1", "tsize 5000 "),
        ("timeout 0 blksize 7 blksize 65465 windowsize 0 tsize 0", "tsize 5000 "),
        ("blksize +512 tsize -1 timeout 1x windowsize 99999999999999999999999 timeout 255", "timeout 255 "),
    ] {
        assert_eq!(
            Server::with_file(5000).gets(&rrq(&format!("f octet {asked}"))),
            oack(answered),
            "{asked}"
        );
    }
}

#[test]
fn no_usable_option_means_no_oack() {
    for asked in ["f octet blksize 7", "f octet foo bar", "f octet blksize", "f octet  "] {
        assert_eq!(Server::with_file(5000).gets(&rrq(asked)), [Out::Data(1, 512)], "{asked}");
    }
}

#[test]
fn data_follows_only_the_ack_of_the_oack() {
    let mut server = Server::with_file(5000);
    server.gets(&rrq("f octet blksize 1000 windowsize 4"));
    assert_eq!(server.gets(&ack(1)), []);
    assert_eq!(
        server.gets(&ack(0)),
        [Out::Data(1, 1000), Out::Data(2, 1000), Out::Data(3, 1000), Out::Data(4, 1000)]
    );
    assert_eq!(server.gets(&ack(0)), []);
    assert_eq!(server.gets(&ack(4)), [Out::Data(5, 1000), Out::Data(6, 0)]);
    assert!(finished(&server.gets(&ack(6))));
}

#[test]
fn a_gap_is_filled_once_what_followed_it_has_arrived() {
    let mut server = Server::with_file(50_000);
    server.gets(&rrq("f octet blksize 1000 windowsize 4"));
    server.gets(&ack(0));
    assert_eq!(server.gets(&ack(2)), [], "what follows would be discarded");
    for stray in [2, 2, 1, 0, 7, 100, 65535] {
        assert_eq!(server.gets(&ack(stray)), [], "{stray}");
    }
    assert_eq!(server.waits(Duration::from_millis(9)), []);
    assert_eq!(server.waits(SOON), [3, 4, 5, 6].map(|block| Out::Data(block, 1000)));
    // The window goes on where the client is, with what it was not sent yet.
    assert_eq!(server.gets(&ack(3)), [Out::Data(7, 1000)]);
    assert_eq!(server.gets(&ack(7)), [8, 9, 10, 11].map(|block| Out::Data(block, 1000)));
}

#[test]
fn lost_last_ack_is_a_finished_transfer() {
    let mut server = Server::with_file(600);
    server.gets(&rrq("f octet"));
    server.gets(&ack(1));
    let out = server.waits(Duration::from_secs(31));
    assert!(matches!(out.last(), Some(Out::Told(Outcome::Finished { confirmed: false, .. }))));
}

#[test]
fn repeated_request_starts_no_second_stream() {
    let request = rrq("f octet blksize 1000");
    let mut server = Server::with_file(5000);
    assert_eq!(server.gets(&request), oack("blksize 1000 "));
    assert_eq!(server.gets(&request), oack("blksize 1000 "));
    assert_eq!(server.gets(&ack(0)), [Out::Data(1, 1000)]);
    assert_eq!(server.gets(&request), []);
    assert_eq!((server.opens, server.transfers.len()), (1, 1));

    let mut server = Server::with_file(5000);
    server.gets(&rrq("f octet"));
    assert_eq!(server.gets(&rrq("f octet")), [Out::Data(1, 512)]);
    assert_eq!(server.gets(&ack(1)), [Out::Data(2, 512)]);
    assert_eq!(server.gets(&ack(1)), []);
}

#[test]
fn request_after_a_reset_starts_over() {
    let mut server = Server::with_file(5000);
    server.gets(&rrq("f octet"));
    server.gets(&ack(1));
    server.waits(Duration::from_secs(5));
    assert_eq!(server.gets(&rrq("f octet")), [Out::Told(Outcome::StartedOver), Out::Data(1, 512)]);
    assert_eq!(server.gets(&rrq("other octet")), [Out::Told(Outcome::StartedOver), Out::Data(1, 512)]);
    assert_eq!((server.opens, server.closes, server.transfers.len()), (3, 2, 1));
}

#[test]
fn size_probe_is_a_normal_step() {
    let mut server = Server::with_file(5000);
    server.gets(&rrq("f octet tsize 0 blksize 1468 windowsize 4"));
    assert_eq!(server.gets(&error(8)), [Out::Told(Outcome::Probed)]);
    assert!(server.transfers.is_empty() && server.closes == 1);
}

#[test]
fn error_ends_quietly() {
    let mut server = Server::with_file(5000);
    assert_eq!(server.gets(&error(0)), []);
    server.gets(&rrq("f octet"));
    server.gets(&ack(2));
    server.gets(&ack(1));
    let message = "User aborted the transfer".to_owned();
    assert_eq!(server.gets(&error(3)), [Out::Told(Outcome::Aborted { code: 3, message, bytes: 512 })]);
    assert_eq!(server.waits(Duration::from_secs(60)), []);
}

#[test]
fn what_is_not_served_gets_the_right_error() {
    let refused = |out: &[Out], code| matches!(out, [Out::Error(got), Out::Told(_)] if *got == code);
    for (packet, code) in [
        (rrq("missing octet"), 1),
        (rrq("../secret octet"), 2),
        (rrq("f mail"), 4),
        (rrq(" octet"), 1),
        (rrq("a\x1b[2J octet"), 1),
        (rrq(&format!("{} octet", "n".repeat(600))), 1),
        (b"\0\x01f".to_vec(), 4),
        (b"\0\x01f\0octet".to_vec(), 4),
        (b"\0\x01\xc3\x28\0octet\0".to_vec(), 1),
        (b"\0\x02f\0octet\0".to_vec(), 2),
        (b"\0\x03\0\x01data".to_vec(), 4),
        (b"\0\x09".to_vec(), 4),
        (b"\xff\xff\0\0".to_vec(), 4),
    ] {
        let mut server = Server::with_file(1);
        let out = server.gets(&packet);
        assert!(refused(&out, code), "{packet:?}: {out:?}");
        assert!(server.transfers.is_empty());
    }
    for cut in [&b""[..], b"\0", b"\0\x04", b"\0\x04\0", b"\0\x05", b"\0\x05\0"] {
        assert_eq!(Server::with_file(1).gets(cut), [], "{cut:?}");
    }
}

#[test]
fn strays_do_not_disturb_a_transfer() {
    let mut server = Server::with_file(5000);
    server.gets(&rrq("f octet"));
    let other = SocketAddrV4::new(*CLIENT.ip(), 1070);
    assert_eq!(server.gets_from(&ack(1), other), []);
    assert_eq!(server.gets(b"\0\x09"), []);
    assert_eq!(server.gets(&ack(1)), [Out::Data(2, 512)]);
}

#[test]
fn trailing_ff_is_not_part_of_the_name() {
    let mut transfers = Transfers::new(LIMITS, 2, Slots::own(64));
    transfers.handle(b"\0\x01undionly.kpxe\xff\xff\0octet\0", CLIENT, LOCAL, SOON);
    assert!(matches!(transfers.next_action(), Some(Action::Open { name, .. }) if name == "undionly.kpxe"));
}

#[test]
fn only_stations_are_answered() {
    for (client, local) in [
        ("10.1.1.33:0", "10.1.0.1"),
        ("0.0.0.0:1069", "10.1.0.1"),
        ("255.255.255.255:1069", "10.1.0.1"),
        ("224.0.0.1:1069", "10.1.0.1"),
        ("127.0.0.1:1069", "10.1.0.1"),
        ("10.1.0.1:1069", "10.1.0.1"),
        ("10.1.1.33:1069", "255.255.255.255"),
        ("10.1.1.33:1069", "239.1.2.3"),
    ] {
        let mut transfers = Transfers::new(LIMITS, 2, Slots::own(64));
        transfers.handle(&rrq("f octet"), client.parse().unwrap(), local.parse().unwrap(), SOON);
        assert_eq!(transfers.next_action(), None, "{client} {local}");
    }
}

#[test]
fn number_of_transfers_is_bounded() {
    let mut server = Server::with_file(5000);
    server.transfers.most = 3;
    let client = |port| SocketAddrV4::new(*CLIENT.ip(), port);
    for port in 1..=3 {
        server.gets_from(&rrq("f octet"), client(port));
        server.waits(SOON);
    }
    assert_eq!(server.gets_from(&rrq("f octet"), client(4)), []);
    assert_eq!((server.transfers.len(), server.transfers.crowded_out()), (3, 1));
    server.waits(Duration::from_secs(3));
    server.gets_from(&ack(1), client(1));
    let out = server.gets_from(&rrq("f octet"), client(5));
    assert_eq!(out, [Out::Told(Outcome::CrowdedOut), Out::Data(1, 512)]);
    assert_eq!(server.gets_from(&ack(2), client(1)), [Out::Data(3, 512)]);
    assert_eq!(server.gets_from(&ack(1), client(2)), []);
    assert_eq!((server.transfers.len(), server.transfers.crowded_out()), (3, 2));
}

#[test]
fn what_the_kernel_half_saw_decides_about_a_repeated_request() {
    let begin = || {
        let mut server = Server::with_file(5000);
        server.gets(&rrq("f octet"));
        server.gets(&ack(1));
        server
    };
    let kernel_moves = |server: &Server, sent, acked| {
        let flight = server.transfers.slots.flight(0).unwrap();
        flight.state.set(State { sent, acked }.packed());
        flight.progressed.set(server.now.as_nanos().try_into().unwrap());
    };

    let mut server = begin();
    server.now += DUPLICATE * 2;
    kernel_moves(&server, 6, 5);
    assert_eq!(server.gets(&rrq("f octet")), [], "a late duplicate of a transfer that goes on");
    assert_eq!(server.gets(&ack(5)), [Out::Data(6, 512)]);

    let mut server = begin();
    server.now += DUPLICATE;
    assert_eq!(server.gets(&rrq("f octet")), [Out::Told(Outcome::StartedOver), Out::Data(1, 512)]);

    // The last block is acknowledged, and the timer is not due yet.
    let mut server = begin();
    kernel_moves(&server, 11, 11);
    assert_eq!(
        server.gets(&rrq("f octet")),
        [],
        "acknowledgements overtook a duplicate on its way to the daemon"
    );
    let out = server.gets(&rrq("g octet"));
    assert!(finished(&out[..1]) && out[1..] == [Out::Data(1, 512)], "{out:?}");

    // Who stood still longest makes room: not who went on without the daemon.
    let mut server = begin();
    server.transfers.most = 2;
    server.gets_from(&rrq("f octet"), SocketAddrV4::new(*CLIENT.ip(), 2));
    server.now += IDLE;
    kernel_moves(&server, 6, 5);
    let out = server.gets_from(&rrq("f octet"), SocketAddrV4::new(*CLIENT.ip(), 3));
    assert_eq!(out, [Out::Told(Outcome::CrowdedOut), Out::Data(1, 512)]);
    assert_eq!(server.gets(&ack(5)), [Out::Data(6, 512)]);
}

#[test]
fn a_bad_request_from_the_port_of_a_transfer_leaves_that_alone() {
    let write = [0, 2, b'x', 0, b'o', b'c', b't', b'e', b't', 0];
    let mut server = Server::with_file(1000);
    assert_eq!(server.gets(&rrq("f octet")), [Out::Data(1, 512)]);
    assert_eq!((server.gets(&write), server.gets(&rrq("f mail"))), (vec![], vec![]));
    assert_eq!(server.gets(&ack(1)), [Out::Data(2, 488)]);
    // Everything was sent, and the last acknowledgement may have been lost.
    let out = server.gets(&write);
    let [Out::Told(Outcome::Finished { confirmed: false, .. }), Out::Error(2), Out::Told(_)] = &out[..]
    else {
        panic!("{out:?}");
    };
    assert!(server.transfers.is_empty());
}

#[test]
fn who_finds_no_room_is_not_told_so() {
    let mut transfers = Transfers::new(LIMITS, 2, Slots::own(64));
    transfers.handle(&rrq("f octet"), CLIENT, LOCAL, SOON);
    let Some(Action::Open { token, .. }) = transfers.next_action() else { panic!("not opened") };
    transfers.opened(token, Err(OpenError::Busy), SOON);
    assert!(matches!(transfers.next_action(), Some(Action::Tell(_))));
    assert_eq!((transfers.next_action(), transfers.len()), (None, 0));
}

#[test]
fn late_answer_to_a_forgotten_open_closes_the_file() {
    let mut transfers = Transfers::new(LIMITS, 2, Slots::own(64));
    transfers.handle(&rrq("f octet"), CLIENT, LOCAL, SOON);
    let Some(Action::Open { token, .. }) = transfers.next_action() else { panic!("not opened") };
    transfers.handle(&error(0), CLIENT, LOCAL, SOON);
    assert!(matches!(transfers.next_action(), Some(Action::Tell(_))));
    transfers.opened(token, Ok(Image { id: 7, size: 1, place: None, content: 0 }), SOON);
    assert_eq!(transfers.next_action(), Some(Action::Close { image: 7 }));
    assert_eq!(transfers.next_action(), None);
}

#[test]
fn a_transfer_outlives_the_number_of_its_interface() {
    let mut transfers = Transfers::new(LIMITS, 2, Slots::own(64));
    let now = Duration::from_secs(100);
    let actions =
        |transfers: &mut Transfers| std::iter::from_fn(|| transfers.next_action()).collect::<Vec<_>>();
    transfers.handle(&rrq("f octet blksize 1000"), CLIENT, LOCAL, now);
    let Some(Action::Open { token, .. }) = transfers.next_action() else { panic!("no file is opened") };
    let place = Some(Place { chunk: 0, sums: 0 });
    transfers.opened(token, Ok(Image { id: 1, size: 5000, place, content: 0 }), now);
    let opened = actions(&mut transfers);
    assert!(opened.iter().any(|action| matches!(action, Action::Publish { key, .. } if key.ifindex == 2)));
    transfers.rebind(LIMITS, 2);
    assert_eq!(actions(&mut transfers), []);
    transfers.rebind(LIMITS, 9);
    let moved = actions(&mut transfers);
    assert!(matches!(&moved[..], [Action::Withdraw { key }] if key.ifindex == 2), "{moved:?}");
    transfers.handle(&ack(0), CLIENT, LOCAL, now);
    let next = actions(&mut transfers);
    assert!(matches!(&next[..], [Action::Block { block: 1, .. }, ..]), "{next:?}");
}

#[test]
fn unreadable_file_ends_the_transfer_with_an_error() {
    let mut server = Server::with_file(5000);
    server.gets(&rrq("f octet"));
    server.transfers.unreadable(Peer { client: CLIENT, local: LOCAL }, "it is cut", SOON);
    assert_eq!(server.outputs(), [Out::Error(0), Out::Told(Outcome::Unreadable("it is cut".to_owned()))]);
}

#[test]
fn block_numbers_roll_over() {
    const BLOCKS: u64 = 140_000;
    let mut server = Server::with_file(8 * (BLOCKS - 1) + 3);
    server.gets(&rrq("f octet blksize 8 windowsize 16"));
    let mut next = server.gets(&ack(0));
    let mut received = 0u64;
    loop {
        for out in &next {
            received += 1;
            assert_eq!(*out, Out::Data(received as u16, if received == BLOCKS { 3 } else { 8 }));
        }
        server.now += SOON;
        next = server.gets(&ack(received as u16));
        if received == BLOCKS {
            break;
        }
    }
    assert!(finished(&next));
}

#[test]
fn random_bytes_do_no_harm() {
    let mut server = Server::with_file(100);
    let mut state = 1u64;
    let mut random = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    for _ in 0..20_000 {
        let mut packet = rrq("f octet blksize 512 windowsize 4 tsize 0");
        packet[1] = random() % 7;
        for _ in 0..random() % 4 {
            let at = usize::from(random()) % packet.len();
            packet[at] = random();
        }
        packet.truncate(usize::from(random()) % 60);
        server.gets(&packet);
        server.waits(SOON);
        assert!(server.transfers.len() <= 1 && server.opens - server.closes <= 1 + server.opens);
    }
}
