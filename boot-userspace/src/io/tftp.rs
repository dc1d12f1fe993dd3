//! TFTP on one interface: the socket, the files and the log lines around [`Transfers`].

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tracing::field::display;
use tracing::{debug, info, warn};

use crate::engine::roster::Roster;
use crate::engine::tftp::{self, Action, DATA_HEADER, Image, Outcome, Peer, Token, Told, Transfers};
use crate::files::{BootFiles, OpenError, OpenFile, human_size};
use crate::io::link::Link;
use crate::io::udp::{BindError, UdpSocket};

/// The port of every packet (single-port TFTP).
const PORT: u16 = 69;
/// Nothing a client sends is longer; a longer request is cut and then refused.
const LONGEST_PACKET: usize = 2048;
/// Packets taken in before the timers get their turn again.
const BURST: usize = 64;
/// How long to wait for room in the socket's send buffer, and how often, before a packet counts as lost.
const SEND_PAUSE: Duration = Duration::from_millis(1);
const SEND_TRIES: u32 = 20;

/// A TFTP server that has its port.
pub struct TftpServer {
    socket: UdpSocket,
    link: Link,
    files: Arc<BootFiles>,
    roster: Roster,
    transfers: Transfers,
    images: Images,
    started: Instant,
    crowded_out: u64,
}

/// Binds and serves; see [`TftpServer`].
pub async fn serve(link: Link, files: Arc<BootFiles>, roster: Roster) -> Result<Infallible, BindError> {
    Ok(TftpServer::bind(link, files, roster)?.run().await)
}

impl TftpServer {
    /// Takes port 69 of the interface.
    pub fn bind(link: Link, files: Arc<BootFiles>, roster: Roster) -> Result<Self, BindError> {
        let socket = UdpSocket::bind(&link, PORT)?;
        let transfers = Transfers::new(link.mtu);
        let images = Images::default();
        Ok(Self { socket, link, files, roster, transfers, images, started: Instant::now(), crowded_out: 0 })
    }

    /// Serves until it is dropped.
    pub async fn run(mut self) -> Infallible {
        let mut packet = [0; LONGEST_PACKET];
        loop {
            let wakeup = self.transfers.next_wakeup().map(|at| self.started + at);
            tokio::select! {
                received = self.socket.recv(&mut packet) => match received {
                    Ok(received) => {
                        self.take(&packet, &received);
                        self.take_waiting(&mut packet);
                    }
                    Err(error) => self.receive_failed(&error).await,
                },
                () = sleep_until(wakeup) => {}
            }
            self.transfers.tick(self.started.elapsed());
            self.act().await;
        }
    }

    fn take(&mut self, packet: &[u8], received: &crate::io::udp::Received) {
        let Some(packet) = packet.get(..received.len) else { return };
        if self.is_broadcast(received.to) || self.is_broadcast(*received.from.ip()) {
            return;
        }
        self.transfers.handle(packet, received.from, received.to, self.started.elapsed());
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
        tokio::time::sleep(SEND_PAUSE).await;
    }

    async fn act(&mut self) {
        let mut packet = Vec::new();
        while let Some(action) = self.transfers.next_action() {
            match action {
                Action::Open { token, peer, name } => self.open(token, peer, &name),
                Action::Send { peer, bytes } => self.send(&bytes, peer).await,
                Action::Block { peer, image, offset, len, block } => {
                    packet.clear();
                    packet.extend(tftp::data_header(block));
                    packet.resize(DATA_HEADER + len, 0);
                    match self.images.read(image, packet.get_mut(DATA_HEADER..).unwrap_or_default(), offset) {
                        Ok(()) => self.send(&packet, peer).await,
                        Err(error) => {
                            warn!(step = "tftp", by = "daemon", client = %peer.client, %error, "a boot file cannot be read");
                            self.transfers.unreadable(peer);
                        }
                    }
                }
                Action::Close { image } => self.images.close(image),
                Action::Tell(told) => self.tell(told),
            }
        }
        let crowded_out = self.transfers.crowded_out();
        if crowded_out / 1000 != self.crowded_out / 1000 || (self.crowded_out == 0 && crowded_out > 0) {
            warn!(
                interface = self.link.name,
                crowded_out, "more TFTP transfers at once than this server keeps"
            );
        }
        self.crowded_out = crowded_out;
    }

    fn open(&mut self, token: Token, peer: Peer, name: &str) {
        let result = self.files.open(name).map(|file| self.images.add(file)).map_err(|error| {
            self.tell_miss(peer, name, &error);
            match error {
                OpenError::NotFound { .. } => tftp::OpenError::NotFound,
                OpenError::Outside | OpenError::NotAFile(_) => tftp::OpenError::Forbidden,
                OpenError::Io { .. } => tftp::OpenError::Failed,
            }
        });
        self.transfers.opened(token, result, self.started.elapsed());
    }

