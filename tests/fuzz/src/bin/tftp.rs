//! TFTP transfers: any packets from any peers, in any order, at any time.
#![no_main]

use std::collections::{HashMap, HashSet};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use boot_engine::tftp::{Action, Image, Limits, OpenError, Peer, Place, Slots, Token, Transfers};
use boot_fuzz::{Case, seed};
use libfuzzer_sys::fuzz_target;

const MTU: u32 = 1500;
const LOCAL: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const NAMES: [&[u8]; 4] = [b"snponly.efi", b"a", b"x/y.z\xff", b"../../etc/passwd"];
const OPTIONS: [&[u8]; 8] = [
    b"",
    b"tsize\x000\0blksize\x001468\0",
    b"tsize\x000\0blksize\x001468\0windowsize\x004\0",
    b"blksize\x008\0",
    b"blksize\x0065464\0windowsize\x0065535\0",
    b"timeout\x001\0",
    b"blksize\x00x\0unknown\x001\0",
    b"windowsize\x0016\0blksize\x00512\0tsize\x000\0",
];
const SIZES: [u64; 8] = [0, 1, 511, 512, 1468 * 3, 100_000, 40_000_000, 1 << 40];

struct World {
    transfers: Transfers,
    now: Duration,
    waiting: Vec<Token>,
    asked: HashSet<Token>,
    open: HashMap<u64, u64>,
    next: u64,
}

impl World {
    fn carry_out(&mut self) {
        while let Some(action) = self.transfers.next_action() {
            match action {
                Action::Open { token, name, .. } => {
                    assert!(self.asked.insert(token), "a token twice");
                    assert!(!name.ends_with('\u{ff}'));
                    self.waiting.push(token);
                }
                Action::Send { peer, bytes } => {
                    boot_fuzz::to_a_station(*peer.client.ip(), &bytes);
                    assert!(!peer.client.ip().is_broadcast() && peer.client.port() != 0);
                    assert!(bytes.len() >= 4 && bytes.len() <= 512, "{} bytes", bytes.len());
                    assert!(matches!(bytes[..2], [0, 5 | 6]), "{bytes:02x?}");
                }
                Action::Block { peer, image, offset, len, .. } => {
                    boot_fuzz::to_a_station(*peer.client.ip(), &[]);
                    let size = *self.open.get(&image).expect("a block of a closed file");
                    assert!(offset + len as u64 <= size, "{offset} + {len} of {size}");
                    assert!(len as u32 + 32 <= MTU, "a block of {len} bytes is fragmented");
                }
                Action::Close { image } => {
                    self.open.remove(&image).expect("closed twice");
                }
                Action::Publish { .. } | Action::Withdraw { .. } | Action::Tell(_) => {}
            }
        }
        assert!(self.transfers.len() <= 4096);
        assert_eq!(
            self.transfers.next_wakeup().is_none(),
            self.transfers.is_empty(),
            "a transfer without a timer"
        );
    }

    fn packet(&mut self, case: &mut Case<'_>) {
        let packet = match case.byte() % 8 {
            0..=2 => {
                let opcode = if case.byte() == 77 { 2 } else { 1 };
                let mode = *case.pick(&[&b"\0octet\0"[..], b"\0OCTET\0", b"\0netascii\0", b"\0octet"]);
                [&[0, opcode][..], *case.pick(&NAMES), mode, *case.pick(&OPTIONS)].concat()
            }
            3..=5 => {
                let block = if case.byte() & 1 == 0 { u16::from(case.byte()) } else { case.word() };
                [&[0, 4][..], &block.to_be_bytes()].concat()
            }
            6 => [&[0, 5, 0, case.byte() % 10][..], b"no\0"].concat(),
            _ => {
                let length = case.word() % 600;
                case.bytes(length.into()).to_vec()
            }
        };
        let who = case.byte();
        let client = if who & 0x80 == 0 {
            SocketAddrV4::new(Ipv4Addr::new(10, 77, 0, 100 + (who & 3)), 2000 + u16::from(who >> 2 & 3))
        } else {
            SocketAddrV4::new(Ipv4Addr::new(case.byte(), case.byte(), 0, who & 1), case.word())
        };
        self.transfers.handle(&packet, client, LOCAL, self.now);
    }
}

fuzz_target!(
    init: seed("tftp", || {
        let mut cases = Vec::new();
        for option in 0..OPTIONS.len() as u8 {
            for size in 0..SIZES.len() as u8 {
                // RRQ, opened, acknowledgements 0 to 3, time.
                let mut case = vec![0, 0, 0, 0, 0, option, 0, 4, 0, 1, size];
                for block in 0..4 {
                    case.extend([0, 3, 0, block, 0]);
                }
                case.extend([5, 200, 6]);
                cases.push(case);
            }
        }
        cases
    }),
    |bytes: &[u8]| {
        let mut case = Case::new(bytes);
        let mut world = World {
            transfers: Transfers::new(Limits { mtu: MTU, window: 16 }, 2, Slots::own(16)),
            now: Duration::from_secs(1000),
            waiting: Vec::new(),
            asked: HashSet::new(),
            open: HashMap::new(),
            next: 0,
        };
        while !case.is_over() {
            match case.byte() % 8 {
                0..=3 => world.packet(&mut case),
                4 if !world.waiting.is_empty() => {
                    let token = world.waiting.swap_remove(usize::from(case.byte()) % world.waiting.len());
                    let result = match case.byte() % 8 {
                        0 => Err(*case.pick(&[OpenError::NotFound, OpenError::Forbidden, OpenError::Failed])),
                        _ => {
                            world.next += 1;
                            let size = *case.pick(&SIZES);
                            world.open.insert(world.next, size);
                            let place = (case.byte() % 2 == 0).then_some(Place { chunk: 0, sums: 0 });
                            Ok(Image { id: world.next, size, place, content: 0 })
                        }
                    };
                    world.transfers.opened(token, result, world.now);
                }
                4 | 5 => world.now += Duration::from_millis(u64::from(case.byte()) * 20),
                6 => {
                    world.transfers.tick(world.now);
                    assert!(world.transfers.next_wakeup().is_none_or(|due| due > world.now), "a timer stood still");
                }
                _ => {
                    let client = SocketAddrV4::new(Ipv4Addr::new(10, 77, 0, 100 + (case.byte() & 3)), 2000);
                    world.transfers.unreadable(Peer { client, local: LOCAL }, "it is cut", world.now);
                }
            }
            world.carry_out();
        }
        // Everybody falls silent: nothing may be left.
        for token in std::mem::take(&mut world.waiting) {
            world.transfers.opened(token, Err(OpenError::Failed), world.now);
            world.carry_out();
        }
        // The timer looks every second at a client whose timeout is minutes.
        for _ in 0..20_000 {
            let Some(due) = world.transfers.next_wakeup() else { break };
            world.now = world.now.max(due);
            world.transfers.tick(world.now);
            world.carry_out();
        }
        assert!(world.transfers.is_empty() && world.open.is_empty(), "{} left", world.transfers.len());
    }
);
