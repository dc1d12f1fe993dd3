//! Which boots have ended: who sends boots elsewhere sends each once.

use std::collections::{HashMap, VecDeque};

use boot_common::Mac;

use super::boot::Boot;

/// How many of each are kept: as many as there are machines.
const MOST: usize = 65_536;
/// A boot that is silent for so many milliseconds has ended: an installer reports late.
const SILENT: u64 = 300_000;
/// One that goes on for so long counts as ended, too: a machine that waits for something asks for days.
const LONG: u64 = 1_800_000;

/// The boots that go on, and those that have ended and were not taken.
#[derive(Debug, Default)]
pub(super) struct Ended {
    /// When the boot of each machine began that goes on. Only of machines whose boots are kept: so they are no more than those.
    open: HashMap<Mac, u64>,
    ended: VecDeque<(Mac, u64)>,
    /// The last boot of each machine that was in `ended`: what comes after its end does not make it another one.
    last: HashMap<Mac, u64>,
    dropped: u64,
    /// Those that made room for others' before they were taken, since that was asked last.
    forgotten: u64,
}

impl Ended {
    /// The boot of this machine that began then has a further step.
    pub(super) fn hear(&mut self, mac: Mac, opened: u64) {
        if self.last.get(&mac) != Some(&opened) {
            self.open.insert(mac, opened);
        }
    }

    /// The machine's boots are kept no longer.
    pub(super) fn forget(&mut self, mac: Mac) {
        self.forgotten += u64::from(self.open.remove(&mac).is_some());
    }

    /// The machine's boot has ended.
    pub(super) fn end(&mut self, mac: Mac) {
        let Some(opened) = self.open.remove(&mac) else { return };
        if self.last.len() >= MOST && !self.last.contains_key(&mac) {
            self.last.clear();
        }
        self.last.insert(mac, opened);
        if self.ended.len() < MOST {
            self.ended.push_back((mac, opened));
        } else {
            self.dropped += 1;
        }
    }

    /// Ends the boots that are silent, or go on for too long. `kept`: the boot of this machine that began then. Those that are
    /// kept no longer wait no longer.
    pub(super) fn end_old<'b>(&mut self, now: u64, kept: impl Fn(Mac, u64) -> Option<&'b Boot>) {
        let waited = self.ended.len();
        self.ended.retain(|(mac, opened)| kept(*mac, *opened).is_some());
        self.forgotten += (waited - self.ended.len()) as u64;
        let is_old = |mac: Mac, opened: u64| {
            kept(mac, opened).is_none_or(|boot| {
                now > boot.last().saturating_add(SILENT) || now > opened.saturating_add(LONG)
            })
        };
        let old: Vec<Mac> =
            self.open.iter().filter(|(mac, opened)| is_old(**mac, **opened)).map(|(mac, _)| *mac).collect();
        old.into_iter().for_each(|mac| self.end(mac));
    }

    /// Takes so many that have ended: machine, and when the boot began.
    pub(super) fn take(&mut self, most: usize) -> Vec<(Mac, u64)> {
        self.ended.drain(..most.min(self.ended.len())).collect()
    }

    /// How many were kept no longer before they were taken, since this was asked last.
    pub(super) fn take_forgotten(&mut self) -> u64 {
        std::mem::take(&mut self.forgotten)
    }

    /// How many had no room.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

    fn boot(opened: u64) -> Boot {
        let (steps, beside) = (Vec::new(), Vec::new());
        Boot { mac: MAC, link: None, relay: None, opened, is_over: false, steps, more: 0, beside }
    }

    #[test]
    fn each_boot_ends_once() {
        let (mut ended, first) = (Ended::default(), boot(1000));
        ended.hear(MAC, 1000);
        ended.end_old(1000 + SILENT, |_, _| Some(&first));
        assert_eq!(ended.take(9), [], "it may go on");
        ended.end_old(1001 + SILENT, |_, _| Some(&first));
        assert_eq!(ended.take(9), [(MAC, 1000)]);
        ended.hear(MAC, 1000);
        ended.end(MAC);
        assert_eq!(ended.take(9), [], "it goes on after its end");
        ended.hear(MAC, 5000);
        ended.end(MAC);
        assert_eq!(ended.take(9), [(MAC, 5000)]);
    }

    #[test]
    fn what_waits_to_be_taken_is_bounded_and_counted() {
        let mut ended = Ended::default();
        for number in 0..MOST as u32 + 10 {
            let [a, b, c, d] = number.to_be_bytes();
            let mac = Mac([2, 0, a, b, c, d]);
            ended.hear(mac, 1);
            ended.end(mac);
        }
        assert_eq!(ended.dropped(), 10);
        assert_eq!(ended.take(usize::MAX).len(), MOST);
    }
}
