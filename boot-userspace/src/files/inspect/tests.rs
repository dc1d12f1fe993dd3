//! What files look like that can be booted, and those that cannot.

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
fn ipxe_starts_no_text_and_takes_no_page_for_an_initrd() {
    let problem = |content: &[u8], is_started| inspect_for_ipxe(content, 9, is_started).problem;
    for page in [&b"<!DOCTYPE html>\n<html>"[..], b""] {
        assert!(problem(page, true).is_some() && problem(page, false).is_some());
    }
    assert!(problem(b"Not found", true).is_some_and(|problem| problem.contains("a text file")));
    assert_eq!(problem(b"Not found", false), None, "an initrd may be anything");
    assert_eq!(problem(&efi(X64, 0x20b, 10), true), None);
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
            assert!(problem.as_ref().is_some_and(|told| told.contains(why)), "{name}: {why}: {problem:?}");
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
        assert!(cut.is_some_and(|told| told.contains("cut off, 1223 bytes where its headers speak of 1224")));
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
