//! The headers of a PE image, which is what an EFI application is (PE format, "COFF File Header" and what follows).

use std::ops::Range;

/// An image whose headers could be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Headers {
    /// The processor it is for.
    pub(super) machine: Machine,
    /// PE32+, the format for 64-bit processors; else PE32 or one that firmware does not know.
    pub(super) is_pe32_plus: bool,
    /// Who starts it.
    pub(super) subsystem: u16,
    /// The length of the file, from what the headers say lies in it.
    pub(super) length: u64,
}

/// Where the parts of an image are in its file, in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// Where its checksum is.
    pub(super) checksum: u64,
    /// Where the place of its signatures is said.
    pub(super) entry: u64,
    /// Its signatures; empty at the end of its content if it has none.
    pub(super) certificates: Range<u64>,
    /// Its sections.
    pub(super) sections: Vec<Section>,
    /// Where the names are that are too long for the table of sections.
    pub(super) names: u64,
}

/// A section of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Section {
    /// Its name, filled up with zeros, or a slash and the place of a longer one among the names.
    pub(super) name: [u8; 8],
    /// Where its content begins in the file.
    pub(super) start: u64,
    /// The length of its content, in the file or in memory, whichever is less.
    pub(super) length: u64,
}

/// `IMAGE_SUBSYSTEM_EFI_APPLICATION`
pub(super) const EFI_APPLICATION: u16 = 10;
/// `IMAGE_SUBSYSTEM_EFI_BOOT_SERVICE_DRIVER`
pub(super) const EFI_BOOT_DRIVER: u16 = 11;
/// `IMAGE_SUBSYSTEM_EFI_RUNTIME_DRIVER`
pub(super) const EFI_RUNTIME_DRIVER: u16 = 12;

/// The processors that firmware exists for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Machine {
    /// 32-bit x86.
    Ia32,
    /// 64-bit x86.
    X64,
    /// 32-bit Arm.
    Arm32,
    /// 64-bit Arm.
    Arm64,
    /// 64-bit RISC-V.
    Riscv64,
    /// 64-bit LoongArch.
    LoongArch64,
    /// Another number than these have.
    Unknown,
}

impl Machine {
    fn from_number(number: u16) -> Self {
        match number {
            0x014c => Self::Ia32,
            0x8664 => Self::X64,
            0x01c0 | 0x01c2 | 0x01c4 => Self::Arm32,
            0xaa64 => Self::Arm64,
            0x5064 => Self::Riscv64,
            0x6264 => Self::LoongArch64,
            _ => Self::Unknown,
        }
    }

    /// The processor that a boot file's name without its ending speaks of, in lower case: UEFI's own abbreviations
    /// (`bootx64`, `grubaa64`) and what else is customary.
    pub(super) fn of_name(stem: &str) -> Option<Self> {
        let endings = [
            ("x64", Self::X64),
            ("x86_64", Self::X64),
            ("amd64", Self::X64),
            ("aa64", Self::Arm64),
            ("arm64", Self::Arm64),
            ("aarch64", Self::Arm64),
            ("ia32", Self::Ia32),
            ("bootarm", Self::Arm32),
            ("arm32", Self::Arm32),
            ("riscv64", Self::Riscv64),
            ("loongarch64", Self::LoongArch64),
            ("loong64", Self::LoongArch64),
        ];
        endings.into_iter().find(|(ending, _)| stem.ends_with(ending)).map(|(_, machine)| machine)
    }

    /// The word for it before "EFI application" and "machines".
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ia32 => "IA-32",
            Self::X64 => "x86-64",
            Self::Arm32 => "32-bit Arm",
            Self::Arm64 => "arm64",
            Self::Riscv64 => "riscv64",
            Self::LoongArch64 => "loongarch64",
            Self::Unknown => "unknown processor's",
        }
    }

    /// Its images are PE32+.
    pub(super) fn is_64_bit(self) -> bool {
        !matches!(self, Self::Ia32 | Self::Arm32)
    }
}

