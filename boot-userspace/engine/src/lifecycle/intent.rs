//! What is wanted of a machine.

use serde::{Deserialize, Serialize};

/// Where a machine is to go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Wanted {
    /// Nowhere: nobody has decided about it.
    #[default]
    Hold,
    /// Into the pool of machines that are clean and free.
    Pool,
    /// It is to run its profile.
    Run,
}

/// What people and rules want of a machine. It is stored as it is, and stays so whatever the machine does.
///
/// Orders have numbers, so that one is carried out once: a wipe or an installation is due while its number is greater than
/// the one in the [`Status`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Intent {
    /// Where it is to go.
    pub wanted: Wanted,
    /// It gets no answer.
    pub ignored: bool,
    /// Somebody works on it, and why.
    pub maintenance: Option<String>,
    /// The number of the last order that a failed machine has to look at.
    pub order: u64,
    /// The number of the last order to wipe it.
    pub wipe: u64,
    /// The number of the last order to install it anew.
    pub install: u64,
}

impl Wanted {
    /// Of who is accepted: to run, if that was wanted already.
    pub(super) fn max(self, other: Self) -> Self {
        if self == Self::Hold { other } else { self }
    }
}
