//! `match` of a `[[group]]` by what a machine consists of, as the agent has reported it.

use std::fmt;

use boot_agent_protocol::Inventory;

use super::amount;
use super::reader::Table;
use super::report::{At, Report};
use super::value::quoted;

/// The keys, each with an example. Those of [`NUMBERS`] compare a number.
pub(super) const KEYS: [(&str, &str); 9] = [
    ("memory", ">= 256G"),
    ("sockets", ">= 2"),
    ("cores", ">= 32"),
    ("cpu", "EPYC"),
    ("disks", ">= 2"),
    ("disk_size", ">= 4T"),
    ("nics", "mlx5_core"),
    ("vendor", "Dell"),
    ("product", "PowerEdge R760"),
];
const NUMBERS: [&str; 5] = ["memory", "sockets", "cores", "disks", "disk_size"];

/// How two numbers compare. The longer signs first: each is looked for at the beginning of a text.
const SIGNS: [(&str, Compare); 5] = [
    (">=", Compare::AtLeast),
    ("<=", Compare::AtMost),
    (">", Compare::Above),
    ("<", Compare::Below),
    ("=", Compare::Equal),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compare {
    AtLeast,
    AtMost,
    Above,
    Below,
    Equal,
}

/// One condition: a key and what its value has to be, one of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Condition {
    key: &'static str,
    wanted: Wanted,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Wanted {
    Numbers(Vec<Range>),
    /// In lower case, and as they are written.
    Texts(Vec<(String, String)>),
}

/// A number that fits all of these.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Range {
    parts: Vec<(Compare, u64)>,
    written: String,
}

/// What a machine's inventory has to have. All conditions have to fit; without any, every machine fits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hardware(Vec<Condition>);

impl Hardware {
    /// Whether it asks for nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a machine fits, by its inventory. Without one it fits only if nothing is asked for.
    #[must_use]
    pub fn fits(&self, inventory: Option<&Inventory>) -> bool {
        self.is_empty()
            || inventory.is_some_and(|inventory| self.0.iter().all(|condition| condition.fits(inventory)))
    }
}

/// The conditions as they are written, with commas between them.
impl fmt::Display for Hardware {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.0.iter().map(|Condition { key, wanted }| {
            let written: Vec<&str> = match wanted {
                Wanted::Numbers(ranges) => ranges.iter().map(|range| range.written.as_str()).collect(),
                Wanted::Texts(texts) => texts.iter().map(|(_, written)| written.as_str()).collect(),
            };
            format!("{key} {}", written.join(" or "))
        });
        f.write_str(&all.collect::<Vec<_>>().join(", "))
    }
}

impl Condition {
    fn fits(&self, inventory: &Inventory) -> bool {
        match &self.wanted {
            Wanted::Numbers(ranges) => numbers(self.key, inventory)
                .iter()
                .any(|number| ranges.iter().any(|range| range.has(*number))),
            Wanted::Texts(texts) => self.texts(inventory).iter().any(|found| {
                let found = found.to_lowercase();
                texts.iter().any(|(wanted, _)| self.is_it(&found, wanted))
            }),
        }
    }

    fn texts<'i>(&self, inventory: &'i Inventory) -> Vec<&'i str> {
        match self.key {
            "cpu" => inventory.processors.iter().map(|processor| processor.model.as_str()).collect(),
            "nics" => inventory.nics.iter().map(|nic| nic.driver.as_str()).collect(),
            "vendor" => vec![&inventory.system.vendor],
            _ => vec![&inventory.system.product],
        }
    }

    /// A driver is named in full or by what stands before `_`: mlx5 is mlx5_core, and not mlx5x. Of the other texts a part will do.
    fn is_it(&self, found: &str, wanted: &str) -> bool {
        match self.key {
            "nics" => found.strip_prefix(wanted).is_some_and(|rest| rest.is_empty() || rest.starts_with('_')),
            _ => found.contains(wanted),
        }
    }
}

