//! Upstreams that drip, lie about their pieces, or have no end: they hold nothing up, and nobody loses his image.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use boot_engine::events::{BootEvent, Image, Sink, Step};
use boot_tests::wait::eventually;

use super::*;

/// Longer than [`SHORT`] waits for anything, and far shorter than what drips here takes.
const BOUNDED: Duration = Duration::from_secs(15);
/// How xpxe names what it has.
fn tag(of: &[u8]) -> Manner {
    Manner::Tagged(format!("\"sha256-{}\"", Sha256Digest::of(of)))
}

#[test]
fn an_upstream_whose_pieces_drip_holds_nobody_up() -> Result<()> {
    let (origin, served) = (Origin::start()?, Served::new()?);
    let image = bytes(40 * MIB, 70);
    origin.put("/k", image.clone(), tag(&image));
    origin.put("/k/pieces", vec![0; 40 * 32], Manner::Dripping);
    served.know("k", &origin.url("/k"), None)?;
    let started = Instant::now();
    ensure!(served.get("k")?.body == image);
    ensure!(started.elapsed() < BOUNDED, "{:?}", started.elapsed());
    ensure!(origin.asked().iter().any(|asked| asked.path == "/k/pieces"));
    Ok(())
}

#[test]
fn an_error_that_drips_is_told_soon() -> Result<()> {
    for (manner, word) in [
        (Manner::DrippingStatus(404), "is the URL right?"),
        (Manner::DrippingStatus(500), "500"),
        (Manner::DrippingHead, "has sent nothing for too long"),
    ] {
        let (origin, served) = (Origin::start()?, Served::new()?);
        origin.put("/k", bytes(MIB, 71), manner.clone());
        served.know("k", &origin.url("/k"), None)?;
        let started = Instant::now();
        ensure!(served.get("k")?.status == 502, "{manner:?}");
        ensure!(started.elapsed() < BOUNDED, "{manner:?}: {:?}", started.elapsed());
        let said = served.trouble("k")?;
        ensure!(said.contains(word), "{said}");
    }
    Ok(())
}

#[test]
fn a_digest_list_that_drips_is_given_up() -> Result<()> {
    let (origin, served) = (Origin::start()?, Served::new()?);
    origin.put("/SHA256SUMS", vec![b'a'; 2000], Manner::Dripping);
    let (url, images) = (origin.url("/SHA256SUMS"), Arc::clone(&served.images));
    let looked = served
        .runtime
        .block_on(async { tokio::time::timeout(BOUNDED, images.look_up(&url, "vmlinuz")).await });
    let said = looked.context("it waits for ever")?.unwrap_err().to_string();
    ensure!(said.contains("too slow"), "{said}");
    Ok(())
}

#[test]
fn a_list_of_pieces_is_no_longer_than_the_image_has_pieces() -> Result<()> {
    let (origin, served) = (Origin::start()?, Served::new()?);
    let image = bytes(MIB, 72);
    origin.put("/k", image.clone(), tag(&image));
    origin.put("/k/pieces", vec![0; 64 * MIB], Manner::Right);
    served.know("k", &origin.url("/k"), None)?;
    ensure!(served.get("k")?.body == image);
    // What the sockets between both have taken is not read.
    let sent = origin.sent();
    ensure!(sent < 32 * MIB as u64, "{sent} bytes were taken for a list of 32");
    Ok(())
}

#[test]
fn an_image_that_waits_for_its_turn_is_told_and_given_up() -> Result<()> {
    let (origin, events) = (Origin::start()?, Arc::new(Told::default()));
    let patience = Patience { read: SOON, window: SOON, ..SHORT };
    let temporary = tempfile::tempdir()?;
    let served = Served::patient(temporary.path(), patience, Arc::clone(&events) as Events, |_| {})?;
    let image = bytes(MIB, 73);
    let mut waiting = Vec::new();
    for number in 0..8 {
        let name = format!("slow{number}");
        origin.put(&format!("/{name}"), image.clone(), Manner::Gated(1000));
        served.know(&name, &origin.url(&format!("/{name}")), None)?;
        let mut stream = served.connect(&name, "")?;
        head(&mut stream)?;
        waiting.push(stream);
    }
    origin.put("/late", image.clone(), Manner::Right);
    served.know("late", &origin.url("/late"), None)?;
    let got = served.get("late")?;
    ensure!(got.status == 503, "{}", got.status);
    let seconds: u64 = got.headers.get("retry-after").context("when to come again")?.parse()?;
    ensure!((1..=120).contains(&seconds), "{seconds}");
    let told = events.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
    ensure!(told.iter().any(|line| line.contains("Waits") && line.contains("slow3")), "{told:?}");
    // It has failed at nothing, so the next one who asks is not sent away for that.
    origin.release();
    for stream in waiting {
        ensure!(rest_of(stream)? == image.len());
    }
    eventually(SOON, "its turn", || served.get("late").is_ok_and(|got| got.body == image))?;
    ensure!(served.images.counters.failures.load(Ordering::Relaxed) == 0);
    Ok(())
}

fn rest_of(mut stream: TcpStream) -> Result<usize> {
    let mut body = Vec::new();
    stream.read_to_end(&mut body)?;
    Ok(body.len())
}

/// What was told of images.
#[derive(Default)]
struct Told(Mutex<Vec<String>>);

