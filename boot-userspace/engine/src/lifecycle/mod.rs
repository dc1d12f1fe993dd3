//! The life of a machine of the registry: from its first request to running, and back.
//!
//! What is wanted of a machine ([`Intent`]) is set by people and rules, what is seen of it ([`Observed`]) comes from the
//! network, and [`step`] moves its [`Status`] from one to the other. All of it is pure: the same intent, status, observation
//! and time always give the same result, and an observation that comes twice changes nothing the second time. Commands with
//! effects are in the status before they are carried out, so a crash in between loses none.

mod configured;
mod history;
mod intent;
mod next;
mod orders;
mod power;
#[cfg(test)]
mod power_tests;
mod state;
mod status;
#[cfg(test)]
mod tests;
mod times;

pub use history::{MOST_KEPT, Past};
pub use intent::{Intent, Wanted};
pub use next::{Next, Rules, Stepped, next, step};
pub use orders::{Order, OrderError};
pub use power::{Act, Blindness, Done, Power};
pub use state::State;
pub use status::{Observed, Status};
pub use times::{TIMES, TimesInState};
