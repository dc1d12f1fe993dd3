//! The digests of an image's pieces, as one xpxe tells them to another: 32 bytes for each MiB.

use super::layout::{self, Layout};
use super::sums;
use super::upstream::{Answer, Upstreams, Wanted};
use boot_engine::config::Sha256Digest;

/// What stands behind an image's own path.
pub const PATH: &str = "/pieces";
/// The pieces of 4 TiB.
const MOST: usize = 4 << 20;

/// Asks an upstream that has shown to be an xpxe. Without an answer readers wait until all has come.
pub(super) async fn ask(upstreams: &Upstreams, url: &str) -> Option<Vec<Sha256Digest>> {
    if url.contains(['?', '#']) || url.starts_with("s3://") {
        return None;
    }
    let Ok(Answer::Content(mut content)) = upstreams.ask(&format!("{url}{PATH}"), &Wanted::default()).await
    else {
        return None;
    };
    let mut bytes = Vec::new();
    while let Some(chunk) = content.response.chunk().await.ok()? {
        if bytes.len() + chunk.len() > MOST * 32 {
            return None;
        }
        bytes.extend_from_slice(&chunk);
    }
    Some(sums::from_bytes(&bytes))
}

/// What this xpxe tells of an image.
pub(super) fn read(layout: &Layout, digest: Sha256Digest) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = layout::open(&layout.sums(digest)).ok()?;
    std::io::Read::read_to_end(&mut &file, &mut bytes).ok()?;
    Some(bytes)
}
