//! The store itself: how large it may be, who leaves, what others have done to it.

use std::os::unix::fs::symlink;

use boot_tests::sandbox::{Sandbox, root_or_skip};
use boot_tests::wait::eventually;
use nix::mount::{MsFlags, mount};

use super::*;

const LIMIT: u64 = 5 * MIB as u64;

fn name(text: &str) -> Result<ImageName> {
    text.parse().map_err(anyhow::Error::msg)
}

#[test]
fn who_was_not_wanted_for_longest_leaves_and_pinned_images_never_do() -> Result<()> {
    let origin = Origin::start()?;
    let served = Served::with(|config| config.images.size = LIMIT)?;
    let images: Vec<Vec<u8>> = (0..5).map(|seed| bytes(2 * MIB, 30 + seed)).collect();
    for (number, image) in images.iter().enumerate() {
        origin.put(&format!("/{number}"), image.clone(), Manner::Right);
    }
    let add = |number: usize| served.add(&format!("i{number}"), &origin.url(&format!("/{number}")), None);
    add(0)?;
    add(1)?;
    // The first one is wanted once more, so the second one is the oldest.
    ensure!(served.get("i0")?.body == images[0]);
    eventually(SOON, "the mark that it was wanted", || {
        let mark = |image: &[u8]| {
            fs::metadata(served.store().join("used").join(Sha256Digest::of(image).to_string()))
        };
        let time = |image: &[u8]| mark(image).and_then(|mark| mark.modified()).ok();
        time(&images[0]) > time(&images[1])
    })?;
    add(2)?;
    let here = |number: usize| served.blob(&images[number]).exists();
    ensure!(here(0) && !here(1) && here(2), "{:?}", served.blobs());
    served.images.pin(&name("i0")?, true)?;
    add(3)?;
    ensure!(here(0) && !here(2) && here(3));
    // What has left comes back when it is wanted.
    let asked = origin.asked().len();
    ensure!(served.get("i1")?.body == images[1] && origin.asked().len() == asked + 1);
    // A client may have its last byte before the store has the name of what it got.
    eventually(SOON, "the image in the store", || here(0) && here(1) && !here(3))?;
    served.images.pin(&name("i1")?, true)?;
    let said = add(4).unwrap_err().to_string();
    ensure!(said.contains("4.2 MB of it are pinned images") && said.contains("raise size"), "{said}");
    let got = served.get("i4")?;
    ensure!(got.status == 507 && here(0) && here(1), "{}", got.status);
    ensure!(served.get("i1")?.body == images[1]);
    served.images.pin(&name("i0")?, false)?;
    add(4)?;
    ensure!(!here(0) && here(1) && here(4));
    Ok(())
}

#[test]
fn what_has_no_upstream_never_leaves() -> Result<()> {
    let origin = Origin::start()?;
    let served = Served::with(|config| config.images.size = LIMIT)?;
    let (own, other) = (bytes(3 * MIB, 40), bytes(3 * MIB, 41));
    let file = served.dir.join("own");
    fs::write(&file, &own)?;
    let file = fs::File::open(file)?;
    let mut told = Vec::new();
    served.images.import(&name("own")?, &file, digest(&own), &mut |done, total| told.push((done, total)))?;
    ensure!(told.last() == Some(&(own.len() as u64, own.len() as u64)), "{told:?}");
    ensure!(served.get("own")?.body == own);
    origin.put("/other", other, Manner::Right);
    ensure!(served.add("other", &origin.url("/other"), None).is_err());
    ensure!(served.get("own")?.body == own);
    fs::write(served.dir.join("small"), "small")?;
    let file = fs::File::open(served.dir.join("small"))?;
    let said =
        served.images.import(&name("x")?, &file, digest(b"else"), &mut |_, _| {}).unwrap_err().to_string();
    ensure!(said.contains("is not the file that was expected"), "{said}");
    ensure!(served.get("x")?.status == 404);
    Ok(())
}

#[test]
fn an_image_larger_than_the_store_is_refused_before_it_comes() -> Result<()> {
    let origin = Origin::start()?;
    let served = Served::with(|config| config.images.size = LIMIT)?;
    origin.put("/large", bytes(6 * MIB, 42), Manner::Gated(1000));
    let said = served.add("large", &origin.url("/large"), None).unwrap_err().to_string();
    ensure!(said.contains("do not fit into the store"), "{said}");
    // One that does not say how large it is ends when it is too much.
    origin.put("/endless", bytes(40 * MIB, 43), Manner::Streaming);
    let served = Served::with(|config| config.images.size = 20 * MIB as u64)?;
    let said = served.add("endless", &origin.url("/endless"), None).unwrap_err().to_string();
    ensure!(said.contains("do not fit into the store"), "{said}");
    ensure!(fs::read_dir(served.store().join("partial"))?.count() == 0, "what came of it takes no room");
    Ok(())
}

