//! The names TFTP and HTTP may serve: everything beneath the boot directory, and the iPXE binaries.
//!
//! Names are read tolerantly, because firmware writes them in many ways (backslashes, doubled slashes, other
//! case), and resolved strictly: the kernel itself refuses every path that leads out of the boot directory.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use boot_common::class::Firmware;
use rustix::fs::{Dir, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// Where distributions put iPXE binaries; `/boot` has Debian's ipxe.efi.
const SYSTEM_DIRS: [&str; 3] = ["/usr/lib/ipxe", "/usr/share/ipxe", "/boot"];

/// An iPXE binary: the name it is served as, the `[ipxe]` key that overrides it, and the system's names for it.
struct Loader {
    name: &'static str,
    key: &'static str,
    system: &'static [&'static str],
}

const LOADERS: &[Loader] = &[
    Loader { name: "undionly.kpxe", key: "bios", system: &["undionly.kpxe"] },
    Loader { name: "snponly.efi", key: "x64", system: &["snponly.efi", "ipxe-snponly-x86_64.efi"] },
    Loader { name: "ipxe.efi", key: "x64", system: &["ipxe.efi", "ipxe-x86_64.efi"] },
    Loader { name: "ipxe-arm64.efi", key: "arm64", system: &["ipxe-arm64.efi", "arm64-efi/ipxe.efi"] },
    Loader {
        name: "snponly-arm64.efi",
        key: "arm64",
        system: &["snponly-arm64.efi", "arm64-efi/snponly.efi"],
    },
    Loader { name: "ipxe-riscv64.efi", key: "riscv64", system: &["ipxe-riscv64.efi"] },
    Loader { name: "ipxe-loong64.efi", key: "loongarch64", system: &["ipxe-loong64.efi"] },
    Loader { name: "ipxe-ia32.efi", key: "ia32", system: &[] },
    Loader { name: "ipxe-arm32.efi", key: "arm32", system: &[] },
];

/// Names that booter serves these binaries as.
const ALIASES: &[(&str, &[&str])] = &[
    ("snp.efi", &["snponly.efi", "ipxe.efi"]),
    ("amd64/snp.efi", &["snponly.efi", "ipxe.efi"]),
    ("snp-arm64.efi", &["ipxe-arm64.efi", "snponly-arm64.efi"]),
    ("arm64/snp.efi", &["ipxe-arm64.efi", "snponly-arm64.efi"]),
];

/// A file that may be served.
#[derive(Debug)]
pub struct OpenFile {
    /// The file, opened for reading.
    pub file: File,
    /// Its size in bytes.
    pub size: u64,
    /// When its content last changed.
    pub modified: SystemTime,
    /// Device and inode: the same for every opening of the same file.
    pub identity: (u64, u64),
    /// Where it lies, for people.
    pub path: PathBuf,
}

/// Why a name is not served.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Nothing of that name.
    #[error("no such file in {}, and no iPXE binary of that name", .boot_dir.display())]
    NotFound {
        /// Where it was looked for.
        boot_dir: PathBuf,
    },
    /// The name or a link in its path leads out of the boot directory.
    #[error(
        "the name or a symbolic link in it leads out of the boot directory (links must be relative and stay inside)"
    )]
    Outside,
    /// A directory, device, pipe or socket.
    #[error("{} is not a regular file", .0.display())]
    NotAFile(PathBuf),
    /// Everything else: permissions, broken disks.
    #[error("cannot open {}: {error}", .path.display())]
    Io {
        /// What was opened.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
}

/// No boot file for a firmware kind; says what to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MissingLoader(pub Firmware);

