//! The engine's events on their way into the stream: looked up where somebody reads them, logged where there is room.

use super::log::answers::{AnswerBudget, named};
use super::request::EventStream;
use boot_engine::Engine;
use boot_engine::command::Now;
use boot_engine::events::{BootEvent, Machine, Sink as _, Step};

/// Passes the engine's events on.
pub(super) struct EngineEvents {
    stream: EventStream,
    budget: AnswerBudget,
    /// Its memory is used again and again.
    taken: Vec<BootEvent>,
}

impl EngineEvents {
    pub(super) fn new(stream: EventStream) -> Self {
        Self { stream, budget: AnswerBudget::default(), taken: Vec::new() }
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
            if is_logged || is_read {
                engine.complete(&mut event);
            }
            self.stream.pass(event, is_logged);
        }
    }

    /// Ends a second of the log, and names machines that ask without end.
    pub(super) fn next_second(&mut self, engine: &Engine, now: Now) {
        named(self.budget.next_second(), |flood| {
            let step = Step::Flood { answers: flood.answers };
            let event = BootEvent::new(now.boot, step).of(Machine::from(flood.mac));
            let mut event = BootEvent { link: engine.link_name(flood.link), ..event };
            engine.complete(&mut event);
            self.stream.emit(event);
        });
    }
}
