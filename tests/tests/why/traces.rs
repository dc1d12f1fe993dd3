//! Boots as traces: OTLP's own library reads each request, and its spans are what happened.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use boot_tests::netns::Process;
use boot_tests::packet::Client;
use boot_tests::place::{ALICE, BOB, SOON, known};
use boot_tests::rack::{SERVER_ADDRESS, Station};
use boot_tests::wait::{eventually, eventually_some};
use serde_json::Value;

use super::scene::*;

const COLLECTOR: &str = "10.77.0.50";
const STARTS: Duration = Duration::from_secs(20);

fn collector(station: &Station) -> Result<Process> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut python = station.command("python3");
    python.arg(root.join("tests/why/collector.py")).arg(COLLECTOR);
    python.env("PYTHONPATH", root.join("../target/readers/otlp"));
    let process = station.spawn(python)?;
    station.wait_for_listener(4318, STARTS).with_context(|| format!("{:?}", process.lines()))?;
    Ok(process)
}

/// The spans of the boot of this machine, once they have come; the root first.
fn trace(collector: &Process, mac: &str) -> Option<Vec<Value>> {
    let lines = collector.lines();
    let spans =
        lines.iter().filter_map(|line| serde_json::from_str::<Value>(line.text.strip_prefix("SPAN ")?).ok());
    let spans: Vec<Value> = spans.collect();
    let root = spans.iter().find(|span| span["attributes"]["boot.mac"] == mac)?.clone();
    Some(spans.into_iter().filter(|span| span["traceId"] == root["traceId"]).collect())
}

fn figure(station: &Station, end: &str) -> Option<u64> {
    let page = station.output("curl", &["-sS", &format!("http://{SERVER_ADDRESS}:8080/metrics")]).ok()?;
    let name = format!("xpxe_traces_total{{end=\"{end}\"}} ");
    page.lines().find_map(|line| line.strip_prefix(&name)?.parse().ok())
}

#[test]
fn a_boot_is_one_trace_with_a_span_for_each_stage() -> Result<()> {
    let traces = |config: String| format!("{config}\n[traces]\notlp = \"http://{COLLECTOR}:4318\"\n");
    scene_with(&known(), traces, |scene| {
        let station =
            scene.place.rack.neighbour("collector", "02:77:00:00:00:50", &format!("{COLLECTOR}/24"))?;
        // It says at first that it is busy.
        let collector = collector(&station)?;
        let alice = scene.machine(ALICE)?;
        scene.put("snponly.efi", 100_000)?;
        scene.put("guest/vmlinuz", 200_000)?;
        scene.put("guest/initrd.img", 100_000)?;
        // A true machine is slower than what is told of the kernel half a moment later.
        let step = |says: &str| {
            let steps = || scene.xpxe(&["boots", "show", ALICE.mac]).unwrap_or_default();
            eventually(SOON, says, || steps().contains(says)).with_context(steps)
        };
        alice.load()?;
        step("fetched snponly.efi")?;
        alice.lease(Client::IpxeEfi)?;
        step("gave iPXE")?;
        alice.script()?;
        alice.http("/files/guest/vmlinuz")?;
        alice.http("/files/guest/initrd.img")?;
        alice.lease(Client::Udhcpc)?;
        step("gave the operating system")?;
        alice.http(&format!("/phone-home?mac={}&status=success", ALICE.mac))?;
        let got = eventually_some(SOON, "the trace of a boot", || trace(&collector, ALICE.mac));
        let spans = got.with_context(|| format!("{:?}\n{}", collector.lines(), scene.xpxe.last_lines(9)))?;
        let names: Vec<&str> = spans.iter().filter_map(|span| span["name"].as_str()).collect();
        let expected =
            ["boot", "address", "loader", "ipxe", "script", "kernel", "system", "TFTP snponly.efi"];
        for name in expected {
            ensure!(names.contains(&name), "no {name} in {names:?}");
        }
        ensure!(names.iter().any(|name| name.starts_with("HTTP ") && name.ends_with("vmlinuz")), "{names:?}");
        let root = &spans[0];
        let has = |key: &str, value: &str| root["attributes"][key] == value;
        ensure!(root["status"]["code"] == "STATUS_CODE_OK", "{root:#}");
        ensure!(
            has("boot.machine", ALICE.name)
                && has("boot.firmware", "efi-x64")
                && has("boot.subnet", "10.77.0.0/24"),
            "{root:#}"
        );
        ensure!(root["attributes"].get("boot.relay").is_none(), "there is no relay: {root:#}");
        let stages = spans.iter().filter(|span| span["parentSpanId"] == root["spanId"]).count();
        ensure!(stages >= 6, "{spans:#?}");
        let kernel = spans.iter().find(|span| span["name"] == "kernel").context("the kernel's stage")?;
        let below = spans.iter().filter(|span| span["parentSpanId"] == kernel["spanId"]).count();
        ensure!(below == 2, "kernel and initrd: {spans:#?}");

        // One whose kernel is not there has the cause; it is over when the machine begins anew.
        std::fs::remove_file(boot_tests::settings::boot_dir(&scene.place.rack).join("guest/vmlinuz"))?;
        let bob = scene.machine(BOB)?;
        bob.load_script()?;
        ensure!(bob.http("/files/guest/vmlinuz").is_err(), "there is no such file");
        bob.must_be("kernel-missing")?;
        bob.ask(&Client::Edk2Pxe.discover(bob.mac()?))?;
        let spans = eventually_some(SOON, "the trace of a boot that failed", || trace(&collector, BOB.mac))?;
        let (root, stopped) = (&spans[0], spans.iter().find(|span| span["name"] == "stopped"));
        ensure!(root["status"]["code"] == "STATUS_CODE_ERROR", "{root:#}");
        ensure!(root["attributes"]["boot.cause"] == "kernel-missing", "{root:#}");
        ensure!(stopped.is_some_and(|span| span["status"]["code"] == "STATUS_CODE_ERROR"), "{spans:#?}");
        let wrong: Vec<_> =
            collector.lines().into_iter().filter(|line| line.text.starts_with("WRONG")).collect();
        ensure!(wrong.is_empty() && figure(&station, "sent") == Some(2), "{wrong:?}");

        // Without a collector machines boot as before, and it is counted and told once.
        collector.kill()?;
        bob.http(&format!("/phone-home?mac={}&status=success", BOB.mac))?;
        alice.ask(&Client::Edk2Pxe.discover(alice.mac()?))?;
        eventually(SOON, "the figure of failures", || {
            figure(&station, "failed").is_some_and(|count| count > 0)
        })?;
        let says = |line: &&boot_tests::daemon::Event| line.message().contains("collector of traces");
        let told = || scene.xpxe.log().iter().filter(says).count();
        eventually(SOON, "a line of the log", || told() > 0)?;
        ensure!(told() == 1, "{}", scene.xpxe.last_lines(20));
        Ok(())
    })
}
