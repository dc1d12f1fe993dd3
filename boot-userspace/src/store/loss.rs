//! Whether a database has lost what was committed to it, found before SQLite opens it: SQLite reads a write-ahead log up to
//! the last whole commit and says nothing of what followed.
//!
//! The index of the log (`-shm`), which a process leaves behind when it is killed, says how many frames were committed. The
//! layout of both files is SQLite's: sqlite.org/walformat.html.

use std::fs;
use std::path::Path;

use super::error::WITHOUT_IT;

const WAL_HEADER: usize = 32;
const FRAME_HEADER: usize = 24;
/// The magic number at the start of a log; its lowest bit says that checksums are of big-endian words.
const WAL_MAGIC: u32 = 0x377f_0682;

/// What has been lost, as far as can be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    /// Nothing.
    Nothing,
    /// The database is empty, or gone while its log is there.
    Emptied,
    /// Of so many pages that were committed to the log, only so many are there.
    Cut { committed: u32, there: u32 },
}

impl Loss {
    /// What was lost, what follows from it, and what helps.
    pub(super) fn warn(self, database: &Path) {
        let path = database.display();
        match self {
            Self::Nothing => {}
            Self::Emptied => tracing::warn!(
                "{path} was there and is empty: no lease is known, unless the kernel's tables have some, and no machine of the registry. Machines may be given other addresses than they have; stop xpxe and put a backup in its place if there is one. {WITHOUT_IT}"
            ),
            Self::Cut { committed, there } => tracing::warn!(
                committed,
                there,
                "{path}-wal was cut off or damaged: of {committed} pages that were committed to it {there} are there. The latest leases are lost, unless the kernel's tables have them, and so are the latest changes of machines; machines may be given other addresses"
            ),
        }
    }
}

/// Looks at the files beside the database.
pub(super) fn look(database: &Path) -> Loss {
    let beside = |ending| super::database::beside(database, ending);
    let size = fs::metadata(database).map(|meta| meta.len()).ok();
    let (wal, index) =
        (fs::read(beside("-wal")).unwrap_or_default(), fs::read(beside("-shm")).unwrap_or_default());
    match size {
        Some(0) => return Loss::Emptied,
        None if !wal.is_empty() || !index.is_empty() => return Loss::Emptied,
        _ => {}
    }
    let Some(index) = Index::read(&index) else { return Loss::Nothing };
    let there = whole_frames(&wal, index.salts);
    // What has gone into the database is not needed in the log.
    if index.committed > there && index.committed > index.moved {
        return Loss::Cut { committed: index.committed, there };
    }
    Loss::Nothing
}

/// The head of a log's index.
struct Index {
    /// How many frames the log has up to its last commit.
    committed: u32,
    /// How many of them have been moved into the database.
    moved: u32,
    /// What each frame of the log begins its checksum with, as bytes.
    salts: [u8; 8],
}

impl Index {
    /// None unless it is whole: its head is written twice, and a process may have been killed in between.
    fn read(bytes: &[u8]) -> Option<Self> {
        let (first, rest) = bytes.split_at_checked(48)?;
        let (second, rest) = rest.split_at_checked(48)?;
        let is_initialised = first.get(12) == Some(&1);
        if first != second || !is_initialised {
            return None;
        }
        let native =
            |bytes: &[u8], at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let salts = first.get(32..40)?.try_into().ok()?;
        Some(Self { committed: native(first, 16)?, moved: native(rest, 0)?, salts })
    }
}

/// How many frames of the log are whole and belong to it, up to the last commit.
fn whole_frames(wal: &[u8], salts: [u8; 8]) -> u32 {
    let Some((head, mut frames)) = wal.split_at_checked(WAL_HEADER) else { return 0 };
    let big = |bytes: &[u8], at: usize| {
        bytes.get(at..at + 4).and_then(|word| word.try_into().ok()).map_or(0, u32::from_be_bytes)
    };
    let (magic, page) = (big(head, 0), big(head, 8) as usize);
    if magic & !1 != WAL_MAGIC || !(512..=65_536).contains(&page) || head.get(16..24) != Some(&salts) {
        return 0;
    }
    let word = if magic & 1 == 1 { u32::from_be_bytes } else { u32::from_le_bytes };
    let add = |mut sum: (u32, u32), bytes: &[u8]| {
        let (words, _) = bytes.as_chunks::<4>();
        for pair in words.chunks_exact(2) {
            if let [one, other] = pair {
                sum.0 = sum.0.wrapping_add(word(*one)).wrapping_add(sum.1);
                sum.1 = sum.1.wrapping_add(word(*other)).wrapping_add(sum.0);
            }
        }
        sum
    };
    let mut sum = add((0, 0), head.get(..24).unwrap_or_default());
    let (mut number, mut committed) = (0, 0);
    while let Some((frame, rest)) = frames.split_at_checked(FRAME_HEADER + page) {
        sum = add(sum, frame.get(..8).unwrap_or_default());
        sum = add(sum, frame.get(FRAME_HEADER..).unwrap_or_default());
        if frame.get(8..16) != Some(&salts) || (big(frame, 16), big(frame, 20)) != sum {
            break;
        }
        number += 1;
        if big(frame, 4) != 0 {
            committed = number;
        }
        frames = rest;
    }
    committed
}
