//! `--check`: what the other server's statements give a list of clients, beside what the result gives them.
//!
//! The statements are looked at as they were read, before they were put into tables of xpxe's: the first that fits counts, as it
//! does there. What was lost or changed on the way shows.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};

use boot_common::Mac;
use boot_common::class::{Class, Firmware, Stage};
use boot_engine::boot::BootFile;
use boot_engine::config::{Config, Unknown};
use boot_engine::events::shown;
use boot_engine::machines::Machines;
use boot_engine::policy::Policy;
use ipnet::Ipv4Net;

use super::clients::BootRule;
use super::setup::{Setup, Table};

/// Kinds of clients: their name, their architecture, and whether they are iPXE.
const KINDS: [(&str, u16, bool); 9] = [
    ("BIOS", 0, false),
    ("UEFI ia32", 6, false),
    ("UEFI x86-64", 7, false),
    ("UEFI arm64", 11, false),
    ("HTTP Boot x86-64", 16, false),
    ("iPXE on BIOS", 0, true),
    ("iPXE on UEFI ia32", 6, true),
    ("iPXE on UEFI x86-64", 7, true),
    ("iPXE on UEFI arm64", 11, true),
];
/// The card of a client that no statement names.
const NOBODY: Mac = Mac([0x02, 0xff, 0xff, 0xff, 0xff, 0xfe]);
/// How many clients of one difference are named.
const NAMED: usize = 3;

/// What the other server has, before it becomes a configuration.
#[derive(Debug)]
pub(super) struct Theirs {
    hosts: Vec<Host>,
    subnets: Vec<Ipv4Net>,
    /// None: it says nothing of boot files, because another server gives them.
    rules: Option<Vec<BootRule>>,
    ignores_unknown: bool,
}

#[derive(Debug)]
struct Host {
    called: String,
    mac: Mac,
    address: Option<Ipv4Addr>,
    /// Its number among the machines.
    machine: Option<usize>,
    /// The number of its subnet.
    subnet: Option<usize>,
}

impl Theirs {
    /// `is_dhcp`: it gives addresses and boot files itself.
    pub(super) fn of(setup: &Setup, is_dhcp: bool) -> Self {
        let subnets: Vec<Ipv4Net> = setup.subnets.iter().map(|subnet| subnet.cidr).collect();
        let host = |(number, table): (usize, &Table)| {
            let text = |key: &str| table.get(key).map(|key| key.value.trim_matches('"').to_owned());
            let first = text("mac")?;
            let mac: Mac = first.trim_start_matches(['[', '"']).split('"').next()?.parse().ok()?;
            let address: Option<Ipv4Addr> = text("ip").and_then(|ip| ip.parse().ok());
            let subnet = address.and_then(|ip| subnets.iter().position(|net| net.contains(&ip)));
            let called = text("name").unwrap_or_else(|| mac.to_string());
            Some(Host { called, mac, address, machine: Some(number), subnet })
        };
        let mut hosts: Vec<Host> = setup.machines.iter().enumerate().filter_map(host).collect();
        let places: Vec<Option<usize>> = match subnets.len() {
            0 => vec![None],
            many => (0..many).map(Some).collect(),
        };
        for subnet in places {
            let place = subnet.and_then(|at| subnets.get(at)).map(|net| format!(" in {net}"));
            let called = format!("an unknown machine{}", place.unwrap_or_default());
            hosts.push(Host { called, mac: NOBODY, address: None, machine: None, subnet });
        }
        let ignores_unknown = setup.default.get("unknown").is_some_and(|key| key.value == "\"ignore\"");
        Self { hosts, subnets, rules: is_dhcp.then(|| setup.rules.clone()), ignores_unknown }
    }

    /// The file that the first statement that fits gives.
    fn boot_file(&self, host: &Host, arch: u16, is_ipxe: bool) -> Option<&BootRule> {
        let fits = |rule: &&BootRule| {
            let clients = &rule.clients;
            clients.archs.as_ref().is_none_or(|archs| archs.contains(&arch))
                && !clients.not_archs.contains(&arch)
                && clients.ipxe.is_none_or(|ipxe| ipxe == is_ipxe)
                && clients.mac.as_ref().is_none_or(|start| host.mac.to_string().starts_with(start.as_str()))
                && clients.circuit_id.is_none()
                && clients.remote_id.is_none()
                && clients.subnet.is_none_or(|subnet| host.subnet == Some(subnet))
                && clients.machine.is_none_or(|machine| host.machine == Some(machine))
        };
        self.rules.iter().flatten().find(fits)
    }
}

