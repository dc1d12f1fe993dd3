//! Putting an answer together by the function the kernel uses, and how it leaves.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;

use boot_common::answer::answer;
use boot_common::class::{Class, Stage};
use boot_common::classify::client;
use boot_common::decide::{Decision, Destination, destination, message, relay_port};
use boot_common::facts::{Facts, Span};
use boot_common::frame::Bytes;
use boot_common::respond::Answered;
use boot_common::scratch::Scratch;
use boot_common::tables::{ANSWER_OPTIONS, Answer, AnswerKey, Host, LinkEntry};
use boot_common::wire::{Head, SNAME_AND_FILE, option, port};
use boot_common::{Mac, Reason};
use zerocopy::FromBytes as _;

use super::bootp::{self, BOOTP};
use super::{Asked, Place};
use crate::Engine;
use crate::answers::prepare::{Parts, prepare};
use crate::command::{Command, Incoming, Told, Via};
use crate::dhcp::packet;
use crate::dhcp::reassembly::option_of;
use crate::events::{Refusal, Said};
use crate::leases::binding::Binding;

impl Engine {
    /// Answers with what is prepared for the client's class and list, or, where its loader is missing, with an
    /// address only. `given` is what the machine gets, and its entry for that.
    pub(super) fn reply(
        &mut self,
        asked: Asked<'_>,
        place: Place,
        kind: u8,
        given: Option<(Binding, Host)>,
    ) -> Result<(), Reason> {
        let is_bootp = kind == BOOTP;
        let mut class = if is_bootp { bootp::class(&asked.facts) } else { asked.facts.class() };
        let key = |class: Class, wanted: u32| AnswerKey {
            set: place.set,
            wanted,
            class: class.answered_as().key(),
            message: kind,
            reserved: [0; 2],
        };
        // Whatever BOOTP clients may boot, others of their class may.
        let known = key(class, 0);
        let known = if is_bootp { AnswerKey { message: message::ACK, ..known } } else { known };
        if class.stage != Stage::Os && !self.answers.has(known, &self.policy, &mut self.commands) {
            self.complain(&asked, class, Some(place));
            class = Class::OS;
        }
        let list = if class.stage == Stage::Os { requested_options(&asked) } else { None };
        let key = key(class, list.as_ref().map_or(0, |_| asked.facts.wanted));
        let (binding, mut host) = given.unzip();
        let room = if is_bootp {
            // A long name would leave no room for the mask.
            host = host.filter(|host| host.options_length <= bootp::LONGEST_NAME);
            bootp::room(&asked, host.as_ref())
        } else {
            room(&asked.facts, host.as_ref())
        };
        let prepared = match (self.answers.shared(&key), &list) {
            (Some(prepared), _) => Some(prepared),
            (None, Some(list)) => self
                .answers
                .by_list(key, list, &self.policy, asked.now.boot, &mut self.commands)
                .map(Arc::new),
            (None, None) => {
                self.answers.in_room(key, None, &self.policy, room.min(ANSWER_OPTIONS)).map(Arc::new)
            }
        };
        let prepared = prepared.ok_or(Reason::NoAnswer)?;
        let fits = usize::from(prepared.body_length) <= SNAME_AND_FILE + 4 + room;
        let prepared = if fits {
            prepared
        } else {
            let smaller = self.answers.in_room(key, list.as_deref(), &self.policy, room);
            Arc::new(smaller.ok_or(Reason::ReplyTooBig)?)
        };
        let is_bare = is_bootp && !bootp::knows_options(&self.scratch.request);
        let prepared = if is_bare { Arc::new(bootp::bare(*prepared)) } else { prepared };
        let host = host.filter(|_| !is_bare);
        let address = binding.map_or(Ipv4Addr::UNSPECIFIED, |binding| binding.address);
        let ciaddr = if kind == message::OFFER { [0; 4] } else { asked.bootp.ciaddr };
        let to = destination(&self.scratch.request, &asked.facts, address.octets())?;
        let reason = match kind {
            message::OFFER => Reason::Offered,
            message::INFORM => Reason::Informed,
            BOOTP => Reason::Bootp,
            _ => Reason::Acked,
        };
        self.write(asked, &prepared, host.as_ref(), address.octets(), ciaddr, to, reason)
    }

