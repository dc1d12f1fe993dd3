//! `xpxe preflight` against dnsmasq, Kea with tftpd-hpa, and xpxe: whole and broken. It runs on another host of the network.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use boot_tests::daemon::{Xpxe, binary};
use boot_tests::guest;
use boot_tests::netns::Process;
use boot_tests::place::{Place, SOON};
use boot_tests::rack::{SERVER_ADDRESS, Station};
use boot_tests::settings::{Settings, boot_dir};
use serde_json::Value;

const LOADERS: [&str; 2] = ["undionly.kpxe", "snponly.efi"];

/// What it says, and its exit status.
struct Said {
    json: Value,
    is_good: bool,
}

impl Said {
    /// Whether a kind of machine boots, and why.
    fn of(&self, kind: &str) -> Result<(bool, String)> {
        let all = self.json["kinds"].as_array().context("kinds")?;
        let found = all.iter().find(|found| found["kind"] == kind).context("the kind")?;
        let steps = found["steps"].as_array().into_iter().flatten();
        let steps: Vec<String> = steps
            .map(|step| format!("{}{}", if step["good"] == true { "+" } else { "-" }, step["says"]))
            .collect();
        let says = found["says"].as_str().unwrap_or_default();
        Ok((found["boots"] == true, format!("{says}\n{}", steps.join("\n"))))
    }

    #[track_caller]
    fn expect(&self, kind: &str, boots: bool, parts: &[&str]) -> Result<()> {
        let (does, says) = self.of(kind)?;
        let missing = parts.iter().find(|part| !says.contains(*part));
        ensure!(does == boots && missing.is_none(), "{kind} (boots: {does}), without {missing:?}:\n{says}");
        Ok(())
    }
}

fn preflight(from: &Station, more: &[&str]) -> Result<Said> {
    let mut command = from.command(&binary()?.display().to_string());
    command.args(["preflight", "--interface", "eth0", "--json"]).args(more);
    let output = command.output()?;
    let text = String::from_utf8(output.stdout)?;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    let json = serde_json::from_str(&text).with_context(|| format!("{text}{told}"))?;
    Ok(Said { json, is_good: output.status.success() })
}

fn place(more: &str) -> Result<Option<(Place, Station)>> {
    let settings = Settings { more: more.to_owned(), ..Settings::default() };
    let Some(place) = Place::build(&settings)? else { return Ok(None) };
    place.rack.server.output("ethtool", &["-K", "eth0", "tx", "off"])?;
    guest::install(&boot_dir(&place.rack))?;
    for loader in LOADERS {
        fs::copy(Path::new("/usr/lib/ipxe").join(loader), boot_dir(&place.rack).join(loader))?;
    }
    let host = place.rack.neighbour("host", "02:77:00:00:00:e9", "10.77.0.9/24")?;
    Ok(Some((place, host)))
}

fn dnsmasq(place: &Place, more: &[&str]) -> Result<Process> {
    let mut command = place.rack.server.command("dnsmasq");
    command.args([
        "--conf-file=/dev/null",
        "--keep-in-foreground",
        "--log-facility=-",
        "--pid-file=",
        "--user=root",
    ]);
    command.args(["--port=0", "--no-ping", "--dhcp-range=10.77.0.100,10.77.0.199,255.255.255.0"]);
    command.arg(format!("--dhcp-leasefile={}", place.rack.dir().join("dnsmasq.leases").display()));
    command
        .args(["--dhcp-match=set:bios,93,0", "--dhcp-match=set:x64,93,7", "--dhcp-match=set:ipxe,175"])
        .args(more);
    let server = place.rack.server.spawn(command)?;
    server.wait_for_line("DHCP, IP range", SOON)?;
    Ok(server)
}

/// A web server that is none of xpxe's: a script and a kernel.
fn web(place: &Place) -> Result<Process> {
    let dir = boot_dir(&place.rack);
    let script = format!(
        "#!ipxe\nkernel http://{SERVER_ADDRESS}:8000/{} console=ttyS0\ninitrd /{}\nboot ||\n\
         imgfetch /report?status=failure ||\n",
        guest::KERNEL,
        guest::INITRD
    );
    fs::write(dir.join("boot.ipxe"), script)?;
    let mut command = place.rack.server.command("/bin/busybox");
    command.args(["httpd", "-f", "-v", "-p", "8000", "-h"]).arg(&dir);
    let server = place.rack.server.spawn(command)?;
    boot_tests::wait::eventually(SOON, "the web server", || {
        place
            .rack
            .server
            .output("curl", &["-sSf", &format!("http://{SERVER_ADDRESS}:8000/boot.ipxe")])
            .is_ok()
    })?;
    Ok(server)
}

