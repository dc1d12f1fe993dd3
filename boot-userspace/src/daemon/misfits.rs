//! Whether a configuration fits the host that it is for: its addresses and its interfaces.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::Ipv4Net;

use super::webhooks;
use boot_engine::config::{Config, DhcpRole, Interface, Machine, Subnet};

/// What does not fit.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Misfits {
    /// What would do harm.
    pub(crate) errors: Vec<String>,
    /// What does nothing.
    pub(crate) warnings: Vec<String>,
}

/// Compares a configuration with the IPv4 addresses of this host, each with its interface; none where it is for another
/// host.
pub(crate) fn misfits(config: &Config, addresses: &[(String, Ipv4Net)]) -> Misfits {
    let mut misfits = Misfits::default();
    let told = [config.http.advertise.map(|address| address.ip()), Some(config.http.listen.ip())];
    for machine in &config.machines {
        let Some(ip) = machine.ip else { continue };
        if let Some(why) = own_address(machine, addresses) {
            misfits.errors.push(format!("{} has {why}", called(machine)));
        } else if told.contains(&Some(IpAddr::V4(ip))) {
            misfits.errors.push(format!(
                "{} has ip = \"{ip}\", which is this server's own address in [http]; give it another one",
                called(machine)
            ));
        }
    }
    for webhook in &config.webhooks {
        let mut wrong: Vec<String> = webhooks::check_url(webhook).err().into_iter().collect();
        // Of another host nobody knows the files.
        if !addresses.is_empty() {
            wrong.extend(webhooks::wrong_files(webhook));
        }
        let named = |why: String| format!("[[webhook]] {}: {why}", webhook.name);
        misfits.errors.extend(wrong.into_iter().map(named));
    }
    unreachable_http(config, addresses, &mut misfits);
    without_server(config, &mut misfits);
    for interface in &config.interfaces {
        on(interface, config, addresses, &mut misfits);
    }
    let reserved: HashSet<Ipv4Addr> = config.machines.iter().filter_map(|machine| machine.ip).collect();
    let own = addresses.iter().map(|(_, net)| net.addr());
    let own: HashSet<Ipv4Addr> = own.chain(told.into_iter().flatten().filter_map(only_v4)).collect();
    if config.interfaces.iter().any(|interface| interface.dhcp == DhcpRole::Server) {
        let nobodys = config.subnets.iter().filter_map(|subnet| without_address(subnet, &reserved, &own));
        misfits.warnings.extend(nobodys);
    }
    misfits
}

/// What is wrong with a machine whose address is one of these, which this host has itself.
pub(crate) fn own_address(machine: &Machine, addresses: &[(String, Ipv4Net)]) -> Option<String> {
    let (interface, net) = addresses.iter().find(|(_, net)| Some(net.addr()) == machine.ip)?;
    let ip = net.addr();
    Some(format!("ip = \"{ip}\", which is this server's own address on {interface}; give it another one"))
}

/// Whom DHCP answers goes on to the URL that it names: an IPv4 address, of the interface unless it is told.
fn unreachable_http(config: &Config, addresses: &[(String, Ipv4Net)], misfits: &mut Misfits) {
    let listen = config.http.listen;
    let names_urls = config.interfaces.iter().any(|interface| interface.dhcp != DhcpRole::Off);
    if names_urls && config.http.advertise.is_none() {
        let why = match listen.ip() {
            ip if ip.to_canonical().is_loopback() => Some("which only this host reaches"),
            IpAddr::V6(ip) if !ip.is_unspecified() => Some("but machines are sent to an IPv4 address"),
            _ => None,
        };
        misfits.errors.extend(why.map(|why| {
            format!(
                "HTTP has listen = \"{listen}\", {why}: write \"0.0.0.0:{}\", or set advertise in [http] to the \
                 address under which machines reach it",
                listen.port()
            )
        }));
    }
    if let IpAddr::V4(ip) = listen.ip()
        && !ip.is_unspecified()
        && !ip.is_loopback()
        && !addresses.is_empty()
        && addresses.iter().all(|(_, net)| net.addr() != ip)
    {
        misfits.warnings.push(format!(
            "HTTP has listen = \"{listen}\", and this host has no address {ip}: give it to an interface, or change \
             listen in [http]"
        ));
    }
}

