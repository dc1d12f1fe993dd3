//! Prepares answers: what a subnet or a proxy gives out, per client class and message, ready for the tables.
//!
//! The order of options is 53, 54, lease times, then the network's options (in the client's order, if it gave
//! one), then boot options; the machine's own options and the echoes follow when an answer is sent.

use std::net::Ipv4Addr;

use boot_common::class::{Class, Firmware, Stage};
use boot_common::decide::message;
use boot_common::tables::{ANSWER_OPTIONS, Answer, HOST_OPTIONS, Host};
use boot_common::wire::{MAGIC, SNAME_AND_FILE, Sum, option};
use dhcproto::v4::{DhcpOption, MessageType};
use dhcproto::{Encodable as _, Encoder};

use crate::boot::BootFile;
use crate::config::{BOOT_OPTIONS, CustomOption, Subnet};

/// Option 43 with discovery control bit 3 (PXE 2.1 section 2.4): the client boots the file in this very
/// answer, without a menu, a prompt or another round on port 4011.
const BOOT_THIS_FILE: [u8; 4] = [6, 1, 8, 255];
/// The same with the menu by which a Raspberry Pi recognises the answer that is for it: discovery control (6), a menu of
/// one entry (9) and its prompt without delay (10).
const RASPBERRY_PI_BOOT: &[u8] = b"\x06\x01\x08\x09\x14\x00\x00\x11Raspberry Pi Boot\x0a\x04\x00PXE\xff";
/// iPXE's option 175.176 "no-pxedhcp": it does not wait 2 s for a proxy's offer.
const NO_PROXY_WILL_COME: [u8; 3] = [176, 1, 1];

const VENDOR: u8 = 43;
const OVERLOAD: u8 = 52;
const SERVER_NAME: u8 = 66;
const BOOT_FILE: u8 = 67;

/// What an answer is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parts<'a> {
    /// Who asks.
    pub(crate) class: Class,
    /// A number of [`message`]: OFFER, ACK, NAK, INFORM for the ACK to one, BOOT_ACK, or 0 for BOOTP.
    pub(crate) message: u8,
    /// The subnet, from a server; `None` from a proxy.
    pub(crate) subnet: Option<&'a Subnet>,
    /// Our address, as server identifier and boot server.
    pub(crate) server: Ipv4Addr,
    /// Where to continue, if there is something to boot.
    pub(crate) boot: Option<&'a BootFile>,
    /// Options of the machine, its profile and its subnet for clients at this stage, each code once.
    pub(crate) custom: &'a [CustomOption],
    /// The parameter request list, of a client whose list is obeyed.
    pub(crate) wanted: Option<&'a [u8]>,
    /// Bytes that the options may have in all, from what the client accepts; the rest goes into `file` and
    /// `sname`, or is left out.
    pub(crate) room: usize,
}

/// A prepared answer, and the options that it has no room for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Prepared {
    /// The answer.
    pub(crate) answer: Answer,
    /// Codes of the options that are not in it because they do not fit, the most important one first.
    pub(crate) left_out: Vec<u8>,
}

/// The options do not fit an answer, even with `file` and `sname` used for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the options of an answer need {0} bytes, and {ANSWER_OPTIONS} is the most: give out fewer")]
pub(crate) struct TooLong(usize);

/// Prepares one answer.
///
/// # Errors
/// When the options that the answer cannot do without do not fit.
pub(crate) fn prepare(parts: &Parts<'_>) -> Result<Prepared, TooLong> {
    let mut names = [0u8; SNAME_AND_FILE];
    let mut siaddr = Ipv4Addr::UNSPECIFIED;
    if let Some(boot) = parts.boot {
        let server = tftp_server(parts, boot);
        // Firmware goes where siaddr says, whatever is in option 66.
        siaddr = server.parse().unwrap_or(parts.server);
        // shim takes its second stage's directory from `file`, never from option 67, so both are filled.
        put_text(&mut names[..64], &server);
        put_text(&mut names[64..], boot.text());
    }
    let mut options = options(parts);
    let room = parts.room.min(ANSWER_OPTIONS);
    let mut left_out = Vec::new();
    let bytes = if options.iter().map(Vec::len).sum::<usize>() < room {
        options.concat()
    } else {
        options.sort_by_key(|option| importance(code(option)));
        // BOOTP knows no option overload.
        let names_are_free = parts.boot.is_none() && parts.message != 0;
        squeeze(&options, &mut names, names_are_free, room, &mut left_out)?
    };
    Ok(Prepared { answer: assemble(siaddr, parts, &names, bytes), left_out })
}

