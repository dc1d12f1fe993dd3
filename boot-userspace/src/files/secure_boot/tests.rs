//! Signatures made here, and what is said of them.

use std::fs;
use std::path::Path;

use openssl::asn1::Asn1Time;
use openssl::bn::BigNum;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::pkcs7::{Pkcs7, Pkcs7Flags};
use openssl::pkey::{PKey, Private};
use openssl::stack::Stack;
use openssl::x509::{X509, X509Builder, X509Name};
use proptest::prelude::*;

use super::super::inspect::tests::efi;
use super::super::open_trusted;
use super::*;

type Key = (X509, PKey<Private>);

/// A certificate of this name, and organization, by itself or by another.
fn key(name: &str, organization: &str, by: Option<&Key>) -> Key {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    let own = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
    let mut names = X509Name::builder().unwrap();
    names.append_entry_by_nid(Nid::COMMONNAME, name).unwrap();
    names.append_entry_by_nid(Nid::ORGANIZATIONNAME, organization).unwrap();
    let names = names.build();
    let mut builder = X509Builder::new().unwrap();
    builder.set_version(2).unwrap();
    builder.set_serial_number(&BigNum::from_u32(7).unwrap().to_asn1_integer().unwrap()).unwrap();
    builder.set_subject_name(&names).unwrap();
    builder.set_issuer_name(by.map_or(&names, |(by, _)| by.subject_name())).unwrap();
    builder.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
    builder.set_not_after(&Asn1Time::days_from_now(30).unwrap()).unwrap();
    builder.set_pubkey(&own).unwrap();
    builder.sign(by.map_or(&own, |(_, key)| key), MessageDigest::sha256()).unwrap();
    (builder.build(), own)
}

fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap().to_be_bytes();
    [&[tag, 0x82], &length[..], content].concat()
}

/// The image with a signature behind it. OpenSSL's messages have no digest of Microsoft's form as content, so that is put into
/// one that has no content: who reads it does not prove the names in it.
fn signed(image: &[u8], by: &Key) -> Vec<u8> {
    let directories = 0x98 + 108;
    let mut image = image.to_vec();
    let mut put = |at: usize, number: usize| {
        let number = u32::try_from(number).unwrap().to_le_bytes();
        image[directories + at..][..4].copy_from_slice(&number);
    };
    put(0, 16);
    let mut hasher = openssl::hash::Hasher::new(MessageDigest::sha256()).unwrap();
    for part in [&image[..0x98 + 64], &image[0x98 + 68..directories + 36], &image[directories + 44..]] {
        hasher.update(part).unwrap();
    }
    let digest = element(0x04, &hasher.finish().unwrap());
    let info = element(0x30, &[element(0x30, &[]), digest].concat());
    let indirect = element(0x30, &[element(0x30, &[]), info].concat());
    let spc = [0x06, 0x0a, 0x2b, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x02, 0x01, 0x04];
    let content = element(0x30, &[&spc[..], &element(0xa0, &indirect)].concat());

    let (certificate, key) = by;
    let flags = Pkcs7Flags::DETACHED | Pkcs7Flags::BINARY;
    let message =
        Pkcs7::sign(certificate, key, &Stack::new().unwrap(), b"", flags).unwrap().to_der().unwrap();
    // ContentInfo's OID, then SignedData: version, algorithms, the empty content that is replaced, the rest.
    let body = &message[4..];
    let (oid, data) = body.split_at(11);
    let data = &data[8..];
    let before = 3 + 2 + usize::from(data[4]);
    let empty = 2 + usize::from(data[before + 1]);
    let data = [&data[..before], &content, &data[before + empty..]].concat();
    let message = element(0x30, &[oid, &element(0xa0, &element(0x30, &data))].concat());

    let length = image.len();
    let entry = 8 + message.len();
    let mut put = |at: usize, number: usize| {
        let number = u32::try_from(number).unwrap().to_le_bytes();
        image[directories + at..][..4].copy_from_slice(&number);
    };
    put(36, length);
    put(40, entry);
    image.extend(u32::try_from(entry).unwrap().to_le_bytes());
    image.extend([0, 2, 2, 0]);
    image.extend(message);
    image
}

/// An image whose one section has this name and content.
fn with_section(name: &[u8; 8], content: &[u8]) -> Vec<u8> {
    let mut image = efi(0x8664, 0x20b, 10);
    image[0x98 + 240..][..8].copy_from_slice(name);
    image[512..][..content.len()].copy_from_slice(content);
    image
}

fn program(dir: &Path, image: &[u8]) -> Option<Program> {
    let path = dir.join("program.efi");
    fs::write(&path, image).unwrap();
    Program::read(&open_trusted(path).unwrap()).unwrap()
}

