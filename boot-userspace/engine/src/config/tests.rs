//! Whole files.

mod answers;
mod identity;
mod packaged;
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
        boot_file: None,
        options: Vec::new(),
    };
    assert_eq!(config.profiles, [("talos".to_owned(), profile)].into());
    assert_eq!(config.default, Default { profile: Some("talos".into()), unknown: Unknown::Boot });
    let machine = Machine {
        macs: vec![boot_common::Mac([0x52, 0x54, 0, 0, 0, 1])],
        uuid: None,
        relay_port: None,
        name: Some("rack1-node1".into()),
        ip: Some([10, 1, 1, 50].into()),
        profile: Some("talos".into()),
        args: "extra.arg=1".into(),
        labels: [("role".to_owned(), "worker".to_owned())].into(),
        boot_file: None,
        options: Vec::new(),
    };
    assert_eq!(config.machines, [machine]);
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
    assert_eq!(config.fast_path_memory, 1 << 30);
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

#[test]
fn five_mistakes_are_five_problems() {
    let text = EXAMPLE
        .replace("dhcp = \"server\"", "dhcp = \"sever\"")
        .replace("router = \"10.1.0.1\"", "router = \"10.2.0.1\"")
        .replace("kernel = ", "kernal = ")
        .replace("unknown = \"boot\"", "unknown = 5")
        .replace("mac = \"52:54:00:00:00:01\"", "mac = \"52:54:00:00:00\"");
    bad(
        &text,
        &[
            (8, "interface[0].dhcp", "write \"server\", \"proxy\" or \"off\" (did you mean \"server\"?)"),
            (13, "subnet[0].router", "10.2.0.1 is not in 10.1.0.0/16"),
            (19, "profile[0].kernal", "did you mean kernel?"),
            (24, "default.unknown", "has to be a text in quotes, not a number; write unknown = \"boot\""),
            (26, "machine[0].mac", "is not a MAC address"),
        ],
    );
    let problems = parse(&text, "/etc/xpxe.toml").expect_err("five").to_string();
    assert_eq!(problems.lines().count(), 5);
    assert!(
        problems.starts_with("/etc/xpxe.toml:8: interface[0].dhcp: \"sever\" is not known"),
        "{problems}"
    );
}

#[test]
fn bytes_that_are_not_text() {
    let not_utf8 = parse_bytes(b"a = 1\nb = \"\xff\"\n".to_vec(), "test").expect_err("not UTF-8");
    assert_eq!(not_utf8.0.first().and_then(|problem| problem.line), Some(2));
    assert!(parse_bytes(EXAMPLE.as_bytes().to_vec(), "test").is_ok());
}

#[test]
fn text_that_is_not_toml() {
    // The structure is lost: what comes behind would be misread.
    bad("[[interface]\nname = \"eth1\"\ndhcp = 5", &[(1, "", "this is not TOML: unclosed array table")]);
    bad("a = [1,\n2\nb = 3\n", &[(3, "", "this is not TOML: missing comma")]);
    bad("\n\nname 5", &[(3, "", "this is not TOML: key with no value")]);
    bad("a = \"\"\"abc\n\n", &[(3, "", "this is not TOML: invalid multi-line")]);
    // Only values are lost.
    bad_after_base(
        "[default]\nunknown = boot\n[[machine]]\nmac = 52:54:00:00:00:01\nip = 10.1.1.5\nname = \"x\n",
        &[
            (2, "default.unknown", "write \"boot\" instead of boot"),
            (4, "machine[0].mac", "write \"52:54:00:00:00:01\" instead of 52:54:00:00:00:01"),
            (5, "machine[0].ip", "write \"10.1.1.5\" instead of 10.1.1.5"),
            (6, "machine[0].name", "this is not TOML: invalid basic string"),
        ],
    );
    bad(
        "[[interface]]\nname = \"eth1\"\nrouter_advertisement = yes\n[[subnet]]\ncidr = 10.1.0.0/16\n\
         pool = [\"10.1.0.2-10.1.0.9\",\n 10.1.1.2-10.1.1.9]\nlease = 10m\nnonsense = nonsense",
        &[
            (3, "interface[0].router_advertisement", "write router_advertisement = true"),
            (5, "subnet[0].cidr", "write \"10.1.0.0/16\" instead"),
            (7, "subnet[0].pool[1]", "write \"10.1.1.2-10.1.1.9\" instead"),
            (8, "subnet[0].lease", "write \"10m\" instead"),
            (9, "subnet[0].nonsense", "there is no such key"),
            (9, "", "this is not TOML: "),
        ],
    );
    bad(
        &format!(
            "{BASE}[http]\nlisten = \"0.0.0.0:80\"\nlisten = \"0.0.0.0:81\"\n[http]\nadvertise = \"x\"\n"
        ),
        &[
            (12, "listen", "is written twice"),
            (13, "http", "is written twice"),
            (14, "http.advertise", "is not an address"),
        ],
    );
}

