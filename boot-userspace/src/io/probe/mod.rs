//! Asks whether somebody has an address already, before a machine is offered it (RFC 2131 §2.2).
//!
//! On the link it asks by ARP. The probe of RFC 5227 (sender 0.0.0.0) enters no ARP cache, and a host answers
//! it whatever its firewall does. Behind a relay only ICMP echo is left, where silence proves less.

use std::collections::HashMap;
use std::collections::hash_map::{Entry, RandomState};
use std::hash::BuildHasher;
use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use boot_common::Mac;
use nix::sys::socket::{LinkAddr, recvfrom, setsockopt, sockopt};
use socket2::{Domain, Protocol, SockAddr, SockFilter, Socket, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};
use zerocopy::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::link::Link;
use super::packet;

/// How long to listen for an answer.
///
/// EDK2 collects offers for 4 s and legacy ROMs for as long, but iPXE repeats its DISCOVER after 1 s: the offer
/// must be out before that, also when a storm delays it. A station that is awake answers within a few ms.
pub const WAIT: Duration = Duration::from_millis(250);

/// The second probe follows the first after this time: one frame may get lost.
const SECOND_PROBE: Duration = Duration::from_millis(100);
/// How many probes of one interface run at once.
const AT_ONCE: usize = 4096;
/// How long to leave a full send queue alone.
const QUEUE_IS_FULL: Duration = Duration::from_millis(5);
/// Room for an answer to each of [`AT_ONCE`] probes; the usual 208 KiB hold some 270.
const RECEIVE_BUFFER: usize = 2 << 20;

const ETHERTYPE_ARP: u16 = 0x0806;
const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERNET: u16 = 1;
const REQUEST: u16 = 1;
const REPLY: u16 = 2;
const ECHO_REQUEST: u8 = 8;
const ECHO_REPLY: u8 = 0;

/// What a probe found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// Nobody has the address but perhaps the machine that asks for one; or it could not be found out.
    Free,
    /// The station with this Ethernet address has it.
    UsedBy(Mac),
    /// Behind a relay somebody has it. An echo reply does not tell who.
    Answers,
}

/// Probes addresses for one interface, many at once, with one socket for the link and one for what is behind
/// relays.
#[derive(Debug)]
pub struct Prober {
    link: Link,
    arp: Channel,
    behind_relays: Mutex<BehindRelays>,
    slots: Semaphore,
    skipped: AtomicU64,
}

#[derive(Debug)]
enum BehindRelays {
    NotYetOpen,
    Open(Arc<Icmp>),
    NotPermitted,
}

impl Prober {
    /// Opens the socket for the link. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// One sentence that says what to do.
    pub fn open(link: &Link) -> io::Result<Self> {
        let socket = packet::open(link, ETHERTYPE_ARP)?;
        socket.attach_filter(&claims_only())?;
        Self::over(socket, link)
    }

    fn over(socket: Socket, link: &Link) -> io::Result<Self> {
        let index = link.index;
        Ok(Self {
            link: link.clone(),
            arp: Channel::open(socket, move |socket, buf| receive_arp(socket, index, buf))?,
            behind_relays: Mutex::new(BehindRelays::NotYetOpen),
            slots: Semaphore::new(AT_ONCE),
            skipped: AtomicU64::new(0),
        })
    }

    /// Asks who has `address`, for at most `wait` (see [`WAIT`]).
    ///
    /// `on_link` tells whether the address belongs to the interface's own network, and so whether to ask by ARP
    /// or by ICMP. An answer by ARP from `asker`, the machine that wants an address, does not count: its system
    /// or its BMC may still hold the lease of an earlier start. The future may be dropped at any time.
    pub async fn in_use(&self, address: Ipv4Addr, on_link: bool, asker: Mac, wait: Duration) -> Verdict {
        // The kernel does not answer what this host itself asks.
        if self.link.addresses.iter().any(|own| own.addr() == address) {
            return Verdict::UsedBy(self.link.mac);
        }
        let Ok(_slot) = self.slots.try_acquire() else {
            self.skipped.fetch_add(1, Ordering::Relaxed);
            return Verdict::Free;
        };
        let answer = if on_link {
            let probe = Arp::probe(self.link.mac, address);
            timeout(wait, self.arp.ask(address, asker, probe.as_bytes(), None)).await
        } else {
            let Some(icmp) = self.icmp() else { return Verdict::Free };
            let to = SocketAddrV4::new(address, 0).into();
            let probe = icmp.secret.request(address);
            timeout(wait, icmp.channel.ask(address, asker, probe.as_bytes(), Some(&to))).await
        };
        match answer {
            Ok(Ok(verdict)) => verdict,
            Ok(Err(error)) => {
                // The interface is down, or nothing leads there.
                let link = &self.link.name;
                tracing::debug!(step = "probe", by = "daemon", link, %address, %error, "cannot ask who has {address}");
                Verdict::Free
            }
            Err(_nobody_answered) => Verdict::Free,
        }
    }

