//! Files, hooks and daemons that change while transfers run.

use super::*;

#[test]
fn a_transfer_gets_the_file_as_it_was_when_another_takes_its_name() -> Result<()> {
    while_halfway(&FAST_PATHS, "a file is replaced by another", |place, _| {
        let new = place.path("new");
        fs::write(&new, vec![0xee; SIZE])?;
        Ok(fs::rename(&new, place.path("image"))?)
    })
}

#[test]
fn a_transfer_gets_the_file_as_it_was_when_it_is_overwritten() -> Result<()> {
    while_halfway(&FAST_PATHS, "a file is overwritten in place", |place, _| {
        let file = fs::OpenOptions::new().write(true).open(place.path("image"))?;
        Ok(file.write_all_at(&vec![0xee; SIZE], 0)?)
    })
}

#[test]
fn a_transfer_goes_on_after_a_kill_and_a_start() -> Result<()> {
    while_halfway(&FAST_PATHS, "the daemon is killed and started", |_, xpxe| {
        xpxe.kill9()?;
        xpxe.restart()
    })
}

#[test]
fn a_transfer_goes_on_after_a_restart() -> Result<()> {
    while_halfway(&FAST_PATHS, "the daemon is stopped and started", |_, xpxe| xpxe.restart())
}

#[test]
fn a_transfer_goes_on_when_the_hook_changes() -> Result<()> {
    for (from, to) in [("tc", "xdp"), ("xdp", "tc"), ("tc", "off"), ("xdp", "off"), ("off", "xdp")] {
        while_halfway(&[from], &format!("{from} becomes {to}"), |place, xpxe| {
            xpxe.write_config(&place.config(to)?)?;
            xpxe.restart()
        })?;
    }
    Ok(())
}

/// The daemon that sends the OACK ends before it hears the acknowledgement. A client that has the OACK repeats the
/// acknowledgement, and a client that lost it repeats the request.
#[test]
fn a_transfer_of_which_only_the_oack_was_sent_goes_on_after_a_kill_and_a_start() -> Result<()> {
    for (from, to) in [("off", "off"), ("off", "tc"), ("tc", "tc"), ("xdp", "xdp"), ("xdp", "off")] {
        let Some(place) = TftpRack::build(from)? else { return Ok(()) };
        let file = place.file("image", SIZE)?;
        let mut xpxe = place.serve()?;
        let mut downloads = Vec::new();
        for (number, padding) in (0..).zip(Padding::ALL) {
            for window in [1, 4] {
                let caller = place.caller(number * 10 + window, padding)?;
                let caller = caller.with_fault(Victim::FromClient(1), Fault::Lost);
                downloads.push((window, padding, Download::start(caller, "image", BLOCK, window)?));
            }
        }
        let mut without = place.caller(98, Padding::Mixed)?;
        let block_size = BLOCK.to_string();
        without.send(&request("image", &[("blksize", block_size.as_str())]))?;
        let lost = without.must_hear("the OACK")?;
        ensure!(matches!(lost, Packet::Oack(_)), "{lost:?} is no OACK");
        xpxe.kill9()?;
        xpxe.write_config(&place.config(to)?)?;
        xpxe.restart()?;
        for (window, padding, mut download) in downloads {
            let what = || format!("{from} becomes {to}, window {window}, {padding:?}");
            download.repeat_last()?;
            let finished = download.finish().with_context(what)?;
            same(&finished.bytes, &file).with_context(what)?;
            ensure!(finished.repeats == 0, "{}: the client's own timer ran out", what());
        }
        without.already_heard()?;
        let finished = Download::start(without, "image", BLOCK, 1).and_then(Download::finish);
        let finished = finished.with_context(|| format!("{from} becomes {to}: no answer to the request"))?;
        same(&finished.bytes, &file)?;
        xpxe.stop()?;
    }
    Ok(())
}

