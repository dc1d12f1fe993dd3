//! Of which machine an event is, as webhooks tell them apart.

use std::sync::Arc;

use boot_engine::config::Webhook;
use boot_engine::events::BootEvent;
use boot_engine::machines::Machines;

/// Whether an event is of a machine that the webhook is for.
pub(super) fn is_about(machines: &Machines, webhook: &Webhook, event: &BootEvent) -> bool {
    if webhook.labels.is_empty() {
        return true;
    }
    let by_mac = || Some(machines.by_mac(event.machine.as_ref()?.mac)?.machine);
    let known = event.without_mac.as_ref().map(|known| Arc::clone(&known.machine)).or_else(by_mac);
    let has = |(key, value): (&String, &String)| {
        known.as_ref().is_some_and(|machine| machine.labels.get(key) == Some(value))
    };
    webhook.labels.iter().all(has)
}

/// What tells an event's machine from others: its MAC, or its number in the registry.
pub(super) fn lane(event: &BootEvent) -> Option<String> {
    let without_mac = || Some(format!("id:{}", event.without_mac.as_ref()?.record));
    event.machine.as_ref().map(|machine| machine.mac.to_string()).or_else(without_mac)
}

/// Whether an event is of a machine that may not be there: no person has said or ordered anything of it. Anybody can make up as
/// many of them as there are MACs, have a rule accept them, and report for them what an agent does.
pub(super) fn is_of_stranger(machines: &Machines, event: &BootEvent) -> bool {
    let Some(mac) = event.machine.as_ref().map(|machine| machine.mac) else { return false };
    if event.name().is_some() || machines.is_bmc(mac) {
        return false;
    }
    let Some(known) = machines.by_mac(mac) else { return true };
    known.life.is_some_and(|life| !life.is_chosen)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use boot_common::Mac;
    use boot_engine::config::{Bmc, Machine, parse};
    use boot_engine::events::{self, Step, WithoutMac};
    use boot_engine::lifecycle::State;
    use boot_engine::machines::Life;
    use serde_json::json;

    use super::*;
    use crate::daemon::log::captured;

    #[test]
    fn events_of_a_machine_without_a_mac_are_its_own() {
        let text = "[[interface]]\nname = 'eth1'\ndhcp = 'off'\n[[webhook]]\nname = 'w'\nevents = 'flood'\n\
            secret_file = '/s'\nurl = 'http://h/'\nlabels = { role = 'worker' }\n";
        let webhook = parse(text, "test").unwrap().webhooks.remove(0);
        let of = |record: u64, role: &str| {
            let labels = [("role".to_owned(), role.to_owned())].into();
            let machine = Arc::new(Machine { labels, ..Machine::default() });
            let without_mac = Some(Arc::new(WithoutMac { record, called: "uu".into(), machine }));
            BootEvent { without_mac, ..BootEvent::new(Duration::ZERO, Step::Flood { answers: 7 }) }
        };
        let is_told = |event: &BootEvent| is_about(&Machines::default(), &webhook, event);
        let (worker, gateway) = (of(7, "worker"), of(8, "gateway"));
        assert!(is_told(&worker) && !is_told(&gateway));
        assert_eq!((lane(&worker), lane(&gateway)), (Some("id:7".to_owned()), Some("id:8".to_owned())));
        assert!(!is_of_stranger(&Machines::default(), &worker));
        let line = captured::line(&worker);
        assert_eq!((&line["name"], &line["id"], line.get("mac")), (&json!("uu"), &json!(7), None));
    }

    #[test]
    fn a_machine_that_may_not_be_there_is_a_stranger() {
        let macs = [1, 2, 3, 4, 5, 6, 7].map(|n| Mac([2, 0, 0, 0, 0, n]));
        let [configured, bmc, discovered, by_rule, failed, chosen, unknown] = macs;
        let with = |mac: Mac| Machine { macs: vec![mac], ..Machine::default() };
        let its_bmc = Some(Box::new(Bmc { mac: Some(bmc), ..Bmc::default() }));
        let machines = Machines::new([Arc::new(Machine { bmc: its_bmc, ..with(configured) })]).unwrap();
        let alive = [
            (1, discovered, State::Discovered, false),
            (2, by_rule, State::Accepted, false),
            (3, failed, State::Failed, false),
            (4, chosen, State::Accepted, true),
        ];
        for (record, mac, state, is_chosen) in alive {
            let life = Life {
                record,
                state,
                says: "a test".into(),
                is_written: false,
                since: 0,
                is_overdue: false,
                run: 0,
                is_unserved: false,
                heard: 0,
                is_chosen,
            };
            let inventory = (state == State::Failed).then(Arc::default);
            machines.put_alive(None, Arc::new(Machine { inventory, ..with(mac) }), life).unwrap();
        }
        let is_stranger = |machine: events::Machine| {
            let event = BootEvent::new(Duration::ZERO, Step::Flood { answers: 7 }).of(machine);
            is_of_stranger(&machines, &event)
        };
        let found = macs.map(|mac| is_stranger(mac.into()));
        assert_eq!(found, [false, false, true, true, true, false, true]);
        // What is told of a machine that is gone meanwhile has its name.
        assert!(!is_stranger(events::Machine { mac: unknown, name: Some("node1".into()) }));
        let of_none = BootEvent::new(Duration::ZERO, Step::Flood { answers: 7 });
        assert!(!is_of_stranger(&machines, &of_none));
    }
}
