mod kinds;

use std::net::{Ipv4Addr, SocketAddr};

use boot_common::Mac;

use super::*;
use crate::config::parse_uuid;
use crate::machines::{Asker, Identities, Machines};

const CONFIG: &str = r#"
    [[interface]]
    name = "eth1"
    [[subnet]]
    cidr = "10.1.0.0/16"
    pool = ["10.1.1.33-10.1.1.233"]
    [[profile]]
    name = "talos"
    kernel = "talos/vm linuz"
    initrd = ["talos/initramfs.xz", "http://other/extra.img"]
    args = "console=ttyS0"
    [default]
    profile = "talos"
    [[machine]]
    mac = "52:54:00:00:00:01"
    name = "node1"
    args = "extra=1"
"#;

/// The scripts of a configuration, and its machines.
struct Book {
    scripts: ScriptWriter,
    machines: Machines,
}

fn scripts(config: &str) -> Book {
    let config = crate::config::parse(config, "test").unwrap();
    let machines = Machines::new(config.machines.iter().cloned()).unwrap();
    Book { scripts: ScriptWriter::new(config).unwrap(), machines }
}

impl Book {
    /// As HTTP asks.
    fn script(&self, asked: &Asked) -> Result<String, NoScript> {
        let uuid = asked.uuid.as_deref().map(|uuid| parse_uuid(uuid).unwrap_or_default());
        let asker = self.machines.asker(asked.client_ip, asked.mac, uuid);
        self.scripts.script(&Asked { asker, ..asked.clone() })
    }

    /// As DHCP does.
    fn recognise(&self, mac: Mac, uuid: &str) {
        let uuid = Some(parse_uuid(uuid).unwrap());
        self.machines.recognise(mac, Identities { uuid, switch_port: None }, 0);
    }
}

fn asked(mac: &str) -> Asked {
    Asked {
        uuid: None,
        mac: Some(mac.parse().unwrap()),
        asker: Asker::default(),
        domain: None,
        chosen: None,
        hostname: None,
        serial: None,
        arch: None,
        platform: None,
        client_ip: "10.1.1.40".parse().unwrap(),
        told: None,
        server: SocketAddr::from(([10, 1, 0, 2], 8080)).into(),
    }
}

#[test]
fn a_machine_gets_its_own_arguments_behind_the_profiles() {
    let script = scripts(CONFIG).script(&asked("52:54:00:00:00:01")).unwrap();
    assert!(script.starts_with("#!ipxe\n"), "{script}");
    assert!(script.contains(
        "\nkernel --name kernel http://10.1.0.2:8080/files/talos/vm%20linuz initrd=initrd0 initrd=initrd1 console=ttyS0 extra=1 || goto retry\n"
    ), "{script}");
    assert!(script.contains("\ninitrd --name initrd1 http://other/extra.img || goto retry\n"), "{script}");
    assert!(script.contains("\nchain --replace http://10.1.0.2:8080/boot.ipxe || goto retry\n"), "{script}");
}

#[test]
fn each_architecture_boots_its_own_kernel_from_one_profile() {
    let arch = "[profile.arch.arm64]\nkernel = \"talos/arm64\"\ninitrd = [\"talos/arm64.xz\"]\nargs = \"earlycon\"\n\
        console = \"ttyAMA0\"\n[profile.arch.bios]\nkernel = \"talos/bios\"\n[default]";
    let config = CONFIG.replace("args = \"console=ttyS0\"", "args = \"a=1\"\nconsole = \"ttyS0\"");
    let scripts = scripts(&config.replace("[default]", arch));
    for (arch, platform, kernel, initrds, args) in [
        (None, None, "vm%20linuz", 2, "console=ttyS0 a=1 extra=1"),
        (Some("x86_64"), Some("efi"), "vm%20linuz", 2, "console=ttyS0 a=1 extra=1"),
        (Some("arm64"), Some("efi"), "arm64", 1, "console=ttyAMA0 a=1 earlycon extra=1"),
        (Some("i386"), Some("pcbios"), "bios", 2, "console=ttyS0 a=1 extra=1"),
        (Some("i386"), Some("efi"), "vm%20linuz", 2, "console=ttyS0 a=1 extra=1"),
        (Some("${evil}"), Some("efi"), "vm%20linuz", 2, "console=ttyS0 a=1 extra=1"),
    ] {
        let text = |text: Option<&str>| text.map(str::to_owned);
        let asked = Asked { arch: text(arch), platform: text(platform), ..asked("52:54:00:00:00:01") };
        let script = scripts.script(&asked).unwrap();
        let line = script.lines().find(|line| line.starts_with("kernel")).unwrap();
        assert!(line.contains(&format!("/files/talos/{kernel} ")), "{arch:?}: {line}");
        assert!(line.contains(&format!(" {args} ||")), "{arch:?}: {line}");
        assert_eq!(script.matches("\ninitrd --name").count(), initrds, "{arch:?}: {script}");
    }
}

