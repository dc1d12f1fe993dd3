//! The disk that the leases are on gets full, read-only, and well again, and xpxe goes on without a restart.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use boot_tests::daemon::Xpxe;
use boot_tests::dhcp_client::{Client, Reply, mac};
use boot_tests::place::{OTHER_UNKNOWN, Place, PlayedClients, SILENCE, SOON, UNKNOWN, known};
use boot_tests::rack::{Rack, SERVER_ADDRESS, Station};
use boot_tests::sandbox::{Sandbox, root_or_skip};
use boot_tests::settings::Settings;
use boot_tests::wait::{eventually, eventually_some};
use dhcproto::v4::MessageType;
use nix::mount::{MsFlags, mount};

/// Small, so that it is soon full, and large enough for a store with a few leases.
const SIZE: &str = "size=1m,mode=755";

#[test]
fn a_disk_that_was_full_and_read_only_is_written_again_without_a_restart() -> Result<()> {
    for fast_path in ["xdp", "off"] {
        let Some((place, disk)) = on_a_small_disk(fast_path)? else { return Ok(()) };
        let xpxe = place.serve()?;
        let (wire, watcher) = (place.client()?, watcher(&place)?);
        let (early, late) = (Client::new(mac(UNKNOWN)?), Client::new(mac(OTHER_UNKNOWN)?));
        let held = wire.lease(&early)?;

        fill(&disk)?;
        let leased = eventually_some(SOON, "a figure for the first ACK", || {
            page(&watcher).ok().filter(|page| figure(page, "acked") > 0)
        })?;
        let acked = figure(&leased, "acked");
        let offer = refused(&wire, &late, &xpxe, "the disk is full")?;
        ensure!(steps(&xpxe, "ack", OTHER_UNKNOWN) == 0, "said to be acknowledged: {}", xpxe.last_lines(9));
        // The daemon counts once a second.
        let page = eventually_some(SOON, "a figure for what was not stored", || {
            page(&watcher).ok().filter(|page| figure(page, "not-stored") > 0)
        })?;
        ensure!(figure(&page, "acked") == acked, "counted as acknowledged");
        let listed = listed(&place, &xpxe)?;
        ensure!(line(&listed, OTHER_UNKNOWN)?.contains("offered"), "{fast_path}: {listed}");
        // What is stored is still promised.
        let renewed = wire.ask(&early.request(&wire.discover(&early)?), MessageType::Ack)?;
        ensure!(renewed.address() == held.address(), "{fast_path}: {renewed:?}");

        // Nothing can be made read-only that is open for writing: a failed write closes the file.
        refused(&wire, &late, &xpxe, "the disk is full")?;
        remount(&disk, MsFlags::MS_RDONLY)?;
        refused(&wire, &late, &xpxe, "is read-only")?;
        remount(&disk, MsFlags::empty())?;

        fs::remove_file(disk.join("ballast"))?;
        let ack = wire.ask(&late.request(&offer), MessageType::Ack)?;
        ensure!(ack.address() == offer.address(), "{fast_path}: {ack:?}");
        eventually(SOON, "a line for the ACK", || steps(&xpxe, "ack", OTHER_UNKNOWN) == 1)?;
        let listed = self::listed(&place, &xpxe)?;
        ensure!(line(&listed, OTHER_UNKNOWN)?.contains("leased"), "{fast_path}: {listed}");
        xpxe.stop()?;
    }
    Ok(())
}

#[test]
fn a_full_disk_at_the_start_is_named_and_the_next_start_works() -> Result<()> {
    let Some((place, disk)) = on_a_small_disk("off")? else { return Ok(()) };
    fill(&disk)?;
    let process = place.spawn(&[])?;
    process.wait_for_line("the disk is full: free some space", SOON)?;
    let status = process.wait(SOON)?;
    ensure!(!status.success(), "it ended well on a full disk");
    fs::remove_file(disk.join("ballast"))?;
    let xpxe = place.serve()?;
    place.client()?.lease(&Client::new(mac(UNKNOWN)?))?;
    xpxe.stop()
}

/// A place whose `state_dir` is a small file system.
fn on_a_small_disk(fast_path: &'static str) -> Result<Option<(Place, PathBuf)>> {
    if !root_or_skip() {
        return Ok(None);
    }
    let sandbox = Sandbox::enter()?;
    let disk = sandbox.dir().join("disk");
    fs::create_dir(&disk)?;
    mount(Some("xpxe-test"), &disk, Some("tmpfs"), MsFlags::empty(), Some(SIZE)).context("a small tmpfs")?;
    let rack = Rack::build(&sandbox)?;
    let text = Settings { fast_path, ..known() }.write(&sandbox, &rack)?;
    let elsewhere = format!("{:?}", rack.dir().join("state"));
    let config = text.replace(&elsewhere, &format!("{disk:?}"));
    Ok(Some((Place { rack, config, sandbox }, disk)))
}

/// Leaves not a byte.
fn fill(disk: &Path) -> Result<()> {
    use std::io::Write as _;
    let mut ballast = fs::File::create(disk.join("ballast"))?;
    while ballast.write(&[7; 4096]).is_ok_and(|written| written > 0) {}
    Ok(())
}

fn remount(disk: &Path, how: MsFlags) -> Result<()> {
    eventually(SOON, "the remount", || {
        mount(None::<&str>, disk, None::<&str>, MsFlags::MS_REMOUNT | how, None::<&str>).is_ok()
    })
}

/// The machine is offered an address and gets no ACK, and the log says why.
fn refused(wire: &PlayedClients, client: &Client, xpxe: &Xpxe<'_>, why: &str) -> Result<Reply> {
    let offer = wire.discover(client)?;
    let ack = wire.ask_within(&client.request(&offer), SILENCE)?;
    ensure!(ack.is_none(), "an ACK that cannot be stored: {ack:?}");
    xpxe.wait_for_event(why, SOON, |event| event.message().contains(why))?;
    Ok(offer)
}

fn steps(xpxe: &Xpxe<'_>, step: &str, mac: &str) -> usize {
    xpxe.log().iter().filter(|event| event.field("step") == step && event.field("mac") == mac).count()
}

fn listed(place: &Place, xpxe: &Xpxe<'_>) -> Result<String> {
    let file = place.rack.dir().join("xpxe.toml");
    xpxe.command(&["leases", "list", "--config", &file.display().to_string()])
}

fn line<'t>(listed: &'t str, mac: &str) -> Result<&'t str> {
    listed.lines().find(|line| line.contains(mac)).with_context(|| format!("no {mac} in\n{listed}"))
}

/// A host with an address that fetches.
fn watcher(place: &Place) -> Result<Station> {
    place.rack.neighbour("watcher", "02:77:00:00:00:e0", "10.77.0.9/24")
}

fn page(watcher: &Station) -> Result<String> {
    watcher.output("curl", &["-sSf", &format!("http://{SERVER_ADDRESS}:8080/metrics")])
}

fn figure(page: &str, reason: &str) -> u64 {
    let name = format!("xpxe_packets_total{{hook=\"daemon\",reason=\"{reason}\"}} ");
    page.lines().find_map(|line| line.strip_prefix(&name)?.parse().ok()).unwrap_or(0)
}
