//! Power as the registry wants it, with a program in the BMC's place.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use boot_engine::config::RegisteredBmc;
use boot_engine::lifecycle::{Act, Done};

use super::*;
use crate::daemon::request::{Boot, PowerAsk, Powered, Reading};
use crate::host::secret::Secret;

const MAC: &str = "02:00:00:00:00:09";
const SOON: Duration = Duration::from_secs(30);

/// A program that keeps a machine's power in a file, and what it was told in another one.
struct Plug(PathBuf);

impl Plug {
    fn new(dir: &Path) -> Self {
        let program = dir.join("plug");
        let script = format!(
            "#!/bin/sh\ncd {}\n[ -e refuse ] && {{ echo no fuse; exit 1; }}\n[ $XPXE_ACTION = status ] && exec cat power\n\
             echo $XPXE_ACTION ${{XPXE_BOOT:-none}} $XPXE_NAME $XPXE_MAC >> told\n[ -e dead ] && exit\n\
             case $XPXE_ACTION in on | cycle) echo on > power ;; off) echo off > power ;; esac\n",
            dir.display()
        );
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(dir.join("power"), "on\n").unwrap();
        Self(dir.to_owned())
    }

    fn config(&self) -> String {
        let program = self.0.join("plug").display().to_string();
        format!(
            "{CONFIG}[bmc]\ndriver = \"command\"\ncommand = [{program:?}]\npause = \"1s\"\npoll = \"1s\"\n"
        )
    }

    fn told(&self) -> Vec<String> {
        let told = fs::read_to_string(self.0.join("told")).unwrap_or_default();
        told.lines().map(str::to_owned).collect()
    }

    fn put(&self, file: &str, text: &str) {
        fs::write(self.0.join(file), text).unwrap();
    }
}

fn with_bmc(rig: &Rig, name: &str, bmc: RegisteredBmc) {
    let spec =
        Spec { name: Some(name.to_owned()), mac: vec![MAC.to_owned()], bmc: Some(bmc), ..Spec::default() };
    rig.ask(|reply| RegistryAsk::Create(spec, reply)).unwrap();
}

fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < SOON, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn power(rig: &Rig, act: Option<Act>, boot: Option<Boot>) -> Result<Powered, RegistryError> {
    rig.ask(|reply| RegistryAsk::Power("node1".to_owned(), PowerAsk { act, boot }, reply))
}

#[test]
fn the_states_of_a_machine_switch_it_and_a_kill_in_between_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let plug = Plug::new(dir.path());
    let rig = Rig::start(dir.path(), &plug.config());
    with_bmc(&rig, "node1", RegisteredBmc::default());
    rig.order("node1", Order::Accept).unwrap();
    eventually("it is switched off and on to boot the agent", || {
        plug.told() == [format!("cycle pxe node1 {MAC}")]
    });
    rig.observe("node1", Observed::Agent(Ok(String::new())));
    eventually("it is free, and off", || plug.told().len() == 2);
    assert!(plug.told()[1].starts_with("off none"), "{:?}", plug.told());
    rig.eventually("the BMC says so", |rig| {
        (rig.record("node1").status.power.is_on() == Some(false)).then_some(())
    });
    // The command is lost: xpxe is killed while its BMC does nothing.
    plug.put("dead", "");
    rig.order("node1", Order::Allocate).unwrap();
    eventually("it is told", || plug.told().len() == 3);
    assert!(plug.told()[2].starts_with("on pxe"), "{:?}", plug.told());
    rig.kill();
    fs::remove_file(dir.path().join("dead")).unwrap();
    let rig = Rig::start(dir.path(), &plug.config());
    eventually("it is told again", || fs::read_to_string(dir.path().join("power")).unwrap() == "on\n");
    rig.observe("node1", Observed::Home(Ok(String::new())));
    assert_eq!(rig.record("node1").status.state, State::Running);
    let before = plug.told().len();
    rig.order("node1", Order::Release).unwrap();
    eventually("it is switched off and on to be wiped", || plug.told().len() > before);
    assert!(plug.told()[before].starts_with("cycle pxe"), "{:?}", plug.told());
}

#[test]
fn what_a_bmc_refuses_is_tried_three_times_and_fails_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let plug = Plug::new(dir.path());
    plug.put("dead", "");
    plug.put("power", "off\n");
    let text = plug.config().replace("[lifecycle]", "[lifecycle]\nwipe = false");
    let rig = Rig::start(dir.path(), &text);
    with_bmc(&rig, "node1", RegisteredBmc::default());
    rig.order("node1", Order::Allocate).unwrap();
    rig.eventually("it has failed", |rig| (rig.record("node1").status.state == State::Failed).then_some(()));
    let told: Vec<String> =
        plug.told().iter().map(|line| line.split(' ').next().unwrap().to_owned()).collect();
    assert_eq!(told, ["on", "on", "reset-bmc", "cycle"]);
    let reason = rig.record("node1").status.reason.clone();
    assert_eq!(reason, "it cannot be switched on: the BMC says off after 3 tries");
}

