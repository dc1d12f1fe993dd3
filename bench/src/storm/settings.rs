//! The settings of the servers, as an operator would write them. Each keeps its files in a directory of its own.
//!
//! All log at their default level to nowhere: what formatting costs is in, what a disk costs is not. None looks whether an
//! address is in use before it offers it.

use std::fmt::Write as _;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use boot_bench::cable::SERVER_INTERFACE;
use boot_bench::frame::{SERVER, address, mac_text};
use boot_bench::place::Place;
use boot_tests::netns::Namespace;

use super::kind::Kind;
use crate::peers::{libraries, peers, unpacked};

/// What a server knows of its clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Clients {
    /// Each has an address of its own in the settings.
    Known,
    /// Nothing: they get addresses of a pool.
    Pool,
}

impl Clients {
    /// For the tables.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Known => "known",
            Self::Pool => "pool",
        }
    }
}

/// What starts a server in a namespace.
pub(crate) fn command(
    kind: Kind,
    server: &Namespace,
    place: &Place,
    machines: u32,
    clients: Clients,
) -> Result<Command> {
    let dir = &place.dir;
    match kind {
        Kind::Xpxe => xpxe(server, place, machines, clients, ("xdp", true)),
        Kind::XpxeBare => xpxe(server, place, machines, clients, ("xdp", false)),
        Kind::XpxeOff => xpxe(server, place, machines, clients, ("off", true)),
        Kind::XpxeOffBare => xpxe(server, place, machines, clients, ("off", false)),
        Kind::Dnsmasq => dnsmasq(server, dir, machines, clients),
        Kind::Kea => kea(server, dir, machines, clients, false),
        Kind::KeaMt => kea(server, dir, machines, clients, true),
        Kind::Dhcpd => dhcpd(server, dir, machines, clients),
        Kind::Freeradius => freeradius(server, dir, machines),
    }
}

/// A pool with more addresses than machines.
fn pool(machines: u32) -> (Ipv4Addr, Ipv4Addr) {
    (address(0), Ipv4Addr::from(u32::from(address(0)) + (2 * machines).max(65_536)))
}

const LOADER: &str = "snponly.efi";

fn xpxe(
    server: &Namespace,
    place: &Place,
    machines: u32,
    clients: Clients,
    (fast_path, boots): (&str, bool),
) -> Result<Command> {
    let dir = &place.dir;
    let boot_dir = dir.join("boot");
    fs::create_dir_all(&boot_dir)?;
    for file in [LOADER, "vmlinuz", "initrd"] {
        fs::write(boot_dir.join(file), file)?;
    }
    let (first, last) = pool(machines);
    let pool = match clients {
        Clients::Pool => format!("pool = [\"{first}-{last}\"]\nprobe = false\n"),
        Clients::Known => String::new(),
    };
    let mut config = format!(
        "state_dir = {state:?}\n\
         boot_dir = {boot_dir:?}\n\
         pin_dir = {pins:?}\n\
         boots = {boots}\n\
         [ipxe]\n\
         x64 = {loader:?}\n\
         [[interface]]\n\
         name = \"{SERVER_INTERFACE}\"\n\
         dhcp = \"server\"\n\
         fast_path = \"{fast_path}\"\n\
         [[subnet]]\n\
         cidr = \"10.0.0.0/8\"\n\
         router = \"{SERVER}\"\n\
         dns = [\"{SERVER}\"]\n\
         domain = \"bench\"\n\
         lease = \"10m\"\n\
         {pool}\
         [[profile]]\n\
         name = \"bench\"\n\
         kernel = \"vmlinuz\"\n\
         initrd = [\"initrd\"]\n\
         [default]\n\
         profile = \"bench\"\n",
        state = dir.join("state"),
        pins = place.pins,
        loader = boot_dir.join(LOADER),
    );
    for machine in (0..machines).filter(|_| clients == Clients::Known) {
        let (mac, ip) = (mac_text(machine), address(machine));
        write!(config, "[[machine]]\nmac = \"{mac}\"\nname = \"node{machine}\"\nip = \"{ip}\"\n")?;
    }
    let file = dir.join("xpxe.toml");
    fs::write(&file, config)?;
    let mut command = server.command(&boot_tests::daemon::binary()?.display().to_string());
    command.args(["serve", "--config"]).arg(file);
    Ok(command)
}

