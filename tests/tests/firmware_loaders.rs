//! Boot loaders that are no PXE clients or bring their own HTTP, and an iPXE that lacks something, boot machines.
//!
//! Run with `--test-threads=1`, as everything with machines.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use boot_tests::boots::{EVERYBODY, Plan, are_said_to_have_booted, boot, known_machine_is_itself, of};
use boot_tests::daemon::{Event, Xpxe};
use boot_tests::guest::{self, Cpu};
use boot_tests::machine::Firmware;
use boot_tests::rack::{Rack, SERVER_ADDRESS};
use boot_tests::sandbox::{Sandbox, root_or_skip};
use boot_tests::settings::{Known, Settings, boot_dir, proof};

/// U-Boot has this MAC whatever the card's is.
const UBOOT: Plan = plan(Firmware::ArmUboot, "uboot", "52:52:52:52:52:52", "10.77.0.30");
/// GRUB 2.06 has a quarter of the memory for itself, and takes by HTTP more than it has read yet.
const GRUB: Plan =
    Plan { memory: 1024, ..plan(Firmware::OvmfPxe, "grub", "52:54:00:77:00:31", "10.77.0.31") };
const REDUCED: Plan = plan(Firmware::OvmfPxe, "reduced", "52:54:00:77:00:32", "10.77.0.32");

const GRUB_FILE: &str = "/usr/lib/grub/x86_64-efi/monolithic/grubnetx64.efi";
/// Of Debian 13, 2.12.
const GRUB_13_HTTP: Plan =
    Plan { memory: 1024, ..plan(Firmware::OvmfPxe, "grubhttp", "52:54:00:77:00:33", "10.77.0.33") };
const GRUB_13_TFTP: Plan =
    Plan { memory: 1024, ..plan(Firmware::OvmfPxe, "grubtftp", "52:54:00:77:00:34", "10.77.0.34") };

/// Not in that file: GRUB fetches it by TFTP.
const GRUB_HTTP: &str = "/usr/lib/grub/x86_64-efi/http.mod";
/// Of Debian 13: the one of 2019 cannot leave the firmware's services when it runs in another iPXE.
const IPXE: &str = "trixie/ipxe/snponly.efi";
/// iPXE's name for HTTP among its features (a code, a length, a version), and for what nothing here depends on.
const HTTP_FEATURE: [u8; 3] = [19, 1, 1];
const OTHER_FEATURE: [u8; 3] = [26, 1, 1];

const fn plan(firmware: Firmware, name: &'static str, mac: &'static str, address: &'static str) -> Plan {
    Plan::new(firmware, Known { name, mac, address: Some(address) })
}

/// GRUB fetches kernel and initrd by HTTP; U-Boot fetches its script, and what that names, from the server that DHCP named;
/// iPXE without HTTP fetches one that has it. On port 80, because GRUB 2.06 takes no other.
#[test]
fn grub_and_u_boot_and_a_reduced_ipxe_boot() -> Result<()> {
    let ipxe = guest::source(IPXE)?;
    let rules = "\n[[boot_file]]\narch = [21, 22]\nfile = \"boot.scr.uimg\"\n";
    let rules = format!("{rules}\n[ipxe]\nx64 = {ipxe:?}\n");
    let machines = [(GRUB, "grub.efi"), (REDUCED, "reduced.efi"), (UBOOT, "")];
    let Some(place) = Place::build(&machines, rules)? else { return Ok(()) };
    fs::copy(GRUB_FILE, place.path("grub.efi")).with_context(|| format!("copy {GRUB_FILE}"))?;
    fs::create_dir_all(place.path("grub/x86_64-efi"))?;
    fs::copy(GRUB_HTTP, place.path("grub/x86_64-efi/http.mod"))
        .with_context(|| format!("copy {GRUB_HTTP}"))?;
    let http = format!("(http,{SERVER_ADDRESS})/files");
    let grub = format!(
        "insmod http\nlinux {http}/{} console=ttyS0 {EVERYBODY} {}\ninitrd {http}/{}\nboot\n",
        guest::KERNEL,
        proof(GRUB.known.name),
        guest::INITRD
    );
    fs::write(place.path("grub/grub.cfg"), grub)?;
    fs::write(place.path("reduced.efi"), ipxe_without_http()?)?;
    let uboot = format!(
        "tftpboot ${{kernel_addr_r}} {}\ntftpboot ${{ramdisk_addr_r}} {}\n\
         setenv bootargs console=ttyAMA0 {EVERYBODY} {}\n\
         booti ${{kernel_addr_r}} ${{ramdisk_addr_r}}:${{filesize}} ${{fdt_addr}}\n",
        Cpu::Arm64.kernel(),
        Cpu::Arm64.initrd(),
        proof(UBOOT.known.name)
    );
    fs::write(place.path("boot.scr.uimg"), uboot_script(&uboot))?;
    let log = place.boot(&[GRUB, UBOOT, REDUCED])?;
    let offer =
        of(&log, &UBOOT).find(|event| event.field("step") == "offer").context("an offer to U-Boot")?;
    ensure!(offer.field("class") == "uboot-arm64", "{offer:?}");
    let fetched = |plan: &Plan, file: &str| {
        log.iter().any(|event| {
            event.field("mac") == plan.known.mac && event.message().starts_with(&format!("sent {file}"))
        })
    };
    ensure!(fetched(&UBOOT, "boot.scr.uimg"), "U-Boot did not fetch its script");
    let classes: Vec<String> = of(&log, &REDUCED)
        .filter(|event| event.field("step") == "ack")
        .map(|event| event.field("class"))
        .collect();
    // The script beside it has it ask for an address, and then for what DHCP would have it boot.
    let reduced = "a reduced iPXE on efi-x64";
    let wanted = ["efi-x64", reduced, reduced, "iPXE on efi-x64", "an operating system"];
    ensure!(classes == wanted, "{classes:?}");
    Ok(())
}

