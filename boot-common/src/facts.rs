//! What a DHCP request says, as far as an answer depends on it.
//!
//! The options are scanned one [`step`](OptionScan::step) at a time, because the kernel half has to drive the loop
//! by `bpf_loop`: unrolled, the verifier gives up after 16 options.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::Reason;
use crate::class::{Class, Firmware, Stage};
use crate::wire::{BUFFER, Request, option};

/// How many [`step`](OptionScan::step)s are taken at most. Firmware needs 12, dhclient 9. What the daemon has put together
/// of a message with more never needs as many: each option that is read once, and two of 127 sub-options.
pub const MAX_STEPS: u32 = 288;

/// How many PAD octets one step passes over at most.
const PADS_AT_ONCE: u32 = 16;

/// What starts option 60 of a PXE client (PXE 2.1 section 2.2).
const PXE_CLIENT: &[u8; 9] = b"PXEClient";
/// What starts option 60 of a UEFI HTTP Boot client (UEFI 2.10 section 24.7).
const HTTP_CLIENT: &[u8; 10] = b"HTTPClient";

/// What starts option 60 of U-Boot, which boards write with either letter.
const UBOOT: [&[u8; 6]; 2] = [b"U-Boot", b"U-boot"];
/// What starts option 60 of u-root, the Linux in LinuxBoot's firmware.
const UROOT: &[u8; 9] = b"PXE UROOT";

/// A whole option (code, length and data) in the request frame; length 0 when it was not sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Span {
    /// Offset of the option's code, from the start of the frame.
    pub offset: u32,
    /// Bytes, code and length octets included.
    pub length: u32,
}

/// What option 60 says.
pub mod vendor {
    /// Nothing, or something else.
    pub const OTHER: u8 = 0;
    /// "PXEClient…"
    pub const PXE: u8 = 1;
    /// "HTTPClient…"
    pub const HTTP: u8 = 2;
    /// The class of a boot loader that is no PXE client: U-Boot, u-root.
    pub const LOADER: u8 = 3;
}

/// What iPXE can do, as far as scripts depend on it: bits of [`Facts::features`] for sub-options of option 175.
pub mod feature {
    /// It has named features at all: older builds, and others that send option 175, do not.
    pub const NAMED: u8 = 1;
    /// It fetches by HTTP (19).
    pub const HTTP: u8 = 2;
    /// It boots kernels in BIOS (24).
    pub const BZIMAGE: u8 = 4;
    /// It boots kernels in EFI (36).
    pub const EFI: u8 = 8;
}

/// The options of one request that matter here. Numbers rather than enums: it lives in a kernel map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Facts {
    /// Client identifier, to be returned unaltered (RFC 6842).
    pub client_id: Span,
    /// Client machine identifier (97), only when it has its right form.
    pub guid: Span,
    /// Relay agent information (82), to be returned unaltered and last (RFC 3046).
    pub relay: Span,
    /// Address asked for (50).
    pub requested: [u8; 4],
    /// Server chosen (54).
    pub server_id: [u8; 4],
    /// The subnet a relay names beside its own address (82.5, RFC 3527), 0.0.0.0 if it does not.
    pub link_selection: [u8; 4],
    /// The server identifier a relay wants to be used (82.11, RFC 5107), 0.0.0.0 if it does not say.
    pub server_override: [u8; 4],
    /// Hash of the parameter request list (55), see [`wanted`]; 0 if there is none.
    pub wanted: u32,
    /// Longest DHCP message the client takes (57), 0 if it does not say.
    pub max_size: u16,
    /// First architecture code (93).
    pub arch: u16,
    /// DHCP message type (53), 0 if there is none.
    pub message: u8,
    /// One of [`vendor`].
    pub vendor: u8,
    /// 1 when option 93 was sent in its right form.
    pub has_arch: u8,
    /// 1 when the client is iPXE.
    pub is_ipxe: u8,
    /// 1 when options continue in `file` or `sname`.
    pub overload: u8,
    /// 1 when the client's address is one of Raspberry Pi's. Not an option; [`respond`](crate::respond::respond) adds it.
    pub is_raspberry_pi: u8,
    /// 1 when the parameter request list has the host name (12).
    pub wants_name: u8,
    /// 1 when a relay wants its answers at the port that it sends from (82.19, RFC 8357).
    pub relay_source_port: u8,
    /// Bits of [`feature`].
    pub features: u8,
    /// Always 0.
    pub reserved: [u8; 3],
}