/// The kernel half has no part in it, so the next daemon needs the file.
#[test]
fn a_transfer_whose_file_changes_during_a_restart_ends_with_an_error_and_a_line() -> Result<()> {
    type Change = fn(&TftpRack) -> Result<()>;
    let changes: [(&str, &str, Change); 4] = [
        ("image", "the file is gone", |place| Ok(fs::remove_file(place.path("image"))?)),
        ("image", "the file has changed", |place| place.file("image", SIZE + 1).map(drop)),
        ("image", "the file has changed", |place| {
            Ok(fs::OpenOptions::new().write(true).open(place.path("image"))?.set_len(1000)?)
        }),
        ("autoexec.ipxe", "the text was written for this transfer", |_| Ok(())),
    ];
    for to in ["off", "tc"] {
        for (name, why, change) in changes {
            let Some(place) = TftpRack::build("off")? else { return Ok(()) };
            place.file("image", SIZE)?;
            let mut xpxe = place.serve()?;
            let mut caller = place.caller(1, Padding::Mixed)?;
            caller.send(&request(name, &[("blksize", "60")]))?;
            let first = caller.must_hear("the OACK")?;
            ensure!(matches!(first, Packet::Oack(_)), "{first:?}");
            caller.send(&ack(0))?;
            let mut heard = caller.must_hear("block 1")?;
            while !is_block(&heard, 1) {
                heard = caller.must_hear("block 1")?;
            }
            xpxe.kill9()?;
            change(&place)?;
            xpxe.write_config(&place.config(to)?)?;
            xpxe.restart()?;
            let what = || format!("{name}, {why}, off becomes {to}: {}", xpxe.last_lines(10));
            // A repeat of block 1 may have come before the kill.
            let text = loop {
                match caller.must_hear("an ERROR").with_context(what)? {
                    Packet::Error { code: 0, text } => break text,
                    Packet::Data { block: 1, .. } => {}
                    other => bail!("{other:?}"),
                }
            };
            ensure!(text.contains(why), "{text}");
            let own = caller.own().to_string();
            xpxe.wait_for_event("the line about it", Duration::from_secs(30), |event| {
                event.field("client") == own && event.message().contains(why)
            })?;
            let again = caller.already_heard()?;
            ensure!(again.is_empty(), "{again:?}");
            xpxe.stop()?;
        }
    }
    Ok(())
}

#[test]
fn a_transfer_in_netascii_goes_on_after_a_kill_and_a_start() -> Result<()> {
    for (from, to) in [("off", "off"), ("off", "tc"), ("tc", "tc")] {
        let Some(place) = TftpRack::build(from)? else { return Ok(()) };
        // It makes the directory, too.
        place.file("other", 1)?;
        fs::write(place.path("text"), "line\n".repeat(500))?;
        let mut xpxe = place.serve()?;
        let mut caller = place.caller(1, Padding::Mixed)?;
        caller.send(b"\0\x01text\0netascii\0blksize\x001000\0")?;
        let first = caller.must_hear("the OACK")?;
        ensure!(matches!(first, Packet::Oack(_)), "{first:?}");
        let (mut got, mut length) = (Vec::new(), 1000);
        for block in 0.. {
            if length < 1000 {
                break;
            }
            if block == 1 {
                xpxe.kill9()?;
                xpxe.write_config(&place.config(to)?)?;
                xpxe.restart()?;
            }
            caller.send(&ack(block))?;
            length = loop {
                match caller.must_hear("the next block").with_context(|| format!("{from} becomes {to}"))? {
                    Packet::Data { block: number, bytes } if number == block + 1 => {
                        got.extend(&bytes);
                        break bytes.len();
                    }
                    Packet::Error { text, .. } => bail!("{from} becomes {to}: {text}"),
                    _ => {}
                }
            };
        }
        same(&got, "line\r\n".repeat(500).as_bytes()).with_context(|| format!("{from} becomes {to}"))?;
        xpxe.stop()?;
    }
    Ok(())
}

/// Nobody pauses for it: whatever packet is under way when it happens may be the one that is affected.
#[test]
fn transfers_run_on_through_kills_restarts_and_changes_of_the_hook() -> Result<()> {
    let Some(place) = TftpRack::build("tc")? else { return Ok(()) };
    let file = place.file("image", 2_000_000)?;
    let mut xpxe = place.serve()?;
    let ended = AtomicBool::new(false);
    let fetched = AtomicU32::new(0);
    let (callers, ended, fetched) = (&place.callers, &ended, &fetched);
    let fetch = |first: u16, window: u16, padding: Padding| -> Result<()> {
        let mut number = 0;
        while !ended.load(Ordering::Relaxed) {
            let caller = Caller::open(callers, caller_address(first + number), padding)?;
            let what = || format!("transfer {number}, window {window}, {padding:?}");
            let finished = Download::start(caller, "image", BLOCK, window)
                .and_then(Download::finish)
                .with_context(what)?;
            same(&finished.bytes, &file).with_context(what)?;
            number += 1;
            fetched.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    };
    thread::scope(|scope| {
        let plans = Padding::ALL
            .into_iter()
            .flat_map(|padding| [(padding, 1), (padding, 4)])
            .zip((0..).step_by(3000));
        let running: Vec<_> = plans
            .map(|((padding, window), first)| scope.spawn(move || fetch(first, window, padding)))
            .collect();
        let happened = (|| {
            let more_end = |xpxe: &Xpxe<'_>| {
                let before = fetched.load(Ordering::Relaxed);
                let more = || fetched.load(Ordering::Relaxed) >= before + 6;
                eventually(Duration::from_secs(60), "six more transfers", more)
                    .with_context(|| xpxe.last_lines(10))
            };
            for (kill, to) in
                [(true, "tc"), (false, "xdp"), (true, "xdp"), (false, "off"), (true, "off"), (false, "tc")]
            {
                more_end(&xpxe)?;
                xpxe.write_config(&place.config(to)?)?;
                if kill {
                    xpxe.kill9()?;
                }
                xpxe.restart()?;
            }
            more_end(&xpxe)?;
            Ok::<_, anyhow::Error>(())
        })();
        ended.store(true, Ordering::Relaxed);
        for thread in running {
            thread.join().unwrap_or_else(|panic| resume_unwind(panic))?;
        }
        println!("{} transfers through six changes", fetched.load(Ordering::Relaxed));
        happened
    })?;
    xpxe.stop()
}

