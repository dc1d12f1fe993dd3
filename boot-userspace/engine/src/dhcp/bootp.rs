//! BOOTP (RFC 951): an address that is reserved, and the boot file, in one answer without a lease.

use boot_common::Reason;
use boot_common::class::{Class, Stage};
use boot_common::classify::client;
use boot_common::facts::Facts;
use boot_common::frame::Bytes;
use boot_common::tables::{Answer, Host, LinkEntry, role};
use boot_common::wire::{BOOTP_FIXED, MAGIC, Request, SNAME_AND_FILE, Sum, port};

use super::Asked;
use crate::Engine;
use crate::command::{Incoming, Now};
use crate::leases::binding::{Binding, State};

/// The key of the answer to BOOTP, which is never in the tables.
pub(super) const BOOTP: u8 = 0;

/// A shorter message is a DHCP message that was cut, not BOOTP (RFC 951 section 3).
const SHORTEST: usize = 300;

/// The vendor's area of a message of that length, cookie included.
const VENDOR_AREA: usize = SHORTEST - BOOTP_FIXED - SNAME_AND_FILE;

/// The longest name, with its option's two octets, that leaves room for mask, router and name servers.
pub(super) const LONGEST_NAME: u8 = 34;

impl Engine {
    /// A BOOTP client gets an address only if one is reserved for it: there is no lease that would end.
    pub(super) fn bootp(&mut self, asked: Asked<'_>) -> Result<(), Reason> {
        let is_whole = asked.incoming.payload.len() >= SHORTEST;
        let is_reserved = |binding: &Binding| binding.state == State::Reserved;
        if !is_whole || !self.bindings.of(asked.mac).any(|binding| is_reserved(&binding)) {
            return Err(Reason::NoMessageType);
        }
        let place = self.place(&asked)?;
        let binding = self.bindings.get(asked.mac, place.subnet).filter(is_reserved);
        let binding = binding.ok_or(Reason::NoMessageType)?;
        let host = self.host(&asked.who, &binding, place.set, 0, asked.now);
        self.reply(asked, place, BOOTP, Some((binding, host)))
    }

    /// A message without a cookie: its vendor's area says nothing, nor will the answer's. With the cookie of somebody else
    /// it is no message to us (RFC 2131 section 3).
    pub(super) fn plain_bootp(
        &mut self,
        frame: Bytes,
        incoming: &Incoming<'_>,
        link: &LinkEntry,
        now: Now,
    ) -> Result<(), Reason> {
        let request = &self.scratch.request;
        let is_bootp = request.magic.get() == 0 && incoming.port == port::DHCP_SERVER;
        if link.role != role::SERVER || !is_bootp {
            return Err(Reason::BadCookie);
        }
        let (bootp, mac) = (request.bootp, client(request));
        let who = self.policy.requester(mac);
        if !self.policy.serves_requester(&who) {
            return Err(Reason::UnknownHost);
        }
        let asked = Asked { incoming, link: *link, frame, facts: Facts::default(), mac, who, bootp, now };
        // Whatever is wrong with it, the cookie is why.
        self.bootp(asked).map_err(|reason| match reason {
            Reason::NoMessageType => Reason::BadCookie,
            other => other,
        })
    }
}

/// A client that says no more is firmware: BIOS, unless its option 93 names another kind.
pub(super) fn class(facts: &Facts) -> Class {
    match facts.class() {
        Class { stage: Stage::Os, .. } => Class { firmware: facts.firmware(), stage: Stage::Rom },
        said => said,
    }
}

/// Bytes for options: the vendor's area has as many as in the request, but is never smaller than RFC 951 has it.
pub(super) fn room(asked: &Asked<'_>, host: Option<&Host>) -> usize {
    let area = asked.incoming.payload.len().saturating_sub(BOOTP_FIXED + SNAME_AND_FILE).max(VENDOR_AREA);
    let facts = &asked.facts;
    let echoes = facts.guid.length + facts.client_id.length + facts.relay.length;
    let own = host.filter(|_| facts.gets_name()).map_or(0, |host| u32::from(host.options_length));
    // The cookie and END.
    area.saturating_sub((4 + own + echoes + 1) as usize)
}

/// Whether the client knows options at all.
pub(super) fn knows_options(request: &Request) -> bool {
    request.magic.get() == MAGIC
}

/// An answer without options.
pub(super) fn bare(mut answer: Answer) -> Answer {
    let length = SNAME_AND_FILE + 4;
    answer.body[SNAME_AND_FILE..length].fill(0);
    answer.body_length = u16::try_from(length).unwrap_or(0);
    answer.body_sum = Sum::ZERO.bytes(&answer.body[..length]).folded();
    answer
}

/// Takes the end of the options out of the frame of an answer that has none.
pub(super) fn remove_end(frame: &mut [u8]) {
    const UDP_CHECKSUM: usize = 40;
    // Its octet is the higher half of a word.
    const { assert!(Request::OPTIONS.is_multiple_of(2)) };
    let (Some(end), Some(checksum)) =
        (frame.get(Request::OPTIONS).copied(), frame.get(UDP_CHECKSUM..UDP_CHECKSUM + 2))
    else {
        return;
    };
    let [high, low] = [checksum[0], checksum[1]];
    let sum = Sum::of(!u16::from_be_bytes([high, low])).word(!u16::from_be_bytes([end, 0]));
    frame[Request::OPTIONS] = 0;
    frame[UDP_CHECKSUM..UDP_CHECKSUM + 2].copy_from_slice(&sum.udp_checksum().to_be_bytes());
}
