//! A file that commits are appended to, so that one small write and one fdatasync make a lease durable.
//!
//! The file has a head (magic, epoch, their checksum) and records (length, checksum, changes). Its room is written with
//! zeros before it is used: a commit that changes neither length nor extents of a file costs the disk a tenth of one that
//! does. Emptying writes a head with a later epoch: the checksums of old records are of the earlier one, so they count
//! no more. What ends in a record that is not whole was never confirmed to anybody.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::Change;
use super::encoding::{decode, encode, may_begin};
use super::file_id::{FileId, remove};

const MAGIC: [u8; 8] = *b"xpxe\0LJ1";
/// Bytes of a file's head, and of a record's.
const HEAD: u64 = 64;
const RECORD_HEAD: usize = 12;
/// A file has whole chunks of so many bytes.
const CHUNK: u64 = 32 << 10;
/// How many bytes a file has at most: some 25,000 leases.
const CAPACITY: u64 = 1 << 20;

/// A journal's file and where it ends.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    /// None after a failure: a file that is open for writing keeps its disk from being mounted read-only.
    file: Option<File>,
    /// Which file is this journal.
    id: Option<FileId>,
    epoch: u64,
    end: u64,
    length: u64,
}

/// What a file had.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Later than that of a file that was written before.
    pub(super) epoch: u64,
    /// Everything that was committed to it.
    pub(super) changes: Vec<Change>,
    /// Something that was committed is not there any more.
    pub(super) is_damaged: bool,
}

/// Reads a file that may be in use. One that is not there is empty.
pub(super) fn read(path: &Path) -> io::Result<Found> {
    let file = match open(OpenOptions::new().read(true), path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::default()),
        opened => opened?,
    };
    // No journal is longer.
    let mut bytes = Vec::new();
    file.take(CAPACITY).read_to_end(&mut bytes)?;
    Ok(parse(&bytes))
}

/// Opens a file, and nothing else that may have its name: a pipe would be waited for.
fn open(how: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let file = how.custom_flags(libc::O_NONBLOCK).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is no file: move it away")) }
}

/// Whether a journal is missing, or another one's copy: a start makes both, with different epochs.
pub(super) fn is_one_missing(found: &[Found; 2]) -> bool {
    let [first, second] = found.each_ref().map(|found| found.epoch);
    first == second || found.iter().any(|found| found.epoch == 0 && !found.is_damaged)
}

fn parse(bytes: &[u8]) -> Found {
    let mut found = Found::default();
    let Some(epoch) = epoch_of(bytes) else {
        found.is_damaged = bytes.iter().any(|byte| *byte != 0);
        return found;
    };
    found.epoch = epoch;
    let mut at = HEAD as usize;
    while let Some((payload, next)) = record(bytes, epoch, at) {
        let Some(changes) = decode(payload) else { break };
        found.changes.extend(changes);
        at = next;
    }
    // Each record is on the disk before the next one is written, so only the last one may be torn.
    // The length of one that is damaged may be, too: nothing tells where the next one begins.
    let has_hole = (at + 1..bytes.len()).any(|behind| record(bytes, epoch, behind).is_some());
    // It ends in zeros, whole chunks of them unless it was just growing.
    let rest = bytes.get(at..).unwrap_or_default();
    let is_cut = !(bytes.len() as u64).is_multiple_of(CHUNK)
        && (rest.is_empty() || rest.iter().any(|byte| *byte != 0));
    found.is_damaged = has_hole || is_cut;
    found
}

fn epoch_of(bytes: &[u8]) -> Option<u64> {
    let (magic, rest) = bytes.split_first_chunk::<8>()?;
    let (epoch, rest) = rest.split_first_chunk::<8>()?;
    let sum = rest.first_chunk::<8>()?;
    (*magic == MAGIC && *sum == checksum(&[magic, epoch]).to_le_bytes()).then(|| u64::from_le_bytes(*epoch))
}

fn length_at(bytes: &[u8], at: usize) -> Option<usize> {
    let length = u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?);
    usize::try_from(length).ok().filter(|length| *length > 0)
}

/// The whole record at an offset, and where the next one begins.
fn record(bytes: &[u8], epoch: u64, at: usize) -> Option<(&[u8], usize)> {
    let start = at.checked_add(RECORD_HEAD)?;
    let next = start.checked_add(length_at(bytes, at)?)?;
    let payload = bytes.get(start..next)?;
    let sum: [u8; 8] = bytes.get(at + 4..start)?.try_into().ok()?;
    // Without this, looking for records at every offset of what earlier epochs left takes a second.
    if !may_begin(payload) {
        return None;
    }
    (sum == sum_of(epoch, at as u64, payload).to_le_bytes()).then_some((payload, next))
}

fn sum_of(epoch: u64, at: u64, payload: &[u8]) -> u64 {
    checksum(&[&epoch.to_le_bytes(), &at.to_le_bytes(), payload])
}