/// A caller in lockstep and one with windows fetch half of a file, then something happens, then they go on.
fn while_halfway(
    fast_paths: &[&'static str],
    what: &str,
    happens: impl Fn(&TftpRack, &mut Xpxe<'_>) -> Result<()> + Sync,
) -> Result<()> {
    for fast_path in fast_paths {
        let Some(place) = TftpRack::build(fast_path)? else { return Ok(()) };
        let file = place.file("image", SIZE)?;
        let mut xpxe = place.serve()?;
        let mut downloads = Vec::new();
        for (number, padding) in (0..).zip(Padding::ALL) {
            for window in [1, 4] {
                let caller = place.caller(number * 10 + window, padding)?;
                let mut download = Download::start(caller, "image", BLOCK, window)?;
                download.go_on_to(SIZE / 2)?;
                downloads.push((window, padding, download));
            }
        }
        happens(&place, &mut xpxe)?;
        let failed = thread::scope(|scope| {
            let finish =
                |download: Download| download.finish().and_then(|finished| same(&finished.bytes, &file));
            let finishing = downloads
                .into_iter()
                .map(|(window, padding, download)| (window, padding, scope.spawn(move || finish(download))));
            let failed = finishing.collect::<Vec<_>>().into_iter().filter_map(|(window, padding, thread)| {
                let error = thread.join().unwrap_or_else(|panic| resume_unwind(panic)).err()?;
                Some(format!("window {window}, {padding:?}: {error:#}"))
            });
            failed.collect::<Vec<_>>()
        });
        let lines = xpxe.last_lines(10);
        ensure!(failed.is_empty(), "fast_path = {fast_path:?}, {what}:\n{}\n{lines}", failed.join("\n"));
        // Whoever comes now gets the file as it is now.
        let now = fs::read(place.path("image"))?;
        let later = Download::start(place.caller(99, Padding::Mixed)?, "image", BLOCK, 4)?;
        same(&later.finish()?.bytes, &now).with_context(|| format!("after {what}"))?;
        xpxe.stop()?;
    }
    Ok(())
}

#[test]
fn without_the_daemon_the_kernel_goes_on_and_answers_a_late_repeat() -> Result<()> {
    for fast_path in ["tc", "xdp"] {
        let Some(place) = TftpRack::build(fast_path)? else { return Ok(()) };
        let file = place.file("image", SIZE)?;
        let xpxe = place.serve()?;
        let mut downloads = Vec::new();
        for (number, padding) in (0..).zip(Padding::ALL) {
            let mut download = Download::start(place.caller(number, padding)?, "image", BLOCK, 1)?;
            download.go_on_to(20 * usize::from(BLOCK))?;
            downloads.push((padding, download));
        }
        xpxe.kill9()?;
        for (padding, mut download) in downloads {
            let what = || format!("fast_path = {fast_path:?}, {padding:?}");
            // New blocks for new ACKs, with nobody there but the kernel.
            download.go_on_to(40 * usize::from(BLOCK)).with_context(what)?;
            let (packet, repeats) = late_repeat_is_answered(&mut download).with_context(what)?;
            println!("{}: a block came again after {repeats} repeats", what());
            download.take(packet)?;
            same(&download.finish()?.bytes, &file).with_context(what)?;
        }
    }
    Ok(())
}

/// The block that is under way is "lost"; its ACK is repeated too early, and then late enough.
fn late_repeat_is_answered(download: &mut Download) -> Result<(Packet, u32)> {
    let next = (download.blocks() + 1) as u16;
    let lost = download.caller().must_hear("the block that gets lost")?;
    ensure!(is_block(&lost, next), "{lost:?} is not block {next}");
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut asked = 0;
    while Instant::now() < deadline {
        asked += 1;
        let spoke = Instant::now();
        download.repeat_last()?;
        let answer = download.caller().hear(Duration::from_millis(210))?;
        let Some(packet) = answer else { continue };
        ensure!(is_block(&packet, next), "{packet:?} is not block {next}");
        let first = spoke.elapsed();
        // Again at once: too early.
        download.repeat_last()?;
        let early = download.caller().hear(Duration::from_millis(150))?;
        ensure!(early.is_none(), "{early:?} for a repeat {first:?} after the last one");
        return Ok((packet, asked));
    }
    bail!("block {next} did not come again")
}
