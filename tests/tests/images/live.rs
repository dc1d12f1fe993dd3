//! xpxe itself, its command line, and an S3 server that checks signatures.

use boot_engine::config::ImageRef;
use boot_tests::daemon::{Event, Xpxe};
use boot_tests::place::{Place, known};
use boot_tests::rack::{SERVER_ADDRESS, Station};
use boot_tests::s3::{self, ACCESS_KEY, S3, SECRET_KEY};
use boot_tests::settings::Settings;
use boot_tests::wait::eventually;

use super::*;

const CLIENT: (&str, &str) = ("02:77:00:00:00:e9", "10.77.0.9/24");
/// Where the site's server is, for the row's.
const SITE: (&str, &str) = ("02:77:00:00:00:e7", "10.77.0.7/24");

/// A place whose server has an upstream on loopback, or has to find one there.
pub(super) struct Live {
    pub(super) place: Place,
    origin: Origin,
}

impl Live {
    pub(super) fn build() -> Result<Option<Self>> {
        let Some(place) = Place::build(&Settings { fast_path: "off", ..known() })? else { return Ok(None) };
        let origin = place.rack.server.run(Origin::start)??;
        Ok(Some(Self { place, origin }))
    }

    /// Adds a profile that boots an image; gives the image's path on the server.
    fn profile(&mut self, name: &str, kernel: &str) -> Result<String> {
        self.place.config += &format!("\n[[profile]]\nname = \"{name}\"\nkernel = \"{kernel}\"\n");
        let image = ImageRef::read(kernel).context("an image")?.map_err(anyhow::Error::msg)?;
        Ok(format!("/images/{}", image.name))
    }

    pub(super) fn client(&self) -> Result<Station> {
        self.place.rack.neighbour("client", CLIENT.0, CLIENT.1)
    }

    fn state(&self) -> PathBuf {
        self.place.rack.dir().join("state/images")
    }

    pub(super) fn images(&self, xpxe: &Xpxe<'_>, words: &[&str]) -> Result<String> {
        let file = self.place.rack.dir().join("xpxe.toml").display().to_string();
        let mut all = vec!["images"];
        all.extend(words);
        all.extend(["--config", &file]);
        xpxe.command(&all)
    }
}

fn curl(client: &Station, path: &str) -> Result<Vec<u8>> {
    let url = format!("http://{SERVER_ADDRESS}:8080{path}");
    let output = client.command("curl").args(["-sS", "--max-time", "30", "-f", &url]).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(output.stdout)
}

pub(super) fn says(words: &'static [&'static str]) -> impl Fn(&Event) -> bool {
    move |event| words.iter().all(|word| event.message().contains(word))
}

#[test]
fn a_killed_fetch_goes_on_after_the_restart() -> Result<()> {
    let Some(mut live) = Live::build()? else { return Ok(()) };
    let image = bytes(6 * MIB + 3, 60);
    live.origin.put("/vmlinuz", image.clone(), Manner::Gated(3 * MIB + 1000));
    let url = live.origin.url("/vmlinuz");
    let path = live.profile("cloud", &format!("image:{url}#sha256={}", Sha256Digest::of(&image)))?;
    let client = live.client()?;
    let mut xpxe = live.place.serve()?;
    let url = format!("http://{SERVER_ADDRESS}:8080{path}");
    let mut command = client.command("curl");
    command.args(["-sS", "-o", "/dev/null", &url]);
    let _waits = client.spawn(command)?;
    let sums = live.state().join("partial").join(format!("{}~sums", path.trim_start_matches("/images/")));
    eventually(SOON, "three MiB and their digests on disk", || {
        fs::metadata(&sums).is_ok_and(|facts| facts.len() == 3 * 32)
    })?;
    xpxe.kill9()?;
    live.origin.set("/vmlinuz", Manner::Right);
    xpxe.restart()?;
    ensure!(curl(&client, &path)? == image);
    let last = live.origin.asked().pop().context("a request")?;
    ensure!(last.status == 206 && last.headers["range"] == format!("bytes={}-", 3 * MIB), "{last:?}");
    ensure!(last.headers["if-range"] == "\"v0\"", "{last:?}");
    xpxe.wait_for_event("the end of the fetch", SOON, says(&["fetched image", "6.3 MB"]))?;
    xpxe.stop()
}

