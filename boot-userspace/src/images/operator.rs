//! What the command line does with the store.

use std::collections::HashSet;
use std::fs::File;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use tokio::sync::watch;

use super::error::ImageError;
use super::fill::{Progress, Why};
use super::partial::Partial;
use super::record::{Named, Record};
use super::room::{self, Removed};
use super::upstream::{self, Answer, Short, Wanted, shown};
use super::{Images, import, layout};
use crate::host::{clock, replace};
use boot_engine::config::{ImageName, ImageSource, Sha256Digest};
use boot_engine::digest_list::DigestList;

/// The longest digest list that is read.
const LONGEST_LIST: usize = 4 << 20;

impl Images {
    /// Fetches an image now, whatever is here. The last of what the receiver gets has an end. A name that is known means
    /// what it has meant until the fetch has gone well: a mistake takes no image from the machines.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn add(
        self: &Arc<Self>,
        name: &ImageName,
        source: ImageSource,
        pinned: bool,
    ) -> Result<watch::Receiver<Progress>, ImageError> {
        {
            let _lock = self.layout.lock().map_err(|error| ImageError::disk(self.layout.root(), &error))?;
            if !matches!(Record::read(&self.layout, name), Ok(Some(_))) {
                let (url, expected) = (Some(source.url.clone()), source.sha256);
                Record { url, expected, pinned, ..Record::default() }.write(&self.layout, name)?;
            }
        }
        self.fetch(name, source, Why::Told { pinned })
    }

    /// Takes a file of this host into the store.
    ///
    /// # Errors
    /// It cannot be read, is not what is expected, or does not fit.
    pub fn import(
        &self,
        name: &ImageName,
        file: &File,
        expected: Option<Sha256Digest>,
        tell: &mut dyn FnMut(u64, u64),
    ) -> Result<Record, ImageError> {
        let disk = |error| ImageError::disk(self.layout.root(), &error);
        self.layout.make().map_err(disk)?;
        let size = self.configured.get().settings.size;
        let stored = import::import(&self.layout, name, file, expected, size, tell)?;
        let _lock = self.layout.lock().map_err(disk)?;
        let now = clock::wall().as_secs();
        let (sha256, size) = (Some(stored.digest), stored.size);
        let record = Record { expected, sha256, size, fetched: now, checked: now, ..Record::default() };
        record.write(&self.layout, name)?;
        Ok(record)
    }

    /// Has an image stay when others make room, or not any more. Gives whether it stays now: one from a file always does.
    ///
    /// # Errors
    /// There is no such image, or it cannot be written down.
    pub fn pin(&self, name: &ImageName, pinned: bool) -> Result<bool, ImageError> {
        let _lock = self.layout.lock().map_err(|error| ImageError::disk(self.layout.root(), &error))?;
        let mut record = self.show(name)?;
        record.pinned = pinned;
        record.write(&self.layout, name)?;
        Ok(record.stays())
    }

    /// Every name, and what is wrong with those that cannot be read.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn list(&self) -> Result<Vec<Named>, ImageError> {
        Record::all(&self.layout)
    }

    /// One name.
    ///
    /// # Errors
    /// There is none, or it cannot be read.
    pub fn show(&self, name: &ImageName) -> Result<Record, ImageError> {
        Record::read(&self.layout, name)?.ok_or_else(|| ImageError::Unknown(name.clone()))
    }

    /// Whether the bytes of a record are on disk.
    #[must_use]
    pub fn is_here(&self, record: &Record) -> bool {
        record.sha256.is_some_and(|digest| layout::open(&self.layout.blob(digest)).is_ok())
    }

    /// Whether an image can be had, in words.
    #[must_use]
    pub fn state(&self, name: &ImageName, record: &Record) -> &'static str {
        match (self.is_here(record), record.url.is_some()) {
            (true, _) if !record.is_expected() => "here, not expected",
            (true, _) if record.trouble.is_some() => "here, upstream away",
            (true, _) => "here",
            (false, true) if self.part(name) > 0 => "upstream, part here",
            (false, true) => "upstream",
            (false, false) => "gone",
        }
    }

    /// The bytes of an image; of one that has never been here as a whole, those that have come so far.
    #[must_use]
    pub fn size_of(&self, name: &ImageName, record: &Record) -> u64 {
        if record.sha256.is_some() { record.size } else { self.part(name) }
    }

    /// How many bytes have come of what is being fetched, or was given up.
    fn part(&self, name: &ImageName) -> u64 {
        let facts = std::fs::symlink_metadata(self.layout.partial(name));
        facts.ok().filter(std::fs::Metadata::is_file).map_or(0, |facts| facts.len())
    }

    /// When an image was last wanted, in Unix time.
    #[must_use]
    pub fn last_used(&self, record: &Record) -> Option<Duration> {
        let marked = std::fs::symlink_metadata(self.layout.used(record.sha256?)).ok()?.modified().ok()?;
        marked.duration_since(UNIX_EPOCH).ok()
    }

    /// Reads the bytes of an image and says whether they are right; `None`: they are not here, or are not those that the
    /// name has to have, and so nobody gets them. Wrong ones are put aside.
    ///
    /// # Errors
    /// There is no such image, or it cannot be read.
    pub fn verify(&self, name: &ImageName) -> Result<Option<bool>, ImageError> {
        let record = self.show(name)?;
        let Some(digest) = record.sha256.filter(|_| record.is_expected()) else { return Ok(None) };
        match layout::open(&self.layout.blob(digest)) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(_) => return Ok(Some(false)),
            Ok(_) => {}
        }
        self.blob(digest).map(|found| Some(found.is_some()))
    }

    /// Takes a name away, and its bytes if no other name has the same. What has come of one that is not whole goes, too.
    ///
    /// # Errors
    /// There is no such image, or it cannot be removed.
    pub fn remove(&self, name: &ImageName) -> Result<(), ImageError> {
        self.forget(name)?;
        Partial::discard(&self.layout, name).map_err(|error| ImageError::disk(self.layout.root(), &error))
    }

    /// The same, but what has come of one that is not whole stays for the next try.
    ///
    /// # Errors
    /// There is no such image, or it cannot be removed.
    pub fn forget(&self, name: &ImageName) -> Result<(), ImageError> {
        let _lock = self.layout.lock().map_err(|error| ImageError::disk(self.layout.root(), &error))?;
        // One that cannot be read can be removed.
        let digest = match Record::read(&self.layout, name) {
            Ok(record) => record.ok_or_else(|| ImageError::Unknown(name.clone()))?.sha256,
            Err(_) => None,
        };
        let path = self.layout.record(name);
        replace::remove(&path).map_err(|error| ImageError::disk(&path, &error))?;
        let Some(digest) = digest else { return Ok(()) };
        let still_meant =
            room::blobs(&self.layout)?.iter().any(|blob| blob.digest == digest && !blob.names.is_empty());
        if still_meant { Ok(()) } else { room::remove(&self.layout, digest) }
    }

    /// Removes what nobody needs.
    ///
    /// # Errors
    /// The store cannot be read or written.
    pub fn clean(&self, dry_run: bool) -> Result<Removed, ImageError> {
        let configured = self.configured.get();
        let known: HashSet<ImageName> = configured.sources.keys().cloned().collect();
        room::clean(&self.layout, configured.settings.size, &known, dry_run)
    }

    /// Reads a digest list from a file or a URL and finds what it says of the file at `path`.
    ///
    /// # Errors
    /// It cannot be had, has a wrong line, or lacks the file.
    pub async fn look_up(&self, list: &str, path: &str) -> Result<Sha256Digest, ImageError> {
        let bytes = if list.contains("://") {
            let url = list.parse::<ImageSource>().map_err(ImageError::Upstream)?.url;
            let answer = self.upstreams.ask(&url, &Wanted::default()).await;
            let answer = answer.map_err(|trouble| ImageError::Upstream(trouble.into_sentence()))?;
            let Answer::Content(mut content) = answer else {
                return Err(ImageError::Upstream(format!("{} sends nothing", shown(&url))));
            };
            let mut bytes = Vec::new();
            let why = match self.upstreams.short(&mut content.response, LONGEST_LIST, &mut bytes).await {
                Short::Whole => None,
                Short::TooLong => Some(format!("{} is too long for a digest list", shown(&url))),
                Short::TooSlow => {
                    let seconds = self.upstreams.patience.read.as_secs();
                    Some(format!("{} is too slow: the digest list was not here in {seconds} s", shown(&url)))
                }
                Short::Broken(error) => Some(upstream::failure(&url, error).into_sentence()),
            };
            if let Some(why) = why {
                return Err(ImageError::Upstream(why));
            }
            bytes
        } else {
            std::fs::read(list).map_err(|error| ImageError::disk(Path::new(list), &error))?
        };
        let path = path.split(['?', '#']).next().unwrap_or_default();
        Ok(DigestList::read(&String::from_utf8_lossy(&bytes))?.find(path)?)
    }
}