impl Facts {
    /// Whether the client gets its machine's name: if it asks for it, or says nothing of what it wants.
    #[inline(always)]
    #[must_use]
    pub fn gets_name(&self) -> bool {
        self.wanted == 0 || self.wants_name != 0
    }

    /// Firmware kind and stage.
    ///
    /// Firmware is whoever shows an architecture (93) or the class (60) of a PXE client or of a boot loader. iPXE counts
    /// by user class or option 175 even without one: older builds leave option 60 out of the REQUEST.
    #[inline(always)]
    #[must_use]
    pub fn class(&self) -> Class {
        let firmware = self.firmware();
        if self.is_ipxe != 0 {
            let stage = if self.is_reduced() { Stage::ReducedIpxe } else { Stage::Ipxe };
            Class { firmware, stage }
        } else if self.vendor != vendor::OTHER || self.has_arch != 0 {
            Class { firmware, stage: Stage::Rom }
        } else {
            Class::OS
        }
    }

    /// Whether a proxy's offer is for it (PXE 2.1 section 2.2): others would take an offer without an address for theirs.
    #[inline(always)]
    #[must_use]
    pub fn heeds_proxies(&self) -> bool {
        self.is_ipxe != 0 || self.vendor == vendor::PXE || self.vendor == vendor::HTTP
    }

    /// Whether it is an iPXE that cannot run the scripts: without HTTP, or without a kernel format of its firmware.
    #[inline(always)]
    #[must_use]
    pub fn is_reduced(&self) -> bool {
        let has = |features: u8| self.features & features != 0;
        has(feature::NAMED) && !(has(feature::HTTP) && has(feature::BZIMAGE | feature::EFI))
    }

    /// The firmware kind, by option 93; about HTTP option 60 goes before it.
    #[inline(always)]
    #[must_use]
    pub fn firmware(&self) -> Firmware {
        let named = if self.has_arch != 0 {
            Firmware::from_arch(self.arch)
        } else if self.vendor == vendor::HTTP {
            Firmware::HttpX64
        } else {
            Firmware::Bios
        };
        if self.vendor == vendor::HTTP {
            named.over_http()
        } else if self.vendor == vendor::LOADER && (self.has_arch == 0 || named == Firmware::Other) {
            // Many boards' U-Boot says 256, which is nobody's number.
            Firmware::None
        } else if named == Firmware::Bios && self.is_raspberry_pi != 0 {
            // There is no BIOS on these; their boot ROMs say 0 for want of a number of their own.
            Firmware::RaspberryPi
        } else {
            named
        }
    }
}

/// State of the scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct OptionScan {
    /// What was found.
    pub facts: Facts,
    /// Offset of the next option in the frame.
    at: u32,
    /// Where the frame ends.
    end: u32,
    /// One of the `STATUS_` numbers.
    status: u32,
    /// One bit for each option that must not come twice.
    seen: u32,
    /// Where option 82 or 175 ends while its sub-options are scanned, else 0.
    inner_end: u32,
    /// The code of that option.
    inner_code: u32,
}

/// RFC 3527.
const RELAY_LINK_SELECTION: u8 = 5;
/// RFC 5107.
const RELAY_SERVER_OVERRIDE: u8 = 11;
/// RFC 8357; it has no data.
const RELAY_SOURCE_PORT: u8 = 19;
/// iPXE's features in option 175 are these codes, each with a version.
const IPXE_FEATURES: core::ops::Range<u8> = 16..48;
const IPXE_HTTP: u8 = 19;
const IPXE_BZIMAGE: u8 = 24;
const IPXE_EFI: u8 = 36;
const STATUS_DONE: u32 = 1;
const STATUS_BAD_OPTION: u32 = 2;
const STATUS_SPLIT: u32 = 3;