#[test]
fn an_upstream_elsewhere_leads_nobody_to_what_only_this_host_reaches() -> Result<()> {
    let Some(mut live) = Live::build()? else { return Ok(()) };
    let secret = b"for this host only".to_vec();
    live.origin.put("/secret", secret.clone(), Manner::Right);
    let elsewhere = live.place.rack.server.run(|| Origin::start_at(SERVER_ADDRESS))??;
    let inside = live.origin.url("/secret");
    let port = inside.rsplit_once(':').context("a port")?.1.to_owned();
    let ways = [
        inside.clone(),
        format!("http://localhost:{port}/secret"),
        format!("http://[::ffff:127.0.0.1]:{port}/secret"),
        format!("http://0.0.0.0:{port}/secret"),
        "http://169.254.169.254/latest".to_owned(),
    ];
    let mut paths = Vec::new();
    for (number, way) in ways.iter().enumerate() {
        let path = format!("/redirect{number}");
        elsewhere.put(&path, Vec::new(), Manner::To(way.clone()));
        let kernel = format!("image:{}", elsewhere.url(&path));
        paths.push(live.profile(&format!("p{number}"), &kernel)?);
    }
    // To another place of the same kind it may lead.
    let image = bytes(1000, 69);
    elsewhere.put("/real", image.clone(), Manner::Right);
    elsewhere.put("/further", Vec::new(), Manner::To(elsewhere.url("/real")));
    let further = live.profile("further", &format!("image:{}", elsewhere.url("/further")))?;
    let own = live.profile("own", &format!("image:{inside}"))?;
    let client = live.client()?;
    let xpxe = live.place.serve()?;
    ensure!(curl(&client, &own)? == secret, "an upstream on this host that the configuration names");
    let asked = live.origin.asked().len();
    for (path, way) in paths.iter().zip(&ways) {
        ensure!(curl(&client, path).is_err(), "{way} was followed");
    }
    ensure!(live.origin.asked().len() == asked, "{:?}", live.origin.asked());
    ensure!(curl(&client, &further)? == image);
    xpxe.wait_for_event("why", SOON, says(&["redirects to", "which only this host reaches"]))?;
    xpxe.stop()
}

#[test]
fn an_upstream_that_is_away_is_told_and_machines_get_the_copy() -> Result<()> {
    let Some(mut live) = Live::build()? else { return Ok(()) };
    let image = bytes(MIB, 61);
    live.origin.put("/vmlinuz", image.clone(), Manner::Right);
    live.place.config += "\n[images]\ncheck = \"1s\"\n";
    let kernel = format!("image:{}", live.origin.url("/vmlinuz"));
    let path = live.profile("cloud", &kernel)?;
    let gone = live.profile("gone", &kernel.replace("vmlinuz", "initrd"))?;
    let client = live.client()?;
    let xpxe = live.place.serve()?;
    ensure!(curl(&client, &path)? == image);
    live.place.rack.server.run(|| live.origin.kill())?;
    let told = says(&[
        "cannot be compared with its upstream, machines get the copy that is here",
        "cannot be reached",
    ]);
    eventually(SOON, "a line that says so", || {
        curl(&client, &path).is_ok_and(|body| body == image) && xpxe.log().iter().any(&told)
    })?;
    ensure!(curl(&client, &gone).is_err());
    xpxe.wait_for_event("a line about the other", SOON, says(&["cannot be fetched", "cannot be reached"]))?;
    ensure!(curl(&client, &path)? == image);
    xpxe.stop()
}

