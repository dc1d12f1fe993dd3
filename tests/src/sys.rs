//! System calls that have no safe wrapper. All `unsafe` of this crate is in this file.

#![expect(unsafe_code, reason = "bpf(2), ptrace(2), pre_exec and signal(2) have no safe wrappers")]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;

use nix::sched::{CloneFlags, setns};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigHandler, Signal, signal};

/// Makes `command`'s child enter the network namespace `netns` (and no other namespace) and be killed when
/// the **thread** that spawned it ends.
///
/// A program that changes its user loses the second half, so fixtures run such programs as root.
pub fn enter_netns_before_exec(command: &mut Command, netns: Arc<OwnedFd>) {
    let parent = std::process::id();
    let enter = move || {
        set_pdeathsig(Signal::SIGKILL)?;
        if std::os::unix::process::parent_id() != parent {
            // The parent died before the line above: no signal will come any more.
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        setns(netns.as_ref(), CloneFlags::CLONE_NEWNET)?;
        Ok(())
    };
    // SAFETY: between fork and exec the closure only makes system calls; it neither allocates nor takes a
    // lock.
    unsafe { command.pre_exec(enter) };
}

/// Lets SIGINT and SIGTERM end this process at once, also when it was started by a shell that ignores them
/// for background jobs.
pub fn restore_default_signals() -> io::Result<()> {
    for number in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGPIPE] {
        // SAFETY: the default action replaces no handler another part of this process relies on.
        unsafe { signal(number, SigHandler::SigDfl) }?;
    }
    Ok(())
}

/// A thread of another process that stands still until this is dropped, by the thread that stopped it.
#[derive(Debug)]
pub struct Stopped(libc::pid_t);

impl Stopped {
    /// Stops the thread of this name.
    pub fn thread(process: u32, name: &str) -> io::Result<Self> {
        for task in std::fs::read_dir(format!("/proc/{process}/task"))? {
            let task = task?;
            if std::fs::read_to_string(task.path().join("comm"))?.trim_end() != name {
                continue;
            }
            let thread = task.file_name().to_string_lossy().parse().map_err(io::Error::other)?;
            ptrace(libc::PTRACE_SEIZE, thread)?;
            let stopped = Self(thread);
            ptrace(libc::PTRACE_INTERRUPT, thread)?;
            // SAFETY: without a place for the status nothing is written.
            if unsafe { libc::waitpid(thread, std::ptr::null_mut(), libc::__WALL) } != thread {
                return Err(io::Error::last_os_error());
            }
            return Ok(stopped);
        }
        Err(io::Error::other(format!("process {process} has no thread {name}")))
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // It may have ended.
        ptrace(libc::PTRACE_DETACH, self.0).ok();
    }
}

fn ptrace(request: libc::c_uint, thread: libc::pid_t) -> io::Result<()> {
    let none = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: these requests read and write no memory of ours.
    match unsafe { libc::ptrace(request, thread, none, none) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_LINK_CREATE: libc::c_int = 28;
const BPF_PROG_TYPE_XDP: u32 = 6;
const BPF_ATTACH_TYPE_XDP: u32 = 37;
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;

/// The head of `union bpf_attr` for `BPF_PROG_LOAD`.
#[repr(C)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
}

/// The head of `union bpf_attr` for `BPF_LINK_CREATE`.
#[repr(C)]
struct LinkCreate {
    prog_fd: u32,
    target_ifindex: u32,
    attach_type: u32,
    flags: u32,
}

fn bpf<T>(command: libc::c_int, attr: &T) -> io::Result<OwnedFd> {
    // SAFETY: `attr` is the command's part of `union bpf_attr` and its size goes along; both commands only
    // read it.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attr), size_of::<T>()) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel has just given us this descriptor, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Attaches `return XDP_PASS` natively to interface `ifindex` of the current network namespace, until the
/// link is dropped.
pub fn attach_xdp_pass(ifindex: u32) -> io::Result<OwnedFd> {
    // r0 = XDP_PASS; exit
    let program: [u64; 2] = [0x0000_0002_0000_00b7, 0x95];
    let load = ProgLoad {
        prog_type: BPF_PROG_TYPE_XDP,
        insn_cnt: 2,
        insns: program.as_ptr().addr() as u64,
        license: c"GPL".as_ptr().addr() as u64,
        log_level: 0,
        log_size: 0,
        log_buf: 0,
        kern_version: 0,
        prog_flags: 0,
    };
    let program = bpf(BPF_PROG_LOAD, &load)?;
    bpf(
        BPF_LINK_CREATE,
        &LinkCreate {
            prog_fd: program.as_raw_fd().cast_unsigned(),
            target_ifindex: ifindex,
            attach_type: BPF_ATTACH_TYPE_XDP,
            flags: XDP_FLAGS_DRV_MODE,
        },
    )
}
