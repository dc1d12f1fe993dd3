//! Clients of other makers, each with the block sizes, windows and modes that it can.

use boot_tests::rack::SERVER_ADDRESS;

use crate::MIB;

/// One way to call a client. `OUT` and `URL` or `NAME` stand for what differs from file to file.
pub(super) struct Way {
    pub(super) program: &'static str,
    pub(super) arguments: &'static [&'static str],
    /// The block size that is agreed on: what makes a size awkward.
    pub(super) block_size: usize,
}

const fn way(program: &'static str, block_size: usize, arguments: &'static [&'static str]) -> Way {
    Way { program, arguments, block_size }
}

/// More than 1468 is asked for and not granted, as it would not fit into an Ethernet frame.
pub(super) const WAYS: [Way; 32] = [
    way("tftp", 512, &["-m", "binary", SERVER_ADDRESS, "-c", "get", "NAME", "OUT"]),
    way(
        "tftp",
        512,
        &["-4", "-l", "-m", "octet", "-R", "3000:3010", SERVER_ADDRESS, "-c", "get", "NAME", "OUT"],
    ),
    way("atftp", 512, &["-g", "-r", "NAME", "-l", "OUT", SERVER_ADDRESS]),
    way("atftp", 512, &["--prevent-sas", "-g", "-r", "NAME", "-l", "OUT", SERVER_ADDRESS]),
    way("atftp", 512, &["--option", "tsize", "-g", "-r", "NAME", "-l", "OUT", SERVER_ADDRESS]),
    way("atftp", 512, &["--option", "timeout 1", "-g", "-r", "NAME", "-l", "OUT", SERVER_ADDRESS]),
    way("atftp", 512, &["--option", "timeout 255", "-g", "-r", "NAME", "-l", "OUT", SERVER_ADDRESS]),
    way("atftp", 256, &["--option", "blksize 256", "-g", "-r", "NAME", "-l", "OUT", SERVER_ADDRESS]),
    way("atftp", 1428, &["--option", "blksize 1428", "-g", "-r", "NAME", "-l", "OUT", SERVER_ADDRESS]),
    way("atftp", 1468, &["--option", "blksize 1468", "-g", "-r", "NAME", "-l", "OUT", SERVER_ADDRESS]),
    way("atftp", 1468, &["--option", "blksize 1533", "-g", "-r", "NAME", "-l", "OUT", SERVER_ADDRESS]),
    way("atftp", 1468, &["--option", "blksize 16000", "-g", "-r", "NAME", "-l", "OUT", SERVER_ADDRESS]),
    way("atftp", 1468, &["--option", "blksize 40000", "-g", "-r", "NAME", "-l", "OUT", SERVER_ADDRESS]),
    way("atftp", 1468, &["--option", "blksize 65464", "-g", "-r", "NAME", "-l", "OUT", SERVER_ADDRESS]),
    way("atftp", 512, &["--option", "windowsize 2", "-g", "-r", "NAME", "-l", "OUT", SERVER_ADDRESS]),
    way("atftp", 512, &["--option", "windowsize 16", "-g", "-r", "NAME", "-l", "OUT", SERVER_ADDRESS]),
    way("atftp", 512, &["--option", "windowsize 64", "-g", "-r", "NAME", "-l", "OUT", SERVER_ADDRESS]),
    way("atftp", 1468, ATFTP_EVERYTHING),
    way("atftp", 512, &["--option", "blksize 7", "-g", "-r", "NAME", "-l", "OUT", SERVER_ADDRESS]),
    way("atftp", 512, &["--option", "blksize 65465", "-g", "-r", "NAME", "-l", "OUT", SERVER_ADDRESS]),
    way("atftp", 512, &["--option", "timeout 0", "-g", "-r", "NAME", "-l", "OUT", SERVER_ADDRESS]),
    way("atftp", 512, &["--option", "timeout 256", "-g", "-r", "NAME", "-l", "OUT", SERVER_ADDRESS]),
    way("busybox", 512, &["tftp", "-g", "-r", "NAME", "-l", "OUT", SERVER_ADDRESS]),
    way("busybox", 512, &["tftp", "-g", "-b", "512", "-r", "NAME", "-l", "OUT", SERVER_ADDRESS]),
    way("busybox", 1024, &["tftp", "-g", "-b", "1024", "-r", "NAME", "-l", "OUT", SERVER_ADDRESS]),
    way("busybox", 1468, &["tftp", "-g", "-b", "1468", "-r", "NAME", "-l", "OUT", SERVER_ADDRESS]),
    way("busybox", 1468, &["tftp", "-g", "-b", "65464", "-r", "NAME", "-l", "OUT", SERVER_ADDRESS]),
    way("curl", 512, &["-sSf", "-o", "OUT", "URL"]),
    way("curl", 512, &["-sSf", "--tftp-no-options", "-o", "OUT", "URL"]),
    way("curl", 1432, &["-sSf", "--tftp-blksize", "1432", "-o", "OUT", "URL"]),
    way("curl", 1468, &["-sSf", "--tftp-blksize", "1468", "-o", "OUT", "URL"]),
    way("curl", 1468, &["-sSf", "--tftp-blksize", "65464", "-o", "OUT", "URL"]),
];

const ATFTP_EVERYTHING: &[&str] = &[
    "--prevent-sas",
    "--option",
    "blksize 1468",
    "--option",
    "windowsize 4",
    "--option",
    "tsize",
    "--option",
    "timeout 2",
    "-g",
    "-r",
    "NAME",
    "-l",
    "OUT",
    SERVER_ADDRESS,
];

/// The smallest blocks, for files that are not long.
pub(super) const SMALLEST: [Way; 3] = [
    way("atftp", 8, &["--option", "blksize 8", "-g", "-r", "NAME", "-l", "OUT", SERVER_ADDRESS]),
    way("busybox", 64, &["tftp", "-g", "-b", "64", "-r", "NAME", "-l", "OUT", SERVER_ADDRESS]),
    way("curl", 8, &["-sSf", "--tftp-blksize", "8", "-o", "OUT", "URL"]),
];

/// What fetches which long file: 40 MiB in blocks of 512 bytes go beyond block 65535, and so do 100 MiB in
/// blocks of 1468.
pub(super) const LONG: [(usize, Way); 5] = [
    (100 * MIB, way("tftp", 512, &["-m", "binary", SERVER_ADDRESS, "-c", "get", "NAME", "OUT"])),
    (100 * MIB, way("atftp", 1468, ATFTP_EVERYTHING)),
    (
        40 * MIB,
        way("atftp", 512, &["--option", "windowsize 16", "-g", "-r", "NAME", "-l", "OUT", SERVER_ADDRESS]),
    ),
    (40 * MIB, way("busybox", 512, &["tftp", "-g", "-r", "NAME", "-l", "OUT", SERVER_ADDRESS])),
    (40 * MIB, way("curl", 512, &["-sSf", "-o", "OUT", "URL"])),
];
