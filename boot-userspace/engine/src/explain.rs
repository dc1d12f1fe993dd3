//! What a machine gets by the configuration, and which setting decides each part of it (`xpxe explain`).

mod script;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::str::FromStr;
use std::sync::Arc;

use boot_common::Mac;
use boot_common::class::{Class, Firmware, Stage};

use crate::boot::parameters::Table;
use crate::config::{Config, Machine, Origins, Subnet, Unknown};
use crate::machines::{ConflictError, Identity, Known, Machines};
use crate::policy::{BootFileSource, Differences, Loaders, Policy};

/// Kinds of firmware that are explained beside those that rules name.
const USUAL: [u16; 11] = [0, 6, 7, 9, 10, 11, 16, 19, 27, 39, 41];
const BUILT_IN: &str = "built in";

/// Which machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// By its Ethernet address, which need not be in the configuration.
    Mac(Mac),
    /// By its name.
    Name(String),
}

impl FromStr for Who {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(text.parse().map_or_else(|_| Self::Name(text.to_owned()), Self::Mac))
    }
}

/// One thing that a machine gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// What it is, such as `kernel`.
    pub what: String,
    /// What the machine gets.
    pub value: String,
    /// The setting that says so, as `FILE:LINE: KEY`, or why nothing does.
    pub why: String,
}

/// Rows as text, in three columns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rows(pub Vec<Row>);

impl fmt::Display for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width =
            |of: fn(&Row) -> &String| self.0.iter().map(|row| of(row).chars().count()).max().unwrap_or(0);
        let (what, value) = (width(|row| &row.what), width(|row| &row.value).min(60));
        for Row { what: name, value: text, why } in &self.0 {
            let line = format!("{name:what$}  {text:value$}  {why}");
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

impl Rows {
    fn add(&mut self, what: impl Into<String>, value: impl Into<String>, why: impl Into<String>) {
        self.0.push(Row { what: what.into(), value: value.into(), why: why.into() });
    }
}

/// Why nothing is explained.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unexplained {
    /// No machine has that name.
    #[error(
        "no [[machine]] has the name {0:?}, and it is no MAC address either: write one of its MAC addresses"
    )]
    NoSuchName(String),
    /// The configuration cannot be served.
    #[error(transparent)]
    Conflict(#[from] ConflictError),
}

/// What a machine gets by the configuration and by the boot parameters that somebody has written.
///
/// # Errors
/// There is no such machine.
pub fn explain(
    config: &Arc<Config>,
    origins: &Origins,
    who: &Who,
    loaders: &Loaders,
    written: &Table,
) -> Result<Rows, Unexplained> {
    let machines = Machines::new(config.machines.iter().cloned())?;
    let is_it = |machine: &Machine| match who {
        Who::Mac(mac) => machine.macs.contains(mac),
        Who::Name(name) => machine.name.as_ref().is_some_and(|own| own.eq_ignore_ascii_case(name)),
    };
    let position = config.machines.iter().position(|machine| is_it(machine));
    let known = position.and_then(|position| machines.all().into_iter().nth(position));
    let mac = match (who, &known) {
        (Who::Mac(mac), _) => Some(*mac),
        (Who::Name(name), None) => return Err(Unexplained::NoSuchName(name.clone())),
        (Who::Name(_), Some(known)) => known.machine.macs.first().copied(),
    };
    let policy = Policy::new(Arc::clone(config), machines, Vec::new(), |firmware| {
        loaders.get(&firmware).cloned().unwrap_or_else(|| Err(String::new()))
    });
    let differences = policy.differences_of(known.as_ref(), mac.unwrap_or_default());
    let explained = Explained {
        config,
        origins,
        policy: &policy,
        written,
        position,
        mac,
        known: known.as_ref(),
        differences,
    };
    Ok(explained.rows(mac))
}

struct Explained<'a> {
    config: &'a Config,
    origins: &'a Origins,
    policy: &'a Policy,
    written: &'a Table,
    /// In the configuration.
    position: Option<usize>,
    /// Of its cards, the one that asks.
    mac: Option<Mac>,
    known: Option<&'a Known>,
    differences: Differences,
}

