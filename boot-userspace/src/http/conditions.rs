//! What the conditions and the range of a request make of it (RFC 9110 sections 13 and 14).

use std::ops::Range;
use std::time::SystemTime;

use axum::http::HeaderMap;
use axum::http::header::{
    HeaderName, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, RANGE,
};

use super::date;

/// What is known about the file.
pub(super) struct Subject<'a> {
    pub(super) etag: &'a str,
    pub(super) modified: SystemTime,
    pub(super) size: u64,
}

/// What to answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Whole,
    Part(Range<u64>),
    /// Several, in the order they were asked for.
    Parts(Vec<Range<u64>>),
    NotModified,
    /// 412: the file is not the one the client means, so it must not go on where it stopped.
    Changed,
    /// 416
    Unsatisfiable,
}

/// Judges in the order of RFC 9110 section 13.2.2.
pub(super) fn judge(headers: &HeaderMap, subject: &Subject<'_>, with_range: bool) -> Verdict {
    let seconds = date::whole_seconds(subject.modified);
    let date_in = |name: HeaderName| text(headers, &name).and_then(date::parse);
    if headers.contains_key(IF_MATCH) {
        if !any_tag(headers, &IF_MATCH, |tag| tag == subject.etag) {
            return Verdict::Changed;
        }
    } else if date_in(IF_UNMODIFIED_SINCE).is_some_and(|date| seconds > date) {
        return Verdict::Changed;
    }
    if headers.contains_key(IF_NONE_MATCH) {
        if any_tag(headers, &IF_NONE_MATCH, |tag| tag.strip_prefix("W/").unwrap_or(tag) == subject.etag) {
            return Verdict::NotModified;
        }
    } else if date_in(IF_MODIFIED_SINCE).is_some_and(|date| seconds <= date) {
        return Verdict::NotModified;
    }
    // A date is no strong validator here: a file may change twice within its second.
    let same_file = !headers.contains_key(IF_RANGE) || text(headers, &IF_RANGE) == Some(subject.etag);
    match text(headers, &RANGE) {
        Some(range) if with_range && same_file => part(range, subject.size),
        _ => Verdict::Whole,
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

fn any_tag(headers: &HeaderMap, name: &HeaderName, matches: impl Fn(&str) -> bool) -> bool {
    let lists = headers.get_all(name).into_iter().filter_map(|list| list.to_str().ok());
    lists.flat_map(|list| list.split(',')).map(str::trim).any(|tag| tag == "*" || matches(tag))
}

/// More ranges than this are answered with the whole file: nobody has so many gaps to fill.
const MOST_RANGES: usize = 16;

/// What the header asks for. What is no list of ranges gets the whole file, and so does who asks for more ranges, or
/// for more bytes by them, than the file is worth (RFC 9110 section 14.2).
fn part(header: &str, size: u64) -> Verdict {
    let unit_and_ranges = header.split_once('=').filter(|(unit, _)| unit.eq_ignore_ascii_case("bytes"));
    let Some((_, list)) = unit_and_ranges else { return Verdict::Whole };
    if list.split(',').count() > MOST_RANGES {
        return Verdict::Whole;
    }
    let ranges: Option<Vec<_>> = list.split(',').map(|range| read(range.trim(), size)).collect();
    let Some(mut ranges) = ranges else { return Verdict::Whole };
    ranges.retain(|range| !range.is_empty());
    if let [only] = ranges.as_slice() {
        return Verdict::Part(only.clone());
    }
    if ranges.is_empty() {
        return Verdict::Unsatisfiable;
    }
    let bytes: u64 = ranges.iter().map(|range| range.end - range.start).sum();
    if bytes > size { Verdict::Whole } else { Verdict::Parts(ranges) }
}

/// One range, empty where the file has none of it; none if it is no range.
fn read(range: &str, size: u64) -> Option<Range<u64>> {
    let number = |text: &str| {
        (!text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit()))
            .then(|| text.parse::<u64>().unwrap_or(u64::MAX))
    };
    let (first, last) = range.split_once('-')?;
    match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => Some(first..last.saturating_add(1).min(size)),
        (Some(first), None) if last.is_empty() => Some(first..size),
        (None, Some(length)) if first.is_empty() => Some(size.saturating_sub(length)..size),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
