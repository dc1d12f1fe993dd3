//! Many HTTP clients on one thread. What they are sent is counted and thrown away in the kernel (`MSG_TRUNC`), so that
//! they cost less than any server does; [`verify`] looks at the bytes once.

use std::cell::RefCell;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream as Blocking;
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::socket::{MsgFlags, recv};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::TcpStream;
use tokio::task::LocalSet;

use super::lane::HTTP;

/// Whether a connection is used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reuse {
    KeepAlive,
    PerRequest,
}

/// What becomes of a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) measured: Duration,
    /// Answers that were received whole.
    pub(crate) answers: u64,
    /// Bytes of bodies, those of answers that the end cut off too.
    pub(crate) bytes: u64,
    /// Nanoseconds from a request, or from its connection's beginning, to the first byte of the answer.
    pub(crate) first_bytes: Vec<u64>,
    /// Answers that are none, and connections that ended.
    pub(crate) failed: u64,
}

impl Outcome {
    /// What this share of the first bytes took at most.
    pub(crate) fn first_byte(&self, share: f64) -> Duration {
        let mut all = self.first_bytes.clone();
        all.sort_unstable();
        let last = all.len().saturating_sub(1);
        let at = (last as f64 * share).round() as usize;
        Duration::from_nanos(all.get(at.min(last)).copied().unwrap_or_default())
    }
}

/// How a run goes.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) path: String,
    pub(crate) connections: u32,
    pub(crate) reuse: Reuse,
    pub(crate) during: Duration,
}

/// Runs clients in the current namespace.
pub(crate) fn run(plan: &Plan) -> Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = Rc::new(RefCell::new(Outcome::default()));
    let started = Instant::now();
    LocalSet::new().block_on(&runtime, async {
        for _ in 0..plan.connections {
            let (plan, outcome) = (plan.clone(), Rc::clone(&outcome));
            tokio::task::spawn_local(async move {
                loop {
                    if client(&plan, &outcome).await.is_err() {
                        outcome.borrow_mut().failed += 1;
                        tokio::task::yield_now().await;
                    }
                }
            });
        }
        tokio::time::sleep(plan.during).await;
    });
    let mut outcome = outcome.take();
    outcome.measured = started.elapsed();
    Ok(outcome)
}

/// One connection, until it ends.
async fn client(plan: &Plan, outcome: &RefCell<Outcome>) -> io::Result<()> {
    let mut asked = Instant::now();
    let mut stream = TcpStream::connect(HTTP).await?;
    stream.set_nodelay(true)?;
    // Ended by RST, so that ports do not wait: there are more requests than ports.
    stream.set_zero_linger()?;
    let close = if plan.reuse == Reuse::PerRequest { "Connection: close\r\n" } else { "" };
    let request = format!("GET {} HTTP/1.1\r\nHost: bench\r\n{close}\r\n", plan.path);
    loop {
        let first_byte = |at: Instant| {
            let took = u64::try_from((at - asked).as_nanos()).unwrap_or(u64::MAX);
            outcome.borrow_mut().first_bytes.push(took);
        };
        fetch(&mut stream, &request, first_byte, |bytes| outcome.borrow_mut().bytes += bytes).await?;
        outcome.borrow_mut().answers += 1;
        if plan.reuse == Reuse::PerRequest {
            return Ok(());
        }
        asked = Instant::now();
    }
}

/// Sends a request and reads the answer to its end. `first_byte` is told when that came, `got` of each piece of the
/// body its length.
pub(crate) async fn fetch(
    stream: &mut TcpStream,
    request: &str,
    first_byte: impl FnOnce(Instant),
    got: impl Fn(u64),
) -> io::Result<()> {
    stream.write_all(request.as_bytes()).await?;
    // The head, and what of the body comes with it.
    let mut head = [0; 2048];
    let mut filled = stream.read(&mut head).await?;
    first_byte(Instant::now());
    let mut read = filled;
    let body = loop {
        if read == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let text = head.get(..filled).unwrap_or_default();
        if let Some(at) = text.windows(4).position(|end| end == b"\r\n\r\n") {
            break at + 4;
        }
        read = stream.read(head.get_mut(filled..).unwrap_or_default()).await?;
        filled += read;
    };
    let length = length(head.get(..body).unwrap_or_default())?;
    let already = (filled - body) as u64;
    got(already);
    discard(stream, length.saturating_sub(already), got).await
}

async fn discard(stream: &TcpStream, mut left: u64, count: impl Fn(u64)) -> io::Result<()> {
    thread_local! {
        // Only its length matters.
        static NOWHERE: RefCell<Vec<u8>> = RefCell::new(vec![0; 4 << 20]);
    }
    while left > 0 {
        stream.readable().await?;
        let got = stream.try_io(Interest::READABLE, || {
            NOWHERE.with_borrow_mut(|nowhere| {
                let most = usize::try_from(left).unwrap_or(usize::MAX).min(nowhere.len());
                let nowhere = nowhere.get_mut(..most).unwrap_or_default();
                Ok(recv(stream.as_raw_fd(), nowhere, MsgFlags::MSG_TRUNC | MsgFlags::MSG_DONTWAIT)?)
            })
        });
        match got {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(got) => {
                left -= got as u64;
                count(got as u64);
                // Others have their turn.
                tokio::task::consume_budget().await;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn length(head: &[u8]) -> io::Result<u64> {
    let text = String::from_utf8_lossy(head);
    let mut lines = text.lines();
    let found = lines.next().is_some_and(|line| line.split(' ').nth(1) == Some("200"));
    let value = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    value.filter(|_| found).ok_or_else(|| io::Error::other(format!("answered with {text}")))
}

/// Fetches once, and compares with what it should be, or only looks for a whole answer. From the current namespace.
pub(crate) fn verify(path: &str, expected: Option<&[u8]>) -> Result<()> {
    let mut stream = Blocking::connect_timeout(&HTTP.into(), Duration::from_secs(1))?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream
        .write_all(format!("GET {path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let body = answer.windows(4).position(|end| end == b"\r\n\r\n").context("no head")? + 4;
    let wanted = length(answer.get(..body).unwrap_or_default())?;
    let body = answer.get(body..).unwrap_or_default();
    ensure!(body.len() as u64 == wanted, "{path}: {} bytes instead of {wanted}", body.len());
    ensure!(expected.is_none_or(|expected| expected == body), "{path} has other bytes");
    Ok(())
}
