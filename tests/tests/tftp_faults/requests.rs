//! Requests that are wrong, repeated or meant for others.

use super::*;

#[test]
fn bad_requests_get_the_right_error_or_nothing() -> Result<()> {
    served_each_way("sub/image", 3000, |place, _, xpxe| {
        std::os::unix::fs::symlink("/etc/hostname", place.path("link"))?;
        std::os::unix::fs::symlink("/etc", place.path("etc"))?;
        let octet = |name: &str| request(name, &[("tsize", "0")]);
        let write = [b"\0\x02".as_slice(), &octet("sub/image")[2..]].concat();
        let cases: Vec<(&str, Vec<u8>, Option<u16>)> = vec![
            ("a missing file", octet("missing"), Some(1)),
            ("the directory above", octet("../etc/hostname"), Some(2)),
            ("a way out and in again", octet("sub/../../boot/sub/image"), Some(2)),
            ("backslashes", octet("..\\..\\etc\\hostname"), Some(2)),
            ("a link out", octet("link"), Some(2)),
            ("a linked directory", octet("etc/hostname"), Some(2)),
            ("a directory", octet("sub"), Some(2)),
            ("the root", octet("/"), Some(2)),
            ("an empty name", octet(""), Some(1)),
            ("no NUL behind the name", b"\0\x01sub/image".to_vec(), Some(4)),
            ("no NUL behind the mode", b"\0\x01sub/image\0octet".to_vec(), Some(4)),
            ("an unknown mode", b"\0\x01sub/image\0mail\0".to_vec(), Some(4)),
            ("writing", write, Some(2)),
            ("opcode 0", b"\0\0\0\0".to_vec(), Some(4)),
            ("opcode 3", b"\0\x03\0\x01data".to_vec(), Some(4)),
            ("opcode 6", b"\0\x06blksize\x00512\0".to_vec(), Some(4)),
            ("opcode 7", b"\0\x07\0\0".to_vec(), Some(4)),
            ("opcode 0x0104", b"\x01\x04\0\x01".to_vec(), Some(4)),
            ("an ERROR", error(0, "no"), None),
            ("an ERROR of code 5", error(5, "Unknown transfer ID"), None),
            ("an ACK", ack(1), None),
            ("an ACK that is cut", b"\0\x04\0".to_vec(), None),
            ("an opcode that is cut", b"\0".to_vec(), None),
            ("nothing", Vec::new(), None),
        ];
        for (number, (what, packet, answer)) in (0..).zip(cases) {
            for (offset, padding) in [(0, Padding::None), (1000, Padding::Full)] {
                let mut caller = place.caller(number + offset, padding)?;
                let mut honest = place.caller(number + offset + 2000, padding)?;
                let what = format!("{padding:?}, {what}");
                caller.send(&packet)?;
                // Behind it, so what it causes is there before this one's answer.
                honest.send(&octet("sub/image"))?;
                let heard = honest.must_hear(&what)?;
                ensure!(
                    heard == Packet::Oack(vec![("tsize".to_owned(), "3000".to_owned())]),
                    "{what}: {heard:?}"
                );
                honest.send(&error(8, "that was all"))?;
                let heard = caller.already_heard()?;
                let right = match (&heard[..], answer) {
                    ([], None) => true,
                    ([Packet::Error { code, .. }], Some(expected)) => *code == expected,
                    _ => false,
                };
                ensure!(right, "{what}: {heard:?} instead of {answer:?}\n{}", xpxe.last_lines(5));
            }
        }
        Ok(())
    })
}

#[test]
fn requests_to_nobody_or_everybody_are_not_answered() -> Result<()> {
    served_each_way("image", 3000, |place, _, _| {
        let wanted = request("image", &[("tsize", "0")]);
        let mut caller = place.caller(1, Padding::None)?;
        for to in ["10.77.0.255", "10.77.0.0", "255.255.255.255", "224.0.0.1", "10.77.0.2"] {
            caller.send_to(&wanted, BROADCAST, to.parse()?)?;
        }
        let from_port_0 = std::net::SocketAddrV4::new(*caller.own().ip(), 0);
        let mut nobody = Caller::open(&place.callers, from_port_0, Padding::None)?;
        nobody.send(&wanted)?;
        let mut honest = place.caller(2, Padding::None)?;
        honest.send(&wanted)?;
        honest.must_hear("an honest request")?;
        for caller in [&mut caller, &mut nobody] {
            let heard = caller.already_heard()?;
            ensure!(heard.is_empty(), "{}: {heard:?}", caller.own());
        }
        Ok(())
    })
}

