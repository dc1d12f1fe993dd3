//! A machine with real firmware: QEMU without acceleration, its network card a tap on a segment.
//!
//! Every text the firmware, iPXE, the kernel and the guest write goes to the serial port and is kept with the
//! time since power-on. Unless it is given a disk, it boots from the network or not at all. It dies with the
//! [`Machine`], with the segment, and with the test process. Software emulation always: hardware acceleration
//! is rarely there where tests run, and the times would not be comparable.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::guest::{self, Cpu};
use crate::netns::{Line, Process};
use crate::rack::Segment;
use crate::secure_boot;
use crate::wait::eventually_some;

/// The firmware of a machine, with its boot client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Firmware {
    /// SeaBIOS with iPXE in the card's option ROM.
    BiosIpxe,
    /// SeaBIOS with the iPXE of Debian 13, of 2025.
    BiosIpxe2025,
    /// OVMF's own PXE client: it loads a boot file by TFTP.
    OvmfPxe,
    /// OVMF's own HTTP Boot client: it loads a boot file by HTTP.
    OvmfHttp,
    /// The same, and it trusts the authorities in [`TRUSTED`] of the segment's directory.
    OvmfHttps,
    /// OVMF with iPXE in the card's option ROM.
    OvmfIpxeRom,
    /// OVMF's own PXE client with Secure Boot on: Microsoft's keys, and those of [`secure_boot`](crate::secure_boot).
    OvmfSecureBoot,
    /// OVMF's sibling on 64-bit Arm, by PXE.
    ArmPxe,
    /// OVMF's sibling on 64-bit Arm, by HTTP Boot.
    ArmHttp,
    /// U-Boot on 64-bit Arm. It has a MAC of its own, the same on all machines.
    ArmUboot,
}

impl Firmware {
    /// The memory it needs to boot the guest, in MB.
    pub const fn memory(self) -> u32 {
        match self {
            Self::BiosIpxe | Self::BiosIpxe2025 => 128,
            Self::OvmfPxe | Self::OvmfHttp | Self::OvmfHttps | Self::OvmfIpxeRom => 256,
            Self::OvmfSecureBoot | Self::ArmPxe | Self::ArmHttp | Self::ArmUboot => 512,
        }
    }

    /// The processor that it runs on.
    pub const fn cpu(self) -> Cpu {
        match self {
            Self::BiosIpxe
            | Self::BiosIpxe2025
            | Self::OvmfPxe
            | Self::OvmfHttp
            | Self::OvmfHttps
            | Self::OvmfIpxeRom
            | Self::OvmfSecureBoot => Cpu::X64,
            Self::ArmPxe | Self::ArmHttp | Self::ArmUboot => Cpu::Arm64,
        }
    }

    /// The option ROM of the network card; empty for firmware with a network stack of its own, which would otherwise
    /// leave the card to the ROM.
    fn rom(self) -> Result<PathBuf> {
        match self {
            Self::BiosIpxe => rom("pxe-virtio.rom"),
            Self::BiosIpxe2025 => guest::source("trixie/roms/pxe-virtio.rom"),
            Self::OvmfIpxeRom => rom("efi-virtio.rom"),
            Self::OvmfPxe
            | Self::OvmfHttp
            | Self::OvmfHttps
            | Self::OvmfSecureBoot
            | Self::ArmPxe
            | Self::ArmHttp
            | Self::ArmUboot => Ok(PathBuf::new()),
        }
    }

