//! A configuration that changes while machines are served.

use std::fs;
use std::process::Output;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use boot_tests::daemon::Xpxe;
use boot_tests::dhcp_client::{Client, Reply, Wire, broadcast, mac};
use boot_tests::place::{ALICE, Place, SOON, UNKNOWN, known};
use boot_tests::rack::{Rack, SERVER_ADDRESS};
use boot_tests::settings::Settings;
use boot_tests::tftp_client::{Download, Padding};
use boot_tests::tftp_rack::{TftpRack, each_fast_path, same};
use boot_tests::wait::eventually;
use dhcproto::v4::{Message, MessageType};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};

/// The daemon runs, and the command that is to reach it cannot.
#[test]
fn without_its_socket_the_daemon_is_told_from_one_that_does_not_run() -> Result<()> {
    let Some(place) = Place::build(&Settings { fast_path: "off", ..known() })? else { return Ok(()) };
    let xpxe = place.serve()?;
    let (state, other) = (place.rack.dir().join("state"), place.rack.dir().join("other"));
    let file = place.rack.dir().join("xpxe.toml").display().to_string();
    let says = |verb: &[&str]| xpxe.command(&[verb, &["--config", &file]].concat());
    let refused = || says(&["reload"]).map_or_else(|error| Ok(format!("{error:#}")), |said| bail!("{said}"));

    // Another state_dir, which waits for a restart.
    let moved = place.config.replace(&format!("{state:?}"), &format!("{other:?}"));
    xpxe.write_config(&moved.replace("rack.test", "other.test"))?;
    let said = refused()?;
    let socket = other.join("api.sock");
    ensure!(
        said.contains(&format!("no xpxe answers on {}: it is not running, or", socket.display())),
        "{said}"
    );
    ensure!(said.contains("SIGHUP has it reload (systemctl reload xpxe)"), "{said}");
    kill(Pid::from_raw(xpxe.pid().cast_signed()), Signal::SIGHUP)?;
    let changed = "changed subnet 10.77.0.0/24: domain";
    xpxe.wait_for_event(changed, SOON, |event| event.message().ends_with(changed))?;

    // Somebody has removed the socket.
    xpxe.write_config(&place.config)?;
    fs::remove_file(state.join("api.sock"))?;
    let runs = format!(
        "xpxe (pid {}) runs, and does not answer on {}",
        xpxe.pid(),
        state.join("api.sock").display()
    );
    let said = refused()?;
    ensure!(said.contains(&runs) && said.contains("the socket was deleted"), "{said}");
    let said = says(&["explain", "alice"])?;
    ensure!(said.contains(&runs), "{said}");
    kill(Pid::from_raw(xpxe.pid().cast_signed()), Signal::SIGHUP)?;
    eventually(SOON, "a second reload", || {
        xpxe.log().iter().filter(|event| event.message().ends_with(changed)).count() == 2
    })?;
    xpxe.stop()
}

const CAROL: &str = "\n[[machine]]\nmac = \"02:77:00:00:00:99\"\nname = \"carol\"\nip = \"10.77.0.20\"\n";

