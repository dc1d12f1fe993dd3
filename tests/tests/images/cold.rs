//! Images that are not here yet: one fetch for all, and who gets which bytes while it runs.

use std::sync::Barrier;
use std::thread;

use boot_tests::wait::eventually;

use super::*;

#[test]
fn two_hundred_clients_of_a_cold_image_are_one_fetch_and_read_while_it_runs() -> Result<()> {
    const CLIENTS: usize = 200;
    let (origin, served) = (Origin::start()?, Served::new()?);
    let image = bytes(4 * MIB + 77, 1);
    origin.put("/vmlinuz", image.clone(), Manner::Gated(MIB));
    served.know("vmlinuz", &origin.url("/vmlinuz"), None)?;
    let all_have_the_beginning = Barrier::new(CLIENTS + 1);
    thread::scope(|scope| {
        let client = || -> Result<()> {
            // The upstream holds the rest back until everybody has this.
            let begun = served.connect("vmlinuz", "").and_then(|mut stream| {
                let got = head(&mut stream)?;
                let mut beginning = vec![0; MIB];
                stream.read_exact(&mut beginning).context("bytes while the fetch runs")?;
                Ok((stream, got, beginning))
            });
            all_have_the_beginning.wait();
            let (mut stream, got, mut body) = begun?;
            stream.read_to_end(&mut body)?;
            ensure!(got.status == 200 && body == image, "{} and {} bytes", got.status, body.len());
            Ok(())
        };
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
        all_have_the_beginning.wait();
        ensure!(origin.asked().len() == 1, "asked {} times", origin.asked().len());
        origin.release();
        clients
            .into_iter()
            .try_for_each(|client| client.join().unwrap_or_else(|_| anyhow::bail!("a client panicked")))
    })?;
    ensure!(served.get("vmlinuz")?.body == image);
    ensure!(origin.asked().len() == 1 && origin.sent() == image.len() as u64, "one fetch, counted there");
    Ok(())
}

#[test]
fn a_digest_alone_holds_the_bytes_until_all_of_them_are_right() -> Result<()> {
    let (origin, served) = (Origin::start()?, Served::new()?);
    let image = bytes(3 * MIB, 2);
    origin.put("/k", image.clone(), Manner::Gated(2 * MIB));
    served.know("k", &origin.url("/k"), digest(&image))?;
    let mut stream = served.connect("k", "")?;
    let got = head(&mut stream)?;
    ensure!(got.headers["content-length"] == image.len().to_string(), "{got:?}");
    origin.wait_for_sent(2 * MIB as u64)?;
    stream.set_read_timeout(Some(SILENCE))?;
    ensure!(stream.read(&mut [0]).is_err(), "a byte before the digest was known to be right");
    stream.set_read_timeout(Some(SOON))?;
    origin.release();
    let mut body = Vec::new();
    stream.read_to_end(&mut body)?;
    ensure!(body == image);
    Ok(())
}

#[test]
fn several_ranges_are_the_whole_of_what_is_coming_and_parts_of_what_is_here() -> Result<()> {
    const TWO: &str = "Range: bytes=0-1,-3\r\n";
    let (origin, served) = (Origin::start()?, Served::new()?);
    let image = bytes(2 * MIB, 9);
    origin.put("/k", image.clone(), Manner::Gated(MIB));
    served.know("k", &origin.url("/k"), None)?;
    let mut stream = served.connect("k", TWO)?;
    let got = head(&mut stream)?;
    ensure!(got.status == 200 && got.headers["content-length"] == image.len().to_string(), "{got:?}");
    origin.release();
    let mut body = Vec::new();
    stream.read_to_end(&mut body)?;
    ensure!(body == image);
    eventually(SOON, "the blob", || served.get("k").is_ok_and(|got| got.headers.contains_key("etag")))?;
    let got = served.get_with("k", TWO)?;
    ensure!(got.status == 206 && got.is_whole(), "{:?}", got.headers);
    ensure!(got.headers["content-type"].starts_with("multipart/byteranges"), "{:?}", got.headers);
    let text = String::from_utf8_lossy(&got.body).into_owned();
    for part in [(0, 1), (2 * MIB - 3, 2 * MIB - 1)] {
        let line = format!("bytes {}-{}/{}", part.0, part.1, 2 * MIB);
        ensure!(text.contains(&line), "{line} is not in {text}");
    }
    Ok(())
}

