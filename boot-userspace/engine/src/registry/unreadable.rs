//! What can be read of a record that cannot be read as a whole: a later version has written it, or it was damaged.

use boot_common::Mac;

use super::record::{Record, Spec};
use crate::config::parse_uuid;
use crate::lifecycle::{Intent, State, Status};

impl Record {
    /// What stands for a record of whose text only parts can be read. It is shown, and never stored.
    #[must_use]
    pub fn unreadable(id: u64, name: Option<String>, state: State, text: &str) -> Self {
        Self {
            id,
            version: 0,
            revision: 0,
            spec: Spec { name, ..Spec::found_in(text) },
            intent: Intent::default(),
            status: Status::new(state, "what is stored of it cannot be read".to_owned(), 0),
            bmc_password: None,
            inventory: None,
        }
    }
}

impl Spec {
    /// What tells a machine from others, wherever it stands in what people have said of it.
    fn found_in(text: &str) -> Self {
        // Behind these are the addresses of other things.
        let said = before(before(text, "\"intent\":"), "\"bmc\":");
        let words = || said.split('"');
        let is_mac = |word: &&str| word.len() == 17 && word.parse::<Mac>().is_ok();
        let is_uuid = |word: &&str| word.len() == 36 && parse_uuid(word).is_ok();
        let serial = said.split_once("\"serial\":\"").and_then(|(_, rest)| rest.split('"').next());
        Self {
            mac: words().filter(is_mac).map(str::to_owned).collect(),
            uuid: words().find(is_uuid).map(str::to_owned),
            serial: serial.map(str::to_owned),
            ..Self::default()
        }
    }
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
}
