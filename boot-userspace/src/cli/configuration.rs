//! The configuration file.

use std::path::Path;

use boot_engine::config::{self, Config, Problems};

/// Reads and checks the file at `path`.
///
/// # Errors
/// All problems of the file, or the one that it cannot be read.
pub fn load(path: &Path) -> Result<Config, Problems> {
    let origin = path.display().to_string();
    match std::fs::read(path) {
        Ok(bytes) => config::parse_bytes(bytes, &origin),
        Err(error) => {
            let message =
                format!("cannot read the configuration: {error}; name another file with --config FILE");
            Err(Problems::one(&origin, None, message))
        }
    }
}
