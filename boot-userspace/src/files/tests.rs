use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::time::Duration;

use super::inspect::tests::efi;
use super::*;
use boot_common::class::Program;
use boot_engine::config;

fn files_in(dir: &Path) -> BootFiles {
    fs::create_dir_all(dir.join("boot/Talos/v1")).unwrap();
    fs::create_dir_all(dir.join("system")).unwrap();
    fs::write(dir.join("boot/Talos/v1/vmlinuz"), "kernel").unwrap();
    fs::write(dir.join("secret"), "secret").unwrap();
    BootFiles::new(dir.join("boot"), BTreeMap::new()).with_system_dirs(vec![dir.join("system")])
}

#[test]
fn names_are_read_tolerantly() {
    let dir = tempfile::tempdir().unwrap();
    let files = files_in(dir.path());
    for name in [
        "Talos/v1/vmlinuz",
        "/Talos/v1/vmlinuz",
        "//Talos///v1/./vmlinuz",
        "\\Talos\\v1\\vmlinuz",
        "talos/V1/VMLINUZ",
        "Talos/v1/vmlinuz\0",
        "Talos/v1/vmlinuz\u{fffd}\u{fffd}",
        "Talos/v1/vmlinuz\u{ff}",
        "Talos/../Talos/v1/vmlinuz",
        "arm/../Talos/v1/vmlinuz",
        "arm\\..\\Talos\\v1\\x\\..\\vmlinuz",
        "Talos/v1/x/y/../../vmlinuz",
        "Talos%2Fv1%5cvmlinuz",
        "talos/v1/%76mlinu%7A",
        "arm%2f%2e%2e%2fTalos/v1/vmlinuz",
    ] {
        assert_eq!(files.open(name).map(|file| file.size).ok(), Some(6), "{name:?}");
    }
    // A name that really has a percent sign is meant, and nothing is decoded twice.
    fs::write(dir.path().join("boot/a%20b"), "percent").unwrap();
    fs::write(dir.path().join("boot/a b"), "").unwrap();
    assert_eq!(files.open("a%20b").unwrap().size, 7);
    assert_eq!(files.open("a%2520b").unwrap().size, 7);
    assert_eq!(files.open_plain("a b").unwrap().size, 0);
    assert!(files.open_plain("Talos%2fv1%2fvmlinuz").is_err() && files.open("Talos%252fv1/vmlinuz").is_err());
    fs::write(dir.path().join("boot/talos"), "").unwrap();
    assert!(files.open("TALOS/v1/vmlinuz").is_ok());
}

#[test]
fn nothing_outside_is_served() {
    let dir = tempfile::tempdir().unwrap();
    let files = files_in(dir.path());
    let boot = dir.path().join("boot");
    symlink("../secret", boot.join("climbs")).unwrap();
    symlink(dir.path().join("secret"), boot.join("absolute")).unwrap();
    symlink("..", boot.join("up")).unwrap();
    symlink("/proc/self/root", boot.join("magic")).unwrap();
    symlink("circle", boot.join("circle")).unwrap();
    symlink("Talos/v1/vmlinuz", boot.join("inside")).unwrap();
    assert!(files.open("inside").is_ok());
    symlink(boot.join("../secret"), boot.join("climbs-absolutely")).unwrap();
    symlink(dir.path().join("gone"), boot.join("dangling")).unwrap();
    for name in [
        "../secret",
        "Talos/../../secret",
        "..\\secret",
        "%2e%2e/secret",
        "..%2fsecret",
        "Talos%2F..%2f..%5Csecret",
        "climbs",
        "absolute",
        "up/secret",
        "magic/etc/passwd",
        "climbs-absolutely",
        "dangling",
    ] {
        assert!(matches!(files.open(name), Err(OpenError::Outside)), "{name}");
        assert!(files.open_at_hand(name).is_none(), "{name}");
    }
    // Only what leads inside is at hand.
    assert!(files.open_at_hand("inside").is_some());
    assert!(files.open_at_hand("circle").is_none() && files.open_at_hand("a\0b").is_none());
    assert!(files.open("circle").is_err() && files.open("CLIMBS").is_err());
    assert!(matches!(files.open("a\0b"), Err(OpenError::Outside)));
    assert!(matches!(files.open("Talos/v1/vmlinuz%00.efi"), Err(OpenError::NotFound { .. })));
    assert!(matches!(files.open("%252e%252e/secret"), Err(OpenError::NotFound { .. })));
    assert!(matches!(files.open(&"n".repeat(5000)), Err(OpenError::NotFound { .. })));
}

