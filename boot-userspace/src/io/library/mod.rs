//! The files that TFTP sends: in memory that the kernel half reads too, as far as they fit, else from the disk.
//!
//! A file that has changed is another image, so transfers under way finish with what they began. What nobody fetches
//! makes room for what somebody asks for, the longest unused first.

mod shelf;

use std::collections::HashMap;
use std::hash::{Hash as _, Hasher as _};
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use boot_common::tftp::{CHUNK, Chunk, LONGEST_BLOCK, SUMS, Sums};
use boot_common::wire::Sum;

use crate::engine::tftp::{Image, Mode, Place, netascii};
use crate::files::{OpenFile, Version};
use crate::io::library::shelf::Shelf;
use crate::mapping::Mapping;

/// Bytes of a file that are read at once.
const PIECE: usize = 1 << 16;

/// A text this large is nothing that anybody fetches in netascii; it is converted in memory.
const LARGEST_TEXT: u64 = 16 << 20;

/// A content, and how it is sent.
pub type Edition = (Version, Mode);

/// Images in memory, and files that do not fit there.
pub struct Library {
    images: Mapping<Chunk>,
    sums: Mapping<Sums>,
    books: Mutex<Books>,
    /// Held while a file is read into memory: one at a time, and each once.
    loading: Mutex<()>,
}

struct Books {
    by_id: HashMap<u64, Book>,
    by_edition: HashMap<Edition, u64>,
    chunks: Shelf,
    sums: Shelf,
    last_id: u64,
    /// Counts up with every use.
    clock: u64,
}

struct Book {
    edition: Option<Edition>,
    size: u64,
    from: Source,
    users: usize,
    last_used: u64,
}

enum Source {
    /// First chunk, and where the sums are by block size: `None` when there was no room for them.
    Memory {
        chunk: u32,
        sums: HashMap<u16, Option<u32>>,
    },
    File(Arc<OpenFile>),
    /// In netascii.
    Text(Arc<[u8]>),
}

impl Library {
    /// An empty one, or one with the images that transfers of an earlier daemon are still sent: see
    /// [`adopt`](Self::adopt).
    #[must_use]
    pub fn new(images: Mapping<Chunk>, sums: Mapping<Sums>) -> Self {
        let length = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let books = Books {
            by_id: HashMap::new(),
            by_edition: HashMap::new(),
            chunks: Shelf::new(length(images.count())),
            sums: Shelf::new(length(sums.count()).saturating_mul(SUMS as u32)),
            last_id: 0,
            clock: 0,
        };
        Self { images, sums, books: Mutex::new(books), loading: Mutex::new(()) }
    }

    /// A file that is in memory already, with the sums of its blocks.
    #[must_use]
    pub fn known(&self, edition: &Edition, block_size: u16) -> Option<Image> {
        let mut books = self.books();
        let id = *books.by_edition.get(edition)?;
        let book = books.by_id.get(&id)?;
        let ready = match &book.from {
            Source::Memory { sums, .. } => sums.contains_key(&block_size),
            Source::File(_) | Source::Text(_) => true,
        };
        ready.then(|| books.lend(id, block_size)).flatten()
    }

    /// Reads a file into memory, if there is or can be made room. Takes as long as the disk does.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn fetch(&self, file: OpenFile, mode: Mode, block_size: u16) -> io::Result<Image> {
        let _one_at_a_time = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.books().by_edition.get(&(file.version(), mode)).copied();
        let id = match known {
            Some(id) => id,
            None => self.load(file, mode)?,
        };
        self.add_sums(id, block_size);
        self.books().lend(id, block_size).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// An image that was lent, once more.
    #[must_use]
    pub fn lend(&self, id: u64, block_size: u16) -> Option<Image> {
        self.books().lend(id, block_size)
    }

