//! The browser that shows the dashboard in tests, and axe-core, which examines the page for people who do not see it.

use std::{fs, path::Path};

use anyhow::{Context, Result};

use crate::cmd::Cmd;

/// The browser, and what fetches axe-core.
pub(super) const PACKAGES: [&str; 2] = ["chromium", "python3-pip"];

/// Debian has no axe-core; this package of PyPI has it in one file. By its digest, for a later one may complain of more.
const AXE: &str = "axe-playwright-python==0.1.8 \
     --hash=sha256:fdd263c998388f1a8e67cad02677e612d946248bd44d163be5e8650ea31f95f8\n";
/// The file in `dir`.
const SCRIPT: &str = "axe_playwright_python/axe.min.js";

pub(super) fn missing_axe(dir: &Path) -> Vec<String> {
    if dir.join(SCRIPT).exists() { Vec::new() } else { vec!["axe-core".to_owned()] }
}

pub(super) fn install_axe(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
    fs::write(dir.join("axe.txt"), AXE).with_context(|| format!("write into {}", dir.display()))?;
    let download = "python3 -m pip download --quiet --disable-pip-version-check --no-deps --require-hashes -r axe.txt --dest .";
    Cmd::line(download).dir(dir).run()?;
    for entry in fs::read_dir(dir)? {
        let wheel = entry?.path();
        if wheel.extension().is_some_and(|extension| extension == "whl") {
            Cmd::line("python3 -m zipfile -e")
                .args([wheel.to_string_lossy(), dir.to_string_lossy()])
                .run()?;
            fs::remove_file(&wheel).with_context(|| format!("remove {}", wheel.display()))?;
        }
    }
    Ok(())
}
