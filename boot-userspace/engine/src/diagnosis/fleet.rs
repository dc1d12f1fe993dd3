//! The whole fleet by cause: what the machines of one cause have in common.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use boot_common::Mac;

use super::boot::Boot;
use super::causes::Cause;
use super::steps::What;
use super::verdict::Verdict;

/// One machine with its verdict, and what may be common to several.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its MAC.
    pub mac: Mac,
    /// Its name.
    pub name: Option<String>,
    /// The verdict of its last boot.
    pub verdict: Verdict,
    /// The interface, relay, subnet, profile and so on that it has: each kind with its value.
    pub traits: Vec<(&'static str, String)>,
    /// When its boot began, in milliseconds since the Unix epoch.
    pub since: u64,
}

/// Something that machines of a group have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shared {
    /// The kind: `relay`, `subnet` and so on.
    pub kind: &'static str,
    /// The value.
    pub value: String,
    /// How many machines of the group have it.
    pub members: usize,
    /// How many machines of the whole fleet have it.
    pub of: usize,
}

/// The machines of one cause.
#[derive(Clone, Debug)]
pub struct Group {
    /// The cause.
    pub cause: Cause,
    /// The machines.
    pub members: Vec<Member>,
    /// What nearly all of them share and few others have, the most telling first.
    pub shared: Vec<Shared>,
    /// When the first of these boots began.
    pub since: u64,
}

/// Of ten machines of a group so many have what the group is said to share.
const OF_TEN: usize = 9;

/// Groups machines by their causes, the largest group first.
#[must_use]
pub fn grouped(members: Vec<Member>) -> Vec<Group> {
    let everybody = members.len();
    let fleet = counted(&members);
    let mut causes: BTreeMap<Cause, Vec<Member>> = BTreeMap::new();
    for member in members {
        causes.entry(member.verdict.cause).or_default().push(member);
    }
    let group = |(cause, members): (Cause, Vec<Member>)| {
        let own = if members.len() > 1 { counted(&members) } else { BTreeMap::new() };
        let mut shared: Vec<Shared> = own
            .into_iter()
            .map(|((kind, value), count)| {
                let of = fleet.get(&(kind, value.clone())).copied().unwrap_or(0);
                Shared { kind, value, members: count, of }
            })
            // What everybody has says nothing, and what most of those who have it are well with says little.
            .filter(|shared| {
                shared.members * 10 >= members.len() * OF_TEN
                    && shared.members * 2 >= shared.of
                    && (shared.of < everybody || members.len() == everybody)
            })
            .collect();
        shared.sort_by_key(|shared| (shared.of - shared.members, std::cmp::Reverse(shared.members)));
        let since = members.iter().map(|member| member.since).min().unwrap_or(0);
        Group { cause, members, shared, since }
    };
    let mut groups: Vec<Group> = causes.into_iter().map(group).collect();
    groups.sort_by_key(|group| std::cmp::Reverse(group.members.len()));
    groups
}

fn counted(members: &[Member]) -> BTreeMap<(&'static str, String), usize> {
    let mut counts = BTreeMap::new();
    for member in members {
        for (position, each) in member.traits.iter().enumerate() {
            // A machine counts once.
            if member.traits.iter().position(|other| other == each) == Some(position) {
                *counts.entry(each.clone()).or_default() += 1;
            }
        }
    }
    counts
}

impl Shared {
    /// Where these machines are, or what they have, behind the word "machines".
    #[must_use]
    pub fn place(kind: &str, value: &str) -> String {
        match kind {
            "relay" => format!("behind {value}"),
            "subnet" => format!("in {value}"),
            "interface" => format!("on {value}"),
            "switch" => format!("at the switch {value}"),
            "switch port" => format!("at the switch port {value}"),
            "card maker" => format!("with cards of {value}"),
            _ => format!("with {kind} {value}"),
        }
    }
}

/// The maker's part of a MAC (its first half); none for one that nobody has assigned.
#[must_use]
pub(super) fn maker(mac: Mac) -> Option<String> {
    let Mac([a, b, c, ..]) = mac;
    (a & 2 == 0).then(|| format!("{a:02x}:{b:02x}:{c:02x}"))
}

impl Member {
    /// What can be read from its boot: the maker of its card, its relay, its firmware.
    #[must_use]
    pub fn with_traits_of(mut self, boot: &Boot) -> Self {
        if let Some(maker) = maker(self.mac) {
            self.traits.push(("card maker", maker));
        }
        if let Some(link) = &boot.link {
            self.traits.push(("interface", link.to_string()));
        }
        if let Some(relay) = boot.relay {
            self.traits.push(("relay", relay.to_string()));
        }
        if let Some(class) = boot.steps.iter().find_map(|step| step.what.class()) {
            self.traits.push(("firmware", class.firmware.name().to_owned()));
        }
        self
    }

    /// The address that its boot was given last.
    #[must_use]
    pub fn address(boot: &Boot) -> Option<Ipv4Addr> {
        boot.steps.iter().rev().find_map(|step| match step.what {
            What::Answered { address, .. } if !address.is_unspecified() => Some(address),
            _ => None,
        })
    }
}