#[test]
fn an_architecture_without_a_kernel_boots_nothing() {
    let scripts = scripts(&CONFIG.replace("[default]", "[profile.arch.arm64]\nkernel = \"\"\n[default]"));
    let of = |arch: &str| Asked {
        arch: Some(arch.to_owned()),
        platform: Some("efi".to_owned()),
        ..asked("52:54:00:00:00:01")
    };
    assert!(scripts.script(&of("x86_64")).unwrap().contains("vm%20linuz"));
    let why = scripts.script(&of("arm64")).unwrap_err().to_string();
    assert!(why.contains("node1 boots profile talos, which has no kernel for arm64"), "{why}");
}

#[test]
fn images_are_links_to_the_store_on_every_architecture() {
    let arch = "[profile.arch.arm64]\nkernel = \"image:arm64\"\ninitrd = [\"image:s3://boot/i\"]\n[default]";
    let config = CONFIG.replace("[default]", arch).replace("talos/vm linuz", "image:amd64");
    let kernel = |arch: &str| {
        let asked = Asked { arch: Some(arch.to_owned()), ..asked("52:54:00:00:00:01") };
        scripts(&config).script(&asked).unwrap()
    };
    let (x64, arm64) = (kernel("x86_64"), kernel("arm64"));
    assert!(x64.contains("--name kernel http://10.1.0.2:8080/images/amd64 "), "{x64}");
    assert!(arm64.contains("--name kernel http://10.1.0.2:8080/images/arm64 "), "{arm64}");
    assert!(arm64.contains("--name initrd0 http://10.1.0.2:8080/images/i-"), "{arm64}");
}

#[test]
fn machines_are_known_by_mac_before_what_dhcp_and_they_themselves_say() {
    let other = "4c4c4544-0042-3510-8052-b4c04f4e3133";
    let more = [
        (2, "uuid = \"4c4c4544-0042-3510-8052-b4c04f4e3132\"".to_owned()),
        (3, "mac = \"52:54:00:00:00:03\"".to_owned()),
        (4, format!("uuid = {other:?}")),
    ];
    let more = more.map(|(number, identity)| format!("[[machine]]\n{identity}\nargs = \"extra={number}\"\n"));
    let scripts = scripts(&(CONFIG.to_owned() + &more.concat()));
    scripts.recognise("52:54:00:00:00:98".parse().unwrap(), other);
    let uuid = Some("4c4c4544-0042-3510-8052-b4c04f4e3132".to_owned());
    // As SMBIOS has it.
    let swapped = Some("44454c4c-4200-1035-8052-b4c04f4e3132".to_owned());
    for (mac, uuid, extra) in [
        ("52:54:00:00:00:01", uuid.clone(), Some(1)),
        ("52:54:00:00:00:03", None, Some(3)),
        ("52:54:00:00:00:98", uuid.clone(), Some(4)),
        ("52:54:00:00:00:98", None, Some(4)),
        ("52:54:00:00:00:99", uuid, Some(2)),
        ("52:54:00:00:00:99", swapped, Some(2)),
        ("52:54:00:00:00:99", Some("ffffffff-ffff-ffff-ffff-ffffffffffff".to_owned()), None),
        ("52:54:00:00:00:99", None, None),
    ] {
        let script = scripts.script(&Asked { uuid, ..asked(mac) }).unwrap();
        let extra = extra.map_or_else(|| "ttyS0 ||".to_owned(), |number| format!("ttyS0 extra={number} ||"));
        assert!(script.contains(&extra), "{extra} is not in\n{script}");
    }
}

