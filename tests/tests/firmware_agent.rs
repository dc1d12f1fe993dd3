//! xpxe's agent on machines with real firmware: inventories, wiped disks, and an image that boots from its disk.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use boot_tests::agent;
use boot_tests::certificates::{Authority, Key, Pair};
use boot_tests::daemon::Xpxe;
use boot_tests::machine::{Firmware, Hardware, Machine};
use boot_tests::netns::tail;
use boot_tests::place::{Place, SOON};
use boot_tests::settings::{Settings, boot_dir};
use boot_tests::tftp_rack::random_bytes;
use boot_tests::wait::eventually;
use serde_json::Value;

/// From power-on to the end of what the agent does: far longer than it takes.
const AGENT: Duration = Duration::from_secs(420);
const BIOS: (&str, &str, Firmware) = ("bios-1", "52:54:00:77:00:0a", Firmware::BiosIpxe);
const UEFI: (&str, &str, Firmware) = ("uefi-1", "52:54:00:77:00:0b", Firmware::OvmfPxe);
/// Memory in MB: the initrd is unpacked there.
const MEMORY: u32 = 512;

/// One of the machines reaches the server by HTTPS, whose certificate has another name and no issuer that it knows.
fn over_https(place: &mut Place, name: &str) -> Result<()> {
    let Pair { certificate, key } = Authority::new(place.rack.dir())?.issue("server", "DNS:x", Key::Rsa)?;
    let mut public = Command::new("sh");
    public.args(["-c", "openssl pkey -in \"$0\" -pubout -outform DER | sha256sum"]).arg(&key);
    let digest = String::from_utf8(public.output()?.stdout)?;
    let digest = digest.split(' ').next().unwrap_or_default().to_owned();
    let tls =
        format!("tls = {{ listen = \"0.0.0.0:8443\", certificate = {certificate:?}, key = {key:?} }}\n");
    let pinned = format!("{{% if machine.name == '{name}' %}}sha256:{digest}{{% endif %}}");
    let encrypted = format!(
        "{{% if machine.name == '{name}' %}}https://10.77.0.1:8443{{{{ agent[21:] }}}}{{% else %}}{{{{ agent }}}}{{% endif %}}"
    );
    let config = place.config.replace("{{ agent_key }}", &pinned).replace("{{ agent }}", &encrypted);
    place.config = config.replace("[http]\n", &format!("[http]\n{tls}"));
    ensure!(place.config.contains(&tls) && place.config.contains(&digest));
    Ok(())
}

fn place() -> Result<Option<Place>> {
    let more = format!("{}\n[lifecycle]\nagent = \"agent\"\n", agent::PROFILE);
    let Some(place) = Place::build(&Settings { fast_path: "auto", more, ..Settings::default() })? else {
        return Ok(None);
    };
    agent::build(&boot_dir(&place.rack))?;
    Ok(Some(place))
}

fn xpxe_says(place: &Place, xpxe: &Xpxe<'_>, words: &[&str]) -> Result<String> {
    let file = place.rack.dir().join("xpxe.toml").display().to_string();
    xpxe.command(&[words, &["--config", &file]].concat())
}

fn show(place: &Place, xpxe: &Xpxe<'_>, which: &str) -> Result<Value> {
    Ok(serde_json::from_str(&xpxe_says(place, xpxe, &["machines", "show", which, "--json"])?)?)
}

fn is(place: &Place, xpxe: &Xpxe<'_>, which: &str, state: &str) -> bool {
    show(place, xpxe, which).is_ok_and(|machine| machine["status"]["state"] == state)
}

/// A disk behind the network, as QEMU has it.
fn disk(kind: &str, file: &Path, serial: &str) -> Vec<String> {
    let drive = format!("file={},if=none,id={serial},format=raw,cache=unsafe", file.display());
    let device = format!("{kind},drive={serial},serial={serial},bootindex=1");
    // Debian's kernel for virtual machines has no driver for the board's own controller, and no disk goes unseen.
    let no_more = ["-machine", "sata=off"].map(str::to_owned);
    [["-drive".to_owned(), drive, "-device".to_owned(), device].as_slice(), &no_more].concat()
}

fn power_on(place: &Place, which: (&str, &str, Firmware), disks: &[String]) -> Result<Machine> {
    let (name, mac, firmware) = which;
    let hardware = Hardware { name, mac, firmware, memory: MEMORY };
    Machine::power_on_with(&place.rack, place.rack.tap()?, &hardware, disks)
}

/// A file full of data.
fn full(place: &Place, name: &str, megabytes: usize) -> Result<PathBuf> {
    let file = place.rack.dir().join(name);
    fs::write(&file, random_bytes(name, megabytes << 20))?;
    Ok(file)
}

fn ends(machine: &Machine, xpxe: &Xpxe<'_>) -> Result<()> {
    let off = machine.wait_for_power_off(AGENT).with_context(|| {
        format!("{}\n{}\n{}", machine.name, tail(&machine.serial(), 40), xpxe.last_lines(30))
    })?;
    println!("{}: restarts after {:.1} s", machine.name, off.as_secs_f32());
    Ok(())
}

