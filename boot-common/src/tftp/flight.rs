//! A transfer under way, in memory that the kernel half and the daemon share.
//!
//! The position acknowledged and the position sent are one number. A hook on any CPU, or the daemon's timer, that advances
//! the number has the sole right to send the next blocks.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::word::Word;

/// Both ends of a transfer.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct TransferKey {
    /// The client's address.
    pub client: [u8; 4],
    /// The server's address that the client talks to.
    pub local: [u8; 4],
    /// Interface.
    pub ifindex: u32,
    /// The client's port.
    pub port: u16,
    /// Always 0.
    pub reserved: u16,
}

/// Bytes of a file's name that are kept for the log.
pub const NAME: usize = 96;

/// One transfer. Blocks are counted as *positions*: 0 is nothing, 1 is the OACK, 2 is block 1, and so on without
/// end; on the wire position p is block p - 1 and rolls over at 65,536.
///
/// Every field is a [`Word`] because both halves hold references.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Flight {
    /// Last position sent in the upper half, last position acknowledged in the lower one.
    pub state: Word,
    /// Boot-clock nanoseconds when the client last made headway.
    pub progressed: Word,
    /// Boot-clock nanoseconds when something was last sent, for the first time or again.
    pub sent_at: Word,
    /// The round trips by [`measure`](Self::measure): their mean in the upper half, their mean deviation in the lower one,
    /// both in units of 1,024 ns. 0: none is known yet.
    round_trip: Word,
    /// Bytes of the file.
    size: Word,
    /// First chunk in `IMAGES` in the upper half, first entry in `SUMS` in the lower one.
    place: Word,
    /// Last position in the upper half, then window size and block size, 16 bits each.
    shape: Word,
    /// Boot-clock nanoseconds of the request.
    pub opened: Word,
    /// Blocks that XDP sent.
    pub by_xdp: Word,
    /// Blocks that TC sent.
    pub by_tc: Word,
    /// The client's address in the upper half, the server's in the lower one; 0 when the slot is free.
    addresses: Word,
    /// Interface in the upper half, the client's port in the lower one's last 16 bits, [`OWN_PORT`] before them.
    ends: Word,
    /// The fingerprint of the file's content; 0 when unknown.
    pub content: Word,
    /// The file's name for the log, padded with zeros.
    name: [Word; NAME / 8],
    /// The last position that was sent more than once: its acknowledgement may belong to either.
    pub resent: Word,
    /// Nanoseconds between repeats that the client asked for (RFC 2349); 0 when it did not.
    pub timeout: Word,
}

/// In [`Flight::ends`]: the transfer has a port of its own at the server.
const OWN_PORT: u64 = 1 << 16;
/// The block size of clients that ask for none (RFC 1350).
const PLAIN_BLOCK: u16 = 512;

/// How long acknowledgements take, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoundTrip {
    /// RFC 6298's SRTT.
    pub mean: u64,
    /// RFC 6298's RTTVAR.
    pub deviation: u64,
}

/// Nanoseconds in a unit of [`Flight::round_trip`], as a power of two: so both halves fit into 32 bits.
const ROUND_TRIP_UNIT: u32 = 10;

/// The positions sent and acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    /// Last position sent.
    pub sent: u32,
    /// Last position acknowledged.
    pub acked: u32,
}

impl State {
    /// The number in [`Flight::state`].
    #[inline(always)]
    #[must_use]
    pub fn packed(self) -> u64 {
        u64::from(self.sent) << 32 | u64::from(self.acked)
    }

    /// The state from the number in [`Flight::state`].
    #[inline(always)]
    #[must_use]
    pub fn of(packed: u64) -> Self {
        Self { sent: (packed >> 32) as u32, acked: packed as u32 }
    }

    /// The number of positions under way.
    #[inline(always)]
    #[must_use]
    pub fn outstanding(self) -> u32 {
        self.sent.wrapping_sub(self.acked)
    }

    /// The meaning of an acknowledgement of `block`.
    #[inline(always)]
    #[must_use]
    pub fn judge(self, block: u16) -> Ack {
        let ahead = u32::from(block.wrapping_add(1).wrapping_sub(self.acked as u16));
        let outstanding = self.outstanding();
        if ahead == 0 {
            Ack::Repeated
        } else if ahead < outstanding {
            Ack::Inside(ahead)
        } else if ahead == outstanding {
            Ack::Everything
        } else {
            Ack::Impossible
        }
    }
}

