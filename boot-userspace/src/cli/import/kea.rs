//! Kea's configuration of DHCPv4: JSON with comments.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;

use boot_common::Mac;
use ipnet::Ipv4Net;

use super::clients::{BootRule, Clients, place_boot_files, place_option};
use super::dhcpd::kea_test;
use super::options::{self, Kind, Value};
use super::setup::{DhcpOption, Place, Setup, Subnet, Table, list, quoted, time};
use super::tree::{self, Node};

struct Import<'a> {
    setup: Setup,
    file: String,
    addresses: &'a [(String, Ipv4Net)],
    rules: Vec<BootRule>,
    /// Classes by name: the clients.
    classes: BTreeMap<String, Vec<Clients>>,
}

/// Reads a file.
///
/// # Errors
/// The file that cannot be read.
pub(super) fn import(path: &Path, addresses: &[(String, Ipv4Net)]) -> Result<Setup, String> {
    let file = path.display().to_string();
    let mut setup = Setup::new();
    let text = setup.read(path)?;
    let mut import = Import { setup, file, addresses, rules: Vec::new(), classes: BTreeMap::new() };
    match tree::json(&text, &import.file) {
        Err(bad) => import.setup.bad.push(bad),
        Ok(node) => match node.get("Dhcp4") {
            Some(server) => {
                for (key, other) in node.pairs().iter().filter(|(key, _)| key != "Dhcp4") {
                    import.left(other, key, "is not of Kea's DHCPv4 server");
                }
                import.server(server);
            }
            None => {
                let place = Place::new(&import.file, node.line);
                import.setup.bad(&place, "has no Dhcp4");
            }
        },
    }
    Ok(import.setup)
}