/// What a machine has of something. Nothing where the inventory does not say; of disks one number each.
fn numbers(key: &str, inventory: &Inventory) -> Vec<u64> {
    let known = |number: u64| Vec::from_iter((number > 0).then_some(number));
    let count = |length: usize| u64::try_from(length).unwrap_or(u64::MAX);
    match key {
        "memory" => {
            // The kernel sees less than what is fitted, because firmware and kernel keep some for themselves.
            let fitted = inventory.memory_modules.iter().map(|module| module.size);
            let fitted = fitted.fold(0u64, u64::saturating_add);
            known(if fitted > 0 { fitted } else { inventory.memory })
        }
        "sockets" => known(count(inventory.processors.len())),
        "cores" => {
            let cores = inventory.processors.iter().map(|processor| u64::from(processor.cores));
            known(cores.fold(0u64, u64::saturating_add))
        }
        "disks" => vec![count(inventory.disks.len())],
        _ => inventory.disks.iter().map(|disk| disk.size).collect(),
    }
}

impl Range {
    fn has(&self, number: u64) -> bool {
        self.parts.iter().all(|(compare, bound)| match compare {
            Compare::AtLeast => number >= *bound,
            Compare::AtMost => number <= *bound,
            Compare::Above => number > *bound,
            Compare::Below => number < *bound,
            Compare::Equal => number == *bound,
        })
    }

    fn read(key: &str, text: &str) -> Result<Self, String> {
        let part = |part: &str| {
            let part = part.trim();
            let found = SIGNS.iter().find_map(|(sign, compare)| Some((part.strip_prefix(sign)?, *compare)));
            let (amount, compare) = found.ok_or_else(|| {
                let quoted = quoted(part);
                format!(
                    "{quoted} does not say how to compare; write >=, >, <=, < or = before it, such as {}",
                    example(key)
                )
            })?;
            Ok((compare, number(key, amount.trim_start())?))
        };
        let parts = text.split(',').map(part).collect::<Result<Vec<_>, String>>()?;
        Ok(Self { parts, written: text.to_owned() })
    }
}

fn number(key: &str, text: &str) -> Result<u64, String> {
    match key {
        "memory" => amount::fitted_memory(text),
        "disk_size" => amount::size_of_disk(text),
        _ => text.parse().map_err(|_| {
            format!(
                "{} is not a whole number; write one behind the sign, such as {}",
                quoted(text),
                example(key)
            )
        }),
    }
}

fn example(key: &str) -> String {
    let found = KEYS.iter().find(|(name, _)| *name == key);
    found.map_or_else(String::new, |(_, example)| format!("{key} = \"{example}\""))
}

