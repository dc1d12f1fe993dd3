//! The dashboard in a browser, in front of a real daemon and real clients.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use boot_common::Mac;
use boot_tests::browser::Browser;
use boot_tests::daemon::Xpxe;
use boot_tests::dhcp_client::{Wire, mac};
use boot_tests::packet::{Client, Packet};
use boot_tests::place::{ALICE, BOB, Place, SOON, UNKNOWN, known};
use boot_tests::rack::Station;
use boot_tests::settings::{Settings, boot_dir};
use serde_json::Value;

const PAGE: &str = "http://127.0.0.1:8081/";
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// A verdict may need silence.
const VERDICT: Duration = Duration::from_secs(60);

fn api(public: bool) -> String {
    format!("\n[api]\nlisten = \"127.0.0.1:8081\"\npublic_read = {public}\n")
}

fn begin(place: &Place) -> Result<(Xpxe<'_>, Browser)> {
    place.rack.server.output("ethtool", &["-K", "eth0", "tx", "off"])?;
    let xpxe = place.serve()?;
    let dir = place.rack.dir().join("browser");
    fs::create_dir_all(&dir)?;
    let mut browser = Browser::start(&place.rack.server, &dir)?;
    browser.look(1360, 900, false, false)?;
    Ok((xpxe, browser))
}

/// A machine on the wire.
struct Machine {
    station: Station,
    wire: Wire,
    mac: Mac,
}

impl Machine {
    fn new(place: &Place, address: &str) -> Result<Self> {
        let station = place.rack.client("machine", address)?;
        let wire = Wire::open_for_ip(&station, "eth0")?;
        Ok(Self { station, wire, mac: Mac(mac(address)?) })
    }

    /// Asks again where nothing comes, as firmware does.
    fn ask(&self, message: &Packet) -> Result<Ipv4Addr> {
        let until = Instant::now() + SOON;
        loop {
            self.wire.send(&message.frame())?;
            if let Some(answer) = self.wire.hear_reply(&[message.xid], SOON / 10)? {
                return Ok(answer.address());
            }
            ensure!(Instant::now() < until, "no answer");
        }
    }

    fn lease(&self) -> Result<()> {
        let offered = self.ask(&Client::Edk2Pxe.discover(self.mac))?;
        let address = self.ask(&Client::Edk2Pxe.request(self.mac, offered, SERVER))?;
        self.station.output("ip", &["address", "replace", &format!("{address}/24"), "dev", "eth0"]).map(drop)
    }

    /// Whether it got the file.
    fn tftp(&self, file: &str) -> bool {
        self.station.output("curl", &["-sS", "-o", "/dev/null", &format!("tftp://{SERVER}/{file}")]).is_ok()
    }
}

fn tile(name: &str) -> String {
    format!(
        "[...document.querySelectorAll('#racks button.tile')].find((tile) => tile.title.startsWith('{name},'))"
    )
}

fn xpxe_says(place: &Place, xpxe: &Xpxe<'_>, words: &[&str]) -> Result<String> {
    let file = place.rack.dir().join("xpxe.toml").display().to_string();
    xpxe.command(&[words, &["--config", &file]].concat())
}

fn unremarkable(browser: &mut Browser) -> Result<()> {
    let complaints = browser.complaints()?;
    ensure!(complaints.is_empty(), "the browser complains: {complaints:#?}");
    Ok(())
}

