//! Machines for people.

use boot_agent_protocol::Inventory;

use crate::cli::table::{self, Table};
use crate::http::admin::rfc3339;
use crate::http::boots::LastBoot;
use crate::http::machines::{Counted, Last, Machine, Status};
use boot_engine::events::shown;

/// How a machine is called.
pub(super) fn called(machine: &Machine) -> String {
    let named = super::names::called(&machine.spec);
    if named.is_empty() { format!("machine {}", machine.id.unwrap_or(0)) } else { named }
}

/// The state of a machine.
pub(super) fn state(machine: &Machine) -> String {
    let Some(status) = &machine.status else { return "configured".to_owned() };
    let overdue = if status.overdue { " (overdue)" } else { "" };
    let shadowed = if status.not_served.is_some() { " (not served)" } else { "" };
    format!("{}{overdue}{shadowed}", status.state)
}

/// Since when a machine is in its state; a record that cannot be read may not say it.
fn since(status: &Status) -> Option<String> {
    (status.since != 0).then(|| status.since_at.clone())
}

/// When a machine was seen last.
fn last_seen(machine: &Machine) -> Option<String> {
    let seen = machine.seen.as_ref()?;
    if seen.never { Some("never".to_owned()) } else { seen.last_seen_at.clone() }
}

/// The address that a machine has, or else the one that is reserved for it.
pub(super) fn address(machine: &Machine) -> Option<String> {
    let seen = machine.seen.as_ref().and_then(|seen| seen.address.clone());
    seen.or_else(|| machine.spec.ip.clone())
}

/// The widest column.
const WIDEST: usize = 60;

/// What fits into a column.
fn cut(cell: String) -> String {
    match cell.char_indices().nth(WIDEST) {
        Some((end, _)) => format!("{}…", cell.get(..end).unwrap_or_default()),
        None => cell,
    }
}

/// The columns of a list.
pub(super) const HEAD: [&str; 8] =
    ["NAME", "STATE", "SINCE", "LAST SEEN", "ADDRESS", "MAC", "PROFILE", "LABELS"];

/// One line of a list.
pub(super) fn row(machine: &Machine) -> [String; 8] {
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let labels: Vec<String> =
        machine.spec.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    [
        called(machine),
        state(machine),
        or_none(machine.status.as_ref().and_then(since)),
        or_none(last_seen(machine)),
        or_none(address(machine)),
        or_none(machine.spec.mac.first().cloned()),
        or_none(machine.spec.profile.clone()),
        labels.join(","),
    ]
    .map(|cell| cut(shown(&cell)))
}

/// One line for each machine.
pub(super) fn list(machines: &[Machine]) -> Table<8> {
    table::print(HEAD, machines.iter().map(row))
}

/// Everything of one machine.
pub(super) fn whole(machine: &Machine) {
    let Machine { source, version, spec, status, inventory, .. } = machine;
    println!("{}", called(machine));
    let line = |what: &str, value: &str| {
        if !value.is_empty() {
            println!("  {what:<10} {}", shown(value));
        }
    };
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    line("source", source);
    line("version", &version.map(|version| version.to_string()).unwrap_or_default());
    line("mac", &spec.mac.join(", "));
    line("uuid", &text(&spec.uuid));
    line("serial", &text(&spec.serial));
    line("ip", &text(&spec.ip));
    line("profile", &text(&spec.profile));
    line("args", &spec.args);
    for (key, value) in &spec.labels {
        line("label", &format!("{key} = {value}"));
    }
    if let Some(bmc) = &spec.bmc {
        let driver = bmc.driver.as_deref().unwrap_or("as in [bmc]");
        let place =
            [bmc.address.as_deref(), bmc.mac.as_deref()].into_iter().flatten().collect::<Vec<_>>().join(", ");
        let user = bmc.user.as_ref().map(|user| format!(", user {user}")).unwrap_or_default();
        let password = status.as_ref().is_some_and(|status| status.has_bmc_password);
        let password = if password { ", its own password" } else { "" };
        line("bmc", &format!("{driver} {place}{user}{password}"));
    }
    if let Some(image) = &spec.image {
        let disk = image.disk.as_ref().map(|disk| format!(" to {disk}")).unwrap_or_default();
        line("image", &format!("{}{disk}", image.url));
    }
    line("last seen", &last_seen(machine).unwrap_or_default());
    line("address", &address(machine).unwrap_or_default());
    if let Some(boot) = machine.seen.as_ref().and_then(|seen| seen.boot.as_ref()) {
        line("last boot", &last_boot(boot));
    }
    if let Some(inventory) = inventory {
        parts(inventory);
    }
    let Some(status) = status else { return };
    if let Some(power) = &status.power {
        let unknown = power.unknown.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        let read = power.read.map(|at| format!(", read at {}", rfc3339(at))).unwrap_or_default();
        line("power", &format!("{}{unknown}{read}", power.is));
        if let Some(Last { command, at, by, end, error }) = &power.last {
            let error = error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
            line("command", &format!("{command} at {} by {by}: {end}{error}", rfc3339(*at)));
        }
    }
    let limit = status.limit.map(|limit| format!(", limit {limit} s")).unwrap_or_default();
    let overdue = if status.overdue { ", for too long" } else { "" };
    let since = since(status).map(|at| format!(" since {at}")).unwrap_or_default();
    line("state", &format!("{}{since}{limit}{overdue}", status.state));
    line("because", &status.reason);
    line("waits", &status.waits);
    if let Some(progress) = &status.progress {
        let share = progress.percent().map(|share| format!(", {share} %")).unwrap_or_default();
        line("agent", &format!("{}{share}", progress.text));
    }
    line("not served", &text(&status.not_served));
    for past in &status.history {
        println!("  {}  {} → {} by {}: {}", rfc3339(past.at), past.from, past.to, past.by, past.why);
    }
}

