//! Memory that the daemon shares with the kernel half, or has for itself where there is none.
#![expect(unsafe_code, reason = "memory that programs in the kernel read and write at the same time")]

use std::fs::File;
use std::io;
use std::marker::PhantomData;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;

use boot_common::tftp::{Chunk, Flight, Sums};
use nix::errno::Errno;
use nix::fcntl::posix_fallocate;
use rustix::fs::{FsWord, fstatfs};
use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};

use boot_engine::tftp::Flights;

/// An array of `T` in memory that somebody else may read and write too, so it is copied in and out, never borrowed.
/// Only what is made of [`Word`](boot_common::tftp::Word)s can be looked at in place.
#[derive(Debug)]
pub struct Mapping<T> {
    start: NonNull<u8>,
    count: usize,
    bytes: usize,
    of: PhantomData<T>,
}

// SAFETY: plain memory for as long as the mapping lives. Who writes what when is the callers' matter: an image is
// written by the one who has reserved its place, before anybody learns of that.
unsafe impl<T: Shared> Send for Mapping<T> {}
// SAFETY: as above.
unsafe impl<T: Shared> Sync for Mapping<T> {}

/// What may stand in a [`Mapping`].
///
/// # Safety
/// Any bytes are a value, and the size is a multiple of 8, which is how the kernel's arrays are laid out.
pub unsafe trait Shared {}
// SAFETY: words only.
unsafe impl Shared for Flight {}
// SAFETY: bytes only.
unsafe impl Shared for Chunk {}
// SAFETY: numbers only.
unsafe impl Shared for Sums {}
const _: () = assert!(
    size_of::<Flight>().is_multiple_of(8)
        && size_of::<Chunk>().is_multiple_of(8)
        && size_of::<Sums>().is_multiple_of(8)
);

impl<T: Shared> Mapping<T> {
    /// Memory of this process, which costs nothing until it is used.
    ///
    /// # Errors
    /// Out of memory.
    pub fn own(count: usize) -> io::Result<Self> {
        let bytes = Self::whole_pages(count);
        // SAFETY: a new mapping at an address of the kernel's choice.
        let start = unsafe {
            mmap_anonymous(
                std::ptr::null_mut(),
                bytes,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE | MapFlags::NORESERVE,
            )
        }?;
        Self::at(start, count, bytes)
    }

    /// Memory that stays in a file when the process ends. All of it has its place on the disk: writing to a hole would
    /// end the process when the disk is full.
    ///
    /// # Errors
    /// When the disk has no room for it, the file system keeps none, or the file cannot be mapped.
    pub fn of_file(file: &File, count: usize) -> io::Result<Self> {
        if !keeps_places(fstatfs(file)?.f_type) {
            let why = "its file system writes elsewhere what is overwritten, so that no room can be kept";
            return Err(io::Error::new(io::ErrorKind::Unsupported, why));
        }
        let bytes = Self::whole_pages(count);
        file.set_len(bytes as u64)?;
        if let Err(error) = allocate(file, bytes) {
            // Part of it may have been found.
            file.set_len(0)?;
            return Err(error);
        }
        // SAFETY: a new mapping at an address of the kernel's choice, of a file that only we make shorter.
        let start = unsafe {
            mmap(std::ptr::null_mut(), bytes, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, file, 0)
        }?;
        Self::at(start, count, bytes)
    }

    /// The elements of an array in the kernel that was made with `BPF_F_MMAPABLE`.
    ///
    /// # Errors
    /// When the array is another one, or out of memory.
    pub fn of_table(table: BorrowedFd<'_>, count: usize) -> io::Result<Self> {
        let bytes = Self::whole_pages(count);
        // SAFETY: a new mapping at an address of the kernel's choice; the kernel checks the array's length.
        let start = unsafe {
            mmap(std::ptr::null_mut(), bytes, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, table, 0)
        }?;
        Self::at(start, count, bytes)
    }

