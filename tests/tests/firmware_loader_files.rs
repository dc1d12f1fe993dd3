//! Boot loaders that are no iPXE boot machines by configuration files that nobody has written.
//!
//! Run with `--test-threads=1`, as everything with machines.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use boot_tests::boots::{EVERYBODY, Plan, boot, known_machine_is_itself, of};
use boot_tests::daemon::{Event, Xpxe};
use boot_tests::guest;
use boot_tests::machine::{Firmware, Machine};
use boot_tests::rack::Rack;
use boot_tests::sandbox::{Sandbox, root_or_skip};
use boot_tests::settings::{Known, Settings, boot_dir, proof};

/// GRUB 2.06 has a quarter of the memory for itself.
const GRUB: Plan =
    Plan { memory: 1024, ..plan(Firmware::OvmfPxe, "signed-grub", "52:54:00:77:00:41", "10.77.0.41") };
const PXELINUX: Plan = plan(Firmware::BiosIpxe, "pxelinux", "52:54:00:77:00:42", "10.77.0.42");
const LPXELINUX: Plan = plan(Firmware::BiosIpxe, "lpxelinux", "52:54:00:77:00:43", "10.77.0.43");
/// Of the package grub-efi-amd64-bin; the signed GRUB takes it without Secure Boot.
const GRUB_HTTP: &str = "/usr/lib/grub/x86_64-efi/http.mod";
/// Times from power-on in emulation.
const SOON: Duration = Duration::from_secs(180);
/// Until a transfer whose last acknowledgement is lost is given up, and told.
const TOLD: Duration = Duration::from_secs(60);

const fn plan(firmware: Firmware, name: &'static str, mac: &'static str, address: &'static str) -> Plan {
    Plan::new(firmware, Known { name, mac, address: Some(address) })
}

/// One configuration has every machine's arguments; the loaders find their own.
#[test]
fn the_signed_grub_and_pxelinux_boot_by_files_written_for_them() -> Result<()> {
    let Some((sandbox, rack, config)) = place("")? else { return Ok(()) };
    let xpxe = Xpxe::start(&rack, &config, &[])?;
    let plans = [GRUB, PXELINUX, LPXELINUX];
    let boots = boot(&rack, &xpxe, &plans)?;
    for (plan, boot) in plans.iter().zip(&boots) {
        known_machine_is_itself(plan, boot)?;
        // Nothing of it means something in the loader's language; GRUB itself has the quote escaped.
        ensure!(
            boot.cmdline.contains("quoted='a$b ") || boot.cmdline.contains("quoted=\\'a$b "),
            "{}",
            boot.cmdline
        );
        // By the way by which the loader came, and no script was asked for.
        for file in [guest::KERNEL, guest::INITRD] {
            is_told(&xpxe, plan, &format!("{file} by TFTP"), |event| is_sent(event, file))?;
        }
        let log = xpxe.log();
        let script = of(&log, plan).find(|event| event.field("step") == "script");
        ensure!(script.is_none(), "{script:?}");
    }
    let log = xpxe.log();
    // PXELINUX asks by the UUID first where the DHCP answer that it has been left has one.
    let by_uuid = "pxelinux.cfg/78707865-0000-4000-8000-525400770042";
    for (plan, files) in [
        (&GRUB, ["grub/grub.cfg", "grub/grub.cfg"]),
        (&PXELINUX, [by_uuid, "pxelinux.cfg/01-52-54-00-77-00-42"]),
    ] {
        let of_it: Vec<_> = of(&log, plan).filter(|event| event.field("step") == "tftp").collect();
        let has_one = of_it.iter().any(|event| files.iter().any(|file| is_sent(event, file)));
        ensure!(has_one, "none of {files:?} was sent: {of_it:#?}");
    }
    xpxe.stop()?;
    drop(sandbox);
    Ok(())
}

/// What is given by signed links only comes by HTTP, and GRUB before 2.12 knows no port but 80.
#[test]
fn grub_and_lpxelinux_boot_by_signed_links_and_secret_documents_have_tokens() -> Result<()> {
    let Some((sandbox, rack, config)) = place("")? else { return Ok(()) };
    let config = config
        .replace("listen = \"0.0.0.0:8080\"", "listen = \"0.0.0.0:80\"\nsigned_links = true")
        .replace("quoted=", "ds=nocloud;s={{ documents }} quoted=")
        .replace(
            "\n[default]",
            "documents = { user-data = { file = \"user-data\", secret = true } }\n\n[default]",
        );
    fs::write(rack.dir().join("user-data"), "#cloud-config\n")?;
    fs::create_dir_all(boot_dir(&rack).join("grub/x86_64-efi"))?;
    fs::copy(GRUB_HTTP, boot_dir(&rack).join("grub/x86_64-efi/http.mod"))
        .with_context(|| format!("copy {GRUB_HTTP}"))?;
    let xpxe = Xpxe::start(&rack, &config, &[])?;
    let plans = [GRUB, LPXELINUX];
    let boots = boot(&rack, &xpxe, &plans)?;
    for (plan, boot) in plans.iter().zip(&boots) {
        known_machine_is_itself(plan, boot)?;
        ensure!(boot.cmdline.contains("ds=nocloud;s=http://10.77.0.1:80/documents/"), "{}", boot.cmdline);
        ensure!(boot.cmdline.contains("/t-"), "{}", boot.cmdline);
        for file in [guest::KERNEL, guest::INITRD] {
            is_told(&xpxe, plan, &format!("{file} by HTTP"), |event| {
                event.field("step") == "http"
                    && event.field("file") == file
                    && event.message().starts_with("sent")
            })?;
        }
    }
    let log = xpxe.log();
    let refused = log.iter().find(|event| event.message().contains("the link "));
    ensure!(refused.is_none(), "{refused:?}");
    xpxe.stop()?;
    drop(sandbox);
    Ok(())
}

