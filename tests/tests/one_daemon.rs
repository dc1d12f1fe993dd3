//! No two daemons share a `state_dir` or a `pin_dir`, and nobody takes a running one's programs by accident.

use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use boot_tests::daemon::{Event, Xpxe, binary};
use boot_tests::dhcp_client::{Client, mac};
use boot_tests::place::{ALICE, Place, SOON, known};
use boot_tests::rack::{SERVER_ADDRESS, SERVER_MAC};
use boot_tests::settings::{Settings, pin_dir};
use boot_tests::wait::eventually;
use nix::fcntl::{Flock, FlockArg};

/// The configuration of a second daemon on the same host, for an interface of its own.
fn second(place: &Place, fast_path: &str) -> Result<String> {
    let server = &place.rack.server;
    if server.output("ip", &["link", "show", "dev", "spare"]).is_err() {
        server.output("ip", &["link", "add", "spare", "type", "bridge"])?;
        server.output("ip", &["address", "add", "10.88.0.1/24", "dev", "spare"])?;
        server.output("ip", &["link", "set", "spare", "up"])?;
    }
    let from =
        format!("[[interface]]\nname = \"eth0\"\ndhcp = \"server\"\nfast_path = \"{}\"", known().fast_path);
    let to = format!("[[interface]]\nname = \"spare\"\ndhcp = \"server\"\nfast_path = \"{fast_path}\"");
    ensure!(place.config.contains(&from), "{}", place.config);
    Ok(place.config.replace(&from, &to).replace(":8080", ":8090"))
}

/// Starts it, and gives what it says when it ends with 1.
fn refused(place: &Place, config: &str) -> Result<String> {
    let file = place.rack.dir().join("second.toml");
    fs::write(&file, config)?;
    let mut command = place.rack.server.command(&binary()?.display().to_string());
    command.arg("serve").arg("--config").arg(file);
    let process = place.rack.server.spawn(command)?;
    let status = process.wait(SOON)?;
    eventually(SOON, "the end of its output", || process.output_ended().is_some())?;
    let lines: Vec<_> = process.lines().into_iter().map(|line| line.text).collect();
    ensure!(status.code() == Some(1), "{lines:#?}");
    Ok(lines.join("\n"))
}

/// The first one's tables and programs are where they were, and answer.
fn still_serves(place: &Place, xpxe: &Xpxe<'_>) -> Result<()> {
    for pin in ["SETTINGS", "link-xdp-eth0", "link-tc-eth0"] {
        ensure!(pin_dir(&place.sandbox).join(pin).exists(), "{pin} is gone");
    }
    let wire = place.client()?;
    wire.lease(&Client::new(mac(ALICE.mac)?)).with_context(|| xpxe.last_lines(20))?;
    xpxe.wait_for_event("an answer by the kernel half", SOON, |event| event.field("by") == "xdp").map(drop)
}

#[test]
fn a_second_daemon_with_the_same_pin_dir_is_refused_by_name() -> Result<()> {
    let Some(place) = Place::build(&known())? else { return Ok(()) };
    let xpxe = place.serve()?;
    for fast_path in ["auto", "off"] {
        let config = second(&place, fast_path)?.replace("/state\"", "/state2\"");
        let said = refused(&place, &config)?;
        let words =
            format!("another xpxe (pid {}) uses pin_dir {}", xpxe.pid(), pin_dir(&place.sandbox).display());
        ensure!(said.contains(&words) && said.contains("set another pin_dir"), "{fast_path}: {said}");
    }
    still_serves(&place, &xpxe)?;
    xpxe.stop()
}

#[test]
fn a_second_daemon_with_the_same_state_dir_is_refused_by_name_until_the_first_is_gone() -> Result<()> {
    let Some(place) = Place::build(&known())? else { return Ok(()) };
    let mut xpxe = place.serve()?;
    let pins = pin_dir(&place.sandbox).display().to_string();
    let config = second(&place, "auto")?.replace(&pins, &format!("{pins}2"));
    let said = refused(&place, &config)?;
    let state_dir = place.rack.dir().join("state");
    let words = format!("another xpxe (pid {}) uses state_dir {}", xpxe.pid(), state_dir.display());
    ensure!(said.contains(&words) && said.contains("set another state_dir"), "{said}");
    still_serves(&place, &xpxe)?;
    for _ in 0..5 {
        xpxe.kill9()?;
        xpxe.restart().context("right after a kill")?;
    }
    xpxe.kill9()?;
    let next = Xpxe::start(&place.rack, &config, &[]).context("with the first one gone")?;
    next.stop()
}