#[inline(always)]
fn byte(request: &Request, offset: u32) -> u8 {
    request.as_bytes().get(offset as usize & (BUFFER - 1)).copied().unwrap_or(0)
}

#[inline(always)]
fn four(request: &Request, offset: u32) -> [u8; 4] {
    [byte(request, offset), byte(request, offset + 1), byte(request, offset + 2), byte(request, offset + 3)]
}

#[inline(always)]
fn starts_with<const N: usize>(request: &Request, offset: u32, length: u32, with: &[u8; N]) -> bool {
    let mut equal = length >= N as u32;
    let mut i = 0;
    while i < N {
        equal &= with.get(i).copied() == Some(byte(request, offset + i as u32));
        i += 1;
    }
    equal
}

/// The longest parameter request list that is told from others: firmware asks for at most 36 options.
const LONGEST_WANTED: u32 = 64;

/// The number that stands for a parameter request list in an answer's key (FNV-1a, never 0).
///
/// Two lists with the same number would get the same options, which does no harm.
#[must_use]
pub fn wanted(list: &[u8]) -> u32 {
    match list.get(..LONGEST_WANTED as usize) {
        Some(start) => start,
        None => list,
    }
    .iter()
    .fold(FNV_START, |hash, code| fnv(hash, *code))
        | 1
}

/// The number of a list, and 1 if the host name is in it.
#[inline(always)]
fn list_in(request: &Request, data: u32, length: u32) -> (u32, u8) {
    let mut hash = FNV_START;
    let mut names = 0;
    let mut i = 0;
    while i < LONGEST_WANTED {
        if i >= length {
            break;
        }
        let code = byte(request, data + i);
        hash = fnv(hash, code);
        // Without a branch, each of which doubles what the verifier has to follow: the top bit of 0 - 1.
        names |= u32::from(code ^ option::HOST_NAME).wrapping_sub(1) >> 31;
        i += 1;
    }
    (hash | 1, names as u8)
}

const FNV_START: u32 = 0x811c_9dc5;

#[inline(always)]
fn fnv(hash: u32, code: u8) -> u32 {
    (hash ^ u32::from(code)).wrapping_mul(0x0100_0193)
}

impl OptionScan {
    /// Nothing scanned yet.
    #[must_use]
    pub fn empty() -> Self {
        zerocopy::FromZeros::new_zeroed()
    }

    /// Begins anew: the options of the frame lie at `at..end`.
    #[inline(always)]
    pub fn begin(&mut self, at: u32, end: u32) {
        *self = Self::empty();
        self.at = at;
        self.end = end;
    }

    /// The result.
    ///
    /// # Errors
    /// [`Reason::BadOption`], [`Reason::SplitOption`], [`Reason::TooManyOptions`], or
    /// [`Reason::Overload`].
    #[inline(always)]
    pub fn finish(&self) -> Result<&Facts, Reason> {
        match self.status {
            STATUS_DONE if self.facts.overload != 0 => Err(Reason::Overload),
            STATUS_DONE => Ok(&self.facts),
            STATUS_BAD_OPTION => Err(Reason::BadOption),
            STATUS_SPLIT => Err(Reason::SplitOption),
            _ => Err(Reason::TooManyOptions),
        }
    }

