//! The API over TCP: tokens, their roles, and what nobody is told without one.

use std::fs;

use anyhow::{Context, Result, ensure};
use boot_tests::certificates::{Authority, Key};
use boot_tests::daemon::Xpxe;
use boot_tests::dhcp_client::{Client, mac};
use boot_tests::place::{CARD, Place, SOON, known};
use boot_tests::settings::Settings;
use boot_tests::wait::eventually;
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
    let last = if read.ends_with('0') { '1' } else { '0' };
    let almost = format!("{}{last}", &read[..read.len() - 1]);
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

/// Whatever is wrong with a request is answered alike on TCP and on the Unix socket, and both have the document.
#[test]
fn mistakes_are_answered_as_json_on_both_ways_to_the_api() -> Result<()> {
    let more = "\n[api]\nlisten = \"127.0.0.1:8081\"\n".to_owned();
    let Some(place) = Place::build(&Settings { more, ..known() })? else { return Ok(()) };
    let xpxe = place.serve()?;
    let token =
        format!("Bearer {}", xpxe_says(&place, &xpxe, &["tokens", "add", "a", "--role", "admin"])?.trim());
    xpxe_says(&place, &xpxe, &["machines", "add", "--name", "carol", "--mac", "02:77:00:00:00:e9"])?;
    let socket = place.rack.dir().join("state/api.sock").display().to_string();
    let large = place.rack.dir().join("large");
    fs::write(&large, vec![b' '; 300 << 10])?;
    let large = format!("@{}", large.display());
    let long = format!("/api/v1/machines/carol/maintain?reason={}", "x".repeat(257));
    for (method, path, body, status, says) in [
        (
            "GET",
            "/api/v1/machines?stat=ready",
            "",
            "400",
            "write state, labels, after, limit, never_seen, watch, since",
        ),
        ("PUT", "/api/v1/machines/carol?version=1", "{}", "400", "there are none"),
        ("DELETE", "/api/v1/machines/carol?vresion=9", "", "400", "\\\"vresion\\\" here: write version"),
        ("GET", "/api/v1/openapi.json?x=1", "", "400", "there are none"),
        ("GET", "/api/v1/machines?limit=many", "", "400", "a parameter cannot be read: limit"),
        ("GET", "/api/v1/machines/%FF", "", "400", "which"),
        ("POST", "/api/v1/machines", "{", "400", "the body is not what is expected"),
        ("POST", "/api/v1/machines", large.as_str(), "413", "send less in one request"),
        ("POST", long.as_str(), "", "400", "at most 256 characters"),
        ("GET", "/api/v1/leases?state=lost", "", "400", "is no state"),
        ("GET", "/api/v1/boots?cause=bad-luck", "", "400", "is no cause"),
        ("PATCH", "/api/v1/leases", "", "405", "does not take that method"),
        ("GET", "/api/v1/absent", "", "404", "no such path"),
    ] {
        let by_tcp = ask(&place, method, path, Some(&token), body)?;
        let url = format!("http://xpxe{path}");
        let mut words = vec!["-sS", "-X", method, "-w", "\n%{http_code}", "--unix-socket", &socket, &url];
        if !body.is_empty() {
            words.extend(["--data-binary", body]);
        }
        let by_socket = place.rack.server.output("curl", &words)?;
        ensure!(
            by_socket == format!("{}\n{}", by_tcp.1, by_tcp.0),
            "{method} {path}: {by_socket} {by_tcp:?}"
        );
        let error: Value = serde_json::from_str(&by_tcp.1)?;
        ensure!(
            by_tcp.0 == status && error["error"].is_string() && by_tcp.1.contains(says),
            "{method} {path}: {by_tcp:?}"
        );
    }
    ensure!(xpxe_says(&place, &xpxe, &["machines", "list"])?.contains("carol"), "nothing was done");
    let url = "http://xpxe/api/v1/openapi.json";
    let document = place.rack.server.output("curl", &["-sSf", "--unix-socket", &socket, url])?;
    let document: Value = serde_json::from_str(&document)?;
    ensure!(document["paths"]["/api/v1/machines"]["get"].is_object(), "{document}");
    let names = ["machines", "show", "", "--json"];
    let said = xpxe_says(&place, &xpxe, &names).err().context("an empty name is none")?.to_string();
    ensure!(said.contains("the name of a machine is empty"), "{said}");
    xpxe.stop()
}