#[test]
fn machines_are_inventoried_and_their_disks_read_as_zeros() -> Result<()> {
    let Some(mut place) = place()? else { return Ok(()) };
    over_https(&mut place, UEFI.0)?;
    let xpxe = place.serve()?;
    let mut machines = Vec::new();
    for (which, kind) in [(BIOS, "virtio-blk-pci"), (UEFI, "nvme")] {
        let (name, mac, _) = which;
        xpxe_says(&place, &xpxe, &["machines", "add", "--name", name, "--mac", mac])?;
        xpxe_says(&place, &xpxe, &["machines", "accept", name])?;
        let file = full(&place, &format!("{name}.disk"), 48)?;
        let serial = format!("S-{name}");
        machines.push((power_on(&place, which, &disk(kind, &file, &serial))?, file, serial));
    }
    for (machine, file, serial) in &machines {
        ends(machine, &xpxe)?;
        let name = &machine.name;
        eventually(SOON, "it is ready", || is(&place, &xpxe, name, "ready"))
            .with_context(|| format!("{}\n{}", tail(&machine.serial(), 40), xpxe.last_lines(30)))?;
        let bytes = fs::read(file)?;
        ensure!(bytes.len() == 48 << 20 && bytes.iter().all(|byte| *byte == 0), "{name}: the disk has data");
        let shown = show(&place, &xpxe, name)?;
        let inventory = &shown["inventory"];
        let (first_disk, nic) = (&inventory["disks"][0], &inventory["nics"][0]);
        ensure!(first_disk["serial"] == serial.as_str() && first_disk["size"] == 48 << 20, "{inventory}");
        ensure!(nic["mac"] == machine.mac.as_str() && nic["driver"] == "virtio_net", "{inventory}");
        ensure!(inventory["system"]["serial"] == name.as_str(), "{inventory}");
        let boot = if machine.name == BIOS.0 { "bios" } else { "uefi" };
        ensure!(
            inventory["system"]["boot"] == boot && inventory["memory"].as_u64() > Some(256 << 20),
            "{inventory}"
        );
        let socket = place.rack.dir().join("state/api.sock").display().to_string();
        let words = ["-sS", "--unix-socket", &socket, "http://xpxe/api/v1/schemas/inventory.json"];
        let schema = serde_json::from_str(&place.rack.server.output("curl", &words)?)?;
        agent::check_schema(&schema, inventory).with_context(|| inventory.to_string())?;
        let people = xpxe_says(&place, &xpxe, &["machines", "show", name])?;
        ensure!(people.contains(serial.as_str()) && people.contains("accepted → ready"), "{people}");
        let scheme =
            if machine.name == UEFI.0 { "server: https://10.77.0.1:8443/" } else { "server: http://" };
        ensure!(machine.serial().iter().any(|line| line.text.contains(scheme)), "{name}: not by {scheme}");
        // Consoles are logged.
        let shown = machine
            .serial()
            .iter()
            .any(|line| line.text.contains("xpxe-agent") && line.text.contains("/t-0"));
        ensure!(!shown, "a token is on the console");
    }
    xpxe.stop()
}

#[test]
fn an_image_is_written_and_boots_from_its_disk() -> Result<()> {
    let Some(place) = place()? else { return Ok(()) };
    let xpxe = place.serve()?;
    let home = "xpxe.home=http://10.77.0.1:8080/phone-home?from=disk";
    let image = agent::disk_image(place.rack.dir(), home)?;
    let raw = boot_dir(&place.rack).join("disk.img");
    fs::write(&raw, &image)?;
    for compress in ["gzip", "zstd"] {
        ensure!(Command::new(compress).args(["-1", "-k"]).arg(&raw).status()?.success(), "{compress}");
    }
    for (which, file) in [(BIOS, "disk.img.gz"), (UEFI, "disk.img.zst")] {
        let (name, mac, _) = which;
        let sum = Command::new("sha256sum").arg(boot_dir(&place.rack).join(file)).output()?;
        let sum = String::from_utf8(sum.stdout)?;
        let digest = sum.split(' ').next().unwrap_or_default();
        let add =
            ["machines", "add", "--name", name, "--mac", mac, "--image", file, "--image-sha256", digest];
        xpxe_says(&place, &xpxe, &add)?;
        xpxe_says(&place, &xpxe, &["machines", "allocate", name])?;
        let disk_file = full(&place, &format!("{name}.disk"), 32)?;
        let disks = disk("virtio-blk-pci", &disk_file, &format!("S-{name}"));
        // It is wiped, then written: the agent asks again after each restart.
        for (state, what) in [("allocated", "wiped"), ("installing", "written")] {
            let machine = power_on(&place, which, &disks)?;
            ends(&machine, &xpxe)?;
            eventually(SOON, what, || is(&place, &xpxe, name, state))
                .with_context(|| format!("{}\n{}", tail(&machine.serial(), 40), xpxe.last_lines(30)))?;
        }
        let written = fs::read(&disk_file)?;
        ensure!(written[..image.len()] == image, "{name}: the disk has something else than the image");
        let machine = power_on(&place, which, &disks)?;
        machine.wait_for("XPXE-DISK boots", AGENT)?;
        ends(&machine, &xpxe)?;
        eventually(SOON, "it runs", || is(&place, &xpxe, name, "running"))
            .with_context(|| format!("{}\n{}", tail(&machine.serial(), 40), xpxe.last_lines(30)))?;
        let people = xpxe_says(&place, &xpxe, &["machines", "show", name])?;
        for step in
            ["accepted → ready", "ready → allocated", "allocated → installing", "installing → running"]
        {
            ensure!(people.contains(step), "{step}: {people}");
        }
    }
    xpxe.stop()
}
