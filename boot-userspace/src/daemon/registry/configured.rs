//! Machines of the configuration in what is imported: an export has them, too.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::Keeper;
use crate::daemon::request::{ImportItem, RegistryError};
use boot_engine::config::Machine;
use boot_engine::registry::Spec;

/// How much of a value an error shows.
const LONGEST_VALUE: usize = 80;

impl Keeper {
    /// The machine of the configuration at the switch port of a machine that has nothing else to be found by.
    pub(super) fn configured_at_port(&self, item: &ImportItem) -> Option<Arc<Machine>> {
        let relay_port = Some(item.over(None).ok()?.relay_port?);
        let config = self.config();
        let asked = Spec { relay_port, ..Spec::default() }.check(&config).ok()?;
        config.machines.iter().find(|machine| machine.relay_port == asked.relay_port).cloned()
    }

    /// Whether a machine of the configuration is imported as it stands there, however its values are written.
    pub(super) fn is_as_configured(
        &self,
        item: &ImportItem,
        called: &str,
        machine: &Machine,
    ) -> Result<(), RegistryError> {
        let there = Spec::from(machine);
        let here = item.over(Some(&there)).map_err(|wrong| RegistryError::Invalid(vec![wrong]))?;
        if here == there {
            return Ok(());
        }
        // In the configuration, arguments may be what the registry refuses: then it is compared as it is written.
        let checked = here.check(&self.config()).map(|machine| Spec::from(&machine));
        let here = checked.unwrap_or(here);
        if here == there {
            return Ok(());
        }
        Err(RegistryError::Conflict(format!(
            "{called} is in the configuration, and differs: {}; change it in its file, then run xpxe reload",
            differences(&there, &here).join("; ")
        )))
    }
}

/// What differs, by key.
fn differences(there: &Spec, here: &Spec) -> Vec<String> {
    let [there, here] = [there, here].map(|spec| match serde_json::to_value(spec) {
        Ok(Value::Object(keys)) => keys,
        _ => Map::new(),
    });
    let keys: BTreeSet<&str> = there.keys().chain(here.keys()).map(String::as_str).collect();
    let differs = keys.into_iter().filter(|key| there.get(*key) != here.get(*key));
    let says =
        |key: &str| format!("{key} is {} there and {} here", shown(there.get(key)), shown(here.get(key)));
    differs.map(says).collect()
}

fn shown(value: Option<&Value>) -> String {
    let Some(value) = value else { return "not set".to_owned() };
    let text = value.to_string();
    match text.char_indices().nth(LONGEST_VALUE) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}
