//! Boot parameters that are written through the front for BSS, as its clients write them with curl.

use std::fs;

use anyhow::{Context, Result, ensure};
use boot_tests::boots::{EVERYBODY, Plan, boot};
use boot_tests::daemon::Xpxe;
use boot_tests::guest;
use boot_tests::machine::Firmware;
use boot_tests::netns::Namespace;
use boot_tests::place::{ALICE, BOB, Place, SOON, known};
use boot_tests::rack::SERVER_ADDRESS;
use boot_tests::settings::{Known, Settings, boot_dir};
use serde_json::{Value, json};

const PARAMETERS: &str = "/apis/bss/boot/v1/bootparameters";

/// The writer is the server's own host.
fn with_writer(config: &str) -> String {
    let http = format!("[http]\nfronts = [\"bss\"]\nbss_writers = [\"{SERVER_ADDRESS}/32\"]");
    config.replace("[http]", &http)
}

fn url(path: &str) -> String {
    format!("http://{SERVER_ADDRESS}:8080{path}")
}

/// Status and body.
fn send(from: &Namespace, method: &str, path: &str, body: &Value) -> Result<(String, String)> {
    let (body, url) = (body.to_string(), url(path));
    let args = [
        "-sS",
        "-X",
        method,
        "-H",
        "Content-Type: application/json",
        "-d",
        &body,
        "-w",
        "\n%{http_code}",
        &url,
    ];
    let said = from.output("curl", &args)?;
    let (body, status) = said.rsplit_once('\n').context("a status")?;
    Ok((status.to_owned(), body.to_owned()))
}

fn get(from: &Namespace, path: &str) -> Result<String> {
    from.output("curl", &["-fsS", &url(path)])
}

/// Whatever was answered is there after the daemon was killed at once, and after a reload.
#[test]
fn an_answered_write_survives_a_kill_a_restart_and_a_reload() -> Result<()> {
    let Some(place) = Place::build(&Settings { fast_path: "off", ..known() })? else { return Ok(()) };
    let config = with_writer(&place.config);
    let server = &place.rack.server;
    let machine = place.rack.neighbour("machine", ALICE.mac, "10.77.0.10/24")?;
    let mut xpxe = Xpxe::start(&place.rack, &config, &[])?;
    let file = place.rack.dir().join("xpxe.toml").display().to_string();
    for round in 0..6 {
        let kernel = format!("kernel-{round}");
        let body = json!({ "hosts": ["alice"], "kernel": kernel, "params": "a=1", "initrd": "initrd" });
        let (status, said) = send(server, "PUT", PARAMETERS, &body)?;
        ensure!(status == "200", "{status}: {said}");
        xpxe.kill9()?;
        xpxe.start_again()?;
        xpxe.wait_until_ready()?;
        let found: Value = serde_json::from_str(&get(server, &format!("{PARAMETERS}?name=alice"))?)?;
        ensure!(found[0]["kernel"] == json!(kernel), "{round}: {found}");
    }
    let script = get(&machine, "/boot/v1/bootscript?mac=02:77:00:00:00:10")?;
    ensure!(script.contains("/files/kernel-5 initrd=initrd a=1 xname=alice "), "{script}");
    // A write that is in the air when the daemon is killed is there whole, or not at all.
    let left = place.rack.dir().join("state/boot-parameters.new");
    fs::write(&left, "[{ \"hosts\":")?;
    xpxe.restart()?;
    xpxe.write_config(
        &config.replace("[default]", "[[profile]]\nname = \"other\"\nkernel = \"o\"\n[default]"),
    )?;
    xpxe.command(&["reload", "--config", &file])?;
    let after = get(&machine, "/boot/v1/bootscript?mac=02:77:00:00:00:10")?;
    ensure!(after.lines().nth(1) == script.lines().nth(1), "{after}");
    let explained = xpxe.command(&["explain", "alice", "--config", &file])?;
    ensure!(
        explained.contains("boots the boot parameters of alice") && explained.contains("kernel-5"),
        "{explained}"
    );
    // Nobody on the boot network writes, and the log says who tried.
    let (status, said) =
        send(&machine, "PUT", PARAMETERS, &json!({ "hosts": ["Default"], "kernel": "evil" }))?;
    ensure!(status == "403" && said.contains("bss_writers"), "{status}: {said}");
    xpxe.wait_for_event("who tried to write", SOON, |event| {
        event.message().contains("only bss_writers of [http] may write")
            && event.field("client") == "10.77.0.10"
    })?;
    // Without the front, the configuration decides again.
    let (with, without) = ("fronts = [\"bss\"]", "fronts = [\"matchbox\"]");
    xpxe.write_config(&config.replace(with, without))?;
    xpxe.command(&["reload", "--config", &file])?;
    let own = get(&machine, "/ipxe?mac=02-77-00-00-00-10&arch=x86_64")?;
    ensure!(own.contains(guest::KERNEL) && !own.contains("kernel-5"), "{own}");
    xpxe.stop()
}