/// Who has the boot file, as an address or a name.
fn tftp_server(parts: &Parts<'_>, boot: &BootFile) -> String {
    match boot {
        BootFile::Tftp { server: Some(server), .. } => server.clone(),
        BootFile::Tftp { server: None, .. } | BootFile::Url(_) => parts.server.to_string(),
    }
}

fn code(option: &[u8]) -> u8 {
    option.first().copied().unwrap_or(option::PAD)
}

/// What an answer cannot do without: message type, server identifier, lease time, mask.
const INDISPENSABLE: [u8; 4] = [53, 54, 51, 1];

/// What comes next: the router, what firmware and iPXE boot, name servers, when the lease is renewed.
const IMPORTANT: [u8; 9] = [3, option::VENDOR_CLASS, VENDOR, BOOT_FILE, SERVER_NAME, option::IPXE, 6, 58, 59];

/// Where an option stands when not all fit; the others follow in their order.
fn importance(code: u8) -> usize {
    let order = INDISPENSABLE.iter().chain(&IMPORTANT);
    order.clone().position(|other| *other == code).unwrap_or(order.count())
}

/// All options, encoded one by one, the indispensable ones first.
fn options(parts: &Parts<'_>) -> Vec<Vec<u8>> {
    let kind = match parts.message {
        message::OFFER => MessageType::Offer,
        message::NAK => MessageType::Nak,
        _ => MessageType::Ack,
    };
    if parts.message == 0 {
        return bootp_options(parts);
    }
    // These two in this order: the kernel exchanges the identifier where it stands (SERVER_ID_AT).
    let mut options =
        vec![encode(&DhcpOption::MessageType(kind)), encode(&DhcpOption::ServerIdentifier(parts.server))];
    if parts.message == message::NAK {
        return options;
    }
    if let Some(subnet) = parts.subnet {
        if parts.message != message::INFORM {
            let lease = lease_seconds(subnet, parts.class);
            options.push(encode(&DhcpOption::AddressLeaseTime(lease)));
            // RFC 2131 section 4.4.5's proportions.
            options.push(encode(&DhcpOption::Renewal(lease / 2)));
            options.push(encode(&DhcpOption::Rebinding(lease / 8 * 7)));
        }
        // Before the routers (RFC 2132 section 3.3), whatever the client's order.
        options.push(encode(&DhcpOption::SubnetMask(subnet.cidr.netmask())));
    }
    options.extend(chosen(parts));
    if let Some(boot) = parts.boot {
        options.extend(boot_options(parts, boot));
    }
    options
}

/// BOOTP clients know no message types, server identifiers or leases, and have the boot file in its field.
fn bootp_options(parts: &Parts<'_>) -> Vec<Vec<u8>> {
    let mask = parts.subnet.map(|subnet| encode(&DhcpOption::SubnetMask(subnet.cidr.netmask())));
    mask.into_iter().chain(chosen(parts)).collect()
}

