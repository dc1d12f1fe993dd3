//! Transfers that an earlier daemon began, and whose clients have acknowledged nothing or the OACK only.

use boot_common::tftp::{Shape, State};

use super::tests::*;
use super::*;

const SIZE: u64 = 50_000;

const WINDOWS: Shape = Shape { size: SIZE, block_size: 1000, window: 4, last: 52, chunk: 0, sums: 0 };
const PLAIN: Shape = Shape { size: SIZE, block_size: 512, window: 1, last: 99, chunk: 0, sums: 0 };

fn adopting() -> Server {
    adopting_at(&WINDOWS, State { sent: 1, acked: 0 }, 0)
}

/// `resent` is the last position that was sent more than once.
fn adopting_at(shape: &Shape, state: State, resent: u64) -> Server {
    let mut server = Server::with_file(SIZE);
    let slot = server.transfers.slots.take_for_adoption().unwrap();
    let key = Peer { client: CLIENT, local: LOCAL }.key(2);
    let stamp = server.now.as_nanos().try_into().unwrap();
    let flight = server.transfers.slots.flight(slot).unwrap();
    flight.begin(&key, shape, state, "f", stamp);
    flight.resent.set(resent);
    let image = Image { id: 99, size: SIZE, place: None, content: 0 };
    server.transfers.adopt(&key, slot, image, server.now);
    server
}

fn first_window() -> [Out; 4] {
    [1, 2, 3, 4].map(|block| Out::Data(block, 1000))
}

#[test]
fn who_has_the_oack_of_an_earlier_daemon_gets_the_file() {
    let mut server = adopting();
    assert_eq!(server.waits(Duration::from_secs(10)), [], "its text is not known any more");
    assert_eq!(server.gets(&ack(0)), first_window());
    let repeated = server.waits(Duration::from_millis(500));
    assert_eq!(repeated, [Out::Data(4, 1000)], "no repeat was used up while there was nothing to repeat");
    assert_eq!(server.gets(&ack(4)), [5, 6, 7, 8].map(|block| Out::Data(block, 1000)));
}

#[test]
fn who_lost_the_oack_of_an_earlier_daemon_gets_another() {
    let mut server = adopting();
    server.waits(SOON);
    let out = server.gets(&rrq("f octet blksize 1000 windowsize 4"));
    let another = Out::Oack("blksize 1000 windowsize 4 ".to_owned());
    assert_eq!(out, [Out::Told(Outcome::StartedOver), another]);
    assert_eq!(server.gets(&ack(0)), first_window());
}

#[test]
fn who_wanted_only_the_oack_of_an_earlier_daemon_has_ended() {
    assert_eq!(adopting().gets(&[0, 5, 0, 8, 0]), [Out::Told(Outcome::Probed)]);
    let silent = adopting().waits(Duration::from_secs(31));
    assert_eq!(silent, [Out::Told(Outcome::Stalled { bytes: 0, size: SIZE, block: 0 })]);
}

#[test]
fn who_asked_for_no_option_and_acknowledged_nothing_is_sent_nothing_unasked() {
    let mut server = adopting_at(&PLAIN, State { sent: 2, acked: 1 }, 0);
    assert_eq!(server.waits(Duration::from_secs(10)), [], "each restart would bring a forged request more");
    assert_eq!(server.gets(&rrq("f octet")), [Out::Data(1, 512)], "it repeats its request");
    assert_eq!(server.waits(Duration::from_secs(10)), []);
    assert_eq!(server.gets(&ack(1)), [Out::Data(2, 512)]);
}

#[test]
fn before_a_block_is_acknowledged_one_daemon_after_another_repeats_and_no_third() {
    let begun = State { sent: 5, acked: 1 };
    let mut second = adopting_at(&WINDOWS, begun, 1);
    let repeats = second.waits(Duration::from_secs(10));
    assert_eq!(repeats, [Out::Data(4, 1000), Out::Data(4, 1000)]);
    let mut third = adopting_at(&WINDOWS, begun, 5);
    assert_eq!(third.waits(Duration::from_secs(10)), []);
    assert_eq!(third.gets(&ack(4)), [5, 6, 7, 8].map(|block| Out::Data(block, 1000)));
}

#[test]
fn a_transfer_that_cannot_go_on_is_told_of_and_its_client_hears_it_if_it_hears() {
    let key = Peer { client: CLIENT, local: LOCAL }.key(2);
    let told = || Out::Told(Outcome::Unreadable("it has changed".to_owned()));
    for (hears, out) in [(true, vec![Out::Error(0), told()]), (false, vec![told()])] {
        let mut server = Server::with_file(SIZE);
        server.transfers.lost(&key, "f".to_owned(), "it has changed", hears);
        assert_eq!(server.outputs(), out);
        assert!(server.transfers.is_empty());
    }
}

#[test]
fn a_port_of_its_own_stands_in_the_flight() {
    for own in [false, true] {
        let mut transfers = Transfers::new(Limits { mtu: 1500, window: 16 }, 2, Slots::own(1));
        transfers.handle(&rrq("f octet blksize 1000"), CLIENT, LOCAL, Duration::ZERO);
        let Some(Action::Open { token, .. }) = transfers.next_action() else { panic!("no file is opened") };
        if own {
            transfers.use_own_port(token);
        }
        let image = Image { id: 1, size: SIZE, place: None, content: 0 };
        transfers.opened(token, Ok(image), Duration::ZERO);
        assert_eq!(transfers.slots.flight(0).unwrap().has_own_port(), own);
    }
}
