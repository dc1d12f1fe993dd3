//! Runs the option scan with `bpf_loop`.

use core::ffi::c_void;
use core::ptr::null_mut;

use aya_ebpf::helpers::generated::bpf_loop;
use boot_common::facts::MAX_STEPS;

use crate::maps;

/// Scans the options of the request in this CPU's working memory.
#[inline(always)]
pub(crate) fn all() {
    // SAFETY: the callback has the signature bpf_loop wants and does not use its context.
    unsafe {
        bpf_loop(MAX_STEPS, step as *mut c_void, null_mut(), 0);
    }
}

/// Reads one option. 1 ends the loop.
extern "C" fn step(_index: u32, _context: *mut c_void) -> i64 {
    match maps::scratch() {
        Some(scratch) => i64::from(scratch.scan.step(&scratch.request)),
        None => 1,
    }
}
