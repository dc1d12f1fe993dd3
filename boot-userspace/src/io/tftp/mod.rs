//! TFTP on one interface: the socket, the files and the log lines around [`Transfers`].

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use boot_common::tftp::TransferKey;
use tokio::sync::{mpsc, oneshot};
use tracing::{debug, warn};

use crate::fastpath::Published;
use crate::files::{BootFiles, Inspection, OpenError};
use crate::host::clock;
use crate::host::descriptors;
use crate::host::link::Link;
use crate::io::image_cache::{Content, ImageCache};
use crate::io::udp::{BindError, UdpSocket};
use boot_engine::events::Events;
use boot_engine::machines::Machines;
use boot_engine::tftp::{
    self, Action, DATA_HEADER, Image, Limits, Mode, Peer, Slots, TftpStats, Token, Transfers,
};

mod adopted;
mod clients;
mod disk;
mod log;
mod ports;
mod start;
mod written;

use clients::Standing;
use disk::{Block, DiskReads, Done};
use log::Teller;
#[cfg(test)]
pub(crate) use log::golden;
use ports::{Datagram, Ports};
use written::{Found, Missing, Why};

pub use clients::Clients;
pub use start::{InKernel, Prepared, prepare};
pub use written::Writer;

/// The port of every request, and of every packet where there is a single port.
const PORT: u16 = 69;
/// What a read request begins with.
const READ: [u8; 2] = [0, 1];
/// Nothing a client sends is longer; a longer request is cut and then refused.
const LONGEST_PACKET: usize = 2048;
/// Packets taken in before the timers get their turn again.
const BURST: usize = 64;
/// Files being opened at once. Who asks for more has to ask again, and is counted with those whose request failed.
const MOST_OPENING: usize = 64;
/// So long a socket that gives errors only is left alone between two attempts.
const PAUSE: Duration = Duration::from_millis(1);

/// What all interfaces' TFTP servers have in common.
#[derive(Clone)]
struct Common {
    /// The names that are served.
    files: Arc<BootFiles>,
    /// Who has which address, for the log.
    machines: Machines,
    /// Gets what happens.
    events: Events,
    /// The files' contents.
    images: Arc<ImageCache>,
    /// Where transfers stand.
    slots: Slots,
    /// The largest window that is granted.
    window: u16,
    /// Everything comes from port 69, not from a port of each transfer's own (RFC 1350 section 4).
    single_port: bool,
    /// Who gets files.
    clients: Clients,
    /// Writes the files that are in no directory.
    writer: Writer,
}

/// What an interface has become, and who gets whether it is served as it is now.
pub type Rebind = (Link, oneshot::Sender<Result<(), BindError>>);

/// A TFTP server that has its port.
pub struct TftpServer {
    socket: UdpSocket,
    link: Link,
    common: Common,
    /// The kernel half, where it is on this interface.
    kernel: Option<Arc<Published>>,
    transfers: Transfers,
    /// Who waits for which file to be read into memory.
    waiting: HashMap<Wanted, Waiting>,
    teller: Teller,
    /// The ports of transfers that have one of their own.
    ports: Ports,
    opened: (mpsc::UnboundedSender<Opened>, mpsc::UnboundedReceiver<Opened>),
    /// How many files are being opened.
    opening: usize,
    fetched: (mpsc::UnboundedSender<Fetched>, mpsc::UnboundedReceiver<Fetched>),
    /// Blocks of files that are not in memory.
    disk: DiskReads,
    crowded_out: u64,
    stats: Arc<TftpStats>,
    /// What the interface has become.
    rebinds: (mpsc::UnboundedSender<Rebind>, mpsc::UnboundedReceiver<Rebind>),
}

/// A file, and the block size it is wanted in.
type Wanted = (Content, u16);
/// With what it is and its size, when that was not said yet.
type Fetched = (Wanted, Option<(Inspection, u64)>, io::Result<Image>);

/// A file that a client asked for.
struct Asked {
    token: Token,
    peer: Peer,
    name: String,
    mode: Mode,
    block_size: u16,
}

type Opened = (Asked, Result<Found, Missing>);

/// Who waits for a file, by the name that the first of them asked for.
struct Waiting {
    name: String,
    tokens: Vec<Token>,
}

/// Takes port 69 of an interface.
///
/// # Errors
/// When it cannot be had; one sentence that says what to do.
pub fn bind(link: &Link) -> Result<UdpSocket, BindError> {
    UdpSocket::bind(link, PORT)
}

