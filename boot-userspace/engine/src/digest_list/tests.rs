use super::*;

fn digest(of: &str) -> Sha256Digest {
    Sha256Digest::of(of.as_bytes())
}

#[test]
fn all_forms_are_understood() {
    let (a, b, c, d) = (digest("a"), digest("b"), digest("c"), digest("d"));
    let text = format!(
        "# comment\n\n{a}  vmlinuz\r\n{b} *dir/initrd.img\nSHA256 (fedora (x).iso) = {c}\nMD5 (vmlinuz) = 00\n\\{d}  with\\\\slash\n"
    );
    let list = DigestList::read(&text).unwrap();
    assert_eq!(list.find("/pub/x/vmlinuz"), Ok(a));
    assert_eq!(list.find("https://h/dir/initrd.img"), Ok(b));
    assert_eq!(list.find("fedora (x).iso"), Ok(c));
    assert_eq!(list.find("with\\slash"), Ok(d));
    for missing in ["xvmlinuz", "initrd.img", "vmlinuz/x", ""] {
        assert!(matches!(list.find(missing), Err(ListError::Missing(_))), "{missing}");
    }
}

#[test]
fn signed_lists_and_single_digests_are_read() {
    let a = digest("a");
    let signed = format!(
        "{SIGNED}\nHash: SHA256\n\n{a}  x\n{SIGNATURE}\n\niQIzBAEBCAAd\n-----END PGP SIGNATURE-----\n"
    );
    assert_eq!(DigestList::read(&signed).unwrap().find("x"), Ok(a));
    assert_eq!(DigestList::read(&format!("{a}\n")).unwrap().find("anything"), Ok(a));
}

#[test]
fn the_longest_name_wins_and_two_digests_are_none() {
    let (a, b) = (digest("a"), digest("b"));
    let list = DigestList::read(&format!("{a}  ./amd64/linux\n{b}  ./arm64/linux\n")).unwrap();
    assert_eq!(list.find("/d/arm64/linux"), Ok(b));
    let list = DigestList::read(&format!("{a}  linux\n{b}  arm64/linux\n{a}  linux\n")).unwrap();
    assert_eq!((list.find("/arm64/linux"), list.find("/amd64/linux")), (Ok(b), Ok(a)));
    let list = DigestList::read(&format!("{a}  linux\n{b} *linux\n")).unwrap();
    assert_eq!(list.find("linux"), Err(ListError::Several("linux".to_owned())));
}

#[test]
fn a_wrong_line_is_named_and_the_list_is_not_used() {
    let a = digest("a").to_string();
    for wrong in [
        "<html><body>Not found</body></html>".to_owned(),
        format!("{}  vmlinuz", &a[1..]),
        format!("{a} vmlinuz"),
        format!("{a}  "),
        format!("{}g  vmlinuz", &a[1..]),
        format!("SHA256 (vmlinuz) = {}", &a[1..]),
        format!("SHA257 (vmlinuz) = {a}"),
        "é".repeat(60),
        a.clone(),
    ] {
        let said = DigestList::read(&format!("{a}  x\n\n{wrong}\n")).unwrap_err();
        assert!(matches!(&said, ListError::Line { line: 3, .. }), "{wrong}: {said}");
        assert!(said.to_string().contains("line 3"), "{said}");
    }
}