/// FNV-1a, 64 bits.
fn checksum(parts: &[&[u8]]) -> u64 {
    let add = |sum: u64, byte: &u8| (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    parts.iter().copied().flatten().fold(0xcbf2_9ce4_8422_2325, add)
}

impl Journal {
    /// An empty one. What the file had is gone.
    pub(super) fn empty(path: PathBuf, epoch: u64) -> io::Result<Self> {
        let mut journal = Self { path, file: None, id: None, epoch, end: HEAD, length: 0 };
        journal.reset(epoch)?;
        Ok(journal)
    }

    /// Empties it, durably. The epoch must be later than that of every file that was written before.
    pub(super) fn reset(&mut self, epoch: u64) -> io::Result<()> {
        let mut head = [0; HEAD as usize + RECORD_HEAD];
        head[..8].copy_from_slice(&MAGIC);
        head[8..16].copy_from_slice(&epoch.to_le_bytes());
        let sum = checksum(&[&MAGIC, &epoch.to_le_bytes()]);
        head[16..24].copy_from_slice(&sum.to_le_bytes());
        self.with(|file, length| {
            grow(file, length, HEAD + 1)?;
            file.write_all_at(&head, 0)
        })?;
        (self.epoch, self.end) = (epoch, HEAD);
        Ok(())
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the file still has its name: what is in a file without a name is gone with the process. It waits for the
    /// disk.
    pub(super) fn is_kept(&self) -> bool {
        self.id.is_some() && FileId::at(&self.path) == self.id
    }

    /// The same without a look at its name, so it does not see a file that was moved elsewhere. It asks the kernel alone,
    /// not the disk.
    pub(super) fn is_linked(&self) -> bool {
        match &self.file {
            Some(file) => self.id.is_some() && file.metadata().is_ok_and(|about| about.nlink() > 0),
            None => self.is_kept(),
        }
    }

    /// Makes the file anew, in place of whatever has its name, with these changes in it, durably. They have to be all that
    /// it had.
    pub(super) fn make_anew(&mut self, changes: &[Change]) -> io::Result<()> {
        self.close();
        self.id = None;
        remove(&self.path)?;
        self.reset(self.epoch)?;
        let appended = if changes.is_empty() { Ok(()) } else { self.append(&encode(changes)) };
        if appended.is_err() {
            self.id = None;
        }
        appended
    }

    /// Whether there is room for a record of so many bytes.
    pub(super) fn has_room(&self, payload: usize) -> bool {
        self.end + (payload + RECORD_HEAD) as u64 <= CAPACITY
    }

    /// Whether a file has room for a record of so many bytes when it is empty.
    pub(super) fn could_have_room(payload: usize) -> bool {
        HEAD + (payload + RECORD_HEAD) as u64 <= CAPACITY
    }

    /// Appends a record. When it returns `Ok` that survives a power cut; else the next record takes its place.
    pub(super) fn append(&mut self, payload: &[u8]) -> io::Result<()> {
        let length = u32::try_from(payload.len()).map_err(io::Error::other)?;
        let (at, epoch) = (self.end, self.epoch);
        let mut record = Vec::with_capacity(RECORD_HEAD + payload.len());
        record.extend(length.to_le_bytes());
        record.extend(sum_of(epoch, at, payload).to_le_bytes());
        record.extend(payload);
        let end = at + record.len() as u64;
        self.with(|file, length| {
            grow(file, length, end)?;
            file.write_all_at(&record, at)
        })?;
        self.end = end;
        Ok(())
    }

    /// Closes the file. The next use opens it again.
    pub(super) fn close(&mut self) {
        self.file = None;
    }

    /// Writes to the file and has it on the disk; a failure closes it.
    fn with(&mut self, write: impl FnOnce(&File, &mut u64) -> io::Result<()>) -> io::Result<()> {
        let written = self.open().and_then(|length| {
            let mut length = length;
            let file = self.file.as_ref().ok_or(io::ErrorKind::NotFound)?;
            write(file, &mut length)?;
            file.sync_data()?;
            Ok(length)
        });
        match written {
            Ok(length) => self.length = length,
            Err(_) => self.close(),
        }
        written.map(drop)
    }

    /// Opens the file if it is closed; gives its length.
    fn open(&mut self) -> io::Result<u64> {
        if self.file.is_none() {
            let mut options = OpenOptions::new();
            let options = options.create(true).truncate(false).read(true).write(true).mode(0o600);
            let file = open(options, &self.path)?;
            let id = Some(FileId::of(&file)?);
            if self.id.is_some() && self.id != id {
                return Err(io::Error::other("its file was replaced"));
            }
            self.id = id;
            self.length = file.metadata()?.len();
            self.file = Some(file);
            // Its name is on the disk before anything in it counts.
            if let Some(dir) = self.path.parent() {
                File::open(dir)?.sync_all()?;
            }
        }
        Ok(self.length)
    }
}

/// Gives a file room up to there, in whole chunks of zeros, and twice what it had: growing is what takes long.
fn grow(file: &File, length: &mut u64, end: u64) -> io::Result<()> {
    if end > *length {
        let wanted = end.next_multiple_of(CHUNK).max(*length * 2).min(CAPACITY);
        let zeros = vec![0; usize::try_from(wanted - *length).map_err(io::Error::other)?];
        file.write_all_at(&zeros, *length)?;
        file.sync_all()?;
        *length = wanted;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use boot_common::Mac;

    use super::super::encoding::encode;
    use super::*;

    fn change(number: u8) -> Change {
        Change::Delete(Mac([2, 0, 0, 0, 0, number]), Ipv4Addr::new(10, 0, 0, number))
    }

    fn numbers(path: &Path) -> (Vec<u8>, bool) {
        let found = read(path).unwrap();
        let number = |change: &Change| match change {
            Change::Delete(mac, _) => mac.0[5],
            _ => panic!("{change:?}"),
        };
        (found.changes.iter().map(number).collect(), found.is_damaged)
    }

    #[test]
    fn what_was_appended_is_read_and_what_was_emptied_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        assert_eq!(numbers(&path), (vec![], false));
        let mut journal = Journal::empty(path.clone(), 7).unwrap();
        for number in 1..5 {
            journal.append(&encode(&[change(number), change(number + 100)])).unwrap();
        }
        assert_eq!(numbers(&path), (vec![1, 101, 2, 102, 3, 103, 4, 104], false));
        assert_eq!(read(&path).unwrap().epoch, 7);
        journal.reset(8).unwrap();
        assert_eq!(numbers(&path), (vec![], false));
        // As long as an old one: those behind it are there, whole, and of the earlier epoch.
        journal.append(&encode(&[change(9), change(99)])).unwrap();
        assert_eq!(numbers(&path), (vec![9, 99], false));
    }

    #[test]
    fn a_torn_end_is_left_out_and_a_hole_is_damage() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let mut journal = Journal::empty(path.clone(), 1).unwrap();
        let mut ends = Vec::new();
        for number in 1..4 {
            journal.append(&encode(&[change(number)])).unwrap();
            ends.push(usize::try_from(journal.end).unwrap());
        }
        let whole = std::fs::read(&path).unwrap();
        // Every way in which the last record may have been written in part.
        for byte in ends[1]..ends[2] {
            for torn in [0, whole[byte] ^ 1] {
                let mut bytes = whole.clone();
                bytes[byte] = torn;
                if bytes != whole {
                    std::fs::write(&path, &bytes).unwrap();
                    assert_eq!(numbers(&path), (vec![1, 2], false), "byte {byte} is {torn}");
                }
            }
        }
        // The middle one was confirmed.
        let mut bytes = whole.clone();
        bytes[ends[1] - 1] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(numbers(&path), (vec![1], true));
        // Its length is damaged, so it does not tell where the last one begins.
        for byte in ends[0]..ends[0] + 4 {
            let mut bytes = whole.clone();
            bytes[byte] ^= 0x55;
            std::fs::write(&path, &bytes).unwrap();
            assert_eq!(numbers(&path), (vec![1], true), "byte {byte}");
        }
        std::fs::write(&path, &whole[..ends[1]]).unwrap();
        assert_eq!(numbers(&path), (vec![1, 2], true), "cut off");
        std::fs::write(&path, &whole[1..]).unwrap();
        assert_eq!(numbers(&path), (vec![], true), "no head");
    }

    #[test]
    fn only_a_file_is_read_and_no_more_than_a_journal_can_have() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("move it away"), "a pipe");
        std::fs::remove_file(&path).unwrap();
        let mut journal = Journal::empty(path.clone(), 1).unwrap();
        journal.append(&encode(&[change(1)])).unwrap();
        File::options().write(true).open(&path).unwrap().set_len(1 << 40).unwrap();
        assert_eq!(numbers(&path), (vec![1], false));
    }

    #[test]
    fn a_record_that_failed_is_overwritten_by_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let mut journal = Journal::empty(path.clone(), 1).unwrap();
        journal.append(&encode(&[change(1)])).unwrap();
        journal.close();
        // It cannot be opened for writing.
        std::fs::rename(&path, dir.path().join("kept")).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(journal.append(&encode(&[change(2)])).is_err());
        std::fs::remove_dir(&path).unwrap();
        std::fs::rename(dir.path().join("kept"), &path).unwrap();
        journal.append(&encode(&[change(3)])).unwrap();
        assert_eq!(numbers(&path), (vec![1, 3], false));
    }

    #[test]
    fn a_file_grows_in_chunks_up_to_its_capacity() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let mut journal = Journal::empty(path.clone(), 1).unwrap();
        let some: Vec<Change> = (0..200).map(change).collect();
        let payload = encode(&some);
        let mut records = 0;
        while journal.has_room(payload.len()) {
            journal.append(&payload).unwrap();
            records += 1;
        }
        let length = std::fs::metadata(&path).unwrap().len();
        assert!(length.is_multiple_of(CHUNK) && length <= CAPACITY, "{length}");
        assert_eq!(read(&path).unwrap().changes.len(), records * some.len());
    }
}
