//! `xpxe leases` in a rack: through the running daemon and its kernel half, and on the store without them.

use std::fs::{self, File};
use std::ops::Deref;
use std::process::Output;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use boot_tests::daemon::Xpxe;
use boot_tests::dhcp_client::{Client, mac};
use boot_tests::place::{ALICE, CARD, OTHER_UNKNOWN, Place, SILENCE, SOON, UNKNOWN};
use boot_tests::settings::Settings;
use dhcproto::v4::{DhcpOption, MessageType};
use nix::fcntl::{Flock, FlockArg};
use serde_json::Value;

#[test]
fn leases_are_listed_deleted_and_imported_with_the_kernel_half() -> Result<()> {
    through_the_daemon("xdp")
}

#[test]
fn leases_are_listed_deleted_and_imported_without_the_kernel_half() -> Result<()> {
    through_the_daemon("off")
}

fn through_the_daemon(fast_path: &'static str) -> Result<()> {
    let Some(place) = Desk::build(fast_path)? else { return Ok(()) };
    let mut xpxe = place.serve()?;
    let wire = place.client()?;
    let stranger = Client::new(mac(UNKNOWN)?);
    let address = wire.lease(&stranger)?.address().to_string();

    let list = place.json(&xpxe, &["list", "--json"])?;
    let found = of(&list, UNKNOWN)?;
    ensure!(found["address"] == *address && found["state"] == "leased", "{found}");
    ensure!(found["subnet"] == "10.77.0.0/24" && found["expires"].is_u64(), "{found}");
    ensure!(found["expires_at"].as_str().is_some_and(|text| text.ends_with('Z')), "{found}");
    let alice = of(&list, ALICE.mac)?;
    ensure!(alice["state"] == "reserved" && alice["name"] == "alice", "{alice}");
    for which in [UNKNOWN, &address] {
        ensure!(place.only(&xpxe, which)? == *found, "show {which}");
    }
    let table = place.said(&xpxe, &["list"])?;
    let columns: Vec<&str> = table.lines().next().unwrap_or_default().split_whitespace().collect();
    ensure!(columns == ["ADDRESS", "MAC", "NAME", "STATE", "EXPIRES", "HOLD"], "{table}");
    ensure!(table.lines().any(|line| line.starts_with("10.77.0.10 ") && line.contains("alice")), "{table}");

    place.refused(&xpxe, &["delete", ALICE.mac], &["reserved for alice", "configuration file"])?;
    place.refused(&xpxe, &["show", "10.77.0.77"], &["10.77.0.77 has no lease"])?;
    let said = place.said(&xpxe, &["delete", &address])?;
    ensure!(said == format!("deleted the lease of {address} to {UNKNOWN}\n"), "{said}");
    let list = place.json(&xpxe, &["list", "--json"])?;
    ensure!(of(&list, UNKNOWN).is_err(), "{list}");
    if fast_path == "xdp" {
        xpxe.kill9()?;
        let answer = wire.ask_within(&stranger.discover(), SILENCE)?;
        ensure!(answer.is_none(), "the kernel still offers what was deleted: {answer:?}");
        // The socket that it has left is no obstacle.
        xpxe.restart()?;
        wire.ask_within(&stranger.discover(), SILENCE)?;
        place.said(&xpxe, &["delete", UNKNOWN])?;
    }

    let file = place.write(
        "dnsmasq.leases",
        &format!("0 {UNKNOWN} 10.77.0.150 old-name *\n0 {OTHER_UNKNOWN} 10.77.0.10 * *\n0 1 fd00::1 * *\n"),
    )?;
    let (said, error) = place.fails(&xpxe, &["import", &file, "--dry-run"])?;
    ensure!(said.ends_with("would import 1, unchanged 0, skipped 1, refused 1\n"), "{said}{error}");
    ensure!(of(&place.json(&xpxe, &["list", "--json"])?, UNKNOWN).is_err(), "--dry-run has imported");
    let (said, error) = place.fails(&xpxe, &["import", &file])?;
    ensure!(said.contains("line 2: refused: 10.77.0.10 is reserved for alice"), "{said}{error}");
    ensure!(said.ends_with("imported 1, unchanged 0, skipped 1, refused 1\n"), "{said}");
    let found = place.only(&xpxe, UNKNOWN)?;
    ensure!(found["address"] == "10.77.0.150" && found["name"] == "old-name", "{found}");
    if fast_path == "xdp" {
        // It is stored, so the kernel half may promise it by itself.
        xpxe.kill9()?;
        ensure!(wire.lease(&stranger)?.address().to_string() == "10.77.0.150", "by the kernel half");
        xpxe.restart()?;
    }
    ensure!(wire.lease(&stranger)?.address().to_string() == "10.77.0.150", "what was imported");
    xpxe.stop()
}

