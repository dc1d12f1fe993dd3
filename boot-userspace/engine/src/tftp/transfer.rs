//! One transfer: what to send next, and when to send again.
//!
//! How far it has come stands in its [`Flight`], which the kernel half may move on at any time. Blocks are counted
//! as its positions: 1 is the OACK, 2 the first block.

use std::ops::RangeInclusive;
use std::time::Duration;

use boot_common::tftp::{Ack, Flight, Shape, State, TransferKey};

use super::pace::Pace;
use super::packet::Agreed;
use super::request::Request;
use super::{Image, Token};

/// How long an acknowledgement inside a window is left alone before the rest of the window is sent again: as long as
/// what is still on its way may take to arrive.
const SETTLE: Duration = Duration::from_millis(10);
/// How long a file may take to be opened.
const PATIENCE: Duration = Duration::from_secs(30);

/// What to do next for a transfer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    Nothing,
    Oack,
    /// Positions.
    Blocks(RangeInclusive<u32>),
    Finished,
    GiveUp,
}

/// The state of one transfer.
pub(super) struct Transfer {
    pub(super) request: Request,
    pub(super) phase: Phase,
    pub(super) started: Duration,
    /// When the client last made headway, as far as it was seen.
    pub(super) progressed: Duration,
    /// When the timer is next due.
    pub(super) due: Duration,
    /// It has a port of its own at the server.
    pub(super) has_own_port: bool,
}

/// How far a transfer has come.
pub(super) enum Phase {
    /// The file is being opened.
    Opening(Token),
    Open(Course),
}

/// An open file on its way to the client.
pub(super) struct Course {
    pub(super) image: Image,
    pub(super) slot: u32,
    pub(super) shape: Shape,
    /// Its text; `None` also when an earlier daemon sent it.
    pub(super) oack: Option<Vec<u8>>,
    /// Blocks sent more than once.
    pub(super) resent: u64,
    /// The last acknowledged position when the timer last looked.
    seen: u32,
    pace: Pace,
    /// What is known of the client while nothing is acknowledged.
    sign: Sign,
}

/// What follows an acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// Blocks that were never sent.
    Onward,
    /// The rest of the window once more.
    Again,
    /// The same, when what is still on its way has arrived.
    Settle,
}

/// What is known of where a client of windows stands. Each holds for one state: the kernel half may have moved on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sign {
    None,
    /// It repeated its last acknowledgement: it got something else than what comes next.
    Waits(State),
    /// It acknowledged a part of a window, at this time: it misses what comes next.
    Misses(State, Duration),
    /// The last block alone was sent again, so that it says where it stands.
    Asked(State),
}

impl Transfer {
    pub(super) fn opening(request: Request, token: Token, now: Duration) -> Self {
        let (phase, due) = (Phase::Opening(token), now + PATIENCE);
        Self { request, phase, started: now, progressed: now, due, has_own_port: false }
    }

    /// Goes on with what an earlier daemon began.
    pub(super) fn adopted(request: Request, image: Image, slot: u32, flight: &Flight, now: Duration) -> Self {
        let seen = flight.state().acked;
        let (shape, pace) = (flight.shape(), Pace::adopted(flight));
        // It may have sent anything again.
        flight.resent.set(u64::from(flight.state().sent));
        let course = Course { image, slot, shape, oack: None, resent: 0, seen, pace, sign: Sign::None };
        let started = Duration::from_nanos(flight.opened.get());
        let due = Pace::look(flight, true, now + course.pace.wait(flight), now);
        Self { request, phase: Phase::Open(course), started, progressed: now, due, has_own_port: false }
    }

