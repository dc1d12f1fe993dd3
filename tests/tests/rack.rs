//! xpxe in a rack, without firmware: real DHCP and TFTP clients, single frames, kills and restarts.

use std::collections::BTreeSet;
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use boot_tests::daemon::{Event, Xpxe, binary};
use boot_tests::dhcp_client::{BROADCAST, Client, Datagram, Mac, Reply, Wire, broadcast, mac, payload, sum};
use boot_tests::netns::{Namespace, Process, ending};
use boot_tests::rack::{Rack, SERVER_ADDRESS, SERVER_MAC, Station};
use boot_tests::reference::dnsmasq_plain_dhcp;
use boot_tests::sandbox::{Sandbox, root_or_skip};
use boot_tests::settings::{Known, Settings, boot_dir, pin_dir};
use boot_tests::wait::{eventually, eventually_some};
use dhcproto::v4::{DhcpOption, Message, MessageType, Opcode, OptionCode};
use nix::sys::signal::Signal;

const SOON: Duration = Duration::from_secs(30);
/// How long nothing has to come for "no answer": a thousand times what an answer takes.
const SILENCE: Duration = Duration::from_millis(700);

const ALICE: Known = Known { name: "alice", mac: "02:77:00:00:00:10", address: Some("10.77.0.10") };
const BOB: Known = Known { name: "bob", mac: "02:77:00:00:00:11", address: Some("10.77.0.11") };
/// Not in any configuration.
const STRANGER: &str = "02:77:00:00:00:99";
const OTHER_STRANGER: &str = "02:77:00:00:00:98";
/// The client's own card, where that does not matter.
const CARD: &str = "02:77:00:00:00:f0";

const SCRIPT_URL: &str = "http://10.77.0.1:8080/boot.ipxe";
/// Boot files of the test, below boot_dir.
const OWN_FILE: &str = "images/own.bin";
const SNPONLY: &str = "snponly.efi";

/// What every client of the subnet is told.
const NETWORK: [(&str, &str); 4] = [
    ("subnet", "255.255.255.0"),
    ("router", "10.77.0.254"),
    ("dns", "10.77.0.53 10.77.0.54"),
    ("domain", "rack.test"),
];

// ---- real DHCP clients ----

#[test]
fn udhcpc_gets_renews_and_releases_its_address_with_the_kernel_half() -> Result<()> {
    udhcpc_gets_renews_and_releases("auto")
}

#[test]
fn udhcpc_gets_renews_and_releases_its_address_without_the_kernel_half() -> Result<()> {
    udhcpc_gets_renews_and_releases("off")
}

fn udhcpc_gets_renews_and_releases(fast_path: &'static str) -> Result<()> {
    let Some(place) = Place::build(&Settings { fast_path, ..known() })? else { return Ok(()) };
    let xpxe = place.serve()?;
    let reserved = place.rack.client("alice", ALICE.mac)?;
    let got = Udhcpc::start(&place.rack, &reserved)?;
    let lease = got.wait_for("bound", &xpxe)?;
    ensure!(lease.get("ip") == "10.77.0.10", "alice got {lease:?}");
    ensure!(lease.get("hostname") == "alice", "alice is called {lease:?}");
    ensure!(lease.get("lease") == "600" && lease.get("serverid") == SERVER_ADDRESS, "{lease:?}");
    for (name, value) in NETWORK {
        ensure!(lease.get(name) == value, "{name} is {:?} and not {value:?}", lease.get(name));
    }

    got.process.signal(Signal::SIGUSR1)?;
    let renewed = got.wait_for("renew", &xpxe)?;
    ensure!(renewed.get("ip") == "10.77.0.10", "renewed: {renewed:?}");
    got.process.signal(Signal::SIGUSR2)?;
    xpxe.wait_for_event("alice's release", SOON, |event| {
        event.field("step") == "release" && event.field("mac") == ALICE.mac
    })?;

    let stranger = place.rack.client("stranger", STRANGER)?;
    let lease = Udhcpc::start(&place.rack, &stranger)?.wait_for("bound", &xpxe)?;
    ensure!(in_pool(lease.get("ip").parse()?), "a stranger got {lease:?}");
    ensure!(lease.get("hostname").is_empty(), "a stranger has a name: {lease:?}");
    answered_by_the_right_half(&xpxe, fast_path)
}

#[test]
fn dhclient_gets_and_releases_its_address_with_the_kernel_half() -> Result<()> {
    dhclient_gets_and_releases("auto")
}

#[test]
fn dhclient_gets_and_releases_its_address_without_the_kernel_half() -> Result<()> {
    dhclient_gets_and_releases("off")
}

fn dhclient_gets_and_releases(fast_path: &'static str) -> Result<()> {
    let Some(place) = Place::build(&Settings { fast_path, ..known() })? else { return Ok(()) };
    let xpxe = place.serve()?;
    let dir = place.rack.dir();
    // Without an address of its own dhclient could not send its RELEASE.
    let set_address = dir.join("set-address");
    write_script(
        &set_address,
        "[ \"$reason\" = BOUND ] && ip address add $new_ip_address/24 dev $interface\nexit 0\n",
    )?;
    for (name, mac, expected) in [("alice", ALICE.mac, Some("10.77.0.10")), ("stranger", STRANGER, None)] {
        let client = place.rack.client(name, mac)?;
        let (leases, pid) = (dir.join(format!("{name}.leases")), dir.join(format!("{name}.pid")));
        let mut dhclient = client.command("dhclient");
        dhclient.args(["-1", "-d", "-v", "-lf"]).arg(&leases).arg("-pf").arg(&pid);
        dhclient.arg("-sf").arg(if expected.is_some() { &set_address } else { Path::new("/bin/true") });
        dhclient.arg("eth0");
        let process = client.spawn(dhclient)?;
        let bound = process.wait_for_line("bound to", SOON).with_context(|| xpxe.last_lines(20))?;
        let address: Ipv4Addr = bound.text.split_whitespace().nth(2).unwrap_or_default().parse()?;
        match expected {
            Some(expected) => ensure!(address.to_string() == expected, "{}", bound.text),
            None => ensure!(in_pool(address), "{}", bound.text),
        }
        let written = fs::read_to_string(&leases)?;
        let mut wanted = vec![
            format!("fixed-address {address};"),
            "option subnet-mask 255.255.255.0;".to_owned(),
            "option routers 10.77.0.254;".to_owned(),
            "option domain-name-servers 10.77.0.53,10.77.0.54;".to_owned(),
            "option domain-name \"rack.test\";".to_owned(),
            "option dhcp-lease-time 600;".to_owned(),
            format!("option dhcp-server-identifier {SERVER_ADDRESS};"),
        ];
        wanted.extend(expected.map(|_| "option host-name \"alice\";".to_owned()));
        for line in wanted {
            ensure!(written.contains(&line), "{name}'s lease has no {line:?}:\n{written}");
        }
        if expected.is_some() {
            drop(process);
            let leases = leases.display().to_string();
            let pid = pid.display().to_string();
            client
                .output("dhclient", &["-r", "-v", "-lf", &leases, "-pf", &pid, "-sf", "/bin/true", "eth0"])?;
            xpxe.wait_for_event("alice's release", SOON, |event| {
                event.field("step") == "release" && event.field("mac") == ALICE.mac
            })?;
        }
    }
    answered_by_the_right_half(&xpxe, fast_path)
}

