//! What is not in the network: machines that the configuration or the registry lets boot nothing, or something else.

use anyhow::{Context as _, Result, ensure};
use boot_tests::place::{ALICE, OTHER_UNKNOWN, SOON, UNKNOWN, known};
use boot_tests::rack::SERVER_ADDRESS;
use boot_tests::settings::Settings;
use boot_tests::wait::eventually;
use serde_json::Value;

use super::scene::*;

const AGENT: &str = r#"
[bmc]
driver = "command"
command = ["/bin/sh", "-c", "[ $XPXE_ACTION != status ] || echo off"]
interval = "1s"
poll = "1s"

[[profile]]
name = "agent"
kernel = "guest/vmlinuz"
initrd = ["guest/initrd.img"]
args = "xpxe.agent={{ agent }}"

"#;

const INVENTORY: &str = r#"{"schema": 1, "memory": 1073741824,
    "system": {"vendor": "Example", "product": "R77", "firmware": "2.1.3", "boot": "uefi"},
    "nics": [{"name": "eth0", "mac": "MAC", "link": true,
        "lldp": {"chassis": "02:77:00:00:10:01", "port": "PORT", "name": "leaf7"}}]}"#;

/// The registry takes down whoever asks.
fn registry(config: String, lifecycle: &str) -> String {
    config.replace("[default]\n", "[default]\nunknown = \"discover\"\n") + "\n[lifecycle]\n" + lifecycle
}

#[test]
fn a_machine_of_the_registry_is_told_what_it_waits_for_and_when_it_is_stuck() -> Result<()> {
    let limited = |config| registry(config, "wipe = false\nlimits = { allocated = \"1s\" }\n");
    scene_with(&known(), limited, |scene| {
        let machine = scene.machine(nobody(UNKNOWN))?;
        machine.load_script()?;
        let evidence = machine.must_say("not-accepted", "fetched its boot script")?;
        ensure!(evidence.contains("discovered"), "{evidence}");
        scene.xpxe(&["machines", "accept", UNKNOWN])?;
        machine.script()?;
        let evidence = machine.must_be("not-allocated")?;
        ensure!(evidence.contains("ready since then"), "{evidence}");
        let explained = scene.xpxe(&["explain", UNKNOWN])?;
        ensure!(explained.contains("state") && explained.contains("ready since"), "{explained}");
        scene.xpxe(&["machines", "allocate", UNKNOWN])?;
        machine.script()?;
        let evidence = machine.must_be("stuck-in-state")?;
        ensure!(
            evidence.contains("allocated") && evidence.contains("until it fetches its kernel"),
            "{evidence}"
        );
        scene.xpxe(&["machines", "ignore", UNKNOWN])?;
        machine.must_be("ignored").map(drop)
    })
}

/// Its profile is gone.
#[test]
fn a_machine_whose_record_does_not_fit_the_configuration_waits() -> Result<()> {
    let profile = "\n[[profile]]\nname = \"database\"\nkernel = \"guest/vmlinuz\"\n";
    let with_profile = |config| registry(config, "wipe = false\n") + profile;
    scene_with(&known(), with_profile, |scene| {
        let machine = scene.machine(nobody(UNKNOWN))?;
        scene.xpxe(&["machines", "add", "--name", "db1", "--mac", UNKNOWN, "--profile", "database"])?;
        scene.xpxe.write_config(&scene.place.config.replace(profile, ""))?;
        let said = scene.xpxe(&["reload"])?;
        ensure!(said.contains("not served any more: db1: "), "{said}");
        let words = ["-sS", "--max-time", "5", "http://127.0.0.1:8080/readyz"];
        let ready = scene.place.rack.server.output("curl", &words)?;
        ensure!(ready.contains("1 machines of the registry are not served"), "{ready}");
        machine.load_script()?;
        let evidence = machine.must_say("not-served", "fetched its boot script")?;
        ensure!(evidence.contains("database"), "{evidence}");
        Ok(())
    })
}

/// The whole life of a machine without an agent.
#[test]
fn a_machine_without_an_agent_and_each_state_that_boots_nothing() -> Result<()> {
    scene_with(
        &known(),
        |config| registry(config, ""),
        |scene| {
            let machine = scene.machine(nobody(UNKNOWN))?;
            machine.load_script()?;
            machine.must_be("not-accepted")?;
            let state = |order: &str, cause: &str, says: &str| -> Result<()> {
                scene.xpxe(&["machines", order, UNKNOWN])?;
                machine.script()?;
                machine.must_say(cause, says).map(drop)
            };
            state("accept", "no-agent", "accepted since then")?;
            state("maintain", "in-maintenance", "maintenance since then")?;
            scene.xpxe(&["machines", "resume", UNKNOWN])?;
            Ok(())
        },
    )?;
    scene_with(
        &known(),
        |config| registry(config, "wipe = false\n"),
        |scene| {
            let machine = scene.machine(nobody(UNKNOWN))?;
            machine.put_kernel()?;
            machine.load_script()?;
            machine.must_be("not-accepted")?;
            for order in ["accept", "allocate"] {
                scene.xpxe(&["machines", order, UNKNOWN])?;
            }
            machine.script()?;
            machine.fetch_kernel()?;
            machine.http("/phone-home?status=failure&text=no%20disk")?;
            machine.must_be("reported-failure")?;
            machine.load_script()?;
            let evidence = machine.must_be("failed-before")?;
            ensure!(evidence.contains("no disk"), "{evidence}");
            scene.xpxe(&["machines", "allocate", UNKNOWN])?;
            machine.script()?;
            machine.fetch_kernel()?;
            machine.http("/phone-home")?;
            machine.load_script().ok();
            let evidence = machine.must_be("from-disk")?;
            ensure!(evidence.contains("running since then"), "{evidence}");
            Ok(())
        },
    )
}

