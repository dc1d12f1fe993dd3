//! `[bmc]` and `bmc` of a machine: how machines are switched on and off, as it stands in the file and as what it becomes.

use std::path::PathBuf;
use std::time::Duration;

use boot_common::Mac;
use serde::{Deserialize, Serialize};

use super::reader::Table;
use super::report::{At, Place, Report, twice};
use super::value::{absolute, choice, quoted};
use super::{address, amount, bytes};

/// How a BMC is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BmcDriver {
    /// Redfish over HTTPS.
    Redfish,
    /// IPMI 2.0 over the network, by `ipmitool`.
    Ipmi,
    /// No BMC: the machine's card is woken. It can neither switch off nor tell whether a machine is on.
    WakeOnLan,
    /// A program of the operator's.
    Command,
}

/// The words for them.
const DRIVERS: [(&str, BmcDriver); 4] = [
    ("redfish", BmcDriver::Redfish),
    ("ipmi", BmcDriver::Ipmi),
    ("wake-on-lan", BmcDriver::WakeOnLan),
    ("command", BmcDriver::Command),
];

impl BmcDriver {
    /// Its word in the configuration and in logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        DRIVERS.iter().find(|(_, driver)| *driver == self).map_or("", |(name, _)| name)
    }
}

/// What is said of a machine's BMC, or in `[bmc]` of all. What is not said of a machine is as in `[bmc]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bmc {
    /// `address`: a name or address, with a port if need be, or for Redfish a URL.
    pub address: Option<String>,
    /// `mac`: the BMC's card. Its lease is the BMC's address where none is given.
    pub mac: Option<Mac>,
    /// `driver`
    pub driver: Option<BmcDriver>,
    /// `user`
    pub user: Option<String>,
    /// `password_file`: the password, in a file of its own.
    pub password_file: Option<PathBuf>,
    /// `certificate`: the SHA-256 digest of the BMC's certificate, which it has to show then.
    pub certificate: Option<[u8; 32]>,
    /// `insecure`: any certificate will do.
    pub insecure: Option<bool>,
    /// `cipher`: the cipher suite of IPMI.
    pub cipher: Option<u8>,
    /// `firmware = "bios"`: the machine's firmware is no UEFI.
    pub bios: Option<bool>,
    /// `command`: the program and its arguments.
    pub command: Vec<String>,
}

impl Bmc {
    /// Of a machine, with what is said of all machines where it says nothing itself.
    #[must_use]
    pub fn or(&self, all: &Self) -> Self {
        Self {
            address: self.address.clone(),
            mac: self.mac,
            driver: self.driver.or(all.driver),
            user: self.user.clone().or_else(|| all.user.clone()),
            password_file: self.password_file.clone().or_else(|| all.password_file.clone()),
            certificate: self.certificate,
            insecure: self.insecure.or(all.insecure),
            cipher: self.cipher.or(all.cipher),
            bios: self.bios.or(all.bios),
            command: if self.command.is_empty() { all.command.clone() } else { self.command.clone() },
        }
    }
}

/// `[bmc]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PowerSettings {
    /// What goes for every BMC that says nothing else.
    pub all: Bmc,
    /// `key_file`: the key that passwords in the store are encrypted with. Default: `bmc.key` in `state_dir`.
    pub key_file: Option<PathBuf>,
    /// `at_once`: how many machines are switched at a time. Default 16.
    pub at_once: u32,
    /// `per_rack`: how many of one rack (label `rack`) are switched at a time. Default 4.
    pub per_rack: u32,
    /// `interval`: between two machines of a rack that are switched on. Default 1 s.
    pub interval: Duration,
    /// `timeout`: how long a BMC may take for a command. Default 20 s.
    pub timeout: Duration,
    /// `pause`: between two tries to switch a machine. Default 60 s.
    pub pause: Duration,
    /// `poll`: how often a BMC is asked whether its machine is on. Default 60 s; while a machine is being switched, every 5 s.
    pub poll: Duration,
}

impl Default for PowerSettings {
    fn default() -> Self {
        Self {
            all: Bmc::default(),
            key_file: None,
            at_once: 16,
            per_rack: 4,
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(20),
            pause: Duration::from_secs(60),
            poll: Duration::from_secs(60),
        }
    }
}

/// What is written of a BMC in the registry. Files and programs are named in the configuration only, so that who may
/// change a machine cannot read files or run programs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RegisteredBmc {
    /// As in the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// As in the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// As in the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// As in the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// As in the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// As in the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub insecure: Option<bool>,
    /// As in the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cipher: Option<u8>,
    /// As in the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub firmware: Option<String>,
}

