//! Requests as real clients send them. For EDK2 the options, their order and the lengths are those seen on the
//! wire; for iPXE the options and the length, for U-Boot the fields that matter. What dhclient and udhcpc send
//! stands for them: usual options, padded to 300 bytes.
//!
//! [`Client`] says who, its methods say what; every field of the [`Packet`] may be changed before
//! [`Packet::frame`] puts headers and checksums around it. The checksums here are computed by another
//! algorithm than boot-common's, so that one can check the other.

use std::net::{Ipv4Addr, SocketAddrV4};

use boot_common::Mac;

/// What sends a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// UEFI's own PXE on x86-64.
    Edk2Pxe,
    /// UEFI's own PXE on 64-bit Arm.
    Edk2PxeArm64,
    /// UEFI HTTP Boot on x86-64.
    Edk2Http,
    /// iPXE in a legacy BIOS.
    IpxeBios,
    /// iPXE in UEFI on x86-64, which still says it is PXE firmware.
    IpxeEfi,
    /// ISC's client.
    Dhclient,
    /// Busybox's client.
    Udhcpc,
    /// U-Boot's first round, on 64-bit Arm.
    Uboot,
}

impl Client {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Edk2Pxe,
        Self::Edk2PxeArm64,
        Self::Edk2Http,
        Self::IpxeBios,
        Self::IpxeEfi,
        Self::Dhclient,
        Self::Udhcpc,
        Self::Uboot,
    ];

    /// Looks for servers.
    pub fn discover(self, mac: Mac) -> Packet {
        self.packet(mac, 1, &[])
    }

    /// Takes the offer of `address` by `server`.
    pub fn request(self, mac: Mac, address: Ipv4Addr, server: Ipv4Addr) -> Packet {
        self.packet(mac, 3, &[option(54, &server.octets()), option(50, &address.octets())])
    }

    /// Asks for its old address after a reboot.
    pub fn reboot(self, mac: Mac, address: Ipv4Addr) -> Packet {
        self.packet(mac, 3, &[option(50, &address.octets())])
    }

    /// Has `address` and asks `server` for the lease to go on.
    pub fn renew(self, mac: Mac, address: Ipv4Addr, server: Ipv4Addr) -> Packet {
        let packet = self.packet(mac, 3, &[]);
        Packet { flags: 0, ..packet }.with_address(address, server)
    }

    /// Has `address` and wants options only.
    pub fn inform(self, mac: Mac, address: Ipv4Addr, server: Ipv4Addr) -> Packet {
        self.packet(mac, 8, &[]).with_address(address, server)
    }

    /// Has `address` from another server and asks `server` for the boot file, on port 4011.
    pub fn ask_boot_server(self, mac: Mac, address: Ipv4Addr, server: Ipv4Addr) -> Packet {
        let mut packet = self.packet(mac, 3, &[]).with_address(address, server);
        packet.destination.set_port(4011);
        if matches!(self, Self::Edk2Pxe | Self::Edk2PxeArm64) {
            packet.source.set_port(4011);
        }
        packet
    }

    fn packet(self, mac: Mac, message: u8, more: &[(u8, Vec<u8>)]) -> Packet {
        let mut options = vec![option(53, &[message])];
        let mut packet = Packet::empty(mac);
        match self {
            Self::Edk2Pxe | Self::Edk2PxeArm64 | Self::Edk2Http => {
                packet.flags = 0x8000;
                let taken = more.iter().any(|(code, _)| *code == 54);
                options.extend_from_slice(more);
                // Sic: it says 65280 once it has an offer.
                options.push(option(57, &if taken { 0xff00_u16 } else { 1472 }.to_be_bytes()));
                options.extend(self.edk2());
            }
            Self::IpxeBios | Self::IpxeEfi => {
                packet.secs = 4;
                options.push(option(57, &1472_u16.to_be_bytes()));
                options.extend(self.ipxe(mac));
                options.extend_from_slice(more);
            }
            Self::Dhclient => {
                options.extend_from_slice(more);
                options.push(option(12, b"rack1-node1"));
                options.push(option(55, &[1, 28, 2, 3, 15, 6, 119, 12, 44, 47, 26, 121, 42]));
                packet.shortest = 300;
            }
            Self::Udhcpc => {
                options.push((61, [&[1][..], &mac.0].concat()));
                options.extend_from_slice(more);
                options.push(option(57, &576_u16.to_be_bytes()));
                options.push(option(55, &[1, 3, 6, 12, 15, 28, 42]));
                options.push(option(60, b"udhcp 1.35.0"));
                packet.shortest = 300;
            }
            Self::Uboot => {
                options.push(option(57, &576_u16.to_be_bytes()));
                options.extend_from_slice(more);
                options.push(option(93, &22_u16.to_be_bytes()));
                options.push(option(94, &[1, 0, 0]));
                options.push(option(60, b"U-Boot.armv8"));
                options.push(option(55, &[1, 3, 6, 12, 15, 17, 26]));
                packet.file = b"boot.scr.uimg".to_vec();
                packet.shortest = 300;
                packet.udp_checksum = false;
            }
        }
        packet.options = options;
        packet
    }

    fn edk2(self) -> Vec<(u8, Vec<u8>)> {
        const PXE: [u8; 35] = [
            1, 2, 3, 4, 5, 6, 12, 13, 15, 17, 18, 22, 23, 28, 40, 41, 42, 43, 50, 51, 54, 58, 59, 60, 66, 67,
            97, 128, 129, 130, 131, 132, 133, 134, 135,
        ];
        const HTTP: [u8; 27] = [
            1, 2, 3, 4, 5, 6, 12, 13, 15, 17, 18, 22, 23, 28, 40, 41, 42, 43, 50, 51, 54, 58, 59, 60, 67, 97,
            235,
        ];
        let (arch, wanted, class): (u16, &[u8], &str) = match self {
            Self::Edk2Http => (16, &HTTP, "HTTPClient:Arch:00016:UNDI:003000"),
            Self::Edk2PxeArm64 => (11, &PXE, "PXEClient:Arch:00011:UNDI:003000"),
            _ => (7, &PXE, "PXEClient:Arch:00007:UNDI:003000"),
        };
        vec![
            option(55, wanted),
            option(97, &GUID),
            option(94, &[1, 3, 0]),
            option(93, &arch.to_be_bytes()),
            option(60, class.as_bytes()),
        ]
    }

    fn ipxe(self, mac: Mac) -> Vec<(u8, Vec<u8>)> {
        let (arch, undi, class): (u16, &[u8], &str) = match self {
            Self::IpxeBios => (0, &[1, 2, 1], "PXEClient:Arch:00000:UNDI:002001"),
            _ => (7, &[1, 3, 16], "PXEClient:Arch:00007:UNDI:003016"),
        };
        let mut encapsulated = vec![177, 5, 1, 0x80, 0x86, 0x10, 0x0e, 235, 3, 1, 0, 0];
        for feature in [16_u8, 18, 19, 20, 23, 24, 25, 33] {
            encapsulated.extend([feature, 1, 1]);
        }
        vec![
            option(93, &arch.to_be_bytes()),
            option(94, undi),
            option(60, class.as_bytes()),
            option(77, b"iPXE"),
            option(
                55,
                &[
                    1, 3, 6, 7, 12, 15, 17, 26, 43, 60, 66, 67, 119, 128, 129, 130, 131, 132, 133, 134, 135,
                    175, 203,
                ],
            ),
            (175, encapsulated),
            (61, [&[1][..], &mac.0].concat()),
            option(97, &GUID),
        ]
    }
}

