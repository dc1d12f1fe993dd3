//! The tables.

use std::time::Duration;

use boot_bench::machine::Machine;
use serde_json::{Value, json};

use super::boots::Boots;
use super::compare::{Figures, Row};
use super::scale::{self, Size};
use super::server::Kind;

const SECOND: Duration = Duration::from_secs(1);

/// What the columns contain.
const LEGEND: &str = "\
first/s     DISCOVER, OFFER, REQUEST, ACK with EDK2's PXE options, 64 machines at once, each once, of a server
            without leases: every server but FreeRADIUS writes every lease
again/s     the same, each machine again and again, milliseconds apart: Kea and dnsmasq write a lease each time,
            xpxe does not while the one that it has stored reaches far enough. p50, p99, CPU and ratios are of these
renew/s     REQUEST with ciaddr to the server alone; its kernel knows the machines' Ethernet addresses already
server      CPU ms per 1,000 exchanges: the server's process, and xpxe's programs as the kernel counts them;
            without what the kernel does for a socket before the server wakes up
machine     CPU ms per 1,000 exchanges: all the machine did but the generator's process; without those interrupts
            that ran inside the generator's system calls
all         CPU ms per 1,000 exchanges: all the machine did; the reflector's row says how much of it is the
            generator and the cable
bad         lost, refused, an address given twice or other than offered, no boot file, wrong checksum: in all loops
";

/// Everything for programs.
pub(crate) fn json(machine: &Machine, rows: &[Row], boots: &[Boots], sizes: &[Size]) -> Value {
    let rows: Vec<Value> = rows.iter().map(Row::json).collect();
    let sizes: Vec<Value> = sizes.iter().map(Size::json).collect();
    let boots: Vec<Value> = boots.iter().map(Boots::json).collect();
    json!({ "machine": machine.json(), "rows": rows, "first_boots": boots, "scale": sizes })
}

/// The comparison for people.
pub(crate) fn print(rows: &[Row]) {
    println!(
        "\n{:<20} {:>8} {:>8} {:>8} {:>6} {:>6} {:>8} {:>8} {:>8} {:>5} {:>8} {:>7} {:>13} {:>13}",
        "server",
        "machines",
        "first/s",
        "again/s",
        "p50 ms",
        "p99 ms",
        "server",
        "machine",
        "all",
        "bad",
        "renew/s",
        "server",
        "first,again:",
        "first,again:"
    );
    println!("{:>132} {:>13}", "x Kea", "x best peer");
    for row in rows {
        let exchange = &row.exchange;
        print!(
            "{:<20} {:>8} {:>8} {:>8.0} {:>6.2} {:>6.2} {:>8.2} {:>8.2} {:>8.2} {:>5}",
            row.server,
            row.machines,
            row.first.as_ref().map_or_else(|| "-".to_owned(), |first| format!("{:.0}", first.rate)),
            exchange.rate,
            milliseconds(exchange.p50),
            milliseconds(exchange.p99),
            exchange.cost(exchange.spent.server()) * 1000.0,
            exchange.cost(exchange.spent.machine()) * 1000.0,
            exchange.cost(exchange.spent.all) * 1000.0,
            [Some(exchange), row.first.as_ref(), row.renew.as_ref()]
                .into_iter()
                .flatten()
                .map(bad)
                .sum::<u64>(),
        );
        match &row.renew {
            Some(renew) => print!(" {:>8.0} {:>7.2}", renew.rate, renew.cost(renew.spent.server()) * 1000.0),
            None => print!(" {:>8} {:>7}", "-", "-"),
        }
        println!(
            " {:>13} {:>13}",
            ratios(row, kea(rows, row), kea(rows, row)),
            ratios(row, best_peer(rows, row, first_rate), best_peer(rows, row, |row| row.exchange.rate))
        );
    }
    print!("{LEGEND}");
    print_storms(rows);
}

