//! The calls of bpf(2) that aya has no function for.
#![expect(unsafe_code, reason = "bpf(2) reads and writes what it is pointed at")]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

const BPF_OBJ_GET: libc::c_int = 7;
const BPF_LINK_DETACH: libc::c_int = 34;

/// Takes a pinned link's program off its interface.
///
/// # Errors
/// As the kernel gives them.
pub(super) fn detach_link(pin: &Path) -> io::Result<()> {
    #[repr(C)]
    struct Detach {
        link_fd: u32,
    }
    let link = open(pin)?;
    let detach = Detach { link_fd: u32::try_from(link.as_raw_fd()).map_err(io::Error::other)? };
    // SAFETY: the descriptor is open; the kernel checks that it is a link.
    unsafe { bpf(BPF_LINK_DETACH, &detach) }.map(drop)
}

/// The number of the interface that a pinned link's program is on, 0 where that is gone; nothing if there is no such pin.
pub(super) fn ifindex_of(pin: &Path) -> Option<u32> {
    let link = open(pin).ok()?;
    let says = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", link.as_raw_fd())).ok()?;
    let ifindex = says.lines().find_map(|line| line.strip_prefix("ifindex:"))?;
    ifindex.trim().parse().ok()
}

fn open(pin: &Path) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Get {
        pathname: u64,
        bpf_fd: u32,
        file_flags: u32,
    }
    let path = CString::new(pin.as_os_str().as_bytes())?;
    let get = Get { pathname: path.as_ptr() as u64, bpf_fd: 0, file_flags: 0 };
    // SAFETY: the path ends with NUL and lives through the call.
    let fd = unsafe { bpf(BPF_OBJ_GET, &get) }?;
    let fd = libc::c_int::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// # Safety
/// `attributes` is what the command reads, and what it points at lives through the call.
unsafe fn bpf<T>(command: libc::c_int, attributes: &T) -> io::Result<libc::c_long> {
    // SAFETY: the caller's promise; the kernel reads no more than the size it is told.
    match unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>()) } {
        -1 => Err(io::Error::last_os_error()),
        value => Ok(value),
    }
}