#[test]
fn keys_that_are_not_there() {
    bad(
        &format!(
            "colour = 1\nboot-dir = \"/x\"\n{BASE}[[machine]]\nmac = \"52:54:00:00:00:01\"\nstate_dir = \"/x\"\n"
        ),
        &[
            (1, "colour", "write state_dir, boot_dir,"),
            (2, "boot-dir", "did you mean boot_dir?"),
            (14, "machine[0].state_dir", "belongs at the top of the file"),
        ],
    );
    // A misspelled section is read all the same: nothing is missing, and its own mistakes show.
    bad(
        "[[interfaces]]\nname = \"eth1\"\ndhcp = \"x\"\n[[subnets]]\ncidr = \"10.1.0.0/16\"\n\"a b\" = 1",
        &[
            (1, "interfaces", "did you mean interface?"),
            (3, "interfaces[0].dhcp", "is not known"),
            (4, "subnets", "did you mean subnet?"),
            (6, "subnets[0].\"a b\"", "there is no such key"),
        ],
    );
    // Both spellings: the right one counts.
    bad_after_base(
        "[default]\nunknown = \"boot\"\nunknwon = 5\n",
        &[(3, "default.unknwon", "did you mean unknown?")],
    );
}

#[test]
fn values_of_the_wrong_type() {
    bad(
        "state_dir = 1\nhttp = 2\nipxe = [3]\nsubnet = 4\nprofile = [5]\nmachine = true\n\
         [[interface]]\nname = [\"eth1\"]\ndhcp = 1.5\nrouter_advertisement = \"true\"\n",
        &[
            (1, "state_dir", "has to be a text in quotes, not a number; write state_dir = \"/var/lib/xpxe\""),
            (2, "http", "has to be a section, not a number; write [http]"),
            (3, "ipxe", "has to be a section, not a list; write [ipxe]"),
            (4, "subnet", "has to be a section, not a number; write [[subnet]]"),
            (5, "profile[0]", "has to be a section, not a number; write [[profile]]"),
            (6, "machine", "has to be a section, not true or false; write [[machine]]"),
            (8, "interface[0].name", "not a list"),
            (9, "interface[0].dhcp", "not a number with a fraction"),
            (10, "interface[0].router_advertisement", "true or false, without quotes"),
        ],
    );
    bad_after_base(
        "[[machine]]\nmac = 5\nlabels = \"x\"\n[[machine]]\nmac = [1, \"x\"]\nlabels = { a = 1, b = \"b\" }\nip = 10.5\n\
         [[subnet]]\ncidr = 1979-05-27\npool = \"10.2.0.1-10.2.0.2\"\ndns = [{}]\n",
        &[
            (2, "machine[0].mac", "has to be a text in quotes, not a number"),
            (3, "machine[0].labels", "has to be a table, not a text; write labels = { role = \"worker\" }"),
            (5, "machine[1].mac[0]", "not a number"),
            (5, "machine[1].mac[1]", "is not a MAC"),
            (6, "machine[1].labels.a", "has to be a text in quotes, not a number"),
            (7, "machine[1].ip", "not a number with a fraction"),
            (9, "subnet[1].cidr", "not a date or time"),
            (10, "subnet[1].pool", "has to be a list, not a text; write pool = [\"10.1.1.33-10.1.1.233\"]"),
            (11, "subnet[1].dns[0]", "has to be a text in quotes, not a table"),
        ],
    );
    // Single and double brackets mixed up; what is inside is read.
    bad(
        "[interface]\nname = \"\"\ndhcp = \"off\"\n[[http]]\nlisten = \"x\"\n",
        &[
            (1, "interface", "write [[interface]] with double brackets"),
            (2, "interface[0].name", "is empty"),
            (4, "http", "write [http] with single brackets"),
            (5, "http[0].listen", "is not an address"),
        ],
    );
}