    /// QEMU's arguments for the board.
    fn board(self, dir: &Path, uuid: &str) -> Result<Vec<String>> {
        let mut words = match self {
            // Without graphics SeaBIOS and iPXE write to the serial port.
            Self::BiosIpxe | Self::BiosIpxe2025 => vec!["-M".to_owned(), "pc,graphics=off".to_owned()],
            Self::OvmfPxe | Self::OvmfHttp | Self::OvmfHttps | Self::OvmfIpxeRom => {
                let mut words = vec!["-M".to_owned(), "q35".to_owned()];
                words.extend(flash(
                    dir,
                    uuid,
                    "/usr/share/OVMF/OVMF_CODE_4M.fd",
                    "/usr/share/OVMF/OVMF_VARS_4M.fd",
                )?);
                words
            }
            Self::OvmfSecureBoot => {
                // Only its own code, which runs in system management mode, may change its variables.
                let mut words: Vec<_> = ["-M", "q35,smm=on", "-cpu", "max"].map(str::to_owned).into();
                for setting in ["driver=cfi.pflash01,property=secure,value=on", "ICH9-LPC.disable_s3=1"] {
                    words.extend(["-global".to_owned(), setting.to_owned()]);
                }
                let enrolled = dir.join(secure_boot::VARIABLES);
                let variables = if enrolled.exists() { &enrolled } else { Path::new(secure_boot::MICROSOFT) };
                let variables = variables.display().to_string();
                words.extend(flash(dir, uuid, "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd", &variables)?);
                words
            }
            Self::ArmPxe | Self::ArmHttp => {
                let mut words: Vec<_> = ["-M", "virt", "-cpu", "cortex-a57"].map(str::to_owned).into();
                words.extend(flash(
                    dir,
                    uuid,
                    "/usr/share/AAVMF/AAVMF_CODE.fd",
                    "/usr/share/AAVMF/AAVMF_VARS.fd",
                )?);
                words
            }
            Self::ArmUboot => {
                ["-M", "virt", "-cpu", "cortex-a57", "-bios", "/usr/lib/u-boot/qemu_arm64/u-boot.bin"]
                    .map(str::to_owned)
                    .into()
            }
        };
        if self == Self::OvmfHttps {
            let trusted = dir.join(TRUSTED);
            let file = format!("name=etc/edk2/https/cacerts,file={}", trusted.display());
            words.extend(["-fw_cfg".to_owned(), file]);
        }
        if matches!(self, Self::OvmfHttp | Self::OvmfHttps | Self::ArmHttp) {
            // PXE is tried first otherwise.
            for setting in ["IPv4PXESupport", "IPv6PXESupport", "IPv6Support"] {
                words.extend(["-fw_cfg".to_owned(), format!("name=opt/org.tianocore/{setting},string=n")]);
            }
        }
        Ok(words)
    }
}

/// The description of a machine.
#[derive(Clone, Copy, Debug)]
pub struct Hardware<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its network card's MAC.
    pub mac: &'a str,
    /// Its firmware.
    pub firmware: Firmware,
    /// Memory in MB.
    pub memory: u32,
}

/// The file with the authorities that a machine trusts, as an EFI_SIGNATURE_LIST.
pub const TRUSTED: &str = "trusted.esl";

/// The option ROMs are in /usr/lib/ipxe/qemu in Debian 12 and in /usr/share/qemu in Debian 13.
const ROM_DIRS: [&str; 2] = ["/usr/lib/ipxe/qemu", "/usr/share/qemu"];
/// A machine that is powered on.
#[derive(Debug)]
pub struct Machine {
    /// Its name: in messages and in the SMBIOS serial number.
    pub name: String,
    /// Its network card's MAC.
    pub mac: String,
    /// Its SMBIOS UUID.
    pub uuid: String,
    /// The switch's interface that the machine is plugged into: its frames can be captured there.
    pub tap: String,
    qemu: Process,
}

impl Machine {
    /// Plugs a machine into `segment` (a [`Rack`](crate::rack::Rack) will do) and presses its power button.
    pub fn power_on(segment: &Segment, name: &str, mac: &str, firmware: Firmware) -> Result<Self> {
        let hardware = Hardware { name, mac, firmware, memory: firmware.memory() };
        Self::power_on_at(segment, segment.tap()?, &hardware)
    }