#[test]
fn operators_switch_machines_too_also_those_of_the_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let plug = Plug::new(dir.path());
    let text =
        plug.config().replace("name = \"from-file\"", "name = \"from-file\"\nbmc = { driver = \"command\" }");
    let rig = Rig::start(dir.path(), &text);
    with_bmc(&rig, "node1", RegisteredBmc::default());
    let read = power(&rig, None, None).unwrap();
    assert_eq!((read.name.as_str(), read.reading), ("node1", Some(Reading::On)));
    power(&rig, Some(Act::Cycle), Some(Boot::Disk)).unwrap();
    assert_eq!(plug.told(), [format!("cycle disk node1 {MAC}")]);
    let done = |rig: &Rig| {
        let last = rig.record("node1").status.power.last.clone();
        last.filter(|Done { act, by, end, .. }| {
            (*act, by.as_str(), end) == (Act::Cycle, "operator", &Some(Ok(())))
        })
    };
    rig.eventually("it is taken down", done);
    plug.put("refuse", "");
    let refused = power(&rig, Some(Act::Off), None).unwrap_err().to_string();
    assert!(refused.ends_with("plug has ended with exit status: 1: no fuse"), "{refused}");
    fs::remove_file(dir.path().join("refuse")).unwrap();
    let ask = PowerAsk { act: Some(Act::Off), boot: None };
    rig.ask(|reply| RegistryAsk::Power("from-file".to_owned(), ask, reply)).unwrap();
    assert_eq!(plug.told()[1], "off none from-file 52:54:00:00:00:01");
    rig.create("node2", "02:00:00:00:00:0a").unwrap();
    let none = rig.ask(|reply| RegistryAsk::Power("node2".to_owned(), ask, reply)).unwrap_err();
    assert!(none.to_string().starts_with("node2 has no BMC"), "{none}");
}

#[test]
fn a_password_is_in_no_file_and_in_no_view_and_goes_with_its_bmc() {
    const PASSWORD: &str = "correct-horse-battery";
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir.path(), CONFIG);
    let bmc = RegisteredBmc {
        address: Some("127.0.0.1:1".to_owned()),
        user: Some("admin".to_owned()),
        ..RegisteredBmc::default()
    };
    with_bmc(&rig, "node1", bmc);
    let without = power(&rig, None, None).unwrap_err().to_string();
    assert!(without.starts_with("there is no password"), "{without}");
    let password = Some(Secret::new(PASSWORD.to_owned()));
    let view = rig.ask(|reply| RegistryAsk::Password("node1".to_owned(), None, password, reply)).unwrap();
    let shown = serde_json::to_string(&crate::http::machines::Machine::from(&view)).unwrap();
    assert!(shown.contains("\"has_bmc_password\":true") && !shown.contains("c20p1305"), "{shown}");
    let refused = power(&rig, None, None).unwrap_err().to_string();
    assert!(refused.contains("127.0.0.1:1 does not answer"), "{refused}");
    for text in [shown, refused, format!("{view:?}")] {
        assert!(!text.contains(PASSWORD), "{text}");
    }
    let mut seen = 0;
    for entry in fs::read_dir(dir.path()).unwrap() {
        let bytes = fs::read(entry.unwrap().path()).unwrap_or_default();
        assert!(!bytes.windows(PASSWORD.len()).any(|some| some == PASSWORD.as_bytes()));
        seen += usize::from(bytes.windows(8).any(|some| some == b"c20p1305"));
    }
    assert!(seen > 0, "it is nowhere in the store, so it was not looked for where it is");
    let spec = Spec { bmc: None, ..rig.record("node1").spec.clone() };
    rig.ask(|reply| RegistryAsk::Put("node1".to_owned(), None, spec, reply)).unwrap();
    assert_eq!(rig.record("node1").bmc_password, None);
}

#[test]
fn no_new_key_is_made_beside_passwords_of_one_that_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir.path(), CONFIG);
    let key = dir.path().join("bmc.key");
    let put = |which: &str, password: Option<&str>| {
        let password = password.map(|text| Secret::new(text.to_owned()));
        rig.ask(|reply| RegistryAsk::Password(which.to_owned(), None, password, reply)).map(drop)
    };
    for (name, mac) in [("node1", MAC), ("node2", "02:00:00:00:00:0a")] {
        let bmc = RegisteredBmc { address: Some("127.0.0.1:1".to_owned()), ..RegisteredBmc::default() };
        let spec = Spec {
            name: Some(name.to_owned()),
            mac: vec![mac.to_owned()],
            bmc: Some(bmc),
            ..Spec::default()
        };
        rig.ask(|reply| RegistryAsk::Create(spec, reply)).unwrap();
    }
    put("node1", Some("first")).unwrap();
    let kept = fs::read(&key).unwrap();
    fs::remove_file(&key).unwrap();
    let said = put("node2", Some("second")).unwrap_err().to_string();
    assert!(said.contains("is gone") && said.contains("give the key back"), "{said}");
    assert!(!key.exists());
    fs::write(&key, kept).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    put("node2", Some("second")).unwrap();
    // The only password is replaced anyway.
    put("node2", None).unwrap();
    fs::remove_file(&key).unwrap();
    put("node1", Some("third")).unwrap();
    assert!(key.exists());
}
