use super::*;

#[test]
fn a_refusal_is_shown_with_its_reason_and_one_for_others_is_no_failure() {
    let outcome = |status, body: &str| {
        let (mut steps, length) = (Vec::new(), Some(body.len() as u64));
        let answer = Answer { status, length, body: body.as_bytes().to_vec() };
        let stop = answered("http://h/f", answer, &mut steps).err();
        (stop, steps.remove(0).is_good)
    };
    assert_eq!(outcome(200, "x"), (None, Some(true)));
    let at = |says: &str| Some(Stop::At(format!("stops at a file: http://h/f answers {says}")));
    assert_eq!(outcome(404, "\nno\u{1b} such file\nx"), (at("404: no\\u{1b} such file"), Some(false)));
    assert_eq!(outcome(403, "<html>\nForbidden\n"), (at("403"), Some(false)));
    assert_eq!(outcome(403, "Forbidden\n"), (at("403: Forbidden"), Some(false)));
    let of_another = NoScript::OfAnother { machine: "a".to_owned(), address: Ipv4Addr::LOCALHOST };
    let (stop, is_good) = outcome(403, &format!("{of_another}\n"));
    assert!(matches!(stop, Some(Stop::Unseen(says)) if says.contains("to the machine itself only")));
    assert_eq!(is_good, None);
}

#[test]
fn ipxe_is_known_by_the_names_of_its_builds() {
    for file in ["snponly.efi", "x/ipxe-x86_64.efi", "tftp://10.0.0.1/undionly.kpxe", "IPXE.EFI", "/ipxe.pxe"]
    {
        assert!(is_ipxe(file), "{file}");
    }
    for file in ["grubx64.efi", "http://h/ipxe/boot.ipxe", "http://h/ipxe?mac=1", "pxelinux.0", "", "x.ipxe"]
    {
        assert!(!is_ipxe(file), "{file}");
    }
}
