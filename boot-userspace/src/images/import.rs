//! Files of this host that become images.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use super::error::ImageError;
use super::fill::Stored;
use super::layout::Layout;
use super::partial::{Facts, Partial};
use super::room::{self, Need};
use boot_engine::config::{ImageName, Sha256Digest};

/// Takes a file of this host into the store.
pub(super) fn import(
    layout: &Layout,
    name: &ImageName,
    file: &File,
    expected: Option<Sha256Digest>,
    limit: u64,
    tell: &mut dyn FnMut(u64, u64),
) -> Result<Stored, ImageError> {
    let disk = |error: std::io::Error| ImageError::disk(layout.root(), &error);
    let total = file.metadata().map_err(disk)?.len();
    if total == 0 {
        return Err(ImageError::Disk("the file is empty".to_owned()));
    }
    // No URL is empty, so that nobody goes on with it.
    let mut partial = Partial::open(layout, name, "").map_err(disk)?.ok_or_else(|| {
        ImageError::Disk(format!("another xpxe is fetching image {name}: try again when it has ended"))
    })?;
    partial.begin(Facts::default()).map_err(disk)?;
    let copied = (|| {
        room::make(layout, limit, Need::all_now(total))?;
        let mut buffer = vec![0; 1 << 20];
        loop {
            let read = file
                .read_at(&mut buffer, partial.len())
                .map_err(|error| ImageError::Disk(error.to_string()))?;
            if read == 0 {
                return Ok(());
            }
            partial.append(buffer.get(..read).unwrap_or_default()).map_err(disk)?;
            tell(partial.len(), total);
        }
    })();
    let (found, pieces) = partial.sums.clone().finish();
    let wrong = expected.filter(|expected| *expected != found);
    let wrong = wrong.map(|expected| ImageError::Wrong { from: "the file".to_owned(), found, expected });
    if let Err(error) = copied.and_then(|()| wrong.map_or(Ok(()), Err)) {
        partial.remove().map_err(disk)?;
        return Err(error);
    }
    let size = partial.len();
    partial.finish(found, &pieces)?;
    room::mark_used(layout, found);
    Ok(Stored { digest: found, size, etag: None, modified: None })
}
