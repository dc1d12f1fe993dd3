//! The kernel's side of the tables: see [`boot_common::tables`] for what is in them.

use aya_ebpf::bindings::{BPF_F_NO_PREALLOC, BPF_F_RDONLY_PROG};
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, PerCpuArray, RingBuf};
use boot_common::Reason;
use boot_common::respond::Scratch;
use boot_common::tables::{
    Answer, AnswerKey, COUNTERS_LENGTH, EVENT_RING, Event, Hook, Host, HostKey, Link, MAX_ANSWERS, MAX_HOSTS,
    MAX_LINKS, Settings, Tables, counter,
};

#[map(name = "LINKS")]
static LINKS: HashMap<u32, Link> = HashMap::pinned(MAX_LINKS, BPF_F_RDONLY_PROG);
#[map(name = "HOSTS")]
static HOSTS: HashMap<HostKey, Host> = HashMap::pinned(MAX_HOSTS, BPF_F_NO_PREALLOC | BPF_F_RDONLY_PROG);
#[map(name = "ANSWERS")]
static ANSWERS: HashMap<AnswerKey, Answer> =
    HashMap::pinned(MAX_ANSWERS, BPF_F_NO_PREALLOC | BPF_F_RDONLY_PROG);
#[map(name = "COUNTERS")]
static COUNTERS: PerCpuArray<u64> = PerCpuArray::pinned(COUNTERS_LENGTH, 0);
#[map(name = "EVENTS")]
static EVENTS: RingBuf = RingBuf::pinned(EVENT_RING, 0);
// Only the daemon reads and writes it.
#[map(name = "SETTINGS")]
static SETTINGS: Array<Settings> = Array::pinned(1, 0);
#[map(name = "SCRATCH")]
static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);

/// This CPU's working memory.
#[inline(always)]
pub(crate) fn scratch() -> Option<&'static mut Scratch> {
    let scratch = SCRATCH.get_ptr_mut(0)?;
    // SAFETY: the map holds a Scratch for this CPU, and a program at one of these hooks is not interrupted by
    // another one that uses it. The walk's callback looks it up again, but only while its caller waits.
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

/// Tells the daemon; a full ring loses the record, never the packet.
#[inline(always)]
pub(crate) fn tell(event: &Event) {
    if let Some(mut record) = EVENTS.reserve::<Event>(0) {
        record.write(*event);
        record.submit(0);
    }
}

/// The kernel's maps as the tables that [`respond`](boot_common::respond::respond) looks things up in.
pub(crate) struct Maps;

impl Tables for Maps {
    #[inline(always)]
    fn link(&self, ifindex: u32) -> Option<&Link> {
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
