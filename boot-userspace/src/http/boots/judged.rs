//! Boots with what they are judged by: the machine, those before them, and what is beside them.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use boot_agent_protocol::{Inventory, System};
use boot_common::Mac;

use super::{History, ShownBoot};
use crate::host::clock;
use boot_engine::boot::choice::Booting;
use boot_engine::diagnosis::{Boot, Case, Facts, Member, Network, Timelines, Usual, Verdict, judge};
use boot_engine::machines::Known;

/// The boots of how many machines are copied at once.
pub(super) const AT_ONCE: usize = 1000;
/// The newest boots of so many machines tell what is usual.
const NEIGHBOURS: usize = 2000;

/// What is the same for all machines.
pub(super) struct Around {
    network: Network,
    /// How long boots take, by profile.
    usual: HashMap<String, Usual>,
}

/// The boots of a machine, the last one first. They are copied, so that what is heard meanwhile need not wait until they are
/// judged.
#[derive(Default)]
pub(super) struct Boots {
    pub(super) boots: Vec<Boot>,
    /// The newest boots of other cards that show the UUID that the last one shows.
    twins: Vec<Boot>,
}

impl Boots {
    fn of(timelines: &Timelines, mac: Mac) -> Self {
        let mut boots: Vec<Boot> = timelines.boots(mac).rev().cloned().collect();
        // Until it asks again, that is seen with its last boot.
        if let Some(last) = boots.first_mut() {
            last.beside.extend_from_slice(timelines.ahead(mac));
        }
        let twins = boots.first().map(|boot| timelines.twins(boot)).unwrap_or_default();
        Self { boots, twins }
    }
}

impl History {
    /// Every machine with boots, in the order of the MACs.
    pub(super) fn heard(&self) -> Vec<Mac> {
        let timelines = self.boots.timelines();
        let mut macs = timelines.macs();
        macs.retain(|mac| timelines.boots(*mac).next().is_some());
        macs
    }

    /// The boots of each of these machines.
    pub(super) fn copied(&self, macs: &[Mac]) -> Vec<Boots> {
        let timelines = self.boots.timelines();
        macs.iter().map(|mac| Boots::of(&timelines, *mac)).collect()
    }

    /// What is beside machines: the network, and the last boots of some of them.
    pub(super) fn around(&self) -> Around {
        let (network, newest) = {
            let timelines = self.boots.timelines();
            let macs = timelines.macs().into_iter().take(NEIGHBOURS);
            let newest = macs.filter_map(|mac| timelines.boots(mac).next_back().cloned());
            (timelines.network().clone(), newest.collect::<Vec<Boot>>())
        };
        let mut usual: HashMap<String, Usual> = HashMap::new();
        for boot in newest {
            let known = self.machines.by_mac(boot.mac);
            let facts = self.facts(Some(boot.mac), known.as_ref(), Member::address(&boot));
            usual.entry(facts.profile.unwrap_or_default()).or_default().add(&boot);
        }
        Around { network, usual }
    }

    /// Why the nth of these boots went as it did; 0 is the last one.
    pub(super) fn verdict(&self, around: &Around, of: &Boots, nth: usize) -> Option<Verdict> {
        let (boot, before) = of.boots.get(nth..)?.split_first()?;
        let before: Vec<&Boot> = before.iter().collect();
        let known = self.machines.by_mac(boot.mac);
        let mut facts = self.facts(Some(boot.mac), known.as_ref(), Member::address(boot));
        // How it stood in an earlier boot is not known.
        facts.stands = facts.stands.filter(|_| nth == 0);
        let twins = if nth == 0 { &of.twins[..] } else { &[] };
        let now = u64::try_from(clock::now().wall.as_millis()).unwrap_or(u64::MAX);
        let usual = around.usual.get(facts.profile.as_deref().unwrap_or_default());
        let network = &around.network;
        judge(&Case { boot, before: &before, facts: &facts, network, usual, twins, now })
    }

    pub(super) fn shown(&self, around: &Around, of: &Boots, nth: usize) -> Option<ShownBoot> {
        let boot = of.boots.get(nth)?;
        let name = self.machines.client(boot.mac).name;
        Some(ShownBoot::new(boot, name, self.verdict(around, of, nth)))
    }

    pub(super) fn facts(&self, mac: Option<Mac>, known: Option<&Known>, address: Option<Ipv4Addr>) -> Facts {
        let writer = self.scripts.get();
        let port = mac.and_then(|mac| self.machines.seen_port(mac));
        let booting = Booting {
            machine: known.map(|known| &*known.machine),
            mac,
            switch_port: port.as_ref(),
            address,
            ..Booting::default()
        };
        Facts::of(writer.planner().config(), &booting, known.and_then(|known| known.life.as_ref()))
    }

    /// A machine among all, with what others may have, too.
    pub(super) fn member(&self, mac: Mac, boot: &Boot, verdict: Verdict) -> Member {
        let known = self.machines.by_mac(mac);
        let address = Member::address(boot);
        let facts = self.facts(Some(mac), known.as_ref(), address);
        let mut traits = profile_trait(&facts);
        let writer = self.scripts.get();
        let subnets = &writer.planner().config().subnets;
        if let Some(address) = address
            && let Some(subnet) = subnets.iter().find(|subnet| subnet.cidr.contains(&address))
        {
            traits.push(("subnet", subnet.cidr.to_string()));
        }
        if let Some(port) = self.machines.seen_port(mac) {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).escape_debug().to_string();
            traits.push(("switch port", text(&port.circuit_id)));
            traits.extend(port.remote_id.as_deref().map(|switch| ("switch", text(switch))));
        }
        let inventory = known.as_ref().and_then(|known| known.machine.inventory.as_deref());
        for (kind, value) in inventory.into_iter().flat_map(|inventory| found(inventory, mac)) {
            if traits.iter().all(|(known, _)| *known != kind) {
                traits.push((kind, value.to_owned()));
            }
        }
        Member { mac, name: facts.name, verdict, traits, since: boot.opened }.with_traits_of(boot)
    }
}

pub(super) fn profile_trait(facts: &Facts) -> Vec<(&'static str, String)> {
    facts.profile.iter().map(|profile| ("profile", profile.clone())).collect()
}

/// What a machine's agent has found that others may have, too: of the card with this MAC, where that matters.
fn found(inventory: &Inventory, mac: Mac) -> impl Iterator<Item = (&'static str, &str)> {
    let System { product, firmware, .. } = &inventory.system;
    let nic = inventory.nics.iter().find(|nic| nic.mac.parse() == Ok(mac));
    let heard = nic.and_then(|nic| nic.lldp.as_ref());
    let switch = heard.map_or("", |heard| if heard.name.is_empty() { &heard.chassis } else { &heard.name });
    let port = heard.map_or("", |heard| &heard.port);
    let all =
        [("model", product), ("firmware version", firmware)].map(|(kind, value)| (kind, value.as_str()));
    let all = all.into_iter().chain([("switch", switch), ("switch port", port)]);
    all.filter(|(_, value)| !value.is_empty())
}
