//! Webhooks, with a receiver that refuses, redirects, is silent or away, and with a daemon that is killed in between.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;

use anyhow::{Context as _, Result, ensure};
use boot_tests::daemon::Xpxe;
use boot_tests::place::{Place, SOON, known};
use boot_tests::receiver::{Got, Receiver};
use boot_tests::wait::{eventually, eventually_some};
use serde_json::Value;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
/// The same in hexadecimal digits, for openssl.
const SECRET_HEX: &str = "31f290f6bf06298aab4f08d43c3f082cf648a362da2da4b0";
const PORT: u16 = 9001;

/// A place with webhooks to `PORT`, each with its path and further keys.
fn place(webhooks: &[(&str, &str, &str)]) -> Result<Option<Place>> {
    let Some(mut place) = Place::build(&known())? else { return Ok(None) };
    let default = "[default]\nprofile = \"guest\"\n";
    let more = "unknown = \"discover\"\n\n[lifecycle]\nwipe = false\n";
    place.config = place.config.replace(default, &format!("{default}{more}"));
    let secret = place.rack.dir().join("webhook.secret");
    fs::write(&secret, format!("{SECRET}\n"))?;
    fs::set_permissions(&secret, Permissions::from_mode(0o600))?;
    for (name, path, keys) in webhooks {
        place.config += &format!(
            "\n[[webhook]]\nname = \"{name}\"\nurl = \"http://me:hunter2@127.0.0.1:{PORT}/{path}\"\n\
             secret_file = {secret:?}\nevents = [\"state\"]\n{keys}\n"
        );
    }
    Ok(Some(place))
}

fn says(place: &Place, xpxe: &Xpxe<'_>, words: &[&str]) -> Result<String> {
    let file = place.rack.dir().join("xpxe.toml").display().to_string();
    xpxe.command(&[words, &["--config", &file]].concat())
}

fn webhooks(place: &Place, xpxe: &Xpxe<'_>) -> Result<Value> {
    Ok(serde_json::from_str(&says(place, xpxe, &["webhooks", "list", "--json"])?)?)
}

/// Adds a machine and gives it orders; each changes its state.
fn add(place: &Place, xpxe: &Xpxe<'_>, name: &str, mac: &str) -> Result<()> {
    says(place, xpxe, &["machines", "add", "--name", name, "--mac", mac, "--label", "role=worker"])?;
    for order in ["accept", "ignore", "accept"] {
        says(place, xpxe, &["machines", order, name])?;
    }
    Ok(())
}

/// What a receiver has taken of a machine, in the order in which it took them.
fn taken(receiver: &Receiver, path: &str, name: &str) -> Vec<Got> {
    let mut got = receiver.got();
    got.retain(|got| got.status == 200 && got.path.contains(path) && got.json()["data"]["name"] == *name);
    got
}

fn is_in_order(got: &[Got]) -> bool {
    let ids: Vec<u64> = got.iter().map(|got| got.json()["id"].as_u64().unwrap_or(0)).collect();
    ids.is_sorted() && !ids.contains(&0)
}

