//! Prepares answers: what a subnet or a proxy gives out, per client class and message, ready for the tables.
//!
//! The order of options is 53, 54, lease times, then the network's options (in the client's order, if it gave
//! one), then boot options; the machine's own options and the echoes follow when an answer is sent.

use std::net::Ipv4Addr;

use boot_common::class::{Class, Stage};
use boot_common::decide::message;
use boot_common::tables::{ANSWER_OPTIONS, Answer, HOST_OPTIONS, Host};
use boot_common::wire::{MAGIC, SNAME_AND_FILE, Sum, option};
use dhcproto::v4::{DhcpOption, MessageType};
use dhcproto::{Encodable as _, Encoder};

use crate::config::{CustomOption, Subnet};
use crate::engine::boot::BootFile;

/// Option 43 with discovery control bit 3 (PXE 2.1 section 2.4): the client boots the file in this very
/// answer, without a menu, a prompt or another round on port 4011.
const BOOT_THIS_FILE: [u8; 4] = [6, 1, 8, 255];
/// iPXE's option 175.176 "no-pxedhcp": it does not wait 2 s for a proxy's offer.
const NO_PROXY_WILL_COME: [u8; 3] = [176, 1, 1];

const VENDOR: u8 = 43;
const OVERLOAD: u8 = 52;
const SERVER_NAME: u8 = 66;
const BOOT_FILE: u8 = 67;

/// What an answer is made of.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    /// Who asks.
    pub class: Class,
    /// A number of [`message`]: OFFER, ACK, NAK, INFORM for the ACK to one, BOOT_ACK, or 0 for BOOTP.
    pub message: u8,
    /// The subnet, from a server; `None` from a proxy.
    pub subnet: Option<&'a Subnet>,
    /// Our address, as server identifier and boot server.
    pub server: Ipv4Addr,
    /// Where to continue, if there is something to boot.
    pub boot: Option<&'a BootFile>,
    /// Options of the machine, its profile and its subnet, the first of a code wins.
    pub custom: &'a [CustomOption],
    /// The parameter request list, of a client whose list is obeyed.
    pub wanted: Option<&'a [u8]>,
    /// Bytes that the options may have in all, from what the client accepts; the rest goes into `file` and
    /// `sname`, or is left out.
    pub room: usize,
}

/// The options do not fit an answer, even with `file` and `sname` used for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the options of an answer need {0} bytes, and {ANSWER_OPTIONS} is the most: give out fewer")]
pub struct TooLong(usize);