#[test]
fn the_command_and_the_signal_reload() -> Result<()> {
    for fast_path in ["xdp", "off"] {
        let Some(place) = Place::build(&Settings { fast_path, ..known() })? else { return Ok(()) };
        let xpxe = place.serve()?;
        let wire = place.client()?;
        let [alice, carol] = [Client::new(mac(ALICE.mac)?), Client::new(mac(UNKNOWN)?)];
        wire.lease(&alice)?;

        let with_carol = place.config.clone() + CAROL;
        xpxe.write_config(&with_carol)?;
        ensure!(reloaded(&place.rack, &xpxe)? == "added machine carol\n");
        ensure!(
            wire.lease(&carol)?.address().to_string() == "10.77.0.20",
            "carol's address is reserved at once"
        );

        let file = place.rack.dir().join("xpxe.toml").display().to_string();
        let said = xpxe.command(&["explain", "carol", "--config", &file])?;
        let line = with_carol.lines().position(|line| line.contains("10.77.0.20")).map_or(0, |line| line + 1);
        for says in [
            format!("{file}:{line}: machine[2].ip"),
            "10.77.0.20 of 02:77:00:00:00:99 (carol), reserved".to_owned(),
            "the running xpxe".to_owned(),
        ] {
            ensure!(said.contains(&says), "{says} is not in\n{said}");
        }

        let other = with_carol.replace("console=ttyS0", "console=ttyS1").replace("rack.test", "other.test");
        xpxe.write_config(&other)?;
        kill(Pid::from_raw(xpxe.pid().cast_signed()), Signal::SIGHUP)?;
        for says in ["changed subnet 10.77.0.0/24: domain", "changed profile guest: args"] {
            xpxe.wait_for_event(says, SOON, |event| event.message().ends_with(says))?;
        }
        let watcher = place.rack.neighbour("watcher", "02:77:00:00:00:e9", "10.77.0.9/24")?;
        let script = watcher.output("curl", &["-sS", &url("ipxe/boot.ipxe?mac=02:77:00:00:00:77")])?;
        ensure!(script.contains(" console=ttyS1 "), "{script}");
        let domain = |reply: &Reply| reply.frame.windows(10).any(|bytes| bytes == b"other.test");
        ensure!(domain(&wire.lease(&alice)?) && domain(&wire.lease(&carol)?));

        // What needs a restart is named, and keeps nothing else from being served.
        let waits = other.replace("0.0.0.0:8080", "0.0.0.0:8081").replace(CAROL, "");
        xpxe.write_config(&waits)?;
        let said = reloaded(&place.rack, &xpxe)?;
        ensure!(said == "removed machine carol\nwaits for a restart of xpxe: http.listen\n", "{said}");
        xpxe.wait_for_event("the same in the log", SOON, |event| {
            event.message().starts_with("http.listen changed in the configuration and take effect when")
        })?;
        xpxe.stop()?;
    }
    Ok(())
}

#[test]
fn what_a_reload_brings_is_the_kernels_without_the_daemon() -> Result<()> {
    let Some(place) = Place::build(&known())? else { return Ok(()) };
    let xpxe = place.serve()?;
    let wire = place.client()?;
    let [alice, carol] = [Client::new(mac(ALICE.mac)?), Client::new(mac(UNKNOWN)?)];
    wire.lease(&alice)?;
    xpxe.write_config(&(place.config.replace("rack.test", "other.test") + CAROL))?;
    reloaded(&place.rack, &xpxe)?;
    xpxe.kill9()?;
    // Nobody is there but the kernel half: alice's lease goes on, and carol has never been heard before.
    let ack = wire.lease(&alice)?;
    ensure!(ack.frame.windows(10).any(|bytes| bytes == b"other.test"), "{:02x?}", ack.frame);
    ensure!(wire.discover(&carol)?.address().to_string() == "10.77.0.20");
    Ok(())
}

#[test]
fn a_broken_file_changes_nothing() -> Result<()> {
    let Some(place) = Place::build(&known())? else { return Ok(()) };
    let xpxe = place.serve()?;
    let (wire, carol) = (place.client()?, Client::new(mac(UNKNOWN)?));
    let broken =
        place.config.replace("\"10m\"", "\"10 parsecs\"") + &CAROL.replace("10.77.0.20", "10.99.0.20");
    let line = |text: &str| broken.lines().position(|line| line.contains(text)).map_or(0, |line| line + 1);
    let wanted = [
        ("10 parsecs", "subnet[0].lease: "),
        ("10.99.0.20", "machine[2].ip: 10.99.0.20 is in no [[subnet]]"),
    ];
    xpxe.write_config(&broken)?;
    let before = xpxe.log().len();
    let output = reload(&place.rack, &xpxe)?;
    let said = String::from_utf8(output.stdout)?;
    ensure!(output.status.code() == Some(1), "{}: {said}", output.status);
    ensure!(said.lines().count() == 2, "{said}");
    for (text, says) in wanted {
        let says = format!("xpxe.toml:{}: {says}", line(text));
        ensure!(said.contains(&says), "{says} is not in {said}");
        xpxe.wait_for_event(&says, SOON, |event| event.message().contains(&says))?;
    }
    ensure!(wire.lease(&carol)?.address().to_string() != "10.77.0.20");
    kill(Pid::from_raw(xpxe.pid().cast_signed()), Signal::SIGHUP)?;
    eventually(SOON, "the same by the signal", || {
        let log = xpxe.log();
        let told = log.iter().skip(before).filter(|event| event.message().contains("10 parsecs")).count();
        told == 2
    })?;
    xpxe.write_config("[[interface")?;
    let output = reload(&place.rack, &xpxe);
    // The socket is where the daemon was told to put it, which this file does not say any more.
    ensure!(!output?.status.success());
    ensure!(wire.discover(&Client::new(mac(ALICE.mac)?))?.address().to_string() == "10.77.0.10");
    xpxe.stop()
}

