use super::*;

#[test]
fn an_offer_is_read_with_options_in_both_fields() {
    let asker = Asker { mac: Mac([2; 6]), relay: None, server: None, wait: Duration::ZERO };
    let mut message = discover(Kind::UefiX64, &asker, 7);
    message.truncate(240);
    message[0] = 2;
    message[16..20].copy_from_slice(&[10, 0, 0, 9]);
    message[44..44 + 8].copy_from_slice(b"\x42\x05\x68\x6f\x73\x74\x31\xff");
    message[108..108 + 9].copy_from_slice(b"\x43\x07boot.ef");
    message[117] = 255;
    message.extend([53, 1, 2, 52, 1, 3, 54, 4, 10, 0, 0, 1, 67, 1, b'x', 255]);
    let mut frame = frame(&asker, &message);
    frame[34..36].copy_from_slice(&67_u16.to_be_bytes());
    frame[36..38].copy_from_slice(&68_u16.to_be_bytes());
    let read = |frame: &[u8]| read(frame, &[(7, Kind::UefiX64)], Instant::now());
    let offer = read(&frame).unwrap();
    assert_eq!((offer.address, offer.server), (Ipv4Addr::new(10, 0, 0, 9), Ipv4Addr::new(10, 0, 0, 1)));
    assert_eq!((offer.server_name.as_str(), offer.boot_file.as_str()), ("host1", "xboot.ef"));
    for length in 0..frame.len() {
        read(&frame[..length]);
    }
    frame[14 + 20 + 8 + 4..][..4].copy_from_slice(&[0, 0, 0, 8]);
    assert_eq!(read(&frame), None, "of another transaction");
}

#[test]
fn one_server_hides_no_other_behind_its_offers() {
    let offer = |kind, server: u32, station: u32| Offer {
        kind,
        server: server.into(),
        station: Mac([2, 0, 0, 0, (station >> 8) as u8, station as u8]),
        address: Ipv4Addr::new(10, 0, 0, 9),
        next_server: server.into(),
        server_name: String::new(),
        boot_file: "a".to_owned(),
        class: String::new(),
        has_mask: true,
        after: Duration::ZERO,
    };
    let kept = |heard: &Heard, kind: Kind| heard.offers.iter().filter(|offer| offer.kind == kind).count();
    let mut heard = Heard::default();
    (1..=3000).for_each(|server| heard.add(offer(Kind::Bios, server, 1)));
    Kind::ALL.into_iter().for_each(|kind| heard.add(offer(kind, 5000, 2)));
    heard.add(offer(Kind::Bios, 5000, 2));
    assert_eq!((kept(&heard, Kind::Bios), kept(&heard, Kind::Ipxe)), (MOST_OF_STATION + 1, 1));
    let more = [(Some(Mac([2, 0, 0, 0, 0, 1])), 3000 - MOST_OF_STATION as u64)];
    assert_eq!(heard.more, BTreeMap::from(more));
    // Stations are invented, too.
    (1..=3000).for_each(|number| heard.add(offer(Kind::Bios, 10_000 + number, number)));
    heard.add(offer(Kind::UefiX64, 6000, 3));
    assert_eq!((kept(&heard, Kind::Bios), kept(&heard, Kind::UefiX64)), (MOST_OF_KIND, 2));
    assert_eq!(heard.more.len(), MOST_STATIONS + 1);
    let sent = 3000 + 1 + 3000;
    assert_eq!(heard.more.values().sum::<u64>(), sent - MOST_OF_KIND as u64);
}

#[test]
fn a_discover_is_a_frame_that_servers_take() {
    let asker = Asker { mac: Mac([2, 0, 0, 0, 0, 1]), relay: None, server: None, wait: Duration::ZERO };
    for kind in Kind::ALL {
        let frame = frame(&asker, &discover(kind, &asker, 1));
        assert_eq!(sum(&frame[14..34]), 0xffff, "{kind:?}");
        let mut options = Vec::new();
        add_options(&frame[14 + 28 + 240..], &mut options);
        let arch = options.iter().find(|(code, _)| *code == 93).unwrap();
        assert_eq!(arch.1, kind.arch().to_be_bytes(), "{kind:?}");
        assert_eq!(options.iter().any(|(code, _)| *code == 175), kind == Kind::Ipxe);
    }
}
