//! ISC dhcpd's configuration (dhcpd.conf(5)).

mod conditions;
mod statements;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;

use boot_common::Mac;
use ipnet::Ipv4Net;

use super::clients::{BootRule, Clients, all_of, place_boot_files, place_option};
use super::options::{self, Kind, Value};
use super::setup::{DhcpOption, Place, Setup, Subnet, Table, list, quoted, time};
pub(super) use conditions::kea as kea_test;
use statements::Statement;

/// What an outer block says for those within.
#[derive(Clone, Debug, Default)]
struct Scope {
    clients: Clients,
    next_server: Option<String>,
}

struct Import<'a> {
    setup: Setup,
    addresses: &'a [(String, Ipv4Net)],
    /// Boot files in the order in which they count.
    rules: Vec<BootRule>,
    /// Options that the file defines: number and kind by name.
    defined: BTreeMap<String, (u8, Kind)>,
    lease: Option<(u64, Place)>,
    is_authoritative: Option<Place>,
}

/// Reads a file and those that it includes.
///
/// # Errors
/// The file that cannot be read.
pub(super) fn import(path: &Path, addresses: &[(String, Ipv4Net)]) -> Result<Setup, String> {
    let mut setup = Setup::new();
    let statements = statements::read(path, &mut setup, 0)?;
    let (rules, defined) = (Vec::new(), BTreeMap::new());
    let mut import = Import { setup, addresses, rules, defined, lease: None, is_authoritative: None };
    import.define(&statements);
    import.subnets(&statements);
    import.block(&statements, &Scope::default());
    let rules = std::mem::take(&mut import.rules);
    place_boot_files(&mut import.setup, rules);
    import.setup.note(
        "dhcpd is no TFTP server: copy the root of the one beside it into boot_dir. Its leases: xpxe leases import \
         /var/lib/dhcp/dhcpd.leases",
    );
    import.setup.note(
        "xpxe tells each machine its name and, whatever it asks for, boot files only to firmware and iPXE; dhcpd tells its \
         filename to operating systems, too.",
    );
    Ok(import.finished())
}

