//! xpxe that starts, stops, dies, is started with another file or on another interface, or cannot start.

mod interfaces;
mod leases;
mod refusals;

use std::collections::BTreeSet;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use boot_tests::daemon::{Event, Xpxe};
use boot_tests::dhcp_client::{Client, Wire, mac};
use boot_tests::netns::{Namespace, ending};
use boot_tests::place::{
    ALICE, BOB, CARD, OTHER_UNKNOWN, Place, SILENCE, SNPONLY, SOON, UNKNOWN, in_pool, known,
};
use boot_tests::rack::{Rack, SERVER_ADDRESS, SERVER_MAC, SERVER_PORT};
use boot_tests::reference::dnsmasq_plain_dhcp;
use boot_tests::settings::{Known, Settings, boot_dir, pin_dir};
use boot_tests::wait::{eventually, eventually_some};
use dhcproto::v4::{DhcpOption, MessageType, OptionCode};

const SCRIPT_URL: &str = "http://10.77.0.1:8080/boot.ipxe";

#[test]
fn the_kernel_answers_known_machines_while_the_daemon_is_dead_and_is_adopted() -> Result<()> {
    let Some(place) = Place::build(&known())? else { return Ok(()) };
    let mut xpxe = place.serve()?;
    let wire = place.client()?;
    let [alice, bob] = [Client::new(mac(ALICE.mac)?), Client::firmware(mac(BOB.mac)?, 7)];
    let [stranger, late] = [Client::new(mac(UNKNOWN)?), Client::new(mac(OTHER_UNKNOWN)?)];
    // Alice has a lease; a stranger has an offer only; bob was not heard of yet.
    let ack = wire.lease(&alice)?;
    let offer = wire.discover(&stranger)?;

    xpxe.kill9()?;
    ensure!(!xpxe.is_running(), "SIGKILL ends it");
    let again = wire.discover(&alice)?;
    ensure!(again.address() == ack.address(), "alice was offered {}", again.address());
    let acked = wire.ask(&alice.request(&again), MessageType::Ack)?;
    ensure!(acked.address() == ack.address(), "alice got {}", acked.address());
    let offered = wire.discover(&bob)?;
    ensure!(offered.address() == Ipv4Addr::new(10, 77, 0, 11), "bob was offered {}", offered.address());
    ensure!(offered.boot_file() == SNPONLY, "bob is to boot {:?}", offered.boot_file());
    let acked = wire.ask(&bob.request(&offered), MessageType::Ack)?;
    ensure!(acked.address() == offered.address(), "bob got {}", acked.address());
    let unknown = wire.ask_within(&late.discover(), SILENCE)?;
    ensure!(unknown.is_none(), "nobody can know {late:?}: {unknown:?}");

    xpxe.restart()?;
    let adopted = xpxe.wait_for_event("adoption", SOON, |event| {
        event.message().starts_with("adopted the kernel's tables")
    })?;
    // Alice and bob from the file, and the stranger.
    ensure!(adopted.field("hosts") == "3", "{:?}", adopted.json);
    let missed = xpxe.wait_for_event("what was missed", SOON, |event| {
        event.message().contains("while no daemon was running")
    })?;
    ensure!(missed.message().contains(" 4 packets"), "{}", missed.message());
    let exchanged =
        xpxe.wait_for_event("the exchange of programs", SOON, |event| event.field("adopted") == "true")?;
    ensure!(exchanged.message().contains("exchanged"), "{:?}", exchanged.json);

    let config = place.rack.dir().join("xpxe.toml").display().to_string();
    let show = ["leases", "show", BOB.mac, "--json", "--config", &config];
    eventually(SOON, "bob's lease", || {
        xpxe.command(&show).is_ok_and(|text| text.contains("expires_at\":\""))
    })?;
    // The late one comes first, and must not get what the other was offered.
    let new = wire.lease(&late)?;
    ensure!(new.address() != offer.address(), "{} was offered twice", offer.address());
    let kept = wire.ask(&stranger.request(&offer), MessageType::Ack)?;
    ensure!(kept.address() == offer.address(), "offered {}, got {}", offer.address(), kept.address());
    xpxe.stop()
}

