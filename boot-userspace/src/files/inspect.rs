//! What a boot file is, from its first bytes, and whether those who get it can boot it.

use crate::host::size::human_size;
use boot_common::class::{Firmware, Program};

use super::loader;
use super::pe::{self, Headers, Machine};

/// How much of a file is looked at.
pub const HEAD: usize = 16 * 1024;

/// What was found out about a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// Kind and size: "x86-64 EFI application, 1.0 MB".
    pub says: String,
    /// Why machines cannot boot it and what to do about that, as a sentence about "it".
    pub problem: Option<String>,
}

impl Inspection {
    /// With its article: "an x86-64 EFI application, 1.0 MB".
    #[must_use]
    pub fn with_article(&self) -> String {
        with_article(&self.says)
    }

    /// What a file of this name and size is, or, instead, what is wrong with it and what to do: a problem names the kind
    /// of the file by itself.
    #[must_use]
    pub fn sentence(&self, name: &str, size: u64) -> String {
        match &self.problem {
            None => format!("{name} is {}", self.with_article()),
            Some(problem) => format!("{name}, {}: {problem}", human_size(size)),
        }
    }
}

/// What those who get a file need it to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// UEFI, of this processor if it is known: an EFI application.
    Efi(Option<Machine>),
    /// UEFI of the processor that its name speaks of: an EFI application.
    Called(Machine),
    /// UEFI HTTP Boot: an EFI application for this processor, or the image of a disk.
    EfiOrDisk(Machine),
    /// BIOS: a network boot program.
    Bios,
    /// Firmware of any kind.
    Firmware,
    /// iPXE, as kernel or initrd: it takes nearly everything.
    Ipxe,
    /// iPXE, which is to start it.
    IpxeStarts,
}

impl Need {
    pub(super) fn of_firmware(firmware: Firmware) -> Self {
        let machine = match firmware.program() {
            _ if firmware.arch().is_none() => return Self::Firmware,
            Program::Else => return Self::Firmware,
            Program::Bios => return Self::Bios,
            Program::Ia32 => Machine::Ia32,
            Program::X64 => Machine::X64,
            Program::Arm32 => Machine::Arm32,
            Program::Arm64 => Machine::Arm64,
            Program::Riscv64 => Machine::Riscv64,
            Program::LoongArch64 => Machine::LoongArch64,
        };
        match firmware {
            // It boots kernels and scripts of its own, too.
            Firmware::UbootArm32
            | Firmware::UbootArm64
            | Firmware::UbootHttpArm32
            | Firmware::UbootHttpArm64 => Self::Firmware,
            _ if firmware.is_http() => Self::EfiOrDisk(machine),
            _ => Self::Efi(Some(machine)),
        }
    }

    /// What follows from the name that a file is served as, in lower case.
    pub(super) fn of_name(name: &str) -> Option<Self> {
        if let Some(firmware) = loader::served_to(name) {
            return Some(Self::of_firmware(firmware));
        }
        // Debian's signed ones: grubnetx64.efi.signed.
        let (stem, ending) = name.strip_suffix(".signed").unwrap_or(name).rsplit_once('.')?;
        match ending {
            "efi" => Some(Machine::of_name(stem).map_or(Self::Efi(None), Self::Called)),
            "kpxe" | "kkpxe" | "kkkpxe" | "pxe" => Some(Self::Bios),
            // pxelinux.0, but not vmlinuz-6.12.0.
            "0" if !stem.ends_with(|c: char| c.is_ascii_digit()) => Some(Self::Bios),
            _ => None,
        }
    }

    /// Is for one kind of firmware, so that the end of the name says nothing more.
    pub(super) fn is_exact(self) -> bool {
        matches!(self, Self::Efi(Some(_)) | Self::EfiOrDisk(_) | Self::Bios)
    }

