//! A transfer whose OACK an earlier daemon sent, and whose client that daemon has not heard since.

use boot_common::tftp::{Shape, State};

use super::tests::*;
use super::*;

const SIZE: u64 = 50_000;

fn adopting() -> Server {
    let mut server = Server::with_file(SIZE);
    let slot = server.transfers.slots.take_for_adoption().unwrap();
    let key = Peer { client: CLIENT, local: LOCAL }.key(2);
    let shape = Shape { size: SIZE, block_size: 1000, window: 4, last: 52, chunk: 0, sums: 0 };
    let stamp = server.now.as_nanos().try_into().unwrap();
    let flight = server.transfers.slots.flight(slot).unwrap();
    flight.begin(&key, &shape, State { sent: 1, acked: 0 }, "f", stamp);
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
