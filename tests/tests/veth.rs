//! What is special about a veth: checksums that nobody has finished, and XDP that only reaches a listening other end.

use std::net::UdpSocket;
use std::process::ExitStatus;

use anyhow::{Context, Result, ensure};
use boot_tests::daemon::Xpxe;
use boot_tests::dhcp_client::{Client, Wire, mac, payload};
use boot_tests::netns::{Namespace, Process};
use boot_tests::place::{ALICE, Place, SOON, known};
use boot_tests::rack::{SERVER_ADDRESS, SERVER_PORT, Segment, Station};
use boot_tests::settings::{Settings, boot_dir};
use boot_tests::tftp_rack::random_bytes;
use boot_tests::wait::eventually;
use dhcproto::v4::MessageType;

/// A client as everybody makes one: with its checksums left to an offload. What comes to it is finished on the last
/// piece of the way, so that it can be looked at.
fn ordinary(place: &Place) -> Result<Station> {
    let station = place.rack.client("ordinary", ALICE.mac)?;
    station.output("ethtool", &["-K", "eth0", "tx", "on"])?;
    place.rack.namespace.output("ethtool", &["-K", &station.port, "tx", "off"])?;
    station.output("ip", &["address", "add", "10.77.0.10/24", "dev", "eth0"])?;
    Ok(station)
}

fn packets(station: &Namespace, hook: &str, reason: &str) -> Result<u64> {
    let url = format!("http://{SERVER_ADDRESS}:8080/metrics");
    let metrics = station.output("curl", &["--silent", "--show-error", "--max-time", "30", &url])?;
    let label = format!("xpxe_packets_total{{hook=\"{hook}\",reason=\"{reason}\"}} ");
    let count = metrics.lines().find_map(|line| line.strip_prefix(&label)?.parse().ok());
    count.with_context(|| format!("no {label}"))
}

fn fetch(station: &Station, segment: &Segment, name: &str) -> Result<Vec<u8>> {
    let got = segment.dir().join("got");
    let url = format!("tftp://{SERVER_ADDRESS}/{name}");
    let to = got.display().to_string();
    station.output("curl", &["--silent", "--show-error", "--max-time", "60", "--output", &to, &url])?;
    Ok(std::fs::read(got)?)
}

#[test]
fn unfinished_checksums_are_answered_by_tc_and_the_answers_are_right() -> Result<()> {
    let Some(place) = Place::build(&Settings { fast_path: "tc", ..known() })? else { return Ok(()) };
    let file = random_bytes("file", 300_001);
    std::fs::write(boot_dir(&place.rack).join("file"), &file)?;
    let xpxe = place.serve()?;
    let station = ordinary(&place)?;
    ensure!(fetch(&station, &place.rack, "file")? == file, "the file arrived otherwise");
    let mut blocks = 0;
    eventually(SOON, "TC has sent most of 587 blocks", || {
        blocks = packets(&station, "tc", "tftp-block").unwrap_or(0);
        blocks > 400
    })
    .with_context(|| format!("{blocks} blocks"))?;

    // A lease by raw frames, whose checksums are right, then its renewal as an operating system sends it: by a socket.
    let wire = Wire::open(&station, "eth0")?;
    let client = Client::new(mac(ALICE.mac)?);
    let ack = wire.lease(&client)?;
    let socket = station.run(|| UdpSocket::bind("10.77.0.10:68"))??;
    for _ in 0..20 {
        let mut renewal = client.message();
        renewal.set_ciaddr(ack.address());
        renewal.opts_mut().insert(dhcproto::v4::DhcpOption::MessageType(MessageType::Request));
        socket.send_to(&payload(&renewal)?, (SERVER_ADDRESS, 67))?;
        let reply = wire.hear_reply(&[renewal.xid()], SOON)?.context("no answer to a renewal")?;
        ensure!(reply.kind() == Some(MessageType::Ack), "{reply:?}");
        ensure!(reply.checksums_are_right, "wrong checksums: {:02x?}", reply.frame);
    }
    // One packet in 65,536 is the daemon's.
    let mut by_tc = 0;
    eventually(SOON, "TC has answered the renewals", || {
        by_tc = packets(&station, "tc", "acked").unwrap_or(0);
        by_tc >= 19
    })
    .with_context(|| format!("{by_tc} of 20"))?;
    xpxe.stop()
}

/// How a process ended, and everything it said.
fn end(process: &Process) -> Result<(ExitStatus, String)> {
    let status = process.wait(SOON)?;
    eventually(SOON, "the end of the output", || process.output_ended().is_some())?;
    Ok((status, process.lines().into_iter().map(|line| line.text + "\n").collect()))
}

