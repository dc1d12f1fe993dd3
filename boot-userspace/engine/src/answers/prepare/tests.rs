//! What prepared answers are made of.

use dhcproto::v4::{DhcpOptions, OptionCode};
use dhcproto::{Decodable as _, Decoder};

use super::*;

const SUBNET_MASK: u8 = 1;
const ROUTER: u8 = 3;
const NAME_SERVER: u8 = 6;
const DOMAIN: u8 = 15;
const BROADCAST: u8 = 28;
const LEASE: u8 = 51;
const RENEWAL: u8 = 58;
const REBINDING: u8 = 59;

fn subnet() -> Subnet {
    let config = r#"
            [[interface]]
            name = "eth1"
            [[subnet]]
            cidr = "10.1.0.0/16"
            pool = ["10.1.1.33"]
            router = "10.1.0.1"
            dns = ["10.1.1.2", "10.1.1.3"]
            domain = "mtl"
        "#;
    crate::config::parse(config, "test").unwrap().subnets.remove(0)
}

fn parts<'a>(subnet: &'a Subnet, custom: &'a [CustomOption], wanted: Option<&'a [u8]>) -> Parts<'a> {
    let server = Ipv4Addr::new(10, 1, 0, 2);
    Parts {
        class: Class::OS,
        message: message::ACK,
        subnet: Some(subnet),
        server,
        boot: None,
        custom,
        wanted,
        room: 308,
    }
}

fn codes(options: &[u8]) -> Vec<u8> {
    let mut codes = Vec::new();
    let mut rest = options;
    while let [code, tail @ ..] = rest {
        match (*code, tail) {
            (0, _) => rest = tail,
            (255, _) | (_, []) => break,
            (code, [length, tail @ ..]) => {
                codes.push(code);
                rest = &tail[usize::from(*length)..];
            }
        }
    }
    codes
}

fn body(answer: &Answer) -> &[u8] {
    &answer.body[SNAME_AND_FILE + 4..usize::from(answer.body_length)]
}

#[test]
fn the_list_chooses_and_orders_but_the_mask_comes_before_the_router() {
    let subnet = subnet();
    let all = prepare(&parts(&subnet, &[], None)).unwrap().answer;
    assert_eq!(
        codes(body(&all)),
        [53, 54, LEASE, RENEWAL, REBINDING, SUBNET_MASK, ROUTER, NAME_SERVER, DOMAIN, BROADCAST]
    );
    let some = prepare(&parts(&subnet, &[], Some(&[15, 3, 1, 99, 15]))).unwrap().answer;
    assert_eq!(codes(body(&some)), [53, 54, LEASE, RENEWAL, REBINDING, SUBNET_MASK, DOMAIN, ROUTER]);
}

#[test]
fn custom_options_override_and_come_when_wanted_or_always() {
    let subnet = subnet();
    let custom = [
        CustomOption { code: NAME_SERVER, data: vec![9, 9, 9, 9], always: false, client: None },
        CustomOption { code: 42, data: vec![1, 2, 3, 4], always: false, client: None },
        CustomOption { code: 252, data: b"x".to_vec(), always: true, client: None },
    ];
    let answer = prepare(&parts(&subnet, &custom, Some(&[NAME_SERVER]))).unwrap().answer;
    assert_eq!(codes(body(&answer)), [53, 54, LEASE, RENEWAL, REBINDING, SUBNET_MASK, NAME_SERVER, 252]);
    assert!(body(&answer).windows(6).any(|bytes| bytes == [NAME_SERVER, 4, 9, 9, 9, 9]));
}

#[test]
fn long_options_are_split_in_order() {
    let subnet = subnet();
    let data: Vec<u8> = (0..300).map(|i| u8::try_from(i % 251).unwrap()).collect();
    let custom = [CustomOption { code: 121, data: data.clone(), always: true, client: None }];
    let answer = prepare(&Parts { room: 700, ..parts(&subnet, &custom, None) }).unwrap().answer;
    let options = DhcpOptions::decode(&mut Decoder::new(body(&answer))).unwrap();
    assert!(options.get(OptionCode::ClasslessStaticRoute).is_some());
    assert_eq!(codes(body(&answer)).iter().filter(|code| **code == 121).count(), 2);
}