    fn at(start: *mut std::ffi::c_void, count: usize, bytes: usize) -> io::Result<Self> {
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, count, bytes, of: PhantomData })
    }

    fn whole_pages(count: usize) -> usize {
        (count.max(1) * size_of::<T>()).next_multiple_of(rustix::param::page_size())
    }

    /// Elements.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// Writes into an element from its byte `at` on. False, and nothing is written, past the element's end.
    #[must_use]
    pub fn write(&self, element: usize, at: usize, bytes: &[u8]) -> bool {
        let Some(start) = self.offset(element, at, bytes.len()) else { return false };
        // SAFETY: within the mapping, which no slice overlaps.
        unsafe { self.start.add(start).copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len()) };
        true
    }

    /// Reads from an element. False, and nothing is read, past the element's end.
    #[must_use]
    pub fn read(&self, element: usize, at: usize, bytes: &mut [u8]) -> bool {
        let Some(start) = self.offset(element, at, bytes.len()) else { return false };
        // SAFETY: within the mapping, which no slice overlaps.
        unsafe {
            self.start.add(start).copy_to_nonoverlapping(NonNull::from(&mut *bytes).cast(), bytes.len());
        };
        true
    }

    fn offset(&self, element: usize, at: usize, length: usize) -> Option<usize> {
        let fits = element < self.count && at.checked_add(length)? <= size_of::<T>();
        fits.then(|| element * size_of::<T>() + at)
    }
}

/// Whether what was allocated in a file may be written over whatever else fills the disk. Where every change is written
/// to a new place, `posix_fallocate` succeeds and promises nothing. The numbers are those of linux/magic.h and of the
/// file systems' own sources.
fn keeps_places(file_system: FsWord) -> bool {
    const BTRFS: u32 = 0x9123_683e;
    const ZFS: u32 = 0x2fc1_2fc1;
    const BCACHEFS: u32 = 0xca45_1a4e;
    ![BTRFS, ZFS, BCACHEFS].contains(&(file_system as u32))
}

fn allocate(file: &File, bytes: usize) -> io::Result<()> {
    let bytes = bytes.try_into().map_err(|_| io::ErrorKind::FileTooLarge)?;
    loop {
        match posix_fallocate(file, 0, bytes) {
            Err(Errno::EINTR) => {}
            done => return Ok(done?),
        }
    }
}

impl Flights for Mapping<Flight> {
    fn all(&self) -> &[Flight] {
        // SAFETY: `count` flights, all of whose fields may change under a shared reference.
        unsafe { std::slice::from_raw_parts(self.start.cast().as_ptr(), self.count) }
    }
}

impl<T> Drop for Mapping<T> {
    fn drop(&mut self) {
        // SAFETY: mapped by us with this length, and no reference outlives self.
        if let Err(error) = unsafe { munmap(self.start.as_ptr().cast(), self.bytes) } {
            tracing::debug!("unmapping shared memory: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use boot_common::tftp::State;

    use super::*;

    #[test]
    fn elements_are_kept_apart() {
        let mapping = Mapping::<Chunk>::own(2).unwrap();
        assert!(mapping.write(1, 5, b"image"));
        let mut read = [0; 5];
        assert!(mapping.read(1, 5, &mut read));
        assert_eq!(&read, b"image");
        assert!(
            mapping.write(0, size_of::<Chunk>() - 1, b"i")
                && !mapping.write(0, size_of::<Chunk>() - 1, b"im")
        );
        assert!(!mapping.write(2, 0, b"i") && !mapping.read(2, 0, &mut read));
        let flights = Mapping::<Flight>::own(3).unwrap();
        assert_eq!((flights.all().len(), flights.all()[2].state()), (3, State { sent: 0, acked: 0 }));
    }

    #[test]
    fn no_file_is_memory_where_every_change_needs_new_room() {
        let [btrfs, ext4, tmpfs] = [0x9123_683e_u32, 0xef53, 0x0102_1994].map(|number| number as FsWord);
        assert!(!keeps_places(btrfs) && keeps_places(ext4) && keeps_places(tmpfs));
    }

    #[test]
    fn a_file_of_memory_has_no_holes_and_keeps_what_is_written() {
        use std::os::unix::fs::MetadataExt;

        let file = tempfile::tempfile().unwrap();
        let mapping = Mapping::<Chunk>::of_file(&file, 3).unwrap();
        assert!(mapping.write(2, 7, b"image"));
        drop(mapping);
        let facts = file.metadata().unwrap();
        assert!(facts.blocks() * 512 >= facts.len() && facts.len() >= 3 * size_of::<Chunk>() as u64);
        let mut read = [0; 5];
        assert!(Mapping::<Chunk>::of_file(&file, 3).unwrap().read(2, 7, &mut read));
        assert_eq!(&read, b"image");
    }
}
