//! Walks a TOML table: finds the keys, checks their types, and reports the keys that should not be there.

use std::fmt;
use std::ops::RangeInclusive;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::leaf::{self, element, spoilt, text, wrong_type};
use super::report::{At, Place, Report};
use super::suggest::closest;
use super::value::{either, quoted};

/// Keys that people write too far down, where they belong to the table above them.
const TOP: [&str; 7] =
    ["state_dir", "store", "store_password_file", "boot_dir", "pin_dir", "fast_path_memory", "boots"];

/// A table whose keys are known beforehand.
pub(super) struct Table<'t> {
    pub(super) place: Place,
    fields: Vec<Field<'t>>,
}

#[derive(Clone, Copy)]
struct Field<'t> {
    /// The key that is asked for.
    name: &'static str,
    /// The key in the file, which may be a misspelling of it.
    written: &'t str,
    value: &'t Spanned<DeValue<'t>>,
}

impl<'t> Table<'t> {
    pub(super) fn open(
        table: &'t DeTable<'t>,
        place: Place,
        known: &[&'static str],
        report: &mut Report<'_>,
    ) -> Self {
        let mut this = Self { place, fields: Vec::with_capacity(table.len()) };
        for (key, value) in table {
            if let Some(name) = known.iter().find(|name| **name == key.get_ref().as_ref()) {
                this.fields.push(Field { name, written: key.get_ref(), value });
            }
        }
        for (key, value) in table {
            let written: &str = key.get_ref();
            if known.contains(&written) {
                continue;
            }
            let place = Place { key: this.path(written), line: Some(report.line(key.span().start)) };
            let meant = closest(written, known.iter().copied());
            report.add(&place, this.unknown(written, meant, known));
            // Read on as if it were spelled right, so that its loss is not a second problem and its contents are
            // checked too.
            let meant = meant.and_then(|meant| known.iter().find(|name| **name == meant));
            if let Some(name) = meant.filter(|name| !this.has(name)) {
                this.fields.push(Field { name, written, value });
            }
        }
        this
    }

    fn unknown(&self, written: &str, meant: Option<&str>, known: &[&str]) -> String {
        if let Some(meant) = meant {
            format!("there is no such key; did you mean {meant}?")
        } else if TOP.contains(&written) && !self.place.key.is_empty() {
            format!("{written} belongs at the top of the file, before the first [section]")
        } else if written == "serial" && self.place.key.starts_with("machine[") {
            "a machine of the configuration is not known by its serial number; write its mac, uuid or relay_port, or write \
             its [[machine]] into another file and run xpxe machines import FILE"
                .to_owned()
        } else {
            format!("there is no such key; write {}", either(known.iter().copied()))
        }
    }

    fn path(&self, key: &str) -> String {
        let bare =
            !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
        let key = if bare && key.len() <= 60 { key.to_owned() } else { quoted(key) };
        if self.place.key.is_empty() { key } else { format!("{}.{key}", self.place.key) }
    }

    fn field(&self, name: &str) -> Option<&Field<'t>> {
        self.fields.iter().find(|field| field.name == name)
    }

    fn find(&self, name: &str, report: &Report<'_>) -> Option<(Place, &'t Spanned<DeValue<'t>>)> {
        let Field { written, value, .. } = *self.field(name)?;
        Some((Place { key: self.path(written), line: Some(report.line(value.span().start)) }, value))
    }

    /// A text; `example` is one, without its quotes.
    pub(super) fn text(&self, name: &str, example: &str, report: &mut Report<'_>) -> Option<At<String>> {
        let (place, value) = self.find(name, report)?;
        text(place, value, format_args!("{name} = {example:?}"), report)
    }

    /// A text, or a whole number as its digits; `example` is a text without its quotes.
    pub(super) fn text_or_number(
        &self,
        name: &str,
        example: &str,
        report: &mut Report<'_>,
    ) -> Option<At<String>> {
        let (place, value) = self.find(name, report)?;
        leaf::text_or_number(place, value, format_args!("{name} = {example:?}"), report)
    }