#[test]
fn what_does_not_fit_goes_into_file_and_sname_and_each_field_ends() {
    let subnet = subnet();
    let custom = [
        CustomOption { code: 224, data: vec![1; 100], always: true, client: None },
        CustomOption { code: 225, data: vec![2; 110], always: true, client: None },
        CustomOption { code: 226, data: vec![3; 50], always: true, client: None },
        CustomOption { code: 227, data: vec![4; 250], always: true, client: None },
    ];
    let Prepared { answer, left_out } =
        prepare(&Parts { room: 180, ..parts(&subnet, &custom, None) }).unwrap();
    assert!(body(&answer).len() < 181, "{}", body(&answer).len());
    assert_eq!(codes(body(&answer)).last(), Some(&OVERLOAD));
    assert_eq!(codes(&answer.body[64..192]), [225]);
    assert_eq!(codes(&answer.body[..64]), [226]);
    assert_eq!((answer.body[64 + 112], answer.body[52]), (255, 255));
    assert!(!codes(body(&answer)).contains(&227), "left out, not cut");
    assert_eq!(left_out, [227]);
}

#[test]
fn what_booting_needs_comes_before_what_it_does_not() {
    let subnet = subnet();
    let custom = [CustomOption { code: 224, data: vec![1; 245], always: true, client: None }];
    let boot = BootFile::Tftp { name: "undionly.kpxe".to_owned(), server: None };
    let class = Class { firmware: Firmware::Bios, stage: Stage::Rom };
    let parts = Parts { class, boot: Some(&boot), ..parts(&subnet, &custom, None) };
    let Prepared { answer, left_out } = prepare(&parts).unwrap();
    assert_eq!(left_out, [224]);
    assert_eq!(codes(body(&answer))[..9], [53, 54, LEASE, SUBNET_MASK, ROUTER, 60, 43, 67, 66]);
    assert!(codes(body(&answer)).ends_with(&[NAME_SERVER, RENEWAL, REBINDING, DOMAIN, BROADCAST]));
    let all = prepare(&Parts { room: 700, ..parts }).unwrap();
    assert!(all.left_out.is_empty() && codes(body(&all.answer)).contains(&224));
    let too_small = prepare(&Parts { room: 20, ..parts });
    assert!(too_small.is_err());
}

#[test]
fn a_raspberry_pi_is_told_so_and_where_its_files_are() {
    let subnet = subnet();
    let boot = BootFile::Tftp { name: String::new(), server: None };
    let class = Class { firmware: Firmware::RaspberryPi, stage: Stage::Rom };
    let answer = prepare(&Parts { class, boot: Some(&boot), ..parts(&subnet, &[], None) }).unwrap().answer;
    assert_eq!(answer.siaddr, [10, 1, 0, 2]);
    assert!(body(&answer).windows(17).any(|bytes| bytes == b"Raspberry Pi Boot"));
    let codes = codes(body(&answer));
    assert!(codes.contains(&66) && !codes.contains(&67) && answer.body[64] == 0);
    // Sub-options that fill option 43 to its end.
    let at = RASPBERRY_PI_BOOT;
    assert_eq!((at[0], at[3], at[4], at[25], at[26], at[31], at.len()), (6, 9, 20, 10, 4, 255, 32));
}

#[test]
fn firmware_boots_from_where_options_66_and_67_say() {
    let subnet = subnet();
    let option = |code, data: &[u8]| CustomOption { code, data: data.to_vec(), always: false, client: None };
    let custom = [option(60, b"HTTPClient"), option(66, b"10.1.0.9"), option(67, b"other.efi")];
    let boot = BootFile::Tftp { name: "other.efi".to_owned(), server: Some("10.1.0.9".to_owned()) };
    let class = Class { firmware: Firmware::EfiX64, stage: Stage::Rom };
    let answer =
        prepare(&Parts { class, boot: Some(&boot), ..parts(&subnet, &custom, None) }).unwrap().answer;
    assert_eq!(answer.siaddr, [10, 1, 0, 9]);
    assert!(answer.body.starts_with(b"10.1.0.9\0") && answer.body[64..].starts_with(b"other.efi\0"));
    let has = |option: &[u8]| body(&answer).windows(option.len()).any(|bytes| bytes == option);
    assert!(has(b"\x3c\x09PXEClient"), "the class of HTTP Boot is not for PXE");
    assert!(has(b"\x42\x0810.1.0.9") && has(b"\x43\x0aother.efi\0"));
    assert_eq!(codes(body(&answer)).iter().filter(|code| BOOT_OPTIONS.contains(code)).count(), 4);
}

#[test]
fn the_kernel_finds_the_server_identifier() {
    let subnet = subnet();
    let answer = prepare(&parts(&subnet, &[], None)).unwrap().answer;
    let at = boot_common::tables::SERVER_ID_AT;
    assert_eq!(answer.body[at..at + 4], answer.server_id);
}