#[test]
fn stopping_leaves_the_kernel_half_and_detach_removes_everything() -> Result<()> {
    let Some(place) = Place::build(&known())? else { return Ok(()) };
    // bpffs has files of its own.
    let before = names_in(&place.sandbox.pin_dir())?;
    let xpxe = place.serve()?;
    let wire = place.client()?;
    let alice = Client::new(mac(ALICE.mac)?);
    wire.lease(&alice)?;
    xpxe.stop()?;
    wire.discover(&alice).context("after an orderly stop")?;
    ensure!(link_details(&place.rack)?.contains("xdp"), "no XDP on eth0: {}", link_details(&place.rack)?);

    let said = place.detach(&xpxe)?;
    ensure!(said.starts_with("removed 2 links and "), "{said}");
    ensure!(!pin_dir(&place.sandbox).exists(), "the pin directory is still there");
    let left = names_in(&place.sandbox.pin_dir())?;
    ensure!(left == before, "left in the bpffs: {left:?}, and before: {before:?}");
    no_xdp(&place.rack)?;
    eventually(SOON, "no answer after detach", || {
        wire.ask_within(&alice.discover(), SILENCE).is_ok_and(|answer| answer.is_none())
    })?;
    let processes = processes_in(&place.rack.server)?;
    ensure!(processes.is_empty(), "left in the server's namespace: {processes:?}");

    let again = place.detach(&xpxe)?;
    ensure!(again.starts_with("nothing is pinned"), "{again}");
    Ok(())
}

#[test]
fn detach_under_a_running_daemon_costs_speed_and_not_service() -> Result<()> {
    let Some(place) = Place::build(&known())? else { return Ok(()) };
    let xpxe = place.serve()?;
    let wire = place.client()?;
    place.detach_with(&xpxe, &["--force"])?;
    let alice = Client::new(mac(ALICE.mac)?);
    let by_daemon = |event: &Event| {
        event.field("step") == "offer" && event.field("mac") == ALICE.mac && event.field("by") == "daemon"
    };
    // The kernel takes the programs off a moment after their pins are gone; no DISCOVER is lost meanwhile.
    let mut asked = 0;
    let failed = eventually_some(SOON, "an offer by the daemon", || {
        asked += 1;
        let lost = wire.lease(&alice).err();
        (lost.is_some() || xpxe.log().iter().any(by_daemon)).then_some(lost)
    })?;
    ensure!(failed.is_none(), "a packet was lost: {failed:?}\n{}", xpxe.last_lines(20));
    println!("the kernel half answered up to {} times after detach", asked - 1);
    wire.lease(&alice).with_context(|| xpxe.last_lines(20))?;
    wire.lease(&Client::new(mac(UNKNOWN)?)).with_context(|| xpxe.last_lines(20))?;
    xpxe.stop()
}

#[test]
fn no_kernel_half_is_left_when_the_fast_path_is_turned_off() -> Result<()> {
    let Some(place) = Place::build(&known())? else { return Ok(()) };
    let mut xpxe = place.serve()?;
    let wire = place.client()?;
    let alice = Client::new(mac(ALICE.mac)?);
    wire.lease(&alice)?;
    xpxe.write_config(&Settings { fast_path: "off", ..known() }.write(&place.sandbox, &place.rack)?)?;
    xpxe.restart()?;
    no_xdp(&place.rack)?;
    ensure!(wire.lease(&alice)?.address() == Ipv4Addr::new(10, 77, 0, 10), "alice's address");
    xpxe.stop()?;
    let answer = wire.ask_within(&alice.discover(), SILENCE)?;
    ensure!(answer.is_none(), "answered without the daemon: {answer:?}");
    Ok(())
}

