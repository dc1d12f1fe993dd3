//! Wiping a disk: whatever the means, it reads as zeros afterwards, or the wipe has failed.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use boot_agent_protocol::{Disk, Wipe};

use crate::sys::{self, NvmeCommand};
use crate::zero::{Means, first_that_is_not_zero, zero};

/// A format of a large disk may take this long.
const FORMAT: u32 = 4 * 3_600_000;
/// NVM Express 5.x: Identify, and Format NVM.
const IDENTIFY: u8 = 0x06;
const FORMAT_NVM: u8 = 0x80;
/// Format NVM, secure erase settings: user data erase.
const USER_DATA_ERASE: u32 = 1 << 9;

/// Wipes a disk of the machine. `tell` hears of each part how many bytes it was.
pub(crate) fn wipe(disk: &Disk, method: Wipe, tell: &mut dyn FnMut(u64)) -> Result<()> {
    let path = Path::new("/dev").join(&disk.name);
    let size = {
        // Exclusively, so that nothing that is mounted or mapped is written to.
        let device = open(&path, libc::O_EXCL)?;
        sys::block_size(&device).with_context(|| format!("ask for the size of {}", path.display()))?
    };
    let is_nvme = disk.transport == "nvme";
    if is_nvme && matches!(method, Wipe::Auto | Wipe::Format) {
        let formatted = open(&path, 0).and_then(|device| Ok(format(&device)?));
        match formatted {
            Ok(()) => {}
            Err(error) if method == Wipe::Format => {
                return Err(error).with_context(|| format!("{} cannot be formatted", disk.name));
            }
            Err(_) => discard(&path, size)?,
        }
    } else if method == Wipe::Discard || (method == Wipe::Auto && !disk.rotational) {
        discard(&path, size)?;
    }
    wipe_file(&path, size, method, tell)
}

/// Zeroes all of a disk or file, and reads back.
///
/// # Errors
/// It cannot be written, or has something else than zeros afterwards.
pub fn wipe_file(path: &Path, size: u64, method: Wipe, tell: &mut dyn FnMut(u64)) -> Result<()> {
    let device = open(path, 0)?;
    let means = if method == Wipe::Overwrite { Means::Write } else { Means::Quickest };
    zero(&device, (0, size), means, tell).with_context(|| format!("write zeros to {}", path.display()))?;
    check(&device, path, size)
}

fn check(device: &File, path: &Path, size: u64) -> Result<()> {
    let found =
        first_that_is_not_zero(device, size).with_context(|| format!("read back {}", path.display()))?;
    match found {
        None => Ok(()),
        Some(at) => bail!("{} has data at byte {at} after it was wiped: replace the disk", path.display()),
    }
}

fn open(path: &Path, flags: i32) -> Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(flags);
    options.open(path).with_context(|| format!("open {}", path.display()))
}

/// Gives a disk's blocks back. One that cannot is zeroed all the same.
fn discard(path: &Path, size: u64) -> Result<()> {
    let device = open(path, 0)?;
    drop(sys::discard(&device, 0, size));
    Ok(())
}

/// Formats an NVMe namespace as it is formatted now, and erases its user data.
fn format(device: &File) -> io::Result<()> {
    let namespace = sys::nvme_namespace(device)?;
    let mut identified = [0; 4096];
    let identify = NvmeCommand::new(IDENTIFY, namespace, 0, 0);
    sys::nvme_admin(device, identify, &mut identified)?;
    let cdw10 = format_as(identified[26]) | USER_DATA_ERASE;
    let format = NvmeCommand::new(FORMAT_NVM, namespace, cdw10, FORMAT);
    sys::nvme_admin(device, format, &mut [])
}

/// The format of a namespace (FLBAS of Identify Namespace) as Format NVM wants it: LBAFL, MSET and LBAFU.
fn format_as(flbas: u8) -> u32 {
    let flbas = u32::from(flbas);
    (flbas & 0x0f) | (flbas & 0x10) | ((flbas & 0x60) << 7)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;

    use super::*;

    #[test]
    fn a_disk_full_of_data_reads_as_zeros() {
        for method in [Wipe::Auto, Wipe::Discard, Wipe::Overwrite] {
            let file = tempfile::NamedTempFile::new().unwrap();
            let size = 10_000_000;
            file.as_file().write_all_at(&vec![0x5a; size], 0).unwrap();
            let mut done = 0;
            wipe_file(file.path(), size as u64, method, &mut |bytes| done += bytes).unwrap();
            let read = std::fs::read(file.path()).unwrap();
            assert!(read.len() == size && read.iter().all(|byte| *byte == 0), "{method:?}");
            assert_eq!(done, size as u64);
        }
    }

    #[test]
    fn data_that_is_still_there_fails_the_wipe() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(1 << 20).unwrap();
        file.as_file().write_all_at(b"secret", (1 << 20) - 6).unwrap();
        let error = check(file.as_file(), file.path(), 1 << 20).unwrap_err().to_string();
        assert!(error.contains("has data at byte 1048570"), "{error}");
    }

    #[test]
    fn a_disk_that_is_not_there_is_an_error() {
        assert!(wipe_file(Path::new("/nonexistent/disk"), 7, Wipe::Auto, &mut |_| {}).is_err());
    }

    #[test]
    fn a_namespace_keeps_its_format() {
        assert_eq!([0x00, 0x01, 0x13, 0x21].map(format_as), [0, 1, 0x13, 1 | 1 << 12]);
    }
}
