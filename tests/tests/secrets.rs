//! Secrets of every kind, looked for in everything that xpxe says, shows and keeps, and in what a crash leaves.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use boot_tests::daemon::binary;
use boot_tests::netns::Process;
use boot_tests::place::{ALICE, Place, SOON, known};
use boot_tests::receiver::Receiver;
use boot_tests::s3::{self, ACCESS_KEY};
use boot_tests::settings::Settings;
use boot_tests::wait::eventually;
use nix::sys::signal::Signal;
use serde_json::Value;

/// A secret in all the ways in which it could be written.
struct Secret {
    kind: &'static str,
    ways: Vec<String>,
}

impl Secret {
    fn new(kind: &'static str, bytes: &[u8]) -> Self {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        // As a number of Debug: [1, 2, 3]
        let listed = bytes.iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
        let ways = [chars(bytes), chars(&base64(bytes)), hex.to_uppercase(), hex, listed];
        Self { kind, ways: ways.into() }
    }

    fn is_in(&self, text: &str) -> bool {
        self.ways.iter().any(|way| text.contains(way))
    }
}

/// A character for each byte.
fn chars(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

/// Without what stands at the end, which depends on what follows.
fn base64(bytes: &[u8]) -> Vec<u8> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let groups = bytes.chunks_exact(3).flat_map(|group| {
        let number = group.iter().fold(0_usize, |number, byte| number << 8 | usize::from(*byte));
        [18, 12, 6, 0].map(|shift| DIGITS[number >> shift & 63])
    });
    groups.collect()
}

/// What was said, and by what.
type Said = Vec<(String, String)>;

fn private(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text)?;
    Ok(fs::set_permissions(path, Permissions::from_mode(0o600))?)
}

/// Every file below a directory, but for those that are secret themselves.
fn files(dir: &Path, but: &[&str], said: &mut Said) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            files(&path, but, said)?;
        } else if path.is_file() && !but.contains(&name.as_str()) {
            said.push((path.display().to_string(), chars(&fs::read(&path)?)));
        }
    }
    Ok(())
}

fn start(place: &Place) -> Result<Process> {
    let dir = place.rack.dir();
    let file = dir.join("xpxe.toml");
    fs::write(&file, &place.config)?;
    let mut command = place.rack.server.command("prlimit");
    command
        .arg("--core=unlimited")
        .arg(binary()?)
        .args(["serve", "--log-format", "json", "--config"])
        .arg(&file);
    command.env("RUST_LOG", "trace").current_dir(dir);
    let xpxe = place.rack.server.spawn(command)?;
    xpxe.wait_for_line("\"message\":\"ready\"", SOON)?;
    Ok(xpxe)
}

