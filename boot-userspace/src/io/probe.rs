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
mod tests {
    use std::process::Command;
    use std::sync::mpsc;
    use std::time::Instant;

    use tokio::task::JoinSet;

    use super::super::link::{find, lab};
    use super::*;

    const SERVER: Mac = Mac([2, 0, 0, 0, 0, 0x0a]);
    const NEIGHBOUR: Mac = Mac([2, 0, 0, 0, 0, 0x0b]);
    const CLIENT: Mac = Mac([2, 0, 0, 0, 0, 0x0c]);
    const SHORT: Duration = Duration::from_millis(150);
    const TAKEN: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);
    const UNUSED: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 3);

    /// The neighbour says to the server that it has 10.9.0.2.
    const ANSWER: [u8; 42] = [
        2, 0, 0, 0, 0, 0x0a, 2, 0, 0, 0, 0, 0x0b, 8, 6, // Ethernet
        0, 1, 8, 0, 6, 4, 0, 2, // ARP
        2, 0, 0, 0, 0, 0x0b, 10, 9, 0, 2, // sender
        2, 0, 0, 0, 0, 0x0a, 0, 0, 0, 0, // target
    ];

    fn claim(change: impl FnOnce(&mut Vec<u8>)) -> Option<Claim> {
        let mut frame = ANSWER.to_vec();
        change(&mut frame);
        Arp::claim(&frame)
    }

    #[test]
    fn composes_the_probe_of_the_rfc() {
        let expected = [
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 0x0a, 8, 6, // Ethernet
            0, 1, 8, 0, 6, 4, 0, 1, // ARP
            2, 0, 0, 0, 0, 0x0a, 0, 0, 0, 0, // sender
            0, 0, 0, 0, 0, 0, 10, 9, 0, 2, // target
        ];
        assert_eq!(Arp::probe(SERVER, TAKEN).as_bytes(), expected);
        assert_eq!(Arp::claim(&expected), None, "a probe claims nothing");
    }

    #[test]
    fn reads_replies_and_announcements() {
        let expected = Some(Claim { address: TAKEN, verdict: Verdict::UsedBy(NEIGHBOUR) });
        assert_eq!(claim(|_| {}), expected);
        assert_eq!(claim(|frame| frame.extend([0; 18])), expected, "Ethernet padding");
        assert_eq!(claim(|frame| frame[21] = 1), expected, "a request");
    }

    #[test]
    fn discards_what_claims_no_address() {
        for len in 0..ANSWER.len() {
            assert_eq!(claim(|frame| frame.truncate(len)), None, "cut to {len}");
        }
        for byte in 12..20 {
            assert_eq!(claim(|frame| frame[byte] ^= 1), None, "byte {byte}");
        }
        assert_eq!(claim(|frame| frame[21] = 3), None, "reverse ARP");
        assert_eq!(claim(|frame| frame[22] |= 1), None, "a group for a sender");
        assert_eq!(claim(|frame| frame[28..32].fill(0)), None, "no address");
    }

    /// As the kernel hands it out: with an IP header, here with 4 bytes of options.
    fn echo_reply(secret: &Secret, from: Ipv4Addr) -> Vec<u8> {
        let mut packet = vec![0x46, 0, 0, 40, 0, 0, 0, 0, 64, 1, 0, 0];
        packet.extend(from.octets());
        packet.extend([10, 9, 0, 1, 1, 1, 1, 0]);
        packet.extend(Echo { kind: ECHO_REPLY, ..secret.request(from) }.as_bytes());
        packet
    }

    #[test]
    fn an_echo_request_has_a_right_checksum() {
        let request = Secret::default().request(TAKEN);
        assert_eq!(request.as_bytes()[..2], [8, 0]);
        assert_eq!(sum(request.as_bytes()), 0xffff);
        assert_eq!(sum(&[0xff, 0xff, 0xff, 0xff, 0, 1]), 1, "the carry's carry");
    }

    #[test]
    fn reads_the_replies_to_its_own_echo_requests() {
        let secret = Secret::default();
        let packet = echo_reply(&secret, TAKEN);
        assert_eq!(secret.claim(&packet), Some(Claim { address: TAKEN, verdict: Verdict::Answers }));
        for len in 0..packet.len() {
            assert_eq!(secret.claim(&packet[..len]), None, "cut to {len}");
        }
        // The sequence number and the checksum do not matter.
        for byte in [0, 12, 15, 24, 25, 28, 29, 32, 39] {
            let mut changed = packet.clone();
            changed[byte] ^= 1;
            assert_eq!(secret.claim(&changed), None, "byte {byte}");
        }
        assert_eq!(Secret::default().claim(&packet), None, "of another process");
    }

    #[test]
    fn the_asker_s_own_answer_is_only_passed_over_for_itself() {
        let waiting = Waiting::default();
        let mut neighbour = waiting.enter(TAKEN, NEIGHBOUR);
        let mut client = waiting.enter(TAKEN, CLIENT);
        let mut elsewhere = waiting.enter(UNUSED, CLIENT);
        waiting.hear(Claim { address: TAKEN, verdict: Verdict::UsedBy(NEIGHBOUR) });
        assert!(neighbour.answer.try_recv().is_err());
        assert_eq!(client.answer.try_recv(), Ok(Verdict::UsedBy(NEIGHBOUR)));
        assert!(elsewhere.answer.try_recv().is_err());
        waiting.hear(Claim { address: TAKEN, verdict: Verdict::UsedBy(SERVER) });
        assert_eq!(neighbour.answer.try_recv(), Ok(Verdict::UsedBy(SERVER)));
        drop((neighbour, client));
        assert_eq!(waiting.lock().keys().collect::<Vec<_>>(), [&UNUSED]);
        drop(elsewhere);
        assert!(waiting.lock().is_empty());
    }

    #[test]
    fn an_old_error_is_passed_over_and_a_lasting_one_is_not() {
        let mut said = [Err(libc::ENETDOWN), Ok(1)].into_iter();
        let mut call = || said.next().unwrap().map_err(io::Error::from_raw_os_error);
        assert_eq!(past_an_old_error(&mut call).unwrap(), 1);
        let lasting = past_an_old_error(|| Err::<(), _>(io::Error::from_raw_os_error(libc::ENETDOWN)));
        assert!(lasting.is_err());
    }

    fn ip(line: &str) {
        assert!(Command::new("ip").args(line.split(' ')).status().unwrap().success(), "ip {line}");
    }

    /// Runs `test` where `srv0` (10.9.0.1/16) leads to a neighbour in another network namespace, which has
    /// 10.9.0.2, all of 10.9.4.0/22, and 10.20.0.0/24 behind a route.
    fn beside_a_neighbour<F: Future<Output = ()> + Send>(test: impl FnOnce() -> F + Send) {
        const THERE: [&str; 6] = [
            "link set lo up",
            "link set cli0 address 02:00:00:00:00:0b up",
            "address add 10.9.0.2/16 dev cli0",
            "route add local 10.9.4.0/22 dev lo",
            "route add local 10.20.0.0/25 dev lo",
            "route add unreachable 10.20.0.128/25",
        ];
        let (say_tid, tid) = mpsc::channel();
        let (say_moved, moved) = mpsc::channel::<()>();
        let (say_ready, ready) = mpsc::channel();
        let (say_over, over) = mpsc::channel::<()>();
        let neighbour = move || {
            say_tid.send(nix::unistd::gettid()).unwrap();
            moved.recv().unwrap();
            THERE.into_iter().for_each(ip);
            say_ready.send(()).unwrap();
            // Until the test has ended, well or badly.
            assert!(over.recv().is_err());
        };
        std::thread::scope(|scope| {
            scope.spawn(move || lab::in_namespace(&[], neighbour));
            let tid = tid.recv().unwrap();
            lab::in_namespace(&["link set lo up"], move || {
                let _over = say_over;
                ip("link add srv0 address 02:00:00:00:00:0a type veth peer name cli0");
                ip(&format!("link set cli0 netns {tid}"));
                ip("address add 10.9.0.1/16 dev srv0");
                ip("link set srv0 up");
                ip("route add 10.20.0.0/24 via 10.9.0.2");
                say_moved.send(()).unwrap();
                ready.recv().unwrap();
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(test());
            });
        });
    }

    #[test]
    #[ignore = "needs root for network namespaces"]
    fn finds_who_has_an_address() {
        beside_a_neighbour(async || {
            let prober = Prober::open(&find("srv0").unwrap()).unwrap();
            let start = Instant::now();
            assert_eq!(prober.in_use(TAKEN, true, CLIENT, WAIT).await, Verdict::UsedBy(NEIGHBOUR));
            assert!(start.elapsed() < WAIT, "{:?}", start.elapsed());

            for (address, asker, why) in
                [(UNUSED, CLIENT, "nobody has it"), (TAKEN, NEIGHBOUR, "the asker has it")]
            {
                let start = Instant::now();
                assert_eq!(prober.in_use(address, true, asker, WAIT).await, Verdict::Free, "{why}");
                assert!(start.elapsed() >= WAIT, "{why}");
            }
            let own = Ipv4Addr::new(10, 9, 0, 1);
            for on_link in [true, false] {
                assert_eq!(prober.in_use(own, on_link, CLIENT, WAIT).await, Verdict::UsedBy(SERVER));
            }
            assert!(prober.arp.waiting.lock().is_empty());
        });
    }

    #[test]
    #[ignore = "needs root for a network namespace"]
    fn hears_an_announcement_but_the_asker_s() {
        lab::in_namespace(lab::PAIR, || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let prober = Prober::open(&find("srv0").unwrap()).unwrap();
                let peer = packet::FrameSocket::open(&find("cli0").unwrap()).unwrap();
                let announce = async |who: Mac| {
                    sleep(Duration::from_millis(20)).await;
                    let announcement = Arp { sender: UNUSED.octets(), ..Arp::probe(who, UNUSED) };
                    peer.send(announcement.as_bytes()).unwrap();
                };
                let others = async {
                    announce(CLIENT).await;
                    announce(NEIGHBOUR).await;
                };
                let (verdict, ()) = tokio::join!(prober.in_use(UNUSED, true, CLIENT, WAIT), others);
                assert_eq!(verdict, Verdict::UsedBy(NEIGHBOUR));
            });
        });
    }

    #[test]
    #[ignore = "needs root for a network namespace"]
    fn other_arp_never_reaches_the_socket() {
        lab::in_namespace(lab::PAIR, || {
            let link = find("srv0").unwrap();
            let socket = packet::open(&link, ETHERTYPE_ARP).unwrap();
            socket.attach_filter(&claims_only()).unwrap();
            let peer = packet::FrameSocket::open(&find("cli0").unwrap()).unwrap();
            let receive = || receive_arp(&socket, link.index, &mut [0; 128]);
            while receive().is_ok() {}

            let answer = Arp::read_from_bytes(&ANSWER).unwrap();
            let probe = Arp::probe(NEIGHBOUR, UNUSED);
            for other in [
                probe,
                Arp { destination_mac: CLIENT, ..answer },
                Arp { operation: 4.into(), ..answer },
                Arp { sender: [0; 4], ..answer },
            ] {
                peer.send(other.as_bytes()).unwrap();
                assert_eq!(receive().unwrap_err().kind(), io::ErrorKind::WouldBlock);
            }
            let announcement = Arp { sender: UNUSED.octets(), ..probe };
            for (frame, address) in [(answer, TAKEN), (announcement, UNUSED)] {
                peer.send(frame.as_bytes()).unwrap();
                let expected = Claim { address, verdict: Verdict::UsedBy(NEIGHBOUR) };
                assert_eq!(receive().unwrap(), Some(expected));
            }
        });
    }

    #[test]
    #[ignore = "needs root for network namespaces"]
    fn asks_behind_relays_by_icmp() {
        beside_a_neighbour(async || {
            let prober = Prober::open(&find("srv0").unwrap()).unwrap();
            let ask = async |address: [u8; 4]| prober.in_use(address.into(), false, CLIENT, WAIT).await;
            assert_eq!(ask([10, 20, 0, 5]).await, Verdict::Answers);
            let start = Instant::now();
            assert_eq!(ask([10, 20, 0, 200]).await, Verdict::Free);
            assert!(start.elapsed() >= WAIT);
            let start = Instant::now();
            assert_eq!(ask([192, 0, 2, 1]).await, Verdict::Free, "no route");
            assert_eq!(ask([255, 255, 255, 255]).await, Verdict::Free, "not allowed");
            assert!(start.elapsed() < WAIT);
            assert!(prober.icmp().unwrap().channel.waiting.lock().is_empty());
        });
    }

    #[test]
    #[ignore = "needs root for a network namespace"]
    fn other_icmp_never_reaches_the_socket() {
        lab::in_namespace(&["link set lo up"], || {
            let secret = Secret::default();
            let mut socket = icmp_socket(secret.id()).unwrap();
            let to = SockAddr::from(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0));
            let ours = secret.request(Ipv4Addr::LOCALHOST);
            let mut of_another = Echo { id: (!secret.id()).into(), checksum: 0.into(), ..ours };
            of_another.checksum = (!sum(of_another.as_bytes())).into();
            // The socket would hear both the request and the kernel's reply.
            socket.send_to(of_another.as_bytes(), &to).unwrap();
            let mut buf = [0; 128];
            assert_eq!(socket.read(&mut buf).unwrap_err().kind(), io::ErrorKind::WouldBlock);
            socket.send_to(ours.as_bytes(), &to).unwrap();
            let len = socket.read(&mut buf).unwrap();
            assert!(secret.claim(&buf[..len]).is_some());
            assert_eq!(socket.read(&mut buf).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        });
    }

    #[test]
    #[ignore = "needs root for network namespaces"]
    fn a_storm_of_probes_runs_at_once() {
        beside_a_neighbour(async || {
            let prober = Arc::new(Prober::open(&find("srv0").unwrap()).unwrap());
            for on_link in [true, false] {
                let mut probes = JoinSet::new();
                let start = Instant::now();
                for number in 0..1000u32 {
                    let network = if on_link { [10, 9, 4, 0] } else { [10, 20, 0, 0] };
                    // Half of them are taken: /22 of 1,000 on the link, or half a /24 with several askers each.
                    let at = if on_link { 512 + number } else { number % 256 };
                    let address = Ipv4Addr::from(u32::from_be_bytes(network) + at);
                    let prober = Arc::clone(&prober);
                    probes
                        .spawn(async move { (address, prober.in_use(address, on_link, CLIENT, WAIT).await) });
                }
                for (address, verdict) in probes.join_all().await {
                    let [_, _, third, fourth] = address.octets();
                    let expected = match (on_link, third, fourth) {
                        (true, 4..8, _) => Verdict::UsedBy(NEIGHBOUR),
                        (false, _, 0..128) => Verdict::Answers,
                        _ => Verdict::Free,
                    };
                    assert_eq!(verdict, expected, "{address}");
                }
                assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
                assert_eq!(prober.skipped(), 0);
            }
        });
    }

    #[test]
    #[ignore = "needs root for network namespaces"]
    fn what_goes_beyond_the_bound_is_free_at_once() {
        beside_a_neighbour(async || {
            let prober = Arc::new(Prober::open(&find("srv0").unwrap()).unwrap());
            let mut probes = JoinSet::new();
            for number in 0..5000u32 {
                let prober = Arc::clone(&prober);
                let address = Ipv4Addr::from(u32::from_be_bytes([10, 9, 16, 0]) + number);
                let wait = Duration::from_secs(1);
                probes.spawn(async move { prober.in_use(address, true, CLIENT, wait).await });
            }
            let start = Instant::now();
            let verdicts = probes.join_all().await;
            assert!(verdicts.iter().all(|verdict| *verdict == Verdict::Free));
            assert_eq!(prober.skipped(), 5000 - AT_ONCE as u64);
            assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
            assert_eq!(prober.in_use(TAKEN, true, CLIENT, WAIT).await, Verdict::UsedBy(NEIGHBOUR));
        });
    }

    #[test]
    #[ignore = "needs root for network namespaces"]
    fn an_interface_may_go_down_and_come_back() {
        beside_a_neighbour(async || {
            let prober = Prober::open(&find("srv0").unwrap()).unwrap();
            ip("link set srv0 down");
            let start = Instant::now();
            assert_eq!(prober.in_use(TAKEN, true, CLIENT, WAIT).await, Verdict::Free);
            assert!(start.elapsed() < WAIT, "{:?}", start.elapsed());
            for _ in 0..3 {
                ip("link set srv0 down");
                ip("link set srv0 up");
                assert_eq!(prober.in_use(TAKEN, true, CLIENT, WAIT).await, Verdict::UsedBy(NEIGHBOUR));
            }
            ip("link delete srv0");
            assert_eq!(prober.in_use(TAKEN, true, CLIENT, WAIT).await, Verdict::Free);
        });
    }

    #[test]
    #[ignore = "needs root for network namespaces"]
    fn a_dropped_probe_leaves_nothing_behind() {
        beside_a_neighbour(async || {
            let prober = Prober::open(&find("srv0").unwrap()).unwrap();
            assert!(timeout(SHORT, prober.in_use(UNUSED, true, CLIENT, WAIT)).await.is_err());
            assert!(prober.arp.waiting.lock().is_empty());
            assert_eq!(prober.slots.available_permits(), AT_ONCE);
            let reader = prober.arp.reader.clone();
            drop(prober);
            while !reader.is_finished() {
                tokio::task::yield_now().await;
            }
        });
    }

    #[test]
    #[ignore = "needs root to lose it"]
    fn without_the_capability_everything_behind_relays_is_free() {
        // Only a child without capabilities can show it: setpriv(1) runs this same test binary.
        if std::env::var_os("XPXE_NO_CAPS").is_some() {
            let link = Link { index: 1, name: "lo".into(), mac: SERVER, addresses: vec![], mtu: 65536 };
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                assert_eq!(Prober::open(&link).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
                let stand_in = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
                stand_in.set_nonblocking(true).unwrap();
                let prober = Prober::over(stand_in, &link).unwrap();
                let start = Instant::now();
                for _ in 0..2 {
                    let verdict = prober.in_use(Ipv4Addr::LOCALHOST, false, CLIENT, WAIT).await;
                    assert_eq!(verdict, Verdict::Free);
                }
                assert!(start.elapsed() < WAIT);
                assert!(matches!(*prober.behind_relays.lock().unwrap(), BehindRelays::NotPermitted));
            });
            return;
        }
        let done = Command::new("setpriv")
            .args(["--bounding-set=-all", "--inh-caps=-all", "--reuid=65534", "--clear-groups"])
            .arg(std::env::current_exe().unwrap())
            .args([
                "--ignored",
                "--exact",
                "io::probe::tests::without_the_capability_everything_behind_relays_is_free",
            ])
            .env("XPXE_NO_CAPS", "1")
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
    }
}