/// A disk that takes nothing refuses the write, and the one before it counts.
#[test]
fn what_cannot_be_stored_is_not_served() -> Result<()> {
    let Some(place) = Place::build(&Settings { fast_path: "off", ..known() })? else { return Ok(()) };
    let server = &place.rack.server;
    let xpxe = Xpxe::start(&place.rack, &with_writer(&place.config), &[])?;
    let body = |kernel: &str| json!({ "hosts": ["bob"], "kernel": kernel });
    ensure!(send(server, "POST", PARAMETERS, &body("first"))?.0 == "201");
    // A directory in the place of the file that is written first.
    fs::create_dir(place.rack.dir().join("state/boot-parameters.new"))?;
    let (status, said) = send(server, "PUT", PARAMETERS, &body("second"))?;
    ensure!(status == "503" && said.contains("nothing was changed"), "{status}: {said}");
    let found = get(server, &format!("{PARAMETERS}?name={}", BOB.name))?;
    ensure!(found.contains("\"first\"") && !found.contains("second"), "{found}");
    xpxe.stop()
}

const NODE: Plan = Plan::new(
    Firmware::BiosIpxe,
    Known { name: "x1000c0s0b0n0", mac: "52:54:00:77:00:61", address: Some("10.77.0.61") },
);

/// Firmware boots what a client has written: DHCP leads iPXE to the script, as CSM's does.
#[test]
fn a_machine_boots_what_was_written() -> Result<()> {
    let Known { name, mac, address } = NODE.known;
    let script = url("/apis/bss/boot/v1/bootscript?mac=");
    let more = format!(
        "\n[[machine]]\nmac = \"{mac}\"\nname = \"{name}\"\nip = \"{}\"\nlabels = {{ role = \"Compute\", nid = \"1\" }}\n\
         options = [{{ code = 67, text = \"{script}{mac}\", client = \"ipxe\" }}]\n",
        address.context("an address")?
    );
    let Some(place) = Place::build(&Settings { more, ..Settings::default() })? else { return Ok(()) };
    guest::install(&boot_dir(&place.rack))?;
    let xpxe = Xpxe::start(&place.rack, &with_writer(&place.config), &[])?;
    let params = format!("console=ttyS0 {EVERYBODY} written=1");
    let body =
        json!({ "hosts": ["Compute"], "kernel": guest::KERNEL, "initrd": guest::INITRD, "params": params });
    let (status, said) = send(&place.rack.server, "PUT", PARAMETERS, &body)?;
    ensure!(status == "200", "{status}: {said}");
    let boots = boot(&place.rack, &xpxe, &[NODE])?;
    for boot in &boots {
        for wanted in [
            "written=1",
            "xname=x1000c0s0b0n0",
            "nid=1",
            "BOOTIF=01-52-54-00-77-00-61",
            "ds=nocloud-net;s=http://",
        ] {
            ensure!(boot.cmdline.contains(wanted), "no {wanted}: {}", boot.cmdline);
        }
    }
    ensure!(boots.len() == 1);
    xpxe.stop()
}