/// A rack's cable without the XDP program at its far end.
fn without_far_program(place: &Place) -> Result<()> {
    let (switch, server) = (&place.rack.namespace, &place.rack.server);
    server.output("ip", &["link", "delete", "eth0"])?;
    let address = boot_tests::rack::SERVER_MAC;
    let there = server.path();
    switch.output(
        "ip",
        &[
            "link",
            "add",
            SERVER_PORT,
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "address",
            address,
            "netns",
            &there,
        ],
    )?;
    switch.output("ip", &["link", "set", SERVER_PORT, "master", "br0", "up"])?;
    server.output("ip", &["address", "add", &format!("{SERVER_ADDRESS}/24"), "dev", "eth0"])?;
    server.output("ip", &["link", "set", "eth0", "up"]).map(drop)
}

#[test]
fn xdp_to_a_deaf_other_end_is_tc_and_nothing_stalls() -> Result<()> {
    let Some(place) = Place::build(&Settings { fast_path: "xdp", ..known() })? else { return Ok(()) };
    without_far_program(&place)?;
    let mut xpxe = place.serve()?;
    let says = |xpxe: &Xpxe<'_>, words: &str| {
        xpxe.wait_for_event(words, SOON, |event| event.message().contains(words))
            .map(|event| event.field("level"))
    };
    let level = says(&xpxe, "TC instead of XDP, because the other end of this veth")?;
    ensure!(level == "WARN", "{level}");
    let played = place.client()?;
    for _ in 0..3 {
        played.lease(&Client::new(mac(ALICE.mac)?))?;
    }
    xpxe.wait_for_event("an ACK by TC", SOON, |event| {
        event.field("step") == "ack" && event.field("by") == "tc"
    })?;

    xpxe.write_config(&place.config.replace("fast_path = \"xdp\"", "fast_path = \"off\""))?;
    xpxe.restart()?;
    for _ in 0..20 {
        played.lease(&Client::new(mac(ALICE.mac)?))?;
    }
    xpxe.stop()
}

#[test]
fn a_foreign_xdp_program_is_named_and_left_alone() -> Result<()> {
    let Some(place) = Place::build(&Settings { fast_path: "auto", ..known() })? else { return Ok(()) };
    // On a veth auto is TC only: insist.
    let config = place.config.replace("fast_path = \"auto\"", "fast_path = \"xdp\"");
    let foreign = place.rack.server.run(|| {
        let eth0 = nix::net::if_::if_nametoindex("eth0")?;
        Ok::<_, anyhow::Error>(boot_tests::sys::attach_xdp_pass(eth0)?)
    })??;
    let place = Place { config, ..place };
    let refused = place.spawn(&[])?;
    let (_, said) = end(&refused)?;
    ensure!(said.contains("another XDP program is there ("), "{said}");
    ensure!(said.contains(", id ") && said.contains("ip link set dev eth0 xdp off"), "{said}");
    drop(foreign);
    eventually(SOON, "xpxe starts when the program is gone", || place.serve().is_ok())
}

#[test]
fn another_pin_dir_with_programs_still_answering_is_refused_by_name() -> Result<()> {
    for fast_path in ["xdp", "tc"] {
        let Some(place) = Place::build(&Settings { fast_path, ..known() })? else { return Ok(()) };
        let xpxe = place.serve()?;
        xpxe.stop()?;
        let (old, new) = (place.sandbox.pin_dir().join("xpxe"), place.sandbox.pin_dir().join("moved"));
        let moved = place.config.replace(&format!("{old:?}"), &format!("{new:?}"));
        for config in
            [moved.clone(), moved.replace(&format!("fast_path = \"{fast_path}\""), "fast_path = \"off\"")]
        {
            std::fs::write(place.rack.dir().join("xpxe.toml"), &config)?;
            let place_of = |words: &[&str]| {
                let binary = boot_tests::daemon::binary()?.display().to_string();
                let mut command = place.rack.server.command(&binary);
                command.args(words).arg("--config").arg(place.rack.dir().join("xpxe.toml"));
                place.rack.server.spawn(command)
            };
            for words in [&["serve"][..], &["detach"]] {
                let process = place_of(words)?;
                let (status, said) = end(&process)?;
                ensure!(!status.success(), "{words:?} succeeded: {said}");
                let remedy = format!("xpxe detach --pin-dir {}", old.display());
                ensure!(
                    said.contains("another xpxe's program answers on eth0") && said.contains(&remedy),
                    "{said}"
                );
            }
        }
        place.rack.server.output(
            &boot_tests::daemon::binary()?.display().to_string(),
            &["detach", "--pin-dir", &old.display().to_string()],
        )?;
        Xpxe::start(&place.rack, &moved, &[])?.stop()?;
    }
    Ok(())
}