/// Kernel and initrd come by HTTP to one machine and by TFTP to the other.
#[test]
fn the_grub_of_debian_13_boots_by_http_and_by_tftp() -> Result<()> {
    let machines = [(GRUB_13_HTTP, "grub.efi"), (GRUB_13_TFTP, "grub.efi")];
    let Some(place) = Place::build(&machines, String::new())? else { return Ok(()) };
    fs::copy(guest::source("trixie/grub/monolithic/grubnetx64.efi")?, place.path("grub.efi"))?;
    fs::create_dir_all(place.path("grub/x86_64-efi"))?;
    for module in ["http.mod", "tftp.mod"] {
        let from = guest::source(&format!("trixie/grub/{module}"))?;
        fs::copy(from, place.path("grub/x86_64-efi").join(module))?;
    }
    // It looks for no file of its machine's own.
    let script = |plan: &Plan, module: &str, from: &str| {
        format!(
            "if [ \"$net_default_mac\" = \"{}\" ]; then\ninsmod {module}\nlinux {from}/{} console=ttyS0 {EVERYBODY} {}\n\
             initrd {from}/{}\nboot\nfi\n",
            plan.known.mac,
            guest::KERNEL,
            proof(plan.known.name),
            guest::INITRD
        )
    };
    let by_http = script(&GRUB_13_HTTP, "http", &format!("(http,{SERVER_ADDRESS})/files"));
    let by_tftp = script(&GRUB_13_TFTP, "tftp", &format!("(tftp,{SERVER_ADDRESS})"));
    fs::write(place.path("grub/grub.cfg"), by_http + &by_tftp)?;
    let log = place.boot(&[GRUB_13_HTTP, GRUB_13_TFTP])?;
    for (plan, step) in [(GRUB_13_HTTP, "http"), (GRUB_13_TFTP, "tftp")] {
        for file in [guest::KERNEL, guest::INITRD] {
            // By TFTP the name has a slash before it.
            let is_sent = |event: &Event| {
                event.field("step") == step
                    && event.field("file").trim_start_matches('/') == file
                    && event.message().starts_with("sent")
            };
            ensure!(of(&log, &plan).any(is_sent), "{file} was not sent to {} by {step}", plan.known.name);
        }
    }
    Ok(())
}

/// The loader itself says that it has no HTTP, so that it is what is sent and what asks anew.
#[test]
fn a_reduced_ipxe_that_is_sent_as_the_full_one_does_not_loop() -> Result<()> {
    let Some(mut place) = Place::build(&[(REDUCED, "")], String::new())? else { return Ok(()) };
    let loader = place.path("its-own.efi");
    fs::write(&loader, ipxe_of_before_autoexec()?)?;
    place.config += &format!("\n[ipxe]\nx64 = {loader:?}\n");
    let log = place.boot(&[REDUCED])?;
    let acks = of(&log, &REDUCED).filter(|event| event.field("step") == "ack");
    let classes: Vec<String> = acks.map(|event| event.field("class")).collect();
    let reduced = "a reduced iPXE on efi-x64";
    ensure!(
        classes == ["efi-x64", reduced, reduced, "iPXE on efi-x64", "an operating system"],
        "{classes:?}"
    );
    let said = |event: &Event| event.message().contains("lacks HTTP") && event.message().contains("[ipxe]");
    ensure!(log.iter().any(said), "the log says nothing of it");
    Ok(())
}

struct Place {
    rack: Rack,
    config: String,
    _sandbox: Sandbox,
}