/// Whatever fails, a script goes on: every command that can fail says where, and behind the last one nothing follows.
#[test]
fn no_script_ends_in_the_firmwares_shell() {
    let server = &SocketAddr::from(([10, 1, 0, 2], 8080)).into();
    let waits = CONFIG.replace("[default]\n    profile = \"talos\"", "");
    let scripts = [
        bootstrap(server, Network::Own),
        bootstrap(server, Network::Firmwares),
        scripts(CONFIG).script(&asked("52:54:00:00:00:01")).unwrap(),
        scripts(&waits).script(&asked("52:54:00:00:00:01")).unwrap(),
    ];
    for script in scripts {
        let lines: Vec<&str> = script.lines().filter(|line| !line.is_empty()).collect();
        let fails = ["isset", "dhcp", "chain", "initrd", "kernel", "boot"];
        for line in lines.iter().filter(|line| fails.iter().any(|word| line.starts_with(word))) {
            let (_, otherwise) = line.split_once("||").unwrap_or_else(|| panic!("{line} ends {script}"));
            let label = otherwise.trim().strip_prefix("goto ");
            let exists = label.is_none_or(|label| lines.contains(&format!(":{label}").as_str()));
            assert!(exists, "{line} goes nowhere: {script}");
        }
        let last = lines.last().unwrap();
        assert!(last.starts_with("goto ") || last.contains("|| goto "), "{last} ends {script}");
    }
    let asks = |network| bootstrap(server, network).find("dhcp").unwrap();
    assert!(!bootstrap(server, Network::Firmwares)[..asks(Network::Firmwares)].contains("goto script"));
    assert!(bootstrap(server, Network::Own)[..asks(Network::Own)].contains("goto script"));
}

#[test]
fn a_machine_s_script_is_for_its_own_addresses() {
    let (mac, uuid) = ("52:54:00:00:00:01", "4c4c4544-0042-3510-8052-b4c04f4e3132");
    let config = CONFIG.replace("name = \"node1\"", &format!("name = \"node1\"\nuuid = {uuid:?}"));
    let own = scripts(&config);
    let unknown = |mac: &str| Asked { uuid: Some(uuid.to_owned()), ..asked(mac) };
    assert!(own.script(&asked(mac)).is_ok(), "its address is not known");
    let home = Ipv4Addr::new(10, 1, 1, 50);
    own.machines.put(home, mac.parse().unwrap());
    let other = NoScript::OfAnother { machine: "node1".to_owned(), address: home };
    assert!(!other.to_string().contains("10.1.1.50"), "who asks does not learn it");
    let refused = Err(other);
    assert_eq!(own.script(&asked(mac)), refused, "by its MAC");
    assert_eq!(own.script(&unknown("52:54:00:00:00:99")), refused, "by its UUID");
    assert_eq!(own.script(&Asked { mac: None, ..unknown(mac) }), refused, "by its UUID alone");
    own.recognise("52:54:00:00:00:98".parse().unwrap(), uuid);
    assert_eq!(own.script(&asked("52:54:00:00:00:98")), refused, "as DHCP has recognised it");
    assert!(own.script(&Asked { client_ip: home.into(), ..asked(mac) }).is_ok());
    assert!(own.script(&asked("52:54:00:00:00:99")).is_ok(), "nobody's script");
    let shared = format!("[http]\nshared_addresses = [\"10.1.1.0/24\"]\n{config}");
    let shared = scripts(&shared);
    shared.machines.put(home, mac.parse().unwrap());
    assert!(shared.script(&asked(mac)).is_ok());
}

#[test]
fn an_unknown_machine_boots_waits_or_is_turned_away() {
    let unknown = asked("52:54:00:00:00:99");
    assert!(scripts(CONFIG).script(&unknown).unwrap().contains("vm%20linuz"));
    let discover = CONFIG.replace("[default]", "[default]\nunknown = \"discover\"");
    assert!(scripts(&discover).script(&unknown).unwrap().contains("sleep 30"));
    let ignore = CONFIG.replace("[default]", "[default]\nunknown = \"ignore\"");
    assert!(matches!(scripts(&ignore).script(&unknown), Err(NoScript::NotForYou(_))));
}

#[test]
fn without_a_profile_the_console_says_what_is_missing() {
    let config = CONFIG.replace("[default]\n    profile = \"talos\"", "");
    let script = scripts(&config).script(&asked("52:54:00:00:00:01")).unwrap();
    assert!(script.contains("has no profile"), "{script}");
}

