//! What can be read of a record that cannot be read as a whole: a later version has written it, or it was damaged.

use std::sync::Arc;

use boot_common::Mac;
use serde::de::DeserializeOwned;
use serde_json::{Deserializer, Map, Value};

use super::record::{Record, Spec};
use crate::config::parse_uuid;
use crate::lifecycle::{Intent, State, Status};

impl Record {
    /// What stands for a record of whose text only parts can be read. It is shown, and never stored.
    #[must_use]
    pub fn unreadable(id: u64, name: Option<String>, state: State, text: &str) -> Self {
        let whole = serde_json::from_str::<Value>(text).unwrap_or_default();
        let spec = match whole.get("spec").and_then(Value::as_object) {
            Some(said) => Spec::each_of(said),
            None => Spec::found_in(text),
        };
        let number = |key: &str| {
            let said = whole.get("status").and_then(|status| status.get(key)?.as_u64());
            said.or_else(|| number_behind(text, key))
        };
        let since = number("since").unwrap_or(0);
        let status = Status::new(state, "what is stored of it cannot be read".to_owned(), since);
        Self {
            id,
            version: 0,
            revision: 0,
            spec: Spec { name: name.or_else(|| spec.name.clone()), ..spec },
            intent: Intent::default(),
            status: Status { heard: number("heard").unwrap_or(0), ..status },
            bmc_password: None,
            inventory: whole.get("inventory").and_then(read).map(Arc::new),
        }
    }
}

impl Spec {
    /// All of what people have said that this version knows.
    fn each_of(said: &Map<String, Value>) -> Self {
        let fits = |parts: Map<String, Value>| read::<Self>(&Value::Object(parts)).is_some();
        read(&Value::Object(each_that_fits(said, &fits))).unwrap_or_default()
    }

    /// What tells a machine from others, wherever it stands in a text that is damaged.
    fn found_in(text: &str) -> Self {
        let mut said = Map::new();
        // What labels and the BMC have may look like what the machine itself has.
        let rest = take_out("labels", text, &mut said);
        // Behind this are the serial numbers and addresses of other things.
        let mut rest = before(&rest, "\"intent\":").to_owned();
        for key in ["bmc", "relay_port", "serial", "ip"] {
            rest = take_out(key, &rest, &mut said);
        }
        let words = || rest.split('"');
        let is_mac = |word: &&str| word.len() == 17 && word.parse::<Mac>().is_ok();
        let is_uuid = |word: &&str| word.len() == 36 && parse_uuid(word).is_ok();
        Self {
            mac: words().filter(is_mac).map(str::to_owned).collect(),
            uuid: words().find(is_uuid).map(str::to_owned),
            ..Self::each_of(&said)
        }
    }
}

/// The text without a key and its value, which is kept if it can be read.
fn take_out(key: &str, text: &str, kept: &mut Map<String, Value>) -> String {
    let Some((before, behind)) = text.split_once(&format!("\"{key}\":")) else { return text.to_owned() };
    let mut values = Deserializer::from_str(behind).into_iter::<Value>();
    let end = match values.next() {
        Some(Ok(value)) => {
            kept.insert(key.to_owned(), value);
            values.byte_offset()
        }
        _ => behind.find('}').unwrap_or(behind.len()),
    };
    format!("{before}{}", behind.get(end..).unwrap_or_default())
}

/// Those keys that fit, each by itself; of one with keys of its own that does not fit, those of them that do.
fn each_that_fits(
    said: &Map<String, Value>,
    fits: &dyn Fn(Map<String, Value>) -> bool,
) -> Map<String, Value> {
    let mut kept = Map::new();
    for (key, value) in said {
        let with = |value: Value| {
            let mut parts = kept.clone();
            parts.insert(key.clone(), value);
            parts
        };
        let value = match value {
            Value::Object(inner) if !fits(with(value.clone())) => {
                Value::Object(each_that_fits(inner, &|inner| fits(with(Value::Object(inner)))))
            }
            value => value.clone(),
        };
        if fits(with(value.clone())) {
            kept.insert(key.clone(), value);
        }
    }
    kept
}

/// The number behind a key, wherever that stands.
fn number_behind(text: &str, key: &str) -> Option<u64> {
    let (_, behind) = text.split_once(&format!("\"{key}\":"))?;
    Deserializer::from_str(behind).into_iter::<u64>().next()?.ok()
}

