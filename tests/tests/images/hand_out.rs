//! Images that machines fetch from S3 themselves.

use boot_tests::place::ALICE;
use boot_tests::rack::{SERVER_ADDRESS, Station};
use boot_tests::s3::{self, ACCESS_KEY, S3, SECRET_KEY};
use boot_tests::wait::eventually;

use super::live::{Live, says};
use super::*;

/// Status and body, wherever a redirect leads.
fn get(client: &Station, url: &str) -> Result<(u16, Vec<u8>)> {
    let words = ["-sSL", "--max-time", "30", "-w", "\n%{http_code}", url];
    let output = client.command("curl").args(words).output()?;
    let at = output.stdout.iter().rposition(|byte| *byte == b'\n').context("a status")?;
    let status = std::str::from_utf8(&output.stdout[at + 1..])?.parse()?;
    Ok((status, output.stdout[..at].to_vec()))
}

fn on_server(path: &str) -> String {
    format!("http://{SERVER_ADDRESS}:8080{path}")
}

/// The URLs of kernel and initrd in the script of the machine that asks.
fn links(alice: &Station) -> Result<[String; 2]> {
    let script = String::from_utf8(get(alice, &on_server(&format!("/ipxe/boot.ipxe?mac={}", ALICE.mac)))?.1)?;
    let link = |command: &str| {
        let line = script.lines().find(|line| line.starts_with(command));
        let link = line.and_then(|line| line.split(' ').find(|word| word.starts_with("http://")));
        link.map(str::to_owned).with_context(|| format!("no {command} in {script}"))
    };
    Ok([link("kernel")?, link("initrd")?])
}

#[test]
fn a_machine_fetches_from_s3_itself_by_a_url_that_was_signed_for_a_while() -> Result<()> {
    let Some(mut live) = Live::build()? else { return Ok(()) };
    let server = S3::start(&live.place.rack)?;
    let (kernel, initrd) = (bytes(3 * MIB + 17, 71), bytes(MIB + 3, 72));
    server.put("talos/vmlinuz", &kernel)?;
    server.put("initrd", &initrd)?;
    let rest = live
        .place
        .config
        .replace("[http]\n", "[http]\nfronts = [\"sidero\"]\nsigned_links = true\n")
        .replace("profile = \"guest\"", "profile = \"cloud\"")
        + "\n[[profile]]\nname = \"cloud\"\nkernel = \"image:s3://boot/talos/vmlinuz\"\ninitrd = [\"image:initrd\"]\n";
    let stored = rest.clone() + &s3::upstream(&live.place.rack, ACCESS_KEY, SECRET_KEY)?;
    live.place.config = rest + &s3::presigned(&live.place.rack, ACCESS_KEY, SECRET_KEY)?;
    let address = format!("{}/24", ALICE.address.context("an address")?);
    let alice = live.place.rack.neighbour("alice", ALICE.mac, &address)?;
    let other = live.client()?;
    let xpxe = live.place.serve()?;
    live.images(&xpxe, &["add", "initrd", "s3://boot/initrd"])?;
    let at_s3 = format!("http://{SERVER_ADDRESS}:9101/boot/");
    let are_handed_out = |links: &[String; 2]| links.iter().all(|link| link.starts_with(&at_s3));
    // The name was there after the start: it is signed with the next ones.
    let file = live.place.rack.dir().join("xpxe.toml").display().to_string();
    xpxe.command(&["reload", "--config", &file])?;
    eventually(SOON, "URLs of S3 in the script", || links(&alice).is_ok_and(|links| are_handed_out(&links)))?;
    let own = links(&alice)?;
    for (link, bytes) in own.iter().zip([&kernel, &initrd]) {
        ensure!(link.contains("X-Amz-Expires=86400&") && !link.contains(SECRET_KEY), "{link}");
        ensure!(get(&alice, link)? == (200, bytes.clone()), "{link}");
        // S3 looks at the signature.
        let last = if link.ends_with('0') { "1" } else { "0" };
        ensure!(get(&alice, &format!("{}{last}", &link[..link.len() - 1]))?.0 == 403);
    }
    ensure!(
        xpxe.log().iter().all(|event| !event.message().contains("fetched image s3")),
        "the store has fetched it"
    );
    // Who is not known to be the machine gets no such URL, nor do loaders that could not use it.
    let (status, _) = get(&other, &on_server(&format!("/ipxe/boot.ipxe?mac={}", ALICE.mac)))?;
    ensure!(status == 403, "{status}");
    ensure!(get(&other, &on_server("/env/cloud/vmlinuz"))?.0 == 403, "the front's path leads to the store");
    for name in ["grub/grub.cfg", "pxelinux.cfg/default"] {
        let text = String::from_utf8(get(&alice, &on_server(&format!("/files/{name}")))?.1)?;
        ensure!(text.contains("/images/vmlinuz-") && !text.contains("X-Amz"), "{text}");
    }

    // A key that cannot be read: machines go on by the store, once it can fetch.
    fs::rename(live.place.rack.dir().join("secret"), live.place.rack.dir().join("away"))?;
    xpxe.command(&["reload", "--config", &file])?;
    xpxe.wait_for_event(
        "why",
        SOON,
        says(&["has no presigned URL, machines get it from the store", "cannot be read"]),
    )?;
    let by_store = links(&alice)?;
    ensure!(by_store.iter().all(|link| link.starts_with(&on_server("/images/"))), "{by_store:?}");
    fs::rename(live.place.rack.dir().join("away"), live.place.rack.dir().join("secret"))?;
    xpxe.command(&["reload", "--config", &file])?;
    eventually(SOON, "URLs of S3 again", || links(&alice).is_ok_and(|links| are_handed_out(&links)))?;

    // Without the key in the configuration everything is as before.
    xpxe.write_config(&stored)?;
    let said = xpxe.command(&["reload", "--config", &file])?;
    ensure!(said.contains("changed [[images.upstream]]\n"), "{said}");
    let [link, _] = links(&alice)?;
    ensure!(
        link.starts_with(&on_server("/images/vmlinuz-")) && get(&alice, &link)? == (200, kernel),
        "{link}"
    );
    let log: Vec<String> = xpxe.log().iter().map(|event| event.json.to_string()).collect();
    for secret in [SECRET_KEY, "X-Amz-Signature", ACCESS_KEY] {
        ensure!(!log.iter().any(|line| line.contains(secret)), "the log has {secret}");
    }
    xpxe.stop()
}