    /// How many addresses were called free unasked, because too many probes were under way.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.skipped.load(Ordering::Relaxed)
    }

    fn icmp(&self) -> Option<Arc<Icmp>> {
        let mut state = self.behind_relays.lock().unwrap_or_else(PoisonError::into_inner);
        if let BehindRelays::NotYetOpen = *state {
            match Icmp::open() {
                Ok(icmp) => *state = BehindRelays::Open(Arc::new(icmp)),
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    tracing::warn!(
                        step = "probe",
                        by = "daemon",
                        "addresses behind relays are offered without asking whether somebody has them: \
                         that needs the capability CAP_NET_RAW"
                    );
                    *state = BehindRelays::NotPermitted;
                }
                Err(error) => {
                    tracing::debug!(step = "probe", by = "daemon", %error, "cannot open an ICMP socket");
                }
            }
        }
        match &*state {
            BehindRelays::Open(icmp) => Some(Arc::clone(icmp)),
            BehindRelays::NotYetOpen | BehindRelays::NotPermitted => None,
        }
    }
}

// ---- questions and answers ----

/// A socket, the task that reads it, and who waits for what it hears.
#[derive(Debug)]
struct Channel {
    socket: Arc<AsyncFd<Socket>>,
    waiting: Arc<Waiting>,
    reader: AbortHandle,
}

/// Somebody has this address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Claim {
    address: Ipv4Addr,
    verdict: Verdict,
}

impl Channel {
    /// `receive` takes one message from the socket; it gives `None` for one that claims no address.
    fn open<F>(socket: Socket, receive: F) -> io::Result<Self>
    where
        F: Fn(&Socket, &mut [u8]) -> io::Result<Option<Claim>> + Send + Sync + 'static,
    {
        enlarge_receive_buffer(&socket);
        let socket = Arc::new(register(socket)?);
        let waiting = Arc::new(Waiting::default());
        let reader = tokio::spawn(listen(Arc::clone(&socket), Arc::clone(&waiting), receive)).abort_handle();
        Ok(Self { socket, waiting, reader })
    }

    /// Asks twice, then waits until somebody other than `asker` claims the address.
    async fn ask(
        &self,
        address: Ipv4Addr,
        asker: Mac,
        probe: &[u8],
        to: Option<&SockAddr>,
    ) -> io::Result<Verdict> {
        let mut ticket = self.waiting.enter(address, asker);
        for _ in 0..2 {
            self.send(probe, to).await?;
            if let Ok(answer) = timeout(SECOND_PROBE, &mut ticket.answer).await {
                return answer.map_err(io::Error::other);
            }
        }
        (&mut ticket.answer).await.map_err(io::Error::other)
    }

    async fn send(&self, probe: &[u8], to: Option<&SockAddr>) -> io::Result<()> {
        let socket = self.socket.get_ref();
        loop {
            let sent = past_an_old_error(|| match to {
                None => socket.send(probe),
                Some(to) => socket.send_to(probe, to),
            });
            match sent {
                Err(error) if is_full(&error) => sleep(QUEUE_IS_FULL).await,
                sent => return sent.map(drop),
            }
        }
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

async fn listen<F>(socket: Arc<AsyncFd<Socket>>, waiting: Arc<Waiting>, receive: F)
where
    F: Fn(&Socket, &mut [u8]) -> io::Result<Option<Claim>>,
{
    // Longer than all that is looked at; the rest of a longer message is lost.
    let mut buf = [0; 128];
    loop {
        let received =
            socket.async_io(Interest::READABLE, |socket| past_an_old_error(|| receive(socket, &mut buf)));
        match received.await {
            Ok(None) => {}
            Ok(Some(claim)) => waiting.hear(claim),
            Err(error) => {
                tracing::debug!(step = "probe", by = "daemon", %error, "cannot receive answers to probes");
                sleep(SECOND_PROBE).await;
            }
        }
    }
}

/// Calls a second time after an error. The first may be an old one: that the interface went down is told once,
/// also when it is long up again.
fn past_an_old_error<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    match call() {
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => call(),
        done => done,
    }
}

fn is_full(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock || error.raw_os_error() == Some(libc::ENOBUFS)
}

/// Who waits for an answer about which address. Two machines may be meant to have the same one.
#[derive(Debug, Default)]
struct Waiting(Mutex<HashMap<Ipv4Addr, Vec<Waiter>>>);

#[derive(Debug)]
struct Waiter {
    asker: Mac,
    tell: oneshot::Sender<Verdict>,
}

impl Waiting {
    fn enter(&self, address: Ipv4Addr, asker: Mac) -> Ticket<'_> {
        let (tell, answer) = oneshot::channel();
        self.lock().entry(address).or_default().push(Waiter { asker, tell });
        Ticket { waiting: self, address, answer }
    }