    /// Starts sending: the OACK, or the first blocks if no option was accepted.
    pub(super) fn open(
        &mut self,
        image: Image,
        agreed: Agreed,
        key: &TransferKey,
        slot: u32,
        flight: &Flight,
        now: Duration,
    ) -> Step {
        let (chunk, sums) = image.place.map_or((0, 0), |place| (place.chunk, place.sums));
        let last = image.size / u64::from(agreed.block_size) + 2;
        let shape = Shape {
            size: image.size,
            block_size: agreed.block_size,
            window: agreed.window,
            last: u32::try_from(last).unwrap_or(u32::MAX),
            chunk,
            sums,
        };
        let (state, step) = if agreed.oack.is_some() {
            (State { sent: 1, acked: 0 }, Step::Oack)
        } else {
            let sent = shape.last.min(1 + u32::from(shape.window));
            (State { sent, acked: 1 }, Step::Blocks(2..=sent))
        };
        flight.begin(key, &shape, state, &self.request.name, nanos(now));
        if self.has_own_port {
            flight.set_own_port();
        }
        flight.opened.set(nanos(self.started));
        flight.content.set(image.content);
        flight.timeout.set(agreed.timeout.map_or(0, nanos));
        let pace = Pace::new(agreed.oack.is_some(), shape.window);
        self.due = Pace::look(flight, true, now + pace.wait(flight), now);
        self.progressed = now;
        self.phase = Phase::Open(Course {
            image,
            slot,
            shape,
            oack: agreed.oack,
            resent: 0,
            seen: state.acked,
            pace,
            sign: Sign::None,
        });
        step
    }

    /// An ACK arrived. It only ever moves the window forward and releases only blocks that were never sent:
    /// a server that answers repeats turned 150 packets into 80,000 with EDK2 (RFC 1123 section 4.2.3.1).
    ///
    /// Except where nothing but one block was sent, to be answered: then the rest of the window follows at once.
    pub(super) fn acknowledge(&mut self, block: u16, flight: &Flight, now: Duration) -> Step {
        let Phase::Open(course) = &mut self.phase else { return Step::Nothing };
        loop {
            let before = flight.state();
            let asked = course.sign == Sign::Asked(before);
            let ahead = match before.judge(block) {
                Ack::Everything => before.outstanding(),
                Ack::Inside(ahead) => ahead,
                Ack::Repeated if asked && course.pace.spend_window() => {
                    return course.send_again(before, flight, now);
                }
                Ack::Repeated => {
                    if course.waits(before, flight, now) {
                        self.due = self.due.min(course.ready(before, flight));
                    }
                    return Step::Nothing;
                }
                Ack::Impossible => return Step::Nothing,
            };
            let acked = before.acked + ahead;
            let next = course.after(before, acked, asked, flight);
            let sent =
                if next == Next::Onward { course.window_from(acked, before.sent) } else { before.sent };
            let after = State { sent, acked };
            // Else the kernel half was quicker with another acknowledgement.
            if !flight.state.exchange(before.packed(), after.packed()) {
                continue;
            }
            // An acknowledgement inside a window may be of what was sent long before the last block.
            if acked == before.sent {
                flight.measure(acked, nanos(now).saturating_sub(flight.sent_at.get()));
            }
            flight.progressed.set(nanos(now));
            course.headway(acked, flight);
            self.progressed = now;
            if acked == course.shape.last {
                return Step::Finished;
            }
            return match next {
                Next::Again => course.send_again(after, flight, now),
                Next::Settle => {
                    course.sign = Sign::Misses(after, now);
                    self.due = self.due.min(now + SETTLE);
                    Step::Nothing
                }
                Next::Onward if sent == before.sent => Step::Nothing,
                Next::Onward => {
                    flight.sent_at.set(nanos(now));
                    // The timer looks by itself when something was last sent; only an earlier end is worth a change.
                    self.due = self.due.min(now + course.pace.wait(flight));
                    Step::Blocks(before.sent + 1..=sent)
                }
            };
        }
    }