/// Type 0 and an SMBIOS UUID.
const GUID: [u8; 17] =
    [0, 0x04, 0x0c, 0x5c, 0x6e, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc];

/// An option's code and data.
pub fn option(code: u8, data: &[u8]) -> (u8, Vec<u8>) {
    (code, data.to_vec())
}

/// A DHCP request and what goes around it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Ethernet's sender.
    pub eth_source: Mac,
    /// Ethernet's receiver.
    pub eth_destination: Mac,
    /// IP's and UDP's sender.
    pub source: SocketAddrV4,
    /// IP's and UDP's receiver.
    pub destination: SocketAddrV4,
    /// Whether there is a UDP checksum.
    pub udp_checksum: bool,
    /// Relays passed.
    pub hops: u8,
    /// Transaction.
    pub xid: u32,
    /// Seconds since the client began.
    pub secs: u16,
    /// 0x8000 for broadcast answers.
    pub flags: u16,
    /// The client's address.
    pub ciaddr: Ipv4Addr,
    /// The relay's address.
    pub giaddr: Ipv4Addr,
    /// The client.
    pub chaddr: Mac,
    /// The `file` field.
    pub file: Vec<u8>,
    /// Options in their order; END comes by itself.
    pub options: Vec<(u8, Vec<u8>)>,
    /// The message is padded to this length.
    pub shortest: usize,
}

