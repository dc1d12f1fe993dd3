//! Why the kernel half is not loaded, in a sentence about the running kernel.

use anyhow::anyhow;
use aya::EbpfError;
use aya::programs::ProgramError;

use crate::fastpath::Sizes;
use crate::host::memory;
use crate::host::size::human_size;

/// The running kernel's version.
#[must_use]
pub fn kernel_release() -> String {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease");
    release.map_or_else(|_| "of unknown version".to_owned(), |release| release.trim().to_owned())
}

/// Why the object's tables cannot be made.
pub(super) fn not_loaded(error: EbpfError, sizes: Sizes) -> anyhow::Error {
    match errno(&error) {
        Some(libc::EPERM) => anyhow!(NoPermission),
        Some(libc::ENOMEM) => anyhow!(too_large(sizes.memory(), memory::available())),
        Some(libc::ENOSYS) => anyhow!("it is built without bpf(2) (CONFIG_BPF_SYSCALL)"),
        _ => anyhow!("its tables cannot be made: {:#}{}", anyhow!(error), without_btf()),
    }
}

/// Why a program is not loaded.
pub(super) fn refused(program: &str, error: ProgramError) -> anyhow::Error {
    if errno(&error) == Some(libc::EPERM) {
        return anyhow!(NoPermission);
    }
    match error {
        ProgramError::LoadError { io_error, verifier_log } => {
            let log = verifier_log.to_string();
            tracing::debug!("{program}: {io_error}\n{log}");
            anyhow!("{}{}", cause(program, &log), without_btf())
        }
        other => anyhow!("the program {program} cannot be loaded: {:#}{}", anyhow!(other), without_btf()),
    }
}

/// The verifier's reason, which stands before its figures at the end of the log.
fn cause(program: &str, log: &str) -> String {
    let figures = ["verification time", "stack depth", "processed", "mark_precise", "peak_states"];
    let is_reason = |line: &&str| !line.is_empty() && !figures.iter().any(|start| line.starts_with(start));
    match log.lines().rev().map(str::trim).find(is_reason) {
        Some(reason) if reason.contains("unknown func") || reason.contains("invalid func") => {
            format!("it lacks a function that the program {program} calls, which Linux 5.18 has: {reason}")
        }
        Some(reason) => format!("its verifier refuses the program {program}: {reason}"),
        None => format!("it refuses the program {program} and says nothing about why"),
    }
}

/// A further cause where there is one.
fn without_btf() -> &'static str {
    if std::path::Path::new("/sys/kernel/btf/vmlinux").exists() {
        ""
    } else {
        " (it has no BTF either, which CONFIG_DEBUG_INFO_BTF gives)"
    }
}

/// What to do when there is no memory for so many bytes of images, which is nearly all that the tables are.
fn too_large(wanted: u64, available: Option<u64>) -> String {
    const MIB: u64 = 1 << 20;
    // Half of what there is: the daemon needs some, and so does whatever else runs here.
    let less = available.map_or(wanted / 2, |available| (available / 2).min(wanted / 2)).max(MIB);
    let there = available.map_or_else(String::new, |bytes| format!(" ({} are available)", human_size(bytes)));
    format!(
        "there is no memory for boot files in the kernel half, {}{there}; write fast_path_memory = \"{}M\" or \
         less, or give the service more",
        human_size(wanted),
        less / MIB
    )
}

/// The process may not load BPF programs: a mistake in how it was started, unlike a kernel that cannot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "loading the fast path needs the capabilities CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON: \
     run xpxe as root or through its systemd unit, or set fast_path = \"off\""
)]
pub struct NoPermission;

/// The system's error in the chain. The verifier refuses with EACCES, and that with a log.
fn errno(error: &(dyn std::error::Error + 'static)) -> Option<i32> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            return io.raw_os_error();
        }
        next = error.source();
    }
    None
}

#[cfg(test)]
mod tests;
