//! The thread that keeps the boots of every machine, and the file that they are in after a restart.
//!
//! The file has one boot a line, as JSON. A boot that goes on after it was written gets a new line, and the last line of a
//! boot counts. When most lines are old, the file is written anew. It is not synced: a power cut loses some seconds.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, BufWriter, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use tracing::{debug, warn};

use super::request::Boots;
use crate::host::clock;
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
const LONGEST_LINE: usize = 1 << 20;

/// Keeps the boots.
pub(super) struct Keeper {
    boots: Boots,
    file: Mutex<Store>,
}

struct Store {
    path: PathBuf,
    lines: usize,
    has_failed: bool,
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
        let file = Mutex::new(Store { path, lines, has_failed: false });
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
        let now = millis(clock::now().wall);
        let unsaved = self.boots.timelines().take_unsaved(now, all);
        if unsaved.is_empty() {
            return;
        }
        let mut store = self.file.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match store.append(&unsaved, &self.boots) {
            Ok(()) => store.has_failed = false,
            Err(error) if store.has_failed => debug!("cannot store boots: {error}"),
            Err(error) => {
                store.has_failed = true;
                let path = store.path.display();
                warn!(
                    "cannot write {path}: {error}; boots are kept in memory only, and a restart forgets them"
                );
            }
        }
    }
}

impl Store {
    fn append(&mut self, boots: &[Boot], all: &Boots) -> io::Result<()> {
        let kept = all.timelines().count();
        if self.lines + boots.len() > 2 * kept + MOST_OLD {
            return self.rewrite(all);
        }
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&self.path)?;
        write(file, boots)?;
        self.lines += boots.len();
        Ok(())
    }

    fn rewrite(&mut self, all: &Boots) -> io::Result<()> {
        let boots: Vec<Boot> = {
            let timelines = all.timelines();
            timelines.macs().into_iter().flat_map(|mac| timelines.boots(mac).cloned()).collect()
        };
        let new = self.path.with_extension("new");
        let file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&new)?;
        write(file, &boots)?;
        fs::rename(&new, &self.path)?;
        self.lines = boots.len();
        Ok(())
    }
}

fn write(file: File, boots: &[Boot]) -> io::Result<()> {
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
    for line in BufReader::new(File::open(path)?).split(b'\n') {
        let line = line?;
        lines += 1;
        if line.len() > LONGEST_LINE {
            continue;
        }
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

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The time of the boot clock by the wall clock.
fn wall(now: Now, at: Duration) -> u64 {
    millis(now.wall.saturating_sub(now.boot.saturating_sub(at)))
}
