//! The registry with its store and an engine, without sockets: what is asked, what is stored, what is served.

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;
use std::time::{Duration, Instant};

use boot_agent_protocol::{Disk, Inventory};
use boot_common::Mac;
use boot_engine::Engine;
use boot_engine::config::{DhcpRole, parse};
use boot_engine::events::{Sink as _, Step};
use boot_engine::lifecycle::{Observed, Order};
use boot_engine::policy::{Policy, ServedLink};
use boot_engine::registry::Spec;
use tokio::runtime::Runtime;

mod bulk;
mod conflicts;
mod expected;
mod followers;
mod power;
mod strangers;
mod unreadable;
mod unserved;

use super::*;
use crate::daemon::event_loop::Daemon;
use crate::daemon::log;
use crate::daemon::request::RegistryHandle;
use crate::host::clock::now;

const CONFIG: &str = r#"
    [[interface]]
    name = "eth1"
    [[subnet]]
    cidr = "10.1.0.0/16"
    pool = ["10.1.1.33-10.1.1.233"]
    [[profile]]
    name = "linux"
    kernel = "linux/vmlinuz"
    [[profile]]
    name = "agent"
    kernel = "agent/vmlinuz"
    [[group]]
    name = "rack7"
    match = { mac = "02:00:07" }
    [default]
    profile = "linux"
    unknown = "discover"
    [lifecycle]
    agent = "agent"
    accept = "rack7"
    [[machine]]
    mac = "52:54:00:00:00:01"
    name = "from-file"
    labels = { role = "gateway" }
"#;

/// A daemon without sockets.
struct Rig {
    runtime: Runtime,
    registry: RegistryHandle,
    machines: Machines,
    scripts: Live<ScriptWriter>,
    events: EventStream,
}