#[test]
fn a_changed_file_reaches_the_kernel_half_with_the_restart() -> Result<()> {
    let Some(place) = Place::build(&known())? else { return Ok(()) };
    let mut xpxe = place.serve()?;
    let wire = place.client()?;
    let alice = Client::new(mac(ALICE.mac)?).with(77, b"iPXE");
    let had = wire.lease(&alice)?;
    let changed = place.config.replace("10.77.0.53", "10.77.0.55").replace(":8080", ":8081");
    xpxe.write_config(&changed.replace("\"10.77.0.10\"", "\"10.77.0.12\""))?;
    xpxe.restart()?;
    xpxe.kill9()?;
    let offer = wire.discover(&alice)?;
    ensure!(offer.address() == Ipv4Addr::new(10, 77, 0, 12), "{:?}", offer.message);
    ensure!(offer.boot_file() == SCRIPT_URL.replace("8080", "8081"), "{}", offer.boot_file());
    let servers = [Ipv4Addr::new(10, 77, 0, 55), Ipv4Addr::new(10, 77, 0, 54)];
    let dns = offer.message.opts().get(OptionCode::DomainNameServer);
    ensure!(dns == Some(&DhcpOption::DomainNameServer(servers.to_vec())), "{dns:?}");
    // What was stored for the old address is no promise any more.
    let old = wire.ask_within(&alice.request(&had), SILENCE)?;
    ensure!(old.is_none(), "an ACK for the old address: {old:?}");
    let ack = wire.ask(&alice.request(&offer), MessageType::Ack)?;
    ensure!(ack.address() == offer.address(), "{ack:?}");
    Ok(())
}

#[test]
fn tables_that_are_not_this_versions_are_replaced_at_once() -> Result<()> {
    let Some(place) = Place::build(&known())? else { return Ok(()) };
    let mut xpxe = place.serve()?;
    let wire = place.client()?;
    let before = wire.lease(&Client::new(mac(UNKNOWN)?))?;
    xpxe.kill9()?;
    // What it reads there is no version of ours.
    let pins = pin_dir(&place.sandbox);
    fs::rename(pins.join("LINKS"), pins.join("SETTINGS"))?;
    xpxe.restart()?;
    xpxe.wait_for_event("that they are replaced", SOON, |event| {
        event.message().contains("another version") && event.message().contains("replaced")
    })?;
    let again = wire.lease(&Client::new(mac(UNKNOWN)?)).with_context(|| xpxe.last_lines(20))?;
    ensure!(again.address() == before.address(), "the stranger has another address");
    wire.lease(&Client::new(mac(ALICE.mac)?))?;
    xpxe.wait_for_event("an answer by the kernel half", SOON, |event| event.field("by") == "xdp")?;
    xpxe.stop()
}

#[test]
fn an_address_that_the_file_now_reserves_is_taken_from_its_holder() -> Result<()> {
    let Some(place) = Place::build(&known())? else { return Ok(()) };
    let mut xpxe = place.serve()?;
    let wire = place.client()?;
    let [alice, stranger] = [Client::new(mac(ALICE.mac)?), Client::new(mac(UNKNOWN)?)];
    let taken = wire.lease(&stranger)?;
    let address = taken.address();
    xpxe.write_config(&place.config.replace("\"10.77.0.10\"", &format!("\"{address}\"")))?;
    xpxe.restart()?;
    let refused = wire.ask(&stranger.request(&taken), MessageType::Nak);
    refused.with_context(|| format!("{address} is alice's now\n{}", xpxe.last_lines(10)))?;
    let other = wire.lease(&stranger)?;
    ensure!(other.address() != address && in_pool(other.address()), "the stranger got {}", other.address());
    ensure!(wire.lease(&alice)?.address() == address, "alice has not got {address}");
    xpxe.stop()
}

#[test]
fn a_machine_that_the_file_no_longer_has_is_forgotten_by_the_kernel_half() -> Result<()> {
    let Some(place) = Place::build(&known())? else { return Ok(()) };
    let mut xpxe = place.serve()?;
    let wire = place.client()?;
    let alice = Client::new(mac(ALICE.mac)?);
    wire.lease(&alice)?;
    let without_alice = Settings { machines: vec![BOB], ..known() }.write(&place.sandbox, &place.rack)?;
    xpxe.write_config(&ignoring_unknown(&without_alice))?;
    xpxe.restart()?;
    wire.discover(&Client::new(mac(BOB.mac)?)).context("bob is still there")?;
    let answer = wire.ask_within(&alice.discover(), SILENCE)?;
    ensure!(answer.is_none(), "alice is no longer in the file: {answer:?}\n{}", xpxe.last_lines(10));
    xpxe.stop()
}

