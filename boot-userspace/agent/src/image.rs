//! Writing an image to a disk.
//!
//! The first megabyte comes last, when the digest of the whole stream has been found right: a disk with anything else on it
//! than the image that was meant has no partition table and boots nowhere.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::StreamingDecoder;
use sha2::{Digest as _, Sha256};

use crate::sys;

/// Bytes written at once, and held back at the beginning.
const AT_ONCE: usize = 1 << 20;
/// The first bytes of what is compressed.
const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Writes a stream to a disk or file: raw, or compressed by gzip or zstd, which its first bytes tell. `tell` hears how many
/// bytes of the stream were read, after each part. Gives the bytes that were written.
///
/// # Errors
/// The stream ends early, has another digest, or does not fit. The disk's first megabyte is zeros then.
pub fn write(
    stream: impl Read,
    length: u64,
    sha256: &str,
    disk: &Path,
    tell: &mut dyn FnMut(u64),
) -> Result<u64> {
    let opened = OpenOptions::new().read(true).write(true).open(disk);
    let disk_file = opened.with_context(|| format!("open {}", disk.display()))?;
    // Whatever was there does not boot from here on.
    let head = vec![0; AT_ONCE];
    blank(&disk_file, &head)?;
    let mut source = Hashed { inner: stream, hash: Sha256::new(), read: 0, tell };
    let written = fill(&mut source, length, sha256, &disk_file);
    match written {
        Ok((head, written)) => {
            disk_file
                .write_all_at(&head, 0)
                .and_then(|()| disk_file.sync_all())
                .context("write the first megabyte")?;
            sys::forget_buffers(&disk_file);
            let mut back = vec![0; head.len()];
            disk_file.read_exact_at(&mut back, 0).context("read back the first megabyte")?;
            ensure!(
                back == head,
                "{} does not have what was written to it: replace the disk",
                disk.display()
            );
            Ok(written)
        }
        Err(error) => {
            blank(&disk_file, &head).ok();
            Err(error)
        }
    }
}

/// Zeros at the beginning, as far as the disk goes.
fn blank(disk: &File, zeros: &[u8]) -> Result<()> {
    disk.write_all_at(zeros, 0).and_then(|()| disk.sync_all()).context("write to the disk")
}

/// Writes everything but the beginning, which is given back once the digest is right.
fn fill<R: Read>(
    source: &mut Hashed<'_, R>,
    length: u64,
    sha256: &str,
    disk: &File,
) -> Result<(Vec<u8>, u64)> {
    let mut start = [0; 4];
    let got = read_full(source, &mut start).context("fetch the image")?;
    let start = start.get(..got).unwrap_or_default();
    let whole = io::Cursor::new(start.to_vec()).chain(&mut *source);
    let (head, written) = if start.starts_with(&GZIP) {
        copy(&mut MultiGzDecoder::new(io::BufReader::with_capacity(AT_ONCE, whole)), disk)?
    } else if start == ZSTD {
        copy(&mut Frames::new(io::BufReader::with_capacity(AT_ONCE, whole)), disk)?
    } else {
        let mut whole = whole;
        copy(&mut whole, disk)?
    };
    // What is behind the end of what was compressed belongs to the digest, too.
    io::copy(source, &mut io::sink()).context("fetch the image")?;
    ensure!(source.read == length, "the image ended after {} of {length} bytes", source.read);
    let found: String = source.hash.clone().finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    if !found.eq_ignore_ascii_case(sha256) {
        bail!("the image has SHA-256 {found}, and not {sha256}: mend image.sha256 or the file");
    }
    ensure!(written > 0, "the image is empty");
    Ok((head, written))
}

fn copy(from: &mut dyn Read, disk: &File) -> Result<(Vec<u8>, u64)> {
    let mut head = vec![0; AT_ONCE];
    let got = read_full(from, &mut head).context("fetch the image")?;
    head.truncate(got);
    let mut at = got as u64;
    let mut buffer = vec![0; AT_ONCE];
    loop {
        let got = read_full(from, &mut buffer).context("fetch the image")?;
        if got == 0 {
            return Ok((head, at));
        }
        let part = buffer.get(..got).unwrap_or_default();
        disk.write_all_at(part, at)
            .with_context(|| format!("write to the disk at byte {at}: is it smaller than the image?"))?;
        at += got as u64;
    }
}

