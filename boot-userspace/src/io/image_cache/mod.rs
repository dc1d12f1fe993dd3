//! The files that TFTP sends: in memory that the kernel half reads too, as far as they fit, else from the disk.
//!
//! A file that has changed is another image, so transfers under way finish with what they began. What nobody fetches
//! makes room for what somebody asks for, the longest unused first.

mod entries;
mod ranges;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::{Hash as _, Hasher as _};
use std::io::{self, IoSliceMut};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use boot_common::tftp::{CHUNK, Chunk, LONGEST_BLOCK, SUMS, Sums};
use boot_common::wire::Sum;
use rustix::io::{ReadWriteFlags, preadv2};

use crate::files::{OpenFile, Version};
use crate::host::mapping::Mapping;
use crate::io::image_cache::ranges::Ranges;
use boot_engine::tftp::{Image, Mode, Place, netascii};

use entries::{Entries, Entry, Row, Source, Summed};

/// Bytes of a file that are read at once.
const PIECE: usize = 1 << 16;

/// A text this large is nothing that anybody fetches in netascii; it is converted in memory.
const LARGEST_TEXT: u64 = 16 << 20;

/// A content, and how it is sent.
pub type Content = (Version, Mode);

/// Images in memory, and files that do not fit there.
pub struct ImageCache {
    images: Mapping<Chunk>,
    sums: Mapping<Sums>,
    entries: Mutex<Entries>,
    /// What is being read into memory: each once, and none waits for another, whose disk may be slow.
    loading: Mutex<HashSet<Content>>,
    loaded: Condvar,
}

/// While it lives, nobody else loads this content.
struct Alone<'l> {
    cache: &'l ImageCache,
    content: Content,
}

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        self.cache.loading.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.content);
        self.cache.loaded.notify_all();
    }
}

impl ImageCache {
    /// An empty one, or one with the images that transfers of an earlier daemon are still sent: see
    /// [`adopt`](Self::adopt).
    #[must_use]
    pub fn new(images: Mapping<Chunk>, sums: Mapping<Sums>) -> Self {
        let length = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let entries = Entries {
            by_id: HashMap::new(),
            by_content: HashMap::new(),
            chunks: Ranges::new(length(images.count())),
            sums: Ranges::new(length(sums.count()).saturating_mul(SUMS as u32)),
            last_id: 0,
            clock: 0,
            freed: 0,
        };
        let (loading, loaded) = (Mutex::default(), Condvar::new());
        Self { images, sums, entries: Mutex::new(entries), loading, loaded }
    }

    /// A file that is in memory already, with the sums of its blocks if they can be had.
    #[must_use]
    pub fn known(&self, content: &Content, block_size: u16) -> Option<Image> {
        let mut entries = self.entries();
        let id = *entries.by_content.get(content)?;
        let entry = entries.by_id.get(&id)?;
        let ready = match &entry.from {
            Source::Memory { .. } if usize::from(block_size) > LONGEST_BLOCK => true,
            Source::Memory { sums, .. } => match sums.get(&block_size) {
                Some(Summed::At(_)) => true,
                Some(Summed::NoRoom { freed }) => *freed == entries.freed,
                None => false,
            },
            Source::File(_) | Source::Text(_) => true,
        };
        ready.then(|| entries.lend(id, block_size)).flatten()
    }

    /// Reads a file into memory, if there is or can be made room. Takes as long as the disk does.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn fetch(&self, file: OpenFile, mode: Mode, block_size: u16) -> io::Result<Image> {
        let content = (file.version(), mode);
        let _alone = self.alone_with(content);
        let known = self.entries().hold_content(&content);
        let id = match known {
            Some(id) => id,
            None => self.load(file, content)?,
        };
        self.add_sums(id, block_size);
        let image = self.entries().lend(id, block_size);
        self.close(id);
        image.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// A text that is in no file, for one transfer. The daemon sends it.
    #[must_use]
    pub fn lend_text(&self, text: String, mode: Mode) -> Image {
        let bytes = match mode {
            Mode::Octet => text.into_bytes(),
            Mode::Netascii => netascii(text.as_bytes()),
        };
        let size = bytes.len() as u64;
        let mut entries = self.entries();
        let id = entries.add(None, size, Source::Text(Arc::from(bytes)));
        entries.hold(id);
        Image { id, size, place: None, content: 0 }
    }

    /// An image that was lent, once more.
    #[must_use]
    pub fn lend(&self, id: u64, block_size: u16) -> Option<Image> {
        self.entries().lend(id, block_size)
    }