/// Only a DHCP server gives addresses.
fn without_server(config: &Config, misfits: &mut Misfits) {
    if config.interfaces.iter().any(|interface| interface.dhcp == DhcpRole::Server) {
        return;
    }
    let instead = "no [[interface]] has dhcp = \"server\": remove it, or make one a server";
    for subnet in &config.subnets {
        misfits.warnings.push(format!("[[subnet]] {} gives no address, because {instead}", subnet.cidr));
    }
    let mut reserved = config.machines.iter().filter(|machine| machine.ip.is_some());
    if let Some(first) = reserved.next() {
        let more = match reserved.count() {
            0 => String::new(),
            more => format!(" (and {more} more)"),
        };
        misfits
            .warnings
            .push(format!("the ip of {}{more} is given to nobody, because {instead}", called(first)));
    }
}

fn on(interface: &Interface, config: &Config, addresses: &[(String, Ipv4Net)], misfits: &mut Misfits) {
    let name = &interface.name;
    let mut own = addresses.iter().filter(|(other, _)| other == name).map(|(_, net)| net.addr()).peekable();
    if own.peek().is_none() {
        // It is not there yet, or the configuration is for another host.
        return;
    }
    let here: Vec<&Subnet> = own
        .filter_map(|address| config.subnets.iter().find(|subnet| subnet.cidr.contains(&address)))
        .collect();
    let others_serve = config.interfaces.iter().any(|other| other.dhcp == DhcpRole::Server);
    match interface.dhcp {
        DhcpRole::Server if here.is_empty() => misfits.warnings.push(format!(
            "{name} has no address in any [[subnet]]: machines on it get no address, only those behind relays do"
        )),
        DhcpRole::Proxy | DhcpRole::Off if others_serve => {
            misfits.warnings.extend(here.into_iter().map(|subnet| {
                format!(
                    "[[subnet]] {} gives no address to machines on {name}, which is no DHCP server: remove it, or write \
                     dhcp = \"server\" there",
                    subnet.cidr
                )
            }));
        }
        _ => {}
    }
}

fn only_v4(ip: IpAddr) -> Option<Ipv4Addr> {
    match ip {
        IpAddr::V4(ip) => Some(ip),
        IpAddr::V6(_) => None,
    }
}

/// A subnet in which machines that are not in the configuration, or none at all, get an address.
fn without_address(
    Subnet { cidr, pool, router, .. }: &Subnet,
    reserved: &HashSet<Ipv4Addr>,
    own: &HashSet<Ipv4Addr>,
) -> Option<String> {
    if pool.is_empty() {
        let is_for_nobody = !reserved.iter().any(|address| cidr.contains(address));
        return is_for_nobody.then(|| {
            format!("[[subnet]] {cidr} gives no address: it has no pool, and no [[machine]] has an ip in it")
        });
    }
    let taken =
        |address: Ipv4Addr| *router == Some(address) || reserved.contains(&address) || own.contains(&address);
    let mut addresses = pool.iter().flat_map(|(first, last)| first.to_bits()..=last.to_bits());
    addresses.all(|address| taken(Ipv4Addr::from_bits(address))).then(|| {
        format!("no address of the pool of {cidr} can be given: all are the router's, reserved, or this server's own")
    })
}