#[test]
fn dnsmasq_whole_and_broken() -> Result<()> {
    let Some((place, host)) = place("")? else { return Ok(()) };
    let _web = web(&place)?;
    let root = format!("--tftp-root={}", boot_dir(&place.rack).display());
    let script = format!("--dhcp-boot=tag:ipxe,http://{SERVER_ADDRESS}:8000/boot.ipxe");
    let (bios, x64) =
        ("--dhcp-boot=tag:bios,tag:!ipxe,undionly.kpxe", "--dhcp-boot=tag:x64,tag:!ipxe,snponly.efi");
    {
        let _server = dnsmasq(&place, &["--enable-tftp", &root, &script, bios, x64])?;
        let said = preflight(&host, &[])?;
        said.expect("BIOS", true, &["undionly.kpxe from 10.77.0.1", "comes by TFTP from 10.77.0.1", "/s"])?;
        said.expect("UEFI x86-64", true, &["loads snponly.efi", "x86-64 EFI application"])?;
        said.expect("iPXE", true, &["boots http://10.77.0.1:8000/guest/vmlinuz", "initrd.img answers 200"])?;
        said.expect("iPXE", true, &["/report?status=failure is not fetched"])?;
        said.expect("UEFI arm64", false, &["no boot file", "PXE-E53"])?;
        said.expect("HTTP Boot x86-64", false, &["HTTPClient"])?;
        ensure!(said.is_good, "{:#}", said.json);
        // From three ports each.
        let (_, steps) = said.of("BIOS")?;
        ensure!(steps.matches("comes by TFTP").count() == 3, "{steps}");
    }
    {
        // A BIOS file for UEFI, a file that is not there, a script whose kernel is not there.
        fs::write(boot_dir(&place.rack).join("boot.ipxe"), "#!ipxe\nkernel /nothing || goto x\nboot\n")?;
        let wrong =
            ["--dhcp-boot=tag:bios,tag:!ipxe,missing.kpxe", "--dhcp-boot=tag:x64,tag:!ipxe,undionly.kpxe"];
        let _server = dnsmasq(&place, &["--enable-tftp", &root, &script, wrong[0], wrong[1]])?;
        let said = preflight(&host, &[])?;
        said.expect("BIOS", false, &["which is not there", "PXE-T01"])?;
        said.expect("UEFI x86-64", false, &["cannot start", "undionly.kpxe"])?;
        said.expect("iPXE", false, &["http://10.77.0.1:8000/nothing answers 404"])?;
        ensure!(!said.is_good, "{:#}", said.json);
    }
    {
        let _server = dnsmasq(&place, &[&script, bios, x64])?;
        let said = preflight(&host, &[])?;
        said.expect("BIOS", false, &["hears nothing from TFTP", "PXE-E32"])?;
        said.expect("UEFI x86-64", false, &["hears nothing from TFTP", "PXE-E18"])?;
    }
    let _server = dnsmasq(&place, &[])?;
    let said = preflight(&host, &[])?;
    for kind in ["BIOS", "UEFI x86-64", "iPXE"] {
        said.expect(kind, false, &["offers the address 10.77.0.1"])?;
    }
    let leases = fs::read_to_string(place.rack.dir().join("dnsmasq.leases")).unwrap_or_default();
    ensure!(leases.trim().is_empty(), "it has bound a lease: {leases}");
    Ok(())
}

