//! A machine's power: what its BMC says, and what is done until the machine is as its state wants it.

use serde::{Deserialize, Serialize};

use super::state::State;

/// What a BMC is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Act {
    /// Switch the machine on.
    On,
    /// Switch it off, without asking its system.
    Off,
    /// Switch it off and on.
    Cycle,
    /// Restart the BMC itself; the machine stays as it is.
    ResetBmc,
}

impl Act {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::On, Self::Off, Self::Cycle, Self::ResetBmc];

    /// Its word in the API, in logs and in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Off => "off",
            Self::Cycle => "cycle",
            Self::ResetBmc => "reset-bmc",
        }
    }
}

/// What a machine's power needs.
pub(super) enum Need {
    /// Something has to happen first. Says what.
    Wait(String),
    /// Its BMC is to be told this.
    Act(Act),
    /// All that could be tried was. Says what.
    Fail(String),
}

/// A rung of the ladder.
enum Rung {
    /// Switch the machine as it is wanted.
    Switch,
    /// Restart the BMC.
    ResetBmc,
    /// Switch it as it is wanted, whatever the BMC believes that it is.
    Force,
}

/// What is done until a machine is on or off, and for how many pauses its effect is awaited. After the last one that has
/// failed.
const LADDER: [(Rung, u64); 4] =
    [(Rung::Switch, 1), (Rung::Switch, 1), (Rung::ResetBmc, 3), (Rung::Force, 1)];
/// How many rungs switch the machine.
const MOST_TRIES: usize = 3;
/// After how many seconds a BMC is asked again while something is awaited.
const SOON: u64 = 5;

/// A command to a BMC, and what has become of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// The command.
    pub act: Act,
    /// When it was given, in Unix seconds.
    pub at: u64,
    /// Who gave it.
    pub by: String,
    /// What the BMC said: that it does it, or why not. Nothing: it was not heard yet, or xpxe ended before it was.
    pub end: Option<Result<(), String>>,
}

/// Why nobody knows whether a machine is on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Blindness {
    /// What switches it cannot tell (Wake-on-LAN).
    CannotTell,
    /// The BMC could not be asked, for this reason.
    Failed(String),
}

/// What is known of a machine's power.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Power {
    /// The BMC's last reading and its time in Unix seconds. Readings that say the same for a third time are not kept.
    pub read: Option<(bool, u64)>,
    /// Two readings agree, and nothing was done since the first of them.
    pub confirmed: bool,
    /// Why the last reading failed, if it did.
    pub blind: Option<Blindness>,
    /// The machine has to boot from the network since it is in this state, and has not begun to.
    pub boot: bool,
    /// How many rungs of the ladder were tried.
    pub rungs: usize,
    /// Before this, in Unix seconds, the next one is not tried.
    pub next_try: u64,
    /// The last command.
    pub last: Option<Done>,
}

impl Power {
    /// Whether the machine is on, as far as the BMC is believed: after two readings that agree.
    #[must_use]
    pub fn is_on(&self) -> Option<bool> {
        self.read.filter(|_| self.confirmed).map(|(on, _)| on)
    }

    /// When the machine is to be looked at though nothing happens, in Unix seconds.
    pub(crate) fn due(&self) -> Option<u64> {
        (self.next_try > 0).then_some(self.next_try)
    }

    /// After how many seconds the BMC is to be asked again. `poll` is how often that is where nothing is awaited.
    #[must_use]
    pub fn asks_after(&self, state: State, poll: u64) -> u64 {
        let wanted = wants_on(state);
        let is_settled = wanted.is_none() || (self.is_on() == wanted && !self.boot);
        let answers = !matches!(self.blind, Some(Blindness::CannotTell));
        if is_settled || !answers { poll } else { poll.min(SOON) }
    }

    /// Takes down a reading. `at` is in Unix seconds; the same reading does not count twice, and neither does one from
    /// before the last command.
    pub(super) fn reading(&mut self, on: bool, at: u64, state: State) {
        if self.last.as_ref().is_some_and(|done| done.at >= at)
            || self.read.is_some_and(|(_, last)| last >= at)
        {
            return;
        }
        self.blind = None;
        match self.read {
            Some((before, _)) if before == on && self.confirmed => {}
            Some((before, _)) if before == on => (self.read, self.confirmed) = (Some((on, at)), true),
            _ => (self.read, self.confirmed) = (Some((on, at)), false),
        }
        if self.is_on().is_some() && self.is_on() == wants_on(state) && !self.boot {
            (self.rungs, self.next_try) = (0, 0);
        }
    }