/// What can be booted, with who has it; and lists that are asked for in part.
#[test]
fn profiles_images_leases_and_boots_are_listed_as_they_are_asked_for() -> Result<()> {
    let more =
        "\n[api]\nlisten = \"127.0.0.1:8081\"\n\n[[profile]]\nname = \"later\"\ninherit = [\"guest\"]\n\
                kernel = \"image:later-kernel\"\nargs = \"later=1\"\n"
            .to_owned();
    let Some(place) = Place::build(&Settings { more, ..known() })? else { return Ok(()) };
    let xpxe = place.serve()?;
    let token = format!("Bearer {}", xpxe_says(&place, &xpxe, &["tokens", "add", "reader"])?.trim());
    let get = |path: &str| -> Result<Value> {
        let (status, body) = ask(&place, "GET", path, Some(&token), "")?;
        ensure!(status == "200", "{path}: {status} {body}");
        Ok(serde_json::from_str(&body)?)
    };
    let file = place.rack.dir().join("kernel");
    fs::write(&file, "a kernel")?;
    let file = file.display().to_string();

    let profiles = get("/api/v1/profiles")?;
    let names: Vec<&Value> = profiles.as_array().into_iter().flatten().map(|one| &one["name"]).collect();
    ensure!(names == ["guest", "later"], "{profiles}");
    ensure!(profiles[0]["is_default"] == true && profiles[0]["machines"] == 2, "{profiles}");
    let later = get("/api/v1/profiles/later")?;
    ensure!(later["inherits"][0] == "guest" && later["kernel"] == "image:later-kernel", "{later}");
    ensure!(later["args"].as_str().is_some_and(|args| args.ends_with(" later=1")), "{later}");
    ensure!(ask(&place, "GET", "/api/v1/profiles/absent", Some(&token), "")?.0 == "404");
    let table = xpxe_says(&place, &xpxe, &["profiles", "list"])?;
    ensure!(table.lines().any(|line| line.starts_with("guest ") && line.contains("default")), "{table}");
    let shown = xpxe_says(&place, &xpxe, &["profiles", "show", "later"])?;
    ensure!(shown.contains("inherits   guest"), "{shown}");

    let image = get("/api/v1/images/later-kernel")?;
    ensure!(image["state"] == "gone" && image["used_by"][0] == "kernel of profile later", "{image}");
    xpxe_says(&place, &xpxe, &["images", "add", "later-kernel", &file])?;
    let images = get("/api/v1/images")?;
    ensure!(images[0]["state"] == "here" && images[0]["size"] == 8 && images[1].is_null(), "{images}");
    ensure!(images[0]["sha256"].as_str().is_some_and(|digest| digest.len() == 64), "{images}");

    let client = place.client()?;
    for last in ["a1", "a2", "a3"] {
        let mac = mac(&format!("02:77:00:00:01:{last}"))?;
        client.lease(&Client::new(mac))?;
        client.discover(&Client::firmware(mac, 7))?;
    }
    let (mut after, mut pages) = (String::new(), Vec::new());
    loop {
        let page = get(&format!("/api/v1/leases?state=leased&limit=2{after}"))?;
        let Some(last) = page.as_array().and_then(|page| page.last()) else { break };
        after = format!("&after={}", last["address"].as_str().unwrap_or_default());
        pages.push(page.as_array().map_or(0, Vec::len));
    }
    ensure!(pages == [2, 1], "{pages:?}");
    let of_one = get("/api/v1/leases?machine=02:77:00:00:01:a2")?;
    ensure!(of_one.as_array().is_some_and(|all| all.len() == 1), "{of_one}");
    ensure!(get("/api/v1/leases?subnet=10.78.0.0/16")? == Value::Array(Vec::new()));
    let reserved = xpxe_says(&place, &xpxe, &["leases", "list", "--machine", "alice"])?;
    ensure!(reserved.lines().count() == 2, "{reserved}");

    let boots = |query: &str| -> Result<Vec<String>> {
        let boots = get(&format!("/api/v1/boots?{query}"))?;
        let macs = boots.as_array().into_iter().flatten().filter_map(|boot| boot["mac"].as_str());
        Ok(macs.map(|mac| mac[15..].to_owned()).collect())
    };
    eventually(SOON, "the boots of three machines", || boots("limit=9").is_ok_and(|boots| boots.len() == 3))?;
    ensure!(boots("limit=2")? == ["a1", "a2"] && boots("limit=2&after=02:77:00:00:01:a2")? == ["a3"]);
    ensure!(boots("machine=02:77:00:00:01:a2")? == ["a2"] && boots("since=99999999999999")?.is_empty());
    ensure!(boots("subnet=10.77.0.0/24")?.len() == 3 && boots("state=over")?.is_empty());
    let open = ["boots", "list", "--state", "open", "--subnet", "10.77.0.0/24"];
    ensure!(xpxe_says(&place, &xpxe, &open)?.lines().count() == 3);
    ensure!(xpxe_says(&place, &xpxe, &["boots", "list", "--state", "over", "--json"])?.trim() == "[]");
    xpxe.stop()
}
