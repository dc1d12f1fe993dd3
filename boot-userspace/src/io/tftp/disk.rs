//! Blocks that only the disk has: threads of their own read them, so a slow disk holds up nobody but its own clients.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;

use boot_engine::tftp::{DATA_HEADER, Peer, data_header};
use tokio::sync::mpsc;

use crate::io::image_cache::ImageCache;

/// How many clients' blocks are read at the same time; the others wait for their turn.
const MOST_READING: usize = 16;
/// How many clients wait for their turn. A client beyond gets nothing until its timer asks again.
const MOST_WAITING: usize = 4096;
/// How many blocks are read for one client at a time. What is left out, its timer asks for again.
const MOST_BLOCKS: usize = 128;

/// A client and the image that it is sent.
pub(super) type Reader = (Peer, u64);

/// One block of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) offset: u64,
    /// Bytes of data.
    pub(super) len: usize,
    /// Its number in the packet.
    pub(super) number: u16,
}

/// What the disk gave: packets, and why it gave no more.
pub(super) struct Done {
    pub(super) reader: Reader,
    pub(super) packets: Vec<Vec<u8>>,
    pub(super) failure: Option<io::Error>,
}

#[derive(Debug, Default)]
struct Wanted {
    reading: Vec<Block>,
    next: Vec<Block>,
}

/// Who waits for the disk.
pub(super) struct DiskReads {
    images: Arc<ImageCache>,
    wanted: HashMap<Reader, Wanted>,
    /// Whose next blocks nobody reads yet, each once.
    turns: VecDeque<Reader>,
    running: usize,
    /// At most [`MOST_READING`] are on their way.
    done: (mpsc::UnboundedSender<Done>, mpsc::UnboundedReceiver<Done>),
    dropped: u64,
}

impl DiskReads {
    pub(super) fn new(images: Arc<ImageCache>) -> Self {
        let (wanted, turns, done) = (HashMap::new(), VecDeque::new(), mpsc::unbounded_channel());
        Self { images, wanted, turns, running: 0, done, dropped: 0 }
    }

    /// Whether earlier blocks of this client are still to come: its next ones must not overtake them.
    pub(super) fn has(&self, reader: Reader) -> bool {
        self.wanted.contains_key(&reader)
    }

    /// How many blocks were left out because too many waited.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Has a block read, unless it is about to be.
    pub(super) fn want(&mut self, reader: Reader, block: Block) {
        let is_new = !self.wanted.contains_key(&reader);
        if is_new && self.wanted.len() >= MOST_WAITING {
            self.dropped += 1;
            return;
        }
        let wanted = self.wanted.entry(reader).or_default();
        if wanted.reading.contains(&block) || wanted.next.contains(&block) {
            return;
        }
        if wanted.next.len() >= MOST_BLOCKS {
            self.dropped += 1;
            return;
        }
        wanted.next.push(block);
        if is_new {
            self.turns.push_back(reader);
        }
    }

    /// Begins to read for those whose turn it is.
    pub(super) fn begin(&mut self) {
        while self.running < MOST_READING
            && let Some(reader) = self.turns.pop_front()
        {
            let Some(wanted) = self.wanted.get_mut(&reader) else { continue };
            wanted.reading = std::mem::take(&mut wanted.next);
            self.running += 1;
            let (images, to, blocks) =
                (Arc::clone(&self.images), self.done.0.clone(), wanted.reading.clone());
            tokio::task::spawn_blocking(move || {
                let (packets, failure) = read(&images, reader.1, &blocks);
                // Whoever waits for it is gone with the server.
                to.send(Done { reader, packets, failure }).ok()
            });
        }
    }

    /// What was read next.
    pub(super) async fn next(&mut self) -> Option<Done> {
        let done = self.done.1.recv().await?;
        self.running -= 1;
        match self.wanted.get_mut(&done.reader) {
            Some(wanted) if !wanted.next.is_empty() => {
                wanted.reading.clear();
                self.turns.push_back(done.reader);
            }
            _ => drop(self.wanted.remove(&done.reader)),
        }
        Some(done)
    }
}

fn read(images: &ImageCache, image: u64, blocks: &[Block]) -> (Vec<Vec<u8>>, Option<io::Error>) {
    let mut packets = Vec::with_capacity(blocks.len());
    for Block { offset, len, number } in blocks {
        let mut packet = data_header(*number).to_vec();
        packet.resize(DATA_HEADER + len, 0);
        match images.read(image, packet.get_mut(DATA_HEADER..).unwrap_or_default(), *offset) {
            Ok(()) => packets.push(packet),
            Err(error) => return (packets, Some(error)),
        }
    }
    (packets, None)
}

#[cfg(test)]
mod tests;