/// Three machines that do not boot the usual profile.
#[test]
fn a_machine_without_a_profile_one_whose_script_fails_and_a_kernel_elsewhere() -> Result<()> {
    let more = format!(
        "[[profile]]\nname = \"elsewhere\"\nkernel = \"http://10.77.0.250/vmlinuz\"\n\
         [[profile]]\nname = \"broken\"\nkernel = \"guest/vmlinuz\"\n\
         args = \"{{% if machine.mac == '{OTHER_UNKNOWN}' %}}{{{{ machine.mac // 2 }}}}{{% endif %}}\"\n\
         [[machine]]\nmac = \"{UNKNOWN}\"\nprofile = \"elsewhere\"\n\
         [[machine]]\nmac = \"{OTHER_UNKNOWN}\"\nprofile = \"broken\"\n"
    );
    let no_default = |config: String| config.replace("[default]\nprofile = \"guest\"\n", "");
    scene_with(&Settings { more, ..known() }, no_default, |scene| {
        let (elsewhere, broken) = (scene.machine(nobody(UNKNOWN))?, scene.machine(nobody(OTHER_UNKNOWN))?);
        elsewhere.load_script()?;
        ensure!(broken.load_script().is_err(), "a MAC cannot be halved");
        let alice = scene.machine(ALICE)?;
        alice.load_script()?;
        (0..2).try_for_each(|_| alice.script().map(drop))?;
        let evidence = alice.must_be("waiting")?;
        ensure!(evidence.contains("3 times"), "{evidence}");
        let evidence = broken.must_be("no-script")?;
        ensure!(evidence.contains("cannot be written"), "{evidence}");
        let evidence = elsewhere.must_be("out-of-sight")?;
        ensure!(evidence.contains("http://10.77.0.250/vmlinuz"), "{evidence}");
        Ok(())
    })
}

/// A program takes the place of a BMC, and this test that of the agent.
#[test]
fn what_is_done_with_a_machine_is_beside_its_boot() -> Result<()> {
    let agent = |config: String| {
        let config = config.replace("[[interface]]", &(AGENT.to_owned() + "[[interface]]"));
        registry(config, "agent = \"agent\"\n")
    };
    scene_with(&known(), agent, |scene| {
        let mut last = String::new();
        for (name, mac) in [("carol", UNKNOWN), ("dave", OTHER_UNKNOWN)] {
            scene.xpxe(&["machines", "add", "--name", name, "--mac", mac, "--bmc-driver", "command"])?;
            scene.xpxe(&["machines", "accept", name])?;
            // It is switched on for its agent, and asks for an address then.
            scene.xpxe.wait_for_event("the command", SOON, |event| {
                event.field("step") == "power" && event.field("mac") == mac
            })?;
            let machine = scene.machine(nobody(mac))?;
            machine.must_say("never-asked", "its BMC was told: on (by xpxe)")?;
            machine.put_kernel()?;
            machine.load_script()?;
            let url = format!("http://{SERVER_ADDRESS}:8080/ipxe/boot.ipxe?mac={mac}");
            let script = machine.station.output("curl", &["-sSf", &url])?;
            let url = script.split("xpxe.agent=").nth(1).and_then(|rest| rest.split_whitespace().next());
            let url = url.with_context(|| script.clone())?;
            let post = |path: &str, body: &str| {
                let json =
                    if body.starts_with('{') { "Content-Type: application/json" } else { "Accept: */*" };
                machine.station.output("curl", &["-sSf", "-H", json, "-d", body, &format!("{url}{path}")])
            };
            post("inventory", &INVENTORY.replace("MAC", mac).replace("PORT", name))?;
            for done in ["30", "40"] {
                post("progress", &format!("{{\"text\":\"wiping\",\"done\":{done},\"of\":100}}"))?;
            }
            post("report", "task=wipe&status=success")?;
            let all = [
                "its BMC was told: on (by xpxe)",
                "its agent: wiping 40 %",
                "became ready",
                "reported success",
            ];
            let shown = eventually(SOON, "each of these", || {
                last = scene.xpxe(&["boots", "show", name]).unwrap_or_default();
                all.iter().all(|step| last.contains(step))
            });
            shown.with_context(|| last.clone())?;
        }
        ensure!(!last.contains("wiping 30 %"), "the latest share only: {last}");
        let told = last.lines().find(|line| line.contains("BMC was told: on")).unwrap_or_default();
        ensure!(told.trim_start().starts_with('-'), "before its first word: {told}");
        // Both have the same firmware, and are at the same switch; the subnet's router relays nothing.
        let groups: Value = serde_json::from_str(&scene.xpxe(&["why", "--all", "--json"])?)?;
        let mut groups = groups.as_array().into_iter().flatten();
        let group =
            groups.find(|group| group["machines"].to_string().contains("carol")).context("a group")?;
        let shared = |kind: &str| -> Vec<&str> {
            let all = group["shared"].as_array().into_iter().flatten();
            all.filter(|share| share["kind"] == kind).filter_map(|share| share["value"].as_str()).collect()
        };
        ensure!(shared("firmware version") == ["2.1.3"], "{group:#}");
        ensure!(shared("switch") == ["leaf7"] && shared("relay").is_empty(), "{group:#}");
        Ok(())
    })
}