#[test]
fn the_command_line_works_beside_the_daemon() -> Result<()> {
    let Some(live) = Live::build()? else { return Ok(()) };
    let (kernel, initrd) = (bytes(2 * MIB, 62), bytes(MIB, 63));
    live.origin.put("/d/vmlinuz", kernel.clone(), Manner::Right);
    let sums = format!("{} *vmlinuz\n", Sha256Digest::of(&kernel));
    live.origin.put("/d/SHA256SUMS", sums.into_bytes(), Manner::Right);
    let client = live.client()?;
    let xpxe = live.place.serve()?;
    let (url, list) = (live.origin.url("/d/vmlinuz"), live.origin.url("/d/SHA256SUMS"));
    let said = live.images(&xpxe, &["add", "vmlinuz", &url, "--digests", &list, "--pin"])?;
    ensure!(said.contains("2.1 MB") && said.contains("kernel = \"image:vmlinuz\""), "{said}");
    let file = live.place.rack.dir().join("initrd");
    fs::write(&file, &initrd)?;
    let said = live.images(&xpxe, &["add", "initrd", &file.display().to_string()])?;
    ensure!(said.contains("nobody has said which digest"), "{said}");
    ensure!(curl(&client, "/images/vmlinuz")? == kernel && curl(&client, "/images/initrd")? == initrd);

    let listed = live.images(&xpxe, &["list"])?;
    ensure!(listed.contains("vmlinuz") && listed.contains("a file") && listed.contains(&url), "{listed}");
    let shown: serde_json::Value =
        serde_json::from_str(&live.images(&xpxe, &["show", "vmlinuz", "--json"])?)?;
    ensure!(shown["sha256"] == Sha256Digest::of(&kernel).to_string() && shown["pinned"] == true, "{shown}");
    let said = live.images(&xpxe, &["show", "initrd"])?;
    ensure!(said.contains("yes, it has no upstream"), "{said}");
    // Whoever reads may have had enough.
    let config = live.place.rack.dir().join("xpxe.toml");
    let pipe =
        format!("{} images show vmlinuz --config {} | true", xpxe.binary().display(), config.display());
    let output = live.place.rack.server.command("bash").args(["-o", "pipefail", "-c", &pipe]).output()?;
    // Ended by SIGPIPE, as other commands are.
    let is_quiet = matches!(output.status.code(), Some(0 | 141)) && output.stderr.is_empty();
    ensure!(is_quiet, "{output:?}");
    let said = live.images(&xpxe, &["verify"])?;
    ensure!(said == "initrd: right\nvmlinuz: right\n", "{said}");
    live.images(&xpxe, &["unpin", "vmlinuz"])?;

    let mut config = live.place.config.clone();
    for (profile, image) in [("one", "vmlinuz"), ("two", "nosuch"), ("three", &url)] {
        config += &format!("\n[[profile]]\nname = \"{profile}\"\nkernel = \"image:{image}\"\n");
    }
    let file = live.place.rack.dir().join("check.toml");
    fs::write(&file, config)?;
    let said = xpxe.command(&["check", "--config", &file.display().to_string()]).unwrap_err().to_string();
    for line in [
        "image vmlinuz (kernel of profile one) is here, 2.1 MB",
        "error: image nosuch (kernel of profile two): there is no image nosuch; add it by: xpxe images add nosuch URL",
        "(kernel of profile three) is fetched from",
    ] {
        ensure!(said.contains(line), "{line} is not in {said}");
    }

    // Somebody changes a blob.
    let blob = live.state().join("blobs").join(Sha256Digest::of(&initrd).to_string());
    fs::remove_file(&blob)?;
    fs::write(&blob, b"other")?;
    let said = format!("{:#}", live.images(&xpxe, &["verify"]).unwrap_err());
    ensure!(said.contains("initrd: WRONG") && said.contains("vmlinuz: right"), "{said}");
    ensure!(curl(&client, "/images/initrd").is_err());
    xpxe.wait_for_event(
        "a line about it",
        SOON,
        says(&["the bytes of image initrd are gone", "xpxe images add initrd"]),
    )?;
    let said = live.images(&xpxe, &["gc"])?;
    ensure!(said.contains("which was damaged"), "{said}");
    let said = live.images(&xpxe, &["remove", "initrd"])?;
    ensure!(said.contains("removed image initrd"), "{said}");
    ensure!(curl(&client, "/images/initrd").is_err());

    for (words, why) in [
        (vec!["show", "initrd"], "there is no image initrd"),
        (vec!["add", "../x", &url], "cannot be an image"),
        (vec!["add", "a\nb", &url], "cannot be an image"),
        (vec!["add", "x", &url, "--sha256", "12"], "not a SHA-256 digest"),
        (vec!["add", "x", "ftp://h/x"], "write an http:// or https:// URL"),
        (vec!["add", "x", "/"], "it is not a regular file"),
        (vec!["add", "x", "/no/such/file"], "cannot be read"),
        (vec!["add", "x", &live.origin.url("/none")], "404"),
        (vec!["show", "x"], "there is no image x"),
    ] {
        let said = format!("{:#}", live.images(&xpxe, &words).unwrap_err());
        ensure!(said.contains(why), "{words:?}: {said}");
    }
    xpxe.stop()
}