    /// Looks at one option and the PAD before it, or at one sub-option of the relay's or iPXE's. True when there is nothing
    /// more to look at.
    ///
    /// A packet that ends without END is taken as it is: some clients do that.
    #[inline(always)]
    pub fn step(&mut self, request: &Request) -> bool {
        let mut at = self.at;
        if self.inner_end != 0 {
            self.step_inside(request, at);
            return false;
        }
        let mut pads = 0;
        while pads < PADS_AT_ONCE && byte(request, at) == option::PAD {
            at += 1;
            pads += 1;
        }
        if at >= self.end {
            self.status = STATUS_DONE;
            return true;
        }
        let code = byte(request, at);
        if code == option::PAD {
            self.at = at;
            return false;
        }
        if code == option::END {
            self.status = STATUS_DONE;
            return true;
        }
        if at + 2 > self.end {
            self.status = STATUS_BAD_OPTION;
            return true;
        }
        let length = u32::from(byte(request, at + 1));
        let next = at + 2 + length;
        if next > self.end {
            self.status = STATUS_BAD_OPTION;
            return true;
        }
        let bit = self.note(request, code, at, length);
        if self.seen & bit != 0 {
            self.status = STATUS_SPLIT;
            return true;
        }
        self.seen |= bit;
        if code == option::RELAY_AGENT || code == option::IPXE {
            self.inner_end = next;
            self.inner_code = u32::from(code);
            self.at = at + 2;
        } else {
            self.at = next;
        }
        false
    }

    /// One sub-option of option 82 or 175. What does not fit together ends the look inside, not the scan: option 82 is
    /// the relay's, and is returned as it came.
    #[inline(always)]
    fn step_inside(&mut self, request: &Request, at: u32) {
        let end = self.inner_end;
        let data = at + 2;
        let length = u32::from(byte(request, at + 1));
        if data > end || data + length > end {
            self.at = end;
            self.inner_end = 0;
            return;
        }
        let code = byte(request, at);
        if self.inner_code == u32::from(option::IPXE) {
            if IPXE_FEATURES.contains(&code) {
                self.facts.features |= feature::NAMED
                    | match code {
                        IPXE_HTTP => feature::HTTP,
                        IPXE_BZIMAGE => feature::BZIMAGE,
                        IPXE_EFI => feature::EFI,
                        _ => 0,
                    };
            }
        } else {
            match (code, length) {
                (RELAY_LINK_SELECTION, 4) => self.facts.link_selection = four(request, data),
                // Only a relay can be in our place.
                (RELAY_SERVER_OVERRIDE, 4) if request.bootp.giaddr != [0; 4] => {
                    self.facts.server_override = four(request, data);
                }
                (RELAY_SOURCE_PORT, 0) => self.facts.relay_source_port = 1,
                _ => {}
            }
        }
        self.at = data + length;
        if self.at >= end {
            self.inner_end = 0;
        }
    }

