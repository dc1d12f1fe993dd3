//! `dhcp-range`, and the options of dnsmasq.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::super::clients::{Clients, place_option};
use super::super::options::{self, Kind, Value};
use super::super::setup::{DhcpOption, Subnet, list, quoted, time};
use super::Import;
use super::lines::Line;
use super::tags::split;

/// dnsmasq's lease time where none is said, in seconds.
const LEASE: u64 = 3600;
/// The longest that xpxe has.
const LONGEST: u64 = 365 * 86_400;

impl Import<'_> {
    pub(super) fn ranges(&mut self, line: &Line) {
        if line.key != "dhcp-range" {
            return;
        }
        let words = line.words();
        let (mut set, mut interface, mut rest) = (Vec::new(), None, Vec::new());
        for word in words {
            if let Some(tag) = word.strip_prefix("set:").or_else(|| word.strip_prefix("net:")) {
                set.push(tag);
            } else if let Some(name) = word.strip_prefix("interface:") {
                interface = Some(name.to_owned());
            } else if word.starts_with("tag:") {
                let why = "the range is for all machines of its subnet; xpxe chooses no range by tag";
                self.setup.left(&line.place, line.text(), why);
            } else {
                rest.push(word);
            }
        }
        if let Some(name) = &interface
            && !self.interfaces.iter().any(|(other, _)| other == name)
        {
            self.interfaces.push((name.clone(), line.place.clone()));
        }
        let is_ipv6 = rest.iter().any(|word| word.contains("::") || word.starts_with("constructor"));
        let Some(low) = rest.first().and_then(|word| word.parse::<Ipv4Addr>().ok()) else {
            match is_ipv6 {
                true => self.setup.left(&line.place, line.text(), "xpxe serves IPv4"),
                false => self
                    .setup
                    .bad(&line.place, format!("{} does not begin with an IPv4 address", line.text())),
            }
            return;
        };
        let mut addresses = Vec::new();
        let (mut lease, mut is_static) = (LEASE, false);
        for word in rest.iter().skip(1) {
            match word.parse::<Ipv4Addr>() {
                Ok(address) => addresses.push(address),
                Err(_) if *word == "proxy" => {
                    self.is_proxy = true;
                    return;
                }
                Err(_) if *word == "static" => is_static = true,
                Err(_) => match seconds(word) {
                    Some(seconds) => lease = seconds,
                    None => {
                        self.setup
                            .bad(&line.place, format!("{word:?} is neither an address nor a lease time"));
                        return;
                    }
                },
            }
        }
        let is_mask = |address: &Ipv4Addr| {
            u32::from(*address).leading_ones() >= 8
                && u32::from(*address).count_zeros() == u32::from(*address).trailing_zeros()
        };
        let high = addresses.first().copied().filter(|address| !is_mask(address)).unwrap_or(low);
        let mask = addresses.iter().find(|address| is_mask(address));
        let (cidr, note) = match mask {
            Some(mask) => (Ipv4Net::with_netmask(low, *mask).unwrap_or(Ipv4Net::from(low)), None),
            None => self.guessed(low, high),
        };
        let at = self.setup.subnets.iter().position(|subnet| subnet.cidr.contains(&low));
        let at = at.unwrap_or_else(|| {
            self.setup.subnets.push(Subnet::new(cidr, line.place.clone()));
            self.of_interface.push(interface.clone());
            self.setup.subnets.len() - 1
        });
        let Some(subnet) = self.setup.subnets.get_mut(at) else { return };
        if let Some(note) = note {
            subnet.table.text("cidr", &subnet.cidr.to_string(), Some(&line.place)).note = Some(note);
        }
        if !is_static {
            subnet.range(low, high, &line.place);
        }
        let lease = lease.clamp(60, LONGEST);
        subnet.table.text("lease", &time(lease), Some(&line.place));
        let key = subnet.table.text("boot_lease", &time(lease), Some(&line.place));
        key.note = Some("as dnsmasq does; without this line firmware has its address for 5m".to_owned());
        for tag in set {
            self.tags.set(tag, Clients { subnet: Some(at), ..Clients::default() });
        }
    }

    /// The network of a range whose mask is that of the interface, and how it is known.
    fn guessed(&self, low: Ipv4Addr, high: Ipv4Addr) -> (Ipv4Net, Option<String>) {
        let holds = |net: &Ipv4Net| net.contains(&low) && net.contains(&high);
        if let Some((_, net)) = self.addresses.iter().find(|(_, net)| holds(net)) {
            return (net.trunc(), None);
        }
        let net = (8..=24).rev().filter_map(|length| Ipv4Net::new(low, length).ok()).find(holds);
        let note = "CHECK: the file has no mask, dnsmasq takes that of its interface; import with --address ADDRESS/PREFIX of \
                    dnsmasq's host, or correct it";
        (net.unwrap_or(Ipv4Net::from(low)).trunc(), Some(note.to_owned()))
    }

    pub(super) fn options(&mut self, lines: &[Line]) {
        for line in lines {
            match line.key.as_str() {
                "dhcp-option" => self.option(line, false),
                "dhcp-option-force" => self.option(line, true),
                _ => {}
            }
        }
    }

    fn option(&mut self, line: &Line, always: bool) {
        let words = line.words();
        let (tags, rest) = split(&words);
        let Some((name, values)) = rest.split_first() else {
            self.setup.bad(&line.place, format!("{} names no option", line.text()));
            return;
        };
        if name.starts_with("option6:") {
            self.setup.left(&line.place, line.text(), "xpxe serves IPv4");
            return;
        }
        if ["encap:", "vi-encap:", "vendor:", "vi-vendor:"].iter().any(|prefix| name.starts_with(prefix)) {
            let why = "write the whole option as bytes: { code = 43, hex = \"…\" }";
            self.setup.left(&line.place, line.text(), why);
            return;
        }
        let known = match name.strip_prefix("option:") {
            Some(name) => options::by_name(name),
            None => name.parse().ok().map(|code| (code, options::kind(code))),
        };
        let Some((code, kind)) = known else {
            let why = "xpxe does not know this name of an option; write its number";
            self.setup.left(&line.place, line.text(), why);
            return;
        };
        let clients = match self.tags.with(tags) {
            Ok(clients) => clients,
            Err(why) => return self.setup.left(&line.place, line.text(), why),
        };
        let value = match self.value(kind, values) {
            Ok(value) => value,
            Err(why) => return self.setup.bad(&line.place, format!("{}: {why}", line.text())),
        };
        let Some(value) = value else {
            let why = "0.0.0.0 is dnsmasq's own address; import with --address ADDRESS/PREFIX of its host";
            return self.setup.left(&line.place, line.text(), why);
        };
        for clients in clients {
            let option =
                DhcpOption { code, value: value.clone(), always, client: None, place: line.place.clone() };
            self.put(&clients, option, line);
        }
    }

    /// None if it is dnsmasq's own address, and that is not known.
    fn value(&self, kind: Kind, values: &[&str]) -> Result<Option<Value>, String> {
        if values.is_empty() || values == [""] {
            return Ok(Some(if kind == Kind::Ip { Value::Ip(Vec::new()) } else { Value::Hex(Vec::new()) }));
        }
        let value = options::value(kind, values)?;
        if let Value::Ip(list) = &value
            && list.iter().any(Ipv4Addr::is_unspecified)
        {
            let Some((_, own)) = self.addresses.first() else { return Ok(None) };
            let own = |ip: &Ipv4Addr| if ip.is_unspecified() { own.addr() } else { *ip };
            return Ok(Some(Value::Ip(list.iter().map(own).collect())));
        }
        Ok(Some(value))
    }

    /// Router, DNS and domain have keys of their own in a subnet.
    fn put(&mut self, clients: &Clients, option: DhcpOption, line: &Line) {
        let is_of_subnets =
            *clients == Clients { subnet: clients.subnet, ..Clients::default() } && !option.always;
        let key = match (&option.value, option.code) {
            (Value::Ip(list), 3) if list.len() == 1 => {
                Some(("router", quoted(&list.iter().map(ToString::to_string).collect::<String>())))
            }
            (Value::Ip(addresses), 6) if !addresses.is_empty() => {
                let addresses: Vec<String> = addresses.iter().map(|ip| quoted(&ip.to_string())).collect();
                Some(("dns", list(&addresses)))
            }
            (Value::Text(domain), 15) => Some(("domain", quoted(domain))),
            _ => None,
        };
        let Some((key, value)) = key.filter(|_| is_of_subnets && !self.setup.subnets.is_empty()) else {
            place_option(&mut self.setup, clients, option, &line.text(), false);
            return;
        };
        let router = match &option.value {
            Value::Ip(list) => list.first().copied().filter(|_| key == "router"),
            _ => None,
        };
        let mut is_left = true;
        for (at, subnet) in self.setup.subnets.iter_mut().enumerate() {
            if clients.subnet.is_some_and(|wanted| wanted != at) {
                continue;
            }
            // A router outside of the subnet is an option as any other.
            if router.is_some_and(|router| !subnet.cidr.contains(&router)) {
                if let Some(cidr) = subnet.table.get("cidr").filter(|key| key.note.is_some()).cloned()
                    && let Some(router) = router
                {
                    let wider =
                        (8..=24).rev().filter_map(|length| Ipv4Net::new(subnet.cidr.addr(), length).ok());
                    if let Some(wider) = wider.into_iter().find(|net| net.contains(&router)) {
                        subnet.cidr = wider.trunc();
                        let text = subnet.cidr.to_string();
                        subnet.table.text("cidr", &text, cidr.place.as_ref()).note = cidr.note;
                        subnet.table.set(key, value.clone(), Some(&line.place));
                        is_left = false;
                        continue;
                    }
                }
                subnet.table.option(option.clone());
            } else {
                subnet.table.set(key, value.clone(), Some(&line.place));
            }
            is_left = false;
        }
        if is_left {
            self.setup.left(&line.place, line.text(), "there is no subnet for it");
        }
    }
}

/// `10m`, `1h`, `3600`, `infinite`.
pub(super) fn seconds(text: &str) -> Option<u64> {
    if text == "infinite" {
        return Some(LONGEST);
    }
    let unit = text.bytes().next_back()?;
    let (number, factor) = match unit {
        b'0'..=b'9' => (text, 1),
        b's' => (text.strip_suffix('s')?, 1),
        b'm' | b'M' => (text.get(..text.len() - 1)?, 60),
        b'h' | b'H' => (text.get(..text.len() - 1)?, 3600),
        b'd' | b'D' => (text.get(..text.len() - 1)?, 86_400),
        b'w' | b'W' => (text.get(..text.len() - 1)?, 604_800),
        _ => return None,
    };
    // dnsmasq gives no shorter lease than two minutes.
    number.parse::<u64>().ok()?.checked_mul(factor).map(|seconds| seconds.max(120))
}