#[test]
fn a_leaseholder_that_the_file_now_ignores_is_not_answered() -> Result<()> {
    let mut answered = Vec::new();
    for fast_path in ["xdp", "off"] {
        let Some(place) = Place::build(&Settings { fast_path, ..known() })? else { return Ok(()) };
        let mut xpxe = place.serve()?;
        let wire = place.client()?;
        let stranger = Client::new(mac(UNKNOWN)?);
        wire.lease(&stranger)?;
        xpxe.write_config(&ignoring_unknown(&place.config))?;
        xpxe.restart()?;
        answered.extend(wire.ask_within(&stranger.discover(), SILENCE)?.map(|answer| (fast_path, answer)));
        xpxe.stop()?;
    }
    ensure!(answered.is_empty(), "unknown = \"ignore\": {answered:#?}");
    Ok(())
}

/// Its operating system shows the MAC only.
#[test]
fn a_machine_that_showed_its_uuid_keeps_its_lease_over_a_restart_where_unknown_ones_are_ignored() -> Result<()>
{
    let guid: Vec<u8> = (0..17).collect();
    let more = "\n[[machine]]\nuuid = \"01020304-0506-0708-090a-0b0c0d0e0f10\"\nname = \"board\"\n";
    for fast_path in ["xdp", "off"] {
        let settings = Settings { fast_path, more: more.to_owned(), ..known() };
        let Some(mut place) = Place::build(&settings)? else { return Ok(()) };
        place.config = ignoring_unknown(&place.config);
        let mut xpxe = place.serve()?;
        let wire = place.client()?;
        let system = Client::new(mac(UNKNOWN)?);
        ensure!(wire.ask_within(&system.discover(), SILENCE)?.is_none(), "it has shown nothing yet");
        let address = wire.lease(&system.clone().with(97, &guid))?.address();
        xpxe.restart()?;
        let mut reboot = system.message();
        reboot.opts_mut().insert(DhcpOption::MessageType(MessageType::Request));
        reboot.opts_mut().insert(DhcpOption::RequestedIpAddress(address));
        let ack = wire.ask(&reboot, MessageType::Ack);
        let ack = ack.with_context(|| format!("{fast_path}: {}", xpxe.last_lines(10)))?;
        ensure!(ack.address() == address, "{fast_path}: {} instead of {address}", ack.address());
        xpxe.stop()?;
    }
    Ok(())
}

#[test]
fn a_proxy_that_ignores_unknown_machines_does_not_answer_them() -> Result<()> {
    let mut answered = Vec::new();
    for fast_path in ["xdp", "off"] {
        let machines = vec![Known { address: None, ..ALICE }];
        let settings = Settings { dhcp: "proxy", fast_path, machines, ..Settings::default() };
        let Some(mut place) = Place::build(&settings)? else { return Ok(()) };
        place.config = ignoring_unknown(&place.config);
        let xpxe = place.serve()?;
        let wire = place.client()?;
        wire.discover(&Client::firmware(mac(ALICE.mac)?, 7)).context("alice is in the file")?;
        let stranger = Client::firmware(mac(UNKNOWN)?, 7);
        answered.extend(wire.ask_within(&stranger.discover(), SILENCE)?.map(|answer| (fast_path, answer)));
        xpxe.stop()?;
    }
    ensure!(answered.is_empty(), "unknown = \"ignore\": {answered:#?}");
    Ok(())
}

fn ignoring_unknown(config: &str) -> String {
    config.replace("[default]\n", "[default]\nunknown = \"ignore\"\n")
}

fn names_in(dir: &Path) -> Result<BTreeSet<String>> {
    fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

/// The programs whose main thread is in a namespace.
fn processes_in(namespace: &Namespace) -> Result<Vec<String>> {
    let here = fs::read_link(namespace.path())?;
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let path = entry?.path();
        if fs::read_link(path.join("ns/net")).is_ok_and(|net| net == here) {
            found.push(fs::read_to_string(path.join("comm")).unwrap_or_default());
        }
    }
    Ok(found)
}