impl Sink for Told {
    fn emit(&self, event: BootEvent) {
        if let Step::Image(image) = event.step {
            let image: Image = *image;
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{image:?}"));
        }
    }
}

#[test]
fn an_upstream_without_an_end_takes_no_image_away() -> Result<()> {
    let origin = Origin::start()?;
    let served = Served::with(|config| config.images.size = 20 * MIB as u64)?;
    let kept: Vec<Vec<u8>> = (0..2).map(|seed| bytes(4 * MIB, 74 + seed)).collect();
    for (number, image) in kept.iter().enumerate() {
        origin.put(&format!("/{number}"), image.clone(), Manner::Right);
        served.add(&format!("i{number}"), &origin.url(&format!("/{number}")), None)?;
    }
    let all_here = || kept.iter().all(|image| served.blob(image).exists());
    origin.put("/endless", bytes(40 * MIB, 76), Manner::Streaming);
    served.know("endless", &origin.url("/endless"), None)?;
    let got = served.get("endless")?;
    ensure!(got.status == 507, "{}", got.status);
    let said = served.trouble("endless")?;
    ensure!(said.contains("does not say how large") && said.contains("raise size"), "{said}");
    ensure!(all_here(), "machines lost an image to it");
    // One that says that it is as large as the store, and does not come.
    origin.put("/large", bytes(1000, 77), Manner::Promising(19 * MIB));
    served.know("large", &origin.url("/large"), None)?;
    ensure!(!served.get("large")?.is_whole());
    ensure!(all_here(), "machines lost an image to a promise");
    // Who comes gets the room that it needs, with and without a length.
    let (large, untold) = (bytes(18 * MIB, 78), bytes(3 * MIB, 79));
    origin.put("/large", large.clone(), Manner::Right);
    ensure!(served.get("large")?.body == large);
    eventually(SOON, "the image in the store", || served.blob(&large).exists())?;
    ensure!(!all_here());
    origin.put("/untold", untold.clone(), Manner::Streaming);
    served.know("untold", &origin.url("/untold"), None)?;
    ensure!(served.get("untold")?.body == untold);
    Ok(())
}

#[test]
fn an_add_that_fails_takes_nothing_from_the_machines() -> Result<()> {
    let (origin, served) = (Origin::start()?, Served::new()?);
    let (old, new) = (bytes(MIB, 80), bytes(MIB, 81));
    origin.put("/old", old.clone(), Manner::Right);
    origin.put("/new", new.clone(), Manner::Right);
    served.add("k", &origin.url("/old"), digest(&old))?;
    let name: ImageName = "k".parse().map_err(anyhow::Error::msg)?;
    let before = served.images.show(&name)?;
    for (path, sha256) in [("/old", digest(b"else")), ("/new", digest(b"else")), ("/absent", None)] {
        ensure!(served.add("k", &origin.url(path), sha256).is_err(), "{path}");
        let got = served.get("k")?;
        ensure!(got.status == 200 && got.body == old, "{path}: {} and {} bytes", got.status, got.body.len());
        let now = served.images.show(&name)?;
        ensure!(now == before, "{path}: {now:?}");
    }
    // One that goes well counts, with all that it says.
    served.add("k", &origin.url("/new"), digest(&new))?;
    ensure!(served.get("k")?.body == new);
    let now = served.images.show(&name)?;
    ensure!(now.expected == digest(&new) && now.url == Some(origin.url("/new")), "{now:?}");
    Ok(())
}

#[test]
fn what_is_here_and_not_what_is_expected_is_not_right() -> Result<()> {
    let (origin, served) = (Origin::start()?, Served::new()?);
    let image = bytes(MIB, 82);
    origin.put("/k", image.clone(), Manner::Right);
    served.add("k", &origin.url("/k"), None)?;
    let name: ImageName = "k".parse().map_err(anyhow::Error::msg)?;
    let record = served.store().join("names/k");
    let text = fs::read_to_string(&record)?;
    let other = format!("\"expected\": \"{}\"", Sha256Digest::of(b"else"));
    fs::write(&record, text.replace("\"expected\": null", &other))?;
    ensure!(served.images.show(&name)?.expected == digest(b"else"));
    ensure!(served.images.verify(&name)? != Some(true), "machines do not get these bytes");
    Ok(())
}

#[test]
fn a_fetch_without_a_byte_leaves_no_file() -> Result<()> {
    let (origin, served) = (Origin::start()?, Served::new()?);
    for path in ["/absent", "/stops"] {
        origin.put("/stops", bytes(1000, 83), Manner::Stopping(0));
        ensure!(served.add("k", &origin.url(path), None).is_err());
        let left: Vec<_> = fs::read_dir(served.store().join("partial"))?.flatten().collect();
        ensure!(left.is_empty(), "{path}: {left:?}");
    }
    Ok(())
}

#[test]
fn what_lies_in_the_place_of_an_image_is_named() -> Result<()> {
    let (origin, served) = (Origin::start()?, Served::new()?);
    let image = bytes(MIB, 84);
    let place = served.blob(&image);
    fs::create_dir_all(place.join("full"))?;
    origin.put("/k", image.clone(), Manner::Right);
    let said = served.add("k", &origin.url("/k"), None).unwrap_err().to_string();
    ensure!(said.contains(&place.display().to_string()), "{said}");
    Ok(())
}
