//! The code is where ARCHITECTURE.md says it is, and knows only what it may know there. Needs no root.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use boot_engine::config;
use boot_tests::source::{self, Crate};

/// Where code lives.
const PLACES: [&str; 6] = ["boot-common", "boot-ebpf", "boot-userspace", "tests", "bench", "xtask"];
/// What else the page may name.
const OTHERS: [&str; 3] = ["docs", "packaging", ".ci"];

#[test]
fn what_the_page_names_exists() -> Result<()> {
    let named = named()?;
    ensure!(named.len() > 20, "the page names only {} paths", named.len());
    let gone: Vec<&String> = named.iter().filter(|path| !root().join(path).exists()).collect();
    ensure!(gone.is_empty(), "ARCHITECTURE.md names what does not exist: {gone:?}");
    for place in PLACES {
        ensure!(root().join(place).join("Cargo.toml").is_file(), "{place} is gone");
    }
    Ok(())
}

#[test]
fn the_page_names_every_file_of_the_shared_and_the_kernel_half() -> Result<()> {
    let named = named()?;
    let mut unnamed = Vec::new();
    for place in ["boot-common/src", "boot-ebpf/src"] {
        for file in source::rust_files(&root().join(place))? {
            let file = file.strip_prefix(root())?.to_string_lossy().into_owned();
            if !named.contains(&file) {
                unnamed.push(file);
            }
        }
    }
    ensure!(unnamed.is_empty(), "ARCHITECTURE.md does not say what these are for: {unnamed:?}");
    Ok(())
}

/// Every test that docs/requirements.md names is one.
#[test]
fn the_requirements_are_shown_by_tests_that_exist() -> Result<()> {
    let page = fs::read_to_string(root().join("docs/requirements.md"))?;
    let mut tests = BTreeSet::new();
    for place in PLACES {
        for file in source::all_rust_files(&root().join(place))? {
            let text = fs::read_to_string(file)?;
            let after_fn = text.split("fn ").skip(1).filter_map(|rest| rest.split('(').next());
            tests.extend(after_fn.map(str::to_owned));
        }
    }
    let named = page.split('`').skip(1).step_by(2).filter(|name| name.len() > 20 && !name.contains('/'));
    let named: Vec<&str> = named.collect();
    ensure!(named.len() > 60, "the page names only {} tests", named.len());
    let gone: Vec<&&str> = named.iter().filter(|name| !tests.contains(**name)).collect();
    ensure!(gone.is_empty(), "docs/requirements.md names tests that do not exist: {gone:?}");
    Ok(())
}

/// The compiler keeps the engine pure as long as it is built without these.
#[test]
fn the_engine_is_built_without_the_libraries_of_the_daemon() -> Result<()> {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "-p", "boot-engine", "-e", "normal", "--prefix", "none"])
        .current_dir(root())
        .output()?;
    ensure!(tree.status.success(), "cargo tree: {}", String::from_utf8_lossy(&tree.stderr));
    let tree = String::from_utf8(tree.stdout)?;
    let crates: BTreeSet<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    ensure!(crates.contains("boot-common"), "{tree}");
    let of_the_daemon = ["tokio", "aya", "axum", "hyper", "sqlx", "nix", "rustix"];
    let found: Vec<_> = of_the_daemon.iter().filter(|name| crates.contains(**name)).collect();
    ensure!(found.is_empty(), "boot-engine is built with {found:?}");
    Ok(())
}

/// What each folder of the daemon may import of the others. A folder that is not in the list fails the test.
const DAEMON: [(&str, &[&str]); 10] = [
    ("host", &[]),
    ("store", &["host"]),
    ("files", &["host"]),
    ("fastpath", &["host"]),
    ("images", &["host"]),
    ("power", &["host"]),
    ("io", &["host", "files", "fastpath"]),
    ("http", &["host", "files", "images", "daemon/request"]),
    ("daemon", &["host", "store", "files", "images", "power", "fastpath", "io", "http"]),
    ("cli", &["host", "store", "files", "images", "power", "fastpath", "io", "http", "daemon"]),
];

