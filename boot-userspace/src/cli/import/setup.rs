//! A set-up as the other server's files say it, in the words of xpxe's configuration, and what is not carried over.

use std::fmt;
use std::io::{self, Read as _};
use std::net::Ipv4Addr;
use std::path::Path;

use boot_engine::events::shown;
use ipnet::Ipv4Net;

use super::options::Value;
use super::stated::BootRule;
use super::text::literal;
pub(super) use super::text::{Place, list, name_of, quoted, time};
use crate::host::regular;

/// How many files one configuration may have.
const MOST_FILES: usize = 1000;
/// How large one may be, in bytes.
const LARGEST_FILE: u64 = 64 << 20;

impl fmt::Display for Bad {
    /// Nothing that a terminal follows.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shown(&format!("{}: {}", self.place, self.why)))
    }
}

impl fmt::Display for Left {
    /// Nothing that a terminal follows.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shown(&format!("{}: {}: {}", self.place, self.what, self.why)))
    }
}

/// A line of a file that cannot be read, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bad {
    pub(super) place: Place,
    pub(super) why: String,
}

/// A statement that is not carried over.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Left {
    pub(super) place: Place,
    /// The statement as it stands in the file.
    pub(super) what: String,
    pub(super) why: String,
}

/// A key of a table: its value as TOML, and where the other file says it.
#[derive(Clone, Debug)]
pub(super) struct Key {
    pub(super) name: String,
    pub(super) value: String,
    pub(super) place: Option<Place>,
    /// A comment behind it: the choice that was made.
    pub(super) note: Option<String>,
}

/// A DHCP option of a table.
#[derive(Clone, Debug)]
pub(super) struct DhcpOption {
    pub(super) code: u8,
    pub(super) value: Value,
    pub(super) always: bool,
    /// `firmware`, `ipxe` or `os`.
    pub(super) client: Option<&'static str>,
    pub(super) place: Place,
}

impl fmt::Display for DhcpOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{ code = {}, {}", self.code, self.value)?;
        if self.always {
            f.write_str(", always = true")?;
        }
        if let Some(client) = self.client {
            write!(f, ", client = \"{client}\"")?;
        }
        f.write_str(" }")
    }
}

/// A table of the configuration.
#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    /// Such as `[[subnet]]`.
    pub(super) head: &'static str,
    pub(super) place: Option<Place>,
    /// What to say in comments above it.
    pub(super) notes: Vec<String>,
    pub(super) keys: Vec<Key>,
    pub(super) options: Vec<DhcpOption>,
}

impl Table {
    pub(super) fn new(head: &'static str, place: Option<Place>) -> Self {
        Self { head, place, ..Self::default() }
    }

    /// Sets a key to TOML; a later value replaces an earlier one.
    pub(super) fn set(&mut self, name: &str, value: String, place: Option<&Place>) -> &mut Key {
        self.keys.retain(|key| key.name != name);
        self.keys.push(Key { name: name.to_owned(), value, place: place.cloned(), note: None });
        // It was pushed on the line before.
        let last = self.keys.len() - 1;
        &mut self.keys[last]
    }

    pub(super) fn text(&mut self, name: &str, value: &str, place: Option<&Place>) -> &mut Key {
        self.set(name, quoted(value), place)
    }

    /// Kernel arguments, in which xpxe looks for variables: what the other server has is meant as it stands there.
    pub(super) fn args(&mut self, args: &str, place: Option<&Place>) -> &mut Key {
        self.text("args", &literal(args), place)
    }

    pub(super) fn get(&self, name: &str) -> Option<&Key> {
        self.keys.iter().find(|key| key.name == name)
    }

    /// Adds an option. The one with the same number and client is replaced.
    pub(super) fn option(&mut self, option: DhcpOption) {
        let is_same = |other: &DhcpOption| other.code == option.code && other.client == option.client;
        self.options.retain(|other| !is_same(other));
        self.options.push(option);
    }

    pub(super) fn has_option(&self, code: u8, client: Option<&'static str>) -> bool {
        self.options.iter().any(|option| option.code == code && option.client == client)
    }
}

/// A network, and its table.
#[derive(Clone, Debug)]
pub(super) struct Subnet {
    pub(super) cidr: Ipv4Net,
    pub(super) pool: Vec<String>,
    pub(super) table: Table,
}

impl Subnet {
    pub(super) fn new(cidr: Ipv4Net, place: Place) -> Self {
        let mut table = Table::new("[[subnet]]", Some(place.clone()));
        table.text("cidr", &cidr.trunc().to_string(), Some(&place));
        Self { cidr: cidr.trunc(), pool: Vec::new(), table }
    }

