//! DHCP options: the names that dnsmasq, ISC dhcpd and Kea give them, and their values.

use std::fmt;
use std::net::Ipv4Addr;

use super::text::{list, quoted};

/// The value of an option, as the configuration has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Ip(Vec<Ipv4Addr>),
    Text(String),
    U8(u8),
    U16(u16),
    U32(u32),
    Bool(bool),
    Hex(Vec<u8>),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(addresses) => {
                let addresses: Vec<String> = addresses.iter().map(|ip| quoted(&ip.to_string())).collect();
                write!(f, "ip = {}", list(&addresses))
            }
            Self::Text(text) => write!(f, "text = {}", quoted(text)),
            Self::U8(number) => write!(f, "u8 = {number}"),
            Self::U16(number) => write!(f, "u16 = {number}"),
            Self::U32(number) => write!(f, "u32 = {number}"),
            Self::Bool(is_on) => write!(f, "bool = {is_on}"),
            Self::Hex(bytes) => {
                let bytes: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                write!(f, "hex = {}", quoted(&bytes.join(":")))
            }
        }
    }
}

/// How the values of an option are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Ip,
    Text,
    U8,
    U16,
    U32,
    Bool,
    /// Domains in the form of RFC 1035 section 4.1.4, without compression.
    Domains,
    Bytes,
    /// Not known: guessed by its form.
    Any,
}

/// Number, kind, and the names: first that of dhcpd (and, mostly, Kea), then those of dnsmasq and Kea where they differ.
const OPTIONS: &[(u8, Kind, &[&str])] = &[
    (1, Kind::Ip, &["subnet-mask", "netmask"]),
    (2, Kind::U32, &["time-offset"]),
    (3, Kind::Ip, &["routers", "router"]),
    (4, Kind::Ip, &["time-servers", "time-server"]),
    (5, Kind::Ip, &["ien116-name-servers", "name-servers"]),
    (6, Kind::Ip, &["domain-name-servers", "dns-server"]),
    (7, Kind::Ip, &["log-servers", "log-server"]),
    (9, Kind::Ip, &["lpr-servers", "lpr-server"]),
    (12, Kind::Text, &["host-name", "hostname"]),
    (13, Kind::U16, &["boot-size", "boot-file-size"]),
    (15, Kind::Text, &["domain-name"]),
    (16, Kind::Ip, &["swap-server"]),
    (17, Kind::Text, &["root-path"]),
    (18, Kind::Text, &["extensions-path", "extension-path"]),
    (19, Kind::Bool, &["ip-forwarding", "ip-forward-enable"]),
    (23, Kind::U8, &["default-ip-ttl", "default-ttl"]),
    (26, Kind::U16, &["interface-mtu", "mtu"]),
    (28, Kind::Ip, &["broadcast-address", "broadcast"]),
    (31, Kind::Bool, &["router-discovery"]),
    (33, Kind::Ip, &["static-routes", "static-route"]),
    (40, Kind::Text, &["nis-domain"]),
    (41, Kind::Ip, &["nis-servers", "nis-server"]),
    (42, Kind::Ip, &["ntp-servers", "ntp-server"]),
    (43, Kind::Bytes, &["vendor-encapsulated-options", "vendor-encap"]),
    (44, Kind::Ip, &["netbios-name-servers", "netbios-ns"]),
    (45, Kind::Ip, &["netbios-dd-server", "netbios-dd"]),
    (46, Kind::U8, &["netbios-node-type", "netbios-nodetype"]),
    (47, Kind::Text, &["netbios-scope"]),
    (48, Kind::Ip, &["font-servers", "x-windows-fs"]),
    (51, Kind::U32, &["dhcp-lease-time", "lease-time"]),
    (54, Kind::Ip, &["dhcp-server-identifier", "server-identifier"]),
    (58, Kind::U32, &["dhcp-renewal-time", "T1"]),
    (59, Kind::U32, &["dhcp-rebinding-time", "T2"]),
    (60, Kind::Text, &["vendor-class-identifier", "vendor-class"]),
    (66, Kind::Text, &["tftp-server-name", "tftp-server"]),
    (67, Kind::Text, &["bootfile-name", "boot-file-name"]),
    (69, Kind::Ip, &["smtp-server"]),
    (77, Kind::Text, &["user-class"]),
    (93, Kind::U16, &["client-arch", "pxe-system-type", "arch", "client-system"]),
    (97, Kind::Bytes, &["client-machine-id", "pxe-client-id", "uuid-guid"]),
    (100, Kind::Text, &["pcode", "posix-timezone"]),
    (101, Kind::Text, &["tcode", "tzdb-timezone"]),
    (119, Kind::Domains, &["domain-search"]),
    (120, Kind::Bytes, &["sip-server"]),
    (
        121,
        Kind::Bytes,
        &["classless-static-routes", "classless-static-route", "rfc3442-classless-static-routes"],
    ),
    (150, Kind::Ip, &["tftp-server-address"]),
    (160, Kind::Text, &["captive-portal", "v4-captive-portal"]),
    (209, Kind::Text, &["loader-configfile", "config-file"]),
    (210, Kind::Text, &["loader-pathprefix", "path-prefix"]),
    (211, Kind::U32, &["loader-reboottime", "reboot-time"]),
    (252, Kind::Text, &["wpad", "wpad-url"]),
];

