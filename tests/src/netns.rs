//! Anonymous network namespaces and the processes in them.
//!
//! A [`Namespace`] has no name in the file system: descriptors hold it, so it goes away with this process
//! even after SIGKILL. Only the *network* namespace changes; the mounts (and with them the pins in a bpffs)
//! are those of the thread that created it. Create it after entering a [`Sandbox`](crate::sandbox::Sandbox).
//!
//! Children die with the thread that spawned them (`PR_SET_PDEATHSIG`). [`Namespace::spawn`] therefore spawns
//! on the namespace's own keeper thread, so such a process lives until its [`Process`] or the namespace is
//! dropped, whichever is first, no matter which thread started it. A [`Namespace::command`] run by the caller
//! lives no longer than the caller's thread. Neither the children of such a child nor a child that changes its
//! user die like this: run daemons in the foreground and as root, without a shell in between.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use crate::sys::enter_netns_before_exec;
use crate::wait::{eventually, eventually_some};

type Job = Box<dyn FnOnce() + Send>;

/// A network namespace with `lo` up. Dropping it kills the processes spawned in it.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    netns: Arc<OwnedFd>,
    keeper: Option<(Sender<Job>, JoinHandle<()>)>,
}

impl Namespace {
    /// A new namespace; `name` is only for messages.
    pub fn new(name: &str) -> Result<Self> {
        let (jobs, inbox) = channel::<Job>();
        let (ready, born) = channel();
        let keeper = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            let entered = unshare(CloneFlags::CLONE_NEWNET)
                .map_err(anyhow::Error::from)
                .and_then(|()| Ok(OwnedFd::from(File::open("/proc/thread-self/ns/net")?)));
            if ready.send(entered).is_ok() {
                inbox.iter().for_each(|job| job());
            }
        })?;
        let netns = born.recv()?.with_context(|| format!("new network namespace {name}"))?;
        let namespace = Self { name: name.to_owned(), netns: Arc::new(netns), keeper: Some((jobs, keeper)) };
        namespace.output("ip", &["link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A path by which other processes (`ip link set … netns PATH`) can refer to it.
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.netns.as_raw_fd())
    }

    /// A command whose child runs in this namespace, without standard input, and dies with the thread that
    /// spawns it.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.stdin(Stdio::null());
        enter_netns_before_exec(&mut command, Arc::clone(&self.netns));
        command
    }

    /// Runs a program to its end and returns its standard output; an exit code other than 0 is an error with the
    /// program's output.
    pub fn output(&self, program: &str, args: &[&str]) -> Result<String> {
        let what = || format!("{program} {} (in {})", args.join(" "), self.name);
        let output = self.command(program).args(args).output().with_context(what)?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            bail!("{}: {}: {}{text}", what(), output.status, String::from_utf8_lossy(&output.stderr));
        }
        Ok(text)
    }

    /// Runs `work` on a thread inside this namespace, e.g. to open sockets that stay in it.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| -> Result<T> {
                setns(self.netns.as_ref(), CloneFlags::CLONE_NEWNET)?;
                Ok(work())
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Waits until a process listens on a TCP port in this namespace.
    pub fn wait_for_listener(&self, port: u16, within: Duration) -> Result<()> {
        let what = format!("a TCP listener on port {port} in {}", self.name);
        let wanted = format!(":{port:04X} ");
        self.run(|| {
            eventually(within, &what, || {
                ["tcp", "tcp6"].iter().any(|table| {
                    let sockets = fs::read_to_string(format!("/proc/thread-self/net/{table}"));
                    // Columns: number, local address, remote address, state (0A is LISTEN).
                    sockets.unwrap_or_default().lines().any(|line| {
                        let columns: Vec<_> = line.split_whitespace().collect();
                        columns.get(1).is_some_and(|local| format!("{local} ").ends_with(&wanted))
                            && columns.get(3) == Some(&"0A")
                    })
                })
            })
        })?
    }

    /// Starts a command made by [`Namespace::command`] in the background.
    pub fn spawn(&self, mut command: Command) -> Result<Process> {
        // A process group of its own: dropping the process also ends its children, and Ctrl-C reaches only this
        // process.
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let what = command.get_program().to_string_lossy().into_owned();
        let (reply, answer) = channel();
        let job = move || {
            let spawned = command.spawn();
            // The receiver waits below for as long as this thread lives.
            drop(reply.send((Instant::now(), spawned)));
        };
        let (jobs, _) = self.keeper.as_ref().context("namespace is gone")?;
        jobs.send(Box::new(job)).map_err(|_| anyhow!("namespace {} is gone", self.name))?;
        let (started, child) = answer.recv()?;
        Process::new(&what, started, child.with_context(|| format!("start {what} in {}", self.name))?)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Some((jobs, thread)) = self.keeper.take() {
            drop(jobs);
            drop(thread.join());
        }
    }
}