#[test]
fn the_page_follows_a_boot_and_shows_its_verdict() -> Result<()> {
    let hostile = "<img src=x onerror=window.hit=1>";
    let more = api(true)
        + &format!(
            "\n[[machine]]\nmac = \"02:77:00:00:00:12\"\nname = \"carol\"\nlabels = {{ rack = \"{hostile}\" }}\n"
        );
    let Some(place) = Place::build(&Settings { more, ..known() })? else { return Ok(()) };
    fs::write(boot_dir(&place.rack).join("snponly.efi"), vec![7; 100_000])?;
    let (xpxe, mut browser) = begin(&place)?;
    browser.open(PAGE)?;
    browser.until(&format!("{}?.dataset.p === 'silent'", tile("alice")), SOON)?;
    browser.until("document.getElementById('live').textContent === 'Live'", SOON)?;
    ensure!(browser.run("location.pathname")? == "/ui/");
    // The text stands there as it was written, and is nothing else.
    browser.until(&format!("[...document.querySelectorAll('h3')].some((title) => title.textContent.startsWith('rack {hostile}'))"), SOON)?;

    let alice = Machine::new(&place, ALICE.mac)?;
    alice.lease()?;
    browser.until(&format!("{}?.dataset.p === 'address'", tile("alice")), SOON)?;
    ensure!(alice.tftp("snponly.efi"));
    browser.until(&format!("{}?.dataset.p === 'loader'", tile("alice")), SOON)?;
    let (bob, script) = (Machine::new(&place, BOB.mac)?, "<script>window.hit=2</script>.efi");
    bob.lease()?;
    ensure!(!bob.tftp(&script.replace('<', "%3C").replace('>', "%3E").replace('/', "%2F")));
    browser.until(&format!("{}?.dataset.p === 'wrong'", tile("bob")), VERDICT)?;

    browser.run(&format!("{}.click()", tile("bob")))?;
    browser.until(
        "document.querySelector('.verdict.wrong .says')?.textContent.includes('is not served')",
        SOON,
    )?;
    browser.until("document.activeElement === document.getElementById('machine-title')", SOON)?;
    let shown = browser.run("document.getElementById('machine').textContent")?.to_string();
    for words in ["PXE-T01: File not found", "offered the firmware (efi-x64) 10.77.0.11", script, "bob"] {
        ensure!(shown.contains(words), "{words} is not in {shown}");
    }
    browser.until("document.getElementById('event-list').textContent.includes('snponly.efi')", SOON)?;
    browser.until("document.getElementById('cause-list').textContent.includes('1 × file-missing')", SOON)?;
    ensure!(
        browser.run("window.hit === undefined && !document.querySelector('#racks img, #machine script')")?
            == true
    );
    browser.screenshot("machine.png")?;

    // What filters leave out is not shown.
    browser.run("document.querySelector('#cause-list button').click()")?;
    browser.until(&format!("{}.hidden && !{}.hidden", tile("alice"), tile("bob")), SOON)?;
    browser.until("document.getElementById('count').textContent.startsWith('1 of 3')", SOON)?;
    unremarkable(&mut browser)?;

    // Who has no token may look, and no more.
    ensure!(browser.run("fetch('/api/v1/machines').then((answer) => answer.status)")? == 401);
    ensure!(browser.run("document.querySelector('[aria-label=Orders]')")?.is_null());
    xpxe.stop()
}