/// An option by its name in any of the servers.
pub(super) fn by_name(name: &str) -> Option<(u8, Kind)> {
    let is_named = |names: &&[&str]| names.contains(&name);
    OPTIONS.iter().find(|(_, _, names)| is_named(names)).map(|(code, kind, _)| (*code, *kind))
}

/// The kind of an option by its number.
pub(super) fn kind(code: u8) -> Kind {
    OPTIONS.iter().find(|(number, ..)| *number == code).map_or(Kind::Any, |(_, kind, _)| *kind)
}

/// A value that is written as words.
///
/// # Errors
/// What is wrong with a word.
pub(super) fn value(kind: Kind, words: &[&str]) -> Result<Value, String> {
    let one = || words.first().copied().unwrap_or_default();
    let number = |max: u32| {
        let word = one();
        let parsed = match word.strip_prefix("0x") {
            Some(digits) => u32::from_str_radix(digits, 16).ok(),
            None => word.parse().or_else(|_| word.parse::<i32>().map(i32::cast_unsigned)).ok(),
        };
        parsed.filter(|number| *number <= max).ok_or_else(|| format!("{word:?} is no number of this size"))
    };
    Ok(match kind {
        Kind::Ip => Value::Ip(addresses(words)?),
        Kind::Text => Value::Text(words.join(",")),
        Kind::U8 => Value::U8(number(u8::MAX.into())?.try_into().unwrap_or(u8::MAX)),
        Kind::U16 => Value::U16(number(u16::MAX.into())?.try_into().unwrap_or(u16::MAX)),
        Kind::U32 => Value::U32(number(u32::MAX)?),
        Kind::Bool => match one() {
            "1" | "true" | "on" | "yes" => Value::Bool(true),
            "0" | "false" | "off" | "no" => Value::Bool(false),
            word => return Err(format!("{word:?} is neither true nor false")),
        },
        Kind::Domains => Value::Hex(domains(words)?),
        Kind::Bytes if words.iter().all(|word| word.parse::<Ipv4Addr>().is_ok()) && !words.is_empty() => {
            Value::Ip(addresses(words)?)
        }
        Kind::Bytes => match hex(one()).filter(|_| words.len() == 1) {
            Some(bytes) => Value::Hex(bytes),
            None => routes(words).ok_or_else(|| format!("{:?} are no bytes", words.join(",")))?,
        },
        Kind::Any => guessed(words),
    })
}

fn addresses(words: &[&str]) -> Result<Vec<Ipv4Addr>, String> {
    let address = |word: &&str| word.parse().map_err(|_| format!("{word:?} is no IPv4 address"));
    words.iter().map(address).collect()
}

fn guessed(words: &[&str]) -> Value {
    if let Ok(addresses) = addresses(words)
        && !addresses.is_empty()
    {
        return Value::Ip(addresses);
    }
    match words {
        [word] if word.contains(':') && hex(word).is_some() => Value::Hex(hex(word).unwrap_or_default()),
        [word] if !word.is_empty() && word.bytes().all(|b| b.is_ascii_digit()) => match word.parse::<u32>() {
            Ok(number) => match (u8::try_from(number), u16::try_from(number)) {
                (Ok(number), _) => Value::U8(number),
                (_, Ok(number)) => Value::U16(number),
                _ => Value::U32(number),
            },
            Err(_) => Value::Text((*word).to_owned()),
        },
        [word] if word.starts_with("0x") && hex(word).is_some() => Value::Hex(hex(word).unwrap_or_default()),
        words => Value::Text(words.join(",")),
    }
}

/// Bytes such as `0:1:ff`, `00ff` or `0x00ff`.
pub(super) fn hex(text: &str) -> Option<Vec<u8>> {
    let text = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text);
    if text.contains([':', ' ']) {
        let byte = |pair: &str| u8::from_str_radix(pair, 16).ok().filter(|_| (1..=2).contains(&pair.len()));
        return text.split([':', ' ']).map(byte).collect();
    }
    if text.is_empty() || text.len() % 2 == 1 || !text.is_ascii() {
        return None;
    }
    (0..text.len() / 2).map(|at| u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()).collect()
}

/// Routes as dnsmasq and Kea write them, in the form of RFC 3442.
fn routes(words: &[&str]) -> Option<Value> {
    let mut bytes = Vec::new();
    for route in words.chunks(2) {
        let [to, by] = route else { return None };
        let (address, length) = to.split_once('/')?;
        let address: Ipv4Addr = address.parse().ok()?;
        let length: u8 = length.parse().ok().filter(|length| *length <= 32)?;
        bytes.push(length);
        bytes.extend(address.octets().into_iter().take(usize::from(length.div_ceil(8))));
        bytes.extend(by.parse::<Ipv4Addr>().ok()?.octets());
    }
    (!bytes.is_empty()).then_some(Value::Hex(bytes))
}

fn domains(words: &[&str]) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    for domain in words {
        for label in domain.trim_end_matches('.').split('.') {
            let length = u8::try_from(label.len()).ok().filter(|length| (1..=63).contains(length));
            bytes.push(length.ok_or_else(|| format!("{domain:?} is no domain"))?);
            bytes.extend(label.bytes());
        }
        bytes.push(0);
    }
    Ok(bytes)
}
