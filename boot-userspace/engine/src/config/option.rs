//! `options = [{ code = 42, ip = ["10.1.0.5"] }]`: DHCP options by number, as they stand in the file and as what
//! they become.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use boot_common::class::Stage;

use super::bytes;
use super::checked::{BOOT_OPTIONS, CustomOption};
use super::reader::Table;
use super::report::{At, Place, Report};
use super::value::{self, either, quoted};

/// Bytes of data in one list; more would not fit into a frame together with the rest of an answer.
const MAX_DATA: usize = 1000;
const EXAMPLE: &str = "options = [{ code = 42, ip = [\"10.1.0.5\"] }]";
const KEYS: [&str; 10] = ["code", "ip", "text", "hex", "u8", "u16", "u32", "bool", "always", "client"];
const VALUES: [&str; 7] = ["ip", "text", "hex", "u8", "u16", "u32", "bool"];

/// An option as it stands in the file.
pub(super) struct Written {
    place: Place,
    code: Option<At<u32>>,
    value: Option<Value>,
    always: Option<bool>,
    client: Option<At<String>>,
}

enum Value {
    Ip(Vec<At<String>>),
    Text(At<String>),
    Hex(At<String>),
    /// Big-endian.
    Number(Vec<u8>),
}

impl Written {
    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// Where it stands, if it has this code.
    pub(super) fn place_of(&self, code: u32) -> Option<&Place> {
        self.code.as_ref().is_some_and(|at| at.value == code).then_some(&self.place)
    }
}

/// How many bytes of data options have together, if that is more than they may have.
pub(super) fn too_long(options: &[CustomOption]) -> Option<usize> {
    let total = options.iter().map(|option| option.data.len()).sum();
    (total > MAX_DATA).then_some(total)
}

/// The list of options in a table, if there is one.
pub(super) fn read(table: &Table<'_>, report: &mut Report<'_>) -> Vec<Written> {
    let tables = table.inline_tables("options", &KEYS, EXAMPLE, report);
    let option = |table: Table<'_>| Written {
        code: table.required_number("code", 0..=u8::MAX.into(), "42", report),
        value: value(&table, report),
        always: table.flag("always", report),
        client: table.text("client", "ipxe", report),
        place: table.place,
    };
    tables.into_iter().map(option).collect()
}

fn value(table: &Table<'_>, report: &mut Report<'_>) -> Option<Value> {
    let written: Vec<&str> = VALUES.into_iter().filter(|name| table.has(name)).collect();
    match written.as_slice() {
        [name] => value_of(table, name, report),
        [] => {
            let message = format!("has no value; write {}, such as ip = [\"10.1.0.5\"]", either(VALUES));
            report.add(&table.place, message);
            None
        }
        several => {
            report.add(&table.place, format!("has several values; keep {}", either(several)));
            None
        }
    }
}

fn value_of(table: &Table<'_>, name: &str, report: &mut Report<'_>) -> Option<Value> {
    let mut number = |max| Some(table.number(name, 0..=max, "1", report)?.value);
    Some(match name {
        "ip" => Value::Ip(table.one_or_more_texts(name, "10.1.0.5", report)),
        "text" => Value::Text(table.text(name, "tftp.example", report)?),
        "hex" => Value::Hex(table.text(name, "00:ff", report)?),
        "u8" => Value::Number(number(u8::MAX.into())?.to_be_bytes()[3..].to_vec()),
        "u16" => Value::Number(number(u16::MAX.into())?.to_be_bytes()[2..].to_vec()),
        "u32" => Value::Number(number(u32::MAX)?.to_be_bytes().to_vec()),
        _ => Value::Number(vec![table.flag(name, report)?.into()]),
    })
}

