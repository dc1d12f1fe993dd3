//! The engine's events on their way into the stream: looked up where somebody reads them, logged where there is room.

use super::log::answers::{AnswerBudget, named};
use super::request::EventStream;
use crate::io::neighbours;
use boot_engine::Engine;
use boot_engine::command::Now;
use boot_engine::events::{BootEvent, Fault, Machine, NoSubnet, Sink as _, Step};

/// How many stations are looked up within a second: a forged relay costs no more than a true one.
const MOST_LOOKED_UP: u32 = 10;

/// Passes the engine's events on.
pub(super) struct EngineEvents {
    stream: EventStream,
    budget: AnswerBudget,
    /// Its memory is used again and again.
    taken: Vec<BootEvent>,
    /// How many stations were looked up within this second.
    looked_up: u32,
}

impl EngineEvents {
    pub(super) fn new(stream: EventStream) -> Self {
        Self { stream, budget: AnswerBudget::default(), taken: Vec::new(), looked_up: 0 }
    }

    /// Where others' events go.
    pub(super) fn stream(&self) -> &EventStream {
        &self.stream
    }

    /// Passes on what has happened since the last time.
    pub(super) fn pass_on(&mut self, engine: &mut Engine) {
        let lost = engine.take_events(&mut self.taken);
        self.stream.counts().lose(lost);
        let is_read = self.stream.is_read();
        for mut event in self.taken.drain(..) {
            let is_logged = self.budget.admit(&event);
            if is_logged || is_read || self.stream.is_wanted(event.step.kind()) {
                engine.complete(&mut event);
                look_up(&mut event, &mut self.looked_up);
            }
            self.stream.pass(event, is_logged);
        }
    }

    /// Ends a second of the log, and names machines that ask without end.
    pub(super) fn next_second(&mut self, engine: &Engine, now: Now) {
        self.looked_up = 0;
        named(self.budget.next_second(), |flood| {
            let step = Step::Flood { answers: flood.answers };
            let event = BootEvent::new(now.boot, step).of(Machine::from(flood.mac));
            let mut event = BootEvent { link: engine.link_name(flood.link), ..event };
            engine.complete(&mut event);
            self.stream.emit(event);
        });
    }
}

/// Looks up the station of a relay that somebody has to find. The socket of port 67 does not tell it; the system's table
/// does, if the relay is on a network of this host.
fn look_up(event: &mut BootEvent, looked_up: &mut u32) {
    let (address, station) = match &mut event.step {
        Step::NoSubnet(NoSubnet::Behind { from, station, .. }) => (*from, station),
        Step::Dropped { fault: Fault::Relay { station, .. }, from, .. } => (*from.ip(), station),
        _ => return,
    };
    if *looked_up < MOST_LOOKED_UP {
        *looked_up += 1;
        *station = neighbours::station(address);
    }
}
