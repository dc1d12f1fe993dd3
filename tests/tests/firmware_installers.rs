//! Debian's installer and cloud-init, the programs themselves, run by documents that xpxe writes for their machines.
//!
//! Run with `--test-threads=1`, as everything with machines.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use boot_tests::daemon::{Event, Xpxe};
use boot_tests::guest;
use boot_tests::machine::{Firmware, Hardware, Machine};
use boot_tests::netns::{Line, tail};
use boot_tests::rack::Rack;
use boot_tests::sandbox::{Sandbox, root_or_skip};
use boot_tests::settings::{Known, Settings, boot_dir};

const DEBIAN: Known = Known { name: "debian", mac: "52:54:00:77:00:61", address: Some("10.77.0.61") };
const CLOUD: Known = Known { name: "cloud", mac: "52:54:00:77:00:62", address: Some("10.77.0.62") };

/// What the installer asks for next was not there before its document answered every question up to the archive.
const PRESEED: &str = "\
d-i debian-installer/locale string en_US.UTF-8
d-i keyboard-configuration/xkb-keymap select us
d-i netcfg/get_domain string {{ network.domain }}
d-i preseed/early_command string wget -q -O /dev/null \"{{ phone_home }}&status=success&text=early\"
d-i mirror/country string manual
d-i mirror/http/hostname string {{ server.address }}:8080
d-i mirror/http/directory string /files/debian
d-i mirror/http/proxy string
";

const USER_DATA: &str = "#cloud-config
fqdn: {{ machine.name }}.{{ network.domain }}
write_files:
  - path: /run/proof
    content: for {{ machine.name }} at {{ machine.ip }}
runcmd:
  - 'echo \"XPXE-GUEST applied: $(hostname) $(cat /run/proof)\" > /dev/console'
phone_home:
  url: \"{{ phone_home }}\"
  post: [instance_id, hostname, fqdn]
  tries: 3
";

/// Times from power-on in emulation.
const SOON: Duration = Duration::from_secs(180);

#[test]
fn debians_installer_and_cloud_init_run_by_their_documents() -> Result<()> {
    if !root_or_skip() {
        return Ok(());
    }
    let sandbox = Sandbox::enter()?;
    let rack = Rack::build(&sandbox)?;
    let [packages, start] = guest::CLOUD_INIT;
    let kernel = guest::KERNEL;
    let mut more = format!(
        "\n[[profile]]\nname = \"debian\"\nkernel = \"debian/linux\"\ninitrd = [\"debian/initrd.gz\"]\n\
         args = \"auto=true priority=critical url={{{{ documents }}}}preseed DEBIAN_FRONTEND=text console=ttyS0\"\n\
         documents = {{ preseed = \"preseed\" }}\n\
         \n[[profile]]\nname = \"cloud\"\nkernel = \"{kernel}\"\ninitrd = [\"{packages}\", \"{start}\"]\n\
         args = \"console=ttyS0 ds=nocloud-net;s={{{{ documents }}}}\"\n\
         documents = {{ user-data = \"user-data\" }}\n"
    );
    for Known { name, mac, address } in [DEBIAN, CLOUD] {
        let address = address.context("an address")?;
        more += &format!(
            "\n[[machine]]\nmac = \"{mac}\"\nname = \"{name}\"\nip = \"{address}\"\nprofile = \"{name}\"\n"
        );
    }
    let config = Settings { more, ..Settings::default() }.write(&sandbox, &rack)?;
    fs::write(rack.dir().join("preseed"), PRESEED)?;
    fs::write(rack.dir().join("user-data"), USER_DATA)?;
    let boot_dir = boot_dir(&rack);
    guest::install_cloud_init(&boot_dir)?;
    fs::create_dir_all(boot_dir.join("debian"))?;
    for name in ["linux", "initrd.gz"] {
        fs::copy(guest::source(&format!("debian-installer/{name}"))?, boot_dir.join("debian").join(name))?;
    }
    let xpxe = Xpxe::start(&rack, &config, &[])?;
    let power_on = |known: Known, memory| {
        let hardware = Hardware { name: known.name, mac: known.mac, firmware: Firmware::BiosIpxe, memory };
        Machine::power_on_at(&rack, rack.tap()?, &hardware)
    };
    let cloud = power_on(CLOUD, 640)?;
    let debian = power_on(DEBIAN, 1536)?;
    runs_cloud_init(&xpxe, &cloud).context("cloud-init")?;
    runs_the_installer(&xpxe, &debian).context("Debian's installer")?;
    xpxe.stop()
}

fn runs_cloud_init(xpxe: &Xpxe<'_>, machine: &Machine) -> Result<()> {
    let applied = machine.wait_for("XPXE-GUEST applied:", SOON)?;
    ensure!(applied.text.ends_with(" applied: cloud for cloud at 10.77.0.62"), "{}", applied.text);
    machine.wait_for("status: done", SOON)?;
    let off = machine.wait_for_power_off(SOON)?;
    let home = "phoned home: success, it says \"instance i-52-54-00-77-00-62, cloud\"";
    let event = xpxe.wait_for_event(home, SOON, |event| event.message() == home)?;
    ensure!(event.field("name") == CLOUD.name, "{event:?}");
    println!(
        "cloud-init: applied after {:.1} s, off after {:.1} s",
        applied.at.as_secs_f64(),
        off.as_secs_f64()
    );
    Ok(())
}

/// As far as the archive, which is not there: it asks nothing before that.
fn runs_the_installer(xpxe: &Xpxe<'_>, machine: &Machine) -> Result<()> {
    let about =
        |event: &Event, says: &str| event.field("name") == DEBIAN.name && event.message().contains(says);
    let since = |event: &Event| event.at.saturating_duration_since(machine.powered_on()).as_secs_f64();
    let mut times = Vec::new();
    for says in ["/preseed", "phoned home: success, it says \"early\"", "debian/dists/"] {
        let event = xpxe.wait_for_event(says, SOON, |event| about(event, says));
        let event = event.with_context(|| {
            machine
                .serial()
                .iter()
                .rev()
                .take(60)
                .rev()
                .map(|line| line.text.clone() + "\n")
                .collect::<String>()
        })?;
        times.push(format!("{says} after {:.1} s", since(&event)));
    }
    // What it says first is that there is no archive: nothing was wrong before, and nothing asked.
    machine.wait_for("!! ERROR: Bad archive mirror", SOON)?;
    let said = machine.serial();
    let asks = |line: &&Line| ["!!", "Prompt:", "[Press enter"].iter().any(|sign| line.text.contains(sign));
    let first = said.iter().find(asks).context("what it says first")?;
    ensure!(first.text.contains("Bad archive mirror"), "the installer asks: {}", tail(&said, 60));
    println!("Debian's installer: {}", times.join(", "));
    machine.power_off()
}
