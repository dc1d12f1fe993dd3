//! The class of a client: its firmware, and the stage of its boot.

/// The kind of program that a kind of firmware boots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// A network boot program for BIOS.
    Bios,
    /// An EFI application for IA-32.
    Ia32,
    /// An EFI application for x86-64.
    X64,
    /// An EFI application for 32-bit Arm.
    Arm32,
    /// An EFI application for 64-bit Arm.
    Arm64,
    /// An EFI application for 64-bit RISC-V.
    Riscv64,
    /// An EFI application for 64-bit LoongArch.
    LoongArch64,
    /// Another kind, for which there is no iPXE.
    Else,
}

macro_rules! architectures {
    ($($(#[$doc:meta])* $variant:ident = $code:literal, $name:literal, $program:ident, $http:literal;)*) => {
        /// The kind of firmware, from option 93 (RFC 4578 section 2.1): one for each number in IANA's registry
        /// "Processor Architecture Types".
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Firmware {
            /// Not a PXE client: an operating system, a switch, a BMC; or a boot loader that names no kind of firmware.
            None = 0,
            $($(#[$doc])* $variant = $code + 1,)*
            /// A PXE client with an unassigned number; it gets the default boot file, not silence.
            Other = 43,
            /// An HTTP Boot client with an unassigned number.
            HttpOther = 44,
        }

        impl Firmware {
            /// Every kind, in the order of the numbers.
            pub const ALL: [Self; 45] = [Self::None, $(Self::$variant,)* Self::Other, Self::HttpOther];

            /// The kind for a code of option 93.
            #[inline(always)]
            #[must_use]
            pub fn from_arch(code: u16) -> Self {
                match code {
                    $($code => Self::$variant,)*
                    _ => Self::Other,
                }
            }

            /// One bit for each kind that boots by HTTP: the compiler makes tables of `match`es, which the kernel half
            /// cannot have.
            const HTTP: u64 = 1 << Self::HttpOther as u8 $(| ($http as u64) << ($code + 1))*;

            /// True for firmware that boots by HTTP: it needs a URL and option 60 "HTTPClient".
            #[inline(always)]
            #[must_use]
            pub fn is_http(self) -> bool {
                Self::HTTP >> (self as u8) & 1 == 1
            }

            /// The kind of program it boots. For unassigned numbers that is x86-64, the most common kind.
            #[must_use]
            pub fn program(self) -> Program {
                match self {
                    $(Self::$variant => Program::$program,)*
                    Self::None => Program::Else,
                    Self::Other | Self::HttpOther => Program::X64,
                }
            }

            /// Its name in logs and metrics.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                    Self::None => "none",
                    Self::Other => "other",
                    Self::HttpOther => "http-other",
                }
            }

            /// Its code in option 93, if it has exactly one.
            #[must_use]
            pub fn arch(self) -> Option<u16> {
                match self {
                    $(Self::$variant => Some($code),)*
                    Self::None | Self::Other | Self::HttpOther => None,
                }
            }
        }
    };
}

architectures! {
    /// Legacy BIOS.
    Bios = 0, "bios", Bios, false;
    /// NEC PC-98.
    Pc98 = 1, "pc98", Else, false;
    /// UEFI on Itanium.
    EfiItanium = 2, "efi-itanium", Else, false;
    /// DEC Alpha.
    Alpha = 3, "alpha", Else, false;
    /// ARC on x86.
    Arc = 4, "arc-x86", Else, false;
    /// Intel's Lean Client.
    LeanClient = 5, "lean-client", Else, false;
    /// UEFI on IA-32.
    EfiIa32 = 6, "efi-ia32", Ia32, false;
    /// UEFI on x86-64.
    EfiX64 = 7, "efi-x64", X64, false;
    /// UEFI on XScale.
    EfiXscale = 8, "efi-xscale", Else, false;
    /// EFI byte code. Early x86-64 firmware sends this number, because RFC 4578 had 7 and 9 exchanged.
    EfiBc = 9, "efi-bc", X64, false;
    /// UEFI on 32-bit Arm.
    EfiArm32 = 10, "efi-arm32", Arm32, false;
    /// UEFI on 64-bit Arm.
    EfiArm64 = 11, "efi-arm64", Arm64, false;
    /// Open Firmware on PowerPC.
    PpcOpenFirmware = 12, "ppc-open-firmware", Else, false;
    /// ePAPR on PowerPC.
    PpcEpapr = 13, "ppc-epapr", Else, false;
    /// OPAL v3 on POWER.
    PpcOpal = 14, "ppc-opal", Else, false;
    /// UEFI HTTP Boot on IA-32.
    HttpIa32 = 15, "http-ia32", Ia32, true;
    /// UEFI HTTP Boot on x86-64.
    HttpX64 = 16, "http-x64", X64, true;
    /// UEFI HTTP Boot of EFI byte code.
    HttpBc = 17, "http-bc", X64, true;
    /// UEFI HTTP Boot on 32-bit Arm.
    HttpArm32 = 18, "http-arm32", Arm32, true;
    /// UEFI HTTP Boot on 64-bit Arm.
    HttpArm64 = 19, "http-arm64", Arm64, true;
    /// Legacy BIOS by HTTP.
    HttpBios = 20, "http-bios", Bios, true;
    /// U-Boot on 32-bit Arm.
    UbootArm32 = 21, "uboot-arm32", Arm32, false;
    /// U-Boot on 64-bit Arm.
    UbootArm64 = 22, "uboot-arm64", Arm64, false;
    /// U-Boot on 32-bit Arm by HTTP.
    UbootHttpArm32 = 23, "uboot-http-arm32", Arm32, true;
    /// U-Boot on 64-bit Arm by HTTP.
    UbootHttpArm64 = 24, "uboot-http-arm64", Arm64, true;
    /// UEFI on 32-bit RISC-V.
    EfiRiscv32 = 25, "efi-riscv32", Else, false;
    /// UEFI HTTP Boot on 32-bit RISC-V.
    HttpRiscv32 = 26, "http-riscv32", Else, true;
    /// UEFI on 64-bit RISC-V.
    EfiRiscv64 = 27, "efi-riscv64", Riscv64, false;
    /// UEFI HTTP Boot on 64-bit RISC-V.
    HttpRiscv64 = 28, "http-riscv64", Riscv64, true;
    /// UEFI on 128-bit RISC-V.
    EfiRiscv128 = 29, "efi-riscv128", Else, false;
    /// UEFI HTTP Boot on 128-bit RISC-V.
    HttpRiscv128 = 30, "http-riscv128", Else, true;
    /// s390, basic.
    S390Basic = 31, "s390-basic", Else, false;
    /// s390, extended.
    S390Extended = 32, "s390-extended", Else, false;
    /// UEFI on 32-bit MIPS.
    EfiMips32 = 33, "efi-mips32", Else, false;
    /// UEFI on 64-bit MIPS.
    EfiMips64 = 34, "efi-mips64", Else, false;
    /// UEFI on 32-bit Sunway.
    EfiSunway32 = 35, "efi-sunway32", Else, false;
    /// UEFI on 64-bit Sunway.
    EfiSunway64 = 36, "efi-sunway64", Else, false;
    /// UEFI on 32-bit LoongArch.
    EfiLoongArch32 = 37, "efi-loongarch32", Else, false;
    /// UEFI HTTP Boot on 32-bit LoongArch.
    HttpLoongArch32 = 38, "http-loongarch32", Else, true;
    /// UEFI on 64-bit LoongArch.
    EfiLoongArch64 = 39, "efi-loongarch64", LoongArch64, false;
    /// UEFI HTTP Boot on 64-bit LoongArch.
    HttpLoongArch64 = 40, "http-loongarch64", LoongArch64, true;
    /// A Raspberry Pi's own firmware, which fetches files by names of its own. Models before the Pi 4 send 0, and later
    /// ones may: see [`Mac::is_raspberry_pi`](crate::Mac::is_raspberry_pi).
    RaspberryPi = 41, "raspberry-pi", Else, false;
}

impl Firmware {
    /// Whether this firmware looks for files by names of its own, and boots a loader only if the configuration names one:
    /// a Raspberry Pi's firmware, U-Boot (and loaders that name no kind), Petitboot.
    #[inline(always)]
    #[must_use]
    pub fn has_files_of_its_own(self) -> bool {
        matches!(self, Self::None | Self::RaspberryPi | Self::UbootArm32 | Self::UbootArm64 | Self::PpcOpal)
    }

    /// The HTTP Boot kind of the same machine: for a client whose option 60 says HTTPClient, whatever its option 93.
    #[inline(always)]
    #[must_use]
    pub fn over_http(self) -> Self {
        if self.is_http() {
            return self;
        }
        match self {
            Self::Bios => Self::HttpBios,
            Self::EfiIa32 => Self::HttpIa32,
            Self::EfiX64 => Self::HttpX64,
            Self::EfiBc => Self::HttpBc,
            Self::EfiArm32 => Self::HttpArm32,
            Self::EfiArm64 => Self::HttpArm64,
            Self::UbootArm32 => Self::UbootHttpArm32,
            Self::UbootArm64 => Self::UbootHttpArm64,
            Self::EfiRiscv32 => Self::HttpRiscv32,
            Self::EfiRiscv64 => Self::HttpRiscv64,
            Self::EfiRiscv128 => Self::HttpRiscv128,
            Self::EfiLoongArch32 => Self::HttpLoongArch32,
            Self::EfiLoongArch64 => Self::HttpLoongArch64,
            _ => Self::HttpOther,
        }
    }
}

/// The stage of a boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Stage {
    /// The firmware's own network stack: it needs a boot file.
    Rom = 0,
    /// iPXE (option 77 "iPXE" or option 175): it needs a script, never the loader again.
    Ipxe = 1,
    /// Not a PXE client: it needs an address only.
    Os = 2,
    /// An iPXE whose own list of features lacks some that the scripts need: it needs the full iPXE first.
    ReducedIpxe = 3,
}

/// Firmware and stage in one byte, as the answer table's key has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Class {
    /// The firmware kind.
    pub firmware: Firmware,
    /// The stage of the boot.
    pub stage: Stage,
}

