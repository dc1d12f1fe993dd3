//! The lines about what is on the wire beside this server: other servers, odd relays, switches.

use tracing::{debug, info, warn};

use super::whose::Whose;
use boot_engine::events::{OtherServer, Step, SwitchFrame};

pub(super) fn write_other_server(whose: &Whose<'_>, other: OtherServer) {
    let Whose { step, by, interface, .. } = *whose;
    let (mac, name) = (whose.mac(), whose.known_name());
    let instead = format_args!(
        "stop that server, or set dhcp = \"proxy\" for {interface} if it is to give the addresses"
    );
    match other {
        OtherServer::Chosen { server, address, was_offered } => {
            let not_ours = if was_offered { " instead of this server's offer" } else { "" };
            info!(step, by, %mac, name, %server, %address,
                "{mac} took {address} from another DHCP server ({server}){not_ours}");
        }
        OtherServer::Refused { server, station } => {
            warn!(step, %mac, name, %server, station = station.map(display), interface,
                "another DHCP server, {server}, sent a NAK to {mac} on {interface}, and the machine starts over: {instead}");
        }
        OtherServer::Gives { server, station, address } => {
            warn!(step, %mac, name, %server, station = station.map(display), interface, %address,
                "another DHCP server, {server}, gives {address} to {mac} on {interface}, where this server gives the addresses: {instead}");
        }
        OtherServer::TooMany { server, station, most } => {
            let sender = station.map_or_else(|| server.to_string(), |station| format!("station {station}"));
            warn!(step, %server, station = station.map(display), interface,
                "{sender} on {interface} has had {most} lines within an hour as another DHCP server, most recently as {server}, and gets no more within this hour. It sends NAKs to many machines, or invents servers: look for its MAC in the switches' tables");
        }
    }
}

/// The steps that are neither a machine's nor another server's answer.
pub(super) fn write_network(whose: &Whose<'_>, what: &Step) {
    let Whose { step, by, interface, .. } = *whose;
    let (mac, name) = (whose.mac(), whose.known_name());
    match what {
        Step::OtherFile { server, station, file } => warn!(
            step, by, %mac, name, %server, station = station.map(display), interface, file,
            "another DHCP server, {server}, names the boot file {file} for {mac}, and the machine takes one of two: take options 66 and 67 (next-server, filename) out of that server's configuration"
        ),
        Step::ReplySource { relay, asked, from, is_first: true } => warn!(
            step, by, %mac, name, interface, %relay, %asked, %from,
            "relay {relay} sends requests to {asked}, and answers leave from {from}: a relay or a firewall that takes answers from {asked} only drops them; have the relay send to {from}"
        ),
        Step::ReplySource { relay, asked, from, .. } => debug!(
            step, by, %mac, name, interface, %relay, %asked, %from,
            "relay {relay} asks {asked}, and the answer leaves from {from}"
        ),
        Step::Switch(frame) => write_switch(whose, frame),
        _ => {}
    }
}

fn write_switch(whose: &Whose<'_>, frame: &SwitchFrame) {
    let Whose { step, by, interface, .. } = *whose;
    match frame {
        SwitchFrame::Tree { station, version, forward_delay, .. } => info!(
            step, by, %station, interface, version, forward_delay,
            "the switch port at {interface} ({station}) takes part in a spanning tree: a machine's port that is no edge port (PortFast) drops what is sent in the first {} s after each link-up",
            2 * forward_delay
        ),
        SwitchFrame::Lldp { station, switch, port } => info!(
            step, by, %station, interface, switch, port, "{interface} is connected to {switch}, port {port} ({station})"
        ),
    }
}
