//! A single value: its type, and what is wrong with it if it has another one.

use std::fmt;
use std::ops::RangeInclusive;

use toml::Spanned;
use toml::de::DeValue;

use super::report::{At, Place, Report};
use super::value::quoted;

/// Where an item of a list stands.
pub(super) fn element(list: &Place, index: usize, item: &Spanned<DeValue<'_>>, report: &Report<'_>) -> Place {
    Place { key: format!("{}[{index}]", list.key), line: Some(report.line(item.span().start)) }
}

/// A text; `example` is one with its key.
pub(super) fn text(
    place: Place,
    value: &Spanned<DeValue<'_>>,
    example: fmt::Arguments<'_>,
    report: &mut Report<'_>,
) -> Option<At<String>> {
    if spoilt(&place, value, report) {
        return None;
    }
    let Some(text) = value.get_ref().as_str() else {
        report.add(&place, wrong_type("a text in quotes", value, example));
        return None;
    };
    Some(At { value: text.to_owned(), place })
}

/// A text, or a whole number as its digits; `example` is one with its key.
pub(super) fn text_or_number(
    place: Place,
    value: &Spanned<DeValue<'_>>,
    example: fmt::Arguments<'_>,
    report: &mut Report<'_>,
) -> Option<At<String>> {
    let Some(integer) = value.get_ref().as_integer() else { return text(place, value, example, report) };
    if spoilt(&place, value, report) {
        return None;
    }
    let decimal = u64::from_str_radix(integer.as_str(), integer.radix());
    let value = decimal.map_or_else(|_| integer.as_str().to_owned(), |number| number.to_string());
    Some(At { value, place })
}

/// A whole number within `range`; `example` is one with its key.
pub(super) fn number(
    place: Place,
    value: &Spanned<DeValue<'_>>,
    range: RangeInclusive<u32>,
    example: fmt::Arguments<'_>,
    report: &mut Report<'_>,
) -> Option<At<u32>> {
    let spoilt = report.take_spoilt(&value.span()).is_some();
    let integer = value.get_ref().as_integer().filter(|_| !spoilt);
    let number = integer.and_then(|integer| u32::from_str_radix(integer.as_str(), integer.radix()).ok());
    let Some(value) = number.filter(|number| range.contains(number)) else {
        report.add(
            &place,
            format!(
                "has to be a whole number from {} to {}, without quotes; write {example}",
                range.start(),
                range.end()
            ),
        );
        return None;
    };
    Some(At { value, place })
}

/// Reports a value that is not even TOML, which is mostly a text without its quotes.
pub(super) fn spoilt(place: &Place, value: &Spanned<DeValue<'_>>, report: &mut Report<'_>) -> bool {
    // The positions in a list or table belong to what is in it.
    if matches!(value.get_ref(), DeValue::Array(_) | DeValue::Table(_)) {
        return false;
    }
    let span = value.span();
    let Some(why) = report.take_spoilt(&span) else { return false };
    let written = report.written(span).trim();
    if written.is_empty() || written.contains(['"', '\'', '\n']) {
        report.add(place, why);
    } else {
        report.add(
            place,
            format!("texts are written in quotes: write {} instead of {written}", quoted(written)),
        );
    }
    true
}

/// What to say about a value of another type than `wanted`.
pub(super) fn wrong_type(wanted: &str, found: &Spanned<DeValue<'_>>, example: impl fmt::Display) -> String {
    let found = match found.get_ref() {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    };
    format!("has to be {wanted}, not {found}; write {example}")
}
