//! What waits for the disk, and what does not.
//!
//! While one commit is under way, what else is to be stored gathers for the next, with the answers that follow from it: so
//! the commits per second are the disk's, the leases per commit the storm's, and nobody waits for a timer. What follows
//! from nothing that is still to be stored is done at once.

use std::future::pending;
use std::time::{Duration, Instant};

use boot_common::Mac;

use crate::store::{Committed, StoreError};
use boot_engine::command::Command;
use boot_engine::leases::Change;
use boot_engine::leases::Promised;
use boot_engine::maps::HashSet;

/// How many commands gather before packets stay in the sockets' buffers: those of some 10,000 machines, while a disk hangs.
const MOST: usize = 32_768;
/// After how long a disk that does not answer is said to hang.
const HANGS: Duration = Duration::from_secs(5);

/// What is to be done when it is stored.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) commands: Vec<Command>,
    pub(super) promised: Promised,
    /// Whoever has something in it: what else is to be done about them has to wait for it.
    machines: HashSet<Mac>,
}

impl Batch {
    /// Adds what was decided later.
    pub(super) fn extend(&mut self, commands: Vec<Command>, promised: Promised) {
        // What is decided in one go is about one machine, as a rule.
        let mut last = None;
        for mac in commands.iter().filter_map(machine) {
            if last.replace(mac) != Some(mac) {
                self.machines.insert(mac);
            }
        }
        self.promised.extend(promised);
        self.commands.extend(commands);
    }

    /// What of it is to be stored.
    pub(super) fn changes(&self) -> Vec<Change> {
        self.commands.iter().filter_map(change).cloned().collect()
    }
}

/// The commits of a daemon.
#[derive(Debug, Default)]
pub(super) struct Commits {
    pub(super) gathered: Batch,
    /// What is being stored, and since when.
    pub(super) under_way: Option<(Batch, Committed, Instant)>,
    /// How often so much had gathered that packets had to wait.
    pub(super) full: u64,
}

impl Commits {
    /// Adds what has to wait for the next commit.
    pub(super) fn gather(&mut self, commands: Vec<Command>, promised: Promised) {
        let had_room = self.have_room();
        self.gathered.extend(commands, promised);
        if had_room && !self.have_room() {
            self.full += 1;
        }
    }

    /// Whether any more may gather.
    pub(super) fn have_room(&self) -> bool {
        self.gathered.commands.len() < MOST
    }

    /// Waits for the end of the commit that is under way.
    pub(super) async fn end(&mut self) -> Result<(), StoreError> {
        match &mut self.under_way {
            Some((_, committed, _)) => committed.await.unwrap_or(Err(StoreError::Gone)),
            None => pending().await,
        }
    }

    /// Why leases wait, if they wait for long.
    pub(super) fn trouble(&self) -> Option<String> {
        let (.., begun) = self.under_way.as_ref()?;
        let waiting = begun.elapsed();
        (waiting > HANGS).then(|| {
            format!(
                "leases wait for the disk of state_dir, which has not answered for {} s: check that disk (dmesg)",
                waiting.as_secs()
            )
        })
    }

    fn has(&self, mac: Mac) -> bool {
        let is_under_way = self.under_way.as_ref().is_some_and(|(batch, ..)| batch.machines.contains(&mac));
        is_under_way || self.gathered.machines.contains(&mac)
    }

    /// Whether these commands have to wait for the disk.
    pub(super) fn have_to_wait(&self, commands: &[Command]) -> bool {
        let is_idle = self.under_way.is_none() && self.gathered.machines.is_empty();
        commands.iter().any(|command| {
            matches!(command, Command::Persist(_))
                || !is_idle && machine(command).is_some_and(|mac| self.has(mac))
        })
    }
}

fn change(command: &Command) -> Option<&Change> {
    if let Command::Persist(change) = command { Some(change) } else { None }
}

/// Whom a command is about.
fn machine(command: &Command) -> Option<Mac> {
    match command {
        Command::Persist(change) => change.machine(),
        Command::PutHost(key, _) | Command::DeleteHost(key) => Some(key.mac),
        Command::Send { told, .. } => Some(told.mac),
        Command::PutAnswer(..) | Command::DeleteAnswer(_) | Command::Probe { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn what_gathers_is_bounded_and_it_is_counted_when_packets_have_to_wait() {
        let mut commits = Commits::default();
        let gather = |commits: &mut Commits, number| {
            let commands = vec![Command::Persist(Change::Lift(Ipv4Addr::LOCALHOST)); number];
            commits.gather(commands, Promised::default());
        };
        gather(&mut commits, MOST - 1);
        assert_eq!((commits.have_room(), commits.full), (true, 0));
        for _ in 0..3 {
            gather(&mut commits, 1);
            assert_eq!((commits.have_room(), commits.full), (false, 1));
        }
        commits.gathered = Batch::default();
        gather(&mut commits, MOST);
        assert_eq!((commits.have_room(), commits.full), (false, 2));
    }
}
