//! The image of the process's memory that the kernel writes when it crashes.

use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use tracing::warn;

/// Has the kernel write none: it would have every password and key in it that is in use. Children have theirs.
pub fn forbid() {
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        warn!(
            "a crash may leave a core with secrets in it, because the kernel does not forbid that: {error}"
        );
    }
}
