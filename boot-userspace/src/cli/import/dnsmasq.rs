//! dnsmasq's configuration (dnsmasq(8)): one statement in each line, further files by conf-file and conf-dir.

mod boot;
mod hosts;
mod lines;
mod ranges;
mod tags;

use std::net::Ipv4Addr;
use std::path::Path;

use ipnet::Ipv4Net;

use super::clients::Clients;
use super::setup::{Place, Setup};
use lines::Line;
use tags::Tags;
pub(super) use tags::vendor_class;

/// What the statements come to.
struct Import<'a> {
    setup: Setup,
    tags: Tags,
    /// Addresses of the server, with the interface where it is known.
    addresses: &'a [(String, Ipv4Net)],
    /// Of each subnet: the interface that its range names.
    of_interface: Vec<Option<String>>,
    interfaces: Vec<(String, Place)>,
    has_dns: bool,
    is_authoritative: bool,
    probes: bool,
    is_proxy: bool,
}

/// Reads a file, or all files of a directory.
///
/// # Errors
/// The file that cannot be read.
pub(super) fn import(path: &Path, addresses: &[(String, Ipv4Net)]) -> Result<Setup, String> {
    let mut setup = Setup::new();
    let lines = lines::read(path, &mut setup)?;
    let mut import = Import {
        setup,
        tags: Tags::default(),
        addresses,
        of_interface: Vec::new(),
        interfaces: Vec::new(),
        has_dns: true,
        is_authoritative: false,
        probes: true,
        is_proxy: false,
    };
    // What others refer to comes first, whatever its line.
    for line in &lines {
        import.basics(line);
    }
    for line in &lines {
        import.ranges(line);
    }
    import.tags_of_interfaces();
    for line in &lines {
        import.tag(line);
    }
    for line in &lines {
        import.host(line);
    }
    for line in lines.iter().filter(|line| line.key == "tag-if") {
        import.tag_if(line);
    }
    import.options(&lines);
    import.boot_files(&lines);
    import.rest(&lines);
    Ok(import.finished())
}

/// What is of the DNS server.
const DNS: &[&str] = &[
    "address",
    "addn-hosts",
    "alias",
    "all-servers",
    "auth-peer",
    "auth-sec-servers",
    "auth-server",
    "auth-soa",
    "auth-ttl",
    "auth-zone",
    "bogus-nxdomain",
    "bogus-priv",
    "cache-rr",
    "cache-size",
    "caa-record",
    "cname",
    "clear-on-reload",
    "conntrack",
    "dns-forward-max",
    "dns-loop-detect",
    "dns-rr",
    "dnssec",
    "dnssec-check-unsigned",
    "domain-needed",
    "edns-packet-max",
    "expand-hosts",
    "fast-dns-retry",
    "filter-A",
    "filter-AAAA",
    "filterwin2k",
    "host-record",
    "hostsdir",
    "interface-name",
    "ipset",
    "local",
    "local-service",
    "local-ttl",
    "localise-queries",
    "localmx",
    "max-cache-ttl",
    "max-ttl",
    "min-cache-ttl",
    "mx-host",
    "mx-target",
    "naptr-record",
    "neg-ttl",
    "nftset",
    "no-hosts",
    "no-negcache",
    "no-poll",
    "no-resolv",
    "port-limit",
    "proxy-dnssec",
    "ptr-record",
    "query-port",
    "rebind-domain-ok",
    "rebind-localhost-ok",
    "resolv-file",
    "rev-server",
    "selfmx",
    "server",
    "servers-file",
    "srv-host",
    "stop-dns-rebind",
    "strict-order",
    "synth-domain",
    "trust-anchor",
    "txt-record",
    "umbrella",
    "use-stale-cache",
    "add-mac",
    "add-subnet",
    "dump-file",
    "dump-mask",
];

/// What is of the process, and has another place: the unit file, the kernel, the log.
const PROCESS: &[&str] = &[
    "bind-dynamic",
    "bind-interfaces",
    "dhcp-lease-max",
    "dhcp-sequential-ip",
    "enable-dbus",
    "enable-ubus",
    "group",
    "keep-in-foreground",
    "leasefile-ro",
    "log-async",
    "log-debug",
    "log-dhcp",
    "log-facility",
    "log-queries",
    "no-daemon",
    "no-round-robin",
    "pid-file",
    "quiet-dhcp",
    "quiet-dhcp6",
    "quiet-ra",
    "quiet-tftp",
    "script-arp",
    "script-on-renewal",
    "tftp-no-blocksize",
    "tftp-no-fail",
    "tftp-max",
    "tftp-mtu",
    "user",
];