/// The meaning of an acknowledgement for a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ack {
    /// Nothing new.
    Repeated,
    /// This many of the positions under way, but not all.
    Inside(u32),
    /// All positions under way.
    Everything,
    /// A block that was not sent, or was acknowledged long ago.
    Impossible,
}

/// The properties of a transfer that do not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Bytes of the file.
    pub size: u64,
    /// Bytes of a block.
    pub block_size: u16,
    /// Blocks sent at once.
    pub window: u16,
    /// The position of the first block that is not full, which ends the transfer.
    pub last: u32,
    /// First chunk in `IMAGES`.
    pub chunk: u32,
    /// First entry in `SUMS`.
    pub sums: u32,
}

impl Shape {
    /// Offset and length of a position's block in the file. Position 2 is the first block.
    #[inline(always)]
    #[must_use]
    pub fn extent(&self, position: u32) -> (u64, u32) {
        let offset = u64::from(position.wrapping_sub(2)) * u64::from(self.block_size);
        let left = self.size.wrapping_sub(offset);
        if offset >= self.size {
            (offset, 0)
        } else if left < u64::from(self.block_size) {
            (offset, left as u32)
        } else {
            (offset, u32::from(self.block_size))
        }
    }
}

impl Flight {
    /// The positions sent and acknowledged.
    #[inline(always)]
    #[must_use]
    pub fn state(&self) -> State {
        State::of(self.state.get())
    }

    /// The properties that do not change.
    #[inline(always)]
    #[must_use]
    pub fn shape(&self) -> Shape {
        let (size, place, shape) = (self.size.get(), self.place.get(), self.shape.get());
        Shape {
            size,
            block_size: shape as u16,
            window: (shape >> 16) as u16,
            last: (shape >> 32) as u32,
            chunk: (place >> 32) as u32,
            sums: place as u32,
        }
    }

    /// The position that ends the transfer.
    #[inline(always)]
    #[must_use]
    pub fn last(&self) -> u32 {
        (self.shape.get() >> 32) as u32
    }

    /// Blocks sent at once.
    #[inline(always)]
    #[must_use]
    pub fn window(&self) -> u32 {
        u32::from((self.shape.get() >> 16) as u16)
    }

    /// Learns from the acknowledgement of the block at `position`, which was last sent `nanos` ago (RFC 6298 section 2).
    ///
    /// A block that was sent more than once does not count (Karn's rule), nor does the OACK: a client that is slow with
    /// blocks may be quick with an OACK.
    #[inline(always)]
    pub fn measure(&self, position: u32, nanos: u64) {
        if position < 2 || u64::from(position) <= self.resent.get() {
            return;
        }
        let sample = nanos >> ROUND_TRIP_UNIT;
        let sample = if sample > u64::from(u32::MAX) { u64::from(u32::MAX) } else { sample };
        let known = self.round_trip.get();
        let (mean, deviation) = if known == 0 {
            (sample, sample >> 1)
        } else {
            let (mean, deviation) = (known >> 32, known & 0xffff_ffff);
            let off = sample.abs_diff(mean);
            (mean - (mean >> 3) + (sample >> 3), deviation - (deviation >> 2) + (off >> 2))
        };
        let mean = if mean == 0 { 1 } else { mean };
        self.round_trip.set(mean << 32 | deviation);
    }

    /// The time that acknowledgements of blocks take, if it is known.
    #[must_use]
    pub fn round_trip(&self) -> Option<RoundTrip> {
        let known = self.round_trip.get();
        let nanos = |units: u64| units << ROUND_TRIP_UNIT;
        (known != 0).then_some(RoundTrip { mean: nanos(known >> 32), deviation: nanos(known & 0xffff_ffff) })
    }

    /// Takes over the round trips learned in another flight of the same transfer.
    pub fn inherit(&self, before: &Self) {
        let words =
            |of: &Self| [&of.round_trip, &of.resent, &of.timeout, &of.opened, &of.content].map(Word::get);
        let [round_trip, resent, timeout, opened, content] = words(before);
        self.round_trip.set(round_trip);
        self.resent.set(resent);
        self.timeout.set(timeout);
        self.opened.set(opened);
        self.content.set(content);
    }

