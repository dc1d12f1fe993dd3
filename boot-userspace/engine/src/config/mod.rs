//! The configuration: from `xpxe.toml` to checked, typed settings.
//!
//! A file goes through three hands, and none of them stops at the first problem:
//! the TOML parser (`syntax`), the walk that knows keys and types (`reader`, `leaf`, `file`), and the checks that
//! know what the values mean (`check`, `subnet`, `machine`); `http`, `option`, `boot_file` and `relay_port` have both of
//! what is theirs. What comes out is either a [`Config`] that
//! needs no further checking or every [`Problem`] in the file, each with its key and line.

mod address;
mod amount;
mod boot_file;
mod bytes;
mod check;
mod checked;
mod compact;
mod file;
mod http;
mod leaf;
mod machine;
mod name;
mod option;
mod problem;
mod profile;
mod reader;
mod relay_port;
mod report;
mod subnet;
mod suggest;
mod syntax;
mod value;

#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use bytes::uuid as parse_uuid;
pub(crate) use bytes::{in_either_order, pairs as parse_hex, uuid_text};
pub use checked::{
    BOOT_OPTIONS, BootFileRule, Config, CustomOption, DEFAULT_BOOT_LEASE, DEFAULT_FAST_PATH_MEMORY,
    DEFAULT_LEASE, DEFAULT_WINDOWSIZE, Default, DhcpRole, FastPath, Interface, Machine, Profile, RelayPort,
    Subnet, Tftp, TftpClients, Unknown,
};
pub use http::{DEFAULT_CONNECTIONS_PER_ADDRESS, Http};
pub use problem::{Problem, Problems};

/// Checks the TOML in `bytes`; `origin` is what problems call it, usually the name of the file.
///
/// # Errors
///
/// All problems of the text, or the line that is not UTF-8.
pub fn parse_bytes(bytes: Vec<u8>, origin: &str) -> Result<Config, Problems> {
    match String::from_utf8(bytes) {
        Ok(text) => parse(&text, origin),
        Err(error) => {
            let good = error.utf8_error().valid_up_to();
            let line = 1 + error.as_bytes().iter().take(good).filter(|byte| **byte == b'\n').count();
            Err(Problems::one(
                origin,
                Some(line),
                "this line is not UTF-8; save the file as UTF-8".to_owned(),
            ))
        }
    }
}

/// Checks the TOML in `text`; `origin` is what problems call it, usually the name of the file.
///
/// # Errors
///
/// All problems of the text.
pub fn parse(text: &str, origin: &str) -> Result<Config, Problems> {
    let mut report = report::Report::new(text);
    let config = syntax::read(text, &mut report).map(|tree| {
        let file = file::File::read(&tree, &mut report);
        // With many machines it is large, and not needed any more.
        drop(tree);
        check::check(&file, &mut report)
    });
    let (mut config, mut machines) = report.finish(origin, config)?;
    compact::compact(&mut machines);
    config.machines = machines.into_iter().map(Arc::new).collect();
    Ok(config)
}

/// Whether a `[[machine]]` can have this name.
#[must_use]
pub fn is_machine_name(name: &str) -> bool {
    name::machine(name).is_ok()
}