#[test]
fn xpxe_whole_and_broken_and_beside_another_server() -> Result<()> {
    let Some((place, host)) = place("")? else { return Ok(()) };
    let xpxe = place.serve()?;
    let said = preflight(&host, &[])?;
    said.expect("BIOS", true, &["loads undionly.kpxe"])?;
    said.expect("UEFI x86-64", true, &["loads snponly.efi"])?;
    said.expect("HTTP Boot x86-64", true, &["loads http://10.77.0.1:8080/files/snponly.efi"])?;
    said.expect("iPXE", true, &["boots http://10.77.0.1:8080/files/guest/vmlinuz"])?;
    ensure!(said.is_good, "{:#}", said.json);
    let text = preflight_text(&host)?;
    ensure!(text.contains("\nok  iPXE boots ") && text.contains("no lease is bound"), "{text}");
    let leases = leases_of(&xpxe, &place)?;
    ensure!(!leases.contains("bound"), "{leases}");
    // The script of a machine with another address is for itself only, which is no failure.
    let alice = "\n[[machine]]\nmac = \"02:77:00:00:00:10\"\nname = \"alice\"\nip = \"10.77.0.10\"\n";
    fs::write(place.rack.dir().join("xpxe.toml"), format!("{}{alice}", place.config))?;
    xpxe.command(&["reload", "--config", &place.rack.dir().join("xpxe.toml").display().to_string()])?;
    let said = preflight(&host, &["--mac", "02:77:00:00:00:10"])?;
    said.expect("iPXE", false, &["to the machine itself only", "answers 403: alice has another address"])?;
    ensure!(said.is_good, "{:#}", said.json);
    fs::write(place.rack.dir().join("xpxe.toml"), &place.config)?;
    xpxe.command(&["reload", "--config", &place.rack.dir().join("xpxe.toml").display().to_string()])?;
    // A second server, by mistake.
    let stray = place.rack.neighbour("stray", "02:77:00:00:00:e8", "10.77.0.8/24")?;
    let mut command = stray.command("dnsmasq");
    command.args([
        "--conf-file=/dev/null",
        "--keep-in-foreground",
        "--log-facility=-",
        "--pid-file=",
        "--user=root",
    ]);
    command.args([
        "--port=0",
        "--no-ping",
        "--leasefile-ro",
        "--dhcp-range=10.77.0.60,10.77.0.69,255.255.255.0",
    ]);
    let stray_server = stray.spawn(command)?;
    stray_server.wait_for_line("DHCP, IP range", SOON)?;
    let said = preflight(&host, &[])?;
    said.expect("BIOS", true, &["offers an address, too"]).with_context(|| xpxe.last_lines(60))?;
    drop(stray_server);
    // A download that has failed lies in the place of the kernel.
    let kernel = boot_dir(&place.rack).join(guest::KERNEL);
    fs::write(&kernel, "<html><body>404 Not Found</body></html>\n")?;
    let said = preflight(&host, &[])?;
    said.expect("iPXE", false, &["cannot boot its kernel", "HTML or XML page"])?;
    // A menu leads to itself until somebody chooses.
    fs::write(place.rack.dir().join("xpxe.toml"), menu(&place.config))?;
    xpxe.command(&["reload", "--config", &place.rack.dir().join("xpxe.toml").display().to_string()])?;
    let said = preflight(&host, &[])?;
    said.expect("iPXE", true, &["shows a menu, in which a person chooses"])?;
    fs::write(place.rack.dir().join("xpxe.toml"), &place.config)?;
    xpxe.command(&["reload", "--config", &place.rack.dir().join("xpxe.toml").display().to_string()])?;
    // The kernel is gone.
    fs::remove_file(boot_dir(&place.rack).join(guest::KERNEL))?;
    let said = preflight(&host, &[])?;
    said.expect("iPXE", false, &["vmlinuz answers 404"])?;
    ensure!(!said.is_good, "{:#}", said.json);
    xpxe.stop()?;
    let said = preflight(&host, &["--wait", "1"])?;
    said.expect("UEFI x86-64", false, &["no offer within 1 s", "PXE-E16"])?;
    Ok(())
}

/// The same configuration, in which a person chooses.
fn menu(config: &str) -> String {
    let more = "[[profile]]\nname = \"choice\"\nmenu = [\"guest\"]\n\n[default]\nprofile = \"choice\"\n";
    config.replacen("[default]\nprofile = \"guest\"\n", more, 1)
}

/// As a relay asks, from the relay itself.
#[test]
fn behind_a_relay() -> Result<()> {
    let more = "\n[[subnet]]\ncidr = \"10.78.0.0/24\"\npool = [\"10.78.0.100-10.78.0.199\"]\n";
    let Some((place, host)) = place(more)? else { return Ok(()) };
    let _xpxe = place.serve()?;
    host.output("ip", &["address", "add", "10.78.0.1/24", "dev", "eth0"])?;
    place.rack.server.output("ip", &["route", "add", "10.78.0.0/24", "via", "10.77.0.9"])?;
    for more in [&["--relay", "10.78.0.1"][..], &["--relay", "10.78.0.1", "--server", SERVER_ADDRESS]] {
        let said = preflight(&host, more)?;
        said.expect("BIOS", true, &["offers the address 10.78.0.1", "undionly.kpxe"])?;
    }
    let mut command = host.command(&binary()?.display().to_string());
    command.args(["preflight", "--interface", "eth0", "--relay", "10.99.0.1"]);
    let told = String::from_utf8(command.output()?.stderr)?;
    ensure!(told.contains("10.99.0.1 is no address of this host"), "{told}");
    Ok(())
}