/// Where both answers differ, by what they are: the clients.
#[derive(Debug, Default)]
pub(super) struct Compared {
    clients: usize,
    answers: usize,
    differences: BTreeMap<(String, String, String), Vec<String>>,
}

impl Compared {
    pub(super) fn is_same(&self) -> bool {
        self.differences.is_empty()
    }
}

impl fmt::Display for Compared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for ((what, theirs, ours), who) in &self.differences {
            let more = who.len().saturating_sub(NAMED);
            let named: Vec<&str> = who.iter().take(NAMED).map(String::as_str).collect();
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            writeln!(f, "{what} of {}{more}: there {theirs}, here {ours}", shown(&named.join(", ")))?;
        }
        let Self { clients, answers, differences } = self;
        write!(f, "compared {answers} answers to {clients} clients: {} differences", differences.len())
    }
}

/// Compares.
///
/// # Errors
/// The configuration cannot be served.
pub(super) fn compare(theirs: &Theirs, config: Config) -> Result<Compared, String> {
    let machines = Machines::new(config.machines.iter().cloned()).map_err(|error| error.to_string())?;
    let nothing = |_: Firmware| Err("xpxe's iPXE".to_owned());
    let ignores_unknown = config.default.unknown == Unknown::Ignore;
    let policy = Policy::new(config, machines, Vec::new(), nothing);
    let mut compared = Compared { clients: theirs.hosts.len(), ..Compared::default() };
    for host in &theirs.hosts {
        let mut note = |what: &str, theirs: String, ours: String| {
            compared.answers += 1;
            if theirs != ours {
                let key = (what.to_owned(), shown(&theirs), shown(&ours));
                compared.differences.entry(key).or_default().push(host.called.clone());
            }
        };
        let address = |address: Option<Ipv4Addr>| {
            address.map_or_else(|| "one of the pool".to_owned(), |address| address.to_string())
        };
        if host.machine.is_none() && (theirs.ignores_unknown || ignores_unknown) {
            let answer = |ignores| if ignores { "no answer" } else { "one" }.to_owned();
            note("the answer", answer(theirs.ignores_unknown), answer(ignores_unknown));
            continue;
        }
        note("the address", address(host.address), address(policy.reserved(host.mac)));
        if theirs.rules.is_none() {
            continue;
        }
        let differences = policy.differences(host.mac);
        let net = host.subnet.and_then(|at| theirs.subnets.get(at));
        let subnet = policy.subnets().iter().find(|subnet| Some(&subnet.cidr) == net);
        for (kind, arch, is_ipxe) in KINDS {
            let rule = theirs.boot_file(host, arch, is_ipxe);
            let stage = if is_ipxe { Stage::Ipxe } else { Stage::Rom };
            let class = Class { firmware: Firmware::from_arch(arch), stage };
            // iPXE gets xpxe's script where neither says anything of it alone; a script is what it was loaded for.
            let is_named_there = rule.is_some_and(|rule| rule.clients.ipxe == Some(true));
            if is_ipxe && !is_named_there && policy.boot_file_source(class, &differences, subnet).is_none() {
                continue;
            }
            let http = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 8080);
            let ours = match policy.boot_file(class, http, &differences, subnet) {
                Ok(Some(file)) => {
                    // Which address xpxe is to have is not known here.
                    BootFile::describe(&file).replace(&format!("http://{http}/"), "xpxe's /")
                }
                Ok(None) => "nothing".to_owned(),
                Err(instead) => instead,
            };
            note(
                &format!("the boot file for {kind}"),
                rule.map_or_else(|| "nothing".to_owned(), |rule| words(rule, is_ipxe, class)),
                ours,
            );
        }
    }
    Ok(compared)
}

fn words(BootRule { file, server, .. }: &BootRule, is_ipxe: bool, class: Class) -> String {
    let plain = file.trim_start_matches('/');
    match (server, file.contains("://")) {
        (_, true) => file.clone(),
        (Some(server), _) if is_ipxe => format!("tftp://{server}/{plain}"),
        (None, _) if is_ipxe => file.clone(),
        _ if class.firmware.is_http() => format!("a TFTP name, {plain}"),
        (Some(server), _) => format!("{plain} from {server}"),
        (None, _) => plain.to_owned(),
    }
}