#[test]
fn values_that_have_to_be_there() {
    bad("", &[(0, "interface", "write an [[interface]] section with name = \"eth1\"")]);
    bad("interface = []", &[(0, "interface", "write an [[interface]] section")]);
    bad_after_base(
        "[[interface]]\n[[subnet]]\nlease = \"1h\"\n[[profile]]\nargs = \"a\"\n[[machine]]\nname = \"a\"\n\
         [[machine]]\nmac = []\n",
        &[
            (1, "interface[1].name", "is missing; write name = \"eth1\""),
            (2, "subnet[1].cidr", "is missing; write cidr = \"10.1.0.0/16\""),
            (4, "profile[1].name", "is missing"),
            (4, "profile[1].kernel", "is missing; write kernel = \"talos/vmlinuz\""),
            (6, "machine[0]", "nothing tells this machine from others; write mac ="),
            (9, "machine[1].mac", "the list is empty; write mac = [\"52:54:00:00:00:01\"]"),
        ],
    );
}

#[test]
fn directories_and_binaries() {
    bad(
        &format!(
            "state_dir = \"x\"\nboot_dir = \"\"\npin_dir = \"./x\"\n{BASE}[ipxe]\nx64 = \"a\"\nx86 = \"/a\"\nbios = 1"
        ),
        &[
            (1, "state_dir", "is not an absolute path"),
            (2, "boot_dir", "is not an absolute path"),
            (3, "pin_dir", "is not an absolute path"),
            (14, "ipxe.x64", "is not an absolute path"),
            (15, "ipxe.x86", "there is no such key"),
            (16, "ipxe.bios", "has to be a text"),
        ],
    );
    let all = "bios ia32 x64 arm32 arm64 riscv64 loongarch64"
        .split(' ')
        .map(|kind| format!("{kind} = \"/{kind}\"\n"));
    assert_eq!(good(&format!("{BASE}[ipxe]\n{}", all.collect::<String>())).ipxe.len(), 7);
}

#[test]
fn http() {
    bad_after_base(
        "[http]\nlisten = \"8080\"\nadvertise = \"0.0.0.0\"\n",
        &[(2, "http.listen", "is not an address and port"), (3, "http.advertise", "machines cannot connect")],
    );
    bad_after_base(
        "[http]\nconnections_per_address = 0\ntrusted_proxies = [\"10.1.0.5/24\"]\nshared_addresses = [\"nat\"]\n",
        &[
            (2, "http.connections_per_address", "1 to 4096"),
            (3, "http.trusted_proxies[0]", "10.1.0.5/24 has host bits set; write \"10.1.0.0/24\""),
            (4, "http.shared_addresses[0]", "is neither an address nor a network"),
        ],
    );
}

#[test]
fn interfaces() {
    bad_after_base(
        "[[interface]]\nname = \"eth1\"\nfast_path = \"xpd\"\n[[interface]]\nname = \"abcdefghijklmnop\"\ndhcp = \"Server\"",
        &[
            (2, "interface[1].name", "interface \"eth1\" is already at interface[0].name (line 2)"),
            (3, "interface[1].fast_path", "did you mean \"xdp\"?"),
            (5, "interface[2].name", "at most 15"),
            (6, "interface[2].dhcp", "did you mean \"server\"?"),
        ],
    );
}

