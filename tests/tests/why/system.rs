//! Causes 17 to 24: from the script on.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use boot_tests::certificates::{Authority, Key};
use boot_tests::daemon::binary;
use boot_tests::packet::Client;
use boot_tests::place::{ALICE, BOB, Place, SOON, UNKNOWN, known};
use boot_tests::rack::SERVER_ADDRESS;
use boot_tests::settings::Settings;
use boot_tests::wait::{eventually, eventually_some};
use serde_json::Value;

use super::scene::*;

/// A system may take two minutes to start.
const SYSTEM: Duration = Duration::from_secs(180);

#[test]
fn a_script_without_a_kernel_a_missing_one_and_one_that_is_cut_off() -> Result<()> {
    scene(&known(), |scene| {
        let alice = scene.machine(ALICE)?;
        alice.load_script()?;
        alice.must_be("under-way")?;
        alice.must_be("kernel-not-asked")?;
        ensure!(alice.http("/files/guest/vmlinuz").is_err(), "there is no such file");
        let evidence = alice.must_be("kernel-missing")?;
        ensure!(evidence.contains("guest/vmlinuz"), "{evidence}");
        // The machine takes a little of its initrd, and leaves.
        scene.put("guest/vmlinuz", 100_000)?;
        scene.put("guest/initrd.img", 64 << 20)?;
        alice.http("/files/guest/vmlinuz")?;
        let url = format!("http://{SERVER_ADDRESS}:8080/files/guest/initrd.img");
        let cut = format!("curl -sS {url} 2>/dev/null | head -c 1000000 >/dev/null");
        alice.station.output("sh", &["-c", &cut])?;
        let evidence = alice.must_be("file-cut-off")?;
        ensure!(evidence.contains("closed the connection"), "{evidence}");
        Ok(())
    })
}

#[test]
fn a_dead_upstream_is_a_kernel_that_is_not_there() -> Result<()> {
    let image = |config: String| {
        config.replace("kernel = \"guest/vmlinuz\"", "kernel = \"image:http://10.77.0.250/vmlinuz\"")
    };
    scene_with(&known(), image, |scene| {
        let alice = scene.machine(ALICE)?;
        alice.load_script()?;
        ensure!(alice.http_with("/images/vmlinuz", &["--max-time", "60"]).is_err(), "nobody has it");
        let evidence = alice.must_be("kernel-missing")?;
        ensure!(evidence.contains("vmlinuz"), "{evidence}");
        Ok(())
    })
}

/// The longest of all waits: one machine's system is silent, while another one boots over and over.
#[test]
fn a_silent_system_and_a_loop_of_boots() -> Result<()> {
    scene(&known(), |scene| {
        let alice = scene.machine(ALICE)?;
        alice.load_kernel()?;
        let bob = scene.machine(BOB)?;
        for _ in 0..4 {
            bob.boot()?;
        }
        let evidence = bob.must_be("boot-loop")?;
        ensure!(evidence.contains("4 boots"), "{evidence}");
        let evidence = scene.must_be(ALICE.mac, "system-silent", SYSTEM)?;
        ensure!(evidence.contains("fetched guest/initrd.img by HTTP"), "{evidence}");
        Ok(())
    })
}

/// curl believes nobody but the system's authorities, as iPXE believes nobody but its own.
#[test]
fn a_client_that_distrusts_the_certificate_says_so() -> Result<()> {
    let Some(mut place) = Place::build(&known())? else { return Ok(()) };
    let authority = Authority::new(place.rack.dir())?;
    let pair = authority.issue("server", &format!("IP:{SERVER_ADDRESS}"), Key::Rsa)?;
    let tls = format!(
        "[http]\ntls = {{ listen = \"0.0.0.0:8443\", certificate = {:?}, key = {:?} }}\n",
        pair.certificate, pair.key
    );
    place.config = place.config.replace("[http]\n", &tls);
    scene_in(&place, |scene| {
        scene.put("snponly.efi", 100_000)?;
        let alice = scene.machine(ALICE)?;
        alice.load()?;
        alice.lease(Client::IpxeEfi)?;
        let url = format!("https://{SERVER_ADDRESS}:8443/ipxe/boot.ipxe?mac={}", ALICE.mac);
        let fetch = |more: &[&str]| {
            alice.station.output("curl", &[&["-sSf", "-o", "/dev/null", &url], more].concat())
        };
        ensure!(fetch(&[]).is_err(), "nobody has signed the authority's certificate");
        let evidence = alice.must_be("tls-failed")?;
        ensure!(evidence.contains("does not trust the certificate"), "{evidence}");
        // One that knows the authority goes on.
        fetch(&["--cacert", &authority.certificate().display().to_string()])?;
        alice.must_be("under-way").map(drop)
    })
}

