//! Who follows machines, and what they hear that is no change of a record.

use boot_agent_protocol::Progress;

use super::*;
use crate::daemon::request::{MachineChanges, WantedChanges};

impl Rig {
    fn changes(&self, wanted: WantedChanges) -> MachineChanges {
        self.ask(|reply| RegistryAsk::Changes(wanted, reply)).unwrap()
    }
}

#[test]
fn who_follows_machines_hears_how_far_agents_are_each_machine_once() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir.path(), CONFIG);
    rig.create("node1", "02:00:00:00:00:09").unwrap();
    rig.create("node2", "02:00:00:00:00:10").unwrap();
    let ids = ["node1", "node2"].map(|name| rig.record(name).id);
    let first = rig.changes(WantedChanges::default());
    let wanted = WantedChanges {
        since: Some(first.revision),
        progress: Some(first.progress),
        waits: Some(first.reloads),
        ..WantedChanges::default()
    };
    let says = |id: u64, percents: std::ops::RangeInclusive<u64>| {
        for done in percents {
            rig.registry.progress(id, Progress { text: "wiping sda".to_owned(), done, of: 100 });
        }
    };
    let told = |found: &MachineChanges| -> Vec<_> {
        found.advances.iter().map(|told| (told.called.clone(), told.progress.done)).collect()
    };
    says(ids[0], 1..=50);
    let found = rig.changes(wanted.clone());
    assert_eq!((told(&found), found.changes.len()), (vec![("node1".to_owned(), 50)], 0));
    let wanted = WantedChanges { progress: Some(found.progress), ..wanted };
    // What was said already is no news.
    says(ids[0], 50..=50);
    says(ids[1], 7..=8);
    let found = rig.changes(wanted.clone());
    assert_eq!(told(&found), [("node2".to_owned(), 8)]);
    // The first one is told from the beginning on, to who asks for such machines.
    let all = WantedChanges { progress: Some(first.progress), waits: None, ..wanted };
    assert_eq!(told(&rig.changes(all.clone())).len(), 2);
    let labels = vec![("role".to_owned(), None)];
    let others = WantedChanges { query: Query { labels, ..Query::default() }, ..all.clone() };
    assert!(told(&rig.changes(others)).is_empty());
    // Nor of a state that has passed, nor of a machine that is gone.
    rig.order("node1", Order::Accept).unwrap();
    rig.ask(|reply| RegistryAsk::Delete("node2".to_owned(), None, reply)).unwrap();
    assert!(told(&rig.changes(all)).is_empty());
    rig.kill();
}
