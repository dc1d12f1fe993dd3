//! The facts in a DHCP request's options that an answer depends on.
//!
//! The options are scanned one [`step`](OptionScan::step) at a time, because the kernel half has to drive the loop
//! by `bpf_loop`: if the loop is unrolled, the verifier gives up after 16 options.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::Reason;
use crate::class::{Class, Firmware, Stage};
use crate::wire::named;
use crate::wire::{BUFFER, Request, option};

/// The most [`step`](OptionScan::step)s of a scan. Firmware needs 12, dhclient 9. If a message has more options, the daemon
/// reassembles it to each option that is read, once, and two of 127 sub-options, which needs fewer steps.
pub const MAX_STEPS: u32 = 288;

/// The most PAD octets that one step skips.
const PADS_AT_ONCE: u32 = 16;

/// The beginning of a PXE client's option 60 (PXE 2.1 section 2.2).
const PXE_CLIENT: &[u8; 9] = b"PXEClient";
/// The beginning of a UEFI HTTP Boot client's option 60 (UEFI 2.10 section 24.7).
const HTTP_CLIENT: &[u8; 10] = b"HTTPClient";

/// The beginning of U-Boot's option 60; boards write it with either letter.
const UBOOT: [&[u8; 6]; 2] = [b"U-Boot", b"U-boot"];
/// The beginning of option 60 of u-root, the Linux in LinuxBoot's firmware.
const UROOT: &[u8; 9] = b"PXE UROOT";

/// The place of a whole option (code, length and data) in the request frame; length 0 if it was not sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Span {
    /// Offset of the option's code, from the start of the frame.
    pub offset: u32,
    /// Bytes, code and length octets included.
    pub length: u32,
}

/// The kinds of vendor class in option 60.
pub mod vendor {
    /// None, or another class.
    pub const OTHER: u8 = 0;
    /// "PXEClient…"
    pub const PXE: u8 = 1;
    /// "HTTPClient…"
    pub const HTTP: u8 = 2;
    /// The class of a boot loader that is not a PXE client: U-Boot, u-root.
    pub const LOADER: u8 = 3;
}

/// The features of iPXE that scripts depend on: bits of [`Facts::features`] for sub-options of option 175.
pub mod feature {
    /// The client has named features; older builds, and other clients that send option 175, name none.
    pub const NAMED: u8 = 1;
    /// HTTP (19).
    pub const HTTP: u8 = 2;
    /// Kernels in BIOS: bzImage (24).
    pub const BZIMAGE: u8 = 4;
    /// Kernels in EFI (36).
    pub const EFI: u8 = 8;
}

/// The options of one request that an answer depends on. Numbers rather than enums, because they are in a kernel map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Facts {
    /// Client identifier, to be returned unaltered (RFC 6842).
    pub client_id: Span,
    /// Client machine identifier (97), only if it is well-formed.
    pub guid: Span,
    /// Relay agent information (82), to be returned unaltered and last (RFC 3046).
    pub relay: Span,
    /// Requested address (50).
    pub requested: [u8; 4],
    /// Chosen server (54).
    pub server_id: [u8; 4],
    /// The subnet that a relay selects beside its own address (82.5, RFC 3527), 0.0.0.0 if it does not.
    pub link_selection: [u8; 4],
    /// The server identifier that a relay asks for (82.11, RFC 5107), 0.0.0.0 if it does not.
    pub server_override: [u8; 4],
    /// Hash of the parameter request list (55), see [`wanted`]; 0 if there is none.
    pub wanted: u32,
    /// The longest DHCP message that the client accepts (57), 0 if it does not say.
    pub max_size: u16,
    /// First architecture code (93).
    pub arch: u16,
    /// DHCP message type (53), 0 if there is none.
    pub message: u8,
    /// One of [`vendor`].
    pub vendor: u8,
    /// 1 when option 93 was sent and is well-formed.
    pub has_arch: u8,
    /// 1 when the client is iPXE.
    pub is_ipxe: u8,
    /// 1 when options continue in `file` or `sname`.
    pub overload: u8,
    /// 1 when the client's address is one of Raspberry Pi's. Not an option; [`respond`](crate::respond::respond) adds it.
    pub is_raspberry_pi: u8,
    /// 1 when the parameter request list has the host name (12).
    pub wants_name: u8,
    /// 1 when a relay asks for answers to its source port (82.19, RFC 8357).
    pub relay_source_port: u8,
    /// Bits of [`feature`].
    pub features: u8,
    /// Always 0.
    pub reserved: [u8; 3],
}

