//! Several ranges of a file in one answer (multipart/byteranges, RFC 9110 section 14.6).

use std::hash::{BuildHasher, RandomState};
use std::ops::Range;

use super::body::Segment;

/// What stands between the parts: nothing that a file could be made to have in it.
pub(super) fn boundary() -> String {
    let random = RandomState::new();
    format!("{:016x}{:016x}", random.hash_one(0), random.hash_one(1))
}

/// The answer's type.
pub(super) fn content_type(boundary: &str) -> String {
    format!("multipart/byteranges; boundary={boundary}")
}

/// `bytes 7-9/10`; the range is not empty.
pub(super) fn content_range(range: &Range<u64>, size: u64) -> String {
    format!("bytes {}-{}/{size}", range.start, range.end - 1)
}

/// The whole body.
pub(super) fn segments(
    ranges: Vec<Range<u64>>,
    size: u64,
    content_type: &str,
    boundary: &str,
) -> Vec<Segment> {
    let part = |range: Range<u64>| {
        let range_line = content_range(&range, size);
        let head = format!(
            "\r\n--{boundary}\r\nContent-Type: {content_type}\r\nContent-Range: {range_line}\r\n\r\n"
        );
        [Segment::Text(head.into()), Segment::File(range)]
    };
    let end = Segment::Text(format!("\r\n--{boundary}--\r\n").into());
    ranges.into_iter().flat_map(part).chain([end]).collect()
}