/// The store is emptied and its log cut off while no daemon runs, and the kernel half has what it promised.
#[test]
fn a_store_that_lost_leases_says_so_and_gets_back_what_the_kernel_has() -> Result<()> {
    for (what, says) in [("", "was there and is empty"), ("-wal", "cut off or damaged")] {
        let Some(place) = Place::build(&known())? else { return Ok(()) };
        let mut xpxe = place.serve()?;
        let wire = place.client()?;
        let stranger = Client::new(mac(UNKNOWN)?);
        let state = place.rack.dir().join("state");
        let journal = |number| state.join(format!("xpxe.db-leases{number}"));
        // Its beginning says which turn it is in.
        let heads = || [0, 1].map(|number| Some(fs::read(journal(number)).ok()?.get(..64)?.to_vec()));
        let before = heads();
        let had = wire.lease(&stranger)?;
        let log = state.join("xpxe.db-wal");
        eventually(SOON, "the lease in the database", || {
            let has_it = |log: Vec<u8>| log.windows(UNKNOWN.len()).any(|bytes| bytes == UNKNOWN.as_bytes());
            fs::read(&log).is_ok_and(has_it)
        })?;
        eventually(SOON, "an empty journal, which begins anew", || heads() != before)?;
        xpxe.kill9()?;
        let file = state.join(format!("xpxe.db{what}"));
        let half = if what.is_empty() { 0 } else { fs::metadata(&file)?.len() / 2 };
        fs::OpenOptions::new().write(true).open(&file)?.set_len(half)?;
        if what.is_empty() {
            for beside in ["xpxe.db-wal", "xpxe.db-shm", "xpxe.db-leases0", "xpxe.db-leases1"] {
                fs::remove_file(state.join(beside))?;
            }
        }
        xpxe.restart()?;
        xpxe.wait_for_event(says, SOON, |event| event.message().contains(says))?;
        xpxe.wait_for_event("what was lost", SOON, |event| {
            event.message().contains("the store has no lease for 1 machines")
        })?;
        // Stored again: the next daemon knows it without the kernel half.
        xpxe.kill9()?;
        place.detach(&xpxe)?;
        xpxe.restart()?;
        let newcomer = wire.lease(&Client::new(mac(OTHER_UNKNOWN)?))?;
        ensure!(newcomer.address() != had.address(), "{} has two owners", had.address());
        let again = wire.lease(&stranger)?;
        ensure!(again.address() == had.address(), "{what:?}: had {}, got {}", had.address(), again.address());
        xpxe.stop()?;
    }
    Ok(())
}

/// The kernel gives an interface that was in another namespace its number back: only its sockets are dead. One that has
/// another name now takes its programs along.
#[test]
fn an_interface_that_comes_back_or_is_renamed_is_served_at_once() -> Result<()> {
    let Some(place) = Place::build(&Settings { fast_path: "tc", ..known() })? else { return Ok(()) };
    let xpxe = place.serve()?;
    let wire = place.client()?;
    let alice = Client::new(mac(ALICE.mac)?);
    let address = format!("{SERVER_ADDRESS}/24");
    // Where no other interface has that number.
    let (server, other) = (&place.rack.server, Namespace::new("aside")?);
    let times = |what: &dyn Fn(&Event) -> bool| xpxe.log().iter().filter(|event| what(event)).count();
    let gone = |event: &Event| event.message().contains("there is no interface \"eth0\"");
    let back = |event: &Event| event.message().starts_with("serving eth0 as it is now");
    let offers = |event: &Event| {
        event.field("step") == "offer" && event.field("mac") == ALICE.mac && event.field("by") == "tc"
    };
    let number = || server.output("ip", &["-o", "link", "show", "dev", "eth0"]);
    let before = number()?;
    for round in 1..=2 {
        if round == 1 {
            server.output("ip", &["link", "set", "eth0", "netns", &other.path()])?;
        } else {
            server.output("ip", &["link", "set", "eth0", "down"])?;
            server.output("ip", &["link", "set", "eth0", "name", "old0"])?;
        }
        eventually(SOON, "that eth0 is gone", || times(&gone) == round)
            .with_context(|| xpxe.last_lines(20))?;
        if round == 1 {
            other.output("ip", &["link", "set", "eth0", "netns", &server.path()])?;
            server.output("ip", &["link", "set", "eth0", "up"])?;
            let same = |text: &str| text.split(':').next().map(str::to_owned);
            ensure!(same(&number()?) == same(&before), "it has another number now");
        } else {
            place.rack.plug(server, "eth0", SERVER_MAC)?;
        }
        server.output("ip", &["address", "add", &address, "dev", "eth0"])?;
        eventually(SOON, "that eth0 is back", || times(&back) == round)
            .with_context(|| xpxe.last_lines(20))?;
        let offered = times(&offers);
        eventually(SOON, "alice's address", || wire.lease(&alice).is_ok())
            .with_context(|| format!("round {round}\n{}", xpxe.last_lines(20)))?;
        eventually(SOON, "an offer by TC", || {
            drop(wire.lease(&alice));
            times(&offers) > offered
        })
        .with_context(|| format!("round {round}\n{}", xpxe.last_lines(20)))?;
        let stranger = Client::new([2, 0x77, 0, 0, 4, u8::try_from(round)?]);
        wire.lease(&stranger).with_context(|| format!("round {round}\n{}", xpxe.last_lines(20)))?;
    }
    xpxe.stop()
}

