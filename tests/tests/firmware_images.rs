//! Machines boot a kernel and an initrd that came from S3 through the store, and go on doing so while S3 is away.
//!
//! Run with `--test-threads=1`, as all tests that boot machines.

use std::fs;

use anyhow::{Result, ensure};
use boot_tests::boots::{EVERYBODY, Plan, boot, known_machine_is_itself};
use boot_tests::daemon::Xpxe;
use boot_tests::guest;
use boot_tests::machine::Firmware;
use boot_tests::rack::Rack;
use boot_tests::s3::{self, ACCESS_KEY, S3, SECRET_KEY};
use boot_tests::sandbox::{Sandbox, root_or_skip};
use boot_tests::settings::{Known, Settings, boot_dir};

const PLANS: [Plan; 3] = [
    Plan::new(
        Firmware::BiosIpxe,
        Known { name: "bios-1", mac: "52:54:00:77:00:0a", address: Some("10.77.0.10") },
    ),
    Plan::new(
        Firmware::OvmfPxe,
        Known { name: "uefi-1", mac: "52:54:00:77:00:0b", address: Some("10.77.0.11") },
    ),
    Plan::new(
        Firmware::OvmfHttp,
        Known { name: "http-1", mac: "52:54:00:77:00:0c", address: Some("10.77.0.12") },
    ),
];

/// The store has nothing of it: iPXE asks S3 itself.
#[test]
fn bios_ipxe_boots_a_kernel_by_presigned_urls() -> Result<()> {
    let Some((_sandbox, rack, _server, config)) = place(s3::presigned)? else { return Ok(()) };
    let xpxe = Xpxe::start(&rack, &config, &[])?;
    let boots = boot(&rack, &xpxe, &PLANS[..1])?;
    known_machine_is_itself(&PLANS[0], &boots[0])?;
    let log = xpxe.log();
    let of_store: Vec<_> = log.iter().filter(|event| event.message().contains("image ")).collect();
    ensure!(of_store.is_empty(), "the store has had something to do: {of_store:#?}");
    xpxe.stop()
}

#[test]
fn bios_uefi_and_uefi_http_boot_a_kernel_from_s3_and_again_while_s3_is_away() -> Result<()> {
    let Some((_sandbox, rack, server, config)) = place(s3::upstream)? else { return Ok(()) };
    let xpxe = Xpxe::start(&rack, &config, &[])?;
    let boots = boot(&rack, &xpxe, &PLANS)?;
    PLANS.iter().zip(&boots).try_for_each(|(plan, boot)| known_machine_is_itself(plan, boot))?;
    let fetched = xpxe.log().iter().filter(|event| event.message().contains("fetched image")).count();
    ensure!(fetched == 2, "three machines are {fetched} fetches of a kernel and an initrd");
    server.process.kill()?;
    let boots = boot(&rack, &xpxe, &PLANS[..1])?;
    known_machine_is_itself(&PLANS[0], &boots[0])?;
    xpxe.stop()
}

type Upstream = fn(&Rack, &str, &str) -> Result<String>;

/// With the guest in S3 only. `None` without root.
fn place(upstream: Upstream) -> Result<Option<(Sandbox, Rack, S3, String)>> {
    if !root_or_skip() {
        return Ok(None);
    }
    let sandbox = Sandbox::enter()?;
    let rack = Rack::build(&sandbox)?;
    let machines = PLANS.map(|plan| plan.known).to_vec();
    let more = upstream(&rack, ACCESS_KEY, SECRET_KEY)?;
    let args = format!("console=ttyS0 {EVERYBODY}");
    let mut config = Settings { args, machines, more, ..Settings::default() }.write(&sandbox, &rack)?;
    let server = S3::start(&rack)?;
    guest::install(&boot_dir(&rack))?;
    for file in [guest::KERNEL, guest::INITRD] {
        let path = boot_dir(&rack).join(file);
        server.put(file, &fs::read(&path)?)?;
        fs::remove_file(path)?;
        config = config.replace(&format!("\"{file}\""), &format!("\"image:s3://boot/{file}\""));
    }
    Ok(Some((sandbox, rack, server, config)))
}
