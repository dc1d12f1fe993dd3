//! The switch at the other end of the cable: what the kernel's own spanning tree and lldpd send is told, and is evidence.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use boot_tests::daemon::Event;
use boot_tests::dhcp_client::Wire;
use boot_tests::netns::Process;
use boot_tests::packet::Client;
use boot_tests::place::{ALICE, SOON, known};
use boot_tests::rack::SERVER_PORT;
use boot_tests::wait::eventually;

use super::scene::*;

/// A switch tells a new port of it within 30 s, and it is told when it speaks for the second time.
const SPEAKS_AGAIN: Duration = Duration::from_secs(60);

/// Debian's lldpd, unpacked and not installed.
fn unpacked(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/readers").join(file)
}

/// The switch names itself and its ports from now on.
fn lldpd(scene: &Scene<'_>) -> Result<Process> {
    let sandbox = &scene.place.sandbox;
    sandbox.cover("/run")?;
    fs::create_dir("/run/lldpd")?;
    // It gives up its rights for those of this user.
    for (file, line) in [
        ("/etc/passwd", "_lldpd:x:987:987::/run/lldpd:/usr/sbin/nologin\n"),
        ("/etc/group", "_lldpd:x:987:\n"),
    ] {
        sandbox.replace(file, &(fs::read_to_string(file)? + line))?;
    }
    let settings = scene.place.rack.dir().join("lldpd.conf");
    fs::write(
        &settings,
        "configure system hostname leaf7\nconfigure lldp portidsubtype ifname\nconfigure lldp tx-interval 5\n",
    )?;
    let mut command = scene.place.rack.namespace.command(&unpacked("usr/sbin/lldpd").display().to_string());
    let libraries = fs::read_dir(unpacked("usr/lib"))?.filter_map(|entry| Some(entry.ok()?.path()));
    let libraries: Vec<String> = libraries.map(|path| path.display().to_string()).collect();
    command.env("LD_LIBRARY_PATH", libraries.join(":"));
    command.args(["-d", "-u", "/run/lldpd.socket", "-I", SERVER_PORT, "-S", "a switch", "-L"]);
    command.arg(unpacked("usr/sbin/lldpcli")).arg("-O").arg(settings);
    scene.place.rack.namespace.spawn(command)
}

fn told(scene: &Scene<'_>, field: &str) -> Vec<Event> {
    let log = scene.xpxe.log();
    log.into_iter()
        .filter(|event| event.field("step") == "switch" && !event.field(field).is_empty())
        .collect()
}

/// The MAC of the switch's port that the server is plugged into.
fn port(scene: &Scene<'_>) -> Result<String> {
    let shown = scene.place.rack.namespace.output("ip", &["-brief", "link", "show", SERVER_PORT])?;
    Ok(shown.split_whitespace().nth(2).context("its address")?.to_owned())
}

#[test]
fn a_switch_with_a_spanning_tree_is_evidence_and_told_once() -> Result<()> {
    scene(&known(), |scene| {
        let alice = scene.machine(ALICE)?;
        let switch = &scene.place.rack.namespace;
        let mut listens = switch.command("tcpdump");
        listens.args(["-Z", "root", "--immediate-mode", "-l", "-n", "-i", SERVER_PORT, "stp"]);
        let listens = switch.spawn(listens)?;
        listens.wait_for_line("listening on", SOON)?;
        switch.output(
            "ip",
            &["link", "set", "br0", "type", "bridge", "stp_state", "1", "forward_delay", "1500"],
        )?;
        let _lldpd = lldpd(scene)?;
        let station = port(scene)?;
        let told_port = || told(scene, "switch").iter().any(|event| event.field("station") == station);
        eventually(SOON, "the switch's name", told_port).with_context(|| scene.xpxe.last_lines(20))?;
        // BPDUs come each two seconds; they say nothing new.
        eventually(SOON, "five BPDUs", || {
            listens.lines().iter().filter(|line| line.text.contains("STP 802.1d")).count() >= 5
        })?;
        let (trees, names) = (told(scene, "forward_delay"), told(scene, "switch"));
        ensure!(trees.len() == 1 && names.len() == 1, "{trees:?}\n{names:?}");
        ensure!(trees[0].field("station") == station && trees[0].field("forward_delay") == "15", "{trees:?}");
        ensure!(names[0].field("switch") == "leaf7" && names[0].field("port") == SERVER_PORT, "{names:?}");

        // The offers do not arrive: such a port is one cause.
        scene.drop_on_the_way(&["udp sport 67".to_owned()])?;
        for _ in 0..3 {
            alice.wire.send(&Client::Edk2Pxe.discover(alice.mac()?).frame())?;
        }
        let evidence = alice.must_be("offer-not-taken")?;
        let says = format!("the switch leaf7, port {SERVER_PORT} ({station}) at eth0 speaks spanning tree");
        ensure!(evidence.contains(&says) && evidence.contains("for 30 s after each link-up"), "{evidence}");
        Ok(())
    })
}

/// A machine of this network can invent as many switches as it likes; the true one speaks again.
#[test]
fn invented_switches_do_not_hide_the_true_one() -> Result<()> {
    scene(&known(), |scene| {
        let invents = Wire::open(&scene.place.rack.namespace, SERVER_PORT)?;
        let frame = |number: u8| {
            let to = [0x01, 0x80, 0xc2, 0, 0, 0x0e];
            // Chassis, port and name.
            let chassis = [2, 3, 7, b'f', number + b' '];
            let name = [4, 3, 5, b'x', b'y', 10, 4, b'f', b'a', b'k', b'e', 0, 0];
            [&to[..], &[2, 0, 0, 0, 9, number], &[0x88, 0xcc], &chassis, &name, &[0; 46]].concat()
        };
        // xpxe begins to listen a moment after it is ready.
        eventually(SOON, "an invented switch", || {
            (0..64).for_each(|number| drop(invents.send(&frame(number))));
            !told(scene, "switch").is_empty()
        })?;
        let _lldpd = lldpd(scene)?;
        let station = port(scene)?;
        eventually(SPEAKS_AGAIN, "the true switch", || {
            told(scene, "switch").iter().any(|event| event.field("station") == station)
        })
        .with_context(|| scene.xpxe.last_lines(30))?;
        let count = told(scene, "switch").len();
        ensure!(count <= 16, "{count} were told");
        Ok(())
    })
}