#[test]
fn an_image_comes_from_s3_with_a_right_signature_only() -> Result<()> {
    let Some(mut live) = Live::build()? else { return Ok(()) };
    let server = S3::start(&live.place.rack)?;
    let image = bytes(3 * MIB + 17, 64);
    server.put("talos/vmlinuz", &image)?;
    let upstream = s3::upstream(&live.place.rack, ACCESS_KEY, "wrong")?;
    live.place.config += &upstream;
    let path = live.profile("cloud", "image:s3://boot/talos/vmlinuz")?;
    let plain = live.profile("plain", "image:s3://boot/talos/none")?;
    let client = live.client()?;
    let xpxe = live.place.serve()?;
    ensure!(curl(&client, &path).is_err());
    xpxe.wait_for_event(
        "why it is refused",
        SOON,
        says(&["403", "SignatureDoesNotMatch", "keys, region and endpoint"]),
    )?;
    // The keys are read anew for each fetch.
    s3::upstream(&live.place.rack, ACCESS_KEY, SECRET_KEY)?;
    eventually(SOON, "the image", || curl(&client, &path).is_ok_and(|body| body == image))?;
    ensure!(curl(&client, &plain).is_err());
    xpxe.wait_for_event("that there is none", SOON, says(&["s3://boot/talos/none", "404", "NoSuchKey"]))?;
    let log: Vec<String> = xpxe.log().iter().map(|event| event.json.to_string()).collect();
    for secret in [SECRET_KEY, "X-Amz-Signature", ACCESS_KEY] {
        ensure!(!log.iter().any(|line| line.contains(secret)), "the log has {secret}");
    }
    xpxe.stop()
}

#[test]
fn a_row_s_server_goes_on_while_the_site_s_is_away() -> Result<()> {
    let Some(mut live) = Live::build()? else { return Ok(()) };
    let site = live.place.rack.neighbour("site", SITE.0, SITE.1)?;
    let dir = live.place.rack.dir().join("site");
    fs::create_dir_all(dir.join("boot"))?;
    let (image, other) = (bytes(3 * MIB + 1, 65), bytes(MIB, 66));
    fs::write(dir.join("boot/vmlinuz"), &image)?;
    fs::write(dir.join("boot/other"), &other)?;
    let file = dir.join("xpxe.toml");
    let pins = live.place.sandbox.pin_dir().join("site");
    fs::write(
        &file,
        format!(
            "state_dir = {:?}\nboot_dir = {:?}\npin_dir = {pins:?}\n[[interface]]\nname = \"eth0\"\ndhcp = \"off\"\nfast_path = \"off\"\n",
            dir.join("state"),
            dir.join("boot")
        ),
    )?;
    let file = file.display().to_string();
    let binary = boot_tests::daemon::binary()?.display().to_string();
    site.output(
        &binary,
        &["images", "add", "vmlinuz", &format!("{}/boot/vmlinuz", dir.display()), "--config", &file],
    )?;
    let mut command = site.command(&binary);
    command.args(["serve", "--config", &file, "--log-format", "json"]);
    let serving = site.spawn(command)?;
    serving.wait_for_line("ready", SOON)?;

    live.place.config += "\n[images]\ncheck = \"1s\"\n";
    let stored = live.profile("stored", "image:http://10.77.0.7:8080/images/vmlinuz")?;
    let plain = live.profile("plain", "image:http://10.77.0.7:8080/files/other")?;
    let cold = live.profile("cold", "image:http://10.77.0.7:8080/files/vmlinuz")?;
    let client = live.client()?;
    let xpxe = live.place.serve()?;
    ensure!(curl(&client, &stored)? == image && curl(&client, &plain)? == other);
    serving.kill()?;
    ensure!(curl(&client, &cold).is_err(), "it was never here");
    let told = says(&["machines get the copy that is here"]);
    eventually(SOON, "a line that says so", || {
        let both = [(&stored, &image), (&plain, &other)];
        both.iter().all(|(path, bytes)| curl(&client, path).is_ok_and(|body| body == **bytes))
            && xpxe.log().iter().any(&told)
    })?;
    xpxe.stop()
}