fn dnsmasq(server: &Namespace, dir: &Path, machines: u32, clients: Clients) -> Result<Command> {
    let hosts: String = (0..machines)
        .filter(|_| clients == Clients::Known)
        .map(|machine| format!("{},{},node{machine}\n", mac_text(machine), address(machine)))
        .collect();
    let (hosts_file, leases, config) = (dir.join("hosts"), dir.join("leases"), dir.join("dnsmasq.conf"));
    fs::write(&hosts_file, hosts)?;
    let (first, last) = pool(machines);
    let range = match clients {
        Clients::Known => "10.0.0.0,static,255.0.0.0,10m".to_owned(),
        Clients::Pool => format!("{first},{last},255.0.0.0,10m"),
    };
    // A process that changes its user would not die with this one, hence root.
    let text = format!(
        "port=0\n\
         user=root\n\
         group=root\n\
         interface={SERVER_INTERFACE}\n\
         no-ping\n\
         dhcp-authoritative\n\
         dhcp-range={range}\n\
         dhcp-hostsfile={}\n\
         dhcp-leasefile={}\n\
         dhcp-lease-max={}\n\
         dhcp-option=option:router,{SERVER}\n\
         dhcp-option=option:dns-server,{SERVER}\n\
         domain=bench\n\
         dhcp-match=set:efi64,option:client-arch,7\n\
         dhcp-boot=tag:efi64,{LOADER}\n",
        hosts_file.display(),
        leases.display(),
        machines + 1000,
    );
    fs::write(&config, text)?;
    let mut command = server.command("dnsmasq");
    command.args(["--keep-in-foreground", "--log-facility=/dev/null", "--pid-file="]);
    command.arg(format!("--conf-file={}", config.display()));
    Ok(command)
}

fn kea(
    server: &Namespace,
    dir: &Path,
    machines: u32,
    clients: Clients,
    multi_threading: bool,
) -> Result<Command> {
    let (first, last) = pool(machines);
    let subnet = match clients {
        Clients::Pool => serde_json::json!({
            "id": 1, "subnet": "10.0.0.0/8", "pools": [{ "pool": format!("{first}-{last}") }],
        }),
        Clients::Known => {
            let reservation = |machine| serde_json::json!({ "hw-address": mac_text(machine), "ip-address": address(machine) });
            let reservations: Vec<_> = (0..machines).map(reservation).collect();
            serde_json::json!({ "id": 1, "subnet": "10.0.0.0/8", "reservations": reservations })
        }
    };
    let config = serde_json::json!({ "Dhcp4": {
        "interfaces-config": { "interfaces": [SERVER_INTERFACE], "dhcp-socket-type": "raw" },
        "lease-database": {
            "type": "memfile", "persist": true, "lfc-interval": 0, "name": dir.join("leases.csv"),
        },
        "multi-threading": { "enable-multi-threading": multi_threading },
        "valid-lifetime": 600,
        "client-classes": [{
            "name": "efi64", "test": "option[93].hex == 0x0007",
            "next-server": SERVER, "boot-file-name": LOADER,
        }],
        "option-data": [
            { "name": "routers", "data": SERVER },
            { "name": "domain-name-servers", "data": SERVER },
            { "name": "domain-name", "data": "bench" },
        ],
        "subnet4": [subnet],
        "loggers": [{
            "name": "kea-dhcp4", "severity": "INFO", "output_options": [{ "output": "stdout" }],
        }],
    }});
    let file = dir.join("kea.json");
    fs::write(&file, serde_json::to_string_pretty(&config)?)?;
    let mut command = server.command(&unpacked("kea-dhcp4").display().to_string());
    command.arg("-c").arg(file);
    // KEA_DHCP_DATA_DIR: newer versions write leases nowhere else.
    command.env("KEA_PIDFILE_DIR", dir).env("KEA_DHCP_DATA_DIR", dir).env("KEA_LOCKFILE_DIR", "none");
    Ok(command)
}

