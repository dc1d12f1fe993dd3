//! Why a machine did not boot: what happened to it, step by step, and one cause in plain words.
//!
//! [`Note`] is what an event says about one machine's boot, [`Timelines`] keeps the last boots of every machine, and
//! [`judge`] reads a boot and names the cause, how sure that is, and the steps that show it. A cause is never named
//! without a step that shows it.

mod addresses;
mod case;
mod causes;
mod files;
mod fleet;
mod judge;
mod loader;
mod network;
mod note;
mod progress;
mod steps;
mod system;
#[cfg(test)]
mod tests;
mod timeline;
mod verdict;
mod words;

pub use case::{Case, Facts};
pub use causes::Cause;
pub use fleet::{Group, Member, grouped};
pub use judge::{judge, never_asked};
pub use network::{Network, OtherServer};
pub use note::Note;
pub(crate) use note::is_missed;
pub use progress::Progress;
pub use steps::{By, Given, What};
pub use timeline::{Boot, MOST_BOOTS, MOST_MACHINES, MOST_STEPS, MOST_STEPS_IN_ALL, Timed, Timelines};
pub use verdict::{Evidence, Sure, Verdict};
