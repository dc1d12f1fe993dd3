//! Which machine has which address, for how long, and what the store knows of it.

pub mod binding;
pub mod bindings;
mod by_machine;
pub(crate) mod cards;
pub(crate) mod confirmed;
pub mod holds;
mod kept;
pub mod operator;
pub mod pool;
pub mod pools;
pub mod promises;
pub mod record;
pub mod snapshot;
pub mod state;
pub mod stats;

pub use holds::Hold;
pub use operator::{Entry, FOREVER, NotALease, Outcome, Refusal, Shown, Which};
pub use pool::Pool;
pub use promises::Promised;
pub use record::{Change, Lease};
pub use snapshot::Snapshot;
pub use state::{HoldCause, LeaseState, NotACause, NotAState};
pub use stats::Held;
