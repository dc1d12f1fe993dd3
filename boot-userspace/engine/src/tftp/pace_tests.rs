//! What a client gets that is slow, silent or not there at all.

use super::tests::*;
use super::*;

const MS: Duration = Duration::from_millis(1);

/// Bytes on the wire without Ethernet's checksum, whose shortest frame has 60.
fn frame(payload: usize) -> usize {
    (payload + 14 + 20 + 8).max(60)
}

fn frames(out: &[Out]) -> usize {
    let payload = |out: &Out| match out {
        Out::Error(_) => 30,
        Out::Oack(text) => 2 + text.len(),
        Out::Data(_, length) => DATA_HEADER + length,
        Out::Told(_) => 0,
    };
    out.iter().filter(|out| !matches!(out, Out::Told(_))).map(|out| frame(payload(out))).sum()
}

/// Bytes out by bytes in, when somebody sends packets so far apart, and then nothing more.
fn factor(packets: &[Vec<u8>], apart: Duration) -> f64 {
    let mut server = Server::with_file(20_000_000);
    let mut out = 0;
    for packet in packets {
        out += frames(&server.gets(packet));
        out += frames(&server.waits(apart));
    }
    out += frames(&server.waits(Duration::from_secs(60)));
    assert!(server.transfers.is_empty());
    out as f64 / packets.iter().map(|packet| frame(packet.len())).sum::<usize>() as f64
}

/// Acknowledgements in steps of a window.
fn blind(request: &str, window: u16, count: u16) -> Vec<Vec<u8>> {
    [rrq(request)].into_iter().chain((0..count).map(|nth| ack(nth * window))).collect()
}

#[test]
fn a_request_that_nobody_acknowledges_brings_three_times_its_bytes_at_most() {
    for asked in [
        "f octet tsize 0",
        "f octet blksize 1468",
        "f octet tsize 0 blksize 1468 windowsize 64",
        "snponly.efi octet tsize 0 blksize 1468 windowsize 4",
    ] {
        for times in [1, 2, 40] {
            let factor = factor(&vec![rrq(asked); times], 7 * MS);
            assert!(factor <= 3.0, "{asked}, {times} times: {factor:.1}");
        }
    }
    // RFC 1350 leaves no choice but a block of 512 bytes; it leaves once for each request.
    for times in [1, 2, 40] {
        let factor = factor(&vec![rrq("f octet"); times], 7 * MS);
        assert!(factor <= 9.3, "{times} times: {factor:.1}");
    }
}

/// An acknowledgement of 60 bytes brings a block of 1,514: 25 times as much, for each block of a window. Nothing in TFTP
/// would tell it from a forged one; but repeats must not add to that.
#[test]
fn blind_acknowledgements_bring_a_window_each_and_few_repeats() {
    for (asked, window) in [("f octet blksize 1468", 1_u16), ("f octet blksize 1468 windowsize 16", 16)] {
        for count in [1, 2, 3, 10, 1000 / window] {
            for apart in [MS / 10, 7 * MS, 300 * MS] {
                let factor = factor(&blind(asked, window, count), apart);
                // Two repeats before any block is acknowledged, then one for each window: of the last block alone.
                let blocks = usize::from(count) * usize::from(window) + 2 + usize::from(count).min(12);
                let oacks = 3 * 60;
                let wire = (oacks + blocks * 1514) as f64 / (65 + 60 * usize::from(count)) as f64;
                let most = if apart > 200 * MS { wire * 2.0 } else { wire };
                println!(
                    "window {window}, {count} ACKs, {apart:?} apart: {factor:.1} times, {most:.1} at most"
                );
                assert!(factor <= most, "window {window}, {count} ACKs, {apart:?} apart: {factor:.1} times");
            }
        }
    }
}

