//! xpxe with its machines and leases in PostgreSQL: what it does while PostgreSQL hangs, is killed, comes back, or is away at
//! a start.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use boot_fixtures::postgres::Server;
use boot_tests::daemon::Xpxe;
use boot_tests::dhcp_client::{Client, mac};
use boot_tests::place::{Place, SOON, known};
use boot_tests::settings::Settings;
use boot_tests::wait::eventually;
use nix::sys::signal::Signal;
use serde_json::Value;

const NODE: &str = "02:77:00:00:00:e9";
const ADDRESS: &str = "10.77.0.9";

/// A rack whose xpxe stores in a PostgreSQL of its own.
struct Rig {
    /// It has its data in the place's directory, so it ends first.
    postgres: Server,
    place: Place,
    url: String,
}

impl Rig {
    fn build(fast_path: &'static str) -> Result<Option<Self>> {
        let Some(mut place) = Place::build(&Settings { fast_path, ..known() })? else { return Ok(None) };
        let postgres = Server::start_in(&place.rack.dir().join("postgres"))?;
        let url = postgres.new_database()?;
        place.config = format!("store = {url:?}\n{}", place.config);
        Ok(Some(Self { postgres, place, url }))
    }

    fn sql(&self, statement: &str) -> Result<String> {
        self.postgres.sql(&self.url, statement)
    }

    fn says(&self, xpxe: &Xpxe<'_>, words: &[&str]) -> Result<String> {
        let file = self.place.rack.dir().join("xpxe.toml").display().to_string();
        xpxe.command(&[words, &["--config", &file]].concat())
    }

    /// The status and the body of an answer of the API.
    fn api(&self, method: &str, path: &str, body: &str) -> Result<(u16, Value)> {
        let socket = self.place.rack.dir().join("state/api.sock").display().to_string();
        let url = format!("http://xpxe/api/v1/machines{path}");
        let words = ["-sS", "--unix-socket", &socket, "-X", method, "-d", body, "-w", "\n%{http_code}", &url];
        let answer = self.place.rack.server.output("curl", &words)?;
        let (body, status) = answer.rsplit_once('\n').context("a status")?;
        Ok((status.parse()?, serde_json::from_str(body).unwrap_or_default()))
    }

    /// A page of the HTTP server, whatever its status.
    fn page(&self, path: &str) -> Result<String> {
        self.place.rack.server.output("curl", &["-sS", &format!("http://10.77.0.1:8080/{path}")])
    }

    /// That machines cannot be changed, while known ones and new ones get addresses.
    fn serves_without_changes(&self, xpxe: &Xpxe<'_>, address: std::net::Ipv4Addr, other: u8) -> Result<()> {
        let (status, answer) =
            self.api("POST", "", "{\"spec\":{\"name\":\"late\",\"mac\":[\"02:77:00:00:00:ea\"]}}")?;
        let why = answer["error"].as_str().unwrap_or_default();
        ensure!(status == 503 && why.starts_with("PostgreSQL on "), "{status} {answer}");
        ensure!(self.api("GET", "/node9", "")?.0 == 200, "what is known can be read");
        let wire = self.place.client()?;
        ensure!(wire.lease(&Client::new(mac(NODE)?))?.address() == address);
        let other = Client::new(mac(&format!("02:77:00:00:01:{other:02x}"))?);
        wire.lease(&other).context("a new machine's lease is kept on this host")?;
        let is_noted =
            || self.page("readyz").is_ok_and(|page| page.starts_with("ready\nnote: PostgreSQL on "));
        eventually(SOON, "/readyz says so", is_noted)?;
        let metrics = self.page("metrics")?;
        ensure!(metrics.contains("\nxpxe_postgres_up 0\n"), "{metrics}");
        let status = self.says(xpxe, &["status"])?;
        ensure!(status.contains("machines cannot be changed: PostgreSQL on "), "{status}");
        Ok(())
    }

    fn is_up(&self) -> bool {
        self.page("metrics").is_ok_and(|page| page.contains("\nxpxe_postgres_up 1\n"))
    }

    fn leases(&self) -> Result<usize> {
        Ok(self.sql("SELECT COUNT(*) FROM leases WHERE state = 'leased'")?.trim().parse()?)
    }
}

