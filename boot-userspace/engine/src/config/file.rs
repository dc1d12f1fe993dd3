//! The shape of `xpxe.toml`: which keys there are and of which type. Every value is optional and knows its place.

use toml::de::DeTable;

use super::reader::Table;
use super::report::{At, Place, Report};
use super::{
    agent, api, arch, bmc, boot_file, boots, documents, group, http, identity, images, lifecycle, option,
    relay_port, traces, webhook,
};

type Text = Option<At<String>>;

pub(super) struct File {
    pub(super) state_dir: Text,
    pub(super) store: Text,
    pub(super) store_password_file: Text,
    pub(super) boot_dir: Text,
    pub(super) pin_dir: Text,
    pub(super) fast_path_memory: Text,
    pub(super) boots: Option<At<bool>>,
    pub(super) windowsize: Option<At<u32>>,
    pub(super) single_port: Option<At<bool>>,
    pub(super) http: http::Written,
    pub(super) api: api::Written,
    pub(super) traces: traces::Written,
    pub(super) images: images::Written,
    pub(super) clients: Vec<At<String>>,
    pub(super) ipxe: Vec<(&'static str, At<String>)>,
    pub(super) interfaces: Vec<Interface>,
    pub(super) subnets: Vec<Subnet>,
    pub(super) profiles: Vec<Profile>,
    pub(super) groups: Vec<group::Written>,
    pub(super) boot_files: Vec<boot_file::Written>,
    pub(super) default_profile: Text,
    pub(super) unknown: Text,
    pub(super) lifecycle: lifecycle::Written,
    pub(super) identity: identity::Written,
    pub(super) bmc: Option<bmc::All>,
    pub(super) agent: agent::Written,
    pub(super) machines: Vec<Machine>,
    pub(super) webhooks: Vec<webhook::Written>,
    /// The file says something about interfaces, subnets or profiles, even if it could not be read.
    pub(super) has_interfaces: bool,
    pub(super) has_subnets: bool,
    pub(super) has_profiles: bool,
}

pub(super) struct Interface {
    pub(super) place: Place,
    pub(super) name: Text,
    pub(super) dhcp: Text,
    /// The file says something about its role, even if it could not be read.
    pub(super) has_dhcp: bool,
    pub(super) fast_path: Text,
    pub(super) router_advertisement: Option<bool>,
}

pub(super) struct Subnet {
    pub(super) cidr: Text,
    pub(super) pool: Vec<At<String>>,
    /// The file says something about the pool, even if it could not be read.
    pub(super) has_pool: bool,
    pub(super) router: Text,
    pub(super) dns: Vec<At<String>>,
    pub(super) domain: Text,
    pub(super) lease: Text,
    /// The file says something about the lease, even if it could not be read.
    pub(super) has_lease: bool,
    pub(super) boot_lease: Text,
    pub(super) probe: Option<bool>,
    pub(super) authoritative: Option<bool>,
    pub(super) options: Vec<option::Written>,
}

pub(super) struct Profile {
    pub(super) place: Place,
    pub(super) name: Text,
    pub(super) inherit: Vec<At<String>>,
    pub(super) kernel: Text,
    pub(super) boots: boots::Written,
    /// The file says something about it, even if it is an empty list.
    pub(super) has_initrd: bool,
    pub(super) initrd: Vec<At<String>>,
    pub(super) args: Text,
    pub(super) console: Text,
    pub(super) template: Text,
    pub(super) documents: documents::Written,
    pub(super) arch: Vec<arch::Written>,
    pub(super) boot_file: Text,
    pub(super) options: Vec<option::Written>,
}

pub(super) struct Machine {
    pub(super) place: Place,
    pub(super) macs: Vec<At<String>>,
    pub(super) uuid: Text,
    pub(super) relay_port: Option<relay_port::Written>,
    /// The file says something that tells it from others, even if it could not be read.
    pub(super) has_identity: bool,
    pub(super) name: Text,
    /// The file says something about its name, even if it could not be read.
    pub(super) has_name: bool,
    pub(super) ip: Text,
    /// The file says something about its address, even if it could not be read.
    pub(super) has_ip: bool,
    pub(super) profile: Text,
    pub(super) args: Text,
    pub(super) labels: Vec<(String, At<String>)>,
    pub(super) documents: documents::Written,
    pub(super) boot_file: Text,
    pub(super) options: Vec<option::Written>,
    pub(super) bmc: Option<bmc::Written>,
}

const IPXE: [&str; 7] = ["bios", "ia32", "x64", "arm32", "arm64", "riscv64", "loongarch64"];

impl File {
    pub(super) fn read(tree: &DeTable<'_>, report: &mut Report<'_>) -> Self {
        let place = Place { key: String::new(), line: None };
        let known = [
            "state_dir",
            "store",
            "store_password_file",
            "boot_dir",
            "pin_dir",
            "fast_path_memory",
            "boots",
            "http",
            "api",
            "traces",
            "images",
            "tftp",
            "ipxe",
            "interface",
            "subnet",
            "profile",
            "group",
            "boot_file",
            "default",
            "lifecycle",
            "identity",
            "bmc",
            "agent",
            "machine",
            "webhook",
        ];
        let top = Table::open(tree, place, &known, report);
        let tftp = top.table("tftp", &["windowsize", "single_port", "clients"], report);
        let ipxe = top.table("ipxe", &IPXE, report);
        let default = top.table("default", &["profile", "unknown"], report);
        Self {
            state_dir: top.text("state_dir", "/var/lib/xpxe", report),
            store: top.text("store", "postgres://xpxe@db.example/xpxe", report),
            store_password_file: top.text("store_password_file", "/etc/xpxe/store-password", report),
            boot_dir: top.text("boot_dir", "/var/lib/xpxe/boot", report),
            pin_dir: top.text("pin_dir", "/sys/fs/bpf/xpxe", report),
            fast_path_memory: top.text_or_number("fast_path_memory", "64M", report),
            boots: top.flag_at("boots", report),
            windowsize: tftp.as_ref().and_then(|tftp| tftp.number("windowsize", 1..=64, "16", report)),
            single_port: tftp.as_ref().and_then(|tftp| tftp.flag_at("single_port", report)),
            clients: tftp
                .as_ref()
                .map(|tftp| tftp.one_or_more_texts("clients", "10.2.0.0/16", report))
                .unwrap_or_default(),
            http: http::read(&top, report),
            api: api::read(&top, report),
            traces: traces::read(&top, report),
            images: images::read(&top, report),
            ipxe: ipxe.map(|table| binaries(&table, report)).unwrap_or_default(),
            interfaces: interfaces(&top, report),
            subnets: subnets(&top, report),
            profiles: profiles(&top, report),
            groups: group::read(&top, report),
            boot_files: boot_file::read(&top, report),
            default_profile: default.as_ref().and_then(|default| default.text("profile", "talos", report)),
            unknown: default.as_ref().and_then(|default| default.text("unknown", "boot", report)),
            lifecycle: lifecycle::read(&top, report),
            identity: identity::read(&top, report),
            bmc: bmc::read_all(&top, report),
            agent: agent::read(&top, report),
            machines: machines(&top, report),
            webhooks: webhook::read(&top, report),
            has_interfaces: top.has("interface") && !top.is_empty_list("interface"),
            has_subnets: top.has("subnet") && !top.is_empty_list("subnet"),
            has_profiles: top.has("profile") && !top.is_empty_list("profile"),
        }
    }
}

fn binaries(table: &Table<'_>, report: &mut Report<'_>) -> Vec<(&'static str, At<String>)> {
    let binary = |kind: &'static str| Some((kind, table.text(kind, "/usr/lib/ipxe/snponly.efi", report)?));
    IPXE.into_iter().filter_map(binary).collect()
}

fn interfaces(top: &Table<'_>, report: &mut Report<'_>) -> Vec<Interface> {
    let tables = top.tables("interface", &["name", "dhcp", "fast_path", "router_advertisement"], report);
    let interface = |table: Table<'_>| Interface {
        name: table.required_text("name", "eth1", report),
        dhcp: table.text("dhcp", "server", report),
        has_dhcp: table.has("dhcp"),
        fast_path: table.text("fast_path", "auto", report),
        router_advertisement: table.flag("router_advertisement", report),
        place: table.place,
    };
    tables.into_iter().map(interface).collect()
}

