//! The packets this server sends, and the option values it grants.

use super::request::{Kind, Request};

/// Header of a DATA packet: opcode and block number.
pub const DATA_HEADER: usize = 4;

/// What IPv4, UDP and TFTP put before a block; a larger block would make IP fragments.
const HEADERS: u32 = 20 + 8 + DATA_HEADER as u32;

/// U-Boot's receive ring holds fewer than 32 packets and its network stops when it overruns.
const LARGEST_WINDOW: u16 = 16;

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
    /// The OACK, if any option was accepted.
    pub(super) oack: Option<Vec<u8>>,
}

/// Grants what the client asked for, never more: EDK2 gives up on an OACK that adds an option or raises a
/// value (RFC 2347 forbids the first, RFC 2348 and RFC 7440 the second).
pub(super) fn agree(request: &Request, size: u64, mtu: u32) -> Agreed {
    let largest_block = u16::try_from(mtu.saturating_sub(HEADERS)).unwrap_or(u16::MAX).max(8);
    let mut agreed = Agreed { block_size: PLAIN_BLOCK, window: 1, oack: None };
    if request.options.is_empty() {
        return agreed;
    }
    let mut oack = vec![0, 6];
    for option in &request.options {
        let granted = match option.kind {
            Kind::BlockSize => {
                agreed.block_size = at_most(option.value, largest_block);
                u64::from(agreed.block_size)
            }
            Kind::WindowSize => {
                agreed.window = at_most(option.value, LARGEST_WINDOW);
                u64::from(agreed.window)
            }
            Kind::TransferSize => size,
            // Echoed as RFC 2349 demands. Retransmission keeps its own, much shorter timer: it only ever
            // helps the client, which cannot be hurt by a block it already has.
            Kind::Timeout => option.value,
        };
        oack.extend(option.spelling.bytes());
        oack.push(0);
        oack.extend(granted.to_string().bytes());
        oack.push(0);
    }
    agreed.oack = Some(oack);
    agreed
}

fn at_most(asked: u64, limit: u16) -> u16 {
    u16::try_from(asked).unwrap_or(limit).min(limit)
}
