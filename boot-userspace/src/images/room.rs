//! Room: how large the store is, and who leaves when it has to hold more.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, FileTimes};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::time::{Duration, UNIX_EPOCH};

use super::error::ImageError;
use super::layout::Layout;
use super::record::Record;
use crate::host::size::human_size;
use crate::host::{clock, replace};
use boot_engine::config::{ImageName, Sha256Digest};

/// What the store leaves free on its disk, where the leases are too: 64 MiB, or a sixteenth of a small disk.
const FREE: u64 = 64 << 20;

/// An image whose upstream does not say how large it is may take the place of others up to this part of the store.
pub(super) const UNTOLD: u64 = 4;

/// A whole image on disk.
#[derive(Clone, Debug)]
pub(super) struct Blob {
    pub(super) digest: Sha256Digest,
    pub(super) size: u64,
    /// When it was last wanted, since 1970.
    pub(super) used: Duration,
    /// Who means it.
    pub(super) names: Vec<ImageName>,
    pub(super) stays: bool,
}

/// Every blob. Two names of one content are one blob.
pub(super) fn blobs(layout: &Layout) -> Result<Vec<Blob>, ImageError> {
    let mut names: HashMap<Sha256Digest, (Vec<ImageName>, bool)> = HashMap::new();
    for (name, record) in Record::all(layout)? {
        let Ok(record) = record else { continue };
        if let Some(digest) = record.sha256 {
            let (names, stays) = names.entry(digest).or_default();
            names.push(name);
            *stays |= record.stays();
        }
    }
    let entries = layout.entries("blobs").map_err(|error| ImageError::disk(layout.root(), &error))?;
    let blob = |(name, _, facts): (String, _, fs::Metadata)| {
        let digest: Sha256Digest = name.parse().ok().filter(|_| facts.is_file())?;
        let (names, stays) = names.remove(&digest).unwrap_or_default();
        let marked = fs::symlink_metadata(layout.used(digest)).and_then(|mark| mark.modified());
        let used = marked.or_else(|_| facts.modified()).unwrap_or(UNIX_EPOCH);
        let used = used.duration_since(UNIX_EPOCH).unwrap_or_default();
        Some(Blob { digest, size: facts.len(), used, names, stays })
    };
    Ok(entries.into_iter().filter_map(blob).collect())
}

/// Notes that a blob is wanted now.
pub(super) fn mark_used(layout: &Layout, digest: Sha256Digest) {
    let path = layout.used(digest);
    let marked = File::options().create(true).truncate(false).write(true).mode(0o600).open(path);
    let now = FileTimes::new().set_modified(UNIX_EPOCH + clock::wall());
    // Without the mark it only leaves sooner.
    marked.and_then(|file| file.set_times(now)).ok();
}

/// Bytes that need room.
#[derive(Clone, Copy, Debug)]
pub(super) struct Need {
    /// Those that come next: images leave for these.
    pub(super) now: u64,
    /// With all that come later. Where there could be no room for all, no image leaves for the first.
    pub(super) in_all: u64,
    /// Images that a name means leave for it too.
    pub(super) takes_named: bool,
}

impl Need {
    /// So many bytes, and nothing later.
    pub(super) fn all_now(bytes: u64) -> Self {
        Self { now: bytes, in_all: bytes, takes_named: true }
    }
}

/// Lets those leave that nobody means, then those that were not wanted for longest, until the bytes fit into `limit` and
/// onto the disk. Nothing leaves where that would not be enough.
pub(super) fn make(layout: &Layout, limit: u64, need: Need) -> Result<Vec<Blob>, ImageError> {
    let lock = layout.lock().map_err(|error| ImageError::disk(layout.root(), &error))?;
    let mut all = blobs(layout)?;
    let partials = layout.entries("partial").map_err(|error| ImageError::disk(layout.root(), &error))?;
    let partials: u64 = partials.iter().map(|(_, _, facts)| allocated(facts)).sum();
    let used = partials + all.iter().map(|blob| blob.size).sum::<u64>();
    let free = free(layout)?;
    all.sort_by_key(|blob| (!blob.names.is_empty(), blob.used));
    let over = |need: u64| used.saturating_add(need).saturating_sub(limit);
    let short = |need: u64| need.saturating_add(free.kept).saturating_sub(free.now);
    let may_leave = |blob: &Blob| !blob.stays && (need.takes_named || blob.names.is_empty());
    let (leave, stay): (Vec<Blob>, Vec<Blob>) = all.into_iter().partition(may_leave);
    let most = leave.iter().map(|blob| blob.size).sum::<u64>();
    if most < over(need.in_all) && !need.takes_named {
        return Err(ImageError::TooLarge(format!(
            "{} more do not fit into the store: the upstream does not say how large its image is, and of such a one no more than \
             {} may come in place of other images; raise size in [images], or remove images",
            human_size(need.in_all),
            human_size(limit / UNTOLD)
        )));
    }
    if most < over(need.in_all) {
        let pinned = human_size(stay.iter().map(|blob| blob.size).sum());
        return Err(ImageError::TooLarge(format!(
            "{} more do not fit into the store: size in [images] is {}, and {pinned} of it are pinned images; raise size, \
             or remove or unpin images",
            human_size(need.in_all),
            human_size(limit)
        )));
    }
    if most < short(need.in_all) {
        return Err(ImageError::Full {
            dir: layout.root().display().to_string(),
            free: human_size(free.now),
            needed: human_size(short(need.in_all) - most),
        });
    }
    let mut leaving = Vec::new();
    let mut won = 0;
    for blob in leave {
        if won >= over(need.now).max(short(need.now)) {
            break;
        }
        won += blob.size;
        leaving.push(blob);
    }
    for blob in &leaving {
        remove(layout, blob.digest)?;
    }
    drop(lock);
    Ok(leaving)
}

