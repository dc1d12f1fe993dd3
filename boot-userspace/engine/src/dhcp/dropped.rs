//! Which of the messages that are not answered somebody has to hear of.

use std::net::Ipv4Addr;

use boot_common::tables::role;
use boot_common::{Mac, Reason};
use tracing::debug;

use crate::Engine;
use crate::command::{Incoming, Now};
use crate::diagnosis::is_missed;
use crate::events::{BootEvent, Fault, Machine, Step};

/// What is wrong; nothing where silence is right.
fn fault(reason: Reason, giaddr: Ipv4Addr) -> Option<Fault> {
    match reason {
        Reason::TooShort
        | Reason::TooLong
        | Reason::NotARequest
        | Reason::NotEthernet
        | Reason::BadSource
        | Reason::BadCookie
        | Reason::BadOption
        | Reason::TooManyOptions
        | Reason::SplitOption
        | Reason::Overload => Some(Fault::Malformed),
        Reason::BadRelay => Some(Fault::Relay { relay: giaddr, station: None }),
        Reason::ReplyTooBig => Some(Fault::NoRoom),
        // Old devices ask so for ever, and nothing is broken.
        Reason::NoMessageType => Some(Fault::Bootp),
        _ => None,
    }
}

impl Engine {
    /// Beside a proxy most messages are for the other server.
    fn gives_addresses(&self, ifindex: u32) -> bool {
        self.entries.link(ifindex).is_some_and(|link| link.role == role::SERVER)
    }

    /// A message is not answered, for this reason. The log's own limit bounds what is written of it.
    pub(crate) fn dropped(&mut self, reason: Reason, incoming: &Incoming<'_>, now: Now) {
        let (from, length) = (incoming.from, incoming.payload.len());
        let giaddr = incoming.payload.get(24..28).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok());
        let giaddr = giaddr.map_or(Ipv4Addr::UNSPECIFIED, Ipv4Addr::from);
        let step = match fault(reason, giaddr) {
            Some(fault) => Step::Dropped { reason, fault, from, length },
            None if is_missed(reason) && self.gives_addresses(incoming.ifindex) => {
                Step::Unanswered { reason, relay: giaddr }
            }
            None => return debug!(reason = reason.name(), %from, "not answered: {}", reason.says()),
        };
        let mac = incoming.payload.get(28..34).and_then(|bytes| bytes.try_into().ok()).map(Mac);
        let event = BootEvent::new(now.boot, step);
        let link = self.link_name(incoming.ifindex);
        self.reports.push(BootEvent { link, ..event.of(mac.map(Machine::from)) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_meant_for_others_is_no_news() {
        for reason in [Reason::OtherServer, Reason::NotPxe, Reason::Probing, Reason::Released] {
            assert_eq!(fault(reason, Ipv4Addr::UNSPECIFIED), None, "{}", reason.name());
        }
        assert_eq!(fault(Reason::BadOption, Ipv4Addr::UNSPECIFIED), Some(Fault::Malformed));
    }
}