#[test]
fn machines_boot_while_postgresql_hangs_and_after_it_was_killed_and_nothing_is_lost() -> Result<()> {
    for fast_path in ["xdp", "off"] {
        let Some(rig) = Rig::build(fast_path)? else { return Ok(()) };
        let mut xpxe = rig.place.serve()?;
        let added = format!("{{\"spec\":{{\"name\":\"node9\",\"mac\":[\"{NODE}\"],\"ip\":\"{ADDRESS}\"}}}}");
        ensure!(rig.api("POST", "", &added)?.0 == 201);
        let stored = rig.sql("SELECT version, name, state FROM machines WHERE revision > 0")?;
        ensure!(stored == "1|node9|discovered\n", "{stored}");
        let wire = rig.place.client()?;
        let address = wire.lease(&Client::new(mac(NODE)?))?.address();
        ensure!(address.to_string() == ADDRESS);
        wire.lease(&Client::new(mac("02:77:00:00:01:01")?))?;
        let before = 2;
        eventually(SOON, "the leases are in PostgreSQL", || rig.leases().is_ok_and(|count| count == before))?;
        drop(wire);

        // It hangs: the first change finds that out.
        rig.postgres.signal(Signal::SIGSTOP)?;
        rig.serves_without_changes(&xpxe, address, 2).context("it hangs")?;
        rig.postgres.signal(Signal::SIGCONT)?;
        eventually(SOON, "it is back", || rig.is_up())?;
        eventually(SOON, "so are the leases", || rig.leases().is_ok_and(|count| count == before + 1))?;
        ensure!(rig.api("POST", "/node9/accept", "{}")?.0 == 200);
        ensure!(rig.sql("SELECT COUNT(*) FROM machines")?.trim() == "1", "what was refused is not there");

        // It is killed.
        rig.postgres.kill()?;
        eventually(SOON, "it is missed", || !rig.is_up())?;
        rig.serves_without_changes(&xpxe, address, 3).context("it was killed")?;
        // So is xpxe, and starts with its copy.
        xpxe.kill9()?;
        xpxe.restart()?;
        eventually(SOON, "it is missed", || rig.page("readyz").is_ok_and(|page| page.contains("note: ")))?;
        rig.serves_without_changes(&xpxe, address, 4).context("it is away at a start")?;
        rig.postgres.start()?;
        eventually(SOON, "it is back", || rig.is_up())?;
        eventually(SOON, "so are the leases", || rig.leases().is_ok_and(|count| count == before + 3))?;
        ensure!(rig.api("POST", "/node9/ignore", "{}")?.0 == 200);
        let stored = rig.sql("SELECT state FROM machines")?;
        ensure!(stored == "ignored\n", "{stored}");

        let said = |words: &str| xpxe.log().iter().filter(|event| event.message().contains(words)).count();
        ensure!(said("is back: machines can be changed again") == 2, "{}", xpxe.last_lines(60));
        xpxe.stop()?;

        // Another host has nothing but the database.
        fs::remove_dir_all(rig.place.rack.dir().join("state"))?;
        xpxe.restart()?;
        let listed = rig.says(&xpxe, &["machines", "list"])?;
        ensure!(listed.contains("node9") && listed.contains("ignored"), "{listed}");
        let listed = rig.says(&xpxe, &["leases", "list"])?;
        ensure!((1..=4).all(|last| listed.contains(&format!("02:77:00:00:01:{last:02x}"))), "{listed}");
        xpxe.stop()?;
        let listed = rig.says(&xpxe, &["leases", "list"])?;
        ensure!(listed.contains("02:77:00:00:01:01"), "without a daemon: {listed}");
    }
    Ok(())
}

#[test]
fn a_daemon_whose_file_is_no_copy_of_its_database_says_so_and_ends() -> Result<()> {
    let Some(rig) = Rig::build("off")? else { return Ok(()) };
    let xpxe = rig.place.serve()?;
    ensure!(
        rig.api("POST", "", &format!("{{\"spec\":{{\"name\":\"node9\",\"mac\":[\"{NODE}\"]}}}}"))?.0 == 201
    );
    xpxe.stop()?;
    let file = rig.place.rack.dir().join("xpxe.toml");
    let refused = |config: &str| {
        fs::write(&file, config)?;
        let mut command = rig.place.rack.server.command(&xpxe.binary().display().to_string());
        let output = command.args(["serve", "--config"]).arg(&file).output()?;
        ensure!(!output.status.success());
        Ok(String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout))
    };
    // A file with machines of its own.
    let (state, other) = (rig.place.rack.dir().join("state"), rig.place.rack.dir().join("other"));
    let elsewhere = rig.place.config.replace(&format!("{state:?}"), &format!("{other:?}"));
    ensure!(elsewhere != rig.place.config);
    let alone = elsewhere.replace(&format!("store = {:?}\n", rig.url), "");
    let xpxe = Xpxe::start(&rig.place.rack, &alone, &[])?;
    rig.says(&xpxe, &["machines", "add", "--name", "other", "--mac", "02:77:00:00:00:eb"])?;
    xpxe.stop()?;
    let said = refused(&elsewhere)?;
    ensure!(said.contains("others, which are no copy of them"), "{said}");
    // A database that is not there, and no copy.
    fs::remove_dir_all(&other)?;
    let said = refused(&elsewhere.replace("/test0?", "/nothing?"))?;
    ensure!(said.contains("create the database") && said.contains("has no copy of that database"), "{said}");
    // A password is never repeated.
    let said = refused(&elsewhere.replace("postgres://xpxe@", "postgres://xpxe:geheim@"))?;
    ensure!(said.contains("store_password_file") && !said.contains("geheim"), "{said}");
    Ok(())
}
