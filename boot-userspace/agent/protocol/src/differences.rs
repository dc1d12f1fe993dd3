//! What has changed in a machine between two inventories.

use std::collections::BTreeMap;

use crate::inventory::{Inventory, MemoryModule};

/// Memory that the kernel or the firmware takes differs from boot to boot: less than this is no module.
const SLACK: u64 = 64 << 20;

impl Inventory {
    /// What is other in `now`, one sentence for each thing. Names that the kernel gives and links that are down for a moment
    /// are no difference.
    #[must_use]
    pub fn differences(&self, now: &Self) -> Vec<String> {
        let mut found = Vec::new();
        if self.memory.abs_diff(now.memory) > SLACK {
            found.push(format!("memory is {} instead of {}", size(now.memory), size(self.memory)));
        }
        let modules = |all: &[MemoryModule]| -> BTreeMap<String, String> {
            let fitted = all.iter().filter(|module| module.size > 0);
            fitted
                .map(|module| (module.slot.clone(), format!("{} {}", size(module.size), module.serial)))
                .collect()
        };
        compare("memory module", &modules(&self.memory_modules), &modules(&now.memory_modules), &mut found);
        let processors = |of: &Self| -> BTreeMap<String, String> {
            let all = of.processors.iter().enumerate();
            all.map(|(socket, processor)| (socket.to_string(), processor.model.clone())).collect()
        };
        compare("processor", &processors(self), &processors(now), &mut found);
        let disks = |of: &Self| -> BTreeMap<String, String> {
            let named = |serial: &str, name: &str| if serial.is_empty() { name } else { serial }.to_owned();
            of.disks.iter().map(|disk| (named(&disk.serial, &disk.name), size(disk.size))).collect()
        };
        compare("disk", &disks(self), &disks(now), &mut found);
        let nics = |of: &Self| -> BTreeMap<String, String> {
            of.nics.iter().map(|nic| (nic.mac.clone(), nic.driver.clone())).collect()
        };
        compare("network card", &nics(self), &nics(now), &mut found);
        found
    }
}

fn compare(
    what: &str,
    before: &BTreeMap<String, String>,
    now: &BTreeMap<String, String>,
    found: &mut Vec<String>,
) {
    for (key, was) in before {
        match now.get(key) {
            None => found.push(format!("{what} {key} ({}) is gone", was.trim())),
            Some(is) if is != was => {
                found.push(format!("{what} {key} is {} instead of {}", is.trim(), was.trim()));
            }
            Some(_) => {}
        }
    }
    let new = now.iter().filter(|(key, _)| !before.contains_key(*key));
    found.extend(new.map(|(key, is)| format!("{what} {key} ({}) is new", is.trim())));
}

/// For people, in binary units.
fn size(bytes: u64) -> String {
    let units = [("TiB", 40), ("GiB", 30), ("MiB", 20)];
    let unit = units.into_iter().find(|(_, shift)| bytes >> shift > 0);
    unit.map_or_else(
        || format!("{bytes} bytes"),
        |(name, shift)| {
            let tenths = (bytes >> (shift - 4)) * 10 / 16;
            format!("{}.{} {name}", tenths / 10, tenths % 10)
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::{Disk, Nic};

    #[test]
    fn a_module_less_and_another_disk_are_told_and_a_link_is_not() {
        let module =
            |slot: &str| MemoryModule { slot: slot.to_owned(), size: 16 << 30, ..MemoryModule::default() };
        let disk = |serial: &str, size| Disk { serial: serial.to_owned(), size, ..Disk::default() };
        let nic = |link| Nic { mac: "02:00:00:00:00:01".to_owned(), link, ..Nic::default() };
        let before = Inventory {
            memory: 32 << 30,
            memory_modules: vec![module("A1"), module("A2"), MemoryModule::default()],
            disks: vec![disk("S1", 1 << 40), disk("S2", 1 << 40)],
            nics: vec![nic(true)],
            ..Inventory::default()
        };
        assert_eq!(before.differences(&before), [""; 0]);
        let now = Inventory {
            memory: (16 << 30) + 4096,
            memory_modules: vec![module("A1")],
            disks: vec![disk("S1", 3 << 39), disk("S3", 1 << 40)],
            nics: vec![nic(false)],
            ..Inventory::default()
        };
        assert_eq!(
            before.differences(&now),
            [
                "memory is 16.0 GiB instead of 32.0 GiB",
                "memory module A2 (16.0 GiB) is gone",
                "disk S1 is 1.5 TiB instead of 1.0 TiB",
                "disk S2 (1.0 TiB) is gone",
                "disk S3 (1.0 TiB) is new"
            ]
        );
        let little = Inventory { memory: before.memory - 4096, ..before.clone() };
        assert_eq!(before.differences(&little), [""; 0]);
    }
}