impl fmt::Display for MissingLoader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let candidates = candidates(self.0);
        let Some(loader) = candidates.iter().find_map(|name| loader(name)) else {
            return f.write_str("not a PXE client, so there is no boot file for it");
        };
        write!(f, "no iPXE binary for {} machines: ", self.0.name())?;
        match loader.key {
            "bios" | "x64" => f.write_str("install the Debian package ipxe, ")?,
            "ia32" | "arm32" => {}
            _ => f.write_str("install the Debian package ipxe (Debian 13 or later), ")?,
        }
        write!(
            f,
            "put {} into boot_dir, or set {} in [ipxe] to the path of one",
            candidates.join(" or "),
            loader.key
        )
    }
}

impl std::error::Error for MissingLoader {}

/// The namespace of boot files.
#[derive(Debug)]
pub struct BootFiles {
    boot_dir: PathBuf,
    configured: BTreeMap<String, PathBuf>,
    /// Files that were named one by one, on the command line.
    named: BTreeMap<String, PathBuf>,
    system_dirs: Vec<PathBuf>,
}

impl BootFiles {
    /// Files beneath `boot_dir`, and the iPXE binaries of `[ipxe]` and of the system. The directory is looked up
    /// anew for each file, so it may be mounted, replaced or created later.
    #[must_use]
    pub fn new(boot_dir: PathBuf, configured_ipxe: BTreeMap<String, PathBuf>) -> Self {
        let system_dirs = SYSTEM_DIRS.map(PathBuf::from).to_vec();
        Self { boot_dir, configured: configured_ipxe, named: BTreeMap::new(), system_dirs }
    }

    /// The same with other places for the system's iPXE binaries.
    #[must_use]
    pub fn with_system_dirs(mut self, dirs: Vec<PathBuf>) -> Self {
        self.system_dirs = dirs;
        self
    }

    /// Serves one more file, wherever it lies, as `name`: before a file of that name in the boot directory.
    pub fn put(&mut self, name: &str, path: PathBuf) {
        self.named.insert(name.to_owned(), path);
    }

    /// The directory that is served.
    #[must_use]
    pub fn boot_dir(&self) -> &Path {
        &self.boot_dir
    }

    /// Opens a file by the name a client asked for.
    pub fn open(&self, name: &str) -> Result<OpenFile, OpenError> {
        let name = tidy(name)?;
        if let Some(path) = self.named.get(&name) {
            return open_trusted(path.clone());
        }
        match self.open_in_boot_dir(&name) {
            Err(OpenError::NotFound { .. }) => {}
            result => return result,
        }
        let lower = name.to_ascii_lowercase();
        if let Some(loader) = loader(&lower) {
            return self.open_loader(loader).ok_or_else(|| self.not_found());
        }
        let alias = ALIASES.iter().find(|(alias, _)| *alias == lower);
        let targets = alias.map_or(&[][..], |(_, targets)| targets);
        targets.iter().find_map(|target| self.open(target).ok()).ok_or_else(|| self.not_found())
    }

    /// The name of the boot file for a firmware kind; [`BootFiles::open`] serves that name.
    pub fn loader_for(&self, firmware: Firmware) -> Result<&'static str, MissingLoader> {
        let mut names = candidates(firmware).iter().copied();
        names.find(|name| self.open(name).is_ok()).ok_or(MissingLoader(firmware))
    }

    /// Every name a boot file can have.
    pub fn names() -> impl Iterator<Item = &'static str> {
        LOADERS.iter().map(|loader| loader.name)
    }

    fn not_found(&self) -> OpenError {
        OpenError::NotFound { boot_dir: self.boot_dir.clone() }
    }

    fn open_in_boot_dir(&self, name: &str) -> Result<OpenFile, OpenError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(&self.boot_dir, flags, Mode::empty())
            .map_err(|error| self.explain(&self.boot_dir, error))?;
        let exact = Path::new(name);
        let (path, opened) = match beneath(&root, exact, OFlags::empty()) {
            Err(Errno::NOENT) => {
                let path = in_any_case(&root, name).ok_or_else(|| self.not_found())?;
                let opened = beneath(&root, &path, OFlags::empty());
                (path, opened)
            }
            opened => (exact.to_path_buf(), opened),
        };
        let path = self.boot_dir.join(path);
        let file = opened.map_err(|error| self.explain(&path, error))?;
        regular(File::from(file), path)
    }

    fn open_loader(&self, loader: &Loader) -> Option<OpenFile> {
        let configured = self.configured.get(loader.key).cloned();
        let system =
            loader.system.iter().flat_map(|name| self.system_dirs.iter().map(move |dir| dir.join(name)));
        configured.into_iter().chain(system).find_map(|path| open_trusted(path).ok())
    }

    fn explain(&self, path: &Path, error: Errno) -> OpenError {
        match error {
            Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG => self.not_found(),
            Errno::XDEV | Errno::LOOP => OpenError::Outside,
            Errno::NXIO | Errno::NODEV => OpenError::NotAFile(path.to_path_buf()),
            error => OpenError::Io { path: path.to_path_buf(), error: error.into() },
        }
    }
}