#[test]
fn whoever_has_a_token_accepts_a_machine_after_he_has_confirmed_it() -> Result<()> {
    let Some(mut place) = Place::build(&Settings { more: api(false), ..known() })? else { return Ok(()) };
    let default = "[default]\nprofile = \"guest\"\n";
    let more = "unknown = \"discover\"\n\n[lifecycle]\nwipe = false\n";
    place.config = place.config.replace(default, &format!("{default}{more}"));
    let (xpxe, mut browser) = begin(&place)?;
    let stranger = Machine::new(&place, UNKNOWN)?;
    stranger.lease()?;
    browser.open(PAGE)?;
    browser.until("document.getElementById('sign-in').open", SOON)?;
    ensure!(
        browser.run("document.querySelectorAll('#racks button').length")? == 0,
        "nothing is told without a token"
    );
    browser.screenshot("sign-in.png")?;

    let sign_in = |browser: &mut Browser, token: &str| -> Result<()> {
        browser.run("document.getElementById('token').focus()")?;
        browser.enter(token)?;
        browser.press("Enter")
    };
    sign_in(&mut browser, "xpxe_wrong")?;
    browser.until("document.getElementById('sign-in-error').textContent.includes('not valid')", SOON)?;
    let token = xpxe_says(&place, &xpxe, &["tokens", "add", "alice", "--role", "operate"])?;
    sign_in(&mut browser, token.trim())?;
    browser.until("document.getElementById('who').textContent === 'alice (operate)'", SOON)?;
    browser.until(&tile(UNKNOWN), SOON)?;
    browser.complaints()?;

    // By the keyboard alone.
    browser.run(&format!("{}.focus()", tile(UNKNOWN)))?;
    browser.press("Enter")?;
    let accept = "[...document.querySelectorAll('[aria-label=Orders] button')].find((one) => one.textContent === 'Accept')";
    browser.until(accept, SOON)?;
    browser.run(&format!("{accept}.focus()"))?;
    browser.press("Enter")?;
    browser.until(
        "document.getElementById('confirm').open && document.activeElement.id === 'confirm-no'",
        SOON,
    )?;
    browser.screenshot("confirm.png")?;
    let state = |place: &Place| -> Result<String> {
        let shown: Value =
            serde_json::from_str(&xpxe_says(place, &xpxe, &["machines", "show", UNKNOWN, "--json"])?)?;
        Ok(shown["status"]["state"].as_str().unwrap_or_default().to_owned())
    };
    ensure!(state(&place)? == "discovered", "nothing happens before it is confirmed");
    browser.run("document.getElementById('confirm-yes').focus()")?;
    browser.press("Enter")?;
    browser.until("!document.getElementById('confirm').open", SOON)?;
    let after = state(&place)?;
    ensure!(after != "discovered", "it is {after}");
    browser.until(
        &format!(
            "[...document.querySelectorAll('#machine dd')].some((one) => one.textContent === '{after}')"
        ),
        SOON,
    )?;

    unremarkable(&mut browser)?;
    // A token that is revoked ends at once.
    xpxe_says(&place, &xpxe, &["tokens", "revoke", "alice"])?;
    browser.until("document.getElementById('sign-in').open", SOON)?;
    xpxe.stop()
}

#[test]
fn whoever_has_a_token_switches_a_machine_on() -> Result<()> {
    let Some(mut place) = Place::build(&Settings { more: api(false), ..known() })? else { return Ok(()) };
    let (switch, done) = (place.rack.dir().join("switch"), place.rack.dir().join("done"));
    let script = format!("#!/bin/sh\necho $XPXE_ACTION $XPXE_NAME >> {}\necho off\n", done.display());
    fs::write(&switch, script)?;
    fs::set_permissions(&switch, fs::Permissions::from_mode(0o700))?;
    place.config += &format!("\n[bmc]\ndriver = \"command\"\ncommand = [{switch:?}]\n");
    let (xpxe, mut browser) = begin(&place)?;
    let carol =
        ["machines", "add", "--name", "carol", "--mac", "02:77:00:00:00:e9", "--bmc-driver", "command"];
    xpxe_says(&place, &xpxe, &carol)?;
    let token = xpxe_says(&place, &xpxe, &["tokens", "add", "alice", "--role", "operate"])?;
    browser.open(PAGE)?;
    browser.until("document.getElementById('sign-in').open", SOON)?;
    browser.run(&format!("sessionStorage.setItem('xpxe-token', '{}'); location.reload()", token.trim()))?;
    browser.until(&tile("carol"), SOON)?;
    // That there was no token before.
    browser.complaints()?;
    browser.run(&format!("{}.click()", tile("carol")))?;
    let on = "[...document.querySelectorAll('[aria-label=Orders] button')].find((one) => one.textContent === 'Power on')";
    browser.until(on, SOON)?;
    browser.run(&format!("{on}.click()"))?;
    browser.until("document.getElementById('confirm').open", SOON)?;
    let has_switched = || fs::read_to_string(&done).is_ok_and(|done| done.contains("on carol\n"));
    ensure!(!has_switched(), "nothing happens before it is confirmed");
    browser.run("document.getElementById('confirm-yes').click()")?;
    browser.until("!document.getElementById('confirm').open", SOON)?;
    ensure!(has_switched(), "{:?}", fs::read_to_string(&done));
    browser.until("document.getElementById('machine').textContent.includes('on by')", SOON)?;
    unremarkable(&mut browser)?;
    xpxe.stop()
}

