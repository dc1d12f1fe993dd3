//! What kind of client asks: its firmware and how far its boot has come.

/// The firmware kind a client names in option 93 (RFC 4578 section 2.1, IANA "Processor Architecture Types").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Firmware {
    /// No PXE client at all: an operating system, a switch, a BMC.
    None = 0,
    /// Legacy BIOS, code 0.
    Bios = 1,
    /// UEFI on IA-32, code 6.
    EfiIa32 = 2,
    /// UEFI on x86-64, codes 7 and 9.
    EfiX64 = 3,
    /// UEFI on 32-bit Arm, code 10.
    EfiArm32 = 4,
    /// UEFI on 64-bit Arm, code 11; U-Boot, code 22.
    EfiArm64 = 5,
    /// UEFI on 64-bit RISC-V, code 27.
    EfiRiscv64 = 6,
    /// UEFI on 64-bit LoongArch, code 39.
    EfiLoongArch64 = 7,
    /// UEFI HTTP Boot on IA-32, code 15.
    HttpIa32 = 8,
    /// UEFI HTTP Boot on x86-64, code 16.
    HttpX64 = 9,
    /// UEFI HTTP Boot on 32-bit Arm, code 18.
    HttpArm32 = 10,
    /// UEFI HTTP Boot on 64-bit Arm, code 19; U-Boot, code 23.
    HttpArm64 = 11,
    /// UEFI HTTP Boot on 64-bit RISC-V, code 28.
    HttpRiscv64 = 12,
    /// UEFI HTTP Boot on 64-bit LoongArch, code 40.
    HttpLoongArch64 = 13,
    /// A PXE client of a kind that has no entry here; it gets the default boot file, not silence.
    Other = 14,
}

impl Firmware {
    /// Every kind, in the order of its number.
    pub const ALL: [Self; 15] = [
        Self::None,
        Self::Bios,
        Self::EfiIa32,
        Self::EfiX64,
        Self::EfiArm32,
        Self::EfiArm64,
        Self::EfiRiscv64,
        Self::EfiLoongArch64,
        Self::HttpIa32,
        Self::HttpX64,
        Self::HttpArm32,
        Self::HttpArm64,
        Self::HttpRiscv64,
        Self::HttpLoongArch64,
        Self::Other,
    ];

    /// The kind for a code of option 93.
    #[inline(always)]
    #[must_use]
    pub fn from_arch(code: u16) -> Self {
        match code {
            0 => Self::Bios,
            6 => Self::EfiIa32,
            7 | 9 => Self::EfiX64,
            10 | 21 => Self::EfiArm32,
            11 | 22 => Self::EfiArm64,
            15 => Self::HttpIa32,
            16 => Self::HttpX64,
            18 => Self::HttpArm32,
            19 | 23 => Self::HttpArm64,
            27 => Self::EfiRiscv64,
            28 => Self::HttpRiscv64,
            39 => Self::EfiLoongArch64,
            40 => Self::HttpLoongArch64,
            _ => Self::Other,
        }
    }

    /// True for UEFI HTTP Boot, which wants a URL and option 60 "HTTPClient".
    #[must_use]
    pub fn is_http(self) -> bool {
        matches!(
            self,
            Self::HttpIa32
                | Self::HttpX64
                | Self::HttpArm32
                | Self::HttpArm64
                | Self::HttpRiscv64
                | Self::HttpLoongArch64
        )
    }

    /// The word for it in logs and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Bios => "bios",
            Self::EfiIa32 => "efi-ia32",
            Self::EfiX64 => "efi-x64",
            Self::EfiArm32 => "efi-arm32",
            Self::EfiArm64 => "efi-arm64",
            Self::EfiRiscv64 => "efi-riscv64",
            Self::EfiLoongArch64 => "efi-loongarch64",
            Self::HttpIa32 => "http-ia32",
            Self::HttpX64 => "http-x64",
            Self::HttpArm32 => "http-arm32",
            Self::HttpArm64 => "http-arm64",
            Self::HttpRiscv64 => "http-riscv64",
            Self::HttpLoongArch64 => "http-loongarch64",
            Self::Other => "other",
        }
    }
}

/// How far the boot has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Stage {
    /// The firmware's own network stack: it wants a boot file.
    Rom = 0,
    /// iPXE (option 77 "iPXE" or option 175): it wants a script and never the loader again.
    Ipxe = 1,
    /// No PXE client: it wants an address only.
    Os = 2,
}

/// Firmware and stage in one byte, as the answer table's key has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Class {
    /// The firmware kind.
    pub firmware: Firmware,
    /// How far the boot has come.
    pub stage: Stage,
}

impl Class {
    /// The class of a client that is no PXE client.
    pub const OS: Self = Self { firmware: Firmware::None, stage: Stage::Os };

    /// The byte that stands for this class in an answer's key.
    #[inline(always)]
    #[must_use]
    pub fn key(self) -> u8 {
        (self.firmware as u8) << 2 | self.stage as u8
    }

    /// The class a key byte stands for, if it is one.
    #[must_use]
    pub fn from_key(key: u8) -> Option<Self> {
        let firmware = *Firmware::ALL.get(usize::from(key >> 2))?;
        let stage = match key & 3 {
            0 => Stage::Rom,
            1 => Stage::Ipxe,
            2 => Stage::Os,
            _ => return None,
        };
        Some(Self { firmware, stage })
    }

    /// Every class that a client can have.
    pub fn all() -> impl Iterator<Item = Self> {
        core::iter::once(Self::OS).chain(Firmware::ALL.into_iter().skip(1).flat_map(|firmware| {
            [Self { firmware, stage: Stage::Rom }, Self { firmware, stage: Stage::Ipxe }]
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn keys_are_distinct_and_read_back() {
        let keys: BTreeSet<u8> = Class::all().map(Class::key).collect();
        assert_eq!(keys.len(), Class::all().count());
        for class in Class::all() {
            assert_eq!(Class::from_key(class.key()), Some(class));
        }
    }
}
