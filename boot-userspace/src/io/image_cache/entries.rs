//! What the cache has: which contents lie where, who uses them, and what makes room.

use super::*;

pub(super) struct Entries {
    pub(super) by_id: HashMap<u64, Entry>,
    pub(super) by_content: HashMap<Content, u64>,
    pub(super) chunks: Ranges,
    pub(super) sums: Ranges,
    pub(super) last_id: u64,
    /// Counts up with every use.
    pub(super) clock: u64,
    /// Counts up with whatever may leave room: what was refused may be had by then.
    pub(super) freed: u64,
}

pub(super) struct Entry {
    pub(super) content: Option<Content>,
    pub(super) size: u64,
    pub(super) from: Source,
    pub(super) users: usize,
    pub(super) last_used: u64,
}

pub(super) enum Source {
    /// First chunk, and the sums by block size.
    Memory {
        chunk: u32,
        sums: HashMap<u16, Summed>,
    },
    File(Arc<OpenFile>),
    /// In netascii, or written for one transfer.
    Text(Arc<[u8]>),
}

/// Where the sums of an image's blocks are.
#[derive(Clone, Copy)]
pub(super) enum Summed {
    At(u32),
    /// There was no room for them when so much had been freed.
    NoRoom {
        freed: u64,
    },
}

/// A row of memory.
#[derive(Clone, Copy)]
pub(super) enum Row {
    Chunks,
    Sums,
}

impl Entries {
    pub(super) fn lend(&mut self, id: u64, block_size: u16) -> Option<Image> {
        self.clock += 1;
        let entry = self.by_id.get_mut(&id)?;
        entry.users += 1;
        entry.last_used = self.clock;
        let place = match &entry.from {
            Source::Memory { chunk, sums } => {
                let sums = sums.get(&block_size).copied().and_then(Summed::place);
                sums.map(|sums| Place { chunk: *chunk, sums })
            }
            Source::File(_) | Source::Text(_) => None,
        };
        let content = entry.content.map_or(0, |content| fingerprint(&content));
        Some(Image { id, size: entry.size, place, content })
    }

    pub(super) fn add(&mut self, content: Option<Content>, size: u64, from: Source) -> u64 {
        self.last_id += 1;
        if let Some(content) = content {
            self.by_content.insert(content, self.last_id);
        }
        self.by_id.insert(self.last_id, Entry { content, size, from, users: 0, last_used: self.clock });
        self.last_id
    }

    pub(super) fn add_held(&mut self, content: Content, size: u64, from: Source) -> u64 {
        let id = self.add(Some(content), size, from);
        self.hold(id);
        id
    }

    /// Keeps it until it is closed.
    pub(super) fn hold(&mut self, id: u64) {
        if let Some(entry) = self.by_id.get_mut(&id) {
            entry.users += 1;
        }
    }

    pub(super) fn hold_content(&mut self, content: &Content) -> Option<u64> {
        let id = *self.by_content.get(content)?;
        self.hold(id);
        Some(id)
    }

    pub(super) fn remove(&mut self, id: u64) {
        let Some(entry) = self.by_id.remove(&id) else { return };
        self.freed += 1;
        if let Some(content) = entry.content {
            self.by_content.remove(&content);
        }
        if let Source::Memory { chunk, sums } = entry.from {
            self.chunks.give_back(chunk);
            sums.values().filter_map(|sums| sums.place()).for_each(|first| self.sums.give_back(first));
        }
    }

    pub(super) fn know_sums(&mut self, id: u64, block_size: u16, summed: Summed) {
        if let Some(Entry { from: Source::Memory { sums, .. }, .. }) = self.by_id.get_mut(&id) {
            sums.insert(block_size, summed);
        }
    }

    /// Takes a part of a row. What nobody uses leaves for it, the longest unused first, but only where there will be
    /// room then: between images in use there may be none whatever leaves.
    pub(super) fn make_room(&mut self, row: Row, count: u32) -> Option<u32> {
        if let Some(place) = self.row(row).take(count) {
            return Some(place);
        }
        let unused = self.by_id.iter().filter(|(_, entry)| entry.users == 0);
        let mut unused: Vec<(u64, u64, Vec<u32>)> =
            unused.map(|(id, entry)| (entry.last_used, *id, entry.from.places(row))).collect();
        let leaving: BTreeSet<u32> = unused.iter().flat_map(|(_, _, places)| places).copied().collect();
        let rooms = self.row(row).rooms(count, &leaving);
        let is_in_the_way = |place: &u32| rooms.iter().any(|room| room.contains(place));
        unused.retain(|(_, _, places)| places.iter().any(is_in_the_way));
        unused.sort_unstable_by_key(|(last_used, _, _)| *last_used);
        unused.into_iter().find_map(|(_, id, _)| {
            self.remove(id);
            self.row(row).take(count)
        })
    }

    /// Before other images leave, so do this one's sums for other block sizes, if nobody but the caller holds it.
    pub(super) fn make_room_for_sums(&mut self, count: u32, id: u64) -> Option<u32> {
        if let Some(place) = self.sums.take(count) {
            return Some(place);
        }
        if let Some(Entry { users: 1, from: Source::Memory { sums, .. }, .. }) = self.by_id.get_mut(&id) {
            sums.drain().filter_map(|(_, sums)| sums.place()).for_each(|first| self.sums.give_back(first));
        }
        self.make_room(Row::Sums, count)
    }

    pub(super) fn row(&mut self, row: Row) -> &mut Ranges {
        match row {
            Row::Chunks => &mut self.chunks,
            Row::Sums => &mut self.sums,
        }
    }
}

impl Source {
    /// Where its parts begin.
    pub(super) fn places(&self, row: Row) -> Vec<u32> {
        match (self, row) {
            (Self::Memory { chunk, .. }, Row::Chunks) => vec![*chunk],
            (Self::Memory { sums, .. }, Row::Sums) => sums.values().filter_map(|sums| sums.place()).collect(),
            (Self::File(_) | Self::Text(_), _) => Vec::new(),
        }
    }
}

impl Summed {
    pub(super) fn place(self) -> Option<u32> {
        match self {
            Self::At(first) => Some(first),
            Self::NoRoom { .. } => None,
        }
    }
}
