//! Prepares answers: what a subnet or a proxy gives out, per client class and message, ready for the tables.
//!
//! The order of options is 53, 54, lease times, network, then boot options; the machine's own options and
//! the echoes follow when an answer is sent.

use std::net::{Ipv4Addr, SocketAddrV4};

use boot_common::class::{Class, Stage};
use boot_common::decide::message;
use boot_common::tables::{ANSWER_OPTIONS, Answer, HOST_OPTIONS, Host};
use boot_common::wire::{MAGIC, SNAME_AND_FILE, Sum};
use dhcproto::v4::{DhcpOption, MessageType, OptionCode, UnknownOption};
use dhcproto::{Encodable as _, Encoder};

use crate::config::Subnet;
use crate::engine::boot::BootFile;

/// The key of the answer to DHCPINFORM: an ACK without an address or a lease (RFC 2131 section 4.3.5).
pub const INFORMED: u8 = message::INFORM;

/// Option 43 with discovery control bit 3 (PXE 2.1 section 2.4): the client boots the file in this very
/// answer, without a menu, a prompt or another round on port 4011.
const BOOT_THIS_FILE: [u8; 4] = [6, 1, 8, 255];
/// iPXE's option 175.176 "no-pxedhcp": it does not wait 2 s for a proxy's offer.
const NO_PROXY_WILL_COME: [u8; 3] = [176, 1, 1];

/// What an answer is made of.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    /// Who asks.
    pub class: Class,
    /// A number of [`message`], or [`INFORMED`]: the table's key.
    pub message: u8,
    /// The subnet, from a server; `None` from a proxy.
    pub subnet: Option<&'a Subnet>,
    /// Our address, as server identifier and boot server.
    pub server: Ipv4Addr,
    /// Where to continue, if there is something to boot.
    pub boot: Option<&'a BootFile>,
}

/// The answer does not fit: which happens only with very many name servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the options of an answer need {0} bytes, and {ANSWER_OPTIONS} is the most: give out fewer name servers"
)]
pub struct TooLong(usize);

/// Prepares one answer.
///
/// # Errors
/// When the options do not fit.
pub fn prepare(parts: &Parts<'_>) -> Result<Answer, TooLong> {
    let mut options = vec![
        DhcpOption::MessageType(match parts.message {
            message::OFFER => MessageType::Offer,
            message::NAK => MessageType::Nak,
            _ => MessageType::Ack,
        }),
        DhcpOption::ServerIdentifier(parts.server),
    ];
    if let Some(subnet) = parts.subnet
        && parts.message != message::NAK
    {
        network(&mut options, subnet, parts.message != INFORMED);
    }
    let mut names = [0u8; SNAME_AND_FILE];
    let mut siaddr = Ipv4Addr::UNSPECIFIED;
    if let Some(boot) = parts.boot {
        siaddr = parts.server;
        boot_options(&mut options, parts, boot);
        // shim takes its second stage's directory from `file`, never from option 67, so both are filled.
        put_text(&mut names[..64], &parts.server.to_string());
        put_text(&mut names[64..], boot.text());
    }
    let mut bytes = encode(&options);
    if bytes.len() % 2 == 1 {
        bytes.push(0);
    }
    if bytes.len() > ANSWER_OPTIONS {
        return Err(TooLong(bytes.len()));
    }
    Ok(assemble(siaddr, parts.server, &names, &bytes))
}

fn network(options: &mut Vec<DhcpOption>, subnet: &Subnet, with_lease: bool) {
    if with_lease {
        let lease = lease_seconds(subnet);
        options.push(DhcpOption::AddressLeaseTime(lease));
        // RFC 2131 section 4.4.5's proportions.
        options.push(DhcpOption::Renewal(lease / 2));
        options.push(DhcpOption::Rebinding(lease / 8 * 7));
    }
    // Before the routers (RFC 2132 section 3.3).
    options.push(DhcpOption::SubnetMask(subnet.cidr.netmask()));
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
}

fn boot_options(options: &mut Vec<DhcpOption>, parts: &Parts<'_>, boot: &BootFile) {
    let http = parts.class.firmware.is_http() && parts.class.stage == Stage::Rom;
    let class: &[u8] = if http { b"HTTPClient" } else { b"PXEClient" };
    options.push(DhcpOption::ClassIdentifier(class.to_vec()));
    if !http {
        options.push(DhcpOption::VendorExtensions(BOOT_THIS_FILE.to_vec()));
    }
    if let BootFile::Tftp(_) = boot {
        options.push(DhcpOption::TFTPServerName(parts.server.to_string().into_bytes()));
    }
    let mut file = boot.text().as_bytes().to_vec();
    if !http {
        // EDK2 writes a NUL behind an option 67 that has none, over the next option's code; legacy ROMs read
        // on until they find one.
        file.push(0);
    }
    options.push(DhcpOption::BootfileName(file));
    if parts.class.stage == Stage::Ipxe && parts.subnet.is_some() {
        options.push(DhcpOption::Unknown(UnknownOption::new(
            OptionCode::Unknown(175),
            NO_PROXY_WILL_COME.to_vec(),
        )));
    }
}

/// The lease in seconds.
#[must_use]
pub fn lease_seconds(subnet: &Subnet) -> u32 {
    u32::try_from(subnet.lease.as_secs()).unwrap_or(u32::MAX)
}

/// Puts a machine's own options into its entry.
pub fn put_own_options(host: &mut Host, name: Option<&str>) {
    let mut bytes = name.map(|name| encode(&[DhcpOption::Hostname(name.to_owned())])).unwrap_or_default();
    if bytes.len() % 2 == 1 {
        bytes.push(0);
    }
    if bytes.len() <= HOST_OPTIONS {
        host.options = [0; HOST_OPTIONS];
        host.options[..bytes.len()].copy_from_slice(&bytes);
        host.options_length = u16::try_from(bytes.len()).unwrap_or(0);
        host.options_sum = Sum::ZERO.bytes(&bytes).folded();
    }
}

fn assemble(siaddr: Ipv4Addr, server: Ipv4Addr, names: &[u8; SNAME_AND_FILE], options: &[u8]) -> Answer {
    let mut answer: Answer = zerocopy::FromZeros::new_zeroed();
    answer.siaddr = siaddr.octets();
    answer.server_id = server.octets();
    let length = SNAME_AND_FILE + 4 + options.len();
    answer.body[..SNAME_AND_FILE].copy_from_slice(names);
    answer.body[SNAME_AND_FILE..SNAME_AND_FILE + 4].copy_from_slice(&MAGIC.to_be_bytes());
    answer.body[SNAME_AND_FILE + 4..length].copy_from_slice(options);
    answer.body_length = u16::try_from(length).unwrap_or(0);
    answer.body_sum = Sum::ZERO.bytes(&answer.body[..length]).folded();
    answer
}

/// Options one after the other, without END. Encoding into memory does not fail.
fn encode(options: &[DhcpOption]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes);
    let encoded = options.iter().try_for_each(|option| option.encode(&mut encoder));
    debug_assert!(encoded.is_ok(), "{encoded:?}");
    let filled = encoder.len_filled();
    bytes.truncate(filled);
    bytes
}

/// A text that is too long for its field is left out of it; it is in its option.
fn put_text(field: &mut [u8], text: &str) {
    if text.len() < field.len() {
        field[..text.len()].copy_from_slice(text.as_bytes());
    }
}

/// What a class is told to boot, resolved: see [`boot_file`](crate::engine::boot::boot_file).
pub type Http = SocketAddrV4;
