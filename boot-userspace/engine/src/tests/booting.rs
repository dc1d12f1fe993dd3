//! What firmware, iPXE and BOOTP clients are given to boot.

use dhcproto::v4::{DhcpOption, Message, OptionCode, UnknownOption};

use super::*;

/// A Raspberry Pi that is not in the configuration.
const PI: Mac = Mac([0xb8, 0x27, 0xeb, 0, 0, 1]);

fn with_options(options: &str) -> String {
    CONFIG.replacen("domain = \"mtl\"", &format!("domain = \"mtl\"\noptions = [{options}]"), 1)
}

fn ipxe(mac: Mac) -> Message {
    let mut message = pxe(discover(mac), 7, "PXEClient:Arch:00007:UNDI:003010");
    let user_class = UnknownOption::new(OptionCode::Unknown(77), b"iPXE".to_vec());
    message.opts_mut().insert(DhcpOption::Unknown(user_class));
    message
}

impl Reply {
    /// The boot file in its field, and in option 67 without its NUL.
    fn boots(&self) -> (String, String) {
        let text =
            |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap().trim_end_matches('\0').to_owned();
        let option = match self.option(OptionCode::BootfileName) {
            Some(DhcpOption::BootfileName(name)) => text(name),
            _ => String::new(),
        };
        (text(self.message.fname().unwrap_or_default()), option)
    }

    fn class(&self) -> &[u8] {
        match self.option(OptionCode::ClassIdentifier) {
            Some(DhcpOption::ClassIdentifier(class)) => class,
            _ => &[],
        }
    }
}

#[test]
fn a_rule_is_for_its_own_codes_only() {
    let rules = "[[boot_file]]\narch = 41\nfile = \"pi\"\n[[boot_file]]\narch = [9, 24]\nfile = \"nine\"\n\
                 [[boot_file]]\narch = 99\nfile = \"unassigned\"\n";
    let mut lab = Lab::new(&format!("{rules}{CONFIG}"));
    for (arch, file) in [
        (41, "pi"),
        (9, "nine"),
        (7, "snponly.efi"),
        (2, "snponly.efi"),
        (33, "snponly.efi"),
        (99, "unassigned"),
        (1000, "unassigned"),
    ] {
        let offer = lab.send(&pxe(discover(UNKNOWN), arch, "PXEClient:Arch:00000")).unwrap();
        assert_eq!(offer.boots(), (file.to_owned(), file.to_owned()), "{arch}");
    }
    let known = lab.engine.answers.keys().count();
    lab.send(&pxe(discover(OTHER), 33, "PXEClient:Arch:00033")).unwrap();
    assert_eq!(lab.engine.answers.keys().count(), known, "from the tables since the first one");
    let offer = lab.send(&pxe(discover(UNKNOWN), 24, "HTTPClient:Arch:00024")).unwrap();
    assert_eq!(offer.boots().1, "http://10.1.0.2:8080/files/nine");
}

#[test]
fn who_boots_by_http_gets_a_url_whatever_its_architecture() {
    let mut lab = Lab::new(CONFIG);
    for arch in [16, 7, 20, 23, 42, 99, 0x1234] {
        let offer = lab.send(&pxe(discover(UNKNOWN), arch, "HTTPClient:Arch:00099:UNDI:003000")).unwrap();
        let url = "http://10.1.0.2:8080/files/snponly.efi".to_owned();
        assert_eq!((offer.boots(), offer.class()), ((url.clone(), url), &b"HTTPClient"[..]), "{arch}");
    }
}