impl Packet {
    /// A broadcast without options.
    pub fn empty(mac: Mac) -> Self {
        let Mac([_, _, a, b, c, d]) = mac;
        Self {
            eth_source: mac,
            eth_destination: Mac::BROADCAST,
            source: SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68),
            destination: SocketAddrV4::new(Ipv4Addr::BROADCAST, 67),
            udp_checksum: true,
            hops: 0,
            xid: u32::from_be_bytes([a, b, c, d]) ^ 0x5a17_c0de,
            secs: 0,
            flags: 0,
            ciaddr: Ipv4Addr::UNSPECIFIED,
            giaddr: Ipv4Addr::UNSPECIFIED,
            chaddr: mac,
            file: Vec::new(),
            options: Vec::new(),
            shortest: 0,
        }
    }

    /// From a client that has an address, straight to the server. Its Ethernet frame is still a broadcast,
    /// which our hooks take: they need not know who has which MAC.
    fn with_address(mut self, address: Ipv4Addr, server: Ipv4Addr) -> Self {
        self.ciaddr = address;
        self.source.set_ip(address);
        self.destination.set_ip(server);
        self
    }

    /// As a relay passes it on: with option 82 (circuit and remote) behind the client's own options.
    pub fn relayed(mut self, relay: Ipv4Addr, server: Ipv4Addr) -> Self {
        self.hops += 1;
        self.giaddr = relay;
        self.eth_source = Mac([2, 0, 0, 0, 0, 0xfe]);
        self.source = SocketAddrV4::new(relay, 67);
        self.destination.set_ip(server);
        let mut agent = vec![1, 4];
        agent.extend(b"ge-1");
        agent.extend([2, 6]);
        agent.extend(self.chaddr.0);
        self.options.push((82, agent));
        self
    }

    /// The same with one more option.
    pub fn with(mut self, code: u8, data: &[u8]) -> Self {
        self.options.push(option(code, data));
        self
    }

    /// The DHCP message.
    pub fn payload(&self) -> Vec<u8> {
        let mut bytes = vec![1, 1, 6, self.hops];
        bytes.extend(self.xid.to_be_bytes());
        bytes.extend(self.secs.to_be_bytes());
        bytes.extend(self.flags.to_be_bytes());
        bytes.extend(self.ciaddr.octets());
        bytes.extend([0; 8]);
        bytes.extend(self.giaddr.octets());
        bytes.extend(self.chaddr.0);
        bytes.resize(108, 0);
        bytes.extend(&self.file);
        bytes.resize(236, 0);
        bytes.extend([0x63, 0x82, 0x53, 0x63]);
        for (code, data) in &self.options {
            bytes.extend([*code, u8::try_from(data.len()).expect("an option's data fits")]);
            bytes.extend(data);
        }
        bytes.push(255);
        bytes.resize(bytes.len().max(self.shortest), 0);
        bytes
    }

    /// The whole Ethernet frame.
    pub fn frame(&self) -> Vec<u8> {
        let payload = self.payload();
        udp_frame(self.eth_source, self.eth_destination, self.source, self.destination, &payload)
            .tap(|frame| if self.udp_checksum { fix_checksums(frame) } else { fix_ip_checksum(frame) })
    }
}

/// Changes a value in passing.
trait Tap: Sized {
    fn tap(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

impl Tap for Vec<u8> {}

/// A TFTP read request, for a frame that is ours but not DHCP.
pub fn tftp_read(mac: Mac, from: Ipv4Addr, server: Ipv4Addr, name: &str) -> Vec<u8> {
    let payload = [b"\0\x01", name.as_bytes(), b"\0octet\0blksize\x001432\0tsize\x000\0"].concat();
    let (from, to) = (SocketAddrV4::new(from, 2070), SocketAddrV4::new(server, 69));
    udp_frame(mac, Mac::BROADCAST, from, to, &payload).tap(|frame| fix_checksums(frame))
}

/// A frame of somebody else's: a name query between two other machines.
pub fn foreign(mac: Mac) -> Vec<u8> {
    let from = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 7), 40_000);
    let to = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 53), 53);
    udp_frame(mac, Mac([2, 0, 0, 0, 0, 53]), from, to, &[0; 40]).tap(|frame| fix_checksums(frame))
}

