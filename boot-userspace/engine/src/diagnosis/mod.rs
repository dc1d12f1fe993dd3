//! Why a machine did not boot: what happened to it, step by step, and one cause in plain words.
//!
//! [`Note`] is what an event says about one machine's boot, [`Timelines`] keeps the last boots of every machine, and
//! [`judge`] reads a boot and names the cause, how sure that is, and the steps that show it. A cause is never named
//! without a step that shows it.

mod addresses;
mod beside;
mod boot;
mod booted;
mod case;
mod causes;
mod ended;
mod files;
mod fleet;
mod identity;
mod judge;
mod loader;
mod mac_text;
mod network;
mod note;
mod parts;
mod progress;
mod standing;
mod steps;
mod system;
#[cfg(test)]
mod tests;
mod timeline;
mod verdict;
mod words;

pub use boot::{Boot, MOST_STEPS, Timed};
pub use case::{Case, Facts, Stands};
pub use causes::Cause;
pub use fleet::{Group, Member, Shared, grouped};
pub use judge::{judge, never_asked};
pub use network::{Network, OtherServer, SwitchPort};
pub use note::Note;
pub(crate) use note::is_missed;
pub use parts::{BUCKETS, Histogram, Part, Took, Usual, parts};
pub use progress::Progress;
pub use steps::{By, Given, Uuid, What};
pub use timeline::{MOST_BOOTS, MOST_MACHINES, MOST_STEPS_IN_ALL, Timelines};
pub use verdict::{Evidence, Sure, Verdict};
