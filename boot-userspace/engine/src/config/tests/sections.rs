//! Each section of the file: what may be written, and what may not.

use super::*;

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
fn webhooks() {
    assert!(good(BASE).webhooks.is_empty());
    let least = "[[webhook]]\nname = 'chat'\nurl = 'https://h.example/x'\nsecret_file = '/s'\nevents = ['state', 'power']\n";
    let all = "labels = { role = 'worker' }\ncertificate = '/ca'\ntries = 3\n";
    let webhooks = good(&format!("{BASE}{least}{all}{}", least.replace("chat", "cmdb"))).webhooks;
    assert_eq!(webhooks[0].events, [EventKind::State, EventKind::Power]);
    assert_eq!((webhooks[0].tries, webhooks[1].tries), (3, DEFAULT_TRIES));
    assert_eq!(webhooks[0].labels.get("role").map(String::as_str), Some("worker"));
    bad_after_base(
        "[[webhook]]\n",
        &[
            (1, "webhook[0].name", "is missing"),
            (1, "webhook[0].url", "is missing"),
            (1, "webhook[0].secret_file", "is missing"),
            (1, "webhook[0]", "has no events"),
        ],
    );
    bad_after_base(
        &least.replace("'power'", "'pwer'"),
        &[(5, "webhook[0].events[1]", "did you mean \"power\"?")],
    );
    bad_after_base(&least.replace("https://h.example/x", "h.example"), &[(3, "webhook[0].url", "is no URL")]);
    bad_after_base(&least.replace("'/s'", "'s'"), &[(4, "webhook[0].secret_file", "not an absolute path")]);
    bad_after_base(&least.replace("chat", "a b"), &[(2, "webhook[0].name", "cannot be the name")]);
    bad_after_base(&format!("{least}tries = 99\n"), &[(6, "webhook[0].tries", "")]);
    bad_after_base(&format!("{least}{least}"), &[(7, "webhook[1].name", "is already at")]);
}

#[test]
fn traces() {
    assert_eq!(good(BASE).traces, Traces::default());
    for written in ["http://10.1.0.9:4318", "HTTP://10.1.0.9:4318/", "http://10.1.0.9:4318/v1/traces"] {
        let traces = good(&format!("{BASE}[traces]\notlp = '{written}'\n")).traces;
        assert_eq!(traces.otlp.as_deref(), Some("http://10.1.0.9:4318"), "{written}");
    }
    bad_after_base("[traces]\n", &[(1, "traces.otlp", "")]);
    bad_after_base("[traces]\notlp = '10.1.0.9:4318'\n", &[(2, "traces.otlp", "is no URL")]);
    bad_after_base("[traces]\notlp = 'http://u:p@h'\n", &[(2, "traces.otlp", "a user or a password")]);
    let without = format!("boots = false\n{BASE}[traces]\notlp = 'http://10.1.0.9'\n");
    bad(&without, &[(12, "traces.otlp", "take boots = false out")]);
}

#[test]
fn api() {
    assert_eq!(good(BASE).api, None);
    let api = good(&format!("{BASE}[api]\nlisten = '127.0.0.1:8081'\n")).api.unwrap();
    assert_eq!((api.listen.port(), api.tls, api.public_read), (8081, None, false));
    let encrypted = "[api]\nlisten = '10.1.0.2:8443'\ncertificate = '/c'\nkey = '/k'\npublic_read = true\n";
    let api = good(&format!("{BASE}{encrypted}")).api.unwrap();
    assert!(
        api.public_read && api.tls.is_some_and(|tls| tls.listen.port() == 8443 && tls.key.ends_with("k"))
    );
    bad_after_base("[api]\n", &[(1, "api.listen", "")]);
    bad_after_base("[api]\nlisten = '0.0.0.0:8081'\n", &[(2, "api.listen", "clear text")]);
    bad_after_base("[api]\nlisten = '127.0.0.1:8080'\n", &[(2, "api.listen", "has a port of [http]")]);
    bad_after_base("[api]\nlisten = '[::1]:8081'\nkey = '/k'\n", &[(1, "api", "belong together")]);
    bad_after_base(
        "[api]\nlisten = '127.0.0.1:8081'\ntoken = 'x'\n",
        &[(3, "api.token", "there is no such key")],
    );
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
fn architectures_of_a_profile() {
    let text = "[[interface]]\nname = 'eth1'\ndhcp = 'proxy'\n[[profile]]\nname = 'a'\nkernel = 'k'\nconsole = 'ttyS0,115200'\n\
        [profile.arch.arm64]\nkernel = 'arm/k'\ninitrd = []\nargs = 'b=1'\nconsole = 'ttyAMA0'\n\
        [profile.arch.x64]\nargs = 'c=1'\n[[profile]]\nname = 'b'\nkernel = 'k'\narch.riscv64 = { kernel = 'r' }\n";
    let config = parse(text, "test").unwrap();
    let (a, b) = (&config.profiles["a"], &config.profiles["b"]);
    assert_eq!((a.kernel_of(Some(Arch::Arm64)), a.initrd_of(Some(Arch::Arm64)).len()), ("arm/k", 0));
    assert_eq!(a.args_of(Some(Arch::Arm64), "own"), "console=ttyAMA0 b=1 own");
    assert_eq!(a.args_of(Some(Arch::X64), ""), "console=ttyS0,115200 c=1");
    assert_eq!((a.kernel_of(None), b.kernel_of(Some(Arch::Riscv64))), ("k", "r"));
    let wrong = text
        .replace("arm/k", "/arm/k")
        .replace("ttyAMA0", "console=ttyAMA0")
        .replace("arch.x64", "arch.amd64");
    let problems = parse(&wrong, "test").unwrap_err().to_string();
    let lines: Vec<&str> = problems.lines().collect();
    assert_eq!(lines.len(), 3, "{problems}");
    assert!(lines[0].starts_with("test:9: profile[0].arch.arm64.kernel: "), "{problems}");
    assert!(lines[1].starts_with("test:12: profile[0].arch.arm64.console: "), "{problems}");
    assert!(
        lines[2].starts_with("test:13: profile[0].arch.amd64: there is no such key; write bios, "),
        "{problems}"
    );
    let long = text.replace("b=1", &"x".repeat(1995));
    assert!(
        parse(&long, "test")
            .unwrap_err()
            .to_string()
            .contains("with its console and those of an architecture")
    );
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
