//! Secret documents of a running daemon: over HTTP, HTTPS and TFTP's configurations, across reloads and restarts.

use boot_tests::daemon::Xpxe;
use boot_tests::place::{ALICE, BOB, Place, known};
use boot_tests::rack::{SERVER_ADDRESS, Station};
use boot_tests::settings::Settings;

use super::links::{get, machine, url};
use super::*;

const MAC: &str = "02-77-00-00-00-10";

/// The URL below which the documents are, in whatever a machine has got to boot by.
fn seed(text: &str) -> Result<String> {
    let at = text.find("s=http").with_context(|| format!("no seed in {text}"))?;
    Ok(text[at + 2..].split([' ', '\'', '\n']).next().unwrap_or_default().to_owned())
}

fn boot(alice: &Station) -> Result<String> {
    seed(&get(alice, &url(&format!("/ipxe/boot.ipxe?mac={MAC}")))?.1)
}

fn ensure_once(alice: &Station, seed: &str, wanted: &str) -> Result<()> {
    let document = format!("{seed}user-data");
    let (status, text) = get(alice, &document)?;
    ensure!(status == "200" && text == wanted, "{status} {text}");
    let (status, text) = get(alice, &document)?;
    ensure!(status == "410" && text.contains("it was given already"), "{status} {text}");
    Ok(())
}

#[test]
fn a_secret_document_is_given_once_whatever_way_the_machine_boots() -> Result<()> {
    let Some(place) = Place::build(&Settings { fast_path: "off", ..known() })? else { return Ok(()) };
    let authority = Authority::new(place.rack.dir())?;
    let Pair { certificate, key } = authority.issue("server", "IP:10.77.0.1", Key::Rsa)?;
    let tls = format!(
        "[http]\ntls = {{ listen = \"0.0.0.0:8443\", certificate = {certificate:?}, key = {key:?} }}\n"
    );
    let config = place.config.replace("[http]\n", &tls).replace(
        "args = \"console=ttyS0\"",
        "args = \"ds=nocloud;s={{ documents }}\"\ndocuments = { user-data = { file = \"user-data\", secret = true } }",
    );
    let template = place.rack.dir().join("user-data");
    fs::write(&template, "#cloud-config\npassword: {{ machine.name }}\n")?;
    let mut xpxe = Xpxe::start(&place.rack, &config, &[])?;
    let (alice, bob) = (machine(&place, ALICE)?, machine(&place, BOB)?);
    let wanted = "#cloud-config\npassword: alice\n";
    let mut seeds = Vec::new();

    // By HTTP, and somebody else who has listened.
    let by_http = boot(&alice)?;
    let (status, said) = get(&bob, &format!("{by_http}user-data"))?;
    ensure!(status == "403" && !said.contains("password"), "{status} {said}");
    ensure_once(&alice, &by_http, wanted)?;
    let refused = xpxe.wait_for_event("that it is refused", SOON, |event| {
        event.message().contains("t-…/user-data to 10.77.0.10: it was given already")
    })?;
    ensure!(refused.field("step") == "document" && refused.field("name") == "alice", "{refused:?}");
    ensure!(refused.field("client") == "10.77.0.10" && refused.field("mac").eq_ignore_ascii_case(ALICE.mac));
    seeds.push(by_http);

    // By HTTPS.
    let trusted = text(&authority.certificate());
    let encrypted = |url: &str| -> Result<(String, String)> {
        let words = ["-sS", "--max-time", "20", "--cacert", &trusted, "-w", "\n%{http_code}", url];
        let said = alice.output("curl", &words)?;
        let (body, status) = said.rsplit_once('\n').context("a status")?;
        Ok((status.to_owned(), body.to_owned()))
    };
    let by_https = seed(&encrypted(&format!("https://{SERVER_ADDRESS}:8443/ipxe/boot.ipxe?mac={MAC}"))?.1)?;
    ensure!(by_https.starts_with("https://"), "{by_https}");
    let document = format!("{by_https}user-data");
    ensure!(encrypted(&document)? == ("200".to_owned(), wanted.to_owned()));
    ensure!(encrypted(&document)?.0 == "410");
    seeds.push(by_https);

    // By TFTP, where a request may come twice.
    let file = format!("tftp://{SERVER_ADDRESS}/pxelinux.cfg/01-{MAC}");
    let fetch = || alice.output("curl", &["-sSf", "--max-time", "20", &file]);
    let by_tftp = seed(&fetch()?)?;
    ensure!(seed(&fetch()?)? == by_tftp, "the first answer is as good as the second");
    ensure_once(&alice, &by_tftp, wanted)?;
    ensure!(seed(&fetch()?)? != by_tftp, "that was another boot");
    seeds.push(by_tftp);

    // A reload ends no boot, and the document is that of the new configuration.
    let before = boot(&alice)?;
    fs::write(&template, "#cloud-config\npassword: other-{{ machine.name }}\n")?;
    xpxe.write_config(&config)?;
    xpxe.command(&["reload", "--config", &text(&place.rack.dir().join("xpxe.toml"))])?;
    ensure_once(&alice, &before, "#cloud-config\npassword: other-alice\n")?;
    // A restart does.
    let before = boot(&alice)?;
    xpxe.restart()?;
    let (status, said) = get(&alice, &format!("{before}user-data"))?;
    ensure!(status == "403" && said.contains("xpxe was restarted since"), "{status} {said}");
    ensure_once(&alice, &boot(&alice)?, "#cloud-config\npassword: other-alice\n")?;
    seeds.push(before);

    let metrics = get(&alice, &url("/metrics"))?.1;
    ensure!(metrics.contains("\nxpxe_document_tokens 1\n"), "{metrics}");
    let log: Vec<String> = xpxe.log().iter().map(|event| event.json.to_string()).collect();
    for seed in &seeds {
        let token = seed.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        ensure!(token.len() == 34 && !log.iter().any(|line| line.contains(token)), "the log has {token}");
    }
    xpxe.stop()
}
