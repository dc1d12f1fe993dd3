//! The names TFTP and HTTP may serve: everything beneath the boot directory, and the iPXE binaries.
//!
//! Names are read tolerantly, because firmware writes them in many ways (backslashes, doubled slashes, `..`, `%20`,
//! other case), and resolved strictly: the kernel itself refuses every path that leads out of the boot directory.

mod audit;
mod authenticode;
mod configured;
mod inspect;
mod listing;
mod loader;
mod loader_files;
mod local;
mod path;
mod pe;
pub mod percent;
mod secure_boot;
mod signed;
mod tokens;
mod unlisted;

#[cfg(test)]
mod tests;

use crate::host::size::human_size;
use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use boot_common::class::Firmware;
use rustix::fs::OFlags;
use rustix::io::Errno;

pub use audit::{Finding, Verdict};
pub use inspect::{HEAD, Inspection, inspect, inspect_for_firmware, inspect_for_ipxe, is_efi_application};
pub use loader::MissingLoader;
pub use tokens::DocumentTokens;

use crate::host::descriptors;
use crate::host::live::Live;
use boot_engine::events::{NotServed, WhyNotServed, shown};
use inspect::Need;
use listing::Listings;
use loader::{Loader, behind_alias, candidates, loader};
use local::Local;
use path::{Root, tidy};
use signed::Signed;

/// A file that may be served.
#[derive(Debug)]
pub struct OpenFile {
    /// The file, opened for reading.
    pub file: File,
    /// Its size in bytes.
    pub size: u64,
    /// When its content last changed.
    pub modified: SystemTime,
    /// Device and inode: the same for every opening of the same file.
    pub identity: (u64, u64),
    /// What it was opened by.
    pub path: PathBuf,
    /// When its content or its inode last changed, in seconds and nanoseconds since 1970.
    changed: (i64, i64),
    label: Label,
}

/// What can be changed about a file without changing its content.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Label {
    names: u64,
    mode: u32,
    owner: (u32, u32),
}

/// Equal for two openings only if they have the same content, as far as the file system's clock tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Version {
    identity: (u64, u64),
    size: u64,
    modified: SystemTime,
    /// Unlike `modified`, nobody can set it: it gives away a copy with its old time, as rsync makes them.
    changed: (i64, i64),
}

impl OpenFile {
    /// A file that was opened as `path`.
    ///
    /// # Errors
    /// It is no file, or the system cannot say.
    pub fn of(file: File, path: PathBuf) -> Result<Self, OpenError> {
        regular(file, path)
    }

    /// Whether the file has still the content that it had when it was opened. A new name, or one that is taken from it,
    /// as by renaming another file over it, leaves its content alone and yet changes the inode's time.
    ///
    /// # Errors
    /// As the system gives them.
    pub fn is_unchanged(&self) -> io::Result<bool> {
        let facts = self.file.metadata()?;
        Ok(facts.len() == self.size
            && facts.modified().unwrap_or(SystemTime::UNIX_EPOCH) == self.modified
            && ((facts.ctime(), facts.ctime_nsec()) == self.changed
                || Label::of(&facts) != self.label
                || !self.has_its_name()))
    }

    /// Whether the path that it was opened by still leads to it. As long as nobody knows, it does.
    fn has_its_name(&self) -> bool {
        match fs::metadata(&self.path) {
            Ok(facts) => (facts.dev(), facts.ino()) == self.identity,
            Err(error) => !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory),
        }
    }

    /// What tells this content from others, and from that which the file has had or will have.
    #[must_use]
    pub fn version(&self) -> Version {
        let Self { identity, size, modified, changed, .. } = *self;
        Version { identity, size, modified, changed }
    }
}

impl Label {
    fn of(facts: &Metadata) -> Self {
        Self { names: facts.nlink(), mode: facts.mode(), owner: (facts.uid(), facts.gid()) }
    }
}

