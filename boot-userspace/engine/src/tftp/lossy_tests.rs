//! A client on a bad network: every packet of a transfer is lost, doubled or overtaken once, or many are lost.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::*;

const LOCAL: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);
const CLIENT: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 1, 1, 33), 1069);
const BLOCK: u64 = 1468;
const BLOCKS: u64 = 119;
const SIZE: u64 = BLOCK * (BLOCKS - 1) + 700;
const ONE_WAY: Duration = Duration::from_micros(200);
/// How long a client waits before it repeats its last acknowledgement, where many packets are lost: as long as iPXE does.
const OWN_TIMER: Duration = Duration::from_secs(1);
/// How far a packet is held back: beyond the packets that follow it.
const LATE: Duration = Duration::from_millis(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    Drop,
    Double,
    Late,
    /// So many packets in a hundred are lost, whichever number they have.
    Often(u64),
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Wire {
    ToServer(Vec<u8>),
    Oack,
    Data { block: u16, offset: u64, len: usize },
}

/// EDK2's habits, minus its own timer: an unexpected block is answered at once with an ACK of the last one in
/// order. Only the request is ever repeated, as GRUB does, so that the server has to repair all the rest; except where
/// many are lost, since whoever is silent gets few repeats.
struct Client {
    window: u64,
    received: u64,
    last_acked: u64,
    negotiated: bool,
    /// Blocks that came behind a gap or once more, and their acknowledgements: what losses make void.
    void: u64,
}

impl Client {
    fn request(&self) -> Vec<u8> {
        let window = if self.window > 1 { format!("windowsize\0{}\0", self.window) } else { String::new() };
        format!("\0\x01f\0octet\0blksize\0{BLOCK}\0{window}").into_bytes()
    }

    fn is_done(&self) -> bool {
        self.received == BLOCKS
    }

    fn gets(&mut self, packet: &Wire) -> Option<Vec<u8>> {
        match packet {
            Wire::Oack if self.received == 0 => {
                self.negotiated = true;
                Some(self.ack())
            }
            Wire::Data { block, offset, len } if self.negotiated => {
                if *block != (self.received + 1) as u16 {
                    self.void += 2;
                    return Some(self.ack());
                }
                assert_eq!(*offset, self.received * BLOCK);
                assert_eq!(*len as u64, BLOCK.min(SIZE - offset));
                self.received += 1;
                let due = self.received - self.last_acked == self.window || self.is_done();
                due.then(|| self.ack())
            }
            _ => None,
        }
    }

    fn ack(&mut self) -> Vec<u8> {
        self.last_acked = self.received;
        let [high, low] = (self.received as u16).to_be_bytes();
        vec![0, 4, high, low]
    }
}

struct Network {
    now: Duration,
    in_flight: BinaryHeap<Reverse<(Duration, u64, Wire)>>,
    packets: u64,
    /// The packet, counted from 0, that the fault happens to.
    victim: u64,
    fault: Fault,
    lost: u64,
}

impl Network {
    fn carry(&mut self, packet: Wire) {
        let fault = match self.fault {
            // The seed of many runs is the victim.
            Fault::Often(percent) if scattered(self.victim << 32 | self.packets) % 100 < percent => {
                Fault::Drop
            }
            fault if self.packets == self.victim => fault,
            _ => Fault::None,
        };
        let number = self.packets;
        self.packets += 1;
        // Each packet keeps its place in the queue unless it is held back.
        let arrives = self.now + ONE_WAY;
        match fault {
            Fault::None | Fault::Often(_) => self.in_flight.push(Reverse((arrives, number, packet))),
            Fault::Drop => self.lost += 1,
            Fault::Double => {
                self.in_flight.push(Reverse((arrives, number, packet.clone())));
                self.in_flight.push(Reverse((arrives + ONE_WAY, number, packet)));
            }
            Fault::Late => self.in_flight.push(Reverse((arrives + LATE, number, packet))),
        }
    }
}

/// A number that has nothing to do with its neighbours' (the finalizer of MurmurHash3).
fn scattered(mut number: u64) -> u64 {
    for factor in [0xff51_afd7_ed55_8ccd, 0xc4ce_b9fe_1a85_ec53] {
        number = (number ^ number >> 33).wrapping_mul(factor);
    }
    number ^ number >> 33
}

/// How a transfer went.
struct Ran {
    /// Packets sent by both.
    packets: u64,
    lost: u64,
    /// Sent in vain, because the client had to discard it.
    void: u64,
    took: Duration,
    /// The server heard its end.
    confirmed: bool,
}

fn run(window: u64, victim: u64, fault: Fault) -> Ran {
    let start = Duration::from_secs(1);
    let mut network =
        Network { now: start, in_flight: BinaryHeap::new(), packets: 0, victim, fault, lost: 0 };
    let mut transfers = Transfers::new(Limits { mtu: 1500, window: 16 }, 2, Slots::own(4));
    let mut client = Client { window, received: 0, last_acked: 0, negotiated: false, void: 0 };
    let mut ended = None;
    let mut done_at = start;
    let (mut asked, mut heard) = (start, start);
    network.carry(Wire::ToServer(client.request()));
    while ended.is_none() {
        let arrival = network.in_flight.peek().map(|Reverse((at, ..))| *at);
        let ask_again = (!client.negotiated).then_some(asked + Duration::from_millis(400));
        let many = matches!(network.fault, Fault::Often(_)) && client.negotiated && !client.is_done();
        let say_again = many.then_some(heard + OWN_TIMER);
        let next = [arrival, transfers.next_wakeup(), ask_again, say_again].into_iter().flatten().min();
        network.now = next.expect("neither side has anything to do");
        if ask_again == Some(network.now) {
            asked = network.now;
            network.carry(Wire::ToServer(client.request()));
        }
        if say_again == Some(network.now) {
            heard = network.now;
            network.carry(Wire::ToServer(client.ack()));
        }
        while network.in_flight.peek().is_some_and(|Reverse((at, ..))| *at <= network.now) {
            let Some(Reverse((_, _, packet))) = network.in_flight.pop() else { break };
            match packet {
                Wire::ToServer(bytes) => transfers.handle(&bytes, CLIENT, LOCAL, network.now),
                packet => {
                    if client.is_done() {
                        continue;
                    }
                    heard = network.now;
                    if let Some(answer) = client.gets(&packet) {
                        network.carry(Wire::ToServer(answer));
                    }
                    if client.is_done() {
                        done_at = network.now;
                    }
                }
            }
        }
        transfers.tick(network.now);
        while let Some(action) = transfers.next_action() {
            match action {
                Action::Open { token, .. } => {
                    transfers.opened(
                        token,
                        Ok(Image { id: 1, size: SIZE, place: None, content: 0 }),
                        network.now,
                    );
                }
                Action::Send { bytes, .. } => {
                    assert!(bytes.starts_with(&[0, 6]), "{bytes:?}");
                    network.carry(Wire::Oack);
                }
                Action::Block { offset, len, block, .. } => network.carry(Wire::Data { block, offset, len }),
                Action::Close { .. } | Action::Publish { .. } | Action::Withdraw { .. } => {}
                Action::Tell(told) => ended = Some(told.outcome),
            }
        }
    }
    assert!(client.is_done(), "window {window}, {fault:?} of packet {victim}: {} blocks", client.received);
    let confirmed = matches!(ended, Some(Outcome::Finished { confirmed: true, .. }));
    assert!(matches!(ended, Some(Outcome::Finished { .. })), "{ended:?}");
    Ran { packets: network.packets, lost: network.lost, void: client.void, took: done_at - start, confirmed }
}

#[test]
fn every_fault_of_every_packet_is_survived_cheaply() {
    for window in [1, 4] {
        let Ran { packets: clean, took: quick, confirmed, .. } = run(window, u64::MAX, Fault::None);
        assert!(confirmed);
        // Request, OACK and its ACK, the blocks, and one ACK for each window.
        assert_eq!(clean, 3 + BLOCKS + BLOCKS.div_ceil(window));
        for fault in [Fault::Drop, Fault::Double, Fault::Late] {
            for victim in 0..clean {
                let Ran { packets, took, confirmed, .. } = run(window, victim, fault);
                let what =
                    format!("window {window}, {fault:?} of packet {victim}: {packets} of {clean}, {took:?}");
                let last_ack_lost = fault == Fault::Drop && victim == clean - 1;
                // The client is gone then; the server repeats the last block until its patience ends.
                let in_vain = if last_ack_lost { 12 } else { 0 };
                assert!(packets <= clean + clean / 2 + 1 + in_vain, "{what}");
                assert!(confirmed != last_ack_lost, "{what}");
                // 400 ms is the client's own wait before it repeats a lost request; the server's is longer until it
                // knows how quick the client is with blocks.
                let first_window = victim < 4 + window;
                let most = if first_window { 520 } else { 120 };
                assert!(took <= quick + Duration::from_millis(most), "{what}");
            }
        }
    }
}

/// What random losses cost on average: packets by those of a transfer without losses, beside what was lost.
#[test]
fn many_losses_are_survived_cheaply() {
    const RUNS: u64 = 200;
    for (window, percent, most) in
        [(1, 1, 1.03), (1, 5, 1.12), (1, 20, 1.60), (4, 1, 1.10), (4, 5, 1.40), (4, 20, 2.40), (16, 5, 2.30)]
    {
        let clean = run(window, u64::MAX, Fault::None).packets;
        let runs: Vec<Ran> = (1..=RUNS).map(|seed| run(window, seed, Fault::Often(percent))).collect();
        let per_clean = |sum: u64| sum as f64 / (clean * RUNS) as f64;
        let packets = per_clean(runs.iter().map(|ran| ran.packets).sum());
        let lost = per_clean(runs.iter().map(|ran| ran.lost).sum());
        let void = per_clean(runs.iter().map(|ran| ran.void).sum());
        let took = runs.iter().map(|ran| ran.took).sum::<Duration>() / RUNS as u32;
        println!(
            "window {window}, {percent} %: {packets:.2} sent, {lost:.2} lost, {void:.2} void, {took:.1?}"
        );
        assert!(packets <= 1.5 + lost + void, "window {window}, {percent} % lost: {packets:.2} times");
        assert!(packets <= most, "window {window}, {percent} % lost: {packets:.2} times");
    }
}
