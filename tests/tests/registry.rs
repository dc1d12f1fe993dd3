//! Machines of the registry, from the command line to the kernel half, with a real client and the bytes that it sees.

use std::net::UdpSocket;

use anyhow::{Result, ensure};
use boot_tests::daemon::Xpxe;
use boot_tests::dhcp_client::{Client, mac};
use boot_tests::place::{Place, SILENCE, SOON, UNKNOWN, known};
use boot_tests::rack::Station;
use boot_tests::settings::Settings;
use boot_tests::wait::eventually;
use dhcproto::v4::{DhcpOption, OptionCode};
use serde_json::Value;

const NODE: &str = "02:77:00:00:00:e9";
const ADDRESS: &str = "10.77.0.9";

fn place(fast_path: &'static str, dhcp: &'static str) -> Result<Option<Place>> {
    let Some(mut place) = Place::build(&Settings { fast_path, dhcp, ..known() })? else { return Ok(None) };
    let default = "[default]\nprofile = \"guest\"\n";
    let more = "unknown = \"discover\"\n\n[lifecycle]\nwipe = false\n";
    place.config = place.config.replace(default, &format!("{default}{more}"));
    ensure!(place.config.contains("[lifecycle]"));
    Ok(Some(place))
}

/// Runs `xpxe` with the place's configuration.
fn xpxe_says(place: &Place, xpxe: &Xpxe<'_>, words: &[&str]) -> Result<String> {
    let file = place.rack.dir().join("xpxe.toml").display().to_string();
    xpxe.command(&[words, &["--config", &file]].concat())
}

fn state(place: &Place, xpxe: &Xpxe<'_>, which: &str) -> Result<String> {
    let shown = xpxe_says(place, xpxe, &["machines", "show", which, "--json"])?;
    let shown: Value = serde_json::from_str(&shown)?;
    Ok(shown["status"]["state"].as_str().unwrap_or_default().to_owned())
}

fn url(path: &str) -> String {
    format!("http://10.77.0.1:8080/{path}")
}

/// The body and the status of an answer.
fn get(from: &Station, path: &str) -> Result<(String, String)> {
    let answer = from.output("curl", &["-sS", "-w", "\n%{http_code}", &url(path)])?;
    let (body, status) = answer.rsplit_once('\n').unwrap_or_default();
    Ok((body.to_owned(), status.to_owned()))
}

fn dropped(from: &Station, hook: &str) -> Result<u64> {
    let (page, _) = get(from, "metrics")?;
    let label = format!("xpxe_packets_total{{hook=\"{hook}\",reason=\"ignored\"}} ");
    let count = page.lines().find_map(|line| line.strip_prefix(&label));
    Ok(count.and_then(|count| count.parse().ok()).unwrap_or(0))
}

/// Whether TFTP says anything to a machine, and be it that there is no such file.
fn hears_tftp(from: &Station) -> Result<bool> {
    from.run(|| {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.set_read_timeout(Some(SILENCE))?;
        socket.send_to(b"\0\x01nothing\0octet\0", "10.77.0.1:69")?;
        Ok(socket.recv(&mut [0; 64]).is_ok())
    })?
}