fn read<T: DeserializeOwned>(value: &Value) -> Option<T> {
    T::deserialize(value).ok()
}

/// What stands in front of this, or everything.
fn before<'t>(text: &'t str, end: &str) -> &'t str {
    text.split_once(end).map_or(text, |(before, _)| before)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_it_is_can_be_read_of_a_record_that_is_newer_or_damaged() {
        let spec = r#"{"id":7,"version":1,"revision":9,"spec":{"newer":1,"name":"db1","mac":["52:54:00:00:00:01","52:54:00:00:00:02"],"uuid":"4c4c4544-0042-4a10-8052-b3c04f4d3132","serial":"CZ1234","bmc":{"address":"10.0.0.9","mac":"52:54:00:00:00:99"}},"intent":{"#;
        assert!(serde_json::from_str::<Record>(spec).is_err());
        let record = Record::unreadable(7, Some("db1".to_owned()), State::Running, spec);
        assert_eq!((record.called().as_str(), record.status.state), ("db1", State::Running));
        assert_eq!(record.spec.mac, ["52:54:00:00:00:01", "52:54:00:00:00:02"], "its BMC is another one");
        assert_eq!(record.spec.uuid.as_deref(), Some("4c4c4544-0042-4a10-8052-b3c04f4d3132"));
        assert_eq!(record.spec.serial.as_deref(), Some("CZ1234"));
        let broken = Record::unreadable(7, None, State::Ready, "\u{0}\"mac\":[\"52:54:00:00:00:01\"");
        assert_eq!(broken.called(), "52:54:00:00:00:01");
        assert_eq!(Record::unreadable(7, None, State::Ready, "").called(), "machine 7");
    }

    #[test]
    fn labels_hide_nothing_of_a_record_that_is_newer_or_damaged() {
        let spec = r#""newer":1,"name":"db1","labels":{"bmc":"yes","intent":"none","peer":"52:54:00:00:00:77","serial":"no"},"mac":["52:54:00:00:00:01"],"uuid":"4c4c4544-0042-4a10-8052-b3c04f4d3132","serial":"CZ1234","relay_port":{"circuit_id":"eth0/7","newer":1},"ip":"10.1.0.5","args":"a \"mac\":","bmc":{"address":"10.0.0.9","mac":"52:54:00:00:00:99","newer":{}}"#;
        let behind = r#""intent":{"newer":1},"status":{"since":1800000000,"heard":1700000000,"newer":1}"#;
        let newer = format!(r#"{{"id":7,"spec":{{{spec}}},{behind}}}"#);
        // One sign less.
        let damaged = format!(r#"{{"id":7,"spec":{{{spec}}}{behind}}}"#);
        for text in [&newer, &damaged] {
            let Record { spec, status, .. } = Record::unreadable(7, None, State::Running, text);
            assert_eq!(spec.mac, ["52:54:00:00:00:01"], "{text}");
            assert_eq!(spec.uuid.as_deref(), Some("4c4c4544-0042-4a10-8052-b3c04f4d3132"), "{text}");
            assert_eq!(spec.serial.as_deref(), Some("CZ1234"), "{text}");
            assert_eq!(spec.ip.as_deref(), Some("10.1.0.5"), "{text}");
            assert_eq!(spec.relay_port.map(|port| port.circuit_id).as_deref(), Some("eth0/7"), "{text}");
            let bmc = spec.bmc.unwrap_or_default();
            assert_eq!(bmc.address.as_deref(), Some("10.0.0.9"), "{text}");
            assert_eq!(bmc.mac.as_deref(), Some("52:54:00:00:00:99"), "{text}");
            assert_eq!((status.since, status.heard), (1_800_000_000, 1_700_000_000), "{text}");
        }
        let newer = Record::unreadable(7, None, State::Running, &newer);
        assert_eq!((newer.called().as_str(), newer.spec.labels.len()), ("db1", 4));
        let of_others = r#"{"spec":{"mac":["52:54:00:00:00:01"]}"intent":{},"status":{"bmc":{}},"inventory":{"serial":"no"}}"#;
        let Spec { mac, serial, bmc, .. } = Record::unreadable(7, None, State::Ready, of_others).spec;
        assert_eq!((mac.len(), serial, bmc), (1, None, None));
        let cut = r#"{"spec":{"labels":{"peer":"52:54:00:00:00:77"#;
        assert!(Record::unreadable(7, None, State::Running, cut).spec.mac.is_empty());
    }
}
