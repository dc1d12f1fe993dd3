//! BMCs: a Redfish one that does wrong by rule, OpenIPMI's simulator, and Wake-on-LAN, from the command line to the wire.

use std::fs::{self, Permissions};
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use boot_tests::bmc::{self, Fault, IpmiSim, PASSWORD, Redfish, Rule, SYSTEM, Sushy, USER, always};
use boot_tests::daemon::Xpxe;
use boot_tests::dhcp_client::{Client, Wire, mac};
use boot_tests::place::{Place, SOON, known};
use boot_tests::settings::Settings;
use boot_tests::wait::eventually;
use serde_json::{Value, json};

const NODE: &str = "02:77:00:00:00:e9";
const ADDRESS: &str = "10.77.0.9";
const RESET: &str = "/redfish/v1/Systems/1/Actions";

/// A rack whose server reads a password from a file and waits a second wherever it waits.
fn place() -> Result<Option<Place>> {
    let settings = Settings { fast_path: "off", ..known() };
    let Some(mut place) = Place::build(&settings)? else { return Ok(None) };
    let password = place.rack.dir().join("password");
    fs::write(&password, format!("{PASSWORD}\n"))?;
    fs::set_permissions(&password, Permissions::from_mode(0o600))?;
    place.config += &format!(
        "\n[lifecycle]\nwipe = false\n\n[bmc]\nuser = \"{USER}\"\npassword_file = {password:?}\ntimeout = \"3s\"\npause = \"1s\"\npoll = \"1s\"\n"
    );
    Ok(Some(place))
}

/// Runs `xpxe` with the place's configuration.
fn says(place: &Place, xpxe: &Xpxe<'_>, words: &[&str]) -> Result<String> {
    let file = place.rack.dir().join("xpxe.toml").display().to_string();
    xpxe.command(&[words, &["--config", &file]].concat())
}

fn power(place: &Place, xpxe: &Xpxe<'_>, words: &[&str]) -> Result<String> {
    says(place, xpxe, &[&["machines", "power"], words].concat())
}

fn shown(place: &Place, xpxe: &Xpxe<'_>, which: &str) -> Result<Value> {
    Ok(serde_json::from_str(&says(place, xpxe, &["machines", "show", which, "--json"])?)?)
}