impl Import<'_> {
    fn place(&self, node: &Node) -> Place {
        Place::new(&self.file, node.line)
    }

    fn left(&mut self, node: &Node, key: &str, why: impl Into<String>) {
        let place = self.place(node);
        self.setup.left(&place, format!("{key}: {node}"), why);
    }

    fn server(&mut self, server: &Node) {
        let interfaces = server.get("interfaces-config");
        for name in interfaces.map(|config| config.texts("interfaces")).unwrap_or_default() {
            let place = interfaces.map(|node| self.place(node));
            match (name, name.split_once('/')) {
                ("*", _) => {
                    if let Some(node) = interfaces {
                        self.left(node, "interfaces", "name each interface in an [[interface]] of its own");
                    }
                }
                (_, Some((name, _))) | (name, None) => self.setup.interface(name, "server", place.as_ref()),
            }
        }
        self.classes(server);
        for subnet in server.get("subnet4").map(Node::items).unwrap_or_default() {
            self.subnet(subnet, server);
        }
        for network in server.get("shared-networks").map(Node::items).unwrap_or_default() {
            let why = "its subnets are carried over; in xpxe a machine gets an address of the subnet of its interface or relay";
            self.left(network, "shared-networks", why);
            for subnet in network.get("subnet4").map(Node::items).unwrap_or_default() {
                self.subnet(subnet, server);
            }
        }
        for machine in server.get("reservations").map(Node::items).unwrap_or_default() {
            self.machine(machine);
        }
        self.class_contents(server);
        // What is said for everybody is for those who have nothing of their own.
        self.options(server, &Clients::default(), true);
        self.boot_file(server, &Clients::default(), server);
        let rules = std::mem::take(&mut self.rules);
        place_boot_files(&mut self.setup, rules);
        self.setup.note(
            "Kea is no TFTP server: copy the root of the one beside it into boot_dir. Its leases: xpxe leases import \
             /var/lib/kea/kea-leases4.csv",
        );
        let taken = [
            "interfaces-config",
            "client-classes",
            "subnet4",
            "shared-networks",
            "reservations",
            "option-data",
            "boot-file-name",
            "next-server",
            "valid-lifetime",
            "authoritative",
            "comment",
            "user-context",
        ];
        for (key, node) in server.pairs().iter().filter(|(key, _)| !taken.contains(&key.as_str())) {
            let why = match key.as_str() {
                "lease-database" | "hosts-database" | "hosts-databases" => {
                    "xpxe has its own store in state_dir; machines are in the configuration"
                }
                "max-valid-lifetime" | "min-valid-lifetime" | "renew-timer" | "rebind-timer" => {
                    "xpxe gives every client the lease of its [[subnet]], and half and 7/8 of it as the times for renewal"
                }
                "hooks-libraries" => "xpxe loads no libraries",
                "control-socket" | "control-sockets" => {
                    "xpxe is asked and told on its socket (xpxe leases) and by xpxe reload"
                }
                "loggers" => "xpxe logs to standard error, where systemd's journal has it",
                "option-def" => "xpxe has options by number",
                key if key.starts_with("ddns") || key == "dhcp-ddns" => "xpxe changes no DNS",
                _ => "xpxe has nothing like it",
            };
            self.left(node, key, why);
        }
    }

    /// Which clients each class is for.
    fn classes(&mut self, server: &Node) {
        for class in server.get("client-classes").map(Node::items).unwrap_or_default() {
            let name = class.text_of("name").unwrap_or_default().to_owned();
            let found = class.text_of("test").map(kea_test);
            match found {
                Some(Ok((yes, _))) => drop(self.classes.insert(name, yes)),
                Some(Err(why)) => self.left(class, "client-classes", why),
                None => self.left(class, "client-classes", "has no test"),
            }
        }
    }

    fn class_contents(&mut self, server: &Node) {
        // Of several classes with a boot file, Kea takes the first one.
        for class in server.get("client-classes").map(Node::items).unwrap_or_default() {
            let name = class.text_of("name").unwrap_or_default();
            for clients in self.classes.get(name).cloned().unwrap_or_default() {
                self.options(class, &clients, false);
                self.boot_file(class, &clients, server);
            }
            self.others(
                class,
                "client-classes",
                &["name", "test", "option-data", "boot-file-name", "next-server"],
            );
        }
    }

    fn subnet(&mut self, node: &Node, server: &Node) {
        let place = self.place(node);
        let Some(Ok(cidr)) = node.text_of("subnet").map(str::parse::<Ipv4Net>) else {
            return self.setup.bad(&place, "a subnet4 without a network such as 10.1.0.0/16");
        };
        let mut subnet = Subnet::new(cidr, place.clone());
        let mut bad = Vec::new();
        for pool in node.get("pools").map(Node::items).unwrap_or_default() {
            let place = self.place(pool);
            let text = pool.text_of("pool").unwrap_or_default();
            let range: Option<(Ipv4Addr, Ipv4Addr)> = match text.split_once('-') {
                Some((low, high)) => low.trim().parse().ok().zip(high.trim().parse().ok()),
                None => text.parse::<Ipv4Net>().ok().map(|net| (net.network(), net.broadcast())),
            };
            match range {
                Some((low, high)) => subnet.range(low, high, &place),
                None => bad.push((place, format!("{text:?} is no pool"))),
            }
        }
        for (place, why) in bad {
            self.setup.bad(&place, why);
        }
        let lease = node.text_of("valid-lifetime").or_else(|| server.text_of("valid-lifetime"));
        let lease =
            time(lease.and_then(|text| text.parse::<u64>().ok()).unwrap_or(7200).clamp(60, 365 * 86_400));
        subnet.table.text("lease", &lease, Some(&place));
        subnet.table.text("boot_lease", &lease, Some(&place)).note =
            Some("as Kea does; without this line firmware has its address for 5m".to_owned());
        let is_authoritative = node.text_of("authoritative").or_else(|| server.text_of("authoritative"));
        if is_authoritative == Some("true") {
            subnet.table.set("authoritative", "true".to_owned(), Some(&place));
        }
        if let Some(name) = node.text_of("interface") {
            self.setup.interface(name, "server", Some(&place));
        }
        self.setup.subnets.push(subnet);
        let clients = Clients { subnet: Some(self.setup.subnets.len() - 1), ..Clients::default() };
        self.options(node, &clients, false);
        self.boot_file(node, &clients, server);
        for machine in node.get("reservations").map(Node::items).unwrap_or_default() {
            self.machine(machine);
        }
        let taken = [
            "id",
            "subnet",
            "pools",
            "option-data",
            "reservations",
            "valid-lifetime",
            "authoritative",
            "interface",
            "boot-file-name",
            "next-server",
        ];
        self.others(node, "subnet4", &taken);
        for pool in node.get("pools").map(Node::items).unwrap_or_default() {
            self.others(pool, "pools", &["pool"]);
        }
    }

    fn machine(&mut self, node: &Node) {
        let place = self.place(node);
        let mut machine = Table::new("[[machine]]", Some(place.clone()));
        let Some(mac) = node.text_of("hw-address") else {
            return self.left(
                node,
                "reservations",
                "has no hw-address; write a [[machine]] with mac, uuid or relay_port",
            );
        };
        let Ok(mac) = mac.parse::<Mac>() else {
            return self.setup.bad(&place, format!("{mac:?} is no MAC address"));
        };
        machine.text("mac", &mac.to_string(), Some(&place));
        if let Some(name) = node.text_of("hostname") {
            self.setup.machine_name(&mut machine, name, &place);
        }
        if let Some(address) = node.text_of("ip-address") {
            machine.text("ip", address, Some(&place));
        }
        self.setup.machines.push(machine);
        let clients = Clients { machine: Some(self.setup.machines.len() - 1), ..Clients::default() };
        self.options(node, &clients, false);
        self.boot_file(node, &clients, node);
        let taken = ["hw-address", "hostname", "ip-address", "option-data", "boot-file-name", "next-server"];
        self.others(node, "reservations", &taken);
    }

    /// Keys of a table that nothing has taken.
    fn others(&mut self, node: &Node, of: &str, taken: &[&str]) {
        let says_nothing = ["comment", "user-context"];
        for (key, value) in node.pairs() {
            if !taken.contains(&key.as_str()) && !says_nothing.contains(&key.as_str()) && !value.is_empty() {
                self.left(value, &format!("{of}.{key}"), "xpxe has nothing like it");
            }
        }
    }

    fn boot_file(&mut self, node: &Node, clients: &Clients, server: &Node) {
        let next = node.text_of("next-server").or_else(|| server.text_of("next-server"));
        let next = next.filter(|next| {
            *next != "0.0.0.0" && !self.addresses.iter().any(|(_, net)| net.addr().to_string() == **next)
        });
        let Some(file) = node.get("boot-file-name").filter(|file| file.text().is_some()) else {
            if let Some(own) = node.get("next-server").filter(|own| own.text() == next && next.is_some()) {
                self.left(own, "next-server", "no boot-file-name beside it: write both as options 66 and 67");
            }
            return;
        };
        self.rules.push(BootRule {
            clients: clients.clone(),
            file: file.text().unwrap_or_default().to_owned(),
            server: next.map(str::to_owned),
            place: self.place(file),
            what: format!("boot-file-name: {file}"),
        });
    }

    fn options(&mut self, node: &Node, clients: &Clients, is_general: bool) {
        for option in node.get("option-data").map(Node::items).unwrap_or_default() {
            let place = self.place(option);
            let known = match (option.text_of("code"), option.text_of("name")) {
                (Some(code), _) => code.parse().ok().map(|code| (code, options::kind(code))),
                (None, Some(name)) => options::by_name(name),
                (None, None) => None,
            };
            let Some((code, kind)) = known else {
                self.left(
                    option,
                    "option-data",
                    "xpxe does not know this name of an option; write its number",
                );
                continue;
            };
            if option.text_of("space").is_some_and(|space| space != "dhcp4") {
                self.left(
                    option,
                    "option-data",
                    "an option within another option; write the whole one as bytes",
                );
                continue;
            }
            let data = option.text_of("data").unwrap_or_default();
            let is_text = option.text_of("csv-format") != Some("false");
            let words: Vec<&str> = match kind {
                Kind::Text => vec![data],
                _ => data.split([',', ' ']).map(str::trim).filter(|word| !word.is_empty()).collect(),
            };
            let value = match is_text {
                true => options::value(kind, &words),
                false => options::hex(data).map(Value::Hex).ok_or_else(|| format!("{data:?} are no bytes")),
            };
            let value = match value {
                Ok(value) => value,
                Err(why) => {
                    self.setup.bad(&place, format!("option {code}: {why}"));
                    continue;
                }
            };
            let always = option.text_of("always-send") == Some("true");
            self.put(clients, DhcpOption { code, value, always, client: None, place }, is_general, option);
        }
    }

    /// Router, DNS and domain have keys of their own in a subnet.
    fn put(&mut self, clients: &Clients, option: DhcpOption, is_general: bool, node: &Node) {
        let key = match (&option.value, option.code) {
            (Value::Ip(routers), 3) if routers.len() == 1 => {
                Some(("router", quoted(&routers.iter().map(ToString::to_string).collect::<String>())))
            }
            (Value::Ip(servers), 6) => {
                let servers: Vec<String> = servers.iter().map(|ip| quoted(&ip.to_string())).collect();
                Some(("dns", list(&servers)))
            }
            (Value::Text(domain), 15) => Some(("domain", quoted(domain))),
            _ => None,
        };
        let is_of_subnets = *clients == Clients { subnet: clients.subnet, ..Clients::default() };
        let Some((key, value)) = key.filter(|_| is_of_subnets && !option.always) else {
            let what = format!("option-data: {node} (option {})", option.code);
            place_option(&mut self.setup, clients, option, &what, is_general);
            return;
        };
        for (at, subnet) in self.setup.subnets.iter_mut().enumerate() {
            if clients.subnet.is_none_or(|wanted| wanted == at)
                && !(is_general && subnet.table.get(key).is_some())
            {
                subnet.table.set(key, value.clone(), Some(&option.place));
            }
        }
    }
}