#[test]
fn of_a_wrong_file_nobody_gets_a_byte() -> Result<()> {
    let (origin, served) = (Origin::start()?, Served::new()?);
    let (right, wrong) = (bytes(2 * MIB, 3), bytes(2 * MIB, 4));
    origin.put("/k", wrong.clone(), Manner::Right);
    served.know("k", &origin.url("/k"), digest(&right))?;
    for _ in 0..3 {
        let got = served.get("k")?;
        ensure!(got.body.is_empty() || got.status == 502, "{} bytes of it", got.body.len());
        ensure!(!got.is_whole() || got.status == 502, "{got:?}");
    }
    let said = served.trouble("k")?;
    ensure!(
        said.contains(&Sha256Digest::of(&wrong).to_string()) && said.contains("nobody got a byte"),
        "{said}"
    );
    ensure!(served.blobs().is_empty() && served.images.counters.wrong.load(Ordering::Relaxed) >= 3);
    origin.put("/k", right.clone(), Manner::Right);
    ensure!(served.get("k")?.body == right);
    Ok(())
}

#[test]
fn what_was_here_once_is_fetched_again_piece_by_piece() -> Result<()> {
    let (origin, served) = (Origin::start()?, Served::new()?);
    let image = bytes(4 * MIB + 5, 5);
    origin.put("/k", image.clone(), Manner::Right);
    served.add("k", &origin.url("/k"), digest(&image))?;
    fs::remove_file(served.blob(&image))?;
    origin.set("/k", Manner::Gated(2 * MIB + 7));
    let mut stream = served.connect("k", "")?;
    let got = head(&mut stream)?;
    let mut body = vec![0; 2 * MIB];
    stream.read_exact(&mut body).context("pieces while the fetch runs")?;
    stream.set_read_timeout(Some(SILENCE))?;
    ensure!(stream.read(&mut [0]).is_err(), "a piece that is not whole yet");
    stream.set_read_timeout(Some(SOON))?;
    origin.release();
    stream.read_to_end(&mut body)?;
    ensure!(got.status == 200 && body == image);

    // The same, but with a wrong byte in the third piece.
    fs::remove_file(served.blob(&image))?;
    let mut wrong = image.clone();
    wrong[2 * MIB + 5] ^= 1;
    origin.put("/k", wrong, Manner::Right);
    let got = served.get("k")?;
    ensure!(got.body.len() <= 2 * MIB && image.starts_with(&got.body), "{} bytes", got.body.len());
    ensure!(served.trouble("k")?.contains("is not the file that was expected"));
    Ok(())
}

#[test]
fn sums_that_somebody_has_changed_do_no_harm() -> Result<()> {
    let (origin, served) = (Origin::start()?, Served::new()?);
    let image = bytes(3 * MIB, 6);
    origin.put("/k", image.clone(), Manner::Right);
    served.add("k", &origin.url("/k"), digest(&image))?;
    fs::remove_file(served.blob(&image))?;
    let sums = served.store().join("sums").join(Sha256Digest::of(&image).to_string());
    let mut changed = fs::read(&sums)?;
    changed[40] ^= 1;
    fs::write(&sums, changed)?;
    ensure!(served.get("k")?.body == image, "the digest decides");
    Ok(())
}

#[test]
fn ranges_and_tags_are_those_of_the_digest() -> Result<()> {
    let (origin, served) = (Origin::start()?, Served::new()?);
    let image = bytes(2 * MIB, 7);
    origin.put("/k.efi", image.clone(), Manner::Gated(MIB));
    served.know("k.efi", &origin.url("/k.efi"), None)?;
    // While it comes.
    let part = served.get_with("k.efi", "Range: bytes=100-199\r\n")?;
    ensure!(part.status == 206 && part.body == image[100..200], "{}", part.status);
    origin.release();
    ensure!(served.get("k.efi")?.body == image);
    // Whoever has read all of it may be ahead of the name.
    eventually(SOON, "the blob", || served.get("k.efi").is_ok_and(|got| got.headers.contains_key("etag")))?;
    let got = served.get_with("k.efi", "Range: bytes=-5\r\n")?;
    ensure!(got.status == 206 && got.body == image[image.len() - 5..]);
    let tag = format!("\"sha256-{}\"", Sha256Digest::of(&image));
    ensure!(got.headers["etag"] == tag && got.headers["content-type"] == "application/efi", "{got:?}");
    ensure!(served.get_with("k.efi", &format!("If-None-Match: {tag}\r\n"))?.status == 304);
    let other = served.get_with("k.efi", "Range: bytes=5-\r\nIf-Range: \"other\"\r\n")?;
    ensure!(other.status == 200 && other.body == image);
    Ok(())
}

