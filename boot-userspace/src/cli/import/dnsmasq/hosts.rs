//! `dhcp-host`

use std::net::Ipv4Addr;

use boot_common::Mac;

use super::super::clients::Clients;
use super::super::setup::{Table, list, quoted};
use super::Import;
use super::lines::Line;
use super::ranges::seconds;

impl Import<'_> {
    pub(super) fn host(&mut self, line: &Line) {
        if line.key != "dhcp-host" {
            return;
        }
        let (place, text) = (&line.place, line.text());
        let (mut macs, mut tags, mut address, mut name) = (Vec::<Mac>::new(), Vec::new(), None, None);
        // What does not keep the machine from being carried over.
        let mut notes = Vec::new();
        for word in line.words() {
            if let Some(tag) = word.strip_prefix("set:").or_else(|| word.strip_prefix("net:")) {
                tags.push(tag.to_owned());
            } else if let Some(mac) = mac(word) {
                macs.push(mac);
            } else if let Ok(found) = word.parse::<Ipv4Addr>() {
                address = Some(found);
            } else if word == "ignore" {
                let why =
                    "xpxe answers this machine like others; it can only ignore all unknown machines together";
                return self.setup.left(place, text, why);
            } else if word.starts_with("id:") || word.starts_with("tag:") {
                notes.push(format!("{word}: xpxe knows machines by MAC address, UUID or switch port"));
            } else if word.starts_with('[') || word.contains("::") {
                notes.push(format!("{word}: xpxe serves IPv4"));
            } else if word.contains('*') {
                return self.setup.left(
                    place,
                    text,
                    "write a [[group]] with the first bytes of the MAC address",
                );
            } else if word == "infinite"
                || word.bytes().next().is_some_and(|b| b.is_ascii_digit()) && seconds(word).is_some()
            {
                notes.push(format!("{word}: the lease time is that of the [[subnet]]"));
            } else if word.contains(':') {
                return self.setup.bad(place, format!("{word:?} is neither a MAC address nor an IP address"));
            } else if !word.is_empty() {
                name = Some(word.to_owned());
            }
        }
        if macs.is_empty() {
            return self.setup.left(place, text, "has no MAC address; write one of mac, uuid and relay_port");
        }
        for why in notes {
            self.setup.left(place, &text, why + "; the rest is carried over");
        }
        let mut machine = Table::new("[[machine]]", Some(place.clone()));
        let quoted_macs: Vec<String> = macs.iter().map(|mac| quoted(&mac.to_string())).collect();
        let value = match quoted_macs.as_slice() {
            [one] => one.clone(),
            several => list(several),
        };
        machine.set("mac", value, Some(place));
        if let Some(name) = name {
            self.setup.machine_name(&mut machine, &name, place);
        }
        if let Some(address) = address {
            machine.text("ip", &address.to_string(), Some(place));
        }
        let number = self.setup.machines.len();
        self.setup.machines.push(machine);
        for tag in tags {
            self.tags.set(&tag, Clients { machine: Some(number), ..Clients::default() });
        }
    }
}

/// An Ethernet address, with or without the number of its kind of hardware.
fn mac(word: &str) -> Option<Mac> {
    if word.split([':', '-']).count() < 6 {
        return None;
    }
    word.parse().ok().or_else(|| word.strip_prefix("1-")?.parse().ok())
}
