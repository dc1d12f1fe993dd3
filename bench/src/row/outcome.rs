//! What became of the machines, and the table.

use std::time::{Duration, Instant};

use boot_bench::meter::Spent;

use super::machine::{Boots, Times};
use super::servers::Set;
use crate::storm::outcome::Outcome as Exchanges;

/// A run.
pub(crate) struct Outcome {
    pub(crate) exchanges: Exchanges,
    pub(crate) machines: Boots,
    pub(crate) spent: Spent,
    /// Bytes.
    pub(crate) memory: u64,
    /// When the first machine began.
    pub(crate) started: Instant,
}

impl Outcome {
    /// When the last machine had its image, from the first one's beginning. Much too late if one never had it.
    pub(crate) fn last(&self) -> Duration {
        if !self.machines.failed.is_empty() {
            return Duration::MAX;
        }
        self.all(|times| times.done - self.started).last().copied().unwrap_or(Duration::MAX)
    }

    fn all(&self, time: impl Fn(&Times) -> Duration) -> Vec<Duration> {
        let mut all: Vec<Duration> = self.machines.done.iter().map(time).collect();
        all.sort_unstable();
        all
    }
}

/// Median, 99th percentile and maximum.
fn spread(all: &[Duration]) -> String {
    let at = |share: f64| {
        let place = (all.len().saturating_sub(1) as f64 * share).round() as usize;
        all.get(place).map_or(0.0, Duration::as_secs_f64)
    };
    format!("{:>9.3} {:>9.3} {:>9.3}", at(0.5), at(0.99), at(1.0))
}

/// For people.
pub(crate) fn print(machines: u32, others: u32, mib: usize, medians: &[(Set, Outcome)]) {
    println!(
        "\n{machines} machines fetch a boot file of 256 KiB by TFTP and {mib} MiB over HTTP, {others} ask for an address only; all \
         begin within one second\nseconds: median, p99, last"
    );
    for (set, outcome) in medians {
        let Outcome { exchanges, machines: boots, spent, memory, started } = outcome;
        let addresses: Vec<Duration> = {
            let mut all = exchanges.latencies.clone();
            all.sort_unstable();
            all.into_iter().map(Duration::from_nanos).collect()
        };
        println!(
            "\n{}\n  address, from its first packet   {}   {:.2} % at the first try, {} never, {} wrong",
            set.name(),
            spread(&addresses),
            exchanges.share_at_first_try() * 100.0,
            exchanges.lost,
            exchanges.errors() - exchanges.lost + exchanges.naks + exchanges.duplicates,
        );
        println!(
            "  boot file, from its address      {}   {} packets sent again",
            spread(&outcome.all(|times| times.boot_file - times.address)),
            boots.repeated
        );
        println!(
            "  first byte, from the boot file   {}",
            spread(&outcome.all(|times| times.first_byte - times.boot_file))
        );
        println!(
            "  image, from the first machine's  {}   {} done, {} not{}",
            spread(&outcome.all(|times| times.done - *started)),
            boots.done.len(),
            boots.failed.len(),
            boots.failed.first().map_or_else(String::new, |first| format!(": {first}")),
        );
        println!(
            "  servers' CPU {:.2} s, memory at most {:.0} MB",
            spent.server().as_secs_f64(),
            *memory as f64 / 1e6
        );
    }
}