/// One sentence of a machine's last boot.
fn last_boot(boot: &LastBoot) -> String {
    let LastBoot { began_at, firmware, file, cause, says, .. } = boot;
    let firmware = firmware.as_ref().map(|firmware| format!(", firmware {firmware}")).unwrap_or_default();
    let file = file.as_ref().map(|file| format!(", got {file}")).unwrap_or_default();
    let cause = cause.as_ref().map(|cause| format!(", {cause}")).unwrap_or_default();
    let says = says.as_ref().map(|says| format!(": {says}")).unwrap_or_default();
    format!("{began_at}{firmware}{file}{cause}{says}")
}

/// What a machine consists of.
fn parts(inventory: &Inventory) {
    let line = |what: &str, value: String| println!("  {what:<10} {value}");
    let system = &inventory.system;
    line("seen", format!("{} by the agent", rfc3339(inventory.taken)));
    line(
        "system",
        format!("{} {}, serial {}, {}", system.vendor, system.product, system.serial, system.boot),
    );
    for processor in &inventory.processors {
        line(
            "processor",
            format!("{}, {} cores, {} threads", processor.model, processor.cores, processor.threads),
        );
    }
    line("memory", format!("{} MiB in {} modules", inventory.memory >> 20, fitted(inventory)));
    for disk in &inventory.disks {
        let kind = if disk.rotational { "rotating" } else { "flash" };
        let megabytes = disk.size / 1_000_000;
        line("disk", format!("{}: {} {}, {megabytes} MB, {kind}", disk.name, disk.model, disk.serial));
    }
    for nic in &inventory.nics {
        let switch = nic.lldp.as_ref().map(|lldp| format!(", at {} {}", lldp.name, lldp.port));
        let link = if nic.link { format!("{} Mbit/s", nic.speed) } else { "no link".to_owned() };
        line(
            "card",
            format!("{}: {}, {}, {link}{}", nic.name, nic.mac, nic.driver, switch.unwrap_or_default()),
        );
    }
    inventory.bmc.iter().for_each(|bmc| line("bmc", bmc.clone()));
}

fn fitted(inventory: &Inventory) -> usize {
    inventory.memory_modules.iter().filter(|module| module.size > 0).count()
}

/// How many machines there are.
pub(super) fn status(counted: &Counted) {
    println!("{} machines in the configuration", counted.configured);
    for (state, count) in counted.states.iter().filter(|(_, count)| **count > 0) {
        println!("{count} {state}");
    }
    for (count, what) in [
        (counted.overdue as u64, "in their state for too long: xpxe machines list shows them as overdue"),
        (counted.not_served as u64, "not served: xpxe machines show says why"),
        (counted.never_seen.unwrap_or(0) as u64, "never seen: xpxe machines list --never-seen shows them"),
        (counted.turned_away, "requests of unknown machines that were not taken down"),
    ] {
        if count > 0 {
            println!("{count} {what}");
        }
    }
    if let Some(why) = &counted.not_stored {
        println!("machines cannot be changed: {why}");
    }
}
