//! Links that only the right machine can use.

use boot_engine::boot::link::{LinkKey, Signer};
use boot_tests::daemon::{Event, Xpxe};
use boot_tests::guest;
use boot_tests::place::{ALICE, BOB, Place, known};
use boot_tests::rack::{SERVER_ADDRESS, Station};
use boot_tests::settings::{Known, Settings, boot_dir};

use super::*;

/// A machine that is up, with its reserved address.
pub(super) fn machine(place: &Place, known: Known) -> Result<Station> {
    let address = format!("{}/24", known.address.context("an address")?);
    place.rack.neighbour(known.name, known.mac, &address)
}

/// Status and body.
pub(super) fn get(station: &Station, url: &str) -> Result<(String, String)> {
    let said = station.output("curl", &["-sS", "--max-time", "20", "-w", "\n%{http_code}", url])?;
    let (body, status) = said.rsplit_once('\n').context("a status")?;
    Ok((status.to_owned(), body.to_owned()))
}

pub(super) fn url(path: &str) -> String {
    format!("http://{SERVER_ADDRESS}:8080{path}")
}

fn links(script: &str) -> Result<[String; 2]> {
    let link = |command: &str| {
        let line = script.lines().find(|line| line.starts_with(command));
        let link = line.and_then(|line| line.split(' ').find(|word| word.starts_with("http://")));
        link.map(str::to_owned).with_context(|| format!("no {command} in {script}"))
    };
    Ok([link("kernel")?, link("initrd")?])
}

fn script(station: &Station, known: Known) -> Result<[String; 2]> {
    links(&get(station, &url(&format!("/ipxe/boot.ipxe?mac={}", known.mac)))?.1)
}

fn refused<'x>(xpxe: &Xpxe<'x>, why: &'static str) -> Result<Event> {
    xpxe.wait_for_event(why, SOON, |event| {
        event.message().starts_with("asked for ") && event.message().contains(why)
    })
}

#[test]
fn a_link_is_for_one_machine_and_a_while() -> Result<()> {
    let Some(place) = Place::build(&Settings { fast_path: "off", ..known() })? else { return Ok(()) };
    let signed = place.config.replace("[http]\n", "[http]\nfronts = [\"sidero\"]\nsigned_links = true\n");
    let image = place.rack.dir().join("initrd");
    fs::write(&image, "the initrd")?;
    let signed = signed.replace(&format!("[\"{}\"]", guest::INITRD), "[\"image:initrd\"]");
    fs::create_dir_all(boot_dir(&place.rack).join("guest"))?;
    fs::write(boot_dir(&place.rack).join(guest::KERNEL), "the kernel")?;
    fs::write(boot_dir(&place.rack).join("other.cfg"), "another file")?;
    let mut xpxe = Xpxe::start(&place.rack, &signed, &[])?;
    let file = text(&place.rack.dir().join("xpxe.toml"));
    xpxe.command(&["images", "add", "initrd", &text(&image), "--config", &file])?;
    let (alice, bob) = (machine(&place, ALICE)?, machine(&place, BOB)?);

    let own = script(&alice, ALICE)?;
    for (link, content) in own.iter().zip(["the kernel", "the initrd"]) {
        ensure!(get(&alice, link)? == ("200".to_owned(), content.to_owned()), "{link}");
        let (status, said) = get(&bob, link)?;
        ensure!(status == "403" && said.contains("the link is for 10.77.0.10 only"), "{status} {said}");
        let (bare, _) = link.split_once('?').context("a signature")?;
        let (status, said) = get(&alice, bare)?;
        ensure!(status == "403" && said.contains("has no signature"), "{status} {said}");
        let last = if link.ends_with('0') { "1" } else { "0" };
        let (status, said) = get(&alice, &format!("{}{last}", &link[..link.len() - 1]))?;
        ensure!(status == "403" && said.contains("was changed"), "{status} {said}");
    }
    for why in ["the link is for 10.77.0.10 only", "the link has no signature", "the link was changed"] {
        refused(&xpxe, why)?;
    }
    // Names are read tolerantly, and are the same file all the same.
    for name in [
        "/files/guest//vmlinuz",
        "/files/GUEST/VMLINUZ",
        "/files/guest/%76mlinuz",
        "/files/x/../guest/vmlinuz",
        "/tftp/guest/vmlinuz",
    ] {
        let (status, said) = get(&alice, &url(name))?;
        ensure!(status == "403", "{name}: {status} {said}");
    }
    // Nor does a front give them to anybody who knows its paths.
    for name in ["/env/guest/vmlinuz", "/env/guest/initramfs.xz"] {
        let said = alice.output("curl", &["-sSL", "--max-time", "20", "-w", "\n%{http_code}", &url(name)])?;
        ensure!(said.ends_with("\n403"), "{name}: {said}");
    }
    ensure!(get(&alice, &url("/files/other.cfg"))?.0 == "200", "no profile names it");
    ensure!(get(&alice, &url("/files/snponly.efi"))?.0 == "200", "firmware cannot sign");

    // As if it had been given out long ago.
    let secret: [u8; 32] =
        fs::read(place.rack.dir().join("state/link-key"))?.try_into().ok().context("a key")?;
    let old = Signer {
        key: LinkKey::new(secret),
        holder: None,
        client: "10.77.0.10".parse()?,
        until: 1_700_000_000,
    };
    let path = format!("/files/{}", guest::KERNEL);
    let (status, said) = get(&alice, &url(&format!("{path}?{}", old.query(&path))))?;
    ensure!(status == "403" && said.contains("the link has expired"), "{status} {said}");
    refused(&xpxe, "the link has expired")?;

    // Configurations of other loaders have such links, too, by whatever way they came.
    for name in ["grub/grub.cfg", "pxelinux.cfg/default"] {
        for from in [format!("tftp://{SERVER_ADDRESS}/{name}"), url(&format!("/files/{name}"))] {
            let config = alice.output("curl", &["-sSf", "--max-time", "20", &from])?;
            for (file, content) in [
                (format!("files/{}", guest::KERNEL), "the kernel"),
                ("images/initrd".to_owned(), "the initrd"),
            ] {
                let link = config.split([' ', '\'', '\n']).find(|word| word.contains(&format!("/{file}?")));
                let link = link.with_context(|| format!("no link to {file} in {config}"))?;
                let link = link.replace("(http,", "http://").replace(")/", "/");
                ensure!(get(&alice, &link)? == ("200".to_owned(), content.to_owned()), "{from}: {link}");
                ensure!(get(&bob, &link)?.0 == "403", "{from}: {link}");
            }
        }
    }

    // TFTP knows nobody.
    let words = ["tftp", "-g", "-l", "/dev/null", "-r", guest::KERNEL, SERVER_ADDRESS];
    ensure!(alice.output("busybox", &words).is_err());
    xpxe.wait_for_event("why TFTP refuses it", SOON, |event| {
        event.message().contains("by signed links over HTTP only")
    })?;

    // The key outlives a restart.
    xpxe.restart()?;
    ensure!(get(&alice, &own[0])?.0 == "200", "a link from before the restart");
    // And the setting a reload.
    xpxe.write_config(&signed.replace("signed_links = true\n", ""))?;
    let said = xpxe.command(&["reload", "--config", &file])?;
    ensure!(said == "changed http.signed_links\n", "{said}");
    ensure!(get(&bob, &url(&path))?.0 == "200");
    ensure!(!script(&alice, ALICE)?[0].contains('?'));
    xpxe.stop()
}