    fn hear(&self, claim: Claim) {
        let mut waiting = self.lock();
        let Some(waiters) = waiting.get_mut(&claim.address) else { return };
        for waiter in waiters.extract_if(.., |waiter| claim.verdict != Verdict::UsedBy(waiter.asker)) {
            // Fails if the waiter's time is up, and then nobody wants to know.
            waiter.tell.send(claim.verdict).ok();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Ipv4Addr, Vec<Waiter>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in [`Waiting`], given up when this is dropped.
struct Ticket<'a> {
    waiting: &'a Waiting,
    address: Ipv4Addr,
    answer: oneshot::Receiver<Verdict>,
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.answer.close();
        if let Entry::Occupied(mut waiters) = self.waiting.lock().entry(self.address) {
            waiters.get_mut().retain(|waiter| !waiter.tell.is_closed());
            if waiters.get().is_empty() {
                waiters.remove();
            }
        }
    }
}

// ---- the sockets ----

#[expect(unsafe_code, reason = "tokio has no safe type for a packet or raw socket")]
fn register(socket: Socket) -> io::Result<AsyncFd<Socket>> {
    // SAFETY: a `Socket` owns one valid descriptor, and nothing here replaces or closes it in the `AsyncFd`.
    Ok(unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }?)
}

fn enlarge_receive_buffer(socket: &Socket) {
    // Going past net.core.rmem_max needs CAP_NET_ADMIN; a smaller buffer still works.
    if setsockopt(socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err()
        && let Err(error) = socket.set_recv_buffer_size(RECEIVE_BUFFER)
    {
        tracing::debug!(%error, "the receive buffer stays at its default size");
    }
}

const LOAD_WORD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const LOAD_HALF: u16 = (libc::BPF_LD | libc::BPF_H | libc::BPF_ABS) as u16;
const LOAD_BYTE: u16 = (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16;
const LOAD_HALF_BEHIND_X: u16 = (libc::BPF_LD | libc::BPF_H | libc::BPF_IND) as u16;
const LOAD_BYTE_BEHIND_X: u16 = (libc::BPF_LD | libc::BPF_B | libc::BPF_IND) as u16;
const LOAD_HEADER_LEN_TO_X: u16 = (libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH) as u16;
const JUMP_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

fn instruction(code: u16, operand: u32) -> SockFilter {
    SockFilter::new(code, 0, 0, operand)
}

fn jump(value: u32, equal: u8, other: u8) -> SockFilter {
    SockFilter::new(JUMP_EQUAL, equal, other, value)
}

/// Classic BPF, so that little else wakes the daemon: replies, and requests of a station that has an address.
fn claims_only() -> [SockFilter; 9] {
    const PACKET_TYPE: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_PKTTYPE) as u32;
    const OPERATION: u32 = 14 + 6;
    const SENDER: u32 = 14 + 14;
    [
        instruction(LOAD_BYTE, PACKET_TYPE),
        // For another station (promiscuous mode), or of a VLAN that is not ours.
        jump(libc::PACKET_OTHERHOST.into(), 6, 0),
        instruction(LOAD_WORD, SENDER),
        // A probe, which claims nothing yet.
        jump(0, 4, 0),
        instruction(LOAD_HALF, OPERATION),
        jump(REQUEST.into(), 1, 0),
        jump(REPLY.into(), 0, 1),
        instruction(RETURN, u32::MAX),
        instruction(RETURN, 0),
    ]
}

fn receive_arp(socket: &Socket, index: u32, buf: &mut [u8]) -> io::Result<Option<Claim>> {
    let (len, from) = recvfrom::<LinkAddr>(socket.as_raw_fd(), buf)?;
    // Between socket() and bind() a packet socket hears all interfaces.
    let ours = from.is_some_and(|from| u32::try_from(from.ifindex()) == Ok(index));
    Ok(buf.get(..len).filter(|_| ours).and_then(Arp::claim))
}

/// The echo requests for addresses behind relays, which leave wherever the routes lead.
#[derive(Debug)]
struct Icmp {
    channel: Channel,
    secret: Secret,
}

impl Icmp {
    fn open() -> io::Result<Self> {
        let secret = Secret::default();
        let ours = secret.clone();
        let channel = Channel::open(icmp_socket(secret.id())?, move |mut socket, buf| {
            let len = socket.read(buf)?;
            Ok(buf.get(..len).and_then(|packet| ours.claim(packet)))
        })?;
        Ok(Self { channel, secret })
    }
}

fn icmp_socket(id: u16) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4))?;
    socket.set_nonblocking(true)?;
    socket.attach_filter(&replies_only(id))?;
    Ok(socket)
}

