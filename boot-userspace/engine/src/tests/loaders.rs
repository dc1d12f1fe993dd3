//! Boot loaders that are no PXE clients, and iPXE that lacks something.

use boot_common::class::{Class, Stage};
use dhcproto::v4::{DhcpOption, Message, OptionCode, UnknownOption};

use super::*;

/// Features as builds name them, version 1 each.
const FULL: &[u8] = &[33, 57, 34, 25, 24, 23, 21, 19, 17];
const WITHOUT_HTTP: &[u8] = &[33, 24, 21];

fn boots(reply: &Reply) -> String {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap().trim_end_matches('\0').to_owned();
    let file = text(reply.message.fname().unwrap_or_default());
    if let Some(DhcpOption::BootfileName(name)) = reply.option(OptionCode::BootfileName) {
        assert_eq!(text(name), file, "option 67");
    }
    file
}

fn class(mut message: Message, class: &str, arch: Option<u16>) -> Message {
    if let Some(arch) = arch {
        return pxe(message, arch, class);
    }
    message.opts_mut().insert(DhcpOption::ClassIdentifier(class.as_bytes().to_vec()));
    message
}

#[test]
fn a_boot_loaders_own_class_gets_the_servers_address_and_the_file_that_is_configured() {
    let loaders = [
        ("U-Boot.armv8", Some(22), "boot.scr.uimg"),
        ("U-Boot.armv7", Some(21), "boot.scr.uimg"),
        ("U-boot.armv7", Some(256), "any"),
        ("PXE UROOT", None, "any"),
        // Petitboot's DHCP client.
        ("udhcp 1.35.0", Some(14), "any"),
    ];
    let mut lab = Lab::new(CONFIG);
    for (name, arch, _) in loaders {
        let offer = lab.send(&class(discover(UNKNOWN), name, arch)).unwrap();
        assert_eq!((offer.message.siaddr(), boots(&offer)), (SERVER, String::new()), "{name}");
        assert!(matches!(offer.option(OptionCode::TFTPServerName),
            Some(DhcpOption::TFTPServerName(server)) if server == b"10.1.0.2"));
        let address = offer.message.yiaddr();
        let ack = lab.send(&class(request(UNKNOWN, address, Some(SERVER)), name, arch)).unwrap();
        assert_eq!((ack.kind(), ack.message.siaddr()), (MessageType::Ack, SERVER), "{name}");
    }
    let rules = "[[boot_file]]\narch = [21, 22]\nfile = \"boot.scr.uimg\"\n[[boot_file]]\nfile = \"any\"\n";
    let mut lab = Lab::new(&format!("{rules}{CONFIG}"));
    for (name, arch, file) in loaders {
        let offer = lab.send(&class(discover(UNKNOWN), name, arch)).unwrap();
        assert_eq!((offer.message.siaddr(), boots(&offer)), (SERVER, file.to_owned()), "{name}");
    }
    let machine = CONFIG.replacen("[[machine]]", "[[machine]]\nboot_file = \"its.own\"", 1);
    let mut lab = Lab::new(&machine);
    let offer = lab.send(&class(discover(NODE1), "U-Boot.armv8", Some(22))).unwrap();
    assert_eq!(boots(&offer), "its.own");
}

/// U-Boot would take a proxy's offer, which has no address, for the one that it waits for.
#[test]
fn a_proxy_offers_nothing_to_who_is_no_pxe_client() {
    let mut lab = Lab::with_leases(CONFIG, &[], DhcpRole::Proxy);
    for (name, arch) in [("U-Boot.armv8", Some(22)), ("PXE UROOT", None), ("udhcp 1.35.0", Some(14))] {
        assert!(lab.send(&class(discover(UNKNOWN), name, arch)).is_none(), "{name}");
    }
    assert!(lab.send(&class(discover(UNKNOWN), "PXEClient", Some(11))).is_none(), "there is no loader");
    assert!(lab.send(&class(discover(UNKNOWN), "PXEClient", Some(7))).is_some());
}