#[cfg(test)]
mod tests {
    use boot_engine::config::Config;

    use super::*;

    #[tokio::test]
    async fn what_has_come_of_an_image_is_seen_before_it_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config { state_dir: dir.path().to_owned(), ..Config::empty() };
        let store = Images::new(&config, Arc::new(()));
        store.layout.make().unwrap();
        let name: ImageName = "debian".parse().unwrap();
        let record = Record { url: Some("http://10.0.0.1/debian".to_owned()), ..Record::default() };
        assert_eq!((store.state(&name, &record), store.size_of(&name, &record)), ("upstream", 0));
        std::fs::write(store.layout.partial(&name), [7; 3000]).unwrap();
        assert_eq!(
            (store.state(&name, &record), store.size_of(&name, &record)),
            ("upstream, part here", 3000)
        );
        // One that had to make room is as large as it was.
        let left = Record { sha256: Some(Sha256Digest::of(b"x")), size: 9000, ..record };
        assert_eq!(store.size_of(&name, &left), 9000);
    }

    #[tokio::test]
    async fn what_has_come_of_an_image_goes_with_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config { state_dir: dir.path().to_owned(), ..Config::empty() };
        let store = Images::new(&config, Arc::new(()));
        store.layout.make().unwrap();
        let name: ImageName = "debian".parse().unwrap();
        let parts = || store.layout.entries("partial").unwrap().len();
        let begin = || {
            let record = Record { url: Some("http://10.0.0.1/debian".to_owned()), ..Record::default() };
            record.write(&store.layout, &name).unwrap();
            Partial::open(&store.layout, &name, "http://10.0.0.1/debian").unwrap().unwrap()
        };
        let fetching = begin();
        let begun = parts();
        store.remove(&name).unwrap();
        assert_eq!(parts(), begun, "somebody fetches it");
        drop(fetching);
        drop(begin());
        store.forget(&name).unwrap();
        assert_eq!(parts(), begun, "it goes on with that");
        drop(begin());
        store.remove(&name).unwrap();
        assert_eq!((begun > 0, parts()), (true, 0));
    }

    #[tokio::test]
    async fn who_lets_an_image_from_a_file_leave_is_told_that_it_stays() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config { state_dir: dir.path().to_owned(), ..Config::empty() };
        let store = Images::new(&config, Arc::new(()));
        store.layout.make().unwrap();
        for (name, url) in [("file", None), ("upstream", Some("http://10.0.0.1/debian".to_owned()))] {
            let name: ImageName = name.parse().unwrap();
            let stays = url.is_none();
            Record { url, ..Record::default() }.write(&store.layout, &name).unwrap();
            assert!(store.pin(&name, true).unwrap());
            assert_eq!(store.pin(&name, false).unwrap(), stays, "{name}");
        }
    }
}
