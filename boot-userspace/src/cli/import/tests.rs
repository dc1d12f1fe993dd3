use std::fs;
use std::path::{Path, PathBuf};

use super::*;

/// Only the result.
fn import(
    from: From,
    path: &Path,
    addresses: &[(String, Ipv4Net)],
    interface: Option<&str>,
) -> Result<write::Written> {
    super::import(from, path, addresses, interface).map(|(written, _)| written)
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/imports")
}

fn result(from: From, name: &str, address: &[&str]) -> Result<String> {
    let addresses: Vec<(String, Ipv4Net)> =
        address.iter().map(|net| (String::new(), net.parse().unwrap())).collect();
    let dir = fixtures();
    let written = import(from, &dir.join(name), &addresses, None)?;
    // What the golden files call it.
    let whole = std::path::absolute(&dir).unwrap();
    Ok(written
        .toml
        .replace(&dir.display().to_string(), "/fixtures")
        .replace(&whole.display().to_string(), "/fixtures"))
}

/// The result of each, as it was read and found good. To accept a change: XPXE_GOLDEN=write cargo test.
#[test]
fn every_configuration_becomes_what_it_became() {
    let cases: [(From, &str, &[&str]); 9] = [
        (From::Dnsmasq, "csm", &["10.1.1.2/16"]),
        (From::Dnsmasq, "dnsmasq-lab.conf", &["10.77.0.1/24"]),
        (From::Dnsmasq, "dnsmasq-proxy.conf", &["10.88.0.5/24"]),
        (From::Dhcpd, "dhcpd-cluster.conf", &["10.77.0.1/24"]),
        (From::Dhcpd, "dhcpd-office.conf", &["192.168.10.5/24"]),
        (From::Kea, "kea.conf", &["10.77.0.1/24"]),
        (From::Matchbox, "matchbox", &[]),
        (From::Bss, "bss.json", &[]),
        (From::Tinkerbell, "tinkerbell.yaml", &[]),
    ];
    for (from, name, address) in cases {
        let toml = result(from, name, address).unwrap();
        let golden = fixtures().join("golden").join(format!("{name}.toml"));
        if std::env::var_os("XPXE_GOLDEN").is_some() {
            fs::write(&golden, &toml).unwrap();
        }
        assert_eq!(toml, fs::read_to_string(&golden).unwrap(), "{name}");
        // The names of its text files are the golden ones.
        let toml = toml.replace("/fixtures", &std::path::absolute(fixtures()).unwrap().display().to_string());
        let source = boot_engine::config::Source { name: name.to_owned(), bytes: toml.into_bytes() };
        let read = |text: &str| crate::cli::configuration::text_file(Path::new("/xpxe.toml"), text);
        boot_engine::config::parse_files_with(&[source], &read).unwrap();
    }
}

/// Each statement is either in the result, or named as left out.
#[test]
fn no_line_of_dnsmasq_is_dropped_without_a_word() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("dnsmasq.conf");
    // Their effect is in the result, if there is one.
    let carried = [
        "interface",
        "port",
        "dhcp-authoritative",
        "no-ping",
        "tftp-root",
        "tftp-single-port",
        "dhcp-leasefile",
        "enable-tftp",
        "domain",
    ];
    let help = std::process::Command::new("dnsmasq").arg("--help").output();
    let help = match help {
        Ok(help) => String::from_utf8(help.stdout).unwrap(),
        Err(_) => "--dhcp-rapid-commit\n--cache-size\n--something-new\n".to_owned(),
    };
    let keys = help.split("--").skip(1).filter_map(|rest| rest.split(['=', ' ', '\n', ',', '[']).next());
    let keys: Vec<&str> = keys.filter(|key| !key.is_empty() && !carried.contains(key)).collect();
    assert!(keys.len() >= 3, "{help}");
    let base = "interface=eth1\ndhcp-range=10.1.0.10,10.1.0.20,255.255.255.0\n";
    for key in keys {
        fs::write(&file, format!("{base}{key}=something\n")).unwrap();
        match import(From::Dnsmasq, &file, &[], None) {
            Ok(written) => {
                let named = written.left.iter().any(|left| left.what.contains(key));
                let used =
                    written.toml.lines().any(|line| line.contains("something") && !line.starts_with('#'));
                assert!(named || used, "{key} is dropped:\n{}", written.toml);
            }
            Err(error) => assert!(error.to_string().contains(":3:"), "{key}: {error}"),
        }
    }
}