/// What axe-core finds that hinders people.
fn hindrances(browser: &mut Browser) -> Result<String> {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/readers/axe_playwright_python/axe.min.js");
    let axe =
        fs::read_to_string(&path).with_context(|| format!("{}: run cargo xtask setup", path.display()))?;
    browser.run(&format!("{axe};0"))?;
    let found = "axe.run(document, { resultTypes: ['violations'] }).then(({ violations }) => violations
        .filter(({ impact }) => impact === 'serious' || impact === 'critical')
        .map(({ id, nodes }) => `${id}: ${nodes.slice(0, 3).map((node) => node.html + ' ' + node.failureSummary).join(' | ')}`).join('\\n'))";
    Ok(browser.run(found)?.as_str().context("a text")?.to_owned())
}

#[test]
fn nothing_on_the_page_hinders_people_who_do_not_see_it() -> Result<()> {
    let Some(place) = Place::build(&Settings { more: api(true) + &many(64), ..known() })? else {
        return Ok(());
    };
    let (xpxe, mut browser) = begin(&place)?;
    let bob = Machine::new(&place, BOB.mac)?;
    bob.lease()?;
    ensure!(!bob.tftp("absent.efi"));
    browser.open(PAGE)?;
    browser.until(&format!("{}?.dataset.p === 'wrong'", tile("bob")), VERDICT)?;
    // One stop for all tiles; arrows go from one to the next.
    ensure!(
        browser.run(
            "[...document.querySelectorAll('#racks button')].filter((one) => one.tabIndex === 0).length"
        )? == 1
    );
    browser.run(&format!("{}.focus()", tile("node0000")))?;
    browser.press("ArrowRight")?;
    browser.until("document.activeElement.title.startsWith('node0001,')", SOON)?;
    browser.press("End")?;
    browser.until("document.activeElement.title.startsWith('node0031,')", SOON)?;
    browser.press("PageDown")?;
    browser.until("document.activeElement.title.startsWith('node0032,')", SOON)?;
    ensure!(
        browser.run(
            "[...document.querySelectorAll('#racks button')].filter((one) => one.tabIndex === 0).length"
        )? == 1
    );
    for is_dark in [false, true] {
        browser.look(1360, 900, false, is_dark)?;
        let found = hindrances(&mut browser)?;
        ensure!(found.is_empty(), "the wall, dark: {is_dark}: {found}");
        browser.run(&format!("{}.click()", tile("bob")))?;
        browser.until(
            "document.querySelector('.verdict .says') && document.querySelector('.steps .scale')",
            SOON,
        )?;
        let found = hindrances(&mut browser)?;
        ensure!(found.is_empty(), "a machine, dark: {is_dark}: {found}");
        browser.press("Escape")?;
        browser.until(
            &format!(
                "document.getElementById('machine').hidden && document.activeElement === {}",
                tile("bob")
            ),
            SOON,
        )?;
        browser.run("document.getElementById('who').click()")?;
        let found = hindrances(&mut browser)?;
        ensure!(found.is_empty(), "signing in, dark: {is_dark}: {found}");
        browser.run("document.getElementById('sign-in-cancel').click()")?;
    }
    // A telephone shows all of it without scrolling sideways.
    browser.look(390, 844, true, true)?;
    browser.run(&format!("{}.click()", tile("bob")))?;
    browser.until("document.querySelector('.verdict .says')", SOON)?;
    ensure!(browser.run("document.documentElement.scrollWidth <= innerWidth")? == true);
    browser.screenshot("phone.png")?;
    unremarkable(&mut browser)?;
    xpxe.stop()
}

