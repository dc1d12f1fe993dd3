//! The thread that keeps the boots of every machine, and the file that they are in after a restart.
//!
//! The file has one boot a line, as JSON. A boot that goes on after it was written gets a new line, and the last line of a
//! boot counts. When most lines are old, the file is written anew. What is appended is not synced: a power cut loses some
//! seconds.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use tracing::{debug, warn};

use super::request::Boots;
use crate::host::replace::{PRIVATE, replace_by};
use crate::host::{clock, regular};
use boot_engine::command::Now;
use boot_engine::diagnosis::{Boot, MOST_BOOTS, MOST_MACHINES};

/// The file's name in `state_dir`.
const FILE: &str = "boots.jsonl";
/// How often notes are put into the timelines.
const EVERY: Duration = Duration::from_millis(100);
/// After so many of these the boots that are silent are stored.
const ROUNDS: u32 = 10;
/// So many lines more than there are boots, and the file is written anew.
const MOST_OLD: usize = 50_000;
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

struct Store {
    path: PathBuf,
    lines: usize,
    /// When the last write failed, if it did.
    failed: Option<Instant>,
}

impl Keeper {
    /// Reads what an earlier daemon has stored, and begins.
    pub(super) fn start(boots: Boots, state_dir: &Path) -> std::sync::Arc<Self> {
        let path = state_dir.join(FILE);
        let lines = match read(&path, &boots) {
            Ok(lines) => lines,
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => {
                warn!("cannot read {}: {error}; earlier boots are not shown", path.display());
                0
            }
        };
        let file = Mutex::new(Store { path, lines, failed: None });
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
        if !all && store.failed.is_some_and(|failed| failed.elapsed() < RETRY) {
            return;
        }
        let now = millis(clock::now().wall);
        let unsaved = self.boots.timelines().take_unsaved(now, all);
        if unsaved.is_empty() {
            return;
        }
        let Err(error) = store.append(&unsaved, &self.boots) else {
            store.failed = None;
            return;
        };
        self.boots.timelines().put_back(unsaved);
        if store.failed.replace(Instant::now()).is_some() {
            debug!("cannot store boots: {error}");
        } else {
            let path = store.path.display();
            warn!("cannot write {path}: {error}; boots are kept in memory only, and a restart forgets them");
        }
    }
}

impl Store {
    fn append(&mut self, boots: &[Boot], all: &Boots) -> io::Result<()> {
        let kept = all.timelines().count();
        if self.lines + boots.len() > 2 * kept + MOST_OLD {
            return self.rewrite(all);
        }
        let mut open = OpenOptions::new();
        open.create(true).read(true).append(true).mode(0o600).custom_flags(libc::O_NONBLOCK);
        let file = open.open(&self.path)?;
        if !file.metadata()?.is_file() {
            // A pipe in its place would be waited for.
            return self.rewrite(all);
        }
        if is_cut(&file)? {
            (&file).write_all(b"\n")?;
        }
        write(&file, boots)?;
        self.lines += boots.len();
        Ok(())
    }

    fn rewrite(&mut self, all: &Boots) -> io::Result<()> {
        let boots: Vec<Boot> = {
            let timelines = all.timelines();
            timelines.macs().into_iter().flat_map(|mac| timelines.boots(mac).cloned()).collect()
        };
        replace_by(&self.path, PRIVATE, |file| write(file, &boots))?;
        self.lines = boots.len();
        Ok(())
    }
}

/// Whether the last line has no end: xpxe was killed while it wrote, or the disk was full.
fn is_cut(file: &File) -> io::Result<bool> {
    let Some(at) = file.metadata()?.len().checked_sub(1) else { return Ok(false) };
    let mut last = [0];
    file.read_exact_at(&mut last, at)?;
    Ok(last != *b"\n")
}

fn write(file: &File, boots: &[Boot]) -> io::Result<()> {
    let mut file = BufWriter::new(file);
    for boot in boots {
        serde_json::to_writer(&mut file, boot)?;
        file.write_all(b"\n")?;
    }
    file.flush()
}

/// Gives the number of lines. A line that cannot be read is passed over: it was cut off, or is of another version.
fn read(path: &Path, into: &Boots) -> io::Result<usize> {
    let mut lines = 0;
    let mut found: BTreeMap<(u64, [u8; 6]), Boot> = BTreeMap::new();
    let mut file = BufReader::new(regular::open(path)?);
    let mut line = Vec::new();
    while next_line(&mut file, &mut line)? {
        lines += 1;
        let Ok(boot) = serde_json::from_slice::<Boot>(&line) else { continue };
        found.insert((boot.opened, boot.mac.0), boot);
        if found.len() > MOST_MACHINES * MOST_BOOTS {
            found.pop_first();
        }
    }
    let mut timelines = into.timelines();
    for boot in found.into_values() {
        timelines.put(boot);
    }
    Ok(lines)
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

    use super::*;

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
        let mut store = Store { path: path.clone(), lines: 0, failed: None };
        store.append(&[], &boots).unwrap();
        assert!(fs::metadata(&path).unwrap().is_file());
    }

    #[test]
    fn a_line_that_was_cut_off_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        for (text, cut) in [("", false), ("{}\n", false), ("{}\n{\"mac\"", true)] {
            let path = dir.path().join("boots");
            fs::write(&path, text).unwrap();
            assert_eq!(is_cut(&File::open(&path).unwrap()).unwrap(), cut, "{text:?}");
        }
    }
}