/// Network and custom options: all of them, or those that the client wants, in its order.
fn chosen(parts: &Parts<'_>) -> Vec<Vec<u8>> {
    let mut available: Vec<(u8, Vec<u8>, bool)> = Vec::new();
    for custom in parts.custom {
        // The client's own machine identifier is returned (RFC 4578 section 2.3), whatever else is configured.
        let is_elsewhere = custom.code == option::CLIENT_GUID
            // Among the boot options.
            || (parts.boot.is_some() && BOOT_OPTIONS.contains(&custom.code));
        if !is_elsewhere {
            available.push((custom.code, split(custom.code, &custom.data), custom.always));
        }
    }
    for option in parts.subnet.map(network).unwrap_or_default() {
        let code = u8::from(dhcproto::v4::OptionCode::from(&option));
        if !available.iter().any(|(taken, ..)| *taken == code) {
            available.push((code, encode(&option), false));
        }
    }
    let Some(wanted) = parts.wanted else {
        return available.into_iter().map(|(_, bytes, _)| bytes).collect();
    };
    let mut chosen: Vec<Vec<u8>> = Vec::new();
    for code in wanted {
        if let Some(position) = available.iter().position(|(available, ..)| available == code) {
            chosen.push(available.remove(position).1);
        }
    }
    chosen.extend(available.into_iter().filter(|(.., always)| *always).map(|(_, bytes, _)| bytes));
    chosen
}

fn network(subnet: &Subnet) -> Vec<DhcpOption> {
    let mut options = Vec::new();
    if let Some(router) = subnet.router {
        options.push(DhcpOption::Router(vec![router]));
    }
    if !subnet.dns.is_empty() {
        options.push(DhcpOption::DomainNameServer(subnet.dns.clone()));
    }
    if let Some(domain) = &subnet.domain {
        options.push(DhcpOption::DomainName(domain.clone()));
    }
    options.push(DhcpOption::BroadcastAddr(subnet.cidr.broadcast()));
    options
}

fn boot_options(parts: &Parts<'_>, boot: &BootFile) -> Vec<Vec<u8>> {
    let own =
        |code: u8| parts.custom.iter().find(|custom| custom.code == code).map(|custom| &custom.data[..]);
    let Class { firmware, stage } = parts.class;
    let http = firmware.is_http() && stage == Stage::Rom;
    let (class, other): (&[u8], &[u8]) =
        if http { (b"HTTPClient", b"PXEClient") } else { (b"PXEClient", b"HTTPClient") };
    // What is meant for the one kind of firmware would make the other one take no notice of the answer.
    let own_class = own(option::VENDOR_CLASS).filter(|own| !own.starts_with(other));
    let mut options = vec![split(option::VENDOR_CLASS, own_class.unwrap_or(class))];
    let vendor = match firmware {
        _ if http => None,
        Firmware::RaspberryPi if stage == Stage::Rom => Some(RASPBERRY_PI_BOOT),
        _ => Some(&BOOT_THIS_FILE[..]),
    };
    options.extend(own(VENDOR).or(vendor).map(|data| split(VENDOR, data)));
    if matches!(boot, BootFile::Tftp { .. }) {
        options.push(split(SERVER_NAME, tftp_server(parts, boot).as_bytes()));
    }
    if !boot.text().is_empty() {
        let mut file = boot.text().as_bytes().to_vec();
        if !http {
            // EDK2 writes a NUL behind an option 67 that has none, over the next option's code; legacy ROMs
            // read on until they find one.
            file.push(0);
        }
        options.push(split(BOOT_FILE, &file));
    }
    let is_ipxe = matches!(stage, Stage::Ipxe | Stage::ReducedIpxe);
    if is_ipxe && parts.subnet.is_some() && own(option::IPXE).is_none() {
        options.push(split(option::IPXE, &NO_PROXY_WILL_COME));
    }
    options
}

/// Makes options fit: `file` and `sname` take some if they are free (RFC 2132 section 9.3), the last ones are left
/// out.
fn squeeze(
    options: &[Vec<u8>],
    names: &mut [u8; SNAME_AND_FILE],
    names_are_free: bool,
    room: usize,
    left_out: &mut Vec<u8>,
) -> Result<Vec<u8>, TooLong> {
    let overload = if names_are_free { 3 } else { 0 };
    let mut bytes = Vec::new();
    let mut file = Vec::new();
    let mut sname = Vec::new();
    for option in options {
        // One byte stays for END everywhere.
        if bytes.len() + option.len() + overload < room {
            bytes.extend_from_slice(option);
        } else if names_are_free && file.len() + option.len() < 128 {
            file.extend_from_slice(option);
        } else if names_are_free && sname.len() + option.len() < 64 {
            sname.extend_from_slice(option);
        } else if INDISPENSABLE.contains(&code(option)) {
            return Err(TooLong(options.iter().map(Vec::len).sum()));
        } else {
            left_out.push(code(option));
        }
    }
    let used = match (file.is_empty(), sname.is_empty()) {
        (true, true) => return Ok(bytes),
        (false, true) => 1,
        (true, false) => 2,
        (false, false) => 3,
    };
    for (field, at) in [(&mut sname, 0), (&mut file, 64)] {
        if !field.is_empty() {
            field.push(option::END);
            names[at..at + field.len()].copy_from_slice(field);
        }
    }
    bytes.extend_from_slice(&[OVERLOAD, 1, used]);
    Ok(bytes)
}

