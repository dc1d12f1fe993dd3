//! A number in memory that both halves share.

use core::sync::atomic::AtomicU64;

/// 64 bits that are read and written as a whole.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct Word(AtomicU64);

#[cfg(not(target_arch = "bpf"))]
impl Word {
    /// Its value.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(core::sync::atomic::Ordering::Relaxed)
    }

    /// Sets the value.
    pub fn set(&self, value: u64) {
        self.0.store(value, core::sync::atomic::Ordering::Relaxed);
    }

    /// Replaces `from` by `to`; false if the word has another value.
    #[must_use]
    pub fn exchange(&self, from: u64, to: u64) -> bool {
        use core::sync::atomic::Ordering::SeqCst;
        self.0.compare_exchange(from, to, SeqCst, SeqCst).is_ok()
    }
}

// LLVM's BPF backend has no instruction for relaxed atomic accesses, which are plain ones on BPF; a volatile access is
// neither split nor left out.
#[cfg(target_arch = "bpf")]
#[expect(unsafe_code, reason = "plain accesses to an atomic's memory")]
impl Word {
    /// Its value.
    #[inline(always)]
    #[must_use]
    pub fn get(&self) -> u64 {
        // SAFETY: an aligned u64, of which BPF reads all at once.
        unsafe { core::ptr::read_volatile(self.0.as_ptr()) }
    }

    /// Sets the value.
    #[inline(always)]
    pub fn set(&self, value: u64) {
        // SAFETY: an aligned u64, which BPF writes all at once.
        unsafe { core::ptr::write_volatile(self.0.as_ptr(), value) }
    }

    /// Its address, for a compare-and-exchange.
    #[inline(always)]
    #[must_use]
    pub fn as_ptr(&self) -> *mut u64 {
        self.0.as_ptr()
    }
}