#[test]
fn an_ignored_machine_gets_silence_from_every_hook_and_through_a_kill() -> Result<()> {
    for (fast_path, hook) in [("xdp", "xdp"), ("tc", "tc"), ("off", "daemon")] {
        let Some(place) = place(fast_path, "server")? else { return Ok(()) };
        let mut xpxe = place.serve()?;
        let wire = place.client()?;
        let watcher = place.rack.neighbour("watcher", "02:77:00:00:00:e8", "10.77.0.8/24")?;
        let machine = Client::new(mac(UNKNOWN)?);
        let address = wire.lease(&machine)?.address();
        // It asks for its script, so it is taken down, and waits.
        let (script, _) = get(&watcher, &format!("ipxe/boot.ipxe?mac={UNKNOWN}"))?;
        ensure!(script.contains("waiting"), "{script}");
        eventually(SOON, "it is discovered", || {
            xpxe_says(&place, &xpxe, &["machines", "list", "--state", "discovered"])
                .is_ok_and(|listed| listed.contains(UNKNOWN))
        })?;
        let said = xpxe_says(&place, &xpxe, &["machines", "ignore", UNKNOWN])?;
        ensure!(said == format!("{UNKNOWN}: ignored\n"), "{said}");
        let before = dropped(&watcher, hook)?;
        ensure!(wire.ask_within(&machine.discover(), SILENCE)?.is_none(), "{fast_path}: an answer");
        ensure!(wire.lease(&Client::new(mac("02:77:00:00:00:10")?)).is_ok(), "others are served");
        eventually(SOON, "it is counted", || dropped(&watcher, hook).is_ok_and(|count| count > before))?;
        let (said, _) = get(&watcher, &format!("ipxe/boot.ipxe?mac={UNKNOWN}"))?;
        ensure!(!said.contains("kernel"), "{said}");
        // From its own address it gets nothing of any kind.
        let itself = place.rack.neighbour("itself", "02:77:00:00:00:e7", &format!("{address}/24"))?;
        for path in ["boot.ipxe", "ipxe/boot.ipxe", "files/anything"] {
            let (body, status) = get(&itself, path)?;
            ensure!((body.as_str(), status.as_str()) == ("", "404"), "{path}: {status} {body}");
        }
        ensure!(!hears_tftp(&itself)?, "{fast_path}: an answer by TFTP");
        xpxe.kill9()?;
        ensure!(wire.ask_within(&machine.discover(), SILENCE)?.is_none(), "{fast_path}: without the daemon");
        xpxe.restart()?;
        ensure!(state(&place, &xpxe, UNKNOWN)? == "ignored");
        ensure!(wire.ask_within(&machine.discover(), SILENCE)?.is_none(), "{fast_path}: after a restart");
        xpxe_says(&place, &xpxe, &["machines", "accept", UNKNOWN])?;
        ensure!(wire.lease(&machine)?.address() == address, "{fast_path}: it has what it had");
        ensure!(hears_tftp(&itself)?, "{fast_path}: TFTP is silent to everybody");
        xpxe.stop()?;
    }
    Ok(())
}

/// What a machine does, with a kill of the daemon between any two steps.
#[test]
fn a_machine_goes_from_added_to_running_and_back_through_kills() -> Result<()> {
    let Some(place) = place("xdp", "server")? else { return Ok(()) };
    let mut xpxe = place.serve()?;
    let itself = place.rack.neighbour("node", NODE, &format!("{ADDRESS}/24"))?;
    let kernel = place.rack.dir().join("boot").join(boot_tests::guest::KERNEL);
    std::fs::create_dir_all(kernel.parent().unwrap_or(&kernel))?;
    std::fs::write(&kernel, "a kernel")?;
    let add =
        ["machines", "add", "--name", "node9", "--mac", NODE, "--ip", ADDRESS, "--label", "role=worker"];
    let said = xpxe_says(&place, &xpxe, &add)?;
    ensure!(said == "added node9, which is discovered\n", "{said}");
    let own = ["machines", "add", "--name", "own", "--mac", "02:00:00:00:00:01", "--ip", "10.77.0.1"];
    let refused = format!("{:#}", xpxe_says(&place, &xpxe, &own).unwrap_err());
    ensure!(refused.contains("which is this server's own address on eth0"), "{refused}");
    let script = "ipxe/boot.ipxe";
    for (step, expected, says) in [
        ("show", "discovered", "echo xpxe: node9 is discovered"),
        ("accept", "ready", "echo xpxe: node9 is ready"),
        ("maintain", "maintenance", "echo xpxe: node9 is maintenance: maintenance: a new fan"),
        ("resume", "ready", "echo xpxe: node9 is ready"),
        ("allocate", "allocated", "kernel --name kernel"),
        ("kernel", "installing", "kernel --name kernel"),
        ("home", "running", "node9 runs: it boots from its disk"),
        ("reinstall", "allocated", "kernel --name kernel"),
        ("broken", "failed", "echo xpxe: node9 is failed"),
        ("allocate", "allocated", "kernel --name kernel"),
        ("home", "running", "node9 runs: it boots from its disk"),
        ("release", "ready", "echo xpxe: node9 is ready"),
    ] {
        match step {
            "kernel" => {
                let (_, status) = get(&itself, &format!("files/{}", boot_tests::guest::KERNEL))?;
                ensure!(status == "200", "{status}");
            }
            "home" => ensure!(get(&itself, "phone-home")?.0 == "ok\n"),
            "broken" => ensure!(get(&itself, "phone-home?status=failure&text=no%20disk")?.0 == "ok\n"),
            "maintain" => {
                drop(xpxe_says(&place, &xpxe, &["machines", "maintain", "node9", "--reason", "a new fan"])?);
            }
            "show" => {}
            order => drop(xpxe_says(&place, &xpxe, &["machines", order, "-l", "role=worker"])?),
        }
        eventually(SOON, expected, || state(&place, &xpxe, "node9").is_ok_and(|state| state == expected))?;
        xpxe.kill9()?;
        xpxe.restart()?;
        let found = state(&place, &xpxe, NODE)?;
        ensure!(found == expected, "{found} after {step} and a kill");
        let (told, _) = get(&itself, script)?;
        ensure!(told.contains(says), "after {step}: {told}");
    }
    let counted = xpxe_says(&place, &xpxe, &["status"])?;
    ensure!(
        counted.contains("2 machines in the configuration\n") && counted.contains("1 ready\n"),
        "{counted}"
    );
    let shown = xpxe_says(&place, &xpxe, &["machines", "show", "node9"])?;
    ensure!(shown.contains("installing → running by xpxe: it reports that it runs"), "{shown}");
    xpxe_says(&place, &xpxe, &["machines", "delete", "node9"])?;
    let said = xpxe_says(&place, &xpxe, &["machines", "list"])?;
    ensure!(said.contains("alice") && !said.contains("node9"), "{said}");
    xpxe.stop()
}