/// Boot files for a firmware kind, best first. The SNP-only builds use the firmware's own driver, which works on
/// every card that could network-boot this far.
fn candidates(firmware: Firmware) -> &'static [&'static str] {
    match firmware {
        Firmware::None => &[],
        Firmware::Bios => &["undionly.kpxe"],
        Firmware::EfiX64 | Firmware::HttpX64 | Firmware::Other => &["snponly.efi", "ipxe.efi"],
        Firmware::EfiArm64 | Firmware::HttpArm64 => &["ipxe-arm64.efi", "snponly-arm64.efi"],
        Firmware::EfiRiscv64 | Firmware::HttpRiscv64 => &["ipxe-riscv64.efi"],
        Firmware::EfiLoongArch64 | Firmware::HttpLoongArch64 => &["ipxe-loong64.efi"],
        Firmware::EfiIa32 | Firmware::HttpIa32 => &["ipxe-ia32.efi"],
        Firmware::EfiArm32 | Firmware::HttpArm32 => &["ipxe-arm32.efi"],
    }
}

fn loader(name: &str) -> Option<&'static Loader> {
    LOADERS.iter().find(|loader| loader.name == name)
}

/// The relative path a client means.
fn tidy(name: &str) -> Result<String, OpenError> {
    let name = name.trim_end_matches(['\0', '\u{ff}', '\u{fffd}']).replace('\\', "/");
    let parts: Vec<&str> = name.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    if parts.contains(&"..") || name.contains('\0') {
        return Err(OpenError::Outside);
    }
    // The boot directory itself, so that the answer is "not a regular file".
    Ok(if parts.is_empty() { ".".to_owned() } else { parts.join("/") })
}

/// Opens beneath `root`; NONBLOCK keeps a named pipe from holding the daemon.
fn beneath(root: &OwnedFd, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let open = || rustix::fs::openat2(root, path, flags, Mode::empty(), resolve);
    // EAGAIN means that something was renamed meanwhile, so the kernel could not prove where the path leads.
    (0..8).map(|_| open()).find(|result| !matches!(result, Err(Errno::AGAIN))).unwrap_or(Err(Errno::AGAIN))
}

/// Finds a path whose letters differ from `name` in case only.
fn in_any_case(root: &OwnedFd, name: &str) -> Option<PathBuf> {
    let mut path = PathBuf::new();
    for part in name.split('/') {
        if beneath(root, &path.join(part), OFlags::PATH).is_ok() {
            path.push(part);
            continue;
        }
        let here = if path.as_os_str().is_empty() { Path::new(".") } else { &path };
        let entries = Dir::new(beneath(root, here, OFlags::DIRECTORY).ok()?).ok()?;
        let mut matches: Vec<Vec<u8>> = entries
            .filter_map(|entry| Some(entry.ok()?.file_name().to_bytes().to_vec()))
            .filter(|entry| entry.eq_ignore_ascii_case(part.as_bytes()))
            .collect();
        // Two spellings side by side: always the same one, whatever order the file system lists them in.
        matches.sort();
        path.push(OsString::from_vec(matches.into_iter().next()?));
    }
    Some(path)
}

