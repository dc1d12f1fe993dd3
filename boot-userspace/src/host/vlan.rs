//! Whether a card takes VLAN tags out of frames before XDP sees them.

use std::fs;
use std::io;
use std::os::fd::AsRawFd;

use socket2::{Domain, Socket, Type};

/// VLAN interfaces and what they are on (the 8021q module's; not there without it).
const INTERFACES: &str = "/proc/self/net/vlan/config";
/// `ETHTOOL_GFLAGS` and its `ETH_FLAG_RXVLAN` (linux/ethtool.h).
const GET_FLAGS: u32 = 0x25;
const RXVLAN: u32 = 1 << 8;

/// Whether the interface has `rxvlan` on (`ethtool -k`).
///
/// # Errors
/// When the kernel does not tell.
#[expect(unsafe_code, reason = "no safe interface to SIOCETHTOOL in nix, rustix or socket2")]
pub fn is_stripped(interface: &str) -> io::Result<bool> {
    /// `struct ethtool_value`
    #[repr(C)]
    struct Value {
        command: u32,
        data: u32,
    }
    /// `struct ifreq` with a pointer in it, which is as long as its longest member.
    #[repr(C)]
    struct Request {
        name: [u8; libc::IFNAMSIZ],
        value: *mut Value,
        rest: [u8; 16],
    }
    let mut value = Value { command: GET_FLAGS, data: 0 };
    let mut request = Request { name: [0; libc::IFNAMSIZ], value: &raw mut value, rest: [0; 16] };
    // One byte stays for the NUL.
    let name = request.name.get_mut(..interface.len()).filter(|name| name.len() < libc::IFNAMSIZ);
    name.ok_or(io::ErrorKind::InvalidInput)?.copy_from_slice(interface.as_bytes());
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    // SAFETY: the kernel reads and writes a live request and the value that it points at.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL as _, &raw mut request) };
    if done == 0 { Ok(value.data & RXVLAN != 0) } else { Err(io::Error::last_os_error()) }
}

/// Whether this host has VLAN interfaces on it.
#[must_use]
pub fn has_interfaces(interface: &str) -> bool {
    fs::read_to_string(INTERFACES).is_ok_and(|table| is_under(&table, interface))
}

fn is_under(table: &str, interface: &str) -> bool {
    // Name, number, and what it is on.
    table.lines().any(|line| line.split('|').nth(2).is_some_and(|under| under.trim() == interface))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::link::lab;

    #[test]
    fn vlan_interfaces_name_what_they_are_on() {
        let table = "\
VLAN Dev name    | VLAN ID
Name-Type: VLAN_NAME_TYPE_RAW_PLUS_VID_NO_PAD
eth0.5         | 5  | eth0
storage        | 12  | eth10
";
        assert!(is_under(table, "eth0") && is_under(table, "eth10"));
        assert!(!is_under(table, "eth1") && !is_under(table, "eth0.5") && !is_under("", "eth0"));
    }

    #[test]
    #[ignore = "needs root for a network namespace"]
    fn a_veth_takes_tags_out_and_a_bridge_does_not() {
        let setup = [lab::PAIR, &["link add br0 type bridge"]].concat();
        lab::in_namespace(&setup, || {
            assert!(is_stripped("srv0").unwrap());
            assert!(!is_stripped("br0").unwrap());
            assert!(is_stripped("none").is_err() && is_stripped("a-name-that-is-too-long").is_err());
        });
    }
}
