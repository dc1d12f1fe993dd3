use aya::maps::MapError;
use boot_common::tables::name;

use super::*;

#[test]
fn too_large_a_memory_says_how_much_there_is_and_what_to_write() {
    let says = too_large(4 << 30, Some(1_000_000_000));
    assert!(says.contains("4.3 GB (1.0 GB are available); write fast_path_memory = \"476M\" or"), "{says}");
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
    assert!(cause("xpxe_tc", large).ends_with("xpxe_tc: BPF program is too large. Processed 1000001 insn"));
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