#[test]
fn each_folder_of_the_daemon_imports_only_what_it_may() -> Result<()> {
    let src = root().join("boot-userspace/src");
    let daemon = Crate::read(&src)?;
    let inside = |file: &Path| file.strip_prefix(&src).unwrap_or(file).to_string_lossy().into_owned();
    let mut wrong = Vec::new();
    for (file, imports) in &daemon.imports {
        let file = inside(file);
        // main.rs and lib.rs only name the folders.
        let Some((folder, _)) = file.split_once('/') else { continue };
        let Some((_, may)) = DAEMON.iter().find(|(name, _)| *name == folder) else {
            wrong.push(format!("{file}: {folder}/ is not in the list of folders"));
            continue;
        };
        for target in imports.iter().map(|target| inside(target)) {
            let is_below =
                |place: &&str| target.strip_prefix(*place).is_some_and(|rest| rest.starts_with(['/', '.']));
            if !is_below(&folder) && !may.iter().any(is_below) {
                wrong.push(format!("{file} imports {target}: {folder}/ may import only {may:?}"));
            }
        }
    }
    ensure!(daemon.imports.len() > 50, "only {} files import anything", daemon.imports.len());
    ensure!(wrong.is_empty(), "{wrong:#?}");
    Ok(())
}

#[test]
fn the_configuration_knows_nothing_of_the_engine() -> Result<()> {
    let src = root().join("boot-userspace/engine/src");
    let engine = Crate::read(&src)?;
    let config = src.join("config");
    let out = |target: &&PathBuf| !target.starts_with(&config);
    let wrong: Vec<_> = engine
        .imports
        .iter()
        .filter(|(file, _)| file.starts_with(&config))
        .flat_map(|(file, imports)| imports.iter().filter(out).map(move |target| (file, target)))
        .collect();
    ensure!(wrong.is_empty(), "{wrong:#?}");
    Ok(())
}

#[test]
fn no_files_import_each_other_in_a_circle() -> Result<()> {
    let mut circles = Vec::new();
    for place in PLACES.iter().chain(&[
        "boot-userspace/engine",
        "boot-userspace/agent",
        "boot-userspace/agent/protocol",
        "bench/ebpf",
    ]) {
        let all = Crate::read(&root().join(place).join("src"))?;
        ensure!(!all.modules.is_empty(), "no code in {place}");
        circles.extend(all.circles());
    }
    ensure!(circles.is_empty(), "{circles:#?}");
    Ok(())
}

#[test]
fn the_engine_has_no_io_and_no_clock() -> Result<()> {
    let words =
        ["tokio", "aya", "axum", "sqlx", "std::fs", "std::net::UdpSocket", "Instant::now", "SystemTime::now"];
    none_in("boot-userspace/engine/src", &words, &[])
}

#[test]
fn only_the_fast_path_knows_aya() -> Result<()> {
    none_in("boot-userspace/src", &["aya"], &["boot-userspace/src/fastpath"])
}

/// What happens is an event; its line is written by the log.
#[test]
fn only_the_log_makes_text_of_a_step() -> Result<()> {
    let log = ["boot-userspace/src/daemon/log", "boot-userspace/src/daemon/limit.rs"];
    none_in("boot-userspace", &["step = \"", "name: STEP"], &log)
}

#[test]
fn the_clock_is_read_in_one_place() -> Result<()> {
    none_in(
        "boot-userspace/src",
        &["SystemTime::now", "clock_gettime"],
        &["boot-userspace/src/host/clock.rs"],
    )
}

