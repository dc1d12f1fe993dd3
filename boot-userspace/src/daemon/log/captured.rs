//! An event's log line as data: its sentence and its fields, for who tells others of events.

use std::cell::RefCell;
use std::sync::LazyLock;

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Dispatch, Event, Metadata, Subscriber};

use super::text;
use boot_engine::diagnosis::Note;
use boot_engine::events::BootEvent;

thread_local! {
    static LINE: RefCell<Map<String, Value>> = RefCell::default();
}

/// Made once: each new one has every line in the program ask who listens.
static CAPTURE: LazyLock<Dispatch> = LazyLock::new(|| Dispatch::new(Capture));

/// The fields of the event's line, its sentence as `message`. An event that the log has only when debugging has its words of
/// the machine's timeline.
pub(in crate::daemon) fn line(event: &BootEvent) -> Map<String, Value> {
    LINE.with_borrow_mut(Map::clear);
    tracing::dispatcher::with_default(&CAPTURE, || text::write(event));
    let mut line = LINE.take();
    if !line.contains_key("message") {
        let what = Note::of(event).and_then(|note| note.what);
        let says = what.map_or_else(|| event.step.kind().name().to_owned(), |what| what.to_string());
        line.insert("message".to_owned(), says.into());
        line.insert("by".to_owned(), event.by.name().into());
        if let Some(machine) = &event.machine {
            line.insert("mac".to_owned(), machine.mac.to_string().into());
            line.insert("name".to_owned(), machine.name.as_deref().unwrap_or_default().into());
        }
    }
    if let Some(machine) = &event.without_mac {
        line.remove("mac");
        line.insert("id".to_owned(), machine.record.into());
        line.insert("name".to_owned(), Value::from(&*machine.called));
    }
    // The kind stands beside the line.
    line.remove("step");
    line
}

struct Capture;

impl Subscriber for Capture {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && *metadata.level() <= tracing::Level::INFO
    }

    /// No more than what the log has anyway: a line that nobody listens to must stay free of cost.
    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::INFO)
    }

    fn event(&self, event: &Event<'_>) {
        LINE.with_borrow_mut(|line| event.record(&mut Fields(line)));
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

struct Fields<'l>(&'l mut Map<String, Value>);

impl Fields<'_> {
    fn put(&mut self, field: &Field, value: Value) {
        self.0.insert(field.name().to_owned(), value);
    }
}

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.put(field, format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use super::*;
    use boot_common::class::Class;
    use boot_engine::events::{Machine, Step};

    fn of_alice(step: Step) -> Map<String, Value> {
        let machine = Machine { mac: "52:54:00:00:00:01".parse().unwrap(), name: Some("alice".into()) };
        line(&BootEvent::new(Duration::ZERO, step).of(machine))
    }

    #[test]
    fn a_line_is_its_sentence_and_its_fields_whatever_the_log_shows() {
        let address = Ipv4Addr::new(10, 1, 1, 50);
        let expected = serde_json::json!({
            "message": "released 10.1.1.50", "by": "daemon", "mac": "52:54:00:00:00:01", "address": "10.1.1.50",
        });
        assert_eq!(Value::Object(of_alice(Step::Released(address))), expected);
        // For debugging only.
        let step = Step::TookElsewhere { address, server: address, class: Class::from_key(0).unwrap() };
        let line = of_alice(step);
        assert_eq!(line["name"], "alice");
        assert!(line["message"].as_str().unwrap().contains("10.1.1.50"), "{line:?}");
    }
}
