//! What was seen of machines, and machines that a manifest has by their serial numbers: from the wire to the command line.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use boot_tests::agent::check_schema;
use boot_tests::daemon::Xpxe;
use boot_tests::dhcp_client::{Client, mac};
use boot_tests::place::{Place, SOON, known};
use boot_tests::rack::Station;
use boot_tests::settings::Settings;
use boot_tests::wait::eventually;
use serde_json::Value;

const NODE: &str = "02:77:00:00:00:e9";
const OTHER: &str = "02:77:00:00:00:e6";

fn place(more: &str) -> Result<Option<Place>> {
    let Some(mut place) = Place::build(&Settings { fast_path: "off", ..known() })? else { return Ok(None) };
    let default = "[default]\nprofile = \"guest\"\n";
    let lifecycle = format!("unknown = \"discover\"\n\n[lifecycle]\nwipe = false\n{more}");
    place.config = place.config.replace(default, &format!("{default}{lifecycle}"));
    ensure!(place.config.contains("[lifecycle]"));
    Ok(Some(place))
}

/// Runs `xpxe` with the place's configuration.
fn xpxe_says(place: &Place, xpxe: &Xpxe<'_>, words: &[&str]) -> Result<String> {
    let file = place.rack.dir().join("xpxe.toml").display().to_string();
    xpxe.command(&[words, &["--config", &file]].concat())
}

fn show(place: &Place, xpxe: &Xpxe<'_>, which: &str) -> Result<Value> {
    Ok(serde_json::from_str(&xpxe_says(place, xpxe, &["machines", "show", which, "--json"])?)?)
}

fn get(from: &Station, path: &str) -> Result<String> {
    from.output("curl", &["-sS", &format!("http://10.77.0.1:8080/{path}")])
}

/// The API on its socket.
fn api(place: &Place, path: &str) -> Result<Value> {
    let socket = place.rack.dir().join("state/api.sock").display().to_string();
    let url = format!("http://xpxe/api/v1/{path}");
    let answer = place.rack.server.output("curl", &["-sS", "--unix-socket", &socket, &url])?;
    serde_json::from_str(&answer).with_context(|| answer)
}

#[test]
fn a_machine_says_when_it_was_seen_last_where_it_is_and_how_its_last_boot_went() -> Result<()> {
    let Some(place) = place("")? else { return Ok(()) };
    let mut xpxe = place.serve()?;
    for (name, card) in [("node9", NODE), ("shelf", OTHER)] {
        xpxe_says(&place, &xpxe, &["machines", "add", "--name", name, "--mac", card])?;
    }
    let never = |xpxe: &Xpxe<'_>| -> Result<Vec<String>> {
        let listed = xpxe_says(&place, xpxe, &["machines", "list", "--never-seen"])?;
        let names = listed.lines().skip(1).filter_map(|line| line.split_whitespace().next());
        Ok(names.map(str::to_owned).collect())
    };
    ensure!(never(&xpxe)? == ["alice", "bob", "node9", "shelf"], "{:?}", never(&xpxe)?);
    let wire = place.client()?;
    // UEFI, then its operating system, whose request is the last sign of it.
    let address = wire.lease(&Client::firmware(mac(NODE)?, 7))?.address();
    let itself = place.rack.neighbour("node", NODE, &format!("{address}/24"))?;
    get(&itself, &format!("ipxe/boot.ipxe?mac={NODE}"))?;
    // Boots are made of events a tenth of a second later.
    let is_seen = |xpxe: &Xpxe<'_>| {
        show(&place, xpxe, "node9").is_ok_and(|shown| shown["seen"]["boot"]["progress"] == "script")
    };
    eventually(SOON, "its boot is known", || is_seen(&xpxe))?;
    for time in ["now", "after a restart"] {
        let shown = show(&place, &xpxe, "node9")?;
        let seen = &shown["seen"];
        ensure!(seen["address"] == address.to_string().as_str(), "{time}: {seen}");
        ensure!(seen["last_seen"].as_u64() >= seen["boot"]["began"].as_u64(), "{time}: {seen}");
        ensure!(seen["boot"]["firmware"] == "efi-x64" && seen["boot"]["mac"] == NODE, "{time}: {seen}");
        ensure!(seen["boot"]["cause"].is_string() && seen["boot"]["says"].is_string(), "{time}: {seen}");
        ensure!(never(&xpxe)? == ["alice", "bob", "shelf"], "{time}: {:?}", never(&xpxe)?);
        let last_seen = seen["last_seen_at"].as_str().unwrap_or_default();
        let listed = xpxe_says(&place, &xpxe, &["machines", "list"])?;
        let of = |name: &str| listed.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        ensure!(of("node9").contains(&format!("{last_seen}  {address} ")), "{time}: {listed}");
        ensure!(of("shelf").contains("  never  "), "{time}: {listed}");
        let people = xpxe_says(&place, &xpxe, &["machines", "show", "node9"])?;
        ensure!(people.contains("last boot ") && people.contains("efi-x64"), "{time}: {people}");
        let status = xpxe_says(&place, &xpxe, &["status"])?;
        ensure!(status.contains("3 never seen"), "{time}: {status}");
        let ansible = xpxe_says(&place, &xpxe, &["machines", "export", "--format", "ansible"])?;
        let ansible: Value = serde_json::from_str(&ansible)?;
        ensure!(ansible["_meta"]["hostvars"]["node9"]["ansible_host"] == address.to_string().as_str());
        if time == "now" {
            xpxe.stop()?;
            xpxe.start_again()?;
            xpxe.wait_until_ready()?;
        }
    }
    xpxe.stop()
}