#[test]
fn a_change_by_the_api_quotes_a_version_and_manifests_come_back() -> Result<()> {
    let Some(place) = place("off", "server")? else { return Ok(()) };
    let xpxe = place.serve()?;
    let list = place.rack.dir().join("machines.csv");
    std::fs::write(
        &list,
        "name,mac,labels\nn1,02:77:00:00:00:31,rack=7\nn2,02:77:00:00:00:32,rack=7;role=worker\n",
    )?;
    let list = list.display().to_string();
    let said = xpxe_says(&place, &xpxe, &["machines", "import", &list, "--dry-run"])?;
    ensure!(said == "would have added 2, changed 0, unchanged 0, refused 0\n", "{said}");
    for says in
        ["added 2, changed 0, unchanged 0, refused 0\n", "added 0, changed 0, unchanged 2, refused 0\n"]
    {
        let said = xpxe_says(&place, &xpxe, &["machines", "import", &list])?;
        ensure!(said == says, "{said}");
    }
    let socket = place.rack.dir().join("state/api.sock").display().to_string();
    let api = |method: &str, path: &str, body: &str| {
        let url = format!("http://xpxe/api/v1/machines{path}");
        let words = ["-sS", "--unix-socket", &socket, "-X", method, "-d", body, "-w", "\n%{http_code}", &url];
        let answer = place.rack.server.output("curl", &words)?;
        let (body, status) = answer.rsplit_once('\n').unwrap_or_default();
        Ok::<_, anyhow::Error>((status.to_owned(), serde_json::from_str::<Value>(body)?))
    };
    let (status, changed) =
        api("PATCH", "/n1", "{\"version\":1,\"spec\":{\"labels\":{\"rack\":null,\"row\":\"b\"}}}")?;
    ensure!(
        status == "200" && changed["version"] == 2 && changed["spec"]["labels"]["rack"].is_null(),
        "{changed}"
    );
    let (status, both) =
        api("PUT", "/n1", "{\"version\":1,\"spec\":{\"name\":\"n1\",\"mac\":[\"02:77:00:00:00:31\"]}}")?;
    ensure!(
        status == "409" && both["current"]["spec"]["labels"]["row"] == "b" && both["yours"]["name"] == "n1",
        "{both}"
    );
    let old = "{\"version\":1,\"spec\":{\"args\":\"x\"}}";
    ensure!(api("PATCH", "/n1", old)?.0 == "409");
    for (method, path, body, expected) in [
        ("GET", "/none", "", "404"),
        ("POST", "", "{\"spec\":{\"name\":\"n3\"}}", "422"),
        ("POST", "", "{\"spec\":{\"nmae\":\"n3\"}}", "400"),
        ("POST", "", "{\"spec\":{\"mac\":[\"02:77:00:00:00:32\"]}}", "409"),
        ("PUT", "/alice", "{\"spec\":{\"mac\":[\"02:77:00:00:00:32\"]}}", "409"),
        ("POST", "/n1/explode", "", "404"),
        ("GET", "?state=happy", "", "400"),
    ] {
        let (status, answer) = api(method, path, body)?;
        ensure!(status == expected && answer["error"].is_string(), "{method} {path}: {status} {answer}");
    }
    let exported = xpxe_says(&place, &xpxe, &["machines", "export", "--format", "csv", "-l", "role=worker"])?;
    ensure!(
        exported
            == "name,mac,uuid,serial,ip,profile,labels,bmc_address,bmc_mac,bmc_driver,bmc_user,address,last_seen,last_boot,\
                last_boot_cause\nn2,02:77:00:00:00:32,,,,,rack=7;role=worker,,,,,,,,\n",
        "{exported}"
    );
    for format in ["json", "csv"] {
        std::fs::write(&list, xpxe_says(&place, &xpxe, &["machines", "export", "--format", format])?)?;
        let said = xpxe_says(&place, &xpxe, &["machines", "import", &list])?;
        let counts = "added 0, changed 0, unchanged 2, refused 0";
        ensure!(
            said == format!("{counts}; 2 machines are the configuration's already\n"),
            "{format}: {said}"
        );
    }
    xpxe.stop()
}