/// The lease in seconds: short for stages that end within minutes and never renew.
#[must_use]
pub(crate) fn lease_seconds(subnet: &Subnet, class: Class) -> u32 {
    let lease = if class.stage == Stage::Os { subnet.lease } else { subnet.boot_lease };
    u32::try_from(lease.as_secs()).unwrap_or(u32::MAX)
}

/// Puts a machine's own options into its entry.
pub(crate) fn put_own_options(host: &mut Host, name: Option<&str>) {
    // In place: it is written for each machine that boots.
    host.options = [option::PAD; HOST_OPTIONS];
    (host.options_length, host.options_sum) = (0, 0);
    let Some(name) = name.map(str::as_bytes) else { return };
    let length = (2 + name.len()).next_multiple_of(2);
    if let Some(place) = host.options.get_mut(..length)
        && let Some((head, rest)) = place.split_first_chunk_mut::<2>()
        && let (Some(rest), Ok(octets)) = (rest.get_mut(..name.len()), u8::try_from(name.len()))
    {
        *head = [option::HOST_NAME, octets];
        rest.copy_from_slice(name);
        host.options_length = u8::try_from(length).unwrap_or(0);
        host.options_sum = Sum::ZERO.bytes(place).folded();
    }
}

fn assemble(
    siaddr: Ipv4Addr,
    parts: &Parts<'_>,
    names: &[u8; SNAME_AND_FILE],
    mut options: Vec<u8>,
) -> Answer {
    if options.len() % 2 == 1 {
        options.push(option::PAD);
    }
    let mut answer: Answer = zerocopy::FromZeros::new_zeroed();
    answer.siaddr = siaddr.octets();
    answer.server_id = parts.server.octets();
    answer.lease = parts.subnet.map_or(0, |subnet| lease_seconds(subnet, parts.class));
    let length = SNAME_AND_FILE + 4 + options.len();
    answer.body[..SNAME_AND_FILE].copy_from_slice(names);
    answer.body[SNAME_AND_FILE..SNAME_AND_FILE + 4].copy_from_slice(&MAGIC.to_be_bytes());
    answer.body[SNAME_AND_FILE + 4..length].copy_from_slice(&options);
    answer.body_length = u16::try_from(length).unwrap_or(0);
    answer.body_sum = Sum::ZERO.bytes(&answer.body[..length]).folded();
    answer
}

/// Encoding into memory does not fail.
fn encode(option: &DhcpOption) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes);
    let encoded = option.encode(&mut encoder);
    debug_assert!(encoded.is_ok(), "{encoded:?}");
    let filled = encoder.len_filled();
    bytes.truncate(filled);
    bytes
}

/// An option of any length: in pieces of 255 octets, in order (RFC 3396 sections 5 and 6).
fn split(code: u8, data: &[u8]) -> Vec<u8> {
    if data.is_empty() {
        return vec![code, 0];
    }
    data.chunks(255)
        .flat_map(|piece| {
            let length = u8::try_from(piece.len()).unwrap_or(u8::MAX);
            [code, length].into_iter().chain(piece.iter().copied())
        })
        .collect()
}

/// A text that is too long for its field is left out of it; it is in its option.
fn put_text(field: &mut [u8], text: &str) {
    if text.len() < field.len() {
        field[..text.len()].copy_from_slice(text.as_bytes());
    }
}

#[cfg(test)]
mod tests;
