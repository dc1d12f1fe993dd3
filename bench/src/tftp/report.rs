//! The tables.

use boot_bench::machine::Machine;
use serde_json::{Value, json};

use super::alone::Alone;
use super::compare::{Figures, Row};

/// What the columns contain.
const LEGEND: &str = "\
blocks/s    round trips: an ACK to the server, the next block of 1,432 bytes back; MB/s is 10^6 bytes of them
p50, p99    microseconds from an ACK to the next block, read from a ring; the next file's request is not in them, but
            is in blocks/s. One client alone looks for its answer without sleeping
server      CPU seconds per GiB: the server's process with all it started, and xpxe's programs as the kernel counts
            them; without what the kernel does for a socket before the server wakes up, and without the driver's work
machine     CPU seconds per GiB: all the machine did but the generator's process
all         CPU seconds per GiB: all the machine did; the reflector's rows say how much of it is the generator and
            the cable
late        blocks that took more than 45 ms: lost and sent again by the server, or the server is that slow
lost        packets that a client sent again after a second
rep.        blocks that came again although the client had them
other       transfers given up, packets of no transfer, frames without room, clients that got nothing
x best      ratios to the best other server of that many clients, each figure's own: MB/s, p99, server CPU
";

const KERNEL_LEGEND: &str = "\
The clients' interface turns every block into its ACK by XDP, so that they cost next to nothing; what they cost is in
machine and all. Their ACKs are frames of whole pages, which XDP can make longer, as a physical driver's are.
Servers without XDP get a program on their interface that passes everything, without which they would hear nothing.
Each block's number, length and first 8 bytes are compared there, and the first and every 8,192nd block of a file as a
whole by the generator, as on sockets every block is; while that has no time for it, the server repeats such a block
ns/run      of xpxe's programs as the kernel counts it, whatever they did, with the 20 to 40 ns that counting takes
XDP, TC     how often they ran: for each block one of them when the kernel answers, else each that is there
";

/// Everything for programs.
pub(crate) fn json(machine: &Machine, rows: &[Row], alone: Option<Alone>) -> Value {
    let rows: Vec<Value> = rows.iter().map(Row::json).collect();
    let alone = alone.map(|alone| match alone {
        Alone::Passed => Value::Null,
        Alone::Answered { blocks, nanoseconds, statistics } => {
            json!({ "blocks": blocks, "nanoseconds": nanoseconds, "statistics_nanoseconds": statistics })
        }
    });
    json!({ "machine": machine.json(), "rows": rows, "xdp_alone": alone })
}

/// The comparison for people.
pub(crate) fn print(rows: &[Row]) {
    let of = |in_kernel: bool| rows.iter().filter(move |row| row.in_kernel == in_kernel).collect::<Vec<_>>();
    print_table("clients on sockets", &of(false), |_| String::new(), "");
    print!("{LEGEND}");
    let in_kernel = of(true);
    if !in_kernel.is_empty() {
        println!();
        let head = format!(" {:>7} {:>9} {:>9}", "ns/run", "XDP", "TC");
        print_table("clients in the kernel", &in_kernel, runs, &head);
        print!("{KERNEL_LEGEND}");
    }
}

/// XDP alone for people.
pub(crate) fn print_alone(alone: Alone) {
    match alone {
        Alone::Passed => println!("\nXDP alone: this xpxe leaves TFTP to its daemon"),
        Alone::Answered { blocks, nanoseconds, statistics } => println!(
            "\nXDP alone: {nanoseconds:.0} ns for a block, by BPF_PROG_TEST_RUN: {blocks} successive ACKs of one \
             transfer,\neach run once, as the kernel counts the run time, less {statistics:.0} ns for the counting"
        ),
    }
}

fn print_table(what: &str, rows: &[&Row], more: impl Fn(&Row) -> String, more_head: &str) {
    println!(
        "{what:<22} {:>7} {:>9} {:>8} {:>8} {:>8} {:>7} {:>7} {:>7} {:>6} {:>6} {:>6} {:>6} {:>18}{more_head}",
        "clients",
        "blocks/s",
        "MB/s",
        "p50 us",
        "p99 us",
        "server",
        "machine",
        "all",
        "late",
        "lost",
        "rep.",
        "other",
        "x best"
    );
    for row in rows {
        let Figures { outcome, spent } = &row.figures;
        if outcome.blocks == 0 {
            let ended = row.ended.map(|status| format!(", and ended with {status}")).unwrap_or_default();
            println!("{:<22} {:>7} served nobody{ended}", row.server, row.clients);
            continue;
        }
        let micros =
            |share| row.figures.micros(share).map_or_else(|| "-".to_owned(), |us| format!("{us:.0}"));
        let cost = |spent| format!("{:.2}", row.figures.cost(spent));
        println!(
            "{:<22} {:>7} {:>9.0} {:>8.1} {:>8} {:>8} {:>7} {:>7} {:>7} {:>6} {:>6} {:>6} {:>6} {:>18}{}",
            row.server,
            row.clients,
            row.figures.blocks(),
            row.figures.bytes() / 1e6,
            micros(0.5),
            micros(0.99),
            if row.kind.is_some() { cost(spent.server()) } else { "-".to_owned() },
            cost(spent.machine()),
            cost(spent.all),
            // In the kernel nobody looks at a clock.
            if row.in_kernel { "-".to_owned() } else { outcome.late.to_string() },
            outcome.lost,
            outcome.repeated,
            outcome.failed + outcome.stray + outcome.starved,
            ratios(rows, row),
            more(row)
        );
    }
}

fn runs(row: &Row) -> String {
    let spent = &row.figures.spent;
    if spent.runs == [0, 0] {
        return format!(" {:>7} {:>9} {:>9}", "-", "-", "-");
    }
    format!(" {:>7.0} {:>9} {:>9}", spent.nanoseconds_per_run(), spent.runs[0], spent.runs[1])
}

/// Each figure to the best peer's; the peers are not always the same.
fn ratios(rows: &[&Row], of: &Row) -> String {
    let best = |figure: &dyn Fn(&Figures) -> Option<f64>, better: fn(f64, f64) -> f64| {
        let is_peer = |row: &&&Row| {
            let serves = row.figures.outcome.blocks > 0;
            row.kind.is_some_and(|kind| !kind.is_xpxe()) && row.clients == of.clients && serves
        };
        let best = rows.iter().filter(is_peer).filter_map(|row| figure(&row.figures)).reduce(better)?;
        Some(figure(&of.figures)? / best.max(1e-9))
    };
    if of.kind.is_none() {
        return "-".to_owned();
    }
    let ratios = [
        best(&|figures| Some(figures.bytes()), f64::max),
        best(&|figures| figures.micros(0.99), f64::min),
        best(&|figures| Some(figures.cost(figures.spent.server())), f64::min),
    ];
    ratios.map(|ratio| ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"))).join(", ")
}