/// Opens a path that the operator gave, not a client.
fn open_trusted(path: PathBuf) -> Result<OpenFile, OpenError> {
    // Without NONBLOCK the opening of a pipe would wait for a writer.
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    match File::options().read(true).custom_flags(flags).open(&path) {
        Ok(file) => regular(file, path),
        Err(error) => Err(OpenError::Io { path, error }),
    }
}

fn regular(file: File, path: PathBuf) -> Result<OpenFile, OpenError> {
    let facts = match file.metadata() {
        Ok(facts) if facts.is_file() => facts,
        Ok(_) => return Err(OpenError::NotAFile(path)),
        Err(error) => return Err(OpenError::Io { path, error }),
    };
    let modified = facts.modified().unwrap_or(SystemTime::UNIX_EPOCH);
    Ok(OpenFile { file, size: facts.len(), modified, identity: (facts.dev(), facts.ino()), path })
}

/// What kind of file this is, in words, from its first bytes: "x86-64 EFI application, 1.0 MB".
#[must_use]
pub fn describe(path: &Path) -> String {
    let mut head = [0; 4096];
    let facts = File::open(path).and_then(|file| {
        let facts = file.metadata()?;
        let read = if facts.is_file() { file.read_at(&mut head, 0)? } else { 0 };
        Ok((facts, read))
    });
    match facts {
        Err(error) => format!("cannot be read: {error}"),
        Ok((facts, _)) if !facts.is_file() => "not a regular file".to_owned(),
        Ok((facts, read)) => {
            let head = head.get(..read).unwrap_or_default();
            format!("{}, {}", kind_of(head), human_size(facts.len()))
        }
    }
}

/// The kind of file that begins with these bytes.
fn kind_of(head: &[u8]) -> String {
    let at = |offset: usize, bytes: &[u8]| head.get(offset..).is_some_and(|rest| rest.starts_with(bytes));
    let text = head.trim_ascii_start();
    let plain = if head.is_empty() {
        "empty file"
    } else if at(0x202, b"HdrS") {
        "Linux kernel (x86) or program in that format"
    } else if at(56, b"ARM\x64") {
        "Linux kernel (arm64)"
    } else if let Some(machine) = pe_machine(head) {
        return format!("{machine} EFI application");
    } else if at(0, b"\x7fELF") {
        "ELF program, which firmware cannot boot"
    } else if at(0, b"#!ipxe") {
        "iPXE script"
    } else if text.get(..1) == Some(b"<") {
        "HTML or XML page, perhaps a download that failed"
    } else if at(0, b"\x1f\x8b") || at(0, b"\xfd7zXZ") || at(0, b"\x28\xb5\x2f\xfd") || at(0, b"0707") {
        "archive or initrd"
    } else if at(0, b"MZ") {
        "damaged EFI application"
    } else if head.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace()) {
        "text"
    } else if matches!(head.first(), Some(0xea | 0xeb | 0xe9 | 0xfa)) {
        // No magic number exists for these; they all begin with a jump or with interrupts off.
        "BIOS network boot program"
    } else {
        "unknown kind of file"
    };
    plain.to_owned()
}

/// The machine of a PE image, which is what an EFI application is.
fn pe_machine(head: &[u8]) -> Option<&'static str> {
    if !head.starts_with(b"MZ") {
        return None;
    }
    let start = usize::try_from(u32::from_le_bytes(*head.get(0x3c..)?.first_chunk()?)).ok()?;
    let machine = head.get(start..)?.strip_prefix(b"PE\0\0")?.first_chunk()?;
    Some(match u16::from_le_bytes(*machine) {
        0x014c => "IA-32",
        0x8664 => "x86-64",
        0x01c0 | 0x01c2 | 0x01c4 => "32-bit Arm",
        0xaa64 => "arm64",
        0x5064 => "riscv64",
        0x6264 => "loongarch64",
        _ => "unknown processor's",
    })
}

