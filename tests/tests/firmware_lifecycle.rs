//! The whole circle of a machine's life, with nobody in the room: from its first request to running, and back.

use std::fs;
use std::process::Command;

use anyhow::{Result, ensure};
use boot_tests::agent;
use boot_tests::bmc::{self, IpmiSim, Sushy};
use boot_tests::circle::{Bmc, Circle};
use boot_tests::machine::Firmware;
use boot_tests::place::Place;
use boot_tests::settings::{Settings, boot_dir};
use boot_tests::tftp_rack::random_bytes;

/// Bytes of a machine's disk.
const DISK: usize = 32 << 20;

#[test]
fn bios_with_ipmi() -> Result<()> {
    circle(("bios-1", "52:54:00:77:00:0a", Firmware::BiosIpxe), |place| {
        let sim = IpmiSim::start(&place.rack.server, &place.rack.dir().join("sim"), "127.0.0.1", 9001)?;
        Ok(Bmc::Ipmi(sim))
    })
}

#[test]
fn uefi_with_redfish() -> Result<()> {
    const UUID: &str = "78707865-0000-4000-8000-52540077000b";
    circle(("uefi-1", "52:54:00:77:00:0b", Firmware::OvmfPxe), |place| {
        let sushy = Sushy::start(&place.rack.server, &place.rack.dir().join("sushy"), &[UUID])?;
        Ok(Bmc::Redfish(sushy, UUID.to_owned()))
    })
}

fn circle(
    which: (&'static str, &'static str, Firmware),
    bmc: impl FnOnce(&Place) -> Result<Bmc>,
) -> Result<()> {
    let power = "[bmc]\npause = \"30s\"\npoll = \"2s\"\n";
    let more = format!("{}\n[lifecycle]\nagent = \"agent\"\n\n{power}", agent::PROFILE);
    let Some(mut place) = Place::build(&Settings { more, ..Settings::default() })? else { return Ok(()) };
    let default = "[default]\nprofile = \"guest\"\n";
    place.config = place.config.replace(default, &format!("{default}unknown = \"discover\"\n"));
    bmc::provide_ipmitool()?;
    agent::build(&boot_dir(&place.rack))?;
    let home = "xpxe.home=http://10.77.0.1:8080/phone-home?from=disk";
    let image = agent::disk_image(place.rack.dir(), home)?;
    let raw = boot_dir(&place.rack).join("disk.img");
    fs::write(&raw, &image)?;
    let sum = String::from_utf8(Command::new("sha256sum").arg(&raw).output()?.stdout)?;
    let xpxe = place.serve()?;
    let data = random_bytes(which.0, DISK);
    let mut machine = Circle::new(&place, &xpxe, which, bmc(&place)?, &data)?;

    machine.press_button()?;
    machine.until("discovered")?;
    machine.describe("disk.img", sum.split(' ').next().unwrap_or_default())?;
    machine.order("accept")?;
    machine.until("ready")?;
    ensure!(machine.disk()?.iter().all(|byte| *byte == 0), "the disk has data");
    machine.until_power(false)?;
    machine.order("allocate")?;
    machine.until("running")?;
    machine.ensure_override()?;
    ensure!(machine.disk()?[..image.len()] == image, "the disk has something else than the image");
    machine.order("release")?;
    machine.until("ready")?;
    ensure!(machine.disk()?.iter().all(|byte| *byte == 0), "the disk has the data of who had it");
    machine.until_power(false)?;
    let people = machine.says(&["machines", "show", which.0])?;
    println!("{people}");
    for step in [
        "discovered → accepted",
        "accepted → ready",
        "ready → allocated",
        "installing → running",
        "running → released",
        "released → ready",
    ] {
        ensure!(people.contains(step), "{step}: {people}");
    }
    xpxe.stop()
}
