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
mod tests {
    use super::super::request::{Mode, Packet, parse};
    use super::*;

    const LIMITS: Limits = Limits { mtu: 1500, window: 16 };

    fn request(options: &str) -> Request {
        let packet = format!("\0\x01f\0octet\0{}\0", options.replace(' ', "\0"));
        let Packet::Read(request) = parse(packet.as_bytes()) else { panic!("{packet:?}") };
        request
    }

    /// The options of the OACK, each with a space behind it.
    fn granted(asked: &str, size: u64, limits: &Limits) -> String {
        let Some(oack) = agree(&request(asked), size, limits).oack else { return String::new() };
        let options = oack.strip_prefix(&[0, 6]).map(<[u8]>::to_vec);
        String::from_utf8(options.unwrap()).unwrap().replace('\0', " ")
    }

    #[test]
    fn options_of_tftp_hpa() {
        for (asked, answered) in [
            ("utimeout 10000", "utimeout 10000 "),
            ("utimeout 255000000 timeout 3", "utimeout 255000000 timeout 3 "),
            ("utimeout 9999 utimeout 255000001 UTimeout 20000", "UTimeout 20000 "),
            ("rollover 0", "rollover 0 "),
            ("rollover 2 rollover 1", "rollover 1 "),
            ("blksize2 512", "blksize2 512 "),
            ("blksize2 511", "blksize2 256 "),
            ("blksize2 65464", "blksize2 1024 "),
            ("blksize2 8", "blksize2 8 "),
            ("blksize2 7", ""),
            ("blksize2 1000 blksize 1000", "blksize2 512 "),
            ("blksize 1000 blksize2 1000", "blksize 1000 "),
        ] {
            assert_eq!(granted(asked, 5000, &LIMITS), answered, "{asked}");
        }
    }

    #[test]
    fn counting_on_with_1_is_granted_only_to_files_that_need_no_counting_on() {
        for (size, blksize) in [(65535 * 512, 512), (65535 * 8, 8), (65535 * 1468, 1468)] {
            let asked = format!("rollover 1 blksize {blksize}");
            assert_eq!(granted(&asked, size - 1, &LIMITS), format!("{asked} "), "65535 blocks");
            assert_eq!(granted(&asked, size, &LIMITS), format!("blksize {blksize} "), "65536 blocks");
            let asked = format!("rollover 0 blksize {blksize}");
            assert_eq!(granted(&asked, size, &LIMITS), format!("{asked} "));
        }
        assert_eq!(granted("rollover 1", 65535 * 512, &LIMITS), "", "no option is left");
    }

    #[test]
    fn windows_are_bounded_and_one_declines_them() {
        for (window, asked, answered, agreed) in [
            (16, "windowsize 4", "windowsize 4 ", 4),
            (16, "windowsize 65535", "windowsize 16 ", 16),
            (16, "windowsize 1", "windowsize 1 ", 1),
            (64, "windowsize 64", "windowsize 64 ", 64),
            (2, "tsize 0 windowsize 4", "tsize 9 windowsize 2 ", 2),
            (1, "windowsize 4", "", 1),
            (1, "tsize 0 windowsize 4", "tsize 9 ", 1),
        ] {
            let limits = Limits { window, ..LIMITS };
            assert_eq!(granted(asked, 9, &limits), answered, "{window}: {asked}");
            assert_eq!(agree(&request(asked), 9, &limits).window, agreed, "{window}: {asked}");
        }
    }

    #[test]
    fn the_block_size_is_known_before_the_file() {
        for (asked, mtu, size) in [
            ("tsize 0", 1500, 512),
            ("blksize 65464", 1500, 1468),
            ("blksize 65464", 9000, 8968),
            ("blksize 65464", 65535, 65464),
            ("tsize 0 blksize 1432", 1500, 1432),
            ("blksize2 65464", 65535, 32768),
            ("blksize 1432", 10, 8),
        ] {
            let request = request(asked);
            assert_eq!(block_size(&request, mtu), size, "{asked}");
            assert_eq!(agree(&request, 9, &Limits { mtu, ..LIMITS }).block_size, size, "{asked}");
        }
    }

    #[test]
    fn modes_are_read_in_any_case() {
        for (mode, read) in [("octet", Some(Mode::Octet)), ("NetASCII", Some(Mode::Netascii)), ("mail", None)]
        {
            let found = match parse(format!("\0\x01f\0{mode}\0").as_bytes()) {
                Packet::Read(request) => Some(request.mode),
                _ => None,
            };
            assert_eq!(found, read, "{mode}");
        }
    }
}