#[test]
fn what_the_kernel_runs_neither_allocates_nor_formats() -> Result<()> {
    let words = ["Vec", "String", "Box", "format!", "println!", "panic!", "unwrap()", "expect("];
    for file in [
        "answer",
        "class",
        "classify",
        "decide",
        "facts",
        "respond",
        "tables",
        "wire/bootp",
        "wire/ip",
        "wire/checksum",
    ] {
        none_in(&format!("boot-common/src/{file}.rs"), &words, &[])?;
    }
    Ok(())
}

#[test]
fn the_packaged_configuration_is_right() -> Result<()> {
    let text = fs::read_to_string(root().join("packaging/xpxe.toml"))?;
    let config = config::parse(&text, "packaging/xpxe.toml")?;
    ensure!(config.machines.len() == 1 && config.subnets.len() == 1 && config.profiles.len() == 1);
    Ok(())
}

/// Lines of a file that is read in one sitting. A longer one says why in its first line: `//! Long: …`.
const LONGEST: usize = 500;
/// Half of the files have fewer lines than this.
const MEDIAN: usize = 150;

#[test]
fn no_file_is_long_without_a_reason_and_most_are_short() -> Result<()> {
    let mut lengths = Vec::new();
    let mut long = Vec::new();
    for place in PLACES {
        for file in source::all_rust_files(&root().join(place))? {
            let text = fs::read_to_string(&file)?;
            let lines = text.lines().count();
            lengths.push(lines);
            if lines > LONGEST && !text.starts_with("//! Long: ") {
                long.push(format!("{}: {lines} lines", file.strip_prefix(root())?.display()));
            }
        }
    }
    lengths.sort_unstable();
    let median = lengths.get(lengths.len() / 2).copied().unwrap_or_default();
    ensure!(lengths.len() > 300, "only {} files were found", lengths.len());
    ensure!(long.is_empty(), "split these, or say in their first line why not (//! Long: …): {long:#?}");
    ensure!(median < MEDIAN, "half of the files have {median} lines or more");
    Ok(())
}

#[test]
fn words_are_found_as_words() {
    assert!(!says("let aya_log = 1;", "aya") && says("use aya::Ebpf;", "aya"));
    assert!(says("x.unwrap();", "unwrap()") && !says("x.try_unwrap();", "unwrap()"));
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Every path into one of the places that the page has in backticks or as a link.
fn named() -> Result<BTreeSet<String>> {
    let page = fs::read_to_string(root().join("ARCHITECTURE.md")).context("ARCHITECTURE.md")?;
    let quoted = page.split('`').skip(1).step_by(2);
    let linked = page.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target);
    let places = || PLACES.iter().chain(&OTHERS);
    let is_path = |text: &&str| {
        !text.contains(char::is_whitespace)
            && text.split_once('/').is_some_and(|(first, _)| places().any(|place| *place == first))
    };
    Ok(quoted.chain(linked).filter(is_path).map(|path| path.trim_end_matches('/').to_owned()).collect())
}

/// Fails when code below `place`, but not below one of `except`, has one of `words` in it.
fn none_in(place: &str, words: &[&str], except: &[&str]) -> Result<()> {
    let mut found = Vec::new();
    let files = source::rust_files(&root().join(place))?;
    ensure!(!files.is_empty(), "no code in {place}");
    for file in files {
        let name = file.strip_prefix(root())?.to_string_lossy().into_owned();
        if except.iter().any(|place| name.starts_with(place)) {
            continue;
        }
        for line in source::code(&fs::read_to_string(&file)?) {
            for word in words.iter().filter(|word| says(&line, word)) {
                found.push(format!("{name}: {word} in {}", line.trim()));
            }
        }
    }
    ensure!(found.is_empty(), "{found:#?}");
    Ok(())
}

/// Whether the word is in the line, as a word.
fn says(line: &str, word: &str) -> bool {
    let joins = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let ends_open = word.ends_with(joins) && line[at + word.len()..].starts_with(joins);
        !line[..at].ends_with(joins) && !ends_open
    })
}