#[test]
fn links_that_name_a_place_inside_by_its_whole_path_are_served() {
    let dir = tempfile::tempdir().unwrap();
    let files = files_in(dir.path());
    let boot = dir.path().join("boot");
    symlink(boot.join("Talos/v1/vmlinuz"), boot.join("file")).unwrap();
    symlink(boot.join("Talos"), boot.join("Latest")).unwrap();
    symlink(boot.join("Latest"), boot.join("again")).unwrap();
    symlink(dir.path(), dir.path().join("another-way")).unwrap();
    symlink(dir.path().join("another-way/boot/file"), boot.join("around")).unwrap();
    for name in ["file", "FILE", "Latest/v1/vmlinuz", "latest/V1/vmlinuz", "again/v1/vmlinuz", "around"] {
        assert_eq!(files.open(name).map(|file| file.size).ok(), Some(6), "{name}");
    }
    assert!(matches!(files.open("Latest"), Err(OpenError::NotAFile(_))));
    // The boot directory by another name.
    let files = BootFiles::new(dir.path().join("another-way/boot"), BTreeMap::new());
    assert_eq!(files.open("around").map(|file| file.size).ok(), Some(6));
}

#[test]
fn names_may_begin_with_the_boot_directory_s_own() {
    let dir = tempfile::tempdir().unwrap();
    let files = files_in(dir.path());
    let boot = dir.path().join("boot");
    let asked = |name: &str| files.open(&format!("{}{name}", boot.display())).map(|file| file.size);
    assert_eq!(asked("/Talos/v1/vmlinuz").ok(), Some(6));
    assert_eq!(asked("//TALOS\\v1/vmlinuz").ok(), Some(6));
    assert!(asked("/../secret").is_err());
    assert!(matches!(asked(""), Err(OpenError::NotFound { .. })));
    assert!(matches!(asked("s/Talos/v1/vmlinuz"), Err(OpenError::NotFound { .. })));
    fs::write(boot.join("snponly.efi"), efi(0xaa64, 0x20b, 10)).unwrap();
    let name = boot.join("snponly.efi").display().to_string();
    assert!(files.inspect_open(&name, &files.open(&name).unwrap()).problem.is_some(), "known by its place");
    // A file that really has that name is meant.
    let nested = boot.join(boot.strip_prefix("/").unwrap());
    fs::create_dir_all(nested.join("Talos/v1")).unwrap();
    fs::write(nested.join("Talos/v1/vmlinuz"), "nested").unwrap();
    fs::write(boot.join("Talos/v1/vmlinuz"), "longer one").unwrap();
    assert_eq!(asked("/Talos/v1/vmlinuz").ok(), Some(6));
}

#[test]
fn only_regular_files_are_served() {
    let dir = tempfile::tempdir().unwrap();
    let files = files_in(dir.path());
    let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("boot/socket")).unwrap();
    for name in ["", "/", ".", "Talos", "Talos/", "socket"] {
        assert!(matches!(files.open(name), Err(OpenError::NotAFile(_))), "{name:?}");
        assert!(files.open_at_hand(name).is_none(), "{name:?}");
    }
    assert!(matches!(files.open("Talos/v1/vmlinuz/x"), Err(OpenError::NotFound { .. })));
    let nowhere = BootFiles::new(dir.path().join("later"), BTreeMap::new());
    assert!(matches!(nowhere.open("x"), Err(OpenError::NotFound { .. })));
}

