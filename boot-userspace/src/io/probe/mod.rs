//! Asks whether somebody has an address already, before a machine is offered it (RFC 2131 §2.2).
//!
//! On the link it asks by ARP. The probe of RFC 5227 (sender 0.0.0.0) enters no ARP cache, and a host answers
//! it whatever its firewall does. Behind a relay only ICMP echo is left, where silence proves less.

mod arp;
mod channel;
mod icmp;
#[cfg(test)]
mod tests;

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use boot_common::Mac;
use socket2::Socket;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use zerocopy::IntoBytes as _;

use self::arp::{Arp, receive_arp};
use self::channel::Channel;
use self::icmp::Icmp;
use crate::host::link::Link;

/// How long to listen for an answer.
///
/// EDK2 collects offers for 4 s and legacy ROMs for as long, but iPXE repeats its DISCOVER after 1 s: the offer
/// must be out before that, also when a storm delays it. A station that is awake answers within a few ms.
pub const WAIT: Duration = Duration::from_millis(250);

/// How many probes of one interface run at once.
const AT_ONCE: usize = 4096;

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
    /// The system has not permitted the socket for what is behind relays, and nobody has asked.
    refused: AtomicBool,
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
        Self::over(arp::open(link)?, link)
    }

    fn over(socket: Socket, link: &Link) -> io::Result<Self> {
        let index = link.index;
        Ok(Self {
            link: link.clone(),
            arp: Channel::open(socket, move |socket, buf| receive_arp(socket, index, buf))?,
            behind_relays: Mutex::new(BehindRelays::NotYetOpen),
            slots: Semaphore::new(AT_ONCE),
            skipped: AtomicU64::new(0),
            refused: AtomicBool::new(false),
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
                tracing::debug!(link, %address, %error, "cannot ask who has {address}");
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

    /// Whether it has turned out since the last time that addresses behind relays cannot be asked for: the system does not
    /// permit it.
    #[must_use]
    pub fn was_just_refused(&self) -> bool {
        self.refused.swap(false, Ordering::Relaxed)
    }

    fn icmp(&self) -> Option<Arc<Icmp>> {
        let mut state = self.behind_relays.lock().unwrap_or_else(PoisonError::into_inner);
        if let BehindRelays::NotYetOpen = *state {
            match Icmp::open() {
                Ok(icmp) => *state = BehindRelays::Open(Arc::new(icmp)),
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    self.refused.store(true, Ordering::Relaxed);
                    *state = BehindRelays::NotPermitted;
                }
                Err(error) => {
                    tracing::debug!(%error, "cannot open an ICMP socket");
                }
            }
        }
        match &*state {
            BehindRelays::Open(icmp) => Some(Arc::clone(icmp)),
            BehindRelays::NotYetOpen | BehindRelays::NotPermitted => None,
        }
    }
}
