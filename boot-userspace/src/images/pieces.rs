//! The digests of an image's pieces, as one xpxe tells them to another: 32 bytes for each MiB.

use super::layout::{self, Layout};
use super::sums;
use super::upstream::{Answer, Short, Upstreams, Wanted};
use boot_engine::config::Sha256Digest;

/// What stands behind an image's own path.
pub const PATH: &str = "/pieces";

/// Asks an upstream that has shown to be an xpxe for the digests of `count` pieces. Without an answer, or with another count,
/// readers wait until all has come.
pub(super) async fn ask(upstreams: &Upstreams, url: &str, count: u64) -> Option<Vec<Sha256Digest>> {
    if url.contains(['?', '#']) || url.starts_with("s3://") {
        return None;
    }
    let Ok(Answer::Content(mut content)) = upstreams.ask(&format!("{url}{PATH}"), &Wanted::default()).await
    else {
        return None;
    };
    let len = usize::try_from(count).ok()?.checked_mul(32)?;
    let mut bytes = Vec::new();
    let taken = upstreams.short(&mut content.response, len, &mut bytes).await;
    (matches!(taken, Short::Whole) && bytes.len() == len).then(|| sums::from_bytes(&bytes))
}

/// What this xpxe tells of an image.
pub(super) fn read(layout: &Layout, digest: Sha256Digest) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = layout::open(&layout.sums(digest)).ok()?;
    std::io::Read::read_to_end(&mut &file, &mut bytes).ok()?;
    Some(bytes)
}
