//! Zeros: to write them, and to see that they are there.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use crate::sys;

/// Bytes written at once.
const AT_ONCE: usize = 4 << 20;
/// Bytes that are zeroed between two looks at how far it is.
const STEP: u64 = 256 << 20;
/// Bytes that are read back at either end: partition tables and their copies, and the heads of file systems.
const ENDS: u64 = 4 << 20;
/// How many places in between are read, and how many bytes at each.
const SAMPLES: u64 = 1024;
const SAMPLE: usize = 4096;

/// How zeros get onto a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Means {
    /// By the quickest command that the disk has; the kernel writes them where it has none.
    Quickest,
    /// Each block is written.
    Write,
}

/// Zeroes a range; says after each part how many bytes that was.
pub(crate) fn zero(
    disk: &File,
    range: (u64, u64),
    means: Means,
    tell: &mut dyn FnMut(u64),
) -> io::Result<()> {
    let (mut at, end) = range;
    let zeros = vec![0; AT_ONCE];
    let mut means = means;
    while at < end {
        let bytes = (end - at).min(if means == Means::Quickest { STEP } else { AT_ONCE as u64 });
        if means == Means::Quickest {
            match sys::zero_out(disk, at, bytes) {
                Ok(()) => {
                    tell(bytes);
                    at += bytes;
                    continue;
                }
                Err(error) if error.raw_os_error() == Some(libc::EIO) => return Err(error),
                // It is no block device, or its blocks do not divide the range.
                Err(_) => means = Means::Write,
            }
        }
        let some = bytes.min(AT_ONCE as u64);
        let part = zeros.get(..usize::try_from(some).unwrap_or(AT_ONCE)).unwrap_or(&zeros);
        disk.write_all_at(part, at)?;
        tell(some);
        at += some;
    }
    disk.sync_all()
}

/// Reads back what was zeroed: both ends, and places all over the disk. Gives the first place that has something else.
pub(crate) fn first_that_is_not_zero(disk: &File, size: u64) -> io::Result<Option<u64>> {
    sys::forget_buffers(disk);
    let mut buffer = vec![0; SAMPLE];
    let ends = ENDS.min(size);
    let head = (0..ends).step_by(SAMPLE);
    let tail = (size - ends..size).step_by(SAMPLE);
    let stride = (size / SAMPLES).max(1);
    // Another place in each part of the disk, so that what lies at regular places does not slip through.
    let sample = |number: u64| {
        let within = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % stride;
        (number * stride + within) & !(SAMPLE as u64 - 1)
    };
    let samples = (0..SAMPLES).map(sample);
    for at in head.chain(tail).chain(samples).filter(|at| *at < size) {
        let length = usize::try_from((size - at).min(SAMPLE as u64)).unwrap_or(SAMPLE);
        let part = buffer.get_mut(..length).unwrap_or_default();
        disk.read_exact_at(part, at)?;
        if let Some(inside) = part.iter().position(|byte| *byte != 0) {
            return Ok(Some(at + inside as u64));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(bytes: &[u8]) -> File {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(bytes, 0).unwrap();
        file
    }

    #[test]
    fn what_was_written_reads_as_zeros_whatever_the_size() {
        for size in [0, 1, 4095, 4097, 9_000_001] {
            for means in [Means::Quickest, Means::Write] {
                let disk = disk(&vec![0xa5; size]);
                let (size, mut told) = (size as u64, 0);
                zero(&disk, (0, size), means, &mut |bytes| told += bytes).unwrap();
                assert_eq!((told, disk.metadata().unwrap().len()), (size, size));
                assert_eq!(first_that_is_not_zero(&disk, size).unwrap(), None);
                let mut all = vec![1; size as usize];
                disk.read_exact_at(&mut all, 0).unwrap();
                assert!(all.iter().all(|byte| *byte == 0));
            }
        }
    }

    #[test]
    fn data_at_either_end_and_anywhere_in_bulk_is_found() {
        let size = 40_000_000u64;
        for at in [0, 1, size - 1, size - (4 << 20)] {
            let disk = disk(&[]);
            disk.set_len(size).unwrap();
            disk.write_all_at(&[7; 1], at).unwrap();
            let found = first_that_is_not_zero(&disk, size).unwrap();
            assert_eq!(found, Some(at));
        }
        let disk = disk(&[]);
        disk.set_len(size).unwrap();
        disk.write_all_at(&vec![7; 200_000], 20_000_000).unwrap();
        let found = first_that_is_not_zero(&disk, size).unwrap();
        assert!(found.is_some_and(|at| (20_000_000..20_200_000).contains(&at)), "{found:?}");
    }
}