fn subnets(top: &Table<'_>, report: &mut Report<'_>) -> Vec<Subnet> {
    let known = [
        "cidr",
        "pool",
        "router",
        "dns",
        "domain",
        "lease",
        "boot_lease",
        "probe",
        "authoritative",
        "options",
    ];
    let tables = top.tables("subnet", &known, report);
    let subnet = |table: Table<'_>| Subnet {
        cidr: table.required_text("cidr", "10.1.0.0/16", report),
        pool: table.texts("pool", "10.1.1.33-10.1.1.233", report),
        has_pool: table.has("pool") && !table.is_empty_list("pool"),
        router: table.text("router", "10.1.0.1", report),
        dns: table.texts("dns", "10.1.1.2", report),
        domain: table.text("domain", "example.net", report),
        lease: table.text("lease", "10m", report),
        has_lease: table.has("lease"),
        boot_lease: table.text("boot_lease", "5m", report),
        probe: table.flag("probe", report),
        authoritative: table.flag("authoritative", report),
        options: option::read(&table, report),
    };
    tables.into_iter().map(subnet).collect()
}

fn profiles(top: &Table<'_>, report: &mut Report<'_>) -> Vec<Profile> {
    let known = [
        "name",
        "inherit",
        "kernel",
        "initrd",
        "args",
        "console",
        "arch",
        "template",
        "documents",
        "boot_file",
        "options",
    ];
    let known: Vec<&str> = known.into_iter().chain(boots::KEYS).collect();
    let tables = top.tables("profile", &known, report);
    let profile = |table: Table<'_>| Profile {
        name: table.required_text("name", "talos", report),
        inherit: table.one_or_more_texts("inherit", "base", report),
        kernel: table.text("kernel", "talos/vmlinuz", report),
        boots: boots::read(&table, report),
        has_initrd: table.has("initrd"),
        initrd: table.texts("initrd", "talos/initramfs.xz", report),
        args: table.text("args", "console=ttyS0", report),
        console: table.text("console", "ttyS0", report),
        arch: arch::read(&table, report),
        template: table.text("template", "templates/own.ipxe", report),
        documents: documents::read(&table, report),
        boot_file: table.text("boot_file", "custom.efi", report),
        options: option::read(&table, report),
        place: table.place,
    };
    tables.into_iter().map(profile).collect()
}

