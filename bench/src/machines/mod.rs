//! A registry of many machines: how long it takes to bring them, to start with them, and to change, list and find one.
//!
//! A change is a PATCH of one machine's address by the API on the Unix socket. It is timed until the address is in the table of
//! the kernel half, which is read as XDP reads it, and until it is answered; what is answered is on the disk.

mod api;

use std::fmt::Write as _;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use aya::maps::{HashMap, Map, MapData};
use boot_bench::machine::Machine;
use boot_common::Mac;
use boot_common::tables::{Host, HostKey, name};
use boot_tests::place::Place;
use boot_tests::settings::{Settings, pin_dir};
use boot_tests::wait::eventually;
use serde_json::Value;

use crate::storm::kind::Kind;
use api::Api;

/// What the machines' addresses are in.
const NETWORK: &str = "10.64.0.0/10";
/// Theirs, and those that they are given by a change.
const FIRST: u32 = u32::from_be_bytes([10, 80, 0, 1]);
const NEXT: u32 = u32::from_be_bytes([10, 112, 0, 1]);
/// Every machine of so many has the label that is searched for.
const RARE: u32 = 1000;
const START: Duration = Duration::from_secs(600);
/// No change takes as long.
const AT_MOST: Duration = Duration::from_secs(10);
/// Behind this number the API lists the machines of the registry.
const REGISTRY: u64 = 1 << 52;

/// A registry of many machines.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How many machines, one run each
    #[arg(long, value_delimiter = ',', default_values_t = [100, 100_000, 1_000_000])]
    machines: Vec<u32>,
    /// How often one is changed, and one is found
    #[arg(long, default_value_t = 200)]
    changes: u32,
    /// How often each page is listed
    #[arg(long, default_value_t = 20)]
    pages: u32,
}

/// What one run gave.
struct Run {
    machines: u32,
    import: Duration,
    start: Duration,
    /// Bytes of the daemon after a start.
    memory: u64,
    reload: Duration,
    table: Times,
    change: Times,
    pages: Vec<(&'static str, Times)>,
    found: Times,
}

/// How long something took, in order.
struct Times(Vec<Duration>);

impl Times {
    fn of(count: u32, mut act: impl FnMut(u32) -> Result<Duration>) -> Result<Self> {
        let mut all = (0..count).map(&mut act).collect::<Result<Vec<_>>>()?;
        all.sort_unstable();
        Ok(Self(all))
    }

    /// So many thousandths are not longer.
    fn quantile(&self, thousandths: usize) -> Duration {
        let last = self.0.len().saturating_sub(1);
        self.0.get((self.0.len() * thousandths / 1000).min(last)).copied().unwrap_or_default()
    }