#[test]
fn a_client_behind_a_relay_gets_an_address_of_its_own_subnet() -> Result<()> {
    for fast_path in ["auto", "off"] {
        let far_subnet = "\n[[subnet]]\ncidr = \"10.78.0.0/24\"\npool = [\"10.78.0.100-10.78.0.199\"]\nrouter = \"10.78.0.1\"\n";
        let settings = Settings { fast_path, more: far_subnet.to_owned(), ..known() };
        let Some(place) = Place::build(&settings)? else { return Ok(()) };
        let far = place.rack.segment_behind_router(&place.sandbox)?;
        let xpxe = place.serve()?;
        let _relay = far.start_relay()?;
        let client = far.client("far", "02:78:00:00:00:10")?;
        let at_the_router = Wire::open(&far.router, "eth0")?;
        let lease = Udhcpc::start(&place.rack, &client)?.wait_for("bound", &xpxe)?;
        let address: Ipv4Addr = lease.get("ip").parse()?;
        ensure!(address.octets()[..3] == [10, 78, 0] && address.octets()[3] >= 100, "{lease:?}");
        ensure!(lease.get("subnet") == "255.255.255.0" && lease.get("router") == "10.78.0.1", "{lease:?}");
        ensure!(lease.get("serverid") == SERVER_ADDRESS, "{lease:?}");
        for kind in [MessageType::Offer, MessageType::Ack] {
            let to_relay = at_the_router
                .hear(SOON, |frame| Reply::parse(frame).filter(|reply| reply.kind() == Some(kind)))?;
            let reply = to_relay.with_context(|| format!("no {kind:?} passed the router"))?;
            ensure!(
                (reply.to, reply.to_port) == (Ipv4Addr::new(10, 78, 0, 1), 67),
                "the {kind:?} went to {}:{}, not to giaddr:67",
                reply.to,
                reply.to_port
            );
        }
        // On the server's own segment nothing has changed.
        let near = Wire::open(&*place.rack.client("near", CARD)?, "eth0")?;
        let offer = near.discover(&Client::new(mac(STRANGER)?))?;
        ensure!(in_pool(offer.address()), "on the server's own segment: {}", offer.address());
    }
    Ok(())
}

// ---- files ----

