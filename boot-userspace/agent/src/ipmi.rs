//! The address of the machine's BMC, by the kernel's IPMI driver.

use std::fs::OpenOptions;
use std::net::Ipv4Addr;

use crate::sys;

/// IPMI 2.0: network function Transport, Get LAN Configuration Parameters, parameter 3 (IP address).
const TRANSPORT: u8 = 0x0c;
const GET_LAN: u8 = 0x02;
const IP_ADDRESS: u8 = 3;
/// A BMC has its address on one of these channels.
const CHANNELS: [u8; 4] = [1, 2, 3, 8];

/// The address, if there is a BMC that has one.
pub(crate) fn address() -> Option<String> {
    let device = OpenOptions::new().read(true).write(true).open("/dev/ipmi0").ok()?;
    CHANNELS.into_iter().find_map(|channel| {
        let answer = sys::ipmi(&device, TRANSPORT, GET_LAN, &[channel, IP_ADDRESS, 0, 0]).ok()?;
        read(&answer)
    })
}

/// Completion code, revision, and four bytes.
fn read(answer: &[u8]) -> Option<String> {
    let [0, _, a, b, c, d] = *answer.get(..6)? else { return None };
    let address = Ipv4Addr::new(a, b, c, d);
    (!address.is_unspecified()).then(|| address.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_one_that_the_bmc_has_given() {
        assert_eq!(read(&[0, 0x11, 10, 1, 0, 9]).as_deref(), Some("10.1.0.9"));
        for other in [&[0xc1, 0x11, 10, 1, 0, 9][..], &[0, 0x11, 0, 0, 0, 0], &[0, 0x11], &[]] {
            assert_eq!(read(other), None, "{other:?}");
        }
    }
}
