//! A disk that does not answer holds up those whose lease is to be stored, and nobody else.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use boot_tests::dhcp_client::{Client, mac};
use boot_tests::place::{ALICE, OTHER_UNKNOWN, Place, SILENCE, SOON, UNKNOWN, known};
use boot_tests::settings::Settings;
use boot_tests::sys::Stopped;
use boot_tests::wait::eventually;
use dhcproto::v4::MessageType;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The thread that waits for the disk.
const WRITER: &str = "xpxe-store";

#[test]
fn while_the_disk_hangs_only_those_wait_whose_lease_is_to_be_stored() -> Result<()> {
    for fast_path in ["off", "xdp"] {
        let Some(place) = Place::build(&Settings { fast_path, ..known() })? else { return Ok(()) };
        let xpxe = place.serve()?;
        let wire = place.client()?;
        let [alice, early, late] = [ALICE.mac, UNKNOWN, OTHER_UNKNOWN].map(mac);
        let (alice, early, late) = (Client::new(alice?), Client::new(early?), Client::new(late?));
        let held = wire.lease(&early)?;
        {
            let _hanging = Stopped::thread(xpxe.pid(), WRITER)?;
            let offer = wire.discover(&late)?;
            let asks = late.request(&offer);
            for _ in 0..2 {
                let ack = wire.ask_within(&asks, SILENCE)?;
                ensure!(ack.is_none(), "{fast_path}: acknowledged before it is stored: {ack:?}");
            }
            // The first request is at the disk, and what follows from the second one waits behind it.
            eventually(SOON, "what waits to be counted", || {
                waiting(&place).is_ok_and(|waiting| waiting > 0)
            })?;
            // Whom the store has nothing to do with, and whom it has stored. The kernel half promises what is reserved.
            let reserved = wire.ask_within(&alice.discover(), SILENCE)?.context("no offer")?;
            let acked = wire.ask_within(&alice.request(&reserved), SILENCE)?;
            ensure!(acked.is_some() == (fast_path == "xdp"), "{fast_path}: {acked:?}");
            let renewed =
                wire.ask_within(&early.request(&held), SILENCE)?.context("what is stored is promised")?;
            ensure!(renewed.kind() == Some(MessageType::Ack) && renewed.address() == held.address());
            eventually(SOON, "/readyz to name the disk", || {
                readiness(&place).is_ok_and(|says| says.contains("leases wait for the disk of state_dir"))
            })?;
        }
        let ack = wire.lease(&late)?;
        ensure!(ack.address() != held.address(), "{fast_path}: one address for two");
        eventually(Duration::from_secs(15), "/readyz to say that it is well again", || {
            readiness(&place).is_ok_and(|says| says.starts_with("ready"))
        })?;
        xpxe.stop()?;
    }
    Ok(())
}

/// The thread that reads the database (a thread's name has 15 characters).
const READER: &str = "sqlx-sqlite-wor";

#[test]
fn a_reload_that_reads_what_is_stored_holds_up_nobody() -> Result<()> {
    let Some(place) = Place::build(&Settings { fast_path: "off", ..known() })? else { return Ok(()) };
    let xpxe = place.serve()?;
    let wire = place.client()?;
    let [alice, late] = [ALICE.mac, UNKNOWN].map(mac);
    let (alice, late) = (Client::new(alice?), Client::new(late?));
    let more = "\n[[subnet]]\ncidr = \"10.78.0.0/24\"\npool = [\"10.78.0.100-10.78.0.101\"]\n";
    let leased = {
        let _hanging = Stopped::thread(xpxe.pid(), READER)?;
        xpxe.write_config(&format!("{}{more}", place.config))?;
        kill(Pid::from_raw(xpxe.pid().cast_signed()), Signal::SIGHUP)?;
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(3) {
            let offer = wire.ask_within(&alice.discover(), SILENCE)?;
            ensure!(
                offer.is_some(),
                "no offer {:?} after the signal\n{}",
                began.elapsed(),
                xpxe.last_lines(20)
            );
        }
        let is_reloaded =
            xpxe.log().iter().any(|event| event.message().contains("added subnet 10.78.0.0/24"));
        ensure!(!is_reloaded, "nothing was read");
        // The journal takes it meanwhile.
        wire.lease(&late)?.address()
    };
    xpxe.wait_for_event("the reload", SOON, |event| event.message().contains("added subnet 10.78.0.0/24"))?;
    ensure!(wire.lease(&late)?.address() == leased, "another address after the reload");
    xpxe.stop()
}

/// How many commands wait for the disk.
fn waiting(place: &Place) -> Result<u64> {
    let metrics =
        place.rack.server.output("curl", &["-sS", "--max-time", "5", "http://127.0.0.1:8080/metrics"])?;
    let figure = metrics.lines().find_map(|line| line.strip_prefix("xpxe_store_waiting "));
    Ok(figure.context("the figure")?.parse()?)
}

/// From the server itself.
fn readiness(place: &Place) -> Result<String> {
    place.rack.server.output("curl", &["-sS", "--max-time", "5", "http://127.0.0.1:8080/readyz"])
}