#[test]
fn without_the_daemon_the_store_is_read_and_changed() -> Result<()> {
    let Some(place) = Desk::build("off")? else { return Ok(()) };
    let mut xpxe = place.serve()?;
    let wire = place.client()?;
    let [stranger, other] = [Client::new(mac(UNKNOWN)?), Client::new(mac(OTHER_UNKNOWN)?)];
    let address = wire.lease(&stranger)?.address().to_string();
    let before = place.json(&xpxe, &["list", "--json"])?;
    xpxe.stop()?;

    let output = place.run(&xpxe, &["list", "--json"])?;
    let error = String::from_utf8(output.stderr)?;
    ensure!(output.status.success() && error.contains("the daemon is not running"), "{error}");
    let list: Value = serde_json::from_slice(&output.stdout)?;
    ensure!(list == before, "{list}\nand with the daemon\n{before}");
    // Another one that looks is no daemon.
    let state_dir = File::open(place.rack.dir().join("state"))?;
    let shared = Flock::lock(state_dir, FlockArg::LockSharedNonblock).map_err(|(_, error)| error)?;
    ensure!(place.json(&xpxe, &["list", "--json"])? == before, "while another one looks");
    drop(shared);

    place.said(&xpxe, &["delete", &address])?;
    let isc = format!(
        "lease {address} {{\n  ends never;\n  binding state active;\n  hardware ethernet {OTHER_UNKNOWN};\n}}\n"
    );
    let file = place.write("dhcpd.leases", &isc)?;
    let said = place.said(&xpxe, &["import", &file])?;
    ensure!(said == "imported 1, unchanged 0, skipped 0, refused 0\n", "{said}");
    let (_, error) = place.fails(&xpxe, &["delete", ALICE.mac])?;
    ensure!(error.contains("reserved for alice"), "{error}");

    xpxe.restart()?;
    ensure!(wire.lease(&stranger)?.address().to_string() != address, "{address} was deleted");
    ensure!(wire.lease(&other)?.address().to_string() == address, "{address} was imported");
    // What is exported can be imported.
    let list = place.said(&xpxe, &["list", "--json"])?;
    let said = place.said(&xpxe, &["import", &place.write("leases.json", &list)?])?;
    ensure!(said == "imported 0, unchanged 3, skipped 0, refused 0\n", "{said}");
    xpxe.stop()
}

/// As many as a provider's server has, at once and through the daemon, which goes on serving.
#[test]
fn four_hundred_thousand_leases_are_imported() -> Result<()> {
    const LEASES: u32 = 400_000;
    let more = "\n[[subnet]]\ncidr = \"10.128.0.0/9\"\npool = [\"10.128.0.1-10.159.255.254\"]\n".to_owned();
    let settings = Settings { fast_path: "off", machines: vec![ALICE], more, ..Settings::default() };
    let Some(place) = Place::build(&settings)?.map(Desk) else { return Ok(()) };
    let xpxe = place.serve()?;
    let lines = (1..=LEASES).map(|number| {
        let [_, a, b, c] = number.to_be_bytes();
        format!("0 02:78:00:{a:02x}:{b:02x}:{c:02x} 10.{}.{b}.{c} node{number} *\n", 128 + a)
    });
    let file = place.write("many.leases", &lines.collect::<String>())?;
    let started = Instant::now();
    let said = place.said(&xpxe, &["import", &file])?;
    println!("imported in {:.1?}", started.elapsed());
    ensure!(said == format!("imported {LEASES}, unchanged 0, skipped 0, refused 0\n"), "{said}");
    let listed = place.said(&xpxe, &["list"])?;
    let count = listed.lines().filter(|line| line.contains("02:78:00:")).count();
    ensure!(count == LEASES as usize, "{count} are listed");
    place.client()?.lease(&Client::new(mac(UNKNOWN)?))?;
    xpxe.stop()
}