impl Facts {
    /// Whether the client gets its machine's name: if it asks for option 12 or sends no parameter request list.
    #[inline(always)]
    #[must_use]
    pub fn gets_name(&self) -> bool {
        self.wanted == 0 || self.wants_name != 0
    }

    /// The client's class: firmware kind and stage.
    ///
    /// A client is firmware if it sends an architecture (93) or the class (60) of a PXE client or of a boot loader. It is
    /// iPXE if it sends iPXE's user class or option 175, even without these: older builds leave option 60 out of the
    /// REQUEST.
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

    /// Whether the client understands a proxy's offer (PXE 2.1 section 2.2): other clients would take an offer without an
    /// address for an offer of one.
    #[inline(always)]
    #[must_use]
    pub fn heeds_proxies(&self) -> bool {
        self.is_ipxe != 0 || self.vendor == vendor::PXE || self.vendor == vendor::HTTP
    }

    /// Whether the client is an iPXE that cannot run the scripts: without HTTP, or without a kernel format.
    #[inline(always)]
    #[must_use]
    pub fn is_reduced(&self) -> bool {
        let has = |features: u8| self.features & features != 0;
        has(feature::NAMED) && !(has(feature::HTTP) && has(feature::BZIMAGE | feature::EFI))
    }

    /// The firmware kind, from option 93; for HTTP, option 60 takes precedence.
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
            // Many boards' U-Boot sends 256, which is not assigned.
            Firmware::None
        } else if named == Firmware::Bios && self.is_raspberry_pi != 0 {
            // A Raspberry Pi has no BIOS; its boot ROM sends 0 for want of a number of its own.
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
    /// The facts found so far.
    pub facts: Facts,
    /// Offset of the next option in the frame.
    at: u32,
    /// Offset behind the frame.
    end: u32,
    /// One of the `STATUS_` numbers.
    status: u32,
    /// One bit for each seen option that must not come twice.
    seen: u32,
    /// Offset behind option 82 or 175 while its sub-options are scanned, otherwise 0.
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

/// Bytes of a parameter request list that its hash covers: firmware asks for at most 36 options.
const LONGEST_WANTED: u32 = 64;

/// The hash of a parameter request list in an answer's key (FNV-1a, never 0).
///
/// Two lists with the same hash would get the same options, which does no harm.
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

/// The hash of a list, and 1 if the host name is in it.
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
        // The top bit of 0 - 1, without a branch: each branch doubles the paths that the verifier has to follow.
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
    /// A scan that has not begun.
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

    /// Reads one option and the PAD before it, or one sub-option of the relay's or iPXE's. Returns true at the end of the
    /// options.
    ///
    /// A packet without END is accepted: some clients send such packets.
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

    /// Reads one sub-option of option 82 or 175. A malformed one ends the look inside, not the scan: option 82 is the
    /// relay's, and is returned as it came.
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
                (RELAY_LINK_SELECTION, 4) => self.facts.link_selection = named(four(request, data)),
                // Only a relay may have clients send to it in the server's place.
                (RELAY_SERVER_OVERRIDE, 4) if request.bootp.giaddr != [0; 4] => {
                    self.facts.server_override = named(four(request, data));
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

    /// Notes an option that an answer depends on. Returns its bit in `seen`, or 0 for other options.
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
                    // Some boards send a blank before it.
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
                // iPXE sends the bare text; RFC 3004 requires a length octet before it.
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
mod tests;