/// Acknowledgements that are repeated bring a window twice more and then single blocks, and an end comes to that: longer
/// repeats bring nothing more.
#[test]
fn repeated_acknowledgements_bring_few_windows() {
    for (asked, window) in [("f octet blksize 1468 windowsize 16", 16), ("f octet blksize 1468", 1)] {
        // Of what was sent for the first time: a single block leaves 12 times more, and once for each that is acknowledged.
        let again = if window == 1 { 14 } else { 2 * window };
        for acked in [0, window] {
            for (times, apart) in [(2, 50), (20, 50), (50, 50), (50, 7), (500, 50), (50, 500)] {
                let mut packets = vec![rrq(asked), ack(0)];
                packets.extend(vec![ack(acked); times]);
                let factor = factor(&packets, MS * apart);
                let blocks = f64::from(acked + window + again + 3);
                let most = (3.0 * 60.0 + blocks * 1514.0) / (65 + 60 * (1 + times)) as f64;
                let what = format!("window {window}, {times} times ACK {acked}, {apart} ms apart");
                println!("{what}: {factor:.1} times, {most:.1} at most");
                assert!(factor <= most, "{what}: {factor:.1} times");
            }
        }
    }
}

/// A slow client without losses gets each block once, and each block's first sending is its only one.
#[test]
fn a_slow_client_gets_each_block_once() {
    for asked in ["f octet", "f octet blksize 512", "f octet blksize 512 windowsize 4"] {
        let window = if asked.contains("window") { 4 } else { 1 };
        let mut server = Server::with_file(512 * 100 + 7);
        let mut out = server.gets(&rrq(asked));
        if asked.contains("blksize") {
            server.now += MS;
            assert_eq!(out, oack(&format!("{} ", &asked["f octet ".len()..])));
            out = server.gets(&ack(0));
        }
        let mut sent = out.len();
        let mut next = 0;
        while sent < 101 {
            next = (next + window).min(101);
            // 80 to 300 ms, without an order.
            let takes = [80, 300, 120, 299, 81, 80, 80, 80, 300, 250][next as usize % 10];
            assert_eq!(server.waits(MS * takes), [], "{asked}: block {next} is being written");
            let more = server.gets(&ack(next as u16));
            sent += more.len();
        }
        assert_eq!(sent, 101);
    }
}

#[test]
fn an_agreed_timeout_is_waited_for() {
    for (asked, seconds) in [("timeout 3", 3), ("blksize 512 timeout 9", 9), ("utimeout 2000000", 2)] {
        let mut server = Server::with_file(51_200);
        server.gets(&rrq(&format!("f octet {asked}")));
        for block in 0..10 {
            server.now += MS;
            assert_eq!(server.gets(&ack(block)).len(), 1);
        }
        let timeout = Duration::from_secs(seconds);
        assert_eq!(server.waits(timeout - MS), [], "{asked}");
        assert_eq!(server.waits(MS), [Out::Data(10, 512)], "{asked}");
        assert_eq!(server.waits(timeout - MS), [], "{asked}");
        // It says what it misses.
        assert_eq!(server.gets(&ack(9)), []);
        assert_eq!(server.waits(Duration::ZERO), [Out::Data(10, 512)], "{asked}");
    }
}

#[test]
fn losses_are_noticed_by_the_round_trip_that_the_kernel_half_measured() {
    let mut server = Server::with_file(50_000);
    server.gets(&rrq("f octet blksize 1000"));
    server.gets(&ack(0));
    server.waits(MS);
    // Block 1 is acknowledged there after 2 ms, and block 2 is lost.
    let flight = server.transfers.slots.flight(0).unwrap();
    let now = u64::try_from((server.now + MS).as_nanos()).unwrap();
    flight.measure(2, 2_000_000);
    flight.state.set(boot_common::tftp::State { sent: 3, acked: 2 }.packed());
    flight.progressed.set(now);
    flight.sent_at.set(now);
    assert_eq!(server.waits(Duration::from_millis(100)), [Out::Data(2, 1000)]);
}