/// One line a process wrote, and when it was complete.
#[derive(Clone, Debug)]
pub struct Line {
    /// The time since the start of the process.
    pub at: Duration,
    /// The text, without the line's end and terminal control sequences.
    pub text: String,
}

/// A background process: killed and reaped when dropped, its standard output and error kept line by line.
#[derive(Debug)]
pub struct Process {
    what: String,
    started: Instant,
    pid: u32,
    child: Mutex<Child>,
    written: Arc<Written>,
}

#[derive(Debug, Default)]
struct Written {
    state: Mutex<Lines>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Lines {
    lines: Vec<Line>,
    closed_streams: usize,
    /// When the last stream closed.
    ended: Option<Duration>,
}

const STREAMS: usize = 2;

impl Process {
    fn new(what: &str, started: Instant, mut child: Child) -> Result<Self> {
        let written = Arc::new(Written::default());
        let stdout = child.stdout.take().context("stdout is piped")?;
        let stderr = child.stderr.take().context("stderr is piped")?;
        let sources: [Box<dyn Read + Send>; STREAMS] = [Box::new(stdout), Box::new(stderr)];
        for source in sources {
            let written = Arc::clone(&written);
            // Ends with the pipe; not waited for, as a grandchild may hold it.
            std::thread::spawn(move || written.read(source, started));
        }
        Ok(Self { what: what.to_owned(), started, pid: child.id(), child: Mutex::new(child), written })
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// When it was started: the zero of its lines' times.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Every complete line so far.
    pub fn lines(&self) -> Vec<Line> {
        self.written.lock().lines.clone()
    }

    /// When its output ended, since its start; a process that ended by itself ended then.
    pub fn output_ended(&self) -> Option<Duration> {
        self.written.lock().ended
    }

    /// The first line, past or future, that contains `pattern`. Fails early when the process has closed its
    /// output.
    pub fn wait_for_line(&self, pattern: &str, within: Duration) -> Result<Line> {
        self.wait_for_line_where(&format!("a line with {pattern:?}"), within, |line| line.contains(pattern))
    }

    /// As [`Process::wait_for_line`], for any condition; `what` is its name in the error.
    pub fn wait_for_line_where(
        &self,
        what: &str,
        within: Duration,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<Line> {
        let deadline = Instant::now() + within;
        let mut state = self.written.lock();
        let mut seen = 0;
        loop {
            if let Some(line) = state.lines[seen..].iter().find(|line| wanted(&line.text)) {
                return Ok(line.clone());
            }
            seen = state.lines.len();
            let left = deadline.saturating_duration_since(Instant::now());
            let ended = state.closed_streams == STREAMS;
            if ended || left.is_zero() {
                let how = if ended {
                    "its output ended".to_owned()
                } else {
                    format!("waited {:.1} s", within.as_secs_f64())
                };
                let last = tail(&state.lines, 30);
                bail!("{} (pid {}): no {what}, {how}; the last lines:\n{last}", self.what, self.pid);
            }
            state = match self.written.changed.wait_timeout(state, left) {
                Ok((state, _)) => state,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let mut child = self.child();
        if child.try_wait()?.is_none() {
            kill(Pid::from_raw(self.pid.cast_signed()), signal)?;
        }
        Ok(())
    }

    /// SIGTERM, then waits for the end.
    pub fn terminate(&self, within: Duration) -> Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        self.wait(within)
    }

    /// SIGKILL to the process and its children, then waits for the end.
    pub fn kill(&self) -> Result<ExitStatus> {
        kill_group(&mut self.child());
        self.wait(Duration::from_secs(10))
    }

    /// Whether it still runs.
    pub fn is_running(&self) -> bool {
        matches!(self.child().try_wait(), Ok(None))
    }

    /// Waits until the process has ended by itself.
    pub fn wait(&self, within: Duration) -> Result<ExitStatus> {
        let what = format!("the end of {} (pid {})", self.what, self.pid);
        eventually_some(within, &what, || self.child().try_wait().ok().flatten())
            .with_context(|| format!("the last lines:\n{}", tail(&self.lines(), 30)))
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let child = self.child.get_mut().unwrap_or_else(PoisonError::into_inner);
        kill_group(child);
        drop(child.wait());
    }
}

/// Does nothing to a process that was already reaped, because another process may have its id by now.
fn kill_group(leader: &mut Child) {
    if matches!(leader.try_wait(), Ok(None)) {
        // Fails only when the group has just ended.
        killpg(Pid::from_raw(leader.id().cast_signed()), Signal::SIGKILL).ok();
    }
}

/// The last `count` lines as text, one per row with its time.
pub fn tail(lines: &[Line], count: usize) -> String {
    let rows = lines.iter().skip(lines.len().saturating_sub(count));
    rows.map(|line| format!("  {:8.3}  {}\n", line.at.as_secs_f64(), line.text)).collect()
}

/// `exit 0`, `exit 1`, `signal 9`: an exit status in two words.
pub fn ending(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit {code}"),
        (None, signal) => format!("signal {}", signal.unwrap_or_default()),
    }
}

impl Written {
    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, mut source: impl Read, started: Instant) {
        let mut splitter = Splitter::default();
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = source.read(&mut buffer) {
            let at = started.elapsed();
            let mut complete = Vec::new();
            for byte in &buffer[..length] {
                complete.extend(splitter.push(*byte).map(|text| Line { at, text }));
            }
            if !complete.is_empty() {
                self.lock().lines.append(&mut complete);
                self.changed.notify_all();
            }
        }
        let at = started.elapsed();
        let mut state = self.lock();
        state.lines.extend(splitter.finish().map(|text| Line { at, text }));
        state.closed_streams += 1;
        state.ended = (state.closed_streams == STREAMS).then_some(at);
        self.changed.notify_all();
    }
}

/// Cuts a byte stream into lines as a person sees them on a terminal: firmware moves the cursor instead of ending its
/// lines.
#[derive(Default)]
struct Splitter {
    line: Vec<u8>,
    escape: Escape,
}

#[derive(Default)]
enum Escape {
    #[default]
    None,
    Started,
    Sequence,
}

impl Splitter {
    fn push(&mut self, byte: u8) -> Option<String> {
        match (&self.escape, byte) {
            (Escape::None, 0x1b) => self.escape = Escape::Started,
            (Escape::None, b'\n' | b'\r') => return self.finish(),
            (Escape::None, b'\t' | b' '..) => self.line.push(byte),
            (Escape::None, _) => {}
            (Escape::Started, b'[') => self.escape = Escape::Sequence,
            (Escape::Started, _) => self.escape = Escape::None,
            (Escape::Sequence, b'@'..=b'~') => {
                self.escape = Escape::None;
                if matches!(byte, b'H' | b'f' | b'J') {
                    return self.finish();
                }
            }
            (Escape::Sequence, _) => {}
        }
        None
    }

    fn finish(&mut self) -> Option<String> {
        let bytes = std::mem::take(&mut self.line);
        let text = String::from_utf8_lossy(&bytes).trim_end().to_owned();
        (!text.trim().is_empty()).then_some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::Splitter;

    #[test]
    fn a_cursor_movement_ends_a_line_and_colours_do_not() {
        let mut splitter = Splitter::default();
        let mut lines: Vec<_> =
            b"\x1b[2J\x1b[01;01H>>Start PXE\x1b[03;01H\x1b[0m\x1b[35mStation\x1b[0m IP\r\n\r\ntail"
                .iter()
                .filter_map(|byte| splitter.push(*byte))
                .collect();
        lines.extend(splitter.finish());
        assert_eq!(lines, [">>Start PXE", "Station IP", "tail"]);
    }
}