/// Has a directory as a command has it that only looks, or that detaches.
fn share(dir: &Path) -> Result<Flock<File>> {
    let lock = Flock::lock(File::open(dir)?, FlockArg::LockSharedNonblock);
    lock.map_err(|(_, error)| error).with_context(|| dir.display().to_string())
}

/// Starts it while somebody shares a directory, and returns when it waits for that.
fn start_that_waits(xpxe: &mut Xpxe<'_>, dir: &Path) -> Result<()> {
    xpxe.start_again()?;
    let words = format!("waiting for a command (pid {}) that uses {}", std::process::id(), dir.display());
    xpxe.wait_for_event("that it waits", SOON, |event| event.message().contains(&words))?;
    ensure!(xpxe.is_running(), "{}", xpxe.last_lines(20));
    Ok(())
}

#[test]
fn a_start_waits_for_commands_that_will_be_done_with_its_directories() -> Result<()> {
    let Some(place) = Place::build(&known())? else { return Ok(()) };
    let mut xpxe = place.serve()?;
    let (state_dir, pins) = (place.rack.dir().join("state"), pin_dir(&place.sandbox));
    ensure!(share(&state_dir).is_err() && share(&pins).is_err(), "a daemon that runs shares nothing");
    for dir in [&state_dir, &pins] {
        xpxe.stop()?;
        let command = share(dir)?;
        start_that_waits(&mut xpxe, dir)?;
        drop(command);
        xpxe.wait_until_ready()?;
    }
    // The directory for which it waits may be gone then.
    xpxe.stop()?;
    let _other = share(&pins)?;
    start_that_waits(&mut xpxe, &pins)?;
    place.detach(&xpxe)?;
    xpxe.wait_until_ready()?;
    ensure!(share(&pins).is_err(), "it has not locked the directory that it has made");
    still_serves(&place, &xpxe)?;
    xpxe.stop()
}

#[test]
fn detach_refuses_under_a_running_daemon_and_after_a_forced_one_the_programs_come_back() -> Result<()> {
    let Some(place) = Place::build(&Settings { fast_path: "tc", ..known() })? else { return Ok(()) };
    let mut xpxe = place.serve()?;
    let pins = pin_dir(&place.sandbox);
    let said = place.detach(&xpxe).err().context("detach under a running daemon")?.to_string();
    let words = format!("xpxe (pid {}) runs with pin_dir {}", xpxe.pid(), pins.display());
    ensure!(said.contains(&words) && said.contains("stop it first") && said.contains("--force"), "{said}");
    ensure!(pins.join("SETTINGS").exists() && pins.join("link-tc-eth0").exists(), "something is gone");

    place.detach_with(&xpxe, &["--force"])?;
    ensure!(!pins.join("SETTINGS").exists() && pins.is_dir(), "the daemon's lock is gone with the directory");
    ensure!(place.detach(&xpxe).is_err(), "the daemon is forgotten");
    // An interface that is made again has its program again.
    let server = &place.rack.server;
    server.output("ip", &["link", "delete", "eth0"])?;
    xpxe.wait_for_event("that eth0 is gone", SOON, |event| {
        event.message().contains("there is no interface")
    })?;
    server.output("ip", &["link", "add", "spare", "type", "bridge"])?;
    place.rack.plug(server, "eth0", SERVER_MAC)?;
    server.output("ip", &["address", "add", &format!("{SERVER_ADDRESS}/24"), "dev", "eth0"])?;
    xpxe.wait_for_event("that eth0 is back", SOON, |event| {
        event.message().contains("serving eth0 as it is now")
    })?;
    ensure!(pins.join("link-tc-eth0").exists(), "{}", xpxe.last_lines(20));
    xpxe.restart()?;
    let wire = place.client()?;
    let alice = Client::new(mac(ALICE.mac)?);
    // The switch forwards a little later.
    eventually(SOON, "alice's address", || wire.lease(&alice).is_ok())?;
    xpxe.wait_for_event("an answer by TC", SOON, |event| event.field("by") == "tc")?;
    let said: Vec<_> = xpxe.log().iter().map(Event::message).collect();
    ensure!(!said.iter().any(|line| line.contains("6.6") || line.contains("no TC")), "{said:#?}");
    xpxe.stop()
}