#[test]
fn every_tftp_client_and_curl_get_files_unchanged() -> Result<()> {
    let Some(place) = Place::build(&known())? else { return Ok(()) };
    // No multiple of any block size, and long enough for a window or two.
    let own: Vec<u8> = (0..300_001u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let path = boot_dir(&place.rack).join(OWN_FILE);
    fs::create_dir_all(path.parent().context("has a directory")?)?;
    fs::write(&path, &own)?;
    let snponly = fs::read("/usr/lib/ipxe/snponly.efi").context("package ipxe (cargo xtask setup)")?;
    let xpxe = place.serve()?;
    let client = place.rack.neighbour("client", CARD, "10.77.0.9/24")?;
    for (name, expected) in [(SNPONLY, &snponly), (OWN_FILE, &own)] {
        let http = format!("http://{SERVER_ADDRESS}:8080/files/{name}");
        let tftp = format!("tftp://{SERVER_ADDRESS}/{name}");
        let commands: [(&str, &[&str]); 7] = [
            ("curl", &["-sSf", "-o", "out", &http]),
            ("curl", &["-sSf", "--tftp-blksize", "1468", "-o", "out", &tftp]),
            ("atftp", &["-g", "-r", name, "-l", "out", SERVER_ADDRESS]),
            ("atftp", &["--option", "blksize 1428", "-g", "-r", name, "-l", "out", SERVER_ADDRESS]),
            ("tftp", &["-m", "binary", SERVER_ADDRESS, "-c", "get", name, "out"]),
            ("busybox", &["tftp", "-g", "-r", name, "-l", "out", SERVER_ADDRESS]),
            ("busybox", &["tftp", "-g", "-b", "1468", "-r", name, "-l", "out", SERVER_ADDRESS]),
        ];
        for (program, arguments) in commands {
            let dir = place.rack.dir().join("download");
            fs::create_dir_all(&dir)?;
            let mut command = client.command("timeout");
            command.arg("20").arg(program).args(arguments).current_dir(&dir);
            let output = command.output()?;
            let what = || {
                let said = String::from_utf8_lossy(&output.stderr);
                format!("{program} {arguments:?}: {}: {said}\n{}", output.status, xpxe.last_lines(10))
            };
            let got = fs::read(dir.join("out")).with_context(what)?;
            ensure!(output.status.success(), "{}", what());
            ensure!(
                got == *expected,
                "{} of {} bytes arrived, or others: {}",
                got.len(),
                expected.len(),
                what()
            );
            fs::remove_dir_all(&dir)?;
        }
    }
    Ok(())
}

// ---- the kernel half without the daemon ----

#[test]
fn the_kernel_answers_known_machines_while_the_daemon_is_dead_and_is_adopted() -> Result<()> {
    let Some(place) = Place::build(&known())? else { return Ok(()) };
    let mut xpxe = place.serve()?;
    let wire = place.client()?;
    let [alice, bob] = [Client::new(mac(ALICE.mac)?), Client::firmware(mac(BOB.mac)?, 7)];
    let [stranger, late] = [Client::new(mac(STRANGER)?), Client::new(mac(OTHER_STRANGER)?)];
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
    // No lease of his is stored, so nobody may promise one.
    let early = wire.ask_within(&bob.request(&offered), SILENCE)?;
    ensure!(early.is_none(), "an ACK without a stored lease: {early:?}");
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
    ensure!(missed.message().contains(" 3 packets"), "{}", missed.message());
    let exchanged =
        xpxe.wait_for_event("the exchange of programs", SOON, |event| event.field("adopted") == "true")?;
    ensure!(exchanged.message().contains("exchanged"), "{:?}", exchanged.json);

    let acked = wire.ask(&bob.request(&offered), MessageType::Ack)?;
    ensure!(acked.address() == offered.address(), "bob got {}", acked.address());
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
fn a_restart_loses_no_lease_even_with_the_kernel_half_gone() -> Result<()> {
    keeps_leases(Signal::SIGTERM)
}

#[test]
fn a_kill_loses_no_lease_even_with_the_kernel_half_gone() -> Result<()> {
    keeps_leases(Signal::SIGKILL)
}

fn keeps_leases(end: Signal) -> Result<()> {
    let Some(place) = Place::build(&known())? else { return Ok(()) };
    let mut xpxe = place.serve()?;
    let wire = place.client()?;
    let clients: Vec<_> = (0..5u8).map(|n| Client::new([2, 0x77, 0, 0, 1, n])).collect();
    let leases: Vec<_> = clients.iter().map(|client| wire.lease(client)).collect::<Result<_>>()?;
    if end == Signal::SIGKILL {
        xpxe.kill9()?;
    } else {
        xpxe.stop()?;
    }
    place.detach(&xpxe)?;
    xpxe.restart()?;
    let newcomer = wire.lease(&Client::new(mac(STRANGER)?))?;
    for (client, lease) in clients.iter().zip(&leases).rev() {
        ensure!(newcomer.address() != lease.address(), "{} has two owners", lease.address());
        let offer = wire.discover(client)?;
        ensure!(
            offer.address() == lease.address(),
            "had {}, is offered {}",
            lease.address(),
            offer.address()
        );
        let ack = wire.ask(&client.request(&offer), MessageType::Ack)?;
        ensure!(ack.address() == lease.address(), "had {}, got {}", lease.address(), ack.address());
    }
    xpxe.stop()
}

#[test]
fn detach_under_a_running_daemon_costs_speed_and_not_service() -> Result<()> {
    let Some(place) = Place::build(&known())? else { return Ok(()) };
    let xpxe = place.serve()?;
    let wire = place.client()?;
    place.detach(&xpxe)?;
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
    wire.lease(&Client::new(mac(STRANGER)?)).with_context(|| xpxe.last_lines(20))?;
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

// ---- a changed file ----

#[test]
fn a_changed_file_reaches_the_kernel_half_with_the_restart() -> Result<()> {
    let Some(place) = Place::build(&known())? else { return Ok(()) };
    let mut xpxe = place.serve()?;
    let wire = place.client()?;
    let alice = Client::new(mac(ALICE.mac)?).with(77, b"iPXE");
    wire.lease(&alice)?;
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
    // What was stored for the old address is no promise of the new one.
    let answer = wire.ask_within(&alice.request(&offer), SILENCE)?;
    ensure!(answer.is_none(), "an ACK without a stored lease: {answer:?}");
    Ok(())
}

#[test]
fn an_address_that_the_file_now_reserves_is_taken_from_its_holder() -> Result<()> {
    let Some(place) = Place::build(&known())? else { return Ok(()) };
    let mut xpxe = place.serve()?;
    let wire = place.client()?;
    let [alice, stranger] = [Client::new(mac(ALICE.mac)?), Client::new(mac(STRANGER)?)];
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
    for fast_path in ["auto", "off"] {
        let Some(place) = Place::build(&Settings { fast_path, ..known() })? else { return Ok(()) };
        let mut xpxe = place.serve()?;
        let wire = place.client()?;
        let stranger = Client::new(mac(STRANGER)?);
        wire.lease(&stranger)?;
        xpxe.write_config(&ignoring_unknown(&place.config))?;
        xpxe.restart()?;
        answered.extend(wire.ask_within(&stranger.discover(), SILENCE)?.map(|answer| (fast_path, answer)));
        xpxe.stop()?;
    }
    ensure!(answered.is_empty(), "unknown = \"ignore\": {answered:#?}");
    Ok(())
}

#[test]
fn a_proxy_that_ignores_unknown_machines_does_not_answer_them() -> Result<()> {
    let mut answered = Vec::new();
    for fast_path in ["auto", "off"] {
        let machines = vec![Known { address: None, ..ALICE }];
        let settings = Settings { dhcp: "proxy", fast_path, machines, ..Settings::default() };
        let Some(mut place) = Place::build(&settings)? else { return Ok(()) };
        place.config = ignoring_unknown(&place.config);
        let xpxe = place.serve()?;
        let wire = place.client()?;
        wire.discover(&Client::firmware(mac(ALICE.mac)?, 7)).context("alice is in the file")?;
        let stranger = Client::firmware(mac(STRANGER)?, 7);
        answered.extend(wire.ask_within(&stranger.discover(), SILENCE)?.map(|answer| (fast_path, answer)));
        xpxe.stop()?;
    }
    ensure!(answered.is_empty(), "unknown = \"ignore\": {answered:#?}");
    Ok(())
}

fn ignoring_unknown(config: &str) -> String {
    config.replace("[default]\n", "[default]\nunknown = \"ignore\"\n")
}

// ---- interfaces ----

#[test]
fn an_interface_without_xdp_says_so_once_and_is_answered_by_tc() -> Result<()> {
    // The interface, the commands that make it from eth0, and the client's.
    let kinds: [(&str, &[&str], &str); 3] = [
        (
            "br0",
            &["link add br0 type bridge stp_state 0 forward_delay 0", "link set eth0 master br0"],
            "eth0",
        ),
        ("mv0.5", &["link add link eth0 name mv0.5 type macvlan mode bridge"], "eth0"),
        ("eth0.5", &["link add link eth0 name eth0.5 type vlan id 5"], "eth0.5"),
    ];
    for (interface, setup, client_interface) in kinds {
        let Some(place) = Place::build(&Settings { interface, ..known() })? else { return Ok(()) };
        let server = &place.rack.server;
        let address = format!("address add {SERVER_ADDRESS}/24 dev {interface}");
        let up = format!("link set {interface} up");
        let commands = ["address flush dev eth0"].iter().chain(setup).copied().chain([address.as_str(), &up]);
        let mut made = commands.map(|command| server.output("ip", &command.split(' ').collect::<Vec<_>>()));
        match made.find_map(Result::err) {
            Some(error) if error.to_string().contains("Unknown device type") => {
                println!("skipped: this kernel has nothing like {interface}");
                continue;
            }
            Some(error) => return Err(error),
            None => {}
        }
        drop(made);
        let mut xpxe = place.serve()?;
        let says = |log: &[Event]| {
            let about =
                |event: &&Event| event.message().contains("XDP") && event.message().contains(interface);
            log.iter().filter(about).filter(|event| event.field("level") == "WARN").count()
        };
        ensure!(says(&xpxe.log()) == 1, "{interface}: not one warning:\n{}", xpxe.last_lines(20));
        let station = place.rack.client("client", CARD)?;
        if client_interface != "eth0" {
            station.output(
                "ip",
                &["link", "add", "link", "eth0", "name", client_interface, "type", "vlan", "id", "5"],
            )?;
            station.output("ip", &["link", "set", client_interface, "up"])?;
        }
        let wire = Wire::open(&station, client_interface)?;
        let alice = Client::new(mac(ALICE.mac)?);
        let ack = wire.lease(&alice).with_context(|| format!("{interface}\n{}", xpxe.last_lines(20)))?;
        ensure!(ack.address() == Ipv4Addr::new(10, 77, 0, 10), "{interface}: {}", ack.address());
        xpxe.wait_for_event("the offer by TC", SOON, |event| {
            event.field("step") == "offer" && event.field("mac") == ALICE.mac && event.field("by") == "tc"
        })?;
        // The link is found again under its pin.
        xpxe.kill9()?;
        wire.discover(&alice).with_context(|| format!("{interface}: with the daemon dead"))?;
        xpxe.restart()?;
        wire.lease(&alice).with_context(|| format!("{interface}: after adoption"))?;
        let adopted = xpxe.log().iter().filter(|event| event.field("adopted") == "true").count();
        ensure!(adopted == 1, "{interface}: not adopted:\n{}", xpxe.last_lines(20));
    }
    Ok(())
}

#[test]
fn an_interface_that_went_down_is_served_when_it_is_up_again() -> Result<()> {
    for fast_path in ["auto", "off"] {
        let Some(place) = Place::build(&Settings { fast_path, ..known() })? else { return Ok(()) };
        let xpxe = place.serve()?;
        let wire = place.client()?;
        for round in 0..2u8 {
            for state in ["down", "up"] {
                place.rack.server.output("ip", &["link", "set", "eth0", state])?;
            }
            let carrier = || place.rack.server.output("ip", &["link", "show", "dev", "eth0"]);
            eventually(SOON, "eth0 is up", || carrier().is_ok_and(|text| text.contains("state UP")))?;
            let stranger = Client::new([2, 0x77, 0, 0, 3, round]);
            wire.lease(&stranger)
                .with_context(|| format!("{fast_path}: a stranger\n{}", xpxe.last_lines(20)))?;
            wire.lease(&Client::new(mac(ALICE.mac)?)).with_context(|| format!("{fast_path}: alice"))?;
        }
        xpxe.stop()?;
    }
    Ok(())
}

#[test]
fn a_new_interface_under_the_old_name_is_served_after_a_restart() -> Result<()> {
    // Not XDP: the new far end has no program there, and then XDP_TX on a veth delivers nothing.
    let Some(place) = Place::build(&Settings { fast_path: "tc", ..known() })? else { return Ok(()) };
    let mut xpxe = place.serve()?;
    let wire = place.client()?;
    let [alice, stranger] = [Client::new(mac(ALICE.mac)?), Client::new(mac(STRANGER)?)];
    let before = wire.lease(&stranger)?;
    xpxe.stop()?;
    let server = &place.rack.server;
    server.output("ip", &["link", "delete", "eth0"])?;
    // So that it is not by chance the same number.
    server.output("ip", &["link", "add", "spare", "type", "bridge"])?;
    place.rack.plug(server, "eth0", SERVER_MAC)?;
    server.output("ip", &["address", "add", &format!("{SERVER_ADDRESS}/24"), "dev", "eth0"])?;
    xpxe.restart()?;
    wire.lease(&alice).with_context(|| xpxe.last_lines(20))?;
    let offers = |event: &Event| {
        event.field("step") == "offer" && event.field("mac") == ALICE.mac && event.field("by") == "tc"
    };
    xpxe.wait_for_event("alice's offer by TC", SOON, offers)?;
    ensure!(wire.lease(&stranger)?.address() == before.address(), "the stranger has another address");
    xpxe.stop()
}

#[test]
fn an_interface_that_must_have_xdp_and_has_none_is_refused_in_one_sentence() -> Result<()> {
    let Some(place) = Place::build(&Settings { interface: "br0", fast_path: "xdp", ..known() })? else {
        return Ok(());
    };
    for command in ["link add br0 type bridge", "address add 10.77.0.2/24 dev br0", "link set br0 up"] {
        place.rack.server.output("ip", &command.split(' ').collect::<Vec<_>>())?;
    }
    refused(&place, &[], &["br0", "XDP", "fast_path"])
}

// ---- what keeps it from starting ----

#[test]
fn another_server_on_a_port_is_named_with_the_port_and_the_way_out() -> Result<()> {
    let Some(place) = Place::build(&known())? else { return Ok(()) };
    {
        let _other = dnsmasq_plain_dhcp(&place.rack.server, place.rack.dir(), "10.77.0.100,10.77.0.199")?;
        refused(&place, &[], &["port 67", "dnsmasq", "stop that server"])?;
    }
    // A second xpxe meets the first one's HTTP port.
    let xpxe = place.serve()?;
    refused(&place, &[], &["8080", "listen"])?;
    // And the first one goes on.
    place.client()?.lease(&Client::new(mac(STRANGER)?))?;
    xpxe.stop()
}

#[test]
fn without_capabilities_it_says_which_are_missing() -> Result<()> {
    let Some(place) = Place::build(&known())? else { return Ok(()) };
    let none = ["setpriv", "--bounding-set", "-all", "--inh-caps", "-all"];
    refused(&place, &none, &["CAP_NET", "systemd unit"])?;
    let bind_only = ["setpriv", "--bounding-set", "-all,+net_bind_service", "--inh-caps", "-all"];
    refused(&place, &bind_only, &["CAP_NET_RAW", "systemd unit"])?;
    let no_bpf = ["setpriv", "--bounding-set", "-all,+net_bind_service,+net_raw", "--inh-caps", "-all"];
    refused(&place, &no_bpf, &["CAP_BPF", "CAP_NET_ADMIN", "fast_path = \"off\""])
}

#[test]
fn two_capabilities_are_enough_without_the_kernel_half() -> Result<()> {
    let Some(place) = Place::build(&Settings { fast_path: "off", ..known() })? else { return Ok(()) };
    let two = ["setpriv", "--bounding-set", "-all,+net_bind_service,+net_raw", "--inh-caps", "-all"];
    let process = place.spawn(&two)?;
    process.wait_for_line("\"ready\"", SOON)?;
    place.client()?.lease(&Client::new(mac(ALICE.mac)?))?;
    let status = process.terminate(SOON)?;
    ensure!(status.success(), "{}", ending(status));
    Ok(())
}

#[test]
fn a_pin_dir_outside_of_a_bpffs_is_refused_in_one_sentence() -> Result<()> {
    let Some(mut place) = Place::build(&known())? else { return Ok(()) };
    let pins = place.rack.dir().join("pins").display().to_string();
    place.config = place.config.replace(&pin_dir(&place.sandbox).display().to_string(), &pins);
    refused(&place, &[], &["pin_dir", &pins, "bpffs"])
}

#[test]
fn with_dhcp_off_another_server_may_have_the_port() -> Result<()> {
    let Some(place) = Place::build(&Settings { dhcp: "off", ..Settings::default() })? else { return Ok(()) };
    let dnsmasq = dnsmasq_plain_dhcp(&place.rack.server, place.rack.dir(), "10.77.0.100,10.77.0.199")?;
    let xpxe = place.serve()?;
    let wire = place.client()?;
    let pxe = Client::firmware(mac(STRANGER)?, 7);
    let offer = wire.ask_within(&pxe.discover(), SOON)?.context("dnsmasq answers")?;
    ensure!(in_pool(offer.address()) && offer.boot_file().is_empty(), "{:?}", offer.message);
    dnsmasq.wait_for_line("DHCPOFFER", SOON)?;
    let other = wire.hear_reply(&[offer.message.xid()], SILENCE)?;
    ensure!(other.is_none(), "a second answer: {other:?}\n{}", xpxe.last_lines(10));
    let client = place.rack.neighbour("files", BOB.mac, "10.77.0.9/24")?;
    client.output("curl", &["-sSf", "-o", "/dev/null", &format!("tftp://{SERVER_ADDRESS}/{SNPONLY}")])?;
    xpxe.stop()
}

// ---- answers ----

#[test]
fn a_proxy_answers_pxe_clients_only_and_gives_no_address() -> Result<()> {
    for fast_path in ["auto", "off"] {
        let settings = Settings { dhcp: "proxy", fast_path, ..Settings::default() };
        let Some(place) = Place::build(&settings)? else { return Ok(()) };
        let xpxe = place.serve()?;
        let wire = place.client()?;
        let stranger = mac(STRANGER)?;
        let answer = wire.ask_within(&Client::new(stranger).discover(), SILENCE)?;
        ensure!(answer.is_none(), "{fast_path}: an operating system is answered: {answer:?}");
        for (arch, file) in [
            (0, "undionly.kpxe"),
            (7, SNPONLY),
            (9, SNPONLY),
            (16, "http://10.77.0.1:8080/files/snponly.efi"),
        ] {
            let offer = wire.discover(&Client::firmware(stranger, arch))?;
            let what = format!("{fast_path}, architecture {arch}: {:?}", offer.message);
            ensure!(offer.address().is_unspecified(), "an address: {what}");
            ensure!(offer.message.opts().get(OptionCode::AddressLeaseTime).is_none(), "a lease: {what}");
            ensure!(offer.boot_file() == file, "{:?}: {what}", offer.boot_file());
            let class = offer.message.opts().get(OptionCode::ClassIdentifier);
            let expected: &[u8] = if arch == 16 { b"HTTPClient" } else { b"PXEClient" };
            ensure!(class == Some(&DhcpOption::ClassIdentifier(expected.to_vec())), "{class:?}: {what}");
        }
        xpxe.stop()?;
    }
    Ok(())
}

#[test]
fn no_two_machines_are_offered_one_address_and_a_full_pool_is_said() -> Result<()> {
    for fast_path in ["auto", "off"] {
        let Some(place) = Place::build(&Settings { fast_path, ..known() })? else { return Ok(()) };
        let xpxe = place.serve()?;
        let wire = place.client()?;
        // The pool has 100 addresses. All at once, nobody waits for the neighbour's answer.
        let clients: Vec<_> =
            (0..120u8).map(|n| Client::firmware([2, 0x77, 0, 0, 4, n], 7).discover()).collect();
        for discover in &clients {
            wire.send(&broadcast(discover)?)?;
        }
        let xids: Vec<_> = clients.iter().map(Message::xid).collect();
        let mut offered = BTreeSet::new();
        for number in 0..100 {
            let offer = wire.hear_reply(&xids, SOON)?;
            let offer = offer.with_context(|| format!("only {number} offers\n{}", xpxe.last_lines(5)))?;
            ensure!(
                offer.kind() == Some(MessageType::Offer) && offer.checksums_are_right,
                "{:?}",
                offer.message
            );
            ensure!(in_pool(offer.address()), "{} is not of the pool", offer.address());
            ensure!(offered.insert(offer.address()), "{} was offered twice", offer.address());
        }
        xpxe.wait_for_event("the full pool", SOON, |event| {
            event.field("level") == "WARN" && event.message().contains("enlarge its pool")
        })?;
        let more = wire.hear_reply(&xids, SILENCE)?;
        ensure!(more.is_none(), "an address from nowhere: {more:?}");
        xpxe.stop()?;
    }
    Ok(())
}

#[test]
fn an_address_that_a_client_declines_is_not_offered_again() -> Result<()> {
    for fast_path in ["auto", "off"] {
        let Some(place) = Place::build(&Settings { fast_path, ..known() })? else { return Ok(()) };
        let xpxe = place.serve()?;
        let wire = place.client()?;
        let stranger = Client::new(mac(STRANGER)?);
        let ack = wire.lease(&stranger)?;
        let mut decline = stranger.request(&ack);
        decline.opts_mut().insert(DhcpOption::MessageType(MessageType::Decline));
        let answer = wire.ask_within(&decline, SILENCE)?;
        ensure!(answer.is_none(), "{fast_path}: a DECLINE is answered: {answer:?}");
        xpxe.wait_for_event("the warning", SOON, |event| event.field("step") == "decline")?;
        let again = wire.lease(&stranger)?;
        ensure!(again.address() != ack.address(), "{fast_path}: {} again", ack.address());
        let other = wire.lease(&Client::new(mac(OTHER_STRANGER)?))?;
        ensure!(
            ![ack.address(), again.address()].contains(&other.address()),
            "{fast_path}: {}",
            other.address()
        );
        xpxe.stop()?;
    }
    Ok(())
}

#[test]
fn ipxe_is_sent_to_its_script_and_never_to_a_loader_again() -> Result<()> {
    // Every architecture with a number of its own, one without, and none at all.
    let architectures = [0, 6, 7, 9, 10, 11, 15, 16, 18, 19, 21, 22, 23, 27, 28, 39, 40, 4711];
    let marks: [(&str, u8, &[u8]); 3] = [
        ("user class as iPXE sends it", 77, b"iPXE"),
        ("user class as RFC 3004 has it", 77, b"\x04iPXE"),
        ("option 175 alone", 175, &[177, 5, 1, 0x80, 0x86, 0x10, 0x0e, 235, 3, 1, 0, 0]),
    ];
    for (dhcp, fast_path) in [("server", "auto"), ("server", "off"), ("proxy", "auto"), ("proxy", "off")] {
        let machines =
            vec![Known { address: known().machines[0].address.filter(|_| dhcp == "server"), ..ALICE }];
        let Some(place) = Place::build(&Settings { dhcp, fast_path, machines, ..Settings::default() })?
        else {
            return Ok(());
        };
        let xpxe = place.serve()?;
        let wire = place.client()?;
        for (how, code, value) in marks {
            for mac in [mac(ALICE.mac)?, mac(STRANGER)?] {
                let mut clients: Vec<_> = architectures.map(|arch| Client::firmware(mac, arch)).into();
                clients.push(Client::new(mac).with(60, b"PXEClient"));
                clients.push(Client::new(mac));
                for client in clients {
                    let client = client.with(code, value);
                    let what = || format!("{dhcp}, {fast_path}, {how}, {client:02x?}");
                    let offer = wire.discover(&client).with_context(what)?;
                    ensure!(offer.boot_file() == SCRIPT_URL, "{}: {:?}", what(), offer.boot_file());
                    let file =
                        String::from_utf8_lossy(offer.message.fname().unwrap_or_default()).into_owned();
                    let file = file.trim_end_matches('\0');
                    ensure!([SCRIPT_URL, ""].contains(&file), "{}: the field file is {file:?}", what());
                }
            }
        }
        xpxe.stop()?;
    }
    Ok(())
}

#[test]
fn a_router_solicitation_of_a_known_machine_is_answered_with_no_router() -> Result<()> {
    let Some(place) = Place::build(&known())? else { return Ok(()) };
    let _xpxe = place.serve()?;
    let wire = place.client()?;
    let [alice, stranger] = [mac(ALICE.mac)?, mac(STRANGER)?];
    // In this order: when the second is answered, the first had its turn.
    for mac in [stranger, alice] {
        wire.send(&router_solicitation(mac))?;
    }
    let mut heard = Vec::new();
    while let Some((to, advertisement)) = wire.hear(SILENCE, router_advertisement)? {
        heard.push((to, advertisement));
    }
    let [(to, advertisement)] = &heard[..] else { panic!("one advertisement, not {heard:02x?}") };
    assert_eq!(*to, alice, "sent to another station: {advertisement:02x?}");
    // Type, code, checksum; hop limit, flags, router lifetime; reachable time, retransmission timer; options.
    assert_eq!(advertisement[4..16], [0; 12], "an empty advertisement: {advertisement:02x?}");
    let options: Vec<u8> = [&[1, 1][..], &mac(SERVER_MAC)?].concat();
    assert_eq!(advertisement[16..], options, "no prefix, only who it is: {advertisement:02x?}");
    Ok(())
}

/// Spoils a message.
type Change = fn(&mut Vec<u8>);

#[test]
fn malformed_packets_are_not_answered_and_harm_nobody() -> Result<()> {
    for fast_path in ["auto", "off"] {
        let Some(place) = Place::build(&Settings { fast_path, ..known() })? else { return Ok(()) };
        let xpxe = place.serve()?;
        let wire = place.client()?;
        let alice = Client::firmware(mac(ALICE.mac)?, 7);
        let good = alice.discover();
        let xid = good.xid();
        let bytes = payload(&good)?;
        let to_all = Datagram { source_mac: alice.mac(), ..Datagram::default() };
        let mut frames: Vec<(String, Vec<u8>)> = Vec::new();
        let changes: [(&str, Change); 12] = [
            ("a reply, not a request", |bytes| bytes[0] = 2),
            ("op 0", |bytes| bytes[0] = 0),
            ("hardware address of 255 bytes", |bytes| bytes[2] = 255),
            ("hardware address of 16 bytes", |bytes| bytes[2] = 16),
            ("hardware address of 0 bytes", |bytes| bytes[2] = 0),
            ("no Ethernet", |bytes| bytes[1] = 32),
            ("a group as hardware address", |bytes| bytes[28] = 0x33),
            ("no hardware address", |bytes| bytes[28..34].fill(0)),
            ("wrong magic cookie", |bytes| bytes[236] ^= 1),
            ("first option longer than the packet", |bytes| bytes[241] = 255),
            ("relay of no subnet", |bytes| bytes[24..28].copy_from_slice(&[10, 99, 0, 1])),
            // Of a machine without a reserved address: those are served by BOOTP too.
            ("no message type", |bytes| {
                bytes[240..].fill(0);
                bytes[33] = 0x77;
            }),
        ];
        for (what, change) in &changes {
            let mut bytes = bytes.clone();
            change(&mut bytes);
            frames.push(((*what).to_owned(), to_all.frame(&bytes)));
        }
        // Option 53 lies at 240 to 242.
        for length in (0..=240).step_by(8).chain([1, 235, 239, 241, 242]) {
            frames.push((format!("cut to {length} bytes"), to_all.frame(&bytes[..length])));
        }
        frames.push(("from port 0".to_owned(), Datagram { source_port: 0, ..to_all }.frame(&bytes)));
        let group = Ipv4Addr::new(239, 1, 1, 1);
        frames.push(("from a group".to_owned(), Datagram { source: group, ..to_all }.frame(&bytes)));
        let mut wrong_sum = to_all.frame(&bytes);
        wrong_sum[40] ^= 0x55;
        frames.push(("wrong UDP checksum".to_owned(), wrong_sum));
        let mut wrong_length = to_all.frame(&bytes);
        wrong_length[38] = 0xff;
        frames.push(("UDP longer than IP".to_owned(), wrong_length));
        let mut beyond = to_all.frame(&bytes);
        beyond.truncate(200);
        frames.push(("IP longer than the frame".to_owned(), beyond));
        let pxe = Datagram { to_port: 4011, ..to_all };
        frames.push(("nonsense to port 4011".to_owned(), pxe.frame(&[0xff; 64])));
        frames.push(("DISCOVER to port 4011".to_owned(), pxe.frame(&bytes)));
        // Without options it is BOOTP, which is for machines with a reserved address.
        let mut long: Vec<u8> = bytes[..240].iter().copied().chain([0xff; 1100]).collect();
        long[33] = 0x77;
        frames.push(("no options, and long".to_owned(), to_all.frame(&long)));

        for (number, (what, frame)) in frames.iter().enumerate() {
            wire.send(frame)?;
            // The daemon takes packets in their order, and only it can know this client.
            let number = u8::try_from(number)?;
            let marker = Client::new([2, 0x77, 0, 0, 2, number]).discover();
            wire.send(&broadcast(&marker)?)?;
            let first = wire.hear_reply(&[xid, marker.xid()], SOON)?;
            let first = first.with_context(|| format!("silent after {what:?}\n{}", xpxe.last_lines(20)))?;
            ensure!(first.message.xid() == marker.xid(), "{what:?} is answered: {:?}", first.message);
        }
        let late = wire.hear_reply(&[xid], SILENCE)?;
        ensure!(late.is_none(), "one of them is answered: {late:?}");
        ensure!(xpxe.is_running(), "{}", xpxe.last_lines(20));
        let panics = xpxe.log().into_iter().find(|event| event.message().contains("panicked"));
        ensure!(panics.is_none(), "{panics:?}");
        // What was changed each time was right to begin with.
        wire.ask(&good, MessageType::Offer)?;
        xpxe.stop()?;
    }
    Ok(())
}

#[test]
fn a_request_for_another_servers_offer_is_left_to_it() -> Result<()> {
    for fast_path in ["auto", "off"] {
        let Some(place) = Place::build(&Settings { fast_path, ..known() })? else { return Ok(()) };
        let _xpxe = place.serve()?;
        let wire = place.client()?;
        for mac in [mac(ALICE.mac)?, mac(STRANGER)?] {
            let client = Client::new(mac);
            let offer = wire.discover(&client)?;
            let mut request = client.request(&offer);
            set_server(&mut request, Ipv4Addr::new(10, 77, 0, 200));
            let answer = wire.ask_within(&request, SILENCE)?;
            ensure!(answer.is_none(), "{fast_path}: {answer:?}");
        }
    }
    Ok(())
}

#[test]
fn a_machine_that_asks_for_a_foreign_address_is_refused_at_once() -> Result<()> {
    for fast_path in ["auto", "off"] {
        let Some(place) = Place::build(&Settings { fast_path, ..known() })? else { return Ok(()) };
        let _xpxe = place.serve()?;
        let wire = place.client()?;
        // As after a move from another network (RFC 2131 section 4.3.2, INIT-REBOOT).
        let mut request = Client::new(mac(ALICE.mac)?).message();
        request.opts_mut().insert(DhcpOption::MessageType(MessageType::Request));
        request.opts_mut().insert(DhcpOption::RequestedIpAddress(Ipv4Addr::new(192, 168, 1, 7)));
        let nak = wire.ask(&request, MessageType::Nak)?;
        ensure!((nak.to_mac, nak.to) == (BROADCAST, Ipv4Addr::BROADCAST), "to {}", nak.to);
        ensure!(nak.address().is_unspecified(), "a NAK with {}", nak.address());
        ensure!(nak.message.opcode() == Opcode::BootReply, "{:?}", nak.message);
        ensure!(nak.message.opts().get(OptionCode::AddressLeaseTime).is_none(), "{:?}", nak.message);
    }
    Ok(())
}

// ---- the place ----

/// A sandbox, a rack in it and a configuration.
struct Place {
    rack: Rack,
    config: String,
    sandbox: Sandbox,
}

impl Place {
    /// `None` without root.
    fn build(settings: &Settings) -> Result<Option<Self>> {
        if !root_or_skip() {
            return Ok(None);
        }
        let sandbox = Sandbox::enter()?;
        let rack = Rack::build(&sandbox)?;
        let config = settings.write(&sandbox, &rack)?;
        Ok(Some(Self { rack, config, sandbox }))
    }

    fn serve(&self) -> Result<Xpxe<'_>> {
        Xpxe::start(&self.rack, &self.config, &[])
    }

    /// Starts xpxe by way of another command and does not wait for anything.
    fn spawn(&self, by: &[&str]) -> Result<Process> {
        let file = self.rack.dir().join("xpxe.toml");
        fs::write(&file, &self.config)?;
        let binary = binary()?.display().to_string();
        let file = file.display().to_string();
        let serve = [&binary, "serve", "--config", &file, "--log-format", "json"];
        let mut words = by.iter().copied().chain(serve);
        let mut command = self.rack.server.command(words.next().context("a command")?);
        command.args(words);
        self.rack.server.spawn(command)
    }

    /// A wire that plays every client.
    fn client(&self) -> Result<PlayedClients> {
        let station = self.rack.client("client", CARD)?;
        Ok(PlayedClients { wire: Wire::open(&station, "eth0")?, _station: station })
    }

    fn detach(&self, xpxe: &Xpxe<'_>) -> Result<String> {
        let file = self.rack.dir().join("xpxe.toml");
        xpxe.command(&["detach", "--config", &file.display().to_string()])
    }
}

struct PlayedClients {
    wire: Wire,
    _station: Station,
}

impl std::ops::Deref for PlayedClients {
    type Target = Wire;

    fn deref(&self) -> &Wire {
        &self.wire
    }
}

fn known() -> Settings {
    Settings { machines: vec![ALICE, BOB], ..Settings::default() }
}

/// Serving ends by itself with code 1 and one line on standard error, which has all of `words`.
fn refused(place: &Place, by: &[&str], words: &[&str]) -> Result<()> {
    let process = place.spawn(by)?;
    let status = process.wait(SOON)?;
    eventually(SOON, "the end of its output", || process.output_ended().is_some())?;
    let lines: Vec<_> = process.lines().into_iter().map(|line| line.text).collect();
    ensure!(status.code() == Some(1), "{}: {lines:#?}", ending(status));
    let complaints: Vec<_> = lines.iter().filter(|line| !line.starts_with('{')).collect();
    ensure!(complaints.len() == 1, "not one sentence: {lines:#?}");
    println!("{}", complaints[0]);
    for word in words {
        ensure!(complaints[0].contains(word), "no {word:?} in: {}", complaints[0]);
    }
    Ok(())
}

/// With the kernel half, alice (who is known) was offered her address there; without it, nothing was.
fn answered_by_the_right_half(xpxe: &Xpxe<'_>, fast_path: &str) -> Result<()> {
    let log = xpxe.log();
    let offers = log.iter().filter(|event| event.field("step") == "offer" && event.field("mac") == ALICE.mac);
    let by: Vec<_> = offers.map(|event| event.field("by")).collect();
    let right = |by: &String| (by == "daemon") == (fast_path == "off");
    ensure!(!by.is_empty() && by.iter().all(right), "fast_path = {fast_path:?}: offered by {by:?}");
    Ok(())
}

fn in_pool(address: Ipv4Addr) -> bool {
    let [a, b, c, d] = address.octets();
    [a, b, c] == [10, 77, 0] && (100..=199).contains(&d)
}

fn set_server(message: &mut Message, server: Ipv4Addr) {
    message.opts_mut().insert(DhcpOption::ServerIdentifier(server));
}

fn link_details(rack: &Rack) -> Result<String> {
    rack.server.output("ip", &["-details", "link", "show", "dev", "eth0"])
}

/// The kernel takes the programs off a moment after their pins are gone.
fn no_xdp(rack: &Rack) -> Result<()> {
    eventually(SOON, "no XDP on eth0", || link_details(rack).is_ok_and(|text| !text.contains("xdp")))
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

fn write_script(path: &Path, body: &str) -> Result<()> {
    fs::write(path, format!("#!/bin/sh\n{body}"))?;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o755))?)
}

