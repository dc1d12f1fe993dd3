//! The operating system a machine ends up in: Debian's kernel and an initrd of busybox.
//!
//! Its `/init` says on the serial console
//!
//! ```text
//! XPXE-GUEST cmdline: <the kernel's arguments as the kernel got them>
//! XPXE-GUEST address: <address by DHCP> hostname: <name by DHCP, or ->
//! ```
//!
//! and powers off; "none" stands where DHCP gave no address. An initrd with a payload has it say also
//! `XPXE-GUEST payload: <its SHA-256>`. The kernel and its modules are prepared by
//! `cargo xtask setup` in `target/guest` (or in the directory `XPXE_GUEST_DIR` names): `vmlinuz` and
//! `modules/*.ko`; for 64-bit Arm in `arm64` there, with busybox.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The processor that a guest is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cpu {
    /// x86-64.
    X64,
    /// 64-bit Arm.
    Arm64,
}

impl Cpu {
    /// The kernel's path below the directory given to [`install_for`].
    pub const fn kernel(self) -> &'static str {
        match self {
            Self::X64 => KERNEL,
            Self::Arm64 => "guest/arm64/vmlinuz",
        }
    }

    /// The initrd's path below the directory given to [`install_for`].
    pub const fn initrd(self) -> &'static str {
        match self {
            Self::X64 => INITRD,
            Self::Arm64 => "guest/arm64/initrd.img",
        }
    }

    /// The directory of its prepared files.
    fn source(self, name: &str) -> Result<PathBuf> {
        match self {
            Self::X64 => source(name),
            Self::Arm64 => source(&format!("arm64/{name}")),
        }
    }

    fn busybox(self) -> Result<PathBuf> {
        match self {
            Self::X64 => Ok(PathBuf::from(BUSYBOX)),
            Self::Arm64 => self.source("busybox"),
        }
    }

    /// The last one of [`MODULES`] is for a card that Arm machines do not have.
    fn modules(self) -> &'static [&'static str] {
        match self {
            Self::X64 => &MODULES,
            Self::Arm64 => MODULES.split_last().map_or(&[], |(_, others)| others),
        }
    }
}

/// The modules of the network card, in the order to load them.
pub const MODULES: [&str; 9] = [
    "virtio_ring",
    "virtio",
    "virtio_pci_legacy_dev",
    "virtio_pci_modern_dev",
    "virtio_pci",
    "failover",
    "net_failover",
    "virtio_net",
    "e1000",
];

/// The beginning of the console line with the guest's kernel command line.
pub const CMDLINE: &str = "XPXE-GUEST cmdline:";
/// The beginning of the console line with the guest's address.
pub const ADDRESS: &str = "XPXE-GUEST address:";
/// The beginning of the console line with the first line of the document that `xpxe.document=` names.
pub const DOCUMENT: &str = "XPXE-GUEST document:";
/// The beginning of the console line with the payload's hash.
pub const PAYLOAD: &str = "XPXE-GUEST payload:";
/// The kernel's own first line.
pub const KERNEL_FIRST_LINE: &str = "Linux version";

/// The kernel's path below the directory given to [`install`].
pub const KERNEL: &str = "guest/vmlinuz";
/// The initrd's path below the directory given to [`install`].
pub const INITRD: &str = "guest/initrd.img";

pub(crate) const BUSYBOX: &str = "/bin/busybox";

const INIT: &str = r#"#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
# The kernel's own lines would end in the middle of ours.
$b dmesg -n 1
echo "XPXE-GUEST cmdline: $($b cat /proc/cmdline)"
[ -f /payload ] && echo "XPXE-GUEST payload: $($b sha256sum < /payload)"
while read module; do $b insmod /modules/$module.ko; done < /modules/order
address=none hostname=
if $b ip link set eth0 up && $b udhcpc -i eth0 -n -q -t 10 -T 2 -O hostname -s /lease >/dev/null; then . /tmp/lease; fi
echo "XPXE-GUEST address: $address hostname: ${hostname:--}"
# An installer fetches its document, and says how it went.
for word in $($b cat /proc/cmdline); do case $word in
  xpxe.document=*) $b wget -q -O /document "${word#*=}" && echo "XPXE-GUEST document: $($b head -n 1 /document)" ;;
  xpxe.home=*) $b wget -q -O /dev/null "${word#*=}&status=success&text=installed" || echo "XPXE-GUEST not home" ;;
