//! The programs of other servers.

use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Where `cargo xtask setup` unpacks servers, without installing them.
pub(crate) fn peers() -> Option<PathBuf> {
    std::env::var_os("XPXE_PEERS").map(PathBuf::from).filter(|dir| dir.is_dir())
}

/// A server's program: unpacked, or else of this machine.
pub(crate) fn unpacked(name: &str) -> PathBuf {
    let unpacked = peers().map(|dir| dir.join("usr/sbin").join(name));
    unpacked.filter(|program| program.is_file()).unwrap_or_else(|| PathBuf::from(name))
}

/// Where FreeRADIUS's libraries are unpacked.
pub(crate) fn libraries() -> Option<String> {
    let dir = peers()?.join("usr/lib");
    Some(format!("{0}/freeradius:{0}/{1}-linux-gnu", dir.display(), std::env::consts::ARCH))
}

/// What a server that ends at once says when it is started again.
pub(crate) fn complaint(command: &mut Command) -> String {
    let said = command.stdout(Stdio::piped()).stderr(Stdio::piped()).output();
    said.map_or_else(
        |error| error.to_string(),
        |said| format!("{}{}", String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr)),
    )
}