#[test]
fn a_server_needs_addresses() {
    bad("[[interface]]\nname = \"a\"\n", &[(1, "interface[0]", "write a [[subnet]] with")]);
    let server = "[[interface]]\nname = \"a\"\ndhcp = \"server\"\n[[interface]]\nname = \"b\"\n";
    bad(server, &[(3, "interface[0].dhcp", "write a [[subnet]] with")]);
    let subnet = "[[subnet]]\ncidr = \"10.1.0.0/16\"\n";
    bad(&format!("{server}{subnet}"), &[(3, "interface[0].dhcp", "no [[subnet]] has a pool")]);
    good(&format!("{server}{subnet}[[machine]]\nmac = \"52:54:00:00:00:01\"\nip = \"10.1.0.5\""));
    good("[[interface]]\nname = \"a\"\ndhcp = \"off\"\n");
    // What could not be read is not missing as well.
    bad(&format!("{server}{subnet}pool = 5"), &[(8, "subnet[0].pool", "has to be a list")]);
    bad("[[interface]]\nname = \"a\"\ndhcp = 5\n", &[(3, "interface[0].dhcp", "has to be a text")]);
}

#[test]
fn subnets() {
    bad_after_base(
        "[[subnet]]\ncidr = \"10.1.2.0/24\"\n[[subnet]]\ncidr = \"10.2.0.1/16\"\nrouter = \"10.9.0.1\"\n\
         [[subnet]]\ncidr = \"10.3.0.0/24\"\nrouter = \"10.3.0.255\"\ndns = [\"10.3.0.1\",\n\"x\"]\n\
         domain = \"a b\"\nlease = \"30s\"\n[[subnet]]\ncidr = \"10.4.0.0/24\"\nrouter = \"10.4.0.0\"",
        &[
            (2, "subnet[1].cidr", "10.1.2.0/24 overlaps 10.1.0.0/16 of subnet[0].cidr (line 4)"),
            (4, "subnet[2].cidr", "has host bits set; write \"10.2.0.0/16\""),
            (8, "subnet[3].router", "is the broadcast address"),
            (10, "subnet[3].dns[1]", "is not an IPv4 address"),
            (11, "subnet[3].domain", "is not a domain"),
            (12, "subnet[3].lease", "is too short"),
            (15, "subnet[4].router", "is the network address"),
        ],
    );
}

#[test]
fn pools() {
    bad_after_base(
        "[[subnet]]\ncidr = \"10.2.0.0/24\"\npool = [\n\"10.2.0.10-10.2.0.20\",\n\"10.2.0.20-10.2.0.30\",\n\
         \"10.2.0.9-10.2.0.1\",\n\"10.2.0.100-10.2.1.10\",\n\"10.2.0.0-10.2.0.9\",\n\"10.2.0.250-10.2.0.255\",\n\"x\",\n]",
        &[
            (5, "subnet[1].pool[1]", "overlaps 10.2.0.10-10.2.0.20 of subnet[1].pool[0] (line 13)"),
            (6, "subnet[1].pool[2]", "write \"10.2.0.1-10.2.0.9\""),
            (7, "subnet[1].pool[3]", "write a range in 10.2.0.1-10.2.0.254"),
            (8, "subnet[1].pool[4]", "not within the host addresses"),
            (9, "subnet[1].pool[5]", "not within the host addresses"),
            (10, "subnet[1].pool[6]", "is not a range"),
        ],
    );
    let point = "[[interface]]\nname = \"a\"\n[[subnet]]\ncidr = \"10.2.0.0/31\"\nrouter = \"10.2.0.0\"\n";
    good(&format!("{point}pool = [\"10.2.0.1\"]"));
}

#[test]
fn profiles() {
    let long = "x".repeat(2001);
    bad_after_base(
        &format!(
            "[[profile]]\nname = \"talos\"\nkernel = \"/k\"\ninitrd = [\"a\", \"../b\"]\nargs = \"a\\nb\"\n\
             [[profile]]\nname = \"a b\"\nkernel = \"ftp://x/k\"\nargs = \"{long}\"\n[default]\nprofile = \"talso\"\n"
        ),
        &[
            (2, "profile[1].name", "profile \"talos\" is already at profile[0].name (line 8)"),
            (3, "profile[1].kernel", "is an absolute path"),
            (4, "profile[1].initrd[1]", "leaves boot_dir"),
            (5, "profile[1].args", "one line"),
            (7, "profile[2].name", "cannot be a profile"),
            (8, "profile[2].kernel", "write an http:// or https:// URL"),
            (9, "profile[2].args", "2001 bytes"),
            (11, "default.profile", "there is no profile \"talso\" (did you mean \"talos\"?)"),
        ],
    );
    // The name that is missing may be the one that is meant.
    bad_after_base(
        "[default]\nprofile = \"x\"\n[[profile]]\nname = 5\nkernel = \"k\"\n",
        &[(4, "profile[1].name", "")],
    );
    bad_after_base(
        "[default]\nunknown = \"discovery\"\n",
        &[(2, "default.unknown", "did you mean \"discover\"?")],
    );
}

