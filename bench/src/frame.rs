//! Who has which address, and checksums.

use std::net::Ipv4Addr;

use bench_ebpf::FIRST;

/// Where the server is.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
/// Its Ethernet address.
pub const SERVER_MAC: [u8; 6] = [2, 0x77, 0, 0, 0, 1];
/// The Ethernet header's length, where IP begins.
pub const ETH: usize = 14;
/// Where UDP begins, without IP options.
pub const UDP: usize = ETH + 20;
/// Where a datagram's payload begins.
pub const PAYLOAD: usize = UDP + 8;

const PREFIX: [u8; 3] = [0x52, 0x54, 0];

/// The address of a client.
pub fn address(client: u32) -> Ipv4Addr {
    Ipv4Addr::from(FIRST + client)
}

/// Whose address this is; the number may be of a client that nobody started.
pub fn owner(address: Ipv4Addr) -> Option<u32> {
    u32::from(address).checked_sub(FIRST)
}

/// A client's Ethernet address.
pub fn mac(client: u32) -> [u8; 6] {
    let [_, a, b, c] = client.to_be_bytes();
    [PREFIX[0], PREFIX[1], PREFIX[2], a, b, c]
}

/// As it is written in configuration files.
pub fn mac_text(client: u32) -> String {
    mac(client).map(|octet| format!("{octet:02x}")).join(":")
}

/// Whose Ethernet address this is.
pub fn mac_owner(mac: &[u8]) -> Option<u32> {
    match *mac {
        [x, y, z, a, b, c] if [x, y, z] == PREFIX => Some(u32::from_be_bytes([0, a, b, c])),
        _ => None,
    }
}

/// Whether a datagram's checksums are right; no UDP checksum is right too.
pub fn is_intact(frame: &[u8]) -> bool {
    let Some(length) = frame.get(ETH + 2..ETH + 4) else { return false };
    let length = usize::from(u16::from_be_bytes([length[0], length[1]])) + ETH;
    let Some(frame) = frame.get(..length).filter(|frame| frame.len() >= PAYLOAD) else { return false };
    let no_sum = frame[UDP + 6..UDP + 8] == [0, 0];
    fold(sum(&frame[ETH..UDP])) == 0xffff && (no_sum || fold(udp_sum(frame)) == 0xffff)
}

/// Writes both checksums of a datagram, whose fields for them are zero.
///
/// # Panics
/// If the frame is shorter than [`PAYLOAD`].
pub fn finish(frame: &mut [u8]) {
    let ip = !fold(sum(&frame[ETH..UDP]));
    frame[ETH + 10..ETH + 12].copy_from_slice(&ip.to_be_bytes());
    let udp = !fold(udp_sum(frame));
    frame[UDP + 6..UDP + 8].copy_from_slice(&(if udp == 0 { 0xffff } else { udp }).to_be_bytes());
}

fn udp_sum(frame: &[u8]) -> u32 {
    let length = (frame.len() - UDP) as u32;
    // With the pseudo header: both addresses, the protocol and the length.
    sum(&frame[UDP..]) + sum(&frame[ETH + 12..ETH + 20]) + 17 + length
}

fn sum(bytes: &[u8]) -> u32 {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let odd = rest.first().map_or(0, |last| u32::from(*last) << 8);
    pairs.iter().map(|pair| u32::from(u16::from_be_bytes(*pair))).sum::<u32>() + odd
}

fn fold(sum: u32) -> u16 {
    let once = (sum & 0xffff) + (sum >> 16);
    ((once & 0xffff) + (once >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_known_by_their_addresses() {
        for client in [0, 1, 511, 1_000_000] {
            assert_eq!((owner(address(client)), mac_owner(&mac(client))), (Some(client), Some(client)));
        }
        assert_eq!((owner(SERVER), mac_owner(&SERVER_MAC)), (None, None));
    }
}
