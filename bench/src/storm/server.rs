//! The servers, and how they are started and ended.

use std::fs;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use boot_bench::place::Place;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use super::generator::Plan;
use super::lane::Lane;
use super::settings::{self, Clients};
use crate::peers::complaint;

pub(crate) use super::kind::Kind;

/// A server has one core, however many threads, and the generator another.
const SERVER_CORE: usize = 0;
const GENERATOR_CORE: usize = 1;

/// A server that answers; killed when dropped.
pub(crate) struct Server {
    child: Child,
    /// From its start to its first answer.
    pub(crate) start: Duration,
}

impl Server {
    /// Starts a server for the machines below `machines`, which it knows or has a pool for, and waits for its first answer to one more.
    pub(crate) fn start(
        kind: Kind,
        lane: &mut Lane,
        place: &Place,
        machines: u32,
        clients: Clients,
        within: Duration,
    ) -> Result<Self> {
        let dir = &place.dir;
        fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
        let mut command = settings::command(kind, &lane.cable.server, place, machines + 1, clients)?;
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let started = Instant::now();
        // A process runs where the one runs that starts it.
        pin(SERVER_CORE);
        let child = command.spawn().with_context(|| format!("start {}", kind.name()));
        pin(GENERATOR_CORE);
        let child = child?;
        let mut server = Self { child, start: Duration::ZERO };
        while lane.generator.run(&Plan::probe(machines)).done == 0 {
            if let Some(status) = server.child.try_wait()? {
                bail!("{} ended with {status}:\n{}", kind.name(), complaint(&mut command));
            }
            if started.elapsed() > within {
                bail!("{}: no answer within {} s", kind.name(), within.as_secs());
            }
        }
        server.start = started.elapsed();
        Ok(server)
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it as systemd would, so that the next one has the address.
    pub(crate) fn stop(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Keeps this thread, and what it starts from now on, on one core, as far as there are two.
fn pin(core: usize) {
    let mut cores = CpuSet::new();
    if cores.set(core).is_ok()
        && let Err(failure) = sched_setaffinity(Pid::from_raw(0), &cores)
    {
        eprintln!("cannot stay on core {core}: {failure}");
    }
}
