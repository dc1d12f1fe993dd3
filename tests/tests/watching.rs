//! What an operator can see from outside: the page of figures, and a log that a flood does not fill.

use std::fs::{self, Permissions};
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use boot_tests::dhcp_client::{Client, Datagram, broadcast, mac, payload};
use boot_tests::place::{ALICE, Place, SOON, UNKNOWN, known};
use boot_tests::rack::{SERVER_ADDRESS, Station};
use boot_tests::settings::{Settings, boot_dir};
use boot_tests::wait::{eventually, eventually_some};
use dhcproto::v4::{DhcpOption, MessageType};

#[test]
fn the_figures_tell_packets_leases_and_transfers() -> Result<()> {
    for (fast_path, by) in [("xdp", "xdp"), ("tc", "tc"), ("off", "daemon")] {
        let Some(place) = Place::build(&Settings { fast_path, ..known() })? else { return Ok(()) };
        let xpxe = place.serve()?;
        let (wire, watcher) = (place.client()?, watcher(&place)?);
        let offers = format!("xpxe_packets_total{{hook=\"{by}\",reason=\"offered\"}}");
        let before = figure(&page(&watcher)?, &offers);
        let (alice, stranger) = (Client::new(mac(ALICE.mac)?), Client::new(mac(UNKNOWN)?));
        for _ in 0..3 {
            wire.discover(&alice)?;
        }
        wire.lease(&stranger)?;
        fs::write(boot_dir(&place.rack).join("loader"), vec![7; 100_000])?;
        watcher.output("curl", &["-sS", "-o", "/dev/null", &format!("tftp://{SERVER_ADDRESS}/loader")])?;
        let missing = watcher.output("curl", &["-sS", &format!("tftp://{SERVER_ADDRESS}/nothing")]);
        ensure!(missing.is_err(), "{fast_path}: {missing:?}");

        let wanted = [
            ("xpxe_leases{subnet=\"10.77.0.0/24\",state=\"leased\"}", 1),
            ("xpxe_leases{subnet=\"10.77.0.0/24\",state=\"reserved\"}", 2),
            ("xpxe_tftp_transfers{interface=\"eth0\"}", 0),
            ("xpxe_tftp_transfers_total{interface=\"eth0\",end=\"finished\"}", 1),
            ("xpxe_tftp_transfers_total{interface=\"eth0\",end=\"missing\"}", 1),
            ("xpxe_tftp_bytes_total{interface=\"eth0\"}", 100_000),
        ];
        // A transfer ends for the daemon when its timer sees the kernel half's last acknowledgement.
        eventually(SOON, "the figures", || {
            page(&watcher).is_ok_and(|page| {
                wanted.iter().all(|(name, value)| figure(&page, name) == Some(*value))
                    && figure(&page, &offers) >= Some(before.unwrap_or(0) + 3)
            })
        })
        .with_context(|| format!("{fast_path}: {:?} was {before:?}, now\n{:?}", offers, page(&watcher)))?;
        xpxe.stop()?;
    }
    Ok(())
}

#[test]
fn a_flood_of_refusals_is_summed_up_in_the_log() -> Result<()> {
    const FLOOD: u16 = 4000;
    let Some(place) = Place::build(&known())? else { return Ok(()) };
    let xpxe = place.serve()?;
    let wire = place.client()?;
    for number in 0..FLOOD {
        let [high, low] = number.to_be_bytes();
        let mut request = Client::new([2, 0x77, 0, 9, high, low]).message();
        request.opts_mut().insert(DhcpOption::MessageType(MessageType::Request));
        request.opts_mut().insert(DhcpOption::RequestedIpAddress(Ipv4Addr::new(192, 168, 1, 7)));
        wire.send(&broadcast(&request)?)?;
    }
    let refused = "xpxe_packets_total{hook=\"daemon\",reason=\"refused\"}";
    let watcher = watcher(&place)?;
    // Some may not fit into the socket's buffer.
    let mut answered = None;
    eventually_some(SOON, "the end of the flood", || {
        let now = page(&watcher).ok().and_then(|page| figure(&page, refused));
        let ended = now.is_some() && now == std::mem::replace(&mut answered, now);
        ended.then_some(())
    })?;
    let answered = answered.context("refusals")?;
    ensure!(answered > u64::from(FLOOD) / 2, "only {answered} were refused");
    let told = || {
        let log = xpxe.log();
        let lines = log.iter().filter(|event| event.field("step") == "nak").count() as u64;
        let summaries = log.iter().filter(|event| event.message().contains("like: refused:"));
        (lines, summaries.filter_map(|event| event.json.get("more")?.as_u64()).sum::<u64>())
    };
    eventually(SOON, "the sum of what was not logged", || {
        let (lines, more) = told();
        lines + more >= answered
    })
    .with_context(|| format!("{answered} refused, told {:?}\n{}", told(), xpxe.last_lines(15)))?;
    let (lines, _) = told();
    ensure!((500..answered / 2).contains(&lines), "{lines} lines for {answered} refusals");
    xpxe.stop()
}