/// The kernel is put there when both have said that they could not boot: neither is in a shell or at a prompt then.
#[test]
fn a_kernel_that_comes_later_is_booted_then() -> Result<()> {
    let Some((sandbox, rack, config)) = place("")? else { return Ok(()) };
    let kernel = boot_dir(&rack).join(guest::KERNEL);
    let away = kernel.with_extension("away");
    fs::rename(&kernel, &away)?;
    let xpxe = Xpxe::start(&rack, &config, &[])?;
    let power_on = |plan: &Plan| {
        let hardware = boot_tests::machine::Hardware {
            name: plan.known.name,
            mac: plan.known.mac,
            firmware: plan.firmware,
            memory: plan.memory,
        };
        Machine::power_on_at(&rack, rack.tap()?, &hardware)
    };
    let machines = [power_on(&GRUB)?, power_on(&PXELINUX)?];
    machines[0].wait_for("xpxe: could not boot signed-grub, trying again in 10 seconds", SOON)?;
    machines[1].wait_for("failed: No such file", SOON)?;
    fs::rename(&away, &kernel)?;
    for (machine, plan) in machines.iter().zip([GRUB, PXELINUX]) {
        let cmdline = machine.wait_for(guest::CMDLINE, SOON).with_context(|| xpxe.last_lines(60))?.text;
        ensure!(cmdline.contains(&proof(plan.known.name)), "{cmdline}");
    }
    xpxe.stop()?;
    drop(sandbox);
    Ok(())
}

/// A loader that starts its kernel at once may leave the last block unacknowledged: then the log has the transfer's end
/// when xpxe has asked in vain.
fn is_told(xpxe: &Xpxe<'_>, plan: &Plan, what: &str, wanted: impl Fn(&Event) -> bool) -> Result<()> {
    let name = plan.known.name;
    xpxe.wait_for_event(&format!("{what} sent to {name}"), TOLD, |event| {
        event.field("mac").eq_ignore_ascii_case(plan.known.mac) && wanted(event)
    })?;
    Ok(())
}

fn is_sent(event: &Event, file: &str) -> bool {
    event.field("step") == "tftp"
        && event.field("file").trim_start_matches('/') == file
        && event.message().starts_with("sent")
}

/// With the loaders, each machine's own, and the guest. `None` without root.
fn place(more: &str) -> Result<Option<(Sandbox, Rack, String)>> {
    if !root_or_skip() {
        return Ok(None);
    }
    let sandbox = Sandbox::enter()?;
    let rack = Rack::build(&sandbox)?;
    let mut more = more.to_owned();
    for (Plan { known, firmware, .. }, file) in
        [(GRUB, "grubnetx64.efi"), (PXELINUX, "pxelinux.0"), (LPXELINUX, "lpxelinux.0")]
    {
        let Known { name, mac, address } = known;
        let address = address.context("an address")?;
        let boot = match firmware {
            // The ROM is an iPXE, and would get a script.
            Firmware::BiosIpxe => {
                format!("options = [{{ code = 67, text = \"{file}\", client = \"ipxe\" }}]")
            }
            _ => format!("boot_file = \"{file}\""),
        };
        more += &format!(
            "\n[[machine]]\nmac = \"{mac}\"\nname = \"{name}\"\nip = \"{address}\"\nargs = \"{}\"\n{boot}\n",
            proof(name)
        );
    }
    let args = format!("console=ttyS0 {EVERYBODY} quoted='a$b");
    let config = Settings { args, more, ..Settings::default() }.write(&sandbox, &rack)?;
    guest::install(&boot_dir(&rack))?;
    for file in ["grubnetx64.efi", "pxelinux.0", "lpxelinux.0", "ldlinux.c32"] {
        fs::copy(guest::source(&format!("loaders/{file}"))?, boot_dir(&rack).join(file))
            .with_context(|| format!("copy {file}"))?;
    }
    Ok(Some((sandbox, rack, config)))
}