fn machines(top: &Table<'_>, report: &mut Report<'_>) -> Vec<Machine> {
    let known = [
        "mac",
        "uuid",
        "relay_port",
        "name",
        "ip",
        "profile",
        "args",
        "labels",
        "documents",
        "boot_file",
        "options",
        "bmc",
    ];
    let tables = top.tables("machine", &known, report);
    let machine = |table: Table<'_>| Machine {
        macs: table.one_or_more_texts("mac", "52:54:00:00:00:01", report),
        uuid: table.text("uuid", "4c4c4544-0042-3510-8052-b4c04f4e3132", report),
        relay_port: relay_port::read(&table, report),
        has_identity: table.has("mac") || table.has("uuid") || table.has("relay_port"),
        name: table.text("name", "rack1-node1", report),
        has_name: table.has("name"),
        ip: table.text("ip", "10.1.1.50", report),
        has_ip: table.has("ip"),
        profile: table.text("profile", "talos", report),
        args: table.text("args", "console=ttyS0", report),
        labels: table.free_texts("labels", "role = \"worker\"", report),
        documents: documents::read(&table, report),
        boot_file: table.text("boot_file", "custom.efi", report),
        options: option::read(&table, report),
        bmc: bmc::read(&table, report),
        place: table.place,
    };
    tables.into_iter().map(machine).collect()
}
