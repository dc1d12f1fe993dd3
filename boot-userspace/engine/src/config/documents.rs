//! `documents`: what an installer or an operating system fetches about its machine.

use super::document_kind::{DocumentKind, KEYS};
use super::reader::Table;
use super::report::{At, Report};
use super::texts::{Texts, Use};

/// `documents`: each with the file that it is made from, one of [`Config::templates`](super::Config::templates). No two have
/// the same name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Documents(Vec<DocumentFile>);

/// A document as the configuration names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentFile {
    /// Its kind.
    pub kind: DocumentKind,
    /// The file that it is made from.
    pub file: String,
    /// `secret`: it is given once per boot. Default: no.
    pub is_secret: bool,
}

impl Documents {
    /// The document with this name in its URL.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&DocumentFile> {
        self.0.iter().find(|document| document.kind.name() == name)
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &DocumentFile> {
        self.0.iter()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Has others stand before those of the same names.
    pub(super) fn put(&mut self, others: &Self) {
        self.0.retain(|document| others.get(document.kind.name()).is_none());
        self.0.extend(others.0.iter().cloned());
    }
}

/// As they stand in the file.
pub(super) type Written = Vec<(DocumentKind, At<String>, bool)>;

/// The documents of a table.
pub(super) fn read(table: &Table<'_>, report: &mut Report<'_>) -> Written {
    let Some(documents) = table.table("documents", &KEYS, report) else { return Vec::new() };
    let mut of = |kind: DocumentKind| {
        let example = format!("templates/{}", kind.key());
        if !documents.is_table(kind.key()) {
            return Some((kind, documents.text(kind.key(), &example, report)?, false));
        }
        let document = documents.table(kind.key(), &["file", "secret"], report)?;
        let is_secret = document.flag("secret", report).unwrap_or_default();
        Some((kind, document.required_text("file", &example, report)?, is_secret))
    };
    DocumentKind::ALL.into_iter().filter_map(&mut of).collect()
}

/// What they become.
pub(super) fn check(from: &Written, texts: &mut Texts<'_>, report: &mut Report<'_>) -> Documents {
    let mut documents = Documents::default();
    for (kind, at, is_secret) in from {
        if let Some(DocumentFile { kind: other, .. }) = documents.get(kind.name()) {
            let message = format!(
                "is the same document as {}, because the installer fetches it as {}; keep one of them",
                other.key(),
                kind.name()
            );
            report.add(&at.place, message);
        } else if let Some(file) = texts.file(at, Use::Document(*kind), report) {
            documents.0.push(DocumentFile { kind: *kind, file, is_secret: *is_secret });
        }
    }
    documents
}
