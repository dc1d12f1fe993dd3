//! Machines that have something that only one can have.

use boot_agent_protocol::{Nic, System};
use boot_engine::events::{self, BootEvent, Meanwhile, Script, Shared};

use super::*;

const UUID: &str = "4c4c4544-0042-3510-8052-b4c04f4e3132";
const FIRST: &str = "02:00:00:00:00:09";
const SECOND: &str = "02:00:00:00:00:10";

impl Rig {
    pub(super) fn put(&self, spec: Spec) -> Arc<Record> {
        let name = spec.name.clone().unwrap();
        self.ask(|reply| RegistryAsk::Create(spec, reply)).unwrap();
        self.record(&name)
    }

    pub(super) fn report(&self, which: &str, serial: &str, cards: &[&str]) -> Result<(), RegistryError> {
        let id = self.record(which).id;
        let nics = cards.iter().map(|mac| Nic { mac: (*mac).to_owned(), ..Nic::default() });
        let system = System { serial: serial.to_owned(), vendor: "Maker".to_owned(), ..System::default() };
        let inventory = Inventory {
            disks: vec![Disk::default(); 2],
            nics: nics.collect(),
            system,
            ..Inventory::default()
        };
        self.ask(|reply| RegistryAsk::Inventory(id, Box::new(inventory), reply))
    }

    /// A machine fetches its script from an address, and says that it has this UUID.
    fn fetched(&self, mac: &str, from: [u8; 4]) {
        let uuid = boot_engine::config::parse_uuid(UUID).unwrap();
        let end = Script::Sent { bytes: 1, uuid: Some(uuid) };
        let step = Step::Script { client: from.into(), path: "/ipxe/boot.ipxe".to_owned(), end };
        let mac: Mac = mac.parse().unwrap();
        self.events.emit(BootEvent::new(Duration::ZERO, step).of(events::Machine::from(mac)));
    }

    pub(super) fn next_conflict(&self, events: &mut Reader) -> (Mac, events::Conflict) {
        self.runtime.block_on(async {
            let next = async {
                loop {
                    if let Some(event) = events.next().await
                        && let Step::Conflict(conflict) = &event.step
                    {
                        return (event.machine.as_ref().unwrap().mac, (**conflict).clone());
                    }
                }
            };
            tokio::time::timeout(Duration::from_secs(20), next).await.unwrap()
        })
    }
}

pub(super) fn spec(name: &str, mac: &str, uuid: Option<&str>) -> Spec {
    Spec {
        name: Some(name.to_owned()),
        mac: vec![mac.to_owned()],
        uuid: uuid.map(str::to_owned),
        ..Spec::default()
    }
}

/// With a rule for two machines, and everybody accepted who reports two disks.
fn config(rule: &str, accept: &str) -> String {
    let group = "[[group]]\nname = \"two-disks\"\nmatch = { disks = \">= 2\" }\nargs = \"x\"\n[default]";
    CONFIG.replace("[default]", group).replace("accept = \"rack7\"", &format!("accept = \"{accept}\""))
        + &format!("[identity]\n{rule}\n")
}

#[test]
fn a_machine_that_shows_the_uuid_of_another_one_is_known_by_its_mac_or_held() {
    for (rule, state, meanwhile) in [
        ("", State::Discovered, Meanwhile::ByMac),
        ("duplicate_uuid = \"hold\"", State::Maintenance, Meanwhile::Held),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let rig = Rig::start(dir.path(), &config(rule, "rack7"));
        rig.put(spec("node1", FIRST, None));
        rig.put(spec("node2", SECOND, Some(UUID)));
        let mut events = rig.events.read();
        // Its own owner is nothing to tell of.
        rig.fetched(SECOND, [10, 1, 1, 40]);
        rig.fetched(FIRST, [10, 1, 1, 40]);
        let (mac, conflict) = rig.next_conflict(&mut events);
        assert_eq!((mac.to_string().as_str(), conflict.meanwhile), (FIRST, meanwhile));
        assert_eq!(conflict.what, Shared::Uuid { uuid: UUID.into(), other: "node2".into() });
        rig.eventually("what the rule says", |rig| (rig.record("node1").status.state == state).then_some(()));
        assert_eq!(rig.record("node2").status.state, State::Discovered, "nothing happens to the other one");
        rig.kill();
    }
}