/// What is left out goes to the terminal and into the comments of the new configuration.
#[test]
fn passwords_of_what_is_left_out_are_not_told() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    for (from, text, key) in [
        (
            From::Kea,
            "{ \"Dhcp4\": { \"lease-database\": { \"type\": \"mysql\", \"password\": \"s3cret\" },\n\
             \"hooks-libraries\": [ { \"parameters\": { \"secret\": \"s3cret\" } } ],\n\
             \"subnet4\": [ { \"subnet\": \"10.0.0.0/8\", \"pools\": [ { \"pool\": \"10.0.0.10-10.0.0.20\" } ] } ] } }",
            "lease-database",
        ),
        (
            From::Tinkerbell,
            "kind: Hardware\nspec:\n  userData: s3cret\n  metadata:\n    password: s3cret\n    keys: [s3cret]\n  \
             interfaces:\n  - dhcp:\n      mac: 02:00:00:00:00:01\n      ip: {address: 10.0.0.5, netmask: 255.0.0.0}\n",
            "userData",
        ),
    ] {
        fs::write(&file, text).unwrap();
        let written = import(from, &file, &[], Some("eth1")).unwrap();
        assert!(written.toml.contains(key) && !written.toml.contains("s3cret"), "{}", written.toml);
        assert!(written.left.iter().all(|left| !left.what.contains("s3cret")), "{:?}", written.left);
    }
}

#[test]
fn what_cannot_be_read_is_named_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    let told = |from: From, text: &str| {
        fs::write(&file, text).unwrap();
        import(from, &file, &[], None).unwrap_err().to_string()
    };
    for (from, text, told_of) in [
        (
            From::Dnsmasq,
            "port=0\ndhcp-range=eth0\n",
            "file:2: dhcp-range=eth0 does not begin with an IPv4 address",
        ),
        (From::Dnsmasq, "port=0\n\n!!\n", "file:3: \"!!\" is no statement of dnsmasq"),
        (
            From::Dnsmasq,
            "dhcp-host=aa:bb,10.0.0.1\n",
            "file:1: \"aa:bb\" is neither a MAC address nor an IP address",
        ),
        (From::Dhcpd, "authoritative;\nsubnet 10.0.0.0 netmask 255.0.0.0 {\n", "file:2: a { without its }"),
        (From::Dhcpd, "host a {\n hardware ethernet 1:2;\n}\n", "file:2: \"1:2\" is no MAC address"),
        (From::Dhcpd, "option routers 10.0.0.1\n", "file:1: a statement without ; at its end"),
        (
            From::Kea,
            "{\n \"Dhcp4\": {\n  \"subnet4\": [ { \"subnet\": \"10.0.0/8\" } ] } }",
            "file:3: a subnet4 without a network",
        ),
        (From::Kea, "{ \"Dhcp6\": {} }", "file:1: has no Dhcp4"),
        (From::Kea, "{\n\"Dhcp4\": {,\n", "file:2: is no JSON: no text in quotes"),
        (From::Bss, "[]", "file:1: has no boot parameters"),
        (
            From::Tinkerbell,
            "kind: Hardware\nspec:\n  interfaces:\n  - dhcp:\n      mac: nothing\n",
            "\"nothing\" is no MAC address",
        ),
        (From::Tinkerbell, "a: b\n", "has no Hardware"),
        (From::Matchbox, "", "has neither profiles/ nor groups/"),
    ] {
        let told = told(from, text);
        assert!(told.contains(told_of), "{told}");
    }
    let missing = import(From::Dnsmasq, &dir.path().join("missing"), &[], None).unwrap_err().to_string();
    assert!(missing.contains("cannot read") && missing.contains("missing"), "{missing}");
}

#[test]
fn what_xpxe_check_refuses_is_left_out_with_its_reason() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("dnsmasq.conf");
    let text = "interface=eth1\ndhcp-range=10.1.0.10,10.1.0.20,255.255.255.0\ndhcp-option=1,255.255.0.0\n\
        dhcp-host=02:00:00:00:00:01,10.9.0.1,a\ndhcp-host=02:00:00:00:00:02,b\ndhcp-host=02:00:00:00:00:02,c\n";
    fs::write(&file, text).unwrap();
    let written = import(From::Dnsmasq, &file, &[], None).unwrap();
    let left = |line: usize| {
        let left = written.left.iter().find(|left| left.place.line == line);
        left.map(|left| left.why.clone()).unwrap_or_default()
    };
    assert!(left(3).contains("is the mask of the subnet"), "{:?}", written.left);
    assert!(left(4).contains("is in no [[subnet]]"), "{:?}", written.left);
    assert!(!left(6).is_empty(), "{:?}", written.left);
    assert!(
        written.toml.contains("name = \"a\"") && written.toml.contains("name = \"b\""),
        "{}",
        written.toml
    );
}