impl RegisteredBmc {
    /// What it becomes; `said` gets each key that is wrong, and why.
    pub(super) fn check(&self, mut said: impl FnMut(&str, String)) -> Bmc {
        let mut bmc = Bmc { insecure: self.insecure, cipher: self.cipher, ..Bmc::default() };
        fn read<T>(
            key: &str,
            text: &Option<String>,
            said: &mut impl FnMut(&str, String),
            how: impl FnOnce(&str) -> Result<T, String>,
        ) -> Option<T> {
            how(text.as_ref()?).map_err(|why| said(key, why)).ok()
        }
        bmc.address = read("bmc.address", &self.address, &mut said, place);
        bmc.mac = read("bmc.mac", &self.mac, &mut said, address::mac);
        bmc.driver = read("bmc.driver", &self.driver, &mut said, driver);
        bmc.user = read("bmc.user", &self.user, &mut said, word);
        bmc.certificate = read("bmc.certificate", &self.certificate, &mut said, digest);
        bmc.bios = read("bmc.firmware", &self.firmware, &mut said, firmware);
        if self.cipher.is_some_and(|cipher| cipher > MOST_CIPHER) {
            said("bmc.cipher", format!("a cipher suite of IPMI is 0 to {MOST_CIPHER}; write 17, or 3"));
        }
        bmc
    }
}

impl From<&Bmc> for RegisteredBmc {
    fn from(bmc: &Bmc) -> Self {
        Self {
            address: bmc.address.clone(),
            mac: bmc.mac.map(|mac| mac.to_string()),
            driver: bmc.driver.map(|driver| driver.name().to_owned()),
            user: bmc.user.clone(),
            certificate: bmc.certificate.map(|digest| format!("sha256:{}", hex(&digest))),
            insecure: bmc.insecure,
            cipher: bmc.cipher,
            firmware: bmc.bios.map(|bios| if bios { "bios" } else { "uefi" }.to_owned()),
        }
    }
}

const MOST_CIPHER: u8 = 19;

/// The keys that `[bmc]` and `bmc` of a machine share.
const SHARED: [&str; 7] = ["driver", "user", "password_file", "insecure", "cipher", "firmware", "command"];

/// The keys of a machine's BMC as they stand in the file.
pub(super) struct Written {
    place: Place,
    address: Option<At<String>>,
    mac: Option<At<String>>,
    certificate: Option<At<String>>,
    driver: Option<At<String>>,
    user: Option<At<String>>,
    password_file: Option<At<String>>,
    insecure: Option<At<bool>>,
    cipher: Option<At<u32>>,
    firmware: Option<At<String>>,
    command: Vec<At<String>>,
}

/// The BMC of a machine, if it has one.
pub(super) fn read(machine: &Table<'_>, report: &mut Report<'_>) -> Option<Written> {
    let known = [&SHARED[..], &["address", "mac", "certificate"]].concat();
    Some(shared(machine.table("bmc", &known, report)?, report))
}

fn shared(table: Table<'_>, report: &mut Report<'_>) -> Written {
    Written {
        address: table.text("address", "10.9.0.50", report),
        mac: table.text("mac", "52:54:00:00:09:01", report),
        certificate: table.text("certificate", "sha256:…", report),
        driver: table.text("driver", "redfish", report),
        user: table.text("user", "admin", report),
        password_file: table.text("password_file", "/etc/xpxe/bmc-password", report),
        insecure: table.flag_at("insecure", report),
        cipher: table.number("cipher", 0..=u32::from(MOST_CIPHER), "17", report),
        firmware: table.text("firmware", "uefi", report),
        command: table.texts("command", "/usr/local/sbin/power", report),
        place: table.place,
    }
}

/// The BMC.
pub(super) fn check(from: &Written, report: &mut Report<'_>) -> Bmc {
    let mut bmc = Bmc::default();
    macro_rules! read {
        ($field:ident, $how:expr) => {
            bmc.$field = from.$field.as_ref().and_then(|at| at.read(report, $how));
        };
    }
    read!(address, place);
    read!(mac, address::mac);
    read!(certificate, digest);
    read!(driver, driver);
    read!(user, word);
    read!(password_file, absolute);
    bmc.bios = from.firmware.as_ref().and_then(|at| at.read(report, firmware));
    bmc.insecure = from.insecure.as_ref().map(|at| at.value);
    bmc.cipher = from.cipher.as_ref().and_then(|at| u8::try_from(at.value).ok());
    bmc.command = from.command.iter().map(|at| at.value.clone()).collect();
    if let Some(program) = from.command.first() {
        program.read(report, absolute);
    }
    bmc
}

/// `[bmc]` as it stands in the file.
pub(super) struct All {
    shared: Written,
    key_file: Option<At<String>>,
    at_once: Option<At<u32>>,
    per_rack: Option<At<u32>>,
    times: Vec<(Time, At<String>)>,
}

type Time = fn(&mut PowerSettings) -> &mut Duration;