#[test]
fn a_declined_address_rests_over_a_restart_and_is_lifted_by_hand() -> Result<()> {
    let Some(place) = Desk::build("auto")? else { return Ok(()) };
    let mut xpxe = place.serve()?;
    let wire = place.client()?;
    let stranger = Client::new(mac(UNKNOWN)?);
    let lease = wire.lease(&stranger)?;
    let address = lease.address().to_string();
    let mut decline = stranger.request(&lease);
    decline.opts_mut().insert(DhcpOption::MessageType(MessageType::Decline));
    let squatter = place.rack.neighbour("squatter", CARD, &format!("{address}/24"))?;
    wire.ask_within(&decline, SILENCE)?;
    xpxe.wait_for_event("what the probe found", SOON, |event| {
        event.field("step") == "decline" && event.message().contains(&format!("Found there: {CARD}"))
    })?;
    xpxe.stop()?;
    drop(squatter);
    xpxe.restart()?;
    let resting = place.only(&xpxe, &address)?;
    ensure!(resting["state"] == "resting" && resting["mac"] == UNKNOWN, "{resting}");
    ensure!(resting["hold_cause"] == "declined", "over the restart: {resting}");
    let second = wire.lease(&stranger)?.address().to_string();
    ensure!(second != address, "{address} was declined");
    let shown = place.json(&xpxe, &["show", UNKNOWN, "--json"])?;
    let shown: Vec<&Value> = shown.as_array().into_iter().flatten().map(|lease| &lease["address"]).collect();
    ensure!(shown == [&address, &second], "what rests because of it, and its lease: {shown:?}");
    let list = place.said(&xpxe, &["list", "--json"])?;
    let said = place.said(&xpxe, &["import", &place.write("leases.json", &list)?])?;
    ensure!(said.ends_with("imported 0, unchanged 2, skipped 1, refused 0\n"), "{said}");
    let said = place.said(&xpxe, &["delete", &address])?;
    ensure!(said == format!("ended the hold on {address}\n"), "{said}");
    xpxe.stop()?;
    xpxe.restart()?;
    place.refused(&xpxe, &["show", &address], &["has no lease"])?;
    xpxe.stop()
}

#[test]
fn what_can_be_read_is_imported_and_with_strict_all_or_nothing() -> Result<()> {
    let Some(place) = Desk::build("off")? else { return Ok(()) };
    let xpxe = place.serve()?;
    let text = format!(
        "0 {UNKNOWN} 10.77.0.150 * *\n0 52:54:zz 10.77.0.151 * *\n0 {OTHER_UNKNOWN} 10.77.0.152 * *\n"
    );
    let file = place.write("dnsmasq.leases", &text)?;
    let (said, error) = place.fails(&xpxe, &["import", &file, "--strict"])?;
    ensure!(said.contains("line 2: unreadable: \"52:54:zz\" is no MAC address\n"), "{said}{error}");
    ensure!(said.ends_with("would import 2, unchanged 0, skipped 0, refused 0, unreadable 1\n"), "{said}");
    ensure!(of(&place.json(&xpxe, &["list", "--json"])?, UNKNOWN).is_err(), "--strict has imported");
    let (said, _) = place.fails(&xpxe, &["import", &file])?;
    ensure!(said.ends_with("\nimported 2, unchanged 0, skipped 0, refused 0, unreadable 1\n"), "{said}");
    let kea = format!(
        "address,hwaddr,client_id,valid_lifetime,expire,subnet_id,fqdn_fwd,fqdn_rev,hostname,state,user_context,pool_id\n\
         10.77.0.150,{UNKNOWN},,4294967295,4294967295,1,0,0,,0,,0\n"
    );
    let file = place.write("kea-leases4.csv", &kea)?;
    let said = place.said(&xpxe, &["import", &file, "--strict"])?;
    ensure!(said == "imported 0, unchanged 1, skipped 0, refused 0\n", "{said}");
    place.said(&xpxe, &["delete", UNKNOWN])?;
    let said = place.said(&xpxe, &["import", &file, "--strict"])?;
    ensure!(said == "imported 1, unchanged 0, skipped 0, refused 0\n", "{said}");
    xpxe.stop()
}