#[test]
fn deliveries_are_signed_and_in_order_whatever_the_receiver_does() -> Result<()> {
    let hooks = [
        ("chat", "chat/T0KEN", ""),
        ("workers", "workers", "labels = { role = \"worker\" }"),
        ("silent", "silent", ""),
    ];
    let Some(place) = place(&hooks)? else { return Ok(()) };
    let receiver = Receiver::start(&place.rack.server, PORT)?;
    receiver.answer_always("silent", 0);
    // For whichever of the two that are no longer silent comes first.
    receiver.answer_next(&[500, 302, 503]);
    let xpxe = place.serve()?;
    add(&place, &xpxe, "carol", "02:77:00:00:00:e9")?;
    let all = eventually_some(SOON, "all deliveries", || {
        let (chat, workers) = (taken(&receiver, "chat", "carol"), taken(&receiver, "workers", "carol"));
        (chat.len() >= 3 && chat.len() == workers.len()).then_some(chat)
    })
    .with_context(|| format!("{:#?}", receiver.got()))?;
    ensure!(is_in_order(&all) && is_in_order(&taken(&receiver, "workers", "carol")), "{all:#?}");
    let refused: Vec<_> = receiver.got().into_iter().filter(|got| ![200, 0].contains(&got.status)).collect();
    ensure!(refused.len() == 3, "{refused:#?}");
    for got in &refused {
        ensure!(
            all.iter().chain(&taken(&receiver, "workers", "carol")).any(|other| other.body == got.body),
            "what was refused comes again, the same: {got:#?}"
        );
    }
    ensure!(!receiver.got().iter().any(|got| got.path.contains("elsewhere")), "a redirect is not followed");

    // Two programs that are not ours say that the signature is right.
    for got in &all {
        let (id, timestamp) = (got.header("webhook-id")?, got.header("webhook-timestamp")?);
        let message = place.rack.dir().join("message");
        fs::write(&message, format!("{id}.{timestamp}.{}", got.body))?;
        let message = message.display().to_string();
        let hex = place.rack.server.output(
            "openssl",
            &["dgst", "-sha256", "-mac", "HMAC", "-macopt", &format!("hexkey:{SECRET_HEX}"), &message],
        )?;
        let python = "import sys, hmac, hashlib, base64\n\
                      key = base64.b64decode(sys.argv[1].removeprefix('whsec_'))\n\
                      tag = hmac.new(key, open(sys.argv[2], 'rb').read(), hashlib.sha256)\n\
                      print('v1,' + base64.b64encode(tag.digest()).decode(), tag.hexdigest())";
        let tags = place.rack.server.output("python3", &["-c", python, SECRET, &message])?;
        let (signature, digest) = tags.trim().split_once(' ').context("two")?;
        ensure!(hex.trim().ends_with(digest), "openssl says {hex}, python {tags}");
        ensure!(got.header("webhook-signature")? == signature, "{got:#?}: {tags}");
        ensure!(got.json()["id"] == id.parse::<u64>()?, "{got:#?}");
        ensure!(got.header("authorization")? == "Basic bWU6aHVudGVyMg==", "{got:#?}");
    }
    let last = all.last().context("one")?.json();
    ensure!(last["type"] == "state" && last["webhook"] == "chat", "{last}");
    let message = last["data"]["message"].as_str().unwrap_or_default();
    ensure!(message.contains("ready instead of") && last["data"]["state"] == "ready", "{last}");
    ensure!(last["data"]["name"] == "carol" && last["data"]["mac"] == "02:77:00:00:00:e9", "{last}");

    let listed = webhooks(&place, &xpxe)?;
    ensure!(listed["webhooks"][0]["name"] == "chat" && listed["webhooks"][0]["waiting"] == 0, "{listed}");
    let page = place.rack.server.output("curl", &["-sSf", "http://10.77.0.1:8080/metrics"])?;
    ensure!(
        page.contains(&format!(
            "xpxe_webhook_events_total{{webhook=\"chat\",end=\"delivered\"}} {}",
            all.len()
        )),
        "{page}"
    );
    let log: String = xpxe.log().iter().map(|event| format!("{event:?}\n")).collect();
    ensure!(
        log.contains("webhook") && log.contains("127.0.0.1:9001"),
        "that some were refused is in the log: {log}"
    );
    for text in [log, listed.to_string(), page] {
        ensure!(
            !text.contains("hunter2") && !text.contains("T0KEN") && !text.contains("MfKQ"),
            "a secret is in {text}"
        );
    }
    xpxe.stop()
}

#[test]
fn a_receiver_that_is_away_gets_everything_later_through_a_kill_of_xpxe() -> Result<()> {
    let Some(place) = place(&[("chat", "chat", "")])? else { return Ok(()) };
    let mut xpxe = place.serve()?;
    add(&place, &xpxe, "carol", "02:77:00:00:00:e9")?;
    add(&place, &xpxe, "dave", "02:77:00:00:00:ea")?;
    eventually(SOON, "a refused connection", || {
        webhooks(&place, &xpxe).is_ok_and(|listed| listed["webhooks"][0]["failed_tries"].as_u64() > Some(1))
    })?;
    let before = webhooks(&place, &xpxe)?["webhooks"][0].clone();
    let waiting = usize::try_from(before["waiting"].as_u64().unwrap_or(0))?;
    ensure!(waiting >= 6 && before["trouble"].to_string().contains("refused"), "{before}");
    xpxe.kill9()?;
    let receiver = Receiver::start(&place.rack.server, PORT)?;
    xpxe.start_again()?;
    xpxe.wait_until_ready()?;
    let count = || taken(&receiver, "chat", "carol").len() + taken(&receiver, "chat", "dave").len();
    eventually(SOON, "everything", || count() == waiting)
        .with_context(|| format!("{:#?}", receiver.got()))?;
    for name in ["carol", "dave"] {
        ensure!(is_in_order(&taken(&receiver, "chat", name)), "{:#?}", receiver.got());
    }
    eventually(SOON, "nothing waits", || {
        webhooks(&place, &xpxe).is_ok_and(|listed| listed["webhooks"][0]["waiting"] == 0)
    })?;
    // What has arrived does not arrive again.
    xpxe.restart()?;
    add(&place, &xpxe, "erin", "02:77:00:00:00:eb")?;
    eventually(SOON, "erin's", || taken(&receiver, "chat", "erin").len() >= 3)?;
    ensure!(count() == waiting, "{:#?}", receiver.got());
    xpxe.stop()
}

