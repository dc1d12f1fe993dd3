//! The boot file of each kind of firmware.

use super::*;

#[test]
fn firmware_gets_its_boot_file_in_every_place_it_looks() {
    let mut lab = Lab::new(CONFIG);
    let offer = lab.send(&pxe(discover(NODE1), 7, "PXEClient:Arch:00007:UNDI:003000")).unwrap();
    assert_eq!(offer.message.siaddr(), SERVER);
    assert_eq!(offer.message.fname(), Some(&b"snponly.efi\0"[..]));
    assert_eq!(
        offer.option(OptionCode::BootfileName),
        Some(&DhcpOption::BootfileName(b"snponly.efi\0".to_vec()))
    );
    assert_eq!(
        offer.option(OptionCode::ClassIdentifier),
        Some(&DhcpOption::ClassIdentifier(b"PXEClient".to_vec()))
    );
    assert_eq!(
        offer.option(OptionCode::VendorExtensions),
        Some(&DhcpOption::VendorExtensions(vec![6, 1, 8, 255]))
    );
    let http = lab.send(&pxe(discover(NODE1), 16, "HTTPClient:Arch:00016:UNDI:003000")).unwrap();
    let url = b"http://10.1.0.2:8080/files/snponly.efi".to_vec();
    assert_eq!(http.option(OptionCode::BootfileName), Some(&DhcpOption::BootfileName(url)));
    assert_eq!(
        http.option(OptionCode::ClassIdentifier),
        Some(&DhcpOption::ClassIdentifier(b"HTTPClient".to_vec()))
    );
    assert!(http.option(OptionCode::VendorExtensions).is_none());
}

#[test]
fn ipxe_gets_its_script_in_every_spelling() {
    let mut lab = Lab::new(CONFIG);
    let script = DhcpOption::BootfileName(b"http://10.1.0.2:8080/boot.ipxe\0".to_vec());
    for (code, value) in [(77, &b"iPXE"[..]), (77, b"\x04iPXE"), (175, b"\xeb\x03\x01\x00\x00")] {
        let mut message = pxe(discover(NODE1), 7, "PXEClient:Arch:00007:UNDI:003010");
        message
            .opts_mut()
            .insert(DhcpOption::Unknown(UnknownOption::new(OptionCode::Unknown(code), value.to_vec())));
        let offer = lab.send(&message).unwrap();
        assert_eq!(offer.option(OptionCode::BootfileName), Some(&script), "{code}");
        let no_proxy = offer.option(OptionCode::Unknown(175));
        assert!(matches!(no_proxy, Some(DhcpOption::Unknown(option)) if option.data() == [176, 1, 1]));
    }
}

#[test]
fn a_firmware_without_a_loader_still_gets_its_address() {
    let mut lab = Lab::new(CONFIG);
    let offer = lab.send(&pxe(discover(NODE1), 11, "PXEClient:Arch:00011:UNDI:003000")).unwrap();
    assert_eq!(offer.message.yiaddr(), Ipv4Addr::new(10, 1, 1, 50));
    assert!(offer.option(OptionCode::BootfileName).is_none());
}

#[test]
fn bootp_clients_get_reserved_addresses_only() {
    let mut lab = Lab::new(CONFIG);
    let bootp = |mac: Mac| {
        let mut message = Message::default();
        message.set_chaddr(&mac.0);
        message
    };
    let whole = |mac: Mac| {
        let mut bytes = bootp(mac).to_vec().unwrap();
        bytes.resize(300, 0);
        bytes
    };
    let client = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68);
    let reply = lab.send_bytes(&whole(NODE1), 67, client).unwrap();
    assert!(lab.send_bytes(&whole(NODE1)[..244], 67, client).is_none(), "cut");
    assert_eq!(reply.message.yiaddr(), Ipv4Addr::new(10, 1, 1, 50));
    assert!(reply.message.opts().msg_type().is_none());
    assert!(reply.option(OptionCode::AddressLeaseTime).is_none());
    assert!(lab.send_bytes(&whole(UNKNOWN), 67, client).is_none());
}

#[test]
fn boot_file_rules_choose_by_machine_maker_and_architecture() {
    let rules = "[[boot_file]]\narch = 7\noui = \"52:54:00\"\nfile = \"special.efi\"\n[[boot_file]]\narch = [0]\nfile = \"undi.kpxe\"\n";
    let mut lab = Lab::new(&format!(
        "{rules}{}",
        CONFIG.replace("name = \"node1\"", "name = \"node1\"\nboot_file = \"own.efi\"")
    ));
    let mut file = |mac: Mac, arch: u16| {
        let offer = lab.send(&pxe(discover(mac), arch, "PXEClient:Arch:00000:UNDI:003000")).unwrap();
        String::from_utf8(offer.message.fname().unwrap().to_vec()).unwrap().trim_end_matches('\0').to_owned()
    };
    assert_eq!(file(NODE1, 7), "own.efi");
    assert_eq!(file(UNKNOWN, 7), "special.efi");
    assert_eq!(file(UNKNOWN, 0), "undi.kpxe");
    assert_eq!(file(UNKNOWN, 9), "snponly.efi");
}
