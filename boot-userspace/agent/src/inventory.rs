//! What the machine consists of, from sysfs and procfs.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use boot_agent_protocol::{Inventory, Nic, Processor, SCHEMA, System};

use crate::disk::{self, text};
use crate::lldp::Heard;
use crate::network::cards;
use crate::{ipmi, smbios};

/// Takes the inventory.
pub(crate) fn take(heard: &Heard) -> Inventory {
    let sys = Path::new("/sys");
    let table = fs::read(sys.join("firmware/dmi/tables/DMI")).unwrap_or_default();
    Inventory {
        schema: SCHEMA,
        taken: 0,
        system: system(sys),
        processors: processors(&fs::read_to_string("/proc/cpuinfo").unwrap_or_default()),
        memory: memory(&fs::read_to_string("/proc/meminfo").unwrap_or_default()),
        memory_modules: smbios::memory_modules(&table),
        disks: disk::fixed(sys),
        nics: nics(&sys.join("class/net"), heard),
        bmc: ipmi::address(),
    }
}

fn system(sys: &Path) -> System {
    let read = |file: &str| text(&sys.join("class/dmi/id").join(file));
    System {
        vendor: read("sys_vendor"),
        product: read("product_name"),
        serial: read("product_serial"),
        uuid: read("product_uuid"),
        asset_tag: read("chassis_asset_tag"),
        board_serial: read("board_serial"),
        firmware: read("bios_version"),
        boot: if sys.join("firmware/efi").exists() { "uefi" } else { "bios" }.to_owned(),
    }
}

/// Of each socket its model, cores and threads.
fn processors(cpuinfo: &str) -> Vec<Processor> {
    let mut sockets: BTreeMap<String, Processor> = BTreeMap::new();
    for thread in cpuinfo.split("\n\n").filter(|thread| !thread.trim().is_empty()) {
        let value = |key: &str| {
            let mut lines = thread.lines().filter_map(|line| line.split_once(':'));
            lines.find_map(|(name, value)| (name.trim() == key).then(|| value.trim().to_owned()))
        };
        let socket = sockets.entry(value("physical id").unwrap_or_default()).or_default();
        socket.threads += 1;
        socket.model = value("model name").unwrap_or_default();
        socket.cores = value("cpu cores").and_then(|cores| cores.parse().ok()).unwrap_or(socket.threads);
    }
    sockets.into_values().collect()
}

fn memory(meminfo: &str) -> u64 {
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kilobytes = total.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) << 10
}

fn nics(net: &Path, heard: &Heard) -> Vec<Nic> {
    let nic = |name: String| {
        let dir = net.join(&name);
        let read = |file: &str| text(&dir.join(file));
        let driver = fs::read_link(dir.join("device/driver")).unwrap_or_default();
        Nic {
            mac: read("address"),
            driver: driver.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            // -1: nobody knows.
            speed: read("speed").parse().unwrap_or(0),
            link: read("carrier") == "1",
            lldp: heard.on(&name),
            name,
        }
    };
    cards(net).into_iter().map(nic).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_counted_by_socket() {
        let thread = |socket: u32| {
            format!("processor\t: 0\nmodel name\t: EPYC\nphysical id\t: {socket}\ncpu cores\t: 2\n\n")
        };
        let two = [0, 0, 0, 0, 1, 1].map(thread).concat();
        let found = processors(&two);
        let counted: Vec<_> = found.iter().map(|cpu| (cpu.model.as_str(), cpu.cores, cpu.threads)).collect();
        assert_eq!(counted, [("EPYC", 2, 4), ("EPYC", 2, 2)]);
        // Arm says little.
        assert_eq!(processors("processor\t: 0\n\nprocessor\t: 1\n\n")[0].threads, 2);
        assert_eq!(memory("MemTotal:        2048 kB\nMemFree: 1 kB\n"), 2 << 20);
    }

    #[test]
    fn this_machine_has_a_processor_and_memory() {
        let taken = take(&Heard::default());
        assert!(taken.processors.iter().any(|cpu| cpu.threads > 0) && taken.memory > 0);
    }
}
