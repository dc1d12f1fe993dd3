//! The facts that the option scan reads.

use std::vec::Vec;

use proptest::prelude::*;
use zerocopy::FromZeros as _;

use super::*;

/// Scans `options` as a request that is nothing but options and has left-overs behind them.
fn scan(options: &[u8]) -> OptionScan {
    let mut request = Request::new_zeroed();
    request.options.fill(option::OVERLOAD);
    request.options[..options.len()].copy_from_slice(options);
    let mut scan = OptionScan::empty();
    let start = u32::try_from(Request::OPTIONS).unwrap();
    scan.begin(start, start + u32::try_from(options.len()).unwrap());
    for _ in 0..MAX_STEPS {
        if scan.step(&request) {
            break;
        }
    }
    scan
}

fn facts(options: &[u8]) -> Result<Facts, Reason> {
    scan(options).finish().copied()
}

/// One option after the other, and END.
fn list(options: &[(u8, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (code, data) in options {
        bytes.push(*code);
        bytes.push(u8::try_from(data.len()).unwrap());
        bytes.extend_from_slice(data);
    }
    bytes.push(option::END);
    bytes
}

#[test]
fn every_option_that_matters_is_taken_down() {
    let options = list(&[
        (53, &[3]),
        (50, &[10, 0, 0, 7]),
        (54, &[10, 0, 0, 1]),
        (57, &[5, 192]),
        (60, b"PXEClient:Arch:00007"),
        (61, &[1, 2, 3]),
        (93, &[0, 7, 0, 9]),
        (97, &[0; 17]),
        (82, &[1, 1, 9]),
    ]);
    let facts = facts(&options).unwrap();
    assert_eq!((facts.message, facts.requested, facts.server_id), (3, [10, 0, 0, 7], [10, 0, 0, 1]));
    assert_eq!((facts.max_size, facts.arch, facts.has_arch, facts.vendor), (1472, 7, 1, vendor::PXE));
    let text = |span: Span| {
        let start = usize::try_from(span.offset).unwrap() - Request::OPTIONS;
        options[start..start + usize::try_from(span.length).unwrap()].to_vec()
    };
    assert_eq!(text(facts.client_id), [61, 3, 1, 2, 3]);
    assert_eq!(text(facts.guid)[..2], [97, 17]);
    assert_eq!(text(facts.relay), [82, 3, 1, 1, 9]);
}

#[test]
fn what_has_the_wrong_form_counts_as_not_sent() {
    let options =
        list(&[(53, &[1, 1]), (50, &[10, 0, 0]), (57, &[5]), (93, &[0, 7, 0]), (97, &[1; 17]), (60, b"PXE")]);
    assert_eq!(facts(&options), Ok(Facts::default()));
}

#[test]
fn the_class_is_what_the_options_say() {
    let class = |options: &[(u8, &[u8])]| facts(&list(options)).unwrap().class();
    let rom = |firmware| Class { firmware, stage: Stage::Rom };
    let ipxe = |firmware| Class { firmware, stage: Stage::Ipxe };
    assert_eq!(class(&[(53, &[1])]), Class::OS);
    assert_eq!(class(&[(93, &[0, 7])]), rom(Firmware::EfiX64));
    assert_eq!(class(&[(93, &[0, 7, 0])]), Class::OS, "not in its right form");
    assert_eq!(class(&[(60, b"udhcp 1.35.0")]), Class::OS);
    assert_eq!(class(&[(60, b"PXEClient")]), rom(Firmware::Bios));
    assert_eq!(class(&[(60, b"HTTPClient")]), rom(Firmware::HttpX64));
    assert_eq!(class(&[(60, b"PXEClient"), (93, &[0, 11])]), rom(Firmware::EfiArm64));
    assert_eq!(class(&[(60, b"PXEClient"), (93, &[1, 0])]), rom(Firmware::Other));
    assert_eq!(class(&[(60, b"PXEClient"), (93, &[0, 41])]), rom(Firmware::RaspberryPi));
    assert_eq!(class(&[(60, b"HTTPClient"), (93, &[0, 24])]), rom(Firmware::UbootHttpArm64));
    assert_eq!(class(&[(60, b"HTTPClient"), (93, &[0, 11])]), rom(Firmware::HttpArm64));
    assert_eq!(class(&[(60, b"HTTPClient"), (93, &[0, 99])]), rom(Firmware::HttpOther));
    assert_eq!(class(&[(93, &[0, 7]), (77, b"iPXE")]), ipxe(Firmware::EfiX64));
    assert_eq!(class(&[(93, &[0, 7]), (77, b"\x04iPXE")]), ipxe(Firmware::EfiX64));
    assert_eq!(class(&[(60, b"PXEClient"), (175, &[])]), ipxe(Firmware::Bios));
    assert_eq!(class(&[(60, b"PXEClient"), (77, b"iPX")]), rom(Firmware::Bios));
}

#[test]
fn a_raspberry_pi_is_no_bios() {
    let mut pi = Facts { vendor: vendor::PXE, is_raspberry_pi: 1, ..Facts::default() };
    assert_eq!(pi.class().firmware, Firmware::RaspberryPi);
    (pi.has_arch, pi.arch) = (1, 0);
    assert_eq!(pi.class().firmware, Firmware::RaspberryPi);
    pi.arch = 11;
    assert_eq!(pi.class().firmware, Firmware::EfiArm64, "with UEFI");
    (pi.vendor, pi.has_arch) = (vendor::OTHER, 0);
    assert_eq!(pi.class(), Class::OS);
}

/// The classes as boards and boot loaders send them.
#[test]
fn boot_loaders_are_firmware_and_no_operating_systems() {
    let scanned = |class: &[u8], arch: &[u8]| {
        let options: &[(u8, &[u8])] = &[(53, &[1]), (60, class), (93, arch)];
        facts(&list(&options[..if arch.is_empty() { 2 } else { 3 }])).unwrap()
    };
    for (class, arch, wanted) in [
        (&b"U-Boot.armv8"[..], &[0, 22][..], Firmware::UbootArm64),
        (b"U-Boot.armv7", &[0, 21], Firmware::UbootArm32),
        (b"U-boot.armv8", &[1, 0], Firmware::None),
        (b" U-boot.armv8.armada3700", &[], Firmware::None),
        (b"U-Boot.riscv", &[0, 27], Firmware::EfiRiscv64),
        (b"PXE UROOT", &[], Firmware::None),
        // Petitboot's DHCP client, and a SmartNIC with a class of its own.
        (b"udhcp 1.35.0", &[0, 14], Firmware::PpcOpal),
        (b"BF2Client", &[0, 11], Firmware::EfiArm64),
    ] {
        let facts = scanned(class, arch);
        let rom = Class { firmware: wanted, stage: Stage::Rom };
        assert_eq!(facts.class(), rom, "{} {arch:?}", class.escape_ascii());
        assert!(!facts.heeds_proxies(), "{}", class.escape_ascii());
    }
    // U-Boot's EFI half sends PXEClient and no more.
    let efi = scanned(b"PXEClient:Arch:00011:UNDI:003000", &[0, 11]);
    assert_eq!(efi.class(), Class { firmware: Firmware::EfiArm64, stage: Stage::Rom });
    assert!(efi.heeds_proxies());
    for class in [&b"U-Boo"[..], b"udhcp 1.35.0", b"dhcpcd-9.4.1", b"PXE"] {
        assert_eq!(scanned(class, &[]).class(), Class::OS, "{}", class.escape_ascii());
    }
}

/// The features are those of builds: codes 16 to 47, each of one octet.
#[test]
fn an_ipxe_without_http_or_a_kernel_format_is_reduced() {
    let stage = |codes: &[u8]| {
        let mut inner = std::vec![177, 5, 1, 0x1a, 0xf4, 0x10, 0, 235, 3, 1, 21, 1];
        inner.extend(codes.iter().flat_map(|code| [*code, 1, 1]));
        let options = list(&[(53, &[1]), (60, b"PXEClient"), (77, b"iPXE"), (175, &inner), (93, &[0, 0])]);
        let facts = facts(&options).unwrap();
        assert_eq!((facts.class().firmware, facts.has_arch), (Firmware::Bios, 1), "the scan goes on");
        facts.class().stage
    };
    for (codes, wanted) in [
        (&[][..], Stage::Ipxe),
        (&[33, 57, 34, 25, 24, 23, 21, 19, 17], Stage::Ipxe),
        (&[36, 19], Stage::Ipxe),
        (&[19, 24], Stage::Ipxe),
        (&[33, 24, 21], Stage::ReducedIpxe),
        (&[36, 21], Stage::ReducedIpxe),
        (&[19, 21, 33], Stage::ReducedIpxe),
    ] {
        assert_eq!(stage(codes), wanted, "{codes:?}");
    }
    let cut = facts(&list(&[(77, b"iPXE"), (175, &[21, 1, 1, 19, 9])])).unwrap();
    assert_eq!(cut.class().stage, Stage::ReducedIpxe, "what it has said whole counts");
    let relay = facts(&list(&[(82, &[19, 1, 1]), (175, &[5, 4, 1, 2, 3, 4])])).unwrap();
    assert_eq!((relay.features, relay.link_selection), (0, [0; 4]), "each option's codes are its own");
}

#[test]
fn the_host_name_is_in_the_list_or_not() {
    for (codes, wants) in [(&[1, 3, 12][..], 1), (&[12], 1), (&[1, 3, 6], 0), (&[], 0)] {
        assert_eq!(facts(&list(&[(55, codes)])).unwrap().wants_name, wants, "{codes:?}");
    }
    assert_eq!(facts(&list(&[(53, &[12])])).unwrap().wants_name, 0);
}

#[test]
fn the_scan_ends_where_the_frame_does() {
    assert_eq!(facts(&[]), Ok(Facts::default()));
    assert_eq!(facts(&[0, 0, 255, 53]), Ok(Facts::default()));
    assert_eq!(facts(&[53, 1, 1]).map(|facts| facts.message), Ok(1));
    for cut in [&[53][..], &[53, 1], &[53, 1, 1, 61, 2, 9], &[0, 61]] {
        assert_eq!(facts(cut), Err(Reason::BadOption), "{cut:?}");
    }
}

#[test]
fn what_the_kernel_cannot_put_together_has_a_reason() {
    assert_eq!(facts(&list(&[(61, &[1]), (12, b"a"), (61, &[2])])), Err(Reason::SplitOption));
    assert_eq!(facts(&list(&[(12, b"a"), (12, b"b")])), Ok(Facts::default()));
    assert_eq!(facts(&list(&[(52, &[1])])), Err(Reason::Overload));
    assert_eq!(facts(&list(&[(52, &[4])])), Ok(Facts::default()));
}

#[test]
fn a_scan_is_as_long_as_the_kernel_may_run_and_padding_is_no_step() {
    assert_eq!(facts(&[0; 1200]), Ok(Facts::default()));
    let steps = usize::try_from(MAX_STEPS).unwrap();
    let options = |number: usize| [0, 224, 0].repeat(number);
    assert_eq!(facts(&options(steps - 1)), Ok(Facts::default()));
    assert_eq!(facts(&options(steps)), Err(Reason::TooManyOptions));
    for pads in 0..70 {
        let bytes = [&std::vec![0; pads][..], &[53, 1, 1], &std::vec![0; pads], &[57, 2, 5, 192]].concat();
        let facts = facts(&bytes).unwrap();
        assert_eq!((facts.message, facts.max_size), (1, 1472), "{pads}");
    }
}

/// When the daemon shortens a long message, it keeps the options in this list only.
#[test]
fn every_option_that_is_read_is_in_the_list() {
    for code in 1..=254 {
        let scanned = |data: &[u8]| {
            let scan = scan(&list(&[(code, data)]));
            scan.seen != 0 || scan.facts != Facts::default()
        };
        let is_read =
            [&[1][..], &[0, 7], &[10, 0, 0, 1], &[0; 17], b"iPXE", b"PXEClient"].into_iter().any(scanned);
        assert_eq!(is_read || code == option::HOST_NAME, option::READ.contains(&code), "{code}");
    }
}

proptest! {
    /// Arbitrary options are read back by the plainest reading there is: the option's data, once, if it has the right
    /// length.
    #[test]
    fn a_scan_reads_what_was_written(
        options in prop::collection::btree_map(
            prop_oneof![1..=254_u8, Just(53), Just(50), Just(54), Just(57), Just(61), Just(93), Just(97)],
            prop::collection::vec(any::<u8>(), 0..24),
            0..20,
        ).prop_map(|options| options.into_iter().collect::<Vec<_>>()).prop_shuffle(),
        pads in 0..9_usize,
    ) {
        let mut bytes = std::vec![0; pads];
        bytes.extend(list(&options.iter().map(|(code, data)| (*code, &data[..])).collect::<Vec<_>>()));
        let data = |code: u8| options.iter().find(|(other, _)| *other == code).map(|(_, data)| &data[..]);
        let overload = matches!(data(52), Some([1..=3]));
        let found = facts(&bytes);
        if overload {
            prop_assert_eq!(found, Err(Reason::Overload));
            return Ok(());
        }
        let found = found.unwrap();
        let number = |code: u8| data(code).and_then(|data| <[u8; 2]>::try_from(data).ok()).map(u16::from_be_bytes);
        let four = |code: u8| data(code).and_then(|data| <[u8; 4]>::try_from(data).ok()).unwrap_or_default();
        prop_assert_eq!(found.message, match data(53) { Some([message]) => *message, _ => 0 });
        prop_assert_eq!(found.requested, four(50));
        prop_assert_eq!(found.server_id, four(54));
        prop_assert_eq!(found.max_size, number(57).unwrap_or(0));
        prop_assert_eq!(found.client_id.length, data(61).map_or(0, |data| u32::try_from(data.len()).unwrap() + 2));
        prop_assert_eq!(found.relay.length, data(82).map_or(0, |data| u32::try_from(data.len()).unwrap() + 2));
        prop_assert_eq!(found.has_arch, u8::from(data(93).is_some_and(|data| !data.is_empty() && data.len() % 2 == 0)));
    }

    /// Any bytes end in facts whose spans lie inside the frame, or in a reason.
    #[test]
    fn a_scan_stays_inside(options in prop::collection::vec(any::<u8>(), 0..300)) {
        let end = u32::try_from(Request::OPTIONS + options.len()).unwrap();
        if let Ok(facts) = facts(&options) {
            for span in [facts.client_id, facts.guid, facts.relay] {
                prop_assert!(span.offset + span.length <= end, "{:?}", span);
            }
        }
    }
}