    /// An image that an earlier daemon put where `place` says, for one transfer more.
    #[must_use]
    pub fn adopt(&self, place: Place, size: u64, block_size: u16) -> Option<Image> {
        let mut entries = self.entries();
        let same =
            |entry: &Entry| matches!(&entry.from, Source::Memory { chunk, .. } if *chunk == place.chunk);
        let known = entries.by_id.iter().find(|(_, entry)| same(entry)).map(|(id, _)| *id);
        let id = match known {
            Some(id) => id,
            None => {
                if !entries.chunks.take_at(place.chunk, chunks_of(size)?) {
                    return None;
                }
                entries.add(None, size, Source::Memory { chunk: place.chunk, sums: HashMap::new() })
            }
        };
        let Source::Memory { sums, .. } = &entries.by_id.get(&id)?.from else { return None };
        if !sums.contains_key(&block_size) {
            let count = sums_of(size, block_size)?;
            if !entries.sums.take_at(place.sums, count) {
                return None;
            }
            if let Some(Entry { from: Source::Memory { sums, .. }, .. }) = entries.by_id.get_mut(&id) {
                sums.insert(block_size, Summed::At(place.sums));
            }
        }
        entries.lend(id, block_size)
    }

    /// Reads a piece of an image that was lent. Takes as long as the disk does.
    ///
    /// # Errors
    /// When the file cannot be read, or is not what it was when it was opened.
    pub fn read(&self, id: u64, piece: &mut [u8], offset: u64) -> io::Result<()> {
        match self.read_memory(id, piece, offset)? {
            Some(file) => read_unchanged(&file, piece, offset),
            None => Ok(()),
        }
    }

    /// The same if no disk has to be waited for; otherwise false.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_at_hand(&self, id: u64, piece: &mut [u8], offset: u64) -> io::Result<bool> {
        let Some(file) = self.read_memory(id, piece, offset)? else { return Ok(true) };
        let read = preadv2(&file.file, &mut [IoSliceMut::new(piece)], offset, ReadWriteFlags::NOWAIT);
        // A file system that cannot say so may have to wait, and so may whoever finds out why bytes are missing.
        Ok(read.is_ok_and(|read| read == piece.len()) && file.is_unchanged()?)
    }

    /// Reads from memory, or gives the file to read from.
    fn read_memory(&self, id: u64, piece: &mut [u8], offset: u64) -> io::Result<Option<Arc<OpenFile>>> {
        let entries = self.entries();
        let entry = entries.by_id.get(&id).ok_or(io::ErrorKind::NotFound)?;
        match &entry.from {
            Source::Memory { chunk, .. } => {
                let chunk = *chunk as usize + usize::try_from(offset / CHUNK as u64).unwrap_or(usize::MAX);
                let at = (offset % CHUNK as u64) as usize;
                // Blocks longer than what chunks have in common come in two pieces.
                let (first, rest) = piece.split_at_mut(piece.len().min(CHUNK + LONGEST_BLOCK - at));
                let whole = self.images.read(chunk, at, first)
                    && (rest.is_empty() || self.images.read(chunk + 1, LONGEST_BLOCK, rest));
                if whole { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
            }
            Source::File(file) => Ok(Some(Arc::clone(file))),
            Source::Text(text) => {
                let from = usize::try_from(offset).ok().and_then(|from| text.get(from..)?.get(..piece.len()));
                piece.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
                Ok(None)
            }
        }
    }

    /// Gives back what [`known`](Self::known), [`fetch`](Self::fetch) or [`adopt`](Self::adopt) lent.
    pub fn close(&self, id: u64) {
        let mut entries = self.entries();
        let Some(entry) = entries.by_id.get_mut(&id) else { return };
        entry.users = entry.users.saturating_sub(1);
        if entry.users > 0 {
            return;
        }
        // Nobody could ask for these again.
        if entry.content.is_none() || !matches!(entry.from, Source::Memory { .. }) {
            entries.remove(id);
        } else {
            entries.freed += 1;
        }
    }

    fn alone_with(&self, content: Content) -> Alone<'_> {
        let mut loading = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
        while !loading.insert(content) {
            loading = self.loaded.wait(loading).unwrap_or_else(PoisonError::into_inner);
        }
        Alone { cache: self, content }
    }

    /// The new image is held for the caller.
    fn load(&self, file: OpenFile, content: Content) -> io::Result<u64> {
        let text = match content.1 {
            Mode::Octet => None,
            Mode::Netascii => Some(text_of(&file)?),
        };
        let size = text.as_ref().map_or(file.size, |text| text.len() as u64);
        let Some(chunk) = chunks_of(size).and_then(|count| self.entries().make_room(Row::Chunks, count))
        else {
            let from = match text {
                None => Source::File(Arc::new(file)),
                Some(text) => Source::Text(Arc::from(text)),
            };
            return Ok(self.entries().add_held(content, size, from));
        };
        let outcome = match text {
            None => self.copy(&file, chunk),
            Some(text) => self.put_all(chunk, &text),
        };
        let mut entries = self.entries();
        match outcome {
            Ok(()) => Ok(entries.add_held(content, size, Source::Memory { chunk, sums: HashMap::new() })),
            Err(error) => {
                entries.chunks.give_back(chunk);
                entries.freed += 1;
                Err(error)
            }
        }
    }

    fn copy(&self, file: &OpenFile, chunk: u32) -> io::Result<()> {
        let mut piece = vec![0; PIECE];
        let mut offset = 0;
        while offset < file.size {
            let length = usize::try_from(file.size - offset).unwrap_or(PIECE).min(PIECE);
            let piece = piece.get_mut(..length).unwrap_or_default();
            read_unchanged(file, piece, offset)?;
            self.put(chunk, offset, piece)?;
            offset += length as u64;
        }
        Ok(())
    }

    fn put_all(&self, chunk: u32, bytes: &[u8]) -> io::Result<()> {
        bytes.chunks(PIECE).zip((0..).step_by(PIECE)).try_for_each(|(piece, at)| self.put(chunk, at, piece))
    }

    /// Writes a piece that does not cross a chunk's end; what begins a chunk stands at the end of the one before too.
    fn put(&self, first: u32, offset: u64, piece: &[u8]) -> io::Result<()> {
        let (nth, at) = ((offset / CHUNK as u64) as usize, (offset % CHUNK as u64) as usize);
        let chunk = first as usize + nth;
        let mut written = self.images.write(chunk, at, piece);
        if nth > 0 && at < LONGEST_BLOCK {
            let common = piece.get(..piece.len().min(LONGEST_BLOCK - at)).unwrap_or_default();
            written &= self.images.write(chunk - 1, CHUNK + at, common);
        }
        if written { Ok(()) } else { Err(io::ErrorKind::OutOfMemory.into()) }
    }

    /// Sums up a held image's blocks, if there is or can be made room. Without them the daemon sends it.
    fn add_sums(&self, id: u64, block_size: u16) {
        let mut entries = self.entries();
        let Some(Entry { size, from: Source::Memory { sums, .. }, .. }) = entries.by_id.get(&id) else {
            return;
        };
        let size = *size;
        if matches!(sums.get(&block_size), Some(Summed::At(_))) || usize::from(block_size) > LONGEST_BLOCK {
            return;
        }
        let count = sums_of(size, block_size);
        let Some(first) = count.and_then(|count| entries.make_room_for_sums(count, id)) else {
            let freed = entries.freed;
            return entries.know_sums(id, block_size, Summed::NoRoom { freed });
        };
        drop(entries);
        let mut block = vec![0; usize::from(block_size)];
        let mut complete = true;
        for (nth, offset) in (0..size).step_by(usize::from(block_size)).enumerate() {
            let length = usize::try_from(size - offset).unwrap_or(usize::MAX).min(block.len());
            let block = block.get_mut(..length).unwrap_or_default();
            complete &= self.read(id, block, offset).is_ok();
            let (sum, at) = (folded(block), first as usize + nth);
            complete &= self.sums.write(at / SUMS, at % SUMS * 2, &sum.to_ne_bytes());
        }
        let mut entries = self.entries();
        if complete {
            entries.know_sums(id, block_size, Summed::At(first));
        } else {
            entries.sums.give_back(first);
        }
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A number that stands for a content in memory that outlives the daemon.
#[must_use]
pub fn fingerprint(content: &Content) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    content.hash(&mut hasher);
    // 0 is none.
    hasher.finish() | 1
}