#[test]
fn a_machine_of_a_manifest_is_met_by_its_serial_number_and_is_one_record() -> Result<()> {
    let Some(mut place) = place("discovery = \"agent\"\n")? else { return Ok(()) };
    place.config +=
        "[[profile]]\nname = \"agent\"\nkernel = \"agent/vmlinuz\"\nargs = \"xpxe.agent={{ agent }}\"\n";
    let xpxe = place.serve()?;
    let wire = place.client()?;
    let lease = |card: &str| -> Result<Station> {
        let address = wire.lease(&Client::firmware(mac(card)?, 7))?.address();
        place.rack.neighbour(&format!("n{}", &card[15..]), card, &format!("{address}/24"))
    };
    let (first, second) = (lease(NODE)?, lease(OTHER)?);
    eventually(SOON, "both are discovered", || {
        [NODE, OTHER].iter().all(|card| show(&place, &xpxe, card).is_ok())
    })?;
    let list = place.rack.dir().join("rack7.toml");
    let rows = [("node9", "CZ12"), ("node10", "CZ13")];
    let row = |(name, serial)| format!("[[machine]]\nname = \"{name}\"\nserial = \"{serial}\"\n");
    fs::write(&list, rows.map(row).concat() + "labels = { rack = \"7\" }\n")?;
    let said = xpxe_says(&place, &xpxe, &["machines", "import", &list.display().to_string()])?;
    ensure!(said == "added 2, changed 0, unchanged 0, refused 0\n", "{said}");
    // One says it with its script's URL, as iPXE does.
    get(&first, &format!("ipxe/boot.ipxe?mac={NODE}&serial=cz12"))?;
    let told = xpxe.wait_for_event("it is met", SOON, |event| event.field("serial") == "CZ12")?;
    ensure!(told.field("name") == "node9" && told.message().contains(NODE), "{}", told.message());
    // The other one by its agent.
    let script = get(&second, &format!("ipxe/boot.ipxe?mac={OTHER}"))?;
    let agent = script.split("xpxe.agent=").nth(1).and_then(|rest| rest.split_whitespace().next());
    let agent = agent.with_context(|| format!("no agent in {script}"))?;
    let body = format!(
        "{{\"schema\":1,\"memory\":64,\"system\":{{\"serial\":\"CZ13\"}},\"nics\":[{{\"mac\":\"{OTHER}\"}}]}}"
    );
    let said = second.output("curl", &["-sS", "-d", &body, &format!("{agent}inventory")])?;
    ensure!(said == "ok\n", "{said}");
    for (name, card) in [("node9", NODE), ("node10", OTHER)] {
        let shown = show(&place, &xpxe, name)?;
        ensure!(shown["spec"]["mac"] == serde_json::json!([card]), "{shown}");
        ensure!(show(&place, &xpxe, card)?["id"] == shown["id"], "{name} is one record");
    }
    ensure!(show(&place, &xpxe, OTHER)?["spec"]["labels"]["rack"] == "7");
    let task = second.output("curl", &["-sS", &format!("{agent}task")])?;
    ensure!(task.contains("\"do\":\"wait\""), "its agent goes on: {task}");
    // What it has reported is as the schema says.
    let schema = api(&place, "schemas/inventory.json")?;
    let inventory = &show(&place, &xpxe, "node10")?["inventory"];
    check_schema(&schema, inventory)?;
    let mut wrong = inventory.clone();
    wrong["nics"][0]["speed"] = "fast".into();
    let said = check_schema(&schema, &wrong).err().map(|error| error.to_string()).unwrap_or_default();
    ensure!(said.contains("nics[0].speed"), "{said}");
    xpxe.stop()
}
