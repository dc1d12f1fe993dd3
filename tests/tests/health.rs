//! Whether xpxe says that it cannot serve machines, what signals do to it, and whom it gives its core.

use std::fs::{self, File};
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use boot_tests::dhcp_client::{Client, broadcast, mac};
use boot_tests::place::{ALICE, Place, SILENCE, SOON, UNKNOWN, known};
use boot_tests::rack::SERVER_PORT;
use boot_tests::settings::Settings;
use boot_tests::wait::eventually;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// What another one than systemd may send, logrotate for example.
#[test]
fn only_signals_that_mean_the_end_end_it() -> Result<()> {
    let Some(place) = Place::build(&off())? else { return Ok(()) };
    let xpxe = place.serve()?;
    let pid = Pid::from_raw(xpxe.pid().cast_signed());
    for (signal, says) in [
        (Signal::SIGHUP, "nothing that is served has changed"),
        (Signal::SIGUSR1, "ignored SIGUSR1"),
        (Signal::SIGUSR2, "ignored SIGUSR2"),
        (Signal::SIGPIPE, ""),
        (Signal::SIGHUP, "SIGHUP"),
    ] {
        kill(pid, signal)?;
        xpxe.wait_for_event(says, SOON, |event| event.message().contains(says))?;
        ensure!(readiness(&place)? == "ready\n", "after {signal}");
    }
    ensure!(xpxe.is_running());
    xpxe.stop()?;
    let unit = include_str!("../../packaging/xpxe.service");
    ensure!(
        unit.lines().any(|line| line == "Restart=always"),
        "systemd takes the end by a signal for a success"
    );
    Ok(())
}

#[test]
fn a_full_disk_is_not_ready() -> Result<()> {
    let Some(place) = Place::build(&off())? else { return Ok(()) };
    let state = place.rack.dir().join("state");
    mount(Some("xpxe-test"), &state, Some("tmpfs"), MsFlags::empty(), Some("mode=755,size=4m"))?;
    let xpxe = place.serve()?;
    wait_for(&place, "ready\n")?;
    let filler = state.join("filler");
    fill(&filler)?;
    wait_for(&place, "not ready: the disk is full: free some space for")?;
    xpxe.wait_for_event("the same in the log", SOON, |event| {
        event.message().contains("not ready") && event.message().contains("the disk is full")
    })?;
    fs::remove_file(&filler)?;
    wait_for(&place, "ready\n")?;
    // What the store itself says when a lease cannot be written.
    let (wire, client) = (place.client()?, Client::new(mac(UNKNOWN)?));
    let offer = wire.discover(&client)?;
    fill(&filler)?;
    let answer = wire.ask_within(&client.request(&offer), SILENCE)?;
    ensure!(answer.is_none(), "a lease that is not stored was confirmed: {answer:?}");
    wait_for(&place, "xpxe.db")?;
    drop(xpxe);
    umount2(&state, MntFlags::MNT_DETACH)?;
    Ok(())
}

#[test]
fn an_interface_that_is_down_unplugged_or_gone_is_not_ready() -> Result<()> {
    let Some(place) = Place::build(&off())? else { return Ok(()) };
    let xpxe = place.serve()?;
    wait_for(&place, "ready\n")?;
    place.rack.set_port(SERVER_PORT, "down")?;
    wait_for(&place, "not ready: eth0 has no carrier: check its cable")?;
    place.rack.set_port(SERVER_PORT, "up")?;
    wait_for(&place, "ready\n")?;
    place.rack.server.output("ip", &["link", "set", "eth0", "down"])?;
    wait_for(&place, "not ready: eth0 is down: bring it up")?;
    place.rack.server.output("ip", &["link", "set", "eth0", "up"])?;
    wait_for(&place, "ready\n")?;
    place.rack.server.output("ip", &["address", "flush", "dev", "eth0"])?;
    wait_for(&place, "not ready: eth0 has no IPv4 address")?;
    place.rack.server.output("ip", &["link", "delete", "eth0"])?;
    wait_for(&place, "not ready: there is no interface \"eth0\"")?;
    xpxe.stop()
}