// ---- udhcpc ----

/// A running udhcpc that sets its address and writes down what it was told.
struct Udhcpc {
    process: Process,
    notes: PathBuf,
}

/// What the script got in its environment.
#[derive(Debug)]
struct Told(Vec<(String, String)>);

impl Told {
    fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(other, _)| other == name).map_or("", |(_, value)| value)
    }
}

impl Udhcpc {
    fn start(rack: &Rack, station: &Station) -> Result<Self> {
        let script = rack.dir().join(format!("{}.udhcpc", station.name()));
        let notes = script.with_extension("notes");
        // A reader never sees half of a file: it is renamed into place.
        let body = format!(
            "if [ $1 = bound ]; then ip address add $ip/$mask dev $interface; fi\n\
             env > {notes}.new && mv {notes}.new {notes}.$1\n",
            notes = notes.display()
        );
        write_script(&script, &body)?;
        let mut udhcpc = station.command("busybox");
        udhcpc.args(["udhcpc", "-i", "eth0", "-f", "-t", "5", "-T", "2", "-s"]).arg(&script);
        Ok(Self { process: station.spawn(udhcpc)?, notes })
    }

    fn wait_for(&self, what: &str, xpxe: &Xpxe<'_>) -> Result<Told> {
        let notes = PathBuf::from(format!("{}.{what}", self.notes.display()));
        let text = eventually_some(SOON, &format!("udhcpc is {what}"), || fs::read_to_string(&notes).ok())
            .with_context(|| {
                let said = boot_tests::netns::tail(&self.process.lines(), 20);
                format!("udhcpc:\n{said}xpxe:\n{}", xpxe.last_lines(20))
            })?;
        let pairs = text.lines().filter_map(|line| line.split_once('='));
        Ok(Told(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()))
    }
}