#[test]
fn a_full_disk_says_so_and_serves_what_is_there() -> Result<()> {
    if !root_or_skip() {
        return Ok(());
    }
    let sandbox = Sandbox::enter()?;
    let disk = sandbox.dir().join("disk");
    fs::create_dir(&disk)?;
    mount(Some("xpxe-test"), &disk, Some("tmpfs"), MsFlags::empty(), Some("size=32m"))?;
    let origin = Origin::start()?;
    let served = Served::at(&disk, |_| {})?;
    let (small, large) = (bytes(8 * MIB, 44), bytes(25 * MIB, 45));
    origin.put("/small", small.clone(), Manner::Right);
    origin.put("/large", large.clone(), Manner::Right);
    served.add("small", &origin.url("/small"), None)?;
    served.images.pin(&name("small")?, true)?;
    served.know("large", &origin.url("/large"), None)?;
    let got = served.get("large")?;
    ensure!(got.status == 507, "{}", got.status);
    let said = served.trouble("large")?;
    ensure!(
        said.contains("the disk of") && said.contains("is full") && said.contains("free space there"),
        "{said}"
    );
    ensure!(served.get("small")?.body == small);
    // One that fills up meanwhile, by somebody else.
    origin.put("/middle", bytes(16 * MIB, 46), Manner::Gated(MIB));
    served.know("middle", &origin.url("/middle"), None)?;
    let reading = served.connect("middle", "")?;
    let partial = served.store().join("partial/middle");
    eventually(SOON, "a MiB on disk", || {
        fs::metadata(&partial).is_ok_and(|facts| facts.len() == MIB as u64)
    })?;
    let filled = fs::write(disk.join("other"), vec![0; 30 * MIB]);
    ensure!(filled.is_err(), "the disk has room for more");
    origin.release();
    ensure!(!rest(reading)?.is_whole());
    let said = served.trouble("middle")?;
    ensure!(said.contains("No space left") && said.contains("free space there"), "{said}");
    ensure!(served.get("small")?.body == small);
    fs::remove_file(disk.join("other"))?;
    ensure!(served.get("middle")?.is_whole());
    Ok(())
}

#[test]
fn a_blob_that_somebody_has_changed_is_not_served() -> Result<()> {
    let (origin, served) = (Origin::start()?, Served::new()?);
    let image = bytes(2 * MIB, 50);
    origin.put("/k", image.clone(), Manner::Right);
    served.add("k", &origin.url("/k"), digest(&image))?;
    ensure!(served.get("k")?.body == image && origin.asked().len() == 1);
    let blob = served.blob(&image);
    // In place, by another file, by a link, and by something that is no file.
    let mut wrong = image.clone();
    wrong[7] ^= 1;
    let image_name = name("k")?;
    let replace = |by: &str| -> Result<()> {
        match by {
            "bytes" => {
                use std::os::unix::fs::FileExt as _;
                use std::os::unix::fs::PermissionsExt as _;
                fs::set_permissions(&blob, fs::Permissions::from_mode(0o600))?;
                fs::File::options().write(true).open(&blob)?.write_all_at(b"x", 9)?;
            }
            "file" => {
                let other = served.dir.join("other");
                fs::write(&other, &wrong)?;
                fs::rename(other, &blob)?;
            }
            "link" => {
                fs::remove_file(&blob)?;
                symlink("/etc/passwd", &blob)?;
            }
            "nothing" => fs::remove_file(&blob)?,
            _ => {
                fs::remove_file(&blob)?;
                nix::unistd::mkfifo(&blob, nix::sys::stat::Mode::S_IRWXU)?;
            }
        }
        Ok(())
    };
    for (number, by) in ["bytes", "file", "link", "pipe", "nothing"].into_iter().enumerate() {
        let is_right = || served.images.verify(&image_name).is_ok_and(|right| right == Some(true));
        eventually(SOON, "the blob", || blob.is_file() && is_right())?;
        replace(by)?;
        // The fetch before may just be ending, and then its bytes are the answer.
        eventually(SOON, by, || {
            served.get("k").is_ok_and(|got| got.status == 200 && got.body == image)
                && origin.asked().len() == 2 + number
        })?;
    }
    ensure!(served.images.counters.damaged.load(Ordering::Relaxed) == 2);
    // Without an upstream nobody gets it.
    eventually(SOON, "the blob", || blob.is_file())?;
    origin.kill();
    replace("bytes")?;
    ensure!(served.get("k")?.status == 502);
    Ok(())
}