impl Place {
    /// With these machines, each with its boot file, the guests, and HTTP on port 80. `None` without root.
    fn build(machines: &[(Plan, &str)], mut more: String) -> Result<Option<Self>> {
        if !root_or_skip() {
            return Ok(None);
        }
        let sandbox = Sandbox::enter()?;
        let rack = Rack::build(&sandbox)?;
        for (Plan { known, .. }, boot_file) in machines {
            let Known { name, mac, address } = known;
            let address = address.context("an address")?;
            more += &format!(
                "\n[[machine]]\nmac = \"{mac}\"\nname = \"{name}\"\nargs = \"{}\"\nip = \"{address}\"\n",
                proof(name)
            );
            if !boot_file.is_empty() {
                more += &format!("boot_file = \"{boot_file}\"\n");
            }
        }
        let args = format!("console=ttyS0 {EVERYBODY}");
        let settings = Settings { args, more, ..Settings::default() };
        let config = settings.write(&sandbox, &rack)?.replace("0.0.0.0:8080", "0.0.0.0:80");
        guest::install(&boot_dir(&rack))?;
        guest::install_for(&boot_dir(&rack), Cpu::Arm64)?;
        Ok(Some(Self { rack, config, _sandbox: sandbox }))
    }

    fn path(&self, name: &str) -> PathBuf {
        boot_dir(&self.rack).join(name)
    }

    /// Boots all at once; gives xpxe's log.
    fn boot(&self, plans: &[Plan]) -> Result<Vec<Event>> {
        let xpxe = Xpxe::start(&self.rack, &self.config, &[])?;
        let boots = boot(&self.rack, &xpxe, plans)?;
        let log = xpxe.log();
        for (plan, boot) in plans.iter().zip(&boots) {
            known_machine_is_itself(plan, boot)?;
        }
        // U-Boot's kernel is none that the configuration names.
        let is_known = |plan: &&Plan| plan.firmware != Firmware::ArmUboot;
        are_said_to_have_booted(&self.rack, &xpxe, plans.iter().filter(is_known))?;
        xpxe.stop()?;
        Ok(log)
    }
}

/// An iPXE for EFI without HTTP.
fn ipxe_without_http() -> Result<Vec<u8>> {
    let mut bytes = reduced_ipxe()?;
    for scheme in [&b"\0http\0HTTP\0"[..], b"\0https\0HTTPS\0"] {
        ensure!(replace(&mut bytes, scheme, b"\0none") == 1, "{IPXE} has {scheme:?} once");
    }
    Ok(bytes)
}

/// An iPXE for EFI that says of itself that it has no HTTP, and does not look for a script beside itself.
fn ipxe_of_before_autoexec() -> Result<Vec<u8>> {
    let mut bytes = reduced_ipxe()?;
    ensure!(replace(&mut bytes, b"autoexec.ipxe\0", b"nowhere.") > 0, "{IPXE} looks for no script");
    Ok(bytes)
}

/// Writes over the beginning of each; how many there were.
fn replace(bytes: &mut [u8], each: &[u8], by: &[u8]) -> usize {
    let places: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(each)).collect();
    for at in &places {
        bytes[*at..at + by.len()].copy_from_slice(by);
    }
    places.len()
}

/// An iPXE for EFI that says of itself that it has no HTTP.
fn reduced_ipxe() -> Result<Vec<u8>> {
    let mut bytes = fs::read(guest::source(IPXE)?)?;
    // The features are in one table: HTTP with others before and behind it.
    let is_feature =
        |entry: &[u8]| (16..48).contains(&entry[0]) && entry[1] == 1 && (1..4).contains(&entry[2]);
    let tables: Vec<usize> = bytes
        .windows(9)
        .enumerate()
        .filter(|(_, entries)| entries.chunks(3).all(is_feature) && entries[3..6] == HTTP_FEATURE)
        .map(|(at, _)| at + 3)
        .collect();
    ensure!(tables.len() == 1, "{IPXE} has HTTP among its features at {tables:?}");
    bytes[tables[0]..tables[0] + 3].copy_from_slice(&OTHER_FEATURE);
    Ok(bytes)
}

/// A script in U-Boot's image format: a header of 64 bytes, the scripts' lengths up to 0, and the script.
fn uboot_script(text: &str) -> Vec<u8> {
    let mut data = u32::try_from(text.len()).unwrap_or(0).to_be_bytes().to_vec();
    data.extend([0; 4]);
    data.extend(text.bytes());
    let mut header = vec![0_u8; 64];
    header[..4].copy_from_slice(&0x2705_1956_u32.to_be_bytes());
    header[12..16].copy_from_slice(&u32::try_from(data.len()).unwrap_or(0).to_be_bytes());
    header[24..28].copy_from_slice(&crc32(&data).to_be_bytes());
    // Linux, 64-bit Arm, a script, not compressed.
    header[28..32].copy_from_slice(&[5, 22, 6, 0]);
    let sum = crc32(&header);
    header[4..8].copy_from_slice(&sum.to_be_bytes());
    header.extend(data);
    header
}

fn crc32(bytes: &[u8]) -> u32 {
    let step = |sum: u32, _| if sum & 1 == 1 { sum >> 1 ^ 0xedb8_8320 } else { sum >> 1 };
    !bytes.iter().fold(u32::MAX, |sum, byte| (0..8).fold(sum ^ u32::from(*byte), step))
}