#[test]
fn no_secret_is_in_what_xpxe_says_shows_keeps_or_leaves_when_it_crashes() -> Result<()> {
    let more = "\n[api]\nlisten = \"127.0.0.1:8081\"\n".to_owned();
    let Some(mut place) = Place::build(&Settings { more, fast_path: "off", ..known() })? else {
        return Ok(());
    };
    let dir = place.rack.dir().to_owned();
    let at = |name: &str| dir.join(name);
    let (stored, in_file, webhook, url, s3_key, document) = (
        "bmc-password-of-the-store",
        "bmc-password-of-a-file",
        "webhook-secret-of-a-file",
        "webhook-password-of-a-url",
        "s3-secret-key-of-a-file",
        "content-of-a-secret-document",
    );
    private(&at("stored"), stored)?;
    private(&at("bmc-password"), in_file)?;
    private(&at("webhook-secret"), webhook)?;
    fs::write(at("user-data"), format!("#cloud-config\npassword: {document}\n"))?;
    let lifecycle = "[default]\nprofile = \"guest\"\n";
    place.config = place
        .config
        .replace(lifecycle, &format!("{lifecycle}unknown = \"discover\"\n\n[lifecycle]\nwipe = false\n"))
        .replace("[http]\n", "[http]\nsigned_links = true\n")
        .replace(
            "args = \"console=ttyS0\"",
            "args = \"ds=nocloud;s={{ documents }} xpxe.agent={{ agent }}\"\n\
             documents = { user-data = { file = \"user-data\", secret = true } }",
        );
    place.config += &format!(
        "\n[bmc]\nuser = \"admin\"\npassword_file = {:?}\n\n[[webhook]]\nname = \"chat\"\n\
         url = \"http://me:{url}@127.0.0.1:9001/x\"\nsecret_file = {:?}\nevents = [\"state\", \"power\"]\ntries = 1\n",
        at("bmc-password"),
        at("webhook-secret")
    );
    place.config += &s3::upstream(&place.rack, ACCESS_KEY, s3_key)?;
    let receiver = Receiver::start(&place.rack.server, 9001)?;
    receiver.answer_always("/x", 500);
    let xpxe = start(&place)?;
    let mut said = Said::new();
    let (program, file) = (binary()?.display().to_string(), at("xpxe.toml").display().to_string());
    let mut run = |words: &str| -> Result<String> {
        let words: Vec<&str> = words.split(' ').chain(["--config", &file]).collect();
        let output = place.rack.server.command(&program).args(&words).output()?;
        let whole = [&output.stdout[..], &output.stderr].concat();
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        // What makes a token shows it, once.
        if words[0] != "tokens" || words[1] != "add" {
            said.push((format!("xpxe {}", words.join(" ")), chars(&whole)));
        }
        Ok(text)
    };

    let token = run("tokens add tester --role admin")?;
    let password = at("stored").display().to_string();
    for (name, more) in [("carol", format!(" --bmc-password-file {password}")), ("dave", String::new())] {
        let mac = if name == "carol" { "e9" } else { "ea" };
        run(&format!(
            "machines add --name {name} --mac 02:77:00:00:00:{mac} --bmc-address 127.0.0.1:1{more}"
        ))?;
        run(&format!("machines accept {name}"))?;
        run(&format!("machines power status {name}"))?;
        run(&format!("machines show {name} --json"))?;
    }
    let alice = place.rack.neighbour("alice", ALICE.mac, &format!("{}/24", ALICE.address.context("one")?))?;
    let get = |path: &str| {
        alice.output("curl", &["-sS", "--max-time", "20", &format!("http://10.77.0.1:8080/{path}")])
    };
    let script = get(&format!("ipxe/boot.ipxe?mac={}", ALICE.mac))?;
    let seed = script.split("s=http").nth(1).with_context(|| format!("no seed in {script}"))?;
    let seed = seed.split([' ', '\'', '\n']).next().unwrap_or_default();
    let path = seed.split(":8080/").nth(1).with_context(|| format!("no path in {seed}"))?;
    let boot_token = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    ensure!(boot_token.len() > 16, "{path} ends with no token");
    ensure!(get(&format!("{path}user-data"))?.contains(document), "alice has got it");
    get(&format!("{path}user-data"))?;
    get(&format!("agent/{}/{boot_token}/task", ALICE.mac.replace(':', "-")))?;
    run("images add initrd s3://boot/initrd")?;
    eventually(SOON, "a dead letter", || {
        xpxe.lines().iter().any(|line| line.text.contains("is a dead letter now"))
    })?;

    let words = "status|explain alice|why alice|why --all|boots list|boots show alice|machines list --json|machines export --format \
                 json|machines export --format csv|machines export --format omni|leases list|tokens list|webhooks list|webhooks \
                 list --json|images list|check|reload";
    for words in words.split('|') {
        run(&words.split_whitespace().collect::<Vec<_>>().join(" "))?;
    }
    let header = format!("Authorization: Bearer {token}");
    let api = |path: &str| {
        place.rack.server.output("curl", &["-sS", "-H", &header, &format!("http://127.0.0.1:8081{path}")])
    };
    let list: Value = serde_json::from_str(&api("/api/v1/openapi.json")?)?;
    let paths = list["paths"].as_object().context("paths")?;
    let paths = paths.iter().filter(|(path, item)| item["get"].is_object() && !path.ends_with("/events"));
    let mut paths: Vec<String> = paths.map(|(path, _)| path.clone()).collect();
    ensure!(paths.len() > 8, "{paths:?}");
    paths.extend(["/metrics".to_owned(), "/api/v1/openapi.json".to_owned()]);
    for path in &paths {
        for which in ["alice", "carol", "dave"] {
            let path = path.replace("{which}", which);
            said.push((format!("GET {path}"), chars(api(&path)?.as_bytes())));
        }
    }
    let own = ["bmc.key", "link-key"];
    files(&at("state"), &own, &mut said)?;
    let log: Vec<String> = xpxe.lines().into_iter().map(|line| line.text).collect();
    ensure!(log.iter().any(|line| line.contains("\"TRACE\"")), "the log has everything");
    said.push(("the log".to_owned(), chars(log.join("\n").as_bytes())));

    let secrets = [
        Secret::new("password of a BMC in the store", stored.as_bytes()),
        Secret::new("password of BMCs in a file", in_file.as_bytes()),
        Secret::new("secret of a webhook", webhook.as_bytes()),
        Secret::new("password in a webhook's URL", url.as_bytes()),
        Secret::new("key of S3", s3_key.as_bytes()),
        Secret::new("secret document", document.as_bytes()),
        Secret::new("token of a boot", boot_token.as_bytes()),
        Secret::new("token of the API", token.trim_start_matches("xpxe_").as_bytes()),
        Secret::new("key of BMC passwords", &fs::read(at("state/bmc.key"))?),
        Secret::new("key of links", &fs::read(at("state/link-key"))?),
    ];
    for secret in &secrets {
        let found: Vec<&String> =
            said.iter().filter(|(_, text)| secret.is_in(text)).map(|(what, _)| what).collect();
        ensure!(found.is_empty(), "the {} is in {found:#?}", secret.kind);
    }
    // Who looks for secrets finds them where they are.
    ensure!(secrets[5].is_in(&fs::read_to_string(at("user-data"))?) && secrets[3].is_in(&place.config));

    // In memory they all are, so a crash must leave no image of it. Another program leaves one here.
    let mut other = place.rack.server.command("prlimit");
    other.args(["--core=unlimited", "sleep", "600"]).current_dir(&dir);
    let other = place.rack.server.spawn(other)?;
    eventually(SOON, "sleep", || {
        fs::read_to_string(format!("/proc/{}/comm", other.pid())).is_ok_and(|name| name == "sleep\n")
    })?;
    other.signal(Signal::SIGABRT)?;
    let leaves_core = other.wait(SOON)?.core_dumped();
    ensure!(leaves_core, "this host writes no cores, so nobody sees whether xpxe leaves one");
    xpxe.signal(Signal::SIGABRT)?;
    let ended = xpxe.wait(SOON)?;
    ensure!(ended.signal() == Some(6) && !ended.core_dumped(), "{ended:?}");
    Ok(())
}