/// Prepares one answer.
///
/// # Errors
/// When the options that the answer cannot do without do not fit.
pub fn prepare(parts: &Parts<'_>) -> Result<Answer, TooLong> {
    let mut names = [0u8; SNAME_AND_FILE];
    let mut siaddr = Ipv4Addr::UNSPECIFIED;
    if let Some(boot) = parts.boot {
        siaddr = parts.server;
        // shim takes its second stage's directory from `file`, never from option 67, so both are filled.
        put_text(&mut names[..64], &parts.server.to_string());
        put_text(&mut names[64..], boot.text());
    }
    let options = options(parts);
    let room = parts.room.min(ANSWER_OPTIONS);
    let bytes = if options.iter().map(Vec::len).sum::<usize>() < room {
        options.concat()
    } else {
        squeeze(&options, &mut names, parts.boot.is_none(), room)?
    };
    Ok(assemble(siaddr, parts, &names, bytes))
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

/// BOOTP clients know no message types, server identifiers or leases.
fn bootp_options(parts: &Parts<'_>) -> Vec<Vec<u8>> {
    let mask = parts.subnet.map(|subnet| encode(&DhcpOption::SubnetMask(subnet.cidr.netmask())));
    mask.into_iter().chain(chosen(parts)).collect()
}

/// Network and custom options: all of them, or those that the client wants, in its order.
fn chosen(parts: &Parts<'_>) -> Vec<Vec<u8>> {
    let mut available: Vec<(u8, Vec<u8>, bool)> = Vec::new();
    // The client's own machine identifier is returned (RFC 4578 section 2.3), whatever else is configured.
    for custom in parts.custom.iter().filter(|custom| custom.code != option::CLIENT_GUID) {
        if !available.iter().any(|(code, ..)| *code == custom.code) {
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
    let own = |code: u8| parts.custom.iter().any(|custom| custom.code == code);
    let http = parts.class.firmware.is_http() && parts.class.stage == Stage::Rom;
    let class: &[u8] = if http { b"HTTPClient" } else { b"PXEClient" };
    let mut options = Vec::new();
    if !own(option::VENDOR_CLASS) {
        options.push(split(option::VENDOR_CLASS, class));
    }
    if !http && !own(VENDOR) {
        options.push(split(VENDOR, &BOOT_THIS_FILE));
    }
    if matches!(boot, BootFile::Tftp(_)) && !own(SERVER_NAME) {
        options.push(split(SERVER_NAME, parts.server.to_string().as_bytes()));
    }
    if !own(BOOT_FILE) {
        let mut file = boot.text().as_bytes().to_vec();
        if !http {
            // EDK2 writes a NUL behind an option 67 that has none, over the next option's code; legacy ROMs
            // read on until they find one.
            file.push(0);
        }
        options.push(split(BOOT_FILE, &file));
    }
    if parts.class.stage == Stage::Ipxe && parts.subnet.is_some() && !own(option::IPXE) {
        options.push(split(option::IPXE, &NO_PROXY_WILL_COME));
    }
    options
}

/// Makes options fit: `file` and `sname` take some if they are free (RFC 2132 section 9.3), the last ones are left
/// out. What comes first is what no answer can do without.
fn squeeze(
    options: &[Vec<u8>],
    names: &mut [u8; SNAME_AND_FILE],
    names_are_free: bool,
    room: usize,
) -> Result<Vec<u8>, TooLong> {
    const INDISPENSABLE: usize = 6;
    let overload = if names_are_free { 3 } else { 0 };
    let mut bytes = Vec::new();
    let mut file = Vec::new();
    let mut sname = Vec::new();
    for (position, option) in options.iter().enumerate() {
        // One byte stays for END everywhere.
        if bytes.len() + option.len() + overload < room {
            bytes.extend_from_slice(option);
        } else if names_are_free && file.len() + option.len() < 128 {
            file.extend_from_slice(option);
        } else if names_are_free && sname.len() + option.len() < 64 {
            sname.extend_from_slice(option);
        } else if position < INDISPENSABLE {
            return Err(TooLong(options.iter().map(Vec::len).sum()));
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
pub fn lease_seconds(subnet: &Subnet, class: Class) -> u32 {
    let lease = if class.stage == Stage::Os { subnet.lease } else { subnet.boot_lease };
    u32::try_from(lease.as_secs()).unwrap_or(u32::MAX)
}

/// Puts a machine's own options into its entry.
pub fn put_own_options(host: &mut Host, name: Option<&str>) {
    let mut bytes = name.map(|name| encode(&DhcpOption::Hostname(name.to_owned()))).unwrap_or_default();
    if bytes.len() % 2 == 1 {
        bytes.push(option::PAD);
    }
    if bytes.len() <= HOST_OPTIONS {
        host.options = [0; HOST_OPTIONS];
        host.options[..bytes.len()].copy_from_slice(&bytes);
        host.options_length = u16::try_from(bytes.len()).unwrap_or(0);
        host.options_sum = Sum::ZERO.bytes(&bytes).folded();
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
mod tests {
    use dhcproto::v4::{DhcpOptions, OptionCode};
    use dhcproto::{Decodable as _, Decoder};

    use super::*;

    const SUBNET_MASK: u8 = 1;
    const ROUTER: u8 = 3;
    const NAME_SERVER: u8 = 6;
    const DOMAIN: u8 = 15;
    const BROADCAST: u8 = 28;
    const LEASE: u8 = 51;
    const RENEWAL: u8 = 58;
    const REBINDING: u8 = 59;

    fn subnet() -> Subnet {
        let config = r#"
            [[interface]]
            name = "eth1"
            [[subnet]]
            cidr = "10.1.0.0/16"
            pool = ["10.1.1.33"]
            router = "10.1.0.1"
            dns = ["10.1.1.2", "10.1.1.3"]
            domain = "mtl"
        "#;
        crate::config::parse(config, "test").unwrap().subnets.remove(0)
    }

    fn parts<'a>(subnet: &'a Subnet, custom: &'a [CustomOption], wanted: Option<&'a [u8]>) -> Parts<'a> {
        let server = Ipv4Addr::new(10, 1, 0, 2);
        Parts {
            class: Class::OS,
            message: message::ACK,
            subnet: Some(subnet),
            server,
            boot: None,
            custom,
            wanted,
            room: 308,
        }
    }

    fn codes(options: &[u8]) -> Vec<u8> {
        let mut codes = Vec::new();
        let mut rest = options;
        while let [code, tail @ ..] = rest {
            match (*code, tail) {
                (0, _) => rest = tail,
                (255, _) | (_, []) => break,
                (code, [length, tail @ ..]) => {
                    codes.push(code);
                    rest = &tail[usize::from(*length)..];
                }
            }
        }
        codes
    }

    fn body(answer: &Answer) -> &[u8] {
        &answer.body[SNAME_AND_FILE + 4..usize::from(answer.body_length)]
    }

    #[test]
    fn the_list_chooses_and_orders_but_the_mask_comes_before_the_router() {
        let subnet = subnet();
        let all = prepare(&parts(&subnet, &[], None)).unwrap();
        assert_eq!(
            codes(body(&all)),
            [53, 54, LEASE, RENEWAL, REBINDING, SUBNET_MASK, ROUTER, NAME_SERVER, DOMAIN, BROADCAST]
        );
        let some = prepare(&parts(&subnet, &[], Some(&[15, 3, 1, 99, 15]))).unwrap();
        assert_eq!(codes(body(&some)), [53, 54, LEASE, RENEWAL, REBINDING, SUBNET_MASK, DOMAIN, ROUTER]);
    }

    #[test]
    fn custom_options_override_and_come_when_wanted_or_always() {
        let subnet = subnet();
        let custom = [
            CustomOption { code: NAME_SERVER, data: vec![9, 9, 9, 9], always: false },
            CustomOption { code: 42, data: vec![1, 2, 3, 4], always: false },
            CustomOption { code: 252, data: b"x".to_vec(), always: true },
        ];
        let answer = prepare(&parts(&subnet, &custom, Some(&[NAME_SERVER]))).unwrap();
        assert_eq!(codes(body(&answer)), [53, 54, LEASE, RENEWAL, REBINDING, SUBNET_MASK, NAME_SERVER, 252]);
        assert!(body(&answer).windows(6).any(|bytes| bytes == [NAME_SERVER, 4, 9, 9, 9, 9]));
    }

    #[test]
    fn long_options_are_split_in_order() {
        let subnet = subnet();
        let data: Vec<u8> = (0..300).map(|i| u8::try_from(i % 251).unwrap()).collect();
        let custom = [CustomOption { code: 121, data: data.clone(), always: true }];
        let answer = prepare(&Parts { room: 700, ..parts(&subnet, &custom, None) }).unwrap();
        let options = DhcpOptions::decode(&mut Decoder::new(body(&answer))).unwrap();
        assert!(options.get(OptionCode::ClasslessStaticRoute).is_some());
        assert_eq!(codes(body(&answer)).iter().filter(|code| **code == 121).count(), 2);
    }

    #[test]
    fn what_does_not_fit_goes_into_file_and_sname_and_each_field_ends() {
        let subnet = subnet();
        let custom = [
            CustomOption { code: 224, data: vec![1; 100], always: true },
            CustomOption { code: 225, data: vec![2; 110], always: true },
            CustomOption { code: 226, data: vec![3; 50], always: true },
            CustomOption { code: 227, data: vec![4; 250], always: true },
        ];
        let answer = prepare(&Parts { room: 180, ..parts(&subnet, &custom, None) }).unwrap();
        assert!(body(&answer).len() < 181, "{}", body(&answer).len());
        assert_eq!(codes(body(&answer)).last(), Some(&OVERLOAD));
        assert_eq!(codes(&answer.body[64..192]), [225]);
        assert_eq!(codes(&answer.body[..64]), [226]);
        assert_eq!((answer.body[64 + 112], answer.body[52]), (255, 255));
        assert!(!codes(body(&answer)).contains(&227), "left out, not cut");
    }

    #[test]
    fn the_kernel_finds_the_server_identifier() {
        let subnet = subnet();
        let answer = prepare(&parts(&subnet, &[], None)).unwrap();
        let at = boot_common::tables::SERVER_ID_AT;
        assert_eq!(answer.body[at..at + 4], answer.server_id);
    }
}
