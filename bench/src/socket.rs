//! Raw frames in and out of an interface. All `unsafe` of the benchmarks is in this file.

#![expect(unsafe_code, reason = "packet rings, sendmmsg(2) and bpf(2) have no safe wrappers")]

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

const FRAME: usize = 2048;
const FRAMES: usize = 8192;
const BATCH: usize = 64;

/// Frames from an interface, read in a ring that the kernel fills.
pub struct Inbox {
    socket: OwnedFd,
    ring: *mut u8,
    next: usize,
}

// SAFETY: the mapping belongs to this object alone and is not bound to a thread.
unsafe impl Send for Inbox {}

impl Inbox {
    /// Hears everything on an interface of the current namespace but what it sends itself.
    ///
    /// # Errors
    /// No permission, or no memory for the ring.
    pub fn open(ifindex: u32) -> io::Result<Self> {
        let socket = packet_socket(0)?;
        set(&socket, libc::PACKET_VERSION, &(libc::tpacket_versions::TPACKET_V2 as c_int))?;
        set(&socket, libc::PACKET_IGNORE_OUTGOING, &1)?;
        let request = libc::tpacket_req {
            tp_block_size: (FRAME * 64) as u32,
            tp_block_nr: (FRAMES / 64) as u32,
            tp_frame_size: FRAME as u32,
            tp_frame_nr: FRAMES as u32,
        };
        set(&socket, libc::PACKET_RX_RING, &request)?;
        let member = libc::packet_mreq {
            mr_ifindex: ifindex.cast_signed(),
            mr_type: libc::PACKET_MR_PROMISC as u16,
            mr_alen: 0,
            mr_address: [0; 8],
        };
        set(&socket, libc::PACKET_ADD_MEMBERSHIP, &member)?;
        // SAFETY: a new shared mapping of a length the ring just got; the result is checked.
        let ring = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                FRAME * FRAMES,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                socket.as_raw_fd(),
                0,
            )
        };
        if ring == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let inbox = Self { socket, ring: ring.cast(), next: 0 };
        bind(&inbox.socket, ifindex, libc::ETH_P_ALL as u16)?;
        Ok(inbox)
    }

    /// Gives up to `most` waiting frames to `read`; gives their number.
    pub fn drain(&mut self, most: usize, mut read: impl FnMut(&[u8])) -> usize {
        for taken in 0..most {
            // SAFETY: `next` is below FRAMES, so the slot is within the mapping, whose slots are aligned.
            let slot = unsafe { self.ring.add(self.next * FRAME) };
            // SAFETY: every slot begins with a tpacket2_hdr, whose first word kernel and user share.
            let status = unsafe { AtomicU32::from_ptr(slot.cast()) };
            if status.load(Ordering::Acquire) & libc::TP_STATUS_USER == 0 {
                return taken;
            }
            // SAFETY: the status says that the slot, header and frame, is ours until it is given back below;
            // the frame starts at tp_mac and tp_snaplen bytes of it are in the slot.
            let frame = unsafe {
                let header = &*slot.cast::<libc::tpacket2_hdr>();
                let length = (header.tp_snaplen as usize).min(FRAME - usize::from(header.tp_mac));
                std::slice::from_raw_parts(slot.add(usize::from(header.tp_mac)), length)
            };
            read(frame);
            status.store(0, Ordering::Release);
            self.next = (self.next + 1) % FRAMES;
        }
        most
    }

    /// Waits for a frame.
    pub fn wait(&self, most: Duration) {
        let mut socket = libc::pollfd { fd: self.socket.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let most = libc::timespec {
            tv_sec: most.as_secs().try_into().unwrap_or(libc::time_t::MAX),
            tv_nsec: most.subsec_nanos().into(),
        };
        // SAFETY: one valid pollfd and a valid time. An interrupted wait is a short wait.
        unsafe { libc::ppoll(&raw mut socket, 1, &raw const most, std::ptr::null()) };
    }

    /// How many frames found no room since the last call.
    pub fn dropped(&self) -> u32 {
        let mut stats = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
        let mut length = size_of_val(&stats) as libc::socklen_t;
        // SAFETY: the buffer is as long as is said; on failure it stays zero.
        unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                (&raw mut stats).cast(),
                &raw mut length,
            )
        };
        stats.tp_drops
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `open`, to which no slice lives longer than `drain`.
        unsafe { libc::munmap(self.ring.cast(), FRAME * FRAMES) };
    }
}

/// Frames of up to `ROOM` bytes to an interface, many per system call.
pub struct Outbox<const ROOM: usize> {
    socket: OwnedFd,
    frames: Box<[[u8; ROOM]; BATCH]>,
    lengths: [usize; BATCH],
    used: usize,
    /// How many frames the interface did not take.
    pub refused: u64,
}

impl<const ROOM: usize> Outbox<ROOM> {
    /// Sends on an interface of the current namespace.
    ///
    /// # Errors
    /// No permission, or no such interface.
    pub fn open(ifindex: u32) -> io::Result<Self> {
        let socket = packet_socket(0)?;
        set(&socket, libc::PACKET_QDISC_BYPASS, &1)?;
        bind(&socket, ifindex, 0)?;
        Ok(Self { socket, frames: Box::new([[0; ROOM]; BATCH]), lengths: [0; BATCH], used: 0, refused: 0 })
    }

    /// Puts in a frame, which `write` writes and gives the length of.
    pub fn push(&mut self, write: impl FnOnce(&mut [u8; ROOM]) -> usize) {
        if self.used == BATCH {
            self.flush();
        }
        self.lengths[self.used] = write(&mut self.frames[self.used]).min(ROOM);
        self.used += 1;
    }

