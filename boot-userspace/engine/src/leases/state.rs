//! How far an address is a machine's: one vocabulary for the engine, the store, the API, metrics and the command line.

use std::fmt;
use std::str::FromStr;

use super::binding::State;

/// How far an address is a machine's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LeaseState {
    /// Offered, and so kept for this machine, but not yet requested.
    Offered,
    /// Acknowledged: promised to the machine.
    Leased,
    /// Given back or run out: still the machine's, unless another one needs it.
    Released,
    /// In the configuration. The store has leases only.
    Reserved,
    /// Nobody gets it until it ends, for this cause.
    OnHold(HoldCause),
}

/// Why nobody gets an address for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HoldCause {
    /// The machine declined it, and another host answered there.
    Declined,
    /// Another host answered the probe before the machine was offered it.
    InUse,
    /// It is still promised to the machine, which has another one now.
    Promised,
    /// Stored by a version that did not note the cause.
    Unknown,
}

impl LeaseState {
    /// Those of a binding.
    pub const BOUND: [Self; 4] = [Self::Offered, Self::Leased, Self::Released, Self::Reserved];

    /// Every state.
    pub const ALL: [Self; 8] = [
        Self::Offered,
        Self::Leased,
        Self::Released,
        Self::Reserved,
        Self::OnHold(HoldCause::Declined),
        Self::OnHold(HoldCause::InUse),
        Self::OnHold(HoldCause::Promised),
        Self::OnHold(HoldCause::Unknown),
    ];

    /// That of a binding at this second.
    #[must_use]
    pub fn of(state: State, now: u64) -> Self {
        match state {
            State::Reserved => Self::Reserved,
            State::Offered(until) if until > now => Self::Offered,
            State::Leased(until) if until > now => Self::Leased,
            State::Offered(_) | State::Leased(_) | State::Released(_) | State::Idle => Self::Released,
        }
    }

    /// The word for it in the store, the API, metrics and the command line. That for a hold is older than the others.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Offered => "offered",
            Self::Leased => "leased",
            Self::Released => "released",
            Self::Reserved => "reserved",
            Self::OnHold(_) => "resting",
        }
    }

    /// The cause of a hold.
    #[must_use]
    pub fn hold(self) -> Option<HoldCause> {
        match self {
            Self::OnHold(cause) => Some(cause),
            Self::Offered | Self::Leased | Self::Released | Self::Reserved => None,
        }
    }

    /// Whether nobody gets the address until it ends.
    #[must_use]
    pub fn is_on_hold(self) -> bool {
        self.hold().is_some()
    }
}

impl HoldCause {
    /// Every cause.
    pub const ALL: [Self; 4] = [Self::Declined, Self::InUse, Self::Promised, Self::Unknown];

    /// The word for it in the store, the API and the command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Declined => "declined",
            Self::InUse => "in-use",
            Self::Promised => "promised",
            Self::Unknown => "unknown",
        }
    }

    /// The same as a clause.
    #[must_use]
    pub fn says(self) -> &'static str {
        match self {
            Self::Declined => "the machine declined it, and another host answered there",
            Self::InUse => "another host answered there before it was offered",
            Self::Promised => "it was still promised to the machine, which has another address now",
            Self::Unknown => "an earlier version did not note why",
        }
    }
}

impl fmt::Display for LeaseState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that is no state of a lease.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a lease state (expected offered, leased, resting or released)")]
pub struct NotAState;

impl FromStr for LeaseState {
    type Err = NotAState;

    fn from_str(word: &str) -> Result<Self, NotAState> {
        match word {
            "offered" => Ok(Self::Offered),
            "leased" => Ok(Self::Leased),
            "released" => Ok(Self::Released),
            "resting" => Ok(Self::OnHold(HoldCause::Unknown)),
            _ => Err(NotAState),
        }
    }
}

/// A word that is no cause of a hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a cause of a hold (expected declined, in-use, promised or unknown)")]
pub struct NotACause;

impl FromStr for HoldCause {
    type Err = NotACause;

    fn from_str(word: &str) -> Result<Self, NotACause> {
        Self::ALL.into_iter().find(|cause| cause.as_str() == word).ok_or(NotACause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_a_reservation_is_no_row_of_the_store() {
        for state in LeaseState::ALL {
            let word = state.as_str().parse::<LeaseState>();
            match state {
                LeaseState::Reserved => assert_eq!(word, Err(NotAState)),
                LeaseState::OnHold(_) => assert_eq!(word, Ok(LeaseState::OnHold(HoldCause::Unknown))),
                _ => assert_eq!(word, Ok(state)),
            }
            if let Some(cause) = state.hold() {
                assert_eq!(cause.as_str().parse(), Ok(cause));
            }
        }
        assert_eq!("resting".parse::<HoldCause>(), Err(NotACause));
    }

    #[test]
    fn what_has_run_out_is_released() {
        let states = [State::Reserved, State::Offered(9), State::Leased(9), State::Released(9), State::Idle];
        let at = |now| states.map(|state| LeaseState::of(state, now).as_str());
        assert_eq!(at(8), ["reserved", "offered", "leased", "released", "released"]);
        assert_eq!(at(9), ["reserved", "released", "released", "released", "released"]);
    }
}