    /// Sends, waiting a little for room in the socket's buffer. What cannot be sent is lost like any packet, and
    /// the transfer's timer repairs it.
    async fn send(&self, bytes: &[u8], peer: Peer) {
        for _ in 0..SEND_TRIES {
            match self.socket.try_send(bytes, peer.client, peer.local) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    tokio::time::sleep(SEND_PAUSE).await;
                }
                Err(error) => return debug!(client = %peer.client, %error, "TFTP packet not sent"),
                Ok(()) => return,
            }
        }
        debug!(client = %peer.client, "TFTP packet not sent, the interface takes no more");
    }

    fn tell_miss(&self, peer: Peer, file: &str, why: &OpenError) {
        let (mac, name) = self.who(peer);
        let mac = mac.map(display);
        let client = peer.client;
        if matches!(why, OpenError::NotFound { .. }) && is_customary_probe(file) {
            return debug!(step = "tftp", by = "daemon", mac, name, %client, file, "asked for {file}, which is not there");
        }
        info!(step = "tftp", by = "daemon", mac, name, %client, file, "asked for {file}: {why}");
    }

    fn tell(&self, told: Told) {
        let Told { peer, name: file, outcome } = told;
        let (mac, name) = self.who(peer);
        let mac = mac.map(display);
        let client = peer.client;
        match outcome {
            Outcome::Finished { bytes, block_size, window, resent, took, confirmed } => {
                let end = if confirmed { "" } else { " (the last acknowledgement did not come)" };
                let (size, seconds) = (human_size(bytes), took.as_secs_f64());
                info!(
                    step = "tftp", by = "daemon", mac, name, %client, file, bytes, seconds, blksize = block_size,
                    windowsize = window, resent, "sent {file}, {size} in {seconds:.1} s{end}"
                );
            }
            Outcome::Probed => {
                debug!(step = "tftp", by = "daemon", mac, name, %client, file, "asked for the size of {file}");
            }
            Outcome::Aborted { code, message, bytes } => info!(
                step = "tftp", by = "daemon", mac, name, %client, file, bytes, code,
                "the client gave up {file} after {}: {message}", human_size(bytes)
            ),
            Outcome::Stalled { bytes, size } => info!(
                step = "tftp", by = "daemon", mac, name, %client, file, bytes,
                "the client fell silent after {} of {} of {file}", human_size(bytes), human_size(size)
            ),
            Outcome::Refused(why) => {
                info!(step = "tftp", by = "daemon", mac, name, %client, file, "request refused: {why}");
            }
            // Both were told where the reason was known.
            Outcome::Missing(_) | Outcome::Unreadable => {}
            Outcome::StartedOver => {
                debug!(step = "tftp", by = "daemon", mac, name, %client, file, "the client started over");
            }
            Outcome::CrowdedOut => info!(
                step = "tftp", by = "daemon", mac, name, %client, file, "an idle transfer of {file} made room for others"
            ),
        }
    }

    fn who(&self, peer: Peer) -> (Option<boot_common::Mac>, Option<String>) {
        self.roster.client(*peer.client.ip()).map_or((None, None), |client| (Some(client.mac), client.name))
    }
}

/// Names that loaders try on every boot, so that not having them says nothing.
fn is_customary_probe(file: &str) -> bool {
    let name = file.rsplit(['/', '\\']).next().unwrap_or(file).to_ascii_lowercase();
    let file = file.to_ascii_lowercase();
    name == "autoexec.ipxe"
        || file.contains("pxelinux.cfg/")
        || name.ends_with(".lst")
        || (name.ends_with(".efi")
            && (name.starts_with("revocations") || name.starts_with("shim_certificate")))
}

async fn sleep_until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}

/// A file as it was when it was opened: another size or time means another content.
type Version = ((u64, u64), u64, SystemTime);

/// The open files, each once however many clients fetch it.
#[derive(Default)]
struct Images {
    open: HashMap<u64, (OpenFile, usize)>,
    known: HashMap<Version, u64>,
    last_id: u64,
}

impl Images {
    fn add(&mut self, file: OpenFile) -> Image {
        let size = file.size;
        let id = *self.known.entry(version(&file)).or_insert_with(|| {
            self.last_id += 1;
            self.last_id
        });
        self.open.entry(id).or_insert((file, 0)).1 += 1;
        Image { id, size }
    }

    fn close(&mut self, id: u64) {
        let Some((file, users)) = self.open.get_mut(&id) else { return };
        *users -= 1;
        if *users == 0 {
            self.known.remove(&version(file));
            self.open.remove(&id);
        }
    }

    fn read(&self, id: u64, piece: &mut [u8], offset: u64) -> io::Result<()> {
        let (file, _) = self.open.get(&id).ok_or(io::ErrorKind::NotFound)?;
        file.file.read_exact_at(piece, offset)
    }
}

fn version(file: &OpenFile) -> Version {
    (file.identity, file.size, file.modified)
}