/// A raw socket hears all ICMP that comes to this host. The filter sees it with its IP header.
fn replies_only(id: u16) -> [SockFilter; 7] {
    const ID: u32 = 4;
    [
        instruction(LOAD_HEADER_LEN_TO_X, 0),
        instruction(LOAD_BYTE_BEHIND_X, 0),
        jump(ECHO_REPLY.into(), 0, 3),
        instruction(LOAD_HALF_BEHIND_X, ID),
        jump(id.into(), 0, 1),
        instruction(RETURN, u32::MAX),
        instruction(RETURN, 0),
    ]
}

// ---- the wire ----

/// RFC 826 in an Ethernet frame.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Arp {
    destination_mac: Mac,
    source_mac: Mac,
    ether_type: U16,
    hardware: U16,
    protocol: U16,
    hardware_len: u8,
    protocol_len: u8,
    operation: U16,
    sender_mac: Mac,
    sender: [u8; 4],
    target_mac: Mac,
    target: [u8; 4],
}

impl Arp {
    /// The question of RFC 5227 §2.1.1.
    fn probe(ours: Mac, address: Ipv4Addr) -> Self {
        Self {
            destination_mac: Mac::BROADCAST,
            source_mac: ours,
            ether_type: ETHERTYPE_ARP.into(),
            hardware: ETHERNET.into(),
            protocol: ETHERTYPE_IPV4.into(),
            hardware_len: 6,
            protocol_len: 4,
            operation: REQUEST.into(),
            sender_mac: ours,
            sender: [0; 4],
            target_mac: Mac::default(),
            target: address.octets(),
        }
    }

    /// Reads a frame: replies and requests both claim their sender's address (RFC 5227 §2.1.1).
    fn claim(frame: &[u8]) -> Option<Claim> {
        let (arp, _padding) = Self::ref_from_prefix(frame).ok()?;
        let address = Ipv4Addr::from(arp.sender);
        let valid = arp.ether_type == ETHERTYPE_ARP
            && arp.hardware == ETHERNET
            && arp.protocol == ETHERTYPE_IPV4
            && (arp.hardware_len, arp.protocol_len) == (6, 4)
            && matches!(arp.operation.get(), REQUEST | REPLY)
            && arp.sender_mac.is_station()
            && !address.is_unspecified();
        valid.then_some(Claim { address, verdict: Verdict::UsedBy(arp.sender_mac) })
    }
}

/// RFC 792, with a cookie for the data.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Echo {
    kind: u8,
    code: u8,
    checksum: U16,
    id: U16,
    sequence: U16,
    cookie: [u8; 8],
}

/// Tells the answers to this process' echo requests from what others ask and from what nobody asked.
#[derive(Clone, Debug, Default)]
struct Secret(RandomState);

impl Secret {
    fn id(&self) -> u16 {
        self.0.hash_one("id") as u16
    }

    fn cookie(&self, address: Ipv4Addr) -> [u8; 8] {
        self.0.hash_one(address).to_be_bytes()
    }

    fn request(&self, address: Ipv4Addr) -> Echo {
        let mut echo = Echo {
            kind: ECHO_REQUEST,
            code: 0,
            checksum: 0.into(),
            id: self.id().into(),
            sequence: 0.into(),
            cookie: self.cookie(address),
        };
        echo.checksum = (!sum(echo.as_bytes())).into();
        echo
    }

    /// Reads an IP packet. Its checksums are not looked at: the cookie proves more.
    fn claim(&self, packet: &[u8]) -> Option<Claim> {
        let header_len = usize::from(packet.first()? & 0x0f) * 4;
        let source: [u8; 4] = *packet.get(12..)?.first_chunk()?;
        let (echo, _rest) = Echo::ref_from_prefix(packet.get(header_len..)?).ok()?;
        let address = Ipv4Addr::from(source);
        let valid = (echo.kind, echo.code) == (ECHO_REPLY, 0)
            && echo.id == self.id()
            && echo.cookie == self.cookie(address);
        valid.then_some(Claim { address, verdict: Verdict::Answers })
    }
}

/// The one's complement sum of RFC 1071 over a whole number of words.
fn sum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes.chunks_exact(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1])).sum();
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    sum as u16
}

#[cfg(test)]
mod tests;
