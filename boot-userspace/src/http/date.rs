//! Dates in HTTP headers: "Sun, 06 Nov 1994 08:49:37 GMT" (RFC 9110 section 5.6.7).

use std::time::{Duration, SystemTime};

const DAY: u64 = 86_400;
const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Writes a time; what is before 1970 becomes 1970.
pub(super) fn format(time: SystemTime) -> String {
    let seconds = whole_seconds(time);
    let (days, rest) = (seconds / DAY, seconds % DAY);
    let mut year = 1970;
    let mut day = days;
    while day >= days_in_year(year) {
        day -= days_in_year(year);
        year += 1;
    }
    let mut month = 0;
    while day >= days_in_month(year, month) {
        day -= days_in_month(year, month);
        month += 1;
    }
    let weekday = WEEKDAYS.get((days % 7) as usize).unwrap_or(&"Thu");
    let name = MONTHS.get(month).unwrap_or(&"Jan");
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{weekday}, {:02} {name} {year:04} {hour:02}:{minute:02}:{second:02} GMT", day + 1)
}

/// Reads the one form that is not obsolete, as whole seconds since 1970.
pub(super) fn parse(text: &str) -> Option<u64> {
    let (_, text) = text.trim().split_once(", ")?;
    let parts: Vec<&str> = text.split([' ', ':']).collect();
    let [day, month, year, hour, minute, second, "GMT"] = *parts.as_slice() else { return None };
    let number = |text: &str| text.parse::<u64>().ok();
    let month = MONTHS.iter().position(|name| *name == month)?;
    let year = number(year).filter(|year| (1970..=9999).contains(year))?;
    let day = number(day).filter(|day| (1..=days_in_month(year, month)).contains(day))?;
    let days = (1970..year).map(days_in_year).sum::<u64>()
        + (0..month).map(|month| days_in_month(year, month)).sum::<u64>()
        + day
        - 1;
    let (hour, minute, second) = (number(hour)?, number(minute)?, number(second)?);
    (hour < 24 && minute < 60 && second <= 60).then(|| days * DAY + hour * 3600 + minute * 60 + second)
}

/// A file's time with the precision that headers have.
pub(super) fn whole_seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time: Duration| time.as_secs())
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn days_in_year(year: u64) -> u64 {
    if is_leap(year) { 366 } else { 365 }
}

fn days_in_month(year: u64, month: usize) -> u64 {
    match month {
        1 if is_leap(year) => 29,
        1 => 28,
        3 | 5 | 8 | 10 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_and_reads_the_same_times() {
        for (seconds, text) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (4_107_542_399, "Sun, 28 Feb 2100 23:59:59 GMT"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
        ] {
            assert_eq!(format(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)), text);
            assert_eq!(parse(text), Some(seconds));
        }
        for text in [
            "",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun, 31 Feb 2020 00:00:00 GMT",
            "Sun, 06 Nov 1994 24:00:00 GMT",
            "Sun, 06 Nov 1994 9999999999999999999:00:00 GMT",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