    /// A text that has to be there.
    pub(super) fn required_text(
        &self,
        name: &str,
        example: &str,
        report: &mut Report<'_>,
    ) -> Option<At<String>> {
        self.require(name, format_args!("{example:?}"), report);
        self.text(name, example, report)
    }

    /// Reports `name` if it is missing; `example` is a value as TOML.
    fn require(&self, name: &str, example: impl fmt::Display, report: &mut Report<'_>) {
        if !self.has(name) {
            let place = Place { key: self.path(name), line: self.place.line };
            report.add(&place, format!("is missing; write {name} = {example}"));
        }
    }

    /// `true` or `false`.
    pub(super) fn flag(&self, name: &str, report: &mut Report<'_>) -> Option<bool> {
        self.flag_at(name, report).map(|at| at.value)
    }

    /// The same with its place.
    pub(super) fn flag_at(&self, name: &str, report: &mut Report<'_>) -> Option<At<bool>> {
        let (place, value) = self.find(name, report)?;
        let spoilt = report.take_spoilt(&value.span()).is_some();
        let flag = value.get_ref().as_bool().filter(|_| !spoilt);
        if flag.is_none() {
            report.add(&place, format!("has to be true or false, without quotes; write {name} = true"));
        }
        Some(At { value: flag?, place })
    }

    /// A list of texts; empty if it is not there. `example` is one of them, without its quotes.
    pub(super) fn texts(&self, name: &str, example: &str, report: &mut Report<'_>) -> Vec<At<String>> {
        let Some((place, value)) = self.find(name, report) else { return Vec::new() };
        if spoilt(&place, value, report) {
            return Vec::new();
        }
        let Some(items) = value.get_ref().as_array() else {
            report.add(&place, wrong_type("a list", value, format_args!("{name} = [{example:?}]")));
            return Vec::new();
        };
        let item = |(index, item): (usize, &'t Spanned<DeValue<'t>>)| {
            let place = element(&place, index, item, report);
            text(place, item, format_args!("{name} = [{example:?}]"), report)
        };
        items.iter().enumerate().filter_map(item).collect()
    }

    /// A list of texts that is not empty, or one text instead; nothing if it is not there.
    pub(super) fn one_or_more_texts(
        &self,
        name: &str,
        example: &str,
        report: &mut Report<'_>,
    ) -> Vec<At<String>> {
        let Some((place, value)) = self.find(name, report) else { return Vec::new() };
        if self.is_empty_list(name) {
            report.add(&place, format!("the list is empty; write {name} = [{example:?}]"));
        }
        if value.get_ref().is_array() {
            self.texts(name, example, report)
        } else {
            self.text(name, example, report).into_iter().collect()
        }
    }

    /// A whole number within `range`; `example` is one.
    pub(super) fn number(
        &self,
        name: &str,
        range: RangeInclusive<u32>,
        example: &str,
        report: &mut Report<'_>,
    ) -> Option<At<u32>> {
        let (place, value) = self.find(name, report)?;
        leaf::number(place, value, range, format_args!("{name} = {example}"), report)
    }

    /// A number that has to be there.
    pub(super) fn required_number(
        &self,
        name: &str,
        range: RangeInclusive<u32>,
        example: &str,
        report: &mut Report<'_>,
    ) -> Option<At<u32>> {
        self.require(name, example, report);
        self.number(name, range, example, report)
    }

    /// A list of numbers that is not empty, or one number instead; nothing if it is not there.
    pub(super) fn one_or_more_numbers(
        &self,
        name: &str,
        range: RangeInclusive<u32>,
        example: &str,
        report: &mut Report<'_>,
    ) -> Vec<At<u32>> {
        let Some((place, value)) = self.find(name, report) else { return Vec::new() };
        let Some(items) = value.get_ref().as_array() else {
            return self.number(name, range, example, report).into_iter().collect();
        };
        if items.is_empty() {
            report.add(&place, format!("the list is empty; write {name} = [{example}]"));
        }
        let item = |(index, item): (usize, &'t Spanned<DeValue<'t>>)| {
            let place = element(&place, index, item, report);
            leaf::number(place, item, range.clone(), format_args!("{name} = [{example}]"), report)
        };
        items.iter().enumerate().filter_map(item).collect()
    }