/// A shim whose section has a name that is too long for its table, behind the image's content.
fn shim(own: &X509) -> Vec<u8> {
    let der = own.to_der().unwrap();
    let length = u32::try_from(der.len()).unwrap();
    let table = [&length.to_le_bytes()[..], &[0; 4], &16u32.to_le_bytes(), &[0; 4], &der].concat();
    assert!(table.len() <= 512, "{}", table.len());
    let mut image = with_section(b"/4\0\0\0\0\0\0", &table);
    image[0x80 + 12..][..4].copy_from_slice(&1024u32.to_le_bytes());
    image.extend(b"\x10\0\0\0.vendor_cert\0\0\0\0");
    // The content ends where the names do.
    image[0x98 + 240 + 16..][..4].copy_from_slice(&(512u32 + 21).to_le_bytes());
    image
}

#[test]
fn who_has_signed_a_program_decides_where_it_boots() {
    let dir = tempfile::tempdir().unwrap();
    let says = |image: &[u8], shims: &[Shim<'_>]| {
        let Judgement { says, is_bad } = program(dir.path(), image).unwrap().judge("x.efi", shims);
        (says, is_bad)
    };
    let fine = |says: &str| (says.to_owned(), false);
    let microsoft = key("Microsoft Corporation UEFI CA 2011", "Microsoft Corporation", None);
    let publisher = key("Driver Publisher", "Microsoft Corporation", Some(&microsoft));
    let distribution = key("Distribution CA", "D", None);
    let signer = key("Distribution Signer", "D", Some(&distribution));
    let pretender = key("Microsoft UEFI CA 2023", "somebody else", None);

    let plain = efi(0x8664, 0x20b, 10);
    let modern = with_section(b".sbat\0\0\0", b"sbat,1,SBAT Version\ngrub,4,FSF\ngrub.d,1,D\nno number,x\n");
    assert_eq!(says(&plain, &[]), fine("not signed, so it does not boot with Secure Boot on"));
    assert_eq!(program(dir.path(), b"#!ipxe\n").map(|_| ()), None);
    let by_publisher = "signed by \"Driver Publisher\" of \"Microsoft Corporation UEFI CA 2011\"";
    assert_eq!(
        says(&signed(&plain, &publisher), &[]),
        fine(&format!("{by_publisher}: it boots with Secure Boot on"))
    );
    let (said, _) = says(&signed(&modern, &pretender), &[]);
    assert!(
        said.starts_with("signed by \"Microsoft UEFI CA 2023\": it boots with Secure Boot on only where"),
        "{said}"
    );

    let shim_file = signed(&shim(&distribution.0), &publisher);
    let shim_program = program(dir.path(), &shim_file).unwrap();
    assert_eq!(
        shim_program.judge("x.efi", &[]).says,
        format!(
            "{by_publisher}: it boots with Secure Boot on, and loads what \"Distribution CA\" has signed"
        )
    );
    assert_eq!(shim_program.second_stage(), Some("grubx64.efi"));
    let shims = [shim_program.as_shim("shimx64.efi").unwrap()];
    let by_signer = "signed by \"Distribution Signer\" of \"Distribution CA\"";
    assert_eq!(
        says(&signed(&modern, &signer), &shims),
        fine(&format!(
            "{by_signer}: it boots with Secure Boot on behind shimx64.efi (SBAT grub 4, grub.d 1)"
        ))
    );
    let (said, is_bad) = says(&signed(&plain, &signer), &shims);
    assert!(is_bad && said.contains("whom shimx64.efi trusts, but it has no SBAT"), "{said}");
    let mut kernel = signed(&plain, &signer);
    kernel[0x202..0x206].copy_from_slice(b"HdrS");
    let (said, is_bad) = says(&kernel, &shims);
    assert!(is_bad && said.contains("changed since, so it does not boot with Secure Boot on"), "{said}");
    let mut kernel = plain.clone();
    kernel[0x202..0x206].copy_from_slice(b"HdrS");
    let kernel = signed(&kernel, &signer);
    assert_eq!(
        says(&kernel, &shims),
        fine(&format!("{by_signer}: it boots with Secure Boot on behind shimx64.efi"))
    );

    // The same name, and another key.
    let namesake = key("Distribution CA", "D", None);
    let forged = key("Distribution Signer", "D", Some(&namesake));
    let (said, _) = says(&signed(&modern, &forged), &shims);
    assert!(said.contains("only where that key is enrolled, in the firmware or for shim"), "{said}");
    let (said, _) = says(&signed(&plain, &forged), &shims);
    assert!(said.contains("and behind no shim"), "{said}");
}

#[test]
fn names_of_signers_are_one_line() {
    let odd = key("a\nwarning: \"b\"", "O", None);
    assert_eq!(signer(&odd.0), "\"a_warning: _b_\"");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]

    /// Whatever the bytes, there is an answer.
    #[test]
    fn any_bytes_are_judged(edits in proptest::collection::vec((0..1400usize, any::<u8>()), 1..40)) {
        let dir = tempfile::tempdir().unwrap();
        let mut image = signed(&efi(0x8664, 0x20b, 10), &key("A", "B", None));
        for (at, byte) in edits {
            if let Some(place) = image.get_mut(at) {
                *place = byte;
            }
        }
        if let Some(program) = program(dir.path(), &image) {
            prop_assert!(!program.judge("x.efi", &[]).says.contains('\n'));
        }
    }
}
