//! The API over TCP: tokens, their roles, and what nobody is told without one.

use std::fs;

use anyhow::{Context, Result, ensure};
use boot_tests::certificates::{Authority, Key};
use boot_tests::daemon::Xpxe;
use boot_tests::place::{CARD, Place, known};
use boot_tests::settings::Settings;
use serde_json::Value;

fn xpxe_says(place: &Place, xpxe: &Xpxe<'_>, words: &[&str]) -> Result<String> {
    let file = place.rack.dir().join("xpxe.toml").display().to_string();
    xpxe.command(&[words, &["--config", &file]].concat())
}

/// The status and the body of an answer; `token` is what stands behind `Authorization:`.
fn ask(place: &Place, method: &str, path: &str, token: Option<&str>, body: &str) -> Result<(String, String)> {
    let url = format!("http://127.0.0.1:8081{path}");
    let header = token.map(|token| format!("Authorization: {token}"));
    let mut words = vec!["-sS", "-X", method, "-w", "\n%{http_code}", &url];
    if let Some(header) = &header {
        words.extend(["-H", header]);
    }
    if !body.is_empty() {
        words.extend(["--data", body]);
    }
    let answer = place.rack.server.output("curl", &words)?;
    let (body, status) = answer.rsplit_once('\n').context("a status")?;
    Ok((status.to_owned(), body.to_owned()))
}

#[test]
fn a_token_lets_in_as_far_as_its_role_goes_and_nothing_is_told_without_one() -> Result<()> {
    let more = "\n[api]\nlisten = \"127.0.0.1:8081\"\n".to_owned();
    let Some(place) = Place::build(&Settings { more, ..known() })? else { return Ok(()) };
    let xpxe = place.serve()?;
    let make = |name: &str, role: &str| -> Result<String> {
        Ok(xpxe_says(&place, &xpxe, &["tokens", "add", name, "--role", role])?.trim().to_owned())
    };
    let (read, operate, admin) =
        (make("reader", "read")?, make("operator", "operate")?, make("admin", "admin")?);
    xpxe_says(&place, &xpxe, &["machines", "add", "--name", "carol", "--mac", "02:77:00:00:00:e9"])?;
    let bearer = |token: &str| format!("Bearer {token}");
    let status = |method: &str, path: &str, token: &str, body: &str| -> Result<String> {
        Ok(ask(&place, method, path, Some(&bearer(token)), body)?.0)
    };

    // The same for all who are not let in, wherever they ask.
    let refused = ask(&place, "GET", "/api/v1/wall", None, "")?;
    ensure!(refused.0 == "401" && refused.1.contains("Bearer"), "{refused:?}");
    let almost = format!("{}0", &read[..read.len() - 1]);
    for token in [bearer(""), bearer("xpxe_"), bearer(&almost), read.clone(), format!("Basic {read}")] {
        for path in ["/api/v1/wall", "/api/v1/machines/carol", "/api/v1/absent", "/metrics"] {
            ensure!(ask(&place, "GET", path, Some(&token), "")? == refused, "{path} with {token}");
        }
    }
    let (get, post) = ("GET", "POST");
    let spec = r#"{"spec":{"name":"dave","mac":["02:77:00:00:00:ea"]}}"#;
    for (method, path, body, least) in [
        (get, "/api/v1/wall", "", 0),
        (get, "/api/v1/machines", "", 0),
        (get, "/api/v1/machines/carol", "", 0),
        (get, "/api/v1/why", "", 0),
        (get, "/api/v1/leases", "", 0),
        (get, "/metrics", "", 0),
        (post, "/api/v1/machines/carol/accept", "", 1),
        (post, "/api/v1/machines", spec, 2),
        ("DELETE", "/api/v1/machines/carol", "", 2),
        (post, "/api/v1/reload", "", 2),
    ] {
        for (role, token) in [&read, &operate, &admin].into_iter().enumerate() {
            let got = status(method, path, token, body)?;
            let is_refused = got == "403";
            ensure!(is_refused == (role < least), "{method} {path} as {role}: {got}");
            ensure!(
                is_refused || got.starts_with('2') || got == "409" || got == "404",
                "{method} {path} as {role}: {got}"
            );
        }
    }
    ensure!(
        xpxe_says(&place, &xpxe, &["machines", "list"])?.contains("dave"),
        "the administrator has added one"
    );
    // Whose token it was is in the history.
    ensure!(status(post, "/api/v1/machines/dave/accept", &operate, "")? == "200");
    let shown: Value =
        serde_json::from_str(&xpxe_says(&place, &xpxe, &["machines", "show", "dave", "--json"])?)?;
    let history = shown["status"]["history"].as_array().context("a history")?;
    ensure!(history.iter().any(|past| past["by"] == "operator operator"), "{shown}");
    // Tokens are made on the server only.
    for (method, path) in
        [(get, "/api/v1/tokens"), (post, "/api/v1/tokens"), ("DELETE", "/api/v1/tokens/reader")]
    {
        let got = status(method, path, &admin, "")?;
        ensure!(got == "404", "{method} {path}: {got}");
    }

    // It ends at once, and whoever restarts xpxe does not bring it back.
    xpxe_says(&place, &xpxe, &["tokens", "revoke", "operator"])?;
    ensure!(
        status(get, "/api/v1/wall", &operate, "")? == "401"
            && status(get, "/api/v1/wall", &read, "")? == "200"
    );
    let mut xpxe = xpxe;
    xpxe.restart()?;
    let status =
        |token: &str| -> Result<String> { Ok(ask(&place, get, "/api/v1/wall", Some(&bearer(token)), "")?.0) };
    ensure!(status(&operate)? == "401" && status(&read)? == "200");
    let listed: Value = serde_json::from_str(&xpxe_says(&place, &xpxe, &["tokens", "list", "--json"])?)?;
    ensure!(listed.as_array().context("a list")?.len() == 2 && listed[0]["is_expired"] == false, "{listed}");

    // No log, answer or file has one.
    let log: String = xpxe.log().iter().map(|event| format!("{event:?}\n")).collect();
    ensure!(log.contains("refused"), "that somebody was refused is in the log: {log}");
    let file = fs::read_to_string(place.rack.dir().join("state/tokens.json"))?;
    for token in [&read, &operate, &admin] {
        let secret = token.strip_prefix("xpxe_").context("the mark")?;
        for text in [&log, &file, &listed.to_string()] {
            ensure!(!text.contains(secret), "a token is in {text}");
        }
    }
    xpxe.stop()
}