impl TftpServer {
    /// A server on a socket from [`bind`]. `kernel` is for an interface whose packets the kernel half sees.
    fn new(socket: UdpSocket, link: Link, common: Common, kernel: Option<Arc<Published>>) -> Self {
        let limits = Limits { mtu: link.mtu, window: common.window };
        let transfers = Transfers::new(limits, link.index, common.slots.clone());
        let (waiting, opened, fetched) =
            (HashMap::new(), mpsc::unbounded_channel(), mpsc::unbounded_channel());
        let teller = Teller::new(common.machines.clone(), Arc::clone(&common.events), &link);
        let ports = Ports::new(link.clone());
        // The kernel half answers from port 69.
        let kernel = kernel.filter(|_| common.single_port);
        let disk = DiskReads::new(Arc::clone(&common.images));
        let (crowded_out, stats, rebinds) = (0, Arc::default(), mpsc::unbounded_channel());
        Self {
            socket,
            link,
            common,
            kernel,
            transfers,
            waiting,
            teller,
            ports,
            opened,
            opening: 0,
            fetched,
            disk,
            crowded_out,
            stats,
            rebinds,
        }
    }

    /// Where to tell what the interface has become, when it was made again or has other addresses.
    #[must_use]
    pub fn rebinds(&self) -> mpsc::UnboundedSender<Rebind> {
        self.rebinds.0.clone()
    }

    /// The interface, and what is counted there.
    #[must_use]
    pub fn stats(&self) -> (String, Arc<TftpStats>) {
        (self.link.name.clone(), Arc::clone(&self.stats))
    }

    /// Serves until it is dropped.
    pub async fn run(mut self) -> Infallible {
        let mut packet = [0; LONGEST_PACKET];
        // There are clients to tell that a transfer of an earlier daemon is lost.
        self.act();
        loop {
            let wakeup = self.transfers.next_wakeup();
            tokio::select! {
                received = self.socket.recv(&mut packet) => match received {
                    Ok(received) => {
                        self.take(&packet, &received);
                        // A client of one block at a time waits for no other.
                        self.act();
                        self.take_waiting(&mut packet);
                    }
                    Err(error) => self.receive_failed(&error).await,
                },
                Some(received) = self.ports.next() => {
                    let Datagram { peer, bytes } = received;
                    self.transfers.handle(&bytes, peer.client, peer.local, clock::boot());
                }
                Some((asked, file)) = self.opened.1.recv() => self.opened(asked, file),
                Some((wanted, inspection, result)) = self.fetched.1.recv() => {
                    self.fetched(wanted, inspection, result);
                }
                Some(done) = self.disk.next() => self.read(done),
                Some((link, reply)) = self.rebinds.1.recv() => {
                    // Nobody waits for it when the daemon ends.
                    drop(reply.send(self.rebind(link)));
                }
                () = sleep_until(wakeup) => {}
            }
            self.transfers.tick(clock::boot());
            self.act();
        }
    }

    fn rebind(&mut self, link: Link) -> Result<(), BindError> {
        if link.index != self.link.index {
            self.socket = bind(&link)?;
            self.ports = Ports::new(link.clone());
        }
        let limits = Limits { mtu: link.mtu, window: self.common.window };
        self.transfers.rebind(limits, link.index);
        self.teller.rebind(&link);
        self.link = link;
        Ok(())
    }

    fn take(&mut self, packet: &[u8], received: &crate::io::udp::Received) {
        let Some(packet) = packet.get(..received.len) else { return };
        if packet.starts_with(&READ) {
            self.stats.hear_request();
        }
        if self.is_broadcast(received.to) || self.is_broadcast(*received.from.ip()) {
            return;
        }
        let from = *received.from.ip();
        if self.common.machines.ignores(from) {
            return self.stats.refuse();
        }
        if self.common.clients.standing(from, &self.link) == Standing::Refused {
            self.stats.refuse();
            return self.teller.tell_refused(from);
        }
        // A transfer with a port of its own is another's on this one; only its request came here.
        let peer = Peer { client: received.from, local: received.to };
        if self.ports.has(peer) && !packet.starts_with(&READ) {
            return;
        }
        self.transfers.handle(packet, received.from, received.to, clock::boot());
    }

    fn take_waiting(&mut self, packet: &mut [u8]) {
        for _ in 0..BURST {
            let Ok(received) = self.socket.try_recv(packet) else { return };
            self.take(packet, &received);
        }
    }

    /// RFC 1123 section 4.2.3.5; the other kinds of address that are no station the transfers refuse themselves.
    fn is_broadcast(&self, address: Ipv4Addr) -> bool {
        let mut nets = self.link.addresses.iter().filter(|net| net.prefix_len() < 31);
        nets.any(|net| net.broadcast() == address || net.network() == address)
    }

