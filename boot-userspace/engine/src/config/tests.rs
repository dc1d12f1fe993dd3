//! Whole files.

mod answers;
mod boots;
mod documents;
mod files;
mod groups;
mod identity;
mod images;
mod lifecycle;
mod mistakes;
mod packaged;
mod sections;
mod templates;
mod tftp;

use std::path::Path;
use std::time::Duration;

use ipnet::IpNet;

use super::*;

/// Checks that `read` refuses each text, and says why.
pub(super) fn refused<T: std::fmt::Debug>(read: impl Fn(&str) -> Result<T, String>, cases: &[(&str, &str)]) {
    for (text, why) in cases {
        let told = read(text);
        assert!(told.as_ref().is_err_and(|told| told.contains(why)), "{text}: {why}: {told:?}");
    }
}

/// The example of the design.
const EXAMPLE: &str = r#"state_dir = "/var/lib/xpxe"              # store, cache
boot_dir  = "/var/lib/xpxe/boot"         # what TFTP and HTTP may serve
pin_dir   = "/sys/fs/bpf/xpxe"           # in a bpffs; mounted if it is not there
[http]
listen = "0.0.0.0:8080"                  # advertise = address the client's interface has, unless set
[[interface]]
name = "eth1"
dhcp = "server"                          # server | proxy | off
fast_path = "auto"                       # auto | xdp | tc | off
[[subnet]]
cidr = "10.1.0.0/16"
pool = ["10.1.1.33-10.1.1.233"]
router = "10.1.0.1"
dns = ["10.1.1.2"]
domain = "mtl"
lease = "10m"
[[profile]]
name = "talos"
kernel = "talos/vmlinuz"
initrd = ["talos/initramfs.xz"]
args = "console=ttyS0 talos.platform=metal"
[default]
profile = "talos"
unknown = "boot"                         # boot | discover | ignore
[[machine]]
mac = "52:54:00:00:00:01"
name = "rack1-node1"
ip = "10.1.1.50"
profile = "talos"
args = "extra.arg=1"
labels = { role = "worker" }
"#;

/// What a file may say besides the example, with every kind of option.
const EXTENDED: &str = r#"[[interface]]
name = "eth1"
[[boot_file]]
arch = 11
oui = "b8:27:eb"
file = "custom.efi"
[[boot_file]]
arch = [7, 9]
file = "http://10.1.0.2/custom.efi"
[[subnet]]
cidr = "10.1.0.0/16"
pool = ["10.1.1.33-10.1.1.233"]
lease = "1h"
boot_lease = "2m"
probe = false
options = [
    { code = 42, ip = ["10.1.0.5", "10.1.0.6"] },
    { code = 28, ip = "255.255.255.255" },
    { code = 66, text = "tftp.example" },
    { code = 120, hex = "00:ff" },
    { code = 23, u8 = 64 },
    { code = 26, u16 = 9000 },
    { code = 2, u32 = 3600 },
    { code = 19, bool = true },
    { code = 252, text = "http://10.1.0.2/wpad.dat", always = true },
]
[[profile]]
name = "talos"
kernel = "talos/vmlinuz"
boot_file = "talos/uki.efi"
options = [{ code = 12, text = "someone" }, { code = 80, hex = "" }]
[[machine]]
uuid = "4c4c4544-0042-3510-8052-b4c04f4e3132"
boot_file = "https://10.1.0.2/uki.efi"
[[machine.options]]
code = 0x2b
hex = "0106"
[[machine]]
relay_port = "Ethernet1/7"
[[machine]]
mac = "52:54:00:00:00:01"
uuid = "4C4C4544-0042-3510-8052-B4C04F4E3133"
relay_port = { circuit_id = "0x0004000a", remote_id = "switch1" }
"#;

/// An interface, a subnet and a profile without mistakes: nine lines.
const BASE: &str = r#"[[interface]]
name = "eth1"
[[subnet]]
cidr = "10.1.0.0/16"
pool = ["10.1.1.1-10.1.1.9"]
router = "10.1.0.1"
[[profile]]
name = "talos"
kernel = "k"
"#;

fn good(text: &str) -> Config {
    parse(text, "xpxe.toml").unwrap_or_else(|problems| panic!("{problems}\n---\n{text}"))
}

/// The problems are exactly these: line, key, part of the message.
#[track_caller]
fn bad(text: &str, expected: &[(usize, &str, &str)]) {
    let problems = parse(text, "xpxe.toml").expect_err(text);
    let found: Vec<_> = problems.0.iter().map(|p| (p.line.unwrap_or(0), p.key.as_str())).collect();
    let wanted: Vec<_> = expected.iter().map(|(line, key, _)| (*line, *key)).collect();
    assert_eq!(found, wanted, "{problems}\n---\n{text}");
    for (problem, (.., message)) in problems.0.iter().zip(expected) {
        assert!(problem.message.contains(message), "{message}: {problems}");
    }
}

/// [`bad`] for lines behind [`BASE`], counted from 1.
#[track_caller]
fn bad_after_base(lines: &str, expected: &[(usize, &str, &str)]) {
    let shifted: Vec<_> = expected.iter().map(|(line, key, message)| (line + 9, *key, *message)).collect();
    bad(&format!("{BASE}{lines}"), &shifted);
}