    /// The transfer's key; `None` when the slot is free.
    #[must_use]
    pub fn key(&self) -> Option<TransferKey> {
        let (addresses, ends) = (self.addresses.get(), self.ends.get());
        (addresses != 0).then_some(TransferKey {
            client: ((addresses >> 32) as u32).to_be_bytes(),
            local: (addresses as u32).to_be_bytes(),
            ifindex: (ends >> 32) as u32,
            port: ends as u16,
            reserved: 0,
        })
    }

    /// The server sends this transfer from a port of its own, and hears its client there only. Until the next
    /// [`begin`](Self::begin).
    pub fn set_own_port(&self) {
        self.ends.set(self.ends.get() | OWN_PORT);
    }

    /// Whether the server's port of this transfer is another than 69.
    #[must_use]
    pub fn has_own_port(&self) -> bool {
        self.ends.get() & OWN_PORT != 0
    }

    /// Whether the client has acknowledged anything, even if only the OACK.
    ///
    /// A transfer without OACK begins where others have its acknowledgement. One with nothing else than `tsize` looks the
    /// same, and then counts as such.
    #[must_use]
    pub fn is_acknowledged(&self) -> bool {
        let (acked, shape) = (self.state().acked, self.shape());
        let is_plain = shape.block_size == PLAIN_BLOCK && shape.window == 1 && self.timeout.get() == 0;
        acked > u32::from(is_plain)
    }

    /// Frees the slot.
    pub fn end(&self) {
        self.addresses.set(0);
    }

    /// Begins a new transfer of the file `name` in this slot. The kernel half must not know the slot yet.
    pub fn begin(&self, key: &TransferKey, shape: &Shape, state: State, name: &str, now: u64) {
        let number = |address| u64::from(u32::from_be_bytes(address));
        self.addresses.set(number(key.client) << 32 | number(key.local));
        self.ends.set(u64::from(key.ifindex) << 32 | u64::from(key.port));
        self.size.set(shape.size);
        self.place.set(u64::from(shape.chunk) << 32 | u64::from(shape.sums));
        let shape = u64::from(shape.last) << 32 | u64::from(shape.window) << 16 | u64::from(shape.block_size);
        self.shape.set(shape);
        for stamp in [&self.opened, &self.progressed, &self.sent_at] {
            stamp.set(now);
        }
        let numbers =
            [&self.round_trip, &self.resent, &self.timeout, &self.by_xdp, &self.by_tc, &self.content];
        for number in numbers {
            number.set(0);
        }
        for (index, word) in self.name.iter().enumerate() {
            let byte = |at: usize| name.as_bytes().get(index * 8 + at).copied().unwrap_or(0);
            word.set(u64::from_ne_bytes(core::array::from_fn(byte)));
        }
        self.state.set(state.packed());
    }