#[test]
fn names_and_parts_that_somebody_has_changed_are_told() -> Result<()> {
    let (origin, served) = (Origin::start()?, Served::new()?);
    let image = bytes(3 * MIB + 9, 51);
    origin.put("/k", image.clone(), Manner::Right);
    served.add("k", &origin.url("/k"), None)?;
    let record = served.store().join("names/k");
    let whole = fs::read(&record)?;
    for wrong in [&b"{"[..], b"", b"\0\xff", b"{\"sha256\": \"../../etc/passwd\"}", &vec![b'['; 100_000]] {
        fs::write(&record, wrong)?;
        ensure!(served.get("k")?.status == 500);
        let said = served.images.show(&name("k")?).unwrap_err().to_string();
        ensure!(said.contains("is no record of an image") && said.contains("xpxe images remove k"), "{said}");
    }
    ensure!(served.images.list()?.iter().any(|(_, record)| record.is_err()));
    served.images.remove(&name("k")?)?;
    fs::write(&record, whole)?;
    ensure!(served.get("k")?.body == image);

    // What has come of an image, with a wrong byte in it: the next one goes on before that.
    let tiny = Manner::Stopping(2 * MIB + 5);
    origin.put("/p", image.clone(), tiny);
    let part = served.store().join("partial/p");
    let url = origin.url("/p");
    origin.set("/p", Manner::Gated(2 * MIB + 5));
    let other = Served::at(&served.dir, |_| {})?;
    other.know("p", &url, None)?;
    let mut reading = other.connect("p", "")?;
    head(&mut reading)?;
    let mut body = vec![0; 2 * MIB];
    reading.read_exact(&mut body)?;
    // As a kill would end it.
    drop((reading, other));
    origin.set("/p", Manner::Right);
    let mut changed = fs::read(&part)?;
    changed[MIB + 3] ^= 1;
    fs::write(&part, changed)?;
    let again = Served::at(&served.dir, |_| {})?;
    ensure!(again.get("p")?.body == image);
    let last = origin.asked().into_iter().rfind(|asked| asked.path == "/p").context("a request")?;
    ensure!(last.headers.get("range") == Some(&format!("bytes={MIB}-")), "{last:?}");
    Ok(())
}

#[test]
fn a_copy_is_served_while_its_upstream_is_away_and_replaced_when_that_has_another() -> Result<()> {
    let origin = Origin::start()?;
    let served = Served::with(|config| config.images.check = Duration::ZERO)?;
    let (old, new) = (bytes(MIB, 52), bytes(MIB, 53));
    origin.put("/k", old.clone(), Manner::Right);
    served.add("k", &origin.url("/k"), None)?;
    let asked = |status: u16| origin.asked().iter().filter(|asked| asked.status == status).count();
    ensure!(served.get("k")?.body == old);
    eventually(SOON, "a comparison", || asked(304) == 1)?;
    origin.put("/k", new.clone(), Manner::Right);
    eventually(SOON, "the new file", || served.get("k").is_ok_and(|got| got.body == new))?;
    ensure!(asked(200) == 2, "each was fetched once");
    origin.kill();
    eventually(SOON, "a comparison that fails", || {
        served.get("k").is_ok_and(|got| got.body == new)
            && served.images.counters.stale.load(Ordering::Relaxed) > 0
    })?;
    let said = served.trouble("k")?;
    ensure!(said.contains("cannot be reached"), "{said}");
    ensure!(served.get("k")?.body == new);
    Ok(())
}

#[test]
fn a_clean_up_removes_what_nobody_needs() -> Result<()> {
    let (origin, served) = (Origin::start()?, Served::new()?);
    let (kept, dropped) = (bytes(MIB, 54), bytes(MIB + 1, 55));
    origin.put("/k", dropped.clone(), Manner::Right);
    served.add("k", &origin.url("/k"), None)?;
    origin.put("/k", kept.clone(), Manner::Right);
    served.add("k", &origin.url("/k"), None)?;
    fs::write(served.store().join("partial/gone~facts"), "{}")?;
    let said = served.images.clean(true)?;
    ensure!(said.what.len() >= 3 && served.blob(&dropped).exists(), "{said:?}");
    let done = served.images.clean(false)?;
    ensure!(done == said, "{done:?}");
    ensure!(!served.blob(&dropped).exists() && served.get("k")?.body == kept);
    ensure!(served.images.clean(false)?.what.is_empty());
    Ok(())
}

#[test]
fn two_names_of_one_content_are_one_blob() -> Result<()> {
    let (origin, served) = (Origin::start()?, Served::new()?);
    let image = bytes(MIB, 56);
    origin.put("/a", image.clone(), Manner::Right);
    served.add("a", &origin.url("/a"), None)?;
    // Known by its digest already, so nobody is asked.
    served.know("b", &origin.url("/b"), digest(&image))?;
    ensure!(served.get("b")?.body == image && origin.asked().len() == 1);
    served.add("c", &origin.url("/a"), None)?;
    served.images.remove(&name("a")?)?;
    ensure!(served.get("a")?.status == 404 && served.get("c")?.body == image);
    served.images.remove(&name("c")?)?;
    ensure!(served.blobs().is_empty());
    Ok(())
}