#[test]
fn another_name_of_a_kernel_opens_nothing() -> Result<()> {
    let Some(place) = Place::build(&Settings { fast_path: "off", ..known() })? else { return Ok(()) };
    let signed = place.config.replace("[http]\n", "[http]\nsigned_links = true\n");
    let signed = signed.replace(guest::KERNEL, "talos/current/vmlinuz");
    let dir = boot_dir(&place.rack);
    for version in ["v1", "v2"] {
        fs::create_dir_all(dir.join("talos").join(version))?;
        fs::write(dir.join("talos").join(version).join("vmlinuz"), format!("the kernel {version}"))?;
    }
    let current = dir.join("talos/current");
    let point_to = |version: &str| -> Result<()> {
        let new = dir.join("talos/new");
        std::os::unix::fs::symlink(version, &new)?;
        Ok(fs::rename(new, &current)?)
    };
    point_to("v1")?;
    fs::write(dir.join("other"), "another file")?;
    fs::hard_link(dir.join("talos/v1/vmlinuz"), dir.join("hard"))?;
    std::os::unix::fs::symlink("talos", dir.join("alias"))?;
    let xpxe = Xpxe::start(&place.rack, &signed, &[])?;
    let alice = machine(&place, ALICE)?;
    let status = |path: &str| Ok::<_, anyhow::Error>(get(&alice, &url(path))?.0);
    let by_tftp = |name: &str| {
        alice.output("busybox", &["tftp", "-g", "-l", "/dev/null", "-r", name, SERVER_ADDRESS]).is_ok()
    };
    let own = get(&alice, &url(&format!("/ipxe/boot.ipxe?mac={}", ALICE.mac)))?.1;
    let own = own.lines().find(|line| line.starts_with("kernel")).context("a kernel")?.to_owned();
    let own = own.split(' ').find(|word| word.starts_with("http://")).context("a link")?;
    ensure!(get(&alice, own)? == ("200".to_owned(), "the kernel v1".to_owned()));
    // Twice, since what was opened lately may be remembered.
    for _ in 0..2 {
        for name in ["talos/v1/vmlinuz", "alias/v1/vmlinuz", "alias/current/vmlinuz", "hard", "HARD"] {
            ensure!(status(&format!("/files/{name}"))? == "403", "{name}");
            ensure!(!by_tftp(name), "{name} by TFTP");
        }
        ensure!(status("/files/other")? == "200" && by_tftp("other"));
        ensure!(status("/files/talos/v2/vmlinuz")? == "200", "no profile has it");
    }
    // Another version becomes the kernel while xpxe runs.
    point_to("v2")?;
    eventually(SOON, "the new kernel is closed", || {
        status("/files/talos/v2/vmlinuz").is_ok_and(|status| status == "403") && !by_tftp("talos/v2/vmlinuz")
    })?;
    ensure!(get(&alice, own)? == ("200".to_owned(), "the kernel v2".to_owned()));
    refused(&xpxe, "by signed links")?;
    xpxe.stop()
}
