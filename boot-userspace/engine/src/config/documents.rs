//! `documents`: what an installer or an operating system fetches about its machine.

use super::reader::Table;
use super::report::{At, Report};
use super::texts::{Texts, Use};

/// Makes the enum, the list of all kinds, and the keys.
macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident $key:literal)*) => {
        /// A kind of document.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum DocumentKind { $($(#[$doc])* $kind,)* }

        impl DocumentKind {
            /// All of them.
            pub const ALL: [Self; KEYS.len()] = [$(Self::$kind),*];

            /// Its key in `documents`.
            #[must_use]
            pub fn key(self) -> &'static str {
                match self { $(Self::$kind => $key,)* }
            }
        }

        const KEYS: [&str; [$($key),*].len()] = [$($key),*];
    };
}

kinds! {
    /// cloud-init NoCloud's `meta-data`: who the machine is (YAML).
    MetaData "meta-data"
    /// cloud-init NoCloud's `user-data`: what is to be done (cloud-config, a script, or several parts).
    UserData "user-data"
    /// cloud-init NoCloud's `vendor-data`: the same, which `user-data` stands before.
    VendorData "vendor-data"
    /// cloud-init NoCloud's `network-config` (YAML).
    NetworkConfig "network-config"
    /// Ubuntu's autoinstall: a `user-data` with `autoinstall:` in it.
    Autoinstall "autoinstall"
    /// Ignition (JSON).
    Ignition "ignition"
    /// The machine configuration of Talos (YAML).
    Talos "talos"
    /// Anaconda's kickstart.
    Kickstart "kickstart"
    /// The Debian installer's preseed.
    Preseed "preseed"
    /// AutoYaST's profile (XML).
    Autoyast "autoyast"
}

impl DocumentKind {
    /// The last part of its URL.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Autoinstall => Self::UserData.key(),
            _ => self.key(),
        }
    }

    /// Whether cloud-init fetches it.
    #[must_use]
    pub fn is_cloud_inits(self) -> bool {
        matches!(
            self,
            Self::MetaData | Self::UserData | Self::VendorData | Self::NetworkConfig | Self::Autoinstall
        )
    }

    /// As HTTP names what is in it.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Ignition => "application/json",
            Self::Autoyast => "application/xml",
            _ => "text/plain; charset=utf-8",
        }
    }
}

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