impl Class {
    /// The class of a client that is not a PXE client.
    pub const OS: Self = Self { firmware: Firmware::None, stage: Stage::Os };

    /// The class of a boot loader that names no kind of firmware: U-Boot of many boards, u-root.
    pub const LOADER: Self = Self { firmware: Firmware::None, stage: Stage::Rom };

    /// The class of iPXE on any firmware.
    pub const IPXE: Self = Self { firmware: Firmware::None, stage: Stage::Ipxe };

    /// The byte that stands for this class, in events.
    #[inline(always)]
    #[must_use]
    pub fn key(self) -> u8 {
        (self.firmware as u8) << 2 | self.stage as u8
    }

    /// The class whose prepared answers this class gets: iPXE's are the same on all firmware.
    #[inline(always)]
    #[must_use]
    pub fn answered_as(self) -> Self {
        match self.stage {
            Stage::Ipxe => Self::IPXE,
            Stage::Rom | Stage::Os | Stage::ReducedIpxe => self,
        }
    }

    /// The class with this [`key`](Self::key), if there is one.
    #[must_use]
    pub fn from_key(key: u8) -> Option<Self> {
        let firmware = *Firmware::ALL.get(usize::from(key >> 2))?;
        let stage = match key & 3 {
            0 => Stage::Rom,
            1 => Stage::Ipxe,
            2 => Stage::Os,
            _ => Stage::ReducedIpxe,
        };
        Some(Self { firmware, stage })
    }

