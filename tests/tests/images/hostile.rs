//! Upstreams that lie, stop, go in circles and keep us waiting; lists and names that are none.

use std::time::Instant;

use boot_tests::wait::eventually;

use super::*;

/// What an image's failure says, for a client without a byte of it.
fn failure(manner: Manner, with_digest: bool) -> Result<String> {
    let (origin, served) = (Origin::start()?, Served::new()?);
    let image = bytes(2 * MIB, 20);
    origin.put("/k", image.clone(), manner);
    served.know("k", &origin.url("/k"), digest(&image).filter(|_| with_digest))?;
    let started = Instant::now();
    let got = served.get("k")?;
    ensure!(!(got.status == 200 && got.is_whole()), "it was served");
    ensure!(!with_digest || got.status != 200 || got.body.is_empty(), "{} bytes", got.body.len());
    ensure!(started.elapsed() < SOON, "it took {:?}", started.elapsed());
    ensure!(served.blobs().is_empty());
    let said = served.trouble("k")?;
    ensure!(said.contains(&origin.url("/k")) && !said.contains('\n'), "{said}");
    Ok(said)
}

#[test]
fn an_upstream_that_promises_more_than_it_has() -> Result<()> {
    for with_digest in [false, true] {
        let said = failure(Manner::Promising(1000), with_digest)?;
        ensure!(said.contains("bytes"), "{said}");
    }
    Ok(())
}

#[test]
fn an_upstream_that_says_less_than_it_sends() -> Result<()> {
    let said = failure(Manner::Hiding(1000), true)?;
    ensure!(said.contains("is not the file that was expected"), "{said}");
    Ok(())
}

#[test]
fn an_upstream_that_stops_in_the_middle_is_gone_on_with_later() -> Result<()> {
    let (origin, served) = (Origin::start()?, Served::new()?);
    let image = bytes(4 * MIB, 21);
    origin.put("/k", image.clone(), Manner::Stopping(1000));
    served.know("k", &origin.url("/k"), None)?;
    let got = served.get("k")?;
    ensure!(got.status == 200 && !got.is_whole() && image.starts_with(&got.body), "{}", got.status);
    let said = served.trouble("k")?;
    ensure!(said.contains("stopped in the middle") && !said.contains("goes on from there"), "{said}");
    // A few bytes are no piece yet. Then more comes, and what is whole stays.
    origin.set("/k", Manner::Stopping(MIB + MIB / 2));
    let first = served.get("k")?;
    ensure!(image.starts_with(&first.body));
    origin.set("/k", Manner::Right);
    ensure!(served.get("k")?.body == image);
    Ok(())
}

#[test]
fn an_upstream_that_redirects_in_a_circle() -> Result<()> {
    let (origin, served) = (Origin::start()?, Served::new()?);
    origin.put("/a", Vec::new(), Manner::To(origin.url("/b")));
    origin.put("/b", Vec::new(), Manner::To(origin.url("/a")));
    origin.put("/self", Vec::new(), Manner::To("/self".to_owned()));
    for path in ["/a", "/self"] {
        served.know("k", &origin.url(path), None)?;
        ensure!(served.get("k")?.status == 502);
        let said = served.trouble("k")?;
        ensure!(said.contains("redirects in a circle"), "{said}");
    }
    ensure!(origin.asked().len() == 3, "no more than it takes to see it: {}", origin.asked().len());
    // One that leads somewhere is followed.
    let image = bytes(1000, 22);
    origin.put("/real", image.clone(), Manner::Right);
    origin.put("/b", Vec::new(), Manner::To("/real".to_owned()));
    served.know("k", &origin.url("/a"), None)?;
    ensure!(served.get("k")?.body == image);
    // A longer way than anybody needs is not.
    for step in 0..30 {
        origin.put(&format!("/{step}"), Vec::new(), Manner::To(format!("/{}", step + 1)));
    }
    served.know("long", &origin.url("/0"), None)?;
    ensure!(served.get("long")?.status == 502);
    let said = served.trouble("long")?;
    ensure!(said.contains("redirects too often"), "{said}");
    Ok(())
}

#[test]
fn an_upstream_that_is_slow_for_ever() -> Result<()> {
    let said = failure(Manner::Trickling, false)?;
    ensure!(said.contains("is too slow"), "{said}");
    let said = failure(Manner::Silent, false)?;
    ensure!(said.contains("has sent nothing for too long"), "{said}");
    Ok(())
}

#[test]
fn an_upstream_that_refuses() -> Result<()> {
    for (status, word) in
        [(404, "is the URL right?"), (403, "may this host read it?"), (500, "500"), (204, "204")]
    {
        let said = failure(Manner::Status(status), true)?;
        ensure!(said.contains(word), "{said}");
    }
    Ok(())
}

