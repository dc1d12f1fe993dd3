use std::time::Duration;

use axum::http::HeaderValue;

use super::*;

fn verdict(headers: &[(HeaderName, &'static str)]) -> Verdict {
    let headers =
        headers.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect();
    let modified = SystemTime::UNIX_EPOCH + Duration::from_millis(784_111_777_500);
    judge(&headers, &Subject { etag: "\"a\"", modified, size: 100 }, true)
}

#[test]
fn ranges() {
    for (range, expected) in [
        ("bytes=0-0", Verdict::Part(0..1)),
        ("bytes=10-", Verdict::Part(10..100)),
        ("Bytes=10-1000", Verdict::Part(10..100)),
        ("bytes=-30", Verdict::Part(70..100)),
        ("bytes=-300", Verdict::Part(0..100)),
        ("bytes=5-99999999999999999999999", Verdict::Part(5..100)),
        ("bytes=100-", Verdict::Unsatisfiable),
        ("bytes=-0", Verdict::Unsatisfiable),
        ("bytes=99999999999999999999999-", Verdict::Unsatisfiable),
        ("bytes=5-4", Verdict::Whole),
        ("bytes=0-1,5-6", Verdict::Parts(vec![0..2, 5..7])),
        ("bytes=50-, 0-1 ,-1", Verdict::Parts(vec![50..100, 0..2, 99..100])),
        ("bytes=0-1,100-", Verdict::Part(0..2)),
        ("bytes=100-,200-300", Verdict::Unsatisfiable),
        ("bytes=0-1,5-4", Verdict::Whole),
        ("bytes=0-1,,5-6", Verdict::Whole),
        ("bytes=0-,1-", Verdict::Whole),
        ("bytes=0-0,1-1,2-2,3-3,4-4,5-5,6-6,7-7,8-8,9-9,1-1,1-1,1-1,1-1,1-1,1-1,1-1", Verdict::Whole),
        ("bytes=-", Verdict::Whole),
        ("bytes=+1-2", Verdict::Whole),
        ("lines=0-1", Verdict::Whole),
        ("nonsense", Verdict::Whole),
    ] {
        assert_eq!(verdict(&[(RANGE, range)]), expected, "{range}");
    }
}

#[test]
fn conditions() {
    const SAME: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    let part = (RANGE, "bytes=50-");
    for (headers, expected) in [
        (vec![(IF_MATCH, "\"a\"")], Verdict::Whole),
        (vec![(IF_MATCH, "*")], Verdict::Whole),
        (vec![(IF_MATCH, "W/\"a\"")], Verdict::Changed),
        (vec![(IF_MATCH, "\"b\""), part.clone()], Verdict::Changed),
        (vec![(IF_UNMODIFIED_SINCE, SAME)], Verdict::Whole),
        (vec![(IF_UNMODIFIED_SINCE, BEFORE)], Verdict::Changed),
        (vec![(IF_NONE_MATCH, "\"b\", W/\"a\"")], Verdict::NotModified),
        (vec![(IF_NONE_MATCH, "\"b\""), (IF_MODIFIED_SINCE, SAME)], Verdict::Whole),
        (vec![(IF_MODIFIED_SINCE, SAME)], Verdict::NotModified),
        (vec![(IF_MODIFIED_SINCE, BEFORE)], Verdict::Whole),
        (vec![(IF_MODIFIED_SINCE, "yesterday")], Verdict::Whole),
        (vec![(IF_RANGE, "\"a\""), part.clone()], Verdict::Part(50..100)),
        (vec![(IF_RANGE, "\"b\""), part.clone()], Verdict::Whole),
        (vec![(IF_RANGE, SAME), part], Verdict::Whole),
    ] {
        assert_eq!(verdict(&headers), expected, "{headers:?}");
    }
}
