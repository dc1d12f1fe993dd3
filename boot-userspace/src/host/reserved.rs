//! Addresses without memory: slices that say how many bytes there are, and that nobody can read.
#![expect(unsafe_code, reason = "addresses are reserved, and a slice is made of them")]

use std::ptr::NonNull;
use std::sync::OnceLock;

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};

/// The longest stand-in. It takes addresses, no memory.
pub const LONGEST: usize = 16 << 20;

/// `length` bytes, at most [`LONGEST`], that cannot be read: who tries is ended by SIGSEGV, and a system call that is
/// given them fails with EFAULT. None where the process may not have so many addresses.
#[must_use]
pub fn stand_in(length: usize) -> Option<&'static [u8]> {
    region()?.get(..length)
}

/// How far into the stand-ins a slice begins; none of a slice of real bytes.
#[must_use]
pub fn offset_of(slice: &[u8]) -> Option<usize> {
    let offset = slice.as_ptr().addr().checked_sub(region()?.as_ptr().addr())?;
    (offset < LONGEST).then_some(offset)
}

fn region() -> Option<&'static [u8]> {
    static REGION: OnceLock<Option<&'static [u8]>> = OnceLock::new();
    *REGION.get_or_init(|| {
        // SAFETY: a new mapping at an address of the kernel's choice.
        let start = unsafe {
            let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
            mmap_anonymous(std::ptr::null_mut(), LONGEST, ProtFlags::empty(), flags)
        };
        let start = NonNull::new(start.ok()?.cast::<u8>())?;
        // SAFETY: the mapping is never undone, and nothing is ever written to it. It is not readable on purpose: nobody
        // looks into a slice before it is known to be none of these, and of a slice, whose length is known only when
        // the program runs, the compiler reads nothing that the program does not.
        Some(unsafe { std::slice::from_raw_parts(start.as_ptr(), LONGEST) })
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_stand_in_is_told_from_bytes_and_no_system_call_reads_it() {
        let stand_in = stand_in(100).unwrap();
        assert_eq!((stand_in.len(), offset_of(stand_in)), (100, Some(0)));
        assert_eq!(offset_of(&stand_in[7..]), Some(7));
        let bytes = [0_u8; 100];
        assert_eq!(offset_of(&bytes), None);
        let file = tempfile::tempfile().unwrap();
        let refused = (&file).write(stand_in).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EFAULT));
        assert!(super::stand_in(LONGEST + 1).is_none());
    }
}
