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
mod tests {
    use aya::maps::MapError;
    use boot_common::tables::name;

    use super::*;

    #[test]
    fn too_large_a_memory_says_how_much_there_is_and_what_to_write() {
        let says = too_large(4 << 30, Some(1_000_000_000));
        assert!(
            says.contains("4.3 GB (1.0 GB are available); write fast_path_memory = \"476M\" or"),
            "{says}"
        );
        // A limit of the service's own, not of the machine's.
        assert!(too_large(256 << 20, Some(8 << 30)).contains("\"128M\" or less"));
        assert!(too_large(256 << 20, None).contains(", 268.4 MB; write fast_path_memory = \"128M\""));
        assert!(too_large(1 << 20, Some(0)).contains("\"1M\""));
    }

    #[test]
    fn what_the_kernel_says_decides_what_we_say() {
        let says = |errno| {
            let io_error = std::io::Error::from_raw_os_error(errno);
            let error = MapError::CreateError { name: name::IMAGES.to_owned(), io_error };
            not_loaded(EbpfError::MapError(error), Sizes::of(64 << 20)).to_string()
        };
        assert!(says(libc::ENOMEM).contains("for boot files in the kernel half, 67.1 MB"));
        assert!(says(libc::EPERM).contains("CAP_BPF"));
        assert!(says(libc::ENOSYS).contains("CONFIG_BPF_SYSCALL"));
        assert!(says(libc::EINVAL).starts_with("its tables cannot be made: "), "{}", says(libc::EINVAL));
    }

    #[test]
    fn the_verifiers_reason_is_the_line_before_its_figures() {
        let bounds = "3527: (61) r8 = *(u32 *)(r10 -4)\nR3 min value is outside of the allowed memory range\n\
            verification time 88437 usec\nstack depth 232+0\nprocessed 1312 insns (limit 1000000) max_states_per_insn 4\n";
        assert_eq!(
            cause("xpxe_xdp", bounds),
            "its verifier refuses the program xpxe_xdp: R3 min value is outside of the allowed memory range"
        );
        let large = "3990: (15) if r0 == 0x0 goto pc+1\nBPF program is too large. Processed 1000001 insn\nprocessed 1000001 insns\n";
        assert!(
            cause("xpxe_tc", large).ends_with("xpxe_tc: BPF program is too large. Processed 1000001 insn")
        );
        assert_eq!(
            cause("xpxe_xdp", "12: (85) call unknown#189\ninvalid func unknown#189\nprocessed 12 insns\n"),
            "it lacks a function that the program xpxe_xdp calls, which Linux 5.18 has: invalid func unknown#189"
        );
        assert_eq!(
            cause("xpxe_xdp", "number of funcs in func_info doesn't match number of subprogs\n"),
            "its verifier refuses the program xpxe_xdp: number of funcs in func_info doesn't match number of subprogs"
        );
        assert!(cause("xpxe_tc", "").contains("says nothing"));
    }
}