/// Reads a piece of a file that must still be the one that was opened. Whoever gets the error sees the beginning of
/// its text only, if it is a TFTP client.
fn read_unchanged(file: &OpenFile, piece: &mut [u8], offset: u64) -> io::Result<()> {
    match file.file.read_exact_at(piece, offset) {
        Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => return Err(error),
        Ok(()) if file.is_unchanged()? => return Ok(()),
        _ => {}
    }
    let (left, whole) = (file.file.metadata()?.len(), file.size);
    Err(io::Error::other(if left < whole {
        format!(
            "the server's file was cut from {whole} to {left} bytes meanwhile; \
             replace boot files by renaming new ones over them"
        )
    } else {
        "the server's file was written to meanwhile; replace boot files by renaming new ones over them"
            .to_owned()
    }))
}

fn text_of(file: &OpenFile) -> io::Result<Vec<u8>> {
    if file.size > LARGEST_TEXT {
        return Err(io::Error::other("the file is too large for netascii; ask in octet mode"));
    }
    let mut bytes = vec![0; usize::try_from(file.size).unwrap_or_default()];
    read_unchanged(file, &mut bytes, 0)?;
    Ok(netascii(&bytes))
}

/// An empty file has a chunk too: a place is what makes it an image.
fn chunks_of(size: u64) -> Option<u32> {
    u32::try_from(size.div_ceil(CHUNK as u64).max(1)).ok()
}

/// A sum for the block that ends the file as well, even if it is empty.
fn sums_of(size: u64, block_size: u16) -> Option<u32> {
    u32::try_from(size / u64::from(block_size) + 1).ok()
}

/// As [`Sum::bytes`], eight bytes at a time.
fn folded(bytes: &[u8]) -> u16 {
    let (words, rest) = bytes.as_chunks::<8>();
    let mut sum: u128 = 0;
    for word in words {
        sum += u128::from(u64::from_be_bytes(*word));
    }
    let sum = (sum >> 64) as u64 as u128 + (sum as u64) as u128;
    let halves = [sum >> 48, sum >> 32, sum >> 16, sum].map(|part| part as u16);
    let over = (sum >> 64) as u16;
    let all = halves.into_iter().fold(Sum::ZERO.word(over), Sum::word);
    Sum::of(all.folded()).bytes(rest).folded()
}

#[cfg(test)]
mod tests;