    /// Takes down an option that matters. Its bit in `seen`, or 0 for the others.
    #[inline(always)]
    fn note(&mut self, request: &Request, code: u8, at: u32, length: u32) -> u32 {
        let data = at + 2;
        let facts = &mut self.facts;
        let whole = Span { offset: at, length: length + 2 };
        match code {
            option::MESSAGE_TYPE => {
                if length == 1 {
                    facts.message = byte(request, data);
                }
                1
            }
            option::REQUESTED_ADDRESS => {
                if length == 4 {
                    facts.requested = four(request, data);
                }
                1 << 1
            }
            option::SERVER_ID => {
                if length == 4 {
                    facts.server_id = four(request, data);
                }
                1 << 2
            }
            option::MAX_SIZE => {
                if length == 2 {
                    facts.max_size = u16::from_be_bytes([byte(request, data), byte(request, data + 1)]);
                }
                1 << 3
            }
            option::VENDOR_CLASS => {
                if starts_with(request, data, length, PXE_CLIENT) {
                    facts.vendor = vendor::PXE;
                } else if starts_with(request, data, length, HTTP_CLIENT) {
                    facts.vendor = vendor::HTTP;
                } else if starts_with(request, data, length, UROOT)
                    // Some boards' have a blank before it.
                    || UBOOT.iter().any(|name| {
                        starts_with(request, data, length, name)
                            || starts_with(request, data + 1, length.saturating_sub(1), name)
                    })
                {
                    facts.vendor = vendor::LOADER;
                }
                1 << 4
            }
            option::CLIENT_ID => {
                facts.client_id = whole;
                1 << 5
            }
            option::USER_CLASS => {
                // iPXE sends the bare text; RFC 3004 wants a length octet before it.
                if starts_with(request, data, length, b"iPXE")
                    || starts_with(request, data + 1, length.saturating_sub(1), b"iPXE")
                {
                    facts.is_ipxe = 1;
                }
                1 << 6
            }
            option::PARAMETER_REQUEST => {
                (facts.wanted, facts.wants_name) = list_in(request, data, length);
                1 << 12
            }
            option::RELAY_AGENT => {
                facts.relay = whole;
                1 << 7
            }
            option::CLIENT_ARCH => {
                if length >= 2 && length & 1 == 0 {
                    facts.arch = u16::from_be_bytes([byte(request, data), byte(request, data + 1)]);
                    facts.has_arch = 1;
                }
                1 << 8
            }
            option::CLIENT_GUID => {
                if length == 17 && byte(request, data) == 0 {
                    facts.guid = whole;
                }
                1 << 9
            }
            option::IPXE => {
                facts.is_ipxe = 1;
                1 << 10
            }
            option::OVERLOAD => {
                if length == 1 && matches!(byte(request, data), 1..=3) {
                    facts.overload = 1;
                }
                1 << 11
            }
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use proptest::prelude::*;
    use zerocopy::FromZeros as _;

    use super::*;

    /// Scans `options` as a request that is nothing but options and has left-overs behind them.
    fn scan(options: &[u8]) -> OptionScan {
        let mut request = Request::new_zeroed();
        request.options.fill(option::OVERLOAD);
        request.options[..options.len()].copy_from_slice(options);
        let mut scan = OptionScan::empty();
        let start = u32::try_from(Request::OPTIONS).unwrap();
        scan.begin(start, start + u32::try_from(options.len()).unwrap());
        for _ in 0..MAX_STEPS {
            if scan.step(&request) {
                break;
            }
        }
        scan
    }

    fn facts(options: &[u8]) -> Result<Facts, Reason> {
        scan(options).finish().copied()
    }

    /// One option after the other, and END.
    fn list(options: &[(u8, &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (code, data) in options {
            bytes.push(*code);
            bytes.push(u8::try_from(data.len()).unwrap());
            bytes.extend_from_slice(data);
        }
        bytes.push(option::END);
        bytes
    }

    #[test]
    fn every_option_that_matters_is_taken_down() {
        let options = list(&[
            (53, &[3]),
            (50, &[10, 0, 0, 7]),
            (54, &[10, 0, 0, 1]),
            (57, &[5, 192]),
            (60, b"PXEClient:Arch:00007"),
            (61, &[1, 2, 3]),
            (93, &[0, 7, 0, 9]),
            (97, &[0; 17]),
            (82, &[1, 1, 9]),
        ]);
        let facts = facts(&options).unwrap();
        assert_eq!((facts.message, facts.requested, facts.server_id), (3, [10, 0, 0, 7], [10, 0, 0, 1]));
        assert_eq!((facts.max_size, facts.arch, facts.has_arch, facts.vendor), (1472, 7, 1, vendor::PXE));
        let text = |span: Span| {
            let start = usize::try_from(span.offset).unwrap() - Request::OPTIONS;
            options[start..start + usize::try_from(span.length).unwrap()].to_vec()
        };
        assert_eq!(text(facts.client_id), [61, 3, 1, 2, 3]);
        assert_eq!(text(facts.guid)[..2], [97, 17]);
        assert_eq!(text(facts.relay), [82, 3, 1, 1, 9]);
    }

    #[test]
    fn what_has_the_wrong_form_counts_as_not_sent() {
        let options = list(&[
            (53, &[1, 1]),
            (50, &[10, 0, 0]),
            (57, &[5]),
            (93, &[0, 7, 0]),
            (97, &[1; 17]),
            (60, b"PXE"),
        ]);
        assert_eq!(facts(&options), Ok(Facts::default()));
    }

    #[test]
    fn the_class_is_what_the_options_say() {
        let class = |options: &[(u8, &[u8])]| facts(&list(options)).unwrap().class();
        let rom = |firmware| Class { firmware, stage: Stage::Rom };
        let ipxe = |firmware| Class { firmware, stage: Stage::Ipxe };
        assert_eq!(class(&[(53, &[1])]), Class::OS);
        assert_eq!(class(&[(93, &[0, 7])]), rom(Firmware::EfiX64));
        assert_eq!(class(&[(93, &[0, 7, 0])]), Class::OS, "not in its right form");
        assert_eq!(class(&[(60, b"udhcp 1.35.0")]), Class::OS);
        assert_eq!(class(&[(60, b"PXEClient")]), rom(Firmware::Bios));
        assert_eq!(class(&[(60, b"HTTPClient")]), rom(Firmware::HttpX64));
        assert_eq!(class(&[(60, b"PXEClient"), (93, &[0, 11])]), rom(Firmware::EfiArm64));
        assert_eq!(class(&[(60, b"PXEClient"), (93, &[1, 0])]), rom(Firmware::Other));
        assert_eq!(class(&[(60, b"PXEClient"), (93, &[0, 41])]), rom(Firmware::RaspberryPi));
        assert_eq!(class(&[(60, b"HTTPClient"), (93, &[0, 24])]), rom(Firmware::UbootHttpArm64));
        assert_eq!(class(&[(60, b"HTTPClient"), (93, &[0, 11])]), rom(Firmware::HttpArm64));
        assert_eq!(class(&[(60, b"HTTPClient"), (93, &[0, 99])]), rom(Firmware::HttpOther));
        assert_eq!(class(&[(93, &[0, 7]), (77, b"iPXE")]), ipxe(Firmware::EfiX64));
        assert_eq!(class(&[(93, &[0, 7]), (77, b"\x04iPXE")]), ipxe(Firmware::EfiX64));
        assert_eq!(class(&[(60, b"PXEClient"), (175, &[])]), ipxe(Firmware::Bios));
        assert_eq!(class(&[(60, b"PXEClient"), (77, b"iPX")]), rom(Firmware::Bios));
    }

    #[test]
    fn a_raspberry_pi_is_no_bios() {
        let mut pi = Facts { vendor: vendor::PXE, is_raspberry_pi: 1, ..Facts::default() };
        assert_eq!(pi.class().firmware, Firmware::RaspberryPi);
        (pi.has_arch, pi.arch) = (1, 0);
        assert_eq!(pi.class().firmware, Firmware::RaspberryPi);
        pi.arch = 11;
        assert_eq!(pi.class().firmware, Firmware::EfiArm64, "with UEFI");
        (pi.vendor, pi.has_arch) = (vendor::OTHER, 0);
        assert_eq!(pi.class(), Class::OS);
    }

    /// The classes are as boards and boot loaders write them.
    #[test]
    fn boot_loaders_are_firmware_and_no_operating_systems() {
        let scanned = |class: &[u8], arch: &[u8]| {
            let options: &[(u8, &[u8])] = &[(53, &[1]), (60, class), (93, arch)];
            facts(&list(&options[..if arch.is_empty() { 2 } else { 3 }])).unwrap()
        };
        for (class, arch, wanted) in [
            (&b"U-Boot.armv8"[..], &[0, 22][..], Firmware::UbootArm64),
            (b"U-Boot.armv7", &[0, 21], Firmware::UbootArm32),
            (b"U-boot.armv8", &[1, 0], Firmware::None),
            (b" U-boot.armv8.armada3700", &[], Firmware::None),
            (b"U-Boot.riscv", &[0, 27], Firmware::EfiRiscv64),
            (b"PXE UROOT", &[], Firmware::None),
            // Petitboot's DHCP client, and a SmartNIC with a class of its own.
            (b"udhcp 1.35.0", &[0, 14], Firmware::PpcOpal),
            (b"BF2Client", &[0, 11], Firmware::EfiArm64),
        ] {
            let facts = scanned(class, arch);
            let rom = Class { firmware: wanted, stage: Stage::Rom };
            assert_eq!(facts.class(), rom, "{} {arch:?}", class.escape_ascii());
            assert!(!facts.heeds_proxies(), "{}", class.escape_ascii());
        }
        // U-Boot's EFI half says that it is a PXE client, and no more.
        let efi = scanned(b"PXEClient:Arch:00011:UNDI:003000", &[0, 11]);
        assert_eq!(efi.class(), Class { firmware: Firmware::EfiArm64, stage: Stage::Rom });
        assert!(efi.heeds_proxies());
        for class in [&b"U-Boo"[..], b"udhcp 1.35.0", b"dhcpcd-9.4.1", b"PXE"] {
            assert_eq!(scanned(class, &[]).class(), Class::OS, "{}", class.escape_ascii());
        }
    }

    /// The features are those of builds: codes 16 to 47, each of one octet.
    #[test]
    fn an_ipxe_without_http_or_a_kernel_format_is_reduced() {
        let stage = |codes: &[u8]| {
            let mut inner = std::vec![177, 5, 1, 0x1a, 0xf4, 0x10, 0, 235, 3, 1, 21, 1];
            inner.extend(codes.iter().flat_map(|code| [*code, 1, 1]));
            let options =
                list(&[(53, &[1]), (60, b"PXEClient"), (77, b"iPXE"), (175, &inner), (93, &[0, 0])]);
            let facts = facts(&options).unwrap();
            assert_eq!((facts.class().firmware, facts.has_arch), (Firmware::Bios, 1), "the scan goes on");
            facts.class().stage
        };
        for (codes, wanted) in [
            (&[][..], Stage::Ipxe),
            (&[33, 57, 34, 25, 24, 23, 21, 19, 17], Stage::Ipxe),
            (&[36, 19], Stage::Ipxe),
            (&[19, 24], Stage::Ipxe),
            (&[33, 24, 21], Stage::ReducedIpxe),
            (&[36, 21], Stage::ReducedIpxe),
            (&[19, 21, 33], Stage::ReducedIpxe),
        ] {
            assert_eq!(stage(codes), wanted, "{codes:?}");
        }
        let cut = facts(&list(&[(77, b"iPXE"), (175, &[21, 1, 1, 19, 9])])).unwrap();
        assert_eq!(cut.class().stage, Stage::ReducedIpxe, "what it has said whole counts");
        let relay = facts(&list(&[(82, &[19, 1, 1]), (175, &[5, 4, 1, 2, 3, 4])])).unwrap();
        assert_eq!((relay.features, relay.link_selection), (0, [0; 4]), "each option's codes are its own");
    }

    #[test]
    fn the_host_name_is_in_the_list_or_not() {
        for (codes, wants) in [(&[1, 3, 12][..], 1), (&[12], 1), (&[1, 3, 6], 0), (&[], 0)] {
            assert_eq!(facts(&list(&[(55, codes)])).unwrap().wants_name, wants, "{codes:?}");
        }
        assert_eq!(facts(&list(&[(53, &[12])])).unwrap().wants_name, 0);
    }

    #[test]
    fn the_scan_ends_where_the_frame_does() {
        assert_eq!(facts(&[]), Ok(Facts::default()));
        assert_eq!(facts(&[0, 0, 255, 53]), Ok(Facts::default()));
        assert_eq!(facts(&[53, 1, 1]).map(|facts| facts.message), Ok(1));
        for cut in [&[53][..], &[53, 1], &[53, 1, 1, 61, 2, 9], &[0, 61]] {
            assert_eq!(facts(cut), Err(Reason::BadOption), "{cut:?}");
        }
    }

    #[test]
    fn what_the_kernel_cannot_put_together_has_a_reason() {
        assert_eq!(facts(&list(&[(61, &[1]), (12, b"a"), (61, &[2])])), Err(Reason::SplitOption));
        assert_eq!(facts(&list(&[(12, b"a"), (12, b"b")])), Ok(Facts::default()));
        assert_eq!(facts(&list(&[(52, &[1])])), Err(Reason::Overload));
        assert_eq!(facts(&list(&[(52, &[4])])), Ok(Facts::default()));
    }

    #[test]
    fn a_scan_is_as_long_as_the_kernel_may_run_and_padding_is_no_step() {
        assert_eq!(facts(&[0; 1200]), Ok(Facts::default()));
        let steps = usize::try_from(MAX_STEPS).unwrap();
        let options = |number: usize| [0, 224, 0].repeat(number);
        assert_eq!(facts(&options(steps - 1)), Ok(Facts::default()));
        assert_eq!(facts(&options(steps)), Err(Reason::TooManyOptions));
        for pads in 0..70 {
            let bytes =
                [&std::vec![0; pads][..], &[53, 1, 1], &std::vec![0; pads], &[57, 2, 5, 192]].concat();
            let facts = facts(&bytes).unwrap();
            assert_eq!((facts.message, facts.max_size), (1, 1472), "{pads}");
        }
    }

    /// The daemon leaves out of a long message what is not in this list.
    #[test]
    fn every_option_that_is_read_is_in_the_list() {
        for code in 1..=254 {
            let scanned = |data: &[u8]| {
                let scan = scan(&list(&[(code, data)]));
                scan.seen != 0 || scan.facts != Facts::default()
            };
            let is_read =
                [&[1][..], &[0, 7], &[10, 0, 0, 1], &[0; 17], b"iPXE", b"PXEClient"].into_iter().any(scanned);
            assert_eq!(is_read || code == option::HOST_NAME, option::READ.contains(&code), "{code}");
        }
    }

    proptest! {
        /// A list that was put together from options is read back, whatever they are, by the plainest reading
        /// there is: the option's data, once, if it has the right length.
        #[test]
        fn a_scan_reads_what_was_written(
            options in prop::collection::btree_map(
                prop_oneof![1..=254_u8, Just(53), Just(50), Just(54), Just(57), Just(61), Just(93), Just(97)],
                prop::collection::vec(any::<u8>(), 0..24),
                0..20,
            ).prop_map(|options| options.into_iter().collect::<Vec<_>>()).prop_shuffle(),
            pads in 0..9_usize,
        ) {
            let mut bytes = std::vec![0; pads];
            bytes.extend(list(&options.iter().map(|(code, data)| (*code, &data[..])).collect::<Vec<_>>()));
            let data = |code: u8| options.iter().find(|(other, _)| *other == code).map(|(_, data)| &data[..]);
            let overload = matches!(data(52), Some([1..=3]));
            let found = facts(&bytes);
            if overload {
                prop_assert_eq!(found, Err(Reason::Overload));
                return Ok(());
            }
            let found = found.unwrap();
            let number = |code: u8| data(code).and_then(|data| <[u8; 2]>::try_from(data).ok()).map(u16::from_be_bytes);
            let four = |code: u8| data(code).and_then(|data| <[u8; 4]>::try_from(data).ok()).unwrap_or_default();
            prop_assert_eq!(found.message, match data(53) { Some([message]) => *message, _ => 0 });
            prop_assert_eq!(found.requested, four(50));
            prop_assert_eq!(found.server_id, four(54));
            prop_assert_eq!(found.max_size, number(57).unwrap_or(0));
            prop_assert_eq!(found.client_id.length, data(61).map_or(0, |data| u32::try_from(data.len()).unwrap() + 2));
            prop_assert_eq!(found.relay.length, data(82).map_or(0, |data| u32::try_from(data.len()).unwrap() + 2));
            prop_assert_eq!(found.has_arch, u8::from(data(93).is_some_and(|data| !data.is_empty() && data.len() % 2 == 0)));
        }

        /// Any bytes end in facts whose spans lie inside the frame, or in a reason.
        #[test]
        fn a_scan_stays_inside(options in prop::collection::vec(any::<u8>(), 0..300)) {
            let end = u32::try_from(Request::OPTIONS + options.len()).unwrap();
            if let Ok(facts) = facts(&options) {
                for span in [facts.client_id, facts.guid, facts.relay] {
                    prop_assert!(span.offset + span.length <= end, "{:?}", span);
                }
            }
        }
    }
}
