//! The allocator's memory.

/// Gives the system back what the allocator keeps of memory that was freed: after reading the file of a million
/// machines that is more than all of the daemon's needs.
#[cfg(target_env = "gnu")]
pub fn give_back() {
    #[expect(unsafe_code, reason = "the C library has no other interface")]
    // SAFETY: it takes its own locks, and moves nothing that is in use.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Other allocators do it by themselves, or cannot.
#[cfg(not(target_env = "gnu"))]
pub fn give_back() {}
