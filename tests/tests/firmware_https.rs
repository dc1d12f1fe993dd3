//! UEFI HTTPS Boot, iPXE over HTTPS, a kernel over HTTPS by a signed link; and firmware that does not trust the server.
//!
//! Run with `--test-threads=1`, as all tests that boot machines.

use std::fs;

use anyhow::{Result, ensure};
use boot_tests::boots::{EVERYBODY, Plan, boot, known_machine_is_itself, of};
use boot_tests::certificates::{Authority, Key};
use boot_tests::daemon::Xpxe;
use boot_tests::guest;
use boot_tests::machine::{Firmware, Machine, TRUSTED};
use boot_tests::place::SOON;
use boot_tests::rack::{Rack, SERVER_ADDRESS};
use boot_tests::sandbox::{Sandbox, root_or_skip};
use boot_tests::settings::{Known, Settings, boot_dir};

const TRUSTS: Plan = Plan::new(
    Firmware::OvmfHttps,
    Known { name: "https-1", mac: "52:54:00:77:00:31", address: Some("10.77.0.31") },
);
const DISTRUSTS: Known = Known { name: "https-2", mac: "52:54:00:77:00:32", address: Some("10.77.0.32") };

/// OVMF of Debian 12 knows no ECDHE. iPXE 2.0 trusts whom the firmware trusts.
#[test]
fn uefi_https_boot_loads_ipxe_and_a_kernel_over_https() -> Result<()> {
    if !root_or_skip() {
        return Ok(());
    }
    let sandbox = Sandbox::enter()?;
    let rack = Rack::build(&sandbox)?;
    let authority = Authority::new(rack.dir())?;
    let pair = authority.issue("server", &format!("IP:{SERVER_ADDRESS}"), Key::Rsa)?;
    fs::write(rack.dir().join(TRUSTED), authority.signature_list()?)?;
    let more =
        format!("\n[[boot_file]]\narch = 16\nfile = \"https://{SERVER_ADDRESS}:8443/files/ipxe.efi\"\n");
    let args = format!("console=ttyS0 {EVERYBODY}");
    let machines = vec![TRUSTS.known, DISTRUSTS];
    let tls = format!(
        "[http]\nsigned_links = true\ntls = {{ listen = \"0.0.0.0:8443\", certificate = {:?}, key = {:?} }}\n",
        pair.certificate, pair.key
    );
    let config = Settings { args, machines, more, ..Settings::default() }.write(&sandbox, &rack)?;
    let config = config.replace("[http]\n", &tls);
    guest::install(&boot_dir(&rack))?;
    fs::copy(guest::source("sid/ipxe/ipxe-amd64.efi")?, boot_dir(&rack).join("ipxe.efi"))?;
    let xpxe = Xpxe::start(&rack, &config, &[])?;
    // Whatever goes on without TLS does not go on.
    let rules = "table inet t { chain c { type filter hook input priority 0; tcp dport 8080 reject; }; }";
    rack.server.output("nft", &[rules])?;
    let boots = boot(&rack, &xpxe, &[TRUSTS])?;
    known_machine_is_itself(&TRUSTS, &boots[0])?;
    let log = xpxe.log();
    let sent = |what: &str| of(&log, &TRUSTS).any(|event| event.message().contains(what));
    for what in ["sent ipxe.efi", "sent /ipxe/boot.ipxe", "sent guest/vmlinuz", "sent guest/initrd.img"] {
        ensure!(sent(what), "{what} is not in the log:\n{}", xpxe.last_lines(60));
    }

    // Without any authority OVMF does not even connect.
    let other = rack.dir().join("other");
    fs::create_dir(&other)?;
    fs::write(rack.dir().join(TRUSTED), Authority::new(&other)?.signature_list()?)?;
    let stranger = Machine::power_on(&rack, DISTRUSTS.name, DISTRUSTS.mac, Firmware::OvmfHttps)?;
    xpxe.wait_for_event("why the other machine does not boot", SOON * 4, |event| {
        event.message().contains("as firmware does that does not trust the certificate")
            && event.field("client") == "10.77.0.32"
    })?;
    stranger.power_off()?;
    xpxe.stop()
}
