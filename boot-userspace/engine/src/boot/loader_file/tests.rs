use super::*;

#[test]
fn the_names_that_loaders_try() {
    let mac = For::Mac(Mac([0x52, 0x54, 0, 0, 0, 1]));
    let uuid = For::Uuid("4c4c4544-0042-3510-8052-b4c04f4e3132".to_owned());
    for (name, dir, whose) in [
        ("/grub/x86_64-efi/grub.cfg", "grub/x86_64-efi/", For::Asker),
        ("grub.cfg", "", For::Asker),
        ("\\EFI\\debian\\grub.cfg", "EFI/debian/", For::Asker),
        ("/grub/grub.cfg-01-52-54-00-00-00-01", "grub/", mac.clone()),
        ("/grub/grub.cfg-again-01-52:54:00:00:00:01", "grub/", mac.clone()),
        ("//grub/grub.cfg-0A4D001F", "grub/", For::Asker),
        ("grub/grub.cfg-4c4c4544-0042-3510-8052-b4c04f4e3132", "grub/", uuid.clone()),
    ] {
        let file = LoaderFile::named(name).unwrap_or_else(|| panic!("{name}"));
        assert_eq!((file.language, file.dir.as_str()), (Language::Grub, dir), "{name}");
        assert_eq!((file.whose, file.is_attempt), (whose, name.contains("again")), "{name}");
    }
    for (name, dir, whose) in [
        ("pxelinux.cfg/4c4c4544-0042-3510-8052-b4c04f4e3132", "", uuid),
        ("bios//pxelinux.cfg/01-52-54-00-00-00-01", "bios/", mac),
        ("/pxelinux.cfg/0A4D001F", "", For::Asker),
        ("pxelinux.cfg/default", "", For::Asker),
    ] {
        let file = LoaderFile::named(name).unwrap_or_else(|| panic!("{name}"));
        assert_eq!((file.language, file.dir.as_str()), (Language::Pxelinux, dir), "{name}");
        assert_eq!(file.whose, whose, "{name}");
    }
    for other in [
        "",
        "/",
        "grub.cfg-",
        "grub.cfg-01-52-54",
        "grub.cfgx",
        "grub/x86_64-efi/command.lst",
        "pxelinux.cfg/0A4D001",
        "pxelinux.cfg",
        "default",
        "pxelinux.cfg/x/default",
        "pxelinux.cfg/20-52-54-00-00-00-01",
        "pxelinux.cfg/default-arm",
    ] {
        assert_eq!(LoaderFile::named(other), None, "{other}");
    }
}

#[test]
fn what_somebody_has_written_for_all_machines_is_found() {
    let fallbacks = |name| LoaderFile::named(name).unwrap().fallbacks();
    assert_eq!(fallbacks("grub/x86_64-efi/grub.cfg"), ["grub/x86_64-efi/grub.cfg", "grub/grub.cfg"]);
    assert_eq!(fallbacks("/grub/grub.cfg-0A4D001F"), ["grub/grub.cfg", "grub.cfg"]);
    assert_eq!(fallbacks("grub.cfg"), ["grub.cfg", "grub.cfg"]);
    assert_eq!(fallbacks("x/pxelinux.cfg/0A4D001F"), ["x/pxelinux.cfg/default"]);
}
