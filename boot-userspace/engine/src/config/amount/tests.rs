use super::*;

#[test]
fn reads_lease_times() {
    for (text, seconds) in
        [("60s", 60), ("90s", 90), ("10m", 600), ("1h", 3600), ("2d", 172_800), ("365d", MAX_LEASE)]
    {
        assert_eq!(lease(text), Ok(Duration::from_secs(seconds)), "{text}");
    }
    for text in ["", "m", "10", "10 m", "-1m", "+1m", "1.5h", "10min", "1w", "10M", "1h30m", "١m"] {
        assert!(lease(text).is_err_and(|why| why.contains("is not a time")), "{text}");
    }
    for text in ["0s", "59s", "0d"] {
        assert!(lease(text).is_err_and(|why| why.contains("too short")), "{text}");
    }
    for text in ["366d", "99999999999999999999999d", "18446744073709551615m"] {
        assert!(lease(text).is_err_and(|why| why.contains("too long")), "{text}");
    }
}

#[test]
fn reads_intervals_and_sizes_of_disks() {
    assert_eq!(interval("1s"), Ok(Duration::from_secs(1)));
    assert_eq!(interval("365d"), Ok(Duration::from_secs(MAX_LEASE)));
    assert!(interval("0s").is_err_and(|why| why.contains("too short")));
    assert!(interval("366d").is_err_and(|why| why.contains("too long")));
    assert!(interval("5").is_err_and(|why| why.contains("is not a time")));
    for (text, bytes) in [("1M", 1 << 20), ("20G", 20 << 30), ("3T", 3 << 40), ("1048576", 1 << 20)] {
        assert_eq!(disk(text), Ok(bytes), "{text}");
    }
    assert!(disk("20GB").is_err_and(|why| why.contains("is not an amount")));
    assert!(disk("20").is_err_and(|why| why.contains("is 20 bytes")));
    assert!(disk("99999999999T").is_err_and(|why| why.contains("too much")));
}

#[test]
fn reads_memory() {
    for (text, bytes) in [
        ("0", 0),
        ("0M", 0),
        ("4K", 4096),
        ("64M", 64 << 20),
        ("67108864", 64 << 20),
        ("4G", MAX_MEMORY),
        ("4096M", MAX_MEMORY),
        ("0000004294967296", MAX_MEMORY),
    ] {
        assert_eq!(memory(text), Ok(bytes), "{text}");
    }
    for text in ["", "M", "64 M", "-1", "+1M", "1.5G", "64MB", "64MiB", "64m", "64T", "0x40", "\u{661}M"] {
        assert!(memory(text).is_err_and(|why| why.contains("is not an amount of memory")), "{text}");
    }
    for text in ["1", "64", "4095", "3K"] {
        assert!(memory(text).is_err_and(|why| why.contains("which no boot file fits into")), "{text}");
    }
    for text in ["5G", "4294967297", "4194305K", "99999999999999999999999", "18446744073709551615K"] {
        assert!(memory(text).is_err_and(|why| why.contains("write at most \"4G\"")), "{text}");
    }
}