/// With the same transaction number each time, as iPXE has without a source of random numbers.
fn ipxe(message: Message, arch: u16, features: &[u8]) -> Message {
    let mut message = pxe(message, arch, "PXEClient:Arch:00000:UNDI:002001");
    let encapsulated = features.iter().flat_map(|code| [*code, 1, 1]).collect();
    for (code, data) in [(77, b"iPXE".to_vec()), (175, encapsulated)] {
        message.opts_mut().insert(DhcpOption::Unknown(UnknownOption::new(OptionCode::Unknown(code), data)));
    }
    message
}

/// A whole round: what the offer and the ACK name.
fn round(lab: &mut Lab, arch: u16, features: &[u8]) -> [String; 2] {
    let offer = lab.send(&ipxe(discover(UNKNOWN), arch, features)).unwrap();
    let no_proxy = offer.option(OptionCode::Unknown(175));
    assert!(matches!(no_proxy, Some(DhcpOption::Unknown(option)) if option.data() == [176, 1, 1]));
    let asks = request(UNKNOWN, offer.message.yiaddr(), Some(SERVER));
    let ack = lab.send(&ipxe(asks, arch, features)).unwrap();
    assert_eq!(offer.message.siaddr(), ack.message.siaddr());
    [boots(&offer), boots(&ack)]
}

const LOADER: &str = "snponly.efi";
const SCRIPT: &str = "http://10.1.0.2:8080/boot.ipxe";

#[test]
fn a_reduced_ipxe_gets_the_full_one_and_that_gets_its_script() {
    let mut lab = Lab::new(CONFIG);
    for features in [WITHOUT_HTTP, &[19, 21], &[36, 21]] {
        // A machine that is powered on again and again is in no loop.
        for _ in 0..4 {
            assert_eq!(round(&mut lab, 0, features), [LOADER; 2], "{features:?}");
            assert_eq!(round(&mut lab, 0, FULL), [SCRIPT; 2], "{features:?}");
        }
    }
    assert_eq!(round(&mut lab, 7, &[36, 19, 21]), [SCRIPT; 2], "EFI is a kernel format");
    assert_eq!(round(&mut lab, 0, &[]), [SCRIPT; 2], "one that names no features");
    let is_reduced = |key: &boot_common::tables::AnswerKey| {
        Class::from_key(key.class).is_some_and(|class| class.stage == Stage::ReducedIpxe)
    };
    assert!(!lab.engine.answers.keys().any(is_reduced), "the kernel half leaves them to the daemon");
}

#[test]
fn what_is_sent_as_full_and_is_reduced_does_not_loop() {
    let mut lab = Lab::new(CONFIG);
    for number in 1..3 {
        assert_eq!(round(&mut lab, 0, WITHOUT_HTTP), [LOADER; 2], "{number}");
        lab.later(5);
    }
    assert_eq!(round(&mut lab, 0, WITHOUT_HTTP), [SCRIPT; 2]);
    assert_eq!(round(&mut lab, 0, WITHOUT_HTTP), [SCRIPT; 2]);
    lab.later(300);
    assert_eq!(round(&mut lab, 0, WITHOUT_HTTP), [LOADER; 2], "powered on anew");
}

#[test]
fn a_reduced_ipxe_without_a_loader_has_its_address_and_a_proxy_has_its_loader() {
    let mut lab = Lab::new(CONFIG);
    let offer = lab.send(&ipxe(discover(UNKNOWN), 11, WITHOUT_HTTP)).unwrap();
    assert_eq!((boots(&offer), offer.message.yiaddr().is_unspecified()), (String::new(), false));
    let mut lab = Lab::with_leases(CONFIG, &[], DhcpRole::Proxy);
    let offer = lab.send(&ipxe(discover(UNKNOWN), 0, WITHOUT_HTTP)).unwrap();
    assert_eq!((boots(&offer), offer.message.siaddr()), (LOADER.to_owned(), SERVER));
}
