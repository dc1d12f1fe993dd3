//! The configuration: from `xpxe.toml` to checked, typed settings.
//!
//! A file goes through three hands, and none of them stops at the first problem:
//! the TOML parser (`syntax`), the walk that knows keys and types (`reader`, `leaf`, `file`), and the checks that
//! know what the values mean (`check`, `subnet`, `machine`); `http`, `images`, `option`, `boot_file` and `relay_port` have both of
//! what is theirs. What comes out is either a [`Config`] that
//! needs no further checking or every [`Problem`] in the file, each with its key and line.

mod address;
mod agent;
mod amount;
mod api;
mod arch;
mod bmc;
mod boot_file;
mod boots;
mod boots_check;
mod bytes;
mod check;
mod checked;
mod compact;
mod disk_image;
mod document_kind;
mod documents;
mod event_kind;
mod file;
mod formats;
mod front;
mod group;
mod hardware;
mod http;
mod identity;
mod image;
mod images;
mod inherit;
mod leaf;
mod lifecycle;
mod machine;
mod matching;
mod merge;
mod name;
mod option;
mod origins;
mod problem;
mod profile;
mod profile_names;
mod reader;
mod registered;
mod relay_port;
mod report;
mod serial;
mod store;
mod subnet;
mod suggest;
mod syntax;
mod template;
mod texts;
mod traces;
mod value;
mod webhook;
mod yaml;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;

pub use agent::Agent;
pub use api::Api;
pub use arch::{Arch, ArchProfile};
pub use bmc::{Bmc, BmcDriver, PowerSettings, RegisteredBmc};
pub use boots::{Kind, LOCAL, Menu, mboot, name_in_windows};
pub(crate) use bytes::pairs as parse_hex;
pub use bytes::{in_either_order, is_placeholder, uuid as parse_uuid, uuid_text};
pub use checked::{
    BOOT_OPTIONS, BootFileRule, Config, CustomOption, DEFAULT_BOOT_LEASE, DEFAULT_FAST_PATH_MEMORY,
    DEFAULT_LEASE, DEFAULT_WINDOWSIZE, Default, DhcpRole, FastPath, Group, Interface, Machine, Profile,
    RelayPort, Subnet, Tftp, TftpClients, Unknown,
};
pub use disk_image::DiskImage;
pub use document_kind::DocumentKind;
pub use documents::{DocumentFile, Documents};
pub use event_kind::EventKind;
pub use front::Front;
pub use hardware::Hardware;
pub use http::{DEFAULT_CONNECTIONS_PER_ADDRESS, Http, Tls};
pub use identity::{DuplicateMac, DuplicateUuid, IdentityRules, SwappedBoard};
pub(crate) use image::kernel as check_kernel;
pub use image::{ImageName, ImageRef, ImageSource, Sha256Digest};
pub use images::{DEFAULT_IMAGES_CHECK, DEFAULT_IMAGES_SIZE, Images, Upstream};
pub use lifecycle::{Accept, DEFAULT_LIMITS, LIMITED, Lifecycle};
pub use matching::{Described, Match, PortSeen};
pub use origins::Origins;
pub use problem::{Problem, Problems};
pub use registered::Registered;
pub use serial::{is_serial, serial_key};
pub use store::Postgres;
pub use template::{
    Fault, Faults, Initrd, MachineVariables, NetworkVariables, ReadText, ServerVariables, Templates,
    TextFile, Variables, is_template, tame,
};
pub use traces::Traces;
pub(crate) use value::args as check_args;
pub use webhook::{DEFAULT_TRIES, Webhook, WebhookUrl};

/// Checks the TOML in `bytes`; `origin` is what problems call it, usually the name of the file.
///
/// # Errors
///
/// All problems of the text, or the line that is not UTF-8.
pub fn parse_bytes(bytes: Vec<u8>, origin: &str) -> Result<Config, Problems> {
    parse_files(&[Source { name: origin.to_owned(), bytes }])
}

