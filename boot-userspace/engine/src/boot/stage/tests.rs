use std::net::SocketAddr;
use std::sync::Arc;

use boot_common::Mac;

use super::*;
use crate::boot::plan::{Plan, Planner};
use crate::config::{Machine, parse};
use crate::machines::{Life, Machines};

const CONFIG: &str = r#"
    [[interface]]
    name = "eth1"
    dhcp = "proxy"
    [[profile]]
    name = "talos"
    kernel = "talos/vmlinuz"
    [[profile]]
    name = "agent"
    kernel = "agent/vmlinuz"
    args = "wipe"
    [[profile]]
    name = "ram"
    kernel = "ram/vmlinuz"
    [default]
    profile = "talos"
    unknown = "discover"
    [lifecycle]
    agent = "agent"
    live = ["ram"]
"#;

const CARD: Mac = Mac([2, 0, 0, 0, 0, 1]);

/// In one line, what a machine of the registry boots.
fn boots(config: &str, state: Option<State>, profile: Option<&str>) -> String {
    boots_with(config, state, profile, None)
}

fn boots_with(
    config: &str,
    state: Option<State>,
    profile: Option<&str>,
    image: Option<(crate::config::DiskImage, bool)>,
) -> String {
    boots_as(config, state, profile, image, true)
}

fn boots_as(
    config: &str,
    state: Option<State>,
    profile: Option<&str>,
    image: Option<(crate::config::DiskImage, bool)>,
    is_served: bool,
) -> String {
    let machines = Machines::default();
    if let Some(state) = state {
        let machine = Machine {
            macs: vec![CARD],
            name: Some("node1".to_owned()),
            profile: profile.map(str::to_owned),
            args: "own=1".to_owned(),
            image: image.as_ref().map(|(image, _)| Box::new(image.clone())),
            ..Machine::default()
        };
        let life = Life {
            record: 1,
            state,
            says: "a reason".into(),
            is_written: image.is_some_and(|(_, is_written)| is_written),
            since: 0,
            is_overdue: false,
            run: 0,
            is_unserved: false,
            heard: 0,
            is_chosen: false,
        };
        let life = if is_served { life } else { life.unserved("a cause") };
        machines.put_alive(None, Arc::new(machine), life).unwrap();
    }
    let client_ip = "10.1.1.40".parse().unwrap();
    let asked = Asked {
        uuid: None,
        mac: Some(CARD),
        asker: machines.asker(client_ip, Some(CARD), None),
        domain: None,
        chosen: None,
        hostname: None,
        serial: None,
        arch: None,
        platform: None,
        client_ip,
        told: None,
        server: SocketAddr::from(([10, 1, 0, 2], 8080)).into(),
    };
    match Planner::new(parse(config, "test").unwrap()).unwrap().plan(&asked) {
        Ok(Plan::Boot(plan)) => format!("{} {}", plan.kernel, plan.args),
        Ok(Plan::Wait(why)) => format!("waits: {why}"),
        Err(why) => format!("not from here: {why}"),
    }
}

#[test]
fn the_state_decides_what_a_machine_boots() {
    for (state, expected) in [
        (None, "waits: 02:00:00:00:00:01 is not in the configuration yet: waiting"),
        (Some(State::Discovered), "waits: node1 is discovered: a reason"),
        (Some(State::Accepted), "agent/vmlinuz wipe"),
        (Some(State::Ready), "waits: node1 is ready: a reason"),
        (Some(State::Allocated), "talos/vmlinuz own=1"),
        (Some(State::Installing), "talos/vmlinuz own=1"),
        (Some(State::Running), "not from here: node1 runs: it boots from its disk"),
        (Some(State::Released), "agent/vmlinuz wipe"),
        (Some(State::Maintenance), "waits: node1 is maintenance: a reason"),
        (Some(State::Ignored), "not from here: node1 is ignored"),
        (Some(State::Failed), "waits: node1 is failed: a reason"),
    ] {
        assert_eq!(boots(CONFIG, state, None), expected, "{state:?}");
    }
}

/// Its own profile may be gone, and another one is not for it.
#[test]
fn a_machine_whose_record_is_not_served_waits_or_boots_its_disk() {
    for state in State::ALL {
        let expected = match state {
            State::Running => "not from here: node1 runs: it boots from its disk".to_owned(),
            State::Ignored => "not from here: node1 is ignored".to_owned(),
            state => format!("waits: node1 is {state}: not served: a cause"),
        };
        for profile in [None, Some("ram")] {
            assert_eq!(boots_as(CONFIG, Some(state), profile, None, false), expected, "{state}");
        }
    }
}

/// The agent writes a machine's image, and the machine does not come back to it: that would write it again for ever.
#[test]
fn a_machine_with_an_image_boots_the_agent_until_the_image_is_on_its_disk() {
    for (state, is_written, expected) in [
        (State::Allocated, false, "agent/vmlinuz wipe"),
        (State::Installing, false, "agent/vmlinuz wipe"),
        (State::Installing, true, "not from here: the image of node1 is on its disk: it boots from there"),
        (State::Running, true, "not from here: node1 runs: it boots from its disk"),
        (State::Released, true, "agent/vmlinuz wipe"),
    ] {
        let image =
            crate::config::DiskImage { url: "disk.img".to_owned(), ..crate::config::DiskImage::default() };
        assert_eq!(boots_with(CONFIG, Some(state), None, Some((image, is_written))), expected, "{state}");
    }
    let without = CONFIG.replace("agent = \"agent\"", "");
    let image = crate::config::DiskImage::default();
    let says = boots_with(&without, Some(State::Allocated), None, Some((image, false)));
    assert!(says.starts_with("waits: node1 has an image, and there is no agent"), "{says}");
}

#[test]
fn the_configuration_says_who_is_told_apart() {
    let discovers = CONFIG.replace("[lifecycle]", "[lifecycle]\n    discovery = \"ram\"");
    assert_eq!(boots(&discovers, None, None), "ram/vmlinuz ");
    assert_eq!(boots(&discovers, Some(State::Discovered), None), "ram/vmlinuz ");
    assert_eq!(boots(CONFIG, Some(State::Running), Some("ram")), "ram/vmlinuz own=1");
    let unwiped = CONFIG.replace("[lifecycle]", "[lifecycle]\n    wipe = false");
    assert_eq!(boots(&unwiped, Some(State::Released), None), "waits: node1 is released: a reason");
}

#[test]
fn what_a_machine_says_is_no_command_on_its_console() {
    assert_eq!(
        plain("the agent reports: x && chain http://h/ || ${net0/mac}\n`reboot`; it's {{ 1 }}"),
        "the agent reports: x __ chain http://h/ __ __net0/mac___reboot_, it's __ 1 __"
    );
    assert_eq!(plain(&"x".repeat(1000)).len(), LONGEST);
}
