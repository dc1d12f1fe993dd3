//! The steps of a boot in words: one short sentence each, with the machine as its subject where it acts.

use std::fmt;
use std::net::Ipv4Addr;

use boot_common::class::{Class, Stage};

use super::steps::{Given, What};

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered { given, class, address } => answered(f, *given, *class, *address),
            Self::Unanswered { reason, relay } => {
                write!(f, "not answered: {}", reason.says())?;
                if relay.is_unspecified() { Ok(()) } else { write!(f, " (through relay {relay})") }
            }
            Self::Refused { why } => write!(f, "refused (NAK): {why}"),
            Self::ChoseOther { server, address, was_offered } => {
                write!(f, "requested {address} from another DHCP server, {server}")?;
                if *was_offered { f.write_str(", and not what this server had offered") } else { Ok(()) }
            }
            Self::TookElsewhere { address, server, class } => {
                let is_system = Class::from_key(*class).is_some_and(|class| class.stage == Stage::Os);
                let client = if is_system { "its operating system requested" } else { "requested" };
                write!(f, "{client} {address} from the DHCP server {server}")
            }
            Self::RefusedByOther { server } => write!(f, "another DHCP server, {server}, sent it a NAK"),
            Self::GivenByOther { server, address } => {
                write!(f, "another DHCP server, {server}, gave it {address}")
            }
            Self::OtherFile { server, file } => {
                write!(f, "another DHCP server, {server}, named the boot file {file} for it")
            }
            Self::ReplySource { relay, asked, from } => {
                write!(f, "relay {relay} sent its request to {asked}, and the answer left from {from}")
            }
            Self::SharedIdentity { address, holder } => {
                write!(
                    f,
                    "is known by its UUID or switch port as the machine of {address}, which {holder} has"
                )
            }
            Self::Conflict { says } => f.write_str(says),
            Self::Stray { reserved, subnet } => {
                write!(f, "asked in {subnet}, but its reservation is {reserved}")
            }
            Self::AddressInUse { address, user } if user.is_empty() => {
                write!(f, "declined {address}: it says that another host uses it, and none was found there")
            }
            Self::AddressInUse { address, user } => write!(f, "{address} is in use by {user}"),
            Self::NoLoader { why } => write!(f, "no boot loader for it: {why}"),
            Self::TftpSent { file, bytes, millis, confirmed } => {
                write!(f, "fetched {file} by TFTP, {bytes} bytes in {}", seconds(*millis))?;
                if *confirmed { Ok(()) } else { f.write_str("; its last acknowledgement did not come") }
            }
            Self::TftpMissing { file, why } => write!(f, "asked for {file} by TFTP: {why}"),
            Self::TftpStalled { file, bytes, size, block } => {
                write!(f, "stopped answering at block {block} of {file}, after {bytes} of {size} bytes")
            }
            Self::TftpAborted { file, code, message } => {
                write!(f, "ended the transfer of {file} with error {code}: {message}")
            }
            Self::ScriptSent { uuid: None } => f.write_str("fetched its boot script"),
            Self::ScriptSent { uuid: Some(uuid) } => write!(f, "fetched its boot script as {uuid}"),
            Self::NoScript { why } => write!(f, "asked for its boot script and got none: {why}"),
            Self::FileAsked { file } => write!(f, "asked for {file} by HTTP; it is being sent"),
            Self::FileSent { file, bytes, millis } => {
                write!(f, "fetched {file} by HTTP, {bytes} bytes in {}", seconds(*millis))
            }
            Self::FileMissing { file, why } => write!(f, "asked for {file} by HTTP: {why}"),
            Self::FileCut { file, bytes, whole, by_machine, why } => {
                write!(f, "got {bytes}")?;
                if *whole > 0 {
                    write!(f, " of {whole}")?;
                }
                write!(f, " bytes of {file} by HTTP, and ")?;
                if *by_machine { f.write_str("closed the connection") } else { write!(f, "no more: {why}") }
            }
            Self::NoTls { why } => write!(f, "could not begin HTTPS: {why}"),
            Self::DocumentSent { path } => write!(f, "fetched {path}"),
            Self::NoDocument { path, why } => write!(f, "asked for {path}: {why}"),
            Self::PhoneHome { success: true, says } => write!(f, "reported success{}", behind(says)),
            Self::PhoneHome { success: false, says } => write!(f, "reported a failure{}", behind(says)),
            Self::Progress { does, percent: None } => write!(f, "its agent: {does}"),
            Self::Progress { does, percent: Some(percent) } => write!(f, "its agent: {does} {percent} %"),
            Self::BecameState { state, why } => write!(f, "became {state}{}", behind(why)),
            Self::Overdue { state, waits } => {
                write!(f, "is {state} for longer than it should be{}", behind(waits))
            }
            Self::Power { act, by, failed } => {
                write!(f, "its BMC was told: {} (by {by})", act.name())?;
                if failed.is_empty() { Ok(()) } else { write!(f, ", and did not do it: {failed}") }
            }
            Self::InventoryChanged { differs } => {
                write!(f, "consists of something else than before: {differs}")
            }
        }
    }
}

fn behind(says: &str) -> String {
    if says.is_empty() { String::new() } else { format!(": {says}") }
}

fn answered(f: &mut fmt::Formatter<'_>, given: Given, class: u8, address: Ipv4Addr) -> fmt::Result {
    let class = Class::from_key(class);
    let client = match class {
        Some(Class { stage: Stage::Ipxe, .. }) => "iPXE".to_owned(),
        Some(Class { stage: Stage::ReducedIpxe, .. }) => {
            "an iPXE without the features that scripts need".to_owned()
        }
        Some(Class { stage: Stage::Os, .. }) => "the operating system".to_owned(),
        Some(Class { firmware, stage: Stage::Rom }) => format!("the firmware ({})", firmware.name()),
        None => "the machine".to_owned(),
    };
    match given {
        Given::Offer if address.is_unspecified() => {
            write!(f, "offered {client} a boot file, without an address")
        }
        Given::Offer => write!(f, "offered {client} {address}"),
        Given::Ack => write!(f, "gave {client} {address}"),
        Given::Options => write!(f, "gave {client} options"),
        Given::Bootp => write!(f, "gave {client} {address} by BOOTP"),
        Given::BootFile => write!(f, "gave {client} the boot file's name"),
    }
}

/// A time for people.
pub(super) fn seconds(millis: u64) -> String {
    if millis < 10_000 {
        format!("{}.{} s", millis / 1000, millis % 1000 / 100)
    } else if millis < 600_000 {
        format!("{} s", millis / 1000)
    } else {
        format!("{} min", millis / 60_000)
    }
}
