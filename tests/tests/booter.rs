//! xpxe in the place of Sidero Booter: its compose file's command, environment and network, its flags, its image factory, beside
//! another DHCP server, with the capabilities of a container.
//!
//! Run with `--test-threads=1`, as everything with machines.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use boot_tests::boots::{EVERYBODY, Plan, boot};
use boot_tests::daemon::Xpxe;
use boot_tests::guest;
use boot_tests::machine::Firmware;
use boot_tests::origin::{Manner, Origin};
use boot_tests::place::SOON;
use boot_tests::rack::{Rack, SERVER_ADDRESS};
use boot_tests::reference::dnsmasq_plain_dhcp;
use boot_tests::sandbox::{Sandbox, root_or_skip};
use boot_tests::settings::Known;
use serde_json::{Value, json};

const POOL: &str = "10.77.0.100,10.77.0.199";
const BIOS: Plan = plan(Firmware::BiosIpxe, "booter-bios", "52:54:00:77:00:71");
const UEFI: Plan = plan(Firmware::OvmfPxe, "booter-uefi", "52:54:00:77:00:72");
/// What a container has unless more is asked for. No programs are loaded with these, and nothing of the host is changed.
const OF_CONTAINER: &str = "-all,+chown,+dac_override,+fowner,+fsetid,+kill,+setgid,+setuid,+setpcap,+net_bind_service,\
                            +net_raw,+sys_chroot,+mknod,+audit_write,+setfcap";

const fn plan(firmware: Firmware, name: &'static str, mac: &'static str) -> Plan {
    Plan::new(firmware, Known { name, mac, address: None })
}

/// A container has none, whatever the host has.
fn no_bpffs() {
    drop(
        std::process::Command::new("umount").arg("/sys/fs/bpf").stderr(std::process::Stdio::null()).status(),
    );
}

/// What the compose file says of its one service.
struct Service {
    command: Vec<String>,
    environment: Vec<(String, String)>,
}

impl Service {
    /// The lines of packaging/compose.yaml, which `docker compose` splits as a shell does: there are no quotes in it.
    fn of_the_compose_file() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let text = fs::read_to_string(root.join("packaging/compose.yaml"))?;
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with('#')).collect();
        ensure!(lines.iter().any(|line| line.trim() == "network_mode: host"), "{text}");
        let below = |key: &str| {
            let at = lines.iter().position(|line| line.trim_start().starts_with(key));
            let depth = at.map_or(0, |at| indent(lines[at]));
            lines
                .iter()
                .skip(at.map_or(lines.len(), |at| at + 1))
                .take_while(move |line| indent(line) > depth)
        };
        let environment = below("environment:").filter_map(|line| {
            let (name, value) = line.trim().strip_prefix("- ")?.split_once('=')?;
            Some((name.to_owned(), value.to_owned()))
        });
        let command = below("command:").flat_map(|line| line.split_whitespace()).map(str::to_owned);
        let entry = fs::read_to_string(root.join("packaging/Containerfile"))?;
        ensure!(entry.contains("ENTRYPOINT [\"/usr/bin/xpxe\", \"booter\"]"), "{entry}");
        Ok(Self { command: command.collect(), environment: environment.collect() })
    }
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

/// A factory with one version of Talos, whose kernel and initrd are the guest's.
fn factory(rack: &Rack) -> Result<Origin> {
    let factory = rack.server.run(|| Origin::start_at(SERVER_ADDRESS))??;
    let dir = rack.dir().join("factory");
    fs::create_dir(&dir)?;
    guest::install(&dir)?;
    let json = |value: Value| value.to_string().into_bytes();
    factory.put("/versions", json(json!(["v1.8.9", "v1.9.0", "v1.10.0-beta.1"])), Manner::Right);
    factory.put("/schematics", json(json!({ "id": "5c4e" })), Manner::Right);
    for (arch, console) in [("amd64", "ttyS0"), ("arm64", "ttyAMA0")] {
        let url = |file: &str| factory.url(&format!("/image/5c4e/v1.9.0/{file}-{arch}"));
        let (kernel, initrd) = (url("kernel"), url("initramfs"));
        let script = format!(
            "#!ipxe\n\nimgfree\nkernel {kernel} {EVERYBODY} talos.platform=metal console=tty0 console={console} made.by=factory\n\
             initrd {initrd}\nboot\n"
        );
        factory.put(&format!("/pxe/5c4e/v1.9.0/metal-{arch}"), script.into_bytes(), Manner::Right);
        for (name, file) in [("kernel", guest::KERNEL), ("initramfs", guest::INITRD)] {
            factory.put(
                &format!("/image/5c4e/v1.9.0/{name}-{arch}"),
                fs::read(dir.join(file))?,
                Manner::Right,
            );
        }
    }
    Ok(factory)
}

