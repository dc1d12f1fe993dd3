//! The thread that keeps the boots of every machine, and the file that they are in after a restart.
//!
//! The file has one boot a line, as JSON. A boot that goes on after it was written gets a new line, and the last line of a
//! boot counts. When most of it is old, the file is written anew. What is appended is not synced: a power cut loses some
//! seconds.

mod store;

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use tracing::{debug, warn};

use super::request::Boots;
use crate::host::{clock, regular};
use boot_engine::command::Now;
use boot_engine::diagnosis::{Boot, MOST_BOOTS, MOST_MACHINES};
use store::{Room, Store};

/// The file's name in `state_dir`.
const FILE: &str = "boots.jsonl";
/// How often notes are put into the timelines.
const EVERY: Duration = Duration::from_millis(100);
/// After so many of these the boots that are silent are stored.
const ROUNDS: u32 = 10;
/// Room for so many notes is kept.
const USUAL: usize = 4096;
/// Nobody's boots have so long a line: a damaged file must fill no memory.
const LONGEST_LINE: u64 = 1 << 20;
/// After so long it is tried again to write to a full disk.
const RETRY: Duration = Duration::from_secs(10);

/// Keeps the boots.
pub(super) struct Keeper {
    boots: Boots,
    file: Mutex<Store>,
}

impl Keeper {
    /// Reads what an earlier daemon has stored, and begins.
    pub(super) fn start(boots: Boots, state_dir: &Path) -> std::sync::Arc<Self> {
        let path = state_dir.join(FILE);
        let lines = match read(&path, &boots) {
            Ok((lines, unreadable)) => {
                unreadable.warn(&path, "Their boots are not shown");
                lines
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => {
                warn!("cannot read {}: {error}; earlier boots are not shown", path.display());
                0
            }
        };
        let file = Mutex::new(Store { lines, ..Store::new(path) });
        let keeper = std::sync::Arc::new(Self { boots, file });
        let runs = std::sync::Arc::clone(&keeper);
        let started = thread::Builder::new().name("xpxe-boots".to_owned()).spawn(move || runs.run());
        if let Err(error) = started {
            warn!("boots are not kept: no thread for them ({error})");
        }
        keeper
    }

    fn run(&self) {
        let mut notes = Vec::new();
        for round in 1_u32.. {
            thread::sleep(EVERY);
            self.take(&mut notes);
            if round.is_multiple_of(ROUNDS) {
                self.store(false);
            }
        }
    }

    fn take(&self, notes: &mut Vec<boot_engine::diagnosis::Note>) {
        self.boots.take_waiting(notes);
        if notes.is_empty() {
            return;
        }
        let now = clock::now();
        let mut timelines = self.boots.timelines();
        for note in notes.drain(..) {
            let at = wall(now, note.at);
            timelines.note(note, at);
        }
        // A storm's memory is not kept for ever.
        notes.shrink_to(USUAL);
    }

    /// Stores all that has happened: xpxe ends.
    pub(super) fn end(&self) {
        self.take(&mut Vec::new());
        self.store(true);
    }

    fn store(&self, all: bool) {
        let mut store = self.file.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if (store.room)(&store.path).is_ok_and(Room::is_full) {
            store.give_way();
        }
        if !all && store.failed.is_some_and(|failed| failed.elapsed() < RETRY) {
            return;
        }
        let now = millis(clock::now().wall);
        let unsaved = self.boots.timelines().take_unsaved(now, all);
        if unsaved.is_empty() && !store.is_gone {
            return;
        }
        let Err(error) = store.append(&unsaved, &self.boots) else {
            store.failed = None;
            return;
        };
        self.boots.timelines().put_back(unsaved);
        if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            store.give_way();
        }
        if store.failed.replace(Instant::now()).is_some() {
            debug!("cannot store boots: {error}");
        } else {
            let path = store.path.display();
            warn!("cannot write {path}: {error}; boots are kept in memory only, and a restart forgets them");
        }
    }
}

/// The lines of a file that cannot be read: they were cut off, or are of another version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Unreadable {
    count: usize,
    /// The number of the first one, from 1.
    first: usize,
}

impl Unreadable {
    /// Takes down one.
    pub(super) fn add(&mut self, line: usize) {
        if self.count == 0 {
            self.first = line;
        }
        self.count += 1;
    }

    /// Says once how many there are. `what` is what each of them has.
    pub(super) fn warn(self, path: &Path, what: &str) {
        if self.count > 0 {
            let Self { count, first } = self;
            warn!(
                "{count} lines of {} cannot be read, the first one is line {first}: they were cut off, or are of another \
                 version of xpxe. {what}; the lines stay in the file until it is written anew",
                path.display()
            );
        }
    }
}

/// Gives the number of lines, and those of them that cannot be read.
fn read(path: &Path, into: &Boots) -> io::Result<(usize, Unreadable)> {
    let (mut lines, mut unreadable) = (0, Unreadable::default());
    let mut found: BTreeMap<(u64, [u8; 6]), Boot> = BTreeMap::new();
    let mut file = BufReader::new(regular::open(path)?);
    let mut line = Vec::new();
    while next_line(&mut file, &mut line)? {
        lines += 1;
        // A disk that was full may have left an end of a line alone.
        if line == b"\n" {
            continue;
        }
        let Ok(boot) = serde_json::from_slice::<Boot>(&line) else {
            unreadable.add(lines);
            continue;
        };
        found.insert((boot.opened, boot.mac.0), boot);
        if found.len() > MOST_MACHINES * MOST_BOOTS {
            found.pop_first();
        }
    }
    let mut timelines = into.timelines();
    for boot in found.into_values() {
        timelines.put(boot);
    }
    Ok((lines, unreadable))
}

