//! Machines of the registry as a program follows them: what it lists and what it is told then, through a restart.

use anyhow::{Context, Result, ensure};
use boot_tests::daemon::{Xpxe, binary};
use boot_tests::netns::Process;
use boot_tests::place::{Place, SOON, known};
use boot_tests::settings::Settings;
use boot_tests::wait::eventually;
use serde_json::Value;

const MACHINES: &str = "/api/v1/machines";

/// A place whose API needs no token on the Unix socket.
struct Site<'p> {
    place: &'p Place,
    config: String,
}

impl<'p> Site<'p> {
    fn of(place: &'p Place) -> Self {
        Self { place, config: place.rack.dir().join("xpxe.toml").display().to_string() }
    }

    fn says(&self, xpxe: &Xpxe<'_>, words: &[&str]) -> Result<String> {
        xpxe.command(&[words, &["--config", &self.config]].concat())
    }

    fn socket(&self) -> String {
        self.place.rack.dir().join("state/api.sock").display().to_string()
    }

    /// The status and the body of an answer.
    fn get(&self, path: &str) -> Result<(String, Value)> {
        let (socket, url) = (self.socket(), format!("http://xpxe{path}"));
        let words = ["-sS", "-w", "\n%{http_code}", "--unix-socket", &socket, &url];
        let answer = self.place.rack.server.output("curl", &words)?;
        let (body, status) = answer.rsplit_once('\n').context("a status")?;
        Ok((status.to_owned(), serde_json::from_str(body).with_context(|| answer.clone())?))
    }

    fn revision(&self) -> Result<u64> {
        self.get(&format!("{MACHINES}?limit=1"))?.1["revision"].as_u64().context("a revision")
    }

    fn follow(&self, queries: &str) -> Result<Process> {
        let mut curl = self.place.rack.server.command("curl");
        curl.args([
            "-sSN",
            "--unix-socket",
            &self.socket(),
            &format!("http://xpxe{MACHINES}?watch&{queries}"),
        ]);
        self.place.rack.server.spawn(curl)
    }
}

/// What a program was told so far, without signs of life.
fn told(process: &Process) -> Vec<Value> {
    process.lines().iter().filter_map(|line| serde_json::from_str(&line.text).ok()).collect()
}

/// Waits until it was told something.
fn wait(process: &Process, what: &str, is_it: impl Fn(&Value) -> bool) -> Result<Value> {
    eventually(SOON, what, || told(process).iter().any(&is_it))
        .with_context(|| format!("{:?}", told(process)))?;
    told(process).into_iter().find(is_it).context("it was there")
}