    /// Whether only the daemon answers this class: the answer to a reduced iPXE depends on the answers of the last minutes.
    #[must_use]
    pub fn is_the_daemons(self) -> bool {
        self.stage == Stage::ReducedIpxe
    }

    /// The classes that answers are prepared for.
    pub fn answered() -> impl Iterator<Item = Self> {
        let rom = Firmware::ALL.into_iter().map(|firmware| Self { firmware, stage: Stage::Rom });
        [Self::OS, Self::IPXE].into_iter().chain(rom)
    }

    /// Every class that a client can have.
    pub fn all() -> impl Iterator<Item = Self> {
        [Self::OS, Self::LOADER].into_iter().chain(Firmware::ALL.into_iter().skip(1).flat_map(|firmware| {
            [Stage::Rom, Stage::Ipxe, Stage::ReducedIpxe].map(|stage| Self { firmware, stage })
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::vec::Vec;

    use super::*;

    #[test]
    fn keys_are_distinct_and_read_back() {
        let keys: BTreeSet<u8> = Class::all().map(Class::key).collect();
        assert_eq!(keys.len(), Class::all().count());
        for class in Class::all() {
            assert_eq!(Class::from_key(class.key()), Some(class));
            let is_answered = Class::answered().any(|answered| answered == class.answered_as());
            assert!(is_answered || class.is_the_daemons(), "{class:?}");
        }
    }

    #[test]
    fn each_number_in_the_registry_is_a_kind_of_its_own() {
        let mut kinds = BTreeSet::new();
        for code in 0..42 {
            let kind = Firmware::from_arch(code);
            assert_eq!(kind.arch(), Some(code));
            assert!(kinds.insert(kind) && Firmware::ALL[usize::from(code) + 1] == kind, "{code}");
        }
        for code in [42, 43, 44, 255, 256, u16::MAX] {
            assert_eq!(Firmware::from_arch(code), Firmware::Other);
        }
        let http: Vec<u16> = (0..42).filter(|code| Firmware::from_arch(*code).is_http()).collect();
        assert_eq!(http, [15, 16, 17, 18, 19, 20, 23, 24, 26, 28, 30, 38, 40]);
        for (code, program) in [
            (0, Program::Bios),
            (6, Program::Ia32),
            (7, Program::X64),
            (9, Program::X64),
            (10, Program::Arm32),
            (11, Program::Arm64),
            (20, Program::Bios),
            (21, Program::Arm32),
            (23, Program::Arm32),
            (24, Program::Arm64),
            (27, Program::Riscv64),
            (33, Program::Else),
            (39, Program::LoongArch64),
            (41, Program::Else),
            (99, Program::X64),
        ] {
            assert_eq!(Firmware::from_arch(code).program(), program, "{code}");
        }
    }

    #[test]
    fn over_http_it_is_the_same_machine() {
        for firmware in Firmware::ALL {
            let http = firmware.over_http();
            assert!(http.is_http() && http.over_http() == http, "{firmware:?}");
            if http != Firmware::HttpOther {
                assert_eq!(http.program(), firmware.program(), "{firmware:?}");
            }
        }
    }
}