/// Reads the next line; one that is too long is passed over, and empty. False at the end.
fn next_line(file: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    if io::Read::take(&mut *file, LONGEST_LINE).read_until(b'\n', line)? == 0 {
        return Ok(false);
    }
    if line.len() as u64 == LONGEST_LINE && !line.ends_with(b"\n") {
        line.clear();
        file.skip_until(b'\n')?;
    }
    Ok(true)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The time of the boot clock by the wall clock.
fn wall(now: Now, at: Duration) -> u64 {
    millis(now.wall.saturating_sub(now.boot.saturating_sub(at)))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use boot_common::Mac;
    use boot_engine::diagnosis::{By, Timed, What};

    use super::*;

    /// A disk with nothing but the file on it.
    fn small(path: &Path) -> io::Result<Room> {
        let files = [path.to_owned(), path.with_extension("new")];
        let used: u64 =
            files.iter().filter_map(|file| fs::metadata(file).ok()).map(|facts| facts.len()).sum();
        Ok(Room { free: (8_u64 << 20).saturating_sub(used), kept: 2 << 20 })
    }

    fn full(_: &Path) -> io::Result<Room> {
        Ok(Room { free: 0, kept: 0 })
    }

    /// The longest boot that there is, of one of 50 machines.
    fn long(nth: u64) -> Boot {
        let step = |at: u64| {
            let (file, why) = ("ẍ".repeat(200).into(), "it is not there".into());
            let what = What::TftpMissing { file, why };
            Timed { at, last: at, count: 1, by: By::Daemon, secs: 0, what }
        };
        let mac = Mac([2, 0, 0, 0, 0, (nth % 50) as u8]);
        let (opened, steps) = (nth * 1000, (0..64).map(|at| step(nth * 1000 + at)).collect());
        Boot { mac, link: None, relay: None, opened, is_over: true, steps, more: 0, beside: Vec::new() }
    }

    #[test]
    fn however_many_boots_there_are_the_leases_have_room() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        let boots = Boots::default();
        let mut store = Store { room: small, ..Store::new(path.clone()) };
        let mut most = 0;
        for nth in 0..500 {
            boots.timelines().put(long(nth));
            store.append(&[long(nth)], &boots).unwrap();
            let room = small(&path).unwrap();
            assert!(room.free >= room.kept, "after {nth}: {room:?}");
            most = most.max(fs::metadata(&path).unwrap().len());
        }
        assert!(most > 4 << 20, "it was never large: {most}");
        let again = Boots::default();
        read(&path, &again).unwrap();
        let last = long(499);
        assert_eq!(again.timelines().boots(last.mac).next_back(), Some(&last));
    }

    #[test]
    fn on_a_full_disk_it_gives_way_and_is_written_again_later() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        fs::write(&path, vec![b'\n'; 2 << 20]).unwrap();
        let file = Mutex::new(Store { room: full, ..Store::new(path.clone()) });
        let keeper = Keeper { boots: Boots::default(), file };
        keeper.boots.timelines().put(long(7));
        keeper.store(false);
        assert_eq!(fs::metadata(&path).unwrap().len(), 0);
        keeper.store(true);
        assert_eq!(fs::metadata(&path).unwrap().len(), 0, "there is no room yet");
        keeper.file.lock().unwrap().room = small;
        keeper.store(true);
        let again = Boots::default();
        assert_eq!(read(&path, &again).unwrap(), (1, Unreadable::default()));
        assert_eq!(again.timelines().boots(long(7).mac).next_back(), Some(&long(7)));
    }

    #[test]
    fn lines_that_cannot_be_read_are_counted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        let boot = serde_json::to_string(&long(7)).unwrap();
        let too_long = "x".repeat(LONGEST_LINE as usize + 7);
        fs::write(&path, format!("{boot}\n\n{{\"mac\":\n{too_long}\n{boot}\n{{\"mac\"")).unwrap();
        let boots = Boots::default();
        assert_eq!(read(&path, &boots).unwrap(), (6, Unreadable { count: 3, first: 3 }));
        assert_eq!(boots.timelines().boots(long(7).mac).next_back(), Some(&long(7)));
    }

    #[test]
    fn a_line_that_is_too_long_is_passed_over_and_fills_no_memory() {
        let long = vec![b'x'; 3 * LONGEST_LINE as usize];
        let mut file = io::Cursor::new([&b"one\n"[..], &long[..], &b"\ntwo\n\nthr"[..]].concat());
        let (mut line, mut lines) = (Vec::new(), Vec::new());
        while next_line(&mut file, &mut line).unwrap() {
            assert!(line.capacity() < long.len());
            lines.push(String::from_utf8(line.clone()).unwrap());
        }
        assert_eq!(lines, ["one\n", "", "two\n", "\n", "thr"]);
    }

    #[test]
    fn a_pipe_in_its_place_is_replaced_and_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("boots.jsonl");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let boots = Boots::default();
        assert!(read(&path, &boots).is_err());
        let mut store = Store::new(path.clone());
        store.append(&[], &boots).unwrap();
        assert!(fs::metadata(&path).unwrap().is_file());
    }
}
