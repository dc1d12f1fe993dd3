//! Relays that nobody has configured, and relays that cannot be: what the machines behind them get, and what the log says.

use std::net::Ipv4Addr;

use anyhow::{Result, ensure};
use boot_common::Mac;
use boot_tests::dhcp_client::{Wire, mac};
use boot_tests::packet::{Client, Packet};
use boot_tests::place::{ALICE, CARD, Place, SILENCE, SOON, known};
use boot_tests::rack::{SERVER_ADDRESS, SERVER_MAC, Station};
use boot_tests::settings::Settings;

const RELAY: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 9);

/// A relay on the server's network, which has looked for the server as relays do.
fn relay(place: &Place) -> Result<Station> {
    let station = place.rack.neighbour("relay", CARD, &format!("{RELAY}/24"))?;
    station.output("curl", &["-sS", &format!("http://{SERVER_ADDRESS}:8080/healthz")])?;
    Ok(station)
}

/// As the relay sends it, with this giaddr.
fn through(giaddr: Ipv4Addr, message: Packet) -> Result<Packet> {
    let mut message = message.relayed(giaddr, SERVER_ADDRESS.parse()?);
    message.eth_source = Mac(mac(CARD)?);
    message.eth_destination = Mac(mac(SERVER_MAC)?);
    message.source.set_ip(RELAY);
    Ok(message)
}

#[test]
fn the_line_of_a_relay_in_no_subnet_has_the_relays_mac() -> Result<()> {
    let Some(place) = Place::build(&Settings { fast_path: "tc", ..known() })? else { return Ok(()) };
    let xpxe = place.serve()?;
    let station = relay(&place)?;
    let wire = Wire::open(&station, "eth0")?;
    let alice = Mac(mac(ALICE.mac)?);
    wire.send(&through(Ipv4Addr::new(10, 99, 0, 1), Client::Dhclient.discover(alice))?.frame())?;
    let line = xpxe.wait_for_event("the relay's line", SOON, |event| event.field("step") == "no-subnet")?;
    let fields = (line.field("relay"), line.field("from"), line.field("station"));
    ensure!(fields == ("10.99.0.1".into(), RELAY.to_string(), CARD.into()), "{:?}", line.json);
    ensure!(line.message().contains(&format!("from {RELAY}, station {CARD}")), "{}", line.message());
    xpxe.stop()
}

#[test]
fn a_relay_that_cannot_be_gets_no_answer_at_any_hook_and_has_a_line() -> Result<()> {
    for (fast_path, hook) in [("off", "daemon"), ("tc", "tc"), ("xdp", "xdp")] {
        let Some(place) = Place::build(&Settings { fast_path, ..known() })? else { return Ok(()) };
        let xpxe = place.serve()?;
        let station = relay(&place)?;
        let wire = Wire::open(&station, "eth0")?;
        let alice = Mac(mac(ALICE.mac)?);
        let discover = || Client::Dhclient.discover(alice);
        let impossible =
            [SERVER_ADDRESS.parse()?, Ipv4Addr::new(10, 77, 0, 0), Ipv4Addr::new(10, 77, 0, 255)];
        for giaddr in impossible {
            let message = through(giaddr, discover())?;
            wire.send(&message.frame())?;
            let answer = wire.hear_reply(&[message.xid], SILENCE)?;
            ensure!(answer.is_none(), "{fast_path}, giaddr {giaddr}: {answer:?}");
            let line = xpxe.wait_for_event("its line", SOON, |event| {
                event.field("reason") == "bad-relay" && event.field("relay") == giaddr.to_string()
            })?;
            ensure!(line.field("station") == CARD, "{:?}", line.json);
        }
        let metrics = station.output("curl", &["-sS", &format!("http://{SERVER_ADDRESS}:8080/metrics")])?;
        let counted = format!("xpxe_packets_total{{hook=\"{hook}\",reason=\"bad-relay\"}} 3");
        ensure!(metrics.contains(&counted), "{fast_path}: {metrics}");
        // A true one is answered.
        let message = through(RELAY, discover())?;
        wire.send(&message.frame())?;
        ensure!(wire.hear_reply(&[message.xid], SOON)?.is_some(), "{}", xpxe.last_lines(20));
        xpxe.stop()?;
    }
    Ok(())
}