/// Scripts and documents are files of their own, and part of the configuration.
#[test]
fn a_broken_template_changes_nothing() -> Result<()> {
    let Some(mut place) = Place::build(&known())? else { return Ok(()) };
    let own = "template = \"own.ipxe\"\ndocuments = { user-data = \"user-data\" }\n\n[default]";
    place.config = place.config.replace("\n[default]", own);
    let write = |name: &str, text: &str| fs::write(place.rack.dir().join(name), text);
    write("own.ipxe", "#!ipxe\n# first of {{ machine.name }}\n")?;
    write("user-data", "#cloud-config\nname: {{ machine.name }}\n")?;
    let xpxe = place.serve()?;
    let alice = place.rack.neighbour("alice", ALICE.mac, "10.77.0.10/24")?;
    let fetch = |path: &str| alice.output("curl", &["-sS", &url(path)]);
    let script = || fetch("ipxe/boot.ipxe?mac=02:77:00:00:00:10");
    let document = || fetch("documents/02-77-00-00-00-10/user-data");
    ensure!(script()? == "#!ipxe\n# first of alice\n");
    ensure!(document()? == "#cloud-config\nname: alice\n");

    write("own.ipxe", "#!ipxe\n# second of {{ machine.nmae }}\n")?;
    write("user-data", "#cloud-config\nname: {{ machine.name }}\nname: twice\n")?;
    let output = reload(&place.rack, &xpxe)?;
    let said = String::from_utf8(output.stdout)?;
    ensure!(output.status.code() == Some(1), "{}: {said}", output.status);
    for says in ["own.ipxe:2: undefined value", "user-data:3: as user-data it has the key \"name\" twice"] {
        ensure!(said.contains(says), "{says} is not in {said}");
    }
    ensure!(script()? == "#!ipxe\n# first of alice\n" && document()?.ends_with("name: alice\n"));

    write("own.ipxe", "#!ipxe\n# second of {{ machine.name }}\n")?;
    write("user-data", "#cloud-config\nname: {{ machine.name }}\nother: true\n")?;
    let said = reloaded(&place.rack, &xpxe)?;
    ensure!(said.lines().count() == 2 && said.lines().all(|line| line.starts_with("changed ")), "{said}");
    ensure!(script()? == "#!ipxe\n# second of alice\n" && document()?.ends_with("other: true\n"));
    xpxe.stop()
}

/// A text that doubles forty times has terabytes: whoever reads it dies, and that is not the daemon.
#[test]
fn a_template_without_measure_changes_nothing() -> Result<()> {
    let Some(mut place) = Place::build(&known())? else { return Ok(()) };
    place.config = place.config.replace("\n[default]", "template = \"own.ipxe\"\n\n[default]");
    let write = |text: &str| fs::write(place.rack.dir().join("own.ipxe"), text);
    write("#!ipxe\n# first of {{ machine.name }}\n")?;
    let xpxe = place.serve()?;
    let alice = place.rack.neighbour("alice", ALICE.mac, "10.77.0.10/24")?;
    let script = || alice.output("curl", &["-sS", &url("ipxe/boot.ipxe?mac=02:77:00:00:00:10")]);
    write(
        "#!ipxe\n{% set all = namespace(x=\"0123456789abcdef\") %}\
         {% for nth in range(40) %}{% set all.x = all.x ~ all.x %}{% endfor %}# {{ all.x }}\n",
    )?;
    let output = reload(&place.rack, &xpxe)?;
    let said = String::from_utf8([output.stdout, output.stderr].concat())?;
    ensure!(output.status.code() == Some(1) && said.contains("makes a text longer and longer"), "{said}");
    ensure!(script()? == "#!ipxe\n# first of alice\n");
    write("#!ipxe\n# second of {{ machine.name }}\n")?;
    reloaded(&place.rack, &xpxe)?;
    ensure!(script()? == "#!ipxe\n# second of alice\n");
    xpxe.stop()
}

