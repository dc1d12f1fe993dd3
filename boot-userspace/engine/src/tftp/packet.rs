//! The packets this server sends, and the option values it grants.

use std::time::Duration;

use super::request::{Kind, Request};

/// Header of a DATA packet: opcode and block number.
pub const DATA_HEADER: usize = 4;

/// What IPv4, UDP and TFTP put before a block; a larger block would make IP fragments.
const HEADERS: u32 = 20 + 8 + DATA_HEADER as u32;

/// The block size without options.
const PLAIN_BLOCK: u16 = 512;

/// The first four bytes of a DATA packet.
#[must_use]
pub fn data_header(block: u16) -> [u8; DATA_HEADER] {
    let [high, low] = block.to_be_bytes();
    [0, 3, high, low]
}

/// An ERROR packet.
pub(super) fn error(code: u16, message: &str) -> Vec<u8> {
    let mut packet = vec![0, 5];
    packet.extend(code.to_be_bytes());
    packet.extend(message.bytes().take(100));
    packet.push(0);
    packet
}

/// What was agreed with a client.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Agreed {
    pub(super) block_size: u16,
    pub(super) window: u16,
    /// How long to wait before a repeat, if the client said so.
    pub(super) timeout: Option<Duration>,
    /// The OACK, if any option was accepted.
    pub(super) oack: Option<Vec<u8>>,
}

/// What bounds the values that are granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Of the interface; a larger block would make fragments.
    pub mtu: u32,
    /// The largest window; 1: the option is declined.
    pub window: u16,
}

/// The block size that is agreed with a client, which depends on nothing but its request and the interface.
pub(super) fn block_size(request: &Request, mtu: u32) -> u16 {
    let largest = u16::try_from(mtu.saturating_sub(HEADERS)).unwrap_or(u16::MAX).max(8);
    let granted = request.options.iter().find_map(|option| match option.kind {
        Kind::BlockSize => Some(at_most(option.value, largest)),
        Kind::BlockSizePowerOfTwo => Some(1 << at_most(option.value, largest).ilog2()),
        _ => None,
    });
    granted.unwrap_or(PLAIN_BLOCK)
}

/// Grants what the client asked for, never more: EDK2 gives up on an OACK that adds an option or raises a
/// value (RFC 2347 forbids the first, RFC 2348 and RFC 7440 the second). `size` is that of what is sent, which in
/// netascii is not that of the file.
pub(super) fn agree(request: &Request, size: u64, limits: &Limits) -> Agreed {
    let block_size = block_size(request, limits.mtu);
    let mut agreed = Agreed { block_size, window: 1, timeout: None, oack: None };
    let mut oack = vec![0, 6];
    for option in &request.options {
        let granted = match option.kind {
            Kind::BlockSize | Kind::BlockSizePowerOfTwo => u64::from(block_size),
            Kind::WindowSize if limits.window <= 1 => continue,
            Kind::WindowSize => {
                agreed.window = at_most(option.value, limits.window);
                u64::from(agreed.window)
            }
            // curl takes a size of 0 for a mistake and ends the transfer.
            Kind::TransferSize if size == 0 => continue,
            Kind::TransferSize => size,
            Kind::Timeout | Kind::TimeoutMicroseconds => {
                let asked = match option.kind {
                    Kind::Timeout => Duration::from_secs(option.value),
                    _ => Duration::from_micros(option.value),
                };
                agreed.timeout = agreed.timeout.max(Some(asked));
                option.value
            }
            // This server counts on with 0, so with 1 only where it does not come to that.
            Kind::Rollover if option.value == 1 && size / u64::from(block_size) >= 65535 => continue,
            Kind::Rollover => option.value,
        };
        oack.extend(option.spelling.bytes());
        oack.push(0);
        oack.extend(granted.to_string().bytes());
        oack.push(0);
    }
    agreed.oack = (oack.len() > 2).then_some(oack);
    agreed
}

fn at_most(asked: u64, limit: u16) -> u16 {
    u16::try_from(asked).unwrap_or(limit).min(limit)
}

#[cfg(test)]
mod tests;