/// Why a name is not served.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Nothing of that name.
    #[error(
        "no such file in {}, and no iPXE binary of that name; {}",
        .boot_dir.display(),
        what_to_do_about_a_miss(.instead.as_deref())
    )]
    NotFound {
        /// Where it was looked for.
        boot_dir: PathBuf,
        /// A name that is served and differs only in the directories before it.
        instead: Option<String>,
    },
    /// The name or a link in its path leads out of the boot directory.
    #[error(
        "the name or a symbolic link in it leads out of the boot directory or nowhere; copy the file into it"
    )]
    Outside,
    /// It is for the machines whose scripts name it.
    #[error(
        "it is given by signed links over HTTP only, because signed_links is set in [http] and a profile has it as kernel or initrd"
    )]
    Signed,
    /// A directory, device, pipe or socket.
    #[error("{} is not a regular file; name one, or put one there", shown(&.0.to_string_lossy()))]
    NotAFile(PathBuf),
    /// Everything else: permissions, broken disks.
    #[error("cannot open {}: {error}; {}", shown(&.path.to_string_lossy()), what_to_do_about(.error))]
    Io {
        /// What was opened.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
}

impl From<OpenError> for NotServed {
    fn from(error: OpenError) -> Self {
        let why = match &error {
            OpenError::NotFound { .. } => WhyNotServed::NotFound,
            OpenError::Outside | OpenError::NotAFile(_) | OpenError::Signed => WhyNotServed::Forbidden,
            OpenError::Io { .. } => WhyNotServed::Failed,
        };
        Self { why, error: Arc::new(error) }
    }
}

fn what_to_do_about_a_miss(instead: Option<&str>) -> String {
    match instead {
        Some(name) => format!("perhaps you mean {name}"),
        None => "put it there, or correct the name".to_owned(),
    }
}

fn what_to_do_about(error: &io::Error) -> &'static str {
    match error.kind() {
        _ if descriptors::are_used_up(error) => descriptors::REMEDY,
        io::ErrorKind::NotFound => "put it there, or correct the path",
        io::ErrorKind::PermissionDenied => "let the daemon's user read it and enter its directories",
        _ => "the kernel's log may say more about the disk",
    }
}

/// The namespace of boot files.
#[derive(Debug)]
pub struct BootFiles {
    boot_dir: PathBuf,
    configured: BTreeMap<String, PathBuf>,
    /// Files that were named one by one, on the command line.
    named: BTreeMap<String, PathBuf>,
    system_dirs: Vec<PathBuf>,
    /// What the configuration says of names, tidy and in lower case: what they have to be.
    needs: Live<BTreeMap<String, Vec<Need>>>,
    /// What can be had by signed links only.
    signed: Signed,
    listings: Listings,
    local: Local,
}

impl BootFiles {
    /// Files beneath `boot_dir`, and the iPXE binaries of `[ipxe]` and of the system. The directory is looked up
    /// anew for each file, so it may be mounted, replaced or created later.
    #[must_use]
    pub fn new(boot_dir: PathBuf, configured_ipxe: BTreeMap<String, PathBuf>) -> Self {
        let system_dirs = loader::SYSTEM_DIRS.map(PathBuf::from).to_vec();
        let (named, needs) = (BTreeMap::new(), Live::new(BTreeMap::new()));
        let listings = Listings::default();
        let (signed, local) = (Signed::default(), Local::default());
        let configured = configured_ipxe;
        Self { boot_dir, configured, named, system_dirs, needs, signed, listings, local }
    }

    /// The same with other places for the system's iPXE binaries.
    #[must_use]
    pub fn with_system_dirs(mut self, dirs: Vec<PathBuf>) -> Self {
        self.system_dirs = dirs;
        self
    }

    /// Serves one more file, wherever it lies, as `name`: before a file of that name in the boot directory.
    pub fn put(&mut self, name: &str, path: PathBuf) {
        self.named.insert(name.to_owned(), path);
    }

    /// The directory that is served.
    #[must_use]
    pub fn boot_dir(&self) -> &Path {
        &self.boot_dir
    }

