//! Where things lie in the store, and how they are written: whole or not at all.

use std::fs::{self, DirBuilder, File, Metadata, Permissions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::fcntl::{Flock, FlockArg};
use rustix::fs::OFlags;

use boot_engine::config::{ImageName, Sha256Digest};

/// The store in `state_dir`.
///
/// ```text
/// blobs/DIGEST       a whole image; its name is the SHA-256 of its bytes
/// sums/DIGEST        the SHA-256 of each MiB of it, 32 bytes each; they stay when the image has to make room
/// used/DIGEST        empty; its time says when the image was last wanted
/// names/NAME         which image a name means now, and where it comes from (JSON)
/// partial/NAME       what has come so far, with NAME~sums (as above) and NAME~facts (JSON) beside it
/// bad/DIGEST         what was a blob and had other bytes than its name says
/// lock               held by whoever changes names or removes blobs
/// ```
#[derive(Clone, Debug)]
pub(super) struct Layout {
    root: PathBuf,
}

const FOLDERS: [&str; 6] = ["blobs", "sums", "used", "names", "partial", "bad"];

impl Layout {
    /// The store of a `state_dir`, which may not be there yet.
    pub(super) fn new(state_dir: &Path) -> Self {
        Self { root: state_dir.join("images") }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Makes what is missing of the directories.
    pub(super) fn make(&self) -> io::Result<()> {
        for folder in FOLDERS {
            DirBuilder::new().recursive(true).mode(0o700).create(self.root.join(folder))?;
        }
        Ok(())
    }

    pub(super) fn blob(&self, digest: Sha256Digest) -> PathBuf {
        self.root.join("blobs").join(digest.to_string())
    }

    pub(super) fn sums(&self, digest: Sha256Digest) -> PathBuf {
        self.root.join("sums").join(digest.to_string())
    }

    pub(super) fn used(&self, digest: Sha256Digest) -> PathBuf {
        self.root.join("used").join(digest.to_string())
    }

    pub(super) fn bad(&self, digest: Sha256Digest) -> PathBuf {
        self.root.join("bad").join(digest.to_string())
    }

    pub(super) fn record(&self, name: &ImageName) -> PathBuf {
        self.root.join("names").join(name.as_str())
    }

    pub(super) fn partial(&self, name: &ImageName) -> PathBuf {
        self.root.join("partial").join(name.as_str())
    }

    pub(super) fn partial_sums(&self, name: &ImageName) -> PathBuf {
        self.root.join("partial").join(format!("{name}~sums"))
    }

    pub(super) fn partial_facts(&self, name: &ImageName) -> PathBuf {
        self.root.join("partial").join(format!("{name}~facts"))
    }

    /// What is in one of the folders, with what the system says of each entry.
    pub(super) fn entries(&self, folder: &str) -> io::Result<Vec<(String, PathBuf, Metadata)>> {
        let mut entries = Vec::new();
        let listing = match fs::read_dir(self.root.join(folder)) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(entries),
            listing => listing?,
        };
        for entry in listing {
            let entry = entry?;
            // Whoever else changes the store may remove it meanwhile.
            let Ok(facts) = fs::symlink_metadata(entry.path()) else { continue };
            entries.push((entry.file_name().to_string_lossy().into_owned(), entry.path(), facts));
        }
        entries.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        Ok(entries)
    }

    /// Waits until nobody else changes names or removes blobs, the command line beside the daemon for instance; others wait
    /// until the lock is dropped. Nobody holds it while he waits for a network.
    pub(super) fn lock(&self) -> io::Result<Flock<File>> {
        self.make()?;
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(self.root.join("lock"))?;
        Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| errno.into())
    }

    /// Who may change the store besides its owner, as a sentence; root may always.
    pub(super) fn is_open_to_others(&self) -> Option<String> {
        let looked = FOLDERS.iter().map(|folder| self.root.join(folder)).chain([self.root.clone()]);
        looked.into_iter().find_map(|path| {
            let facts = fs::metadata(&path).ok()?;
            let own = nix::unistd::geteuid().as_raw();
            let (mode, owner) = (facts.mode() & 0o777, facts.uid());
            if owner != own && owner != 0 {
                return Some(format!(
                    "{} belongs to the user {owner}, who can change the images that machines boot: chown it to the user of xpxe",
                    path.display()
                ));
            }
            (mode & 0o022 != 0).then(|| {
                format!(
                    "others can change {} (mode {mode:03o}), and so the images that machines boot: chmod 700 it",
                    path.display()
                )
            })
        })
    }
}

/// Opens a file of the store for reading: never a link, a pipe or a directory that somebody has put in its place.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let flags = (OFlags::NONBLOCK | OFlags::NOFOLLOW).bits().cast_signed();
    let file = match File::options().read(true).custom_flags(flags).open(path) {
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {
            return Err(foreign(path, "a symbolic link"));
        }
        opened => opened?,
    };
    if !file.metadata()?.is_file() {
        return Err(foreign(path, "not a regular file"));
    }
    Ok(file)
}

fn foreign(path: &Path, what: &str) -> io::Error {
    io::Error::other(format!("{} is {what}, which xpxe never puts there: remove it", path.display()))
}

/// Replaces a file by another content; after a power cut it has the one or the other.
pub(super) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // Two names may get the same image at once, and write the same file. Names have no tilde in them.
    static WRITTEN: AtomicU64 = AtomicU64::new(0);
    let mut new = path.as_os_str().to_owned();
    new.push(format!("~{}-{}", std::process::id(), WRITTEN.fetch_add(1, Ordering::Relaxed)));
    let new = PathBuf::from(new);
    let result = (|| {
        let mut file = File::options().create(true).truncate(true).write(true).mode(0o600).open(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        sync_folder(path)
    })();
    if result.is_err() {
        fs::remove_file(&new).ok();
    }
    result
}

/// Has the names in the folder of `path` survive a power cut.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

/// Makes a blob of a file: nobody is to write to it any more.
pub(super) fn seal(file: &File) -> io::Result<()> {
    file.set_permissions(Permissions::from_mode(0o400))?;
    file.sync_all()
}