/// Takes a blob off the disk. Its sums stay: whoever fetches it again can tell each piece by them.
pub(super) fn remove(layout: &Layout, digest: Sha256Digest) -> Result<(), ImageError> {
    let gone =
        |path: std::path::PathBuf| replace::remove(&path).map_err(|error| ImageError::disk(&path, &error));
    gone(layout.blob(digest))?;
    gone(layout.used(digest))
}

/// A disk's room for those who are not root.
struct Free {
    now: u64,
    kept: u64,
}

fn free(layout: &Layout) -> Result<Free, ImageError> {
    let facts =
        rustix::fs::statvfs(layout.root()).map_err(|errno| ImageError::disk(layout.root(), &errno.into()))?;
    let unit = facts.f_frsize;
    let all = facts.f_blocks.saturating_mul(unit);
    Ok(Free { now: facts.f_bavail.saturating_mul(unit), kept: FREE.min(all / 16) })
}

fn allocated(facts: &fs::Metadata) -> u64 {
    facts.blocks().saturating_mul(512).min(facts.len())
}

/// What a clean-up has removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// What it was, for people.
    pub what: Vec<String>,
    /// Bytes.
    pub bytes: u64,
}

/// Removes what no name needs: blobs, parts of images without a name, what was found damaged, sums and marks; then what
/// is too much for `limit`. With `dry_run` only says so.
pub(super) fn clean(
    layout: &Layout,
    limit: u64,
    known: &HashSet<ImageName>,
    dry_run: bool,
) -> Result<Removed, ImageError> {
    let disk = |error| ImageError::disk(layout.root(), &error);
    let mut removed = Removed::default();
    let mut drop_file = |path: &std::path::Path, size: u64, what: String| {
        removed.what.push(what);
        removed.bytes += size;
        if dry_run { Ok(()) } else { replace::remove(path).map_err(|error| ImageError::disk(path, &error)) }
    };
    {
        let _lock = layout.lock().map_err(disk)?;
        let mut kept = HashSet::new();
        for blob in blobs(layout)? {
            if blob.names.is_empty() {
                let what = format!("image {} that no name means ({})", blob.digest, human_size(blob.size));
                drop_file(&layout.blob(blob.digest), blob.size, what)?;
            } else {
                kept.insert(blob.digest.to_string());
            }
        }
        let records = Record::all(layout)?;
        let meant: HashSet<String> = records
            .iter()
            .filter_map(|(_, record)| record.as_ref().ok()?.sha256.map(|digest| digest.to_string()))
            .collect();
        let names: HashSet<&str> = records
            .iter()
            .map(|(name, _)| name.as_str())
            .chain(known.iter().map(ImageName::as_str))
            .collect();
        for (name, path, facts) in layout.entries("partial").map_err(disk)? {
            let of = name.split('~').next().unwrap_or_default();
            if !names.contains(of) {
                drop_file(&path, facts.len(), format!("{name}, a part of an image without a name"))?;
            }
        }
        for (name, path, facts) in layout.entries("bad").map_err(disk)? {
            drop_file(
                &path,
                facts.len(),
                format!("{name}, which was damaged ({})", human_size(facts.len())),
            )?;
        }
        for (folder, keep) in [("sums", &meant), ("used", &kept)] {
            for (name, path, facts) in layout.entries(folder).map_err(disk)? {
                if !keep.contains(&name) {
                    drop_file(&path, facts.len(), format!("{folder} of {name}"))?;
                }
            }
        }
    }
    if !dry_run {
        for blob in make(layout, limit, Need::all_now(0))? {
            removed.what.push(format!("the bytes of image {} ({})", blob.digest, human_size(blob.size)));
            removed.bytes += blob.size;
        }
    }
    Ok(removed)
}
