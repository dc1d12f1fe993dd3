//! A program that is run for a moment: its words are bounded, and it ends in time, with all that it has started.

use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::unix::pipe;
use tokio::time::timeout;

/// Bytes of a program's words that are kept.
const MOST_SAID: usize = 16 << 10;

/// How a program has ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// Its exit status.
    pub(super) status: ExitStatus,
    /// What it has said, on both ways.
    pub(super) said: String,
}

/// Why a program has not ended.
#[derive(Debug)]
pub(super) enum ChildError {
    /// It cannot be started.
    Start(io::Error),
    /// It took too long, and was ended.
    TimedOut,
}

/// A process with its group, which ends when nobody waits any more.
struct Group(Child);

impl Group {
    fn end(&self) {
        if let Some(pid) = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw) {
            // Nobody may be left in it.
            kill_process_group(pid, Signal::KILL).ok();
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.end();
        // What was killed has ended, or does within the kernel's next look at it.
        self.0.wait().ok();
    }
}

/// Runs a program until it ends, for at most so long.
pub(super) async fn run(mut command: Command, patience: Duration) -> Result<Ended, ChildError> {
    let (words, theirs) = io::pipe().map_err(ChildError::Start)?;
    let also = theirs.try_clone().map_err(ChildError::Start)?;
    command.stdin(Stdio::null()).stdout(theirs).stderr(also).process_group(0);
    let group = command.spawn().map(Group);
    // Its ends of the pipe are in here, and nobody else may hold them open.
    drop(command);
    let mut group = group.map_err(ChildError::Start)?;
    let words = pipe::Receiver::from_owned_fd(words.into()).map_err(ChildError::Start)?;
    let said = timeout(patience, listen(&group.0, &words)).await;
    let said = said.map_err(|_| ChildError::TimedOut)?.map_err(ChildError::Start)?;
    group.end();
    let status = group.0.wait().map_err(ChildError::Start)?;
    Ok(Ended { status, said: String::from_utf8_lossy(&said).into_owned() })
}

/// What a process says until it has ended. What somebody says whom it has left behind is not waited for.
async fn listen(child: &Child, words: &pipe::Receiver) -> io::Result<Vec<u8>> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| io::Error::from(ErrorKind::InvalidInput))?;
    let ended = register(pidfd_open(pid, PidfdFlags::NONBLOCK)?)?;
    let (mut said, mut is_open) = (Vec::new(), true);
    loop {
        tokio::select! {
            _ = ended.readable() => {
                drain(words, &mut said)?;
                return Ok(said);
            }
            ready = words.readable(), if is_open => {
                ready?;
                is_open = drain(words, &mut said)?;
            }
        }
    }
}

/// Makes a process awaitable.
#[expect(unsafe_code, reason = "tokio has no safe type for a pidfd")]
fn register(process: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` owns one valid descriptor, and nothing here replaces or closes it in the `AsyncFd`.
    Ok(unsafe { AsyncFd::register_with_interest(process, Interest::READABLE) }?)
}

/// Takes what is there. Whether there may be more.
fn drain(words: &pipe::Receiver, said: &mut Vec<u8>) -> io::Result<bool> {
    let mut some = [0; 4096];
    loop {
        match words.try_read(&mut some) {
            Ok(0) => return Ok(false),
            Ok(count) => {
                let room = MOST_SAID.saturating_sub(said.len());
                said.extend_from_slice(some.get(..count.min(room)).unwrap_or_default());
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn sh(script: &str, patience: Duration) -> Result<Ended, ChildError> {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        run(command, patience).await
    }

    const SOON: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn a_program_says_what_it_says_and_no_more() {
        let ended = sh("echo on; echo off >&2; exit 3", SOON).await.unwrap();
        assert_eq!((ended.status.code(), ended.said.as_str()), (Some(3), "on\noff\n"));
        let much = sh("head -c 200000 /dev/zero", SOON).await.unwrap();
        assert_eq!((much.status.code(), much.said.len()), (Some(0), MOST_SAID));
        let mut nothing = Command::new("/nothing/there");
        nothing.arg("x");
        assert!(matches!(run(nothing, SOON).await, Err(ChildError::Start(_))));
    }

    #[tokio::test]
    async fn who_takes_too_long_ends_with_all_it_has_started() {
        let dir = tempfile::tempdir().unwrap();
        let pid = dir.path().join("pid");
        let script = format!("sleep 1000 & echo $! > {}; wait", pid.display());
        let ended = sh(&script, Duration::from_secs(1)).await;
        assert!(matches!(ended, Err(ChildError::TimedOut)), "{ended:?}");
        let started: i32 = std::fs::read_to_string(&pid).unwrap().trim().parse().unwrap();
        let is_there = || {
            let state = std::fs::read_to_string(format!("/proc/{started}/stat")).unwrap_or_default();
            !state.is_empty() && !state.contains(") Z")
        };
        let end = std::time::Instant::now() + SOON;
        while is_there() {
            assert!(std::time::Instant::now() < end, "{started} still runs");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // Who is left behind is not waited for, and ends, too.
        let ended = sh("sleep 1000 & echo on", SOON).await.unwrap();
        assert_eq!(ended.said, "on\n");
    }
}