#[test]
fn a_reload_brings_images_and_running_fetches_go_on() -> Result<()> {
    let Some(live) = Live::build()? else { return Ok(()) };
    let (first, second, third) = (bytes(4 * MIB, 67), bytes(MIB, 68), bytes(MIB, 69));
    live.origin.put("/vmlinuz", first.clone(), Manner::Gated(MIB));
    live.origin.put("/initrd", second.clone(), Manner::Right);
    let kernel = |path: &str| format!("image:{}", live.origin.url(path));
    let with = |kernels: &[String]| {
        let profiles = kernels.iter().enumerate().map(|(number, kernel)| {
            format!("\n[[profile]]\nname = \"p{number}\"\nkernel = \"vmlinuz\"\narch.arm64.kernel = \"{kernel}\"\n")
        });
        live.place.config.clone() + &profiles.collect::<String>()
    };
    let path = |kernel: &str| -> Result<String> {
        let image = ImageRef::read(kernel).context("an image")?.map_err(anyhow::Error::msg)?;
        Ok(format!("/images/{}", image.name))
    };
    let (vmlinuz, initrd) = (kernel("/vmlinuz"), kernel("/initrd"));
    let client = live.client()?;
    let xpxe = live.place.serve()?;
    let reload = |config: &str| -> Result<String> {
        xpxe.write_config(config)?;
        let file = live.place.rack.dir().join("xpxe.toml").display().to_string();
        xpxe.command(&["reload", "--config", &file])
    };
    ensure!(curl(&client, &path(&vmlinuz)?).is_err(), "nobody has named it");

    // A name that is new.
    let said = reload(&with(std::slice::from_ref(&vmlinuz)))?;
    ensure!(said == "added profile p0\n", "{said}");
    let target = live.place.rack.dir().join("downloaded");
    let mut command = client.command("curl");
    let url = format!("http://{SERVER_ADDRESS}:8080{}", path(&vmlinuz)?);
    command.args(["-sS", "--max-time", "60", "-f", "-o"]).arg(&target).arg(&url);
    let waits = client.spawn(command)?;
    eventually(SOON, "the first bytes", || fs::metadata(&target).is_ok_and(|file| file.len() > 0))?;

    // It is dropped while it comes, and another one is there.
    let said =
        reload(&(with(std::slice::from_ref(&initrd)) + "\n[images]\ncheck = \"1s\"\nsize = \"1G\"\n"))?;
    ensure!(
        said == "changed profile p0: arch\nchanged images.size\nchanged images.check\n",
        "what the command says is {said}"
    );
    ensure!(curl(&client, &path(&initrd)?)? == second);
    ensure!(waits.is_running(), "the transfer was over before the reload");
    live.origin.release();
    let ended = waits.wait(SOON)?;
    ensure!(ended.success() && fs::read(&target)? == first, "{ended}");
    // What was fetched stays, by the name that is in the store; nothing is fetched for a name that nobody has said.
    ensure!(curl(&client, &path(&vmlinuz)?)? == first);

    // The same URL has another digest: nobody gets the copy, nor what is there as long as that is something else.
    let digest = Sha256Digest::of(&third);
    let said = reload(&with(&[format!("{initrd}#sha256={digest}")]))?;
    ensure!(said.contains("changed profile p0: arch\n"), "{said}");
    ensure!(curl(&client, &path(&initrd)?).is_err());
    xpxe.wait_for_event("that it is another one", SOON, says(&["cannot be fetched", "SHA-256"]))?;
    live.origin.put("/initrd", third.clone(), Manner::Right);
    let initrd = path(&initrd)?;
    eventually(SOON, "the right one", || curl(&client, &initrd).is_ok_and(|body| body == third))?;
    xpxe.stop()
}