#[test]
fn two_machines_with_one_mac_are_found_by_their_uuids() -> Result<()> {
    scene(&known(), |scene| {
        let alice = scene.machine(ALICE)?;
        alice.load_script()?;
        let uuids = ["4c4c4544-0042-3510-8052-b4c04f4e3132", "4c4c4544-0042-3510-8052-b4c04f4e3133"];
        for uuid in uuids {
            alice.http(&format!("/ipxe/boot.ipxe?mac={}&uuid={uuid}", ALICE.mac))?;
        }
        let evidence = alice.must_be("duplicate-identity")?;
        ensure!(uuids.iter().all(|uuid| evidence.contains(uuid)), "{evidence}");
        Ok(())
    })
}

#[test]
fn two_machines_with_one_uuid_that_boot_at_the_same_time_are_two() -> Result<()> {
    scene(&known(), |scene| {
        let uuid = "4c4c4544-0042-3510-8052-b4c04f4e3132";
        let (alice, bob) = (scene.machine(ALICE)?, scene.machine(BOB)?);
        for machine in [&alice, &bob] {
            machine.load_script()?;
            machine.http(&format!("/ipxe/boot.ipxe?mac={}&uuid={uuid}", machine.known.mac))?;
        }
        alice.script()?;
        let evidence = alice.must_be("duplicate-identity")?;
        ensure!(evidence.contains(BOB.mac) && evidence.contains(uuid), "{evidence}");
        Ok(())
    })
}

/// A kernel that really takes its time.
#[test]
fn a_slow_part_of_a_boot_is_named_beside_the_earlier_ones() -> Result<()> {
    scene(&known(), |scene| {
        let alice = scene.machine(ALICE)?;
        (0..2).try_for_each(|_| alice.boot())?;
        alice.must_be("boots")?;
        alice.load_script()?;
        scene.put("guest/vmlinuz", 2_500_000)?;
        // A network that lets 80 kB a second through.
        scene.drop_on_the_way(&["tcp sport 8080 limit rate over 80 kbytes/second".to_owned()])?;
        alice.http("/files/guest/vmlinuz")?;
        scene.drop_on_the_way(&[])?;
        alice.http("/files/guest/initrd.img")?;
        alice.lease(Client::Udhcpc)?;
        let evidence = alice.must_be("slow")?;
        ensure!(evidence.contains("the kernel and its initrds took"), "{evidence}");
        // What the machine itself says comes before that.
        alice.http("/phone-home?status=failure&text=no%20disk")?;
        let evidence = alice.must_be("reported-failure")?;
        ensure!(evidence.contains("reported a failure: no disk"), "{evidence}");
        Ok(())
    })
}