impl Rig {
    fn start(dir: &Path, text: &str) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let config = Arc::new(parse(text, "test").unwrap());
        let (registry, machines, scripts, events) = runtime.block_on(async {
            let store = Self::store(dir).await;
            let machines = Machines::new(config.machines.iter().cloned()).unwrap();
            let records = load(&store, &machines, &config).await.unwrap();
            let link = ServedLink {
                ifindex: 7,
                name: "eth1".into(),
                mac: Mac([2, 0, 0, 0, 0, 1]),
                addresses: vec!["10.1.0.2/16".parse().unwrap()],
                role: DhcpRole::Server,
                http: SocketAddrV4::new(Ipv4Addr::new(10, 1, 0, 2), 8080),
            };
            let policy =
                Policy::new(Arc::clone(&config), machines.clone(), vec![link], |_| Ok("x.efi".to_owned()));
            let engine = Engine::new(policy, &[], now());
            let events = log::events();
            let daemon = Daemon::new(engine, store.clone(), HashSet::new(), None, events.clone());
            let switch = Switch::new(&config.bmc, dir);
            let scripts = Live::new(ScriptWriter::new(config).unwrap());
            let (known, live) = (machines.clone(), scripts.clone());
            let keeper = Keeper::new(records, store, known, live, events.clone(), daemon.asks(), switch);
            let (registry, asks) = RegistryHandle::new();
            tokio::spawn(daemon.run(Vec::new(), None));
            tokio::spawn(keeper.run(asks));
            (registry, machines, scripts, events)
        });
        Self { runtime, registry, machines, scripts, events }
    }

    /// The store, when the process that had it has ended.
    async fn store(dir: &Path) -> Store {
        let began = Instant::now();
        loop {
            match crate::store::lock(dir) {
                Ok(lock) => return Store::open_alone(dir, lock).await.unwrap(),
                Err(error) => assert!(began.elapsed() < Duration::from_secs(20), "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Ends without a word, as a kill does: nothing is closed or settled.
    fn kill(self) {
        self.runtime.shutdown_background();
    }

    fn ask<T>(
        &self,
        ask: impl FnOnce(super::super::request::Reply<T>) -> RegistryAsk,
    ) -> Result<T, RegistryError> {
        self.runtime.block_on(self.registry.ask(ask))
    }

    fn create(&self, name: &str, mac: &str) -> Result<View, RegistryError> {
        let spec = Spec { name: Some(name.to_owned()), mac: vec![mac.to_owned()], ..Spec::default() };
        self.ask(|reply| RegistryAsk::Create(spec, reply))
    }

    fn order(&self, which: &str, order: Order) -> Result<View, RegistryError> {
        self.ask(|reply| RegistryAsk::Order(which.to_owned(), None, order, reply))
    }

    fn observe(&self, which: &str, observed: Observed) {
        let id = self.record(which).id;
        self.ask(|reply| RegistryAsk::Observed(id, observed, reply)).unwrap();
    }

    fn record(&self, which: &str) -> Arc<Record> {
        match self.ask(|reply| RegistryAsk::Show(which.to_owned(), reply)).unwrap() {
            View::Registered { record, .. } => record,
            View::Configured(machine) => panic!("{machine:?}"),
        }
    }

    fn eventually<T>(&self, what: &str, mut look: impl FnMut(&Self) -> Option<T>) -> T {
        let began = Instant::now();
        loop {
            if let Some(found) = look(self) {
                return found;
            }
            assert!(began.elapsed() < Duration::from_secs(20), "{what}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

type Act = Box<dyn Fn(&Rig)>;

/// The steps of a whole circle, each with the state that it leads to.
fn circle() -> Vec<(&'static str, Act, State)> {
    let order = |order: Order| move |rig: &Rig| drop(rig.order("node1", order.clone()).unwrap());
    let observe = |observed: Observed| move |rig: &Rig| rig.observe("node1", observed.clone());
    let well = || Ok("well".to_owned());
    vec![
        (
            "added",
            Box::new(|rig: &Rig| drop(rig.create("node1", "02:00:00:00:00:09").unwrap())),
            State::Discovered,
        ),
        ("accept", Box::new(order(Order::Accept)), State::Accepted),
        ("wiped", Box::new(observe(Observed::Agent(well()))), State::Ready),
        ("allocate", Box::new(order(Order::Allocate)), State::Allocated),
        ("kernel", Box::new(observe(Observed::Kernel)), State::Installing),
        ("home", Box::new(observe(Observed::Home(well()))), State::Running),
        ("maintain", Box::new(order(Order::Maintain("a fan".to_owned()))), State::Maintenance),
        ("resume", Box::new(order(Order::Resume)), State::Running),
        ("reinstall", Box::new(order(Order::Reinstall)), State::Allocated),
        ("broken", Box::new(observe(Observed::Home(Err("no disk".to_owned())))), State::Failed),
        ("again", Box::new(order(Order::Reinstall)), State::Allocated),
        ("home again", Box::new(observe(Observed::Home(well()))), State::Running),
        ("release", Box::new(order(Order::Release)), State::Released),
        ("wiped again", Box::new(observe(Observed::Agent(well()))), State::Ready),
        ("ignore", Box::new(order(Order::Ignore)), State::Ignored),
    ]
}

#[test]
fn a_kill_between_any_two_steps_loses_none_and_repeats_none() {
    let dir = tempfile::tempdir().unwrap();
    let mut history = 0;
    for (name, step, state) in circle() {
        let rig = Rig::start(dir.path(), CONFIG);
        step(&rig);
        rig.kill();
        let rig = Rig::start(dir.path(), CONFIG);
        let record = rig.record("node1");
        assert_eq!(record.status.state, state, "after {name}");
        assert!(record.status.history.len() >= history, "after {name}");
        history = record.status.history.len();
        let life = rig.machines.life_of("02:00:00:00:00:09".parse().unwrap()).unwrap();
        assert_eq!(life.state, state, "who answers it knows, after {name}");
        rig.kill();
    }
    assert_eq!(history, 14);
}

#[test]
fn a_writer_who_has_read_an_old_version_gets_both_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir.path(), CONFIG);
    rig.create("node1", "02:00:00:00:00:09").unwrap();
    let read = rig.record("node1");
    let put = |version, profile: &str| {
        let spec = Spec { profile: Some(profile.to_owned()), ..read.spec.clone() };
        rig.ask(|reply| RegistryAsk::Put("NODE1".to_owned(), Some(version), spec, reply))
    };
    put(1, "agent").unwrap();
    rig.observe("node1", Observed::Time);
    let Err(RegistryError::Outdated(current)) = put(1, "linux") else { panic!("an old version was taken") };
    assert_eq!((current.version, current.spec.profile.as_deref()), (2, Some("agent")));
    assert_eq!(rig.record("node1").spec.profile.as_deref(), Some("agent"));
    assert!(matches!(put(2, "none"), Err(RegistryError::Invalid(_))));
    put(2, "linux").unwrap();
    put(3, "linux").unwrap();
    assert_eq!(rig.record("02:00:00:00:00:09").version, 3, "nothing has changed the last time");
    assert!(rig.record("node1").revision > read.revision);
}

#[test]
fn a_number_with_id_before_it_is_never_a_name() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir.path(), CONFIG);
    rig.create("node1", "02:00:00:00:00:09").unwrap();
    let id = rig.record("node1").id;
    let number = id.to_string();
    rig.create(&number, "02:00:00:00:00:10").unwrap();
    assert_eq!(rig.record(&number).spec.name.as_deref(), Some(number.as_str()), "it is a name, too");
    assert_eq!(rig.record(&format!("id:{number}")).spec.name.as_deref(), Some("node1"));
    for which in ["id:", "id:node1", "id:999999999"] {
        let found = rig.order(which, Order::Accept);
        assert!(matches!(found, Err(RegistryError::Unknown(_))), "{which}");
    }
}

#[test]
fn machines_of_the_configuration_are_shown_and_not_changed() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir.path(), CONFIG);
    for which in ["from-file", "52:54:00:00:00:01"] {
        assert!(matches!(rig.order(which, Order::Accept), Err(RegistryError::Configured(_))), "{which}");
        let shown = rig.ask(|reply| RegistryAsk::Show(which.to_owned(), reply)).unwrap();
        assert!(matches!(shown, View::Configured(machine) if machine.name.as_deref() == Some("from-file")));
    }
    for (name, mac) in [("new", "52:54:00:00:00:01"), ("From-File", "02:00:00:00:00:09")] {
        assert!(matches!(rig.create(name, mac), Err(RegistryError::Conflict(_))), "{name}");
    }
    for number in 1..=5 {
        rig.create(&format!("n{number}"), &format!("02:00:00:00:00:1{number}")).unwrap();
    }
    assert!(matches!(rig.create("other", "02:00:00:00:00:11"), Err(RegistryError::Conflict(_))));
    let list = |query: Query| rig.ask(|reply| RegistryAsk::List(query, reply)).unwrap();
    let (mut found, mut after) = (Vec::new(), 0);
    loop {
        let page = list(Query { after, limit: 2, ..Query::default() });
        found.extend(page.machines.iter().map(|view| match view {
            View::Configured(machine) => machine.name.clone().unwrap(),
            View::Registered { record, .. } => record.called(),
        }));
        let Some(next) = page.next else { break };
        after = next;
    }
    assert_eq!(found, ["from-file", "n1", "n2", "n3", "n4", "n5"]);
    let gateways = Query { labels: Query::read_labels("role=gateway").unwrap(), ..Query::default() };
    assert_eq!(list(gateways).machines.len(), 1);
    rig.order("n3", Order::Ignore).unwrap();
    assert_eq!(list(Query { states: vec![State::Ignored], ..Query::default() }).machines.len(), 1);
    rig.ask(|reply| RegistryAsk::Delete("n3".to_owned(), Some(2), reply)).unwrap();
    assert!(matches!(rig.order("n3", Order::Accept), Err(RegistryError::Unknown(_))));
    assert!(!rig.machines.is_ignored("02:00:00:00:00:13".parse().unwrap()));
}

/// What machines do, as the rest of the daemon tells it.
#[test]
fn a_machine_that_asks_is_taken_down_and_its_kernel_moves_it() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir.path(), CONFIG);
    let [stranger, racked]: [Mac; 2] =
        ["02:00:00:00:00:21", "02:00:07:00:00:22"].map(|mac| mac.parse().unwrap());
    let uuid = [0x4c; 16];
    for _ in 0..2 {
        rig.registry.sighted(stranger, Some(uuid));
        rig.registry.sighted(racked, None);
    }
    let find = |mac: Mac| move |rig: &Rig| rig.machines.life_of(mac);
    assert_eq!(rig.eventually("it is there", find(stranger)).state, State::Discovered);
    assert_eq!(rig.eventually("it is there", find(racked)).state, State::Accepted, "by the rule");
    let record = rig.record(&racked.to_string());
    assert_eq!(record.status.history[0].by, "rule accept = [\"rack7\"]");
    assert_eq!(rig.record("4c4c4c4c-4c4c-4c4c-4c4c-4c4c4c4c4c4c").id, rig.record(&stranger.to_string()).id);
    rig.observe(&racked.to_string(), Observed::Agent(Ok(String::new())));
    rig.order(&racked.to_string(), Order::Allocate).unwrap();
    let asked = |file: &str| {
        let step = Step::Http(
            [10, 1, 1, 40].into(),
            boot_engine::events::Http::Asked { file: file.into(), is_head: false, is_part: false },
        );
        rig.events.emit(
            boot_engine::events::BootEvent::new(Duration::ZERO, step)
                .of(boot_engine::events::Machine::from(racked)),
        );
    };
    asked("linux/initrd");
    asked("linux/vmlinuz");
    rig.eventually("it has fetched its kernel", |rig| {
        (rig.record(&racked.to_string()).status.state == State::Installing).then_some(())
    });
    let census = rig.ask(RegistryAsk::Count).unwrap();
    assert_eq!(census.states.iter().map(|(_, count)| count).sum::<usize>(), 2);
}