#[test]
fn files_that_others_name_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir(at("dnsmasq.d")).unwrap();
    fs::write(
        at("dnsmasq.conf"),
        "interface=eth1\nconf-dir=dnsmasq.d,*.conf\nconf-file=none\ndhcp-hostsfile=hosts\n",
    )
    .unwrap();
    fs::write(at("dnsmasq.d/a.conf"), "dhcp-range=10.1.0.10,10.1.0.20,255.255.255.0\nconf-file=a.conf\n")
        .unwrap();
    fs::write(at("dnsmasq.d/b.bak"), "!!\n").unwrap();
    fs::write(at("hosts"), "# one\n02:00:00:00:00:01,10.1.0.5,one\n").unwrap();
    let written = import(From::Dnsmasq, &at("dnsmasq.conf"), &[], None).unwrap();
    assert!(
        written.toml.contains("10.1.0.10-10.1.0.20") && written.toml.contains("name = \"one\""),
        "{}",
        written.toml
    );
    let left = |what: &str| written.left.iter().any(|left| left.what == what);
    assert!(left("conf-file=none") && left("conf-file=a.conf"), "{:?}", written.left);
}

/// A path of somebody else's file is no command to the terminal, and neither is what stands in it.
#[test]
fn what_a_terminal_would_follow_is_written_out() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("dnsmasq.conf");
    let base = "interface=eth1\ndhcp-range=10.1.0.10,10.1.0.20,255.255.255.0\n";
    fs::write(&file, format!("{base}log-facility=\u{1b}]0;owned\u{7}\u{9b}2J\n")).unwrap();
    let written = import(From::Dnsmasq, &file, &[], None).unwrap();
    let told: Vec<String> = written.left.iter().map(ToString::to_string).collect();
    assert!(told.iter().any(|line| line.contains("\\u{1b}]0;owned")), "{told:?}");
    fs::write(&file, format!("{base}\u{1b}[31m\n")).unwrap();
    let told_bad = import(From::Dnsmasq, &file, &[], None).unwrap_err().to_string();
    for text in told.iter().chain([&told_bad, &written.toml]) {
        assert!(text.chars().all(|c| !c.is_control() || c == '\n'), "{text:?}");
    }
}

/// What another server takes for itself is no template of xpxe's.
#[test]
fn braces_in_arguments_come_out_as_they_went_in() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bss.json");
    let params = "a={{x}} b={%y%} c={#z#} d={{{e}}} f={";
    let text =
        format!("[{{\"macs\":[\"02:00:00:00:00:01\"],\"params\":\"{params}\",\"kernel\":\"http://h/k\"}}]");
    fs::write(&file, text).unwrap();
    let written = import(From::Bss, &file, &[], Some("eth1")).unwrap();
    let config = boot_engine::config::parse(&written.toml, "test").unwrap();
    let args = &config.machines.first().unwrap().args;
    let profile = config.profiles.values().next().map(|profile| profile.args.clone()).unwrap_or_default();
    let templates = boot_engine::config::Templates::none();
    let sample = boot_engine::config::Variables::sample(std::collections::BTreeMap::new()).for_args();
    let said = templates.render_text(&format!("{profile} {args}"), &sample).unwrap();
    assert!(said.contains(params), "{said}\n{}", written.toml);
}

/// A file of a thousand times the size of a configuration, a pipe, a device: an error, and at once.
#[test]
fn only_files_of_a_sensible_size_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let (pipe, large) = (dir.path().join("pipe"), dir.path().join("large"));
    let mode = nix::sys::stat::Mode::from_bits_truncate(0o600);
    nix::unistd::mkfifo(&pipe, mode).unwrap();
    fs::File::create(&large).unwrap().set_len((64 << 20) + 1).unwrap();
    for from in [From::Kea, From::Bss, From::Tinkerbell, From::Dnsmasq, From::Dhcpd] {
        for (file, why) in [
            (&pipe, "not a regular file"),
            (&large, "no configuration"),
            (&PathBuf::from("/dev/zero"), "not a regular"),
        ] {
            let told = import(from, file, &[], None).unwrap_err().to_string();
            assert!(told.contains(why), "{from:?}: {told}");
        }
    }
    let profiles = dir.path().join("profiles");
    fs::create_dir(&profiles).unwrap();
    nix::unistd::mkfifo(&profiles.join("a.json"), mode).unwrap();
    let told = import(From::Matchbox, dir.path(), &[], None).unwrap_err().to_string();
    assert!(told.contains("not a regular file"), "{told}");
}