    pub(super) fn range(&mut self, low: Ipv4Addr, high: Ipv4Addr, place: &Place) {
        let range = if low == high { low.to_string() } else { format!("{low}-{high}") };
        self.pool.push(quoted(&range));
        let pool = list(&self.pool);
        self.table.set("pool", pool, Some(place));
    }
}

/// The keys of a subnet in their order.
const KEYS: [&str; 9] =
    ["cidr", "pool", "router", "dns", "domain", "lease", "boot_lease", "probe", "authoritative"];

/// The whole set-up.
#[derive(Clone, Debug, Default)]
pub(super) struct Setup {
    /// Comments at the top: what an operator has to know first.
    pub(super) notes: Vec<String>,
    /// Keys at the top.
    pub(super) top: Table,
    pub(super) http: Table,
    pub(super) interfaces: Vec<Table>,
    pub(super) subnets: Vec<Subnet>,
    pub(super) profiles: Vec<Table>,
    pub(super) groups: Vec<Table>,
    pub(super) boot_files: Vec<Table>,
    pub(super) default: Table,
    pub(super) machines: Vec<Table>,
    /// The boot files as the other server has them, before they were put into tables.
    pub(super) rules: Vec<BootRule>,
    pub(super) left: Vec<Left>,
    pub(super) bad: Vec<Bad>,
    /// How many files were read: those that include each other must end.
    files: usize,
}

impl Setup {
    /// The text of a file of the other server.
    ///
    /// # Errors
    /// It cannot be read, is no regular file or too large, or there were too many before.
    pub(super) fn read(&mut self, path: &Path) -> Result<String, String> {
        let name = path.display();
        self.files += 1;
        if self.files > MOST_FILES {
            return Err(format!("{name} is not read: {MOST_FILES} files were, so some include each other"));
        }
        let read = || {
            let mut bytes = Vec::new();
            regular::open(path)?.take(LARGEST_FILE + 1).read_to_end(&mut bytes)?;
            Ok::<Vec<u8>, io::Error>(bytes)
        };
        let bytes = read().map_err(|error| format!("cannot read {name}: {error}"))?;
        if bytes.len() as u64 > LARGEST_FILE {
            return Err(format!("{name} has more than {} MiB: it is no configuration", LARGEST_FILE >> 20));
        }
        String::from_utf8(bytes).map_err(|_| format!("{name} is not UTF-8"))
    }

    pub(super) fn new() -> Self {
        Self { http: Table::new("[http]", None), default: Table::new("[default]", None), ..Self::default() }
    }

    pub(super) fn left(&mut self, place: &Place, what: impl Into<String>, why: impl Into<String>) {
        self.left.push(Left { place: place.clone(), what: what.into(), why: why.into() });
    }

    pub(super) fn bad(&mut self, place: &Place, why: impl Into<String>) {
        self.bad.push(Bad { place: place.clone(), why: why.into() });
    }

    pub(super) fn note(&mut self, note: impl Into<String>) {
        let note = note.into();
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// Names a machine by the first part of its name. The domain is that of its subnet.
    pub(super) fn machine_name(&mut self, machine: &mut Table, name: &str, place: &Place) {
        let host = name_of(name.split('.').next().unwrap_or_default());
        machine.text("name", &host, Some(place));
        if host != name {
            let why = format!("the machine is named {host}; the domain is that of its [[subnet]]");
            self.left(place, format!("the name {name}"), why);
        }
    }

    /// An interface to serve, once.
    pub(super) fn interface(&mut self, name: &str, dhcp: &str, place: Option<&Place>) {
        let value = quoted(name);
        if self.interfaces.iter().any(|table| table.get("name").is_some_and(|key| key.value == value)) {
            return;
        }
        let mut table = Table::new("[[interface]]", place.cloned());
        table.text("name", name, place);
        table.text("dhcp", dhcp, None);
        self.interfaces.push(table);
    }

    /// Every table in the order in which it is written.
    pub(super) fn tables(self) -> Vec<Table> {
        let subnets = self.subnets.into_iter().map(|Subnet { mut table, .. }| {
            table.keys.sort_by_key(|key| KEYS.iter().position(|name| *name == key.name));
            table
        });
        let one = |table: Table| (!table.keys.is_empty()).then_some(table);
        let top = [one(self.top), one(self.http)].into_iter().flatten();
        top.chain(self.interfaces)
            .chain(subnets)
            .chain(self.profiles)
            .chain(self.groups)
            .chain(self.boot_files)
            .chain(one(self.default))
            .chain(self.machines)
            .collect()
    }
}