/// `[bmc]`, if it is there.
pub(super) fn read_all(top: &Table<'_>, report: &mut Report<'_>) -> Option<All> {
    let own = ["key_file", "at_once", "per_rack", "interval", "timeout", "pause", "poll"];
    let table = top.table("bmc", &[&SHARED[..], &own].concat(), report)?;
    let mut times = Vec::new();
    let all: [(&str, &str, Time); 4] = [
        ("interval", "1s", |settings| &mut settings.interval),
        ("timeout", "20s", |settings| &mut settings.timeout),
        ("pause", "60s", |settings| &mut settings.pause),
        ("poll", "60s", |settings| &mut settings.poll),
    ];
    for (key, example, time) in all {
        times.extend(table.text(key, example, report).map(|at| (time, at)));
    }
    Some(All {
        key_file: table.text("key_file", "/etc/xpxe/bmc.key", report),
        at_once: table.number("at_once", 1..=1024, "16", report),
        per_rack: table.number("per_rack", 1..=1024, "4", report),
        times,
        shared: shared(table, report),
    })
}

/// Adds what a further file says: `[bmc]` is in one file only.
pub(super) fn add(known: &mut Option<All>, more: Option<All>, report: &mut Report<'_>) {
    match (&known, more) {
        (Some(before), Some(again)) => twice(&before.shared.place, &again.shared.place, report),
        (None, more) => *known = more,
        (Some(_), None) => {}
    }
}

/// The settings.
pub(super) fn check_all(from: Option<&All>, report: &mut Report<'_>) -> PowerSettings {
    let mut settings = PowerSettings::default();
    let Some(from) = from else { return settings };
    settings.all = check(&from.shared, report);
    settings.key_file = from.key_file.as_ref().and_then(|at| at.read(report, absolute));
    for (field, at) in [(&mut settings.at_once, &from.at_once), (&mut settings.per_rack, &from.per_rack)] {
        *field = at.as_ref().map_or(*field, |at| at.value);
    }
    for (time, at) in &from.times {
        if let Some(read) = at.read(report, amount::interval) {
            *time(&mut settings) = read;
        }
    }
    settings
}

fn driver(text: &str) -> Result<BmcDriver, String> {
    choice(text, &DRIVERS)
}

fn firmware(text: &str) -> Result<bool, String> {
    choice(text, &[("uefi", false), ("bios", true)])
}

/// A user: it becomes an argument of a program and a line of a request.
fn word(text: &str) -> Result<String, String> {
    if text.is_empty()
        || text.len() > 64
        || text.starts_with('-')
        || text.contains(char::is_control)
        || text.contains(':')
    {
        return Err(format!(
            "{} is no user name: write one of at most 64 characters, without :",
            quoted(text)
        ));
    }
    Ok(text.to_owned())
}

/// Where a BMC is: it becomes an argument of a program or a part of a URL.
fn place(text: &str) -> Result<String, String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || ".:/[]-_".contains(c);
    let scheme = text.split_once("://").map(|(scheme, _)| scheme);
    if text.is_empty()
        || text.len() > 253
        || text.starts_with('-')
        || !text.chars().all(is_plain)
        || scheme.is_some_and(|scheme| !["http", "https"].contains(&scheme))
    {
        return Err(format!(
            "{} is no BMC's address; write \"10.9.0.50\", \"bmc1.example:8443\" or \"https://bmc1\"",
            quoted(text)
        ));
    }
    Ok(text.to_owned())
}

fn digest(text: &str) -> Result<[u8; 32], String> {
    let digits = text.strip_prefix("sha256:").unwrap_or(text);
    let bytes = bytes::pairs(&digits.replace(':', "")).and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    bytes.ok_or_else(|| {
        format!(
            "{} is no SHA-256 digest; write \"sha256:\" and 64 digits (openssl x509 -fingerprint -sha256 shows it)",
            quoted(text)
        )
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_be_an_option_of_a_program_is_no_address_and_no_user() {
        for good in ["10.9.0.50", "bmc1.example:8443", "https://10.9.0.50:8000", "[2001:db8::1]"] {
            assert_eq!(place(good).as_deref(), Ok(good));
        }
        for bad in ["", "-H", "a b", "ftp://x", "x;y", "https://u@h", "$(x)"] {
            assert!(place(bad).is_err(), "{bad}");
        }
        for bad in ["", "-U", "a:b", "a\nb"] {
            assert!(word(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_a_machine_does_not_say_is_as_in_the_section() {
        let all = Bmc { driver: Some(BmcDriver::Ipmi), user: Some("root".to_owned()), ..Bmc::default() };
        let own = Bmc { user: Some("admin".to_owned()), ..Bmc::default() };
        let both = own.or(&all);
        assert_eq!((both.driver, both.user.as_deref()), (Some(BmcDriver::Ipmi), Some("admin")));
    }

    #[test]
    fn a_digest_is_written_as_it_is_read() {
        let bmc = Bmc { certificate: Some([7; 32]), bios: Some(true), ..Bmc::default() };
        let text = RegisteredBmc::from(&bmc);
        assert_eq!(text.check(|key, why| panic!("{key}: {why}")), bmc);
        assert!(digest("sha256:12").is_err());
    }
}