#[test]
fn options_are_granted_as_asked_or_less_or_not_at_all() -> Result<()> {
    served_each_way("image", 5000, |place, file, _| {
        let cases: [(Options, Options); 9] = [
            (
                &[("tsize", "0"), ("blksize", "1468"), ("windowsize", "4")],
                &[("tsize", "5000"), ("blksize", "1468"), ("windowsize", "4")],
            ),
            (&[("blksize", "1432"), ("tsize", "0")], &[("blksize", "1432"), ("tsize", "5000")]),
            (&[("BlkSize", "65464")], &[("BlkSize", "1468")]),
            (&[("windowsize", "65535")], &[("windowsize", "16")]),
            (&[("timeout", "255"), ("multicast", "")], &[("timeout", "255")]),
            (&[("blksize", "8")], &[("blksize", "8")]),
            (&[("blksize", "7")], &[]),
            (&[("timeout", "0"), ("windowsize", "0")], &[]),
            (&[("timeout", "256"), ("blksize", "65465"), ("windowsize", "65536")], &[]),
        ];
        for (number, (asked, granted)) in (0..).zip(cases) {
            let what = format!("{asked:?}");
            let mut caller = place.caller(number, Padding::Mixed)?;
            caller.send(&request("image", asked))?;
            let heard = caller.must_hear(&what)?;
            let expected = if granted.is_empty() {
                Packet::Data { block: 1, bytes: file[..512].to_vec() }
            } else {
                let pairs = granted.iter().map(|(name, value)| (String::from(*name), String::from(*value)));
                Packet::Oack(pairs.collect())
            };
            ensure!(heard == expected, "{what}: {heard:?} instead of {expected:?}");
            caller.send(&error(8, "that was all"))?;
        }
        Ok(())
    })
}

#[test]
fn a_size_probe_is_forgotten_and_the_real_request_is_served() -> Result<()> {
    served_each_way("image", SIZE, |place, file, _| {
        for (number, padding) in (0..).zip(Padding::ALL) {
            let what = format!("{padding:?}");
            let mut probe = place.caller(number, padding)?;
            probe.send(&request("image", &[("tsize", "0"), ("blksize", "1468"), ("windowsize", "4")]))?;
            probe.must_hear(&what)?;
            probe.send(&error(8, "User aborted the transfer"))?;
            let download = Download::start(place.caller(number + 1, padding)?, "image", BLOCK, 4)?;
            same(&download.finish()?.bytes, file).with_context(|| what.clone())?;
            // An OACK that nobody acknowledged would have been repeated by now; and an ACK of it releases nothing.
            let repeated = probe.already_heard()?;
            ensure!(repeated.is_empty(), "{what}: the probe goes on: {repeated:?}");
            probe.send(&ack(0))?;
            let heard = probe.drain(Duration::from_millis(100))?;
            ensure!(heard.is_empty(), "{what}: the probe was not forgotten: {heard:?}");
        }
        Ok(())
    })
}

#[test]
fn the_same_request_again_starts_no_second_stream() -> Result<()> {
    served_each_way("image", SIZE, |place, file, _| {
        for (number, padding) in (0..).zip(Padding::ALL) {
            let mut download = Download::start(place.caller(number, padding)?, "image", BLOCK, 1)?;
            for half in [1, 30, 60] {
                download.go_on_to(half * usize::from(BLOCK))?;
                let again = request("image", &[("blksize", "1468")]);
                for _ in 0..3 {
                    download.caller().send(&again)?;
                }
            }
            let finished = download.finish()?;
            same(&finished.bytes, file)?;
            let most = clean_packets(SIZE, BLOCK, 1) + 9 + 10;
            let what = format!("{padding:?}: {} packets", finished.packets);
            ensure!(finished.packets <= most, "{what}, and {most} would be many");
        }
        Ok(())
    })
}

#[test]
fn another_file_from_the_same_port_is_another_transfer() -> Result<()> {
    served_each_way("first", SIZE, |place, first, _| {
        let second = place.file("second", SIZE)?;
        let mut download = Download::start(place.caller(1, Padding::Mixed)?, "first", BLOCK, 1)?;
        download.go_on_to(SIZE / 2)?;
        same(download.bytes(), &first[..download.bytes().len()])?;
        // As a machine that was reset; what is still under way of the first one is of no use to it.
        let download = Download::start(place.caller(1, Padding::Mixed)?, "second", BLOCK, 1)?;
        same(&download.finish()?.bytes, &second)
    })
}

#[test]
fn a_hundred_dead_clients_slow_no_living_one() -> Result<()> {
    served_each_way("image", SIZE, |place, file, _| {
        let dead = |number: u16| -> Result<Caller> {
            let mut caller = place.caller(number, Padding::None)?;
            caller.send(&request("image", &[("blksize", "1468"), ("windowsize", "4")]))?;
            Ok(caller)
        };
        let mut dead: Vec<Caller> = (100..200).map(dead).collect::<Result<_>>()?;
        for (number, caller) in dead.iter_mut().enumerate() {
            let heard = caller.must_hear("the OACK")?;
            ensure!(matches!(heard, Packet::Oack(_)), "{heard:?}");
            // Every other one dies with a window under way.
            if number % 2 == 0 {
                caller.send(&ack(0))?;
            }
        }
        for (number, padding) in (0..).zip(Padding::ALL) {
            let finished = Download::start(place.caller(number, padding)?, "image", BLOCK, 1)?.finish()?;
            same(&finished.bytes, file)?;
            let most = clean_packets(SIZE, BLOCK, 1) + 10;
            let what = format!("{padding:?}: {} packets, {} repeats", finished.packets, finished.repeats);
            ensure!(finished.repeats == 0 && finished.packets <= most, "{what}");
        }
        Ok(())
    })
}