/// Reads the headers at the beginning of a file; `None` where it has none, or not all of them in `head`. A table of
/// sections that goes on behind `head` is read as far as it is there.
pub(super) fn read(head: &[u8]) -> Option<Headers> {
    let start = start(head)?;
    let file_header = head.get(start..)?.strip_prefix(b"PE\0\0")?;
    let optional = file_header.get(20..)?;
    let sections = usize::from(u16_at(file_header, 2)?);
    let table = start + 24 + usize::from(u16_at(file_header, 16)?);
    let section_ends = (0..sections).map_while(|index| section_end(head.get(table + 40 * index..)?));
    let headers = u64::from(u32_at(optional, 60)?);
    let is_pe32_plus = u16_at(optional, 0)? == 0x20b;
    let content = section_ends.fold(headers, u64::max);
    Some(Headers {
        machine: Machine::from_number(u16_at(file_header, 0)?),
        is_pe32_plus,
        subsystem: u16_at(optional, 68)?,
        length: content.max(signature_end(optional, is_pe32_plus).unwrap_or(0)),
    })
}

/// Where the parts of an image are; `None` where [`read`] gives none, or where headers have no place for signatures.
pub(super) fn layout(head: &[u8]) -> Option<Layout> {
    let headers = read(head)?;
    let start = start(head)?;
    let optional_start = start + 24;
    let optional = head.get(optional_start..)?;
    let entry = if headers.is_pe32_plus { 144 } else { 128 };
    u32_at(optional, entry + 4)?;
    let count = usize::from(u16_at(head, start + 6)?);
    let table = optional_start + usize::from(u16_at(head, start + 20)?);
    let sections: Vec<Section> =
        (0..count).map_while(|index| section(head.get(table + 40 * index..)?)).collect();
    let certificates = match signature_end(optional, headers.is_pe32_plus) {
        Some(end) => u64::from(u32_at(optional, entry)?)..end,
        None => headers.length..headers.length,
    };
    let at = |offset: usize| u64::try_from(optional_start + offset).ok();
    // Behind the symbols, of 18 bytes each.
    let [symbols, number] = [u32_at(head, start + 12)?, u32_at(head, start + 16)?].map(u64::from);
    Some(Layout {
        checksum: at(64)?,
        entry: at(entry)?,
        certificates,
        sections,
        names: symbols + 18 * number,
    })
}

fn section(header: &[u8]) -> Option<Section> {
    let [in_memory, in_file, start] =
        [u32_at(header, 8)?, u32_at(header, 16)?, u32_at(header, 20)?].map(u64::from);
    let length = if in_memory == 0 { in_file } else { in_file.min(in_memory) };
    Some(Section { name: *header.first_chunk()?, start, length })
}

/// Where the file says that its headers begin.
fn start(head: &[u8]) -> Option<usize> {
    let stub = head.strip_prefix(b"MZ").and(Some(head))?;
    usize::try_from(u32_at(stub, 0x3c)?).ok()
}

/// Where the content of a section ends; 0 if it has none in the file.
fn section_end(header: &[u8]) -> Option<u64> {
    let [length, start] = [u32_at(header, 16)?, u32_at(header, 20)?].map(u64::from);
    Some(if start == 0 { 0 } else { start + length })
}

/// Where the signatures end, which no section has; `None` if there are none. ("Optional Header Data Directories", whose
/// fifth is the certificate table, and unlike the others by its place in the file.)
fn signature_end(optional: &[u8], is_pe32_plus: bool) -> Option<u64> {
    let directories = optional.get(if is_pe32_plus { 108 } else { 92 }..)?;
    if u32_at(directories, 0)? < 5 {
        return None;
    }
    let [start, length] = [u32_at(directories, 36)?, u32_at(directories, 40)?].map(u64::from);
    (start != 0 && length != 0).then_some(start + length)
}

fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(offset..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(offset..)?.first_chunk()?))
}