fn dhcpd(server: &Namespace, dir: &Path, machines: u32, clients: Clients) -> Result<Command> {
    let (first, last) = pool(machines);
    let range = match clients {
        Clients::Pool => format!("range {first} {last};"),
        Clients::Known => String::new(),
    };
    let mut config = format!(
        "authoritative;\n\
         ping-check false;\n\
         ddns-update-style none;\n\
         default-lease-time 600;\n\
         max-lease-time 600;\n\
         option arch code 93 = unsigned integer 16;\n\
         option routers {SERVER};\n\
         option domain-name-servers {SERVER};\n\
         option domain-name \"bench\";\n\
         if option arch = 00:07 {{ next-server {SERVER}; filename \"{LOADER}\"; }}\n\
         subnet 10.0.0.0 netmask 255.0.0.0 {{ {range} }}\n"
    );
    for machine in (0..machines).filter(|_| clients == Clients::Known) {
        let (mac, ip) = (mac_text(machine), address(machine));
        writeln!(config, "host node{machine} {{ hardware ethernet {mac}; fixed-address {ip}; }}")?;
    }
    let (file, leases) = (dir.join("dhcpd.conf"), dir.join("dhcpd.leases"));
    fs::write(&file, config)?;
    fs::write(&leases, "")?;
    let mut command = server.command(&unpacked("dhcpd").display().to_string());
    command.args(["-4", "-f", "-q", "--no-pid", "-cf"]).arg(file).arg("-lf").arg(leases);
    command.arg(SERVER_INTERFACE);
    Ok(command)
}

/// One thread, no leases, every machine a line of the module files.
fn freeradius(server: &Namespace, dir: &Path, machines: u32) -> Result<Command> {
    let root = peers().unwrap_or_else(|| PathBuf::from("/"));
    let (dictionaries, hosts) = (root.join("usr/share/freeradius"), dir.join("hosts"));
    let answer = |kind: &str| {
        format!(
            "update reply {{\n\
             &DHCP-Message-Type = {kind}\n\
             &DHCP-DHCP-Server-Identifier = {SERVER}\n\
             &DHCP-Subnet-Mask = 255.0.0.0\n\
             &DHCP-Router-Address = {SERVER}\n\
             &DHCP-Domain-Name-Server = {SERVER}\n\
             &DHCP-Domain-Name = \"bench\"\n\
             &DHCP-IP-Address-Lease-Time = 600\n\
             }}\n\
             hosts\n\
             ok\n"
        )
    };
    let config = format!(
        "prefix = {dir}\nlocalstatedir = {dir}\nraddbdir = {dir}\nrun_dir = {dir}\nlogdir = {dir}\n\
         libdir = {libraries}\n\
         max_requests = 65536\n\
         log {{\ndestination = files\nfile = /dev/null\n}}\n\
         security {{\nallow_vulnerable_openssl = yes\n}}\n\
         thread pool {{\nstart_servers = 1\nmax_servers = 1\nmin_spare_servers = 1\nmax_spare_servers = 1\n\
         max_queue_size = 65536\n}}\n\
         modules {{\n\
         files hosts {{\nfilename = {hosts}\nkey = \"%{{DHCP-Client-Hardware-Address}}\"\n}}\n\
         always ok {{\nrcode = ok\n}}\n\
         }}\n\
         server dhcp {{\n\
         listen {{\ntype = dhcp\nipaddr = 255.255.255.255\nsrc_ipaddr = {SERVER}\nport = 67\n\
         interface = {SERVER_INTERFACE}\nbroadcast = yes\n\
         performance {{\nskip_duplicate_checks = yes\n}}\n}}\n\
         dhcp DHCP-Discover {{\n{offer}}}\n\
         dhcp DHCP-Request {{\n{ack}}}\n\
         }}\n",
        libraries = root.join("usr/lib/freeradius").display(),
        dir = dir.display(),
        hosts = hosts.display(),
        offer = answer("DHCP-Offer"),
        ack = answer("DHCP-Ack"),
    );
    let mut known = String::new();
    for machine in 0..machines {
        let (mac, ip) = (mac_text(machine), address(machine));
        write!(
            known,
            "{mac}\n\tDHCP-Your-IP-Address := {ip},\n\tDHCP-Server-IP-Address := {SERVER},\n\tDHCP-Boot-Filename := \"{LOADER}\"\n"
        )?;
    }
    fs::write(hosts, known)?;
    fs::write(dir.join("radiusd.conf"), config)?;
    let all = ["dictionary", "dictionary.dhcp"]
        .map(|name| format!("$INCLUDE {}\n", dictionaries.join(name).display()));
    fs::write(dir.join("dictionary"), all.concat())?;
    let program = unpacked("freeradius");
    let mut command = server.command(&program.display().to_string());
    if let Some(libraries) = libraries() {
        command.env("LD_LIBRARY_PATH", libraries);
    }
    command.args(["-f", "-n", "radiusd", "-d"]).arg(dir).arg("-D").arg(dictionaries);
    Ok(command)
}