#[test]
fn what_is_at_hand_is_what_would_be_opened() {
    let dir = tempfile::tempdir().unwrap();
    let mut files = files_in(dir.path());
    let boot = dir.path().join("boot");
    symlink("../secret", boot.join("climbs")).unwrap();
    symlink("Talos/v1/vmlinuz", boot.join("inside")).unwrap();
    nix::unistd::mkfifo(&boot.join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    // Nobody knows yet whether its file system would have to ask somebody else.
    assert!(files.open_at_hand("inside").is_none());
    for name in ["Talos/v1/vmlinuz", "/Talos/../Talos\\v1/vmlinuz", "inside"] {
        let opened = files.open_plain(name).unwrap();
        assert_eq!(files.open_at_hand(name).map(|file| file.version()), Some(opened.version()), "{name}");
    }
    for name in ["climbs", "pipe", "Talos", "../secret", "missing", "talos/v1/VMLINUZ", ""] {
        assert!(files.open_at_hand(name).is_none(), "{name}");
    }
    // A file that was named on the command line comes before it.
    files.put("inside", dir.path().join("secret"));
    assert!(files.open_at_hand("inside").is_none());
}

#[test]
fn loaders_come_from_boot_dir_then_configuration_then_system() {
    let dir = tempfile::tempdir().unwrap();
    let mut files = files_in(dir.path());
    assert_eq!(files.loader_for(Firmware::EfiX64), Err(MissingLoader(Firmware::EfiX64)));
    fs::write(dir.path().join("system/ipxe.efi"), "s").unwrap();
    assert_eq!(files.loader_for(Firmware::EfiX64), Ok("ipxe.efi"));
    fs::write(dir.path().join("system/snponly.efi"), "s").unwrap();
    for firmware in [Firmware::EfiX64, Firmware::HttpX64, Firmware::Other] {
        assert_eq!(files.loader_for(firmware), Ok("snponly.efi"));
    }
    files.configured.insert("x64".to_owned(), dir.path().join("secret"));
    assert_eq!(files.open("snponly.efi").unwrap().size, 6);
    fs::write(dir.path().join("boot/SNPONLY.EFI"), "boot").unwrap();
    assert_eq!(files.open("snponly.efi").unwrap().size, 4);
    assert_eq!(files.open("/amd64/snp.efi").unwrap().size, 4);
    assert!(files.open("arm64/snp.efi").is_err());
}

#[test]
fn every_firmware_has_a_loader_or_says_what_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let files = files_in(dir.path());
    for firmware in Firmware::ALL {
        let says = files.loader_for(firmware).unwrap_err().to_string();
        let hint = match firmware {
            Firmware::None => "not a PXE client",
            _ if firmware.program() == Program::Else => "[[boot_file]] with arch = ",
            _ => "[ipxe]",
        };
        assert!(says.contains(hint), "{says}");
    }
    for name in BootFiles::names() {
        fs::write(dir.path().join("boot").join(name), "x").unwrap();
    }
    for firmware in Firmware::ALL.into_iter().filter(|firmware| firmware.program() != Program::Else) {
        let name = files.loader_for(firmware).unwrap();
        assert!(BootFiles::names().any(|known| known == name) && files.open(name).is_ok());
    }
}

#[test]
fn a_miss_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let files = files_in(dir.path());
    fs::write(dir.path().join("boot/custom.efi"), "x").unwrap();
    fs::write(dir.path().join("system/ipxe.efi"), "x").unwrap();
    for (asked, meant) in [
        ("boot/custom.efi", "custom.efi"),
        ("\\tftpboot\\x64\\CUSTOM.efi", "CUSTOM.efi"),
        ("grub/ipxe.efi", "ipxe.efi"),
        ("x/snp.efi", "snp.efi"),
    ] {
        let says = files.open(asked).unwrap_err().to_string();
        assert!(says.ends_with(&format!("; perhaps you mean {meant}")), "{asked}: {says}");
        assert!(files.open(meant).is_ok());
    }
    for asked in ["nothing.efi", "boot/nothing.efi", "talos/vmlinuz", "x/Talos"] {
        let says = files.open(asked).unwrap_err().to_string();
        assert!(
            says.contains("no such file in") && says.contains("; put it there, or correct"),
            "{asked}: {says}"
        );
    }
    assert!(files.open("..").unwrap_err().to_string().contains("; copy the file into it"));
    assert!(files.open("Talos").unwrap_err().to_string().contains("; name one, or put one there"));
    let denied = OpenError::Io { path: "/x".into(), error: io::ErrorKind::PermissionDenied.into() };
    assert!(denied.to_string().ends_with("; let the daemon's user read it and enter its directories"));
}

