//! What the log says about messages that are not answered.

use boot_common::{Mac, Reason};
use tracing::{debug, info, warn};

use crate::Engine;
use crate::command::Incoming;

/// What somebody has to do so that there is an answer; nothing where silence is right.
fn remedy(reason: Reason) -> Option<&'static str> {
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
        | Reason::Overload => {
            Some("the client, or a relay on the way, writes it wrong: tcpdump -vve port 67 shows how")
        }
        Reason::ReplyTooBig => Some("it takes short answers only (option 57): give it fewer options"),
        Reason::NoMessageType => Some("BOOTP is answered where a [[machine]] has this mac and an ip"),
        _ => None,
    }
}

impl Engine {
    /// Logs that a message is not answered, and why. The log's own limit bounds it.
    pub(super) fn say_dropped(&self, reason: Reason, incoming: &Incoming<'_>) {
        let (name, says, from, length) =
            (reason.name(), reason.says(), incoming.from, incoming.payload.len());
        let Some(remedy) = remedy(reason) else {
            return debug!(reason = name, %from, "not answered: {says}");
        };
        let mac = incoming.payload.get(28..34).and_then(|bytes| bytes.try_into().ok()).map(Mac);
        let mac = mac.map_or_else(|| "an unknown machine".to_owned(), |mac| mac.to_string());
        let interface = self.policy.port(incoming.ifindex).map_or("", |(_, port)| &port.name);
        if reason == Reason::NoMessageType {
            // Old devices ask so for ever, and nothing is broken.
            info!(step = "dropped", by = "daemon", reason = name, %mac, %from, interface, length,
                "{mac} is not answered: {says}; {remedy}");
        } else {
            warn!(step = "dropped", by = "daemon", reason = name, %mac, %from, interface, length,
                "{mac} is not answered: {says}; {remedy}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_meant_for_others_is_no_news() {
        for reason in [Reason::OtherServer, Reason::NotPxe, Reason::Probing, Reason::Released] {
            assert_eq!(remedy(reason), None, "{}", reason.name());
        }
        assert!(remedy(Reason::BadOption).is_some_and(|text| text.contains("tcpdump")));
    }
}