/// A report of the agent changes the script, the arguments and DHCP's answers, also those of the kernel half, at once.
#[test]
fn what_the_agent_reports_decides_what_a_machine_boots() -> Result<()> {
    let group = "[[group]]\nname = \"big\"\nmatch = { memory = \">= 256G\", nics = \"mlx5\" }\nprofile = \"big\"\n\
        options = [{ code = 42, ip = \"10.77.0.42\", always = true }]\n[[profile]]\nname = \"big\"\nkernel = \"big/vmlinuz\"\n\
        args = \"size=big\"\n[[profile]]\nname = \"agent\"\nkernel = \"agent/vmlinuz\"\nargs = \"xpxe.agent={{ agent }}\"\n";
    let Some(mut place) = place("xdp", "server")? else { return Ok(()) };
    place.config = place.config.replace("[lifecycle]\n", "[lifecycle]\ndiscovery = \"agent\"\n") + group;
    let xpxe = place.serve()?;
    let wire = place.client()?;
    let machine = Client::new(mac(NODE)?);
    xpxe_says(&place, &xpxe, &["machines", "add", "--name", "node9", "--mac", NODE, "--ip", ADDRESS])?;
    let time_server =
        || Ok::<_, anyhow::Error>(wire.lease(&machine)?.message.opts().get(OptionCode::NtpServers).cloned());
    ensure!(time_server()?.is_none(), "before its report");
    let explained = xpxe_says(&place, &xpxe, &["explain", "node9"])?;
    let says = |said: &str, words: &[&str]| {
        said.lines()
            .any(|line| line.split_whitespace().collect::<Vec<_>>().join(" ").starts_with(&words.join(" ")))
    };
    ensure!(
        says(&explained, &["in group big, perhaps memory >= 256G, nics mlx5: the agent has"]),
        "{explained}"
    );
    let itself = place.rack.neighbour("node", NODE, &format!("{ADDRESS}/24"))?;
    let (script, _) = get(&itself, "ipxe/boot.ipxe")?;
    let agent = script.split("xpxe.agent=").nth(1).and_then(|rest| rest.split_whitespace().next());
    let Some(agent) = agent else { anyhow::bail!("no agent in {script}") };
    let report = |memory: u64| {
        let body = format!("{{\"schema\":1,\"memory\":{memory},\"nics\":[{{\"driver\":\"mlx5_core\"}}]}}");
        itself.output("curl", &["-sS", "-d", &body, &format!("{agent}inventory")])
    };
    ensure!(report(64 << 30)? == "ok\n");
    ensure!(time_server()?.is_none(), "too little memory");
    ensure!(report(256 << 30)? == "ok\n");
    let expected = Some(DhcpOption::NtpServers(vec![[10, 77, 0, 42].into()]));
    ensure!(time_server()? == expected, "the answers follow");
    eventually(SOON, "the kernel half answers so, too", || {
        let before = answered(&itself);
        time_server().is_ok_and(|found| found == expected) && answered(&itself) > before
    })?;
    for order in ["accept", "allocate"] {
        xpxe_says(&place, &xpxe, &["machines", order, "node9"])?;
    }
    let (script, _) = get(&itself, "ipxe/boot.ipxe")?;
    ensure!(script.contains("big/vmlinuz") && script.contains("size=big"), "{script}");
    let explained = xpxe_says(&place, &xpxe, &["explain", "node9"])?;
    ensure!(says(&explained, &["in group big, by its inventory: memory >= 256G, nics mlx5"]), "{explained}");
    ensure!(says(&explained, &["script boots profile big"]), "{explained}");
    xpxe.stop()
}