impl Import<'_> {
    /// `option arch code 93 = unsigned integer 16;`
    fn define(&mut self, statements: &[Statement]) {
        for statement in statements {
            if let ["option", name, "code", code, "=", kind @ ..] = statement.texts().as_slice()
                && !name.contains('.')
                && let Ok(code) = code.parse()
            {
                let kind = match kind {
                    ["ip-address", ..] | ["array", "of", "ip-address"] => Kind::Ip,
                    ["text"] => Kind::Text,
                    ["boolean"] => Kind::Bool,
                    [.., "integer", "8"] => Kind::U8,
                    [.., "integer", "16"] => Kind::U16,
                    [.., "integer", "32"] => Kind::U32,
                    _ => Kind::Bytes,
                };
                self.defined.insert((*name).to_owned(), (code, kind));
            }
            self.define(statement.block.as_deref().unwrap_or_default());
        }
    }

    /// Every subnet, so that what stands outside finds them.
    fn subnets(&mut self, statements: &[Statement]) {
        for statement in statements {
            if let ["subnet", network, "netmask", mask] = statement.texts().as_slice() {
                let net = network.parse::<Ipv4Addr>().ok().zip(mask.parse::<Ipv4Addr>().ok());
                match net.and_then(|(network, mask)| Ipv4Net::with_netmask(network, mask).ok()) {
                    Some(net) => self.setup.subnets.push(Subnet::new(net, statement.place.clone())),
                    None => {
                        self.setup.bad(&statement.place, format!("{network} netmask {mask} is no network"));
                    }
                }
            }
            self.subnets(statement.block.as_deref().unwrap_or_default());
        }
    }

    fn block(&mut self, statements: &[Statement], scope: &Scope) {
        let mut scope = scope.clone();
        for statement in statements {
            if let ["next-server", server] = statement.texts().as_slice() {
                scope.next_server = self.another(server);
                if scope.next_server.is_some() && !has_file(statements) {
                    let why = "no filename beside it: write both as options 66 and 67";
                    self.setup.left(&statement.place, statement.text(), why);
                }
            }
        }
        // What is said for fewer clients counts first.
        let mut files = Vec::new();
        let mut otherwise: Option<Vec<Clients>> = None;
        for statement in statements {
            let texts = statement.texts();
            match texts.as_slice() {
                ["elsif" | "if", condition @ ..] | ["else", "if", condition @ ..] => {
                    let rest = match (texts.first(), otherwise.take()) {
                        (Some(&("elsif" | "else")), Some(rest)) => rest,
                        (Some(&("elsif" | "else")), None) => {
                            let why = "the condition before it is left out";
                            self.setup.left(&statement.place, statement.text(), why);
                            continue;
                        }
                        _ => vec![Clients::default()],
                    };
                    match self.condition(condition) {
                        Ok((yes, no)) => {
                            self.within(statement, &all_of(&rest, &yes), &scope);
                            otherwise = Some(all_of(&rest, &no));
                        }
                        Err(why) => self.setup.left(&statement.place, statement.text(), why),
                    }
                }
                ["else"] => match otherwise.take() {
                    Some(rest) => self.within(statement, &rest, &scope),
                    None => {
                        let why = "the condition before it is left out";
                        self.setup.left(&statement.place, statement.text(), why);
                    }
                },
                ["filename", file] => files.push((statement, (*file).to_owned())),
                _ => self.statement(statement, &scope),
            }
        }
        for (statement, file) in files {
            self.rules.push(BootRule {
                clients: scope.clients.clone(),
                file,
                server: scope.next_server.clone(),
                place: statement.place.clone(),
                what: statement.text(),
            });
        }
    }

    /// A condition, with the names of options as this file defines them.
    fn condition(&self, words: &[&str]) -> Result<(Vec<Clients>, Vec<Clients>), String> {
        let is_arch = |word: &&str| self.defined.get(*word).is_some_and(|(code, _)| *code == 93);
        let words: Vec<&str> =
            words.iter().map(|word| if is_arch(word) { "client-arch" } else { *word }).collect();
        conditions::dhcpd(&words)
    }

    /// A block that is for these clients of the scope.
    fn within(&mut self, statement: &Statement, clients: &[Clients], scope: &Scope) {
        let block = statement.block.as_deref().unwrap_or_default();
        let found = all_of(std::slice::from_ref(&scope.clients), clients);
        if found.is_empty() {
            self.setup.left(
                &statement.place,
                statement.text(),
                "no client fits this and what stands around it",
            );
        }
        for clients in found {
            self.block(block, &Scope { clients, ..scope.clone() });
        }
    }

    fn statement(&mut self, statement: &Statement, scope: &Scope) {
        let (place, text) = (&statement.place, statement.text());
        let texts = statement.texts();
        let block = statement.block.as_deref();
        match texts.as_slice() {
            ["subnet", network, ..] => {
                let at = self.setup.subnets.iter().position(|subnet| {
                    network.parse::<Ipv4Addr>().is_ok_and(|network| subnet.cidr.network() == network)
                });
                if at.is_some() {
                    let clients = Clients { subnet: at, ..scope.clients.clone() };
                    self.block(block.unwrap_or_default(), &Scope { clients, ..scope.clone() });
                }
            }
            ["shared-network", ..] => {
                self.setup.left(
                    place,
                    &text,
                    "its subnets are carried over; in xpxe a machine gets an address of the subnet of its interface or relay, \
                     and of the others only by a reservation",
                );
                self.block(block.unwrap_or_default(), scope);
            }
            ["group", ..] if block.is_some() => self.group(statement, scope),
            ["pool"] => self.block(block.unwrap_or_default(), scope),
            ["host", name] => self.host(statement, name, scope),
            ["class", name] => self.class(statement, name, scope),
            ["range", rest @ ..] => self.range(rest, statement, scope),
            ["option", name, "code", ..] if !name.contains('.') => {} // see define
            ["option", "space", ..] | ["option", _, "code", ..] => {
                self.setup.left(
                    place,
                    text,
                    "a definition of options within another option; xpxe needs none",
                );
            }
            ["option", name, value @ ..] => self.option(name, value, statement, scope),
            ["next-server", _] => {} // see block
            ["default-lease-time", seconds] => match seconds.parse::<u64>() {
                Ok(seconds) => match scope.clients.subnet.and_then(|at| self.setup.subnets.get_mut(at)) {
                    Some(subnet) => lease(&mut subnet.table, seconds, place),
                    None => self.lease = Some((seconds, place.clone())),
                },
                Err(_) => self.setup.bad(place, format!("{seconds:?} is no number of seconds")),
            },
            ["authoritative"] => match scope.clients.subnet.and_then(|at| self.setup.subnets.get_mut(at)) {
                Some(subnet) => drop(subnet.table.set("authoritative", "true".to_owned(), Some(place))),
                None => self.is_authoritative = Some(place.clone()),
            },
            ["ping-check", value] => {
                let probe = if ["true", "on"].contains(value) { "true" } else { "false" };
                let wanted = scope.clients.subnet;
                for (_, subnet) in self
                    .setup
                    .subnets
                    .iter_mut()
                    .enumerate()
                    .filter(|(at, _)| wanted.is_none_or(|wanted| wanted == *at))
                {
                    subnet.table.set("probe", probe.to_owned(), Some(place));
                }
            }
            ["deny" | "ignore", "unknown-clients"] | ["allow", "known-clients"] => {
                self.setup.default.text("unknown", "ignore", Some(place));
                if scope.clients.subnet.is_some() && self.setup.subnets.len() > 1 {
                    self.setup.left(
                        place,
                        text,
                        "carried over for all subnets: unknown = \"ignore\" in [default]",
                    );
                }
            }
            ["not", "authoritative"] | ["allow", "unknown-clients" | "booting" | "bootp"] => {} // xpxe's default
            _ => self.setup.left(place, text, why_not(texts.first().copied().unwrap_or_default())),
        }
    }

    fn group(&mut self, statement: &Statement, scope: &Scope) {
        let block = statement.block.as_deref().unwrap_or_default();
        let is_host = |inner: &&Statement| inner.texts().first() == Some(&"host");
        let (hosts, rest): (Vec<_>, Vec<_>) = block.iter().partition(|inner| is_host(inner));
        let rest: Vec<Statement> = rest.into_iter().cloned().collect();
        if hosts.is_empty() {
            return self.block(&rest, scope);
        }
        for host in hosts {
            let mut whole = host.clone();
            if let Some(block) = &mut whole.block {
                // What the host says itself comes later, and counts.
                let own = std::mem::take(block);
                block.extend(rest.iter().cloned().chain(own));
            }
            self.statement(&whole, scope);
        }
    }

    fn host(&mut self, statement: &Statement, name: &str, scope: &Scope) {
        let block = statement.block.as_deref().unwrap_or_default();
        let mut machine = Table::new("[[machine]]", Some(statement.place.clone()));
        let mut rest = Vec::new();
        let mut host_name = None;
        for inner in block {
            match inner.texts().as_slice() {
                ["hardware", "ethernet", mac] => match mac.parse::<Mac>() {
                    Ok(mac) => drop(machine.text("mac", &mac.to_string(), Some(&inner.place))),
                    Err(_) => self.setup.bad(&inner.place, format!("{mac:?} is no MAC address")),
                },
                ["fixed-address", address, more @ ..] => {
                    match address.parse::<Ipv4Addr>() {
                        Ok(address) => drop(machine.text("ip", &address.to_string(), Some(&inner.place))),
                        Err(_) => {
                            let why =
                                "a name in place of an address; write the address as ip in the [[machine]]";
                            self.setup.left(&inner.place, inner.text(), why);
                        }
                    }
                    if !more.is_empty() {
                        let why = "a machine has one reserved address; the first one is carried over";
                        self.setup.left(&inner.place, inner.text(), why);
                    }
                }
                ["option", "host-name", name] => host_name = Some(((*name).to_owned(), inner.place.clone())),
                _ => rest.push(inner.clone()),
            }
        }
        if machine.get("mac").is_none() {
            let why = "has no Ethernet address; write a [[machine]] with mac, uuid or relay_port";
            return self.setup.left(&statement.place, statement.text(), why);
        }
        let (name, place) = host_name.unwrap_or_else(|| (name.to_owned(), statement.place.clone()));
        self.setup.machine_name(&mut machine, &name, &place);
        machine.keys.sort_by_key(|key| ["mac", "name", "ip"].iter().position(|name| *name == key.name));
        let number = self.setup.machines.len();
        self.setup.machines.push(machine);
        // A host is for its machine in every subnet.
        let clients = Clients { machine: Some(number), ..Clients::default() };
        self.block(&rest, &Scope { clients, next_server: scope.next_server.clone() });
    }

    fn class(&mut self, statement: &Statement, name: &str, scope: &Scope) {
        let mut condition = None;
        let mut rest = Vec::new();
        for inner in statement.block.as_deref().unwrap_or_default() {
            match inner.texts().as_slice() {
                ["match", "if", words @ ..] => condition = Some(self.condition(words)),
                ["match", ..] | ["spawn", ..] | ["lease", "limit", ..] => {
                    self.setup.left(&inner.place, inner.text(), "xpxe has conditions in place of subclasses");
                }
                _ => rest.push(inner.clone()),
            }
        }
        match condition {
            Some(Ok((yes, _))) => {
                let inner = Statement { block: Some(rest), ..statement.clone() };
                self.within(&inner, &yes, scope);
            }
            Some(Err(why)) => self.setup.left(&statement.place, statement.text(), why),
            None if rest.is_empty() => {}
            None => self.setup.left(&statement.place, format!("class {name:?}"), "has no condition"),
        }
    }

    fn range(&mut self, words: &[&str], statement: &Statement, scope: &Scope) {
        let words: Vec<&str> = words.iter().copied().filter(|word| *word != "dynamic-bootp").collect();
        let parsed: Option<Vec<Ipv4Addr>> = words.iter().map(|word| word.parse().ok()).collect();
        let subnet = scope.clients.subnet.and_then(|at| self.setup.subnets.get_mut(at));
        match (parsed.as_deref(), subnet) {
            (Some([low]), Some(subnet)) => subnet.range(*low, *low, &statement.place),
            (Some([low, high]), Some(subnet)) => subnet.range(*low, *high, &statement.place),
            (_, None) => self.setup.bad(&statement.place, "a range that is in no subnet"),
            _ => self.setup.bad(&statement.place, format!("{} has no two addresses", statement.text())),
        }
    }

    fn option(&mut self, name: &str, value: &[&str], statement: &Statement, scope: &Scope) {
        let (place, text) = (&statement.place, statement.text());
        let known = self.defined.get(name).copied().or_else(|| options::by_name(name));
        let known = known.or_else(|| {
            let code =
                name.strip_prefix("option-").or_else(|| name.strip_prefix("unknown-"))?.parse().ok()?;
            Some((code, Kind::Any))
        });
        let Some((code, kind)) = known else {
            let why = match name.contains('.') {
                true => {
                    "an option within another option; write the whole one as bytes: { code = 43, hex = \"…\" }"
                }
                false => "xpxe does not know this name of an option; write its number",
            };
            return self.setup.left(place, text, why);
        };
        let words: Vec<&str> = value.iter().copied().filter(|word| *word != ",").collect();
        let value = match options::value(kind, &words) {
            Ok(value) => value,
            Err(_) if kind == Kind::Ip => {
                let why = "a name in place of an address; write the address";
                return self.setup.left(place, text, why);
            }
            Err(why) => return self.setup.bad(place, format!("{text}: {why}")),
        };
        let is_of_subnets = scope.clients == Clients { subnet: scope.clients.subnet, ..Clients::default() };
        let key = match &value {
            Value::Ip(list) if code == 3 && list.len() == 1 => {
                Some(("router", quoted(&list.iter().map(ToString::to_string).collect::<String>())))
            }
            Value::Ip(addresses) if code == 6 => {
                let addresses: Vec<String> = addresses.iter().map(|ip| quoted(&ip.to_string())).collect();
                Some(("dns", list(&addresses)))
            }
            Value::Text(domain) if code == 15 => Some(("domain", quoted(domain))),
            _ => None,
        };
        let mask = |subnet: &Subnet| Value::Ip(vec![subnet.cidr.netmask()]) == value;
        let edge = |subnet: &Subnet| Value::Ip(vec![subnet.cidr.broadcast()]) == value;
        let own = scope.clients.subnet.and_then(|at| self.setup.subnets.get(at));
        if code == 1 && own.is_some_and(mask) || code == 28 && own.is_some_and(edge) {
            return; // follows from cidr
        }
        let Some((key, toml)) = key.filter(|_| is_of_subnets) else {
            let option = DhcpOption { code, value, always: false, client: None, place: place.clone() };
            // What is said outside of the subnets is said for those that say nothing.
            let is_general = scope.clients == Clients::default();
            place_option(&mut self.setup, &scope.clients, option, &text, is_general);
            return;
        };
        let wanted = scope.clients.subnet;
        for (at, subnet) in self.setup.subnets.iter_mut().enumerate() {
            let is_free = subnet.table.get(key).is_none();
            if wanted == Some(at) || wanted.is_none() && is_free {
                subnet.table.set(key, toml.clone(), Some(place));
            }
        }
    }

    fn another(&self, server: &str) -> Option<String> {
        let is_own = self.addresses.iter().any(|(_, net)| net.addr().to_string() == server);
        (!is_own).then(|| server.to_owned())
    }

    fn finished(mut self) -> Setup {
        for subnet in &mut self.setup.subnets {
            if let Some(place) = &self.is_authoritative {
                subnet.table.set("authoritative", "true".to_owned(), Some(place));
            }
            if subnet.table.get("lease").is_none() {
                match &self.lease {
                    Some((seconds, place)) => lease(&mut subnet.table, *seconds, place),
                    None => {
                        subnet.table.text("lease", "12h", None).note =
                            Some("dhcpd's where nothing else is said".to_owned());
                    }
                }
            }
        }
        self.setup
    }
}

