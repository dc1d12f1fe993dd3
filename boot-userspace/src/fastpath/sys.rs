//! The calls of bpf(2) that aya has no function for.
#![expect(unsafe_code, reason = "bpf(2) reads and writes what it is pointed at")]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use zerocopy::{Immutable, IntoBytes};

const BPF_OBJ_GET: libc::c_int = 7;
const BPF_PROG_GET_FD_BY_ID: libc::c_int = 13;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const BPF_PROG_QUERY: libc::c_int = 16;
const BPF_MAP_UPDATE_BATCH: libc::c_int = 26;
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

/// Writes several entries of a table, in their order, of which the kernel may have taken some when it fails: Linux 5.6.
///
/// # Errors
/// As the kernel gives them.
pub(super) fn update_batch<K: IntoBytes + Immutable, V: IntoBytes + Immutable>(
    table: BorrowedFd<'_>,
    keys: &[K],
    values: &[V],
) -> io::Result<()> {
    #[repr(C)]
    struct Batch {
        in_batch: u64,
        out_batch: u64,
        keys: u64,
        values: u64,
        count: u32,
        map_fd: u32,
        elem_flags: u64,
        flags: u64,
    }
    let mut batch = Batch {
        in_batch: 0,
        out_batch: 0,
        keys: keys.as_ptr() as u64,
        values: values.as_ptr() as u64,
        count: u32::try_from(keys.len().min(values.len())).map_err(io::Error::other)?,
        map_fd: u32::try_from(table.as_raw_fd()).map_err(io::Error::other)?,
        elem_flags: 0,
        flags: 0,
    };
    // SAFETY: the kernel reads `count` keys and values of the sizes that the table was made with, which outlive the call,
    // and writes how many it has taken to `count`.
    unsafe { bpf_writes(BPF_MAP_UPDATE_BATCH, &mut batch) }.map(drop)
}

/// The number of the interface that a pinned link's program is on, 0 where that is gone; nothing if there is no such pin.
pub(super) fn ifindex_of(pin: &Path) -> Option<u32> {
    about(&open(pin).ok()?, "ifindex:")
}

/// The number of a pinned link's program.
pub(super) fn pinned_program(pin: &Path) -> Option<u32> {
    about(&open(pin).ok()?, "prog_id:")
}

/// What the kernel tells of a descriptor, by its name in `/proc/self/fdinfo`.
fn about(link: &OwnedFd, what: &str) -> Option<u32> {
    let says = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", link.as_raw_fd())).ok()?;
    says.lines().find_map(|line| line.strip_prefix(what))?.trim().parse().ok()
}

/// The programs at an interface's tcx ingress hook, in the order in which they run.
///
/// # Errors
/// As the kernel gives them; before Linux 6.6 there is no such hook.
pub(super) fn tcx_programs(ifindex: u32) -> io::Result<Vec<u32>> {
    #[repr(C)]
    #[derive(Default)]
    struct Query {
        target_ifindex: u32,
        attach_type: u32,
        query_flags: u32,
        attach_flags: u32,
        prog_ids: u64,
        count: u32,
        reserved: u32,
        prog_attach_flags: u64,
        link_ids: u64,
        link_attach_flags: u64,
        revision: u64,
    }
    const BPF_TCX_INGRESS: u32 = 46;
    // As many as tcx takes.
    let mut ids = [0_u32; 64];
    let mut query = Query {
        target_ifindex: ifindex,
        attach_type: BPF_TCX_INGRESS,
        prog_ids: ids.as_mut_ptr() as u64,
        count: ids.len() as u32,
        ..Query::default()
    };
    // SAFETY: the kernel writes at most `count` numbers, which outlive the call, and the count.
    unsafe { bpf_writes(BPF_PROG_QUERY, &mut query) }?;
    Ok(ids.into_iter().take(query.count as usize).collect())
}

/// The name of a program, as it was loaded with: at most 15 bytes.
///
/// # Errors
/// EPERM without CAP_SYS_ADMIN, ENOENT when it is gone.
pub(super) fn program_name(id: u32) -> io::Result<String> {
    #[repr(C)]
    struct GetById {
        id: u32,
        next_id: u32,
        open_flags: u32,
    }
    /// The head of `struct bpf_prog_info`, up to the name.
    #[repr(C)]
    struct Info {
        before: [u64; 8],
        name: [u8; 16],
    }
    #[repr(C)]
    struct GetInfo {
        fd: u32,
        length: u32,
        info: u64,
    }
    // SAFETY: the command only reads.
    let fd = unsafe { bpf(BPF_PROG_GET_FD_BY_ID, &GetById { id, next_id: 0, open_flags: 0 }) }?;
    let fd = libc::c_int::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made this descriptor for us.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let mut info = Info { before: [0; 8], name: [0; 16] };
    let mut get = GetInfo {
        fd: u32::try_from(fd.as_raw_fd()).map_err(io::Error::other)?,
        length: size_of::<Info>() as u32,
        info: (&raw mut info) as u64,
    };
    // SAFETY: the kernel writes at most `length` bytes to `info`, which outlives the call, and the length.
    unsafe { bpf_writes(BPF_OBJ_GET_INFO_BY_FD, &mut get) }?;
    let name: Vec<u8> = info.name.into_iter().take_while(|byte| *byte != 0).collect();
    Ok(String::from_utf8_lossy(&name).into_owned())
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

/// As [`bpf`], for a command that writes to its attributes too.
///
/// # Safety
/// As there, and what the kernel writes is what the attributes say.
unsafe fn bpf_writes<T>(command: libc::c_int, attributes: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: the caller's promise.
    match unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<T>()) } {
        -1 => Err(io::Error::last_os_error()),
        value => Ok(value),
    }
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
