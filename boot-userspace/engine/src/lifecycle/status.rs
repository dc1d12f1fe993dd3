//! What is known of a machine's life so far.

use serde::{Deserialize, Serialize};

use super::history::{MOST_KEPT, Past};
use super::intent::Intent;
use super::power::{Act, Blindness, Power};
use super::state::State;

/// What was seen of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observed {
    /// Nothing: time has passed, or what is wanted has changed.
    Time,
    /// It has fetched the kernel of its profile.
    Kernel,
    /// The agent says that it is done, or why it has failed, in its own words.
    Agent(Result<String, String>),
    /// The agent says that the image of its spec is on its disk, or why it is not, in its own words.
    Image(Result<String, String>),
    /// The system that it has booted says that it runs, or why it has failed, in its own words.
    Home(Result<String, String>),
    /// Its BMC says whether it is on.
    Power {
        /// On.
        on: bool,
        /// When it was read, in Unix seconds: the same reading does not count twice.
        at: u64,
    },
    /// Nobody knows whether it is on.
    Blind(Blindness),
    /// Somebody is about to tell its BMC something.
    Command {
        /// What.
        act: Act,
        /// Who.
        by: String,
        /// When, in Unix seconds.
        at: u64,
    },
    /// Its BMC has answered the command of that time, or could not be told.
    Answer {
        /// When the command was given, in Unix seconds.
        at: u64,
        /// That it does it, or why not.
        end: Result<(), String>,
    },
}

/// Where a machine stands: what is stored of its life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The state.
    pub state: State,
    /// Since when, in Unix seconds.
    pub since: u64,
    /// Why it is in this state, in one sentence.
    pub reason: String,
    /// What it waits for, as of the last step.
    #[serde(default)]
    pub waits: String,
    /// What it comes back to from maintenance and from being ignored.
    #[serde(default)]
    pub before: Option<State>,
    /// In which state it has failed, and why, until it is in another one again.
    #[serde(default)]
    pub failure: Option<(State, String)>,
    /// [`Intent::order`] when it failed.
    #[serde(default)]
    pub order: u64,
    /// [`Intent::wipe`] when the last wipe began.
    #[serde(default)]
    pub wiped: u64,
    /// [`Intent::install`] when the last installation began.
    #[serde(default)]
    pub installed: u64,
    /// The number of its last installation, which its reports quote: a later one has a greater one. 0: it had none yet.
    #[serde(default)]
    pub run: u64,
    /// Whether it has fetched its kernel in this state.
    #[serde(default)]
    pub kernel: bool,
    /// Whether its image is on its disk, since it was allocated.
    #[serde(default)]
    pub written: bool,
    /// What it, or the agent, has said at the end of its work in this state.
    #[serde(default)]
    pub report: Option<Result<String, String>>,
    /// What is known of its power.
    #[serde(default, rename = "bmc")]
    pub power: Power,
    /// Whether it was said that it is in this state for longer than it should be.
    #[serde(default)]
    pub is_overdue: bool,
    /// When it was heard for the first time, in Unix seconds; 0: that is not known.
    #[serde(default)]
    pub heard: u64,
    /// The last changes of its state, the oldest first.
    #[serde(default)]
    pub history: Vec<Past>,
}

impl Status {
    /// The beginning of a life. `now` is in Unix seconds.
    #[must_use]
    pub fn new(state: State, reason: String, now: u64) -> Self {
        Self {
            state,
            since: now,
            reason,
            waits: String::new(),
            before: None,
            failure: None,
            order: 0,
            wiped: 0,
            installed: 0,
            run: 0,
            kernel: false,
            written: false,
            report: None,
            power: Power::default(),
            is_overdue: false,
            heard: 0,
            history: Vec::new(),
        }
    }

    /// Takes down what was seen. What says nothing in this state is not kept.
    pub(super) fn observe(&mut self, observed: Observed, pause: u64, now: u64) {
        use State::{Allocated, Installing};
        let is_installed = matches!(self.comes_back_to(), Allocated | Installing);
        match observed {
            Observed::Time => {}
            Observed::Kernel => {
                self.kernel |= self.state == Allocated;
                self.power.boot &= !(self.state == Allocated || self.state.boots_agent());
            }
            Observed::Agent(report) if self.state.boots_agent() => self.report = Some(report),
            // Whether it was seen to fetch its kernel or not: that may have gone by.
            Observed::Home(report) if is_installed => self.report = Some(report),
            Observed::Image(Ok(_)) if is_installed => {
                self.written = true;
                self.kernel |= self.state == Allocated;
            }
            Observed::Image(failed) if is_installed && !self.written => self.report = Some(failed),
            Observed::Agent(_) | Observed::Image(_) | Observed::Home(_) => {}
            Observed::Power { on, at } => self.power.reading(on, at, self.state),
            Observed::Blind(why) => self.power.blind = Some(why),
            Observed::Command { act, by, at } => self.power.begin(act, &by, at),
            Observed::Answer { at, end } => self.power.end(at, end, now, pause),
        }
    }

    /// The state that counts for what a system reports: it reports once, and somebody may work on its machine just then.
    fn comes_back_to(&self) -> State {
        self.before.filter(|_| self.is_aside()).unwrap_or(self.state)
    }

    fn is_aside(&self) -> bool {
        matches!(self.state, State::Maintenance | State::Ignored)
    }

    /// What it waits for, as of a time in Unix seconds.
    #[must_use]
    pub fn waits_at(&self, now: u64) -> String {
        match self.power.next_try.saturating_sub(now) {
            0 => self.waits.clone(),
            left => format!("{}; its BMC is told again in {left} s at the earliest", self.waits),
        }
    }

    /// Becomes another state.
    pub(super) fn become_state(&mut self, to: State, why: String, by: &str, intent: &Intent, now: u64) {
        let from = self.state;
        let is_aside = self.is_aside();
        let is_begun_anew = to == State::Allocated && (!is_aside || intent.install > self.installed);
        let mut why = why;
        match to {
            // From one of them to another it comes back to where it was at first.
            State::Maintenance | State::Ignored => {
                self.before = if is_aside { self.before } else { Some(from) };
            }
            // It comes back to the failure that it had, and to the orders since.
            State::Failed if is_aside => {
                if let Some((_, failure)) = &self.failure {
                    why.clone_from(failure);
                }
            }
            State::Failed => {
                self.failure = Some((from, why.clone()));
                self.order = intent.order;
            }
            _ => (self.before, self.failure) = (None, None),
        }
        match to {
            State::Accepted | State::Released => (self.wiped, self.written) = (intent.wipe, false),
            State::Allocated => {
                // Who comes back to it goes on with what it did.
                if is_begun_anew {
                    // As late as its time, so that also a machine that was deleted and added again has another one.
                    self.run = now.max(self.run + 1);
                }
                (self.installed, self.written) = (intent.install, false);
            }
            _ => {}
        }
        self.history.push(Past { at: now, from, to, by: by.to_owned(), why: why.clone() });
        let too_many = self.history.len().saturating_sub(MOST_KEPT);
        self.history.drain(..too_many);
        (self.state, self.since, self.reason) = (to, now, why);
        (self.kernel, self.is_overdue) = (false, false);
        // What was reported meanwhile is looked at in the state that it was reported for.
        if !is_aside || is_begun_anew {
            self.report = None;
        }
        self.power.enter(to);
    }
}
