//! Machines that somebody brings, many at once.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use boot_engine::registry::Spec;

/// One of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ImportItem {
    /// Its spec. It is the machine with its name, or else with its first MAC, or else with its UUID, or
    /// else with its serial number. One that has no name yet is also found by any of these beside a new name.
    pub spec: Map<String, Value>,
    /// What the spec does not say stays as it was (RFC 7396). Without it a machine is as the spec says and no more.
    #[serde(default)]
    pub keep: bool,
    /// All of its labels, where they are said beside a spec that keeps the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
}

/// What became of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Imported {
    /// How many are new.
    pub added: usize,
    /// How many were changed.
    pub changed: usize,
    /// How many are as they were.
    pub unchanged: usize,
    /// How many are machines of the configuration, as they stand there.
    #[serde(default)]
    pub configured: usize,
    /// Those that are refused, by their position, from 0, each with a sentence.
    #[schema(value_type = Vec<Vec<Value>>)]
    pub refused: Vec<(usize, String)>,
}

impl ImportItem {
    /// A machine as a spec says, and no more.
    ///
    /// # Errors
    /// It cannot be written as JSON.
    pub fn whole(spec: &Spec) -> serde_json::Result<Self> {
        Ok(Self { spec: serde_json::from_value(serde_json::to_value(spec)?)?, keep: false, labels: None })
    }

    /// What the machine is found by.
    #[must_use]
    pub fn called(&self) -> Option<String> {
        self.spec.get("name").and_then(text).or_else(|| self.marks().next())
    }

    /// What else it may be found by: its MACs, its UUID and its serial number.
    pub fn marks(&self) -> impl Iterator<Item = String> {
        let of = |key: &str| self.spec.get(key).and_then(text);
        let serial = of("serial").map(|serial| format!("serial:{serial}"));
        let macs = self.spec.get("mac").and_then(Value::as_array).into_iter().flatten();
        macs.filter_map(text).chain(of("uuid")).chain(serial)
    }

    /// The serial number that it is expected by.
    #[must_use]
    pub fn serial(&self) -> Option<&str> {
        self.spec.get("serial").and_then(Value::as_str)
    }

    /// What the machine is to be.
    ///
    /// # Errors
    /// A sentence that says what is wrong with the spec.
    pub fn over(&self, before: Option<&Spec>) -> Result<Spec, String> {
        let wrong = |error: serde_json::Error| format!("its spec is not what is expected: {error}");
        let mut whole = match before.filter(|_| self.keep) {
            Some(before) => serde_json::to_value(before).map_err(wrong)?,
            None => Value::Object(Map::new()),
        };
        merge(&mut whole, Value::Object(self.spec.clone()));
        // A BMC of which nothing is said any more is none.
        if let Some(object) = whole.as_object_mut()
            && object.get("bmc").and_then(Value::as_object).is_some_and(Map::is_empty)
        {
            object.remove("bmc");
        }
        let mut whole: Spec = serde_json::from_value(whole).map_err(wrong)?;
        if let Some(labels) = &self.labels {
            whole.labels.clone_from(labels);
        }
        Ok(whole)
    }
}

/// A text that is not empty.
fn text(value: &Value) -> Option<String> {
    value.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

/// A merge patch (RFC 7396).
pub fn merge(into: &mut Value, patch: Value) {
    let Value::Object(changes) = patch else { return };
    if !into.is_object() {
        *into = Value::Object(Map::new());
    }
    let Some(object) = into.as_object_mut() else { return };
    for (key, value) in changes {
        match value {
            Value::Null => drop(object.remove(&key)),
            Value::Object(_) => merge(object.entry(key).or_insert(Value::Null), value),
            value => drop(object.insert(key, value)),
        }
    }
}