/// Reads until the buffer is full or the stream ends.
fn read_full(from: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut got = 0;
    while let Some(rest) = buffer.get_mut(got..).filter(|rest| !rest.is_empty()) {
        match from.read(rest) {
            Ok(0) => break,
            Ok(bytes) => got += bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(got)
}

/// A stream whose digest is taken as it is read.
struct Hashed<'t, R> {
    inner: R,
    hash: Sha256,
    read: u64,
    tell: &'t mut dyn FnMut(u64),
}

impl<R: Read> Read for Hashed<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.inner.read(buffer)?;
        self.hash.update(buffer.get(..got).unwrap_or_default());
        self.read += got as u64;
        (self.tell)(got as u64);
        Ok(got)
    }
}

/// The frames of a zstd stream, one after the other: tools that use several threads write several.
struct Frames<R: Read> {
    state: State<R>,
}

enum State<R: Read> {
    Between(R),
    Inside(Box<StreamingDecoder<R, ruzstd::decoding::FrameDecoder>>),
    Ended,
}

impl<R: io::BufRead> Frames<R> {
    fn new(from: R) -> Self {
        Self { state: State::Between(from) }
    }
}

impl<R: io::BufRead> Read for Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match std::mem::replace(&mut self.state, State::Ended) {
                State::Ended => return Ok(0),
                State::Between(mut from) => {
                    if from.fill_buf()?.is_empty() {
                        return Ok(0);
                    }
                    let frame = StreamingDecoder::new(from).map_err(|error| {
                        io::Error::new(io::ErrorKind::InvalidData, format!("zstd: {error}"))
                    })?;
                    self.state = State::Inside(Box::new(frame));
                }
                State::Inside(mut frame) => {
                    let got = frame.read(buffer)?;
                    if got > 0 || buffer.is_empty() {
                        self.state = State::Inside(frame);
                        return Ok(got);
                    }
                    self.state = State::Between(frame.into_inner());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn image() -> Vec<u8> {
        (0..3_000_000u32).map(|at| (at * 7 % 253) as u8).collect()
    }

    fn digest(bytes: &[u8]) -> String {
        Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut to = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        to.write_all(bytes).unwrap();
        to.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
    }

    /// A disk full of something else.
    fn disk() -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().write_all_at(&vec![0xee; 4_000_000], 0).unwrap();
        file
    }

    fn write_to(disk: &Path, stream: &[u8], sha256: &str, length: u64) -> Result<u64> {
        let mut told = 0;
        let written = write(stream, length, sha256, disk, &mut |bytes| told += bytes);
        if written.is_ok() {
            assert_eq!(told, stream.len() as u64);
        }
        written
    }

    #[test]
    fn raw_gzip_and_zstd_come_out_as_the_image_also_in_several_pieces() {
        let image = image();
        let (one, two) = image.split_at(1_234_567);
        for stream in [
            image.clone(),
            gzip(&image),
            zstd(&image),
            [gzip(one), gzip(two)].concat(),
            [zstd(one), zstd(two)].concat(),
        ] {
            let disk = disk();
            let written = write_to(disk.path(), &stream, &digest(&stream), stream.len() as u64).unwrap();
            assert_eq!(written, image.len() as u64);
            let read = std::fs::read(disk.path()).unwrap();
            assert!(read[..image.len()] == image && read[image.len()..].iter().all(|byte| *byte == 0xee));
        }
    }

    /// Nothing of these boots.
    #[test]
    fn a_wrong_digest_a_cut_stream_and_a_damaged_one_leave_no_beginning() {
        let image = image();
        let packed = zstd(&image);
        let gzipped = gzip(&image);
        let mut damaged = gzipped.clone();
        let middle = damaged.len() / 2;
        damaged[middle] ^= 0xff;
        for (stream, sha256, length, says) in [
            (&image[..], digest(b"another"), image.len(), "has SHA-256"),
            (&image[..2_000_000], digest(&image), image.len(), "ended after 2000000 of 3000000"),
            (&packed[..packed.len() - 9], digest(&packed), packed.len(), ""),
            (&gzipped[..gzipped.len() - 9], digest(&gzipped), gzipped.len(), ""),
            (&damaged[..], digest(&damaged), damaged.len(), ""),
            (&[][..], digest(&[]), 0, "empty"),
        ] {
            let disk = disk();
            let error = write_to(disk.path(), stream, &sha256, length as u64).unwrap_err();
            assert!(format!("{error:#}").contains(says), "{error:#}");
            let read = std::fs::read(disk.path()).unwrap();
            assert!(read[..AT_ONCE].iter().all(|byte| *byte == 0), "{error:#}");
        }
    }
}