/// The conditions as they stand in the file.
#[derive(Default)]
pub(super) struct Written(Vec<(&'static str, Vec<At<String>>)>);

/// The conditions in the file.
pub(super) fn read(table: &Table<'_>, report: &mut Report<'_>) -> Written {
    let lists = KEYS.iter().map(|(key, example)| (*key, table.one_or_more_texts(key, example, report)));
    Written(lists.filter(|(_, list)| !list.is_empty()).collect())
}

/// The conditions.
pub(super) fn check(written: &Written, report: &mut Report<'_>) -> Hardware {
    let condition = |(key, list): &(&'static str, Vec<At<String>>)| {
        let wanted = if NUMBERS.contains(key) {
            Wanted::Numbers(
                list.iter().filter_map(|at| at.read(report, |text| Range::read(key, text))).collect(),
            )
        } else {
            Wanted::Texts(
                list.iter().filter_map(|at| at.read(report, |text| part_of_text(key, text))).collect(),
            )
        };
        Condition { key, wanted }
    };
    Hardware(written.0.iter().map(condition).collect())
}

fn part_of_text(key: &str, text: &str) -> Result<(String, String), String> {
    let trimmed = text.trim();
    if trimmed.is_empty() || trimmed.chars().any(char::is_control) {
        return Err(format!("{} is in no inventory; write a word, such as {}", quoted(text), example(key)));
    }
    Ok((trimmed.to_lowercase(), trimmed.to_owned()))
}

#[cfg(test)]
mod tests {
    use boot_agent_protocol::{Disk, MemoryModule, Nic, Processor, System};

    use super::*;

    fn machine() -> Inventory {
        let module = |size: u64| MemoryModule { size: size << 30, ..MemoryModule::default() };
        let disk = |size: u64| Disk { size, ..Disk::default() };
        let nic = |driver: &str| Nic { driver: driver.to_owned(), ..Nic::default() };
        let processor =
            Processor { model: "AMD EPYC 9354 32-Core Processor".to_owned(), cores: 32, threads: 64 };
        Inventory {
            memory: 251 << 30,
            memory_modules: vec![module(128), module(0), module(128)],
            processors: vec![processor.clone(), processor],
            disks: vec![disk(480_000_000_000), disk(3_840_755_982_336)],
            nics: vec![nic("igb"), nic("mlx5_core")],
            system: System {
                vendor: "Dell Inc.".to_owned(),
                product: "PowerEdge R7625".to_owned(),
                ..System::default()
            },
            ..Inventory::default()
        }
    }

    fn one(key: &'static str, text: &str) -> Result<Hardware, String> {
        let wanted = if NUMBERS.contains(&key) {
            Wanted::Numbers(vec![Range::read(key, text)?])
        } else {
            Wanted::Texts(vec![part_of_text(key, text)?])
        };
        Ok(Hardware(vec![Condition { key, wanted }]))
    }

    #[test]
    fn conditions_compare_what_was_reported() {
        let machine = machine();
        for (key, text, fits) in [
            ("memory", ">= 256G", true),
            ("memory", "> 256G", false),
            ("memory", "=262144M", true),
            ("memory", ">= 128G, < 1T", true),
            ("memory", ">= 128G, < 256G", false),
            ("sockets", "= 2", true),
            ("sockets", "<= 1", false),
            ("cores", ">= 64", true),
            ("cores", "> 64", false),
            ("cpu", "epyc", true),
            ("cpu", "Xeon", false),
            ("disks", ">= 2", true),
            ("disks", "= 3", false),
            ("disk_size", ">= 3.8T", true),
            ("disk_size", ">= 4T", false),
            ("disk_size", "> 470G, < 490G", true),
            ("nics", "mlx5", true),
            ("nics", "mlx5_core", true),
            ("nics", "mlx", false),
            ("nics", "ig", false),
            ("vendor", "dell", true),
            ("product", "R7625", true),
            ("product", "R760", false),
        ] {
            let hardware = one(key, text).unwrap();
            assert_eq!(hardware.fits(Some(&machine)), fits, "{hardware}");
            assert!(!hardware.fits(None), "{hardware}: without an inventory");
        }
        assert!(Hardware::default().fits(None));
    }

    #[test]
    fn what_an_inventory_does_not_say_fits_no_number() {
        let silent = Inventory::default();
        for (key, text) in [("memory", "< 1T"), ("sockets", "< 9"), ("cores", "< 9"), ("disk_size", "< 1T")] {
            assert!(!one(key, text).unwrap().fits(Some(&silent)), "{key}");
        }
        assert!(one("disks", "= 0").unwrap().fits(Some(&silent)), "a machine may have no disk");
        let kernel_only = Inventory { memory: 64 << 30, ..Inventory::default() };
        assert!(one("memory", "= 64G").unwrap().fits(Some(&kernel_only)));
    }

    #[test]
    fn mistakes_name_the_alternatives() {
        for (key, text, says) in [
            ("memory", "256G", "write >=, >, <=, < or = before it, such as memory = \">= 256G\""),
            ("memory", ">= 256", "write a number and M, G or T, such as \"256G\""),
            ("memory", "=> 256G", "is not an amount"),
            ("memory", ">= 1G,", "\"\" does not say how to compare"),
            ("disk_size", ">= lots", "write a number and G or T, such as \"480G\" or \"3.84T\""),
            ("cores", ">= 2.5", "write one behind the sign, such as cores = \">= 32\""),
            ("cpu", " ", "write a word, such as cpu = \"EPYC\""),
        ] {
            let why = one(key, text).unwrap_err();
            assert!(why.contains(says), "{key} {text}: {why}");
        }
    }
}