esac; done
$b poweroff -f
"#;

const LEASE: &str = r#"#!/bin/busybox sh
if [ "$1" = bound ]; then
  /bin/busybox ip address add $ip/$mask dev $interface
  echo "address=$ip hostname=$hostname" > /tmp/lease
fi
"#;

/// Puts the kernel and a freshly made initrd into a boot directory, as [`KERNEL`] and [`INITRD`].
pub fn install(boot_dir: &Path) -> Result<()> {
    install_for(boot_dir, Cpu::X64)
}

/// As [`install`], for machines with this processor.
pub fn install_for(boot_dir: &Path, cpu: Cpu) -> Result<()> {
    let kernel = cpu.source("vmlinuz")?;
    let (to_kernel, to_initrd) = (boot_dir.join(cpu.kernel()), boot_dir.join(cpu.initrd()));
    fs::create_dir_all(to_kernel.parent().context("the kernel's path has a directory")?)?;
    fs::copy(&kernel, &to_kernel).with_context(|| format!("copy {}", kernel.display()))?;
    fs::write(&to_initrd, archive(cpu)?.finish()).with_context(|| format!("write {}", to_initrd.display()))
}

/// The initrd's bytes.
pub fn initrd() -> Result<Vec<u8>> {
    Ok(archive(Cpu::X64)?.finish())
}

/// An initrd of exactly `size` bytes, a multiple of 4, with a payload that `fill` makes for its length; returns the initrd
/// and the payload.
pub fn initrd_of(size: usize, fill: impl Fn(usize) -> Vec<u8>) -> Result<(Vec<u8>, Vec<u8>)> {
    let mut archive = archive(Cpu::X64)?;
    let mut empty = Archive { bytes: archive.bytes.clone(), entries: archive.entries };
    empty.add("payload", Kind::Program, &[]);
    let without = empty.finish().len();
    anyhow::ensure!(size.is_multiple_of(4) && size > without, "an initrd cannot have {size} bytes");
    let payload = fill(size - without);
    archive.add("payload", Kind::Program, &payload);
    Ok((archive.finish(), payload))
}

fn archive(cpu: Cpu) -> Result<Archive> {
    let mut archive = Archive::default();
    archive.add("init", Kind::Program, INIT.as_bytes());
    add_devices_and_network(&mut archive, cpu)?;
    Ok(archive)
}

/// What every guest begins with: its console, busybox, the modules of its card, and what does with a lease.
fn add_devices_and_network(archive: &mut Archive, cpu: Cpu) -> Result<()> {
    let busybox = cpu.busybox()?;
    let busybox = fs::read(&busybox)
        .with_context(|| format!("read {} (run `cargo xtask setup`)", busybox.display()))?;
    for directory in ["bin", "dev", "proc", "sys", "tmp", "modules"] {
        archive.add(directory, Kind::Directory, &[]);
    }
    archive.add("dev/console", Kind::Device { major: 5, minor: 1 }, &[]);
    archive.add("dev/null", Kind::Device { major: 1, minor: 3 }, &[]);
    archive.add("bin/busybox", Kind::Program, &busybox);
    archive.add("lease", Kind::Program, LEASE.as_bytes());
    archive.add("modules/order", Kind::Program, (cpu.modules().join("\n") + "\n").as_bytes());
    for module in cpu.modules() {
        let path = cpu.source(&format!("modules/{module}.ko"))?;
        archive.add(&format!("modules/{module}.ko"), Kind::Program, &fs::read(path)?);
    }
    Ok(())
}

/// The initrds of the guest with cloud-init, below the directory given to [`install_cloud_init`]: its packages, and what
/// starts it.
pub const CLOUD_INIT: [&str; 2] = ["guest/cloud-init.img", "guest/cloud-init-start.img"];

