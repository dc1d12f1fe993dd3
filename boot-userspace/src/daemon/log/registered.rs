//! Lines about machines of the registry, which may have no MAC: those have their number there instead.

use tracing::field::display;
use tracing::{debug, info, warn};

use super::whose::Whose;
use boot_engine::events::Step;
use boot_engine::lifecycle::{Done, Past, State};

pub(super) fn write_registered(whose: &Whose<'_>, what: &Step) {
    let Whose { step, by, id, .. } = *whose;
    let (mac, name) = (whose.mac.map(display), whose.known_name());
    match what {
        Step::BecameState(past) => {
            let Past { from, to, why, by: who, .. } = &**past;
            let text = format_args!("{to} instead of {from}: {why} (by {who})");
            if *to == State::Failed {
                warn!(step, by, id, mac, name, state = to.name(), "{text}; xpxe machines show says more");
            } else {
                info!(step, by, id, mac, name, state = to.name(), "{text}");
            }
        }
        Step::Progress { does, percent } => {
            let percent = percent.map_or_else(String::new, |percent| format!(" {percent} %"));
            debug!(step, by, id, mac, name, "the agent: {does}{percent}");
        }
        Step::Overdue { state, limit, waits } => warn!(
            step,
            by,
            id,
            mac,
            name,
            state = state.name(),
            limit,
            "{state} for longer than {limit} s (limits in [lifecycle]). It waits: {waits}"
        ),
        Step::Power(done) => {
            let Done { act, by: who, end, .. } = &**done;
            let act = act.name();
            match end {
                Some(Err(why)) => warn!(
                    step,
                    by,
                    id,
                    mac,
                    name,
                    command = act,
                    "its BMC has not carried out the command {act} (by {who}): {why}"
                ),
                _ => {
                    let text = format_args!("its BMC has taken the command {act} (by {who})");
                    info!(step, by, id, mac, name, command = act, "{text}");
                }
            }
        }
        Step::InventoryChanged(differences) => {
            let differences = differences.join(", ");
            warn!(
                step,
                by,
                id,
                mac,
                name,
                "the machine consists of something else than before: {differences}; \
                 xpxe machines show has all of it"
            );
        }
        Step::Expected { serial, before } => {
            let before =
                before.as_ref().map(|before| format!(", and {before} until now")).unwrap_or_default();
            info!(
                step,
                by,
                id,
                mac,
                name,
                serial = &**serial,
                "it is the machine that was expected by the serial number {serial}{before}"
            );
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use boot_engine::config::Machine;
    use boot_engine::events::{BootEvent, WithoutMac};

    use super::*;
    use crate::daemon::log::text;

    #[test]
    fn a_machine_without_a_mac_has_its_number() {
        let machine = Arc::new(Machine::default());
        let without_mac = Some(Arc::new(WithoutMac { record: 42, called: "node7".into(), machine }));
        let step = Step::Overdue { state: State::Installing, limit: 3600, waits: "for its report".into() };
        let event = BootEvent { without_mac, ..BootEvent::new(Duration::ZERO, step) };
        let log = tempfile::NamedTempFile::new().unwrap();
        let writer = std::sync::Mutex::new(log.reopen().unwrap());
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(writer).finish();
        tracing::subscriber::with_default(subscriber, || text::write(&event));
        let line = std::fs::read_to_string(log.path()).unwrap();
        assert!(line.contains("id=42 name=\"node7\"") && !line.contains("mac="), "{line}");
    }
}