#[test]
fn a_program_that_lists_and_then_follows_misses_no_change_of_machines() -> Result<()> {
    let Some(place) = Place::build(&Settings { fast_path: "off", ..known() })? else { return Ok(()) };
    let mut xpxe = place.serve()?;
    let site = Site::of(&place);
    let add = |xpxe: &Xpxe<'_>, name: &str, last: &str| {
        let mac = format!("02:77:00:00:00:{last}");
        site.says(xpxe, &["machines", "add", "--name", name, "--mac", &mac, "--label", "role=worker"])
    };
    add(&xpxe, "carol", "e1")?;
    add(&xpxe, "dave", "e2")?;
    let since = site.revision()?;
    let (all, workers) =
        (site.follow(&format!("since={since}"))?, site.follow("labels=role%3Dworker&since=0")?);
    let is_of = |name: &'static str| move |line: &Value| line["machine"]["spec"]["name"] == name;
    let is_gone = |name: &'static str| move |line: &Value| line["gone"]["name"] == name;
    // What was there is told first, then that this was all.
    wait(&workers, "carol and dave", |line| line["revision"] == since && line["machine"].is_null())?;
    let names: Vec<Value> =
        told(&workers).iter().map(|line| line["machine"]["spec"]["name"].clone()).collect();
    ensure!(names == [Value::from("carol"), Value::from("dave"), Value::Null], "{names:?}");

    site.says(&xpxe, &["machines", "maintain", "carol"])?;
    let changed = wait(&all, "carol's state", is_of("carol"))?;
    ensure!(changed["machine"]["status"]["state"] == "maintenance", "{changed}");
    ensure!(changed["revision"] == changed["machine"]["revision"], "{changed}");
    // One that does not fit any more is gone for who has asked for workers only.
    site.says(&xpxe, &["machines", "set", "dave", "--label", "role="])?;
    ensure!(wait(&workers, "that dave is no worker", is_gone("dave"))?["gone"]["deleted"] == false);
    wait(&all, "dave without his label", is_of("dave"))?;
    ensure!(told(&all).iter().all(|line| line["gone"].is_null()), "{:?}", told(&all));
    let before = site.revision()?;
    site.says(&xpxe, &["machines", "delete", "carol"])?;
    for process in [&all, &workers] {
        let gone = wait(process, "that carol is gone", is_gone("carol"))?;
        ensure!(gone["gone"]["deleted"] == true && gone["revision"] == before + 1, "{gone}");
    }
    site.says(&xpxe, &["reload"])?;
    wait(&all, "that the configuration was read anew", |line| line["reloaded"] == true)?;

    // Whoever was away meanwhile hears of it, though xpxe was restarted; and of what nobody knows it is told.
    xpxe.kill9()?;
    xpxe.restart()?;
    let later = site.follow(&format!("since={before}"))?;
    wait(&later, "that a machine was deleted", |line| line["gone"]["deleted"] == true)?;
    let (status, refused) = site.get(&format!("{MACHINES}?watch&since=999999"))?;
    ensure!(
        status == "410" && refused["error"].to_string().contains("list all machines"),
        "{status} {refused}"
    );
    for (query, says) in [("since=1", "watch"), ("watch=true&limit=2", "without after, limit and never_seen")]
    {
        let (status, refused) = site.get(&format!("{MACHINES}?{query}"))?;
        ensure!(
            status == "400" && refused["error"].to_string().contains(says),
            "{query}: {status} {refused}"
        );
    }
    xpxe.stop()?;
    let is_stopping = |line: &Value| line["error"].as_str().is_some_and(|why| why.contains("stopping"));
    wait(&later, "that xpxe is stopping", is_stopping).map(drop)
}

#[test]
fn the_command_line_shows_what_becomes_of_the_machines_that_it_lists() -> Result<()> {
    let Some(place) = Place::build(&Settings { fast_path: "off", ..known() })? else { return Ok(()) };
    let mut xpxe = place.serve()?;
    let site = Site::of(&place);
    let watch = |more: &[&str]| -> Result<Process> {
        let mut watch = place.rack.server.command(&binary()?.display().to_string());
        watch.args(["machines", "list", "--watch", "--config", &site.config]).args(more);
        place.rack.server.spawn(watch)
    };
    site.says(&xpxe, &["machines", "add", "--name", "carol", "--mac", "02:77:00:00:00:e1"])?;
    let (people, programs, held) = (watch(&[])?, watch(&["--json"])?, watch(&["--state", "maintenance"])?);
    wait(&programs, "carol", |line| line["machine"]["spec"]["name"] == "carol")?;
    wait(&programs, "the end of the list", |line| line["machine"].is_null())?;
    people.wait_for_line("carol", SOON)?;
    held.wait_for_line("NAME", SOON)?;
    let done = site.says(&xpxe, &["machines", "maintain", "carol", "--json"])?;
    let done: Value = serde_json::from_str(&done)?;
    ensure!(done["machine"] == "carol" && done["state"] == "maintenance", "{done}");
    for process in [&people, &held] {
        let is_carol = |line: &str| line.starts_with("carol") && line.contains("maintenance");
        process.wait_for_line_where("carol in maintenance", SOON, is_carol)?;
    }
    wait(&programs, "carol", |line| line["machine"]["status"]["state"] == "maintenance")?;
    site.says(&xpxe, &["machines", "resume", "carol"])?;
    held.wait_for_line("not selected any more", SOON)?;
    site.says(&xpxe, &["machines", "delete", "carol"])?;
    people.wait_for_line("deleted", SOON)?;

    // They outlast a restart: what there is then is listed anew, as after a reload.
    xpxe.kill9()?;
    xpxe.restart()?;
    people.wait_for_line("xpxe answers again", SOON)?;
    wait(&programs, "that the machines are listed anew", |line| line["reloaded"] == true)?;
    site.says(&xpxe, &["machines", "add", "--name", "dave", "--mac", "02:77:00:00:00:e2"])?;
    people.wait_for_line("dave", SOON)?;
    wait(&programs, "dave", |line| line["machine"]["spec"]["name"] == "dave")?;
    xpxe.stop()
}