// ---- IPv6 router discovery ----

const ALL_ROUTERS: Mac = [0x33, 0x33, 0, 0, 0, 2];
const ROUTER_SOLICITATION: u8 = 133;
const ROUTER_ADVERTISEMENT: u8 = 134;

fn link_local([a, b, c, d, e, f]: Mac) -> [u8; 16] {
    [0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f]
}

fn router_solicitation(from: Mac) -> Vec<u8> {
    let to = [0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
    let mut icmp = vec![ROUTER_SOLICITATION, 0, 0, 0, 0, 0, 0, 0, 1, 1];
    icmp.extend(from);
    let pseudo = [&link_local(from)[..], &to, &[0, 0, 0, 16, 0, 0, 0, 58], &icmp].concat();
    icmp[2..4].copy_from_slice(&(!sum(&pseudo)).to_be_bytes());
    let headers = [&ALL_ROUTERS[..], &from, &[0x86, 0xdd, 0x60, 0, 0, 0, 0, 16, 58, 255]].concat();
    [&headers[..], &link_local(from), &to, &icmp].concat()
}

/// The receiver and the ICMPv6 part of a valid router advertisement; panics when its checksum is wrong.
fn router_advertisement(frame: &[u8]) -> Option<(Mac, Vec<u8>)> {
    let icmp = frame.get(54..)?;
    let is_one = frame[12..14] == [0x86, 0xdd] && frame[20] == 58 && *icmp.first()? == ROUTER_ADVERTISEMENT;
    if !is_one {
        return None;
    }
    let length = usize::from(u16::from_be_bytes([frame[18], frame[19]]));
    let icmp = icmp.get(..length)?;
    let pseudo = [&frame[22..54], &(length as u32).to_be_bytes(), &[0, 0, 0, 58], icmp].concat();
    assert_eq!(sum(&pseudo), 0xffff, "wrong checksum: {frame:02x?}");
    Some((frame[..6].try_into().ok()?, icmp.to_vec()))
}