/// The compose file's service as it is, but for the factory, which is ours: machines boot what the factory says, beside another DHCP
/// server.
#[test]
fn the_compose_file_serves_with_xpxe_and_firmware_boots() -> Result<()> {
    if !root_or_skip() {
        return Ok(());
    }
    let sandbox = Sandbox::enter()?;
    no_bpffs();
    // The container's own state.
    sandbox.cover("/var/lib")?;
    let rack = Rack::build(&sandbox)?;
    rack.server.output("ip", &["route", "add", "default", "via", "10.77.0.254"])?;
    rack.server.output("ethtool", &["-K", "eth0", "tx", "off"])?;
    let _dnsmasq = dnsmasq_plain_dhcp(&rack.server, rack.dir(), POOL)?;
    let factory = factory(&rack)?;
    let Service { command, environment } = Service::of_the_compose_file()?;
    ensure!(command.len() == 3 && environment.len() == 1, "{command:?} {environment:?}");
    let flag = format!("--image-factory-base-url={}", factory.url(""));
    let words: Vec<&str> = [flag.as_str()].into_iter().chain(command.iter().map(String::as_str)).collect();
    let of_container = ["setpriv", "--bounding-set", OF_CONTAINER];
    let xpxe = Xpxe::start_verb(&rack, &of_container, "booter", &words, &environment)?;
    for (what, port) in [
        ("the proxy", "eth0: boot files beside another DHCP server (proxy) on UDP ports 67 and 4011"),
        ("TFTP", "files by TFTP on UDP port 69"),
        ("HTTP", "scripts and files by HTTP on 0.0.0.0:50084"),
        ("what is booted", "machines boot Talos v1.9.0 of"),
    ] {
        xpxe.wait_for_event(what, SOON, |event| event.message().contains(port))?;
    }
    // The schematic was made of the arguments as they were given, with the consoles of each architecture.
    let made: Vec<String> = factory
        .asked()
        .iter()
        .filter(|asked| asked.path == "/schematics")
        .map(|asked| asked.body.clone())
        .collect();
    ensure!(made.len() == 2, "{made:?}");
    for (made, console) in made.iter().zip(["console=ttyS0", "console=ttyAMA0"]) {
        let made: Value = serde_json::from_str(made)?;
        let args = made["customization"]["extraKernelArgs"].as_array().context("arguments")?;
        let wanted: Vec<&str> = command.iter().map(String::as_str).chain(["console=tty0", console]).collect();
        ensure!(*args == wanted, "{made}");
    }
    let script = rack.server.output("curl", &["-fsS", &url("/ipxe/init.ipxe")])?;
    ensure!(script.contains(&url("/ipxe/boot.ipxe?uuid=")), "{script}");
    let boots = boot(&rack, &xpxe, &[BIOS, UEFI])?;
    for boot in &boots {
        ensure!(
            boot.cmdline.contains("made.by=factory") && boot.cmdline.contains("console=ttyS0"),
            "{}",
            boot.cmdline
        );
        ensure!(!boot.cmdline.contains("ttyAMA0"), "{}", boot.cmdline);
    }
    let fetched = |file: &str| factory.asked().iter().filter(|asked| asked.path.ends_with(file)).count();
    ensure!(fetched("/kernel-amd64") == 1 && fetched("/initramfs-amd64") == 1, "two machines, one fetch");
    xpxe.stop()
}

/// A schematic that is given is not made, and the arguments are ours; the proxy is off; Go's way to write flags.
#[test]
fn its_flags_say_what_is_booted() -> Result<()> {
    if !root_or_skip() {
        return Ok(());
    }
    let sandbox = Sandbox::enter()?;
    no_bpffs();
    sandbox.cover("/var/lib")?;
    let rack = Rack::build(&sandbox)?;
    let factory = factory(&rack)?;
    let base = factory.url("");
    let pxe = format!("--image-factory-pxe-base-url={base}");
    let words = [
        "--api-advertise-address",
        SERVER_ADDRESS,
        "--api-port=50085",
        "--disable-dhcp-proxy=true",
        "--secure-boot-enabled=false",
        "--talos-version",
        "1.9.0",
        "--schematic-id",
        "5c4e",
        "--debug",
        &pxe,
        "-k",
        "own=1 two=2",
    ];
    let of_container = ["setpriv", "--bounding-set", OF_CONTAINER];
    let xpxe = Xpxe::start_verb(&rack, &of_container, "booter", &words, &[])?;
    xpxe.wait_for_event("no proxy", SOON, |event| event.message().contains("eth0: no DHCP"))?;
    ensure!(factory.asked().iter().all(|asked| asked.path.starts_with("/pxe/")), "{:?}", factory.asked());
    let ask = |arch: &str| {
        let url = format!(
            "http://{SERVER_ADDRESS}:50085/ipxe/boot.ipxe?uuid=&mac=52-54-00-00-00-01&domain=&hostname=&serial=&arch={arch}"
        );
        rack.server.output("curl", &["-fsS", &url])
    };
    for (arch, console, other, file) in
        [("x86_64", "ttyS0", "ttyAMA0", "kernel-amd64"), ("arm64", "ttyAMA0", "ttyS0", "kernel-arm64")]
    {
        let script = ask(arch)?;
        let wanted = ["talos.platform=metal", "own=1 two=2", file, &format!("console={console}")];
        ensure!(
            wanted.iter().all(|wanted| script.contains(wanted)) && !script.contains(other),
            "{arch}: {script}"
        );
    }
    xpxe.stop()
}

/// A factory that is away is one sentence with a remedy.
#[test]
fn a_factory_that_is_away_is_said_in_one_sentence() -> Result<()> {
    if !root_or_skip() {
        return Ok(());
    }
    let sandbox = Sandbox::enter()?;
    no_bpffs();
    sandbox.cover("/var/lib")?;
    let rack = Rack::build(&sandbox)?;
    let base = format!("--image-factory-base-url=http://{SERVER_ADDRESS}:9");
    let failed = Xpxe::start_verb(&rack, &[], "booter", &["--dhcp-proxy-iface-or-ip", "eth0", &base], &[]);
    let said = format!("{:#}", failed.err().context("xpxe serves")?);
    ensure!(said.contains("--kernel and --initrd"), "{said}");
    Ok(())
}

fn url(path: &str) -> String {
    format!("http://{SERVER_ADDRESS}:50084{path}")
}
