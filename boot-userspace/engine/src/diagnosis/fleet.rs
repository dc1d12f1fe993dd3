//! The whole fleet by cause: what the machines of one cause have in common.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use boot_common::Mac;

use super::causes::Cause;
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

/// The machines of one cause.
#[derive(Clone, Debug)]
pub struct Group {
    /// The cause.
    pub cause: Cause,
    /// The machines.
    pub members: Vec<Member>,
    /// What all of them share: the kind, the value, and how many machines of the whole fleet have it.
    pub shared: Vec<(&'static str, String, usize)>,
    /// When the first of these boots began.
    pub since: u64,
}

/// Groups machines by their causes, the largest group first.
#[must_use]
pub fn grouped(members: Vec<Member>) -> Vec<Group> {
    let mut fleet: BTreeMap<(&'static str, String), usize> = BTreeMap::new();
    for each in members.iter().flat_map(|member| &member.traits) {
        *fleet.entry(each.clone()).or_default() += 1;
    }
    let mut causes: BTreeMap<Cause, Vec<Member>> = BTreeMap::new();
    for member in members {
        causes.entry(member.verdict.cause).or_default().push(member);
    }
    let mut groups: Vec<Group> = causes
        .into_iter()
        .map(|(cause, members)| {
            let first = members.first().map(|member| member.traits.clone()).unwrap_or_default();
            let is_shared =
                |each: &(&'static str, String)| members.iter().all(|member| member.traits.contains(each));
            let shared = first.into_iter().filter(is_shared).map(|each| {
                let all = fleet.get(&each).copied().unwrap_or(0);
                (each.0, each.1, all)
            });
            let shared = if members.len() > 1 { shared.collect() } else { Vec::new() };
            let since = members.iter().map(|member| member.since).min().unwrap_or(0);
            Group { cause, members, shared, since }
        })
        .collect();
    groups.sort_by_key(|group| std::cmp::Reverse(group.members.len()));
    groups
}

/// The maker's part of a MAC (its first half); none for one that nobody has assigned.
#[must_use]
pub(super) fn maker(mac: Mac) -> Option<String> {
    let Mac([a, b, c, ..]) = mac;
    (a & 2 == 0).then(|| format!("{a:02x}:{b:02x}:{c:02x}"))
}

impl Member {
    /// What can be read from its boot: the maker of its card, its relay, the network of its address.
    #[must_use]
    pub fn with_traits_of(mut self, boot: &super::Boot) -> Self {
        use super::What;
        if let Some(maker) = maker(self.mac) {
            self.traits.push(("card maker", maker));
        }
        if let Some(link) = &boot.link {
            self.traits.push(("interface", link.to_string()));
        }
        let relay = boot.steps.iter().find_map(|step| match step.what {
            What::Unanswered { relay, .. } if !relay.is_unspecified() => Some(relay),
            _ => None,
        });
        if let Some(relay) = relay {
            self.traits.push(("relay", relay.to_string()));
        }
        if let Some(class) = boot.steps.iter().find_map(|step| step.what.class()) {
            self.traits.push(("firmware", class.firmware.name().to_owned()));
        }
        self
    }

    /// The address that its boot was given last.
    #[must_use]
    pub fn address(boot: &super::Boot) -> Option<Ipv4Addr> {
        boot.steps.iter().rev().find_map(|step| match step.what {
            super::What::Answered { address, .. } if !address.is_unspecified() => Some(address),
            _ => None,
        })
    }
}
