//! xpxe's agent on a machine: kernel and initrd as operators make them, and a disk image that boots.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::daemon::binary;
use crate::guest;

/// The agent for machines.
fn agent() -> Result<PathBuf> {
    let built = format!("../target/{}-unknown-linux-musl/release/xpxe-agent", std::env::consts::ARCH);
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join(built);
    let path = std::env::var_os("XPXE_AGENT").map_or(built, PathBuf::from);
    ensure!(path.is_file(), "{} is missing: run `cargo xtask build`", path.display());
    Ok(path)
}

/// Has `xpxe agent build` put kernel and initrd into `agent` of a boot directory.
pub fn build(boot_dir: &Path) -> Result<()> {
    let version = fs::read_to_string(guest::source("agent/version")?)?;
    let version = version.trim().trim_start_matches("linux-image-").to_owned();
    let mut build = Command::new(binary()?);
    build.args(["agent", "build", "--firmware", "/nonexistent", "--agent"]).arg(agent()?);
    build.arg("--kernel").arg(guest::source(&format!("agent/boot/vmlinuz-{version}"))?);
    build.arg("--output").arg(boot_dir.join("agent"));
    run(&mut build).map(drop)
}

/// What a configuration has for it. A busy host gives QEMU's timer less time than Linux takes for a working one.
pub const PROFILE: &str = r#"
[[profile]]
name = "agent"
kernel = "agent/vmlinuz"
initrd = ["agent/initrd.img"]
args = "console=ttyS0 panic=5 no_timer_check xpxe.agent={{ agent }} xpxe.key={{ agent_key }}"
"#;

const SECTOR: usize = 512;
/// Where the only partition begins, in sectors, and how long it is.
const PARTITION: (u32, u32) = (2048, 40960);

/// Makes an image of a disk that boots on BIOS and on UEFI: GRUB, the guest's kernel and its initrd, on one FAT partition.
/// What it boots says `args`.
pub fn disk_image(dir: &Path, args: &str) -> Result<Vec<u8>> {
    let path = |name: &str| dir.join(name);
    fs::write(path("vmlinuz"), fs::read(guest::source("vmlinuz")?)?)?;
    fs::write(path("initrd.img"), guest::initrd()?)?;
    let config = format!(
        "serial --unit=0\nterminal_output serial\necho XPXE-DISK boots\nlinux (hd0,msdos1)/vmlinuz console=ttyS0 panic=5 no_timer_check {args}\n\
         initrd (hd0,msdos1)/initrd.img\nboot\n"
    );
    fs::write(path("grub.cfg"), config)?;
    let modules = ["part_msdos", "fat", "linux", "normal", "echo", "serial", "terminal"];
    for (format, more, to) in [("i386-pc", "biosdisk", "core.img"), ("x86_64-efi", "efi_gop", "BOOTX64.EFI")]
    {
        let mut mkimage = Command::new("grub-mkimage");
        mkimage.args(["-O", format, "-p", "/grub", "-c"]).arg(path("grub.cfg")).arg("-o").arg(path(to));
        run(mkimage.args(modules).arg(more))?;
    }
    let (first, sectors) = PARTITION;
    let image = path("disk.img");
    let mut disk = vec![0; (first + sectors) as usize * SECTOR];
    let boot = fs::read("/usr/lib/grub/i386-pc/boot.img")?;
    let core = fs::read(path("core.img"))?;
    disk[..SECTOR].copy_from_slice(&boot[..SECTOR]);
    // One EFI system partition, which BIOS takes for active.
    let entry = [0x80, 0xfe, 0xff, 0xff, 0xef, 0xfe, 0xff, 0xff];
    disk[446..454].copy_from_slice(&entry);
    disk[454..458].copy_from_slice(&first.to_le_bytes());
    disk[458..462].copy_from_slice(&sectors.to_le_bytes());
    disk[462..510].fill(0);
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    disk[SECTOR..SECTOR + core.len()].copy_from_slice(&core);
    fs::write(&image, &disk)?;
    let at = format!("{}@@{}", image.display(), first as usize * SECTOR);
    run(Command::new("mformat").args(["-i", &at, "-T", &sectors.to_string(), "-h", "16", "-s", "63", "::"]))?;
    run(Command::new("mmd").args(["-i", &at, "::/EFI", "::/EFI/BOOT"]))?;
    for (file, to) in [("vmlinuz", "::/"), ("initrd.img", "::/"), ("BOOTX64.EFI", "::/EFI/BOOT/")] {
        run(Command::new("mcopy").args(["-i", &at]).arg(path(file)).arg(to))?;
    }
    Ok(fs::read(&image)?)
}

/// Has Python's jsonschema compare a document with a schema. An error says what does not fit.
pub fn check_schema(schema: &Value, document: &Value) -> Result<()> {
    let program = "import json, sys, jsonschema\n\
        schema, document = json.load(sys.stdin)\n\
        jsonschema.Draft202012Validator.check_schema(schema)\n\
        wrong = [e.json_path + ': ' + e.message for e in jsonschema.Draft202012Validator(schema).iter_errors(document)]\n\
        sys.exit('; '.join(wrong) or 0)\n";
    let mut python = Command::new("python3");
    python.args(["-c", program]).stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut python = python.spawn().context("start python3")?;
    let both = serde_json::to_vec(&[schema, document])?;
    python.stdin.take().context("python3 reads nothing")?.write_all(&both)?;
    let said = python.wait_with_output()?;
    ensure!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    Ok(())
}

fn run(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("start {command:?}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {said}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
