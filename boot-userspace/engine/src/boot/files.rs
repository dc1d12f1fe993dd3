//! Which boot file or URL a client is sent to: the one place that DHCP, the kernel's tables and the contract
//! test ask.

use std::net::SocketAddrV4;

use boot_common::class::{Class, Firmware, Stage};

use crate::config::ImageRef;

/// Where a client continues.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BootFile {
    /// A TFTP name.
    Tftp {
        /// The name; empty for firmware that asks for names of its own.
        name: String,
        /// Who has it, if that is not this server: an address or a host name.
        server: Option<String>,
    },
    /// A URL. Its host is always an IP address, unless it is the configuration's: HTTP Boot firmware resolves names
    /// only with a DNS server in the same answer.
    Url(String),
}

impl BootFile {
    /// As it stands in the answer.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::Tftp { name, .. } => name,
            Self::Url(url) => url,
        }
    }

    /// For people.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Tftp { name, server: None } if name.is_empty() => "its own files".to_owned(),
            Self::Tftp { name, server: Some(server) } if name.is_empty() => {
                format!("its own files from {server}")
            }
            Self::Tftp { name, server: Some(server) } => format!("{name} from {server}"),
            Self::Tftp { name, server: None } => name.clone(),
            Self::Url(url) => url.clone(),
        }
    }
}

/// A class in words.
#[must_use]
pub fn class_name(class: Class) -> String {
    match class.stage {
        Stage::Rom if class == Class::LOADER => "a boot loader".to_owned(),
        Stage::Rom => class.firmware.name().to_owned(),
        Stage::ReducedIpxe => format!("a reduced iPXE on {}", class.firmware.name()),
        Stage::Ipxe if class == Class::IPXE => "iPXE".to_owned(),
        Stage::Ipxe => format!("iPXE on {}", class.firmware.name()),
        Stage::Os => "an operating system".to_owned(),
    }
}

/// True for what is fetched by HTTP from where it says.
#[must_use]
pub fn is_url(name: &str) -> bool {
    name.starts_with("http://") || name.starts_with("https://")
}

/// Finds the loader for a firmware kind: a file name, or the sentence that says what provides one.
pub type Loaders<'a> = &'a dyn Fn(Firmware) -> Result<String, String>;

/// The path of the script that iPXE is sent to.
pub const SCRIPT: &str = "/boot.ipxe";

/// Where a client of this class continues; `None` when it boots nothing from here.
///
/// # Errors
/// The sentence that says which loader is missing and what provides it.
pub fn boot_file(class: Class, http: SocketAddrV4, loaders: Loaders<'_>) -> Result<Option<BootFile>, String> {
    match class.stage {
        Stage::Os => Ok(None),
        // Never the loader again, whatever the firmware under it: that would loop.
        Stage::Ipxe => Ok(Some(BootFile::Url(format!("http://{http}{SCRIPT}")))),
        // It looks for its files by itself, and boots no loader of ours.
        Stage::Rom if class.firmware.has_files_of_its_own() => {
            Ok(Some(BootFile::Tftp { name: String::new(), server: None }))
        }
        // By TFTP whatever the firmware: HTTP may be what it lacks.
        Stage::ReducedIpxe => Ok(Some(BootFile::Tftp { name: loaders(class.firmware)?, server: None })),
        Stage::Rom => {
            let name = loaders(class.firmware)?;
            Ok(Some(named(class, http, &name)))
        }
    }
}

/// A boot file by the name it has in the boot directory, an image of the store or a URL, as this class fetches it.
#[must_use]
pub fn named(class: Class, http: SocketAddrV4, name: &str) -> BootFile {
    if is_url(name) {
        BootFile::Url(name.to_owned())
    } else if let Some(Ok(image)) = ImageRef::read(name) {
        BootFile::Url(format!("http://{http}/images/{}", image.name))
    } else if class.firmware.is_http() {
        BootFile::Url(format!("http://{http}/files/{name}"))
    } else {
        BootFile::Tftp { name: name.to_owned(), server: None }
    }
}

#[cfg(test)]
mod tests;