/// One leased machine asks as fast as it can: its answers go on, and its lines end.
#[test]
fn a_machine_that_asks_without_end_is_one_line_and_others_are_still_told_of() -> Result<()> {
    const FLOOD: usize = 20_000;
    for fast_path in ["off", "xdp"] {
        let Some(place) = Place::build(&Settings { fast_path, ..known() })? else { return Ok(()) };
        let xpxe = place.serve()?;
        let wire = place.client()?;
        let alice = Client::new(mac(ALICE.mac)?);
        wire.lease(&alice)?;
        let discover = broadcast(&alice.discover())?;
        for _ in 0..FLOOD {
            wire.send(&discover)?;
        }
        // Another machine is heard and told of behind all that.
        eventually(SOON, "a lease behind the flood", || {
            wire.lease(&Client::new(mac(UNKNOWN).unwrap_or_default())).is_ok()
        })?;
        xpxe.wait_for_event("the other machine's line", SOON, |event| {
            event.field("step") == "ack" && event.field("mac") == UNKNOWN
        })?;
        let lines = xpxe.log().iter().filter(|event| event.field("mac") == ALICE.mac).count();
        // Two minutes may have begun.
        ensure!(lines <= 122, "{fast_path}: {lines} lines for {FLOOD} answers");
        if fast_path == "off" {
            // The line at the end of the minute is the same.
            continue;
        }
        let flood = xpxe.wait_for_event("the line about the flood", Duration::from_secs(75), |event| {
            event.field("step") == "flood" && event.field("mac") == ALICE.mac
        })?;
        ensure!(flood.field("interface") == "eth0", "{fast_path}: {:?}", flood.json);
        ensure!(flood.message().contains("a second"), "{fast_path}: {:?}", flood.json);
        xpxe.stop()?;
    }
    Ok(())
}

#[test]
fn another_dhcp_server_and_a_path_that_is_not_there_are_named() -> Result<()> {
    let Some(place) = Place::build(&known())? else { return Ok(()) };
    let xpxe = place.serve()?;
    let (wire, watcher) = (place.client()?, watcher(&place)?);
    let rogue = Ipv4Addr::new(10, 77, 0, 66);
    let mut nak = Client::new(mac(ALICE.mac)?).message();
    nak.set_opcode(dhcproto::v4::Opcode::BootReply);
    nak.opts_mut().insert(DhcpOption::MessageType(MessageType::Nak));
    nak.opts_mut().insert(DhcpOption::ServerIdentifier(rogue));
    let from = Datagram { source: rogue, source_port: 67, to_port: 68, ..Datagram::default() };
    wire.send(&from.frame(&payload(&nak)?))?;
    xpxe.wait_for_event("the other server", SOON, |event| {
        event.message().contains("another DHCP server, 10.77.0.66, sent a NAK")
            && event.field("mac") == ALICE.mac
    })?;
    let status = watcher.output(
        "curl",
        &["-sS", "-o", "/dev/null", "-w", "%{http_code}", &format!("http://{SERVER_ADDRESS}:8080/vmlinuz")],
    )?;
    ensure!(status.trim() == "404", "{status}");
    xpxe.wait_for_event("the path", SOON, |event| {
        event.message().contains("/vmlinuz\", which this server does not have")
    })?;
    xpxe.stop()
}

