//! The allocator's memory, and the system's.

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

/// Bytes that the system could still give, as it estimates them itself.
#[must_use]
pub fn available() -> Option<u64> {
    available_in(&std::fs::read_to_string("/proc/meminfo").ok()?)
}

fn available_in(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_available_is_read() {
        let text = "MemTotal:       16316412 kB\nMemFree:          123 kB\nMemAvailable:    9000 kB\n";
        assert_eq!(available_in(text), Some(9000 * 1024));
        assert_eq!(available_in("MemTotal: 1 kB\n"), None);
        assert!(available().is_some_and(|bytes| bytes > 0));
    }
}