/// Checks the TOML in `text`; `origin` is what problems call it, usually the name of the file.
///
/// # Errors
///
/// All problems of the text.
pub fn parse(text: &str, origin: &str) -> Result<Config, Problems> {
    parse_bytes(text.as_bytes().to_vec(), origin)
}

/// One of the files of a configuration.
#[derive(Clone, Debug)]
pub struct Source {
    /// What problems call it.
    pub name: String,
    /// What it says.
    pub bytes: Vec<u8>,
}

/// Checks several files as one: interfaces, subnets, profiles, groups, `boot_file` rules, webhooks and machines may be in any of them, all
/// other keys in one only.
///
/// # Errors
///
/// All problems of all files.
pub fn parse_files(sources: &[Source]) -> Result<Config, Problems> {
    parse_files_with(sources, &|_| Err("cannot be read: there are no files beside this text".to_owned()))
}

/// The same with the text files that they name: `read` reads those.
///
/// # Errors
///
/// All problems of all files, those of templates among them.
pub fn parse_files_with(sources: &[Source], read: &ReadText<'_>) -> Result<Config, Problems> {
    let (mut config, mut machines, file) = checked(sources, read)?;
    // With many machines it is large, and not needed any more.
    drop(file);
    compact::compact(&mut machines);
    config.machines = machines.into_iter().map(Arc::new).collect();
    Ok(config)
}

/// The same, with where each setting stands.
///
/// # Errors
///
/// All problems of all files.
pub fn parse_with_origins(sources: &[Source], read: &ReadText<'_>) -> Result<(Config, Origins), Problems> {
    let (mut config, machines, file) = checked(sources, read)?;
    config.machines = machines.into_iter().map(Arc::new).collect();
    let names = sources.iter().map(|source| source.name.clone()).collect();
    Ok((config, Origins::new(names, file)))
}

/// `state_dir` of a configuration that may have mistakes, as far as it can be read.
#[must_use]
pub fn state_dir(sources: &[Source]) -> Option<PathBuf> {
    sources.iter().find_map(|source| {
        let text = std::str::from_utf8(&source.bytes).ok()?;
        let (tree, _) = toml::de::DeTable::parse_recoverable(text);
        let (_, value) = tree.get_ref().iter().find(|(key, _)| key.get_ref() == "state_dir")?;
        value.get_ref().as_str().map(PathBuf::from)
    })
}

fn checked(sources: &[Source], texts: &ReadText<'_>) -> Result<(Config, Vec<Machine>, file::File), Problems> {
    let names: Vec<String> = sources.iter().map(|source| source.name.clone()).collect();
    let mut report = report::Report::new(names);
    let mut whole: Option<file::File> = None;
    let mut are_all_read = true;
    for (number, source) in (0..).zip(sources) {
        match read(number, source, &mut report) {
            None => are_all_read = false,
            Some(file) => match &mut whole {
                None => whole = Some(file),
                Some(whole) => whole.add(file, &mut report),
            },
        }
    }
    // What a file that cannot be read says may be missing in the others.
    let checked = whole.filter(|_| are_all_read).map(|file| {
        let (config, machines) = check::check(&file, texts, &mut report);
        (config, machines, file)
    });
    report.finish(checked)
}

/// One file; nothing if it is no TOML.
fn read<'t>(number: u16, source: &'t Source, report: &mut report::Report<'t>) -> Option<file::File> {
    let text = match std::str::from_utf8(&source.bytes) {
        Ok(text) => text,
        Err(error) => {
            let good = source.bytes.iter().take(error.valid_up_to());
            let line = 1 + good.filter(|byte| **byte == b'\n').count();
            let line = report::Line { file: number, number: u32::try_from(line).unwrap_or(u32::MAX) };
            let place = report::Place { key: String::new(), line: Some(line) };
            report.add(&place, "this line is not UTF-8; save the file as UTF-8");
            return None;
        }
    };
    report.begin(number, text);
    let tree = syntax::read(text, report);
    let file = tree.map(|tree| file::File::read(&tree, report));
    report.end();
    file
}

/// Whether a `[[machine]]` can have this name.
#[must_use]
pub fn is_machine_name(name: &str) -> bool {
    name::machine(name).is_ok()
}