#[test]
fn what_waits_for_a_restart_does_not_leave_machines_without_addresses() -> Result<()> {
    let Some(place) = Place::build(&known())? else { return Ok(()) };
    let xpxe = place.serve()?;
    let proxy = format!(
        "state_dir = \"{0}/state\"\nboot_dir = \"{0}/boot\"\npin_dir = \"{0}/bpf\"\n[[interface]]\nname = \"eth0\"\ndhcp = \"proxy\"\n",
        place.rack.dir().display()
    );
    xpxe.write_config(&proxy)?;
    let output = reload(&place.rack, &xpxe)?;
    let said = String::from_utf8(output.stdout)?;
    ensure!(output.status.code() == Some(1), "{}: {said}", output.status);
    ensure!(said.contains("has no addresses to give") && said.contains("restart it"), "{said}");
    ensure!(place.client()?.lease(&Client::new(mac(ALICE.mac)?))?.address().to_string() == "10.77.0.10");
    xpxe.stop()
}

#[test]
fn machines_are_sent_to_the_address_that_is_in_their_subnet_now() -> Result<()> {
    for fast_path in ["xdp", "off"] {
        let Some(place) = Place::build(&Settings { fast_path, ..known() })? else { return Ok(()) };
        place.rack.server.output("ip", &["address", "add", "10.78.0.1/24", "dev", "eth0"])?;
        let xpxe = place.serve()?;
        let wire = place.client()?;
        let alice = Client::firmware(mac(ALICE.mac)?, 7).with(77, b"iPXE");
        let script = |server: &str| format!("http://{server}:8080/boot.ipxe");
        ensure!(wire.discover(&alice)?.boot_file() == script("10.77.0.1"));
        xpxe.write_config(&place.config.replace("10.77.0.", "10.78.0."))?;
        reloaded(&place.rack, &xpxe)?;
        eventually(SOON, "the new address in the offer", || {
            wire.discover(&alice).is_ok_and(|offer| offer.boot_file() == script("10.78.0.1"))
        })?;
        xpxe.stop()?;
    }
    Ok(())
}

/// What waits for a disk for ever keeps nobody from stopping xpxe, and from starting it again.
#[test]
fn a_pipe_among_the_files_is_named() -> Result<()> {
    let Some(place) = Place::build(&known())? else { return Ok(()) };
    let mut xpxe = place.serve()?;
    let further = place.rack.dir().join("conf.d");
    fs::create_dir(&further)?;
    mkfifo(&further.join("a.toml"), Mode::S_IRWXU)?;
    let output = reload(&place.rack, &xpxe)?;
    let said = String::from_utf8([output.stdout, output.stderr].concat())?;
    ensure!(said.contains("conf.d/a.toml: cannot read the configuration: it is a pipe"), "{said}");
    fs::remove_file(further.join("a.toml"))?;
    xpxe.restart()?;
    xpxe.stop()
}

#[test]
fn files_beside_the_configuration_are_part_of_it() -> Result<()> {
    let Some(place) = Place::build(&known())? else { return Ok(()) };
    let further = place.rack.dir().join("conf.d");
    fs::create_dir(&further)?;
    fs::write(
        further.join("20-profiles.toml"),
        "[[profile]]\nname = \"rescue\"\nkernel = \"vmlinuz\"\nargs = \"rescue\"\n",
    )?;
    let mut xpxe = place.serve()?;
    let (wire, carol) = (place.client()?, Client::new(mac(UNKNOWN)?));
    fs::write(further.join("10-rack.toml"), format!("{CAROL}profile = \"rescue\"\n"))?;
    ensure!(reloaded(&place.rack, &xpxe)? == "added machine carol\n");
    ensure!(wire.lease(&carol)?.address().to_string() == "10.77.0.20");
    fs::write(further.join("30-again.toml"), format!("[default]\nprofile = \"guest\"\n{CAROL}"))?;
    let output = reload(&place.rack, &xpxe)?;
    let said = String::from_utf8(output.stdout)?;
    ensure!(output.status.code() == Some(1) && said.lines().count() == 4, "{said}");
    let [file, again] = [place.rack.dir().join("xpxe.toml"), further.join("30-again.toml")]
        .map(|path| path.display().to_string());
    let says = format!("{again}:2: default.profile: is already set by default.profile (line ");
    ensure!(said.contains(&says) && said.contains(&format!(" of {file})")), "{says}\n{said}");
    let checked = xpxe.command(&["check", "--no-files", "--config", &file]);
    ensure!(checked.is_err(), "{checked:?}");
    fs::remove_file(further.join("30-again.toml"))?;
    xpxe.restart()?;
    ensure!(wire.lease(&carol)?.address().to_string() == "10.77.0.20", "after a restart");
    xpxe.stop()
}

