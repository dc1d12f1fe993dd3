//! cloud-init's own code takes a machine's documents for its seed, and phones home.

use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};
use boot_tests::dhcp_client::{Client, mac};
use boot_tests::place::{ALICE, Place, SOON, known};
use boot_tests::rack::SERVER_ADDRESS;

/// What its data source NoCloud does with `s=`, and its module `phone_home` with the configuration.
const CLOUD_INIT: &str = r#"
import logging, sys, yaml
from types import SimpleNamespace
from cloudinit import util
from cloudinit.config import cc_phone_home
meta_data, user_data, vendor_data = util.read_seeded(sys.argv[1], timeout=5, retries=0)
print("meta-data", meta_data["instance-id"], meta_data["local-hostname"])
print("vendor-data", repr(vendor_data))
config = yaml.safe_load(user_data)
print("user-data", config["fqdn"])
name = lambda fqdn=False: SimpleNamespace(hostname=config["fqdn"] if fqdn else meta_data["local-hostname"])
cloud = SimpleNamespace(get_instance_id=lambda: meta_data["instance-id"], get_hostname=name, paths=None)
cc_phone_home.handle("phone_home", config, cloud, logging.getLogger(), [])
"#;

const USER_DATA: &str = "#cloud-config
fqdn: {{ machine.name }}.{{ network.domain }}
phone_home:
  url: \"{{ phone_home }}\"
  post: [instance_id, hostname, fqdn]
  tries: 1
";

/// Where the packages are that `cargo xtask setup` has prepared.
fn python_path() -> Result<String> {
    let packages =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/readers/usr/lib/python3/dist-packages");
    ensure!(packages.is_dir(), "{} is missing: run `cargo xtask setup`", packages.display());
    Ok(format!("PYTHONPATH={}", packages.display()))
}

/// Its data source reads each document once, and so it has what is given once.
#[test]
fn cloud_inits_own_code_takes_a_secret_seed_once_per_boot() -> Result<()> {
    let Some(mut place) = Place::build(&known())? else { return Ok(()) };
    let documents = "documents = { user-data = { file = \"user-data\", secret = true } }\n\n[default]";
    place.config = place.config.replace("\n[default]", documents);
    place.config =
        place.config.replace("args = \"console=ttyS0\"", "args = \"ds=nocloud;s={{ documents }}\"");
    fs::write(place.rack.dir().join("user-data"), USER_DATA)?;
    let xpxe = place.serve()?;
    place.client()?.lease(&Client::new(mac(ALICE.mac)?))?;
    let alice = place.rack.neighbour("alice", ALICE.mac, "10.77.0.10/24")?;
    let packages = python_path()?;
    for boot in 0..2 {
        let script = format!("http://{SERVER_ADDRESS}:8080/ipxe/boot.ipxe?mac={}", ALICE.mac);
        let script = alice.output("curl", &["-sSf", "--max-time", "20", &script])?;
        let seed = script.split("s=").find(|rest| rest.starts_with("http://")).unwrap_or_default();
        let seed = seed.split(' ').next().unwrap_or_default();
        let run = ["env", &packages, "/usr/bin/python3", "-c", CLOUD_INIT, seed];
        let said = alice.output(run[0], &run[1..])?;
        ensure!(said.contains("user-data alice.rack.test\n"), "boot {boot}: {said}");
        ensure!(alice.output(run[0], &run[1..]).is_err(), "it has its seed twice");
    }
    xpxe.stop()
}

#[test]
fn cloud_inits_own_code_takes_the_seed_and_phones_home() -> Result<()> {
    let Some(mut place) = Place::build(&known())? else { return Ok(()) };
    place.config =
        place.config.replace("\n[default]", "documents = { user-data = \"user-data\" }\n\n[default]");
    fs::write(place.rack.dir().join("user-data"), USER_DATA)?;
    let xpxe = place.serve()?;
    ensure!(
        place.client()?.lease(&Client::new(mac(ALICE.mac)?))?.address().to_string() == "10.77.0.10",
        "alice has her address"
    );
    let hyphens = ALICE.mac.replace(':', "-");
    let seed = format!("http://{SERVER_ADDRESS}:8080/documents/{hyphens}/");
    let packages = python_path()?;
    let run = ["env", &packages, "/usr/bin/python3", "-c", CLOUD_INIT, &seed];

    let alice = place.rack.neighbour("alice", ALICE.mac, "10.77.0.10/24")?;
    let said = alice.output(run[0], &run[1..])?;
    let wanted = format!("meta-data i-{hyphens} alice\nvendor-data b''\nuser-data alice.rack.test\n");
    ensure!(said == wanted, "{said}");
    let home = format!("phoned home: success, it says \"instance i-{hyphens}, alice.rack.test\"");
    let event = xpxe.wait_for_event(&home, SOON, |event| event.message() == home)?;
    ensure!(event.field("mac").eq_ignore_ascii_case(ALICE.mac) && event.field("step") == "phone-home");

    // Somebody else gets neither, and is not believed.
    let other = place.rack.neighbour("other", "02:77:00:00:00:e9", "10.77.0.9/24")?;
    ensure!(other.output(run[0], &run[1..]).is_err(), "somebody else has alice's seed");
    let report = format!("http://{SERVER_ADDRESS}:8080/phone-home?mac={hyphens}&status=success");
    let status = other.output("curl", &["-s", "-o", "/dev/null", "-w", "%{http_code}", &report])?;
    ensure!(status == "403", "{status}");
    let refused = "phoned home for alice, which has 10.77.0.10: it is not believed";
    xpxe.wait_for_event(refused, SOON, |event| event.message().contains(refused))?;
    xpxe.stop()
}