/// Everything gone, then the database in another's place.
#[test]
fn a_database_that_is_deleted_is_written_anew_and_one_that_is_replaced_is_not_ready() -> Result<()> {
    let Some(place) = Place::build(&off())? else { return Ok(()) };
    let mut xpxe = place.serve()?;
    let wire = place.client()?;
    let state = place.rack.dir().join("state");
    let clients: Vec<_> = (0..3u8).map(|number| Client::new([2, 0x77, 0, 0, 2, number])).collect();
    let before = wire.lease(&clients[0])?.address();
    for file in ["xpxe.db", "xpxe.db-wal", "xpxe.db-shm", "xpxe.db-leases0", "xpxe.db-leases1"] {
        fs::remove_file(state.join(file))?;
    }
    xpxe.wait_for_event("that it was deleted", SOON, |event| {
        event.message().contains("the database was deleted while xpxe runs")
    })?;
    xpxe.wait_for_event("that a journal was deleted", SOON, |event| {
        event.message().contains("a journal of the database was deleted")
    })?;
    wait_for(&place, "ready\n")?;
    let later = wire.lease(&clients[1])?.address();
    xpxe.kill9()?;
    xpxe.restart()?;
    let listed = xpxe.command(&[
        "leases",
        "list",
        "--config",
        &place.rack.dir().join("xpxe.toml").display().to_string(),
    ])?;
    ensure!([before, later].iter().all(|address| listed.contains(&address.to_string())), "{listed}");
    for (client, address) in clients.iter().zip([before, later]) {
        // A lease that nobody had would be refused or not be answered.
        let renewed = wire.lease(client)?.address();
        ensure!(renewed == address, "had {address}, and after a restart {renewed}");
    }

    fs::rename(state.join("xpxe.db"), state.join("aside"))?;
    fs::copy(state.join("aside"), state.join("xpxe.db"))?;
    wait_for(&place, "was replaced while xpxe runs")?;
    let offer = wire.discover(&clients[2])?;
    let answer = wire.ask_within(&clients[2].request(&offer), SILENCE)?;
    ensure!(answer.is_none(), "an ACK that nothing stands for: {answer:?}");
    fs::remove_file(state.join("xpxe.db"))?;
    wait_for(&place, "ready\n")?;
    wire.lease(&clients[2]).with_context(|| xpxe.last_lines(20))?;
    xpxe.stop()
}

/// Beside downloads on the same core an answer does not wait for one of them; beside a flood, others have their turn.
#[test]
fn the_packet_thread_goes_before_others_unless_a_flood_has_its_core() -> Result<()> {
    let Some(place) = Place::build(&off())? else { return Ok(()) };
    if place.rack.server.output("chrt", &["--fifo", "1", "true"]).is_err() {
        eprintln!(
            "this kernel lets nobody here go first (a control group without real-time budget): not tested"
        );
        return Ok(());
    }
    let xpxe = place.serve()?;
    wait_for(&place, "ready\n")?;
    let policies = || policies(xpxe.pid());
    let first = |name: &str, wanted: &str| {
        let what = format!("{name} has {wanted}, of {:?}", policies());
        eventually(Duration::from_secs(60), &what, || {
            policies().is_ok_and(|all| all.iter().any(|(thread, policy)| thread == name && policy == wanted))
        })
    };
    first(PACKETS, FIFO)?;
    first("xpxe-store", FIFO)?;
    let others = policies()?;
    let others = others.iter().filter(|(name, _)| ![PACKETS, "xpxe-store"].contains(&name.as_str()));
    ensure!(others.clone().count() > 2 && others.clone().all(|(_, policy)| policy == USUAL), "{others:?}");

    let wire = place.client()?;
    let frames = (0..2000_u16).map(|number| {
        let [high, low] = number.to_be_bytes();
        broadcast(&Client::new([2, 0xf1, 0, 0, high, low]).discover())
    });
    let frames = frames.collect::<Result<Vec<_>>>()?;
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                // What finds no room is lost, as on a real wire.
                frames.iter().for_each(|frame| drop(wire.send(frame)));
            }
        });
        let is_usual = first(PACKETS, USUAL);
        is_over.store(true, Ordering::Relaxed);
        is_usual
    })?;
    first(PACKETS, FIFO)?;
    ensure!(place.client()?.discover(&Client::new(mac(ALICE.mac)?))?.address().is_private(), "it answers");
    Ok(())
}

/// As `/proc` has them: the priority and the policy of a thread.
const FIFO: &str = "1 1";
const USUAL: &str = "0 0";

/// The first thread has the process's name.
const PACKETS: &str = "packets";

/// The threads of a process by name, and the policy of each.
fn policies(pid: u32) -> Result<Vec<(String, String)>> {
    let mut all = Vec::new();
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let task = task?;
        // It may have ended meanwhile.
        let Ok(stat) = fs::read_to_string(task.path().join("stat")) else { continue };
        let (name, rest) =
            stat.split_once('(').and_then(|(_, rest)| rest.rsplit_once(')')).context("a name")?;
        let columns: Vec<&str> = rest.split_ascii_whitespace().collect();
        // Columns 40 and 41 of proc_pid_stat(5); the rest begins with the third.
        let (priority, policy) =
            (columns.get(37).context("a priority")?, columns.get(38).context("a policy")?);
        let is_first = task.file_name().to_str() == Some(pid.to_string().as_str());
        all.push((if is_first { PACKETS } else { name }.to_owned(), format!("{priority} {policy}")));
    }
    Ok(all)
}

fn off() -> Settings {
    Settings { fast_path: "off", ..known() }
}

/// From the server itself: its interfaces may be down.
fn readiness(place: &Place) -> Result<String> {
    place.rack.server.output("curl", &["-sS", "--max-time", "5", "http://127.0.0.1:8080/readyz"])
}

fn wait_for(place: &Place, wanted: &str) -> Result<()> {
    eventually(Duration::from_secs(15), wanted, || {
        readiness(place)
            .is_ok_and(|says| says.lines().any(|line| wanted.trim_end() == line || line.contains(wanted)))
    })
    .with_context(|| format!("/readyz says {:?}", readiness(place)))
}

/// Leaves no room.
fn fill(path: &std::path::Path) -> Result<()> {
    let mut file = File::create(path)?;
    let full = (0..100_000).any(|_| file.write_all(&[0; 4096]).is_err());
    ensure!(full, "the disk does not end");
    Ok(())
}
