//! The pages in docs/migrate say what works: their configurations are accepted, and their requests are answered.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use boot_engine::config;
use boot_tests::daemon::Xpxe;
use boot_tests::place::Place;
use boot_tests::settings::{Settings, pin_dir};

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

/// The server of the pages, and who asks it: the machine itself, a reader of all machines, pixiecore's host.
const SERVER: &str = "10.1.0.2";
const MACHINE: &str = "10.1.0.21";
const READER: &str = "10.1.0.5";
const PIXIECORE: &str = "10.1.0.7";

/// Each request with curl that a page shows is made of a daemon with the page's configuration.
#[test]
fn the_requests_on_the_pages_are_answered() -> Result<()> {
    let Some(place) = Place::build(&Settings::default())? else { return Ok(()) };
    let server = &place.rack.server;
    let machine = place.rack.neighbour("machine", "52:54:00:00:00:01", "10.77.0.21/24")?;
    machine.output("ip", &["address", "add", &format!("{MACHINE}/16"), "dev", "eth0"])?;
    for address in [SERVER, READER, PIXIECORE] {
        server.output("ip", &["address", "add", &format!("{address}/16"), "dev", "eth0"])?;
    }
    for (page, client, requests) in [
        ("booter", MACHINE, 1),
        ("bss", READER, 5),
        ("matchbox", MACHINE, 2),
        ("pixiecore", PIXIECORE, 1),
        ("sidero-metal", MACHINE, 2),
        ("tinkerbell", MACHINE, 2),
    ] {
        let text = fs::read_to_string(root().join("docs/migrate").join(page).with_extension("md"))?;
        let toml = text.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next());
        let config = on_the_rack(&place, page, toml.context("a configuration")?)?;
        let xpxe = Xpxe::start(&place.rack, &config, &[])?;
        let mut asked = 0;
        for request in text.lines().filter_map(|line| request(line)) {
            let request =
                request.replace("SERVER", SERVER).replace("UUID", "4c4c4544-0042-3510-8052-b4c04f4e3132");
            let from = if client == MACHINE { &*machine } else { server };
            let command = format!("curl -fsS --interface {client} {request}");
            let answer = from.output("sh", &["-c", &command]);
            let answer = answer.with_context(|| format!("{page}: {request}\n{}", xpxe.last_lines(3)))?;
            // What is written, or goes elsewhere, has no answer.
            let is_silent = request.contains("-X ") || request.contains("/dev/null");
            ensure!(is_silent || !answer.is_empty(), "{page}: {request} has an empty answer");
            asked += 1;
        }
        ensure!(asked == requests, "{page}: {asked} requests, not {requests}");
        xpxe.stop()?;
    }
    Ok(())
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// What is behind curl in a line that asks the server of the page, up to a comment, a pipe or the end of code in a text.
fn request(line: &str) -> Option<&str> {
    let command = line.split("curl ").nth(1)?;
    let asks = ["http://SERVER", "http://10.1.0.2"].iter().any(|server| command.contains(server));
    let ends = [" #", "  ", " | ", "`"];
    let end = ends.iter().filter_map(|end| command.find(end)).min().unwrap_or(command.len());
    command.get(..end).filter(|_| asks)
}

/// The configuration of a page with the directories and the interface of the rack, and the files that it names.
fn on_the_rack(place: &Place, page: &str, toml: &str) -> Result<String> {
    let dir = place.rack.dir().join(page);
    let (state_dir, boot_dir) = (dir.join("state"), dir.join("boot"));
    for file in toml.split('"').filter(|text| text.contains('/') && !text.contains([' ', ':'])) {
        if !file.starts_with("10.") {
            let path = boot_dir.join(file);
            fs::create_dir_all(path.parent().context("a directory")?)?;
            fs::write(path, "a kernel or an initrd")?;
        }
    }
    fs::create_dir_all(&boot_dir)?;
    let toml = toml.replace("name = \"eth1\"", "name = \"eth0\"\nfast_path = \"off\"");
    let pin_dir = pin_dir(&place.sandbox);
    Ok(format!("state_dir = {state_dir:?}\nboot_dir = {boot_dir:?}\npin_dir = {pin_dir:?}\n{toml}"))
}
