//! TOML text → a tree with positions, and what is not TOML.

use toml::de::DeTable;

use super::report::{Place, Report};

/// What the TOML parser says about a single value; the tree around it is whole, so the walk can go on.
/// Anything else may have moved keys to other tables and would cause problems that nobody wrote.
const VALUE_ONLY: [&str; 22] = [
    "string values must be quoted",
    "invalid basic string",
    "invalid literal string",
    "invalid float",
    "invalid mantissa",
    "invalid fraction",
    "invalid exponent",
    "invalid integer",
    "invalid time",
    "invalid date",
    "unexpected leading zero",
    "redundant",
    "missing escaped value",
    "invalid boolean",
    "invalid hexadecimal",
    "invalid octal",
    "invalid binary",
    "integers with a radix",
    "radix must be",
    "`_` may only",
    "unexpected sign",
    "too few unicode",
];
const DUPLICATE: &str = "duplicate key";

/// The tree, unless the text is so broken that its values would be misread.
pub(super) fn read<'t>(text: &'t str, report: &mut Report<'t>) -> Option<DeTable<'t>> {
    let (tree, mut errors) = DeTable::parse_recoverable(text);
    errors.sort_by_key(|error| error.span().map(|span| span.start));
    for error in errors {
        let message = error.message().trim_end();
        let Some(span) = error.span() else {
            // Of this file, at least: there may be several.
            let line = Some(report.line(0));
            report.add(&Place { key: String::new(), line }, format!("this is not TOML: {message}"));
            return None;
        };
        let line = Some(report.line(span.start));
        if message.starts_with(DUPLICATE) {
            let key = report.written(span).to_owned();
            report.add(&Place { key, line }, "is written twice; keep one of the two");
        } else if VALUE_ONLY.iter().any(|start| message.starts_with(start)) {
            report.add_spoilt(span, format!("this is not TOML: {message}"));
        } else {
            report.add(&Place { key: String::new(), line }, format!("this is not TOML: {message}"));
            return None;
        }
    }
    Some(tree.into_inner())
}