/// A board that reports the serial number of another machine: the event, the verdict and what happens meanwhile.
#[test]
fn a_swapped_board_is_told_with_both_parties_and_waits() -> Result<()> {
    const NEW: &str = "02:77:00:00:00:e6";
    let Some(mut place) = place("xdp", "server")? else { return Ok(()) };
    let more =
        "[[profile]]\nname = \"agent\"\nkernel = \"agent/vmlinuz\"\nargs = \"xpxe.agent={{ agent }}\"\n";
    let lifecycle = "[lifecycle]\ndiscovery = \"agent\"\n";
    place.config = place.config.replace("[lifecycle]\n", lifecycle) + more;
    let xpxe = place.serve()?;
    xpxe_says(&place, &xpxe, &["machines", "add", "--name", "node9", "--mac", NODE, "--ip", ADDRESS])?;
    let report = |from: &Station, card: &str| {
        let (script, _) = get(from, "ipxe/boot.ipxe")?;
        let agent = script.split("xpxe.agent=").nth(1).and_then(|rest| rest.split_whitespace().next());
        let Some(agent) = agent else { anyhow::bail!("no agent in {script}") };
        let body =
            format!("{{\"schema\":1,\"system\":{{\"serial\":\"CZ12\"}},\"nics\":[{{\"mac\":\"{card}\"}}]}}");
        let said = from.output("curl", &["-sS", "-d", &body, &format!("{agent}inventory")])?;
        ensure!(said == "ok\n", "{said}");
        Ok(())
    };
    let old = place.rack.neighbour("old", NODE, &format!("{ADDRESS}/24"))?;
    report(&old, NODE)?;
    let wire = place.client()?;
    let address = wire.lease(&Client::new(mac(NEW)?))?.address();
    let new = place.rack.neighbour("new", NEW, &format!("{address}/24"))?;
    get(&new, "ipxe/boot.ipxe")?;
    eventually(SOON, "it is discovered", || {
        state(&place, &xpxe, NEW).is_ok_and(|state| state == "discovered")
    })?;
    report(&new, NEW)?;
    let told = xpxe.wait_for_event("the conflict", SOON, |event| event.field("step") == "conflict")?;
    ensure!(told.field("mac") == NEW, "{}", told.message());
    for says in ["the serial number CZ12, as node9 has done", "No rule accepts it"] {
        ensure!(told.message().contains(says), "{}", told.message());
    }
    // Boots are made of events a tenth of a second later.
    eventually(SOON, "why names the other one", || {
        let said = xpxe_says(&place, &xpxe, &["why", NEW]);
        said.unwrap_or_else(|error| format!("{error:#}")).contains("node9")
    })?;
    ensure!(state(&place, &xpxe, "node9")? == "discovered" && state(&place, &xpxe, NEW)? == "discovered");
    xpxe.stop()
}

/// Offers and acknowledgements of XDP.
fn answered(from: &Station) -> u64 {
    let Ok((page, _)) = get(from, "metrics") else { return 0 };
    let of_xdp = page.lines().filter(|line| line.starts_with("xpxe_packets_total{hook=\"xdp\""));
    let answers = of_xdp.filter(|line| line.contains("\"offered\"") || line.contains("\"acked\""));
    answers.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

/// Nothing of this is noticed where there is no registry.
#[test]
fn a_plain_server_has_an_empty_registry_and_serves_as_ever() -> Result<()> {
    let Some(place) = Place::build(&known())? else { return Ok(()) };
    let xpxe = place.serve()?;
    let wire = place.client()?;
    wire.lease(&Client::new(mac(UNKNOWN)?))?;
    let listed = xpxe_says(&place, &xpxe, &["machines", "list", "--json"])?;
    let listed: Value = serde_json::from_str(&listed)?;
    let sources: Vec<&str> =
        listed.as_array().into_iter().flatten().filter_map(|machine| machine["source"].as_str()).collect();
    ensure!(sources == ["configuration", "configuration"], "{listed}");
    xpxe.stop()
}