#[test]
fn a_raspberry_pi_gets_its_menu_and_no_file_of_others() {
    let mut lab = Lab::new(CONFIG);
    for (mac, arch) in [(PI, 0), (PI, 41), (UNKNOWN, 41)] {
        let offer = lab.send(&pxe(discover(mac), arch, "PXEClient:Arch:00000:UNDI:002001")).unwrap();
        assert_eq!(offer.boots(), (String::new(), String::new()), "{mac} {arch}");
        assert_eq!((offer.message.siaddr(), offer.class()), (SERVER, &b"PXEClient"[..]));
        let Some(DhcpOption::VendorExtensions(menu)) = offer.option(OptionCode::VendorExtensions) else {
            panic!("no option 43")
        };
        assert!(menu.windows(17).any(|text| text == b"Raspberry Pi Boot"), "{menu:?}");
        assert!(matches!(offer.option(OptionCode::TFTPServerName),
            Some(DhcpOption::TFTPServerName(server)) if server == b"10.1.0.2"));
    }
    let bios = lab.send(&pxe(discover(UNKNOWN), 0, "PXEClient:Arch:00000:UNDI:002001")).unwrap();
    assert_eq!(bios.boots().0, "snponly.efi");
    let uefi = lab.send(&pxe(discover(PI), 7, "PXEClient:Arch:00007:UNDI:003000")).unwrap();
    assert_eq!(uefi.boots().0, "snponly.efi", "other firmware on it is as everywhere");

    let rule = "[[boot_file]]\narch = 0\noui = \"b8:27:eb\"\nfile = \"bootcode.bin\"\n";
    let mut lab = Lab::new(&format!("{rule}{CONFIG}"));
    let offer = lab.send(&pxe(discover(PI), 0, "PXEClient:Arch:00000:UNDI:002001")).unwrap();
    assert_eq!(offer.boots().0, "bootcode.bin");
}

#[test]
fn options_66_and_67_of_a_subnet_are_for_firmware_and_ipxe_keeps_its_script() {
    let both = "{ code = 43, hex = \"0601ff\" }, { code = 60, text = \"PXEClient:x\" }, \
                { code = 66, text = \"10.1.0.9\" }, { code = 67, text = \"other.efi\" }";
    let mut lab = Lab::new(&with_options(both));
    let rom = lab.send(&pxe(discover(UNKNOWN), 7, "PXEClient:Arch:00007:UNDI:003000")).unwrap();
    assert_eq!(rom.boots(), ("other.efi".to_owned(), "other.efi".to_owned()));
    assert_eq!(rom.message.siaddr(), Ipv4Addr::new(10, 1, 0, 9), "firmware goes there, not to option 66");
    assert_eq!(
        rom.option(OptionCode::BootfileName),
        Some(&DhcpOption::BootfileName(b"other.efi\0".to_vec()))
    );
    assert_eq!(rom.class(), b"PXEClient:x");
    let http = lab.send(&pxe(discover(UNKNOWN), 16, "HTTPClient:Arch:00016:UNDI:003000")).unwrap();
    assert_eq!(
        (http.boots().1.as_str(), http.class()),
        ("http://10.1.0.2:8080/files/snponly.efi", &b"HTTPClient"[..])
    );
    let script = lab.send(&ipxe(UNKNOWN)).unwrap();
    assert_eq!(script.boots().1, "http://10.1.0.2:8080/boot.ipxe");
    assert_eq!((script.message.siaddr(), script.class()), (SERVER, &b"PXEClient"[..]));
    assert_eq!(
        script.option(OptionCode::VendorExtensions),
        Some(&DhcpOption::VendorExtensions(vec![6, 1, 8, 255]))
    );
}

#[test]
fn an_option_67_for_ipxe_is_its_script() {
    let mut lab = Lab::new(&with_options(
        "{ code = 67, text = \"pxelinux.0\" }, { code = 67, text = \"http://10.1.0.9/own.ipxe\", client = \"ipxe\" }",
    ));
    let url = "http://10.1.0.9/own.ipxe".to_owned();
    assert_eq!(lab.send(&ipxe(UNKNOWN)).unwrap().boots(), (url.clone(), url));
    let rom = lab.send(&pxe(discover(UNKNOWN), 0, "PXEClient:Arch:00000:UNDI:002001")).unwrap();
    assert_eq!(rom.boots().0, "pxelinux.0");
}

#[test]
fn a_boot_file_goes_before_option_67_of_the_subnet_and_needs_no_loader() {
    let options = with_options("{ code = 66, text = \"10.1.0.9\" }, { code = 67, text = \"other.efi\" }");
    let rule = "[[boot_file]]\narch = 7\nfile = \"rule.efi\"\n";
    let mut lab = Lab::new(&format!("{rule}{options}"));
    let ruled = lab.send(&pxe(discover(UNKNOWN), 7, "PXEClient:Arch:00007:UNDI:003000")).unwrap();
    assert_eq!((ruled.boots().0.as_str(), ruled.message.siaddr()), ("rule.efi", SERVER));
    // There is no loader for it.
    let arm = lab.send(&pxe(discover(UNKNOWN), 11, "PXEClient:Arch:00011:UNDI:003000")).unwrap();
    assert_eq!(arm.boots().0, "other.efi");
}