    /// As [`Machine::power_on`], plugged into a tap of the segment that was there before it: a capture there misses
    /// nothing.
    pub fn power_on_at(segment: &Segment, tap: String, hardware: &Hardware<'_>) -> Result<Self> {
        Self::power_on_with(segment, tap, hardware, &[])
    }

    /// The same with further devices, as QEMU's command line has them: disks, which boot behind the network.
    pub fn power_on_with(
        segment: &Segment,
        tap: String,
        hardware: &Hardware<'_>,
        devices: &[String],
    ) -> Result<Self> {
        let Hardware { name, mac, firmware, memory } = *hardware;
        let uuid = uuid_of(mac);
        let program = match firmware.cpu() {
            Cpu::X64 => "qemu-system-x86_64",
            Cpu::Arm64 => "qemu-system-aarch64",
        };
        let mut qemu = segment.namespace.command(program);
        qemu.args(["-name", name, "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"]);
        qemu.args(["-accel", "tcg", "-serial", "stdio", "-monitor", "none"]);
        qemu.arg("-m").arg(memory.to_string());
        qemu.arg("-smbios").arg(format!("type=1,uuid={uuid},serial={name}"));
        qemu.arg("-netdev").arg(format!("tap,id=net0,ifname={tap},script=no,downscript=no"));
        // The ROMs are for the modern card's PCI id; QEMU corrects the id only in the ROM it picks by itself.
        let card = "virtio-net-pci,disable-legacy=on,netdev=net0,bootindex=0";
        let card = format!("{card},mac={mac},romfile={}", firmware.rom()?.display());
        qemu.arg("-device").arg(card);
        qemu.args(firmware.board(segment.dir(), &uuid)?);
        qemu.args(devices);
        let qemu = segment.namespace.spawn(qemu)?;
        Ok(Self { name: name.to_owned(), mac: mac.to_owned(), uuid, tap, qemu })
    }

    /// When it was powered on.
    pub fn powered_on(&self) -> Instant {
        self.qemu.started()
    }

    /// Every line of its serial port so far.
    pub fn serial(&self) -> Vec<Line> {
        self.qemu.lines()
    }

    /// The first line with `pattern`, past or future; the error shows the last lines.
    pub fn wait_for(&self, pattern: &str, within: Duration) -> Result<Line> {
        self.qemu.wait_for_line(pattern, within).with_context(|| format!("machine {}", self.name))
    }

    /// Waits until the guest has powered the machine off; returns the time since power-on.
    pub fn wait_for_power_off(&self, within: Duration) -> Result<Duration> {
        self.qemu.wait(within).with_context(|| format!("machine {}", self.name))?;
        let what = "the end of the serial port's output";
        eventually_some(Duration::from_secs(5), what, || self.qemu.output_ended())
    }

    /// Whether the machine is on.
    pub fn is_on(&self) -> bool {
        self.qemu.is_running()
    }

    /// Pulls the plug.
    pub fn power_off(&self) -> Result<()> {
        self.qemu.kill().map(drop)
    }
}

fn rom(name: &str) -> Result<PathBuf> {
    let found = ROM_DIRS.iter().map(|dir| Path::new(dir).join(name)).find(|path| path.exists());
    found.with_context(|| format!("no {name} in {}: run `cargo xtask setup`", ROM_DIRS.join(" or ")))
}

/// UEFI in two flash chips; UEFI writes its variables, so every machine needs a copy.
fn flash(dir: &Path, machine: &str, code: &str, variables: &str) -> Result<[String; 4]> {
    let own = dir.join(format!("{machine}.vars.fd"));
    fs::copy(variables, &own).with_context(|| format!("copy {variables} (run `cargo xtask setup`)"))?;
    let drive = "-drive".to_owned();
    let code = format!("if=pflash,format=raw,readonly=on,file={code}");
    Ok([drive.clone(), code, drive, format!("if=pflash,format=raw,file={}", own.display())])
}

fn uuid_of(mac: &str) -> String {
    format!("78707865-0000-4000-8000-{}", mac.replace(':', "").to_lowercase())
}
