//! Reads a configuration in a process of its own first: one that needs all memory, or never ends, ends there and not in the
//! daemon.

use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use rustix::system::sysinfo;

/// How long it may take. A reload waits a little longer for all that it reads.
const WITHIN: Duration = Duration::from_secs(50);
/// How often it is looked whether it has ended.
const LOOK: Duration = Duration::from_millis(5);
/// Memory that it may always take.
const LEAST_MEMORY: u64 = 1 << 30;
/// What is kept of its last words.
const LAST_WORDS: u64 = 4096;

/// Has `xpxe check` read the configuration at `path`. What is wrong with it is not said here: whoever reads it next finds it
/// as well.
///
/// # Errors
/// The process needed too much memory or time, or ended otherwise without a verdict.
pub(super) fn run(path: &Path) -> Result<()> {
    let mut check = Command::new("/proc/self/exe");
    check.args(["check", "--no-files", "--config"]).arg(path);
    check.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = check.spawn().context("cannot start the process that tries the configuration")?;
    let pid = Pid::from_child(&child);
    // A quarter of the host's, so that machines are served meanwhile.
    let facts = sysinfo();
    let memory = (facts.totalram * u64::from(facts.mem_unit) / 4).max(LEAST_MEMORY);
    let limits = [(Resource::As, memory), (Resource::Core, 0), (Resource::Cpu, WITHIN.as_secs() + 1)];
    for (resource, most) in limits {
        // It may have ended.
        prlimit(Some(pid), resource, Rlimit { current: Some(most), maximum: Some(most) }).ok();
    }
    let mut said = child.stderr.take().context("its last words")?;
    let last = thread::spawn(move || {
        let mut words = Vec::new();
        drop(said.by_ref().take(LAST_WORDS).read_to_end(&mut words));
        drop(std::io::copy(&mut said, &mut std::io::sink()));
        String::from_utf8_lossy(&words).lines().next().unwrap_or_default().to_owned()
    });
    let began = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if began.elapsed() >= WITHIN {
            drop(child.kill());
            drop(child.wait());
            bail!(
                "reading the configuration did not end within {} seconds: give it fewer machines, groups or profiles, \
                 or look whether the disk that it is on answers",
                WITHIN.as_secs()
            );
        }
        thread::sleep(LOOK);
    };
    if matches!(status.code(), Some(0 | 1)) {
        return Ok(());
    }
    let why = last.join().unwrap_or_default();
    bail!(
        "reading the configuration ended the process that tried it ({status}; {why}; it may take {} MB): look for a template \
         that makes a text longer and longer",
        memory / 1_000_000
    )
}