    /// Takes down a command that is about to be given: what was read before it is worth nothing after it.
    pub(super) fn begin(&mut self, act: Act, by: &str, at: u64) {
        self.last = Some(Done { act, at, by: by.to_owned(), end: None });
        (self.read, self.confirmed, self.next_try) = (None, false, 0);
    }

    /// Takes down how the command of that time has ended. `pause`, in seconds, is what its effect is given.
    pub(super) fn end(&mut self, at: u64, end: Result<(), String>, now: u64, pause: u64) {
        let Some(done) = self.last.as_mut().filter(|done| done.at == at && done.end.is_none()) else {
            return;
        };
        if end.is_ok() && matches!(done.act, Act::On | Act::Cycle) {
            self.boot = false;
        }
        done.end = Some(end);
        // What was read meanwhile may be from before or after.
        (self.read, self.confirmed) = (None, false);
        let (_, pauses) = LADDER.get(self.rungs.saturating_sub(1)).unwrap_or(&LADDER[0]);
        self.next_try = now + pause * pauses;
    }

    /// A pause that is over is none.
    pub(super) fn end_pause(&mut self, now: u64) {
        if self.next_try <= now {
            self.next_try = 0;
        }
    }

    /// It is in another state: which begins with a boot from the network, or does not.
    pub(super) fn enter(&mut self, state: State) {
        self.boot = wants_on(state) == Some(true);
        (self.rungs, self.next_try) = (0, 0);
    }

    /// What is to be done for a machine to be on or off. Nothing if it is, or if nobody knows.
    pub(super) fn next(&self, wanted: bool, now: u64) -> Option<Need> {
        let to_be = if wanted { "on" } else { "off" };
        if let Some(Done { act, end: None, .. }) = &self.last {
            return Some(Need::Wait(format!("for its BMC to carry out a command ({})", act.name())));
        }
        let is_on = match (self.is_on(), &self.blind) {
            (Some(on), _) => on,
            (None, Some(Blindness::CannotTell)) if wanted && self.boot => false,
            (None, Some(Blindness::Failed(why))) => {
                return Some(Need::Wait(format!(
                    "its BMC cannot be asked ({why}): mend that, or switch the machine {to_be} by hand"
                )));
            }
            (None, _) => return None,
        };
        if is_on == wanted && !(wanted && self.boot) {
            return None;
        }
        let is = if is_on { "on" } else { "off" };
        let tries = self.tries();
        let failure = match &self.last {
            Some(Done { end: Some(Err(why)), .. }) if tries > 0 => {
                format!("; at the last one it said: {why}")
            }
            _ => String::new(),
        };
        if now < self.next_try {
            return Some(Need::Wait(format!(
                "the BMC says {is}, {tries} of {MOST_TRIES} tries to switch it {to_be}{failure}"
            )));
        }
        let act = match LADDER.get(self.rungs) {
            Some((Rung::Switch, _)) if wanted && is_on => Act::Cycle,
            Some((Rung::Switch, _)) if wanted => Act::On,
            Some((Rung::Force, _)) if wanted => Act::Cycle,
            Some((Rung::Switch | Rung::Force, _)) => Act::Off,
            Some((Rung::ResetBmc, _)) => Act::ResetBmc,
            None => {
                let why = format!(
                    "it cannot be switched {to_be}: the BMC says {is} after {MOST_TRIES} tries{failure}"
                );
                return Some(Need::Fail(why));
            }
        };
        Some(Need::Act(act))
    }

    /// How often it was tried to switch the machine.
    #[must_use]
    pub fn tries(&self) -> usize {
        LADDER.iter().take(self.rungs).filter(|(rung, _)| !matches!(rung, Rung::ResetBmc)).count()
    }
}

/// Whether a machine is to be on or off in a state. Nothing: that is its own affair.
fn wants_on(state: State) -> Option<bool> {
    match state {
        State::Accepted | State::Released | State::Allocated => Some(true),
        State::Ready => Some(false),
        _ => None,
    }
}
