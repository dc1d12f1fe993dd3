//! What a machine does once it has its address: a boot file by TFTP, then the image over HTTP. All of one step are on one
//! thread, which is in the namespace of that step's cable.

use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::panic::resume_unwind;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Result;
use boot_bench::frame::{SERVER, address};
use boot_tests::netns::Namespace;
use tokio::net::{TcpSocket, UdpSocket};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{timeout, timeout_at};

use super::ground::for_http;
use super::servers::{BOOT_FILE, Files};
use crate::http::lane::{HTTP, pin_generator};
use crate::http::load::fetch;
use crate::http::server::FILE;

/// As EDK2: after this a packet is sent again.
const PATIENCE: Duration = Duration::from_secs(4);
const TRIES: u32 = 6;
const BLOCK: usize = 1432;

/// When a machine had what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub(crate) address: Instant,
    pub(crate) boot_file: Instant,
    pub(crate) first_byte: Instant,
    pub(crate) done: Instant,
}

/// What became of those that boot.
#[derive(Debug, Default)]
pub(crate) struct Boots {
    pub(crate) done: Vec<Times>,
    /// TFTP packets that were sent again.
    pub(crate) repeated: u32,
    /// How the others ended, the first few.
    pub(crate) failed: Vec<String>,
}

/// Boots those below `count` of whom `up` tells, until none can come any more or it is too late.
pub(crate) fn boot_all(
    up: &mut UnboundedReceiver<u32>,
    tftp: &Namespace,
    http: &Namespace,
    (count, until): (u32, Instant),
    files: &Files,
) -> Result<Boots> {
    let (next, mut loaded) = mpsc::unbounded_channel();
    std::thread::scope(|scope| {
        let loads = scope.spawn(|| tftp.run(|| load_all(up, next, (count, until), files))?);
        let fetches = scope.spawn(|| http.run(|| fetch_all(&mut loaded, until, files))?);
        let (repeated, failed) = loads.join().unwrap_or_else(|panic| resume_unwind(panic))?;
        let mut boots = fetches.join().unwrap_or_else(|panic| resume_unwind(panic))?;
        boots.repeated = repeated;
        boots.failed.extend(failed);
        Ok(boots)
    })
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    pin_generator()?;
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

type Loaded = (u32, Instant, Instant);

fn load_all(
    up: &mut UnboundedReceiver<u32>,
    next: UnboundedSender<Loaded>,
    (count, until): (u32, Instant),
    files: &Files,
) -> Result<(u32, Vec<String>)> {
    let repeated = Rc::new(RefCell::new(0));
    let failed = LocalSet::new().block_on(&runtime()?, async {
        let mut loads = JoinSet::new();
        while let Ok(Some(machine)) = timeout_at(until.into(), up.recv()).await {
            if machine >= count {
                continue;
            }
            let (next, repeated, file) = (next.clone(), Rc::clone(&repeated), files.boot_file.clone());
            loads.spawn_local(async move {
                let has_address = Instant::now();
                load(machine, &file, &repeated).await.map_err(|error| format!("TFTP: {error}"))?;
                next.send((machine, has_address, Instant::now()))
                    .map_err(|_| "nobody fetches any more".to_owned())
            });
        }
        failures(&mut loads, until).await
    });
    Ok((repeated.take(), failed))
}

/// One transfer, block after block, from the machine's own address.
async fn load(machine: u32, file: &[u8], repeated: &RefCell<u32>) -> io::Result<()> {
    let socket = UdpSocket::bind((address(machine), 0)).await?;
    let mut packet = format!("\0\u{1}{BOOT_FILE}\0octet\0blksize\0{BLOCK}\0").into_bytes();
    let mut to = SocketAddr::from((SERVER, 69));
    let (mut got, mut block) = (0, 0_u16);
    let mut answer = [0; 2048];
    let mut tries = 0;
    loop {
        socket.send_to(&packet, to).await?;
        let Ok(received) = timeout(PATIENCE, socket.recv_from(&mut answer)).await else {
            tries += 1;
            *repeated.borrow_mut() += 1;
            if tries == TRIES {
                return Err(io::Error::new(ErrorKind::TimedOut, format!("nothing after block {block}")));
            }
            continue;
        };
        let (length, from) = received?;
        let (opcode, rest) = answer.get(..length).unwrap_or_default().split_at(length.min(2));
        match (opcode, rest) {
            ([0, 6], _) if block == 0 => to = from,
            ([0, 3], [high, low, bytes @ ..]) if [*high, *low] == block.wrapping_add(1).to_be_bytes() => {
                if file.get(got..got + bytes.len()) != Some(bytes) {
                    return Err(io::Error::other(format!("block {block} has other bytes")));
                }
                (got, block, tries) = (got + bytes.len(), block.wrapping_add(1), 0);
            }
            // A block that was sent twice is acknowledged twice.
            ([0, 3], _) => {}
            _ => return Err(io::Error::other(format!("{:?}", String::from_utf8_lossy(rest)))),
        }
        let [high, low] = block.to_be_bytes();
        packet = vec![0, 4, high, low];
        if got == file.len() {
            return socket.send_to(&packet, to).await.map(drop);
        }
    }
}

fn fetch_all(loaded: &mut UnboundedReceiver<Loaded>, until: Instant, files: &Files) -> Result<Boots> {
    let done = Rc::new(RefCell::new(Vec::new()));
    let failed = LocalSet::new().block_on(&runtime()?, async {
        let mut fetches = JoinSet::new();
        while let Ok(Some((machine, has_address, boot_file))) = timeout_at(until.into(), loaded.recv()).await
        {
            let (done, length) = (Rc::clone(&done), files.image.len() as u64);
            fetches.spawn_local(async move {
                let first_byte = image(machine, length).await.map_err(|error| format!("HTTP: {error}"))?;
                let times = Times { address: has_address, boot_file, first_byte, done: Instant::now() };
                done.borrow_mut().push(times);
                Ok(())
            });
        }
        failures(&mut fetches, until).await
    });
    Ok(Boots { done: done.take(), failed, ..Boots::default() })
}

/// The whole image, from the machine's own address; when the first byte came.
async fn image(machine: u32, length: u64) -> io::Result<Instant> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((for_http(machine), 0).into())?;
    let mut stream = socket.connect(HTTP.into()).await?;
    let request = format!("GET {FILE} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n");
    let (first, got) = (RefCell::new(Instant::now()), RefCell::new(0));
    fetch(&mut stream, &request, |at| *first.borrow_mut() = at, |bytes| *got.borrow_mut() += bytes).await?;
    if got.take() != length {
        return Err(io::Error::other("an answer of another length"));
    }
    Ok(first.into_inner())
}

/// Waits for all, and says how those ended that failed.
async fn failures(tasks: &mut JoinSet<Result<(), String>>, until: Instant) -> Vec<String> {
    let mut failed = Vec::new();
    loop {
        match timeout_at(until.into(), tasks.join_next()).await {
            Ok(None) => return failed,
            Ok(Some(Ok(Ok(())))) => {}
            Ok(Some(Ok(Err(error)))) => failed.push(error),
            Ok(Some(Err(error))) => failed.push(error.to_string()),
            Err(_) => {
                failed.extend(std::iter::repeat_n("not done in time".to_owned(), tasks.len()));
                return failed;
            }
        }
    }
}