#[test]
fn transfers_and_downloads_run_through_a_reload() -> Result<()> {
    each_fast_path(|fast_path| {
        let Some(place) = TftpRack::build(fast_path)? else { return Ok(()) };
        let xpxe = place.serve()?;
        let content = place.file("large", 12 << 20)?;
        let station = place.rack.neighbour("loader", "02:77:00:00:00:e9", "10.77.0.9/24")?;
        let target = place.rack.dir().join("downloaded");
        let mut curl = station.command("curl");
        curl.args(["-sS", "--limit-rate", "1M", "-o"]).arg(&target).arg(url("files/large"));
        let curl = station.spawn(curl)?;
        let mut transfer = Download::start(place.caller(1, Padding::None)?, "large", 1408, 4)?;
        transfer.go_on_to(1 << 20)?;
        eventually(SOON, "the beginning of the download", || {
            fs::metadata(&target).is_ok_and(|file| file.len() > 0)
        })?;
        // Everything of the subnet and the profile is different, and of TFTP's clients, too.
        let other = place.config(fast_path)?.replace("rack.test", "other.test").replace("ttyS0", "ttyS1");
        xpxe.write_config(&(other + "\n[tftp]\nclients = [\"10.99.0.0/16\"]\n" + CAROL))?;
        let said = reloaded(&place.rack, &xpxe)?;
        ensure!(said.lines().count() == 4, "{said}");
        ensure!(curl.is_running(), "{fast_path}: the download was over before the reload");
        let finished = transfer.finish()?;
        same(&finished.bytes, &content)?;
        ensure!(finished.repeats == 0, "{fast_path}: {} repeats", finished.repeats);
        let ended = curl.wait(SOON * 3)?;
        ensure!(ended.success(), "{fast_path}: {ended}");
        same(&fs::read(&target)?, &content)?;
        xpxe.stop()
    })
}

/// Machines of the storm: as many exchanges as two boots of each, in batches, while the configuration changes all the time.
const MACHINES: u16 = 1000;
const BATCH: usize = 50;

#[test]
fn reloads_under_a_storm_lose_no_exchange() -> Result<()> {
    for fast_path in ["xdp", "off"] {
        let Some(place) = Place::build(&Settings { fast_path, ..known() })? else { return Ok(()) };
        let base = place
            .config
            .replace("cidr = \"10.77.0.0/24\"", "cidr = \"10.77.0.0/16\"\nprobe = false")
            .replace("10.77.0.100-10.77.0.199", "10.77.4.0-10.77.9.255");
        let xpxe = Xpxe::start(&place.rack, &base, &[])?;
        let reserved = |number: u16| {
            let [high, low] = number.to_be_bytes();
            format!("\n[[machine]]\nmac = \"{}\"\nip = \"10.77.{}.{low}\"\n", of_storm(number), 20 + high)
        };
        // Every second machine gets an address of its own, and loses it again.
        let with_reserved =
            (0..MACHINES).step_by(2).fold(base.clone(), |all, number| all + &reserved(number));
        // Some addresses that others are offered meanwhile are reserved, and the pool is another one.
        let taken = |last: u8| {
            format!("\n[[machine]]\nmac = \"02:88:00:00:00:{last:02x}\"\nip = \"10.77.4.{last}\"\n")
        };
        let with_taken = (0..100).fold(base.clone(), |all, last| all + &taken(last));
        let elsewhere = base
            .replace("10.77.4.0-10.77.9.255", "10.77.10.0-10.77.15.255")
            .replace("rack.test", "other.test");
        let configs = [with_reserved, elsewhere, with_taken, base];
        let (is_over, reloads) = (AtomicBool::new(false), AtomicUsize::new(0));
        std::thread::scope(|scope| -> Result<()> {
            let reloading = scope.spawn(|| -> Result<()> {
                while !is_over.load(Ordering::Relaxed) {
                    let count = reloads.load(Ordering::Relaxed);
                    xpxe.write_config(&configs[count % configs.len()])?;
                    reloaded(&place.rack, &xpxe)?;
                    reloads.store(count + 1, Ordering::Relaxed);
                }
                Ok(())
            });
            let storm = storm(&place, || reloading.is_finished(), &reloads);
            is_over.store(true, Ordering::Relaxed);
            let reloaded = reloading.join().map_err(|_| anyhow::anyhow!("panicked"))?;
            storm?;
            reloaded
        })?;
        xpxe.stop()?;
    }
    Ok(())
}

