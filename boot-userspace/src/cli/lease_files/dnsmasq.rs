//! `dnsmasq.leases`: one lease in each line.

use std::net::IpAddr;

use super::{Found, Lines, hardware};

/// `<expiry> <mac> <ip> <hostname|*> <client-id|*>` in each line.
pub(super) fn leases(text: &str) -> Lines {
    let mut lines = Lines::default();
    for (line, text) in (1..).zip(text.lines()) {
        let words: Vec<&str> = text.split_whitespace().collect();
        let (ends, mac, address, name) = match *words.as_slice() {
            // The server's own identifier stands before the leases of IPv6.
            [] | ["duid", ..] => continue,
            [ends, mac, address, name, ..] => (ends, mac, address, name),
            _ => {
                lines.bad(line, "not a line of dnsmasq.leases (expiry, MAC, address, name)".to_owned());
                continue;
            }
        };
        let Ok(ends) = ends.parse::<u64>() else {
            lines.bad(line, format!("{ends:?} is no time in Unix seconds"));
            continue;
        };
        let address = match address.parse() {
            Ok(IpAddr::V4(address)) => address,
            Ok(IpAddr::V6(address)) => {
                lines.skip(line, format!("{address} is IPv6"));
                continue;
            }
            Err(_) => {
                lines.bad(line, format!("{address:?} is no IP address"));
                continue;
            }
        };
        // Other kinds of hardware are written as 20-00:11:…
        let is_other = mac.split_once('-').is_some_and(|(kind, rest)| kind.len() == 2 && rest.contains(':'));
        if is_other {
            lines.skip(line, format!("{mac:?} is no Ethernet address"));
            continue;
        }
        let Some(mac) = hardware(mac, line, &mut lines) else { continue };
        let hostname = (name != "*").then(|| name.to_owned());
        lines.found.push(Found { line, mac, address, ends, hostname });
    }
    lines
}
