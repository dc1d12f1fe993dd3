//! The kernel's side of the tables; [`boot_common::tables`] describes their contents.

use core::intrinsics::{AtomicOrdering, atomic_cxchg};

use aya_ebpf::bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC, BPF_F_RDONLY_PROG};
use aya_ebpf::helpers::bpf_ktime_get_boot_ns;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, PerCpuArray, RingBuf};
use boot_common::Reason;
use boot_common::scratch::Scratch;
use boot_common::tables::{
    Answer, AnswerKey, COUNTERS_LENGTH, EVENT_RING, Event, Hook, Host, HostKey, LinkEntry, MAX_ANSWERS,
    MAX_HOSTS, MAX_LINKS, Settings, Tables, counter,
};
use boot_common::tftp::{Chunk, Flight, MAX_FLIGHTS, Sums, TransferKey, Transfers, Word};

#[map(name = "LINKS")]
static LINKS: HashMap<u32, LinkEntry> = HashMap::pinned(MAX_LINKS, BPF_F_RDONLY_PROG);
#[map(name = "HOSTS")]
static HOSTS: HashMap<HostKey, Host> = HashMap::pinned(MAX_HOSTS, BPF_F_NO_PREALLOC | BPF_F_RDONLY_PROG);
#[map(name = "ANSWERS")]
static ANSWERS: HashMap<AnswerKey, Answer> =
    HashMap::pinned(MAX_ANSWERS, BPF_F_NO_PREALLOC | BPF_F_RDONLY_PROG);
#[map(name = "COUNTERS")]
static COUNTERS: PerCpuArray<u64> = PerCpuArray::pinned(COUNTERS_LENGTH, 0);
#[map(name = "EVENTS")]
static EVENTS: RingBuf = RingBuf::pinned(EVENT_RING, 0);
#[map(name = "TRANSFERS")]
static TRANSFERS: HashMap<TransferKey, u32> =
    HashMap::pinned(MAX_FLIGHTS, BPF_F_NO_PREALLOC | BPF_F_RDONLY_PROG);
#[map(name = "FLIGHTS")]
static FLIGHTS: Array<Flight> = Array::pinned(MAX_FLIGHTS, BPF_F_MMAPABLE);
// The daemon sets the sizes of these two from fast_path_memory. It maps them writable, which rules out
// BPF_F_RDONLY_PROG.
#[map(name = "IMAGES")]
static IMAGES: Array<Chunk> = Array::pinned(1, BPF_F_MMAPABLE);
#[map(name = "SUMS")]
static SUMS: Array<Sums> = Array::pinned(1, BPF_F_MMAPABLE);
#[map(name = "SETTINGS")]
static SETTINGS: Array<Settings> = Array::pinned(1, 0);
#[map(name = "SCRATCH")]
static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);

/// This CPU's working memory.
#[inline(always)]
pub(crate) fn scratch() -> Option<&'static mut Scratch> {
    let scratch = SCRATCH.get_ptr_mut(0)?;
    // SAFETY: the map holds a Scratch for this CPU, and a program at one of these hooks is not interrupted by
    // another one that uses it. The scan's callback looks it up again, but only while its caller waits.
    Some(unsafe { &mut *scratch })
}

/// Counts how a packet ended.
#[inline(always)]
pub(crate) fn count(hook: Hook, reason: Reason) {
    if let Some(value) = COUNTERS.get_ptr_mut(counter(hook, reason)) {
        // SAFETY: the pointer is into this CPU's slot.
        unsafe { *value += 1 }
    }
}

/// Writes an event for the daemon; a full ring loses the event, never the packet.
#[inline(always)]
pub(crate) fn tell(event: &Event) {
    if let Some(mut record) = EVENTS.reserve::<Event>(0) {
        record.write(*event);
        record.submit(0);
    }
}

/// The kernel's maps as the tables of [`respond`](boot_common::respond::respond).
pub(crate) struct Maps;

impl Tables for Maps {
    #[inline(always)]
    fn link(&self, ifindex: u32) -> Option<&LinkEntry> {
        // SAFETY: an entry is replaced as a whole, and stays valid until this program returns (RCU).
        unsafe { LINKS.get(ifindex) }
    }

    #[inline(always)]
    fn host(&self, key: &HostKey) -> Option<&Host> {
        // SAFETY: as above.
        unsafe { HOSTS.get(key) }
    }

    #[inline(always)]
    fn answer(&self, key: &AnswerKey) -> Option<&Answer> {
        // SAFETY: as above.
        unsafe { ANSWERS.get(key) }
    }
}

impl Transfers for Maps {
    #[inline(always)]
    fn slot(&self, key: &TransferKey) -> Option<u32> {
        // SAFETY: an entry is replaced as a whole.
        unsafe { TRANSFERS.get(key) }.copied()
    }

    #[inline(always)]
    fn flight(&self, slot: u32) -> Option<&Flight> {
        FLIGHTS.get(slot)
    }

    #[inline(always)]
    fn chunk(&self, index: u32) -> Option<&Chunk> {
        IMAGES.get(index)
    }

    #[inline(always)]
    fn sums(&self, index: u32) -> Option<&Sums> {
        SUMS.get(index)
    }

    #[inline(always)]
    fn now(&self) -> u64 {
        // SAFETY: a helper call without arguments.
        unsafe { bpf_ktime_get_boot_ns() }
    }

    #[inline(always)]
    fn heartbeat(&self) -> u64 {
        SETTINGS.get(0).map_or(u64::MAX, |settings| settings.heartbeat)
    }

    #[inline(always)]
    fn exchange(&self, word: &Word, from: u64, to: u64) -> bool {
        // rustc's description of the target says that BPF has no compare-and-exchange, so core has no function for it;
        // LLVM's backend and kernels since 5.12 have it.
        // SAFETY: an aligned u64 of a map.
        unsafe {
            atomic_cxchg::<u64, { AtomicOrdering::SeqCst }, { AtomicOrdering::SeqCst }>(
                word.as_ptr(),
                from,
                to,
            )
            .1
        }
    }
}