#[test]
fn what_nobody_takes_is_a_dead_letter_until_somebody_has_it_tried_again() -> Result<()> {
    let Some(place) = place(&[("chat", "chat", "tries = 2")])? else { return Ok(()) };
    let receiver = Receiver::start(&place.rack.server, PORT)?;
    receiver.answer_next(&[500; 6]);
    let mut xpxe = place.serve()?;
    add(&place, &xpxe, "carol", "02:77:00:00:00:e9")?;
    let dead = |xpxe: &Xpxe<'_>| -> Result<Vec<Value>> {
        Ok(webhooks(&place, xpxe)?["dead"].as_array().context("a list")?.clone())
    };
    eventually(SOON, "three dead letters", || dead(&xpxe).is_ok_and(|dead| dead.len() == 3))
        .with_context(|| format!("{:#?}", receiver.got()))?;
    eventually(SOON, "no more waits", || {
        webhooks(&place, &xpxe).is_ok_and(|listed| listed["webhooks"][0]["waiting"] == 0)
    })?;
    let before = dead(&xpxe)?;
    let first = &before[0];
    ensure!(first["tries"] == 2 && first["machine"] == "carol" && first["webhook"] == "chat", "{first}");
    ensure!(first["why"].to_string().contains("500"), "{first}");
    xpxe.kill9()?;
    xpxe.start_again()?;
    xpxe.wait_until_ready()?;
    ensure!(dead(&xpxe)? == before, "they are there after a kill");
    let text = says(&place, &xpxe, &["webhooks", "list"])?;
    ensure!(text.contains("3 dead letters") && text.contains(&format!("dead {}", first["id"])), "{text}");

    let id = first["id"].to_string();
    says(&place, &xpxe, &["webhooks", "retry", &id])?;
    receiver.wait_for("the first one", SOON, |got| got.status == 200 && got.json()["id"] == first["id"])?;
    ensure!(dead(&xpxe)?.len() == 2);
    ensure!(
        says(&place, &xpxe, &["webhooks", "drop", &before[1]["id"].to_string()])?.contains("1 dead letters")
    );
    ensure!(says(&place, &xpxe, &["webhooks", "retry", "chat"])?.contains("1 dead letters"));
    receiver
        .wait_for("the last one", SOON, |got| got.status == 200 && got.json()["id"] == before[2]["id"])?;
    ensure!(dead(&xpxe)?.is_empty());
    for which in [id.as_str(), "absent"] {
        let said = says(&place, &xpxe, &["webhooks", "retry", which]).map_err(|error| error.to_string());
        ensure!(said.as_ref().is_err_and(|said| said.contains("there is no")), "{which}: {said:?}");
    }
    xpxe.stop()
}

#[test]
fn a_reload_follows_webhooks_and_check_names_a_secret_that_is_none() -> Result<()> {
    let Some(place) = place(&[("chat", "before", "")])? else { return Ok(()) };
    let receiver = Receiver::start(&place.rack.server, PORT)?;
    let xpxe = place.serve()?;
    xpxe.write_config(&place.config.replace("/before", "/after"))?;
    let said = says(&place, &xpxe, &["reload"])?;
    ensure!(said.contains("[[webhook]]"), "{said}");
    add(&place, &xpxe, "carol", "02:77:00:00:00:e9")?;
    receiver.wait_for("a delivery", SOON, |got| got.path == "/after" && got.status == 200)?;
    ensure!(!receiver.got().iter().any(|got| got.path == "/before"));

    fs::set_permissions(place.rack.dir().join("webhook.secret"), Permissions::from_mode(0o644))?;
    for words in [["check"], ["reload"]] {
        let said = says(&place, &xpxe, &words).unwrap_or_else(|error| format!("{error:#}"));
        ensure!(
            said.contains("[[webhook]] chat") && said.contains("can be read by everybody"),
            "{words:?}: {said}"
        );
    }
    xpxe.stop()
}