fn print_storms(rows: &[Row]) {
    println!(
        "\nStorm: every machine begins within one second, of a server without leases, and repeats after 4 and 8 s, as EDK2 does\n\
         {:<20} {:>8} {:>9} {:>9} {:>8} {:>8} {:>6} {:>5} {:>5} {:>8}",
        "server", "machines", "first try", "within 1s", "p99 ms", "all s", "lost", "NAKs", "dup.", "server"
    );
    for (row, storm) in rows.iter().filter_map(|row| Some((row, row.storm.as_ref()?))) {
        let outcome = &storm.outcome;
        println!(
            "{:<20} {:>8} {:>8.1}% {:>8.1}% {:>8.1} {:>8.2} {:>6} {:>5} {:>5} {:>8.2}",
            row.server,
            outcome.begun,
            outcome.share_at_first_try() * 100.0,
            outcome.share_within(SECOND) * 100.0,
            milliseconds(storm.p99),
            outcome.all_done.as_secs_f64(),
            outcome.lost,
            outcome.naks,
            outcome.duplicates,
            storm.cost(storm.spent.server()) * 1000.0,
        );
    }
}

/// xpxe's sizes for people.
pub(crate) fn print_sizes(sizes: &[Size]) {
    println!(
        "\nxpxe by known machines\n{:>9} {:>8} {:>11} {:>10} {:>9} {:>9} {:>12} {:>12} {:>12}",
        "machines", "start s", "DISCOVER/s", "ns per run", "XDP", "TC", "process", "RSS MB", "tables MB"
    );
    for size in sizes {
        let measured = match &size.result {
            Ok(measured) => measured,
            Err(error) => {
                println!("{:>9} {error:#}", size.machines);
                continue;
            }
        };
        let discover = &measured.discover;
        println!(
            "{:>9} {:>8.2} {:>11.0} {:>10.0} {:>9} {:>9} {:>9.2} ms {:>12.1} {:>12.1}",
            size.machines,
            measured.start.as_secs_f64(),
            discover.rate,
            discover.spent.nanoseconds_per_run(),
            discover.spent.runs[0],
            discover.spent.runs[1],
            discover.cost(discover.spent.process) * 1000.0,
            measured.resident as f64 / 1e6,
            measured.tables as f64 / 1e6,
        );
    }
    println!(
        "ns per run   of either program, with the wake-up of the daemon for an event: fewer of them when it cannot keep up\n\
         XDP, TC      runs: one of TC is a DISCOVER that XDP left to it, so that TC or the daemon answered\n\
         process      the daemon's CPU per 1,000 DISCOVERs"
    );
    print_one_more(sizes);
    scale::print_exchanges(sizes);
}

fn print_one_more(sizes: &[Size]) {
    let measured =
        || sizes.iter().filter_map(|size| Some((f64::from(size.machines), size.result.as_ref().ok()?)));
    for ((few, small), (many, large)) in measured().zip(measured().skip(1)) {
        let each = |small: u64, large: u64| (large as f64 - small as f64) / (many - few);
        println!(
            "from {few} to {many}: {:.0} bytes of the daemon and {:.0} of tables for each machine more",
            each(small.resident, large.resident),
            each(small.tables, large.tables)
        );
    }
}

fn kea<'r>(rows: &'r [Row], of: &Row) -> Option<&'r Row> {
    rows.iter().find(|row| row.kind == Some(Kind::Kea) && row.machines == of.machines)
}

fn best_peer<'r>(rows: &'r [Row], of: &Row, rate: impl Fn(&Row) -> f64) -> Option<&'r Row> {
    let is_peer = |row: &&Row| row.kind.is_some_and(|kind| !kind.is_xpxe()) && row.machines == of.machines;
    rows.iter().filter(is_peer).max_by(|a, b| rate(a).total_cmp(&rate(b)))
}

/// Of first exchanges to one peer's, and of repeated ones to another's.
fn ratios(row: &Row, first: Option<&Row>, again: Option<&Row>) -> String {
    match (row.kind, first, again) {
        (Some(_), Some(first), Some(again)) => format!(
            "{:.2}, {:.2}",
            first_rate(row) / first_rate(first).max(1e-9),
            row.exchange.rate / again.exchange.rate.max(1e-9)
        ),
        _ => "-".to_owned(),
    }
}

fn first_rate(row: &Row) -> f64 {
    row.first.as_ref().map_or(0.0, |first| first.rate)
}

/// Every kind of failure, refusals and doubly given addresses too.
fn bad(figures: &Figures) -> u64 {
    let outcome = &figures.outcome;
    outcome.errors() + outcome.naks + outcome.duplicates
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