/// The options of one list. `has_name`: they are a machine's that has a name.
pub(super) fn check(from: &[Written], has_name: bool, report: &mut Report<'_>) -> Vec<CustomOption> {
    let mut seen: HashMap<(u8, Option<Stage>), &Place> = HashMap::new();
    let mut total = 0;
    let mut options = Vec::new();
    for written in from {
        let client = written.client.as_ref();
        let client = client.and_then(|at| at.read(report, |text| value::choice(text, &CLIENTS)));
        let code = written.code.as_ref().and_then(|at| {
            let code = u8::try_from(at.value).ok()?;
            if let Some(instead) = managed(code, has_name) {
                report.add(&at.place, format!("option {code} {instead}"));
            } else if let Some(before) = seen.get(&(code, client)) {
                let message = format!("option {code} is already at {before}; put all of its data into one");
                report.add(&at.place, message);
            } else {
                seen.insert((code, client), &at.place);
            }
            Some(code)
        });
        let Some(data) = written.value.as_ref().map(|value| data(value, report)) else { continue };
        if let Some(code) = code.filter(|code| NAMES.contains(code))
            && !data.is_empty()
            && name_in(&data).is_none()
        {
            report
                .add(&written.place, format!("option {code} is a name; write text = \"{}\"", example(code)));
        }
        let before = total;
        total += data.len();
        if before <= MAX_DATA && total > MAX_DATA {
            let message = format!(
                "the options up to here have {total} bytes of data; shorten them to at most {MAX_DATA}"
            );
            report.add(&written.place, message);
        }
        let always = written.always.unwrap_or(false);
        options.extend(code.map(|code| CustomOption { code, data, always, client }));
    }
    options
}

/// What clients the key `client` can name.
const CLIENTS: [(&str, Stage); 3] = [("firmware", Stage::Rom), ("ipxe", Stage::Ipxe), ("os", Stage::Os)];

/// TFTP server and boot file.
const NAMES: [u8; 2] = [66, 67];

fn example(code: u8) -> &'static str {
    if code == 66 { "10.1.0.5" } else { "custom.efi" }
}

/// What to write instead of an option that the server writes itself.
fn managed(code: u8, has_name: bool) -> Option<&'static str> {
    Some(match code {
        0 => "is the padding between options; remove it",
        1 => "is the mask of the subnet; write cidr in [[subnet]] instead",
        12 if has_name => "is the name of this machine; remove it or name",
        50 => "is the address that a machine asks for; write ip in [[machine]] instead",
        51 => "is how long an address is leased; write lease in [[subnet]] instead",
        52 => "says where options continue, which the server decides; remove it",
        53 => "is the kind of the message, which the server decides; remove it",
        54 => "is the address of the server that answers; remove it",
        55 => {
            "is the list of what a machine asks for; write always = true in an option that it has to get unasked"
        }
        57 => "is how long a message may be, which machines tell the server; remove it",
        58 | 59 => {
            "is when a lease is renewed, which follows from its length; write lease in [[subnet]] instead"
        }
        61 => {
            "is what a machine calls itself and goes back to it unchanged; write mac, uuid or relay_port in [[machine]] to tell machines apart"
        }
        82 => {
            "is what a relay tells and goes back to it unchanged; write relay_port in [[machine]] to tell ports apart"
        }
        255 => "is the end of all options; remove it",
        _ => return None,
    })
}

/// The bytes of a value; as many as could be read.
fn data(value: &Value, report: &mut Report<'_>) -> Vec<u8> {
    match value {
        Value::Ip(list) => {
            list.iter().filter_map(|at| at.read(report, ip)).flat_map(|ip| ip.octets()).collect()
        }
        Value::Text(at) => at.read(report, text).unwrap_or_default(),
        Value::Hex(at) => at.read(report, bytes::hex).unwrap_or_default(),
        Value::Number(bytes) => bytes.clone(),
    }
}

/// Any address: options also hold those of networks, broadcasts and groups.
fn ip(text: &str) -> Result<Ipv4Addr, String> {
    text.parse().map_err(|_| {
        format!("{} is not an IPv4 address; write four numbers, such as \"10.1.0.5\"", quoted(text))
    })
}

fn text(text: &str) -> Result<Vec<u8>, String> {
    if text.is_empty() {
        return Err("is empty; write hex = \"\" for an option without data".to_owned());
    }
    if text.contains(|c: char| c.is_control()) {
        return Err(format!(
            "{} contains a control character; write hex with all of its bytes",
            quoted(text)
        ));
    }
    Ok(text.as_bytes().to_vec())
}

/// The name in an option that is one; some write the NUL behind it.
fn name_in(data: &[u8]) -> Option<&str> {
    let name = std::str::from_utf8(data).ok()?.trim_end_matches('\0');
    (!name.is_empty() && !name.contains(char::is_control)).then_some(name)
}

impl CustomOption {
    /// The name in it, of an option that is one: TFTP server (66) or boot file (67).
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        name_in(&self.data)
    }

    /// Whether clients at this stage get it.
    #[must_use]
    pub fn is_for(&self, stage: Stage) -> bool {
        match self.client {
            Some(client) => client == stage,
            None => stage != Stage::Ipxe || !BOOT_OPTIONS.contains(&self.code),
        }
    }
}
