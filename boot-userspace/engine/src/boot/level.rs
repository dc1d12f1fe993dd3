//! How specific the choice of a profile is.

/// What of the configuration has chosen a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// `[default]`, or nothing.
    Default,
    /// A `[[group]]`.
    Group,
    /// The `[[machine]]` itself.
    Machine,
}
