//! What the command line says to a person; nothing here needs root.

use std::fs;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, ensure};
use boot_tests::daemon::binary;

fn xpxe(arguments: &[&str]) -> Result<Output> {
    let binary = binary()?;
    Command::new(&binary).args(arguments).output().with_context(|| format!("run {}", binary.display()))
}

/// Five mistakes of five kinds, each with the line it is on.
const FIVE_MISTAKES: &str = r#"
[http]
listen = "everywhere"

[[interface]]
name = "eth1"
dhcp = "yes"
fastpath = "auto"

[[subnet]]
cidr = "10.1.0.0/16"
pool = ["10.2.0.1-10.2.0.9"]

[[profile]]
name = "talos"
kernel = "vmlinuz"

[[machine]]
mac = "52:54:00:00:00"
profile = "talos"
"#;

#[test]
fn check_shows_every_mistake_with_its_line_and_key_and_ends_with_1() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("xpxe.toml");
    fs::write(&file, FIVE_MISTAKES)?;
    let file = file.display().to_string();
    let output = xpxe(&["check", "--config", &file])?;
    let text = String::from_utf8(output.stdout)?;
    ensure!(output.status.code() == Some(1), "{}: {text}", output.status);
    let wanted = [
        (3, "http.listen", "everywhere"),
        (7, "interface[0].dhcp", "proxy"),
        (8, "interface[0].fastpath", "fast_path"),
        (12, "subnet[0].pool[0]", "10.1.0.0/16"),
        (19, "machine[0].mac", "52:54:00:00:00"),
    ];
    let lines: Vec<_> = text.lines().collect();
    ensure!(lines.len() == wanted.len(), "not five lines:\n{text}");
    for (line, (number, key, word)) in lines.iter().zip(wanted) {
        ensure!(line.starts_with(&format!("{file}:{number}: {key}: ")), "not {key} on line {number}: {line}");
        ensure!(line.contains(word), "no {word:?} in: {line}");
    }
    Ok(())
}

#[test]
fn serve_shows_the_same_mistakes_and_does_not_start() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("xpxe.toml");
    fs::write(&file, FIVE_MISTAKES)?;
    let file = file.display().to_string();
    let checked = String::from_utf8(xpxe(&["check", "--config", &file])?.stdout)?;
    let output = xpxe(&["serve", "--config", &file])?;
    let said = String::from_utf8(output.stderr)?;
    ensure!(output.status.code() == Some(1), "{}: {said}", output.status);
    ensure!(said.contains(checked.trim_end()), "serve says\n{said}\nand check\n{checked}");
    Ok(())
}

#[test]
fn check_calls_the_packaged_example_fine() -> Result<()> {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/xpxe.toml");
    let output = xpxe(&["check", "--no-files", "--config", example])?;
    let text = String::from_utf8(output.stdout)?;
    ensure!(output.status.success() && text.contains(": fine ("), "{}: {text}", output.status);
    Ok(())
}

#[test]
fn check_looks_at_boot_files_and_ends_with_1_where_one_that_is_named_is_wrong() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let boot = dir.path().join("boot");
    fs::create_dir(&boot)?;
    let file = dir.path().join("xpxe.toml");
    let text =
        "[[interface]]\nname = \"eth1\"\ndhcp = \"proxy\"\n[[profile]]\nname = \"p\"\nkernel = \"vmlinuz\"\n";
    fs::write(&file, format!("boot_dir = {boot:?}\n{text}"))?;
    let check = || -> Result<(Option<i32>, String)> {
        let output = xpxe(&["check", "--config", &file.display().to_string()])?;
        Ok((output.status.code(), String::from_utf8(output.stdout)?))
    };
    // Nobody named this one.
    fs::write(boot.join("custom.efi"), "<html>")?;
    let (code, text) = check()?;
    ensure!(code == Some(1) && text.contains("error: vmlinuz (kernel of profile p): no such file"), "{text}");
    ensure!(
        text.contains("warning: custom.efi (") && text.contains("): it is an HTML or XML page"),
        "{text}"
    );
    fs::write(boot.join("vmlinuz"), "")?;
    let (code, text) = check()?;
    ensure!(code == Some(1) && text.contains("error: vmlinuz (kernel of profile p): it is empty"), "{text}");
    fs::write(boot.join("vmlinuz"), [b"MZ".as_slice(), &[0; 0x200], b"HdrS"].concat())?;
    let (code, text) = check()?;
    ensure!(code == Some(0) && text.contains("vmlinuz is a Linux kernel (x86)"), "{code:?}: {text}");
    // Nobody named this one either, and yet machines get it.
    fs::write(boot.join("snponly.efi"), "<html>")?;
    let (code, text) = check()?;
    ensure!(code == Some(1) && text.contains("error: snponly.efi ("), "{code:?}: {text}");
    fs::remove_dir_all(&boot)?;
    let (code, text) = check()?;
    ensure!(code == Some(1) && text.contains(&format!("error: boot_dir {}", boot.display())), "{text}");
    Ok(())
}

#[test]
fn a_file_that_is_not_there_is_named_in_one_line() -> Result<()> {
    for verb in ["check", "serve", "detach"] {
        let output = xpxe(&[verb, "--config", "/nonexistent/xpxe.toml"])?;
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8(said)?;
        ensure!(output.status.code() == Some(1), "{verb}: {}: {said}", output.status);
        ensure!(said.lines().count() == 1 && said.contains("/nonexistent/xpxe.toml"), "{verb}: {said}");
    }
    Ok(())
}

#[test]
fn a_reader_that_has_read_enough_is_no_failure() -> Result<()> {
    let binary = binary()?;
    let mut help = Command::new(&binary).arg("help").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    // Nobody reads.
    drop(help.stdout.take());
    let output = help.wait_with_output()?;
    ensure!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    let dir = tempfile::tempdir()?;
    let mut check = Command::new(&binary);
    check.args(["check", "--config"]).arg(dir.path().join("none.toml"));
    let mut check = check.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    drop(check.stdout.take());
    let output = check.wait_with_output()?;
    ensure!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