fn of_storm(number: u16) -> String {
    let [high, low] = number.to_be_bytes();
    format!("02:99:00:00:{high:02x}:{low:02x}")
}

/// All machines boot four times, and wait now and then for the next reload.
fn storm(place: &Place, is_broken: impl Fn() -> bool, reloads: &AtomicUsize) -> Result<()> {
    let wire = place.client()?;
    let clients: Vec<Client> =
        (0..MACHINES).map(|number| Ok(Client::new(mac(&of_storm(number))?))).collect::<Result<_>>()?;
    for boot in 0..4 {
        for (number, batch) in clients.chunks(BATCH).enumerate() {
            ensure!(!is_broken(), "a reload has failed");
            if number % 10 == 9 {
                let before = reloads.load(Ordering::Relaxed);
                eventually(SOON, "the next reload", || {
                    is_broken() || reloads.load(Ordering::Relaxed) > before
                })?;
            }
            let discovers: Vec<Message> = batch.iter().map(Client::discover).collect();
            let offers = all_answered(&wire, &discovers, MessageType::Offer)
                .with_context(|| format!("boot {boot}"))?;
            let requests: Vec<Message> =
                batch.iter().zip(&offers).map(|(client, offer)| client.request(offer)).collect();
            let acks =
                all_answered(&wire, &requests, MessageType::Ack).with_context(|| format!("boot {boot}"))?;
            for (offer, ack) in offers.iter().zip(&acks) {
                ensure!(
                    offer.address() == ack.address(),
                    "{} was offered, and {} confirmed",
                    offer.address(),
                    ack.address()
                );
            }
        }
    }
    Ok(())
}

/// The answers in the order of the messages, each of which is sent once.
fn all_answered(wire: &Wire, messages: &[Message], kind: MessageType) -> Result<Vec<Reply>> {
    for message in messages {
        wire.send(&broadcast(message)?)?;
    }
    let xids: Vec<u32> = messages.iter().map(Message::xid).collect();
    let mut answers: Vec<Option<Reply>> = messages.iter().map(|_| None).collect();
    let deadline = Instant::now() + Duration::from_secs(10);
    while answers.iter().any(Option::is_none) {
        let reply = wire.hear_reply(&xids, deadline.saturating_duration_since(Instant::now()))?;
        let missing = answers.iter().filter(|answer| answer.is_none()).count();
        let reply = reply.with_context(|| format!("{missing} of {} got no {kind:?}", messages.len()))?;
        ensure!(reply.kind() == Some(kind), "{:?} instead of {kind:?}", reply.kind());
        let place = xids.iter().position(|xid| *xid == reply.message.xid());
        if let Some(answer) = place.and_then(|place| answers.get_mut(place)) {
            *answer = Some(reply);
        }
    }
    Ok(answers.into_iter().flatten().collect())
}

/// What `xpxe reload` says when it succeeds.
fn reloaded(rack: &Rack, xpxe: &Xpxe<'_>) -> Result<String> {
    let output = reload(rack, xpxe)?;
    let [said, error] =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    ensure!(output.status.success(), "{}: {said}{error}\n{}", output.status, xpxe.last_lines(20));
    Ok(said)
}

fn reload(rack: &Rack, xpxe: &Xpxe<'_>) -> Result<Output> {
    let mut command = rack.server.command(&xpxe.binary().display().to_string());
    command.args(["reload", "--config"]).arg(rack.dir().join("xpxe.toml"));
    Ok(command.output()?)
}

fn url(path: &str) -> String {
    format!("http://{SERVER_ADDRESS}:8080/{path}")
}
