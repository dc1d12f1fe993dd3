//! Texts that are a number and its unit: times and memory.

use std::time::Duration;

use super::value::quoted;

const MIN_LEASE: u64 = 60;
const MAX_LEASE: u64 = 365 * 86_400;

/// Less is a number that lacks its unit.
const MIN_MEMORY: u64 = 4 << 10;
const MAX_MEMORY: u64 = 4 << 30;

/// Less is a number that lacks its unit.
const MIN_DISK: u64 = 1 << 20;

/// A lease time such as `10m`.
pub(super) fn lease(text: &str) -> Result<Duration, String> {
    let total = seconds(text)?;
    if total < MIN_LEASE {
        return Err(format!("{} is too short; write at least \"60s\"", quoted(text)));
    }
    if total > MAX_LEASE {
        return Err(format!("{} is too long; write at most \"365d\"", quoted(text)));
    }
    Ok(Duration::from_secs(total))
}

/// A time such as `1h`, of at least a second.
pub(super) fn interval(text: &str) -> Result<Duration, String> {
    let total = seconds(text)?;
    if total == 0 {
        return Err(format!("{} is too short; write at least \"1s\"", quoted(text)));
    }
    if total > MAX_LEASE {
        return Err(format!("{} is too long; write at most \"365d\"", quoted(text)));
    }
    Ok(Duration::from_secs(total))
}

/// How long a URL of S3 is valid: more than a machine needs to begin with its last file, and no more than S3 allows.
pub(super) fn presigned(text: &str) -> Result<Duration, String> {
    match seconds(text)? {
        total @ 300..=604_800 => Ok(Duration::from_secs(total)),
        0..300 => Err(format!("{} is too short; write at least \"5m\"", quoted(text))),
        _ => Err(format!("{} is longer than S3 allows; write at most \"7d\"", quoted(text))),
    }
}

/// Bytes on a disk such as `20G`.
pub(super) fn disk(text: &str) -> Result<u64, String> {
    let units = [("M", 1 << 20), ("G", 1 << 30), ("T", 1 << 40), ("", 1)];
    let total = amount(text, &units).ok_or_else(|| {
        format!("{} is not an amount; write a number and M, G or T, such as \"20G\"", quoted(text))
    })?;
    if total < MIN_DISK {
        return Err(format!(
            "{} is {total} bytes, which hardly an image fits into; write at least \"1M\"",
            quoted(text)
        ));
    }
    if total == u64::MAX {
        return Err(format!("{} is too much; write less", quoted(text)));
    }
    Ok(total)
}

/// The memory of a machine such as `256G`, in units of 1024 as memory is sold.
pub(super) fn fitted_memory(text: &str) -> Result<u64, String> {
    let units = [("M", 1 << 20), ("G", 1 << 30), ("T", 1 << 40)];
    amount(text, &units).ok_or_else(|| {
        format!("{} is not an amount of memory; write a number and M, G or T, such as \"256G\"", quoted(text))
    })
}

/// The size of a disk such as `3.84T`, in units of 1000 as disks are labelled.
pub(super) fn size_of_disk(text: &str) -> Result<u64, String> {
    let read = || {
        let (number, unit) = [("G", 1_000_000_000u64), ("T", 1_000_000_000_000)]
            .into_iter()
            .find_map(|(unit, times)| Some((text.strip_suffix(unit)?, times)))?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        if !is_number(whole) || !is_number(fraction) || fraction.len() > 9 {
            return None;
        }
        let parts = u32::try_from(fraction.len()).ok().and_then(|length| 10u64.checked_pow(length))?;
        let fraction = fraction.parse::<u64>().ok()?.checked_mul(unit / parts)?;
        whole.parse::<u64>().ok()?.checked_mul(unit)?.checked_add(fraction)
    };
    read().ok_or_else(|| {
        let quoted = quoted(text);
        format!(
            "{quoted} is not the size of a disk; write a number and G or T, such as \"480G\" or \"3.84T\""
        )
    })
}

fn seconds(text: &str) -> Result<u64, String> {
    let units = [("s", 1), ("m", 60), ("h", 3600), ("d", 86_400)];
    amount(text, &units).ok_or_else(|| {
        format!(
            "{} is not a time; write a number and s, m, h or d, such as \"90s\", \"10m\", \"1h\" or \"2d\"",
            quoted(text)
        )
    })
}

/// Bytes such as `64M`, or none with `0`.
pub(super) fn memory(text: &str) -> Result<u64, String> {
    let units = [("K", 1 << 10), ("M", 1 << 20), ("G", 1 << 30), ("", 1)];
    let total = amount(text, &units).ok_or_else(|| {
        format!(
            "{} is not an amount of memory; write a number and K, M or G, such as \"64M\", or 0 for none",
            quoted(text)
        )
    })?;
    if (1..MIN_MEMORY).contains(&total) {
        return Err(format!(
            "{} is {total} bytes, which no boot file fits into; write a unit behind it, such as \"64M\", or 0 for none",
            quoted(text)
        ));
    }
    if total > MAX_MEMORY {
        return Err(format!("{} is too much; write at most \"4G\"", quoted(text)));
    }
    Ok(total)
}

/// A number times its unit; too many digits for a number are too much of anything, too.
fn amount(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let (digits, unit) = units.iter().find_map(|(unit, times)| Some((text.strip_suffix(unit)?, times)))?;
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(digits.parse::<u64>().ok().and_then(|number| number.checked_mul(*unit)).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;
