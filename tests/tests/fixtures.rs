//! The fixtures keep their own promises, without xpxe.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use boot_tests::netns::{Namespace, Process};
use boot_tests::rack::Rack;
use boot_tests::reference::dnsmasq_plain_dhcp;
use boot_tests::sandbox::{Sandbox, root_or_skip};
use boot_tests::wait::eventually;

const SOON: Duration = Duration::from_secs(30);

#[test]
fn two_tests_of_one_process_do_not_see_each_others_files() -> Result<()> {
    if !root_or_skip() {
        return Ok(());
    }
    let first = Sandbox::enter()?;
    fs::write(first.dir().join("mine"), "")?;
    let others = std::thread::spawn(|| -> Result<bool> {
        let second = Sandbox::enter()?;
        Ok(second.dir().join("mine").exists())
    });
    assert!(!others.join().expect("no panic")?);
    assert!(first.dir().join("mine").exists());
    Ok(())
}

#[test]
fn pins_and_files_are_visible_to_processes_in_a_namespace() -> Result<()> {
    if !root_or_skip() {
        return Ok(());
    }
    let sandbox = Sandbox::enter()?;
    let namespace = Namespace::new("one")?;
    let pins = sandbox.pin_dir().display().to_string();
    assert_eq!(namespace.output("stat", &["-f", "-c", "%T", &pins])?.trim(), "bpf_fs");
    Ok(())
}

#[test]
fn a_process_dies_with_its_namespace_whoever_holds_it() -> Result<()> {
    if !root_or_skip() {
        return Ok(());
    }
    let namespace = Namespace::new("one")?;
    let sleeper = sleep_forever(&namespace)?;
    assert!(sleeper.is_running());
    drop(namespace);
    eventually(SOON, "the end of the process", || !sleeper.is_running())
}

#[test]
fn a_process_outlives_the_thread_that_asked_for_it() -> Result<()> {
    if !root_or_skip() {
        return Ok(());
    }
    let namespace = Namespace::new("one")?;
    let sleeper = std::thread::scope(|scope| scope.spawn(|| sleep_forever(&namespace)).join());
    let sleeper = sleeper.expect("no panic")?;
    namespace.output("true", &[])?;
    assert!(sleeper.is_running());
    Ok(())
}

#[test]
fn a_real_client_gets_an_address_from_the_server() -> Result<()> {
    if !root_or_skip() {
        return Ok(());
    }
    let sandbox = Sandbox::enter()?;
    let rack = Rack::build(&sandbox)?;
    let _dhcp = dnsmasq_plain_dhcp(&rack.server, rack.dir(), "10.77.0.100,10.77.0.199")?;
    let client = rack.client("client", "02:77:00:00:00:10")?;
    assert!(ask(&client, rack.dir().join("lease"))?.starts_with("10.77.0.1"));
    Ok(())
}

#[test]
fn a_client_behind_a_relay_gets_an_address_from_the_server() -> Result<()> {
    if !root_or_skip() {
        return Ok(());
    }
    let sandbox = Sandbox::enter()?;
    let rack = Rack::build(&sandbox)?;
    let far = rack.segment_behind_router(&sandbox)?;
    let _dhcp = dnsmasq_plain_dhcp(&rack.server, rack.dir(), "10.78.0.100,10.78.0.199,255.255.255.0")?;
    let _relay = far.start_relay()?;
    let client = far.client("client", "02:78:00:00:00:10")?;
    assert!(ask(&client, rack.dir().join("lease"))?.starts_with("10.78.0.1"));
    Ok(())
}

fn sleep_forever(namespace: &Namespace) -> Result<Process> {
    let mut sleep = namespace.command("sleep");
    sleep.arg("infinity");
    namespace.spawn(sleep)
}

/// The address udhcpc gets; `script` is a path it may use.
fn ask(client: &Namespace, script: PathBuf) -> Result<String> {
    fs::write(&script, "#!/bin/sh\n[ \"$1\" = bound ] && echo \"$ip\"\nexit 0\n")?;
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let script = script.display().to_string();
    let options = ["-i", "eth0", "-f", "-n", "-q", "-t", "12", "-s", &script];
    let text = client.output("busybox", &[&["udhcpc"], &options[..]].concat())?;
    Ok(text.lines().last().unwrap_or_default().to_owned())
}