    fn text(&self) -> String {
        let millis = |quantile| self.quantile(quantile).as_secs_f64() * 1000.0;
        format!("{:.2}, {:.2}", millis(500), millis(990))
    }
}

/// Measures, and prints what was measured.
pub(crate) fn run(args: &Args) -> Result<()> {
    ensure!(args.machines.iter().all(|many| (1..=1_000_000).contains(many)), "1 to 1,000,000 machines");
    ensure!(args.changes > 0 && args.pages > 0, "something has to be done");
    Machine::look(vec![(Kind::Xpxe.name(), Kind::Xpxe.version()?)])?.print();
    let mut runs = Vec::new();
    for many in &args.machines {
        eprintln!("{many} machines");
        runs.push(measure(*many, args)?);
    }
    print(&runs);
    Ok(())
}

fn measure(many: u32, args: &Args) -> Result<Run> {
    let mut place = Place::build(&Settings::default())?.context("the benchmark has to run as root")?;
    place.config = place.config.replace("cidr = \"10.77.0.0/24\"", &format!("cidr = \"{NETWORK}\""));
    ensure!(place.config.contains(NETWORK), "the settings have another network");
    let mut xpxe = place.serve()?;
    let list = place.rack.dir().join("machines.csv");
    fs::write(&list, manifest(many))?;
    let list = list.display().to_string();
    let config = place.rack.dir().join("xpxe.toml").display().to_string();
    let began = Instant::now();
    let said = xpxe.command(&["machines", "import", &list, "--config", &config])?;
    let import = began.elapsed();
    ensure!(said.starts_with(&format!("added {many},")), "{said}");
    xpxe.stop()?;
    let began = Instant::now();
    xpxe.start_again()?;
    eventually(START, "xpxe is ready", || xpxe.log().iter().any(|event| event.message() == "ready"))?;
    let start = began.elapsed();
    let memory = resident(xpxe.pid())?;
    let mut api = Api::open(&place.rack.dir().join("state/api.sock"))?;
    let hosts = hosts(&pin_dir(&place.sandbox).join(name::HOSTS))?;
    // The last one is there, so all are.
    wait_for(&hosts, many - 1, address(many - 1))?;
    let (mut table, mut change) = (Vec::new(), Vec::new());
    for number in 0..args.changes {
        let which = spread(number, many);
        let wanted = Ipv4Addr::from(NEXT + number);
        let path = format!("/api/v1/machines/n{which}");
        let began = Instant::now();
        api.send("PATCH", &path, &format!("{{\"spec\":{{\"ip\":\"{wanted}\"}}}}"))?;
        wait_for(&hosts, which, wanted)?;
        table.push(began.elapsed());
        api.answer()?;
        change.push(began.elapsed());
    }
    table.sort_unstable();
    change.sort_unstable();
    let pages = pages(&mut api, many, args.pages)?;
    let found = Times::of(args.changes, |number| {
        let path = format!("/api/v1/machines/{}", mac(spread(number, many)));
        let began = Instant::now();
        api.ask("GET", &path, "")?;
        Ok(began.elapsed())
    })?;
    // Each machine is checked against it.
    xpxe.write_config(&format!("{}\n[lifecycle]\nagent = \"guest\"\n", place.config))?;
    let began = Instant::now();
    xpxe.command(&["reload", "--config", &config])?;
    let reload = began.elapsed();
    xpxe.stop()?;
    Ok(Run {
        machines: many,
        import,
        start,
        memory,
        reload,
        table: Times(table),
        change: Times(change),
        pages,
        found,
    })
}

fn pages(api: &mut Api, many: u32, times: u32) -> Result<Vec<(&'static str, Times)>> {
    let near_the_end = api.ask("GET", &format!("/api/v1/machines/n{}", many.saturating_sub(60)), "")?;
    let near_the_end: Value = serde_json::from_slice(&near_the_end)?;
    let after = REGISTRY + near_the_end["id"].as_u64().context("no number")?;
    let last = format!("limit=100&after={after}");
    let mut pages = Vec::new();
    for (what, query) in [
        ("first 100", "limit=100"),
        ("last 100", &last),
        ("first 1000", "limit=1000"),
        ("100 with a rare label", "limit=100&labels=rack=7"),
        ("in a state that none is in", "limit=100&state=failed"),
    ] {
        let times = Times::of(times, |_| {
            let began = Instant::now();
            api.ask("GET", &format!("/api/v1/machines?{query}"), "")?;
            Ok(began.elapsed())
        })?;
        pages.push((what, times));
    }
    Ok(pages)
}

fn manifest(many: u32) -> String {
    let mut text = "name,mac,ip,labels\n".to_owned();
    for number in 0..many {
        let rack = if number % RARE == 7 { "7".to_owned() } else { format!("r{}", number / 40) };
        let written = writeln!(text, "n{number},{},{},rack={rack};role=worker", mac(number), address(number));
        debug_assert!(written.is_ok());
    }
    text
}

fn mac(number: u32) -> Mac {
    let [a, b, c, d] = number.to_be_bytes();
    Mac([6, 0, a, b, c, d])
}

fn address(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(FIRST + number)
}

/// Machines that are not neighbours.
fn spread(number: u32, many: u32) -> u32 {
    let far = u64::from(number) * 7_919_993 % u64::from(many);
    u32::try_from(far).unwrap_or(0)
}

fn hosts(pin: &Path) -> Result<HashMap<MapData, HostKey, Host>> {
    let map = MapData::from_pin(pin).with_context(|| pin.display().to_string())?;
    Ok(Map::HashMap(map).try_into()?)
}

fn wait_for(hosts: &HashMap<MapData, HostKey, Host>, number: u32, wanted: Ipv4Addr) -> Result<()> {
    let (key, began) = (HostKey::from(mac(number)), Instant::now());
    loop {
        if hosts.get(&key, 0).is_ok_and(|host| host.address == wanted.octets()) {
            return Ok(());
        }
        ensure!(began.elapsed() < AT_MOST, "{wanted} of n{number} is not in the kernel's table");
        std::thread::yield_now();
    }
}

fn resident(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
}

fn print(runs: &[Run]) {
    let row = |what: &str, cell: &dyn Fn(&Run) -> String| {
        let cells: Vec<String> = runs.iter().map(cell).collect();
        println!("| {what} | {} |", cells.join(" | "));
    };
    row("machines", &|run| run.machines.to_string());
    row("---", &|_| "---".to_owned());
    row("import, s", &|run| format!("{:.2}", run.import.as_secs_f64()));
    row("start, s", &|run| format!("{:.2}", run.start.as_secs_f64()));
    row("memory after a start, MB", &|run| format!("{:.0}", run.memory as f64 / 1e6));
    row("reload, s", &|run| format!("{:.2}", run.reload.as_secs_f64()));
    row("change until the kernel's table has it: p50, p99 ms", &|run| run.table.text());
    row("change until it is answered", &|run| run.change.text());
    row("look-up by MAC", &|run| run.found.text());
    for (index, what) in
        runs.first().map(|run| &run.pages).into_iter().flatten().map(|(what, _)| *what).enumerate()
    {
        row(&format!("page: {what}"), &|run| {
            run.pages.get(index).map_or_else(String::new, |(_, times)| times.text())
        });
    }
}