#[test]
fn machines() {
    bad_after_base(
        "[[machine]]\nmac = [\"52:54:00:00:00:01\", \"52-54-00-00-00-01\"]\nname = \"Node\"\nip = \"10.1.0.5\"\n\
         [[machine]]\nmac = \"525400000001\"\nname = \"node\"\nip = \"10.1.0.5\"\nprofile = \"x\"\nargs = \"a\\u0000\"\n\
         labels = { a = \"\\n\" }\n[[machine]]\nmac = \"01:54:00:00:00:01\"\nname = \"a.b\"\nip = \"10.1.0\"\n",
        &[
            (2, "machine[0].mac[1]", "is already at machine[0].mac[0] (line 11)"),
            (6, "machine[1].mac", "is already at machine[0].mac[0] (line 11)"),
            (7, "machine[1].name", "machine \"node\" is already at machine[0].name (line 12)"),
            (8, "machine[1].ip", "address \"10.1.0.5\" is already at machine[0].ip (line 13)"),
            (9, "machine[1].profile", "there is no profile \"x\";"),
            (10, "machine[1].args", "one line"),
            (11, "machine[1].labels.a", "control character"),
            (13, "machine[2].mac", "is a group"),
            (14, "machine[2].name", "write only \"a\" here"),
            (15, "machine[2].ip", "is not an IPv4 address"),
        ],
    );
}

#[test]
fn addresses_of_machines() {
    let machine = |ip: &str| format!("[[machine]]\nmac = \"52:54:00:00:00:01\"\nip = \"{ip}\"\n");
    for (ip, why) in [
        ("10.2.0.1", "is in no [[subnet]]"),
        ("10.1.0.1", "is the router of 10.1.0.0/16"),
        ("10.1.0.0", "is the network address of 10.1.0.0/16"),
        ("10.1.255.255", "is the broadcast address of 10.1.0.0/16"),
        ("255.255.255.255", "is not the address of a host"),
    ] {
        bad_after_base(&machine(ip), &[(3, "machine[0].ip", why)]);
    }
    good(&format!("{BASE}{}", machine("10.1.1.5")));
    good(&format!("[[interface]]\nname = \"a\"\ndhcp = \"proxy\"\n{}", machine("10.2.0.1")));
    // It may be in the subnet that could not be read.
    let text = format!("[[subnet]]\ncidr = \"10.2.0.0\"\n{}", machine("10.2.0.1"));
    bad_after_base(&text, &[(2, "subnet[1].cidr", "has no prefix length")]);
}

#[test]
fn arguments_of_profile_and_machine_together() {
    let profile = format!("[[profile]]\nname = \"p\"\nkernel = \"k\"\nargs = \"{}\"\n", "x".repeat(1500));
    let machine = |profile: &str, args: usize| {
        format!("[[machine]]\nmac = \"52:54:00:00:00:01\"\n{profile}args = \"{}\"\n", "y".repeat(args))
    };
    good(&format!("{BASE}{}", machine("profile = \"talos\"\n", 2000 - 1)));
    let text = format!("{profile}{}", machine("profile = \"p\"\n", 500));
    bad_after_base(&text, &[(8, "machine[0].args", "has 2001 bytes with the arguments of its profile")]);
    let text = format!("{profile}[default]\nprofile = \"p\"\n{}", machine("", 500));
    bad_after_base(&text, &[(9, "machine[0].args", "has 2001 bytes with the arguments of its profile")]);
}

