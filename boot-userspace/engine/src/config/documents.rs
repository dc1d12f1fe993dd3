//! `documents`: what an installer or an operating system fetches about its machine.

use super::document_kind::{DocumentKind, KEYS};
use super::reader::Table;
use super::report::{At, Report};
use super::texts::{Texts, Use};

/// `documents`: each with the file that it is made from, one of [`Config::templates`](super::Config::templates). No two have
/// the same name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Documents(Vec<(DocumentKind, String)>);

impl Documents {
    /// The document with this name in its URL, and its file.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<(DocumentKind, &str)> {
        self.0.iter().find(|(kind, _)| kind.name() == name).map(|(kind, file)| (*kind, file.as_str()))
    }

    /// All of them, with their files.
    pub fn all(&self) -> impl Iterator<Item = (DocumentKind, &str)> {
        self.0.iter().map(|(kind, file)| (*kind, file.as_str()))
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Has others stand before those of the same names.
    pub(super) fn put(&mut self, others: &Self) {
        self.0.retain(|(kind, _)| others.get(kind.name()).is_none());
        self.0.extend(others.0.iter().cloned());
    }
}

/// As they stand in the file.
pub(super) type Written = Vec<(DocumentKind, At<String>)>;

/// The documents of a table.
pub(super) fn read(table: &Table<'_>, report: &mut Report<'_>) -> Written {
    let Some(documents) = table.table("documents", &KEYS, report) else { return Vec::new() };
    let of = |kind: DocumentKind| {
        Some((kind, documents.text(kind.key(), &format!("templates/{}", kind.key()), report)?))
    };
    DocumentKind::ALL.into_iter().filter_map(of).collect()
}

/// What they become.
pub(super) fn check(from: &Written, texts: &mut Texts<'_>, report: &mut Report<'_>) -> Documents {
    let mut documents = Documents::default();
    for (kind, at) in from {
        if let Some((other, _)) = documents.get(kind.name()) {
            let message = format!(
                "is the same document as {}, because the installer fetches it as {}; keep one of them",
                other.key(),
                kind.name()
            );
            report.add(&at.place, message);
        } else if let Some(file) = texts.file(at, Use::Document(*kind), report) {
            documents.0.push((*kind, file));
        }
    }
    documents
}
