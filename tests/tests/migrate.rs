//! The pages in docs/migrate say what works. Needs no root.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use boot_engine::config;

#[test]
fn the_configurations_on_the_pages_are_accepted() -> Result<()> {
    let dir = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/migrate"));
    let mut pages = 0;
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let page = fs::read_to_string(&path)?;
        let blocks: Vec<&str> = page
            .split("```toml\n")
            .skip(1)
            .filter_map(|rest| rest.split_once("```"))
            .map(|(toml, _)| toml)
            .collect();
        // That page has commands only.
        let is_import = path.ends_with("import.md");
        ensure!(is_import || !blocks.is_empty(), "{} has no configuration", path.display());
        for toml in blocks {
            let config = config::parse(toml, "the page").with_context(|| path.display().to_string())?;
            ensure!(config.http.fronts.len() == 1, "{} names no front", path.display());
        }
        pages += 1;
    }
    ensure!(pages == 7, "{pages} pages");
    Ok(())
}