const IPV6: &[&str] = &["dhcp-duid", "enable-ra", "ra-param", "dhcp-option-pxe"];

impl Import<'_> {
    /// Settings of the whole server.
    fn basics(&mut self, line: &Line) {
        match line.key.as_str() {
            "interface" => {
                for name in line.words() {
                    self.interfaces.push((name.to_owned(), line.place.clone()));
                }
            }
            "port" => self.has_dns = line.value != "0",
            "dhcp-authoritative" => self.is_authoritative = true,
            "no-ping" => self.probes = false,
            "tftp-root" => {
                let words = line.words();
                let root = words.first().copied().unwrap_or_default().to_owned();
                if words.len() > 1 {
                    let why =
                        "xpxe has one boot_dir for all interfaces; this one is used only if it is the last";
                    self.setup.left(&line.place, line.text(), why);
                }
                self.setup.top.text("boot_dir", root.trim_end_matches('/'), Some(&line.place));
            }
            "tftp-single-port" => {} // xpxe's default
            "dhcp-leasefile" => {
                let hint = format!("Its leases: xpxe leases import --format dnsmasq {}", line.value);
                self.setup.note(hint);
            }
            _ => {}
        }
    }

    /// A tag for each interface: that of its subnets.
    fn tags_of_interfaces(&mut self) {
        for (name, _) in self.interfaces.clone() {
            let own: Vec<usize> = (0..self.setup.subnets.len())
                .filter(|at| {
                    let cidr = self.setup.subnets.get(*at).map(|subnet| subnet.cidr);
                    let is_there = |(interface, net): &(String, Ipv4Net)| {
                        *interface == name && cidr.is_some_and(|cidr| cidr.contains(&net.addr()))
                    };
                    let says = self.of_interface.get(*at).cloned().flatten();
                    says.as_ref() == Some(&name)
                        || says.is_none() && self.interfaces.len() == 1
                        || self.addresses.iter().any(is_there)
                })
                .collect();
            for subnet in own {
                self.tags.set(&name, Clients { subnet: Some(subnet), ..Clients::default() });
            }
        }
    }

    /// What no other step has taken.
    fn rest(&mut self, lines: &[Line]) {
        for line in lines {
            let why = match line.key.as_str() {
                "interface" | "port" | "dhcp-authoritative" | "no-ping" | "tftp-root"
                | "tftp-single-port" | "dhcp-leasefile" | "enable-tftp" | "dhcp-range" | "dhcp-host"
                | "dhcp-option" | "dhcp-option-force" | "dhcp-boot" | "pxe-service" | "tag-if"
                | "dhcp-match" | "dhcp-vendorclass" | "dhcp-userclass" | "dhcp-mac" | "dhcp-circuitid"
                | "dhcp-remoteid" | "conf-file" | "conf-dir" | "dhcp-hostsfile" | "dhcp-optsfile" => continue,
                "domain" => {
                    self.domain(line);
                    continue;
                }
                "dhcp-ignore" => {
                    self.ignore(line);
                    continue;
                }
                "listen-address" | "except-interface" | "no-dhcp-interface" => {
                    "xpxe serves only the interfaces that have an [[interface]]"
                }
                "no-dhcpv4-interface" => "xpxe serves only the interfaces that have an [[interface]]",
                "pxe-prompt" => "machines boot at once, without a prompt",
                "tftp-secure" => {
                    "boot_dir is a directory that may be read by everybody; keep other files out of it"
                }
                "tftp-unique-root" => "xpxe has one boot_dir for all machines",
                "tftp-lowercase" => "xpxe compares names of files as they are written",
                "tftp-port-range" => {
                    "xpxe sends all files from port 69; single_port = false in [tftp] changes that"
                }
                "dhcp-script" | "dhcp-luascript" | "dhcp-scriptuser" => {
                    "xpxe runs no scripts; follow its log in JSON, or its metrics"
                }
                "read-ethers" => "/etc/ethers is not read; write a [[machine]] for each of its lines",
                "dhcp-hostsdir" | "dhcp-optsdir" => {
                    "the directory is not read; import it with --conf-dir instead"
                }
                "dhcp-relay" => "xpxe is no relay",
                "dhcp-broadcast" => "xpxe answers as each client asks (the broadcast flag)",
                "dhcp-no-override" => "xpxe never moves options into the fields for names",
                "dhcp-alternate-port" => "xpxe uses the ports of RFC 2131",
                "bootp-dynamic" => "BOOTP clients get reserved addresses only",
                "dhcp-fqdn"
                | "dhcp-generate-names"
                | "dhcp-client-update"
                | "dhcp-ignore-names"
                | "dhcp-ignore-clid" => "xpxe is no DNS server, and knows machines by MAC address",
                "dhcp-name-match" | "dhcp-subscrid" | "dhcp-reply-delay" | "dhcp-proxy"
                | "dhcp-pxe-vendor" | "shared-network" | "bridge-interface" | "dhcp-rapid-commit"
                | "dhcp-ttl" => "xpxe has nothing like it",
                key if DNS.contains(&key) => "xpxe is no DNS server; let another one serve names",
                key if PROCESS.contains(&key) => "is of dnsmasq's process; xpxe needs nothing like it",
                key if IPV6.contains(&key) => "xpxe serves IPv4",
                _ => "is no statement of dnsmasq that xpxe knows",
            };
            self.setup.left(&line.place, line.text(), why);
        }
    }

    /// `domain=mtl` or `domain=mtl,10.1.1.0,10.1.1.233[,local]` or with a subnet.
    fn domain(&mut self, line: &Line) {
        let words = line.words();
        let Some((domain, rest)) = words.split_first() else { return };
        let first: Option<Ipv4Addr> =
            rest.first().and_then(|word| word.split('/').next()).and_then(|word| word.parse().ok());
        if rest.first().is_some_and(|word| *word == "#") || *domain == "#" {
            self.setup.left(&line.place, line.text(), "write the domain itself into [[subnet]]");
            return;
        }
        let mut is_used = false;
        for subnet in &mut self.setup.subnets {
            let is_there = first.is_none_or(|first| subnet.cidr.contains(&first));
            // A domain of a range takes precedence over that of all.
            if is_there && (first.is_some() || subnet.table.get("domain").is_none()) {
                subnet.table.text("domain", domain, Some(&line.place));
                is_used = true;
            }
        }
        if !is_used {
            self.setup.left(&line.place, line.text(), "no subnet without a domain of its own is there");
        } else if rest.len() > 1 {
            self.setup.left(
                &line.place,
                line.text(),
                "the domain is that of the whole [[subnet]]; its names in DNS are left out, because xpxe is no DNS server",
            );
        }
    }

    fn ignore(&mut self, line: &Line) {
        match line.words().as_slice() {
            ["tag:!known"] | ["net:!known"] | ["#known"] => {
                self.setup.default.text("unknown", "ignore", Some(&line.place));
            }
            _ => self.setup.left(
                &line.place,
                line.text(),
                "xpxe ignores only all unknown machines together: unknown = \"ignore\" in [default]",
            ),
        }
    }

    fn finished(mut self) -> Setup {
        let dhcp = if self.is_proxy && self.setup.subnets.is_empty() { "proxy" } else { "server" };
        for (name, place) in self.interfaces {
            if name.contains('*') {
                let why = "name each interface in an [[interface]] of its own";
                self.setup.left(&place, format!("interface={name}"), why);
            } else {
                self.setup.interface(&name, dhcp, Some(&place));
            }
        }
        for subnet in &mut self.setup.subnets {
            if self.is_authoritative {
                subnet.table.set("authoritative", "true".to_owned(), None);
            }
            if !self.probes {
                subnet.table.set("probe", "false".to_owned(), None);
            }
            let own = self.addresses.iter().find(|(_, net)| subnet.cidr.contains(&net.addr()));
            let Some((_, own)) = own else { continue };
            let own = own.addr();
            let mut name_itself = |key: &str, code: u8, value: String| {
                if subnet.table.get(key).is_none() && !subnet.table.has_option(code, None) {
                    let key = subnet.table.set(key, value, None);
                    key.note = Some("dnsmasq names itself where nothing else is said".to_owned());
                }
            };
            name_itself("router", 3, super::setup::quoted(&own.to_string()));
            if self.has_dns {
                name_itself("dns", 6, format!("[\"{own}\"]"));
            }
        }
        // An empty option only says that there is none.
        for subnet in &mut self.setup.subnets {
            let is_said = |option: &super::setup::DhcpOption| !matches!(&option.value, super::options::Value::Ip(list) if list.is_empty());
            subnet.table.options.retain(is_said);
        }
        if self.addresses.is_empty() {
            self.setup.note(
                "Where nothing else is said, dnsmasq names itself as router and DNS server; xpxe names nobody. Import with \
                 --address ADDRESS/PREFIX of dnsmasq's host to write it out.",
            );
        }
        self.setup
    }
}