    /// Sends what is in.
    pub fn flush(&mut self) {
        let mut parts = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; BATCH];
        for ((part, frame), length) in parts.iter_mut().zip(self.frames.iter_mut()).zip(self.lengths) {
            *part = libc::iovec { iov_base: frame.as_mut_ptr().cast(), iov_len: length };
        }
        // SAFETY: all-zero is a valid mmsghdr: no name, no control data, nothing to send.
        let mut messages: [libc::mmsghdr; BATCH] = unsafe { std::mem::zeroed() };
        for (message, part) in messages.iter_mut().zip(&mut parts) {
            message.msg_hdr.msg_iov = part;
            message.msg_hdr.msg_iovlen = 1;
        }
        let mut sent = 0;
        while sent < self.used {
            let rest = &mut messages[sent..self.used];
            // SAFETY: every message points to one part, and that to a frame of this object; all outlive the call.
            let count =
                unsafe { libc::sendmmsg(self.socket.as_raw_fd(), rest.as_mut_ptr(), rest.len() as u32, 0) };
            match usize::try_from(count) {
                Ok(count) => sent += count,
                Err(_) => {
                    // The interface's queue is full: as on a real one, that frame is gone.
                    self.refused += 1;
                    sent += 1;
                }
            }
        }
        self.used = 0;
    }
}

fn packet_socket(protocol: c_int) -> io::Result<OwnedFd> {
    // SAFETY: no pointers.
    let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, protocol) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given us this descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn set<T>(socket: &OwnedFd, option: c_int, value: &T) -> io::Result<()> {
    // SAFETY: the value is as long as is said, and only read.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            option,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn bind(socket: &OwnedFd, ifindex: u32, protocol: u16) -> io::Result<()> {
    // SAFETY: all-zero is a valid sockaddr_ll.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = protocol.to_be();
    address.sll_ifindex = ifindex.cast_signed();
    // SAFETY: a valid sockaddr_ll and its size.
    let result = unsafe {
        libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size_of_val(&address) as libc::socklen_t)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The head of `union bpf_attr` for BPF_PROG_LOAD.
#[repr(C)]
struct ProgLoad {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log: [u64; 3],
}

/// The head of `union bpf_attr` for BPF_LINK_CREATE.
#[repr(C)]
struct LinkCreate {
    program: u32,
    ifindex: u32,
    attach_type: u32,
    flags: u32,
}

/// Attaches `return XDP_TX` natively to an interface of the current namespace, until the link is dropped: what
/// is sent to it comes back.
///
/// # Errors
/// No permission, or a driver without XDP.
pub fn attach_reflector(ifindex: u32) -> io::Result<OwnedFd> {
    // r0 = XDP_TX; exit
    let program: [u64; 2] = [0x0000_0003_0000_00b7, 0x95];
    let load = ProgLoad {
        kind: 6,
        count: 2,
        instructions: program.as_ptr().addr() as u64,
        license: c"GPL".as_ptr().addr() as u64,
        log: [0; 3],
    };
    let program = bpf(5, &load)?;
    let attach =
        LinkCreate { program: program.as_raw_fd().cast_unsigned(), ifindex, attach_type: 37, flags: 4 };
    bpf(28, &attach)
}

/// The head of `union bpf_attr` for BPF_PROG_TEST_RUN.
#[repr(C)]
struct TestRun {
    program: u32,
    verdict: u32,
    frame_length: u32,
    answer_length: u32,
    frame: u64,
    answer: u64,
    repeat: u32,
    nanoseconds: u32,
    context_length: u32,
    context_out_length: u32,
    context: u64,
    context_out: u64,
}

/// How [`test_run`] ended.
#[derive(Clone, Copy, Debug)]
pub struct Ran {
    /// What the program returned.
    pub verdict: u32,
    /// The frame's length after it.
    pub length: usize,
    /// Of one run, on average, in whole nanoseconds.
    pub nanoseconds: u32,
}

/// Runs an XDP program on a frame, `repeat` times in a row, and writes what became of it into `answer`.
/// `context` is the `struct xdp_md` that goes along.
///
/// # Errors
/// No permission, or an answer longer than its room.
pub fn test_run(
    program: BorrowedFd<'_>,
    frame: &[u8],
    context: &[u8],
    answer: &mut [u8],
    repeat: u32,
) -> io::Result<Ran> {
    let mut attr = TestRun {
        program: program.as_raw_fd().cast_unsigned(),
        verdict: 0,
        frame_length: frame.len() as u32,
        answer_length: answer.len() as u32,
        frame: frame.as_ptr().addr() as u64,
        answer: answer.as_mut_ptr().addr() as u64,
        repeat,
        nanoseconds: 0,
        context_length: context.len() as u32,
        context_out_length: 0,
        context: context.as_ptr().addr() as u64,
        context_out: 0,
    };
    // SAFETY: `attr` is the command's part of `union bpf_attr` and its size goes along; the slices are as long as it
    // says and outlive the call, which writes to `attr` and `answer` only.
    let result = unsafe { libc::syscall(libc::SYS_bpf, 10, &raw mut attr, size_of::<TestRun>()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let length = (attr.answer_length as usize).min(answer.len());
    Ok(Ran { verdict: attr.verdict, length, nanoseconds: attr.nanoseconds })
}

fn bpf<T>(command: c_int, attr: &T) -> io::Result<OwnedFd> {
    // SAFETY: `attr` is the command's part of `union bpf_attr` and its size goes along; it is only read.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attr), size_of::<T>()) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given us this descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(c_int::try_from(fd).map_err(io::Error::other)?) })
}