    /// An image that an earlier daemon put where `place` says, for one transfer more.
    #[must_use]
    pub fn adopt(&self, place: Place, size: u64, block_size: u16) -> Option<Image> {
        let mut books = self.books();
        let same = |book: &Book| matches!(&book.from, Source::Memory { chunk, .. } if *chunk == place.chunk);
        let known = books.by_id.iter().find(|(_, book)| same(book)).map(|(id, _)| *id);
        let id = match known {
            Some(id) => id,
            None => {
                if !books.chunks.take_at(place.chunk, chunks_of(size)?) {
                    return None;
                }
                books.add(None, size, Source::Memory { chunk: place.chunk, sums: HashMap::new() })
            }
        };
        let Source::Memory { sums, .. } = &books.by_id.get(&id)?.from else { return None };
        if !sums.contains_key(&block_size) {
            let count = sums_of(size, block_size)?;
            if !books.sums.take_at(place.sums, count) {
                return None;
            }
            if let Some(Book { from: Source::Memory { sums, .. }, .. }) = books.by_id.get_mut(&id) {
                sums.insert(block_size, Some(place.sums));
            }
        }
        books.lend(id, block_size)
    }

    /// Reads a piece of an image that was lent.
    ///
    /// # Errors
    /// When the file cannot be read, or is not what it was when it was opened.
    pub fn read(&self, id: u64, piece: &mut [u8], offset: u64) -> io::Result<()> {
        let books = self.books();
        let book = books.by_id.get(&id).ok_or(io::ErrorKind::NotFound)?;
        match &book.from {
            Source::Memory { chunk, .. } => {
                let chunk = *chunk as usize + usize::try_from(offset / CHUNK as u64).unwrap_or(usize::MAX);
                let at = (offset % CHUNK as u64) as usize;
                // Blocks longer than what chunks have in common come in two pieces.
                let (first, rest) = piece.split_at_mut(piece.len().min(CHUNK + LONGEST_BLOCK - at));
                let whole = self.images.read(chunk, at, first)
                    && (rest.is_empty() || self.images.read(chunk + 1, LONGEST_BLOCK, rest));
                if whole { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
            }
            Source::File(file) => {
                let file = Arc::clone(file);
                drop(books);
                file.file.read_exact_at(piece, offset)?;
                if file.is_unchanged()? { Ok(()) } else { Err(being_written()) }
            }
            Source::Text(text) => {
                let from = usize::try_from(offset).ok().and_then(|from| text.get(from..)?.get(..piece.len()));
                piece.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
                Ok(())
            }
        }
    }

    /// Gives back what [`known`](Self::known), [`fetch`](Self::fetch) or [`adopt`](Self::adopt) lent.
    pub fn close(&self, id: u64) {
        let mut books = self.books();
        let Some(book) = books.by_id.get_mut(&id) else { return };
        book.users = book.users.saturating_sub(1);
        // Nobody could ask for these again.
        if book.users == 0 && (book.edition.is_none() || !matches!(book.from, Source::Memory { .. })) {
            books.remove(id);
        }
    }

    fn load(&self, file: OpenFile, mode: Mode) -> io::Result<u64> {
        let edition = Some((file.version(), mode));
        let text = match mode {
            Mode::Octet => None,
            Mode::Netascii => Some(text_of(&file)?),
        };
        let size = text.as_ref().map_or(file.size, |text| text.len() as u64);
        let Some(chunk) = chunks_of(size).and_then(|count| self.books().make_room(count)) else {
            let from = match text {
                None => Source::File(Arc::new(file)),
                Some(text) => Source::Text(Arc::from(text)),
            };
            return Ok(self.books().add(edition, size, from));
        };
        let outcome = match text {
            None => self.copy(&file, chunk),
            Some(text) => self.put_all(chunk, &text),
        };
        let mut books = self.books();
        match outcome {
            Ok(()) => Ok(books.add(edition, size, Source::Memory { chunk, sums: HashMap::new() })),
            Err(error) => {
                books.chunks.give_back(chunk);
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
            file.file.read_exact_at(piece, offset)?;
            self.put(chunk, offset, piece)?;
            offset += length as u64;
        }
        if file.is_unchanged()? { Ok(()) } else { Err(being_written()) }
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

    /// Sums up an image's blocks, if there is or can be made room. Without them the daemon sends it.
    fn add_sums(&self, id: u64, block_size: u16) {
        let mut books = self.books();
        let Some(Book { size, from: Source::Memory { sums, .. }, .. }) = books.by_id.get(&id) else { return };
        let size = *size;
        if sums.contains_key(&block_size) {
            return;
        }
        if usize::from(block_size) > LONGEST_BLOCK {
            return books.know_sums(id, block_size, None);
        }
        let Some(first) = sums_of(size, block_size).and_then(|count| books.make_room_for_sums(count, id))
        else {
            return books.know_sums(id, block_size, None);
        };
        // Nobody can remove it meanwhile: it is new, or was found while `loading` is held, and is used now.
        if let Some(book) = books.by_id.get_mut(&id) {
            book.users += 1;
        }
        drop(books);
        let mut block = vec![0; usize::from(block_size)];
        let mut complete = true;
        for (nth, offset) in (0..size).step_by(usize::from(block_size)).enumerate() {
            let length = usize::try_from(size - offset).unwrap_or(usize::MAX).min(block.len());
            let block = block.get_mut(..length).unwrap_or_default();
            complete &= self.read(id, block, offset).is_ok();
            let (sum, at) = (folded(block), first as usize + nth);
            complete &= self.sums.write(at / SUMS, at % SUMS * 2, &sum.to_ne_bytes());
        }
        let mut books = self.books();
        if !complete {
            books.sums.give_back(first);
        }
        books.know_sums(id, block_size, complete.then_some(first));
        if let Some(book) = books.by_id.get_mut(&id) {
            book.users -= 1;
        }
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Books {
    fn lend(&mut self, id: u64, block_size: u16) -> Option<Image> {
        self.clock += 1;
        let book = self.by_id.get_mut(&id)?;
        book.users += 1;
        book.last_used = self.clock;
        let place = match &book.from {
            Source::Memory { chunk, sums } => {
                let sums = sums.get(&block_size).copied().flatten();
                sums.map(|sums| Place { chunk: *chunk, sums })
            }
            Source::File(_) | Source::Text(_) => None,
        };
        let edition = book.edition.map_or(0, |edition| fingerprint(&edition));
        Some(Image { id, size: book.size, place, edition })
    }

    fn add(&mut self, edition: Option<Edition>, size: u64, from: Source) -> u64 {
        self.last_id += 1;
        if let Some(edition) = edition {
            self.by_edition.insert(edition, self.last_id);
        }
        self.by_id.insert(self.last_id, Book { edition, size, from, users: 0, last_used: self.clock });
        self.last_id
    }

    fn remove(&mut self, id: u64) {
        let Some(book) = self.by_id.remove(&id) else { return };
        if let Some(edition) = book.edition {
            self.by_edition.remove(&edition);
        }
        if let Source::Memory { chunk, sums } = book.from {
            self.chunks.give_back(chunk);
            sums.values().flatten().for_each(|first| self.sums.give_back(*first));
        }
    }

    fn know_sums(&mut self, id: u64, block_size: u16, first: Option<u32>) {
        if let Some(Book { from: Source::Memory { sums, .. }, .. }) = self.by_id.get_mut(&id) {
            sums.insert(block_size, first);
        }
    }

    fn make_room(&mut self, chunks: u32) -> Option<u32> {
        if !self.chunks.could_hold(chunks) {
            return None;
        }
        loop {
            match self.chunks.take(chunks) {
                None => self.drop_longest_unused(None)?,
                place => return place,
            }
        }
    }

    fn make_room_for_sums(&mut self, count: u32, keep: u64) -> Option<u32> {
        if !self.sums.could_hold(count) {
            return None;
        }
        loop {
            match self.sums.take(count) {
                None => self.drop_longest_unused(Some(keep))?,
                place => return place,
            }
        }
    }

    fn drop_longest_unused(&mut self, keep: Option<u64>) -> Option<()> {
        let unused = self.by_id.iter().filter(|(id, book)| book.users == 0 && Some(**id) != keep);
        let id = unused.min_by_key(|(_, book)| book.last_used).map(|(id, _)| *id)?;
        self.remove(id);
        Some(())
    }
}

/// A number that stands for an edition in memory that outlives the daemon.
#[must_use]
pub fn fingerprint(edition: &Edition) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    edition.hash(&mut hasher);
    // 0 is none.
    hasher.finish() | 1
}

fn being_written() -> io::Error {
    io::Error::other("the file is being written to; replace boot files by renaming new ones over them")
}

fn text_of(file: &OpenFile) -> io::Result<Vec<u8>> {
    if file.size > LARGEST_TEXT {
        return Err(io::Error::other("the file is too large for netascii; ask in octet mode"));
    }
    let mut bytes = vec![0; usize::try_from(file.size).unwrap_or_default()];
    file.file.read_exact_at(&mut bytes, 0)?;
    if file.is_unchanged()? { Ok(netascii(&bytes)) } else { Err(being_written()) }
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
