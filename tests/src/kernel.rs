//! A machine that runs xpxe on another kernel than this one: QEMU with two virtio cards, whose driver has native XDP.
//!
//! The kernels are prepared by `cargo xtask setup` in `target/kernels/VERSION` (or below the directory `XPXE_KERNELS_DIR`
//! names): `vmlinuz`, `modules/*.ko`, and the full version in `version`. The initrd is busybox, xpxe, and the libraries
//! that it needs. xpxe's log goes to the serial port.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::daemon::{Event, binary};
use crate::guest::{Archive, BUSYBOX, Kind, MODULES};
use crate::netns::{Process, tail};
use crate::rack::{SERVER_MAC, Segment};
use crate::wait::eventually_some;

/// The card on the second segment.
const SECOND_MAC: &str = "02:78:00:00:00:01";
/// The directory of the boot files in the machine.
pub const BOOT_DIR: &str = "/boot";

const INIT: &str = r#"#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
$b mount -t bpf bpf /sys/fs/bpf
$b mount -t tmpfs tmp /tmp
while read module; do [ -f /modules/$module.ko ] && $b insmod /modules/$module.ko; done < /modules/order
$b ip link set lo up
$b ip address add 10.77.0.1/24 dev eth0
$b ip address add 10.78.0.1/24 dev eth1
$b ip link set eth0 up
$b ip link set eth1 up
/bin/xpxe serve --config /xpxe.toml --log-format json
$b poweroff -f
"#;

/// One of the kernels.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// Its full version.
    pub version: String,
    dir: PathBuf,
}

impl Kernel {
    /// A prepared kernel, by the name it was asked for with: `6.1`, `newest`.
    pub fn find(name: &str) -> Result<Self> {
        let all = std::env::var_os("XPXE_KERNELS_DIR")
            .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/kernels"), PathBuf::from);
        let dir = all.join(name);
        let version = fs::read_to_string(dir.join("version"));
        let version = version.with_context(|| {
            format!("Linux {name} is not in {}: run `cargo xtask verify --kernels {name}`", all.display())
        })?;
        Ok(Self { version: version.trim().to_owned(), dir })
    }

