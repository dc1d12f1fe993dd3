//! What is in a directory, by names without regard to case: kept, because loaders ask for many names that are not there.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::fs::Dir;

use crate::host::clock;

/// Names that are kept of all directories together, some 100 bytes each.
const MOST_NAMES: usize = 100_000;
/// Directories that are kept.
const MOST_DIRECTORIES: usize = 256;
/// A directory that changed this lately may change again without its time's changing: clocks of file systems move in
/// steps, of up to two seconds.
const SETTLED: Duration = Duration::from_secs(2);

/// Directories as they were when they were last read.
#[derive(Debug, Default)]
pub(super) struct Listings(Mutex<HashMap<Identity, Listing>>);

/// Device and inode.
type Identity = (u64, u64);

/// For so long a listing is believed: what some file systems say of their directories' changes never changes.
const BELIEVED: Duration = Duration::from_secs(60);

#[derive(Debug)]
struct Listing {
    /// When it was read.
    read: Duration,
    /// The time of the inode's last change since 1970: each name that comes or goes is one.
    changed: Duration,
    /// Name in lower case → name.
    names: HashMap<Vec<u8>, Vec<u8>>,
}

impl Listings {
    /// The name in a directory that differs from `name` in case only. Of two spellings side by side it is always the
    /// same one, whatever order the file system lists them in.
    pub(super) fn find(&self, dir: OwnedFd, name: &str) -> Option<Vec<u8>> {
        let facts = rustix::fs::fstat(&dir).ok()?;
        let seconds = u64::try_from(facts.st_ctime).unwrap_or(0);
        let changed = Duration::new(seconds, u32::try_from(facts.st_ctime_nsec).unwrap_or(0));
        let read = || {
            let entries = Dir::new(dir).into_iter().flatten().flatten();
            entries.map(|entry| entry.file_name().to_bytes().to_vec()).collect()
        };
        self.look_up((facts.st_dev, facts.st_ino), changed, clock::wall(), name, read)
    }

    fn look_up(
        &self,
        identity: Identity,
        changed: Duration,
        now: Duration,
        name: &str,
        read: impl FnOnce() -> Vec<Vec<u8>>,
    ) -> Option<Vec<u8>> {
        let name = name.as_bytes().to_ascii_lowercase();
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(listing) = known
            .get(&identity)
            .filter(|listing| listing.changed == changed && now.saturating_sub(listing.read) < BELIEVED)
        {
            return listing.names.get(&name).cloned();
        }
        // Reading may take long.
        drop(known);
        let mut all = read();
        all.sort_unstable_by(|a, b| b.cmp(a));
        // The last of several stays, which is the first in order.
        let names: HashMap<_, _> = all.into_iter().map(|name| (name.to_ascii_lowercase(), name)).collect();
        let found = names.get(&name).cloned();
        if now.saturating_sub(changed) >= SETTLED && names.len() <= MOST_NAMES {
            let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let others = known.iter().filter(|(other, _)| **other != identity);
            let kept: usize = others.map(|(_, listing)| listing.names.len()).sum();
            if kept + names.len() > MOST_NAMES || known.len() >= MOST_DIRECTORIES {
                known.clear();
            }
            known.insert(identity, Listing { read: now, changed, names });
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const NOW: Duration = Duration::from_secs(1_000_000);

    fn names(names: &[&str]) -> Vec<Vec<u8>> {
        names.iter().map(|name| name.as_bytes().to_vec()).collect()
    }

    #[test]
    fn a_directory_is_read_once_for_any_number_of_names_until_it_changes() {
        let (listings, reads) = (Listings::default(), Cell::new(0));
        let look_up = |changed: Duration, name: &str, content: &[&str]| {
            let read = || {
                reads.set(reads.get() + 1);
                names(content)
            };
            let found = listings.look_up((1, 2), changed, NOW, name, read);
            found.map(|name| String::from_utf8(name).unwrap())
        };
        let old = NOW - SETTLED;
        for _ in 0..1000 {
            assert_eq!(look_up(old, "01-52-54-00-00-00-0a", &["default", "DEFAULT", "Other"]), None);
        }
        assert_eq!(look_up(old, "other", &[]), Some("Other".to_owned()));
        assert_eq!(look_up(old, "Default", &[]), Some("DEFAULT".to_owned()), "the first in order");
        assert_eq!(reads.get(), 1);
        // As a file that comes within the same step of the clock would show nowhere, it is not kept yet.
        let lately = old + Duration::from_nanos(1);
        assert_eq!(look_up(lately, "other", &[]), None);
        assert_eq!(look_up(lately, "other", &["OTHER"]), Some("OTHER".to_owned()));
        assert_eq!(reads.get(), 3);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let listings = Listings::default();
        let many: Vec<String> = (0..MOST_NAMES / 2).map(|number| number.to_string()).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        for inode in 0..5 {
            listings.look_up((1, inode), Duration::ZERO, NOW, "x", || names(&many));
            let known = listings.0.lock().unwrap();
            assert!(known.values().map(|listing| listing.names.len()).sum::<usize>() <= MOST_NAMES);
            assert!(known.contains_key(&(1, inode)));
        }
        for inode in 0..1000 {
            listings.look_up((2, inode), Duration::ZERO, NOW, "x", Vec::new);
        }
        assert!(listings.0.lock().unwrap().len() <= MOST_DIRECTORIES, "empty ones");
        listings.look_up((9, 9), Duration::ZERO, NOW, "x", || names(&many.repeat(3)));
        assert!(listings.look_up((9, 9), Duration::ZERO, NOW, "7", || names(&["7"])).is_some());
    }
}