/// In place of systemd's units, and of the shell's programs.
const CLOUD_INIT_START: &str = r#"#!/bin/busybox sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8
busybox mkdir -p /proc /sys /dev /run /tmp /var/log
busybox mount -t proc proc /proc
busybox --install -s /bin 2>/dev/null
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp
busybox dmesg -n 1
echo "XPXE-GUEST cmdline: $(cat /proc/cmdline)"
while read module; do insmod /modules/$module.ko; done < /modules/order
ip link set lo up
ip link set eth0 up && udhcpc -i eth0 -n -q -t 10 -T 2 -O hostname -s /lease >/dev/null && . /tmp/lease
echo "XPXE-GUEST address: ${address:-none} hostname: ${hostname:--}"
cloud-init init && cloud-init modules --mode=config && cloud-init modules --mode=final
cloud-init status
busybox poweroff -f
"#;

/// The network is there already, nothing looks for other sources, and no module runs whose programs are not there.
const CLOUD_INIT_SETTINGS: &str = "datasource_list: [NoCloud]
network: {config: disabled}
users: []
cloud_init_modules: [write-files, set_hostname]
cloud_config_modules: [runcmd]
cloud_final_modules: [scripts-user, phone-home]
";

/// Puts the kernel and the initrds of a guest with cloud-init into a boot directory, as [`KERNEL`] and [`CLOUD_INIT`].
pub fn install_cloud_init(boot_dir: &Path) -> Result<()> {
    install(boot_dir)?;
    let [packages, start] = CLOUD_INIT.map(|name| boot_dir.join(name));
    fs::copy(source("cloud-init/initrd.img")?, packages)?;
    let mut archive = Archive::default();
    archive.add("init", Kind::Program, CLOUD_INIT_START.as_bytes());
    archive.add("etc/cloud/cloud.cfg.d/90_guest.cfg", Kind::Program, CLOUD_INIT_SETTINGS.as_bytes());
    for (name, text) in [("etc/passwd", "root:x:0:0::/root:/bin/sh\n"), ("etc/group", "root:x:0:\n")] {
        archive.add(name, Kind::Program, text.as_bytes());
    }
    add_devices_and_network(&mut archive, Cpu::X64)?;
    fs::write(start, archive.finish()).context("write what starts cloud-init")
}

/// A file that `cargo xtask setup` has prepared.
pub fn source(name: &str) -> Result<PathBuf> {
    let dir = std::env::var_os("XPXE_GUEST_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/guest"), PathBuf::from);
    let path = dir.join(name);
    if !path.exists() {
        anyhow::bail!("{} is missing: run `cargo xtask setup`", path.display());
    }
    Ok(path)
}

pub(crate) enum Kind {
    Directory,
    Program,
    Device { major: u32, minor: u32 },
}

/// A cpio archive in the kernel's "newc" format.
#[derive(Default)]
pub(crate) struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    pub(crate) fn add(&mut self, name: &str, kind: Kind, data: &[u8]) {
        let (mode, major, minor) = match kind {
            Kind::Directory => (0o040_755, 0, 0),
            Kind::Program => (0o100_755, 0, 0),
            Kind::Device { major, minor } => (0o020_600, major, minor),
        };
        self.entries += 1;
        // inode, mode, uid, gid, links, mtime, size, device, device the file is, name's length with its NUL,
        // check
        let (size, name_size) = (data.len(), name.len() + 1);
        let inode = self.entries;
        let header = format!(
            "070701{inode:08X}{mode:08X}{0:08X}{0:08X}{1:08X}{0:08X}{size:08X}{0:08X}{0:08X}{major:08X}{minor:08X}{name_size:08X}{0:08X}",
            0, 1
        );
        self.bytes.extend(header.bytes().chain(name.bytes()).chain([0]));
        self.pad();
        self.bytes.extend(data);
        self.pad();
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.add("TRAILER!!!", Kind::Program, &[]);
        self.bytes
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::{Archive, Kind};

    #[test]
    fn an_entry_is_a_header_a_padded_name_and_padded_data() {
        let mut archive = Archive::default();
        archive.add("init", Kind::Program, b"hello");
        let text = String::from_utf8(archive.bytes).unwrap();
        assert_eq!(&text[..22], "07070100000001000081ED");
        assert_eq!(&text[54..62], "00000005");
        assert_eq!(&text[110..], "init\0\0hello\0\0\0");
    }
}
