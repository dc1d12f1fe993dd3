//! What the engine says of its answers, and to whom.

use std::net::Ipv4Addr;
use std::time::Duration;

use boot_common::class::Class;
use boot_common::respond::Answered as Reply;
use boot_common::tables::Hook;
use boot_common::{Mac, Reason};

use crate::Engine;
use crate::boot::BootFile;
use crate::command::{Now, Told};
use crate::events::{Answer, Answered, BootEvent, By, LinkName, Machine, Said, Step};
use crate::policy::requester::Requester;

impl Engine {
    /// Takes down whom the daemon answers, so that its next steps are known for its own.
    pub(crate) fn take_down(&mut self, Told { mac, answered, .. }: &Told) {
        let address = Ipv4Addr::from(answered.address);
        self.note_ipxe(*mac, answered.class);
        if answered.reason == Reason::Refused {
            return;
        }
        if address.is_unspecified() {
            self.machines.meet(*mac);
        } else {
            self.machines.put(address, *mac);
        }
    }

    /// Takes down whom the kernel half answered, where that is news: a machine with an address got its entry, and
    /// was taken down, by the daemon.
    pub(crate) fn meet(&mut self, mac: Mac, address: [u8; 4]) {
        if address == [0; 4] {
            self.machines.meet(mac);
        } else if self.machines.shares_addresses() {
            self.machines.put(address.into(), mac);
        }
    }

    /// An answer has left by this interface.
    pub fn sent(&mut self, told: &Told, ifindex: u32, now: Now) {
        let Told { mac, answered, said, refused } = told;
        self.count(answered.reason);
        match refused {
            Some(why) => self.happened_to(*mac, ifindex, Step::Refused(*why), now),
            None => self.answered(*mac, answered, *said, (Hook::Daemon, ifindex), now.boot),
        }
    }

    /// Somebody was answered. What that costs, every answer costs: nothing about the machine is looked up.
    pub(crate) fn answered(
        &mut self,
        mac: Mac,
        reply: &Reply,
        said: Said,
        (by, ifindex): (Hook, u32),
        at: Duration,
    ) {
        let answer = match reply.reason {
            Reason::Offered => Answer::Offer,
            Reason::Acked => Answer::Ack,
            Reason::Informed => Answer::Options,
            Reason::Bootp => Answer::Bootp,
            _ => Answer::BootFile,
        };
        let address = Ipv4Addr::from(reply.address);
        let step = Step::Answered(Answered { answer, class: reply.class, address, said, boot: None });
        let link = self.link_name(ifindex);
        let event = BootEvent::new(at, step).of(Machine::from(mac));
        self.reports.push(BootEvent { link, by: By::Hook(by), ..event });
    }

    /// Something has happened to a machine that was heard on this interface.
    pub(crate) fn happened_to(&mut self, mac: impl Into<Machine>, ifindex: u32, step: Step, now: Now) {
        let (machine, link): (Machine, _) = (mac.into(), self.link_name(ifindex));
        self.reports.push(BootEvent { link, ..BootEvent::new(now.boot, step).of(machine) });
    }

    /// Something has happened to a machine, or to no certain one.
    pub(crate) fn happened(&mut self, mac: Option<Mac>, step: Step, now: Now) {
        self.reports.push(BootEvent::new(now.boot, step).of(mac.map(Machine::from)));
    }

    /// The events since the last time, in their order. Gives how many had no room. Memory of the list is used again.
    pub fn take_events(&mut self, into: &mut Vec<BootEvent>) -> u64 {
        self.reports.take(into)
    }

    /// Looks up what an event was excluded: the machine's name, and what it was told to boot.
    pub fn complete(&self, event: &mut BootEvent) {
        let Some(machine) = &mut event.machine else { return };
        let who = self.policy.requester(machine.mac);
        if machine.name.is_none() {
            machine.name = who.name().map(Into::into);
        }
        if let (Step::Answered(answered), Some(link)) = (&mut event.step, &event.link) {
            answered.boot = self.boots(&who, answered.class, link.index, answered.address).map(Box::new);
        }
    }

    /// An interface, by its number.
    #[must_use]
    pub fn link_name(&self, index: u32) -> Option<LinkName> {
        let (_, link) = self.policy.link(index)?;
        Some(LinkName { index, name: link.name.clone() })
    }

    fn boots(&self, who: &Requester, class: Class, ifindex: u32, address: Ipv4Addr) -> Option<BootFile> {
        let (_, link) = self.policy.link(ifindex)?;
        let subnet = self.policy.subnet_of(address).and_then(|index| self.policy.subnets().get(index));
        self.policy.boot_file(class, link.http, &who.differences, subnet).ok().flatten()
    }
}