#[test]
fn every_change_of_a_file_is_another_version() {
    let dir = tempfile::tempdir().unwrap();
    let files = files_in(dir.path());
    let path = dir.path().join("boot/f");
    let version = || files.open("f").unwrap().version();
    let write = |text: &str| fs::write(&path, text).unwrap();
    let set_time = |seconds| {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
    };
    write("one");
    set_time(1000);
    let first = version();
    assert_eq!(version(), first, "nothing has changed");

    write("four");
    set_time(1000);
    assert_ne!(version(), first, "another size");

    // Same size and time. The clock of the file system moves in steps, so until it does the two look the same.
    let end = std::time::Instant::now() + Duration::from_secs(30);
    loop {
        write("two");
        set_time(1000);
        if version() != first {
            break;
        }
        assert!(std::time::Instant::now() < end, "the change shows nowhere");
    }

    write("one");
    fs::write(dir.path().join("boot/new"), "one").unwrap();
    let before = version();
    fs::rename(dir.path().join("boot/new"), &path).unwrap();
    assert_ne!(version(), before, "another file of this name");
}

#[test]
fn a_new_name_leaves_an_open_file_as_it_was_and_new_bytes_do_not() {
    let other = |path: &Path| path.with_extension("other");
    let write = |path: &Path, bytes: &str| {
        let written = fs::metadata(path).unwrap().modified().unwrap();
        fs::write(path, bytes).unwrap();
        File::options().write(true).open(path).unwrap().set_modified(written).unwrap();
    };
    type Deed<'a> = &'a dyn Fn(&Path);
    let deeds: [(&str, Deed<'_>, bool); 9] = [
        ("nothing", &|_| {}, true),
        ("renamed", &|path| fs::rename(path, other(path)).unwrap(), true),
        ("removed", &|path| fs::remove_file(path).unwrap(), true),
        ("another one in its place", &|path| fs::rename(other(path), path).unwrap(), true),
        ("a second name", &|path| fs::hard_link(path, path.with_extension("second")).unwrap(), true),
        ("other rights", &|path| fs::set_permissions(path, Permissions::from_mode(0o604)).unwrap(), true),
        ("written to", &|path| fs::write(path, "KERNEL").unwrap(), false),
        ("longer", &|path| write(path, "kernel and more"), false),
        ("written to, with its old time", &|path| write(path, "KERNEL"), false),
    ];
    for (deed, done, is_unchanged) in deeds {
        let dir = tempfile::tempdir().unwrap();
        let files = files_in(dir.path());
        let path = dir.path().join("boot/Talos/v1/vmlinuz");
        fs::write(other(&path), "another").unwrap();
        let opened = files.open_plain("Talos/v1/vmlinuz").unwrap();
        done(&path);
        // The clock of the file system moves in steps, so until it does two writes look the same.
        let end = std::time::Instant::now() + Duration::from_secs(30);
        while !is_unchanged && opened.is_unchanged().unwrap() && std::time::Instant::now() < end {
            done(&path);
        }
        assert_eq!(opened.is_unchanged().unwrap(), is_unchanged, "{deed}");
    }
}

#[test]
fn an_open_file_is_inspected_as_what_the_configuration_says_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let boot = dir.path().join("boot");
    fs::create_dir_all(&boot).unwrap();
    let config = format!(
        "boot_dir = {boot:?}\n[[interface]]\nname = \"eth1\"\ndhcp = \"proxy\"\n\
         [[boot_file]]\narch = [7, 9]\nfile = \"Custom.bin\"\n[[boot_file]]\narch = [16]\nfile = \"disk.iso\"\n\
         [[boot_file]]\narch = 0\nfile = \"bios.efi\"\n[[boot_file]]\narch = 11\nfile = \"ipxe.efi\"\n\
         [[boot_file]]\nfile = \"any\"\n\
         [[profile]]\nname = \"p\"\nkernel = \"k\"\ninitrd = [\"i\"]\n"
    );
    let files = BootFiles::configured(&config::parse(&config, "xpxe.toml").unwrap());
    let problem = |name: &str, content: &[u8]| {
        fs::write(boot.join(name), content).unwrap();
        files.inspect_open(&format!("/{}", name.to_uppercase()), &files.open(name).unwrap()).problem
    };
    let [x64, arm64] = [0x8664, 0xaa64].map(|machine| efi(machine, 0x20b, 10));
    let program = b"\xea\x05\x00\xc0\x07".as_slice();
    for (name, good, bad, why) in [
        (
            "Custom.bin",
            x64.as_slice(),
            arm64.as_slice(),
            "it is an arm64 EFI application, but x86-64 machines get it",
        ),
        ("Custom.bin", &x64, program, "a BIOS network boot program, which UEFI firmware cannot boot"),
        ("disk.iso", &[0; 64], &arm64, "but x86-64 machines get it"),
        ("disk.iso", &x64, b"plain text", "a text file, which UEFI"),
        ("bios.efi", program, &x64, "an x86-64 EFI application, which BIOS machines cannot boot"),
        ("any", &arm64, b"\x7fELF", "an ELF program, which firmware cannot boot"),
        ("any", b"text of another firmware's", b"", "it is empty"),
        ("k", b"\x7fELF", b"<!DOCTYPE html>", "perhaps a download that failed"),
        ("i", b"anything", b"", "it is empty"),
        ("nobody.knows", b"<config/>", b"", ""),
        ("SNP.EFI", &x64, &arm64, "put the x86-64 one in its place"),
    ] {
        assert_eq!(problem(name, good), None, "{name}");
        let found = problem(name, bad);
        assert!(found.as_ref().map_or(why.is_empty(), |found| found.contains(why)), "{name}: {found:?}");
    }
    // For arm64 by a rule, and for x64 because it is called so: nothing is right.
    assert!(problem("ipxe.efi", &arm64).is_some() && problem("ipxe.efi", &x64).is_some());
}