#[test]
fn who_is_in_the_configuration_now_is_the_configurations_and_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir.path(), CONFIG);
    rig.create("node1", "02:00:00:00:00:09").unwrap();
    rig.kill();
    let moved = format!("{CONFIG}[[machine]]\nmac = \"02:00:00:00:00:09\"\nname = \"moved\"\n");
    let rig = Rig::start(dir.path(), &moved);
    let shown = rig.ask(|reply| RegistryAsk::Show("node1".to_owned(), reply)).unwrap();
    assert!(
        matches!(&shown, View::Registered { shadowed: Some(why), .. } if why.contains("moved")),
        "{shown:?}"
    );
    assert_eq!(rig.ask(RegistryAsk::Count).unwrap().shadowed, 1);
    rig.kill();
    let rig = Rig::start(dir.path(), CONFIG);
    assert_eq!(rig.machines.life_of("02:00:00:00:00:09".parse().unwrap()).unwrap().state, State::Discovered);
}

/// After a release a machine is inventoried again: a module that somebody took out is told before it is given to the next one.
#[test]
fn an_inventory_is_kept_and_what_differs_from_the_one_before_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir.path(), CONFIG);
    rig.create("node1", "02:00:00:00:00:09").unwrap();
    let id = rig.record("node1").id;
    let mut events = rig.events.read();
    let take = |rig: &Rig, serials: &[&str]| {
        let disk = |serial: &&str| Disk { serial: (*serial).to_owned(), size: 1 << 40, ..Disk::default() };
        let inventory = Inventory { disks: serials.iter().map(disk).collect(), ..Inventory::default() };
        rig.ask(|reply| RegistryAsk::Inventory(id, Box::new(inventory), reply)).unwrap();
    };
    take(&rig, &["S1", "S2"]);
    take(&rig, &["S1", "S2"]);
    take(&rig, &["S1"]);
    let told = rig.runtime.block_on(async {
        let next = async {
            loop {
                if let Some(event) = events.next().await
                    && let Step::InventoryChanged(differences) = &event.step
                {
                    return differences.to_vec();
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(20), next).await.unwrap()
    });
    assert_eq!(told, ["disk S2 (1.0 TiB) is gone"], "the first difference");
    rig.registry.progress(id, Progress { text: "wiping".to_owned(), done: 1, of: 2 });
    let progress = |rig: &Rig| match rig.ask(|reply| RegistryAsk::Show("node1".to_owned(), reply)).unwrap() {
        View::Registered { progress, .. } => progress,
        View::Configured(machine) => panic!("{machine:?}"),
    };
    assert_eq!(rig.eventually("how far it is", progress).percent(), Some(50));
    rig.order("node1", Order::Accept).unwrap();
    assert_eq!(progress(&rig), None, "that was of another state");
    rig.kill();
    let rig = Rig::start(dir.path(), CONFIG);
    let record = rig.record("node1");
    let serials: Vec<&str> = record
        .inventory
        .iter()
        .flat_map(|inventory| &inventory.disks)
        .map(|disk| disk.serial.as_str())
        .collect();
    assert_eq!(serials, ["S1"], "after a kill");
    rig.kill();
}

/// What a rule goes by may be heard, or written, after the machine was taken down.
#[test]
fn a_rule_accepts_a_machine_as_soon_as_it_fits() {
    let dir = tempfile::tempdir().unwrap();
    let groups = "[[group]]\nname = \"workers\"\nmatch = { labels = { role = \"worker\" } }\nargs = \"x\"\n\
                  [[group]]\nname = \"net\"\nmatch = { subnet = \"10.1.0.0/16\" }\nargs = \"x\"\n[default]";
    let config = CONFIG
        .replace("accept = \"rack7\"", "accept = [\"rack7\", \"workers\", \"net\"]")
        .replace("[default]", groups);
    let rig = Rig::start(dir.path(), &config);
    rig.create("node1", "02:00:00:00:00:09").unwrap();
    let record = rig.record("node1");
    assert_eq!(record.status.state, State::Discovered);
    let labels = [("role".to_owned(), "worker".to_owned())].into();
    let spec = Spec { labels, ..record.spec.clone() };
    let view = rig.ask(|reply| RegistryAsk::Put("node1".to_owned(), Some(1), spec, reply)).unwrap();
    let View::Registered { record, .. } = view else { panic!("it is no file's") };
    assert_eq!(record.status.state, State::Accepted, "the answer has what came of it");
    assert_eq!(record.status.history[0].by, "rule accept = [\"workers\"]");

    let stranger: Mac = "02:00:00:00:00:21".parse().unwrap();
    rig.registry.sighted(stranger, None);
    let state = |rig: &Rig| rig.machines.life_of(stranger).map(|life| life.state);
    assert_eq!(rig.eventually("it is there", state), State::Discovered);
    rig.machines.put([10, 1, 1, 40].into(), stranger);
    rig.registry.sighted(stranger, None);
    rig.eventually("it is accepted", |rig| state(rig).filter(|state| *state == State::Accepted));
    assert_eq!(rig.record(&stranger.to_string()).status.history[0].by, "rule accept = [\"net\"]");
    rig.kill();
}

/// A rule that accepts a group by inventory cannot know the machine before its report.
#[test]
fn a_rule_by_inventory_accepts_a_machine_when_it_reports() {
    let dir = tempfile::tempdir().unwrap();
    let group = "[[group]]\nname = \"two-disks\"\nmatch = { disks = \">= 2\" }\nargs = \"x\"\n[default]";
    let config = CONFIG
        .replace("accept = \"rack7\"", "accept = [\"rack7\", \"two-disks\"]")
        .replace("[default]", group);
    let rig = Rig::start(dir.path(), &config);
    rig.create("node1", "02:00:00:00:00:09").unwrap();
    rig.create("node2", "02:00:00:00:00:10").unwrap();
    rig.order("node2", Order::Maintain("a fan".to_owned())).unwrap();
    let take = |which: &str, disks: usize| {
        let id = rig.record(which).id;
        let inventory = Inventory { disks: vec![Disk::default(); disks], ..Inventory::default() };
        rig.ask(|reply| RegistryAsk::Inventory(id, Box::new(inventory), reply)).unwrap();
        rig.record(which).status.clone()
    };
    assert_eq!(take("node1", 1).state, State::Discovered);
    let accepted = take("node1", 2);
    let by = &accepted.history[0].by;
    assert_eq!((accepted.state, by.as_str()), (State::Accepted, "rule accept = [\"two-disks\"]"));
    assert_eq!(take("node2", 2).state, State::Maintenance, "somebody has said otherwise");
    let machine = || rig.machines.by_mac("02:00:00:00:00:09".parse().unwrap()).unwrap().machine;
    assert_eq!(machine().inventory.as_ref().map(|inventory| inventory.disks.len()), Some(2));
    rig.kill();
    let rig = Rig::start(dir.path(), &config);
    let machine = rig.machines.by_mac("02:00:00:00:00:09".parse().unwrap()).unwrap().machine;
    assert_eq!(machine.inventory.as_ref().map(|inventory| inventory.disks.len()), Some(2), "after a kill");
    rig.kill();
}

/// `cargo test --release -p boot-userspace --lib registry::tests::many -- --ignored --nocapture`
#[test]
#[ignore = "a measurement"]
fn many_machines() {
    for many in [100u64, 100_000] {
        let dir = tempfile::tempdir().unwrap();
        let rig = Rig::start(dir.path(), CONFIG);
        rig.create("n0", "02:00:00:00:00:09").unwrap();
        let first = rig.record("n0");
        rig.kill();
        let each = |id: u64| {
            let [.., a, b, c, d] = id.to_be_bytes();
            let spec = Spec {
                name: Some(format!("n{id}")),
                mac: vec![Mac([6, 0, a, b, c, d]).to_string()],
                ..Spec::default()
            };
            Record { id, revision: id, spec, ..(*first).clone() }
        };
        let runtime = Runtime::new().unwrap();
        runtime.block_on(async {
            let store = Rig::store(dir.path()).await;
            store.change_machines(&(2..many).map(each).collect::<Vec<_>>(), &[]).await.unwrap();
        });
        drop(runtime);
        let start = Instant::now();
        let rig = Rig::start(dir.path(), CONFIG);
        println!("{many}: started in {:?}", start.elapsed());
        let start = Instant::now();
        for number in 2..22 {
            rig.order(&format!("n{number}"), Order::Ignore).unwrap();
        }
        println!("{many}: a change stored and served in {:?}", start.elapsed() / 20);
        for (what, query) in [
            ("first", Query { limit: 100, ..Query::default() }),
            ("last", Query { limit: 100, after: BEHIND_FILES + many - 50, ..Query::default() }),
            ("ignored", Query { limit: 100, states: vec![State::Ignored], ..Query::default() }),
        ] {
            let start = Instant::now();
            let page = rig.ask(|reply| RegistryAsk::List(query, reply)).unwrap();
            println!("{many}: the {what} page of {} in {:?}", page.machines.len(), start.elapsed());
        }
    }
}
