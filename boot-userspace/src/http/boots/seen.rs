//! When machines were seen last, where they are, and how their last boot went. Nothing of it is stored with a machine: it is
//! put together from the boots and the addresses in memory when somebody asks.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use boot_common::Mac;
use serde::{Deserialize, Serialize};

use super::judged::{AT_ONCE, Around, Boots};
use super::{Failed, History};
use crate::host::clock;
use crate::http::admin::rfc3339;
use boot_engine::config::Machine;
use boot_engine::diagnosis::{Cause, Member, Progress};

/// Machines that were never seen are counted anew after this time.
const EVERY: Duration = Duration::from_secs(5);
/// And after so many times the time that it takes.
const REST: u32 = 10;

/// What was seen of a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Seen {
    /// When it was heard last, in Unix seconds. None: it was never seen, or that is not known any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<u64>,
    /// The same for people (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen_at: Option<String>,
    /// The address that it has had last and that nobody else has by now, or else the one that is reserved for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Its last boot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<LastBoot>,
    /// It has shown no sign of itself.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub never: bool,
}

/// The last boot of a machine. `/api/v1/boots/{which}` has its steps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LastBoot {
    /// The card that it has booted from.
    pub mac: String,
    /// When it began, in Unix seconds.
    pub began: u64,
    /// The same for people (RFC 3339).
    pub began_at: String,
    /// The kind of its firmware, as in metrics: `efi-x64`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firmware: Option<String>,
    /// The kernel that was sent, or else the last file that was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// How far it has come.
    pub progress: Progress,
    /// The name of the verdict's cause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// The cause in one sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub says: Option<String>,
    /// Somebody has to do something about that.
    #[serde(default)]
    pub wrong: bool,
}

/// How many machines were never seen, as it was counted last. Clones are the same.
#[derive(Clone, Default)]
pub struct NeverSeen(Arc<Mutex<Option<Counted>>>);

#[derive(Clone, Copy)]
struct Counted {
    made: Duration,
    took: Duration,
    count: usize,
}

/// A machine's cards, and what is known without looking at its boots.
struct Standing {
    cards: Vec<(Mac, Option<Ipv4Addr>)>,
    reserved: Option<Ipv4Addr>,
    /// A card has an address that is not reserved for the machine, so it has asked for one.
    is_leased: bool,
    /// When its agent has reported, or when it was heard for the first time, in Unix seconds: also of boots that are forgotten.
    known: Option<u64>,
}

impl Standing {
    /// The address of the card that was heard last, or else of any, or else the one that is reserved.
    fn address(&self, newest: Option<Mac>) -> Option<Ipv4Addr> {
        let of_newest = self.cards.iter().filter(|(mac, _)| Some(*mac) == newest);
        of_newest.chain(&self.cards).find_map(|(_, address)| *address).or(self.reserved)
    }
}

impl History {
    /// What was seen of each of these machines.
    pub fn seen(&self, machines: &[Arc<Machine>]) -> Vec<Seen> {
        let around = self.around();
        let mut all = Vec::with_capacity(machines.len());
        for some in machines.chunks(AT_ONCE) {
            let standing: Vec<Standing> = some.iter().map(|machine| self.standing(machine)).collect();
            let newest: Vec<(Option<Mac>, Option<u64>)> = {
                let timelines = self.boots.timelines();
                let heard = |of: &Standing| {
                    let times =
                        of.cards.iter().filter_map(|(mac, _)| Some((timelines.heard_last(*mac)?, *mac)));
                    times.max().map_or((None, None), |(at, mac)| (Some(mac), Some(at / 1000)))
                };
                standing.iter().map(heard).collect()
            };
            let macs: Vec<Mac> = newest.iter().filter_map(|(mac, _)| *mac).collect();
            let mut boots = self.copied(&macs).into_iter();
            for (of, (mac, heard)) in standing.into_iter().zip(newest) {
                let boots = mac.and_then(|_| boots.next());
                let boot = boots.and_then(|boots| self.last_boot(&around, &boots));
                let last_seen = heard.max(of.known);
                all.push(Seen {
                    last_seen,
                    last_seen_at: last_seen.map(rfc3339),
                    never: last_seen.is_none() && !of.is_leased,
                    address: of.address(mac).map(|address| address.to_string()),
                    boot,
                });
            }
        }
        all
    }

    /// How many machines were never seen; none where no boots are kept, because then nobody knows. `nowhere`: those that a list
    /// has and that are not among all machines, since nothing of theirs is served.
    pub fn count_never_seen(&self, nowhere: &[Arc<Machine>]) -> Option<usize> {
        self.kept().ok()?;
        let mut counted = self.never_seen.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = clock::boot();
        if let Some(Counted { made, took, count }) = *counted
            && now < made + EVERY.max(took * REST)
        {
            return Some(count);
        }
        let mut all: Vec<Arc<Machine>> = self.machines.all().into_iter().map(|known| known.machine).collect();
        all.extend_from_slice(nowhere);
        let count = all.chunks(AT_ONCE).map(|some| {
            let some: Vec<Standing> = some.iter().map(|machine| self.standing(machine)).collect();
            let timelines = self.boots.timelines();
            let is_never = |of: &&Standing| {
                let is_heard = of.cards.iter().any(|(mac, _)| timelines.heard_last(*mac).is_some());
                !is_heard && !of.is_leased && of.known.is_none()
            };
            some.iter().filter(is_never).count()
        });
        let count = count.sum();
        let made = clock::boot();
        *counted = Some(Counted { made, took: made - now, count });
        Some(count)
    }

    /// Whether it is known which machines were seen.
    ///
    /// # Errors
    /// It is not; the text says what to do.
    pub fn knows_seen(&self) -> Result<(), String> {
        self.kept().map(drop).map_err(|Failed(_, why)| why)
    }

    fn standing(&self, machine: &Machine) -> Standing {
        let cards = self.machines.cards(machine);
        let mut addresses = cards.iter().filter_map(|(_, address)| *address);
        let is_leased = addresses.any(|address| Some(address) != machine.ip);
        let reported = machine.inventory.as_ref().map(|inventory| inventory.taken);
        let registered = machine.macs.first().and_then(|mac| self.machines.life_of(*mac));
        let first = registered.map(|life| life.heard).filter(|heard| *heard > 0);
        Standing { cards, reserved: machine.ip, is_leased, known: reported.max(first) }
    }

    fn last_boot(&self, around: &Around, of: &Boots) -> Option<LastBoot> {
        let boot = of.boots.first()?;
        let cause = self.verdict(around, of, 0).map(|verdict| verdict.cause);
        let known = self.machines.by_mac(boot.mac);
        let facts = self.facts(Some(boot.mac), known.as_ref(), Member::address(boot));
        Some(LastBoot {
            mac: boot.mac.to_string(),
            began: boot.opened / 1000,
            began_at: rfc3339(boot.opened / 1000),
            firmware: boot.firmware().map(|firmware| firmware.name().to_owned()),
            file: boot.booted(&facts).map(str::to_owned),
            progress: Progress::of(boot, cause),
            cause: cause.map(|cause| cause.name().to_owned()),
            says: cause.map(|cause| cause.says().to_owned()),
            wrong: cause.is_some_and(Cause::is_wrong),
        })
    }
}

#[cfg(test)]
mod tests;