/// DHCP hears a machine before iPXE says which UUID it has.
#[test]
fn a_machine_that_was_heard_without_a_uuid_gets_it_with_its_script() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir.path(), &config("", "all"));
    let (first, second): (Mac, Mac) = (FIRST.parse().unwrap(), SECOND.parse().unwrap());
    for mac in [first, second] {
        rig.registry.sighted(mac, None);
        rig.eventually("it is there", |rig| rig.machines.life_of(mac));
    }
    rig.machines.put([10, 1, 1, 40].into(), first);
    rig.machines.put([10, 1, 1, 41].into(), second);
    // A rule has accepted both: only the machine itself says which UUID it has.
    rig.fetched(FIRST, [10, 1, 1, 66]);
    rig.fetched(SECOND, [10, 1, 1, 41]);
    let uuid = |which: &str| rig.record(which).spec.uuid.clone();
    rig.eventually("its UUID", |_| uuid(SECOND));
    let record = rig.record(UUID);
    assert_eq!((record.spec.mac.as_slice(), record.version), (&[SECOND.to_owned()][..], 2));
    // It is one machine's, and not that of another one that shows it, too.
    let mut events = rig.events.read();
    rig.fetched(FIRST, [10, 1, 1, 40]);
    let (told, _) = rig.next_conflict(&mut events);
    assert_eq!((told, uuid(FIRST)), (first, None));
    rig.kill();
    let rig = Rig::start(dir.path(), &config("", "rack7"));
    assert_eq!(rig.record(SECOND).spec.uuid.as_deref(), Some(UUID), "after a kill");
    rig.kill();
}

/// Without that, the second board was taken for a card of the first one, and got what is meant for it.
#[test]
fn boards_with_a_makers_uuid_are_each_known_by_their_mac() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir.path(), CONFIG);
    let mut events = rig.events.read();
    let uuid = 0x0300_0200_0400_0500_0006_0007_0008_0009u128.to_be_bytes();
    for mac in [FIRST, SECOND] {
        let mac: Mac = mac.parse().unwrap();
        rig.registry.sighted(mac, Some(uuid));
        let life = rig.eventually("it is there", |rig| rig.machines.life_of(mac));
        assert_eq!((life.state, rig.record(&mac.to_string()).spec.uuid.clone()), (State::Discovered, None));
        let (told, conflict) = rig.next_conflict(&mut events);
        assert!(told == mac && matches!(conflict.what, Shared::Placeholder { .. }), "{conflict}");
    }
    let written = spec("node1", "02:00:00:00:00:11", Some("03000200-0400-0500-0006-000700080009"));
    let refused = rig.ask(|reply| RegistryAsk::Create(written, reply)).unwrap_err();
    assert!(refused.to_string().contains("into many boards"), "{refused}");
    rig.kill();
}

/// A machine that boots by a card that nobody has written down must not be wiped as a new one.
#[test]
fn a_machine_by_another_card_is_held_before_it_is_wiped() {
    for (rule, accept, state) in [
        ("", "all", State::Maintenance),
        ("", "two-disks", State::Discovered),
        ("duplicate_mac = \"report\"", "all", State::Accepted),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let rig = Rig::start(dir.path(), &config(rule, accept));
        rig.put(spec("node1", FIRST, None));
        rig.registry.sighted(SECOND.parse().unwrap(), None);
        rig.eventually("it is there", |rig| rig.machines.life_of(SECOND.parse().unwrap()));
        let mut events = rig.events.read();
        rig.report(SECOND, "CZ12", &[SECOND, FIRST]).unwrap();
        let (_, conflict) = rig.next_conflict(&mut events);
        assert_eq!(conflict.what, Shared::Card { mac: FIRST.parse().unwrap(), other: "node1".into() });
        let record = rig.record(SECOND);
        assert_eq!(record.status.state, state, "{accept} {rule}");
        if state == State::Maintenance {
            assert!(record.status.reason.contains("which is that of node1"), "{}", record.status.reason);
            assert_eq!(record.status.history.last().unwrap().by, "rule of [identity]");
        }
        rig.kill();
    }
}

