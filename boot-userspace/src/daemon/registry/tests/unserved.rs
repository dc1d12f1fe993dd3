//! Machines whose record does not fit the configuration, or has something of it.

use boot_engine::machines::Life;

use super::super::unserved::MOST_NAMED;
use super::*;

const FIRST: &str = "02:00:00:00:00:09";
const SECOND: &str = "02:00:00:00:00:10";

impl Rig {
    /// Gives the machines that are not served any more.
    fn reload(&self, text: &str) -> Vec<String> {
        let config = Arc::new(parse(text, "test").unwrap());
        self.machines.replace(&config.machines);
        self.scripts.replace(ScriptWriter::new(config).unwrap());
        self.runtime.block_on(self.registry.reloaded())
    }

    /// The life of a card that asks, when that was looked at.
    fn life(&self, mac: &str) -> Life {
        let mac = mac.parse().unwrap();
        self.registry.sighted(mac, None);
        let census = self.ask(RegistryAsk::Count).unwrap();
        assert_eq!(
            census.states.iter().map(|(_, count)| count).sum::<usize>(),
            1,
            "there is no other record"
        );
        self.machines.life_of(mac).unwrap()
    }

    fn shadowed(&self, which: &str) -> Option<String> {
        match self.ask(|reply| RegistryAsk::Show(which.to_owned(), reply)).unwrap() {
            View::Registered { shadowed, .. } => shadowed,
            View::Configured(machine) => panic!("{machine:?}"),
        }
    }

    /// Has db1 run.
    fn run(&self, spec: Spec) {
        self.ask(|reply| RegistryAsk::Create(spec, reply)).unwrap();
        self.observe("db1", Observed::Agent(Ok(String::new())));
        self.order("db1", Order::Allocate).unwrap();
        self.observe("db1", Observed::Home(Ok(String::new())));
        assert_eq!(self.record("db1").status.state, State::Running);
    }
}

fn spec() -> Spec {
    Spec {
        name: Some("db1".to_owned()),
        mac: vec![FIRST.to_owned(), SECOND.to_owned()],
        ip: Some("10.1.2.60".to_owned()),
        profile: Some("q".to_owned()),
        ..Spec::default()
    }
}

/// Everybody is accepted, and would be wiped. With another profile.
fn config() -> String {
    let profile = "[[profile]]\nname = \"q\"\nkernel = \"q/vmlinuz\"\n[[group]]";
    CONFIG.replace("[[group]]", profile).replace("accept = \"rack7\"", "accept = \"all\"")
}

#[test]
fn a_machine_whose_profile_is_gone_waits_after_a_reload_and_after_a_restart() {
    let without = CONFIG.replace("accept = \"rack7\"", "accept = \"all\"");
    for is_restarted in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let mut rig = Rig::start(dir.path(), &config());
        rig.run(spec());
        let id = rig.record("db1").id;
        if is_restarted {
            rig.kill();
            rig = Rig::start(dir.path(), &without);
        } else {
            rig.reload(&without);
        }
        for mac in [FIRST, SECOND] {
            let life = rig.life(mac);
            assert_eq!((life.record, life.state, life.is_unserved), (id, State::Running, true));
            assert!(life.says.contains("no profile \"q\""), "{}", life.says);
        }
        let machine = rig.machines.by_mac(FIRST.parse().unwrap()).unwrap().machine;
        assert_eq!((machine.profile.as_deref(), machine.ip), (None, Some([10, 1, 2, 60].into())));
        rig.order("db1", Order::Maintain("a fan".to_owned())).unwrap();
        rig.order("db1", Order::Resume).unwrap();
        let life = rig.life(FIRST);
        assert!(life.is_unserved, "an order has it served no more than before: {life:?}");
        assert!(rig.shadowed("db1").is_some_and(|why| why.contains("no profile")));
        rig.reload(&config());
        let machine = rig.machines.by_mac(FIRST.parse().unwrap()).unwrap().machine;
        assert_eq!((rig.life(FIRST).is_unserved, machine.profile.as_deref()), (false, Some("q")));
        assert_eq!(rig.shadowed("db1"), None);
        rig.kill();
    }
}

#[test]
fn what_the_configuration_does_not_have_of_a_machine_waits() {
    for (taken, left) in [
        ("mac = \"02:00:00:00:00:99\"\nname = \"db1\"\n", &[FIRST, SECOND][..]),
        ("mac = \"02:00:00:00:00:99\"\nip = \"10.1.2.60\"\n", &[FIRST, SECOND][..]),
        ("mac = \"02:00:00:00:00:09\"\nname = \"other\"\n", &[SECOND][..]),
    ] {
        let taken = config() + "[[machine]]\n" + taken;
        for is_restarted in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let mut rig = Rig::start(dir.path(), &config());
            rig.run(spec());
            if is_restarted {
                rig.kill();
                rig = Rig::start(dir.path(), &taken);
            } else {
                rig.reload(&taken);
            }
            for mac in left {
                let life = rig.life(mac);
                assert!(life.is_unserved && life.state == State::Running, "{taken}: {life:?}");
            }
            let census = rig.ask(RegistryAsk::Count).unwrap();
            assert_eq!((census.shadowed, census.nowhere.len()), (1, 0), "{taken}");
            rig.reload(&config());
            let lives = [FIRST, SECOND].map(|mac| rig.life(mac).is_unserved);
            assert_eq!(lives, [false; 2], "{taken}");
            rig.kill();
        }
    }
}

#[test]
fn a_reload_names_the_first_machines_that_it_has_no_room_for() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir.path(), &config());
    for number in 10..23 {
        let mac = vec![format!("02:00:00:00:01:{number}")];
        let spec =
            Spec { name: Some(format!("m{number}")), mac, profile: Some("q".to_owned()), ..Spec::default() };
        rig.ask(|reply| RegistryAsk::Create(spec, reply)).unwrap();
    }
    let without = CONFIG.replace("accept = \"rack7\"", "accept = \"all\"");
    let said = rig.reload(&without);
    assert_eq!(said.len(), MOST_NAMED + 1, "{said:?}");
    assert!(said[0].starts_with("m10: ") && said[0].contains("no profile"), "{said:?}");
    assert!(said[MOST_NAMED].starts_with("and 3 more"), "{said:?}");
    assert_eq!(rig.reload(&without), [""; 0], "they were not before either");
    assert_eq!(rig.reload(&config()), [""; 0]);
    rig.kill();
}