    /// Opens a file by the name a client asked for; where there is none, by what the name is without percent-encoding.
    pub fn open(&self, name: &str) -> Result<OpenFile, OpenError> {
        let missing = match self.open_plain(name) {
            Err(missing @ OpenError::NotFound { .. }) if name.contains('%') => missing,
            found => return found,
        };
        match percent::decode(name).map(|name| self.open_plain(&name)) {
            None | Some(Err(OpenError::NotFound { .. })) => Err(missing),
            Some(found) => found,
        }
    }

    /// Opens a file by a name in which a percent sign is one.
    pub fn open_plain(&self, name: &str) -> Result<OpenFile, OpenError> {
        let name = tidy(name)?;
        match self.find_anywhere(&name) {
            Err(OpenError::NotFound { boot_dir, .. }) => {
                // Loaders are often told a directory that only the last server had.
                let base = name.rsplit_once('/').map(|(_, base)| base);
                let instead = base.filter(|base| self.find(base).is_ok()).map(str::to_owned);
                Err(OpenError::NotFound { boot_dir, instead })
            }
            found => self.unless_signed(&name, found?),
        }
    }

    /// Opens a file as [`BootFiles::open_plain`] does, if nothing has to come from a disk for that. None says nothing: it
    /// may be there all the same.
    #[must_use]
    pub fn open_at_hand(&self, name: &str) -> Option<OpenFile> {
        let name = tidy(name).ok().filter(|name| !self.named.contains_key(name))?;
        let file = Root::open_at_hand(&self.boot_dir, Path::new(&name), &self.local).ok()?;
        let opened = regular(File::from(file), self.boot_dir.join(&name)).ok()?;
        self.at_hand_unless_signed(&name, opened)
    }

    /// Also by names that have the boot directory's own before them, as servers without a root of their own want them.
    fn find_anywhere(&self, name: &str) -> Result<OpenFile, OpenError> {
        match (self.find(name), self.within(name)) {
            (Err(OpenError::NotFound { .. }), Some(inside)) => self.find(inside),
            (found, _) => found,
        }
    }

