//! The tables.

use super::beside;
use super::compare::{Figures, Row, What};
use super::load::Reuse;
use super::server::Kind;

const LEGEND: &str = "\
MB/s        10^6 bytes of bodies a second, of all connections together
CPU/GiB     CPU seconds of the server with all that it started, the kernel's work on its core for it included
CPU/1,000   the same, of 1,000 answers
first p99   milliseconds from a request, or from its connection's beginning, to the answer's first byte: 99 % of them
memory      MB of the server's processes after the run
generator   the share of its core that the generator used: near 100 % it is the limit
x nginx     ratios of the medians to nginx's: MB/s or answers, CPU, first p99
";

/// The comparison for people.
pub(crate) fn print(rows: &[Row]) {
    for (what, amount, cost) in [(What::File, "MB/s", "CPU/GiB"), (What::Script, "answers/s", "CPU/1,000")] {
        let of: Vec<&Row> = rows.iter().filter(|row| row.case.what == what).collect();
        if of.is_empty() {
            continue;
        }
        println!(
            "\n{:<7} {:>11} {:<11} {amount:>10} {cost:>10} {:>10} {:>8} {:>9} {:>7} {:>20}",
            if what == What::File { "file" } else { "script" },
            "connections",
            "",
            "first p99",
            "memory",
            "generator",
            "failed",
            "x nginx",
        );
        for row in of {
            let reuse = if row.case.reuse == Reuse::KeepAlive { "keep-alive" } else { "per request" };
            let (amount, cost) = figures(row);
            let generator = row
                .median(|run| run.spent.generator.as_secs_f64() / run.outcome.measured.as_secs_f64() * 100.0);
            println!(
                "{:<7} {:>11} {reuse:<11} {:>10.0} {cost:>10.3} {:>10.2} {:>8.1} {generator:>7.0} % {:>7} {:>20}",
                row.kind.name(),
                row.case.connections,
                if what == What::File { amount / 1e6 } else { amount },
                row.median(Figures::first_byte) * 1e3,
                row.median(|run| run.memory as f64) / 1e6,
                row.failed(),
                ratios(rows, row),
            );
        }
    }
    if !rows.is_empty() {
        print!("{LEGEND}");
    }
}

fn figures(row: &Row) -> (f64, f64) {
    match row.case.what {
        What::File => (row.median(Figures::bytes), row.median(Figures::per_gib)),
        What::Script => (row.median(Figures::answers), row.median(Figures::per_thousand)),
    }
}

fn ratios(rows: &[Row], of: &Row) -> String {
    let is_same = |row: &&Row| {
        row.kind == Kind::Nginx
            && (row.case.what, row.case.connections, row.case.reuse)
                == (of.case.what, of.case.connections, of.case.reuse)
    };
    let Some(nginx) = rows.iter().find(is_same).filter(|_| of.kind != Kind::Nginx) else {
        return "-".to_owned();
    };
    let ((amount, cost), (theirs, their_cost)) = (figures(of), figures(nginx));
    let first = of.median(Figures::first_byte) / nginx.median(Figures::first_byte).max(1e-9);
    format!("{:.2}, {:.2}, {first:.2}", amount / theirs.max(1e-9), cost / their_cost.max(1e-9))
}

/// DHCP and TFTP beside downloads, for people.
pub(crate) fn print_beside(rows: &[beside::Row]) {
    if rows.is_empty() {
        return;
    }
    println!(
        "\nfirst exchanges of machines, one at a time, and TFTP blocks of one client; us\n\
         {:<10} {:>9} {:>12} {:>12} {:>9} {:>10} {:>10} {:>15}",
        "answers", "downloads", "exchange p50", "p99", "repeated", "block p50", "p99", "downloaded MB/s"
    );
    for row in rows {
        let micros = |runs: &[Vec<u64>], share| beside::Row::quantile(runs, share) * 1e6;
        println!(
            "{:<10} {:>9} {:>12.0} {:>12.0} {:>9} {:>10.0} {:>10.0} {:>15.0}",
            row.answerer,
            row.downloads,
            micros(&row.exchanges, 0.5),
            micros(&row.exchanges, 0.99),
            row.repeated,
            micros(&row.blocks, 0.5),
            micros(&row.blocks, 0.99),
            row.downloaded() / 1e6,
        );
    }
}