    /// True if `name` is a table, in braces or as a section.
    pub(super) fn is_table(&self, name: &str) -> bool {
        self.field(name).is_some_and(|field| field.value.get_ref().is_table())
    }

    /// True if `name` is a list without anything in it.
    pub(super) fn is_empty_list(&self, name: &str) -> bool {
        self.field(name).is_some_and(|field| field.value.get_ref().as_array().is_some_and(|a| a.is_empty()))
    }

    /// A table with keys of the user's choice and texts in them.
    pub(super) fn free_texts(
        &self,
        name: &str,
        example: &str,
        report: &mut Report<'_>,
    ) -> Vec<(String, At<String>)> {
        let Some((place, value)) = self.find(name, report) else { return Vec::new() };
        let Some(table) = value.get_ref().as_table() else {
            if !spoilt(&place, value, report) {
                report.add(&place, wrong_type("a table", value, format_args!("{name} = {{ {example} }}")));
            }
            return Vec::new();
        };
        let inner = Self { place, fields: Vec::new() };
        let mut texts = Vec::new();
        for (key, value) in table {
            let place = Place { key: inner.path(key.get_ref()), line: Some(report.line(value.span().start)) };
            let text = text(place, value, format_args!("{name} = {{ {example} }}"), report);
            texts.extend(text.map(|text| (key.get_ref().to_string(), text)));
        }
        texts
    }

    /// `[name]`
    pub(super) fn table(&self, name: &str, known: &[&'static str], report: &mut Report<'_>) -> Option<Self> {
        let (place, value) = self.find(name, report)?;
        match value.get_ref() {
            DeValue::Table(table) => Some(Self::open(table, place, known, report)),
            DeValue::Array(items) if items.iter().all(|item| item.get_ref().is_table()) => {
                report.add(&place, format!("there can be only one; write [{name}] with single brackets"));
                let (item, table) = items.iter().find_map(|item| Some((item, item.get_ref().as_table()?)))?;
                let place = element(&place, 0, item, report);
                Some(Self::open(table, place, known, report))
            }
            _ => {
                if !spoilt(&place, value, report) {
                    report.add(&place, wrong_type("a section", value, format_args!("[{name}]")));
                }
                None
            }
        }
    }

    /// `[[name]]`
    pub(super) fn tables(&self, name: &str, known: &[&'static str], report: &mut Report<'_>) -> Vec<Self> {
        let example = format!("[[{name}]]");
        self.list_of_tables(name, known, ["a section", &example, " with double brackets"], report)
    }

    /// `name = [{ … }]`; `example` is one with its name.
    pub(super) fn inline_tables(
        &self,
        name: &str,
        known: &[&'static str],
        example: &str,
        report: &mut Report<'_>,
    ) -> Vec<Self> {
        self.list_of_tables(name, known, ["a list of tables", example, ""], report)
    }

    /// `words` are what each one is called, an example, and what to notice in that.
    fn list_of_tables(
        &self,
        name: &str,
        known: &[&'static str],
        [what, example, notice]: [&str; 3],
        report: &mut Report<'_>,
    ) -> Vec<Self> {
        let Some((place, value)) = self.find(name, report) else { return Vec::new() };
        let items = match value.get_ref() {
            DeValue::Array(items) => items.iter().as_slice(),
            DeValue::Table(_) => {
                report.add(&place, format!("there can be several; write {example}{notice}"));
                std::slice::from_ref(value)
            }
            _ => {
                if !spoilt(&place, value, report) {
                    report.add(&place, wrong_type(what, value, example));
                }
                &[]
            }
        };
        let mut tables = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let place = element(&place, index, item, report);
            match item.get_ref() {
                DeValue::Table(table) => tables.push(Self::open(table, place, known, report)),
                _ if spoilt(&place, item, report) => {}
                _ => report.add(&place, wrong_type(what, item, example)),
            }
        }
        tables
    }

    /// True if the file has this key, whatever is in it.
    pub(super) fn has(&self, name: &str) -> bool {
        self.field(name).is_some()
    }
}