    async fn receive_failed(&self, error: &io::Error) {
        // Often an ICMP error about an earlier packet; a pause keeps a lasting fault from eating the processor.
        debug!(interface = self.link.name, %error, "TFTP socket");
        tokio::time::sleep(PAUSE).await;
    }

    fn act(&mut self) {
        let mut packet = Vec::new();
        while let Some(action) = self.transfers.next_action() {
            match action {
                Action::Open { token, peer, name, mode, block_size } => {
                    self.open(Asked { token, peer, name, mode, block_size });
                }
                Action::Publish { key, slot } => self.publish(&key, slot),
                Action::Withdraw { key } => self.withdraw(&key),
                Action::Send { peer, bytes } => self.send(&bytes, peer),
                Action::Block { peer, image, offset, len, block } => {
                    let block = Block { offset, len, number: block };
                    self.send_block(peer, image, block, &mut packet);
                }
                Action::Close { image } => self.common.images.close(image),
                Action::Tell(told) => {
                    self.ports.close(told.peer);
                    self.stats.add(&told.outcome);
                    self.teller.tell(told);
                }
            }
        }
        self.disk.begin();
        let crowded_out = self.transfers.crowded_out();
        if crowded_out / 1000 != self.crowded_out / 1000 || (self.crowded_out == 0 && crowded_out > 0) {
            warn!(
                interface = self.link.name,
                crowded_out, "more TFTP transfers at once than this server keeps"
            );
        }
        self.crowded_out = crowded_out;
        self.stats.set_running(self.transfers.len(), crowded_out);
        self.stats.set_left_out(self.disk.dropped());
    }

    /// Sends a block that is in memory, and has the disk asked for another one.
    fn send_block(&mut self, peer: Peer, image: u64, block: Block, packet: &mut Vec<u8>) {
        let at_hand = if self.disk.has((peer, image)) {
            Ok(false)
        } else {
            packet.clear();
            packet.extend(tftp::data_header(block.number));
            packet.resize(DATA_HEADER + block.len, 0);
            let bytes = packet.get_mut(DATA_HEADER..).unwrap_or_default();
            self.common.images.read_at_hand(image, bytes, block.offset)
        };
        match at_hand {
            Ok(true) => self.send(packet, peer),
            Ok(false) => self.disk.want((peer, image), block),
            Err(error) => self.transfers.unreadable(peer, &error.to_string(), clock::boot()),
        }
    }

    /// The disk has given blocks, which are no use if the client has begun something else meanwhile.
    fn read(&mut self, done: Done) {
        let (peer, image) = done.reader;
        if !self.transfers.is_sent(peer, image) {
            return;
        }
        done.packets.iter().for_each(|packet| self.send(packet, peer));
        if let Some(error) = done.failure {
            self.transfers.unreadable(peer, &error.to_string(), clock::boot());
        }
    }

    fn open(&mut self, asked: Asked) {
        let Asked { token, peer, .. } = asked;
        if self.has_own_port(*peer.client.ip()) {
            if let Err(error) = self.ports.open(peer) {
                let interface = &self.link.name;
                warn!(interface, "no port for a TFTP transfer, whose client has to ask again: {error}");
                return self.transfers.opened(token, Err(tftp::OpenError::Busy), clock::boot());
            }
            self.transfers.use_own_port(token);
        }
        if self.opening >= MOST_OPENING {
            return self.transfers.opened(token, Err(tftp::OpenError::Busy), clock::boot());
        }
        self.opening += 1;
        let (common, to) = (self.common.clone(), self.opened.0.clone());
        // A disk that takes its time, or hangs, holds up nobody else. Whoever waits for the answer is gone with the server.
        tokio::task::spawn_blocking(move || {
            let Common { files, machines, writer, .. } = common;
            let found = writer.find(&files, &machines, &asked.name, asked.peer);
            to.send((asked, found)).ok()
        });
    }

    /// A file is open or written, or cannot be.
    fn opened(&mut self, asked: Asked, found: Result<Found, Missing>) {
        self.opening -= 1;
        let Asked { token, peer, name, mode, block_size } = asked;
        let file = match found {
            Ok(Found::File(file)) => file,
            Ok(Found::Text(text)) => {
                let image = self.common.images.lend_text(text, mode);
                return self.transfers.opened(token, Ok(image), clock::boot());
            }
            Err(Missing { answer, why }) => {
                match why {
                    Why::File(why) => self.teller.tell_miss(peer, &name, why),
                    Why::Machine(refusal) => self.teller.tell_refusal(peer, &name, refusal),
                }
                return self.transfers.opened(token, Err(answer), clock::boot());
            }
        };
        let content = (file.version(), mode);
        if let Some(image) = self.common.images.known(&content, block_size) {
            return self.transfers.opened(token, Ok(image), clock::boot());
        }
        let wanted = (content, block_size);
        let new = || Waiting { name: name.clone(), tokens: Vec::new() };
        let waiting = self.waiting.entry(wanted).or_insert_with(new);
        waiting.tokens.push(token);
        if waiting.tokens.len() == 1 {
            let is_new = self.teller.is_new(&file);
            let Common { files, images, .. } = &self.common;
            let (files, images, to) = (Arc::clone(files), Arc::clone(images), self.fetched.0.clone());
            tokio::task::spawn_blocking(move || {
                let inspection = is_new.then(|| (files.inspect_open(&name, &file), file.size));
                to.send((wanted, inspection, images.fetch(file, mode, block_size))).ok()
            });
        }
    }