#[test]
fn a_switch_port_decides_with_the_kernel_half() -> Result<()> {
    let more = "\n[[machine]]\nrelay_port = \"port 7\"\nname = \"slot7\"\nip = \"10.77.0.20\"\n".to_owned();
    let settings = Settings { fast_path: "auto", more, ..Settings::default() };
    let Some(place) = Place::build(&settings)? else { return Ok(()) };
    let xpxe = place.serve()?;
    let wire = place.client()?;
    // As a switch marks it that is no relay.
    let at = |machine: &str, port: &[u8]| -> Result<Client> {
        let circuit = [&[1, u8::try_from(port.len())?], port].concat();
        Ok(Client::new(mac(machine)?).with(82, &circuit))
    };
    // A few seconds after it was seen at its port, another one counts. If that is between an OFFER and its REQUEST, the
    // client is refused and starts over.
    let becomes = |client: &Client, slot: bool| -> Result<()> {
        let give_up = Instant::now() + Duration::from_secs(30);
        let is_slot = || wire.lease(client).map(|ack| ack.address().to_string() == "10.77.0.20");
        while !is_slot().is_ok_and(|is| is == slot) {
            ensure!(Instant::now() < give_up, "{:02x?} is still the wrong machine", client.mac());
        }
        Ok(())
    };
    for _ in 0..2 {
        // The second time the kernel half has an entry of both.
        for machine in [UNKNOWN, OTHER_UNKNOWN] {
            becomes(&at(machine, b"port 7")?, true)?;
            becomes(&at(machine, b"port 8")?, false)?;
        }
    }
    xpxe.stop()
}

/// A place, and the verbs of `xpxe leases` there.
struct Desk(Place);

impl Deref for Desk {
    type Target = Place;

    fn deref(&self) -> &Place {
        &self.0
    }
}

impl Desk {
    /// `None` without root.
    fn build(fast_path: &'static str) -> Result<Option<Self>> {
        let settings = Settings { fast_path, machines: vec![ALICE], ..Settings::default() };
        Ok(Place::build(&settings)?.map(Self))
    }

    fn write(&self, name: &str, text: &str) -> Result<String> {
        let path = self.rack.dir().join(name);
        fs::write(&path, text)?;
        Ok(path.display().to_string())
    }

    fn run(&self, xpxe: &Xpxe<'_>, arguments: &[&str]) -> Result<Output> {
        let mut command = self.rack.server.command(&xpxe.binary().display().to_string());
        command.arg("leases").args(arguments).arg("--config").arg(self.rack.dir().join("xpxe.toml"));
        Ok(command.output()?)
    }

    /// What it writes when it succeeds.
    fn said(&self, xpxe: &Xpxe<'_>, arguments: &[&str]) -> Result<String> {
        let output = self.run(xpxe, arguments)?;
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "leases {arguments:?}: {error}\n{}", xpxe.last_lines(10));
        Ok(String::from_utf8(output.stdout)?)
    }

    fn json(&self, xpxe: &Xpxe<'_>, arguments: &[&str]) -> Result<Value> {
        let said = self.said(xpxe, arguments)?;
        serde_json::from_str(&said).with_context(|| said)
    }

    /// What it writes to both ends when it ends with 1.
    fn fails(&self, xpxe: &Xpxe<'_>, arguments: &[&str]) -> Result<(String, String)> {
        let output = self.run(xpxe, arguments)?;
        let said = (String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?);
        ensure!(output.status.code() == Some(1), "leases {arguments:?}: {}: {said:?}", output.status);
        Ok(said)
    }

    /// The one lease that `show` shows.
    fn only(&self, xpxe: &Xpxe<'_>, which: &str) -> Result<Value> {
        let shown = self.json(xpxe, &["show", which, "--json"])?;
        match shown.as_array().map(Vec::as_slice) {
            Some([lease]) => Ok(lease.clone()),
            _ => bail!("show {which}: {shown}"),
        }
    }

    /// It ends with 1 and one sentence that has all of `words`.
    fn refused(&self, xpxe: &Xpxe<'_>, arguments: &[&str], words: &[&str]) -> Result<()> {
        let (_, error) = self.fails(xpxe, arguments)?;
        ensure!(error.lines().count() == 1, "not one sentence: {error}");
        ensure!(words.iter().all(|word| error.contains(word)), "not {words:?}: {error}");
        Ok(())
    }
}

/// A machine's lease in a list.
fn of<'l>(list: &'l Value, mac: &str) -> Result<&'l Value> {
    let found = list.as_array().and_then(|leases| leases.iter().find(|lease| lease["mac"] == mac));
    found.with_context(|| format!("no lease of {mac} in {list}"))
}