fn udp_frame(
    eth_source: Mac,
    eth_destination: Mac,
    source: SocketAddrV4,
    destination: SocketAddrV4,
    payload: &[u8],
) -> Vec<u8> {
    let mut frame = [&eth_destination.0[..], &eth_source.0, &[8, 0]].concat();
    frame.extend([0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0]);
    frame.extend(source.ip().octets());
    frame.extend(destination.ip().octets());
    frame.extend(source.port().to_be_bytes());
    frame.extend(destination.port().to_be_bytes());
    frame.extend([0; 4]);
    frame.extend(payload);
    fix_lengths(&mut frame);
    frame
}

/// Makes IP's and UDP's lengths those of the frame.
pub fn fix_lengths(frame: &mut [u8]) {
    if let Ok(total) = u16::try_from(frame.len().saturating_sub(14))
        && total >= 28
    {
        frame[16..18].copy_from_slice(&total.to_be_bytes());
        frame[38..40].copy_from_slice(&(total - 20).to_be_bytes());
    }
}

/// Makes IP's checksum right.
pub fn fix_ip_checksum(frame: &mut [u8]) {
    if frame.len() >= 34 {
        frame[24..26].fill(0);
        let sum = checksum(&[&frame[14..34]]);
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
    }
}

/// Makes IP's and UDP's checksums right, as far as the frame's lengths make sense.
pub fn fix_checksums(frame: &mut [u8]) {
    fix_ip_checksum(frame);
    if let Some(end) = udp_end(frame) {
        frame[40..42].fill(0);
        let sum = match udp_checksum(frame, end) {
            0 => 0xffff,
            sum => sum,
        };
        frame[40..42].copy_from_slice(&sum.to_be_bytes());
    }
}

/// Whether IP's and UDP's checksums are there and right.
pub fn checksums_are_right(frame: &[u8]) -> bool {
    frame.len() >= 42
        && checksum(&[&frame[14..34]]) == 0
        && frame[40..42] != [0, 0]
        && udp_end(frame).is_some_and(|end| udp_checksum(frame, end) == 0)
}

/// Where the UDP datagram ends, if it is all there.
fn udp_end(frame: &[u8]) -> Option<usize> {
    let length = usize::from(u16::from_be_bytes([*frame.get(38)?, *frame.get(39)?]));
    (length >= 8 && 34 + length <= frame.len()).then_some(34 + length)
}

fn udp_checksum(frame: &[u8], end: usize) -> u16 {
    checksum(&[&frame[26..34], &[0, 17], &frame[38..40], &frame[34..end]])
}

/// RFC 1071 by the letter, over pieces of which all but the last have an even length: `!(sum mod 0xffff)`.
fn checksum(pieces: &[&[u8]]) -> u16 {
    let bytes = pieces.concat();
    let sum = bytes
        .chunks(2)
        .map(|pair| u64::from(pair[0]) * 256 + pair.get(1).copied().map_or(0, u64::from))
        .sum::<u64>();
    // The residues 0 and 0xffff are the same number; a sum of nothing but zeros is the former.
    let residue = if sum == 0 { 0 } else { (sum - 1) % 0xffff + 1 };
    0xffff - u16::try_from(residue).expect("a residue of 0xffff")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = Mac([0x52, 0x54, 0, 0, 0, 1]);

    #[test]
    fn the_clients_messages_have_the_right_lengths() {
        let length = |client: Client| client.discover(MAC).payload().len();
        assert_eq!(length(Client::Edk2Pxe), 347);
        assert_eq!(length(Client::Edk2PxeArm64), 347);
        assert_eq!(length(Client::Edk2Http), 340);
        assert!((388..=407).contains(&length(Client::IpxeBios)), "{}", length(Client::IpxeBios));
        assert!((388..=407).contains(&length(Client::IpxeEfi)), "{}", length(Client::IpxeEfi));
        assert_eq!(length(Client::Dhclient), 300);
        assert_eq!(length(Client::Udhcpc), 300);
        assert_eq!(length(Client::Uboot), 300);
    }

    #[test]
    fn checksums_are_what_the_other_implementation_says() {
        for client in Client::ALL {
            let frame = client.discover(MAC).frame();
            assert_eq!(boot_common::wire::Sum::ZERO.bytes(&frame[14..34]).folded(), 0xffff, "{client:?}");
            assert_eq!(checksums_are_right(&frame), client != Client::Uboot, "{client:?}");
        }
        let mut frame = Client::Edk2Pxe.discover(MAC).frame();
        frame[100] ^= 1;
        assert!(!checksums_are_right(&frame));
    }
}