    /// A file is in memory, or will not be.
    fn fetched(&mut self, wanted: Wanted, inspection: Option<(Inspection, u64)>, result: io::Result<Image>) {
        let now = clock::boot();
        let Some(Waiting { name, tokens: waiting }) = self.waiting.remove(&wanted) else { return };
        if let Some((inspection, size)) = inspection {
            self.teller.tell_inspection(&name, &inspection, size);
        }
        match result {
            Ok(image) => {
                for token in waiting {
                    let image = self.common.images.lend(image.id, wanted.1);
                    self.transfers.opened(token, image.ok_or(tftp::OpenError::Failed), now);
                }
                self.common.images.close(image.id);
            }
            Err(error) => {
                self.teller.tell_unreadable(name, &error);
                for token in waiting {
                    self.transfers.opened(token, Err(tftp::OpenError::Failed), now);
                }
            }
        }
    }

    fn has_own_port(&self, client: Ipv4Addr) -> bool {
        !self.common.single_port || self.common.clients.standing(client, &self.link) == Standing::Foreign
    }

    /// A transfer that the kernel half does not know is the daemon's, and no worse for it than slower.
    fn publish(&self, key: &TransferKey, slot: u32) {
        if let Some(kernel) = self.kernel.as_ref().filter(|_| !self.teller.is_watched(key.client.into()))
            && !self.has_own_port(key.client.into())
            && let Err(error) = kernel.put(key, slot)
        {
            debug!(%error, "the kernel did not take a transfer, the daemon answers for it");
        }
    }

    fn withdraw(&self, key: &TransferKey) {
        if let Some(kernel) = &self.kernel
            && let Err(error) = kernel.remove(key)
        {
            debug!(%error, "the kernel did not give a transfer back");
        }
    }

    /// What cannot be sent at once is lost like any packet, and the transfer's timer repairs it: waiting for room would
    /// hold up all the others.
    fn send(&self, bytes: &[u8], peer: Peer) {
        let own = self.ports.socket(peer);
        if let Err(error) = own.unwrap_or(&self.socket).try_send(bytes, peer.client, peer.local) {
            debug!(client = %peer.client, %error, "TFTP packet not sent");
        }
    }
}

/// What a client is told of a file that cannot be opened.
fn answer_to(error: &OpenError) -> tftp::OpenError {
    match error {
        OpenError::NotFound { .. } => tftp::OpenError::NotFound,
        OpenError::Outside | OpenError::NotAFile(_) | OpenError::Signed => tftp::OpenError::Forbidden,
        OpenError::Io { error, .. } if error.kind() == io::ErrorKind::PermissionDenied => {
            tftp::OpenError::Forbidden
        }
        OpenError::Io { error, .. } if descriptors::are_used_up(error) => tftp::OpenError::Busy,
        OpenError::Io { .. } => tftp::OpenError::Failed,
    }
}

/// `time` is on the boot clock.
async fn sleep_until(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time.saturating_sub(clock::boot())).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_may_not_be_read_is_forbidden_and_a_broken_disk_a_failure() {
        let failed_with = |kind: io::ErrorKind| OpenError::Io { path: "/x".into(), error: kind.into() };
        assert_eq!(answer_to(&failed_with(io::ErrorKind::PermissionDenied)), tftp::OpenError::Forbidden);
        assert_eq!(answer_to(&failed_with(io::ErrorKind::Other)), tftp::OpenError::Failed);
        assert_eq!(answer_to(&OpenError::Outside), tftp::OpenError::Forbidden);
        let error = io::Error::from_raw_os_error(libc::EMFILE);
        let too_many = OpenError::Io { path: "/x".into(), error };
        assert_eq!(answer_to(&too_many), tftp::OpenError::Busy);
        assert!(too_many.to_string().contains("; raise LimitNOFILE in the systemd unit"), "{too_many}");
    }
}