    /// The timer is due.
    pub(super) fn expire(&mut self, flight: Option<&Flight>, now: Duration) -> Step {
        let (Phase::Open(course), Some(flight)) = (&mut self.phase, flight) else { return Step::GiveUp };
        let state = flight.state();
        let progressed = Duration::from_nanos(flight.progressed.get());
        if state.acked == course.shape.last {
            self.progressed = progressed;
            return Step::Finished;
        }
        let moved = state.acked != course.seen;
        if moved {
            course.headway(state.acked, flight);
            self.progressed = progressed;
        }
        let gives_up = self.progressed + Pace::patience(flight);
        if now >= gives_up {
            return Step::GiveUp;
        }
        let ready = course.ready(state, flight);
        if now < ready {
            self.due = Pace::look(flight, moved, ready, now).min(gives_up);
            return Step::Nothing;
        }
        let step = if course.may_send_again(state) {
            course.send_again(state, flight, now)
        } else if course.can_ask(state) && course.pace.spend() {
            course.ask(state, flight, now)
        } else {
            // What it acknowledges from now on is the kernel half's to answer, and may be lost.
            self.due = Pace::look(flight, false, gives_up, now);
            return Step::Nothing;
        };
        course.pace.back_off();
        self.due = Pace::look(flight, moved, now + course.pace.wait(flight), now).min(gives_up);
        step
    }

    /// The client repeated its request: it did not get the first answer.
    pub(super) fn ask_again(&mut self, flight: Option<&Flight>, now: Duration) -> Step {
        match (&mut self.phase, flight) {
            (Phase::Open(course), Some(flight)) if course.is_unproven(flight.state()) => {
                course.pace = Pace::new(course.oack.is_some(), course.shape.window);
                self.due = Pace::look(flight, true, now + course.pace.wait(flight), now);
                course.send_again(flight.state(), flight, now)
            }
            _ => Step::Nothing,
        }
    }

    /// When the client last made headway. The kernel half may have seen that when the timer has not yet.
    pub(super) fn headway(&self, flight: Option<&Flight>) -> Duration {
        flight.map_or(self.progressed, |flight| {
            Duration::from_nanos(flight.progressed.get()).max(self.progressed)
        })
    }

    pub(super) fn course(&self) -> Option<&Course> {
        match &self.phase {
            Phase::Open(course) => Some(course),
            Phase::Opening(_) => None,
        }
    }
}

impl Course {
    /// True until the client's first acknowledgement, even that of the OACK.
    pub(super) fn is_unproven(&self, state: State) -> bool {
        state.acked == 0 || (self.oack.is_none() && state.acked == 1)
    }

    /// True if everything was sent and only the last acknowledgement is missing.
    pub(super) fn is_all_sent(&self, state: State) -> bool {
        !self.is_unproven(state) && state.sent == self.shape.last
    }

    /// True if the client has everything.
    pub(super) fn is_over(&self, state: State) -> bool {
        state.acked == self.shape.last
    }

    /// Bytes the client has for certain.
    pub(super) fn acked_bytes(&self, state: State) -> u64 {
        let blocks = u64::from(state.acked.saturating_sub(1));
        (blocks * u64::from(self.shape.block_size)).min(self.shape.size)
    }

    /// What follows an acknowledgement up to `acked`.
    fn after(&self, before: State, acked: u32, asked: bool, flight: &Flight) -> Next {
        if acked == before.sent {
            Next::Onward
        } else if asked {
            Next::Again
        } else if u64::from(before.acked) >= flight.resent.get() {
            // Each block was sent once, so one is missing, and the client discards those behind it.
            Next::Settle
        } else {
            // Of blocks that were sent twice it may acknowledge the first ones for the second time.
            Next::Onward
        }
    }

    /// The last position of the window behind an acknowledgement, when so much was sent.
    fn window_from(&self, acked: u32, sent: u32) -> u32 {
        (acked + u32::from(self.shape.window)).min(self.shape.last).max(sent)
    }