    /// What follows the boot directory's own path in a tidy name.
    fn within<'n>(&self, name: &'n str) -> Option<&'n str> {
        let dir = tidy(self.boot_dir.to_str()?).ok()?;
        let (before, inside) = name.split_at_checked(dir.len())?;
        inside.strip_prefix('/').filter(|_| before.eq_ignore_ascii_case(&dir))
    }

    fn find(&self, name: &str) -> Result<OpenFile, OpenError> {
        if let Some(path) = self.named.get(name) {
            return open_trusted(path.clone());
        }
        match self.open_in_boot_dir(name) {
            Err(OpenError::NotFound { .. }) => {}
            result => return result,
        }
        let lower = name.to_ascii_lowercase();
        if let Some(loader) = loader(&lower) {
            return self.open_loader(loader).ok_or_else(|| self.not_found());
        }
        let mut targets = behind_alias(&lower).iter();
        targets.find_map(|target| self.find(target).ok()).ok_or_else(|| self.not_found())
    }

    /// Looks at a file that was opened as `name`: what it is, and whether those who get it can boot it. Reads its
    /// beginning; once per [`OpenFile::version`] is enough.
    #[must_use]
    pub fn inspect_open(&self, name: &str, file: &OpenFile) -> Inspection {
        let tidy = |name: &str| tidy(name).unwrap_or_default().to_ascii_lowercase();
        let needs = self.needs.get();
        let decoded = percent::decode(name).filter(|_| !needs.contains_key(&tidy(name)));
        let name = tidy(decoded.as_deref().unwrap_or(name));
        let name = self.within(&name).unwrap_or(&name);
        let configured = needs.get(name).map(Vec::as_slice).unwrap_or_default();
        // An iPXE binary goes to its own kind of firmware whatever else it is named for.
        let is_loader = loader::served_to(name).is_some();
        let by_name = is_loader || !configured.iter().any(|need| need.is_exact());
        let by_name = Need::of_name(name).filter(|_| by_name);
        inspect_file(configured.iter().copied().chain(by_name), file)
    }

    /// The name of the boot file for a firmware kind; [`BootFiles::open`] serves that name.
    pub fn loader_for(&self, firmware: Firmware) -> Result<&'static str, MissingLoader> {
        let mut names = candidates(firmware).iter().copied();
        names.find(|name| self.open(name).is_ok()).ok_or(MissingLoader(firmware))
    }

    /// Every name a boot file can have.
    pub fn names() -> impl Iterator<Item = &'static str> {
        loader::LOADERS.iter().map(|loader| loader.name)
    }

    fn not_found(&self) -> OpenError {
        OpenError::NotFound { boot_dir: self.boot_dir.clone(), instead: None }
    }

    fn open_in_boot_dir(&self, name: &str) -> Result<OpenFile, OpenError> {
        let root = Root::open(&self.boot_dir).map_err(|error| self.explain(&self.boot_dir, error))?;
        root.learn(&self.local);
        let exact = Path::new(name);
        let (path, opened) = match root.beneath(exact, OFlags::empty()) {
            Err(Errno::NOENT) => {
                let path = root.in_any_case(name, &self.listings).ok_or_else(|| self.not_found())?;
                let opened = root.beneath(&path, OFlags::empty());
                (path, opened)
            }
            opened => (exact.to_path_buf(), opened),
        };
        let path = self.boot_dir.join(path);
        let file = opened.map_err(|error| self.explain(&path, error))?;
        regular(File::from(file), path)
    }

    fn open_loader(&self, loader: &Loader) -> Option<OpenFile> {
        let configured = self.configured.get(loader.key).cloned();
        let system =
            loader.system.iter().flat_map(|name| self.system_dirs.iter().map(move |dir| dir.join(name)));
        configured.into_iter().chain(system).find_map(|path| open_trusted(path).ok())
    }

    fn explain(&self, path: &Path, error: Errno) -> OpenError {
        match error {
            Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG => self.not_found(),
            Errno::XDEV | Errno::LOOP => OpenError::Outside,
            Errno::NXIO | Errno::NODEV => OpenError::NotAFile(path.to_path_buf()),
            error => OpenError::Io { path: path.to_path_buf(), error: error.into() },
        }
    }
}

/// Opens a path that the operator gave, not a client.
fn open_trusted(path: PathBuf) -> Result<OpenFile, OpenError> {
    // Without NONBLOCK the opening of a pipe would wait for a writer.
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    match File::options().read(true).custom_flags(flags).open(&path) {
        Ok(file) => regular(file, path),
        Err(error) => Err(OpenError::Io { path, error }),
    }
}

fn regular(file: File, path: PathBuf) -> Result<OpenFile, OpenError> {
    let facts = match file.metadata() {
        Ok(facts) if facts.is_file() => facts,
        Ok(_) => return Err(OpenError::NotAFile(path)),
        Err(error) => return Err(OpenError::Io { path, error }),
    };
    let modified = facts.modified().unwrap_or(SystemTime::UNIX_EPOCH);
    let identity = (facts.dev(), facts.ino());
    let changed = (facts.ctime(), facts.ctime_nsec());
    let label = Label::of(&facts);
    Ok(OpenFile { file, size: facts.len(), modified, identity, path, changed, label })
}

/// Looks at the beginning of a file.
fn inspect_file(needs: impl IntoIterator<Item = Need>, file: &OpenFile) -> Inspection {
    let mut head = vec![0; HEAD];
    match file.file.read_at(&mut head, 0) {
        Ok(read) => inspect::inspect_for(needs, head.get(..read).unwrap_or_default(), file.size),
        Err(error) => Inspection {
            says: format!("file that cannot be read, {}", human_size(file.size)),
            problem: Some(format!("it cannot be read: {error}; {}", what_to_do_about(&error))),
        },
    }
}
