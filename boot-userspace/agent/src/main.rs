//! xpxe-agent: the first process of a machine that is inventoried, wiped or written to.

use std::process::ExitCode;

fn main() -> ExitCode {
    if std::process::id() == 1 {
        boot_agent::run();
    }
    eprintln!(
        "xpxe-agent: this is the first process of an initrd, and wipes disks: here it does nothing. Make that initrd:\n    \
         xpxe agent build --from-system"
    );
    ExitCode::FAILURE
}