#[test]
fn the_audit_names_every_boot_file_and_judges_it() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    fs::create_dir_all(root.join("boot/talos")).unwrap();
    fs::create_dir_all(root.join("system")).unwrap();
    fs::write(root.join("system/undionly.kpxe"), b"\xea\x05\x00\xc0\x07").unwrap();
    fs::write(root.join("system/ipxe.efi"), b"<html>not found</html>").unwrap();
    fs::write(root.join("own-x64.efi"), efi(0x8664, 0x20b, 10)).unwrap();
    fs::write(root.join("boot/snponly.efi"), efi(0xaa64, 0x20b, 10)).unwrap();
    fs::write(root.join("boot/ipxe.efi"), b"<html>not found</html>").unwrap();
    fs::write(root.join("boot/talos/vmlinuz"), "kernel").unwrap();
    fs::create_dir_all(root.join("boot/EFI")).unwrap();
    fs::write(root.join("boot/EFI/BOOTAA64.EFI"), efi(0x8664, 0x20b, 10)).unwrap();
    fs::write(root.join("boot/grubx64.efi"), efi(0x8664, 0x20b, 10)).unwrap();
    symlink("/nowhere/gone.efi", root.join("boot/gone.efi")).unwrap();
    let text = format!(
        "boot_dir = {:?}\n[[interface]]\nname = \"eth1\"\ndhcp = \"proxy\"\n[ipxe]\nx64 = {:?}\narm64 = {:?}\n\
         [[profile]]\nname = \"talos\"\nkernel = \"talos/vmlinuz\"\ninitrd = [\"talos/initrd\"]\n\
         [[profile]]\nname = \"again\"\nkernel = \"talos/vmlinuz\"\ninitrd = [\"http://h/i\"]\n\
         [[machine]]\nmac = \"52:54:00:00:00:01\"\nname = \"node1\"\nboot_file = \"x/snponly.efi\"\n",
        root.join("boot"),
        root.join("own-x64.efi"),
        root.join("own-arm64.efi"),
    );
    let config = config::parse(&text, "xpxe.toml").unwrap();
    let files = BootFiles::configured(&config).with_system_dirs(vec![root.join("system")]);
    let root = root.display();
    let expected = [
        (Verdict::Error, format!("arm64 in [ipxe] ({root}/own-arm64.efi): cannot open")),
        (Verdict::Fine, format!("x64 in [ipxe] is an x86-64 EFI application, 1.0 kB ({root}/own-x64.efi)")),
        (
            Verdict::Fine,
            format!("undionly.kpxe is a BIOS network boot program, 5 bytes ({root}/system/undionly.kpxe)"),
        ),
        (
            Verdict::Error,
            format!("snponly.efi ({root}/boot/snponly.efi): it is an arm64 EFI application, but x86-64"),
        ),
        (
            Verdict::Warning,
            format!("ipxe.efi ({root}/boot/ipxe.efi): it is an HTML or XML page, perhaps a download"),
        ),
        (
            Verdict::Warning,
            "there is no iPXE binary for arm64, riscv64, loongarch64, ia32, arm32 mach".to_owned(),
        ),
        (Verdict::Error, "talos/initrd (initrd of profile talos): no such file in".to_owned()),
        (
            Verdict::Fine,
            "talos/vmlinuz is a text file, 6 bytes (kernel of profile again, kernel of profile talos)"
                .to_owned(),
        ),
        (Verdict::Error, "x/snponly.efi (boot_file of node1): no such file in".to_owned()),
        (
            Verdict::Warning,
            format!(
                "EFI/BOOTAA64.EFI ({root}/boot/EFI/BOOTAA64.EFI): it is an x86-64 EFI application, but its"
            ),
        ),
        (
            Verdict::Warning,
            format!("gone.efi ({root}/boot/gone.efi): the name or a symbolic link in it leads"),
        ),
        (
            Verdict::Fine,
            format!("grubx64.efi is an x86-64 EFI application, 1.0 kB ({root}/boot/grubx64.efi)"),
        ),
    ];
    let found = files.audit(&config);
    let matches = |(finding, (verdict, says)): (&Finding, &(Verdict, String))| {
        finding.verdict == *verdict && finding.says.starts_with(says.as_str())
    };
    assert!(found.len() == expected.len() && found.iter().zip(&expected).all(matches), "{found:#?}");
    let hidden = "put the x86-64 one in its place, or remove it: ";
    assert!(found[3].says.contains(hidden) && found[3].says.ends_with("own-x64.efi is good"), "{found:#?}");
}

#[test]
fn the_audit_says_that_there_is_no_boot_dir() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    let audit = |settings: String| {
        let text = format!("{settings}\n[[interface]]\nname = \"eth1\"\ndhcp = \"proxy\"\n");
        let config = config::parse(&text, "xpxe.toml").unwrap();
        let first = BootFiles::configured(&config).audit(&config).into_iter().next().unwrap();
        (first.verdict, first.says)
    };
    let path = |name: &str| dir.path().join(name);
    for (settings, verdict, why) in [
        (
            format!("boot_dir = {:?}", path("gone")),
            Verdict::Error,
            "; make it and put boot files into it, or",
        ),
        (
            format!("state_dir = {:?}", path("gone")),
            Verdict::Warning,
            "gone/boot cannot be read: No such file",
        ),
        (format!("boot_dir = {:?}", path("file")), Verdict::Error, "; set boot_dir to the directory with"),
    ] {
        let (found, says) = audit(settings);
        assert!(found == verdict && says.starts_with("boot_dir /") && says.contains(why), "{found:?} {says}");
    }
    fs::create_dir(path("boot")).unwrap();
    let (_, says) = audit(format!("boot_dir = {:?}", path("boot")));
    assert!(!says.contains("cannot be read"), "{says}");
}