    /// Whether the kernel has this version or a later one.
    pub fn is_at_least(&self, wanted: (u32, u32)) -> bool {
        let mut numbers = self.version.split(['.', '-', '+']).map(|part| part.parse().unwrap_or(0));
        (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= wanted
    }

    /// Boots it with xpxe inside: `eth0` (10.77.0.1) on the first segment, `eth1` (10.78.0.1) on the second, and these
    /// files in [`BOOT_DIR`].
    pub fn boot(&self, segments: [&Segment; 2], config_toml: &str, files: &[(&str, &[u8])]) -> Result<Host> {
        let [first, second] = segments;
        let initrd = first.dir().join("initrd.img");
        fs::write(&initrd, self.initrd(config_toml, files)?)?;
        let mut qemu = first.namespace.command("qemu-system-x86_64");
        qemu.args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-monitor", "none"]);
        // One processor: with more, QEMU 7.2's emulation of several at once breaks kernels from 6.12 on.
        qemu.args([
            "-accel", "tcg", "-cpu", "qemu64", "-smp", "1", "-m", "512", "-M", "q35", "-serial", "stdio",
        ]);
        qemu.arg("-kernel").arg(self.dir.join("vmlinuz")).arg("-initrd").arg(&initrd);
        qemu.args(["-append", "console=ttyS0 panic=-1 quiet rdinit=/init"]);
        let taps = [first.tap()?, first.tap()?];
        for (number, (tap, mac)) in taps.iter().zip([SERVER_MAC, SECOND_MAC]).enumerate() {
            qemu.arg("-netdev").arg(format!("tap,id=net{number},ifname={tap},script=no,downscript=no"));
            // Without large receive offloads, with which the driver refuses XDP.
            qemu.arg("-device").arg(format!(
                "virtio-net-pci,netdev=net{number},mac={mac},romfile=,guest_tso4=off,guest_tso6=off,guest_ecn=off,guest_ufo=off"
            ));
        }
        let qemu = first.namespace.spawn(qemu)?;
        // QEMU opens its taps in its own namespace; the second one moves once it is open.
        let [_, tap] = &taps;
        eventually_some(Duration::from_secs(10), "QEMU opens its taps", || {
            let shown = first.namespace.output("ip", &["link", "show", "dev", tap]).ok()?;
            shown.contains("LOWER_UP").then_some(())
        })?;
        first.namespace.output("ip", &["link", "set", tap, "nomaster", "netns", &second.namespace.path()])?;
        second.namespace.output("ip", &["link", "set", tap, "master", "br0", "up"])?;
        Ok(Host { version: self.version.clone(), qemu })
    }

    fn initrd(&self, config_toml: &str, files: &[(&str, &[u8])]) -> Result<Vec<u8>> {
        let read = |path: &Path| fs::read(path).with_context(|| format!("read {}", path.display()));
        let xpxe = binary()?;
        let mut archive = Archive::default();
        for directory in ["bin", "dev", "proc", "sys", "tmp", "modules", "state", BOOT_DIR] {
            archive.add(directory.trim_start_matches('/'), Kind::Directory, &[]);
        }
        archive.add("dev/console", Kind::Device { major: 5, minor: 1 }, &[]);
        archive.add("dev/null", Kind::Device { major: 1, minor: 3 }, &[]);
        archive.add("dev/urandom", Kind::Device { major: 1, minor: 9 }, &[]);
        archive.add("bin/busybox", Kind::Program, &read(Path::new(BUSYBOX))?);
        archive.add("bin/xpxe", Kind::Program, &read(&xpxe)?);
        let mut known = Vec::new();
        for library in libraries(&xpxe)? {
            for directory in library.ancestors().skip(1).collect::<Vec<_>>().into_iter().rev().skip(1) {
                if !known.contains(&directory.to_owned()) {
                    known.push(directory.to_owned());
                    archive.add(&relative(directory), Kind::Directory, &[]);
                }
            }
            archive.add(&relative(&library), Kind::Program, &read(&library)?);
        }
        archive.add("init", Kind::Program, INIT.as_bytes());
        archive.add("xpxe.toml", Kind::Program, config_toml.as_bytes());
        archive.add("modules/order", Kind::Program, (MODULES.join("\n") + "\n").as_bytes());
        for module in MODULES {
            let path = self.dir.join(format!("modules/{module}.ko"));
            // The others are built in.
            if path.exists() {
                archive.add(&format!("modules/{module}.ko"), Kind::Program, &read(&path)?);
            }
        }
        for (name, bytes) in files {
            archive.add(&format!("{}/{name}", relative(Path::new(BOOT_DIR))), Kind::Program, bytes);
        }
        Ok(archive.finish())
    }
}

fn relative(path: &Path) -> String {
    path.to_string_lossy().trim_start_matches('/').to_owned()
}

/// The libraries of a program, and the dynamic loader.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd").arg(program).output().context("ldd")?;
    ensure!(output.status.success(), "ldd {}: {}", program.display(), output.status);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect())
}

/// A running machine.
#[derive(Debug)]
pub struct Host {
    /// The kernel's full version.
    pub version: String,
    qemu: Process,
}

impl Host {
    /// When it was powered on.
    pub fn powered_on(&self) -> std::time::Instant {
        self.qemu.started()
    }

    /// xpxe's log so far.
    pub fn log(&self) -> Vec<Event> {
        let started = self.qemu.started();
        self.qemu.lines().iter().map(|line| Event::parse(started, line)).collect()
    }

    /// Waits for an event, past or future, that satisfies `wanted`; `what` is its name in the error.
    pub fn wait_for_event(
        &self,
        what: &str,
        within: Duration,
        wanted: impl Fn(&Event) -> bool,
    ) -> Result<Event> {
        eventually_some(within, what, || self.log().into_iter().find(&wanted))
            .with_context(|| format!("Linux {}:\n{}", self.version, tail(&self.qemu.lines(), 40)))
    }
}
