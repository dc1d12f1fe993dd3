//! A whole file by TFTP, as firmware fetches it: from a new port each time, block by block (RFC 1350, 2347, 2348, 2349).

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::rc::Rc;
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

use crate::files::HEAD;

/// How often one packet is sent, and how long its answer is waited for.
const SENDS: u32 = 3;
const PATIENCE: Duration = Duration::from_secs(1);
/// All of one transfer.
const LONGEST: Duration = Duration::from_secs(15);
/// What firmware has as boot file is smaller.
const LARGEST: u64 = 64 << 20;
const BLOCK: u16 = 1468;
/// How often a boot file is fetched: routers with several ways (ECMP) choose one by the port.
pub(super) const TIMES: usize = 3;

/// A file that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fetched {
    pub(super) bytes: u64,
    pub(super) took: Duration,
    /// Its first bytes.
    pub(super) head: Vec<u8>,
    pub(super) digest: [u8; 32],
}

/// Why none came.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Failure {
    /// Nobody answers the request.
    #[error("no answer to the request: nothing serves TFTP there, or a firewall drops it")]
    Silent,
    /// Blocks stop coming.
    #[error(
        "the transfer stops after {0} bytes: blocks of {BLOCK} bytes are lost (MTU, firewall or ECMP on the way)"
    )]
    Stalled(u64),
    /// The server refuses.
    #[error("the server says error {code}: {text}")]
    Refused { code: u16, text: String },
    /// It is far too slow or large.
    #[error("the transfer was ended after {0} bytes: it takes too long or is too large for a boot file")]
    Endless(u64),
    /// The system's words.
    #[error("{0}")]
    Other(String),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Other(error.to_string())
    }
}

/// What became of each fetch of a file.
type Attempts = Rc<[Result<Fetched, Failure>]>;

/// Boot files as they came: kinds of machines often have the same one.
#[derive(Debug, Default)]
pub(super) struct Fetches(RefCell<BTreeMap<(Ipv4Addr, String), Attempts>>);

impl Fetches {
    /// A server's file, fetched so often if nobody has asked for it before.
    pub(super) fn of(
        &self,
        server: Ipv4Addr,
        name: &str,
        fetch: impl FnMut() -> Result<Fetched, Failure>,
    ) -> Attempts {
        let mut known = self.0.borrow_mut();
        Rc::clone(known.entry((server, name.to_owned())).or_insert_with(|| attempts(fetch)))
    }
}

fn attempts(mut fetch: impl FnMut() -> Result<Fetched, Failure>) -> Attempts {
    let mut all = vec![fetch()];
    // The same again would only take its time.
    let is_enough =
        matches!(all.as_slice(), [Err(Failure::Refused { .. } | Failure::Silent | Failure::Endless(_))]);
    if !is_enough {
        all.extend((1..TIMES).map(|_| fetch()));
    }
    all.into()
}

/// Fetches a file from a new port.
pub(super) fn fetch(from: Ipv4Addr, server: Ipv4Addr, name: &str) -> Result<Fetched, Failure> {
    let socket = UdpSocket::bind((from, 0))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let started = Instant::now();
    let block_size = BLOCK.to_string();
    let words = [name, "octet", "tsize", "0", "blksize", &block_size];
    let mut packet = vec![0, 1];
    words.iter().for_each(|word| packet.extend([word.as_bytes(), &[0]].concat()));
    let (mut to, mut block_size) = (SocketAddr::from((server, 69)), 512);
    let (mut bytes, mut next, mut sends, mut known) = (0, 1_u16, 0, false);
    let (mut head, mut digest) = (Vec::new(), Sha256::new());
    let mut buffer = vec![0; usize::from(BLOCK) + 4];
    loop {
        if started.elapsed() > LONGEST || bytes > LARGEST {
            return Err(Failure::Endless(bytes));
        }
        socket.send_to(&packet, to)?;
        sends += 1;
        let (length, sender) = match socket.recv_from(&mut buffer) {
            Ok(heard) => heard,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => match (sends < SENDS, known) {
                (true, _) => continue,
                (false, true) => return Err(Failure::Stalled(bytes)),
                (false, false) => return Err(Failure::Silent),
            },
            // Nobody has the port.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return Err(Failure::Silent),
            Err(error) => return Err(error.into()),
        };
        // The server answers from a port of its own, and stays with it.
        if sender.ip() != server || (known && sender != to) {
            continue;
        }
        let received = buffer.get(..length).unwrap_or_default();
        match received {
            [0, 3, high, low, data @ ..] if u16::from_be_bytes([*high, *low]) == next => {
                bytes += data.len() as u64;
                head.extend(data.iter().take(HEAD - head.len()));
                digest.update(data);
                packet = vec![0, 4, *high, *low];
                next = next.wrapping_add(1);
                if data.len() < block_size {
                    socket.send_to(&packet, sender)?;
                    let took = started.elapsed();
                    return Ok(Fetched { bytes, took, head, digest: digest.finalize().into() });
                }
            }
            [0, 6, options @ ..] if !known => {
                let text = String::from_utf8_lossy(options).to_ascii_lowercase();
                let words: Vec<&str> = text.split('\0').collect();
                let of = |pair: &&[&str]| pair.first() == Some(&"blksize");
                block_size =
                    words.chunks(2).find(of).and_then(|pair| pair.get(1)?.parse().ok()).unwrap_or(512);
                packet = vec![0, 4, 0, 0];
            }
            [0, 5, high, low, text @ ..] => {
                let text = String::from_utf8_lossy(text).trim_end_matches('\0').to_owned();
                return Err(Failure::Refused { code: u16::from_be_bytes([*high, *low]), text });
            }
            // A block that came before.
            _ => continue,
        }
        (to, known, sends) = (sender, true, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_takes_too_long_is_fetched_once_however_many_kinds_have_it() {
        let (fetches, here) = (Fetches::default(), Ipv4Addr::LOCALHOST);
        let mut count = 0;
        let mut ask = |name: &str, failure: Failure| {
            let all = fetches.of(here, name, || {
                count += 1;
                Err(failure.clone())
            });
            assert!(all.iter().all(|one| *one == Err(failure.clone())));
            (all.len(), count)
        };
        assert_eq!(ask("slow", Failure::Endless(9)), (1, 1));
        assert_eq!(ask("slow", Failure::Endless(9)), (1, 1), "another kind of machine");
        assert_eq!(ask("silent", Failure::Silent), (1, 2));
        // It may be lost on one of several ways only.
        assert_eq!(ask("lost", Failure::Stalled(9)), (TIMES, 2 + TIMES));
        assert_eq!(ask("lost", Failure::Stalled(9)), (TIMES, 2 + TIMES));
    }
}