    pub(super) fn refuse(&mut self, asked: Asked<'_>, place: Place, why: Refusal) -> Result<(), Reason> {
        let parts = Parts {
            class: Class::OS,
            message: message::NAK,
            subnet: None,
            server: place.server,
            boot: None,
            custom: &[],
            wanted: None,
            room: ANSWER_OPTIONS,
        };
        let prepared = prepare(&parts).map_err(|_| Reason::NoAnswer)?.answer;
        let giaddr = asked.bootp.giaddr;
        let to = if giaddr == [0; 4] {
            // RFC 2131 section 4.3.2: broadcast, whatever address the client believes to have.
            Destination { mac: Mac::BROADCAST, address: [255; 4], port: port::DHCP_CLIENT }
        } else {
            // The relay is to broadcast it too.
            let request = &mut self.scratch.request;
            request.bootp.flags.set(request.bootp.flags.get() | 0x8000);
            Destination {
                mac: Mac::BROADCAST,
                address: giaddr,
                port: relay_port(&self.scratch.request, &asked.facts),
            }
        };
        self.write(asked, &prepared, None, [0; 4], [0; 4], to, Reason::Refused)?;
        if let Some(Command::Send { told, .. }) = self.commands.last_mut() {
            told.refused = Some(why);
        }
        Ok(())
    }

    /// Writes the answer by the function the kernel uses, and sends it.
    #[expect(clippy::too_many_arguments, reason = "they are the fields of one decision")]
    pub(super) fn write(
        &mut self,
        asked: Asked<'_>,
        prepared: &Answer,
        host: Option<&Host>,
        yiaddr: [u8; 4],
        ciaddr: [u8; 4],
        to: Destination,
        reason: Reason,
    ) -> Result<(), Reason> {
        let Asked { incoming, link, mut frame, mut facts, .. } = asked;
        let class = if reason == Reason::Bootp { bootp::class(&facts) } else { facts.class() };
        let decision = Decision {
            answer: prepared,
            host,
            yiaddr,
            ciaddr,
            to,
            source: prepared.server_id,
            source_port: incoming.port,
            source_mac: link.mac,
            server_id: facts.server_override,
            class,
            reason,
        };
        let Scratch { request, reply, .. } = &mut *self.scratch;
        match answer(&mut frame, request, reply, &facts, &decision) {
            // RFC 3046 section 2.2: without it rather than not at all, and never cut.
            Err(Reason::ReplyTooBig) if facts.relay.length != 0 => {
                facts.relay = Span::default();
                answer(&mut frame, request, reply, &facts, &decision)?;
            }
            other => other?,
        }
        if reason == Reason::Bootp && !bootp::knows_options(request) {
            bootp::remove_end(&mut frame.0);
        }
        self.finish(incoming, &link, frame, Answered { reason, address: yiaddr, class });
        Ok(())
    }

    pub(super) fn finish(
        &mut self,
        incoming: &Incoming<'_>,
        link: &LinkEntry,
        frame: Bytes,
        answered: Answered,
    ) {
        let request = &self.scratch.request;
        let (mac, said) = (client(request), Said::by(&request.bootp));
        self.send(incoming, frame.0, link, Told { mac, answered, said, refused: None });
    }
}

/// How an answer leaves: RFC 2131 section 4.1, read back from its headers.
pub(crate) fn via(frame: &[u8], incoming: &Incoming<'_>, link: &LinkEntry) -> Via {
    let Ok((head, _)) = Head::read_from_prefix(frame) else { return Via::Frame };
    let destination = Ipv4Addr::from(head.ip.destination);
    let has_no_address_yet = head.bootp.giaddr == [0; 4]
        && head.bootp.yiaddr == head.ip.destination
        && head.bootp.ciaddr == [0; 4];
    if destination.is_broadcast() || has_no_address_yet {
        return Via::Frame;
    }
    let source = if head.ip.source == [0; 4] { link.address } else { head.ip.source };
    Via::Socket {
        to: SocketAddrV4::new(destination, head.udp.destination.get()),
        source: Ipv4Addr::from(source),
        port: incoming.port,
    }
}

/// Bytes for options in an answer that this client accepts: what is left of its limit beside everything else.
pub(super) fn room(facts: &Facts, host: Option<&Host>) -> usize {
    // Headers, fixed fields, `sname`, `file`, cookie.
    const AROUND: u32 = 20 + 8 + 236 + 4;
    let limit = u32::from(facts.max_size).clamp(576, 1500);
    let own = host.filter(|_| facts.gets_name()).map_or(0, |host| u32::from(host.options_length));
    let echoes = facts.guid.length + facts.client_id.length;
    let without_relay = limit.saturating_sub(AROUND + own + echoes + 1);
    let left = without_relay.saturating_sub(facts.relay.length);
    // Option 82 is what gives way (RFC 3046 section 2.2).
    let left = if left < 64 { without_relay } else { left };
    left as usize
}

/// The parameter request list.
pub(super) fn requested_options(asked: &Asked<'_>) -> Option<Vec<u8>> {
    if asked.facts.wanted == 0 {
        return None;
    }
    option_of(packet::payload(&asked.frame.0), option::PARAMETER_REQUEST)
}