    /// The file's name, cut to [`NAME`] bytes.
    #[must_use]
    pub fn name(&self) -> [u8; NAME] {
        let mut name = [0; NAME];
        for (to, word) in name.chunks_mut(8).zip(&self.name) {
            to.copy_from_slice(&word.get().to_ne_bytes());
        }
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acknowledgements_are_judged_across_the_roll_over() {
        let state = State { sent: 65_540, acked: 65_536 };
        assert_eq!(State::of(state.packed()), state);
        // Positions 65,537 to 65,540 are the blocks 0 (for the second time) to 3.
        for (block, ack) in [
            (65_535, Ack::Repeated),
            (0, Ack::Inside(1)),
            (2, Ack::Inside(3)),
            (3, Ack::Everything),
            (4, Ack::Impossible),
            (65_534, Ack::Impossible),
        ] {
            assert_eq!(state.judge(block), ack, "{block}");
        }
        assert_eq!(State { sent: 1, acked: 0 }.judge(0), Ack::Everything);
        assert_eq!(State { sent: 9, acked: 9 }.judge(8), Ack::Repeated);
        assert_eq!(State { sent: 9, acked: 9 }.judge(9), Ack::Impossible);
    }

    #[test]
    fn extents_cover_the_file_and_end_it() {
        let shape = Shape { size: 1024, block_size: 512, window: 1, last: 4, chunk: 7, sums: 8 };
        assert_eq!([2, 3, 4].map(|position| shape.extent(position)), [(0, 512), (512, 512), (1024, 0)]);
        let shape = Shape { size: 1025, ..shape };
        assert_eq!(shape.extent(4), (1024, 1));
        let flight = Flight::default();
        let key =
            TransferKey { client: [10, 1, 2, 3], local: [10, 0, 0, 1], ifindex: 7, port: 2070, reserved: 0 };
        flight.begin(&key, &shape, State { sent: 1, acked: 0 }, "a/boot/file.efi", 5);
        assert_eq!(flight.key(), Some(key));
        assert_eq!((flight.shape(), flight.state()), (shape, State { sent: 1, acked: 0 }));
        assert!(flight.name().starts_with(b"a/boot/file.efi\0"));
        flight.end();
        assert_eq!(flight.key(), None);
    }

    #[test]
    fn a_port_of_its_own_is_remembered_until_the_slot_is_anothers() {
        let shape = Shape { size: 1024, block_size: 512, window: 1, last: 4, chunk: 7, sums: 8 };
        let key = TransferKey {
            client: [10, 1, 2, 3],
            local: [10, 0, 0, 1],
            ifindex: 7,
            port: 0xffff,
            reserved: 0,
        };
        let flight = Flight::default();
        flight.begin(&key, &shape, State { sent: 1, acked: 0 }, "f", 5);
        assert!(!flight.has_own_port());
        flight.set_own_port();
        assert_eq!((flight.has_own_port(), flight.key()), (true, Some(key)));
        flight.begin(&key, &shape, State { sent: 1, acked: 0 }, "f", 5);
        assert!(!flight.has_own_port());
    }

    #[test]
    fn the_first_block_of_a_transfer_without_options_acknowledges_nothing() {
        let plain = Shape { size: 5000, block_size: 512, window: 1, last: 11, chunk: 0, sums: 0 };
        let sized = Shape { block_size: 1000, ..plain };
        let windows = Shape { window: 4, ..plain };
        let key =
            TransferKey { client: [10, 1, 2, 3], local: [10, 0, 0, 1], ifindex: 7, port: 2070, reserved: 0 };
        let flight = Flight::default();
        for (shape, acked, is_acknowledged) in [
            (plain, 1, false),
            (plain, 2, true),
            (sized, 0, false),
            (sized, 1, true),
            (windows, 0, false),
            (windows, 1, true),
        ] {
            flight.begin(&key, &shape, State { sent: 2, acked }, "f", 5);
            assert_eq!(flight.is_acknowledged(), is_acknowledged, "{shape:?}, {acked}");
        }
        flight.begin(&key, &plain, State { sent: 2, acked: 1 }, "f", 5);
        flight.timeout.set(5);
        assert!(flight.is_acknowledged(), "a timeout was agreed on, so there was an OACK");
    }

    #[test]
    fn round_trips_are_averaged_and_what_was_sent_twice_is_none() {
        const MS: u64 = 1 << 20;
        let flight = Flight::default();
        flight.measure(1, 7 * MS);
        assert_eq!(flight.round_trip(), None, "the OACK's");
        flight.measure(2, 80 * MS);
        assert_eq!(flight.round_trip(), Some(RoundTrip { mean: 80 * MS, deviation: 40 * MS }));
        flight.measure(3, 160 * MS);
        assert_eq!(flight.round_trip(), Some(RoundTrip { mean: 90 * MS, deviation: 50 * MS }));
        flight.measure(4, 10 * MS);
        assert_eq!(flight.round_trip(), Some(RoundTrip { mean: 80 * MS, deviation: 57 * MS + MS / 2 }));
        flight.resent.set(9);
        flight.measure(9, 3000 * MS);
        assert_eq!(flight.round_trip().unwrap().mean, 80 * MS, "either sending's");
        flight.measure(10, u64::MAX);
        assert!(flight.round_trip().unwrap().mean > 400_000 * MS, "no overflow");
        let other = Flight::default();
        other.measure(2, 0);
        assert!(other.round_trip().is_some(), "a round trip of no time is known all the same");
        other.inherit(&flight);
        assert_eq!((other.round_trip(), other.resent.get()), (flight.round_trip(), 9));
    }
}