#[test]
fn over_the_network_the_api_is_encrypted() -> Result<()> {
    let Some(mut place) = Place::build(&known())? else { return Ok(()) };
    let dir = place.rack.dir().join("certificates");
    fs::create_dir_all(&dir)?;
    let authority = Authority::new(&dir)?;
    let pair = authority.issue("server", "IP:10.77.0.1", Key::Rsa)?;
    place.config += &format!(
        "\n[api]\nlisten = \"10.77.0.1:8443\"\ncertificate = {:?}\nkey = {:?}\n",
        pair.certificate, pair.key
    );
    let xpxe = place.serve()?;
    let token = xpxe_says(&place, &xpxe, &["tokens", "add", "reader"])?;
    let station = place.rack.client("desk", CARD)?;
    station.output("ip", &["address", "add", "10.77.0.200/24", "dev", "eth0"])?;
    let (ca, header) =
        (authority.certificate().display().to_string(), format!("Authorization: Bearer {}", token.trim()));
    let wall = station
        .output("curl", &["-sSf", "--cacert", &ca, "-H", &header, "https://10.77.0.1:8443/api/v1/wall"])?;
    let wall: Value = serde_json::from_str(&wall)?;
    ensure!(wall["machines"].as_array().is_some_and(|machines| machines.len() == 2), "{wall}");
    let page = station.output("curl", &["-sSfi", "--cacert", &ca, "https://10.77.0.1:8443/ui/"])?;
    ensure!(page.contains("default-src 'none'") && page.contains("<title>xpxe</title>"), "{page}");
    // Machines find neither where they boot from.
    for path in ["api/v1/wall", "ui/"] {
        let status = station.output(
            "curl",
            &["-s", "-o", "/dev/null", "-w", "%{http_code}", &format!("http://10.77.0.1:8080/{path}")],
        )?;
        ensure!(status == "404", "{path} on the port of HTTP: {status}");
    }
    xpxe.stop()
}

#[test]
fn events_come_as_server_sent_events_to_who_asks_for_those() -> Result<()> {
    let more = "\n[api]\nlisten = \"127.0.0.1:8081\"\npublic_read = true\n".to_owned();
    let Some(place) = Place::build(&Settings { more, ..known() })? else { return Ok(()) };
    let xpxe = place.serve()?;
    let client = place.client()?;
    let mut curl = place.rack.server.command("curl");
    curl.args(["-sSN", "-i", "-H", "Accept: text/event-stream", "http://127.0.0.1:8081/api/v1/events"]);
    let curl = place.rack.server.spawn(curl)?;
    let soon = boot_tests::place::SOON;
    curl.wait_for_line("text/event-stream", soon)?;
    client.discover(&boot_tests::dhcp_client::Client::firmware(client.mac(), 7))?;
    let line = curl.wait_for_line("data: {", soon)?;
    let event: Value = serde_json::from_str(line.text.strip_prefix("data: ").context("an event")?)?;
    ensure!(event["progress"] == "address" && event["step"] == "offer", "{event}");
    xpxe.stop()
}
