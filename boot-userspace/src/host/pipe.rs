//! What becomes of a command whose reader has gone.

use nix::sys::signal::{SigHandler, Signal, signal};

/// Ends this process without a word when the program behind `|` has read enough, as other commands do. Rust ignores the
/// signal, so that printing would panic.
#[expect(unsafe_code, reason = "the signal's disposition is the process's own, and no handler of ours runs")]
pub fn end_quietly() {
    // SAFETY: the default action runs no code of this process.
    unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) }.ok();
}