#[test]
fn kea_with_tftpd_hpa_whole_and_broken() -> Result<()> {
    let Some((place, host)) = place("")? else { return Ok(()) };
    let _kea = kea(&place, true)?;
    {
        let _tftpd = tftpd(&place, &boot_dir(&place.rack))?;
        let said = preflight(&host, &[])?;
        said.expect("UEFI x86-64", true, &["loads snponly.efi from 10.77.0.1"])?;
        said.expect("BIOS", true, &["loads undionly.kpxe from 10.77.0.1"])?;
    }
    let said = preflight(&host, &[])?;
    said.expect("UEFI x86-64", false, &["hears nothing from TFTP on 10.77.0.1", "PXE-E18"])?;
    ensure!(!said.is_good, "{:#}", said.json);
    let empty = place.rack.dir().join("empty");
    fs::create_dir_all(&empty)?;
    let _tftpd = tftpd(&place, &empty)?;
    let said = preflight(&host, &[])?;
    said.expect("UEFI x86-64", false, &["which is not there", "PXE-E23"])?;
    drop(_kea);
    let _kea = kea(&place, false)?;
    let said = preflight(&host, &[])?;
    said.expect("UEFI x86-64", false, &["no boot file"])?;
    Ok(())
}

fn unpacked(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/peers/usr/sbin").join(name)
}

fn kea(place: &Place, names_files: bool) -> Result<Process> {
    let dir = place.rack.dir();
    let class = |name: &str, arch: &str, file: &str| {
        serde_json::json!({ "name": name, "test": format!("option[93].hex == {arch}"), "next-server": SERVER_ADDRESS,
            "boot-file-name": file })
    };
    let classes = match names_files {
        true => vec![class("bios", "0x0000", "undionly.kpxe"), class("efi", "0x0007", "snponly.efi")],
        false => Vec::new(),
    };
    let mut config = serde_json::json!({ "Dhcp4": {
        "interfaces-config": { "interfaces": ["eth0"], "dhcp-socket-type": "raw" },
        "lease-database": { "type": "memfile", "persist": false },
        "valid-lifetime": 600,
        "subnet4": [{ "id": 1, "subnet": "10.77.0.0/24", "pools": [{ "pool": "10.77.0.100 - 10.77.0.199" }] }],
        "loggers": [{ "name": "kea-dhcp4", "severity": "INFO", "output_options": [{ "output": "stdout" }] }],
    }});
    // An empty list is an error.
    if !classes.is_empty() {
        config["Dhcp4"]["client-classes"] = classes.into();
    }
    let file = dir.join("kea.json");
    fs::write(&file, config.to_string())?;
    let mut command = place.rack.server.command(&unpacked("kea-dhcp4").display().to_string());
    command.arg("-c").arg(&file);
    command.env("KEA_PIDFILE_DIR", dir).env("KEA_DHCP_DATA_DIR", dir).env("KEA_LOCKFILE_DIR", "none");
    let server = place.rack.server.spawn(command)?;
    server.wait_for_line("DHCP4_STARTED", SOON)?;
    Ok(server)
}

fn tftpd(place: &Place, files: &Path) -> Result<Process> {
    let mut command = place.rack.server.command(&unpacked("in.tftpd").display().to_string());
    let address = format!("{SERVER_ADDRESS}:69");
    command.args(["--foreground", "--user", "root", "--address", &address, "--secure"]).arg(files);
    let server = place.rack.server.spawn(command)?;
    boot_tests::wait::eventually(SOON, "the TFTP server's port", || {
        place.rack.server.output("ss", &["-Hlun", "sport = :69"]).is_ok_and(|ports| ports.contains(":69"))
    })?;
    Ok(server)
}

fn preflight_text(from: &Station) -> Result<String> {
    from.output(&binary()?.display().to_string(), &["preflight", "--interface", "eth0"])
}

fn leases_of(xpxe: &Xpxe<'_>, place: &Place) -> Result<String> {
    xpxe.command(&["leases", "list", "--config", &place.rack.dir().join("xpxe.toml").display().to_string()])
}