/// The configuration with an own script, and this of a profile beside it.
fn with_own_script(script: &str, profile: &str) -> Book {
    let text = CONFIG.replace("args = \"console=ttyS0\"", &format!("template = \"own.ipxe\"\n{profile}"));
    let read = |name: &str| Ok(crate::config::TextFile { name: name.to_owned(), text: script.to_owned() });
    let source = crate::config::Source { name: "test".to_owned(), bytes: text.into() };
    let config = crate::config::parse_files_with(&[source], &read).unwrap();
    let machines = Machines::new(config.machines.iter().cloned()).unwrap();
    Book { scripts: ScriptWriter::new(config).unwrap(), machines }
}

#[test]
fn an_own_script_says_of_each_machine_what_is_its_own() {
    let script = "#!ipxe\nkernel {{ kernel }} {{ args }}\n{% for file in initrds %}\ninitrd --name {{ file.name }} {{ file.url }}\n\
        {% endfor %}\n# {{ machine.name }} {{ machine.mac }} {{ machine.ip }} {{ network.netmask }} {{ server.address }} {{ profile }}\n\
        chain {{ again }}\n";
    let own = with_own_script(script, "args = \"seed={{ documents }} host={{ machine.name }}\"");
    let asked = Asked { arch: Some("arm64".to_owned()), ..asked("52:54:00:00:00:01") };
    assert_eq!(
        own.script(&asked).unwrap(),
        "#!ipxe\nkernel http://10.1.0.2:8080/files/talos/vm%20linuz \
         seed=http://10.1.0.2:8080/documents/52-54-00-00-00-01,arm64/ host=node1 extra=1\n\
         initrd --name initrd0 http://10.1.0.2:8080/files/talos/initramfs.xz\ninitrd --name initrd1 http://other/extra.img\n\
         # node1 52:54:00:00:00:01 10.1.1.40 255.255.0.0 10.1.0.2 talos\nchain http://10.1.0.2:8080/boot.ipxe\n"
    );
    let other = own.script(&Asked { mac: Some("52:54:00:00:00:02".parse().unwrap()), ..asked }).unwrap();
    assert!(other.contains("host=52-54-00-00-00-02\n") && other.contains("# 52-54-00-00-00-02 "), "{other}");
}

/// Whatever a machine says of itself, its script has the same lines, and nothing in it that iPXE or a kernel takes for
/// more than a word.
#[test]
fn what_a_client_says_is_never_interpreted() {
    let script = "#!ipxe\necho {{ machine.serial }} {{ machine.hostname }} {{ machine.uuid | default('none') }}\nboot\n";
    let own =
        with_own_script(script, "args = \"s={{ machine.serial }} h={{ machine.hostname }} {{ documents }}\"");
    let built_in =
        scripts(&CONFIG.replace("ttyS0\"", "ttyS0 s={{ machine.serial }} h={{ machine.hostname }}\""));
    for evil in [
        "${net0/mac}",
        "x\nshell",
        "x\r\nshell",
        "a || shell",
        "$(reboot)",
        "{{ args }}",
        "</x>\"'`\\",
        "x init=/bin/sh",
    ] {
        let said = Some(evil.to_owned());
        let asked = Asked {
            uuid: said.clone(),
            serial: said.clone(),
            hostname: said.clone(),
            domain: said,
            ..asked("52:54:00:00:00:09")
        };
        for (book, lines) in [(&own, 3), (&built_in, 10)] {
            let script = book.script(&asked).unwrap();
            assert_eq!(script.lines().count(), lines, "{script}");
            let said = tame_of(evil);
            assert!(script.contains(&said), "{script}");
            let rest = script.replace(&said, "");
            for part in ["${", "shell", "$(", "{{", "</x>", "init=/bin/sh", "\r", "`"] {
                assert!(!rest.contains(part), "{part} of {evil:?} is in {script}");
            }
        }
    }
}

fn tame_of(said: &str) -> String {
    crate::config::tame(said)
}

#[test]
fn a_label_that_a_machine_does_not_have_is_named() {
    let config = format!("{CONFIG}[[machine]]\nmac = \"52:54:00:00:00:02\"\nlabels = {{ rack = \"7\" }}\n");
    let scripts = scripts(&config.replace("console=ttyS0", "rack={{ machine.labels.rack }}"));
    assert!(scripts.script(&asked("52:54:00:00:00:02")).unwrap().contains(" rack=7 ||"));
    let said = scripts.script(&asked("52:54:00:00:00:01")).unwrap_err().to_string();
    assert!(
        said.starts_with("the kernel arguments of 52:54:00:00:00:01 cannot be written: undefined value"),
        "{said}"
    );
}