    fn problem(self, kind: Kind, size: u64) -> Option<String> {
        let (who, instead) = match self {
            Self::Efi(_) | Self::Called(_) | Self::EfiOrDisk(_) => ("UEFI firmware", "an EFI application"),
            Self::Bios => ("BIOS machines", "a network boot program, such as undionly.kpxe,"),
            Self::Firmware => ("firmware", "a boot program"),
            Self::Ipxe => ("iPXE", "a kernel or initrd"),
            Self::IpxeStarts => ("iPXE", "a kernel, an EFI application or a script"),
        };
        match (self, kind) {
            (_, Kind::Empty) => return Some("it is empty; copy it again".to_owned()),
            (_, Kind::Page) => {
                let found = "it is an HTML or XML page, perhaps a download that failed";
                return Some(format!("{found}; read what it says and fetch the file again"));
            }
            (Self::IpxeStarts, Kind::Archive | Kind::Text) => {}
            (Self::Ipxe | Self::IpxeStarts, _) | (Self::Bios, Kind::BiosProgram | Kind::Unknown) => {
                return None;
            }
            (Self::Bios, _) => {}
            (_, Kind::Pe(headers) | Kind::Kernel(_, Some(headers))) => {
                return self.machine_problem(headers.machine).or_else(|| efi_problem(headers, size));
            }
            (_, Kind::Damaged) => {
                return Some("its EFI headers are damaged or cut off; copy it again".to_owned());
            }
            (Self::EfiOrDisk(_), Kind::BiosProgram | Kind::Unknown) => return None,
            // There are more kinds of firmware than these, with formats of their own.
            (Self::Firmware, Kind::BiosProgram | Kind::Text | Kind::Unknown) => return None,
            _ => {}
        }
        let what = with_article(&kind.words());
        Some(format!("it is {what}, which {who} cannot boot; put {instead} in its place"))
    }

    /// Another processor's than that of the machines that get it.
    fn machine_problem(self, machine: Machine) -> Option<String> {
        let (Self::Efi(Some(wanted)) | Self::EfiOrDisk(wanted) | Self::Called(wanted)) = self else {
            return None;
        };
        if wanted == machine {
            return None;
        }
        let (is, wanted) = (with_article(machine.name()), wanted.name());
        let why = match self {
            Self::Called(_) => format!("its name says {wanted}"),
            _ => format!("{wanted} machines get it"),
        };
        Some(format!("it is {is} EFI application, but {why}; put the {wanted} one in its place"))
    }
}

fn efi_problem(headers: Headers, size: u64) -> Option<String> {
    let Headers { machine, is_pe32_plus, subsystem, length } = headers;
    let known = machine != Machine::Unknown;
    if known && machine.is_64_bit() != is_pe32_plus {
        let format = if is_pe32_plus { "PE32+" } else { "PE32" };
        return Some(format!(
            "its headers are of the format {format}, which is not that of {} programs; copy it again",
            machine.name()
        ));
    }
    match subsystem {
        pe::EFI_APPLICATION => {}
        pe::EFI_BOOT_DRIVER | pe::EFI_RUNTIME_DRIVER => {
            return Some(
                "it is an EFI driver, which firmware loads without booting anything; put an EFI application in \
                 its place (iPXE's end with .efi, its drivers with .efidrv)"
                    .to_owned(),
            );
        }
        other => {
            return Some(format!(
                "it is a program for another system than UEFI (PE subsystem {other}), which firmware does not \
                 start; put an EFI application in its place"
            ));
        }
    }
    (length > size)
        .then(|| format!("it is cut off, {size} bytes where its headers speak of {length}; copy it again"))
}

/// Looks at a file that is served as `name` and has `size` bytes, by its first ones. What it has to be is known for
/// names that end with `.efi`, `.kpxe`, `.pxe` or `.0`, and to the processor for names that speak of one;
/// [`BootFiles::inspect_open`](super::BootFiles::inspect_open) also knows what the configuration says.
#[must_use]
pub fn inspect(name: &str, head: &[u8], size: u64) -> Inspection {
    inspect_for(Need::of_name(&name.to_ascii_lowercase()), head, size)
}