#[test]
fn a_boot_that_goes_well_boots_and_is_there_after_a_restart() -> Result<()> {
    for (fast_path, by) in [("off", "daemon"), ("tc", "tc"), ("xdp", "xdp")] {
        let Some(place) = Place::build(&Settings { fast_path, ..known() })? else {
            return Ok(());
        };
        place.rack.server.output("ethtool", &["-K", "eth0", "tx", "off"])?;
        let mut scene = Scene { place: &place, xpxe: place.serve()? };
        let all = |scene: &Scene<'_>| -> Result<String> {
            ensure!(scene.xpxe(&["boots", "list"])?.contains(ALICE.name), "alice is not in the list");
            scene.xpxe(&["boots", "show", ALICE.name])
        };
        let before = {
            let alice = scene.machine(ALICE)?;
            alice.load_kernel()?;
            ensure!(scene.why(ALICE.mac)?["verdict"]["cause"] != "boots", "its system has said nothing yet");
            alice.lease(Client::Udhcpc)?;
            alice.must_be("boots")?;
            all(&scene)?
        };
        for step in [
            "offered the firmware (efi-x64) 10.77.0.10",
            "fetched snponly.efi by TFTP, 100000 bytes",
            "offered iPXE",
            "fetched its boot script",
            "fetched guest/vmlinuz by HTTP, 200000 bytes",
            "gave the operating system 10.77.0.10",
            "=> boots",
        ] {
            ensure!(before.contains(step), "{fast_path}: {step} is not in\n{before}");
        }
        // iPXE's offer is the answering hook's own.
        ensure!(
            before.lines().any(|line| line.contains(by) && line.contains("offered iPXE")),
            "{by}:\n{before}"
        );
        // Once it was silent for 10 s, it is stored, whatever happens then.
        let file = place.rack.dir().join("state/boots.jsonl");
        eventually_some(SOON, "the stored boot", || {
            std::fs::read_to_string(&file).ok().filter(|text| text.contains(ALICE.mac))
        })?;
        scene.xpxe.kill9()?;
        scene.xpxe.restart()?;
        ensure!(all(&scene)? == before, "before\n{before}\nafter\n{}", all(&scene)?);
        scene.must_be(ALICE.mac, "boots", VERDICT)?;
        scene.xpxe.stop()?;
    }
    Ok(())
}

/// Its steps are in the kernel's ring until the next daemon reads them, with the times at which they happened.
#[test]
fn what_the_kernel_half_answers_while_no_daemon_runs_is_in_the_boots_steps() -> Result<()> {
    for fast_path in ["tc", "xdp"] {
        let Some(place) = Place::build(&Settings { fast_path, ..known() })? else { return Ok(()) };
        place.rack.server.output("ethtool", &["-K", "eth0", "tx", "off"])?;
        let mut scene = Scene { place: &place, xpxe: place.serve()? };
        scene.put("snponly.efi", 100_000)?;
        let millis =
            || Ok::<_, anyhow::Error>(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as u64);
        let killed = {
            let alice = scene.machine(ALICE)?;
            alice.load()?;
            eventually(SOON, "what happened before", || {
                scene.xpxe(&["boots", "show", ALICE.name]).is_ok_and(|shown| shown.contains("snponly.efi"))
            })?;
            scene.xpxe.kill9()?;
            let killed = millis()?;
            alice.lease(Client::IpxeEfi)?;
            killed
        };
        let alone = killed..=millis()?;
        scene.xpxe.restart()?;
        let mut last = Value::Null;
        let has_both = || -> Option<()> {
            last = serde_json::from_str(&scene.xpxe(&["boots", "show", ALICE.name, "--json"]).ok()?).ok()?;
            let steps = last[0]["steps"].as_array()?;
            let is_there = |says: &str| {
                steps.iter().any(|step| {
                    step["says"] == says
                        && step["by"] == fast_path
                        && step["at"].as_u64().is_some_and(|at| alone.contains(&at))
                })
            };
            ["offered iPXE 10.77.0.10", "gave iPXE 10.77.0.10"].into_iter().all(is_there).then_some(())
        };
        eventually_some(SOON, "the offer and the acknowledgement", has_both)
            .with_context(|| format!("{fast_path}, {alone:?}: {last:#}"))?;
        scene.xpxe.stop()?;
    }
    Ok(())
}