/// What real BMCs do, and some that are broken: each with the rule, the command, and what it comes to.
#[test]
fn redfish_does_what_it_can_with_bmcs_that_differ_and_says_what_is_wrong_with_others() -> Result<()> {
    let Some(mut place) = place()? else { return Ok(()) };
    let bmc = Redfish::start(&place.rack.server)?;
    place.config = place.config.replace(
        "name = \"alice\"",
        &format!("name = \"alice\"\nbmc = {{ address = \"{}\", insecure = true }}", bmc.url()),
    );
    let xpxe = place.serve()?;
    let on = |words: &[&str]| power(&place, &xpxe, &[words, &["alice"]].concat());

    ensure!(on(&["status"])? == "alice: off\n");
    ensure!(on(&["on", "--dry-run"])? == "would tell the BMC of alice: on\n" && !bmc.is_on());
    ensure!(on(&["on", "--boot", "pxe"])? == "alice: done\n" && bmc.is_on());
    let once = json!({ "BootSourceOverrideEnabled": "Once", "BootSourceOverrideTarget": "Pxe", "BootSourceOverrideMode": "UEFI" });
    ensure!(bmc.boot() == Some(once), "{:?}", bmc.boot());
    ensure!(on(&["status"])? == "alice: on\n");

    // Who is on already is left alone.
    bmc.rules(&[]);
    on(&["on"])?;
    ensure!(bmc.told().is_empty(), "{:?}", bmc.told());

    let types = "/Actions/#ComputerSystem.Reset/ResetType@Redfish.AllowableValues";
    for (rules, words, told) in [
        // Some have no UEFI in that list, and some want the tag, the newest one or any.
        (
            vec![always("PATCH", SYSTEM, Fault::Word("BootSourceOverrideMode"))],
            ["cycle", "pxe"],
            vec!["PATCH", "PATCH", "ForceRestart"],
        ),
        (
            vec![always("PATCH", SYSTEM, Fault::Unless("\"7\""))],
            ["cycle", "http"],
            vec!["UefiHttp", "ForceRestart"],
        ),
        (
            vec![always("PATCH", SYSTEM, Fault::Unless("*"))],
            ["cycle", "disk"],
            vec!["Hdd", "Hdd", "ForceRestart"],
        ),
        (
            vec![always("GET", SYSTEM, Fault::Changed(types, json!(["On", "PowerCycle"])))],
            ["cycle", "pxe"],
            vec!["PATCH", "PowerCycle"],
        ),
        // One that does not say what it allows, and does not know the first word.
        (
            vec![
                always("GET", SYSTEM, Fault::Changed(types, Value::Null)),
                always("POST", RESET, Fault::Word("ForceRestart")),
            ],
            ["cycle", "pxe"],
            vec!["PATCH", "ForceRestart", "PowerCycle"],
        ),
    ] {
        bmc.press(true);
        bmc.rules(&rules);
        on(&[words[0], "--boot", words[1]]).with_context(|| format!("{rules:?}"))?;
        let asked = bmc.told();
        ensure!(asked.len() == told.len(), "{rules:?}: {asked:?}");
        ensure!(asked.iter().zip(&told).all(|(asked, word)| asked.contains(word)), "{rules:?}: {asked:?}");
    }
    // A moment's weakness is not the operator's business.
    bmc.press(true);
    bmc.rules(&[Rule { method: "POST", path: RESET, times: 1, fault: Fault::Status(503) }]);
    ensure!(on(&["off"])? == "alice: done\n" && !bmc.is_on());
    ensure!(bmc.told().len() == 2, "{:?}", bmc.told());

    let elsewhere = json!("https://192.0.2.1/redfish/v1/Systems");
    for (rule, asked, says) in [
        (always("GET", "/", Fault::Status(401)), 1, "are user and password right"),
        (always("GET", SYSTEM, Fault::Status(404)), 3, "is this a BMC with Redfish?"),
        (always("GET", "/redfish/v1/", Fault::Text("<html>")), 1, "answers no JSON"),
        (always("GET", "/redfish/v1/Systems", Fault::Text("{\"Members\": []}")), 2, "has no system"),
        (
            always("GET", "/redfish/v1/", Fault::Changed("/Systems/@odata.id", elsewhere)),
            1,
            "which is no path of it",
        ),
        (always("GET", "/", Fault::Late(Duration::from_secs(5))), 2, "it has not answered within 3s"),
    ] {
        bmc.rules(std::slice::from_ref(&rule));
        let said = on(&["status"]).err().with_context(|| format!("{rule:?} is answered"))?.to_string();
        ensure!(said.contains(says), "{rule:?}: {said}");
        // Who is refused is not asked again: too many wrong passwords lock a user out.
        ensure!(bmc.count() == asked, "{rule:?}: asked {} times", bmc.count());
    }
    bmc.rules(&[]);
    ensure!(on(&["reset-bmc"])? == "alice: done\n");
    ensure!(bmc.told() == ["POST Manager.Reset {\"ResetType\":\"GracefulRestart\"}"], "{:?}", bmc.told());
    let none = power(&place, &xpxe, &["on", "bob"]).err().context("bob has no BMC")?.to_string();
    ensure!(none.contains("bob has no BMC"), "{none}");
    xpxe.stop()
}

#[test]
fn a_machine_is_found_by_its_uuid_among_those_of_an_emulator_by_others() -> Result<()> {
    const OTHER: &str = "78707865-0000-4000-8000-000000000001";
    const OWN: &str = "78707865-0000-4000-8000-000000000002";
    let Some(mut place) = place()? else { return Ok(()) };
    let server = &place.rack.server;
    let sushy = Sushy::start(server, &place.rack.dir().join("sushy"), &[OTHER, OWN])?;
    let bmc = format!(
        "name = \"alice\"\nuuid = \"{OWN}\"\nbmc = {{ address = \"{}\", insecure = true }}",
        Sushy::URL
    );
    place.config = place.config.replace("name = \"alice\"", &bmc);
    let xpxe = place.serve()?;
    ensure!(power(&place, &xpxe, &["status", "alice"])? == "alice: off\n");
    power(&place, &xpxe, &["on", "--boot", "pxe", "alice"])?;
    eventually(SOON, "it is on", || {
        power(&place, &xpxe, &["status", "alice"]).is_ok_and(|said| said == "alice: on\n")
    })?;
    let system = sushy.system(server, OWN)?;
    ensure!(system["Boot"]["BootSourceOverrideTarget"] == "Pxe", "{system}");
    ensure!(sushy.system(server, OTHER)?["PowerState"] == "Off");
    power(&place, &xpxe, &["off", "alice"])?;
    eventually(SOON, "it is off", || {
        power(&place, &xpxe, &["status", "alice"]).is_ok_and(|said| said == "alice: off\n")
    })?;
    ensure!(sushy.resets() == 2, "{}", sushy.resets());
    xpxe.stop()
}

