//! Lines about addresses: answers, refusals, what comes back, and pools.

use std::fmt;
use std::net::Ipv4Addr;

use boot_engine::boot::class_name;
use boot_engine::events::{Answer, Answered, Decline, Doubt, Recognition, TurnedAway};
use boot_engine::leases::Pool;
use tracing::{info, warn};

use super::whose::Whose;
use crate::daemon::limit::STEP;

pub(super) fn write_answer(whose: &Whose<'_>, answered: &Answered) {
    let Whose { step, by, .. } = *whose;
    let (mac, name) = (whose.mac(), whose.known_name());
    let Answered { answer, class, address, boot, .. } = answered;
    let verb = match answer {
        Answer::Offer => "offered",
        Answer::Ack => "acknowledged",
        Answer::Options => "gave the options to",
        Answer::Bootp => "gave",
        Answer::BootFile => "named the boot file to",
    };
    let class = class_name(*class);
    let boot = boot.as_ref().map(|file| file.describe()).filter(|file| !file.is_empty());
    let boot = boot.map_or_else(String::new, |file| format!(": boot {file}"));
    if address.is_unspecified() {
        let to = if *answer == Answer::Offer { " a boot file to" } else { "" };
        info!(name: STEP, step, by, %mac, name, class, "{verb}{to} {class}{boot}");
    } else {
        info!(name: STEP, step, by, %mac, name, class, %address, "{verb} {address} to {class}{boot}");
    }
}

pub(super) fn write_recognition(whose: &Whose<'_>, recognition: Recognition) {
    let Whose { step, by, .. } = *whose;
    let (mac, name) = (whose.mac(), whose.known_name());
    match recognition {
        Recognition::Known => {
            info!(name: STEP, step, by, %mac, name, "{mac} is {name}: recognised by its UUID or its switch port");
        }
        Recognition::AtAnotherPort => info!(step, by, %mac,
            "{mac} has moved to a switch port that no [[machine]] names"),
        Recognition::StillLeased { address, holder } => warn!(step, by, %mac, name, %address,
            "{mac} gets another address than {address}, because the lease of {holder} still runs: the machine has a new network card, or two machines report the same UUID or switch port (xpxe leases delete {address} ends the lease)"),
        Recognition::TakenFrom { address, holder } => warn!(step, by, %mac, name, %address,
            "{address} moves from {holder} to {mac}: the machine has a new network card, or two machines report the same UUID or switch port"),
    }
}

pub(super) fn write_decline(whose: &Whose<'_>, address: Ipv4Addr, decline: &Decline) {
    let Whose { step, by, .. } = *whose;
    let (mac, name) = (whose.mac(), whose.known_name());
    let found = |user: &Option<String>| user.clone().unwrap_or_else(|| "no host that answers".to_owned());
    match decline {
        Decline::TooMany { most } => warn!(step, by, %mac, %address,
            "ignored a DECLINE of {address} by {mac}, which keeps the address: after {most} DECLINEs in its subnet within 10 minutes, further ones are ignored. Find out which hosts use addresses of the pool, or who forges DECLINEs"),
        Decline::OnlyItself => warn!(step, by, %mac, name, %address,
            "ignored a DECLINE of {address} by {mac}, which keeps the address: only {mac} itself answers there. Its firmware and its operating system use the address at once, or somebody forges DECLINEs"),
        Decline::Reserved(user) => warn!(step, by, %mac, name, %address,
            "{mac} declined {address}, which is reserved for it, because another host uses it. Found there: {}. Find that host (arping {address})", found(user)),
        Decline::Enough(user) => warn!(step, by, %mac, name, %address,
            "{mac} declined {address} and has to keep it, although {user} uses it: a quarter of the pool is on hold already because of DECLINEs. Find out which hosts use addresses of the pool, or who forges DECLINEs"),
        Decline::Taken(Some(user)) => warn!(step, by, %mac, name, %address,
            "{mac} declined {address}, because another host uses it, and gets another address. Found there: {user}. The address is on hold for 10 minutes; find that host (arping {address})"),
        Decline::Taken(None) => warn!(step, by, %mac, name, %address,
            "{mac} declined {address}, and gets another address, although no host answers there: the address stays in the pool. If it is declined again, look for a host that answers neither ARP nor ping"),
    }
}

pub(super) fn write_empty_pool(whose: &Whose<'_>, pool: &Pool, turned_away: TurnedAway) {
    let Whose { step, by, .. } = *whose;
    let Pool { subnet, size, used, resting, refused } = pool;
    let who = match turned_away {
        TurnedAway::One(mac) => mac.to_string(),
        TurnedAway::Many(many) => format!("{many} machines"),
    };
    let what = match size {
        0 => "it has no pool: give it one, or reserve addresses in [[machine]]".to_owned(),
        _ => format!(
            "all {size} addresses of its pool are taken ({used} leased or offered, {resting} on hold): enlarge the pool, or shorten its leases"
        ),
    };
    warn!(step, by, %subnet, size, used, resting, refused, "subnet {subnet} has no address left for {who}: {what}");
}

/// A reason in words.
pub(super) struct Words<'r, R>(pub(super) &'r R);

impl fmt::Display for Words<'_, Doubt> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Doubt::NamesNoServer => f.write_str("it names no server (option 54)"),
            Doubt::OtherLink => {
                f.write_str("it came in on an interface that is not in the subnet of the lease")
            }
            Doubt::Source { from, should } => {
                write!(f, "it came from {from}, not from {should}")
            }
            Doubt::NoRelay => {
                f.write_str("the subnet of the lease is behind relays, and no relay forwarded it")
            }
            Doubt::OtherRelay(relay) => write!(f, "relay {relay} is not in the subnet of the lease"),
            Doubt::SourceOrRelay { from, should, relay } => {
                write!(f, "it came from {from}, not from {should} or relay {relay}")
            }
        }
    }
}