/// Each is named with its own reason. Once for each of them the whole result was read anew.
#[test]
fn thousands_of_hosts_that_do_not_fit_take_seconds() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("dnsmasq.conf");
    let mut text = "interface=eth1\ndhcp-range=10.1.0.10,10.1.0.20,255.255.255.0\n".to_owned();
    for host in 0..3000 {
        let (high, low) = (host / 256, host % 256);
        text += &format!("dhcp-host=02:00:00:00:{high:02x}:{low:02x},10.9.{high}.{low}\n");
    }
    fs::write(&file, text).unwrap();
    let started = std::time::Instant::now();
    let written = import(From::Dnsmasq, &file, &[], None).unwrap();
    let named = written.left.iter().filter(|left| left.why.contains("is in no [[subnet]]")).count();
    assert_eq!(named, 3000);
    // A minute is many times what it takes, and far less than it took.
    assert!(started.elapsed() < std::time::Duration::from_secs(60), "{:?}", started.elapsed());
    println!("{:?}", started.elapsed());
}

/// What is lost on the way is told, and what is not is the same.
#[test]
fn both_servers_answers_are_compared() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("dnsmasq.conf");
    let compared = |text: &str| {
        let base = "interface=eth1\ndhcp-range=10.1.0.10,10.1.0.20,255.255.255.0\ndhcp-match=set:x64,93,7\n\
            dhcp-host=02:00:00:00:00:01,10.1.0.5,one\n";
        fs::write(&file, format!("{base}{text}")).unwrap();
        let (written, theirs) = super::import(From::Dnsmasq, &file, &[], None).unwrap();
        compare::compare(&theirs, written.config).unwrap()
    };
    let all = "dhcp-boot=tag:x64,efi/x.efi\ndhcp-boot=pxelinux.0\n";
    let same = compared(all);
    let http = "the boot file for HTTP Boot x86-64 of one, an unknown machine in 10.1.0.0/24: there a TFTP name, pxelinux.0";
    let told = same.to_string();
    assert!(
        told.starts_with(http) && told.ends_with("compared 12 answers to 2 clients: 1 differences"),
        "{told}"
    );
    assert!(told.contains(", here xpxe's /files/pxelinux.0"), "{told}");
    // Its address is in no subnet, and is left out.
    let lost = compared(&format!("{all}dhcp-host=02:00:00:00:00:02,10.9.0.5,two\n")).to_string();
    assert!(lost.contains("the address of two: there 10.9.0.5, here one of the pool"), "{lost}");
    let nothing = compared("").to_string();
    assert!(nothing.contains("there nothing, here xpxe's iPXE"), "{nothing}");
    // Of several lines that fit dnsmasq takes the last one, also for iPXE.
    let menu = "dhcp-match=set:ipxe,175\ndhcp-boot=tag:ipxe,http://10.1.0.3/menu.ipxe\n";
    let looped = compared(&format!("{menu}{all}")).to_string();
    let of_ipxe = "the boot file for iPXE on UEFI x86-64 of one, an unknown machine in 10.1.0.0/24: there efi/x.efi, here \
        http://10.1.0.3/menu.ipxe";
    assert!(looped.contains(of_ipxe) && !looped.contains("iPXE on BIOS"), "{looped}");
    // Who is ignored there and here gets no boot file from either.
    let ignored = compared(&format!("{all}dhcp-ignore=tag:!known\n")).to_string();
    assert!(ignored.ends_with("compared 7 answers to 2 clients: 1 differences"), "{ignored}");
}

/// These boot what another server leads to them: they have no boot files that could differ.
#[test]
fn servers_without_dhcp_differ_in_no_boot_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("hardware.yaml");
    fs::write(&file, HARDWARE).unwrap();
    let (written, theirs) = super::import(From::Tinkerbell, &file, &[], None).unwrap();
    let told = compare::compare(&theirs, written.config).unwrap().to_string();
    assert!(told.ends_with(": 0 differences"), "{told}");
}

const HARDWARE: &str = "apiVersion: tinkerbell.org/v1alpha1
kind: Hardware
metadata: { name: node1 }
spec:
  interfaces:
    - netboot: { allowPXE: true, allowWorkflow: true }
      dhcp:
        mac: 52:54:00:00:00:01
        hostname: node1
        ip: { address: 10.1.0.5, netmask: 255.255.255.0, gateway: 10.1.0.1 }
";
