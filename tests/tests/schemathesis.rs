//! The API beside its document: schemathesis asks what the document allows, and what it does not.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use boot_tests::place::{Place, known};
use boot_tests::settings::Settings;

/// For one run.
const WITHIN: Duration = Duration::from_secs(200);

/// A machine's text may be anything, and most of that is no MAC: what fits the document may be refused all the same.
const EXCLUDED: &str = "positive_data_acceptance";

#[test]
fn every_answer_is_one_that_the_document_allows() -> Result<()> {
    let more = "\n[api]\nlisten = \"127.0.0.1:8081\"\n".to_owned();
    let Some(place) = Place::build(&Settings { more, ..known() })? else { return Ok(()) };
    let xpxe = place.serve()?;
    let file = place.rack.dir().join("xpxe.toml").display().to_string();
    let says = |words: &[&str]| xpxe.command(&[words, &["--config", &file]].concat());
    let token = says(&["tokens", "add", "tester", "--role", "admin"])?;
    says(&["machines", "add", "--name", "carol", "--mac", "02:77:00:00:00:e9"])?;

    let packages = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/schemathesis");
    let packages = packages.canonicalize().context("schemathesis is not there: cargo xtask setup")?;
    let run = |more: &[&str], config: &str| -> Result<()> {
        let settings = place.rack.dir().join("schemathesis.toml");
        fs::write(&settings, config)?;
        let mut command = place.rack.server.command("python3");
        command
            .arg(packages.join("bin/schemathesis"))
            .args(["--no-color", "--config-file"])
            .arg(settings)
            .args(["run", "http://127.0.0.1:8081/api/v1/openapi.json", "--continue-on-failure"])
            .args(["-H", &format!("Authorization: Bearer {}", token.trim())])
            .args([
                "--seed",
                "1",
                "--max-examples",
                "15",
                "--max-time",
                "40",
                "--generation-database",
                "none",
            ])
            .args(["--checks", "all", "--exclude-checks", EXCLUDED, "--request-timeout", "20"])
            // Those two go on until the client leaves.
            .args(["--exclude-path", "/api/v1/events", "--exclude-path", "/api/v1/boots/{which}/capture"])
            .args(more)
            .env("PYTHONPATH", &packages)
            .current_dir(place.rack.dir());
        let process = place.rack.server.spawn(command)?;
        let status = process.wait(WITHIN)?;
        let said: String = process.lines().into_iter().map(|line| line.text + "\n").collect();
        println!("{said}");
        ensure!(status.success(), "schemathesis says: {said}");
        let passed =
            said.lines().find_map(|line| line.trim().split_once(" generated, ")?.0.parse::<u32>().ok());
        ensure!(passed.is_some_and(|passed| passed > 200), "{said}");
        Ok(())
    };
    // With it the list goes on until the client leaves, too.
    let lists = "[parameters]\n\"query.watch\" = false\n";
    run(&[], lists)?;
    // The same of a machine that is there.
    let carol = format!("{lists}\"path.which\" = \"carol\"\n");
    run(&["--exclude-operation-id", "deleteMachine"], &carol)?;
    ensure!(xpxe.is_running() && !xpxe.last_lines(10_000).contains("panicked"), "{}", xpxe.last_lines(100));
    xpxe.stop()
}
