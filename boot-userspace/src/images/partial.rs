//! What has come of an image so far, on disk: it outlives the process that fetches it.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use super::error::ImageError;
use super::layout::{self, Layout};
use super::sums::{self, Sums};
use crate::host::replace;
use boot_engine::config::{ImageName, Sha256Digest};

/// Which content of the upstream it is a part of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Facts {
    pub(super) url: String,
    pub(super) etag: Option<String>,
    pub(super) modified: Option<String>,
    pub(super) total: Option<u64>,
}

/// A part of an image. Its lock keeps other processes from fetching the same.
#[derive(Debug)]
pub(super) struct Partial {
    layout: Layout,
    name: ImageName,
    file: Flock<File>,
    sums_file: File,
    pub(super) sums: Sums,
    pub(super) facts: Facts,
}

impl Partial {
    /// Opens what there is of an image from `url`, or begins it. `None`: another process is at it.
    pub(super) fn open(layout: &Layout, name: &ImageName, url: &str) -> io::Result<Option<Self>> {
        layout.make()?;
        let file = match Flock::lock(create(layout.partial(name))?, FlockArg::LockExclusiveNonblock) {
            Ok(file) => file,
            Err((_, Errno::EAGAIN)) => return Ok(None),
            Err((_, errno)) => return Err(errno.into()),
        };
        // The other process may just have made a blob of the file that was locked here.
        if !is_at(&file, &layout.partial(name)) {
            return Ok(None);
        }
        let sums_file = create(layout.partial_sums(name))?;
        let facts = read_facts(layout, name).filter(|facts| facts.url == url);
        let begins = facts.is_none();
        let facts = facts.unwrap_or_else(|| Facts { url: url.to_owned(), ..Facts::default() });
        let sums =
            if begins { Sums::default() } else { Sums::of_file(&file, Some(&read_sums(&sums_file)?))? };
        let mut partial = Self { layout: layout.clone(), name: name.clone(), file, sums_file, sums, facts };
        if begins {
            partial.begin(partial.facts.clone())?;
        } else {
            partial.cut()?;
        }
        Ok(Some(partial))
    }

    /// Takes what has come of an image off the disk, unless somebody fetches it.
    pub(super) fn discard(layout: &Layout, name: &ImageName) -> io::Result<()> {
        let path = layout.partial(name);
        let file = match layout::open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            opened => opened?,
        };
        let file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => file,
            Err((_, Errno::EAGAIN)) => return Ok(()),
            Err((_, errno)) => return Err(errno.into()),
        };
        // The other process may just have made a blob of the file that was locked here.
        if !is_at(&file, &path) {
            return Ok(());
        }
        replace::remove(&path)?;
        replace::remove(&layout.partial_sums(name))?;
        replace::remove(&layout.partial_facts(name))
    }

    /// Starts from nothing, with another content of the upstream.
    pub(super) fn begin(&mut self, facts: Facts) -> io::Result<()> {
        self.sums = Sums::default();
        self.cut()?;
        self.facts = facts;
        self.write_facts()
    }

    /// Writes down what is known of the content.
    pub(super) fn write_facts(&self) -> io::Result<()> {
        let bytes = serde_json::to_vec(&self.facts).unwrap_or_default();
        layout::write(&self.layout.partial_facts(&self.name), &bytes)
    }

    /// Leaves no more than what the sums are of.
    fn cut(&mut self) -> io::Result<()> {
        self.file.set_len(self.sums.len)?;
        self.sums_file.set_len(self.sums.pieces.len() as u64 * 32)
    }

    pub(super) fn len(&self) -> u64 {
        self.sums.len
    }

    /// Opens it once more: who reads keeps no lock.
    pub(super) fn reader(&self) -> io::Result<File> {
        layout::open(&self.layout.partial(&self.name))
    }

    pub(super) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, self.sums.len)?;
        let before = self.sums.pieces.len();
        self.sums.update(bytes);
        let new = self.sums.pieces.get(before..).unwrap_or_default();
        self.sums_file.write_all_at(&sums::to_bytes(new), before as u64 * 32)
    }

    /// Makes the blob `digest` of it, which `sums` are of.
    pub(super) fn finish(self, digest: Sha256Digest, pieces: &[Sha256Digest]) -> Result<(), ImageError> {
        let (part, blob) = (self.layout.partial(&self.name), self.layout.blob(digest));
        let sums = self.layout.sums(digest);
        layout::seal(&self.file).map_err(|error| ImageError::disk(&part, &error))?;
        layout::write(&sums, &sums::to_bytes(pieces)).map_err(|error| ImageError::disk(&sums, &error))?;
        let moved = std::fs::rename(&part, &blob).and_then(|()| layout::sync_folder(&blob));
        moved.map_err(|error| ImageError::disk(&blob, &error))?;
        self.remove().map_err(|error| ImageError::disk(&part, &error))
    }

    /// Takes it off the disk.
    pub(super) fn remove(self) -> io::Result<()> {
        let path = self.layout.partial(&self.name);
        if is_at(&self.file, &path) {
            replace::remove(&path)?;
        }
        replace::remove(&self.layout.partial_sums(&self.name))?;
        replace::remove(&self.layout.partial_facts(&self.name))
    }
}

fn create(path: PathBuf) -> io::Result<File> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let mut options = File::options();
    options.create(true).truncate(false).read(true).write(true).mode(0o600).custom_flags(flags);
    let file = options.open(&path).map_err(|error| {
        let foreign = matches!(error.raw_os_error(), Some(libc::ELOOP | libc::EISDIR | libc::ENXIO));
        if foreign {
            io::Error::other(format!("{} is not a regular file: remove it", path.display()))
        } else {
            error
        }
    })?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other(format!("{} is not a regular file: remove it", path.display())));
    }
    Ok(file)
}

fn is_at(file: &File, path: &std::path::Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let (Ok(own), Ok(there)) = (file.metadata(), std::fs::symlink_metadata(path)) else { return false };
    (own.dev(), own.ino()) == (there.dev(), there.ino())
}

fn read_facts(layout: &Layout, name: &ImageName) -> Option<Facts> {
    let file = layout::open(&layout.partial_facts(name)).ok()?;
    serde_json::from_reader(io::Read::take(file, 64 << 10)).ok()
}

fn read_sums(file: &File) -> io::Result<Vec<Sha256Digest>> {
    let mut bytes = vec![0; usize::try_from(file.metadata()?.len()).unwrap_or(0)];
    match file.read_exact_at(&mut bytes, 0) {
        Err(error) if error.kind() != ErrorKind::UnexpectedEof => Err(error),
        Err(_) => Ok(Vec::new()),
        Ok(()) => Ok(sums::from_bytes(&bytes)),
    }
}
