//! What happens to machines that boot, as one stream of typed events: the log, the counters and whoever follows boots read
//! it.
//!
//! An event is written where something happens, as plain values: nothing is formatted here, and what costs a look-up waits
//! until somebody reads it. The engine queues its events, because it does nothing but decide; everybody else has a [`Sink`].

pub(crate) mod complaint;
mod conflict;
mod counts;
mod dhcp;
mod files;
mod happened;
mod images;
mod machine;
mod queue;
pub(crate) mod reports;
mod shown;
mod step;
mod switch;

use std::sync::Arc;
use std::time::Duration;

use boot_common::tables::Hook;

pub use crate::config::EventKind as Kind;
pub use conflict::{Conflict, Meanwhile, Shared};
pub use counts::Counts;
pub use dhcp::{
    Answer, Answered, Decline, Doubt, Fault, Given, LoaderProblem, NoSubnet, OtherServer, Recognition,
    Refusal, Said, Through, TurnedAway,
};
pub use files::{
    Document, Http, NoTls, NotServed, PhoneHome, RefusedRequest, Script, Tftp, Unheard, WhyEnded,
    WhyNotServed,
};
pub use images::Image;
pub use machine::{LinkName, Machine, WithoutMac};
pub use queue::{MOST_QUEUED, Queue};
pub use shown::shown;
pub use step::Step;
pub use switch::{LLDP, NEIGHBOURS, SwitchFrame, TREES};

/// Something that has happened to a machine, or to all of them.
#[derive(Clone, Debug)]
pub struct BootEvent {
    /// When, by the boot clock.
    pub at: Duration,
    /// The machine, where it is known which.
    pub machine: Option<Machine>,
    /// The machine where that has no MAC.
    pub without_mac: Option<Arc<WithoutMac>>,
    /// The interface, where it is known which.
    pub link: Option<LinkName>,
    /// Whose doing it is.
    pub by: By,
    /// What.
    pub step: Step,
}

/// Whose doing an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// A hook of the kernel half, or the daemon.
    Hook(Hook),
    /// A person.
    Operator,
}

impl By {
    /// The daemon.
    pub const DAEMON: Self = Self::Hook(Hook::Daemon);

    /// The word in logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Hook(hook) => hook.name(),
            Self::Operator => "operator",
        }
    }
}

impl BootEvent {
    /// The daemon's, of no machine and no interface.
    #[must_use]
    pub fn new(at: Duration, step: Step) -> Self {
        Self { at, machine: None, without_mac: None, link: None, by: By::DAEMON, step }
    }

    /// Of this machine.
    #[must_use]
    pub fn of(self, machine: impl Into<Option<Machine>>) -> Self {
        Self { machine: machine.into(), ..self }
    }

    /// How its machine is called, where that is known.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        let without_mac = || Some(&*self.without_mac.as_ref()?.called);
        self.machine.as_ref().and_then(|machine| machine.name.as_deref()).or_else(without_mac)
    }
}

/// Takes events from any thread, and never waits.
pub trait Sink: Send + Sync {
    /// Takes one.
    fn emit(&self, event: BootEvent);
}

/// Where events go.
pub type Events = Arc<dyn Sink>;

/// For who wants none.
impl Sink for () {
    fn emit(&self, _: BootEvent) {}
}