#[test]
fn texts_without_quotes_are_found_at_their_key() {
    for word in [
        "talos",
        "true1",
        "falsely",
        "ignore",
        "inf1",
        "node1",
        "nan1",
        "off",
        "tc",
        "_x",
        "-x",
        "+x",
        ".5",
        "5.",
        "1gbit",
        "2d",
        "10.1.0.0/16",
        "010.1.0.1",
        "0",
        "00",
        "0xg",
        "0o9",
        "0b2",
        "1e",
        "1_",
        "+0x1",
        "0X1",
        "1979-05",
        "1979-13-01",
        "25:00:00",
        "52:54:00:00:00:01",
        "52-54-00-00-00-01",
        "525400000001",
        "525400ab0001",
        "/var/lib",
        "a/b",
        "eth0.100",
        "http://10.1.0.1/x",
        "fd00::1",
        "é",
    ] {
        let text = format!("[[interface]]\nname = {word}\ndhcp = \"proxy\"\nfast_path = {word}\n");
        let problems = parse(&text, "xpxe.toml").expect_err(word);
        let places: Vec<_> = problems.0.iter().map(|p| (p.line, p.key.as_str())).collect();
        assert_eq!(
            places,
            [(Some(2), "interface[0].name"), (Some(4), "interface[0].fast_path")],
            "{problems}"
        );
    }
}

/// Edits the examples at random: whatever comes out, `parse` returns, and every problem has a line of the file.
#[test]
fn never_panics() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % u64::try_from(below.max(1)).unwrap()).unwrap()
    };
    let snippets = [
        "\"",
        "'",
        "\"\"\"",
        "[",
        "]",
        "[[",
        "]]",
        "{",
        "}",
        "=",
        ",",
        ".",
        "\n",
        "\r",
        "\0",
        "#",
        "\\",
        "é",
        "\u{feff}",
        "-",
        "/",
        "99999999999999999999",
        "0x",
        "1e400",
        "nan",
        "true",
        "1979-05-27T07:32:00Z",
        "interface",
        "[http]",
        "[[http]]",
        "[[interface]]",
        "[[machine]]",
        "machine.mac.x = 1\n",
        "a.b.c = { d = [ { e = 1 } ] }\n",
        "255.255.255.255",
        "/0",
        "/32",
        "..",
        "18446744073709551615d",
        "[[boot_file]]",
        "[[machine.options]]",
        "{ code = 255, u8 = 256 }, ",
        "ip = [",
        "hex = ",
        "-1",
        "65536",
        "4294967296",
    ];
    let (mut accepted, mut refused) = (0, 0);
    for round in 0..12_000 {
        let example = if round % 2 == 0 { EXAMPLE } else { EXTENDED };
        let mut chars: Vec<char> = example.chars().collect();
        for _ in 0..=random(4) {
            let at = random(chars.len());
            match random(5) {
                0 => drop(chars.drain(at..(at + random(30)).min(chars.len()))),
                1 => drop(chars.splice(at..at, snippets[random(snippets.len())].chars())),
                2 => {
                    let other = random(chars.len());
                    chars.swap(at, other);
                }
                3 => {
                    let copy: Vec<char> =
                        chars.iter().skip(random(chars.len())).take(random(200)).copied().collect();
                    drop(chars.splice(at..at, copy));
                }
                _ => {
                    if let (Some(c), Some(b)) = (chars.get_mut(at), u8::try_from(random(128)).ok()) {
                        *c = char::from(b);
                    }
                }
            }
        }
        let text: String = chars.into_iter().collect();
        match parse(&text, "fuzz") {
            Ok(_) => accepted += 1,
            Err(problems) => {
                refused += 1;
                assert!(!problems.0.is_empty());
                let lines = text.matches('\n').count() + 1;
                assert!(
                    problems.0.iter().all(|p| p.line.is_none_or(|line| (1..=lines).contains(&line))),
                    "{text}"
                );
                assert_eq!(problems.to_string().lines().count(), problems.0.len(), "{problems}\n{text}");
            }
        }
    }
    assert!(accepted > 200 && refused > 2000, "{accepted} {refused}");
}
