//! Where lines are written: each at once, or those of a burst together.
//!
//! A commit lets the answers of a hundred machines go at once. By a call for each of their lines the packet thread would
//! spend more on writing than on making them.

use std::cell::RefCell;
use std::io::{self, Write as _};
use std::mem::take;

/// More than that is written before the burst is over.
const MOST: usize = 64 << 10;

thread_local! {
    /// The lines of a burst; none outside of one.
    static BURST: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

/// Has the lines of this thread written together, when it is dropped. Nobody may wait for anything meanwhile.
pub(in crate::daemon) struct Burst(());

impl Burst {
    /// Begins one; inside of another one it is part of that.
    pub(in crate::daemon) fn begin() -> Option<Self> {
        BURST.with_borrow_mut(|burst| match burst {
            Some(_) => None,
            None => {
                *burst = Some(Vec::new());
                Some(Self(()))
            }
        })
    }
}

impl Drop for Burst {
    fn drop(&mut self) {
        let lines = BURST.take().unwrap_or_default();
        if !lines.is_empty() {
            // Nobody can be told.
            io::stderr().write_all(&lines).ok();
        }
    }
}

/// Standard error, for whole lines.
pub(super) struct Lines;

impl io::Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let full = BURST.with_borrow_mut(|burst| {
            let lines = burst.as_mut()?;
            lines.extend_from_slice(line);
            Some(if lines.len() < MOST { Vec::new() } else { take(lines) })
        });
        match full {
            None => io::stderr().write_all(line)?,
            Some(full) if full.is_empty() => {}
            Some(full) => io::stderr().write_all(&full)?,
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