/// A host with an address that fetches.
/// Prometheus' own reader reads the page and the rules; what rules and dashboard ask for is there.
#[test]
fn prometheus_reads_the_figures_and_the_rules_ask_for_those_that_are_there() -> Result<()> {
    let Some(mut place) = Place::build(&known())? else { return Ok(()) };
    let secret = place.rack.dir().join("webhook.secret");
    fs::write(&secret, "a secret of enough bytes\n")?;
    fs::set_permissions(&secret, Permissions::from_mode(0o600))?;
    place.config += &format!(
        "\n[[webhook]]\nname = \"chat\"\nurl = \"http://127.0.0.1:9/\"\nsecret_file = {secret:?}\nevents = \"state\"\n"
    );
    let xpxe = place.serve()?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let promtool = root.join("target/readers/usr/bin/promtool").display().to_string();
    let page = page(&watcher(&place)?)?;
    let file = place.rack.dir().join("metrics");
    fs::write(&file, &page)?;
    let read = format!("{promtool} check metrics < {}", file.display());
    place.rack.server.output("sh", &["-c", &read])?;
    let packaging = root.join("packaging");
    for (verb, name) in [("check", "alerts.yml"), ("test", "alerts-test.yml")] {
        let name = packaging.join(name).display().to_string();
        place.rack.server.output(&promtool, &[verb, "rules", &name])?;
    }
    let rules = fs::read_to_string(packaging.join("alerts.yml"))?;
    let wanted = [&rules, &fs::read_to_string(packaging.join("grafana.json"))?.replace("\\\"", "\"")];
    let mut count = 0;
    for (name, labels) in wanted.into_iter().flat_map(|text| asked_for(text)) {
        // It is there only with a database.
        if name == "xpxe_postgres_up" {
            continue;
        }
        let samples: Vec<&str> = page
            .lines()
            .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])))
            .collect();
        ensure!(!samples.is_empty(), "there is no {name} on\n{page}");
        for (label, value) in labels {
            let is_there = samples.iter().any(|line| line.contains(&format!("{label}=\"{value}\"")));
            ensure!(is_there, "no {name} has {label}=\"{value}\": {samples:#?}");
            count += 1;
        }
    }
    ensure!(count > 30, "only {count} labels were found in the rules and the dashboard");
    let tests = fs::read_to_string(packaging.join("alerts-test.yml"))?;
    for alert in rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        let fires = tests.contains(&format!("- alertname: {alert}\n")) && tests.contains("exp_labels");
        ensure!(fires, "alerts-test.yml does not try {alert}");
    }
    xpxe.stop()
}

/// The names of figures in these expressions, and the values of their labels that are asked for: `name{label=~"one|two"}`.
/// Which host it is (`instance`) is none of a page.
fn asked_for(text: &str) -> Vec<(&str, Vec<(&str, &str)>)> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices("xpxe_") {
        let rest = &text[at..];
        let end =
            rest.find(|letter: char| !letter.is_ascii_lowercase() && letter != '_').unwrap_or(rest.len());
        let (name, rest) = rest.split_at(end);
        let selector =
            rest.strip_prefix('{').and_then(|rest| rest.split_once('}')).map_or("", |(inside, _)| inside);
        let matchers = selector.split(',').filter_map(|matcher| matcher.split_once('='));
        let values = matchers.filter(|(label, _)| *label != "instance").flat_map(|(label, value)| {
            value.trim_matches(['~', '"']).split('|').map(move |value| (label, value))
        });
        found.push((name, values.collect()));
    }
    found
}

fn watcher(place: &Place) -> Result<Station> {
    place.rack.neighbour("watcher", "02:77:00:00:00:e0", "10.77.0.9/24")
}

fn page(watcher: &Station) -> Result<String> {
    watcher.output("curl", &["-sSf", &format!("http://{SERVER_ADDRESS}:8080/metrics")])
}

fn figure(page: &str, name: &str) -> Option<u64> {
    page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}