#[test]
fn the_example_of_the_design() {
    let config = good(EXAMPLE);
    assert_eq!(config.state_dir, Path::new("/var/lib/xpxe"));
    assert_eq!(config.boot_dir, Path::new("/var/lib/xpxe/boot"));
    assert_eq!(config.pin_dir, Path::new("/sys/fs/bpf/xpxe"));
    assert_eq!(config.http, Http::default());
    assert_eq!(config.fast_path_memory, 64 << 20);
    assert_eq!(
        config.tftp,
        Tftp { windowsize: 16, single_port: true, clients: TftpClients::Served(Vec::new()) }
    );
    assert!(config.ipxe.is_empty());
    let interface = Interface {
        name: "eth1".into(),
        dhcp: DhcpRole::Server,
        fast_path: FastPath::Auto,
        router_advertisement: true,
    };
    assert_eq!(config.interfaces, [interface]);
    let subnet = Subnet {
        cidr: "10.1.0.0/16".parse().unwrap(),
        pool: vec![([10, 1, 1, 33].into(), [10, 1, 1, 233].into())],
        router: Some([10, 1, 0, 1].into()),
        dns: vec![[10, 1, 1, 2].into()],
        domain: Some("mtl".into()),
        lease: Duration::from_secs(600),
        boot_lease: Duration::from_secs(300),
        probe: true,
        authoritative: false,
        options: Vec::new(),
    };
    assert_eq!(config.subnets, [subnet]);
    let profile = Profile {
        kernel: "talos/vmlinuz".into(),
        initrd: vec!["talos/initramfs.xz".into()],
        args: "console=ttyS0 talos.platform=metal".into(),
        ..Profile::default()
    };
    assert_eq!(config.profiles, [("talos".to_owned(), profile)].into());
    assert_eq!(config.default, Default { profile: Some("talos".into()), unknown: Unknown::Boot });
    let machine = Machine {
        macs: vec![boot_common::Mac([0x52, 0x54, 0, 0, 0, 1])],
        uuid: None,
        serial: None,
        relay_port: None,
        name: Some("rack1-node1".into()),
        ip: Some([10, 1, 1, 50].into()),
        profile: Some("talos".into()),
        args: "extra.arg=1".into(),
        documents: None,
        labels: [("role".to_owned(), "worker".to_owned())].into(),
        boot_file: None,
        options: Vec::new(),
        bmc: None,
        image: None,
        inventory: None,
    };
    assert_eq!(config.machines, [std::sync::Arc::new(machine)]);
    assert_eq!(good(&EXAMPLE.replace('\n', "\r\n")), config);
}

#[test]
fn what_is_left_out_has_defaults() {
    let config = good("[[interface]]\nname = \"eth1\"\ndhcp = \"proxy\"\n");
    let interface = Interface {
        name: "eth1".into(),
        dhcp: DhcpRole::Proxy,
        fast_path: FastPath::Auto,
        router_advertisement: true,
    };
    assert_eq!(config, Config { interfaces: vec![interface], ..Config::empty() });

    let config = good(&format!("state_dir = \"/srv/xpxe\"\n{BASE}"));
    assert_eq!(config.boot_dir, Path::new("/srv/xpxe/boot"));
    assert_eq!(config.interfaces.first().map(|i| i.dhcp), Some(DhcpRole::Server));
}

#[test]
fn everything_that_may_be_written() {
    let text = "
        pin_dir = '/sys/fs/bpf/a'
        fast_path_memory = '1G'
        boots = false
        [tftp]\nwindowsize = 1\nsingle_port = false\nclients = 'any'
        [http]\nlisten = '127.0.0.1:81'\nadvertise = '10.1.0.2'
        connections_per_address = 4096
        threads = 3
        trusted_proxies = ['10.1.0.5', '2001:db8::/64']
        shared_addresses = ['0.0.0.0/0']
        [ipxe]\nx64 = '/a/snponly.efi'\nbios = '/a/undionly.kpxe'
        [[interface]]\nname = 'eth1'\nfast_path = 'tc'\nrouter_advertisement = false
        [[interface]]\nname = 'eth2'\ndhcp = 'off'\nfast_path = 'xdp'
        [[interface]]\nname = 'eth3'\nfast_path = 'off'
        [[subnet]]\ncidr = '10.1.0.0/24'\nlease = '1h'
        pool = [
            '10.1.0.10-10.1.0.19',
            '10.1.0.30',
        ]
        [[subnet]]\ncidr = '10.1.1.0/24'
        [[profile]]\nname = 'net'\nkernel = 'https://example.net/k'\ninitrd = ['http://example.net/i', 'a/b']
        [default]\nunknown = 'discover'
        [[machine]]\nmac = ['52:54:00:00:00:01', '52-54-00-00-00-02']\nip = '10.1.0.10'
        [[machine]]\nmac = '525400000003'\nname = 'a'\nprofile = 'net'
        [machine.labels]\nrack = '1'
    ";
    let config = good(text);
    assert_eq!(config.http.advertise, Some(([10, 1, 0, 2], 81).into()));
    assert_eq!((config.http.connections_per_address, config.http.threads), (4096, Some(3)));
    let nets = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpNet>>();
    assert_eq!(config.http.trusted_proxies, nets(&["10.1.0.5/32", "2001:db8::/64"]));
    assert_eq!(config.http.shared_addresses, nets(&["0.0.0.0/0"]));
    assert_eq!((config.fast_path_memory, config.boots), (1 << 30, false));
    assert_eq!(config.tftp, Tftp { windowsize: 1, single_port: false, clients: TftpClients::Any });
    assert_eq!(config.ipxe.keys().collect::<Vec<_>>(), ["bios", "x64"]);
    assert_eq!(config.interfaces.len(), 3);
    assert!(
        config.interfaces.first().is_some_and(|i| !i.router_advertisement && i.fast_path == FastPath::Tc)
    );
    assert!(
        config.subnets.first().is_some_and(|s| s.pool.len() == 2 && s.lease == Duration::from_secs(3600))
    );
    assert_eq!(config.default.unknown, Unknown::Discover);
    assert_eq!(config.machines.iter().map(|m| m.macs.len()).collect::<Vec<_>>(), [2, 1]);
}