    /// When something is to be sent again.
    fn ready(&self, state: State, flight: &Flight) -> Duration {
        let sent_at = Duration::from_nanos(flight.sent_at.get());
        let quiet = sent_at + self.pace.wait(flight);
        match self.sign {
            Sign::Misses(then, at) if then == state => quiet.min(at + SETTLE),
            Sign::Waits(then) if then == state => sent_at + self.pace.wait_for_repeated(flight),
            _ => quiet,
        }
    }

    /// It repeated an acknowledgement. True if that says something: of one block under way it may be doubled by the
    /// network, unless the block should have arrived by now.
    fn waits(&mut self, state: State, flight: &Flight, now: Duration) -> bool {
        if matches!(self.sign, Sign::Misses(then, _) if then == state) {
            return false;
        }
        let late = Duration::from_nanos(flight.sent_at.get()) + self.pace.wait_for_repeated(flight);
        let says_something = state.outstanding() > 1 || now >= late;
        if says_something {
            self.sign = Sign::Waits(state);
        }
        says_something
    }

    /// Whether the client has said which blocks it has, and may have those behind them once more. Else it may have all of
    /// them, and its acknowledgement was lost: to send them all again would have it acknowledge each of them, and it may
    /// not be there at all.
    fn may_send_again(&mut self, state: State) -> bool {
        match self.sign {
            // It acknowledged more than before.
            Sign::Misses(then, _) => then == state,
            // Repeats are free for whoever forges them.
            Sign::Waits(then) => then == state && self.pace.spend_window(),
            Sign::None | Sign::Asked(_) => false,
        }
    }

    /// False for the OACK of an earlier daemon, whose text is not known any more. A client that has it repeats its
    /// acknowledgement, the others their request.
    fn can_ask(&self, state: State) -> bool {
        state.acked > 0 || self.oack.is_some()
    }

    /// What was sent last once more: who has all of it acknowledges that, who misses a block says which. Who repeats an
    /// acknowledgement gets what comes next instead.
    fn ask(&mut self, state: State, flight: &Flight, now: Duration) -> Step {
        flight.sent_at.set(nanos(now));
        flight.resent.set(u64::from(state.sent));
        if state.acked == 0 {
            return if self.oack.is_some() { Step::Oack } else { Step::Nothing };
        }
        // It does not have that block; the last one alone would be of no use to it.
        let says_where = matches!(self.sign, Sign::Waits(then) if then == state);
        let position = if says_where { state.acked + 1 } else { state.sent };
        if state.outstanding() > 1 {
            self.sign = Sign::Asked(state);
        }
        self.resent += 1;
        Step::Blocks(position..=position)
    }

    /// Everything that is not acknowledged, up to a full window: a client acknowledges nothing less.
    fn send_again(&mut self, state: State, flight: &Flight, now: Duration) -> Step {
        if state.acked == 0 {
            self.sign = Sign::None;
            return self.ask(state, flight, now);
        }
        flight.resent.set(u64::from(state.sent));
        let sent = self.window_from(state.acked, state.sent);
        if !flight.state.exchange(state.packed(), State { sent, ..state }.packed()) {
            // The kernel half heard from it just now.
            return Step::Nothing;
        }
        flight.sent_at.set(nanos(now));
        self.sign = Sign::None;
        self.resent += u64::from(state.outstanding());
        Step::Blocks(state.acked + 1..=sent)
    }

    /// The client has acknowledged more, to the daemon or, since the timer last looked, to the kernel half.
    fn headway(&mut self, acked: u32, flight: &Flight) {
        // The OACK is no block.
        let blocks = acked - self.seen.max(1).min(acked);
        let window = u32::from(self.shape.window);
        self.pace.earn(blocks.div_ceil(window), acked > 1 + window);
        self.seen = acked;
        if u64::from(acked) > flight.resent.get() {
            self.pace.is_known_again();
        }
    }
}

/// As flights have times.
fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