#[test]
fn an_interface_with_another_address_is_served_with_it() -> Result<()> {
    const NEW: &str = "10.77.0.2";
    for fast_path in ["xdp", "off"] {
        let Some(place) = Place::build(&Settings { fast_path, ..known() })? else { return Ok(()) };
        let mut xpxe = place.serve()?;
        let wire = place.client()?;
        let [alice, stranger] =
            [Client::firmware(mac(ALICE.mac)?, 7).with(77, b"iPXE"), Client::new(mac(UNKNOWN)?)];
        let before = wire.lease(&stranger)?;
        wire.lease(&alice)?;
        let server = &place.rack.server;
        server.output("ip", &["address", "del", &format!("{SERVER_ADDRESS}/24"), "dev", "eth0"])?;
        xpxe.wait_for_event("that it has no address", SOON, |event| {
            event.field("level") == "ERROR" && event.message().contains("eth0 has no IPv4 address")
        })?;
        // The address may be another host's by now.
        let silent = wire.ask_within(&alice.discover(), Duration::from_millis(500))?;
        ensure!(silent.is_none(), "{fast_path}: an answer from an address that is gone");
        server.output("ip", &["address", "add", &format!("{NEW}/24"), "dev", "eth0"])?;
        xpxe.wait_for_event("that it is served again", SOON, |event| {
            event.message().starts_with("serving eth0 as it is now") && event.message().contains(NEW)
        })?;
        for client in [&alice, &stranger] {
            let ack = wire.lease(client).with_context(|| format!("{fast_path}\n{}", xpxe.last_lines(20)))?;
            ensure!(ack.server() == Some(NEW.parse()?), "{fast_path}: by {:?}", ack.server());
        }
        ensure!(wire.lease(&stranger)?.address() == before.address(), "the stranger has another address");
        let url = SCRIPT_URL.replace(SERVER_ADDRESS, NEW);
        let offer = wire.discover(&alice)?;
        ensure!(offer.boot_file() == url, "{fast_path}: alice is to boot {}", offer.boot_file());
        if fast_path == "xdp" {
            xpxe.kill9()?;
            let offer = wire.discover(&alice).context("with the daemon dead")?;
            ensure!(offer.boot_file() == url && offer.server() == Some(NEW.parse()?), "{:?}", offer.message);
            xpxe.restart()?;
        }
        xpxe.stop()?;
    }
    Ok(())
}

fn link_details(rack: &Rack) -> Result<String> {
    rack.server.output("ip", &["-details", "link", "show", "dev", "eth0"])
}

/// The kernel takes the programs off a moment after their pins are gone.
fn no_xdp(rack: &Rack) -> Result<()> {
    eventually(SOON, "no XDP on eth0", || link_details(rack).is_ok_and(|text| !text.contains("xdp")))
}