impl Explained<'_> {
    fn rows(&self, mac: Option<Mac>) -> Rows {
        let mut rows = Rows::default();
        let is_bmc = mac.is_some_and(|mac| self.policy.machines().is_bmc(mac));
        match self.known {
            Some(Known { machine, .. }) => {
                let place = self.position.and_then(|position| self.origins.machine(position));
                rows.add(
                    "machine",
                    machine.name.as_deref().unwrap_or("without a name"),
                    place.unwrap_or_default(),
                );
                for identity in Identity::all(machine) {
                    rows.add("known by", identity.to_string(), "");
                }
            }
            None => {
                let mac = mac.unwrap_or_default();
                match self.policy.client(mac).name.filter(|_| is_bmc) {
                    Some(name) => rows.add("machine", format!("{mac}, {name}"), ""),
                    None => rows.add("machine", format!("{mac}, which is not in the configuration"), ""),
                }
            }
        }
        if self.known.is_none() && self.config.default.unknown == Unknown::Ignore && !is_bmc {
            let place = self.origins.unknown().unwrap_or_default();
            rows.add("answers", "none: it is ignored", place);
            return rows;
        }
        self.groups(&mut rows);
        self.addresses(&mut rows);
        self.boot_files(&mut rows);
        self.script(&mut rows);
        rows
    }

    fn machine(&self) -> Option<&Machine> {
        self.known.map(|known| &*known.machine)
    }

    fn of_machine(&self, key: &str) -> Option<String> {
        self.origins.machine_key(self.position?, key)
    }

    fn addresses(&self, rows: &mut Rows) {
        let reserved = self.machine().and_then(|machine| machine.ip);
        if let Some(address) = reserved {
            rows.add(
                "address",
                format!("{address}, reserved for it"),
                self.of_machine("ip").unwrap_or_default(),
            );
        }
        for (position, subnet) in self.config.subnets.iter().enumerate() {
            if reserved.is_some_and(|address| subnet.cidr.contains(&address)) {
                continue;
            }
            let place = self.origins.pool(position).unwrap_or_default();
            let what = format!("address in {}", subnet.cidr);
            match subnet.pool.is_empty() {
                true => rows.add(what, "none: the subnet has no pool", place),
                false => rows.add(what, "one of the pool", place),
            }
        }
        if self.config.subnets.is_empty() {
            rows.add("address", "from another DHCP server", "there is no [[subnet]]");
        }
    }

    /// The subnets in which it may boot, if that makes a difference.
    fn places(&self) -> Vec<(usize, &Subnet)> {
        let reserved = self.machine().and_then(|machine| machine.ip);
        let subnets = self.config.subnets.iter().enumerate();
        subnets.filter(|(_, subnet)| reserved.is_none_or(|address| subnet.cidr.contains(&address))).collect()
    }

    fn boot_files(&self, rows: &mut Rows) {
        let mut codes: Vec<u16> = USUAL.to_vec();
        codes.extend(self.config.boot_files.iter().flat_map(|rule| &rule.arch));
        codes.sort_unstable();
        codes.dedup();
        let firmware = codes.into_iter().map(|code| {
            let firmware = Firmware::from_arch(code);
            (format!("boot file of {} ({code})", firmware.name()), Class { firmware, stage: Stage::Rom })
        });
        let ipxe = ("boot file of iPXE".to_owned(), Class { firmware: Firmware::EfiX64, stage: Stage::Ipxe });
        for (what, class) in firmware.chain([ipxe]) {
            let mut of_places: Vec<(Option<&Subnet>, String, String)> = Vec::new();
            let places =
                self.places().into_iter().map(Some).chain(self.config.subnets.is_empty().then_some(None));
            for place in places {
                let (value, why) = self.boot_file(class, place);
                if of_places.iter().all(|(_, other, reason)| (other, reason) != (&value, &why)) {
                    of_places.push((place.map(|(_, subnet)| subnet), value, why));
                }
            }
            let differs = of_places.len() > 1;
            for (subnet, value, why) in of_places {
                match subnet.filter(|_| differs) {
                    Some(subnet) => rows.add(format!("{what} in {}", subnet.cidr), value, why),
                    None => rows.add(&what, value, why),
                }
            }
        }
    }

    fn boot_file(&self, class: Class, place: Option<(usize, &Subnet)>) -> (String, String) {
        let subnet = place.map(|(_, subnet)| subnet);
        // Which address a machine is told depends on the interface.
        let told = self.config.http.advertise.filter(SocketAddr::is_ipv4);
        let port = told.unwrap_or(self.config.http.listen).port();
        let ip = match told.map(|address| address.ip()) {
            Some(IpAddr::V4(ip)) => ip,
            _ => Ipv4Addr::UNSPECIFIED,
        };
        let found = self.policy.boot_file(class, SocketAddrV4::new(ip, port), &self.differences, subnet);
        let value = match found {
            Ok(Some(file)) => file.describe().replace("//0.0.0.0:", "//SERVER:"),
            Ok(None) => "none".to_owned(),
            Err(missing) => return ("none".to_owned(), missing),
        };
        let source = self.policy.boot_file_source(class, &self.differences, subnet);
        let (position, profile) = (self.position, self.profile());
        let why = source.and_then(|source| match source {
            BootFileSource::Machine => self.of_machine("boot_file"),
            BootFileSource::MachineOption => self.origins.machine_option(position?, 67),
            BootFileSource::GroupOption(number) => self.origins.group_option(number, 67),
            BootFileSource::Profile => self.origins.profile_key(profile?, "boot_file"),
            BootFileSource::ProfileOption => self.origins.profile_option(profile?, 67),
            BootFileSource::ProfileDisk => self.origins.profile_key(profile?, "iso"),
            BootFileSource::Rule(number) => self.origins.rule(number),
            BootFileSource::SubnetOption => self.origins.subnet_option(place?.0, 67),
        });
        (value, why.unwrap_or_else(|| BUILT_IN.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Source, TextFile, parse_with_origins};
    use crate::policy::loaders;

    const MAIN: &str = r#"[[interface]]
name = "eth1"
[[subnet]]
cidr = "10.1.0.0/16"
pool = ["10.1.1.33-10.1.1.233"]
[[subnet]]
cidr = "10.2.0.0/24"
pool = ["10.2.0.9"]
options = [{ code = 67, text = "of-subnet.efi" }]
[[profile]]
name = "talos"
kernel = "talos/vmlinuz"
initrd = ["talos/initramfs.xz"]
args = "console=ttyS0 \"quoted one\""
[[boot_file]]
arch = 11
file = "arm.efi"
[default]
profile = "talos"
"#;
    const MORE: &str = r#"[[profile]]
name = "rescue"
kernel = "rescue/vmlinuz"
boot_file = "rescue.efi"
[[machine]]
mac = "52:54:00:00:00:01"
name = "node1"
ip = "10.1.1.50"
args = "extra.arg=1"
[[machine]]
uuid = "4c4c4544-0042-3510-8052-b4c04f4e3132"
name = "node2"
profile = "rescue"
options = [{ code = 67, text = "http://10.9.9.9/x.ipxe", client = "ipxe" }]
"#;

    fn explained(main: &str, who: &str) -> String {
        explained_with(main, who, &Table::default())
    }

    fn explained_with(main: &str, who: &str, written: &Table) -> String {
        let source = |name: &str, text: &str| Source { name: name.to_owned(), bytes: text.into() };
        let sources = [source("xpxe.toml", main), source("conf.d/rack.toml", MORE)];
        let read = |name: &str| {
            let text = if name.ends_with(".ipxe") { "#!ipxe\n" } else { "#cloud-config\n" };
            Ok(TextFile { name: format!("/etc/xpxe/{name}"), text: text.to_owned() })
        };
        let (config, origins) = parse_with_origins(&sources, &read).unwrap();
        let loaders = loaders(|firmware| match firmware {
            Firmware::EfiX64 => Ok("snponly.efi".to_owned()),
            Firmware::Bios => Ok("undionly.kpxe".to_owned()),
            _ => Err("install it".to_owned()),
        });
        match explain(&Arc::new(config), &origins, &who.parse().unwrap(), &loaders, written) {
            Ok(rows) => rows.to_string(),
            Err(unexplained) => unexplained.to_string(),
        }
    }

    #[test]
    fn a_machine_with_an_address() {
        let said = explained(MAIN, "NODE1");
        assert_eq!(said, explained(MAIN, "52:54:00:00:00:01"));
        let expected = include_str!("explain/node1.txt");
        assert_eq!(said, expected, "\n{said}");
    }

    #[test]
    fn a_machine_without_a_mac() {
        let said = explained(MAIN, "node2");
        assert_eq!(said, include_str!("explain/node2.txt"), "\n{said}");
    }

    /// Each argument names the profile, the group or the machine that it is of, and what depends on the boot says so.
    #[test]
    fn a_machine_in_groups() {
        let main = MAIN.replace(
            "[[boot_file]]",
            "[[profile]]\nname = \"base\"\nconsole = \"ttyS0\"\nargs = \"a=base\"\n[[profile]]\nname = \"worker\"\ninherit = \"base\"\n\
             kernel = \"worker/vmlinuz\"\nargs = \"a=worker\"\ntemplate = \"own.ipxe\"\n[profile.documents]\nuser-data = \"all\"\nvendor-data = \"vendor\"\n[[group]]\nname = \"workers\"\nprofile = \"worker\"\nargs = \"role=worker\"\n\
             match = { labels = { role = \"worker\" } }\noptions = [{ code = 67, text = \"group.efi\" }]\n\
             [[group]]\nname = \"arm\"\nmatch = { arch = \"arm64\", mac = \"52:54\" }\nprofile = \"talos\"\nargs = \"arm=1\"\ndocuments = { user-data = \"arm\" }\n\
             [[group]]\nname = \"switch\"\nmatch = { remote_id = \"sw7\" }\n\
             [[group]]\nname = \"away\"\nmatch = { subnet = \"10.2.0.0/24\" }\n[[machine]]\nmac = \"52:54:00:00:00:03\"\n\
             name = \"node3\"\nip = \"10.1.1.53\"\nlabels = { role = \"worker\" }\nargs = \"own=1\"\n[[boot_file]]",
        );
        let said = explained(&main, "node3");
        assert_eq!(said, include_str!("explain/node3.txt"), "\n{said}");
    }

    /// A menu shows what each entry boots, and HTTP Boot gets the image of a disk as its boot file.
    #[test]
    fn a_machine_that_boots_no_kernel() {
        let kinds = "[[profile]]\nname = \"cd\"\niso = \"x.iso\"\n[[profile]]\nname = \"vm\"\nesxi = \"esxi-8\"\n\
            [[profile]]\nname = \"choice\"\nmenu = [\"cd\", \"vm\", \"local\"]\nmenu_timeout = \"30s\"\n[[boot_file]]";
        let main = MAIN.replace("[[boot_file]]", kinds);
        let rows = |profile: &str| {
            let said =
                explained(&main.replace("profile = \"talos\"", &format!("profile = \"{profile}\"")), "node1");
            said.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>()
        };
        let has = |profile: &str, row: &str| {
            let rows = rows(profile);
            assert!(rows.iter().any(|line| line.starts_with(row)), "{row}\n{}", rows.join("\n"));
        };
        has("cd", "iso x.iso xpxe.toml:17: profile[1].iso");
        has("cd", "boot file of http-x64 (16) http://SERVER:8080/files/x.iso xpxe.toml:17: profile[1].iso");
        has("cd", "boot file of efi-x64 (7) snponly.efi");
        has("vm", "esxi esxi-8 xpxe.toml:20: profile[2].esxi");
        has("choice", "menu cd, vm, local: cd after 30 s xpxe.toml:23: profile[3].menu");
        has("choice", "iso if cd is chosen x.iso");
        has("choice", "esxi if vm is chosen esxi-8");
    }

    /// What was written for the machine, its role or everybody takes the place of the profile that is less specific.
    #[test]
    fn boot_parameters_that_were_written() {
        let main = MAIN.replace("[[interface]]", "[http]\nfronts = [\"bss\"]\n[[interface]]");
        let written = |host: &str| {
            let kept = format!(
                r#"[{{ "hosts": ["{host}"], "params": "a=1 initrd=x", "kernel": "s3://boot/vmlinuz", "initrd": "/i.img" }}]"#
            );
            Table::read(serde_json::from_str(&kept).unwrap()).unwrap()
        };
        let said = explained_with(&main, "node1", &written("node1"));
        assert_eq!(said, include_str!("explain/written.txt"), "\n{said}");
        let of_default = explained_with(&main, "node1", &written("Default"));
        assert!(of_default.contains("boots the boot parameters of Default"), "{of_default}");
        let own_profile = explained_with(&main, "node2", &written("Default"));
        assert!(
            own_profile.contains("boots profile rescue") && !own_profile.contains("boot parameters"),
            "{own_profile}"
        );
        let unknown = explained_with(&main, "52:54:00:00:00:99", &written("Unknown-arm64"));
        assert!(unknown.contains("script on arm64 ") && unknown.contains("boots profile talos"), "{unknown}");
        let without_the_front = explained_with(MAIN, "node1", &written("node1"));
        assert_eq!(without_the_front, explained(MAIN, "node1"));
    }

    #[test]
    fn a_machine_that_is_in_no_file() {
        let said = explained(MAIN, "52:54:00:00:00:99");
        assert_eq!(said, include_str!("explain/unknown.txt"), "\n{said}");
        let ignored = MAIN.replace("[default]", "[default]\nunknown = 'ignore'");
        let expected = "machine  52:54:00:00:00:99, which is not in the configuration\n\
            answers  none: it is ignored                                   xpxe.toml:19: default.unknown\n";
        assert_eq!(explained(&ignored, "52:54:00:00:00:99"), expected);
        let waits =
            explained(&MAIN.replace("[default]", "[default]\nunknown = 'discover'"), "52:54:00:00:00:99");
        assert!(waits.contains("waits until the machine is in the configuration"), "{waits}");
        assert!(!waits.contains("kernel"), "{waits}");
        assert!(explained(MAIN, "nobody").starts_with("no [[machine]] has the name \"nobody\""));
    }
}