/// A machine of the configuration as its problems name it.
pub(crate) fn called(machine: &Machine) -> String {
    match (&machine.name, machine.macs.first()) {
        (Some(name), _) => format!("[[machine]] {name}"),
        (None, Some(mac)) => format!("[[machine]] {mac}"),
        (None, None) => "a [[machine]]".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use boot_engine::config;

    fn found(text: &str, addresses: &[(&str, &str)]) -> Misfits {
        let addresses: Vec<(String, Ipv4Net)> =
            addresses.iter().map(|(name, net)| ((*name).to_owned(), net.parse().unwrap())).collect();
        misfits(&config::parse(text, "test").unwrap(), &addresses)
    }

    fn one(found: &[String], says: &str) {
        assert!(found.len() == 1 && found[0].contains(says), "{says}: {found:?}");
    }

    const SERVER: &str = "[[interface]]\nname = 'eth1'\n[[subnet]]\ncidr = '10.1.0.0/16'\npool = ['10.1.1.33-10.1.1.34']\n\
        router = '10.1.1.33'\n";
    const MACHINE: &str = "[[machine]]\nmac = '52:54:00:00:00:01'\nname = 'node1'\n";

    #[test]
    fn a_server_s_own_address_is_no_machine_s() {
        let text = format!("{SERVER}{MACHINE}ip = '10.1.0.2'\n");
        let [here, elsewhere] = ["10.1.0.2/16", "10.1.0.3/16"].map(|net| found(&text, &[("eth1", net)]));
        one(
            &here.errors,
            "[[machine]] node1 has ip = \"10.1.0.2\", which is this server's own address on eth1",
        );
        assert_eq!(elsewhere, Misfits::default());
        one(&found(&text, &[("lo", "127.0.0.1/8"), ("eth9", "10.1.0.2/16")]).errors, "on eth9");
        let told = format!("[http]\nadvertise = '10.1.0.2:80'\n{text}");
        one(&found(&told, &[]).errors, "own address in [http]");
    }

    #[test]
    fn http_that_no_machine_reaches_is_an_error() {
        let with = |http: &str, dhcp: &str| {
            let text = format!("[http]\n{http}\n[[interface]]\nname = 'eth1'\ndhcp = '{dhcp}'\n");
            found(&text, &[("lo", "127.0.0.1/8"), ("eth1", "10.1.0.2/16")])
        };
        for (listen, why) in [
            ("127.0.0.1:81", "only this host"),
            ("127.1.2.3:81", "only this host"),
            ("[::1]:81", "only this host"),
            ("[::ffff:127.0.0.1]:81", "only this host"),
            ("[2001:db8::1]:81", "sent to an IPv4 address"),
        ] {
            let http = format!("listen = '{listen}'");
            let Misfits { errors, warnings } = with(&http, "proxy");
            one(&errors, why);
            one(&errors, "write \"0.0.0.0:81\", or set advertise");
            assert!(warnings.is_empty(), "{warnings:?}");
            assert_eq!(with(&http, "off"), Misfits::default(), "{listen}: another server names URLs");
            let told = format!("{http}\nadvertise = '10.1.0.2:80'");
            assert_eq!(with(&told, "proxy"), Misfits::default(), "{listen}: behind a proxy");
        }
        for listen in ["0.0.0.0:81", "[::]:81", "10.1.0.2:81"] {
            assert_eq!(with(&format!("listen = '{listen}'"), "proxy"), Misfits::default(), "{listen}");
        }
    }

    #[test]
    fn http_on_an_address_of_another_host_is_named() {
        let text = "[http]\nlisten = '10.1.0.9:81'\n[[interface]]\nname = 'eth1'\ndhcp = 'off'\n";
        let elsewhere = found(text, &[("eth1", "10.1.0.2/16")]);
        one(&elsewhere.warnings, "this host has no address 10.1.0.9");
        assert!(elsewhere.errors.is_empty(), "{elsewhere:?}");
        assert_eq!(found(text, &[("eth1", "10.1.0.9/16")]), Misfits::default());
        assert_eq!(found(text, &[]), Misfits::default(), "for another host");
    }

    #[test]
    fn what_does_nothing_is_named() {
        let proxy = SERVER.replace("'eth1'", "'eth1'\ndhcp = 'proxy'");
        let without = found(&format!("{proxy}{MACHINE}ip = '10.1.0.9'\n"), &[]);
        assert!(without.errors.is_empty() && without.warnings.len() == 2, "{without:?}");
        assert!(without.warnings[0].contains("[[subnet]] 10.1.0.0/16 gives no address"), "{without:?}");
        assert!(without.warnings[1].contains("the ip of [[machine]] node1"), "{without:?}");
        let beside = format!(
            "[[interface]]\nname = 'eth2'\n[[subnet]]\ncidr = '10.2.0.0/16'\npool = ['10.2.0.9-10.2.0.10']\n{proxy}"
        );
        let addresses = [("eth1", "10.1.0.2/16"), ("eth2", "10.2.0.2/16")];
        one(&found(&beside, &addresses).warnings, "gives no address to machines on eth1");
        one(&found(SERVER, &[("eth1", "10.3.0.2/16")]).warnings, "eth1 has no address in any [[subnet]]");
        let full = found(&format!("{SERVER}{MACHINE}ip = '10.1.1.34'\n"), &[("eth1", "10.1.0.2/16")]);
        one(&full.warnings, "no address of the pool of 10.1.0.0/16 can be given");
        let own = found(SERVER, &[("eth1", "10.1.1.34/16")]);
        one(&own.warnings, "all are the router's, reserved, or this server's own");
        let empty = format!("[[subnet]]\ncidr = '10.9.0.0/16'\n{SERVER}");
        one(
            &found(&empty, &[("eth1", "10.1.0.2/16")]).warnings,
            "10.9.0.0/16 gives no address: it has no pool",
        );
        let reserved = found(&format!("{empty}{MACHINE}ip = '10.9.0.9'\n"), &[("eth1", "10.1.0.2/16")]);
        assert_eq!(reserved, Misfits::default());
        let nothing = found("[[interface]]\nname = 'eth1'\ndhcp = 'proxy'\n", &[("eth1", "10.1.0.2/16")]);
        assert_eq!(nothing, Misfits::default());
    }
}
