//! What a machine has been through.

use serde::{Deserialize, Serialize};

use super::state::State;

/// How many changes of its state are kept of a machine. The oldest leaves.
pub const MOST_KEPT: usize = 32;

/// One change of a machine's state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Past {
    /// When, in Unix seconds.
    pub at: u64,
    /// What it was.
    pub from: State,
    /// What it became.
    pub to: State,
    /// Who did it: `operator`, with the name of the token if it was over TCP, `rule …`, or `xpxe`.
    pub by: String,
    /// Why, in one sentence.
    pub why: String,
}