#[test]
fn a_board_that_was_swapped_waits_or_takes_the_place_of_the_old_one() {
    for (rule, follows) in [("", false), ("swapped_board = \"follow\"", true)] {
        let dir = tempfile::tempdir().unwrap();
        let rig = Rig::start(dir.path(), &config(rule, "two-disks"));
        let old = rig.put(spec("node1", FIRST, None));
        rig.report("node1", "CZ12", &[FIRST]).unwrap();
        rig.registry.sighted(SECOND.parse().unwrap(), None);
        rig.eventually("it is there", |rig| rig.machines.life_of(SECOND.parse().unwrap()));
        let mut events = rig.events.read();
        rig.report(SECOND, "CZ12", &[SECOND]).unwrap();
        let (mac, conflict) = rig.next_conflict(&mut events);
        let mark = "the serial number CZ12".into();
        assert_eq!(conflict.what, Shared::Board { mark, other: "node1".into() });
        assert_eq!(mac.to_string(), SECOND);
        let found = rig.record(SECOND);
        if follows {
            assert_eq!((found.id, found.spec.name.as_deref()), (old.id, Some("node1")));
            assert!(rig.machines.by_mac(FIRST.parse().unwrap()).is_none(), "its old card is nobody's");
            assert!(found.inventory.as_ref().is_some_and(|inventory| inventory.nics[0].mac == SECOND));
        } else {
            assert_ne!(found.id, old.id);
            assert_eq!(found.status.state, State::Discovered, "no rule accepts it");
            rig.order(SECOND, Order::Accept).unwrap();
            assert_eq!(rig.record(SECOND).status.state, State::Accepted, "a person does");
        }
        rig.kill();
    }
}

/// The record of the new board goes only where the old one can have its MACs.
#[test]
fn a_board_that_cannot_be_followed_stays_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let config = config("swapped_board = \"follow\"", "two-disks");
    let spare = format!("{config}[[profile]]\nname = \"spare\"\nkernel = \"spare/vmlinuz\"\n");
    let rig = Rig::start(dir.path(), &spare);
    rig.put(Spec { profile: Some("spare".to_owned()), ..spec("node1", FIRST, None) });
    rig.report("node1", "CZ12", &[FIRST]).unwrap();
    rig.kill();
    let rig = Rig::start(dir.path(), &config);
    rig.registry.sighted(SECOND.parse().unwrap(), None);
    rig.eventually("it is there", |rig| rig.machines.life_of(SECOND.parse().unwrap()));
    let before = rig.record(SECOND);
    let refused = rig.report(SECOND, "CZ12", &[SECOND]).unwrap_err().to_string();
    assert!(refused.contains("no profile \"spare\""), "{refused}");
    assert_eq!(rig.record(SECOND).id, before.id);
    rig.kill();
}

#[test]
fn another_board_behind_a_known_card_is_held() {
    for (rule, state) in [("", State::Maintenance), ("swapped_board = \"follow\"", State::Accepted)] {
        let dir = tempfile::tempdir().unwrap();
        let rig = Rig::start(dir.path(), &config(rule, "rack7"));
        rig.put(spec("node1", FIRST, None));
        rig.order("node1", Order::Accept).unwrap();
        rig.report("node1", "CZ12", &[FIRST]).unwrap();
        rig.report("node1", "CZ12", &[FIRST]).unwrap();
        assert_eq!(rig.record("node1").status.state, State::Accepted);
        let mut events = rig.events.read();
        rig.report("node1", "CZ13", &[FIRST]).unwrap();
        let (_, conflict) = rig.next_conflict(&mut events);
        let (before, now) = ("the serial number CZ12".into(), "the serial number CZ13".into());
        assert_eq!(conflict.what, Shared::NewBoard { before, now });
        assert_eq!(rig.record("node1").status.state, state);
        rig.kill();
    }
}

/// Whoever nobody has accepted can report anything.
#[test]
fn what_a_stranger_reports_holds_no_other_machine() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir.path(), &config("", "rack7"));
    rig.put(spec("stranger", FIRST, None));
    rig.put(spec("node1", SECOND, None));
    rig.order("node1", Order::Accept).unwrap();
    rig.report("stranger", "CZ12", &[FIRST]).unwrap();
    let mut events = rig.events.read();
    rig.report("node1", "CZ12", &[SECOND]).unwrap();
    let (mac, conflict) = rig.next_conflict(&mut events);
    assert_eq!((mac.to_string().as_str(), conflict.meanwhile), (SECOND, Meanwhile::Nothing));
    assert_eq!(rig.record("node1").status.state, State::Accepted);
    rig.kill();
}
