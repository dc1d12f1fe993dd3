//! Lines are written by a thread of their own: a reader of the log that has stopped, or a disk that is full, keeps no machine
//! from booting.

use std::io::{self, BufWriter};
use std::sync::OnceLock;

use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};

/// How many lines wait at most: a storm begins with some ten thousand.
const MOST: usize = 65_536;
/// So many bytes are written by one call.
const AT_ONCE: usize = 64 << 10;

static LOST: OnceLock<ErrorCounter> = OnceLock::new();

/// Standard error, for whole lines. The lines that wait are written when the guard is dropped, or are lost after a second.
pub fn lines() -> (NonBlocking, WorkerGuard) {
    let stderr = BufWriter::with_capacity(AT_ONCE, io::stderr());
    let builder =
        NonBlockingBuilder::default().lossy(true).buffered_lines_limit(MOST).thread_name("xpxe-log");
    let (lines, guard) = builder.finish(stderr);
    LOST.get_or_init(|| lines.error_counter());
    (lines, guard)
}

/// How many lines were lost since the start because standard error did not take them in time.
pub fn lost_lines() -> u64 {
    LOST.get().map_or(0, |lost| lost.dropped_lines() as u64)
}