#[test]
fn a_fetch_goes_on_where_it_stopped() -> Result<()> {
    let (origin, served) = (Origin::start()?, Served::new()?);
    let image = bytes(5 * MIB + 9, 8);
    origin.put("/k", image.clone(), Manner::Stopping(2 * MIB));
    served.know("k", &origin.url("/k"), None)?;
    ensure!(served.get("k")?.body == image);
    let asked = origin.asked();
    ensure!(asked.len() == 3, "{asked:?}");
    for (asked, from) in asked.iter().zip([0, 2 * MIB, 4 * MIB]) {
        let range = (from > 0).then(|| format!("bytes={from}-"));
        ensure!(asked.headers.get("range") == range.as_ref(), "{asked:?}");
        ensure!(
            asked.headers.get("if-range").map(String::as_str) == (from > 0).then_some("\"v0\""),
            "{asked:?}"
        );
    }
    ensure!(origin.sent() == image.len() as u64, "no byte came twice");
    Ok(())
}

#[test]
fn a_file_of_unknown_length_comes_whole() -> Result<()> {
    let (origin, served) = (Origin::start()?, Served::new()?);
    let image = bytes(3 * MIB + 1, 9);
    origin.put("/k", image.clone(), Manner::Streaming);
    served.know("k", &origin.url("/k"), None)?;
    let got = served.get("k")?;
    ensure!(got.is_whole() && got.body == image, "firmware needs the length beforehand");
    Ok(())
}

#[test]
fn another_xpxe_is_an_upstream() -> Result<()> {
    let (origin, site, row) = (Origin::start()?, Served::new()?, Served::new()?);
    let image = bytes(4 * MIB, 10);
    origin.put("/k", image.clone(), Manner::Right);
    site.add("k", &origin.url("/k"), None)?;
    row.know("k", &site.url("k"), None)?;
    ensure!(row.get("k")?.body == image);
    // A reader of a fetch under way gets no tag.
    eventually(SOON, "the blob", || row.get("k").is_ok_and(|got| got.headers.contains_key("etag")))?;
    ensure!(row.get("k")?.headers["etag"] == site.get("k")?.headers["etag"]);
    // Its word about the pieces is as good as its word about the digest, so bytes go on at once.
    let pieces = site.get("k/pieces")?;
    ensure!(pieces.body.len() == 4 * 32 && pieces.body.starts_with(&Sha256Digest::of(&image[..MIB]).0));
    // The site is away: the row boots on.
    drop(site);
    ensure!(row.get("k")?.body == image);

    // Both are cold, and the site's upstream is slow: the row's machines read while both fetches run.
    let (site, row) = (Served::new()?, Served::new()?);
    origin.set("/k", Manner::Gated(MIB));
    site.know("k", &origin.url("/k"), None)?;
    row.know("k", &site.url("k"), None)?;
    let mut stream = row.connect("k", "")?;
    let got = head(&mut stream)?;
    let mut body = vec![0; MIB];
    stream.read_exact(&mut body).context("bytes through two servers")?;
    origin.release();
    stream.read_to_end(&mut body)?;
    ensure!(got.status == 200 && body == image);
    Ok(())
}

#[test]
fn a_profile_s_url_is_fetched_and_no_other() -> Result<()> {
    let origin = Origin::start()?;
    let image = bytes(MIB, 11);
    origin.put("/talos/vmlinuz", image.clone(), Manner::Right);
    let kernel = format!("image:{}", origin.url("/talos/vmlinuz"));
    let name =
        boot_engine::config::ImageRef::read(&kernel).context("an image")?.map_err(anyhow::Error::msg)?.name;
    let text = format!(
        "[[interface]]\nname = \"eth0\"\ndhcp = \"off\"\n[[profile]]\nname = \"talos\"\nkernel = \"{kernel}\"\n"
    );
    let profiles = boot_engine::config::parse(&text, "test")?.profiles;
    let served = Served::with(|config| config.profiles = profiles)?;
    ensure!(served.get(name.as_str())?.body == image);
    for other in ["vmlinuz", &origin.url("/talos/vmlinuz"), "vmlinuz-000000000000"] {
        ensure!(served.get(other)?.status == 404, "{other}");
    }
    ensure!(origin.asked().len() == 1);
    Ok(())
}