#[test]
fn a_bmc_shows_the_certificate_of_the_configuration_or_is_told_nothing() -> Result<()> {
    let Some(mut place) = place()? else { return Ok(()) };
    let dir = place.rack.dir().to_owned();
    let file = |name: &str| dir.join(name).display().to_string();
    let server = &place.rack.server;
    let (key, certificate) = (file("bmc.pem"), file("bmc.crt"));
    let make = [
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-subj",
        "/CN=bmc",
        "-keyout",
        &key,
        "-out",
        &certificate,
    ];
    server.output("openssl", &make)?;
    let print =
        server.output("openssl", &["x509", "-in", &certificate, "-noout", "-fingerprint", "-sha256"])?;
    let digest = print.trim().rsplit('=').next().context("a fingerprint")?.to_owned();
    let first = if digest.starts_with('A') { 'B' } else { 'A' };
    let another = format!("{first}{}", digest.get(1..).context("a digest")?);
    // It answers a page: with that, all of TLS has gone well.
    let mut tls = server.command("openssl");
    tls.args([
        "s_server",
        "-quiet",
        "-accept",
        "127.0.0.1:4430",
        "-www",
        "-key",
        &key,
        "-cert",
        &certificate,
    ]);
    let _tls = server.spawn(tls)?;
    server.wait_for_listener(4430, SOON)?;
    let plain = place.config.clone();
    for (more, says) in [
        (String::new(), "does not answer: invalid peer certificate"),
        (format!(", certificate = \"sha256:{another}\""), "it shows another certificate"),
        (format!(", certificate = \"{digest}\""), "answers no JSON"),
        (", insecure = true".to_owned(), "answers no JSON"),
    ] {
        let bmc = format!("name = \"alice\"\nbmc = {{ address = \"127.0.0.1:4430\"{more} }}");
        place.config = plain.replace("name = \"alice\"", &bmc);
        let xpxe = place.serve()?;
        let said =
            power(&place, &xpxe, &["status", "alice"]).err().context("a BMC that answers")?.to_string();
        ensure!(said.contains(says), "{more}: {said}");
        xpxe.stop()?;
    }
    Ok(())
}

#[test]
fn ipmi_switches_a_machine_whose_bmc_is_found_by_its_lease() -> Result<()> {
    const BMC: &str = "02:77:00:00:0b:01";
    let Some(place) = place()? else { return Ok(()) };
    bmc::provide_ipmitool()?;
    let xpxe = place.serve()?;
    let add = [
        "machines",
        "add",
        "--name",
        "node9",
        "--mac",
        NODE,
        "--ip",
        ADDRESS,
        "--bmc-driver",
        "ipmi",
        "--bmc-mac",
        BMC,
    ];
    says(&place, &xpxe, &[&add[..], &["--bmc-cipher", "3"]].concat())?;
    let missing =
        power(&place, &xpxe, &["status", "node9"]).err().context("a BMC without an address")?.to_string();
    ensure!(missing.contains(&format!("its BMC {BMC} has no address from xpxe yet")), "{missing}");
    let station = place.rack.client("bmc", BMC)?;
    let wire = Wire::open(&station, "eth0")?;
    let address = wire.lease(&Client::new(mac(BMC)?))?.address().to_string();
    station.output("ip", &["address", "add", &format!("{address}/24"), "dev", "eth0"])?;
    let sim = IpmiSim::start(&station, &place.rack.dir().join("sim"), &address, 623)?;
    eventually(SOON, "the BMC answers", || power(&place, &xpxe, &["status", "node9"]).is_ok())?;
    ensure!(power(&place, &xpxe, &["status", "node9"])? == "node9: off\n");
    power(&place, &xpxe, &["on", "--boot", "pxe", "node9"])?;
    ensure!(sim.is_on() && sim.told() == ["boot pxe", "power 1"], "{:?}", sim.told());
    ensure!(power(&place, &xpxe, &["status", "node9"])? == "node9: on\n");
    power(&place, &xpxe, &["off", "node9"])?;
    ensure!(!sim.is_on());
    // A card of a BMC is no machine that somebody has to accept.
    let listed = says(&place, &xpxe, &["machines", "list"])?;
    ensure!(!listed.contains(BMC), "{listed}");
    // Another password, from its own file and encrypted in the store: it goes before the one of all.
    let other = place.rack.dir().join("other");
    fs::write(&other, "wrong\n")?;
    says(&place, &xpxe, &["machines", "set", "node9", "--bmc-password-file", &other.display().to_string()])?;
    let refused = power(&place, &xpxe, &["status", "node9"]).err().context("a wrong password")?.to_string();
    ensure!(refused.contains("are user and password right"), "{refused}");
    xpxe.stop()
}

