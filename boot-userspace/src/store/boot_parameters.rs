//! `boot-parameters.json`: the boot parameters that were written while xpxe runs. Each change writes the file anew under another
//! name, and puts it in its place when it is on the disk: after a crash there is the old one or the new one, whole.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use boot_engine::boot::parameters::Table;

use crate::host::regular;
use crate::host::replace::{PRIVATE, replace};

const FILE: &str = "boot-parameters.json";

/// Why what was written cannot be read.
#[derive(Debug, thiserror::Error)]
#[error(
    "the boot parameters in {path} cannot be read: {why}; put a copy of the file in its place, or delete it and have the \
     parameters written again", path = .path.display()
)]
pub struct Unreadable {
    path: PathBuf,
    why: String,
}

/// What was written before. Nothing, where there is no file.
///
/// # Errors
/// The file cannot be read.
pub fn read(state_dir: &Path) -> Result<Table, Unreadable> {
    let path = state_dir.join(FILE);
    let bytes = match regular::read(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Table::default()),
        Err(error) => return Err(Unreadable { path, why: error.to_string() }),
        Ok(bytes) => bytes,
    };
    let kept = serde_json::from_slice(&bytes).map_err(|error| error.to_string());
    let table = kept.and_then(|kept| Table::read(kept).map_err(|wrong| wrong.to_string()));
    table.map_err(|why| Unreadable { path, why })
}

/// Keeps `bytes`, the JSON of a table. When it returns they survive a power cut.
///
/// # Errors
/// They are not kept, and what was kept before is.
pub fn write(state_dir: &Path, bytes: &[u8]) -> io::Result<()> {
    replace(&state_dir.join(FILE), PRIVATE, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_file_is_replaced_whole_and_a_damaged_one_is_named() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path()).unwrap(), Table::default());
        write(dir.path(), br#"[{"hosts":["n1"],"kernel":"k"}]"#).unwrap();
        // What a crash has left while it was written.
        fs::write(dir.path().join("boot-parameters.new"), "[{").unwrap();
        assert_eq!(read(dir.path()).unwrap().named("N1").unwrap().kernel, "k");
        write(dir.path(), b"[]").unwrap();
        assert_eq!(read(dir.path()).unwrap(), Table::default());
        for damaged in ["", "[{", "{}", r#"[{"macs":["x"],"kernel":"k"}]"#] {
            fs::write(dir.path().join(FILE), damaged).unwrap();
            let said = read(dir.path()).unwrap_err().to_string();
            assert!(said.contains(FILE) && said.contains("delete it"), "{damaged}: {said}");
        }
    }
}