fn has_file(statements: &[Statement]) -> bool {
    let is_file = |statement: &Statement| statement.texts().first() == Some(&"filename");
    statements
        .iter()
        .any(|statement| is_file(statement) || has_file(statement.block.as_deref().unwrap_or_default()))
}

fn lease(table: &mut Table, seconds: u64, place: &Place) {
    let seconds = time(seconds.clamp(60, 365 * 86_400));
    table.text("lease", &seconds, Some(place));
    table.text("boot_lease", &seconds, Some(place)).note =
        Some("as dhcpd does; without this line firmware has its address for 5m".to_owned());
}

fn why_not(word: &str) -> &'static str {
    match word {
        "max-lease-time" | "min-lease-time" => "xpxe gives every client the lease of its [[subnet]]",
        "ddns-update-style"
        | "ddns-updates"
        | "ddns-domainname"
        | "ddns-rev-domainname"
        | "zone"
        | "key"
        | "update-static-leases"
        | "update-optimization"
        | "use-host-decl-names"
        | "do-forward-updates"
        | "ignore"
        | "client-updates" => "xpxe changes no DNS",
        "failover" => "xpxe has no failover; the kernel half answers while the daemon restarts",
        "log-facility"
        | "local-port"
        | "local-address"
        | "pid-file-name"
        | "lease-file-name"
        | "server-name"
        | "one-lease-per-client"
        | "get-lease-hostnames"
        | "db-time-format" => "is of dhcpd's process; xpxe needs nothing like it",
        "omapi-port" | "omapi-key" => "xpxe is asked and told on its socket (xpxe leases) and by xpxe reload",
        "subclass" => "xpxe has conditions in place of subclasses",
        "subnet6" | "range6" | "prefix6" => "xpxe serves IPv4",
        "server-identifier" => "the server's identifier is the address of its interface",
        "on" | "execute" | "log" | "set" => "xpxe runs no statements",
        _ => "xpxe has nothing like it",
    }
}
