//! The states of a machine.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Makes the enum, the list of all its states, and their names.
macro_rules! states {
    ($($(#[$doc:meta])* $state:ident $name:literal)*) => {
        /// Where a machine is in its life.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
        #[serde(rename_all = "lowercase")]
        pub enum State { $($(#[$doc])* $state,)* }

        impl State {
            /// All of them, in the order of a machine's life.
            pub const ALL: [Self; [$(Self::$state),*].len()] = [$(Self::$state),*];

            /// Its word in the API, in logs and in metrics.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$state => $name,)* }
            }
        }
    };
}

states! {
    /// It has asked, and nobody has decided about it.
    Discovered "discovered"
    /// It belongs here: the agent takes its inventory and wipes it.
    Accepted "accepted"
    /// It is clean and free.
    Ready "ready"
    /// It is to boot its profile.
    Allocated "allocated"
    /// It has fetched its kernel and has not reported yet.
    Installing "installing"
    /// It has reported that its system runs.
    Running "running"
    /// Nobody uses it any more: the agent wipes it.
    Released "released"
    /// Somebody works on it: it boots nothing.
    Maintenance "maintenance"
    /// It gets no answer at all.
    Ignored "ignored"
    /// Something went wrong, which the status says; it waits for a person.
    Failed "failed"
}

impl State {
    /// Whether the agent is what a machine boots in this state.
    #[must_use]
    pub fn boots_agent(self) -> bool {
        matches!(self, Self::Accepted | Self::Released)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for State {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|state| state.name() == text);
        found.ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.iter().map(|state| state.name()).collect();
            format!("{text:?} is no state: write one of {}", names.join(", "))
        })
    }
}