/// A machine of the registry whose power follows its state, through a BMC that fails at first; and nowhere is its password.
#[test]
fn power_follows_the_state_and_the_password_is_in_no_file_log_or_answer() -> Result<()> {
    let Some(mut place) = place()? else { return Ok(()) };
    let bmc = Redfish::start(&place.rack.server)?;
    bmc.press(true);
    // The simulated one speaks HTTP.
    place.config = place.config.replace("[bmc]\n", "[bmc]\ninsecure = true\n");
    let xpxe = place.serve()?;
    let manifest = place.rack.dir().join("machines.csv");
    let head = "name,mac,labels,bmc_address,bmc_user,bmc_password";
    fs::write(&manifest, format!("{head}\nnode9,{NODE},rack=7,{},{USER},{PASSWORD}\n", bmc.url()))?;
    // The one of all is wrong: the machine's own has to be taken.
    fs::write(place.rack.dir().join("password"), "wrong\n")?;
    let imported = says(&place, &xpxe, &["machines", "import", &manifest.display().to_string()])?;
    ensure!(imported == "added 1, changed 0, unchanged 0, refused 0\n", "{imported}");
    fs::remove_file(&manifest)?;
    says(&place, &xpxe, &["machines", "accept", "node9"])?;
    eventually(SOON, "who is ready is off", || !bmc.is_on())?;
    bmc.rules(&[Rule { method: "POST", path: RESET, times: 2, fault: Fault::Status(500) }]);
    says(&place, &xpxe, &["machines", "allocate", "node9"])?;
    eventually(SOON, "who is allocated is on, at the second try", || bmc.is_on())?;
    let patched = bmc.boot().and_then(|boot| boot["BootSourceOverrideTarget"].as_str().map(str::to_owned));
    ensure!(patched.as_deref() == Some("Pxe"));
    eventually(SOON, "that is shown", || {
        shown(&place, &xpxe, "node9").is_ok_and(|machine| {
            let power = &machine["status"]["power"];
            power["is"] == "on" && power["last"]["command"] == "on" && power["last"]["end"] == "done"
        })
    })?;
    let page = place.rack.server.output("curl", &["-sS", "http://10.77.0.1:8080/metrics"])?;
    let failed = "xpxe_power_commands_total{command=\"on\",end=\"failed\"} 1";
    ensure!(page.lines().any(|line| line == failed), "{page}");
    let text = says(&place, &xpxe, &["machines", "show", "node9"])?;
    ensure!(text.contains("its own password"), "{text}");
    let log: Vec<String> = xpxe.log().iter().map(|event| format!("{event:?}")).collect();
    ensure!(log.iter().any(|line| line.contains("its BMC has not carried out the command on")), "{log:#?}");
    xpxe.stop()?;
    let told = [page, text, log.concat(), says_offline(&place)?];
    ensure!(told.iter().all(|text| !text.contains(PASSWORD)));
    let mut looked_at = 0;
    search(&place.rack.dir().join("state"), &mut looked_at)?;
    ensure!(looked_at > 2, "only {looked_at} files");
    Ok(())
}

/// What `xpxe check` says of the configuration, which names a file with a password.
fn says_offline(place: &Place) -> Result<String> {
    let file = place.rack.dir().join("xpxe.toml").display().to_string();
    let binary = boot_tests::daemon::binary()?.display().to_string();
    place.rack.server.output(&binary, &["check", "--no-files", "--config", &file])
}

/// Fails if a file below a directory has the password.
fn search(dir: &Path, looked_at: &mut usize) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            search(&path, looked_at)?;
        } else if path.is_file() {
            let bytes = fs::read(&path)?;
            *looked_at += 1;
            let has = bytes.windows(PASSWORD.len()).any(|some| some == PASSWORD.as_bytes());
            ensure!(!has, "{} has the password", path.display());
        }
    }
    Ok(())
}

#[test]
fn a_machine_without_a_bmc_is_woken_in_its_own_network() -> Result<()> {
    let Some(mut place) = place()? else { return Ok(()) };
    let bmc = "name = \"alice\"\nbmc = { driver = \"wake-on-lan\" }";
    place.config = place.config.replace("name = \"alice\"", bmc);
    let xpxe = place.serve()?;
    let alice = place.rack.neighbour("alice", "02:77:00:00:00:10", "10.77.0.10/24")?;
    let ear = alice.run(|| UdpSocket::bind("0.0.0.0:9"))??;
    ear.set_read_timeout(Some(SOON))?;
    ensure!(power(&place, &xpxe, &["on", "alice"])? == "alice: done\n");
    let mut heard = [0; 200];
    let length = ear.recv(&mut heard)?;
    let expected = [[0xff; 6].as_slice(), &[2, 0x77, 0, 0, 0, 0x10].repeat(16)].concat();
    ensure!(heard[..length] == expected, "{:?}", &heard[..length]);
    ensure!(power(&place, &xpxe, &["status", "alice"])? == "alice: unknown\n");
    let said = power(&place, &xpxe, &["off", "alice"]).err().context("nobody can")?.to_string();
    ensure!(said.contains("Wake-on-LAN can only switch on"), "{said}");
    xpxe.stop()
}
