//! What becomes of a command whose reader has gone.

use libc::{POLLERR, POLLHUP, c_int, pollfd};
use nix::sys::signal::{SigHandler, Signal, raise, signal};

/// Ends this process without a word when the program behind `|` has read enough, as other commands do. Rust ignores the
/// signal, so that printing would panic. A connection whose other end is gone is an error like any other: it is told.
#[expect(unsafe_code, reason = "a signal's handler is the process's own, and this one may run at any time")]
pub fn end_quietly() {
    // SAFETY: the handler calls only what signal-safety(7) allows, and touches no memory but its own.
    unsafe { signal(Signal::SIGPIPE, SigHandler::Handler(end_without_reader)) }.ok();
}

#[expect(unsafe_code, reason = "nix's poll is behind a feature, and the default action is the process's own")]
extern "C" fn end_without_reader(_: c_int) {
    let mut outputs = [1, 2].map(|fd| pollfd { fd, events: 0, revents: 0 });
    // SAFETY: there are two of them.
    unsafe { libc::poll(outputs.as_mut_ptr(), 2, 0) };
    if outputs.iter().any(|output| output.revents & (POLLERR | POLLHUP) != 0) {
        // SAFETY: the default action runs no code of this process.
        unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) }.ok();
        // It comes when this handler has returned.
        raise(Signal::SIGPIPE).ok();
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, ErrorKind, Write as _};

    use super::*;

    #[test]
    fn another_pipe_than_the_output_that_nobody_reads_is_an_error_and_no_end() {
        end_quietly();
        let (reader, mut writer) = io::pipe().unwrap();
        drop(reader);
        assert_eq!(writer.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
    }
}
