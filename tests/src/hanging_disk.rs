//! A file system with one file, whose disk can be made to hang.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context, Result};
use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, Generation, INodeNo,
    LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyEntry, Request, spawn_mount,
};

const FILE: INodeNo = INodeNo(2);
/// How long the kernel believes what it was told of a file.
const BELIEVED: Duration = Duration::from_secs(3600);

/// What waits for the disk, and what it will get.
type Waiting = Vec<(ReplyData, Vec<u8>)>;

/// The file system, until it is dropped.
pub struct HangingDisk {
    session: Option<BackgroundSession>,
    /// None while the disk answers.
    waiting: Arc<Mutex<Option<Waiting>>>,
}

struct OneFile {
    name: String,
    bytes: Vec<u8>,
    waiting: Arc<Mutex<Option<Waiting>>>,
}

impl HangingDisk {
    /// Mounts one with this file at a directory.
    pub fn mount(at: &Path, name: &str, bytes: Vec<u8>) -> Result<Self> {
        let waiting = Arc::<Mutex<Option<Waiting>>>::default();
        let files = OneFile { name: name.to_owned(), bytes, waiting: Arc::clone(&waiting) };
        let mut config = Config::default();
        config.mount_options = vec![MountOption::RO, MountOption::FSName("xpxe-hanging".to_owned())];
        let session = spawn_mount(files, at, &config).with_context(|| format!("mount {}", at.display()))?;
        Ok(Self { session: Some(session), waiting })
    }

    /// From now on nothing that is read comes.
    pub fn hang(&self) {
        *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) = Some(Vec::new());
    }

    /// How many reads wait.
    pub fn waiting(&self) -> usize {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map_or(0, Vec::len)
    }

    /// Everything comes again.
    pub fn answer(&self) {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
        waiting.into_iter().flatten().for_each(|(reply, bytes)| reply.data(&bytes));
    }
}

impl Drop for HangingDisk {
    fn drop(&mut self) {
        self.answer();
        // A daemon that still has the file open keeps it from being unmounted; it goes with the test's namespace.
        self.session.take().map(BackgroundSession::umount_and_join);
    }
}

impl OneFile {
    fn about(&self, inode: INodeNo) -> FileAttr {
        let (kind, perm, size) = match inode {
            FILE => (FileType::RegularFile, 0o444, self.bytes.len() as u64),
            _ => (FileType::Directory, 0o555, 0),
        };
        FileAttr {
            ino: inode,
            size,
            blocks: size.div_ceil(512),
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind,
            perm,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }
}

impl Filesystem for OneFile {
    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        if name == OsStr::new(&self.name) {
            reply.entry(&BELIEVED, &self.about(FILE), Generation(0));
        } else {
            reply.error(Errno::ENOENT);
        }
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&BELIEVED, &self.about(inode));
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(self.bytes.len());
        let to = from.saturating_add(size as usize).min(self.bytes.len());
        let bytes = self.bytes.get(from..to).unwrap_or_default();
        match self.waiting.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            Some(waiting) => waiting.push((reply, bytes.to_vec())),
            None => reply.data(bytes),
        }
    }
}
