//! What the machine shows.

/// A line on the console.
macro_rules! say {
    ($($text:tt)*) => { println!("xpxe-agent: {}", format_args!($($text)*)) };
}
pub(crate) use say;
