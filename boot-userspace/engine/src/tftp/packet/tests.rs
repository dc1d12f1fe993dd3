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
    for (mode, read) in [("octet", Some(Mode::Octet)), ("NetASCII", Some(Mode::Netascii)), ("mail", None)] {
        let found = match parse(format!("\0\x01f\0{mode}\0").as_bytes()) {
            Packet::Read(request) => Some(request.mode),
            _ => None,
        };
        assert_eq!(found, read, "{mode}");
    }
}