#[test]
fn events_are_followed_as_they_come() -> Result<()> {
    scene(&known(), |scene| {
        let file = scene.place.rack.dir().join("xpxe.toml").display().to_string();
        let mut follow = scene.place.rack.server.command(&binary()?.display().to_string());
        follow.args(["events", "--follow", "--json", "--machine", ALICE.name, "--config", &file]);
        let follow = scene.place.rack.server.spawn(follow)?;
        let alice = scene.machine(ALICE)?;
        // Who follows has to be there before what it is to see.
        eventually(SOON, "an event of alice", || {
            let asked = alice.mac().and_then(|mac| alice.ask(&Client::Edk2Pxe.discover(mac)));
            asked.is_ok() && follow.lines().iter().any(|line| line.text.contains("10.77.0.10"))
        })?;
        let other = scene.machine(nobody(UNKNOWN))?;
        other.ask(&Client::Edk2Pxe.discover(other.mac()?))?;
        alice.lease(Client::Edk2Pxe)?;
        follow.wait_for_line("\"step\":\"ack\"", SOON)?;
        let lines = follow.lines();
        ensure!(lines.iter().all(|line| !line.text.contains(UNKNOWN)), "{lines:?}");
        let offer = lines.iter().find(|line| line.text.contains("\"step\":\"offer\""));
        let first: Value = serde_json::from_str(&offer.context("an offer")?.text)?;
        ensure!(first["mac"] == ALICE.mac && first["name"] == ALICE.name && first["by"] == "xdp", "{first}");
        Ok(())
    })
}

/// With XDP, whose answers no socket hears.
#[test]
fn the_next_boot_of_a_machine_is_recorded_with_its_steps_as_comments() -> Result<()> {
    scene(&known(), |scene| {
        let alice = scene.machine(ALICE)?;
        // The kernel half answers it.
        alice.ask(&Client::Edk2Pxe.discover(alice.mac()?))?;
        let dir = scene.place.rack.dir();
        let (config, file) = (dir.join("xpxe.toml").display().to_string(), dir.join("alice.pcapng"));
        let file = file.display().to_string();
        let mut capture = scene.place.rack.server.command(&binary()?.display().to_string());
        capture.args(["capture", ALICE.name, "--write", &file, "--config", &config]);
        let capture = scene.place.rack.server.spawn(capture)?;
        capture.wait_for_line("recording 02:77:00:00:00:10 on eth0", SOON)?;
        let second = scene.xpxe(&["capture", BOB.name, "--write", "/nowhere"]);
        ensure!(format!("{second:?}").contains("another machine is being recorded"), "{second:?}");
        alice.boot()?;
        capture.wait_for_line("alice (02:77:00:00:00:10): boots", SOON)?;
        ensure!(capture.wait(SOON)?.success());
        // What tcpdump makes of it: each DHCP message, TFTP, HTTP.
        let read = scene.place.rack.server.output("tcpdump", &["-nn", "-v", "-r", &file])?;
        for part in [
            "DHCP-Message (53), length 1: Offer",
            "DHCP-Message (53), length 1: ACK",
            "snponly.efi",
            "GET /ipxe/boot.ipxe",
        ] {
            ensure!(read.contains(part), "{part} is not in\n{read}");
        }
        let bytes = std::fs::read(&file)?;
        let text = String::from_utf8_lossy(&bytes);
        for step in [
            "offered the firmware (efi-x64) 10.77.0.10",
            "fetched snponly.efi by TFTP",
            "fetched its boot script",
        ] {
            ensure!(text.contains(step), "{step} is no comment");
        }
        // It is the kernel half's again.
        let by_xdp = || -> Result<u64> {
            let url = format!("http://{SERVER_ADDRESS}:8080/metrics");
            let page = alice.station.output("curl", &["-sS", &url])?;
            let line = "xpxe_packets_total{hook=\"xdp\",reason=\"offered\"} ";
            Ok(page.lines().find_map(|other| other.strip_prefix(line)?.parse().ok()).unwrap_or(0))
        };
        let before = by_xdp()?;
        eventually(SOON, "an offer of XDP", || {
            let asked = alice.mac().and_then(|mac| alice.ask(&Client::Edk2Pxe.discover(mac)));
            asked.is_ok() && by_xdp().is_ok_and(|offers| offers > before)
        })
    })
}