/// The same for firmware of a kind.
#[must_use]
pub fn inspect_for_firmware(firmware: Firmware, head: &[u8], size: u64) -> Inspection {
    inspect_for([Need::of_firmware(firmware)], head, size)
}

/// The same for iPXE, which starts it, or takes it for an initrd.
#[must_use]
pub fn inspect_for_ipxe(head: &[u8], size: u64, is_started: bool) -> Inspection {
    inspect_for([if is_started { Need::IpxeStarts } else { Need::Ipxe }], head, size)
}

/// The same for known needs; the first that is not met is the problem.
pub(super) fn inspect_for(needs: impl IntoIterator<Item = Need>, head: &[u8], size: u64) -> Inspection {
    let kind = Kind::of(head);
    let says = format!("{}, {}", kind.words(), human_size(size));
    Inspection { says, problem: needs.into_iter().find_map(|need| need.problem(kind, size)) }
}

/// What a file is.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Empty,
    /// Its name, and its headers where it is an EFI application, too.
    Kernel(&'static str, Option<Headers>),
    Pe(Headers),
    /// Begins like a PE image.
    Damaged,
    Elf,
    Script,
    Page,
    Archive,
    Text,
    BiosProgram,
    Unknown,
}

impl Kind {
    /// The kind of file that begins with these bytes.
    fn of(head: &[u8]) -> Self {
        let at = |offset: usize, bytes: &[u8]| head.get(offset..).is_some_and(|rest| rest.starts_with(bytes));
        let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
        let headers = pe::read(head);
        if head.is_empty() {
            Self::Empty
        } else if at(0x202, b"HdrS") {
            Self::Kernel("Linux kernel (x86) or program in that format", headers)
        } else if at(56, b"ARM\x64") {
            Self::Kernel("Linux kernel (arm64)", headers)
        } else if let Some(headers) = headers {
            Self::Pe(headers)
        } else if at(0, b"MZ") {
            Self::Damaged
        } else if at(0, b"\x7fELF") {
            Self::Elf
        } else if at(0, b"#!ipxe") {
            Self::Script
        } else if text.get(..1) == Some(b"<") {
            Self::Page
        } else if at(0, b"\x1f\x8b") || at(0, b"\xfd7zXZ") || at(0, b"\x28\xb5\x2f\xfd") || at(0, b"0707") {
            Self::Archive
        } else if head.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace()) {
            Self::Text
        } else if matches!(head.first(), Some(0xea | 0xeb | 0xe9 | 0xfa)) {
            // No magic number exists for these; they all begin with a jump or with interrupts off.
            Self::BiosProgram
        } else {
            Self::Unknown
        }
    }

    fn words(self) -> String {
        let words = match self {
            Self::Empty => "empty file",
            Self::Kernel(name, _) => name,
            Self::Pe(Headers { machine, subsystem, .. }) => {
                let what = match subsystem {
                    pe::EFI_APPLICATION => "EFI application",
                    pe::EFI_BOOT_DRIVER | pe::EFI_RUNTIME_DRIVER => "EFI driver",
                    _ => "program for another system than UEFI",
                };
                return format!("{} {what}", machine.name());
            }
            Self::Damaged => "damaged EFI application",
            Self::Elf => "ELF program",
            Self::Script => "iPXE script",
            Self::Page => "HTML or XML page",
            Self::Archive => "archive or initrd",
            Self::Text => "text file",
            Self::BiosProgram => "BIOS network boot program",
            Self::Unknown => "unknown kind of file",
        };
        words.to_owned()
    }
}

/// True for an EFI application, by its first bytes.
#[must_use]
pub fn is_efi_application(head: &[u8]) -> bool {
    pe::read(head).is_some()
}

fn with_article(words: &str) -> String {
    // As these are spoken: an x86-64, an HTML.
    let article =
        if words.starts_with(['a', 'e', 'i', 'o', 'u', 'x', 'A', 'E', 'H', 'I']) { "an" } else { "a" };
    format!("{article} {words}")
}

#[cfg(test)]
pub(super) mod tests;
