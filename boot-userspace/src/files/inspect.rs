//! What a boot file is, from its first bytes, and whether those who get it can boot it.

use crate::host::size::human_size;
use boot_common::class::{Firmware, Program};

use super::loader;
use super::pe::{self, Headers, Machine};

/// How much of a file is looked at.
pub(super) const HEAD: usize = 16 * 1024;

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
        };
        match (self, kind) {
            (_, Kind::Empty) => return Some("it is empty; copy it again".to_owned()),
            (_, Kind::Page) => {
                let found = "it is an HTML or XML page, perhaps a download that failed";
                return Some(format!("{found}; read what it says and fetch the file again"));
            }
            (Self::Ipxe, _) | (Self::Bios, Kind::BiosProgram | Kind::Unknown) => return None,
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
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An image with one section that ends where the file does, at 1024 bytes.
    pub(in crate::files) fn efi(machine: u16, magic: u16, subsystem: u16) -> Vec<u8> {
        let mut file = vec![0; 1024];
        let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, b"MZ");
        put(0x3c, &0x80u32.to_le_bytes());
        put(0x80, b"PE\0\0");
        put(0x84, &machine.to_le_bytes());
        put(0x86, &1u16.to_le_bytes());
        put(0x94, &240u16.to_le_bytes());
        put(0x98, &magic.to_le_bytes());
        put(0x98 + 60, &512u32.to_le_bytes());
        put(0x98 + 68, &subsystem.to_le_bytes());
        put(0x98 + 240 + 16, &512u32.to_le_bytes());
        put(0x98 + 240 + 20, &512u32.to_le_bytes());
        file
    }

    const X64: u16 = 0x8664;

    #[track_caller]
    fn found(name: &str, content: &[u8]) -> Inspection {
        inspect(name, content, content.len() as u64)
    }

    #[test]
    fn what_files_are() {
        for (content, says) in [
            (&efi(0xaa64, 0x20b, 10)[..], "arm64 EFI application, 1.0 kB"),
            (&efi(0x014c, 0x10b, 10), "IA-32 EFI application, 1.0 kB"),
            (&efi(X64, 0x20b, 11), "x86-64 EFI driver, 1.0 kB"),
            (&efi(X64, 0x20b, 3), "x86-64 program for another system than UEFI, 1.0 kB"),
            (b"MZ\0\0", "damaged EFI application, 4 bytes"),
            (b"\n <!DOCTYPE html>", "HTML or XML page, 17 bytes"),
            (b"\xef\xbb\xbf<html>", "HTML or XML page, 9 bytes"),
            (b"\x7fELF\x02", "ELF program, 5 bytes"),
            (b"\xea\x05\x00\xc0\x07", "BIOS network boot program, 5 bytes"),
            (b"#!ipxe\n", "iPXE script, 7 bytes"),
            (b"", "empty file, 0 bytes"),
        ] {
            assert_eq!(found("f", content), Inspection { says: says.to_owned(), problem: None });
        }
        assert_eq!(found("f", &efi(X64, 0x20b, 10)).with_article(), "an x86-64 EFI application, 1.0 kB");
        assert_eq!(found("f", b"\xea\0").with_article(), "a BIOS network boot program, 2 bytes");
        assert_eq!(human_size(173_792), "173.8 kB");
    }

    #[test]
    fn what_uefi_cannot_boot() {
        let good = efi(X64, 0x20b, 10);
        for name in [
            "ipxe.efi",
            "snponly.efi",
            "SNPONLY.EFI",
            "custom.efi",
            "amd64/snp.efi",
            "EFI/BOOT/BOOTX64.EFI",
            "mmx64.efi",
            "shimx64.efi.signed",
        ] {
            assert_eq!(found(name, &good).problem, None, "{name}");
        }
        assert_eq!(found("ipxe-ia32.efi", &efi(0x014c, 0x10b, 10)).problem, None);
        assert_eq!(found("ipxe-arm32.efi", &efi(0x01c2, 0x10b, 10)).problem, None);
        assert_eq!(found("custom.efi", &efi(0x1234, 0x20b, 10)).problem, None);
        let mut kernel = good.clone();
        kernel[0x202..0x206].copy_from_slice(b"HdrS");
        assert_eq!(found("uki.efi", &kernel).problem, None);
        for (name, content, why) in [
            (
                "ipxe.efi",
                &efi(0xaa64, 0x20b, 10)[..],
                "it is an arm64 EFI application, but x86-64 machines get it; put the x86-64 one",
            ),
            ("ipxe-arm64.efi", &good, "but arm64 machines get it"),
            ("ipxe-riscv64.efi", &good, "but riscv64 machines get it"),
            ("ipxe-ia32.efi", &good, "but IA-32 machines get it"),
            ("arm64/snp.efi", &good, "but arm64 machines get it"),
            ("ipxe-arm64.efi", &kernel, "but arm64 machines get it"),
            (
                "shimaa64.efi",
                &good,
                "it is an x86-64 EFI application, but its name says arm64; put the arm64 one",
            ),
            ("EFI/BOOT/BOOTIA32.EFI", &good, "its name says IA-32"),
            ("bootarm.efi", &good, "its name says 32-bit Arm"),
            ("grubnetx64.efi.signed", &efi(0xaa64, 0x20b, 10), "its name says x86-64"),
            ("ipxe-x86_64.efi", &efi(0x014c, 0x10b, 10), "its name says x86-64"),
            (
                "ipxe.efi",
                &efi(X64, 0x10b, 10),
                "of the format PE32, which is not that of x86-64 programs; copy it again",
            ),
            ("ipxe-ia32.efi", &efi(0x014c, 0x20b, 10), "of the format PE32+"),
            ("ipxe.efi", &efi(X64, 0x20b, 11), "it is an EFI driver"),
            ("custom.efi", &efi(X64, 0x20b, 12), "it is an EFI driver"),
            ("custom.efi", &efi(X64, 0x20b, 3), "for another system than UEFI (PE subsystem 3)"),
            (
                "ipxe.efi",
                &good[..1023],
                "it is cut off, 1023 bytes where its headers speak of 1024; copy it again",
            ),
            ("ipxe.efi", &good[..512], "it is cut off, 512 bytes"),
            ("ipxe.efi", &good[..200], "its EFI headers are damaged or cut off; copy it again"),
            ("ipxe.efi", &good[..2], "its EFI headers are damaged or cut off"),
            ("ipxe.efi", b"", "it is empty; copy it again"),
            (
                "ipxe.efi",
                b"<html><h1>404 Not Found",
                "perhaps a download that failed; read what it says and fetch",
            ),
            (
                "ipxe.efi",
                b"\x7fELF\x02",
                "it is an ELF program, which UEFI firmware cannot boot; put an EFI application",
            ),
            (
                "snponly.efi",
                b"\xea\x05\x00\xc0\x07",
                "it is a BIOS network boot program, which UEFI firmware cannot boot",
            ),
            ("custom.efi", b"#!ipxe\n", "it is an iPXE script"),
            ("custom.efi", b"\x1f\x8b\x08", "it is an archive or initrd"),
            ("custom.efi", b"\0\0\0", "it is an unknown kind of file"),
        ] {
            let problem = found(name, content).problem;
            assert!(problem.as_ref().is_some_and(|told| told.contains(why)), "{name}: {why}: {problem:?}");
        }
    }

    #[test]
    fn a_sentence_says_what_a_file_is_once() {
        let says = |name: &str, content: &[u8]| found(name, content).sentence(name, content.len() as u64);
        assert_eq!(
            says("custom.efi", b"\0\0\0"),
            "custom.efi, 3 bytes: it is an unknown kind of file, which UEFI firmware cannot boot; put an EFI \
             application in its place"
        );
        assert_eq!(says("custom.efi", b""), "custom.efi, 0 bytes: it is empty; copy it again");
        assert_eq!(says("pxelinux.0", b"\xb8\0\0"), "pxelinux.0 is an unknown kind of file, 3 bytes");
    }

    #[test]
    fn what_bios_cannot_boot() {
        for name in ["undionly.kpxe", "ipxe.pxe", "pxelinux.0", "LPXELINUX.0"] {
            assert_eq!(found(name, b"\xea\x05\x00\xc0\x07").problem, None, "{name}");
            assert_eq!(found(name, b"\xb8\0\0").problem, None, "{name}");
            for (content, why) in [
                (
                    &efi(X64, 0x20b, 10)[..],
                    "it is an x86-64 EFI application, which BIOS machines cannot boot; put a",
                ),
                (b"MZ", "a damaged EFI application, which BIOS"),
                (b"\x7fELF", "an ELF program, which BIOS"),
                (b"<!DOCTYPE html>", "perhaps a download that failed"),
                (b"#!ipxe", "an iPXE script, which BIOS"),
                (b"", "it is empty"),
            ] {
                let problem = found(name, content).problem;
                assert!(
                    problem.as_ref().is_some_and(|told| told.contains(why)),
                    "{name}: {why}: {problem:?}"
                );
            }
        }
    }

    #[test]
    fn signatures_are_a_part_of_the_file() {
        for (machine, magic, directories, name) in
            [(X64, 0x20b, 0x98 + 108, "bootx64.efi"), (0x014c, 0x10b, 0x98 + 92, "bootia32.efi")]
        {
            let mut file = efi(machine, magic, 10);
            file.extend([0; 200]);
            let mut put =
                |at: usize, number: u32| file[directories + at..][..4].copy_from_slice(&number.to_le_bytes());
            put(0, 16);
            put(36, 1024);
            put(40, 200);
            assert_eq!(found(name, &file).problem, None);
            let cut = found(name, &file[..1223]).problem;
            assert!(
                cut.is_some_and(|told| told.contains("cut off, 1223 bytes where its headers speak of 1224"))
            );
            // Without them, or in headers that have no place for them.
            for (at, number) in [(40, 0), (0, 4)] {
                let mut file = file.clone();
                file[directories + at..][..4].copy_from_slice(&u32::to_le_bytes(number));
                assert_eq!(found(name, &file[..1024]).problem, None);
            }
        }
    }

    #[test]
    fn the_number_of_a_version_is_no_boot_program_s_name() {
        assert_eq!(found("vmlinuz-6.12.0", b"\x7fELF").problem, None);
        assert!(found("grub/i386-pc/core.0", b"\x7fELF").problem.is_some());
    }

    #[test]
    fn sections_without_content_have_no_end() {
        let mut file = efi(X64, 0x20b, 10);
        file[0x98 + 240 + 16..][..8].copy_from_slice(&[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
        assert_eq!(found("ipxe.efi", &file[..512]).problem, None);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever the bytes, there is an answer.
        #[test]
        fn any_bytes_are_some_kind_of_file(
            edits in proptest::collection::vec((0..1024usize, any::<u8>()), 0..20),
            length in 0..1024usize,
            name in prop_oneof![Just("ipxe.efi"), Just("undionly.kpxe"), Just("kernel")],
        ) {
            let mut file = efi(X64, 0x20b, 10);
            for (at, byte) in edits {
                file[at] = byte;
            }
            let found = inspect(name, &file[..length], length as u64);
            prop_assert!(found.says.ends_with(&human_size(length as u64)));
            prop_assert!(found.problem.is_none_or(|told| !told.is_empty() && !told.contains('\n')));
        }

        /// A file that broke off while it was copied is never taken for a whole one.
        #[test]
        fn a_part_of_an_image_is_a_problem(length in 0..1024usize) {
            let file = efi(X64, 0x20b, 10);
            prop_assert!(found("ipxe.efi", &file[..length]).problem.is_some());
        }
    }
}