#[test]
fn before_a_round_trip_is_known_half_a_second_passes_unless_a_loss_is_evident() {
    let mut server = Server::with_file(50_000);
    server.gets(&rrq("f octet blksize 1000"));
    assert_eq!(server.waits(MS * 499), []);
    assert_eq!(server.waits(MS), oack("blksize 1000 "));
    assert_eq!(server.gets(&ack(0)), [Out::Data(1, 1000)]);
    // Doubled on its way.
    assert_eq!(server.gets(&ack(0)), []);
    assert_eq!(server.waits(MS * 100), []);
    // Its own timer.
    assert_eq!(server.gets(&ack(0)), []);
    assert_eq!(server.waits(Duration::ZERO), [Out::Data(1, 1000)]);
    for _ in 0..40 {
        assert_eq!(server.gets(&ack(0)), [], "the block is on its way");
    }
}

#[test]
fn a_silent_client_is_asked_where_it_is_by_the_last_block() {
    let ready = || {
        let mut server = Server::with_file(50_000);
        server.gets(&rrq("f octet blksize 1000 windowsize 4"));
        server.gets(&ack(0));
        server.waits(MS);
        server.gets(&ack(4));
        assert_eq!(server.waits(MS * 49), []);
        assert_eq!(server.waits(MS * 2), [Out::Data(8, 1000)]);
        server
    };
    // It has everything, and its acknowledgement was lost.
    assert_eq!(ready().gets(&ack(8)), [9, 10, 11, 12].map(|block| Out::Data(block, 1000)));
    // It has a part, or nothing.
    assert_eq!(ready().gets(&ack(6)), [7, 8, 9, 10].map(|block| Out::Data(block, 1000)));
    let mut server = ready();
    assert_eq!(server.gets(&ack(4)), [5, 6, 7, 8].map(|block| Out::Data(block, 1000)));
    for _ in 0..40 {
        assert_eq!(server.gets(&ack(4)), [], "that was the answer to one block");
    }
    // It does not say: it gets nothing else, and not for long.
    let repeats = ready().waits(Duration::from_secs(29));
    assert_eq!(repeats, [Out::Data(8, 1000), Out::Data(8, 1000)]);
}

#[test]
fn who_repeats_an_acknowledgement_need_not_be_asked() {
    let mut server = Server::with_file(50_000);
    server.gets(&rrq("f octet blksize 1000 windowsize 4"));
    server.gets(&ack(0));
    for _ in 0..3 {
        assert_eq!(server.gets(&ack(0)), []);
    }
    assert_eq!(server.waits(MS * 49), []);
    assert_eq!(server.waits(MS), [1, 2, 3, 4].map(|block| Out::Data(block, 1000)));
}

#[test]
fn timer_backs_off_and_gives_up_after_thirty_seconds() {
    let mut server = Server::with_file(50_000);
    server.gets(&rrq("f octet"));
    for block in 1..=20 {
        server.now += MS;
        server.gets(&ack(block));
    }
    let resent = server.waits(Duration::from_millis(29_999));
    assert!((8..=12).contains(&resent.len()), "{}", resent.len());
    assert!(resent.iter().all(|out| *out == Out::Data(21, 512)));
    assert_eq!(server.waits(MS), [Out::Told(Outcome::Stalled { bytes: 10_240, size: 50_000, block: 21 })]);
    assert!(server.transfers.is_empty());
}

#[test]
fn a_client_that_comes_back_after_all_repeats_is_looked_after() {
    let mut server = Server::with_file(50_000);
    server.gets(&rrq("f octet blksize 1000"));
    assert_eq!(server.waits(Duration::from_secs(20)).len(), 2);
    assert_eq!(server.gets(&ack(0)), [Out::Data(1, 1000)]);
    server.waits(MS);
    assert_eq!(server.gets(&ack(1)), [Out::Data(2, 1000)]);
    assert_eq!(server.waits(Duration::from_secs(1)), [Out::Data(2, 1000)]);
}
