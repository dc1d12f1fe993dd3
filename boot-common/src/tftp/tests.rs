use std::sync::Arc;
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;
use zerocopy::FromZeros as _;

use super::*;
use crate::Mac;
use crate::frame::{Bytes, Copies};
use crate::memory::{Memory, TransferMemory};
use crate::respond::respond;
use crate::scratch::Scratch;
use crate::tables::role;
use crate::wire::IP_UDP;

const LINK: u32 = 3;
const US: [u8; 4] = [10, 0, 0, 1];
const CLIENT: [u8; 4] = [10, 0, 0, 9];
const PORT: u16 = 2070;
const OUR_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
const SECOND: u64 = 1_000_000_000;

/// A file's content; no two places of it look alike.
fn content(size: usize) -> Vec<u8> {
    (0..size).map(|at| (at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()[0]).collect()
}

/// A rack where one client is fetching `file`, and has got as far as `state` says.
fn rack(file: &[u8], block_size: u16, window: u16, state: State) -> Memory {
    let mut tables = TransferMemory::default();
    let (first_chunk, first_sum) = (1, 5);
    let mut filler = Vec::new();
    filler.resize_with(1 + file.len() / CHUNK + 1, || Chunk::new_box_zeroed().unwrap());
    for (index, chunk) in filler.iter_mut().enumerate().skip(1) {
        let piece = file.get((index - 1) * CHUNK..).unwrap_or_default();
        let piece = &piece[..piece.len().min(CHUNK + LONGEST_BLOCK)];
        chunk.bytes[..piece.len()].copy_from_slice(piece);
    }
    tables.chunks = filler;
    let last = u32::try_from(file.len() / usize::from(block_size) + 2).unwrap();
    for _ in 0..(first_sum + last) as usize / SUMS + 1 {
        tables.sums.push(Sums::new_box_zeroed().unwrap());
    }
    for (nth, block) in file.chunks(usize::from(block_size)).enumerate() {
        let nth = nth + first_sum as usize;
        tables.sums[nth / SUMS].folded[nth % SUMS] = Sum::ZERO.bytes(block).folded();
    }
    let flight = Flight::default();
    let size = file.len() as u64;
    let shape = Shape { size, block_size, window, last, chunk: first_chunk, sums: first_sum };
    let key = TransferKey { client: CLIENT, local: US, ifindex: LINK, port: PORT, reserved: 0 };
    flight.begin(&key, &shape, state, "file", 0);
    tables.flights.push(Flight::default());
    tables.flights.push(flight);
    tables.slots.insert(key, 1);
    let mut rack = Memory { transfers: Arc::new(tables), ..Memory::default() };
    let link = LinkEntry { mac: OUR_MAC, role: role::OFF, unknown_ask: 0, address: US, proxy_set: 0 };
    rack.links.insert(LINK, link);
    rack
}

fn at(rack: &mut Memory, now: u64, heartbeat: u64) {
    let tables = Arc::get_mut(&mut rack.transfers).unwrap();
    (tables.now, tables.heartbeat) = (now, heartbeat);
}

fn flight(rack: &Memory) -> &Flight {
    &rack.transfers.flights[1]
}

fn ack(block: u16) -> Vec<u8> {
    let mut request = Request::new_zeroed();
    (request.eth.destination, request.eth.source) = (OUR_MAC, Mac([2, 0, 0, 0, 0, 9]));
    request.eth.ethertype.set(ETHERTYPE_IPV4);
    (request.ip.version_ihl, request.ip.ttl, request.ip.protocol) = (0x45, 64, IP_UDP);
    (request.ip.source, request.ip.destination) = (CLIENT, US);
    request.ip.total_length.set(32);
    request.ip.checksum.set(request.ip.sum().checksum());
    request.udp.source.set(PORT);
    request.udp.destination.set(port::TFTP);
    request.udp.length.set(12);
    (request.bootp.htype, [request.bootp.hlen, request.bootp.hops]) = (4, block.to_be_bytes());
    let words = [0, 17, 12, PORT, 69, 12, 4, block];
    let sum = words.iter().fold(Sum::ZERO.address(CLIENT).address(US), |sum, word| sum.word(*word));
    request.udp.checksum.set(sum.udp_checksum());
    request.as_bytes()[..46].to_vec()
}

fn ask(rack: &Memory, frame: &[u8]) -> Result<Vec<Vec<u8>>, Reason> {
    let mut scratch = Scratch::new();
    scratch.as_mut_bytes().fill(0x5a);
    let mut copies = Copies { frame: Bytes(frame.to_vec()), sent: Vec::new() };
    match respond(&mut copies, &mut scratch, rack, LINK, || 0)?.reason {
        Reason::TftpDone => Ok(copies.sent),
        Reason::TftpBlock => {
            copies.sent.push(copies.frame.0);
            Ok(copies.sent)
        }
        other => panic!("{other:?} is no answer"),
    }
}

/// An acknowledgement whose checksum the sending host left to an offload.
fn unfinished_ack(block: u16) -> Vec<u8> {
    let mut frame = ack(block);
    let pseudo = Sum::pseudo(CLIENT, US, 12).folded();
    frame[40..42].copy_from_slice(&pseudo.to_be_bytes());
    frame
}

/// What Linux does with an unfinished checksum on its way out: the sum over all from the UDP header to the end.
fn finish(frame: &mut [u8]) {
    let sum = Sum::ZERO.bytes(&frame[34..]).udp_checksum();
    frame[40..42].copy_from_slice(&sum.to_be_bytes());
}

#[test]
fn an_unfinished_checksum_is_believed_at_tc_and_the_block_is_left_unfinished() {
    let file = content(100_000);
    let mut left_to_the_daemon = 0;
    for block in (0..=u16::MAX).step_by(997) {
        let position = u32::from(block) + 1;
        let state = State { sent: position, acked: position.saturating_sub(1) };
        let answer = ask(&rack(&file, 1, 1, state), &unfinished_ack(block));
        match answer {
            Ok(mut frames) => {
                finish(&mut frames[0]);
                assert_eq!(data(&frames[0]).0, block.wrapping_add(1));
            }
            Err(reason) => {
                assert_eq!(reason, Reason::BadUdpChecksum, "{block}");
                left_to_the_daemon += 1;
            }
        }
    }
    assert!(left_to_the_daemon <= 1, "{left_to_the_daemon}");
}

#[test]
fn an_unfinished_checksum_is_a_wrong_one_on_the_wire() {
    let rack = rack(&content(1000), 512, 1, State { sent: 1, acked: 0 });
    let mut frame = Bytes(unfinished_ack(0));
    let answered = respond(&mut frame, &mut Scratch::new(), &rack, LINK, || 0);
    assert_eq!(answered.unwrap_err(), Reason::BadUdpChecksum);
}

#[test]
fn what_may_be_finished_or_not_is_the_daemons() {
    // The block for which the finished checksum is the sum of the pseudo header too.
    let is_both = |block: &u16| ack(*block)[40..42] == unfinished_ack(*block)[40..42];
    let block = (0..=u16::MAX).find(is_both).unwrap();
    let position = u32::from(block) + 1;
    let rack = rack(&content(100_000), 1, 1, State { sent: position, acked: position - 1 });
    assert_eq!(ask(&rack, &ack(block)).unwrap_err(), Reason::BadUdpChecksum);
    let answered = respond(&mut Bytes(ack(block)), &mut Scratch::new(), &rack, LINK, || 0);
    assert_eq!(answered.unwrap().reason, Reason::TftpBlock);
}

/// Block number and bytes of a DATA frame, all else in it being right.
fn data(frame: &[u8]) -> (u16, Vec<u8>) {
    assert!(frame.len() >= 60);
    assert_eq!((&frame[..6], &frame[6..12]), (&[2, 0, 0, 0, 0, 9][..], &OUR_MAC.0[..]));
    assert_eq!(Sum::ZERO.bytes(&frame[14..34]).folded(), 0xffff);
    let length = 14 + usize::from(u16::from_be_bytes([frame[16], frame[17]]));
    let udp = &frame[34..length];
    let pseudo = Sum::ZERO.bytes(&frame[26..34]).word(17).word(u16::try_from(udp.len()).unwrap());
    assert_eq!(pseudo.bytes(udp).folded(), 0xffff);
    assert_eq!((&udp[..4], &udp[8..10]), (&[0, 69, 8, 22][..], &[0, 3][..]));
    assert!(frame[length..].iter().all(|byte| *byte == 0), "what stood in the frame leaves with it");
    (u16::from_be_bytes([udp[10], udp[11]]), udp[12..].to_vec())
}

/// A client that acknowledges every window.
fn fetch(file: &[u8], block_size: u16, window: u16) -> Vec<u8> {
    let rack = rack(file, block_size, window, State { sent: 1, acked: 0 });
    let (mut got, mut block) = (Vec::new(), 0_u16);
    loop {
        let frames = ask(&rack, &ack(block)).unwrap();
        if frames.is_empty() {
            return got;
        }
        for frame in frames {
            let (number, bytes) = data(&frame);
            block = block.wrapping_add(1);
            assert_eq!(number, block);
            got.extend(bytes);
        }
    }
}

#[test]
fn files_of_all_sizes_arrive_whole() {
    for block_size in [8, 15, 512, 1408, 1432, 1468] {
        let block = usize::from(block_size);
        for size in [0, 1, block - 1, block, block + 1, 10 * block, 10 * block + 7] {
            for window in [1, 2, 4, 7] {
                assert!(fetch(&content(size), block_size, window) == content(size), "{size} {block_size}");
            }
        }
    }
}

#[test]
fn blocks_lie_across_chunks_and_numbers_roll_over() {
    let file = content(3 * CHUNK + 11);
    assert!(fetch(&file, 1468, 1) == file);
    assert!(fetch(&file, 8191, 3) == file);
    assert!(fetch(&file, 8, 4) == file, "98,305 blocks");
}

#[test]
fn forty_equal_acknowledgements_are_one() {
    let rack = rack(&content(5000), 512, 1, State { sent: 3, acked: 2 });
    assert_eq!(data(&ask(&rack, &ack(2)).unwrap()[0]).0, 3);
    for _ in 0..39 {
        assert_eq!(ask(&rack, &ack(2)), Err(Reason::TftpRepeated));
    }
    assert_eq!(flight(&rack).state(), State { sent: 4, acked: 3 });
    assert_eq!(ask(&rack, &ack(1)), Err(Reason::TftpImpossible));
    assert_eq!(ask(&rack, &ack(4)), Err(Reason::TftpImpossible));
}

#[test]
fn inside_a_window_the_daemon_decides() {
    let rack = rack(&content(9000), 512, 4, State { sent: 6, acked: 2 });
    for block in [2, 3, 4] {
        assert_eq!(ask(&rack, &ack(block)), Err(Reason::TftpInside), "{block}");
    }
    assert_eq!(ask(&rack, &ack(5)).unwrap().len(), 4);
    let mut scratch = Scratch::new();
    let mut one = Bytes(ack(9));
    assert_eq!(respond(&mut one, &mut scratch, &rack, LINK, || 0).map(|_| ()), Err(Reason::TftpWindow));
    assert_eq!((one.0, flight(&rack).state()), (ack(9), State { sent: 10, acked: 6 }));
}

#[test]
fn a_dead_daemons_losses_are_repaired_by_the_clients_own_repeats() {
    let mut rack = rack(&content(5000), 512, 4, State { sent: 6, acked: 2 });
    flight(&rack).sent_at.set(10 * SECOND);
    at(&mut rack, 10 * SECOND + 100_000_000, 9 * SECOND);
    assert_eq!(ask(&rack, &ack(1)), Err(Reason::TftpRepeated), "the daemon lives");
    at(&mut rack, 10 * SECOND + 100_000_000, 5 * SECOND);
    assert_eq!(ask(&rack, &ack(1)), Err(Reason::TftpRepeated), "it may still be under way");
    at(&mut rack, 10 * SECOND + 250_000_000, 5 * SECOND);
    let blocks = |frames: Vec<Vec<u8>>| frames.iter().map(|frame| data(frame).0).collect::<Vec<_>>();
    assert_eq!(blocks(ask(&rack, &ack(1)).unwrap()), [2, 3, 4, 5]);
    assert_eq!(ask(&rack, &ack(1)), Err(Reason::TftpRepeated), "sent again just now");
    at(&mut rack, 10 * SECOND + 500_000_000, 5 * SECOND);
    assert_eq!(blocks(ask(&rack, &ack(3)).unwrap()), [4, 5]);
    assert_eq!(flight(&rack).state(), State { sent: 6, acked: 4 });
}

#[test]
fn only_whole_and_true_acknowledgements_for_us_are_answered() {
    let rack = rack(&content(5000), 512, 1, State { sent: 2, acked: 1 });
    let spoilt = |at: usize, bytes: &[u8], sum: bool| {
        let mut frame = ack(1);
        frame[at..at + bytes.len()].copy_from_slice(bytes);
        if sum {
            frame[24..26].fill(0);
            let sum = Sum::ZERO.bytes(&frame[14..34]).checksum();
            frame[24..26].copy_from_slice(&sum.to_be_bytes());
        }
        ask(&rack, &frame).map(|_| ())
    };
    for (at, bytes, sum, reason) in [
        (0, &[2, 0, 0, 0, 0, 2][..], false, Reason::ForeignMac),
        (0, &[255; 6], false, Reason::ForeignMac),
        (22, &[63], false, Reason::BadIpChecksum),
        (14, &[0x46], true, Reason::IpOptions),
        (20, &[0x20, 0], true, Reason::Fragment),
        (16, &[0, 33], true, Reason::Tftp),
        (38, &[0, 13], false, Reason::Tftp),
        (40, &[1, 2], false, Reason::BadUdpChecksum),
        (42, &[0, 5], false, Reason::Tftp),
        (42, &[0, 1], false, Reason::TftpRequest),
        (42, &[0, 2], false, Reason::Tftp),
        (42, &[0, 3], false, Reason::TftpNotAsked),
        (42, &[0, 6], false, Reason::TftpNotAsked),
        (42, &[0xff, 0xff], false, Reason::TftpNotAsked),
        (44, &[0, 9], false, Reason::BadUdpChecksum),
    ] {
        assert_eq!(spoilt(at, bytes, sum), Err(reason), "{at} {bytes:?}");
    }
    // Without a checksum, so that these are believed.
    let unknown = |at: usize, bytes: &[u8]| {
        let mut frame = ack(1);
        frame[40..42].fill(0);
        frame[at..at + bytes.len()].copy_from_slice(bytes);
        frame[24..26].fill(0);
        let sum = Sum::ZERO.bytes(&frame[14..34]).checksum();
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
        ask(&rack, &frame).map(|_| ())
    };
    for (at, bytes) in [(26, &[10, 0, 0, 8][..]), (30, &[10, 0, 0, 2]), (34, &[8, 23])] {
        assert_eq!(unknown(at, bytes), Err(Reason::TftpUnknown), "{at}");
    }
    assert_eq!(flight(&rack).state(), State { sent: 2, acked: 1 });
    assert_eq!(ask(&rack, &ack(1)[..45]).map(|_| ()), Err(Reason::Tftp));
    assert_eq!(unknown(34, &PORT.to_be_bytes()), Ok(()), "checksum 0 is none");
}

#[test]
fn padding_of_a_short_frame_says_nothing() {
    let rack = rack(&content(513), 512, 1, State { sent: 2, acked: 1 });
    let mut frame = ack(1);
    frame.resize(60, 0xaa);
    assert_eq!(data(&ask(&rack, &frame).unwrap()[0]), (2, content(513)[512..].to_vec()));
    assert_eq!(ask(&rack, &ack(2)), Ok(vec![]));
    assert_eq!(ask(&rack, &ack(2)), Err(Reason::TftpRepeated));
}

proptest! {
    #[test]
    fn any_frame_has_an_outcome(bytes in proptest::collection::vec(any::<u8>(), 0..100), whole in any::<bool>(), window in 1_u16..9, acked in 0_u32..20) {
        let rack = rack(&content(9000), 512, window, State { sent: acked + u32::from(window), acked });
        let mut frame = if whole { ack(u16::try_from(acked).unwrap()) } else { Vec::new() };
        frame.truncate(44);
        frame.extend(bytes);
        ask(&rack, &frame).ok();
    }
}