#[test]
fn an_upstream_whose_file_changes_meanwhile() -> Result<()> {
    let (origin, served) = (Origin::start()?, Served::new()?);
    let (old, new) = (bytes(3 * MIB, 23), bytes(3 * MIB, 24));
    origin.put("/k", old.clone(), Manner::Gated(MIB));
    served.know("k", &origin.url("/k"), None)?;
    let mut stream = served.connect("k", "")?;
    head(&mut stream)?;
    let mut body = vec![0; MIB];
    stream.read_exact(&mut body)?;
    // Its connection ends, and what is behind is another file.
    origin.put("/k", new.clone(), Manner::Right);
    origin.set("/k", Manner::Stopping(0));
    let stopped = Origin::start()?;
    drop(stopped);
    origin.put("/k", new.clone(), Manner::Right);
    origin.release();
    stream.read_to_end(&mut body).ok();
    ensure!(body == old, "who began with the old file ends with it: {} bytes", body.len());

    origin.put("/k", old.clone(), Manner::Stopping(MIB));
    served.know("x", &origin.url("/k"), None)?;
    let reading = served.connect("x", "")?;
    origin.wait_for_sent((3 * MIB + MIB) as u64)?;
    origin.put("/k", new.clone(), Manner::Right);
    let got = rest(reading)?;
    ensure!(old.starts_with(&got.body) || got.body == new, "a mixture of both");
    ensure!(served.get("x")?.body == new);
    Ok(())
}

#[test]
fn who_was_promised_a_length_gets_no_other_file_cut_to_it() -> Result<()> {
    let (origin, served) = (Origin::start()?, Served::new()?);
    let (right, shorter) = (bytes(30 * MIB, 26), bytes(20 * MIB, 27));
    origin.put("/k", shorter.clone(), Manner::Stopping(MIB));
    served.know("k", &origin.url("/k"), digest(&right))?;
    let mut stream = served.connect("k", "")?;
    let mut got = head(&mut stream)?;
    ensure!(got.headers["content-length"] == shorter.len().to_string());
    origin.put("/k", right.clone(), Manner::Right);
    stream.read_to_end(&mut got.body).ok();
    ensure!(got.body.is_empty(), "{} bytes of another file than was promised", got.body.len());
    eventually(SOON, "the right file", || served.get("k").is_ok_and(|got| got.body == right))
}

#[test]
fn a_list_with_a_wrong_line_is_not_used() -> Result<()> {
    let (origin, served) = (Origin::start()?, Served::new()?);
    let image = bytes(1000, 25);
    let right = Sha256Digest::of(&image);
    let look_up = |list: &str, path: &str| served.runtime.block_on(served.images.look_up(list, path));
    origin.put("/SHA256SUMS", format!("{right}  other\n{right} *dir/vmlinuz\n").into_bytes(), Manner::Right);
    let url = origin.url("/SHA256SUMS");
    ensure!(look_up(&url, &origin.url("/pub/dir/vmlinuz?x=1"))? == right);
    let said = look_up(&url, &origin.url("/pub/initrd")).unwrap_err().to_string();
    ensure!(said.contains("the digest list has no \"initrd\""), "{said}");
    let file = served.dir.join("SUMS");
    fs::write(&file, format!("{right}  vmlinuz\n<html>Not Found</html>\n"))?;
    let said = look_up(&file.display().to_string(), "vmlinuz").unwrap_err().to_string();
    ensure!(said.contains("line 2 of the digest list"), "{said}");
    origin.put("/endless", vec![b'\n'; 9 * MIB], Manner::Streaming);
    let said = look_up(&origin.url("/endless"), "vmlinuz").unwrap_err().to_string();
    ensure!(said.contains("too long for a digest list"), "{said}");
    Ok(())
}

#[test]
fn names_that_are_none_reach_no_file() -> Result<()> {
    let served = Served::new()?;
    fs::create_dir_all(served.store().join("names"))?;
    fs::write(served.dir.join("secret"), "secret")?;
    fs::write(served.store().join("names/.hidden"), "{}")?;
    for name in [
        "../../secret",
        "..%2f..%2fsecret",
        "%2e%2e/secret",
        "a/b",
        "a%2fb",
        "a%0ab",
        "a%00b",
        ".hidden",
        ".",
        "..",
        "%2e%2e",
        "a%5cb",
        "-x",
        "%",
        "a%zz",
        "pieces/pieces",
        "",
        "../pieces",
        &"x".repeat(200),
    ] {
        let got = served.get(name)?;
        ensure!(got.status == 404 || got.status == 400, "{name}: {}", got.status);
        ensure!(!String::from_utf8_lossy(&got.body).contains("secret"), "{name}");
    }
    ensure!(fs::read_dir(served.store().join("names"))?.count() == 1, "nothing was written");
    Ok(())
}
