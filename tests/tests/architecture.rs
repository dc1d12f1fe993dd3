//! The code is where ARCHITECTURE.md says it is, and knows only what it may know there. Needs no root.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use boot_userspace::config;

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
        for file in sources(place)? {
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
        for file in rust_files(place)? {
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

#[test]
fn the_engine_has_no_io_and_no_clock() -> Result<()> {
    let words =
        ["tokio", "aya", "axum", "sqlx", "std::fs", "std::net::UdpSocket", "Instant::now", "SystemTime::now"];
    none_in("boot-userspace/src/engine", &words, &[])
}

#[test]
fn only_the_fast_path_knows_aya() -> Result<()> {
    none_in("boot-userspace/src", &["aya"], &["boot-userspace/src/fastpath"])
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

#[test]
fn comments_are_not_code() {
    let text = "//! aya\nuse std::fmt; // aya\n/// aya\nlet aya_log = 1;\n#[cfg(test)]\nmod tests {\n    use aya;\n}\n";
    assert_eq!(code(text), ["use std::fmt; ", "let aya_log = 1;"]);
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
    let files = sources(place)?;
    ensure!(!files.is_empty(), "no code in {place}");
    for file in files {
        let name = file.strip_prefix(root())?.to_string_lossy().into_owned();
        if except.iter().any(|place| name.starts_with(place)) {
            continue;
        }
        for line in code(&fs::read_to_string(&file)?) {
            for word in words.iter().filter(|word| says(&line, word)) {
                found.push(format!("{name}: {word} in {}", line.trim()));
            }
        }
    }
    ensure!(found.is_empty(), "{found:#?}");
    Ok(())
}

/// The lines before the tests, without comments.
fn code(text: &str) -> Vec<String> {
    text.lines()
        .take_while(|line| *line != "#[cfg(test)]")
        .map(|line| line.split("//").next().unwrap_or_default().to_owned())
        .filter(|line| !line.trim().is_empty())
        .collect()
}

/// Whether the word is in the line, as a word.
fn says(line: &str, word: &str) -> bool {
    let joins = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let ends_open = word.ends_with(joins) && line[at + word.len()..].starts_with(joins);
        !line[..at].ends_with(joins) && !ends_open
    })
}

/// Every Rust file in a directory and below it, or the file itself; without files of tests.
fn sources(place: &str) -> Result<Vec<PathBuf>> {
    let mut files = rust_files(place)?;
    files.retain(|path| !path.file_stem().is_some_and(|stem| stem.to_string_lossy().ends_with("tests")));
    Ok(files)
}

fn rust_files(place: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![root().join(place)];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            for entry in fs::read_dir(&path)? {
                open.push(entry?.path());
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
