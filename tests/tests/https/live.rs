//! xpxe itself: its certificate is checked, replaced and kept.

use boot_tests::daemon::{Event, Xpxe};
use boot_tests::place::{Place, known};
use boot_tests::rack::{SERVER_ADDRESS, Station};
use boot_tests::settings::Settings;

use super::*;

struct Live {
    place: Place,
    authority: Authority,
}

impl Live {
    fn build() -> Result<Option<Self>> {
        let Some(place) = Place::build(&Settings { fast_path: "off", ..known() })? else { return Ok(None) };
        let authority = Authority::new(place.rack.dir())?;
        Ok(Some(Self { place, authority }))
    }

    fn config(&self, pair: &Pair) -> String {
        let tls = format!(
            "[http]\ntls = {{ listen = \"0.0.0.0:8443\", certificate = {:?}, key = {:?} }}\n",
            pair.certificate, pair.key
        );
        self.place.config.replace("[http]\n", &tls)
    }

    fn file(&self) -> String {
        text(&self.place.rack.dir().join("xpxe.toml"))
    }

    /// The serial number of the certificate that clients are shown.
    fn shown(&self, client: &Station) -> Result<String> {
        let script = format!(
            "openssl s_client -connect {SERVER_ADDRESS}:8443 </dev/null 2>/dev/null | openssl x509 -noout -serial"
        );
        client.output("bash", &["-c", &script])
    }
}

fn serial(pair: &Pair) -> Result<String> {
    let output =
        Command::new("openssl").args(["x509", "-noout", "-serial", "-in"]).arg(&pair.certificate).output()?;
    Ok(String::from_utf8(output.stdout)?)
}

fn says(words: &'static [&'static str]) -> impl Fn(&Event) -> bool {
    move |event| words.iter().all(|word| event.message().contains(word))
}

#[test]
fn a_certificate_is_replaced_when_its_files_change_and_kept_when_they_are_bad() -> Result<()> {
    let Some(live) = Live::build()? else { return Ok(()) };
    let names = "IP:10.77.0.1";
    let pair = live.authority.issue("server", names, Key::Rsa)?;
    let next = live.authority.issue("next", names, Key::Rsa)?;
    let xpxe = Xpxe::start(&live.place.rack, &live.config(&pair), &[])?;
    let client = live.place.rack.neighbour("client", "02:77:00:00:00:e9", "10.77.0.9/24")?;
    let url = format!("https://{SERVER_ADDRESS}:8443/boot.ipxe");
    let authority = text(&live.authority.certificate());
    let script = client.output("curl", &["-sS", "--cacert", &authority, &url])?;
    ensure!(script.contains(&format!("https://{SERVER_ADDRESS}:8443/ipxe/boot.ipxe")), "{script}");
    let first = serial(&pair)?;
    ensure!(live.shown(&client)? == first);

    // The certificate first, as people do: it does not fit the key until that is there, too.
    fs::copy(&next.certificate, &pair.certificate)?;
    xpxe.wait_for_event(
        "why it is not used",
        SOON,
        says(&[
            "HTTPS goes on with the certificate that it has: the key",
            "does not belong to the certificate",
        ]),
    )?;
    ensure!(live.shown(&client)? == first);
    fs::copy(&next.key, &pair.key)?;
    eventually(SOON, "the new certificate", || {
        live.shown(&client).is_ok_and(|shown| serial(&pair).is_ok_and(|new| new == shown))
    })?;
    xpxe.wait_for_event("a line that says so", SOON, says(&["HTTPS has a new certificate"]))?;

    // Other files, by a reload: bad ones change nothing, good ones do at once.
    let other = live.authority.issue("other", names, Key::Ec)?;
    let bad = Pair { certificate: other.certificate.clone(), key: pair.key.clone() };
    let reload = |config: String| {
        xpxe.write_config(&config)?;
        let mut command = live.place.rack.server.command(&text(xpxe.binary()));
        let output = command.args(["reload", "--config", &live.file()]).output()?;
        anyhow::Ok((output.status.success(), String::from_utf8(output.stdout)?))
    };
    let (is_done, said) = reload(live.config(&bad))?;
    ensure!(!is_done && said.contains("does not belong to the certificate"), "{said}");
    ensure!(live.shown(&client)? == serial(&pair)?);
    let (is_done, said) = reload(live.config(&other))?;
    ensure!(is_done && said == "changed http.tls.certificate\nchanged http.tls.key\n", "{said}");
    ensure!(live.shown(&client)? == serial(&other)?);
    let (is_done, said) = reload(live.config(&other).replace("8443", "8444"))?;
    ensure!(is_done && said.ends_with("waits for a restart of xpxe: http.tls\n"), "{said}");
    xpxe.stop()
}

#[test]
fn bad_certificates_are_named_with_a_remedy_at_check_and_start() -> Result<()> {
    let Some(live) = Live::build()? else { return Ok(()) };
    let dir = live.place.rack.dir();
    let good = live.authority.issue("good", NAMES, Key::Rsa)?;
    let other = live.authority.issue("other", NAMES, Key::Rsa)?;
    let locked = dir.join("locked.key");
    let made = Command::new("openssl")
        .args(["rsa", "-aes128", "-passout", "pass:secret", "-in"])
        .arg(&good.key)
        .arg("-out")
        .arg(&locked)
        .output()?;
    ensure!(made.status.success());
    let absent = dir.join("absent.pem");
    for (certificate, key, why) in [
        (&absent, &good.key, format!("the certificate {} cannot be read: No such file", absent.display())),
        (&good.certificate, &absent, format!("the key {} cannot be read", absent.display())),
        (&good.key, &good.key, format!("{} has no certificate in PEM in it: write", good.key.display())),
        (&good.certificate, &good.certificate, "has no private key in PEM in it that can be read".to_owned()),
        (&good.certificate, &locked, "write one without a passphrase".to_owned()),
        (&good.certificate, &other.key, "does not belong to the certificate".to_owned()),
    ] {
        let config = live.config(&Pair { certificate: certificate.clone(), key: key.clone() });
        fs::write(dir.join("xpxe.toml"), config)?;
        for verb in ["check", "serve"] {
            let mut command = live.place.rack.server.command(&text(&boot_tests::daemon::binary()?));
            let output = command.args([verb, "--config", &live.file()]).stdin(Stdio::null()).output()?;
            let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
            ensure!(!output.status.success() && said.contains(&why), "{verb}: {why} is not in\n{said}");
        }
    }
    let elliptic = live.authority.issue("elliptic", NAMES, Key::Ec)?;
    fs::write(dir.join("xpxe.toml"), live.config(&elliptic))?;
    let mut command = live.place.rack.server.command(&text(&boot_tests::daemon::binary()?));
    let output = command.args(["check", "--config", &live.file()]).output()?;
    let said = String::from_utf8(output.stdout)?;
    ensure!(said.contains("warning: the certificate") && said.contains("has no RSA key"), "{said}");
    ensure!(said.contains("HTTPS has the certificate"), "{said}");
    ensure!(said.contains(": replace it before that"), "two days are soon: {said}");
    Ok(())
}