/// So many machines in racks of 32.
fn many(count: usize) -> String {
    let machine = |nth: usize| {
        format!(
            "\n[[machine]]\nmac = \"02:78:00:00:{:02x}:{:02x}\"\nname = \"node{nth:04}\"\nlabels = {{ rack = \"{}\", position = \"{}\" }}\n",
            nth >> 8,
            nth & 255,
            nth / 32 + 1,
            nth % 32 + 1
        )
    };
    (0..count).map(machine).collect()
}

const MACHINES: usize = 10_000;
const EVENTS: u32 = 1000;
/// How long the server took for the wall, in milliseconds: the longest of all looks.
const LOOKS: &str = "Math.max(...performance.getEntriesByType('resource').filter((one) => one.name.includes('/wall?')).map((one) => one.duration))";
const FRAMES: &str = "new Promise((done) => {
    const [begin, frames] = [performance.now(), []];
    const frame = (now) => {
        frames.push(now);
        if (now - begin < 4000) requestAnimationFrame(frame);
        else done((frames.length - 1) / ((frames.at(-1) - frames[0]) / 1000));
    };
    requestAnimationFrame(frame);
})";

#[test]
fn ten_thousand_machines_stay_fluid_while_a_thousand_events_a_second_come() -> Result<()> {
    let settings = Settings {
        dhcp: "proxy",
        fast_path: "off",
        more: api(true) + &many(MACHINES),
        ..Settings::default()
    };
    let Some(place) = Place::build(&settings)? else { return Ok(()) };
    let (xpxe, mut browser) = begin(&place)?;
    browser.open(PAGE)?;
    browser
        .until(&format!("document.querySelectorAll('#racks button.tile').length === {MACHINES}"), VERDICT)?;
    browser.until("document.getElementById('live').textContent === 'Live'", SOON)?;
    let station = place.rack.client("machines", "02:77:00:00:00:f0")?;
    let wire = Wire::open(&station, "eth0")?;
    let ends = AtomicBool::new(false);
    let (best, seen, sent) = std::thread::scope(|scope| -> Result<_> {
        let sender = scope.spawn(|| -> Result<u32> {
            let (begin, mut sent) = (Instant::now(), 0_u32);
            while !ends.load(Relaxed) {
                let due = begin.elapsed().as_millis() * u128::from(EVENTS) / 1000;
                while u128::from(sent) < due {
                    let [.., high, low] = (sent % MACHINES as u32).to_be_bytes();
                    wire.send(&Client::Edk2Pxe.discover(Mac([2, 0x78, 0, 0, high, low])).frame())?;
                    sent += 1;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            Ok(sent)
        });
        let measure = |browser: &mut Browser| -> Result<(f64, u64)> {
            browser.until("document.querySelectorAll('#racks [data-p=address]').length > 500", SOON)?;
            let mut best = 0.0_f64;
            // Others may use the machine, too.
            let until = Instant::now() + VERDICT;
            while best < 30.0 && Instant::now() < until {
                best = best.max(browser.run(FRAMES)?.as_f64().context("a number")?);
            }
            browser.screenshot("wall.png")?;
            let seen = browser.run("document.querySelectorAll('#racks [data-p=address]').length")?;
            Ok((best, seen.as_u64().context("a number")?))
        };
        let measured = measure(&mut browser);
        ends.store(true, Relaxed);
        let sent = sender.join().map_err(|_| anyhow::anyhow!("the sender has failed"))??;
        let (best, seen) = measured?;
        Ok((best, seen, sent))
    })?;
    let look = browser.run(LOOKS)?.as_f64().context("a number")?;
    println!(
        "{look:.0} ms for the wall at most; {best:.0} frames a second; {sent} requests, {seen} machines of {MACHINES} have changed their colour by then"
    );
    ensure!(best >= 30.0, "only {best:.0} frames a second");
    ensure!(seen > 2000, "only {seen} machines have changed");
    unremarkable(&mut browser)?;
    xpxe.stop()
}
