//! The kinds of documents, with their keys and names.

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

        pub(super) const KEYS: [&str; [$($key),*].len()] = [$($key),*];
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
    /// Anything else: matchbox's `/generic`.
    Generic "generic"
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