#[test]
fn the_name_is_told_to_who_asks_for_it() {
    let mut lab = Lab::new(CONFIG);
    let mut asks = |codes: &[OptionCode]| {
        let mut message = discover(NODE1);
        message.opts_mut().insert(DhcpOption::ParameterRequestList(codes.to_vec()));
        lab.send(&message).unwrap().option(OptionCode::Hostname).is_some()
    };
    assert!(asks(&[OptionCode::Hostname, OptionCode::SubnetMask]));
    assert!(!asks(&[OptionCode::SubnetMask]));
}

/// The answer to a BOOTP client that sends these options; `None`: not even a cookie.
fn bootp(lab: &mut Lab, mac: Mac, options: Option<&[u8]>) -> Option<Vec<u8>> {
    let mut message = Message::default();
    message.set_chaddr(&mac.0).set_flags(Flags::default().set_broadcast());
    let mut bytes = message.to_vec().unwrap();
    bytes.resize(300, 0);
    match options {
        Some(options) => bytes[240..240 + options.len()].copy_from_slice(options),
        None => bytes[236..].fill(0),
    }
    let client = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68);
    let incoming = Incoming { ifindex: 7, port: 67, from: client, to: Ipv4Addr::BROADCAST, payload: &bytes };
    lab.engine.handle(&incoming, lab.now);
    lab.engine.take_commands().into_iter().find_map(|command| match command {
        Command::Send { frame, .. } => Some(frame),
        _ => None,
    })
}

#[test]
fn bootp_clients_get_the_boot_file_within_300_octets() {
    let mut lab = Lab::new(&with_options(
        "{ code = 224, hex = \"00112233445566778899\" }, { code = 42, ip = \"10.1.0.5\" }",
    ));
    for options in [Some(&[255][..]), None] {
        let frame = bootp(&mut lab, NODE1, options).unwrap();
        let message = payload(&frame);
        assert_eq!((message.len(), message[0]), (300, 2));
        assert_eq!((&message[16..20], &message[20..24]), (&[10, 1, 1, 50][..], &SERVER.octets()[..]));
        assert!(message[44..].starts_with(b"10.1.0.2\0") && message[108..].starts_with(b"snponly.efi\0"));
        let sum = boot_common::wire::Sum::ZERO
            .bytes(&frame[26..34])
            .word(17)
            .bytes(&frame[38..40])
            .bytes(&frame[34..]);
        assert_eq!(sum.folded(), 0xffff);
        if options.is_some() {
            let message = Message::from_bytes(message).unwrap();
            assert!(message.opts().get(OptionCode::SubnetMask).is_some());
            assert!(message.opts().get(OptionCode::Router).is_some());
            assert!(message.opts().get(OptionCode::OptionOverload).is_none());
        } else {
            assert!(message[236..].iter().all(|byte| *byte == 0), "no cookie, no options");
        }
        assert!(bootp(&mut lab, UNKNOWN, options).is_none(), "nothing is reserved for it");
    }
    let mut foreign = vec![0; 300];
    (foreign[0], foreign[1], foreign[2]) = (1, 1, 6);
    foreign[28..34].copy_from_slice(&NODE1.0);
    let client = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68);
    assert!(lab.send_bytes(&foreign, 67, client).is_some());
    foreign[236..240].copy_from_slice(b"CMU\0");
    assert!(lab.send_bytes(&foreign, 67, client).is_none(), "the cookie of somebody else");
}

#[test]
fn a_bootp_client_may_name_its_architecture_and_gets_its_address_without_a_loader() {
    let mut lab = Lab::new(CONFIG);
    let arm = bootp(&mut lab, NODE1, Some(&[93, 2, 0, 11, 255])).unwrap();
    let message = payload(&arm);
    assert_eq!((&message[16..20], message[108]), (&[10, 1, 1, 50][..], 0));
    let mut lab = Lab::new(&format!("[[boot_file]]\narch = 11\nfile = \"arm.efi\"\n{CONFIG}"));
    let arm = bootp(&mut lab, NODE1, Some(&[93, 2, 0, 11, 255])).unwrap();
    assert!(payload(&arm)[108..].starts_with(b"arm.efi\0"));
}
