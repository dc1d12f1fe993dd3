//! The disks of the machine, as sysfs has them.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use boot_agent_protocol::Disk;

/// Names of block devices that are no disks of the machine: memory, loops, mappings, optical and floppy drives, and the boot
/// parts of eMMC.
const NO_DISKS: [&str; 10] = ["ram", "loop", "zram", "dm-", "md", "sr", "fd", "nbd", "mtd", "rbd"];

/// All fixed disks. Removable ones and those on USB are media of people, or of the BMC.
pub(crate) fn fixed(sys: &Path) -> Vec<Disk> {
    let mut disks: Vec<Disk> = fs::read_dir(sys.join("block"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| fixed_disk(&entry.path()))
        .collect();
    disks.sort_by(|a, b| a.name.cmp(&b.name));
    disks
}

fn fixed_disk(dir: &Path) -> Option<Disk> {
    let name = dir.file_name()?.to_str()?.to_owned();
    let is_part = name.starts_with("mmcblk") && (name.contains("boot") || name.contains("rpmb"));
    if NO_DISKS.iter().any(|prefix| name.starts_with(prefix)) || is_part {
        return None;
    }
    let read = |file: &str| text(&dir.join(file));
    let place = fs::canonicalize(dir).ok()?.to_string_lossy().into_owned();
    let size = read("size").parse::<u64>().ok()?.checked_mul(512)?;
    // A path to an NVMe disk that is hidden behind the disk itself.
    let is_hidden = read("hidden") == "1";
    if size == 0 || is_hidden || read("removable") == "1" || read("ro") == "1" || place.contains("/usb") {
        return None;
    }
    let transport = match &name {
        name if name.starts_with("nvme") => "nvme",
        name if name.starts_with("vd") => "virtio",
        name if name.starts_with("mmcblk") => "mmc",
        name if name.starts_with("sd") => "scsi",
        _ => "",
    };
    let first = |files: &[&str]| files.iter().map(|file| read(file)).find(|text| !text.is_empty());
    Some(Disk {
        model: first(&["device/model", "device/name"]).unwrap_or_default(),
        serial: first(&["serial", "device/serial"]).or_else(|| unit_serial(dir)).unwrap_or_default(),
        wwn: first(&["wwid", "device/wwid"]).unwrap_or_default(),
        size,
        rotational: read("queue/rotational") == "1",
        transport: transport.to_owned(),
        name,
    })
}

/// The unit serial number of a SCSI disk (SPC-4 7.8.16): four bytes of head, then its text.
fn unit_serial(dir: &Path) -> Option<String> {
    let page = fs::read(dir.join("device/vpd_pg80")).ok()?;
    let serial = String::from_utf8_lossy(page.get(4..)?).trim_matches(['\0', ' ']).to_owned();
    (!serial.is_empty()).then_some(serial)
}

/// The mass storage controllers on PCI (base class 1) that no driver has taken: nobody knows which disks are behind them.
pub(crate) fn controllers_without_driver(sys: &Path) -> Vec<String> {
    let devices = fs::read_dir(sys.join("bus/pci/devices")).into_iter().flatten().flatten();
    let is_idle = |dir: &Path| text(&dir.join("class")).starts_with("0x01") && !dir.join("driver").exists();
    let mut found: Vec<String> = devices
        .map(|entry| entry.path())
        .filter(|dir| is_idle(dir))
        .map(|dir| {
            let read = |file: &str| text(&dir.join(file)).trim_start_matches("0x").to_owned();
            let place = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
            format!("{place} ({}:{})", read("vendor"), read("device"))
        })
        .collect();
    found.sort();
    found
}

/// The disk that is meant: by serial number, world wide name or name, or the only one there is.
pub(crate) fn choose<'d>(disks: &'d [Disk], wanted: Option<&str>) -> Result<&'d Disk> {
    let listed = || {
        let names = disks.iter().map(|disk| format!("{} ({}, {} bytes)", disk.name, disk.serial, disk.size));
        names.collect::<Vec<_>>().join(", ")
    };
    let Some(wanted) = wanted else {
        return match disks {
            [only] => Ok(only),
            [] => bail!(
                "the machine has no fixed disk: its controller may need a module that is not in the initrd"
            ),
            _ => bail!("the machine has several disks: name one as disk of its image: {}", listed()),
        };
    };
    let is_it = |disk: &&Disk| [&disk.serial, &disk.wwn, &disk.name].into_iter().any(|name| name == wanted);
    let mut found = disks.iter().filter(is_it);
    let first = found.next().with_context(|| format!("no disk is {wanted}: there are {}", listed()))?;
    match found.next() {
        None => Ok(first),
        Some(_) => bail!("several disks are {wanted}: name one by another number: {}", listed()),
    }
}

/// What is in a small file, without the space around it; nothing where it is not there.
pub(crate) fn text(path: &Path) -> String {
    let text = fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    text.unwrap_or_default().trim_matches(['\0', ' ', '\n', '\t']).to_owned()
}

#[cfg(test)]
mod tests;