/// True for an EFI application, by its first bytes.
#[must_use]
pub fn is_efi_application(head: &[u8]) -> bool {
    pe_machine(head).is_some()
}

/// A size for people: "173.8 kB", "8.2 MB".
#[must_use]
pub fn human_size(bytes: u64) -> String {
    let scaled = |unit: f64| bytes as f64 / unit;
    match bytes {
        0..1_000 => format!("{bytes} bytes"),
        1_000..1_000_000 => format!("{:.1} kB", scaled(1e3)),
        1_000_000..1_000_000_000 => format!("{:.1} MB", scaled(1e6)),
        _ => format!("{:.1} GB", scaled(1e9)),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

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
        ] {
            assert_eq!(files.open(name).map(|file| file.size).ok(), Some(6), "{name:?}");
        }
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
        for name in [
            "../secret",
            "Talos/../../secret",
            "..\\secret",
            "climbs",
            "absolute",
            "up/secret",
            "magic/etc/passwd",
        ] {
            assert!(matches!(files.open(name), Err(OpenError::Outside)), "{name}");
        }
        assert!(files.open("circle").is_err() && files.open("CLIMBS").is_err());
        assert!(matches!(files.open("a\0b"), Err(OpenError::Outside)));
        assert!(matches!(files.open(&"n".repeat(5000)), Err(OpenError::NotFound { .. })));
    }

    #[test]
    fn only_regular_files_are_served() {
        let dir = tempfile::tempdir().unwrap();
        let files = files_in(dir.path());
        let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("boot/socket")).unwrap();
        for name in ["", "/", ".", "Talos", "Talos/", "socket"] {
            assert!(matches!(files.open(name), Err(OpenError::NotAFile(_))), "{name:?}");
        }
        assert!(matches!(files.open("Talos/v1/vmlinuz/x"), Err(OpenError::NotFound { .. })));
        let nowhere = BootFiles::new(dir.path().join("later"), BTreeMap::new());
        assert!(matches!(nowhere.open("x"), Err(OpenError::NotFound { .. })));
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
            assert_eq!(says.contains("[ipxe]"), firmware != Firmware::None, "{says}");
        }
        for name in BootFiles::names() {
            fs::write(dir.path().join("boot").join(name), "x").unwrap();
        }
        for firmware in Firmware::ALL.into_iter().skip(1) {
            let name = files.loader_for(firmware).unwrap();
            assert!(BootFiles::names().any(|known| known == name) && files.open(name).is_ok());
        }
    }

    #[test]
    fn describes_files_by_their_first_bytes() {
        let mut pe = [0; 200];
        pe[..2].copy_from_slice(b"MZ");
        pe[0x3c] = 0x80;
        pe[0x80..0x86].copy_from_slice(b"PE\0\0\x64\xaa");
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        for (content, says) in [
            (&pe[..], "arm64 EFI application, 200 bytes"),
            (b"MZ\0\0", "damaged EFI application, 4 bytes"),
            (b"\n <!DOCTYPE html>", "HTML or XML page, perhaps a download that failed, 17 bytes"),
            (b"\x7fELF\x02", "ELF program, which firmware cannot boot, 5 bytes"),
            (b"\xea\x05\x00\xc0\x07", "BIOS network boot program, 5 bytes"),
            (b"#!ipxe\n", "iPXE script, 7 bytes"),
            (b"", "empty file, 0 bytes"),
        ] {
            fs::write(&path, content).unwrap();
            assert_eq!(describe(&path), says);
        }
        assert_eq!(describe(dir.path()), "not a regular file");
        assert_eq!(human_size(173_792), "173.8 kB");
    }
}
